"""What other subjects answer to the inputs of findings."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance import peers
from lossaudit.conformance.engine import Settings, record, run_tasks
from lossaudit.conformance.events import CellStarted
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record
from lossaudit.conformance.run import CaseRecord, Finding, Peer, Peers, Run
from lossaudit.reference.vocabulary import Outcome

CASE = CaseRecord(
    operation="cross_entropy", dtype="float32", inputs=[["0.0", "0.0", "-64.0"]], target=[1]
)
LOSS = 0.6931471824645996  # log 2, rounded to float32: exp(-64) is far below half an ulp of 2
SUBJECT = next(s for s in FRAMEWORKS["torch"].subjects if s.op == "cross_entropy.index")


def finding(case: CaseRecord, **changes: object) -> Finding:
    fields = {
        "id": "f1", "law": "value", "subject": SUBJECT.name, "dtype": case.dtype,
        "region": "ordinary", "output": "loss", "kind": "violates", "status": "new", "rows": 1,
        "case": case, "row": 0, "value": ["1.0"], "right": ["2.0"], "ulps": 3.0,
        "demand_ulps": 1.0, "declared_ulps": 1.0, "message": "", "snippet": "",
    }  # fmt: skip
    return msgspec.convert({**fields, **changes}, Finding)


def answer(outcome: Outcome, case: CaseRecord = CASE) -> Peer:
    right = peers.right_of(from_record(case), SUBJECT.semantics)
    (found,) = peers.answered(case, SUBJECT, outcome, right).answers
    return found


def test_cases_are_distinct_plain_and_short():
    second = msgspec.structs.replace(CASE, direction=[["1.0", "0.0", "0.0"]], layout="strided")
    wide = msgspec.structs.replace(CASE, inputs=[["0.0*70000"]])
    several = msgspec.structs.replace(CASE, inputs=[["0.0"] * 10] * 7, target=[1] * 7)
    none = msgspec.structs.replace(CASE, operation="", inputs=[], target=[])
    found = [finding(case) for case in (CASE, second, wide, several, none, CASE)]
    assert peers.cases(found) == [CASE]


def test_a_right_answer_has_a_small_error_and_the_truth_beside_it():
    gradient = np.array([[0.5, -0.5, float(np.float32(np.exp(-64) / 2))]])
    said = answer(Outcome("returned", np.array([LOSS]), gradient))
    assert (said.loss, said.right_loss) == ([repr(LOSS)], [repr(LOSS)])
    assert said.loss_ulps is not None
    assert 0 < said.loss_ulps < 0.5
    assert said.gradient == said.right_gradient
    assert said.gradient_ulps is not None
    assert said.gradient_ulps < 0.5


def test_an_error_is_counted_in_ulps_of_the_format_and_another_kind_in_none():
    off = float(np.nextafter(np.float32(LOSS), np.float32(1)))
    gradient = np.array([[0.5, -0.5, np.nan]])
    said = answer(Outcome("returned", np.array([off]), gradient))
    assert said.loss_ulps == pytest.approx(1, abs=0.5)
    assert said.gradient_ulps is None


def test_a_call_that_raises_is_told_in_one_line_beside_the_truth():
    said = answer(Outcome("raised", message="ValueError: no\nand more"))
    assert (said.status, said.message, said.loss) == ("raised", "ValueError: no", [])
    assert said.right_loss == [repr(LOSS)]


def test_an_invalid_call_has_no_right_value():
    invalid = msgspec.structs.replace(CASE, target=[7])
    said = answer(Outcome("returned", np.array([1.0]), np.zeros((1, 3))), invalid)
    assert (said.right_loss, said.right_gradient, said.loss_ulps) == ([], [], None)


def test_subjects_that_answer_alike_share_an_answer():
    first, second, third = (
        Peers(case=CASE, answers=[Peer(subjects=[name], loss=[loss])])
        for name, loss in (("a", "1.0"), ("b", "1.0"), ("c", "2.0"))
    )
    (found,) = peers.merged([first, second, third])
    assert [(p.subjects, p.loss) for p in found.answers] == [
        (["a", "b"], ["1.0"]),
        (["c"], ["2.0"]),
    ]


def run_with(found: list[Finding], settings: Settings) -> Run:
    recorder = Recorder(settings)
    for framework in ("torch", "keras-numpy"):
        for subject in FRAMEWORKS[framework].subjects:
            recorder(record(subject, {}, ()))
    for each in found:
        recorder(each)
    return recorder.run(complete=True)


def test_new_findings_alone_are_asked_about_where_nothing_else_is_measured():
    heard: list[object] = []
    run = run_with([finding(CASE, status="known")], Settings(depth="quick"))
    run_tasks(peers.peer_tasks(run, ["torch"], Settings(depth="quick"), heard.append), 1)
    assert not heard


@pytest.mark.frameworks
def test_real_frameworks_answer_as_when_asked_alone():
    settings = Settings(beside=True)
    recorder = Recorder(settings)
    run = run_with([finding(CASE)], settings)
    asked: list[str] = []

    def emit(event: object) -> None:
        asked.extend([event.subject] if isinstance(event, CellStarted) else [])
        recorder(event)  # type: ignore[arg-type]

    run_tasks(peers.peer_tasks(run, ["torch", "keras-numpy"], settings, emit), 1)
    (found,) = recorder.run(complete=True).peers
    said = {name: peer for peer in found.answers for name in peer.subjects}
    assert SUBJECT.name in said
    assert any(name.startswith("keras-numpy:") for name in said)
    assert not any("[compile" in name or "[vmap" in name for name in asked)
    with WorkerPool() as pool:
        outcome = pool.ask(SUBJECT, from_record(CASE))
    assert outcome.loss is not None
    assert said[SUBJECT.name].loss == [repr(float(outcome.loss[0]))]
    assert said[SUBJECT.name].loss_ulps is not None
