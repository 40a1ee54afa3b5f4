"""What every report of a Comparison needs to know of it: order, sums, and the verdict in words."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..conformance.comparison import (
    KINDS,
    MOVES,
    REGRESSIONS,
    Change,
    Compared,
    Comparison,
    ConventionChange,
    Difference,
    LawChange,
    Presence,
    Side,
    rank,
)
from ..conformance.run import unpacked
from . import text
from .digest import case_text, farthest, grade_rank

SAME = "same"
"""Beside the KINDS: rows with the same bits."""

SIGNS = {
    "crashed": "CR",
    "gone": "GO",
    "policy": "PO",
    "convention": "CO",
    "worse": "WO",
    "unspecified": "UN",
    "moved": "MO",
    "better": "BE",
    "reworded": "RE",
    SAME: "==",
}
"""Two letters beside every colour, so that no kind is told by colour alone."""

_REGRESSED = {
    "crashed": ("row crashes", "rows crash"),
    "gone": ("row no longer returns", "rows no longer return"),
    "policy": ("row under another policy", "rows under another policy"),
    "convention": ("row under another convention", "rows under another convention"),
    "worse": ("row worse", "rows worse"),
}

NAMED_PACKAGES = 3
"""Packages that a sentence names; the others are counted."""

DTYPES = {"float64": "f64", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""Widest first, and short."""


@dataclass(frozen=True)
class Name:
    """The parts of `torch:cross_entropy.index[eager,cpu]`."""

    framework: str
    op: str
    mode: str

    @cached_property
    def family(self) -> str:
        """`cross_entropy` of `cross_entropy.index`: forms of one op share most of their causes."""
        return max(self.op.split("."), key=len)


@lru_cache(maxsize=4096)  # thousands of changes are of some hundred subjects
def name_of(subject: str) -> Name:
    """The parts of a subject's name; of a name of another shape the whole is the op."""
    framework, _, rest = subject.partition(":")
    op, _, mode = rest.partition("[")
    return Name(framework, op or subject, mode.partition(",")[0].rstrip("]"))


@dataclass(frozen=True)
class OpLine:
    """One op over all its modes and dtypes, in rows; `largest` is the largest move in ulps."""

    framework: str
    op: str
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    rows: int
    same: int
    kinds: dict[str, int]
    largest: float | None

    @property
    def moved(self) -> int:
        return sum(self.kinds.get(kind, 0) for kind in ("unspecified", "moved"))

    @property
    def better(self) -> int:
        return self.kinds.get("better", 0)

    @property
    def worse(self) -> int:
        return sum(self.kinds.get(kind, 0) for kind in REGRESSIONS)

    @property
    def reworded(self) -> int:
        return self.kinds.get("reworded", 0)

    @property
    def unchanged(self) -> bool:
        return not sum(self.kinds.values())

    @property
    def worst(self) -> str:
        return worst_kind(self.kinds)


@dataclass(frozen=True)
class Outcome:
    """The element of a row on which two values differ most: where, and the numbers as text."""

    where: str
    old: str
    new: str
    right: str


@dataclass(frozen=True)
class SearchLine:
    """The searches for differences of one output, of every subject and dtype together.

    `found` are those that found one, the worst first, `failed` those that could not be made.
    """

    output: str
    searches: int
    cases: int
    rows: int
    regions: tuple[str, ...]
    seconds: float
    found: tuple[Difference, ...]
    failed: tuple[Difference, ...]

    def __str__(self) -> str:
        effort = (
            f"{text.count(self.cases, 'case')}, {text.count(self.rows, 'row')}, "
            f"{text.count(len(self.regions), 'region')}, {text.duration(self.seconds)}"
        )
        what = f"{text.one_line(self.output, 30)}: "
        asked = f"{text.count(self.searches, 'search', 'searches')} (one a subject and dtype)"
        if not self.found:
            return f"{what}no difference found by {asked}: {effort}"
        return f"{what}{len(self.found):,} of {asked} found a difference: {effort}"


