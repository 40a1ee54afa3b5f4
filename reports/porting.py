"""From one op to another: what changes, and the code that makes them agree.

Two ops are compared by what the run measured of each. A difference says the old value and the new
one, the smallest inputs that showed them, and whether the snippet of `porting_code.py` sees to it;
what no code can copy (a label that raises against one that gives NaN, a dtype) is said in words.

Where things stand, and why: the composing is here, once, for the page, the terminal and the tests,
and the page's script looks up finished texts. What it needs of a framework (how an op is called
unreduced, how a row is picked) is data of the adapters, which a run carries as text
(`SubjectRecord.call`, `Run.idioms`), as it carries the script of a finding: a report knows no
framework, and one of an older run file shows the differences alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..conformance.run import Convention, Run, SubjectRecord
from . import text
from .conventions import TITLES, ranks
from .porting_code import AXES, OF_ELEMENTS, NoSnippet, Op, Port

MISSING = "no such option"
SNIPPET, BY_HAND = "snippet", "by hand"

OPTIONS = {
    "weight": "class weights",
    "sample_weight": "weights of rows",
    "where": "a mask of classes",
    "gamma": "the exponent of a focal loss",
    "alpha": "the factor of a focal loss",
}
"""Options that no convention speaks of: an op has them or not."""


@dataclass(frozen=True)
class Difference:
    """One convention in which two ops differ.

    Attributes:
        field, title: of the convention, or of an option.
        old, new: its values.
        how: SNIPPET where the code sees to it, BY_HAND where whoever ports must.
        words: what is done about it, or why nothing is.
        shown: the smallest inputs and what came of them, old and new.
    """

    field: str
    title: str
    old: str
    new: str
    how: str
    words: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Ported:
    """What there is to read about one pair: `code` or, where it is "", `reason`."""

    old: Op
    new: Op
    differences: tuple[Difference, ...]
    code: str
    reason: str


# ---------------------------------------------------------------------- what there is to choose


def groups_of(run: Run) -> dict[str, list[Op]]:
    """The ops that can be compared, by operation and target; at least two of each."""
    measured: dict[str, dict[str, Convention]] = defaultdict(dict)
    for entry in run.conventions:
        measured[entry.subject][entry.field] = entry
    written = {record.framework for record in run.idioms}
    called = {(s.framework, s.op) for s in run.subjects if s.call}
    groups: dict[str, list[Op]] = defaultdict(list)
    # A mode in which little can be measured joins one in which more was.
    for record in sorted(run.subjects, key=lambda s: s.mode != "eager"):
        arranged = record.framework in written and (record.framework, record.op) not in called
        if record.name not in measured or record.misuse or arranged:
            continue
        _join(
            groups[", ".join(filter(None, (record.operation, record.target)))],
            record,
            measured[record.name],
        )
    places: dict[tuple[str, str], int] = {}
    for record in run.subjects:
        places.setdefault((record.framework, record.op), len(places))
    return {
        name: sorted(ops, key=lambda op: (places[op.framework, op.op], "eager" not in op.modes))
        for name, ops in groups.items()
        if len(ops) > 1
    }


def _join(ops: list[Op], record: SubjectRecord, entries: dict[str, Convention]) -> None:
    """Add a subject to the op of the same name that it contradicts in nothing, or as a new one."""
    for i, op in enumerate(ops):
        if (op.framework, op.op) == (record.framework, record.op) and _agree(op, entries):
            ops[i] = _with(op, record, entries)
            return
    ops.append(
        _with(
            Op(
                record.framework,
                record.op,
                (),
                record.operation,
                record.target,
                (),
                {},
                frozenset(),
                (),
            ),
            record,
            entries,
        )
    )


def _agree(op: Op, entries: dict[str, Convention]) -> bool:
    """Whether no field was measured otherwise."""
    return all(
        op.says(name) in ("", entry.measured) for name, entry in entries.items() if entry.measured
    )


def _with(op: Op, record: SubjectRecord, entries: dict[str, Convention]) -> Op:
    told = {name: entry for name, entry in entries.items() if not op.says(name)}
    return Op(
        op.framework,
        op.op,
        (*op.modes, record.mode),
        op.operation,
        op.target,
        (*op.subjects, record.name),
        {**op.conventions, **told},
        op.options | frozenset(record.options),
        op.reductions or tuple(record.reductions),
        op.call or record.call,
        op.keywords or record.keywords,
    )


# ---------------------------------------------------------------------- what differs


def ported(old: Op, new: Op, run: Run) -> Ported:
    """What changes from an op to another, and the code that makes them agree."""
    texts = {record.framework: record.texts for record in run.idioms}
    port = Port(old, new, texts.get(new.framework, {}))
    code, reason = "", ""
    try:
        code = port.code()
    except NoSnippet as none:
        reason = str(none)
    return Ported(old, new, tuple(differences(port, composed=bool(code))), code, reason)


def differences(port: Port, *, composed: bool) -> Iterator[Difference]:
    """What differs, in the order in which the probe measures; `composed`: whether there is code."""
    old, new = port.old, port.new
    for name in sorted({*old.conventions, *new.conventions}, key=ranks):
        before, after = old.conventions.get(name), new.conventions.get(name)
        if not _differ(before, after):
            continue
        done, words = _HOW.get(name, _left)(port) if composed else (False, "")
        how = (SNIPPET if done else BY_HAND) if composed else ""
        yield Difference(
            name, TITLES.get(name, ""), _value(before), _value(after), how, words,
            tuple(_shown(before, after)),
        )  # fmt: skip
    for name, title in OPTIONS.items():
        if (name in old.options) != (name in new.options):
            yield _option(name, title, port, composed=composed)


def _differ(before: Convention | None, after: Convention | None) -> bool:
    """Whether two ops differ in a field; what was not measured of one says nothing."""
    if before is None or after is None:
        known = before or after
        return known is not None and bool(known.measured)
    return bool(before.measured and after.measured) and before.measured != after.measured


def _value(entry: Convention | None) -> str:
    return MISSING if entry is None else entry.measured


def _shown(before: Convention | None, after: Convention | None) -> Iterator[str]:
    if before and after and before.input == after.input:
        yield f"on {before.input}: {before.evidence}, and now {after.evidence}"
        return
    for entry, when in ((before, "before"), (after, "now")):
        if entry is not None and entry.input:
            yield f"{when}, on {entry.input}: {entry.evidence}"


def _option(name: str, title: str, port: Port, *, composed: bool) -> Difference:
    taken = name in port.old.options
    done = taken and name in ("weight", "sample_weight")
    words = "Multiplied in by the snippet." if done else "The snippet does not pass it."
    if not taken:
        done, words = True, "The old op had nothing like it, and the snippet does not pass it."
    values = ("taken", MISSING) if taken else (MISSING, "taken")
    how = (SNIPPET if done else BY_HAND) if composed else ""
    return Difference(name, title, *values, how, words if composed else "", ())


Says = tuple[bool, str]


def _left(port: Port) -> Says:
    del port
    return False, "Nothing in the snippet changes that."


def _smoothing(port: Port) -> Says:
    if not port.old.smooths:
        return True, "The old op smooths nothing, and the snippet does not ask the new one to."
    return True, f"The snippet smooths by hand, as before: {port.old.says('smoothing')}."


def _weighted_smoothing(port: Port) -> Says:
    if port.old.says("weighted_smoothing") == "":
        return True, "The old op has not both, and the snippet passes neither."
    return True, "The snippet smooths and weighs by hand, as before."


def _smoothing_domain(port: Port) -> Says:
    if "label_smoothing" not in port.old.options:
        return True, "The old op smooths nothing, and the snippet does not ask the new one to."
    return False, "The snippet checks nothing: keep label_smoothing within [0, 1]."


def _pos_weight(port: Port) -> Says:
    if "pos_weight" not in port.old.options:
        return True, "The old op takes none, and the snippet passes none."
    return True, "The snippet multiplies by hand, as before."


def _mean(port: Port) -> Says:
    if not port.old.says("mean"):
        return True, "The old op forms no mean, and the snippet returns what it returned."
    over = {
        "weights": "the sum of the weights of the rows that count",
        "valid": "the number of rows that count",
        "rows": "the number of rows",
    }[port.old.says("mean")]
    return True, f"The snippet takes the loss of each row and divides their sum by {over}."


def _default_reduction(port: Port) -> Says:
    says = port.old.says("default_reduction")
    if says in ("mean", "sum", OF_ELEMENTS):
        return True, f'The snippet reduces by hand, by "{says}" where nothing is named.'
    return True, "The snippet returns a loss for each row, as before."


def _soft_gradient(port: Port) -> Says:
    if port.by_mass:
        return (
            True,
            "The snippet gives the new op shares that sum to 1, and multiplies by their sum.",
        )
    words = "The snippet's gradient is the derivative of its loss; the old one is that only for "
    return False, words + "targets that sum to 1, where the two agree."


def _target_domain(port: Port) -> Says:
    if "raises" in port.old.says("target_domain"):
        return False, "The snippet does not raise where the old op did: check targets before."
    return False, "Such targets were taken before, and raise now."


def _guard(port: Port) -> Says:
    if port.clips_first:
        return True, "The snippet clips before the call: the guard of the new op never acts."
    words = "The guard of the new op cannot be turned off: the snippet writes the loss out instead."
    return True, words


def _guard_gradient(port: Port) -> Says:
    if port.old.says("guard_gradient") == "0 outside":
        return True, "The snippet clips as before, with a gradient of 0 outside."
    words = "Where a guard acts the gradient is that of the snippet: where it was "
    return False, f"{words}{port.old.says('guard_gradient') or 'not measured'}, it is not now."


def _class_axis(port: Port) -> Says:
    axes = port.old.says("class_axis"), port.new.says("class_axis")
    if set(axes) <= set(AXES):
        return True, f"The snippet takes the {axes[0]} axis, as before, and turns the inputs."
    return False, "Of more than two dimensions, make (rows, classes) before the call."


def _last_axis(port: Port) -> Says:
    axes = port.old.says("last_axis"), port.new.says("last_axis")
    if set(axes) <= {"kept", "mean"}:
        given = "the mean over" if axes[0] == "mean" else "each loss along"
        return True, f"The snippet gives {given} the last axis, as before."
    return False, "Call it with one column."


def _all_ignored(port: Port) -> Says:
    says = port.old.says("all_ignored")
    if says in ("nan", "zero"):
        return True, f"The snippet gives {says} there, as before."
    return True, "The old op ignores no row, and no more does the snippet."


def _ignore_domain(port: Port) -> Says:
    if port.old.ignores:
        return True, "The snippet masks the rows by hand, whatever label is named."
    return True, "The old op is told of no ignored label, and the snippet passes none."


def _ignore_index(port: Port) -> Says:
    old = port.old
    if old.unasked:
        return True, f"The snippet ignores {old.unasked} where nothing is named, as before."
    if old.says("ignore_index") not in ("", "None"):
        words = f"Unasked, the old op gives a loss of 0 for {old.says('ignore_index')}"
        return False, f"{words}; to the snippet they are labels like others: mask them before."
    return False, "Such a label is an error before, and counts for nothing now: check for it."


def _unasked_mean(port: Port) -> Says:
    if port.old.unasked:
        return True, "The snippet leaves such rows out of the mean, as before."
    return False, "See the label that is ignored unasked."


def _label_policy(port: Port) -> Says:
    del port
    words = "Code in a compiled graph cannot raise, and what is read outside a table is not to be "
    return False, words + "copied: see to it that labels are within [0, K), or ignored."


def _plus_inf(port: Port) -> Says:
    del port
    return False, "The snippet gives what the new op gives there: keep such logits finite."


def _broadcasting(port: Port) -> Says:
    del port
    return False, "Give the target the shape that belongs to the inputs."


def _output(port: Port) -> Says:
    del port
    return False, "Cast the inputs, or the loss, to the dtype that is wanted."


def _renormalise(port: Port) -> Says:
    words = {"before": "before it clips", "after": "after it clips", "no": "not"}
    says = words.get(port.old.says("renormalise"), "as before")
    return True, f"The snippet writes the loss out, and divides by the sum {says}."


_HOW: dict[str, Callable[[Port], Says]] = {
    "smoothing": _smoothing,
    "weighted_smoothing": _weighted_smoothing,
    "smoothing_domain": _smoothing_domain,
    "pos_weight": _pos_weight,
    "mean": _mean,
    "default_reduction": _default_reduction,
    "plus_inf": _plus_inf,
    "soft_gradient": _soft_gradient,
    "target_domain": _target_domain,
    "guard": _guard,
    "guard_gradient": _guard_gradient,
    "renormalise": _renormalise,
    "class_axis": _class_axis,
    "last_axis": _last_axis,
    "broadcasting": _broadcasting,
    "output": _output,
    "all_ignored": _all_ignored,
    "ignore_domain": _ignore_domain,
    "ignore_index": _ignore_index,
    "unasked_mean": _unasked_mean,
    "label_policy": _label_policy,
}
"""What the snippet does about a field in which two ops differ."""


# ---------------------------------------------------------------------- by name


class UnknownOp(ValueError):
    """A name that is none of the run's, or a pair that nothing compares; the text says what is."""


