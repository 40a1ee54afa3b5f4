"""Keras 3 on JAX: eager, and through jax.jit, as `Model.fit` runs it.

Conventions were read in keras/src/backend/jax/nn.py and confirmed by running 3.15.1 with jax
0.10.2. A label becomes a one-hot row that is multiplied by the log-probabilities: outside [0, K)
the row is zero, and so is the loss; an infinite log-probability of another class makes it NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Semantics
from .jax_optax import NARROW, PLATFORMS, SUMMATION, XLA, devices_of
from .keras_losses import (
    BINARY_FOCAL_CLIPPED,
    CATEGORICAL_FOCAL_CLIPPED,
    CLASS_OPS,
    FLOORED,
    Backend,
    BackendRuntime,
    Declaration,
    clipped,
    framework,
)
from .runtime import Call
from .snippets import cut, far_labels, nested

# Eager JAX compiles every primitive for every shape: bfloat16 is left to the compiled mode.
DTYPES = ("float32",)

# ---------------------------------------------------------------------- declarations

SIGMOID = "; its sigmoid is 1 / (1 + exp(-z)) or 1/2 + tanh(z/2)/2, taken at 7 ulps: c = 14 (loose)"


def _arithmetic(form: str, gradient: str) -> Callable[[str, bool], Arithmetic]:
    def of(dtype: str, compiled: bool) -> Arithmetic:
        del compiled
        wide = dtype == "float32"
        c = 6.0 if wide else 1.01
        origin = XLA + SUMMATION + (SIGMOID if form == "log sigmoid" else "")
        return Arithmetic(
            form=form,
            gradient=gradient,
            working=dtype,
            stored=dtype,
            height="sequential",
            c_exp=c,
            c_log=c,
            c_log1p=c,
            c_sigmoid=14.0 if wide else 4.0,
            flush=True,
            origin=origin if wide else origin + NARROW,
        )

    return of


SPARSE = Semantics(mean="valid", all_ignored="zero", label_policy="zero")
CATEGORICAL = Semantics(smoothing="eps/K")
BINARY = Semantics(smoothing="toward 1/2")
DECLARED = {
    "SparseCategoricalCrossentropy.logits": Declaration(SPARSE, _arithmetic("B", "division")),
    "SparseCategoricalCrossentropy.probabilities": Declaration(
        clipped(SPARSE, "before"), _arithmetic("log p", "quotient")
    ),
    "CategoricalCrossentropy.logits": Declaration(CATEGORICAL, _arithmetic("B", "division")),
    "CategoricalCrossentropy.probabilities": Declaration(
        clipped(CATEGORICAL, "before"), _arithmetic("log p", "quotient")
    ),
    "BinaryCrossentropy.logits": Declaration(BINARY, _arithmetic("split", "exp logp")),
    "BinaryCrossentropy.probabilities": Declaration(
        clipped(BINARY), _arithmetic("log p", "difference")
    ),
    # The logits of an activation are not recovered: its output is clipped like any probability.
    "SparseCategoricalCrossentropy.softmax": Declaration(
        SPARSE, _arithmetic("log softmax / sum", "softmax product")
    ),
    "CategoricalCrossentropy.softmax": Declaration(
        CATEGORICAL, _arithmetic("log softmax / sum", "softmax product")
    ),
    "BinaryCrossentropy.sigmoid": Declaration(
        BINARY, _arithmetic("log sigmoid", "sigmoid product")
    ),
    "KLDivergence": Declaration(FLOORED, _arithmetic("log p", "quotient")),
    "BinaryFocalCrossentropy.logits": Declaration(
        BINARY_FOCAL_CLIPPED, _arithmetic("log sigmoid", "sigmoid product")
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
    kind = "jnp.int32" if case.target_kind == "index" else f"jnp.{case.dtype}"
    labels, imports = far_labels(case.target)
    lines = [
        *((*imports, "") if imports else ()),
        f"{x} = jnp.array({nested(case.inputs)}, jnp.{case.dtype}){cut(case.inputs)}",
        f"{y} = jnp.array({labels}, {kind}){cut(case.target)}",
    ]
    for name, values in (("w", case.sample_weight), ("c", case.cotangent)):
        if values is not None:
            lines.append(f"{name} = jnp.array({nested(values)}, jnp.{case.dtype}){cut(values)}")
    wanted = f"{x}, {y}" if case.by_target else x
    cotangent = "jnp.ones_like(loss)" if case.cotangent is None else "c"
    return [
        *lines,
        "",
        "",
        *(["@jax.jit"] if mode == "jit" else []),
        f"def loss_and_gradients({x}, {y}):",
        f"    loss, pull_back = jax.vjp(lambda {wanted}: {expression}, {wanted})",
        f"    return loss, *pull_back({cotangent})",
        "",
        "",
        f"for result in loss_and_gradients({x}, {y}):",
        "    print(result.tolist())",
    ]


FRAMEWORK = framework(
    Backend(
        name="jax",
        framework="keras-jax",
        module="keras_jax",
        packages=("jax",),
        imports=("import jax", "import jax.numpy as jnp", "import keras"),
        worker="keras-jax",
        environments={
            device: {"KERAS_BACKEND": "jax", **seen} for device, seen in PLATFORMS.items()
        },
        dtypes=DTYPES,
        declared=DECLARED,
        snippet=_snippet,
        compiled="jit",
        compiled_ops=(*CLASS_OPS, "CategoricalCrossentropy.softmax", "BinaryCrossentropy.sigmoid"),
    )
)

# ---------------------------------------------------------------------- in the worker


class KerasJaxRuntime(BackendRuntime):
    """keras on jax, imported."""

    backend = "jax"
    packages = ("jax",)

    def devices(self) -> tuple[str, ...]:
        import jax

        return tuple(devices_of(jax))

    def differentiated(self, loss_of: Callable[..., Any], call: Call) -> Callable[..., Any]:
        import jax

        def loss_and_gradients(x: Any, target: Any, cotangent: Any, *weights: Any) -> Any:
            if call.by_target:
                loss, pull_back = jax.vjp(lambda x, y: loss_of(x, y, *weights), x, target)
            else:
                loss, pull_back = jax.vjp(lambda x: loss_of(x, target, *weights), x)
            ones = jax.numpy.ones_like(loss)
            return loss, pull_back(ones if cotangent is None else cotangent.astype(loss.dtype))

        return jax.jit(loss_and_gradients) if call.mode == "jit" else loss_and_gradients


def load() -> KerasJaxRuntime:
    """Imports keras and jax."""
    return KerasJaxRuntime()
