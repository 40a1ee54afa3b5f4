"""One HTML file that opens offline: all styles and scripts inside, nothing loaded, text escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from ..conformance.known import entry_text
from ..conformance.run import GRADES, Finding, Run, SubjectRecord
from . import conventions, examples, markdown, misuse, peers, porting, profiles, text, views
from . import digest as digests
from .coverage import coverage
from .page import TEMPLATES, data_tables, inlined, packed, packed_json, vega, write_page
from .selftest import Kills

SHOWN = 400
"""Characters of a long text shown at once."""

KEPT = 20_000
"""Characters of a long text kept in the page; all of it is in the run file."""


def write_html(run: Run, path: Path, kills: Kills | None = None) -> None:
    """Write the report of a run atomically: a reader sees the old file or the whole new one."""
    write_page(render_html(run, kills), path)


def render_html(run: Run, kills: Kills | None = None) -> str:
    """The page as text, with the self-test of the laws where it is given."""
    digest = digests.Digest(run)
    misused, beside, made = misuse.sections(run), peers.Tables(digest), environment()
    drawn = misuse.specs(misused) | profiles.specs(run)
    answers = made.get_template("peers.html")
    regions = list(dict.fromkeys(tally.region for tally in run.tallies))
    return made.get_template("report.html").render(
        run=run,
        digest=digest,
        kills=kills,
        regions=regions,
        covered=coverage(run),
        dtypes=views.dtypes(digest),
        choices=views.choices(digest),
        placeholder="op, law, message, id",
        groups=views.card_groups(digest),
        peers=beside,
        answers=[[answers.render(others=t), markdown.peer_table(t)] for t in beside.tables],
        plots=drawn,
        ports=porting.page(run),
        misused=misused,
        worked=examples.table(run.examples, run.example_answers),
        profile_choices=profiles.choices(run),
        profile_data=profiles.page_data(run),
        profile_gaps=profiles.gaps(run),
        **inlined(
            ["report.css", "profiles.css", "porting.css", "misuse.css", "examples.css"],
            ["base.js", "profiles.js", "porting.js", "report.js"],
            [data_tables(), *([vega()] if drawn else [])],
        ),
    )


def environment() -> jinja2.Environment:
    """The templates with the filters and functions that every page uses."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(
        line=text.one_line,
        moment=text.moment,
        visible=text.visible,
        long=_long,
        hex=_hex,
        num=lambda number: f"{number:,}",
        ulps=text.ulps_text,
        duration=text.duration,
        web=text.web_link,
        slug=lambda name: "".join(c if c.isalnum() else "-" for c in name if c.isascii()),
        spaced=lambda name: text.one_line(name).replace("_", "_\u200b").replace(".", ".\u200b"),
    )
    made.globals.update(
        anchor=text.anchor,
        call_text=digests.call_text,
        count=text.count,
        failure=digests.failure,
        implied_text=digests.implied_text,
        known_entry=_known_entry,
        grades=GRADES,
        markdown=_card_markdown,
        meanings=digests.MEANINGS,
        options=digests.options,
        packed=packed,
        packed_json=packed_json,
        outcome_text=digests.outcome_text,
        sign=digests.sign,
        titles=conventions.TITLES,
        versions=digests.versions,
        views=views,
    )
    return made


def _long(content: str) -> dict[str, Any]:
    """A text of any length, as the macro `long` of the templates shows it."""
    shown = text.visible(content[: SHOWN * 2])
    return {
        "head": shown[:SHOWN],
        "rest": text.clip(text.visible(content[:KEPT]), KEPT) if len(content) > SHOWN else "",
        "cut": max(0, len(content) - KEPT),
    }


def _hex(number: str) -> str:
    """Hexadecimal form where the decimal one is not obviously exact, else ""."""
    return text.hex_float(number) if len(number) > len("-0.0625") else ""


def _card_markdown(finding: Finding, digest: digests.Digest, asked: bool) -> str:
    written = markdown.finding_markdown(
        finding, digest, snippet=markdown.PLACEHOLDER, answers=markdown.PEERS if asked else ""
    )
    return text.visible(written)


def _known_entry(finding: Finding, record: SubjectRecord) -> str:
    entry = text.visible(entry_text(finding, record.versions))
    if len(entry) > KEPT:
        return f"Too long for this page; it is printed by: lossaudit explain RUN {finding.id}"
    return entry
