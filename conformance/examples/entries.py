"""Reads and checks a file of worked examples; the printed digits are kept as they stand.

What is wrong with a file is said with the file, the example and the field: new examples are added
by TOML alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ...reference.vocabulary import Floats
from ..misuse.forms import CONVENTIONS

FILE = Path(__file__).with_name("worked_examples.toml")

NATS, BITS = "nats", "bits"
REDUCTIONS = ("none", "mean")

MOST_CLASSES = 2**17
"""Classes of an example, as many as large vocabularies have; a row of them is computed at once."""

LARGEST, MOST_PLACES = 300, 300
"""Powers of ten that numbers stay below, and places behind the point: what float64 holds."""

COMMON = ("id", "operation", "unit", "claim", "about", "produce", "note")
"""The fields of every example."""

ID = re.compile(r"([A-Za-z]+)[0-9]+")
"""Letters that name the source, and a number."""


class ExamplesError(Exception):
    """A file of examples that cannot be used; the text says where and why."""


@dataclass(frozen=True)
class Field:
    """One field of an operation.

    Attributes:
        kind: a key of `KINDS`.
        needed: whether an example of the operation must have it.
    """

    kind: str
    needed: bool = True


@dataclass(frozen=True)
class Example:
    """One entry of a file.

    Attributes:
        id: such as "A1".
        source: the text that its letters stand for.
        operation: a name of `operations.OPERATIONS`.
        fields: what the operation is given, as it was read.
        claim: figure -> what is printed, a number or lists of them.
        about: figures that are printed as rough.
        produce: figures to produce beside the claim.
        unit: NATS or BITS.
        printed: what other examples of the source print of the same rows, by `printed_before`.
    """

    id: str
    source: str
    operation: str
    fields: Mapping[str, Any]
    claim: Mapping[str, Any] = field(default_factory=dict)
    about: tuple[str, ...] = ()
    produce: tuple[str, ...] = ()
    unit: str = NATS
    note: str = ""
    printed: tuple[Printed, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def numbers(self, name: str) -> Floats:
        """A field as float64, each number the nearest to what is printed."""
        return array(self.fields[name])

    def given(self, **changes: Any) -> Example:
        """The same example with other inputs."""
        return replace(self, fields={**self.fields, **changes})


@dataclass(frozen=True)
class Printed:
    """Probabilities that another example of the same source prints of a row of logits."""

    example: str
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]


def array(value: Any) -> Floats:
    """Numbers as they were read, as float64."""
    return np.array(_floats(value), np.float64)


def _floats(value: Any) -> Any:
    return [_floats(v) for v in value] if isinstance(value, list) else float(value)


# --- what a field may hold ------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    """A number that float64 holds, and that is not written with more digits than anyone prints."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return False
    number = Decimal(value)
    return number.is_finite() and number.adjusted() < LARGEST and _places(number) < MOST_PLACES


def _places(number: Decimal) -> int:
    return -int(number.as_tuple().exponent)


