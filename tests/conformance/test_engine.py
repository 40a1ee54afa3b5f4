"""The engine over real worker processes that die, hang and misbehave: findings, never the end."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, script, subjects
from lossaudit.conformance.engine import (
    LOST_LIMIT,
    Auditor,
    Patience,
    Settings,
    audit,
    contradiction,
    plan,
)
from lossaudit.conformance.events import CellFinished, CellStarted
from lossaudit.conformance.known import Known, load
from lossaudit.conformance.law import cells
from lossaudit.conformance.laws.registry import LAWS, law
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.regions import ROWS
from lossaudit.conformance.run import (
    Convention,
    Finding,
    Incident,
    KnownRecord,
    Tally,
    read_run,
    write_run,
)
from lossaudit.reference.vocabulary import Case


def subject_of(faulty, op):
    """An op that declares the arithmetic of torch's cross_entropy, so that it has bounds."""
    torch = FRAMEWORKS["torch"].subjects[0]
    return replace(faulty.subject(op), dtypes=("float32",), arithmetic=torch.arithmetic)


def audited(
    faulty, *ops, seconds=2.0, laws=("value", "finite-where-finite"), during=None, memory=None
):
    """Audit ops of the faulty framework in float32; return the events.

    `during` is called with the pool and every event as it is said, in the middle of the audit.
    """
    framework = faulty.framework()
    subjects = [subject_of(faulty, op) for op in ops]
    events = []

    def emit(event):
        events.append(event)
        if during is not None:
            during(pool, event)

    pool = WorkerPool(call_seconds=seconds, memory_bytes=memory, frameworks={"faulty": framework})
    with pool:
        audit(subjects, Settings("quick", 0, laws), emit, pool)
    return events


def findings(events, kind):
    return [e for e in events if isinstance(e, Finding) and e.kind == kind]


def test_worker_that_kills_itself_is_a_finding_and_the_audit_goes_on(faulty):
    events = audited(faulty, "kill", "echo")
    crashed = findings(events, "crashed")
    assert crashed
    assert all(f.subject == "faulty:kill[eager,cpu]" for f in crashed)
    assert "SIGKILL" in crashed[0].message
    assert any("these were my last words" in e.message for e in events if isinstance(e, Incident))
    done = [e for e in events if isinstance(e, CellFinished) and "echo" in e.subject]
    assert len(done) == 2
    assert all(e.rows > 0 for e in done)


def test_worker_that_sleeps_for_ever_is_a_finding_and_the_audit_goes_on(faulty):
    events = audited(faulty, "sleep", "echo", seconds=0.5)
    assert {f.subject for f in findings(events, "timed out")} == {"faulty:sleep[eager,cpu]"}
    assert any(isinstance(e, CellFinished) and "echo" in e.subject and e.rows for e in events)


def test_a_subject_that_keeps_dying_is_left_alone_and_that_is_said(faulty):
    events = audited(faulty, "kill")
    said = [e.message for e in events if isinstance(e, Incident) and e.law == ""]
    assert said == [f"{LOST_LIMIT} calls were lost; the rest of this subject was not audited"]


@pytest.mark.parametrize("struck", ["value", "shift-invariance"])
def test_worker_killed_from_outside_loses_one_call(faulty, struck):
    """A SIGKILL in the middle of a run, as the kernel's out-of-memory killer sends it.

    The laws share the cases of the corpus and ask for each once: those that share the lost one all
    say so, and it is the same case.
    """
    killed = []

    def strike(pool, event):
        if isinstance(event, CellStarted) and event.law == struck and not killed:
            (pid,) = pool.process_ids().values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    events = audited(faulty, "echo", laws=tuple(x.name for x in LAWS), during=strike)
    assert killed
    crashed = findings(events, "crashed")
    assert all("SIGKILL" in f.message for f in crashed)
    assert len({msgspec.json.encode(f.case) for f in crashed}) == 1
    assert struck in {f.law for f in crashed}
    fits = sum(x.applies(subject_of(faulty, "echo")) for x in LAWS)
    assert sum(isinstance(e, CellFinished) and e.rows > 0 for e in events) == fits


def test_a_subject_that_segfaults_loses_one_call_a_death(faulty):
    events = audited(faulty, "segfault", "echo", laws=("value",))
    crashed = findings(events, "crashed")
    assert {f.subject for f in crashed} == {"faulty:segfault[eager,cpu]"}
    assert all("SIGSEGV" in f.message for f in crashed)
    # The first death was in the probe; calls that were not made after the last are not counted.
    lost = [e.grades["crashed"] for e in events if isinstance(e, Tally) and "crashed" in e.grades]
    assert sum(lost) == (LOST_LIMIT - 1) * ROWS
    assert any(isinstance(e, CellFinished) and "echo" in e.subject and e.rows for e in events)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_subject_that_allocates_without_end_is_stopped_and_said(faulty):
    events = audited(faulty, "allocate", "echo", seconds=60, laws=("value",), memory=300 << 20)
    crashed = findings(events, "crashed")
    assert {f.subject for f in crashed} == {"faulty:allocate[eager,cpu]"}
    assert all("the limit is 300 MiB" in f.message for f in crashed)
    assert any(isinstance(e, CellFinished) and "echo" in e.subject and e.rows for e in events)


