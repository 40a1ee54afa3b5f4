"""The page of reported defects."""

from __future__ import annotations

import msgspec
from typer.testing import CliRunner

from lossaudit.cli import app
from lossaudit.conformance.defects import Beyond, Defect, Defects, load
from lossaudit.reports.defects import defects_markdown, how, inputs


def test_the_page_in_docs_is_what_the_command_writes(repository):
    done = CliRunner().invoke(app, ["defects"])
    assert done.exit_code == 0
    page = (repository / "docs" / "defects.md").read_text(encoding="utf-8")
    assert page == done.stdout, "docs/defects.md is old: run `make defects`"


def test_each_defect_is_a_line_with_a_phrase_for_what_finds_it():
    defects = load()
    lines = defects_markdown(defects).splitlines()
    for defect in defects.defects:
        (line,) = [x for x in lines if x.startswith(f"| {defect.id.replace('-', chr(92) + '-')} |")]
        assert line.count(" | ") == 5
        assert how(defect)
        assert inputs(defect) or defect.why_not
    assert sum(x.startswith("- **") for x in lines) == len(defects.beyond)


def test_an_input_is_given_once_with_its_dtype_and_how_often_it_stands():
    by_id = {d.id: d for d in load().defects}
    assert inputs(by_id["PT-01"]) == ["x = [-inf, 0, 0], target [0, 1, 0]"]
    assert "bfloat16 x = -5, target 0" in inputs(by_id["PT-05"])
    assert inputs(by_id["PT-22"]) == ["x = [0, 0], target 0, 8,192 times"]
    assert inputs(by_id["PT-12"]) == ["labels -1 and K"]


def test_what_is_not_found_says_why_and_what_is_gone_since_when():
    by_id = {d.id: d for d in load().defects}
    assert how(by_id["KR-12"])[0].startswith("not found: a misuse")
    assert how(by_id["PT-32"]) == [
        "gone since pull request 106118",
        "law value finds nothing (torch)",
    ]
    assert "not found" not in " ".join(how(by_id["KR-09"]))


def test_nothing_in_the_file_is_markup():
    bad = {"id": "A|B", "title": "<b>x</b>", "where": "a|b", "link": "javascript:alert(1)"}
    rest = {"versions": {"torch": "==2.13.*"}, "why_not": "[no](http://evil)"}
    defect = msgspec.convert({**bad, **rest}, Defect)
    beyond = Beyond(title="*a*", what="b|c", known=["x-*"])
    page = defects_markdown(Defects((defect,), (beyond,)))
    row = next(line for line in page.splitlines() if line.startswith("| A"))
    assert row.count(" | ") == 5
    assert "<b>" not in page
    assert "](" not in page
    assert r"\*a\*" in page
