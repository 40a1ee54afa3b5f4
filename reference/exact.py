"""Numbers of about 106 bits with an exponent of their own, and their rounding to a format.

`Exact` is what the reference computes with: a pair of float64 numbers times a power of two.
The power is kept apart so that nothing underflows or overflows before the one rounding at the end.
Additions end in a rounding to odd, which keeps the knowledge that something was cut off:
without it `half an ulp + something tiny` would be rounded as a tie, the wrong way half of the time
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
rounding to odd", IEEE Trans. Computers 57(4), 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .doubledouble import Pair, add_odd, divide, least_sticky, multiply, two_sum
from .doubledouble import add as add_pairs
from .formats import Format, Integers, ulp_floor
from .vocabulary import Floats

Booleans = NDArray[np.bool_]

# Beyond these binary exponents every format has long overflowed or underflowed.
_FAR = 6000
_BITS = 53
# Scaled down by more than this, `lo` or `hi` may underflow.
_DEEP = -960
# The exponent given to zero where exponents are compared; far below every other.
_EXPONENT_OF_ZERO = -(1 << 60)


@dataclass(frozen=True, eq=False)
class Exact:
    """The numbers (hi + lo) * 2**exponent, element by element.

    Attributes:
        hi: float64; finite, or +-inf, or NaN (then lo = 0 and exponent = 0).
        lo: float64, |lo| <= ulp(hi) / 2; `hi` is hi + lo rounded to nearest.
        exponent: int64; hi is 0 or 0.5 <= |hi| < 1 wherever it is finite.
    """

    hi: Floats
    lo: Floats
    exponent: Integers

    @classmethod
    def from_float(cls, values: ArrayLike) -> Exact:
        """Exactly these float64 numbers."""
        array = np.asarray(values, dtype=np.float64)
        hi, exponent = np.frexp(array)
        return cls(hi, np.zeros_like(array), exponent.astype(np.int64))

    @classmethod
    def from_pair(cls, hi: Floats, lo: Floats, exponent: ArrayLike = 0) -> Exact:
        """(hi + lo) * 2**exponent for any hi and lo whose sum does not overflow."""
        with np.errstate(invalid="ignore"):
            hi, lo = two_sum(hi, lo)
        mantissa, shift = np.frexp(hi)
        regular = np.isfinite(hi) & (hi != 0.0)
        lo = np.where(regular, scale_sticky(lo, -shift.astype(np.int64)), 0.0)
        total = np.where(regular, shift + np.asarray(exponent, dtype=np.int64), 0)
        return cls(mantissa, lo, total)

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Exact:
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.hi.shape

    def take(self, rows: Any) -> Exact:
        """The elements at an index: rows, a mask, or a tuple for several axes."""
        return Exact(self.hi[rows], self.lo[rows], self.exponent[rows])

    def reshape(self, *shape: int) -> Exact:
        return Exact(
            self.hi.reshape(*shape), self.lo.reshape(*shape), self.exponent.reshape(*shape)
        )


def between(x: ArrayLike, low: int, high: int) -> NDArray[Any]:
    """x held between two integers: `np.clip`, which takes several times as long on short arrays."""
    return np.minimum(np.maximum(x, low), high)


def scale_sticky(x: Floats, shift: ArrayLike) -> Floats:
    """x * 2**shift, where what would underflow to zero becomes the least number of its sign."""
    moved = np.ldexp(x, between(shift, -4 * _FAR, 4 * _FAR).astype(np.int32))
    lost = (moved == 0.0) & (x != 0.0)
    return np.where(lost, least_sticky(x), moved) if lost.any() else moved


def where(condition: ArrayLike, a: Exact, b: Exact) -> Exact:
    """a where the condition holds, else b."""
    return Exact(
        np.where(condition, a.hi, b.hi),
        np.where(condition, a.lo, b.lo),
        np.where(condition, a.exponent, b.exponent),
    )


def put(a: Exact, index: Any, values: Exact) -> Exact:
    """a with the elements at an index replaced."""
    result = copied(a)
    result.hi[index], result.lo[index] = values.hi, values.lo
    result.exponent[index] = values.exponent
    return result


def copied(a: Exact) -> Exact:
    """a in arrays of its own."""
    return _mapped(a, np.array)


def broadcast(a: Exact, shape: tuple[int, ...]) -> Exact:
    """a stretched to a shape, without copying."""
    return _mapped(a, lambda part: np.broadcast_to(part, shape))


def _mapped(a: Exact, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Exact:
    return Exact(change(a.hi), change(a.lo), change(a.exponent))


def negate(a: Exact) -> Exact:
    return Exact(-a.hi, -a.lo, a.exponent)


def magnitude(a: Exact) -> Exact:
    """|a|."""
    return where(a.hi < 0.0, negate(a), a)


def shift(a: Exact, exponent: ArrayLike) -> Exact:
    """a * 2**exponent, exactly."""
    moved = np.where(_regular(a), a.exponent + np.asarray(exponent, dtype=np.int64), 0)
    return Exact(a.hi, a.lo, moved)


def add(a: Exact, b: Exact) -> Exact:
    """a + b with relative error 2**-104 of the exact sum, rounded to odd.

    Infinities and NaN follow IEEE 754.
    """
    top = np.maximum(_comparable_exponent(a), _comparable_exponent(b))
    top = np.maximum(top, _EXPONENT_OF_ZERO // 2)
    left, right = _aligned(a, top), _aligned(b, top)
    with np.errstate(invalid="ignore"):
        hi, lo = add_odd(left, right)
        plain = a.hi + b.hi
    result = Exact.from_pair(hi, lo, top)
    special = ~(np.isfinite(a.hi) & np.isfinite(b.hi))
    return where(special, _special(plain), result) if special.any() else result


def subtract(a: Exact, b: Exact) -> Exact:
    return add(a, negate(b))


def multiplied(a: Exact, b: Exact) -> Exact:
    """a * b with relative error 2**-102; infinities and NaN follow IEEE 754.

    A sticky `lo` does not survive: multiply first, add the tiny term last.
    """
    with np.errstate(invalid="ignore"):
        hi, lo = multiply((a.hi, a.lo), (b.hi, b.lo))
        plain = a.hi * b.hi
    result = Exact.from_pair(hi, lo, a.exponent + b.exponent)
    special = ~(np.isfinite(a.hi) & np.isfinite(b.hi))
    return where(special, _special(plain), result) if special.any() else result


def divided(a: Exact, b: Exact) -> Exact:
    """a / b with relative error 2**-100; infinities, zeros and NaN follow IEEE 754."""
    special = ~(np.isfinite(a.hi) & np.isfinite(b.hi)) | (b.hi == 0.0)
    safe = np.where(special, 1.0, b.hi) if special.any() else b.hi
    with np.errstate(invalid="ignore"):
        hi, lo = divide((a.hi, a.lo), (safe, b.lo))
    result = Exact.from_pair(hi, lo, a.exponent - b.exponent)
    if not special.any():
        return result
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = a.hi / b.hi
    return where(special, _special(plain), result)


def scale(a: Exact, factor: ArrayLike) -> Exact:
    """a times float64 numbers."""
    return multiplied(a, Exact.from_float(factor))


def total(a: Exact, axis: int = 0) -> Exact:
    """The sum along an axis by a tree of pairs, with relative error 2**-100 of sum |a|."""
    return _sum(a, axis, ordered=False)


def weighted_sum(a: Exact, axis: int = 0) -> Exact:
    """`total` after sorting the terms: a permutation of them does not change the result."""
    return _sum(a, axis, ordered=True)


def _sum(a: Exact, axis: int, *, ordered: bool) -> Exact:
    if a.shape[axis] == 0:
        return _special(np.zeros([n for i, n in enumerate(a.shape) if i != axis % len(a.shape)]))
    moved = _mapped(a, lambda part: np.moveaxis(part, axis, 0))
    top = np.max(_comparable_exponent(moved), axis=0)
    top = np.maximum(top, _EXPONENT_OF_ZERO // 2)
    with np.errstate(invalid="ignore"):
        terms = _aligned(moved, top[None])
        hi, lo = _tree_sum(_sorted(terms), add_odd) if ordered else _tree_sum(terms, add_pairs)
        plain = np.sum(moved.hi, axis=0)
    result = Exact.from_pair(hi, lo, top)
    special = ~np.isfinite(moved.hi).all(axis=0)
    return where(special, _special(plain), result) if special.any() else result


def to_float(a: Exact) -> Floats:
    """The nearest float64 (rounded once, in the subnormal range too)."""
    from .formats import FORMATS

    return round_exact(a, FORMATS["float64"])


def round_exact(exact: Exact, fmt: Format) -> Floats:
    """The value of the format nearest to the exact number, ties to even, rounded once.

    Below 2**emin it lies on the grid of the subnormals; from max + ulp(max)/2 on it is infinite.
    """
    if fmt.precision != _BITS:
        return _rounded(exact, fmt)
    # `hi` is the nearest number of 53 bits already; only a subnormal result has fewer.
    power = between(exact.exponent, -_FAR, _FAR).astype(np.int32)
    with np.errstate(over="ignore"):
        result = np.asarray(np.ldexp(exact.hi, power))
    deep = power <= fmt.emin
    if deep.any():
        result[deep] = _rounded(exact.take(deep), fmt)
    return result


def _rounded(exact: Exact, fmt: Format) -> Floats:
    lattice = _on_lattice(exact, fmt)
    # The sign of (fraction - 1/2) + rest is right in float64 though its value is rounded.
    side = (lattice.fraction - 0.5) + lattice.rest
    odd = np.fmod(lattice.floor, 2.0) != 0.0
    rounded = lattice.floor + ((side > 0.0) | ((side == 0.0) & odd))
    return _off_lattice(rounded, lattice, exact, fmt)


def ulp_error(value: ArrayLike, exact: Exact, fmt: Format) -> Floats:
    """|value - R| / ulp(R) as a real number, ulp by Muller's definition on the exact value R.

    ulp(R) = 2**(max(floor(log2 |R|), emin) - precision + 1); at R = 0 the least subnormal.
    A value of another kind (NaN, infinite or finite) than R has an infinite error; so has a
    finite one that is further than 2**1024 ulps away. An infinity to which a finite R rounds has
    none.
    """
    given = np.asarray(value, dtype=np.float64)
    lattice = _on_lattice(exact, fmt)
    sign = np.where(exact.hi < 0.0, -1.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.ldexp(sign * given, -lattice.quantum.astype(np.int32))
        near, far = two_sum(scaled, -lattice.floor)
        error = np.abs((near - lattice.fraction) + (far - lattice.rest))
    error = np.where(np.isinf(scaled), np.inf, error)
    same = (np.isnan(given) & np.isnan(exact.hi)) | (given == exact.hi)
    if np.isinf(given).any():
        same = same | (given == round_exact(exact, fmt))
    special = ~(np.isfinite(given) & np.isfinite(exact.hi))
    return np.where(special, np.where(same, 0.0, np.inf), error)


def is_faithful(value: ArrayLike, exact: Exact, fmt: Format) -> Booleans:
    """Whether a value is one of the two of the format that enclose the exact number.

    Where the number itself belongs to the format, only that number is faithful.
    Above max the enclosing values are max and infinity.
    """
    given = np.asarray(value, dtype=np.float64)
    lattice = _on_lattice(exact, fmt)
    whole = (lattice.fraction == 0.0) & (lattice.rest == 0.0)
    under = (lattice.fraction == 0.0) & (lattice.rest < 0.0)
    below = lattice.floor - under
    low = _off_lattice(below, lattice, exact, fmt)
    high = _off_lattice(np.where(whole, below, below + 1.0), lattice, exact, fmt)
    finite = np.isfinite(exact.hi)
    low = np.where(np.isinf(low) & finite, np.copysign(fmt.max, exact.hi), low)
    return (given == low) | (given == high) | (np.isnan(given) & np.isnan(exact.hi))


@dataclass(frozen=True, eq=False)
class _Lattice:
    """|R| in units of the ulp of R: floor + fraction + rest, with 0 <= fraction < 1."""

    floor: Floats
    fraction: Floats
    rest: Floats
    quantum: Integers


def _on_lattice(exact: Exact, fmt: Format) -> _Lattice:
    hi, lo = np.abs(exact.hi), exact.lo * np.where(exact.hi < 0.0, -1.0, 1.0)
    exponent = between(exact.exponent, -_FAR, _FAR)
    # |R| in [2**(exponent-1), 2**exponent); one binade lower just below a power of two.
    binade = exponent - 1 - ((hi == 0.5) & (lo < 0.0))
    binade = np.where(hi == 0.0, fmt.emin, binade)
    quantum = np.maximum(binade, fmt.emin) - (fmt.precision - 1)
    finite = np.isfinite(hi)
    units = scale_sticky(np.where(finite, hi, 0.0), exponent - quantum)
    floor = np.floor(units)
    rest = scale_sticky(lo, exponent - quantum)
    quantum = np.where(finite & (hi != 0.0), quantum, ulp_floor(fmt))
    return _Lattice(floor, units - floor, rest, quantum)


def _off_lattice(units: Floats, lattice: _Lattice, exact: Exact, fmt: Format) -> Floats:
    with np.errstate(over="ignore"):
        magnitude = np.ldexp(units, between(lattice.quantum, -_FAR, _FAR).astype(np.int32))
    magnitude = np.where(magnitude > fmt.max, np.inf, magnitude)
    signed = np.copysign(magnitude, exact.hi)
    return np.where(np.isfinite(exact.hi), signed, exact.hi)


def _regular(a: Exact) -> Booleans:
    return np.isfinite(a.hi) & (a.hi != 0.0)


def _special(values: Floats) -> Exact:
    """Zeros, infinities and NaN as Exact."""
    return Exact(values, np.zeros_like(values), np.zeros(values.shape, dtype=np.int64))


def _comparable_exponent(a: Exact) -> Integers:
    return np.where(a.hi == 0.0, _EXPONENT_OF_ZERO, a.exponent)


def _aligned(a: Exact, top: Integers) -> Pair:
    gap = a.exponent - top
    hi, lo = scale_sticky(a.hi, gap), scale_sticky(a.lo, gap)
    far = gap < _DEEP
    # Two sticky numbers of opposite sign would cancel: where hi is one, it stands for both.
    return (hi, np.where(far, 0.0, lo)) if far.any() else (hi, lo)


def _sorted(pair: Pair) -> Pair:
    """Terms ordered by (hi, lo) along axis 0."""
    order = np.lexsort((pair[1], pair[0]), axis=0)
    return np.take_along_axis(pair[0], order, 0), np.take_along_axis(pair[1], order, 0)


def sum_pairs(hi: Floats, lo: Floats) -> Pair:
    """The sums of plain pairs over the last axis, with relative error 2**-100 of sum |pair|."""
    return _tree_sum((np.moveaxis(hi, -1, 0), np.moveaxis(lo, -1, 0)), add_pairs)


def _tree_sum(pair: Pair, plus: Callable[[Pair, Pair], Pair]) -> Pair:
    """Pairwise sum over axis 0."""
    hi, lo = pair
    while hi.shape[0] > 1:
        half = hi.shape[0] // 2
        left = plus((hi[:half], lo[:half]), (hi[half : 2 * half], lo[half : 2 * half]))
        if hi.shape[0] % 2:
            hi = np.concatenate([left[0], hi[-1:]])
            lo = np.concatenate([left[1], lo[-1:]])
        else:
            hi, lo = left
    return hi[0], lo[0]
