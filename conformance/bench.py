"""The bench on which a law examines one subject in one dtype: answers, truth and bounds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np

from ..adapters.subject import Subject
from ..reference.bounds import Bounds, bounds, demanded, target_bounds, unbounded
from ..reference.formats import FORMATS, Format
from ..reference.rows import Truth, target_truth, truth
from ..reference.vocabulary import BY_ROW, Arithmetic, Case, Floats, Outcome, Semantics
from .regions import Plan, make_case

T = TypeVar("T")

CACHE = 512
"""Cases remembered per bench and in common: a cell of the deepest profile draws fewer."""


class Session(Protocol):
    """Whatever answers for subjects: a pool of workers, or a function in this process."""

    def ask(self, subject: Subject, case: Case) -> Outcome: ...

    def versions(self, framework: str) -> dict[str, str]: ...


class Failed(Exception):
    """The subject did not return; the outcome says what it did instead."""

    def __init__(
        self, outcome: Outcome, subject: Subject | None = None, case: Case | None = None
    ) -> None:
        super().__init__(outcome.message)
        self.outcome, self._subject, self._case = outcome, subject, case

    def asked(self, subject: Subject) -> Case | None:
        """The call that failed, where it is known and one of that subject: a law makes several."""
        return self._case if subject is self._subject else None


LARGE = 2**16
"""Entries of a case from which on what it leads to is not kept for each subject: megabytes."""

KEPT_LARGE = 32
"""Large cases, and what they lead to, that are kept in common: the case, its outcome, truth and
bounds in each of four formats, with room for another target."""


class Memory:
    """The last results of a function of a case, by the bits of the case."""

    def __init__(self, size: int = CACHE) -> None:
        self._kept: OrderedDict[tuple[object, ...], object] = OrderedDict()
        self._size = size

    def get(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]  # type: ignore[return-value]
        result = make()
        self._kept[key] = result
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return result


def digest(case: Case) -> bytes:
    """A key for the bits of a case, much cheaper than its row ids."""
    shapes = (case.inputs.shape, case.target.shape)
    head = repr((case.operation, case.dtype, case.options, shapes, case.by_target, case.layout))
    h = hashlib.blake2b(head.encode(), digest_size=16)
    h.update(case.inputs.tobytes())
    h.update(case.target.tobytes())
    for more in (getattr(case, name) for name in BY_ROW[2:]):
        h.update(b"none" if more is None else more.tobytes())
    return h.digest()


@dataclass
class Bench:
    """One subject in one dtype, under the Semantics that were measured.

    Attributes:
        others: finds another subject of the same framework, mode and device by its op, or the
            same op in another mode.
        truths: shared between benches, since subjects share cases.
        tried: the same for bounds of other forms than the declared ones.
        large: shared too, for whatever large cases lead to.
    """

    subject: Subject
    dtype: str
    session: Session
    semantics: Semantics
    others: Callable[[str, str], Subject | None]
    truths: Memory
    tried: Memory = field(default_factory=Memory)
    large: Memory = field(default_factory=lambda: Memory(KEPT_LARGE))

    def __post_init__(self) -> None:
        self._outcomes = Memory()
        self._bounds = Memory()
        self._siblings: dict[tuple[str, str], Bench] = {}

    @cached_property
    def fmt(self) -> Format:
        return FORMATS[self.dtype]

    @cached_property
    def arithmetic(self) -> Arithmetic | None:
        return self.subject.arithmetic.get(self.dtype)

    def sibling(self, op: str | None, mode: str | None = None) -> Bench | None:
        """The bench of a related subject, if the framework has it in this dtype."""
        key = (op or self.subject.op, mode or self.subject.mode)
        if key not in self._siblings:
            other = self.others(*key)
            if other is None or self.dtype not in other.dtypes:
                return None
            self._siblings[key] = Bench(
                other,
                self.dtype,
                self.session,
                other.semantics,
                self.others,
                self.truths,
                self.tried,
                self.large,
            )
        return self._siblings[key]

    def outcome(self, case: Case) -> Outcome:
        """What the subject does with a case; a compiled one is called at its own shape.

        A call that was lost is remembered like any other: to ask again may cost a worker again.
        """
        return self._kept(self._outcomes, "outcome", case, lambda: self._ask(case))

    def _kept(self, memory: Memory, kind: str, case: Case, make: Callable[[], T]) -> T:
        """What is remembered of this subject; of a large case not for long."""
        key: tuple[object, ...] = (kind, digest(case))
        if case.inputs.size > LARGE:
            key = (self.subject.name, *key)  # other subjects share that memory
        return self._memory(case, memory).get(key, make)

    def _memory(self, case: Case, usual: Memory) -> Memory:
        return self.large if case.inputs.size > LARGE else usual

    def again(self, case: Case) -> Outcome:
        """As `outcome`, but asked anew whatever is remembered."""
        return self._ask(case)

    def _ask(self, case: Case) -> Outcome:
        shape = self.subject.shape
        if shape is None or case.inputs.shape == shape:
            return self.session.ask(self.subject, case)
        if case.rows == 0 or case.rows > shape[0] or case.options.reduction != "none":
            return Outcome("unsupported", message=f"compiled for the shape {shape} only")
        padded = case.take(np.resize(np.arange(case.rows), shape[0]))
        outcome = self.session.ask(self.subject, padded)
        if not outcome.returned or outcome.loss is None:
            return outcome
        gradient = None if outcome.gradient is None else outcome.gradient[: case.rows]
        return replace(outcome, loss=outcome.loss[: case.rows], gradient=gradient)

    def outputs(self, case: Case) -> tuple[Floats, Floats]:
        """Loss and gradient.

        The gradient of a subject that declares none is NaN, and no verdict on it is ever heard
        (`Law.verdicts`).

        Raises:
            Failed: if the subject raised, died, hung or returned another shape.
        """
        outcome = self.outcome(case)
        if not outcome.returned or outcome.loss is None:
            raise Failed(outcome, self.subject, case)
        gradient = outcome.gradient
        if gradient is None and not self.subject.gradients:
            gradient = np.full(case.inputs.shape, np.nan)
        if gradient is None:
            raise Failed(outcome, self.subject, case)
        return outcome.loss, gradient

    def drawn(self, plan: Plan) -> Case:
        """The large case of a plan, which many subjects share."""
        return self.large.get((plan,), lambda: make_case(plan))

    def truth(self, case: Case, semantics: Semantics | None = None) -> Truth:
        meant = semantics or self.semantics
        memory = self._memory(case, self.truths)
        return memory.get((digest(case), meant), lambda: truth(case, meant))

    def target_gradient(self, case: Case) -> Floats:
        """The gradient with respect to the target.

        Raises:
            Failed: as `outputs`, or if the op gives none.
        """
        asked = replace(case, by_target=True)
        self.outputs(asked)
        outcome = self.outcome(asked)
        if outcome.target_gradient is None:
            raise Failed(Outcome("unsupported", message="no gradient with respect to the target"))
        return outcome.target_gradient

    def target_truth(self, case: Case) -> Truth:
        key = ("target", digest(case), self.semantics)
        return self.truths.get(key, lambda: target_truth(case, self.semantics))

    def target_bounds(self, case: Case) -> tuple[Floats, Floats]:
        """The demand and the declared bound of the gradient with respect to the target."""
        if self.arithmetic is None:
            nothing = np.full(case.target.shape, np.inf)
            return nothing, nothing
        demand = target_bounds(case, self.semantics, demanded(self.arithmetic))
        return demand, target_bounds(case, self.semantics, self.arithmetic)

    def demand(self, case: Case) -> Bounds:
        """The bounds that are the same for every subject of this working precision."""
        if self.arithmetic is None:
            return unbounded(case)
        arithmetic = demanded(self.arithmetic)
        return self._kept(
            self._bounds, "demand", case, lambda: bounds(case, self.semantics, arithmetic)
        )

    def declared(self, case: Case) -> Bounds:
        """The bounds of the arithmetic that the subject declares."""
        if self.arithmetic is None:
            return unbounded(case)
        arithmetic = self.arithmetic
        return self._kept(
            self._bounds, "declared", case, lambda: bounds(case, self.semantics, arithmetic)
        )

    def bounds_of(self, case: Case, arithmetic: Arithmetic) -> Bounds:
        """The bounds of another arithmetic than the declared one."""
        if arithmetic == self.arithmetic:
            return self.declared(case)
        # Many subjects share an arithmetic, and what is tried of it.
        key = (digest(case), self.semantics, replace(arithmetic, origin=""))
        return self._memory(case, self.tried).get(
            key, lambda: bounds(case, self.semantics, arithmetic)
        )
