"""What a worker asks of an adapter: one call in, the bits of loss and gradient out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..reference.vocabulary import BY_ROW, Options
from .protocol import HEADS_KEPT, Description, Frame, RawArray, head, joined

# NumPy's own type for each format that NumPy has; bfloat16 is the framework's business.
NUMPY_TYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
}

FLOATS = ("float64", "float32", "bfloat16", "float16")


class Unsupported(Exception):
    """The call cannot be made here, and that says nothing about the numbers."""


@dataclass(frozen=True)
class Call:
    """One call as it reaches an adapter.

    Attributes:
        op: the op within the framework.
        mode: "eager" or a compiled mode.
        dtype: the format of `inputs`.
        inputs: raw bits of (N, K) logits or probabilities; writable, and the adapter's own.
        target: (N,) int64 indices or raw bits of (N, K); the probe may ask for other shapes.
        options: the options of the call.
        sample_weight: raw bits of (N,) or None.
        cotangent: raw bits of (N,), to pull back with in place of ones, or None.
        by_target: whether the gradient with respect to the target is asked for too.
        direction: raw bits of (N, K): with it the gradient is the product of the Hessian of each
            row with it, or None.
        device: where the op computes.
        layout: how the inputs shall lie in memory; "" for an array of their own.
    """

    op: str
    mode: str
    dtype: str
    inputs: NDArray[np.generic]
    target: NDArray[np.generic]
    options: Options
    sample_weight: NDArray[np.generic] | None = None
    cotangent: NDArray[np.generic] | None = None
    by_target: bool = False
    direction: NDArray[np.generic] | None = None
    device: str = "cpu"
    layout: str = ""

    @property
    def index(self) -> bool:
        """Whether the target holds class indices."""
        return self.target.dtype.kind == "i"

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything but the arrays: two calls of one key share a compiled program."""
        weighted = self.sample_weight is not None
        arrays = (weighted, self.by_target, self.direction is not None)
        return (self.op, self.mode, self.device, self.dtype, self.options, *arrays)


@dataclass(frozen=True)
class Result:
    """What an op returned: the loss, and the gradients of its sum, as raw bits.

    There is no gradient where the subject declares that it has none (`Subject.gradients`).
    """

    loss: RawArray
    gradient: RawArray | None = None
    target_gradient: RawArray | None = None

    def arrays(self) -> dict[str, RawArray]:
        """What there is, by name."""
        found = {
            "loss": self.loss,
            "gradient": self.gradient,
            "target_gradient": self.target_gradient,
        }
        return {name: array for name, array in found.items() if array is not None}


class Runtime(Protocol):
    """An imported framework. A module of `adapters/` makes one with its function `load()`."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages that move numbers."""
        ...

    def facts(self) -> dict[str, str]:
        """Build facts, flags and devices that move numbers."""
        ...

    def call(self, call: Call) -> Result:
        """Calls the op; whatever it raises is recorded."""
        ...


def options_to_fields(options: Options) -> dict[str, Any]:
    """Options as JSON, each float as its exact hexadecimal text; its values can be hashed."""
    return {
        "weight": None if options.weight is None else tuple(float(w).hex() for w in options.weight),
        "pos_weight": None if options.pos_weight is None else float(options.pos_weight).hex(),
        "ignore_index": options.ignore_index,
        "label_smoothing": float(options.label_smoothing).hex(),
        "where": None if options.where is None else tuple(options.where),
        "axis": options.axis,
        "gamma": None if options.gamma is None else float(options.gamma).hex(),
        "alpha": None if options.alpha is None else float(options.alpha).hex(),
        "reduction": options.reduction,
    }


def options_from_fields(fields: Mapping[str, Any]) -> Options:
    """The inverse of `options_to_fields`."""
    weight: Any | None = fields["weight"]
    pos_weight: str | None = fields["pos_weight"]
    return Options(
        weight=None if weight is None else tuple(map(float.fromhex, weight)),
        pos_weight=None if pos_weight is None else float.fromhex(pos_weight),
        ignore_index=fields["ignore_index"],
        label_smoothing=float.fromhex(fields["label_smoothing"]),
        where=None if fields["where"] is None else tuple(fields["where"]),
        axis=fields["axis"],
        gamma=None if fields["gamma"] is None else float.fromhex(fields["gamma"]),
        alpha=None if fields["alpha"] is None else float.fromhex(fields["alpha"]),
        reduction=fields["reduction"],
    )


