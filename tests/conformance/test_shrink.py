"""Shrinking: the smallest row that still fails, found by asking in batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossaudit.conformance.regions import ROWS
from lossaudit.conformance.shrink import shrink, size
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.vocabulary import Case, Options


def row_of(z, target=0, dtype="float32", **options):
    z = round_to_format(np.array([z], dtype=np.float64), FORMATS[dtype])
    return Case("cross_entropy", dtype, z, np.array([target]), Options(**options))


def test_a_single_mask_among_ten_classes_becomes_three_classes():
    z = np.linspace(-1.37, 2.61, 10)
    z[4] = -np.inf
    small = shrink(
        row_of(z, 7),
        lambda case: np.asarray(np.isneginf(case.inputs).any(axis=1)),
        keep_classes=False,
    )
    assert sorted(small.inputs[0]) == [-np.inf, 0.0, 0.0]
    assert 0 <= small.target[0] < 3


def test_a_compiled_subject_keeps_its_classes():
    small = shrink(
        row_of(np.linspace(-1.37, 2.61, 10)),
        lambda case: case.inputs[:, 0] < 1e9,
        keep_classes=True,
    )
    assert small.inputs.tolist() == [[0.0] * 10]


def test_options_that_do_not_matter_are_left_out():
    small = shrink(
        row_of([1.0, 2.0, 3.0], weight=(1.0, 2.0, 3.0), label_smoothing=0.25),
        lambda case: np.full(case.rows, case.options.label_smoothing > 0),
        keep_classes=True,
    )
    assert small.options == Options(label_smoothing=0.25)


@given(
    arrays(np.float64, 3, elements=st.floats(-100, 100, width=32)),
    st.floats(0, 50, width=32),
)
def test_result_still_fails_and_is_no_larger(z, gap):
    def fails(case):
        return case.inputs.max(axis=1) - case.inputs.min(axis=1) >= gap

    row = row_of(z)
    if not fails(row)[0]:
        return
    small = shrink(row, fails, keep_classes=False)
    assert fails(small)[0]
    assert size(small) <= size(row)


def test_candidates_are_asked_in_whole_batches():
    """A shape of its own for every candidate would cost a compiling framework a second each."""
    seen = set()

    def fails(case):
        seen.add(case.inputs.shape)
        return np.ones(case.rows, dtype=bool)

    shrink(row_of(np.linspace(-1, 1, 10)), fails, keep_classes=False)
    assert seen <= {(ROWS, 10), (ROWS, 3)}


def test_probabilities_stay_probabilities():
    case = Case("binary_cross_entropy", "float32", np.array([[0.75]]), np.array([[0.0]]))

    def fails(asked):
        assert ((asked.inputs >= 0) & (asked.inputs <= 1)).all()
        return asked.inputs[:, 0] > 0.5

    assert shrink(case, fails, keep_classes=True).inputs[0, 0] == 1.0


def test_a_row_that_is_too_long_becomes_one_number_and_the_fewest_round_classes():
    asked = []

    def fails(case):
        asked.append(case.inputs.shape)
        return np.full(case.rows, case.inputs.shape[1] > 65504)

    z = np.sin(np.arange(128256.0))
    small = shrink(row_of(z, 77), fails, keep_classes=False)
    assert (small.inputs == 0).all()
    assert small.inputs.shape == (1, 70000)
    assert small.target.tolist() == [0]
    # A long row is a batch of its own: each costs what a batch of short ones does.
    assert all(rows == 1 for rows, classes in asked if classes > 4096)
    assert len(asked) < 10


def test_a_long_row_that_needs_its_numbers_keeps_few_of_them():
    z = np.sin(np.arange(128256.0)) * 4

    def fails(case):
        return (case.inputs > 3).sum(axis=1) > 1000

    small = shrink(row_of(z, 5), fails, keep_classes=False)
    assert fails(small)[0]
    assert small.inputs.shape[1] < 128256
    assert len(set(small.inputs[0])) <= 40


def test_a_long_row_of_a_distribution_keeps_its_target():
    q = np.zeros((1, 128256))
    q[0, 9] = 1.0
    row = Case("cross_entropy", "float16", np.zeros((1, 128256)), q)
    small = shrink(
        row, lambda case: np.full(case.rows, case.inputs.shape[1] > 65504), keep_classes=False
    )
    assert small.target.tolist() == [[1.0] + [0.0] * 69999]
