"""A-priori forward error bounds: how far a subject may be from the exact value, derived.

Notation, for one row of logits z: m = max z, d_j = m - z_j, e_j = exp(-d_j), s = sum_j e_j,
S = s - 1 (without one argmax), p_j = e_j / s, L_j = -log p_j = d_j + log s. The loss is
sum_j a_j L_j with coefficients a_j (one-hot for an index, q_j for a distribution, mixed with the
smoothing term and the class weights), its gradient A p_j - a_j with A = sum_j a_j. Coefficients of
two signs cancel: what is rounded is then relative to sum_j |a_j| L_j, and to sum_j |a_j| for A.

The model is the standard one: fl(x op y) = (x op y)(1 + delta), |delta| <= u, plus an absolute
underflow unit eta; a function f has a relative error of at most c_f u. Then fl(z_j - m) turns into
a factor exp(+-u d_j) on e_j, so that the relative error of the sum is

    theta = expm1(log1p(sum_j p_j expm1(u d_j)) + log1p(c_exp u) + h log1p(u)) + K eta / s

with h the height of the summation tree (Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., section 4.2, for h; the p-weighted mean in place of the maximum is derived there by
linearity of the sum). The bound is void where theta >= 1, and is then returned as infinity.

With a temperature T the logits are x_j = z_j / T, each with an error of u |x_j|. In fl(x_j - m)
this is an absolute error of at most tau_j = u (|x_j| + |m|), and 0 where x_j = m; hence there is
u (d_j + tau_j) + tau_j in place of u d_j, and the gradient is divided by T.

A sum of N rows has their errors, and h(N) roundings relative to sum_i (|L_i| + error of L_i); a
mean those of its divisor and one quotient besides.

Two bounds are made from one formula: the *declared* one of the arithmetic that a subject names, and
the *demand*, that of the forms that do not cancel, at the same working precision. All quantities
are computed in float64 and widened by SLACK.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import truth
from .exact import Booleans, to_float
from .formats import FORMATS, Format, round_to_format
from .probability_rows import DENOMINATOR_FLOOR, clip_bounds
from .related_rows import focal_labels, focal_weight
from .rows import mean_denominator, present
from .vocabulary import (
    FUNCTIONS,
    LOGITS,
    PROBABILITIES,
    Arithmetic,
    Case,
    Floats,
    Options,
    Semantics,
    inputs_of,
)

SLACK = 1.0 + 2.0**-40
"""The float64 evaluation of a bound takes fewer than 2^10 roundings of 2^-53 each per row and
class; 2^-40 covers them."""

DIRECTLY = 16.0
"""Up to this exponent x, e^-d expm1(x) is computed as it stands: above, 1 is less than 2^-23 of
e^x, and e^(x - d) bounds it without an overflow of e^x alone."""

LEAST = 5e-324
"""The least positive float64: half of it, float64's own eta, is no float64, so it stands for it."""

ROUNDINGS_OF_SMOOTHING = 4
"""(1 - eps) q + eps/K: eps to the working format, 1 - eps, eps/K, product and sum, of which at most
four lie on the path of one coefficient."""

ROUNDINGS_OF_POS_WEIGHT = 3
"""1 + (w - 1) y: difference, product and sum."""

ROUNDINGS_OF_SOFTMAX_PRODUCT = 8
"""(g - sum_j g_j p_j) p with g = -a / p, the derivative of log(softmax): a reciprocal of 2 ulps
counts four, then g_j p_j, the difference, the product, and a product with the target."""

ROUNDINGS_OF_SIGMOID_PRODUCT = 8
"""((1 - y) / (1 - p) - y / p) p (1 - p), the derivative of the logs of a sigmoid: 1 - p, a
reciprocal of 2 ulps (four), two products and the difference."""


ROUNDINGS_OF_CURVATURE = 12
"""A p_j v_j - p_j sum_i A p_i v_i beyond those of p and of the sum, taken loosely: by automatic
differentiation of exp(x - m) (1 / s) there are the square of a reciprocal of 2 ulps (8), three
products and the difference; kernels with a formula of their own have five."""

ROUNDINGS_OF_BINARY_CURVATURE = 8
"""(w y + 1 - y) p (1 - p) v, beyond those of p: the two coefficients and their sum, 1 - p, three
products, and the sum of the terms that are differentiated one by one."""

ROUNDINGS_OF_RECIPROCAL = 2
"""A quotient by a rounded number may be a product by its rounded reciprocal."""

ROUNDINGS_OF_COTANGENT = 3
"""The gradient of a mean: the reciprocal of the divisor, its cast to the format of the gradient,
and the product."""


@dataclass(frozen=True)
class Sizes:
    """Magnitudes in float64 that the roundings of a reduction are relative to.

    Attributes:
        losses: (N,) of the loss of each row.
        slopes: (N, K) of the entries of the gradient.
        terms: (N, K) of what is added up for an entry where a subject scales its terms one by one.
    """

    losses: Floats
    slopes: Floats
    terms: Floats


@dataclass(frozen=True)
class Bounds:
    """Absolute error bounds; infinity says that there is no bound.

    Attributes:
        loss: (N,) for the loss of each row, or () for a sum or mean.
        gradient: (N, K) for each entry of the gradient.
        sizes: what they are bounds of.
    """

    loss: Floats
    gradient: Floats
    sizes: Sizes

    @property
    def void(self) -> Booleans:
        """Where there is no bound of the loss: no result is then right or wrong by it.

        The sum of the model may be lost altogether there (theta >= 1), or the loss is not finite.
        """
        return np.isinf(self.loss)


def unbounded(case: Case) -> Bounds:
    """The bounds of an arithmetic that nobody declared: none."""
    losses, entries = np.full(case.rows, np.inf), np.full(case.inputs.shape, np.inf)
    return Bounds(losses, entries, Sizes(losses, entries, entries))


def error_bound(
    case: Case,
    semantics: Semantics,
    arithmetic: Arithmetic,
    *,
    temperature: float = 1.0,
) -> Bounds:
    """How far an implementation may be from the exact loss and gradient of a case.

    >>> z, target = np.zeros((1, 1000)), np.array([0])
    >>> wide = Arithmetic("B", "division", "float32", "float32", "pairwise", 2, 2, 2, 4, False, "")
    >>> case = Case("cross_entropy", "bfloat16", z, target)
    >>> bool(error_bound(case, Semantics(), wide).void[0])
    False
    >>> native = replace(wide, working="bfloat16", stored="bfloat16", height="sequential")
    >>> bool(error_bound(case, Semantics(), native).void[0])
    True

    Args:
        case: the inputs, the target, sample weights and the options; its reduction is "none",
            "sum" or "mean".
        semantics: the conventions; `mean` may be "sample_weights" besides what it says there.
        arithmetic: how the implementation computes.
        temperature: what the logits of a cross-entropy are divided by.

    Returns:
        The bounds of the loss, of shape () for a sum or mean, and of its gradient. `void` says
        where there is none.

    Raises:
        ValueError: a temperature for another operation, or an unknown reduction or mean.
    """
    rows = bounds(case, semantics, arithmetic, temperature)
    return reduced(rows, case, semantics, arithmetic)


def demanded(arithmetic: Arithmetic) -> Arithmetic:
    """The same working precision, computed in the forms that do not cancel."""
    relative = dict.fromkeys(("A", "B", "C", "A or B", "log softmax", "log softmax / sum"), "C")
    form = {**relative, "log p": "log p exact"}.get(arithmetic.form, "split")
    return replace(
        arithmetic, form=form, gradient="relative", stored=arithmetic.working, flush=False
    )


ALTERNATIVES = {"A or B": ("A", "B"), "std, torch or split": ("std", "torch", "split")}
"""Forms of which a declaration leaves open which one it is: the bound is the largest of theirs."""

GRADIENTS = {
    "cross_entropy": ("division", "exp logp"),
    "cross_entropy_probabilities": ("quotient",),
    "binary_cross_entropy_with_logits": ("sigmoid", "exp logp"),
    "binary_cross_entropy": ("difference",),
    "logsumexp": ("division", "exp logp"),
}
"""What "any" stands for as the form of a gradient; "difference" is wider than "quotient"."""

WIDEST = ("division",)
"""The same for the other operations, of which no form is wider than one that is not "relative"."""


def bounds(
    case: Case, semantics: Semantics, arithmetic: Arithmetic, temperature: float = 1.0
) -> Bounds:
    """Forward error bounds of the unreduced loss and its gradient for every row of a case."""
    if temperature != 1.0 and case.operation != "cross_entropy":
        raise ValueError(f"{case.operation} has no temperature")
    gradient = arithmetic.gradient
    each = [
        _bounds(case, semantics, replace(arithmetic, form=form, gradient=one), temperature)
        for form in ALTERNATIVES.get(arithmetic.form, (arithmetic.form,))
        for one in (GRADIENTS.get(case.operation, WIDEST) if gradient == "any" else (gradient,))
    ]
    return each[0] if len(each) == 1 else _largest(each)


