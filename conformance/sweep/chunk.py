"""One chunk of a sweep, done in this process: what any engine calls, here or on another machine."""

from __future__ import annotations

import atexit
import threading
import time

import msgspec
import numpy as np

from ...adapters.client import WorkerPool
from .block import Asker, Clock, Question, Tallies
from .patterns import binades
from .plan import Asking, Job
from .tally import Seen, Tally


class Told(msgspec.Struct, array_like=True):
    """What was seen of one output for one target, on lines of one name."""

    name: str
    target: int
    output: str
    seen: Seen


class Done(msgspec.Struct, kw_only=True):
    """A chunk that was done.

    Attributes:
        number: its place in `Job.chunks()`.
        told: what was seen.
        framework, reference, judging: seconds of a processor.
        seconds: from its beginning to its end.
        versions: of the framework's packages.
        facts: what moves the framework's numbers where it ran.
    """

    number: int
    told: list[Told]
    framework: float
    reference: float
    judging: float
    seconds: float
    versions: dict[str, str]
    facts: dict[str, str]


class _Here(threading.local):
    """The worker and the memory of a thread, kept from chunk to chunk."""

    python: str = ""
    asker: Asker | None = None
    pool: WorkerPool | None = None


_HERE = _Here()


def _asker(python: str) -> tuple[Asker, WorkerPool]:
    if _HERE.asker is None or _HERE.pool is None or _HERE.python != python:
        _close()
        pool = WorkerPool(python)
        _HERE.python, _HERE.asker, _HERE.pool = python, Asker(pool), pool
        atexit.register(pool.close)
    return _HERE.asker, _HERE.pool


def _close() -> None:
    if _HERE.asker is not None and _HERE.pool is not None:
        _HERE.asker.close()
        _HERE.pool.close()


def _tallies(question: Question, asking: Asking) -> Tallies:
    fields, ends = binades(asking.dtype), asking.ends()
    return {
        (target, output): Tally(fields, ends)
        for target in range(len(question.targets))
        for output in question.outputs
    }


def run_chunk(job: Job, number: int) -> Done:
    """Do one chunk with the worker of this thread, which is started where there is none.

    Raises:
        Unaskable: the op is not there, or not in this mode.
        UnusableFramework: the framework is not.
        CannotSweep: this lossaudit does not know the subject.
    """
    start = time.perf_counter()
    job.demand_here()
    chunk = job.chunks()[number]
    asking = job.askings[chunk.asking]
    question = asking.question(job.interpreter)
    asker, pool = _asker(job.interpreter)
    versions = pool.versions(asking.framework)
    asker.clock = Clock()
    found: dict[str, Tallies] = {}
    with np.errstate(all="ignore"):
        for line in range(chunk.first_line, chunk.last_line):
            name = question.lines.name(line)
            if name not in found:
                found[name] = _tallies(question, asking)
            asker.ask(question, line, (chunk.first, chunk.last), found[name])
    clock = asker.clock
    told = [
        Told(name, target, output, tally.seen())
        for name, tallies in found.items()
        for (target, output), tally in tallies.items()
    ]
    return Done(
        number=number,
        told=told,
        framework=clock.framework,
        reference=clock.reference,
        judging=clock.judging,
        seconds=time.perf_counter() - start,
        versions=versions,
        facts=pool.facts(asking.framework),
    )
