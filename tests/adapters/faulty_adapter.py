# ruff: noqa: T201
"""A framework that does not exist, whose ops go wrong in every way that a worker must survive."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import warnings
from typing import Any

import numpy as np

from lossaudit.adapters.protocol import HEADER, MAGIC, VERSION, Frame, RawArray, pack
from lossaudit.adapters.runtime import Call, Result, Unsupported
from lossaudit.adapters.subject import Framework, Subject
from lossaudit.reference.vocabulary import Case, Semantics

OPS = (
    "echo",
    "raise",
    "warn",
    "silence",
    "unsupported",
    "sleep",
    "hold",
    "kill",
    "segfault",
    "exit",
    "allocate",
    "leak",
    "noise",
    "flood",
    "forge text",
    "forge length",
    "forge version",
    "forge frame",
    "mutate",
    "mutate target",
    "wrong shape",
    "wrong dtype",
)


def subject(op: str, framework: str = "faulty") -> Subject:
    return Subject(
        framework=framework,
        op=op,
        operation="cross_entropy",
        target="index",
        mode="eager",
        dtypes=("float64", "float32", "bfloat16", "float16"),
        options=frozenset(),
        reductions=("none", "sum"),
        semantics=Semantics(),
        arithmetic={},
    )


def _worker(chosen: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    return f"faulty {dtype == 'float64'}", {"FAULTY": chosen.framework}


def _snippet(chosen: Subject, case: Case) -> str:
    return f"print({chosen.op!r}, {case.rows})\n"


def framework(name: str = "faulty", module: str = __file__) -> Framework:
    subjects = tuple(subject(op, name) for op in OPS)
    return Framework(name, module, ("numpy",), "pip install numpy", subjects, _worker, _snippet)


class FaultyRuntime:
    def versions(self) -> dict[str, str]:
        return {"faulty": os.environ.get("FAULTY_VERSION", "1.0")}

    def facts(self) -> dict[str, str]:
        return {"variable": os.environ["FAULTY"]}

    def call(self, call: Call) -> Result:
        getattr(self, "_" + call.op.replace(" ", "_"), self._echo)(call)
        loss = call.inputs[:, 0].copy()
        if call.options.reduction == "sum":
            loss = np.asarray(call.inputs[0, 0])
        if call.op == "wrong shape":
            loss = call.inputs[:, :1].copy()
        kind = "complex64" if call.op == "wrong dtype" else call.dtype
        return Result(RawArray(kind, loss), RawArray(call.dtype, call.inputs))

    def _echo(self, _call: Call) -> None:
        """The loss is the first column, the gradient the inputs."""

    def _raise(self, call: Call) -> None:
        raise IndexError(f"label {call.target[0]} is out of range")

    def _warn(self, call: Call) -> None:
        for _ in range(3):
            warnings.warn(f"{len(call.inputs)} rows are suspicious", stacklevel=2)

    def _silence(self, _call: Call) -> None:
        warnings.simplefilter("ignore")
        warnings.showwarning = lambda *_, **__: None

    def _unsupported(self, call: Call) -> None:
        raise Unsupported(f"no {call.op} on this machine")

    def _sleep(self, _call: Call) -> None:
        time.sleep(600)

    def _hold(self, _call: Call) -> None:
        ctypes.PyDLL(None).sleep(600)  # a PyDLL keeps Python's lock

    def _kill(self, _call: Call) -> None:
        print("these were my last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def _segfault(self, _call: Call) -> None:
        ctypes.string_at(0)

    def _exit(self, _call: Call) -> None:
        os._exit(7)

    def _allocate(self, _call: Call) -> None:
        held: list[Any] = []
        while True:
            held.append(np.ones(1 << 20))
            time.sleep(0.001)

    def _leak(self, _call: Call) -> None:
        self._held = [*getattr(self, "_held", ()), np.ones(1 << 20)]

    def _noise(self, _call: Call) -> None:
        print("printed")
        sys.stdout.write("written\n")
        os.write(1, b"LSAU and straight to the descriptor\n")
        os.system("echo from a child process")  # noqa: S605
        ctypes.CDLL(None).printf(b"by the C library\n")

    def _flood(self, _call: Call) -> None:
        for _ in range(64):
            os.write(1, b"x" * (1 << 16))
            os.write(2, b"y" * (1 << 16))
        library = ctypes.CDLL(None)
        for _ in range(1 << 14):
            library.printf(b"%s\n", b"z" * 127)
        library.fflush(None)

    def _forge_text(self, _call: Call) -> None:
        _write_where_the_protocol_writes(b"Epoch 1/10: loss 0.6931, accuracy 0.5\n")

    def _forge_length(self, _call: Call) -> None:
        _write_where_the_protocol_writes(HEADER.pack(MAGIC, VERSION, 2, 1 << 60))

    def _forge_version(self, _call: Call) -> None:
        _write_where_the_protocol_writes(HEADER.pack(MAGIC, VERSION + 1, 2, 2) + b"{}")

    def _forge_frame(self, _call: Call) -> None:
        array = RawArray("int64", np.array(1))
        _write_where_the_protocol_writes(pack(Frame("outcome", {}, {"nanoseconds": array})))

    def _mutate(self, call: Call) -> None:
        call.inputs[0, 0] += 1

    def _mutate_target(self, call: Call) -> None:
        call.target[0] += 1


def _write_where_the_protocol_writes(data: bytes) -> None:
    """The worker's private descriptor is one of the first; those for reading refuse."""
    for descriptor in range(3, 16):
        with contextlib.suppress(OSError):
            os.write(descriptor, data)


def load() -> FaultyRuntime:
    if os.environ["FAULTY"] == "broken":
        raise ImportError("libfaulty.so.1: cannot open shared object file")
    if os.environ["FAULTY"] == "absent":
        raise ModuleNotFoundError("No module named 'faulty'")
    if os.environ["FAULTY"] == "fatal":
        ctypes.string_at(0)
    if os.environ["FAULTY"] == "slow":
        time.sleep(600)
    return FaultyRuntime()
