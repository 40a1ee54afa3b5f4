"""What a user hands over to be diagnosed, read and refused where it cannot be what it should.

Predictions and targets of any shape become rows: (N, K) predictions of K classes with (N,) indices
or (N, K) distributions, or (M, 1) binary ones with labels of the same shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import LOGITS, PROBABILITIES, Floats

REDUCTIONS = ("mean", "mean over rows", "sum")
GIVEN = (LOGITS, PROBABILITIES)

FEWEST = 5
"""Losses that make a log: fewer show neither a plateau nor a bound."""

IGNORED = -100
"""The label that torch ignores where nobody names one."""

NARROWEST_FIRST = ("bfloat16", "float16", "float32", "float64")


class DiagnosisError(ValueError):
    """Numbers that cannot be diagnosed; the text says which, and what would be right."""


@dataclass(frozen=True)
class Asked:
    """What was said beside the numbers; see `diagnose`."""

    classes: int | None = None
    batch: int | None = None
    label_smoothing: float | None = None
    weight: tuple[float, ...] | None = None
    ignore_index: int | None = None
    reduction: str = "mean"
    given: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Batch:
    """Predictions, their targets, and what a loss returned for them.

    Attributes:
        x: (N, K) predictions, or (M, 1) of binary labels.
        target: (N,) int64 indices, or an array of the shape of x.
        losses: (R,) losses, each of as many rows in a row; None where there are none.
        dtype: the narrowest format that holds the predictions and the losses.
        asked: what was said beside them.
        labels: how many binary labels a row has; 1 where the elements are the rows.
        crossed: whether one of the two binary arrays was given as a column, so that a library
            that broadcasts takes each prediction with each label.
    """

    x: Floats
    target: NDArray[Any]
    losses: Floats | None
    dtype: str
    asked: Asked
    labels: int = 1
    crossed: bool = False

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def classes(self) -> int:
        return int(self.x.shape[1])

    @property
    def binary(self) -> bool:
        return self.classes == 1

    @property
    def index(self) -> bool:
        return self.target.ndim == 1

    @property
    def unit(self) -> float:
        """The unit roundoff of the format."""
        return FORMATS[self.dtype].unit_roundoff

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """Which rows carry the label that is ignored: the one that was named, or torch's."""
        if not self.index:
            return np.zeros(self.rows, dtype=np.bool_)
        label = self.asked.ignore_index
        return np.asarray(self.target == (IGNORED if label is None else label))

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which rows have an index that is none of a class, and is not ignored."""
        if not self.index:
            return np.zeros(self.rows, dtype=np.bool_)
        wrong = (self.target < 0) | (self.target >= self.classes)
        return np.asarray(wrong & ~self.ignored)


@dataclass(frozen=True)
class Log:
    """The losses of a training, one a step or an epoch.

    Attributes:
        values: (T,) the losses.
        dtype: the narrowest format that holds them.
        counts: how many labels of each class the data have, where they were given.
        asked: what was said beside them.
        half_unit: half a unit of the last decimal that was written, 0 for unrounded numbers.
    """

    values: Floats
    dtype: str
    counts: tuple[int, ...]
    asked: Asked
    half_unit: float

    @property
    def classes(self) -> int | None:
        told = self.asked.classes
        return told if told is not None else (len(self.counts) or None)


# ------------------------------------------------------------------------------- one argument each


def asked(
    classes: Any,
    batch: Any,
    label_smoothing: Any,
    weight: Any,
    ignore_index: Any,
    reduction: str,
    given: str | None,
    dtype: str | None,
) -> Asked:
    """The options, each refused where it is none."""
    _one_of("reduction", reduction, REDUCTIONS)
    if given is not None:
        _one_of("given", given, GIVEN)
    if dtype is not None:
        _one_of("dtype", dtype, tuple(FORMATS))
    smoothing = None
    if label_smoothing is not None:
        smoothing = float(numbers("label_smoothing", label_smoothing, "a number"))
        if not 0.0 <= smoothing < 1.0:
            raise DiagnosisError(f"label_smoothing must be in [0, 1), and is {smoothing!r}")
    factors = None
    if weight is not None:
        factors = tuple(numbers("weight", weight).reshape(-1).tolist())
        if any(not 0.0 <= w < math.inf for w in factors):
            raise DiagnosisError("weight: each must be finite and not negative")
    return Asked(
        classes=_whole("classes", classes, 2),
        batch=_whole("batch", batch, 1),
        label_smoothing=smoothing,
        weight=factors,
        ignore_index=_whole("ignore_index", ignore_index, None),
        reduction=reduction,
        given=given,
        dtype=dtype,
    )


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DiagnosisError(f"{what}: {value!r} is not known; there are: {', '.join(allowed)}")


def _whole(what: str, value: Any, least: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DiagnosisError(f"{what} must be a whole number, and is {value!r}")
    if least is not None and value < least:
        raise DiagnosisError(f"{what} must be at least {least}, and is {value}")
    return int(value)


def array(name: str, value: Any) -> NDArray[Any]:
    """Whatever NumPy takes as an array of numbers; a tensor of torch also while it has a graph."""
    detach = getattr(value, "detach", None)
    try:
        found = np.asarray(detach() if callable(detach) else value)
        if found.dtype.kind not in "biuf" and "float" not in found.dtype.name:
            found = found.astype(np.float64)
    except Exception as error:  # whatever the library of the array raises
        raise DiagnosisError(
            f"{name} cannot be read as an array of numbers ({type(error).__name__}: {error}); of a "
            "tensor give .detach().cpu().numpy(), in 16 bits with .float() before"
        ) from error
    if found.size == 0:
        raise DiagnosisError(f"{name} is empty, shape {found.shape}; give at least one number")
    return found


def numbers(name: str, value: Any, what: str = "") -> Floats:
    """The same as float64, without NaN."""
    found = array(name, value)
    if what and found.size != 1:
        raise DiagnosisError(f"{name} must be {what}, and has shape {found.shape}")
    found = found.astype(np.float64)
    if what:
        found = found.reshape(())
    wrong = np.argwhere(np.isnan(found))
    if len(wrong):
        at = "" if found.ndim == 0 else f"[{', '.join(map(str, wrong[0].tolist()))}]"
        raise DiagnosisError(
            f"{name}{at} is NaN; leave out what is not a number, and look where it came from"
        )
    return found


def format_of(told: str | None, *arrays: NDArray[Any]) -> str:
    """The narrowest format that one array has by its type, or all arrays by their numbers.

    A float that was made of a number of a narrower format still is one of these numbers.
    """
    if told is not None:
        return told
    types = [a.dtype.name for a in arrays if a.dtype.name in FORMATS]
    fitting = [
        name
        for name in NARROWEST_FIRST
        if all(np.array_equal(round_to_format(a, FORMATS[name]), a) for a in arrays)
    ]
    found = [*types, fitting[0] if fitting else "float64"]
    return min(found, key=NARROWEST_FIRST.index)


# ------------------------------------------------------------------------------------------ a batch


def batches(predictions: Any, targets: Any, losses: Any, said: Asked) -> list[Batch]:
    """The ways to read a batch: of classes, of binary labels, or both."""
    raw, labels = array("logits_or_probs", predictions), array("targets", targets)
    x = numbers("logits_or_probs", raw)
    numbers("targets", labels)
    if x.ndim == 0:
        raise DiagnosisError("logits_or_probs must be an array, and is one number")
    loss = None if losses is None else array("losses", losses)
    compared = [a for a in (raw, loss) if a is not None]
    dtype = format_of(said.dtype, *(a[~np.isnan(a)] for a in map(_floating, compared)))
    came = None if loss is None else loss.astype(np.float64)
    shaped = (
        _of_classes(x, labels, came, dtype, said),
        _of_binary(x, labels, came, dtype, said),
    )
    found = [batch for batch in shaped if batch is not None]
    if not found:
        raise DiagnosisError(_unfit(x, labels, loss))
    for batch in found:
        _demand_weights(batch)
    return found


def _floating(values: NDArray[Any]) -> NDArray[Any]:
    """As it is, or whole numbers as float64."""
    return values.astype(np.float64) if values.dtype.kind in "biu" else values


def _unfit(x: Floats, labels: NDArray[Any], loss: NDArray[Any] | None) -> str:
    said = f"logits_or_probs has shape {x.shape}, targets {labels.shape}"
    if loss is not None:
        said += f", losses {loss.shape}"
    return (
        f"{said}: these do not fit; targets are class indices (N,) or distributions (N, K) for "
        "predictions (N, K), or binary labels of their shape, and losses are one number, or one "
        "for each row (for binary labels, or for each element)"
    )


def _of_classes(
    x: Floats, labels: NDArray[Any], losses: Floats | None, dtype: str, said: Asked
) -> Batch | None:
    """Predictions of K >= 2 classes, their last axis."""
    if x.ndim < 2 or x.shape[-1] < 2:
        return None
    classes, rows = x.shape[-1], x.shape[:-1]
    if labels.shape == (*rows, 1):
        labels = labels[..., 0]
    if labels.shape == rows:
        target: NDArray[Any] = _indices(labels).reshape(-1)
    elif labels.shape == x.shape:
        target = labels.astype(np.float64).reshape(-1, classes)
    else:
        return None
    flat = _losses_of(losses, rows)
    if losses is not None and flat is None:
        return None
    if said.classes not in (None, classes):
        raise DiagnosisError(f"classes is {said.classes}, but the predictions have {classes}")
    return Batch(x.reshape(-1, classes), target, flat, dtype, said)


def _of_binary(
    x: Floats, labels: NDArray[Any], losses: Floats | None, dtype: str, said: Asked
) -> Batch | None:
    """One prediction for each label, which may be one of several classes."""
    fits = x.shape == labels.shape
    crossed = x.size == labels.size and {x.shape, labels.shape} == {(x.size,), (x.size, 1)}
    if not (fits or crossed) or (losses is not None and losses.ndim > x.ndim):
        return None
    by_row = losses is not None and x.ndim > 1 and losses.shape == x.shape[:-1]
    flat = _losses_of(losses, losses.shape if by_row and losses is not None else x.shape)
    if losses is not None and flat is None and crossed:
        flat = _losses_of(losses, labels.shape)
    if losses is not None and flat is None:
        return None
    column = labels.astype(np.float64).reshape(-1, 1)
    each = x.shape[-1] if x.ndim > 1 else 1
    return Batch(x.reshape(-1, 1), column, flat, dtype, said, each, crossed and x.size > 1)


def _losses_of(losses: Floats | None, shape: tuple[int, ...]) -> Floats | None:
    """One loss, or one for each place of a shape, as (R,)."""
    if losses is None or (losses.size != 1 and losses.shape != shape):
        return None
    return losses.reshape(-1)


def _indices(labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        at = tuple(np.argwhere(labels != np.rint(labels))[0].tolist())
        raise DiagnosisError(
            f"targets{list(at)} = {float(labels[at])!r} is no class index, and targets of the "
            "shape of the rows are read as such; distributions have the shape of the predictions"
        )
    return labels.astype(np.int64)


def _demand_weights(batch: Batch) -> None:
    weight = batch.asked.weight
    if weight is not None and not batch.binary and len(weight) != batch.classes:
        raise DiagnosisError(f"weight has {len(weight)} entries for {batch.classes} classes")


# -------------------------------------------------------------------------------------------- a log


def log(losses: Any, targets: Any, said: Asked) -> Log:
    """A log, and the classes of the data where their labels are given."""
    raw = array("losses", losses)
    if raw.ndim != 1:
        raise DiagnosisError(
            f"losses has shape {raw.shape}; a log is one row of numbers, and losses of a batch "
            "come with logits_or_probs and targets"
        )
    if raw.size < FEWEST:
        raise DiagnosisError(
            f"losses holds {raw.size} numbers; a log needs at least {FEWEST}, and fewer losses of "
            "a batch come with logits_or_probs and targets"
        )
    values = numbers("losses", raw)
    finite = _floating(raw)[np.isfinite(values)]
    if finite.size < FEWEST:
        raise DiagnosisError(f"losses holds {finite.size} finite numbers; {FEWEST} are needed")
    counts = () if targets is None else _counts(targets, said.classes)
    return Log(values, format_of(said.dtype, finite), counts, said, _half_unit(values))


def _counts(targets: Any, classes: int | None) -> tuple[int, ...]:
    labels = array("targets", targets)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = numbers("targets", labels).argmax(axis=1)
    found = _indices(labels.reshape(-1))
    found = found[found != IGNORED]
    if found.size == 0 or found.min() < 0 or (classes is not None and found.max() >= classes):
        raise DiagnosisError(
            "targets: beside a log these are the labels of the data, class indices from 0"
            + (f" to {classes - 1}" if classes else "")
        )
    return tuple(np.bincount(found, minlength=classes or 2).tolist())


DECIMALS = 6
"""Up to so many decimals a number was written by hand or by a format; `print` shows four or six."""


def _half_unit(values: Floats) -> float:
    """Half a unit of the last decimal, where all numbers have at most DECIMALS of them."""
    finite = values[np.isfinite(values)]
    for decimals in range(1, DECIMALS + 1):
        if np.array_equal(np.round(finite, decimals), finite):
            return float(0.5 * 10.0**-decimals)
    return 0.0
