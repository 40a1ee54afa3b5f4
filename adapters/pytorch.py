"""PyTorch: its cross-entropies and what people compose of its ops, in six modes.

"eager"; "compile" is `torch.compile`; "autocast" calls the op under `torch.autocast` for bfloat16;
"vmap" calls it on one row and maps loss and pull-back over the rows with `torch.func.vmap`;
"forward" takes the gradient column by column with `torch.func.jvp`; "second" is the Hessian times a
vector, by `torch.autograd.grad` of a gradient that was made with `create_graph=True`.

Conventions were read in aten/src/ATen/native/LossNLL.cpp and Loss.cpp and confirmed by running
2.13; the arithmetic in aten/src/ATen/native/cpu/SoftMaxKernel.cpp and aten/src/ATen/cpu/vec, in
ReduceOps.cpp and Activation.cpp for logsumexp and logsigmoid, and in torch/nn/modules/
linear_cross_entropy.py; what autocast does in aten/src/ATen/autocast_mode.cpp.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..reference.vocabulary import Arithmetic, Case, Options, Semantics
from . import pytorch_ops as ops
from .idioms import TORCH, OpCall
from .pytorch_scripts import Text, script
from .runtime import Call, Result, Unsupported, flags, one_loss_a_row, per_row, subnormals
from .subject import SECOND, Framework, Interface, Subject
from .torch_bits import LAYOUTS, laid_out, to_bits, to_tensor

DTYPES = ("float64", "float32", "bfloat16", "float16")
FEWER_DTYPES = ("float32", "bfloat16")
NARROW = ("bfloat16", "float16")
REDUCTIONS = ("none", "sum", "mean")
UNREDUCED = ("none",)
CLASSES, BINARY = (64, 3), (64, 1)

# ---------------------------------------------------------------------- declarations

SLEEF = (
    "exp, log and log1p are Sleef's u10 variants (aten/src/ATen/cpu/vec), at most 1 ulp: c = 2; "
)
SUMMATION = "the order of the vectorised sum is not specified: K - 1 (loose)"

INDEX = Semantics(
    smoothing="eps/K",
    mean="weights",
    ignore_index=-100,
    all_ignored="nan",
    label_policy="raises",
)
NLL = replace(INDEX, smoothing="none")
PICKED = replace(NLL, ignore_index=None)
PICKED_FROM_SUM = replace(PICKED, plus_inf="unspecified")
PROBABILITIES = Semantics(smoothing="eps/K", mean="rows")
SOFTMAX = Semantics(plus_inf="nan")
# The value has its limit for a +inf logit; of the gradient that entry is NaN, and the others 0.
SUM_OF_EXP = Semantics(plus_inf="unspecified")
DIVERGENCE = Semantics(mean="rows")
BINARY_LOGITS = Semantics(mean="rows", plus_inf="nan")
BINARY_PROBABILITIES = Semantics(
    mean="rows",
    guard="clamp log",
    guard_floor=-100.0,
    guard_gradient="clamped denominator",
)


# torch/nn/functional.py: reduction="mean" where none is passed, and binary losses that raise for
# sizes that differ; aten/src/ATen/native/LossNLL.cpp: classes in dimension 1, targets of one
# dimension less, `ignore_index` compared with each label (class probabilities: at least 0 raises,
# a negative one is not looked at), and weights within the sum over smoothed classes.
UNDECLARED = Interface()
# LossNLL.cpp: cross_entropy_loss smooths where label_smoothing > 0, and checks there that it is at
# most 1.
SMOOTHING_DOMAIN = "unused (-1/8); raises (3/2)"
INDEX_CALL = Interface(
    default_reduction="mean",
    class_axis="second",
    broadcasting="raises",
    smoothing_domain=SMOOTHING_DOMAIN,
    ignore_domain="any",
    unasked_mean="left out",
    weighted_smoothing="each term",
    mutates="no",
)
PROBABILITIES_CALL = Interface(
    default_reduction="mean",
    class_axis="second",
    broadcasting="raises",
    target_domain="computes",
    smoothing_domain=SMOOTHING_DOMAIN,
    ignore_domain="unused (-1); raises (1, K + 2)",
    mutates="no",
)
BINARY_CALL = Interface(
    default_reduction="mean",
    last_axis="kept",
    broadcasting="raises",
    target_domain="computes",
    pos_weight="positive term",
    mutates="no",
)
PICKED_CALL = Interface(default_reduction="none", mutates="no")
# torch/nn/functional.py: reduction="mean", which divides by the number of elements.
DIVERGENCE_CALL = Interface(default_reduction="mean of elements", mutates="no")


def _log_softmax(dtype: str) -> Arithmetic:
    """log_softmax followed by a pick or a product; backward is grad - exp(stored logp) * sum."""
    wide = dtype in ("float64", "float32")
    origin = SLEEF + "x - max - log(sum) in this order (SoftMaxKernel.cpp); " + SUMMATION
    narrow = (
        "; exp and the sum run in float32, but the sum, its log and the log-probabilities are "
        "each stored in 16 bits, so every step is taken as rounded to 16 bits (loose): c = 1.01"
    )
    c = 2.0 if wide else 1.01
    return Arithmetic(
        form="B",
        gradient="exp logp",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=c,
        c_sigmoid=4.0,
        flush=False,
        origin=origin if wide else origin + narrow,
    )


def _binary_logits(dtype: str) -> Arithmetic:
    """(1 - y) z - logsigmoid(z); backward is sigmoid(z) - y."""
    wide = dtype in ("float64", "float32")
    c = 2.0 if wide else 1.01
    origin = (
        SLEEF + "sigmoid is 1 / (1 + exp(-z)): 2 + 1 + 1 roundings, c = 4; where it is subnormal "
        "exp(-z) overflows and it becomes 0 (flush)"
    )
    narrow = "; each op computes in float32 and rounds to 16 bits: c = 1.01"
    return Arithmetic(
        form="torch",
        gradient="sigmoid",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=c,
        c_sigmoid=4.0 if wide else 1.01,
        flush=True,
        origin=origin if wide else origin + narrow,
    )


def _binary_probabilities(dtype: str) -> Arithmetic:
    """Clamped logs: (y - 1) max(log1p(-p), -100) - y max(log p, -100).

    The gradient is (p - y) / max(p (1 - p), 1e-12).
    """
    wide = dtype in ("float64", "float32")
    c = 2.0 if wide else 1.01
    return Arithmetic(
        form="log p",
        gradient="quotient",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=c,
        c_sigmoid=4.0,
        flush=False,
        origin=SLEEF + "scalar code of the C library (at most 1 ulp) at the ends of a row"
        if wide
        else "each op computes in float32 and rounds to 16 bits (loose): c = 1.01",
    )


def _of_softmax(dtype: str) -> Arithmetic:
    """cross_entropy of a stored softmax: that of the loss, and for the law of the softmax too."""
    return _noted(_log_softmax(dtype), "given a softmax of the same kernel in place of logits")


def _logsumexp(dtype: str) -> Arithmetic:
    """log(sum(exp(z - max))) + max - z_t; backward is exp(z - logsumexp), and - 1 of z_t."""
    softmax = _log_softmax(dtype)
    return replace(softmax, form="A", origin=softmax.origin.replace(
        "x - max - log(sum) in this order (SoftMaxKernel.cpp)",
        "log(sum) + max, then - z_t (logsumexp_out_impl in ReduceOps.cpp)",
    ))  # fmt: skip


def _linear(dtype: str) -> Arithmetic:
    """linear, then cross_entropy; backward ends with a product by the weight matrix."""
    plain = _log_softmax(dtype)
    if dtype in ("float64", "float32"):
        return plain
    note = "; the products by the weight are oneDNN's in 16 bits, which flush subnormals"
    return replace(plain, flush=True, origin=plain.origin + note)


def _chunked(dtype: str) -> Arithmetic:
    """log(sum) - (z_t - max) in Python; backward is W[t] - exp(z - max) / sum @ W."""
    wide = dtype in ("float64", "float32")
    working = dtype if wide else "float32"
    return replace(
        _log_softmax(working),
        gradient="division",
        flush=not wide,
        origin=SLEEF
        + "log(sum) - (z_t - max) (linear_cross_entropy.py); "
        + SUMMATION
        + ("" if wide else "; on a CPU all of it in float32, rounded to 16 bits once"),
    )


def _logsigmoid(dtype: str) -> Arithmetic:
    """min(z, 0) - log1p(exp(-|z|)) for z and for -z; backward from the stored exp(-|z|)."""
    binary = _binary_logits(dtype)
    return replace(
        binary,
        form="split",
        gradient="two terms",
        c_sigmoid=5.0 if dtype in ("float64", "float32") else 1.01,
        origin=SLEEF + "the derivative is e / (1 + e) or 1 less that (Activation.cpp): exp 2, sum, "
        "quotient, difference: c = 5; a subnormal e may become 0 (flush)"
        + ("" if dtype in ("float64", "float32") else "; rounded to 16 bits after each op: 1.01"),
    )


def _log_of_softmax(dtype: str) -> Arithmetic:
    """log of a stored exp(z - max) / sum; backward is 1 / p, and p (g - sum g p) of softmax."""
    wide = dtype in ("float64", "float32")
    return replace(
        _log_softmax(dtype),
        form="log softmax",
        gradient="softmax product",
        origin=SLEEF
        + "a probability is stored before its log is taken; "
        + SUMMATION
        + ("" if wide else "; every step is taken as rounded to 16 bits (loose): c = 1.01"),
    )


def _softmax(dtype: str) -> Arithmetic:
    """exp(z - max) / sum, stored; backward is (g - sum g p) p."""
    plain = _log_of_softmax(dtype)
    note = "; the quotient may be a product by a rounded reciprocal (SoftMaxKernel.cpp): c_exp + 1"
    c_exp, origin = plain.c_exp + 1.0, plain.origin.replace(" before its log is taken", "") + note
    return replace(plain, form="B", c_exp=c_exp, origin=origin)


def _sum_of_exp(dtype: str) -> Arithmetic:
    """log(sum(exp(z - max))) + max; backward is exp(z - logsumexp)."""
    plain = _logsumexp(dtype)
    origin = plain.origin.replace("log(sum) + max, then - z_t", "log(sum) + max")
    return replace(plain, origin=origin)


def _divergence(dtype: str) -> Arithmetic:
    """xlogy(q, q) - q x, summed over the classes; backward is -q."""
    plain = _binary_probabilities(dtype)
    note = "; xlogy(target, target) - target * input (at::kl_div in Loss.cpp), then a sum; "
    return replace(plain, form="log p", gradient="target", origin=plain.origin + note + SUMMATION)


def _divergence_from_logs(dtype: str) -> Arithmetic:
    """e^l (l - x) with l = log q, summed over the classes; backward is -e^l."""
    plain = _binary_probabilities(dtype)
    note = (
        "; exp(target) * (target - input) (at::kl_div in Loss.cpp), target = log q rounded before "
        "the op sees it: c_log u |log q| more, relative to each term and to each entry of the "
        "gradient; then a sum; "
    )
    origin = plain.origin + note + SUMMATION
    return replace(plain, form="log target", gradient="target", origin=origin)


def _sigmoid(dtype: str) -> Arithmetic:
    """1 / (1 + exp(-z)); backward is (1 - p) p of the stored p."""
    binary = _binary_logits(dtype)
    note = "; its derivative is g (1 - p) p (BinaryOpsKernel.cpp)"
    return replace(binary, gradient="sigmoid product", origin=binary.origin + note)


def _softplus(dtype: str) -> Arithmetic:
    """log1p(exp(z)), or z itself above 20; backward is e^z / (e^z + 1)."""
    binary = _binary_logits(dtype)
    note = "; log1p(exp(z)), z > 20 being taken as it is (Activation.cpp), and its derivative"
    return replace(
        binary, form="log1p exp", gradient="two terms", origin=binary.origin + note, flush=True
    )


def _of_sigmoid(dtype: str) -> Arithmetic:
    """A stored sigmoid, then the clamped logs of binary_cross_entropy."""
    binary = _binary_logits(dtype)
    note = "; its logs are clamped at -100 and its gradient's denominator at 1e-12 (Loss.cpp)"
    return replace(binary, form="clamped", gradient="chain", origin=binary.origin + note)


@dataclass(frozen=True)
class _Op:
    """What does not depend on the mode: the declaration of one op, and how it is called.

    Attributes:
        loss, text: see `pytorch_ops`.
        dtypes: of the eager mode; fewer where most of the code is that of an op that has them all.
        modes: the modes that it is audited in beside "eager".
    """

    operation: str
    target: str
    options: frozenset[str]
    semantics: Semantics
    arithmetic: Callable[[str], Arithmetic]
    loss: Callable[..., Any]
    text: Text
    reductions: tuple[str, ...] = REDUCTIONS
    dtypes: tuple[str, ...] = DTYPES
    modes: tuple[str, ...] = ()
    interface: Interface = UNDECLARED
    index_sibling: str | None = None
    binary_sibling: str | None = None
    divergence_sibling: str | None = None
    misuse: str = ""


MODES = ("compile", "autocast", "vmap", "forward")
LOGITS_MODES = (*MODES, SECOND)
SMOOTHED = frozenset({"weight", "label_smoothing"})
CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"
OPS: dict[str, _Op] = {
    "cross_entropy.index": _Op(
        CE,
        "index",
        SMOOTHED | {"ignore_index", "axis"},
        INDEX,
        _log_softmax,
        ops.cross_entropy,
        ops.cross_entropy_text,
        modes=LOGITS_MODES,
        binary_sibling=BCE,
        interface=INDEX_CALL,
    ),
    "cross_entropy.probabilities": _Op(
        CE,
        "distribution",
        SMOOTHED | {"axis"},
        PROBABILITIES,
        _log_softmax,
        ops.cross_entropy,
        ops.cross_entropy_text,
        modes=LOGITS_MODES,
        index_sibling="cross_entropy.index",
        binary_sibling=BCE,
        divergence_sibling="kl_div",
        interface=PROBABILITIES_CALL,
    ),
    "cross_entropy.of_softmax": _Op(
        CE,
        "index",
        frozenset(),
        replace(INDEX, smoothing="none"),
        _of_softmax,
        ops.cross_entropy_of_softmax,
        ops.cross_entropy_of_softmax_text,
        dtypes=FEWER_DTYPES,
        misuse="double softmax",
    ),
    "CrossEntropyLoss": _Op(
        CE,
        "index",
        SMOOTHED | {"ignore_index"},
        INDEX,
        _log_softmax,
        ops.cross_entropy_class,
        ops.cross_entropy_class_text,
        dtypes=FEWER_DTYPES,
        binary_sibling=BCE,
        interface=INDEX_CALL,
    ),
    "nll_loss": _Op(
        CE,
        "index",
        frozenset({"weight", "ignore_index", "axis"}),
        NLL,
        _log_softmax,
        ops.nll_loss,
        ops.nll_loss_text,
        modes=("compile", "autocast"),
        binary_sibling=BCE,
        interface=INDEX_CALL,
    ),
    "log_softmax": _Op(
        CE,
        "index",
        frozenset({"axis"}),
        PICKED,
        _log_softmax,
        ops.log_softmax,
        ops.log_softmax_text,
        UNREDUCED,
        FEWER_DTYPES,
        binary_sibling=BCE,
    ),
    "logsumexp": _Op(
        CE,
        "index",
        frozenset({"axis"}),
        PICKED_FROM_SUM,
        _logsumexp,
        ops.logsumexp,
        ops.logsumexp_text,
        UNREDUCED,
        binary_sibling=BCE,
    ),
    "log_of_softmax": _Op(
        CE,
        "index",
        frozenset({"axis"}),
        PICKED,
        _log_of_softmax,
        ops.log_of_softmax,
        ops.log_of_softmax_text,
        UNREDUCED,
        FEWER_DTYPES,
        binary_sibling=BCE,
    ),
    "linear_cross_entropy": _Op(
        CE,
        "index",
        SMOOTHED | {"ignore_index"},
        INDEX,
        _linear,
        ops.linear_cross_entropy,
        ops.linear_cross_entropy_text,
        dtypes=FEWER_DTYPES,
        binary_sibling=BCE,
    ),
    "linear_cross_entropy.chunked": _Op(
        CE,
        "index",
        frozenset({"weight", "ignore_index"}),
        NLL,
        _chunked,
        ops.linear_cross_entropy_chunked,
        ops.linear_cross_entropy_chunked_text,
        dtypes=FEWER_DTYPES,
        binary_sibling=BCE,
    ),
    "LinearCrossEntropyLoss": _Op(
        CE,
        "index",
        SMOOTHED | {"ignore_index"},
        INDEX,
        _linear,
        ops.linear_cross_entropy_class,
        ops.linear_cross_entropy_class_text,
        dtypes=FEWER_DTYPES,
        binary_sibling=BCE,
    ),
    "binary_cross_entropy_with_logits": _Op(
        BCE,
        "binary",
        frozenset({"pos_weight", "sample_weight"}),
        BINARY_LOGITS,
        _binary_logits,
        ops.binary_with_logits,
        ops.binary_with_logits_text,
        modes=LOGITS_MODES,
        interface=BINARY_CALL,
    ),
    "binary_cross_entropy_with_logits.multilabel": _Op(
        BCE,
        "binary",
        frozenset({"pos_weight", "sample_weight"}),
        BINARY_LOGITS,
        _binary_logits,
        ops.multilabel_with_logits,
        ops.multilabel_with_logits_text,
        dtypes=FEWER_DTYPES,
        interface=Interface(pos_weight="positive term", mutates="no"),
    ),
    "multilabel_soft_margin_loss": _Op(
        BCE,
        "binary",
        frozenset(),
        BINARY_LOGITS,
        _logsigmoid,
        ops.soft_margin,
        ops.soft_margin_text,
        ("none", "mean"),
        FEWER_DTYPES,
    ),
    "logsigmoid": _Op(
        BCE,
        "binary",
        frozenset(),
        BINARY_LOGITS,
        _logsigmoid,
        ops.logsigmoid,
        ops.logsigmoid_text,
        UNREDUCED,
        FEWER_DTYPES,
    ),
    "binary_cross_entropy.of_sigmoid": _Op(
        BCE,
        "binary",
        frozenset({"sample_weight"}),
        BINARY_LOGITS,
        _of_sigmoid,
        ops.binary_of_sigmoid,
        ops.binary_of_sigmoid_text,
        dtypes=FEWER_DTYPES,
    ),
    "binary_cross_entropy": _Op(
        "binary_cross_entropy",
        "binary",
        frozenset({"sample_weight"}),
        BINARY_PROBABILITIES,
        _binary_probabilities,
        ops.binary,
        ops.binary_text,
        modes=MODES,
        # aten/src/ATen/native/Loss.cpp checks that input and target lie in [0, 1].
        interface=replace(BINARY_CALL, target_domain="raises"),
    ),
    "softmax.value": _Op(
        "softmax",
        "index",
        frozenset({"axis"}),
        SOFTMAX,
        _softmax,
        ops.softmax_value,
        ops.softmax_value_text,
        UNREDUCED,
        FEWER_DTYPES,
        interface=PICKED_CALL,
    ),
    "logsumexp.value": _Op(
        "logsumexp",
        "index",
        frozenset({"axis"}),
        SUM_OF_EXP,
        _sum_of_exp,
        ops.logsumexp_value,
        ops.logsumexp_value_text,
        UNREDUCED,
        FEWER_DTYPES,
        interface=PICKED_CALL,
    ),
    "kl_div": _Op(
        "kl_divergence",
        "distribution",
        frozenset(),
        DIVERGENCE,
        _divergence,
        ops.kl_div,
        ops.kl_div_text,
        interface=DIVERGENCE_CALL,
    ),
    "kl_div.log_target": _Op(
        "kl_divergence",
        "distribution",
        frozenset(),
        DIVERGENCE,
        _divergence_from_logs,
        ops.kl_div_log_target,
        ops.kl_div_log_target_text,
        dtypes=FEWER_DTYPES,
        interface=DIVERGENCE_CALL,
    ),
}


FUNCTIONS: dict[str, _Op] = {
    name: _Op(
        name,
        "binary",
        frozenset(),
        Semantics(),
        arithmetic,
        *called,
        UNREDUCED,
        modes=("compile",),
        interface=UNDECLARED,
    )
    for name, arithmetic, called in (
        ("sigmoid", _sigmoid, ops.SIGMOID),
        ("log_sigmoid", _logsigmoid, ops.LOG_SIGMOID),
        ("softplus", _softplus, ops.SOFTPLUS),
    )
}
"""Functions of one logit: sweeps alone ask them."""


def _declared(
    dtypes: tuple[str, ...], arithmetic: Callable[[str], Arithmetic]
) -> dict[str, Arithmetic]:
    return {dtype: arithmetic(dtype) for dtype in dtypes}


def _eager(name: str, op: _Op) -> Subject:
    return Subject(
        framework="torch",
        op=name,
        operation=op.operation,
        target=op.target,
        mode="eager",
        dtypes=op.dtypes,
        options=op.options,
        reductions=op.reductions,
        semantics=op.semantics,
        arithmetic=_declared(op.dtypes, op.arithmetic),
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=op.interface,
        misuse=op.misuse,
        divergence_sibling=op.divergence_sibling,
        layouts=LAYOUTS,
    )


def _compile(name: str, op: _Op) -> Subject:
    """One fused loop in float32, rounded to the dtype where it stores."""

    def arithmetic(dtype: str) -> Arithmetic:
        if dtype in NARROW:
            note = (
                "generated C++ computes in float32 and may round to 16 bits where a buffer is "
                "stored between kernels; every step is taken as rounded (loose): c = 1.01"
            )
        else:
            note = "the same steps in one generated C++ loop"
        return _noted(op.arithmetic(dtype), note)

    return replace(
        _eager(name, op),
        mode="compile",
        dtypes=FEWER_DTYPES,
        options=op.options - {"axis"},
        arithmetic=_declared(FEWER_DTYPES, arithmetic),
        shape=BINARY if op.target == "binary" else CLASSES,
    )


def _noted(arithmetic: Arithmetic, note: str) -> Arithmetic:
    """The same arithmetic with a word on its origin."""
    return replace(arithmetic, origin=f"{arithmetic.origin}; {note}")


def _autocast(name: str, op: _Op) -> Subject:
    """The losses are on the list of ops that AutocastCPU runs in float32; log_softmax is not.

    float64 is not eligible, and float32 must stay what it is.
    """

    def arithmetic(dtype: str) -> Arithmetic:
        kept = name == "nll_loss"
        note = "autocast casts what the loss is given to float32, and the gradient back"
        return _noted(op.arithmetic(dtype if kept else "float32"), note)

    return replace(
        _eager(name, op),
        mode="autocast",
        dtypes=FEWER_DTYPES,
        semantics=replace(op.semantics, output="float32"),
        binary_sibling=None,
        arithmetic=_declared(FEWER_DTYPES, arithmetic),
    )


def _vmap(name: str, op: _Op) -> Subject:
    """Declared as the op itself: torch.func promises the numbers of a loop over the rows."""
    return replace(
        _transformed(name, op, "as without torch.func"),
        mode="vmap",
    )


def _forward(name: str, op: _Op) -> Subject:
    note = "the tangent of log_softmax is t - sum(exp(logp) t), of the binary ops their gradient t"
    return replace(_transformed(name, op, note), mode="forward")


def _transformed(name: str, op: _Op, note: str) -> Subject:
    """Unreduced, since rows are mapped over or have a tangent each."""
    return replace(
        _eager(name, op),
        dtypes=FEWER_DTYPES,
        options=op.options - {"axis"},
        reductions=UNREDUCED,
        binary_sibling=None,
        # The op is given one row, or dual numbers: how it takes other shapes is said of it eagerly.
        interface=UNDECLARED,
        arithmetic=_declared(FEWER_DTYPES, lambda dtype: _noted(op.arithmetic(dtype), note)),
    )


def _second(name: str, op: _Op) -> Subject:
    note = "H v is the derivative of the gradient's own formula, taken backward too"
    return replace(_transformed(name, op, note), mode=SECOND)


MAKERS = {
    "compile": _compile,
    "autocast": _autocast,
    "vmap": _vmap,
    "forward": _forward,
    SECOND: _second,
}


def _subjects(ops: dict[str, _Op]) -> tuple[Subject, ...]:
    eager = [_eager(name, op) for name, op in ops.items()]
    others = [
        make(name, op) for mode, make in MAKERS.items() for name, op in ops.items()
        if mode in op.modes
    ]  # fmt: skip
    return (*eager, *others)


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject, dtype
    # One compiling thread: a pool of processes costs seconds and would outlive its worker.
    # One computing thread unless the user says otherwise: the batches are small, and on a busy
    # machine the threads of OpenMP wait for each other for milliseconds.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return "torch", {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": threads}


def _on(subject: Subject, device: str) -> Subject | None:
    """The subject on a device; None where it makes no sense there.

    The constants of the arithmetic are those of the CPU's functions, so that elsewhere no bound is
    declared. Autocast has other lists of ops on other devices, MPS has no float64.
    """
    if device == "cpu":
        return subject
    if device not in ("cuda", "mps") or subject.mode == "autocast":
        return None
    dtypes = tuple(dtype for dtype in subject.dtypes if (device, dtype) != ("mps", "float64"))
    return replace(subject, device=device, dtypes=dtypes, arithmetic={})


def _snippet(subject: Subject, case: Case) -> str:
    return script(subject, case, {**OPS, **FUNCTIONS}[subject.op].text)


PASSED = {
    "weight": "weight=weight",
    "label_smoothing": "label_smoothing=label_smoothing",
    "pos_weight": "pos_weight=torch.as_tensor(pos_weight)",
}


def _call(subject: Subject) -> OpCall:
    op = OPS[subject.op]
    if op.misuse or subject.op.endswith(".multilabel"):
        return OpCall()
    text = op.text("{x}", "{y}", -1, ", reduction='none'{options}")
    return OpCall(text, tuple((k, v) for k, v in PASSED.items() if k in op.options))


FRAMEWORK = Framework(
    name="torch",
    module="pytorch",
    packages=("torch",),
    install="pip install torch",
    subjects=_subjects(OPS),
    worker=_worker,
    snippet=_snippet,
    on=_on,
    idioms=TORCH,
    call=_call,
    functions=_subjects(FUNCTIONS),
)

# ---------------------------------------------------------------------- in the worker


def failed_compiler(error: BaseException) -> str:
    """Why Inductor's C++ compiler failed, or '' where it was the op that raised.

    The op is then not wrong but unavailable here: no compiler that works, no headers, or headers
    under a path with a space, which Inductor does not quote (torch 2.13).
    """
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ == "CppCompileError":
            break
        seen = seen.__cause__ or getattr(seen, "inner_exception", None) or seen.__context__
    if seen is None and "CppCompileError" not in str(error):
        return ""
    import torch

    folder = str(Path(torch.__file__).parent)
    if " " in folder:
        return (
            f"torch.compile does not work where torch is installed: {folder!r} has a space, which "
            "Inductor's compiler command does not quote; install torch under another path"
        )
    return f"torch.compile could not build its C++ code: {str(error)[:2000]}"


def facts_of(torch: Any) -> dict[str, str]:
    """What moves the numbers of torch where it runs."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "devices": ", ".join(devices_of(torch)),
        "accelerators": ", ".join(
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": str(torch.backends.mkldnn.is_available()),
        "mkl": str(torch.backends.mkl.is_available()),
        "threads": str(torch.get_num_threads()),
        "threads between ops": str(torch.get_num_interop_threads()),
        "cuda": str(torch.version.cuda),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "allow_tf32": f"matmul {matmul.allow_tf32}, cudnn {cudnn.allow_tf32}",
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "default dtype": str(torch.get_default_dtype()),
        "subnormals": subnormals(lambda x: (torch.from_numpy(x) * 0.5).numpy()),
        "git": str(torch.version.git_version),
        **flags("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS", "ONEDNN_DEFAULT_FPMATH_MODE"),
    }


