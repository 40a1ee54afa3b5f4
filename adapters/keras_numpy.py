"""Keras 3 on NumPy, which computes losses and differentiates nothing.

Conventions were read in keras/src/backend/numpy/nn.py and confirmed by running 3.15.1. Labels
below 0 become a one-hot row of zeros, labels from K on raise; a binary loss from logits takes
their sigmoid, and clips it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Semantics
from .keras_losses import (
    BINARY_FOCAL_CLIPPED,
    CATEGORICAL_FOCAL_CLIPPED,
    FLOORED,
    Backend,
    BackendRuntime,
    Declaration,
    clipped,
    framework,
)
from .runtime import Call
from .snippets import cut, nested
from .tensorflow_nn import NARROW

DTYPES = ("float32", "float16")

# ---------------------------------------------------------------------- declarations

NUMPY = (
    "NumPy's vectorised exp and log in float32 (numpy/_core/src/umath/"
    "loops_exponent_log.dispatch.c.src) state at most 2.52 and 3.83 ulps, both taken at 4: c = 8; "
    "sigmoid is 1 / (1 + exp(-z)): c = 10, and 0 where exp(-z) overflows (flush); the order of "
    "a sum over classes is not specified: K - 1 (loose)"
)


def _arithmetic(form: str, flush: bool = False) -> Callable[[str, bool], Arithmetic]:
    def of(dtype: str, compiled: bool) -> Arithmetic:
        del compiled
        wide = dtype == "float32"
        c = 8.0 if wide else 1.01
        return Arithmetic(
            form=form,
            gradient="",
            working=dtype,
            stored=dtype,
            height="sequential",
            c_exp=c,
            c_log=c,
            c_log1p=c,
            c_sigmoid=10.0 if wide else 4.0,
            flush=flush,
            origin=NUMPY if wide else NUMPY + NARROW + " (loose)",
        )

    return of


# A label below 0 is ignored in effect, and so is -100.
SPARSE = Semantics(
    mean="valid",
    ignore_index=-100,
    all_ignored="zero",
    label_policy="zero (-1, -10^6); raises (K, 10^6)",
)
CATEGORICAL = Semantics(smoothing="eps/K")
BINARY = Semantics(smoothing="toward 1/2")
DECLARED = {
    "SparseCategoricalCrossentropy.logits": Declaration(SPARSE, _arithmetic("B")),
    "SparseCategoricalCrossentropy.probabilities": Declaration(
        clipped(SPARSE, "before"), _arithmetic("log p")
    ),
    "CategoricalCrossentropy.logits": Declaration(CATEGORICAL, _arithmetic("B")),
    "CategoricalCrossentropy.probabilities": Declaration(
        clipped(CATEGORICAL, "before"), _arithmetic("log p")
    ),
    "BinaryCrossentropy.logits": Declaration(BINARY, _arithmetic("log sigmoid", flush=True)),
    "BinaryCrossentropy.probabilities": Declaration(clipped(BINARY), _arithmetic("log p")),
    # The logits of an activation are not recovered: its output is clipped like any probability.
    "SparseCategoricalCrossentropy.softmax": Declaration(SPARSE, _arithmetic("log softmax / sum")),
    "CategoricalCrossentropy.softmax": Declaration(CATEGORICAL, _arithmetic("log softmax / sum")),
    "BinaryCrossentropy.sigmoid": Declaration(BINARY, _arithmetic("log sigmoid", flush=True)),
    "KLDivergence": Declaration(FLOORED, _arithmetic("log p")),
    "BinaryFocalCrossentropy.logits": Declaration(
        BINARY_FOCAL_CLIPPED, _arithmetic("log sigmoid", flush=True)
    ),
    "BinaryFocalCrossentropy.probabilities": Declaration(
        BINARY_FOCAL_CLIPPED, _arithmetic("log p")
    ),
    "CategoricalFocalCrossentropy.logits": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _arithmetic("log softmax / sum")
    ),
    "CategoricalFocalCrossentropy.probabilities": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _arithmetic("log p")
    ),
}


def _snippet(mode: str, case: Case, x: str, y: str, expression: str) -> list[str]:
    del mode
    kind = "int64" if case.target_kind == "index" else case.dtype
    lines = [
        f"{x} = np.array({nested(case.inputs)}, np.{case.dtype}){cut(case.inputs)}",
        f"{y} = np.array({nested(case.target)}, np.{kind}){cut(case.target)}",
    ]
    if case.sample_weight is not None:
        weight = case.sample_weight
        lines.append(f"w = np.array({nested(weight)}, np.{case.dtype}){cut(weight)}")
    return [*lines, f"print({expression}.tolist())"]


FRAMEWORK = framework(
    Backend(
        name="numpy",
        framework="keras-numpy",
        module="keras_numpy",
        packages=("numpy",),
        imports=("import keras", "import numpy as np"),
        worker="keras-numpy",
        environments={"cpu": {"KERAS_BACKEND": "numpy"}},
        dtypes=DTYPES,
        declared=DECLARED,
        snippet=_snippet,
        gradients=False,
    )
)

# ---------------------------------------------------------------------- in the worker


class KerasNumpyRuntime(BackendRuntime):
    """keras on numpy, imported."""

    backend = "numpy"
    packages = ("numpy",)

    def differentiated(self, loss_of: Callable[..., Any], call: Call) -> Callable[..., Any]:
        del call

        def loss_alone(inputs: Any, target: Any, cotangent: Any, *weights: Any) -> Any:
            del cotangent
            return loss_of(inputs, target, *weights), ()

        return loss_alone


def load() -> KerasNumpyRuntime:
    """Imports keras on numpy."""
    return KerasNumpyRuntime()
