"""Terminal, Markdown, single findings and the schema of the run file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from lossaudit.conformance import events
from lossaudit.conformance.run import Absence, CaseRecord, Finding, Incident, KnownRecord, Run
from lossaudit.reports import html, markdown, schema, terminal, text
from lossaudit.reports.digest import Digest
from lossaudit.reports.spreadsheet import findings_csv


def printed(run: Run, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    terminal.print_summary(run, console, None, None)
    return stream.getvalue()


def test_the_summary_says_what_matters_in_80_columns(make_run: Callable[..., Run]):
    shown = printed(make_run())
    assert max(len(line) for line in shown.splitlines()) <= 80
    for piece in (
        "9 new findings in 8 of 19 subjects",
        "torch 2.13.0",
        "NOT AUDITED keras",
        "pip install keras==3.15.1",
        "declared none, measured toward 1/2",
        "x = [-inf, 0, 0], target [0, 1, 0] -> loss nan, right 0.693147",
        "JX-09",
        "id a1b2c3d4e5f60718",
        "worker died with SIGSEGV",
    ):
        assert piece in shown


TIGHTER = (
    "torch:cross_entropy.index[eager,cpu]: errors of the loss stay inside class C over 2,000 rows: "
    "declare C in place of B"
)


def test_a_declaration_that_could_be_tighter_everywhere_is_proposed(make_run: Callable[..., Run]):
    """Not one that is tighter in a single dtype, and nothing where not even the declared holds."""
    run = make_run()
    assert [str(proposal) for proposal in Digest(run).tightenings] == [TIGHTER]
    shown = " ".join(printed(run).split())
    assert "Declarations that could be tighter (1)" in shown
    assert "declare C in place of B" in shown
    said = markdown.summary_markdown(run)
    assert "### Declarations that could be tighter" in said
    assert "declare C in place of B" in said
    assert "could be tighter" not in printed(make_run(implied=[]))
    assert "could be tighter" not in markdown.summary_markdown(make_run(implied=[]))


def test_a_partial_run_is_marked_in_the_terminal(make_run: Callable[..., Run]):
    assert "PARTIAL" in printed(make_run(complete=False))
    assert "PARTIAL" not in printed(make_run())


def test_text_of_a_run_is_no_markup_and_drives_no_terminal(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    bad = "[red]x[/red] [/] \x1b[2Jgone \u202eevil"
    found = [make_finding(message=bad, region=bad, law=bad, dtype=bad)]
    run = make_run(findings=found, absent=[Absence(framework=bad, reason=bad, hint=bad)])
    shown = printed(run) + terminal.explain(found[0], run)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]x[/red]" in shown


def test_a_path_is_never_broken_over_lines(make_run: Callable[..., Run], tmp_path: Path):
    stream = io.StringIO()
    path = tmp_path / ("long " * 30) / "report.html"
    terminal.print_summary(make_run(), Console(file=stream, width=60), path, None)
    assert f"report: {path}" in stream.getvalue()


def test_progress_without_a_terminal_speaks_in_plain_lines(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=False, width=80)
    with terminal.TerminalProgress(console) as progress:
        progress(events.PlanMade(cells=2))
        progress(events.WorkerReady(worker="torch", facts={"threads": "1"}))
        progress(Absence(framework="keras", reason="not found", hint="pip install keras"))
        for law in ("value", "gradient"):
            progress(events.CellStarted(subject="torch:ce", law=law, dtype="float32"))
            progress(make_finding())
            progress(events.CellFinished("torch:ce", law, "float32", rows=500, worst="violates"))
        progress(Incident(subject="torch:ce", law="value", dtype="float32", message="died"))
        progress(KnownRecord(entry="JX-09", state="gone", detail="now right"))
        for tally in make_run().tallies[:3]:
            progress(tally)
    shown = stream.getvalue()
    assert "\x1b" not in shown
    for piece in (
        "2 cells to look at",
        "ready: torch (threads 1)",
        "absent: keras: not found  [pip install keras]",
        "incident: torch:ce value float32: died",
        "gone: JX-09: now right",
        "2/2 cells  1,000 rows",
        "findings: 2 new, 0 known",
    ):
        assert piece in shown


def test_progress_on_a_terminal_draws_and_cleans_up():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with terminal.TerminalProgress(console) as progress:
        progress(events.PlanMade(cells=1))
        progress(events.CellStarted(subject="torch:ce", law="value", dtype="float32"))
        progress(events.CellFinished("torch:ce", "value", "float32", rows=5, worst="exact"))
    assert "1/1 cells" in stream.getvalue()


def test_progress_does_not_swallow_an_interrupt():
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt), terminal.TerminalProgress(console):
        raise KeyboardInterrupt


def test_a_finding_is_explained_in_full(make_run: Callable[..., Run]):
    run = make_run()
    told = terminal.explain(run.findings[0], run)
    for piece in (
        "wrong kind (new)",
        "value: loss(z, t) = logsumexp(z) - z_t",
        "x = [-inf, 0, 0], target [0, 1, 0]",
        "nan",
        "0.6931471805599453 (0x1.62e42fefa39efp-1)",
        "torch 2.13.0",
        "    loss.sum().backward()",
    ):
        assert piece in told


def test_a_misuse_is_named_wherever_its_subject_is(make_run: Callable[..., Run]):
    run = make_run()
    finding = run.findings[0]
    marked = [
        msgspec.structs.replace(subject, misuse="double softmax")
        if subject.name == finding.subject
        else subject
        for subject in run.subjects
    ]
    run = make_run(subjects=marked)
    assert "  misuse    double softmax" in terminal.explain(finding, run)
    assert html.render_html(run).count(", misuse: double softmax</span>") >= 1
    assert "misuse" not in terminal.explain(finding, make_run())


def test_a_gradient_is_explained_class_by_class(make_run: Callable[..., Run]):
    run = make_run()
    told = terminal.explain(next(f for f in run.findings if f.output == "gradient"), run)
    assert re.search(r"class 17 .*right 0\.0166115625.*<--", told)
    assert "23.5 ulps (demand 4 ulps, declared 9 ulps)" in told


def test_a_long_row_is_explained_as_if_it_were_written_out(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    case = CaseRecord(
        operation="cross_entropy", dtype="float16", inputs=[["1.0", "0.0*69999"]], target=[0]
    )
    slopes = {"value": ["-1.0", "0.5*69999"], "right": ["-1.0", "0.25*69999"]}
    told = terminal.explain(make_finding(case=case, output="gradient", **slopes), make_run())
    assert re.search(r"class 0 .*-1", told)
    assert re.search(r"class 69999 .*0\.5.*right 0\.25.*<--", told)
    assert "x = [1, 0.0*69999], target 0" in told


def test_a_finding_outside_the_run_is_explained_too(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    run = make_run(subjects=[], laws=[], tallies=[], findings=[], conventions=[])
    assert "wrong kind" in terminal.explain(make_finding(), run)


def test_markdown_says_what_matters_and_keeps_its_tables(make_run: Callable[..., Run]):
    shown = markdown.summary_markdown(make_run())
    assert "NOT AUDITED" in shown
    assert "9 new findings" in shown
    for table in re.findall(r"(?:^\|.*\n)+", shown, re.MULTILINE):
        rows = [re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()]
        assert len(set(rows)) == 1


def test_markdown_of_a_card_survives_hostile_text(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    bad = "a | b\n# head <b>x</b> ``` [l](javascript:x)"
    finding = make_finding(message=bad, snippet="print('```')\n", kind=bad, known=bad, cause=bad)
    shown = markdown.finding_markdown(finding, Digest(make_run(findings=[finding])))
    assert "````python\nprint('```')\n````" in shown
    assert "<b>" not in shown
    assert "\n# head" not in shown


def test_the_published_schema_is_the_one_of_the_types():
    assert schema.PUBLISHED.read_text(encoding="utf-8") == schema.schema_text(), (
        "run `python -m lossaudit.reports.schema`"
    )
    assert "Run" in json.loads(schema.schema_text())["$defs"]


def test_the_published_schema_of_a_comparison_is_the_one_of_the_types():
    published = schema.COMPARISON_PUBLISHED.read_text(encoding="utf-8")
    assert published == schema.comparison_schema_text(), "run `python -m lossaudit.reports.schema`"
    assert "Comparison" in json.loads(published)["$defs"]


def test_the_published_schema_of_a_sweep_is_the_one_of_the_types():
    published = schema.SWEEP_PUBLISHED.read_text(encoding="utf-8")
    assert published == schema.sweep_schema_text(), "run `python -m lossaudit.reports.schema`"
    assert {"Sweep", "Curve", "Asking"} <= set(json.loads(published)["$defs"])


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("3.0", "0x1.8p+1"),
        ("0.1", "0x1.999999999999ap-4"),
        ("-0.0", "-0x0p+0"),
        ("5e-324", "0x0.0000000000001p-1022"),
        ("nan", ""),
        ("-inf", ""),
        ("no number", ""),
    ],
)
def test_hexadecimal_form_is_exact_and_short(number: str, shown: str):
    assert text.hex_float(number) == shown
    if shown:
        assert float.fromhex(shown) == float(number)


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("https://github.com/a/b/issues/1", True),
        ("javascript:alert(1)", False),
        ('https://a" onclick=x', False),
        ("data:text/html,x", False),
        ("https://a/\u202e", False),
    ],
)
def test_only_addresses_of_the_web_become_links(link: str, kept: bool):
    assert text.web_link(link) == (link if kept else "")


@pytest.mark.parametrize(
    ("ulps", "shown"),
    [
        (None, "not measurable in ulps"),
        (float("inf"), "infinitely many ulps"),
        (9e15, "9e+15 ulps"),
        (1.0, "1 ulp"),
        (0.0, "0 ulps"),
        (23.456, "23.5 ulps"),
        (12345.0, "12,345 ulps"),
    ],
)
def test_ulps_in_words(ulps: float | None, shown: str):
    assert text.ulps_text(ulps) == shown


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        (["-inf", "0.0", "0.0"], "[-inf, 0, 0]"),
        (["-8589934594.02", "-8589934584.56"], "[-8.58993459e+09, -8.58993458e+09]"),
        (["1.0", "1.0000000000000002"], "[1, 1.0000000000000002]"),
        (["0.0"] * 7, "[0, 0, 0, 0, …, 0] (7 numbers)"),
    ],
)
def test_numbers_that_differ_are_not_shown_alike(numbers, shown):
    assert text.vector(numbers) == shown


def test_a_card_in_markdown_has_the_answers_of_the_other_subjects(make_run: Callable[..., Run]):
    run = make_run()
    digest = Digest(run)
    shown = markdown.finding_markdown(run.findings[0], digest)
    first = shown.index("The same input asked of 3 eager subjects")
    table = shown[first:].splitlines()[2:8]
    cells = [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")] for line in table
    ]
    assert cells[2][1:] == ["0.5", "-0.25, 0.25", ""]
    assert cells[3][1:] == ["0.5", "-0.25, 0.25", "exact, exact"]
    assert cells[4][1:] == ["inf", "-0.25, 0.2500000298023224", "another kind, 1 ulp"]
    assert cells[5][1].startswith("raised: ValueError")
    assert "eager subject" not in markdown.finding_markdown(run.findings[-1], digest)


def test_explain_prints_what_the_other_subjects_answer(make_run: Callable[..., Run]):
    run = make_run()
    shown = terminal.explain(run.findings[0], run)
    assert "The same input asked of 3 eager subjects of this operation:" in shown
    assert "correctly rounded: loss 0.5, gradient [-0.25, 0.25]" in shown
    assert "gradient [-0.25, 0.2500000298023224 = 0x1.000002p-2] (another kind, 1 ulp)" in shown
    assert "eager subject" not in terminal.explain(run.findings[-1], run)


def test_all_findings_as_csv_and_no_cell_is_a_formula(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    run = make_run()
    lines = list(csv.DictReader(io.StringIO(findings_csv(run))))
    assert len(lines) == len(run.findings)
    assert [line["id"] for line in lines] == [finding.id for finding in Digest(run).findings]
    for line, finding in zip(lines, Digest(run).findings, strict=True):
        assert line["rows"] == str(finding.rows)
        assert line["ulps"] == ("" if finding.ulps is None else repr(finding.ulps))
    bad = make_finding(
        message='=HYPERLINK("x")', value=["-1.5"], cause="+1+2", link="@x", law="-2 law"
    )
    (line,) = csv.DictReader(io.StringIO(findings_csv(make_run(findings=[bad]))))
    assert line["message"].startswith("'=")
    assert (line["cause"], line["link"], line["law"]) == ("'+1+2", "'@x", "'-2 law")
    assert line["value"] == "-1.5"
