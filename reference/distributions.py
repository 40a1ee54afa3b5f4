"""Entropy, cross-entropy and divergence of distributions, and perplexity.

Each is a sum of p_j log x_j, with x_j = 1/p_j, 1/q_j or p_j/q_j. A distribution is K non-negative
numbers along an axis, taken as they are: their sum need not be 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Optional

import numpy as np
from numpy.typing import ArrayLike

from .api import by_parts
from .arguments import Array, Rows, classes_of, not_negative
from .certify import Index, repaired
from .decimals import Digits, Enclosure, Triple, settle
from .exact import (
    Exact,
    divided,
    magnitude,
    multiplied,
    negate,
    scale,
    subtract,
    total,
    where,
)
from .functions import exp, log, log1p
from .slow_rows import MANY_DIGITS, log_sum, rational_multiple
from .truth import constant, nothing_times
from .vocabulary import Floats

Ratio = Callable[[Fraction, Fraction], Fraction]

_LARGEST_ENTROPY = 2.0**10


def entropy(p: ArrayLike, base: float = math.e, *, axis: int = -1, dtype: str = "float64") -> Array:
    """-sum_j p_j log p_j along an axis, with 0 log 0 = 0; base 2 gives bits."""
    given = _distribution("p", p, axis)
    return _by_parts(given, given, dtype, lambda p, q: _surprise(p, q, base))


def cross_entropy_distributions(
    p: ArrayLike, q: ArrayLike, base: float = math.e, *, axis: int = -1, dtype: str = "float64"
) -> Array:
    """-sum_j p_j log q_j along an axis; +inf where some p_j > 0 has q_j = 0."""
    return _by_parts(*_pair(p, q, axis), dtype, lambda p, q: _surprise(p, q, base))


def kl_divergence(
    p: ArrayLike, q: ArrayLike, base: float = math.e, *, axis: int = -1, dtype: str = "float64"
) -> Array:
    """sum_j p_j log(p_j / q_j) along an axis; +inf where some p_j > 0 has q_j = 0."""
    return _by_parts(*_pair(p, q, axis), dtype, lambda p, q: _divergence(p, q, base))


def _divergence(given: Floats, model: Floats, base: float) -> Exact:
    first, second = Exact.from_float(given), Exact.from_float(model)
    difference = divided(subtract(first, second), second)
    near = (difference.exponent < -1) & np.isfinite(difference.hi)
    # Where p and q are close, log1p of their relative difference keeps its digits.
    safe = where(near, difference, constant(0.0))
    logarithm = where(near, log1p(safe), log(divided(first, second)))
    return _sum(given, model, logarithm, base, lambda x, y: x / y)


def perplexity(p: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """exp(-sum_j p_j log p_j) along an axis: the number of equally likely outcomes."""
    given = _distribution("p", p, axis)
    return _by_parts(given, given, dtype, lambda p, _: _outcomes(p))


def _outcomes(given: Floats) -> Exact:
    value = exp(_surprise(given, given, math.e))

    def settle_(index: Index) -> Triple:
        row = given[index]
        bits = _rational_bits(row, row, _inverse)
        if bits is not None and bits.denominator == 1:
            return settle(lambda _: Fraction(2) ** int(bits), str)
        terms = _terms(row, row, _inverse)

        def formula(digits: Digits) -> Enclosure:
            nats = log_sum(Fraction(0), terms, digits)
            nats = digits.number(nats) if isinstance(nats, Fraction) else nats
            return digits.exp_between(nats)

        return settle(formula, lambda: f"perplexity of {row.tolist()}")

    # The error of the entropy H is relative to the sum of its |terms|. A positive term is at most
    # 1/e, so that the sum is below |H| + K, and where |H| is above 2**10 the result is 0 or
    # infinite in every format.
    size = scale(value, _LARGEST_ENTROPY + given.shape[-1])
    return repaired(value, size, settle_)


def _by_parts(
    given: Rows, model: Rows, dtype: str, function: Callable[[Floats, Floats], Exact]
) -> Array:
    return by_parts(given, dtype, lambda part: function(given.read(part), model.read(part)))


def _surprise(given: Floats, model: Floats, base: float) -> Exact:
    return _sum(given, model, negate(log(Exact.from_float(model))), base, _inverse)


def _inverse(_: Fraction, q: Fraction) -> Fraction:
    return 1 / q


def _sum(given: Floats, model: Floats, logarithm: Exact, base: float, ratio: Ratio) -> Exact:
    """sum_j p_j log x_j over the last axis, in units of log base."""
    factor = Exact.from_float(given)
    terms = nothing_times(factor, logarithm, multiplied(factor, logarithm))
    terms = where(given == 0.0, constant(0.0), terms)
    value, size = total(terms, axis=-1), total(magnitude(terms), axis=-1)
    if base != math.e:
        _demand_base(base)
        unit = log(constant(base))
        value, size = divided(value, unit), divided(size, unit)

    def settle_(index: Index) -> Triple:
        row, other = given[index], model[index]
        if base == 2:
            bits = _rational_bits(row, other, ratio)
            if bits is not None:
                return settle(lambda _: bits, str)
        terms = _terms(row, other, ratio)

        def formula(digits: Digits) -> Enclosure:
            found = log_sum(Fraction(0), terms, digits)
            if isinstance(found, Fraction) or base == math.e:
                return found
            if digits.digits >= MANY_DIGITS:
                multiple = rational_multiple(terms, Fraction(base))
                if multiple is not None:
                    return multiple
            return digits.divide(found, digits.log(digits.number(Fraction(base))))

        return settle(formula, lambda: f"distributions {row.tolist()} and {other.tolist()}")

    return repaired(value, size, settle_)


def _terms(p: Floats, q: Floats, ratio: Ratio) -> list[tuple[Fraction, Fraction]]:
    pairs = zip(p.tolist(), q.tolist())
    return [(Fraction(x), ratio(Fraction(x), Fraction(y))) for x, y in pairs if x]


def _rational_bits(p: Floats, q: Floats, ratio: Ratio) -> Optional[Fraction]:
    """sum p_j log2 x_j where every x_j is a power of two, else None."""
    whole = Fraction(0)
    for factor, argument in _terms(p, q, ratio):
        large, small = argument.numerator, argument.denominator
        if large & (large - 1) or small & (small - 1):
            return None
        whole += factor * (large.bit_length() - small.bit_length())
    return whole


def _pair(p: ArrayLike, q: ArrayLike, axis: int) -> tuple[Rows, Rows]:
    given, model = _distribution("p", p, axis), _distribution("q", q, axis)
    if np.shape(p) != np.shape(q):
        raise ValueError(f"q has shape {np.shape(q)}, but p has {np.shape(p)}")
    return given, model


def _distribution(name: str, values: ArrayLike, axis: int) -> Rows:
    """The rows along an axis; refuses negative numbers, NaN and infinity."""
    found = classes_of(name, values, axis)
    found.demand(not_negative, "= {} must be finite and not negative")
    return found


def _demand_base(base: float) -> None:
    if not (base > 1.0 and math.isfinite(base)):
        raise ValueError(f"base {base!r} must be above 1 and finite")
