"""What an operation of the examples computes, and how a framework is asked for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import SupportsFloat

import numpy as np

from ...reference.vocabulary import Floats, Options

Read = Callable[[Floats, Floats], Floats]
"""(losses of the rows, their gradients by the inputs) -> the quantity."""

LOSS, GRADIENT = "loss", "gradient"

PLAIN = Options()


@dataclass(frozen=True)
class Ask:
    """One call of an op, and how the quantity is read in what comes.

    Attributes:
        operation: of the reference's vocabulary.
        inputs: (n, K).
        target: (n,) class indices, or (n, K).
        reads: LOSS or GRADIENT, whichever `read` takes its numbers from.
        options: with another reduction than "none" the loss is one number.
    """

    operation: str
    inputs: Floats
    target: np.ndarray
    read: Read
    reads: str = LOSS
    options: Options = PLAIN


@dataclass(frozen=True)
class Quantity:
    """A figure of an operation, for each of its cases, by the reference.

    Attributes:
        values: for each case a number () or a vector (n,).
        cases: each in words; one "" where there is one alone.
        information: whether it is measured in nats, so that it has another value in bits.
        undivided: (what it is not divided by, the values then).
        asks: ways to ask a framework, the best first; each has a call for every case.
    """

    values: tuple[Floats, ...]
    cases: tuple[str, ...] = ("",)
    information: bool = False
    undivided: tuple[tuple[str, tuple[Floats, ...]], ...] = ()
    asks: tuple[tuple[Ask, ...], ...] = ()


@dataclass(frozen=True)
class Computed:
    """All quantities of an example by name, and what follows from them in words."""

    quantities: dict[str, Quantity] = field(default_factory=dict)
    answers: tuple[str, ...] = ()


def first(loss: Floats, gradient: Floats) -> Floats:
    """The loss of the first row."""
    del gradient
    return loss[0]


def whole(loss: Floats, gradient: Floats) -> Floats:
    """The loss as it came: of all rows, or reduced."""
    del gradient
    return loss


def mean(loss: Floats, gradient: Floats) -> Floats:
    """The mean of the rows, where the op was not asked for it."""
    del gradient
    return np.asarray(loss.mean())


def row_of_gradient(row: int, divisor: float = 1.0) -> Read:
    """The gradient of a row by the inputs."""
    return lambda _, gradient: gradient[row] / divisor


def entry_of_gradient(row: int, entry: int = 0) -> Read:
    """One number of the gradient."""
    return lambda _, gradient: gradient[row, entry]


def scalars(values: Iterable[SupportsFloat]) -> tuple[Floats, ...]:
    """A number for each case."""
    return tuple(np.asarray(float(value)) for value in values)


def one(value: SupportsFloat) -> tuple[Floats, ...]:
    """The number of a single case."""
    return scalars([value])


# --- calls that several operations make -----------------------------------------------------------


def logits_of(probabilities: Floats) -> Floats:
    """The logits of distributions, -inf for what is impossible."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def binary_logit(probability: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def of_binary(p: Floats, y: Floats, read: Read = first) -> list[tuple[Ask, ...]]:
    """The loss of probabilities of a 1: by an op for probabilities, else by one for logits."""
    p, y = p.reshape(-1, 1), y.reshape(-1, 1)
    found = [(Ask("binary_cross_entropy", p, y, read),)]
    if ((p > 0) & (p < 1)).all():
        found.append((Ask("binary_cross_entropy_with_logits", binary_logit(p), y, read),))
    return found


def of_distribution(q: Floats, target: np.ndarray, read: Read = first) -> list[tuple[Ask, ...]]:
    """The loss of distributions q: by an op for probabilities, else by one for logits."""
    found = [(Ask("cross_entropy_probabilities", q, target, read),)]
    if (q > 0).all():
        found.append((Ask("cross_entropy", logits_of(q), target, read),))
    return found


def of_divergence(q: Floats, target: Floats, read: Read = first) -> list[tuple[Ask, ...]]:
    """KL(target || q): by an op for probabilities, else by one for their logarithms."""
    found = [(Ask("kl_divergence_probabilities", q, target, read),)]
    if (q > 0).all():
        found.append((Ask("kl_divergence", logits_of(q), target, read),))
    return found


def together(each: Iterable[list[tuple[Ask, ...]]]) -> tuple[tuple[Ask, ...], ...]:
    """Ways of several cases, each with one call, as ways with a call for every case."""
    return tuple(tuple(ask for (ask,) in way) for way in zip(*map(list, each), strict=False))
