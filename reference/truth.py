"""What the reference says of the rows of a case: `Truth`, and what every operation shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from .decimals import Digits, Enclosure, triple
from .exact import (
    Booleans,
    Exact,
    add,
    broadcast,
    divided,
    multiplied,
    scale,
    subtract,
    total,
    where,
)
from .slow_rows import smoothed_weights
from .vocabulary import Floats, Options, Semantics

# Entries per pass: the arrays of a pass then stay near the core, and each call of NumPy is long
# enough for a second thread to work beside it (benchmarks/reference.py has the figures).
_PASS = 32768
_ONE = Fraction(1)
# The product of this many float64 numbers is exact as a pair.
_EXACT_PRODUCT = 2
_BITS = 53

ALL_MINUS_INF = "every logit is -inf"
ONE_PLUS_INF = "one logit is +inf, and the op declares that case unspecified"
SEVERAL_PLUS_INF = "two or more logits are +inf"
NOT_A_PROBABILITY = "a probability lies outside [0, 1]"
NO_MASS = "the probabilities sum to zero"
INFINITE_TARGET = "a target is infinite"

Formula = Callable[[Digits], Enclosure]


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor of every row, of its loss and of its gradient: f_i in a_ij = f_i w_j q_ij.

    Sample weights, cotangents and the divisor of a mean enter here, before the rounding of the
    value and with its certificate.

    Attributes:
        value: (N,) the factors, with a relative error below 2**-99.
        exact: whether `value` holds them exactly.
        fraction: the factor of a row as a rational number.
    """

    value: Exact
    exact: bool
    fraction: Callable[[int], Fraction]

    @classmethod
    def of(cls, rows: int, parts: Sequence[Floats], by: Fraction = _ONE) -> Factor:
        """The products of (N,) finite numbers and a rational one."""
        value = broadcast(nearest(by), (rows,))
        for part in parts:
            value = scale(value, part)

        def fraction(row: int) -> Fraction:
            found = by
            for part in parts:
                found *= Fraction(float(part[row]))
            return found

        exact = _is_float(by) and len(parts) + (by.numerator != 1) <= _EXACT_PRODUCT
        return cls(value, exact, fraction)

    def take(self, part: slice) -> Factor:
        return Factor(
            self.value.take(part), self.exact, lambda row: self.fraction(row + (part.start or 0))
        )


def _is_float(value: Fraction) -> bool:
    """Whether float64, with any exponent, holds a rational number."""
    below = value.denominator
    return below & (below - 1) == 0 and abs(value.numerator).bit_length() <= _BITS


def factor_part(factor: Optional[Factor], part: slice) -> Optional[Factor]:
    return None if factor is None else factor.take(part)


def factor_of_row(factor: Optional[Factor], row: int) -> Fraction:
    return _ONE if factor is None else factor.fraction(row)


