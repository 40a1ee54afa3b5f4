"""Formulas of the loss: smoothing, weights, means, gradients of what is no distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...reference.vocabulary import Case, Floats, Options
from ..bench import Bench, Failed
from ..laws.conventions import formulas
from .cases import class_weights, labels, small
from .choice import (
    Found,
    Undecided,
    combined,
    gradients,
    grouped,
    losses,
    short,
    times,
    told,
    told_or_declared,
)

EPS = 0.25
"""Exact in every format, and eps/K and eps/(K-1) of it lie far apart."""

OUT_OF_RANGE = (("-1/8", -0.125), ("3/2", 1.5))
"""Smoothing below 0 and above 1, exact in every format."""

POSITIVE = 4.0
"""A pos_weight: a power of two."""


def smoothing(bench: Bench) -> Found:
    """One smoothed row."""
    case = small(bench, options=Options(label_smoothing=EPS))
    loss, _ = bench.outputs(case)
    known = [losses(bench, f, case, smoothing=f) for f in formulas(bench) if f != "none"]
    # Where the option does nothing, no smoothing can be judged: nothing is meant by it.
    plain = losses(bench, "none", replace(case, options=Options()))
    known.append(replace(plain, meant={}))
    evidence = f"loss {short(loss[0])}"
    return told(loss, known, evidence, case)


def smoothing_domain(bench: Bench) -> Found:
    """One row, smoothed by less than nothing and by more than all."""
    case = small(bench)
    policies, said, calls = [], [], []
    for where, eps in OUT_OF_RANGE:
        call = replace(case, options=Options(label_smoothing=eps))
        what, came = _policy_of_smoothing(bench, case, call)
        policies.append((where, what))
        said.append(f"eps {where}: {came}")
        calls.append(call)
    # A call that raises shows more than one that computes.
    first = next((i for i, (_, what) in enumerate(policies) if what != "computes"), 0)
    return Found(grouped(policies), "; ".join(said), calls[first])


def _policy_of_smoothing(bench: Bench, plain: Case, case: Case) -> tuple[str, str]:
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return "raises", "raises"
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    came = f"loss {short(outcome.loss[0])}"
    own, spread = _smoothed(bench, case)
    if combined(bench, "computes", plain, own + spread, np.abs(own) + np.abs(spread)).fits(
        outcome.loss
    ):
        return "computes", came
    unused = losses(bench, "unused", plain).fits(outcome.loss)
    return ("unused" if unused else "another number"), came


def _smoothed(bench: Bench, case: Case) -> tuple[Floats, Floats]:
    """The two terms of each coefficient, of the labels and of what is spread over the classes."""
    eps, classes = case.options.label_smoothing, case.inputs.shape[1]
    target = np.asarray(case.target, dtype=np.float64)
    if case.target_kind == "binary":
        share = np.concatenate([target, 1.0 - target], axis=1)
        return (1.0 - eps) * share, np.full_like(share, eps / 2)
    share = np.eye(classes)[case.target] if case.target.ndim == 1 else target
    if bench.semantics.smoothing == "eps/(K-1)":
        others = share.sum(axis=1, keepdims=True) - share
        return (1.0 - eps) * share, eps / max(classes - 1, 1) * others
    return (1.0 - eps) * share, np.full_like(share, eps / classes)


def weighted_smoothing(bench: Bench) -> Found:
    """One row, smoothed and with class weights."""
    case = small(bench)
    weights = class_weights(case)
    both = replace(case, options=Options(weight=weights, label_smoothing=EPS))
    smoothed = replace(case, options=Options(label_smoothing=EPS))
    loss, _ = bench.outputs(both)
    own = weights[int(case.target[0])]
    known = [
        losses(bench, "each term", both),
        times(losses(bench, "label", smoothed), own, "label", bench),
    ]
    return told(loss, known, f"loss {short(loss[0])}", both)


def pos_weight(bench: Bench) -> Found:
    """One row whose label lies between 0 and 1, so that both terms count."""
    plain = small(bench)
    plain = replace(plain, target=np.full_like(plain.target, 0.25))
    case = replace(plain, options=Options(pos_weight=POSITIVE))
    loss, _ = bench.outputs(case)
    known = [
        losses(bench, "positive term", case),
        times(losses(bench, "both terms", plain), POSITIVE, "both terms", bench),
        losses(bench, "none", plain),
    ]
    return told(loss, known, f"loss {short(loss[0])}", case)


def mean(bench: Bench) -> Found:
    """The denominator: told with whatever the subject takes that moves it.

    Two rows. Of an index, the second is ignored where that can be asked for; of a distribution,
    its target is zero everywhere: that row costs nothing, and counts.
    """
    case = _mean_case(bench)
    loss, _ = bench.outputs(case)
    known = [losses(bench, name, case, mean=name) for name in ("valid", "weights", "rows")]
    evidence = f"mean {short(float(loss))}"
    return told_or_declared(np.asarray(loss), known, bench.semantics.mean, evidence, case)


def _mean_case(bench: Bench) -> Case:
    taken = bench.subject.options
    case = small(bench, 2, Options(reduction="mean"))
    options, target = case.options, np.array(case.target)
    if "weight" in taken:
        options = replace(options, weight=class_weights(case))
    if "pos_weight" in taken:
        options = replace(options, pos_weight=POSITIVE)
    if bench.subject.target == "index" and "ignore_index" in taken:
        options = replace(options, ignore_index=-1)
        target[1::2] = -1
    if bench.subject.target == "distribution":
        target[1::2] = 0.0
    return replace(case, target=target, options=options)


def unasked_mean(bench: Bench) -> Found:
    """Two rows, the second with the label that is ignored unasked; no `ignore_index` is passed."""
    label = bench.semantics.ignore_index
    if label is None:
        raise Undecided("no label was found to be ignored unasked")
    case = small(bench, 2, Options(reduction="mean"))
    target = np.array(case.target)
    target[1::2] = label
    case = replace(case, target=target)
    loss, _ = bench.outputs(case)
    means = {"left out": "valid", "counted": "rows"}
    known = [replace(losses(bench, n, case, mean=m), meant={}) for n, m in means.items()]
    return told(np.asarray(loss), known, f"mean {short(float(loss))}", case)


def all_ignored(bench: Bench) -> Found:
    """The mean over one row that is ignored."""
    case = small(bench, options=Options(reduction="mean", ignore_index=-1))
    case = replace(case, target=np.full_like(case.target, -1))
    loss, _ = bench.outputs(case)
    value = float(loss)
    name = "nan" if np.isnan(value) else "zero" if value == 0 else short(value)
    meant = {"all_ignored": name} if name in ("nan", "zero") else {}
    return Found(name, f"mean {short(value)}", case, meant)


def plus_inf(bench: Bench) -> Found:
    """One +inf logit, at the target and elsewhere: the limits of the loss are 0 and +inf."""
    case = small(bench, 2)
    classes = case.inputs.shape[1]
    label, inputs = labels(case), case.inputs.copy()
    inputs[np.arange(2), (label + np.array([0, 1])) % classes] = np.inf
    target = label if case.target.ndim == 1 else np.eye(classes)[label]
    case = replace(case, inputs=inputs, target=target)
    loss, _ = bench.outputs(case)
    at_target, elsewhere = float(loss[0]), float(loss[1])
    if np.isnan(at_target) and np.isnan(elsewhere):
        value = "nan"
    else:
        value = "limit" if (at_target, elsewhere) == (0.0, np.inf) else "unspecified"
    evidence = f"loss {at_target} with +inf at the target, {elsewhere} with it elsewhere"
    return Found(value, evidence, case, {"plus_inf": value})


def soft_gradient(bench: Bench) -> Found:
    """A target that sums to 2: sum(q) p - q and p - q are far apart."""
    case = small(bench)
    case = replace(case, target=2.0 * np.asarray(case.target))
    _, gradient = bench.outputs(case)
    names = ("sum(q) p - q", "p - q")
    known = [gradients(bench, name, case, soft_gradient=name) for name in names]
    evidence = f"gradient [{', '.join(short(g) for g in gradient[0])}]"
    return told(gradient, known, evidence, case)


def target_domain(bench: Bench) -> Found:
    """A target outside [0, 1] and, for distributions, one that sums to 1/2."""
    case = small(bench)
    classes = case.inputs.shape[1]
    if bench.subject.target == "binary":
        asked = [("outside [0, 1]", np.array([[2.0]]), np.array([[2.0, -1.0]]))]
    else:
        outside, half = np.zeros((2, 1, classes))
        outside[0, :2], half[0, 0] = (2.0, -1.0), 0.5
        asked = [("outside [0, 1]", outside, outside), ("sum 1/2", half, half)]
    policies, said = [], []
    for where, target, coefficients in asked:
        call = replace(case, target=target)
        what, came = _policy_of_target(bench, call, coefficients)
        policies.append((where, what))
        said.append(f"{where}: {came}")
    # A call that raises shows more than one that computes.
    first = next((i for i, (_, what) in enumerate(policies) if what != "computes"), 0)
    return Found(grouped(policies), "; ".join(said), replace(case, target=asked[first][1]))


def _policy_of_target(bench: Bench, case: Case, coefficients: np.ndarray) -> tuple[str, str]:
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return "raises", "raises"
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    came = f"loss {short(outcome.loss[0])}"
    fits = combined(bench, "computes", case, coefficients).fits(outcome.loss)
    return ("computes" if fits else "another number"), came


def output(bench: Bench) -> Found:
    """The dtype of the loss for each dtype of the inputs."""
    found = {}
    for dtype in bench.subject.dtypes:
        there = replace(bench, dtype=dtype)
        outcome = there.outcome(small(there))
        if not outcome.returned:
            raise Failed(outcome)
        found[dtype] = outcome.loss_dtype
    evidence = ", ".join(f"{given} -> {came}" for given, came in found.items())
    kinds = set(found.values())
    value = kinds.pop() if len(kinds) == 1 and len(found) > 1 else evidence
    same = all(given == came for given, came in found.items())
    return Found("dtype of the inputs" if same else value, evidence, small(bench))