def chosen(run: Run, old: str, new: str) -> tuple[Op, Op]:
    """The two ops of these names: "torch:cross_entropy.index", with "[compile,cpu]" or without."""
    found = [_named(run, name) for name in (old, new)]
    for name, ops in zip((old, new), found, strict=True):
        if not ops:
            known = dict.fromkeys(
                s.partition("[")[0]
                for ops in groups_of(run).values()
                for op in ops
                for s in op.subjects
            )
            raise UnknownOp(
                f"{name!r} is no op of this run that can be ported; {_near(name, known)}"
            )
    pairs = [
        (a, b)
        for a in found[0]
        for b in found[1]
        if (a.operation, a.target) == (b.operation, b.target)
    ]
    if not pairs:
        kinds = (f"{ops[0].operation} of a target of kind {ops[0].target}" for ops in found)
        raise UnknownOp(f"{old} is {next(kinds)}, {new} is {next(kinds)}: nothing to compare.")
    return pairs[0]


def _named(run: Run, name: str) -> list[Op]:
    return [
        op
        for ops in groups_of(run).values()
        for op in ops
        if name in op.subjects or name == f"{op.framework}:{op.op}"
    ]


def _near(name: str, known: Iterable[str]) -> str:
    """A few names that begin alike, or some."""
    every = list(known)
    near = [other for other in every if other.startswith(name.partition(":")[0] + ":")] or every
    return f"there are: {', '.join(near[:8])}" + (", ..." if len(near) > 8 else ".")


