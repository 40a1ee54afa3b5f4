"""The tables of the HTML report, as plain data: what stands in which row, column and cell."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from ..conformance.run import FINDING_GRADES, GRADES, Convention, Finding, SubjectRecord
from . import conventions, text
from .digest import SIGNS, Cell, Digest, Group, call_text, came, row_count, whole

ELEMENTS = 12
"""Classes shown of a wide row; more would bury the ones that matter."""

CARDS = 10_000
"""Cards with all details on one page: more would take longer than half a minute to write."""

INDEX = (
    *("id", "group", "card", "framework", "operation", "op", "mode", "subject", "dtype", "region"),
    *("law", "kind", "status", "output", "ulps", "rows", "input", "came", "text"),
)
"""What the page knows of every finding, by which it filters; the names of the filters are these."""


@dataclass(frozen=True)
class Element:
    """One class of the failing row: what went in, what came, what is right."""

    index: int
    input: str
    target: str
    value: str | None
    right: str | None
    differs: bool


@dataclass(frozen=True)
class Input:
    """The failing row of the smallest input, and how much of it is left out."""

    name: str
    elements: tuple[Element, ...]
    hidden: int
    other_rows: int
    gradient: bool


@dataclass(frozen=True)
class CardGroup:
    """A group of findings as the page shows it; `brief` findings get a line and no card."""

    id: str
    group: Group
    cards: tuple[Finding, ...]
    brief: tuple[Finding, ...]
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    regions: tuple[str, ...]
    worst_ulps: float | None


@dataclass(frozen=True)
class MatrixRow:
    subject: SubjectRecord
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ConventionRow:
    """Modes of one op that agree in every field share a row."""

    framework: str
    op: str
    modes: tuple[str, ...]
    cells: dict[str, tuple[Convention, ...]]


@dataclass(frozen=True)
class ConventionTable:
    """Ops of one operation and sort of target.

    Attributes:
        operation, target: of all of them.
        fields: the columns.
        usual: of each field in which they differ, the value that most ops have.
        rows: an op in the modes that agree, with its entries by field.
        differences: those fields, with the smallest inputs that show them.
    """

    operation: str
    target: str
    fields: tuple[str, ...]
    usual: dict[str, str]
    rows: tuple[ConventionRow, ...]
    differences: tuple[tuple[str, conventions.Group], ...]

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.operation, self.target)))

    def is_apart(self, field: str, entry: Convention) -> bool:
        """Whether a cell is one that makes its field differ."""
        return field in self.usual and entry.measured not in ("", self.usual[field])


@dataclass(frozen=True)
class CoverageGroup:
    operation: str
    rows: tuple[tuple[SubjectRecord, tuple[int, ...]], ...]


def matrix(digest: Digest) -> list[tuple[str, list[MatrixRow]]]:
    """The rows of the matrix under their framework."""
    return [
        (
            framework,
            [
                MatrixRow(subject, tuple(digest.cells[name, law] for law in digest.laws))
                for name, subject in digest.subjects.items()
                if subject.framework == framework
            ],
        )
        for framework in digest.frameworks
    ]


def cell_parts(cell: Cell, dtypes: Sequence[str], regions: Sequence[str]) -> str:
    """`dtype,region,grade,rows;…` by number, from which the filters compute a cell anew."""
    places: dict[tuple[int, int], list] = defaultdict(list)
    for tally in cell.tallies:
        places[dtypes.index(tally.dtype), regions.index(tally.region)].append(tally)
    parts = []
    for (dtype, region), tallies in places.items():
        grade = max((GRADES.index(t.worst) for t in tallies if t.worst), default=-1)
        parts.append(f"{dtype},{region},{grade},{row_count(tallies)}")
    return ";".join(parts)


def cell_text(cell: Cell) -> str:
    """What stands behind the sign of a cell, in words."""
    if cell.state != "graded":
        return cell.state
    grades = ", ".join(f"{grade} {number:,}" for grade, number in reversed(cell.grades.items()))
    found = f"; {text.count(len(cell.findings), 'finding')}" if cell.findings else ""
    return f"{cell.worst} over {text.count(cell.rows, 'row')} ({grades}){found}"


def index(digest: Digest, groups: Sequence[CardGroup]) -> dict[str, list]:
    """All findings, a row each, for filters, links and the table; the order is that of groups."""
    return {
        "fields": list(INDEX),
        "rows": [row for group in groups for row in _index_rows(digest, group)],
    }


def _index_rows(digest: Digest, part: CardGroup) -> list[list]:
    found = part.group.findings
    return [
        _index_row(digest, finding, part.id, place < len(part.cards))
        for place, finding in enumerate(found)
    ]


def _index_row(digest: Digest, finding: Finding, group: str, card: bool) -> list:
    subject, line = digest.subjects[finding.subject], text.one_line
    ulps = finding.ulps if finding.ulps is not None and isfinite(finding.ulps) else None
    return [
        text.anchor("finding", finding.id),
        group,
        card,
        *map(line, (subject.framework, subject.operation, subject.op, subject.mode)),
        *map(line, (finding.subject, finding.dtype, finding.region, finding.law)),
        *map(line, (finding.kind, finding.status, finding.output)),
        ulps,
        finding.rows,
        call_text(finding),
        came(finding),
        line(finding.message, 300),
    ]


def card_groups(digest: Digest) -> list[CardGroup]:
    """Groups with as many full cards as the page bears, shared out evenly."""
    share = share_of([len(group.findings) for group in digest.groups], CARDS)
    return [
        _card_group(digest, number, group, share)
        for number, group in enumerate(digest.groups, start=1)
    ]


def share_of(sizes: Sequence[int], total: int) -> int:
    """The largest number of cards a group for which all groups together stay within `total`."""
    share = max(sizes, default=0)
    while share > 1 and sum(min(size, share) for size in sizes) > total:
        share -= 1
    return share


def _card_group(digest: Digest, number: int, group: Group, share: int) -> CardGroup:
    found = group.findings
    ulps = [f.ulps for f in found if f.ulps is not None]
    return CardGroup(
        f"group-{number}",
        group,
        found[:share],
        found[share:],
        _distinct(digest.subjects[f.subject].mode for f in found),
        _distinct(f.dtype for f in found),
        _distinct(f.region for f in found),
        max(ulps, default=None),
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def smallest_input(finding: Finding) -> Input:
    """The failing row, class by class; of a wide row the ends, the target and the worst."""
    finding = whole(finding)
    case = finding.case
    row = min(max(finding.row, 0), max(len(case.inputs) - 1, 0))
    inputs = case.inputs[row] if case.inputs else []
    target = case.target[row] if row < len(case.target) else ""
    gradient = (
        bool(inputs)
        and finding.output != "loss"
        and len(finding.value or finding.right) == len(inputs)
    )
    shown = _shown(finding, len(inputs), target)
    elements = [
        Element(
            index,
            inputs[index],
            _target_text(target, index),
            _at(finding.value, index) if gradient else None,
            _at(finding.right, index) if gradient else None,
            gradient and _at(finding.value, index) != _at(finding.right, index),
        )
        for index in shown
    ]
    probabilities = case.operation.endswith(("probabilities", "binary_cross_entropy"))
    logs = case.operation == "kl_divergence"
    return Input(
        "probability" if probabilities else "log-probability" if logs else "logit",
        tuple(elements),
        len(inputs) - len(shown),
        len(case.inputs) - 1 if len(case.inputs) > 1 else 0,
        gradient,
    )


def _shown(finding: Finding, classes: int, target: object) -> list[int]:
    if classes <= ELEMENTS:
        return list(range(classes))
    differing = [
        index
        for index, pair in enumerate(zip(finding.value, finding.right, strict=False))
        if pair[0] != pair[1] and index < classes
    ]
    wanted = [target] if isinstance(target, int) and 0 <= target < classes else []
    wanted += [*range(3), classes - 1, *differing, *range(3, classes)]
    return sorted(list(dict.fromkeys(wanted))[:ELEMENTS])


def _target_text(target: object, index: int) -> str:
    if isinstance(target, list):
        return _at(target, index) or ""
    return "target" if target == index else ""


def _at(numbers: Sequence[str], index: int) -> str | None:
    return numbers[index] if index < len(numbers) else None


def outcome_rows(finding: Finding) -> list[tuple[str, str | None, str | None]]:
    """What came beside what is right, where the output is not one number a class."""
    finding = whole(finding)
    most = max(len(finding.value), len(finding.right), 1)
    name = text.one_line(finding.output, 30)
    return [
        (
            name if most == 1 else f"{name} [{index}]",
            _at(finding.value, index),
            _at(finding.right, index),
        )
        for index in range(min(most, ELEMENTS))
    ]


def convention_tables(digest: Digest) -> list[ConventionTable]:
    """A table for each operation and sort of target, so that a column compares what can be."""
    by_subject: dict[str, dict[str, Convention]] = defaultdict(dict)
    for entry in digest.run.conventions:
        by_subject[entry.subject][entry.field] = entry
    by_kind: dict[tuple[str, str], dict[str, dict[str, Convention]]] = defaultdict(dict)
    for name, entries in by_subject.items():
        subject = digest.subjects[name]
        by_kind[subject.operation, subject.target][name] = entries
    fields = conventions.fields_of(digest.run)
    return [_convention_table(digest, kind, mine, fields) for kind, mine in by_kind.items()]


def _convention_table(
    digest: Digest,
    kind: tuple[str, str],
    mine: dict[str, dict[str, Convention]],
    fields: Sequence[conventions.Field],
) -> ConventionTable:
    rows = _convention_rows(digest, mine)
    names = _distinct(field for entries in mine.values() for field in entries)
    usual = {}
    for field in names:
        values = Counter(entry.measured for row in rows for entry in row.cells.get(field, ())[:1])
        del values[""]  # what was not measured says nothing
        if len(values) > 1:
            usual[field] = values.most_common(1)[0][0]
    found = ((f.name, group) for f in fields for group in f.groups if group.name == ", ".join(kind))
    differences = tuple((name, group) for name, group in found if name in usual)
    return ConventionTable(*kind, names, usual, tuple(rows), differences)


def _convention_rows(digest: Digest, mine: dict[str, dict[str, Convention]]) -> list[ConventionRow]:
    parts: dict[tuple, list[str]] = defaultdict(list)
    for name, entries in mine.items():
        subject = digest.subjects[name]
        seen = tuple((e.field, e.declared, e.measured, e.agrees) for e in entries.values())
        parts[subject.framework, subject.op, seen].append(name)
    return [
        ConventionRow(
            key[0],
            key[1],
            _distinct(digest.subjects[name].mode for name in names),
            {field: tuple(mine[name][field] for name in names) for field in mine[names[0]]},
        )
        for key, names in parts.items()
    ]


def inputs(entries: Sequence[Convention]) -> list[str]:
    """The distinct smallest inputs of the modes that share a row."""
    return list(_distinct(entry.input for entry in entries if entry.input))


def evidence(entries: Sequence[Convention]) -> list[str]:
    """The distinct evidence of the modes that share a row."""
    return list(_distinct(entry.evidence for entry in entries if entry.evidence))


def coverage(digest: Digest, regions: Sequence[str]) -> list[CoverageGroup]:
    """How many rows each subject was asked in each region, over laws and dtypes."""
    places: dict[tuple[str, str], list] = defaultdict(list)
    for tally in digest.run.tallies:
        places[tally.subject, tally.region].append(tally)
    by_operation: dict[str, list] = defaultdict(list)
    for name, subject in digest.subjects.items():
        counts = tuple(row_count(places[name, region]) for region in regions)
        by_operation[subject.operation].append((subject, counts))
    return [CoverageGroup(name, tuple(rows)) for name, rows in by_operation.items()]


def shade(rows: int) -> str:
    """CSS class by order of magnitude; a hole has one of its own."""
    return "hole" if rows == 0 else f"shade{min(len(str(rows)), 6)}"


def choices(digest: Digest) -> list[tuple[str, str, list[str]]]:
    """Name, label and values of each filter; one without a choice is left out."""
    subjects, run = digest.subjects.values(), digest.run
    kinds = [kind for kind, number in digest.kinds.items() if number.total()]
    found = [
        ("framework", "Framework", digest.frameworks),
        ("operation", "Operation", list(_distinct(s.operation for s in subjects if s.operation))),
        ("mode", "Mode", list(_distinct(s.mode for s in subjects))),
        ("dtype", "Dtype", dtypes(digest)),
        ("region", "Region", list(_distinct(t.region for t in run.tallies))),
        ("law", "Law", list(digest.laws)),
        ("kind", "Kind", kinds),
        ("status", "Status", sorted({finding.status for finding in run.findings})),
    ]
    return [(name, label, values) for name, label, values in found if len(values) > 1]


def dtypes(digest: Digest) -> list[str]:
    """Widest first, the rest as they came."""
    order = ("float64", "float32", "bfloat16", "float16")
    named = [*(d for s in digest.subjects.values() for d in s.dtypes)]
    named += [t.dtype for t in digest.run.tallies] + [f.dtype for f in digest.run.findings]
    known = [dtype for dtype in order if dtype in named]
    return known + [dtype for dtype in _distinct(named) if dtype not in order]


def bar(grades: dict[str, int]) -> list[tuple[str, float, float]]:
    """(grade, start, width) in per cent of one bar; a grade that exists is at least a sliver."""
    total = sum(grades.values())
    widths = {grade: max(100 * number / total, 1) for grade, number in grades.items()}
    scale = 100 / sum(widths.values()) if widths else 0
    parts, start = [], 0.0
    for grade, width in widths.items():
        parts.append((grade, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return parts


def mixture(cell: Cell) -> dict[str, int]:
    """Passed, undecided and found rows of a cell, each under the grade whose colour it takes."""
    parts: Counter[str] = Counter()
    for grade, number in cell.grades.items():
        place = GRADES.index(grade)
        if place <= GRADES.index("bounded"):
            parts["exact"] += number
        elif grade in FINDING_GRADES:
            parts[cell.worst] += number
        else:
            parts["unspecified"] += number
    return dict(parts)


def worst_counts(counter: Counter[str]) -> list[tuple[str, int]]:
    """Grades with their counts, worst first."""
    return [(grade, counter[grade]) for grade in reversed(GRADES) if counter[grade]]


def filters_json(digest: Digest, regions: Sequence[str]) -> str:
    """Names that the page's script needs for the numbers in the cells."""
    laws = [text.one_line(law) for law in digest.laws]
    names = {"dtypes": dtypes(digest), "regions": list(regions), "grades": GRADES, "laws": laws}
    return json.dumps(names | {"signs": SIGNS})
