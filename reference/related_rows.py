"""Rows of the functions around cross-entropy: softmax, logsumexp, divergence and focal loss.

With p the softmax of a row of logits, t its target, x log-probabilities, and c a guarded
probability of the target:
    softmax        p_t                               gradient in z_j   p_t ([j = t] - p_j)
    logsumexp      log sum_j exp(z_j)                gradient in z_j   p_j
    divergence     sum_j q_j (log q_j - x_j)         gradient in x_j   -q_j
    focal          w (1 - c)**g (-log c)             gradient in c     -w (1 - c)**(g - 1)
                                                                       ((1 - c)/c - g log c)
Terms with q_j = 0 are absent. Sums and products of terms of one sign, but for the divergence, whose
terms cancel where q and the model agree: it is repaired by decimal intervals. The other values are
products of certified ones, with a relative error below 2**-90; sums of rows are not certified.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .certify import Index, repaired
from .decimals import Triple, settle
from .exact import (
    Booleans,
    Exact,
    add,
    divided,
    magnitude,
    multiplied,
    negate,
    scale,
    subtract,
    total,
    where,
)
from .functions import log, log1p_any, power
from .probability_rows import clip_bounds
from .slow_rows import log_sum
from .softmax_rows import cross_entropy_truth, logsumexp, softmax, usable_logits
from .truth import (
    NO_MASS,
    NOT_A_PROBABILITY,
    ONE_PLUS_INF,
    Truth,
    complement,
    constant,
    demand_labels,
    demand_same_shape,
    demand_shape,
    finish,
    nothing_times,
    uncertified,
)
from .vocabulary import Case, Floats, Options, Semantics

RELATED = (
    "softmax",
    "logsumexp",
    "kl_divergence",
    "kl_divergence_probabilities",
    "focal",
    "focal_probabilities",
    "binary_focal",
    "binary_focal_probabilities",
)
"""The operations of this module."""


def related_truth(case: Case, semantics: Semantics) -> Truth:
    """The exact value and gradient of every row of a case of one of RELATED.

    Raises:
        ValueError: an invalid label, a target of focal loss that is neither 0 nor 1 or not
            one-hot, or an option that none of these functions takes.
    """
    demand_shape("inputs", case.inputs, 2)
    unread = [name for name in case.options.passed() if name not in ("gamma", "alpha", "axis")]
    if unread:
        raise ValueError(f"{case.operation} has no {', '.join(unread)} here: leave it out")
    if case.operation == "softmax":
        return _softmax(case.inputs, case.target, semantics)
    if case.operation == "logsumexp":
        return _logsumexp(case.inputs, semantics)
    if case.operation.startswith("kl"):
        demand_same_shape(case.target, case.inputs)
        return _divergence(case, semantics)
    return _focal(case, semantics)


def _rows(loss: Exact, gradient: Exact, nan: Booleans, reason: NDArray[np.str_]) -> Truth:
    return finish(loss, gradient, nan, None, reason, magnitude(loss), uncertified)


def _softmax(logits: Floats, target: NDArray[Any], semantics: Semantics) -> Truth:
    classes, labels = logits.shape[1], np.asarray(target, dtype=np.int64)
    demand_labels(labels, classes, np.zeros(labels.shape, dtype=np.bool_))
    _, nan, reason = usable_logits(logits, semantics)
    plain = cross_entropy_truth(logits, labels, Semantics(plus_inf="limit"), Options())
    share = softmax(logits).take((np.arange(labels.size), labels))
    return _rows(share, negate(multiplied(plain.gradient, share.reshape(-1, 1))), nan, reason)


def _logsumexp(logits: Floats, semantics: Semantics) -> Truth:
    _, no_slope, reason = usable_logits(logits, semantics)
    nan = np.asarray(np.isnan(logits).any(axis=1))
    value, gradient = logsumexp(logits), softmax(logits)
    # The value has a limit where the gradient has none: rows of -inf, several +inf.
    missing = np.asarray((no_slope | (reason != "")) & ~nan)
    gradient = where(missing[:, None], constant(np.nan), gradient)
    return _rows(value, gradient, nan, np.where(reason == ONE_PLUS_INF, reason, ""))


def _divergence(case: Case, semantics: Semantics) -> Truth:
    """sum_j q_j (log q_j - log p_j) for rows of log p or of p."""
    given, target = case.inputs, np.asarray(case.target, dtype=np.float64)
    nan = np.asarray((np.isnan(given) | np.isnan(target)).any(axis=1))
    q, model, moved = np.where(nan[:, None], 1.0, target), np.where(nan[:, None], 1.0, given), None
    from_logs = case.operation == "kl_divergence"
    if not from_logs and semantics.guard == "floor":
        low = clip_bounds(semantics.guard_eps, case.dtype)[0]
        moved = np.asarray((model < low) | (model > 1.0))
        q, model = np.clip(q, low, 1.0), np.clip(model, low, 1.0)
    outside = np.asarray(((q < 0.0) | ((model < 0.0) & (not from_logs))).any(axis=1))
    reason = np.where(outside, NOT_A_PROBABILITY, "")
    model, q = np.where(outside[:, None], 1.0, model), np.where(outside[:, None], 1.0, q)
    factor = Exact.from_float(q)
    own = multiplied(factor, log(Exact.from_float(np.where(q > 0.0, q, 1.0))))
    exact_model = Exact.from_float(model)
    surprise = exact_model if from_logs else log(exact_model)
    cross = nothing_times(factor, surprise, multiplied(factor, surprise))
    terms = subtract(own, cross)
    size = total(add(magnitude(own), magnitude(cross)), axis=1)

    def settle_(index: Index) -> Triple:
        pairs = [(Fraction(a), b) for a, b in zip(q[index].tolist(), model[index].tolist()) if a]
        fixed = -sum((a * Fraction(b) for a, b in pairs), Fraction(0)) if from_logs else Fraction(0)
        logs = [(a, a if from_logs else a / Fraction(b)) for a, b in pairs]
        return settle(
            lambda digits: log_sum(fixed, logs, digits),
            lambda: f"divergence of {q[index].tolist()} from {model[index].tolist()}",
        )

    loss = repaired(total(terms, axis=1), size, settle_)
    gradient = negate(factor)
    if not from_logs:
        gradient = nothing_times(factor, exact_model, negate(divided(factor, exact_model)))
        gradient = where(q == 0.0, constant(0.0), gradient)
    if moved is not None:
        gradient = where(moved, constant(0.0), gradient)
    return _rows(loss, gradient, nan, reason)


def _focal(case: Case, semantics: Semantics) -> Truth:
    """w (1 - c)**g (-log c) of the guarded probability c of the target."""
    binary = case.operation.startswith("binary")
    labels, weight = focal_labels(case), focal_weight(case, semantics)
    rows = np.arange(labels.size)
    nan = np.asarray(np.isnan(case.inputs).any(axis=1))
    reason = np.full(nan.shape, "")
    if case.operation.endswith("probabilities"):
        share, doubt, slope, reason = _share_of_probabilities(case, semantics, labels, nan)
        surprise = _surprise(share, doubt)
    else:
        z = np.where(nan[:, None], 0.0, case.inputs)
        if binary:
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        limit = replace(semantics, plus_inf="limit")
        convention = limit if binary else semantics
        _, nan, reason = usable_logits(np.where(nan[:, None], np.nan, z), convention)
        plain = cross_entropy_truth(z, labels, Semantics(plus_inf="limit"), Options())
        share = softmax(z).take((rows, labels))
        # 1 - p_t = -d loss / d z_t without cancellation, and d p_t / d z_j = -p_t d loss / d z_j.
        doubt, surprise = negate(plain.gradient.take((rows, labels))), plain.loss
        slope = plain.gradient.take((slice(None), slice(int(binary), None)))
    return _of_share(case, semantics, (share, doubt, surprise), slope, weight, nan, reason)


def focal_labels(case: Case) -> NDArray[np.int64]:
    """The index of the target class: of a one-hot row, or of a binary label."""
    target = np.asarray(case.target)
    if target.ndim == 1:
        labels = target.astype(np.int64)
        demand_labels(labels, case.inputs.shape[1], np.zeros(labels.shape, dtype=np.bool_))
        return labels
    demand_same_shape(target, case.inputs)
    soft = np.argwhere(~((target == 0) | (target == 1)))
    if soft.size:
        i, j = soft[0].tolist()
        raise ValueError(f"target[{i}, {j}] = {float(target[i, j])!r} must be 0 or 1 in focal loss")
    if case.operation.startswith("binary"):
        return target[:, 0].astype(np.int64)
    wrong = np.flatnonzero(target.sum(axis=1) != 1)
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(f"target[{i}] = {target[i].tolist()} must have a single 1 in focal loss")
    return np.argmax(target, axis=1).astype(np.int64)


def focal_weight(case: Case, semantics: Semantics) -> Floats:
    """(N,) alpha, and for a binary label of 0 the complement 1 - alpha, as the format rounds it."""
    alpha = semantics.alpha if case.options.alpha is None else case.options.alpha
    if alpha is None:
        return np.ones(case.rows)
    if not case.operation.startswith("binary"):
        return np.full(case.rows, alpha)
    return np.where(focal_labels(case) == 1, alpha, 1.0 - alpha)


def _share_of_probabilities(
    case: Case, semantics: Semantics, labels: NDArray[np.int64], nan: Booleans
) -> tuple[Exact, Exact, Exact, NDArray[np.str_]]:
    """(N,) c of the target and 1 - c, (N, K) the derivative of c, and where it is undefined."""
    outside = ((case.inputs < 0.0) | (case.inputs > 1.0)).any(axis=1) & ~nan
    p = np.where((nan | outside)[:, None], 0.5, case.inputs)
    reason = np.where(outside, NOT_A_PROBABILITY, "")
    rows = np.arange(labels.size)
    if case.operation.startswith("binary"):
        one, other = Exact.from_float(p[:, 0]), complement(p[:, 0])
        share, doubt = where(labels == 1, one, other), where(labels == 1, other, one)
        return share, doubt, Exact.from_float(np.where(labels == 1, 1.0, -1.0)[:, None]), reason
    own, unit = Exact.from_float(p[rows, labels]), np.arange(p.shape[1]) == labels[:, None]
    if semantics.renormalise == "no":
        doubt = complement(p[rows, labels])
        return own, doubt, Exact.from_float(unit.astype(np.float64)), reason
    others = Exact.from_float(np.where(unit, 0.0, p))
    rest = total(others, axis=1)
    mass = add(rest, own)
    reason = np.where((mass.hi == 0.0) & (reason == ""), NO_MASS, reason)
    mass = where(mass.hi == 0.0, constant(1.0), mass)
    # d (p_t / S) / d p_j = ([j = t] S - p_t) / S**2, where S - p_t is the rest.
    above = where(unit, rest.reshape(-1, 1), negate(own).reshape(-1, 1))
    square = multiplied(mass, mass).reshape(-1, 1)
    return divided(own, mass), divided(rest, mass), divided(above, square), reason


def _surprise(share: Exact, doubt: Exact) -> Exact:
    """-log c = log(1 + (1 - c) / c), which loses nothing near c = 1 either."""
    none = share.hi == 0.0
    found = log1p_any(divided(doubt, where(none, constant(1.0), share)))
    return where(none, constant(np.inf), found)


def _of_share(
    case: Case,
    semantics: Semantics,
    parts: tuple[Exact, Exact, Exact],
    slope: Exact,
    weight: Floats,
    nan: Booleans,
    reason: NDArray[np.str_],
) -> Truth:
    """Value and gradient from the share c of the target, 1 - c, -log c, and a slope.

    The slope is the derivative of c, or from logits that of log c with the sign changed.
    """
    gamma = semantics.gamma if case.options.gamma is None else case.options.gamma
    share, doubt, surprise = parts
    moved = np.zeros(weight.shape, dtype=np.bool_)
    in_log = semantics.guard == "clip log"
    if semantics.guard in ("clip", "clip log"):
        moved, at, rest = _clipped(case, semantics, share, doubt)
        surprise = where(moved, _surprise(at, rest), surprise)
        if not in_log:
            share, doubt = at, rest
    zero = doubt.hi == 0.0
    factor = power(where(zero, constant(1.0), doubt), gamma)
    loss = scale(multiplied(factor, surprise), weight)
    loss = where(zero & np.asarray(gamma > 0.0), constant(0.0), loss)
    pull = _pull(case, gamma, (share, doubt, surprise), moved)
    pull = scale(pull, weight)
    if in_log:
        pull = where(zero & moved, _end_of_power(case, gamma, surprise, weight), pull)
    gradient = nothing_times(slope, pull.reshape(-1, 1), multiplied(slope, pull.reshape(-1, 1)))
    if not in_log or gamma == 0.0:
        gradient = where(moved[:, None], constant(0.0), gradient)
    return _rows(loss, gradient, nan, reason)


def _pull(case: Case, gamma: float, parts: tuple[Exact, Exact, Exact], moved: Booleans) -> Exact:
    """What the slope of `_of_share` is multiplied with, but for the weight.

    (1 - c)**(g - 1) ((1 - c) / c + g L) for c, times c for log c: terms of one sign. The first of
    them is that of the logarithm, which a guard of it takes away.
    """
    share, doubt, surprise = parts
    from_logits = not case.operation.endswith("probabilities")
    sign = constant(1.0 if from_logits else -1.0)
    none = share.hi == 0.0
    safe = where(none, constant(1.0), share)
    if gamma == 0.0:
        # Nothing but the logarithm: its slope has no zero at c = 1, and is infinite at c = 0.
        inner = constant(1.0)
        if not from_logits:
            inner = where(none, constant(np.inf), divided(inner, safe))
        return multiplied(where(moved, constant(0.0), inner), sign)
    if from_logits:
        first, second = doubt, nothing_times(share, surprise, multiplied(share, surprise))
    else:
        first, second = divided(doubt, safe), surprise
    inner = add(where(moved, constant(0.0), first), scale(second, gamma))
    pull = multiplied(multiplied(power(doubt, gamma - 1.0), inner), sign)
    return where(doubt.hi == 0.0, constant(0.0), pull)


def _clipped(
    case: Case, semantics: Semantics, share: Exact, doubt: Exact
) -> tuple[Booleans, Exact, Exact]:
    """Where a clip moves the share c of the target, and c and 1 - c after it."""
    # A binary guard clips p, not 1 - p: the limits of the label 0 are 1 - hi and 1 - lo, exactly.
    low, high = (np.full(case.rows, x) for x in clip_bounds(semantics.guard_eps, case.dtype))
    mirrored = np.asarray(focal_labels(case) == 0) & case.operation.startswith("binary")
    least = where(mirrored, complement(high), Exact.from_float(low))
    above_least = where(mirrored, Exact.from_float(high), complement(low))
    most = where(mirrored, complement(low), Exact.from_float(high))
    above_most = where(mirrored, Exact.from_float(low), complement(high))
    below = np.asarray(subtract(share, least).hi < 0.0)
    above = np.asarray(subtract(doubt, above_most).hi < 0.0)
    at = where(below, least, where(above, most, share))
    return below | above, at, where(below, above_least, where(above, above_most, doubt))


def _end_of_power(case: Case, gamma: float, surprise: Exact, weight: Floats) -> Exact:
    """-w g 0**(g - 1) L: what a factor of which the logarithm is guarded pulls with at c = 1."""
    if gamma > 1.0 or gamma == 0.0 or not case.operation.endswith("probabilities"):
        return constant(0.0)
    return scale(surprise, -weight) if gamma == 1.0 else constant(-np.inf)
