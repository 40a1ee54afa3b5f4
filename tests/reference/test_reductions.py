"""Weights, denominators, sums over classes: equal to the correctly rounded value of Arb."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit import reference as ref
from lossaudit.reference import arguments, binary_rows, certify, softmax_rows

RNG = np.random.default_rng(51)
NAMES = ("float64", "float32", "bfloat16", "float16")
ONE, ZERO = Fraction(1), Fraction(0)


def rationals(values) -> list[Fraction]:
    return [Fraction(float(v)) for v in np.asarray(values).reshape(-1)]


def unit(classes: int, label: int, factor: Fraction = ONE) -> list[Fraction]:
    return [factor * int(j == label) for j in range(classes)]


def equal(got, formula, dtype: str) -> None:
    want = oracle.rounded(formula, (dtype,))[dtype]
    assert np.asarray(got).astype(np.float64).reshape(-1).tolist() == want.tolist()


def test_denominators_of_sample_weights() -> None:
    """Catalogue B-04: what Keras 3 gives for probabilities 0.7 of the right class.

    Keras prints 0.1783, 0.3567, 0.7133 and 0.3567, which are -log 0.7 times these factors.
    """
    p, t = [[0.2, 0.8], [0.7, 0.3]], [0, 0]
    call = ref.cross_entropy_probabilities
    known = [
        (call(p, t, sample_weight=[0, 1], mean="rows"), Fraction(1, 2)),
        (call(p, t, sample_weight=[0, 1], mean="sample_weights"), ONE),
        (call(p, [1, 0], ignore_index=1, sample_weight=[1, 2], mean="valid"), Fraction(2)),
        (call(p, [1, 0], ignore_index=1, sample_weight=[1, 2], mean="sample_weights"), ONE),
    ]
    for got, factor in known:
        equal(got, lambda f=factor: [oracle.surprise([(f, Fraction(0.7))])], "float64")
    z, y = [[2.0, -1.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 1.0]]

    def element(i: int, j: int) -> oracle.arb:
        up = Fraction(y[i][j])
        return oracle.binary_cross_entropy(z[i][j], up, 1 - up)

    binary = ref.binary_cross_entropy_with_logits
    rows = binary(z, y, classes="mean", reduction="none")
    equal(rows, lambda: [(element(i, 0) + element(i, 1)) / 2 for i in range(2)], "float64")
    weighted = binary(z, y, classes="sum", sample_weight=[1, 3], mean="sample_weights")

    def mean() -> list:
        first, second = (element(i, 0) + element(i, 1) for i in range(2))
        return [(first + 3 * second) / 4]

    equal(weighted, mean, "float64")
    assert binary(z, y, sample_weight=[[1], [3]], mean="sample_weights") == weighted / 2
    assert np.isnan(call(p, t, sample_weight=[0, 0], mean="sample_weights"))
    gradient = ref.cross_entropy_probabilities_grad(
        p, t, sample_weight=[0, 0], mean="sample_weights"
    )
    assert not gradient.any()


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("mean", ["weights", "valid", "rows", "sample_weights"])
def test_cross_entropy_means(mean: str, dtype: str) -> None:
    z, t = RNG.standard_normal((7, 3)) * 4, RNG.integers(0, 3, 7)
    w, s = RNG.random(3), RNG.random(7)
    call = {"weight": w, "sample_weight": s, "ignore_index": 1, "mean": mean, "dtype": dtype}
    used = [i for i in range(7) if t[i] != 1]
    divisor = {
        "weights": sum(rationals(w[t[used]]), ZERO),
        "valid": Fraction(len(used)),
        "rows": Fraction(7),
        "sample_weights": sum(rationals(s[used]), ZERO),
    }[mean]
    factors = [a * b / divisor for a, b in zip(rationals(s), rationals(w[t]), strict=True)]

    def value() -> list:
        rows = [oracle.cross_entropy(z[i].tolist(), unit(3, t[i], factors[i])) for i in used]
        return [sum(rows, oracle.arb(0))]

    def slopes() -> list:
        found = []
        for i in range(7):
            row = unit(3, t[i], factors[i] * int(i in used))
            found += oracle.cross_entropy_gradient(z[i].tolist(), row)
        return found

    equal(ref.cross_entropy(z, t, **call), value, dtype)
    equal(ref.cross_entropy_grad(z, t, **call), slopes, dtype)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_factors_at_boundaries_of_rounding(reduction: str) -> None:
    """A confident row times a midpoint of float32: only the tiny part says where it goes."""
    z = np.array([[0.0, -900.0], [-1000.0, 3.0], [0.0, -5000.0], [60.0, 0.0]])
    t, middle = np.array([1, 0, 1, 1]), 1 + 2.0**-24
    for s, c in ((middle, 2.0), (1.0, -middle), (4.0 + 2.0**-22, 0.125), (3.0, middle)):
        call = {"reduction": reduction, "dtype": "float32", "sample_weight": np.full(4, s)}
        share = 4 if reduction == "mean" else 1
        factor = Fraction(s) * Fraction(c) / share

        def slopes(factor=factor) -> list:
            rows = [
                oracle.cross_entropy_gradient(z[i].tolist(), unit(2, t[i], factor))
                for i in range(4)
            ]
            return list(chain.from_iterable(rows))

        equal(ref.cross_entropy_grad(z, t, cotangent=c, **call), slopes, "float32")

        def values(factor=Fraction(s) / share) -> list:
            rows = [oracle.cross_entropy(z[i].tolist(), unit(2, t[i], factor)) for i in range(4)]
            return rows if reduction == "none" else [sum(rows, oracle.arb(0))]

        equal(ref.cross_entropy(z, t, **call), values, "float32")


def test_means_of_confident_rows_do_not_need_many_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of (1 - tiny) / 8 is settled without decimals, for any divisor."""

    def forbidden(*_: object) -> None:
        raise AssertionError("decimals were asked")

    for module in (softmax_rows, binary_rows):
        monkeypatch.setattr(module, "settle", forbidden)
    z = np.array([[0.0, -1000.0]] * 8)
    for s in (1.0, 0.75, 3.0):
        weights = {"sample_weight": np.full(8, s), "mean": "sample_weights"}
        got = ref.cross_entropy_grad(z, [1] * 8, **weights)
        assert np.abs(got).tolist() == [[0.125, 0.125]] * 8
        got = ref.binary_cross_entropy_with_logits_grad(z[:, 1], np.ones(8), **weights)
        assert got.tolist() == [-0.125] * 8


