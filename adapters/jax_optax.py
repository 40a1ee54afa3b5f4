"""JAX: the cross-entropies of optax, and those that users compose from `jax.nn`.

Eager JAX runs op by op; "jit" compiles value and gradient together; "vmap" maps the op for one row
over the rows; "forward" pushes tangents forward, one per class, as `jax.jacfwd` does; "second" is
the Hessian times a vector as JAX's documentation takes it, forward over reverse. float64 needs
a process of its own with JAX_ENABLE_X64, because that switch also changes what other formats are
promoted to. `optax.losses` has the same functions as `optax`.

Conventions were read in optax/losses/_classification.py and jax/_src/nn/functions.py and confirmed
by running jax 0.10.2 with optax 0.2.8; how each step is rounded was read in the jaxprs.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Options, Semantics
from .idioms import JAX, OpCall
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
from .snippets import arguments, cut, far_labels, input_name, nested, target_name
from .subject import SECOND, Framework, Interface, Subject, cuda_too, worker_name

DTYPES = ("float64", "float32", "bfloat16", "float16")
# A wide format and a narrow one stand for all where the same primitives run for another subject,
# and one where only the way to call them differs: a call of eager JAX costs milliseconds.
FEW_DTYPES = ("float32", "bfloat16")
ONE_DTYPE = ("float32",)
REDUCTIONS = ("none", "sum", "mean")
LABELS = 4  # of an example with many labels
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
    # optax/losses/_smoothing.py: (1 - alpha) labels + alpha / K of any alpha.
    smoothing_domain="computes",
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
# Of a subject that brings its calls into another shape first.
RESHAPED_CALL = Interface(default_reduction="none", mutates="no")


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


def _softmax(dtype: str) -> Arithmetic:
    """-log(exp(z - max) / sum); backward p_j (p_y / p_y) - (p_y / p_y) onehot."""
    return _arithmetic(dtype, "log softmax", "division")


def _sigmoid(dtype: str) -> Arithmetic:
    """-y log_sigmoid(z) - (1 - y) log_sigmoid(-z), log_sigmoid(z) = -logaddexp(-z, 0).

    Every term is at least 0, so the form is that of "split"; the gradient is
    (1 - y) exp(z - softplus(z)) - y exp(-z - softplus(-z)).
    """
    extra = "; logaddexp is max(z, 0) + log1p(exp(-|z|)), and its derivative exp(z - logaddexp)"
    return _arithmetic(dtype, "split", "exp logp", extra)


def _sigmoid_itself(dtype: str) -> Arithmetic:
    """lax.logistic; its derivative is p (1 - p)."""
    extra = "; logistic is 1 / (1 + exp(-z)), and its derivative p (1 - p) of the rounded p"
    return _arithmetic(dtype, "split", "sigmoid product", extra)


def _softplus(dtype: str) -> Arithmetic:
    """logaddexp(z, 0), and log_sigmoid(z) = -softplus(-z): as in the binary cross-entropy."""
    return _sigmoid(dtype)


def _share(dtype: str) -> Arithmetic:
    """exp(z - max) / sum; backward p_j (g_j - sum(p g))."""
    return _arithmetic(dtype, "log softmax", "softmax product")


def _divergence(dtype: str) -> Arithmetic:
    """q (log q - x), summed."""
    return _arithmetic(dtype, "log p", "quotient")


def _divergence_from_logs(dtype: str) -> Arithmetic:
    """e^l (l - x) with l = log q, summed; backward is -e^l."""
    extra = (
        "; log q is rounded before the op sees it, and q is exp of that: c_log u |log q| more, "
        "relative to each term and to each entry of the gradient"
    )
    return _arithmetic(dtype, "log target", "target", extra)


def _focal(dtype: str) -> Arithmetic:
    """That of the cross-entropy times exp(g log(1 - p_t)), log(1 - p_t) = log_sigmoid(z or -z)."""
    extra = "; log(1 - p_t) is a log1p with two roundings, its product with g is a third: c_log + 3"
    base = _arithmetic(dtype, "B", "relative", extra)
    return replace(base, c_log=base.c_log + 3.0)


@dataclass(frozen=True)
class _Op:
    """The declaration of one op, apart from its mode, and how a script calls it.

    In `expression`, {x} are the inputs, {y} the target, {more} the arguments beside them, {factors}
    those of a focal loss, and {axis} is the axis of the classes.
    """

    operation: str
    target: str
    options: frozenset[str]
    semantics: Semantics
    arithmetic: Callable[[str], Arithmetic]
    expression: str
    dtypes: tuple[str, ...] = DTYPES
    reductions: tuple[str, ...] = ("none",)
    index_sibling: str | None = None
    binary_sibling: str | None = None
    divergence_sibling: str | None = None


INTEGER = "softmax_cross_entropy_with_integer_labels"
BINARY_CROSS_ENTROPY = "sigmoid_binary_cross_entropy"
MULTILABEL = "sigmoid_binary_cross_entropy.multilabel"
LOG_TARGETS = "kl_divergence_with_log_targets"  # people have targets, and pass their logarithms
MASKED = frozenset({"axis", "where"})
AXIS = frozenset({"axis"})
OPS: dict[str, _Op] = {
    "softmax_cross_entropy": _Op(
        "cross_entropy",
        "distribution",
        MASKED | {"label_smoothing"},
        DISTRIBUTION,
        _log_softmax,
        "optax.softmax_cross_entropy({x}, {y}{more})",
        index_sibling=INTEGER,
        binary_sibling=BINARY_CROSS_ENTROPY,
        divergence_sibling="kl_divergence",
    ),
    "safe_softmax_cross_entropy": _Op(
        "cross_entropy",
        "distribution",
        frozenset({"label_smoothing"}),
        DISTRIBUTION,
        _log_softmax,
        "optax.safe_softmax_cross_entropy({x}, {y})",
        FEW_DTYPES,
        index_sibling=INTEGER,
        binary_sibling=BINARY_CROSS_ENTROPY,
    ),
    INTEGER: _Op(
        "cross_entropy",
        "index",
        MASKED,
        INTEGER_LABELS,
        _logsumexp,
        "optax.softmax_cross_entropy_with_integer_labels({x}, {y}{more})",
        binary_sibling=BINARY_CROSS_ENTROPY,
    ),
    "log_softmax.index": _Op(
        "cross_entropy",
        "index",
        MASKED,
        INDEX,
        _log_softmax,
        "-pick(jax.nn.log_softmax({x}{more}), {y})",
        binary_sibling=BINARY_CROSS_ENTROPY,
    ),
    "softmax.index": _Op(
        "cross_entropy",
        "index",
        MASKED,
        INDEX,
        _softmax,
        "-jnp.log(pick(jax.nn.softmax({x}{more}), {y}))",
        FEW_DTYPES,
        binary_sibling=BINARY_CROSS_ENTROPY,
    ),
    "logsumexp.index": _Op(
        "cross_entropy",
        "index",
        MASKED,
        INTEGER_LABELS,
        _logsumexp,
        "jax.nn.logsumexp({x}, {axis}{masked}) - pick({x}, {y})",
        FEW_DTYPES,
        binary_sibling=BINARY_CROSS_ENTROPY,
    ),
    BINARY_CROSS_ENTROPY: _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        frozenset(),
        BINARY_LOGITS,
        _sigmoid,
        "optax.sigmoid_binary_cross_entropy({x}, {y})",
    ),
    MULTILABEL: _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        frozenset(),
        BINARY_LOGITS,
        _sigmoid,
        "optax.sigmoid_binary_cross_entropy({x}, {y})",
        FEW_DTYPES,
        REDUCTIONS,
    ),
    "softmax": _Op("softmax", "index", AXIS, INDEX, _share, "pick(jax.nn.softmax({x}{more}), {y})"),
    "logsumexp": _Op(
        "logsumexp", "index", AXIS, INTEGER_LABELS, _logsumexp, "jax.nn.logsumexp({x}, {axis})"
    ),
    "kl_divergence": _Op(
        "kl_divergence",
        "distribution",
        AXIS,
        Semantics(),
        _divergence,
        "optax.kl_divergence({x}, {y}{more})",
    ),
    LOG_TARGETS: _Op(
        "kl_divergence",
        "distribution",
        AXIS,
        Semantics(),
        _divergence_from_logs,
        "optax.losses.kl_divergence_with_log_targets({x}, jnp.log({y}){more})",
        FEW_DTYPES,
    ),
    "sigmoid_focal_loss": _Op(
        "binary_focal",
        "binary",
        frozenset({"alpha", "gamma"}),
        Semantics(),
        _focal,
        "optax.sigmoid_focal_loss({x}, {y}{factors})",
    ),
}
FUNCTIONS: dict[str, _Op] = {
    name: _Op(name, "binary", frozenset(), Semantics(), arithmetic, f"jax.nn.{name}({{x}})")
    for name, arithmetic in (
        ("sigmoid", _sigmoid_itself),
        ("log_sigmoid", _softplus),
        ("softplus", _softplus),
    )
}
"""Functions of one logit: sweeps alone ask them."""
# Those that are audited in eager mode alone.
ONLY_EAGER = ("softmax", "logsumexp", "kl_divergence", LOG_TARGETS, "sigmoid_focal_loss")
# What people map over rows or differentiate forward: the losses themselves.
PER_ROW = ("softmax_cross_entropy", "safe_softmax_cross_entropy", INTEGER, BINARY_CROSS_ENTROPY)


def _subject(name: str, op: _Op, mode: str) -> Subject:
    dtypes = {"eager": op.dtypes, "jit": FEW_DTYPES}.get(mode, ONE_DTYPE)
    shape = BINARY if op.target == "binary" else CLASSES
    # Where rows are mapped or pushed forward one by one there is no array with another class axis.
    options = op.options if mode in ("eager", "jit") else op.options - {"axis"}
    reshaped = name == MULTILABEL or mode == "vmap"
    return Subject(
        framework="jax",
        op=name,
        operation=op.operation,
        target=op.target,
        mode=mode,
        dtypes=dtypes,
        options=options,
        reductions=op.reductions,
        semantics=op.semantics,
        arithmetic={dtype: op.arithmetic(dtype) for dtype in dtypes},
        shape=shape if mode == "jit" else None,
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        divergence_sibling=op.divergence_sibling,
        interface=RESHAPED_CALL if reshaped else CALLS[op.target],
    )


PLATFORMS = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    # Several workers share a GPU, of which one takes three quarters if it may.
    "cuda": {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}
"""What a worker sees, by the device of its subjects: the first one named is JAX's default."""


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    x64 = dtype == "float64"
    name = "jax-x64" if x64 else "jax"
    return worker_name(name, subject.device), {
        **PLATFORMS[subject.device],
        "JAX_ENABLE_X64": str(int(x64)),
    }


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    options = case.options
    expression = _expression(subject, case, x, y)
    pulled, along, kind = case.cotangent, case.direction, f"jnp.{case.dtype}"
    typed = "" if case.target_kind == "index" else f", {kind}"
    labels, imports = far_labels(case.target)
    lines = [
        "import jax",
        "import jax.numpy as jnp",
        *imports,
        *(["import optax"] if "optax." in expression else []),
        "",
        *(['jax.config.update("jax_enable_x64", True)'] if case.dtype == "float64" else []),
        *_default_device(subject),
        f"{x} = jnp.array({nested(case.inputs)}, jnp.{case.dtype}){cut(case.inputs)}",
        f"{y} = jnp.array({labels}{typed}){cut(case.target)}",
        *([f"where = jnp.array({list(options.where)})"] if options.where else []),
        *([f"c = jnp.array({nested(pulled)}, {kind}){cut(pulled)}"] if pulled is not None else []),
        *([f"v = jnp.array({nested(along)}, {kind}){cut(along)}"] if along is not None else []),
        *_pick(options.axis, expression),
        "",
        "",
        *_differentiated(subject.mode, expression, case, x, y),
    ]
    return "\n".join(lines) + "\n"


