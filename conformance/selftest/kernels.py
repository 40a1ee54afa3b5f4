"""Right implementations, computed in steps that a mutant may change one at a time.

Everything is float64, in the forms that do not cancel, and rounded once to the format of the case:
no law may say a word about them. They share nothing with the reference but the rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Case, Floats

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]

NOTHING_PASSED = -100
"""The label that is ignored where the caller names none, as in PyTorch."""


def rounded(case: Case, *arrays: Floats) -> tuple[Floats, ...]:
    """The arrays in the format of the case."""
    return tuple(round_to_format(np.asarray(a, np.float64), FORMATS[case.dtype]) for a in arrays)


def times(factor: Floats, value: Floats) -> Floats:
    """The product, where nothing times infinity is nothing."""
    return np.where(factor == 0, 0.0, factor * value)


class Kernel(ABC):
    """What every implementation does about its rows: cotangents, ignored rows, the reduction."""

    def __call__(self, case: Case) -> tuple[Floats, ...]:
        with np.errstate(all="ignore"):
            return rounded(case, *self.compute(case))

    def compute(self, case: Case) -> tuple[Floats, ...]:
        self.demand_valid(case)
        ignored = self.ignored(case)
        loss, gradient, by_target = self.rows(case, ignored)
        loss, gradient = self.without(ignored, loss, gradient)
        if case.cotangent is not None:
            gradient = self.pulled(case.cotangent, gradient)
            by_target = by_target * case.cotangent[:, None]
        loss, gradient = self.reduced(case, ignored, loss, gradient)
        return loss, gradient, by_target

    @abstractmethod
    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        """Loss, gradient and gradient in the target of each row."""

    def demand_valid(self, case: Case) -> None:
        """A label outside [0, K) raises, and so does an array that is no batch of rows."""
        if case.inputs.ndim != 2 or case.target.shape not in (case.inputs.shape, (case.rows,)):
            raise ValueError(f"inputs of {case.inputs.shape}, a target of {case.target.shape}")
        if case.target_kind != "index":
            return
        outside = (case.target < 0) | (case.target >= case.inputs.shape[1])
        if (outside & ~self.ignored(case)).any():
            raise IndexError("a label is outside of the classes")

    def ignored(self, case: Case) -> Bools:
        if case.target_kind != "index":
            return np.zeros(case.rows, dtype=np.bool_)
        named = case.options.ignore_index
        return np.asarray(case.target == (NOTHING_PASSED if named is None else named))

    def without(self, ignored: Bools, loss: Floats, gradient: Floats) -> tuple[Floats, Floats]:
        """Ignored rows count for nothing, whatever is in them."""
        return np.where(ignored, 0.0, loss), np.where(ignored[:, None], 0.0, gradient)

    def pulled(self, cotangent: Floats, gradient: Floats) -> Floats:
        return gradient * cotangent[:, None]

    def divisor(self, case: Case, ignored: Bools) -> float:
        """What the mean divides by: the weights of the labels that count, or the rows."""
        if case.target_kind != "index":
            return float(case.rows)
        weight = np.ones(case.inputs.shape[1])
        if case.options.weight is not None:
            weight = np.array(case.options.weight)
        return float(weight[case.target[~ignored]].sum())

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        if case.options.reduction == "sum":
            return loss.sum(), gradient
        if case.options.reduction == "mean":
            by = np.float64(self.divisor(case, ignored))
            return loss.sum() / by, gradient / by if by else gradient
        return loss, gradient


class CrossEntropy(Kernel):
    """-sum_j a_j log softmax(z)_j and A p_j - a_j, a the weighted and smoothed target."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        z = self.logits(case)
        surprise, p, complement = self.softmax(z)
        a = self.coefficients(case, ignored)
        loss = self.losses(a, surprise)
        if case.direction is None:
            gradient = self.slopes(case, a, p, complement)
        else:
            gradient = self.curvature(a, p, complement, case.direction)
        lost = self.lost(z)
        loss = np.where(lost, np.nan, loss)
        return loss, np.where(lost[:, None], np.nan, gradient), surprise

    def logits(self, case: Case) -> Floats:
        return case.inputs

    def lost(self, z: Floats) -> Bools:
        """Rows without a value: NaN, +inf, or nothing but -inf."""
        without = np.isnan(z).any(axis=1) | np.isposinf(z).any(axis=1) | np.isneginf(z).all(axis=1)
        return np.asarray(without)

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        """-log p_j, p_j and 1 - p_j."""
        m = self.largest(z)
        d = np.where(z == m, 0.0, m - z)
        e = self.exp(-d)
        top = np.arange(z.shape[1]) == self.first_largest(z)[:, None]
        rest = self.total(np.where(top, 0.0, e))
        s = 1.0 + rest
        p = e / s
        return d + np.log1p(rest), p, np.where(top, rest / s, 1.0 - p)

    def largest(self, z: Floats) -> Floats:
        return z.max(axis=1, keepdims=True, initial=-np.inf)

    def first_largest(self, z: Floats) -> NDArray[np.intp]:
        return z.argmax(axis=1) if z.shape[1] else np.zeros(len(z), dtype=np.intp)

    def exp(self, x: Floats) -> Floats:
        return np.exp(x)

    def total(self, e: Floats) -> Floats:
        return e.sum(axis=1, keepdims=True)

    def target(self, case: Case, ignored: Bools) -> Floats:
        """The distribution, or the one-hot rows of the labels."""
        if case.target_kind != "index":
            return np.asarray(case.target, dtype=np.float64)
        labels = np.where(ignored, 0, case.target)
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)

    def coefficients(self, case: Case, ignored: Bools) -> Floats:
        q = self.target(case, ignored)
        if case.options.label_smoothing:
            q = self.smoothed(q, case.options.label_smoothing)
        if case.options.weight is not None:
            q = self.weighted(q, np.array(case.options.weight), case)
        return q

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q * (1.0 - eps) + eps / q.shape[1]

    def weighted(self, q: Floats, weight: Floats, case: Case) -> Floats:
        del case
        return q * weight

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        return times(a, surprise).sum(axis=1)

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        del case
        # What the other classes have is added up: taken from the sum, a little smoothing is lost.
        others = a @ (1.0 - np.eye(a.shape[1]))
        return others * p - a * complement

    def curvature(self, a: Floats, p: Floats, complement: Floats, v: Floats) -> Floats:
        """A p_j (c_j (1 - p_j) - sum over i != j of p_i c_i), c the steps from the largest p."""
        top = p.argmax(axis=1)[:, None] if p.size else np.zeros((len(p), 1), dtype=np.intp)
        c = v - np.take_along_axis(v, top, axis=1)
        at_top = np.arange(p.shape[1]) == top
        weighed = np.where(at_top, 0.0, p * c)  # c is 0 at the top
        rest = weighed.sum(axis=1, keepdims=True) - weighed
        return a.sum(axis=1, keepdims=True) * p * (c * complement - rest)


