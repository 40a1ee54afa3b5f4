"""The truths of rows against Arb: not one value may differ from the correctly rounded one."""

# ruff: noqa: B023 - each formula is evaluated before its loop goes on
# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit.reference import rows
from lossaudit.reference.exact import Exact, round_exact, ulp_error
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.vocabulary import Case, Options, Semantics

NAMES = tuple(FORMATS)
SEMANTICS = Semantics(smoothing="eps/K", plus_inf="limit")
TOWARD_HALF = Semantics(smoothing="toward 1/2", plus_inf="limit")


class Count:
    """Values compared, values wrong, and the largest error of the rounded float64 value in ulps."""

    def __init__(self) -> None:
        self.values, self.wrong, self.worst = 0, 0, 0.0
        self.first = ""

    def add(self, got: Exact, want: dict[str, np.ndarray], what: str) -> None:
        for name, values in want.items():
            fmt = FORMATS[name]
            mine = round_exact(got, fmt)
            bad = mine != values
            self.values += values.size
            if bad.any():
                self.first = (
                    self.first or f"{what} {name}: {mine[bad][0].hex()} not {values[bad][0].hex()}"
                )
            self.wrong += int(bad.sum())
            finite = np.isfinite(mine) & np.isfinite(got.hi)
            if finite.any():
                self.worst = max(self.worst, float(ulp_error(mine, got, fmt)[finite].max()))

    def done(self, what: str, least: int = 1) -> None:
        text = f"{what}: {self.wrong} of {self.values} wrong, largest error {self.worst:.6f} ulps"
        print(text)
        assert self.wrong == 0, f"{text}; first: {self.first}"
        assert self.values >= least


def scaled(scale: float):
    return lambda rng, n, k: rng.standard_normal((n, k)) * scale


