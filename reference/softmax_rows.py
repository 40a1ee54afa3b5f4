"""Cross-entropy from logits, and softmax with its kin, row by row and without cancellation.

With m = max_j z_j at one index a, gap_j = m - z_j (exact), e_j = exp(-gap_j) and
S = sum over j != a of e_j, every quantity below is a sum, product or quotient of terms that are
not negative:
    loss       = sum_j a_j gap_j + (sum_j a_j) log1p(S)
    p_j        = e_j / (1 + S),   1 - p_j = (sum over i != j of e_i) / (1 + S)
    dloss/dz_j = (e_j sum over i != j of a_i  -  a_j sum over i != j of e_i) / (1 + S)
Only the last difference can cancel, and only where a_j / sum a is close to p_j; for a class index
one of its two terms is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from . import truth as rows
from .certify import Index, Parts, repaired, uncertain
from .decimals import Digits, Enclosure, Triple, settle
from .doubledouble import exp as exp_pair
from .doubledouble import two_sum
from .exact import (
    Booleans,
    Exact,
    add,
    broadcast,
    divided,
    magnitude,
    multiplied,
    negate,
    put,
    shift,
    subtract,
    sum_pairs,
    total,
    where,
)
from .functions import exp, log1p
from .slow_rows import SoftmaxRow
from .truth import Factor, Formula, Truth, constant, exclusive_sums
from .vocabulary import Floats, Options, Semantics

# Below this binary exponent of S one probability is so close to 1 that the sticky form is needed.
_SATURATED = -40
# A bound of 2**-98 is 2**-6 of the bound that `certify` assumes.
_SLACK = 6
# Differences of numbers below this do not overflow.
_HUGE = 2.0**1000
# At one scale terms are kept down to 2**-1000, and a sum above 2**-800 keeps its digits.
_DEEPEST, _SHALLOW = -1000, -800
# The sum of this many float64 numbers without the largest one is exact as a pair.
_FEW = 3


@dataclass(frozen=True, eq=False)
class Softmax:
    """The parts of the formulas in the module docstring; shapes (N, K) and (N,)."""

    gap: Exact
    growth: Exact
    others: Exact
    whole: Exact
    log_whole: Exact
    top: NDArray[np.intp]

    def growth_of_others(self) -> Exact:
        """sum over i != j of e_i: the numerator of 1 - p_j."""
        rest = subtract(self.whole.reshape(-1, 1), self.growth)
        at_top = np.arange(self.gap.shape[1]) == self.top[:, None]
        return where(at_top, self.others.reshape(-1, 1), rest)


def softmax_parts(logits: Floats) -> Softmax:
    """The parts for (N, K) logits below +inf, with at least one finite logit in each row."""
    top = logits.argmax(axis=1)
    peak = np.take_along_axis(logits, top[:, None], axis=1)
    gap = _gaps(peak, logits)
    growth = exp(negate(gap))
    at_top = np.arange(logits.shape[1]) == top[:, None]
    others = total(where(at_top, constant(0.0), growth), axis=1)
    whole = add(constant(1.0), others)
    return Softmax(gap, growth, others, whole, log1p(others), top)


def _gaps(peak: Floats, logits: Floats) -> Exact:
    """peak - logits, exactly: one `two_sum` where it cannot overflow."""
    if np.abs(logits).max(initial=0.0) < _HUGE:
        return Exact.from_pair(*two_sum(peak, -logits))
    return subtract(Exact.from_float(peak), Exact.from_float(logits))


def cross_entropy_truth(
    logits: Floats,
    target: NDArray[Any],
    semantics: Semantics,
    options: Options,
    factor: Optional[Factor] = None,
) -> Truth:
    """-sum_j a_j log softmax(z)_j for each row, and its gradient with respect to the logits.

    Args:
        logits: (N, K) exact numbers, infinities and NaN included.
        target: (N,) class indices, or (N, K) distributions, which need not be normalised.
        semantics: smoothing, ignore_index, plus_inf and soft_gradient are read here.
        options: weight, ignore_index and label_smoothing are read here; see `truth.coefficients`.
        factor: of each row.

    Returns:
        The unreduced rows. Ignored rows are zero even where they hold NaN. A term with a_j = 0
        is absent, also where log p_j = -inf.

    Raises:
        ValueError: an invalid label (with position and value), wrong weights or shapes.
    """
    rows.demand_shape("logits", logits, 2)
    classes = logits.shape[1]
    if classes == 0:
        raise ValueError("logits must have at least one class")
    ignored = rows.ignored_rows(target, rows.ignore_index(semantics, options))
    if target.ndim == 1:
        if target.shape != logits.shape[:1]:
            raise ValueError(f"target has {target.shape[0]} rows, but the logits {logits.shape[0]}")
        rows.demand_labels(target, classes, ignored)
        target = np.where(ignored, 0, target).astype(np.int64)
    else:
        rows.demand_same_shape(target, logits)

    def compute(part: slice) -> Truth:
        inputs = logits[part], target[part], ignored[part]
        return _pass(*inputs, semantics, options, rows.factor_part(factor, part))

    return rows.in_passes(logits.shape[0], classes, compute)


def _pass(
    logits: Floats,
    target: NDArray[Any],
    ignored: Booleans,
    semantics: Semantics,
    options: Options,
    factor: Optional[Factor],
) -> Truth:
    usable, nan, reason = usable_logits(logits, semantics)
    if target.ndim == 2:
        given = np.asarray(target, dtype=np.float64)
        nan = nan | np.isnan(given).any(axis=1)
        infinite = np.isinf(given).any(axis=1) & ~nan
        reason = np.where(infinite & (reason == ""), rows.INFINITE_TARGET, reason)
        target = np.where(np.isfinite(given), given, 0.0)
    source = _Source(usable, target, semantics, options, factor)
    row = _Rows(source, softmax_parts(usable))
    hard = target.ndim == 1 and not options.label_smoothing
    loss, gradient, doubt = _hard(row) if hard else _soft(row)
    return rows.finish(loss, gradient, nan, ignored, reason, doubt, source.formula)


def cross_entropy_losses(
    logits: Floats, target: NDArray[Any], semantics: Semantics, options: Options
) -> Exact:
    """(N,) the losses of `cross_entropy_truth` alone; for plain class indices by a shorter way."""
    plain = target.ndim == 1 and not options.passed() and semantics.ignore_index is None
    if not plain or logits.shape[0] == 0:
        return cross_entropy_truth(logits, target, semantics, options).loss
    rows.demand_labels(target, logits.shape[1], np.zeros(target.shape, dtype=np.bool_))
    losses = []
    for part in rows.passes(*logits.shape):
        loss, unsure = _short_losses(logits[part], target[part])
        places = np.flatnonzero(unsure)
        if places.size:
            chosen = logits[part][places], target[part][places]
            loss = put(loss, places, cross_entropy_truth(*chosen, semantics, options).loss)
        losses.append(loss)
    return rows.join_exact(losses)


def _short_losses(logits: Floats, target: NDArray[Any]) -> tuple[Exact, Booleans]:
    """gap_t + log1p(S) with S summed at one scale, and the rows where that is not enough."""
    ordinary = np.asarray((np.abs(logits) < _HUGE).all(axis=1))
    if not ordinary.all():
        logits = np.where(ordinary[:, None], logits, 0.0)
    index, top = np.arange(target.shape[0]), logits.argmax(axis=1)
    peak = logits[index, top]
    pair = logits.shape[1] == 2
    # Of two logits only one has an exponential that is not 1.
    terms = logits[index, 1 - top][:, None] if pair else logits
    hi, lo, power = exp_pair(two_sum(terms, -peak[:, None]))
    unit = np.ldexp(1.0, np.maximum(power, _DEEPEST).astype(np.int32))
    if not pair:
        unit[index, top] = 0.0
    others = Exact.from_pair(*sum_pairs(hi * unit, lo * unit))
    curved = log1p(others)
    gap = Exact.from_pair(*two_sum(peak, -logits[index, target]))
    loss = add(gap, curved)
    # Below 2**-800 the common scale has cut off terms or their digits.
    lost = (others.exponent < _SHALLOW) | (others.hi == 0.0)
    return loss, uncertain(loss, curved) | lost | ~ordinary


def usable_logits(
    logits: Floats, semantics: Semantics
) -> tuple[Floats, Booleans, NDArray[np.str_]]:
    """Logits that `softmax_parts` takes, which rows are NaN, and why others are undefined.

    One +inf is the limit of a row whose other logits fall to -inf, and is replaced by that row.
    """
    finite = np.isfinite(logits)
    if finite.all():
        count = logits.shape[0]
        return logits, np.zeros(count, dtype=np.bool_), np.full(count, "")
    nan = np.asarray(np.isnan(logits).any(axis=1))
    plus = np.isposinf(logits)
    infinite = np.asarray(plus.sum(axis=1))
    if semantics.plus_inf == "nan":
        nan = nan | (infinite > 0)
    empty = np.asarray(np.isneginf(logits).all(axis=1))
    reason = rows.reasons(nan, "", empty, rows.ALL_MINUS_INF, infinite > 1, rows.SEVERAL_PLUS_INF)
    if semantics.plus_inf == "unspecified":
        reason = np.where(~nan & (infinite == 1), rows.ONE_PLUS_INF, reason)
    limit = np.where(plus, 0.0, -np.inf)
    usable = np.where((infinite == 1)[:, None], limit, logits)
    return np.where((nan | (reason != ""))[:, None], 0.0, usable), nan, reason


@dataclass(frozen=True, eq=False)
class _Source:
    """What the rows of one pass are computed from: usable logits, targets, conventions."""

    logits: Floats
    target: NDArray[Any]
    semantics: Semantics
    options: Options
    factor: Optional[Factor]

    @property
    def classes(self) -> int:
        return self.logits.shape[1]

    def slow(self, row: int) -> SoftmaxRow:
        """The row for the decimal fallback."""
        weights = rows.exact_coefficients(
            np.asarray(self.target[row]),
            self.classes,
            self.semantics,
            self.options,
            rows.factor_of_row(self.factor, row),
        )
        return SoftmaxRow(self.logits[row].tolist(), weights)

    def formula(self, row: int) -> Formula:
        return self.slow(row).loss

    def coefficients(self) -> Exact:
        return rows.coefficients(
            self.target, self.classes, self.semantics, self.options, self.factor
        )

    def describe(self, row: int) -> str:
        logits = [z.hex() for z in self.logits[row].tolist()]
        return f"cross-entropy of logits {logits}, target {self.target[row]}, {self.options}"


@dataclass(frozen=True, eq=False)
class _Rows:
    """One pass, and the parts of its softmax."""

    source: _Source
    parts: Softmax
    slow_rows: dict[int, SoftmaxRow] = field(default_factory=dict)

    def slow(self, row: int) -> SoftmaxRow:
        """The row for the decimal fallback, made once."""
        if row not in self.slow_rows:
            self.slow_rows[row] = self.source.slow(row)
        return self.slow_rows[row]

    def settle_loss(self, index: Index) -> Triple:
        row = index[0]
        return settle(self.slow(row).loss, lambda: self.source.describe(row))

    def settle_gradient(self, index: Index) -> Triple:
        slow, j = self.slow(index[0]), index[1]
        rest = self.rest(index)
        return settle(
            lambda digits: slow.gradient(j, rest, digits), lambda: self.source.describe(index[0])
        )

    def linear(self, index: Index) -> Fraction:
        return self.slow(index[0]).linear()

    def rest(self, index: Index) -> Fraction:
        """sum over i != j of a_i, or f - a_j."""
        slow = self.slow(index[0])
        if not self.differs():
            return slow.rest(index[1])
        return rows.factor_of_row(self.source.factor, index[0]) - slow.weights[index[1]]

    def limit(self, index: Index, use: Booleans) -> Optional[Fraction]:
        """What the gradient tends to as the maximum's probability goes to 1."""
        row, j = index
        if not use[index]:
            return None
        return self.rest(index) if j == self.parts.top[row] else -self.slow(row).weights[j]

    def differs(self) -> bool:
        """Whether the gradient is p - q for a distribution, whatever its sum."""
        return self.source.target.ndim == 2 and self.source.semantics.soft_gradient == "p - q"


