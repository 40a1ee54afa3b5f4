"""Squared error through a sigmoid: closed forms, derived bounds, and what real ops give."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.trajectories import squared
from lossaudit.conformance.trajectories.squared import Near, Rounding, exactly
from lossaudit.reference.vocabulary import Floats
from lossaudit.reports.squared import spec

Z = squared.LOGITS


def sigmoid(z: Floats) -> Floats:
    one = z.dtype.type(1)
    return one / (one + np.exp(-z))


def squared_error(z: Floats, y: float) -> Floats:
    return (sigmoid(z) - y) ** 2


def cross_entropy(z: Floats, y: float) -> Floats:
    return np.logaddexp(0.0, z) - y * z


def by_numpy(dtype: str, doubled: float = 2.0) -> squared.Gradients:
    """An implementation of its own, in the format."""
    t = {name: array.astype(dtype) for name, array in squared.task(dtype).items()}
    y = t["y"]

    def slopes(z: Floats) -> dict[str, Floats]:
        p = sigmoid(z)
        two = np.dtype(dtype).type(doubled)
        miss = np.where(y == 1, -sigmoid(-z), p)  # as what JAX declares: it does not cancel
        return {"squared": two * (p - y) * p * (1 - p), "entropy": miss}

    first = sigmoid((t["w1"] @ t["x"])[:, :, 0] + t["b1"])
    second = sigmoid(first @ t["w2"] + t["b2"])
    logits = (second @ t["w3"])[:, 0] + t["b3"]
    p, found = t["p"], {}
    for loss, slope in slopes(t["z"]).items():
        found[f"{loss} by logit"] = slope
    found["squared by probability"] = np.dtype(dtype).type(doubled) * (p - y)
    found["entropy by probability"] = (p - y) / (p * (1 - p))
    for loss, slope in slopes(logits).items():
        back = slope[:, None] * t["w3"][:, 0] * second * (1 - second)
        back = (back @ t["w2"].T) * first * (1 - first)
        found[f"{loss} by layer"] = back[:, :, None] * t["x"][:, 0]
    return {name: array.astype(np.float64) for name, array in found.items()}


def test_closed_forms_are_the_slopes_of_the_losses():
    """A central difference: the third derivatives are below 1, and a loss has a few roundings."""
    h = 2.0**-13
    for y in (0.0, 1.0):
        slopes = squared.by_logit(Z, np.full(len(Z), y))
        for loss, slope in zip((squared_error, cross_entropy), slopes, strict=True):
            rise = (loss(Z + h, y) - loss(Z - h, y)) / (2.0 * h)
            room = h**2 / 6.0 + 4.0 * 2.0**-53 * (loss(Z, y) + np.abs(Z)) / h
            assert (np.abs(rise - slope) <= room).all()


def test_the_ratio_vanishes_and_no_logit_has_more_than_eight_27ths():
    double, single = squared.by_logit(Z, np.ones(len(Z)))
    few = 16 * 2.0**-53  # roundings
    assert np.allclose(double / single, squared.ratio(Z), rtol=few, atol=0)
    assert squared.ratio(np.zeros(1))[0] == 0.5
    assert (squared.ratio(Z) <= 2.0 * np.exp(-np.abs(Z)) * (1 + few)).all()
    best = squared.by_logit(np.array([np.log(0.5)]), np.ones(1))[0][0]  # where p = 1/3
    assert abs(best) == pytest.approx(8 / 27, rel=few)
    assert np.abs(double).max() <= 8 / 27


def test_every_layer_has_the_ratio_of_the_logit():
    may, z = squared.allowed(squared.ANY, "float64"), squared.logits_of_network("float64")
    double, single = may["squared by layer"], may["entropy by layer"]
    off = np.abs(double.value - squared.ratio(z)[:, None, None] * single.value)
    assert (off <= double.error + single.error).all()
    assert z.min() < -10
    assert z.max() > 10


def test_running_errors_hold_for_the_arithmetic_of_float32():
    """Each operation of `Rounding`, on operands that are off by as much as they may be."""
    rounding = Rounding(2.0**-24, 0.0)
    numbers = np.array([[1.1, -2.3, 0.7], [3.3, 0.01, -1.9]], np.float32)
    a = exactly(numbers.astype(np.float64))
    dot = rounding.dot(a, exactly(a.value.T))
    assert (np.abs((numbers @ numbers.T).astype(np.float64) - dot.value) <= dot.error).all()
    off = Near(a.value, 2.0**-20 * np.abs(a.value))
    worst = (a.value * (1 + 2.0**-20)).astype(np.float32)
    product = rounding.times(off, off, off)
    exact = [[Fraction(float(v)) ** 3 for v in row] for row in a.value]
    came = worst * worst * worst
    for i, row in enumerate(exact):
        for j, value in enumerate(row):
            assert abs(Fraction(float(came[i, j])) - value) <= Fraction(product.error[i, j])


@pytest.mark.parametrize("dtype", squared.DTYPES)
def test_the_bounds_hold_for_numpy_and_see_a_wrong_factor(dtype: str):
    may = squared.allowed("jax", dtype)  # whose sigmoid declares the most
    right, halved = by_numpy(dtype), by_numpy(dtype, doubled=2.0 * (1 - 2.0**-6))
    wrong = {line.partition(" (")[0] for line in squared.outside(halved, may)}
    assert list(squared.outside(right, may)) == []
    assert wrong == {name for name in may if name.startswith("squared")}


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "framework",
    ["torch", *(pytest.param(f, marks=pytest.mark.slow) for f in ("tensorflow", "jax"))],
)
def test_real_ops_are_within_the_bounds(framework: str):
    if reason := availability(FRAMEWORKS[framework]):
        pytest.skip(reason)
    found = squared.asked(framework, "float32", sys.executable)
    assert list(squared.outside(found, squared.allowed(framework, "float32"))) == []


def test_the_plot_holds_closed_forms_and_points():
    rows = spec({"torch": by_numpy("float32")}, "float32")["data"]["values"]
    assert {row["framework"] for row in rows} == {"", "torch"}
    assert {row["loss"] for row in rows} == {"cross-entropy", "squared error"}
    assert len({row["panel"] for row in rows}) == 3
    least = [r for r in rows if r["loss"] == "squared error" and r["panel"] == "by the logit"]
    at = next(row["value"] for row in least if row["z"] == -12 and not row["framework"])
    assert at == pytest.approx(2 * np.exp(-12), rel=1e-4)  # 1 - p is 1 - e^-12
