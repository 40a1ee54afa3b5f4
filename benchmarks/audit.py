"""Where the time of an audit goes: `python benchmarks/audit.py [--depth D] [--backend NAME]`.

First audits one part after the other in one process and prints a table: judged rows, wall and
processor seconds of the part with its workers, and the shares of the wall time. These are

    starting       workers that start and import their framework
    framework      the op and its gradient, as the worker measures it
    reaching it    the process between
    exact values   the reference
    bounds         the derived ones
    drawing        cases, and Hypothesis
    judging        laws and verdicts
    shrinking      all that it takes to make findings small, what it asks and computes too
    the rest       probing, profiles, what others answer, what is said

and add up to it. Exact values of one part serve the next: the first one pays for what they share.
With `--backend NAME` the parts of one framework, which then share with none.

Then the whole as `lossaudit run` does it, in two processes, with what others answer to the inputs
of findings: its wall and processor seconds, and what is left without the starts of the workers.

What was measured: docs/audit-cost.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from machine import machine

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import Environment
from lossaudit.adapters.registry import members, usual
from lossaudit.adapters.subject import Subject
from lossaudit.conformance import bench, cell, engine
from lossaudit.conformance.cell import PROFILES
from lossaudit.conformance.engine import CONVENTIONS, Part, Settings, plan
from lossaudit.conformance.events import Event
from lossaudit.conformance.known import load
from lossaudit.conformance.law import Law
from lossaudit.conformance.resumable import Audit, Question
from lossaudit.conformance.run import Tally
from lossaudit.reference.vocabulary import Case, Outcome

REST, SHRINKING = "the rest", "shrinking"
SHARES = (
    *("starting", "framework", "reaching it", "exact values", "bounds", "drawing", "judging"),
    *(SHRINKING, REST),
)


JOBS = 2


class Clock:
    """Seconds by what they were spent on, each second once: the innermost name has it.

    What happens while findings are made small is shrinking, whatever it is.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._names = [REST]
        self._since = time.perf_counter()

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Count what happens inside under a name."""
        self._lap()
        self._names.append(name)
        try:
            yield
        finally:
            self._lap()
            self._names.pop()

    def move(self, source: str, target: str, seconds: float) -> None:
        """Say that some of what counted as one was another."""
        if SHRINKING not in self._names:
            self.seconds[source] -= seconds
            self.seconds[target] += seconds

    def _lap(self) -> None:
        now = time.perf_counter()
        name = SHRINKING if SHRINKING in self._names else self._names[-1]
        self.seconds[name] += now - self._since
        self._since = now


CLOCKS = [Clock()]
"""The clock of the part that is audited, in the last place."""


def counted(home: Any, function: str, name: str) -> None:
    """Have a function that is looked up there at each call counted under a name."""
    plain: Callable[..., Any] = getattr(home, function)

    def timed(*arguments: Any, **keywords: Any) -> Any:
        with CLOCKS[-1].on(name):
            return plain(*arguments, **keywords)

    setattr(home, function, timed)


class TimedPool(WorkerPool):
    """A pool that says how long calls took, and how much of it the framework."""

    def ask(self, subject: Subject, case: Case) -> Outcome:
        self.nanoseconds = 0
        with CLOCKS[-1].on("reaching it"):
            outcome = super().ask(subject, case)
        CLOCKS[-1].move("reaching it", "framework", self.nanoseconds / 1e9)
        return outcome


def listen() -> None:
    """Count what the engine, its cells and its benches call."""
    engine.WorkerPool = TimedPool
    counted(TimedPool, "_load", "starting")
    for function in ("truth", "target_truth"):
        counted(bench, function, "exact values")
    for function in ("bounds", "target_bounds"):
        counted(bench, function, "bounds")
    for function in ("make_case", "climb"):
        counted(cell, function, "drawing")
    counted(bench, "_drawn", "drawing")
    counted(Law, "verdicts", "judging")
    counted(cell.Cell, "_smallest", SHRINKING)


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def measure(part: Part, settings: Settings) -> tuple[int, float, float, dict[str, float]]:
    """Rows judged, wall and processor seconds, and wall seconds by what they were spent on."""
    rows = 0

    def count(event: Event) -> None:
        nonlocal rows
        if isinstance(event, Tally) and event.law != CONVENTIONS.name:
            rows += event.rows

    begun, start = processor_seconds(), time.perf_counter()
    CLOCKS[-1] = clock = Clock()
    with clock.on(REST):
        engine.audit_part(part, settings, count)
    return rows, time.perf_counter() - start, processor_seconds() - begun, clock.seconds


def whole(names: list[str], settings: Settings) -> tuple[float, float]:
    """Wall and processor seconds of an audit in JOBS processes."""
    begun, start = processor_seconds(), time.perf_counter()
    audit = Audit(Question(tuple(names), (Environment(),), settings, JOBS), None, lambda _: None)
    audit.audit()
    wall = time.perf_counter() - start
    audit.close(done=True)
    return wall, processor_seconds() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--depth", default="standard")
    parser.add_argument("--backend", action="append", help="those of the depth if none")
    parser.add_argument("--mode", choices=("eager", "compiled"), help="both, then all, if none")
    asked = parser.parse_args()
    listen()
    names = members(asked.backend) if asked.backend else usual(asked.depth)
    parts, _ = plan(names, asked.depth)
    settings = Settings(asked.depth, known=load(), beside=PROFILES[asked.depth].beside)
    print(f"{machine()}; depth {asked.depth}")
    head = "".join(f"{name:>14}" for name in SHARES)
    print(f"{'part':24}{'rows':>11}{'s':>7}{'CPU s':>7}{head}", flush=True)
    starts: dict[str, float] = {}
    for part in sorted(parts, key=engine.turn_of):
        if asked.mode and not part.name.endswith(asked.mode):
            continue
        rows, wall, processor, spent = measure(part, settings)
        shares = "".join(f"{spent[name] / wall:>14.0%}" for name in SHARES)
        print(f"{part.name:24}{rows:>11,}{wall:>7.0f}{processor:>7.0f}{shares}", flush=True)
        # Later parts of a framework find the workers of the first one.
        starts.setdefault(part.home, spent["starting"])
    if asked.mode is None:
        wall, processor = whole(names, settings)
        after = wall - sum(starts.values()) / JOBS
        print(f"whole, {JOBS} processes: {wall:.0f} s, {processor:.0f} CPU s; {after:.0f} s after")
        print(f"the starts of workers, which take {sum(starts.values()):.0f} s of one process")


if __name__ == "__main__":
    main()
