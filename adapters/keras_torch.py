"""Keras 3 on PyTorch, eager.

Conventions were read in keras/src/backend/torch/nn.py, which calls the losses of
`torch.nn.functional`, and confirmed by running 3.15.1 with torch 2.13.
"""

from __future__ import annotations

import os
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
from .pytorch import SLEEF
from .runtime import Call
from .snippets import cut, nested
from .tensorflow_nn import NARROW

DTYPES = ("float32", "bfloat16")

# ---------------------------------------------------------------------- declarations

ORIGIN = (
    SLEEF
    + "sigmoid is 1 / (1 + exp(-z)): 2 + 1 + 1 roundings, c = 4, and 0 where exp(-z) overflows; "
    "the order of a sum over classes is not specified: K - 1 (loose)"
)


def _arithmetic(form: str, gradient: str, flush: bool = False) -> Callable[[str, bool], Arithmetic]:
    def of(dtype: str, compiled: bool) -> Arithmetic:
        del compiled
        wide = dtype == "float32"
        c = 2.0 if wide else 1.01
        return Arithmetic(
            form=form,
            gradient=gradient,
            working=dtype,
            stored=dtype,
            height="sequential",
            c_exp=c,
            c_log=c,
            c_log1p=c,
            c_sigmoid=4.0 if wide else 1.01,
            flush=flush,
            origin=ORIGIN if wide else ORIGIN + NARROW + " (loose)",
        )

    return of


# What ignore_class does not name, torch's own -100 excepted, has to be a class.
SPARSE = Semantics(mean="valid", ignore_index=-100, all_ignored="zero", label_policy="raises")
CATEGORICAL = Semantics(smoothing="eps/K")
BINARY = Semantics(smoothing="toward 1/2")
DECLARED = {
    "SparseCategoricalCrossentropy.logits": Declaration(SPARSE, _arithmetic("B", "exp logp")),
    "SparseCategoricalCrossentropy.probabilities": Declaration(
        clipped(SPARSE, "before"), _arithmetic("log p", "quotient")
    ),
    "CategoricalCrossentropy.logits": Declaration(CATEGORICAL, _arithmetic("B", "exp logp")),
    "CategoricalCrossentropy.probabilities": Declaration(
        clipped(CATEGORICAL, "before"), _arithmetic("log p", "quotient")
    ),
    "BinaryCrossentropy.logits": Declaration(BINARY, _arithmetic("torch", "sigmoid", flush=True)),
    "BinaryCrossentropy.probabilities": Declaration(
        clipped(BINARY), _arithmetic("log p", "quotient"), target_domain="raises"
    ),
    # The logits of an activation are not recovered: its output is clipped like any probability.
    "SparseCategoricalCrossentropy.softmax": Declaration(
        SPARSE, _arithmetic("log softmax / sum", "softmax product")
    ),
    "CategoricalCrossentropy.softmax": Declaration(
        CATEGORICAL, _arithmetic("log softmax / sum", "softmax product")
    ),
    "BinaryCrossentropy.sigmoid": Declaration(
        BINARY, _arithmetic("log sigmoid", "sigmoid product", flush=True), target_domain="raises"
    ),
    "KLDivergence": Declaration(FLOORED, _arithmetic("log p", "quotient")),
    "BinaryFocalCrossentropy.logits": Declaration(
        BINARY_FOCAL_CLIPPED, _arithmetic("log sigmoid", "sigmoid product", flush=True)
    ),
    "BinaryFocalCrossentropy.probabilities": Declaration(
        BINARY_FOCAL_CLIPPED, _arithmetic("log p", "quotient")
    ),
    "CategoricalFocalCrossentropy.logits": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _arithmetic("log softmax / sum", "softmax product")
    ),
    "CategoricalFocalCrossentropy.probabilities": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _arithmetic("log p", "quotient")
    ),
}


def _snippet(mode: str, case: Case, x: str, y: str, expression: str) -> list[str]:
    del mode
    kind = "torch.int64" if case.target_kind == "index" else f"torch.{case.dtype}"
    arrays = [(x, case.inputs), ("w", case.sample_weight), ("c", case.cotangent)]
    wanted = [f"{name}.requires_grad_()" for name in ([x, y] if case.by_target else [x])]
    cotangent = "torch.ones_like(loss)" if case.cotangent is None else "c"
    return [
        f"{y} = torch.tensor({nested(case.target)}, dtype={kind}){cut(case.target)}",
        *(
            f"{name} = torch.tensor({nested(values)}, dtype=torch.{case.dtype}){cut(values)}"
            for name, values in arrays
            if values is not None
        ),
        f"wanted = [{', '.join(wanted)}]",
        f"loss = {expression}",
        "print(loss.tolist())",
        f"for gradient in torch.autograd.grad(loss, wanted, {cotangent}):",
        "    print(gradient.tolist())",
    ]


ENVIRONMENT = {
    "KERAS_BACKEND": "torch",
    # Keras fails to start where its default is not there; a call says its device itself.
    "KERAS_TORCH_DEVICE": "cpu",
    # The batches are small, and on a busy machine threads wait for each other.
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
}

FRAMEWORK = framework(
    Backend(
        name="torch",
        framework="keras-torch",
        module="keras_torch",
        packages=("torch",),
        imports=("import keras", "import torch"),
        worker="keras-torch",
        environments=dict.fromkeys(("cpu", "cuda"), ENVIRONMENT),
        dtypes=DTYPES,
        declared=DECLARED,
        snippet=_snippet,
    )
)

# ---------------------------------------------------------------------- in the worker


class KerasTorchRuntime(BackendRuntime):
    """keras on torch, imported."""

    backend = "torch"
    packages = ("torch",)

    def devices(self) -> tuple[str, ...]:
        import torch

        return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)

    def differentiated(self, loss_of: Callable[..., Any], call: Call) -> Callable[..., Any]:
        import torch

        def loss_and_gradients(inputs: Any, target: Any, cotangent: Any, *weights: Any) -> Any:
            wanted = [inputs, target] if call.by_target else [inputs]
            for tensor in wanted:
                tensor.requires_grad_()
            loss = loss_of(inputs, target, *weights)
            pulled = torch.ones_like(loss) if cotangent is None else cotangent.to(loss.dtype)
            return loss.detach(), torch.autograd.grad(loss, wanted, pulled)

        return loss_and_gradients


def load() -> KerasTorchRuntime:
    """Imports keras and torch."""
    return KerasTorchRuntime()
