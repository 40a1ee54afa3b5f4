"""Sums of terms of two signs that nearly cancel, or do: what is left must still be right."""

from __future__ import annotations

from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit import reference as ref
from lossaudit.reference.decimals import Digits

ROWS = 60


def nearly(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return values * (1 + rng.integers(-3, 4, values.shape) * 2.0**-52)


def equal(got, formula) -> None:
    want = oracle.rounded(formula)["float64"]
    assert np.asarray(got).reshape(-1).tolist() == want.tolist()


def test_decimals_keep_their_digits_when_negated() -> None:
    """A focal loss a quarter of 65.9..., a midpoint of float32, and e**-65.9 above it."""
    one = Digits(40).number(Fraction(10**30 + 1, 10**30))
    assert one.negated().negated() == one
    z = [[0.0, float.fromhex("0x1.07b61dp+6"), -2000.0]]
    got = ref.focal(z, [0], alpha=[0.25, 1.0, 1.0], dtype="float32")
    want = oracle.rounded(lambda: oracle.focal(z[0], 0, 2.0, Fraction(1, 4))[:1], ("float32",))
    assert got.tolist() == want["float32"].tolist()
