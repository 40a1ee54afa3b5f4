"""What ops do where they are called as they are not meant."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import PLAIN, Subject
from lossaudit.conformance.misuse import matrix
from lossaudit.conformance.misuse.matrix import MISTAKES, Cell, cells
from lossaudit.conformance.plainly import ask_each
from lossaudit.conformance.run import Absence
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import Case, Floats, Outcome
from lossaudit.reports.misuse_matrix import matrix_markdown, print_matrix, state


def right(subject: Subject):
    """A correctly rounded op that takes an index and a one-hot target alike, and any numbers."""

    def call(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = reduce_truth(truth(case, subject.semantics), case, subject.semantics)
        fmt = FORMATS[case.dtype]
        return round_exact(loss, fmt), round_exact(gradient, fmt)

    return call


def plain(framework: str) -> list[Subject]:
    return [s for s in subjects([framework], "quick") if s.mode in PLAIN and not s.misuse]


@pytest.fixture(scope="module")
def by_the_reference() -> list[Cell]:
    with np.errstate(all="ignore"):
        found = []
        for framework in ("torch", "keras"):
            some = plain(framework)
            found += cells(InProcess({s.name: right(s) for s in some}), some)
    return found


def of(found: list[Cell], misuse: str, op: str) -> Cell:
    (cell,) = [c for c in found if (c.misuse, c.subject.op) == (misuse, op)]
    return cell


def test_every_misuse_is_tried_on_some_op(by_the_reference: list[Cell]):
    assert {cell.misuse for cell in by_the_reference} == {mistake.name for mistake in MISTAKES}


def test_a_second_log_softmax_is_harmless_and_nothing_else_of_the_same_targets_is(
    by_the_reference: list[Cell],
):
    for cell in by_the_reference:
        harmless = cell.misuse.startswith(("log_softmax", "one-hot", "index"))
        if cell.behaviour == "silent" and cell.harmless is not None:
            assert cell.harmless is harmless, (cell.misuse, cell.subject.name, cell.off)


def test_the_error_is_that_of_the_losses_that_were_meant(by_the_reference: list[Cell]):
    cell = of(by_the_reference, "sum for mean", "cross_entropy.index")
    # Eight means are the sum, each of the two rounded to float32.
    assert cell.came == pytest.approx(matrix.SIZE * cell.right, rel=2**-23)
    wrong = of(by_the_reference, "softmax before an op for logits", "cross_entropy.index")
    p = np.exp(matrix.Z) / np.exp(matrix.Z).sum(axis=1, keepdims=True)
    due = np.log(np.exp(p).sum(axis=1)) - p[np.arange(matrix.SIZE), matrix.Y]
    # p and the loss are rounded to float32, and a loss moves with its p by at most twice that.
    assert wrong.came == pytest.approx(due.mean(), abs=2**-24 * (2 + due.max()))


def test_what_raises_or_warns_is_said():
    def raises(_: Case) -> tuple[Floats, Floats]:
        raise ValueError("labels must be\nintegers")

    some = [s for s in plain("torch") if s.op == "cross_entropy.index"]
    found = list(cells(InProcess(raises), some))
    assert {cell.behaviour for cell in found} == {"raises"}
    assert found[0].said == "raised: ValueError: labels must be integers"
    assert not any(cell.harmless for cell in found)


def test_a_crash_is_not_said_to_raise_and_what_has_no_bound_is_not_called_wrong():
    some = [s for s in plain("torch") if s.op == "cross_entropy.index"]

    class Dies:
        def ask(self, subject: Subject, case: Case) -> Outcome:
            return Outcome("crashed", message=f"SIGSEGV in {subject.op} of {case.rows} rows")

        def versions(self, framework: str) -> dict[str, str]:
            return {framework: ""}

    found = list(cells(Dies(), some))
    assert {state(cell) for cell in found} == {"LOST"}
    (op,) = some
    bare = replace(op, arithmetic={})
    found = list(cells(InProcess(right(op)), [bare]))
    assert {state(c) for c in found if c.misuse.startswith("log_softmax")} == {"no bound"}
    assert {state(c) for c in found if c.misuse == "sum for mean"} == {"SILENT"}


def test_nan_is_never_harmless():
    some = [s for s in plain("torch") if s.op == "cross_entropy.index"]
    nothing = InProcess(lambda case: (np.full(case.rows, np.nan), np.zeros_like(case.inputs)))
    found = [c for c in cells(nothing, some) if c.misuse != "sum for mean"]
    assert all(not cell.harmless and cell.off == np.inf for cell in found)


def test_it_is_printed_and_written(by_the_reference: list[Cell]):
    absent = Absence(framework="jax", reason="no module", hint="pip install jax")
    out = io.StringIO()
    print_matrix(by_the_reference, [absent], Console(file=out, width=80))
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= 80
    assert "log_softmax before an op for logits (" in said
    assert "not asked: jax: no module" in said
    page = matrix_markdown(by_the_reference, [absent])
    assert (
        "| misuse | SILENT | harmless |" in page
        or "| misuse | SILENT | raises | harmless |" in page
    )
    assert "Not asked: jax, no module." in page


@pytest.mark.frameworks
def test_real_ops_broadcast_an_index_silently_or_raise():
    """As many rows as classes: tensorflow takes the labels for a distribution of each row."""
    for framework in ("torch", "tensorflow"):
        if reason := availability(FRAMEWORKS[framework]):
            pytest.skip(reason)
    found: list[Cell] = []
    begun: list[str] = []
    ask_each(["torch", "tensorflow"], cells, begun.append, found.append)
    assert begun == ["torch", "tensorflow"]
    mixed = "index for a one-hot target"
    assert of(found, mixed, "cross_entropy.probabilities").harmless
    broadcast = of(found, mixed, "softmax_cross_entropy_with_logits")
    assert broadcast.behaviour == "silent"
    z = matrix.Z - np.log(np.exp(matrix.Z).sum(axis=1, keepdims=True))
    due = -(matrix.Y * z).sum(axis=1).mean()
    # Eight products with labels of at most 7 and their sum, in float32.
    assert broadcast.came == pytest.approx(due, rel=2**-24 * 2 * matrix.SIZE * matrix.SIZE)
    assert of(found, "logit into an op for a probability", "binary_cross_entropy").said
