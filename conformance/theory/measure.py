"""Asks every identity of the plain ops of frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...adapters.client import UnusableFramework, WorkerPool
from ...adapters.subject import PLAIN, Subject
from ..bench import Session
from ..engine import Patience, plan
from ..run import Absence
from .asking import Asking, Claim, NotAsked
from .identities import IDENTITIES, Identity


@dataclass(frozen=True)
class Answer:
    """What came of one identity asked of one subject in one format.

    Attributes:
        claims: empty where it could not be asked.
        reason: why not.
    """

    identity: Identity
    subject: Subject
    dtype: str
    claims: tuple[Claim, ...]
    reason: str = ""

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)

    @property
    def worst(self) -> Claim | None:
        """The claim that takes most of its room."""
        return max(self.claims, key=lambda claim: claim.share, default=None)


def answers(session: Session, subjects: Sequence[Subject]) -> Iterator[Answer]:
    """Every identity for every plain subject of one framework that it fits."""
    for identity in IDENTITIES:
        for subject in subjects:
            plain = subject.mode in PLAIN and not (subject.misuse or subject.tensors)
            if plain and identity.fits(subject):
                for dtype in subject.dtypes:
                    yield _answer(identity, Asking(session, subject, dtype, subjects))


def _answer(identity: Identity, asking: Asking) -> Answer:
    try:
        with np.errstate(over="ignore", under="ignore"):
            claims = tuple(identity.claims(asking))
    except NotAsked as reason:
        return Answer(identity, asking.subject, asking.dtype, (), str(reason))
    return Answer(identity, asking.subject, asking.dtype, claims)


def measured(frameworks: Sequence[str], emit: Callable[[Answer], None]) -> list[Absence]:
    """Ask frameworks, each in a worker of its own; says which are not there."""
    parts, absent = plan(frameworks, "quick")
    for part in parts:
        if any(subject.compiled for subject in part.subjects):
            continue
        with WorkerPool(part.environment.python) as pool:
            try:
                for answer in answers(Patience(pool, lambda _: None), part.subjects):
                    emit(answer)
            except UnusableFramework as error:
                home = part.subjects[0].home
                absent.append(Absence(framework=home, reason=error.reason, hint=""))
    return absent
