"""What the engine says while it works. Reporters consume these; the engine knows none of them."""

from __future__ import annotations

from dataclasses import dataclass

from .comparison import Change, Difference, LawChange
from .run import (
    Absence,
    Answers,
    Convention,
    ExampleAnswer,
    Finding,
    Implied,
    Incident,
    KnownRecord,
    MisuseCurve,
    MisuseTraining,
    Peers,
    Profiled,
    SubjectRecord,
    Tally,
    Worst,
)


@dataclass(frozen=True)
class PlanMade:
    """How many cells (law, subject, dtype) will be looked at."""

    cells: int


@dataclass(frozen=True)
class CellStarted:
    subject: str
    law: str
    dtype: str


@dataclass(frozen=True)
class CellFinished:
    subject: str
    law: str
    dtype: str
    rows: int
    worst: str


@dataclass(frozen=True)
class SubjectFinished:
    """All that there is to see of a subject was said."""

    subject: str


@dataclass(frozen=True)
class StepFinished:
    """All was said of something that is asked beside subjects, by a name of its own."""

    step: str


@dataclass(frozen=True)
class WorkerReady:
    """A worker process told what it is (versions, threads, flags)."""

    worker: str
    facts: dict[str, str]


Event = (
    PlanMade
    | CellStarted
    | CellFinished
    | SubjectFinished
    | StepFinished
    | WorkerReady
    | Tally
    | Finding
    | Convention
    | SubjectRecord
    | Absence
    | Incident
    | KnownRecord
    | Worst
    | Implied
    | Answers
    | Peers
    | MisuseCurve
    | MisuseTraining
    | ExampleAnswer
    | Profiled
    | Change
    | Difference
    | LawChange
)