def _hard(row: _Rows) -> tuple[Exact, Exact, Exact]:
    """Loss gap_t + log1p(S), gradient e_j or minus the sum of the others over 1 + S."""
    parts, target = row.parts, row.source.target
    factor, exact = _hard_factor(row.source)
    loss, size, moving = _hard_loss(parts, target, factor, exact=exact)
    gradient, gradient_size, tiny = _hard_gradient(parts, target, factor, exact=exact)
    limits = None
    if tiny is not None:
        limits = Parts(lambda index: row.limit(index, tiny.hi != 0.0), tiny)
    return (
        repaired(loss, size, row.settle_loss, Parts(row.linear, moving)),
        repaired(gradient, gradient_size, row.settle_gradient, limits),
        size,
    )


def _hard_factor(source: _Source) -> tuple[Optional[Exact], bool]:
    """(N,) f w_t, or None for ones, and whether it is exact."""
    weight = rows.class_weights(source.options, source.classes)
    given = source.factor
    if weight is None:
        return (None, True) if given is None else (given.value, given.exact)
    own = Exact.from_float(weight[source.target])
    return (own, True) if given is None else (multiplied(given.value, own), False)


def _hard_loss(
    parts: Softmax, target: NDArray[Any], factor: Optional[Exact], *, exact: bool
) -> tuple[Exact, Exact, Exact]:
    """w (gap_t + log1p(S)), the size of what is not exact in it, and its last term."""
    linear = parts.gap.take((np.arange(target.shape[0]), target))
    curved = parts.log_whole
    if factor is None:
        return add(linear, curved), curved, curved
    curved = multiplied(factor, curved)
    product = rows.nothing_times(factor, linear, multiplied(factor, linear))
    # A product of two float64 numbers is exact; another errs by less than 2**-98 of itself.
    whole = (linear.lo == 0.0) & (factor.lo == 0.0) & exact
    inexact = where(whole, constant(0.0), shift(magnitude(product), -_SLACK))
    return add(product, curved), add(magnitude(curved), inexact), curved


