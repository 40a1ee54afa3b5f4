"""Keeps what `lossaudit upgrade --out FOLDER` found as a page of the docs: small, and as it was.

python docs/keep_upgrade.py FOLDER docs/upgrades/NAME

Writes NAME.json (the comparison with its worst changes and what its search found, without the
scripts), NAME.md (the summary for a pull request) and NAME.png (the first screen of the report).
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from take_screenshots import take_first_screen

from lossaudit.conformance.comparison import (
    REGRESSIONS,
    Comparison,
    Difference,
    read_comparison,
)
from lossaudit.conformance.run import write_json
from lossaudit.reports.comparison_digest import ComparisonDigest
from lossaudit.reports.comparison_html import write_comparison_html
from lossaudit.reports.comparison_markdown import comparison_markdown

KEPT = 40
"""Changes that are kept: those that the report shows first."""


def small(comparison: Comparison) -> Comparison:
    """The comparison without most of its changes and without scripts."""
    worst = ComparisonDigest(comparison).worst(KEPT)
    changes = [change for change, _ in worst]
    return msgspec.structs.replace(
        comparison,
        changes=[msgspec.structs.replace(change, snippet="") for change in changes],
        searched=[_shortened(found) for found in comparison.searched],
        notes=[*comparison.notes, f"the worst {len(changes)} of {len(comparison.changes)} changes"],
    )


def _shortened(found: Difference) -> Difference:
    """What a search found, with its row where that is a regression."""
    if found.kind in REGRESSIONS:
        return msgspec.structs.replace(found, snippet="")
    return msgspec.structs.replace(found, snippet="", case=None, row=0, old=[], new=[], right=[])


def keep(folder: Path, name: Path) -> None:
    comparison = read_comparison(folder / "comparison.json")
    # The name may hold dots, of versions.
    data, text, picture = (name.with_name(name.name + end) for end in (".json", ".md", ".png"))
    write_json(small(comparison), data)
    text.write_text(comparison_markdown(comparison), encoding="utf-8")
    page = folder / "comparison.html"
    write_comparison_html(comparison, page)
    take_first_screen(page, picture)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
