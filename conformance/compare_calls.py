"""One subject in one dtype, before and after: what became of every row of every call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..adapters.registry import FRAMEWORKS, on_device, script
from ..adapters.subject import Subject
from ..reference.exact import Exact, round_exact, ulp_error
from ..reference.formats import FORMATS, Format
from ..reference.vocabulary import Case, Floats
from .answers import ASKING, WIDE, came, digest, drawn, exact_values, first_line, grades, read
from .comparison import KINDS, Change, Compared, Kind, Presence, rank
from .engine import NOT_ASKED
from .judge import FIRST_FINDING, RANK, distance, ulp
from .laws.contract import LABELS
from .records import numbers, to_record
from .run import Answers, Call, CaseRecord, SubjectRecord, anywhere
from .shrink import size

LOST = ("crashed", "timed out")
ORDER = list(KINDS)

ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
FILE = re.compile(r"(?<!\w)/(?:[^\s/:,]+/)+[^\s:,]*")


Right = Mapping[str, Exact]
"""output -> what is right of it, exactly."""


@dataclass(frozen=True)
class Found:
    """What came of a comparison of one subject in one dtype."""

    record: Compared
    changes: list[Change]
    presence: list[Presence]
    notes: list[str]


@dataclass(frozen=True)
class Example:
    """A row that changed, or a whole call.

    `closer` is -1 where its largest error became smaller, 1 where it grew.
    """

    case: Case
    rows: int = 1
    old: Floats | None = None
    new: Floats | None = None
    right: Floats | None = None
    old_grade: str = ""
    new_grade: str = ""
    old_ulps: float | None = None
    new_ulps: float | None = None
    move: float | None = None
    closer: int = 0
    message: str = ""

    def size(self) -> tuple[float, ...]:
        """Simple first: few rows, then as a shrunk row is simple."""
        rows = self.case.rows
        return (rows, *size(self.case.take(np.array([0])))) if rows else (0,)


@dataclass
class Group:
    """The rows of one region and output that changed in one way."""

    rows: int = 0
    nearer: int = 0
    farther: int = 0
    largest: float | None = None
    grades: Counter[str] = field(default_factory=Counter)
    example: Example | None = None
    _smallest: tuple[float, ...] = ()
    _without_end: bool = False

    def add(self, example: Example) -> None:
        self.rows += example.rows
        self.nearer += example.closer < 0
        self.farther += example.closer > 0
        # Beside a move to an infinity or NaN, that of another row is not the largest.
        self._without_end |= example.move is None
        moved = max(example.move or 0.0, self.largest or 0.0)
        self.largest = None if self._without_end else moved
        if example.old_grade and example.new_grade:
            self.grades[f"{example.old_grade} -> {example.new_grade}"] += 1
        how_large = example.size()
        if self.example is None or how_large < self._smallest:
            self.example, self._smallest = example, how_large


@dataclass(frozen=True)
class Numbers:
    """One output of a call on both sides, (rows, entries) each; one row where it is reduced.

    `right` is what is right under the new conventions, and `other_right` the rows where something
    else was right under the old ones; errors and `move` are in ulps of what is right now. All are
    None where only digests of the rows were kept.
    """

    changed: np.ndarray
    old: Floats | None = None
    new: Floats | None = None
    right: Floats | None = None
    other_right: np.ndarray | None = None
    old_errors: Floats | None = None
    new_errors: Floats | None = None
    move: Floats | None = None


class Pair:
    """The answers of one subject in one dtype, before and after."""

    def __init__(self, before: Answers, after: Answers, record: SubjectRecord) -> None:
        self._before, self._after, self._record = before, after, record
        self._name = anywhere(before.subject)
        self._fmt = FORMATS[before.dtype]
        self._groups: dict[tuple[Kind, str, str], Group] = {}
        self._of: Counter[tuple[str, str]] = Counter()
        self._kinds: Counter[str] = Counter()

    def compared(self) -> Found:
        """Compare every call that both were asked.

        Raises:
            ValueError: an answer cannot be read, or its call is drawn otherwise today.
        """
        after = {(call.law, call.case): call for call in self._after.calls}
        pairs = [
            (old, after[key])
            for old in self._before.calls
            if (key := (old.law, old.case)) in after and old.law in ASKING
        ]
        asked = [pair for pair in pairs if NOT_ASKED not in (pair[0].message, pair[1].message)]
        left_out, pairs = len(pairs) - len(asked), asked
        presence = list(self._lost_and_found(pairs))
        parts = {p.part for p in presence}
        rows = same = 0
        for old, new in pairs:
            if self._before.dtype in parts or parts & set(old.options):
                continue
            self._count(old, new)
            changed = 0 if _same(old, new) else self._see(old, new)
            rows, same = rows + max(old.rows, 1), same + max(old.rows, 1) - changed
        record = Compared(
            subject=self._name,
            dtype=self._before.dtype,
            calls=len(pairs),
            rows=rows,
            same=same,
            kinds={kind: self._kinds[kind] for kind in KINDS if self._kinds[kind]},
        )
        changes = [self._change(*key, group) for key, group in self._groups.items()]
        return Found(record, changes, presence, [*self._asked_otherwise(), *self._left(left_out)])

    def _left(self, calls: int) -> list[str]:
        """What is said of calls that one side was not asked, as it had died or hung too often."""
        where = f"{self._name} {self._before.dtype}"
        return [f"{where}: {calls} calls are not compared: {NOT_ASKED}"] if calls else []

    def _asked_otherwise(self) -> list[str]:
        """Calls of the same plan whose rows differ, since a measured convention is part of them."""
        theirs = {plan_of(call): call.case for call in self._after.calls}
        ours = [c for c in self._before.calls if theirs.get(plan_of(c), c.case) != c.case]
        if not ours:
            return []
        where = f"{self._name} {self._before.dtype}"
        return [f"{where}: {len(ours)} calls were asked otherwise, as another label is ignored"]

    def _lost_and_found(self, pairs: list[tuple[Call, Call]]) -> Iterator[Presence]:
        """The dtype, or an option, with which every call fails on one side alone."""
        pairs = [pair for pair in pairs if pair[0].law != LABELS.name]
        if state := _one_sided(pairs):
            yield self._part(self._before.dtype, state, pairs)
            return
        for option in sorted({name for old, _ in pairs for name in old.options}):
            mine = [pair for pair in pairs if option in pair[0].options]
            if state := _one_sided(mine):
                yield self._part(option, state, mine)

    def _part(self, part: str, state: str, pairs: list[tuple[Call, Call]]) -> Presence:
        gone = state == "gone"
        failed = pairs[0][gone]
        reason = first_line(failed.message) or failed.status
        return Presence(
            subject=self._name, part=part, state="gone" if gone else "new", reason=reason
        )

    def _count(self, old: Call, new: Call) -> None:
        """The rows of each output that are compared, changed or not."""
        for output in ASKING[old.law].outputs:
            if getattr(old, output) and getattr(new, output):
                whole = output == "loss" and old.reduction != "none"
                self._of[old.region, output] += 1 if whole else old.rows
        self._of[old.region, "call"] += max(old.rows, 1)

    def _see(self, old: Call, new: Call) -> int:
        """Take in a call whose answers differ; return how many of its rows changed."""
        case = drawn(old, self._before, self._record.operation, self._record.target)
        rows = max(case.rows, 1)
        worst = np.full(rows, len(ORDER))
        for output, kind, message in _as_a_whole(old, new):
            self._add(kind, old.region, output, Example(case, rows, message=message))
            worst = np.minimum(worst, rank(kind))
        rights = self._rights(case, old.law)
        # What warns otherwise now may have other numbers too.
        for output in old.digests.keys() & new.digests.keys():
            if not (getattr(old, output) or getattr(new, output)):
                continue
            for row, found in self._rows(output, case, (old, new), rights):
                worst[row] = min(worst[row], rank(found))
        for place in worst[worst < len(ORDER)]:
            self._kinds[ORDER[place]] += 1
        return int((worst < len(ORDER)).sum())

    def _add(self, kind: Kind, region: str, output: str, example: Example) -> None:
        self._groups.setdefault((kind, region, output), Group()).add(example)

    # --- the rows of one output ---------------------------------------------------------------

    def _rights(self, case: Case, law: str) -> tuple[Right, Right]:
        """What is right of each output, under the conventions before and under those now."""
        before = exact_values(case, self._before.semantics, law)
        if self._after.semantics == self._before.semantics:
            return before, before
        return before, exact_values(case, self._after.semantics, law)

    def _rows(
        self, output: str, case: Case, calls: tuple[Call, Call], rights: tuple[Right, Right]
    ) -> Iterator[tuple[int, Kind]]:
        """The rows of an output that changed, each with what became of it; taken in as examples.

        A reduced loss counts as the first row.
        """
        old, new = calls
        whole = output == "loss" and case.options.reduction != "none"
        found = self._numbers(output, case, calls, rights)
        before, after = grades(old, output), grades(new, output)
        for row in np.flatnonzero(found.changed):
            at = int(row)
            was, now = (g[at] if at < len(g) else "" for g in (before, after))
            example = _example(found, at, case, was, now, whole=whole)
            kind = _kind(example, found, at, of_labels=old.law == LABELS.name)
            self._add(kind, old.region, output, example)
            yield at, kind

    def _numbers(
        self, output: str, case: Case, calls: tuple[Call, Call], rights: tuple[Right, Right]
    ) -> Numbers:
        rounded = [
            round_exact(right[output], self._fmt) if output in right else None for right in rights
        ]
        shape = _shape(output, case)
        old, new = (
            read(getattr(call, output), right, shape, self._fmt)
            for call, right in zip(calls, rounded, strict=True)
        )
        if old is None or new is None:
            return Numbers(_different_digests(*(getattr(call, output) for call in calls)))
        for call, values in zip(calls, (old, new), strict=True):
            _demand_digest(call, output, values)
        return _compared(old, new, rounded, rights[1].get(output), self._fmt)

    def _change(self, kind: Kind, region: str, output: str, group: Group) -> Change:
        shown = group.example
        assert shown is not None, "a group is made when its first row is found"
        subject = _subject(self._name)
        case, message = shown.case, shown.message
        # A row of a vocabulary is as long as all other changes together, and drawn again at will.
        wide = case.inputs.size >= WIDE
        if wide:
            message = (
                message or f"a row of {case.inputs.shape[1]:,} classes, which is not kept here"
            )
        return Change(
            kind=kind,
            subject=self._name,
            dtype=self._before.dtype,
            region=region,
            output=output,
            rows=group.rows,
            of=self._of[region, output],
            largest=group.largest,
            nearer=group.nearer,
            farther=group.farther,
            grades=dict(group.grades.most_common()),
            case=_nothing(case.dtype) if wide else to_record(case),
            row=0,
            old=_texts(shown.old),
            new=_texts(shown.new),
            right=_texts(shown.right),
            old_grade=shown.old_grade,
            new_grade=shown.new_grade,
            old_ulps=shown.old_ulps,
            new_ulps=shown.new_ulps,
            move=shown.move,
            message=message,
            snippet="" if subject is None or wide else script(subject, case),
        )


def _nothing(dtype: str) -> CaseRecord:
    """The record of a case that is not kept."""
    return CaseRecord(operation="", dtype=dtype, inputs=[], target=[])


def _texts(row: Floats | None) -> list[str]:
    return [] if row is None else numbers(row)


def _subject(name: str) -> Subject | None:
    """The subject of that name, where a framework here declares it: for its script."""
    framework, device = name.partition(":")[0], name.rpartition(",")[2].rstrip("]")
    if framework not in FRAMEWORKS:
        return None
    every = on_device(FRAMEWORKS[framework], device)
    return next((s for s in every if s.name == name), None)


def plan_of(call: Call) -> tuple[object, ...]:
    """What a call is drawn from: that of two runs is the same."""
    options = tuple(call.options)
    return (call.law, call.region, call.classes, call.seed, options, call.reduction)


def _same(old: Call, new: Call) -> bool:
    """Whether nothing differs that a comparison speaks of."""
    return (
        (old.status, old.digests, old.loss_dtype) == (new.status, new.digests, new.loss_dtype)
        and _plain(old.message) == _plain(new.message)
        and _plain_warnings(old) == _plain_warnings(new)
    )


def _as_a_whole(old: Call, new: Call) -> Iterator[tuple[str, Kind, str]]:
    """What became of a call as a whole and of outputs of one side alone, each in words."""
    kind, message = _of_call(old, new)
    if kind:
        yield "call", kind, message
    if old.status == new.status:
        for output in sorted(old.digests.keys() ^ new.digests.keys()):
            gone = output in old.digests
            said = "came before, and does not now" if gone else "did not come before, and does now"
            yield output, "gone" if gone else "better", f"the {output.replace('_', ' ')} {said}"


def _of_call(old: Call, new: Call) -> tuple[Kind | None, str]:
    """What became of a call as a whole, and in words; None where its numbers have to be looked at.

    Where both return and both warn alike, the numbers say it.
    """
    said = f"{came(old)} before, {came(new)} now"
    if old.status != new.status:
        if new.status in LOST:
            return "crashed", said
        better = old.status in LOST or _answers_rightly(old, new)
        return ("better" if better else "policy"), said
    if old.status in LOST:
        return None, ""  # what a process writes when it dies has the time in it
    if old.status != "returned":
        if _exception(old) != _exception(new):
            return "policy", said
        return ("reworded", said) if _plain(old.message) != _plain(new.message) else (None, "")
    if old.loss_dtype != new.loss_dtype:
        dtypes = (call.loss_dtype or "that of the inputs" for call in (old, new))
        return "convention", "the loss had the dtype {}, and has {}".format(*dtypes)
    if _plain_warnings(old) != _plain_warnings(new):
        before, now = (", ".join(_plain_warnings(call)) or "silent" for call in (old, new))
        return "policy", f"{before} before, {now} now"
    return None, ""


def _answers_rightly(old: Call, new: Call) -> bool:
    """Whether a valid call, which was refused, is inside its bounds now.

    What becomes of a wrong label is a matter of policy, and so is where NaN comes.
    """
    if old.law == LABELS.name or new.status != "returned":
        return False
    given = {grade for output in new.digests for grade in grades(new, output)}
    worst = max((RANK[grade] for grade in given if grade), default=0)
    return worst < RANK["unspecified"] and "nan" not in new.loss + new.gradient


def _exception(call: Call) -> str:
    """The type of what was raised: code that catches it depends on that."""
    return call.message.partition(":")[0]


def _plain(text: str) -> str:
    """A message without addresses and files: where a library lies, what a compiler wrote where."""
    return FILE.sub("/…", ADDRESS.sub("0x…", text))


def _plain_warnings(call: Call) -> tuple[str, ...]:
    return tuple(sorted(_plain(warning) for warning in call.warnings))


def _one_sided(pairs: list[tuple[Call, Call]]) -> str:
    """Whether calls returned on one side alone: "gone", "new", or "" where not."""
    if any(call.status in LOST for pair in pairs for call in pair):
        return ""
    before, now = (any(pair[side].status == "returned" for pair in pairs) for side in (0, 1))
    if before == now:
        return ""
    return "gone" if before else "new"


def _shape(output: str, case: Case) -> tuple[int, ...]:
    if output == "loss":
        return (case.rows,) if case.options.reduction == "none" else ()
    return case.inputs.shape if output == "gradient" else case.target.shape


def _different_digests(old: str, new: str) -> np.ndarray:
    """Which rows of a wide batch differ, where only that can be said."""
    before, now = old.split(), new.split()
    if len(before) != len(now):
        raise ValueError(f"{len(before)} and {len(now)} rows of one call")
    return np.array([a != b for a, b in zip(before, now, strict=True)], dtype=bool)


def _demand_digest(call: Call, output: str, values: Floats) -> None:
    """Refuse numbers that are not those that were written: the reference was another then."""
    if digest(values) != call.digests.get(output):
        raise ValueError(
            f"the {output} of the call {call.case} reads back as other numbers: the file was "
            "edited, or written by a lossaudit with another reference; make it anew"
        )


def _compared(
    old: Floats, new: Floats, rounded: list[Floats | None], exact: Exact | None, fmt: Format
) -> Numbers:
    """Both sides of an output, as rows; `rounded` is what is right before and now."""
    right_before, right = rounded
    rows = (old.shape[0], -1) if old.ndim else (1, 1)
    if old.size == 0:
        rows = old.shape if old.ndim == 2 else (old.shape[0], 1)
    other = (distance(old, new) != 0) | ((np.signbit(old) != np.signbit(new)) & ~np.isnan(old))
    changed = other.reshape(rows).any(axis=1)
    if exact is None or right is None or right_before is None:
        return Numbers(changed, old.reshape(rows), new.reshape(rows))
    with np.errstate(all="ignore"):
        move = np.where(other, distance(old, new) / ulp(exact, fmt), 0.0)
        errors = [ulp_error(values, exact, fmt).reshape(rows) for values in (old, new)]
    rightly = (distance(right_before, right) != 0).reshape(rows).any(axis=1)
    return Numbers(
        changed,
        old.reshape(rows),
        new.reshape(rows),
        right=right.reshape(rows),
        other_right=rightly,
        old_errors=errors[0],
        new_errors=errors[1],
        move=move.reshape(rows),
    )


def _example(found: Numbers, row: int, case: Case, was: str, now: str, *, whole: bool) -> Example:
    """One changed row, as a case of its own where it is not of a reduced loss."""
    alone = case if whole else case.take(np.array([row]))
    if found.old is None or found.new is None:
        message = "other bits; of so wide a row only a digest is kept"
        return Example(alone, old_grade=was, new_grade=now, message=message)
    old, new = found.old[row], found.new[row]
    if found.right is None or found.old_errors is None or found.new_errors is None:
        return Example(alone, old=old, new=new, old_grade=was, new_grade=now)
    before, after = _largest(found.old_errors[row]), _largest(found.new_errors[row])
    closer = 0 if before is None or after is None else int(np.sign(after - before))
    return Example(
        alone,
        old=old,
        new=new,
        right=found.right[row],
        old_grade=was,
        new_grade=now,
        old_ulps=before,
        new_ulps=after,
        move=None if found.move is None else _largest(found.move[row]),
        closer=closer,
    )


def _largest(errors: Floats) -> float | None:
    """The largest of them, None where one is infinite or there is none: no number says that."""
    return float(errors.max()) if errors.size and np.isfinite(errors).all() else None


def _kind(example: Example, found: Numbers, row: int, *, of_labels: bool) -> Kind:
    """What became of a row whose bits changed."""
    was, now = (RANK.get(g, -1) for g in (example.old_grade, example.new_grade))
    if of_labels:
        return _of_wrong_label(example, was, now)
    if found.other_right is not None and found.other_right[row]:
        return "convention"
    return kind_of_grades(was, now, example.closer)


def kind_of_grades(was: int, now: int, closer: int) -> Kind:
    """What became of a row of other bits, by the ranks of its grades; -1 where it has none.

    `closer` is -1 where its error became smaller, 1 where it grew.
    """
    if RANK["unspecified"] in (was, now):
        return "unspecified"
    if max(was, now) < FIRST_FINDING:
        return "moved"
    if was != now:
        return "worse" if now > was else "better"
    # Within one grade: 'precision' is inside the declared bound, 'wrong kind' has no error to grow.
    if now == RANK["violates"] and closer:
        return "worse" if closer > 0 else "better"
    return "moved"


def _of_wrong_label(example: Example, was: int, now: int) -> Kind:
    """In a batch with a label that is no class, another kind of number is another policy."""
    if was != now and -1 not in (was, now):
        return "worse" if now > was else "better"
    if was == -1 or example.old is None or example.new is None:
        return "moved"
    kinds = ((bool(np.isfinite(x).all()), bool((x == 0).all())) for x in (example.old, example.new))
    before, after = kinds
    return "moved" if before == after else "policy"
