"""What ops compute of a batch, right and wrong: the losses of rows by the reference, and bounds.

Every bound is that of the loosest arithmetic that lossaudit audits in the format of the numbers
(`adapters.declare.arithmetic_of`), by `reference.bounds`. Where a mistake puts a function before
the loss, the error of that function is carried on:

**softmax.** With d_j = m - z_j, e_j = exp(-d_j), the computed e_j is e_j exp(+-u d_j) (1 + c u),
and the computed sum is s (1 + sigma), with h = K - 1 (any order) and
|sigma| <= (1 + sum_j p_j expm1(u d_j)) (1 + c u) (1 + u)^h - 1. Where it is exp(log_softmax), there
is a factor exp(u (d_j + log s)) more. The quotient counts two. So p_j is known to a factor of
exp(u (2 d_j + log s)) (1 + c u) (1 + u)^2 / (1 - sigma), and to what a flush of subnormal numbers
takes.

**A loss behind it.** d/dp_j (log sum exp p - p_y) = softmax(p)_j - [j = y], whose absolute values
sum to at most 2, so an error of delta in each p_j moves the loss by at most 2 delta. The binary
loss of a logit p moves by at most delta, as |sigmoid(p) - y| <= 1 for y in [0, 1]. -log p_j is
monotone, and so is a guard: it lies between its values at p_j - delta and p_j + delta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...adapters.declare import FORMS, arithmetic_of
from ...reference import api
from ...reference.bounds import bounds, half_ulp
from ...reference.exact import to_float
from ...reference.formats import FORMATS
from ...reference.probability_rows import clip_bounds
from ...reference.rows import truth
from ...reference.vocabulary import Case, Floats, Options, Semantics
from ..misuse import forms
from .given import Batch

ROUND = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Shares of smoothing that people choose, where none was told."""

GUARDS = (1e-7, 1e-12, 1e-15)
"""Of Keras, and of what is written by hand (scikit-learn's log_loss had 1e-15)."""

FLOOR = -100.0
"""torch's: each logarithm of its binary cross-entropy is at least that."""

RENORMALISED = ("no", "before", "after")

MOST_IN_BATCH = 2048
"""Rows up to which a softmax over the batch is looked for: it takes their square of numbers."""


@dataclass(frozen=True)
class Losses:
    """The loss of every row, and how far an op may be from it."""

    value: Floats
    error: Floats


@dataclass(frozen=True)
class Reading:
    """One thing that an op may have computed of a batch.

    Attributes:
        misuse: its id; "" where it is right.
        says: of what the losses are then.
        losses: computes them.
    """

    misuse: str
    says: str
    losses: Callable[[], Losses]


def right(batch: Batch) -> Iterator[Reading]:
    """What is no misuse: the plain reading first."""
    if batch.binary:
        yield from _right_binary(batch)
        return
    eps, smoothed = batch.asked.label_smoothing, smoothed_share(batch) is not None
    for x in _meant(batch):
        # Targets that are smoothed already are not meant to be smoothed again.
        own = 0.0 if smoothed else eps
        yield Reading("", f"the cross-entropy of {x.what}", x.losses(batch, own))
    for x in _plainly(batch):
        if eps is None and not smoothed:
            for share in ROUND:
                says = f"the cross-entropy of {x.what}, smoothed by {share:g} (eps/K)"
                yield Reading("", says, x.losses(batch, share))


def wrong(batch: Batch) -> Iterator[Reading]:
    """Every misuse that is known."""
    yield from _wrong_binary(batch) if batch.binary else _wrong_classes(batch)


# --------------------------------------------------------------- what the predictions are taken for


@dataclass(frozen=True)
class Taken:
    """Predictions taken for logits or for probabilities.

    Attributes:
        what: in words.
        operation: of which they are the inputs.
        x: the inputs.
        semantics: of the operation.
        delta: (N, K) how far the inputs of the op may be from x.
    """

    what: str
    operation: str
    x: Floats
    semantics: Semantics = field(default_factory=Semantics)
    delta: Floats | None = None

    def losses(
        self, batch: Batch, eps: float | None = None, smoothing: str = "", target: Any = None
    ) -> Callable[[], Losses]:
        """Those of a batch, with another smoothing or target than it was given."""
        aim = batch.target if target is None else target
        told = batch.asked.label_smoothing or 0.0
        asked = _options(batch, aim, told if eps is None else eps)
        # Kept, since they are reduced in several ways.
        return cache(lambda: _losses(self, batch, aim, asked, smoothing))


