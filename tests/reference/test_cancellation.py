"""Sums of terms of two signs that nearly cancel, or do: what is left must still be right."""

from __future__ import annotations

from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit import reference as ref
from lossaudit.reference.decimals import Digits
from lossaudit.reference.slow_rows import rational_multiple

ROWS = 60


def nearly(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return values * (1 + rng.integers(-3, 4, values.shape) * 2.0**-52)


def equal(got, formula) -> None:
    want = oracle.rounded(formula)["float64"]
    assert np.asarray(got).reshape(-1).tolist() == want.tolist()


def test_pos_weights_close_to_one_in_the_target() -> None:
    """At a tiny logit p softplus(-z) - softplus(z) is (p - 1) log 2, of which factors round p."""
    rng = np.random.default_rng(71)
    z = np.ldexp(rng.standard_normal(ROWS), -rng.integers(20, 90, ROWS))
    p, w = nearly(rng, np.ones(ROWS)), rng.random(ROWS)
    got = ref.binary_cross_entropy_with_logits_grad_target(
        z, np.zeros(ROWS), pos_weight=p, weight=w, label_smoothing=0.1, reduction="none"
    )
    scales = [Fraction(a) * (1 - Fraction(0.1)) for a in w]
    rows = list(zip(z.tolist(), p.tolist(), scales, strict=True))
    equal(got, lambda: [oracle.binary_cross_entropy(x, s * Fraction(e), -s) for x, e, s in rows])


def test_binary_coefficients_of_two_signs() -> None:
    """For y = 1 / (1 - p) the sum p y + 1 - y is 0, and close to it the weights round it."""
    rng = np.random.default_rng(72)
    z = np.ldexp(rng.standard_normal(ROWS), -rng.integers(20, 90, ROWS))
    p, w = rng.uniform(1.5, 4, ROWS), rng.random(ROWS)
    y = nearly(rng, 1 / (1 - p))
    call = {"pos_weight": p, "weight": w, "reduction": "none"}
    rows = [
        (x, Fraction(f) * Fraction(e) * Fraction(b), Fraction(f) * (1 - Fraction(b)))
        for x, b, e, f in zip(z.tolist(), y, p, w, strict=True)
    ]
    got = ref.binary_cross_entropy_with_logits(z, y, **call)
    equal(got, lambda: [oracle.binary_cross_entropy(*row) for row in rows])
    got = ref.binary_cross_entropy_with_logits_grad(z, y, **call)
    equal(got, lambda: [oracle.binary_gradient(*row) for row in rows])


@pytest.mark.parametrize("gap", [1.0, 60.0, 300.0])
def test_signed_targets(gap: float) -> None:
    """A far class without a target has the gradient A p_j, where A is all that has cancelled."""
    rng = np.random.default_rng(73)
    z = np.stack([np.zeros(ROWS), -rng.random(ROWS), np.full(ROWS, -gap)], axis=1)
    w, s = np.array([0.3, 1.7, 0.6]), rng.random(ROWS)
    q = np.stack([rng.random(ROWS), np.zeros(ROWS), np.zeros(ROWS)], axis=1)
    q[:, 1] = nearly(rng, -q[:, 0] * w[0] / w[1])
    got = ref.cross_entropy_grad(z, q, weight=w, sample_weight=s, reduction="none")

    def slopes() -> list:
        found = []
        for i in range(ROWS):
            a = [Fraction(s[i]) * Fraction(w[j]) * Fraction(q[i, j]) for j in range(3)]
            found += oracle.cross_entropy_gradient(z[i].tolist(), a)
        return found

    equal(got, slopes)


def test_decimals_keep_their_digits_when_negated() -> None:
    """A focal loss a quarter of 65.9..., a midpoint of float32, and e**-65.9 above it."""
    one = Digits(40).number(Fraction(10**30 + 1, 10**30))
    assert one.negated().negated() == one
    z = [[0.0, float.fromhex("0x1.07b61dp+6"), -2000.0]]
    got = ref.focal(z, [0], alpha=[0.25, 1.0, 1.0], dtype="float32")
    want = oracle.rounded(lambda: oracle.focal(z[0], 0, 2.0, Fraction(1, 4))[:1], ("float32",))
    assert got.tolist() == want["float32"].tolist()


def test_sums_of_logarithms_that_are_rational() -> None:
    """(3/4)**2 (16/9) = 1, and 3/8 log2(3/4) + 3/16 log2(4/9) = -3/8."""
    assert ref.kl_divergence([0.375, 0.1875], [0.5, 27 / 256]) == 0.0
    assert ref.kl_divergence([0.375, 0.1875], [0.5, 27 / 64], base=2) == -0.375
    assert ref.cross_entropy_probabilities([[0.75, 0.5625]], [[2.0, -1.0]]) == 0.0
    assert rational_multiple([(Fraction(1), Fraction(3, 2))]) is None
    assert rational_multiple([(Fraction(1), Fraction(3, 2))], Fraction(9, 4)) == Fraction(1, 2)
    assert rational_multiple([(Fraction(1), Fraction(6))], Fraction(3)) is None
