"""What a law is, and what it says of the rows of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..adapters.subject import SECOND, Subject
from ..reference.vocabulary import Case, Floats
from .bench import Bench
from .judge import RANK, Judgement

NOT_JUDGED = -1
"""The rank of a row about which a law says nothing."""


@dataclass(frozen=True)
class Verdict:
    """What a law says of one output of the rows of a case.

    Attributes:
        output: "loss", "gradient" (in the target for that law) or "inputs".
        case: the case whose row i is meant by entry i (a law may have changed what it was given).
        grade: (N,) rank of the worst element of each row, or NOT_JUDGED.
        ulps: (N,) largest error of each row, NaN where there is none.
        value, right: (N, E) what came and what is right, E = 1 for the loss.
        demand, declared: (N,) the bounds in ulps at the worst element.
        note: what the two numbers are where they are not 'returned' and 'exact'.
        whole: True where the case as a whole has the one entry (a reduced loss).
        against: the other calls of a relation, if there are any.
        told: what came and what is right in words, where numbers do not say it.
    """

    output: str
    case: Case
    grade: np.ndarray
    ulps: Floats
    value: Floats
    right: Floats
    demand: Floats
    declared: Floats
    note: str = ""
    whole: bool = False
    against: tuple[tuple[Subject, Case], ...] = ()
    told: tuple[str, str] | None = None


Others = Callable[[str, str], "Subject | None"]
"""(op, mode) -> that subject of the same framework, device and environment."""


def alone(_: Subject) -> tuple[str, str] | None:
    """For laws that need no other subject."""
    return None


@dataclass(frozen=True)
class Law:
    """A statement with its source, the subjects that it fits, and how it is checked.

    Attributes:
        name: as in test ids.
        statement: the formula.
        source: paper, issue or documentation that it comes from.
        fits: whether the law applies to a subject.
        check: (bench, case) -> verdicts; a function of each row of the case alone, but for
            `rows_together` and reductions.
        outputs: what it judges, for outcomes that never came.
        regions: names of the regions it is checked in, () for all of the operation.
        classes: the class counts, () for those of the depth.
        options: "none", "all" (each option that the subject takes, and each reduction), "unreduced"
            (each option), or "smoothing".
        invalid: whether it also speaks about invalid labels.
        second: whether it is about second derivatives, and so about subjects of mode "second"; what
            those return beside is looked at under the op's other modes.
        partner: the op and mode that it compares a subject with, or None.
        misuse: what it looks for, where that is a misuse (`Subject.misuse`).
        rows_together: whether it is about rows beside each other, so that a row alone cannot show
            it and a finding is made smaller by leaving rows out.
        own_shapes: whether it asks of other numbers of rows than the case has.
        by_place: whether it treats rows by their place, so that copies of a row are not all alike.
        effort: share of the depth's search that it gets: what relates values that other laws
            judge is searched less.
    """

    name: str
    statement: str
    source: str
    fits: Callable[[Subject], bool]
    check: Callable[[Bench, Case], list[Verdict]]
    outputs: tuple[str, ...] = ("loss", "gradient")
    regions: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    options: str = "none"
    invalid: bool = False
    second: bool = False
    partner: Callable[[Subject], tuple[str, str] | None] = alone
    misuse: str = ""
    rows_together: bool = False
    own_shapes: bool = False
    by_place: bool = False
    effort: float = 1.0

    def applies(self, subject: Subject) -> bool:
        """Whether the law fits a subject and judges anything that the subject returns.

        What is a misuse breaks any other law, which says nothing about the op that is called.
        """
        if self.second is not (subject.mode == SECOND):
            return False
        if subject.misuse and subject.misuse != self.misuse:
            return False
        return self.fits(subject) and bool(self.judged(subject))

    def dtypes(self, subject: Subject, others: Others) -> tuple[str, ...]:
        """The formats in which it applies: where it compares, those that the other has too."""
        if not self.applies(subject):
            return ()
        key = self.partner(subject)
        if key is None:
            return subject.dtypes
        other = others(*key)
        return () if other is None else tuple(d for d in subject.dtypes if d in other.dtypes)

    def judged(self, subject: Subject) -> tuple[str, ...]:
        """The outputs of a subject that the law judges."""
        return tuple(o for o in self.outputs if subject.gradients or "gradient" not in o)

    def verdicts(self, bench: Bench, case: Case) -> list[Verdict]:
        """What the law says of the outputs that the subject has."""
        judged = self.judged(bench.subject)
        return [verdict for verdict in self.check(bench, case) if verdict.output in judged]


def by_row(
    output: str, case: Case, found: Judgement, value: Floats, note: str = "", *, whole: bool = False
) -> Verdict:
    """The verdict of a judgement of (N,) losses or (N, K) gradients: the worst of each row."""
    shape = (value.shape[0], -1) if value.ndim else (1, 1)
    if value.size == 0:
        shape = (value.shape[0], max(value.size, 1) if value.ndim < 2 else value.shape[1])
    grade = found.grade.reshape(shape)
    ulps = found.ulps.reshape(shape)
    if grade.size == 0:
        none = np.zeros(0)
        empty = np.zeros((0, 1))
        return Verdict(output, case, none.astype(int), none, empty, empty, none, none, note)
    # Among the elements of the worst grade, the one with the largest error.
    worst = grade == grade.max(axis=1, keepdims=True)
    errors = np.nan_to_num(ulps, nan=0.0, posinf=np.finfo(np.float64).max)
    at = np.arange(grade.shape[0]), np.argmax(np.where(worst, errors, -1.0), axis=1)
    finite = np.where(np.isnan(ulps), -np.inf, ulps).max(axis=1)
    return Verdict(
        output,
        case,
        grade[at],
        np.where(np.isfinite(finite), finite, np.where(finite > 0, finite, np.nan)),
        value.reshape(shape),
        found.right.reshape(shape),
        found.demand.reshape(shape)[at],
        found.declared.reshape(shape)[at],
        note,
        whole,
    )


def from_relation(
    output: str,
    case: Case,
    grade: np.ndarray,
    gap: Floats,
    unit: Floats,
    left: Floats,
    right: Floats,
    demand: Floats,
    declared: Floats,
    note: str,
) -> Verdict:
    """The verdict of a relation over (N,) or (N, K) numbers, distances in units of `unit`."""
    with np.errstate(all="ignore"):
        found = Judgement(grade, gap / unit, right, demand / unit, declared / unit)
    return by_row(output, case, found, left, note)


def in_words(output: str, case: Case, grade: np.ndarray, told: tuple[str, str]) -> Verdict:
    """A verdict on what numbers do not say: a grade for each row, what came and what is right."""
    nothing = np.full(case.rows, np.nan)
    none = nothing[:, None]
    return Verdict(output, case, grade, nothing, none, none, nothing, nothing, told=told)


def only(verdict: Verdict, rows: np.ndarray) -> Verdict:
    """The verdict with the other rows not judged."""
    grade = np.where(rows, verdict.grade, NOT_JUDGED)
    return replace(verdict, grade=grade)


def first(verdict: Verdict) -> Verdict:
    """The verdict on the first row, of a batch of its copies, as if it had been alone."""
    row = np.array([0])
    arrays = ("grade", "ulps", "value", "right", "demand", "declared")
    alone = {name: getattr(verdict, name)[:1] for name in arrays}
    against = tuple((subject, case.take(row)) for subject, case in verdict.against)
    return replace(verdict, case=verdict.case.take(row), against=against, **alone)


def finder(subjects: Iterable[Subject]) -> Callable[[Subject], Others]:
    """For a subject, what finds the others beside it among some."""
    by_name = {(s.home, s.op, s.mode): s for s in subjects}
    return lambda subject: lambda op, mode: by_name.get((subject.home, op, mode))


def cells(
    laws: Iterable[Law], subjects: Iterable[Subject], context: Iterable[Subject]
) -> Iterator[tuple[Subject, Law, str]]:
    """What there is to look at: subjects, the laws that fit them, and formats."""
    laws, find = tuple(laws), finder(context)
    for subject in subjects:
        for law in laws:
            for dtype in law.dtypes(subject, find(subject)):
                yield subject, law, dtype


def always(_: Subject) -> bool:
    return True


EXACT = RANK["exact"]
WRONG_KIND = RANK["wrong kind"]
VIOLATES = RANK["violates"]
