"""Cross-entropy and binary cross-entropy from probabilities, exact and under each guard.

A guard is a pair of exact numbers per dtype. "clip" puts p into [lo, hi], lo = RN(eps) and
hi = RN(1 - eps); in a narrow format hi can be 1, and the guard then has no effect there.
"clamp log" replaces log p by max(log p, floor).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from . import truth as rows
from .binary_rows import (
    NO_FACTORS,
    Factors,
    binary_coefficients,
    exact_binary_coefficients,
)
from .certify import Index, repaired
from .decimals import Triple, settle, triple
from .exact import (
    Booleans,
    Exact,
    add,
    broadcast,
    divided,
    magnitude,
    multiplied,
    negate,
    subtract,
    total,
    where,
)
from .formats import FORMATS, round_to_format
from .functions import log, log1p_any
from .slow_rows import ONE, log_sum
from .truth import (
    Factor,
    Formula,
    Truth,
    complement,
    constant,
    exclusive_sums,
    largest,
    nothing_times,
)
from .vocabulary import Floats, Options, Semantics

# torch's clamp of the denominator p (1 - p): 1e-12 as a float32 constant whatever the dtype
# (EPSILON in aten/src/ATen/native). In float64 the gradient of torch 2.13 at p = 8.9e-13, y = 0
# is p / 9.99999996e-13.
DENOMINATOR_FLOOR = float(np.float32(1e-12))


def clip_bounds(eps: float, dtype: str) -> tuple[float, float]:
    """(lo, hi) of a clip at eps: the two numbers as they are in the dtype."""
    fmt = FORMATS[dtype]
    return float(round_to_format(eps, fmt)), float(round_to_format(1.0 - eps, fmt))


def binary_cross_entropy_truth(
    probabilities: Floats,
    target: Floats,
    semantics: Semantics,
    options: Options,
    dtype: str,
    factors: Factors = NO_FACTORS,
) -> Truth:
    """-(y log p + (1 - y) log(1 - p)) for each row under a guard, and its gradient in p.

    Args:
        probabilities: (N, 1).
        target: (N, 1).
        semantics: smoothing, guard, guard_eps, guard_floor and guard_gradient are read here.
        options: label_smoothing, pos_weight and weight with one entry are read here.
        dtype: format in which the numbers of the guard are rounded.
        factors: more of them, row by row.

    Returns:
        The rows. Without a guard p = 0 and p = 1 are limits, and p outside [0, 1] is undefined.
        Where a clip moved p (strictly outside) the gradient is 0.
    """
    rows.demand_shape("probabilities", probabilities, 2)
    rows.demand_same_shape(target, probabilities)

    def compute(part: slice) -> Truth:
        row = probabilities[part, 0], target[part, 0]
        return _binary_pass(*row, semantics, options, dtype, factors.take(part))

    return rows.in_passes(probabilities.shape[0], 1, compute)


def _binary_pass(
    given: Floats,
    target: Floats,
    semantics: Semantics,
    options: Options,
    dtype: str,
    factors: Factors,
) -> Truth:
    nan = np.isnan(given) | np.isnan(target)
    p, moved = _clipped(np.where(nan, 0.5, given), semantics, dtype)
    outside = (p < 0.0) | (p > 1.0)
    reason = rows.reasons(
        nan, "", np.isinf(target), rows.INFINITE_TARGET, outside, rows.NOT_A_PROBABILITY
    )
    p = np.where(reason != "", 0.5, p)
    target = np.where(np.isfinite(target), target, 0.5)
    positive, negative, _ = binary_coefficients(target, semantics, options, factors)
    here, there = Exact.from_float(p), complement(p)
    log_here, low_here = _floored(log(here), semantics)
    log_there, low_there = _floored(log(there), semantics)
    slow = _SlowBinary(p, target, low_here, low_there, semantics, options, factors)
    terms = [negate(_term(positive, log_here)), negate(_term(negative, log_there))]
    doubt = add(magnitude(terms[0]), magnitude(terms[1]))
    loss = repaired(add(*terms), doubt, slow.loss)
    if semantics.guard_gradient == "clamped denominator":
        below = _raised(multiplied(here, there))
        fall, rise = multiplied(positive, there), multiplied(negative, here)
        gradient = divided(subtract(rise, fall), below)
        size = divided(add(magnitude(rise), magnitude(fall)), below)
    else:
        fall = where(low_here, constant(0.0), positive)
        rise = where(low_there, constant(0.0), negative)
        gradient, size = _quotient(here, there, fall, rise)
    gradient = where(moved, constant(0.0), repaired(gradient, size, slow.gradient)).reshape(-1, 1)
    return rows.finish(loss, gradient, nan, None, reason, doubt, slow.formula)


@dataclass(frozen=True, eq=False)
class _SlowBinary:
    """The fallback for one pass of binary cross-entropy from (clipped) probabilities."""

    p: Floats
    target: Floats
    low_here: Booleans
    low_there: Booleans
    semantics: Semantics
    options: Options
    factors: Factors

    def formula(self, row: int) -> Formula:
        fixed, terms = Fraction(0), []
        for factor, argument, low in self._terms(row):
            if low:
                fixed -= factor * Fraction(self.semantics.guard_floor)
            elif factor:
                terms.append((factor, 1 / argument))
        return lambda digits: log_sum(fixed, terms, digits)

    def loss(self, index: Index) -> Triple:
        return settle(self.formula(index[0]), lambda: self._describe(index[0]))

    def gradient(self, index: Index) -> Triple:
        """Rational: c0 / (1 - p) - c1 / p, or the quotient with the clamped denominator."""
        (up, p, low_here), (down, q, low_there) = self._terms(index[0])
        if self.semantics.guard_gradient == "clamped denominator":
            return triple((down * p - up * q) / max(p * q, Fraction(DENOMINATOR_FLOOR)))
        rise = down / q if down and not low_there else Fraction(0)
        fall = up / p if up and not low_here else Fraction(0)
        return triple(rise - fall)

    def _terms(self, row: int) -> list[tuple[Fraction, Fraction, bool]]:
        p = Fraction(float(self.p[row]))
        y = float(self.target[row])
        up, down = exact_binary_coefficients(y, self.semantics, self.options, self.factors, row)
        return [(up, p, bool(self.low_here[row])), (down, 1 - p, bool(self.low_there[row]))]

    def _describe(self, row: int) -> str:
        p, y = float(self.p[row]).hex(), float(self.target[row]).hex()
        return f"binary cross-entropy of probability {p}, target {y}, {self.options}"


def _clipped(p: Floats, semantics: Semantics, dtype: str) -> tuple[Floats, Booleans]:
    """p under a clip, and where the clip moved it."""
    if semantics.guard != "clip":
        return p, np.zeros(p.shape, dtype=np.bool_)
    low, high = clip_bounds(semantics.guard_eps, dtype)
    clipped = np.clip(p, low, high)
    return clipped, clipped != p


def _floored(logarithm: Exact, semantics: Semantics) -> tuple[Exact, Booleans]:
    """The logarithm not below the floor of "clamp log", and where the floor took its place."""
    if semantics.guard != "clamp log":
        return logarithm, np.zeros(logarithm.shape, dtype=np.bool_)
    floor = constant(semantics.guard_floor)
    low = subtract(logarithm, floor).hi < 0.0
    return where(low, floor, logarithm), low


def _term(coefficient: Exact, factor: Exact) -> Exact:
    """coefficient * factor, and 0 where the coefficient is 0."""
    return nothing_times(coefficient, factor, multiplied(coefficient, factor))


def _quotient(here: Exact, there: Exact, positive: Exact, negative: Exact) -> tuple[Exact, Exact]:
    """c0 / (1 - p) - c1 / p, each absent where its coefficient is zero, and the size of the two."""
    rise, fall = _ratio(negative, there), _ratio(positive, here)
    return subtract(rise, fall), add(magnitude(rise), magnitude(fall))


def _ratio(above: Exact, below: Exact) -> Exact:
    """above / below, and 0 / 0 = 0: an absent term."""
    return where(above.hi == 0.0, constant(0.0), divided(above, below))


def _raised(product: Exact) -> Exact:
    """max(p (1 - p), 1e-12)."""
    floor = constant(DENOMINATOR_FLOOR)
    return where(subtract(product, floor).hi < 0.0, floor, product)


def cross_entropy_probabilities_truth(
    probabilities: Floats,
    target: NDArray[Any],
    semantics: Semantics,
    options: Options,
    dtype: str,
    factor: Optional[Factor] = None,
) -> Truth:
    """-sum_j a_j log p_j for each row under a guard, and its gradient in p.

    Args:
        probabilities: (N, K).
        target: (N,) class indices or (N, K) distributions; see `truth.coefficients` for a_j.
        semantics: smoothing, ignore_index, guard and renormalise are read here. "before": the
            guard acts on p / sum p; "after": the guarded values are divided by their sum.
        options: weight, ignore_index and label_smoothing are read here.
        dtype: format in which the numbers of the guard are rounded.
        factor: of each row.

    Returns:
        The rows. A negative p that no guard lifts is undefined, and so is division by sum p = 0.

    Raises:
        ValueError: an invalid label (with position and value), wrong weights or shapes.
    """
    rows.demand_shape("probabilities", probabilities, 2)
    classes = probabilities.shape[1]
    ignored = rows.ignored_rows(target, rows.ignore_index(semantics, options))
    if target.ndim == 1:
        rows.demand_labels(target, classes, ignored)
        target = np.where(ignored, 0, target).astype(np.int64)
    else:
        rows.demand_same_shape(target, probabilities)

    def compute(part: slice) -> Truth:
        own, nan = target[part], _any_nan(probabilities[part])
        if own.ndim == 2:
            nan = nan | _any_nan(own)
            own = np.where(np.isnan(own), 0.0, own)
        usable, reason = _usable(probabilities[part], nan, semantics, dtype)
        given = options, dtype, rows.factor_part(factor, part)
        row = _Classes(usable, own, semantics, *given)
        guarded = row.guarded()
        terms = _term(row.weights, guarded.surprise)
        loss, size = total(terms, axis=1), total(magnitude(terms), axis=1)

        def formula(i: int) -> Formula:
            return row.formula(list(zip(row.slow_weights(i), guarded.arguments(i))))

        def settle_loss(index: Index) -> Triple:
            return settle(formula(index[0]), lambda: row.name(index[0]))

        loss = repaired(loss, size, settle_loss)
        return rows.finish(loss, guarded.gradient(), nan, ignored[part], reason, size, formula)

    return rows.in_passes(probabilities.shape[0], classes, compute)


def cross_entropy_probabilities_by_target(
    probabilities: Floats,
    semantics: Semantics,
    options: Options,
    dtype: str,
    factor: Optional[Factor] = None,
) -> Truth:
    """f w_j (1 - eps) (-log p_j) under a guard: the gradient of each row in its distribution.

    Args:
        probabilities: (N, K).
        semantics: smoothing is "eps/K", or there is none; guard and renormalise are read here.
        options: weight and label_smoothing are read here. With weight 0 an entry is 0, also where
            -log p_j is infinite.
        dtype: format in which the numbers of the guard are rounded.
        factor: of each row.

    Returns:
        Zero as loss, and the gradient. It does not depend on the target: the loss is linear in it.

    Raises:
        ValueError: smoothing by another formula.
    """
    rows.demand_linear(semantics, options)
    classes = probabilities.shape[1]

    def compute(part: slice) -> Truth:
        nan = _any_nan(probabilities[part])
        usable, reason = _usable(probabilities[part], nan, semantics, dtype)
        own = rows.factor_part(factor, part)
        weights = rows.target_weights(options, classes, own)
        row = _Classes(usable, np.zeros(usable.shape), semantics, options, dtype, own)
        guarded = row.guarded()
        terms = _term(broadcast(weights, usable.shape), guarded.surprise)

        def settle_term(index: Index) -> Triple:
            i, j = index
            weight = rows.target_weight(options, rows.factor_of_row(own, i), j)
            formula = row.formula([(weight, guarded.arguments(i)[j])])
            return settle(formula, lambda: row.name(i))

        return rows.only_gradient(repaired(terms, None, settle_term), nan, reason)

    return rows.in_passes(probabilities.shape[0], classes, compute)


def _any_nan(values: Floats) -> Booleans:
    return np.asarray(np.isnan(values).any(axis=1))


def _usable(
    given: Floats, nan: Booleans, semantics: Semantics, dtype: str
) -> tuple[Floats, NDArray[np.str_]]:
    """Rows with 1/2 in place of those without a value, and why the latter have none."""
    usable = np.where(nan[:, None], 0.5, given)
    reason = _why_undefined(usable, semantics, dtype)
    return np.where((reason != "")[:, None], 0.5, usable), reason


@dataclass(frozen=True, eq=False)
class _Guarded:
    """-log of the guarded probabilities.

    Attributes:
        surprise: (N, K).
        arguments: the x_j of a row in surprise = log x_j; None where the clamp of the log holds.
        gradient: (N, K) of the loss of each row in the probabilities.
    """

    surprise: Exact
    arguments: Callable[[int], list[Optional[Fraction]]]
    gradient: Callable[[], Exact]


@dataclass(frozen=True, eq=False)
class _Classes:
    """One pass of cross-entropy from probabilities, and its fallback."""

    given: Floats
    target: NDArray[Any]
    semantics: Semantics
    options: Options
    dtype: str
    factor: Optional[Factor]

    @cached_property
    def weights(self) -> Exact:
        conventions = self.semantics, self.options, self.factor
        return rows.coefficients(self.target, self.given.shape[1], *conventions)

    def slow_weights(self, row: int) -> list[Fraction]:
        target = np.asarray(self.target[row])
        conventions = self.semantics, self.options, rows.factor_of_row(self.factor, row)
        return rows.exact_coefficients(target, self.given.shape[1], *conventions)

    def clipped(self) -> tuple[Floats, Booleans]:
        return _clipped(self.given, self.semantics, self.dtype)

    def guarded(self) -> _Guarded:
        compute = {"before": _normalised_then_guarded, "after": _guarded_then_normalised}
        return compute.get(self.semantics.renormalise, _guarded)(self)

    def formula(self, terms: Sequence[tuple[Fraction, Optional[Fraction]]]) -> Formula:
        """sum of a log x over the (a, x), where x is None the clamp of the log."""
        fixed, pairs = Fraction(0), []
        for weight, argument in terms:
            if argument is None:
                fixed -= weight * Fraction(self.semantics.guard_floor)
            elif weight:
                pairs.append((weight, argument))
        return lambda digits: log_sum(fixed, pairs, digits)

    def name(self, row: int) -> str:
        numbers = [p.hex() for p in self.given[row].tolist()]
        return (
            f"cross-entropy of probabilities {numbers}, target {self.target[row]}, {self.options}"
        )


def _why_undefined(p: Floats, semantics: Semantics, dtype: str) -> NDArray[np.str_]:
    clipped = p if semantics.renormalise == "before" else _clipped(p, semantics, dtype)[0]
    negative = (clipped < 0.0).any(axis=1) | np.isinf(clipped).any(axis=1)
    divides = semantics.renormalise != "no"
    empty = (clipped == 0.0).all(axis=1) & divides
    return rows.reasons(negative, rows.NOT_A_PROBABILITY, empty, rows.NO_MASS)


def _guarded(row: _Classes) -> _Guarded:
    """loss = -sum a_j log g(p_j), gradient -a_j / p_j where the guard does not act."""
    p, moved = row.clipped()
    exact = Exact.from_float(p)
    logarithm, low = _floored(log(exact), row.semantics)

    def arguments(i: int) -> list[Optional[Fraction]]:
        # A zero has no finite logarithm; its term is absent whenever this is asked for.
        return [None if low[i, j] else 1 / Fraction(x) if x else ONE for j, x in enumerate(p[i])]

    def settle_gradient(index: Index) -> Triple:
        return triple(-row.slow_weights(index[0])[index[1]] / Fraction(float(p[index])))

    def gradient() -> Exact:
        slope = negate(_ratio(row.weights, exact))
        return repaired(where(moved | low, constant(0.0), slope), None, settle_gradient)

    return _Guarded(negate(logarithm), arguments, gradient)


def _normalised_then_guarded(row: _Classes) -> _Guarded:
    """loss = -sum a_j log g(p_j / P), P = sum p.

    Where the guard does not act, -log(p_j / P) = log1p((P - p_j) / p_j). With a' = a there and 0
    elsewhere, the gradient is (p_j sum_{i != j} a'_i - a'_j sum_{i != j} p_i) / (P p_j), and
    sum a' / P where the guard acts.
    """
    mass = _Mass(row.given)
    surprise, acting, edges = _guarded_surprise(mass, row)

    def arguments(i: int) -> list[Optional[Fraction]]:
        return [
            mass.argument(i, j) if acting[i, j] else edges[i, j] for j in range(acting.shape[1])
        ]

    return _Guarded(surprise, arguments, lambda: _normalised_gradient(mass, row, acting))


def _guarded_then_normalised(row: _Classes) -> _Guarded:
    """loss = -sum a_j log(c_j / C), c = clip(p), C = sum c; the gradient is 0 where clipped."""
    clipped, moved = row.clipped()
    mass = _Mass(clipped)
    logarithm, low = _floored(negate(mass.surprise()), row.semantics)

    def arguments(i: int) -> list[Optional[Fraction]]:
        return [None if low[i, j] else mass.argument(i, j) for j in range(low.shape[1])]

    def gradient() -> Exact:
        return where(moved, constant(0.0), _normalised_gradient(mass, row, ~low))

    return _Guarded(negate(logarithm), arguments, gradient)


class _Mass:
    """Numbers p_j and their sums, for p_j / P."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.p = Exact.from_float(values)
        self.others = exclusive_sums(self.p, largest(self.p))
        self.whole = total(self.p, axis=1).reshape(-1, 1)

    def surprise(self) -> Exact:
        """-log(p_j / P) = log1p((P - p_j) / p_j)."""
        return log1p_any(divided(self.others, self.p))

    def argument(self, row: int, j: int) -> Fraction:
        """P / p_j, or 1 for p_j = 0 (whose term is absent)."""
        own = Fraction(float(self.values[row, j]))
        return self.sum(row) / own if own else ONE

    def sum(self, row: int) -> Fraction:
        return sum((Fraction(x) for x in self.values[row].tolist()), Fraction(0))


