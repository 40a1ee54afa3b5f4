"""TensorFlow: the cross-entropies of `tf.nn`, eager and through XLA.

Conventions were read in tensorflow/core/kernels/xent_op.h and sparse_xent_op.h and confirmed by
running 2.21; the constants of the arithmetic come from the headers of Eigen that TensorFlow ships.
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

# Keras runs on TensorFlow here and shares its worker, hence one environment for both.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}

# ---------------------------------------------------------------------- declarations

EIGEN = (
    "Eigen's vectorised exp and log, taken at 2 ulps: c = 4 (loose; Eigen states 1 to 2), its "
    "log1p by Kahan's formula x log(1 + x) / ((1 + x) - 1): c = 10 (loose); "
)
XLA = (
    "XLA's own exp, log and log1p on CPUs, which its exhaustive tests (xla/tests/exhaustive) hold "
    "to about 1 ulp of the C library, taken at 3: c = 6 (loose); "
)
FLUSH = "subnormals are flushed (ScopedFlushDenormal around kernels); "
SUMMATION = "the order of the sum over classes is not specified: K - 1 (loose)"
NARROW = "; 16-bit values are computed in float32 and rounded after every op: c = 1.01"
NARROW_XLA = (
    "; 16-bit values are computed in float32 and rounded after every op, or later where XLA "
    "keeps excess precision; taken as rounded after every op (loose): c = 1.01"
)

INDEX = Semantics(label_policy="raises")
INDEX_XLA = replace(INDEX, label_policy="nan")
DISTRIBUTION = Semantics(soft_gradient="p - q")
BINARY_LOGITS = Semantics()

# tensorflow/python/ops/nn_ops.py: one loss per example, classes in the last axis, labels of one
# rank less; nn_impl.py: sigmoid_cross_entropy_with_logits demands equal shapes. The kernel of
# softmax_cross_entropy_with_logits broadcasts its two inputs (core/kernels/xent_op.cc, BCast).
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
    broadcasting="raises",
    target_domain="computes",
    mutates="no",
)


def softmax_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """log(sum) - (z - max), summed with the labels; backward is exp(z - max) / sum - labels."""
    wide = dtype in ("float64", "float32")
    c = (6.0 if xla else 4.0) if wide else 1.01
    origin = (XLA if xla else EIGEN) + FLUSH + SUMMATION
    narrow = NARROW_XLA if xla else NARROW
    return Arithmetic(
        form="B",
        gradient="division",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=10.0 if wide else 1.01,
        c_sigmoid=14.0,
        flush=True,
        origin=origin if wide else origin + narrow,
    )


def sigmoid_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """max(z, 0) - z y + log1p(exp(-|z|)); backward by automatic differentiation of that."""
    wide = dtype in ("float64", "float32")
    c = (6.0 if xla else 4.0) if wide else 1.01
    origin = (
        (XLA if xla else EIGEN)
        + FLUSH
        + "the gradient sums [z > 0], -y and exp(-|z|) / (1 + exp(-|z|)): exp, two roundings, a "
        "reciprocal of 2 ulps and two sums up to 1, each at most 2 u sigmoid: c = 14 (loose)"
    )
    narrow = NARROW_XLA if xla else NARROW
    return Arithmetic(
        form="std",
        gradient="sigmoid",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=10.0 if wide else 1.01,
        c_sigmoid=14.0 if wide else 10.0,
        flush=True,
        origin=origin if wide else origin + narrow,
    )


@dataclass(frozen=True)
class _Op:
    """The declaration of one op, apart from its mode."""

    operation: str
    target: str
    semantics: Semantics
    compiled_semantics: Semantics
    arithmetic: Callable[[str, bool], Arithmetic]
    interface: Interface
    index_sibling: str | None = None
    binary_sibling: str | None = None


OPS: dict[str, _Op] = {
    "sparse_softmax_cross_entropy_with_logits": _Op(
        "cross_entropy",
        "index",
        INDEX,
        INDEX_XLA,
        softmax_arithmetic,
        INDEX_CALL,
        binary_sibling="sigmoid_cross_entropy_with_logits",
    ),
    "softmax_cross_entropy_with_logits": _Op(
        "cross_entropy",
        "distribution",
        DISTRIBUTION,
        DISTRIBUTION,
        softmax_arithmetic,
        DISTRIBUTION_CALL,
        index_sibling="sparse_softmax_cross_entropy_with_logits",
        binary_sibling="sigmoid_cross_entropy_with_logits",
    ),
    "sigmoid_cross_entropy_with_logits": _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        BINARY_LOGITS,
        BINARY_LOGITS,
        sigmoid_arithmetic,
        BINARY_CALL,
    ),
}


def _subject(name: str, op: _Op, mode: str) -> Subject:
    xla = mode == "xla"
    dtypes = COMPILED_DTYPES if xla else DTYPES
    shape = BINARY if op.target == "binary" else CLASSES
    return Subject(
        framework="tensorflow",
        op=name,
        operation=op.operation,
        target=op.target,
        mode=mode,
        dtypes=dtypes,
        options=frozenset(),
        reductions=("none",),
        semantics=op.compiled_semantics if xla else op.semantics,
        arithmetic={dtype: op.arithmetic(dtype, xla) for dtype in dtypes},
        shape=shape if xla else None,
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=op.interface,
    )


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject, dtype
    return "tensorflow", ENVIRONMENT


def constants(case: Case, x: str, y: str) -> list[str]:
    """The lines that make the inputs and the target of a case."""
    kind = "int64" if case.target_kind == "index" else case.dtype
    return [
        f"{x} = tf.constant({nested(case.inputs)}, tf.{case.dtype})",
        f"{y} = tf.constant({nested(case.target)}, tf.{kind})",
    ]


def taped(mode: str, expression: str, x: str, y: str) -> list[str]:
    """The lines that compute loss and gradient of an expression, compiled or not."""
    decorator = ["@tf.function(jit_compile=True)"] if mode == "xla" else []
    return [
        *decorator,
        f"def loss_and_gradient({x}, {y}):",
        "    with tf.GradientTape() as tape:",
        f"        tape.watch({x})",
        f"        loss = {expression}",
        f"    return loss, tape.gradient(loss, {x})",
        "",
        "",
        f"loss, gradient = loss_and_gradient({x}, {y})",
        "print(loss.numpy().tolist())",
        "print(gradient.numpy().tolist())",
    ]


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    expression = f"tf.nn.{subject.op}(labels={y}, logits={x})"
    lines = ["import tensorflow as tf", "", *constants(case, x, y), "", ""]
    return "\n".join([*lines, *taped(subject.mode, expression, x, y)]) + "\n"


FRAMEWORK = Framework(
    name="tensorflow",
    module="tensorflow_nn",
    packages=("tensorflow",),
    install="pip install tensorflow",
    subjects=tuple(
        _subject(name, op, mode) for mode in ("eager", "xla") for name, op in OPS.items()
    ),
    worker=_worker,
    snippet=_snippet,
)

# ---------------------------------------------------------------------- in the worker


class TensorFlowRuntime:
    """tensorflow, imported. Keras builds on this class: only `make_loss` differs."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf
        self._bfloat16 = tf.bfloat16.as_numpy_dtype
        self._programs: dict[Any, Any] = {}

    def versions(self) -> dict[str, str]:
        return {"tensorflow": self._tf.__version__}

    def facts(self) -> dict[str, str]:
        build, config = self._tf.sysconfig.get_build_info(), self._tf.config
        threading = config.threading
        return {
            "cuda build": str(build.get("is_cuda_build", "")),
            "devices": ", ".join(
                device.device_type for device in self._tf.config.list_physical_devices()
            ),
            "oneDNN": _onednn(),
            "tensor float 32": str(config.experimental.tensor_float_32_execution_enabled()),
            "threads": f"{threading.get_intra_op_parallelism_threads()} (0: as many as cores)",
            "threads between ops": f"{threading.get_inter_op_parallelism_threads()} (0: the same)",
            "jit": str(config.optimizer.get_jit() or "where asked for"),
            "subnormals": subnormals(lambda x: (self._tf.constant(x) * 0.5).numpy()),
            "git": str(self._tf.version.GIT_VERSION),
            **flags("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "TF_XLA_FLAGS", "NVIDIA_TF32_OVERRIDE"),
        }

    def call(self, call: Call) -> Result:
        inputs = self._constant(call.inputs, call.dtype)
        target = self._constant(call.target, "int64" if call.index else call.dtype)
        loss, *gradients = self._program(call)(inputs, target, self._cotangent(call))
        if per_row(tuple(loss.shape), len(call.inputs)):
            loss = loss[:, 0]
        return Result(self._raw(loss), *map(self._raw, gradients))

    def _cotangent(self, call: Call) -> Any:
        """One number a row, or None for ones and for a reduced loss."""
        return None if call.cotangent is None else self._constant(call.cotangent, call.dtype)

    def make_loss(self, op: str, options: Options, dtype: str) -> Callable[[Any, Any], Any]:
        """(inputs, target) -> loss."""
        del options, dtype
        function = getattr(self._tf.nn, op)
        return lambda inputs, target: function(labels=target, logits=inputs)

    def _constant(self, bits: Any, dtype: str) -> Any:
        if dtype == "int64":
            return self._tf.constant(bits)
        return self._tf.constant(bits.view(NUMPY_TYPES.get(dtype, self._bfloat16)))

    def _raw(self, tensor: Any) -> RawArray:
        return raw(tensor.numpy(), tensor.dtype.name)

    def _program(self, call: Call) -> Any:
        key = call.key
        if key not in self._programs:
            self._programs[key] = self._make(call)
        return self._programs[key]

    def _make(self, call: Call) -> Any:
        tf = self._tf
        loss_of = self.make_loss(call.op, call.options, call.dtype)

        def loss_and_gradient(inputs: Any, target: Any, cotangent: Any) -> Any:
            wanted = [inputs, target] if call.by_target else [inputs]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                loss = loss_of(inputs, target)
            if cotangent is not None:
                cotangent = tf.reshape(tf.cast(cotangent, loss.dtype), loss.shape)
            return loss, *tape.gradient(loss, wanted, cotangent)

        if call.mode == "eager":
            return loss_and_gradient
        return tf.function(loss_and_gradient, jit_compile=True, autograph=False)


def _onednn() -> str:
    """Whether oneDNN's kernels are in use, of which the variable is only the wish.

    TensorFlow says it at a private place alone.
    """
    try:
        from tensorflow.python.util import _pywrap_util_port as port

        return str(port.IsMklEnabled())
    except (ImportError, AttributeError):
        return "unknown"


def load() -> TensorFlowRuntime:
    """Imports tensorflow."""
    return TensorFlowRuntime()
