"""Element-wise operations of one input: float64 values with a bound, for very many inputs at once.

A sweep asks for the exact values of an operation at every number of a format. A curve computes them
in float64 for magnitudes x >= 0, each with a bound of its error, and says which of them serve
several inputs and targets: with E = exp(-x) the binary cross-entropies of x and of -x, for y = 0
and for y = 1, are log1p(E) and x + log1p(E), and their gradients +-E / (1 + E) and +-1 / (1 + E).
`Known.rounded` then decides the correct rounding of nearly all of them; what it leaves undecided is
for the exact tier (`elementwise.truth_of`, or `rows.truth`).

The errors are derived as in `tiers`: exp, expm1, log and log1p with at most 4 ulps, that is 8 u of
their value, u = 2**-53. Of no value below do the errors add up to more than 24 u, of itself or of
the terms that `margin` is taken of; half as much again is room for evaluating the bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from . import tiers
from .exact import Booleans
from .formats import FORMATS, Format, next_down, next_up, round_to_format
from .probability_rows import DENOMINATOR_FLOOR, clip_bounds
from .vocabulary import Floats, Semantics

_RELATIVE = tiers.ROOM * 24 * tiers.UNIT
_BIAS, _BITS = 1023, 52

Limits = tuple[tuple[Union[float, Floats], bool], ...]


@dataclass(frozen=True, eq=False)
class Rounded:
    """Numbers rounded to a format, and what judging an answer needs beside them.

    Attributes:
        value, margin: the numbers in float64, and how far the exact ones may be from them.
        right: the correctly rounded ones, but at `unsure`.
        other: the number of the format on the other side of the exact one; NaN where there is none
            or where float64 does not tell the side.
        scale: 1 / ulp at the exact number.
        unsure: where the bound leaves a choice.
        special: whether any value is infinite or NaN.
        undefined: where the mathematics gives no value, or None for nowhere.
        sided: where the exact number lies beside a limit of its own (`Known.limits`).
    """

    value: Floats
    margin: Floats
    right: Floats
    other: Floats
    scale: Floats
    unsure: NDArray[np.intp]
    special: bool
    undefined: Optional[Booleans] = None
    sided: Optional[Booleans] = None

    def coarse(self, at: NDArray[np.intp]) -> Booleans:
        """Where `scale` may be that of the next binade: a power of two lies within the margin."""
        value, margin = self.value.reshape(-1)[at], self.margin.reshape(-1)[at]
        size = np.abs(value)
        with np.errstate(invalid="ignore"):
            low, high = (size - margin).view(np.int64), (size + margin).view(np.int64)
        straddles = (low >> _BITS) != (high >> _BITS)
        return straddles if self.sided is None else straddles & ~self.sided.reshape(-1)[at]


@dataclass(frozen=True, eq=False)
class Known:
    """Numbers of which float64 knows a neighbourhood.

    Attributes:
        value: of any shape.
        margin: how far the exact numbers may be from them; infinite where nothing is known.
        undefined: where the mathematics gives no value, or None for nowhere.
        limits: numbers that the exact ones come close to and never are, as numbers of the inputs'
            format, and whether they lie above them.
        reached: where the exact number is such a limit all the same: at x = 0, and at infinity.
    """

    value: Floats
    margin: Floats
    undefined: Optional[Booleans] = None
    limits: Limits = ()
    reached: Optional[Booleans] = None

    def rounded(self, fmt: Format) -> Rounded:
        """Round to a format narrower than float64."""
        value = self.value
        with np.errstate(all="ignore"):
            low = _to_format(value - self.margin, fmt)
            right = _to_format(value + self.margin, fmt)
            finite = np.isfinite(value)
            special = not finite.all()
            # Past the largest number the exact tier decides.
            unsure = ~(low == right) | (np.isinf(right) & finite)
            if special:
                right = np.where(finite, right, value)
                unsure &= finite
            above = value > right
            other = _neighbour(right, above, fmt)
            blind = np.abs(value - right) <= self.margin
            other[blind | ~finite] = np.nan
        scale = _inverse_ulp(value, fmt)
        with np.errstate(over="ignore"):
            sided = self._sided(blind, right, other, scale, fmt) if blind.any() else None
        if not tiers.trusted():
            unsure = finite
        if self.undefined is not None:
            unsure = unsure & ~self.undefined
        places = np.flatnonzero(unsure)
        return Rounded(
            value, self.margin, right, other, scale, places, special, self.undefined, sided
        )

    def _sided(
        self, blind: Booleans, right: Floats, other: Floats, scale: Floats, fmt: Format
    ) -> Optional[Booleans]:
        """Where a limit tells the side that float64 does not; sets `other` and `scale` there."""
        if not self.limits:
            return None
        sided = np.zeros(blind.shape, dtype=np.bool_)
        free = blind if self.reached is None else blind & ~self.reached
        for limit, above in self.limits:
            at = free & (right == limit)
            if at.any():
                other[at] = _neighbour(right[at], np.full(int(at.sum()), above), fmt)
                beside = np.nextafter(right[at], np.inf if above else -np.inf)
                scale[at] = _inverse_ulp(beside, fmt)
                sided |= at
        return sided


def unknown(shape: tuple[int, ...]) -> Rounded:
    """Numbers that the exact tier must decide, all of them."""
    nothing = np.full(shape, np.nan)
    every = np.arange(nothing.size)
    one = np.ones(shape)
    return Rounded(nothing, nothing, nothing, nothing, one, every, special=True)


def _to_format(x: Floats, fmt: Format) -> Floats:
    """`round_to_format`, by NumPy's own conversion where it has the format."""
    if fmt.name == "float32":
        return x.astype(np.float32).astype(np.float64)
    if fmt.name == "float16":
        return x.astype(np.float16).astype(np.float64)
    return round_to_format(x, fmt)


