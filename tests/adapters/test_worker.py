from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lossaudit.adapters
from lossaudit.adapters import client
from lossaudit.adapters.client import AbsentFramework, UnusableFramework, WorkerPool
from lossaudit.adapters.protocol import (
    HEADER,
    VERSION,
    Frame,
    FrameReader,
    ProtocolError,
    RawArray,
    pack,
)
from lossaudit.adapters.runtime import options_from_fields
from lossaudit.adapters.subject import Subject, cuda_too
from lossaudit.reference.vocabulary import INPUTS_CHANGED, Case, Options, Outcome

ROOT = Path(lossaudit.adapters.__file__).parent.parent
LABELS = np.array([0, 1])


def case(dtype: str = "float32", reduction: str = "none") -> Case:
    inputs = np.array([[1.5, -0.0, np.nan], [np.inf, -np.inf, 2.0**-20]])
    return Case("cross_entropy", dtype, inputs, LABELS, Options(reduction=reduction))


@pytest.fixture
def ask(faulty: ModuleType, faulty_pool: WorkerPool):
    def asked(op: str, chosen: Case | None = None) -> Outcome:
        return faulty_pool.ask(faulty.subject(op), chosen or case())

    return asked


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_values_cross_and_come_back(ask, dtype: str):
    outcome = ask("echo", case(dtype))
    assert (outcome.status, outcome.loss_dtype) == ("returned", dtype)
    np.testing.assert_array_equal(outcome.gradient, case().inputs)
    np.testing.assert_array_equal(np.signbit(outcome.gradient), np.signbit(case().inputs))
    assert outcome.loss.tolist() == [1.5, np.inf]
    assert outcome.warnings == ()


def test_a_reduced_loss_is_a_scalar(ask):
    outcome = ask("echo", case(reduction="sum"))
    assert outcome.loss.shape == ()
    assert float(outcome.loss) == 1.5


def test_a_value_that_the_dtype_cannot_hold_is_an_error_of_the_caller(ask):
    wrong = Case("cross_entropy", "bfloat16", np.array([[1.0, 0.1]]), np.array([0]))
    with pytest.raises(ValueError, match=r"0\.1 is not a value of bfloat16"):
        ask("echo", wrong)
    assert ask("echo").returned


def test_an_exception_is_an_outcome(ask):
    outcome = ask("raise")
    assert (outcome.status, outcome.message) == ("raised", "IndexError: label 0 is out of range")
    assert outcome.loss is None
    assert ask("unsupported").status == "unsupported"
    assert ask("unsupported").message == "no unsupported on this machine"


def test_warnings_are_kept_once(ask):
    assert ask("warn").warnings == ("UserWarning: 2 rows are suspicious",)


def test_an_op_that_silences_warnings_silences_its_own_call_alone(ask):
    assert ask("silence").warnings == ()
    assert ask("warn").warnings == ("UserWarning: 2 rows are suspicious",)
    assert ask("echo").warnings == ()


@pytest.mark.parametrize("weight", [(0.0, 1.0), (-0.0, 1.0), (0.1, np.inf)])
def test_options_arrive_bit_for_bit(weight: tuple[float, ...]):
    """-0.0 equals 0.0, and yet a head that was written for one must not serve the other."""
    options = Options(weight=weight, pos_weight=-0.0, label_smoothing=0.1)
    fields = client.options_to_fields(options)
    call = client._call_head(("m", "o", "eager", "float32"), tuple(fields.items()), ((1,), "a", ()))
    back = options_from_fields(json.loads(call)["fields"]["options"])
    assert repr(back) == repr(options)


@pytest.mark.parametrize("op", ["mutate", "mutate target"])
def test_inputs_changed_in_place_are_told(ask, op: str):
    assert ask(op).warnings == (INPUTS_CHANGED,)
    assert ask("echo").warnings == ()


@pytest.mark.parametrize("op", ["wrong shape", "wrong dtype"])
def test_a_result_of_a_wrong_kind_is_told(ask, op: str):
    outcome = ask(op)
    assert outcome.status == "wrong shape"
    assert {"wrong shape": "(2, 1)", "wrong dtype": "complex64"}[op] in outcome.message


