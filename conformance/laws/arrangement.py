"""How the numbers lie must not matter: order of classes and rows, neighbours, a masked class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.vocabulary import Case
from ..bench import Bench
from ..law import Law, Verdict, always
from .symmetry import compare
from .terms import Term, equal, side

PERMUTED = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "kl_divergence",
    "kl_divergence_probabilities",
    "focal",
    "focal_probabilities",
)


def check_permutation(bench: Bench, case: Case) -> list[Verdict]:
    """Classes moved one place on: logits, target and so the gradient."""
    classes = case.inputs.shape[1]
    if case.target.ndim == 1:
        target = (case.target + 1) % classes
    else:
        target = np.roll(case.target, 1, axis=1)
    moved = replace(case, inputs=np.roll(case.inputs, 1, axis=1), target=target)
    order, back = np.arange(classes), (np.arange(classes) + 1) % classes
    rows = np.ones(case.rows, dtype=bool)
    note = "of (z, y), and with the classes of both moved one place on"
    return compare(bench, case, bench, moved, rows, note, columns=(order, back), conforming=True)


def with_masked_class(case: Case) -> Case:
    """The case with one more class, at -inf and without weight."""
    hidden = np.full((case.rows, 1), -np.inf)
    target = case.target
    if target.ndim > 1:
        target = np.concatenate([target, np.zeros((case.rows, 1))], axis=1)
    return replace(case, inputs=np.concatenate([case.inputs, hidden], axis=1), target=target)


def check_masked_class(bench: Bench, case: Case) -> list[Verdict]:
    """Loss and gradient of K classes without and with one more at -inf."""
    rows = np.ones(case.rows, dtype=bool)
    note = "of z, and of z with one more class at -inf"
    columns = (slice(None), slice(0, case.inputs.shape[1]))
    return compare(
        bench, case, bench, with_masked_class(case), rows, note, columns=columns, conforming=True
    )


def check_row_order(bench: Bench, case: Case) -> list[Verdict]:
    """The rows from the last to the first."""
    turned = np.arange(case.rows)[::-1]
    note = "of each row, and with the rows in the opposite order"
    theirs = side(Term(bench, case.take(turned), rows=turned))
    return equal(bench, case, side(Term(bench, case)), theirs, note)


def check_alone(bench: Bench, case: Case) -> list[Verdict]:
    """The first row, and the last, among the others and alone."""
    verdicts = []
    for row, called in ((0, "first"), (case.rows - 1, "last")) if case.rows > 1 else ():
        alone = Term(bench, case.take(np.array([row])), rows=np.zeros(case.rows, dtype=int))
        note, only_it = f"of the {called} row among others, and alone", np.arange(case.rows) == row
        verdicts += equal(bench, case, side(Term(bench, case)), side(alone), note, rows=only_it)
    return verdicts


def _in_place(subject: Subject) -> bool:
    return subject.mode == "eager"


PERMUTATION = Law(
    name="permutation-equivariance",
    statement="loss(P z, P y) = loss(z, y), d loss(P z, P y) / d z = P d loss(z, y) / d z",
    source="definition: no class is before another one",
    fits=lambda s: _in_place(s) and s.operation in PERMUTED,
    check=check_permutation,
    regions=("ordinary", "saturated-wrong", "minus-inf-non-target", "wide"),
    effort=0.25,
)

MASKED_CLASS = Law(
    name="masked-class",
    statement="loss((z, -inf), (y, 0)) = loss(z, y), and the gradients in z are equal",
    source="exp(-inf) = 0: a mask leaves a class out; pytorch F.cross_entropy and "
    "tf.nn.softmax_cross_entropy_with_logits give NaN where the target has no weight",
    # A clip leaves the masked class a probability of its own.
    fits=lambda s: (
        _in_place(s) and s.operation == "cross_entropy" and s.semantics.renormalise != "after"
    ),
    check=check_masked_class,
    regions=("ordinary", "saturated-wrong"),
    classes=(2,),
    effort=0.25,
)

ROW_ORDER = Law(
    name="row-order",
    statement="loss(z_N, ..., z_1)_i = loss(z_1, ..., z_N)_(N + 1 - i), gradients too",
    source="rows are independent; bits may differ where a kernel treats the end of an array "
    "otherwise, and are counted",
    fits=always,
    check=check_row_order,
    regions=("ordinary", "saturated-right", "minus-inf-non-target"),
    rows_together=True,
    effort=0.25,
)

ALONE = Law(
    name="row-alone",
    statement="loss(z_i) = loss(z_1, ..., z_N)_i, gradients too, for the first row and the last",
    source="rows are independent: a batch may be split; NVIDIA/Megatron-LM and NeMo issues on the "
    "loss of a chunk",
    fits=_in_place,
    check=check_alone,
    regions=("ordinary", "saturated-right"),
    rows_together=True,
    own_shapes=True,
    effort=0.0,
)
