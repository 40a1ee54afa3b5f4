"""The table of a finding's card: what every comparable subject answers to the same input."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..conformance.run import Finding, Peer
from . import text
from .digest import Digest

SHOWN = 10
"""Classes of a gradient shown in a cell."""


@dataclass(frozen=True)
class Answer:
    """One answer, and who gave it.

    Attributes:
        who: framework and its ops.
        status: "" where the call returned, else what it did in one line.
        loss, gradient: texts of the numbers of the finding's row; the gradient cut to SHOWN.
        cut: entries of the gradient that are left out.
        loss_ulps, gradient_ulps: "exact" where it is the correctly rounded value, "2 ulps",
            "another kind", or "" where no value is right.
        subjects: their whole names.
        right: right loss and gradient where they differ from those at the head of the table, since
            these subjects have other conventions; else empty.
    """

    who: tuple[tuple[str, str], ...]
    status: str
    loss: tuple[str, ...]
    gradient: tuple[str, ...]
    cut: int
    loss_ulps: str
    gradient_ulps: str
    subjects: tuple[str, ...]
    right: tuple[tuple[str, ...], tuple[str, ...]] | tuple[()]


@dataclass(frozen=True)
class Table:
    """Right loss and gradient (empty where none is defined), and the answers, the best first.

    Findings of one input share it.

    Attributes:
        under: the op whose conventions the head holds to, where that is not the finding's own:
            one of another mode, which was not asked.
        rows: how many rows the call has; errors are the worst of them.
    """

    loss: tuple[str, ...]
    gradient: tuple[str, ...]
    answers: tuple[Answer, ...]
    subjects: int
    under: str
    rows: int

    def place_of(self, subject: str) -> int:
        """The place of the answer that a subject gave, or -1."""
        places = (i for i, answer in enumerate(self.answers) if subject in answer.subjects)
        return next(places, -1)


class Tables:
    """The tables of all findings of a run, each once, by number."""

    def __init__(self, digest: Digest) -> None:
        made = {finding.id: table(digest, finding) for finding in digest.findings}
        self.tables = list(dict.fromkeys(each for each in made.values() if each is not None))
        numbers = {each: number for number, each in enumerate(self.tables)}
        self._of = {id_: (numbers[each], each) for id_, each in made.items() if each is not None}

    def of(self, finding: Finding) -> tuple[int, int] | None:
        """The number of the table, and the place of the finding's own subject in it, or -1."""
        if finding.id not in self._of:
            return None
        number, found = self._of[finding.id]
        return number, found.place_of(finding.subject)


def table(digest: Digest, finding: Finding) -> Table | None:
    """None where nobody was asked."""
    peers = digest.peers.get(str(finding.case.plain()))
    if peers is None:
        return None
    row = finding.row
    own = next((p for p in peers.answers if finding.subject in p.subjects), None)
    head = own or peers.answers[0]
    under = "" if own else text.one_line(head.subjects[0].rpartition("[")[0], 100)
    right = _right(head, row)
    ordered = sorted(peers.answers, key=_badness)
    answers = tuple(_answer(digest, finding, peer, right) for peer in ordered)
    subjects = sum(len(peer.subjects) for peer in peers.answers)
    return Table(*right, answers, subjects, under, len(finding.case.inputs))


def _right(peer: Peer, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _loss(peer.right_loss, row), _gradient(peer.right_gradient, row)[0]


def _loss(losses: list[str], row: int) -> tuple[str, ...]:
    """That of the row; a reduced loss is one number."""
    return tuple(losses if len(losses) <= 1 else losses[row : row + 1])


def _gradient(rows: list[list[str]], row: int) -> tuple[tuple[str, ...], int]:
    mine = rows[row] if row < len(rows) else []
    return tuple(mine[:SHOWN]), max(0, len(mine) - SHOWN)


def _badness(peer: Peer) -> tuple[float, ...]:
    if peer.status != "returned":
        return (2.0, 0.0, -len(peer.subjects))
    errors = [peer.loss_ulps] if peer.right_loss else []
    errors += [peer.gradient_ulps] if peer.right_gradient and peer.gradient else []
    other_kind = any(error is None for error in errors)
    return (
        float(other_kind),
        max((e for e in errors if e is not None), default=0.0),
        -len(peer.subjects),
    )


def _answer(
    digest: Digest, finding: Finding, peer: Peer, head: tuple[tuple[str, ...], tuple[str, ...]]
) -> Answer:
    returned = peer.status == "returned"
    gradient, cut = _gradient(peer.gradient, finding.row)
    right = _right(peer, finding.row)
    return Answer(
        _who(digest, peer),
        "" if returned else text.one_line(f"{peer.status}: {peer.message}", 200),
        _loss(peer.loss, finding.row),
        gradient,
        cut,
        _ulps(peer.loss_ulps, peer.loss, peer.right_loss) if returned else "",
        _ulps(peer.gradient_ulps, peer.gradient, peer.right_gradient),
        tuple(peer.subjects),
        () if right == head else right,
    )


def _ulps(ulps: float | None, value: list, right: list) -> str:
    if not value or not right:
        return ""
    if value == right:
        return "exact"
    return "another kind" if ulps is None else text.ulps_text(ulps)


def _who(digest: Digest, peer: Peer) -> tuple[tuple[str, str], ...]:
    """Ops by framework, in the order of the run."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in peer.subjects:
        subject = digest.subjects[name]
        found[subject.framework].append(subject.op)
    return tuple((framework, ", ".join(ops)) for framework, ops in found.items())
