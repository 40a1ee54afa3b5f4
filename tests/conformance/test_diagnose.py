"""`lossaudit.diagnose`: mistakes are named, what is right is left in peace, bad input is told."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lossaudit
from lossaudit.conformance.diagnosis import readings
from lossaudit.conformance.diagnosis.found import ADVICE
from lossaudit.conformance.misuse import catalogue, forms
from lossaudit.reference import api

FEW = settings(max_examples=3)
"""Where all readings of a batch are computed, some fifty of them by the reference."""

MANY = settings(max_examples=15)

DTYPES = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 2**32)


def log_softmax(z, axis=1):
    d = z - z.max(axis=axis, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=axis, keepdims=True))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def bce(z, y):
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))


def at(x, y):
    return x[np.arange(len(y)), y]


def ce(z, y):
    """The loss of rows by the form that frameworks use, in the format of the logits."""
    return -at(log_softmax(z), y)


def smoothed(y, k, eps, over):
    hot = np.eye(k)[y]
    return (1 - eps) * hot + eps / over * (1 if over == k else 1 - hot)


@st.composite
def a_batch(draw, least_rows=1):
    """Logits of any scale, and the labels."""
    dtype, k = draw(DTYPES), draw(st.integers(2, 12))
    n = draw(st.integers(least_rows, 24))
    rng = np.random.default_rng(draw(SEEDS))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 40.0]))
    z = (scale * rng.normal(size=(n, k)) + draw(st.sampled_from([0.0, -3.0, 100.0]))).astype(dtype)
    return z, rng.integers(0, k, n)


@st.composite
def a_plain_batch(draw):
    """Logits that differ, of several rows: what a mistake does to them shows."""
    dtype, k, n = draw(DTYPES), draw(st.integers(3, 12)), draw(st.integers(4, 24))
    rng = np.random.default_rng(draw(SEEDS))
    return (2 * rng.normal(size=(n, k))).astype(dtype), rng.integers(0, k, n)


# --- what is right --------------------------------------------------------------------------------


@MANY
@given(a_batch(), st.booleans())
def test_an_honest_cross_entropy_shows_nothing(batch, reduced):
    z, y = batch
    losses = ce(z, y)
    found = lossaudit.diagnose(z, y, losses.mean() if reduced else losses)
    assert not found
    assert str(found).startswith("nothing shows")
    assert "the losses are those of the cross-entropy" in str(found)


@MANY
@given(a_batch(), st.booleans())
def test_nor_do_honest_probabilities(batch, reduced):
    z, y = batch
    p = softmax(z)
    with np.errstate(divide="ignore"):
        losses = -np.log(at(p, y))
    assert not lossaudit.diagnose(p, y, losses.mean() if reduced else losses)


@MANY
@given(a_batch())
def test_nor_do_probabilities_taken_for_logits_where_they_are_said_to_be_logits(batch):
    p = softmax(batch[0])
    assert not lossaudit.diagnose(p, batch[1], ce(p, batch[1]), given="logits")


@MANY
@given(a_batch(), st.sampled_from([0.05, 0.1, 0.3]), st.booleans())
def test_nor_does_honest_smoothing(batch, eps, said):
    z, y = batch
    k = z.shape[1]
    losses = -(smoothed(y, k, eps, k).astype(z.dtype) * log_softmax(z)).sum(axis=1)
    assert not lossaudit.diagnose(z, y, losses, label_smoothing=eps if said else None)


@MANY
@given(a_batch(), SEEDS)
def test_nor_do_class_weights_and_ignored_labels(batch, seed):
    z, y = batch
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, z.shape[1]).astype(z.dtype)
    kept = rng.random(len(y)) < 0.7
    assume(kept.any())
    w = np.where(kept, weight[y], 0)
    losses = w * ce(z, y)
    y = np.where(kept, y, -100)
    assert not lossaudit.diagnose(z, y, losses.sum() / w.sum(), weight=weight)
    assert not lossaudit.diagnose(z, y, losses.sum(), weight=weight, reduction="sum")
    over_rows = lossaudit.diagnose(
        z, y, losses.sum() / z.dtype.type(len(y)), weight=weight, reduction="mean over rows"
    )
    assert not over_rows


@MANY
@given(DTYPES, st.integers(1, 60), SEEDS, st.sampled_from([0.1, 1.0, 10.0]))
def test_nor_do_binary_losses(dtype, n, seed, scale):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(n, 3))).astype(dtype)
    y = (rng.random((n, 3)) < 0.5).astype(dtype)
    assert not lossaudit.diagnose(z, y, bce(z, y).mean())
    assert not lossaudit.diagnose(z, y, bce(z, y).mean(axis=1))
    assert not lossaudit.diagnose(z[:, :1], y[:, :1], bce(z, y)[:, :1])
    # One logit within [0, 1] may be either.
    assert not lossaudit.diagnose(
        np.abs(z[:1, 0]) % 1, y[:1, 0], bce(np.abs(z[:1, 0]) % 1, y[:1, 0])
    )


@FEW
@given(a_plain_batch(), st.integers(2, 5))
def test_more_axes_before_the_classes_change_nothing(batch, length):
    z, y = batch
    z, y = np.stack([z] * length), np.stack([y] * length)
    flat = ce(z.reshape(-1, z.shape[2]), y.reshape(-1))
    assert not lossaudit.diagnose(z, y, flat.reshape(y.shape))
    assert lossaudit.diagnose(z, y, flat.sum()).misuses == ("wrong-reduction",)


# --- what is wrong, each by the losses that it makes ----------------------------------------------


def eps_of_others(z, y):
    return -(smoothed(y, z.shape[1], 0.1, z.shape[1] - 1).astype(z.dtype) * log_softmax(z)).sum(1)


def smoothed_again(z, y):
    k = z.shape[1]
    once = smoothed(y, k, 0.1, k)
    return -((0.9 * once + 0.1 / k).astype(z.dtype) * log_softmax(z)).sum(axis=1)


def sum_of_all(z, y):
    return ce(z, y).sum()


def clipped(z, y):
    p = np.clip(z, 1e-7, 1 - 1e-7).astype(z.dtype)
    return -np.log(at(p, y) / p.sum(axis=1))


def clipped_quotient(z, y):
    p = z / z.sum(axis=1, keepdims=True)
    return -np.log(at(np.clip(p, 1e-7, 1 - 1e-7).astype(z.dtype), y))


MISTAKES = {
    "double-softmax": [lambda z, y: ce(softmax(z), y)],
    "wrong-axis": [lambda z, y: -at(log_softmax(z, axis=0), y)],
    "logits-for-log-probabilities": [lambda z, y: -at(z, y)],
    "probabilities-for-logs": [lambda z, y: -at(softmax(z), y)],
    "labels-mixed": [lambda z, y: -(y[:, None] * log_softmax(z)).sum(axis=1)],
    "wrong-reduction": [sum_of_all],
    "smoothing": [eps_of_others, smoothed_again],
    "logits-for-probabilities": [clipped, clipped_quotient],
}
CASES = [(name, loss) for name, losses in MISTAKES.items() for loss in losses]


@pytest.mark.parametrize(("misuse", "loss"), CASES, ids=[name for name, _ in CASES])
@FEW
@given(batch=a_plain_batch(), reduced=st.booleans())
def test_each_mistake_is_named(misuse, loss, batch, reduced):
    z, y = batch
    if misuse == "logits-for-probabilities":
        # A sum near 0 loses all digits, and then nothing can be told.
        assume((np.abs(z.sum(axis=1)) > 0.1 * np.abs(z).max()).all())
    if misuse == "smoothing":
        # eps/(K-1) is eps/K of another usual eps for these.
        assume(z.shape[1] not in (2, 3, 6))
    if misuse == "labels-mixed":
        assume((y > 1).any())
    came = loss(z, y)
    told = 0.1 if misuse == "smoothing" else None
    found = lossaudit.diagnose(z, y, came.mean() if reduced else came, label_smoothing=told)
    assert misuse in found.misuses
    assert all(each.because and each.advice for each in found)


@FEW
@given(a_plain_batch(), st.booleans())
def test_probabilities_of_a_softmax_taken_for_logits(batch, reduced):
    p = softmax(batch[0])
    losses = ce(p, batch[1])
    found = lossaudit.diagnose(p, batch[1], losses.mean() if reduced else losses)
    assert found.misuses == ("double-softmax",)


@FEW
@given(a_plain_batch())
def test_two_mistakes_at_once(batch):
    z, y = batch
    found = lossaudit.diagnose(z, y, ce(softmax(z), y).sum())
    assert found.misuses[:2] == ("double-softmax", "wrong-reduction")


@FEW
@given(DTYPES, st.integers(12, 60), SEEDS)
def test_mistakes_with_binary_labels(dtype, n, seed):
    rng = np.random.default_rng(seed)
    z = (3 * rng.normal(size=n)).astype(dtype)
    y = (rng.random(n) < 0.5).astype(dtype)
    y[:2] = 0, 1
    assert lossaudit.diagnose(z, y, bce(sigmoid(z), y).mean()).misuses == ("double-sigmoid",)
    p = sigmoid(z)
    told = lossaudit.diagnose(p, y, bce(p, y), given="probabilities")
    assert told.misuses == ("double-sigmoid",)
    assert lossaudit.diagnose(z, y, bce(z, y).sum()).misuses == ("wrong-reduction",)
    crossed = bce(z[:, None], y[None, :]).mean()
    assert lossaudit.diagnose(z[:, None], y, crossed).misuses == ("labels-broadcast",)
    signs = 2 * y - 1
    assert "labels-outside-0-1" in lossaudit.diagnose(z, signs, bce(z, signs)).misuses
    taken = np.clip(z, 1e-7, 1 - 1e-7).astype(dtype)
    losses = -(y * np.log(taken) + (1 - y) * np.log(1 - taken))
    assert "logits-for-probabilities" in lossaudit.diagnose(z, y, losses).misuses
    halves = np.where(y == 1, 0.9, 0.1).astype(dtype)
    eps = lossaudit.diagnose(z, y, bce(z, halves), label_smoothing=0.1)
    assert eps.misuses == ("binary-smoothing",)


def test_predictions_that_crowd_at_0_and_1_are_probabilities():
    z = np.linspace(-9, 9, 61, dtype=np.float32)
    y = (z > 1).astype(np.float32)
    p = sigmoid(z)
    assert lossaudit.diagnose(p, y, bce(p, y).mean()).misuses == ("double-sigmoid",)
    few = lossaudit.diagnose(p[25:36], y[25:36], bce(p[25:36], y[25:36]).mean())
    assert not few
    assert 'given="probabilities"' in str(few)


@pytest.mark.parametrize("eps", [1e-7, 1e-12])
def test_a_guard_is_seen_where_it_acts_and_nowhere_else(eps):
    p = np.array([[0.3, 0.7, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    kept = -np.log(np.clip(p, eps, 1 - eps))
    y = np.array([2, 1, 0])
    found = lossaudit.diagnose(p, y, at(kept, y))
    assert found.misuses == ("probability-guard",)
    assert f"clipped at {eps:g}" in found[0].because
    assert not lossaudit.diagnose(p, np.array([1, 1, 0]), at(kept, np.array([1, 1, 0])))


def test_the_floor_of_torch():
    p = np.array([1.0, 0.25, 0.0], np.float32)
    y = np.array([0.0, 1.0, 1.0], np.float32)
    found = lossaudit.diagnose(
        p, y, np.array([100.0, -np.log(np.float32(0.25)), 100.0], np.float32)
    )
    assert found.misuses == ("probability-guard",)
    assert "-100" in found[0].because


def test_targets_that_are_smoothed_already():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(9, 5)), rng.integers(0, 5, 9)
    q = smoothed(y, 5, 0.1, 5)
    once = -(q * log_softmax(z)).sum(axis=1).mean()
    again = -((0.9 * q + 0.02) * log_softmax(z)).sum(axis=1).mean()
    assert not lossaudit.diagnose(z, q, once)
    assert lossaudit.diagnose(z, q, again, label_smoothing=0.1).misuses == ("smoothing",)


def test_labels_alone():
    z = np.arange(12.0).reshape(4, 3)
    counted = lossaudit.diagnose(z, [1, 2, 3, 3])
    assert counted.misuses == ("labels-out-of-range",)
    assert "counted from 1" in counted[0].because
    assert not lossaudit.diagnose(z, [0, -100, 2, 1])
    assert lossaudit.diagnose(z, [0, -100, 2, 1], ignore_index=-1).misuses
    sums = lossaudit.diagnose(z, [[0.5, 0.5, 0.5], [1, 0, 0], [0, 0, 0], [0.2, 0.3, 0.5]])
    assert sums.misuses == ("labels-not-normalised",)
    assert sums[0].figures == (("rows", 2.0), ("zero", 1.0), ("sum", 0.0))
    assert not lossaudit.diagnose(z, [[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 1]])
    columns = lossaudit.diagnose(softmax(z.T / 3).T, [0, 1, 2, 0])
    assert columns.misuses == ("wrong-axis",)


def test_a_nan_is_explained_by_its_label_or_refused():
    z = np.arange(6.0).reshape(2, 3)
    losses = np.array([ce(z, np.array([1, 1]))[0], np.nan])
    assert lossaudit.diagnose(z, [1, 3], losses).misuses == ("labels-out-of-range",)
    with pytest.raises(lossaudit.DiagnosisError, match=r"losses\[1\] is NaN"):
        lossaudit.diagnose(z, [1, 2], losses)


@FEW
@given(a_plain_batch())
def test_numbers_that_no_reading_gives_are_told_as_such(batch):
    z, y = batch
    found = lossaudit.diagnose(z, y, 3.0 + np.sqrt(ce(z, y)))
    assert not found
    assert "no reading that is known gives these losses" in str(found)


def test_infinite_logits_are_read_as_they_are():
    z, y = np.array([[0.5, -np.inf, 1.0], [2.0, 0.25, -np.inf]]), np.array([0, 1])
    assert not lossaudit.diagnose(z, y, ce(z, y))
    assert not lossaudit.diagnose(z, [1, 2], [np.inf, np.inf])
    assert lossaudit.diagnose(z, y, ce(softmax(z), y)).misuses == ("double-softmax",)
    assert not lossaudit.diagnose(np.where(z < 0, np.inf, z), y, 1.0)


def test_what_is_all_ignored_says_nothing():
    z = np.arange(6.0).reshape(2, 3)
    found = lossaudit.diagnose(z, [-100, -100], 0.0)
    assert not found
    assert "every row is ignored" in str(found)


def test_bounds_that_take_in_whatever_came_are_no_evidence():
    """The quotient by a sum that cancels has no digits, and then any loss would fit."""
    z = np.array([[1.0, -1.0, 1e-7], [2.0, 1.0, 0.5]], np.float32)
    assert not lossaudit.diagnose(z, [0, 1], np.float32(2.25))


# --- bounds ---------------------------------------------------------------------------------------


@MANY
@given(a_batch())
def test_a_softmax_lies_within_its_bound(batch):
    z = batch[0]
    p, delta = readings.softmax(z.astype(np.float64), z.dtype.name)
    assert (np.abs(softmax(z) - p) <= delta).all()
    assert (np.abs(np.exp(log_softmax(z)) - p) <= delta).all()
    assert readings.is_distribution(softmax(z).astype(np.float64), z.dtype.name)


@given(st.floats(0, 1))
def test_range_of_a_sigmoid_too_many(share):
    least, most = forms.sigmoid_range(share)
    ends = np.array([[1.0, 0.0], [0.0, 1.0]])  # of p for the labels 1 and 0
    label = np.array([1.0, 0.0])
    means = [
        float(np.array([share, 1 - share]) @ api.binary_cross_entropy_with_logits(
            p, label, reduction="none"
        ))
        for p in ends
    ]  # fmt: skip
    # Roundings, all of positive terms. Of the range: exp 2, log1p 2, 1 - share, product, sum; of
    # the means: the reference's, 1 - share, product, sum.
    np.testing.assert_allclose([least, most], means, rtol=11 * 2.0**-53)


def test_the_caps_of_guards():
    wide, narrow = forms.guard_caps(1e-7, "float64"), forms.guard_caps(1e-7, "float32")
    # 1 - eps is rounded by 2^-54 at most, eps itself to float32 by 2^-24 of it; and the logarithm.
    ulps = 2 * math.ulp(16.0)
    assert wide == pytest.approx((-math.log(1e-7),) * 2, rel=0, abs=2.0**-54 / 1e-7 + ulps)
    assert narrow == pytest.approx((-math.log(1e-7), 23 * math.log(2)), rel=0, abs=2.0**-24 + ulps)
    assert f"{narrow[1]:.3f}" == "15.942"
    # 1 - 1e-12 and 1 - 1e-15 are 1 in float32.
    assert [len(forms.guard_caps(eps, "float32")) for eps in (1e-7, 1e-12, 1e-15)] == [2, 1, 1]
    assert f"{forms.guard_caps(1e-12, 'float32')[0]:.3f}" == "27.631"
    assert f"{forms.guard_caps(1e-15, 'float64')[0]:.3f}" == "34.539"


# --- logs -----------------------------------------------------------------------------------------


def falling(start, end, steps=200):
    """From a start to an end, which it comes to as an exponential does."""
    return end + (start - end) * np.exp(-np.arange(steps) / 12.0)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_a_plateau_at_the_floor_of_a_double_softmax(k):
    log = falling(math.log(k), float(forms.softmax_floor(k))).astype(np.float32)
    found = lossaudit.diagnose(losses=log, classes=k)
    assert found.misuses == ("double-softmax",)
    assert "log(1 + " in found[0].because
    # A plateau elsewhere, one loss below, one above the ceiling, and too short a stay.
    assert not lossaudit.diagnose(losses=log + np.float32(0.02), classes=k)
    for other in (-0.01, 1.01):
        spoiled = np.append(log, float(forms.softmax_floor(k)) + other).astype(np.float32)
        assert not lossaudit.diagnose(losses=spoiled, classes=k)
    assert not lossaudit.diagnose(losses=log[:40], classes=k)
    assert not lossaudit.diagnose(losses=log)


def test_samples_that_are_wrong_for_certain_cost_one_each():
    rng = np.random.default_rng(0)
    floor, n = float(forms.softmax_floor(10)), 16
    later = floor + (rng.integers(0, 5, 100) + 0.05 * rng.random(100)) / n
    log = np.concatenate([falling(2.3, floor + 0.3, 60)[:20], later])
    assert lossaudit.diagnose(losses=log, classes=10, batch=n).misuses == ("double-softmax",)
    even = floor + 5 * rng.random(100) / n
    assert not lossaudit.diagnose(losses=even, classes=10, batch=n)


@pytest.mark.parametrize(("positive", "floor"), [(0.5, 0.5032), (0.25, 0.5982)])
def test_a_plateau_at_the_floor_of_a_double_sigmoid(positive, floor):
    labels = (np.arange(40) < 40 * positive).astype(int)
    least = forms.sigmoid_range(positive)[0]
    assert least == pytest.approx(floor, abs=0.5e-4)  # half of the last digit that is written
    log = falling(0.724, least)
    found = lossaudit.diagnose(None, labels, log)
    assert found.misuses == ("double-sigmoid",)


@pytest.mark.parametrize(
    ("convention", "told"), [("eps/(K-1)", 0.1), ("eps/(K-1)", None), ("eps/K twice", 0.1)]
)
def test_a_plateau_at_a_floor_of_smoothing(convention, told):
    floor = float(forms.smoothed_floor(forms.share_of(0.1, 10, convention), 10))
    log = falling(2.3, floor)
    found = lossaudit.diagnose(losses=log, classes=10, label_smoothing=told)
    assert found.misuses == ("smoothing",)
    assert convention in found[0].because
    right = float(forms.smoothed_floor(forms.share_of(0.1, 10, "eps/K"), 10))
    assert not lossaudit.diagnose(losses=falling(2.3, right), classes=10, label_smoothing=told)
    assert not lossaudit.diagnose(losses=log, classes=10, label_smoothing=told, weight=np.ones(10))


def test_smoothing_that_was_not_applied():
    log = falling(2.3, 0.01)
    assert lossaudit.diagnose(losses=log, classes=10, label_smoothing=0.1).misuses == ("smoothing",)
    assert not lossaudit.diagnose(losses=log, classes=10)


CAPS = [(1e-7, "float32", 0), (1e-7, "float32", 1), (1e-12, "float64", 0), (1e-15, "float64", 0)]


@pytest.mark.parametrize(("eps", "dtype", "side"), CAPS)
def test_a_loss_that_never_exceeds_a_guard(eps, dtype, side):
    cap = forms.guard_caps(eps, dtype)[side]
    log = np.minimum(np.random.default_rng(0).uniform(0, 1.3 * cap, 100), cap).astype(dtype)
    found = lossaudit.diagnose(losses=log)
    assert found.misuses == ("probability-guard",)
    assert f"no loss exceeds {cap:.6g}" in found[0].because
    assert not lossaudit.diagnose(losses=log * np.dtype(dtype).type(1.001))
    assert not lossaudit.diagnose(losses=np.append(log, 1.01 * cap).astype(dtype))


def test_batch_means_that_are_whole_numbers_of_a_cap():
    rng = np.random.default_rng(0)
    log = (16.118095 * rng.integers(0, 9, 60) / 8).astype(np.float32)
    assert lossaudit.diagnose(losses=log, classes=3, batch=8).misuses == ("probability-guard",)
    both = (rng.integers(0, 4, 60) * 16.118095 + rng.integers(0, 4, 60) * 23 * math.log(2)) / 8
    assert lossaudit.diagnose(losses=both.astype(np.float32), batch=8).misuses
    assert not lossaudit.diagnose(losses=rng.uniform(0, 16, 60).astype(np.float32), batch=8)


def test_starts():
    told: dict[str, Any] = {"classes": 10, "batch": 32}
    start = math.log(10)
    summed = lossaudit.diagnose(losses=falling(32 * start, 1.0), **told)
    assert summed.misuses == ("wrong-reduction",)
    meant = lossaudit.diagnose(losses=falling(32 * start, 1.0), reduction="sum", **told)
    assert not meant
    assert lossaudit.diagnose(losses=falling(math.log(32), 1.5), **told).misuses == ("wrong-axis",)
    # Below log(N/K) no mean of a softmax over the batch can be.
    assert not lossaudit.diagnose(losses=falling(math.log(32), 0.5), **told)
    assert not lossaudit.diagnose(losses=falling(start, 0.5), **told)


def test_losses_below_0():
    log = falling(-0.1, -0.99)
    assert lossaudit.diagnose(losses=log).misuses == ("probabilities-for-logs",)
    assert lossaudit.diagnose(losses=7 * log).misuses == ("logits-for-log-probabilities",)
    # What is left of lse - z_y where both are large.
    assert not lossaudit.diagnose(losses=np.array([0.5, 0.1, -1e-6, -2e-6, -1e-6, 0.0], np.float32))


def test_a_log_that_was_printed_with_few_decimals():
    floor = float(forms.softmax_floor(10))
    log = np.round(falling(2.3, floor), 4)
    found = lossaudit.diagnose(losses=log, classes=10)
    assert found.misuses == ("double-softmax",)
    assert "written to 0.0001" in str(found)


@MANY
@given(st.integers(2, 50), SEEDS, st.floats(0, 1), st.sampled_from([8, 32]))
def test_logs_that_plateau_anywhere_show_nothing(k, seed, place, batch):
    """Noise around a plateau: nothing in it is exact."""
    rng = np.random.default_rng(seed)
    end = place * math.log(k)
    log = np.abs(falling(math.log(k) * 1.05, end) + 0.05 * rng.normal(size=200))
    assert not lossaudit.diagnose(losses=log, classes=k, batch=batch)


# --- what is returned, and what is refused --------------------------------------------------------


def test_what_a_diagnosis_says():
    z = np.array([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5]])
    y = np.array([0, 2])
    found = lossaudit.diagnose(z, y, ce(softmax(z), y))
    (only,) = found
    assert only.misuse == "double-softmax"
    assert only.statement == "consistent with a softmax too many"
    assert "2 of 2 losses" in only.because
    assert dict(only.figures)["right"] in api.cross_entropy(z, y, reduction="none")
    assert str(found).startswith("[double-softmax] consistent with")
    assert found[0] is only
    assert found.looked
    with pytest.raises(FrozenInstanceError):
        setattr(only, "misuse", "another")  # noqa: B010 - as a checker would not let it be written


def test_the_ids_are_those_of_the_catalogue():
    ids = {misuse.id for misuse in catalogue.MISUSES}
    assert ids <= set(ADVICE)


class Tensor:
    """As one of torch that needs a gradient: NumPy may read it only once it is detached."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self) -> np.ndarray:
        return self.values


