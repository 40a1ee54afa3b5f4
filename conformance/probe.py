"""The probe: measures a subject's conventions from its numbers alone.

It comes before the laws: a declaration that the probe contradicts is one finding-like line of the
conventions table, and values are then judged under what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..adapters.subject import Subject
from ..reference.exact import to_float
from ..reference.rows import reduce_truth
from ..reference.vocabulary import Case, Semantics
from .bench import Bench, Failed
from .laws.conventions import formulas, smoothing_matches, told_apart
from .regions import ROWS, Plan, make_case, region
from .run import Convention

Measured = tuple[str, str]
"""(value, evidence); the value is empty where nothing could be measured, for the reason given."""

NOT_MEASURED = ""


def probe(bench: Bench) -> tuple[Semantics, list[Convention]]:
    """Measure every field that this subject has; return the Semantics to judge it under."""
    conventions = []
    measured = bench.semantics
    lost = False
    for field, measure in _fields(bench.subject):
        if lost:
            break  # a subject that dies or hangs would do so again for every field
        value, evidence, lost = _attempt(measure, bench)
        declared = _declared(bench.semantics, field, bench.subject)
        agrees = None if value == NOT_MEASURED else value == declared
        conventions.append(
            Convention(
                subject=bench.subject.name,
                field=field,
                declared=declared,
                measured=value,
                agrees=agrees,
                evidence=evidence,
            )
        )
        if agrees is False and value in _JUDGED_UNDER.get(field, ()):
            measured = replace(measured, **{field: value})
    return measured, conventions


# Fields whose measured value can stand in the Semantics, and the values that the reference knows.
_JUDGED_UNDER = {
    "smoothing": ("eps/K", "eps/(K-1)", "toward 1/2"),
    "mean": ("weights", "valid", "rows"),
    "plus_inf": ("limit", "nan", "unspecified"),
    "soft_gradient": ("sum(q) p - q", "p - q"),
    "renormalise": ("no", "before", "after"),
}


def _attempt(measure: Callable[[Bench], Measured], bench: Bench) -> tuple[str, str, bool]:
    """What was measured, the evidence, and whether the worker was lost over it."""
    try:
        return (*measure(bench), False)
    except Failed as failed:
        outcome = failed.outcome
        first = (outcome.message.strip().splitlines() or [""])[0]
        lost = outcome.status in ("crashed", "timed out")
        return NOT_MEASURED, f"the call {outcome.status}: {first[:200]}", lost


def _declared(semantics: Semantics, field: str, subject: Subject) -> str:
    if field == "guard":
        return _guard_text(semantics)
    if field == "output":
        return "dtype of the inputs" if semantics.output == "input" else semantics.output
    if field == "ignore_index":
        return str(semantics.ignore_index)
    if field == "default reduction":
        return ""
    del subject
    return str(getattr(semantics, field))


def _guard_text(semantics: Semantics) -> str:
    if semantics.guard == "clip":
        return f"clip at {semantics.guard_eps:g}"
    if semantics.guard == "clamp log":
        return f"log >= {semantics.guard_floor:g}"
    return "none"


def _fields(subject: Subject) -> list[tuple[str, Callable[[Bench], Measured]]]:
    """The fields that mean something for a subject, with what measures them."""
    fields: list[tuple[str, Callable[[Bench], Measured]]] = []
    if "label_smoothing" in subject.options:
        fields.append(("smoothing", _smoothing))
    if "mean" in subject.reductions:
        fields.append(("mean", _mean))
    if subject.target == "index":
        fields += [("label_policy", _label_policy)]
        if "ignore_index" in subject.options:
            fields.append(("ignore_index", _ignore_index))
            if "mean" in subject.reductions:
                fields.append(("all_ignored", _all_ignored))
    if subject.operation == "cross_entropy":
        fields.append(("plus_inf", _plus_inf))
    if subject.target == "distribution" and subject.from_logits:
        fields.append(("soft_gradient", _soft_gradient))
    if not subject.from_logits:
        fields.append(("guard", _guard))
        if subject.operation == "cross_entropy_probabilities":
            fields.append(("renormalise", _renormalise))
    fields.append(("output", _output))
    return fields


def _ordinary(bench: Bench, options: tuple[str, ...] = (), reduction: str = "none") -> Case:
    """A case of the ordinary region for this subject."""
    subject = bench.subject
    name = "ordinary"
    shape = subject.shape or (ROWS, 3)
    classes = 2 if subject.target == "binary" else shape[1]
    return make_case(
        Plan(
            region(name, subject.operation),
            subject.operation,
            subject.target,
            bench.dtype,
            shape[0],
            classes,
            options,
            reduction,
            # Any seed does; one that neither the corpus nor a search uses.
            seed=2**40,
        )
    )


def _smoothing(bench: Bench) -> Measured:
    case = _ordinary(bench, ("label_smoothing",))
    matches = smoothing_matches(bench, case)
    usable = told_apart(bench, case)
    fitting = [f for f in formulas(bench) if usable.any() and bool(matches[f][usable].all())]
    eps = case.options.label_smoothing
    evidence = f"eps = {eps:g}, {int(usable.sum())} rows that tell the formulas apart"
    if len(fitting) == 1:
        return fitting[0], evidence
    return "no known formula", evidence


def _mean(bench: Bench) -> Measured:
    """Which denominator makes the mean: told with weights and ignored rows where there are any."""
    passed = tuple(o for o in ("weight", "ignore_index") if o in bench.subject.options)
    case = _ordinary(bench, passed, "mean")
    loss, _ = bench.outputs(case)
    truth = bench.truth(case)
    losses = {}
    for name in ("weights", "valid", "rows"):
        exact, _ = reduce_truth(truth, case, replace(bench.semantics, mean=name))
        losses[name] = float(to_float(exact))
    gaps = {name: abs(float(loss) - exact) for name, exact in losses.items()}
    best = min(gaps, key=lambda name: gaps[name])
    # The value law grades the mean in ulps. Here a denominator is told from others that differ by
    # whole rows, so half of one row of the batch is near enough, and farther is another formula.
    if gaps[best] > abs(losses[best]) / (2 * case.rows):
        return "another denominator", f"mean {float(loss)!r}, known ones would give {losses}"
    # Without weights and ignored rows the denominators are one: the declared name stands.
    tied = [name for name, exact in losses.items() if exact == losses[best]]
    declared = bench.semantics.mean
    chosen = declared if declared in tied else best
    with_what = " and ".join(passed) or "no option that tells them apart"
    return chosen, f"mean {float(loss):.6g} of {case.rows} rows with {with_what}"


def _label_policy(bench: Bench) -> Measured:
    """What a label of -1 and one of K does."""
    found = []
    for label, text in ((-1, "-1"), (None, "K")):
        case = _ordinary(bench)
        classes = case.inputs.shape[1]
        target = np.array(case.target)
        target[0] = classes if label is None else label
        found.append((text, _policy(bench, replace(case, target=target))))
    policies = {policy for _, policy in found}
    evidence = ", ".join(f"label {text}: {policy}" for text, policy in found)
    if len(policies) == 1:
        return policies.pop(), evidence
    return "; ".join(f"{policy} ({text})" for text, policy in found), evidence


def _policy(bench: Bench, case: Case) -> str:
    outcome = bench.outcome(case)
    if outcome.status == "raised":
        return "raises"
    if not outcome.returned or outcome.loss is None:
        raise Failed(outcome)
    value = float(outcome.loss[0])
    classes = case.inputs.shape[1]
    if np.isnan(value):
        return "nan"
    if value == 0:
        return "zero"
    for name, label in (("wraps", int(case.target[0]) % classes), ("clamps", classes - 1)):
        target = np.array(case.target)
        target[0] = label
        if float(bench.outputs(replace(case, target=target))[0][0]) == value:
            return name
    return "another number"


def _ignore_index(bench: Bench) -> Measured:
    """Whether -100, the default that spread from torch, is ignored without being named."""
    case = _ordinary(bench)
    target = np.array(case.target)
    target[0] = -100
    policy = _policy(bench, replace(case, target=target))
    return ("-100" if policy == "zero" else "None"), f"label -100, nothing passed: {policy}"


def _all_ignored(bench: Bench) -> Measured:
    case = _ordinary(bench, ("ignore_index",), "mean")
    ignored = np.full(case.rows, case.options.ignore_index, dtype=np.int64)
    loss, _ = bench.outputs(replace(case, target=ignored))
    value = float(loss)
    names = {"nan": np.isnan(value), "zero": value == 0}
    found = next((name for name, holds in names.items() if holds), repr(value))
    return found, f"mean over rows that are all ignored: {value!r}"


def _plus_inf(bench: Bench) -> Measured:
    """One +inf logit, at the target and elsewhere: the limits of the loss are 0 and +inf."""
    case = _ordinary(bench)
    inputs = case.inputs.copy()
    labels, rows = _labels(case), np.arange(2)
    inputs[rows, (labels[:2] + np.array([0, 1])) % inputs.shape[1]] = np.inf
    target = case.target
    if target.ndim > 1:
        target = (np.arange(inputs.shape[1]) == labels[:, None]).astype(np.float64)
    loss, _ = bench.outputs(replace(case, inputs=inputs, target=target))
    at_target, elsewhere = float(loss[0]), float(loss[1])
    evidence = f"+inf at the target: loss {at_target!r}; at another class: {elsewhere!r}"
    if np.isnan(at_target) and np.isnan(elsewhere):
        return "nan", evidence
    return ("limit" if (at_target, elsewhere) == (0.0, np.inf) else "unspecified"), evidence


def _labels(case: Case) -> np.ndarray:
    if case.target.ndim == 1:
        return np.asarray(case.target)
    return np.argmax(np.asarray(case.target), axis=1)


def _soft_gradient(bench: Bench) -> Measured:
    """A target that sums to 2: sum(q) p - q and p - q are far apart."""
    case = _ordinary(bench)
    doubled = replace(case, target=2.0 * np.asarray(case.target, dtype=np.float64))
    _, gradient = bench.outputs(doubled)
    gaps = {}
    for name in ("sum(q) p - q", "p - q"):
        meant = replace(bench.semantics, soft_gradient=name)
        gaps[name] = float(np.abs(gradient - to_float(bench.truth(doubled, meant).gradient)).max())
    best = min(gaps, key=lambda name: gaps[name])
    return best, f"targets that sum to 2: largest distance to {best} is {gaps[best]:.3g}"


def _guard(bench: Bench) -> Measured:
    """The loss at p = 0 of the right class and, for BCE, at p = 1 of the wrong one."""
    case = _ordinary(bench)
    if bench.subject.target == "binary":
        inputs, target = case.inputs.copy(), np.array(case.target, dtype=np.float64)
        inputs[:2, 0], target[:2, 0] = (0.0, 1.0), (1.0, 0.0)
        loss, _ = bench.outputs(replace(case, inputs=inputs, target=target))
        at_zero, at_one = float(loss[0]), float(loss[1])
        evidence = f"{at_zero:.3f} at p = 0 (y = 1), {at_one:.3f} at p = 1 (y = 0)"
    else:
        inputs = case.inputs.copy()
        label = _labels(case)[0]
        inputs[0] = np.where(np.arange(inputs.shape[1]) == (label + 1) % inputs.shape[1], 1.0, 0.0)
        hard = replace(case, inputs=inputs, target=_one_label(case, label))
        at_zero = float(bench.outputs(hard)[0][0])
        at_one, evidence = at_zero, f"{at_zero:.3f} at p = 0 of the target"
    return _guard_name(bench, at_zero, at_one), evidence


def _one_label(case: Case, label: int) -> np.ndarray:
    """The targets of a case with the first row's made one-hot at a label."""
    if case.target.ndim == 1:
        return np.asarray(case.target)
    target = np.array(case.target, dtype=np.float64)
    target[0] = np.arange(target.shape[1]) == label
    return target


