"""Large calls through memory that a worker shares with its parent: a sweep asks millions of rows.

The parent writes the bits of the inputs, sends one small frame, and finds loss and gradient of
every target where the inputs are. A frame of kind "block" names the memory, the shape and the
targets; its answer says of each target how the call ended. Every number has eight bytes of room,
whatever its format, so that a result in a wider one than the inputs fits.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from ..reference.formats import encode
from .protocol import BITS
from .runtime import FLOATS, Call, Result, Runtime, Unsupported, options_from_fields, wrong_shape

ROOM = 8


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a block lie.

    Attributes:
        rows, classes: the shape of the inputs, and of each gradient.
        targets: how many calls are made with them.
    """

    rows: int
    classes: int
    targets: int

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        entries = self.rows * self.classes
        return ROOM * (entries + self.targets * (self.rows + entries))

    def inputs(self, memory: Any, dtype: str) -> NDArray[Any]:
        """(N, K) raw bits."""
        return self._array(memory, 0, (self.rows, self.classes), dtype)

    def loss(self, memory: Any, target: int, dtype: str) -> NDArray[Any]:
        """(N,) raw bits of the losses for a target, by its number."""
        return self._array(memory, self._start(target), (self.rows,), dtype)

    def gradient(self, memory: Any, target: int, dtype: str) -> NDArray[Any]:
        """(N, K) raw bits of the gradient."""
        start = self._start(target) + ROOM * self.rows
        return self._array(memory, start, (self.rows, self.classes), dtype)

    def _start(self, target: int) -> int:
        entries = self.rows * self.classes
        return ROOM * (entries + target * (self.rows + entries))

    @staticmethod
    def _array(memory: Any, start: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        count = int(np.prod(shape))
        return np.frombuffer(memory, BITS[dtype], count, start).reshape(shape)


class SharedMemory:
    """Memory that another process can open by a path, and that ends with this process.

    On Linux it has no name in any folder, so that not even SIGKILL leaves it behind.

    Attributes:
        path: where to open it; may have been that of another before.
        serial: tells it from those.
        size: in bytes.
        map: to be looked at by `Layout`.
    """

    _made = itertools.count()

    def __init__(self, size: int) -> None:
        self.serial = next(self._made)
        self._stack = contextlib.ExitStack()
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("lossaudit")
            self._stack.callback(os.close, descriptor)
            self.path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            descriptor, self.path = tempfile.mkstemp(prefix="lossaudit")
            self._stack.callback(os.close, descriptor)
            self._stack.callback(os.unlink, self.path)
        os.ftruncate(descriptor, size)
        self.size, self.map = size, mmap.mmap(descriptor, size)

    def close(self) -> None:
        """Give it back, unless an array still looks at it: then the end of the process does."""
        with contextlib.suppress(BufferError):
            self.map.close()
        self._stack.close()


@dataclass(frozen=True)
class Ended:
    """How a call of a block ended.

    Attributes:
        status, message: as in `Outcome`.
        loss_dtype, gradient_dtype: the formats of what is in the memory; "" for nothing.
    """

    status: str
    message: str = ""
    loss_dtype: str = ""
    gradient_dtype: str = ""


class Blocks:
    """The worker's side: answers frames of kind "block"."""

    def __init__(self) -> None:
        self._opened: tuple[str, int] | None = None
        self._map: Any = None
        self._targets: dict[tuple[Any, ...], NDArray[Any]] = {}

    def answer(
        self, runtime: Runtime, fields: Mapping[str, Any], describe: Callable[[Exception], str]
    ) -> dict[str, Any]:
        """How each call ended, and the processor time of this process that they took."""
        layout = Layout(fields["rows"], fields["classes"], len(fields["targets"]))
        memory = self._memory(fields["path"], fields["serial"])
        begun = time.process_time_ns()
        ended = [
            self._target_ended(runtime, fields, layout, memory, i, describe)
            for i in range(layout.targets)
        ]
        return {"ended": ended, "nanoseconds": time.process_time_ns() - begun}

    def _target_ended(
        self,
        runtime: Runtime,
        fields: Mapping[str, Any],
        layout: Layout,
        memory: Any,
        i: int,
        describe: Callable[[Exception], str],
    ) -> tuple[str, str, str, str]:
        """The calls for one target, slice by slice: the first that does not return ends them."""
        found = ("returned", "", "", "")
        for start in range(0, layout.rows, fields["slice"]):
            part = slice(start, start + fields["slice"])
            call = self._call(fields, layout.inputs(memory, fields["dtype"])[part], i)
            found = self._one(runtime, call, layout, memory, i, part, describe)
            if found[0] != "returned":
                break
        return found

    def _memory(self, path: str, serial: int) -> Any:
        if self._opened != (path, serial):
            with Path(path).open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
            self._opened = path, serial
        return self._map

    def _call(self, fields: Mapping[str, Any], inputs: NDArray[Any], i: int) -> Call:
        target = self._target(fields["dtype"], len(inputs), fields["targets"][i])
        return Call(
            op=fields["op"],
            mode=fields["mode"],
            dtype=fields["dtype"],
            inputs=inputs.copy(),
            target=target.copy(),
            options=options_from_fields(fields["options"]),
            device=fields["device"],
        )

    def _target(self, dtype: str, rows: int, target: int | list[str]) -> NDArray[Any]:
        """The label of every row, or the numbers of every row; kept from block to block."""
        key = (dtype, rows, repr(target))
        if key not in self._targets:
            if isinstance(target, int):
                self._targets[key] = np.full(rows, target, np.int64)
            else:
                row = encode([float.fromhex(number) for number in target], dtype)
                self._targets[key] = np.tile(row, (rows, 1))
        return self._targets[key]

    @staticmethod
    def _one(
        runtime: Runtime,
        call: Call,
        layout: Layout,
        memory: Any,
        i: int,
        part: slice,
        describe: Callable[[Exception], str],
    ) -> tuple[str, str, str, str]:
        try:
            result = runtime.call(call)
        except Unsupported as error:
            return "unsupported", str(error), "", ""
        except Exception as error:  # noqa: BLE001 - what the op raises is what is asked
            return "raised", describe(error), "", ""
        wrong = _unusable(call, result)
        if wrong:
            return "wrong shape", wrong, "", ""
        layout.loss(memory, i, result.loss.dtype)[part] = result.loss.bits
        if result.gradient is None:
            return "returned", "", result.loss.dtype, ""
        layout.gradient(memory, i, result.gradient.dtype)[part] = result.gradient.bits
        return "returned", "", result.loss.dtype, result.gradient.dtype


def _unusable(call: Call, result: Result) -> str:
    """Why a result cannot be handed on, or ""."""
    for name, array in result.arrays().items():
        if array.dtype not in FLOATS:
            return f"the {name} has the dtype {array.dtype}"
    return wrong_shape(call, result)


Target = Union[int, tuple[float, ...]]
"""What all rows of a call have in common: a label, or the numbers of a distribution."""


def written_targets(targets: Sequence[Target]) -> list[Any]:
    """Targets as a frame holds them: a label, or the hexadecimal texts of numbers."""
    return [t if isinstance(t, int) else [number.hex() for number in t] for t in targets]