def _neighbour(right: Floats, above: Booleans, fmt: Format) -> Floats:
    """The next number of the format, upwards where asked for, else downwards."""
    if fmt.name in ("float32", "float16"):
        kind = np.float32 if fmt.name == "float32" else np.float16
        ends = np.where(above, np.inf, -np.inf).astype(kind)
        return np.nextafter(right.astype(kind), ends).astype(np.float64)
    return np.where(above, next_up(right, fmt), next_down(right, fmt))


def _inverse_ulp(value: Floats, fmt: Format) -> Floats:
    """2^-(max(floor(log2 |x|), emin) - p + 1), by the exponent field of normal float64 numbers."""
    field = (value.view(np.int64) >> _BITS) & 0x7FF
    exponent = np.clip(field - _BIAS, fmt.emin, fmt.emax + 1) - fmt.precision + 1
    return ((_BIAS - exponent) << _BITS).view(np.float64)


@dataclass(frozen=True, eq=False)
class Term:
    """What one output is: known numbers, by their name, or the negatives of them."""

    name: str
    negated: bool = False


class Curve(ABC):
    """The values of an operation at x and at -x, for magnitudes x >= 0.

    Attributes:
        fmt: the format of the inputs and of what is rounded.
    """

    def __init__(self, x: Floats, fmt: Format) -> None:
        self._x, self.fmt = x, fmt
        self._rounded: dict[str, Rounded] = {}
        self._known: dict[str, Known] = {}

    @abstractmethod
    def loss(self, target: float, *, negative: bool) -> Term:
        """The term that is the loss at x, or at -x."""

    @abstractmethod
    def gradient(self, target: float, *, negative: bool) -> Term:
        """The term that is the derivative of it in the input."""

    def rounded(self, term: Term) -> Rounded:
        """The numbers of a term (before any change of sign), computed once."""
        if term.name not in self._rounded:
            self._rounded[term.name] = self._known[term.name].rounded(self.fmt)
        return self._rounded[term.name]

    def _term(self, name: str, compute: Callable[[], Known], *, negated: bool = False) -> Term:
        if name not in self._known:
            with np.errstate(all="ignore"):
                self._known[name] = compute()
        return Term(name, negated)


def _relative(value: Floats) -> Known:
    """Numbers that err by at most 24 u of themselves, but for underflow."""
    return Known(value, _RELATIVE * np.abs(value) + tiers.UNDERFLOW)


class _Sigmoid(Curve):
    """What is made of E = exp(-x): all terms are positive, or their sum is named."""

    @cached_property
    def _growth(self) -> Floats:
        return tiers.exp(-self._x)

    @cached_property
    def _tail(self) -> Floats:
        with np.errstate(all="ignore"):
            return tiers.log1p(self._growth)

    @cached_property
    def _below(self) -> Floats:
        return 1.0 + self._growth

    def _beside(self, value: Floats, limits: Limits) -> Known:
        """Numbers that are one of their limits at 0 or at infinity alone."""
        reached = (self._x == 0.0) | np.isinf(self._x)
        return replace(_relative(value), limits=limits, reached=reached)

    def _level(self, share: float) -> Term:
        """share x + log1p(E), which is greater than its first term."""
        if share == 0.0:
            name = "softplus(-x)"
            return self._term(name, lambda: self._beside(self._tail, ((0.0, True),)))
        name = "softplus(x)" if share == 1.0 else f"{share!r} x + log1p(E)"

        def compute() -> Known:
            linear = share * self._x
            return self._beside(linear + self._tail, ((linear, True),))

        return self._term(name, compute)

    def _probability(self, *, small: bool, negated: bool = False) -> Term:
        """E / (1 + E), between 0 and 1/2, or 1 / (1 + E), between 1/2 and 1."""
        if small:
            limits: Limits = ((0.0, True), (0.5, False))
            return self._term(
                "sigmoid(-x)",
                lambda: self._beside(self._growth / self._below, limits),
                negated=negated,
            )
        ends: Limits = ((0.5, True), (1.0, False))
        return self._term(
            "sigmoid(x)", lambda: self._beside(1.0 / self._below, ends), negated=negated
        )


