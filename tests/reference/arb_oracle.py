"""The truth by python-flint's Arb balls, and a rounding of its own: no code of the package.

A formula is a function without arguments that returns Arb balls at the current precision. It is
evaluated with more and more bits until both ends of every ball round to the same number.
exp(-g) for g > 4200 is 2**-6000: sums of products of two doubles are multiples of 2**-2148 / K, so
no boundary of rounding lies between the sum with the true term and the sum with this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import flint
import numpy as np
from flint import arb

FORMATS = {
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
}
FIRST_BITS, LAST_BITS = 192, 1 << 15
FAR = 4200


class InconclusiveError(AssertionError):
    """The ball still straddles a boundary with LAST_BITS bits."""


def exact(value: float | Fraction) -> arb:
    """A ball around a rational number; of radius zero for a float64."""
    fraction = Fraction(value)
    return arb(fraction.numerator) / arb(fraction.denominator)


def dyadic(ball: arb) -> tuple[int, int]:
    mantissa, exponent = ball.man_exp()
    return int(mantissa), int(exponent)


def ends(ball: arb) -> list[tuple[int, int]]:
    """Both ends of a ball as exact mantissa and exponent."""
    middle, middle_exponent = dyadic(ball.mid())
    radius, radius_exponent = dyadic(ball.rad())
    low = min(middle_exponent, radius_exponent)
    if radius == 0:
        return [(middle, middle_exponent)]
    middle <<= middle_exponent - low
    radius <<= radius_exponent - low
    return [(middle - radius, low), (middle + radius, low)]


def nearest(mantissa: int, exponent: int, fmt: str) -> float:
    """mantissa * 2**exponent rounded to a format, ties to even, in integers."""
    precision, emin, emax = FORMATS[fmt]
    if mantissa == 0:
        return 0.0
    size = abs(mantissa)
    quantum = max(size.bit_length() - 1 + exponent, emin) - precision + 1
    drop = quantum - exponent
    if drop <= 0:
        units = size << -drop
    else:
        units, rest = size >> drop, size & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        units += rest > half or (rest == half and units & 1)
    if units and units.bit_length() - 1 + quantum > emax:
        return math.inf if mantissa > 0 else -math.inf
    rounded_size = math.ldexp(units, quantum) if units else 0.0
    return rounded_size if mantissa > 0 else -rounded_size


def rounded(
    formula: Callable[[], Sequence[arb]], formats: Sequence[str] = ("float64",)
) -> dict[str, np.ndarray]:
    """The correctly rounded values of a formula in each format."""
    bits = FIRST_BITS
    while bits <= LAST_BITS:
        with flint.ctx.workprec(bits):
            balls = [ends(ball) for ball in formula()]
        found = {f: [[nearest(*end, f) for end in ball] for ball in balls] for f in formats}
        if all(pair[0] == pair[-1] for pairs in found.values() for pair in pairs):
            return {f: np.array([pair[0] for pair in pairs]) for f, pairs in found.items()}
        bits *= 2
    raise InconclusiveError(f"not decided with {LAST_BITS} bits")


def decaying_exp(gap: Fraction) -> arb:
    """e**-gap."""
    if gap == 0:
        return arb(1)
    return exact(Fraction(1, 2**6000)) if gap > FAR else (-exact(gap)).exp()


def softmax_parts(logits: Sequence[float]) -> tuple[int, list[Fraction | None], list[arb], arb]:
    """(argmax, gaps, e_j, S); gap None and e = 0 for -inf."""
    top = max(range(len(logits)), key=lambda j: logits[j])
    gaps = [None if z == -math.inf else Fraction(logits[top]) - Fraction(z) for z in logits]
    growth = [arb(0) if g is None else decaying_exp(g) for g in gaps]
    others = sum((e for j, e in enumerate(growth) if j != top), arb(0))
    return top, gaps, growth, others


def cross_entropy(logits: Sequence[float], weights: Sequence[Fraction]) -> arb:
    """sum_j a_j gap_j + A log1p(S)."""
    _, gaps, _, others = softmax_parts(logits)
    linear = sum((a * (g or 0) for a, g in zip(weights, gaps, strict=True)), Fraction(0))
    total = sum(weights, Fraction(0))
    return exact(linear) + exact(total) * others.log1p()


def cross_entropy_gradient(logits: Sequence[float], weights: Sequence[Fraction]) -> list[arb]:
    """A p_j - a_j, as (A - a_j) p_j - a_j (1 - p_j)."""
    top, _, growth, others = softmax_parts(logits)
    whole, total = 1 + others, sum(weights, Fraction(0))
    first = [i for i, e in enumerate(growth)]
    result = []
    for j, weight in enumerate(weights):
        if len(first) > 64:
            rest = others if j == top else whole - growth[j]
        else:
            rest = sum((growth[i] for i in first if i != j), arb(0))
        result.append((exact(total - weight) * growth[j] - exact(weight) * rest) / whole)
    return result


def binary_cross_entropy(logit: float, up: Fraction, down: Fraction) -> arb:
    """c1 softplus(-z) + c0 softplus(z)."""
    z = Fraction(logit)
    slope = up if z < 0 else down
    return exact(slope * abs(z)) + exact(up + down) * decaying_exp(abs(z)).log1p()


def binary_gradient(logit: float, up: Fraction, down: Fraction) -> arb:
    """c0 sigmoid(z) - c1 sigmoid(-z)."""
    growth = decaying_exp(abs(Fraction(logit)))
    left, right = (
        (exact(down), exact(up) * growth) if logit > 0 else (exact(down) * growth, exact(up))
    )
    return (left - right) / (1 + growth)


def log_fraction(x: Fraction) -> arb:
    """log x."""
    return exact(x - 1).log1p() if abs(x - 1) < Fraction(1, 4) else exact(x).log()
