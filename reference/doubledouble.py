"""Double-double arithmetic: numbers of about 106 bits as unevaluated sums of two float64 numbers.

A `Pair` is (h, l) with |l| <= ulp(h) / 2 and value h + l. Nothing here scales: callers keep
magnitudes between 2**-900 and 2**900 (the exponent of `Exact` is kept apart for that).
All error-free transformations rest on IEEE 754 double arithmetic, rounded to nearest, without
contraction to fused operations and without flushing subnormals; `self_test` checks that at import.

Sources: Dekker, "A floating-point technique for extending the available precision", 1971;
Joldes, Muller, Popescu, "Tight and rigorous error bounds for basic building blocks of
double-word arithmetic", ACM TOMS 44(2), 2017.
"""

from __future__ import annotations

import numpy as np

from . import _tables
from .vocabulary import Floats

Pair = tuple[Floats, Floats]

# Veltkamp's constant: splits 53 bits into 26 and 26 and a sign.
_SPLITTER = 134217729.0
_STEPS = 512
_STEPS_PER_LN2 = _STEPS / 0.6931471805599453
# Past this the exponential is 0 or infinite in every format, and the reduction not exact.
_EXP_LIMIT = 2.0**30


def two_sum(a: Floats, b: Floats) -> Pair:
    """(s, e) with s = RN(a + b) and s + e = a + b exactly."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def fast_two_sum(a: Floats, b: Floats) -> Pair:
    """`two_sum` where |a| >= |b| or a = 0."""
    s = a + b
    return s, b - (s - a)


def two_prod(a: Floats, b: Floats) -> Pair:
    """(p, e): p = RN(a b) and p + e = a b exactly, for |a|, |b| < 2**900 and |a b| > 2**-900."""
    p = a * b
    t = _SPLITTER * a
    ah = t - (t - a)
    al = a - ah
    t = _SPLITTER * b
    bh = t - (t - b)
    bl = b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def least_sticky(x: Floats) -> Floats:
    """The least float64 number with the sign of x: it stands for 'not zero'."""
    return np.copysign(5e-324, x)


def round_to_odd(s: Floats, e: Floats) -> Floats:
    """s + e rounded to odd, where s = RN(s + e): exact, or the neighbour whose last bit is 1."""
    bits = np.asarray(s).view(np.int64)
    away = np.where((e > 0.0) == (s > 0.0), 1, -1)
    move = (e != 0.0) & ((bits & 1) == 0)
    return (bits + move * away).view(np.float64)


def add_odd(a: Pair, b: Pair) -> Pair:
    """a + b, accurate to 2**-104 of the exact sum, the low word rounded to odd."""
    high, rest = two_sum(a[0], b[0])
    low, least = two_sum(a[1], b[1])
    middle, tail = two_sum(rest, low)
    high, middle = two_sum(high, middle)
    least = round_to_odd(*two_sum(tail, least))
    return two_sum(high, round_to_odd(*two_sum(middle, least)))


def add(a: Pair, b: Pair) -> Pair:
    """a + b with relative error below 2**-104 (AccurateDWPlusDW: 3 u**2 + 13 u**3)."""
    sh, sl = two_sum(a[0], b[0])
    th, tl = two_sum(a[1], b[1])
    sh, sl = fast_two_sum(sh, sl + th)
    return fast_two_sum(sh, tl + sl)


def add_float(a: Pair, b: Floats) -> Pair:
    """a + b for one float64 number b; relative error below 2**-105 (DWPlusFP: 2 u**2)."""
    sh, sl = two_sum(a[0], b)
    return fast_two_sum(sh, sl + a[1])


def multiply(a: Pair, b: Pair) -> Pair:
    """a b with relative error below 2**-103 (DWTimesDW1: 7 u**2)."""
    p, e = two_prod(a[0], b[0])
    return fast_two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


def multiply_float(a: Pair, b: Floats) -> Pair:
    """a b for one float64 number b; relative error below 2**-104 (DWTimesFP2: 3 u**2)."""
    p, e = two_prod(a[0], b)
    return fast_two_sum(p, e + a[1] * b)


def divide(a: Pair, b: Pair) -> Pair:
    """a / b with relative error below 2**-102 (DWDivDW2: 15 u**2)."""
    quotient = a[0] / b[0]
    p, e = two_prod(quotient, b[0])
    remainder = ((a[0] - p) - e) + (a[1] - quotient * b[1])
    return fast_two_sum(quotient, remainder / b[0])


def exp(x: Pair) -> tuple[Floats, Floats, Floats]:
    """e**x as (h, l, k), value (h + l) 2**k with 1/2 < h < 4 and k a whole number.

    n = rint(512 x / ln 2), r = x - n ln2/512, e**x = 2**(n div 512) T[n mod 512] (1 + expm1(r)).
    Relative error below 2**-99 for |x| < 2**12; x is held within +-2**30, where the result is
    beyond every format and its digits no longer matter.
    """
    high = np.clip(x[0], -_EXP_LIMIT, _EXP_LIMIT)
    n = np.rint(high * _STEPS_PER_LN2)
    poly = _expm1_small(_reduce(high, x[1], n))
    steps = n.astype(np.int64)
    entry = steps & (_STEPS - 1)
    table = (_POWER_HIGH[entry], _POWER_LOW[entry])
    ph, pl = multiply(table, poly)
    sh, sl = fast_two_sum(table[0], ph)
    h, low = fast_two_sum(sh, sl + (table[1] + pl))
    return h, low, (steps >> 9).astype(np.float64)


def expm1(x: Pair) -> Pair:
    """e**x - 1 with relative error below 2**-98, for -0.34 < x < 700.

    Near zero 2**(n/512) - 1 comes from a table of its own, so that nothing cancels.
    """
    n = np.rint(x[0] * _STEPS_PER_LN2)
    poly = _expm1_small(_reduce(x[0], x[1], n))
    steps = n.astype(np.int64)
    entry = steps & (_STEPS - 1)
    scale = np.ldexp(1.0, (steps >> 9).astype(np.int32))
    near = steps < _STEPS
    power = (_POWER_HIGH[entry] * scale, _POWER_LOW[entry] * scale)
    index = np.where(near, steps + _tables.LEAST_STEP * -1, 0)
    less = add_float(power, np.asarray(-1.0))
    base = (
        np.where(near, _POWERM1_HIGH[index], less[0]),
        np.where(near, _POWERM1_LOW[index], less[1]),
    )
    return add(base, multiply(power, poly))


def log1p(x: Pair) -> Pair:
    """log(1 + x) with relative error below 2**-97, for x > -0.292 and |x| > 2**-200, x < 2**900.

    One Newton step in double-double from the float64 value, whose error it squares:
    y = y0 + rho - rho**2/2 with rho = (x - expm1(y0)) / (1 + expm1(y0)).
    """
    seed = np.log1p(x[0])
    growth = expm1((seed, np.zeros_like(seed)))
    above = add(x, (-growth[0], -growth[1]))
    rho = divide(above, add_float(growth, np.asarray(1.0)))
    step = add_float(rho, -0.5 * rho[0] * rho[0])
    return add_float(step, seed)


def _reduce(high: Floats, low: Floats, n: Floats) -> Pair:
    """high + low - n ln2/512: the first two products are exact (30 bits times at most 23)."""
    first = high - n * _tables.STEP_HIGH
    rh, error = two_sum(first, -n * _tables.STEP_MIDDLE)
    return two_sum(rh, error + (low - n * _tables.STEP_LOW))


def _expm1_small(r: Pair) -> Pair:
    """e**r - 1 for |r| <= ln2/1024, relative error below 2**-101: Taylor to r**8 / 8!.

    From r**5 on float64 is enough, since those terms are below 2**-48 of the first.
    """
    x = r[0]
    tail = x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * (1 / 40320))))
    sh, sl = fast_two_sum(np.full_like(x, _tables.FOURTH[0]), tail)
    poly = sh, sl + _tables.FOURTH[1]
    for constant in (_tables.THIRD, _tables.HALF):
        ph, pl = multiply(poly, r)
        sh, sl = fast_two_sum(np.full_like(x, constant[0]), ph)
        poly = fast_two_sum(sh, sl + (pl + constant[1]))
    ph, pl = multiply(multiply(r, r), poly)
    sh, sl = fast_two_sum(r[0], ph)
    return fast_two_sum(sh, sl + (pl + r[1]))


def _arrays(name: str) -> Pair:
    pairs = getattr(_tables, name)
    return (
        np.array([float.fromhex(high) for high, _ in pairs]),
        np.array([float.fromhex(low) for _, low in pairs]),
    )


def self_test() -> None:
    """Checks what this arithmetic relies on.

    Raises:
        RuntimeError: the processor flushes subnormal numbers to zero, operations are contracted
            to fused ones, or the rounding is not to nearest.
    """
    tiny = np.array([2.0**-1074, 2.0**-1060])
    if not np.array_equal(tiny * 0.5 + tiny * 0.5 + tiny, tiny + tiny * np.array([0.0, 1.0])):
        raise RuntimeError(
            "this thread flushes subnormal numbers to zero; the reference needs gradual underflow. "
            "Compute it in a process that did not switch flushing on (torch.set_flush_denormal, "
            "-ffast-math libraries)."
        )
    one = np.array([1.0 + 2.0**-52])
    p, e = two_prod(one, one)
    if p[0] != 1.0 + 2.0**-51 or e[0] != 2.0**-104:
        raise RuntimeError("float64 products are not rounded to nearest, or operations are fused")
    s, e = two_sum(np.array([1.0]), np.array([2.0**-53 + 2.0**-105]))
    if s[0] != 1.0 + 2.0**-52 or e[0] != 2.0**-105 - 2.0**-53:
        raise RuntimeError("float64 sums are not rounded to nearest, ties to even")


_POWERM1_HIGH, _POWERM1_LOW = _arrays("POWERS_LESS_ONE")
_POWER_HIGH, _POWER_LOW = add_float(
    (_POWERM1_HIGH[-_tables.LEAST_STEP :], _POWERM1_LOW[-_tables.LEAST_STEP :]), np.asarray(1.0)
)
self_test()
