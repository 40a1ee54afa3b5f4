"""The numbers of a format in their order, and which of them a sweep asks for.

A number is a sign and a magnitude: the bits without the sign bit, an integer m from 0 (zero) to
2^(W-1) - 1 (the last NaN), which orders the magnitudes. The key m of +x and -1 - m of -x orders all
numbers: -0 is the key -1, +0 the key 0, and NaN lie at both ends.

A stride N cuts the magnitudes into strata of N neighbours and takes one of each, by SplitMix64 of
the stratum and the seed: every N-th pattern would have the same low bits throughout. The strata of
zero and of infinity give just these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.formats import FORMATS, Format, decode, encode, round_to_format
from ...reference.vocabulary import Floats
from ..stream import mixed

WIDTHS = {"float32": 32, "bfloat16": 16, "float16": 16}
"""Bits of the formats that can be swept: float64 has too many numbers."""

Magnitudes = NDArray[np.int64]


def magnitudes(dtype: str) -> int:
    """How many there are: 2^(W-1), NaN among them."""
    return 1 << (WIDTHS[dtype] - 1)


def infinity(dtype: str) -> int:
    """The magnitude of infinity; greater ones are NaN."""
    return int(encode(np.inf, dtype))


def one(dtype: str) -> int:
    """The magnitude of 1."""
    return int(encode(1.0, dtype))


def numbers(which: Magnitudes, dtype: str) -> Floats:
    """The float64 values of magnitudes; NaN above infinity."""
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        if dtype == "float32":
            return which.astype(np.uint32).view(np.float32).astype(np.float64)
        return decode(which.astype(np.uint16), dtype)


def bits(which: Magnitudes, dtype: str, *, negative: bool) -> NDArray[np.unsignedinteger]:
    """The raw bits of magnitudes with a sign."""
    sign = magnitudes(dtype) if negative else 0
    return (which + sign).astype(f"u{WIDTHS[dtype] // 8}")


def key_text(key: int, dtype: str) -> str:
    """The number of a key as text that reads back: '-0.0', '1e-45', 'nan'."""
    magnitude = key if key >= 0 else -1 - key
    value = float(numbers(np.array([magnitude]), dtype)[0])
    return repr(-value if key < 0 else value)


def binade(which: Magnitudes, dtype: str) -> NDArray[np.int64]:
    """The exponent field: 0 for zero and subnormals, the last one for infinity and NaN."""
    return which >> (FORMATS[dtype].precision - 1)


def binades(dtype: str) -> int:
    """How many values the exponent field has."""
    return magnitudes(dtype) >> (FORMATS[dtype].precision - 1)


def binade_name(field: int, dtype: str) -> str:
    """Such as '2^-3' for [1/8, 1/4); 'subnormal' with zero, 'special' with infinity and NaN."""
    if field == 0:
        return "subnormal"
    if field == binades(dtype) - 1:
        return "special"
    return f"2^{field - 1 + FORMATS[dtype].emin}"


@dataclass(frozen=True)
class Span:
    """The keys that a sweep covers, from `low` to `high`, both included."""

    low: int
    high: int

    def holds(self, which: Magnitudes, *, negative: bool) -> NDArray[np.bool_]:
        keys = -1 - which if negative else which
        return (keys >= self.low) & (keys <= self.high)

    def strata(self, stride: int) -> tuple[int, int]:
        """The first stratum that has a number of the span, and the one behind the last."""
        sides = []
        if self.high >= 0:
            sides.append((max(self.low, 0), self.high))
        if self.low < 0:
            sides.append((-1 - min(self.high, -1), -1 - self.low))
        first, last = min(a for a, _ in sides), max(b for _, b in sides)
        return first // stride, last // stride + 1


def whole(dtype: str) -> Span:
    """All numbers of a format."""
    count = magnitudes(dtype)
    return Span(-count, count - 1)


def span(text: str, dtype: str) -> Span:
    """The span of 'LO:HI', both included; either may be left out, and infinities may be named.

    Raises:
        ValueError: in words for people.
    """
    low, colon, high = text.partition(":")
    if not colon:
        raise ValueError(f"the range {text!r} has no colon: LO:HI, such as -20:20 or 0:")
    fmt = FORMATS[dtype]
    ends = _end(low or "-inf", text), _end(high or "inf", text)
    if ends[0] > ends[1]:
        raise ValueError(f"the range {text!r} is empty: {low} is greater than {high}")
    found = Span(_first_key(ends[0], fmt), _last_key(ends[1], fmt))
    if found.low > found.high:
        raise ValueError(f"no number of {dtype} lies in the range {text!r}")
    return found


def _end(text: str, whole_text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if np.isnan(value):
        raise ValueError(f"the range {whole_text!r}: {text!r} is not a number")
    return value


def _first_key(value: float, fmt: Format) -> int:
    """The least key of a number that is not less."""
    with np.errstate(over="ignore"):
        near = float(round_to_format(value, fmt))
    key = _key(near, fmt.name)
    if near == 0.0 and value <= 0.0:
        return -1
    return key + 1 if near < value else key


def _last_key(value: float, fmt: Format) -> int:
    """The greatest key of a number that is not greater."""
    return -1 - _first_key(-value, fmt)


def _key(value: float, dtype: str) -> int:
    magnitude = int(encode(abs(value), dtype))
    return -1 - magnitude if value < 0 else magnitude


def chosen(start: int, stop: int, stride: int, seed: int, dtype: str) -> Magnitudes:
    """The magnitudes that are taken of the strata from `start` to before `stop`, in their order."""
    strata = np.arange(start, stop, dtype=np.int64)
    if stride == 1:
        return strata
    jitter = mixed(strata, "stratum", dtype, seed) % np.uint64(stride)
    found = strata * stride + jitter.astype(np.int64)
    for special in (0, infinity(dtype)):
        found = np.where(strata == special // stride, special, found)
    # The last stratum may reach past the end.
    return np.minimum(found, magnitudes(dtype) - 1)
