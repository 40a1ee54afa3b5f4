"""The conventions of many ops in a screen: by field, the values that were measured, and of whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from ..conformance.run import Convention, Run, SubjectRecord
from . import text

WIDTH = 100
"""Lines are no longer, however wide the terminal is: lists of ops are hard to read across it."""

LONGEST = 4000
"""Characters of one entry: more than every op of every framework has; what raises may say more."""

TITLES = {
    "smoothing": "formula of label smoothing",
    "weighted_smoothing": "class weights on smoothed labels",
    "smoothing_domain": "label smoothing outside [0, 1]",
    "pos_weight": "what pos_weight multiplies",
    "mean": "denominator of the mean",
    "default_reduction": "the call without `reduction`",
    "plus_inf": "a logit of +inf",
    "soft_gradient": "gradient for a target that does not sum to 1",
    "target_domain": "targets that are no probability or distribution",
    "guard": "guard of probabilities near 0 and 1",
    "guard_gradient": "gradient where the guard acts",
    "renormalise": "probabilities divided by their sum, before or after the guard",
    "focal": "factors of a focal loss that a call does not name",
    "class_axis": "axis of the classes",
    "last_axis": "last axis of binary losses",
    "broadcasting": "a target of another shape",
    "output": "dtype of the loss",
    "mutates": "inputs changed in place",
    "all_ignored": "the mean where every row is ignored",
    "ignore_domain": "labels that may be named as ignored",
    "ignore_index": "label that is ignored unasked",
    "unasked_mean": "rows ignored unasked, in the mean",
    "label_policy": "labels outside [0, K)",
}


@dataclass(frozen=True)
class Line:
    """One value of a field, in one group of comparable ops.

    Attributes:
        value: as it was measured, or declared where nothing was.
        note: "" or what is wrong or unknown about it.
        ops: framework -> names of its ops, with the mode where modes differ.
        shown: the smallest inputs and what came of them, in words.
    """

    value: str
    note: str
    ops: dict[str, list[str]]
    shown: tuple[str, ...]

    @property
    def names(self) -> str:
        return "; ".join(f"{name} {', '.join(ops)}" for name, ops in self.ops.items())


@dataclass(frozen=True)
class Group:
    """Ops of one operation and sort of target: only among them is a difference one."""

    name: str
    lines: tuple[Line, ...]

    @property
    def differs(self) -> bool:
        return len({line.value for line in self.lines if not line.note.startswith("?")}) > 1


@dataclass(frozen=True)
class Field:
    """One convention over all groups that have it."""

    name: str
    groups: tuple[Group, ...]

    @property
    def differs(self) -> bool:
        return any(group.differs for group in self.groups)


def fields_of(run: Run) -> list[Field]:
    """Every field that was measured or declared, in the order in which the probe measures."""
    subjects = {subject.name: subject for subject in run.subjects}
    by_field: dict[str, list[Convention]] = defaultdict(list)
    for entry in run.conventions:
        if entry.subject in subjects:
            by_field[entry.field].append(entry)
    names = sorted(by_field, key=ranks)
    return [Field(name, tuple(_groups(by_field[name], subjects))) for name in names]


def ranks(field: str) -> int:
    """The place of a field among others: that in which the probe measures them."""
    return list(TITLES).index(field) if field in TITLES else len(TITLES)


def _groups(entries: Sequence[Convention], subjects: dict[str, SubjectRecord]) -> Iterable[Group]:
    by_group: dict[str, list[Convention]] = defaultdict(list)
    for entry in entries:
        subject = subjects[entry.subject]
        by_group[f"{subject.operation}, {subject.target}"].append(entry)
    for name, mine in by_group.items():
        yield Group(name, tuple(_lines(mine, subjects)))


def _lines(entries: Sequence[Convention], subjects: dict[str, SubjectRecord]) -> Iterable[Line]:
    of_op: dict[tuple[str, str], list[Convention]] = defaultdict(list)
    for entry in entries:
        subject = subjects[entry.subject]
        of_op[subject.framework, subject.op].append(entry)
    by_value: dict[tuple[str, str], list[tuple[Convention, str]]] = defaultdict(list)
    for (_, op), mine in of_op.items():
        # A mode in which nothing can be measured is told by one in which it was.
        known = [entry for entry in mine if entry.measured] or mine
        keys = {_value_and_note(entry) for entry in known}
        for entry in known if len(keys) > 1 else known[:1]:
            mode = f"[{subjects[entry.subject].mode}]" if len(keys) > 1 else ""
            by_value[_value_and_note(entry)].append((entry, op + mode))
    for (value, note), found in by_value.items():
        ops: dict[str, list[str]] = defaultdict(list)
        for entry, name in found:
            ops[subjects[entry.subject].framework].append(name)
        shown = dict.fromkeys(f"on {e.input}: {e.evidence}" for e, _ in found if e.input)
        yield Line(value, note, dict(ops), tuple(shown))


def _value_and_note(entry: Convention) -> tuple[str, str]:
    if not entry.measured:
        return entry.declared or "nothing declared", f"? not measured: {entry.evidence}"
    if entry.agrees is False:
        return entry.measured, f"✗ declared {entry.declared}"
    return entry.measured, ""


def print_conventions(run: Run, console: Console, *, differences: bool = False) -> None:
    """Field by field: the values, and the ops that have them; what differs with its input."""
    width = min(console.width, WIDTH)
    if not run.complete:
        console.print(Text("PARTIAL: it ended before all was measured", style="bold reverse"))
    fields = fields_of(run)
    shown = [field for field in fields if field.differs] if differences else fields
    for field in shown:
        mark = " ≠" if field.differs else ""
        title = TITLES.get(field.name, "")
        console.print(Text(f"{field.name}{mark}", style="bold"), Text(title, style="dim"))
        values = {(line.value, line.note) for group in field.groups for line in group.lines}
        if len(values) == 1 and len(field.groups) > 1:
            print_wrapped(console, f"{' '.join(filter(None, *values))}: every op", width, 4, "")
            continue
        for group in field.groups:
            if group.differs or not differences:
                _print_group(group, console, width, with_inputs=differences)
    for absence in run.absent:
        said = f"NOT MEASURED {absence.framework}: {absence.reason}; {absence.hint}"
        console.print(Text(text.one_line(said, 300)), soft_wrap=True)
    for incident in run.incidents:
        console.print(Text(text.one_line(f"{incident.subject}: {incident.message}", 300)))
    console.print(Text(_summary(run, fields), style="dim"))


def _print_group(group: Group, console: Console, width: int, *, with_inputs: bool) -> None:
    differs = " ≠" if group.differs else ""
    console.print(Text(f"  {text.one_line(group.name, 80)}{differs}", style="dim"))
    for line in group.lines:
        style = "bold" if line.note.startswith("✗") else ""
        head = " ".join(filter(None, (line.value, line.note)))
        print_wrapped(console, f"{head}: {line.names}", width, 4, style)
        if with_inputs or line.note.startswith("✗"):
            for words in line.shown[:2]:
                print_wrapped(console, words, width, 8, "dim")


def print_wrapped(console: Console, words: str, width: int, indent: int, style: str) -> None:
    """One entry in lines of at most a width, those after the first indented further."""
    for i, piece in enumerate(wrap(text.one_line(words, LONGEST), width - indent - 2)):
        console.print(Text(" " * (indent + 2 * bool(i)) + piece, style=style), soft_wrap=True)


def _summary(run: Run, fields: Sequence[Field]) -> str:
    wrong = sum(entry.agrees is False for entry in run.conventions)
    measured = sum(bool(entry.measured) for entry in run.conventions)
    return (
        f"{text.count(len(fields), 'field')}, {text.count(measured, 'measurement')} of "
        f"{text.count(len(run.subjects), 'subject')}, {wrong:,} not as declared. ≠ differs between "
        "ops of one operation; ✗ measured otherwise than declared; ? declared, not measured."
    )


def as_data(run: Run) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "lossaudit": run.lossaudit,
        "complete": run.complete,
        "subjects": run.subjects,
        "absent": run.absent,
        "incidents": run.incidents,
        "differing": [field.name for field in fields_of(run) if field.differs],
        "conventions": run.conventions,
    }
