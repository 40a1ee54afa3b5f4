"""How probabilities are kept away from 0 and 1, and whether they are renormalised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...reference.formats import round_to_format
from ...reference.vocabulary import Case, Floats, Semantics
from ..bench import Bench
from .cases import small
from .choice import (
    NO_FORMULA,
    Candidate,
    Found,
    gradients,
    losses,
    short,
    told,
    told_or_declared,
)

DIGITS = 17
"""With so many digits every float64 has a decimal of its own."""


def guard_text(semantics: Semantics) -> str:
    """The guard as it is declared and measured."""
    if semantics.guard == "clip":
        return f"clip at {semantics.guard_eps:g}"
    if semantics.guard == "clamp log":
        return f"log >= {semantics.guard_floor:g}"
    return semantics.guard


def gradient_text(semantics: Semantics) -> str:
    """The gradient of the guard: the exact one of a guarded loss is 0 where the guard acts."""
    exact = semantics.guard_gradient == "exact"
    return "0 outside" if exact and semantics.guard != "none" else semantics.guard_gradient


def guard(bench: Bench) -> Found:
    """The loss at p = 0 of the target (and at p = 1 of a wrong binary label) tells the guard's eps.

    A second row just past that eps must then have the loss of its own p: log(p + eps) has not.
    """
    ends = _at_the_ends(bench)
    loss, _ = bench.outputs(ends)
    evidence = f"{loss[0]:.3f} at p = 0 of the target"
    if bench.subject.target == "binary":
        evidence = f"{loss[0]:.3f} at p = 0 (y = 1), {loss[1]:.3f} at p = 1 (y = 0)"
    if np.isnan(loss[0]):
        return Found(NO_FORMULA, evidence, ends)
    candidates = [losses(bench, "none", ends, guard="none", guard_eps=0.0, guard_floor=0.0)]
    if np.isfinite(loss[0]) and loss[0] > 0:
        near = _with_target_probability(ends, _power_past(np.exp(-loss[0])))
        numbers = np.concatenate([loss, bench.outputs(near)[0]])
        candidates = [_both(bench, m, ends, near) for m in _guards_at(bench, ends, float(loss[0]))]
        return told_or_declared(numbers, candidates, guard_text(bench.semantics), evidence, ends)
    return told(loss, candidates, evidence, ends)


def _at_the_ends(bench: Bench) -> Case:
    """p = 0 of the target; for binary ops p = 1 of label 0 as well."""
    if bench.subject.target == "binary":
        return replace(small(bench, 2), inputs=np.array([[0.0], [1.0]]))
    return _with_target_probability(small(bench), 0.0)


def _with_target_probability(case: Case, p: float) -> Case:
    """One row: p of the target, 1 - p of the class after it."""
    if case.target_kind == "binary":
        return replace(case.take(np.array([0])), inputs=np.array([[p]]))
    inputs = np.zeros((1, case.inputs.shape[1]))
    inputs[0, :2] = p, 1.0 - p
    target = case.target if case.target.ndim == 1 else np.eye(inputs.shape[1])[:1]
    return replace(case.take(np.array([0])), inputs=inputs, target=target[:1])


def _power_past(eps: float) -> float:
    """The least power of two above eps that is no less than 1.1 eps; at most 1/2."""
    return float(min(2.0 ** np.ceil(np.log2(1.1 * eps)), 0.5))


def _guards_at(bench: Bench, case: Case, loss: float) -> list[dict[str, object]]:
    """A clip and a clamp that give this loss at p = 0, each with the shortest decimal in reach."""
    rough = losses(bench, "", case, guard="clip", guard_eps=float(np.exp(-loss)))
    reach = float(rough.reach[0])
    eps = _shortest(float(np.exp(-loss - reach)), float(np.exp(-loss + reach)))
    floor = -_shortest(loss - reach, loss + reach)
    return [
        {"guard": "clip", "guard_eps": eps, "guard_floor": 0.0},
        {"guard": "clamp log", "guard_eps": 0.0, "guard_floor": floor},
    ]


def _shortest(low: float, high: float) -> float:
    """The number with the fewest digits from low to high: the one that somebody wrote."""
    middle = (low + high) / 2
    for digits in range(1, DIGITS):
        number = float(f"{middle:.{digits}g}")
        if low <= number <= high:
            return number
    return middle


def _both(bench: Bench, meant: dict[str, object], *cases: Case) -> Candidate:
    """The losses of several cases under one guard."""
    name = guard_text(replace(bench.semantics, **meant))
    parts = [losses(bench, name, case, **meant) for case in cases]
    exact = np.concatenate([part.exact for part in parts])
    return Candidate(name, exact, np.concatenate([part.reach for part in parts]), meant)


def guard_gradient(bench: Bench) -> Found:
    """The gradient at p = 0 of the target, where the loss without a guard has none."""
    case = _with_target_probability(small(bench), 0.0)
    if case.inputs.shape[1] > 1:
        # Two halves: at p = 1 rounding decides on which side of a clip a quotient falls.
        case.inputs[0, 1:3] = 0.5 if case.inputs.shape[1] > 2 else 1.0
    _, gradient = bench.outputs(case)
    guarded, plain = bench.semantics.guard != "none", {"guard": "none", "guard_gradient": "exact"}
    known = [replace(gradients(bench, "exact", case, **plain), meant={})]
    if guarded:
        known.append(gradients(bench, "0 outside", case, guard_gradient="exact"))
    if case.target_kind == "binary":
        name = "clamped denominator"
        known.append(gradients(bench, name, case, guard_gradient=name))
    evidence = f"gradient {short(gradient[0, 0])} at p = 0 of the target"
    return told_or_declared(gradient, known, gradient_text(bench.semantics), evidence, case)


def renormalise(bench: Bench) -> Found:
    """Probabilities that sum to 1/2: ordinary ones, and a zero that the guard lifts."""
    case = small(bench)
    halved = case.inputs / 2
    lifted: Floats = halved.copy()
    lifted[0, :2] = 0.0, lifted[0, :2].sum()
    target = np.array([0, 0])
    if case.target.ndim > 1:
        target = np.eye(case.inputs.shape[1])[target]
    inputs = round_to_format(np.concatenate([halved, lifted]), bench.fmt)
    case = replace(case, inputs=inputs, target=target)
    loss, _ = bench.outputs(case)
    # Without a guard, before it and after it are one.
    names = ("no", "before") if bench.semantics.guard == "none" else ("no", "before", "after")
    known = [losses(bench, name, case, renormalise=name) for name in names]
    evidence = f"losses {short(loss[0])}, {short(loss[1])}"
    return told(loss, known, evidence, case)
