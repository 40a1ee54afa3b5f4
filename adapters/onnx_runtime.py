"""ONNX Runtime on CPUs: the loss operators of ONNX, each in a graph of its own.

A call is one run of a session whose graph holds the operator alone, after a LogSoftmax where it
takes log-probabilities. The session is that of a user who changes nothing (all graph
optimisations). The package for inference has neither a kernel for these losses nor an operator that
differentiates them: the session inlines their definition in ONNX (LogSoftmax, GatherElements, Neg
…), and there is no gradient. It has no bfloat16: `ReduceMax` and `LogSoftmax` are not implemented.

Conventions were read in the definitions of the operators (onnx/defs/math/defs.cc, opset 13, the
last that changed them before 22) and confirmed by running onnxruntime 1.31.1 with onnx 1.23.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..reference.vocabulary import Arithmetic, Case, Options, Semantics
from .protocol import RawArray
from .runtime import NUMPY_TYPES, Call, Result, Unsupported, raw, subnormals
from .snippets import cut, input_name, nested, target_name, vector
from .subject import Framework, Interface, Subject

DTYPES = ("float64", "float32", "float16")
KINDS = {
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "float16": "FLOAT16",
    "int64": "INT64",
    "int32": "INT32",
}  # what TensorProto calls them
REDUCTIONS = ("none", "sum", "mean")
OPSET = 21  # the newest of onnxruntime 1.20, the oldest version that is supported
IR_VERSION = 10  # of opset 21

# ---------------------------------------------------------------------- declarations

SUMMATION = "the order of the sum over classes is not specified: K - 1 (loose)"
MLAS = (
    "LogSoftmax of float32 is MlasComputeSoftmax (mlas/lib/compute.cpp): its exp, a polynomial of "
    "degree 6 with fused products, was measured at 0.86 ulp, and one without them is taken at 2: "
    "c = 4; std::log, at most 1 ulp: c = 2; (z + -max) - log(sum) in this order; "
)
EIGEN = (
    "LogSoftmax of float64 is SoftmaxCPU (core/providers/cpu/math/softmax_shared.cc): Eigen's "
    "vectorised exp, taken at 2 ulps: c = 4 (measured: 1.6); std::log, at most 1 ulp: c = 2; "
    "(z - max) - log(sum) in this order; "
)
WIDENED = (
    "float16 has no kernel: the graph casts to float32, computes LogSoftmax there by its "
    "definition (ReduceMax, Sub, Exp, ReduceSum, Log, Sub) and casts the log-probabilities back; "
    "the exp is that of MLAS: c = 4, Eigen's vectorised log was measured at 3.3 ulps: c = 8; "
)

# Like Python's: labels from -K to -1 count from the end. GatherElements raises for all others.
INDEX = Semantics(
    mean="weights", all_ignored="nan", label_policy="wraps (-1); raises (K, -10^6, 10^6)"
)
CALL = Interface(
    default_reduction="mean",
    class_axis="second",
    broadcasting="raises",
    ignore_domain="any",
    mutates="no",
)


def _arithmetic(dtype: str) -> Arithmetic:
    origin = {"float64": EIGEN, "float32": MLAS, "float16": WIDENED}[dtype]
    return Arithmetic(
        form="B",
        gradient="division",  # there is none
        working="float32" if dtype == "float16" else dtype,
        stored=dtype,
        height="sequential",
        c_exp=4.0,
        c_log=8.0 if dtype == "float16" else 2.0,
        c_log1p=4.0,
        c_sigmoid=4.0,
        flush=False,
        origin=origin + SUMMATION,
    )


@dataclass(frozen=True)
class _Op:
    """An operator, the integer type of its labels, and whether a LogSoftmax comes before it."""

    name: str
    labels: str
    after_log_softmax: bool


OPS: dict[str, _Op] = {
    "SoftmaxCrossEntropyLoss": _Op("SoftmaxCrossEntropyLoss", "int64", after_log_softmax=False),
    "SoftmaxCrossEntropyLoss.int32": _Op(
        "SoftmaxCrossEntropyLoss", "int32", after_log_softmax=False
    ),
    "NegativeLogLikelihoodLoss": _Op("NegativeLogLikelihoodLoss", "int64", after_log_softmax=True),
}


def _subject(name: str) -> Subject:
    return Subject(
        framework="onnxruntime",
        op=name,
        operation="cross_entropy",
        target="index",
        mode="session",
        dtypes=DTYPES,
        options=frozenset({"weight", "ignore_index", "axis"}),
        reductions=REDUCTIONS,
        semantics=INDEX,
        arithmetic={dtype: _arithmetic(dtype) for dtype in DTYPES},
        gradients=False,
        interface=CALL,
    )


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject, dtype
    return "onnxruntime", {}


def _attributes(options: Options) -> dict[str, Any]:
    """The attributes of the operator, those that nobody passed left out."""
    attributes: dict[str, Any] = {}
    if options.reduction != "default":
        attributes["reduction"] = options.reduction
    if options.ignore_index is not None:
        attributes["ignore_index"] = options.ignore_index
    return attributes


def _snippet(subject: Subject, case: Case) -> str:
    op, options = OPS[subject.op], case.options
    x, y = input_name(subject), target_name(case)
    turned, layered = (".T[None]", "[None]") if options.axis == 1 else ("", "")
    kinds = {x: KINDS[case.dtype], y: KINDS[op.labels]}
    if options.weight is not None:
        kinds["w"] = kinds[x]
    attributes = "".join(f", {name}={value!r}" for name, value in _attributes(options).items())
    first = "log_p" if op.after_log_softmax else x
    inputs = ", ".join(f'"{name}"' for name in (first, *list(kinds)[1:]))
    before = f'    helper.make_node("LogSoftmax", ["{x}"], ["log_p"], axis=1),'
    given = ", ".join(f'"{name}": {name}' for name in kinds)
    unreduced = options.reduction == "none"
    shape = f"{y}.shape" if unreduced else "()"
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from onnx import TensorProto, helper",
        "",
        f"{x} = np.array({nested(case.inputs)}, np.{case.dtype}){cut(case.inputs)}{turned}",
        f"{y} = np.array({nested(case.target)}, np.{op.labels}){cut(case.target)}{layered}",
        *([f"w = np.array({vector(options.weight)}, np.{case.dtype})"] if options.weight else []),
        "",
        "nodes = [",
        *([before] if op.after_log_softmax else []),
        f'    helper.make_node("{op.name}", [{inputs}], ["loss"]{attributes}),',
        "]",
        "inputs = [",
        *(f"    {_described(name, kind, f'{name}.shape')}," for name, kind in kinds.items()),
        "]",
        f"outputs = [{_described('loss', kinds[x], shape)}]",
        'graph = helper.make_graph(nodes, "loss", inputs, outputs)',
        f'opset = helper.make_opsetid("", {OPSET})',
        f"model = helper.make_model(graph, opset_imports=[opset], ir_version={IR_VERSION})",
        "session = onnxruntime.InferenceSession(model.SerializeToString())",
        f"loss = session.run(None, {{{given}}})[0]",
        f"print(loss{'[0]' if layered and unreduced else ''}.tolist())",
    ]
    return "\n".join(lines) + "\n"


def _described(name: str, kind: str, shape: str) -> str:
    return f'helper.make_tensor_value_info("{name}", TensorProto.{kind}, {shape})'


FRAMEWORK = Framework(
    name="onnxruntime",
    module="onnx_runtime",
    packages=("onnxruntime", "onnx"),
    install="pip install onnxruntime onnx",
    subjects=tuple(_subject(name) for name in OPS),
    worker=_worker,
    snippet=_snippet,
)

# ---------------------------------------------------------------------- in the worker


class OnnxRuntime:
    """onnx and onnxruntime, imported, and the sessions that were made."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self._onnx, self._onnxruntime = onnx, onnxruntime
        self._sessions: dict[Any, Any] = {}

    def versions(self) -> dict[str, str]:
        return {
            "onnxruntime": self._onnxruntime.__version__,
            "onnx": self._onnx.__version__,
        }

    def facts(self) -> dict[str, str]:
        options = self._session_options()
        return {
            "providers": ", ".join(self._onnxruntime.get_available_providers()),
            "devices": self._onnxruntime.get_device(),
            "opset": str(OPSET),
            "graph optimisation": options.graph_optimization_level.name,
            "threads": f"{options.intra_op_num_threads} (0: one a core)",
            "execution": options.execution_mode.name,
            "subnormals": subnormals(self._halved),
        }

    def _halved(self, x: Any) -> Any:
        """Half of a float32 array, by a graph of one product."""
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        half = helper.make_tensor("half", kind, [], [0.5])
        described = [helper.make_tensor_value_info(name, kind, x.shape) for name in ("x", "y")]
        node = helper.make_node("Mul", ["x", "half"], ["y"])
        graph = helper.make_graph([node], "half", described[:1], described[1:], [half])
        return self._new_session(graph).run(None, {"x": x})[0]

    def call(self, call: Call) -> Result:
        given = self._given(call)
        loss = self._session(call).run(None, given)[0]
        if call.options.axis == 1 and call.options.reduction == "none":
            loss = loss[0]
        return Result(self._raw(loss))

    def _given(self, call: Call) -> dict[str, Any]:
        if call.options.axis == 0:
            raise Unsupported("the axis of the classes is the second in ONNX")
        kind = NUMPY_TYPES[call.dtype]
        inputs = call.inputs.view(kind)
        target = call.target.astype(OPS[call.op].labels)
        if (target != call.target).any():
            raise Unsupported(f"{OPS[call.op].labels} does not hold every label of this call")
        if call.options.axis == 1:
            inputs, target = np.ascontiguousarray(inputs.T)[None], target[None]
        given = {"inputs": inputs, "target": target}
        if call.options.weight is not None:
            given["weight"] = np.array(call.options.weight, kind)
        return given

    @staticmethod
    def _raw(loss: Any) -> RawArray:
        return raw(loss, loss.dtype.name)

    def _session_options(self) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what an operator raises is told once, by the exception
        return options

    def _session(self, call: Call) -> Any:
        """The session of an operator with its attributes; it takes every number of rows."""
        options = call.options
        key = (call.op, call.dtype, options.axis, options.weight is None, options.ignore_index)
        key = (*key, options.reduction, call.inputs.ndim, call.target.ndim)
        if key not in self._sessions:
            self._sessions[key] = self._new_session(self._graph(call))
        return self._sessions[key]

    def _new_session(self, graph: Any) -> Any:
        helper = self._onnx.helper
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        self._onnx.checker.check_model(model)
        return self._onnxruntime.InferenceSession(
            model.SerializeToString(), self._session_options(), providers=["CPUExecutionProvider"]
        )

    def _graph(self, call: Call) -> Any:
        helper, op = self._onnx.helper, OPS[call.op]
        names = ["inputs", "target"] + (["weight"] if call.options.weight is not None else [])
        nodes = []
        if op.after_log_softmax:
            nodes.append(helper.make_node("LogSoftmax", ["inputs"], ["log_p"], axis=1))
        inputs = ["log_p", *names[1:]] if op.after_log_softmax else names
        nodes.append(helper.make_node(op.name, inputs, ["loss"], **_attributes(call.options)))
        given = [self._described(call, name) for name in names]
        return helper.make_graph(nodes, "loss", given, [self._described(call, "loss")])

    def _described(self, call: Call, name: str) -> Any:
        """An input or the output of the graph: its type and rank; dimensions have names alone."""
        layers = int(call.options.axis == 1)
        targets = call.target.ndim + layers
        ranks = {"inputs": call.inputs.ndim + layers, "target": targets, "weight": 1}
        ranks["loss"] = targets if call.options.reduction == "none" else 0
        shape = [f"{name}_{i}" for i in range(ranks[name])]
        kind = KINDS[OPS[call.op].labels if name == "target" else call.dtype]
        kind = getattr(self._onnx.TensorProto, kind)
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)


def load() -> OnnxRuntime:
    """Imports onnx and onnxruntime."""
    return OnnxRuntime()
