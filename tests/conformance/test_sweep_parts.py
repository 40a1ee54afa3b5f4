"""Patterns, tallies and the joining of what neighbouring rows have seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit.conformance.run import GRADES
from lossaudit.conformance.sweep import patterns, tally
from lossaudit.conformance.sweep.patterns import Span
from lossaudit.conformance.sweep.tally import ANSWERS, LONGEST, Row, Seen, Tally, closed, merged

DTYPES = tuple(patterns.WIDTHS)
SIXTEEN = tuple(d for d, width in patterns.WIDTHS.items() if width == 16)


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SIXTEEN)
def test_keys_order_all_numbers(dtype):
    count = patterns.magnitudes(dtype)
    texts = [float(patterns.key_text(key, dtype)) for key in range(-count, count)]
    values = np.array(texts)
    infinity = patterns.infinity(dtype)
    numbers = values[count - 1 - infinity : count + infinity + 1]
    assert np.isnan(values).sum() == values.size - numbers.size
    assert numbers[0] == -np.inf
    assert numbers[-1] == np.inf
    steps = np.diff(numbers[1:-1])
    assert (steps >= 0).all()
    assert (steps == 0).sum() == 1  # from -0 to +0
    assert np.signbit(values[count - 1])
    assert not np.signbit(values[count])


@pytest.mark.parametrize("dtype", DTYPES)
@given(ends=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)))
@settings(max_examples=60, deadline=None)
def test_a_span_holds_just_the_numbers_between_its_ends(dtype, ends):
    low, high = sorted(ends)
    try:
        found = patterns.span(f"{low!r}:{high!r}", dtype)
    except ValueError as error:
        assert "no number of" in str(error)  # noqa: PT017 - only some spans are empty
        return
    first, last = (float(patterns.key_text(key, dtype)) for key in (found.low, found.high))
    assert low <= first <= last <= high
    inside = patterns.infinity(dtype)
    if found.low > -1 - inside:
        assert float(patterns.key_text(found.low - 1, dtype)) < low or (low == first == 0.0)
    if found.high < inside:
        assert float(patterns.key_text(found.high + 1, dtype)) > high or (high == last == 0.0)


def test_zero_as_an_end_has_both_signs():
    assert patterns.span("0:", "float16").low == -1
    assert patterns.span(":0", "float16").high == 0
    assert patterns.span(":", "float16") == Span(-1 - 0x7C00, 0x7C00)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("1", "no colon"), ("2:1", "empty"), ("a:1", "'a' is not a number"), ("nan:1", "not a number"),
     ("1.0001:1.0002", "no number of float16")],
)  # fmt: skip
def test_wrong_spans_are_explained(text, fault):
    with pytest.raises(ValueError, match=fault):
        patterns.span(text, "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@given(stride=st.integers(2, 5000), seed=st.integers(0, 9), start=st.integers(0, 2000))
@settings(max_examples=30, deadline=None)
def test_a_stride_takes_one_of_each_stratum(dtype, stride, seed, start):
    last = -(-patterns.magnitudes(dtype) // stride)
    start = min(start, last - 1)
    stop = min(start + 300, last)
    found = patterns.chosen(start, stop, stride, seed, dtype)
    np.testing.assert_array_equal(found // stride, np.arange(start, stop))
    halves = patterns.chosen(start, (start + stop) // 2, stride, seed, dtype)
    np.testing.assert_array_equal(halves, found[: halves.size])
    for special in (0, patterns.infinity(dtype)):
        at = special // stride
        assert patterns.chosen(at, at + 1, stride, seed, dtype) == special


def test_low_bits_of_chosen_patterns_are_all_there():
    found = patterns.chosen(1, 4000, 4096, 0, "float32") % 16
    assert set(found.tolist()) == set(range(16))


# --- tallies --------------------------------------------------------------------------------------


def row_of(dtype, states, *, start=0, negative=False, line=0, ulps=None):
    """A row whose grades and answers are given by states."""
    states = np.asarray(states)
    which = np.arange(start, start + states.size)
    grade = (states // len(ANSWERS)).astype(np.uint8)
    found = ulps if ulps is not None else np.where(grade, grade * 0.75, 0.25)
    return Row(
        line, start, which, negative, grade, found.astype(float), which.astype(np.uint32),
        which.astype(np.uint64), (states % len(ANSWERS)).astype(np.uint8),
        patterns.binade(which, dtype), np.flatnonzero(grade),
    )  # fmt: skip


def cut(row: Row, a: int, b: int) -> Row:
    part = slice(a, b)
    grade = row.grade[part]
    return Row(
        row.line, row.stratum + a, row.which[part], row.negative, grade, row.ulps[part],
        row.bits[part], row.stamp[part], row.answer[part], row.field[part], np.flatnonzero(grade),
    )  # fmt: skip


ENDS = (-400, 399)


def tallied(rows, dtype="bfloat16", ends=ENDS) -> Seen:
    found = Tally(patterns.binades(dtype), ends)
    for row in rows:
        found.add(row)
    return found.seen()


def expected_runs(positive, negative) -> dict[int, list[int]]:
    """Lengths of the runs of each state, by definition."""
    line = [*negative[::-1], *positive]
    runs: dict[int, list[int]] = {}
    for state, group in itertools.groupby(line):
        runs.setdefault(state, []).append(len(list(group)))
    return {s: sorted(lengths, reverse=True) for s, lengths in runs.items()}


STATES = st.lists(st.sampled_from((1, 2, 6, 25, 26, 29)), min_size=400, max_size=400)


@given(positive=STATES, negative=STATES, data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_result_does_not_depend_on_the_cuts_or_their_order(positive, negative, data):
    rows = [row_of("bfloat16", positive), row_of("bfloat16", negative, negative=True)]
    whole = closed(tallied(rows))
    parts = []
    for row in rows:
        edges = data.draw(st.lists(st.integers(1, 399), max_size=6, unique=True))
        places = [0, *sorted(edges), 400]
        parts += [cut(row, a, b) for a, b in itertools.pairwise(places)]
    order = data.draw(st.permutations(parts))
    groups = data.draw(st.integers(1, 3))
    seen = Seen()
    for i in range(groups):
        seen = merged(seen, tallied(order[i::groups]), ENDS)
    assert closed(seen) == whole
    lengths = expected_runs(positive, negative)
    assert {s: [r.count for r in found] for s, found in whole.longest.items()} == {
        s: found[:LONGEST] for s, found in lengths.items()
    }
    assert whole.number == {s: len(found) for s, found in lengths.items()}
    counts = np.bincount(np.array([*positive, *negative]) // len(ANSWERS), minlength=len(GRADES))
    total = np.sum([b.grades for b in whole.bins.values()], axis=0)
    np.testing.assert_array_equal(total, counts)


def test_lines_are_not_joined_with_each_other():
    rows = [
        row_of("bfloat16", [1] * 400, negative=negative, line=line)
        for line in (0, 1)
        for negative in (True, False)
    ]
    found = tallied(rows)
    assert found.runs == []  # both lines are complete
    assert found.number == {1: 2}
    assert [r.count for r in found.longest[1]] == [800, 800]


def test_the_worst_input_is_the_first_of_equals():
    ulps = np.full(400, 0.25)
    ulps[[7, 300]] = 3.0
    row = row_of("bfloat16", [6] * 400, ulps=ulps)
    found = tallied([row])
    worst = [b.worst for b in found.bins.values() if b.worst is not None and b.worst.ulps == 3.0]
    assert {point.key for point in worst} == {7, 300}
    mirrored = tallied([row_of("bfloat16", [6] * 128, negative=True, ulps=np.full(128, 2.0))])
    (point,) = [b.worst for b in mirrored.bins.values()]
    assert point is not None
    assert point.key == -128  # the least of keys from -128 to -1


def test_what_has_no_error_is_in_no_class():
    ulps = np.array([0.25, 0.75, 3.0, np.nan, 2.0**21])
    row = row_of("bfloat16", [1, 6, 11, 38, 28], ulps=ulps)
    (found,) = tallied([row]).bins.values()
    assert sum(found.grades) == 5
    assert sum(found.errors) == 4
    assert found.errors[-1] == 1
    assert found.errors[0] == 1
    assert found.worst is not None
    assert found.worst.ulps == 2.0**21


def test_digests_tell_answers_apart_and_not_where_they_were_cut():
    row = row_of("bfloat16", [1] * 400)
    whole = tallied([row])
    moved = row_of("bfloat16", [1] * 400)
    moved.stamp[5] += np.uint64(1)
    moved.stamp[6] -= np.uint64(1)
    assert [b.digest for b in whole.bins.values()] != [
        b.digest for b in tallied([moved]).bins.values()
    ]
    parts = tallied([cut(row, 100, 400), cut(row, 0, 100)])
    assert {k: b.digest for k, b in parts.bins.items()} == {
        k: b.digest for k, b in whole.bins.items()
    }


def test_kinds_of_answers():
    found = tally.kinds(np.array([0.0, -0.0, 2.0, np.inf, -np.inf, np.nan]))
    assert [ANSWERS[k] for k in found] == ["0", "0", "a number", "infinite", "infinite", "nan"]