def nearest(value: Fraction) -> Exact:
    """A rational number as a pair of shape (), with a relative error below 2**-105."""
    hi, lo, exponent = triple(value)
    return Exact(np.asarray(hi), np.asarray(lo), np.asarray(exponent, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact losses and gradients of the rows of a case, before any reduction.

    Attributes:
        loss: (N,).
        gradient: (N, K), of each row's loss with respect to its inputs.
        undefined: (N,) True where the mathematics gives no value; loss and gradient are then NaN.
            A row with NaN among its inputs is NaN but not undefined.
        reason: (N,) why it is undefined, else "".
        doubt: (N,) numbers of which 2**-92, plus 2**-105 of the loss, bounds the error of a loss.
        formula: the loss of a row by decimal intervals: what decides a sum that is in doubt.
    """

    loss: Exact
    gradient: Exact
    undefined: Booleans
    reason: NDArray[np.str_]
    doubt: Exact
    formula: Callable[[int], Formula]

    def take(self, rows: NDArray[Any]) -> Truth:
        """The same for some rows (indices or a mask)."""
        chosen = np.arange(self.undefined.size)[rows]
        return Truth(
            self.loss.take(rows),
            self.gradient.take(rows),
            self.undefined[rows],
            self.reason[rows],
            self.doubt.take(rows),
            lambda row: self.formula(int(chosen[row])),
        )


def passes(rows: int, classes: int) -> Iterator[slice]:
    """Slices of rows that fit the cache; one empty slice for an empty batch."""
    step = max(1, _PASS // max(classes, 1))
    for start in range(0, max(rows, 1), step):
        yield slice(start, min(start + step, rows))


def in_passes(rows: int, classes: int, compute: Callable[[slice], Truth]) -> Truth:
    """The truths of all passes, joined."""
    return join([compute(part) for part in passes(rows, classes)])


def join(parts: Sequence[Truth]) -> Truth:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.undefined.size for part in parts)]).tolist()

    def formula(row: int) -> Formula:
        at = bisect_right(starts, row) - 1
        return parts[at].formula(row - starts[at])

    return Truth(
        join_exact([part.loss for part in parts]),
        join_exact([part.gradient for part in parts]),
        np.concatenate([part.undefined for part in parts]),
        np.concatenate([part.reason for part in parts]),
        join_exact([part.doubt for part in parts]),
        formula,
    )


def join_exact(parts: Sequence[Exact]) -> Exact:
    return Exact(
        np.concatenate([part.hi for part in parts]),
        np.concatenate([part.lo for part in parts]),
        np.concatenate([part.exponent for part in parts]),
    )


def finish(
    loss: Exact,
    gradient: Exact,
    nan: Booleans,
    ignored: Optional[Booleans],
    reason: NDArray[np.str_],
    doubt: Exact,
    formula: Callable[[int], Formula],
) -> Truth:
    """Zero in ignored rows, NaN in the others that are NaN or undefined."""
    undefined = reason != ""
    doubt = broadcast(doubt, loss.shape)
    if ignored is not None and ignored.any():
        nan, undefined = nan & ~ignored, undefined & ~ignored
        reason = np.where(ignored, "", reason)
        loss = where(ignored, Exact.zeros(loss.shape), loss)
        doubt = where(ignored, Exact.zeros(loss.shape), doubt)
        gradient = where(ignored[:, None], Exact.zeros(gradient.shape), gradient)
        formula = _without(formula, ignored)
    empty = nan | undefined
    if empty.any():
        missing = Exact.from_float(np.asarray(np.nan))
        loss = where(empty, missing, loss)
        gradient = where(empty[:, None], missing, gradient)
    return Truth(loss, gradient, undefined, reason, doubt, formula)


def only_gradient(
    gradient: Exact,
    nan: Booleans,
    reason: NDArray[np.str_],
    ignored: Optional[Booleans] = None,
) -> Truth:
    """Rows that have a gradient, but no loss."""
    zero = Exact.zeros(nan.shape)
    return finish(zero, gradient, nan, ignored, reason, zero, uncertified)


def uncertified(_: int) -> Formula:
    """The formula of rows of which no certified sum is made."""
    raise AssertionError("no sum of these rows is certified")


def _without(formula: Callable[[int], Formula], ignored: Booleans) -> Callable[[int], Formula]:
    def zero(_: Digits) -> Enclosure:
        return Fraction(0)

    return lambda row: zero if ignored[row] else formula(row)


def reasons(*pairs: object) -> NDArray[np.str_]:
    """Alternating masks and texts: the first that holds wins, "" where none does."""
    masks, texts = pairs[0::2], pairs[1::2]
    return np.select([np.asarray(mask) for mask in masks], [np.asarray(text) for text in texts], "")


def constant(value: float) -> Exact:
    """One number, to be broadcast."""
    return Exact.from_float(np.asarray(value))


def complement(values: Floats) -> Exact:
    """1 - values, exactly."""
    return subtract(constant(1.0), Exact.from_float(values))


def largest(a: Exact) -> NDArray[np.intp]:
    """The index of one largest |element| along the last axis."""
    exponent = np.where(a.hi == 0.0, np.iinfo(np.int64).min, a.exponent)
    first = exponent == exponent.max(axis=-1, keepdims=True)
    return np.where(first, np.abs(a.hi), -1.0).argmax(axis=-1)


def exclusive_sums(a: Exact, top: NDArray[np.intp]) -> Exact:
    """sum over i != j of a_i, (N, K) to (N, K), without cancellation for a >= 0.

    Args:
        a: the terms.
        top: (N,) the index of a largest term. Its sum is made without it; any other term is at
            most half of the whole, so that subtracting it loses at most one bit.
    """
    at_top = np.arange(a.shape[-1]) == top[:, None]
    rest = total(where(at_top, constant(0.0), a), axis=1)
    whole = add(rest, a.take((np.arange(a.shape[0]), top)))
    return where(at_top, rest.reshape(-1, 1), subtract(whole.reshape(-1, 1), a))


def exact_coefficients(
    target: NDArray[Any],
    classes: int,
    semantics: Semantics,
    options: Options,
    factor: Fraction = _ONE,
) -> list[Fraction]:
    """`coefficients` of one row (an index or K numbers) as rational numbers."""
    if target.ndim == 0:
        share = [Fraction(int(j == int(target))) for j in range(classes)]
    else:
        share = [Fraction(float(q)) for q in target]
    smoothing = options.label_smoothing, semantics.smoothing
    weights = smoothed_weights(share, *smoothing, options.weight)
    present = options.where or (True,) * classes
    return [factor * a * int(here) for a, here in zip(weights, present)]


def nothing_times(coefficient: Exact, factor: Exact, product: Exact) -> Exact:
    """The product, but 0 where the coefficient is 0: such a term is not there, even if infinite."""
    absent = (coefficient.hi == 0.0) & ~np.isfinite(factor.hi)
    return where(absent, constant(0.0), product) if absent.any() else product


def class_weights(options: Options, classes: int) -> Optional[Floats]:
    """(K,) the class weights, or None.

    Raises:
        ValueError: their number is not K, or one is negative, infinite or NaN.
    """
    if options.weight is None:
        return None
    weight = np.asarray(options.weight, dtype=np.float64)
    if weight.shape != (classes,):
        raise ValueError(f"weight must have {classes} entries, one per class, not {weight.shape}")
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0.0)))
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(f"weight[{at}] = {float(weight[at])!r} must be finite and not negative")
    return weight


def ignore_index(semantics: Semantics, options: Options) -> Optional[int]:
    return semantics.ignore_index if options.ignore_index is None else options.ignore_index


def ignored_rows(target: NDArray[Any], ignored: Optional[int]) -> Booleans:
    """(N,) which rows carry the ignored label; none where targets are distributions."""
    if ignored is None or target.ndim != 1:
        return np.zeros(target.shape[0], dtype=np.bool_)
    return np.asarray(target == ignored)


def demand_labels(target: NDArray[Any], classes: int, ignored: Booleans) -> None:
    """Raises ValueError for the first label outside [0, K) that is not ignored."""
    wrong = np.flatnonzero(((target < 0) | (target >= classes)) & ~ignored)
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(f"target[{at}] = {int(target[at])} is not a class index in [0, {classes})")


def demand_shape(name: str, array: NDArray[Any], dimensions: int) -> None:
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not shape {array.shape}")


def demand_same_shape(target: NDArray[Any], inputs: Floats) -> None:
    if target.shape != inputs.shape:
        raise ValueError(f"target has shape {target.shape}, but the inputs have {inputs.shape}")


def coefficients(
    target: NDArray[Any],
    classes: int,
    semantics: Semantics,
    options: Options,
    factor: Optional[Factor] = None,
) -> Exact:
    """(N, K) the a_j in loss = -sum_j a_j log p_j, from indices or distributions.

    q is the one-hot row of an index or the distribution; e the smoothing; w the class weights; a
    factor multiplies the whole row.
    "eps/K": a_j = w_j ((1 - e) q_j + e/K).
    "eps/(K-1)": a_j = w_j ((1 - e) q_j + e/(K-1) sum_{i != j} q_i).
    Source: torch.nn.CrossEntropyLoss for the first (there the smoothing term does not depend on
    sum q); the second is the formula of Megatron-LM and Sockeye.
    Ignored rows must hold a valid label here.
    """
    share = _distribution(target, classes)
    mixed = Exact.from_float(share)
    if options.label_smoothing:
        mixed = _smoothed(share, options.label_smoothing, semantics.smoothing)
    weight = class_weights(options, classes)
    if weight is not None:
        mixed = scale(mixed, weight)
    if options.where is not None:
        # Smoothing spreads over all classes; the part of those that are left out is dropped.
        mixed = scale(mixed, np.asarray(options.where, dtype=np.float64))
    return mixed if factor is None else multiplied(mixed, factor.value.reshape(-1, 1))


def demand_linear(semantics: Semantics, options: Options) -> None:
    """Raises ValueError for a smoothing that has no gradient in the targets here."""
    if options.label_smoothing and semantics.smoothing != "eps/K":
        raise ValueError(f"smoothing {semantics.smoothing!r} has no gradient in the targets here")


def target_weights(options: Options, classes: int, factor: Optional[Factor]) -> Exact:
    """(N or 1, K) the derivatives da_j/dq_j = f w_j (1 - e), smoothing by "eps/K"."""
    weight = class_weights(options, classes)
    own = Exact.from_float(np.ones((1, classes)) if weight is None else weight[None])
    own = multiplied(own, complement(np.asarray(options.label_smoothing)))
    return own if factor is None else multiplied(own, factor.value.reshape(-1, 1))


def target_weight(options: Options, factor: Fraction, j: int) -> Fraction:
    """One of `target_weights` as a rational number."""
    own = factor * (1 - Fraction(options.label_smoothing))
    return own if options.weight is None else own * Fraction(options.weight[j])


def _distribution(target: NDArray[Any], classes: int) -> Floats:
    if target.ndim == 2:
        return np.asarray(target, dtype=np.float64)
    return (np.arange(classes) == target[:, None]).astype(np.float64)


def _smoothed(share: Floats, eps: float, formula: str) -> Exact:
    classes = share.shape[1]
    kept = scale(complement(np.asarray(eps)), share)
    if formula == "eps/K":
        return add(kept, divided(constant(eps), constant(float(classes))))
    if formula == "eps/(K-1)":
        given = Exact.from_float(share)
        others = exclusive_sums(given, largest(given))
        spread = divided(constant(eps), constant(float(max(classes - 1, 1))))
        return add(kept, multiplied(others, spread))
    raise ValueError(f"smoothing {formula!r} is not defined for classes; 'eps/K' or 'eps/(K-1)' is")