def _all(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(check(v) for v in value)


def _is_row(value: Any) -> bool:
    return _all(value, _is_number)


def _are_rows(value: Any) -> bool:
    return _all(value, _is_row) and len({len(row) for row in value}) == 1


def _is_probability(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_distribution(value: Any) -> bool:
    return _all(value, _is_probability)


def _are_distributions(value: Any) -> bool:
    return _are_rows(value) and all(map(_is_distribution, value))


def _is_index(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and 0 <= value < MOST_CLASSES


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "number": ("a number", _is_number),
    "count": (f"a whole number from 1 to {MOST_CLASSES:,}", lambda v: _is_index(v) and v > 0),
    "positive": ("a number above 0", lambda v: _is_number(v) and v > 0),
    "probability": ("a number in [0, 1]", _is_probability),
    "probabilities": ("a list of numbers in [0, 1]", _is_distribution),
    "probability or several": (
        "a number in [0, 1], or a list of such",
        lambda v: _is_probability(v) or _is_distribution(v),
    ),
    "distributions": (
        "a list of numbers in [0, 1], or a list of such lists of one length",
        lambda v: _is_distribution(v) or _are_distributions(v),
    ),
    "pairs": (
        "a list of pairs of numbers in [0, 1]",
        lambda v: _are_distributions(v) and len(v[0]) == 2,
    ),
    "row": ("a list of numbers", _is_row),
    "rows": (
        "a list of numbers, or a list of such lists of one length",
        lambda v: _is_row(v) or _are_rows(v),
    ),
    "index": ("a class, counted from 0", _is_index),
    "indices": (
        "a class counted from 0, or a list of such",
        lambda v: _is_index(v) or _all(v, _is_index),
    ),
    "class counts": (
        f"a list of whole numbers from 2 to {MOST_CLASSES:,}",
        lambda v: _all(v, lambda k: _is_index(k) and k > 1),
    ),
    "convention": (f"one of {', '.join(CONVENTIONS)}", lambda v: v in CONVENTIONS),
    "reduction": (f"one of {', '.join(REDUCTIONS)}", lambda v: v in REDUCTIONS),
    "text": ("a text", lambda v: isinstance(v, str)),
}
"""Sorts of fields: how they are called in an error, and what they may hold."""


# --- a file ---------------------------------------------------------------------------------------


def load(path: Path = FILE) -> tuple[Example, ...]:
    """The examples of a file, in its order.

    Raises:
        ExamplesError: if it cannot be read, or an example cannot be computed.
    """
    from .operations import OPERATIONS  # noqa: PLC0415 - it takes the words of this module

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ExamplesError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExamplesError(f"cannot read {path}: {error}") from error
    except (
        ValueError,
        ArithmeticError,
    ) as error:  # digits or an exponent that Python does not take
        raise ExamplesError(f"cannot read {path}: a number in it is too long") from error
    sources, entries = data.get("sources", {}), data.get("example", [])
    if unknown := sorted(data.keys() - {"sources", "example"}):
        raise ExamplesError(f"{path}: {unknown[0]!r} is neither [sources] nor [[example]]")
    if not (isinstance(sources, dict) and all(isinstance(s, str) for s in sources.values())):
        raise ExamplesError(f"{path}: [sources] gives letters a text each")
    if not (isinstance(entries, list) and all(isinstance(e, dict) for e in entries)):
        raise ExamplesError(f"{path}: examples are written [[example]]")
    if not entries:
        raise ExamplesError(f"{path}: there is no [[example]] in it")
    fields = {name: operation.fields for name, operation in OPERATIONS.items()}
    found: list[Example] = []
    for place, entry in enumerate(entries, start=1):
        where = f"{path}, example {entry.get('id', f'number {place}')}"
        found.append(_example(entry, sources, fields, where))
        if found[-1].id in {e.id for e in found[:-1]}:
            raise ExamplesError(f"{where}: there is another of this id")
    return tuple(replace(e, printed=_printed_before(e, found)) for e in found)


def _example(
    entry: dict[str, Any],
    sources: dict[str, str],
    operations: Mapping[str, Mapping[str, Field]],
    where: str,
) -> Example:
    for name in ("id", "operation", "claim"):
        if name not in entry:
            raise ExamplesError(f"{where}: {name!r} is missing")
    letters = ID.fullmatch(str(entry["id"]))
    if letters is None or letters[1] not in sources:
        known = ", ".join(sources) or "none"
        raise ExamplesError(f"{where}: an id is letters of [sources] ({known}) and a number")
    operation = entry["operation"]
    if not isinstance(operation, str):
        raise ExamplesError(f"{where}: 'operation' must be a text")
    if operation not in operations:
        raise ExamplesError(
            f"{where}: operation {operation!r} is not known; there are: {', '.join(operations)}"
        )
    given = {name: value for name, value in entry.items() if name not in COMMON}
    _check(given, operations[operation], f"{where}, {operation}")
    _check_common(entry, where)
    return Example(
        id=str(entry["id"]),
        source=sources[letters[1]],
        operation=operation,
        fields=given,
        claim=entry["claim"],
        about=tuple(entry.get("about", ())),
        produce=tuple(entry.get("produce", ())),
        unit=entry.get("unit", NATS),
        note=entry.get("note", ""),
    )


def _check(given: Mapping[str, Any], fields: Mapping[str, Field], where: str) -> None:
    """The fields of an operation: those that it needs, no others, and each of its sort."""
    for name, expected in fields.items():
        if expected.needed and name not in given:
            raise ExamplesError(f"{where}: {name!r} is missing")
    for name, value in given.items():
        if name not in fields:
            raise ExamplesError(f"{where}: {name!r} is not known; it takes {', '.join(fields)}")
        words, holds = KINDS[fields[name].kind]
        if not holds(value):
            raise ExamplesError(f"{where}: {name!r} must be {words}, not {shown(value)}")


def _check_common(entry: Mapping[str, Any], where: str) -> None:
    if entry.get("unit", NATS) not in (NATS, BITS):
        raise ExamplesError(f"{where}: the unit is {NATS} or {BITS}, not {entry['unit']!r}")
    for name in ("about", "produce"):
        value = entry.get(name, [])
        if not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise ExamplesError(f"{where}: {name!r} must be a list of figures")
    if not isinstance(entry.get("note", ""), str):
        raise ExamplesError(f"{where}: 'note' must be a text")
    claim = entry["claim"]
    if not isinstance(claim, dict):
        raise ExamplesError(f"{where}: 'claim' must be a table of figures")
    for figure, value in claim.items():
        if not (_is_number(value) or _is_row(value) or _are_rows(value)):
            raise ExamplesError(f"{where}: the claim of {figure!r} must hold numbers")
    if unclaimed := [name for name in entry.get("about", []) if name not in claim]:
        raise ExamplesError(f"{where}: 'about' names {unclaimed[0]!r}, which is not in the claim")


def _printed_before(example: Example, every: list[Example]) -> tuple[Printed, ...]:
    """Probabilities that other examples of its source print of logits that it has too."""
    if "logits" not in example:
        return ()
    rows = {tuple(row) for row in np.atleast_2d(example.numbers("logits")).tolist()}
    found = []
    for other in every:
        shares = other.source == example.source and other.id != example.id and "logits" in other
        if not shares or "probabilities" not in other.claim:
            continue
        logits, printed = other.numbers("logits"), array(other.claim["probabilities"])
        if logits.ndim == 1 and logits.shape == printed.shape and tuple(logits.tolist()) in rows:
            found.append(Printed(other.id, tuple(logits.tolist()), tuple(printed.tolist())))
    return tuple(found)


def shown(value: Any) -> str:
    """A value of a file as it is written there; the largest integers by their first digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, int) and abs(value) >= 10**LARGEST:
        return f"{Decimal(value):.3E}"
    return repr(value) if isinstance(value, (str, bool)) else str(value)
