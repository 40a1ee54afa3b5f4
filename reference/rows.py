"""The truths that a judge needs: of every row of a case, and of its reduction."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from . import truth as shared
from .binary_rows import (
    Factors,
    binary_cross_entropy_with_logits_truth,
    log_sigmoid,
    sigmoid,
    softplus,
)
from .derivatives import (
    binary_hessian_product,
    cross_entropy_by_target,
    cross_entropy_hessian_product,
)
from .exact import Exact, divided, negate, scale, weighted_sum
from .probability_rows import (
    binary_cross_entropy_truth,
    clip_bounds,
    cross_entropy_probabilities_by_target,
    cross_entropy_probabilities_truth,
)
from .related_rows import RELATED, related_truth
from .softmax_rows import cross_entropy_truth, log_softmax, logsumexp, softmax
from .truth import Factor, Truth, nothing_times
from .vocabulary import FUNCTIONS, Case, Floats, Options, Semantics

__all__ = [
    "Truth",
    "binary_cross_entropy_truth",
    "binary_cross_entropy_with_logits_truth",
    "clip_bounds",
    "cross_entropy_probabilities_by_target",
    "cross_entropy_probabilities_truth",
    "cross_entropy_truth",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "read",
    "reduce_truth",
    "sigmoid",
    "softmax",
    "softplus",
    "target_truth",
    "truth",
]

MEANS = ("weights", "valid", "rows")
"""What `Semantics.mean` may say here."""


_OF_CALLS = ("mean", "all_ignored", "label_policy", "output")
_OF_PROBABILITIES = (
    *("guard", "guard_eps", "guard_floor", "guard_gradient", "renormalise"),
    *("gamma", "alpha"),
)


def read(case: Case, semantics: Semantics) -> Semantics:
    """The conventions that the truths of a case depend on, and the rest as it is by default.

    So one truth serves all who would compute the same: what a mean divides by, labels that nobody
    gives, smoothing that is not asked for, and the like are not read.
    """
    unread: list[str] = [*_OF_CALLS]
    if case.operation in ("cross_entropy", "binary_cross_entropy_with_logits"):
        unread += _OF_PROBABILITIES
    if not case.options.label_smoothing:
        unread.append("smoothing")
    if case.target.ndim == 1:
        unread.append("soft_gradient")
    if case.options.ignore_index is not None or not np.any(case.target == semantics.ignore_index):
        unread.append("ignore_index")
    if not np.isposinf(case.inputs).any():
        unread.append("plus_inf")
    return _without(semantics, tuple(unread))


@lru_cache(maxsize=1024)
def _without(semantics: Semantics, names: tuple[str, ...]) -> Semantics:
    default = Semantics()
    return replace(semantics, **{name: getattr(default, name) for name in names})


def truth(case: Case, semantics: Semantics) -> Truth:
    """The exact loss and gradient of every row of a case under a Semantics, unreduced.

    Sample weights are factors of both, the cotangent of the gradient alone. Classes outside
    `where` are absent: their logit is -inf, and their part of a distribution is dropped. With a
    direction the gradient is the Hessian of the loss of each row times that.

    Raises:
        ValueError: the operation is unknown, or the case is invalid (a label out of range, ...).
    """
    if case.operation in FUNCTIONS:
        return _function(case, semantics)
    if case.operation in RELATED:
        if case.direction is not None:
            raise ValueError(f"{case.operation} has no second derivative here")
        return _pulled(_weighed(related_truth(case, semantics), case), case)
    case = present(case)
    weights = [] if case.sample_weight is None else [case.sample_weight]
    found = _truth(case, semantics, weights)
    if case.cotangent is None and case.direction is None:
        return found
    pulled = weights if case.cotangent is None else [*weights, case.cotangent]
    along = _truth if case.direction is None else _hessian_product
    return replace(found, gradient=along(case, semantics, pulled).gradient)


def _function(case: Case, semantics: Semantics) -> Truth:
    """A function of one logit: its value as the loss, and its derivative.

    softplus(z) is the binary cross-entropy of z for y = 0, log_sigmoid(z) minus that for y = 1;
    sigmoid(z) and its derivative are the first and the second derivative of softplus.
    """
    target = np.full(case.inputs.shape, float(case.operation == "log_sigmoid"))
    given = case.inputs, target, semantics, Options()
    found = binary_cross_entropy_with_logits_truth(*given)
    if case.operation == "log_sigmoid":
        return replace(found, loss=negate(found.loss), gradient=negate(found.gradient))
    if case.operation == "softplus":
        return found
    ones = np.ones(case.inputs.shape)
    curvature = binary_hessian_product(case.inputs, target, ones, semantics, Options(), Factors())
    return replace(found, loss=found.gradient.reshape(-1), gradient=curvature.gradient)


def _weighed(found: Truth, case: Case) -> Truth:
    """Loss and gradient of each row times its sample weight; what weighs nothing is 0."""
    if case.sample_weight is None:
        return found
    # What has no value at all has none with a weight of 0 either.
    weight = np.where(np.isnan(found.loss.hi), np.nan, case.sample_weight)
    factor = Exact.from_float(weight)
    each, doubts = factor.reshape(-1, 1), Exact.from_float(np.abs(weight))
    return replace(
        found,
        loss=nothing_times(factor, found.loss, scale(found.loss, weight)),
        gradient=nothing_times(each, found.gradient, scale(found.gradient, weight[:, None])),
        doubt=nothing_times(doubts, found.doubt, scale(found.doubt, np.abs(weight))),
    )


def _pulled(found: Truth, case: Case) -> Truth:
    """The gradient of each row times its cotangent."""
    if case.cotangent is None:
        return found
    return replace(found, gradient=scale(found.gradient, case.cotangent[:, None]))


def _truth(case: Case, semantics: Semantics, parts: list[Floats]) -> Truth:
    """The truth with factors for every row."""
    factor = Factor.of(case.rows, parts) if parts else None
    if case.operation == "cross_entropy":
        return cross_entropy_truth(case.inputs, case.target, semantics, case.options, factor)
    if case.operation == "cross_entropy_probabilities":
        return cross_entropy_probabilities_truth(
            case.inputs, case.target, semantics, case.options, case.dtype, factor
        )
    target = np.asarray(case.target, dtype=np.float64)
    options, factors = case.options, Factors(factor)
    if case.operation == "binary_cross_entropy_with_logits":
        return binary_cross_entropy_with_logits_truth(
            case.inputs, target, semantics, options, factors
        )
    if case.operation == "binary_cross_entropy":
        return binary_cross_entropy_truth(
            case.inputs, target, semantics, options, case.dtype, factors
        )
    raise ValueError(f"operation {case.operation!r} is not known")


def _hessian_product(case: Case, semantics: Semantics, parts: list[Floats]) -> Truth:
    """The Hessian of the loss of each row, times its direction."""
    factor, vector = Factor.of(case.rows, parts) if parts else None, np.asarray(case.direction)
    if case.operation == "cross_entropy":
        target, options = case.target, case.options
        if target.ndim > 1 and semantics.soft_gradient == "p - q":
            # The derivative of p - q: that of any target with a mass of 1.
            target = np.zeros(case.rows, dtype=np.int64)
            semantics = replace(semantics, ignore_index=None)
            options = replace(options, weight=None, ignore_index=None)
        return cross_entropy_hessian_product(
            case.inputs, target, vector, semantics, options, factor
        )
    if case.operation == "binary_cross_entropy_with_logits":
        target = np.asarray(case.target, dtype=np.float64)
        factors = Factors(factor)
        return binary_hessian_product(case.inputs, target, vector, semantics, case.options, factors)
    raise ValueError(f"operation {case.operation!r} has no second derivative here")


def present(case: Case) -> Case:
    """The same case with the classes that `where` leaves out at -inf and without weight."""
    if case.options.where is None:
        return case
    here = np.asarray(case.options.where, dtype=np.bool_)
    target = case.target if case.target.ndim == 1 else np.where(here, case.target, 0.0)
    return replace(case, inputs=np.where(here, case.inputs, -np.inf), target=target)


def target_truth(case: Case, semantics: Semantics) -> Truth:
    """The gradient of each row's loss with respect to its target, weighted as in `truth`.

    From logits d loss / d q_j = -log p_j, d loss / d y = log(1 - p) - log p = -z, and from
    probabilities the same under the guard. Its loss is 0.

    Raises:
        ValueError: indices have no gradient; or as `truth`.
    """
    case = present(case)
    parts = [x for x in (case.sample_weight, case.cotangent) if x is not None]
    factor = Factor.of(case.rows, parts) if parts else None
    if case.operation == "cross_entropy":
        return cross_entropy_by_target(case.inputs, semantics, case.options, factor)
    if case.operation == "cross_entropy_probabilities":
        return cross_entropy_probabilities_by_target(
            case.inputs, semantics, case.options, case.dtype, factor
        )
    factors = Factors(factor, by_target=True)
    target = np.asarray(case.target, dtype=np.float64)
    if case.operation == "binary_cross_entropy_with_logits":
        found = binary_cross_entropy_with_logits_truth(
            case.inputs, target, semantics, case.options, factors
        )
    elif case.operation == "binary_cross_entropy":
        found = binary_cross_entropy_truth(
            case.inputs, target, semantics, case.options, case.dtype, factors
        )
    else:
        raise ValueError(f"operation {case.operation!r} has no gradient in its targets here")
    # With `by_target` the rows hold the derivative in the place of the loss.
    return replace(found, gradient=found.loss.reshape(-1, 1))


def reduce_truth(rows: Truth, case: Case, semantics: Semantics) -> tuple[Exact, Exact]:
    """The reduced loss, and the gradient (N, K) of the reduced loss.

    Args:
        rows: what `truth` gave for the case.
        case: its options.reduction is "none" (rows as they are), "sum" or "mean".
        semantics: `mean` names the denominator; for distributions "weights" means the row count.
            `all_ignored` is the mean over nothing; the gradient is then zero.

    Returns:
        Loss of shape () or (N,), gradient of shape (N, K). The sum does not depend on the order
        of the rows. Unreduced rows are certified. A sum or mean is a pair with an error below
        2**-92 sum of the `doubt` of the rows + 2**-98 sum |loss|, and an entry of the gradient of a
        mean errs by 2**-99 of itself beyond the error of the row's: enough to judge by bounds, and
        rounded rightly unless a boundary lies as close. `calls` certifies both.
    """
    reduction = case.options.reduction
    if reduction == "none":
        return rows.loss, rows.gradient
    summed = weighted_sum(rows.loss, axis=0)
    if reduction == "sum":
        return summed, rows.gradient
    if reduction != "mean":
        raise ValueError(f"reduction {reduction!r} is not one of 'none', 'sum', 'mean'")
    denominator = mean_denominator(case, semantics)
    if denominator.hi == 0.0:
        empty = np.nan if semantics.all_ignored == "nan" else 0.0
        return Exact.from_float(np.asarray(empty)), rows.gradient
    return divided(summed, denominator), divided(rows.gradient, denominator)


def mean_denominator(case: Case, semantics: Semantics) -> Exact:
    """What the mean of a case divides by, as an exact number of shape ()."""
    if semantics.mean not in MEANS:
        known = ", ".join(repr(mean) for mean in MEANS)
        raise ValueError(f"mean {semantics.mean!r} is not one of {known}")
    ignored = shared.ignored_rows(case.target, shared.ignore_index(semantics, case.options))
    if semantics.mean == "rows":
        return shared.constant(float(case.rows))
    weight = shared.class_weights(case.options, case.inputs.shape[1])
    if semantics.mean == "valid" or weight is None or case.target.ndim != 1:
        return shared.constant(float(np.count_nonzero(~ignored)))
    labels = np.asarray(case.target[~ignored], dtype=np.int64)
    return weighted_sum(Exact.from_float(weight[labels]), axis=0)
