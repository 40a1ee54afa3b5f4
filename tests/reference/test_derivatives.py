"""Gradients in the targets and products with the Hessian: equal to the rounded value of Arb."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit import reference as ref

NAMES = ("float64", "float32", "bfloat16", "float16")
SCALES = (0.0, 1e-3, 1.0, 10.0, 100.0, 700.0, 3000.0)


def wrong(got, formula) -> int:
    """Values that are not the rounded ones, in all formats together."""
    want = oracle.rounded(formula, NAMES)
    found = 0
    for name in NAMES:
        here = np.asarray(got[name]).astype(np.float64).reshape(-1)
        found += int(np.sum(here != want[name]))
    return found


def in_formats(function, *arrays, **options) -> dict[str, np.ndarray]:
    return {name: function(*arrays, dtype=name, **options) for name in NAMES}


def logits(rng: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    z = rng.standard_normal((rows, classes)) * rng.choice(SCALES, (rows, 1))
    z[: rows // 4] = np.round(z[: rows // 4])
    return z


@pytest.mark.parametrize("kind", ["plain", "weighted", "smoothed"])
def test_cross_entropy_in_the_target(kind: str) -> None:
    rng = np.random.default_rng(61)
    z = logits(rng, 120, 3)
    q, w, s = rng.random((120, 3)), rng.random(3), rng.random(120)
    options, factor = {"reduction": "none"}, np.full((120, 3), Fraction(1))
    if kind != "plain":
        options |= {"weight": w, "sample_weight": s}
        factor = np.array([[Fraction(a) * Fraction(b) for b in w] for a in s])
    if kind == "smoothed":
        options |= {"label_smoothing": 0.1}
        factor = factor * (1 - Fraction(0.1))
    got = in_formats(ref.cross_entropy_grad_target, z, q, **options)

    def formula() -> list:
        found = []
        for i, row in enumerate(z.tolist()):
            for j in range(3):
                unit = [factor[i, j] * int(k == j) for k in range(3)]
                found.append(oracle.cross_entropy(row, unit))
        return found

    assert wrong(got, formula) == 0


def test_cross_entropy_in_the_target_at_infinities() -> None:
    got = ref.cross_entropy_grad_target([[0.0, -np.inf]], [[1.0, 0.0]])
    assert got.tolist() == [[0.0, np.inf]]
    got = ref.cross_entropy_grad_target([[0.0, -np.inf]], [[1.0, 0.0]], weight=[1.0, 0.0])
    assert got.tolist() == [[0.0, 0.0]]
    assert np.isnan(ref.cross_entropy_grad_target([[0.0, np.nan]], [[1.0, 0.0]])).all()
    with pytest.raises(ValueError, match="class indices"):
        ref.cross_entropy_grad_target([[0.0, 1.0]], [0])


def test_binary_cross_entropy_in_the_target() -> None:
    rng = np.random.default_rng(62)
    z = logits(rng, 400, 1)[:, 0]
    y, p, w = rng.random(400), rng.random(400) * 3, rng.random(400)
    plain = ref.binary_cross_entropy_with_logits_grad_target(z, y, reduction="none")
    assert plain.tolist() == (-z).tolist()
    call = {"pos_weight": p, "weight": w, "label_smoothing": 0.25, "reduction": "none"}
    got = in_formats(ref.binary_cross_entropy_with_logits_grad_target, z, y, **call)

    def formula() -> list:
        scale = [Fraction(v) * Fraction(3, 4) for v in w]
        return [
            oracle.binary_cross_entropy(x, Fraction(b) * s, -s)
            for x, b, s in zip(z.tolist(), p, scale, strict=True)
        ]

    assert wrong(got, formula) == 0


def test_binary_cross_entropy_of_probabilities_in_the_target() -> None:
    rng = np.random.default_rng(63)
    p = np.concatenate(
        [
            rng.random(150),
            2.0 ** -rng.integers(1, 1000, 50),
            1 - 2.0 ** -rng.integers(1, 53, 50).astype(float),
        ]
    )
    y = rng.random(p.size)
    got = in_formats(ref.binary_cross_entropy_grad_target, p, y, reduction="none")

    def formula() -> list:
        return [oracle.log_fraction((1 - Fraction(x)) / Fraction(x)) for x in p.tolist()]

    assert wrong(got, formula) == 0
    edge = ref.binary_cross_entropy_grad_target([0.0, 0.5, 1.0], [1.0, 1, 1], reduction="none")
    assert edge.tolist() == [np.inf, 0.0, -np.inf]
    clamp = ref.binary_cross_entropy_grad_target([0.0], [1.0], reduction="none", guard="clamp log")
    assert clamp.tolist() == [100.0]


@pytest.mark.parametrize("guard", [None, "clip", "clamp log"])
@pytest.mark.parametrize("renormalise", ["no", "before", "after"])
def test_cross_entropy_of_probabilities_in_the_target(guard: str | None, renormalise: str) -> None:
    rng = np.random.default_rng(67)
    p, q = rng.random((90, 3)), rng.random((90, 3))
    p[::3, 0] = 2.0 ** -rng.integers(1, 300, 30)
    p[1::3] /= p[1::3].sum(axis=1, keepdims=True)
    w, s = rng.random(3), rng.random(90)
    call = {"weight": w, "sample_weight": s, "label_smoothing": 0.25, "reduction": "none"}
    call |= {"guard": guard, "guard_eps": 1e-7, "renormalise": renormalise}
    got = in_formats(ref.cross_entropy_probabilities_grad_target, p, q, **call)
    low, high = Fraction(1e-7), Fraction(1 - 1e-7)

    def clip(row: list[Fraction]) -> list[Fraction]:
        return [min(max(x, low), high) for x in row] if guard == "clip" else row

    def formula() -> list:
        found = []
        for row, sample in zip(p.tolist(), s.tolist(), strict=True):
            guarded = [Fraction(x) for x in row]
            if renormalise == "before":
                guarded = clip([x / sum(guarded) for x in guarded])
            else:
                guarded = clip(guarded)
            if renormalise == "after":
                guarded = [x / sum(guarded) for x in guarded]
            for x, emphasis in zip(guarded, w.tolist(), strict=True):
                own = Fraction(sample) * Fraction(emphasis) * Fraction(3, 4)
                surprise = oracle.log_fraction(1 / x)
                if guard == "clamp log" and surprise > 100:
                    surprise = oracle.exact(Fraction(100))
                found.append(oracle.exact(own) * surprise)
        return found

    assert wrong(got, formula) == 0


def test_cross_entropy_of_probabilities_in_the_target_at_the_edges() -> None:
    gradient = ref.cross_entropy_probabilities_grad_target
    assert gradient([[0.0, 1.0]], [[1.0, 0.0]]).tolist() == [[np.inf, 0.0]]
    assert gradient([[0.0, 1.0]], [[1.0, 0.0]], weight=[0.0, 1.0]).tolist() == [[0.0, 0.0]]
    assert gradient([[0.0, 1.0]], [[1.0, 0.0]], guard="clamp log").tolist() == [[100.0, 0.0]]
    assert np.isnan(gradient([[-0.5, 1.0]], [[1.0, 0.0]])).all()
    assert np.isnan(gradient([[0.5, np.nan]], [[1.0, 0.0]])).all()
    by_two = gradient([[0.5, 0.25]] * 2, [[1.0, 0.0]] * 2, cotangent=2.0)
    assert by_two.tolist() == [[-np.log(0.5), -np.log(0.25)]] * 2
    with pytest.raises(ValueError, match="class indices"):
        gradient([[0.5, 0.5]], [0])


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_hessian_products(classes: int) -> None:
    rng = np.random.default_rng(64)
    z, t = logits(rng, 160, classes), rng.integers(0, classes, 160)
    z[::9, 0] = z[::9, -1]
    v = rng.standard_normal((160, classes)) * 10.0 ** rng.integers(-3, 4, (160, 1))
    v[::3] = np.round(v[::3])
    s = rng.random(160)
    call = {"reduction": "none", "sample_weight": s}
    got = in_formats(ref.cross_entropy_hvp, z, t, v, **call)

    def formula() -> list:
        rows = zip(z.tolist(), v.tolist(), s.tolist(), strict=True)
        return list(
            chain.from_iterable(oracle.hessian_product(row, u, Fraction(w)) for row, u, w in rows)
        )

    assert wrong(got, formula) == 0


def test_hessian_products_of_distributions() -> None:
    rng = np.random.default_rng(65)
    z, q, v = logits(rng, 80, 3), rng.random((80, 3)), rng.standard_normal((80, 3))
    got = in_formats(ref.cross_entropy_hvp, z, q, v, reduction="sum")

    def formula() -> list:
        rows = zip(z.tolist(), v.tolist(), q.tolist(), strict=True)
        sums = ((row, u, sum(map(Fraction, own), Fraction(0))) for row, u, own in rows)
        return list(chain.from_iterable(oracle.hessian_product(*each) for each in sums))

    assert wrong(got, formula) == 0


def test_exact_products() -> None:
    """Zero for a constant vector and for opposite pulls of equal logits; no loop without end."""
    assert not ref.cross_entropy_hvp([[3.0, -2.0, 0.1]], [0], [[7.5, 7.5, 7.5]]).any()
    assert ref.cross_entropy_hvp([[5.0, 0.0, 0.0]], [0], [[0.0, 1.0, -1.0]])[0, 0] == 0.0
    even = ref.cross_entropy_hvp([[2.0, 2.0, 2.0]], [0], [[1.0, 2.0, 3.0]])
    assert even.tolist() == [[-1 / 3, 0.0, 1 / 3]]
    got = ref.cross_entropy_hvp(
        [[0.0, 1.0], [0.0, 1.0]], [0, -1], [[1.0, 0], [1, 0]], ignore_index=-1
    )
    assert got[0].any()
    assert not got[1].any()
    assert ref.cross_entropy_hvp([[0.0, -np.inf]], [0], [[1.0, 2.0]]).tolist() == [[0.0, 0.0]]
    far = ref.cross_entropy_hvp([[0.0, -5.0, -700.0]], [0], [[0.0, 1.0, 2.0]])
    want = oracle.rounded(
        lambda: oracle.hessian_product([0.0, -5.0, -700.0], [0.0, 1.0, 2.0], Fraction(1))
    )
    assert far[0].tolist() == want["float64"].tolist()


def test_binary_hessian_products() -> None:
    rng = np.random.default_rng(66)
    z = logits(rng, 400, 1)[:, 0]
    y, p, v = rng.random(400), rng.random(400) * 3, rng.standard_normal(400)
    call = {"pos_weight": p, "reduction": "none"}
    got = in_formats(ref.binary_cross_entropy_with_logits_hvp, z, y, v, **call)

    def formula() -> list:
        found = []
        for x, label, emphasis, by in zip(z.tolist(), y, p, v, strict=True):
            whole = Fraction(emphasis) * Fraction(label) + 1 - Fraction(label)
            found.append(oracle.binary_hessian_product(x, whole * Fraction(by)))
        return found

    assert wrong(got, formula) == 0
    infinite = ref.binary_cross_entropy_with_logits_hvp([np.inf, 0.0], [1.0, 0.0], [1.0, 8.0])
    assert infinite.tolist() == [0.0, 1.0]