@pytest.mark.parametrize("op", ["noise", "flood"])
def test_prints_do_not_reach_the_protocol(ask, op: str):
    assert ask(op).returned
    assert ask("echo").returned


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("kill", "killed by SIGKILL"),
        ("segfault", "killed by SIGSEGV"),
        ("exit", "exit status 7"),
    ],
)
def test_a_death_costs_one_call(ask, op: str, reason: str):
    assert ask("echo").returned
    outcome = ask(op)
    assert outcome.status == "crashed"
    assert reason in outcome.message
    assert ask("echo").returned


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("forge text", "not a frame of this protocol"),
        ("forge length", f"a frame of {1 << 60} bytes is over the limit"),
        ("forge version", f"protocol version {VERSION + 1}"),
        ("forge frame", "without message, status, warnings"),
    ],
)
def test_an_answer_that_cannot_be_read_costs_one_call(ask, op: str, reason: str):
    assert ask("echo").returned
    outcome = ask(op)
    assert outcome.status == "crashed"
    assert outcome.message.startswith("killed by lossaudit: what the worker answers cannot be read")
    assert reason in outcome.message
    assert ask("echo").returned


def test_a_crash_keeps_the_last_words(ask):
    assert "these were my last words" in ask("kill").message


def test_a_kill_from_outside_in_the_middle_of_a_call_is_a_crash(ask, faulty_pool: WorkerPool):
    assert ask("echo").returned
    (pid,) = faulty_pool.process_ids().values()
    timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    timer.start()
    assert ask("sleep").status == "crashed"
    assert ask("echo").returned


def test_a_worker_that_died_between_two_calls_costs_one_call(ask, faulty_pool: WorkerPool):
    assert ask("echo").returned
    (pid,) = faulty_pool.process_ids().values()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert ask("echo").status == "crashed"
    assert ask("echo").returned


def test_a_hanging_call_is_timed_out_and_its_worker_ended(ask, faulty_pool: WorkerPool):
    assert ask("echo").returned
    (pid,) = faulty_pool.process_ids().values()
    start = time.monotonic()
    outcome = ask("sleep")
    assert (outcome.status, outcome.message) == ("timed out", "no answer after 2 s")
    assert time.monotonic() - start < 20
    assert gone(pid)
    assert ask("echo").returned


def gone(pid: int, seconds: float = 10.0) -> bool:
    """True once the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_call_that_eats_memory_is_ended(faulty: ModuleType):
    frameworks = {"faulty": faulty.framework()}
    with WorkerPool(frameworks=frameworks, memory_bytes=300 << 20, call_seconds=60) as pool:
        outcome = pool.ask(faulty.subject("allocate"), case())
        assert outcome.status == "crashed"
        assert "the limit is 300 MiB" in outcome.message
        assert pool.ask(faulty.subject("echo"), case()).returned


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_calls_that_leave_memory_behind_are_ended(faulty: ModuleType, monkeypatch):
    monkeypatch.setattr(client, "MEMORY_LOOK_SECONDS", 0.0)
    with WorkerPool(frameworks={"faulty": faulty.framework()}, memory_bytes=300 << 20) as pool:
        outcomes = [pool.ask(faulty.subject("leak"), case()) for _ in range(40)]
        lost = [o.message for o in outcomes if not o.returned]
        assert len(lost) == 1
        assert "the limit is 300 MiB" in lost[0]


def test_the_default_limit_is_half_of_the_memory_there_is(monkeypatch, tmp_path: Path):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = tmp_path / "memory.max"
    monkeypatch.setattr(client, "CGROUP_LIMITS", (str(group), str(tmp_path / "absent")))
    assert client.default_memory() == total // 2
    group.write_text("max\n")
    assert client.default_memory() == total // 2
    group.write_text(f"{1 << 20}\n")
    assert client.default_memory() == 1 << 19


def test_dtypes_can_have_workers_of_their_own(ask, faulty_pool: WorkerPool):
    ask("echo", case("float64"))
    ask("echo", case("float32"))
    assert len(set(faulty_pool.process_ids().values())) == 2


def test_workers_live_in_a_session_of_their_own(ask, faulty_pool: WorkerPool):
    ask("echo")
    (pid,) = faulty_pool.process_ids().values()
    assert os.getsid(pid) != os.getsid(0)


def test_close_ends_the_workers(faulty: ModuleType):
    with WorkerPool(frameworks={"faulty": faulty.framework()}) as pool:
        pool.ask(faulty.subject("echo"), case())
        (pid,) = pool.process_ids().values()
    assert gone(pid)


PARENT = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[2])
import importlib.util
spec = importlib.util.spec_from_file_location("faulty_adapter", sys.argv[1])
faulty = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faulty)
import numpy as np
from lossaudit.adapters.client import WorkerPool
from lossaudit.reference.vocabulary import Case
pool = WorkerPool(frameworks={"faulty": faulty.framework()})
case = Case("cross_entropy", "float32", np.zeros((1, 2)), np.array([0]))
pool.ask(faulty.subject("echo"), case)
print(*pool.process_ids().values(), flush=True)
threading.Thread(target=pool.ask, args=(faulty.subject(sys.argv[3]), case), daemon=True).start()
time.sleep(0.5)
os._exit(0)
"""


