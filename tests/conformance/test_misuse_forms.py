"""The closed forms of misuses against the reference, which knows no closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossaudit.conformance.misuse import forms
from lossaudit.reference import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_grad,
    entropy,
)

UNIT = 2.0**-53
"""Half an ulp at most, relative: a rounding, and the reference's own. A function of the libm is
taken to be wrong by an ulp at most, two units. Counts below add what each step brings, relative to
its result, and what it passes on: |x f'(x) / f(x)| of it, at most 1 for log1p(x), x >= 0, and for
x / (1 + x)."""

CLASSES = st.integers(2, 60)
CONFIDENCE = st.floats(2.0**-20, 1.0 - 2.0**-20)

# A quotient by the rounded e, log1p of it and the reference's own rounding: at most five units.
FLOOR_UNITS = 5


def shared(confidence: float, classes: int) -> np.ndarray:
    """The confidence at class 0, the rest in equal shares."""
    p = np.full((1, classes), (1.0 - confidence) / (classes - 1))
    p[0, 0] = confidence
    return p


def of_double_softmax(p: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss of probabilities taken for logits, and its gradient by the logits behind them."""
    loss = cross_entropy(p, [0] * len(p), reduction="none")
    by_p = cross_entropy_grad(p, [0] * len(p), reduction="none")
    return float(loss[0]), forms.softmax_jacobian(p, by_p)


@given(CLASSES)
def test_floor_and_ceiling_are_the_losses_of_certain_probabilities(classes: int):
    corners = np.eye(classes)
    losses = cross_entropy(corners, [0] * classes, reduction="none")
    floor, ceiling = float(forms.softmax_floor(classes)), float(forms.softmax_ceiling(classes))
    assert abs(losses[0] - floor) <= FLOOR_UNITS * UNIT * floor
    assert np.all(np.abs(losses[1:] - ceiling) <= FLOOR_UNITS * UNIT * ceiling)
    assert ceiling - floor == pytest.approx(1.0, abs=FLOOR_UNITS * UNIT * (ceiling + floor))


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=40), st.integers(0, 10**6))
def test_no_probabilities_lie_outside_floor_and_ceiling(logits: list[float], seed: int):
    z = np.array([logits])
    p = np.exp(z - z.max())
    p /= p.sum()
    classes = len(logits)
    loss = float(cross_entropy(p, [seed % classes], reduction="none")[0])
    # The shares sum to 1 up to K roundings, each of which moves the loss by at most itself.
    room = (classes + FLOOR_UNITS) * 2 * UNIT * (1 + math.log(classes))
    assert forms.softmax_floor(classes) - room <= loss <= forms.softmax_ceiling(classes) + room


def rounding(classes: int) -> float:
    """Of a few sums of K terms below 1, with a confidence of at least 2^-20 as divisor."""
    return 8 * classes * UNIT * 2.0**20


@given(CONFIDENCE, CLASSES)
def test_the_ratio_is_that_of_the_gradients(confidence: float, classes: int):
    p = shared(confidence, classes)
    loss, gradient = of_double_softmax(p)
    right = p.copy()
    right[0, 0] -= 1.0
    ratio = float(forms.softmax_ratio(confidence, classes))
    np.testing.assert_allclose(gradient, ratio * right, rtol=0, atol=rounding(classes) * ratio)
    # Of the form: exponent 3, exp 2, product 1, log1p 2. Of the loss: its rounding 1, and shares
    # wrong by 2 units of at most 1, which move a loss above log(1 + 1/e) > 0.31 by 7 of its own.
    assert loss == pytest.approx(float(forms.softmax_loss(confidence, classes)), rel=16 * UNIT)


@given(st.integers(2, 10**6))
def test_the_ratio_at_the_start_and_at_the_end(classes: int):
    # c 1; others: exponent 2, as both its terms are at most 1/2 and wrong by 2, exp 2, product 1;
    # 1 + others 1; c others, their quotient, times K, by K - 1: 4.
    assert forms.softmax_ratio(1.0 / classes, classes) == pytest.approx(
        1.0 / classes, rel=11 * UNIT
    )
    # others: exp 2, product 1; 1 + others 1; quotient, times K, by K - 1: 3; of the limit 2.
    assert forms.softmax_ratio(1.0, classes) == pytest.approx(
        float(forms.softmax_ratio_limit(classes)), rel=9 * UNIT
    )
    assert forms.softmax_ratio(0.0, classes) == 0.0