class BinaryCrossEntropy(Kernel):
    """w y softplus(-z) + (1 - y) softplus(z), and (1 - y) sigmoid(z) - w y sigmoid(-z)."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        del ignored
        z, y = self.logits(case), self.target(case)
        yes, no = self.coefficients(case, y)
        loss = times(yes, self.softplus(-z)) + times(no, self.softplus(z))
        gradient = self.slopes(z, yes, no)
        w = self.emphasis(case)
        by_target = -z if w == 1.0 else w * self.softplus(-z) - self.softplus(z)
        return loss[:, 0], gradient, (1.0 - case.options.label_smoothing) * by_target

    def logits(self, case: Case) -> Floats:
        return case.inputs

    def target(self, case: Case) -> Floats:
        y, eps = self.labels(case), case.options.label_smoothing
        return self.smoothed(y, eps) if eps else y

    def labels(self, case: Case) -> Floats:
        return np.asarray(case.target, dtype=np.float64)

    def smoothed(self, y: Floats, eps: float) -> Floats:
        return y * (1.0 - eps) + eps / 2.0

    def emphasis(self, case: Case) -> float:
        return 1.0 if case.options.pos_weight is None else case.options.pos_weight

    def coefficients(self, case: Case, y: Floats) -> tuple[Floats, Floats]:
        """Of -log sigmoid(z) and of -log sigmoid(-z)."""
        return self.emphasis(case) * y, 1.0 - y

    def softplus(self, z: Floats) -> Floats:
        return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))

    def sigmoid(self, z: Floats) -> Floats:
        e = np.exp(-np.abs(z))
        return np.where(z < 0, e, 1.0) / (1.0 + e)

    def slopes(self, z: Floats, yes: Floats, no: Floats) -> Floats:
        return no * self.sigmoid(z) - yes * self.sigmoid(-z)


class Likelihood(Kernel):
    """-log p_t from probabilities, and -1 / p_t."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        p = self.probabilities(case)
        q = np.asarray(case.target, dtype=np.float64)
        if case.target_kind == "index":
            labels = np.where(ignored, 0, case.target)
            q = (np.arange(p.shape[1]) == labels[:, None]).astype(np.float64)
        surprise = self.surprise(p)
        return times(q, surprise).sum(axis=1), self.slopes(q, p), surprise

    def probabilities(self, case: Case) -> Floats:
        return case.inputs

    def surprise(self, p: Floats) -> Floats:
        return -np.log(p)

    def slopes(self, q: Floats, p: Floats) -> Floats:
        return np.where(q == 0, 0.0, -q / p)