def test_a_subject_that_prints_megabytes_is_judged_by_its_numbers(faulty):
    flood, echo = (audited(faulty, op, seconds=30, laws=("value",)) for op in ("flood", "echo"))
    assert not findings(flood, "crashed")
    assert {(f.region, f.kind, *f.value) for f in flood if isinstance(f, Finding)} == {
        (f.region, f.kind, *f.value) for f in echo if isinstance(f, Finding)
    }


@pytest.mark.parametrize("op", ["mutate", "mutate target"])
def test_inputs_changed_in_place_are_a_policy_finding(faulty, op):
    events = audited(faulty, op, laws=("inputs-unchanged",))
    found = [f for f in findings(events, "policy") if f.law == "inputs-unchanged"]
    assert found
    assert all(f.value == ["changed in place"] for f in found)
    assert all(len(f.case.inputs) == 1 for f in found), "the smallest input is one row"
    right = audited(faulty, "echo", laws=("inputs-unchanged",))
    assert not [f for f in right if isinstance(f, Finding) and f.law == "inputs-unchanged"]


def test_raising_on_valid_input_and_wrong_shapes_are_policy_findings(faulty):
    for op in ("raise", "wrong shape"):
        found = findings(audited(faulty, op), "policy")
        assert found, op
        assert all(f.subject == f"faulty:{op}[eager,cpu]" for f in found)


def test_unsupported_is_neither_passed_nor_a_finding(faulty):
    events = audited(faulty, "unsupported", laws=())
    assert not [e for e in events if isinstance(e, Finding)]
    assert all(e.rows == 0 for e in events if isinstance(e, CellFinished))
    (said,) = {e.message for e in events if isinstance(e, Incident)}
    assert said == "a call is not supported here and was not judged: no unsupported on this machine"


def test_a_function_of_a_user_in_a_file_called_like_a_framework_has_its_own_script(faulty):
    subject = replace(faulty.subject("echo", "jax"), tensors="numpy")
    subject = replace(subject, imported=("my folder", "jax", "echo"))
    case = Case("cross_entropy", "float32", np.array([[1.0, 2.0]]), np.array([0]))
    convention = Convention(
        subject=subject.name,
        field="plus_inf",
        declared="nan",
        measured="limit",
        agrees=False,
        evidence="seen",
    )
    finding = contradiction(convention, subject, case)
    assert "\nsys.path.insert(0, 'my folder')\nfrom jax import echo\n" in finding.snippet
    assert script(subject, case) == finding.snippet
    assert script(faulty.subject("echo"), case) == ""


def test_a_law_that_compares_is_planned_where_there_is_something_to_compare_with(faulty):
    eager = replace(faulty.subject("echo"), dtypes=("float32", "float16"))
    compiled = replace(eager, mode="jit", dtypes=("float32", "bfloat16"))
    lonely = replace(faulty.subject("raise"), mode="jit")
    every = (eager, compiled, lonely)
    assert list(cells([law("modes-agree")], every, every)) == [
        (compiled, law("modes-agree"), "float32")
    ]
    auditor = Auditor(InProcess({}), every, Settings(), [].append)
    named = {s.mode: auditor.record(s, {}).laws for s in every[:2]}
    assert ("modes-agree" in named["eager"], "modes-agree" in named["jit"]) == (False, True)
    assert "modes-agree" not in auditor.record(lonely, {}).laws
    assert "value" in auditor.record(lonely, {}).laws


def test_no_cell_is_planned_that_could_never_be_judged():
    every = subjects(depth="deep")
    present = {(s.framework, s.op, s.mode, dtype) for s in every for dtype in s.dtypes}
    planned = list(cells(LAWS, every, every))
    for subject, one, dtype in planned:
        op, mode = one.partner(subject) or (subject.op, subject.mode)
        assert (subject.framework, op, mode, dtype) in present, (one.name, subject.name, dtype)
    planned_modes = {s.mode for s, one, _ in planned if one.name == "modes-agree"}
    assert {"compile", "jit", "xla", "vmap", "forward"} <= planned_modes
    assert not planned_modes & {"eager", "session"}