def _hard_gradient(
    parts: Softmax, target: NDArray[Any], factor: Optional[Exact], *, exact: bool
) -> tuple[Exact, Exact, Optional[Exact]]:
    """The gradient, the size of what is not exact in it, and how far it is from its limit.

    The last is 0 where the gradient is not close to a limit other than 0, and None if nowhere.
    """
    place = np.arange(target.shape[0]), target
    rest = subtract(parts.whole, parts.growth.take(place))
    rest = where(target == parts.top, parts.others, rest)
    numerator = put(parts.growth, place, negate(rest))
    gradient = divided(numerator, parts.whole.reshape(-1, 1))
    if factor is not None:
        gradient = multiplied(gradient, factor.reshape(-1, 1))
    # Two entries can be w times (1 - something tiny): the target, and the maximum where it is not
    # the target. Those keep the tiny part as a sticky one.
    size, wrong, distance = gradient, target != parts.top, None
    mine = parts.growth.take(place)
    for share, column, positive in ((mine, target, False), (parts.others, parts.top, True)):
        near = np.flatnonzero(_tiny(share) & wrong)
        if near.size:
            own = constant(1.0) if factor is None else factor.take(near)
            tiny = multiplied(own, divided(share.take(near), parts.whole.take(near)))
            value = subtract(own, tiny) if positive else subtract(tiny, own)
            gradient = put(gradient, (near, column[near]), value)
            move = negate(tiny) if positive else tiny
            distance = Exact.zeros(gradient.shape) if distance is None else distance
            distance = put(distance, (near, column[near]), move)
            if not exact:
                tiny = add(magnitude(tiny), shift(magnitude(own), -_SLACK))
            size = put(size, (near, column[near]), tiny)
    return gradient, size, distance


