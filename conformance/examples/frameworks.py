"""Asks several frameworks for examples, each in a process of its own, without an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from ...adapters.client import UnusableFramework, WorkerPool
from ...adapters.environments import Environment, availability
from ...adapters.registry import FRAMEWORKS
from ..engine import Emit, Task, audited_in, run_tasks, turn
from ..events import Event, WorkerReady
from ..run import Absence, ExampleAnswer, Incident
from .entries import Example
from .everything import ask_examples


@dataclass
class Heard:
    """What the frameworks said, in whatever order."""

    answers: list[ExampleAnswer] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        match event:
            case ExampleAnswer():
                self.answers.append(event)
            case Absence():
                self.absent.append(event)
            case Incident():
                self.incidents.append(event)
            case WorkerReady():
                self.versions[event.worker] = event.facts
            case _:
                pass

    def sorted(self, frameworks: Sequence[str]) -> Heard:
        """The same in the order of the frameworks, whichever was faster."""
        return Heard(
            sorted(self.answers, key=lambda a: frameworks.index(a.subject.partition(":")[0])),
            sorted(self.absent, key=lambda a: frameworks.index(a.framework)),
            self.incidents,
            {name: self.versions[name] for name in frameworks if name in self.versions},
        )

    def faults(self) -> list[Incident]:
        """What failed by a fault of lossaudit's own."""
        return [each for each in self.incidents if each.message.startswith("internal:")]


def ask_frameworks(
    frameworks: Sequence[str], examples: Sequence[Example], emit: Emit, jobs: int
) -> None:
    """Say the answers as they come, the versions of what was asked, and what is not installed.

    Raises:
        KeyboardInterrupt: after the processes were ended; what was said until then stands.
    """
    tasks = []
    for name in frameworks:
        if reason := availability(FRAMEWORKS[name], Environment()):
            emit(Absence(framework=name, reason=reason, hint=FRAMEWORKS[name].install))
            continue
        work = partial(_ask, name, tuple(examples))
        tasks.append(Task(name, work, emit, turn=turn(name, compiled=False)))
    run_tasks(tasks, jobs)


def _ask(name: str, examples: Sequence[Example], emit: Emit) -> None:
    framework = FRAMEWORKS[name]
    with WorkerPool() as pool:
        try:
            emit(WorkerReady(name, pool.versions(name)))
            every = audited_in(framework, Environment(), "standard", "cpu")
            subjects = [subject for subject in every if not subject.compiled]
            ask_examples(pool, subjects, examples, emit)
        except UnusableFramework as error:
            emit(Absence(framework=name, reason=error.reason, hint=framework.install))