def one_bound(case: Case, semantics: Semantics, arithmetic: Arithmetic, output: str) -> Floats:
    """One output of `bounds`; "loss" or "gradient". Cheaper where the two have little in common."""
    plain = (
        case.operation == "binary_cross_entropy_with_logits"
        and case.options == Options()
        and case.sample_weight is case.cotangent is case.direction is None
        and case.inputs.size > 0
    )
    if not plain or arithmetic.form in ALTERNATIVES or arithmetic.gradient == "any":
        return getattr(bounds(case, semantics, arithmetic), output)
    label = _Label.of(case, semantics)
    with np.errstate(all="ignore"):
        if output == "loss":
            return _cleaned(_binary_loss(case, label, arithmetic)[0][:, 0])
        return _cleaned(_sigmoid_gradient(case.inputs, label, arithmetic, FORMATS[case.dtype])[0])


def _largest(each: list[Bounds]) -> Bounds:
    """The largest of several bounds, entry by entry."""
    sizes = Sizes(
        np.maximum.reduce([b.sizes.losses for b in each]),
        np.maximum.reduce([b.sizes.slopes for b in each]),
        np.maximum.reduce([b.sizes.terms for b in each]),
    )
    loss = np.maximum.reduce([b.loss for b in each])
    return Bounds(loss, np.maximum.reduce([b.gradient for b in each]), sizes)


def _bounds(case: Case, semantics: Semantics, arithmetic: Arithmetic, temperature: float) -> Bounds:
    """Those of one form of the loss and one of the gradient."""
    if case.inputs.size == 0:
        losses, entries = np.zeros(case.rows), np.zeros(case.inputs.shape)
        return Bounds(losses, entries, Sizes(losses, entries, entries))
    case = present(case)
    with np.errstate(all="ignore"):
        if case.operation == "cross_entropy":
            found = _cross_entropy(case, semantics, arithmetic, temperature)
        elif case.operation == "binary_cross_entropy_with_logits":
            found = _binary_with_logits(case, semantics, arithmetic)
        elif case.operation == "binary_cross_entropy":
            found = _binary(case, semantics, arithmetic)
        elif case.operation == "softmax":
            found = _one_share(case, arithmetic)
        elif case.operation == "logsumexp":
            found = _log_of_sum(case, arithmetic)
        elif case.operation in FUNCTIONS:
            found = _function(case, semantics, arithmetic)
        elif case.operation.startswith("kl"):
            found = _divergence(case, semantics, arithmetic)
        elif "focal" in case.operation:
            found = _focal(case, semantics, arithmetic)
        else:
            found = _probabilities(case, semantics, arithmetic)
        if case.direction is not None:
            found = _curved(found, case, semantics, arithmetic)
        if case.operation.startswith("binary") and case.options.weight is not None:
            found = _weighted(found, case, arithmetic, np.full(case.rows, case.options.weight[0]))
        if case.sample_weight is not None:
            found = _weighted(found, case, arithmetic, np.abs(case.sample_weight))
        if case.cotangent is not None:
            found = _pulled(found, case, arithmetic)
    return Bounds(_cleaned(found.loss), _cleaned(found.gradient), found.sizes)