class Attached(Tensor):
    detach = None  # type: ignore[assignment]


def test_tensors_that_have_a_graph_are_detached():
    z, y = np.arange(6.0).reshape(2, 3), np.array([0, 1])
    assert not lossaudit.diagnose(Tensor(z), y.tolist(), Tensor(ce(z, y)))
    with pytest.raises(lossaudit.DiagnosisError, match=r"\.detach\(\)\.cpu\(\)\.numpy\(\)"):
        lossaudit.diagnose(Attached(z), y, ce(z, y))


Z, Y, LOSSES = np.zeros((4, 3)), np.zeros(4, int), np.ones(4)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "nothing to look at"),
    ({"logits_or_probs": Z}, "without targets"),
    ({"logits_or_probs": Z, "targets": Y[:3], "losses": LOSSES}, r"shape \(4, 3\), targets \(3,\)"),
    ({"logits_or_probs": Z, "targets": Y, "losses": LOSSES[:2]}, r"losses \(2,\): these do not"),
    ({"logits_or_probs": Z, "targets": Y + 0.5, "losses": LOSSES}, r"targets\[0\] = 0.5 is no"),
    ({"logits_or_probs": Z * np.nan, "targets": Y}, r"logits_or_probs\[0, 0\] is NaN"),
    ({"logits_or_probs": Z, "targets": np.full((4, 3), np.nan)}, r"targets\[0, 0\] is NaN"),
    ({"logits_or_probs": Z, "targets": Y, "losses": math.nan}, "losses is NaN"),
    ({"logits_or_probs": Z[:0], "targets": Y[:0]}, "logits_or_probs is empty"),
    ({"logits_or_probs": 1.0, "targets": 1}, "is one number"),
    ({"logits_or_probs": [[1, 2], [3]], "targets": [0, 1]}, "cannot be read as an array"),
    ({"logits_or_probs": [["a", "b"]], "targets": [0]}, "cannot be read as an array"),
    ({"logits_or_probs": Z, "targets": Y, "losses": LOSSES, "weight": [1, 2]}, "2 entries for 3"),
    ({"logits_or_probs": Z, "targets": Y, "weight": [1, -2, 1]}, "not negative"),
    ({"logits_or_probs": Z, "targets": Y, "classes": 4}, "classes is 4, but"),
    ({"losses": [1.0, 2.0]}, "holds 2 numbers; a log needs at least 5"),
    ({"losses": []}, "losses is empty"),
    ({"losses": np.ones((5, 2))}, r"shape \(5, 2\); a log is one row"),
    ({"losses": [1, 2, math.nan, 4, 5]}, r"losses\[2\] is NaN"),
    ({"losses": [math.inf] * 6}, "0 finite numbers"),
    ({"losses": [1.0] * 6, "targets": [0, 1, 7], "classes": 3}, "class indices from 0 to 2"),
    ({"losses": [1.0] * 6, "reduction": "max"}, "'max' is not known; there are: mean"),
    ({"losses": [1.0] * 6, "given": "log"}, "given: 'log' is not known"),
    ({"losses": [1.0] * 6, "dtype": "float8"}, "dtype: 'float8' is not known"),
    ({"losses": [1.0] * 6, "classes": 1}, "classes must be at least 2"),
    ({"losses": [1.0] * 6, "classes": 2.5}, "classes must be a whole number"),
    ({"losses": [1.0] * 6, "label_smoothing": 1.5}, r"must be in \[0, 1\)"),
    ({"losses": [1.0] * 6, "label_smoothing": [0.1, 0.2]}, "must be a number"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[text[:30] for _, text in REFUSED])
