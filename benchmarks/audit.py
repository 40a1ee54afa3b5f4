"""Where the time of an audit goes, per framework: `python benchmarks/audit.py [--depth standard]`.

Prints judged rows per second and the shares of the wall time that are spent inside the framework's
op and its gradient (as the worker measures it), in reaching the worker, in the exact values, in the
bounds, and in everything else: drawing, laws, judging, shrinking, starting. One process, one part
after the other; shares are of one run and add up to it.

What was measured: docs/audit-cost.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.subject import Subject
from lossaudit.conformance import bench, engine
from lossaudit.conformance.engine import CONVENTIONS, Part, Settings, plan
from lossaudit.conformance.events import Event
from lossaudit.conformance.run import Tally
from lossaudit.reference.vocabulary import Case, Outcome

PARTS = ("framework", "reaching it", "exact values", "bounds", "the rest")


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return timed


class TimedPool(WorkerPool):
    """A pool that says how long calls took, and how much of it the framework."""

    clock = Clock()

    def ask(self, subject: Subject, case: Case) -> Outcome:
        self.nanoseconds = 0
        start = time.perf_counter()
        try:
            return super().ask(subject, case)
        finally:
            inside = self.nanoseconds / 1e9
            self.clock.seconds["framework"] += inside
            self.clock.seconds["reaching it"] += time.perf_counter() - start - inside


def measure(part: Part, settings: Settings) -> tuple[int, float, dict[str, float]]:
    """Rows judged, seconds, and seconds by part."""
    TimedPool.clock, rows = Clock(), 0

    def count(event: Event) -> None:
        nonlocal rows
        if isinstance(event, Tally) and event.law != CONVENTIONS.name:
            rows += event.rows

    start = time.perf_counter()
    engine.audit_part(part, settings, count)
    return rows, time.perf_counter() - start, TimedPool.clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--depth", default="standard")
    parser.add_argument("--backend", action="append", help="all that are installed if none")
    asked = parser.parse_args()
    # The engine and the bench look these up in their modules at each call.
    engine.WorkerPool = TimedPool
    for module, names in ((bench, {"truth": "exact values", "target_truth": "exact values",
                                   "bounds": "bounds", "target_bounds": "bounds"}),):  # fmt: skip
        for name, what in names.items():
            plain = getattr(module, name)
            setattr(module, name, lambda *a, _f=plain, _w=what: TimedPool.clock.around(_w, _f)(*a))
    parts, _ = plan(asked.backend or list(FRAMEWORKS), asked.depth)
    head = "".join(f"{name:>14}" for name in PARTS)
    print(f"{'part':22}{'rows':>11}{'s':>7}{'rows/s':>9}{head}")
    for part in parts:
        rows, seconds, spent = measure(part, Settings(asked.depth))
        spent["the rest"] = seconds - sum(spent.values())
        shares = "".join(f"{spent[name] / seconds:>14.0%}" for name in PARTS)
        print(
            f"{part.name:22}{rows:>11,}{seconds:>7.0f}{rows / seconds:>9,.0f}{shares}", flush=True
        )


if __name__ == "__main__":
    main()
