"""`test_counts` for losses of logits with options, their further derivatives, and focal losses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import arb_oracle as oracle
import numpy as np
import pytest
from counting import (
    CANCELLING,
    DEEP,
    NEAR,
    QUARTER,
    ROWS,
    count,
    depths,
    fractions,
    inverse_loss,
    loss_logits,
    midpoints,
    nearly,
    one_hot,
    share_logits,
    tiny_factors,
)

from lossaudit import reference as ref

pytestmark = pytest.mark.slow

NONE = {"reduction": "none"}
ONE, ZERO = Fraction(1), Fraction(0)


def softmax(z: np.ndarray) -> np.ndarray:
    """In float64: only to place inputs."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_sum(z: np.ndarray) -> np.ndarray:
    """In float64: only to place inputs."""
    peak = z.max(axis=1)
    return peak + np.log(np.exp(z - peak[:, None]).sum(axis=1))


def count_both(
    what: str, name: str, arrays: tuple, rows: list[tuple], formulas: tuple, **call: Any
) -> None:
    """Loss and gradient of the functions `name` and `name`_grad."""
    for suffix, title, formula in zip(("", "_grad"), ("loss", "gradient"), formulas, strict=True):
        function = getattr(ref, name + suffix)
        count(
            f"{what}, {title}",
            lambda dtype, function=function: function(*arrays, dtype=dtype, **NONE, **call),
            lambda i, formula=formula: formula(*rows[i]),
            len(rows),
        )


SOFTMAX = (lambda z, a: [oracle.cross_entropy(z, a)], oracle.cross_entropy_gradient)
BINARY = (
    lambda z, up, down: [oracle.binary_cross_entropy(z, up, down)],
    lambda z, up, down: [oracle.binary_gradient(z, up, down)],
)


@pytest.mark.parametrize("kind", ["weights", "eps/(K-1)", "weights and eps/(K-1)"])
def test_weighted_and_smoothed_cross_entropy(kind: str) -> None:
    """A class of weight 0 has subnormal gradients in spite of smoothing.

    With smoothing no loss is subnormal: the others of a confident class lie far below, and their
    share of the target counts the gaps. Where the softmax is that of the target, gradients cancel.
    """
    rng = np.random.default_rng(41)
    weight = np.array([0.3, 1.7, 0.0]) if "weights" in kind else np.ones(3)
    eps = 0.1 if "eps" in kind else 0.0
    x = loss_logits(rng, weight[0])
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[DEEP, 2] = -depths(rng)
    target = np.where(np.arange(x.size) < 3 * QUARTER, 0, rng.integers(0, 3, x.size))
    options = {"weight": weight, "label_smoothing": eps, "smoothing": "eps/(K-1)"}
    shares = [
        oracle.coefficients(one_hot(t, 3), fractions(weight), Fraction(eps), "eps/(K-1)")
        for t in target
    ]
    if eps:
        a = np.array(shares[0], dtype=float)
        z[CANCELLING] = nearly(rng, np.log(np.where(a, a, 2.0**-30)))
    rows = list(zip(z.tolist(), shares, strict=True))
    count_both(f"CE, {kind}", "cross_entropy", (z, target), rows, SOFTMAX, **options)


def test_signed_targets_with_weights() -> None:
    """Targets whose sum nearly cancels when it is weighted: the sum itself is what is tiny."""
    rng = np.random.default_rng(42)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, np.minimum(0, x) - rng.choice([2, 35, 300], x.size)], axis=1)
    weight, target = np.array([0.3, 1.7, 0.6]), rng.dirichlet(np.ones(3), x.size)
    target[:, 1] = nearly(rng, -target[:, 0] * weight[0] / weight[1])
    target[rng.random(x.size) < 0.7, 2] = 0.0
    sample = rng.random(x.size)
    shares = [
        [s * a for a in oracle.coefficients(fractions(q), fractions(weight), ZERO, "eps/K")]
        for s, q in zip(fractions(sample), target, strict=True)
    ]
    rows = list(zip(z.tolist(), shares, strict=True))
    options = {"weight": weight, "sample_weight": sample}
    count_both("CE, signed targets", "cross_entropy", (z, target), rows, SOFTMAX, **options)


