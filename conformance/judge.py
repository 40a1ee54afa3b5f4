"""The judge: what grade an element deserves, from the exact value and two derived bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..reference.exact import Exact, is_faithful, round_exact, ulp_error
from ..reference.formats import Format, ulp_exponent
from ..reference.vocabulary import Floats
from .run import FINDING_GRADES, GRADES

RANK = {name: rank for rank, name in enumerate(GRADES)}

FIRST_FINDING = RANK[FINDING_GRADES[0]]
"""The rank from which on a grade is a finding."""


@dataclass(frozen=True)
class Judgement:
    """Grades of the elements of one output, all arrays of one shape.

    Attributes:
        grade: index into GRADES.
        ulps: error at the exact value; NaN where there is none.
        right: the correctly rounded value.
        demand, declared: the two bounds in ulps.
    """

    grade: np.ndarray
    ulps: Floats
    right: Floats
    demand: Floats
    declared: Floats


def ulp(exact: Exact, fmt: Format) -> Floats:
    """2^(max(floor(log2 |R|), emin) - p + 1) at the exact value R (Muller, INRIA RR-5504)."""
    below = (np.abs(exact.hi) == 0.5) & (exact.lo * np.sign(exact.hi) < 0)
    binade = np.where(exact.hi == 0, fmt.emin, exact.exponent - 1 - below)
    # Past the largest binade the spacing goes on as if there were no limit, but 2^1023 is the most
    # that a float64 holds; errors in such units only ever meet bounds in the same units.
    exponent = np.minimum(np.maximum(binade, fmt.emin), fmt.emax + 1) - fmt.precision + 1
    return np.ldexp(1.0, exponent)


def judge(
    value: Floats,
    exact: Exact,
    demand: Floats,
    declared: Floats,
    undefined: np.ndarray,
    fmt: Format,
) -> Judgement:
    """Grade every element.

    Args:
        value: what the subject returned, float64 holding values of `fmt`.
        exact: the exact values, same shape; infinite or NaN where the truth is.
        demand: absolute bound of the forms that do not cancel.
        declared: absolute bound of the arithmetic that the subject declares; infinite where it
            declares none.
        undefined: True where the mathematics gives no value.
        fmt: the output format.
    """
    right = round_exact(exact, fmt)
    finite = np.isfinite(exact.hi)
    with np.errstate(all="ignore"):
        unit = ulp(exact, fmt)
        ulps = ulp_error(value, exact, fmt)
        demand, declared = demand / unit, declared / unit
        grade = finite_grades(value, right, ulps, demand, declared, unit, fmt)
    grade = np.where(is_faithful(value, exact, fmt), np.minimum(grade, RANK["faithful"]), grade)
    grade = np.where(value == right, RANK["exact"], grade)
    same = np.where(np.isnan(exact.hi), np.isnan(value), value == exact.hi)
    grade = np.where(finite, grade, np.where(same, RANK["exact"], RANK["wrong kind"]))
    grade = np.where(undefined, RANK["unspecified"], grade)
    ulps = np.where(finite & np.isfinite(value) & ~undefined, ulps, np.nan)
    return Judgement(grade, ulps, right, demand, declared)


def finite_grades(
    value: Floats, right: Floats, ulps: Floats, demand: Floats, declared: Floats,
    unit: Floats, fmt: Format,
) -> np.ndarray:  # fmt: skip
    """Grades where the truth is finite, before 'exact' and 'faithful' are told apart."""
    # A declared bound that is void speaks neither for nor against: the demand alone decides.
    outside = np.where(ulps <= declared, RANK["precision"], RANK["violates"])
    grade = np.where(ulps <= demand, RANK["bounded"], outside)
    grade = np.where(np.isinf(demand), RANK["no bound"], grade)
    normal = np.abs(right) >= fmt.least_normal
    lost = (value == 0) & normal & (ulps > demand) & (ulps > declared)
    grade = np.where(lost, RANK["wrong kind"], grade)
    # An infinity is tolerable where a bound reaches past the largest finite number.
    reach = np.abs(right) + np.minimum(demand, declared) * unit
    tolerable = np.isinf(value) & (np.sign(value) == np.sign(right)) & (reach > fmt.max)
    unbounded = np.isinf(demand) & np.isinf(value)
    special = np.where(tolerable & ~unbounded, RANK["bounded"], RANK["wrong kind"])
    return np.where(np.isfinite(value), grade, special)


def ulp_of(numbers: Floats, fmt: Format) -> Floats:
    """The ulp at float64 numbers; at what is not finite, that of 0."""
    return np.ldexp(1.0, ulp_exponent(np.where(np.isfinite(numbers), numbers, 0.0), fmt))


def distance(left: Floats, right: Floats) -> Floats:
    """|left - right|, rounded up by at most one float64 ulp; 0 for equal infinities and two NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(left - right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return np.where(same, 0.0, gap)


def relate(left: Floats, right: Floats, demand: Floats, declared: Floats) -> np.ndarray:
    """Grade a relation between two numbers that should agree, element by element.

    The bounds are sums over both sides. 'exact' means equal, 'bounded' inside the demand.
    """
    with np.errstate(all="ignore"):
        # The subtraction in `distance` is rounded once.
        gap = distance(left, right) * (1 - 2.0**-52)
        grade = np.where(gap <= declared, RANK["precision"], RANK["violates"])
        grade = np.where(gap <= demand, RANK["bounded"], grade)
        grade = np.where(np.isinf(demand), RANK["no bound"], grade)
        special = ~np.isfinite(left) | ~np.isfinite(right)
        grade = np.where(special, RANK["wrong kind"], grade)
        return np.where(gap == 0, RANK["exact"], grade)
