"""What an audit saves: shapes where each is compiled, truths that are the same, processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from operator import methodcaller
from os import _exit
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework
from lossaudit.adapters.environments import Environment
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.modules import from_path
from lossaudit.adapters.registry import BRIEF_DTYPES, FRAMEWORKS, audited, subjects
from lossaudit.adapters.subject import PLAIN, Subject
from lossaudit.conformance import engine
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES, Cell
from lossaudit.conformance.engine import (
    Auditor,
    Settings,
    Task,
    _Processes,
    plan,
    run_tasks,
    workers_of,
)
from lossaudit.conformance.engine import audit as audit_subjects
from lossaudit.conformance.law import cells
from lossaudit.conformance.laws.registry import LAWS, law
from lossaudit.conformance.regions import ROWS, Plan, make_case, regions_for, unsuited
from lossaudit.conformance.resumable import Audit, Question
from lossaudit.conformance.run import Convention, Finding, Incident
from lossaudit.reference.bounds import bounds, demanded
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import Truth, read, target_truth, truth
from lossaudit.reference.vocabulary import Arithmetic, Case, Options, Semantics

BY_NAME = {s.name: s for s in subjects(depth="deep")}
JAX = BY_NAME["jax:softmax_cross_entropy_with_integer_labels[eager,cpu]"]


# --- truths ---------------------------------------------------------------------------------------


def drawn(subject: Subject) -> Iterator[Case]:
    """A small case of each region of a subject, without options and with all of them."""
    for region in regions_for(subject.operation):
        ignored = not region.ignored or subject.semantics.ignore_index is not None
        if unsuited(region, subject) or region.vocabulary or region.rows == 0 or not ignored:
            continue
        for options in {(), tuple(sorted(subject.options))}:
            asked = subject.operation, subject.target, "float32", 8, 3, options, "none", 0
            yield make_case(Plan(region, *asked, ignored=subject.semantics.ignore_index))


def answer(case: Case, semantics: Semantics, *, by_target: bool = False) -> list[object]:
    """All that a truth holds, or the reason why there is none."""
    with np.errstate(all="ignore"):
        try:
            found = target_truth(case, semantics) if by_target else truth(case, semantics)
        except ValueError as error:
            return [str(error)]
    return [part for name in [f.name for f in fields(Truth)] for part in parts(found, name)]


def parts(found: Truth, name: str) -> Iterator[list[object]]:
    value = getattr(found, name)
    if callable(value):  # what would compute a digit more
        return
    arrays = (value.hi, value.lo, value.exponent) if hasattr(value, "hi") else (value,)
    for array in arrays:
        yield [repr(x) for x in np.asarray(array).reshape(-1).tolist()]


@pytest.mark.parametrize("target", ["index", "distribution", "binary"])
def test_a_truth_depends_on_no_convention_that_is_not_read(target: str):
    """Of every kind of subject that there is, under its own conventions."""
    kinds = {(s.operation, s.semantics): s for s in BY_NAME.values() if s.target == target}
    shorter = 0
    for subject in kinds.values():
        for case in drawn(subject):
            meant = read(case, subject.semantics)
            shorter += meant != subject.semantics
            assert answer(case, meant) == answer(case, subject.semantics)
            assert answer(case, meant, by_target=True) == answer(
                case, subject.semantics, by_target=True
            )
    assert shorter > len(kinds)


def reach(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> list[object]:
    """All bounds of a case, or the reason why there are none."""
    with np.errstate(all="ignore"):
        try:
            found = bounds(case, semantics, arithmetic)
        except ValueError as error:
            return [str(error)]
    held = [(found, name) for name in ("loss", "gradient")]
    held += [(found.sizes, f.name) for f in fields(found.sizes)]
    return [repr(np.asarray(getattr(part, name)).tolist()) for part, name in held]


@pytest.mark.parametrize("target", ["index", "distribution", "binary"])
def test_the_bounds_of_rows_depend_on_no_other_convention_either(target: str):
    kinds = {
        (s.operation, s.semantics, s.arithmetic["float32"].form): s
        for s in BY_NAME.values()
        if s.target == target and "float32" in s.arithmetic
    }
    for subject in kinds.values():
        arithmetic = subject.arithmetic["float32"]
        for case in drawn(subject):
            meant = read(case, subject.semantics)
            for asked in (arithmetic, demanded(arithmetic)):
                assert reach(case, meant, asked) == reach(case, subject.semantics, asked)


def test_conventions_that_are_read_are_kept():
    z, label = np.array([[1.0, np.inf, 0.0]]), np.array([-1])
    case = Case("cross_entropy", "float32", z, label, Options(label_smoothing=0.5))
    said = Semantics(plus_inf="limit", ignore_index=-1, smoothing="eps/(K-1)", mean="valid")
    assert read(case, said) == replace(said, mean="rows")
    named = replace(case, options=Options(ignore_index=-1))
    assert read(named, said) == Semantics(plus_inf="limit")


# --- shapes ---------------------------------------------------------------------------------------


def shapes(subject: Subject, name: str, depth: str, dtype: str = "float32") -> set[tuple[int, int]]:
    """The (rows, classes) of the corpus of a cell."""
    held = InProcess({}), subject.semantics, lambda *_: None, Memory()
    cell = Cell(Bench(subject, dtype, *held), law(name), PROFILES[depth], 0, lambda _: None)
    return {(p.rows, p.classes) for p in cell._corpus()}


def test_the_depth_says_in_how_many_shapes_an_op_is_asked_that_compiles_each():
    assert shapes(JAX, "value", "quick") == {(ROWS, 3)}
    wide = {(ROWS, 1), (ROWS, 2), (ROWS, 3), (1, 3), (4, 1000)}
    assert wide < shapes(JAX, "value", "standard")
    assert (ROWS, 10) not in shapes(JAX, "value", "standard")
    assert (ROWS, 10) in shapes(JAX, "value", "deep")
    narrow = shapes(JAX, "value", "standard", "float16")
    assert {(ROWS, 2), (ROWS, 3), (4, 1000), (11, 2052), (2, 128256)} == narrow
    mapped = BY_NAME["jax:softmax_cross_entropy_with_integer_labels[vmap,cpu]"]
    assert shapes(mapped, "value", "standard") == {(ROWS, 3)}
    torch = BY_NAME["torch:cross_entropy.index[eager,cpu]"]
    assert {(ROWS, 3), (ROWS, 10), (1, 3)} < shapes(torch, "value", "standard")
    compiled = BY_NAME["jax:softmax_cross_entropy_with_integer_labels[jit,cpu]"]
    assert shapes(compiled, "value", "standard") == {compiled.shape}


def test_rows_alone_are_asked_where_that_is_what_is_looked_at():
    assert shapes(JAX, "row-alone", "quick") == set()
    assert shapes(JAX, "row-alone", "standard") == {(ROWS, 3)}
    assert shapes(JAX, "row-alone", "standard", "bfloat16") == set()


def test_a_finding_of_an_op_that_compiles_each_shape_is_confirmed_among_its_copies():
    """The smallest input is one row all the same, and an entry of it is replayed as such."""
    asked: list[tuple[int, ...]] = []
    z = np.array([[0.5, -1.0, 0.25]])

    def wrong(case: Case) -> tuple[np.ndarray, np.ndarray]:
        asked.append(case.inputs.shape)
        found = truth(case, JAX.semantics)
        return found.loss.hi * 2.0**found.loss.exponent + 1.0, np.zeros_like(case.inputs)

    events: list[Any] = []
    subject = replace(JAX, dtypes=("float32",), options=frozenset())
    session = InProcess({JAX.name: wrong})
    audit_subjects([subject], Settings("quick", 0, ("value",)), events.append, session)
    found = [e for e in events if isinstance(e, Finding) and e.law == "value"]
    assert found
    assert all(len(f.case.inputs) == 1 and len(f.value) == 1 for f in found)
    in_laws = [shape for shape in asked if len(shape) == 2 and shape[1] == z.shape[1]]
    assert {shape[0] for shape in in_laws} <= {ROWS, 2}  # two rows: of the probe's reductions


@pytest.mark.parametrize(
    ("depth", "laws", "all_shapes"),
    [("quick", ("value",), False), ("deep", ("value",), True), ("quick", ("conventions",), True)],
)
def test_the_probe_of_an_op_that_compiles_each_shape_asks_in_few(
    depth: str, laws: tuple[str, ...], all_shapes: bool
):
    """A mapped op has the calls of the plain one; where nothing else is asked, all are made."""
    for mode in ("eager", "vmap"):
        asked: set[tuple[int, ...]] = set()
        subject = replace(BY_NAME[JAX.name.replace("eager", mode)], dtypes=("float32",))

        def right(case: Case, asked: set[tuple[int, ...]] = asked) -> tuple[np.ndarray, ...]:
            asked.add(case.inputs.shape)
            if case.inputs.ndim > 2 or (case.target >= case.inputs.shape[1]).any():
                raise ValueError("not here")
            found = truth(case, JAX.semantics)
            return round_exact(found.loss, FORMATS["float32"]), np.zeros_like(case.inputs)

        said: list[Any] = []
        session = InProcess({subject.name: right})
        Auditor(session, [subject], Settings(depth, 0, laws), said.append).probe(subject)
        measured = {c.field: c for c in said if isinstance(c, Convention)}
        declared = measured["default_reduction"].evidence.startswith("declared only: every shape")
        assert declared == (mode == "vmap" and not all_shapes)
        assert ((1, 3) in asked) == all_shapes
        assert ((ROWS, 3) in asked) != all_shapes


# --- who is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FRAMEWORKS))
def test_a_quick_audit_asks_ops_as_they_are_called_in_few_formats(name: str):
    quick, standard = (audited(FRAMEWORKS[name], depth) for depth in ("quick", "standard"))
    assert {s.mode for s in quick} <= set(PLAIN)
    plain = {s.name for s in standard if s.mode in PLAIN}
    assert {s.name for s in quick} == plain
    assert all(set(s.dtypes) <= set(BRIEF_DTYPES) for s in quick)
    assert all("float32" in s.dtypes for s in quick)
    every = {s.name: s.dtypes for s in standard}
    assert all(set(s.dtypes) <= set(every[s.name]) for s in quick)


def test_what_a_user_declares_is_asked_in_all_formats():
    own = replace(FRAMEWORKS["torch"], subjects=tuple(
        replace(s, tensors="torch") for s in FRAMEWORKS["torch"].subjects if not s.compiled
    ))  # fmt: skip
    assert audited(own, "quick") == own.subjects
    assert len(list(cells(LAWS, own.subjects, own.subjects))) > 0


# --- processes ------------------------------------------------------------------------------------


def test_a_process_does_one_task_after_the_other(monkeypatch: pytest.MonkeyPatch):
    said: list[Any] = []
    tasks = [Task(f"{i}", methodcaller("__call__", i), said.append) for i in range(1, 6)]
    processes, started = _Processes(tasks, 2), []
    begin = processes._context.Process

    def counted(*arguments: Any, **keywords: Any) -> Any:
        started.append(begin(*arguments, **keywords))
        return started[-1]

    monkeypatch.setattr(processes._context, "Process", counted)
    processes.run()
    assert sorted(said) == [1, 2, 3, 4, 5]
    assert len(started) == 2
    assert [process.exitcode for process in started] == [0, 0]


def test_a_task_whose_process_ends_is_said_and_the_others_are_done():
    said: list[Any] = []
    tasks = [Task(f"{i}", methodcaller("__call__", i), said.append, turn=i) for i in (3, 1, 2)]
    dying: Any = _exit  # given an Emit for a status, it raises
    tasks.append(Task("dying", dying, said.append, turn=0))
    run_tasks(tasks, 2)
    lost = [event for event in said if isinstance(event, Incident)]
    assert [incident.subject for incident in lost] == ["dying"]
    assert "ended with 1" in lost[0].message
    assert sorted(event for event in said if isinstance(event, int)) == [1, 2, 3]


ASKED = """
import os
from pathlib import Path