@pytest.mark.parametrize(
    ("temperature", "z_loss"), [(2.0, 0.0), (0.7, 0.0), (1.0, 1e-4), (1.0, -0.01), (0.7, 0.25)]
)
def test_temperature_and_z_loss(temperature: float, z_loss: float) -> None:
    """With z-loss gradients cancel at p (1 + 2 c l) = 1, and with c < 0 losses at L = |c| l**2."""
    rng = np.random.default_rng(43)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x], axis=1)
    level = log_sum(z[CANCELLING])
    if z_loss > 0:
        share = softmax(z[CANCELLING])[:, 0]
        z[CANCELLING] += ((1 / share - 1) / (2 * z_loss) - level)[:, None]
    if z_loss < 0:
        z[CANCELLING] += (np.sqrt(level / -z_loss) - level)[:, None]
    z *= temperature
    target, unit = np.zeros(ROWS, dtype=np.int64), one_hot(0, 2)
    heat, factor = Fraction(temperature), Fraction(z_loss)
    formulas = (
        lambda row: oracle.tempered(row, unit, heat, factor)[:1],
        lambda row: oracle.tempered(row, unit, heat, factor)[1:],
    )
    count_both(
        f"CE, temperature {temperature}, z-loss {z_loss}", "cross_entropy", (z, target),
        [(row,) for row in z.tolist()], formulas, temperature=temperature, z_loss=z_loss,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "weighted", "smoothed"])
def test_cross_entropy_in_the_target(kind: str) -> None:
    """Factors times -log p_j, a sum of terms of one sign: the only cancellation is in 1 - p_j."""
    rng = np.random.default_rng(44)
    weight = np.ones(3) if kind == "plain" else np.array([0.3, 1.7, 0.9])
    eps = 0.1 if kind == "smoothed" else 0.0
    x = loss_logits(rng, weight[0] * (1 - eps))
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[NEAR, 2] = -np.inf
    finite = np.where(np.isinf(z), -2000.0, z)
    q = rng.random(z.shape)
    scales = [w * (1 - Fraction(eps)) for w in fractions(weight)]
    units = [[a * int(j == k) for k in range(3)] for j, a in enumerate(scales)]
    rows = finite.tolist()
    count(
        f"CE, gradient in the target, {kind}",
        lambda dtype: ref.cross_entropy_grad_target(
            finite, q, weight=weight, label_smoothing=eps, dtype=dtype, **NONE
        ),
        lambda i: [oracle.cross_entropy(rows[i], unit) for unit in units],
    )


def test_cross_entropy_hessian_products() -> None:
    """The vector carries the first product to a midpoint, or is where a product cancels."""
    rng = np.random.default_rng(45)
    z = np.stack([np.zeros(ROWS), loss_logits(rng), rng.standard_normal(ROWS)], axis=1)
    v, q = rng.standard_normal((ROWS, 3)), rng.random((ROWS, 3))
    z[NEAR] = rng.standard_normal((QUARTER, 3))
    p = softmax(z)
    product = q.sum(axis=1) * p[:, 0] * (v[:, 0] - (p * v).sum(axis=1))
    v[NEAR] *= (midpoints(rng, -8, 8) / product[NEAR])[:, None]
    z[CANCELLING, 1] = rng.standard_normal(QUARTER)
    p = softmax(z)
    v[CANCELLING, 0] = nearly(rng, ((p * v).sum(axis=1) - p[:, 0] * v[:, 0]) / (1 - p[:, 0]))[
        CANCELLING
    ]
    rows = list(zip(z.tolist(), v.tolist(), [sum(fractions(a), ZERO) for a in q], strict=True))
    count(
        "CE, Hessian product",
        lambda dtype: ref.cross_entropy_hvp(z, q, v, dtype=dtype, **NONE),
        lambda i: oracle.hessian_product(*rows[i]),
    )


def test_cross_entropy_hessian_products_with_options() -> None:
    rng = np.random.default_rng(46)
    x = loss_logits(rng)
    z = np.stack([np.zeros(ROWS), x, x - rng.exponential(3, ROWS)], axis=1)
    v, t, weight = rng.standard_normal((ROWS, 3)), rng.integers(0, 3, ROWS), [0.3, 1.7, 0.9]
    call = {"weight": weight, "label_smoothing": 0.1, "smoothing": "eps/(K-1)"}
    wholes = [
        sum(oracle.coefficients(one_hot(j, 3), fractions(weight), Fraction(0.1), "eps/(K-1)"), ZERO)
        for j in range(3)
    ]
    rows = [(z[i].tolist(), v[i].tolist(), wholes[t[i]]) for i in range(ROWS)]
    count(
        "CE, Hessian product with weights and smoothing",
        lambda dtype: ref.cross_entropy_hvp(z, t, v, dtype=dtype, **NONE, **call),
        lambda i: oracle.hessian_product(*rows[i]),
    )


