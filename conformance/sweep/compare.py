"""Two sweeps of the same inputs compared, curve by curve and binade by binade.

No framework is needed. A binade has counts of grades and a hash of its answers, and no answers: a
binade of another hash has moved, and the counts say whether it moved to the worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ... import __version__
from ..compare import IncomparableRuns
from ..comparison import MOVES, REGRESSIONS, Kind, Presence, rank
from ..run import FINDING_GRADES, GRADES, anywhere
from .plan import Asking
from .record import Binade, Curve, Sweep, Worst, is_sweep, sweep_of

FORMAT = 1
"""Version of the file."""

_SAID = {
    "operation": "what is computed",
    "targets": "the targets",
    "around": "what is around the input",
    "span": "the range",
    "stride": "the stride",
    "seed": "the seed",
}
"""Fields of an asking in words; others are said by their names."""


class SweepSide(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two sweeps."""

    versions: dict[str, str]
    lossaudit: str
    answers: int


class BinadeChange(msgspec.Struct, frozen=True, kw_only=True):
    """A binade of which answers have other bits.

    Attributes:
        kind: one of `comparison.KINDS`.
        old, new: how many inputs have each grade.
        old_ulps, new_ulps: the largest errors.
    """

    name: str
    kind: Kind
    inputs: int
    old: dict[str, int]
    new: dict[str, int]
    old_ulps: float | None
    new_ulps: float | None


class CurveComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a subject for one target on both sides.

    Attributes:
        subject: its name, without an environment.
        kind: the worst of its binades; "" where all bits are the same.
        old, new: how many inputs have each grade.
        old_worst, new_worst: the inputs with the largest errors.
        binades: those that changed, the worst first.
    """

    subject: str
    dtype: str
    around: str
    target: str
    output: str
    inputs: int
    kind: Kind | str
    old: dict[str, int]
    new: dict[str, int]
    old_worst: Worst | None
    new_worst: Worst | None
    binades: list[BinadeChange]


class SweepComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that two sweeps say of each other.

    Attributes:
        sweep_comparison: the format of the file.
        curves: the worst first.
        presence: what only one side has.
        notes: what a reader should know beside that.
    """

    sweep_comparison: int = FORMAT
    lossaudit: str
    old: SweepSide
    new: SweepSide
    curves: list[CurveComparison]
    presence: list[Presence]
    notes: list[str]

    @property
    def verdict(self) -> str:
        """What it comes to, as of a `Comparison`: "regressed", "moved" or "nothing moved"."""
        kinds = {curve.kind for curve in self.curves}
        if kinds & set(REGRESSIONS) or any(p.state == "gone" for p in self.presence):
            return "regressed"
        return "moved" if kinds & set(MOVES) else "nothing moved"


def both_sweeps(heads: Sequence[object], paths: Sequence[Path]) -> list[Sweep]:
    """The sweeps in what two files hold; none where neither is one.

    Raises:
        IncomparableRuns: one of them is a sweep, and the other is not.
        RunFileError: one is damaged, or of another format.
    """
    are: list[bool] = [is_sweep(head) for head in heads]
    if not any(are):
        return []
    if not all(are):
        one, other = (paths[are.index(each)] for each in (True, False))
        raise IncomparableRuns(
            f"{one} is a sweep and {other} is none. Compare two sweeps (`lossaudit sweep`) or two "
            "runs (`lossaudit run`)."
        )
    return [sweep_of(head, path) for head, path in zip(heads, paths, strict=True)]


def compare(
    old: Sweep, new: Sweep, names: tuple[str, str] = ("the old sweep", "the new sweep")
) -> SweepComparison:
    """What became of every binade that both sweeps asked.

    Args:
        old: a sweep.
        new: another one, of the same inputs.
        names: what messages call them.

    Raises:
        IncomparableRuns: they asked the same subject otherwise, or have none in common.
    """
    presence = list(_askings(old, new, names))
    before, after = _curves(old, names[0]), _curves(new, names[1])
    told = {(p.subject, p.part) for p in presence}
    presence += [p for p in _presence(before, after) if (p.subject, p.part.split()[0]) not in told]
    curves = [_compared(before[key], after[key], names) for key in before if key in after]
    if not curves and not presence:
        raise IncomparableRuns(f"{names[0]} and {names[1]} have no curve in common.")
    return SweepComparison(
        lossaudit=__version__,
        old=_side(old),
        new=_side(new),
        curves=sorted(curves, key=lambda c: (rank(c.kind), c.subject, c.dtype)),
        presence=presence,
        notes=[*_notes(old, new), *_judged_otherwise(curves)],
    )


def _askings(old: Sweep, new: Sweep, names: tuple[str, str]) -> Iterator[Presence]:
    """Subjects in formats that only one side has; those of both must be asked alike."""
    before, after = (
        {(anywhere(a.subject), a.dtype): a for a in sweep.job.askings} for sweep in (old, new)
    )
    common = [key for key in before if key in after]
    for key in common:
        found = _differing(before[key], after[key])
        if found:
            raise IncomparableRuns(
                f"{names[0]} and {names[1]} asked {key[0]} in {key[1]} otherwise: they differ in "
                f"{' and '.join(found)}. Make both with the same options of `lossaudit sweep`."
            )
    if not common:
        raise IncomparableRuns(
            f"{names[0]} and {names[1]} have no subject in common in one format: "
            f"{_listed(before)}; and {_listed(after)}."
        )
    yield from _presence(before, after)


