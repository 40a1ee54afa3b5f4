"""Joins the shards of a sweep: journals of machines that did some of its chunks each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from .chunk import Done, Told
from .engine import SweepError, named, read_journal
from .plan import Job
from .record import Sweep, finished

NAMED = 8
"""Missing chunks that are named one by one."""


def merged_files(paths: Sequence[Path]) -> Sweep:
    """The sweep whose chunks lie in some files, each of them in one at least.

    Raises:
        SweepError: a file cannot be read, files are of several sweeps or versions, chunks are
            missing, or a chunk that was done twice has other answers.
        CannotSweep: this lossaudit is not the one that made them.
    """
    if not paths:
        raise SweepError("no file to merge: name the files that `lossaudit sweep --shard` wrote")
    shards = _Shards(read_journal(paths[0])[0], paths)
    return finished(shards.job, shards.chunks())


class _Shards:
    """Files of one sweep, read one after the other: of a chunk that was passed on a hash stays."""

    def __init__(self, job: Job, paths: Sequence[Path]) -> None:
        self.job, self._paths = job, paths
        self._frameworks = [job.askings[chunk.asking].framework for chunk in job.chunks()]
        self._versions: dict[str, tuple[dict[str, str], Path]] = {}
        self._told: dict[int, tuple[bytes, Path]] = {}
        self._cut: list[Path] = []

    def chunks(self) -> Iterator[Done]:
        """Every chunk, some perhaps more than once.

        Raises:
            SweepError: see `merged_files`.
        """
        for path in self._paths:
            job, chunks, size = read_journal(path)
            if job != self.job:
                raise SweepError(
                    f"{path} and {self._paths[0]} are of two sweeps, which differ in "
                    f"{_differences(job, self.job)}: merge what one command wrote with each --shard"
                )
            if size < path.stat().st_size:
                self._cut.append(path)
            for done in chunks:
                self._check(done, path)
                yield done
        self._demand_all()

    def _check(self, done: Done, path: Path) -> None:
        """Demand that a chunk fits those before it."""
        if not 0 <= done.number < len(self._frameworks):
            raise SweepError(f"{path} is damaged: its sweep has no chunk {done.number}")
        framework = self._frameworks[done.number]
        versions, before = self._versions.setdefault(framework, (done.versions, path))
        if done.versions != versions:
            raise SweepError(
                f"{path} was made with {named(done.versions)}, and {before} with "
                f"{named(versions)}: sweep all shards with one version"
            )
        hashed = _hashed(done.told)
        known, before = self._told.setdefault(done.number, (hashed, path))
        if hashed != known:
            raise SweepError(
                f"chunk {done.number} has other answers in {path} than in {before}: the machines "
                "that made them do not compute alike, and no sweep is of both"
            )

    def _demand_all(self) -> None:
        missing = [n for n in range(len(self._frameworks)) if n not in self._told]
        if missing:
            cut = "".join(f"; {path} is cut off" for path in self._cut)
            raise SweepError(
                f"{len(missing)} of {len(self._frameworks)} chunks are missing: {_some(missing)}"
                f"{cut}. The command that made a shard does what is left of it"
            )


def _hashed(told: list[Told]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(told)).digest()


def _differences(one: Job, other: Job) -> str:
    """The fields in which two jobs differ, those of their askings among them."""
    if len(one.askings) != len(other.askings):
        return "how many subjects and formats they ask"
    pairs = [(one, other), *zip(one.askings, other.askings, strict=True)]
    fields = [
        name
        for a, b in pairs
        for name in a.__struct_fields__
        if name != "askings" and getattr(a, name) != getattr(b, name)
    ]
    return ", ".join(dict.fromkeys(fields))


def _some(numbers: list[int]) -> str:
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(str, numbers[:NAMED])) + more
