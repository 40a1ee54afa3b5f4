"""Labels that are no class: ignored ones, and what others do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...reference.vocabulary import Case, Options
from ..bench import Bench, Failed
from .cases import small, with_label
from .choice import Found, grouped, short

FAR = 10**6
"""A label that lies past any table of classes, and that nobody means by 'ignore'."""

DEFAULTS = (-100, -1, 255)
"""Labels outside [0, K) that implementations ignore unasked: torch's, Keras 2's and Caffe's, and
that of segmentation masks in 8 bits. Within [0, K) each class is tried (Apex ignores 0)."""


def label_policy(bench: Bench) -> Found:
    """What labels of -1, K and far ones do."""
    case = small(bench)
    classes = case.inputs.shape[1]
    asked = (("-1", -1), ("K", classes), ("-10^6", -FAR), ("10^6", FAR))
    policies = [(text, policy(bench, with_label(case, label))) for text, label in asked]
    evidence = ", ".join(f"label {text}: {what}" for text, what in policies)
    value = grouped(policies)
    meant = {"label_policy": value} if "another number" not in value else {}
    return Found(value, evidence, with_label(case, classes), meant)


def policy(bench: Bench, case: Case) -> str:
    """What the label of the first row does, which is no class."""
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return "raises"
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    value = float(outcome.loss[0])
    label, classes = int(case.target[0]), case.inputs.shape[1]
    if np.isnan(value):
        return "nan"
    if value == 0:
        return "zero"
    nearest = min(max(label, 0), classes - 1)
    for name, meant in (("wraps", label % classes), ("clamps", nearest)):
        if float(bench.outputs(with_label(case, meant))[0][0]) == value:
            return name
    return "another number"


def _ignored(bench: Bench, case: Case) -> bool:
    """Whether the first row counts for nothing: loss 0, and any gradient 0 in every class."""
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return False
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    still = outcome.gradient is None or bool((outcome.gradient[0] == 0).all())
    return bool(outcome.loss[0] == 0) and still


def ignore_index(bench: Bench) -> Found:
    """The label that is ignored when nothing is named.

    Where a far label counts for nothing too, zero is what is done with labels outside [0, K), and
    says nothing of a default.
    """
    case = small(bench)
    tried: list[int] = list(range(case.inputs.shape[1]))
    if not _ignored(bench, with_label(case, FAR)):
        tried = [*DEFAULTS, *tried]
    ignored = [label for label in tried if _ignored(bench, with_label(case, label))]
    value = ", ".join(map(str, ignored)) or "None"
    evidence = f"nothing passed; of labels {', '.join(map(str, tried))}, ignored: {value}"
    meant = {"ignore_index": ignored[0] if ignored else None} if len(ignored) < 2 else {}
    return Found(value, evidence, with_label(case, ignored[0] if ignored else tried[0]), meant)


def ignore_domain(bench: Bench) -> Found:
    """Which ignore_index is taken: a negative one, a class, one past the classes."""
    case = small(bench)
    classes = case.inputs.shape[1]
    calls = [
        (text, replace(case, options=Options(ignore_index=label)))
        for text, label in (("-1", -1), ("1", 1), ("K + 2", classes + 2))
    ]
    if case.target_kind == "index":
        calls = [(text, with_label(c, c.options.ignore_index or 0)) for text, c in calls]
        policies = [(text, _on_its_label(bench, c)) for text, c in calls]
    else:
        policies = [(text, _on_soft_targets(bench, c)) for text, c in calls]
    value = grouped(policies)
    evidence = ", ".join(f"ignore_index {text}: {what}" for text, what in policies)
    odd = next((i for i, (_, what) in enumerate(policies) if what != policies[0][1]), 1)
    return Found("any" if value == "ignores" else value, evidence, calls[odd][1])


def _on_its_label(bench: Bench, case: Case) -> str:
    if _ignored(bench, case):
        return "ignores"
    outcome = bench.outcome(case)
    if outcome.status == "raised" or outcome.loss is None:
        return "raises"
    return f"loss {short(outcome.loss[0])}"


def _on_soft_targets(bench: Bench, case: Case) -> str:
    """A distribution has no label to be ignored: the argument is refused, unused, or does more."""
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return "raises"
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    plain, _ = bench.outputs(replace(case, options=Options()))
    return "unused" if np.array_equal(outcome.loss, plain) else f"loss {short(outcome.loss[0])}"
