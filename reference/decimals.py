"""Intervals of decimal numbers, for the few values that double-double cannot decide.

Additions, products and quotients are rounded outward. exp and ln of the standard library's
`decimal` are correctly rounded, so that one step of the last digit outward encloses the truth.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple, Optional, Union

FIRST_DIGITS = 40
LAST_DIGITS = 20480

# exp(-g) for g above 4200 is replaced by 2**-6000. Such a term only says on which side of a
# boundary a sum lies: sums of products of two float64 numbers are multiples of 2**-2148 / K, so
# that no boundary lies between the sum with the true term and the sum with this one.
_FAR = 4200
_TINY = Fraction(1, 2**6000)

_BITS = 53


class Interval(NamedTuple):
    """low <= the number <= high."""

    low: Decimal
    high: Decimal

    def negated(self) -> Interval:
        """Exactly: the operator - would round to the digits of the thread's own context."""
        return Interval(self.high.copy_negate(), self.low.copy_negate())


Enclosure = Union[Interval, Fraction]
Triple = tuple[float, float, int]


class UndecidedError(ArithmeticError):
    """A value lies closer to a rounding boundary than the largest precision can tell."""


class Digits:
    """Interval arithmetic with a number of significant decimal digits."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self._down = _context(digits, decimal.ROUND_FLOOR)
        self._up = _context(digits, decimal.ROUND_CEILING)

    def number(self, value: Fraction) -> Interval:
        numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
        return Interval(
            self._down.divide(numerator, denominator), self._up.divide(numerator, denominator)
        )

    def add(self, a: Interval, b: Interval) -> Interval:
        return Interval(self._down.add(a.low, b.low), self._up.add(a.high, b.high))

    def subtract(self, a: Interval, b: Interval) -> Interval:
        return Interval(self._down.subtract(a.low, b.high), self._up.subtract(a.high, b.low))

    def multiply(self, a: Interval, b: Interval) -> Interval:
        """a b, where b is not negative."""
        low = self._down.multiply(a.low, b.low if a.low >= 0 else b.high)
        high = self._up.multiply(a.high, b.high if a.high >= 0 else b.low)
        return Interval(low, high)

    def divide(self, a: Interval, b: Interval) -> Interval:
        """a / b, where b is positive."""
        low = self._down.divide(a.low, b.high if a.low >= 0 else b.low)
        high = self._up.divide(a.high, b.low if a.high >= 0 else b.high)
        return Interval(low, high)

    def exp(self, x: Fraction) -> Interval:
        """e**x for x <= 0; below -4200 the stand-in 2**-6000."""
        if x == 0:
            return Interval(Decimal(1), Decimal(1))
        if x < -_FAR:
            return self.number(_TINY)
        return self.exp_between(self.number(x))

    def exp_between(self, x: Interval) -> Interval:
        """e**x for a number between two."""
        return Interval(self._outward_exp(x.low, -1), self._outward_exp(x.high, 1))

    def log(self, x: Interval) -> Interval:
        """ln x for x > 0."""
        near = _context(self.digits, decimal.ROUND_HALF_EVEN)
        low, high = near.ln(x.low), near.ln(x.high)
        if x.low != 1:
            low = near.next_minus(low)
        if x.high != 1:
            high = near.next_plus(high)
        return Interval(low, high)

    def log1p(self, x: Interval) -> Interval:
        """ln(1 + x) for x >= 0, with the digits that 1 + x needs to keep those of x."""
        if x.high == 0:
            return x
        lost = max(0, -x.low.adjusted())
        if 2 * lost > self.digits + 4:
            return self._log1p_series(x)
        more = Digits(self.digits + lost + 2)
        one = Interval(Decimal(1), Decimal(1))
        wide = more.log(more.add(one, x))
        return Interval(self._down.plus(wide.low), self._up.plus(wide.high))

    def _log1p_series(self, x: Interval) -> Interval:
        """x - x**2/2 <= ln(1 + x) <= x - x**2/2 + x**3/3."""
        up, down, half = self._up, self._down, Decimal("0.5")
        low = down.subtract(x.low, up.multiply(half, up.multiply(x.low, x.low)))
        square = down.multiply(half, down.multiply(x.high, x.high))
        cube = up.divide(up.power(x.high, 3), Decimal(3))
        return Interval(low, up.add(up.subtract(x.high, square), cube))

    def _outward_exp(self, x: Decimal, direction: int) -> Decimal:
        near = _context(self.digits, decimal.ROUND_HALF_EVEN)
        value = near.exp(x)
        return near.next_minus(value) if direction < 0 else near.next_plus(value)


def settle(formula: Callable[[Digits], Enclosure], describe: Callable[[], str]) -> Triple:
    """(hi, lo, exponent) of a number, decided on the right side of every rounding boundary.

    Args:
        formula: an enclosure of the number with the digits given, or the number as a Fraction.
        describe: names the input, for the error.

    Raises:
        UndecidedError: LAST_DIGITS digits were not enough.
    """
    digits = FIRST_DIGITS
    while digits <= LAST_DIGITS:
        found = decided(formula(Digits(digits)))
        if found is not None:
            return found
        digits *= 2
    raise UndecidedError(f"not decided with {LAST_DIGITS} digits: {describe()}")


def decided(enclosure: Enclosure) -> Optional[Triple]:
    """The number as (hi, lo, exponent) with lo rounded to odd, or None where it stays open.

    It is decided when both ends have the same nearest hi and lie on the same side of it: all that
    a rounding to 53 bits or fewer can ask.
    """
    if isinstance(enclosure, Fraction):
        return triple(enclosure)
    return decided_between(Fraction(enclosure.low), Fraction(enclosure.high))


def decided_between(low: Fraction, high: Fraction) -> Optional[Triple]:
    """`decided` for a number between two rational ones."""
    if (low > 0) != (high > 0) or (low < 0) != (high < 0):
        return None
    first, last = triple(low), triple(high)
    if low == high:
        return first
    same = (first[0], first[2]) == (last[0], last[2])
    one_side = min(first[1], last[1]) > 0.0 or max(first[1], last[1]) < 0.0
    return first if same and one_side else None


def triple(value: Fraction) -> Triple:
    """(hi, lo, exponent) of a rational number: hi nearest to 53 bits, lo rounded to odd."""
    # In integers: a Fraction would be reduced at each step.
    top, bottom = abs(value.numerator), value.denominator
    if top == 0:
        return 0.0, 0.0, 0
    exponent = top.bit_length() - bottom.bit_length()
    top, bottom = _times(top, bottom, -exponent)
    # Now 1/2 < top / bottom < 2.
    if top >= bottom:
        bottom, exponent = 2 * bottom, exponent + 1
    whole, rest = divmod(top << _BITS, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and whole % 2):
        whole, rest = whole + 1, rest - bottom
    bottom <<= _BITS
    if whole == 2**_BITS:
        whole, bottom, exponent = whole // 2, 2 * bottom, exponent + 1
    sign = 1 if value > 0 else -1
    return math.ldexp(sign * whole, -_BITS), _to_odd(Fraction(sign * rest, bottom)), exponent


def _times(top: int, bottom: int, power: int) -> tuple[int, int]:
    """top / bottom * 2**power."""
    return (top << power, bottom) if power >= 0 else (top, bottom << -power)


def _to_odd(rest: Fraction) -> float:
    """A number rounded to odd to 53 bits; what would underflow becomes the least of its sign."""
    if rest == 0:
        return 0.0
    sign = 1.0 if rest > 0 else -1.0
    size = abs(rest)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if exponent < -950:
        return sign * 5e-324
    top, bottom = _times(size.numerator, size.denominator, _BITS - exponent)
    whole, left = divmod(top, bottom)
    if whole >= 2**_BITS:
        whole, left = whole // 2, left or whole % 2
        exponent += 1
    return sign * math.ldexp(whole | bool(left), exponent - _BITS)


def _context(digits: int, rounding: str) -> Context:
    return Context(
        prec=digits,
        rounding=rounding,
        Emin=decimal.MIN_EMIN,
        Emax=decimal.MAX_EMAX,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero],
    )
