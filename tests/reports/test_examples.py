"""Worked examples in the reports: the page, the terminal, Markdown, and nothing more than is so."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.examples.ask import Extent, answers
from lossaudit.conformance.examples.entries import load
from lossaudit.conformance.examples.everything import verdicts
from lossaudit.conformance.examples.operations import OPERATIONS
from lossaudit.conformance.run import Absence, ExampleAnswer, Incident, Run
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats
from lossaudit.reports import examples
from lossaudit.reports.html import render_html, write_html

if TYPE_CHECKING:  # the browser's driver is loaded by the fixture, where there is a browser
    from playwright.sync_api import Page


def right(subject: Subject) -> Callable[[Case], tuple[Floats, Floats]]:
    def call(case: Case) -> tuple[Floats, Floats]:
        found, fmt = truth(case, subject.semantics), FORMATS[case.dtype]
        return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)

    return call


@pytest.fixture(scope="module")
def answered() -> list[ExampleAnswer]:
    """What the ops of two frameworks give where the reference computes them."""
    found = []
    for framework in ("jax", "tensorflow"):
        every = [s for s in subjects([framework], "quick") if s.operation != "softmax"]
        every = [s for s in every if "mean" not in s.reductions]
        session = InProcess({s.name: right(s) for s in every})
        found += answers(session, every, load(), Extent(("float32",)))
    return found


@pytest.fixture
def run(make_run: Callable[..., Run], answered: list[ExampleAnswer]) -> Run:
    return make_run(examples=list(verdicts()), example_answers=answered)


def printed(found: examples.Table, width: int = 80, **more: Any) -> str:
    written = io.StringIO()
    console = Console(file=written, width=width)
    examples.print_examples(found, console, **more)
    return written.getvalue()


def off(answer: ExampleAnswer) -> ExampleAnswer:
    return msgspec.structs.replace(answer, agrees=False, value=["7.5"], ulps=3.0e12)


def test_the_verdict_counts_what_is_there(run: Run):
    found = examples.table(run.examples, run.example_answers)
    assert found.verdict.startswith("33 examples, 62 printed figures: 51 right, 11 wrong (8 explai")
    assert found.verdict.endswith(
        "of jax, tensorflow: all confirm the reference at the digits shown."
    )
    assert examples.table(run.examples, []).verdict.endswith("No framework was asked.")
    every = [off(run.example_answers[0]), *run.example_answers[1:]]
    assert "1 figure computed otherwise by some." in examples.table(run.examples, every).verdict


def test_a_run_without_examples_has_no_page_of_them(make_run: Callable[..., Run]):
    page = render_html(make_run())
    assert 'id="examples"' not in page
    assert 'href="#examples"' not in page


def test_a_run_of_one_framework_shows_what_it_has(run: Run):
    some = [a for a in run.example_answers if a.subject.startswith("tensorflow:")][:3]
    page = render_html(msgspec.structs.replace(run, example_answers=some))
    assert "not asked in this run" in page
    assert "3 answers of tensorflow: all confirm" in page


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_the_terminal_is_too_long(run: Run, width: int):
    shown = printed(examples.table(run.examples, run.example_answers), width)
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    assert "WRONG cross_entropy 0.88, right 0.6931" in words
    assert "entropy (H(p)), in bits; the right figure is confirmed by jax, tensorflow" in words
    assert "right squared_error_ratio about 10000 (9801)" in words
    assert "produced gradient_norm_ratio 0.5530" in words


def test_another_figure_of_a_framework_and_what_failed_is_said(run: Run):
    found = examples.table(run.examples, [off(run.example_answers[0])])
    absent = [Absence(framework="torch", reason="no module named torch", hint="pip install torch")]
    incidents = [Incident(subject="keras", law="worked examples", dtype="", message="it died")]
    words = " ".join(printed(found, absent=absent, incidents=incidents).split())
    assert "computed otherwise: jax:" in words
    assert "float32 7.5" in words
    assert "NOT ASKED torch: no module named torch; pip install torch" in words
    assert "keras: it died" in words


def test_markdown_has_every_figure_and_the_vocabulary(run: Run):
    found = examples.table(run.examples, run.example_answers)
    page = examples.examples_markdown(found, {"jax": {"jax": "0.10.2"}})
    assert "Asked of jax 0.10.2." in page
    wrong = page.partition("## Wrong figures")[2].partition("## All examples")[0]
    assert wrong.count("\n| ") == 2 + 11
    assert re.search(
        r"\| A7 \| cross\\_entropy \| 0.88 \| 0.6931 \| other quantity .*jax, tens", wrong
    )
    for example in load():
        assert f"### {example.id} " in page
    for name, operation in OPERATIONS.items():
        assert f"- `{name}`" in page
        for figure in operation.figures:
            assert f"gives `{figure}`" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)


def test_the_example_of_the_page_can_be_read(run: Run, tmp_path: Path):
    found = examples.table(run.examples, run.example_answers)
    page = examples.examples_markdown(found, {})
    path = tmp_path / "mine.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    (example,) = load(path)
    assert example.id == "M1"


def test_hostile_text_stays_text(run: Run):
    evil = "<img src=x onerror=alert(1)>\u202e</script>|`"
    first, *rest = run.examples
    record = msgspec.structs.replace(
        first, example=evil, source=evil, operation=evil, input=evil, figure=evil, case=evil,
        printed=[evil], right=[evil], shown=[evil], verdict="wrong", mistakes=[evil], why=evil,
        note=evil, answers=[evil], unit=evil,
    )  # fmt: skip
    answer = msgspec.structs.replace(
        run.example_answers[0], example=evil, figure=evil, case=evil, subject=f"{evil}:x",
        said=evil, value=[evil], agrees=False,
    )  # fmt: skip
    hostile = msgspec.structs.replace(run, examples=[record, *rest], example_answers=[answer])
    page = render_html(hostile)
    assert "<img src=x" not in page
    assert "\u202e" not in page
    found = examples.table(hostile.examples, hostile.example_answers)
    shown = examples.examples_markdown(found, {evil: {evil: evil}})
    assert not re.search(r"(?<!\\)<img src=x", shown)
    assert "\u202e" not in shown
    assert "\u202e" not in printed(found)


@pytest.mark.browser
@pytest.mark.parametrize(("size", "theme"), [("wide", "light"), ("phone", "dark")])
def test_the_page_shows_every_example_and_stays_in_its_width(
    open_page: Callable[..., Page], run: Run, tmp_path: Path, size: str, theme: str
):
    from playwright.sync_api import expect

    path = tmp_path / "report.html"
    write_html(run, path)
    page = open_page(f"{path.as_uri()}#examples", size, color_scheme=theme)
    expect(page.locator("#examples")).to_be_visible()
    expect(page.locator("#examples article.worked")).to_have_count(len(load()))
    wrong = page.locator("#examples table").first.locator("tbody tr")
    expect(wrong).to_have_count(11)
    expect(wrong.nth(1)).to_contain_text("0.6931")
    expect(wrong.nth(1)).to_contain_text("jax, tensorflow")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wrong.nth(1).locator("a").click()
    expect(page.locator("#example-A7")).to_be_in_viewport()
