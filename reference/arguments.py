"""Arguments of the public functions, read in parts: nothing here copies the whole of an array."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .formats import FORMATS, decode
from .vocabulary import Floats

Array = NDArray[Any]
Part = Union[slice, NDArray[np.intp]]

# Entries of the inputs that are in work at one time: some megabytes with all that is made of them.
_CHUNK = 1 << 15
_HALF_BITS = 26


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an argument.

    Attributes:
        name: of the argument, for messages.
        array: the argument, or a view with the classes as its last axis.
        shape: of the rows: that of `array`, without the classes.
        axis: where the classes were, or None where there is no such axis.
        bits: the format of the logits where these are raw bits.
    """

    name: str
    array: Array
    shape: tuple[int, ...]
    axis: Optional[int] = None
    bits: Optional[str] = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def classes(self) -> int:
        return 1 if self.axis is None else int(self.array.shape[-1])

    def raw(self, part: Part) -> Array:
        """(n, K), or (n,) without classes: some rows (a slice or numbers) as they are."""
        inner = () if self.axis is None else self.array.shape[-1:]
        if self.array.flags.c_contiguous:
            return self.array.reshape(-1, *inner)[part]
        if not self.shape:
            return self.array[None][part]
        numbers = np.arange(part.start, part.stop) if isinstance(part, slice) else part
        return self.array[np.unravel_index(numbers, self.shape)]

    def read(self, part: Part) -> Floats:
        """The same as float64."""
        return _float64(self.name, self.raw(part), self.bits)

    def demand(self, right: Callable[[Floats], Array], trouble: str) -> None:
        """Raises ValueError for the first number that is not right; `trouble` says how it is not.

        `{}` in `trouble` stands for the number.
        """
        for part in chunks(self.count, self.classes):
            values = self.read(part)
            wrong = ~right(values)
            if wrong.any():
                at = np.argwhere(wrong)[0]
                value = repr(float(values[tuple(at)]))
                where = self.position(int(at[0]) + part.start, *at[1:].tolist())
                raise ValueError(f"{self.name}{where} {trouble.format(value)}")

    def position(self, row: int, *column: int) -> list[int]:
        """Where an element is in the argument as it was given."""
        place = [int(i) for i in np.unravel_index(row, self.shape)] if self.shape else []
        if self.axis is not None and column:
            place.insert(self.axis % (len(self.shape) + 1), column[0])
        return place


