"""Which formula a subject follows, told from its numbers: smoothing, and double softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...reference.bounds import Bounds, bounds, half_ulp
from ...reference.exact import to_float
from ...reference.formats import FORMATS
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import Judgement
from ..law import EXACT, NOT_JUDGED, VIOLATES, Law, Verdict, by_row

FORMULAS = ("eps/K", "eps/(K-1)", "none")
BINARY_FORMULAS = ("toward 1/2", "none")


def formulas(bench: Bench) -> tuple[str, ...]:
    """The smoothing formulas that are told apart."""
    return BINARY_FORMULAS if bench.subject.target == "binary" else FORMULAS


def smoothed_loss(bench: Bench, case: Case, formula: str) -> Floats:
    """The exact losses under a formula; "none" leaves the smoothing out."""
    if formula == "none":
        case = replace(case, options=replace(case.options, label_smoothing=0.0))
        return to_float(bench.truth(case).loss)
    return to_float(bench.truth(case, replace(bench.semantics, smoothing=formula)).loss)


def smoothing_matches(bench: Bench, case: Case) -> dict[str, np.ndarray]:
    """For each formula, the rows whose loss lies within the bounds around its exact value."""
    loss, _ = bench.outputs(case)
    matches = {}
    for formula in formulas(bench):
        exact = smoothed_loss(bench, case, formula)
        matches[formula] = np.abs(loss - exact) <= _loosest(bench, case).loss
    return matches


def _loosest(bench: Bench, case: Case) -> Bounds:
    """The declared bound, or the demand where nothing is declared."""
    declared, demand = bench.declared(case), bench.demand(case)
    loosest = np.maximum(declared.loss, demand.loss)
    return replace(demand, loss=np.where(declared.void, demand.loss, loosest))


def told_apart(bench: Bench, case: Case) -> np.ndarray:
    """Rows on which no two formulas can be confused."""
    losses = [smoothed_loss(bench, case, formula) for formula in formulas(bench)]
    reach = 2 * _loosest(bench, case).loss
    apart = np.isfinite(reach)
    for i, a in enumerate(losses):
        for b in losses[i + 1 :]:
            apart = apart & (np.abs(a - b) > reach)
    return apart


def check_smoothing(bench: Bench, case: Case) -> list[Verdict]:
    """The loss lies where the declared formula puts it, on rows where the others lie elsewhere."""
    if not case.options.label_smoothing:
        return []
    loss, _ = bench.outputs(case)
    matches = smoothing_matches(bench, case)
    # What the subject declares, not what the probe measured: that is what the law is about.
    declared = bench.subject.semantics.smoothing
    ours = matches.get(declared, np.zeros(case.rows, dtype=bool))
    usable = told_apart(bench, case)
    grade = np.where(ours, EXACT, VIOLATES)
    right = smoothed_loss(bench, case, declared)
    nothing = np.full(case.rows, np.nan)
    follows = [f for f, rows in matches.items() if f != declared and bool((rows & usable).any())]
    note = f"declared {declared}; the numbers follow {' or '.join(follows) or 'no known formula'}"
    found = Judgement(np.where(usable, grade, NOT_JUDGED), nothing, right, nothing, nothing)
    return [by_row("loss", case, found, loss, note)]


def _softmax_of(bench: Bench, case: Case) -> Floats:
    z = case.inputs
    if bench.subject.target == "binary":
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-z))
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def double_softmax_bound(bench: Bench, case: Case, twice: Floats) -> Floats:
    """Forward error of softmax followed by the op.

    A probability has a relative error of rho = expm1((h + c_exp + 3) u) and is at most 1; CE is
    2-Lipschitz in the largest change of a logit; then the bound of class B for logits in [0, 1]:
    (h + c_exp + c_log + 3) u, and the rounding of the result.
    """
    arithmetic = bench.arithmetic
    if arithmetic is None:
        return np.full(case.rows, np.inf)
    doubled = replace(case, inputs=_softmax_of(bench, case))
    own = bounds(doubled, bench.semantics, arithmetic).loss
    u = FORMATS[arithmetic.working].unit_roundoff
    height = case.inputs.shape[1]
    rho = np.expm1((height + arithmetic.c_exp + arithmetic.c_sigmoid + 3) * np.log1p(u))
    return own + 2 * rho + half_ulp(twice, bench.fmt)


def check_single_softmax(bench: Bench, case: Case) -> list[Verdict]:
    """The loss is not the one of softmax(z) (or sigmoid(z)) taken for logits."""
    loss, _ = bench.outputs(case)
    once = to_float(bench.truth(case).loss)
    doubled = replace(case, inputs=_softmax_of(bench, case))
    twice = to_float(bench.truth(doubled).loss)
    reach = double_softmax_bound(bench, case, np.abs(twice))
    single = _loosest(bench, case).loss
    apart = np.isfinite(reach) & np.isfinite(single) & (np.abs(once - twice) > reach + single)
    is_double = np.abs(loss - twice) <= reach
    grade = np.where(apart, np.where(is_double, VIOLATES, EXACT), NOT_JUDGED)
    nothing = np.full(case.rows, np.nan)
    found = Judgement(grade, nothing, once, nothing, nothing)
    note = "the loss equals the one of softmax(z) taken for logits"
    return [by_row("loss", case, found, loss, note)]


SMOOTHING = Law(
    name="smoothing-convention",
    statement="(1 - eps) q + eps/K, or eps/(K-1) to the other classes, or toward 1/2: as declared",
    source="Szegedy et al., Rethinking the Inception Architecture, 2016 (eps/K); "
    "Megatron-LM and sockeye (eps/(K-1)); Keras (toward 1/2)",
    fits=lambda s: "label_smoothing" in s.options and not s.compiled,
    check=check_smoothing,
    outputs=("loss",),
    regions=("ordinary", "saturated-wrong"),
    options="smoothing",
)

SINGLE_SOFTMAX = Law(
    name="single-softmax",
    statement="softmax is applied once: loss(z) differs from loss(softmax(z))",
    source="double softmax bounds the loss below by log(1 + (K-1)/e); keras-hub PR #1008",
    fits=lambda s: s.operation in ("cross_entropy", "binary_cross_entropy_with_logits"),
    check=check_single_softmax,
    outputs=("loss",),
    regions=("ordinary", "saturated-right", "saturated-wrong"),
    misuse="double softmax",
)
