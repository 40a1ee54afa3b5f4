"""Exact: rounding to each format, ulps and faithfulness, against integer arithmetic."""

from __future__ import annotations

from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit.reference import exact as ex
from lossaudit.reference import formats
from lossaudit.reference.exact import Exact

NAMES = list(formats.FORMATS)


def fraction(a: Exact, i: int) -> Fraction:
    return (Fraction(float(a.hi[i])) + Fraction(float(a.lo[i]))) * Fraction(2) ** int(a.exponent[i])


def dyadic(value: Fraction) -> tuple[int, int]:
    return value.numerator, 1 - value.denominator.bit_length()


def boundary_cases(name: str, rng: np.random.Generator, count: int) -> Exact:
    """Numbers at, just above and just below values and midpoints of a format."""
    fmt = formats.FORMATS[name]
    units = rng.integers(0, 2**fmt.precision, count).astype(float)
    units[: count // 8] = 2.0 ** rng.integers(0, fmt.precision + 1, count // 8)
    quantum = rng.integers(fmt.emin - fmt.precision, fmt.emax - fmt.precision + 3, count)
    half = rng.choice([0.0, 0.5], count)
    sign = rng.choice([-1.0, 1.0], count)
    nudge = rng.choice([-1.0, 0.0, 1.0], count) * 2.0 ** -rng.integers(60, 500, count)
    whole = Exact.from_pair(units, half)
    shifted = ex.add(whole, Exact.from_float(nudge))
    return ex.shift(ex.scale(shifted, sign), quantum)


@pytest.mark.parametrize("name", NAMES)
def test_rounding_equals_integer_rounding(name: str) -> None:
    numbers = boundary_cases(name, np.random.default_rng(1), 4000)
    got = ex.round_exact(numbers, formats.FORMATS[name])
    want = [oracle.nearest(*dyadic(fraction(numbers, i)), name) for i in range(4000)]
    wrong = int(np.sum(got != np.array(want)))
    assert wrong == 0, f"{wrong} of 4000 wrong"


@pytest.mark.parametrize("name", NAMES)
def test_ulp_error_and_faithfulness(name: str) -> None:
    fmt = formats.FORMATS[name]
    numbers = boundary_cases(name, np.random.default_rng(2), 1500)
    near = ex.round_exact(numbers, fmt)
    candidates = [near, formats.next_up(near, fmt), formats.next_down(near, fmt)]
    for value in candidates:
        finite = np.isfinite(value)
        errors = ex.ulp_error(value, numbers, fmt)
        faithful = ex.is_faithful(value, numbers, fmt)
        for i in np.flatnonzero(finite).tolist():
            truth, given_ = fraction(numbers, i), Fraction(float(value[i]))
            size = abs(truth)
            binade = fmt.emin
            if size:
                binade = size.numerator.bit_length() - size.denominator.bit_length()
                binade -= Fraction(2) ** binade > size
            ulp = Fraction(2) ** (max(binade, fmt.emin) - fmt.precision + 1)
            want = abs(given_ - truth) / ulp
            # Two roundings by 2**-53, of a sum of which at most a half cancels; what underflows
            # is replaced by a number below 2**-1000.
            error = abs(Fraction(float(errors[i])) - want)
            assert error <= want * Fraction(2) ** -51 + Fraction(2) ** -1000
            low, high = formats.next_down(value[i], fmt), formats.next_up(value[i], fmt)
            if np.isfinite(low) and np.isfinite(high):
                encloses = Fraction(float(low)) < truth < Fraction(float(high))
                assert faithful[i] == encloses


def test_kinds() -> None:
    inf, nan = np.inf, np.nan
    truth = Exact.from_float([1.0, inf, -inf, nan, nan, inf, 1.0, 0.0])
    value = np.array([inf, inf, inf, nan, 1.0, 1.0, nan, -0.0])
    fmt = formats.FORMATS["float32"]
    assert ex.ulp_error(value, truth, fmt).tolist() == [inf, 0, inf, 0, inf, inf, inf, 0]
    assert ex.is_faithful(value, truth, fmt).tolist() == [0, 1, 0, 1, 0, 0, 0, 1]


def test_overflow_to_infinity_is_right() -> None:
    fmt = formats.FORMATS["float16"]
    truth = Exact.from_float([65519.99, 65520.0, 1e6])
    assert ex.round_exact(truth, fmt).tolist() == [65504.0, np.inf, np.inf]
    assert ex.ulp_error([np.inf] * 3, truth, fmt).tolist() == [np.inf, 0.0, 0.0]
    assert ex.is_faithful([65504.0] * 3, truth, fmt).all()


def test_half_an_ulp_and_something_tiny_is_no_tie() -> None:
    """Without rounding to odd the third number is lost and the tie goes to even."""
    for tiny in (2.0**-300, 2.0**-1074):
        total = ex.add(Exact.from_pair(np.ones(1), np.full(1, 2.0**-53)), Exact.from_float([tiny]))
        assert ex.to_float(total)[0] == 1.0 + 2.0**-52


@pytest.mark.parametrize("name", NAMES)
def test_bits_round_trip(name: str) -> None:
    fmt = formats.FORMATS[name]
    values = formats.round_to_format(np.random.default_rng(3).standard_normal(500), fmt)
    values = np.concatenate(
        [values, [0.0, -0.0, np.inf, -np.inf, np.nan, fmt.max, fmt.least_subnormal]]
    )
    back = formats.decode(formats.encode(values, name), name)
    assert back.tobytes() == values.tobytes()


def test_bits_of_a_foreign_value_raise() -> None:
    with pytest.raises(ValueError, match=r"values\[1\] = 0.1 is not a value of float16"):
        formats.encode([0.5, 0.1], "float16")


def test_bfloat16_rounds_as_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(4).integers(0, 2**32, 20000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    want = values.astype(ml_dtypes.bfloat16).astype(np.float64)
    got = formats.round_to_format(values.astype(np.float64), formats.FORMATS["bfloat16"])
    assert np.array_equal(got, want)


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_rounding_equals_the_hardware(name: str) -> None:
    values = np.random.default_rng(5).integers(0, 2**63, 20000).view(np.float64)
    values = np.concatenate([values, np.ldexp(np.random.default_rng(6).random(20000), -20)])
    with np.errstate(over="ignore", invalid="ignore"):
        want = values.astype(name).astype(np.float64)
    got = formats.round_to_format(values, formats.FORMATS[name])
    assert np.array_equal(got, want, equal_nan=True)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_sums_are_free_of_order_and_round_right(values: list[float]) -> None:
    """Exact for a few numbers whose sum fits two words; always the same for every order."""
    forward = ex.weighted_sum(Exact.from_float(values))
    backward = ex.weighted_sum(Exact.from_float(values[::-1]))
    assert (forward.hi, forward.lo, forward.exponent) == (
        backward.hi,
        backward.lo,
        backward.exponent,
    )
    truth = sum(map(Fraction, values), Fraction(0))
    size = sum(abs(Fraction(v)) for v in values)
    got = fraction(forward.reshape(1), 0)
    # What `total` promises: eight terms are three levels of additions by 2**-104 each.
    assert abs(got - truth) <= size / 2**100