def _loses(target: float) -> bool:
    """Whether 1 - y is no float64: y is then below 2^-29 for float32."""
    return 1.0 - (1.0 - target) != target


class _BinaryLogits(_Sigmoid):
    """lam |z| + log1p(E), lam = y for z < 0 and 1 - y else; gradient (1 - y) p - y (1 - p)."""

    def loss(self, target: float, *, negative: bool) -> Term:
        if _loses(target):
            return self._unknown()
        return self._level(target if negative else 1.0 - target)

    def gradient(self, target: float, *, negative: bool) -> Term:
        if _loses(target):
            return self._unknown()
        # At -x with y it is minus the one at x with 1 - y.
        y = 1.0 - target if negative else target
        if y in (0.0, 1.0):
            return self._probability(small=y == 1.0, negated=negative is (y == 0.0))
        if y == 0.5:
            return self._term("tanh(x/2)/2", self._half, negated=negative)
        return self._term(f"slope {y!r}", lambda: self._slope(y), negated=negative)

    def _unknown(self) -> Term:
        """Left to the exact tier."""
        size = self._x.size
        return self._term("unknown", lambda: Known(np.zeros(size), np.full(size, np.inf)))

    def _half(self) -> Known:
        """(1 - E) / (2 (1 + E)), without the cancellation: less than x/4 and than 1/2."""
        value = -tiers.expm1(-self._x) / (2.0 * self._below)
        return self._beside(value, ((self._x / 4.0, False), (0.5, False)))

    def _slope(self, y: float) -> Known:
        """((1 - y) - y E) / (1 + E)."""
        rise, fall = 1.0 - y, y * self._growth
        margin = _RELATIVE * (rise + fall) / self._below + tiers.UNDERFLOW
        return Known((rise - fall) / self._below, margin)


class _Softplus(_Sigmoid):
    """log(1 + exp(z)), with the derivative sigmoid(z)."""

    def loss(self, target: float, *, negative: bool) -> Term:
        del target
        return self._level(0.0 if negative else 1.0)

    def gradient(self, target: float, *, negative: bool) -> Term:
        del target
        return self._probability(small=negative)


class _LogSigmoid(_Sigmoid):
    """-log(1 + exp(-z)), with the derivative sigmoid(-z)."""

    def loss(self, target: float, *, negative: bool) -> Term:
        del target
        term = self._level(1.0 if negative else 0.0)
        return Term(term.name, negated=True)

    def gradient(self, target: float, *, negative: bool) -> Term:
        del target
        return self._probability(small=not negative)


class _SigmoidItself(_Sigmoid):
    """1 / (1 + exp(-z)), with the derivative sigmoid(z) sigmoid(-z)."""

    def loss(self, target: float, *, negative: bool) -> Term:
        del target
        return self._probability(small=negative)

    def gradient(self, target: float, *, negative: bool) -> Term:
        del target, negative
        return self._term("sigmoid(x) sigmoid(-x)", self._product)

    def _product(self) -> Known:
        value = self._growth / (self._below * self._below)
        return self._beside(value, ((0.0, True), (0.25, False)))