@pytest.mark.parametrize(
    "op",
    [
        "echo",
        "sleep",
        pytest.param(
            "hold",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it on Linux"),
        ),
    ],
)
def test_workers_end_with_their_parent(faulty: ModuleType, tmp_path: Path, op: str):
    """Idle, by the end of their input; in a call that never ends, because they watch; in one that
    keeps Python's lock, by the kernel."""
    (tmp_path / "lossaudit").symlink_to(ROOT)
    command = [sys.executable, "-c", PARENT, faulty.__file__, str(tmp_path), op]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert gone(int(done.stdout))


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("broken", UnusableFramework, "ImportError: libfaulty.so.1"),
        ("absent", AbsentFramework, "install with: pip install numpy"),
        ("fatal", UnusableFramework, "killed by SIGSEGV"),
        ("slow", UnusableFramework, "not ready after 2 s"),
    ],
)
def test_a_framework_that_cannot_be_loaded_is_told(
    faulty: ModuleType, name: str, kind: type[UnusableFramework], reason: str
):
    with WorkerPool(frameworks={name: faulty.framework(name)}, start_seconds=2) as pool:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                pool.ask(faulty.subject("echo", name), case())
            assert reason in str(caught.value)
            assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason", "kept"),
    [
        ("import os; os._exit(7)", "exit status 7", False),
        ("import time; time.sleep(600)", "not ready after 5 s", False),
        ("raise ImportError('no such library')", "no such library", True),
    ],
)
def test_loading_a_second_framework_costs_the_first_one_nothing(
    faulty: ModuleType, tmp_path: Path, text: str, reason: str, kept: bool
):
    """A worker that is dead, or may still answer that load, serves nobody any more."""
    module = tmp_path / "second.py"
    module.write_text(text)
    frameworks = {"faulty": faulty.framework(), "second": faulty.framework("second", str(module))}
    with WorkerPool(frameworks=frameworks, start_seconds=5) as pool:
        assert pool.ask(faulty.subject("echo"), case()).returned
        before = pool.process_ids()
        with pytest.raises(UnusableFramework, match=reason):
            pool.ask(faulty.subject("echo", "second"), case())
        assert pool.process_ids() == (before if kept else {})
        assert pool.ask(faulty.subject("echo"), case()).returned


def test_a_platform_without_waitid_waits_all_the_same(ask, monkeypatch):
    monkeypatch.delattr(client.os, "waitid", raising=False)
    assert "exit status 7" in ask("exit").message
    assert ask("echo").returned


def test_an_interpreter_that_is_not_there_is_told(faulty: ModuleType):
    frameworks = {"faulty": faulty.framework()}
    with (
        WorkerPool(python="/nowhere/python", frameworks=frameworks) as pool,
        pytest.raises(UnusableFramework, match="/nowhere/python"),
    ):
        pool.versions("faulty")


