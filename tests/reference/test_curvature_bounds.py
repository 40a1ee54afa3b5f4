"""The bounds of Hessian-vector products hold for plain implementations, and come near their errors.

In float32 and float64 by NumPy: the form that subtracts p . v from v_j, as automatic
differentiation does, and the one that does not cancel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.reference.bounds import bounds, demanded
from lossaudit.reference.exact import subtract, to_float
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Arithmetic, Case, Options, Semantics

REAL = {"float32": np.float32, "float64": np.float64}
# Errors of NumPy's float32 and float64 exp in units of u: numpy/numpy#13134 and #19478.
C_EXP = {"float32": 5.04, "float64": 8.0}
NEAR = 0.05
"""The bounds count 12 and 8 roundings where these implementations have 6 and 5, and take them all
for the largest there is: an error that is a twentieth of its bound is what rounding gives."""
SPREADS = (1.0, 8.0, 40.0)
ROWS = 400


def arithmetic(dtype: str, gradient: str) -> Arithmetic:
    c = C_EXP[dtype]
    form = "split" if gradient == "sigmoid" else "B"
    return Arithmetic(
        form, gradient, dtype, dtype, "sequential", c, c, c, c + 4, flush=False, origin="NumPy"
    )


def drawn(dtype: str, spread: float, classes: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    z = REAL[dtype](rng.standard_normal((ROWS, classes)) * spread).astype(np.float64)
    v = REAL[dtype](rng.standard_normal((ROWS, classes)) * 2.0 ** rng.integers(-6, 7, (ROWS, 1)))
    v[::3] = np.round(v[::3])
    if classes == 1:
        target = rng.integers(0, 5, (ROWS, 1)) / 4
        return Case(
            "binary_cross_entropy_with_logits", dtype, z, target, direction=v.astype(np.float64)
        )
    target = rng.integers(0, classes, ROWS)
    return Case("cross_entropy", dtype, z, target, direction=v.astype(np.float64))


def softmax_product(case: Case, gradient: str) -> np.ndarray:
    real = REAL[case.dtype]
    z, v = real(case.inputs), real(np.asarray(case.direction))
    top = z.argmax(axis=1)[:, None]
    e = np.exp(z - np.take_along_axis(z, top, 1))
    s = e.sum(axis=1, keepdims=True)
    p = e / s
    if gradient != "relative":
        return p * v - p * (p * v).sum(axis=1, keepdims=True)
    c = v - np.take_along_axis(v, top, 1)
    others = np.where(np.arange(z.shape[1]) == top, real(0), e)
    tail = others.sum(axis=1, keepdims=True)
    complement = np.where(np.arange(z.shape[1]) == top, tail / s, real(1) - p)
    weighed = p * c
    rest = np.stack([np.delete(weighed, j, axis=1).sum(axis=1) for j in range(z.shape[1])], axis=1)
    return p * (c * complement - rest)


def sigmoid_product(case: Case, gradient: str) -> np.ndarray:
    real = REAL[case.dtype]
    z, v = real(case.inputs), real(np.asarray(case.direction))
    y = real(case.target)
    w = real(1.0 if case.options.pos_weight is None else case.options.pos_weight)
    e = np.exp(-np.abs(z))
    p = np.where(z < 0, e / (1 + e), 1 / (1 + e))
    q = np.where(z < 0, 1 / (1 + e), e / (1 + e)) if gradient == "relative" else 1 - p
    return (w * y + (1 - y)) * p * q * v


def ratios(case: Case, gradient: str) -> np.ndarray:
    """Errors over bounds, of the entries that have a bound."""
    declared = arithmetic(case.dtype, gradient)
    if gradient == "relative":
        declared = demanded(replace(declared, gradient="division"))
    product = softmax_product if case.inputs.shape[1] > 1 else sigmoid_product
    with np.errstate(all="ignore"):
        found = product(case, gradient)
    exact = truth(case, Semantics()).gradient
    error = np.abs(to_float(subtract(exact, type(exact).from_float(found.astype(np.float64)))))
    limit = bounds(case, Semantics(), declared).gradient
    assert np.isfinite(limit).all()
    return error / limit


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize(
    ("classes", "gradient"),
    [
        (2, "division"),
        (7, "division"),
        (2, "relative"),
        (7, "relative"),
        (1, "sigmoid"),
        (1, "relative"),
    ],
)
def test_bounds_hold_and_come_near(dtype: str, classes: int, gradient: str) -> None:
    found = np.concatenate(
        [ratios(drawn(dtype, spread, classes, 70), gradient) for spread in SPREADS]
    )
    assert found.max() <= 1.0
    assert found.max() >= NEAR


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_a_positive_weight_counts(weight: float) -> None:
    case = replace(drawn("float32", 4.0, 1, 71), options=Options(pos_weight=weight))
    assert ratios(case, "sigmoid").max() <= 1.0
    assert ratios(case, "relative").max() <= 1.0


def test_a_lost_term_is_outside_of_the_demand() -> None:
    """What cancels keeps to the declared bound alone: one class has nearly everything.

    The demand has 30 u for the difference of 30 in the exponent, and some 40 u of roundings: 128 u.
    """
    case = Case(
        "cross_entropy",
        "float32",
        np.array([[30.0, 0.0, -1.0]]),
        np.array([0]),
        direction=np.array([[1.0, -2.0, 0.5]]),
    )
    declared = arithmetic("float32", "division")
    exact = abs(to_float(truth(case, Semantics()).gradient)[0, 0])
    assert bounds(case, Semantics(), declared).gradient[0, 0] > exact
    assert bounds(case, Semantics(), demanded(declared)).gradient[0, 0] < exact * 2.0**-17


@pytest.mark.parametrize("operation", ["softmax", "cross_entropy_probabilities"])
def test_other_operations_have_no_second_derivative(operation: str) -> None:
    case = Case(
        operation, "float32", np.array([[0.5, 0.5]]), np.array([0]), direction=np.ones((1, 2))
    )
    with pytest.raises(ValueError, match="no second derivative here"):
        truth(case, Semantics())
