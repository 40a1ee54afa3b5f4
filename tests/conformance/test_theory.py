"""Identities of information theory: right ops keep them, and each mistake breaks one."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import PLAIN, Subject
from lossaudit.conformance.run import Absence
from lossaudit.conformance.theory.asking import Claim
from lossaudit.conformance.theory.identities import IDENTITIES
from lossaudit.conformance.theory.measure import Answer, answers
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import Case, Floats
from lossaudit.reports.theory import counted, print_theory, theory_markdown

Function = Callable[[Case], tuple[Floats, Floats]]
OPS = (
    "cross_entropy.index",
    "cross_entropy.probabilities",
    "kl_div",
    "binary_cross_entropy_with_logits",
)


def right(subject: Subject, **other: str) -> Function:
    """A correctly rounded implementation, under the subject's Semantics or others."""
    semantics = replace(subject.semantics, **other)

    def call(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = reduce_truth(truth(case, semantics), case, semantics)
        fmt = FORMATS[case.dtype]
        return round_exact(loss, fmt), round_exact(gradient, fmt)

    return call


def torch_ops(*dtypes: str) -> list[Subject]:
    """Some, in their own formats or these."""
    some = [s for s in subjects(["torch"], "quick") if s.op in OPS and s.mode in PLAIN]
    return [replace(s, dtypes=dtypes or s.dtypes) for s in some]


def heard(functions: dict[str, Function], some: Sequence[Subject] = ()) -> list[Answer]:
    return list(answers(InProcess(functions), some or torch_ops()))


def failed(found: list[Answer]) -> set[str]:
    return {answer.identity.name for answer in found if not answer.holds}


def test_right_ops_keep_every_identity_in_every_format():
    every = [s for s in subjects(["keras"], "quick") if s.mode in PLAIN]
    keras = [s for s in every if s.op.startswith(("BinaryC", "CategoricalCrossentropy.p", "KL"))]
    found = heard({s.op: right(s) for s in torch_ops()}) + heard(
        {s.op: right(s) for s in keras}, keras
    )
    assert not failed(found)
    assert {answer.identity.name for answer in found if answer.claims} == {
        identity.name for identity in IDENTITIES
    }
    silent = {(a.identity.name, a.dtype, a.reason) for a in found if not a.claims}
    wide = "rounding in this format may hide any mistake"
    assert silent <= {("Gibbs", "bfloat16", wide), ("perplexity", "bfloat16", wide)}
    assert {answer.dtype for answer in found} == {"float64", "float32", "bfloat16", "float16"}


def losses(change: Callable[[Case, Floats], Floats]) -> Callable[[Subject], Function]:
    def of(subject: Subject) -> Function:
        def call(case: Case) -> tuple[Floats, Floats]:
            loss, gradient = right(subject)(case)
            return change(case, loss), gradient

        return call

    return of


def slopes(change: Callable[[Case, Floats], Floats]) -> Callable[[Subject], Function]:
    def of(subject: Subject) -> Function:
        def call(case: Case) -> tuple[Floats, Floats]:
            loss, gradient = right(subject)(case)
            return loss, change(case, gradient)

        return call

    return of


def _smoothed_more(case: Case, loss: Floats) -> Floats:
    return loss * (1.0 + case.options.label_smoothing / 8)


def _counting_padding(case: Case, loss: Floats) -> Floats:
    if case.options.ignore_index is None:
        return loss
    return loss * np.mean(np.asarray(case.target) != case.options.ignore_index)


MISTAKES: dict[str, tuple[str, Callable[[Subject], Function], set[str]]] = {
    "bits for nats": (
        "cross_entropy.probabilities",
        losses(lambda _, loss: loss / np.log(2)),
        {"decomposition", "entropy", "bits"},
    ),
    "a divergence without its entropy": (
        "kl_div",
        losses(lambda case, loss: loss + (case.target * np.log(case.target)).sum(axis=1) / 4),
        {"decomposition", "Gibbs"},
    ),
    "a mean over all rows": ("cross_entropy.index", losses(_counting_padding), {"next token"}),
    "rows in float16": (
        "cross_entropy.index",
        losses(lambda _, loss: loss.astype(np.float16).astype(np.float64)),
        {"perplexity", "likelihood", "InfoNCE"},
    ),
    "half of a gradient": (
        "cross_entropy.probabilities",
        slopes(lambda _, gradient: gradient / 2),
        {"distillation"},
    ),
    "labels that hang together": (
        "binary_cross_entropy_with_logits",
        losses(lambda _, loss: loss + 1e-3),
        {"multi-label"},
    ),
    "smoothing of no convention": ("cross_entropy.index", losses(_smoothed_more), {"smoothing"}),
    "NaN": (
        "cross_entropy.probabilities",
        losses(lambda _, loss: np.full_like(loss, np.nan)),
        {"entropy", "bits", "InfoNCE"},
    ),
}


SMALL = ("rows in float16", "labels that hang together", "smoothing of no convention")
"""Mistakes within the roundings of bfloat16."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_breaks_the_identities_that_it_should(mistake: str):
    op, wrong, due = MISTAKES[mistake]
    ops = torch_ops("float32", *(("bfloat16",) if mistake not in SMALL else ()))
    found = heard({s.op: wrong(s) if s.op == op else right(s) for s in ops}, ops)
    for dtype in ops[0].dtypes:
        mine = [answer for answer in found if answer.dtype == dtype]
        assert due <= failed(mine) | {a.identity.name for a in mine if not a.claims}, dtype
        assert failed(mine)


def test_a_gradient_of_the_wrong_sign_is_seen_in_every_format():
    ops = [s for s in torch_ops() if s.op == "cross_entropy.probabilities"]
    wrong = slopes(lambda _, gradient: -gradient)
    found = heard({s.op: wrong(s) for s in ops}, ops)
    bad = {a.dtype for a in found if a.identity.name == "distillation" and not a.holds}
    assert bad == set(ops[0].dtypes)


def test_the_convention_of_smoothing_is_measured_and_not_read():
    (op,) = [s for s in torch_ops() if s.op == "cross_entropy.index"]
    assert op.semantics.smoothing == "eps/K"
    found = heard({op.op: right(op, smoothing="eps/(K-1)")}, [op])
    of = [a.claims[0].of for a in found if a.identity.name == "smoothing"]
    assert set(of) == {"loss of eps/(K-1)"}
    assert "smoothing" not in failed(found)


def test_an_inequality_that_holds_takes_no_room_and_nan_never_holds():
    one = np.ones(1)
    assert Claim("", one, 2 * one, 0 * one, "<=").share == 0.0
    assert not Claim("", one, 2 * one, one / 2, ">=").holds
    assert Claim("", one, 2 * one, one).holds
    assert not Claim("", np.nan * one, one, one).holds


def test_an_entry_without_a_bound_says_nothing_and_alone_is_no_evidence():
    one, void = np.ones(4), np.array([1.0, np.inf, np.inf, np.inf])
    claim = Claim("", one, 9 * one, void)
    assert claim.share == 8.0
    assert not claim.tells
    assert Claim("", one, 9 * one, one).tells
    assert not Claim("", one, 9 * one, 10 * one).tells
    assert Claim("", one, 0 * one, one / 2, "=", 1.0).tells


def test_a_call_that_does_not_return_is_no_statement_that_holds():
    def raises(_: Case) -> tuple[Floats, Floats]:
        raise ValueError("no such thing")

    found = heard({s.op: raises for s in torch_ops()})
    assert all(not answer.claims and "no such thing" in answer.reason for answer in found)
    assert all(answer.broken and not answer.holds for answer in found)
    assert counted(found).startswith("0 of ")


def test_losses_that_no_exponential_holds_break_their_identity_alone():
    ops = torch_ops("float64")
    wrong = losses(lambda _, loss: loss * 1e4)
    found = heard({s.op: wrong(s) for s in ops}, ops)
    assert "perplexity" in failed(found)
    assert not [answer for answer in found if "internal" in answer.reason]


def test_it_is_printed_and_written_with_what_fails(absent: Absence):
    ops = torch_ops("float32")
    found = heard({s.op: losses(lambda _, loss: loss / np.log(2))(s) for s in ops}, ops)
    out = io.StringIO()
    print_theory(found, [absent], Console(file=out, width=80), details=False)
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= 80
    assert "FAILS in 1 of 1 op" in said
    assert "is not =" in said
    assert "not asked: jax: no module" in said
    page = theory_markdown(found, [absent])
    assert "| FAILS in 1 of 1 op |" in page
    assert "Not asked: jax, no module." in page


@pytest.fixture
def absent() -> Absence:
    return Absence(framework="jax", reason="no module", hint="pip install jax")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "framework", ["torch", "tensorflow", "keras", pytest.param("jax", marks=pytest.mark.slow)]
)
def test_real_ops_keep_what_the_textbook_says(framework: str):
    if reason := availability(FRAMEWORKS[framework]):
        pytest.skip(reason)
    every = subjects([framework], "quick")
    float32 = [replace(s, dtypes=("float32",)) for s in every if "float32" in s.dtypes]
    with WorkerPool() as pool:
        found = list(answers(pool, float32))
    broken = [(a.identity.name, a.subject.name, a.worst) for a in found if not a.holds]
    assert not broken
    assert len([answer for answer in found if answer.claims]) > 20
