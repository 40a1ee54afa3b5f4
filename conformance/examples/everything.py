"""What an audit keeps of the worked examples: the shipped ones, asked of each framework."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from ...adapters.client import UnusableFramework
from ...adapters.subject import COMPILES_SHAPES, Subject
from ..bench import Session
from ..misuse.ask import Lost
from ..run import ExampleAnswer, ExampleFigure, Incident
from .adjudicate import adjudicated
from .ask import CHEAP, WHOLE, Extent, answers
from .entries import Example, load

Emit = Callable[[ExampleAnswer | Incident], None]


@cache
def verdicts() -> tuple[ExampleFigure, ...]:
    """The shipped examples with their verdicts, which are the same in every run."""
    return tuple(adjudicated(load()))


def ask_shipped(session: Session, subjects: Sequence[Subject], emit: Emit) -> None:
    """Ask a framework for the shipped examples, as an audit does.

    Where every shape costs a second, of shapes that the audit has anyway; `lossaudit examples`
    asks for all.

    Raises:
        UnusableFramework: if there is no framework to ask.
    """
    dear = bool(subjects) and subjects[0].framework in COMPILES_SHAPES
    ask_examples(session, subjects, load(), emit, CHEAP if dear else WHOLE)


def ask_examples(
    session: Session,
    subjects: Sequence[Subject],
    examples: Sequence[Example],
    emit: Emit,
    extent: Extent = WHOLE,
) -> None:
    """Say what a framework computes for examples; what fails is an incident, and not the end.

    Raises:
        UnusableFramework: if there is no framework to ask.
    """
    try:
        with np.errstate(all="ignore"):
            for answer in answers(session, subjects, examples, extent):
                emit(answer)
    except UnusableFramework:
        raise
    except Lost as lost:
        emit(_incident(subjects, f"the worked examples were not asked any further: {lost}"))
    except Exception:  # noqa: BLE001 - the audit goes on without the answers to examples
        emit(_incident(subjects, f"internal: {traceback.format_exc(limit=-6)}"))


def _incident(subjects: Sequence[Subject], message: str) -> Incident:
    home = subjects[0].home if subjects else ""
    return Incident(subject=home, law="worked examples", dtype="", message=message)
