"""The public functions: shapes, options, conventions with known values, and refusals."""

from __future__ import annotations

from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit import reference as ref

RNG = np.random.default_rng(21)
NAMES = ("float64", "float32", "bfloat16", "float16")


def test_axis_and_shapes() -> None:
    z, t = RNG.standard_normal((2, 3, 4)), RNG.integers(0, 3, (2, 4))
    rows = ref.cross_entropy(z, t, axis=1, reduction="none")
    assert rows.shape == (2, 4)
    moved = ref.cross_entropy(np.moveaxis(z, 1, -1), t, reduction="none")
    assert np.array_equal(rows, moved)
    gradient = ref.cross_entropy_grad(z, t, axis=1)
    assert gradient.shape == z.shape
    assert ref.cross_entropy(z[0, :, 0], t[0, 0]).shape == ()
    assert ref.softmax(z, axis=1).shape == z.shape
    assert ref.logsumexp(z, axis=1).shape == (2, 4)


def test_known_conventions() -> None:
    """Equal in the six digits with which the frameworks and the formulas give them."""
    x, w = [[1.0, 2.0], [1.0, 2.0]], [1.0, 3.0]
    known = [
        (ref.cross_entropy(x, [0, 1], weight=w), 0.563262),
        (ref.cross_entropy(x, [0, 1], weight=w, mean="rows"), 1.12652),
        (ref.cross_entropy([[1.0, 2.0]], [0], label_smoothing=0.2), 1.21326),
        (ref.cross_entropy([[1.0, 2.0]], [0], label_smoothing=0.2, smoothing="eps/(K-1)"), 1.11326),
        (ref.cross_entropy([[1.0, 2.0]], [0], weight=w, label_smoothing=0.2, mean="rows"), 1.27591),
        (ref.cross_entropy(x, [0, -1], ignore_index=-1), 1.31326),
        (ref.cross_entropy(x, [0, -1], ignore_index=-1, mean="rows"), 0.656631),
        (ref.cross_entropy([[1.0, 2.0]], [[0.5, 0.0]]), 0.656631),
        (ref.binary_cross_entropy_with_logits([1.0], [1.0], label_smoothing=0.2), 0.413262),
        (ref.binary_cross_entropy_with_logits([0.0, 0.0], [1.0, 0.0], pos_weight=3.0), 1.38629),
        (ref.binary_cross_entropy([0.0], [1.0], guard="clip", guard_dtype="float32"), 16.1181),
        (ref.binary_cross_entropy([1.0], [0.0], guard="clip", guard_dtype="float32"), 15.9424),
        (ref.binary_cross_entropy([0.0], [1.0], guard="clamp log"), 100.0),
        (ref.focal([[1.0, 2.0]], [0])[0], 0.701868),
    ]
    for got, want in known:
        assert float(f"{float(got):.6g}") == want


def test_a_confident_target_keeps_its_loss() -> None:
    loss = ref.cross_entropy([[700.0, 0.0]], [0])
    assert loss == float(
        oracle.rounded(lambda: [oracle.decaying_exp(Fraction(700)).log1p()])["float64"][0]
    )
    gradient = ref.cross_entropy_grad([[700.0, 0.0]], [0])
    assert gradient[0, 0] == -gradient[0, 1] != 0.0


def test_temperature_and_z_loss() -> None:
    z, t = RNG.standard_normal((6, 4)) * 3, RNG.integers(0, 4, 6)
    for heat, factor in ((2.0, 0.0), (0.7, 0.0), (1.0, 0.25), (3.0, 1e-4)):
        options = {"temperature": heat, "z_loss": factor}
        got = ref.cross_entropy(z, t, reduction="none", **options)
        slope = ref.cross_entropy_grad(z, t, reduction="none", **options)
        for i in range(6):
            unit = [Fraction(int(j == t[i])) for j in range(4)]
            call = z[i].tolist(), unit, Fraction(heat), Fraction(factor)
            want = oracle.rounded(lambda call=call: oracle.tempered(*call))["float64"]
            assert got[i] == want[0]
            assert slope[i].tolist() == want[1:].tolist()


def test_cotangent_and_reductions() -> None:
    z, t = RNG.standard_normal((5, 3)), RNG.integers(0, 3, 5)
    plain = ref.cross_entropy_grad(z, t, reduction="none")
    assert np.array_equal(ref.cross_entropy_grad(z, t, reduction="sum"), plain)
    doubled = ref.cross_entropy_grad(z, t, reduction="none", cotangent=[2.0, 2, 0, 1, 4])
    assert np.array_equal(doubled, plain * np.array([2.0, 2, 0, 1, 4])[:, None])
    assert np.array_equal(ref.cross_entropy_grad(z, t, reduction="mean", cotangent=5.0), plain)


def test_empty_and_undefined() -> None:
    nothing = np.zeros((0, 3)), np.zeros(0, dtype=int)
    assert np.isnan(ref.cross_entropy(*nothing))
    assert ref.cross_entropy(*nothing, reduction="sum") == 0.0
    assert ref.cross_entropy_grad(*nothing).shape == (0, 3)
    assert ref.cross_entropy([[3.0]], [0]) == 0.0
    inf = np.inf
    rows = [[inf, inf], [-inf, -inf], [np.nan, 0.0], [inf, 0.0]]
    assert np.isnan(ref.cross_entropy(rows, [0] * 4, reduction="none")).tolist() == [1, 1, 1, 0]
    assert ref.kind(rows).tolist() == [
        "two or more logits are +inf",
        "every logit is -inf",
        "NaN among the logits",
        "",
    ]