def _options(batch: Batch, target: NDArray[Any], eps: float) -> Options:
    ignored = None
    if target.ndim == 1:
        ignored = -100 if batch.asked.ignore_index is None else batch.asked.ignore_index
    weight = None if batch.binary else batch.asked.weight
    return Options(label_smoothing=eps, weight=weight, ignore_index=ignored)


def _losses(
    taken: Taken, batch: Batch, target: NDArray[Any], asked: Options, smoothing: str
) -> Losses:
    binary = taken.operation.startswith("binary")
    usual = "toward 1/2" if binary else "eps/K"
    semantics = replace(taken.semantics, smoothing=smoothing or usual)
    case = Case(taken.operation, batch.dtype, taken.x, target, asked)
    if taken.operation == "kl_divergence":
        case = _as_divergence(case)
    form = None if taken.operation in FORMS else "log target"
    # The gradient plays no part; "relative" is one form of it, where "any" would be several.
    arithmetic = replace(arithmetic_of(taken.operation, batch.dtype, form), gradient="relative")
    with np.errstate(all="ignore"):
        value = to_float(truth(case, semantics).loss)
        error = bounds(case, semantics, arithmetic).loss
        if taken.delta is not None:
            error = error + _carried(taken, batch, case)
        # A factor 1 for the final rounding where the losses were stored once more.
        error = error + half_ulp(value + error, FORMATS[batch.dtype])
    # A loss that is infinite is so exactly, in every format: the logarithm of 0.
    return Losses(value, np.where(np.isinf(value), 0.0, error))


def _as_divergence(case: Case) -> Case:
    """-x_y as the divergence from a one-hot row; class weights and ignored rows are its weights."""
    target, asked, classes = case.target, case.options, case.inputs.shape[1]
    weight = np.asarray(asked.weight or np.ones(classes))
    if target.ndim == 1:
        kept = target != asked.ignore_index
        label = np.where(kept, target, 0)
        target, sample = np.eye(classes)[label], weight[label] * kept
    else:
        sample = np.ones(case.rows)
    return replace(case, target=target, options=Options(), sample_weight=sample)


def _carried(taken: Taken, batch: Batch, case: Case) -> Floats:
    """What an error of the inputs does to the loss of each row."""
    delta = np.asarray(taken.delta)
    weight = max(case.options.weight or (1.0,))
    mass = 1.0 if case.target.ndim == 1 else np.abs(case.target).sum(axis=1)
    if taken.operation == "cross_entropy":
        return np.asarray(2.0 * weight * mass * delta.max(axis=1))
    if taken.operation == "binary_cross_entropy_with_logits":
        return delta[:, 0]
    if taken.operation == "kl_divergence":
        return np.asarray(mass * delta.max(axis=1)) * weight
    if taken.operation == "binary_cross_entropy":
        here, there = _of_log(taken, taken.x, batch), _of_log(taken, 1.0 - taken.x, batch)
        return np.maximum(here, there)[:, 0]
    each = _of_log(taken, taken.x, batch)
    if taken.semantics.renormalise != "no":
        # The sum that divides is at least the largest probability, or lo.
        each = each + delta.sum(axis=1, keepdims=True) / taken.x.max(axis=1, keepdims=True)
    if case.target.ndim == 1:
        label = np.where((case.target >= 0) & (case.target < case.inputs.shape[1]), case.target, 0)
        return np.asarray(weight * each[np.arange(case.rows), label])
    return np.asarray(
        weight * np.where(case.target != 0, np.abs(case.target) * each, 0).sum(axis=1)
    )


def _of_log(taken: Taken, p: Floats, batch: Batch) -> Floats:
    """How far -log p moves at most where p is known to delta, behind the guard."""
    delta, low, high = np.asarray(taken.delta), 0.0, 1.0
    if taken.semantics.guard == "clip":
        low, high = clip_bounds(taken.semantics.guard_eps, batch.dtype)
    ends = [np.clip(end, low, high) for end in (p - delta, p, p + delta)]
    with np.errstate(divide="ignore", invalid="ignore"):
        below, here, above = (np.log(end) for end in ends)
        if taken.semantics.guard == "clamp log":
            below, here = np.maximum(below, FLOOR), np.maximum(here, FLOOR)
        moved = np.maximum(above - here, here - below)
    return np.where(np.isnan(moved), np.inf, moved)


