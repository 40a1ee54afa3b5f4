"""What a worker asks of an adapter: one call in, the bits of loss and gradient out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..reference.vocabulary import Options
from .protocol import Frame, RawArray

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
        target: (N,) int64 indices or raw bits of (N, K).
        options: the options of the call.
    """

    op: str
    mode: str
    dtype: str
    inputs: NDArray[np.generic]
    target: NDArray[np.generic]
    options: Options

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything but the arrays: two calls of one key share a compiled program."""
        return (self.op, self.mode, self.dtype, self.options)


@dataclass(frozen=True)
class Result:
    """What an op returned: the loss, and the gradient of its sum, as raw bits."""

    loss: RawArray
    gradient: RawArray


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
    """Options as JSON, each float as its exact hexadecimal text."""
    return {
        "weight": None if options.weight is None else [float(w).hex() for w in options.weight],
        "pos_weight": None if options.pos_weight is None else float(options.pos_weight).hex(),
        "ignore_index": options.ignore_index,
        "label_smoothing": float(options.label_smoothing).hex(),
        "reduction": options.reduction,
    }


def options_from_fields(fields: dict[str, Any]) -> Options:
    """The inverse of `options_to_fields`."""
    weight: Any | None = fields["weight"]
    pos_weight: str | None = fields["pos_weight"]
    return Options(
        weight=None if weight is None else tuple(map(float.fromhex, weight)),
        pos_weight=None if pos_weight is None else float.fromhex(pos_weight),
        ignore_index=fields["ignore_index"],
        label_smoothing=float.fromhex(fields["label_smoothing"]),
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
    )


def raw(array: NDArray[np.generic], dtype: str) -> RawArray:
    """The bits of a NumPy array that holds values of `dtype` (bfloat16 from any 2-byte type)."""
    array = np.asarray(array, order="C")  # ascontiguousarray would turn a scalar into (1,)
    return RawArray(dtype, array.view(f"u{array.itemsize}"))


def wrong_shape(call_shape: tuple[int, ...], reduction: str, result: Result) -> str:
    """What is wrong with the shapes of a result, or ''."""
    loss = (call_shape[0],) if reduction == "none" else ()
    if result.loss.bits.shape != loss:
        return f"the loss has the shape {result.loss.bits.shape}, where {loss} is right"
    if result.gradient.bits.shape != call_shape:
        return (
            f"the gradient has the shape {result.gradient.bits.shape}, where {call_shape} is right"
        )
    return ""


def per_row(shape: tuple[int, ...], rows: int) -> bool:
    """True for the (N, 1) of a binary op, which stands for one loss a row."""
    return shape == (rows, 1)
