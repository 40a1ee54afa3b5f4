"""A sweep at its edges: targets, strides, void bounds, answers that are lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.conformance.judge import RANK
from lossaudit.conformance.sweep import patterns
from lossaudit.conformance.sweep.block import _known, _Piece, _worst_entry
from lossaudit.conformance.sweep.judging import judged
from lossaudit.conformance.sweep.plan import CannotSweep, Inputs, asking, subjects_of
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import truth


def torch_question(dtype, target=(0.0, 1.0), op="binary_cross_entropy_with_logits"):
    (subject,) = subjects_of("torch", op, "eager")
    return asking(subject, dtype, Inputs(targets=target)).question()


def graded(question, x, value, output="loss", *, negative=False):
    """The grades of some answers."""
    piece = _Piece(question, 0, np.asarray(x), negative, 0)
    curve = question.lines.curve(0, piece.x, question.subject.semantics, question.dtype)
    known, negated = _known(curve, piece, output)
    shaped = np.array(value, dtype=float).reshape(known.value.shape)
    fmt = FORMATS[question.dtype]
    grade, _ = judged(shaped, known, piece.asked(output), fmt, negated=negated)
    return grade.reshape(-1).tolist()


def test_without_a_bound_nothing_is_within_one():
    question = torch_question("float32")
    bare = replace(question, subject=replace(question.subject, arithmetic={}))
    found = graded(bare, [1.0, 2.0, 3.0], [1.4, np.inf, 2.9])
    assert found == [RANK["no bound"], RANK["wrong kind"], RANK["no bound"]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", [1e-10, 2.0**-60, 1e-30, 0.3])
@pytest.mark.parametrize("output", ["loss", "gradient"])
def test_small_targets_are_not_lost(dtype, target, output):
    question = torch_question(dtype, (target,))
    fmt = FORMATS[dtype]
    x = np.array([0.5, 50.0, 80.0, 100.0])
    for negative in (False, True):
        piece = _Piece(question, 0, x, negative, 0)
        exact = getattr(truth(piece.case(np.arange(4)), question.subject.semantics), output)
        right = round_exact(exact.reshape(-1), fmt)
        assert graded(question, x, right, output, negative=negative) == [0, 0, 0, 0]


def test_targets_are_numbers_of_the_format():
    assert torch_question("float16", (0.3, 0.30005)).targets == ((0.300048828125,),)


def test_a_stride_that_takes_nothing_is_refused():
    (subject,) = subjects_of("torch", "softplus", "eager")
    with pytest.raises(CannotSweep, match="takes no number of float16"):
        asking(subject, "float16", Inputs(stride=patterns.infinity("float16") + 1))


def test_of_entries_with_one_grade_the_largest_error_counts():
    grade = np.array([[1, 1, 1], [5, 5, 2], [0, 1, 1]], np.uint8)
    ulps = np.array([[0.6, 0.9, 0.7], [3.0, 1e9, 2e9], [9.0, np.nan, 0.1]])
    assert _worst_entry(grade, ulps).tolist() == [1, 1, 2]
