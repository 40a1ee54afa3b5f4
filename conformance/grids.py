"""The inputs of the error profiles: fixed grids along one axis each.

Along an axis one number moves and all else stands still: the gap between the logit of the target
and the best other one, the magnitude that all logits share, the probability of the target, or the
number of classes. A grid along the first three is of batches that every law asks too, so that a
compiled subject meets the one shape that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..reference.formats import FORMATS, Format, round_to_format
from ..reference.vocabulary import LOGITS, PROBABILITIES, Case, Floats, inputs_of
from .records import number
from .regions import ROWS
from .stream import Stream

CLASSES = (2, 10, 100, 1000, 10000, 50257)
"""The numbers of classes of the axis K; the last is the vocabulary of GPT-2. Of a power of two all
shares of equal logits would be numbers of the format, which is where a reference takes longest."""

FEW_CLASSES = 10
"""Up to so many a batch of the usual number of rows is cheap, and its shape is not a new one."""

AHEAD = 8.0
"""How far the target of a confident row leads: a loss from e^-8, normal in float16, to 3."""

PLACES_OF_K = 3
"""Rows per number of classes, each of them an axis of its own."""

KNEE = 1.25
"""Where log s has lost all of e^-gap, in units of precision log 2: a quarter past it is all of the
bend."""

WRONG_SIDE = 1.5
"""How far to the wrong side, in units of the gap at which a loss underflows."""


@dataclass(frozen=True)
class Axis:
    """One number that moves.

    Attributes:
        name: "gap", "p of the target", ... as reports show it.
        input: the call in words, "{}" for what moves.
        x: where the positions lie on the axis, increasing.
        shown: what takes the place of "{}", one text for each position.
        rows: (case, row) of each position among the cases of the grid.
    """

    name: str
    input: str
    x: tuple[float, ...]
    shown: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grid:
    """Cases, and the axes that their rows lie on."""

    cases: tuple[Case, ...]
    axes: tuple[Axis, ...]

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        return {case.inputs.shape for case in self.cases}


def grids(operation: str, target: str, dtype: str) -> Iterator[Grid]:
    """The grids of an operation, in one format; none where no axis means anything."""
    inputs, fmt = inputs_of(operation), FORMATS[dtype]
    if target == "binary" and inputs in (LOGITS, PROBABILITIES):
        for label in (1.0, 0.0):
            yield (
                _of_logit(operation, fmt, label)
                if inputs == LOGITS
                else _of_probability(operation, fmt, label)
            )
    elif inputs == LOGITS:
        yield _of_gap(operation, target, fmt)
        yield _of_magnitude(operation, target, fmt)
        yield _of_classes(operation, target, fmt)
    elif inputs == PROBABILITIES and not operation.startswith("kl"):
        yield _of_share(operation, target, fmt)


# --- logits ---------------------------------------------------------------------------------------


def tail(fmt: Format) -> float:
    """A gap past which e^-gap, twice over, rounds to 0."""
    return (fmt.precision - fmt.emin + 2) * float(np.log(2.0))


def gaps(fmt: Format, right: int, wrong: int) -> Floats:
    """Gaps of either sign, so many each: half of them before the knee, half up to the tail."""
    knee, end = KNEE * fmt.precision * float(np.log(2.0)), 1.05 * tail(fmt)
    near, far = right // 2, right - right // 2
    ahead = np.concatenate(
        [np.linspace(0, knee, near, endpoint=False), np.linspace(knee, end, far)]
    )
    near, far = wrong // 2, wrong - wrong // 2
    behind = np.concatenate(
        [
            np.linspace(0, knee, near, endpoint=False)[1:],
            np.linspace(knee, WRONG_SIDE * end, far + 1),
        ]
    )
    return round_to_format(np.concatenate([-behind[::-1], ahead]), fmt)


def _of_gap(operation: str, target: str, fmt: Format) -> Grid:
    values = gaps(fmt, 5 * ROWS // 4, 3 * ROWS // 4)
    rest = np.broadcast_to([0.0, -1.0], (values.size, 2))
    cases = _batches(operation, target, fmt, np.column_stack([values, rest]))
    words = "z = ({}, 0, -1), target 0"
    return Grid(cases, (Axis("gap", words, _floats(values), _texts(values), _rows(cases)),))


def _of_magnitude(operation: str, target: str, fmt: Format) -> Grid:
    # Past 2^(precision - 1) logits one apart are no numbers of the format any more.
    counts = increasing(2 ** (fmt.precision - 1) - 1, ROWS // 2)
    values = np.concatenate([-counts[::-1], counts])
    cases = _batches(operation, target, fmt, values[:, None] + np.array([0.0, 1.0, -1.0]))
    words = "z = m + (0, 1, -1) with m = {}, target 0"
    return Grid(cases, (Axis("|z|", words, _floats(values), _texts(values), _rows(cases)),))


def increasing(last: int, count: int) -> Floats:
    """So many whole numbers from 1 to `last`, each greater than the one before, geometrically."""
    found = np.rint(np.geomspace(1, last, count))
    for i in range(1, count):
        found[i] = max(found[i], found[i - 1] + 1)
    return np.minimum(found, last - np.arange(count)[::-1])


def _of_logit(operation: str, fmt: Format, label: float) -> Grid:
    values = gaps(fmt, 5 * ROWS // 8, 3 * ROWS // 8)
    z = values if label else -values
    case = Case(operation, fmt.name, z[:, None] + 0.0, np.full((z.size, 1), label))
    words = "z = {}, y = " + ("1" if label else "0")
    axis = Axis(_labelled("gap", label), words, _floats(values), _texts(z + 0.0), _rows((case,)))
    return Grid((case,), (axis,))


def _labelled(name: str, label: float) -> str:
    return f"{name}, label {label:.0f}"


# --- probabilities --------------------------------------------------------------------------------


def probabilities(fmt: Format) -> Floats:
    """Probabilities from 0 to 1, both ends densely, as many as a batch has rows."""
    half = ROWS // 2 - 1
    near_zero = round_to_format(np.geomspace(fmt.least_subnormal, 0.5, half), fmt)
    below_one = increasing(2 ** (fmt.precision - 1) - 1, half)[::-1] * 2.0**-fmt.precision
    return np.concatenate([[0.0], near_zero, 1.0 - below_one, [1.0]])


def log_odds(p: Floats, fmt: Format) -> Floats:
    """log(p / (1 - p)); 0 and 1 one step of log 2 past the last number between."""
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    step = float(np.log(2.0))
    least = float(np.log(fmt.least_subnormal)) - step
    return np.where(p == 0, least, np.where(p == 1, (fmt.precision + 1) * step, odds))


def _of_probability(operation: str, fmt: Format, label: float) -> Grid:
    p = probabilities(fmt)
    x = log_odds(p, fmt)
    if not label:
        p, x = p[::-1], -x[::-1]
    case = Case(operation, fmt.name, p[:, None] + 0.0, np.full((p.size, 1), label))
    words = "p = {}, y = " + ("1" if label else "0")
    name = _labelled("p of the target", label)
    return Grid((case,), (Axis(name, words, _floats(x), _texts(p), _rows((case,))),))


def _of_share(operation: str, target: str, fmt: Format) -> Grid:
    p = probabilities(fmt)
    others = round_to_format(np.column_stack([0.75 * (1 - p), 0.25 * (1 - p)]), fmt)
    cases = _batches(operation, target, fmt, np.column_stack([p, others]))
    words = "p of the target {}, of the others 3/4 and 1/4 of the rest"
    x = log_odds(p, fmt)
    return Grid(cases, (Axis("p of the target", words, _floats(x), _texts(p), _rows(cases)),))


# --- classes --------------------------------------------------------------------------------------


def _of_classes(operation: str, target: str, fmt: Format) -> Grid:
    cases = tuple(_case(operation, target, fmt, _of_k(k)) for k in CLASSES)
    axes = []
    for row, (kind, words) in enumerate(
        (
            ("equal logits", "z = (0, ..., 0) of {} classes"),
            ("drawn logits", "z of {} classes, multiples of 1/8 in [-4, 4) that are drawn"),
            ("target ahead", f"z = ({AHEAD:.0f}, 0, ..., 0) of {{}} classes, target 0"),
        )
    ):
        x = tuple(float(k) for k in CLASSES)
        shown = tuple(str(k) for k in CLASSES)
        places = tuple((case, row) for case in range(len(CLASSES)))
        axes.append(Axis(f"K, {kind}", words, x, shown, places))
    return Grid(cases, tuple(axes))


def _of_k(classes: int) -> Floats:
    """One row of each kind, values of every format; few classes in a batch as every law asks."""
    z = np.zeros((PLACES_OF_K, classes))
    z[1] = Stream("profile", classes).integers(-32, 32, classes) / 8.0
    z[2, 0] = AHEAD
    return np.resize(z, (ROWS, classes)) if classes <= FEW_CLASSES else z


# --- what they share ------------------------------------------------------------------------------


def _case(operation: str, target: str, fmt: Format, inputs: Floats) -> Case:
    """The call with the first class as the target of every row."""
    labels = np.zeros(inputs.shape[0], dtype=np.int64)
    if target == "index":
        return Case(operation, fmt.name, inputs + 0.0, labels)
    whole = np.zeros(inputs.shape)
    whole[:, 0] = 1.0
    return Case(operation, fmt.name, inputs + 0.0, whole)


def _batches(operation: str, target: str, fmt: Format, inputs: Floats) -> tuple[Case, ...]:
    parts = (inputs[start : start + ROWS] for start in range(0, inputs.shape[0], ROWS))
    return tuple(_case(operation, target, fmt, part) for part in parts)


def _rows(cases: tuple[Case, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((i, row) for i, case in enumerate(cases) for row in range(case.rows))


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _texts(values: Floats) -> tuple[str, ...]:
    return tuple(number(value).removesuffix(".0") for value in values)
