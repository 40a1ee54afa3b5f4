"""Writes reference/_vectors.py: values of every operation, made by Arb.

python tests/reference/make_vectors.py > reference/_vectors.py
"""

# ruff: noqa: B023 - each formula is evaluated before its loop goes on

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import arb_oracle as oracle
import numpy as np

HEAD = '''"""Frozen values made by Arb (tests/reference/make_vectors.py); do not edit.

Each line is a call in JSON: function `f`, inputs `x`, `target` and `options`, and `out`, the
correctly rounded results in float64, float32, bfloat16 and float16. Numbers are hexadecimal.
"""

# ruff: noqa: E501
from __future__ import annotations

VECTORS = (
'''
SCALES = (0.001, 1.0, 10.0, 100.0, 1000.0)


def line(name: str, formula: Callable[[], Any], **call: Any) -> str:
    values = oracle.rounded(formula, tuple(oracle.FORMATS))
    out = [[float(v).hex() for v in values[name_]] for name_ in oracle.FORMATS]
    return json.dumps({"f": name, **call, "out": out}, separators=(",", ":"))


def hexes(values: Any) -> list:
    return [float(v).hex() for v in values]


def softmax_lines(rng: np.random.Generator) -> Iterator[str]:
    none = {"reduction": "none"}
    for i in range(70):
        k = int(rng.choice([2, 3, 5]))
        z = rng.standard_normal(k) * SCALES[i % 5] + rng.choice([0.0, 0.0, 1e4])
        row, t = z.tolist(), int(rng.integers(0, k)) if i % 3 else int(z.argmax())
        hard = [Fraction(int(j == t)) for j in range(k)]
        soft = [Fraction(q) for q in rng.dirichlet(np.ones(k)).tolist()]
        eps = Fraction(0.1)
        smooth = [(1 - eps) * a + eps / k for a in hard]
        x = [hexes(row)]
        for name, formula in (
            ("cross_entropy", lambda a: [oracle.cross_entropy(row, a)]),
            ("cross_entropy_grad", lambda a: oracle.cross_entropy_gradient(row, a)),
        ):
            yield line(name, lambda f=formula: f(hard), x=x, target=[t], options=none)
            q = [hexes(soft)]
            yield line(name, lambda f=formula: f(soft), x=x, target=q, options=none)
            options = {**none, "label_smoothing": 0.1}
            yield line(name, lambda f=formula: f(smooth), x=x, target=[t], options=options)

        def share() -> list:
            _, _, e, rest = oracle.softmax_parts(row)
            return [g / (1 + rest) for g in e]

        def level() -> list:
            return [oracle.exact(max(row)) + oracle.softmax_parts(row)[3].log1p()]

        yield line("softmax", share, x=x)
        yield line("logsumexp", level, x=x)


def binary_lines(rng: np.random.Generator) -> Iterator[str]:
    none, one, zero = {"reduction": "none"}, Fraction(1), Fraction(0)
    for i in range(70):
        z = float(rng.standard_normal() * SCALES[i % 5])
        y = float(rng.choice([0.0, 1.0, rng.random()]))
        up, down = Fraction(y), 1 - Fraction(y)
        x, target = hexes([z]), hexes([y])
        name = "binary_cross_entropy_with_logits"
        loss = oracle.binary_cross_entropy
        slope = oracle.binary_gradient
        yield line(name, lambda: [loss(z, up, down)], x=x, target=target, options=none)
        yield line(f"{name}_grad", lambda: [slope(z, up, down)], x=x, target=target, options=none)
        yield line("sigmoid", lambda: [slope(z, zero, one)], x=x)
        yield line("softplus", lambda: [loss(z, zero, one)], x=x)
        yield line("log_sigmoid", lambda: [-loss(-z, zero, one)], x=x)
        p = float(rng.random()) if i % 2 else 1 - 2.0 ** -float(rng.integers(1, 50))
        terms = [(up, Fraction(p)), (down, 1 - Fraction(p))]
        name = "binary_cross_entropy"
        yield line(name, lambda: [logs(terms)], x=hexes([p]), target=target, options=none)


def distribution_lines(rng: np.random.Generator) -> Iterator[str]:
    for i in range(40):
        p = rng.dirichlet(np.full(4, (0.1, 1.0)[i % 2]))
        q = rng.dirichlet(np.ones(4))
        a, b = [Fraction(v) for v in p.tolist()], [Fraction(v) for v in q.tolist()]
        x, target = hexes(p), hexes(q)
        own = [(w, w) for w in a if w]
        model = [(w, v) for w, v in zip(a, b, strict=True) if w]
        ratio = [(w, v / w) for w, v in zip(a, b, strict=True) if w]
        yield line("entropy", lambda: [logs(own)], x=x)
        yield line("perplexity", lambda: [logs(own).exp()], x=x)
        yield line("cross_entropy_distributions", lambda: [logs(model)], x=x, target=target)
        yield line("kl_divergence", lambda: [logs(ratio)], x=x, target=target)


def logs(terms: list) -> oracle.arb:
    """-sum c log x."""
    return -sum((oracle.exact(c) * oracle.log_fraction(x) for c, x in terms if c), oracle.arb(0))


def main() -> None:
    rng = np.random.default_rng(2024)
    sys.stdout.write(HEAD)
    for lines in (softmax_lines(rng), binary_lines(rng), distribution_lines(rng)):
        for text in lines:
            sys.stdout.write(f"    '{text}',\n")
    sys.stdout.write(")\n")


if __name__ == "__main__":
    main()
