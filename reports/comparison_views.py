"""The parts of the HTML report of a Comparison, as plain data: groups, cards, matrix, bars."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from dataclasses import dataclass

from ..conformance.comparison import KINDS, Change
from . import text
from .comparison_digest import (
    SAME,
    ComparisonDigest,
    Name,
    OpLine,
    in_order,
    name_of,
    rank,
    whole,
    worst_kind,
)
from .digest import farthest
from .views import ELEMENTS, share_of

CARDS = 200
"""Changes with all details on one page; the others have a line each, which keeps it below 3 MB."""

LISTED = 500
"""Entries shown of any other list; all of them are in the comparison file."""

_PACKED = {"float64": ">d", "float32": ">f", "float16": ">e"}


@dataclass(frozen=True)
class Group:
    """Changes of one kind of one op; those in `brief` get a line and no card."""

    id: str
    kind: str
    framework: str
    op: str
    cards: tuple[Change, ...]
    brief: tuple[Change, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.cards + self.brief

    @property
    def largest(self) -> float | None:
        return max((c.largest for c in self.changes if c.largest is not None), default=None)

    @property
    def where(self) -> str:
        """Modes, dtypes and regions in one line."""
        parts = (
            dict.fromkeys(name_of(c.subject).mode for c in self.changes),
            in_order(c.dtype for c in self.changes),
            dict.fromkeys(c.region for c in self.changes),
        )
        return " · ".join(text.one_line(", ".join(part), 100) for part in parts)


@dataclass(frozen=True)
class Element:
    """One class of the smallest row: what went in, what came before and after, what is right."""

    index: int
    input: str
    target: str
    old: str | None
    new: str | None
    right: str | None
    differs: bool


@dataclass(frozen=True)
class Row:
    """The smallest row class by class, how many classes are left out, and how many rows."""

    name: str
    elements: tuple[Element, ...]
    hidden: int
    others: int
    gradient: bool


@dataclass(frozen=True)
class Cell:
    """One subject in one dtype, in rows: how many have other bits, and the worst of that."""

    dtype: str
    rows: int
    kinds: dict[str, int]

    @property
    def changed(self) -> int:
        return sum(self.kinds.values())

    @property
    def worst(self) -> str:
        return worst_kind(self.kinds)

    @property
    def said(self) -> str:
        """What stands behind the sign, in words."""
        if not self.changed:
            return f"the same bits in {text.count(self.rows, 'row')}"
        counts = ", ".join(f"{kind} {self.kinds[kind]:,}" for kind in KINDS if self.kinds.get(kind))
        return f"{self.changed:,} of {text.count(self.rows, 'row')} changed: {counts}"

    @property
    def share(self) -> str:
        return share(self.changed, self.rows)


@dataclass(frozen=True)
class MatrixRow:
    """One subject: a cell for each dtype that it has, and the regions in which it changed."""

    subject: str
    name: Name
    cells: dict[str, Cell]
    regions: dict[str, str]


def groups(digest: ComparisonDigest) -> list[Group]:
    """Changes of one kind of one op together, the worst first, with cards shared out evenly."""
    parts: dict[tuple[str, str, str], list[Change]] = defaultdict(list)
    for change in digest.changes:
        name = name_of(change.subject)
        parts[change.kind, name.framework, name.op].append(change)
    each, left = share_of([len(found) for found in parts.values()], CARDS), CARDS
    made = []
    for number, (key, found) in enumerate(parts.items(), start=1):
        cards = min(each, left)
        left -= min(cards, len(found))
        made.append(Group(f"group-{number}", *key, tuple(found[:cards]), tuple(found[cards:])))
    return made


def matrix(digest: ComparisonDigest) -> list[tuple[str, list[MatrixRow]]]:
    """The subjects under their framework."""
    cells: dict[str, dict[str, Cell]] = defaultdict(dict)
    for entry in digest.comparison.compared:
        cells[entry.subject][entry.dtype] = Cell(entry.dtype, entry.rows, entry.kinds)
    regions: dict[str, dict[str, str]] = defaultdict(dict)
    for change in digest.changes:  # the worst first, so that the first kind of a region stays
        regions[change.subject].setdefault(change.region, change.kind)
    by_framework: dict[str, list[MatrixRow]] = defaultdict(list)
    for subject, found in cells.items():
        name = name_of(subject)
        by_framework[name.framework].append(MatrixRow(subject, name, found, regions[subject]))
    return list(by_framework.items())


def dtypes(digest: ComparisonDigest) -> tuple[str, ...]:
    return in_order(entry.dtype for entry in digest.comparison.compared)


def regions(digest: ComparisonDigest) -> list[str]:
    """Those in which something changed, the worst first."""
    return list(dict.fromkeys(change.region for change in digest.changes))


def choices(digest: ComparisonDigest) -> list[tuple[str, str, list[str]]]:
    """Name, label and values of each filter; one without a choice is left out."""
    changes = digest.changes
    names = [name_of(change.subject) for change in changes]
    found = [
        ("kind", "Kind", sorted({c.kind for c in changes}, key=rank)),
        ("framework", "Framework", list(dict.fromkeys(n.framework for n in names))),
        ("op", "Op", sorted({n.op for n in names})),
        ("mode", "Mode", list(dict.fromkeys(n.mode for n in names))),
        ("dtype", "Dtype", list(in_order(c.dtype for c in changes))),
        ("region", "Region", sorted({c.region for c in changes})),
        ("output", "Output", sorted({c.output for c in changes})),
        ("subject", "Subject", sorted({c.subject for c in changes})),
    ]
    return [(name, label, values) for name, label, values in found if len(values) > 1]


def mixture(line: OpLine) -> dict[str, int]:
    """Rows of an op by what became of them, the same first and the worst last."""
    counts = {SAME: line.same, **{kind: line.kinds.get(kind, 0) for kind in reversed(KINDS)}}
    return {kind: rows for kind, rows in counts.items() if rows}


def share(part: int, rows: int) -> str:
    """`12 %`; what exists is never 0 %, and what is not all never 100 %."""
    per_cent = 100 * part / rows if rows else 0.0
    if 0 < per_cent < 1:
        return "<1 %"
    return ">99 %" if 99 < per_cent < 100 else f"{per_cent:.0f} %"


def row(change: Change) -> Row:
    """The row that changed; of a wide one the ends, the target and what moved farthest."""
    case = change.case
    at = min(max(change.row, 0), max(len(case.inputs) - 1, 0))
    inputs = whole(case.inputs[at]) if case.inputs else []
    raw = case.target[at] if at < len(case.target) else ""
    target = whole(raw) if isinstance(raw, list) else raw
    old, new, right = whole(change.old), whole(change.new), whole(change.right)
    gradient = change.output == "gradient" and bool(inputs) and len(old or new) == len(inputs)
    shown = _shown(len(inputs), target, farthest(old, new) if gradient else 0)
    elements = [
        Element(
            index,
            inputs[index],
            _target(target, index),
            _at(old, index) if gradient else None,
            _at(new, index) if gradient else None,
            _at(right, index) if gradient else None,
            gradient and _at(old, index) != _at(new, index),
        )
        for index in shown
    ]
    probabilities = case.operation.endswith(("probabilities", "binary_cross_entropy"))
    logs = case.operation == "kl_divergence"
    name = "probability" if probabilities else "log-probability" if logs else "logit"
    return Row(name, tuple(elements), len(inputs) - len(shown), len(case.inputs[1:]), gradient)


def _shown(classes: int, target: object, moved: int) -> list[int]:
    wanted = [target] if isinstance(target, int) and 0 <= target < classes else []
    wanted += [moved] if moved < classes else []
    wanted += [*range(min(3, classes)), *([classes - 1] if classes else [])]
    wanted += range(min(classes, ELEMENTS))
    return sorted(list(dict.fromkeys(wanted))[:ELEMENTS])


def _target(target: object, index: int) -> str:
    if isinstance(target, list):
        return _at(target, index) or ""
    return "target" if target == index else ""


def _at(numbers: list[str], index: int) -> str | None:
    return numbers[index] if index < len(numbers) else None


def bits(number: str, dtype: str) -> str:
    """`0x3f317218`, the bits in the format of the dtype; "" for what it cannot hold exactly."""
    value = text.as_float(number)
    if value is None or math.isnan(value):
        return ""
    if dtype == "bfloat16":  # the upper half of float32
        shown = bits(number, "float32")
        return shown[:6] if shown.endswith("0000") else ""
    if dtype not in _PACKED:
        return ""
    try:
        packed = struct.pack(_PACKED[dtype], value)
    except OverflowError:
        return ""
    return f"0x{packed.hex()}" if struct.unpack(_PACKED[dtype], packed)[0] == value else ""


def exact_form(number: str | None, dtype: str) -> str:
    """The bits in the format, else the exact hexadecimal number where decimals are many."""
    if number is None:
        return ""
    return bits(number, dtype) or (text.hex_float(number) if len(number) > len("-0.0625") else "")