def test_an_interpreter_that_is_no_python_is_told(faulty: ModuleType):
    frameworks = {"faulty": faulty.framework()}
    with (
        WorkerPool(python="/bin/echo", frameworks=frameworks) as pool,
        pytest.raises(UnusableFramework, match="not a frame"),
    ):
        pool.versions("faulty")


def test_versions_facts_and_environment(faulty_pool: WorkerPool):
    assert faulty_pool.versions("faulty") == {"faulty": "1.0"}
    assert faulty_pool.facts("faulty") == {"variable": "faulty"}
    (described,) = faulty_pool.environment().values()
    assert described["numpy"] == np.__version__
    assert described["executable"] == sys.executable
    assert {"python", "platform", "machine", "cores"} <= set(described)


def test_facts_are_those_of_the_worker_of_the_device(faulty: ModuleType):
    """The one that serves the CPU need not see another device."""

    def worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
        del dtype
        return f"faulty-{subject.device}", {"FAULTY": subject.device}

    found = replace(faulty.framework(), worker=worker, on=cuda_too)
    for device, expected in (("cuda", "cuda"), ("cpu", "cpu"), ("mps", "cpu")):
        with WorkerPool(frameworks={"faulty": found}, device=device) as pool:
            assert pool.facts("faulty") == {"variable": expected}
            assert list(pool.environment()) == [f"faulty-{expected}"]


def start_by_hand(worker: Path, *, python: str = sys.executable) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [python, "-I", str(worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "FAULTY": "faulty"},
    )


def converse(process: subprocess.Popen[bytes], faulty: ModuleType) -> Frame:
    """Loads the faulty framework in a worker started by hand, and has it answer one call."""
    assert process.stdin is not None
    assert process.stdout is not None
    reader = FrameReader(process.stdout.fileno())
    hello = reader.read()
    assert hello is not None
    assert hello.kind == "hello"
    framework = faulty.framework()
    call = client.call_bytes(framework, faulty.subject("echo"), case("bfloat16"))
    for data in (pack(Frame("load", {"module": framework.module})), call):
        process.stdin.write(data)
        process.stdin.flush()
        answer = reader.read()
        assert answer is not None
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    return answer


@pytest.mark.parametrize("folder", ["lossaudit", "my losses, audited"])
def test_a_worker_needs_two_rooms_in_a_folder_of_any_name(
    faulty: ModuleType, tmp_path: Path, folder: str
):
    for room in ("adapters", "reference"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / folder / room, ignore=skip)
    answer = converse(start_by_hand(tmp_path / folder / "adapters" / "worker.py"), faulty)
    assert answer.fields["status"] == "returned"
    assert answer.arrays["gradient"].dtype == "bfloat16"


@pytest.mark.parametrize(
    "data",
    [b"hello worker, how are you today?", HEADER.pack(b"LSAU", 99, 2, 2) + b"{}"],
    ids=["no frame", "another version"],
)
def test_a_worker_refuses_what_it_does_not_speak(data: bytes):
    process = start_by_hand(ROOT / "adapters" / "worker.py")
    out, _ = process.communicate(data, timeout=30)
    reading, writing = os.pipe()
    os.write(writing, out)
    os.close(writing)
    reader = FrameReader(reading)
    answers = [reader.read(), reader.read()]
    os.close(reading)
    assert [answer and answer.kind for answer in answers] == ["hello", "refused"]
    assert process.returncode == 2


def test_a_call_that_cannot_be_understood_is_refused(ask, faulty_pool: WorkerPool):
    ask("echo")
    (worker,) = faulty_pool._workers.values()
    arrays = {"inputs": RawArray("float32", np.zeros((1, 1), "<u4"))}
    for frame in (Frame("call", {"module": "?"}), Frame("dance"), Frame("call", {}, arrays)):
        with pytest.raises(ProtocolError, match="refused"):
            worker.ask(pack(frame), 5)
    assert ask("echo").returned