class ComparisonDigest:
    """A Comparison with the look-ups and sums that its reports share."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @cached_property
    def changes(self) -> list[Change]:
        """Worst first."""
        return sorted(self.comparison.changes, key=_order)

    @cached_property
    def ids(self) -> dict[int, str]:
        """The id of each change, by `id()` of the change: the same in every report of the same."""
        seen: Counter[str] = Counter()
        found = {}
        for change in self.changes:
            name = identity(change)
            seen[name] += 1
            found[id(change)] = name if seen[name] == 1 else f"{name}-{seen[name]}"
        return found

    def id(self, change: Change) -> str:
        return self.ids[id(change)]

    @cached_property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """By kind, worst first: rows, and how many changes they are told in."""
        told = Counter(change.kind for change in self.comparison.changes)
        return {kind: (self.comparison.count(kind), told[kind]) for kind in KINDS}

    @cached_property
    def regressed(self) -> int:
        """Rows that regressed; conventions, subjects, searches and laws are counted apart."""
        return sum(self.comparison.count(kind) for kind in REGRESSIONS)

    @cached_property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(entry.subject for entry in self.comparison.compared))

    @cached_property
    def ops(self) -> list[OpLine]:
        """The ops by framework, each framework's worst first."""
        parts: dict[tuple[str, str], list[Compared]] = defaultdict(list)
        for entry in self.comparison.compared:
            name = name_of(entry.subject)
            parts[name.framework, name.op].append(entry)
        lines = [self._op(*key, found) for key, found in parts.items()]
        frameworks = list(dict.fromkeys(line.framework for line in lines))
        return sorted(
            lines,
            key=lambda x: (frameworks.index(x.framework), rank(x.worst), x.same - x.rows, x.op),
        )

    def _op(self, framework: str, op: str, found: Sequence[Compared]) -> OpLine:
        kinds: Counter[str] = Counter()
        for entry in found:
            kinds.update(entry.kinds)
        return OpLine(
            framework,
            op,
            tuple(dict.fromkeys(name_of(entry.subject).mode for entry in found)),
            in_order(entry.dtype for entry in found),
            sum(entry.rows for entry in found),
            sum(entry.same for entry in found),
            dict(kinds),
            self._largest.get((framework, op)),
        )

    @cached_property
    def _largest(self) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for change in self.comparison.changes:
            name = name_of(change.subject)
            if change.largest is not None:
                key = name.framework, name.op
                found[key] = max(found.get(key, 0.0), change.largest)
        return found

    def worst(self, limit: int = 10) -> list[tuple[Change, int]]:
        """The worst changes, distinct in cause, each with how many more are like it.

        First one for each kind of regression and for each cause of one, then one for each family
        of ops, then for each cause.
        """
        regressed = [change for change in self.changes if change.kind in REGRESSIONS]
        chosen: list[Change] = []
        passes = ((regressed, _kind), (regressed, _cause), (self.changes, _family))
        for changes, key_of in (*passes, (self.changes, _cause)):
            seen = {key_of(change) for change in chosen}
            for change in changes:
                if len(chosen) < limit and key_of(change) not in seen:
                    chosen.append(change)
                    seen.add(key_of(change))
        alike = Counter(map(_cause, self.changes))
        return [(change, alike[_cause(change)] - 1) for change in sorted(chosen, key=_order)]

    @cached_property
    def conventions(self) -> list[tuple[str, ConventionChange]]:
        """Modes of one op that changed alike are one entry, under the name of them all."""
        parts: dict[tuple[str, ...], list[ConventionChange]] = defaultdict(list)
        for entry in self.comparison.conventions:
            parts[(*_op(entry.subject), entry.field, entry.old, entry.new)].append(entry)
        return [(all_of(e.subject for e in found), found[0]) for found in parts.values()]

    @cached_property
    def presence(self) -> dict[str, list[tuple[str, Presence]]]:
        """What is gone, and what is new; modes of one op are one entry, under one name."""
        parts: dict[tuple[str, ...], list[Presence]] = defaultdict(list)
        for entry in self.comparison.presence:
            parts[(*_op(entry.subject), entry.part, entry.state, entry.reason)].append(entry)
        named = [(all_of(e.subject for e in found), found[0]) for found in parts.values()]
        return {state: [x for x in named if x[1].state == state] for state in ("gone", "new")}

    def number_of(self, state: str) -> int:
        """How many subjects, dtypes and options are gone, or new."""
        return sum(entry.state == state for entry in self.comparison.presence)

    @cached_property
    def laws(self) -> list[LawChange]:
        """Those that appeared before those that are gone."""
        return sorted(self.comparison.laws, key=lambda law: law.state)

    @cached_property
    def searches(self) -> list[SearchLine]:
        parts: dict[str, list[Difference]] = defaultdict(list)
        for entry in self.comparison.searched:
            parts[entry.output].append(entry)
        return [_search_line(output, found) for output, found in parts.items()]

    def versions(self, arrow: str = "->") -> str:
        """`jax 0.4.30 -> 0.10.2`: what differs between the sides, else what both have."""
        old, new = self.comparison.old.versions, self.comparison.new.versions
        names = list(dict.fromkeys([*old, *new]))
        moved = [name for name in names if old.get(name) != new.get(name)]
        if not moved:
            both = _some([f"{name} {old[name]}" for name in names])
            return f"{both or 'nothing that has a version'} on both sides"
        absent = "absent"
        return _some([f"{n} {old.get(n, absent)} {arrow} {new.get(n, absent)}" for n in moved])

    def verdict(self, arrow: str = "->") -> str:
        """The outcome in one sentence; a partial comparison is never called clean."""
        return ": ".join(self.verdict_parts(arrow))

    def verdict_parts(self, arrow: str = "->") -> tuple[str, str]:
        """The verdict as a headline, and what it counts."""
        end = "." if self.comparison.complete else ", so far: this comparison is partial."
        head, said = {
            "regressed": self._regressed,
            "moved": self._moved,
            "nothing moved": self._nothing,
        }[self.comparison.verdict](arrow)
        return text.one_line(head, 300), text.one_line(said, 500) + end

    def _regressed(self, arrow: str) -> tuple[str, str]:
        comparison = self.comparison
        gone = self.number_of("gone")
        appeared = sum(law.state == "appeared" for law in comparison.laws)
        counts = [
            *((comparison.count(kind), *words) for kind, words in _REGRESSED.items()),
            (
                len(comparison.conventions),
                "convention measured otherwise",
                "conventions measured otherwise",
            ),
            (gone, "subject, dtype or option gone", "subjects, dtypes or options gone"),
            (appeared, "finding appeared", "findings appeared"),
            (
                sum(found.kind in REGRESSIONS for found in comparison.searched),
                "search beyond the corpus found a regression",
                "searches beyond the corpus found a regression",
            ),
        ]
        parts = [text.count(*each) for each in counts if each[0]]
        beside = self._moved_parts()
        tail = f"; beside that {', '.join(beside)}" if beside else ""
        return f"Regressed with {self.versions(arrow)}", f"{', '.join(parts)}{tail}"

    def _moved(self, arrow: str) -> tuple[str, str]:
        comparison = self.comparison
        rows = sum(comparison.count(kind) for kind in MOVES)
        head, of = self.versions(arrow), f"{comparison.rows:,} rows"
        if not rows:
            moved = sum(found.kind in MOVES for found in comparison.searched)
            found = text.count(moved, "search", "searches")
            said = f"none of {of} of the corpus moved, but {found} beyond it found other bits"
        elif rows == comparison.count("moved"):
            said = f"{rows:,} of {of} moved, none to a worse grade"
        else:
            said = f"of {of} {', '.join(self._moved_parts())}"
        return head, f"{said}; nothing regressed"

    def _moved_parts(self) -> list[str]:
        count = self.comparison.count
        words = {
            "moved": "moved to no worse a grade",
            "better": "are better",
            "unspecified": "moved where the mathematics gives no value",
        }
        return [f"{count(kind):,} {said}" for kind, said in words.items() if count(kind)]

    def _nothing(self, arrow: str) -> tuple[str, str]:
        comparison = self.comparison
        if not comparison.rows:
            return "Nothing was compared", self.versions(arrow)
        rows = text.count(comparison.same, "row")
        subjects = text.count(len(self.subjects), "subject")
        reworded = comparison.count("reworded")
        tail = f"; {reworded:,} refuse in other words" if reworded else ""
        have = "has" if comparison.same == 1 else "have"
        said = f"{rows} of {subjects} {have} the same bits in {self._both()}{tail}"
        return "Nothing moved", said

    def _both(self) -> str:
        """`torch 2.13.0 and 2.15.0`, or the same versions asked twice."""
        old, new = self.comparison.old.versions, self.comparison.new.versions
        moved = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
        if len(moved) == 1:
            (name,) = moved
            return f"{name} {old.get(name, 'absent')} and {new.get(name, 'absent')}"
        return (
            self.versions()
            if moved
            else f"two runs of {_some([f'{n} {v}' for n, v in old.items()])}"
        )