@pytest.mark.filterwarnings("error")
def test_what_a_law_computes_at_the_end_of_a_format_warns_nobody(faulty):
    """Where warnings are errors they would be faults; else they would stand on a user's screen."""
    value, largest = law("value"), np.array([np.finfo(np.float64).max, np.inf])

    def overflowing(bench, case):
        doubled = largest * 2
        assert np.isnan(doubled - doubled).all()
        return value.check(bench, case)

    subject = replace(subject_of(faulty, "echo"), dtypes=("float64",))
    session = InProcess(lambda case: (case.inputs[:, 0], case.inputs))
    events = []
    auditor = Auditor(session, [subject], Settings("quick"), events.append)
    auditor.cell(subject, replace(value, check=overflowing), "float64", {})
    assert not [e.message for e in events if isinstance(e, Incident)]
    assert [e.rows > 0 for e in events if isinstance(e, CellFinished)] == [True]


def test_a_fault_of_a_law_is_an_incident_and_the_other_cells_go_on(faulty, monkeypatch):
    broken = replace(law("value"), check=lambda _bench, _case: 1 / 0)
    monkeypatch.setattr("lossaudit.conformance.engine.LAWS", (broken, law("finite-where-finite")))
    events = audited(faulty, "echo")
    faults = [e for e in events if isinstance(e, Incident)]
    assert [f.law for f in faults] == ["value"]
    assert faults[0].message.startswith("internal:")
    assert "ZeroDivisionError" in faults[0].message
    done = [e.law for e in events if isinstance(e, CellFinished) and e.rows]
    assert done == ["finite-where-finite"]


def test_plan_says_which_frameworks_are_absent(monkeypatch):
    monkeypatch.setattr(
        "lossaudit.conformance.engine.availability", lambda f, _: f"no {f.name} here"
    )
    parts, absent = plan(["torch", "jax"], "quick")
    assert not parts
    assert [a.framework for a in absent] == ["torch", "jax"]
    assert absent[0].hint == FRAMEWORKS["torch"].install


def test_a_partial_run_is_a_valid_file(faulty, tmp_path):
    recorder = Recorder(Settings())
    for event in audited(faulty, "echo"):
        recorder(event)
        assert not recorder.run(complete=False).complete  # valid at every moment
    run = recorder.run(complete=False)
    write_run(run, tmp_path / "run.json")
    again = read_run(tmp_path / "run.json")
    assert again == run
    assert not again.complete
    assert again.findings


KNOWN = """
[[finding]]
id = "echo-is-no-loss"
kind = "{kind}"
outputs = ["loss"]
regions = ["{region}"]
versions = {{ faulty = ">=1,<2" }}
cause = "it returns its first logit"
link = "tests/adapters/faulty_adapter.py"

[[finding.cases]]
on = ["value faulty:echo[eager,cpu]"]
[finding.cases.case]
operation = "cross_entropy"
dtype = "float32"
inputs = [["{z}", "0.0"]]
target = [0]
"""


def audited_knowing(faulty, tmp_path, text):
    path = tmp_path / "known.toml"
    path.write_text(text)
    framework, events = faulty.framework(), []
    subject = subject_of(faulty, "echo")
    settings = Settings("quick", 0, ("value",), load(path))
    with WorkerPool(frameworks={"faulty": framework}) as pool:
        audit([subject], settings, events.append, pool)
    return events


def test_an_entry_knows_its_region_output_and_kind_and_nothing_else(faulty, tmp_path):
    plain = audited(faulty, "echo", laws=("value",))
    everything = {(f.region, f.kind): f.id for f in plain if isinstance(f, Finding)}
    region, kind = next(key for key in everything if key[1] == "violates")
    text = KNOWN.format(region=region, kind=kind, z="2.0")
    events = audited_knowing(faulty, tmp_path, text)
    found = [e for e in events if isinstance(e, Finding)]
    assert [(f.region, f.kind) for f in found if f.status == "known"] == [(region, kind)]
    assert {(f.region, f.kind): f.id for f in found} == everything, "knowing hides nothing"


@pytest.mark.parametrize(("z", "state"), [("2.0", "seen"), ("inf", "gone")])
def test_only_the_replay_says_that_an_entry_is_gone(faulty, tmp_path, z, state):
    """The first logit, 2, is not the loss 0.127; for (inf, 0) the truth is NaN and so no number."""
    text = KNOWN.format(region="ordinary", kind="violates", z=z)
    events = audited_knowing(faulty, tmp_path, text)
    assert {e.state for e in events if isinstance(e, KnownRecord)} == {state}


def test_an_empty_file_knows_nothing(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text("")
    assert load(path) == Known()


def test_patience_counts_each_subject_apart(faulty):
    framework = faulty.framework()
    with WorkerPool(frameworks={"faulty": framework}) as pool:
        auditor = Auditor(pool, [], Settings("quick"), lambda _: None)
        assert isinstance(auditor._session, Patience)
