"""Writes reference/_vectors.py: values of every operation, made by Arb.

python tests/reference/make_vectors.py > reference/_vectors.py
"""

# ruff: noqa: B023 - each formula is evaluated before its loop goes on

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import arb_oracle as oracle
import numpy as np

HEAD = '''"""Frozen values made by Arb (tests/reference/make_vectors.py); do not edit.

Each line is a call in JSON: function `f`, inputs `x`, `target`, `more` arguments and `options`,
and `out`, the correctly rounded results in float64, float32, bfloat16 and float16. Numbers are
hexadecimal; those among the options are the decimal ones that a user would write.
"""

# ruff: noqa: E501
from __future__ import annotations

VECTORS = (
'''
GUARDS = ((None, 1e-7), ("clip", 1e-7), ("clip", 1e-12), ("clip", 1e-15), ("clamp log", 1e-7))
SCALES = (0.001, 1.0, 10.0, 100.0, 1000.0)


def line(name: str, formula: Callable[[], Any], **call: Any) -> str:
    values = oracle.rounded(formula, tuple(oracle.FORMATS))
    out = [hexes(values[name_]) for name_ in oracle.FORMATS]
    return json.dumps({"f": name, **call, "out": out}, separators=(",", ":"))


def hexes(values: Any) -> list:
    return [re.sub(r"\.?0*p", "p", float(v).hex()) for v in values]


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

        def logs() -> list:
            units = [[Fraction(int(i == j)) for i in range(k)] for j in range(k)]
            return [-oracle.cross_entropy(row, unit) for unit in units]

        yield line("softmax", share, x=x)
        yield line("log_softmax", logs, x=x)
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
        yield line(
            name, lambda: [oracle.surprise(terms)], x=hexes([p]), target=target, options=none
        )


def option_lines(rng: np.random.Generator) -> Iterator[str]:
    """Cross-entropy with options, its further derivatives, and reductions of several rows."""
    none, zero = {"reduction": "none"}, Fraction(0)
    for i in range(30):
        k = 2 + i % 2
        row = (rng.standard_normal(k) * SCALES[i % 5]).tolist()
        t, q, v = int(rng.integers(0, k)), rng.dirichlet(np.ones(k)), rng.standard_normal(k)
        unit = [Fraction(int(j == t)) for j in range(k)]
        weight = rng.integers(1, 64, k) / 16
        factors = [Fraction(w) for w in weight.tolist()]
        a = oracle.coefficients(unit, factors, Fraction(0.1), "eps/(K-1)")
        smooth = {"weight": weight.tolist(), "label_smoothing": 0.1, "smoothing": "eps/(K-1)"}
        heat, extra = ((0.7, 0.0), (1.0, 0.01), (4.0, 0.25))[i % 3]
        hot = {"temperature": heat, "z_loss": extra}
        whole = sum((Fraction(p) * w for p, w in zip(q.tolist(), factors, strict=True)), zero)
        x, name = [hexes(row)], "cross_entropy"
        call = {"x": x, "target": [t]}

        def tempered() -> list:
            return oracle.tempered(row, unit, Fraction(heat), Fraction(extra))

        def in_target() -> list:
            return [
                oracle.cross_entropy(row, [w * int(j == m) for m in range(k)])
                for j, w in enumerate(factors)
            ]

        def product() -> list:
            return oracle.hessian_product(row, v.tolist(), whole)

        yield line(name, lambda: [oracle.cross_entropy(row, a)], **call, options=none | smooth)
        name += "_grad"
        yield line(
            name, lambda: oracle.cross_entropy_gradient(row, a), **call, options=none | smooth
        )
        yield line("cross_entropy", lambda: tempered()[:1], **call, options=none | hot)
        yield line(name, lambda: tempered()[1:], **call, options=none | hot)
        call = {"x": x, "target": [hexes(q)], "options": none | {"weight": weight.tolist()}}
        yield line("cross_entropy_grad_target", in_target, **call)
        yield line("cross_entropy_hvp", product, **call, more=[[hexes(v)]])
        yield from focal_lines(rng, row, t, i)
        mean = ("weights", "valid", "rows", "sample_weights")[i % 4]
        sample = (rng.integers(1, 64, 3) / 16).tolist()
        options = {"weight": weight.tolist(), "sample_weight": sample, "mean": mean}
        rows = [(rng.standard_normal(k) * 4).tolist() for _ in range(3)]
        divisor = {"weights": 3 * factors[t], "sample_weights": sum(map(Fraction, sample), zero)}
        by = [Fraction(s) * factors[t] / divisor.get(mean, Fraction(3)) for s in sample]

        def reduced() -> list:
            pairs = zip(rows, by, strict=True)
            terms = (oracle.cross_entropy(z, [f * b for b in unit]) for z, f in pairs)
            return [sum(terms, oracle.arb(0))]

        inputs = [hexes(z) for z in rows]
        yield line("cross_entropy", reduced, x=inputs, target=[t] * 3, options=options)


