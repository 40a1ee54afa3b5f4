"""The loss, and the gradient, against the reference."""

from __future__ import annotations

import numpy as np

from ...reference.bounds import coefficients, flushed, half_ulp
from ...reference.exact import Exact, to_float
from ...reference.formats import FORMATS
from ...reference.rows import mean_denominator, reduce_truth
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import judge
from ..law import Law, Verdict, always, by_row


def _reduction(bench: Bench, case: Case) -> tuple[float, Exact, Exact]:
    """Denominator of the reduction, the exact reduced loss and its exact gradient."""
    loss, gradient = reduce_truth(bench.truth(case), case, bench.semantics)
    if case.options.reduction == "sum":
        return 1.0, loss, gradient
    return float(to_float(mean_denominator(case, bench.semantics))), loss, gradient


def reduced_bound(each: Floats, losses: Floats, denominator: float, bench: Bench) -> Floats:
    """Bound of a sum of N rows: their own bounds, 2 N + 2 roundings on a path, the last one."""
    arithmetic = bench.arithmetic
    if arithmetic is None:
        return np.asarray(np.inf)
    work = FORMATS[arithmetic.stored]
    # A path holds at most N - 1 sums of losses, N - 1 sums of weights, a product and a quotient.
    growth = np.expm1((2 * each.size + 2) * np.log1p(work.unit_roundoff))
    total = float(np.sum(np.abs(losses)))
    error = (float(np.sum(each)) + growth * (total + float(np.sum(each)))) / denominator
    return np.asarray(error + half_ulp(np.asarray(total / denominator + error), bench.fmt))


def check_loss(bench: Bench, case: Case) -> list[Verdict]:
    """Grade the loss of every row, or the one reduced loss."""
    loss, _ = bench.outputs(case)
    truth, demand, declared = bench.truth(case), bench.demand(case), bench.declared(case)
    if case.options.reduction == "none":
        found = judge(loss, truth.loss, demand.loss, declared.loss, truth.undefined, bench.fmt)
        return [by_row("loss", case, found, loss)]
    denominator, exact, _ = _reduction(bench, case)
    losses = to_float(truth.loss)
    found = judge(
        loss,
        exact,
        reduced_bound(demand.loss, losses, denominator, bench),
        reduced_bound(declared.loss, losses, denominator, bench),
        np.asarray(bool(truth.undefined.any())),
        bench.fmt,
    )
    return [by_row("loss", case, found, loss, whole=True)]


def check_gradient(bench: Bench, case: Case) -> list[Verdict]:
    """Grade every entry of the gradient."""
    _, gradient = bench.outputs(case)
    truth, demand, declared = bench.truth(case), bench.demand(case), bench.declared(case)
    exact, undefined = truth.gradient, truth.undefined[:, None]
    bounds = [demand.gradient, declared.gradient]
    if case.options.reduction != "none":
        denominator, _, exact = _reduction(bench, case)
        with np.errstate(invalid="ignore"):
            g = np.abs(to_float(exact))
        u = bench.fmt.unit_roundoff
        # The cotangent 1/denominator: its own sum of N weights, one quotient, one product.
        growth = np.expm1((case.rows + 3) * np.log1p(u))
        # A p - a, each times the cotangent: together at most |A p - a| + 2 a.
        a, _ = coefficients(case, bench.semantics)
        terms = g + 2 * a / denominator
        bounds = [
            bounds[0] / denominator + growth * (g + bounds[0] / denominator),
            bounds[1] / denominator + growth * (terms + bounds[1] / denominator),
        ]
        bounds = [b + half_ulp(g + b, bench.fmt) for b in bounds]
        if bench.arithmetic is not None and bench.arithmetic.flush:
            # The division by the denominator may take an entry below the least normal number.
            bounds[1] = bounds[1] + flushed(g, bounds[1], bench.fmt)
    undefined = np.broadcast_to(undefined, gradient.shape)
    found = judge(gradient, exact, bounds[0], bounds[1], undefined, bench.fmt)
    return [by_row("gradient", case, found, gradient)]


VALUE = Law(
    name="value",
    statement="loss = -sum_j q_j log softmax(z)_j  (CE), -(y log p + (1-y) log(1-p))  (BCE)",
    source="definition; bounds: lossaudit.reference.bounds",
    fits=always,
    check=check_loss,
    outputs=("loss",),
    options="all",
)

GRADIENT = Law(
    name="gradient-identity",
    statement="d loss / d z = softmax(z) - y  (CE), sigmoid(z) - y  (BCE)",
    source="Bishop, Pattern Recognition and Machine Learning, 2006, eq. (4.109) and (4.91)",
    fits=always,
    check=check_gradient,
    outputs=("gradient",),
    options="all",
)
