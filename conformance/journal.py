"""The events of an audit on disk as they come, so that a start after an interrupted one goes on.

A journal is a file of lines, the first of which says what is audited; the others are events. Those
of a subject count once the subject is finished: a line that was cut off in the middle, and all of a
subject that was, are asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .events import Event, SubjectFinished, WorkerReady
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
    Profiled,
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
        MisuseCurve,
        MisuseTraining,
        ExampleAnswer,
        Profiled,
        WorkerReady,
        SubjectFinished,
    )
}
"""What is written: what a Run is made of. Progress is not."""


class Line(msgspec.Struct, frozen=True):
    kind: str
    event: msgspec.Raw


@dataclass(frozen=True)
class Earlier:
    """What a journal holds of finished subjects, and their names."""

    events: tuple[Event, ...] = ()
    finished: frozenset[str] = frozenset()


class Journal:
    """Writes events as they come; `earlier` is what an interrupted start has left."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self._path = path
        self.earlier = _earlier(path, about)
        head = msgspec.json.encode(about)
        lines = [head, *(_line(event) for event in self.earlier.events)]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(b"".join(line + b"\n" for line in lines))
        part.replace(path)
        self._file = path.open("ab")

    def __call__(self, event: Event) -> None:
        if type(event).__name__ in KEPT:
            self._file.write(_line(event) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Keep the file for another start."""
        self._file.close()

    def remove(self) -> None:
        """Done: there is nothing to go on with."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _line(event: Event) -> bytes:
    content = msgspec.Raw(msgspec.json.encode(event))
    return msgspec.json.encode(Line(type(event).__name__, content))


def _earlier(path: Path, about: dict[str, str]) -> Earlier:
    """What is there of the same audit; nothing where it is of another, or cannot be read."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return Earlier()
    try:
        if not lines or msgspec.json.decode(lines[0], type=dict[str, str]) != about:
            return Earlier()
    except msgspec.MsgspecError:
        return Earlier()
    events = list(_read(lines[1:]))
    finished = frozenset(e.subject for e in events if isinstance(e, SubjectFinished))
    kept = (e for e in events if isinstance(e, WorkerReady) or subject_of(e) in finished)
    return Earlier(tuple(kept), finished)


def _read(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        try:
            found = msgspec.json.decode(line, type=Line)
            event = msgspec.json.decode(found.event, type=KEPT[found.kind])
        except (msgspec.MsgspecError, KeyError):
            return  # cut off here: what comes after it cannot be
        yield event


def subject_of(event: Event) -> str:
    """The name of the subject that an event is about, "" where it is about none."""
    if isinstance(event, SubjectRecord):
        return event.name
    return getattr(event, "subject", "")
