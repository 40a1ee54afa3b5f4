"""exp, log1p and log in double-double, against Arb, and the tables they rest on."""

# ruff: noqa: T201 - `pytest -s` shows the counts

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flint
import numpy as np
import pytest

from lossaudit.reference import doubledouble, functions, make_tables
from lossaudit.reference.exact import Exact

RNG = np.random.default_rng(7)
N = 3000
CASES = {
    "exp to 64": (functions.exp, flint.arb.exp, -RNG.random(N) * 64, -99),
    "exp to 745": (functions.exp, flint.arb.exp, -RNG.random(N) * 745, -99),
    "exp to 4000": (functions.exp, flint.arb.exp, -RNG.random(N) * 4000, -99),
    "exp near 0": (functions.exp, flint.arb.exp, -(2.0 ** -(RNG.random(N) * 60)), -99),
    "exp above 0": (functions.exp, flint.arb.exp, RNG.random(N) * 700, -99),
    "log1p": (functions.log1p, flint.arb.log1p, 2.0 ** (RNG.random(N) * 140 - 120), -97),
    "log1p tiny": (functions.log1p, flint.arb.log1p, 2.0 ** (RNG.random(N) * 40 - 140), -97),
    "log1p around 1": (functions.log1p, flint.arb.log1p, 2.0 ** (RNG.random(N) * 14 - 13), -97),
    "log1p below 0": (functions.log1p, flint.arb.log1p, -RNG.random(N) * 0.29, -97),
    "log": (functions.log, flint.arb.log, 2.0 ** (RNG.random(N) * 2000 - 1000), -97),
    "log near 1": (
        functions.log,
        flint.arb.log,
        1 + RNG.normal(size=N) * 0.3 ** (RNG.random(N) * 20),
        -97,
    ),
}


def worst(got: Exact, want: Callable[[flint.arb], flint.arb], x: np.ndarray) -> float:
    """log2 of the largest relative error."""
    errors = []
    with flint.ctx.workprec(400):
        for i, value in enumerate(x.tolist()):
            ball = flint.arb(float(got.hi[i])) + flint.arb(float(got.lo[i]))
            ball *= flint.arb(2) ** int(got.exponent[i])
            truth = want(flint.arb(value))
            errors.append(float(abs((ball - truth) / truth).upper()) if truth != 0 else 0.0)
    return float(np.log2(max(errors)))


@pytest.mark.parametrize("name", list(CASES))
def test_relative_error(name: str) -> None:
    function, want, x, bits = CASES[name]
    x = x[x > -0.29] if "near 1" in name else x
    error = worst(function(Exact.from_float(x)), want, x)
    print(f"{name}: largest relative error 2**{error:.1f} in {x.size} values")
    assert error < bits


def test_tables_are_what_decimal_gives() -> None:
    written = Path(doubledouble.__file__).with_name("_tables.py").read_text(encoding="utf-8")
    assert written == make_tables.render()


def test_seed_of_log1p_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A libm whose log1p errs by 4 ulps changes no result of 53 bits."""
    x = Exact.from_float(2.0 ** (RNG.random(20000) * 60 - 50))
    before = functions.log1p(x)
    true_log1p = np.log1p
    for ulps in (-4, 4):
        monkeypatch.setattr(
            doubledouble.np, "log1p", lambda v, n=ulps: true_log1p(v) * (1 + n * 2.0**-52)
        )
        after = functions.log1p(x)
        monkeypatch.undo()
        assert np.array_equal(before.hi, after.hi)
        assert np.max(np.abs(before.lo - after.lo)) < 2.0**-95


def test_self_test_sees_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubledouble, "two_prod", lambda a, b: (a * b, a * b - a * b))
    with pytest.raises(RuntimeError, match="fused"):
        doubledouble.self_test()
