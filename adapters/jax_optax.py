"""JAX: the cross-entropies of optax, and the composition with `jax.nn.log_softmax`.

Eager JAX runs op by op; "jit" compiles value and gradient together. float64 needs a process of its
own with JAX_ENABLE_X64, because that switch also changes what other formats are promoted to.

Conventions were read in optax/losses/_classification.py and jax/_src/nn/functions.py and confirmed
by running jax 0.10.2 with optax 0.2.8; how each step is rounded was read in the jaxprs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Options, Semantics
from .protocol import RawArray
from .runtime import (
    NUMPY_TYPES,
    Call,
    Result,
    flags,
    per_row,
    raw,
    subnormals,
)
from .snippets import input_name, nested, target_name
from .subject import Framework, Interface, Subject

DTYPES = ("float64", "float32", "bfloat16", "float16")
COMPILED_DTYPES = ("float32", "bfloat16")
CLASSES, BINARY = (64, 3), (64, 1)

# ---------------------------------------------------------------------- declarations

XLA = (
    "XLA's own exp, log and log1p on CPUs, which its exhaustive tests (xla/tests/exhaustive) hold "
    "to about 1 ulp of the C library, taken at 3: c = 6 (loose); subnormals are flushed "
    "(ScopedFlushDenormal in the CPU client); "
)
SUMMATION = "the order of the sum over classes is not specified: K - 1 (loose)"
NARROW = (
    "; each primitive computes in float32 and rounds to 16 bits (compiled: possibly later), sums "
    "are rounded once; taken as rounded after every op (loose): c = 1.01"
)

# Like Python's: labels from -K to -1 count from the end; other labels outside [0, K) give NaN.
INDEX = Semantics(label_policy="wraps (-1); nan (K, -10^6, 10^6)")
# logsumexp has the limit of a +inf logit, and then subtracts +inf from it where that is the target.
INTEGER_LABELS = replace(INDEX, plus_inf="unspecified")
DISTRIBUTION = Semantics(smoothing="eps/K")
BINARY_LOGITS = Semantics()

# optax/losses/_classification.py: one loss per example, classes in the last axis (`axis=-1`), and
# NumPy's broadcasting of logits and targets, except where take_along_axis picks by label.
INDEX_CALL = Interface(
    default_reduction="none", class_axis="last", broadcasting="raises", mutates="no"
)
DISTRIBUTION_CALL = Interface(
    default_reduction="none",
    class_axis="last",
    broadcasting="broadcasts",
    target_domain="computes",
    mutates="no",
)
BINARY_CALL = Interface(
    default_reduction="none",
    last_axis="kept",
    broadcasting="broadcasts",
    target_domain="computes",
    mutates="no",
)
CALLS = {"index": INDEX_CALL, "distribution": DISTRIBUTION_CALL, "binary": BINARY_CALL}


def _arithmetic(dtype: str, form: str, gradient: str, extra: str = "") -> Arithmetic:
    wide = dtype in ("float64", "float32")
    c = 6.0 if wide else 1.01
    origin = XLA + SUMMATION + extra
    return Arithmetic(
        form=form,
        gradient=gradient,
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=c,
        c_sigmoid=14.0,
        flush=True,
        origin=origin if wide else origin + NARROW,
    )


def _log_softmax(dtype: str) -> Arithmetic:
    """(z - max) - log(sum exp(z - max)); backward ct - exp(z - max) (sum ct / sum exp)."""
    return _arithmetic(dtype, "B", "division")


def _logsumexp(dtype: str) -> Arithmetic:
    """log(sum exp(z - max)) + max - z_y; backward exp(z - max) / sum - onehot."""
    return _arithmetic(dtype, "A", "division")


def _sigmoid(dtype: str) -> Arithmetic:
    """-y log_sigmoid(z) - (1 - y) log_sigmoid(-z), log_sigmoid(z) = -logaddexp(-z, 0).

    Every term is at least 0, so the form is that of "split"; the gradient is
    (1 - y) exp(z - softplus(z)) - y exp(-z - softplus(-z)).
    """
    extra = "; logaddexp is max(z, 0) + log1p(exp(-|z|)), and its derivative exp(z - logaddexp)"
    return _arithmetic(dtype, "split", "exp logp", extra)


@dataclass(frozen=True)
class _Op:
    """The declaration of one op, apart from its mode, and how a script calls it."""

    operation: str
    target: str
    options: frozenset[str]
    semantics: Semantics
    arithmetic: Callable[[str], Arithmetic]
    expression: str
    index_sibling: str | None = None
    binary_sibling: str | None = None


INTEGER = "softmax_cross_entropy_with_integer_labels"
OPS: dict[str, _Op] = {
    "softmax_cross_entropy": _Op(
        "cross_entropy",
        "distribution",
        frozenset({"label_smoothing"}),
        DISTRIBUTION,
        _log_softmax,
        "optax.softmax_cross_entropy({x}, {y})",
        index_sibling=INTEGER,
        binary_sibling="sigmoid_binary_cross_entropy",
    ),
    INTEGER: _Op(
        "cross_entropy",
        "index",
        frozenset(),
        INTEGER_LABELS,
        _logsumexp,
        "optax.softmax_cross_entropy_with_integer_labels({x}, {y})",
        binary_sibling="sigmoid_binary_cross_entropy",
    ),
    "log_softmax.index": _Op(
        "cross_entropy",
        "index",
        frozenset(),
        INDEX,
        _log_softmax,
        "-jnp.take_along_axis(jax.nn.log_softmax({x}), {y}[..., None], axis=-1)[..., 0]",
        binary_sibling="sigmoid_binary_cross_entropy",
    ),
    "sigmoid_binary_cross_entropy": _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        frozenset(),
        BINARY_LOGITS,
        _sigmoid,
        "optax.sigmoid_binary_cross_entropy({x}, {y})",
    ),
}


def _eager(name: str, op: _Op) -> Subject:
    return Subject(
        framework="jax",
        op=name,
        operation=op.operation,
        target=op.target,
        mode="eager",
        dtypes=DTYPES,
        options=op.options,
        reductions=("none",),
        semantics=op.semantics,
        arithmetic={dtype: op.arithmetic(dtype) for dtype in DTYPES},
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=CALLS[op.target],
    )


def _jit(name: str, op: _Op) -> Subject:
    return replace(
        _eager(name, op),
        mode="jit",
        dtypes=COMPILED_DTYPES,
        arithmetic={dtype: op.arithmetic(dtype) for dtype in COMPILED_DTYPES},
        shape=BINARY if op.target == "binary" else CLASSES,
    )


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject
    if dtype == "float64":
        return "jax-x64", {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    return "jax", {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    expression = OPS[subject.op].expression.format(x=x, y=_target_expression(case, y))
    integers = case.target_kind == "index"
    lines = [
        "import jax",
        "import jax.numpy as jnp",
        *(["import optax"] if "optax." in expression else []),
        "",
        *(['jax.config.update("jax_enable_x64", True)'] if case.dtype == "float64" else []),
        f"{x} = jnp.array({nested(case.inputs)}, jnp.{case.dtype})",
        f"{y} = jnp.array({nested(case.target)}{'' if integers else f', jnp.{case.dtype}'})",
        "",
        "",
        *(["@jax.jit"] if subject.mode == "jit" else []),
        f"def loss_and_gradient({x}, {y}):",
        f"    loss, pull_back = jax.vjp(lambda {x}: {expression}, {x})",
        "    return loss, pull_back(jnp.ones_like(loss))[0]",
        "",
        "",
        f"loss, gradient = loss_and_gradient({x}, {y})",
        "print(loss.tolist())",
        "print(gradient.tolist())",
    ]
    return "\n".join(lines) + "\n"


def _target_expression(case: Case, y: str) -> str:
    if not case.options.label_smoothing:
        return y
    return f"optax.smooth_labels({y}, {case.options.label_smoothing!r})"


FRAMEWORK = Framework(
    name="jax",
    module="jax_optax",
    packages=("jax", "jaxlib", "optax"),
    install="pip install jax optax",
    subjects=tuple(make(name, op) for make in (_eager, _jit) for name, op in OPS.items()),
    worker=_worker,
    snippet=_snippet,
)

# ---------------------------------------------------------------------- in the worker


class JaxRuntime:
    """jax and optax, imported."""

    def __init__(self) -> None:
        import jax
        import jaxlib
        import optax

        self._jax, self._jaxlib, self._optax = jax, jaxlib, optax
        self._bfloat16 = jax.numpy.bfloat16.dtype
        self._programs: dict[Any, Any] = {}

    def versions(self) -> dict[str, str]:
        return {
            "jax": self._jax.__version__,
            "jaxlib": self._jaxlib.__version__,
            "optax": self._optax.__version__,
        }

    def facts(self) -> dict[str, str]:
        config = self._jax.config
        return {
            "x64": str(bool(config.jax_enable_x64)),
            "backend": self._jax.default_backend(),
            "devices": ", ".join(f"{d} ({d.device_kind})" for d in self._jax.devices()),
            "matmul precision": str(config.jax_default_matmul_precision),
            "dtype promotion": str(config.jax_numpy_dtype_promotion),
            "jit": "disabled" if config.jax_disable_jit else "enabled",
            "subnormals": subnormals(lambda x: self._jax.numpy.asarray(x) * x.dtype.type(0.5)),
            **flags("XLA_FLAGS", "JAX_PLATFORMS", "NPROC"),
        }

    def call(self, call: Call) -> Result:
        array = self._jax.numpy.asarray
        inputs = array(call.inputs.view(self._kind(call.dtype)))
        target = array(call.target if call.index else call.target.view(self._kind(call.dtype)))
        loss, *gradients = self._program(call)(inputs, target, self._cotangent(call))
        if per_row(tuple(loss.shape), len(call.inputs)):
            loss = loss[:, 0]
        return Result(self._raw(loss), *map(self._raw, gradients))

    def _cotangent(self, call: Call) -> Any:
        """One number a row, or None for ones and for a reduced loss."""
        if call.cotangent is None:
            return None
        return self._jax.numpy.asarray(call.cotangent.view(self._kind(call.dtype)))

    def _kind(self, dtype: str) -> Any:
        return NUMPY_TYPES.get(dtype, self._bfloat16)

    def _raw(self, array: Any) -> RawArray:
        return raw(self._jax.device_get(array), array.dtype.name)

    def _program(self, call: Call) -> Any:
        key = call.key
        if key not in self._programs:
            self._programs[key] = self._make(call)
        return self._programs[key]

    def _make(self, call: Call) -> Any:
        jax = self._jax
        loss_of = self._loss(call.op, call.options)

        def loss_and_gradient(inputs: Any, target: Any, cotangent: Any) -> Any:
            if call.by_target:
                loss, pull_back = jax.vjp(loss_of, inputs, target)
            else:
                loss, pull_back = jax.vjp(lambda x: loss_of(x, target), inputs)
            if cotangent is None:
                return loss, *pull_back(jax.numpy.ones_like(loss))
            return loss, *pull_back(cotangent.astype(loss.dtype).reshape(loss.shape))

        return jax.jit(loss_and_gradient) if call.mode == "jit" else loss_and_gradient

    def _loss(self, op: str, options: Options) -> Callable[[Any, Any], Any]:
        optax, smoothing = self._optax, options.label_smoothing
        if op == "log_softmax.index":
            return self._composition
        if op == "softmax_cross_entropy" and smoothing:
            return lambda z, q: optax.softmax_cross_entropy(z, optax.smooth_labels(q, smoothing))
        function: Callable[[Any, Any], Any] = getattr(optax, op)
        return function

    def _composition(self, logits: Any, target: Any) -> Any:
        log_p = self._jax.nn.log_softmax(logits)
        return -self._jax.numpy.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]


def load() -> JaxRuntime:
    """Imports jax and optax."""
    return JaxRuntime()
