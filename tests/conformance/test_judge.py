"""The judge: grades by exact arithmetic on the definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossaudit.conformance.judge import RANK, distance, judge, relate, ulp
from lossaudit.conformance.law import by_row
from lossaudit.reference.exact import Exact
from lossaudit.reference.formats import FORMATS, next_down, next_up, round_to_format
from lossaudit.reference.vocabulary import Case

NAMES = {rank: name for name, rank in RANK.items()}


def one(value, exact, demand=0.0, declared=np.inf, *, fmt="float32", undefined=False, lo=0.0):
    """The grade of a single element."""
    found = judge(
        np.array([value]),
        Exact.from_pair(np.array([exact]), np.array([lo])),
        np.array([demand]),
        np.array([declared]),
        np.array([undefined]),
        FORMATS[fmt],
    )
    return NAMES[int(found.grade[0])]


def test_grades_from_best_to_worst():
    u = 2.0**-23
    assert one(1.0, 1.0) == "exact"
    assert one(1.0 + u, 1.0 + 0.6 * u) == "exact"
    assert one(1.0, 1.0 + 0.6 * u) == "faithful"
    assert one(1.0 + 2 * u, 1.0, demand=2 * u) == "bounded"
    assert one(1.0 + 3 * u, 1.0, demand=np.inf) == "no bound"
    assert one(1.0, np.nan, undefined=True) == "unspecified"
    assert one(1.0 + 3 * u, 1.0, demand=2 * u, declared=4 * u) == "precision"
    assert one(1.0 + 5 * u, 1.0, demand=2 * u, declared=4 * u) == "violates"
    assert one(np.nan, 1.0, demand=1.0) == "wrong kind"


def test_a_void_declaration_leaves_it_to_the_demand():
    assert one(2.0, 1.0, demand=2.0**-20, declared=np.inf) == "precision"


def test_zero_for_a_normal_number_is_wrong_kind_only_where_both_bounds_exclude_it():
    small = 2.0**-100
    assert one(0.0, small, demand=small / 2, declared=small / 2) == "wrong kind"
    assert one(0.0, small, demand=small / 2, declared=1.0) == "precision"
    assert one(0.0, small, demand=2 * small, declared=2 * small) == "bounded"
    assert one(-0.0, 0.0) == "exact"  # the sign of zero is not graded


def test_infinities_and_nan():
    assert one(np.inf, np.inf) == "exact"
    assert one(-np.inf, np.inf) == "wrong kind"
    assert one(np.nan, np.nan) == "exact"
    assert one(0.0, np.nan) == "wrong kind"
    assert one(1.0, np.inf) == "wrong kind"
    # Beyond the largest number the exact value rounds to infinity.
    assert one(np.inf, 1e39) == "exact"
    assert one(np.inf, 3e38, demand=1.0, declared=1.0) == "wrong kind"
    assert one(np.inf, FORMATS["float32"].max, demand=1e33, declared=1e33) == "bounded"


@pytest.mark.parametrize("fmt", FORMATS)
@given(data=st.data())
def test_grade_follows_the_error_in_ulps(fmt, data):
    """exact = RN(R); faithful = one of the two neighbours; bounded = within the demand."""
    form = FORMATS[fmt]
    digits = data.draw(st.integers(2 ** (form.precision + 8), 2 ** (form.precision + 9) - 1))
    scale = 2.0 ** (data.draw(st.integers(-20, 4)) - form.precision)
    hi = float(digits) * scale
    lo = float(digits - int(float(digits))) * scale
    exact = Fraction(digits) * Fraction(scale)
    here = float(round_to_format(np.float64(hi), form))
    near = [here, float(next_up(here, form)), float(next_down(here, form))]
    value = data.draw(st.sampled_from(near).filter(np.isfinite))
    step = Fraction(float(ulp(Exact.from_pair(np.array(hi), np.array(lo)), form)))
    error = abs(Fraction(value) - exact)
    grade = one(value, hi, lo=lo, demand=0.0, declared=0.0, fmt=fmt)
    if error * 2 < step:
        assert grade == "exact"
    elif step < error:
        assert grade == "violates"
    elif error < step and Fraction(value) % step == 0:
        # Below a power of two the grid is finer: a neighbour there may be no neighbour of R.
        assert grade in ("exact", "faithful")


def test_relations():
    left, right = np.array([1.0, 1.0, 1.0, np.nan, np.inf]), np.array([1.0, 1.5, 2.0, np.nan, 1.0])
    grades = relate(left, right, np.full(5, 0.5), np.full(5, 0.75))
    assert [NAMES[g] for g in grades] == ["exact", "bounded", "violates", "exact", "wrong kind"]
    assert distance(np.array([np.inf]), np.array([np.inf]))[0] == 0


def test_ulp_is_that_of_the_exact_value_at_a_power_of_two():
    fmt = FORMATS["float32"]
    below = Exact.from_pair(np.array([1.0]), np.array([-(2.0**-60)]))
    assert ulp(below, fmt)[0] == 2.0**-24
    assert ulp(Exact.from_float([1.0]), fmt)[0] == 2.0**-23
    assert ulp(Exact.from_float([0.0]), fmt)[0] == fmt.least_subnormal


def test_a_row_has_the_grade_of_its_worst_element_however_many_ulps_another_errs():
    """A gradient of [1e38 ulps too much, NaN, right] is of the wrong kind."""
    exact = Exact.from_float(np.array([[1e-40, 1.0, 0.0]]))
    value = np.array([[1.0, np.nan, 0.0]])
    wide = np.full(value.shape, 10.0)
    found = judge(value, exact, wide * 0, wide, np.zeros(value.shape, bool), FORMATS["float32"])
    case = Case("cross_entropy", "float32", value, np.array([0]))
    row = by_row("gradient", case, found, value)
    assert NAMES[int(row.grade[0])] == "wrong kind"