def focal_lines(rng: np.random.Generator, row: list[float], label: int, i: int) -> Iterator[str]:
    gamma, alpha = (0.5, 1.0, 2.0)[i % 3], (rng.integers(1, 16, len(row)) / 16).tolist()
    weight = Fraction(alpha[label])
    call = {"x": [hexes(row)], "target": [label], "options": {"gamma": gamma, "alpha": alpha}}
    yield line("focal", lambda: oracle.focal(row, label, gamma, weight)[:1], **call)
    yield line("focal_grad", lambda: oracle.focal(row, label, gamma, weight)[1:], **call)
    z, y, options = row[0], i % 2, {"gamma": gamma, "alpha": 0.25}
    own = Fraction(1, 4) if y else Fraction(3, 4)

    def binary() -> list:
        return oracle.focal([0.0, z], y, gamma, own)[:1]

    yield line("binary_focal", binary, x=hexes([z]), target=[y], options=options)


def binary_option_lines(rng: np.random.Generator) -> Iterator[str]:
    """Binary cross-entropy with options, from logits and from probabilities, and derivatives."""
    none, eps = {"reduction": "none"}, Fraction(0.1)
    for i in range(30):
        z, y = float(rng.standard_normal() * SCALES[i % 5]), float(rng.choice([0.0, 1.0, 0.25]))
        emphasis, weight = (float(n) / 16 for n in rng.integers(1, 64, 2))
        v, w, p = float(rng.standard_normal()), Fraction(weight), Fraction(emphasis)
        smooth = Fraction(y) * (1 - eps) + eps / 2
        up, down = w * p * smooth, w * (1 - smooth)
        options = {"pos_weight": emphasis, "weight": weight, "label_smoothing": 0.1}
        call = {"x": hexes([z]), "target": hexes([y]), "options": none | options}
        name, kept = "binary_cross_entropy_with_logits", w * (1 - eps)
        yield line(name, lambda: [oracle.binary_cross_entropy(z, up, down)], **call)
        yield line(f"{name}_grad", lambda: [oracle.binary_gradient(z, up, down)], **call)

        def in_target() -> list:
            return [oracle.binary_cross_entropy(z, kept * p, -kept)]

        def product() -> list:
            return [oracle.binary_hessian_product(z, (up + down) * Fraction(v))]

        yield line(f"{name}_grad_target", in_target, **call)
        yield line(f"{name}_hvp", product, **call, more=[hexes([v])])
        kind, tiny = GUARDS[i % len(GUARDS)]
        x = float((rng.random(), 1e-30, 1e-60, 1 - 1e-14)[i % 4])
        sides = Fraction(x), w * Fraction(y), w * (1 - Fraction(y)), oracle.Guard(kind, tiny)
        options = {"guard": kind, "guard_eps": tiny, "weight": weight}
        call = {"x": hexes([x]), "target": hexes([y]), "options": none | options}
        name = "binary_cross_entropy"
        yield line(name, lambda: oracle.binary_probability(*sides)[:1], **call)
        yield line(f"{name}_grad", lambda: oracle.binary_probability(*sides)[1:], **call)

        def guarded() -> list:
            return oracle.binary_probability(sides[0], w, -w, sides[3])[:1]

        yield line(f"{name}_grad_target", guarded, **call)


