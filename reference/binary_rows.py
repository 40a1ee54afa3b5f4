"""Binary cross-entropy from logits, and the sigmoid with its kin.

With E = exp(-|z|), q = E / (1 + E) and the coefficients c1 = p y, c0 = 1 - y (p the pos_weight):
    loss     = (c1 if z < 0 else c0) |z| + (c1 + c0) log1p(E)
    dloss/dz = c0 - (c1 + c0) q if z > 0 else (c1 + c0) q - c1
Nothing cancels in the loss for y in [0, 1]; in the gradient only where y is close to sigmoid(z).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

import numpy as np

from . import truth as rows
from .certify import Parts, repaired, uncertain
from .decimals import Triple, settle
from .doubledouble import exp as exp_pair
from .exact import (
    Exact,
    add,
    divided,
    magnitude,
    multiplied,
    negate,
    put,
    scale,
    shift,
    subtract,
    where,
)
from .functions import exp, log1p
from .slow_rows import ONE, BinaryRow
from .truth import Factor, Truth, complement, constant
from .vocabulary import Floats, Options, Semantics

# A bound of 2**-98 is 2**-6 of the bound that `certify` assumes.
_SLACK = 6


@dataclass(frozen=True, eq=False)
class Factors:
    """What multiplies the rows of a binary cross-entropy, and which of its slopes is meant.

    Attributes:
        whole: the factor of each row.
        positive: (N,) pos_weight, row by row.
        by_target: the coefficients are those of the derivative with respect to the target:
            d c1/dy = p (1 - eps) and d c0/dy = -(1 - eps), where the loss has c1 and c0.
    """

    whole: Optional[Factor] = None
    positive: Optional[Floats] = None
    by_target: bool = False

    def take(self, part: slice) -> Factors:
        positive = None if self.positive is None else self.positive[part]
        return Factors(rows.factor_part(self.whole, part), positive, self.by_target)


NO_FACTORS = Factors()


def binary_cross_entropy_with_logits_truth(
    logits: Floats,
    target: Floats,
    semantics: Semantics,
    options: Options,
    factors: Factors = NO_FACTORS,
) -> Truth:
    """-(p y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))) for each row, and its gradient in z.

    Args:
        logits: (N, 1).
        target: (N, 1); usually in [0, 1]. Outside, the signed sum is what it is.
        semantics: smoothing "toward 1/2" makes y (1 - eps) + eps/2 of y.
        options: pos_weight, label_smoothing, and weight with one entry, are read here.
        factors: more of them, row by row.

    Returns:
        The rows; infinite logits by their limits. A row with NaN is NaN.

    Raises:
        ValueError: shapes that differ.
    """
    rows.demand_shape("logits", logits, 2)
    rows.demand_same_shape(target, logits)

    def compute(part: slice) -> Truth:
        row = logits[part, 0], target[part, 0]
        return _pass(*row, semantics, options, factors.take(part))

    return rows.in_passes(logits.shape[0], 1, compute)


def binary_coefficients(
    target: Floats, semantics: Semantics, options: Options, factors: Factors = NO_FACTORS
) -> tuple[Exact, Exact, bool]:
    """(c1, c0, exact): the factors of -log p and -log(1 - p), smoothed and weighted.

    They are exact unless `exact` is False; then they err by at most 2**-98 of themselves.
    """
    positive, negative = Exact.from_float(target), complement(target)
    if factors.by_target:
        positive, negative = (Exact.from_float(np.full(target.shape, s)) for s in (1.0, -1.0))
    eps, exact = options.label_smoothing, True
    if eps:
        _demand_smoothing(semantics)
        exact = False
        kept, added = complement(np.asarray(eps)), shift(constant(eps), -1)
        positive, negative = multiplied(positive, kept), multiplied(negative, kept)
        if not factors.by_target:
            positive, negative = add(positive, added), add(negative, added)
    for emphasis in (options.pos_weight, factors.positive):
        if emphasis is not None:
            exact = exact and _single(positive)
            positive = scale(positive, emphasis)
    weight = rows.class_weights(options, 1)
    if weight is not None:
        exact = exact and _single(positive, negative)
        positive, negative = scale(positive, weight), scale(negative, weight)
    if factors.whole is not None:
        whole = factors.whole.value
        exact = exact and factors.whole.exact and _single(positive, negative, whole)
        positive, negative = multiplied(positive, whole), multiplied(negative, whole)
    return positive, negative, exact


def _single(*numbers: Exact) -> bool:
    """Whether all are float64 numbers: the product of two such is exact as a pair."""
    return not any(a.lo.any() for a in numbers)


def exact_binary_coefficients(
    target: float,
    semantics: Semantics,
    options: Options,
    factors: Factors = NO_FACTORS,
    row: int = 0,
) -> tuple[Fraction, Fraction]:
    """`binary_coefficients` of one row as rational numbers."""
    y, eps = Fraction(target), Fraction(options.label_smoothing)
    if eps:
        _demand_smoothing(semantics)
    up, down = y * (1 - eps) + eps / 2, (1 - y) * (1 - eps) + eps / 2
    if factors.by_target:
        up, down = 1 - eps, eps - 1
    weight = Fraction(1) if options.weight is None else Fraction(options.weight[0])
    weight *= rows.factor_of_row(factors.whole, row)
    emphasis = Fraction(1) if options.pos_weight is None else Fraction(options.pos_weight)
    if factors.positive is not None:
        emphasis *= Fraction(float(factors.positive[row]))
    return weight * emphasis * up, weight * down


def _demand_smoothing(semantics: Semantics) -> None:
    if semantics.smoothing != "toward 1/2":
        raise ValueError(f"smoothing {semantics.smoothing!r} is not 'toward 1/2'")


def _pass(
    logits: Floats, target: Floats, semantics: Semantics, options: Options, factors: Factors
) -> Truth:
    nan = np.isnan(logits) | np.isnan(target)
    reason = rows.reasons(np.isinf(target) & ~nan, rows.INFINITE_TARGET)
    target = np.where(np.isfinite(target), target, 0.5)
    logits = np.where(np.isnan(logits), 0.0, logits)

    def slow(row: int) -> BinaryRow:
        y = float(target[row])
        found = exact_binary_coefficients(y, semantics, options, factors, row)
        return BinaryRow(float(logits[row]), *found)

    def describe(row: int) -> str:
        z, y = float(logits[row]).hex(), float(target[row]).hex()
        return f"binary cross-entropy of logit {z}, target {y}, {options}"

    def settle_loss(index: tuple[int, ...]) -> Triple:
        return settle(slow(index[0]).loss, lambda: describe(index[0]))

    def settle_gradient(index: tuple[int, ...]) -> Triple:
        return settle(slow(index[0]).gradient, lambda: describe(index[0]))

    positive, negative, exact = binary_coefficients(target, semantics, options, factors)
    both = add(positive, negative)
    growth = exp(negate(Exact.from_float(np.abs(logits))))
    value, doubt, moving, error = _loss(logits, growth, positive, negative, both, exact=exact)
    parts = Parts(lambda index: slow(index[0]).linear(), moving, error)
    loss = repaired(value, doubt, settle_loss, parts)
    value, size, moving, error = _slope(logits, growth, positive, negative, both, exact=exact)
    parts = Parts(lambda index: slow(index[0]).limit(), moving, error)
    gradient = repaired(value, size, settle_gradient, parts)
    gradient = gradient.reshape(-1, 1)
    return rows.finish(loss, gradient, nan, None, reason, doubt, lambda row: slow(row).loss)


def binary_losses(logits: Floats, target: Floats, semantics: Semantics) -> Exact:
    """(N,) the losses of `binary_cross_entropy_with_logits_truth` alone, without options."""
    losses = []
    for part in rows.passes(logits.size, 1):
        z, y = logits[part], target[part]
        ordinary = np.isfinite(z) & np.isfinite(y)
        safe, label = (np.where(ordinary, values, 0.0) for values in (z, y))
        size = -np.abs(safe)
        hi, lo, power = exp_pair((size, np.zeros_like(size)))
        growth = Exact.from_pair(hi, lo, power.astype(np.int64))
        if ((label == 0.0) | (label == 1.0)).all():
            linear = np.where((safe < 0.0) == (label == 1.0), np.abs(safe), 0.0)
            doubt = log1p(growth)
            value = add(Exact.from_float(linear), doubt)
        else:
            factors = Exact.from_float(label), complement(label), constant(1.0)
            value, doubt, _, _ = _loss(safe, growth, *factors, exact=True)
        places = np.flatnonzero(uncertain(value, doubt) | ~ordinary)
        if places.size:
            inputs = z[places, None], y[places, None]
            found = binary_cross_entropy_with_logits_truth(*inputs, semantics, Options())
            value = put(value, places, found.loss)
        losses.append(value)
    return rows.join_exact(losses)


def _bound_of_sum(positive: Exact, negative: Exact, both: Exact, *, exact: bool) -> Exact:
    """Numbers of which 2**-92 bounds the error of c1 + c0: terms of two signs may cancel."""
    size = magnitude(both)
    if not ((positive.hi < 0.0) | (negative.hi < 0.0)).any():
        return size
    terms = shift(add(magnitude(positive), magnitude(negative)), -_SLACK)
    return add(size, where((both.hi == 0.0) & exact, constant(0.0), terms))


def _loss(
    logits: Floats, growth: Exact, positive: Exact, negative: Exact, both: Exact, *, exact: bool
) -> tuple[Exact, Exact, Exact, Exact]:
    """(c1 if z < 0 else c0) |z| + (c1 + c0) log1p(E), and what in it is inexact.

    Then its last term, and what in that is inexact.
    """
    size = Exact.from_float(np.abs(logits))
    factor = where(logits < 0.0, positive, negative)
    linear = rows.nothing_times(factor, size, multiplied(factor, size))
    logarithm = log1p(growth)
    curved = multiplied(both, logarithm)
    error = multiplied(_bound_of_sum(positive, negative, both, exact=exact), logarithm)
    whole = (factor.lo == 0.0) & exact
    inexact = where(whole, constant(0.0), shift(magnitude(linear), -_SLACK))
    return add(linear, curved), add(error, inexact), curved, error


def _slope(
    logits: Floats, growth: Exact, positive: Exact, negative: Exact, both: Exact, *, exact: bool
) -> tuple[Exact, Exact, Exact, Exact]:
    """c0 - (c1 + c0) q for z > 0, (c1 + c0) q - c1 else, q = E / (1 + E); the rest as above."""
    probability = divided(growth, add(constant(1.0), growth))
    share = multiplied(both, probability)
    error = multiplied(_bound_of_sum(positive, negative, both, exact=exact), probability)
    up = logits > 0.0
    still = where(up, negative, negate(positive))
    moving = where(up, negate(share), share)
    # At z = 0 the share is half of a sum, and as exact as that.
    curved = where((logits == 0.0) & exact & (both.lo == 0.0), constant(0.0), error)
    inexact = constant(0.0) if exact else shift(magnitude(still), -_SLACK)
    return add(still, moving), add(curved, inexact), moving, error


def sigmoid(z: Floats) -> Exact:
    """1 / (1 + e**-z), of any shape: q for z < 0, 1 - q for z > 0, q = E / (1 + E)."""
    z = np.asarray(z, dtype=np.float64)
    growth = exp(negate(Exact.from_float(np.abs(z))))
    share = divided(growth, add(constant(1.0), growth))
    value = where(z > 0.0, subtract(constant(1.0), share), share)

    def settle_(index: tuple[int, ...]) -> Triple:
        slow = BinaryRow(float(z[index]), Fraction(0), ONE)
        return settle(slow.gradient, lambda: f"sigmoid of {float(z[index]).hex()}")

    return repaired(value, where(z == 0.0, constant(0.0), share), settle_)


def softplus(z: Floats) -> Exact:
    """log(1 + e**z) = max(z, 0) + log1p(e**-|z|), of any shape."""
    z = np.asarray(z, dtype=np.float64)
    curved = log1p(exp(negate(Exact.from_float(np.abs(z)))))

    def settle_(index: tuple[int, ...]) -> Triple:
        slow = BinaryRow(float(z[index]), Fraction(0), ONE)
        return settle(slow.loss, lambda: f"softplus of {float(z[index]).hex()}")

    return repaired(add(Exact.from_float(np.maximum(z, 0.0)), curved), curved, settle_)


def log_sigmoid(z: Floats) -> Exact:
    """log sigmoid(z) = -softplus(-z), of any shape."""
    return negate(softplus(-np.asarray(z, dtype=np.float64)))