def chunks(rows: int, classes: int) -> Iterator[slice]:
    """Slices of rows to be worked on at one time; none where there are no rows."""
    step = max(1, _CHUNK // max(classes, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def classes_of(name: str, values: ArrayLike, axis: int, bits: Optional[str] = None) -> Rows:
    """The rows along an axis."""
    array = _numeric(name, values, bits)
    if array.ndim == 0:
        raise ValueError(f"{name} must have an axis of classes, but is a scalar")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis {axis} is not one of the {array.ndim} axes of {name}")
    moved = np.moveaxis(array, axis, -1)
    if moved.shape[-1] == 0:
        raise ValueError(f"{name} has no classes along axis {axis}")
    return Rows(name, moved, moved.shape[:-1], axis, bits)


def elements_of(name: str, values: ArrayLike) -> Rows:
    """Every element as a row."""
    array = _numeric(name, values, None)
    return Rows(name, array, array.shape)


def spread(name: str, values: Optional[ArrayLike], like: Rows) -> Optional[Rows]:
    """An argument broadcast to the elements of another; finite and not negative."""
    if values is None:
        return None
    axis = like.axis
    array = _numeric(name, values, None)
    given = like.array if axis is None else np.moveaxis(like.array, -1, axis)
    whole = _broadcast(name, array, given.shape)
    Rows(name, array, array.shape).demand(not_negative, "= {} must be finite and not negative")
    moved = whole if axis is None else np.moveaxis(whole, axis, -1)
    return Rows(name, moved, like.shape, axis)


def per_row(name: str, values: Optional[ArrayLike], like: Rows, *, signed: bool) -> Optional[Rows]:
    """One number per row of another argument: finite, and not negative unless it may be signed."""
    if values is None:
        return None
    array = _numeric(name, values, None)
    rows = Rows(name, _broadcast(name, array, like.shape), like.shape)
    own = Rows(name, array, array.shape)
    if signed:
        own.demand(np.isfinite, "= {} must be finite")
    else:
        own.demand(not_negative, "= {} must be finite and not negative")
    return rows


def same(name: str, values: ArrayLike, like: Rows, right: str = "") -> Rows:
    """An argument of the shape of another, without NaN; "finite" asks for more."""
    array = _numeric(name, values, None)
    given = like.array if like.axis is None else np.moveaxis(like.array, -1, like.axis)
    if array.shape != given.shape:
        raise ValueError(f"{name} has shape {array.shape}, but the inputs have {given.shape}")
    moved = array if like.axis is None else np.moveaxis(array, like.axis, -1)
    rows = Rows(name, moved, like.shape, like.axis)
    if right == "finite":
        rows.demand(np.isfinite, "= {} must be finite")
    else:
        rows.demand(_not_nan, "is NaN")
    return rows


def within(rows: Rows, low: float, high: float) -> bool:
    """Whether all numbers lie in an interval."""
    return all(
        bool(((part >= low) & (part <= high)).all())
        for part in map(rows.read, chunks(rows.count, rows.classes))
    )


def target_of(target: ArrayLike, logits: Rows) -> Rows:
    """Class indices of the shape of the rows, or distributions of the shape of the logits."""
    array = np.asarray(target)
    if array.dtype.kind in "iu" and array.shape == logits.shape:
        return Rows("target", array, logits.shape)
    if array.dtype.kind in "iub":
        raise ValueError(f"target has shape {array.shape}, class indices need {logits.shape}")
    axis = logits.axis or 0
    given = _numeric("target", array, None)
    moved = np.moveaxis(given, axis, -1) if -given.ndim <= axis < given.ndim else given
    if moved.shape != logits.array.shape:
        raise ValueError(f"target has shape {array.shape}, which is not that of the inputs")
    rows = Rows("target", moved, logits.shape, axis)
    rows.demand(_not_nan, "is NaN")
    return rows


def demand_labels(target: Rows, classes: int, ignored: Optional[int]) -> None:
    """Raises ValueError for the first label outside [0, K) that is not ignored."""
    for part in chunks(target.count, 1):
        labels = target.raw(part)
        wrong = (labels < 0) | (labels >= classes)
        if ignored is not None:
            wrong = wrong & (labels != ignored)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            where, value = target.position(at + part.start), int(labels[at])
            raise ValueError(f"target{where} = {value} is not a class index in [0, {classes})")


def exact_sum(values: Floats) -> Fraction:
    """The sum of finite float64 numbers as a rational number, by integers."""
    mantissa, exponent = np.frexp(values)
    units = np.ldexp(mantissa, 53).astype(np.int64)
    total = Fraction(0)
    for power in np.unique(exponent).tolist():
        mine = units[exponent == power]
        high, low = mine >> _HALF_BITS, mine & ((1 << _HALF_BITS) - 1)
        whole = (int(high.sum()) << _HALF_BITS) + int(low.sum())
        total += whole * Fraction(2) ** (power - 53)
    return total


def format_of(dtype: str) -> str:
    """The name itself, if it is one of a format."""
    if dtype not in FORMATS:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(FORMATS)}")
    return dtype


def result_type(dtype: str) -> Any:
    """NumPy's type for a format: bfloat16 of ml_dtypes, or float32 where that is absent."""
    if dtype != "bfloat16":
        return np.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(np.float32)
    return np.dtype(ml_dtypes.bfloat16)


def cast(values: Floats, dtype: str) -> Array:
    """Values of a format as an array of its type."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(result_type(dtype))


def _not_nan(values: Floats) -> Array:
    return ~np.isnan(values)


def not_negative(values: Floats) -> Array:
    return np.isfinite(values) & (values >= 0.0)


def _broadcast(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(f"{name} has shape {array.shape}, which does not fit {shape}") from error


def _numeric(name: str, values: ArrayLike, bits: Optional[str]) -> Array:
    array = np.asarray(values)
    _float64(name, array.reshape(-1)[:1], bits)
    return array


def _float64(name: str, array: Array, bits: Optional[str]) -> Floats:
    if bits is not None and array.dtype.kind == "u":
        return decode(array, bits)
    try:
        return np.asarray(array).astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as numbers: dtype {array.dtype}") from error
