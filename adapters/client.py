"""The parent's side: starts workers on demand, asks them, and outlives whatever they do.

A call that takes too long, a worker that dies, one that eats the memory: each is an Outcome, costs
that one call, and the next call finds a fresh worker.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..reference import formats
from ..reference.vocabulary import BY_ROW, Case, Options, Outcome
from .blocks import Ended, Layout, SharedMemory, Target, written_targets
from .protocol import (
    BITS,
    HEADS_KEPT,
    Description,
    Frame,
    FrameReader,
    ProtocolError,
    RawArray,
    TruncatedFrame,
    head,
    joined,
    pack,
    write_all,
)
from .runtime import options_to_fields
from .subject import Framework, Subject

T = TypeVar("T")

WORKER = Path(__file__).with_name("worker.py")
NARROW = {
    name: np.dtype(bits)
    for name, bits in (
        ("float64", "<f8"),
        ("float32", "<f4"),
        ("bfloat16", "<f4"),
        ("float16", "<f2"),
    )
}
STDERR_KEPT = 1 << 16
STDERR_SHOWN = 2000
MEMORY_LOOK_SECONDS = 0.25
ENDING_SECONDS = 0.5  # for a worker that closed its pipes to end, where nothing tells that it did
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class UnusableFramework(Exception):
    """A framework that cannot be audited in this environment; `reason` says why and what helps."""

    def __init__(self, framework: str, reason: str) -> None:
        super().__init__(f"{framework} cannot be used: {reason}")
        self.framework = framework
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnusableFramework], tuple[str, str]]:
        """Made anew where another process has raised it: exceptions are copied by their message."""
        return type(self), (self.framework, self.reason)


class AbsentFramework(UnusableFramework):
    """A framework that is not installed."""


class _TimedOut(Exception):
    """The deadline passed while waiting for the worker."""


class _TooLarge(Exception):
    """The worker holds more memory than it may."""


class _Died(Exception):
    """The worker ended instead of answering."""


class RefusedFrame(ProtocolError):
    """The worker did not take what it was sent: a fault of lossaudit's own."""


