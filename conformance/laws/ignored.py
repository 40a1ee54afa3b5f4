"""Rows that are ignored: whatever is in them, they count for nothing and spoil nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.truth import ignored_rows
from ...reference.vocabulary import Case
from ..bench import Bench
from ..law import Law, Verdict, only
from .value import check_gradient, check_loss

PASSED = -1
"""The label that is named as ignored where none is unasked."""

EVERY = 2
"""Each second row is ignored, the first one too: so is the row of a case that has one alone."""


def poisoned(bench: Bench, case: Case) -> Case:
    """The case with each second row ignored and full of NaN, unreduced."""
    label, options = _label(bench, case), replace(case.options, reduction="none")
    if bench.semantics.ignore_index != label:
        options = replace(options, ignore_index=label)
    rows = np.arange(case.rows) % EVERY == 0
    return replace(
        case,
        inputs=np.where(rows[:, None], np.nan, case.inputs),
        target=np.where(rows, label, case.target),
        options=options,
    )


def _label(bench: Bench, case: Case) -> int:
    """The label that is ignored: the one that is passed, the one unasked, or one to be passed."""
    known = (case.options.ignore_index, bench.semantics.ignore_index, PASSED)
    return next(label for label in known if label is not None)


def check_ignored(bench: Bench, case: Case) -> list[Verdict]:
    """The ignored rows against 0, and the mean against that of the rows that count.

    About the other rows it speaks only where they are no number and were one without the NaN.
    """
    case = poisoned(bench, case)
    ignored = ignored_rows(case.target, _label(bench, case))
    clean = replace(case, inputs=np.where(ignored[:, None], 0.0, case.inputs))
    before, after = bench.outputs(clean), bench.outputs(case)
    spoiled = [
        np.isfinite(was).reshape(case.rows, -1).all(axis=1)
        & ~np.isfinite(found).reshape(case.rows, -1).all(axis=1)
        for was, found in zip(before, after, strict=True)
    ]
    verdicts = [
        only(verdict, ignored | touched)
        for verdict, touched in zip(
            [*check_loss(bench, case), *check_gradient(bench, case)], spoiled, strict=True
        )
    ]
    if "mean" in bench.subject.reductions and case.rows > 1:
        mean = replace(case, options=replace(case.options, reduction="mean"))
        verdicts += check_loss(bench, mean)
    return verdicts


def _ignores(subject: Subject) -> bool:
    named = "ignore_index" in subject.options or subject.semantics.ignore_index is not None
    return subject.target == "index" and named and not subject.compiled


IGNORED = Law(
    name="ignored-rows",
    statement="a row with the ignored label: loss 0, gradient 0, and no part in the mean, "
    "also where its logits are NaN",
    source="documentation of ignore_index (torch.nn.CrossEntropyLoss) and ignore_class (Keras); "
    "padding holds whatever was in memory",
    fits=_ignores,
    check=check_ignored,
    regions=("ordinary",),
    by_place=True,
)