import lossaudit
import numpy as np


@lossaudit.subject(
    operation="binary_cross_entropy_with_logits", framework="numpy", dtypes=["float32"]
)
def nothing(z, y):
    with Path(__file__).with_suffix(".txt").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return np.zeros_like(z), np.zeros_like(z)
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[str]]]:
    """Audits functions of these names; says which processes were asked, in their order."""
    monkeypatch.setattr(FRAMEWORKS, "_added", dict(FRAMEWORKS._added))

    def audited_functions(*names: str, jobs: int) -> dict[str, list[str]]:
        for name in names:
            (tmp_path / f"{name}.py").write_text(ASKED)
            FRAMEWORKS.add(from_path(tmp_path / f"{name}.py", [sys.executable]))
        question = Question(names, (Environment(),), Settings("quick", laws=("value",)), jobs)
        audit = Audit(question, None, lambda _: None)
        audit.audit()
        audit.close(done=True)
        assert audit.run(complete=True).peers
        said = {name: (tmp_path / f"{name}.txt").read_text().split() for name in names}
        processes = {name: list(dict.fromkeys(each)) for name, each in said.items()}
        for process in (int(each) for found in processes.values() for each in found):
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)
        return processes

    return audited_functions


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_workers_of_a_part_are_asked_the_inputs_of_findings_too(jobs: int, asked):
    names = ("here", "there")[:jobs]
    assert {name: len(found) for name, found in asked(*names, jobs=jobs).items()} == dict.fromkeys(
        names, 1
    )