def _default_device(subject: Subject) -> list[str]:
    """The line that says where a script computes, unless it is the CPU."""
    if subject.device == "cpu":
        return []
    return [f'jax.config.update("jax_default_device", jax.devices({subject.device!r})[0])']


def _expression(subject: Subject, case: Case, x: str, y: str) -> str:
    """The loss of the array in a script; under vmap and forward that of one row."""
    options = case.options
    target = y
    if options.label_smoothing:
        target = f"optax.smooth_labels({y}, {options.label_smoothing!r})"
    if subject.op == MULTILABEL:
        labels = _labels(case.rows)
        x, target = f"{x}.reshape(-1, {labels})", f"{target}.reshape(-1, {labels})"
    if options.axis != -1:
        x, target = f"{x}.T[None]", f"{target}.T[None]"
    masked = {}
    if options.where is not None:
        shape = "where" if options.axis == -1 else "where[:, None]"
        masked = {"where": f"jnp.broadcast_to({shape}, {x}.shape)"}
    more = arguments({**({} if options.axis == -1 else {"axis": str(options.axis)}), **masked})
    expression = {**OPS, **FUNCTIONS}[subject.op].expression.format(
        x=x,
        y=target,
        more=more,
        axis=options.axis,
        masked=arguments(masked),
        factors=arguments({name: repr(value) for name, value in focal_factors(options).items()}),
    )
    if options.axis == 1:
        expression = f"({expression})[0]"
    if options.reduction not in ("none", "default"):
        return f"{expression}.{options.reduction}()"
    return f"{expression}.reshape(-1, 1)" if subject.op == MULTILABEL else expression