# ---------------------------------------------------------------------- the page


def label(op: Op, among: Sequence[Op]) -> str:
    """The name of an op, with its modes where others bear it too."""
    same = sum((other.framework, other.op) == (op.framework, op.op) for other in among)
    modes = f" ({', '.join(op.modes)})" if same > 1 else ""
    return text.one_line(f"{op.framework} {op.op}{modes}", 120)


@dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        groups: the names of the ops that can be compared with each other, under their operation.
        first: the pair that is shown before one is chosen, and without scripts.
        data: all pairs, for the script.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    first: dict[str, Any]
    data: dict[str, Any]


def page(run: Run) -> Page:
    """The porting view of the report."""
    data = page_data(run)
    groups = tuple((group["name"], tuple(group["ops"])) for group in data["groups"])
    return Page(groups, _first(run), data)


def _first(run: Run) -> dict[str, Any]:
    """From an op of the first framework to one of another, those of which most was measured."""
    for ops in groups_of(run).values():
        old = max(ops, key=lambda op: (op.framework == ops[0].framework, len(op.conventions)))
        others = [op for op in ops if op is not old]
        new = max(others, key=lambda op: (op.framework != old.framework, len(op.conventions)))
        pair = ported(old, new, run)
        return {
            "from": label(old, ops),
            "to": label(new, ops),
            "code": f"# {label(old, ops)} -> {label(new, ops)}\n{text.visible(pair.code)}"
            if pair.code
            else "",
            "reason": pair.reason,
            "said": counted(pair.differences),
            "rows": [as_row(difference) for difference in pair.differences],
        }
    return {}


