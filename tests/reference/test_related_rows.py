"""softmax, logsumexp, divergences and focal losses of rows, against Arb, and their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest
from flint import arb

from lossaudit.reference.bounds import bounds, demanded, reduced
from lossaudit.reference.exact import Exact, round_exact, to_float
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import Arithmetic, Case, Options, Semantics

NAMES = tuple(FORMATS)
ROWS, CLASSES = 120, 4
KERAS = Semantics(guard="clip", guard_eps=1e-7)


def logits(scale: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(81)
    z = rng.standard_normal((ROWS, CLASSES)) * scale
    z[::5] *= 12
    return z.astype(np.float32).astype(np.float64)


def labels() -> np.ndarray:
    return np.random.default_rng(82).integers(0, CLASSES, ROWS)


def probabilities() -> np.ndarray:
    rng = np.random.default_rng(83)
    p = rng.dirichlet(np.full(CLASSES, 0.5), ROWS)
    p[::7] = np.eye(CLASSES)[rng.integers(0, CLASSES, len(p[::7]))]
    return p.astype(np.float32).astype(np.float64)


def agrees(found: Exact, row: int, formula: Callable[[], list[arb]]) -> None:
    """Every entry of a row is the correctly rounded one, in every format."""
    want = oracle.rounded(formula, NAMES)
    for name in NAMES:
        got = round_exact(found.take(slice(row, row + 1)), FORMATS[name]).reshape(-1)
        assert got.tolist() == want[name].tolist(), (row, name)


def shares(z: list[float]) -> list[arb]:
    _, _, growth, others = oracle.softmax_parts(z)
    return [g / (1 + others) for g in growth]


def doubts(z: list[float], target: int) -> arb:
    """1 - p_t without cancellation."""
    unit = [Fraction(int(j == target)) for j in range(len(z))]
    return -oracle.cross_entropy_gradient(z, unit)[target]


def test_softmax_of_the_target() -> None:
    z, t = logits(), labels()
    found = truth(Case("softmax", "float32", z, t), Semantics())
    for i, row in enumerate(z.tolist()):
        agrees(found.loss, i, lambda row=row, i=i: [shares(row)[t[i]]])

        def slopes(row=row, t=t[i]) -> list[arb]:
            p = shares(row)
            unit = [Fraction(int(j == t)) for j in range(len(row))]
            return [-p[t] * g for g in oracle.cross_entropy_gradient(row, unit)]

        agrees(found.gradient, i, slopes)


def test_logsumexp() -> None:
    z = logits()
    found = truth(Case("logsumexp", "float32", z, labels()), Semantics())
    for i, row in enumerate(z.tolist()):
        agrees(
            found.loss,
            i,
            lambda row=row: [oracle.exact(max(row)) + oracle.softmax_parts(row)[3].log1p()],
        )
        agrees(found.gradient, i, lambda row=row: shares(row))


def test_logsumexp_keeps_the_limits_that_its_gradient_has_not() -> None:
    rows = [[-np.inf, -np.inf], [np.inf, np.inf], [np.inf, 0.0], [np.nan, 0.0]]
    case = Case("logsumexp", "float64", np.array(rows), np.zeros(4, np.int64))
    for plus_inf, slope in (("limit", [1.0, 0.0]), ("nan", [np.nan] * 2)):
        found = truth(case, Semantics(plus_inf=plus_inf))
        np.testing.assert_array_equal(to_float(found.loss), [-np.inf, np.inf, np.inf, np.nan])
        np.testing.assert_array_equal(
            to_float(found.gradient), [[np.nan] * 2, [np.nan] * 2, slope, [np.nan] * 2]
        )
        assert not found.undefined.any()
    found = truth(case, Semantics(plus_inf="unspecified"))
    assert found.undefined.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("plus_inf", "value", "undefined"),
    [("limit", 1.0, False), ("nan", np.nan, False), ("unspecified", np.nan, True)],
)
def test_softmax_of_one_plus_inf_is_what_the_semantics_say(
    plus_inf: str, value: float, undefined: bool
) -> None:
    case = Case("softmax", "float64", np.array([[np.inf, 0.0]]), np.array([0]))
    found = truth(case, Semantics(plus_inf=plus_inf))
    np.testing.assert_array_equal(to_float(found.loss), [value])
    assert found.undefined.tolist() == [undefined]


def test_a_cotangent_multiplies_the_gradient_alone() -> None:
    z, t = logits(), labels()
    case = Case("softmax", "float64", z, t)
    plain = truth(case, Semantics())
    pulled = truth(replace(case, cotangent=np.full(ROWS, -0.75)), Semantics())
    np.testing.assert_array_equal(to_float(pulled.loss), to_float(plain.loss))
    for i, row in enumerate(z.tolist()):

        def slopes(row=row, t=t[i]) -> list[arb]:
            p, unit = shares(row), [Fraction(int(j == t)) for j in range(len(row))]
            own = oracle.cross_entropy_gradient(row, unit)
            return [oracle.exact(Fraction(3, 4)) * p[t] * g for g in own]

        agrees(pulled.gradient, i, slopes)


def test_a_sample_weight_multiplies_loss_and_gradient() -> None:
    """Powers of two and 0, so the products are exact; a row that weighs nothing costs nothing."""
    p, q = np.array([[0.25, 0.75], [0.0, 1.0], [0.0, 1.0]]), np.eye(2)[[0, 0, 0]]
    weight = np.array([4.0, 0.0, 0.5])
    case = Case("focal_probabilities", "float64", p, q)
    plain = truth(case, Semantics())
    found = truth(replace(case, sample_weight=weight), Semantics())
    assert np.isinf(to_float(plain.loss)).tolist() == [False, True, True]
    assert to_float(found.loss).tolist() == [4 * to_float(plain.loss)[0], 0.0, np.inf]
    slope = to_float(plain.gradient)[0]
    assert to_float(found.gradient).tolist() == [(4 * slope).tolist(), [0, 0], [-np.inf, 0]]
    pulled = replace(case, sample_weight=weight, cotangent=np.array([2.0, 1.0, 1.0]))
    assert to_float(truth(pulled, Semantics()).gradient)[0].tolist() == (8 * slope).tolist()


def test_no_weight_makes_a_value_of_nan() -> None:
    case = Case("focal", "float64", np.array([[np.nan, 0.0]]), np.eye(2)[[0]])
    found = truth(replace(case, sample_weight=np.zeros(1)), Semantics())
    assert np.isnan(to_float(found.loss)).all()


@pytest.mark.parametrize("operation", ["kl_divergence", "kl_divergence_probabilities"])
@pytest.mark.parametrize("q", [-0.5, -1e-30])
def test_a_negative_share_of_a_target_has_no_divergence(operation: str, q: float):
    x = np.array([[0.25, 0.25, 0.5]] * 2)
    x = np.log(x) if operation == "kl_divergence" else x
    target = np.array([[q, 0.75, 0.5], [0.25, 0.25, 0.5]])
    found = truth(Case(operation, "float64", x, target), Semantics())
    assert found.undefined.tolist() == [True, False]
    assert np.isnan(to_float(found.loss)[0])
    assert np.isnan(to_float(found.gradient)[0]).all()
    # Logarithms below 2 that are wrong by an ulp at most, times shares that sum to 1.
    assert to_float(found.loss)[1] == pytest.approx(0.0, abs=2.0**-52)


@pytest.mark.parametrize("near", [False, True])
def test_divergence_from_log_probabilities(near: bool) -> None:
    p = probabilities()
    q = p if near else np.roll(p, 1, axis=0)
    with np.errstate(divide="ignore"):
        x = np.log(p).astype(np.float32).astype(np.float64)
    found = truth(Case("kl_divergence", "float32", x, q), Semantics())
    for i in range(ROWS):
        used = [(a, b) for a, b in zip(q[i].tolist(), x[i].tolist(), strict=True) if a]
        if any(b == -np.inf for _, b in used):
            assert to_float(found.loss)[i] == np.inf
            continue

        def value(used=used) -> list[arb]:
            terms = (
                oracle.exact(a) * (oracle.log_fraction(Fraction(a)) - oracle.exact(b))
                for a, b in used
            )
            return [sum(terms, arb(0))]

        agrees(found.loss, i, value)
    np.testing.assert_array_equal(to_float(found.gradient), -q)


@pytest.mark.parametrize("guard", ["none", "floor"])
def test_divergence_from_probabilities(guard: str) -> None:
    p = probabilities()
    q = np.roll(p, 1, axis=0)
    semantics = Semantics(guard=guard, guard_eps=1e-7)
    found = truth(Case("kl_divergence_probabilities", "float32", p, q), semantics)
    low = float(np.float32(1e-7)) if guard == "floor" else 0.0
    a, b = np.clip(q, low, 1.0), np.clip(p, low, 1.0)
    slopes = np.where(a == 0, 0.0, -np.divide(a, b, where=b > 0, out=np.full_like(a, np.inf)))
    slopes = np.where(p < low, 0.0, slopes)
    np.testing.assert_array_equal(
        to_float(found.gradient), slopes
    )  # one quotient each, rounded once
    for i in range(ROWS):
        used = [(x, y) for x, y in zip(a[i].tolist(), b[i].tolist(), strict=True) if x]
        if any(y == 0 for _, y in used):
            assert to_float(found.loss)[i] == np.inf
            continue

        def value(used=used) -> list[arb]:
            ratios = ((x, Fraction(x) / Fraction(y)) for x, y in used)
            return [sum((oracle.exact(x) * oracle.log_fraction(r) for x, r in ratios), arb(0))]

        agrees(found.loss, i, value)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])
@pytest.mark.parametrize("operation", ["focal", "binary_focal"])
def test_focal_loss_of_logits(operation: str, gamma: float) -> None:
    z, t = logits(), labels()
    if operation == "binary_focal":
        z, t = z[:, 1:2] * 3, (t % 2)
    target = t.astype(float)[:, None] if operation == "binary_focal" else t
    case = Case(operation, "float32", z, target, Options(gamma=gamma, alpha=0.25))
    found = truth(case, Semantics())
    rows = z.tolist() if operation == "focal" else [[0.0, *row] for row in z.tolist()]
    for i, row in enumerate(rows):
        weight = oracle.exact(0.25 if operation == "focal" or t[i] else 0.75)

        def value(row=row, t=int(t[i]), weight=weight) -> list[arb]:
            unit = [Fraction(int(j == t)) for j in range(len(row))]
            return [weight * doubts(row, t) ** arb(gamma) * oracle.cross_entropy(row, unit)]

        def slopes(row=row, t=int(t[i]), weight=weight) -> list[arb]:
            unit = [Fraction(int(j == t)) for j in range(len(row))]
            d, c = doubts(row, t), shares(row)[t]
            inner = d + oracle.exact(gamma) * oracle.cross_entropy(row, unit) * c
            outer = weight * d ** arb(gamma - 1) * inner
            return [outer * g for g in oracle.cross_entropy_gradient(row, unit)][-z.shape[1] :]

        agrees(found.loss, i, value)
        agrees(found.gradient, i, slopes)


@pytest.mark.parametrize("guard", ["none", "clip"])
@pytest.mark.parametrize("renormalise", ["no", "before"])
def test_focal_loss_of_probabilities(guard: str, renormalise: str) -> None:
    p, t = probabilities() * 0.75, labels()
    semantics = Semantics(guard=guard, guard_eps=1e-7, renormalise=renormalise, alpha=0.25)
    found = truth(Case("focal_probabilities", "float32", p, t), semantics)
    eps = float(np.float32(1e-7))
    low, high = Fraction(eps), Fraction(float(np.float32(1 - 1e-7)))
    for i in range(ROWS):
        row = [Fraction(x) for x in p[i].tolist()]
        mass = sum(row) if renormalise == "before" else Fraction(1)
        c = row[t[i]] / mass
        held = min(max(c, low), high) if guard == "clip" else c
        if held in (0, 1):
            expected = np.inf if held == 0 else 0.0
            assert to_float(found.loss)[i] == expected
            continue

        def value(c=held) -> list[arb]:
            return [-oracle.exact((1 - c) ** 2 / 4) * oracle.log_fraction(c)]

        agrees(found.loss, i, value)
        moved = held != c

        def slopes(c=held, row=row, mass=mass, t=int(t[i]), moved=moved) -> list[arb]:
            inner = oracle.exact((1 - c) / c) - 2 * oracle.log_fraction(c)
            outer = -oracle.exact((1 - c) / 4) * inner
            hits = [Fraction(int(j == t)) for j in range(len(row))]
            if renormalise == "before":
                hits = [(h * mass - row[t]) / mass**2 for h in hits]
            return [arb(0) if moved else outer * oracle.exact(h) for h in hits]

        agrees(found.gradient, i, slopes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("guard", ["none", "clip"])
def test_binary_focal_loss_of_probabilities(guard: str, dtype: str) -> None:
    p, y = probabilities()[:, :1], (labels() % 2).astype(float)[:, None]
    # At a limit of the guard, a hair beside it, and where 1 - p is 1 in a pair.
    p[:4, 0], y[:4, 0] = [0.0, 1e-7 * (1 - 1e-12), 1e-7 * (1 + 1e-12), 2.0**-120], 0.0
    semantics = Semantics(guard=guard, guard_eps=1e-7, alpha=0.25)
    found = truth(Case("binary_focal_probabilities", dtype, p, y), semantics)
    low, high = (Fraction(float(np.dtype(dtype).type(x))) for x in (1e-7, 1 - 1e-7))
    for i in range(ROWS):
        c = Fraction(float(p[i, 0]))
        c = min(max(c, low), high) if guard == "clip" else c
        weight = Fraction(1, 4)
        if y[i, 0] == 0:
            c, weight = 1 - c, Fraction(3, 4)
        if c in (0, 1):
            assert to_float(found.loss)[i] == (np.inf if c == 0 else 0.0)
            continue

        def value(c=c, weight=weight) -> list[arb]:
            return [-oracle.exact(weight * (1 - c) ** 2) * oracle.log_fraction(c)]

        agrees(found.loss, i, value)


def test_a_guard_of_a_binary_label_of_zero_clips_exactly() -> None:
    """1 - 1e-7 is rounded in float64, and 1 less that is not 1e-7."""
    p = np.array([[0.0], [1e-7 * (1 - 1e-12)], [1e-7 * (1 + 1e-12)]])
    case = Case("binary_focal_probabilities", "float64", p, np.zeros((3, 1)))
    found = truth(case, KERAS)
    low = Fraction(1e-7)
    for i in (0, 1):
        agrees(found.loss, i, lambda: [-oracle.exact(low**2) * oracle.log_fraction(1 - low)])
    # eps**3 (1 + eps / 2), without eps**2 / 3 = 3.3e-15 of it and the rounding of 1e-7.
    assert to_float(found.loss)[0] == pytest.approx(1.00000005e-21, rel=1e-14)
    assert (to_float(found.gradient)[:, 0] == 0.0).tolist() == [True, True, False]


@pytest.mark.parametrize("operation", ["focal_probabilities", "binary_focal_probabilities"])
def test_a_power_of_zero_leaves_the_slope_of_the_logarithm_at_both_ends(operation: str) -> None:
    p = np.array([[1.0], [0.0], [0.5]])
    case = Case(operation, "float64", p, np.ones((3, 1)), Options(gamma=0.0, alpha=0.25))
    found = truth(case, Semantics())
    np.testing.assert_array_equal(to_float(found.gradient), [[-0.25], [-np.inf], [-0.5]])


def test_a_power_of_zero_leaves_the_gradient_of_cross_entropy() -> None:
    z, t = np.array([[np.inf, 0.0], [-np.inf, 0.0], [3000.0, 0.0]]), np.zeros(3, np.int64)
    limit = Semantics(plus_inf="limit")
    found = truth(Case("focal", "float64", z, t, Options(gamma=0.0)), limit)
    plain = truth(Case("cross_entropy", "float64", z, t), limit)
    np.testing.assert_array_equal(to_float(found.gradient), to_float(plain.gradient))
    assert found.gradient.exponent[2, 0] == plain.gradient.exponent[2, 0] < -4000


def test_a_renormalised_share_near_one_keeps_its_complement() -> None:
    p, rest = np.array([[1.0, 2.0**-120, 0.0]]), Fraction(2) ** -120
    case = Case("focal_probabilities", "float64", p, np.array([0]))
    found = truth(case, Semantics(renormalise="before"))
    doubt = rest / (1 + rest)
    agrees(found.loss, 0, lambda: [oracle.exact(doubt**2) * oracle.log_fraction(1 + rest)])


@pytest.mark.parametrize(
    "options",
    [
        Options(weight=(1.0, 2.0)),
        Options(label_smoothing=0.1),
        Options(ignore_index=0),
        Options(where=(True, False)),
        Options(pos_weight=2.0),
    ],
)
@pytest.mark.parametrize("operation", ["softmax", "logsumexp", "kl_divergence", "focal"])
def test_an_option_that_is_not_read_is_refused(operation: str, options: Options) -> None:
    case = Case(operation, "float32", np.zeros((1, 2)), np.array([[1.0, 0.0]]), options)
    with pytest.raises(ValueError, match=rf"{operation} has no {options.passed()[0]}"):
        truth(case, Semantics())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([[1, 0, 0], [0, 0.5, 0.5]], r"target\[1, 1\] = 0.5 must be 0 or 1"),
        ([[1, 0, 0], [0, 0, 0]], r"target\[1\] = \[0.0, 0.0, 0.0\] must have a single 1"),
        ([[1, 1, 0], [1, 0, 0]], r"target\[0\] = \[1.0, 1.0, 0.0\] must have a single 1"),
    ],
)
def test_focal_loss_wants_hard_targets(target: list[list[float]], message: str) -> None:
    case = Case("focal", "float32", np.zeros((2, 3)), np.array(target, dtype=np.float64))
    with pytest.raises(ValueError, match=message):
        truth(case, Semantics())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("operation", ["binary_focal", "binary_focal_probabilities"])
def test_a_guard_of_the_logarithm_alone_leaves_the_power_its_slope(
    operation: str, gamma: float
) -> None:
    """The loss is -d**gamma log(held), with d = 1 - s of the share s, and held is s or a limit."""
    semantics = Semantics(guard="clip log", guard_eps=1e-3)
    y = np.array([[1.0], [0.0]] * 4)
    p = np.repeat([2.0**-12, 0.25, 0.75, 1 - 2.0**-12], 2)[:, None]
    of_logits = operation == "binary_focal"
    x = np.log(p / (1 - p)) if of_logits else p
    found = truth(Case(operation, "float64", x, y, Options(gamma=gamma)), semantics)
    low, high = Fraction(1e-3), Fraction(1 - 1e-3)
    for i in range(len(x)):
        sign = 1 if y[i, 0] else -1
        limit = low if p[i, 0] < low else high if p[i, 0] > high else None
        held = limit if limit is None or y[i, 0] else 1 - limit

        def parts(entry=float(x[i, 0]), sign=sign, held=held) -> tuple[arb, arb, arb, arb]:
            """d, -log(held), d s / d x, and d log(held) / d s."""
            if of_logits:
                growth = oracle.decaying_exp(abs(Fraction(entry)))
                small, large = growth / (1 + growth), 1 / (1 + growth)
                share, doubt = (large, small) if sign * entry > 0 else (small, large)
                speed = sign * share * doubt
            else:
                up, speed = Fraction(entry), arb(sign)
                share, doubt = (
                    oracle.exact(c) for c in ((up, 1 - up) if sign > 0 else (1 - up, up))
                )
            level = -share.log() if held is None else -oracle.log_fraction(held)
            return doubt, level, speed, 1 / share if held is None else arb(0)

        def value(parts=parts) -> list[arb]:
            doubt, level, _, _ = parts()
            return [doubt ** arb(gamma) * level]

        def slope(parts=parts) -> list[arb]:
            doubt, level, speed, rate = parts()
            power = arb(gamma) * doubt ** arb(gamma - 1) * level
            return [-speed * (power + doubt ** arb(gamma) * rate)]

        agrees(found.loss, i, value)
        agrees(found.gradient, i, slope)


@pytest.mark.parametrize(("gamma", "slope"), [(0.5, -np.inf), (1.0, -1.0), (2.0, 0.0), (0.0, 0.0)])
def test_the_slope_of_a_power_at_its_end(gamma: float, slope: float) -> None:
    """At p = 1 the guarded logarithm is a constant L > 0, and the power has its slope at 0."""
    semantics = Semantics(guard="clip log", guard_eps=0.5)
    one = np.ones((1, 1))
    case = Case("binary_focal_probabilities", "float64", one, one, Options(gamma=gamma))
    found = truth(case, semantics)
    assert to_float(found.loss)[0] == (np.log(2) if gamma == 0 else 0.0)
    expected = slope * np.log(2) if np.isfinite(slope) else slope
    np.testing.assert_allclose(to_float(found.gradient), [[expected]], rtol=2**-52)


def test_far_logits_are_not_lost_in_a_guard_that_rounds_to_nothing() -> None:
    semantics = Semantics(guard="clip log", guard_eps=1e-7)  # 1 - 1e-7 is 1 in bfloat16
    z = np.array([[2.0**100]])
    found = truth(Case("binary_focal", "bfloat16", z, np.zeros((1, 1))), semantics)
    assert to_float(found.loss)[0] == 2.0**100


@pytest.mark.parametrize("operation", ["focal", "focal_probabilities"])
def test_focal_loss_of_a_single_class_has_no_other(operation: str) -> None:
    case = Case(operation, "float32", np.array([[0.5]]), np.array([[1.0]]))
    found = truth(case, Semantics(renormalise="before"))
    assert to_float(found.loss).tolist() == [0.0]
    assert to_float(found.gradient).tolist() == [[0.0]]


def test_an_unknown_mean_is_refused_without_class_weights_too() -> None:
    case = Case("logsumexp", "float32", np.zeros((1, 2)), np.array([0]), Options(reduction="mean"))
    with pytest.raises(ValueError, match="mean 'median' is not one of 'weights', 'valid', 'rows'"):
        reduce_truth(truth(case, Semantics()), case, Semantics(mean="median"))


# ------------------------------------------------------------------------------ bounds

# NumPy's float32 exp and log are within 2.52 and 3.83 ulps (numpy/numpy#13134); log1p taken at 4.
NUMPY = Arithmetic(
    form="B",
    gradient="division",
    working="float32",
    stored="float32",
    height="sequential",
    c_exp=5.04,
    c_log=7.66,
    c_log1p=8.0,
    c_sigmoid=9.0,
    flush=False,
    origin="NumPy",
)
real = np.float32


def softmax32(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_hand(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Plain float32 implementations, gradients by the chain rule as autodiff applies it."""
    x, rows = case.inputs.astype(real), np.arange(case.rows)
    if case.operation == "softmax":
        p = softmax32(x)
        own = p[rows, case.target]
        unit = np.eye(x.shape[1], dtype=real)[case.target]
        return own, p * (unit - own[:, None])
    if case.operation == "logsumexp":
        m = x.max(axis=1)
        return m + np.log(np.exp(x - m[:, None]).sum(axis=1)), softmax32(x)
    if case.operation == "kl_divergence":
        q = case.target.astype(real)
        logs = np.log(np.where(q > 0, q, real(1)))
        return np.where(q > 0, q * (logs - x), real(0)).sum(axis=1), -q
    if case.operation == "kl_divergence_probabilities":
        low = real(1e-7)
        q, p = np.clip(case.target.astype(real), low, real(1)), np.clip(x, low, real(1))
        return (q * np.log(q / p)).sum(axis=1), np.where(x < low, real(0), -q / p)
    return focal_by_hand(case, x)


