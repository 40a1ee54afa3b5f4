"""`test_counts` for losses of probabilities, distributions and Gaussians, and for reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import arb_oracle as oracle
import numpy as np
import pytest
from counting import (
    CANCELLING,
    DEEP,
    NAMES,
    NEAR,
    QUARTER,
    ROWS,
    Tally,
    count,
    depths,
    fractions,
    inverse_loss,
    midpoints,
    nearly,
    one_hot,
    tiny_factors,
)

from lossaudit import reference as ref
from lossaudit.reference import calls
from lossaudit.reference.exact import Exact, round_exact
from lossaudit.reference.formats import FORMATS, Format

pytestmark = pytest.mark.slow

NONE = {"reduction": "none"}
ONE, ZERO = Fraction(1), Fraction(0)
GUARDS = [
    (None, 1e-7, "float64"),
    ("clip", 1e-7, "float64"),
    ("clip", 1e-12, "float64"),
    ("clip", 1e-15, "float64"),
    ("clip", 1e-7, "float32"),
    ("clamp log", 1e-7, "float64"),
]


def probabilities(rng: np.random.Generator) -> np.ndarray:
    """p with -log p near midpoints, tiny, and close to 0; ordinary ones."""
    p = rng.random(ROWS)
    p[NEAR] = np.exp(-midpoints(rng, -8, 6))
    p[DEEP] = np.where(rng.random(QUARTER) < 0.5, p[DEEP], rng.choice(tiny_factors(rng), QUARTER))
    p[CANCELLING] = 1 - 2.0 ** -rng.integers(1, 54, QUARTER).astype(float)
    return p


def guarded(guard: tuple[str | None, float, str]) -> tuple[dict[str, Any], oracle.Guard, str]:
    kind, eps, dtype = guard
    call = {"guard": kind, "guard_eps": eps, "guard_dtype": dtype}
    return call, oracle.Guard(kind, eps, dtype), "no guard" if kind is None else f"{kind} {eps:g}"


@pytest.mark.parametrize("guard", GUARDS)
def test_binary_cross_entropy(guard: tuple) -> None:
    """Subnormal results come from tiny weights: -log p of a p below 1 is at least 2**-53.

    Gradients cancel at y = p, gradients in the target at p = 1/2, losses at y outside of [0, 1]
    alone. Where a guard acts, gradients are 0.
    """
    rng = np.random.default_rng(36)
    call, known, name = guarded(guard)
    p, weight = probabilities(rng), np.ones(ROWS)
    y = np.where(rng.random(ROWS) < 0.6, 1.0, rng.random(ROWS))
    y[CANCELLING] = nearly(rng, p[CANCELLING])
    p[CANCELLING][::2] = 0.5 + rng.integers(-9, 9, QUARTER // 2) * 2.0**-53
    weight[DEEP] = tiny_factors(rng)
    call |= {"weight": weight, **NONE}
    rows = list(zip(fractions(p), fractions(y), fractions(weight), strict=True))

    def own(i: int) -> list[oracle.arb]:
        x, label, w = rows[i]
        return oracle.binary_probability(x, w * label, w * (1 - label), known)

    def in_target(i: int) -> list[oracle.arb]:
        x, _, w = rows[i]
        return oracle.binary_probability(x, w, -w, known)[:1]

    functions: list[tuple[str, Callable[..., Any], Callable[[int], list]]] = [
        ("loss", ref.binary_cross_entropy, lambda i: own(i)[:1]),
        ("gradient", ref.binary_cross_entropy_grad, lambda i: own(i)[1:]),
        ("gradient in the target", ref.binary_cross_entropy_grad_target, in_target),
    ]
    for title, function, formula in functions:
        count(
            f"BCE from probabilities, {name} in {guard[2]}, {title}",
            lambda dtype, function=function: function(p, y, dtype=dtype, **call),
            formula,
        )


@pytest.mark.parametrize("renormalise", ["no", "before", "after"])
@pytest.mark.parametrize("guard", GUARDS)
def test_cross_entropy_probabilities(guard: tuple, renormalise: str) -> None:
    """Subnormal results come from tiny factors; gradients cancel at targets like the input.

    Without renormalisation a gradient is a quotient, and cannot cancel.
    """
    rng = np.random.default_rng(37)
    call, known, name = guarded(guard)
    p, factor = rng.dirichlet(np.ones(3), ROWS), np.ones(ROWS)
    p[:, 0] = probabilities(rng)
    rest = 1 - p[NEAR, 0]
    p[NEAR, 1], p[NEAR, 2] = rest / 2, rest / 2
    q = np.array([one_hot(t, 3) for t in rng.integers(0, 3, ROWS)], dtype=float)
    q[: 2 * QUARTER] = [1.0, 0.0, 0.0]
    q[CANCELLING] = nearly(rng, p[CANCELLING])
    soft = np.arange(ROWS) % 8 == 7
    q[soft] = rng.dirichlet(np.ones(3), soft.sum())
    factor[DEEP] = tiny_factors(rng)
    call |= {"sample_weight": factor, "renormalise": renormalise, **NONE}
    rows = [
        (fractions(a), [s * w for w in fractions(b)], known, renormalise)
        for a, b, s in zip(p, q, fractions(factor), strict=True)
    ]
    title = f"CE from probabilities, {name} in {guard[2]}, renormalised {renormalise}"
    count(
        f"{title}, loss",
        lambda dtype: ref.cross_entropy_probabilities(p, q, dtype=dtype, **call),
        lambda i: oracle.class_probabilities(*rows[i])[:1],
    )
    count(
        f"{title}, gradient",
        lambda dtype: ref.cross_entropy_probabilities_grad(p, q, dtype=dtype, **call),
        lambda i: oracle.class_probabilities(*rows[i])[1:],
    )


def distributions(rng: np.random.Generator) -> np.ndarray:
    """(N, 4): the quarter of midpoints and that of cancellation are for the caller to place.

    Subnormal: [1, tiny, 0, 0]. A sixteenth are powers of two, the entropies of which are rational
    to base 2.
    """
    p = rng.dirichlet(np.ones(4), ROWS)
    p[DEEP] = [1.0, 0.0, 0.0, 0.0]
    p[DEEP, 1] = tiny_factors(rng)
    p[-QUARTER // 4 :] = 2.0 ** -rng.integers(1, 12, (QUARTER // 4, 4))
    return p


def solved(function: Callable[[np.ndarray], np.ndarray], want: np.ndarray) -> np.ndarray:
    """x in [0, 1] where an increasing function has these values, by bisection."""
    low, high = np.zeros_like(want), np.ones_like(want)
    for _ in range(70):
        middle = (low + high) / 2
        below = function(middle) < want
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def surprise(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """-sum p log q in float64: only to place inputs."""
    return -np.sum(p * np.log(np.where(p == 0, 1.0, q)), axis=-1)


def balance(p: np.ndarray) -> np.ndarray:
    """x above 1 with x log x = -sum p log p, so that the entropy of both is 0 but for rounding."""
    return 1 + 3 * solved(lambda x: (1 + 3 * x) * np.log1p(3 * x), surprise(p, p))


@pytest.mark.parametrize("base", [math.e, 2])
def test_entropies(base: float) -> None:
    """A weight above 1 makes the sum cancel; the entropy of a true distribution cannot."""
    rng = np.random.default_rng(53)
    p, unit = distributions(rng), math.log(base)
    p[NEAR] = 0.0
    p[NEAR, 0] = solved(lambda x: -x / 3 * np.log(x / 3) / unit, midpoints(rng, -9, -2)) / 3
    p[CANCELLING, 3] = balance(p[CANCELLING, :3])
    rows = [[(a, a) for a in fractions(row) if a] for row in p]
    count(
        f"entropy, base {base:.3g}",
        lambda dtype: ref.entropy(p, base, dtype=dtype),
        lambda i: [oracle.in_units(rows[i], base)],
    )


@pytest.mark.parametrize("base", [math.e, 2])
def test_cross_entropy_of_distributions(base: float) -> None:
    """Where some q_j is above 1 the sum cancels."""
    rng = np.random.default_rng(54)
    p, q, unit = distributions(rng), rng.dirichlet(np.ones(4), ROWS), math.log(base)
    p[NEAR] = [1.0, 0.0, 0.0, 0.0]
    q[NEAR, 0] = np.exp(-midpoints(rng, -8, 6) * unit)
    q[DEEP, 0], q[DEEP, 1] = 1.0, rng.random(QUARTER)
    rest = surprise(p[CANCELLING, 1:], q[CANCELLING, 1:])
    q[CANCELLING, 0] = nearly(rng, np.exp(np.minimum(rest / p[CANCELLING, 0], 600)))
    q[-QUARTER // 4 :] = 2.0 ** -rng.integers(1, 12, (QUARTER // 4, 4))
    rows = [
        [(a, b) for a, b in zip(fractions(x), fractions(y), strict=True) if a]
        for x, y in zip(p, q, strict=True)
    ]
    count(
        f"cross-entropy of distributions, base {base:.3g}",
        lambda dtype: ref.cross_entropy_distributions(p, q, base, dtype=dtype),
        lambda i: [oracle.in_units(rows[i], base)],
    )


@pytest.mark.parametrize("base", [math.e, 2])
def test_divergences(base: float) -> None:
    """Close distributions, from the first to the last digits, cancel."""
    rng = np.random.default_rng(55)
    p, q, unit = distributions(rng), rng.dirichlet(np.ones(4), ROWS), math.log(base)
    p[NEAR] = [1.0, 0.0, 0.0, 0.0]
    q[NEAR, 0] = np.exp(-midpoints(rng, -8, 6) * unit)
    q[DEEP, 0], q[DEEP, 1] = 1.0, p[DEEP, 1] * rng.uniform(0.1, 0.9, QUARTER)
    size = 2.0 ** -rng.integers(1, 53, (QUARTER, 1)).astype(float)
    q[CANCELLING] = p[CANCELLING] * (1 + size * rng.standard_normal((QUARTER, 4)))
    q = np.abs(q) + (q == 0)
    q[-QUARTER // 4 :] = 2.0 ** -rng.integers(1, 12, (QUARTER // 4, 4))
    rows = [
        [(a, b / a) for a, b in zip(fractions(x), fractions(y), strict=True) if a]
        for x, y in zip(p, q, strict=True)
    ]
    count(
        f"KL divergence, base {base:.3g}",
        lambda dtype: ref.kl_divergence(p, q, base, dtype=dtype),
        lambda i: [oracle.in_units(rows[i], base)],
    )


def test_perplexities() -> None:
    """Subnormal is x**-x of a weight x around 142; the entropy cancels for perplexities close to 1.

    Powers of two have rational entropies to base 2, and their perplexities may be powers of two.
    """
    rng = np.random.default_rng(56)
    p = distributions(rng)
    p[NEAR] = 0.0
    p[NEAR, 0] = solved(lambda x: (x / 3) ** (-x / 3), 1 + midpoints(rng, -9, -2)) / 3
    p[DEEP] = 0.0
    p[DEEP, 0] = 200 * solved(lambda x: 200 * x * np.log(np.maximum(200 * x, 1)), depths(rng))
    p[CANCELLING, 3] = balance(p[CANCELLING, :3])
    rows = [[(a, a) for a in fractions(row) if a] for row in p]

    def formula(i: int) -> list[oracle.arb]:
        bits = oracle.bits(rows[i])
        if bits is not None and bits.denominator == 1:
            return [oracle.exact(Fraction(2) ** int(bits))]
        return [oracle.surprise(rows[i]).exp()]

    count("perplexity", lambda dtype: ref.perplexity(p, dtype=dtype), formula)


def gaussians(rng: np.random.Generator, *, divergence: bool) -> list[np.ndarray]:
    """(m, s, n, t): the distance of the means leads to midpoints, or makes the sum cancel."""
    m, n, s, t = (
        rng.standard_normal(ROWS),
        np.zeros(ROWS),
        rng.random(ROWS),
        rng.uniform(1, 3, ROWS),
    )
    first = np.log(t / s) - 0.5 if divergence else np.log(t) + 0.5 * math.log(2 * math.pi)
    m[NEAR] = np.sqrt(2 * (midpoints(rng, 4, 9) - first[NEAR] - (s / t)[NEAR] ** 2 / 2)) * t[NEAR]
    s[DEEP] = t[DEEP] if divergence else s[DEEP]
    m[DEEP] = np.sqrt(2 * tiny_factors(rng)) * t[DEEP]
    if divergence:
        s[CANCELLING] = t[CANCELLING] * (1 + 2.0 ** -rng.integers(1, 50, QUARTER).astype(float))
        m[CANCELLING] *= 2.0 ** -rng.integers(1, 50, QUARTER).astype(float)
    else:
        t[CANCELLING] = rng.uniform(0.1, 0.2, QUARTER)
        s[CANCELLING] = t[CANCELLING] * rng.random(QUARTER)
        short = np.log(t) + 0.5 * math.log(2 * math.pi) + s**2 / (2 * t**2)
        m[CANCELLING] = nearly(rng, np.sqrt(np.maximum(-2 * short[CANCELLING], 0))) * t[CANCELLING]
    return [m, s, n, t]


@pytest.mark.parametrize("name", ["gaussian_cross_entropy", "gaussian_kl_divergence"])
def test_gaussians(name: str) -> None:
    """A cross-entropy is subnormal nowhere: that would need log(2 pi) to cancel in 1000 bits."""
    divergence = name == "gaussian_kl_divergence"
    inputs = gaussians(np.random.default_rng(57), divergence=divergence)
    rows = list(zip(*(x.tolist() for x in inputs), strict=True))
    function = getattr(ref, name)
    count(
        name,
        lambda dtype: function(*inputs, dtype=dtype),
        lambda i: [oracle.gaussians(*rows[i])[divergence]],
    )


def pairs_of_logits(rng: np.random.Generator, factor: np.ndarray) -> np.ndarray:
    """(N, 2): x with f_0 log(1 + e**x_0) + f_1 log(1 + e**x_1) in the quarters.

    Cancelling: a loss that is lost in the other one.
    """
    x = rng.standard_normal((ROWS, 2)) * 5
    x[NEAR, 1] = -rng.uniform(0, 60, QUARTER)
    want = midpoints(rng, 2, 8) - factor[NEAR, 1] * np.log1p(np.exp(x[NEAR, 1]))
    x[NEAR, 0] = inverse_loss(want / factor[NEAR, 0])
    x[DEEP] = np.stack([-depths(rng), -depths(rng)], axis=1)
    x[CANCELLING, 0], x[CANCELLING, 1] = -rng.uniform(20, 700, QUARTER), rng.uniform(1, 9, QUARTER)
    return x


def in_formats(patch: pytest.MonkeyPatch, call: Callable[[], Any]) -> dict[str, np.ndarray]:
    """A reduced number in every format: all are roundings of one exact number, computed once."""
    found: list[Exact] = []

    def kept(exact: Exact, fmt: Format) -> Any:
        found.append(exact)
        return round_exact(exact, fmt)

    patch.setattr(calls, "round_exact", kept)
    result = call()
    assert len(found) == 1
    values = {name: np.asarray(round_exact(found[0], fmt)) for name, fmt in FORMATS.items()}
    assert result == values["float64"]
    return values


@pytest.mark.parametrize("mean", ["sum", "weights", "valid", "rows", "sample_weights"])
def test_reductions_of_cross_entropy(mean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows, of which one is ignored and one has the sample weight 0; weights for the rest."""
    rng = np.random.default_rng(58)
    w, s = np.array([0.3, 1.7]), np.array([0.5, 1.25, 1.0, 0.0])
    target = np.array([0, 0, -1, 1])
    divisor = {
        "sum": ONE,
        "weights": sum(fractions([0.3, 0.3, 1.7])),
        "valid": Fraction(3),
        "rows": Fraction(4),
        "sample_weights": sum(fractions([0.5, 1.25])),
    }[mean]
    by = [Fraction(0.3) * f / divisor for f in fractions(s[:2])]
    x = pairs_of_logits(rng, np.tile(np.array(by, dtype=float), (ROWS, 1))).tolist()
    call = {"weight": w, "sample_weight": s, "ignore_index": -1}
    call |= {"reduction": "sum"} if mean == "sum" else {"mean": mean}
    tally = Tally(f"CE, {'sum' if mean == 'sum' else 'mean over ' + mean}")

    def formula(row: list[float]) -> list[oracle.arb]:
        losses = [oracle.cross_entropy([0.0, v], [f, ZERO]) for f, v in zip(by, row, strict=True)]
        return [sum(losses, oracle.arb(0))]

    for i, row in enumerate(x):
        z = np.array([[0.0, row[0]], [0.0, row[1]], [1.0, 2.0], [3.0, 4.0]])
        got = in_formats(monkeypatch, lambda z=z: ref.cross_entropy(z, target, **call))
        tally.add(i, got, oracle.rounded(lambda row=row: formula(row), NAMES))
    tally.done()


