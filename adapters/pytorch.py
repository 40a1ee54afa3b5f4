"""PyTorch: the losses of `torch.nn.functional`, eager and through `torch.compile`.

Conventions were read in aten/src/ATen/native/LossNLL.cpp and Loss.cpp and confirmed by running
2.13; the arithmetic in aten/src/ATen/native/cpu/SoftMaxKernel.cpp and aten/src/ATen/cpu/vec.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..reference.vocabulary import Arithmetic, Case, Options, Semantics
from .protocol import RawArray
from .runtime import NUMPY_TYPES, Call, Result, Unsupported, flags, per_row, subnormals
from .snippets import arguments, input_name, nested, target_name, vector
from .subject import Framework, Interface, Subject

DTYPES = ("float64", "float32", "bfloat16", "float16")
COMPILED_DTYPES = ("float32", "bfloat16")
REDUCTIONS = ("none", "sum", "mean")
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
PROBABILITIES = Semantics(smoothing="eps/K", mean="rows")
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
INDEX_CALL = Interface(
    default_reduction="mean",
    class_axis="second",
    broadcasting="raises",
    ignore_domain="any",
    weighted_smoothing="each term",
    mutates="no",
)
PROBABILITIES_CALL = Interface(
    default_reduction="mean",
    class_axis="second",
    broadcasting="raises",
    target_domain="computes",
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


def _compiled(eager: Arithmetic, dtype: str) -> Arithmetic:
    """torch.compile on a CPU: one fused loop in float32, rounded to the dtype where it stores."""
    if dtype in ("float64", "float32"):
        return replace(eager, origin=eager.origin + "; the same steps in one generated C++ loop")
    return replace(
        eager,
        origin="generated C++ computes in float32 and may round to 16 bits where a buffer is "
        "stored between kernels; every step is taken as rounded (loose): c = 1.01",
    )


@dataclass(frozen=True)
class _Op:
    """What does not depend on the mode: the declaration of one op, and how scripts call it."""

    operation: str
    target: str
    options: frozenset[str]
    semantics: Semantics
    arithmetic: Any
    function: str
    interface: Interface
    index_sibling: str | None = None
    binary_sibling: str | None = None


LOGIT_OPTIONS = frozenset({"weight", "label_smoothing"})
OPS: dict[str, _Op] = {
    "cross_entropy.index": _Op(
        "cross_entropy",
        "index",
        LOGIT_OPTIONS | {"ignore_index"},
        INDEX,
        _log_softmax,
        "cross_entropy",
        INDEX_CALL,
        binary_sibling="binary_cross_entropy_with_logits",
    ),
    "cross_entropy.probabilities": _Op(
        "cross_entropy",
        "distribution",
        LOGIT_OPTIONS,
        PROBABILITIES,
        _log_softmax,
        "cross_entropy",
        PROBABILITIES_CALL,
        index_sibling="cross_entropy.index",
        binary_sibling="binary_cross_entropy_with_logits",
    ),
    "nll_loss": _Op(
        "cross_entropy",
        "index",
        frozenset({"weight", "ignore_index"}),
        NLL,
        _log_softmax,
        "nll_loss",
        INDEX_CALL,
        binary_sibling="binary_cross_entropy_with_logits",
    ),
    "binary_cross_entropy_with_logits": _Op(
        "binary_cross_entropy_with_logits",
        "binary",
        frozenset({"pos_weight"}),
        BINARY_LOGITS,
        _binary_logits,
        "binary_cross_entropy_with_logits",
        BINARY_CALL,
    ),
    "binary_cross_entropy": _Op(
        "binary_cross_entropy",
        "binary",
        frozenset(),
        BINARY_PROBABILITIES,
        _binary_probabilities,
        "binary_cross_entropy",
        # aten/src/ATen/native/Loss.cpp checks that input and target lie in [0, 1].
        replace(BINARY_CALL, target_domain="raises"),
    ),
}


def _eager(name: str, op: _Op) -> Subject:
    return Subject(
        framework="torch",
        op=name,
        operation=op.operation,
        target=op.target,
        mode="eager",
        dtypes=DTYPES,
        options=op.options,
        reductions=REDUCTIONS,
        semantics=op.semantics,
        arithmetic={dtype: op.arithmetic(dtype) for dtype in DTYPES},
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=op.interface,
    )


def _compile(name: str, op: _Op) -> Subject:
    return replace(
        _eager(name, op),
        mode="compile",
        dtypes=COMPILED_DTYPES,
        arithmetic={dtype: _compiled(op.arithmetic(dtype), dtype) for dtype in COMPILED_DTYPES},
        shape=BINARY if op.target == "binary" else CLASSES,
    )


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject, dtype
    # One compiling thread: a pool of processes costs seconds and would outlive its worker.
    # One computing thread unless the user says otherwise: the batches are small, and on a busy
    # machine the threads of OpenMP wait for each other for milliseconds.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return "torch", {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": threads}


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    lines = [
        "import torch",
        "import torch.nn.functional as F",
        "",
        f"{x} = torch.tensor({nested(case.inputs)}, dtype=torch.{case.dtype}, requires_grad=True)",
        f"{y} = torch.tensor({nested(case.target)}{_target_dtype(case)})",
        *_snippet_loss(subject, case, x, y),
        f"(gradient,) = torch.autograd.grad(loss.sum(), {x})",
        "print(loss.tolist())",
        "print(gradient.tolist())",
    ]
    return "\n".join(lines) + "\n"


def _target_dtype(case: Case) -> str:
    return "" if case.target_kind == "index" else f", dtype=torch.{case.dtype}"


def _snippet_loss(subject: Subject, case: Case, x: str, y: str) -> list[str]:
    keywords = arguments(_snippet_options(case))
    first = f"F.log_softmax({x}, dim=1)" if subject.op == "nll_loss" else x
    call = f"F.{OPS[subject.op].function}({first}, {y}{keywords})"
    if subject.mode == "eager":
        return [f"loss = {call}"]
    return [
        "",
        "",
        "@torch.compile",
        f"def loss_of({x}, {y}):",
        f"    return {call}",
        "",
        "",
        f"loss = loss_of({x}, {y})",
    ]


def _snippet_options(case: Case) -> dict[str, str]:
    options, dtype = case.options, f"dtype=torch.{case.dtype}"
    pieces: dict[str, str] = {}
    if options.weight is not None:
        pieces["weight"] = f"torch.tensor({vector(options.weight)}, {dtype})"
    if options.pos_weight is not None:
        pieces["pos_weight"] = f"torch.tensor({vector([options.pos_weight])}, {dtype})"
    if options.ignore_index is not None:
        pieces["ignore_index"] = repr(options.ignore_index)
    if options.label_smoothing:
        pieces["label_smoothing"] = repr(options.label_smoothing)
    if options.reduction != "default":
        pieces["reduction"] = repr(options.reduction)
    return pieces


FRAMEWORK = Framework(
    name="torch",
    module="pytorch",
    packages=("torch",),
    install="pip install torch",
    subjects=tuple(make(name, op) for make in (_eager, _compile) for name, op in OPS.items()),
    worker=_worker,
    snippet=_snippet,
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


class TorchRuntime:
    """torch, imported."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._dtypes = {name: getattr(torch, name) for name in DTYPES}
        self._names = {dtype: name for name, dtype in self._dtypes.items()}
        self._programs: dict[Any, Any] = {}

    def versions(self) -> dict[str, str]:
        return {"torch": self._torch.__version__}

    def facts(self) -> dict[str, str]:
        torch = self._torch
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        return {
            "devices": ", ".join(["cpu", *self._accelerators()]),
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

    def _accelerators(self) -> list[str]:
        cuda = self._torch.cuda
        return [cuda.get_device_name(i) for i in range(cuda.device_count())]

    def call(self, call: Call) -> Result:
        inputs = self._tensor(call.inputs, call.dtype).requires_grad_()
        target = self._tensor(call.target, "int64" if call.index else call.dtype)
        wanted = [inputs, target.requires_grad_()] if call.by_target else [inputs]
        try:
            loss = self._program(call)(inputs, target, *self._weights(call))
            gradients = self._torch.autograd.grad(loss, wanted, self._cotangent(call, loss))
        except Exception as error:  # whatever the op raises is recorded; a missing compiler is not
            if compiler := failed_compiler(error):
                raise Unsupported(compiler) from error
            raise
        if per_row(tuple(loss.shape), len(call.inputs)):
            loss = loss[:, 0]
        return Result(self._raw(loss), *map(self._raw, gradients))

    def _weights(self, call: Call) -> list[Any]:
        """The sample weights as one more argument of the op, of the shape of its target."""
        if call.sample_weight is None:
            return []
        return [self._tensor(call.sample_weight, call.dtype).reshape(call.target.shape)]

    def _cotangent(self, call: Call, loss: Any) -> Any:
        if call.cotangent is None:
            return self._torch.ones_like(loss)
        return self._tensor(call.cotangent, call.dtype).to(loss.dtype).reshape(loss.shape)

    def _tensor(self, bits: Any, dtype: str) -> Any:
        if dtype == "int64":
            return self._torch.from_numpy(bits)
        if dtype == "bfloat16":  # NumPy has no such type: the bits go through int16
            return self._torch.from_numpy(bits.view(np.int16)).view(self._torch.bfloat16)
        return self._torch.from_numpy(bits.view(NUMPY_TYPES[dtype]))

    def _raw(self, tensor: Any) -> RawArray:
        name = self._names.get(tensor.dtype, str(tensor.dtype))
        tensor = tensor.detach().contiguous()
        if name == "bfloat16":
            tensor = tensor.view(self._torch.int16)
        array = tensor.numpy()
        return RawArray(name, array.view(f"u{array.itemsize}"))

    def _program(self, call: Call) -> Any:
        key = call.key
        if key not in self._programs:
            self._programs[key] = self._make(call)
        return self._programs[key]

    def _make(self, call: Call) -> Any:
        functional = self._torch.nn.functional
        function = getattr(functional, OPS[call.op].function)
        keywords = self._keywords(call.options, call.dtype)
        if call.op == "nll_loss":

            def loss(inputs: Any, target: Any) -> Any:
                return function(functional.log_softmax(inputs, dim=1), target, **keywords)

        else:

            def loss(inputs: Any, target: Any) -> Any:
                return function(inputs, target, **keywords)

        return loss if call.mode == "eager" else self._compiled(loss)

    def _keywords(self, options: Options, dtype: str) -> dict[str, Any]:
        keywords: dict[str, Any] = {}
        if options.reduction != "default":
            keywords["reduction"] = options.reduction
        if options.weight is not None:
            keywords["weight"] = self._vector(options.weight, dtype)
        if options.pos_weight is not None:
            keywords["pos_weight"] = self._vector((options.pos_weight,), dtype)
        if options.ignore_index is not None:
            keywords["ignore_index"] = options.ignore_index
        if options.label_smoothing:
            keywords["label_smoothing"] = options.label_smoothing
        return keywords

    def _vector(self, values: tuple[float, ...], dtype: str) -> Any:
        return self._torch.tensor(values, dtype=self._torch.float64).to(self._dtypes[dtype])

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


def _compilers() -> list[str]:
    """Names of C++ compilers that torch.compile may call; CXX may hold arguments too."""
    return [*os.environ.get("CXX", "").split()[:1], "g++", "clang++"]


def load() -> TorchRuntime:
    """Imports torch."""
    return TorchRuntime()