class _BinaryProbabilities(Curve):
    """-(y log p + (1 - y) log(1 - p)) under a guard, and (p - y) / (p (1 - p)).

    Where the guard is a clip, p is what it lets through. Elsewhere, outside [0, 1], nothing is
    known: the exact tier says that it is undefined.
    """

    def __init__(self, x: Floats, fmt: Format, semantics: Semantics) -> None:
        super().__init__(x, fmt)
        self._semantics = semantics

    def loss(self, target: float, *, negative: bool) -> Term:
        return self._term(
            f"loss {target!r} {negative}", lambda: self._loss(target, negative=negative)
        )

    def gradient(self, target: float, *, negative: bool) -> Term:
        return self._term(
            f"gradient {target!r} {negative}", lambda: self._gradient(target, negative=negative)
        )

    def _guarded(self, *, negative: bool) -> tuple[Floats, Booleans]:
        p = -self._x if negative else self._x
        if self._semantics.guard != "clip":
            return p, np.zeros(p.shape, dtype=np.bool_)
        clipped = np.clip(p, *clip_bounds(self._semantics.guard_eps, self.fmt.name))
        return clipped, clipped != p

    def _loss(self, y: float, *, negative: bool) -> Known:
        p, _ = self._guarded(negative=negative)
        here, there = -tiers.log(p), -tiers.log1p(-p)
        if self._semantics.guard == "clamp log":
            floor = -self._semantics.guard_floor
            here, there = np.minimum(here, floor), np.minimum(there, floor)
        if y in (0.0, 1.0):
            return self._inside(p, _relative((here if y == 1.0 else there) + 0.0))
        return self._inside(p, _relative(y * here + (1.0 - y) * there))

    def _gradient(self, y: float, *, negative: bool) -> Known:
        p, moved = self._guarded(negative=negative)
        if self._semantics.guard_gradient == "clamped denominator":
            value = (p - y) / np.maximum(p * (1.0 - p), DENOMINATOR_FLOOR)
        elif y in (0.0, 1.0):
            value = -1.0 / p if y == 1.0 else 1.0 / (1.0 - p)
        else:
            value = (p - y) / (p * (1.0 - p))
        return self._inside(p, _relative(np.where(moved, 0.0, value)))

    @staticmethod
    def _inside(p: Floats, found: Known) -> Known:
        """Of NaN all is NaN; outside [0, 1] there is no value, and of infinite ones none here."""
        nan = np.isnan(p)
        undefined = ~((p >= 0.0) & (p <= 1.0) | nan)
        known = np.isfinite(found.value) & ~undefined
        value = np.where(nan, np.nan, np.where(known, found.value, 0.5))
        return Known(value, np.where(known, found.margin, np.inf), undefined)


class _OneLogit(Curve):
    """A cross-entropy of K classes while one logit runs through a format; targets are labels."""

    def __init__(self, x: Floats, fmt: Format, row: Floats, place: int) -> None:
        super().__init__(x, fmt)
        self._row, self._place = row, place

    def loss(self, target: float, *, negative: bool) -> Term:
        return self._term(
            f"loss {target!r} {negative}", lambda: self._loss(int(target), negative=negative)
        )

    def gradient(self, target: float, *, negative: bool) -> Term:
        return self._term(
            f"gradient {target!r} {negative}",
            lambda: self._gradient(int(target), negative=negative),
        )

    def _rows(self, *, negative: bool) -> Floats:
        rows = np.tile(self._row, (self._x.size, 1))
        rows[:, self._place] = -self._x if negative else self._x
        return rows

    def _loss(self, label: int, *, negative: bool) -> Known:
        rows = self._rows(negative=negative)
        labels = np.full(self._x.size, label)
        return _nan_known(rows, *tiers.loss_values(rows, labels))

    def _gradient(self, label: int, *, negative: bool) -> Known:
        rows = self._rows(negative=negative)
        labels = np.full(self._x.size, label)
        return _nan_known(rows, *tiers.gradient_values(rows, labels, 1.0))


def _nan_known(rows: Floats, value: Floats, margin: Floats) -> Known:
    """Of a row with NaN everything is NaN; of what has no bound otherwise nothing is known."""
    margin = np.where(np.isfinite(margin) & np.isfinite(value), margin, np.inf)
    nan = np.isnan(rows).any(axis=1)
    value, margin = np.where(np.isfinite(value), value, 0.5), np.array(margin)
    value[nan], margin[nan] = np.nan, 0.0
    return Known(value, margin)


_WITHOUT_OPTIONS: dict[str, type[Curve]] = {
    "binary_cross_entropy_with_logits": _BinaryLogits,
    "softplus": _Softplus,
    "log_sigmoid": _LogSigmoid,
    "sigmoid": _SigmoidItself,
}


def curve(operation: str, semantics: Semantics, x: Floats, dtype: str) -> Optional[Curve]:
    """The curve of an operation at magnitudes of a format, or None where there is no fast one.

    Args:
        operation: element-wise; without options.
        semantics: its conventions.
        x: (N,) the magnitudes, +inf and NaN among them.
        dtype: a format narrower than float64.
    """
    if operation in _WITHOUT_OPTIONS:
        return _WITHOUT_OPTIONS[operation](x, FORMATS[dtype])
    if operation != "binary_cross_entropy":
        return None
    floored = semantics.guard_gradient == "clamped denominator"
    if (semantics.guard == "clamp log") is not floored or semantics.guard == "floor":
        return None
    return _BinaryProbabilities(x, FORMATS[dtype], semantics)


def row_curve(row: Floats, place: int, x: Floats, dtype: str) -> Curve:
    """The curve of a cross-entropy whose logit at `place` is x or -x, the others as in `row`."""
    return _OneLogit(x, FORMATS[dtype], row, place)
