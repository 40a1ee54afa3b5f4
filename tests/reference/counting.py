"""Counts of wrong roundings: the inputs in their four quarters, and the comparison with Arb."""

# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import arb_oracle as oracle
import numpy as np

from lossaudit.reference.formats import FORMATS

NAMES = tuple(FORMATS)
QUARTER = 500
ROWS = 4 * QUARTER
# Where exp(-x) is subnormal: in float64, in float32 and bfloat16, in float16.
SUBNORMAL = ((708.4, 744.0), (87.4, 103.0), (9.7, 17.3))

NEAR, DEEP, CANCELLING, ORDINARY = (slice(i * QUARTER, (i + 1) * QUARTER) for i in range(4))


def midpoints(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Midpoints of each format with binary exponents in [low, high)."""
    found = []
    for fmt in FORMATS.values():
        n = QUARTER // 4
        units = rng.integers(2 ** (fmt.precision - 1), 2**fmt.precision, n) + 0.5
        found.append(np.ldexp(units, rng.integers(low, high, n) - fmt.precision))
    return np.concatenate(found)


def depths(rng: np.random.Generator, part: float = 1.0) -> np.ndarray:
    """x with exp(-x / part) subnormal in one of the formats."""
    low, high = (part * np.array(ends) for ends in zip(*SUBNORMAL, strict=True))
    which = rng.integers(0, len(SUBNORMAL), QUARTER)
    return rng.uniform(low[which], high[which])


def tiny_factors(rng: np.random.Generator) -> np.ndarray:
    """Subnormal numbers of the formats."""
    return np.exp(-depths(rng))


def inverse_loss(loss: np.ndarray) -> np.ndarray:
    """x with log(1 + e**x) = loss, up to the rounding of x."""
    return np.where(loss > 30, loss, np.log(np.expm1(np.minimum(loss, 30))))


def loss_logits(rng: np.random.Generator, factor: float = 1.0) -> np.ndarray:
    """x with factor * log(1 + e**x) in all four quarters."""
    near = inverse_loss(midpoints(rng, -8, 8) / factor)
    saturated = rng.uniform(-60, -20, QUARTER)
    return np.concatenate([near, -depths(rng), saturated, rng.standard_normal(QUARTER) * 5])


def share_logits(rng: np.random.Generator) -> np.ndarray:
    """x with sigmoid(x) in all four quarters."""
    near = midpoints(rng, -8, 0)
    near = np.log(near) - np.log1p(-near)
    return np.concatenate([near, loss_logits(rng)[QUARTER:]])


def nearly(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """The values, some of them moved by up to three ulps."""
    return values * (1 + rng.integers(-3, 4, values.shape) * 2.0**-52)


def fractions(values: Any) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values, dtype=np.float64).reshape(-1).tolist()]


def one_hot(label: int, classes: int) -> list[Fraction]:
    return [Fraction(int(j == label)) for j in range(classes)]


class Tally:
    """Counts of one operation: values compared and wrong, in all formats together."""

    def __init__(self, what: str) -> None:
        self.what, self.values = what, 0
        self.wrong: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.first = ""
        self.start = time.perf_counter()

    def add(self, row: Any, got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
        for name, values in want.items():
            self.values += values.size
            count = int(np.sum(got[name] != values))
            self.wrong[name] += count
            if count and not self.first:
                self.first = f"; row {row} in {name}: {got[name]}, should be {values}"

    def done(self) -> None:
        seconds = time.perf_counter() - self.start
        wrong = sum(self.wrong.values())
        print(f"{self.what}: {wrong} of {self.values} wrong, {seconds:.1f} s")
        assert wrong == 0, f"{self.what}: {self.wrong} of {self.values} wrong{self.first}"
        assert self.values >= len(NAMES) * ROWS


def count(
    what: str,
    call: Callable[[str], Any],
    formula: Callable[[int], Sequence[oracle.arb]],
    rows: int = ROWS,
) -> None:
    """Compares a function with Arb, and demands that no value differs.

    Args:
        what: name of the operation.
        call: all rows in a format; one row may consist of several values.
        formula: the values of one row as balls.
        rows: their number.
    """
    tally = Tally(what)
    got = {name: np.asarray(call(name)).astype(np.float64).reshape(rows, -1) for name in NAMES}
    for i in range(rows):
        want = oracle.rounded(lambda i=i: formula(i), NAMES)
        tally.add(i, {name: values[i] for name, values in got.items()}, want)
    tally.done()
