"""The upgrades that the docs show: small files that can still be read, and how they are made."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from lossaudit.conformance.comparison import read_comparison
from lossaudit.conformance.run import write_json

DOCS = Path(__file__).parents[2] / "docs"
KEPT = sorted((DOCS / "upgrades").glob("*.json"))

SMALL = 1_000_000
"""Bytes of a file that a repository keeps: a clone fetches every version of it."""


@pytest.fixture(scope="module")
def keep_upgrade(loaded):
    sys.path.insert(0, str(DOCS))  # it imports its neighbour, as a script does
    try:
        return loaded("keep_upgrade", DOCS / "keep_upgrade.py")
    finally:
        sys.path.remove(str(DOCS))


def test_there_are_kept_upgrades():
    assert len(KEPT) >= 4


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_upgrade_is_small_whole_and_shown(path: Path):
    comparison = read_comparison(path)
    assert comparison.complete
    assert comparison.rows > 10_000
    assert comparison.searched
    beside = (path, path.with_suffix(".md"), path.with_suffix(".png"))
    assert all(0 < other.stat().st_size < SMALL for other in beside)
    page = (DOCS / "upgrade.md").read_text(encoding="utf-8")
    assert f"upgrades/{path.stem}.png" in page
    assert f"{comparison.rows:,}" in page


@pytest.mark.parametrize("path", KEPT[:1], ids=lambda path: path.stem)
def test_what_is_kept_is_the_worst(path: Path, keep_upgrade, tmp_path: Path):
    comparison = read_comparison(path)
    many = msgspec.structs.replace(comparison, changes=comparison.changes * 30)
    kept = keep_upgrade.small(many)
    assert len(kept.changes) <= keep_upgrade.KEPT
    assert {c.kind for c in kept.changes} == {c.kind for c in comparison.changes}
    assert (kept.rows, kept.verdict) == (comparison.rows, comparison.verdict)
    write_json(kept, tmp_path / "kept.json")
    assert read_comparison(tmp_path / "kept.json").changes == kept.changes
