"""The worker: started by path in the subject's own interpreter, serves calls over its pipes.

    python -I <folder>/adapters/worker.py <process id of the parent> <main | other: its thread>

It needs NumPy, the framework, and the files of `adapters/` and `reference/`; nothing is installed.
Standard output is the protocol's: its descriptor is put aside at once and descriptor 1 made a
second standard error, so that nothing a framework prints can end up between two frames.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import signal
import sys
import threading
import time
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossaudit.adapters.protocol import Frame
    from lossaudit.adapters.runtime import Call, Result, Runtime

PACKAGE = "lossaudit"
WARNINGS_KEPT = 8
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def put_pipes_aside() -> tuple[int, int]:
    """Private copies of standard input and output; the originals become null and stderr."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def load_package() -> None:
    """Makes `lossaudit` importable from the folder of this file, whatever that folder's name."""
    root = Path(__file__).resolve().parent.parent
    start = root / "__init__.py"
    if start.exists():
        spec = importlib.util.spec_from_file_location(
            PACKAGE, start, submodule_search_locations=[str(root)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        spec.loader.exec_module(module)
    else:  # only `adapters/` and `reference/` were copied here
        module = types.ModuleType(PACKAGE)
        module.__path__ = [str(root)]
        sys.modules[PACKAGE] = module


def leave_with_parent(parent: int, started_by_main_thread: bool) -> None:
    """Ends this process soon after its parent, even in the middle of a call that never ends.

    A thread watches. Native code that keeps Python's lock stops that thread too, so on Linux the
    kernel is asked as well. It sends its signal when the *thread* ends that started this process,
    and so it is asked only where that was the main one; elsewhere such a call outlives its parent.
    """
    if started_by_main_thread and sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def adapter_module(name: str) -> types.ModuleType:
    """A module of `adapters/` by its name, or any other.

    That is the path of its file, or `folder::name` for one that is imported by its name with the
    folder on the path.
    """
    folder, mark, imported = name.rpartition("::")
    if mark:
        sys.path.append(folder)
        return importlib.import_module(imported)
    if not name.endswith(".py"):
        return importlib.import_module(f"{PACKAGE}.adapters.{name}")
    path = Path(name)
    sys.path.append(str(path.parent))  # what lies beside it can be imported, as for a script
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}_adapter_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def usable_cores() -> int | None:
    """Cores that the scheduler gives to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def runtime_of(module: types.ModuleType) -> Runtime:
    """The runtime of an adapter, or of the functions that a plain module declares.

    Those of lossaudit are made by their `load()`. A module of a user may have a function of that
    name for something else: it is an adapter where `load` says that it returns a runtime.
    """
    from lossaudit.adapters import declare, functions

    declared = declare.declarations(module)
    if declared:
        return functions.FunctionsRuntime(declared)
    own = module.__name__.startswith(f"{PACKAGE}.adapters.")
    if not own and not _makes_a_runtime(getattr(module, "load", None)):
        raise declare.DeclarationError(
            "it declares no subject; put @lossaudit.subject(operation=..., framework=...) "
            "before a function"
        )
    return module.load()


def _makes_a_runtime(load: Any) -> bool:
    """Whether the annotation of a module's `load`, a class of that module, has what is asked."""
    returned = getattr(load, "__annotations__", {}).get("return")
    if isinstance(returned, str):
        returned = getattr(load, "__globals__", {}).get(returned)
    return all(hasattr(returned, name) for name in ("call", "versions", "facts"))


def hello() -> dict[str, Any]:
    """Facts of the process that hold for every framework in it."""
    import numpy as np

    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cores that it may use": usable_cores(),
        "numpy": np.__version__,
        "pid": os.getpid(),
    }