# ------------------------------------------------------------------------------- several classes


def is_distribution(x: Floats, dtype: str) -> bool:
    """Whether every row is in [0, 1] and sums to 1, as far as a softmax in the format does.

    With s' the computed sum of the computed e_j, sum_j e_j / s' is 1 up to K - 1 roundings of the
    sum and two of the quotient; where it is exp(log_softmax), each p_j has an error of u L_j p_j
    and c u p_j, L_j = -log p_j, and sum_j p_j L_j is at most log K.
    """
    classes = x.shape[1]
    c = arithmetic_of("cross_entropy", dtype).c_exp
    room = FORMATS[dtype].unit_roundoff * (classes + 1 + c + 2.0 * np.log(classes))
    inside = bool(((x >= 0.0) & (x <= 1.0)).all())
    return inside and bool((np.abs(x.sum(axis=1) - 1.0) <= room).all())


def as_probabilities(batch: Batch) -> bool:
    """Whether the rows are read as probabilities: as was said, or since they are distributions."""
    if batch.asked.given is not None:
        return batch.asked.given == "probabilities"
    return is_distribution(batch.x, batch.dtype)


def _logits(batch: Batch) -> Taken:
    return Taken("the predictions as logits", "cross_entropy", batch.x)


def _guarded(x: Floats, what: str, delta: Floats | None = None) -> Iterator[Taken]:
    """Probabilities behind each guard, with and without a division by their sum."""
    operation = "cross_entropy_probabilities"
    for renormalise in RENORMALISED:
        for eps in GUARDS:
            guard = Semantics(guard="clip", guard_eps=eps, renormalise=renormalise)
            yield Taken(f"{what} clipped at {eps:g}", operation, x, guard, delta)
    floored = Semantics(guard="clamp log", guard_floor=FLOOR)
    yield Taken(f"{what}, each log at least -100", operation, x, floored, delta)


def _meant(batch: Batch) -> Iterator[Taken]:
    """As what the predictions may rightly be taken, guards that do not act among it."""
    if not as_probabilities(batch):
        yield _logits(batch)
        return
    x, operation = batch.x, "cross_entropy_probabilities"
    if not ((x >= 0.0) & (x <= 1.0)).all():
        return
    for renormalise in RENORMALISED:
        how = Semantics(renormalise=renormalise)
        yield Taken("the predictions as probabilities", operation, x, how)
    yield from (g for g in _guarded(x, "the predictions") if not _acts(g, batch))


def _plainly(batch: Batch) -> list[Taken]:
    """The first of them: what smoothing and labels are looked for in."""
    return list(_meant(batch))[:1]


def _acts(taken: Taken, batch: Batch) -> bool:
    """Whether a guard keeps the probability of a target from what it is: the loss is then less.

    What it does to probabilities near 1 costs less than the guard itself, and misleads nobody.
    """
    with np.errstate(divide="ignore"):
        if taken.semantics.guard == "clip":
            low, high = clip_bounds(taken.semantics.guard_eps, batch.dtype)
            below, above = taken.x < low, taken.x > high
        else:
            below = np.log(taken.x) < taken.semantics.guard_floor
            above = np.log1p(-taken.x) < taken.semantics.guard_floor
    if batch.binary:
        return bool(((below & (batch.target > 0)) | (above & (batch.target < 1))).any())
    if batch.index:
        if batch.asked.label_smoothing:
            return bool(below.any())
        kept = ~(batch.ignored | batch.outside)
        return bool(below[np.flatnonzero(kept), batch.target[kept]].any())
    return bool((below & (batch.target > 0)).any())


def softmax(x: Floats, dtype: str) -> tuple[Floats, Floats]:
    """Softmax of rows, and how far one in the format may be from it; see above."""
    p, u = np.asarray(api.softmax(x)), FORMATS[dtype].unit_roundoff
    c = arithmetic_of("cross_entropy", dtype).c_exp * u
    d = x.max(axis=1, keepdims=True) - x
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        spread = 1.0 + np.where(p > 0, p * np.expm1(u * d), 0.0).sum(axis=1, keepdims=True)
        sigma = spread * (1.0 + c) * (1.0 + u) ** (x.shape[1] - 1) - 1.0
        log_s = -np.log(p.max(axis=1, keepdims=True))
        grown = np.exp(u * (2.0 * d + log_s)) * (1.0 + c) * (1.0 + u) ** 2 / (1.0 - sigma) - 1.0
        grown = np.where((sigma >= 1.0) | ~np.isfinite(grown), np.inf, grown)
        delta = np.where(p > 0, p * grown, 0.0) + FORMATS[dtype].least_normal
    return p, np.minimum(delta, 1.0)


