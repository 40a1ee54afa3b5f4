"""What a comparison of two runs says, as data that every report of it reads.

Subjects are named without their environment, numbers are text as in `run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from .run import GRADES, REMEDY, CaseRecord, Run, RunFileError, read_json, run_of

FORMAT = 1
"""Version of the comparison file."""

Kind = Literal[
    "crashed", "gone", "policy", "convention", "worse", "unspecified", "moved", "better", "reworded"
]

KINDS: dict[str, str] = {
    "crashed": "the new version dies or hangs where the old one did not",
    "gone": "a subject, a dtype or an option no longer returns anything",
    "policy": "one returns where the other refuses, or warns where the other is silent",
    "convention": "the same formula no longer holds: a convention was measured otherwise",
    "worse": "was inside a bound and is outside of it, or farther outside",
    "unspecified": "other bits where the mathematics gives no value",
    "moved": "other bits, and no worse a grade: inside the bounds that held before, if any did",
    "better": "was outside of a bound and is inside, or nearer to it; or answers what is valid",
    "reworded": "refuses as before, in other words",
}
"""What became of rows that are not the same bits, worst first."""


def rank(kind: str) -> int:
    """The place of a kind: lower is worse, and rows with the same bits are last."""
    return _PLACES.get(kind, len(KINDS))


_PLACES = {kind: place for place, kind in enumerate(KINDS)}

REGRESSIONS = ("crashed", "gone", "policy", "convention", "worse")
MOVES = ("unspecified", "moved", "better")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs.

    `versions` are those of the packages of its frameworks; `findings` counts by kind.
    """

    versions: dict[str, str]
    python: str
    platform: str
    lossaudit: str
    started: str
    seconds: float
    depth: str
    seed: int
    complete: bool
    subjects: int
    findings: dict[str, int]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one subject in one dtype was compared, and what became of it.

    `rows` counts rows of calls, `same` those whose loss and gradients have the same bits; `kinds`
    has the others, each under the worst that became of it.
    """

    subject: str
    dtype: str
    calls: int
    rows: int
    same: int
    kinds: dict[str, int]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows of one region that changed in one way.

    Attributes:
        kind: one of KINDS.
        subject, dtype, region: where.
        output: "loss", "gradient", "target_gradient", or "call" where none returned.
        rows, of: rows that changed so, and rows of that output and region that were compared.
        largest: the largest move, in ulps of the exact value; None where a row has none in ulps.
        nearer, farther: rows whose largest error became smaller, and larger.
        grades: "exact -> faithful": rows.
        case, row: the smallest input among them; of a reduced loss or a call the whole batch. A
            case of 2^14 numbers and more is not kept, and the record then empty.
        old, new, right: the two values and the right one there, one text per element. Where the
            convention changed, what is right under the new one.
        old_grade, new_grade, old_ulps, new_ulps: of that row.
        move: of that row in ulps.
        message: in words, where numbers do not say it.
        snippet: a script that runs in both environments.
    """

    kind: Kind
    subject: str
    dtype: str
    region: str
    output: str
    rows: int
    of: int
    largest: float | None
    nearer: int
    farther: int
    grades: dict[str, int]
    case: CaseRecord
    row: int
    old: list[str]
    new: list[str]
    right: list[str]
    old_grade: str
    new_grade: str
    old_ulps: float | None
    new_ulps: float | None
    move: float | None
    message: str
    snippet: str


class ConventionChange(msgspec.Struct, frozen=True, kw_only=True):
    """A convention that is measured otherwise; `input` is the smallest call that shows it."""

    subject: str
    field: str
    old: str
    new: str
    input: str
    evidence: str


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A subject, or one of its dtypes or options, that only one side has.

    `part` is "" for the whole subject, else the dtype or the option.
    """

    subject: str
    part: str
    state: Literal["gone", "new"]
    reason: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a search for differences beyond the corpus came to, for one output of one subject.

    Attributes:
        cases, rows, regions, seconds: the effort; `regions` those that were drawn.
        differing: rows whose bits differ.
        kind: the worst that was found of them, one of KINDS; "" where none differ.
        largest: the largest distance found, in ulps of the exact value, None where there is none.
        case, row, old, new, right, distance, snippet: the smallest row that shows that kind, and
            its distance in ulps; None and empty where none was found. `case` is a whole batch
            where no row of it shows that alone.
        message: where one of the two did not return.
    """

    subject: str
    dtype: str
    output: str
    cases: int
    rows: int
    regions: list[str]
    seconds: float
    differing: int
    kind: str
    largest: float | None
    case: CaseRecord | None
    row: int = 0
    old: list[str]
    new: list[str]
    right: list[str]
    distance: float | None
    message: str
    snippet: str


