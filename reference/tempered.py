"""Cross-entropy with a temperature or a z-loss: every value by decimal intervals.

With x = z / t and l = log sum_j exp(x_j):
    loss       = sum_j a_j (l - x_j) + c l**2
    dloss/dz_j = (A p_j - a_j + 2 c l p_j) / t
x is in general no float64 number, so that the double-double rows do not apply. A power of two as
temperature only scales the logits, and takes the fast way where nothing underflows.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Optional

import numpy as np

from . import truth as rows
from .decimals import Digits, Enclosure, Interval, Triple, settle
from .exact import Exact, copied, magnitude, shift
from .slow_rows import SoftmaxRow
from .softmax_rows import cross_entropy_truth, usable_logits
from .truth import Factor, Truth
from .vocabulary import Case, Floats, Semantics

# Makes every sum of such rows one for the decimals.
_UNKNOWN = 1000


def truth(
    case: Case,
    semantics: Semantics,
    temperature: Fraction,
    z_loss: Fraction,
    factor: Optional[Factor] = None,
) -> Truth:
    """The rows of a cross-entropy case with a temperature t > 0 and a factor of the z-loss.

    A factor of the rows multiplies the z-loss too.

    Raises:
        ValueError: an invalid label.
        UndecidedError: more digits than `decimals.LAST_DIGITS` would be needed. That the loss with
            a z-loss is never on a boundary of rounding has not been proved.
    """
    power = _exponent_of_two(temperature)
    if power is not None and not z_loss and _scales(case.inputs, power):
        scaled = cross_entropy_truth(
            np.ldexp(case.inputs, -power), case.target, semantics, case.options, factor
        )
        return replace(scaled, gradient=shift(scaled.gradient, -power))
    plain = cross_entropy_truth(case.inputs, case.target, semantics, case.options, factor)
    ignored = rows.ignored_rows(case.target, rows.ignore_index(semantics, case.options))
    usable, _, _ = usable_logits(case.inputs, semantics)
    loss, gradient = copied(plain.loss), copied(plain.gradient)
    if ignored.any():
        usable = np.where(ignored[:, None], 0.0, usable)

    def row_of(row: int) -> Row:
        own = rows.factor_of_row(factor, row)
        exact = [Fraction(0)] * usable.shape[1]
        if not ignored[row]:
            target = np.asarray(case.target[row])
            exact = rows.exact_coefficients(target, len(exact), semantics, case.options, own)
        return Row(usable[row], exact, temperature, Fraction(0) if ignored[row] else own * z_loss)

    for row in np.flatnonzero(np.isfinite(case.inputs).any(axis=1) & ~ignored).tolist():
        if plain.undefined[row] or np.isnan(plain.loss.hi[row]):
            continue
        tempered = row_of(row)
        if np.isfinite(plain.loss.hi[row]):
            _put(loss, (row,), tempered.settle_loss())
        for j in range(usable.shape[1]):
            _put(gradient, (row, j), tempered.settle_gradient(j))
    # Terms of two signs can cancel, and then only the decimals know how much is left.
    signed = z_loss < 0 or (case.target.ndim == 2 and bool((case.target < 0.0).any()))
    doubt = shift(magnitude(loss), _UNKNOWN if signed else 0)
    return Truth(loss, gradient, plain.undefined, plain.reason, doubt, lambda row: row_of(row).loss)


class Row:
    """One row: the softmax of z / t, coefficients a_j, and the factor c of the z-loss."""

    def __init__(
        self, logits: Floats, weights: list[Fraction], temperature: Fraction, z_loss: Fraction
    ) -> None:
        scaled = [z if np.isinf(z) else Fraction(z) / temperature for z in logits.tolist()]
        self._row = SoftmaxRow(scaled, weights)
        self._share = SoftmaxRow(scaled, [Fraction(0)] * len(weights))
        self._temperature, self._z_loss = temperature, z_loss
        self._name = f"logits {[z.hex() for z in logits.tolist()]}, temperature {temperature}"

    def settle_loss(self) -> Triple:
        return settle(self.loss, lambda: self._name)

    def settle_gradient(self, j: int) -> Triple:
        return settle(lambda digits: self._gradient(j, digits), lambda: self._name)

    def surprise(self, j: int) -> Triple:
        """-log p_j."""
        return settle(lambda digits: self._row.surprise(j, digits), lambda: self._name)

    def loss(self, digits: Digits) -> Enclosure:
        loss = self._row.loss(digits)
        if not self._z_loss:
            return loss
        size = _absolute(_interval(self._row.log_sum(digits), digits))
        square = digits.multiply(size, size)
        extra = digits.multiply(digits.number(self._z_loss), square)
        return digits.add(_interval(loss, digits), extra)

    def _gradient(self, j: int, digits: Digits) -> Enclosure:
        slope = self._row.gradient(j, None, digits)
        share = self._share.gradient(j, Fraction(1), digits)
        if self._z_loss and share != 0:
            level = _interval(self._row.log_sum(digits), digits)
            product = digits.multiply(level, _interval(share, digits))
            extra = digits.multiply(product, digits.number(abs(2 * self._z_loss)))
            if self._z_loss < 0:
                extra = extra.negated()
            slope = digits.add(_interval(slope, digits), extra)
        if isinstance(slope, Fraction):
            return slope / self._temperature
        return digits.divide(slope, digits.number(self._temperature))


def _interval(value: Enclosure, digits: Digits) -> Interval:
    return digits.number(value) if isinstance(value, Fraction) else value


def _absolute(value: Interval) -> Interval:
    if value.low >= 0:
        return value
    if value.high <= 0:
        return value.negated()
    return Interval(Decimal(0), max(value.negated().high, value.high))


def _exponent_of_two(value: Fraction) -> Optional[int]:
    size = max(value.numerator, value.denominator)
    if min(value.numerator, value.denominator) != 1 or size & (size - 1):
        return None
    power = size.bit_length() - 1
    return power if value.numerator > 1 else -power


def _scales(logits: Floats, power: int) -> bool:
    """Whether dividing by 2**power changes no digit."""
    scaled = np.ldexp(logits, -power)
    return bool(np.array_equal(np.ldexp(scaled, power), logits, equal_nan=True))


def _put(a: Exact, index: tuple[int, ...], value: Triple) -> None:
    a.hi[index], a.lo[index], a.exponent[index] = value