class Server:
    """Answers frames; holds the frameworks that were loaded."""

    def __init__(self) -> None:
        from lossaudit.adapters import blocks, protocol, runtime
        from lossaudit.reference import vocabulary

        self._protocol = protocol
        self._runtime = runtime
        self._inputs_changed = vocabulary.INPUTS_CHANGED
        self._loaded: dict[str, Runtime] = {}
        self._warnings = Warnings()
        self._blocks = blocks.Blocks()

    def hold(self, name: str, runtime: Runtime) -> None:
        """Serve the calls of a module with a runtime that is there already."""
        self._loaded[name] = runtime

    def answer(self, frame: Frame) -> bytes:
        """The packed answer to a frame."""
        if frame.kind == "call":
            return self._call(frame)
        if frame.kind == "block":
            return self._block(frame)
        if frame.kind == "load":
            return self._pack(*self._load(str(frame.fields.get("module", ""))))
        return self.refusal(f"unknown kind of frame {frame.kind!r}")

    def refusal(self, message: str) -> bytes:
        return self._pack("refused", {"message": message})

    def _pack(self, kind: str, fields: dict[str, Any]) -> bytes:
        return self._protocol.pack(self._protocol.Frame(kind, fields))

    def _load(self, name: str) -> tuple[str, dict[str, Any]]:
        try:
            loaded: Runtime = self._loaded.get(name) or runtime_of(adapter_module(name))
            fields = {"versions": loaded.versions(), "facts": loaded.facts()}
            described = getattr(loaded, "subjects", None)  # of a module that declares them
            if described is not None:
                fields["subjects"] = described()
        except Exception as error:  # noqa: BLE001 - any failure to import is a reason to report
            return "unusable", {"message": describe(error)}
        self._loaded[name] = loaded
        return "loaded", fields

    def _call(self, frame: Frame) -> bytes:
        try:
            runtime = self._loaded[frame.fields["module"]]
            call = self._runtime.call_from_frame(frame)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self.refusal(f"a call that cannot be understood: {describe(error)}")
        return self._outcome(runtime, call, frame)

    def _block(self, frame: Frame) -> bytes:
        try:
            runtime = self._loaded[frame.fields["module"]]
            ended = self._blocks.answer(runtime, frame.fields, describe)
        except (KeyError, TypeError, ValueError, OSError) as error:
            return self.refusal(f"a block that cannot be understood: {describe(error)}")
        return self._pack("block", ended)

    def _outcome(self, runtime: Runtime, call: Call, frame: Frame) -> bytes:
        status, message, result = "returned", "", None
        self._warnings.listen()
        start = time.perf_counter_ns()
        try:
            result = runtime.call(call)
        except self._runtime.Unsupported as error:
            status, message = "unsupported", str(error)
        except Exception as error:  # noqa: BLE001 - what the op raises is what is asked
            status, message = "raised", describe(error)
        spent = time.perf_counter_ns() - start
        texts = self._warnings.texts()
        if self._runtime.changed(call, frame):
            texts = (*texts, self._inputs_changed)
        if result is not None:
            wrong = self._wrong_dtype(result)
            if wrong:  # the protocol has no bits for it
                status, message, result = "wrong shape", wrong, None
            elif wrong := self._runtime.wrong_shape(call, result):
                status, message = "wrong shape", wrong
        return self._runtime.answer(status, message, texts, spent, result)

    def _wrong_dtype(self, result: Result) -> str:
        for name, array in result.arrays().items():
            if array.dtype not in self._runtime.FLOATS:
                return f"the {name} has the dtype {array.dtype}"
        return ""


def describe(error: BaseException) -> str:
    """An exception as `Type: text`, cut to a length that a report can hold."""
    return f"{type(error).__name__}: {error}"[:4000]


class Warnings:
    """Hears the warnings of a call, each text once.

    It stays in force between calls: `warnings.catch_warnings` for every call costs more than many
    a call. An op that silences warnings for good is undone before the next call.
    """

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._filters: list[Any] = []

    def listen(self) -> None:
        """Forget what was heard, and hear everything from now on."""
        self._texts.clear()
        if warnings.showwarning != self._note or warnings.filters[:2] != self._filters:
            warnings.showwarning = self._note
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # about code, not about numbers
            self._filters = list(warnings.filters[:2])

    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def _note(self, message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if len(self._texts) < WARNINGS_KEPT:
            self._texts[f"{category.__name__}: {message}"[:1000]] = None


def serve(incoming: int, outgoing: int) -> int:
    """Greets, then answers until the parent closes its end; the exit status."""
    from lossaudit.adapters import protocol

    server = Server()
    reader = protocol.FrameReader(incoming)
    protocol.write_all(outgoing, protocol.pack(protocol.Frame("hello", hello())))
    while True:
        try:
            frame = reader.read()
        except protocol.ProtocolError as error:
            protocol.write_all(outgoing, server.refusal(str(error)))
            return 2
        if frame is None:
            return 0
        protocol.write_all(outgoing, server.answer(frame))


def main() -> int:
    incoming, outgoing = put_pipes_aside()
    if len(sys.argv) > 2:
        leave_with_parent(int(sys.argv[1]), sys.argv[2] == "main")
    load_package()
    try:
        return serve(incoming, outgoing)
    except BrokenPipeError:  # the parent is gone
        return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # at once: threads and atexit hooks of frameworks can hang
