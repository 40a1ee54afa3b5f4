"""A call of a public function: its rows in parts, factors, reductions, and the rounding.

Sums and means are certified like single values: the sum of the pairs has an error of which
2**-92 (sum of the doubts of the rows + 2**-6 sum of the |losses|) is a bound; where a boundary of
rounding lies within it, the decimal formulas of all rows are summed instead. A result that is
correctly rounded cannot depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import tiers
from .arguments import Array, Part, Rows, cast, chunks, exact_sum, per_row, result_type
from .certify import Index, repaired
from .decimals import Digits, Enclosure, Triple, settle
from .exact import Exact, add, magnitude, multiplied, round_exact, shift, total
from .formats import FORMATS
from .truth import Factor, Formula, Truth, join_exact, nearest
from .vocabulary import Floats

REDUCTIONS = ("none", "sum", "mean")
_ONE = Fraction(1)
# 2**-98 of |loss| covers the roundings of a sum, and those of its terms to pairs.
_SLACK = 6

Compute = Callable[[Part, Optional[Factor]], Truth]


@dataclass(frozen=True, eq=False)
class Call:
    """Rows whose losses are reduced.

    Attributes:
        inputs: what the gradient is with respect to.
        compute: the truths of some rows, or of their elements, times a factor of each.
        divisor: what the mean divides by.
        reduction: "none", "sum" or "mean".
        sample: a factor per row.
        weight: a factor per element, where rows consist of such.
        share: a factor of everything.
        grouped: whether a row is the sum of K elements, each with a truth of its own.
        losses: a shorter way to the losses of some rows, where there are no factors. They are sums
            of terms that are not negative.
        narrow: the same for a format narrower than float64, rounded to it.
        narrow_gradient: the same for the gradient of some rows, times a number.
    """

    inputs: Rows
    compute: Compute
    divisor: Callable[[], Fraction]
    reduction: str
    sample: Optional[Rows] = None
    weight: Optional[Rows] = None
    share: Fraction = _ONE
    grouped: bool = False
    losses: Optional[Callable[[slice], Exact]] = None
    narrow: Optional[Callable[[slice, str], Floats]] = None
    narrow_gradient: Optional[Callable[[slice, str, Fraction], Floats]] = None

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            known = ", ".join(REDUCTIONS)
            raise ValueError(f"reduction {self.reduction!r} is not one of {known}")

    def loss(self, dtype: str) -> Array:
        """The reduced loss, or one per row, in a format."""
        if self.reduction != "none":
            return cast(round_exact(self._reduced(), FORMATS[dtype]), dtype)
        result = np.empty(self.inputs.count, dtype=result_type(dtype))
        for part in self._parts():
            if self.narrow is not None and dtype != "float64":
                result[part] = cast(self.narrow(part, dtype), dtype)
            else:
                result[part] = cast(round_exact(self._losses(part), FORMATS[dtype]), dtype)
        return result.reshape(self.inputs.shape)[()]

    def gradient(self, cotangent: Optional[ArrayLike], dtype: str) -> Array:
        """The gradient of the reduced loss, or of the rows weighted by the cotangent."""
        shape = self.inputs.shape if self.reduction == "none" else ()
        weight, by = self._cotangent(cotangent, shape)
        if self.reduction == "mean":
            divisor = self.divisor()
            by = by / divisor if divisor else by
        inputs = self.inputs
        entries = inputs.classes
        result = np.empty((inputs.count, entries), dtype=result_type(dtype))
        quick = self.narrow_gradient if dtype != "float64" and weight is None else None
        for part in self._parts():
            if quick is not None and tiers.takes(float(by)):
                values = quick(part, dtype, by)
            else:
                truth = self.compute(part, self._factor(part, weight, by))
                values = round_exact(truth.gradient, FORMATS[dtype])
            result[part] = cast(values, dtype).reshape(-1, entries)
        if inputs.axis is None:
            return result.reshape(inputs.shape)[()]
        return np.moveaxis(result.reshape(*inputs.shape, entries), -1, inputs.axis)

    def times(self, rows: NDArray[np.intp], by: Fraction) -> Truth:
        """The truths of rows of one element with these numbers, times a number."""
        return self.compute(rows, None if by == 1 else Factor.of(rows.size, (), by))

    def _cotangent(
        self, cotangent: Optional[ArrayLike], shape: tuple[int, ...]
    ) -> tuple[Optional[Rows], Fraction]:
        if cotangent is None:
            return None, _ONE
        if not shape:
            given = float(np.asarray(cotangent, dtype=np.float64))
            if not np.isfinite(given):
                raise ValueError(f"cotangent = {given!r} must be finite")
            return None, Fraction(given)
        return per_row("cotangent", cotangent, self.inputs, signed=True), _ONE

    def _parts(self) -> list[slice]:
        return list(chunks(self.inputs.count, self.inputs.classes))

    def _factor(
        self, part: slice, cotangent: Optional[Rows] = None, by: Fraction = _ONE
    ) -> Optional[Factor]:
        """The product of all factors of some rows, or of their elements; None for ones."""
        size = (part.stop - part.start, self.inputs.classes if self.grouped else 1)
        parts = [
            np.broadcast_to(given.read(part).reshape(size[0], -1), size).reshape(-1)
            for given in (self.sample, self.weight, cotangent)
            if given is not None
        ]
        by *= self.share
        return Factor.of(size[0] * size[1], parts, by) if parts or by != 1 else None

    def _losses(self, part: slice) -> Exact:
        """(n,) correctly decided losses of some rows."""
        if self.losses is not None:
            return self.losses(part)
        truth = self.compute(part, self._factor(part))
        if not self.grouped:
            return truth.loss
        sums = _Sums.of_groups(truth, self.inputs.classes)
        return sums.settled()

    def _reduced(self) -> Exact:
        parts = self._parts()
        sums = [self._sum(part) for part in parts]
        divisor = self.divisor() if self.reduction == "mean" else _ONE
        if divisor == 0:
            return Exact.from_float(np.asarray(np.nan))
        empty = Exact.zeros((1,))
        value = total(join_exact([empty, *(found.value for found in sums)]))
        doubt = total(join_exact([empty, *(found.doubt for found in sums)]))

        def enclosure(digits: Digits) -> Enclosure:
            rows = (
                self.compute(part, self._factor(part)).formula(row)
                for part in parts
                for row in range(
                    (part.stop - part.start) * (self.inputs.classes if self.grouped else 1)
                )
            )
            return _over(_enclosed(rows, digits), divisor, digits)

        if divisor != 1:
            by = nearest(1 / divisor)
            value, doubt = multiplied(value, by), multiplied(doubt, by)
            doubt = add(doubt, shift(magnitude(value), -_SLACK))
        return _Sums(value, doubt, lambda _: enclosure).settled()

    def _sum(self, part: slice) -> _Sums:
        """The sum of some rows."""
        if self.losses is not None:
            losses = self.losses(part)
            return _Sums.of(losses, losses)
        truth = self.compute(part, self._factor(part))
        return _Sums.of(truth.loss, truth.doubt)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums, numbers of which 2**-92 bounds their error, and how one is computed by decimals."""

    value: Exact
    doubt: Exact
    formula: Callable[[int], Formula]

    @classmethod
    def of(cls, loss: Exact, doubt: Exact) -> _Sums:
        """The sum of all, of shape (1,), without a formula."""
        found = cls._along(loss.reshape(1, -1), doubt.reshape(1, -1))
        return cls(*found, _no_formula)

    @classmethod
    def of_groups(cls, truth: Truth, size: int) -> _Sums:
        """The sums of every `size` losses."""
        found = cls._along(truth.loss.reshape(-1, size), truth.doubt.reshape(-1, size))

        def formula(row: int) -> Formula:
            own = [truth.formula(row * size + k) for k in range(size)]
            return lambda digits: _enclosed(own, digits)

        return cls(*found, formula)

    @staticmethod
    def _along(loss: Exact, doubt: Exact) -> tuple[Exact, Exact]:
        extra = shift(total(magnitude(loss), axis=1), -_SLACK)
        return total(loss, axis=1), add(total(magnitude(doubt), axis=1), extra)

    def settled(self) -> Exact:
        """The sums, on the right side of every boundary of rounding."""

        def settle_(index: Index) -> Triple:
            row = index[0] if index else 0
            return settle(self.formula(row), lambda: f"a sum of losses (row {row})")

        return repaired(self.value, self.doubt, settle_)