def test_workers_are_not_kept_beside_those_of_another_framework(asked):
    assert [len(found) for found in asked("here", "there", jobs=1).values()] == [2, 2]


def test_workers_that_have_compiled_are(asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "compiles_shapes", lambda _: True)
    assert [len(found) for found in asked("here", "there", jobs=1).values()] == [1, 1]


def test_a_pool_that_has_refused_a_framework_is_not_kept():
    part = next(p for p in plan(["torch"], "quick")[0])

    def refusing() -> bool:
        with workers_of(part, Settings("quick"), keep=True) as pool:
            refused = pool.refused
            pool._refusals["torch"] = UnusableFramework("torch", "the import took too long")
        return refused

    assert [refusing(), refusing()] == [False, False]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_follows_is_done_when_all_else_is(jobs: int):
    said: list[Any] = []

    def then() -> list[Task]:
        assert sorted(said) == [1, 2, 3]
        return [Task(f"{i}", methodcaller("__call__", i), said.append) for i in (4, 5)]

    first = [Task(f"{i}", methodcaller("__call__", i), said.append) for i in (1, 2, 3)]
    run_tasks(first, jobs, then)
    assert sorted(said) == [1, 2, 3, 4, 5]
    said.clear()
    run_tasks([], jobs, lambda: first)
    assert sorted(said) == [1, 2, 3]