def test_what_cannot_be_diagnosed_is_refused_in_words(arguments, text):
    with pytest.raises(lossaudit.DiagnosisError, match=text) as told:
        lossaudit.diagnose(**arguments)
    assert isinstance(told.value, ValueError)


# --- logs of real trainings -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark(repository, loaded):
    """`benchmarks/diagnosis.py`, which made the logs, as a module."""
    path = repository / "benchmarks" / "diagnosis.py"
    return loaded("diagnosis_of_trainings", path)


@pytest.fixture(scope="module")
def trained(benchmark, repository):
    """The trainings of torch, optax, TensorFlow and Keras that are kept."""
    text = (repository / "docs" / "diagnosis" / "logs.json").read_text(encoding="utf-8")
    return [benchmark.Trained(**each) for each in json.loads(text)]


@pytest.fixture(scope="module")
def said(benchmark, trained):
    """The trainings with what is said by their logs and by their batches."""
    return [benchmark.judged(each) for each in trained]


def test_no_false_alarm_in_honest_trainings(said):
    honest = [each for each in said if not each.trained.mistakes]
    assert len(honest) >= 20
    assert {(each.by_log, each.by_batch) for each in honest} == {((), ())}


def test_every_mistake_of_a_training_is_named(said):
    names: Counter[str] = Counter()
    for judged in (judged for judged in said if judged.trained.mistakes):
        each, by_log, by_batch = judged.trained, judged.by_log, judged.by_batch
        names[each.mistakes[0]] += 1
        # A log alone says nothing false, and often nothing.
        assert set(by_log) <= set(each.mistakes), each.name
        # For K = 3 eps/(K-1) of 0.1 is eps/K of 0.15, which may be meant where none was said.
        if each.name != "eps/(K-1), K = 3, not said":
            assert set(by_batch) & set(each.mistakes), each.name
    assert min(names.values()) >= 2
    assert {"torch", "jax", "keras"} <= {each.trained.framework for each in said}


def test_the_table_in_the_docs_is_that_of_these_trainings(benchmark, said, repository):
    page = (repository / "docs" / "diagnose.md").read_text(encoding="utf-8")
    assert page.partition(benchmark.MARK)[2] == f"\n\n{benchmark.table(said)}\n"


@pytest.mark.frameworks
def test_trainings_of_today_show_the_same(benchmark):
    pytest.importorskip("torch", exc_type=ImportError)
    names = ("zero weights, K = 10", "hidden layer, K = 10", "softmax over the batch, zero weights")
    runs = [run for run in (*benchmark.HONEST, *benchmark.MISTAKEN) if run.name in names]
    for run in (run for run in runs if run.framework == "torch"):
        now = benchmark.diagnosed(benchmark.train(run))
        assert [found.misuses for found in now] == [run.mistakes, run.mistakes]