def call_from_frame(frame: Frame) -> Call:
    """The call that a frame of kind "call" holds; its inputs are a copy that may be written."""
    fields = frame.fields
    return Call(
        op=fields["op"],
        mode=fields["mode"],
        dtype=fields["dtype"],
        inputs=frame.arrays["inputs"].bits.copy(),
        target=frame.arrays["target"].bits.copy(),
        options=options_from_fields(fields["options"]),
        sample_weight=_copied(frame, "sample_weight"),
        cotangent=_copied(frame, "cotangent"),
        direction=_copied(frame, "direction"),
        by_target=bool(fields["by_target"]),
        device=fields["device"],
        layout=fields["layout"],
    )


def _copied(frame: Frame, name: str) -> NDArray[np.generic] | None:
    array = frame.arrays.get(name)
    return None if array is None else array.bits.copy()


def changed(call: Call, frame: Frame) -> bool:
    """Whether any array of a call is no longer what the frame brought."""
    arrays = frame.arrays
    return any(
        getattr(call, name).tobytes() != arrays[name].bits.tobytes()
        for name in BY_ROW
        if name in arrays
    )


def answer(
    status: str, message: str, warnings: tuple[str, ...], nanoseconds: int, result: Result | None
) -> bytes:
    """The frame that answers a call."""
    # The time is an array and no field: so the head is the same for call after call.
    arrays = {"nanoseconds": RawArray("int64", np.asarray(nanoseconds))}
    if result is not None:
        arrays.update(result.arrays())
    listed = tuple((name, a.dtype, a.bits.shape) for name, a in arrays.items())
    return joined(_answer_head(status, message, warnings, listed), arrays.values())


@functools.lru_cache(maxsize=HEADS_KEPT)
def _answer_head(
    status: str, message: str, warnings: tuple[str, ...], listed: tuple[Description, ...]
) -> bytes:
    fields = {"status": status, "message": message, "warnings": warnings}
    return head("outcome", fields, listed)


def raw(array: NDArray[np.generic], dtype: str) -> RawArray:
    """The bits of a NumPy array that holds values of `dtype` (bfloat16 from any 2-byte type)."""
    array = np.asarray(array, order="C")  # ascontiguousarray would turn a scalar into (1,)
    return RawArray(dtype, array.view(f"u{array.itemsize}"))


def wrong_shape(call: Call, result: Result) -> str:
    """What is wrong with the shapes of a result, or ''."""
    rows, reduction = call.inputs.shape[:1], call.options.reduction
    right = {
        "loss": rows if reduction == "none" else (),
        "gradient": call.inputs.shape,
        "target_gradient": call.target.shape,
    }
    if reduction == "default" and result.loss.bits.shape == rows:
        right["loss"] = rows
    for name, array in result.arrays().items():
        if array.bits.shape != right[name]:
            what = name.replace("_", " ")
            return f"the {what} has the shape {array.bits.shape}, where {right[name]} is right"
    return ""


def subnormals(halve: Callable[[NDArray[Any]], Any]) -> str:
    """What becomes of subnormals here: the least normal numbers of float32 are halved.

    It is measured, since a flag is set for one thread and any library may have set it.
    """
    least = np.full(64, np.finfo(np.float32).tiny, np.float32)  # long enough for vector registers
    # Bits are looked at: where inputs are flushed too, a subnormal number compares equal to 0.
    left = np.asarray(halve(least), np.float32).view(np.uint32) != 0
    if left.all():
        return "kept"
    return "flushed in part" if left.any() else "flushed"


def flags(*names: str) -> dict[str, str]:
    """Environment variables that move numbers, those that are not set too."""
    return {name: os.environ.get(name, "(not set)") for name in names}


def per_row(shape: tuple[int, ...], rows: int) -> bool:
    """True for the (N, 1) of a binary op, which stands for one loss a row."""
    return shape == (rows, 1)


def one_loss_a_row(inputs: tuple[int, ...], loss: tuple[int, ...]) -> bool:
    """Whether (N, K) inputs gave N losses, of which none then depends on another row.

    Forward differentiation needs one tangent per class there, and one per element elsewhere.
    """
    return len(inputs) == 2 and (loss == inputs[:1] or per_row(loss, inputs[0]))
