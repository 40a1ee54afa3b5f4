"""The findings of a run by class and cause."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lossaudit.cli import app
from lossaudit.conformance.run import CaseRecord, write_run
from lossaudit.reports.findings import (
    CLASSES,
    causes,
    class_of,
    findings_markdown,
    print_findings,
)

KNOWN = {
    "status": "known",
    "known": "nan-of-masks",
    "cause": "0 times infinity",
    "link": "https://x.y/1",
}


def printed(run, width=80):
    stream = io.StringIO()
    print_findings(run, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def case(inputs, target, dtype="float32", **options):
    return CaseRecord(
        operation="cross_entropy", dtype=dtype, inputs=inputs, target=target, **options
    )


@pytest.fixture
def run_of(make_run):
    """(findings) -> a run that has these."""
    return lambda *findings: msgspec.structs.replace(make_run(), findings=list(findings))


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ("non-finite", {"kind": "wrong kind", "value": ["nan"], "right": ["0.69"]}),
        ("non-finite", {"kind": "wrong kind", "value": ["3.0"], "right": ["-inf"]}),
        (
            "non-finite",
            {"kind": "wrong kind", "value": ["0.0", "nan*70000"], "right": ["0.0*70001"]},
        ),
        ("non-finite", {"kind": "wrong kind", "output": "gradient", "value": ["nan"]}),
        ("non-finite", {"law": "ignored-rows", "kind": "wrong kind", "value": ["nan"]}),
        ("gradient", {"kind": "violates", "output": "gradient", "value": ["0.5"]}),
        ("gradient", {"kind": "wrong kind", "output": "gradient", "value": ["0.0"]}),
        ("precision", {"kind": "precision", "output": "gradient", "value": ["0.5"]}),
        ("precision", {"kind": "precision", "value": ["0.0"]}),
        ("precision", {"kind": "violates", "value": ["0.5"]}),
        ("precision", {"kind": "wrong kind", "value": ["0.0"], "right": ["1e-14"]}),
        ("policy", {"kind": "policy", "value": [], "right": []}),
        ("policy", {"kind": "crashed", "output": "gradient", "value": [], "right": []}),
        ("policy", {"kind": "timed out", "law": "single-softmax", "value": [], "right": []}),
        ("policy", {"law": "conventions", "kind": "policy", "output": "label_policy"}),
        ("convention", {"law": "conventions", "kind": "policy", "output": "mean"}),
        ("convention", {"law": "smoothing-convention", "kind": "violates", "value": ["1.0"]}),
        ("convention", {"law": "ignored-rows", "kind": "violates", "value": ["1.0"]}),
        ("mode", {"law": "modes-agree", "kind": "wrong kind", "value": ["nan"]}),
        ("mode", {"law": "modes-agree", "kind": "policy", "value": ["raised"]}),
    ],
)
def test_the_class_follows_from_law_output_and_kind(make_finding, wanted, fields):
    assert class_of(make_finding(**fields)) == wanted


def test_each_finding_of_a_run_is_in_one_cause(make_run):
    run = make_run()
    ids = [f.id for cause in causes(run) for f in cause.findings]
    assert sorted(ids) == sorted(f.id for f in run.findings)
    assert {cause.category for cause in causes(run)} <= set(CLASSES)


def test_known_findings_are_grouped_by_their_entry_and_class(make_finding, run_of):
    other = {**KNOWN, "subject": "jax:softmax[jit,cpu]", "law": "finite", "region": "huge"}
    found = causes(
        run_of(
            make_finding(id="1", **KNOWN),
            make_finding(id="2", **other),
            make_finding(id="3", **KNOWN, output="gradient", kind="precision", value=["0.5"]),
        )
    )
    assert [(c.category, c.name, len(c.findings)) for c in found] == [
        ("non-finite", "nan-of-masks", 2),
        ("precision", "nan-of-masks", 1),
    ]
    assert found[0].laws == ["finite", "value"]
    assert found[0].regions == ["huge", "minus-inf-non-target"]
    assert found[0].subjects == ["jax: softmax", "torch: cross_entropy.distribution"]
    assert not found[0].new
    assert (found[0].cause, found[0].link) == ("0 times infinity", "https://x.y/1")


def test_new_findings_are_grouped_by_law_and_message_without_its_numbers(make_finding, run_of):
    say = "the loss of z, and of z + c: {} and {}".format
    found = causes(
        run_of(
            make_finding(id="1", message=say("nan", "0.69")),
            make_finding(id="2", message=say("-1e-07", "inf"), region="huge"),
            make_finding(id="3", message=say("[1.5, 2.0]", "[0.25, nan, ...]")),
            make_finding(id="4", message=say("1.0", "2.0"), law="mirror"),
            make_finding(id="5", message=say("1.0", "2.0"), subject="jax:op[eager,cpu]"),
        )
    )
    assert [len(c.findings) for c in found] == [3, 1, 1]
    way = "torch, value, wrong kind: the loss of z, and of z + c: # and #"
    assert found[0].name == way
    assert all(c.new for c in found)


def test_new_comes_before_known_and_many_before_few(make_finding, run_of):
    found = causes(
        run_of(
            *(make_finding(id=str(i), **KNOWN) for i in range(5)),
            make_finding(id="a", law="mirror"),
            *(make_finding(id=f"b{i}") for i in range(2)),
        )
    )
    assert [len(c.findings) for c in found] == [2, 1, 5]


def test_the_smallest_input_is_shown_in_float32_where_it_can_be(make_finding, run_of):
    wide = case([["0.0*70000"]], [0])
    half = case([["0.0", "1.0"]], [0], "float16")
    small = case([["0.0", "1.0"]], [0])
    findings = [
        make_finding(id=str(i), case=c, dtype=c.dtype) for i, c in enumerate((wide, half, small))
    ]
    (cause,) = causes(run_of(*findings))
    assert cause.smallest.id == "2"
    assert cause.shown == "float32 x = [0, 1], target 0 -> loss nan, right 0.693147"
    assert cause.small
    (cause,) = causes(run_of(findings[0]))
    assert not cause.small
    assert "for 0 of 1 cause; larger: torch, value, wrong kind" in printed(run_of(findings[0]), 400)


def test_rows_that_only_show_it_together_are_all_shown(make_finding, run_of):
    two = case([["nan", "0.0"], ["1.0", "2.0"]], [-100, 0], ignore_index=-100)
    (cause,) = causes(run_of(make_finding(case=two, row=1)))
    assert "x = [nan, 0], target -100, ignore_index = -100 and x = [1, 2], target 0" in cause.shown
    many = case([["0.0", "0.0"]] * 64, [0] * 64, reduction="mean")
    (cause,) = causes(run_of(make_finding(case=many, row=9)))
    assert "(row 9 of 64)" in cause.shown
    assert not cause.small


def test_a_finding_without_a_recorded_call_is_no_smallest_input(make_finding, run_of):
    none = CaseRecord(operation="", dtype="float32", inputs=[], target=[])
    fields = {"law": "conventions", "kind": "policy", "output": "mean"}
    (cause,) = causes(
        run_of(make_finding(id="1", case=none, **fields), make_finding(id="2", **fields))
    )
    assert cause.smallest.id == "2"
    (cause,) = causes(run_of(make_finding(id="1", case=none, **fields)))
    assert "no single input" in cause.shown


def test_it_fits_80_columns_and_a_partial_run_is_marked(make_run):
    shown = printed(make_run())
    assert max(map(len, shown.splitlines())) <= 80
    assert "PARTIAL" not in shown
    assert printed(make_run(complete=False)).startswith("PARTIAL RUN")
    assert "PARTIAL" in findings_markdown(make_run(complete=False))


def test_a_run_without_findings_says_so(run_of):
    assert "for 0 of 0 causes." in printed(run_of())
    assert "##" not in findings_markdown(run_of())


@pytest.mark.parametrize("bad", ["[red]x[/red]", "\x1b[2J \u202eevil", "a|b\nc", "`x` <b>"])
def test_texts_of_a_run_are_no_markup(make_finding, run_of, bad):
    fields = {"law": bad, "region": bad, "cause": bad, "message": bad, "subject": f"torch:{bad}"}
    run = run_of(
        make_finding(id="1", **fields),
        make_finding(id="2", **{**KNOWN, **fields, "known": bad, "link": "javascript:x"}),
    )
    shown = printed(run, 300)
    page = findings_markdown(run)
    if "[red]" in bad:
        assert bad in shown
    for text in (shown, page):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<b>" not in page
    assert "](" not in page
    rows = [line for line in page.splitlines() if line.startswith("| ") and "non" not in line]
    assert rows
    assert {line.replace("\\|", "").count("|") for line in rows} <= {5, 7}


def test_the_command_prints_text_or_markdown(make_run, tmp_path):
    write_run(make_run(), tmp_path / "run.json")
    plain = CliRunner().invoke(app, ["findings", str(tmp_path / "run.json")])
    assert plain.exit_code == 0
    assert "non-finite (" in plain.stdout
    page = CliRunner().invoke(app, ["findings", str(tmp_path / "run.json"), "--markdown"])
    assert page.exit_code == 0
    assert page.stdout == findings_markdown(make_run())
    assert all(f"| {name} |" in page.stdout for name in CLASSES)
