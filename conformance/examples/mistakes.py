"""Which mistake explains a wrong figure: every candidate is tried on every wrong figure.

A candidate is made of the example alone: the same figure of other inputs or under another
convention, another figure, another unit, a division left out, digits cut off. It is accepted only
where all numbers of the figure round (or are cut) to the printed digits. At most two mistakes are
combined, and of those that fit the simplest are said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from ...reference.vocabulary import Floats
from ..misuse.forms import CONVENTIONS
from .entries import BITS, NATS, Example, ExamplesError
from .figures import PER_BIT, Figure, computed, cut_to, rounds_to, scale_of
from .operations import OPERATIONS
from .quantities import Quantity

OTHER_UNIT = "other unit"
OTHER_QUANTITY = "other quantity"
OTHER_CONVENTION = "other convention"
TRUNCATED = "truncated"
MISSING_DIVISION = "missing division"
OTHER_INPUT = "other input"
UNEXPLAINED = "unexplained"

MOST = 2
"""Mistakes that are combined: with more, some combination would fit anything."""


@dataclass(frozen=True)
class Mistake:
    """One or two mistakes together, and the value that they give.

    Attributes:
        kinds: of the list above.
        words: for each kind, what was done.
        value: with them.
    """

    kinds: tuple[str, ...]
    words: tuple[str, ...]
    value: Floats

    def and_(self, kind: str, words: str, value: Floats | None = None) -> Mistake:
        after = self.value if value is None else value
        return Mistake((*self.kinds, kind), (*self.words, words), after)


@dataclass(frozen=True)
class Explained:
    """What the search found: the simplest mistakes that fit, of so many that were tried."""

    mistakes: tuple[Mistake, ...]
    tried: int


def explain(example: Example, figure: Figure) -> Explained:
    """Try all candidates on a wrong figure."""
    fitting: list[Mistake] = []
    tried = 0
    for mistake in candidates(example, figure):
        tried += 1
        if all(map(fits_to(mistake), np.atleast_1d(mistake.value).tolist(), figure.printed)):
            fitting.append(mistake)
    least = min((len(m.kinds) for m in fitting), default=0)
    simplest = {m.words: m for m in fitting if len(m.kinds) == least}
    return Explained(tuple(simplest.values()), tried)


def fits_to(mistake: Mistake) -> Callable[[float, Decimal], bool]:
    """How a number with a mistake is compared with printed digits."""

    def fits(value: float, printed: Decimal) -> bool:
        return cut_to(value, printed) if TRUNCATED in mistake.kinds else rounds_to(value, printed)

    return fits


def candidates(example: Example, figure: Figure) -> Iterator[Mistake]:
    """Values that one mistake or two would give in the place of a figure."""
    for start, given in ((Mistake((), (), figure.value), example), *inputs(example)):
        try:
            quantities = computed(given).quantities
        except (ExamplesError, ValueError, ZeroDivisionError):
            continue  # the op has no value for such an input
        for name, quantity in quantities.items():
            for mistake in _of_quantity(example, figure, name, quantity, start):
                fit = np.shape(mistake.value) == np.shape(figure.value)
                if fit and 0 < len(mistake.kinds) <= MOST:
                    yield mistake
                if fit and len(mistake.kinds) < MOST:
                    yield mistake.and_(TRUNCATED, "digits cut off, not rounded")


def _of_quantity(
    example: Example, figure: Figure, name: str, quantity: Quantity, start: Mistake
) -> Iterator[Mistake]:
    """A quantity in the place of the figure: as it is, undivided, in each unit."""
    begun = Mistake(start.kinds, start.words, figure.value)
    if name != figure.selector.base:
        words = OPERATIONS[example.operation].figures.get(name, name)
        begun = begun.and_(OTHER_QUANTITY, f"{name.replace('_', ' ')} ({words})")
    forms = [(begun, quantity.values)]
    for what, values in quantity.undivided:
        forms.append((begun.and_(MISSING_DIVISION, f"not divided by {what}"), values))
    for mistake, values in forms:
        try:
            value = figure.selector.of(values)[figure.at]
        except (IndexError, ValueError):
            continue  # a quantity with other cases
        plain = scale_of(example, quantity) if figure.selector.form != "_ratio" else 1.0
        yield Mistake(mistake.kinds, mistake.words, value * plain)
        if quantity.information and figure.selector.form != "_ratio":
            other, factor = (NATS, 1.0) if example.unit == BITS else (BITS, PER_BIT)
            yield mistake.and_(OTHER_UNIT, f"in {other}", value * factor)


# --- inputs that may have been taken for the right ones -------------------------------------------


def inputs(example: Example) -> Iterator[tuple[Mistake, Example]]:
    """The example with another input or under another convention; its values are not known yet."""
    sorts = [(OTHER_CONVENTION, _conventions)]
    generic = (_exchanged, _other_classes, _complements, _inverse)
    sorts += [(OTHER_INPUT, each) for each in (*generic, OPERATIONS[example.operation].mistaken)]
    for kind, mistaken in sorts:
        for words, given in mistaken(example):
            yield Mistake((kind,), (words,), np.asarray(np.nan)), given


Given = Iterator[tuple[str, Example]]


def _conventions(example: Example) -> Given:
    if "convention" in OPERATIONS[example.operation].fields:
        meant = example.fields.get("convention", CONVENTIONS[0])
        for other in CONVENTIONS:
            if other != meant:
                yield f"{other} in place of {meant}", example.given(convention=other)


def _exchanged(example: Example) -> Given:
    """Two inputs of one shape, each in the place of the other."""
    shapes = {name: np.shape(example.numbers(name)) for name in _numeric(example)}
    names = list(shapes)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shapes[one] == shapes[other]:
                given = {one: example[other], other: example[one]}
                yield f"{one} and {other} exchanged", example.given(**given)


def _other_classes(example: Example) -> Given:
    """Another class as the target, of one row at a time."""
    name = next((n for n in ("logits", "p") if n in example), "")
    kind = OPERATIONS[example.operation].fields.get("target")
    if not name or kind is None or kind.kind not in ("index", "indices"):
        return
    target, classes = example["target"], example.numbers(name).shape[-1]
    rows = target if isinstance(target, list) else [target]
    for row, right in enumerate(rows):
        for other in (k for k in range(classes) if k != right):
            changed = [*rows[:row], other, *rows[row + 1 :]]
            where = f" of row {row}" if len(rows) > 1 else ""
            given = changed if isinstance(target, list) else other
            yield f"class {other} as the target{where}", example.given(target=given)


def _complements(example: Example) -> Given:
    """1 - p in the place of p, for probabilities of one of two outcomes, and labels."""
    fields = OPERATIONS[example.operation].fields
    for name in ("p", "y", "confidence"):
        if name in example and (name != "p" or fields[name].kind != "probabilities"):
            yield f"1 - {name} in place of {name}", example.given(**{name: _less(example[name])})


def _less(value: object) -> object:
    return [_less(v) for v in value] if isinstance(value, list) else 1 - value  # type: ignore[operator]


def _inverse(example: Example) -> Given:
    if "temperature" in example and example["temperature"] != 1:
        inverse = 1 / Decimal(example["temperature"])
        yield "logits times the temperature", example.given(temperature=inverse)


def _numeric(example: Example) -> list[str]:
    kinds = OPERATIONS[example.operation].fields
    words = ("text", "convention", "reduction", "index", "indices", "class counts", "count")
    return [name for name in example.fields if name in kinds and kinds[name].kind not in words]
