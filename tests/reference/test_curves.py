"""Curves: float64 values with margins, held against the exact tier at numbers of all magnitudes."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit.reference import curves, rows, tiers
from lossaudit.reference.exact import Exact, is_faithful, round_exact, subtract, to_float, ulp_error
from lossaudit.reference.formats import FORMATS, decode, encode
from lossaudit.reference.vocabulary import FUNCTIONS, Case, Semantics

TORCH = Semantics(guard="clamp log", guard_floor=-100.0, guard_gradient="clamped denominator")
KERAS = Semantics(guard="clip", guard_eps=1e-7)
ASKED = [
    ("binary_cross_entropy_with_logits", Semantics()),
    *((name, Semantics()) for name in FUNCTIONS),
    ("binary_cross_entropy", Semantics()),
    ("binary_cross_entropy", TORCH),
    ("binary_cross_entropy", KERAS),
]
WIDTH = {"float32": 32, "bfloat16": 16, "float16": 16}


def some_magnitudes(dtype: str, seed: int, count: int) -> np.ndarray:
    """Magnitudes of all binades, the ends of the format among them."""
    last = 1 << (WIDTH[dtype] - 1)
    which = np.random.default_rng(seed).integers(0, last, count)
    ends = [0, 1, int(encode(np.inf, dtype)), int(encode(1.0, dtype)), last - 1]
    bits = np.concatenate([which, ends]).astype(f"u{WIDTH[dtype] // 8}")
    with np.errstate(invalid="ignore"):
        return decode(bits, dtype)


def case_of(operation: str, dtype: str, x: np.ndarray, y: float) -> Case:
    return Case(operation, dtype, x[:, None], np.full((x.size, 1), y))


@pytest.mark.parametrize("dtype", WIDTH)
@pytest.mark.parametrize(("operation", "semantics"), ASKED)
@given(seed=st.integers(0, 2**32 - 1), y=st.sampled_from((0.0, 1.0, 0.5, 0.25, 2.0**-10)))
@settings(max_examples=12, deadline=None)
def test_a_curve_agrees_with_the_exact_tier(operation, semantics, dtype, seed, y):
    fmt, x = FORMATS[dtype], some_magnitudes(dtype, seed, 60)
    curve = curves.curve(operation, semantics, x, dtype)
    assert curve is not None
    for negative in (False, True):
        given_x = -x if negative else x
        with np.errstate(all="ignore"):
            truth = rows.truth(case_of(operation, dtype, given_x, y), semantics)
        for output in ("loss", "gradient"):
            term = getattr(curve, output)(y, negative=negative)
            known = curve.rounded(term)
            exact = getattr(truth, output).reshape(-1)
            right = round_exact(exact, fmt)
            sure = np.ones(x.size, bool)
            sure[known.unsure] = False
            if known.undefined is not None:
                np.testing.assert_array_equal(known.undefined, truth.undefined)
                sure &= ~known.undefined
            sign = -1.0 if term.negated else 1.0
            np.testing.assert_array_equal(sign * known.right[sure], right[sure])
            finite = sure & np.isfinite(exact.hi)
            error = to_float(subtract(Exact.from_float(sign * known.value), exact))
            assert (np.abs(error[finite]) <= known.margin[finite]).all()
            seen = finite & ~np.isnan(known.other)
            assert is_faithful(sign * known.other, exact, fmt)[seen].all()
            # The scale is 1 / ulp, and half of it only where that is said.
            with np.errstate(invalid="ignore"):
                ulps = np.abs(known.value - known.right) * known.scale
            told = ulp_error(right, exact, fmt)
            close = finite & ~known.coarse(np.arange(x.size))
            assert (
                np.abs(ulps - told)[close] <= 2 * known.margin[close] * known.scale[close] + 2e-9
            ).all()


@pytest.mark.parametrize("dtype", WIDTH)
@given(
    seed=st.integers(0, 2**32 - 1),
    label=st.sampled_from((0, 1)),
    scale=st.sampled_from((0.1, 1.0, 30.0)),
)
@settings(max_examples=10, deadline=None)
def test_the_curve_of_a_row_agrees_with_the_exact_tier(dtype, seed, label, scale):
    fmt, x = FORMATS[dtype], some_magnitudes(dtype, seed, 30)
    row = np.random.default_rng(seed).normal(0.0, scale, 4).astype(np.float16).astype(float)
    if dtype == "bfloat16":
        row = decode(encode(row.astype(np.float32), "float32") >> 16, "bfloat16")
    curve = curves.row_curve(row, 0, x, dtype)
    for negative in (False, True):
        inputs = np.tile(row, (x.size, 1))
        inputs[:, 0] = -x if negative else x
        with np.errstate(all="ignore"):
            case = Case("cross_entropy", dtype, inputs, np.full(x.size, label))
            truth = rows.truth(case, Semantics(plus_inf="limit"))
        for output in ("loss", "gradient"):
            known = curve.rounded(getattr(curve, output)(float(label), negative=negative))
            exact = getattr(truth, output)
            sure = np.ones(known.value.size, bool)
            sure[known.unsure] = False
            sure = sure.reshape(known.value.shape)
            np.testing.assert_array_equal(known.right[sure], round_exact(exact, fmt)[sure])


def test_few_numbers_are_left_undecided():
    x = some_magnitudes("float32", 1, 100_000)
    curve = curves.curve("binary_cross_entropy_with_logits", Semantics(), x, "float32")
    assert curve is not None
    for y in (0.0, 1.0, 0.5):
        for negative in (False, True):
            for output in ("loss", "gradient"):
                known = curve.rounded(getattr(curve, output)(y, negative=negative))
                # 36 * 2^-53 of a value, of 2^24 ulps: about one in 2^23 lies so near a midpoint.
                # But 1/2 - x/4 + x^3/48 is all but a midpoint for many x of a dozen binades, and
                # x/4 - x^3/48 for subnormal ones: of 256 binades.
                assert known.unsure.size <= (2 if output == "loss" else x.size // 100)


def test_mirror_images_share_their_numbers():
    x = some_magnitudes("float32", 2, 10)
    curve = curves.curve("binary_cross_entropy_with_logits", Semantics(), x, "float32")
    assert curve is not None
    for output in ("loss", "gradient"):
        term = getattr(curve, output)
        assert term(0.0, negative=False).name == term(1.0, negative=True).name
        assert term(1.0, negative=False).name == term(0.0, negative=True).name
    assert curve.gradient(1.0, negative=False).negated
    assert not curve.gradient(0.0, negative=True).negated


def test_where_the_platform_is_not_trusted_nothing_is_decided(monkeypatch):
    monkeypatch.setattr(tiers, "trusted", lambda: False)
    x = np.array([0.5, 1.0, np.inf])
    curve = curves.curve("softplus", Semantics(), x, "float32")
    assert curve is not None
    assert curve.rounded(curve.loss(0.0, negative=False)).unsure.tolist() == [0, 1]


def test_what_has_no_curve():
    x = np.array([0.5])
    assert curves.curve("binary_focal", Semantics(), x, "float32") is None
    exact = Semantics(guard="clamp log", guard_floor=-100.0)
    assert curves.curve("binary_cross_entropy", exact, x, "float32") is None


@pytest.mark.parametrize("z", [-90.0, -16.0, -1.0, 0.0, 2.0**-30, 3.0, 80.0])
def test_functions_are_what_they_say(z):
    getcontext().prec = 60
    e = (-Decimal(abs(z))).exp()
    tail = (1 + e).ln()
    p, q = (1 / (1 + e), e / (1 + e)) if z > 0 else (e / (1 + e), 1 / (1 + e))
    right = {
        "softplus": (max(Decimal(z), Decimal(0)) + tail, p),
        "log_sigmoid": (min(Decimal(z), Decimal(0)) - tail, q),
        "sigmoid": (p, p * q),
    }
    for name, (value, slope) in right.items():
        found = rows.truth(case_of(name, "float64", np.array([z]), 0.0), Semantics())
        assert float(round_exact(found.loss, FORMATS["float64"])[0]) == float(value)
        assert float(round_exact(found.gradient, FORMATS["float64"])[0, 0]) == float(slope)
