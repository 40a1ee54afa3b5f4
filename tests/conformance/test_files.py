"""Run files, records and the file of known findings: exact, checked, and clear when broken."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.engine import Settings
from lossaudit.conformance.known import KnownFindingsError, load
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record, numbers, to_record
from lossaudit.conformance.run import (
    LONGEST,
    CaseRecord,
    RunFileError,
    read_run,
    unpacked,
    worst_grade,
    write_run,
)
from lossaudit.reference.vocabulary import Case, Options

ENTRY = """
[[finding]]
id = "torch-nan"
kind = "wrong kind"
outputs = ["loss"]
regions = ["minus-inf-non-target"]
versions = { torch = ">=2.13,<2.16" }
cause = "0 * -inf"
link = "https://example.org"

[[finding.cases]]
on = ["value torch:cross_entropy.index[eager,cpu]"]
[finding.cases.case]
operation = "cross_entropy"
dtype = "float32"
inputs = [["0.0", "-inf"]]
target = [0]
"""


@given(
    arrays(np.float64, (3, 2), elements=st.floats(width=32)),
    st.one_of(st.none(), st.tuples(st.floats(0, 8), st.floats(0, 8))),
    st.sampled_from(["none", "sum", "mean"]),
)
def test_records_read_back_exactly(inputs, weight, reduction):
    case = Case(
        "cross_entropy",
        "float64",
        inputs,
        np.array([0, 1, -100]),
        Options(weight=weight, reduction=reduction),
    )
    packed = msgspec.json.encode(to_record(case))
    again = from_record(msgspec.json.decode(packed, type=CaseRecord))
    np.testing.assert_array_equal(again.inputs, case.inputs)
    numbers = ~np.isnan(case.inputs)  # every NaN is one NaN
    signs = np.signbit(case.inputs)
    np.testing.assert_array_equal(np.signbit(again.inputs)[numbers], signs[numbers])
    assert again.options == case.options
    assert again.case_id() == case.case_id()


def test_long_runs_of_equal_numbers_are_written_once():
    row = np.zeros((1, 70000))
    row[0, :3] = (1.5, -np.inf, np.nan)
    hot = (np.arange(70000) == 2)[None].astype(float)
    weights = Options(weight=(1.0,) * 69999 + (2.0,))
    case = Case("cross_entropy", "float16", row, hot, weights, direction=row)
    record = to_record(case)
    assert record.inputs == [["1.5", "-inf", "nan", "0.0*69997"]]
    assert record.target == [["0.0", "0.0", "1.0", "0.0*69997"]]
    assert record.weight == ["1.0*69999", "2.0"]
    assert len(msgspec.json.encode(record)) < 500
    again = from_record(record)
    assert again.case_id() == case.case_id()
    np.testing.assert_array_equal(again.inputs, case.inputs)
    # A row that people read number by number is left as it was, and an old record reads as before.
    assert numbers(np.zeros(10)) == ["0.0"] * 10
    old = CaseRecord(
        operation="cross_entropy", dtype="float32", inputs=[["0.0"] * 1000], target=[7]
    )
    assert from_record(old).inputs.shape == (1, 1000)


@pytest.mark.parametrize("text", ["0.0*", "0.0*x", "*3", "1.0*2*3", "0.0*0", "0.0*99999999999"])
def test_a_run_of_no_number_or_no_length_is_refused(text):
    record = CaseRecord(operation="cross_entropy", dtype="float32", inputs=[[text]], target=[0])
    with pytest.raises(ValueError, match=r"could not convert|invalid literal|is no run"):
        from_record(record)


def test_runs_that_sum_to_more_numbers_than_any_row_are_refused():
    """Each of them is a run that is allowed."""
    assert len(unpacked(["0.0*1000000"] * 4)) == 4_000_000
    with pytest.raises(ValueError, match=f"a list with more than {LONGEST} numbers"):
        unpacked([f"0.0*{LONGEST}"] * 3)
    with pytest.raises(ValueError, match="more than"):
        unpacked([f"0.0*{LONGEST}", "1.0"])
    row = [[f"0.0*{LONGEST}"] * 3]
    record = CaseRecord(operation="cross_entropy", dtype="float32", inputs=row, target=[0])
    with pytest.raises(ValueError, match="more than"):
        from_record(record)


def test_run_file_reads_back(tmp_path):
    run = Recorder(Settings()).run(complete=False)
    path = tmp_path / "deep er" / "run.json"
    write_run(run, path)
    assert read_run(path) == run
    assert list(path.parent.iterdir()) == [path]  # nothing is left beside it


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        (b"", "not valid JSON"),
        (b'{"format": 1, "tal', "truncated"),
        (b"[1, 2]", "not a lossaudit run file"),
        (b'{"format": 99, "tallies": []}', "run format 99"),
        (b'{"format": 1, "tallies": []}', "damaged"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
def test_broken_run_file_is_named_and_explained(tmp_path, content, said):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunFileError, match=said) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="the rename is atomic by POSIX")
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    run = Recorder(Settings()).run(complete=True)
    path = tmp_path / "run.json"
    write_run(run, path)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_run(run, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def known(tmp_path, text):
    path = tmp_path / "known.toml"
    path.write_text(text)
    return load(path)


def test_an_entry_is_about_its_subject_version_and_mode_only(tmp_path):
    entries = known(tmp_path, ENTRY)
    torch = {s.name: s for s in FRAMEWORKS["torch"].subjects}
    eager = torch["torch:cross_entropy.index[eager,cpu]"]
    compiled = torch["torch:cross_entropy.index[compile,cpu]"]
    other = torch["torch:nll_loss[eager,cpu]"]
    assert entries.about(eager, "value", "float32", {"torch": "2.13.0+cpu"})
    assert not entries.about(eager, "value", "float32", {"torch": "2.16.0"})
    assert not entries.about(eager, "value", "float16", {"torch": "2.13.0"})
    assert not entries.about(eager, "mirror", "float32", {"torch": "2.13.0"})
    assert not entries.about(compiled, "value", "float32", {"torch": "2.13.0"})
    assert not entries.about(other, "value", "float32", {"torch": "2.13.0"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind = ", "sort = "), "torch-nan"),
        (('"wrong kind"', '"odd"'), "odd"),
        (('on = ["value torch:cross_entropy.index[eager,cpu]"]', "on = []"), "no subject"),
        ((">=2.13", "about 2"), "torch-nan"),
        (('cause = "0 * -inf"', 'cause = ""'), "cause"),
        (("[[finding]]", "[[finding"), "cannot read"),
    ],
)
def test_a_broken_entry_is_named_and_explained(tmp_path, change, said):
    with pytest.raises(KnownFindingsError, match=said):
        known(tmp_path, ENTRY.replace(*change))


def test_the_shipped_file_is_in_order():
    entries = load().entries
    assert len({entry.id for entry in entries}) == len(entries)


def test_worst_grade():
    assert worst_grade({"exact": 3, "precision": 1, "violates": 0}) == "precision"
    assert worst_grade({}) == ""
