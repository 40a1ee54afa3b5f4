"""The kill matrix in the HTML report: what it shows, and that nothing in the file can act."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossaudit import cli
from lossaudit.conformance.run import Finding, Run, RunFileError, write_json, write_run
from lossaudit.conformance.selftest.trial import Heard, Killed, NotTried, Trial
from lossaudit.reports.html import render_html
from lossaudit.reports.selftest import as_data, kills, read_trial

MakeRun = Callable[..., Run]
MakeFinding = Callable[..., Finding]


@pytest.fixture
def tried(make_finding: MakeFinding) -> Trial:
    found = make_finding()
    return Trial(
        killed=(
            Killed(
                "log-of-softmax", "It underflows.", "most drafts", {"value": 3, "mirror": 1}, found
            ),
            Killed("harmless", "No mistake.", "nowhere", {}, None),
        ),
        heard=(Heard("class-c", 0, 0, ()), Heard("class-c", 1, 2, (make_finding(law="mirror"),))),
        untried=(NotTried("jax.dropped", "It forgets.", "jax", "jax not installed"),),
    )


def test_the_file_of_a_trial_is_read_back(tried: Trial, tmp_path: Path):
    path = tmp_path / "selftest.json"
    write_json(as_data(tried), path)
    assert read_trial(path) == kills(tried)


def test_the_page_shows_mutants_by_laws_and_the_smallest_inputs(make_run: MakeRun, tried: Trial):
    text = render_html(make_run(), kills(tried))
    assert '<a href="#selftest">' in text
    assert 'href="#mutant-log-of-softmax"' in text
    section = text[text.index('<section id="selftest"') :]
    section = section[: section.index("</section>")]
    row = re.search(r'href="#mutant-log-of-softmax".*?</tr>', section, re.DOTALL)
    assert row is not None
    assert re.findall(r'sign g-faithful">(\d+)', row[0]) == ["1", "3"]
    assert '<b class="bad">survived</b>' in section
    assert "not tried: jax not installed" in section
    assert "[-inf, 0, 0]" in section
    assert "False alarm about" in section
    assert "M58, 32-bit offsets of rows" in section
    assert re.search(r">class-c</th><td class=\"r\">2</td><td class=\"r bad\">1</td>", section)


def test_a_run_without_a_self_test_has_no_section_of_it(make_run: MakeRun):
    assert "selftest" not in render_html(make_run())


def test_ids_stay_unique_and_links_arrive(make_run: MakeRun, tried: Trial):
    text = render_html(make_run(), kills(tried))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"=]+)"', text))
    # The cards of findings travel packed; test_html.py opens them.
    assert {link for link in links if not link.startswith("finding-")} <= set(ids)


def test_nothing_in_the_file_can_act(make_run: MakeRun, tried: Trial):
    bad = "<img src=x onerror=alert(1)>"
    (first, *_) = tried.killed
    killed = replace(first, mutant=bad, says=bad, seen=bad, laws={bad: 1})
    left = NotTried(bad, bad, bad, bad)
    text = render_html(make_run(), kills(replace(tried, killed=(killed,), untried=(left,))))
    assert "<img" not in text


def test_report_takes_the_file_and_says_what_is_wrong_with_another(
    make_run: MakeRun, tried: Trial, tmp_path: Path
):
    run, trial, page = (tmp_path / name for name in ("run.json", "selftest.json", "report.html"))
    write_run(make_run(), run)
    write_json(as_data(tried), trial)
    command = ["report", str(run), "--html", str(page), "--selftest"]
    done = CliRunner().invoke(cli.app, [*command, str(trial)])
    assert done.exit_code == 0, done.output
    assert '<section id="selftest"' in page.read_text()
    done = CliRunner().invoke(cli.app, [*command, str(run)])
    assert isinstance(done.exception, RunFileError)
    assert "was not written by `lossaudit selftest --json FILE`" in str(done.exception)