@pytest.mark.parametrize("dtype", NAMES)
def test_formats_of_results_and_inputs(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    z = RNG.standard_normal((4, 3)).astype(kind)
    got = ref.cross_entropy(z, [0, 1, 2, 0], reduction="none", dtype=dtype)
    assert got.dtype == kind
    same = ref.cross_entropy(z.astype(np.float64), [0, 1, 2, 0], reduction="none")
    # Rounding is monotone and every format is part of float64: no value lies between the two.
    given = got.astype(np.float64)
    assert ref.is_faithful(given, ref.Exact.from_float(same), ref.FORMATS[dtype]).all()
    if dtype == "bfloat16":
        bits = z.view(np.uint16)
        again = ref.cross_entropy(bits, [0, 1, 2, 0], logits_dtype="bfloat16", reduction="none")
        assert np.array_equal(again, same)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ref.cross_entropy([[1.0, 2]], [5]), r"target\[0\] = 5 is not a class index"),
        (lambda: ref.cross_entropy([[1.0, 2]], [-1]), r"target\[0\] = -1 is not a class index"),
        (lambda: ref.cross_entropy([[1.0, 2]], [[np.nan, 1]]), r"target\[0, 0\] is NaN"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], weight=[1.0, -2.0]), r"weight\[1\] = -2.0"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], weight=[1.0]), "weight must have 2 entries"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0, 1]), r"target has shape \(2,\)"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], reduction="max"), "reduction 'max'"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], mean="N"), "mean 'N'"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], axis=2), "axis 2"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], dtype="int8"), "dtype 'int8'"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], temperature=0.0), "temperature 0.0"),
        (lambda: ref.cross_entropy([[1.0, 2]], [0], label_smoothing=2.0), "label_smoothing 2.0"),
        (lambda: ref.cross_entropy(1.0, 0), "logits must have an axis"),
        (lambda: ref.entropy([0.5, -0.5]), r"p\[1\] = -0.5"),
        (lambda: ref.focal([[1.0, 2]], [0], gamma=-1.0), "gamma -1.0"),
        (lambda: ref.focal([[1.0, 2]], [0], alpha=[1.0]), "alpha must have 2 entries"),
        (lambda: ref.focal([[1.0, 2]], [0], alpha=[1.0, -2.0]), r"alpha\[1\] = -2.0 must be"),
        (lambda: ref.focal([[1.0, 2]], [0], alpha=[np.nan, 1.0]), r"alpha\[0\] = nan must be"),
        (lambda: ref.binary_focal([1.0], [0], alpha=1.5), r"alpha = 1.5 must lie in \[0, 1\]"),
        (lambda: ref.binary_focal([1.0], [0], alpha=np.nan), "alpha = nan must lie"),
    ],
)
def test_refusals_name_what_is_wrong(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_distributions() -> None:
    assert ref.entropy([0.5, 0.25, 0.25], base=2) == 1.5
    assert ref.perplexity([0.25] * 4) == 4.0
    assert ref.kl_divergence([0.3, 0.7], [0.3, 0.7]) == 0.0
    assert ref.cross_entropy_distributions([1.0, 0.0], [0.0, 1.0]) == np.inf
    assert ref.entropy([1.0, 0.0]) == 0.0


def test_kl_of_close_distributions_keeps_its_digits() -> None:
    p = RNG.dirichlet(np.ones(5))
    for size in (1e-3, 1e-9, 1e-15):
        q = p * (1 + size * RNG.standard_normal(5))

        def formula(q=q) -> list:
            pairs = zip(p.tolist(), q.tolist(), strict=True)
            terms = [
                oracle.exact(a) * oracle.log_fraction(Fraction(a) / Fraction(b)) for a, b in pairs
            ]
            return [sum(terms, oracle.arb(0))]

        assert ref.kl_divergence(p, q) == oracle.rounded(formula)["float64"][0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 2.5])
def test_focal_against_arb(gamma: float) -> None:
    z = np.concatenate([RNG.standard_normal((6, 3)) * s for s in (0.1, 1, 10, 100)])
    t = RNG.integers(0, 3, 24)
    loss, slope = ref.focal(z, t, gamma=gamma), ref.focal_grad(z, t, gamma=gamma)
    for i, row in enumerate(z.tolist()):
        want = oracle.rounded(
            lambda row=row, i=i: oracle.focal(row, int(t[i]), gamma, Fraction(1))
        )["float64"]
        assert [loss[i], *slope[i]] == want.tolist()


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=5), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_laws(logits: list[float], label: int) -> None:
    """One-hot equals index; appending -inf changes nothing; BCE is CE of two classes."""
    label %= len(logits)
    z, t = [logits], [label]
    loss = ref.cross_entropy(z, t)
    one_hot = [[float(j == label) for j in range(len(logits))]]
    assert ref.cross_entropy(z, one_hot) == loss
    assert ref.cross_entropy([[*logits, -np.inf]], t) == loss
    assert np.array_equal(ref.cross_entropy_grad(z, one_hot), ref.cross_entropy_grad(z, t))
    two = ref.cross_entropy([[0.0, logits[0]]], [1])
    assert ref.binary_cross_entropy_with_logits(logits[0], 1.0) == two
    assert ref.binary_cross_entropy_with_logits(-logits[0], 0.0) == two


def test_sums_do_not_depend_on_the_order() -> None:
    z, t = RNG.standard_normal((300, 4)) * 30, RNG.integers(0, 4, 300)
    order = RNG.permutation(300)
    for reduction in ("sum", "mean"):
        first = ref.cross_entropy(z, t, reduction=reduction)
        assert first == ref.cross_entropy(z[order], t[order], reduction=reduction)
