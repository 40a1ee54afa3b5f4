"""What is trained: the loss as it is meant, and with each mistake that means something here.

With one sample to a step a sum in place of a mean is no mistake: it is the same number. A softmax
over the batch is 1 for its one row, so that the loss and its gradient are 0 and nothing is learned
(`wrong-axis`, which is trained all the same). A `log_softmax` before the loss is no mistake either:
it changes nothing but roundings.

Each gradient is given as the reference computes it, every operation correctly rounded in the
format. Where a mistake is a function before the loss, both are operations: p = softmax(z), then the
gradient of the loss by p, then the softmax's Jacobian on it, product by product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference import api
from ...reference.formats import FORMATS, Format, round_to_format
from ...reference.vocabulary import Floats
from ..misuse import forms

Labels = NDArray[np.int64]

EPS = 0.1


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes:
        name: also what `adapters/train_alone.py` calls it.
        title: a few words.
        losses: (z, y) of many rows -> their losses, in float64.
        slopes: (z, y, dtype) of one row -> its gradient by z.
        smoothing: how much the label is smoothed; None where the loss is no cross-entropy of z
            with a label. Where it is one, `judge.py` derives a bound.
    """

    name: str
    title: str
    losses: Callable[[Floats, Labels], Floats]
    slopes: Callable[[Floats, Labels, str], Floats]
    smoothing: float | None = None


def _smoothed_losses(eps: float) -> Callable[[Floats, Labels], Floats]:
    return lambda z, y: np.asarray(
        api.cross_entropy(z, y, reduction="none", label_smoothing=eps), np.float64
    )


def _smoothed(eps: float) -> Callable[[Floats, Labels, str], Floats]:
    def slopes(z: Floats, y: Labels, dtype: str) -> Floats:
        found = api.cross_entropy_grad(z, y, reduction="none", label_smoothing=eps, dtype=dtype)
        return np.asarray(found, np.float64)

    return slopes


_cross_entropy, _cross_entropies = _smoothed(0.0), _smoothed_losses(0.0)


def _softmax(z: Floats, dtype: str = "float64") -> Floats:
    return np.asarray(api.softmax(z, dtype=dtype), np.float64)


def _log_softmax_first(z: Floats, y: Labels, dtype: str) -> Floats:
    logs = np.asarray(api.log_softmax(z, dtype=dtype), np.float64)
    return through_log_softmax(_softmax(z, dtype), _cross_entropy(logs, y, dtype), FORMATS[dtype])


def _double_softmaxes(z: Floats, y: Labels) -> Floats:
    return _cross_entropies(_softmax(z), y)


def _double_softmax(z: Floats, y: Labels, dtype: str) -> Floats:
    p = _softmax(z, dtype)
    return through_softmax(p, _cross_entropy(p, y, dtype), FORMATS[dtype])


def _swapped_losses(z: Floats, y: Labels) -> Floats:
    """-sum_j p_j log softmax(e_y)_j: the label is what is predicted, the prediction the target."""
    label = np.eye(z.shape[1])[y]
    return np.asarray(api.cross_entropy(label, _softmax(z), reduction="none"), np.float64)


def _swapped(z: Floats, y: Labels, dtype: str) -> Floats:
    """By the target the gradient is -log softmax(e_y), whatever the prediction is."""
    label, p = np.eye(z.shape[1])[y], _softmax(z, dtype)
    slopes = -np.asarray(api.log_softmax(label, dtype=dtype), np.float64)
    return through_softmax(p, slopes, FORMATS[dtype])


def _sigmoid_losses(z: Floats, y: Labels) -> Floats:
    """The mean over the classes, as binary losses give it."""
    label = np.eye(z.shape[1])[y]
    return np.asarray(api.binary_cross_entropy_with_logits(z, label, reduction="none")).mean(axis=1)


def _sigmoids(z: Floats, y: Labels, dtype: str) -> Floats:
    label = np.eye(z.shape[1])[y]
    found = api.binary_cross_entropy_with_logits_grad(z, label, reduction="mean", dtype=dtype)
    return np.asarray(found, np.float64)


def _losses_over_batch(z: Floats, y: Labels) -> Floats:
    """Of batches of one: the softmax of one logit is 1."""
    return _cross_entropies(np.take_along_axis(z, y[:, None], axis=1), np.zeros_like(y))


def _over_batch(z: Floats, y: Labels, dtype: str) -> Floats:
    slopes = np.zeros_like(z)
    slopes[:, y] = _cross_entropy(z[:, y], np.zeros_like(y), dtype)
    return slopes


def through_softmax(p: Floats, slopes: Floats, fmt: Format) -> Floats:
    """p (g - sum p g), each operation rounded, the sum from left to right (see `descend`)."""
    inner = _sum(round_to_format(p * slopes, fmt), fmt)
    return round_to_format(p * round_to_format(slopes - inner, fmt), fmt)


def through_log_softmax(p: Floats, slopes: Floats, fmt: Format) -> Floats:
    """g - p sum g, each operation rounded."""
    return round_to_format(slopes - round_to_format(p * _sum(slopes, fmt), fmt), fmt)


def _sum(terms: Floats, fmt: Format) -> Floats:
    whole = terms[:, :1]
    for j in range(1, terms.shape[1]):
        whole = round_to_format(whole + terms[:, j : j + 1], fmt)
    return whole


RIGHT = "right"
TWICE = forms.twice(EPS)
RECIPES = (
    Recipe(RIGHT, "as it is meant", _cross_entropies, _cross_entropy, 0.0),
    Recipe("log-softmax-first", "log_softmax first", _cross_entropies, _log_softmax_first, 0.0),
    Recipe("double-softmax", "a softmax too many", _double_softmaxes, _double_softmax),
    Recipe("smoothed", f"smoothed by {EPS:g}", _smoothed_losses(EPS), _smoothed(EPS), EPS),
    Recipe("smoothed-twice", "smoothed twice", _smoothed_losses(TWICE), _smoothed(TWICE), TWICE),
    Recipe("swapped", "target and prediction swapped", _swapped_losses, _swapped),
    Recipe("sigmoids", "independent sigmoids", _sigmoid_losses, _sigmoids),
    Recipe("wrong-axis", "softmax over the batch", _losses_over_batch, _over_batch),
)


def named(name: str) -> Recipe:
    return next(recipe for recipe in RECIPES if recipe.name == name)
