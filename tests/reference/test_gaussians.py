"""Gaussians in closed form: against Arb, and against numerical integration."""

from __future__ import annotations

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit import reference as ref

RNG = np.random.default_rng(51)
CASES = [(*RNG.normal(size=1), *RNG.uniform(0.1, 3, 1), *RNG.normal(size=1), *RNG.uniform(0.5, 3, 1)) for _ in range(40)]  # fmt: skip # noqa: E501
CLOSE = [(m, s, m * (1 + 1e-12), s * (1 + 1e-9)) for m, s, _, _ in CASES[:10]]


@pytest.mark.parametrize("case", CASES + CLOSE)
def test_against_arb(case: tuple[float, float, float, float]) -> None:
    want = oracle.rounded(lambda: oracle.gaussians(*case))["float64"]
    assert ref.gaussian_cross_entropy(*case) == want[0]
    assert ref.gaussian_kl_divergence(*case) == want[1]


def test_equal_gaussians_do_not_diverge() -> None:
    assert ref.gaussian_kl_divergence(0.3, 0.7, 0.3, 0.7) == 0.0


@pytest.mark.parametrize("case", CASES[:5])
def test_against_integration(case: tuple[float, float, float, float]) -> None:
    """The trapezoidal rule is accurate to 1e-10 here: the integrand falls off like a Gaussian."""
    m, s, n, t = case
    x = np.linspace(m - 12 * s, m + 12 * s, 4001)
    p = np.exp(-(((x - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
    log_q = -(((x - n) / t) ** 2) / 2 - np.log(t * np.sqrt(2 * np.pi))
    integral = -np.sum(p * log_q) * (x[1] - x[0])
    assert ref.gaussian_cross_entropy(*case) == pytest.approx(integral, rel=1e-10)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"deviation = -1\.0"):
        ref.gaussian_cross_entropy(0.0, -1.0, 0.0, 1.0)
