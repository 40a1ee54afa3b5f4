"""The factors of a focal loss, where a call names neither of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...reference.vocabulary import Case, Floats, Semantics
from ..bench import Bench
from .cases import small
from .choice import Candidate, Found, losses, short, told_or_declared

DECIMALS = 4
"""What somebody writes as a default has no more."""


def focal_text(semantics: Semantics) -> str:
    """The factors as they are declared and measured."""
    alpha = "no alpha" if semantics.alpha is None else f"alpha {semantics.alpha}"
    return f"gamma {semantics.gamma}, {alpha}"


def focal(bench: Bench) -> Found:
    """Three losses for two unknown numbers: w (1 - p_t)^gamma L.

    The first and the last, of different p_t and one weight, tell gamma. The second is that of the
    other label where there are two, and tells alpha from a constant.
    """
    case = _three_targets(bench)
    loss, _ = bench.outputs(case)
    known = [_under(bench, case, bench.semantics.gamma, bench.semantics.alpha)]
    found = (_under(bench, case, *pair) for pair in _simplest(bench, case, loss))
    known += [candidate for candidate in found if candidate.fits(loss)][:1]
    evidence = f"losses {', '.join(short(x) for x in loss)}"
    return told_or_declared(loss, known, focal_text(bench.semantics), evidence, case)


def _three_targets(bench: Bench) -> Case:
    case = small(bench)
    if bench.subject.target == "binary":
        inputs = [[0.0], [1.0], [-2.0]] if bench.subject.from_logits else [[0.5], [0.375], [0.125]]
        return replace(case, inputs=np.array(inputs), target=np.array([[1.0], [0.0], [1.0]]))
    classes = case.inputs.shape[1]
    return replace(
        case,
        inputs=np.repeat(case.inputs, 3, axis=0),
        target=np.eye(classes)[[0, 1, classes - 1]],
    )


def _under(bench: Bench, case: Case, gamma: float, alpha: float | None) -> Candidate:
    meant = {"gamma": gamma, "alpha": alpha}
    return losses(bench, focal_text(replace(bench.semantics, **meant)), case, **meant)


def _simplest(bench: Bench, case: Case, loss: Floats) -> Iterator[tuple[float, float | None]]:
    """Pairs of gamma and alpha near those that the losses follow, with few decimals first."""
    surprise, once = (_under(bench, case, gamma, None).exact for gamma in (0.0, 1.0))
    doubt = once / surprise
    with np.errstate(all="ignore"):
        weights = loss / surprise
        gamma = np.log(weights[0] / weights[2]) / np.log(doubt[0] / doubt[2])
        near = [round(float(gamma), digits) + 0.0 for digits in range(DECIMALS + 1)]
    for each in near if np.isfinite(gamma) else []:
        if each < 0:
            continue
        weight = float(weights[0] / doubt[0] ** each)
        yield each, None
        for digits in range(1, DECIMALS + 1):
            alpha = round(weight, digits)
            if 0 < alpha < 1:
                yield each, alpha
