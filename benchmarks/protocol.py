"""What a call costs beside the framework: `python benchmarks/protocol.py [framework]`.

Prints the median, over calls with a batch of 64 rows of 10 logits in float32, of the time of
`WorkerPool.ask` less the time that the worker spent inside the framework.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.registry import subjects
from lossaudit.reference.vocabulary import Case

if TYPE_CHECKING:
    from lossaudit.adapters.subject import Subject

CALLS = 2000
WARM_UP = 200


def overheads(pool: WorkerPool, subject: Subject, case: Case) -> list[float]:
    """Microseconds beside the framework, call by call."""
    found: list[float] = []
    for _ in range(WARM_UP + CALLS):
        start = time.perf_counter_ns()
        pool.ask(subject, case)
        found.append((time.perf_counter_ns() - start - pool.nanoseconds) / 1000)
    return found[WARM_UP:]


def main() -> None:
    framework = sys.argv[1] if len(sys.argv) > 1 else "torch"
    subject = next(s for s in subjects([framework]) if s.target == "index")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(64, 10)).astype(np.float32).astype(np.float64)
    case = Case("cross_entropy", "float32", logits, rng.integers(0, 10, 64))
    with WorkerPool() as pool:
        microseconds = overheads(pool, subject, case)
    best = sorted(microseconds)[CALLS // 20]
    print(
        f"{subject.name}, 64 x 10 float32: {statistics.median(microseconds):.0f} us a call beside "
        f"the framework (median of {CALLS}; 5 % below {best:.0f} us)"
    )


if __name__ == "__main__":
    main()