def focal_factors(options: Options) -> dict[str, float]:
    """The factors of a focal loss that a call passes, by name."""
    passed = {"gamma": options.gamma, "alpha": options.alpha}
    return {name: value for name, value in passed.items() if value is not None}


def _pick(axis: int, expression: str) -> list[str]:
    """The function that the compositions choose a class with, where they do."""
    if "pick(" not in expression:
        return []
    return [
        "",
        "",
        "def pick(x, y):",
        f"    return jnp.take_along_axis(x, jnp.expand_dims(y, {axis}), {axis}).squeeze({axis})",
    ]


def _differentiated(mode: str, expression: str, case: Case, x: str, y: str) -> list[str]:
    """A function that returns the loss and its gradients."""
    wanted = f"{x}, {y}" if case.by_target else x
    # Compiled, a cotangent that is no argument would be a constant, and be folded.
    arrays = f"{x}, {y}" if case.cotangent is None else f"{x}, {y}, c"
    if case.direction is not None:
        body = [
            f"    gradient = lambda {x}: jax.vjp(lambda {x}: {expression}, {x})[1](ct)[0]",
            f"    return loss, jax.jvp(gradient, ({x},), (v,))[1]  # the Hessian times v",
        ]
        pulled = "jnp.ones_like(loss)" if case.cotangent is None else "c.reshape(loss.shape)"
        body = [f"    loss = {expression}", f"    ct = {pulled}", *body]
    elif mode == "forward":
        body = _forward(expression, case, x, y)
    else:
        loss = f"lambda {wanted}: {expression}"
        if mode == "vmap":
            loss = f"lambda {wanted}: jax.vmap(lambda {x}, {y}: {expression})({x}, {y})"
        cotangent = "jnp.ones_like(loss)" if case.cotangent is None else "c.reshape(loss.shape)"
        body = [
            f"    loss, pull_back = jax.vjp({loss}, {wanted})",
            f"    return loss, *pull_back({cotangent})",
        ]
    return [
        *(["@jax.jit"] if mode == "jit" else []),
        f"def loss_and_gradients({arrays}):",
        *body,
        "",
        "",
        f"for result in loss_and_gradients({arrays}):",
        "    print(result.tolist())",
    ]


