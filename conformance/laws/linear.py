"""What is linear: the loss in its target and in eps, the reductions in the rows, entropy and KL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.exact import Exact, add, to_float
from ...reference.formats import round_to_format
from ...reference.rows import Truth, logsumexp, reduce_truth, truth
from ...reference.vocabulary import Case, Semantics
from ..bench import Bench
from ..judge import Judgement, distance, relate, ulp_of
from ..law import Law, Verdict, by_row, only
from .terms import Term, equal, side
from .value import case_bounds

LINEAR = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)
"""Operations that are linear in their target."""


def check_soft_targets(bench: Bench, case: Case) -> list[Verdict]:
    """The target, one beside it, and the one in the middle: the loss in the middle is the mean."""
    q = np.asarray(case.target)
    other = 1.0 - q if case.target_kind == "binary" else np.roll(q, 1, axis=1)
    middle = (q + other) / 2
    exact = (round_to_format(middle, bench.fmt) == middle).all(axis=1)
    # A distribution is left as it is where the middle would be rounded, and the row not judged.
    middle = np.where(exact[:, None], middle, q)
    beside = np.where(exact[:, None], other, q)
    first, second, mean = (replace(case, target=t) for t in (q, beside, middle))
    note = "of the mean of two targets, and the mean of that of each"
    ours = side(Term(bench, first, 0.5), Term(bench, second, 0.5))
    return equal(bench, case, ours, side(Term(bench, mean)), note, rows=exact)


EPS = 0.25
"""A smoothing that every format has, as it has twice of it."""


def smoothed(case: Case, eps: float) -> Case:
    return replace(case, options=replace(case.options, label_smoothing=eps))


def check_linear_smoothing(bench: Bench, case: Case) -> list[Verdict]:
    """loss(eps) for eps = 0, 1/4 and 1/2: the one in the middle is the mean of the others."""
    ends = side(*(Term(bench, smoothed(case, eps), 0.5) for eps in (0.0, 2 * EPS)))
    note = f"for eps 0 and {2 * EPS}, in the mean, and for {EPS}"
    return equal(bench, case, ends, side(Term(bench, smoothed(case, EPS))), note)


def mixture(bench: Bench, case: Case, formula: str) -> tuple[float, list[Term]]:
    """eps, and the losses of hard labels of which the smoothed one is the sum.

    With 2^-b the weight of each other class, eps is K 2^-b under "eps/K" and (K - 1) 2^-b under
    "eps/(K-1)", which are the two names of one target: eps/K at eps K/(K - 1) is eps/(K-1) at eps.
    Under "toward 1/2" the other label has eps/2.
    """
    if formula == "toward 1/2":
        flipped = replace(case, target=1.0 - np.asarray(case.target))
        return EPS, [Term(bench, case, 1 - EPS / 2), Term(bench, flipped, EPS / 2)]
    classes = case.inputs.shape[1]
    # A power of two with which K of them stay below 1.
    each = 2.0 ** -(int(classes).bit_length())
    eps = each * (classes if formula == "eps/K" else classes - 1)
    terms = [Term(bench, case, 1 - (classes - 1) * each)]
    for step in range(1, classes):
        turned = replace(case, target=(np.asarray(case.target) + step) % classes)
        terms.append(Term(bench, turned, each))
    return eps, terms


def check_mixture(bench: Bench, case: Case) -> list[Verdict]:
    """The smoothed loss against the sum of those of every label that it stands for."""
    declared = bench.subject.semantics.smoothing
    eps, terms = mixture(bench, case, declared)
    note = f"for eps = {eps}, and the sum of those of hard labels that it stands for ({declared})"
    return equal(bench, case, side(Term(bench, smoothed(case, eps))), side(*terms), note)


def entropy(case: Case) -> Exact:
    """H(q) = -sum_j q_j log q_j of the target of each row: CE of q with itself."""
    itself = Case("cross_entropy_probabilities", "float64", case.target, case.target)
    return truth(itself, Semantics()).loss


def check_divergence(bench: Bench, case: Case) -> list[Verdict]:
    """CE(x, q) = KL(x, q) + H(q) + log sum_j e^(x_j); the last is 0 for log-probabilities x."""
    other = bench.sibling(bench.subject.divergence_sibling)
    if other is None:
        return []
    divergence = replace(case, operation=other.subject.operation)
    theirs = side(Term(other, divergence), plus=add(entropy(case), logsumexp(case.inputs)))
    note = "of CE, and of KL with H(q) + log sum exp(x) added"
    return equal(bench, case, side(Term(bench, case)), theirs, note, outputs=("loss",))


def check_reductions(bench: Bench, case: Case) -> list[Verdict]:
    """The reduced loss and gradient against those of the rows, added and divided exactly."""
    plain = replace(case, options=replace(case.options, reduction="none"))
    losses, slopes = bench.outputs(plain)
    if not (np.isfinite(losses).all() and np.isfinite(slopes).all()):
        return []
    rows = bench.truth(plain)
    own = replace(rows, loss=Exact.from_float(losses), gradient=Exact.from_float(slopes))
    return [
        verdict
        for reduction in bench.subject.reductions
        if reduction in ("sum", "mean")
        for verdict in _reduced(bench, plain, own, reduction)
    ]


def _reduced(bench: Bench, plain: Case, own: Truth, reduction: str) -> list[Verdict]:
    """The bounds are those of the reduced loss twice: its own, and that of the sum of the rows."""
    case = replace(plain, options=replace(plain.options, reduction=reduction))
    loss, gradient = bench.outputs(case)
    expected = reduce_truth(own, case, bench.semantics)
    demand, declared = case_bounds(bench, case)
    verdicts = []
    for output, value, exact in (("loss", loss, expected[0]), ("gradient", gradient, expected[1])):
        right = to_float(exact)
        bound = 2 * np.maximum(getattr(demand, output), getattr(declared, output))
        grade = relate(value, right, bound, bound)
        unit = ulp_of(right, bench.fmt)
        found = Judgement(grade, distance(value, right) / unit, right, bound / unit, bound / unit)
        note = f"the {output} with reduction {reduction}, and that of the rows, reduced"
        verdict = by_row(output, case, found, value, note, whole=output == "loss")
        verdict = replace(verdict, against=((bench.subject, plain),))
        # What may overflow within its bound is left to the law of the value.
        near = np.abs(right) + np.where(np.isinf(bound), 0.0, bound) > bench.fmt.max
        far = ~np.asarray(near).reshape(len(verdict.grade), -1).any(axis=1)
        verdicts.append(only(verdict, np.asarray(far)))
    return verdicts


def _linear_in_the_target(subject: Subject) -> bool:
    soft = subject.target in ("distribution", "binary")
    return subject.mode == "eager" and soft and subject.operation in LINEAR


def _smooths(subject: Subject) -> bool:
    return subject.mode == "eager" and "label_smoothing" in subject.options


def _smooths_labels(subject: Subject) -> bool:
    known = subject.semantics.smoothing in ("eps/K", "eps/(K-1)", "toward 1/2")
    return _smooths(subject) and known and subject.target in ("index", "binary")


SOFT_TARGETS = Law(
    name="linear-in-the-target",
    statement="loss(z, (q + r) / 2) = (loss(z, q) + loss(z, r)) / 2, gradients too",
    source="definition: -sum_j q_j log p_j; mixup (Zhang et al., 2018) rests on it",
    fits=_linear_in_the_target,
    check=check_soft_targets,
    regions=("ordinary", "saturated-wrong"),
    effort=0.25,
)

LINEAR_SMOOTHING = Law(
    name="linear-in-smoothing",
    statement="loss(eps) = (loss(0) + loss(2 eps)) / 2, gradients too",
    source="definition: the smoothed target is (1 - eps) q + eps u",
    fits=_smooths,
    check=check_linear_smoothing,
    regions=("ordinary", "saturated-wrong"),
    effort=0.25,
)

MIXTURE = Law(
    name="smoothing-is-a-mixture",
    statement="loss(y, eps) = (1 - eps) loss(y) + eps/K sum_j loss(j) under eps/K, which is "
    "eps/(K-1) at eps (K-1)/K; toward 1/2 is eps/2 of the other label",
    source="Szegedy et al., Rethinking the Inception Architecture, 2016; Megatron-LM writes "
    "eps/(K-1) as eps/K at eps K/(K-1)",
    fits=_smooths_labels,
    check=check_mixture,
    regions=("ordinary", "saturated-wrong"),
    classes=(3,),
    effort=0.25,
)

DIVERGENCE = Law(
    name="entropy-and-divergence",
    statement="CE(z, q) = KL(z, q) + H(q) + log sum_j exp(z_j), z taken for log-probabilities",
    source="Kullback and Leibler, On Information and Sufficiency, 1951",
    fits=lambda s: s.divergence_sibling is not None and s.mode == "eager",
    check=check_divergence,
    outputs=("loss",),
    partner=lambda s: (s.divergence_sibling or "", s.mode),
    regions=("ordinary", "saturated-wrong"),
    effort=0.25,
)

REDUCTIONS = Law(
    name="reductions-match-rows",
    statement="sum = sum_i loss_i, mean = sum_i w_i loss_i / d with the measured d, gradients too",
    source="documentation of `reduction`; pytorch#8062 and iree#24228 on the denominator",
    fits=lambda s: s.mode == "eager" and len(s.reductions) > 1,
    check=check_reductions,
    options="unreduced",
    regions=("ordinary", "saturated-wrong"),
    effort=0.25,
)