def target_bounds(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Floats:
    """Forward error bounds of the gradient with respect to the target, of the shape of the target.

    The loss is linear in the target, so an entry is the loss of a row with all its weight there:
    d loss / d q_j = loss(one-hot at j), d loss / d y = loss(y = 1) - loss(y = 0), the difference
    rounded once. Only `weight` and `pos_weight` may be passed.
    """
    plain = replace(case, by_target=False, sample_weight=None, cotangent=None, direction=None)
    if case.target_kind == "binary":
        ends = [
            bounds(replace(plain, target=np.full(case.target.shape, y)), semantics, arithmetic)
            for y in (1.0, 0.0)
        ]
        error = ends[0].loss + ends[1].loss
        size = np.abs(ends[0].sizes.losses - ends[1].sizes.losses)
        with np.errstate(all="ignore"):
            return _cleaned(error + half_ulp(size + error, _out(case)))[:, None]
    labels = (np.full(case.rows, j) for j in range(case.inputs.shape[1]))
    each = [bounds(replace(plain, target=label), semantics, arithmetic).loss for label in labels]
    return np.stack(each, axis=1) if each else np.zeros(case.inputs.shape)


def _pulled(rows: Bounds, case: Case, arithmetic: Arithmetic) -> Bounds:
    """The gradient of each row times its cotangent: two products, of each term or of the whole."""
    factor, out = np.abs(np.asarray(case.cotangent))[:, None], _out(case)
    sizes = rows.sizes
    sizes = Sizes(sizes.losses, sizes.slopes * factor, sizes.terms * factor)
    error = rows.gradient * factor
    # A zero takes the bound of a row to 0, also where it was void.
    error = np.where(factor == 0.0, 0.0, error)
    error = error + _growth(2, out.unit_roundoff) * (sizes.terms + error)
    error = error + half_ulp(sizes.slopes + error, out) + _eta(out, arithmetic.flush)
    if arithmetic.flush:
        error = error + flushed(sizes.slopes, error, out)
    return Bounds(rows.loss, error, sizes)


def reduced(rows: Bounds, case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Bounds of the sum or mean that the options of a case ask for, from those of its rows.

    The tree of the sum over rows has the height of that over classes, and adds in the format
    `stored`; the divisor is a sum of weights, or a count. A cotangent has the format of the case.
    """
    with np.errstate(all="ignore"):
        if case.options.reduction == "none":
            return rows
        if case.options.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction {case.options.reduction!r} is not known")
        loss, losses = _sum_of_rows(rows, arithmetic)
        gradient, sizes = rows.gradient, rows.sizes
        if case.options.reduction == "mean":
            divisor, roundings = _divisor(case, semantics, arithmetic)
            loss, losses = _quotient(loss, losses, divisor, roundings, arithmetic)
            gradient, sizes = _mean_gradient(rows, case, divisor, roundings, arithmetic)
        loss = _finish(losses, loss, replace(arithmetic, working=arithmetic.stored), _out(case))
    return Bounds(_cleaned(loss), _cleaned(gradient), replace(sizes, losses=losses))


def _out(case: Case) -> Format:
    return FORMATS[case.dtype]


def _weighted(rows: Bounds, case: Case, arithmetic: Arithmetic, weight: Floats) -> Bounds:
    """Each row times a number, which is one rounding."""
    post, out, each = FORMATS[arithmetic.stored], _out(case), weight[:, None]
    sizes = rows.sizes
    sizes = Sizes(sizes.losses * weight, sizes.slopes * each, sizes.terms * each)
    loss, gradient = rows.loss * weight, rows.gradient * each
    loss = loss + post.unit_roundoff * (sizes.losses + loss) + _eta(post, arithmetic.flush)
    loss = _finish(sizes.losses, loss, replace(arithmetic, working=arithmetic.stored), out)
    gradient = gradient + out.unit_roundoff * (sizes.terms + gradient)
    gradient = gradient + _eta(out, arithmetic.flush)
    gradient = gradient + half_ulp(sizes.slopes + gradient, out)
    return Bounds(_cleaned(loss), _cleaned(gradient), sizes)


def _sum_of_rows(rows: Bounds, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """Bound of the sum of the losses, and the sum of their magnitudes."""
    post, count = FORMATS[arithmetic.stored], rows.loss.size
    error, losses = np.asarray(rows.loss.sum()), np.asarray(rows.sizes.losses.sum())
    error = error + _growth(_height(count, arithmetic), post.unit_roundoff) * (losses + error)
    # A sum of numbers of a format is never rounded where it is subnormal, only flushed.
    lost = count * post.least_normal if arithmetic.flush else 0.0
    return np.asarray(error + lost), losses


def _divisor(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> tuple[float, int]:
    """What a mean divides by, and how many roundings a subject spends on it."""
    height = _height(case.rows, arithmetic)
    if semantics.mean == "sample_weights" and case.sample_weight is not None:
        ignored = truth.ignored_rows(case.target, truth.ignore_index(semantics, case.options))
        return math.fsum(case.sample_weight[~ignored]), height
    if semantics.mean == "sample_weights":
        semantics = replace(semantics, mean="valid")
    divisor = float(to_float(mean_denominator(case, semantics)))
    if semantics.mean == "weights" and case.options.weight is not None and case.target.ndim == 1:
        return divisor, height
    # A count is exact up to 2^precision, and then rounded once.
    return divisor, int(divisor > 2.0 ** FORMATS[arithmetic.stored].precision)


def _quotient(
    error: Floats, size: Floats, divisor: float, roundings: int, arithmetic: Arithmetic
) -> tuple[Floats, Floats]:
    post = FORMATS[arithmetic.stored]
    error, size = error / divisor, size / divisor
    grown = _grown_quotient(ROUNDINGS_OF_RECIPROCAL - 1, roundings, post.unit_roundoff)
    error = error + grown * (size + error) + _eta(post, arithmetic.flush)
    return error + half_ulp(size + error, post), size


def _mean_gradient(
    rows: Bounds, case: Case, divisor: float, roundings: int, arithmetic: Arithmetic
) -> tuple[Floats, Sizes]:
    """Bound of the gradient of a mean: the entries, or their terms, times the cotangent."""
    out = _out(case)
    old = rows.sizes
    sizes = Sizes(old.losses, old.slopes / divisor, old.terms / divisor)
    error = rows.gradient / divisor
    grown = _grown_quotient(ROUNDINGS_OF_COTANGENT, roundings, out.unit_roundoff)
    error = error + grown * (sizes.terms + error)
    error = error + half_ulp(sizes.slopes + error, out)
    if arithmetic.flush:
        # The division may take an entry below the least normal number.
        error = error + flushed(sizes.slopes, error, out)
    return error, sizes


def _grown_quotient(above: int, below: int, u: float) -> float:
    """(1 + u)^above / (1 - u)^below - 1 without cancellation."""
    return float(np.expm1(above * np.log1p(u) - below * np.log1p(-u)))


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


def coefficients(case: Case, semantics: Semantics) -> tuple[Floats, int]:
    """The a_j of each row in float64, and how many roundings a subject spends on one of them."""
    classes, options = case.inputs.shape[1], case.options
    if semantics.smoothing == "none":
        options = replace(options, label_smoothing=0.0)
    roundings = ROUNDINGS_OF_SMOOTHING if options.label_smoothing else 0
    roundings += options.weight is not None
    ignored = truth.ignored_rows(case.target, truth.ignore_index(semantics, options))
    target = case.target
    if target.ndim == 1:
        # An invalid label has no bound that anybody asks for, but must not raise.
        target = np.clip(target, 0, max(classes - 1, 0))
    a = to_float(truth.coefficients(target, classes, semantics, options))
    a[ignored] = 0.0
    return a, roundings


@dataclass(frozen=True)
class _Label:
    """The target of binary rows: w y and 1 - y are the coefficients of the two logarithms.

    Attributes:
        y, other: y and 1 - y, smoothed.
        w: the pos_weight.
        roundings: that a subject spends on a coefficient beyond y and 1 - y.
        smoothed: whether y is.
    """

    y: Floats
    other: Floats
    w: float
    roundings: int
    smoothed: bool

    def slip(self, arithmetic: Arithmetic) -> float:
        """How far 1 - y may be off where it is formed of a smoothed and rounded y near 1.

        None of that is relative to 1 - y. The forms that do not cancel smooth it by itself.
        """
        if not self.smoothed or arithmetic.gradient == "relative":
            return 0.0
        return _growth(ROUNDINGS_OF_SMOOTHING, FORMATS[arithmetic.working].unit_roundoff)

    @classmethod
    def of(cls, case: Case, semantics: Semantics) -> _Label:
        y, options = np.asarray(case.target, dtype=np.float64), case.options
        other, roundings, w = 1.0 - y, 0, 1.0
        smoothed = bool(options.label_smoothing) and semantics.smoothing != "none"
        if smoothed:
            kept, added = 1.0 - options.label_smoothing, options.label_smoothing / 2
            y, other = y * kept + added, other * kept + added
            roundings = ROUNDINGS_OF_SMOOTHING
        if options.pos_weight is not None:
            w, roundings = options.pos_weight, roundings + ROUNDINGS_OF_POS_WEIGHT
        return cls(y, other, w, roundings, smoothed)


@dataclass(frozen=True)
class _Softmax:
    """Float64 quantities of a row of logits, and the errors of its sums."""

    d: Floats
    tau: Floats  # error of a difference of logits by their division by the temperature
    shift: Floats  # error of a computed -d
    grown: Floats  # what that error adds to e^-d
    p: Floats
    s: Floats
    tail: Floats  # S, which s - 1 would lose
    log_s: Floats
    top: Floats  # bool (N, K): the one argmax that is left out of S
    theta: Floats  # relative error of s
    error_S: Floats  # absolute error of S
    Lambda: Floats  # error of log of the computed s
    Lambda_S: Floats  # error of log1p of the computed S

    @property
    def complement(self) -> Floats:
        """1 - p_j, without the cancellation at the top."""
        return np.where(self.top, self.tail / self.s, 1.0 - self.p)


def _error_of_quotient(temperature: float, work: Format) -> float:
    """The relative error of z / T: of the quotient, and of T where the format does not hold it."""
    if math.frexp(temperature)[0] == 0.5:
        return 0.0
    held = float(round_to_format(temperature, work)) == temperature
    return _grown_quotient(1, 0 if held else 1, work.unit_roundoff)


def _softmax(z: Floats, arithmetic: Arithmetic, temperature: float) -> _Softmax:
    rows, classes = z.shape
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    m = np.max(z, axis=1, keepdims=True)
    # The difference first: that of the rounded quotients would lose it.
    d = np.where(z == m, 0.0, (m - z) / temperature)
    tau = np.zeros_like(d)
    if temperature != 1.0:
        scaled = _error_of_quotient(temperature, work) * (np.abs(z) + np.abs(m)) / temperature
        tau = np.where(z == m, 0.0, scaled + 2 * eta)
    shift = u * (d + tau) + tau
    top = np.zeros(z.shape, dtype=bool)
    top[np.arange(rows), np.argmax(z, axis=1)] = True
    e = np.exp(-d)
    tail = np.sum(np.where(top, 0.0, e), axis=1, keepdims=True)
    s = 1.0 + tail
    grown = np.where(shift <= DIRECTLY, e * np.expm1(shift), np.exp(shift - d))
    grown = np.where(np.isinf(d), 0.0, grown)
    shifted = np.sum(np.where(top, 0.0, grown), axis=1)[:, None]
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
        tau=tau,
        shift=shift,
        grown=grown,
        p=e / s,
        s=s,
        tail=tail,
        log_s=np.log1p(tail),
        top=top,
        theta=theta,
        error_S=error_tail,
        Lambda=_log_error(theta),
        Lambda_S=_log_error(error_tail / s),
    )


def _log_probability_error(
    z: Floats, row: _Softmax, arithmetic: Arithmetic, temperature: float
) -> Floats:
    """Absolute error of each computed -log p_j, (N, K)."""
    work = FORMATS[arithmetic.working]
    u = work.unit_roundoff
    exact = row.d + row.log_s
    if arithmetic.form in ("log softmax", "log softmax / sum"):
        return _log_of_quotient_error(row, exact, arithmetic)
    if arithmetic.form == "C":
        log_error = row.Lambda_S + arithmetic.c_log1p * u * (row.log_s + row.Lambda_S)
    else:
        log_error = row.Lambda + arithmetic.c_log * u * (row.log_s + row.Lambda)
    if arithmetic.form == "A":
        m = np.max(z, axis=1, keepdims=True) / temperature
        computed = np.abs(m + row.log_s) + log_error
        if temperature != 1.0:
            computed = computed + _error_of_quotient(temperature, work) * np.abs(m)
        error = row.tau + log_error + half_ulp(computed, work)
    else:
        error = log_error + row.shift
    error = error + half_ulp(exact + error, work)
    if arithmetic.stored != arithmetic.working:
        error = error + half_ulp(exact + error, FORMATS[arithmetic.stored])
    return np.where(np.isinf(row.d), 0.0, error)


def _log_of_quotient_error(row: _Softmax, exact: Floats, arithmetic: Arithmetic) -> Floats:
    """Absolute error of -log of a computed p_j = e_j / s, (N, K): none where it may underflow."""
    work = FORMATS[arithmetic.working]
    u = work.unit_roundoff
    factor = np.log1p(arithmetic.c_exp * u) + np.log1p(u) + row.Lambda
    if arithmetic.form == "log softmax / sum":
        # The sum of the computed p_j errs by their errors, its own additions and a quotient.
        factor = 2 * factor + (_height(exact.shape[1], arithmetic) + 1) * np.log1p(u)
    error = _spoiled(row, factor)
    # Both e_j and the quotient may be subnormal, and s is at least 1.
    relative = (error + 2 * _eta(work, arithmetic.flush)) / row.p
    spoiled = _log_error(relative)
    spoiled = spoiled + arithmetic.c_log * u * (exact + spoiled)
    error = spoiled + half_ulp(exact + spoiled, work)
    if arithmetic.stored != arithmetic.working:
        error = error + half_ulp(exact + error, FORMATS[arithmetic.stored])
    return np.where(np.isinf(row.d), 0.0, error)


def _log_error(relative: Floats) -> Floats:
    """Error of a log by a relative error of its argument; void where that reaches 1."""
    return np.where(relative < 1, -np.log1p(-np.minimum(relative, 1.0)), np.inf)


def _cross_entropy(
    case: Case, semantics: Semantics, arithmetic: Arithmetic, temperature: float
) -> Bounds:
    z = case.inputs
    out = FORMATS[case.dtype]
    a, roundings = coefficients(case, semantics)
    row = _softmax(z, arithmetic, temperature)
    error = _log_probability_error(z, row, arithmetic, temperature)
    # -inf logits: a_j = 0 contributes nothing; another makes the loss infinite, no bound asked.
    terms = np.where(a != 0, a * (row.d + row.log_s), 0.0)
    exact, size = np.abs(np.sum(terms, axis=1)), np.sum(np.abs(terms), axis=1)
    loss = np.sum(np.where(a != 0, np.abs(a) * error, 0.0), axis=1)
    post = FORMATS[arithmetic.stored]
    summed = case.target.ndim > 1 or case.options.label_smoothing > 0
    if summed or roundings:
        height = _height(z.shape[1], arithmetic) if summed else 0
        grown = _growth(roundings + 1 + height, post.unit_roundoff)
        loss = loss + grown * (size + loss) + z.shape[1] * _eta(post, arithmetic.flush)
    if arithmetic.stored == arithmetic.working or summed or roundings:
        loss = _finish(exact, loss, replace(arithmetic, working=arithmetic.stored), out)
    elif arithmetic.flush:
        loss = loss + out.least_normal
    weights = a, roundings
    gradient = _softmax_gradient(case, weights, row, error, semantics, arithmetic, temperature)
    loss, slope = _without_mixed(a, case, loss, gradient[0])
    return Bounds(loss, slope, Sizes(exact, *gradient[1:]))


def _curved(found: Bounds, case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """The bounds with those of H v in the place of the gradient's."""
    if case.operation == "cross_entropy":
        error, g, terms = _softmax_curvature(case, semantics, arithmetic)
    elif case.operation == "binary_cross_entropy_with_logits":
        error, g, terms = _sigmoid_curvature(case, semantics, arithmetic)
    else:
        raise ValueError(f"operation {case.operation!r} has no second derivative here")
    return Bounds(found.loss, error, Sizes(found.sizes.losses, g, terms))


def _softmax_curvature(
    case: Case, semantics: Semantics, arithmetic: Arithmetic
) -> tuple[Floats, Floats, Floats]:
    """Bound of A p_j (v_j - sum_i p_i v_i), and the magnitudes of `Sizes`.

    "relative" is A p_j (c_j (1 - p_j) - sum over i != j of p_i c_i) with c_i = v_i - v_top, which
    loses nothing where one class takes nearly all; any other form subtracts p . v from v_j.
    """
    work, out, classes = FORMATS[arithmetic.working], FORMATS[case.dtype], case.inputs.shape[1]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    a, roundings = coefficients(case, semantics)
    mass = np.sum(a, axis=1, keepdims=True)
    if semantics.soft_gradient == "p - q" and case.target.ndim > 1:
        mass = np.ones_like(mass)
    row = _softmax(case.inputs, arithmetic, 1.0)
    spoiled, error_complement = _shares(row, arithmetic)
    if arithmetic.gradient == "exp logp":
        log_error = _log_probability_error(case.inputs, row, arithmetic, 1.0)
        spoiled = row.p * np.expm1(log_error + np.log1p(arithmetic.c_exp * u))
    v = np.asarray(case.direction)
    step = v - np.where(row.top, v, 0.0).sum(axis=1, keepdims=True)
    rest = np.sum(row.p * step, axis=1, keepdims=True) - row.p * step
    g = np.abs(mass * row.p * (step * row.complement - rest))
    if arithmetic.gradient == "relative":
        sizes = np.abs(step)
        own, error_own = sizes * row.complement, sizes * error_complement
    else:
        sizes = np.abs(v)
        own, error_own = sizes, np.zeros_like(v)
    # The sum holds the own term too where it need not: it is at most that of 1 - p_j.
    summed = np.sum(row.p * sizes, axis=1, keepdims=True)
    error_sum = np.sum(spoiled * sizes, axis=1, keepdims=True)
    terms = mass * row.p * (own + summed)
    error = spoiled * (own + summed) + (row.p + spoiled) * (error_own + error_sum)
    error = mass * error
    height = _height(classes, arithmetic)
    # The mass is a sum too where the target is a distribution.
    height = 2 * height if case.target.ndim > 1 or case.options.label_smoothing else height
    error = error + _growth(ROUNDINGS_OF_CURVATURE + roundings + height, u) * (terms + error)
    # What underflows in an e_i is multiplied by its own number of the direction, however small p_i.
    lost = 1.0 + np.sum(sizes, axis=1, keepdims=True)
    error = error + eta * (mass + 1.0) * (classes + 4.0) * lost
    error = error + half_ulp(g + error, work)
    error = np.where((a < 0).any(axis=1, keepdims=True), np.inf, error)
    return _finish(g, error, arithmetic, out), g, terms


def _sigmoid_curvature(
    case: Case, semantics: Semantics, arithmetic: Arithmetic
) -> tuple[Floats, Floats, Floats]:
    """Bound of (w y + 1 - y) p (1 - p) v with p = sigmoid(z), and the magnitudes of `Sizes`.

    Forms that subtract 1 - p lose where p is near 1; by way of exp(logp) the derivative of each
    term of the loss subtracts its own share from 1.
    """
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    label, v = _Label.of(case, semantics), np.abs(np.asarray(case.direction))
    z = case.inputs
    p, q, _ = _sigmoids(z, arithmetic)
    up, down = np.abs(label.other), np.abs(label.w * label.y)
    g = np.abs(label.other + label.w * label.y) * p * q * v
    roundings = ROUNDINGS_OF_BINARY_CURVATURE + label.roundings
    if arithmetic.gradient == "relative":
        terms = (up + down) * p * q * v
        error = _growth(roundings + 2 * arithmetic.c_sigmoid, u) * terms
    elif arithmetic.gradient == "exp logp":
        terms = (up * p + down * q) * v
        share = np.expm1(np.minimum(_exponent_error(z, arithmetic), DIRECTLY))
        share = np.where(share < 1.0, share, np.inf)
        error = (_growth(roundings, u) + share * (2.0 + share)) * terms
    else:
        terms = (up + down) * p * v
        error = _growth(roundings + 2 * arithmetic.c_sigmoid, u) * terms
    error = error + 4 * eta * (1.0 + up + down) * (1.0 + v)
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out), g, terms


def _exponent_error(z: Floats, arithmetic: Arithmetic) -> Floats:
    """Error of the exponent z - softplus(z), and of the exp that is relative to its value."""
    u = FORMATS[arithmetic.working].unit_roundoff
    tail = np.log1p(np.exp(-np.abs(z)))
    softplus = np.abs(z) + tail
    exponent = u * (2 * softplus + np.abs(z)) + (arithmetic.c_exp + arithmetic.c_log1p) * u * tail
    return exponent + np.log1p(arithmetic.c_exp * u)


def _without_mixed(a: Floats, case: Case, loss: Floats, gradient: Floats) -> tuple[Floats, Floats]:
    """No bounds for smoothed rows with a negative coefficient: the terms of one may cancel."""
    negative = np.asarray(np.any(a < 0, axis=1)) & bool(case.options.label_smoothing)
    return np.where(negative, np.inf, loss), np.where(negative[:, None], np.inf, gradient)


def _softmax_gradient(
    case: Case,
    weights: tuple[Floats, int],
    row: _Softmax,
    log_error: Floats,
    semantics: Semantics,
    arithmetic: Arithmetic,
    temperature: float,
) -> tuple[Floats, Floats, Floats]:
    """Bound of (A p_j - a_j) / T by the form of the subject, and the magnitudes of `Sizes`."""
    a, roundings = weights
    work = FORMATS[arithmetic.working]
    out = FORMATS[case.dtype]
    u = work.unit_roundoff
    size = np.abs(a)
    total, mass = np.sum(a, axis=1, keepdims=True), np.sum(size, axis=1, keepdims=True)
    if semantics.soft_gradient == "p - q" and case.target.ndim > 1:
        # The subject takes sum(q) for 1; its coefficients are rounded, which moves that sum.
        total = mass = np.ones_like(total)
    p, others = row.p, total - a
    complement = row.complement
    # A p_j - a_j without cancellation: the rounding of the result is relative to this.
    g = np.abs(others * p - a * complement)
    # What A - a_j is a sum of, its own rounding in float64 included.
    others = np.maximum(np.abs(others), mass - size)
    summed = case.target.ndim > 1 or case.options.label_smoothing > 0
    height = _height(a.shape[1], arithmetic) if summed else 0
    # By way of log(softmax) a_j has been divided by p_j and multiplied by it.
    by_logarithm = arithmetic.form in ("log softmax", "log softmax / sum")
    divided = 2 if by_logarithm else 0
    if arithmetic.gradient == "softmax product":
        divided = ROUNDINGS_OF_SOFTMAX_PRODUCT
        if arithmetic.form == "log softmax / sum":
            # The same again for the quotient by the sum, which spreads a second time.
            divided = 2 * divided + 2 * _height(a.shape[1], arithmetic)
    coefficient = _growth(roundings + divided + (2 if summed or roundings else 0) + height, u)
    spoiled, error_complement = _shares(row, arithmetic)
    if arithmetic.gradient == "exp logp":
        spoiled = p * np.expm1(log_error + np.log1p(arithmetic.c_exp * u))
    if arithmetic.gradient == "relative":
        error = others * spoiled + size * error_complement
        error = error + coefficient * (others * p + size * complement)
        terms = g
    else:
        error = mass * spoiled + coefficient * (mass * p + size)
        terms = mass * p + size
    eta = _eta(work, arithmetic.flush)
    # Each of the products with the coefficients of a row may underflow.
    products = a.shape[1] if summed and arithmetic.gradient != "relative" else 0
    error = error + eta * (2.0 + 2.0 * mass + products)
    error = error + half_ulp(g + error, work)
    if temperature != 1.0:
        g, terms, error = g / temperature, terms / temperature, error / temperature
        # A power of two needs no rounding; else there may be a reciprocal, and T may be rounded.
        rounded = _error_of_quotient(temperature, work) > 0.0
        grown = _grown_quotient(ROUNDINGS_OF_RECIPROCAL - 1, 1, u) if rounded else 0.0
        error = error + grown * (g + error) + eta
        error = error + half_ulp(g + error, work)
    if by_logarithm:
        # Nothing is left where the p_j of a target may be zero, or its reciprocal infinite.
        lost = (a != 0) & (np.isinf(log_error) | (p < 4.0 / work.max))
        error = np.where(lost.any(axis=1, keepdims=True), np.inf, error)
    return _finish(g, error, arithmetic, out), g, terms


def _binary_with_logits(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Bounds for softplus forms; y, the positive weight w and z are exact."""
    label = _Label.of(case, semantics)
    loss, exact = _binary_loss(case, label, arithmetic)
    gradient = _sigmoid_gradient(case.inputs, label, arithmetic, FORMATS[case.dtype])
    return Bounds(loss[:, 0], gradient[0], Sizes(exact[:, 0], *gradient[1:]))


def _binary_loss(case: Case, label: _Label, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """(N, 1) the bound of the loss of each row, and its magnitude."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    z = case.inputs
    y, other, w, roundings = label.y, label.other, label.w, label.roundings
    tail = np.log1p(np.exp(-np.abs(z)))
    up, down = np.maximum(z, 0.0) + tail, np.maximum(-z, 0.0) + tail  # softplus(z), softplus(-z)
    functions = (arithmetic.c_exp + arithmetic.c_log1p) * u
    error_tail = functions * tail * (1.0 + functions) + 2 * eta
    left, right = (np.where(a == 0, 0.0, a * level) for a, level in ((other, up), (w * y, down)))
    # Targets outside [0, 1] make the two cancel: a rounding is relative to their magnitudes.
    exact, size = np.abs(left + right), np.abs(left) + np.abs(right)
    both = np.abs(other) + np.abs(w * y)
    # With a pos_weight "std" multiplies a softplus, as "torch" does.
    if arithmetic.form == "std" and case.options.pos_weight is None:
        linear = np.abs(np.maximum(z, 0.0) - z * y)
        error = u * np.abs(z * y) + eta
        error = error + u * (linear + error) + error_tail
        error = error + _growth(roundings, u) * (np.abs(z) * np.maximum(1 + w, both) + tail)
    elif arithmetic.form == "log sigmoid":
        error = _log_sigmoid_error(z, label, arithmetic, size)
    elif arithmetic.form in ("std", "torch"):
        error_logsig = u * (down + error_tail) + error_tail
        factor = np.abs((w - 1) * y + 1)
        error = (_growth(2 + roundings, u)) * np.abs(other * z) + eta + factor * error_logsig
        # Those of 1 + (w - 1) y are relative to its terms.
        terms = np.abs((w - 1) * y) + 1
        error = error + _growth(roundings + (1 if roundings else 0), u) * terms * down
    elif arithmetic.form == "clamped":
        error = _clamped_error(z, label, (up, down), arithmetic)
        error = error + _growth(3 + roundings, u) * (size + error) + 3 * eta
    else:
        error = _growth(3 + roundings, u) * size + 3 * eta
        error = error + both * error_tail
    error = error + label.slip(arithmetic) * up
    error = error + half_ulp(exact + error, work)
    return _finish(exact, error, arithmetic, out), exact


def _log_sigmoid_error(z: Floats, label: _Label, arithmetic: Arithmetic, size: Floats) -> Floats:
    """Absolute error of -(w y log p + (1 - y) log(1 - p)), p the computed sigmoid.

    The error of p is relative to p, and so is what 1 - p takes over of it: past the point where
    that is all of 1 - p there is no bound.
    """
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    p, q, error_p = _sigmoids(z, arithmetic)
    error_q = error_p * (1.0 + u) + u * q + eta
    total = _growth(3 + label.roundings, u) * size + 3 * eta
    for weight, value, error in ((label.w * label.y, p, error_p), (label.other, q, error_q)):
        lost = _log_error(error / value)
        lost = lost + arithmetic.c_log * u * (np.abs(np.log(value)) + lost)
        total = total + np.where(weight == 0, 0.0, np.abs(weight) * lost)
    return total


def _function(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Those of a function of one logit and of its derivative."""
    if case.operation == "sigmoid":
        return _sigmoid_itself(case.inputs, arithmetic, FORMATS[case.dtype])
    target = np.full(case.inputs.shape, float(case.operation == "log_sigmoid"))
    binary = replace(case, operation="binary_cross_entropy_with_logits", target=target)
    found = _binary_with_logits(binary, semantics, arithmetic)
    if arithmetic.form != "log1p exp":
        return found
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    loss = _log_of_one_and_exp(case.inputs, found.sizes.losses[:, None], arithmetic)
    loss = loss + half_ulp(found.sizes.losses[:, None] + loss, work)
    finished = _finish(found.sizes.losses[:, None], loss, arithmetic, out)
    return replace(found, loss=finished[:, 0])


LINEAR_FROM = 20.0
"""Above it torch's softplus is z itself (the default of its argument `threshold`)."""


def _log_of_one_and_exp(z: Floats, exact: Floats, arithmetic: Arithmetic) -> Floats:
    """Absolute error of log1p(exp(z)), or of z itself where that is larger than 20.

    The error of exp(z) is relative to it, and the logarithm takes over sigmoid(z) of it.
    """
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    share = 1.0 / (1.0 + np.exp(-z))
    functions = (arithmetic.c_exp + arithmetic.c_log1p) * u
    error = arithmetic.c_exp * u * share + arithmetic.c_log1p * u * exact
    # log1p(e^x) is convex: past the first order there is at most half the square of the error.
    error = error * (1.0 + functions) + 2 * eta
    return np.where(z > LINEAR_FROM, np.maximum(error, np.exp(-LINEAR_FROM)), error)


def _sigmoid_itself(z: Floats, arithmetic: Arithmetic, out: Format) -> Bounds:
    """Of p = sigmoid(z) and of p (1 - p), which forms that cancel make of the rounded p."""
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    p, q, error_p = _sigmoids(z, arithmetic)
    value = error_p + half_ulp(p + error_p, work)
    if arithmetic.gradient == "relative":
        error = _growth(2, arithmetic.c_sigmoid * u) * (1 + _growth(3, u)) + _growth(3, u)
        error = error * p * q + 4 * eta
    else:
        error_q = error_p * (1.0 + u) + u * q + eta
        error = (p + error_p) * error_q + q * error_p + _growth(2, u) * (p * q) + 4 * eta
    error = error + half_ulp(p * q + error, work)
    slope = p * q
    return Bounds(
        _finish(p, value, arithmetic, out)[:, 0],
        _finish(slope, error, arithmetic, out),
        Sizes(p[:, 0], slope, slope),
    )


CLAMP = 100.0
"""What torch lets no log of a probability pass, in magnitude."""


def _sigmoids(z: Floats, arithmetic: Arithmetic) -> tuple[Floats, Floats, Floats]:
    """p = sigmoid(z), 1 - p, and the absolute error of the rounded p."""
    work = FORMATS[arithmetic.working]
    p, q = 1.0 / (1.0 + np.exp(-z)), 1.0 / (1.0 + np.exp(z))
    return p, q, arithmetic.c_sigmoid * work.unit_roundoff * p + _eta(work, arithmetic.flush)


def _clamped_error(
    z: Floats,
    label: _Label,
    levels: tuple[Floats, Floats],
    arithmetic: Arithmetic,
) -> Floats:
    """Error of y min(-log p, 100) + (1 - y) min(-log(1 - p), 100) for the rounded p = sigmoid(z).

    A clamp moves no two numbers apart: what comes out of it is off by the error of the log that it
    is given, but never by more than 100, and by what it cuts off.
    """
    u = FORMATS[arithmetic.working].unit_roundoff
    p, q, error_p = _sigmoids(z, arithmetic)
    up, down = levels
    parts = np.zeros(z.shape)
    for share, level, relative, c in (
        (label.w * label.y, down, error_p / p, arithmetic.c_log),
        (label.other, up, error_p / q + u, arithmetic.c_log1p),
    ):
        error = _log_error(relative)
        error = np.minimum(error + c * u * (level + error), CLAMP)
        spoiled = np.abs(share) * (error + np.maximum(level - CLAMP, 0))
        parts = parts + np.where(share == 0, 0.0, spoiled)
    return parts


def _chain_gradient(
    z: Floats, label: _Label, arithmetic: Arithmetic, out: Format
) -> tuple[Floats, Floats, Floats]:
    """Bound of (p - y) / max(p (1 - p), 1e-12) p (1 - p) for the rounded p = sigmoid(z).

    The products cancel but for eight roundings, unless the floor holds or the product is lost:
    then the result is anything from 0 to p - y.
    """
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    p, q, error_p = _sigmoids(z, arithmetic)
    g = np.abs(label.other * p - label.y * q)
    least = np.maximum(p - error_p, 0.0) * np.maximum(q - error_p - u, 0.0) * (1 - 4 * u) - eta
    lost = least < max(DENOMINATOR_FLOOR, work.least_normal)
    error = error_p + _growth(8, u) * (g + error_p) + np.where(lost, g, 0.0) + 4 * eta
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out), g, g + p


def _sigmoid_gradient(
    z: Floats, label: _Label, arithmetic: Arithmetic, out: Format
) -> tuple[Floats, Floats, Floats]:
    """Bound of (1 - y) sigmoid(z) - w y sigmoid(-z), and the magnitudes of `Sizes`."""
    y, other, w, roundings = label.y, label.other, label.w, label.roundings
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    positive, negative = 1.0 / (1.0 + np.exp(-z)), 1.0 / (1.0 + np.exp(z))
    left, right = np.abs(other) * positive, np.abs(w * y) * negative
    g = np.abs(other * positive - w * y * negative)
    terms = left + right
    if arithmetic.gradient == "chain":
        return _chain_gradient(z, label, arithmetic, out)
    if arithmetic.gradient in ("sigmoid", "sigmoid product"):
        if arithmetic.gradient == "sigmoid product":
            roundings += ROUNDINGS_OF_SIGMOID_PRODUCT
        # (1 - y + w y) sigmoid(z) - w y, or the derivatives of the terms of the loss: c_sigmoid
        # holds what is relative to sigmoid(z); without options y and the factor 1 are exact.
        factor = np.abs(other + w * y) * positive
        terms = (np.abs(other) + np.abs(w * y)) * positive + np.abs(w * y)
        error = arithmetic.c_sigmoid * u * factor + _growth(roundings, u) * terms
    elif arithmetic.gradient == "separate terms":
        # (1 - y) - l [z < 0] + l sigmoid(-|z|) with l = 1 - y + w y, in any order and sign.
        factor = np.abs(other + w * y)
        terms = 3 * np.abs(other) + 2 * np.abs(w * y)
        smaller = factor * np.minimum(positive, negative)
        error = arithmetic.c_sigmoid * u * smaller + _growth(3 + roundings, u) * terms
    elif arithmetic.gradient == "exp logp":
        # exp(z - softplus(z)): what the exponent loses is relative in the result.
        tail = np.log1p(np.exp(-np.abs(z)))
        levels = np.maximum(-z, 0.0) + tail, np.maximum(z, 0.0) + tail
        exponent = _exponent_error(z, arithmetic)
        error = _growth(3 + roundings, u) * (left + right)
        for a, part, level in zip((other, w * y), (left, right), levels):
            # As for e^-d: far below, expm1(exponent) alone would overflow.
            far = np.abs(a) * np.exp(exponent - level)
            near = part * np.expm1(np.minimum(exponent, DIRECTLY))
            error = error + np.where(a == 0, 0.0, np.where(exponent <= DIRECTLY, near, far))
    else:
        error = (arithmetic.c_sigmoid * u + _growth(3 + roundings, u)) * terms
        if arithmetic.gradient == "relative":
            terms = g
    error = error + label.slip(arithmetic) * positive + 4 * eta * (1 + w)
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out), g, terms


def guard_limits(semantics: Semantics, dtype: str) -> tuple[float, float]:
    """(lo, hi): eps and 1 - eps as the dtype holds them; (0, 1) where nothing is clipped."""
    if semantics.guard != "clip":
        return 0.0, 1.0
    return clip_bounds(semantics.guard_eps, dtype)


def _binary(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """BCE from a probability: -(y log p + (1 - y) log(1 - p)), after the guard."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    lo, hi = guard_limits(semantics, case.dtype)
    p = np.clip(case.inputs, lo, hi)
    label = _Label.of(case, semantics)
    y, other, roundings = label.w * label.y, label.other, label.roundings
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
    right = np.where(other == 0, 0.0, other * log_q)
    exact, size = np.abs(left + right), np.abs(left) + np.abs(right)
    error = np.where(y == 0, 0.0, np.abs(y) * error_p)
    error = error + np.where(other == 0, 0.0, np.abs(other) * error_q)
    error = error + label.slip(arithmetic) * log_q
    error = error + _growth(3 + roundings, u) * (size + error) + 3 * eta
    error = error + half_ulp(exact + error, work)
    loss = _finish(exact, error, arithmetic, out)
    gradient = _quotient_gradient(p, label, semantics, arithmetic, out)
    inside = (case.inputs >= lo) & (case.inputs <= hi)
    bound, slopes, terms = (np.where(inside, found, 0.0) for found in gradient)
    return Bounds(loss[:, 0], bound, Sizes(exact[:, 0], slopes, terms))


def _quotient_gradient(
    p: Floats, label: _Label, semantics: Semantics, arithmetic: Arithmetic, out: Format
) -> tuple[Floats, Floats, Floats]:
    """Bound of (p - y) / (p (1 - p)), and the magnitudes of `Sizes`.

    p - y, 1 - p, the product, the quotient and the floor of the denominator, where there is one,
    are rounded once each, and 1 - p enters twice.
    """
    work = FORMATS[arithmetic.working]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    floor = DENOMINATOR_FLOOR if semantics.guard_gradient == "clamped denominator" else 0.0
    below = np.maximum(p * (1 - p), floor)
    y, other, roundings = label.w * label.y, label.other, label.roundings
    left = np.where(y == 0, 0.0, y * (1 - p) / below)
    right = np.where(other == 0, 0.0, other * p / below)
    if semantics.guard == "clamp log" and floor == 0.0:
        # At 0 itself the clamp surely acts, and its derivative is 0.
        left, right = np.where(p == 0, 0.0, left), np.where(p == 1, 0.0, right)
        below = np.where((p == 0) | (p == 1), 1.0, below)
    g = np.abs(right - left)
    # One part may be infinite where the subject divides by an exact zero: no bound is asked there.
    cancelling = arithmetic.gradient not in ("relative", "quotient")
    terms = np.abs(left) + np.abs(right) if cancelling or roundings else g
    error = _growth(6 + roundings, u) * terms
    error = error + label.slip(arithmetic) / np.maximum(below, work.least_normal)
    error = error + 4 * eta * (1 + 1 / np.maximum(below, work.least_normal))
    error = error + half_ulp(g + error, work)
    return _finish(g, error, arithmetic, out), g, terms


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
    if semantics.guard == "clamp log":
        logs = np.minimum(logs, -semantics.guard_floor)
    in_argument = (h + 2) * u if semantics.renormalise != "no" else u
    if semantics.renormalise == "after":
        # log of the clipped p, then a softmax of the logs: shift, exp, sum, log, subtraction.
        in_argument = _growth(h + 4 + arithmetic.c_exp + arithmetic.c_log, u) * (
            2 + np.abs(np.log(np.clip(p, max(lo, work.least_subnormal), hi))).max(axis=1)[:, None]
        )
    each = arithmetic.c_log * u * logs + in_argument * (1 + in_argument)
    used, weight = a != 0, np.abs(a)
    exact = np.abs(np.sum(np.where(used, a * logs, 0.0), axis=1))
    size = np.sum(np.where(used, weight * logs, 0.0), axis=1)
    error = np.sum(np.where(used, weight * each, 0.0), axis=1)
    error = error + _growth(roundings + 2 + h, u) * (size + error) + p.shape[1] * eta
    error = error + half_ulp(exact + error, work)
    loss = _finish(exact, error, arithmetic, out)
    parts = _parts_of_gradient(weight, p, total, semantics, (lo, hi))
    factor = _growth(roundings + 2 * h + 8 + arithmetic.c_exp + arithmetic.c_log, u)
    gradient = (factor + in_argument) * parts + 4 * eta * (1 + parts)
    gradient = gradient + half_ulp(parts + gradient, work)
    gradient = _finish(parts, gradient, arithmetic, out)
    near = _near_kink(p, total, lo, hi, semantics, (h + 4) * u)
    sizes = Sizes(exact, parts, parts)
    return Bounds(*_without_mixed(a, case, loss, np.where(near, np.inf, gradient)), sizes)


def _parts_of_gradient(
    a: Floats,
    p: Floats,
    total: Floats,
    semantics: Semantics,
    limits: tuple[float, float],
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


def _spoiled(row: _Softmax, factor: Floats) -> Floats:
    """Error of p_j where e_j and the quotient have the relative error expm1(factor) at d_j = 0."""
    return (np.exp(factor) * row.grown / row.s) + row.p * np.expm1(factor)


def _shares(row: _Softmax, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """Errors of each p_j = e_j / s, and of each 1 - p_j where it is not formed by a difference."""
    u = FORMATS[arithmetic.working].unit_roundoff
    error = _spoiled(row, np.log1p(arithmetic.c_exp * u) + np.log1p(u) + row.Lambda)
    error_sum = np.where(row.top, row.error_S, row.theta * row.s) / row.s
    spread = np.expm1(row.Lambda + 2 * np.log1p(u))
    return error, error_sum * (1.0 + spread) + row.complement * spread


def _one_share(case: Case, arithmetic: Arithmetic) -> Bounds:
    """Bounds of p_t, and of p_t ([j = t] - p_j), by the product of the two factors."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    z, classes = case.inputs, case.inputs.shape[1]
    row = _softmax(z, arithmetic, 1.0)
    error, relative = _shares(row, arithmetic)
    unit = np.arange(classes) == np.clip(case.target, 0, classes - 1)[:, None]
    own = np.where(unit, row.p, 0.0).sum(axis=1)
    own_error = np.where(unit, error, 0.0).sum(axis=1) + eta
    loss = own_error + half_ulp(own + own_error, work)
    other = np.where(unit, row.complement, row.p)
    error_other = np.where(unit, relative, error)
    if arithmetic.gradient != "relative":
        # 1 - p_t by a difference, or by a sum over the products p_j g_j.
        height = _height(classes, arithmetic)
        error_other = np.where(unit, error + _growth(height + 2, u), error)
    left, left_error = own[:, None], own_error[:, None]
    g = left * other
    spoiled = (left + left_error) * (other + error_other) - g
    spoiled = spoiled + _growth(3, u) * (g + spoiled) + 3 * eta
    spoiled = spoiled + half_ulp(g + spoiled, work)
    sizes = Sizes(own, g, left * (other + np.where(unit, left, 0.0)))
    return Bounds(_finish(own, loss, arithmetic, out), _finish(g, spoiled, arithmetic, out), sizes)


def _log_of_sum(case: Case, arithmetic: Arithmetic) -> Bounds:
    """Bounds of m + log s: class A without its last subtraction."""
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta, z = work.unit_roundoff, _eta(work, arithmetic.flush), case.inputs
    row = _softmax(z, arithmetic, 1.0)
    if arithmetic.form == "C":
        error = row.Lambda_S + arithmetic.c_log1p * u * (row.log_s + row.Lambda_S)
    else:
        error = row.Lambda + arithmetic.c_log * u * (row.log_s + row.Lambda)
    exact = np.abs(np.max(z, axis=1, keepdims=True) + row.log_s)
    error = error + half_ulp(exact + error, work) + eta
    if arithmetic.gradient == "exp logp":
        spoiled = _exp_of_difference(row, error, arithmetic) + eta
    else:
        spoiled = _shares(row, arithmetic)[0] + eta
    spoiled = spoiled + half_ulp(row.p + spoiled, work)
    loss = _finish(exact, error, arithmetic, out)[:, 0]
    gradient = _finish(row.p, spoiled, arithmetic, out)
    return Bounds(loss, gradient, Sizes(exact[:, 0], row.p, row.p))


def _exp_of_difference(row: _Softmax, error: Floats, arithmetic: Arithmetic) -> Floats:
    """Errors of each p_j = exp(z_j - l), where l is the computed logsumexp with its error."""
    u = FORMATS[arithmetic.working].unit_roundoff
    gap = row.d + row.log_s
    factor = error + u * (gap + error) + np.log1p(arithmetic.c_exp * u)
    # As for e^-d: far below, exp(factor) alone would overflow.
    spoiled = np.where(factor <= DIRECTLY, row.p * np.expm1(factor), np.exp(factor - gap))
    return np.where(np.isinf(row.d), 0.0, spoiled)


def _divergence(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Bounds of sum_j q_j (log q_j - x_j), whose terms cancel whatever is done with them.

    The two logarithms or that of the quotient, their difference, the product and the sum.
    """
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    q, model = np.asarray(case.target, dtype=np.float64), case.inputs
    held, low = model, 0.0
    if semantics.guard == "floor":
        low = clip_bounds(semantics.guard_eps, case.dtype)[0]
        q, held = np.clip(q, low, 1.0), np.clip(model, low, 1.0)
    from_logs = case.operation == "kl_divergence"
    x = model if from_logs else np.log(held)
    used = q > 0
    own = np.where(used, q * np.abs(np.log(np.where(used, q, 1.0))), 0.0)
    cross = np.where(used, q * np.abs(x), 0.0)
    # A quotient q / p is rounded once, which is an absolute error of u in its logarithm.
    each = arithmetic.c_log * u * (own + (0.0 if from_logs else cross)) + u * np.where(used, q, 0.0)
    sizes = own + cross
    each = each + _growth(3, u) * (sizes + each) + 3 * eta
    recovered = np.zeros_like(q)
    if arithmetic.form == "log target":
        # The factor q is exp of the rounded log q, and may be lost where it is subnormal.
        recovered = np.where(used, _recovered(q, arithmetic), 0.0)
        distance = np.where(used, np.abs(np.log(np.where(used, q, 1.0))) + np.abs(x), 0.0)
        each = each + recovered * (sizes + each) + eta * distance
    exact = np.abs(np.sum(np.where(used, q * (np.log(np.where(used, q, 1.0)) - x), 0.0), axis=1))
    error = np.sum(each, axis=1)
    whole = np.sum(sizes, axis=1)
    error = error + _growth(_height(q.shape[1], arithmetic), u) * (whole + error)
    error = error + half_ulp(exact + error, work)
    slope = np.where(used, q if from_logs else q / held, 0.0)
    spoiled = (0.0 if from_logs else _growth(3, u)) * slope + 2 * eta + half_ulp(slope, work)
    spoiled = spoiled + recovered * (slope + spoiled)
    # What lies at a limit of the clip may be differentiated there or not.
    edge = (semantics.guard == "floor") & ((model == low) | (model == 1.0))
    spoiled = np.where(edge, slope + spoiled, spoiled)
    gradient = _finish(slope, spoiled, arithmetic, out)
    # A sum over rows may add the elements of all rows, of which those of one row cancel.
    return Bounds(_finish(exact, error, arithmetic, out), gradient, Sizes(whole, slope, slope))


def _recovered(q: Floats, arithmetic: Arithmetic) -> Floats:
    """Relative error of exp(log q): the error of a rounded log q is relative to |log q|."""
    u = FORMATS[arithmetic.working].unit_roundoff
    logs = np.abs(np.log(np.where(q > 0, q, 1.0)))
    return np.expm1(arithmetic.c_log * u * logs + np.log1p(arithmetic.c_exp * u))


@dataclass(frozen=True)
class _Target:
    """The probability c of the target class of each row, before it is raised and multiplied.

    Attributes:
        c, d: (N,) c and 1 - c, after the guard.
        error_c, error_d: (N,) of what a subject computes for them.
        surprise, error_L: (N,) -log c and its error.
        slope, error_slope: (N, K) magnitude and error of dc / dp_j, or of d log c / dz_j.
        terms: (N, K) sum of the magnitudes of the terms of which the slope is made.
        near: (N,) whether rounding decides on which side of a guard c lies.
        flat: (N,) whether a guard makes the logarithm a constant.
    """

    c: Floats
    d: Floats
    error_c: Floats
    error_d: Floats
    surprise: Floats
    error_L: Floats
    slope: Floats
    error_slope: Floats
    terms: Floats
    near: Booleans
    flat: Booleans


def _focal(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> Bounds:
    """Bounds of w (1 - c)^g L, L = -log c, and of its gradient, by the errors of c, 1 - c and L.

    Both are monotone in each of the three, so the values at the far ends of their errors bound it.
    A power x^g is exp(g log x): c_exp, and g |log x| times c_log and the rounding of the product.
    """
    work, out = FORMATS[arithmetic.working], FORMATS[case.dtype]
    u, eta = work.unit_roundoff, _eta(work, arithmetic.flush)
    gamma = semantics.gamma if case.options.gamma is None else case.options.gamma
    at, weight = _target_of(case, semantics, arithmetic), focal_weight(case, semantics)
    logs = (np.abs(np.log(np.where(d > 0, d, 1.0))) for d in (at.d, at.d + at.error_d))
    in_power = gamma * (arithmetic.c_log + 1) * u * np.maximum(*logs)
    powers = np.expm1((arithmetic.c_exp + 1) * u + in_power)
    exact = at.d**gamma * at.surprise
    farthest = (at.d + at.error_d) ** gamma * (at.surprise + at.error_L)
    error = _deviation(exact, farthest, lambda sign: _growth_of_loss(at, gamma, sign))
    error = weight * (error + (powers + _growth(4, u)) * (exact + error)) + 4 * eta
    exact = exact * weight
    error = error + half_ulp(exact + error, work)

    def pull(sign: float) -> Floats:
        """The factor of the slope, or at sign 1 its largest magnitude within the errors."""
        c, d = at.c + sign * at.error_c, at.d + sign * at.error_d
        # A power below 1 grows where its base shrinks.
        base = d if gamma >= 1 else np.maximum(at.d - sign * at.error_d, 0.0)
        surprise = at.surprise + sign * at.error_L
        if inputs_of(case.operation) == PROBABILITIES:
            first = d / np.maximum(at.c - sign * at.error_c, 0.0)
            second = gamma * surprise
        else:
            first, second = d, gamma * surprise * c
        inner = np.where(at.flat, 0.0, first) + second
        return (weight * base ** (gamma - 1.0) * inner)[:, None]

    g = pull(0.0) * at.slope
    logits = inputs_of(case.operation) == LOGITS
    spoiled = _deviation(
        g,
        pull(1.0) * (at.slope + at.error_slope),
        lambda sign: _growth_of_pull(at, gamma, sign, logits=logits),
    )
    roundings = _growth(12 + case.inputs.shape[1], u)
    spoiled = spoiled + (2 * powers[:, None] + roundings) * (g + spoiled) + 8 * eta
    spoiled = spoiled + half_ulp(g + spoiled, work)
    # At a limit a subject may be on the one side or on the other: 0, or what is there beside it.
    spoiled = _finish(g, spoiled, arithmetic, out) + np.where(at.near[:, None], g, 0.0)
    sizes = Sizes(exact, g, pull(0.0) * at.terms)
    return Bounds(_finish(exact, error, arithmetic, out), spoiled, sizes)


def _grown(error: Floats, value: Floats, sign: float) -> Floats:
    """log of (value + sign error) / value; at most a fall to 0."""
    return np.log1p(np.maximum(sign * error / value, -1.0))


def _growth_of_loss(at: _Target, gamma: float, sign: float) -> Floats:
    """(N,) log of the factor by which d^g L grows at one end of the errors."""
    power = gamma * _grown(at.error_d, at.d, sign) if gamma else 0.0
    return power + _grown(at.error_L, at.surprise, sign)


def _growth_of_pull(at: _Target, gamma: float, sign: float, *, logits: bool) -> Floats:
    """(N, K) the same for the gradient: the power, its sum of two terms, and the slope."""
    c, d = _grown(at.error_c, at.c, -sign), _grown(at.error_d, at.d, sign)
    surprise = _grown(at.error_L, at.surprise, sign)
    # A power below 1 grows where its base shrinks.
    base = (gamma - 1.0) * (d if gamma >= 1 else _grown(at.error_d, at.d, -sign))
    if logits:
        first, second = at.d, gamma * at.surprise * at.c
        more = d, surprise + _grown(at.error_c, at.c, sign)
    else:
        first, second = at.d / at.c, gamma * at.surprise
        more = d - c, surprise
    first = np.where(at.flat, 0.0, first)
    terms = ((term, rise) for term, rise in zip((first, second), more))
    risen = sum(np.where(term == 0, 0.0, term * np.expm1(rise)) for term, rise in terms)
    inner = np.log1p(risen / (first + second))
    return (base + inner)[:, None] + _grown(at.error_slope, at.slope, sign)


def _deviation(exact: Floats, farthest: Floats, growth: Callable[[float], Floats]) -> Floats:
    """The larger of the ways up and down: a power below 1 falls further than it rises.

    By the growth, for a difference of float64 numbers has their roundings; only where the value is
    0, or more than e times as large, by the difference.
    """
    rise, fall = growth(1.0), growth(-1.0)
    near = rise <= 1.0
    up = np.where(near, exact * np.expm1(np.where(near, rise, 0.0)), farthest - exact)
    # 0 / 0 says that the value is 0, and falls no further.
    down = exact * np.where(fall < 0.0, -np.expm1(fall), 0.0)
    return np.maximum(up, np.where(exact > 0.0, down, 0.0))


def _target_of(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> _Target:
    """The target's probability by the formula of the subject, moved by the guard."""
    if inputs_of(case.operation) == LOGITS:
        at = _target_of_logits(case, semantics, arithmetic)
        if semantics.guard == "none":
            return at
    else:
        at = _target_of_probabilities(case, semantics, arithmetic)
    held = at
    if semantics.guard in ("clip", "clip log"):
        held = _guarded(at, case, semantics, arithmetic)
    in_log = semantics.guard == "clip log"
    at = replace(at, near=held.near, flat=held.flat) if in_log else held
    surprise = -np.log(held.c)
    return replace(at, surprise=surprise, error_L=_error_of_log(held, surprise, arithmetic))


def _error_of_log(at: _Target, surprise: Floats, arithmetic: Arithmetic) -> Floats:
    """Error of -log of the computed c: the absolute error of a log is relative in its argument."""
    u = FORMATS[arithmetic.working].unit_roundoff
    off = _log_error(at.error_c / at.c)
    return off + arithmetic.c_log * u * (surprise + off)


def _target_of_logits(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> _Target:
    """c = softmax(z)_t, and L from the log-probability itself, not from the rounded c."""
    binary = case.operation.startswith("binary")
    work, labels = FORMATS[arithmetic.working], focal_labels(case)
    u = work.unit_roundoff
    z = np.concatenate([np.zeros_like(case.inputs), case.inputs], 1) if binary else case.inputs
    row = _softmax(z, arithmetic, 1.0)
    error, error_other = _shares(row, arithmetic)
    unit = np.arange(z.shape[1]) == labels[:, None]
    other = np.where(unit, row.complement, row.p)
    off = _log_probability_error(z, row, arithmetic, 1.0)
    picked = [
        np.where(unit, x, 0.0).sum(axis=1)
        for x in (row.p, error, other, error_other, row.d + row.log_s, off)
    ]
    c, error_c, d, error_d, surprise, error_L = picked
    relative = arithmetic.gradient == "relative"
    if binary and not relative:
        # p = sigmoid(z), and for a label of 0 c = 1 - p by a difference.
        error = np.maximum(error, arithmetic.c_sigmoid * u * row.p + _eta(work, arithmetic.flush))
        error_c = error[:, 1] + np.where(labels == 0, u, 0.0)
    error_c = error_c + _eta(work, arithmetic.flush)
    if semantics.renormalise == "before":
        again = _growth(_height(z.shape[1], arithmetic) + 2, u)
        error_c = error_c + again * (c + error_c)
    # 1 - c by a difference is the better way where c is small.
    difference = error_c + u
    error_d = np.minimum(error_d, difference) if relative else difference
    error_slope, terms = np.where(unit, error_d[:, None], error), other
    if semantics.renormalise == "before" and not relative:
        # p_k (g_k - sum_j p_j g_j), g_j = [j = t] / S - p_t / S^2: no term exceeds 2 p_t or 2.
        terms = np.where(unit, 4.0, 4.0 * row.p)
        error_slope = error_slope + _growth(8 + z.shape[1], u) * terms
    keep, no = slice(int(binary), None), np.zeros(case.rows, dtype=np.bool_)
    other, error_slope, terms = other[:, keep], error_slope[:, keep], terms[:, keep]
    errors = (c, d, error_c, error_d, surprise, error_L)
    return _Target(*errors, other, error_slope, terms, no, no)


def _target_of_probabilities(case: Case, semantics: Semantics, arithmetic: Arithmetic) -> _Target:
    """c = p_t, p_t / sum p, or 1 - p for a binary label of 0, before a guard."""
    p, labels = case.inputs, focal_labels(case)
    u, nothing = FORMATS[arithmetic.working].unit_roundoff, np.zeros(case.rows)
    slope = np.ones(p.shape)
    error_slope, terms = np.zeros(p.shape), slope
    if case.operation.startswith("binary"):
        c = np.where(labels == 1, p[:, 0], 1.0 - p[:, 0])
        # 1 - p is exact from 1/2 on (Sterbenz).
        rounded = np.where((labels == 1) | (p[:, 0] >= 0.5), 0.0, u)
    else:
        unit = np.arange(p.shape[1]) == labels[:, None]
        c, rounded, slope = np.where(unit, p, 0.0).sum(axis=1), nothing, unit.astype(np.float64)
        if semantics.renormalise == "before":
            total = p.sum(axis=1)
            c = c / total
            rounded = c * _growth(_height(p.shape[1], arithmetic) + 2, u)
            slope = np.where(unit, (1.0 - c)[:, None], c[:, None]) / total[:, None]
            # The two parts of the slope of a quotient are added by the chain rule.
            terms = (np.where(unit, 1.0, 0.0) + c[:, None]) / total[:, None]
            error_slope = _growth(4 + p.shape[1], u) * (slope + terms)
    no = np.zeros(case.rows, dtype=np.bool_)
    slopes = (slope, error_slope, terms)
    return _Target(c, 1.0 - c, rounded, rounded + u, nothing, nothing, *slopes, no, no)


def _guarded(at: _Target, case: Case, semantics: Semantics, arithmetic: Arithmetic) -> _Target:
    """c moved into the limits of a clip, which moves an error no further away."""
    u = FORMATS[arithmetic.working].unit_roundoff
    low, high = clip_bounds(semantics.guard_eps, case.dtype)
    mirrored = np.asarray(focal_labels(case) == 0) & case.operation.startswith("binary")
    least, most = np.where(mirrored, 1.0 - high, low), np.where(mirrored, 1.0 - low, high)
    margin = 2 * at.error_c + 2 * u * at.c
    near = (np.abs(at.c - least) <= margin) | (np.abs(at.c - most) <= margin + u)
    c = np.clip(at.c, least, most)
    # 1 - lo is rounded, but neither lo nor 1 - hi.
    flat = (c != at.c) & ~near
    error = np.where(flat, np.where(mirrored, u, 0.0), at.error_c)
    return replace(at, c=c, d=1.0 - c, error_c=error, near=near, flat=flat)