def devices_of(torch: Any) -> list[str]:
    """The kinds of devices that are there."""
    mps = getattr(torch.backends, "mps", None)
    there = {"cuda": torch.cuda.is_available(), "mps": mps is not None and mps.is_available()}
    return ["cpu", *(name for name, is_there in there.items() if is_there)]


class TorchRuntime:
    """torch, imported."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._dtypes = {name: getattr(torch, name) for name in DTYPES}
        self._programs: dict[Any, Any] = {}
        self._devices = devices_of(torch)

    def versions(self) -> dict[str, str]:
        return {"torch": self._torch.__version__}

    def facts(self) -> dict[str, str]:
        return facts_of(self._torch)

    def call(self, call: Call) -> Result:
        if call.device not in self._devices:
            raise Unsupported(f"torch has no device {call.device!r} here")
        inputs = laid_out(self._tensor(call, call.inputs, call.dtype), call.layout)
        inputs = _shaped(inputs, call.options.axis)
        target = self._target(call)
        ways = {"vmap": self._by_vmap, "forward": self._by_jvp}
        differentiate = ways.get(call.mode, self._by_autograd)
        try:
            loss, *gradients = differentiate(call, inputs, target)
        except Exception as error:  # whatever the op raises is recorded; a missing compiler is not
            if compiler := failed_compiler(error):
                raise Unsupported(compiler) from error
            raise
        loss = _rows_of_loss(loss, len(call.inputs), call.options.axis)
        gradients = [_rows(gradient, call.options.axis) for gradient in gradients]
        return Result(*(to_bits(self._torch, tensor) for tensor in (loss, *gradients)))

    def _target(self, call: Call) -> Any:
        if not call.index:
            return _shaped(self._tensor(call, call.target, call.dtype), call.options.axis)
        labels = self._tensor(call, call.target, "int64")
        return labels[None] if call.options.axis == 1 else labels

    def _by_autograd(self, call: Call, inputs: Any, target: Any) -> tuple[Any, ...]:
        torch = self._torch
        inputs.requires_grad_()
        wanted = [inputs, target.requires_grad_()] if call.by_target else [inputs]
        with self._precision(call):
            loss = self._program(call)(inputs, target, *self._weights(call))
        if call.cotangent is None:
            cotangent = torch.ones_like(loss)
        else:
            cotangent = self._cotangent(call).to(loss.dtype).reshape(loss.shape)
        if call.direction is None:
            return loss, *torch.autograd.grad(loss, wanted, cotangent)
        (gradient,) = torch.autograd.grad(loss, inputs, cotangent, create_graph=True)
        direction = self._tensor(call, call.direction, call.dtype)
        return loss, *torch.autograd.grad(gradient, inputs, direction)

    def _precision(self, call: Call) -> Any:
        if call.mode != "autocast":
            return contextlib.nullcontext()
        return self._torch.autocast(call.device, dtype=self._torch.bfloat16)

    def _by_vmap(self, call: Call, inputs: Any, target: Any) -> tuple[Any, ...]:
        """Loss and pull-back of one row, mapped over the rows."""
        func = self._func()
        loss_of = self._program(call)

        def row(z: Any, y: Any, cotangent: Any, *weights: Any) -> tuple[Any, ...]:
            if call.by_target:
                loss, pull = func.vjp(lambda z, y: loss_of(z, y, *weights), z, y)
            else:
                loss, pull = func.vjp(lambda z: loss_of(z, y, *weights), z)
            # The probe asks for rows of several losses too.
            return loss, *pull(cotangent.expand(loss.shape))

        arrays = (inputs, target, self._cotangent(call), *self._weights(call))
        return tuple(func.vmap(row)(*arrays))

    def _by_jvp(self, call: Call, inputs: Any, target: Any) -> tuple[Any, ...]:
        """Columns of the gradient: the rows do not depend on each other, so one tangent does all.

        The cotangent of a row is the size of its tangent.
        """
        loss_of, weights = self._program(call), self._weights(call)
        loss, gradient = self._columns(call, lambda z: loss_of(z, target, *weights), inputs)
        if not call.by_target:
            return loss, gradient
        return (
            loss,
            gradient,
            self._columns(call, lambda y: loss_of(inputs, y, *weights), target)[1],
        )

    def _columns(self, call: Call, function: Any, at: Any) -> tuple[Any, Any]:
        func, loss, columns = self._func(), None, []
        if not one_loss_a_row(tuple(at.shape), tuple(function(at).shape)):
            return self._elements(function, at)
        for k in range(at.shape[1]):
            tangent = self._torch.zeros_like(at)
            tangent[:, k] = self._cotangent(call)
            loss, column = func.jvp(function, (at,), (tangent,))
            columns.append(column.reshape(len(at)))
        return loss, self._torch.stack(columns, dim=1)

    def _elements(self, function: Any, at: Any) -> tuple[Any, Any]:
        """A gradient from one tangent per element; only the probe asks for such shapes."""
        torch, func, loss, sums = self._torch, self._func(), None, []
        units = torch.eye(at.numel(), dtype=at.dtype, device=at.device)
        for unit in units.reshape(-1, *at.shape):
            loss, pushed = func.jvp(function, (at,), (unit,))
            sums.append(pushed.sum())
        return loss, torch.stack(sums).reshape(at.shape)

    def _func(self) -> Any:
        if not hasattr(self._torch, "func"):
            raise Unsupported(f"torch {self._torch.__version__} has no torch.func")
        return self._torch.func

    def _weights(self, call: Call) -> list[Any]:
        """The sample weights as one more argument of the op, of the shape of its target."""
        if call.sample_weight is None:
            return []
        return [self._tensor(call, call.sample_weight, call.dtype).reshape(call.target.shape)]

    def _cotangent(self, call: Call) -> Any:
        """One number a row."""
        if call.cotangent is not None:
            return self._tensor(call, call.cotangent, call.dtype)
        dtype = self._dtypes[call.dtype]
        return self._torch.ones(len(call.inputs), dtype=dtype, device=call.device)

    def _tensor(self, call: Call, bits: Any, dtype: str) -> Any:
        return to_tensor(self._torch, bits, dtype, call.device)

    def _program(self, call: Call) -> Any:
        key = call.key
        if key not in self._programs:
            self._programs[key] = self._make(call)
        return self._programs[key]

    def _make(self, call: Call) -> Any:
        torch, axis = self._torch, call.options.axis
        op = {**OPS, **FUNCTIONS}[call.op]
        keywords = self._keywords(call, op)

        def loss(inputs: Any, target: Any, *weights: Any) -> Any:
            weighted = {"weight": weights[0], **keywords} if weights else keywords
            return op.loss(torch, inputs, target, axis, **weighted)

        return self._compiled(loss) if call.mode == "compile" else loss

    def _keywords(self, call: Call, op: _Op) -> dict[str, Any]:
        options: Options = call.options
        keywords: dict[str, Any] = {}
        if op.reductions != UNREDUCED and options.reduction != "default":
            keywords["reduction"] = options.reduction
        if options.weight is not None:
            keywords["weight"] = self._vector(options.weight, call)
        if options.pos_weight is not None:
            keywords["pos_weight"] = self._vector((options.pos_weight,), call)
        if options.ignore_index is not None:
            keywords["ignore_index"] = options.ignore_index
        if options.label_smoothing:
            keywords["label_smoothing"] = options.label_smoothing
        return keywords

    def _vector(self, values: tuple[float, ...], call: Call) -> Any:
        exact = self._torch.tensor(values, dtype=self._torch.float64)
        return exact.to(self._dtypes[call.dtype]).to(call.device)

    def _compiled(self, loss: Any) -> Any:
        if not any(shutil.which(name) for name in _compilers()):
            raise Unsupported("torch.compile needs a C++ compiler (g++ or clang++, or CXX)")
        # fullgraph: a graph break or too many recompilations must not fall back to eager silently.
        self._allow_recompilations()
        return self._torch.compile(loss, fullgraph=True, dynamic=False)

    def _allow_recompilations(self) -> None:
        """Every set of options is one more program of the same code object."""
        config = self._torch._dynamo.config  # noqa: SLF001 - the documented place of the limit
        for name in ("recompile_limit", "cache_size_limit"):
            if hasattr(config, name):
                setattr(config, name, 1024)


def _shaped(array: Any, axis: int) -> Any:
    """(N, K) as the op is given it: (1, K, N) for axis 1."""
    return array.T[None].contiguous() if axis == 1 else array


def _rows(gradient: Any, axis: int) -> Any:
    """The inverse of `_shaped`."""
    return gradient[0].T if axis == 1 else gradient


def _rows_of_loss(loss: Any, rows: int, axis: int) -> Any:
    """One loss a row where the op gives them as (1, N) or (N, 1)."""
    shape = tuple(loss.shape)
    if axis == 1 and shape == (1, rows):
        return loss[0]
    return loss[:, 0] if per_row(shape, rows) else loss


def _compilers() -> list[str]:
    """Names of C++ compilers that torch.compile may call; CXX may hold arguments too."""
    return [*os.environ.get("CXX", "").split()[:1], "g++", "clang++"]


def load() -> TorchRuntime:
    """Imports torch."""
    return TorchRuntime()