def test_what_follows_is_done_elsewhere_where_its_process_has_ended():
    said: list[Any] = []
    dying: Any = _exit
    part = Task("part", dying, said.append, home="numpy")
    after = Task("after", methodcaller("__call__", 1), said.append, home="numpy")
    run_tasks([part], 2, lambda: [after])
    assert said[1:] == [1]


def test_a_process_that_dies_while_it_waits_takes_no_task_with_it():
    said: list[Any] = []
    processes: _Processes

    def then() -> list[Task]:
        for helper in processes._helpers.values():
            helper.process.kill()
            helper.process.join()
        return [Task("after", methodcaller("__call__", 2), said.append)]

    processes = _Processes([Task("one", methodcaller("__call__", 1), said.append)], 2, then)
    processes.run()
    assert said == [1, 2]


def test_a_law_that_goes_by_places_is_asked_the_row_itself():
    """A known input of another subject has an ignored label that this one does not ignore."""
    subject = BY_NAME["keras-jax:SparseCategoricalCrossentropy.masked[eager,cpu]"]
    case = Case(subject.operation, "float32", np.zeros((1, 3)), np.array([-100]))

    def asked(name: str) -> int:
        held = InProcess({}), subject.semantics, lambda *_: None, Memory()
        bench = Bench(subject, "float32", *held)
        cell = Cell(bench, law(name), PROFILES["standard"], 0, lambda _: None)
        return cell._asked_alone(case).rows

    assert asked("ignored-rows") == 1
    assert asked("value") == ROWS
