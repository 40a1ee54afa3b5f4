"""The fast tier: float64 with an error bound decides most results of float32 and narrower formats.

A value L computed in float64 with |L - exact| <= B rounds rightly to a narrower format wherever
L - B and L + B round to the same number. The rest goes to double-double. The bounds hold for any
order of summation and for exp and log1p with errors up to 4 ulps (what NumPy's vectorised loops
promise); u = 2**-53. Fast and exact tier agree bit for bit, whatever the bound decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exact import Booleans, Exact, round_exact
from .formats import Format, round_to_format
from .vocabulary import Floats

_U = 2.0**-53
# Half as much again as the derivations need; also room for evaluating the bound itself.
_ROOM = 1.5
# Every exp may have underflowed: K of them by 2**-1075 each. Below every format but float64.
_UNDERFLOW = 2.0**-1000
# Entries per pass.
_PASS = 16384

Exactly = Callable[[NDArray[np.intp]], Exact]


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
        value, bound = _loss(logits[part], target[part])
        result[part], unsure[part] = _decide(value, bound, fmt)
    return _filled(result, unsure, fmt, exactly)


def _loss(logits: Floats, target: NDArray[Any]) -> tuple[Floats, Floats]:
    index = np.arange(logits.shape[0])
    top = logits.argmax(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        below = logits - logits[index, top][:, None]
        growth = np.exp(below)
        growth[index, top] = 0.0
        others = growth.sum(axis=1)
        # inf * 0 where a logit is -inf or far away: such a row goes to the exact tier.
        spread = -np.einsum("ij,ij->i", growth, below)
        gap = -below[index, target]
        curved = np.log1p(others)
        value = gap + curved
        slope = (16.0 + logits.shape[1]) * curved + spread
        bound = _ROOM * _U * (slope + gap + value) + _UNDERFLOW
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
            value = np.where(z < 0.0, y, 1.0 - y) * size + np.log1p(np.exp(-size))
            bound = np.where((y >= 0.0) & (y <= 1.0), _ROOM * 20 * _U * value, np.inf)
        result[part], unsure[part] = _decide(value, bound + _UNDERFLOW, fmt)
    return _filled(result, unsure, fmt, exactly)


def _decide(value: Floats, bound: Floats, fmt: Format) -> tuple[Floats, Booleans]:
    """The value rounded, and where the bound leaves a choice (or is no number)."""
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = round_to_format(value - bound, fmt), round_to_format(value + bound, fmt)
    return low, ~((low == high) & np.isfinite(low))


def _filled(result: Floats, unsure: Booleans, fmt: Format, exactly: Exactly) -> Floats:
    places = np.flatnonzero(unsure)
    if places.size:
        result[places] = round_exact(exactly(places), fmt)
    return result
