"""Speed and accuracy of the reference beside what people use: `python benchmarks/reference.py`.

Prints, per shape, ns per logit (minimum and median of several runs, one process) and the largest
error in float64 ulps over the rows of one run; ratios are to the reference in float64.
Rows whose loss is exact are the reference's own; Arb is the independent one.

What was tried for float64, in ns per logit at 131072 x 2 on one thread of a machine that others
used too (before: 490 to 520; now: 240 to 300; the results are the same bits):

- Rounding by one ldexp, since `hi` is the nearest float64 already and only subnormal results need
  the lattice: 116 to 2.
- The exponential of one logit of two, the other being that of 0: about 60 less. For K = 10 the
  like is worth a tenth of the exponentials, less than the gathering of the others costs.
- log1p without selecting where nothing is selected: 5 or less.
- Binary cross-entropy (a million logits): 1275 to 840 by the rounding, and to 375 without the
  products by targets of 0 and 1.
- Passes of 8192, 16384, 32768, 65536 entries, at 131072 x 2: 263, 214, 240, 311 on one thread, and
  418, 324, 284, 242 on two, which wait for the interpreter's lock between short calls. 32768 it is.
- Not tried: 100 ns. Of what is left, 120 are the exponential, 90 log1p (which evaluates another
  exponential) and 40 the addition that rounds to odd.

Gradients in float32 through the fast tier instead of double-double: 1235 to 98 at K = 2, 927 to 57
at K = 10, 872 to 46 at K = 1000; binary 1709 to 86.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lossaudit import reference
from lossaudit.reference import rows
from lossaudit.reference.exact import Exact, round_exact, ulp_error
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.vocabulary import Options, Semantics

SHAPES = ((131072, 2), (65536, 10), (1024, 1000), (16, 50257))
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def naive(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(t.size), t]


def plain_log1p(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    index, top = np.arange(t.size), z.argmax(axis=1)
    m = z[index, top]
    e = np.exp(z - m[:, None])
    e[index, top] = 0.0
    return (m - z[index, t]) + np.log1p(e.sum(axis=1))


def scipy_methods() -> dict[str, Method]:
    try:
        from scipy import special  # noqa: PLC0415 - it may be absent
    except ImportError:
        return {}

    def difference(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        return special.logsumexp(z, axis=1) - z[np.arange(t.size), t]

    def logs(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        return -special.log_softmax(z, axis=1)[np.arange(t.size), t]

    return {"scipy logsumexp - z_t": difference, "scipy log_softmax": logs}


def arb_methods() -> dict[str, Method]:
    try:
        import flint  # noqa: PLC0415 - it may be absent
    except ImportError:
        return {}

    def arb(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        losses = []
        with flint.ctx.workprec(200):
            for row, label in zip(z.tolist(), t.tolist(), strict=True):
                top = max(range(len(row)), key=row.__getitem__)
                m = flint.arb(row[top])
                terms = [(flint.arb(x) - m).exp() for j, x in enumerate(row) if j != top]
                total = sum(terms, flint.arb(0))
                losses.append(float((m - row[label] + total.log1p()).mid()))
        return np.array(losses)

    return {"Arb, 200 bits": arb}


def ours(dtype: str) -> Method:
    def method(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.asarray(reference.cross_entropy(z, t, reduction="none", dtype=dtype), dtype=float)

    return method


def gradient(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Loss and every entry of the gradient."""
    truth = rows.cross_entropy_truth(z, t, Semantics(), Options())
    return round_exact(truth.loss, FORMATS["float64"])


def two_threads(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Halves of the rows side by side: NumPy releases the interpreter's lock in its loops."""
    middle = t.size // 2
    halves = (z[:middle], t[:middle]), (z[middle:], t[middle:])
    with ThreadPoolExecutor(2) as pool:
        return np.concatenate(list(pool.map(lambda half: ours("float64")(*half), halves)))


METHODS: dict[str, Method] = {
    "reference, float64": ours("float64"),
    "reference, float64, two threads": two_threads,
    "reference, float32": ours("float32"),
    "reference, loss and gradient": gradient,
    "naive NumPy": naive,
    "log1p in float64": plain_log1p,
    **scipy_methods(),
    **arb_methods(),
}


def seconds(method: Method, z: np.ndarray, t: np.ndarray, repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            method(z, t)
        found.append(time.perf_counter() - start)
    return found


def worst(method: Method, z: np.ndarray, t: np.ndarray, truth: Exact, fmt: str) -> float:
    with np.errstate(all="ignore"):
        return float(ulp_error(method(z, t), truth, FORMATS[fmt]).max())


def cross_entropy(repeats: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    for n, k in SHAPES:
        z, t = rng.standard_normal((n, k)) * scale, rng.integers(0, k, n)
        few = max(1, min(n, 20000 // k))
        truth = rows.cross_entropy_truth(z[:few], t[:few], Semantics(), Options()).loss
        print(f"\n{n} x {k}, logits N(0, 1) * {scale}")
        print(f"{'method':32}{'min ns':>9}{'median':>9}{'ratio':>8}   largest error, ulps")
        base = None
        for name, method in METHODS.items():
            some = few if name.startswith("Arb") else n
            times = seconds(method, z[:some], t[:some], 1 if name.startswith("Arb") else repeats)
            per_logit = [1e9 * s / (some * k) for s in times]
            base = base or min(per_logit)
            fmt = "float32" if name.endswith("float32") else "float64"
            error = worst(method, z[:few], t[:few], truth, fmt)
            print(
                f"{name:32}{min(per_logit):9.1f}{statistics.median(per_logit):9.1f}"
                f"{min(per_logit) / base:8.2f}   {error:.6g} ({fmt})"
            )


def binary(repeats: int) -> None:
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal(1_000_000) * 5, rng.integers(0, 2, 1_000_000).astype(float)
    print("\nBCE with logits, a million logits")
    for dtype in FORMATS:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            reference.binary_cross_entropy_with_logits(z, y, reduction="none", dtype=dtype)
            times.append((time.perf_counter() - start) * 1e3)
        print(f"reference, {dtype:20}{min(times):9.1f}{statistics.median(times):9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    cross_entropy(options.repeats, options.scale)
    binary(options.repeats)


if __name__ == "__main__":
    main()
