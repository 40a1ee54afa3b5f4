"""Trains a softmax regression on what real subjects say, with a mistake and without.

The data are `SAMPLES` points around ten centres in eight dimensions, drawn by `Stream("misuse",
SEED)`. Each step takes the whole batch: logits X W, rounded to float32, go to the subject; its
gradient comes back through the mistake and X, and W moves by plain gradient descent in float64.
The same steps are taken for every subject, so that curves differ by the subject alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import Subject
from ...reference import api
from ...reference.vocabulary import Floats
from ..run import MisuseTraining
from ..stream import Stream
from . import forms
from .ask import DTYPE, Asked, labels, numbers, rounded

SEED = 7
SAMPLES, FEATURES, CLASSES = 60, 8, 10
STEPS, RATE = 40, 1.0
SPREAD = 1.5
"""Of the centres, in standard deviations of the points around them."""

Back = Callable[[Floats], Floats]
"""The gradient by the logits, of that by what the subject was given."""


@dataclass(frozen=True)
class Data:
    x: Floats
    y: np.ndarray
    classes: int


def data(classes: int) -> Data:
    """The points, a last column of ones for the bias, and their classes, equally many of each."""
    stream = Stream("misuse", SEED, classes)
    centres = SPREAD * stream.normal(classes, FEATURES)
    y = np.arange(SAMPLES) % classes
    x = centres[y] + stream.normal(SAMPLES, FEATURES)
    return Data(np.hstack([x, np.ones((SAMPLES, 1))]), y, classes)


@dataclass(frozen=True)
class Mistake:
    """How the logits of a batch come to the subject, and how its gradient comes back."""

    misuse: str
    series: str
    operation: str
    given: Callable[[Subject, Floats, np.ndarray], tuple[Floats, np.ndarray, Back]]


def _plainly(subject: Subject, z: Floats, y: np.ndarray) -> tuple[Floats, np.ndarray, Back]:
    return z, labels(subject, y, z.shape[1]), lambda gradient: gradient


def _through_softmax(subject: Subject, z: Floats, y: np.ndarray) -> tuple[Floats, np.ndarray, Back]:
    p = rounded(np.asarray(api.softmax(z)))
    back = lambda gradient: forms.softmax_jacobian(p, gradient)  # noqa: E731
    return p, labels(subject, y, z.shape[1]), back


def _over_batch(subject: Subject, z: Floats, y: np.ndarray) -> tuple[Floats, np.ndarray, Back]:
    """Of each sample the column of its class, and the place of the sample in it."""

    def back(gradient: Floats) -> Floats:
        found = np.zeros_like(z)
        np.add.at(found.T, y, gradient)
        return found

    return z[:, y].T, labels(subject, np.arange(len(y)), len(y)), back


def _one_logit(subject: Subject, z: Floats, y: np.ndarray) -> tuple[Floats, np.ndarray, Back]:
    """z_1 - z_0 of two classes, whose sigmoid is what their softmax gives to class 1."""
    del subject
    return _difference(z), y[:, None].astype(np.float64), lambda g: np.hstack([-g, g])


def _through_sigmoid(subject: Subject, z: Floats, y: np.ndarray) -> tuple[Floats, np.ndarray, Back]:
    inputs, target, back = _one_logit(subject, z, y)
    p = rounded(np.asarray(api.sigmoid(inputs)))
    return p, target, lambda gradient: back(gradient * p * (1.0 - p))


def _difference(z: Floats) -> Floats:
    return rounded(z[:, 1:] - z[:, :1])


WITHOUT, WITH = "without", "with"
CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"
MISTAKES = (
    Mistake("double-softmax", WITHOUT, CE, _plainly),
    Mistake("double-softmax", WITH, CE, _through_softmax),
    Mistake("wrong-axis", WITH, CE, _over_batch),
    Mistake("double-sigmoid", WITHOUT, BCE, _one_logit),
    Mistake("double-sigmoid", WITH, BCE, _through_sigmoid),
)


def trainings(asked: Asked) -> Iterator[MisuseTraining]:
    """Every training of a framework whose losses have gradients."""
    for mistake in MISTAKES:
        targets = ("binary",) if mistake.operation == BCE else ("index", "distribution")
        subject = asked.first(mistake.operation, *targets)
        if subject is not None and subject.gradients:
            training = _training(asked, subject, mistake)
            if training.reported:
                yield training


def _training(asked: Asked, subject: Subject, mistake: Mistake) -> MisuseTraining:
    points = data(2 if mistake.operation == BCE else CLASSES)
    weights = np.zeros((FEATURES + 1, points.classes))
    reported, true, norms, accuracy = [], [], [], []
    for _ in range(STEPS):
        z = rounded(points.x @ weights)
        inputs, target, back = mistake.given(subject, z, points.y)
        answer = asked.ask(subject, inputs, target)
        if not (np.isfinite(answer.loss).all() and np.isfinite(answer.gradient).all()):
            break  # a training ends where there is nothing to go on with
        slope = points.x.T @ back(answer.gradient) / SAMPLES
        reported.append(answer.loss.mean())
        true.append(api.cross_entropy(z, points.y))
        norms.append(np.linalg.norm(slope))
        accuracy.append(np.mean(z.argmax(axis=1) == points.y))
        weights = weights - RATE * slope
    return MisuseTraining(
        misuse=mistake.misuse,
        subject=subject.name,
        dtype=DTYPE,
        series=mistake.series,
        reported=numbers(reported),
        true=numbers(true),
        gradient=numbers(norms),
        accuracy=numbers(accuracy),
        setting=f"{SAMPLES} points of {points.classes} classes in {FEATURES} dimensions (seed "
        f"{SEED}), rate {RATE:g} on the whole batch",
    )
