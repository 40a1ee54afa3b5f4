"""Asks one op in one format, and says by how much its answers may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...adapters.subject import Subject, plain
from ...reference.bounds import Bounds, bounds, reduced
from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Arithmetic, Case, Floats, Options
from ..bench import Session

UNIT = 2.0**-53
"""A rounding of float64, relative: the arithmetic here, and the reference's results."""

LIBM = 2 * UNIT
"""What log and exp of NumPy are taken to be wrong by: an ulp."""


class NotAsked(Exception):
    """The statement is not about this op, or nothing bounds its answers; the message says why."""


class NotReturned(Exception):
    """A call that the statement needs raised, crashed or hung."""


@dataclass(frozen=True)
class Measured:
    """What an op returned, in float64, and the absolute bounds of its errors.

    `loss` has an entry for each row, or one where a reduction was asked for.
    """

    loss: Floats
    room: Floats
    gradient: Floats
    gradient_room: Floats


@dataclass(frozen=True)
class Claim:
    """Two sides of a statement, entry by entry.

    Attributes:
        of: what the statement was asked of, in words.
        value: what the op's answers make of the left side.
        right: the right side, not computed by any framework.
        room: by how much rounding alone may part them, derived.
        sense: how the two sides relate.
        scale: how large a mistake would be; the right side's own size where it is not given.
    """

    of: str
    value: Floats
    right: Floats
    room: Floats
    sense: Literal["=", ">=", "<="] = "="
    scale: Floats | float | None = None

    @property
    def tells(self) -> bool:
        """Whether most entries have a room in which a mistake would be seen."""
        scale = np.abs(self.right) if self.scale is None else self.scale
        return bool(np.mean(self.room < scale) > 0.5)  # more than half of them

    @property
    def off(self) -> Floats:
        """By how much the statement is missed, 0 where an inequality holds."""
        gap = np.asarray(self.value - self.right)
        if self.sense == "=":
            return np.abs(gap)
        return np.maximum(gap if self.sense == "<=" else -gap, 0.0)

    @property
    def _parts(self) -> Floats:
        """Which part of its room each entry takes; what is no number never holds, and is infinite.

        An entry without a bound says nothing, and takes none.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(self.off == 0.0, 0.0, self.off / self.room)
        part = np.where(np.isnan(part), np.inf, part)
        return np.where(np.isinf(self.room) & np.isfinite(self.value), 0.0, part)

    @property
    def share(self) -> float:
        """The largest of them."""
        return float(np.max(self._parts, initial=0.0))

    @property
    def entry(self) -> tuple[float, float, float]:
        """Value, right side and room of the entry that takes the largest part."""
        parts = self._parts
        sides = (np.broadcast_to(side, parts.shape) for side in (self.value, self.right, self.room))
        at = np.unravel_index(int(np.argmax(parts)), parts.shape)
        value, right, room = (float(side[at]) for side in sides)
        return value, right, room

    @property
    def holds(self) -> bool:
        return self.share <= 1.0


@dataclass(frozen=True)
class Asking:
    """One subject in one format, over a session; the others of its framework beside it."""

    session: Session
    subject: Subject
    dtype: str
    subjects: Sequence[Subject]

    def ask(self, inputs: Floats, target: np.ndarray, options: Options | None = None) -> Measured:
        """Loss and gradient of rows; inputs and targets hold values of the format.

        Raises:
            NotAsked: if the op does not take such a call, or nobody declares how it computes.
            NotReturned: if the call raised, or the worker was lost.
        """
        subject = self.subject
        case = Case(subject.operation, self.dtype, inputs, target, options or Options())
        outcome = self.session.ask(subject, case)
        if not outcome.returned or outcome.loss is None:
            said = f"{outcome.status}: {' '.join(outcome.message.split())[:200]}"
            raise NotAsked(said) if outcome.status == "unsupported" else NotReturned(said)
        found = self._bounds(case)
        gradient, gradient_room = np.zeros(0), np.zeros(0)
        if outcome.gradient is not None:
            gradient, gradient_room = outcome.gradient, found.gradient
        loss = outcome.loss.reshape(-1)
        return Measured(loss, np.broadcast_to(found.loss, loss.shape), gradient, gradient_room)

    def _bounds(self, case: Case) -> Bounds:
        arithmetic = self._arithmetic()
        rows = bounds(case, self.subject.semantics, arithmetic)
        return reduced(rows, case, self.subject.semantics, arithmetic)

    def _arithmetic(self) -> Arithmetic:
        found = self.subject.arithmetic.get(self.dtype)
        if found is None:
            raise NotAsked("nobody declares how it computes, so that there is no bound")
        return found

    def rounded(self, values: Floats) -> Floats:
        """The nearest numbers of the format."""
        return round_to_format(np.asarray(values, np.float64), FORMATS[self.dtype])

    def labels(self, right: np.ndarray, classes: int) -> np.ndarray:
        """Class indices as the subject takes them: themselves, or a one in each row."""
        return right if self.subject.target == "index" else np.eye(classes)[right]

    def beside(self, operation: str, target: str) -> Asking:
        """The first plain subject of another operation of the same framework.

        Raises:
            NotAsked: where it has none in this format.
        """
        for other in plain(self.subjects):
            fits = (other.operation, other.target) == (operation, target)
            if fits and self.dtype in other.dtypes:
                return Asking(self.session, other, self.dtype, self.subjects)
        raise NotAsked(f"{self.subject.framework} has no {operation} of a {target} in {self.dtype}")
