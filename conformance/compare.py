"""Two runs compared row by row, from what their subjects answered to the fixed corpus.

Neither environment is needed: calls are drawn again from their plans, numbers are read from their
distances to the right ones, and both runs are judged by the same reference.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from .. import __version__
from .answers import ASKING
from .compare_calls import Pair, plan_of
from .comparison import Comparison, ConventionChange, Presence, Side, rank
from .regions import CORPUS
from .run import Answers, Convention, Run, SubjectRecord, anywhere

OF_OPTION = {
    "smoothing": "label_smoothing",
    "smoothing_domain": "label_smoothing",
    "weighted_smoothing": "label_smoothing",
    "ignore_domain": "ignore_index",
    "pos_weight": "pos_weight",
}
"""The option that a convention is about, without which there is none."""


class IncomparableRuns(Exception):
    """Two runs that cannot be compared; the text says why and what to do."""


def compare(
    old: Run, new: Run, names: tuple[str, str] = ("the old run", "the new run")
) -> Comparison:
    """What became of every row that both runs asked.

    Args:
        old: a run of one environment.
        new: another one, of the same environment later or of another.
        names: what messages call them.

    Raises:
        IncomparableRuns: they have no question in common, or hold none.
    """
    began = time.monotonic()
    _demand_comparable(old, new, names)
    result = Comparison(
        lossaudit=__version__,
        corpus=CORPUS,
        old=_side(old),
        new=_side(new),
        compared=[],
        changes=[],
        conventions=_conventions(old, new),
        presence=_presence(old, new),
        notes=_notes(old, new, names),
        complete=old.complete and new.complete,
    )
    for before, after, record in _pairs(old, new):
        try:
            found = Pair(before, after, record).compared()
        except ValueError as error:
            raise IncomparableRuns(
                f"{names[0]} and {names[1]} cannot be compared: {error}."
            ) from error
        result.compared.append(found.record)
        result.changes += found.changes
        result.presence += found.presence
        result.notes += found.notes
        if _alike(old, new):
            result.notes += _unpaired(before, after, {p.part for p in found.presence})
    if not any(c.calls for c in result.compared) and not result.presence:
        raise IncomparableRuns(
            f"no call was asked of both {names[0]} and {names[1]}: other laws or dtypes. "
            "Make both with the same `lossaudit run` and `--out FILE`."
        )
    result.notes += [*_without_answers(old, new, names), *_unmeasured(old, new)]
    result.presence += _offered(old, new)
    result.presence = _whole(result.presence, old)
    result.conventions = [c for c in result.conventions if not _follows(c, result.presence)]
    result.changes.sort(key=lambda c: (rank(c.kind), -(c.largest or 0.0)))
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _pairs(old: Run, new: Run) -> Iterable[tuple[Answers, Answers, SubjectRecord]]:
    after = {(anywhere(a.subject), a.dtype): a for a in new.answers}
    records = {record.name: record for record in old.subjects}
    for before in old.answers:
        now = after.get((anywhere(before.subject), before.dtype))
        if now is not None and before.subject in records:
            yield before, now, records[before.subject]


def _demand_comparable(old: Run, new: Run, names: tuple[str, str]) -> None:
    for run, name in zip((old, new), names, strict=True):
        if run.corpus != CORPUS:
            raise IncomparableRuns(
                f"{name} was asked corpus {run.corpus}, and this lossaudit has corpus {CORPUS}: "
                "its rows are others. Make it anew with `lossaudit run --out FILE`."
            )
        if not run.answers:
            raise IncomparableRuns(
                f"{name} holds no answers to compare: it was made by an older lossaudit, with "
                "--law and without the law value, or was interrupted early. Make it anew with "
                "`lossaudit run --out FILE`."
            )
    ours, theirs = ({anywhere(a.subject) for a in run.answers} for run in (old, new))
    if not ours & theirs:
        raise IncomparableRuns(
            f"no subject is in both: {names[0]} has {_few(ours)}; {names[1]} has {_few(theirs)}."
        )


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 2} more" if len(listed) > 2 else ""
    return ", ".join(listed[:2]) + more


def _side(run: Run) -> Side:
    return Side(
        versions=dict(sorted({n: v for s in run.subjects for n, v in s.versions.items()}.items())),
        python=_interpreter(run),
        platform=run.environment.platform,
        lossaudit=run.lossaudit,
        started=run.started,
        seconds=run.seconds,
        depth=run.depth,
        seed=run.seed,
        complete=run.complete,
        subjects=len(run.subjects),
        findings=dict(Counter(finding.kind for finding in run.findings)),
    )


def _interpreter(run: Run) -> str:
    """The Python of the workers, which need not be that of lossaudit."""
    found = {facts["python"] for facts in run.environment.workers.values() if "python" in facts}
    return ", ".join(sorted(found)) or "not said"


def _notes(old: Run, new: Run, names: tuple[str, str]) -> list[str]:
    notes = []
    if old.depth != new.depth:
        notes.append(
            f"{names[0]} has the depth {old.depth} and {names[1]} {new.depth}: what one of them "
            "alone asked is not compared"
        )
    if old.lossaudit != new.lossaudit:
        notes.append(
            f"made by lossaudit {old.lossaudit} and {new.lossaudit}: grades may differ for that"
        )
    notes += [
        f"{name} is not complete: what it lacks is not compared"
        for run, name in zip((old, new), names, strict=True)
        if not run.complete
    ]
    asked = [{law.name for law in run.laws} & set(ASKING) for run in (old, new)]
    return notes + [
        f"the law {law} is in one run alone: its calls are not compared"
        for law in sorted(asked[0] ^ asked[1])
    ]


def _unmeasured(old: Run, new: Run) -> Iterator[str]:
    """What is said of fields that were measured before and can no longer be."""
    for then, now in _measured_before(old, new):
        if not now.measured:
            yield (
                f"{anywhere(now.subject)}: {now.field} was {then.measured!r} and cannot be "
                f"measured now: {now.evidence}"
            )


def _conventions(old: Run, new: Run) -> list[ConventionChange]:
    """Fields that were measured in both, and measured otherwise."""
    return [
        ConventionChange(
            subject=anywhere(now.subject),
            field=now.field,
            old=then.measured,
            new=now.measured,
            input=now.input or then.input,
            evidence=now.evidence,
        )
        for then, now in _measured_before(old, new)
        if now.measured and now.measured != then.measured
    ]


def _measured_before(old: Run, new: Run) -> Iterator[tuple[Convention, Convention]]:
    """The fields that the old run measured, each with what the new one says of it."""
    before = {(anywhere(c.subject), c.field): c for c in old.conventions if c.measured}
    for now in new.conventions:
        then = before.get((anywhere(now.subject), now.field))
        if then is not None:
            yield then, now


def _presence(old: Run, new: Run) -> list[Presence]:
    """Subjects that one complete run lacks, or whose framework one run says to be absent."""
    return [*_missing(old, new, "gone"), *_missing(new, old, "new")]


def _missing(having: Run, lacking: Run, state: Literal["gone", "new"]) -> Iterator[Presence]:
    there = {anywhere(record.name) for record in lacking.subjects}
    for record in having.subjects:
        name = anywhere(record.name)
        reason = _absence(lacking, name)
        if name not in there and (lacking.complete or reason):
            said = reason or "was not audited there"
            yield Presence(subject=name, part="", state=state, reason=said)


def _absence(run: Run, subject: str) -> str:
    framework = subject.partition(":")[0]
    absent = (a.reason for a in run.absent if a.framework.partition("@")[0] == framework)
    return next(absent, "")


def _offered(old: Run, new: Run) -> list[Presence]:
    """Dtypes and options that one side asked of a subject of both, and the other has none of."""
    if not _alike(old, new):
        return []
    before, after = (_asked_of(run) for run in (old, new))
    return [*_lacking(before, after, "gone"), *_lacking(after, before, "new")]


def _lacking(
    having: dict[str, set[str]], lacking: dict[str, set[str]], state: Literal["gone", "new"]
) -> Iterator[Presence]:
    for subject in sorted(having.keys() & lacking.keys()):
        for part in sorted(having[subject] - lacking[subject]):
            reason = "is not offered there"
            yield Presence(subject=subject, part=part, state=state, reason=reason)


def _without_answers(old: Run, new: Run, names: tuple[str, str]) -> Iterator[str]:
    """What is said of dtypes that both have, and only one has answers of; and of faults."""
    sides = list(zip((old, new), names, strict=True))
    dtypes = [{(anywhere(r.name), d) for r in run.subjects for d in r.dtypes} for run, _ in sides]
    answered = [{(anywhere(a.subject), a.dtype) for a in run.answers} for run, _ in sides]
    for subject, dtype in sorted((answered[0] ^ answered[1]) & dtypes[0] & dtypes[1]):
        lacking = names[(subject, dtype) in answered[0]]
        yield f"{subject} {dtype}: {lacking} has no answers of it, and so it is not compared"
    for run, name in sides:
        if faults := run.faults():
            yield f"{name}: lossaudit itself failed in {len(faults)} parts, which are not compared"


def _alike(old: Run, new: Run) -> bool:
    """Whether both asked all that the same settings ask."""
    settings = [(run.depth, [law.name for law in run.laws], run.lossaudit) for run in (old, new)]
    return old.complete and new.complete and settings[0] == settings[1]


def _unpaired(before: Answers, after: Answers, parts: set[str]) -> list[str]:
    """What is said of calls that one run lacks, beside those of what came or went."""
    ours, theirs = (
        {plan_of(call) for call in answers.calls if not parts & set(call.options)}
        for answers in (before, after)
    )
    alone = len(ours ^ theirs)
    where = f"{anywhere(before.subject)} {before.dtype}"
    return [f"{where}: {alone} calls are in one run alone, and not compared"] if alone else []


def _asked_of(run: Run) -> dict[str, set[str]]:
    """The dtypes of each subject, and the options that it was asked."""
    found = {anywhere(record.name): set(record.dtypes) for record in run.subjects}
    for answers in run.answers:
        options = (option for call in answers.calls for option in call.options)
        found.setdefault(anywhere(answers.subject), set()).update(options)
    return found


def _follows(convention: ConventionChange, presence: list[Presence]) -> bool:
    """Whether a convention is measured otherwise only as its subject or option came or went."""
    parts = {p.part for p in presence if p.subject == convention.subject}
    return "" in parts or OF_OPTION.get(convention.field) in parts


def _whole(presence: list[Presence], old: Run) -> list[Presence]:
    """A subject that is gone or new in every dtype is so as a whole."""
    dtypes: dict[str, set[str]] = {}
    for answers in old.answers:
        dtypes.setdefault(anywhere(answers.subject), set()).add(answers.dtype)
    found: dict[tuple[str, str, str], Presence] = {}
    for one in presence:
        parts = {p.part for p in presence if (p.subject, p.state) == (one.subject, one.state)}
        part = "" if dtypes.get(one.subject, {""}) <= parts else one.part
        whole = msgspec.structs.replace(one, part=part)
        found.setdefault((one.subject, part, one.state), whole)
    return list(found.values())
