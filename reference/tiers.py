"""The fast tier: float64 with an error bound decides most results of float32 and narrower formats.

A value L computed in float64 with |L - exact| <= B rounds rightly to a narrower format wherever
L - B and L + B round to the same number. The rest goes to double-double. The bounds hold for any
order of summation and for exp and log1p with errors up to 4 ulps, of 2 u each, u = 2**-53.

4 ulps are what NumPy's vectorised loops promise, and a libm that NumPy falls back to errs less; at
first use both functions are compared with double-double at some thousand points. That is no proof,
but it finds a build whose functions are coarser (fast-math, a flush to zero): there every value
goes to double-double, slowly and rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import functions
from .exact import (
    Booleans,
    Exact,
    add,
    multiplied,
    round_exact,
    shift,
    subtract,
    ulp_error,
)
from .formats import FORMATS, Format, round_to_format
from .vocabulary import Floats

UNIT = 2.0**-53
# Half as much again as the derivations need; also room for evaluating the bound itself.
ROOM = 1.5
# Every exp may have underflowed: K of them by 2**-1075 each. Below every format but float64.
UNDERFLOW = 2.0**-1000
# Entries per pass.
_PASS = 16384
# The error of exp and log1p that the bounds allow for, in ulps.
_ULPS = 4.0
# Factors between these neither overflow nor take the underflows out of their bound.
_LEAST_FACTOR, _LARGEST_FACTOR = 2.0**-60, 2.0**60

Exactly = Callable[[NDArray[np.intp]], Exact]

# The functions of the platform that this tier and the curves call.
exp, expm1, log, log1p = np.exp, np.expm1, np.log, np.log1p


@lru_cache(maxsize=1)
def trusted() -> bool:
    """Whether those functions keep to 4 ulps, at fixed points of all magnitudes that occur."""
    steps = np.arange(1.0, 2048.0)
    decades = np.ldexp(1.0 + steps / 4096.0, -(steps.astype(np.int32) % 64))
    below = -np.concatenate([steps * (744.0 / 2048.0), decades])
    above = np.concatenate([steps / 64.0, decades, np.ldexp(decades, -900), np.ldexp(decades, 80)])
    double = FORMATS["float64"]
    shares = np.concatenate([decades, 1.0 - decades / 2.0, np.ldexp(decades, -140)])
    one = Exact.from_float(np.asarray(1.0))
    # The difference exp - 1 of pairs of 106 bits leaves more than 53 above this.
    near, tiny, half = below[below < -(2.0**-40)], np.ldexp(decades, -60), decades / 2.0
    left = np.ldexp(1.0 + steps / 4096.0, -1 - (steps.astype(np.int32) % 24))
    small = Exact.from_float(-tiny)
    checked = (
        (exp(below), functions.exp(Exact.from_float(below))),
        (expm1(near), subtract(functions.exp(Exact.from_float(near)), one)),
        (log1p(above), functions.log1p_any(Exact.from_float(above))),
        # Below, the third term of x + x^2/2 + ... is less than 2^-120 of it.
        (expm1(-tiny), add(small, shift(multiplied(small, small), -1))),
        # 1 - p is exact: the rest that a probability next to 1 leaves.
        (log1p(left - 1.0), functions.log(Exact.from_float(left))),
        (log1p(-half), functions.log(subtract(one, Exact.from_float(half)))),
        (log(shares), functions.log(Exact.from_float(shares))),
    )
    return all(bool(ulp_error(*pair, double).max() <= _ULPS) for pair in checked)


def takes(factor: float) -> bool:
    """Whether gradients may be multiplied by this factor here."""
    return _LEAST_FACTOR <= abs(factor) <= _LARGEST_FACTOR


def cross_entropy_loss(
    logits: Floats, target: NDArray[Any], fmt: Format, exactly: Exactly
) -> Floats:
    """(N,) gap_t + log1p(S), correctly rounded to a format narrower than float64.

    Args:
        logits: (N, K).
        target: (N,) valid class indices.
        fmt: the format.
        exactly: the exact losses of the rows with these numbers.

    The error of S relative to it is (8 + K + mean d) u with mean d = sum e_j d_j / S; log1p adds
    8 u, the two last operations u (gap + loss).
    """
    rows, classes = logits.shape
    result = np.empty(rows)
    unsure = np.zeros(rows, dtype=np.bool_)
    step = max(1, _PASS // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        value, bound = loss_values(logits[part], target[part])
        result[part], unsure[part] = _decide(value, bound, fmt)
    return _filled(result, unsure, fmt, exactly)


def loss_values(logits: Floats, target: NDArray[Any]) -> tuple[Floats, Floats]:
    """(N,) the losses of `cross_entropy_loss` in float64, and what they may be off by."""
    index = np.arange(logits.shape[0])
    top = logits.argmax(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        below = logits - logits[index, top][:, None]
        growth = exp(below)
        growth[index, top] = 0.0
        others = growth.sum(axis=1)
        # inf * 0 where a logit is -inf or far away: such a row goes to the exact tier.
        spread = -np.einsum("ij,ij->i", growth, below)
        gap = -below[index, target]
        curved = log1p(others)
        value = gap + curved
        slope = (16.0 + logits.shape[1]) * curved + spread
        bound = ROOM * UNIT * (slope + gap + value) + UNDERFLOW
    return value, bound


def cross_entropy_gradient(
    logits: Floats, target: NDArray[Any], factor: float, fmt: Format, exactly: Exactly
) -> Floats:
    """(N, K) factor e_j / (1 + S), at the target -factor (sum of the others) / (1 + S), rounded.

    Args:
        logits: (N, K).
        target: (N,) valid class indices.
        factor: a number within 2 u of the factor meant, of a size that `takes` allows.
        fmt: a format narrower than float64.
        exactly: the exact gradients (n, K) of the rows with these numbers.

    The error of e_j relative to it is (8 + d_j) u, that of a sum of them (8 + K + mean d) u with
    mean d = sum e_i d_i over the sum itself; the quotient and the factor add 4 u.
    """
    rows, classes = logits.shape
    result = np.empty((rows, classes))
    unsure = np.zeros(rows, dtype=np.bool_)
    step = max(1, _PASS // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        value, bound = gradient_values(logits[part], target[part], factor)
        result[part], doubtful = _decide(value, bound, fmt)
        unsure[part] = doubtful.any(axis=1)
    return _filled(result, unsure, fmt, exactly)


def gradient_values(logits: Floats, target: NDArray[Any], factor: float) -> tuple[Floats, Floats]:
    """(N, K) the gradients of `cross_entropy_gradient` in float64, and what they may be off by."""
    index, classes = np.arange(logits.shape[0]), logits.shape[1]
    top = logits.argmax(axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        below = logits - logits[index, top][:, None]
        growth = exp(below)
        # inf * 0 where a logit is -inf or far away: such a row goes to the exact tier.
        spread = -np.einsum("ij,ij->i", growth, below)
        own = growth[index, target]
        growth[index, target] = 0.0
        rest = growth.sum(axis=1)
        whole = rest + own
        value = growth
        value[index, target] = -rest
        value *= (factor / whole)[:, None]
        if classes == 1:
            value += 0.0  # without its sign
        slope = (24.0 + classes + spread / whole)[:, None] - below
        slope[index, target] = 24.0 + 2 * classes + spread / whole + spread / rest
        slope[index, target] = np.where(rest == 0.0, 0.0, slope[index, target])
        bound = ROOM * UNIT * np.abs(value) * slope + UNDERFLOW
    return value, bound


def binary_loss(logits: Floats, target: Floats, fmt: Format, exactly: Exactly) -> Floats:
    """(N,) lam |z| + log1p(e**-|z|), lam = y if z < 0 else 1 - y, for y in [0, 1].

    All terms are positive: the relative error is below (8 + 8 + 4) u.
    """
    result = np.empty(logits.size)
    unsure = np.zeros(logits.size, dtype=np.bool_)
    for start in range(0, logits.size, _PASS):
        part = slice(start, start + _PASS)
        z, y = logits[part], target[part]
        size = np.abs(z)
        with np.errstate(invalid="ignore", over="ignore"):
            value = np.where(z < 0.0, y, 1.0 - y) * size + log1p(exp(-size))
            bound = np.where((y >= 0.0) & (y <= 1.0), ROOM * 20 * UNIT * value, np.inf)
        result[part], unsure[part] = _decide(value, bound + UNDERFLOW, fmt)
    return _filled(result, unsure, fmt, exactly)


def binary_gradient(
    logits: Floats, target: Floats, factor: float, fmt: Format, exactly: Exactly
) -> Floats:
    """(N,) factor ((1 - y) - y E) / (1 + E), E = e**-z, for z > 0, its mirror image else, rounded.

    Args:
        logits: (N,).
        target: (N,); only 0 <= y <= 1 is decided here.
        factor: as in `cross_entropy_gradient`.
        fmt: a format narrower than float64.
        exactly: the exact gradients of the rows with these numbers.

    The two terms err by (8 + 2) u of themselves, their difference, the quotient and the factor by
    (8 + 1 + 1 + 1 + 3) u of the sum of their sizes.
    """
    result = np.empty(logits.size)
    unsure = np.zeros(logits.size, dtype=np.bool_)
    for start in range(0, logits.size, _PASS):
        part = slice(start, start + _PASS)
        z, y = logits[part], target[part]
        with np.errstate(invalid="ignore", over="ignore"):
            growth, other = exp(-np.abs(z)), 1.0 - y
            up = z > 0.0
            rise, fall = np.where(up, other, other * growth), np.where(up, y * growth, y)
            scale = factor / (1.0 + growth)
            # Where both have become 0, the one that is not 0 gives the sign.
            value = np.where((rise == 0.0) & (y > 0.0), -fall, rise - fall) * scale
            size = (rise + fall) * np.abs(scale)
            usable = (y >= 0.0) & (y <= 1.0) & np.isfinite(z)
            bound = np.where(usable, ROOM * 24 * UNIT * size, np.inf)
        result[part], unsure[part] = _decide(value, bound + UNDERFLOW, fmt)
    return _filled(result, unsure, fmt, exactly)


def _decide(value: Floats, bound: Floats, fmt: Format) -> tuple[Floats, Booleans]:
    """The value rounded, and where the bound leaves a choice (or is no number)."""
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = round_to_format(value - bound, fmt), round_to_format(value + bound, fmt)
    sure = (low == high) & np.isfinite(low) & trusted()
    # A zero keeps the sign of the value.
    return np.where(low == 0.0, np.copysign(low, value), low), ~sure


def _filled(result: Floats, unsure: Booleans, fmt: Format, exactly: Exactly) -> Floats:
    places = np.flatnonzero(unsure)
    if places.size:
        result[places] = round_exact(exactly(places), fmt)
    return result
