"""Regions by operations: what was asked, what does not fit, and what was not tested."""

from __future__ import annotations

import io
from collections.abc import Callable

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import MODULES, subjects
from lossaudit.cli import app
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES, Cell
from lossaudit.conformance.law import cells
from lossaudit.conformance.laws.registry import LAWS
from lossaudit.conformance.regions import REGIONS, regions_for
from lossaudit.conformance.run import Run, Tally, write_run
from lossaudit.reference.vocabulary import OPERATIONS
from lossaudit.reports.coverage import (
    Covered,
    coverage,
    coverage_markdown,
    print_coverage,
    why_not,
)
from lossaudit.reports.html import render_html

CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"


def printed(run: Run, width: int = 80) -> str:
    stream = io.StringIO()
    print_coverage(run, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def cell(run: Run, region: str, operation: str) -> Covered:
    found = coverage(run)
    return found.rows[region][found.operations.index(operation)]


def without(run: Run, region: str, operation: str) -> Run:
    """The run without what one operation was asked in one region."""
    of = {s.name: s.operation for s in run.subjects}
    kept = [t for t in run.tallies if (t.region, of[t.subject]) != (region, operation)]
    return msgspec.structs.replace(run, tallies=kept)


def test_subjects_and_rows_are_those_of_the_tallies(make_run: Callable[..., Run]):
    run = make_run()
    of = {s.name: s.operation for s in run.subjects}
    mine = [t for t in run.tallies if (t.region, of[t.subject]) == ("ties", CE)]
    found = cell(run, "ties", CE)
    assert found.subjects == sum(operation == CE for operation in of.values())
    assert found.asked == len({t.subject for t in mine})
    # Loss and gradient of a row are tallied apart, and are one row.
    rows = {}
    for tally in mine:
        key = (tally.subject, tally.law, tally.dtype)
        rows[key] = max(rows.get(key, 0), tally.rows)
    assert found.rows == sum(rows.values()) > 0
    assert coverage(run).operations == (CE, BCE, "binary_cross_entropy")


def test_a_hole_is_what_fits_and_was_not_asked(make_run: Callable[..., Run]):
    run = make_run()
    before = coverage(run).holes
    assert ("ties", BCE) not in before
    after = coverage(without(run, "ties", BCE))
    assert set(after.holes) - set(before) == {("ties", BCE)}
    # Regions that this run has no row of are holes too, and not left out.
    assert ("large-offset", CE) in before
    assert "not tested: ties of binary_cross_entropy_with_logits" in printed(
        without(run, "ties", BCE), 120
    )


def test_what_does_not_fit_is_no_hole_and_says_why(make_run: Callable[..., Run]):
    run = make_run()
    assert not cell(run, "large-offset", BCE).fits
    assert str(cell(run, "large-offset", BCE)) == "-"
    assert why_not("large-offset", BCE, "standard") == (
        "for several classes, where a binary operation has one number a row"
    )
    assert why_not("ties", "kl_divergence", "standard") == (
        "for logits, where the operation takes log-probabilities"
    )
    shown = " ".join(printed(run).split())
    assert "'-' for several classes, where a binary operation has one number a row: " in shown


def test_each_region_of_each_operation_is_a_row_and_fits(make_run: Callable[..., Run]):
    found = coverage(make_run())
    names = [r.name for r in REGIONS]
    assert list(found.rows) == [n for n in dict.fromkeys(names) if n in found.rows]
    for number, operation in enumerate(found.operations):
        for region in regions_for(operation):
            fits = found.rows[region.name][number].fits
            assert fits == (not why_not(region.name, operation, "standard"))


@pytest.mark.parametrize("depth", PROFILES)
def test_what_fits_is_what_a_cell_of_some_subject_draws(depth: str):
    """Asked of the cells themselves, of which no subject is called."""
    every = subjects(MODULES, depth)
    drawn = set()
    for subject, law, dtype in cells(LAWS, every, every):
        bench = Bench(subject, dtype, InProcess({}), subject.semantics, nobody, Memory())
        cell = Cell(bench, law, PROFILES[depth], 0, print)
        drawn |= {(region.name, subject.operation) for region in cell.regions()}
    pairs = {(r.name, o) for o in OPERATIONS for r in regions_for(o)}
    assert {pair for pair in pairs if not why_not(*pair, depth)} == drawn
    assert drawn < pairs


@pytest.mark.parametrize(
    ("region", "operation", "depth", "reason"),
    [
        ("all-ignored", "softmax", "deep", "for targets or ops other than those of the subjects"),
        ("invalid-label", "focal", "deep", "for labels, where the targets are distributions"),
        ("invalid-label", "logsumexp", "deep", "for labels out of range, of which no law says "),
        (
            "smoothing-boundaries",
            "kl_divergence_probabilities",
            "deep",
            "for an option that is not taken (label_smoothing)",
        ),
        ("two-classes", CE, "deep", "drawn in every region at the depth deep"),
        ("two-classes", CE, "standard", ""),
        ("vocabulary", CE, "quick", "not drawn at the depth quick"),
        ("vocabulary", CE, "standard", ""),
        ("vocabulary", CE, "of another version", ""),
    ],
)
def test_what_nobody_can_be_asked_is_no_hole(
    make_run: Callable[..., Run], region: str, operation: str, depth: str, reason: str
):
    run = make_run(depth=depth)
    asked = [msgspec.structs.replace(s, operation=operation) for s in run.subjects]
    run = msgspec.structs.replace(run, subjects=asked, tallies=[])
    found = cell(run, region, operation)
    assert found.hole == (not reason)
    assert found.unfit.startswith(reason)
    assert not reason or any(line.startswith(reason) for line in coverage(run).unfit)
    # What was asked all the same, of a function of a user, is counted.
    name = run.subjects[0].name
    tally = Tally(
        subject=name,
        law="value",
        dtype="float32",
        region=region,
        output="loss",
        grades={"exact": 2},
    )
    assert cell(msgspec.structs.replace(run, tallies=[tally]), region, operation).rows == 2


def nobody(op: str, mode: str) -> None:
    del op, mode


def test_an_empty_batch_was_asked_though_it_has_no_rows(make_run: Callable[..., Run]):
    run = make_run()
    name = next(s.name for s in run.subjects if s.operation == CE)
    nothing = Tally(
        subject=name, law="value", dtype="float32", region="empty", output="loss", grades={}
    )
    asked = make_run(tallies=[*run.tallies, nothing])
    assert cell(run, "empty", CE).hole
    assert not cell(asked, "empty", CE).hole
    assert str(cell(asked, "empty", CE)).startswith("1/")
    assert str(cell(asked, "empty", CE)).endswith(" 0")


def test_what_the_probe_asked_is_in_no_region(make_run: Callable[..., Run]):
    run = make_run()
    probed = [msgspec.structs.replace(t, law="conventions") for t in run.tallies]
    assert cell(make_run(tallies=probed), "ordinary", CE).hole


def test_the_tables_fit_80_columns_and_a_partial_run_is_marked(make_run: Callable[..., Run]):
    shown = printed(make_run())
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "saturated-right" in shown
    assert "PARTIAL" not in shown
    assert "PARTIAL" in printed(make_run(complete=False))
    nothing = make_run(subjects=[], tallies=[], findings=[], conventions=[])
    assert "No subject was audited." in printed(nothing)


@pytest.mark.parametrize("bad", ["[red]x[/red]", "\x1b[2J \u202eevil", "a|b\nc"])
def test_names_of_a_run_are_no_markup(make_run: Callable[..., Run], bad: str):
    run = make_run()
    subjects = [msgspec.structs.replace(run.subjects[0], operation=bad), *run.subjects[1:]]
    tallies = [msgspec.structs.replace(t, region=bad) for t in run.tallies[:4]]
    foreign = make_run(subjects=subjects, tallies=tallies)
    shown = printed(foreign, 200)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    said = coverage_markdown(foreign)
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "\u202e" not in said


def test_the_command_prints_tables_or_markdown(make_run: Callable[..., Run], tmp_path):
    path = tmp_path / "run.json"
    write_run(make_run(), path)
    done = CliRunner().invoke(app, ["coverage", str(path)])
    assert done.exit_code == 0, done.output
    assert "saturated-right" in done.stdout
    assert "| region |" not in done.stdout
    done = CliRunner().invoke(app, ["coverage", str(path), "--markdown"])
    assert done.exit_code == 0, done.output
    assert done.stdout == coverage_markdown(make_run())
    assert "| region | cross\\_entropy |" in done.stdout


def test_the_page_has_the_same_table_and_folds_the_subjects(make_run: Callable[..., Run]):
    run = make_run()
    page = render_html(run)
    section = page[page.index('<section id="coverage"') :]
    section = section[: section.index("</section>")]
    covered = cell(run, "ties", CE)
    assert f"{covered.asked}/{covered.subjects} <span" in section
    assert '<td class="hole">0/' in section
    assert "<td>–</td>" in section
    assert section.index("<details") < section.index('<th scope="col" class="stick">Subject')
    # A table of regions by operations, however many subjects there are.
    assert section.index("<details") < 12_000
