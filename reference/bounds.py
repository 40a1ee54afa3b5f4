"""A-priori forward error bounds: how far a subject may be from the exact value, derived.

Notation, for one row of logits z: m = max z, d_j = m - z_j, e_j = exp(-d_j), s = sum_j e_j,
S = s - 1 (without one argmax), p_j = e_j / s, L_j = -log p_j = d_j + log s. The loss is
sum_j a_j L_j with coefficients a_j >= 0 (one-hot for an index, q_j for a distribution, mixed with
the smoothing term and the class weights), its gradient A p_j - a_j with A = sum_j a_j.

The model is the standard one: fl(x op y) = (x op y)(1 + delta), |delta| <= u, plus an absolute
underflow unit eta; a function f has a relative error of at most c_f u. Then fl(z_j - m) turns into
a factor exp(+-u d_j) on e_j, so that the relative error of the sum is

    theta = expm1(log1p(sum_j p_j expm1(u d_j)) + log1p(c_exp u) + h log1p(u)) + K eta / s

with h the height of the summation tree (Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., section 4.2, for h; the p-weighted mean in place of the maximum is derived there by
linearity of the sum). The bound is void where theta >= 1, and is then returned as infinity.

Two bounds are made from one formula: the *declared* one of the arithmetic that a subject names, and
the *demand*, that of the forms that do not cancel, at the same working precision. All quantities
are computed in float64 and widened by SLACK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Tuple  # noqa: UP035

import numpy as np

from .formats import FORMATS, Format
from .vocabulary import Arithmetic, Case, Floats, Semantics

SLACK = 1.0 + 2.0**-40
"""The float64 evaluation of a bound takes fewer than 2^10 roundings of 2^-53 each per row and
class; 2^-40 covers them."""

LEAST = 5e-324
"""The least positive float64: half of it, float64's own eta, is no float64, so it stands for it."""

ROUNDINGS_OF_SMOOTHING = 4
"""(1 - eps) q + eps/K: eps to the working format, 1 - eps, eps/K, product and sum, of which at most
four lie on the path of one coefficient."""


@dataclass(frozen=True)
class Bounds:
    """Absolute error bounds; infinity where none can be given.

    Attributes:
        loss: (N,) for the loss of each row.
        gradient: (N, K) for each entry of the gradient.
    """

    loss: Floats
    gradient: Floats


def demanded(arithmetic: Arithmetic) -> Arithmetic:
    """The same working precision, computed in the forms that do not cancel."""
    form = {"A": "C", "B": "C", "C": "C", "log p": "log p exact"}.get(arithmetic.form, "split")
    return replace(
        arithmetic, form=form, gradient="relative", stored=arithmetic.working, flush=False
    )


