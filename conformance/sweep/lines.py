"""What stays the same while one input runs through a format: the lines of a sweep.

An element-wise operation has one line. A cross-entropy has one for each choice of the other logits:
those of a region, or every pattern of the other one of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...reference.curves import Curve, curve, row_curve
from ...reference.vocabulary import FUNCTIONS, Floats, Semantics
from ..regions import ROWS, Plan, make_case, regions_for
from . import patterns

ELEMENTWISE = (
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "binary_focal",
    "binary_focal_probabilities",
    *FUNCTIONS,
)
"""Operations whose rows have one input."""


class Lines(Protocol):
    """The inputs around the one that varies."""

    @property
    def count(self) -> int:
        """How many lines there are."""
        ...

    @property
    def classes(self) -> int:
        """Inputs of a row."""
        ...

    def name(self, line: int) -> str:
        """Lines of one name are told together; "" for no name."""
        ...

    def place(self, line: int) -> tuple[Floats, int]:
        """A row of the line, and the place in it of the input that varies."""
        ...

    def curve(self, line: int, x: Floats, semantics: Semantics, dtype: str) -> Curve | None:
        """The exact values at magnitudes, where float64 knows them well enough."""
        ...


@dataclass(frozen=True)
class Alone:
    """The one line of an element-wise operation."""

    operation: str
    count: int = 1
    classes: int = 1

    def name(self, line: int) -> str:
        del line
        return ""

    def place(self, line: int) -> tuple[Floats, int]:
        del line
        return np.zeros(1), 0

    def curve(self, line: int, x: Floats, semantics: Semantics, dtype: str) -> Curve | None:
        del line
        return curve(self.operation, semantics, x, dtype)


@dataclass(frozen=True)
class Fixed:
    """A line for each of some rows: the first logit runs, the others stay.

    Attributes:
        names: of the rows.
        rows: (lines, K) numbers of the format.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> int:
        return len(self.rows[0])

    def name(self, line: int) -> str:
        return self.names[line]

    def place(self, line: int) -> tuple[Floats, int]:
        return np.array(self.rows[line]), 0

    def curve(self, line: int, x: Floats, semantics: Semantics, dtype: str) -> Curve | None:
        del semantics
        return row_curve(*self.place(line), x, dtype)


@dataclass(frozen=True)
class Pairs:
    """A line for every pattern of the second of two logits, or for one of each stratum of them.

    Lines are in the order of the magnitudes, positive before negative ones.
    """

    dtype: str
    stride: int = 1
    seed: int = 0
    classes: int = 2

    @property
    def count(self) -> int:
        return 2 * -(-patterns.magnitudes(self.dtype) // self.stride)

    def name(self, line: int) -> str:
        del line
        return ""

    def place(self, line: int) -> tuple[Floats, int]:
        stratum, negative = divmod(line, 2)
        which = patterns.chosen(stratum, stratum + 1, self.stride, self.seed, self.dtype)
        other = patterns.numbers(which, self.dtype)[0]
        return np.array([0.0, -other if negative else other]), 0

    def curve(self, line: int, x: Floats, semantics: Semantics, dtype: str) -> Curve | None:
        del semantics
        return row_curve(*self.place(line), x, dtype)


def regional(operation: str, dtype: str, classes: int) -> Fixed:
    """A line for each region of a cross-entropy that can be drawn in any shape: its first row."""
    names, rows = [], []
    for region in regions_for(operation):
        if region.any_shape and region.valid and not (region.targets or region.laws):
            plan = Plan(region, operation, "index", dtype, ROWS, classes, (), "none", 0)
            names.append(region.name)
            rows.append(tuple(make_case(plan).inputs[0].tolist()))
    return Fixed(tuple(names), tuple(rows))