def _wrong_classes(batch: Batch) -> Iterator[Reading]:
    if as_probabilities(batch):
        yield from _wrong_probabilities(batch)
    else:
        yield from _wrong_logits(batch)
    for taken in _plainly(batch):
        yield from _smoothings(batch, taken)
        yield from _labels(batch, taken)


def _wrong_probabilities(batch: Batch) -> Iterator[Reading]:
    x = batch.x
    says = "the cross-entropy of the predictions, which are probabilities, taken for logits"
    yield Reading("double-softmax", says, _logits(batch).losses(batch))
    if ((x < 0.0) | (x > 1.0)).any():
        yield from _taken_for_probabilities(batch)
        return
    yield from _acting(batch, _guarded(x, "the predictions"))
    if _no_less_than_0(batch):
        taken = Taken("", "kl_divergence", x)
        says = "minus the probability of the target, which is no logarithm"
        yield Reading("probabilities-for-logs", says, taken.losses(batch))
    if not batch.index and batch.target.min() >= 0.0 and batch.target.max() <= 1.0:
        for taken in _guarded(batch.target, "the targets"):
            says = f"the cross-entropy with the predictions for the target, of {taken.what}"
            yield Reading("swapped", says, taken.losses(batch, 0.0, target=x))


def _wrong_logits(batch: Batch) -> Iterator[Reading]:
    p, delta = softmax(batch.x, batch.dtype)
    again = Taken("", "cross_entropy", p, delta=delta)
    says = "the cross-entropy of softmax(predictions) taken for logits"
    yield Reading("double-softmax", says, again.losses(batch))
    yield from _acting(batch, _guarded(p, "softmax(predictions)", delta))
    yield from _taken_for_probabilities(batch)
    if batch.index and 1 < batch.rows <= MOST_IN_BATCH and not batch.asked.label_smoothing:
        says = "-log of a softmax over the samples, at the column of each label"
        yield Reading("wrong-axis", says, cache(lambda: _over_batch(batch)))
    if not _no_less_than_0(batch):
        return
    says = "minus the logit of the target, which is no log-probability"
    taken = Taken("", "kl_divergence", batch.x)
    yield Reading("logits-for-log-probabilities", says, taken.losses(batch))
    says = "minus the probability of the target, which is no logarithm"
    taken = Taken("", "kl_divergence", p, delta=delta)
    yield Reading("probabilities-for-logs", says, taken.losses(batch))


def _no_less_than_0(batch: Batch) -> bool:
    """Whether the targets have an entropy, which a divergence takes from the cross-entropy."""
    return batch.index or bool((batch.target >= 0.0).all())


def _acting(batch: Batch, guarded: Iterator[Taken]) -> Iterator[Reading]:
    for taken in guarded:
        if _acts(taken, batch):
            says = f"the cross-entropy of {taken.what}"
            yield Reading("probability-guard", says, taken.losses(batch))


