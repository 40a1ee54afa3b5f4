"""Two runs compared: every change of an implementation is told, by what it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.compare import IncomparableRuns, compare
from lossaudit.conformance.comparison import KINDS, MOVES, REGRESSIONS
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record
from lossaudit.conformance.run import Incident, Run
from lossaudit.reference.exact import is_faithful
from lossaudit.reference.formats import FORMATS, next_down, next_up
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import INPUTS_CHANGED, Outcome, Semantics

OP = "cross_entropy.index"
LAWS = ("value", "label-policy")


@pytest.fixture(scope="module")
def run(torch_subjects, mutants) -> Callable[..., Run]:
    """Audit a stand-in for one torch subject; `wrap` changes what its session says."""

    def audited(mutant="right", *, op=OP, laws=LAWS, dtypes=("float32",), depth="quick", wrap=None):
        subject = replace(torch_subjects[op], dtypes=dtypes)
        session = InProcess({subject.name: mutants[mutant](subject)})
        if wrap is not None:
            ask = session.ask
            session.ask = lambda subject, case: wrap(case, ask(subject, case))
        settings = Settings(depth, 0, laws)
        recorder = Recorder(settings)
        audit([subject], settings, recorder, session)
        return recorder.run(complete=True)

    return audited


@pytest.fixture(scope="module")
def right(run) -> Run:
    return run()


def kinds(comparison) -> set[str]:
    return {change.kind for change in comparison.changes}


def test_the_same_implementation_does_not_move(run, right):
    found = compare(right, run())
    assert found.verdict == "nothing moved"
    assert found.rows == found.same > 1000
    assert (found.changes, found.conventions, found.presence, found.notes) == ([], [], [], [])


def test_every_kind_is_a_regression_a_move_or_a_note():
    assert {*REGRESSIONS, *MOVES, "reworded"} == set(KINDS)


def nudged(case, outcome):
    """The other neighbour of the exact loss, where there is one: inside of any bound."""
    if outcome.loss is None or not case.rows:
        return outcome
    fmt, semantics = FORMATS[case.dtype], Semantics(smoothing="eps/K", mean="weights")
    semantics = replace(semantics, ignore_index=-100)
    with np.errstate(all="ignore"):
        exact, _ = reduce_truth(truth(case, semantics), case, semantics)
    loss = outcome.loss
    for other in (next_up(loss, fmt), next_down(loss, fmt)):
        loss = np.where((loss > 1) & is_faithful(other, exact, fmt), other, loss)
    return replace(outcome, loss=loss)


def test_a_drift_of_an_ulp_is_a_move_within_the_bounds(run, right):
    found = compare(right, run(wrap=nudged))
    assert found.verdict == "moved"
    assert kinds(found) == {"moved"}
    for change in found.changes:
        assert (change.output, change.largest, change.nearer) == ("loss", 1.0, 0)
        assert change.rows >= change.farther  # of two neighbours at half an ulp none is nearer
        assert change.grades == {"exact -> faithful": change.rows}
        assert change.old == change.right != change.new
    assert found.count("moved") == found.rows - found.same
    assert sum(c.rows for c in found.changes) == found.count("moved")


def test_a_move_to_nan_is_no_small_one(run, right):
    def wrap(case, outcome):
        moved = nudged(case, outcome)
        if moved.loss is None or moved.loss.ndim == 0 or case.rows < 2:
            return moved
        first = np.arange(case.rows) == 0
        return replace(moved, loss=np.where(first & (moved.loss > 1), np.nan, 2 * moved.loss))

    worse = [c for c in compare(right, run(wrap=wrap)).changes if c.kind == "worse"]
    with_nan = [c for c in worse if any("wrong kind" in step for step in c.grades)]
    assert any(c.rows > 1 for c in with_nan)
    assert {c.largest for c in with_nan} == {None}


def test_the_way_back_is_nearer_to_the_truth(run, right):
    found = compare(run(wrap=nudged), right)
    assert kinds(found) == {"moved"}
    assert sum(c.nearer for c in found.changes) > sum(c.farther for c in found.changes) == 0


def test_the_smallest_row_that_moved_is_shown_and_its_script_runs_it(run, right):
    change = compare(right, run(wrap=nudged)).changes[0]
    case = from_record(change.case)
    assert case.rows == 1
    assert "cross_entropy" in change.snippet
    assert change.row == 0


@pytest.mark.parametrize(
    ("mutant", "output"),
    [
        ("unshifted", "loss"),
        ("scaled_loss", "loss"),
        ("scaled_gradient", "gradient"),
    ],
)
def test_a_wrong_implementation_is_worse_and_mending_it_is_better(run, right, mutant, output):
    wrong = run(mutant)
    there, back = compare(right, wrong), compare(wrong, right)
    assert there.verdict == "regressed"
    assert {c.output for c in there.changes if c.kind == "worse"} == {output}
    mended = [c for c in back.changes if c.kind == "better"]
    # One of them refuses some calls.
    refused = sum(c.rows for c in mended if c.output == "call")
    assert {c.output for c in mended} - {"call"} == {output}
    assert there.count("worse") == back.count("better") - refused > 0
    assert there.count("better") == back.count("worse") == 0


def test_another_convention_is_told_by_the_probe_and_by_the_rows_it_moves(run, right):
    found = compare(right, run("other_smoothing", laws=(*LAWS,)))
    changed = {(c.field, c.old, c.new) for c in found.conventions}
    assert ("smoothing", "eps/K", "eps/(K-1)") in changed
    assert kinds(found) == {"convention"}
    assert {c.region for c in found.changes} <= {
        "ordinary",
        "saturated-right",
        "saturated-wrong",
        "smoothing-boundaries",
    }
    assert all("label_smoothing" in from_record(c.case).options.passed() for c in found.changes)


def test_a_silent_label_is_another_policy(run, right):
    found = compare(right, run("silent"))
    assert found.verdict == "regressed"
    invalid = [c for c in found.changes if c.region in ("invalid-label", "far-label")]
    assert {c.kind for c in invalid} == {"policy"}
    assert all(c.message.startswith("raised IndexError") for c in invalid)
    assert all(c.message.endswith("returned now") for c in invalid)
    assert any(c.field == "label_policy" for c in found.conventions)


def raising(text):
    def wrap(_, outcome):
        return replace(outcome, message=text) if outcome.status == "raised" else outcome

    return wrap


def test_the_same_refusal_in_other_words_is_no_regression(run):
    before, now = (run(wrap=raising(f"IndexError: label {w} range")) for w in ("out of", "beyond"))
    found = compare(before, now)
    assert kinds(found) == {"reworded"}
    assert found.verdict == "nothing moved"
    other = compare(before, run(wrap=raising("ValueError: label out of range")))
    assert kinds(other) == {"policy"}


@pytest.mark.parametrize(
    "place", ["/a/venv/lib/python3/site-packages/x.py", "/var/compiled/or/corlx.main.cpp"]
)
def test_where_a_file_lies_is_no_other_message(run, place):
    text = "IndexError: label, at 0x{} in {}:41, out of bounds"
    before = run(wrap=raising(text.format("7f00", "/c/lib/site-packages/x.py")))
    now = run(wrap=raising(text.format("8e11", place)))
    assert kinds(compare(before, now)) == set()


def test_a_new_warning_is_another_policy(run, right):
    def wrap(case, outcome):
        warns = case.options.label_smoothing > 0
        return replace(outcome, warnings=(INPUTS_CHANGED,)) if warns else outcome

    found = compare(right, run(wrap=wrap))
    assert kinds(found) == {"policy"}
    assert {c.output for c in found.changes} == {"call"}
    assert all(c.message == f"silent before, {INPUTS_CHANGED} now" for c in found.changes)


def test_numbers_that_are_other_behind_a_new_warning_are_told_too(run, right):
    def wrap(case, outcome):
        drifted = nudged(case, outcome)
        return replace(drifted, warnings=("deprecated",)) if drifted.returned else drifted

    found = compare(right, run(wrap=wrap))
    assert kinds(found) == {"policy", "moved"}
    assert {c.output for c in found.changes if c.kind == "moved"} == {"loss"}
    # Each row counts once, under the worst that became of it.
    assert found.count("moved") == 0
    assert found.rows == found.same + found.count("policy")


def test_a_gradient_of_one_side_alone_is_told(run, right):
    def wrap(case, outcome):
        weighted = case.options.weight is not None
        return replace(outcome, gradient=None) if weighted else outcome

    less = run(wrap=wrap, laws=("value",))
    there, back = compare(right, less), compare(less, right)
    assert {(c.kind, c.output) for c in there.changes} == {("gone", "gradient")}
    assert {(c.kind, c.output) for c in back.changes} == {("better", "gradient")}
    assert (there.verdict, back.verdict) == ("regressed", "moved")


def refusing_empty(case, outcome):
    """As jax.lax.gather does."""
    return outcome if case.rows else Outcome("raised", message="TypeError: slice out of range")


def test_a_valid_call_that_is_refused_no_more_is_better(run, right):
    less = run(wrap=refusing_empty)
    there, back = compare(right, less), compare(less, right)
    assert {(c.kind, c.region) for c in there.changes} == {("policy", "empty")}
    # The mean of nothing is NaN, and to give that instead of refusing is a matter of policy.
    means = {c.kind for c in back.changes if from_record(c.case).options.reduction == "mean"}
    assert "better" in kinds(back)
    assert means <= {"policy"}


def test_two_deaths_are_the_same_whatever_was_written_then(run):
    def dying(when):
        def wrap(case, outcome):
            text = f"2026-01-01 {when}:00:01: F check failed"
            return Outcome("crashed", message=text) if case.options.weight else outcome

        return run(wrap=wrap)

    assert kinds(compare(dying(10), dying(11))) == set()


def test_a_crash_is_told_as_one_and_not_as_an_option_that_is_gone(run, right):
    def wrap(case, outcome):
        if case.options.weight is not None:
            return Outcome("crashed", message="the worker was killed by SIGSEGV")
        return outcome

    crashing = run(wrap=wrap)
    found = compare(right, crashing)
    assert "crashed" in kinds(found)
    assert found.presence == []
    assert "better" in kinds(compare(crashing, right))


def test_an_option_that_no_longer_returns_is_gone(run, right):
    def wrap(case, outcome):
        if case.options.ignore_index is not None:
            return Outcome("raised", message="TypeError: unexpected argument 'ignore_index'")
        return outcome

    less = run(wrap=wrap)
    found = compare(right, less)
    assert [(p.part, p.state) for p in found.presence] == [("ignore_index", "gone")]
    assert "unexpected argument" in found.presence[0].reason
    assert found.verdict == "regressed"
    assert found.changes == []
    back = compare(less, right)
    assert [(p.part, p.state) for p in back.presence] == [("ignore_index", "new")]
    assert (back.changes, back.conventions) == ([], []), "what it ignores follows from that"
    assert back.verdict == "nothing moved"


def test_a_dtype_that_no_longer_returns_is_gone(run):
    def wrap(case, outcome):
        gone = case.dtype == "float16"
        return Outcome("raised", message="RuntimeError: not for Half") if gone else outcome

    both = ("float32", "float16")
    found = compare(run(dtypes=both), run(dtypes=both, wrap=wrap))
    assert [(p.part, p.state) for p in found.presence] == [("float16", "gone")]
    assert {c.dtype for c in found.compared if c.rows} == {"float32"}


def test_a_subject_that_no_longer_returns_is_gone_as_a_whole(run, right):
    def wrap(*_):
        return Outcome("raised", message="AttributeError: no such op")

    found = compare(right, run(wrap=wrap))
    assert [(p.part, p.state) for p in found.presence] == [("", "gone")]
    assert found.changes == []


def test_a_subject_of_one_run_alone_is_gone_or_new(run, right):
    other = run(op="cross_entropy.probabilities")
    both = msgspec.structs.replace(
        right,
        subjects=[*right.subjects, *other.subjects],
        answers=[*right.answers, *other.answers],
    )
    gone, new = compare(both, right), compare(right, both)
    assert [(p.subject, p.state) for p in gone.presence] == [(other.subjects[0].name, "gone")]
    assert [(p.subject, p.state) for p in new.presence] == [(other.subjects[0].name, "new")]
    assert (gone.verdict, new.verdict) == ("regressed", "nothing moved")
    cut_short = msgspec.structs.replace(right, complete=False)
    assert compare(both, cut_short).presence == []


def test_another_dtype_of_the_loss_is_another_convention(run, right):
    def wrap(_, outcome):
        return replace(outcome, loss_dtype="float64") if outcome.returned else outcome

    found = compare(right, run(wrap=wrap))
    assert "convention" in kinds(found)
    assert any("float64" in c.message for c in found.changes)


def test_an_environment_in_the_name_is_no_other_subject(right):
    named = msgspec.convert(
        msgspec.json.decode(msgspec.json.encode(right).replace(b'"torch:', b'"torch@new:')), Run
    )
    assert compare(right, named).verdict == "nothing moved"


def test_depths_align_on_what_both_asked(run, right):
    found = compare(right, run(depth="standard"))
    assert found.verdict == "nothing moved"
    assert found.rows == compare(right, right).rows
    assert any("depth" in note for note in found.notes)


def test_a_law_of_one_run_alone_is_said(run, right):
    found = compare(right, run(laws=("value",)))
    assert any("label-policy" in note for note in found.notes)


def test_a_dtype_without_answers_is_said_and_not_called_the_same(run):
    both = run(dtypes=("float32", "float16"))
    fault = Incident(subject="torch", law="value", dtype="float16", message="internal: a fault")
    half = [answers for answers in both.answers if answers.dtype == "float32"]
    lacking = msgspec.structs.replace(both, answers=half, incidents=[fault])
    for found in (compare(both, lacking), compare(lacking, both)):
        assert {c.dtype for c in found.compared} == {"float32"}
        assert any("float16" in note and "no answers" in note for note in found.notes)
        assert any("failed in 1 parts" in note for note in found.notes)


def test_runs_without_a_common_call_are_refused(run):
    with pytest.raises(IncomparableRuns, match="no call was asked of both"):
        compare(run(laws=("value",)), run(laws=("label-policy",)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"corpus": 1}, "corpus 1"),
        ({"answers": []}, "no answers to compare"),
    ],
)
def test_runs_that_cannot_be_compared_say_why(right, change, reason):
    other = msgspec.structs.replace(right, **change)
    with pytest.raises(IncomparableRuns, match=reason):
        compare(right, other)
    with pytest.raises(IncomparableRuns, match="the old run"):
        compare(other, right)


def test_runs_without_a_common_subject_are_refused(run, right):
    with pytest.raises(IncomparableRuns, match="no subject is in both"):
        compare(right, run(op="nll_loss"))


def edited(run, **change):
    first = run.answers[0]
    call = msgspec.structs.replace(first.calls[0], **change)
    answers = msgspec.structs.replace(first, calls=[call, *first.calls[1:]])
    return msgspec.structs.replace(run, answers=[answers, *run.answers[1:]])


def test_an_edited_number_is_noticed(run, right):
    moved = run(wrap=nudged)
    forged = edited(moved, loss="0*64")
    with pytest.raises(IncomparableRuns, match="reads back as other numbers"):
        compare(right, forged)


@pytest.mark.parametrize("status", ["unsupported", "timed out", "crashed"])
def test_a_label_that_cannot_be_asked_is_kept_as_such(run, status):
    def wrap(case, outcome):
        far = case.target.max(initial=0) > 100
        return Outcome(status, message="no answer") if far else outcome

    found = run(laws=("label-policy",), wrap=wrap)
    faults = [i for i in found.incidents if "internal" in i.message]
    assert not faults, faults[0].message
    assert any(call.status == status for call in found.answers[0].calls)


def test_a_misuse_is_not_compared(run):
    misuse = run(op="cross_entropy.of_softmax", laws=("single-softmax",))
    assert misuse.answers == []


def test_a_row_of_a_vocabulary_is_not_kept_in_a_comparison(run):
    """Its numbers alone are megabytes; the corpus draws them again."""
    options = {"op": OP, "laws": ("value",), "depth": "standard"}
    before = run(dtypes=("float16",), **options)
    found = compare(before, run("sum_past_65504", dtypes=("float16",), **options))
    wide = [c for c in found.changes if c.region == "vocabulary"]
    assert wide
    for change in wide:
        assert (change.case.inputs, change.snippet) == ([], "")
        assert "128,256 classes" in change.message or "digest" in change.message
    size = sum(len(msgspec.json.encode(change)) for change in found.changes)
    assert size < 2_000_000
