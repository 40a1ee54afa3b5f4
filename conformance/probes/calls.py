"""How a call is taken: its default reduction, the axes, targets of another shape, the inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.vocabulary import INPUTS_CHANGED, Case, Options, Outcome
from ..bench import Bench, Failed
from .cases import small
from .choice import Candidate, Found, Undecided, losses, over, short, told


def default_reduction(bench: Bench) -> Found:
    """The call without `reduction`, against those that name one."""
    case = small(bench, 2, Options(reduction="default"))
    outcome = bench.outcome(case)
    if outcome.loss is None:
        raise Failed(outcome)
    evidence = f"loss {_numbers(outcome)}"
    if outcome.loss.shape == (case.rows,):
        return Found("none", evidence, case)
    subject = bench.subject
    if outcome.returned and subject.reductions == ("none",) and not _declares(subject):
        raise Undecided("the loss is reduced, and audited unreduced: nothing to compare it with")
    for name in ("mean", "sum"):
        if name in bench.subject.reductions:
            named = replace(case, options=Options(reduction=name))
            if np.array_equal(bench.outputs(named)[0], outcome.loss):
                return Found(name, evidence, case)
    if "mean" in bench.subject.reductions and bench.subject.target == "distribution":
        mean = replace(case, options=Options(reduction="mean"))
        rows = losses(bench, "mean", mean)
        elements = over(rows, case.inputs.shape[1], "mean of elements", bench)
        if elements.fits(outcome.loss):
            return Found(elements.name, evidence, case)
    return Found("another number" if outcome.returned else "another shape", evidence, case)


def _declares(subject: Subject) -> bool:
    """Whether anything is declared of the call without `reduction`."""
    return subject.interface.default_reduction != ""


def _numbers(outcome: Outcome) -> str:
    """A few returned losses, with their shape where that is not (N,)."""
    assert outcome.loss is not None
    shape = "" if outcome.loss.ndim < 2 else f" of shape {outcome.loss.shape}"
    return ", ".join(short(x) for x in outcome.loss.reshape(-1)[:4]) + shape


def class_axis(bench: Bench) -> Found:
    """Inputs (1, 2, 2), of which either axis may hold the classes."""
    logits = bench.subject.from_logits
    inputs = np.array([[[1.0, 0.0], [2.0, 4.0]]] if logits else [[[0.25, 0.75], [0.5, 0.5]]])
    target = np.array([[0, 0]])
    if bench.subject.target == "distribution":
        target = np.array([[[0.5, 0.25], [0.5, 0.75]]])
    case = Case(bench.subject.operation, bench.dtype, inputs, target)
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return Found("raises", f"raises: {outcome.message[:80]}", case)
    if outcome.loss is None:
        raise Failed(outcome)
    known = []
    for name, turned in (("second", True), ("last", False)):
        rows, goal = inputs[0], target[0]
        if turned:
            rows, goal = rows.T, goal.T if goal.ndim > 1 else goal
        known.append(losses(bench, name, replace(case, inputs=rows, target=goal)))
    evidence = f"loss {_numbers(outcome)}"
    return told(outcome.loss.reshape(-1), known, evidence, case)


def last_axis(bench: Bench) -> Found:
    """A row of two binary elements: two losses, or their mean."""
    rows = small(bench, 2)
    case = replace(rows, inputs=rows.inputs.T, target=rows.target.T)
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return Found("raises", f"raises: {outcome.message[:80]}", case)
    if outcome.loss is None:
        raise Failed(outcome)
    each = losses(bench, "kept", rows)
    mean = losses(bench, "mean", replace(rows, options=Options(reduction="mean")), mean="rows")
    mean = Candidate("mean", np.atleast_1d(mean.exact), np.atleast_1d(mean.reach))
    return told(outcome.loss.reshape(-1), [each, mean], f"loss {_numbers(outcome)}", case)


def broadcasting(bench: Bench) -> Found:
    """A target of another shape: (2, 1) for two rows of classes, (2,) for inputs (2, 1)."""
    right = small(bench, 2)
    target = right.target.reshape(2, -1)[:, :1]
    if bench.subject.target == "binary":
        target = right.target[:, 0]
    case = replace(right, target=target)
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        first = (outcome.message.splitlines() or [""])[0]
        return Found("raises", f"raises: {first[:80]}", case)
    if outcome.loss is None:
        raise Failed(outcome)
    evidence = f"loss {_numbers(outcome)}"
    same = np.array_equal(outcome.loss, bench.outputs(right)[0])
    return Found("reshapes" if same else "broadcasts", evidence, case)


def mutates(bench: Bench) -> Found:
    """Whether the inputs are the same after the loss and its gradient as before."""
    case = small(bench)
    outcome = bench.outcome(case)
    if not outcome.returned:
        raise Failed(outcome)
    changed = INPUTS_CHANGED in outcome.warnings
    evidence = f"inputs {'changed' if changed else 'unchanged'} after loss and gradient"
    return Found("yes" if changed else "no", evidence, case)
