"""The formulas of single values in decimal intervals: the fallback of the double-double rows.

Every input is a rational number. A value that is rational is returned as a Fraction, exactly; by
the theorem of Lindemann and Weierstrass every other value is transcendental, so that it is no
boundary of rounding and enough digits decide it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Optional, Union

from .decimals import Digits, Enclosure, Interval

Logit = Union[float, Fraction]
ONE = Fraction(1)
_MINUS_INFINITY = float("-inf")
# A sum of logarithms that fewer digits than these leave undecided is asked whether it is rational,
# which costs more than the digits do.
MANY_DIGITS = 160


class SoftmaxRow:
    """One row of `softmax_rows`: logits below +inf, and coefficients a_j."""

    def __init__(self, logits: Sequence[Logit], weights: Sequence[Fraction]) -> None:
        self._finite = [j for j, z in enumerate(logits) if z != _MINUS_INFINITY]
        top = max(self._finite, key=lambda j: logits[j])
        self._peak = Fraction(logits[top])
        self._gaps = {j: self._peak - Fraction(logits[j]) for j in self._finite}
        self._top = top
        self.weights = weights
        self._whole = sum(weights, Fraction(0))
        self._equal = not any(self._gaps.values())
        self._growths: dict[int, tuple[dict[int, Interval], Interval, Interval]] = {}

    def linear(self) -> Fraction:
        """sum_j a_j gap_j."""
        return sum((self.weights[j] * gap for j, gap in self._gaps.items() if gap), Fraction(0))

    def loss(self, digits: Digits) -> Enclosure:
        """sum_j a_j gap_j + A log1p(S)."""
        return self._plus_log(self.linear(), self._whole, digits)

    def rest(self, j: int) -> Fraction:
        """sum over i != j of a_i."""
        return self._whole - self.weights[j]

    def surprise(self, j: int, digits: Digits, factor: Fraction = ONE) -> Enclosure:
        """-factor log p_j = factor (gap_j + log1p(S))."""
        return self._plus_log(factor * self._gaps[j], factor, digits)

    def log_sum(self, digits: Digits) -> Enclosure:
        """log sum_j e**z_j = m + log1p(S)."""
        return self._plus_log(self._peak, ONE, digits)

    def gradient(self, j: int, rest: Optional[Fraction], digits: Digits) -> Enclosure:
        """(e_j rest - a_j sum_{i != j} e_i) / (1 + S); rest is sum_{i != j} a_i where None."""
        own = self.weights[j]
        rest = self.rest(j) if rest is None else rest
        if j not in self._gaps or rest == -own:
            return -own
        count = len(self._finite)
        if self._equal:
            return (rest - own * (count - 1)) / count
        growth, tail, whole = self._growth(digits)
        others = tail if j == self._top else digits.subtract(whole, growth[j])
        rise = digits.multiply(digits.number(rest), growth[j])
        fall = digits.multiply(digits.number(own), others)
        return digits.divide(digits.subtract(rise, fall), whole)

    def hessian_product(self, j: int, vector: Sequence[Fraction], digits: Digits) -> Enclosure:
        """A e_j sum_i e_i (v_j - v_i) / (1 + S)**2, terms of equal logits taken together."""
        if j not in self._gaps:
            return Fraction(0)
        pulls: dict[Fraction, Fraction] = {}
        for i, gap in self._gaps.items():
            pulls[gap] = pulls.get(gap, Fraction(0)) + self._whole * (vector[j] - vector[i])
        if not any(pulls.values()):
            return Fraction(0)
        if self._equal:
            return sum(pulls.values(), Fraction(0)) / len(self._finite) ** 2
        growth, _, whole = self._growth(digits)
        size = digits.number(Fraction(0))
        for gap, pull in pulls.items():
            if pull:
                size = digits.add(size, digits.multiply(digits.number(pull), digits.exp(-gap)))
        above = digits.multiply(size, growth[j])
        return digits.divide(above, digits.multiply(whole, whole))

    def _plus_log(self, linear: Fraction, factor: Fraction, digits: Digits) -> Enclosure:
        if factor == 0 or len(self._finite) == 1:
            return linear
        _, tail, _ = self._growth(digits)
        logarithm = digits.multiply(digits.number(factor), digits.log1p(tail))
        return digits.add(digits.number(linear), logarithm)

    def _growth(self, digits: Digits) -> tuple[dict[int, Interval], Interval, Interval]:
        """The e_j, S and 1 + S; kept, since many entries of a row may need them."""
        if digits.digits not in self._growths:
            growth = {j: digits.exp(-gap) for j, gap in self._gaps.items()}
            tail = digits.number(Fraction(0))
            for j, term in growth.items():
                if j != self._top:
                    tail = digits.add(tail, term)
            self._growths[digits.digits] = growth, tail, digits.add(digits.number(ONE), tail)
        return self._growths[digits.digits]


class BinaryRow:
    """One row of `binary_rows`: a logit and the factors of -log p and -log(1 - p).

    At an infinite logit the values are limits; those that are infinite are never asked for.
    """

    def __init__(self, logit: float, positive: Fraction, negative: Fraction) -> None:
        self._infinite = math.isinf(logit)
        self._logit = Fraction(math.copysign(1.0, logit) if self._infinite else logit)
        self._positive, self._negative = positive, negative

    def linear(self) -> Fraction:
        """(c1 if z < 0 else c0) |z|."""
        if self._infinite:
            return Fraction(0)
        return (self._positive if self._logit < 0 else self._negative) * abs(self._logit)

    def limit(self) -> Fraction:
        """The gradient far out: c0 for z > 0, -c1 else."""
        return self._negative if self._logit > 0 else -self._positive

    def loss(self, digits: Digits) -> Enclosure:
        """(c1 if z < 0 else c0) |z| + (c1 + c0) log1p(e**-|z|)."""
        linear, factor = self.linear(), self._positive + self._negative
        if factor == 0 or self._infinite:
            return linear
        logarithm = digits.log1p(digits.exp(-abs(self._logit)))
        product = digits.multiply(digits.number(factor), logarithm)
        return digits.add(digits.number(linear), product)

    def gradient(self, digits: Digits) -> Enclosure:
        """(c0 - c1 E) / (1 + E) for z > 0, (c0 E - c1) / (1 + E) else."""
        up, down = self._positive, self._negative
        if up == -down or self._infinite:
            return self.limit()
        if self._logit == 0:
            return (down - up) / 2
        growth = digits.exp(-abs(self._logit))
        still, moving = (down, -up) if self._logit > 0 else (-up, down)
        above = digits.add(digits.number(still), digits.multiply(digits.number(moving), growth))
        return digits.divide(above, digits.add(digits.number(ONE), growth))

    def curvature(self, by: Fraction, digits: Digits) -> Enclosure:
        """(c1 + c0) E / (1 + E)**2 times a rational number."""
        factor = (self._positive + self._negative) * by
        if self._infinite:
            return Fraction(0)
        if self._logit == 0 or factor == 0:
            return factor / 4
        growth = digits.exp(-abs(self._logit))
        whole = digits.add(digits.number(ONE), growth)
        above = digits.multiply(digits.number(factor), growth)
        return digits.divide(above, digits.multiply(whole, whole))


def log_sum(
    fixed: Fraction,
    terms: Sequence[tuple[Fraction, Fraction]],
    digits: Digits,
) -> Enclosure:
    """fixed + sum of c log x over the terms (c, x), x > 0."""
    grouped: dict[Fraction, Fraction] = {}
    for factor, argument in terms:
        # log(1/x) = -log x: terms that cancel exactly must do so here.
        sign, key = (1, argument) if argument >= 1 else (-1, 1 / argument)
        grouped[key] = grouped.get(key, Fraction(0)) + sign * factor
    left = {x: c for x, c in grouped.items() if c and x != 1}
    if not left:
        return fixed
    if digits.digits >= MANY_DIGITS and rational_multiple([(c, x) for x, c in left.items()]) == 0:
        return fixed
    total = digits.number(fixed)
    for argument, factor in left.items():
        logarithm = _log(argument, digits)
        total = digits.add(total, digits.multiply(digits.number(factor), logarithm))
    return total


def rational_multiple(
    terms: Sequence[tuple[Fraction, Fraction]], base: Fraction = ONE
) -> Optional[Fraction]:
    """r with sum of c log x = r log base over the terms (c, x), if there is a rational one.

    All numerators and denominators are powers of integers above 1 that are coprime in pairs; by
    unique factorisation the logarithms of those are linearly independent over the rationals. For
    base 1 the sum must be 0 itself.
    """
    whole = [n for _, x in terms for n in (x.numerator, x.denominator)]
    coprime = _coprime_base([*whole, base.numerator, base.denominator])
    found = [sum((c * _exponent(x, prime) for c, x in terms), Fraction(0)) for prime in coprime]
    units = [_exponent(base, prime) for prime in coprime]
    ratio = next((a / n for a, n in zip(found, units) if n), Fraction(0))
    return ratio if all(a == ratio * n for a, n in zip(found, units)) else None


def _coprime_base(numbers: Sequence[int]) -> list[int]:
    """Integers above 1, coprime in pairs, of which all the numbers are products."""
    base: list[int] = []
    left = [n for n in numbers if n > 1]
    while left:
        number = left.pop()
        for other in base:
            common = math.gcd(number, other)
            if common > 1:
                base.remove(other)
                left += [n for n in (common, number // common, other // common) if n > 1]
                break
        else:
            base.append(number)
    return base


def _exponent(x: Fraction, prime: int) -> int:
    """How often an element of a coprime base divides a product of such."""
    power, above, below = 0, x.numerator, x.denominator
    while above % prime == 0:
        above, power = above // prime, power + 1
    while below % prime == 0:
        below, power = below // prime, power - 1
    return power


def _log(x: Fraction, digits: Digits) -> Interval:
    """log x for x > 1, accurate also just above 1."""
    return digits.log1p(digits.number(x - 1))


def smoothed_weights(
    share: Sequence[Fraction], eps: float, formula: str, weight: Optional[Sequence[float]]
) -> list[Fraction]:
    """The a_j of `truth.coefficients` as exact numbers."""
    classes, e = len(share), Fraction(eps)
    whole = sum(share, Fraction(0))
    if not e:
        mixed = list(share)
    elif formula == "eps/K":
        mixed = [(1 - e) * q + e / classes for q in share]
    else:
        mixed = [(1 - e) * q + e / max(classes - 1, 1) * (whole - q) for q in share]
    if weight is None:
        return mixed
    return [Fraction(w) * a for w, a in zip(weight, mixed)]
