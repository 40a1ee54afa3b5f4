"""What an op promises beside its numbers: the same again, the dtype, the name of what it skips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.truth import ignored_rows
from ...reference.vocabulary import Case, Outcome
from ..bench import Bench, Failed
from ..judge import RANK, Judgement, distance, ulp_of
from ..law import EXACT, NOT_JUDGED, VIOLATES, Law, Verdict, always, by_row, in_words
from ..regions import said_of
from .terms import OUTPUTS, Term, equal, side


def _returned(outcome: Outcome) -> Outcome:
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    return outcome


def check_repeated(bench: Bench, case: Case) -> list[Verdict]:
    """The bits of two calls that are given the same; a NaN is like any other NaN."""
    first, second = _returned(bench.outcome(case)), _returned(bench.again(case))
    verdicts = []
    for output in OUTPUTS:
        a, b = getattr(first, output), getattr(second, output)
        if a is None or b is None:
            continue
        gap = distance(a, b)
        grade = np.where(gap == 0, EXACT, VIOLATES)
        nothing = np.zeros(a.shape)
        ulps = np.where(np.isfinite(gap), gap, np.nan) / ulp_of(a, bench.fmt)
        found = Judgement(grade, ulps, b, nothing, nothing)
        verdicts.append(
            by_row(output, case, found, a, f"the {output} of one call, and of the next")
        )
    return verdicts


def check_dtype(bench: Bench, case: Case) -> list[Verdict]:
    """The name of the dtype of the loss."""
    outcome = _returned(bench.outcome(case))
    declared = bench.subject.semantics.output
    right = case.dtype if declared == "input" else declared
    grade = np.full(case.rows, EXACT if outcome.loss_dtype == right else RANK["policy"])
    return [in_words("loss", case, grade, (outcome.loss_dtype, right))]


IDS = (-1, -100, -2)
"""Labels that no class has, among them those that padding usually has."""


FAR_ID = 257
"""One above every class, and more than a byte holds: pytorch#108148 was found with it."""


def _ids(bench: Bench) -> tuple[int, ...]:
    """The names that the op takes: one that is no class is declared to raise in some."""
    domain = bench.subject.interface.ignore_domain
    if domain in ("", "any"):
        return (*IDS, FAR_ID)
    ids = IDS if said_of(domain, "-1") == "ignores" else ()
    return (*ids, FAR_ID) if said_of(domain, "K + 2") == "ignores" else ids


def check_ignored_id(bench: Bench, case: Case) -> list[Verdict]:
    """Every third row ignored under one name, and under another.

    A row that is ignored as it comes stays so: alone it is the same.
    """
    names = _ids(bench)
    skipped = (np.arange(case.rows) % 3 == 0) | (case.target == case.options.ignore_index)
    if len(names) < 2:
        return []
    first, *others = (
        replace(
            case,
            target=np.where(skipped, name, case.target),
            options=replace(case.options, ignore_index=name),
        )
        for name in names
    )
    verdicts = []
    for other in others:
        name = other.options.ignore_index
        note = f"where {names[0]} is ignored, and where {name} is"
        verdicts += equal(bench, first, side(Term(bench, first)), side(Term(bench, other)), note)
    return verdicts


def _declared_for(policy: str, label: int, classes: int) -> str:
    """What a declaration says of a label; "" where it says two things of labels beyond its own."""
    nearest, far = ("-1", "-10^6") if label < 0 else ("K", "10^6")
    said = said_of(policy, far)
    if label in (-1, classes):
        return said_of(policy, nearest)
    return said if said == said_of(policy, nearest) else ""


def _follows(bench: Bench, case: Case, outcome: Outcome, row: int, declared: str) -> bool:
    """Whether the loss of a row with a label that is no class is what is declared."""
    if outcome.loss is None or declared == "raises":
        return False
    value, classes = float(outcome.loss[row]), case.inputs.shape[1]
    if declared in ("nan", "zero"):
        return bool(np.isnan(value)) if declared == "nan" else value == 0
    label = int(case.target[row])
    meant = label % classes if declared == "wraps" else min(max(label, 0), classes - 1)
    target = case.target.copy()
    target[row] = meant
    return float(bench.outputs(replace(case, target=target))[0][row]) == value


