"""TensorFlow: the cross-entropies of `tf.nn`, and those that users compose of its other functions.

"eager" runs op by op, "function" is tf.function without XLA, "xla" with it (jit_compile=True);
"forward" pushes tangents with tf.autodiff.ForwardAccumulator, a copy of each row per class;
"second" is the Hessian times a vector, by a tape on a tape.

Conventions were read in tensorflow/core/kernels/xent_op.h and sparse_xent_op.h and confirmed by
running 2.21; the constants of the arithmetic come from the headers of Eigen that TensorFlow ships.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Floats, Options, Semantics
from .idioms import TENSORFLOW, OpCall
from .protocol import RawArray
from .runtime import (
    NUMPY_TYPES,
    Call,
    Result,
    Unsupported,
    flags,
    one_loss_a_row,
    per_row,
    raw,
    subnormals,
)
from .snippets import cut, input_name, nested, target_name
from .subject import COMPILED, SECOND, Framework, Interface, Subject, cuda_too, worker_name

DTYPES = ("float64", "float32", "bfloat16", "float16")
COMPILED_DTYPES = ("float32", "bfloat16")
FORWARD_DTYPES = ("float32",)  # only the way to call the kernels differs from the eager mode
CLASSES, BINARY = (64, 3), (64, 1)
LABELS = 4  # columns of the multi-label op: four rows of a batch lie side by side

# Keras runs on TensorFlow here and shares its worker, hence one environment for both.
_COMMON = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
ENVIRONMENTS = {
    "cpu": {**_COMMON, "CUDA_VISIBLE_DEVICES": "-1"},
    # Several workers share a GPU, of which one takes all if it may.
    "cuda": {**_COMMON, "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
}
"""What a worker is told, by the device of its subjects."""
DEVICES = {"cpu": "/CPU:0", "cuda": "/GPU:0"}
"""What TensorFlow calls them."""

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
# Under XLA a label outside of the classes becomes one of them.
CLAMPED = "wraps (-1, -10^6); clamps (K, 10^6)"
PICKED_XLA = replace(INDEX, label_policy=CLAMPED)
# The log-sum-exp has the limit of a +inf logit, from which +inf is then subtracted.
LOGSUMEXP = replace(INDEX, plus_inf="unspecified")
LOGSUMEXP_XLA = replace(LOGSUMEXP, label_policy=CLAMPED)
# Without the last subtraction: the value has its limit, an entry of the gradient is NaN.
SUM_OF_EXP = Semantics(plus_inf="unspecified")
# A +inf logit makes its own probability NaN and leaves 0 to the others; all are NaN under XLA.
SOFTMAX = replace(INDEX, plus_inf="unspecified")
SOFTMAX_XLA = replace(INDEX, label_policy=CLAMPED)
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
# What is composed has no other conventions than those of its pieces.
COMPOSED_CALL = Interface(default_reduction="none", mutates="no")


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


def _log_softmax_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """(z - max) - log(sum); backward is grad - exp(log-probability) sum(grad)."""
    return replace(softmax_arithmetic(dtype, xla), gradient="exp logp")


def _log_of_softmax_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """-log(exp(z - max) / sum); backward is (grad - sum(grad p)) p with grad = -1 / p_t."""
    return replace(softmax_arithmetic(dtype, xla), form="log softmax", gradient="softmax product")


def _logsumexp_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """log(sum) + max - z_t; backward is exp(z - max) (1 / sum) - onehot."""
    base = softmax_arithmetic(dtype, xla)
    origin = base.origin + "; the reciprocal of the sum, of 2 ulps, is rounded once more: c + 5"
    return replace(base, form="A", c_exp=base.c_exp + 5.0, origin=origin)


def _share_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """exp(z - max) (1 / sum); backward is (grad - sum(grad p)) p."""
    base = softmax_arithmetic(dtype, xla)
    origin = base.origin + "; the reciprocal of the sum, of 2 ulps, is rounded once more: c + 5"
    return replace(base, gradient="softmax product", c_exp=base.c_exp + 5.0, origin=origin)


def _weighted_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """(1 - y) z + l (log1p(exp(-|z|)) + relu(-z)), l = 1 + (w - 1) y; the terms are differentiated.

    They are (1 - y), l exp(-|z|) / (1 + exp(-|z|)) and l [z < 0], which cancel for z < 0.
    """
    return replace(sigmoid_arithmetic(dtype, xla), form="torch", gradient="separate terms")


def _sigmoid_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """Eigen's or XLA's logistic function; backward is p (1 - p) of the stored p."""
    base = sigmoid_arithmetic(dtype, xla)
    note = "; the derivative of a sigmoid is g p (1 - p) (cwise_ops_gradients.h)"
    return replace(base, gradient="sigmoid product", origin=base.origin + note)


def _softplus_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """log1p(exp(z)), between -+(log(eps) + 2), z above and exp(z) below; backward is a sigmoid.

    Beyond these, what is left out is at most e^2 eps = 15 u of an ulp's neighbourhood of z, or
    e^2 eps / 2 of exp(z): with eps = 2 u, 7.4 u relative, which c = 10 holds.
    """
    base = sigmoid_arithmetic(dtype, xla)
    note = "; log1p(exp(z)), cut off where it differs little from z or exp(z) (softplus_op.h)"
    return replace(
        base, form="log1p exp", gradient="two terms", c_log1p=10.0, origin=base.origin + note
    )


@dataclass(frozen=True)
class _Op:
    """The declaration of one op, apart from its mode.

    Attributes:
        expression: how a script calls it, {x} for the inputs and {y} for the target.
        modes: those in which it is audited, beside eager.
        dtypes: of the eager mode; a wide and a narrow one stand for all where the functions are
            those of another op.
    """

    operation: str
    target: str
    semantics: Semantics
    compiled_semantics: Semantics
    arithmetic: Callable[[str, bool], Arithmetic]
    expression: str
    options: frozenset[str] = frozenset()
    reductions: tuple[str, ...] = ("none",)
    modes: tuple[str, ...] = ("function", "xla")
    dtypes: tuple[str, ...] = DTYPES
    interface: Interface = COMPOSED_CALL
    index_sibling: str | None = None
    binary_sibling: str | None = None


LOSS_MODES = ("function", "xla", "forward", SECOND)
SIGMOID = "sigmoid_cross_entropy_with_logits"
OPS: dict[str, _Op] = {
    "sparse_softmax_cross_entropy_with_logits": _Op(
        "cross_entropy",
        "index",
        INDEX,
        INDEX_XLA,
        softmax_arithmetic,
        "tf.nn.sparse_softmax_cross_entropy_with_logits(labels={y}, logits={x})",
        modes=LOSS_MODES,
        interface=INDEX_CALL,
        binary_sibling=SIGMOID,
    ),
    "softmax_cross_entropy_with_logits": _Op(
        "cross_entropy",
        "distribution",
        DISTRIBUTION,
        DISTRIBUTION,
        softmax_arithmetic,
        "tf.nn.softmax_cross_entropy_with_logits(labels={y}, logits={x}{axis})",
        options=frozenset({"axis"}),
        modes=LOSS_MODES,
        interface=DISTRIBUTION_CALL,
        index_sibling="sparse_softmax_cross_entropy_with_logits",
        binary_sibling=SIGMOID,
    ),
    SIGMOID: _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        BINARY_LOGITS,
        BINARY_LOGITS,
        sigmoid_arithmetic,
        "tf.nn.sigmoid_cross_entropy_with_logits(labels={y}, logits={x})",
        modes=LOSS_MODES,
        interface=BINARY_CALL,
    ),
    "sigmoid_cross_entropy_with_logits.multilabel": _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        BINARY_LOGITS,
        BINARY_LOGITS,
        sigmoid_arithmetic,
        "tf.nn.sigmoid_cross_entropy_with_logits(labels={y}, logits={x})",
        reductions=("none", "sum", "mean"),
        dtypes=COMPILED_DTYPES,
        modes=(),  # what it adds are its reductions, and those are drawn in eager mode
    ),
    "weighted_cross_entropy_with_logits": _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        BINARY_LOGITS,
        BINARY_LOGITS,
        _weighted_arithmetic,
        "tf.nn.weighted_cross_entropy_with_logits(labels={y}, logits={x}, pos_weight={weight})",
        options=frozenset({"pos_weight"}),
        interface=replace(BINARY_CALL, pos_weight="positive term"),
    ),
    "log_softmax.index": _Op(
        "cross_entropy",
        "index",
        INDEX,
        PICKED_XLA,
        _log_softmax_arithmetic,
        "-tf.gather(tf.nn.log_softmax({x}), {y}, batch_dims=1)",
        dtypes=COMPILED_DTYPES,
        binary_sibling=SIGMOID,
    ),
    "softmax.index": _Op(
        "cross_entropy",
        "index",
        SOFTMAX,
        SOFTMAX_XLA,
        _log_of_softmax_arithmetic,
        "-tf.math.log(tf.gather(tf.nn.softmax({x}), {y}, batch_dims=1))",
        dtypes=COMPILED_DTYPES,
        binary_sibling=SIGMOID,
    ),
    "reduce_logsumexp.index": _Op(
        "cross_entropy",
        "index",
        LOGSUMEXP,
        LOGSUMEXP_XLA,
        _logsumexp_arithmetic,
        "tf.math.reduce_logsumexp({x}, axis=-1) - tf.gather({x}, {y}, batch_dims=1)",
        dtypes=COMPILED_DTYPES,
        binary_sibling=SIGMOID,
    ),
    "softmax.value": _Op(
        "softmax",
        "index",
        SOFTMAX,
        SOFTMAX,
        _share_arithmetic,
        "tf.gather(tf.nn.softmax({x}), {y}, batch_dims=1)",
        dtypes=COMPILED_DTYPES,
        modes=(),
    ),
    "reduce_logsumexp.value": _Op(
        "logsumexp",
        "index",
        SUM_OF_EXP,
        SUM_OF_EXP,
        _logsumexp_arithmetic,
        "tf.math.reduce_logsumexp({x}, axis=-1)",
        dtypes=COMPILED_DTYPES,
        modes=(),
    ),
}


FUNCTIONS: dict[str, _Op] = {
    name: _Op(name, "binary", Semantics(), Semantics(), arithmetic, f"tf.math.{name}({{x}})")
    for name, arithmetic in (
        ("sigmoid", _sigmoid_arithmetic),
        ("log_sigmoid", _softplus_arithmetic),
        ("softplus", _softplus_arithmetic),
    )
}
"""Functions of one logit: sweeps alone ask them."""


def _arithmetic(op: _Op, dtype: str, mode: str) -> Arithmetic:
    found = op.arithmetic(dtype, mode == "xla")
    if mode != "forward":
        return found
    note = (
        "; a tangent is multiplied by what the gradient is made of (forwardprop.py transposes the "
        "gradient of each op), and the products by 0 and 1 are exact"
    )
    return replace(found, origin=found.origin + note)


def _subject(name: str, op: _Op, mode: str) -> Subject:
    xla, compiled = mode == "xla", mode in COMPILED
    dtypes = {"eager": op.dtypes, "forward": FORWARD_DTYPES}.get(mode, COMPILED_DTYPES)
    shape = BINARY if op.target == "binary" else CLASSES
    return Subject(
        framework="tensorflow",
        op=name,
        operation=op.operation,
        target=op.target,
        mode=mode,
        dtypes=dtypes,
        # Tangents and vectors lie along the classes of (N, K).
        options=op.options - {"axis"} if mode in ("forward", SECOND) else op.options,
        reductions=op.reductions,
        semantics=op.compiled_semantics if xla else op.semantics,
        arithmetic={dtype: _arithmetic(op, dtype, mode) for dtype in dtypes},
        shape=shape if compiled else None,
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=op.interface,
    )


def _subjects(ops: dict[str, _Op]) -> Iterator[Subject]:
    for mode in ("eager", *LOSS_MODES):
        for name, op in ops.items():
            if mode == "eager" or mode in op.modes:
                yield _subject(name, op, mode)


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del dtype
    return worker_name("tensorflow", subject.device), ENVIRONMENTS[subject.device]


def on_tensorflow(subject: Subject, device: str) -> Subject | None:
    """The subject on a device; on a GPU an invalid label does not raise.

    The loss is then NaN (documentation of sparse_softmax_cross_entropy_with_logits). `tf.gather`
    gives 0 there, of which each composition makes another number, so that nothing is declared.
    """
    moved = cuda_too(subject, device)
    if moved is None or device == "cpu" or subject.target != "index" or subject.mode == "xla":
        return moved
    if subject.interface == COMPOSED_CALL:
        return replace(moved, undeclared=frozenset({"label_policy"}))
    return replace(moved, semantics=replace(moved.semantics, label_policy="nan"))


def constants(case: Case, x: str, y: str) -> list[str]:
    """The lines that make the arrays of a case: x and y, w its weights, c its cotangent."""
    kind = "int64" if case.target_kind == "index" else case.dtype
    lines = [
        f"{x} = tf.constant({nested(case.inputs)}, tf.{case.dtype}){cut(case.inputs)}",
        f"{y} = tf.constant({nested(case.target)}, tf.{kind}){cut(case.target)}",
    ]
    for name, values in (("w", case.sample_weight), ("c", case.cotangent)):
        if values is not None:
            lines.append(f"{name} = tf.constant({nested(values)}, tf.{case.dtype}){cut(values)}")
    return lines


DECORATORS = {
    "eager": [],
    SECOND: [],
    "function": ["@tf.function"],
    "xla": ["@tf.function(jit_compile=True)"],
}


def taped(mode: str, expression: str, case: Case, x: str, y: str) -> list[str]:
    """The lines that compute loss and gradient of an expression, compiled or not."""
    if case.direction is not None:
        return _taped_twice(expression, case, case.direction, x, y)
    wanted = f"[{x}, {y}]" if case.by_target else x
    names = "gradient, target_gradient" if case.by_target else "gradient"
    cotangent = "" if case.cotangent is None else ", tf.reshape(c, loss.shape)"
    return [
        *DECORATORS[mode],
        f"def loss_and_gradient({x}, {y}):",
        "    with tf.GradientTape() as tape:",
        f"        tape.watch({wanted})",
        f"        loss = {expression}",
        f"    return loss, tape.gradient(loss, {wanted}{cotangent})",
        "",
        "",
        f"loss, ({names}) = loss_and_gradient({x}, {y})"
        if case.by_target
        else f"loss, {names} = loss_and_gradient({x}, {y})",
        "print(loss.numpy().tolist())",
        *(f"print({name}.numpy().tolist())" for name in names.split(", ")),
    ]


def _taped_twice(expression: str, case: Case, along: Floats, x: str, y: str) -> list[str]:
    """The lines that compute the loss and the Hessian times a vector."""
    cotangent = "" if case.cotangent is None else ", tf.reshape(c, loss.shape)"
    return [
        f"def loss_and_product({x}, {y}, v):",
        "    with tf.GradientTape() as outer:",
        f"        outer.watch({x})",
        "        with tf.GradientTape() as tape:",
        f"            tape.watch({x})",
        f"            loss = {expression}",
        f"        gradient = tape.gradient(loss, {x}{cotangent})",
        f"    return loss, outer.gradient(gradient, {x}, v)",
        "",
        "",
        f"v = tf.constant({nested(along)}, tf.{case.dtype}){cut(along)}",
        f"for result in loss_and_product({x}, {y}, v):  # the loss, the Hessian times v",
        "    print(result.numpy().tolist())",
    ]


def pushed(subject: Subject, case: Case, x: str, y: str) -> list[str]:
    """The lines that compute loss and gradients forward: each row once for each of its classes."""
    inside = [
        f"rows, k = {x}.shape",
        f"copies = [tf.repeat(array, k, axis=0) for array in ({x}, {y})]",
        f"units = tf.tile(tf.eye(k, dtype={x}.dtype), (rows, 1))",
        *(["units *= tf.repeat(c, k)[:, None]"] if case.cotangent is not None else []),
        f"print(loss_of({x}, {y}).numpy().tolist())",
        f"for array in copies{'' if case.by_target else '[:1]'}:",
        "    with tf.autodiff.ForwardAccumulator(array, units) as forward:",
        "        loss = loss_of(*copies)",
        f"    print(tf.reshape(forward.jvp(loss), {x}.shape).numpy().tolist())",
    ]
    expression = _expression(subject, case, x, y)
    return ["", f"def loss_of({x}, {y}):", f"    return {expression}", "", "", *inside]


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    lines = ["import tensorflow as tf", "", *constants(case, x, y), ""]
    if subject.mode == "forward":
        return "\n".join([*lines, *pushed(subject, case, x, y)]) + "\n"
    expression = _expression(subject, case, x, y)
    return "\n".join([*lines, "", *taped(subject.mode, expression, case, x, y)]) + "\n"


def _expression(subject: Subject, case: Case, x: str, y: str) -> str:
    text, options = {**OPS, **FUNCTIONS}[subject.op].expression, case.options
    if subject.op.endswith(".multilabel"):
        shape = labelled(case.rows)
        loss = text.format(x=f"tf.reshape({x}, {shape})", y=f"tf.reshape({y}, {shape})")
        if options.reduction in ("none", "default"):
            return f"tf.reshape({loss}, {case.inputs.shape})"
        return f"tf.reduce_{options.reduction}({loss})"
    if options.axis == -1:
        return text.format(x=x, y=y, axis="", weight=_weight(options))
    shape = (1, *case.inputs.shape[::-1])
    x, y = (f"tf.reshape(tf.transpose({name}), {shape})" for name in (x, y))
    return f"tf.reshape({text.format(x=x, y=y, axis=f', axis={options.axis}')}, [-1])"


def _weight(options: Options) -> float:
    """The op demands a weight: 1 where none is meant."""
    return 1.0 if options.pos_weight is None else options.pos_weight


def labelled(rows: int) -> tuple[int, int]:
    """The shape in which a batch of single labels is one of several labels an example."""
    labels = math.gcd(rows, LABELS)
    return rows // labels, labels


def _call(subject: Subject) -> OpCall:
    if subject.op.endswith(".multilabel"):
        return OpCall()
    op = OPS[subject.op]
    return OpCall(op.expression.format(x="{x}", y="{y}", axis="", weight="{pos_weight}"))


FRAMEWORK = Framework(
    name="tensorflow",
    module="tensorflow_nn",
    packages=("tensorflow",),
    install="pip install tensorflow",
    subjects=tuple(_subjects(OPS)),
    worker=_worker,
    snippet=_snippet,
    on=on_tensorflow,
    idioms=TENSORFLOW,
    call=_call,
    functions=tuple(_subjects(FUNCTIONS)),
)

# ---------------------------------------------------------------------- in the worker


def facts_of(tf: Any) -> dict[str, str]:
    """What moves the numbers of tensorflow where it runs."""
    build, config = tf.sysconfig.get_build_info(), tf.config
    threading = config.threading
    return {
        "cuda build": str(build.get("is_cuda_build", "")),
        "devices": ", ".join(devices_of(tf)),
        "devices seen": ", ".join(device.name for device in config.list_physical_devices()),
        "oneDNN": _onednn(),
        "tensor float 32": str(config.experimental.tensor_float_32_execution_enabled()),
        "threads": f"{threading.get_intra_op_parallelism_threads()} (0: as many as cores)",
        "threads between ops": f"{threading.get_inter_op_parallelism_threads()} (0: the same)",
        "jit": str(config.optimizer.get_jit() or "where asked for"),
        "subnormals": subnormals(lambda x: (tf.constant(x) * 0.5).numpy()),
        "git": str(tf.version.GIT_VERSION),
        **flags("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "TF_XLA_FLAGS", "NVIDIA_TF32_OVERRIDE"),
    }


def devices_of(tf: Any) -> list[str]:
    """The devices that a subject may be on."""
    gpu = tf.test.is_built_with_cuda() and bool(tf.config.list_physical_devices("GPU"))
    return ["cpu", "cuda"] if gpu else ["cpu"]


class TensorFlowRuntime:
    """tensorflow, imported. Keras builds on this class: only `make_loss` differs."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf
        self._bfloat16 = tf.bfloat16.as_numpy_dtype
        self._programs: dict[Any, Any] = {}
        self._devices = devices_of(tf)

    def versions(self) -> dict[str, str]:
        return {"tensorflow": self._tf.__version__}

    def facts(self) -> dict[str, str]:
        return facts_of(self._tf)

    def call(self, call: Call) -> Result:
        # TensorFlow would compute on another device than it is told, and say nothing.
        if call.device not in self._devices:
            raise Unsupported(f"tensorflow has no device {call.device!r} here")
        with self._tf.device(DEVICES[call.device]):
            return self._call(call)

    def _call(self, call: Call) -> Result:
        inputs = self._constant(call.inputs, call.dtype)
        target = self._constant(call.target, "int64" if call.index else call.dtype)
        weights = self._weights(call)
        program = self._program(call)
        if call.direction is not None:
            if weights:
                raise Unsupported("second derivatives are audited without sample weights")
            weights = [self._constant(call.direction, call.dtype)]
        loss, *gradients = program(inputs, target, self._cotangent(call), *weights)
        if gradients[0] is None:
            order = "" if call.direction is None else "second "
            raise TypeError(f"TensorFlow gives {call.op} no {order}gradient for its inputs")
        if any(gradient is None for gradient in gradients[1:]):
            raise Unsupported(f"TensorFlow gives {call.op} no gradient for its target")
        if not loss.device.endswith(DEVICES[call.device].lstrip("/")):
            raise Unsupported(f"TensorFlow computed {call.op} on {loss.device}")
        if per_row(tuple(loss.shape), len(call.inputs)):
            loss = loss[:, 0]
        return Result(self._raw(loss), *map(self._raw, gradients))

    def _weights(self, call: Call) -> list[Any]:
        """The sample weights as one more argument of the op."""
        if call.sample_weight is None:
            return []
        return [self._constant(call.sample_weight, call.dtype)]

    def _cotangent(self, call: Call) -> Any:
        """One number a row, or None for ones and for a reduced loss."""
        return None if call.cotangent is None else self._constant(call.cotangent, call.dtype)

    def make_loss(self, op: str, options: Options, dtype: str) -> Callable[..., Any]:
        """(inputs, target, and the sample weights where there are any) -> loss."""
        del dtype
        tf, nn = self._tf, self._tf.nn

        def picked(values: Any, target: Any) -> Any:
            return tf.gather(values, target, batch_dims=1)

        losses: dict[str, Callable[[Any, Any], Any]] = {
            "sigmoid_cross_entropy_with_logits.multilabel": self._multilabel(options.reduction),
            "weighted_cross_entropy_with_logits": lambda z, y: (
                nn.weighted_cross_entropy_with_logits(
                    labels=y, logits=z, pos_weight=_weight(options)
                )
            ),
            "log_softmax.index": lambda z, y: -picked(nn.log_softmax(z), y),
            "softmax.index": lambda z, y: -tf.math.log(picked(nn.softmax(z), y)),
            "reduce_logsumexp.index": lambda z, y: (
                tf.math.reduce_logsumexp(z, axis=-1) - picked(z, y)
            ),
            "softmax.value": lambda z, y: picked(nn.softmax(z), y),
            "reduce_logsumexp.value": lambda z, _: tf.math.reduce_logsumexp(z, axis=-1),
        }
        if op in losses:
            return losses[op]
        if op in FUNCTIONS:
            return lambda z, _: getattr(tf.math, op)(z)
        function = getattr(nn, op)
        if options.axis == -1:
            return lambda z, y: function(labels=y, logits=z)
        return self._along(function, options.axis)

    def _multilabel(self, reduction: str) -> Callable[[Any, Any], Any]:
        """Four labels an example, the losses reduced over examples and labels."""
        tf = self._tf

        def loss_of(inputs: Any, target: Any) -> Any:
            z, y = (tf.reshape(a, labelled(inputs.shape[0])) for a in (inputs, target))
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z)
            if reduction in ("none", "default"):
                return tf.reshape(loss, inputs.shape)
            return getattr(tf, f"reduce_{reduction}")(loss)

        return loss_of

    def _along(self, function: Any, axis: int) -> Callable[[Any, Any], Any]:
        """The op on (1, K, N) arrays, with the classes along an axis of these."""
        tf = self._tf

        def loss_of(inputs: Any, target: Any) -> Any:
            shape = (1, *inputs.shape[::-1])
            z, y = (tf.reshape(tf.transpose(array), shape) for array in (inputs, target))
            return tf.reshape(function(labels=y, logits=z, axis=axis), [-1])

        return loss_of

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

    def _twice(self, loss_of: Callable[..., Any]) -> Callable[..., Any]:
        """The loss, and the Hessian of each row times a vector: a tape on a tape."""
        tf = self._tf

        def product(inputs: Any, target: Any, cotangent: Any, direction: Any) -> Any:
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    loss = loss_of(inputs, target)
                if cotangent is not None:
                    cotangent = tf.reshape(tf.cast(cotangent, loss.dtype), loss.shape)
                gradient = tape.gradient(loss, inputs, cotangent)
            return loss, outer.gradient(gradient, inputs, direction)

        return product

    def _make(self, call: Call) -> Any:
        tf = self._tf
        loss_of = self.make_loss(call.op, call.options, call.dtype)

        def loss_and_gradient(inputs: Any, target: Any, cotangent: Any, *weights: Any) -> Any:
            wanted = [inputs, target] if call.by_target else [inputs]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                loss = loss_of(inputs, target, *weights)
            if cotangent is not None:
                cotangent = tf.reshape(tf.cast(cotangent, loss.dtype), loss.shape)
            return loss, *tape.gradient(loss, wanted, cotangent)

        if call.direction is not None:
            return self._twice(loss_of)
        if call.mode == "forward":
            return self._forward(loss_of, call)
        if call.mode in ("eager", SECOND):
            return loss_and_gradient
        xla = call.mode == "xla"
        return tf.function(loss_and_gradient, jit_compile=xla or None, autograph=False)

    def _forward(self, loss_of: Callable[..., Any], call: Call) -> Callable[..., Any]:
        def loss_and_gradient(inputs: Any, target: Any, cotangent: Any) -> Any:
            loss = loss_of(inputs, target)
            arrays, gradients = (inputs, target), []
            for i in range(1 + call.by_target):
                by_row = one_loss_a_row(tuple(arrays[i].shape), tuple(loss.shape))
                by = self._by_row if by_row else self._by_element
                gradients.append(by(loss_of, arrays, i, cotangent))
            return loss, *gradients

        return loss_and_gradient

    def _by_row(self, loss_of: Callable[..., Any], arrays: Any, i: int, cotangent: Any) -> Any:
        """The gradient in array i: a copy of each row per class, with the tangent of that class."""
        tf, at = self._tf, arrays[i]
        rows, classes = at.shape
        units = tf.tile(tf.eye(classes, dtype=at.dtype), (rows, 1))
        if cotangent is not None:
            units *= tf.repeat(cotangent, classes)[:, None]
        copies = [tf.repeat(array, classes, axis=0) for array in arrays]
        return tf.reshape(self._push(loss_of, copies, i, units), at.shape)

    def _by_element(self, loss_of: Callable[..., Any], arrays: Any, i: int, cotangent: Any) -> Any:
        """The gradient in array i by a tangent per element; only the probe asks for such shapes."""
        tf, at = self._tf, arrays[i]
        if cotangent is not None:
            raise Unsupported("a cotangent is taken for one loss a row")
        units = tf.reshape(tf.eye(math.prod(at.shape), dtype=at.dtype), (-1, *at.shape))
        sums = [tf.reduce_sum(self._push(loss_of, arrays, i, unit)) for unit in units]
        return tf.reshape(tf.stack(sums), at.shape)

    def _push(self, loss_of: Callable[..., Any], arrays: Any, i: int, tangent: Any) -> Any:
        """The derivative of the loss along a tangent of array i."""
        with self._tf.autodiff.ForwardAccumulator(arrays[i], tangent) as forward:
            loss = loss_of(*arrays)
        pushed = forward.jvp(loss)
        if pushed is None:
            raise Unsupported("TensorFlow has no forward derivative of an op in it")
        return pushed


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