def _no_formula(_: int) -> Formula:
    raise AssertionError("the sum of a part is not settled by itself")


def _enclosed(formulas: Iterable[Formula], digits: Digits) -> Enclosure:
    """The sum of numbers by decimals: the rational ones exactly."""
    rational, found = Fraction(0), None
    for formula in formulas:
        value = formula(digits)
        if isinstance(value, Fraction):
            rational += value
        else:
            found = value if found is None else digits.add(found, value)
    if found is None:
        return rational
    return digits.add(digits.number(rational), found) if rational else found


def _over(value: Enclosure, divisor: Fraction, digits: Digits) -> Enclosure:
    if isinstance(value, Fraction):
        return value / divisor
    return value if divisor == 1 else digits.divide(value, digits.number(divisor))


def count(rows: Rows) -> Callable[[], Fraction]:
    """The number of rows."""
    return lambda: Fraction(rows.count)


def weight_of_rows(sample: Optional[Rows], rows: Rows, used: Callable[[slice], Array]) -> Fraction:
    """The sum of the sample weights (ones where None) over the rows that are used."""
    whole = Fraction(0)
    for part in chunks(rows.count, 1):
        mask = used(part)
        if sample is None:
            whole += int(np.count_nonzero(mask))
        else:
            whole += exact_sum(sample.read(part)[mask])
    return whole
