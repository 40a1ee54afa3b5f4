"""The fast tier and the exact one give the same bits."""

# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

import numpy as np
import pytest

from lossaudit import reference as ref
from lossaudit.reference import rows, tiers
from lossaudit.reference.binary_rows import binary_losses
from lossaudit.reference.exact import Exact, round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.softmax_rows import cross_entropy_losses
from lossaudit.reference.vocabulary import Options, Semantics

NARROW = ("float32", "bfloat16", "float16")
LIMIT = Semantics(plus_inf="limit", smoothing="toward 1/2")


def draw(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    scales = rng.choice([1e-3, 1.0, 10.0, 100.0, 1000.0], (n, 1))
    z = rng.standard_normal((n, k)) * scales
    z[: n // 8] = np.round(z[: n // 8])
    z[n // 8 : n // 6, -1] = rng.choice([np.inf, -np.inf, np.nan, 1e300], n // 6 - n // 8)
    return z


def compare(seed: int, n: int, k: int) -> tuple[int, int]:
    """Values compared, and how many the fast tier left to the exact one."""
    rng = np.random.default_rng(seed)
    z, t = draw(rng, n, k), rng.integers(0, k, n)
    truth = rows.cross_entropy_truth(z, t, LIMIT, Options()).loss
    short = cross_entropy_losses(z, t, LIMIT, Options())
    double = FORMATS["float64"]
    assert np.array_equal(round_exact(short, double), round_exact(truth, double), equal_nan=True)
    y = rng.choice([0.0, 1.0, 0.3], n)
    binary = rows.binary_cross_entropy_with_logits_truth(
        z[:, :1], y[:, None], LIMIT, Options()
    ).loss
    short = binary_losses(z[:, 0], y, LIMIT)
    assert np.array_equal(round_exact(short, double), round_exact(binary, double), equal_nan=True)
    left = 0
    for name in NARROW:
        asked = []

        def exactly(places: np.ndarray, asked=asked) -> Exact:
            asked.append(places.size)
            return truth.take(places)

        fast = tiers.cross_entropy_loss(z, t, FORMATS[name], exactly)
        assert np.array_equal(fast, round_exact(truth, FORMATS[name]), equal_nan=True)
        fast = tiers.binary_loss(z[:, 0], y, FORMATS[name], binary.take)
        assert np.array_equal(fast, round_exact(binary, FORMATS[name]), equal_nan=True)
        left += sum(asked)
    return 3 * n, left


@pytest.mark.parametrize("k", [2, 10, 300])
def test_same_bits(k: int) -> None:
    compared, left = compare(41, 10000 // k, k)
    print(f"K = {k}: {left} of {compared} left to the exact tier")
    assert left < 0.4 * compared


@pytest.mark.slow
def test_same_bits_in_millions() -> None:
    compared = 0
    for seed in range(20):
        for k in (1, 2, 5):
            compared += 2 * compare(seed, 20000, k)[0]
    assert compared > 2_000_000


def test_the_public_functions_take_the_fast_way_rightly() -> None:
    rng = np.random.default_rng(42)
    z, t = draw(rng, 200, 4).reshape(10, 20, 4), rng.integers(0, 4, (10, 20))
    truth = rows.cross_entropy_truth(z.reshape(-1, 4), t.reshape(-1), LIMIT, Options()).loss
    for name in NARROW:
        got = ref.cross_entropy(z, t, reduction="none", dtype=name).astype(np.float64)
        want = round_exact(truth, FORMATS[name]).reshape(10, 20)
        assert np.array_equal(got, want, equal_nan=True)


def test_an_understated_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """gap = 64 + 2**-18 is a tie of float32 that goes down; S = exp(-64) sends it up."""
    z, t = np.array([[-63.0 - 2.0**-18, 1.0, -100.0]]), np.zeros(1, dtype=np.int64)
    exact = rows.cross_entropy_truth(z, t, LIMIT, Options()).loss
    fmt = FORMATS["float32"]
    assert tiers.cross_entropy_loss(z, t, fmt, exact.take) == round_exact(exact, fmt)
    monkeypatch.setattr(tiers, "_ROOM", 0.0)
    monkeypatch.setattr(tiers, "_UNDERFLOW", 0.0)
    assert tiers.cross_entropy_loss(z, t, fmt, exact.take) != round_exact(exact, fmt)
