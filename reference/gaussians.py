"""Cross-entropy and divergence between two Gaussians, in closed form and correctly rounded.

For P = N(m, s**2) and Q = N(n, t**2), in nats:
    H(P, Q)   = log(2 pi) / 2 + log t + (s**2 + (m - n)**2) / (2 t**2)
    KL(P | Q) = log(t / s) + (s**2 + (m - n)**2) / (2 t**2) - 1/2
Every value is computed by decimal intervals: these are reference points, not a batch operation.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import rounded
from .decimals import Digits, Enclosure, Interval, settle
from .exact import Exact
from .slow_rows import log_sum

Array = NDArray[Any]
Formula = Callable[[Fraction, Fraction, Fraction, Fraction, Digits], Enclosure]

_HALF = Fraction(1, 2)


def gaussian_cross_entropy(
    mean: ArrayLike,
    deviation: ArrayLike,
    other_mean: ArrayLike,
    other_deviation: ArrayLike,
    *,
    dtype: str = "float64",
) -> Array:
    """-E_P[log q] for P = N(mean, deviation**2), q the density of the other; arrays broadcast."""
    return _settled(dtype, _cross_entropy, mean, deviation, other_mean, other_deviation)


def gaussian_kl_divergence(
    mean: ArrayLike,
    deviation: ArrayLike,
    other_mean: ArrayLike,
    other_deviation: ArrayLike,
    *,
    dtype: str = "float64",
) -> Array:
    """E_P[log p / q] for the two Gaussians; exactly 0 where they are equal."""
    return _settled(dtype, _kl_divergence, mean, deviation, other_mean, other_deviation)


def _cross_entropy(m: Fraction, s: Fraction, n: Fraction, t: Fraction, digits: Digits) -> Enclosure:
    logs = _interval(log_sum(_distance(m, s, n, t), [(Fraction(1), t)], digits), digits)
    double_pi = digits.add(_pi(digits), _pi(digits))
    return digits.add(logs, digits.multiply(digits.number(_HALF), digits.log(double_pi)))


def _kl_divergence(m: Fraction, s: Fraction, n: Fraction, t: Fraction, digits: Digits) -> Enclosure:
    return log_sum(_distance(m, s, n, t) - _HALF, [(Fraction(1), t / s)], digits)


def _distance(m: Fraction, s: Fraction, n: Fraction, t: Fraction) -> Fraction:
    return (s * s + (m - n) ** 2) / (2 * t * t)


def _settled(dtype: str, formula: Formula, *arguments: ArrayLike) -> Array:
    arrays = np.broadcast_arrays(*[np.asarray(a, dtype=np.float64) for a in arguments])
    for name, values in zip(("mean", "deviation", "other_mean", "other_deviation"), arrays):
        good = np.isfinite(values) & ((values > 0.0) | (not name.endswith("deviation")))
        if not good.all():
            raise ValueError(f"{name} = {float(values[~good][0])!r} is not valid")
    result = Exact.zeros(arrays[0].shape)
    for index in np.ndindex(arrays[0].shape):
        numbers = [Fraction(float(values[index])) for values in arrays]
        m, s, n, t = numbers

        def enclose(
            digits: Digits, m: Fraction = m, s: Fraction = s, n: Fraction = n, t: Fraction = t
        ) -> Enclosure:
            return formula(m, s, n, t, digits)

        found = settle(enclose, lambda given=numbers: f"Gaussians {[float(x) for x in given]}")
        result.hi[index], result.lo[index], result.exponent[index] = found
    return rounded(result, dtype)


def _pi(digits: Digits) -> Interval:
    """pi by Machin's formula, 16 atan(1/5) - 4 atan(1/239), in integers scaled by 10**places."""
    places = digits.digits + 10
    value = 16 * _arc_tangent(5, places) - 4 * _arc_tangent(239, places)
    # Fewer than 2 `places` truncations in each series, each below one unit, times 16 and 4.
    doubt = 100 * places
    scale = 10**places
    low = digits.number(Fraction(value - doubt, scale)).low
    return Interval(low, digits.number(Fraction(value + doubt, scale)).high)


def _arc_tangent(inverse: int, places: int) -> int:
    """atan(1/inverse) times 10**places, truncated term by term."""
    power = 10**places // inverse
    total, k = 0, 0
    while power:
        term = power // (2 * k + 1)
        total += -term if k % 2 else term
        power //= inverse * inverse
        k += 1
    return total


def _interval(value: Enclosure, digits: Digits) -> Interval:
    return digits.number(value) if isinstance(value, Fraction) else value
