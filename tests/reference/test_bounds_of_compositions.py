"""Bounds of the losses that people compose: log of a softmax, clamped logs of a sigmoid."""

from __future__ import annotations

import numpy as np
import pytest

from lossaudit.reference.bounds import bounds, demanded
from lossaudit.reference.exact import to_float
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Arithmetic, Case, Floats, Semantics

REAL = {"float32": np.float32, "float64": np.float64}
# NumPy's exp and log in units of u: within 4 ulps (numpy/numpy#13134 and #19478), log1p too; its
# sigmoid below is exp, a sum and a quotient.
C = 8.0
SEMANTICS = Semantics()


def arithmetic(dtype: str, form: str, gradient: str) -> Arithmetic:
    c = dict.fromkeys(("c_exp", "c_log", "c_log1p"), C)
    rest = {"height": "sequential", "flush": False, "origin": "NumPy"}
    return Arithmetic(form, gradient, dtype, dtype, **c, c_sigmoid=C + 2, **rest)


def log_of_softmax(case: Case) -> tuple[Floats, Floats]:
    z = case.inputs.astype(REAL[case.dtype])
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    hot = np.equal(np.arange(z.shape[1]), case.target[:, None])
    picked = (p * hot).sum(axis=1, keepdims=True)
    by_share = np.where(hot, -1 / picked, 0).astype(z.dtype)
    slope = p * (by_share - (by_share * p).sum(axis=1, keepdims=True))
    return -np.log(picked)[:, 0], slope


def clamped(case: Case) -> tuple[Floats, Floats]:
    z, y = case.inputs.astype(REAL[case.dtype]), case.target.astype(REAL[case.dtype])
    one = z.dtype.type(1)
    p = one / (one + np.exp(-z))
    floor = z.dtype.type(-100)
    loss = (y - one) * np.maximum(np.log1p(-p), floor) - y * np.maximum(np.log(p), floor)
    slope = (p - y) / np.maximum(p * (one - p), z.dtype.type(1e-12)) * (one - p) * p
    return loss[:, 0], slope


def classes(dtype: str, gaps: Floats) -> Case:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((gaps.size, 4))
    z[:, 0] += gaps
    z = z.astype(np.float32).astype(np.float64)
    return Case("cross_entropy", dtype, z, np.arange(gaps.size) % 4)


def logits(dtype: str, gaps: Floats) -> Case:
    rng = np.random.default_rng(2)
    z = (gaps * rng.choice([-1.0, 1.0], gaps.size)).astype(np.float32).astype(np.float64)
    y = rng.integers(0, 5, gaps.size) / 4
    return Case("binary_cross_entropy_with_logits", dtype, z[:, None], y[:, None])


GAPS = {"float32": np.linspace(0, 80, 200), "float64": np.linspace(0, 600, 200)}
FORMS = {
    "log of softmax": (classes, log_of_softmax, "log softmax", "softmax product"),
    "clamped": (logits, clamped, "clamped", "chain"),
}


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", FORMS)
def test_plain_implementations_lie_inside(name: str, dtype: str):
    make, implementation, form, gradient = FORMS[name]
    case = make(dtype, GAPS[dtype])
    with np.errstate(all="ignore"):
        loss, slope = implementation(case)
    exact = truth(case, SEMANTICS)
    bound = bounds(case, SEMANTICS, arithmetic(dtype, form, gradient))
    assert (np.abs(loss - to_float(exact.loss)) <= bound.loss).all()
    assert (np.abs(slope - to_float(exact.gradient)) <= bound.gradient).all()


@pytest.mark.parametrize("name", FORMS)
def test_away_from_saturation_the_bounds_are_narrow(name: str):
    """Tens of units of roundoff, where logs and probabilities are of the order of 1."""
    make, _, form, gradient = FORMS[name]
    bound = bounds(
        make("float64", np.linspace(0, 2, 50)), SEMANTICS, arithmetic("float64", form, gradient)
    )
    assert bound.loss.max() < 1e3 * 2.0**-53
    assert bound.gradient.max() < 1e3 * 2.0**-53


def test_a_probability_that_is_lost_leaves_no_bound():
    case = Case("cross_entropy", "float32", np.array([[0.0, 200.0]]), np.array([0]))
    declared = arithmetic("float32", "log softmax", "softmax product")
    assert bounds(case, SEMANTICS, declared).void.all()
    assert not bounds(case, SEMANTICS, demanded(declared)).void.any()


def test_what_a_clamp_costs_is_declared_but_not_granted():
    """sigmoid(20) rounds to 1 in float32: the loss is 100 where 20 is right."""
    case = Case(
        "binary_cross_entropy_with_logits", "float32", np.array([[20.0]]), np.array([[0.0]])
    )
    with np.errstate(divide="ignore"):
        loss, _ = clamped(case)
    declared = arithmetic("float32", "clamped", "chain")
    assert loss[0] == 100
    assert 80 <= bounds(case, SEMANTICS, declared).loss[0] <= 101
    assert bounds(case, SEMANTICS, demanded(declared)).loss[0] < 1e-5
