"""The judge of sweeps says what the judge of audits says, whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.judge import RANK, judge
from lossaudit.conformance.sweep import patterns
from lossaudit.conformance.sweep.block import _known, _Piece
from lossaudit.conformance.sweep.judging import judged
from lossaudit.conformance.sweep.plan import Inputs, asking, subjects_of
from lossaudit.reference.bounds import bounds, demanded
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS, next_down, next_up
from lossaudit.reference.rows import truth

SUBJECTS = {
    "torch:binary_cross_entropy_with_logits": "torch",
    "torch:binary_cross_entropy": "torch",
    "torch:softplus": "torch",
    "torch:sigmoid": "torch",
    "tensorflow:log_sigmoid": "tensorflow",
    "tensorflow:sigmoid_cross_entropy_with_logits": "tensorflow",
    "jax:sigmoid_binary_cross_entropy": "jax",
    "jax:sigmoid_focal_loss": "jax",
    "torch:cross_entropy.index": "torch",
}


def answers(right: np.ndarray, seed: int, fmt) -> np.ndarray:
    """Right answers, and others a few numbers of the format beside, or of another kind."""
    rng = np.random.default_rng(seed)
    found = right.copy()
    for step in (next_up, next_down):
        for count in (1, 1, 3, 40):
            some = rng.random(found.shape) < 0.15
            moved = found
            for _ in range(count):
                moved = step(moved, fmt)
            found = np.where(some, moved, found)
    for other in (0.0, np.inf, -np.inf, np.nan, 1.0):
        found = np.where(rng.random(found.shape) < 0.05, other, found)
    return found


@pytest.mark.parametrize("name", SUBJECTS)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(("float32", "bfloat16")),
    negative=st.booleans(),
    target=st.integers(0, 1),
    output=st.sampled_from(("loss", "gradient")),
)
@settings(max_examples=15, deadline=None)
def test_it_grades_as_the_judge_of_audits(name, seed, dtype, negative, target, output):
    framework, _, op = name.partition(":")
    (subject,) = subjects_of(framework, op, "eager")
    question = asking(subject, dtype, Inputs()).question()
    target = min(target, len(question.targets) - 1)
    fmt = FORMATS[dtype]
    which = np.sort(np.random.default_rng(seed).integers(0, patterns.magnitudes(dtype), 40))
    # Where exp neither under- nor overflows more is left to judge than zeros and ones.
    which[:30] = np.sort(which[:30] % patterns.one(dtype) + patterns.one(dtype) // 16)
    x = patterns.numbers(which, dtype)
    piece = _Piece(question, 0, x, negative, target)
    case = piece.case(np.arange(x.size))
    arithmetic = subject.arithmetic[dtype]
    with np.errstate(all="ignore"):
        found = truth(case, subject.semantics)
        exact = getattr(found, output)
        value = answers(round_exact(exact, fmt), seed, fmt)
        demand = getattr(bounds(case, subject.semantics, demanded(arithmetic)), output)
        declared = getattr(bounds(case, subject.semantics, arithmetic), output)
        undefined = found.undefined if output == "loss" else found.undefined[:, None]
        right = judge(value, exact, demand, declared, np.broadcast_to(undefined, value.shape), fmt)
        curve = question.lines.curve(0, x, subject.semantics, dtype)
        known, negated = _known(curve, piece, output)
        shaped = value.reshape(known.value.shape).copy()
        grade, ulps = judged(shaped, known, piece.asked(output), fmt, negated=negated)
    np.testing.assert_array_equal(grade.reshape(value.shape), right.grade)
    told = ulps.reshape(value.shape)
    np.testing.assert_array_equal(np.isnan(told), np.isnan(right.ulps))
    seen = ~np.isnan(told) & (right.grade != RANK["exact"])
    # The error is known to the margin of the exact number, but for three roundings; what the exact
    # tier decided has no margin.
    room = np.nan_to_num(known.margin * known.scale, posinf=0.0).reshape(value.shape)
    assert (np.abs(told - right.ulps) <= room + 3 * 2.0**-53 * right.ulps)[seen].all()


def test_every_framework_has_these_subjects():
    assert set(SUBJECTS.values()) <= set(FRAMEWORKS)