def worst_kind(kinds: dict[str, int]) -> str:
    """The worst kind with at least one row; SAME where there is none."""
    return min((kind for kind, rows in kinds.items() if rows), key=rank, default=SAME)


def identity(change: Change) -> str:
    """The id of a change: stable over runs as long as what and where are the same."""
    where = (change.kind, change.subject, change.dtype, change.region, change.output)
    return hashlib.blake2b(repr(where).encode(), digest_size=8).hexdigest()


def all_of(subjects: Iterable[str]) -> str:
    """Subjects of one op by one name: `jax:cross_entropy[eager, jit]`."""
    found = list(dict.fromkeys(subjects))
    if len(found) == 1:
        return found[0]
    name = name_of(found[0])
    modes = dict.fromkeys(name_of(subject).mode for subject in found)
    return f"{name.framework}:{name.op}[{', '.join(modes)}]"


def distinct(found: Sequence[Difference], limit: int) -> list[Difference]:
    """So many of them, of as many ops as there are."""
    first: dict[tuple[str, str], Difference] = {}
    for entry in found:
        first.setdefault(_op(entry.subject), entry)
    chosen = list(first.values())
    return [*chosen, *(entry for entry in found if entry not in chosen)][:limit]


def in_order(dtypes: Iterable[str]) -> tuple[str, ...]:
    """Each once, the widest first, those of no known width last."""
    known = list(DTYPES)
    return tuple(sorted(dict.fromkeys(dtypes), key=lambda d: known.index(d) if d in DTYPES else 4))


