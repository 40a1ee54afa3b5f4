"""What subjects answered: written small, read back to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossaudit.conformance.answers import (
    FARTHEST,
    LETTERS,
    WIDE,
    digest,
    drawn,
    grades,
    read,
    written,
)
from lossaudit.conformance.run import GRADES, Answers, Call
from lossaudit.reference.formats import FORMATS, next_down, next_up, round_to_format
from lossaudit.reference.vocabulary import Semantics

FORMATS_OF_ALL = st.sampled_from(sorted(FORMATS))
ANY = st.floats(width=64)


def same_bits(a, b):
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a) | np.isnan(a), np.signbit(b) | np.isnan(b)
    )


@given(FORMATS_OF_ALL, hnp.arrays(np.float64, (4, 3), elements=ANY), st.data())
def test_numbers_read_back_to_their_bits(name, numbers, data):
    fmt = FORMATS[name]
    right = round_to_format(numbers, fmt)
    steps = data.draw(hnp.arrays(np.int64, (4, 3), elements=st.integers(-3, 3)))
    values = right
    for _ in range(3):
        up, down = next_up(values, fmt), next_down(values, fmt)
        values = np.where(steps > 0, up, np.where(steps < 0, down, values))
        steps = steps - np.sign(steps)
    text = written(values, right, fmt)
    found = read(text, right, values.shape, fmt)
    assert found is not None
    assert same_bits(found, values)


@given(FORMATS_OF_ALL, hnp.arrays(np.float64, (5,), elements=ANY))
def test_numbers_with_nothing_right_about_them_read_back(name, numbers):
    found = read(written(numbers, None, FORMATS[name]), None, (5,), FORMATS[name])
    assert found is not None
    assert same_bits(found, numbers)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_right_is_a_zero_and_its_neighbours_are_one_away(name):
    fmt = FORMATS[name]
    right = round_to_format(np.array([0.1, -3.0, 0.0, fmt.max, fmt.least_normal]), fmt)
    assert written(right, right, fmt) == "0*5"
    assert written(next_up(right[:3], fmt), right[:3], fmt) == "1*3"
    assert written(next_down(right, fmt), right, fmt) == "-1*5"


def test_what_has_no_distance_is_written_as_itself():
    fmt = FORMATS["float32"]
    values, right = np.array([np.nan, -np.inf, -0.0, 7.5, 1.0]), np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    assert written(values, right, fmt) == "=nan =-inf =-0.0 =7.5 0"
    far = FARTHEST * 2.0**-23 + 1.0
    assert written(np.array([far]), np.array([1.0]), fmt) == f"={far!r}"


def test_a_wider_result_than_its_inputs_keeps_its_digits():
    """Under autocast a loss of bfloat16 inputs comes in float32, between two steps of bfloat16."""
    fmt, third = FORMATS["bfloat16"], round_to_format(np.array([1 / 3]), FORMATS["float32"])
    text = written(third, round_to_format(third, fmt), fmt)
    found = read(text, round_to_format(third, fmt), (1,), fmt)
    assert found is not None
    assert found[0] == third[0]


def test_a_wide_batch_keeps_a_digest_of_each_row():
    fmt, values = FORMATS["float32"], np.zeros((2, WIDE // 2))
    before = written(values, values, fmt)
    values[1, 17] = 2.0**-149
    after = written(values, values, fmt)
    assert read(before, values, values.shape, fmt) is None
    assert [a == b for a, b in zip(before.split(), after.split(), strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0*5", "5 numbers where the call has 3"),
        ("0*2", "2 numbers where the call has 3"),
        ("0 x 0", "invalid literal"),
        ("=0.1 =1 =one", "could not convert"),
        ("0*9999999999", "is no run"),
    ],
)
def test_a_damaged_text_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        read(text, np.ones(3), (3,), FORMATS["float32"])


def test_a_distance_from_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="distance from what is no number"):
        read("0 1", np.array([1.0, np.nan]), (2,), FORMATS["float32"])


def test_digests_tell_bits_and_shapes_apart_and_no_nan_from_another():
    zero = np.zeros(4)
    assert digest(zero) != digest(-zero)
    assert digest(zero) != digest(zero.reshape(2, 2))
    assert digest(np.array([np.nan])) == digest(np.array([-np.nan]))


def test_every_grade_has_a_letter_of_its_own():
    call = Call(
        case="", law="value", region="", rows=11, classes=3, seed=0,
        grades={"loss": " ".join(LETTERS) + " -*2"},
    )  # fmt: skip
    assert grades(call, "loss") == [*GRADES, "", ""]
    assert grades(call, "gradient") == []


def test_an_unknown_letter_is_refused():
    call = Call(case="", law="value", region="", rows=1, classes=3, seed=0, grades={"loss": "x"})
    with pytest.raises(ValueError, match="no grade"):
        grades(call, "loss")


def test_a_call_that_would_be_drawn_otherwise_is_refused():
    call = Call(case="0123", law="value", region="ordinary", rows=64, classes=3, seed=0)
    answers = Answers(
        subject="torch:x[eager,cpu]", dtype="float32", semantics=Semantics(), calls=[]
    )
    with pytest.raises(ValueError, match="drawn otherwise"):
        drawn(call, answers, "cross_entropy", "index")