@pytest.mark.parametrize("mean", ["sum", "rows", "sample_weights"])
def test_reductions_of_binary_cross_entropy(mean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(59)
    s, y = np.array([0.75, 1.5]), np.zeros(2)
    divisor = {"sum": ONE, "rows": Fraction(2), "sample_weights": Fraction(9, 4)}[mean]
    by = [f / divisor for f in fractions(s)]
    x = pairs_of_logits(rng, np.tile(np.array(by, dtype=float), (ROWS, 1)))
    call: dict[str, Any] = {"sample_weight": s}
    call |= {"reduction": "sum"} if mean == "sum" else {"mean": mean}
    tally = Tally(f"BCE, {'sum' if mean == 'sum' else 'mean over ' + mean}")

    def formula(row: np.ndarray) -> list[oracle.arb]:
        pairs = zip(by, row.tolist(), strict=True)
        return [sum((oracle.binary_cross_entropy(v, ZERO, f) for f, v in pairs), oracle.arb(0))]

    for i, row in enumerate(x):
        got = in_formats(
            monkeypatch,
            lambda row=row: ref.binary_cross_entropy_with_logits(row, y, **call),
        )
        tally.add(i, got, oracle.rounded(lambda row=row: formula(row), NAMES))
    tally.done()


@pytest.mark.parametrize("classes", ["sum", "mean"])
def test_sums_over_classes(classes: str) -> None:
    rng = np.random.default_rng(60)
    weight = np.array([0.75, 1.25])
    by = [f / (2 if classes == "mean" else 1) for f in fractions(weight)]
    x = pairs_of_logits(rng, np.tile(np.array(by, dtype=float), (ROWS, 1)))
    y, rows = np.zeros_like(x), x.tolist()
    call = {"classes": classes, "weight": weight}

    def formula(i: int) -> list[oracle.arb]:
        terms = zip(rows[i], by, strict=True)
        return [sum((oracle.binary_cross_entropy(v, ZERO, f) for v, f in terms), oracle.arb(0))]

    count(
        f"BCE, {classes} over classes",
        lambda dtype: ref.binary_cross_entropy_with_logits(x, y, dtype=dtype, **NONE, **call),
        formula,
    )


@pytest.mark.parametrize("mean", ["weights", "sample_weights"])
def test_gradients_of_means(mean: str) -> None:
    """A divisor that no float64 holds, and a cotangent, in every entry."""
    rng = np.random.default_rng(61)
    s, w, cotangent = rng.random(ROWS), np.array([0.3, 1.7]), 1.7
    x = pairs_of_logits(rng, np.ones((ROWS, 2)))[:, 0]
    z, target = np.stack([np.zeros(ROWS), x], axis=1), rng.integers(0, 2, ROWS)
    used = w[target] if mean == "weights" else s
    by = Fraction(cotangent) / sum(fractions(used), ZERO)
    factors = fractions(w)
    whole = [by * f * factors[t] for f, t in zip(fractions(s), target, strict=True)]
    rows = [
        (row, [f * a for a in one_hot(t, 2)])
        for row, f, t in zip(z.tolist(), whole, target, strict=True)
    ]
    call = {"weight": w, "sample_weight": s, "mean": mean, "cotangent": cotangent}
    count(
        f"CE gradient, mean over {mean}",
        lambda dtype: ref.cross_entropy_grad(z, target, dtype=dtype, **call),
        lambda i: oracle.cross_entropy_gradient(*rows[i]),
    )