def focal_by_hand(case: Case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, gamma = case.target.astype(real), real(2)
    if case.operation == "binary_focal":  # optax.sigmoid_focal_loss
        p = 1 / (1 + np.exp(-x))
        tail = np.log1p(np.exp(-np.abs(x)))
        ce = np.maximum(x, 0) - x * y + tail
        share = p * y + (1 - p) * (1 - y)
        loss = ce * (1 - share) ** gamma
        inner = gamma * (1 - share) * p * (1 - p) * (2 * y - 1) * ce
        return loss[:, 0], (1 - share) ** gamma * (p - y) - inner
    low, high = real(1e-7), real(1 - 1e-7)
    c = np.clip(x, low, high)
    share = y * c + (1 - y) * (1 - c)
    ce = -(y * np.log(c) + (1 - y) * np.log(1 - c))
    loss = (1 - share) ** gamma * ce
    slope = -gamma * (1 - share) * (2 * y - 1) * ce - (1 - share) ** gamma * np.where(
        y == 1, 1 / c, -1 / (1 - c)
    )
    return loss[:, 0], np.where((x < low) | (x > high), real(0), slope)


def cases() -> dict[str, tuple[Case, Semantics]]:
    z, p, t = logits(2.0), probabilities(), labels()
    q, y = np.roll(p, 1, axis=0), (t % 2).astype(float)[:, None]
    with np.errstate(divide="ignore"):
        x = np.maximum(np.log(p), -80.0).astype(np.float32).astype(np.float64)
    floor = Semantics(guard="floor", guard_eps=1e-7)
    return {
        "softmax": (Case("softmax", "float32", z, t), Semantics()),
        "logsumexp": (Case("logsumexp", "float32", z, t), Semantics()),
        "kl_divergence": (Case("kl_divergence", "float32", x, q), Semantics()),
        "near": (Case("kl_divergence", "float32", x, p), Semantics()),
        "kl_divergence_probabilities": (
            Case("kl_divergence_probabilities", "float32", p, q),
            floor,
        ),
        "binary_focal": (Case("binary_focal", "float32", z[:, :1] * 4, y), Semantics()),
        "binary_focal_probabilities": (
            Case("binary_focal_probabilities", "float32", p[:, :1], y),
            KERAS,
        ),
    }


@pytest.mark.parametrize("name", sorted(cases()))
def test_bounds_of_plain_implementations_hold_and_are_near(name: str) -> None:
    case, semantics = cases()[name]
    with np.errstate(all="ignore"):
        found = by_hand(case)
    exact = truth(case, semantics)
    limits = bounds(case, semantics, NUMPY)
    for got, right, limit in (
        (found[0], exact.loss, limits.loss),
        (found[1], exact.gradient, limits.gradient),
    ):
        want = to_float(right)
        judged = np.isfinite(want) & np.isfinite(limit)
        assert judged.mean() > 0.8
        ratio = np.abs(got.astype(float) - want)[judged] / limit[judged]
        assert ratio.max() <= 1.0, (name, ratio.max())
    ratio = np.abs(found[0].astype(float) - to_float(exact.loss)) / limits.loss
    # No bound stands for the worst case of every rounding at once; none is farther off than this.
    assert np.nanmax(ratio) > 1 / 32


@pytest.mark.parametrize("name", sorted(cases()))
def test_bounds_hold_for_weighted_rows(name: str) -> None:
    case, semantics = cases()[name]
    weight = np.resize([0.75, 0.0, 1.25], case.rows)
    with np.errstate(all="ignore"):
        loss, gradient = by_hand(case)
        loss, gradient = loss * weight.astype(real), gradient * weight.astype(real)[:, None]
    case = replace(case, sample_weight=weight)
    exact, limits = truth(case, semantics), bounds(case, semantics, NUMPY)
    for got, right, limit in (
        (loss, exact.loss, limits.loss),
        (gradient, exact.gradient, limits.gradient),
    ):
        want = to_float(right)
        judged = np.isfinite(want) & np.isfinite(limit)
        assert judged.mean() > 0.8
        assert (np.abs(got.astype(float) - want)[judged] <= limit[judged]).all()


@pytest.mark.parametrize("name", sorted(cases()))
def test_the_demand_is_no_looser_than_the_declared_bound(name: str) -> None:
    case, semantics = cases()[name]
    declared, demand = (bounds(case, semantics, a) for a in (NUMPY, demanded(NUMPY)))
    finite = np.isfinite(declared.loss)
    assert (demand.loss[finite] <= declared.loss[finite] * 1.01).all()


def test_a_target_that_is_recovered_from_its_logarithm_has_a_bound_of_its_own() -> None:
    """exp(log q): an error of log q is one of q relative to |log q|, in loss and gradient."""
    rng = np.random.default_rng(84)
    q = np.exp(-rng.uniform(0, 80, (ROWS, CLASSES))).astype(real)
    x = np.log(rng.dirichlet(np.ones(CLASSES), ROWS)).astype(real)
    case = Case("kl_divergence", "float32", x.astype(float), q.astype(float))
    logs = np.log(q)
    loss, gradient = (np.exp(logs) * (logs - x)).sum(axis=1), -np.exp(logs)
    exact, own = truth(case, Semantics()), bounds(case, Semantics(), NUMPY)
    limits = bounds(case, Semantics(), replace(NUMPY, form="log target"))
    for got, right, limit in (
        (loss, exact.loss, limits.loss),
        (gradient, exact.gradient, limits.gradient),
    ):
        ratio = np.abs(got.astype(float) - to_float(right)) / limit
        assert 1 / 32 < ratio.max() <= 1.0
    # Where q is at hand its gradient is exact: the plain bound is none for this form.
    assert (np.abs(gradient - to_float(exact.gradient)) > own.gradient).any()
    assert (own.loss < limits.loss).all()


def renormalised_by_hand(case: Case, *, logits: bool) -> tuple[np.ndarray, np.ndarray]:
    """keras.losses.categorical_focal_crossentropy in float32, differentiated by the chain rule."""
    x, y = case.inputs.astype(real), np.eye(CLASSES, dtype=real)[case.target]
    low, high = real(1e-7), real(1 - 1e-7)
    p = softmax32(x) if logits else x
    total = p.sum(axis=1, keepdims=True)
    out = p / total
    c = np.clip(out, low, high)
    ce = -y * np.log(c)
    loss = ((1 - c) ** real(2) * ce).sum(axis=1)
    slope = -(real(2) * (1 - c) * ce + (1 - c) ** real(2) * y / c)
    slope = np.where((out < low) | (out > high), real(0), slope)
    slope = slope / total - ((slope * p) / (total * total)).sum(axis=1, keepdims=True)
    return loss, p * (slope - (slope * p).sum(axis=1, keepdims=True)) if logits else slope


@pytest.mark.parametrize("operation", ["focal", "focal_probabilities"])
def test_bounds_of_a_focal_loss_that_divides_by_the_sum_hold_and_are_near(operation: str) -> None:
    from_logits = operation == "focal"
    inputs = logits(2.0) if from_logits else probabilities()
    case = Case(operation, "float32", inputs, labels())
    semantics = replace(KERAS, renormalise="before")
    arithmetic = replace(NUMPY, form="log softmax / sum", gradient="softmax product")
    exact, bound = truth(case, semantics), bounds(case, semantics, arithmetic)
    with np.errstate(all="ignore"):
        found = renormalised_by_hand(case, logits=from_logits)
    pairs = ((found[0], exact.loss, bound.loss), (found[1], exact.gradient, bound.gradient))
    for value, right, limit in pairs:
        assert np.isfinite(limit).all()
        error = np.abs(value - to_float(right))
        assert (error <= limit).all()
        some = limit > 0
        assert (error[some] / limit[some]).max() > 1 / 32


def test_a_wrong_power_is_outside_every_bound() -> None:
    case, semantics = cases()["binary_focal"]
    exact = to_float(truth(replace(case, options=Options(gamma=1.0)), semantics).loss)
    off = (
        np.abs(exact - to_float(truth(case, semantics).loss)) / bounds(case, semantics, NUMPY).loss
    )
    assert np.median(off) > 1e3


def test_a_gradient_by_way_of_the_sum_errs_with_the_size_of_the_logits() -> None:
    """exp(z - logsumexp) in float32: the rounded sum is a common factor of all entries."""
    offset = np.float32(2**16)
    z = (np.round(logits(1.0) * 64) / 64 + offset).astype(real)
    case = Case("logsumexp", "float32", z.astype(np.float64), labels())
    m = z.max(axis=1, keepdims=True)
    total = m + np.log(np.exp(z - m).sum(axis=1, keepdims=True))
    error = np.abs(np.exp(z - total) - to_float(truth(case, Semantics()).gradient))
    by_sum = bounds(case, Semantics(), replace(NUMPY, form="A", gradient="exp logp")).gradient
    assert (error <= by_sum).all()
    assert (error / by_sum).max() > 1 / 32
    assert (error > bounds(case, Semantics(), NUMPY).gradient).any()


def test_a_sum_of_divergences_may_add_elements_that_cancel_within_their_rows() -> None:
    p = np.resize(probabilities()[1:2], (ROWS, CLASSES))
    case = Case("kl_divergence", "float32", np.log(p).astype(real).astype(np.float64), p)
    case = replace(case, options=Options(reduction="sum"))
    x, q = case.inputs.astype(real), p.astype(real)
    total = real(0)
    for element in (q * np.log(q) - q * x).reshape(-1):
        total = total + element
    exact = to_float(reduce_truth(truth(case, Semantics()), case, Semantics())[0])
    rows = bounds(case, Semantics(), NUMPY)
    whole = reduced(rows, case, Semantics(), NUMPY)
    assert abs(float(total) - exact) <= whole.loss
    terms = np.abs(p * np.log(p)) + np.abs(p * case.inputs)
    np.testing.assert_allclose(rows.sizes.losses, terms.sum(axis=1), rtol=2**-50)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize(
    "operation", ["focal", "focal_probabilities", "binary_focal", "binary_focal_probabilities"]
)
def test_bounds_of_a_focal_loss_shrink_with_the_unit_of_the_format(
    operation: str, gamma: float
) -> None:
    """An error of float64 is below the roundings of the float64 numbers a bound is made of."""
    p, t = np.clip(probabilities(), 2.0**-6, 1 - 2.0**-6), labels()
    ordinary = np.arange(ROWS) % 5 > 0  # in the others 1 - p_t may be lost altogether
    x = p if operation.endswith("probabilities") else logits(0.5)
    x, t = x[ordinary], t[ordinary]
    target = t
    if operation.startswith("binary"):
        x, target = x[:, :1], (t % 2).astype(float)[:, None]
    case = Case(operation, "float32", x, target, Options(gamma=gamma))
    single = bounds(case, Semantics(), NUMPY)
    arithmetic = replace(NUMPY, working="float64", stored="float64")
    double = bounds(replace(case, dtype="float64"), Semantics(), arithmetic)
    np.testing.assert_allclose(double.loss * 2.0**29, single.loss, rtol=1e-3)
    # A slope of 0 has a bound of units of underflow, which are not those of roundoff.
    np.testing.assert_allclose(
        double.gradient * 2.0**29, single.gradient, rtol=1e-3, atol=2.0**-140
    )


@pytest.mark.parametrize("gamma", [0.5, 1.5])
def test_a_power_below_one_may_fall_further_than_it_rises(gamma: float) -> None:
    """1 - p is a unit of roundoff, which a subject may lose altogether."""
    p = np.array([[1 - 2.0**-24]])
    case = Case("binary_focal_probabilities", "float32", p, np.ones((1, 1)), Options(gamma=gamma))
    found, exact = bounds(case, Semantics(), NUMPY), truth(case, Semantics())
    assert found.loss[0] >= to_float(exact.loss)[0]
    assert found.gradient[0, 0] >= -to_float(exact.gradient)[0, 0]


def test_the_logarithm_within_a_power_is_rounded_twice() -> None:
    """x**g as exp(g log x): the product with g is one more rounding, relative to g |log x|."""
    z, u, gamma = np.array([[-100 * np.log(2)]]), 2.0**-53, 4.0
    case = Case("binary_focal", "float64", z, np.zeros((1, 1)), Options(gamma=gamma))
    exact = replace(NUMPY, c_exp=0.0, c_log=0.0, c_log1p=0.0, c_sigmoid=0.0)
    exact = demanded(replace(exact, working="float64"))
    loss, limit = to_float(truth(case, Semantics()).loss)[0], bounds(case, Semantics(), exact).loss
    # The difference of the logits is rounded as well, relative to the same 100 log 2: in 1 - p, to
    # the power of gamma, and in -log p.
    assert limit[0] >= (gamma + gamma + 1) * u * 100 * np.log(2) * loss