def page_data(run: Run) -> dict[str, Any]:
    """Every pair, in texts that are each there once: what the page's script looks up.

    A pair is [differences, snippet, count]: numbers into `differences`, `snippets` and `counts`; a
    snippet is the numbers of its lines, or where there is none the reason.
    """
    lines, differences, snippets, counts = Texts(), Texts(), Texts(), Texts()
    found = []
    for name, ops in groups_of(run).items():
        rows = []
        for old in ops:
            row: list[list[Any] | int] = []
            for new in ops:
                if new is old:
                    row.append(0)
                    continue
                pair = ported(old, new, run)
                numbers = [differences.number(as_row(d)) for d in pair.differences]
                code = tuple(lines.number(text.visible(line)) for line in pair.code.splitlines())
                said = counts.number(counted(pair.differences))
                row.append([numbers, snippets.number(code or text.visible(pair.reason)), said])
            rows.append(row)
        found.append({"name": name, "ops": [label(op, ops) for op in ops], "pairs": rows})
    return {
        "groups": found,
        "lines": lines.every,
        "differences": differences.every,
        "snippets": snippets.every,
        "counts": counts.every,
    }


def counted(differences: Sequence[Difference]) -> str:
    """How many there are, and how many of them are left to whoever ports."""
    if not differences:
        return "No measured convention differs"
    left = sum(d.how == BY_HAND for d in differences)
    said = text.count(len(differences), "difference")
    if not differences[0].how:
        return said
    return f"{said}, {left} left to you" if left else f"{said}, all seen to by the snippet"


def as_row(difference: Difference) -> tuple[str | tuple[str, ...], ...]:
    """A difference as the page shows it."""
    d = difference
    parts = (d.field, d.title, d.old, d.new, d.how, d.words)
    return (
        *(text.one_line(part, 300) for part in parts),
        tuple(text.one_line(words, 400) for words in d.shown),
    )


class Texts:
    """Things with the number at which each was first seen."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, thing: Any) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    @property
    def every(self) -> list[Any]:
        return list(self._numbers)