def _taken_for_probabilities(batch: Batch) -> Iterator[Reading]:
    """Logits in an op for probabilities: clipped, and divided by their sum before or after."""
    x, u = batch.x, batch.unit
    clipped = np.clip(x, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        total = x.sum(axis=1, keepdims=True)
        # The sum of terms of both signs is wrong by (K - 1) u sum |x|, the quotient by two u.
        lost = batch.classes * u * np.abs(x).sum(axis=1, keepdims=True)
        quotient = x / total
        delta = np.abs(quotient) * (lost / np.maximum(np.abs(total) - lost, 0.0) + 2.0 * u)
    usable = bool(np.isfinite(quotient).all() and np.isfinite(delta).all())
    for eps in GUARDS:
        for renormalise in RENORMALISED:
            given, error = clipped, None
            guard = Semantics(guard="clip", guard_eps=eps, renormalise=renormalise)
            if renormalise == "before":
                if not usable:
                    continue
                given = np.clip(quotient, 0.0, 1.0)
                ends = (np.clip(quotient + side * delta, 0.0, 1.0) for side in (-1.0, 1.0))
                error = np.maximum.reduce([np.abs(end - given) for end in ends])
                guard = replace(guard, renormalise="no")
            divided = {"no": "", "before": " divided by their sum", "after": ""}[renormalise]
            says = f"the cross-entropy of the predictions{divided} clipped at {eps:g}, as if they "
            says += "were probabilities"
            taken = Taken("", "cross_entropy_probabilities", given, guard, error)
            yield Reading("logits-for-probabilities", says, taken.losses(batch))


def _over_batch(batch: Batch) -> Losses:
    """A cross-entropy of columns: sample i is the class, in column y_i."""
    kept = np.flatnonzero(~(batch.ignored | batch.outside))
    label = batch.target[kept]
    case = Case("cross_entropy", batch.dtype, batch.x[:, label].T, kept)
    value, error = np.zeros(batch.rows), np.zeros(batch.rows)
    arithmetic = arithmetic_of("cross_entropy", batch.dtype)
    weight = np.asarray(batch.asked.weight or np.ones(batch.classes))[label]
    value[kept] = weight * to_float(truth(case, Semantics()).loss)
    error[kept] = weight * bounds(case, Semantics(), arithmetic).loss
    return Losses(value, error + 2.0 * batch.unit * np.abs(value))


def smoothed_share(batch: Batch) -> float | None:
    """What every target gives to the other classes together, where all of them are smoothed alike.

    They are so where each row has its largest entry once, K - 1 equal ones beside it, and all rows
    have the same two numbers.
    """
    if batch.index or batch.binary:
        return None
    ordered = np.sort(batch.target, axis=1)
    same = (ordered == ordered[0]).all() and ordered[0, 0] == ordered[0, -2]
    if not same or not 0.0 < ordered[0, 0] < ordered[0, -1]:
        return None
    return float(1.0 - ordered[0, -1])


def _smoothings(batch: Batch, taken: Taken) -> Iterator[Reading]:
    """The other convention, smoothing twice, and none where it was asked for."""
    eps = batch.asked.label_smoothing
    plain = "the cross-entropy of " + taken.what
    share = smoothed_share(batch)
    if eps and share is None:
        says = f"{plain} without any smoothing"
        yield Reading("smoothing", says, taken.losses(batch, 0.0))
    for each in (eps,) if eps else ROUND if eps is None else ():
        says = f"{plain} smoothed by {each:g} over the other classes, eps/(K-1)"
        yield Reading("smoothing", says, taken.losses(batch, each, "eps/(K-1)"))
        says = f"{plain} smoothed twice by {each:g}, eps/K"
        yield Reading("smoothing", says, taken.losses(batch, forms.twice(each)))
        if share is not None:
            says = f"{plain} smoothed by {each:g} where the targets are smoothed already"
            yield Reading("smoothing", says, taken.losses(batch, each))


def _labels(batch: Batch, taken: Taken) -> Iterator[Reading]:
    """Indices where distributions are due."""
    if not batch.index:
        return
    known = ~batch.ignored
    spread = np.where(known, batch.target, 0)[:, None] * np.ones(batch.classes)
    says = "sum_j y (-log p_j), with the class index y as the weight of every class"
    yield Reading("labels-mixed", says, taken.losses(batch, target=spread))


# ------------------------------------------------------------------------------------ binary labels

CROWD = 20
"""Predictions near an end of [0, 1], none of them beyond, that tell probabilities from logits.

Logits have nothing at 0 and 1 that would stop them: one within 0.1 of an end is as soon on the
other side of it as on this one, as far as their density is even over 0.2. For 20 the chance is
2^-20."""

NEAR = 0.1


def crowded(batch: Batch) -> bool:
    """Whether predictions crowd at 0 or 1 without one beyond, as only probabilities do."""
    x = batch.x
    near = ((x <= NEAR) | (x >= 1.0 - NEAR)).sum()
    return _within_0_1(x) and int(near) >= CROWD


def _within_0_1(x: Floats) -> bool:
    return bool(((x >= 0.0) & (x <= 1.0)).all())


def _binary_probabilities(batch: Batch) -> bool:
    return batch.asked.given == "probabilities" or (batch.asked.given is None and crowded(batch))


LOGITS_BCE, BCE = "binary_cross_entropy_with_logits", "binary_cross_entropy"


def _guarded_binary(x: Floats, what: str, delta: Floats | None = None) -> Iterator[Taken]:
    for eps in GUARDS:
        guard = Semantics(guard="clip", guard_eps=eps)
        yield Taken(f"{what} clipped at {eps:g}", BCE, x, guard, delta)
    floored = Semantics(guard="clamp log", guard_floor=FLOOR)
    yield Taken(f"{what}, each log at least -100", BCE, x, floored, delta)


def _meant_binary(batch: Batch) -> Iterator[Taken]:
    if batch.asked.given != "probabilities" and not _binary_probabilities(batch):
        yield Taken("the predictions as logits", LOGITS_BCE, batch.x)
    if batch.asked.given != "logits" and _within_0_1(batch.x):
        yield Taken("the predictions as probabilities", BCE, batch.x)
        yield from (g for g in _guarded_binary(batch.x, "the predictions") if not _acts(g, batch))


def _right_binary(batch: Batch) -> Iterator[Reading]:
    for taken in _meant_binary(batch):
        yield Reading("", f"the binary cross-entropy of {taken.what}", taken.losses(batch))
        if batch.asked.label_smoothing is None:
            for eps in ROUND:
                says = f"the binary cross-entropy of {taken.what}, smoothed by {eps:g} toward 1/2"
                yield Reading("", says, taken.losses(batch, eps))


def _wrong_binary(batch: Batch) -> Iterator[Reading]:
    x = batch.x
    plain = "the binary cross-entropy of "
    if _binary_probabilities(batch):
        says = plain + "the predictions, which are probabilities, taken for logits"
        yield Reading("double-sigmoid", says, Taken("", LOGITS_BCE, x).losses(batch))
    if _within_0_1(x) and batch.asked.given != "logits":
        yield from _acting(batch, _guarded_binary(x, "the predictions"))
        if batch.target.min() >= 0.0 and batch.target.max() <= 1.0:
            for taken in _guarded_binary(batch.target, "the targets"):
                says = f"{plain}{taken.what}, with the predictions for the target"
                yield Reading("swapped", says, taken.losses(batch, 0.0, target=x))
    if not _binary_probabilities(batch):
        c = arithmetic_of(LOGITS_BCE, batch.dtype).c_sigmoid
        p = np.asarray(api.sigmoid(x))
        # Where exp(-x) is below a quarter of the unit, 1 + exp(-x) rounds to 1, and so does p.
        whole = x > -math.log(batch.unit / 4.0)
        p = np.where(whole, 1.0, p)
        delta = (c + 1.0) * batch.unit * p + FORMATS[batch.dtype].least_normal
        delta = np.where(whole, 0.0, delta)
        again = Taken("", LOGITS_BCE, p, delta=delta)
        says = plain + "sigmoid(predictions) taken for logits"
        yield Reading("double-sigmoid", says, again.losses(batch))
        # 1 - p is formed of the rounded p.
        rest = np.where(whole, 0.0, delta + batch.unit)
        yield from _acting(batch, _guarded_binary(p, "sigmoid(predictions)", rest))
    if not _within_0_1(x):
        for taken in _guarded_binary(np.clip(x, 0.0, 1.0), "the predictions"):
            says = f"{plain}{taken.what}, as if they were probabilities"
            yield Reading("logits-for-probabilities", says, taken.losses(batch))
    for taken in _meant_binary(batch):
        yield from _smoothings_binary(batch, taken)


def _smoothings_binary(batch: Batch, taken: Taken) -> Iterator[Reading]:
    eps, plain = batch.asked.label_smoothing, f"the binary cross-entropy of {taken.what}"
    if not np.isin(batch.target, (0.0, 1.0)).all():
        return
    if eps:
        says = f"{plain} without any smoothing"
        yield Reading("binary-smoothing", says, taken.losses(batch, 0.0))
    for each in (eps,) if eps else ROUND if eps is None else ():
        target = np.where(batch.target > 0.5, 1.0 - each, each)
        says = f"{plain} with labels of {1.0 - each:g} and {each:g}"
        yield Reading("binary-smoothing", says, taken.losses(batch, 0.0, target=target))
        twice = forms.twice(each)
        says = f"{plain} smoothed twice by {each:g}"
        yield Reading("binary-smoothing", says, taken.losses(batch, twice))