def _tiny(share: Exact) -> Booleans:
    """Where a part of 1 + S is so small, or zero, that the sticky form is needed."""
    return (share.exponent < _SATURATED) | (share.hi == 0.0)


def _soft(row: _Rows) -> tuple[Exact, Exact, Exact]:
    parts, source = row.parts, row.source
    weights = source.coefficients()
    inexact = bool(source.options.label_smoothing) or source.factor is not None
    loss, doubt, moving, error = _soft_loss(parts, weights, inexact=inexact)
    loss = repaired(loss, doubt, row.settle_loss, Parts(row.linear, moving, error))
    rest = _rest(row, weights)
    gradient, size = _soft_gradient(parts, weights, rest)
    gradient, size, limits = _saturated(row, weights, rest, gradient, size, inexact=inexact)
    return loss, repaired(gradient, size, row.settle_gradient, limits), doubt


def _soft_loss(
    parts: Softmax, weights: Exact, *, inexact: bool
) -> tuple[Exact, Exact, Exact, Exact]:
    """sum_j a_j gap_j + A log1p(S), and the size of what is not exact in it.

    Then its last term, and the size of what is not exact in that.
    """
    terms = rows.nothing_times(weights, parts.gap, multiplied(weights, parts.gap))
    linear = total(terms, axis=1)
    curved = multiplied(total(weights, axis=1), parts.log_whole)
    signed = bool((weights.hi < 0.0).any())
    size = total(magnitude(terms), axis=1) if signed else linear
    curve = multiplied(total(magnitude(weights), axis=1), parts.log_whole) if signed else curved
    # One product of two float64 numbers is exact; else the linear part errs by 2**-98 of its size.
    rounded = ((parts.gap.lo != 0.0) | (weights.lo != 0.0)).any(axis=1)
    exact = ((terms.hi != 0.0).sum(axis=1) <= 1) & ~rounded & (not inexact)
    inexact_part = where(exact, constant(0.0), shift(size, -_SLACK))
    return add(linear, curved), add(inexact_part, curve), curved, curve


