"""Derivatives beyond the first in the logits: gradients in the targets, products with the Hessian.

With the names of `softmax_rows`, a = f w q the coefficients of a row, A their sum, and
d_i = v_i - v_top (exact):
    dloss/dq_j = f w_j (1 - eps) (gap_j + log1p(S))
    (H v)_j    = A p_j (v_j - sum_i p_i v_i)
               = A e_j (d_j sum over i != j of e_i  -  sum over i != j of e_i d_i) / (1 + S)**2
and with those of `binary_rows`, for which H is a number:
    H v        = (c1 + c0) v E / (1 + E)**2
A sum in the second cancels only where v rises and falls; a constant v gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from . import truth as rows
from .binary_rows import NO_FACTORS, Factors, binary_coefficients, exact_binary_coefficients
from .certify import Index, repaired
from .decimals import Triple, settle
from .exact import (
    Exact,
    add,
    broadcast,
    divided,
    magnitude,
    multiplied,
    negate,
    scale,
    shift,
    subtract,
    total,
    where,
)
from .functions import exp
from .slow_rows import BinaryRow, SoftmaxRow
from .softmax_rows import softmax_parts, usable_logits
from .truth import Factor, Truth, constant, exclusive_sums, largest
from .vocabulary import Floats, Options, Semantics

_SLACK = 6


def cross_entropy_by_target(
    logits: Floats, semantics: Semantics, options: Options, factor: Optional[Factor] = None
) -> Truth:
    """f w_j (1 - eps) (-log p_j): the gradient of each row in its distribution.

    Args:
        logits: (N, K).
        semantics: smoothing is "eps/K", or there is none.
        options: weight and label_smoothing are read here. With weight 0 an entry is 0, also where
            -log p_j is infinite.
        factor: of each row.

    Returns:
        Zero as loss, and the gradient. It does not depend on the target: the loss is linear in it.

    Raises:
        ValueError: smoothing by another formula.
    """
    rows.demand_linear(semantics, options)

    def compute(part: slice) -> Truth:
        usable, nan, reason = usable_logits(logits[part], semantics)
        pass_ = _ByTarget(usable, options, rows.factor_part(factor, part))
        return rows.only_gradient(pass_.values(), nan, reason)

    return rows.in_passes(logits.shape[0], logits.shape[1], compute)


@dataclass(frozen=True, eq=False)
class _ByTarget:
    """One pass of `cross_entropy_by_target`."""

    logits: Floats
    options: Options
    factor: Optional[Factor]

    def values(self) -> Exact:
        count, classes = self.logits.shape
        own = rows.target_weights(self.options, classes, self.factor)
        single = self.factor is None and not self.options.label_smoothing
        parts = softmax_parts(self.logits)
        linear = rows.nothing_times(own, parts.gap, multiplied(own, parts.gap))
        curved = multiplied(own, parts.log_whole.reshape(-1, 1))
        whole = (parts.gap.lo == 0.0) & (own.lo == 0.0) & single
        inexact = where(whole, constant(0.0), shift(magnitude(linear), -_SLACK))
        size = add(magnitude(curved), inexact)
        return repaired(add(linear, curved), broadcast(size, (count, classes)), self._settle)

    def _settle(self, index: Index) -> Triple:
        i, j = index
        logits = self.logits[i].tolist()
        own = rows.target_weight(self.options, rows.factor_of_row(self.factor, i), j)
        row = SoftmaxRow(logits, [Fraction(0)] * len(logits))
        return settle(
            lambda digits: row.surprise(j, digits, own),
            lambda: f"-log softmax of logits {[z.hex() for z in logits]}",
        )


def cross_entropy_hessian_product(
    logits: Floats,
    target: NDArray[Any],
    vector: Floats,
    semantics: Semantics,
    options: Options,
    factor: Optional[Factor] = None,
) -> Truth:
    """A p_j (v_j - p . v) for each row: the Hessian of its loss in the logits times a vector.

    Args:
        logits: (N, K).
        target: (N,) valid class indices or (N, K) distributions: only the sum A of the
            coefficients matters.
        vector: (N, K) finite numbers.
        semantics: smoothing, ignore_index and plus_inf are read here.
        options: weight, ignore_index and label_smoothing are read here.
        factor: of each row.

    Returns:
        Zero as loss, and the products as gradient.
    """
    ignored = rows.ignored_rows(target, rows.ignore_index(semantics, options))
    if target.ndim == 1:
        target = np.where(ignored, 0, target).astype(np.int64)

    def compute(part: slice) -> Truth:
        usable, nan, reason = usable_logits(logits[part], semantics)
        chosen = rows.factor_part(factor, part)
        pass_ = _Product(usable, target[part], vector[part], semantics, options, chosen)
        return rows.only_gradient(pass_.values(), nan, reason, ignored[part])

    return rows.in_passes(logits.shape[0], logits.shape[1], compute)


@dataclass(frozen=True, eq=False)
class _Product:
    """One pass of `cross_entropy_hessian_product`."""

    logits: Floats
    target: NDArray[Any]
    vector: Floats
    semantics: Semantics
    options: Options
    factor: Optional[Factor]

    def values(self) -> Exact:
        parts, classes = softmax_parts(self.logits), self.logits.shape[1]
        weights = rows.coefficients(self.target, classes, self.semantics, self.options, self.factor)
        mass, bound = total(weights, axis=1), total(magnitude(weights), axis=1)
        at_top = np.take_along_axis(self.vector, parts.top[:, None], axis=1)
        step = subtract(Exact.from_float(self.vector), Exact.from_float(at_top))
        terms = multiplied(parts.growth, step)
        sizes = magnitude(terms)
        own = multiplied(parts.growth_of_others(), step)
        rest = exclusive_sums(terms, largest(terms))
        size = add(magnitude(own), shift(exclusive_sums(sizes, largest(sizes)), 1))
        whole = parts.whole.reshape(-1, 1)
        share = divided(divided(parts.growth, whole), whole)
        value = multiplied(multiplied(share, mass.reshape(-1, 1)), subtract(own, rest))
        size = multiplied(multiplied(share, bound.reshape(-1, 1)), size)
        return repaired(value, size, self._settle)

    def _settle(self, index: Index) -> Triple:
        i, j = index
        logits = self.logits[i].tolist()
        weights = rows.exact_coefficients(
            np.asarray(self.target[i]),
            len(logits),
            self.semantics,
            self.options,
            rows.factor_of_row(self.factor, i),
        )
        row = SoftmaxRow(logits, weights)
        vector = [Fraction(v) for v in self.vector[i].tolist()]
        return settle(
            lambda digits: row.hessian_product(j, vector, digits),
            lambda: f"Hessian product of logits {[z.hex() for z in logits]}, vector {vector}",
        )


def binary_hessian_product(
    logits: Floats,
    target: Floats,
    vector: Floats,
    semantics: Semantics,
    options: Options,
    factors: Factors = NO_FACTORS,
) -> Truth:
    """(c1 + c0) sigmoid(z) (1 - sigmoid(z)) v for each row of binary cross-entropy with logits.

    Args:
        logits: (N, 1); 0 at an infinite logit.
        target: (N, 1) finite numbers.
        vector: (N, 1) finite numbers.
        semantics: smoothing "toward 1/2".
        options: pos_weight, label_smoothing, and weight with one entry.
        factors: more of them, row by row.

    Returns:
        Zero as loss, and the products as gradient.
    """

    def compute(part: slice) -> Truth:
        z, y, v = logits[part, 0], target[part, 0], vector[part, 0]
        nan, mine = np.isnan(z), factors.take(part)
        z = np.where(nan, 0.0, z)
        positive, negative, _ = binary_coefficients(y, semantics, options, mine)
        both = scale(add(positive, negative), v)
        growth = exp(negate(Exact.from_float(np.abs(z))))
        whole = add(constant(1.0), growth)
        value = multiplied(both, divided(divided(growth, whole), whole))
        # The sum of the two coefficients may cancel; it errs by 2**-98 of their sizes.
        size = shift(scale(add(magnitude(positive), magnitude(negative)), np.abs(v)), -_SLACK)
        size = add(multiplied(size, growth), magnitude(value))

        def settle_(index: Index) -> Triple:
            i = index[0]
            up, down = exact_binary_coefficients(float(y[i]), semantics, options, mine, i)
            row, by = BinaryRow(float(z[i]), up, down), Fraction(float(v[i]))
            return settle(
                lambda digits: row.curvature(by, digits),
                lambda: f"Hessian product of logit {float(z[i]).hex()}, vector {by}",
            )

        value = repaired(value, size, settle_)
        return rows.only_gradient(value.reshape(-1, 1), nan, np.full(z.shape, ""))

    return rows.in_passes(logits.shape[0], 1, compute)
