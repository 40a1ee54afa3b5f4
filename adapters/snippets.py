"""Pieces of the scripts that reproduce a call with the framework alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reference.vocabulary import LOG_PROBABILITIES, LOGITS, PROBABILITIES, Case, inputs_of
from .subject import Subject

Number = Callable[[float], str]
LONG_RUN = 3
LONG_RUN_OF_NUMBERS = 16
INPUT_NAMES = {LOGITS: "z", PROBABILITIES: "p", LOG_PROBABILITIES: "log_p"}


def number(value: float) -> str:
    """A number that reads back exactly, as Python writes it."""
    return repr(float(value)) if math.isfinite(value) else f"float('{value}')"


def nested(values: NDArray[Any]) -> str:
    """An array as nested Python lists; runs of equal rows, and long ones of numbers, as `[x] * n`.

    No rows at all are written as one, of zeros, that `cut` takes away: a list without rows has
    neither the number of their entries nor their kind.
    """
    if len(values) == 0:
        values = np.zeros((1, *values.shape[1:]), values.dtype)
    write = repr if values.dtype.kind in "iu" else number
    rows = [_row(value, write) for value in values]
    return " + ".join(_run(rows))


def cut(values: NDArray[Any]) -> str:
    """What a script puts behind an array that it made of `nested`."""
    return "" if len(values) else "[:0]"


def far_labels(target: NDArray[Any]) -> tuple[str, tuple[str, ...]]:
    """What a script for JAX makes its target of, and the lines that this needs at its top.

    Integers beyond 32 bits go by NumPy, whose arrays JAX cuts to those as it does a worker's; of
    Python's own integers it refuses such ones.
    """
    limits = np.iinfo(np.int32)
    fits = (target >= limits.min) & (target <= limits.max)
    if target.dtype.kind not in "iu" or bool(np.all(fits)):
        return nested(target), ()
    return f"np.array({nested(target)})", ("import numpy as np",)


def _row(row: Any, write: Number) -> str:
    if np.ndim(row) == 0:
        return write(row.item())
    return " + ".join(_run([write(value.item()) for value in row], LONG_RUN_OF_NUMBERS)) or "[]"


def _run(rows: list[str], longest: int = LONG_RUN) -> Iterator[str]:
    """Pieces of a list: single rows together, one line each, and long runs of equal rows."""
    single: list[str] = []
    for row, group in itertools.groupby(rows):
        count = len(list(group))
        if count <= longest:
            single += [row] * count
            continue
        if single:
            yield _listed(single)
            single = []
        yield f"[{row}] * {count}"
    if single:
        yield _listed(single)


def _listed(rows: list[str]) -> str:
    nested_rows = rows[0].startswith("[")
    return "[" + (",\n     " if nested_rows else ", ").join(rows) + "]"


def vector(values: Sequence[float]) -> str:
    """Numbers as one Python list, long runs of equal ones as `[0.0] * n`."""
    return " + ".join(_run([number(value) for value in values], LONG_RUN_OF_NUMBERS)) or "[]"


def arguments(pieces: dict[str, str]) -> str:
    """Keyword arguments, as in `, reduction='none'`, or ''."""
    return "".join(f", {name}={value}" for name, value in pieces.items())


def input_name(subject: Subject) -> str:
    """What the inputs are called in a script: z for logits, p and log_p for probabilities."""
    return INPUT_NAMES[inputs_of(subject.operation)]


def target_name(case: Case) -> str:
    """What the target is called in a script: q for a distribution, else y."""
    return "q" if case.target_kind == "distribution" else "y"
