"""Mistakes that a first draft made: each is put back, and a check that passes without it must fail.

All six left the largest error at 0.500000 ulps in ordinary regimes, or were seen in no regime of
ordinary numbers at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit.reference import (
    binary_rows,
    bounds,
    certify,
    doubledouble,
    exact,
    rows,
    softmax_rows,
)
from lossaudit.reference.exact import Exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.vocabulary import Arithmetic, Case, Options, Semantics

FMT = FORMATS["float64"]
LIMIT = Semantics(plus_inf="limit")
Patch = pytest.MonkeyPatch


def loss_is_right(z: list[float], target: int) -> bool:
    truth = rows.cross_entropy_truth(np.array([z]), np.array([target]), LIMIT, Options())
    unit = [Fraction(int(j == target)) for j in range(len(z))]
    want = oracle.rounded(lambda: [oracle.cross_entropy(z, unit)])["float64"][0]
    return bool(exact.to_float(truth.loss)[0] == want)


def magic_constant(patch: Patch) -> None:
    """Rounding to subnormals by adding 1.5 * 2**(q + 52): wrong spacing above 2**(q + 52)."""

    def rounding(value: Exact, _: object) -> np.ndarray:
        power = value.exponent + 1100  # a copy of the format far from the hardware's limits
        scaled = np.ldexp(value.hi, power)
        constant = 1.5 * 2.0 ** (FMT.emin - FMT.precision + 1 + 52 + 1100)
        return np.ldexp((scaled + constant) - constant, -1100)

    patch.setattr(exact, "round_exact", rounding)


def subnormal_rounding() -> bool:
    bits = 2**51 + 2**50 + 1
    number = Exact.from_pair(np.array([float(bits)]), np.array([0.25]), -1074)
    return bool(exact.round_exact(number, FMT)[0] == bits * 5e-324)


def clipped_logit(patch: Patch) -> None:
    """|z| clipped at 1e10 in the fallback."""
    original = binary_rows.BinaryRow

    def clipped(z: float, up: Fraction, down: Fraction) -> binary_rows.BinaryRow:
        return original(max(-1e10, min(1e10, z)), up, down)

    patch.setattr(binary_rows, "BinaryRow", clipped)


def fallback_agrees() -> bool:
    """Everything computed by decimals is what double-double gives."""
    z = np.array([[3.0], [-5e11], [2.5e10], [-1e30]])
    y = np.array([[1e-300], [0.25], [1.0], [0.0]])
    fast = rows.binary_cross_entropy_with_logits_truth(z, y, LIMIT, Options())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certify, "uncertain", lambda value, _: np.isfinite(value.hi))
        slow = rows.binary_cross_entropy_with_logits_truth(z, y, LIMIT, Options())
    return np.array_equal(exact.to_float(fast.loss), exact.to_float(slow.loss))


def dropped_mantissas(patch: Patch) -> None:
    """Terms 900 binades below the second largest are dropped, for the sum, and reused."""
    original = softmax_rows.softmax_parts

    def parts(logits: np.ndarray) -> softmax_rows.Softmax:
        found = original(logits)
        second = found.others.exponent[:, None]
        gone = found.growth.exponent < second - 900
        return dataclasses.replace(
            found, growth=exact.where(gone, Exact.zeros((1, 1)), found.growth)
        )

    patch.setattr(softmax_rows, "softmax_parts", parts)


def far_gradient() -> bool:
    z = [0.0, -5.0, -700.0]
    truth = rows.cross_entropy_truth(np.array([z]), np.array([0]), LIMIT, Options())
    want = oracle.rounded(
        lambda: oracle.cross_entropy_gradient(z, [Fraction(1), Fraction(0), Fraction(0)])
    )["float64"]
    return np.array_equal(exact.to_float(truth.gradient)[0], want)


def dropped_sum(patch: Patch) -> None:
    """An addition that does not round to odd loses S behind half an ulp."""
    patch.setattr(exact, "add_odd", doubledouble.add)
    patch.setattr(certify, "uncertain", lambda value, _: np.zeros(value.shape, dtype=bool))


def midpoint() -> bool:
    """m - z_t = 2**53 + 1 is a tie that goes down; S = exp(-3001) sends it up."""
    return loss_is_right([1.0, -(2.0**53), -3000.0], 1)


def cancelled_power(patch: Patch) -> None:
    """(1 + u)**h - 1 in float64, which is 0 for u = 2**-53."""
    patch.setattr(bounds, "_growth", lambda count, u: (1.0 + u) ** count - 1.0)


def growth_is_positive() -> bool:
    return bounds._growth(1000.0, 2.0**-53) >= 1000 * 2.0**-53


ARITHMETIC = Arithmetic(
    form="C", gradient="division", working="float64", stored="float64", height="sequential",
    c_exp=2.0, c_log=2.0, c_log1p=2.0, c_sigmoid=4.0, flush=False, origin="NumPy",
)  # fmt: skip


def floored_sum(patch: Patch) -> None:
    """S floored at 1e-300 in the bound of class C."""
    original = bounds._softmax

    def softmax(z: np.ndarray, arithmetic: Arithmetic, temperature: float) -> object:
        row = original(z, arithmetic, temperature)
        tail = np.exp(z.min(axis=1) - z.max(axis=1)).reshape(np.shape(row.Lambda_S))
        return dataclasses.replace(row, Lambda_S=row.Lambda_S * np.minimum(1.0, tail / 1e-300))

    patch.setattr(bounds, "_softmax", softmax)


def tiny_losses_are_within_bounds() -> bool:
    """An error of 50 u, where the shift alone may cost u times a gap of 695 to 708."""
    gap = np.linspace(695.0, 708.0, 400)
    z = np.stack([gap, np.zeros_like(gap)], axis=1)
    case = Case("cross_entropy", "float64", z, np.zeros(gap.size, dtype=np.int64), Options())
    plain = np.log1p(np.exp(-gap)) * (1 + 50 * 2.0**-53)
    truth = rows.truth(case, Semantics()).loss
    bound = bounds.bounds(case, Semantics(), ARITHMETIC).loss
    error = np.abs(exact.to_float(exact.subtract(truth, Exact.from_float(plain))))
    return bool((error <= bound).all())


MUTANTS: dict[str, tuple[Callable[[Patch], None], Callable[[], bool]]] = {
    "magic constant of the wrong spacing": (magic_constant, subnormal_rounding),
    "clipped logit in the fallback": (clipped_logit, fallback_agrees),
    "terms dropped from the gradient": (dropped_mantissas, far_gradient),
    "S dropped at a midpoint": (dropped_sum, midpoint),
    "power minus one in float64": (cancelled_power, growth_is_positive),
    "S floored at 1e-300": (floored_sum, tiny_losses_are_within_bounds),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_the_mutant_dies(name: str, monkeypatch: Patch) -> None:
    mutate, check = MUTANTS[name]
    assert check(), "the check fails without the mutant"
    mutate(monkeypatch)
    assert not check(), "the mutant survives"