class BinaryLikelihood(Kernel):
    """-(y log p + (1 - y) log(1 - p)), (p - y) / (p (1 - p)); a target outside [0, 1] raises."""

    def demand_valid(self, case: Case) -> None:
        super().demand_valid(case)
        if ((case.target < 0) | (case.target > 1)).any():
            raise ValueError("a target is outside [0, 1]")

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        del ignored
        p, y = case.inputs, np.asarray(case.target, dtype=np.float64)
        yes, no = self.surprises(p)
        loss = times(y, yes) + times(1.0 - y, no)
        return loss[:, 0], self.slopes(p, y), np.where(p == 0.5, 0.0, yes - no)

    def surprises(self, p: Floats) -> tuple[Floats, Floats]:
        return -np.log(p), -np.log1p(-p)

    def slopes(self, p: Floats, y: Floats) -> Floats:
        certain = np.where(y == 0, 1.0 / (1.0 - p), -1.0 / p)
        return np.where((y == 0) | (y == 1), certain, (p - y) / (p * (1.0 - p)))


class Focal(CrossEntropy):
    """w (1 - p_t)^g (-log p_t) from logits and labels, and its derivative by the product rule."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        z = self.logits(case)
        surprise, p, complement = self.softmax(z)
        hot = self.target(case, ignored) == 1.0
        own, share, rest = (np.where(hot, x, 0.0).sum(axis=1) for x in (surprise, p, complement))
        gamma, alpha = self.factors(case)
        loss = alpha * times(self.modulator(share, rest, gamma), own)
        gradient = alpha * self.focal_slopes((own, share, rest), p, hot, gamma)
        lost = self.lost(z)
        loss = np.where(lost, np.nan, loss)
        return loss, np.where(lost[:, None], np.nan, gradient), np.zeros(p.shape)

    def factors(self, case: Case) -> tuple[float, float]:
        gamma, alpha = case.options.gamma, case.options.alpha
        return 2.0 if gamma is None else gamma, 1.0 if alpha is None else alpha

    def modulator(self, share: Floats, rest: Floats, gamma: float) -> Floats:
        del share
        return rest**gamma

    def focal_slopes(
        self, picked: tuple[Floats, Floats, Floats], p: Floats, hot: Bools, gamma: float
    ) -> Floats:
        """-(g p_t L (1 - p_t)^g + (1 - p_t)^(g + 1)) at the label, and its share p_j elsewhere."""
        own, share, rest = picked
        pull = gamma * times(share, own) + rest
        at_label = -pull * rest**gamma
        elsewhere = times(rest, rest ** (gamma - 1.0)) / np.where(rest == 0, 1.0, rest) * pull
        return np.where(hot, at_label[:, None], p * elsewhere[:, None])


class Divergence(Kernel):
    """sum_j q_j (log q_j - x_j) from log-probabilities, and -q."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        del ignored
        x, q = case.inputs, np.asarray(case.target, dtype=np.float64)
        surprise = np.log(np.where(q == 0, 1.0, q)) - x
        return times(q, surprise).sum(axis=1), -q, surprise + 1.0


RIGHT: dict[str, Callable[[], Kernel]] = {
    "kl_divergence": Divergence,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy_with_logits": BinaryCrossEntropy,
    "cross_entropy_probabilities": Likelihood,
    "binary_cross_entropy": BinaryLikelihood,
    "focal": Focal,
}
"""The right implementation of each operation."""