def _rest(row: _Rows, weights: Exact) -> Exact:
    """sum over i != j of a_i; f - a_j, f the factor of the row, where the gradient is p - q."""
    if not row.differs():
        return exclusive_sums(weights, rows.largest(weights))
    factor = row.source.factor
    return subtract(constant(1.0) if factor is None else factor.value.reshape(-1, 1), weights)


def _bound_of_rest(weights: Exact, rest: Exact) -> Exact:
    """What the error of a sum of coefficients is relative to: signed ones may cancel."""
    if not (weights.hi < 0.0).any():
        return magnitude(rest)
    return add(total(magnitude(weights), axis=1).reshape(-1, 1), magnitude(rest))


def _soft_gradient(parts: Softmax, weights: Exact, rest: Exact) -> tuple[Exact, Exact]:
    """(e_j rest_j - a_j sum_{i != j} e_i) / (1 + S), and the size of its two terms."""
    whole = parts.whole.reshape(-1, 1)
    bound = _bound_of_rest(weights, rest)
    rise, fall = multiplied(parts.growth, rest), multiplied(weights, parts.growth_of_others())
    gradient = divided(subtract(rise, fall), whole)
    return gradient, divided(add(multiplied(parts.growth, bound), magnitude(fall)), whole)


def _saturated(
    row: _Rows, weights: Exact, rest: Exact, gradient: Exact, size: Exact, *, inexact: bool
) -> tuple[Exact, Exact, Optional[Parts]]:
    """The gradient and its size, where p_j is close to 0 or 1 as a limit and a tiny, sticky rest.

    For p_j close to 0 it is -a_j + (a_j + rest_j) p_j, close to 1 rest_j - (a_j + rest_j)(1 - p_j).
    """
    parts, whole = row.parts, row.parts.whole.reshape(-1, 1)
    small = _tiny(parts.growth)
    if not small.any():
        return gradient, size, None
    near = _tiny(parts.others)[:, None] & (parts.top[:, None] == np.arange(row.source.classes))
    share = divided(where(near, parts.others.reshape(-1, 1), parts.growth), whole)
    tiny, bound = multiplied(add(weights, rest), share), _bound_of_rest(weights, rest)
    tiny_error = multiplied(add(magnitude(weights), bound), share)
    moving = where(near, negate(tiny), tiny)
    still = where(near, rest, negate(weights))
    few = (weights.hi != 0.0).sum(axis=1) <= _FEW
    few = (few & ~(weights.lo != 0.0).any(axis=1))[:, None]
    exact = (few | ~near) & (not inexact)
    still_error = shift(where(near, bound, magnitude(still)), -_SLACK)
    error = add(tiny_error, where(exact, constant(0.0), still_error))
    use = near | small
    limits = Parts(lambda index: row.limit(index, use), moving, tiny_error)
    return where(use, add(still, moving), gradient), where(use, error, size), limits


