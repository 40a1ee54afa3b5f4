"""Elementary functions of `Exact` numbers: exp, log1p and log.

Each says its relative error; none depends on the platform's libm (see `doubledouble.log1p`).
"""

from __future__ import annotations

import numpy as np

from . import doubledouble as dd
from .doubledouble import Pair
from .exact import Exact, add, scale, scale_sticky, where

# Below 2**-120 a series of two terms is more accurate than a pair can hold.
_SMALL = -120
_FAR = 2000
_LN2 = (float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56"))


def exp(a: Exact) -> Exact:
    """e**a, relative error below 2**-98; e**-inf is 0, and otherwise the result is never 0.

    Arguments beyond +-2**30 are taken as +-2**30: those results are beyond every format.
    """
    finite = np.isfinite(a.hi)
    safe = a if finite.all() else where(finite, a, Exact.from_float(np.zeros(a.shape)))
    hi, lo, power = dd.exp(_as_pair(safe))
    result = Exact.from_pair(hi, lo, power.astype(np.int64))
    if safe is a:
        return result
    with np.errstate(over="ignore"):
        return where(finite, result, Exact.from_float(np.exp(np.where(finite, 0.0, a.hi))))


def log1p(a: Exact) -> Exact:
    """log(1 + a) for a >= -0.292, relative error below 2**-97; a may be +inf or NaN."""
    ordinary = (a.exponent > _SMALL) & np.isfinite(a.hi) & (a.hi != 0.0)
    if ordinary.all():
        return Exact.from_pair(*dd.log1p(_as_pair(a)))
    one = Exact.from_float(np.ones(a.shape))
    result = Exact.from_pair(*dd.log1p(_as_pair(where(ordinary, a, one))))
    # log(1 + a) = a - a**2/2 + ...: below 2**-120 the second term is below the error bound.
    return where(ordinary, result, a)


def log(a: Exact) -> Exact:
    """log a for a >= 0, relative error below 2**-96 also near 1; log 0 = -inf, log of less is NaN.

    a = m 2**e with 0.7 < m < 1.42, log a = e ln2 + log1p(m - 1): the two parts never cancel,
    for |log m| < 0.36 and e is 0 or |e| ln2 > 0.69.
    """
    regular = np.isfinite(a.hi) & (a.hi > 0.0)
    safe = where(regular, a, Exact.from_float(np.ones(a.shape)))
    low = safe.hi < np.sqrt(0.5)
    power = safe.exponent - low
    mantissa = Exact(safe.hi, safe.lo, safe.exponent - power)
    part = log1p(add(mantissa, Exact.from_float(np.full(a.shape, -1.0))))
    whole = power.astype(np.float64)
    hi, lo = dd.multiply_float((np.full(a.shape, _LN2[0]), np.full(a.shape, _LN2[1])), whole)
    result = add(part, Exact.from_pair(hi, lo))
    if regular.all():
        return result
    with np.errstate(divide="ignore", invalid="ignore"):
        special = Exact.from_float(np.log(np.where(regular, 1.0, a.hi)))
    return where(regular, result, special)


def _as_pair(a: Exact) -> Pair:
    """The plain pair of numbers that are not too large; what underflows stays non-zero."""
    power = np.clip(a.exponent, -_FAR, 40)
    return scale_sticky(a.hi, power), scale_sticky(a.lo, power)


def log1p_any(a: Exact) -> Exact:
    """log(1 + a) for any a >= 0, +inf included: by `log` above 1, where adding 1 loses nothing."""
    big = ~(a.exponent < 2) | ~np.isfinite(a.hi)
    one = Exact.from_float(np.ones(a.shape))
    small = log1p(where(big, one, a))
    return where(big, log(add(one, a)), small) if big.any() else small


def power(base: Exact, exponent: float) -> Exact:
    """base**exponent = exp(exponent log base) for base >= 0; 0 for base 0."""
    if exponent == 0.0:
        return Exact.from_float(np.ones(base.shape))
    if exponent == 1.0:
        return base
    zero = base.hi == 0.0
    safe = where(zero, Exact.from_float(np.asarray(1.0)), base)
    return where(zero, Exact.from_float(np.asarray(0.0)), exp(scale(log(safe), exponent)))
