"""What the loss may not fall below or exceed: zero, the entropy, the largest gap; its slopes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.exact import Exact, add, subtract
from ...reference.formats import round_to_format
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import RANK, Judgement, ulp_of
from ..law import EXACT, NOT_JUDGED, VIOLATES, Law, Verdict, by_row, only
from .linear import entropy
from .terms import Term, at_most, conformity, side

LIKELIHOODS = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "focal",
    "focal_probabilities",
    "binary_focal",
    "binary_focal_probabilities",
)
FROM_LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")


def check_not_negative(bench: Bench, case: Case) -> list[Verdict]:
    """The sign of the loss; the sign of a zero does not count.

    Below zero is wrong by however little: rounding keeps the order of numbers, so that no step of
    a form in use crosses zero. Within the bound of the value it is of kind `precision`.
    """
    loss, _ = bench.outputs(case)
    depth = np.maximum(-loss, 0.0)
    bound = conformity(bench, case, "loss")
    below = np.where((depth <= bound) & np.isfinite(bound), RANK["precision"], VIOLATES)
    grade = np.where(loss >= 0, EXACT, np.where(loss < 0, below, NOT_JUDGED))
    unit = ulp_of(depth, bench.fmt)
    found = Judgement(grade, depth / unit, np.zeros_like(loss), bound / unit, bound / unit)
    note = "the loss, and what it is not below"
    rows = _is_hard(case) & ~bench.truth(case).undefined
    return [only(by_row("loss", case, found, loss, note), rows)]


def check_entropy(bench: Bench, case: Case) -> list[Verdict]:
    """H(q) <= CE(z, q)."""
    q = np.asarray(case.target)
    rows = (q.sum(axis=1) == 1.0) & (q >= 0).all(axis=1)
    note = "the entropy of the target, and the loss, which is not below it"
    ours = side(Term(bench, case))
    return at_most(bench, case, side(plus=entropy(case)), ours, note, rows=rows)


def _is_hard(case: Case) -> np.ndarray:
    if case.target.ndim == 1:
        return np.ones(case.rows, dtype=bool)
    return ((case.target == 0) | (case.target == 1)).all(axis=1)


def largest_gap(case: Case) -> Exact:
    """How far the target is behind the class that leads: max_j z_j - z_y; max(0, -s z)."""
    z = case.inputs
    if case.target.ndim == 1:
        target = np.take_along_axis(z, np.asarray(case.target)[:, None], axis=1)[:, 0]
        return subtract(Exact.from_float(z.max(axis=1, initial=-np.inf)), Exact.from_float(target))
    against = np.where(np.asarray(case.target) == 1, -z, z)[:, 0]
    return Exact.from_float(np.maximum(against, 0.0))


def check_gap(bench: Bench, case: Case) -> list[Verdict]:
    """gap <= loss, and loss <= gap + log K."""
    gap, rows = largest_gap(case), _is_hard(case)
    classes = 2 if case.target_kind == "binary" else case.inputs.shape[1]
    # Above log K, of which NumPy's is within an ulp.
    room = Exact.from_float(np.full(case.rows, np.nextafter(np.log(classes), np.inf)))
    ours = side(Term(bench, case))
    lower = "the lead of the best class over the target, and the loss, which is not below it"
    upper = "the loss, and the lead of the best class and log K, which it does not exceed"
    return [
        *at_most(bench, case, side(plus=gap), ours, lower, rows=rows),
        *at_most(bench, case, ours, side(plus=add(gap, room)), upper, rows=rows),
    ]


STEP = 0.25
"""How far a logit is moved, as a part of itself, and at least: far above the spacing of bfloat16,
so that the loss moves with it."""


def nearer(case: Case) -> Case:
    """The case with the logit of the target larger, or the one logit on the side of its label."""
    z = case.inputs
    step = np.maximum(np.abs(z) * STEP, STEP)
    if case.target.ndim == 1:
        sign = (np.arange(z.shape[1]) == np.asarray(case.target)[:, None]).astype(np.float64)
    else:
        sign = np.where(np.asarray(case.target) == 1, 1.0, -1.0)
    return replace(case, inputs=z + sign * step)


def check_monotone(bench: Bench, case: Case) -> list[Verdict]:
    """The loss after the logit of the target was raised, and before."""
    moved = nearer(case)
    moved = replace(moved, inputs=round_to_format(moved.inputs, bench.fmt))
    rows = np.isfinite(moved.inputs).all(axis=1) & _is_hard(case)
    moved = replace(moved, inputs=np.where(rows[:, None], moved.inputs, case.inputs))
    note = "the loss with the logit of the target raised, and before, which it does not exceed"
    return at_most(bench, case, side(Term(bench, moved)), side(Term(bench, case)), note, rows=rows)


def on_a_grid(case: Case, bench: Bench) -> Floats:
    """The logits on a grid of eight ulps of the largest of the row.

    Halves and quarters of them, and of their sums, are then exact.
    """
    largest = np.abs(case.inputs).max(axis=1, keepdims=True, initial=0.0)
    quantum = 8 * ulp_of(largest, bench.fmt)
    return np.rint(case.inputs / quantum) * quantum


def check_convex(bench: Bench, case: Case) -> list[Verdict]:
    """The loss between two points, z and one across zero, and the mean of theirs."""
    here = on_a_grid(case, bench)
    there = -np.roll(here, 1, axis=1) / 2
    middle = (here + there) / 2
    points = (here, there, middle)
    exact = [round_to_format(x, bench.fmt) == x for x in points]
    rows = np.logical_and.reduce(exact).all(axis=1)
    here, there, middle = (np.where(rows[:, None], x, case.inputs) for x in points)
    base = replace(case, inputs=here)
    ends = side(Term(bench, base, 0.5), Term(bench, replace(case, inputs=there), 0.5))
    between = side(Term(bench, replace(case, inputs=middle)))
    note = "the loss between two points, and the mean of theirs, which it does not exceed"
    return at_most(bench, base, between, ends, note, rows=rows)


def check_temperature(bench: Bench, case: Case) -> list[Verdict]:
    """loss(z) <= 2 loss(z / 2)."""
    half = case.inputs / 2
    rows = (round_to_format(half, bench.fmt) == half).all(axis=1)
    warm = replace(case, inputs=np.where(rows[:, None], half, case.inputs))
    note = "the loss, and at twice the temperature, times 2, which it does not exceed"
    twice = side(Term(bench, warm, 2.0))
    return at_most(bench, case, side(Term(bench, case)), twice, note, rows=rows)


def _hard(subject: Subject) -> bool:
    return subject.target in ("index", "binary")


def _unguarded(subject: Subject) -> bool:
    """Whether the loss is that of the logits: where a probability is clipped it is bounded."""
    return subject.operation in FROM_LOGITS and subject.semantics.guard == "none"


def _convex(subject: Subject) -> bool:
    return subject.mode == "eager" and _unguarded(subject)


NOT_NEGATIVE = Law(
    name="not-negative",
    statement="loss(z, y) >= 0 for a hard label y",
    source="a probability is at most 1; pytorch#193757 (compiled BCE of -50)",
    fits=lambda s: _hard(s) and s.operation in LIKELIHOODS,
    check=check_not_negative,
    outputs=("loss",),
    regions=("ordinary", "saturated-right", "confident", "zero-and-one"),
    effort=0.25,
)

ENTROPY = Law(
    name="entropy-is-a-floor",
    statement="CE(z, q) >= H(q)",
    source="Gibbs' inequality: CE(z, q) - H(q) = KL(q || softmax(z)) >= 0",
    fits=lambda s: _unguarded(s) and s.target == "distribution",
    check=check_entropy,
    outputs=("loss",),
    regions=("ordinary", "saturated-right"),
    effort=0.25,
)

GAP = Law(
    name="lead-and-log-classes",
    statement="max_j z_j - z_y <= loss(z, y) <= max_j z_j - z_y + log K",
    source="log sum_j exp(z_j) lies between the largest logit and log K above it; a double softmax "
    "and a clipped probability bound the loss, which the lead of another class does not",
    fits=lambda s: _hard(s) and _unguarded(s),
    check=check_gap,
    outputs=("loss",),
    regions=("ordinary", "saturated-right", "saturated-wrong", "huge"),
    effort=0.25,
)

MONOTONE = Law(
    name="monotone-in-the-target",
    statement="loss(z + h e_y, y) <= loss(z, y) for h > 0 and a hard label y",
    source="d loss / d z_y = softmax(z)_y - 1 <= 0",
    fits=lambda s: _convex(s) and _hard(s),
    check=check_monotone,
    outputs=("loss",),
    regions=("ordinary", "ties", "saturated-wrong"),
    effort=0.25,
)

CONVEX = Law(
    name="convex",
    statement="loss((a + b) / 2) <= (loss(a) + loss(b)) / 2",
    source="Boyd and Vandenberghe, Convex Optimization, 2004, 3.1.5: log-sum-exp is convex",
    fits=_convex,
    check=check_convex,
    outputs=("loss",),
    regions=("ordinary", "saturated-wrong"),
    effort=0.25,
)

TEMPERATURE = Law(
    name="temperature",
    statement="T loss(z / T) does not fall as T grows: loss(z) <= 2 loss(z / 2)",
    source="d (T loss(z / T)) / d T is the entropy of softmax(z / T); Guo et al., On Calibration "
    "of Modern Neural Networks, 2017",
    fits=_convex,
    check=check_temperature,
    outputs=("loss",),
    regions=("ordinary", "saturated-right", "saturated-wrong", "huge"),
    effort=0.25,
)