class LawChange(msgspec.Struct, frozen=True, kw_only=True):
    """A finding of one run that the other does not have, asked again of both environments.

    `state` is "appeared" or "gone"; `old` and `new` are the grades that came of its input.
    """

    finding: str
    law: str
    subject: str
    dtype: str
    region: str
    output: str
    state: Literal["appeared", "gone"]
    old: str
    new: str


class Comparison(msgspec.Struct, kw_only=True):
    """Everything that two runs say of each other."""

    format: int = FORMAT
    lossaudit: str
    corpus: int
    old: Side
    new: Side
    compared: list[Compared]
    changes: list[Change]
    conventions: list[ConventionChange]
    presence: list[Presence]
    notes: list[str]
    """What could not be compared, and why."""
    searched: list[Difference] = []
    laws: list[LawChange] = []
    seconds: float = 0.0
    """That the comparison took, with the audits and the search of an upgrade."""
    complete: bool = True

    @property
    def rows(self) -> int:
        return sum(c.rows for c in self.compared)

    @property
    def same(self) -> int:
        return sum(c.same for c in self.compared)

    def count(self, kind: str) -> int:
        """Rows of a kind, each counted once."""
        return sum(c.kinds.get(kind, 0) for c in self.compared)

    @property
    def verdict(self) -> str:
        """What it comes to: "regressed", "moved" or "nothing moved"."""
        gone = any(p.state == "gone" for p in self.presence)
        appeared = any(law.state == "appeared" for law in self.laws)
        if self._has(REGRESSIONS) or self.conventions or gone or appeared:
            return "regressed"
        return "moved" if self._has(MOVES) else "nothing moved"

    def _has(self, kinds: tuple[str, ...]) -> bool:
        """Whether a row, or what a search found, is of one of some kinds."""
        found = {difference.kind for difference in self.searched}
        return any(self.count(kind) or kind in found for kind in kinds)


_REMEDY = "Make it anew with `lossaudit compare` or `lossaudit upgrade`."


def read_either(path: Path) -> Run | Comparison:
    """Read and check a file that is a run or a comparison.

    Raises:
        RunFileError: as `read_run` and `read_comparison`.
    """
    head = read_json(path, REMEDY)
    if isinstance(head, dict) and "compared" in head:
        return _comparison_of(head, path)
    return run_of(head, path)


def read_comparison(path: Path) -> Comparison:
    """Read and check a comparison file.

    Raises:
        RunFileError: if the file is missing, truncated, of another format, or no comparison.
    """
    return _comparison_of(read_json(path, _REMEDY), path)


def _comparison_of(head: object, path: Path) -> Comparison:
    if not isinstance(head, dict) or "format" not in head or "compared" not in head:
        run = isinstance(head, dict) and "tallies" in head
        what = "a run file, which is one side of a comparison" if run else "JSON"
        raise RunFileError(f"{path} is {what}, but not a lossaudit comparison file.")
    if head["format"] != FORMAT:
        raise RunFileError(
            f"{path} has comparison format {head['format']!r}, this lossaudit reads {FORMAT}. "
            f"{_REMEDY}"
        )
    try:
        comparison = msgspec.convert(head, Comparison)
    except msgspec.ValidationError as error:
        raise RunFileError(f"{path} is damaged: {error}") from error
    if fault := _fault(comparison):
        raise RunFileError(f"{path} is damaged: {fault}")
    return comparison


def _fault(comparison: Comparison) -> str:
    """What the types do not say: kinds and grades that exist, rows that cases have, and sums."""
    for entry in comparison.compared:
        where = f"{entry.subject} in {entry.dtype}"
        if unknown := set(entry.kinds) - set(KINDS):
            return f"kind {min(unknown)!r} of {where} does not exist"
        counts = (entry.same, *entry.kinds.values())
        if min(counts) < 0 or sum(counts) != entry.rows:
            return f"the rows of {where} are not the sum of those that are the same and the others"
    for change in comparison.changes:
        where = f"a change of {change.subject} in {change.dtype}, {change.region}"
        if unknown := {change.old_grade, change.new_grade} - {"", *GRADES}:
            return f"grade {min(unknown)!r} of {where} does not exist"
        rows = len(change.case.inputs)
        if rows != len(change.case.target) or not 0 <= change.row < max(rows, 1):
            return f"{where} has no row {change.row} of inputs and target"
    for found in comparison.searched:
        if found.kind not in {"", *KINDS}:
            return f"kind {found.kind!r} of a search of {found.subject} does not exist"
    return ""
