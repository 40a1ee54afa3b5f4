"""The samples, their order and the first parameters: the same numbers in every format.

Three clusters of 60 points, one sample to a step, 50 epochs at a rate of 0.1. Points and first
parameters are rounded to bfloat16, whose numbers every other format has, so that no training
starts from other numbers than the next; all of it is drawn by `Stream`, the same on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Floats
from ..stream import Stream

SEED = 0
CENTRES = ((2.0, 2.0), (-2.0, 0.0), (0.0, -2.0))
SIGMA = 0.2
SAMPLES = 60
"""Of each class."""

EPOCHS = 50
RATE = 0.1
START = 0.01
"""The first weights are uniform on [-START, START), the first biases 0."""


@dataclass(frozen=True)
class Points:
    """What is trained on.

    Attributes:
        x: (N, F + 1) the samples; the last column is the 1 that the bias stands at.
        y: (N,) their classes.
        order: (epochs, N) the places of the samples, in the order of the steps.
        start: (K, F + 1) the first weights and, last, biases.
    """

    x: Floats
    y: NDArray[np.int64]
    order: NDArray[np.int64]
    start: Floats

    @property
    def epochs(self) -> int:
        return len(self.order)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The place of the sample of each step."""
        return self.order.ravel()

    @property
    def classes(self) -> int:
        return len(self.start)


def points(epochs: int = EPOCHS) -> Points:
    """The samples; fewer epochs are the first ones of more."""
    stream = Stream("trajectories", SEED)
    y = np.repeat(np.arange(len(CENTRES)), SAMPLES)
    x = in_every_format(np.array(CENTRES)[y] + SIGMA * stream.normal(len(y), 2))
    weights = in_every_format(START * (2.0 * stream.uniform(len(CENTRES), 2) - 1.0))
    # The sort of random keys is a shuffle; two equal keys of 64 bits keep their order.
    order = np.array([np.argsort(stream.bits(len(y)), kind="stable") for _ in range(epochs)])
    return Points(
        x=np.hstack([x, np.ones((len(y), 1))]),
        y=y,
        order=order.reshape(epochs, len(y)),
        start=np.hstack([weights, np.zeros((len(CENTRES), 1))]),
    )


def in_every_format(values: Floats) -> Floats:
    return round_to_format(values, FORMATS["bfloat16"])
