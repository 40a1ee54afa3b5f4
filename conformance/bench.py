"""The bench on which a law examines one subject in one dtype: answers, truth and bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Protocol, TypeVar

import numpy as np

from ..adapters.subject import Subject
from ..reference.bounds import Bounds, bounds, demanded, target_bounds, unbounded
from ..reference.formats import FORMATS, Format
from ..reference.rows import Truth, read, target_truth, truth
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


@lru_cache(maxsize=1024)
def _drawn(plan: Plan) -> Case:
    """The case of a plan; nobody may write into what all share."""
    case = make_case(plan)
    for array in (getattr(case, name) for name in BY_ROW):
        if array is not None:
            array.flags.writeable = False
    return case


_demanded = lru_cache(maxsize=256)(demanded)


@lru_cache(maxsize=256)
def _anonymous(arithmetic: Arithmetic) -> Arithmetic:
    """What is computed, wherever that was read."""
    return replace(arithmetic, origin="")


_READ = Memory(4 * CACHE)


def _read(case: Case, semantics: Semantics) -> Semantics:
    """As `read`, which is asked for each truth and bound of a case."""
    return _READ.get((case.digest, semantics), lambda: read(case, semantics))


def asked_among(session: Session, subject: Subject, case: Case, rows: int) -> Outcome:
    """What a subject does with a case; fewer rows than so many are asked among copies of them.

    Only where each of them has a loss: the others are asked as they are.
    """
    if 0 < case.rows < rows and _by_rows(case):
        return _among(session, subject, case, rows)
    return session.ask(subject, case)


def _among(session: Session, subject: Subject, case: Case, rows: int) -> Outcome:
    outcome = session.ask(subject, case.take(np.resize(np.arange(case.rows), rows)))
    if not outcome.returned:
        return outcome
    found = {name: getattr(outcome, name) for name in ("loss", "gradient", "target_gradient")}
    return replace(
        outcome, **{name: None if a is None else a[: case.rows] for name, a in found.items()}
    )


def _by_rows(case: Case) -> bool:
    """Whether a case is one of (N, K) inputs, a target of each row, and a loss of each."""
    labels = case.target_kind == "index" and case.target.shape == case.inputs.shape[:1]
    alike = case.target.shape == case.inputs.shape or labels
    return alike and case.inputs.ndim == 2 and case.options.reduction == "none"


@dataclass
class Bench:
    """One subject in one dtype, under the Semantics that were measured.

    Attributes:
        others: finds another subject of the same framework, mode and device by its op, or the
            same op in another mode.
        truths: shared between benches, since subjects share cases.
        tried: the same for bounds, of the declared forms and of others.
        large: shared too, for whatever large cases lead to.
        rows: of the batch in which fewer rows are asked, where each of them has a loss; 0 for as
            many as they are.
    """

    subject: Subject
    dtype: str
    session: Session
    semantics: Semantics
    others: Callable[[str, str], Subject | None]
    truths: Memory
    tried: Memory = field(default_factory=Memory)
    large: Memory = field(default_factory=lambda: Memory(KEPT_LARGE))
    rows: int = 0

    def __post_init__(self) -> None:
        self._outcomes = Memory()
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
                self.rows,
            )
        return self._siblings[key]

    def outcome(self, case: Case) -> Outcome:
        """What the subject does with a case; a compiled one is called at its own shape.

        A call that was lost is remembered like any other: to ask again may cost a worker again.
        """
        return self._kept(self._outcomes, "outcome", case, lambda: self._ask(case))

    def _kept(self, memory: Memory, kind: str, case: Case, make: Callable[[], T]) -> T:
        """What is remembered of this subject; of a large case not for long."""
        key: tuple[object, ...] = (kind, case.digest)
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
        if shape is None:
            return asked_among(self.session, self.subject, case, self.rows)
        if case.inputs.shape == shape:
            return self.session.ask(self.subject, case)
        if case.rows == 0 or case.rows > shape[0] or case.options.reduction != "none":
            return Outcome("unsupported", message=f"compiled for the shape {shape} only")
        return _among(self.session, self.subject, case, shape[0])

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
        """The case of a plan, which many subjects and laws share."""
        if plan.region.vocabulary:
            return self.large.get((plan,), lambda: make_case(plan))
        return _drawn(plan)

    def truth(self, case: Case, semantics: Semantics | None = None) -> Truth:
        meant = semantics or self.semantics
        memory = self._memory(case, self.truths)
        return memory.get((case.digest, _read(case, meant)), lambda: truth(case, meant))

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
        key = ("target", case.digest, _read(case, self.semantics))
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
        return self.bounds_of(case, _demanded(self.arithmetic))

    def declared(self, case: Case) -> Bounds:
        """The bounds of the arithmetic that the subject declares."""
        if self.arithmetic is None:
            return unbounded(case)
        return self.bounds_of(case, self.arithmetic)

    def bounds_of(self, case: Case, arithmetic: Arithmetic) -> Bounds:
        """The bounds of an arithmetic, which many subjects share, and what is tried of it."""
        # What a reduction divides by is not read by the truth of rows.
        by_row = case.options.reduction == "none"
        meant = _read(case, self.semantics) if by_row else self.semantics
        key = (case.digest, meant, _anonymous(arithmetic))
        return self._memory(case, self.tried).get(
            key, lambda: bounds(case, self.semantics, arithmetic)
        )
