"""Collects the events of an audit into a Run that is valid at every moment."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

import msgspec

from .. import __version__
from ..adapters.registry import FRAMEWORKS
from .engine import CONVENTIONS, Settings
from .events import Event, WorkerReady
from .examples.everything import verdicts
from .known import Entry
from .peers import merged
from .profiles import merged as profiles_together
from .regions import CORPUS
from .run import (
    Absence,
    Answers,
    Convention,
    Environment,
    ExampleAnswer,
    Finding,
    IdiomsRecord,
    Implied,
    Incident,
    KnownRecord,
    LawRecord,
    MisuseCurve,
    MisuseTraining,
    Peers,
    Profiled,
    Run,
    SubjectRecord,
    Tally,
    Worst,
)


class Recorder:
    """Takes events in any order; `run()` may be asked for at any time.

    Args:
        before: seconds that an earlier start of the same audit has spent.
    """

    def __init__(self, settings: Settings, before: float = 0.0) -> None:
        self._settings = settings
        self._started = datetime.now(UTC)
        self._clock = time.monotonic() - before
        self._subjects: dict[str, SubjectRecord] = {}
        self._absent: dict[str, Absence] = {}
        self._tallies: list[Tally] = []
        self._findings: dict[str, Finding] = {}
        self._conventions: list[Convention] = []
        self._incidents: list[Incident] = []
        self._known: list[KnownRecord] = []
        self._worst: list[Worst] = []
        self._implied: list[Implied] = []
        self._answers: dict[tuple[str, str], Answers] = {}
        self._peers: list[Peers] = []
        self._misuse: dict[tuple[str, ...], MisuseCurve] = {}
        self._training: dict[tuple[str, ...], MisuseTraining] = {}
        self._profiles: list[Profiled] = []
        self._examples: dict[tuple[str, ...], ExampleAnswer] = {}
        self._workers: dict[str, dict[str, str]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case SubjectRecord():
                self._subjects[event.name] = event
            case Absence():
                self._absent[event.framework] = event
            case Tally():
                self._tallies.append(event)
            case Finding():
                self._findings[event.id] = event
            case Convention():
                self._conventions.append(event)
            case Incident():
                self._incidents.append(event)
            case KnownRecord():
                self._known.append(event)
            case Worst():
                self._worst.append(event)
            case Implied():
                self._implied.append(event)
            case Answers():
                self._add_answers(event)
            case Peers():
                self._peers.append(event)
            case MisuseCurve():
                where = (event.misuse, event.subject, event.quantity, event.series)
                self._misuse[where] = event
            case MisuseTraining():
                self._training[event.misuse, event.subject, event.series] = event
            case Profiled():
                self._profiles.append(event)
            case ExampleAnswer():
                where = (event.example, event.figure, event.case, event.subject, event.dtype)
                self._examples[where] = event
            case WorkerReady():
                self._workers[event.worker] = event.facts
            case _:
                pass  # progress is for whoever shows it

    def _add_answers(self, more: Answers) -> None:
        """One record for each subject and dtype, of the calls of all laws that keep theirs."""
        key = (more.subject, more.dtype)
        before = self._answers[key].calls if key in self._answers else []
        self._answers[key] = msgspec.structs.replace(more, calls=[*before, *more.calls])

    def run(self, *, complete: bool) -> Run:
        """Everything seen so far, in an order that does not depend on which process was faster."""
        return Run(
            lossaudit=__version__,
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._clock, 1),
            depth=self._settings.depth,
            seed=self._settings.seed,
            corpus=CORPUS,
            complete=complete,
            environment=_environment(self._workers),
            subjects=sorted(self._subjects.values(), key=lambda s: _place(s.name)),
            absent=sorted(self._absent.values(), key=lambda a: _place(a.framework)),
            laws=[
                CONVENTIONS,
                *(
                    LawRecord(name=law.name, statement=law.statement, source=law.source)
                    for law in self._settings.chosen_laws()
                ),
            ],
            tallies=sorted(self._tallies, key=_tally_order),
            findings=sorted(self._findings.values(), key=_finding_order),
            # Of each subject in the order in which the probe measures them.
            conventions=sorted(self._conventions, key=lambda c: _place(c.subject)),
            incidents=sorted(self._incidents, key=lambda i: (i.subject, i.law, i.dtype, i.message)),
            known=_merged(self._settings.known.entries, self._known),
            worst=sorted(self._worst, key=_tally_order),
            implied=sorted(self._implied, key=lambda i: (_place(i.subject), i.dtype, i.output)),
            answers=sorted(self._answers.values(), key=lambda a: (_place(a.subject), a.dtype)),
            peers=merged(sorted(self._peers, key=_peer_order)),
            idioms=idioms(self._subjects.values()),
            # Of each subject in the order in which they are measured.
            misuse=sorted(self._misuse.values(), key=lambda m: _place(m.subject)),
            misuse_training=sorted(self._training.values(), key=lambda m: _place(m.subject)),
            profiles=profiles_together(
                each.profile for each in sorted(self._profiles, key=lambda p: _place(p.subject))
            ),
            # The verdicts are the reference's, and of no worth without an op that was asked.
            examples=list(verdicts()) if self._examples else [],
            example_answers=sorted(self._examples.values(), key=lambda a: _place(a.subject)),
        )


def idioms(subjects: Iterable[SubjectRecord]) -> list[IdiomsRecord]:
    """How each framework with a call is written with, in the order of the registry."""
    homes = sorted({subject.framework for subject in subjects if subject.call}, key=_place)
    each = ((home, FRAMEWORKS[home.partition("@")[0]].idioms) for home in homes)
    return [IdiomsRecord(framework=home, texts=asdict(i)) for home, i in each if i is not None]


def _place(name: str) -> tuple[int, str]:
    """Frameworks in the order of the registry, subjects by name within each."""
    order = list(FRAMEWORKS)
    framework = name.partition(":")[0].partition("@")[0]
    return (order.index(framework) if framework in order else len(order), name)


def _peer_order(peers: Peers) -> tuple[object, ...]:
    return (str(peers.case), _place(peers.answers[0].subjects[0]))


def _tally_order(tally: Tally | Worst) -> tuple[object, ...]:
    return (_place(tally.subject), tally.law, tally.dtype, tally.region, tally.output)


def _finding_order(finding: Finding) -> tuple[object, ...]:
    where = (finding.law, finding.dtype, finding.region, finding.output, finding.kind)
    return (_place(finding.subject), *where)


def _environment(workers: dict[str, dict[str, str]]) -> Environment:
    names = ("lossaudit", "numpy", "hypothesis", "pytest", "msgspec")
    packages = {}
    for name in names:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "not installed as a distribution"
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        processors=os.cpu_count() or 1,
        packages=packages,
        workers=dict(sorted(workers.items())),
    )


def _merged(entries: tuple[Entry, ...], records: list[KnownRecord]) -> list[KnownRecord]:
    """One record per entry that is gone somewhere or was not looked at, one for each seen."""
    merged = []
    for entry in entries:
        mine = [r for r in records if r.entry == entry.id]
        gone = sorted(r.detail for r in mine if r.state == "gone")
        if gone:
            merged.append(KnownRecord(entry=entry.id, state="gone", detail="; ".join(gone)))
        elif mine:
            detail = f"replayed on {len(mine)} subjects, laws and dtypes"
            merged.append(KnownRecord(entry=entry.id, state="seen", detail=detail))
        else:
            detail = "its subject, version, mode or depth is not in this run"
            merged.append(KnownRecord(entry=entry.id, state="not looked at", detail=detail))
    return merged