def _normalised_gradient(mass: _Mass, row: _Classes, acting: Booleans) -> Exact:
    used = where(acting, row.weights, constant(0.0))
    rest = exclusive_sums(used, largest(used))
    bound = magnitude(rest)
    if (used.hi < 0.0).any():
        bound = total(magnitude(used), axis=1).reshape(-1, 1)
    rise = divided(rest, mass.whole)
    # a_j (P - p_j) / (P p_j); absent without a_j, also at p_j = 0.
    fall = _ratio(multiplied(used, mass.others), multiplied(mass.whole, mass.p))
    size = add(divided(bound, mass.whole), magnitude(fall))

    def settle_gradient(index: Index) -> Triple:
        i, j = index
        exact = [a if acting[i, k] else Fraction(0) for k, a in enumerate(row.slow_weights(i))]
        own, whole = Fraction(float(mass.values[i, j])), mass.sum(i)
        value = sum(exact, Fraction(0)) / whole
        return triple(value - exact[j] / own if exact[j] else value)

    return repaired(subtract(rise, fall), size, settle_gradient)


def _guarded_surprise(mass: _Mass, row: _Classes) -> tuple[Exact, Booleans, NDArray[np.object_]]:
    """-log g(p_j / P), where p_j / P is what it is, and elsewhere 1 / g (None under a floor)."""
    surprise = mass.surprise()
    edges = np.full(mass.values.shape, None, dtype=object)
    if row.semantics.guard != "clip":
        logarithm, floored = _floored(negate(surprise), row.semantics)
        return negate(logarithm), ~floored, edges
    bounds = clip_bounds(row.semantics.guard_eps, row.dtype)
    below = subtract(mass.p, multiplied(mass.whole, constant(bounds[0]))).hi < 0.0
    above = subtract(multiplied(mass.whole, constant(bounds[1])), mass.p).hi < 0.0
    for mask, bound in ((below, bounds[0]), (above, bounds[1])):
        if mask.any():
            surprise = where(mask, negate(log(constant(bound))), surprise)
            edges[mask] = 1 / Fraction(bound)
    return surprise, ~(below | above), edges
