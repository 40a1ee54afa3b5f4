"""The misuse page: what it draws, what it says in words, and that it says nothing more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.misuse.catalogue import MISUSES
from lossaudit.conformance.misuse.everything import measure_all
from lossaudit.conformance.run import MisuseCurve, MisuseTraining, Run
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats
from lossaudit.reports import misuse
from lossaudit.reports.html import render_html, write_html

if TYPE_CHECKING:  # the browser's driver is loaded by the fixture, where there is a browser
    from playwright.sync_api import Page


def right(subject: Subject) -> Callable[[Case], tuple[Floats, Floats]]:
    def call(case: Case) -> tuple[Floats, Floats]:
        if subject.op == "binary_cross_entropy" and case.inputs.min() < 0:
            raise RuntimeError("all elements of input should be between 0 and 1")
        found = truth(case, subject.semantics)
        fmt = FORMATS[case.dtype]
        return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)

    return call


@pytest.fixture(scope="module")
def measured() -> list[MisuseCurve | MisuseTraining]:
    """What the ops of two frameworks give where the reference computes them."""
    found = []
    for framework in ("torch", "keras"):
        plain = [s for s in subjects([framework], "quick") if s.mode == "eager" and not s.misuse]
        functions = {s.name: right(s) for s in plain}
        measure_all(InProcess(functions), plain, found.append)
    return found


@pytest.fixture
def run(make_run: Callable[..., Run], measured: list[MisuseCurve | MisuseTraining]) -> Run:
    return make_run(
        misuse=[m for m in measured if isinstance(m, MisuseCurve)],
        misuse_training=[m for m in measured if isinstance(m, MisuseTraining)],
    )


def test_every_misuse_has_a_section_with_plots_tables_and_what_logs_show(run: Run):
    found = misuse.sections(run)
    assert [section.misuse for section in found] == list(MISUSES)
    for section in found:
        assert section.plots
        assert section.tables
        assert section.written
        assert len(section.logs) >= 2
        assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)


def test_a_run_without_measurements_has_no_page_of_them(make_run: Callable[..., Run]):
    run = make_run()
    assert misuse.sections(run) == []
    assert misuse.specs(misuse.sections(run)) == {}
    assert 'id="misuse"' not in render_html(run)


def test_a_partial_run_shows_what_it_has(run: Run):
    few = msgspec.structs.replace(run, misuse=run.misuse[:2], misuse_training=[])
    (section,) = misuse.sections(few)
    assert section.misuse.id == "double-softmax"
    assert [plot.name for plot in section.plots] == ["misuse-double-softmax-floor"]
    only = msgspec.structs.replace(
        run, misuse_training=[t for t in run.misuse_training if t.series == "with"]
    )
    assert misuse.specs(misuse.sections(only))


def test_code_is_shown_of_the_frameworks_that_were_asked(run: Run):
    section = misuse.sections(run)[0]
    assert [framework for framework, _ in section.written] == ["torch", "keras"]
    section = misuse.sections(run)[2]
    assert {framework for framework, _ in section.written} == {"torch"}


def test_specs_are_json_with_finite_points_and_no_colours_of_the_page(run: Run):
    specs = misuse.specs(misuse.sections(run))
    assert len(specs) >= 14
    for spec in specs.values():
        json.dumps(spec, allow_nan=False)
        assert "background" not in spec


def test_subjects_that_coincide_share_a_mark_and_are_named(run: Run):
    floors = [c for c in run.misuse if (c.misuse, c.quantity) == ("double-softmax", "floor")]
    (group,) = misuse.groups(floors)
    assert group.names == ("torch", "keras")
    assert group.label == "all 2 subjects"
    caption = misuse.sections(run)[0].plots[0].caption
    assert "2 subjects coincide and share a mark: torch, keras." in caption


def test_a_subject_that_departs_has_a_mark_of_its_own(run: Run):
    first, *rest = run.misuse
    apart = [repr(float(value) * 1.5) for value in first.measured]
    run = msgspec.structs.replace(
        run, misuse=[msgspec.structs.replace(first, measured=apart), *rest]
    )
    floors = [c for c in run.misuse if (c.misuse, c.quantity) == ("double-softmax", "floor")]
    assert [group.names for group in misuse.groups(floors)] == [("torch",), ("keras",)]
    assert "coincide" not in misuse.sections(run)[0].plots[0].caption
    gap = max(abs(float(v)) for v in first.measured) / 2
    assert f"at most {gap:.1e} apart" in misuse.sections(run)[0].agreement


def test_the_table_holds_the_numbers_of_the_run(run: Run):
    table = misuse.sections(run)[0].tables[0]
    floor = next(c for c in run.misuse if c.quantity == "floor")
    column = table.head.index("floor: torch, keras")
    shown = [row[column] for row in table.rows]
    assert shown == [f"{float(value):.4f}" for value in floor.measured]
    assert [row[0] for row in table.rows] == [f"{float(x):g}" for x in floor.x]


def test_a_refusal_is_said_and_what_is_silent_counted(run: Run):
    section = next(s for s in misuse.sections(run) if s.misuse.id == "logits-for-probabilities")
    said = " ".join(section.said)
    assert "torch:binary_cross_entropy[eager,cpu] raised: RuntimeError: all elements" in said
    assert "raised nothing and warned of nothing" in said


def test_figures_in_words_are_those_of_the_reference():
    logs = {m.id: " ".join([*m.logs, *(line for _, line in m.logs_of)]) for m in MISUSES}
    for k in (2, 3, 10, 100, 1000):
        assert f"K = {k}: {math.log(1 + (k - 1) / math.e):.4f} to " in logs["double-softmax"]
    assert f"{-math.log(1e-7):.4f}" in logs["logits-for-probabilities"]
    assert "0.3133 and 0.6931 for y = 1" in logs["double-sigmoid"]
    assert f"{np.log(128):.4f} at N = 128" in logs["wrong-axis"]


def test_hostile_text_stays_text(run: Run):
    evil = "<img src=x onerror=alert(1)>\u202e</script>"
    first, *rest = run.misuse
    record = msgspec.structs.replace(
        first, subject=f"{evil}:op[eager,cpu]", said=evil, series=evil, at=evil, quantity=evil
    )
    hostile = msgspec.structs.replace(run, misuse=[record, *rest])
    page = render_html(hostile)
    assert "<img src=x" not in page
    assert "\u202e" not in page


@pytest.mark.browser
@pytest.mark.parametrize(("size", "theme"), [("wide", "light"), ("phone", "dark")])
def test_the_page_draws_every_plot_and_stays_in_its_width(
    open_page: Callable[..., Page], run: Run, tmp_path: Path, size: str, theme: str
):
    path = tmp_path / "report.html"
    write_html(run, path)
    page = open_page(f"{path.as_uri()}#misuse", size, color_scheme=theme)
    figures = page.locator("#misuse figure.plot")
    assert figures.count() == len(misuse.specs(misuse.sections(run)))
    for place in range(figures.count()):
        figures.nth(place).scroll_into_view_if_needed()
        figures.nth(place).locator("svg").first.wait_for()
    marks = page.locator('[data-plot="misuse-double-softmax-floor"] g.mark-symbol.role-mark path')
    assert marks.count() == 3 * 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_a_plot_that_was_hidden_while_the_theme_changed_has_its_width_again(
    open_page: Callable[..., Page], run: Run, tmp_path: Path
):
    path = tmp_path / "report.html"
    write_html(run, path)
    page = open_page(f"{path.as_uri()}#misuse")
    picture = page.locator("#misuse figure.plot svg").first
    picture.wait_for(state="visible")
    page.locator("nav a[href='#summary']").first.click()
    page.locator("#theme").click()
    page.wait_for_timeout(300)  # the plot is drawn anew where nobody sees it
    page.locator("nav a[href='#misuse']").first.click()
    wide = "(svg) => svg.getBoundingClientRect().width > 200"
    for _ in range(300):  # the policy of the page forbids to wait for an expression
        if picture.evaluate(wide):
            break
        page.wait_for_timeout(100)
    assert picture.evaluate(wide)
