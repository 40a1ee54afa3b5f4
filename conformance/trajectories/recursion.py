"""Stochastic gradient descent in a named format, each operation correctly rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...reference.formats import FORMATS, Format, round_to_format
from ...reference.vocabulary import Floats
from .points import RATE, Points
from .recipes import Labels, Recipe


@dataclass(frozen=True)
class Path:
    """Where a training went.

    Attributes:
        parameters: (steps + 1, K, F + 1) before the first step and after each.
        loss: (steps,) of the sample of each step, before it.
    """

    parameters: Floats
    loss: Floats


Asked = Callable[[Floats, Labels], "tuple[float, Floats]"]
"""(z, y) of one row -> its loss, and its gradient by z in the format."""


def by_the_reference(data: Points, recipe: Recipe, dtype: str) -> Path:
    """A training by gradients that are correctly rounded, with the losses along its way."""
    path = descend(data, FORMATS[dtype], lambda z, y: (np.nan, recipe.slopes(z, y, dtype)))
    x, y = data.x[data.steps], data.y[data.steps]
    return Path(path.parameters, recipe.losses(np.einsum("skf,sf->sk", path.parameters[:-1], x), y))


def descend(data: Points, fmt: Format, asked: Asked) -> Path:
    """W becomes W - RATE (g x^T), with g the gradient at W x of the sample of the step.

    All the numbers are of the format, to which RATE is rounded too. float64 holds a product of two
    numbers of a narrower format exactly, and where it rounds their sum first, rounding that again
    gives what one rounding would: 53 is at least 2 p + 2 (Figueroa, When is double rounding
    innocuous?, SIGNUM Newsletter 30(3), 1995).
    """
    rate = round_to_format(RATE, fmt)
    w = data.start
    parameters, losses = [w], []
    for i in data.steps:
        x = data.x[i]
        loss, by_logits = asked(logits(w, x, fmt)[None], data.y[i : i + 1])
        product = round_to_format(by_logits.reshape(-1, 1) * x, fmt)
        w = round_to_format(w - round_to_format(rate * product, fmt), fmt)
        parameters.append(w)
        losses.append(loss)
    return Path(np.array(parameters), np.array(losses))


def logits(w: Floats, x: Floats, fmt: Format) -> Floats:
    """W x, from left to right, the bias last."""
    products = round_to_format(w * x, fmt)
    z = products[:, 0]
    for j in range(1, w.shape[1]):
        z = round_to_format(z + products[:, j], fmt)
    return z