def binary_options(rng: np.random.Generator, kind: str, size: int) -> tuple[dict, list[tuple]]:
    """pos_weight, smoothing and weight as arguments, and as (emphasis, eps, weight) of each row."""
    call: dict[str, Any] = {"pos_weight": rng.random(size) * 3}
    if kind != "pos_weight":
        call |= {"label_smoothing": 0.1}
    if kind == "smoothing":
        call |= {"pos_weight": np.ones(size)}
    if kind == "all":
        call |= {"weight": rng.random(size)}
    eps = Fraction(call.get("label_smoothing", 0.0))
    weight = call.get("weight", np.ones(size))
    rows = zip(fractions(call["pos_weight"]), fractions(weight), strict=True)
    return call, [(p, eps, w) for p, w in rows]


def sides(y: float, emphasis: Fraction, eps: Fraction, weight: Fraction) -> tuple:
    """The factors of -log sigmoid(z) and -log(1 - sigmoid(z))."""
    smooth = Fraction(y) * (1 - eps) + eps / 2
    return weight * emphasis * smooth, weight * (1 - smooth)


@pytest.mark.parametrize("kind", ["pos_weight", "smoothing", "all"])
def test_binary_cross_entropy_with_options(kind: str) -> None:
    """Gradients cancel where sigmoid(z) = c1 / (c1 + c0).

    Losses are subnormal without smoothing alone: with it both sides count.
    """
    rng = np.random.default_rng(47)
    z = np.concatenate([loss_logits(rng), share_logits(rng)])
    call, options = binary_options(rng, kind, z.size)
    y = rng.choice([0.0, 1.0, 0.25], z.size)
    y[: z.size // 2] = 0.0
    up, down = np.array(
        [[float(a) for a in sides(b, *row)] for b, row in zip(y, options, strict=True)]
    ).T
    if kind == "pos_weight":
        up[CANCELLING], y[CANCELLING] = call["pos_weight"][CANCELLING] * 0.3, 0.3
        down[CANCELLING] = 0.7
    z[CANCELLING] = nearly(rng, np.log(up[CANCELLING]) - np.log(down[CANCELLING]))
    rows = [(x, *sides(b, *row)) for x, b, row in zip(z.tolist(), y, options, strict=True)]
    name = "binary_cross_entropy_with_logits"
    count_both(f"BCE, {kind}", name, (z, y), rows, BINARY, **call)


def test_binary_targets_outside_of_the_interval() -> None:
    """There the coefficients have two signs, and their sum can be tiny."""
    rng = np.random.default_rng(48)
    z, p, w = loss_logits(rng), rng.uniform(1.5, 4, ROWS), rng.random(ROWS)
    z[NEAR] = np.ldexp(rng.standard_normal(QUARTER), -rng.integers(0, 200, QUARTER))
    y = nearly(rng, 1 / (1 - p))
    rows = [
        (x, *sides(b, e, ZERO, f))
        for x, b, e, f in zip(z.tolist(), y, fractions(p), fractions(w), strict=True)
    ]
    call = {"pos_weight": p, "weight": w}
    name = "binary_cross_entropy_with_logits"
    count_both("BCE, signed coefficients", name, (z, y), rows, BINARY, **call)


@pytest.mark.parametrize("kind", ["pos_weight", "smoothing", "all"])
def test_binary_cross_entropy_in_the_target(kind: str) -> None:
    """(p softplus(-z) - softplus(z)) times factors: cancels for p close to 1 at tiny z.

    Subnormal results are there for p = 1 (-z itself), and where the weights are tiny.
    """
    rng = np.random.default_rng(49)
    z = rng.standard_normal(ROWS) * 5
    call, options = binary_options(rng, kind, ROWS)
    soft = np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0)
    z[DEEP] = tiny_factors(rng) * rng.choice([-1, 1], QUARTER)
    if kind == "smoothing":
        z[NEAR] = midpoints(rng, -8, 8) / 0.9
        call["pos_weight"] = np.where(np.arange(ROWS) < 3 * QUARTER, 1.0, rng.random(ROWS) * 3)
    else:
        call["pos_weight"][NEAR] = (midpoints(rng, -8, 8) + soft[NEAR]) / (soft - z)[NEAR]
        call["pos_weight"][DEEP] = 1.0
    if kind == "all":
        z[DEEP], call["weight"][DEEP] = rng.standard_normal(QUARTER), tiny_factors(rng)
    z[CANCELLING] = np.ldexp(rng.standard_normal(QUARTER), -rng.integers(0, 80, QUARTER))
    soft = np.log1p(np.exp(-np.abs(z[CANCELLING]))) + np.maximum(z[CANCELLING], 0)
    call["pos_weight"][CANCELLING] = nearly(rng, soft / (soft - z[CANCELLING]))
    weight = fractions(call.get("weight", np.ones(ROWS)))
    scales = [w * (1 - eps) for w, (_, eps, _) in zip(weight, options, strict=True)]
    rows = [
        (x, s * e, -s)
        for x, s, e in zip(z.tolist(), scales, fractions(call["pos_weight"]), strict=True)
    ]
    y = rng.random(ROWS)
    count(
        f"BCE, gradient in the target, {kind}",
        lambda dtype: ref.binary_cross_entropy_with_logits_grad_target(
            z, y, dtype=dtype, **NONE, **call
        ),
        lambda i: [oracle.binary_cross_entropy(*rows[i])],
    )


