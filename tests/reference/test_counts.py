"""At least 2,000 values of each operation in each format against Arb, and none may be wrong.

A quarter each lies near midpoints of the four formats, has subnormal results, cancels, or is
ordinary. The functions are the public ones, so that both tiers and the rounding are in them.
Here they stand without options; `test_counts_options` and `test_counts_probabilities` have the
rest. Marked slow: the three files together take two to four minutes of one core.
"""

from __future__ import annotations

from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest
from counting import QUARTER, count, fractions, loss_logits, one_hot, share_logits

from lossaudit import reference as ref

pytestmark = pytest.mark.slow

NONE = {"reduction": "none"}
ONE, ZERO = Fraction(1), Fraction(0)


def test_cross_entropy_of_an_index() -> None:
    rng = np.random.default_rng(31)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[: x.size // 2, 2] = -np.inf
    z += rng.integers(-3, 4, (x.size, 1)) * 2.0**-3
    target, rows = np.zeros(x.size, dtype=np.int64), z.tolist()
    unit = [ONE, ZERO, ZERO]
    count(
        "CE loss",
        lambda dtype: ref.cross_entropy(z, target, dtype=dtype, **NONE),
        lambda i: [oracle.cross_entropy(rows[i], unit)],
    )
    count(
        "CE gradient",
        lambda dtype: ref.cross_entropy_grad(z, target, dtype=dtype, **NONE),
        lambda i: oracle.cross_entropy_gradient(rows[i], unit),
    )


@pytest.mark.parametrize("kind", ["distribution", "cancelling", "signed", "smoothing"])
def test_soft_cross_entropy(kind: str) -> None:
    """ "cancelling" has targets at the softmax; "signed" ones whose entries nearly cancel."""
    rng = np.random.default_rng(32)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, rng.standard_normal(x.size)], axis=1)
    target, eps = rng.dirichlet(np.ones(3), x.size), 0.0
    if kind == "cancelling":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        target = e / e.sum(axis=1, keepdims=True)
    if kind == "signed":
        z[:, 2] = np.where(rng.random(x.size) < 0.5, x - 40, z[:, 2])
        target[:, 1] = -target[:, 0] * (1 + rng.integers(-3, 4, x.size) * 2.0**-52)
        target[rng.random(x.size) < 0.7, 2] = 0.0
    if kind == "smoothing":
        target, eps = rng.integers(0, 3, x.size), 0.1
    shares = [one_hot(t, 3) if eps else fractions(t) for t in target]
    weights = [oracle.coefficients(q, [ONE] * 3, Fraction(eps), "eps/K") for q in shares]
    rows, options = z.tolist(), {**NONE, "label_smoothing": eps}
    count(
        f"soft CE loss, {kind}",
        lambda dtype: ref.cross_entropy(z, target, dtype=dtype, **options),
        lambda i: [oracle.cross_entropy(rows[i], weights[i])],
    )
    count(
        f"soft CE gradient, {kind}",
        lambda dtype: ref.cross_entropy_grad(z, target, dtype=dtype, **options),
        lambda i: oracle.cross_entropy_gradient(rows[i], weights[i]),
    )


@pytest.mark.parametrize("kind", ["hard", "soft", "cancelling"])
def test_binary_cross_entropy_with_logits(kind: str) -> None:
    rng = np.random.default_rng(33)
    z = np.concatenate([loss_logits(rng), share_logits(rng)])
    y = np.zeros(z.size) if kind == "hard" else rng.random(z.size)
    if kind == "cancelling":
        y = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
    rows = [(x, up, 1 - up) for x, up in zip(z.tolist(), fractions(y), strict=True)]
    count(
        f"BCE loss, {kind}",
        lambda dtype: ref.binary_cross_entropy_with_logits(z, y, dtype=dtype, **NONE),
        lambda i: [oracle.binary_cross_entropy(*rows[i])],
        z.size,
    )
    count(
        f"BCE gradient, {kind}",
        lambda dtype: ref.binary_cross_entropy_with_logits_grad(z, y, dtype=dtype, **NONE),
        lambda i: [oracle.binary_gradient(*rows[i])],
        z.size,
    )


def test_sigmoid_family() -> None:
    rng = np.random.default_rng(34)
    z = np.concatenate([loss_logits(rng), share_logits(rng)])
    rows = z.tolist()
    formulas = {
        "sigmoid": lambda x: oracle.binary_gradient(x, ZERO, ONE),
        "softplus": lambda x: oracle.binary_cross_entropy(x, ZERO, ONE),
        "log_sigmoid": lambda x: -oracle.binary_cross_entropy(-x, ZERO, ONE),
    }
    for name, formula in formulas.items():
        function = getattr(ref, name)
        count(
            name,
            lambda dtype, function=function: function(z, dtype=dtype),
            lambda i, formula=formula: [formula(rows[i])],
            z.size,
        )


def test_softmax_family() -> None:
    rng = np.random.default_rng(35)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[rng.random(x.size) < 0.5] -= 0.5  # exactly: logsumexp then cancels against the offset
    rows, units = z.tolist(), [one_hot(j, 3) for j in range(3)]

    def shares(row: list[float]) -> list[oracle.arb]:
        _, _, growth, others = oracle.softmax_parts(row)
        return [e / (1 + others) for e in growth]

    def logs(row: list[float]) -> list[oracle.arb]:
        return [-oracle.cross_entropy(row, unit) for unit in units]

    def level(row: list[float]) -> list[oracle.arb]:
        return [oracle.exact(max(row)) + oracle.softmax_parts(row)[3].log1p()]

    for name, formula in (("softmax", shares), ("log_softmax", logs), ("logsumexp", level)):
        function = getattr(ref, name)
        count(
            name,
            lambda dtype, function=function: function(z, dtype=dtype),
            lambda i, formula=formula: formula(rows[i]),
        )


def tied_gaps(rng: np.random.Generator) -> np.ndarray:
    """Logits whose gap is a midpoint of float64, and a third one that alone says where to go."""
    units = rng.integers(2**52, 2**53, 4 * QUARTER).astype(float)
    third = 0.5 - rng.uniform(20, 900, 4 * QUARTER)
    return np.stack([-units, np.full_like(units, 0.5), third], axis=1)


def test_ties_that_a_tiny_term_decides() -> None:
    rng = np.random.default_rng(38)
    z, target = tied_gaps(rng), np.zeros(4 * QUARTER, dtype=np.int64)
    rows = z.tolist()
    count(
        "CE loss at exact midpoints",
        lambda dtype: ref.cross_entropy(z, target, dtype=dtype, **NONE),
        lambda i: [oracle.cross_entropy(rows[i], [ONE, ZERO, ZERO])],
    )
