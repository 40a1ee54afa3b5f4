"""The worst inputs of a run: kept the same in every run, and examined first by the next."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.judge import RANK, Judgement
from lossaudit.conformance.law import NOT_JUDGED, by_row
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record
from lossaudit.conformance.run import Incident, RunFileError, Tally, Worst, read_run, write_run
from lossaudit.conformance.worst import CLASSES, Kept, Worsts
from lossaudit.reference.vocabulary import Case, Options

OP = "cross_entropy.index"
A, B = 0, 2
"""Two seeds, of which each finds a worse row than the other somewhere."""


@pytest.fixture(scope="module")
def look(torch_subjects, mutants):
    """Audit the unshifted loss in float32 and record what is asked; (events, cases asked)."""
    subject = replace(torch_subjects[OP], dtypes=("float32",), options=frozenset())
    unshifted = mutants["unshifted"](subject)

    def audited(seed=0, worst=()):
        asked, events = [], []

        def call(case):
            asked.append(case)
            return unshifted(case)

        session = InProcess({subject.name: call})
        settings = Settings("standard", seed, ("value",), worst=tuple(worst))
        audit([subject], settings, events.append, session)
        faults = [e for e in events if isinstance(e, Incident) and "internal" in e.message]
        assert not faults, faults[0].message
        return events, asked

    return audited


@pytest.fixture(scope="module")
def plain(look):
    """What two seeds see."""
    return {seed: look(seed) for seed in (A, B)}


def kept(events):
    return [e for e in events if isinstance(e, Worst)]


def test_the_same_seed_keeps_the_same_rows_and_each_says_its_error(look, plain, torch_subjects):
    first, again = kept(plain[A][0]), kept(look(A)[0])
    assert first == again
    regions = [w.region for w in first]
    assert len(set(regions)) == len(regions) > 3
    tallies = {e.region: e.worst_ulps for e in plain[A][0] if isinstance(e, Tally)}
    for worst in first:
        assert worst.ulps > 1
        # Wide rows and reduced losses count in a tally and are not kept.
        assert worst.ulps <= (tallies[worst.region] or 0.0)
        assert (worst.subject, worst.law) == (torch_subjects[OP].name, "value")
        assert from_record(worst.case).rows == 1
    assert any(w.ulps == tallies[w.region] for w in first)


def test_the_worst_row_of_one_seed_is_examined_first_under_another(look, plain):
    found, other = kept(plain[A][0]), kept(plain[B][0])
    key = {w.region: w.ulps for w in other}
    worse = [w for w in found if w.ulps > key.get(w.region, 0.0)]
    assert worse, "the seeds must differ in what they find for this to show anything"
    events, asked = look(B, found)
    rows = [set(map(str, case.inputs)) for case in asked]
    firsts = [set(map(str, from_record(w.case).inputs)) for w in found]
    # The probe asks before any law; then come the kept rows, each in a batch of its copies.
    start = rows.index(firsts[0])
    assert rows[start : start + len(firsts)] == firsts
    assert {len(case.inputs) for case in asked[start : start + len(firsts)]} == {64}
    now = {w.region: w for w in kept(events)}
    for worst in found:
        assert now[worst.region].ulps >= worst.ulps
    for worst in worse:
        assert now[worst.region] == worst


def test_a_row_examined_again_is_one_row_of_its_region(look, plain):
    found = kept(plain[A][0])
    counts = {e.region: e.rows for e in plain[B][0] if isinstance(e, Tally)}
    events, _ = look(B, found[:1])
    more = {e.region: e.rows for e in events if isinstance(e, Tally)}
    assert more[found[0].region] == counts[found[0].region] + 1


def test_rows_are_for_their_own_cell_in_any_environment(plain, torch_subjects):
    found = kept(plain[A][0])
    subject, value = torch_subjects[OP], found[0]
    old = msgspec.structs.replace(value, subject=value.subject.replace("torch:", "torch@old:"))
    foreign = msgspec.structs.replace(value, subject="jax:x[eager,cpu]")
    kept_rows = Kept([old, foreign])
    assert kept_rows.of(subject, "value", "float32") == (old,)
    assert kept_rows.of(replace(subject, environment="new"), "value", "float32") == (old,)
    assert kept_rows.of(subject, "value", "float64") == ()
    assert kept_rows.of(subject, "gradient-identity", "float32") == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"region": "moon"}, ""),
        ({"options": Options(gamma=2.0)}, ""),
        ({"operation": "binary_cross_entropy"}, ""),
        ({"inputs": [["one", "2.0", "3.0"]]}, "is damaged: could not convert string to float"),
    ],
)
def test_a_row_that_is_not_of_here_is_left_out(look, plain, changes, said):
    worst = kept(plain[A][0])[0]
    case = worst.case
    if "options" in changes:
        case = msgspec.structs.replace(case, gamma="2.0")
    elif "region" not in changes:
        case = msgspec.structs.replace(case, **changes)
    foreign = msgspec.structs.replace(worst, case=case, region=changes.get("region", worst.region))
    events, _ = look(B, [foreign])
    assert kept(events) == kept(plain[B][0])
    messages = [e.message for e in events if isinstance(e, Incident)]
    assert [said in m for m in messages] == ([True] if said else [])


def verdict(ulps, classes=3, reduction="none", grade=RANK["bounded"]):
    rows = len(ulps)
    case = Case(
        "cross_entropy",
        "float32",
        np.arange(rows * classes, dtype=float).reshape(rows, classes),
        np.zeros(rows, dtype=np.int64),
        Options(reduction=reduction),
    )
    ulps = np.array(ulps)
    found = Judgement(np.full(rows, grade), ulps, ulps, ulps, ulps)
    return by_row("loss", case, found, np.zeros(rows))


def collected(*verdicts, law="value"):
    worsts = Worsts(law)
    for each in verdicts:
        worsts.see("ordinary", each)
    return list(worsts.said("s", "float32"))


def test_the_largest_finite_error_beyond_a_faithful_rounding_is_kept():
    (worst,) = collected(verdict([0.2, 3.0, np.nan]), verdict([np.inf, 2.0, 3.0]))
    assert (worst.ulps, worst.case.inputs) == (3.0, [["3.0", "4.0", "5.0"]])
    assert collected(verdict([0.5, 1.0])) == []
    assert collected(verdict([5.0], classes=CLASSES + 1)) == []
    assert len(collected(verdict([5.0], classes=CLASSES))) == 1
    assert collected(verdict([5.0], reduction="sum")) == []
    assert collected(verdict([5.0]), law="mirror") == []
    assert collected(verdict([5.0], grade=NOT_JUDGED)) == []
    assert collected(verdict([])) == []


def test_a_run_keeps_them_and_one_without_the_field_still_reads(plain, tmp_path):
    recorder = Recorder(Settings())
    for event in plain[A][0]:
        recorder(event)
    run, path = recorder.run(complete=True), tmp_path / "run.json"
    assert run.worst
    write_run(run, path)
    assert read_run(path).worst == run.worst
    data = msgspec.json.decode(path.read_bytes())
    del data["worst"]
    path.write_bytes(msgspec.json.encode(data))
    assert read_run(path).worst == []


@pytest.mark.parametrize(
    ("changes", "said"), [({"grade": "bad"}, "grade 'bad'"), ({"rows": 2}, "is not one row")]
)
def test_a_damaged_worst_row_is_said(plain, tmp_path, changes, said):
    recorder = Recorder(Settings())
    for event in plain[A][0]:
        recorder(event)
    run, path = recorder.run(complete=True), tmp_path / "run.json"
    worst = run.worst[0]
    if "rows" in changes:
        case = msgspec.structs.replace(worst.case, inputs=worst.case.inputs * 2)
        run.worst[0] = msgspec.structs.replace(worst, case=case)
    else:
        run.worst[0] = msgspec.structs.replace(worst, **changes)
    write_run(run, path)
    with pytest.raises(RunFileError, match=said):
        read_run(path)
