"""Focal loss (Lin et al., "Focal loss for dense object detection", ICCV 2017).

With q = 1 - p_t and L = -log p_t of the softmax (of [0, z] for the binary form):
    loss       = w q**g L
    dloss/dz_j = w (p_j - [j = t]) q**(g - 1) (q + g L p_t)
Only products and sums of terms of one sign: nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import by_parts
from .arguments import Array, Rows, classes_of, demand_labels, elements_of, not_negative
from .certify import Index, repaired
from .decimals import Digits, Enclosure, Interval, Triple, settle
from .exact import Exact, add, multiplied, negate, scale, shift, subtract, where
from .functions import power
from .slow_rows import ONE, SoftmaxRow
from .softmax_rows import cross_entropy_truth
from .truth import constant
from .vocabulary import Floats, Options, Semantics

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
        alpha: (K,) the w, finite and not negative, or None for ones.
        dtype: format of the result.
    """
    focus = _Focus.of(_rows_of(logits), target, gamma, alpha)
    return by_parts(focus.logits, dtype, lambda part: focus.parts(part)[0])


def focal_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: Optional[ArrayLike] = None,
    dtype: str = "float64",
) -> Array:
    """(N, K): the gradient of each row of `focal`, whose arguments it takes."""
    focus = _Focus.of(_rows_of(logits), target, gamma, alpha)
    classes = focus.logits.classes
    return by_parts(focus.logits, dtype, lambda part: focus.parts(part)[1], classes)


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
        alpha: in [0, 1], or None for no weights.
        dtype: format of the result.
    """
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha = {alpha!r} must lie in [0, 1]")
    weights = None if alpha is None else [1.0 - alpha, alpha]
    focus = _Focus.of(elements_of("logits", logits), target, gamma, weights)
    return by_parts(focus.logits, dtype, lambda part: focus.parts(part)[0])


def _rows_of(logits: ArrayLike) -> Rows:
    found = classes_of("logits", logits, -1)
    if len(found.shape) != 1:
        raise ValueError(f"logits must have 2 dimensions, not shape {found.array.shape}")
    return found


def _class_weights(alpha: Optional[ArrayLike], classes: int) -> Floats:
    if alpha is None:
        return np.ones(classes)
    weight = np.asarray(alpha, dtype=np.float64)
    if weight.shape != (classes,):
        raise ValueError(f"alpha must have {classes} entries, one per class, not {weight.shape}")
    wrong = np.flatnonzero(~not_negative(weight))
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(f"alpha[{at}] = {float(weight[at])!r} must be finite and not negative")
    return weight


@dataclass(frozen=True, eq=False)
class _Focus:
    """The rows of a call; logits without an axis of classes are those of the second of two."""

    logits: Rows
    labels: Rows
    gamma: float
    weight: Floats

    @classmethod
    def of(
        cls, logits: Rows, target: ArrayLike, gamma: float, alpha: Optional[ArrayLike]
    ) -> _Focus:
        logits.demand(np.isfinite, "= {} must be finite")
        if not (gamma >= 0.0 and np.isfinite(gamma)):
            raise ValueError(f"gamma {gamma!r} must be finite and not negative")
        classes = 2 if logits.axis is None else logits.classes
        given = np.asarray(target)
        if given.shape != logits.shape:
            raise ValueError(f"target has shape {given.shape}, class indices need {logits.shape}")
        labels = Rows("target", given, logits.shape)
        demand_labels(labels, classes, None)
        return cls(logits, labels, gamma, _class_weights(alpha, classes))

    def parts(self, part: slice) -> tuple[Exact, Exact]:
        """Loss and gradient of some rows."""
        z, labels, gamma = (
            self.logits.read(part),
            self.labels.raw(part).astype(np.int64),
            self.gamma,
        )
        if self.logits.axis is None:
            z = np.stack([np.zeros(z.size), z], axis=1)
        plain = cross_entropy_truth(z, labels, Semantics(), Options())
        own = self.weight[labels]
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
        return slope.negated(), _interval(row.loss(digits), digits)

    @staticmethod
    def _raise(base: Interval, exponent: Fraction, digits: Digits) -> Interval:
        product = digits.multiply(digits.number(-exponent), digits.log(base).negated())
        return digits.exp_between(product)

    def _weight(self, i: int, digits: Digits) -> Interval:
        return digits.number(Fraction(float(self._own[i])))

    def _name(self, i: int) -> str:
        numbers = [z.hex() for z in self._z[i].tolist()]
        return f"focal loss of logits {numbers}, target {self._labels[i]}, gamma {self._gamma}"


def _interval(value: Enclosure, digits: Digits) -> Interval:
    return digits.number(value) if isinstance(value, Fraction) else value
