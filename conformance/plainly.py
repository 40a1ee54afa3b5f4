"""Asks the plain ops of frameworks something beside an audit, each framework in its own worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ..adapters.client import UnusableFramework, WorkerPool
from ..adapters.subject import PLAIN, Subject
from .bench import Session
from .engine import Patience, plan
from .run import Absence

T = TypeVar("T")
Ask = Callable[[Session, Sequence[Subject]], Iterable[T]]


def plain(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """Ops that are called as they are meant, without compiling, mapping or casting."""
    return (s for s in subjects if s.mode in PLAIN and not (s.misuse or s.tensors))


def ask_each(frameworks: Sequence[str], ask: Ask[T], emit: Callable[[T], None]) -> list[Absence]:
    """Emit what `ask` says of the subjects of each framework; say which are not there."""
    parts, absent = plan(frameworks, "quick")
    for part in parts:
        if any(subject.compiled for subject in part.subjects):
            continue
        with WorkerPool(part.environment.python) as pool:
            try:
                for answer in ask(Patience(pool, lambda _: None), part.subjects):
                    emit(answer)
            except UnusableFramework as error:
                home = part.subjects[0].home
                absent.append(Absence(framework=home, reason=error.reason, hint=""))
    return absent
