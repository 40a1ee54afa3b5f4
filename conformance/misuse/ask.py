"""Whom a measurement asks, and how: the first plain op of each kind that a framework offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import PLAIN, Subject, plain
from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Case, Floats, Options, Outcome
from ..bench import Session
from ..run import MisuseCurve

DTYPE = "float32"
"""What the mistakes are shown in: every framework has it, and it is what people train in."""

ROWS = 64
"""Rows of every call: the shape of the corpus, which JAX has compiled its primitives for already.
A new one costs it a second."""

SAID = 300
"""Characters kept of what a framework raised or warned."""


class Lost(Exception):
    """The worker died or hung over a call: what comes after it would cost a worker each."""


@dataclass(frozen=True)
class Answer:
    """What came of one call; NaN where it did not return, or gives no gradient."""

    loss: Floats
    gradient: Floats
    said: str

    def take(self, rows: slice) -> Answer:
        return Answer(self.loss[rows], self.gradient[rows], self.said)


@dataclass(frozen=True)
class Asked:
    """The subjects of one framework, over one session."""

    session: Session
    subjects: Sequence[Subject]

    def first(self, operation: str, *targets: str) -> Subject | None:
        """The first subject of an operation, by the order of the targets and of the framework.

        A composition or a variant comes after the op that it is of.
        """
        for target in targets:
            for subject in self._plain():
                if (subject.operation, subject.target) == (operation, target):
                    return subject
        return None

    def _plain(self) -> Iterable[Subject]:
        return (s for s in plain(self.subjects) if DTYPE in s.dtypes)

    def composed(self, misuse: str) -> Subject | None:
        """The subject that makes the mistake itself, where a framework has one."""
        made = (s for s in self.subjects if s.misuse == misuse and DTYPE in s.dtypes)
        return next((s for s in made if s.mode in PLAIN), None)

    def ask(
        self, subject: Subject, inputs: Floats, target: np.ndarray, options: Options | None = None
    ) -> Answer:
        """Losses of rows and their gradients; the inputs are rounded to the format first.

        Raises:
            Lost: if the worker was.
        """
        case = Case(subject.operation, DTYPE, rounded(inputs), target, options or Options())
        parts = [self._part(subject, case, start) for start in range(0, case.rows, ROWS)]
        loss = np.concatenate([part.loss for part in parts])
        gradient = np.concatenate([part.gradient for part in parts])
        return Answer(loss, gradient, joined(part.said for part in parts))

    def _part(self, subject: Subject, case: Case, start: int) -> Answer:
        """Some rows, the call filled up with the same ones again."""
        rows = np.arange(start, min(start + ROWS, case.rows))
        outcome = self.session.ask(subject, case.take(np.resize(rows, ROWS)))
        if outcome.status in ("crashed", "timed out"):
            raise Lost(f"{subject.name} {outcome.status}: {outcome.message}")
        loss, gradient = np.full(ROWS, np.nan), np.full((ROWS, case.inputs.shape[1]), np.nan)
        if outcome.returned and outcome.loss is not None:
            loss = outcome.loss
            gradient = gradient if outcome.gradient is None else outcome.gradient
        return Answer(loss[: len(rows)], gradient[: len(rows)], said_of(outcome))


def joined(said: Iterable[str]) -> str:
    """What several calls said, each once."""
    return "; ".join(dict.fromkeys(filter(None, said)))


def said_of(outcome: Outcome) -> str:
    if outcome.returned:
        text = "; ".join(outcome.warnings)
        return f"warns: {text[:SAID]}" if text else ""
    first = (outcome.message.strip().splitlines() or [""])[0]
    return f"{outcome.status}: {first[:SAID]}"


def rounded(values: Floats) -> Floats:
    """The nearest numbers of the format, as float64."""
    return round_to_format(np.asarray(values, np.float64), FORMATS[DTYPE])


def labels(subject: Subject, right: np.ndarray, classes: int) -> np.ndarray:
    """Class indices as a subject takes them: themselves, or a one in each row."""
    return right if subject.target == "index" else np.eye(classes)[right]


def numbers(values: Iterable[float]) -> list[str]:
    """As a Run holds them."""
    return [repr(float(value)) for value in values]


@dataclass(frozen=True)
class Line:
    """Where a curve belongs, before it has points."""

    misuse: str
    subject: Subject
    quantity: str
    series: str
    at: str

    def curve(
        self,
        x: Iterable[float],
        measured: Iterable[float],
        right: Iterable[float],
        closed: Iterable[float] = (),
        said: str = "",
    ) -> MisuseCurve:
        return MisuseCurve(
            misuse=self.misuse,
            subject=self.subject.name,
            dtype=DTYPE,
            quantity=self.quantity,
            series=self.series,
            at=self.at,
            x=numbers(x),
            measured=numbers(measured),
            right=numbers(right),
            closed=numbers(closed),
            said=said,
        )
