"""Error profiles: their inputs, what one subject answers, and all subjects together."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance import answers
from lossaudit.conformance.engine import Auditor, Settings
from lossaudit.conformance.grids import CLASSES, gaps, grids, increasing, probabilities, tail
from lossaudit.conformance.profiles import merged, profiled, profiles
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.regions import ROWS
from lossaudit.conformance.run import Incident, Profile, Profiled, unpacked
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import OPERATIONS, Semantics

TORCH = {(s.op, s.mode): s for s in FRAMEWORKS["torch"].subjects}
INDEX = replace(TORCH["cross_entropy.index", "eager"], dtypes=("float32",))
SOFT = replace(TORCH["cross_entropy.probabilities", "eager"], dtypes=("float32",))
BINARY = replace(TORCH["binary_cross_entropy_with_logits", "eager"], dtypes=("float32",))
TARGETS = {
    **dict.fromkeys(OPERATIONS, "distribution"),
    **{name: "binary" for name in OPERATIONS if name.startswith("binary")},
}


def right(case):
    found, fmt = truth(case, Semantics()), FORMATS[case.dtype]
    return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)


def lost(case):
    """A loss that is 0 from a gap of 10 on, NaN from -10 on, and right between."""
    loss, gradient = right(case)
    gap = case.inputs[:, 0] - case.inputs[:, 1:].max(axis=1)
    return np.where(gap > 10, 0.0, np.where(gap < -10, np.nan, loss)), gradient


def said(subject, function, dtype="float32"):
    """The profiles of a subject, its conventions taken as declared."""
    auditor = Auditor(InProcess(function), [subject], Settings(beside=True), [].append)
    auditor._semantics[subject.name] = subject.semantics
    with np.errstate(all="ignore"):
        return {p.axis: p for p in profiles(auditor.bench(subject, dtype))}


def values(profile, output="loss"):
    """What the only subject of a profile returned, as numbers."""
    found = next(o for o in profile.outputs if o.output == output)
    steps = " ".join(each[0].split(" ")[0] for each in found.answers)
    right = np.array([float(text) for text in found.right])
    found = answers.read(steps, right, right.shape, FORMATS[profile.dtype])
    assert found is not None
    return found, right


# --- the inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_grids_are_of_the_format_and_their_axes_go_up(operation, dtype):
    for grid in grids(operation, TARGETS[operation], dtype):
        for case in grid.cases:
            assert (round_to_format(case.inputs, FORMATS[dtype]) == case.inputs).all()
        for axis in grid.axes:
            assert (np.diff(axis.x) > 0).all(), axis.name
            assert len(axis.x) == len(axis.shown) == len(axis.rows)
            assert "{}" in axis.input


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_gap_reaches_the_tail_where_a_loss_becomes_zero(dtype):
    (grid, *_) = grids("cross_entropy", "index", dtype)
    loss = np.concatenate(
        [round_exact(truth(c, Semantics()).loss, FORMATS[dtype]) for c in grid.cases]
    )
    assert loss[-1] == 0.0
    assert (loss[-30:-5] > 0).any(), "and what comes before it"
    assert loss[0] > tail(FORMATS[dtype])
    assert (np.diff(loss) <= 0).all()


def test_a_compiled_subject_meets_the_shape_that_it_has():
    every = [grid for op in OPERATIONS for grid in grids(op, TARGETS[op], "float32")]
    own = {grid.axes[0].name: grid.shapes for grid in every}
    assert {s for name, shapes in own.items() if not name.startswith("K") for s in shapes} == {
        (ROWS, 3),
        (ROWS, 1),
    }
    assert len(own["K, equal logits"]) == len(CLASSES)


def test_probabilities_reach_both_ends():
    for fmt in FORMATS.values():
        p = probabilities(fmt)
        assert p[0] == 0.0
        assert p[1] == fmt.least_subnormal
        assert p[-2] == 1.0 - 2.0**-fmt.precision
        assert p[-1] == 1.0
        assert (np.diff(p) > 0).all()


def test_whole_numbers_go_up_from_one_to_the_last():
    assert increasing(127, 32)[[0, -1]].tolist() == [1, 127]
    assert increasing(5, 5).tolist() == [1, 2, 3, 4, 5]
    assert (np.diff(gaps(FORMATS["bfloat16"], 80, 48)) > 0).all()


# --- one subject ----------------------------------------------------------------------------------


def test_what_is_right_is_exact_along_every_axis():
    found = said(INDEX, right)
    assert set(found) == {"gap", "|z|", "K, equal logits", "K, drawn logits", "K, target ahead"}
    for profile in found.values():
        assert [o.output for o in profile.outputs] == ["loss", "gradient", "gradient, other"]
        for output in profile.outputs:
            assert set(unpacked(output.series[0].grades.split())) == {"e"}
            # Minus zero is no distance from anything, and written as itself.
            steps = {each[0].split(" ")[0] for each in output.answers}
            assert steps - {"=-0.0"} == {"0"}
            assert all(float(each[0].split(" ")[1]) <= 0.5 for each in output.answers)


def test_zeros_and_nan_where_the_truth_is_neither_are_told_apart_from_finite_errors():
    found, exact = values(said(INDEX, lost)["gap"])
    gap = gaps(FORMATS["float32"], 80, 48)
    assert np.isnan(found[gap < -10]).all()
    assert (found[gap > 10] == 0).all()
    assert (exact[(gap > 10) & (gap < 100)] > 0).all()
    output = said(INDEX, lost)["gap"].outputs[0]
    texts = [each[0] for each in output.answers]
    assert texts[0] == "=nan", "no error in ulps"
    assert texts[90].startswith("=0.0 ")
    assert float(texts[90].split(" ")[1]) > 1e6
    letters = unpacked(output.series[0].grades.split())
    assert letters[0] == "w"
    assert not {"e", "f", "b"} & set(letters[85:110])


def test_bounds_of_the_forms_hold_what_a_form_computes():
    """B rounds log s at the size of log s: past the knee it has lost the loss, C has not."""
    bounds = said(INDEX, right)["gap"].outputs[0].bounds
    assert list(bounds) == ["A", "B", "C"]
    x = [float(text) for text in said(INDEX, right)["gap"].x]
    at = next(i for i, gap in enumerate(x) if gap > 12)
    a, b, c = (float(bounds[name][at]) for name in "ABC")
    assert a >= b > 1e4
    assert c < 100


def test_a_wider_working_format_is_named_with_its_bounds():
    wide = {"bfloat16": replace(INDEX.arithmetic["float32"])}
    subject = replace(INDEX, dtypes=("bfloat16",), arithmetic=wide)
    bounds = said(subject, right, "bfloat16")["gap"].outputs[0].bounds
    assert list(bounds) == ["A in float32", "B in float32", "C in float32"]


def test_a_binary_op_has_the_gap_for_both_labels():
    found = said(BINARY, right)
    assert list(found) == ["gap, label 1", "gap, label 0"]
    assert list(found["gap, label 0"].outputs[0].bounds) == ["std", "torch", "split"]
    assert found["gap, label 0"].shown[0] == "165.93943786621094", "z has the other sign"


def test_a_call_that_fails_is_said_with_why():
    def many(case):
        if case.inputs.shape[1] > 10:
            raise MemoryError("too many")
        return right(case)

    found = said(INDEX, many)
    assert not found["gap"].missing
    drawn = found["K, drawn logits"]
    reasons = [missing.reason for missing in drawn.missing]
    assert reasons[0] == "raised MemoryError: too many (100 classes)"
    assert [each[0] for each in drawn.outputs[0].answers][2:] == [""] * (len(CLASSES) - 2)
    assert drawn.outputs[0].right[2:] == [""] * (len(CLASSES) - 2)


def test_what_is_not_asked_is_said():
    compiled = replace(INDEX, mode="compile", shape=(ROWS, 3))
    found = said(compiled, right)
    assert found["gap"].outputs
    assert not found["K, drawn logits"].outputs
    assert "compiled for the shape (64, 3)" in found["K, drawn logits"].missing[0].reason
    assert not profiled(TORCH["cross_entropy.index", "second"])
    assert not profiled(TORCH["cross_entropy.of_softmax", "eager"]), "a misuse"
    assert not said(TORCH["cross_entropy.of_softmax", "eager"], right)


# --- all subjects ---------------------------------------------------------------------------------


def test_subjects_that_answer_the_same_are_one_series_and_bounds_are_the_largest():
    wider = replace(SOFT.arithmetic["float32"], c_exp=64.0, c_log=64.0)
    soft = replace(SOFT, arithmetic={"float32": wider})
    parts = [
        said(INDEX, right)["gap"],
        said(soft, right)["gap"],
        said(BINARY, right)["gap, label 1"],
    ]
    parts.append(said(replace(INDEX, mode="vmap"), lost)["gap"])
    gap, binary = merged(parts)
    assert (gap.operation, binary.operation) == (INDEX.operation, BINARY.operation)
    loss = gap.outputs[0]
    assert [series.subjects for series in loss.series] == [
        [INDEX.name, soft.name],
        [replace(INDEX, mode="vmap").name],
    ]
    assert loss.answers[0] == [*parts[0].outputs[0].answers[0], "=nan"]
    assert set(unpacked(loss.series[0].answers.split())) == {"0"}
    assert loss.bounds["B"] == parts[1].outputs[0].bounds["B"]
    assert loss.bounds["B"] != parts[0].outputs[0].bounds["B"]
    assert merged(parts[:1]) == parts[:1]


def test_two_values_that_conventions_make_right_are_two_outputs():
    first = said(INDEX, right)["gap"]
    other = msgspec.structs.replace(
        first.outputs[0], right=["1.0", *first.outputs[0].right[1:]], bounds={}
    )
    second = msgspec.structs.replace(first, outputs=[other])
    (both,) = merged([first, second])
    assert [o.output for o in both.outputs] == ["loss", "loss", "gradient", "gradient, other"]


# --- in an audit ----------------------------------------------------------------------------------


def audited(subject, function, settings):
    recorder, events = Recorder(settings), []
    auditor = Auditor(InProcess(function), [subject], settings, events.append)
    auditor._semantics[subject.name] = subject.semantics
    auditor.profiles(subject)
    for event in events:
        recorder(event)
    return recorder.run(complete=True)


def test_a_run_has_the_profiles_and_reads_back():
    run = audited(BINARY, right, Settings(beside=True))
    assert [(p.axis, p.dtype) for p in run.profiles] == [
        ("gap, label 1", "float32"),
        ("gap, label 0", "float32"),
    ]
    again = msgspec.json.decode(msgspec.json.encode(run.profiles), type=list[Profile])
    assert again == run.profiles


def test_where_some_laws_alone_are_asked_for_there_are_no_profiles():
    assert not audited(BINARY, right, Settings()).profiles


def test_a_fault_of_ours_is_an_incident(monkeypatch):
    monkeypatch.setattr("lossaudit.conformance.engine.profiles", lambda _: 1 / 0)
    (fault,) = audited(BINARY, right, Settings(beside=True)).faults()
    assert isinstance(fault, Incident)
    assert (fault.law, fault.dtype) == ("profiles", "float32")
    assert "ZeroDivisionError" in fault.message


@pytest.mark.frameworks
def test_torch_loses_the_tail_of_a_binary_loss_for_one_label_alone():
    """Catalogue A: (1 - y) z - logsigmoid(z) cancels for y = 0, not for y = 1."""
    if reason := availability(FRAMEWORKS["torch"]):
        pytest.skip(reason)
    with WorkerPool() as pool:
        events = []
        Auditor(pool, [BINARY], Settings(beside=True), events.append).profiles(BINARY)
    found = {e.profile.axis: e.profile for e in events if isinstance(e, Profiled)}
    gap = np.array([float(x) for x in found["gap, label 0"].x])
    tail_of_it = (gap > 20) & (gap < 80)
    one, exact = values(found["gap, label 1"])
    zero, _ = values(found["gap, label 0"])
    assert (exact[tail_of_it] > 0).all()
    assert (one[tail_of_it] > 0).all()
    assert (zero[tail_of_it] == 0).all()


def test_an_event_says_its_subject():
    profile = said(BINARY, right)["gap, label 1"]
    assert Profiled(subject=BINARY.name, profile=profile).subject == BINARY.name