def facts(side: Side) -> list[tuple[str, str]]:
    """What is to be known of one side, by name."""
    found = ", ".join(f"{kind} {number:,}" for kind, number in side.findings.items() if number)
    versions = ", ".join(f"{name} {version}" for name, version in side.versions.items())
    return [
        ("versions", versions or "none"),
        ("Python", side.python),
        ("platform", side.platform),
        ("lossaudit", side.lossaudit),
        ("started", text.moment(side.started)),
        ("took", text.duration(side.seconds) + ("" if side.complete else ", PARTIAL")),
        ("depth and seed", f"{side.depth}, seed {side.seed}"),
        ("subjects", f"{side.subjects:,}"),
        ("findings", found or "none"),
    ]


def outcome(entry: Change | Difference) -> Outcome | None:
    """The numbers of the smallest row where old and new differ most; None where it has none."""
    old, new, right = whole(entry.old), whole(entry.new), whole(entry.right)
    if not (old or new):
        return None
    index = farthest(old, new)
    width = max(len(old), len(new))
    classes = (
        "" if width <= 1 else f" of class {index}" if "gradient" in entry.output else f" [{index}]"
    )
    where = f"{text.one_line(entry.output, 20)}{classes}"
    return Outcome(where, _at(old, index), _at(new, index), _at(right, index))


def whole(texts: Sequence[str]) -> list[str]:
    """Numbers with their long runs written out; what is no list of numbers stays as it is."""
    if not any("*" in each for each in texts):
        return list(texts)
    try:
        return unpacked(texts)
    except ValueError:
        return list(texts)


def short_outcome(entry: Change | Difference) -> str:
    """`loss 0 -> 2.06115e-09, right 2.06115e-09`, or the message where there are no numbers."""
    numbers = outcome(entry)
    if numbers is None:
        return text.one_line(entry.message, 200) or "no value"
    old, new, right = short_numbers(numbers)
    right = f", right {right}" if right else ""
    message = f" ({text.one_line(entry.message, 160)})" if not (entry.old and entry.new) else ""
    return f"{numbers.where} {old} -> {new}{right}{message}"