def _guard_name(bench: Bench, at_zero: float, at_one: float) -> str:
    if not np.isfinite(at_zero):
        return "none"
    declared = bench.semantics
    if declared.guard == "clip":
        # The clip is confirmed where the loss is the one of the clipped probability.
        expected = -np.log(declared.guard_eps)
        u = bench.fmt.unit_roundoff
        # A renormalisation by 1 + eps (K - 1) and the rounding of eps, each a relative change of
        # a few eps, and the four roundings of the log of a quotient.
        reach = 4 * declared.guard_eps + 8 * u * expected
        if abs(at_zero - expected) <= reach:
            return _guard_text(declared)
    if at_zero == at_one and float(at_zero).is_integer():
        return f"log >= {-at_zero:g}"
    return f"clip at {float(np.exp(-at_zero)):.3g}"


def _renormalise(bench: Bench) -> Measured:
    """Probabilities that sum to 1/2: is the loss that of p, or of p / sum p?"""
    case = _ordinary(bench)
    halved = replace(case, inputs=case.inputs / 2)
    loss, _ = bench.outputs(halved)
    gaps: dict[str, float] = {}
    for name in (
        "no",
        bench.semantics.renormalise if bench.semantics.renormalise != "no" else "before",
    ):
        meant = replace(bench.semantics, renormalise=name)
        gaps[name] = float(np.abs(loss - to_float(bench.truth(halved, meant).loss)).max())
    best = min(gaps, key=lambda name: gaps[name])
    return best, f"probabilities that sum to 1/2: largest distance {gaps[best]:.3g}"


def _output(bench: Bench) -> Measured:
    """The dtype of the loss for each dtype of the inputs."""
    found = {}
    for dtype in bench.subject.dtypes:
        there = replace(bench, dtype=dtype)
        outcome = there.outcome(_ordinary(there))
        if not outcome.returned:
            raise Failed(outcome)
        found[dtype] = outcome.loss_dtype
    evidence = ", ".join(f"{given} -> {came}" for given, came in found.items())
    if all(given == came for given, came in found.items()):
        return "dtype of the inputs", evidence
    kinds = set(found.values())
    return (kinds.pop() if len(kinds) == 1 else evidence), evidence
