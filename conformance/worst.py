"""The worst inputs of an audit: what the next one looks at first.

A search climbs on the largest error and then forgets where it was. The row with the largest finite
error of each subject, dtype, output and region is kept in the Run, so that another run, with
another seed, starts from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..adapters.subject import Subject
from ..reference.vocabulary import Case
from .law import NOT_JUDGED, Verdict
from .records import to_record
from .run import GRADES, Worst, anywhere

KEPT = ("value", "gradient-identity", "hessian-products")
"""The laws whose errors are those of the subject alone, against the exact value."""

FAITHFUL = 1.0
"""Ulps below which a result is a neighbour of the exact value: nothing to climb on."""

CLASSES = 16
"""The widest row that is kept: a wide one is as long as all others of its subject."""


class Worsts:
    """Collects the worst row of each output and region of one cell."""

    def __init__(self, law: str) -> None:
        self._law = law
        self._found: dict[tuple[str, str], tuple[float, str, Case]] = {}

    def see(self, region: str, verdict: Verdict) -> None:
        """Keep the worst row of a verdict, if it is worse than what was seen in its region."""
        case, key = verdict.case, (region, verdict.output)
        if self._law not in KEPT or case.inputs.shape[1] > CLASSES:
            return
        if case.options.reduction != "none" or verdict.grade.size != case.rows or not case.rows:
            return  # a row of a reduced loss is not its own input
        errors = np.where(np.isfinite(verdict.ulps), verdict.ulps, 0.0)
        errors = np.where(verdict.grade == NOT_JUDGED, 0.0, errors)
        row = int(np.argmax(errors))
        worst = float(errors[row])
        if worst > max(FAITHFUL, self._found[key][0] if key in self._found else 0.0):
            grade = GRADES[int(verdict.grade[row])]
            self._found[key] = (worst, grade, case.take(np.array([row])))

    def said(self, subject: str, dtype: str) -> Iterator[Worst]:
        """What was kept, in the order of regions and outputs."""
        for (region, output), (ulps, grade, case) in sorted(self._found.items()):
            yield Worst(
                subject=subject,
                dtype=dtype,
                law=self._law,
                output=output,
                region=region,
                ulps=ulps,
                grade=grade,
                case=to_record(case),
            )


class Kept:
    """The worst rows of another run, by the cell that they belong to."""

    def __init__(self, worst: Iterable[Worst]) -> None:
        self._by_cell: dict[tuple[str, str, str], list[Worst]] = {}
        for each in worst:
            key = (anywhere(each.subject), each.law, each.dtype)
            self._by_cell.setdefault(key, []).append(each)

    def of(self, subject: Subject, law: str, dtype: str) -> tuple[Worst, ...]:
        """Those of a cell, in whichever environment they were found."""
        return tuple(self._by_cell.get((subject.name_anywhere, law, dtype), ()))
