"""Gradients beyond that of the plain sum: under cotangents, in the target, and second ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.bounds import half_ulp
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import distance, judge, relate, ulp_of
from ..law import Law, Verdict, always, by_row, from_relation, only

COTANGENTS = (1.0, -2.0, 0.5, 3.0, 0.0, -0.25, 4.0)
"""Both signs, zero as a masked row has it, and one that is no power of two; exact in every
format. Seven of them: no batch of a power of two repeats in step."""


def cotangents(rows: int) -> Floats:
    return np.resize(np.array(COTANGENTS), rows)


def check_cotangent(bench: Bench, case: Case) -> list[Verdict]:
    """The gradient that is pulled back with a number for each row, against that times the number.

    Both come from the same intermediate results, whatever those are worth: they may differ by the
    roundings of the products, of each term or of the whole, alone. An entry has at most two terms,
    each with two products, and their sum: once with the number inside, once outside.
    """
    if case.cotangent is None:
        case = replace(case, cotangent=cotangents(case.rows))
    factor = np.asarray(case.cotangent)[:, None]
    plain, pulled = replace(case, cotangent=None), bench.outputs(case)[1]
    gradient = bench.outputs(plain)[1]
    with np.errstate(all="ignore"):
        right = gradient * factor
        declared = bench.declared(case)
        terms = np.where(np.isinf(declared.gradient), np.inf, declared.sizes.terms)
        bound = np.expm1(6 * np.log1p(bench.fmt.unit_roundoff)) * (terms + np.abs(right))
        # Each class may have a product that underflows, and what is subnormal may be flushed: with
        # the number inside, or before the number multiplies what is left.
        lost = (case.inputs.shape[1] + 3) * bench.fmt.least_normal * (1 + np.abs(factor))
        bound = bound + 2 * half_ulp(np.abs(right), bench.fmt) + lost
    grade = relate(pulled, right, bound, bound)
    unit = ulp_of(right, bench.fmt)
    note = "the gradient of sum_i c_i loss_i, and c_i times that of loss_i"
    verdict = from_relation(
        "gradient", case, grade, distance(pulled, right), unit, pulled, right, bound, bound, note
    )
    truth = bench.truth(plain)
    judged = np.isfinite(gradient).all(axis=1) & ~truth.undefined
    return [only(verdict, judged & np.isfinite(truth.gradient.hi).all(axis=1))]


def check_target_gradient(bench: Bench, case: Case) -> list[Verdict]:
    """The gradient in the target against the reference."""
    case = replace(case, by_target=True)
    gradient = bench.target_gradient(case)
    truth = bench.target_truth(case)
    demand, declared = bench.target_bounds(case)
    undefined = np.broadcast_to(truth.undefined[:, None], gradient.shape)
    found = judge(gradient, truth.gradient, demand, declared, undefined, bench.fmt)
    note = "the gradient in the target, and the right one"
    return [by_row("gradient", case, found, gradient, note)]


def directions(rows: int, classes: int) -> Floats:
    """A direction for every row, none constant over the classes: that would lie in the kernel."""
    return np.resize(np.array(COTANGENTS), (rows, classes))


def check_hessian_product(bench: Bench, case: Case) -> list[Verdict]:
    """The Hessian of each row times a vector against the reference."""
    if case.direction is None:
        case = replace(case, direction=directions(*case.inputs.shape))
    product = bench.outputs(case)[1]
    truth = bench.truth(case)
    undefined = np.broadcast_to(truth.undefined[:, None], product.shape)
    demand, declared = bench.demand(case).gradient, bench.declared(case).gradient
    found = judge(product, truth.gradient, demand, declared, undefined, bench.fmt)
    note = "the Hessian times the direction, and the right product"
    return [by_row("gradient", case, found, product, note)]


TARGET_TRUTHS = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)


def _has_soft_targets(subject: Subject) -> bool:
    return subject.target in ("distribution", "binary")


COTANGENT = Law(
    name="cotangents",
    statement="d (sum_i c_i loss_i) / d z_i = c_i (d loss_i / d z_i), the c_i not all equal",
    source="definition of a vector-Jacobian product; a fused kernel that computes its gradient in "
    "the forward pass must still scale it",
    # A function of NumPy arrays returns its gradient: nothing is pulled back through it.
    fits=lambda s: not s.compiled and s.tensors != "numpy",
    check=check_cotangent,
    outputs=("gradient",),
    regions=("ordinary", "saturated-right", "saturated-wrong", "confident"),
)

TARGET_GRADIENT = Law(
    name="target-gradient",
    statement="d loss / d q_j = -log softmax(z)_j  (CE), d loss / d y = -z  (BCE)",
    source="the loss is linear in its target; knowledge distillation differentiates in both",
    # A user who declares a function says nothing of its gradient in the target.
    fits=lambda s: (
        _has_soft_targets(s) and not s.compiled and not s.tensors and s.operation in TARGET_TRUTHS
    ),
    check=check_target_gradient,
    outputs=("gradient",),
    regions=("ordinary", "saturated-right", "saturated-wrong", "large-offset", "confident"),
)

HESSIAN = Law(
    name="hessian-products",
    statement="(H v)_j = p_j (v_j - p . v)  (CE), sigmoid(z) (1 - sigmoid(z)) v  (BCE)",
    source="Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 6, 1994; the "
    "second derivatives of the loss",
    fits=always,
    check=check_hessian_product,
    outputs=("gradient",),
    regions=("ordinary", "saturated-right", "saturated-wrong", "large-offset"),
    second=True,
)