def bounds(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Forward error bounds of the unreduced loss and its gradient for every row of a case."""
    with np.errstate(all="ignore"):
        if case.operation == "cross_entropy":
            found = _cross_entropy(case, semantics, arithmetic)
        elif case.operation == "binary_cross_entropy_with_logits":
            found = _binary_with_logits(case, semantics, arithmetic)
        elif case.operation == "binary_cross_entropy":
            found = _binary(case, semantics, arithmetic)
        else:
            found = _probabilities(case, semantics, arithmetic)
    return Bounds(_cleaned(found.loss), _cleaned(found.gradient))


def _cleaned(bound: Floats) -> Floats:
    """NaN comes from rows whose truth is not finite, where no bound is asked."""
    return np.where(np.isnan(bound), np.inf, bound * SLACK)


def half_ulp(x: Floats, fmt: Format) -> Floats:
    """Largest rounding error of a result of magnitude x: half the ulp at x, at least eta."""
    _, exponent = np.frexp(np.abs(x))
    # frexp gives 0 the exponent of numbers just below 1.
    binade = np.where(x == 0, fmt.emin, np.maximum(exponent - 1, fmt.emin))
    return np.maximum(np.ldexp(1.0, binade - fmt.precision), LEAST)


def _eta(fmt: Format, flush: bool) -> float:
    return fmt.least_normal if flush else max(fmt.least_subnormal / 2, LEAST)


def flushed(exact: Floats, error: Floats, out: Format) -> Floats:
    """What a flush to zero adds where the result may be subnormal."""
    return np.where(np.abs(exact) - error < out.least_normal, out.least_normal, 0.0)


def _height(classes: int, arithmetic: Arithmetic) -> int:
    if arithmetic.height == "sequential":
        return max(classes - 1, 0)
    # Pairwise with blocks of at most 16 terms summed in order, never higher than any other order.
    return min(max(classes - 1, 0), 16 + int(np.ceil(np.log2(max(classes, 1)))))


def _growth(count: float, u: float) -> float:
    """(1 + u)^count - 1 without cancellation."""
    return float(np.expm1(count * np.log1p(u)))


def _finish(exact: Floats, error: Floats, arithmetic: Arithmetic, out: Format) -> Floats:
    """Add the rounding from the working format to the output format, and a flush to zero."""
    if out.precision < FORMATS[arithmetic.working].precision:
        error = error + half_ulp(np.abs(exact) + error, out)
    if arithmetic.flush:
        error = error + flushed(exact, error, out)
    return error


def coefficients(case: Case, semantics: Semantics) -> Tuple[Floats, int]:  # noqa: UP006
    """The a_j of each row in float64, and how many roundings a subject spends on one of them."""
    rows, classes = case.inputs.shape
    options = case.options
    roundings = 0
    ignored = np.zeros(rows, dtype=bool)
    if case.target.ndim == 1:
        ignore = options.ignore_index
        ignore = semantics.ignore_index if ignore is None else ignore
        ignored = np.zeros(rows, dtype=bool) if ignore is None else case.target == ignore
        label = np.clip(case.target, 0, max(classes - 1, 0)).astype(np.int64)
        a = np.zeros((rows, classes))
        a[np.arange(rows), label] = 1.0
    else:
        a = np.array(case.target, dtype=np.float64)
    a = _smoothed(a, options.label_smoothing, semantics.smoothing)
    if options.label_smoothing:
        roundings += ROUNDINGS_OF_SMOOTHING
    if options.weight is not None:
        a = a * np.asarray(options.weight)
        roundings += 1
    a[ignored] = 0.0
    return a, roundings


def _smoothed(q: Floats, eps: float, formula: str) -> Floats:
    classes = q.shape[1]
    if eps == 0.0 or formula == "none":
        return q
    if formula == "eps/(K-1)":
        spread = eps / max(classes - 1, 1)
        return q * (1.0 - eps - spread) + spread
    if formula == "toward 1/2":
        return q * (1.0 - eps) + eps / 2
    return q * (1.0 - eps) + eps / classes


@dataclass(frozen=True)
class _Softmax:
    """Float64 quantities of a row of logits, and the errors of its sums."""

    d: Floats
    p: Floats
    s: Floats
    tail: Floats  # S, which s - 1 would lose
    log_s: Floats
    top: Floats  # bool (N, K): the one argmax that is left out of S
    theta: Floats  # relative error of s
    error_S: Floats  # absolute error of S
    Lambda: Floats  # error of log of the computed s
    Lambda_S: Floats  # error of log1p of the computed S


def _softmax(z: Floats, arithmetic: Arithmetic) -> _Softmax:
    rows, classes = z.shape
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    m = np.max(z, axis=1, keepdims=True)
    d = np.where(z == m, 0.0, m - z)
    top = np.zeros(z.shape, dtype=bool)
    top[np.arange(rows), np.argmax(z, axis=1)] = True
    e = np.exp(-d)
    tail = np.sum(np.where(top, 0.0, e), axis=1, keepdims=True)
    s = 1.0 + tail
    # e_j expm1(u d_j); past d = 800 the product is below every subnormal of float64, and the cap
    # only keeps the factor finite there.
    shifted = np.sum(np.where(top, 0.0, e * np.expm1(np.minimum(u * d, 16.0))), axis=1)[:, None]
    functions = np.log1p(arithmetic.c_exp * u)
    h = _height(classes, arithmetic)
    theta = np.expm1(np.log1p(shifted / s) + functions + h * np.log1p(u)) + classes * eta / s
    relative = np.expm1(
        np.log1p(np.where(tail > 0, shifted / tail, 0.0))
        + functions
        + _height(classes - 1, arithmetic) * np.log1p(u)
    )
    error_tail = tail * relative + classes * eta
    return _Softmax(
        d=d,
        p=e / s,
        s=s,
        tail=tail,
        log_s=np.log1p(tail),
        top=top,
        theta=theta,
        error_S=error_tail,
        Lambda=np.where(theta < 1, -np.log1p(-np.minimum(theta, 1.0)), np.inf),
        Lambda_S=np.where(error_tail < s, -np.log1p(-np.minimum(error_tail / s, 1.0)), np.inf),
    )


def _log_probability_error(z: Floats, row: _Softmax, arithmetic: Arithmetic) -> Floats:
    """Absolute error of each computed -log p_j, (N, K)."""
    work = FORMATS[arithmetic.working]
    u = work.unit_roundoff
    exact = row.d + row.log_s
    if arithmetic.form == "C":
        log_error = row.Lambda_S + arithmetic.c_log1p * u * (row.log_s + row.Lambda_S)
    else:
        log_error = row.Lambda + arithmetic.c_log * u * (row.log_s + row.Lambda)
    if arithmetic.form == "A":
        lse = np.abs(np.max(z, axis=1, keepdims=True) + row.log_s)
        error = np.broadcast_to(log_error + half_ulp(lse + log_error, work), z.shape)
    else:
        error = log_error + u * row.d
    error = error + half_ulp(exact + error, work)
    if arithmetic.stored != arithmetic.working:
        error = error + half_ulp(exact + error, FORMATS[arithmetic.stored])
    return np.where(np.isinf(row.d), 0.0, error)


def _cross_entropy(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    z = case.inputs
    if z.shape[0] == 0 or z.shape[1] == 0:
        return Bounds(np.zeros(z.shape[0]), np.zeros(z.shape))
    out = FORMATS[case.dtype]
    a, roundings = coefficients(case, semantics)
    row = _softmax(z, arithmetic)
    error = _log_probability_error(z, row, arithmetic)
    # -inf logits: a_j = 0 contributes nothing; a_j > 0 makes the loss infinite, no bound asked.
    terms = np.where(a > 0, a * (row.d + row.log_s), 0.0)
    exact = np.sum(terms, axis=1)
    loss = np.sum(np.where(a > 0, a * error, 0.0), axis=1)
    post = FORMATS[arithmetic.stored]
    summed = case.target.ndim > 1 or case.options.label_smoothing > 0
    if summed or roundings:
        height = _height(z.shape[1], arithmetic) if summed else 0
        grown = _growth(roundings + 1 + height, post.unit_roundoff)
        loss = loss + grown * (exact + loss) + z.shape[1] * _eta(post, arithmetic.flush)
    if arithmetic.stored == arithmetic.working or summed or roundings:
        loss = _finish(exact, loss, replace(arithmetic, working=arithmetic.stored), out)
    elif arithmetic.flush:
        loss = loss + out.least_normal
    gradient = _softmax_gradient(case, a, roundings, row, error, semantics, arithmetic)
    return Bounds(loss, gradient)


def _softmax_gradient(
    case: Case,
    a: Floats,
    roundings: int,
    row: _Softmax,
    log_error: Floats,
    semantics: Semantics,
    arithmetic: Arithmetic,
) -> Floats:
    """Bound of A p_j - a_j by the form in which the subject computes it."""
    work = FORMATS[arithmetic.working]
    out = FORMATS[case.dtype]
    u = work.unit_roundoff
    total = np.sum(a, axis=1, keepdims=True)
    if semantics.soft_gradient == "p - q" and case.target.ndim > 1:
        # The subject takes sum(q) for 1; its coefficients are rounded, which moves that sum.
        total = np.ones_like(total)
    p, others = row.p, np.maximum(total - a, 0.0)
    complement = np.where(row.top, row.tail / row.s, 1.0 - p)
    # A p_j - a_j without cancellation: the rounding of the result is relative to this.
    g = np.abs(others * p - a * complement)
    summed = case.target.ndim > 1 or case.options.label_smoothing > 0
    height = _height(a.shape[1], arithmetic) if summed else 0
    coefficient = _growth(roundings + (2 if summed or roundings else 0) + height, u)
    if arithmetic.gradient == "exp logp":
        rho = np.expm1(log_error + np.log1p(arithmetic.c_exp * u))
    else:
        shift = np.minimum(u * row.d, 16.0)
        rho = np.expm1(shift + np.log1p(arithmetic.c_exp * u) + np.log1p(u) + row.Lambda)
    if arithmetic.gradient == "relative":
        error_sum = np.where(row.top, row.error_S, row.theta * row.s) / row.s
        spread = np.expm1(row.Lambda + 2 * np.log1p(u))
        error_complement = error_sum * (1.0 + spread) + complement * spread
        error = others * p * rho + a * error_complement
        error = error + coefficient * (others * p + a * complement)
    else:
        error = total * p * rho + coefficient * (total * p + a)
    tiny = _eta(work, arithmetic.flush) * (2.0 + 2.0 * total)
    error = error + tiny
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out)


def _binary_with_logits(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Bounds for softplus forms; y, the positive weight w and z are exact."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    z = case.inputs
    y = np.asarray(case.target, dtype=np.float64)
    roundings = 0
    if case.options.label_smoothing:
        y = _smoothed(y, case.options.label_smoothing, semantics.smoothing)
        roundings = ROUNDINGS_OF_SMOOTHING
    w = 1.0
    if case.options.pos_weight is not None:
        w, roundings = case.options.pos_weight, roundings + 3
    tail = np.log1p(np.exp(-np.abs(z)))
    up, down = np.maximum(z, 0.0) + tail, np.maximum(-z, 0.0) + tail  # softplus(z), softplus(-z)
    functions = (arithmetic.c_exp + arithmetic.c_log1p) * u
    error_tail = functions * tail * (1.0 + functions) + 2 * eta
    exact = np.where(y == 1, 0.0, (1 - y) * up) + np.where(y == 0, 0.0, w * y * down)
    if arithmetic.form == "std":
        linear = np.abs(np.maximum(z, 0.0) - z * y)
        error = u * np.abs(z * y) + eta
        error = error + u * (linear + error) + error_tail
        error = error + _growth(roundings, u) * (np.abs(z) * (1 + w) + tail)
    elif arithmetic.form == "torch":
        error_logsig = u * (down + error_tail) + error_tail
        factor = np.abs((w - 1) * y + 1)
        error = (_growth(2 + roundings, u)) * np.abs((1 - y) * z) + eta + factor * error_logsig
        error = error + _growth(roundings + (1 if roundings else 0), u) * factor * down
    else:
        error = _growth(3 + roundings, u) * exact + 3 * eta
        error = error + ((1 - y) + w * y) * error_tail
    error = error + half_ulp(exact + error, work)
    loss = _finish(exact, error, arithmetic, out)
    gradient = _sigmoid_gradient(z, y, w, roundings, arithmetic, out)
    return Bounds(loss[:, 0], gradient)


def _sigmoid_gradient(
    z: Floats, y: Floats, w: float, roundings: int, arithmetic: Arithmetic, out: Format
) -> Floats:
    """Bound of (1 - y) sigmoid(z) - w y sigmoid(-z)."""
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    positive, negative = 1.0 / (1.0 + np.exp(-z)), 1.0 / (1.0 + np.exp(z))
    left, right = np.abs(1 - y) * positive, np.abs(w * y) * negative
    g = np.abs((1 - y) * positive - w * y * negative)
    if arithmetic.gradient == "sigmoid":
        # (1 - y + w y) sigmoid(z) - w y, or the derivatives of the terms of the loss: c_sigmoid
        # holds what is relative to sigmoid(z); without options y and the factor 1 are exact.
        factor = np.abs(1 - y + w * y) * positive
        error = arithmetic.c_sigmoid * u * factor + _growth(roundings, u) * (factor + np.abs(w * y))
    elif arithmetic.gradient == "exp logp":
        # exp(z - softplus(z)): what the exponent loses is relative in the result.
        tail = np.log1p(np.exp(-np.abs(z)))
        softplus = np.abs(z) + tail
        exponent = (
            u * (2 * softplus + np.abs(z)) + (arithmetic.c_exp + arithmetic.c_log1p) * u * tail
        )
        rho = np.expm1(np.minimum(exponent, 16.0) + np.log1p(arithmetic.c_exp * u))
        error = (rho + _growth(3 + roundings, u)) * (left + right)
    else:
        error = (arithmetic.c_sigmoid * u + _growth(3 + roundings, u)) * (left + right)
    error = error + 4 * eta * (1 + w)
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out)


def guard_limits(semantics: Semantics, dtype: str) -> Tuple[float, float]:  # noqa: UP006
    """(lo, hi): eps and 1 - eps as the dtype holds them; (0, 1) where nothing is clipped."""
    from .formats import round_to_format

    if semantics.guard != "clip":
        return 0.0, 1.0
    fmt = FORMATS[dtype]
    eps = float(round_to_format(np.float64(semantics.guard_eps), fmt))
    return eps, float(round_to_format(np.float64(1.0 - eps), fmt))


def _binary(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """BCE from a probability: -(y log p + (1 - y) log(1 - p)), after the guard."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    lo, hi = guard_limits(semantics, case.dtype)
    p = np.clip(case.inputs, lo, hi)
    y = np.asarray(case.target, dtype=np.float64)
    roundings = 0
    if case.options.label_smoothing:
        y = _smoothed(y, case.options.label_smoothing, semantics.smoothing)
        roundings = ROUNDINGS_OF_SMOOTHING
    log_p, log_q = np.abs(np.log(p)), np.abs(np.log1p(-p))
    error_p, error_q = arithmetic.c_log * u * log_p, arithmetic.c_log1p * u * log_q
    if arithmetic.form == "log p":
        # 1 - p is rounded: a relative error of u in the argument is an absolute one in the log.
        error_q = np.maximum(error_q, arithmetic.c_log * u * log_q) + u * (1 + 2 * u)
        error_p = error_p + (u if semantics.guard == "clip" else 0.0)
    if semantics.guard == "clamp log":
        floor = -semantics.guard_floor
        # Where the clamp surely acts, the result is the floor itself.
        error_p = np.where(log_p - error_p > floor, 0.0, error_p)
        error_q = np.where(log_q - error_q > floor, 0.0, error_q)
        error_p, error_q = (
            np.where(np.isinf(x), 0.0, e) for x, e in ((log_p, error_p), (log_q, error_q))
        )
        log_p, log_q = np.minimum(log_p, floor), np.minimum(log_q, floor)
    left = np.where(y == 0, 0.0, y * log_p)
    right = np.where(y == 1, 0.0, (1 - y) * log_q)
    exact = left + right
    error = np.where(y == 0, 0.0, y * error_p) + np.where(y == 1, 0.0, (1 - y) * error_q)
    error = error + _growth(3 + roundings, u) * (exact + error) + 3 * eta
    error = error + half_ulp(exact + error, work)
    loss = _finish(exact, error, arithmetic, out)
    gradient = _quotient_gradient(p, y, roundings, semantics, arithmetic, out)
    inside = (case.inputs >= lo) & (case.inputs <= hi)
    return Bounds(loss[:, 0], np.where(inside, gradient, 0.0))


DENOMINATOR_FLOOR = 1e-12
"""Below which torch does not let p (1 - p) fall."""


def _quotient_gradient(
    p: Floats,
    y: Floats,
    roundings: int,
    semantics: Semantics,
    arithmetic: Arithmetic,
    out: Format,
) -> Floats:
    """Bound of (p - y) / (p (1 - p)).

    p - y, 1 - p, the product, the quotient and the floor of the denominator, where there is one,
    are rounded once each, and 1 - p enters twice.
    """
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    floor = DENOMINATOR_FLOOR if semantics.guard_gradient == "clamped denominator" else 0.0
    below = np.maximum(p * (1 - p), floor)
    left = np.where(y == 0, 0.0, y * (1 - p) / below)
    right = np.where(y == 1, 0.0, (1 - y) * p / below)
    g = np.abs(right - left)
    # One part may be infinite where the subject divides by an exact zero: no bound is asked there.
    cancelling = arithmetic.gradient not in ("relative", "quotient")
    error = _growth(6 + roundings, u) * (left + right if cancelling or roundings else g)
    error = error + 4 * eta * (1 + 1 / np.maximum(below, work.least_normal))
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out)