@given(st.floats(2.0**-20, 1.0), st.sampled_from([0.0, 1.0]))
def test_a_sigmoid_too_many(probability: float, label: float):
    p = np.array([probability])
    loss = binary_cross_entropy_with_logits(p, np.array([label]), reduction="none")
    # exp 2, log1p 2, the reference 1
    assert float(loss[0]) == pytest.approx(
        float(forms.sigmoid_loss(probability, label)), rel=5 * UNIT
    )
    low, high = sorted(float(forms.sigmoid_loss(end, label)) for end in (0.0, 1.0))
    assert low <= float(forms.sigmoid_loss(probability, label)) <= high
    assert 0.0 <= float(forms.sigmoid_ratio(probability, label)) <= 0.5


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 2**32))
def test_no_logits_beat_the_floor_of_a_batch(counts: list[int], seed: int):
    y = np.repeat(np.arange(len(counts)), counts)
    if not y.size:
        return
    z = np.random.default_rng(seed).normal(scale=4.0, size=(y.size, len(counts)))
    best = 400.0 * (y[:, None] == np.arange(len(counts)))
    floor = forms.batch_floor(counts)

    def mean(logits: np.ndarray) -> float:
        columns = logits[:, y].T
        return float(cross_entropy(columns, np.arange(y.size)))

    # Of the floor: log 2, product 1, the sum of at most nine terms 8, quotient 1. The reference 1,
    # and what the others of a column leave: e^-400 each.
    assert mean(best) == pytest.approx(floor, rel=13 * UNIT, abs=y.size * math.exp(-400.0))
    assert mean(z) >= floor * (1 - 13 * UNIT)
    # log 2, the reference 1
    assert mean(np.zeros_like(z)) == pytest.approx(float(forms.batch_start(y.size)), rel=3 * UNIT)


def summands(margin: float, share: float, classes: int) -> float:
    """The magnitudes that `smoothed_loss` adds up."""
    beyond = math.log1p((classes - 1) * math.exp(-margin))
    return abs(margin) + beyond + (1.0 - share) * abs(margin)


@given(st.floats(0.01, 0.5), CLASSES, st.sampled_from(["eps/K", "eps/(K-1)"]), st.floats(-9, 9))
def test_smoothed_losses(eps: float, classes: int, convention: str, margin: float):
    share = forms.share_of(eps, classes, convention)
    z = np.zeros((1, classes))
    z[0, 0] = margin
    loss = cross_entropy(z, [0], label_smoothing=eps, smoothing=convention)
    # Of log1p's term: exp 2, product 1, log1p 2; of q t: share 2, q 1, product 1; the two sums 2;
    # the reference 1.
    assert float(loss) == pytest.approx(
        float(forms.smoothed_loss(margin, share, classes)),
        rel=0,
        abs=8 * UNIT * summands(margin, share, classes),
    )
    q, other = forms.smoothed(share, classes)
    floor = float(forms.smoothed_floor(share, classes))
    row = np.append(q, np.full(classes - 1, other))
    # A share that is wrong by k units moves -q log q by k q |1 + log q| of them, and all of them
    # together the entropy by at most k (1 + H). The form's are wrong by 4 and its terms by 6 more;
    # the sum of K shares and the quotients bring K + 1 to the entropy's.
    room = (classes + 16) * UNIT * (1 + floor)
    assert floor == pytest.approx(float(entropy(row / row.sum())), rel=0, abs=room)
    margin = float(forms.best_margin(share, classes))  # wrong, it moves the least loss not at all
    least = float(forms.smoothed_loss(margin, share, classes))
    room += 8 * UNIT * summands(margin, share, classes)
    assert least == pytest.approx(floor, rel=0, abs=room)
    assert float(loss) >= floor - room


@given(st.floats(0.01, 0.4), CLASSES)
def test_conventions_convert(eps: float, classes: int):
    across = forms.share_of(eps, classes, "eps/(K-1)")
    converted = forms.share_of(forms.converted(eps, classes), classes, "eps/K")
    assert converted == pytest.approx(across, rel=4 * UNIT)
    q, other = forms.smoothed(forms.share_of(eps, classes, "eps/K"), classes)
    again = (1 - eps) * q + eps / classes, (1 - eps) * other + eps / classes
    # On the left: share 4, and 1 - share is at least 0.36, so that its error is at most 10 of its
    # own. On the right: share 2, and four steps.
    np.testing.assert_allclose(
        forms.smoothed(forms.share_of(eps, classes, "eps/K twice"), classes), again, rtol=16 * UNIT
    )
    # Toward 1/2 is eps/K of two classes.
    assert forms.share_of(eps, 2, "eps/K") == eps / 2
