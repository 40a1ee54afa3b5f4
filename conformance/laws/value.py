"""The loss, and the gradient, against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...reference.bounds import Bounds, reduced
from ...reference.rows import mean_denominator, reduce_truth
from ...reference.vocabulary import Case
from ..bench import Bench
from ..judge import judge
from ..law import Law, Verdict, always, by_row


def case_bounds(bench: Bench, case: Case) -> tuple[Bounds, Bounds]:
    """The demand and the declared bounds of a case, reduced if it is."""
    demand, declared = bench.demand(case), bench.declared(case)
    if case.options.reduction == "none":
        return demand, declared
    if bench.arithmetic is None:
        nothing = replace(demand, loss=np.asarray(np.inf))
        return nothing, nothing
    # Rows are added in the format of the subject, whatever the bounds of a row are.
    arithmetic = bench.arithmetic
    plain = replace(arithmetic, flush=False)
    return (
        reduced(demand, case, bench.semantics, plain),
        reduced(declared, case, bench.semantics, arithmetic),
    )


def check_loss(bench: Bench, case: Case) -> list[Verdict]:
    """Grade the loss of every row, or the one reduced loss."""
    loss, _ = bench.outputs(case)
    truth, whole = bench.truth(case), case.options.reduction != "none"
    exact, _ = reduce_truth(truth, case, bench.semantics)
    demand, declared = case_bounds(bench, case)
    undefined = np.asarray(truth.undefined.any()) if whole else truth.undefined
    found = judge(loss, exact, demand.loss, declared.loss, undefined, bench.fmt)
    return [by_row("loss", case, found, loss, whole=whole)]


def check_gradient(bench: Bench, case: Case) -> list[Verdict]:
    """Grade every entry of the gradient."""
    _, gradient = bench.outputs(case)
    truth = bench.truth(case)
    _, exact = reduce_truth(truth, case, bench.semantics)
    demand, declared = case_bounds(bench, case)
    undefined = truth.undefined[:, None] | _of_nothing(bench, case)
    undefined = np.broadcast_to(undefined, gradient.shape)
    found = judge(gradient, exact, demand.gradient, declared.gradient, undefined, bench.fmt)
    return [by_row("gradient", case, found, gradient)]


def _of_nothing(bench: Bench, case: Case) -> bool:
    """Whether the loss is 0/0: a mean where no row counts. Some then give gradients 0, some NaN."""
    mean = case.options.reduction == "mean" and bench.semantics.all_ignored == "nan"
    return mean and float(mean_denominator(case, bench.semantics).hi) == 0.0


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
