"""What laws of several statements, and of several calls, tell: each small, each of its own call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES, Cell
from lossaudit.conformance.engine import CONVENTIONS
from lossaudit.conformance.law import NOT_JUDGED
from lossaudit.conformance.laws.linear import REDUCTIONS
from lossaudit.conformance.laws.registry import law
from lossaudit.conformance.run import Finding, Tally
from lossaudit.reference.vocabulary import Case

OP = "cross_entropy.index"


@pytest.mark.parametrize(
    ("name", "mutant", "rows"),
    [
        ("reductions-match-rows", "doubled_mean", 1),
        ("lead-and-log-classes", "above_its_lead", 1),
        ("row-alone", "last_row_twice", 2),
        ("ignored-label-has-no-name", "knowing_two_names", 1),
    ],
)
def test_each_statement_of_a_law_is_shrunk(audited, mutants, name, mutant, rows):
    found = audited(OP, name, **{OP: mutants[mutant]}).findings
    assert found
    assert {len(f.case.inputs) for f in found if f.output == "loss"} == {rows}
    assert all(len(f.case.inputs) <= 3 for f in found)


def test_a_row_counts_once_whatever_is_said_of_it(audited):
    tallies = {
        (e.law, e.output): e.rows
        for e in audited(OP, "memory-layout").events + audited(OP, "lead-and-log-classes").events
        if isinstance(e, Tally) and e.region == "ordinary" and e.law != CONVENTIONS.name
    }
    # The corpus of one class count, and the one case that a search of this effort adds at most.
    assert set(tallies.values()) <= {64, 128}
    assert {name for name, _ in tallies} == {"memory-layout", "lead-and-log-classes"}


def test_a_sum_that_overflows_is_left_to_the_law_of_the_value(mutants, torch_subjects):
    subject = replace(torch_subjects[OP], dtypes=("float16",))
    function = mutants["right"](subject)
    session = InProcess(function)
    bench = Bench(subject, "float16", session, subject.semantics, lambda *_: None, Memory())
    case = Case("cross_entropy", "float16", np.array([[1100.0, 0, 0]] * 64), np.ones(64, np.int64))
    whole = [v for v in REDUCTIONS.check(bench, case) if v.whole]
    assert [float(v.value[0, 0]) for v in whole] == [np.inf, 1100.0]
    assert [v.grade[0] == NOT_JUDGED for v in whole] == [True, False]


def test_nothing_is_drawn_as_ignored_where_nothing_is(mutants, torch_subjects):
    declared = torch_subjects[OP]
    subject = replace(declared, options=declared.options - {"ignore_index"})
    measured = replace(subject.semantics, ignore_index=None)
    held = InProcess(mutants["right"](subject)), measured, lambda *_: None, Memory()
    cell = Cell(Bench(subject, "float32", *held), law("value"), PROFILES["quick"], 0, print)
    assert "all-ignored" not in {region.name for region in cell.regions()}


def test_a_call_that_raises_is_told_as_the_one_that_was_made(audited, mutants):
    found = audited(OP, "ignored-label-has-no-name", **{OP: mutants["refusing_another_name"]})
    (finding,) = found.findings
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.case.ignore_index) == ("policy", -2)
    assert "ignore_index=-2" in finding.snippet


def test_a_mode_that_alone_takes_an_empty_batch_is_told(mutants, torch_subjects):
    """JAX 0.4.30 raises for a batch without rows in eager mode, and returns nothing under vmap."""
    eager = torch_subjects[OP]
    vmap = replace(eager, mode="vmap")
    right = mutants["right"](eager)

    def refusing(case):
        if not case.rows:
            raise TypeError("slice size out of range")
        return right(case)

    session = InProcess({eager.name: refusing, vmap.name: right})
    others = {"eager": eager, "vmap": vmap}
    bench = Bench(vmap, "float32", session, vmap.semantics, lambda _, mode: others[mode], Memory())
    empty = Case("cross_entropy", "float32", np.zeros((0, 3)), np.zeros(0, np.int64))
    (verdict,) = law("modes-agree").check(bench, empty)
    assert verdict.told == (
        "returned no rows in mode vmap",
        "raised TypeError: slice size out of range eager",
    )