def _presence(old: Iterable[tuple[str, ...]], new: Iterable[tuple[str, ...]]) -> Iterator[Presence]:
    """What only one side has: subject, format, and what tells its curves apart."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    for key in before:
        if key not in after:
            yield Presence(subject=key[0], part=_part(key), state="gone", reason="")
    for key in after:
        if key not in before:
            yield Presence(subject=key[0], part=_part(key), state="new", reason="")


def _part(key: tuple[str, ...]) -> str:
    return " ".join(filter(None, key[1:]))


def _listed(keys: Iterable[tuple[str, str]], limit: int = 3) -> str:
    said = [f"{subject} in {dtype}" for subject, dtype in keys]
    more = f" and {len(said) - limit} more" if len(said) > limit else ""
    return f"{', '.join(said[:limit])}{more}"


def _differing(old: Asking, new: Asking) -> list[str]:
    """The fields in which two askings differ; environments may."""
    fields = [name for name in old.__struct_fields__ if name not in ("framework", "subject")]
    differ = (name for name in fields if getattr(old, name) != getattr(new, name))
    return [_SAID.get(name, name) for name in differ]


Key = tuple[str, str, str, str, str]


def _curves(sweep: Sweep, name: str) -> dict[Key, Curve]:
    found: dict[Key, Curve] = {}
    for c in sweep.curves:
        key = anywhere(c.subject), c.dtype, c.around, c.target, c.output
        if key in found:
            raise IncomparableRuns(
                f"{name} holds {key[0]} in {key[1]} twice: compare sweeps that ask it once."
            )
        found[key] = c
    return found


def _side(sweep: Sweep) -> SweepSide:
    return SweepSide(
        versions={name: v for s in sweep.subjects for name, v in s.versions.items()},
        lossaudit=sweep.lossaudit,
        answers=sum(curve.inputs for curve in sweep.curves),
    )


def _notes(old: Sweep, new: Sweep) -> Iterator[str]:
    if old.lossaudit != new.lossaudit:
        yield (
            f"made by lossaudit {old.lossaudit} and {new.lossaudit}: another judge, other bounds "
            "or other lines of a region can differ too"
        )
    before, after = (
        {(anywhere(s.name), s.dtype): s.facts for s in sweep.subjects} for sweep in (old, new)
    )
    moved = Counter(
        f"{name}: {before[key].get(name, 'absent')} -> {after[key].get(name, 'absent')}"
        for key in before
        if key in after
        for name in dict.fromkeys([*before[key], *after[key]])
        if before[key].get(name) != after[key].get(name)
    )
    yield from moved


def _judged_otherwise(curves: Iterable[CurveComparison]) -> Iterator[str]:
    for curve in curves:
        if not curve.kind and curve.old != curve.new:
            yield (
                f"{curve.subject} {curve.dtype} {curve.target} {curve.output}: the same bits were "
                "judged otherwise, by another lossaudit"
            )


def _compared(old: Curve, new: Curve, names: tuple[str, str]) -> CurveComparison:
    inputs = [[(b.name, b.inputs) for b in curve.binades] for curve in (old, new)]
    if inputs[0] != inputs[1]:
        raise IncomparableRuns(
            f"{names[0]} and {names[1]} asked {anywhere(old.subject)} in {old.dtype} for other "
            "inputs. Make both with the same lossaudit."
        )
    changes = sorted(_binades(old.binades, new.binades), key=lambda change: rank(change.kind))
    return CurveComparison(
        subject=anywhere(old.subject),
        dtype=old.dtype,
        around=old.around,
        target=old.target,
        output=old.output,
        inputs=new.inputs,
        kind=changes[0].kind if changes else "",
        old=old.grades,
        new=new.grades,
        old_worst=old.worst,
        new_worst=new.worst,
        binades=changes,
    )


def _binades(old: Sequence[Binade], new: Sequence[Binade]) -> Iterator[BinadeChange]:
    for was, after in zip(old, new, strict=True):
        if was.digest != after.digest:
            yield BinadeChange(
                name=after.name,
                kind=kind_of(was, after),
                inputs=after.inputs,
                old=was.grades,
                new=after.grades,
                old_ulps=was.worst,
                new_ulps=after.worst,
            )


def kind_of(old: Binade, new: Binade) -> Kind:
    """What became of a binade with other bits, by counts of grades.

    What is no finding is one class, as in `compare_calls.kind_of_grades`. A binade is worse where
    more inputs than before are of some finding or of worse ones, whatever became of others.
    """
    for grade in reversed(FINDING_GRADES):
        if _from(grade, new) > _from(grade, old):
            if grade in ("crashed", "timed out"):
                return "crashed"
            return "policy" if grade == "policy" else "worse"
    if any(_from(grade, new) < _from(grade, old) for grade in FINDING_GRADES):
        return "better"
    # As many of each: 'precision' is inside the declared bound, 'violates' has an error to grow.
    if new.grades.get("violates") and old.worst != new.worst and None not in (old.worst, new.worst):
        return "worse" if (new.worst or 0.0) > (old.worst or 0.0) else "better"
    return "unspecified" if set(old.grades) == set(new.grades) == {"unspecified"} else "moved"


def _from(grade: str, binade: Binade) -> int:
    """How many inputs have a grade or a worse one."""
    return sum(binade.grades.get(each, 0) for each in GRADES[GRADES.index(grade) :])