@pytest.mark.parametrize("kind", ["pos_weight", "smoothing", "all"])
def test_binary_hessian_products(kind: str) -> None:
    """Only the sum of the coefficients can cancel, for targets outside [0, 1]."""
    rng = np.random.default_rng(50)
    z, v = loss_logits(rng), rng.standard_normal(ROWS)
    call, options = binary_options(rng, kind, ROWS)
    y = rng.random(ROWS)
    p = call["pos_weight"][CANCELLING]
    if kind != "smoothing":
        y[CANCELLING] = nearly(rng, 1 / (1 - p))
    z[NEAR], v[NEAR] = rng.standard_normal(QUARTER), 1.0
    whole = [sum(sides(b, *row)) for b, row in zip(y, options, strict=True)]
    share = 1 / (1 + np.exp(-z[NEAR]))
    value = np.array([float(a) for a in whole[NEAR]]) * share * (1 - share)
    v[NEAR] = midpoints(rng, -8, 8) / value
    rows = [(x, a * by) for x, a, by in zip(z.tolist(), whole, fractions(v), strict=True)]
    count(
        f"BCE, Hessian product, {kind}",
        lambda dtype: ref.binary_cross_entropy_with_logits_hvp(
            z, y, v, dtype=dtype, **NONE, **call
        ),
        lambda i: [oracle.binary_hessian_product(*rows[i])],
    )


def focal_logits(rng: np.random.Generator, gamma: float) -> np.ndarray:
    """x with focal losses of [0, x], class 0, near midpoints, subnormal, saturated and ordinary."""
    near = midpoints(rng, -8, 4)
    low, high = np.full(QUARTER, -60.0), np.full(QUARTER, 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        loss = np.log1p(np.exp(-np.abs(middle))) + np.maximum(middle, 0)
        below = loss / (1 + np.exp(-middle)) ** gamma < near
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    saturated = rng.uniform(-60, -20, QUARTER)
    deep = -depths(rng, 1 / (1 + gamma))
    return np.concatenate([low, deep, saturated, rng.standard_normal(QUARTER) * 5])


@pytest.mark.parametrize(("gamma", "alpha"), [(0.5, None), (1.0, None), (2.0, [0.25, 0.75, 1.0])])
def test_focal(gamma: float, alpha: list[float] | None) -> None:
    """What cancels is 1 - p at saturated logits alone: no two terms have different signs."""
    rng = np.random.default_rng(51)
    x = focal_logits(rng, gamma)
    if alpha is not None:
        x[NEAR] = inverse_loss(midpoints(rng, -8, 8))
    z = np.stack([np.zeros(ROWS), x, x - rng.exponential(3, ROWS)], axis=1)
    z[NEAR, 2] = -2000.0
    target = np.where(np.arange(ROWS) < 3 * QUARTER, 0, rng.integers(0, 3, ROWS))
    weight = fractions(np.ones(3) if alpha is None else alpha)
    rows = [(z[i].tolist(), int(target[i]), gamma, weight[target[i]]) for i in range(ROWS)]
    call = {"gamma": gamma, "alpha": alpha}
    count(
        f"focal, gamma {gamma}",
        lambda dtype: ref.focal(z, target, dtype=dtype, **call),
        lambda i: oracle.focal(*rows[i])[:1],
    )
    count(
        f"focal gradient, gamma {gamma}",
        lambda dtype: ref.focal_grad(z, target, dtype=dtype, **call),
        lambda i: oracle.focal(*rows[i])[1:],
    )


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (1.5, 0.25)])
def test_binary_focal(gamma: float, alpha: float | None) -> None:
    rng = np.random.default_rng(52)
    x = focal_logits(rng, gamma)
    y = rng.integers(0, 2, ROWS)
    z = np.where(y == 1, -x, x)
    factors = [Fraction(1)] * 2 if alpha is None else fractions([1 - alpha, alpha])
    rows = [([0.0, z[i]], int(y[i]), gamma, factors[y[i]]) for i in range(ROWS)]
    count(
        f"binary focal, gamma {gamma}",
        lambda dtype: ref.binary_focal(z, y, gamma=gamma, alpha=alpha, dtype=dtype),
        lambda i: oracle.focal(*rows[i])[:1],
    )
