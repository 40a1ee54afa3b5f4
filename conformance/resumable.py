"""A whole audit, whose next start goes on where one that was interrupted or killed has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..adapters.environments import Environment
from ..adapters.installation import installed
from .asked import asked
from .engine import Emit, Settings, Task, audit_all
from .events import Event, SubjectFinished
from .journal import Journal, begun_with, locked, unlock
from .peers import peer_tasks
from .recorder import Recorder
from .run import Run


@dataclass(frozen=True)
class Question:
    """What an audit is asked for; `jobs` is the number of its processes."""

    frameworks: tuple[str, ...]
    environments: tuple[Environment, ...]
    settings: Settings
    jobs: int

    def about(self) -> dict[str, str]:
        """What must be the same in another start that goes on from this one."""
        each = [(e.name, e.python, installed(e)) for e in self.environments]
        return {
            **asked(self.frameworks, self.settings),
            "frameworks": ", ".join(self.frameworks),
            "environments": json.dumps([(name, python) for name, python, _ in each]),
            "installed packages": json.dumps([packages for _, _, packages in each]),
        }


def journal_beside(files: Sequence[Path | None]) -> Path | None:
    """Where an audit is kept that writes some files: beside the first; nowhere without one."""
    for file in files:
        if file is not None and (file.is_file() or not file.exists()):
            return file.with_name(f"{file.name}.journal")
    return None


def with_the_seed_of(file: Path | None, question: Question) -> Question | None:
    """The question under the seed of a journal that was begun with the rest of it, if there is one.

    For a seed that nobody chose: another one would be another audit.
    """
    begun = begun_with(file) if file is not None else {}
    try:
        seed = int(begun["seed"])
    except (KeyError, ValueError):
        return None
    same = replace(question, settings=replace(question.settings, seed=seed))
    return same if same.about() == begun else None


class Audit:
    """Audits into a journal, where there is one, and asks what is not in it yet.

    Raises:
        RunFileError: another start is at work with the same journal.
    """

    def __init__(self, question: Question, file: Path | None, progress: Emit) -> None:
        self._question, self._progress = question, progress
        self._lock: IO[bytes] | None = None
        self.journal: Journal | None = None
        if file is not None:
            busy = f"another `lossaudit run` writes to {file}: wait for it, or name another --out."
            self._lock = locked(file.with_name(f"{file.name}.lock"), busy)
        try:
            if file is not None:
                self.journal = Journal(file, question.about())
            before = self.journal.earlier.seconds if self.journal else 0.0
            self._recorder = Recorder(question.settings, before)
            for event in self.journal.earlier.events if self.journal else ():
                self._recorder(event)
        except BaseException:  # Ctrl-C too: the lock is let go
            self.close(done=False)
            raise

    @property
    def finished_before(self) -> int:
        """Subjects that an earlier start has finished."""
        events = self.journal.earlier.events if self.journal else ()
        return sum(isinstance(event, SubjectFinished) for event in events)

    def audit(self) -> None:
        """Audit what is left, then ask others for the inputs of findings.

        Raises:
            KeyboardInterrupt: what was seen until then is kept; `run` says it.
        """
        question = self._question
        what = (question.frameworks, question.settings, self._hear)

        def then() -> list[Task]:
            seen = self.run(complete=True)
            # What was lost may be audited by the next start, and find what is then to be asked.
            journal = None if seen.faults() else self.journal
            return peer_tasks(seen, *what, question.environments, journal)

        audit_all(*what, question.jobs, question.environments, self.journal, then)

    def _hear(self, event: Event) -> None:
        self._recorder(event)
        self._progress(event)

    def run(self, *, complete: bool) -> Run:
        """What was seen so far."""
        return self._recorder.run(complete=complete)

    def close(self, *, done: bool) -> None:
        """Keep the journal for another start, or remove it where everything was written."""
        if self.journal is not None:
            if done:
                self.journal.remove()
            else:
                self.journal.close()
        if self._lock is not None:
            unlock(self._lock)
