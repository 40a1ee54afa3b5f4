"""Asks every identity of the plain ops of frameworks."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...adapters.client import UnusableFramework
from ...adapters.subject import Subject, plain
from ..bench import Session
from .asking import Asking, Claim, NotAsked, NotReturned
from .identities import IDENTITIES, Identity


@dataclass(frozen=True)
class Answer:
    """What came of one identity asked of one subject in one format.

    Attributes:
        claims: empty where it could not be asked, or the bounds are too wide to tell anything.
        reason: why.
        broken: whether a call that it needs did not return.
    """

    identity: Identity
    subject: Subject
    dtype: str
    claims: tuple[Claim, ...]
    reason: str = ""
    broken: bool = False

    @property
    def holds(self) -> bool:
        return not self.broken and all(claim.holds for claim in self.claims)

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
    blank = partial(Answer, identity, asking.subject, asking.dtype, ())
    try:
        with np.errstate(all="ignore"):
            claims = tuple(identity.claims(asking))
    except NotAsked as reason:
        return blank(str(reason))
    except NotReturned as said:
        return blank(str(said), broken=True)
    except UnusableFramework:
        raise
    except Exception:  # noqa: BLE001 - the other statements must be asked all the same
        return blank(f"internal: {traceback.format_exc(limit=-3)}", broken=True)
    telling = tuple(claim for claim in claims if claim.tells or not claim.holds)
    if not telling:
        return blank("rounding in this format may hide any mistake")
    return Answer(identity, asking.subject, asking.dtype, telling)
