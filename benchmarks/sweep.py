"""What a sweep costs, and where: `python benchmarks/sweep.py [--quick]`.

Prints, measured in one run on one machine, which it names:

- nanoseconds of a processor per judged value (a loss or a gradient) in the framework's op, on the
  exact values and on judging, beside a copy of the same bytes by NumPy, and values per second;
- how these grow with the inputs, with the classes and with the processes; the wall time of two
  processes beside half of the processor time of one, which is what it could be at best;
- the largest resident memory of a process.

What was measured: docs/sweeps.md.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import machine

from lossaudit import reference
from lossaudit.conformance.sweep.chunk import run_chunk
from lossaudit.conformance.sweep.engine import Journal, in_processes, read_journal, sweep
from lossaudit.conformance.sweep.plan import Inputs, Job, asking, has, subject_of
from lossaudit.conformance.sweep.record import Cost, finished

BINARY = "binary_cross_entropy_with_logits"
ASKED = (
    ("torch", BINARY, "eager"),
    ("torch", BINARY, "compile"),
    ("tensorflow", BINARY, "eager"),
    ("tensorflow", BINARY, "xla"),
    ("jax", BINARY, "eager"),
    ("jax", BINARY, "jit"),
    ("torch", "binary_cross_entropy", "eager"),
    ("torch", "softplus", "eager"),
    ("torch", "sigmoid", "eager"),
)
COPIED = 1 << 24
STRIDES = {"float32": 512, "bfloat16": 1, "float16": 1}


def measured(
    framework: str, operation: str, mode: str, dtype: str, inputs: Inputs, jobs: int
) -> Cost:
    """The cost of a sweep; in one process after calls of the same shapes, which may compile."""
    subject = subject_of(framework, operation, mode)
    if jobs == 1:
        stride = inputs.stride if inputs.classes > 1 else 1
        few = replace(inputs, span="" if dtype != "float32" else "1:1.25", stride=stride)
        first = Job(askings=[asking(subject, dtype, few)])
        for number in range(len(first.chunks())):
            run_chunk(first, number)
    job = Job(askings=[asking(subject, dtype, inputs)])
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.opened(Path(folder, "chunks"), job)
        begun = time.monotonic()
        sweep(journal, in_processes(jobs))
        seconds = time.monotonic() - begun
        return finished(job, read_journal(journal.path)[1], seconds, jobs).cost


def copying() -> float:
    """Nanoseconds per byte of a NumPy copy of more than the caches hold."""
    source = np.ones(COPIED)
    target = np.empty_like(source)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return best * 1e9 / source.nbytes


def alone() -> float:
    """Nanoseconds per loss of the reference as users call it, in float32."""
    z = np.linspace(-20, 20, 1 << 20).astype(np.float32)
    y = np.zeros(z.size, np.float32)
    start = time.perf_counter()
    reference.binary_cross_entropy_with_logits(z, y, reduction="none", dtype="float32")
    return (time.perf_counter() - start) * 1e9 / z.size


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    lines = [list(head), *map(list, rows)]
    print("\n| " + " | ".join(lines[0]) + " |")
    print("|" + "---|" * len(lines[0]))
    for line in lines[1:]:
        print("| " + " | ".join(line) + " |", flush=True)


def per_value(cost: Cost) -> tuple[float, float, float]:
    scale = 1e9 / cost.values
    return cost.framework * scale, cost.reference * scale, cost.judging * scale


def by_subject(copied: float, quick: bool) -> Iterable[list[str]]:
    for framework, operation, mode in ASKED:
        if not has(framework, operation):
            continue
        for dtype in ("float32", "bfloat16", "float16"):
            if dtype not in subject_of(framework, operation, mode).dtypes:
                continue
            stride = STRIDES[dtype] * (16 if quick else 1)
            cost = measured(framework, operation, mode, dtype, Inputs(stride=stride), 1)
            f, r, j = per_value(cost)
            size = 4 if dtype == "float32" else 2
            yield [
                f"{framework} {operation} {mode}", dtype, f"{cost.values / 1e6:.1f}",
                f"{f:.1f}", f"{r:.1f}", f"{j:.1f}", f"{(f + r + j) / f:.1f}",
                f"{(f + r + j) / (copied * size):.0f}", f"{1e3 / (f + r + j):.1f}",
            ]  # fmt: skip


def by_inputs(quick: bool) -> Iterable[list[str]]:
    for stride in (65536, 8192, 1024, 128)[: 2 if quick else 4]:
        cost = measured("torch", BINARY, "eager", "float32", Inputs(stride=stride), 1)
        f, r, j = per_value(cost)
        yield [f"{cost.values:,}", f"{f:.1f}", f"{r:.1f}", f"{j:.1f}"]


def by_classes(quick: bool) -> Iterable[list[str]]:
    for classes in (2, 8, 32)[: 2 if quick else 3]:
        inputs = Inputs(stride=64 if quick else 16, classes=classes)
        cost = measured("torch", "cross_entropy", "eager", "bfloat16", inputs, 1)
        entries = cost.values * (1 + classes) / 2  # of loss and gradient
        parts = (cost.framework, cost.reference, cost.judging)
        yield [str(classes), f"{cost.values:,}", *(f"{p * 1e9 / entries:.1f}" for p in parts)]


def by_processes(quick: bool) -> Iterable[list[str]]:
    inputs = Inputs(stride=1024 if quick else 16)
    for jobs in (1, 2):
        cost = measured("torch", BINARY, "eager", "float32", inputs, jobs)
        best = (cost.framework + cost.reference + cost.judging) / jobs
        yield [str(jobs), f"{cost.wall:.1f}", f"{best:.1f}", f"{cost.wall / best:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer inputs: to see that it runs")
    quick = parser.parse_args().quick
    copied = copying()
    print(f"{machine()}, NumPy {np.__version__}")
    print(
        f"NumPy copies {1 / copied:.1f} GB/s; the reference alone takes {alone():.0f} ns per loss"
    )
    costs = ("framework, ns", "exact values, ns", "judging, ns")
    head = ("subject", "dtype", "million values", *costs, "all / framework", "all / copy", "M/s")
    table(head, by_subject(copied, quick))
    table(("values", *costs), by_inputs(quick))
    table(("classes", "values", *costs), by_classes(quick))
    table(("processes", "wall, s", "processor time / processes, s", "ratio"), by_processes(quick))
    peak = {
        name: resource.getrusage(who).ru_maxrss / 1024
        for name, who in (("this", resource.RUSAGE_SELF), ("a child", resource.RUSAGE_CHILDREN))
    }
    print("\nlargest resident memory: " + ", ".join(f"{n} {m:.0f} MiB" for n, m in peak.items()))


if __name__ == "__main__":
    main()
