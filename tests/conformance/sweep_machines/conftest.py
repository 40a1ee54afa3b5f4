"""A package of ops that every process started from here finds installed, and small sweeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import lossaudit
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.sweep.chunk import Done
from lossaudit.conformance.sweep.engine import (
    Engine,
    Journal,
    in_processes,
    read_journal,
    sweep,
)
from lossaudit.conformance.sweep.plan import Asking, Inputs, Job, asking, swept
from lossaudit.conformance.sweep.record import Cost, Sweep, finished

PACKAGE = "sweep_numbers"

OPS = """
import os
import signal
import time
from pathlib import Path

import numpy as np

import lossaudit

declared = lossaudit.subject(
    operation="binary_cross_entropy_with_logits", framework="numpy", dtypes=["float16"]
)


@declared
def quick(z, y):
    z, y, dtype = z.astype(np.float32), y.astype(np.float32), z.dtype
    with np.errstate(all="ignore"):
        loss = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
        gradient = 1 / (1 + np.exp(-z)) - y
    return loss.astype(dtype)[:, 0], gradient.astype(dtype)


@declared
def again(z, y):
    loss, gradient = quick(z, y)
    return -loss, gradient


@declared
def slow(z, y):
    time.sleep(0.05)
    return quick(z, y)


@declared
def widened(z, y):
    loss, gradient = quick(z, y)
    return loss.astype(np.float32), gradient.astype(np.float32)


@declared
def deadly(z, y):
    if (z == 8).any():
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return quick(z, y)
"""


@pytest.fixture(scope="session", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the package; it is installed while these tests run."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / f"{PACKAGE}.py").write_text(OPS)
    about = folder / f"{PACKAGE}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[lossaudit.adapters]\n{PACKAGE} = {PACKAGE}\n")
    known = dict(FRAMEWORKS.__dict__)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        root = Path(str(lossaudit.__file__)).parent.parent
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{root}", prepend=os.pathsep)
        FRAMEWORKS.__dict__.pop("_entry_points", None)
        yield folder
    FRAMEWORKS.__dict__.clear()
    FRAMEWORKS.__dict__.update(known)
    FRAMEWORKS._loaded.pop(PACKAGE, None)


@pytest.fixture(scope="session")
def asked(package: Path) -> Callable[..., Asking]:
    """What is asked of one of the ops, which are known by their names."""
    assert package.is_dir()

    def ask(op: str = "quick", **inputs: Any) -> Asking:
        subject = next(s for s in swept(PACKAGE) if s.op == op)
        return asking(subject, "float16", Inputs(**inputs))

    return ask


@pytest.fixture(scope="session")
def job(asked: Callable[..., Asking]) -> Callable[..., Job]:
    """A job of all of float16 for some ops."""

    def make(*ops: str, chunk: int = 1024) -> Job:
        askings = [asked(op) for op in ops or ("quick",)]
        return Job(askings=askings, chunk=chunk)

    return make


def same(found: Sweep) -> Sweep:
    """A sweep as it is to be from whatever machines and chunks: without its cost."""
    nothing = Cost(values=0, framework=0, reference=0, judging=0, chunks=0)
    return msgspec.structs.replace(
        found, cost=nothing, job=msgspec.structs.replace(found.job, chunk=0)
    )


@pytest.fixture(scope="session", name="same")
def _same() -> Callable[[Sweep], Sweep]:
    return same


@pytest.fixture(scope="session")
def alone(job: Callable[..., Job]) -> Callable[..., Sweep]:
    """The sweep of a job that this process did alone, in few chunks, from the first to the last."""
    kept: dict[tuple[str, ...], Sweep] = {}

    def do(*ops: str) -> Sweep:
        if ops not in kept:
            one = job(*ops, chunk=4096)
            kept[ops] = same(finished(one, in_processes(1)(one, range(len(one.chunks())))))
        return kept[ops]

    return do


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Sweep]:
    """The sweep that an engine makes, by way of a journal."""

    def do(job: Job, engine: Engine, heard: Callable[[Done], None] = lambda _: None) -> Sweep:
        path = tmp_path / "kept.jsonl"
        sweep(Journal.opened(path, job), engine, heard=heard)
        return same(finished(*read_journal(path)[:2]))

    return do


SCRIPT = """
import sys
from pathlib import Path

import msgspec

from lossaudit.conformance.sweep.engine import Journal, in_processes, sweep
from lossaudit.conformance.sweep.plan import Job
from lossaudit.conformance.sweep.scheduler import on_dask

if __name__ == "__main__":
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    engine = on_dask("local", 2) if sys.argv[3] == "dask" else in_processes(2)
    try:
        sweep(Journal.opened(Path(sys.argv[2]), job), engine)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@dataclass(frozen=True)
class Sweeping:
    """A process that sweeps, with all that it starts, by a mark in their environments."""

    process: subprocess.Popen[bytes]
    journal: Path
    mark: str

    def chunks(self, number: int) -> None:
        """Wait until so many are kept."""
        deadline = time.monotonic() + 60
        while self._kept() < number:
            assert self.process.poll() is None, "it ended before"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _kept(self) -> int:
        return self.journal.read_bytes().count(b"\n") - 1 if self.journal.exists() else 0

    def end(self, what: signal.Signals) -> int:
        """Send a signal to it and to all that a terminal would send it to."""
        if what == signal.SIGKILL:
            self.process.kill()
        else:
            os.killpg(self.process.pid, what)
        return self.process.wait(60)

    def said(self) -> str:
        """What was written to the terminal."""
        return self.journal.with_name("said").read_text()

    def processes(self) -> list[int]:
        return marked(self.mark)

    def left(self) -> list[int]:
        """Processes that still live, after a while in which they may end."""
        deadline = time.monotonic() + 20
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def marked(mark: str) -> list[int]:
    """The processes with a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Callable[[Job, str], Sweeping]]:
    """Begin a sweep in a process of its own, with "dask" or with "processes"."""
    started: list[Sweeping] = []

    def begin(job: Job, engine: str) -> Sweeping:
        (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
        (tmp_path / "begin.py").write_text(SCRIPT)
        mark, journal = uuid.uuid4().hex, tmp_path / "begun.jsonl"
        process = subprocess.Popen(
            [sys.executable, tmp_path / "begin.py", tmp_path / "job.json", journal, engine],
            env={**os.environ, "SWEEP_MARK": mark},
            stdout=subprocess.DEVNULL,
            stderr=(tmp_path / "said").open("wb"),
            start_new_session=True,
        )
        started.append(Sweeping(process, journal, mark))
        return started[-1]

    yield begin
    for sweeping in started:
        for process in sweeping.processes():
            os.kill(process, signal.SIGKILL)
        sweeping.process.wait(10)
