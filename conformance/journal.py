"""The events of an audit on disk as they come, so that a start after an interrupted one goes on.

A journal is a file of lines, the first of which says what is audited; the others are events, each
with the part of the audit that said it. What a part said counts once the step that it was at is
finished (a subject, or what is asked beside): a line that was cut off in the middle, and all of a
step that was, are asked again.
"""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from .events import Event, StepFinished, SubjectFinished, WorkerReady
from .run import (
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
    RunFileError,
    SubjectRecord,
    Tally,
    Worst,
)

KEPT: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        SubjectRecord,
        Tally,
        Finding,
        Convention,
        Incident,
        KnownRecord,
        Worst,
        Implied,
        Answers,
        Peers,
        MisuseCurve,
        MisuseTraining,
        ExampleAnswer,
        Profiled,
        WorkerReady,
        SubjectFinished,
        StepFinished,
    )
}
"""What is written: what a Run is made of. Progress is not."""


class Line(msgspec.Struct, frozen=True):
    part: str
    kind: str
    seconds: float
    """That were spent until then, by earlier starts too."""
    event: msgspec.Raw


@dataclass(frozen=True)
class Heard:
    """One event, the part of the audit that said it, and when."""

    part: str
    event: Event
    seconds: float


@dataclass(frozen=True)
class Earlier:
    """What a journal holds of finished steps.

    Attributes:
        heard: in the order in which each part said it.
        finished: the names of the steps, those of subjects being the subjects' own.
        seconds: that were spent until the last of it.
        differs: what else was asked for where the journal is of another audit, and so not used.
    """

    heard: tuple[Heard, ...] = ()
    finished: frozenset[str] = frozenset()
    seconds: float = 0.0
    differs: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(each.event for each in self.heard)

    def incidents(self, part: str) -> tuple[Incident, ...]:
        """What a part said that it does not say twice."""
        said = (each.event for each in self.heard if each.part == part)
        return tuple(event for event in said if isinstance(event, Incident))


class Journal:
    """Writes events as they come; `earlier` is what an interrupted start has left."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self.path = path
        self.earlier = _earlier(path, about)
        self._began = time.monotonic() - self.earlier.seconds
        head = msgspec.json.encode(about)
        lines = [head, *map(_line, self.earlier.heard)]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(b"".join(line + b"\n" for line in lines))
        part.replace(path)
        self._file = path.open("ab")

    def of(self, part: str) -> Callable[[Event], None]:
        """What writes the events of one part of the audit."""
        return partial(self._write, part)

    def _write(self, part: str, event: Event) -> None:
        if type(event).__name__ in KEPT:
            seconds = round(time.monotonic() - self._began, 1)
            self._file.write(_line(Heard(part, event, seconds)) + b"\n")
            self._file.flush()  # to the system, which keeps it when this process is killed

    def close(self) -> None:
        """Keep the file for another start."""
        self._file.close()

    def remove(self) -> None:
        """Done: there is nothing to go on with."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _line(heard: Heard) -> bytes:
    content = msgspec.Raw(msgspec.json.encode(heard.event))
    kind = type(heard.event).__name__
    return msgspec.json.encode(Line(heard.part, kind, heard.seconds, content))


def begun_with(path: Path) -> dict[str, str]:
    """What a journal says that is audited; nothing where none can be read."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.readline(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def _earlier(path: Path, about: dict[str, str]) -> Earlier:
    """What is there of the same audit; nothing where it is of another, or cannot be read."""
    begun = begun_with(path)
    if begun != about:
        names = dict.fromkeys((*about, *begun)) if begun else ()
        return Earlier(differs=tuple(n for n in names if about.get(n) != begun.get(n)))
    with path.open("rb") as file:
        heard = tuple(_of_finished_steps(_read(file.read().splitlines()[1:])))
    steps = filter(None, (_step(each.event) for each in heard))
    return Earlier(heard, frozenset(steps), max((each.seconds for each in heard), default=0.0))


def _read(lines: list[bytes]) -> Iterator[Heard]:
    for line in lines:
        try:
            found = msgspec.json.decode(line, type=Line)
            event = msgspec.json.decode(found.event, type=KEPT[found.kind])
        except (msgspec.MsgspecError, KeyError):
            return  # cut off here: what comes after it cannot be
        yield Heard(found.part, event, found.seconds)


def _of_finished_steps(every: Iterator[Heard]) -> Iterator[Heard]:
    """What parts said up to the last step that each has finished; and what workers are."""
    waiting: dict[str, list[Heard]] = {}
    for each in every:
        if isinstance(each.event, WorkerReady):
            yield each
            continue
        waiting.setdefault(each.part, []).append(each)
        if _step(each.event):
            yield from waiting.pop(each.part)


def _step(event: Event) -> str:
    """The name of the step that an event says is finished, "" for any other."""
    if isinstance(event, SubjectFinished):
        return event.subject
    return event.step if isinstance(event, StepFinished) else ""


def subject_of(event: Event) -> str:
    """The name of the subject that an event is about, "" where it is about none."""
    if isinstance(event, SubjectRecord):
        return event.name
    return getattr(event, "subject", "")


def locked(path: Path, busy: str) -> IO[bytes]:
    """A lock, held while the file is open: journals that two starts write would be of neither.

    A file system that has no locks is no reason not to audit.

    Raises:
        RunFileError: another start holds it; `busy` says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunFileError(busy) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return lock


def unlock(lock: IO[bytes]) -> None:
    Path(lock.name).unlink(missing_ok=True)
    lock.close()
