"""Relations of one subject to itself: zero sum, shift, mirror, finiteness."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.bounds import guard_limits
from ...reference.exact import to_float
from ...reference.formats import round_to_format, ulp_exponent
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import Judgement, distance, relate, ulp_of
from ..law import EXACT, NOT_JUDGED, WRONG_KIND, Law, Verdict, by_row, from_relation, only

Columns = slice | np.ndarray
"""Which entries of a gradient are meant, in which order."""


def _is_softmax(subject: Subject) -> bool:
    return subject.operation == "cross_entropy"


def check_zero_sum(bench: Bench, case: Case) -> list[Verdict]:
    """The exact sum of the returned entries, in ulps of the largest of them."""
    _, gradient = bench.outputs(case)
    total = np.array([_exact_sum(row) for row in gradient]) if case.rows else np.zeros(0)
    demand = bench.demand(case).gradient.sum(axis=1)
    declared = bench.declared(case).gradient.sum(axis=1)
    zero = np.zeros_like(total)
    grade = relate(total, zero, demand, declared)
    with np.errstate(invalid="ignore"):
        largest = np.abs(gradient).max(axis=1, initial=0.0)
    verdict = from_relation(
        "gradient", case, grade, np.abs(total), ulp_of(largest, bench.fmt), total, zero, demand,
        declared, "the sum of the row of the gradient, and 0",
    )  # fmt: skip
    truth = bench.truth(case)
    return [only(verdict, np.isfinite(truth.gradient.hi).all(axis=1) & ~truth.undefined)]


def _exact_sum(row: Floats) -> float:
    if not np.isfinite(row).all():
        return math.nan
    try:
        return math.fsum(row)
    except OverflowError:
        return math.inf


def shifted(case: Case, bench: Bench) -> tuple[Case, Case, np.ndarray]:
    """The case on a grid on which z + c is exact, the same plus c, and the rows where it worked.

    c is the power of two above the largest finite logit of the row (at least 1), and the grid the
    spacing of the format at 2 c.
    """
    z = case.inputs
    finite = np.isfinite(z)
    top = np.where(finite, np.abs(z), 0.0).max(axis=1, initial=0.0)
    _, exponent = np.frexp(np.maximum(top, 1.0))
    c = np.ldexp(1.0, np.minimum(exponent, 1000))[:, None]
    quantum = np.ldexp(1.0, ulp_exponent(2 * c, bench.fmt))
    with np.errstate(invalid="ignore"):
        grid = np.where(finite, np.rint(z / quantum) * quantum, z)
        moved = grid + c
        exact = (moved - c == grid) & (round_to_format(moved, bench.fmt) == moved)
        exact = exact & (round_to_format(grid, bench.fmt) == grid)
    fits = (exact | ~finite).all(axis=1)
    grid, moved = (np.where(fits[:, None], x, z) for x in (grid, moved))
    return replace(case, inputs=grid), replace(case, inputs=moved), fits


def check_shift(bench: Bench, case: Case) -> list[Verdict]:
    """loss(z + c) = loss(z) and the same for the gradient."""
    base, moved, fits = shifted(case, bench)
    return compare(bench, base, bench, moved, fits, "of z, and of z + c")


def compare(
    left_bench: Bench,
    left: Case,
    right_bench: Bench,
    right: Case,
    rows: np.ndarray,
    note: str,
    sign: float = 1.0,
    columns: tuple[Columns, Columns] = (slice(None), slice(None)),
    *,
    conforming: bool = False,
) -> list[Verdict]:
    """Relate loss and gradient of two calls that mathematics makes equal (up to a sign).

    Conforming is enough where the two cancel alike, which the law of the value tells (`terms`).
    """
    loss, gradient = left_bench.outputs(left)
    other_loss, other_gradient = right_bench.outputs(right)
    truth = left_bench.truth(left)
    demands = left_bench.demand(left), right_bench.demand(right)
    declared = left_bench.declared(left), right_bench.declared(right)
    exact_loss, exact_gradient = to_float(truth.loss), to_float(truth.gradient)[:, columns[0]]
    gradient, other_gradient = gradient[:, columns[0]], sign * other_gradient[:, columns[1]]
    demand_loss = demands[0].loss + demands[1].loss
    declared_loss = declared[0].loss + declared[1].loss
    demand_gradient = demands[0].gradient[:, columns[0]] + demands[1].gradient[:, columns[1]]
    declared_gradient = declared[0].gradient[:, columns[0]] + declared[1].gradient[:, columns[1]]
    verdicts = []
    for output, a, b, exact, d, e in (
        ("loss", loss, other_loss, exact_loss, demand_loss, declared_loss),
        ("gradient", gradient, other_gradient, exact_gradient, demand_gradient, declared_gradient),
    ):
        grade = relate(a, b, np.maximum(d, e) if conforming else d, e)
        unit = ulp_of(exact, left_bench.fmt)
        verdict = from_relation(
            output, left, grade, distance(a, b), unit, a, b, d, e, f"the {output} {note}"
        )
        known = np.isfinite(exact)
        finite = (known.all(axis=1) if known.ndim > 1 else known) & rows
        verdict = replace(verdict, against=((right_bench.subject, right),))
        verdicts.append(only(verdict, finite & ~truth.undefined))
    return verdicts


def check_mirror(bench: Bench, case: Case) -> list[Verdict]:
    """BCE(z, y) = BCE(-z, 1 - y), gradients of opposite sign; for probabilities p and 1 - p."""
    target = np.asarray(case.target, dtype=np.float64)
    opposite = 1.0 - target
    inputs = -case.inputs if bench.subject.from_logits else 1.0 - case.inputs
    with np.errstate(invalid="ignore"):
        exact = (round_to_format(opposite, bench.fmt) == opposite) & (1.0 - opposite == target)
        if not bench.subject.from_logits:
            exact = exact & (round_to_format(inputs, bench.fmt) == inputs)
            exact = exact & (1.0 - inputs == case.inputs)
            # Past a clip the declared loss itself has no mirror: 1 - eps is rounded, eps is not.
            lo, hi = guard_limits(bench.semantics, bench.dtype)
            exact = exact & (np.minimum(case.inputs, inputs) >= max(lo, 1.0 - hi))
    rows = exact[:, 0]
    inputs = np.where(exact, inputs, case.inputs)
    mirrored = replace(case, inputs=inputs, target=np.where(exact, opposite, target))
    note = "of (z, y), and of (-z, 1 - y)"
    if not bench.subject.from_logits:
        note = "of (p, y), and of (1 - p, 1 - y)"
    return compare(bench, case, bench, mirrored, rows, note, sign=-1.0)


def check_finite(bench: Bench, case: Case) -> list[Verdict]:
    """Finite where the truth is finite and rounds to a finite number with room to spare."""
    loss, gradient = bench.outputs(case)
    truth = bench.truth(case)
    verdicts = []
    for output, value, exact in (
        ("loss", loss, to_float(truth.loss)),
        ("gradient", gradient, to_float(truth.gradient)),
    ):
        # Within a factor of two of the largest number a bound may reach infinity.
        due = np.isfinite(exact) & (np.abs(exact) <= bench.fmt.max / 2)
        grade = np.where(np.isfinite(value), EXACT, WRONG_KIND)
        grade = np.where(due, grade, NOT_JUDGED)
        nothing = np.full(value.shape, np.nan)
        right = round_to_format(exact, bench.fmt)
        found = Judgement(grade, nothing, right, nothing, nothing)
        verdict = by_row(output, case, found, value)
        verdicts.append(only(verdict, ~truth.undefined))
    return verdicts


ZERO_SUM = Law(
    name="gradient-sums-to-zero",
    statement="sum_j d loss / d z_j = 0",
    source="shift invariance, differentiated; jax#40384",
    fits=lambda s: _is_softmax(s) and s.semantics.soft_gradient == "sum(q) p - q",
    check=check_zero_sum,
    outputs=("gradient",),
)

SHIFT = Law(
    name="shift-invariance",
    statement="loss(z + c) = loss(z), and the gradients are equal, where z + c is exact",
    source="definition of softmax; pytorch#11752, MLX PR #4188",
    fits=_is_softmax,
    check=check_shift,
)

MIRROR = Law(
    name="mirror",
    statement="BCE(z, y) = BCE(-z, 1 - y), gradients of opposite sign",
    source="sigmoid(-z) = 1 - sigmoid(z); pytorch#195529",
    fits=lambda s: s.target == "binary" and s.semantics.alpha is None,
    check=check_mirror,
)

FINITE = Law(
    name="finite-where-finite",
    statement="loss and gradient are finite wherever their exact values are",
    source="definition; optax#896, pytorch#49724",
    fits=lambda _: True,
    check=check_finite,
)
