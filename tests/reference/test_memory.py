"""What a call needs beside its arguments and its result does not grow with the rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from lossaudit import reference as ref

ROWS = 40_000
SPARE = 1.1


def beside_the_result(function: Callable[[], np.ndarray]) -> int:
    """The peak of a call less its result, in bytes."""
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()


def logits(rows: int, *, moved: bool = False) -> np.ndarray:
    z = np.random.default_rng(71).standard_normal((rows, 8)).astype(np.float32)
    return np.ascontiguousarray(z.T) if moved else z


def calls(rows: int) -> dict[str, Callable[[], np.ndarray]]:
    """Calls of public functions on so many rows of 8 float32 logits."""
    rng = np.random.default_rng(72)
    z, t, s = logits(rows), rng.integers(0, 8, rows), rng.random(rows)
    moved, y = logits(rows, moved=True), (logits(rows) > 0).astype(np.float32)
    p = 1 / (1 + np.exp(-z))
    return {
        "loss": lambda: ref.cross_entropy(z, t, reduction="none"),
        "loss in float32": lambda: ref.cross_entropy(z, t, reduction="none", dtype="float32"),
        "mean": lambda: ref.cross_entropy(z, t, sample_weight=s, mean="sample_weights"),
        "gradient": lambda: ref.cross_entropy_grad(z, t, weight=np.ones(8)),
        "moved axis": lambda: ref.cross_entropy_grad(moved, t, axis=0, dtype="float32"),
        "soft target": lambda: ref.cross_entropy(z, p, reduction="none"),
        "binary": lambda: ref.binary_cross_entropy_with_logits(z, y, reduction="none"),
        "multi-label": lambda: ref.binary_cross_entropy_with_logits_grad(z, y, classes="mean"),
        "softmax": lambda: ref.softmax(z),
        "sigmoid": lambda: ref.sigmoid(z, dtype="float16"),
        "focal": lambda: ref.focal(z, t),
        "focal gradient": lambda: ref.focal_grad(z, t, dtype="float32"),
        "binary focal": lambda: ref.binary_focal(z, y, alpha=0.25),
        "entropy": lambda: ref.entropy(p),
        "divergence": lambda: ref.kl_divergence(p, p[::-1]),
        "cross-entropy of distributions": lambda: ref.cross_entropy_distributions(p, p[::-1]),
        "perplexity": lambda: ref.perplexity(p),
        "product with the Hessian": lambda: ref.cross_entropy_hvp(z, t, z),
        "binary product": lambda: ref.binary_cross_entropy_with_logits_hvp(z, y, z),
        "target": lambda: ref.cross_entropy_grad_target(z, p),
        "target of probabilities": lambda: ref.cross_entropy_probabilities_grad_target(p, p),
        "binary target": lambda: ref.binary_cross_entropy_with_logits_grad_target(z, y),
        "binary target of probabilities": lambda: ref.binary_cross_entropy_grad_target(p, y),
    }


@pytest.mark.parametrize("name", list(calls(1)))
def test_memory_is_constant(name: str) -> None:
    beside_the_result(calls(100)[name])  # what loads at first use
    few, many = (beside_the_result(calls(rows)[name]) for rows in (ROWS // 4, ROWS))
    assert many < SPARE * few
