"""Asks the plain ops of frameworks something beside an audit, each framework in its own worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..adapters.client import UnusableFramework, WorkerPool
from ..adapters.registry import FRAMEWORKS
from ..adapters.subject import Subject
from .bench import Session
from .engine import Patience, plan
from .run import Absence

Ask = Callable[[Session, Sequence[Subject]], Iterable[Any]]


def ask_each(
    frameworks: Sequence[str],
    ask: Ask,
    begin: Callable[[str], None],
    emit: Callable[[Any], None],
) -> None:
    """Emit what `ask` says of the subjects of each framework, and an Absence for each that is lost.

    Args:
        frameworks: their names.
        ask: is given a session and the subjects of one framework. A call that fails is an Outcome
            like any other, so what comes of it is for `ask` to say.
        begin: hears whose turn it is.
        emit: hears the rest.
    """
    parts, absent = plan(frameworks, "standard")
    for absence in absent:
        emit(absence)
    for part in parts:
        if any(subject.compiled for subject in part.subjects):
            continue
        home = part.subjects[0].home
        begin(home)
        with WorkerPool(part.environment.python) as pool:
            try:
                for answer in ask(Patience(pool, lambda _: None), part.subjects):
                    emit(answer)
            except UnusableFramework as error:
                hint = FRAMEWORKS[part.subjects[0].framework].install
                emit(Absence(framework=home, reason=error.reason, hint=hint))
