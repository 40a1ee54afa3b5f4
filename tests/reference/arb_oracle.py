"""The truth by python-flint's Arb balls, and a rounding of its own: no code of the package.

A formula is a function without arguments that returns Arb balls at the current precision. It is
evaluated with more and more bits until both ends of every ball round to the same number: what
cancels, or lies within exp(-g) of a midpoint, gets the 1.4427 g bits and more that it needs, and a
ball that is too wide is never taken for an answer.
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


def softmax_parts(
    logits: Sequence[float | Fraction],
) -> tuple[int, list[Fraction | None], list[arb], arb]:
    """(argmax, gaps, e_j, S); gap None and e = 0 for -inf."""
    top = max(range(len(logits)), key=lambda j: logits[j])
    gaps = [None if z == -math.inf else Fraction(logits[top]) - Fraction(z) for z in logits]
    growth = [arb(0) if g is None else decaying_exp(g) for g in gaps]
    others = sum((e for j, e in enumerate(growth) if j != top), arb(0))
    return top, gaps, growth, others


def cross_entropy(logits: Sequence[float | Fraction], weights: Sequence[Fraction]) -> arb:
    """sum_j a_j gap_j + A log1p(S)."""
    _, gaps, _, others = softmax_parts(logits)
    linear = sum((a * (g or 0) for a, g in zip(weights, gaps, strict=True)), Fraction(0))
    total = sum(weights, Fraction(0))
    return exact(linear) + exact(total) * others.log1p()


def cross_entropy_gradient(
    logits: Sequence[float | Fraction], weights: Sequence[Fraction]
) -> list[arb]:
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


def surprise(terms: Sequence[tuple[Fraction, Fraction]]) -> arb:
    """-sum of c log x over the terms (c, x)."""
    return -sum((exact(c) * log_fraction(x) for c, x in terms if c), arb(0))


def coefficients(
    share: Sequence[Fraction], weight: Sequence[Fraction], eps: Fraction, formula: str
) -> list[Fraction]:
    """The a_j of a smoothed and weighted target: eps spread over all classes or the others."""
    whole, classes = sum(share, Fraction(0)), len(share)
    added = [
        eps / classes if formula == "eps/K" else eps * (whole - q) / (classes - 1) for q in share
    ]
    return [w * ((1 - eps) * q + e) for w, q, e in zip(weight, share, added, strict=True)]


def tempered(
    logits: Sequence[float], weights: Sequence[Fraction], temperature: Fraction, z_loss: Fraction
) -> list[arb]:
    """sum_j a_j (l - x_j) + c l**2, x = z / t, l = log sum_j exp(x_j); then its gradient in z."""
    x = [Fraction(z) / temperature for z in logits]
    _, _, growth, others = softmax_parts(x)
    level, pull = exact(max(x)) + others.log1p(), 2 * exact(z_loss)
    loss = cross_entropy(x, weights) + exact(z_loss) * level * level
    slopes = cross_entropy_gradient(x, weights)
    return [
        loss,
        *(
            (slope + pull * level * e / (1 + others)) / exact(temperature)
            for slope, e in zip(slopes, growth, strict=True)
        ),
    ]


def hessian_product(logits: Sequence[float], vector: Sequence[float], whole: Fraction) -> list[arb]:
    """A p_j sum_i p_i (v_j - v_i), equal logits together."""
    _, gaps, growth, others = softmax_parts(logits)
    found = []
    for j, own in enumerate(growth):
        pulls: dict[Fraction, Fraction] = {}
        for i, gap in enumerate(gaps):
            step = Fraction(vector[j]) - Fraction(vector[i])
            if gap is not None:
                pulls[gap] = pulls.get(gap, Fraction(0)) + step
        terms = [exact(c * whole) * decaying_exp(g) for g, c in pulls.items() if c]
        found.append(own * sum(terms, arb(0)) / (1 + others) ** 2)
    return found


def binary_hessian_product(logit: float, whole: Fraction) -> arb:
    """A sigmoid(z) (1 - sigmoid(z))."""
    growth = decaying_exp(abs(Fraction(logit)))
    return exact(whole) * growth / (1 + growth) ** 2


class Guard:
    """g(x) = x, or x clipped into [RN(eps), RN(1 - eps)], or log g(x) = max(log x, -100)."""

    def __init__(self, kind: str | None = None, eps: float = 1e-7, dtype: str = "float64") -> None:
        self.kind = kind
        self.low, self.high = (
            Fraction(nearest(x.numerator, 1 - x.denominator.bit_length(), dtype))
            for x in (Fraction(eps), 1 - Fraction(eps))
        )

    def clip(self, x: Fraction) -> Fraction:
        return min(max(x, self.low), self.high) if self.kind == "clip" else x

    def log(self, x: Fraction) -> tuple[arb, bool]:
        """log g(x), and whether x was left as it is."""
        if self.kind == "clamp log" and (x == 0 or log_fraction(x) < -100):
            return arb(-100), False
        return log_fraction(self.clip(x)), self.clip(x) == x


def binary_probability(p: Fraction, up: Fraction, down: Fraction, guard: Guard) -> list[arb]:
    """-c1 log g(p) - c0 log g(1 - p), where a clip acts on p alone, and its derivative in p."""
    inside, clamp = guard.clip(p), Guard(guard.kind if guard.kind == "clamp log" else None)
    (here, free), (there, open_) = (
        clamp.log(x) if c else (arb(0), False) for c, x in ((up, inside), (down, 1 - inside))
    )
    slope = (down / (1 - inside) if open_ else 0) - (up / inside if free else 0)
    return [-(exact(up) * here + exact(down) * there), exact(slope if inside == p else 0)]


def class_probabilities(
    p: Sequence[Fraction], weights: Sequence[Fraction], guard: Guard, renormalise: str
) -> list[arb]:
    """-sum_j a_j log g(p_j), renormalised before g or after, or not; then its gradient in p."""
    moved = [False] * len(p)
    if renormalise == "after" and guard.kind == "clip":
        moved, p, guard = [guard.clip(x) != x for x in p], [guard.clip(x) for x in p], Guard()
    mass = Fraction(1) if renormalise == "no" else sum(p, Fraction(0))
    logs = [guard.log(x / mass) for x in p]
    loss = -sum((exact(a) * log for a, (log, _) in zip(weights, logs, strict=True) if a), arb(0))
    pulls = [a if free else Fraction(0) for a, (_, free) in zip(weights, logs, strict=True)]
    rise = Fraction(0) if renormalise == "no" else sum(pulls, Fraction(0)) / mass
    slopes = [rise - a / x if a else rise for a, x in zip(pulls, p, strict=True)]
    return [loss, *(exact(Fraction(0) if m else s) for m, s in zip(moved, slopes, strict=True))]


def focal(logits: Sequence[float], label: int, gamma: float, weight: Fraction) -> list[arb]:
    """w q**g L with q = 1 - p_t and L = -log p_t; then w (p_j - [j = t]) q**(g-1) (q + g L p_t)."""
    unit = [Fraction(int(j == label)) for j in range(len(logits))]
    pulls, level = cross_entropy_gradient(logits, unit), cross_entropy(logits, unit)
    doubt, g, w = -pulls[label], exact(gamma), exact(weight)
    power = (doubt.log() * g).exp()
    factor = w * power / doubt * (doubt + g * level * (1 - doubt))
    return [w * power * level, *(pull * factor for pull in pulls)]


def in_units(terms: Sequence[tuple[Fraction, Fraction]], base: float) -> arb:
    """-sum of c log x over the terms (c, x), to a base; exactly where all are powers of two."""
    if base == math.e:
        return surprise(terms)
    rational = bits(terms) if base == 2 else None
    return surprise(terms) / exact(base).log() if rational is None else exact(rational)


def bits(terms: Sequence[tuple[Fraction, Fraction]]) -> Fraction | None:
    """-sum of c log2 x over the terms (c, x) where all x are powers of two."""
    powers = [(c, _power_of_two(x)) for c, x in terms]
    found = [c * n for c, n in powers if n is not None]
    return -sum(found, Fraction(0)) if len(found) == len(powers) else None


def _power_of_two(x: Fraction) -> int | None:
    power = x.numerator.bit_length() - x.denominator.bit_length()
    return power if x == Fraction(2) ** power else None


def gaussians(m: float, s: float, n: float, t: float) -> list[arb]:
    """Cross-entropy and divergence of N(m, s**2) and N(n, t**2)."""
    a, b, c, d = (Fraction(x) for x in (m, s, n, t))
    quadratic = (b * b + (a - c) ** 2) / (2 * d * d)
    entropy = (2 * arb.pi()).log() / 2 + log_fraction(d) + exact(quadratic)
    return [entropy, log_fraction(d / b) + exact(quadratic - Fraction(1, 2))]
