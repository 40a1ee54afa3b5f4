"""A Comparison as one HTML file that opens offline, with what the report of a run is made of."""

from __future__ import annotations

import re
from pathlib import Path

from ..conformance.comparison import KINDS, REGRESSIONS, Change, Comparison, Difference
from . import comparison_digest as digests
from . import comparison_views, text, views
from .digest import case_options
from .html import KEPT, environment
from .page import inlined, write_page


def write_comparison_html(comparison: Comparison, path: Path) -> None:
    """Write the report atomically: a reader sees the old file or the whole new one."""
    write_page(render_comparison(comparison), path)


def render_comparison(comparison: Comparison) -> str:
    """The page as text."""
    digest = digests.ComparisonDigest(comparison)
    made = environment()
    made.filters.update(
        arrow=lambda said: said.replace(" -> ", " → "),
        together=_together,
        zip=zip,
    )
    made.globals.update(
        call_text=digests.call_text,
        case_options=case_options,
        facts=digests.facts,
        grade_text=digests.grade_text,
        kinds=KINDS,
        move_text=digests.move_text,
        name_of=digests.name_of,
        outcome=digests.outcome,
        regressions=REGRESSIONS,
        parts=comparison_views,
        short_outcome=digests.short_outcome,
        sign=sign,
        snippet=snippet,
        views=views,
    )
    return made.get_template("comparison.html").render(
        comparison=comparison,
        digest=digest,
        groups=comparison_views.groups(digest),
        choices=comparison_views.choices(digest),
        placeholder="op, region, message, id",
        **inlined(["report.css", "comparison.css"], ["base.js", "report.js"]),
    )


def _together(said: str) -> str:
    """A package and its two versions, which do not break over lines."""
    return re.sub(r"(\S+) (\S+) → (\S+)", "\\1\u00a0\\2\u00a0→\u00a0\\3", said)


def sign(name: str) -> str:
    """Two letters for a kind."""
    return digests.SIGNS.get(name, text.one_line(name, 3)[:2].upper())


def snippet(entry: Change | Difference) -> str:
    """The script, whole: part of one would not run."""
    if len(entry.snippet) > KEPT:
        return "# Too long for this page: it is in the comparison file.\n"
    return text.visible(entry.snippet)