def _forward(expression: str, case: Case, x: str, y: str) -> list[str]:
    """The body of that function, forward: rows are independent, so one tangent per class."""
    scale = "" if case.cotangent is None else " * c[:, None]"
    names = (x, y) if case.by_target else (x,)
    given = ", ".join(names) if case.by_target else f"{x},"
    unit = f"jnp.eye({x}.shape[1], dtype={x}.dtype)"
    lines = [
        f"    loss_of = lambda {', '.join(names)}: {expression}",
        f"    push = lambda *tangents: jax.jvp(loss_of, ({given}), tangents)[1]",
        f"    units = {unit}[:, None, :] * jnp.ones_like({x}){scale}",
    ]
    for i, name in enumerate(names):
        tangents = ", ".join(
            "u" if i == j else f"jnp.zeros_like({other})" for j, other in enumerate(names)
        )
        lines.append(f"    by_{name} = jax.vmap(lambda u: push({tangents}))(units)")
    turned = ", ".join(f"by_{name}.reshape({name}.shape[::-1]).T" for name in names)
    return [*lines, f"    return loss_of({', '.join(names)}), {turned}"]


def _labels(rows: int) -> int:
    """Labels of an example: LABELS where the rows are a multiple of that."""
    return 1 if rows % LABELS else LABELS