def saturated(low: float, high: float):
    """One logit ahead of the others by low to high."""

    def draw(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
        z = rng.standard_normal((n, k))
        z[np.arange(n), rng.integers(0, k, n)] += rng.uniform(low, high, n)
        return z

    return draw


def shifted(offset: float):
    return lambda rng, n, k: rng.standard_normal((n, k)) * 5 + offset


def uniform(size: float):
    return lambda rng, n, k: rng.uniform(-1, 1, (n, k)) * size


def subnormal(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.integers(-1000, 1000, (n, k)) * 5e-324


def ties(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.integers(-1, 2, (n, k)).astype(float)


def equal(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return np.repeat(rng.standard_normal((n, 1)), k, axis=1)


def midpoints(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """m - z_t is half an ulp away from a float64, and S is tiny: the classic wrong tie."""
    z = np.full((n, k), -3000.0)
    z[:, 0] = 1.0 + 2.0**-52 * rng.integers(0, 2, n)
    z[:, 1] = -(2.0 ** rng.integers(0, 9, n)) * (1 + 2.0**-52 * rng.integers(0, 3, n))
    return z


def minus_infinity(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    z = rng.standard_normal((n, k))
    z[rng.random((n, k)) < 0.4] = -np.inf
    z[:, 0] = rng.standard_normal(n)
    return z


REGIMES = {
    "N * 0.001": scaled(0.001),
    "N": scaled(1.0),
    "N * 10": scaled(10.0),
    "N * 100": scaled(100.0),
    "N * 1000": scaled(1000.0),
    "gap 0..30": saturated(0, 30),
    "gap 30..300": saturated(30, 300),
    "gap 700..745": saturated(700, 745),
    "gap 745..800": saturated(745, 800),
    "offset 1e8": shifted(1e8),
    "offset 1e15": shifted(1e15),
    "uniform 1e4": uniform(1e4),
    "uniform 1e30": uniform(1e30),
    "uniform 8.9e307": uniform(8.9e307),
    "uniform 1.7e308": uniform(1.79e308),
    "subnormal": subnormal,
    "ties": ties,
    "equal": equal,
    "midpoints": midpoints,
    "-inf": minus_infinity,
}


def compare_softmax_rows(
    z: np.ndarray,
    truth: rows.Truth,
    weights: Sequence[Sequence[Fraction]],
    what: str,
    counts: Sequence[Count],
    formats: Sequence[str] = NAMES,
) -> None:
    """Rows of finite loss against Arb."""
    for i, row in enumerate(z.tolist()):
        a = weights[i]
        if np.isfinite(truth.loss.hi[i]):
            want = oracle.rounded(lambda: [oracle.cross_entropy(row, a)], formats)
            counts[0].add(truth.loss.take(slice(i, i + 1)), want, f"{what} row {row} {a}")
        want = oracle.rounded(lambda: oracle.cross_entropy_gradient(row, a), formats)
        counts[1].add(truth.gradient.take(i), want, f"{what} gradient row {row} {a}")


def one_hot(target: np.ndarray, k: int) -> list[list[Fraction]]:
    return [[Fraction(int(j == t)) for j in range(k)] for t in target.tolist()]


@pytest.mark.parametrize("regime", list(REGIMES))
def test_cross_entropy_of_an_index(regime: str) -> None:
    rng = np.random.default_rng(11)
    counts = Count(), Count()
    for n, k in ((30, 2), (20, 10)):
        z = REGIMES[regime](rng, n, k)
        for target in (rng.integers(0, k, n), z.argmax(axis=1)):
            truth = rows.cross_entropy_truth(z, target, SEMANTICS, Options())
            compare_softmax_rows(z, truth, one_hot(target, k), regime, counts)
    counts[0].done(f"CE loss, {regime}")
    counts[1].done(f"CE gradient, {regime}")


@pytest.mark.parametrize(
    "regime", ["N", "N * 10", "N * 100", "uniform 1e4", "ties", "equal", "-inf", "midpoints"]
)
@pytest.mark.parametrize("option", ["weight", "eps/K", "eps/(K-1)", "weight, eps/K"])
def test_cross_entropy_with_options(regime: str, option: str) -> None:
    rng = np.random.default_rng(12)
    n, k, eps = 15, 6, 0.1
    z = REGIMES[regime](rng, n, k)
    target = rng.integers(0, k, n)
    weight = [1.0] * k
    if "weight" in option:
        weight = [0.0, 1.0, 0.5, 3.0, 0.1, 7.0]
    smooth = eps if "eps" in option else 0.0
    e, w = Fraction(smooth), [Fraction(x) for x in weight]
    spread = [e / k] * k
    weights = []
    for t in target.tolist():
        if option == "eps/(K-1)":
            weights.append([(1 - e) if j == t else e / (k - 1) for j in range(k)])
        else:
            weights.append([w[j] * ((1 - e) * (j == t) + spread[j]) for j in range(k)])
    semantics = Semantics(smoothing="eps/(K-1)" if option == "eps/(K-1)" else "eps/K")
    options = Options(weight=tuple(weight) if "weight" in option else None, label_smoothing=smooth)
    truth = rows.cross_entropy_truth(z, target, semantics, options)
    counts = Count(), Count()
    compare_softmax_rows(z, truth, weights, f"{regime} {option}", counts)
    counts[0].done(f"CE loss, {regime}, {option}")
    counts[1].done(f"CE gradient, {regime}, {option}")


def distributions(kind: str, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, k = z.shape
    if kind == "dirichlet":
        return rng.dirichlet(np.ones(k), n)
    if kind == "unnormalised":
        return rng.random((n, k)) * 3
    if kind == "sparse":
        q = np.zeros((n, k))
        q[:, 0], q[:, 1] = 0.5, 0.5
        return q
    if kind == "signed":
        return rng.standard_normal((n, k))
    finite = np.where(np.isneginf(z), -1e300, z)
    e = np.exp(finite - finite.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["dirichlet", "unnormalised", "sparse", "signed", "softmax"])
@pytest.mark.parametrize(
    "regime", ["N", "N * 10", "N * 1000", "ties", "equal", "midpoints", "-inf"]
)
def test_cross_entropy_of_a_distribution(regime: str, kind: str) -> None:
    rng = np.random.default_rng(13)
    z = REGIMES[regime](rng, 12, 5)
    q = distributions(kind, z, rng)
    if regime == "-inf":
        q = np.where(np.isneginf(z), 0.0, q)
    truth = rows.cross_entropy_truth(z, q, SEMANTICS, Options())
    counts = Count(), Count()
    weights = [[Fraction(x) for x in row] for row in q.tolist()]
    compare_softmax_rows(z, truth, weights, f"{regime} {kind}", counts)
    counts[0].done(f"CE loss, {regime}, {kind}")
    counts[1].done(f"CE gradient, {regime}, {kind}")


def test_gradient_p_minus_q() -> None:
    z, q = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[2.0, 1.0], [0.0, 0.0]])
    semantics = Semantics(soft_gradient="p - q")
    truth = rows.cross_entropy_truth(z, q, semantics, Options())

    def formula() -> list:
        # p_0 - q_0 = 1 / (1 + e) - 2
        return [1 / (1 + oracle.arb(1).exp()) - 2]

    want = oracle.rounded(formula)["float64"]
    got = round_exact(truth.gradient, FORMATS["float64"])
    assert got[0, 0] == want[0]
    assert got[1].tolist() == [0.5, 0.5]


def test_wide_rows() -> None:
    rng = np.random.default_rng(14)
    counts = Count(), Count()
    for scale in (1.0, 10.0):
        z = rng.standard_normal((1, 3000)) * scale
        target = rng.integers(0, 3000, 1)
        truth = rows.cross_entropy_truth(z, target, SEMANTICS, Options())
        compare_softmax_rows(z, truth, one_hot(target, 3000), "wide", counts, ("float64",))
    counts[0].done("CE loss, K = 3000")
    counts[1].done("CE gradient, K = 3000")


BINARY_LOGITS = {
    "N": lambda rng, n: rng.standard_normal(n),
    "N * 10": lambda rng, n: rng.standard_normal(n) * 10,
    "N * 300": lambda rng, n: rng.standard_normal(n) * 300,
    "700..760": lambda rng, n: rng.uniform(700, 760, n) * rng.choice([-1, 1], n),
    "1e30": lambda rng, n: rng.uniform(-1, 1, n) * 1e30,
    "1.7e308": lambda rng, n: rng.uniform(-1, 1, n) * 1.79e308,
    "tiny": lambda rng, n: rng.standard_normal(n) * 2.0 ** -rng.integers(20, 1074, n),
    "small integers": lambda rng, n: rng.integers(-40, 41, n).astype(float),
}
BINARY_TARGETS = {
    "0 or 1": lambda rng, z: rng.integers(0, 2, z.size).astype(float),
    "uniform": lambda rng, z: rng.random(z.size),
    "quarters": lambda rng, z: rng.integers(0, 5, z.size) / 4,
    "RN(sigmoid)": lambda _, z: 1 / (1 + np.exp(-np.clip(z, -700, 700))),
    "outside": lambda rng, z: rng.standard_normal(z.size) * 3,
    "1e-300": lambda _, z: np.full(z.size, 1e-300),
}


@pytest.mark.parametrize("target_kind", list(BINARY_TARGETS))
@pytest.mark.parametrize("option", ["", "pos_weight", "smoothing"])
def test_binary_cross_entropy_with_logits(target_kind: str, option: str) -> None:
    rng = np.random.default_rng(15)
    losses, gradients = Count(), Count()
    for name, draw in BINARY_LOGITS.items():
        z = draw(rng, 30)
        y = BINARY_TARGETS[target_kind](rng, z)
        emphasis = 3.1 if option == "pos_weight" else None
        eps = 0.2 if option == "smoothing" else 0.0
        options = Options(pos_weight=emphasis, label_smoothing=eps)
        truth = rows.binary_cross_entropy_with_logits_truth(
            z[:, None], y[:, None], TOWARD_HALF, options
        )
        for i in range(z.size):
            smooth = Fraction(y[i]) * (1 - Fraction(eps)) + Fraction(eps) / 2
            up, down = smooth * Fraction(emphasis or 1), 1 - smooth
            what = f"{name} z={z[i].hex()} y={y[i].hex()}"
            want = oracle.rounded(lambda: [oracle.binary_cross_entropy(z[i], up, down)], NAMES)
            losses.add(truth.loss.take(slice(i, i + 1)), want, what)
            want = oracle.rounded(lambda: [oracle.binary_gradient(z[i], up, down)], NAMES)
            gradients.add(truth.gradient.take(i), want, what)
    losses.done(f"BCE loss, y {target_kind} {option}")
    gradients.done(f"BCE gradient, y {target_kind} {option}")


def test_softmax_family() -> None:
    rng = np.random.default_rng(16)
    counts = {name: Count() for name in ("log_softmax", "softmax", "logsumexp")}
    for regime, draw in REGIMES.items():
        z = np.atleast_2d(draw(rng, 12, 4))
        results = {name: getattr(rows, name)(z) for name in counts}
        for i, row in enumerate(z.tolist()):
            finite = [j for j in range(4) if np.isfinite(row[j])]
            unit = one_hot(np.arange(4), 4)
            formulas = {
                "log_softmax": lambda: [-oracle.cross_entropy(row, unit[j]) for j in finite],
                "softmax": lambda: [_share(row, j) for j in finite],
                "logsumexp": lambda: [
                    oracle.exact(max(row)) + oracle.softmax_parts(row)[3].log1p()
                ],
            }
            for name, formula in formulas.items():
                got = results[name].take(i)
                got = got.reshape(1) if name == "logsumexp" else got.take(finite)
                counts[name].add(got, oracle.rounded(formula, NAMES), f"{regime} {row}")
    for name, count in counts.items():
        count.done(name, 3000 if name != "logsumexp" else 900)


def _share(row: list[float], j: int):
    _, _, growth, others = oracle.softmax_parts(row)
    return growth[j] / (1 + others)


def test_sigmoid_family() -> None:
    rng = np.random.default_rng(17)
    counts = {name: Count() for name in ("sigmoid", "softplus", "log_sigmoid")}
    one, zero = Fraction(1), Fraction(0)
    for name, draw in BINARY_LOGITS.items():
        z = draw(rng, 40)
        results = {kind: getattr(rows, kind)(z) for kind in counts}
        for i in range(z.size):
            formulas = {
                "sigmoid": lambda: [oracle.binary_gradient(z[i], zero, one)],
                "softplus": lambda: [oracle.binary_cross_entropy(z[i], zero, one)],
                "log_sigmoid": lambda: [-oracle.binary_cross_entropy(-z[i], zero, one)],
            }
            for kind, formula in formulas.items():
                want = oracle.rounded(formula, NAMES)
                counts[kind].add(results[kind].take(slice(i, i + 1)), want, f"{name} {z[i].hex()}")
    for kind, count in counts.items():
        count.done(kind, 1200)


PROBABILITIES = {
    "uniform": lambda rng, n: rng.random(n),
    "near 1": lambda rng, n: 1 - 2.0 ** -rng.integers(1, 54, n).astype(float),
    "near 0": lambda rng, n: 2.0 ** -rng.integers(1, 1074, n).astype(float) * rng.random(n),
    "eighths": lambda rng, n: rng.integers(1, 8, n) / 8,
    "float32": lambda rng, n: rng.random(n).astype(np.float32).astype(float),
    "guarded": lambda rng, n: rng.choice([1e-8, 1e-60, 1 - 2.0**-40, 1 - 2.0**-53, 0.0, 1.0], n),
}
GUARDS = {
    "none": Semantics(smoothing="toward 1/2"),
    "clip 1e-7": Semantics(smoothing="toward 1/2", guard="clip", guard_eps=1e-7),
    "clip 1e-15": Semantics(smoothing="toward 1/2", guard="clip", guard_eps=1e-15),
    "clamp -100": Semantics(
        guard="clamp log", guard_floor=-100.0, guard_gradient="clamped denominator"
    ),
    "clamp -100 exact": Semantics(guard="clamp log", guard_floor=-100.0),
}


def guarded_logs(p: Fraction, semantics: Semantics, dtype: str):
    """(clipped p, whether it moved, list of None or Fraction arguments of log p and log(1 - p))."""
    low, high = (Fraction(b) for b in rows.clip_bounds(semantics.guard_eps, dtype))
    inside = p
    if semantics.guard == "clip":
        inside = min(max(p, low), high)
    floor = semantics.guard == "clamp log"
    arguments = [None if floor and _log(x) < -100 else x for x in (inside, 1 - inside)]
    return inside, inside != p, arguments


def _log(x: Fraction) -> float:
    return float("-inf") if x == 0 else float(oracle.log_fraction(x).mid())


@pytest.mark.parametrize("guard", list(GUARDS))
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_binary_cross_entropy(guard: str, dtype: str) -> None:
    rng, semantics = np.random.default_rng(18), GUARDS[guard]
    losses, gradients = Count(), Count()
    for name, draw in PROBABILITIES.items():
        p = draw(rng, 30)
        y = np.where(rng.random(30) < 0.5, rng.integers(0, 2, 30), rng.random(30))
        truth = rows.binary_cross_entropy_truth(p[:, None], y[:, None], semantics, Options(), dtype)
        for i in range(p.size):
            inside, moved, arguments = guarded_logs(Fraction(p[i]), semantics, dtype)
            factors = [Fraction(y[i]), 1 - Fraction(y[i])]
            what = f"{guard} {name} p={p[i].hex()} y={y[i].hex()}"
            if any(x == 0 and c for x, c in zip(arguments, factors, strict=True)):
                assert np.isposinf(truth.loss.hi[i]), what
            else:
                want = oracle.rounded(lambda: [_binary_loss(factors, arguments)], NAMES)
                losses.add(truth.loss.take(slice(i, i + 1)), want, what)
            if not 0 < inside < 1:
                continue
            value = Fraction(0) if moved else _binary_slope(inside, factors, arguments, semantics)
            want = {f: np.array([nearest_fraction(value, f)]) for f in NAMES}
            gradients.add(truth.gradient.take(i), want, what)
    losses.done(f"BCE from probabilities, {guard} {dtype}")
    gradients.done(f"its gradient, {guard} {dtype}")


def nearest_fraction(value: Fraction, name: str) -> float:
    """RN of a rational number: 3000 bits and a sticky one are as good as all of them."""
    bits = 3000
    scaled_, rest = divmod(value.numerator << bits, value.denominator)
    return oracle.nearest(2 * scaled_ + (rest != 0), -bits - 1, name)


def _binary_loss(factors, arguments):
    total = oracle.arb(0)
    for factor, argument in zip(factors, arguments, strict=True):
        if argument is None:
            total += oracle.exact(100 * factor)
        elif factor:
            total -= oracle.exact(factor) * oracle.log_fraction(argument)
    return total


def _binary_slope(p, factors, arguments, semantics) -> Fraction:
    up, down = factors
    if semantics.guard_gradient == "clamped denominator":
        least = Fraction(float(np.float32(1e-12)))
        return (down * p - up * (1 - p)) / max(p * (1 - p), least)
    rise = down / (1 - p) if arguments[1] is not None else Fraction(0)
    fall = up / p if arguments[0] is not None else Fraction(0)
    return rise - fall


@pytest.mark.parametrize("renormalise", ["no", "before", "after"])
@pytest.mark.parametrize("guard", ["none", "clip"])
def test_cross_entropy_probabilities(renormalise: str, guard: str) -> None:
    rng = np.random.default_rng(19)
    semantics = Semantics(smoothing="eps/K", guard=guard, guard_eps=1e-7, renormalise=renormalise)
    losses, gradients = Count(), Count()
    low, high = (Fraction(b) for b in rows.clip_bounds(1e-7, "float32"))
    for sharp, eps in ((1.0, 0.0), (0.05, 0.0), (1.0, 0.1), (0.02, 0.25)):
        p = rng.dirichlet(np.full(4, sharp), 40) * rng.choice([1.0, 1.0, 2.0], (40, 1)) + 1e-280
        target = rng.integers(0, 4, 40)
        q = rng.dirichlet(np.ones(4), 40)
        for given in (target, q):
            truth = rows.cross_entropy_probabilities_truth(
                p, given, semantics, Options(label_smoothing=eps), "float32"
            )
            for i, row in enumerate(p.tolist()):
                share = given[i].tolist() if given.ndim == 2 else one_hot(target, 4)[i]
                weights = [Fraction(s) * (1 - Fraction(eps)) + Fraction(eps) / 4 for s in share]
                arguments, slope = _class_truth(row, weights, renormalise, guard, low, high)
                want = oracle.rounded(lambda: [_class_loss(weights, arguments)], NAMES)
                losses.add(truth.loss.take(slice(i, i + 1)), want, f"{row} {share}")
                want = {f: np.array([nearest_fraction(g, f) for g in slope]) for f in NAMES}
                gradients.add(truth.gradient.take(i), want, f"{row} {share}")
    losses.done(f"CE from probabilities, {renormalise} {guard}")
    gradients.done(f"its gradient, {renormalise} {guard}")


def _class_loss(weights, arguments):
    total = oracle.arb(0)
    for weight, argument in zip(weights, arguments, strict=True):
        total -= oracle.exact(weight) * oracle.log_fraction(argument)
    return total


def _class_truth(
    row: list, weights: list, renormalise: str, guard: str, low: Fraction, high: Fraction
) -> tuple[list[Fraction], list[Fraction]]:
    """Arguments of the logs, and the gradient as Fractions, straight from the definitions."""
    p = [Fraction(x) for x in row]

    def clip(x: Fraction) -> Fraction:
        return min(max(x, low), high) if guard == "clip" else x

    if renormalise == "no":
        inside = [clip(x) for x in p]
        return inside, [
            Fraction(0) if c != x else -a / x for a, c, x in zip(weights, inside, p, strict=True)
        ]
    if renormalise == "before":
        whole = sum(p, Fraction(0))
        shares = [x / whole for x in p]
        inside = [clip(s) for s in shares]
        used = [
            a if c == s else Fraction(0) for a, c, s in zip(weights, inside, shares, strict=True)
        ]
        return inside, [
            sum(used, Fraction(0)) / whole - a / x for a, x in zip(used, p, strict=True)
        ]
    inside = [clip(x) for x in p]
    whole = sum(inside, Fraction(0))
    slope = [
        sum(weights, Fraction(0)) / whole - a / x if c == x else Fraction(0)
        for a, c, x in zip(weights, inside, p, strict=True)
    ]
    return [c / whole for c in inside], slope


def test_smoothing_beside_a_mask_drops_what_falls_on_classes_that_are_left_out():
    """The loss is that of the classes present, for their parts (1 - e) q + e/K, K all classes."""
    logits, target = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.5, 0.0, 0.25, 0.25]])
    here = np.array([True, False, True, True])
    options = Options(where=tuple(here.tolist()), label_smoothing=0.25)
    masked = rows.truth(Case("cross_entropy", "float64", logits, target, options), SEMANTICS)
    parts = (0.75 * target + 0.0625)[:, here]  # exact
    alone = rows.truth(Case("cross_entropy", "float64", logits[:, here], parts), SEMANTICS)
    fmt = FORMATS["float64"]
    assert round_exact(masked.loss, fmt) == round_exact(alone.loss, fmt)
    slope = round_exact(masked.gradient, fmt)[0]
    assert slope[here].tolist() == round_exact(alone.gradient, fmt)[0].tolist()
    assert slope[~here].tolist() == [0.0]
