"""The figures of an example: what is claimed or to be produced, beside what the reference says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np

from ...reference.vocabulary import Floats
from .entries import BITS, Example, ExamplesError, array
from .operations import OPERATIONS
from .quantities import Ask, Computed, Quantity

PER_BIT = float(1 / np.log(2.0))
"""What nats are multiplied with for bits."""

PRODUCED = 4
"""Significant digits that are shown of a figure that nobody printed: what most examples print."""

NOISE = 2.0**-40
"""What the reference's figures may be off, relative to the larger of themselves and 1: inputs of at
most 1024 are rounded to float64 (2^-43), and a figure is made with fewer than 8 more roundings as
large. It decides exact ties alone, such as 0.125 printed as 0.12 or 0.13: both are right."""

WIDE = Context(prec=1200)
"""Digits enough for every float64, whose last is that of 2^-1074 or one that a file prints."""

SUFFIX = re.compile(r"(?P<form>_magnitude|_ratio)?(?:_row_(?P<row>\d+)|_at_(?P<at>\d+(?:_\d+)?))?")


@dataclass(frozen=True)
class Selector:
    """What a name of a figure picks of a quantity.

    Attributes:
        base: name of the quantity.
        form: "", "_magnitude" or "_ratio".
        place: the one case that it is of, or None for all.
    """

    base: str
    form: str = ""
    place: int | None = None

    def of(self, values: Sequence[Floats]) -> tuple[Floats, ...]:
        """The values of its cases."""
        found = tuple(values) if self.place is None else (values[self.place],)
        if self.form == "_magnitude":
            return tuple(np.abs(value) for value in found)
        if self.form == "_ratio":
            less, more = sorted(np.abs(found))
            with np.errstate(divide="ignore", invalid="ignore"):
                return (more / less,)
        return found

    def words(self, quantity: Quantity) -> tuple[str, ...]:
        """Its cases in words."""
        if self.form == "_ratio":
            return ("",)
        return quantity.cases if self.place is None else (quantity.cases[self.place],)


@dataclass(frozen=True)
class Figure:
    """One number or vector of an example.

    Attributes:
        name: as it is claimed.
        selector: what it is of its quantity.
        at: its place among the cases of the selector.
        case: that case in words.
        value: by the reference, in the unit of the example.
        printed: what the source prints, () where it prints nothing.
        about: whether that is meant as rough.
        scale: from nats to the unit of the example.
        ways: calls that give it, the best first.
    """

    name: str
    selector: Selector
    at: int
    case: str
    value: Floats
    printed: tuple[Decimal, ...] = ()
    about: bool = False
    scale: float = 1.0
    ways: tuple[Ask, ...] = ()

    def right(self, value: Floats | None = None) -> bool:
        """Whether a value (the reference's, if none) rounds to what is printed."""
        given = np.atleast_1d(self.value if value is None else value)
        return len(given) == len(self.printed) and all(
            rounds_to(float(v), digits, about=self.about)
            for v, digits in zip(given, self.printed, strict=True)
        )

    def shown(self) -> tuple[str, ...]:
        """The right figure at the digits that are printed.

        At `PRODUCED` ones at least, where what is printed is rough, wrong or nothing.
        """
        values = np.atleast_1d(self.value).tolist()
        if not self.printed or self.about:
            return tuple(significant(value) for value in values)
        pairs = zip(values, self.printed, strict=True)
        printed = [rounded(value, digits) for value, digits in pairs]
        if self.right():
            return tuple(printed)
        return tuple(max(p, significant(v), key=len) for p, v in zip(printed, values, strict=True))

    def confirmed_by(self, value: Floats) -> bool:
        """Whether a framework's value is the right figure at the digits that are shown."""
        given = np.atleast_1d(value).tolist()
        return len(given) == np.size(self.value) and all(
            rounds_to(v, Decimal(digits)) or f"{v:g}" == digits  # of infinities and NaN
            for v, digits in zip(given, self.shown(), strict=True)
        )


def rounds_to(value: float, printed: Decimal, *, about: bool = False) -> bool:
    """Whether a value rounds to printed digits; one half of the last digit up or down is right."""
    if not (np.isfinite(value) and printed.is_finite()):
        return False
    if about:
        return f"{Decimal(value):.0e}" == f"{printed:.0e}"
    room = unit(printed) / 2 + Decimal(NOISE * max(1.0, abs(value)))
    return abs(Decimal(value) - printed) <= room


def cut_to(value: float, printed: Decimal) -> bool:
    """Whether printed digits are those of a value with the rest cut off."""
    if not np.isfinite(value):
        return False
    return Decimal(value).quantize(unit(printed), ROUND_DOWN, WIDE) == printed


def unit(printed: Decimal) -> Decimal:
    """One in the last printed digit."""
    return Decimal(1).scaleb(int(printed.as_tuple().exponent))


def rounded(value: float, printed: Decimal) -> str:
    """A value at as many digits as are printed; there is no -0."""
    if not np.isfinite(value):
        return f"{value:g}"
    found = Decimal(value).quantize(unit(printed), ROUND_HALF_EVEN, WIDE)
    return f"{found or abs(found):f}"


def significant(value: float) -> str:
    """A value at `PRODUCED` significant digits, trailing zeros kept."""
    if not np.isfinite(value) or not value:
        return f"{value:g}"
    exact = Decimal(value)
    last = Decimal(1).scaleb(exact.adjusted() - PRODUCED + 1)
    return f"{exact.quantize(last, ROUND_HALF_EVEN, WIDE):f}"


def computed(example: Example) -> Computed:
    """What the reference says of an example.

    Raises:
        ExamplesError: if its fields do not fit each other.
    """
    with np.errstate(all="ignore"):
        return OPERATIONS[example.operation].compute(example)


def scale_of(example: Example, quantity: Quantity) -> float:
    return PER_BIT if quantity.information and example.unit == BITS else 1.0


def figures(example: Example) -> list[Figure]:
    """Every figure that is claimed of an example, then those that are to be produced.

    Raises:
        ExamplesError: if it claims what its operation does not give.
    """
    found, made = computed(example), []
    for name, printed in example.claim.items():
        made += _claimed(example, found, name, printed)
    names = example.produce if example.claim or example.produce else tuple(found.quantities)
    for name in names:
        made += _figures(example, found, name)
    return made


def _claimed(example: Example, found: Computed, name: str, printed: Any) -> list[Figure]:
    plain = _figures(example, found, name)
    given = printed if len(plain) > 1 else [printed]
    if not isinstance(given, list) or len(given) != len(plain):
        raise _fault(example, f"the claim of {name!r} must be a list of {len(plain)}, a case each")
    return [_printed(example, f, digits) for f, digits in zip(plain, given, strict=True)]


def _printed(example: Example, figure: Figure, printed: Any) -> Figure:
    if np.shape(array(printed)) != np.shape(figure.value):
        wanted = "one number" if figure.value.ndim == 0 else f"{figure.value.size} numbers"
        raise _fault(example, f"the claim of {figure.name!r} must hold {wanted} for each case")
    digits = printed if isinstance(printed, list) else [printed]
    return Figure(
        **{
            **vars(figure),
            "printed": tuple(map(Decimal, digits)),
            "about": figure.name in example.about,
        }
    )


def _figures(example: Example, found: Computed, name: str) -> list[Figure]:
    selector = select(example, found, name)
    quantity = found.quantities[selector.base]
    scale = scale_of(example, quantity) if selector.form != "_ratio" else 1.0
    values = [scale * value for value in selector.of(quantity.values)]
    return [
        Figure(
            name,
            selector,
            at,
            case,
            np.asarray(value),
            scale=scale,
            ways=_ways(quantity, selector, at),
        )
        for at, (value, case) in enumerate(zip(values, selector.words(quantity), strict=True))
    ]


def _ways(quantity: Quantity, selector: Selector, at: int) -> tuple[Ask, ...]:
    """The calls that give one case; a ratio is of two, which are asked each for itself."""
    if selector.form == "_ratio":
        return ()
    place = at if selector.place is None else selector.place
    return tuple(way[place] for way in quantity.asks)


def select(example: Example, found: Computed, name: str) -> Selector:
    """The quantity that a name of a figure is of, and what of it.

    Raises:
        ExamplesError: if there is no such figure.
    """
    for base in sorted(found.quantities, key=len, reverse=True):
        suffix = SUFFIX.fullmatch(name.removeprefix(base)) if name.startswith(base) else None
        if suffix is None:
            continue
        quantity = found.quantities[base]
        place = _place(quantity, suffix["row"], suffix["at"])
        if place is not None and not 0 <= place < len(quantity.values):
            raise _fault(example, f"{name!r}: {base} has {len(quantity.values)} cases")
        numbers = len(quantity.values) == 2 and all(v.ndim == 0 for v in quantity.values)
        if suffix["form"] == "_ratio" and not (numbers and place is None):
            raise _fault(example, f"{name!r} is a ratio of two cases, each of one number")
        return Selector(base, suffix["form"] or "", place)
    known = ", ".join(found.quantities) or "none"
    raise _fault(example, f"there is no figure {name!r} here; there are: {known}")


def _place(quantity: Quantity, row: str | None, at: str | None) -> int | None:
    if row is not None:
        return int(row)
    if at is None:
        return None
    wanted = f"p = {float(at.replace('_', '.')):g}"
    return quantity.cases.index(wanted) if wanted in quantity.cases else -1


def _fault(example: Example, words: str) -> ExamplesError:
    return ExamplesError(f"example {example.id}, {example.operation}: {words}")
