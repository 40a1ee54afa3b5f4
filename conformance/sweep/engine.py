"""Runs the chunks of a sweep in processes of this machine, and keeps what was done.

A journal is a file of lines: the first is the job, the others are chunks that were done, in any
order. A start after an interrupted one does what is missing; a line that was cut off is missing.
A shard is the same file with some of the chunks.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ...adapters.worker import leave_with_parent
from ..interruptions import interruptions_later, leave_interruptions_to_the_parent
from .chunk import Done, run_chunk
from .plan import Job

AHEAD = 2
"""Chunks that wait for a process, for each process."""

ATTEMPTS = 3
"""Times that processes may die in a row without a chunk that was done in between."""

Engine = Callable[[Job, Sequence[int]], Iterator[Done]]
"""Does chunks by their numbers, in any order."""


class SweepError(Exception):
    """A sweep that cannot go on, or a file of one that cannot be read; the text says what to do."""


@dataclass
class Journal:
    """A file of a job and its chunks.

    Attributes:
        done: the numbers of the chunks that it holds.
        versions: of the packages that they were done with, by framework.
    """

    path: Path
    job: Job
    done: set[int] = field(default_factory=set)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, job: Job) -> Journal:
        """The journal of a job, with the chunks that an interrupted start has left.

        Raises:
            SweepError: the file is of another job.
        """
        journal = cls(path, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size:
            earlier, chunks, size = read_journal(path)
            if earlier != job:
                raise SweepError(
                    f"{path} is of another sweep: finish that one with the same command as before, "
                    "or remove the file"
                )
            for done in chunks:
                journal.note(done)
            os.truncate(path, size)  # a line that was cut off
        else:
            # At once, so that no kill leaves a part of it.
            begun = path.with_name(f"{path.name}.part")
            begun.write_bytes(msgspec.json.encode(job) + b"\n")
            begun.replace(path)
        return journal

    def add(self, done: Done) -> None:
        """Keep a chunk that was done.

        Raises:
            SweepError: it was done with another version than those before it.
        """
        self.note(done)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(done) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def note(self, done: Done) -> None:
        """Count a chunk as done."""
        framework = self.job.askings[self.job.chunks()[done.number].asking].framework
        known = self.versions.setdefault(framework, done.versions)
        if known != done.versions:
            raise SweepError(
                f"{self.path} holds chunks of {named(known)}, and this is "
                f"{named(done.versions)}: remove the file to begin anew"
            )
        self.done.add(done.number)


def named(versions: dict[str, str]) -> str:
    """Packages and their versions in a sentence."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def read_journal(path: Path) -> tuple[Job, list[Done], int]:
    """The job of a file, its chunks, and the bytes of what is whole.

    Raises:
        SweepError: it cannot be read, or is no such file.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SweepError(f"cannot read {path}: {error.strerror or error}") from error
    head, newline, rest = raw.partition(b"\n")
    try:
        job = msgspec.json.decode(head, type=Job)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} is no file of a sweep that was begun ({error})") from error
    size, chunks = len(head) + len(newline), []
    for line in rest.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            chunks.append(msgspec.json.decode(line, type=Done))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break  # cut off here; what comes behind it cannot be
        size += len(line)
    return job, chunks, size


def mine(job: Job, shard: tuple[int, int]) -> list[int]:
    """The chunks of shard i of n, i from 1: every n-th one."""
    return list(range(shard[0] - 1, len(job.chunks()), shard[1]))


def sweep(
    journal: Journal,
    engine: Engine,
    shard: tuple[int, int] = (1, 1),
    heard: Callable[[Done], None] = lambda _: None,
) -> None:
    """Do what the journal does not hold yet.

    Args:
        journal: of the job.
        engine: does the chunks.
        shard: which part of them is this machine's.
        heard: told of each chunk that was done.
    """
    left = [number for number in mine(journal.job, shard) if number not in journal.done]
    for done in engine(journal.job, left) if left else ():
        journal.add(done)
        heard(done)


def in_processes(jobs: int) -> Engine:
    """An engine of so many processes; of one, this one."""

    def here(job: Job, numbers: Sequence[int]) -> Iterator[Done]:
        return (run_chunk(job, number) for number in numbers)

    return here if jobs <= 1 else _Processes(jobs)


class _Processes:
    """Processes with a worker each; one that dies is replaced, and its chunk begun again."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def __call__(self, job: Job, numbers: Sequence[int]) -> Iterator[Done]:
        left, deaths = list(numbers), 0
        while left:
            found: set[int] = set()
            try:
                for done in self._some(job, left):
                    found.add(done.number)
                    yield done
            except BrokenProcessPool:
                deaths = 1 if found else deaths + 1
                if deaths == ATTEMPTS:
                    raise SweepError(
                        f"processes died {ATTEMPTS} times in a row, with chunk {left[0]} among "
                        "those in hand: out of memory? What was done is kept; the same command "
                        "goes on"
                    ) from None
            left = [number for number in left if number not in found]

    def _some(self, job: Job, numbers: list[int]) -> Iterator[Done]:
        """Chunks as they are done, until all are or a process dies."""
        context = multiprocessing.get_context("spawn")
        arguments = (os.getpid(),)
        pool = ProcessPoolExecutor(self._jobs, context, _begin, arguments)
        try:
            waiting, running = iter(numbers), set[Future[Done]]()
            with interruptions_later():
                for number in _taken(waiting, AHEAD * self._jobs):
                    running.add(pool.submit(run_chunk, job, number))
            while running:
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                # What was done before a process died is not done again.
                for future in sorted(ready, key=lambda f: f.exception() is not None):
                    yield future.result()
                    for number in _taken(waiting, 1):
                        running.add(pool.submit(run_chunk, job, number))
        finally:
            _end(pool)


def _taken(numbers: Iterator[int], count: int) -> Iterable[int]:
    return [number for _, number in zip(range(count), numbers, strict=False)]


def _begin(parent: int) -> None:
    """Ctrl-C is for the parent; and whatever happens to that, this process ends with it."""
    leave_interruptions_to_the_parent()
    leave_with_parent(parent, True)  # noqa: FBT003 - the executor starts processes from its caller


def _end(pool: ProcessPoolExecutor) -> None:
    """At once: a chunk in progress is lost, and done again by the next start."""
    processes = list((pool._processes or {}).values())  # noqa: SLF001 - it has no public way
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(10)
