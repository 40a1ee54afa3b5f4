"""Focal loss (Lin et al., "Focal loss for dense object detection", ICCV 2017).

With q = 1 - p_t and L = -log p_t of the softmax (of [0, z] for the binary form):
    loss       = w q**g L
    dloss/dz_j = w (p_j - [j = t]) q**(g - 1) (q + g L p_t)
Only products and sums of terms of one sign: nothing cancels.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import rounded
from .certify import Index, repaired
from .decimals import Digits, Enclosure, Interval, Triple, settle
from .exact import Exact, add, multiplied, negate, scale, shift, subtract, where
from .functions import power
from .slow_rows import ONE, SoftmaxRow
from .softmax_rows import cross_entropy_truth
from .truth import constant
from .vocabulary import Floats, Options, Semantics

Array = NDArray[Any]

# |g log q| is below 2**12 wherever the result is not far below every format.
_POWER_SLACK = 14


def focal(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: Optional[ArrayLike] = None,
    dtype: str = "float64",
) -> Array:
    """w_y (1 - p_y)**gamma (-log p_y) for each row.

    Args:
        logits: (N, K) finite numbers.
        target: (N,) class indices.
        gamma: the exponent, at least 0.
        alpha: (K,) the w, or None for ones.
        dtype: format of the result.
    """
    return rounded(_rows(logits, target, gamma, alpha)[0], dtype)


def focal_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: Optional[ArrayLike] = None,
    dtype: str = "float64",
) -> Array:
    """(N, K): the gradient of each row of `focal`, whose arguments it takes."""
    return rounded(_rows(logits, target, gamma, alpha)[1], dtype)


def binary_focal(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: Optional[float] = None,
    dtype: str = "float64",
) -> Array:
    """The same with sigmoid probabilities; alpha weighs y = 1 and 1 - alpha (rounded) y = 0.

    Args:
        logits: any shape.
        target: 0 or 1, the same shape.
        gamma: the exponent, at least 0.
        alpha: None for no weights.
        dtype: format of the result.
    """
    z, weights = np.asarray(logits, dtype=np.float64), None
    if alpha is not None:
        weights = [1.0 - alpha, alpha]
    two = np.stack([np.zeros(z.size), z.reshape(-1)], axis=1)
    value = _rows(two, np.asarray(target).reshape(-1), gamma, weights)[0]
    return rounded(value.reshape(*z.shape), dtype)


def _rows(
    logits: ArrayLike, target: ArrayLike, gamma: float, alpha: Optional[ArrayLike]
) -> tuple[Exact, Exact]:
    z, labels = np.asarray(logits, dtype=np.float64), np.asarray(target)
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    if not (gamma >= 0.0 and np.isfinite(gamma)):
        raise ValueError(f"gamma {gamma!r} must be finite and not negative")
    labels = labels.astype(np.int64)
    plain = cross_entropy_truth(z, labels, Semantics(), Options())
    weight = np.ones(z.shape[1]) if alpha is None else np.asarray(alpha, dtype=np.float64)
    own = weight[labels]
    place = np.arange(z.shape[0]), labels
    doubt = negate(plain.gradient.take(place))
    slow = _Slow(z, labels, gamma, own)
    loss = scale(multiplied(power(doubt, gamma), plain.loss), own)
    pull = multiplied(scale(plain.loss, gamma), subtract(constant(1.0), doubt))
    factor = multiplied(power(doubt, gamma - 1.0), add(doubt, pull))
    factor = where(doubt.hi == 0.0, constant(0.0), scale(factor, own))
    gradient = multiplied(plain.gradient, factor.reshape(-1, 1))
    return (
        repaired(loss, shift(loss, _POWER_SLACK), slow.settle_loss),
        repaired(gradient, shift(gradient, _POWER_SLACK), slow.settle_gradient),
    )


class _Slow:
    """Single values by decimal intervals."""

    def __init__(self, z: Floats, labels: NDArray[np.int64], gamma: float, own: Floats) -> None:
        self._z, self._labels, self._gamma, self._own = z, labels, Fraction(gamma), own

    def settle_loss(self, index: Index) -> Triple:
        row = self._row(index[0])

        def formula(digits: Digits) -> Enclosure:
            doubt, loss = self._parts(index[0], row, digits)
            power = self._raise(doubt, self._gamma, digits)
            value = digits.multiply(power, loss)
            return digits.multiply(value, self._weight(index[0], digits))

        return settle(formula, lambda: self._name(index[0]))

    def settle_gradient(self, index: Index) -> Triple:
        i, j = index
        row = self._row(i)

        def formula(digits: Digits) -> Enclosure:
            doubt, loss = self._parts(i, row, digits)
            share = digits.subtract(digits.number(ONE), doubt)
            pull = digits.multiply(digits.multiply(loss, share), digits.number(self._gamma))
            power = self._raise(doubt, self._gamma - 1, digits)
            factor = digits.multiply(digits.add(doubt, pull), power)
            slope = _interval(row.gradient(j, None, digits), digits)
            value = digits.multiply(slope, factor)
            return digits.multiply(value, self._weight(i, digits))

        return settle(formula, lambda: self._name(i))

    def _row(self, i: int) -> SoftmaxRow:
        unit = [Fraction(int(j == self._labels[i])) for j in range(self._z.shape[1])]
        return SoftmaxRow(self._z[i].tolist(), unit)

    def _parts(self, i: int, row: SoftmaxRow, digits: Digits) -> tuple[Interval, Interval]:
        slope = _interval(row.gradient(int(self._labels[i]), None, digits), digits)
        return Interval(-slope.high, -slope.low), _interval(row.loss(digits), digits)

    @staticmethod
    def _raise(base: Interval, exponent: Fraction, digits: Digits) -> Interval:
        logarithm = digits.log(base)
        negative = Interval(-logarithm.high, -logarithm.low)
        product = digits.multiply(digits.number(-exponent), negative)
        return digits.exp_between(product)

    def _weight(self, i: int, digits: Digits) -> Interval:
        return digits.number(Fraction(float(self._own[i])))

    def _name(self, i: int) -> str:
        numbers = [z.hex() for z in self._z[i].tolist()]
        return f"focal loss of logits {numbers}, target {self._labels[i]}, gamma {self._gamma}"


def _interval(value: Enclosure, digits: Digits) -> Interval:
    return digits.number(value) if isinstance(value, Fraction) else value
