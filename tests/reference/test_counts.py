"""At least 2,000 values of each operation in each format against Arb, and none may be wrong.

A quarter each lies near midpoints of the four formats, has subnormal results, cancels, or is
ordinary. Marked slow: about a minute.
"""

# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

import time
from fractions import Fraction

import arb_oracle as oracle
import numpy as np
import pytest

from lossaudit.reference import rows
from lossaudit.reference.exact import Exact, round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.vocabulary import Options, Semantics

pytestmark = pytest.mark.slow

NAMES = tuple(FORMATS)
QUARTER = 500
SEMANTICS = Semantics(smoothing="eps/K", plus_inf="limit")
ONE, ZERO = Fraction(1), Fraction(0)


def midpoints(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Midpoints of each format with binary exponents in [low, high)."""
    found = []
    for fmt in FORMATS.values():
        n = QUARTER // 4
        units = rng.integers(2 ** (fmt.precision - 1), 2**fmt.precision, n) + 0.5
        found.append(np.ldexp(units, rng.integers(low, high, n) - fmt.precision))
    return np.concatenate(found)


def loss_logits(rng: np.random.Generator) -> np.ndarray:
    """x with losses log(1 + e**x) in all four quarters."""
    near = midpoints(rng, -8, 8)
    near = np.where(near > 30, near, np.log(np.expm1(np.minimum(near, 30))))
    subnormal = np.concatenate(
        [-rng.uniform(708, 744, QUARTER // 2), -rng.uniform(88, 103, QUARTER // 2)]
    )
    saturated = rng.uniform(-60, -20, QUARTER)
    return np.concatenate([near, subnormal, saturated, rng.standard_normal(QUARTER) * 5])


def share_logits(rng: np.random.Generator) -> np.ndarray:
    """x with sigmoid(x) in all four quarters."""
    near = midpoints(rng, -8, 0)
    near = np.log(near) - np.log1p(-near)
    return np.concatenate([near, loss_logits(rng)[QUARTER:]])


class Tally:
    """Counts of one operation."""

    def __init__(self, what: str) -> None:
        self.what, self.values, self.wrong = what, 0, 0
        self.start = time.perf_counter()

    def add(self, got: Exact, want: dict[str, np.ndarray]) -> None:
        for name, values in want.items():
            self.values += values.size
            self.wrong += int(np.sum(round_exact(got, FORMATS[name]).reshape(-1) != values))

    def done(self) -> None:
        seconds = time.perf_counter() - self.start
        text = f"{self.what}: {self.wrong} of {self.values} wrong, {seconds:.1f} s"
        print(text)
        assert self.wrong == 0, text
        assert self.values >= 4 * 4 * QUARTER


def test_cross_entropy_of_an_index() -> None:
    rng = np.random.default_rng(31)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[: x.size // 2, 2] = -np.inf
    z += rng.integers(-3, 4, (x.size, 1)) * 2.0**-3
    loss, slope = Tally("CE loss"), Tally("CE gradient")
    truth = rows.cross_entropy_truth(z, np.zeros(x.size, dtype=np.int64), SEMANTICS, Options())
    unit = [ONE, ZERO, ZERO]
    for i, row in enumerate(z.tolist()):
        want = oracle.rounded(lambda row=row: [oracle.cross_entropy(row, unit)], NAMES)
        loss.add(truth.loss.take(slice(i, i + 1)), want)
        want = oracle.rounded(lambda row=row: oracle.cross_entropy_gradient(row, unit), NAMES)
        slope.add(truth.gradient.take(i), want)
    loss.done()
    slope.done()


@pytest.mark.parametrize("kind", ["distribution", "cancelling", "smoothing"])
def test_soft_cross_entropy(kind: str) -> None:
    rng = np.random.default_rng(32)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, rng.standard_normal(x.size)], axis=1)
    options, target = Options(), rng.dirichlet(np.ones(3), x.size)
    if kind == "cancelling":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        target = e / e.sum(axis=1, keepdims=True)
    if kind == "smoothing":
        options, target = Options(label_smoothing=0.1), rng.integers(0, 3, x.size)
    loss, slope = Tally(f"soft CE loss, {kind}"), Tally(f"soft CE gradient, {kind}")
    truth = rows.cross_entropy_truth(z, target, SEMANTICS, options)
    eps = Fraction(options.label_smoothing)
    for i, row in enumerate(z.tolist()):
        if kind == "smoothing":
            weights = [(1 - eps) * int(j == target[i]) + eps / 3 for j in range(3)]
        else:
            weights = [Fraction(q) for q in target[i].tolist()]

        def value(row=row, weights=weights) -> list:
            return [oracle.cross_entropy(row, weights)]

        def pulls(row=row, weights=weights) -> list:
            return oracle.cross_entropy_gradient(row, weights)

        loss.add(truth.loss.take(slice(i, i + 1)), oracle.rounded(value, NAMES))
        slope.add(truth.gradient.take(i), oracle.rounded(pulls, NAMES))
    loss.done()
    slope.done()


@pytest.mark.parametrize("kind", ["hard", "soft", "cancelling"])
def test_binary_cross_entropy_with_logits(kind: str) -> None:
    rng = np.random.default_rng(33)
    z = np.concatenate([loss_logits(rng), share_logits(rng)])
    y = np.zeros(z.size) if kind == "hard" else rng.random(z.size)
    if kind == "cancelling":
        y = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
    loss, slope = Tally(f"BCE loss, {kind}"), Tally(f"BCE gradient, {kind}")
    truth = rows.binary_cross_entropy_with_logits_truth(
        z[:, None], y[:, None], Semantics(), Options()
    )
    for i in range(z.size):
        up, down = Fraction(y[i]), 1 - Fraction(y[i])

        def value(x=float(z[i]), up=up, down=down) -> list:
            return [oracle.binary_cross_entropy(x, up, down)]

        def pull(x=float(z[i]), up=up, down=down) -> list:
            return [oracle.binary_gradient(x, up, down)]

        loss.add(truth.loss.take(slice(i, i + 1)), oracle.rounded(value, NAMES))
        slope.add(truth.gradient.take(i), oracle.rounded(pull, NAMES))
    loss.done()
    slope.done()


def test_sigmoid_family() -> None:
    rng = np.random.default_rng(34)
    z = np.concatenate([loss_logits(rng), share_logits(rng)])
    tallies = {name: Tally(name) for name in ("sigmoid", "softplus", "log_sigmoid")}
    found = {name: getattr(rows, name)(z) for name in tallies}
    for i, x in enumerate(z.tolist()):
        formulas = {
            "sigmoid": lambda x=x: [oracle.binary_gradient(x, ZERO, ONE)],
            "softplus": lambda x=x: [oracle.binary_cross_entropy(x, ZERO, ONE)],
            "log_sigmoid": lambda x=x: [-oracle.binary_cross_entropy(-x, ZERO, ONE)],
        }
        for name, formula in formulas.items():
            tallies[name].add(found[name].take(slice(i, i + 1)), oracle.rounded(formula, NAMES))
    for tally in tallies.values():
        tally.done()


def test_softmax_family() -> None:
    rng = np.random.default_rng(35)
    x = loss_logits(rng)
    z = np.stack([np.zeros_like(x), x, x - rng.exponential(3, x.size)], axis=1)
    z[rng.random(x.size) < 0.5] -= 0.5  # exactly: logsumexp then cancels against the offset
    tallies = {name: Tally(name) for name in ("softmax", "log_softmax", "logsumexp")}
    found = {name: getattr(rows, name)(z) for name in tallies}
    units = [[Fraction(int(i == j)) for i in range(3)] for j in range(3)]
    for i, row in enumerate(z.tolist()):

        def shares(row=row) -> list:
            _, _, growth, others = oracle.softmax_parts(row)
            return [e / (1 + others) for e in growth]

        def logs(row=row) -> list:
            return [-oracle.cross_entropy(row, unit) for unit in units]

        def level(row=row) -> list:
            return [oracle.exact(max(row)) + oracle.softmax_parts(row)[3].log1p()]

        for name, formula in (("softmax", shares), ("log_softmax", logs), ("logsumexp", level)):
            got = found[name].take(slice(i, i + 1))
            tallies[name].add(got, oracle.rounded(formula, NAMES))
    for tally in tallies.values():
        tally.done()


def test_binary_cross_entropy() -> None:
    rng = np.random.default_rng(36)
    near = np.exp(-midpoints(rng, -8, 6))
    tiny = np.ldexp(rng.random(QUARTER), rng.integers(-1073, -900, QUARTER))
    edge = 1 - 2.0 ** -rng.integers(1, 54, QUARTER).astype(float)
    p = np.concatenate([near, tiny, edge, rng.random(QUARTER)])
    y = np.where(rng.random(p.size) < 0.6, 1.0, rng.random(p.size))
    loss, slope = Tally("BCE from probabilities"), Tally("its gradient")
    truth = rows.binary_cross_entropy_truth(
        p[:, None], y[:, None], Semantics(), Options(), "float64"
    )
    for i in range(p.size):
        a, c = Fraction(p[i]), Fraction(y[i])

        def value(a=a, c=c) -> list:
            first = oracle.exact(c) * oracle.log_fraction(a)
            second = oracle.exact(1 - c) * oracle.log_fraction(1 - a) if c != 1 else oracle.arb(0)
            return [-(first + second)]

        loss.add(truth.loss.take(slice(i, i + 1)), oracle.rounded(value, NAMES))
        exact = (1 - c) / (1 - a) - c / a if a != 1 else ZERO
        scaled, rest = divmod(exact.numerator << 3000, exact.denominator)
        want = {f: [oracle.nearest(2 * scaled + (rest != 0), -3001, f)] for f in NAMES}
        slope.add(truth.gradient.take(i), {f: np.array(v) for f, v in want.items()})
    loss.done()
    slope.done()


def test_cross_entropy_probabilities() -> None:
    rng = np.random.default_rng(37)
    n = 4 * QUARTER
    p = rng.dirichlet(np.ones(3), n)
    p[:QUARTER, 0] = np.exp(-midpoints(rng, -8, 6))
    p[QUARTER : 2 * QUARTER, 0] = np.ldexp(rng.random(QUARTER), -rng.integers(900, 1000, QUARTER))
    p[2 * QUARTER : 3 * QUARTER, 0] = 1 - 2.0 ** -rng.integers(1, 54, QUARTER).astype(float)
    target = np.zeros(n, dtype=np.int64)
    for way in ("no", "before"):
        tally = Tally(f"CE from probabilities, renormalised {way}")
        truth = rows.cross_entropy_probabilities_truth(
            p, target, Semantics(renormalise=way), Options(), "float64"
        )
        for i, row in enumerate(p.tolist()):
            parts = [Fraction(x) for x in row]
            whole = sum(parts) if way == "before" else ONE

            def value(x=parts[0] / whole) -> list:
                return [-oracle.log_fraction(x)]

            tally.add(truth.loss.take(slice(i, i + 1)), oracle.rounded(value, NAMES))
        tally.done()