def _call(subject: Subject) -> OpCall:
    """Without `smooth_labels`, which is no part of the op."""
    if subject.op == MULTILABEL:
        return OpCall()
    text = OPS[subject.op].expression.format(
        x="{x}", y="{y}", more="", axis=-1, masked="", factors="{options}"
    )
    picked = JAX.pick.format(a=r"\1", b="{y}")
    return OpCall(re.sub(r"pick\((.*), \{y\}\)", picked, text))


FRAMEWORK = Framework(
    name="jax",
    module="jax_optax",
    packages=("jax", "jaxlib", "optax"),
    install="pip install jax optax",
    subjects=tuple(
        _subject(name, op, mode)
        for mode in ("eager", "jit", "vmap", "forward", SECOND)
        for name, op in OPS.items()
        if mode == "eager" or (mode == "jit" and name not in ONLY_EAGER) or name in PER_ROW
    ),
    worker=_worker,
    snippet=_snippet,
    on=cuda_too,
    idioms=JAX,
    call=_call,
    functions=tuple(
        _subject(name, op, mode) for mode in ("eager", "jit") for name, op in FUNCTIONS.items()
    ),
)

# ---------------------------------------------------------------------- in the worker


def facts_of(jax: Any) -> dict[str, str]:
    """What moves the numbers of jax where it runs."""
    config = jax.config
    return {
        "x64": str(bool(config.jax_enable_x64)),
        "backend": jax.default_backend(),
        "devices": ", ".join(devices_of(jax)),
        "devices seen": ", ".join(f"{d} ({d.device_kind})" for d in jax.devices()),
        "matmul precision": str(config.jax_default_matmul_precision),
        "dtype promotion": str(config.jax_numpy_dtype_promotion),
        "jit": "disabled" if config.jax_disable_jit else "enabled",
        "subnormals": subnormals(lambda x: jax.numpy.asarray(x) * x.dtype.type(0.5)),
        **flags("XLA_FLAGS", "JAX_PLATFORMS", "NPROC"),
    }


def devices_of(jax: Any) -> dict[str, Any]:
    """The devices that a subject may be on, by name."""
    found = {}
    for name in PLATFORMS:
        with contextlib.suppress(RuntimeError):  # "Unknown backend"
            found[name] = jax.devices(name)[0]
    return found