def short_numbers(numbers: Outcome) -> tuple[str, str, str]:
    """Old, new and right in as few digits as tell apart what differs, at least six."""
    texts = numbers.old, numbers.new, numbers.right
    values = [text.as_float(each) for each in texts]
    for digits in (6, 9, 12, 17):
        shown = [
            text.one_line(raw, 60) if value is None else f"{value:.{digits}g}"
            for raw, value in zip(texts, values, strict=True)
        ]
        if len(set(shown)) == len(set(texts)):
            break
    old, new, right = shown
    return old or "no value", new or "no value", right


def grades_text(change: Change) -> str:
    """`faithful, 0.7 ulps -> precision, 58 ulps`; nothing where the row has no grade."""
    if not (change.old_grade or change.new_grade):
        return ""
    before = grade_text(change.old_grade, change.old_ulps)
    return f"{before} -> {grade_text(change.new_grade, change.new_ulps)}"


def call_text(entry: Change | Difference) -> str:
    """The smallest input in one line; of a batch one row, and how many it has."""
    if entry.case is None:
        return "no input kept"
    rows = len(entry.case.inputs)
    return case_text(entry.case, entry.row) + (
        f" (row {entry.row} of {rows:,})" if rows > 1 else ""
    )


def move_text(change: Change) -> str:
    """How far the smallest row moved, the largest move, and in which direction."""
    parts = []
    if change.move is not None:
        parts.append(f"moved {text.ulps_text(change.move)}")
    if change.largest is not None and change.largest != change.move:
        parts.append(f"at most {text.ulps_text(change.largest)}")
    parts += [f"{text.count(change.nearer, 'row')} nearer"] if change.nearer else []
    parts += [f"{text.count(change.farther, 'row')} farther"] if change.farther else []
    return ", ".join(parts)


def grade_text(grade: str, ulps: float | None) -> str:
    """`precision, 58 ulps`."""
    shown = text.one_line(grade, 20) or "no grade"
    return shown if ulps is None else f"{shown}, {text.ulps_text(ulps)}"


def _at(numbers: Sequence[str], index: int) -> str:
    return numbers[index] if index < len(numbers) else ""


def _order(change: Change) -> tuple[float | str, ...]:
    """Sort key: the worst kind, the worst grade, the farthest move, most rows; then by name."""
    regressed = change.kind in REGRESSIONS
    grade = grade_rank(change.new_grade) if regressed and change.new_grade else 0
    size = sum(len(row) for row in change.case.inputs)
    names = change.subject, change.dtype, change.region, change.output
    farthest_first = (
        -(math.inf if regressed else 0.0) if change.largest is None else -change.largest
    )
    return (rank(change.kind), -grade, farthest_first, -change.rows, size, *names)


def _family(change: Change) -> tuple[str, ...]:
    name = name_of(change.subject)
    return name.framework, name.family


def _kind(change: Change) -> tuple[str, ...]:
    return (change.kind,)


def _cause(change: Change) -> tuple[str, ...]:
    """What most likely has one cause: one kind of one family, or one message of any op."""
    if change.output == "call":
        return name_of(change.subject).framework, change.kind, change.message
    return (*_family(change), change.kind)


def _op(subject: str) -> tuple[str, str]:
    name = name_of(subject)
    return name.framework, name.op


def _search_line(output: str, found: Sequence[Difference]) -> SearchLine:
    return SearchLine(
        output,
        len(found),
        sum(entry.cases for entry in found),
        sum(entry.rows for entry in found),
        tuple(dict.fromkeys(region for entry in found for region in entry.regions)),
        sum(entry.seconds for entry in found),
        tuple(
            sorted((e for e in found if e.kind), key=lambda e: (rank(e.kind), -(e.largest or 0.0)))
        ),
        tuple(e for e in found if e.message and not e.kind),
    )


def _some(names: Sequence[str], limit: int = NAMED_PACKAGES) -> str:
    left = len(names) - limit
    more = f" and {text.count(left, 'more package')}" if left > 0 else ""
    return ", ".join(text.one_line(name, 80) for name in names[:limit]) + more