def test_sums_of_confident_rows_are_decided_by_what_is_tiny() -> None:
    """The sum of the gaps is a tie of float32 that goes to even; what is above it goes up."""
    gaps = [2.0**24, 1.0, 0.0]
    z = np.array([[0.0, g, -2000.0] if g else [0.0, -1900.0, -2000.0] for g in gaps])
    t = np.zeros(3, dtype=np.int64)

    def value() -> list:
        found = [oracle.cross_entropy(row, unit(3, 0)) for row in z.tolist()]
        return [sum(found, oracle.arb(0))]

    for dtype in NAMES:
        equal(ref.cross_entropy(z, t, reduction="sum", dtype=dtype), value, dtype)
    z[1, 1] = 1000.0
    z[0, 1] = 2.0**24 - 999.0
    equal(ref.cross_entropy(z, t, reduction="sum", dtype="float32"), value, "float32")
    assert ref.cross_entropy(z[:2, :2], t[:2], reduction="sum", dtype="float32") == 2**24 + 2


def test_sums_by_decimals_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value decided by decimals is what double-double gives."""
    z, q = RNG.standard_normal((9, 3)) * 5, RNG.dirichlet(np.ones(3), 9)
    p, y, t = RNG.random((9, 3)), RNG.random((9, 3)), RNG.integers(0, 3, 9)
    call = {"sample_weight": RNG.random(9), "mean": "sample_weights"}

    def all_means() -> list[float]:
        return [
            float(found)
            for found in (
                ref.cross_entropy(z, t, **call),
                ref.cross_entropy(z, q, **call),
                ref.cross_entropy(z, t, reduction="sum", ignore_index=1),
                ref.cross_entropy(z, t, z_loss=0.5, **call),
                ref.cross_entropy_probabilities(p, t, guard="clip", **call),
                ref.cross_entropy_probabilities(p, q, renormalise="before", **call),
                ref.binary_cross_entropy_with_logits(z, y),
                ref.binary_cross_entropy_with_logits(z, y, classes="mean", **call),
                ref.binary_cross_entropy(p, y, classes="sum", guard="clamp log", **call),
            )
        ]

    fast = all_means()
    monkeypatch.setattr(certify, "uncertain", lambda value, _: np.isfinite(value.hi))
    assert all_means() == fast


@pytest.mark.parametrize("classes", ["sum", "mean"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_multi_label(classes: str, from_logits: bool) -> None:
    n, k = 6, 3
    z = RNG.standard_normal((n, k)) * np.array([[1.0], [10.0], [0.01], [100.0], [1.0], [30.0]])
    p = RNG.random((n, k))
    y = RNG.integers(0, 2, (n, k)) * np.where(RNG.random((n, k)) < 0.5, 1.0, 0.75)
    w, s, e = RNG.random(k), RNG.random(n), RNG.random(k)
    share = Fraction(1, k if classes == "mean" else 1)

    def element(i: int, j: int, factor: Fraction) -> oracle.arb:
        up, down = Fraction(y[i, j]), 1 - Fraction(y[i, j])
        whole = share * Fraction(w[j]) * Fraction(s[i]) * factor
        if from_logits:
            return oracle.binary_cross_entropy(z[i, j], Fraction(e[j]) * whole * up, whole * down)
        x = Fraction(p[i, j])
        first = oracle.exact(whole * up) * oracle.log_fraction(x)
        return -(first + oracle.exact(whole * down) * oracle.log_fraction(1 - x))

    def rows(divisor: Fraction = ONE) -> list:
        by = 1 / divisor
        return [sum((element(i, j, by) for j in range(k)), oracle.arb(0)) for i in range(n)]

    call = {"weight": w, "sample_weight": s, "classes": classes}
    if from_logits:
        call["pos_weight"] = e
    name = "binary_cross_entropy" + "_with_logits" * from_logits
    loss, grad = getattr(ref, name), getattr(ref, f"{name}_grad")
    x = z if from_logits else p
    whole = sum(rationals(s), ZERO)
    for dtype in NAMES:
        each = loss(x, y, reduction="none", dtype=dtype, **call)
        assert each.shape == (n,)
        equal(each, rows, dtype)
        found = loss(x, y, dtype=dtype, mean="sample_weights", **call)
        equal(found, lambda: [sum(rows(whole), oracle.arb(0))], dtype)
    moved = loss(
        x.T,
        y.T,
        reduction="none",
        axis=0,
        **{**call, "weight": w[:, None]} | ({"pos_weight": e[:, None]} if from_logits else {}),
    )
    assert np.array_equal(moved, loss(x, y, reduction="none", **call))
    gradient = grad(x, y, mean="sample_weights", **call)
    assert gradient.shape == (n, k)
    if from_logits:

        def slopes() -> list:
            by = [
                [share * Fraction(w[j]) * Fraction(s[i]) / whole for j in range(k)]
                for i in range(n)
            ]
            return [
                oracle.binary_gradient(
                    z[i, j],
                    Fraction(e[j]) * by[i][j] * Fraction(y[i, j]),
                    by[i][j] * (1 - Fraction(y[i, j])),
                )
                for i in range(n)
                for j in range(k)
            ]

        equal(gradient, slopes, "float64")


def test_soft_targets_with_sample_weights() -> None:
    z, q = RNG.standard_normal((5, 4)) * 3, RNG.dirichlet(np.ones(4), 5)
    w, s = RNG.random(4), RNG.random(5)
    whole = sum(rationals(s), ZERO)

    def row(i: int) -> list[Fraction]:
        by = Fraction(s[i]) / whole
        return [by * a * b for a, b in zip(rationals(w), rationals(q[i]), strict=True)]

    def slope(i: int) -> list:
        return oracle.cross_entropy_gradient(z[i].tolist(), row(i))

    call = {"weight": w, "sample_weight": s, "mean": "sample_weights"}
    slopes = ref.cross_entropy_grad(z, q, **call)
    equal(
        slopes,
        lambda: list(chain.from_iterable(map(slope, range(5)))),
        "float64",
    )
    equal(
        ref.cross_entropy(z, q, **call),
        lambda: [
            sum((oracle.cross_entropy(z[i].tolist(), row(i)) for i in range(5)), oracle.arb(0))
        ],
        "float64",
    )


def test_temperature_and_z_loss_with_sample_weights() -> None:
    z, t, s = RNG.standard_normal((3, 3)), np.array([0, 1, 2]), np.array([0.5, 0.0, 3.0])
    options = {"temperature": 0.7, "z_loss": 0.125}
    each = ref.cross_entropy(z, t, reduction="none", **options)
    weighted = ref.cross_entropy(z, t, reduction="none", sample_weight=s, **options)
    assert weighted[:2].tolist() == [0.5 * each[0], 0.0]
    slopes = ref.cross_entropy_grad(z, t, reduction="none", **options)
    signed = ref.cross_entropy_grad(z, t, reduction="none", cotangent=[-2.0, 1, 1], **options)
    assert signed[0].tolist() == (-2 * slopes[0]).tolist()


def test_weights_of_zero_leave_infinite_rows_out() -> None:
    z, t = [[0.0, -np.inf], [1.0, 2.0]], [1, 0]
    assert ref.cross_entropy(z, t) == np.inf
    lone = ref.cross_entropy(z[1:], t[1:])
    assert ref.cross_entropy(z, t, sample_weight=[0, 1], mean="sample_weights") == lone


def test_infinite_logits_have_limits_under_every_factor() -> None:
    """An inexact coefficient at an infinite logit lies at a boundary, and decimals decide it."""
    z, y = [np.inf, np.inf, -np.inf, -np.inf], [0.0, 1.0, 0.0, 1.0]
    call = ref.binary_cross_entropy_with_logits_grad
    got = call(z, y, reduction="none", label_smoothing=0.5)
    assert got.tolist() == [0.75, 0.25, -0.25, -0.75]
    assert call(z, y, weight=[3.0], reduction="none").tolist() == [3.0, 0.0, 0.0, -3.0]
    loss = ref.binary_cross_entropy_with_logits(z, y, weight=[3.0], reduction="none")
    assert loss.tolist() == [np.inf, 0.0, 0.0, np.inf]


def test_exact_sum() -> None:
    values = np.concatenate([RNG.standard_normal(500) * 10.0 ** RNG.integers(-300, 300, 500)])
    values = np.append(values, [5e-324, -5e-324, 0.0, 1e308, 1e308])
    assert arguments.exact_sum(values) == sum(map(Fraction, values.tolist()))
    assert arguments.exact_sum(np.zeros(0)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ref.cross_entropy([[1.0, 2]], [0], sample_weight=[-1.0]), r"sample_weight\[0\]"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], sample_weight=[1.0, 2]), "sample_weight has"),
        (lambda: ref.binary_cross_entropy([0.5], [1.0], classes="max"), "classes 'max'"),
        (lambda: ref.binary_cross_entropy([0.5], [1.0], mean="weights"), "mean 'weights'"),
        (lambda: ref.binary_cross_entropy([0.5], [1.0, 0.0]), "target has shape"),
        (lambda: ref.binary_cross_entropy_grad([0.5], [1.0], cotangent=np.nan), "cotangent = nan"),
        (
            lambda: ref.binary_cross_entropy_with_logits([[0.5, 1]], [[1.0, np.nan]]),
            r"target\[0, 1\] is NaN",
        ),
        (
            lambda: ref.cross_entropy(np.zeros((2, 3, 4)), np.full((2, 4), 3), axis=1),
            r"target\[0, 0\] = 3",
        ),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_factors_keep_the_size_of_weights_and_cotangents() -> None:
    """Weights far apart, and factors whose product leaves the range of float64."""
    z, t = np.array([[1.0, 0.0]]), np.array([1])
    tiny = ref.cross_entropy_grad(z, t, sample_weight=[1e-300], cotangent=1e-10, reduction="sum")
    want = oracle.rounded(
        lambda: oracle.cross_entropy_gradient(
            [1.0, 0.0], unit(2, 1, Fraction(1e-300) * Fraction(1e-10))
        )
    )["float64"]
    assert tiny.reshape(-1).tolist() == want.tolist()
