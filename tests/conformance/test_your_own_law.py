"""The law that the documentation shows: as printed it finds a wrong op, and no right one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES, Cell
from lossaudit.conformance.law import Law
from lossaudit.conformance.run import Finding

PAGE = Path(__file__).parents[2] / "docs" / "your-own-law.md"


@pytest.fixture(scope="module")
def law() -> Law:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - the page is what is tested
    return names["LOWERED"]


def findings(law, function, subject):
    subject = replace(subject, dtypes=("float32",))
    session, heard = InProcess({subject.name: function(subject)}), []
    bench = Bench(subject, "float32", session, subject.semantics, lambda *_: None, Memory())
    rows, _ = Cell(bench, law, PROFILES["quick"], 0, heard.append).run()
    assert rows > 0
    return [event for event in heard if isinstance(event, Finding)]


def test_it_is_silent_about_a_right_op(law, mutants, torch_subjects):
    subject = torch_subjects["cross_entropy.index"]
    assert law.applies(subject)
    assert not law.applies(torch_subjects["binary_cross_entropy"])
    assert not findings(law, mutants["right"], subject)


def test_it_finds_a_wrong_one_and_shows_both_calls(law, mutants, torch_subjects):
    subject = torch_subjects["cross_entropy.index"]
    found = findings(law, mutants["of_its_rivals"], subject)
    assert {(f.law, f.kind) for f in found} == {("others-lowered", "violates")}
    assert found[0].snippet.count("\nprint(loss.tolist())\n") == 2
