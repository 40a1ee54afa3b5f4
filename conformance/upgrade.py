"""An upgrade audited: both environments side by side, compared, and searched for differences.

What an interrupted start has seen is on disk, and the next one goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..adapters.environments import Environment
from .answers import ASKING
from .asked import asked
from .compare import compare
from .comparison import Change, Comparison, Difference, LawChange
from .differences import Measured, Search, search_all
from .engine import CONVENTIONS, Emit, Settings, Side, audit_sides
from .events import Event, WorkerReady
from .journal import Journal, locked, subject_of, unlock
from .laws.value import GRADIENT
from .recorder import Recorder
from .run import Finding, Run

OF_ROWS = {*ASKING, GRADIENT.name, CONVENTIONS.name}
"""Laws whose calls are compared row by row: their findings need not be asked again."""

SIDES = ("old", "new")


@dataclass(frozen=True)
class Question:
    """What an upgrade is asked for.

    Attributes:
        frameworks: names of those that are audited.
        environments: the old and the new one, neither with a name.
        packages: what is installed in each: another start goes on only where that is the same.
        settings: of both audits and of the search.
        jobs: processes.
    """

    frameworks: tuple[str, ...]
    environments: tuple[Environment, Environment]
    packages: tuple[dict[str, str], dict[str, str]]
    settings: Settings
    jobs: int


class Upgrade:
    """Audits both sides into a folder of journals, then compares and searches them."""

    def __init__(self, question: Question, folder: Path, progress: Emit) -> None:
        self._question, self._progress = question, progress
        busy = (
            f"another `lossaudit upgrade` is at work in {folder}: wait for it, or name another "
            "folder with --out."
        )
        self._lock = locked(folder / ".lock", busy)
        self._journals = [
            Journal(folder / f"{name}.journal", _about(question, side))
            for side, name in enumerate(SIDES)
        ]
        self._recorders = [
            Recorder(question.settings, journal.earlier.seconds) for journal in self._journals
        ]
        for recorder, journal in zip(self._recorders, self._journals, strict=True):
            for event in journal.earlier.events:
                # The earlier start may have been asked for more.
                if isinstance(event, WorkerReady) or self._is_asked(subject_of(event)):
                    recorder(event)

    def _is_asked(self, subject: str) -> bool:
        return subject.partition(":")[0] in self._question.frameworks

    @property
    def finished_before(self) -> int:
        """Subjects that an earlier start has finished, on both sides together."""
        finished = (name for journal in self._journals for name in journal.earlier.finished)
        return sum(1 for name in finished if self._is_asked(name))

    def audit(self) -> tuple[Run, Run]:
        """Audit what is left of both environments.

        Raises:
            KeyboardInterrupt: what was seen until then is kept; `runs` says it.
        """
        sides = [
            Side(environment, self._emit(side), self._journals[side])
            for side, environment in enumerate(self._question.environments)
        ]
        audit_sides(self._question.frameworks, self._question.settings, sides, self._question.jobs)
        return self.runs(complete=True)

    def _emit(self, side: int) -> Emit:
        def emit(event: Event) -> None:
            self._recorders[side](event)
            self._progress(event)

        return emit

    def runs(self, *, complete: bool) -> tuple[Run, Run]:
        """What was seen so far."""
        old, new = (recorder.run(complete=complete) for recorder in self._recorders)
        return old, new

    def compare(self, old: Run, new: Run) -> Comparison:
        """Compare both runs, each side under the versions that tell it from the other."""
        comparison = compare(old, new, ("the old version", "the new version"))
        ours, theirs = self._question.packages
        if comparison.old.versions == comparison.new.versions:
            # What a user's own file imports is in no subject's record.
            changed = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
            for versions, packages in (
                (comparison.old.versions, ours),
                (comparison.new.versions, theirs),
            ):
                versions.update({n: v for n, v in packages.items() if n in changed})
        return comparison

    def search(self, old: Run, new: Run, comparison: Comparison) -> None:
        """Search for differences beyond the corpus, and ask again what one run alone has found.

        Raises:
            KeyboardInterrupt: the comparison holds what was found until then.
        """
        question = self._question
        search = Search(
            question.environments,
            question.settings,
            _measured(old, new, comparison),
            tuple(_alone(old, new)),
            tuple(comparison.changes),
        )
        places = {_key(change): place for place, change in enumerate(comparison.changes)}

        def emit(event: Event) -> None:
            if isinstance(event, Difference):
                comparison.searched.append(event)
            elif isinstance(event, LawChange):
                comparison.laws.append(event)
            elif isinstance(event, Change):
                comparison.changes[places[_key(event)]] = event
            else:
                self._progress(event)

        try:
            search_all(question.frameworks, search, emit, question.jobs)
        finally:
            comparison.searched.sort(key=lambda d: (d.subject, d.dtype, d.output))
            comparison.laws.sort(key=lambda c: (c.state, c.subject, c.finding))

    def close(self, *, done: bool) -> None:
        """Keep the journals for another start, or remove them where everything was said."""
        for journal in self._journals:
            if done:
                journal.remove()
            else:
                journal.close()
        unlock(self._lock)


def _about(question: Question, side: int) -> dict[str, str]:
    """What a journal must have been begun with, to be gone on with."""
    return {
        **asked(question.frameworks, question.settings),
        "side": SIDES[side],
        "python": question.environments[side].python,
        "packages": json.dumps(question.packages[side], sort_keys=True),
    }


def _key(change: Change) -> tuple[str, ...]:
    return (change.kind, change.subject, change.dtype, change.region, change.output)


def _measured(old: Run, new: Run, comparison: Comparison) -> Measured:
    """The conventions of what both runs have and use, as the new one measured them."""
    before = {(answers.subject, answers.dtype) for answers in old.answers}
    one_sided = {(p.subject, p.part) for p in comparison.presence}
    return {
        (answers.subject, answers.dtype): answers.semantics
        for answers in new.answers
        if (answers.subject, answers.dtype) in before
        and not one_sided & {(answers.subject, ""), (answers.subject, answers.dtype)}
    }


def _alone(old: Run, new: Run) -> Iterator[tuple[Finding, bool]]:
    """Findings of one run alone, of laws that relate calls: those of rows are compared already."""
    ids = [{finding.id for finding in run.findings} for run in (old, new)]
    for side, run in enumerate((old, new)):
        for finding in run.findings:
            if finding.id not in ids[1 - side] and finding.law not in OF_ROWS:
                yield finding, side == 1