def log_softmax(logits: Floats) -> Exact:
    """(N, K) log p_j = -(gap_j + log1p(S)); a row without a value is NaN.

    One +inf logit is taken as the limit: 0 there and -inf elsewhere.
    """

    def compute(usable: Floats) -> Exact:
        parts, slow = softmax_parts(usable), _SlowRows(usable)
        curved = parts.log_whole.reshape(-1, 1)

        def settle_(index: Index) -> Triple:
            hi, lo, exponent = slow.settle(
                index[0], lambda row, digits: row.surprise(index[1], digits)
            )
            return -hi, -lo, exponent

        return repaired(negate(add(parts.gap, curved)), broadcast(curved, usable.shape), settle_)

    return _in_passes(logits, compute)


def softmax(logits: Floats) -> Exact:
    """(N, K) p_j = e_j / (1 + S), with the limits of `log_softmax`."""

    def compute(usable: Floats) -> Exact:
        parts, slow = softmax_parts(usable), _SlowRows(usable)
        whole = parts.whole.reshape(-1, 1)
        at_top = np.arange(usable.shape[1]) == parts.top[:, None]
        near = at_top & _tiny(parts.others)[:, None]
        share = divided(where(near, parts.others.reshape(-1, 1), parts.growth), whole)
        value = where(near, subtract(constant(1.0), share), share)

        def settle_(index: Index) -> Triple:
            return slow.settle(
                index[0], lambda row, digits: row.gradient(index[1], Fraction(1), digits)
            )

        return repaired(value, share, settle_)

    return _in_passes(logits, compute)


def logsumexp(logits: Floats) -> Exact:
    """(N,) log sum_j e**z_j = m + log1p(S); -inf for a row of -inf, +inf with any +inf logit."""
    infinite = np.isposinf(logits).any(axis=1) & ~np.isnan(logits).any(axis=1)
    special = np.asarray(infinite | np.isneginf(logits).all(axis=1))
    safe = np.where(special[:, None], 0.0, logits)

    def compute(usable: Floats) -> Exact:
        parts = softmax_parts(usable)
        peak = np.take_along_axis(usable, parts.top[:, None], axis=1)[:, 0]

        slow = _SlowRows(usable)

        def settle_(index: Index) -> Triple:
            return slow.settle(index[0], SoftmaxRow.log_sum)

        return repaired(add(Exact.from_float(peak), parts.log_whole), parts.log_whole, settle_)

    result = _in_passes(safe, compute)
    return where(special, Exact.from_float(np.where(infinite, np.inf, -np.inf)), result)


class _SlowRows:
    """The decimal fallback of the softmax family: rows without coefficients, each made once."""

    def __init__(self, logits: Floats) -> None:
        self._logits = logits
        self._rows: dict[int, SoftmaxRow] = {}

    def settle(self, row: int, formula: Callable[[SoftmaxRow, Digits], Enclosure]) -> Triple:
        logits = self._logits[row].tolist()
        if row not in self._rows:
            self._rows[row] = SoftmaxRow(logits, [Fraction(0)] * len(logits))
        return settle(
            lambda digits: formula(self._rows[row], digits),
            lambda: f"softmax of logits {[z.hex() for z in logits]}",
        )


def _in_passes(logits: Floats, compute: Callable[[Floats], Exact]) -> Exact:
    rows.demand_shape("logits", logits, 2)
    results = []
    for part in rows.passes(*logits.shape):
        usable, nan, reason = usable_logits(logits[part], Semantics(plus_inf="limit"))
        value = compute(usable)
        empty = np.asarray(nan | (reason != "")).reshape((-1,) + (1,) * (len(value.shape) - 1))
        results.append(where(empty, constant(np.nan), value) if empty.any() else value)
    return rows.join_exact(results)
