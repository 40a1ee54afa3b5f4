"""The fast tier and the exact one give the same bits."""

# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lossaudit import reference as ref
from lossaudit.reference import rows, tiers
from lossaudit.reference.binary_rows import Factors, binary_losses
from lossaudit.reference.exact import Exact, round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.softmax_rows import cross_entropy_losses
from lossaudit.reference.truth import Factor
from lossaudit.reference.vocabulary import Options, Semantics

NARROW = ("float32", "bfloat16", "float16")
LIMIT = Semantics(plus_inf="limit", smoothing="toward 1/2")


def draw(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    scales = rng.choice([1e-3, 1.0, 10.0, 100.0, 1000.0], (n, 1))
    z = rng.standard_normal((n, k)) * scales
    z[: n // 8] = np.round(z[: n // 8])
    z[n // 8 : n // 6, -1] = rng.choice([np.inf, -np.inf, np.nan, 1e300], n // 6 - n // 8)
    return z


def assert_same_bits(fast: np.ndarray, exact: np.ndarray) -> None:
    """Equal, with the same zeros of the same sign."""
    assert np.array_equal(fast, exact, equal_nan=True)
    number = ~np.isnan(exact)
    assert np.array_equal(np.signbit(fast[number]), np.signbit(exact[number]))


def compare_gradients(seed: int, n: int, k: int, factor: Fraction) -> tuple[int, int]:
    """Entries compared, and how many of the rows were left to the exact tier."""
    rng = np.random.default_rng(seed)
    z, t = draw(rng, n, k), rng.integers(0, k, n)
    y = rng.choice([0.0, 1.0, 0.3, 2.0], n, p=[0.4, 0.4, 0.19, 0.01])
    whole = Factor.of(n, (), factor)
    truth = rows.cross_entropy_truth(z, t, LIMIT, Options(), whole).gradient
    binary = rows.binary_cross_entropy_with_logits_truth(
        z[:, :1], y[:, None], LIMIT, Options(), Factors(whole)
    ).gradient.reshape(-1)
    left = 0
    for name in NARROW:
        asked = []

        def exactly(places: np.ndarray, asked=asked) -> Exact:
            asked.append(places.size)
            return truth.take(places)

        by, fmt = float(factor), FORMATS[name]
        fast = tiers.cross_entropy_gradient(z, t, by, fmt, exactly)
        assert_same_bits(fast, round_exact(truth, fmt))
        fast = tiers.binary_gradient(z[:, 0], y, by, fmt, binary.take)
        assert_same_bits(fast, round_exact(binary, fmt))
        left += sum(asked)
    return 3 * n * (k + 1), left


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
        assert_same_bits(fast, round_exact(truth, FORMATS[name]))
        fast = tiers.binary_loss(z[:, 0], y, FORMATS[name], binary.take)
        assert_same_bits(fast, round_exact(binary, FORMATS[name]))
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


@pytest.mark.parametrize("factor", [Fraction(1), Fraction(-1, 3), Fraction(1, 10**9)])
@pytest.mark.parametrize("k", [1, 2, 10, 300])
def test_same_bits_of_gradients(k: int, factor: Fraction) -> None:
    n = 9000 // k
    compared, left = compare_gradients(43, n, k, factor)
    print(f"K = {k}: {left} of {3 * n} rows left to the exact tier, {compared} entries")
    assert left < 0.3 * 3 * n


@pytest.mark.slow
def test_same_bits_of_gradients_in_millions() -> None:
    compared = 0
    for seed in range(12):
        for k in (1, 2, 7):
            compared += compare_gradients(seed, 12000, k, Fraction(1, 1 + seed))[0]
    assert compared > 1_500_000


def test_a_coarse_libm_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exp with errors of 5 ulps: the guard finds it, and every value is the exact tier's."""
    z, t = np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0, 0])
    truth = rows.cross_entropy_truth(z, t, LIMIT, Options()).loss
    asked = []

    def exactly(places: np.ndarray) -> Exact:
        asked.append(places.size)
        return truth.take(places)

    for name in ("exp", "expm1", "log", "log1p"):
        tiers.trusted.cache_clear()
        assert tiers.trusted()
        tiers.cross_entropy_loss(z, t, FORMATS["float32"], exactly)
        assert asked == []
        with monkeypatch.context() as patch:
            right = getattr(tiers, name)
            patch.setattr(tiers, name, lambda x, right=right: right(x) * (1 + 10 * 2.0**-53))
            tiers.trusted.cache_clear()
            assert not tiers.trusted()
            tiers.cross_entropy_loss(z, t, FORMATS["float32"], exactly)
        assert asked == [2]
        asked.clear()
    tiers.trusted.cache_clear()


def test_public_gradients_take_the_fast_way_rightly() -> None:
    rng = np.random.default_rng(44)
    z, t = draw(rng, 300, 4), rng.integers(0, 4, 300)
    y = rng.integers(0, 2, z.shape).astype(float)
    for reduction in ("none", "mean"):
        by = Factor.of(300, (), Fraction(1, 300)) if reduction == "mean" else None
        truth = rows.cross_entropy_truth(z, t, LIMIT, Options(), by).gradient
        by = Factor.of(1200, (), Fraction(1, 1200)) if reduction == "mean" else None
        binary = rows.binary_cross_entropy_with_logits_truth(
            z.reshape(-1, 1), y.reshape(-1, 1), LIMIT, Options(), Factors(by)
        ).gradient.reshape(300, 4)
        for name in NARROW:
            call = {"reduction": reduction, "dtype": name}
            got = ref.cross_entropy_grad(z, t, **call).astype(np.float64)
            assert_same_bits(got, round_exact(truth, FORMATS[name]))
            got = ref.binary_cross_entropy_with_logits_grad(z, y, **call).astype(np.float64)
            assert_same_bits(got, round_exact(binary, FORMATS[name]))


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
    monkeypatch.setattr(tiers, "ROOM", 0.0)
    monkeypatch.setattr(tiers, "UNDERFLOW", 0.0)
    assert tiers.cross_entropy_loss(z, t, fmt, exact.take) != round_exact(exact, fmt)