def _probabilities(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """CE from probabilities: -sum_j a_j log r_j, r the guarded and renormalised probabilities.

    No non-cancelling form is demanded here: where p is renormalised, log r_j has an absolute error
    of (h + 2) u whatever is done with the rounded quotient, so the demand equals the declared form.
    """
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    a, roundings = coefficients(case, semantics)
    p = case.inputs
    lo, hi = guard_limits(semantics, case.dtype)
    h = _height(p.shape[1], arithmetic)
    total = np.sum(p, axis=1, keepdims=True)
    if semantics.renormalise == "before":
        r = np.clip(p / total, lo, hi)
        scale = total
    else:
        r = np.clip(p, lo, hi)
        scale = np.sum(r, axis=1, keepdims=True) if semantics.renormalise == "after" else 1.0
        r = r / scale
    logs = np.abs(np.log(r))
    in_argument = (h + 2) * u if semantics.renormalise != "no" else u
    if semantics.renormalise == "after":
        # log of the clipped p, then a softmax of the logs: shift, exp, sum, log, subtraction.
        in_argument = _growth(h + 4 + arithmetic.c_exp + arithmetic.c_log, u) * (
            2 + np.abs(np.log(np.clip(p, max(lo, work.least_subnormal), hi))).max(axis=1)[:, None]
        )
    each = arithmetic.c_log * u * logs + in_argument * (1 + in_argument)
    used = a > 0
    exact = np.sum(np.where(used, a * logs, 0.0), axis=1)
    error = np.sum(np.where(used, a * each, 0.0), axis=1)
    error = error + _growth(roundings + 2 + h, u) * (exact + error) + p.shape[1] * eta
    error = error + half_ulp(exact + error, work)
    loss = _finish(exact, error, arithmetic, out)
    parts = _parts_of_gradient(a, p, total, semantics, (lo, hi))
    factor = _growth(roundings + 2 * h + 8 + arithmetic.c_exp + arithmetic.c_log, u)
    gradient = (factor + in_argument) * parts + 4 * eta * (1 + parts)
    gradient = gradient + half_ulp(parts + gradient, work)
    gradient = _finish(parts, gradient, arithmetic, out)
    near = _near_kink(p, total, lo, hi, semantics, (h + 4) * u)
    return Bounds(loss, np.where(near, np.inf, gradient))


def _parts_of_gradient(
    a: Floats,
    p: Floats,
    total: Floats,
    semantics: Semantics,
    limits: Tuple[float, float],  # noqa: UP006
) -> Floats:
    """Sum of the magnitudes of the terms of the gradient; 0 where a clip has none.

    a_k / p_k and, where p is renormalised, the share of the others through the sum.
    """
    lo, hi = limits
    if semantics.renormalise == "before":
        r = p / total
        inside = (r >= lo) & (r <= hi)
        some = np.where(inside & (a > 0), a, 0.0)
        return (np.where(some > 0, some / r, 0.0) + some.sum(axis=1, keepdims=True)) / total
    inside = (p >= lo) & (p <= hi)
    own = np.where(inside & (a > 0), a / p, 0.0)
    if semantics.renormalise == "no":
        return own
    clipped = np.clip(p, lo, hi).sum(axis=1, keepdims=True)
    return own + np.where(inside, a.sum(axis=1, keepdims=True) / clipped, 0.0)


def _near_kink(
    p: Floats, total: Floats, lo: float, hi: float, semantics: Semantics, margin: float
) -> Floats:
    """Rows where rounding decides on which side of a clip limit a quotient falls: no bound."""
    if semantics.guard != "clip":
        return np.zeros(p.shape, dtype=bool)
    r = p / total if semantics.renormalise == "before" else p
    near_lo = np.abs(r - lo) <= margin * lo
    near_hi = np.abs(r - hi) <= margin * hi
    return np.any(near_lo | near_hi, axis=1, keepdims=True) & np.ones(p.shape, dtype=bool)