class JaxRuntime:
    """jax and optax, imported."""

    def __init__(self) -> None:
        import jax
        import jaxlib
        import optax

        self._jax, self._jaxlib, self._optax = jax, jaxlib, optax
        self._bfloat16 = jax.numpy.bfloat16.dtype
        self._programs: dict[Any, Any] = {}
        self._devices = devices_of(jax)

    def versions(self) -> dict[str, str]:
        return {
            "jax": self._jax.__version__,
            "jaxlib": self._jaxlib.__version__,
            "optax": self._optax.__version__,
        }

    def facts(self) -> dict[str, str]:
        return facts_of(self._jax)

    def call(self, call: Call) -> Result:
        if call.device not in self._devices:
            raise Unsupported(f"jax has no device {call.device!r} here")
        # What an op makes for itself lies there too.
        with self._jax.default_device(self._devices[call.device]):
            return self._call(call)

    def _call(self, call: Call) -> Result:
        array = self._jax.numpy.asarray
        inputs = array(call.inputs.view(self._kind(call.dtype)))
        target = array(call.target if call.index else call.target.view(self._kind(call.dtype)))
        more = [self._cotangent(call)]
        if call.direction is not None:
            more.append(array(call.direction.view(self._kind(call.dtype))))
        loss, *gradients = self._program(call)(inputs, target, *more)
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
        loss_of = self._loss(call)
        if call.mode == "vmap":
            loss_of = self._jax.vmap(loss_of)

        def loss_and_gradient(inputs: Any, target: Any, cotangent: Any) -> Any:
            arguments = (inputs, target) if call.by_target else (inputs,)

            def loss_by(*changing: Any) -> Any:
                return loss_of(*changing, *(() if call.by_target else (target,)))

            if call.mode == "forward":
                return self._pushed(loss_by, arguments, cotangent)
            return self._pulled(loss_by, arguments, cotangent)

        if call.direction is not None:
            return self._twice(loss_of)
        return self._jax.jit(loss_and_gradient) if call.mode == "jit" else loss_and_gradient

    def _pulled(self, loss_by: Callable[..., Any], arguments: Any, cotangent: Any) -> Any:
        """The loss and its gradients, backward."""
        loss, pull_back = self._jax.vjp(loss_by, *arguments)
        if cotangent is None:
            return loss, *pull_back(self._jax.numpy.ones_like(loss))
        return loss, *pull_back(cotangent.astype(loss.dtype).reshape(loss.shape))

    def _twice(self, loss_of: Callable[..., Any]) -> Callable[..., Any]:
        """The loss, and the Hessian of each row times a vector: forward over reverse."""

        def product(inputs: Any, target: Any, cotangent: Any, direction: Any) -> Any:
            def gradient(z: Any) -> Any:
                return self._pulled(lambda x: loss_of(x, target), (z,), cotangent)[1]

            pushed = self._jax.jvp(gradient, (inputs,), (direction,))[1]
            return loss_of(inputs, target), pushed

        return product

    def _pushed(self, loss_by: Callable[..., Any], arguments: Any, cotangent: Any) -> Any:
        """The loss and its gradients, forward."""
        jax, numpy = self._jax, self._jax.numpy
        loss = loss_by(*arguments)
        still = [numpy.zeros_like(argument) for argument in arguments]
        gradients = []
        for i, argument in enumerate(arguments):

            def push(tangent: Any, i: int = i) -> Any:
                tangents = (*still[:i], tangent, *still[i + 1 :])
                return jax.jvp(loss_by, arguments, tangents)[1]

            by = self._by_class if one_loss_a_row(argument.shape, loss.shape) else self._by_element
            gradients.append(by(jax.vmap(push), argument, cotangent))
        return loss, *gradients

    def _by_class(self, push: Callable[[Any], Any], argument: Any, cotangent: Any) -> Any:
        """A gradient from one tangent per class, since rows are independent."""
        numpy = self._jax.numpy
        units = numpy.eye(argument.shape[1], dtype=argument.dtype)[:, None, :]
        scale = numpy.ones_like(argument[:, :1]) if cotangent is None else cotangent[:, None]
        columns = push(units * scale.astype(argument.dtype))
        return columns.reshape(argument.shape[::-1]).T

    def _by_element(self, push: Callable[[Any], Any], argument: Any, cotangent: Any) -> Any:
        """A gradient from one tangent per element; only the probe asks for such shapes."""
        units = self._jax.numpy.eye(argument.size, dtype=argument.dtype)
        pushed = push(units.reshape(-1, *argument.shape))
        weights = 1.0 if cotangent is None else cotangent.reshape(pushed.shape[1:])
        losses = tuple(range(1, pushed.ndim))
        return (pushed * weights).sum(axis=losses).reshape(argument.shape)

    def _loss(self, call: Call) -> Callable[[Any, Any], Any]:
        """The loss of inputs and target as the case has them, or of one row of them."""
        options = call.options
        loss_of = self._on_axis(self._op(call.op, options), options.axis)
        if options.label_smoothing:
            loss_of = self._smoothed(loss_of, options.label_smoothing)
        if call.op == MULTILABEL:
            loss_of = self._many_labels(loss_of)
        if options.reduction in ("none", "default"):
            return loss_of
        return lambda x, y: getattr(loss_of(x, y), options.reduction)()

    @staticmethod
    def _on_axis(loss_of: Callable[[Any, Any], Any], axis: int) -> Callable[[Any, Any], Any]:
        """A loss of arrays with that class axis, made one of (N, K)."""
        if axis == 1:
            return lambda x, y: loss_of(x.T[None], y.T[None])[0]
        return loss_of

    def _smoothed(
        self, loss_of: Callable[[Any, Any], Any], eps: float
    ) -> Callable[[Any, Any], Any]:
        return lambda x, y: loss_of(x, self._optax.smooth_labels(y, eps))

    @staticmethod
    def _many_labels(loss_of: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """A loss of (N, 1) by way of (N / 4, 4)."""

        def reshaped(x: Any, y: Any) -> Any:
            labels = _labels(len(x))
            return loss_of(x.reshape(-1, labels), y.reshape(-1, labels)).reshape(-1, 1)

        return reshaped

    def _op(self, op: str, options: Options) -> Callable[[Any, Any], Any]:
        """The op on arrays with the class axis that the options name."""
        if op == "logsumexp.index":
            logsumexp = self._taking(self._jax.nn.logsumexp, options, {"axis": options.axis})
            return lambda z, t: logsumexp(z) - self._picked(z, t, options.axis)
        if op == "logsumexp":  # which has no default axis
            return lambda z, _: self._jax.nn.logsumexp(z, options.axis)
        if op in FUNCTIONS:
            return lambda z, _: getattr(self._jax.nn, op)(z)
        axis = {} if options.axis == -1 else {"axis": options.axis}
        if op == "softmax":
            return lambda z, t: self._picked(self._jax.nn.softmax(z, **axis), t, options.axis)
        if op == "log_softmax.index":
            log_softmax = self._taking(self._jax.nn.log_softmax, options, axis)
            return lambda z, t: -self._picked(log_softmax(z), t, options.axis)
        if op == "softmax.index":
            softmax = self._taking(self._jax.nn.softmax, options, axis)
            log = self._jax.numpy.log
            return lambda z, t: -log(self._picked(softmax(z), t, options.axis))
        name = op.partition(".")[0]
        home = getattr(self._optax, "losses", None) if op == LOG_TARGETS else self._optax
        if not hasattr(home, name):
            raise Unsupported(f"optax {self._optax.__version__} has no {name}")
        function = self._taking(getattr(home, name), options, {**axis, **focal_factors(options)})
        if op == LOG_TARGETS:
            return lambda x, q: function(x, self._jax.numpy.log(q))
        return function

    def _taking(
        self, function: Callable[..., Any], options: Options, keywords: dict[str, Any]
    ) -> Callable[..., Any]:
        """The function with its axis and mask, where this version takes them."""
        passed = [*keywords, *(["where"] if options.where is not None else [])]
        known = inspect.signature(function).parameters
        for name in passed:
            if name not in known:
                where = f"{function.__name__} of jax {self._jax.__version__}"
                where += f" and optax {self._optax.__version__}"
                raise Unsupported(f"{where} has no argument {name!r}")
        if options.where is None:
            return lambda x, *target: function(x, *target, **keywords)
        mask = self._jax.numpy.array(options.where)

        def masked(x: Any, *target: Any) -> Any:
            here = mask if options.axis == -1 else mask[:, None]
            full = self._jax.numpy.broadcast_to(here, x.shape)
            return function(x, *target, where=full, **keywords)

        return masked

    def _picked(self, x: Any, target: Any, axis: int) -> Any:
        """The entry of the target class, for each row."""
        numpy = self._jax.numpy
        return numpy.take_along_axis(x, numpy.expand_dims(target, axis), axis).squeeze(axis)


def load() -> JaxRuntime:
    """Imports jax and optax."""
    return JaxRuntime()
