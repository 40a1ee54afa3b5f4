"""Binary floating-point formats: rounding to one, its spacing, and its bits.

Throughout the project an array is float64 and holds values of the named format exactly.
Every operation below is a power-of-two scaling and one rounding to an integer, so that no
result passes through a second format on its way (no double rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .vocabulary import Floats

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Format:
    """A binary format with subnormals: values m * 2**(e - precision + 1), |m| < 2**precision.

    Attributes:
        name: "float64", "float32", "bfloat16" or "float16".
        precision: bits of the significand, the hidden bit included.
        emin: exponent of the least normal number, 2**emin.
        emax: exponent of the largest binade, [2**emax, 2**(emax + 1)).
    """

    name: str
    precision: int
    emin: int
    emax: int

    @property
    def max(self) -> float:
        """The largest finite value."""
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax

    @property
    def least_normal(self) -> float:
        return 2.0**self.emin

    @property
    def least_subnormal(self) -> float:
        return 2.0 ** (self.emin - self.precision + 1)

    @property
    def unit_roundoff(self) -> float:
        """2**-precision: the largest relative error of one rounding in the normal range."""
        return 2.0**-self.precision


FORMATS: dict[str, Format] = {
    "float64": Format("float64", 53, -1022, 1023),
    "float32": Format("float32", 24, -126, 127),
    "bfloat16": Format("bfloat16", 8, -126, 127),
    "float16": Format("float16", 11, -14, 15),
}


def ulp_exponent(x: ArrayLike, fmt: Format) -> Integers:
    """The q with ulp(x) = 2**q: max(floor(log2 |x|), emin) - precision + 1.

    Source: Muller, "On the definition of ulp(x)", INRIA RR-5504, 2005.
    Zeros, infinities and NaN get the exponent of the least subnormal.
    """
    values = np.asarray(x, dtype=np.float64)
    binade = np.frexp(values)[1].astype(np.int64) - 1
    binade = np.where((values == 0.0) | ~np.isfinite(values), fmt.emin, binade)
    return np.maximum(binade, fmt.emin) - (fmt.precision - 1)


def round_to_format(x: ArrayLike, fmt: Format) -> Floats:
    """x rounded to the nearest value of the format, ties to even; overflow gives infinity.

    NaN, infinities and the sign of zero are kept.
    """
    values = np.array(x, dtype=np.float64)
    if fmt.precision == FORMATS["float64"].precision:
        return values
    quantum = ulp_exponent(values, fmt).astype(np.int32)
    with np.errstate(invalid="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)
    overflowed = np.abs(rounded) > fmt.max
    return np.where(overflowed, np.copysign(np.inf, values), rounded)


def next_up(x: ArrayLike, fmt: Format) -> Floats:
    """The least value of the format above x, where x is a value of the format.

    +inf and NaN give themselves; the largest finite value gives +inf; -inf gives -max.
    """
    values = np.asarray(x, dtype=np.float64)
    # Just below a power of two the spacing is half of the one that ulp_exponent gives.
    quantum = ulp_exponent(values, fmt)
    shrinks = (values < 0) & (np.abs(np.frexp(values)[0]) == 0.5) & (quantum > ulp_floor(fmt))
    step = np.ldexp(1.0, quantum - shrinks)
    with np.errstate(over="ignore"):
        moved = values + step
    moved = np.where(moved > fmt.max, np.inf, moved)
    moved = np.where(np.isneginf(values), -fmt.max, moved)
    return np.where(np.isnan(values) | np.isposinf(values), values, moved)


def next_down(x: ArrayLike, fmt: Format) -> Floats:
    """The greatest value of the format below x: the mirror image of `next_up`."""
    return -next_up(-np.asarray(x, dtype=np.float64), fmt)


def ulp_floor(fmt: Format) -> int:
    """Exponent of the least subnormal, below which no ulp goes."""
    return fmt.emin - fmt.precision + 1


def encode(values: ArrayLike, dtype: str) -> NDArray[Any]:
    """The raw bits of values of a format, as little-endian unsigned integers.

    Args:
        values: any shape; every value must be one of the format `dtype`.
        dtype: name of the format; bfloat16 is the upper half of float32.

    Returns:
        uint64 for float64, uint32 for float32, uint16 for bfloat16 and float16.

    Raises:
        ValueError: a value does not belong to the format; names its position.
    """
    array = np.asarray(values, dtype=np.float64)
    _demand_representable(array, FORMATS[dtype])
    if dtype == "float64":
        return array.astype("<f8").view("<u8")
    if dtype == "float16":
        return array.astype("<f2").view("<u2")
    bits = array.astype("<f4").view("<u4")
    if dtype == "float32":
        return bits
    upper = (bits >> np.uint32(16)).astype("<u2")
    # A NaN whose payload lies in the lower half would turn into an infinity.
    return np.where(np.isnan(array), np.asarray(0x7FC0, dtype="<u2"), upper)


def decode(bits: NDArray[Any], dtype: str) -> Floats:
    """The float64 values of raw bits: the inverse of `encode`."""
    if dtype not in FORMATS:
        raise ValueError(f"dtype must be one of {', '.join(FORMATS)}, not {dtype!r}")
    if dtype == "float64":
        return np.array(bits, dtype="<u8").view("<f8").astype(np.float64)
    if dtype == "float16":
        return np.array(bits, dtype="<u2").view("<f2").astype(np.float64)
    words = np.array(bits, dtype="<u4")
    if dtype == "bfloat16":
        words = np.asarray(words << np.uint32(16), dtype="<u4")
    return words.view("<f4").astype(np.float64)


def _demand_representable(array: Floats, fmt: Format) -> None:
    wrong = ~np.isnan(array) & (round_to_format(array, fmt) != array)
    if wrong.any():
        position = tuple(int(i) for i in np.argwhere(wrong)[0])
        value = float(array[position])
        raise ValueError(f"values{list(position)} = {value!r} is not a value of {fmt.name}")
