"""Ziv's test: is a double-double value far enough from every boundary of rounding?

A value with an error bound is certain when no boundary lies within the bound: neither a number of
53 bits (where the rounding to narrower formats and the sense of 'enclosing' change) nor a midpoint
between two. What is uncertain is computed again by `decimals.settle`.

Source: Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last bit",
ACM TOMS 17(3), 1991.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

import numpy as np

from .decimals import Triple, decided_between
from .exact import Booleans, Exact, between, copied

# Every formula of this room's double-double code is accurate to 2**-95 of the terms it names; the
# test leaves a factor of 8.
_RELATIVE = -92
_HALF_ULP = 2.0**-54

_FAR = 6000

Index = tuple[int, ...]
Settle = Callable[[Index], Triple]


def uncertain(value: Exact, size: Optional[Exact] = None) -> Booleans:
    """Where a boundary lies within 2**-92 size of the value.

    Args:
        value: the computed numbers.
        size: the magnitude of the terms whose error matters (|value| itself where None);
            0 says that the value is exact.
    """
    if size is None:
        error = np.abs(value.hi) * 2.0**_RELATIVE
        empty = value.hi == 0.0
    else:
        power = between(size.exponent - value.exponent + _RELATIVE, -3000, 900)
        # Where this underflows to 0 the term itself is in `lo` at most as the sticky number, with
        # the right sign; then any lo but 0 is clear of the boundary at 0.
        error = np.ldexp(np.abs(size.hi), power.astype(np.int32))
        empty = size.hi == 0.0
    rest = np.abs(value.lo)
    # Below a power of two the spacing is half as wide.
    inward = (value.lo != 0.0) & ((value.lo < 0.0) == (value.hi > 0.0))
    half = np.where((np.abs(value.hi) == 0.5) & inward, _HALF_ULP / 2, _HALF_ULP)
    clear = (rest > error) & (half - rest > error)
    return ~(clear | empty) & np.isfinite(value.hi)


@dataclass(frozen=True, eq=False)
class Parts:
    """Values as a sum of a rational number and a double-double one.

    Attributes:
        still: the rational part of the value at an index, or None where there is no such sum.
        moving: the other part.
        size: numbers of which 2**-92 bounds the error of the other part; itself where None.
    """

    still: Callable[[Index], Optional[Fraction]]
    moving: Exact
    size: Optional[Exact] = None

    def settle(self, index: Index) -> Optional[Triple]:
        """The sum at an index, where the error of its moving part leaves no choice."""
        still = self.still(index)
        if still is None:
            return None
        place = index if self.moving.hi.ndim == len(index) else index[:1]
        moving = as_fraction(self.moving, place)
        size = moving if self.size is None else as_fraction(self.size, place)
        margin = abs(size) * Fraction(2) ** _RELATIVE
        return decided_between(still + moving - margin, still + moving + margin)


def as_fraction(a: Exact, index: Index) -> Fraction:
    """One element; below 2**-6000 it is some number of that size with its sign (see `decimals`)."""
    mantissa = Fraction(float(a.hi[index])) + Fraction(float(a.lo[index]))
    return mantissa * Fraction(2) ** max(int(a.exponent[index]), -_FAR)


def repaired(
    value: Exact, size: Optional[Exact], settle: Settle, parts: Optional[Parts] = None
) -> Exact:
    """The values, the uncertain ones computed again.

    Args:
        value: the computed numbers.
        size: as in `uncertain`.
        settle: the number at an index, whatever it takes.
        parts: a cheaper way, asked first.
    """
    unclear = uncertain(value, size)
    if not unclear.any():
        return value
    result = copied(value)
    for place in np.argwhere(unclear):
        index = tuple(int(i) for i in place)
        found = parts.settle(index) if parts is not None else None
        hi, lo, exponent = settle(index) if found is None else found
        result.hi[index], result.lo[index], result.exponent[index] = hi, lo, exponent
    return result