def check_label_policy(bench: Bench, case: Case) -> list[Verdict]:
    """What a label outside of [0, K) does, against the declaration."""
    labels, classes = np.asarray(case.target), case.inputs.shape[1]
    outside = (labels < 0) | (labels >= classes)
    outside = outside & ~ignored_rows(labels, bench.semantics.ignore_index)
    outcome = bench.outcome(case)
    if outcome.status in ("unsupported", "crashed", "timed out"):
        raise Failed(outcome)
    grade = np.full(case.rows, NOT_JUDGED)
    told = ("", "")
    for row in np.flatnonzero(outside):
        policy = bench.subject.semantics.label_policy
        declared = _declared_for(policy, int(labels[row]), classes)
        if not declared:
            continue
        if outcome.returned and outcome.loss is not None:
            right = _follows(bench, case, outcome, int(row), declared)
            came = f"returned {float(outcome.loss[row])!r}"
        else:
            right, came = declared == "raises", f"{outcome.status} {outcome.message[:120]}"
        grade[row] = EXACT if right else RANK["policy"]
        if not right:
            told = (f"{came} for the label {labels[row]}", f"{declared}, as declared")
    return [in_words("loss", case, grade, told)]


def check_layout(bench: Bench, case: Case) -> list[Verdict]:
    """The same numbers as a view of another array, and in an array of their own."""
    verdicts = []
    for layout in bench.subject.layouts:
        view = replace(case, layout=layout)
        note = f"of an array of its own, and of a view ({layout})"
        verdicts += equal(bench, case, side(Term(bench, case)), side(Term(bench, view)), note)
    return verdicts


def _has_a_policy(subject: Subject) -> bool:
    """On a GPU an assertion of the kernel ends the process; logsumexp looks at no label."""
    declared = "label_policy" not in subject.undeclared and subject.operation != "logsumexp"
    return subject.target == "index" and declared and subject.device == "cpu"


def _names_what_it_ignores(subject: Subject) -> bool:
    return subject.mode == "eager" and "ignore_index" in subject.options


LABELS = Law(
    name="label-policy",
    statement="a label outside of [0, K) does what is declared: raises, NaN, 0, wraps or clamps; "
    "in every mode and format, however far outside",
    source="documentation of each op; pytorch#135546, tensorflow#126005, Keras on labels",
    fits=_has_a_policy,
    check=check_label_policy,
    outputs=("loss",),
    regions=("invalid-label", "far-label"),
    invalid=True,
    effort=0.0,
)

REPEATED = Law(
    name="same-call-same-bits",
    statement="two calls with the same arguments return the same bits",
    source="a function of its arguments; pytorch#71367 and tensorflow#38185 on atomics of GPUs",
    fits=always,
    check=check_repeated,
    regions=("ordinary", "wide"),
    rows_together=True,
    effort=0.0,
)

DTYPE = Law(
    name="dtype-as-declared",
    statement="the loss comes in the dtype that is declared: that of the inputs, or one by name",
    source="documentation of each op; flash-attention gives float32, PyTorch under autocast too",
    fits=lambda s: "output" not in s.undeclared,
    check=check_dtype,
    outputs=("loss",),
    regions=("ordinary",),
    effort=0.0,
)

IGNORED_ID = Law(
    name="ignored-label-has-no-name",
    statement="the loss does not depend on which label outside of [0, K) is the ignored one",
    source="documentation of ignore_index; pytorch#108148 (a kernel that knew -100 alone)",
    fits=_names_what_it_ignores,
    check=check_ignored_id,
    regions=("ordinary",),
    effort=0.25,
)

LAYOUT = Law(
    name="memory-layout",
    statement="loss and gradient do not depend on strides and offset of the array of the inputs",
    source="a tensor is its elements; pytorch#111484 and #190139 (transposed logits)",
    fits=lambda s: bool(s.layouts),
    check=check_layout,
    regions=("ordinary",),
    effort=0.25,
)