class Worker:
    """One worker process and the pipes to it. Not safe for two threads at once."""

    def __init__(
        self, python: str, environment: Mapping[str, str], seconds: float, memory: int
    ) -> None:
        self._memory = memory
        self._deadline = time.monotonic() + seconds
        self._next_look = 0.0
        main = threading.current_thread() is threading.main_thread()
        self._process = subprocess.Popen(
            [python, "-I", str(WORKER), str(os.getpid()), "main" if main else "other"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            bufsize=0,
            start_new_session=True,  # the terminal's Ctrl-C is for the parent alone
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._stdout, select.POLLIN)
        self._writable.register(self._stdin, select.POLLOUT)
        self._reader = FrameReader(self._stdout, wait=lambda: self._wait(self._readable))
        self._errors = bytearray()
        self._drain = threading.Thread(target=self._keep_stderr, daemon=True)
        self._drain.start()
        self.loaded: dict[str, Frame] = {}
        self.hello: dict[str, Any] = {}

    def greet(self) -> None:
        """Reads the first frame; raises as `ask` does."""
        self.hello = dict(self._read().fields)

    def ask(self, frame: bytes, seconds: float) -> Frame:
        """Sends a packed frame and returns the answer."""
        self._deadline = time.monotonic() + seconds
        try:
            write_all(self._stdin, frame, lambda: self._wait(self._writable))
        except BrokenPipeError:
            raise _Died from None
        answer = self._read()
        if time.monotonic() >= self._next_look:  # short calls may leave more behind, one by one
            self._look_at_memory()
        return answer

    def _read(self) -> Frame:
        try:
            answer = self._reader.read()
        except (ConnectionResetError, TruncatedFrame):
            answer = None
        if answer is None:
            raise _Died
        if answer.kind == "refused":
            raise RefusedFrame(f"the worker refused a frame: {answer.fields.get('message')}")
        return answer

    def _wait(self, poll: select.poll) -> None:
        while True:
            left = self._deadline - time.monotonic()
            if poll.poll(max(0, min(left, MEMORY_LOOK_SECONDS)) * 1000):
                return
            if left <= 0:
                raise _TimedOut
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        self._next_look = time.monotonic() + MEMORY_LOOK_SECONDS
        held = resident_bytes(self._process.pid)
        if held > self._memory:
            raise _TooLarge(f"held {held >> 20} MiB, the limit is {self._memory >> 20} MiB")

    def _keep_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while True:
            piece = stream.read(STDERR_KEPT)
            if not piece:
                return
            self._errors += piece
            del self._errors[:-STDERR_KEPT]

    def death(self) -> str:
        """How the process ended, with the last that it wrote to stderr; ends what it started."""
        _await_end(self._process.pid, 5.0)
        self.kill()
        return "\n".join(filter(None, (ending(self._process.returncode), self.stderr())))

    def stderr(self) -> str:
        """The last that the worker wrote to standard error."""
        return bytes(self._errors[-STDERR_SHOWN:]).decode(errors="replace").strip()

    def kill(self) -> None:
        """Ends the process with everything that it started, and closes the pipes."""
        if self._process.returncode is None:  # once it is reaped, its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._drain.join(2)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._process.stderr is not None and not self._drain.is_alive():
            self._process.stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid


def _await_end(pid: int, seconds: float) -> None:
    """Waits until a child has ended by itself, and leaves its exit status to be read."""
    if not hasattr(os, "waitid"):  # macOS, before Python 3.13
        time.sleep(ENDING_SECONDS)
        return
    end = time.monotonic() + seconds
    flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while time.monotonic() < end and os.waitid(os.P_PID, pid, flags) is None:
        time.sleep(0.005)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, or 0 where /proc does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def default_memory() -> int:
    """Half of the machine's memory, or of what its control group leaves of that."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            total = min(total, int(Path(path).read_text(encoding="ascii")))
    return total // 2


def ending(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "the worker closed its pipes and cannot be ended"
    if code >= 0:
        return f"the worker ended with exit status {code}"
    try:
        return f"the worker was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"the worker was killed by signal {-code}"


class WorkerPool:
    """Asks subjects, each in the worker process that its framework names.

    Args:
        python: the interpreter that runs the subjects.
        call_seconds: time limit of one call; the first call of a compiled mode compiles.
        start_seconds: time limit for starting a worker and importing a framework.
        memory_bytes: resident memory that a worker may hold, or None for `default_memory()`.
            Watched where /proc tells it; a limit of address space would forbid what frameworks
            reserve and never touch.
        frameworks: by name; those of lossaudit where None.
        device: of the subjects that will be asked: versions and facts are those of the worker
            that serves it.
    """

    def __init__(
        self,
        python: str = sys.executable,
        call_seconds: float = 120.0,
        start_seconds: float = 300.0,
        memory_bytes: int | None = None,
        frameworks: Mapping[str, Framework] | None = None,
        device: str = "cpu",
    ) -> None:
        from .registry import FRAMEWORKS

        self._python = python
        self._call_seconds = call_seconds
        self._start_seconds = start_seconds
        self._memory = default_memory() if memory_bytes is None else memory_bytes
        self._frameworks = FRAMEWORKS if frameworks is None else frameworks
        self._device = device
        self._workers: dict[str, Worker] = {}
        self._refusals: dict[str, UnusableFramework] = {}
        self._lock = threading.RLock()
        self.nanoseconds = 0  # that the subject's framework spent on the last call

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers."""
        with self._lock:
            while self._workers:
                self._workers.popitem()[1].kill()

    def ask(self, subject: Subject, case: Case) -> Outcome:
        """What the subject does with the case; UnusableFramework where it cannot be asked."""
        with self._lock:
            framework = self._frameworks[subject.framework]
            name, worker = self._ready(framework, subject, case.dtype)
            frame = call_bytes(framework, subject, case)
            return self._outcome(name, worker, frame)

    def ask_block(
        self,
        subject: Subject,
        dtype: str,
        memory: SharedMemory,
        layout: Layout,
        targets: Sequence[Target],
        rows: int,
    ) -> list[Ended]:
        """How the calls for each target ended, on the inputs that lie in the memory.

        Each call has `rows` of them, of which the layout has a multiple.
        `nanoseconds` is then the processor time that the worker spent on them.
        """
        with self._lock:
            self.nanoseconds = 0
            framework = self._frameworks[subject.framework]
            name, worker = self._ready(framework, subject, dtype)
            fields = {
                "module": framework.module,
                "op": subject.op,
                "mode": subject.mode,
                "device": subject.device,
                "dtype": dtype,
                "options": options_to_fields(Options()),
                "path": memory.path,
                "serial": memory.serial,
                "rows": layout.rows,
                "classes": layout.classes,
                "slice": rows,
                "targets": written_targets(targets),
            }
            answer = self._answer(name, worker, pack(Frame("block", fields)), _ended)
            if isinstance(answer, Outcome):
                return [Ended(answer.status, answer.message)] * len(targets)
            ended, self.nanoseconds = answer
            return ended

    def versions(self, framework: str) -> dict[str, str]:
        """Versions of a framework's packages in the interpreter of the subjects; loads it."""
        return dict(self._loaded_frame(framework).fields["versions"])

    def facts(self, framework: str) -> dict[str, str]:
        """Build facts, flags and devices of a framework that move numbers; loads it."""
        return dict(self._loaded_frame(framework).fields["facts"])

    def declared(self, framework: str) -> list[dict[str, Any]]:
        """What the module of a framework says that its subjects are; loads it."""
        return list(self._loaded_frame(framework).fields.get("subjects", []))

    def environment(self) -> dict[str, dict[str, Any]]:
        """For each live worker: its interpreter and machine, and each framework that it loaded."""
        with self._lock:
            return {name: _described(worker) for name, worker in self._workers.items()}

    @property
    def refused(self) -> bool:
        """Whether a framework could not be used: it is not tried again."""
        return bool(self._refusals)

    def process_ids(self) -> dict[str, int]:
        """The process id of each live worker."""
        with self._lock:
            return {name: worker.pid for name, worker in self._workers.items()}

    def _loaded_frame(self, name: str) -> Frame:
        with self._lock:
            framework = self._frameworks[name]
            subject = self._any_subject(framework)
            dtype = "float32" if "float32" in subject.dtypes else subject.dtypes[0]
            worker = self._ready(framework, subject, dtype)[1]
            return worker.loaded[framework.module]

    def _any_subject(self, framework: Framework) -> Subject:
        """A subject on the device, or the first one where none is audited there."""
        there = (framework.on(subject, self._device) for subject in framework.subjects)
        return next(filter(None, there), framework.subjects[0])

    def _ready(self, framework: Framework, subject: Subject, dtype: str) -> tuple[str, Worker]:
        """A live worker that has loaded the framework."""
        name, environment = framework.worker(subject, dtype)
        worker = self._workers.get(name)
        if worker is None or framework.module not in worker.loaded:
            self._refuse_again(framework)
            worker = self._load(framework, name, environment)
        return name, worker

    def _refuse_again(self, framework: Framework) -> None:
        """Raises at once what loading raised before: an import that fails is not tried per call."""
        if framework.name in self._refusals:
            raise self._refusals[framework.name]

    def _load(self, framework: Framework, name: str, environment: Mapping[str, str]) -> Worker:
        kept = False
        try:
            worker = self._workers.get(name) or self._start(name, environment)
            load = pack(Frame("load", {"module": framework.module}))
            answer = worker.ask(load, self._start_seconds)
            if answer.kind == "loaded":
                worker.loaded[framework.module] = answer
                return worker
            kept = answer.kind == "unusable"
            reason = str(answer.fields.get("message"))
        except _TimedOut:
            reason = f"not ready after {self._start_seconds:g} s"
        except (_Died, _TooLarge) as error:
            reason = str(error) or self._workers[name].death()
        except (OSError, ProtocolError) as error:
            reason = f"{self._python}: {error}"
        if not kept:  # dead, or its answer may come yet, to another question: whomever it served
            self._discard(name)
        raise self._give_up(framework, name, reason)

    def _give_up(self, framework: Framework, name: str, reason: str) -> UnusableFramework:
        worker = self._workers.get(name)
        if worker is not None and not worker.loaded:  # it serves no other framework
            self._discard(name)
        absent = reason.startswith("ModuleNotFoundError")
        how = f"install with: {framework.install}" if framework.install else ""
        hint = f"; {how or f'install it for {self._python}'}" if absent else ""
        kind = AbsentFramework if absent else UnusableFramework
        self._refusals[framework.name] = kind(framework.name, reason + hint)
        return self._refusals[framework.name]

    def _start(self, name: str, environment: Mapping[str, str]) -> Worker:
        worker = Worker(self._python, environment, self._start_seconds, self._memory)
        self._workers[name] = worker
        worker.greet()
        return worker

    def _outcome(self, name: str, worker: Worker, frame: bytes) -> Outcome:
        answer = self._answer(name, worker, frame, _timed_outcome)
        if isinstance(answer, Outcome):
            return answer
        outcome, self.nanoseconds = answer
        return outcome

    def _answer(
        self, name: str, worker: Worker, frame: bytes, read: Callable[[Frame], T]
    ) -> T | Outcome:
        """What is read from the worker's answer, or what became of the worker instead."""
        try:
            return read(worker.ask(frame, self._call_seconds))
        except _TimedOut:
            self._discard(name)
            return Outcome("timed out", message=f"no answer after {self._call_seconds:g} s")
        except _TooLarge as error:
            self._discard(name)
            return Outcome("crashed", message=f"killed by lossaudit: the worker {error}")
        except _Died:
            message = worker.death()
            self._discard(name)
            return Outcome("crashed", message=message)
        except BaseException as error:  # the pipe may hold half an answer: never reuse it
            self._discard(name)
            if isinstance(error, ProtocolError) and not isinstance(error, RefusedFrame):
                message = f"killed by lossaudit: what the worker answers cannot be read: {error}"
                return Outcome("crashed", message=message)
            raise

    def _discard(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            worker.kill()


def _timed_outcome(frame: Frame) -> tuple[Outcome, int]:
    """The outcome of a call, and the nanoseconds that it took."""
    return outcome_from_frame(frame), int(frame.arrays["nanoseconds"].bits)


def _ended(frame: Frame) -> tuple[list[Ended], int]:
    """How the calls of a block ended, and the nanoseconds that they took."""
    if frame.kind != "block":
        raise ProtocolError(f"a worker answered a block with {frame.kind!r}")
    return [Ended(*each) for each in frame.fields["ended"]], int(frame.fields["nanoseconds"])


def _described(worker: Worker) -> dict[str, Any]:
    frameworks = {
        module: {name: dict(frame.fields[name]) for name in ("versions", "facts")}
        for module, frame in worker.loaded.items()
    }
    return {**worker.hello, "frameworks": frameworks}


def call_bytes(framework: Framework, subject: Subject, case: Case) -> bytes:
    """The frame that makes a call."""
    index = case.target_kind == "index"
    inputs = raw_floats(case.inputs, case.dtype)
    target = RawArray("int64", case.target) if index else raw_floats(case.target, case.dtype)
    arrays = {"inputs": inputs, "target": target}
    for name in BY_ROW[2:]:
        values = getattr(case, name)
        if values is not None:
            arrays[name] = raw_floats(values, case.dtype)
    called = (
        framework.module, subject.op, subject.mode, subject.device, case.layout, case.dtype,
        case.by_target,
    )  # fmt: skip
    options = tuple(options_to_fields(case.options).items())
    listed = tuple((name, a.dtype, a.bits.shape) for name, a in arrays.items())
    return joined(_call_head(called, options, listed), arrays.values())


@functools.lru_cache(maxsize=HEADS_KEPT)
def _call_head(
    called: tuple[str, str, str, str, str, str, bool],
    options: tuple[tuple[str, Any], ...],
    listed: tuple[Description, ...],
) -> bytes:
    names = ("module", "op", "mode", "device", "layout", "dtype", "by_target")
    fields = dict(zip(names, called))
    return head("call", {**fields, "options": dict(options)}, listed)


def raw_floats(values: NDArray[Any], dtype: str) -> RawArray:
    """The bits of values of a format, by NumPy's own rounding where that changes nothing.

    This is several times faster than `formats.encode`, which is left the NaN payloads, and the
    message where a value does not belong to the format.
    """
    narrow = values.astype(NARROW[dtype], copy=False)
    bits = narrow.view(BITS["float32" if dtype == "bfloat16" else dtype])
    if (narrow == values).all():
        if dtype != "bfloat16":
            return RawArray(dtype, bits)
        if not (bits & np.uint32(0xFFFF)).any():
            return RawArray(dtype, (bits >> np.uint32(16)).astype("<u2"))
    return RawArray(dtype, formats.encode(values, dtype))


def outcome_from_frame(frame: Frame) -> Outcome:
    """The outcome in a worker's answer to a call."""
    if frame.kind != "outcome" or "nanoseconds" not in frame.arrays:
        raise ProtocolError(
            f"a worker answered a call with {frame.kind!r} and {list(frame.arrays)}"
        )
    if missing := {"status", "message", "warnings"} - set(frame.fields):
        raise ProtocolError(f"a worker answered a call without {', '.join(sorted(missing))}")
    fields = frame.fields
    loss = frame.arrays.get("loss")
    return Outcome(
        status=fields["status"],
        loss=_values(loss),
        gradient=_values(frame.arrays.get("gradient")),
        target_gradient=_values(frame.arrays.get("target_gradient")),
        loss_dtype="" if loss is None else loss.dtype,
        message=fields["message"],
        warnings=tuple(fields["warnings"]),
    )


def _values(array: RawArray | None) -> NDArray[np.float64] | None:
    """The values of raw bits: `formats.decode`, without its copies where NumPy has the format."""
    if array is None:
        return None
    if array.dtype not in ("float64", "float32", "float16"):
        return formats.decode(array.bits, array.dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return array.bits.view(NARROW[array.dtype]).astype(np.float64)
