"""What the pytest front keeps for a whole session: workers, the auditor of each framework, the Run.

The plugin calls `finish`, `write_part` and `merge_parts` when a session ends.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ...adapters.client import WorkerPool
from ...adapters.environments import availability
from ...adapters.registry import FRAMEWORKS, audited, members, usual
from ...adapters.subject import Subject
from ..engine import Auditor, Settings, workers_ready
from ..events import Event
from ..known import load
from ..law import Law
from ..plugin import OPTIONS, RUN, Options
from ..recorder import Recorder
from ..run import Absence, Finding, KnownRecord, Run, read_run, write_run

_BY_CONFIG = pytest.StashKey["Session"]()


class Session:
    """One pool of workers and one recorder for all tests of a session."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.settings = Settings(options.depth, options.seed or 0, (), load())
        self.recorder = Recorder(self.settings)
        self._pool = WorkerPool()
        self._auditors: dict[str, Auditor] = {}
        self._heard: list[Event] = []
        self._probed: dict[str, list[Event]] = {}

    def audit(self, subject: Subject, law: Law, dtype: str) -> list[Event]:
        """Audit one cell and return what was said of it."""
        self.probe(subject)
        versions = self._pool.versions(subject.framework)
        self._heard.clear()
        self._auditor(subject.framework).cell(subject, law, dtype, versions)
        return list(self._heard)

    def probe(self, subject: Subject) -> list[Event]:
        """Measure the conventions of a subject, once, and return what was said of them."""
        if subject.name not in self._probed:
            self._heard.clear()
            auditor = self._auditor(subject.framework)
            self._hear(auditor.record(subject, self._pool.versions(subject.framework)))
            auditor.probe(subject)
            self._probed[subject.name] = list(self._heard)
        return self._probed[subject.name]

    def _auditor(self, framework: str) -> Auditor:
        if framework not in self._auditors:
            subjects = audited(FRAMEWORKS[framework], self.options.depth)
            self._auditors[framework] = Auditor(self._pool, subjects, self.settings, self._hear)
        return self._auditors[framework]

    def _hear(self, event: Event) -> None:
        self.recorder(event)
        self._heard.append(event)

    def close(self, *, complete: bool) -> Run:
        """The Run of the session; ends the workers."""
        for ready in workers_ready(self._pool):
            self.recorder(ready)
        self._pool.close()
        for absence in absences(self.options):
            self.recorder(absence)
        return self.recorder.run(complete=complete)


def absences(options: Options) -> list[Absence]:
    """The frameworks that would be audited and are not installed."""
    found = []
    for name in members(options.backends or usual(options.depth)):
        reason = availability(FRAMEWORKS[name])
        if reason:
            hint = FRAMEWORKS[name].install
            found.append(Absence(framework=name, reason=reason, hint=hint))
    return found


def session(config: pytest.Config) -> Session:
    """The session of a pytest run, made when the first test asks for it."""
    if _BY_CONFIG not in config.stash:
        config.stash[_BY_CONFIG] = Session(config.stash[OPTIONS])
    return config.stash[_BY_CONFIG]


def new_or_gone(events: list[Event]) -> list[Finding | KnownRecord]:
    """What makes a test fail."""
    new = [e for e in events if isinstance(e, Finding) and e.status == "new"]
    gone = [e for e in events if isinstance(e, KnownRecord) and e.state == "gone"]
    return [*new, *gone]


def finish(config: pytest.Config, *, complete: bool) -> list[str]:
    """Write the files that were asked for, after a run in one process."""
    if _BY_CONFIG not in config.stash:
        return []
    return _written(config.stash[_BY_CONFIG].close(complete=complete), config)


def write_part(config: pytest.Config, folder: Path, *, complete: bool) -> None:
    """Leave what this pytest-xdist worker saw for the controller."""
    if _BY_CONFIG in config.stash:
        name = config.workerinput["workerid"]  # type: ignore[attr-defined]
        write_run(config.stash[_BY_CONFIG].close(complete=complete), folder / f"{name}.json")


def merge_parts(config: pytest.Config, folder: Path, *, complete: bool) -> list[str]:
    """Make one Run of the parts of the pytest-xdist workers."""
    parts = [read_run(path) for path in sorted(folder.glob("*.json"))]
    if not parts:
        return []
    run = merged(parts)
    return _written(msgspec.structs.replace(run, complete=run.complete and complete), config)


def merged(parts: list[Run]) -> Run:
    """One Run of several that looked at different cells under the same settings."""
    settings = Settings(parts[0].depth, parts[0].seed, (), load())
    recorder = Recorder(settings)
    heard: set[bytes] = set()
    for part in parts:
        for name in ("subjects", "absent", "tallies", "findings", "incidents", "worst", "implied"):
            for item in getattr(part, name):
                # Every worker probes the subjects that it meets, so that what it says comes twice.
                said = msgspec.json.encode(item)
                if said not in heard:
                    heard.add(said)
                    recorder(item)
    run = recorder.run(complete=all(part.complete for part in parts))
    conventions = {(c.subject, c.field): c for part in parts for c in part.conventions}
    known = {k.entry: k for part in parts for k in part.known if k.state == "not looked at"}
    known |= {k.entry: k for part in parts for k in part.known if k.state == "seen"}
    known |= {k.entry: k for part in parts for k in part.known if k.state == "gone"}
    workers = {k: v for part in parts for k, v in part.environment.workers.items()}
    return msgspec.structs.replace(
        run,
        started=min(part.started for part in parts),
        seconds=max(part.seconds for part in parts),
        conventions=[conventions[key] for key in sorted(conventions)],
        known=[known[key] for key in sorted(known)],
        environment=msgspec.structs.replace(run.environment, workers=workers),
    )


def _written(run: Run, config: pytest.Config) -> list[str]:
    options = config.stash[OPTIONS]
    config.stash[RUN] = run  # for the report, which lives above this room
    lines = []
    if options.run_file is not None:
        write_run(run, options.run_file)
        lines.append(f"run: {options.run_file}")
    return lines + [f"absent: {item.framework} ({item.reason})" for item in run.absent]
