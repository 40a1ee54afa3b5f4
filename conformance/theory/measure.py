"""Asks every identity of the plain ops of frameworks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import Subject
from ..bench import Session
from ..plainly import plain
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
        for subject in plain(subjects):
            if identity.fits(subject):
                for dtype in subject.dtypes:
                    yield _answer(identity, Asking(session, subject, dtype, subjects))


def _answer(identity: Identity, asking: Asking) -> Answer:
    try:
        with np.errstate(over="ignore", under="ignore"):
            claims = tuple(identity.claims(asking))
    except NotAsked as reason:
        return Answer(identity, asking.subject, asking.dtype, (), str(reason))
    return Answer(identity, asking.subject, asking.dtype, claims)