def probability_lines(rng: np.random.Generator) -> Iterator[str]:
    """Cross-entropy from probabilities under every guard and renormalisation; Gaussians."""
    for i in range(36):
        kind, tiny = GUARDS[i % len(GUARDS)]
        renormalise = ("no", "before", "after")[i // len(GUARDS) % 3]
        p, q = rng.dirichlet(np.full(3, 0.3)), rng.dirichlet(np.ones(3))
        p[i % 3] *= (1.0, 1e-20, 1e-60)[i % 3]
        own = [Fraction(a) for a in p.tolist()], [Fraction(b) for b in q.tolist()]
        known = oracle.Guard(kind, tiny)
        options = {"guard": kind, "guard_eps": tiny, "renormalise": renormalise}
        call = {"x": [hexes(p)], "target": [hexes(q)], "options": options | {"reduction": "none"}}
        name = "cross_entropy_probabilities"

        def values() -> list:
            return oracle.class_probabilities(*own, known, renormalise)

        def in_target() -> list:
            # The loss is linear in its target: each entry is the loss of a one-hot row.
            units = ([Fraction(int(j == k)) for j in range(3)] for k in range(3))
            return [oracle.class_probabilities(own[0], u, known, renormalise)[0] for u in units]

        yield line(name, lambda: values()[:1], **call)
        yield line(f"{name}_grad", lambda: values()[1:], **call)
        yield line(f"{name}_grad_target", in_target, **call)
        m, s, n, t = (float(a) for a in (rng.standard_normal(), 1 + rng.random(), 0.5, 1.25))
        more = [hexes([a]) for a in (n, t)]
        for j, function in enumerate(("gaussian_cross_entropy", "gaussian_kl_divergence")):
            yield line(
                function, lambda j=j: [oracle.gaussians(m, s, n, t)[j]],
                x=hexes([m]), target=hexes([s]), more=more,
            )  # fmt: skip


def distribution_lines(rng: np.random.Generator) -> Iterator[str]:
    for i in range(40):
        p = rng.dirichlet(np.full(4, (0.1, 1.0)[i % 2]))
        q = rng.dirichlet(np.ones(4))
        a, b = [Fraction(v) for v in p.tolist()], [Fraction(v) for v in q.tolist()]
        x, target = hexes(p), hexes(q)
        own = [(w, w) for w in a if w]
        model = [(w, v) for w, v in zip(a, b, strict=True) if w]
        ratio = [(w, v / w) for w, v in zip(a, b, strict=True) if w]
        base = (math.e, 2, 10)[i % 3]
        call = {"x": x, "options": {"base": base}}
        yield line("perplexity", lambda: [oracle.surprise(own).exp()], x=x)
        yield line("entropy", lambda: [oracle.in_units(own, base)], **call)
        for name, terms in (("cross_entropy_distributions", model), ("kl_divergence", ratio)):
            yield line(name, lambda: [oracle.in_units(terms, base)], **call, target=target)


def main() -> None:
    rng = np.random.default_rng(2024)
    sys.stdout.write(HEAD)
    makers = (
        softmax_lines, binary_lines, distribution_lines,
        option_lines, binary_option_lines, probability_lines,
    )  # fmt: skip
    for maker in makers:
        for text in maker(rng):
            sys.stdout.write(f"    '{text}',\n")
    sys.stdout.write(")\n")


if __name__ == "__main__":
    main()
