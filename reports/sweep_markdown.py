"""A Sweep as Markdown for a pull request or an issue: about a screen or two, whatever it holds."""

from __future__ import annotations

from collections.abc import Sequence

from ..conformance.sweep.record import Curve, Sweep
from . import text
from .digest import SIGNS
from .markdown import escaped
from .sweep_digest import (
    SweepDigest,
    found_grades,
    grades_text,
    number,
    parts,
    short_dtype,
    short_subject,
    told_of,
    ulps_of,
    worst_text,
)

LINES = 60
"""Lines of the whole: about two screens, which is what a reader reads."""

LISTED = 20
"""Curves, or subjects, of the first table."""

TOLD = 4
"""Curves of which the runs and the binades are told: both outputs for two targets."""

OF_MANY = 2
"""The same where there are more: their tables have room for twice as many rows."""

RUNS = 2
"""Runs of each grade of these."""

GRADES_TOLD = 2
"""Grades of a curve whose runs are told: the worst; of the others the inputs are counted."""

_FRAME = 4
"""Lines around a table: its title, an empty line after that, its head and the line under it."""


def sweep_markdown(sweep: Sweep, only: str = "") -> str:
    """At most LINES lines: verdict, curves or subjects, and binade by binade what the worst do.

    Args:
        sweep: a finished one.
        only: as of `sweep_terminal.print_sweep`.
    """
    digest = SweepDigest(sweep, only)
    pieces = [f"## {escaped(digest.title)}", _head(digest)]
    if digest.curves:
        pieces.append(_subjects(digest) if len(digest.lines) > 1 else _curves(digest))
    told = digest.curves[: TOLD if len(digest.curves) <= TOLD else OF_MANY]
    pieces += filter(None, (_findings(digest, curve) for curve in told))
    # Each piece has an empty line before it, and so has the last table.
    used = sum(piece.count("\n") + 2 for piece in pieces)
    if told:
        pieces.append(_binades(digest, told, LINES - used - _FRAME))
    return "\n\n".join(pieces) + "\n"


def _head(digest: SweepDigest) -> str:
    said = (digest.verdict(), f"{digest.asked()}.", f"{digest.versions()}.", f"{digest.cost()}.")
    return "  \n".join(escaped(part) for part in said)


def _curves(digest: SweepDigest) -> str:
    rows = [
        (
            digest.label(curve),
            f"{curve.inputs:,}",
            grades_text(curve.grades, curve.inputs),
            worst_text(curve),
        )
        for curve in digest.curves[:LISTED]
    ]
    head = ("curve", "inputs", "grades", "largest error")
    return _table(head, rows) + _left(len(digest.curves) - LISTED, "curve")


def _subjects(digest: SweepDigest) -> str:
    rows = []
    for line in digest.lines[:LISTED]:
        worst, found = line.worst, found_grades(line.grades)
        at = f" at {number(worst.worst.input, worst.dtype)}" if worst.worst else ""
        rows.append(
            (
                short_subject(line.subject),
                short_dtype(line.dtype),
                f"{line.inputs:,}",
                grades_text({g: line.grades[g] for g in found}, line.inputs) or "none",
                f"{digest.label(worst)}: {text.ulps_text(ulps_of(worst))}{at}",
            )
        )
    head = ("subject", "format", "answers", "findings", "worst curve")
    return _table(head, rows) + _left(len(digest.lines) - LISTED, "subject")


def _findings(digest: SweepDigest, curve: Curve) -> str:
    """What is wrong with a curve, a line for each of the worst grades."""
    lines, others = [], []
    for told, said, left in told_of(digest, curve, RUNS):
        if len(lines) == GRADES_TOLD:
            others.append(f"{told.grade} {told.inputs:,}")
            continue
        more = f"; … {left:,} more" if left else ""
        runs = text.count(told.number, "run")
        head = f"{SIGNS[told.grade]} {told.grade}, {text.count(told.inputs, 'input')} in {runs}: "
        lines.append(f"- {escaped(text.one_line(head + '; '.join(said) + more, 400))}")
    lines += [f"- also {escaped(', '.join(others))}"] if others else []
    return "\n".join([f"**{escaped(_named(digest, curve))}**", "", *lines]) if lines else ""


def _binades(digest: SweepDigest, curves: Sequence[Curve], limit: int) -> str:
    """A table of so many rows at most, shared out evenly; neighbours that are alike are one row."""
    each = max(limit // len(curves), 1)
    rows = [
        (
            _named(digest, curve) if place == 0 else "",
            part.name,
            f"{part.inputs:,}",
            grades_text(part.grades, part.inputs),
            "-" if part.worst is None else text.ulps_text(part.worst),
        )
        for curve in curves
        for place, part in enumerate(parts(curve.binades, each))
    ]
    title = f"Binade by binade{'' if len(curves) == len(digest.curves) else ', of the worst'}"
    head = ("curve", "inputs of", "inputs", "grades", "largest error")
    return f"### {title}\n\n{_table(head, rows)}"


def _named(digest: SweepDigest, curve: Curve) -> str:
    if len(digest.lines) <= 1:
        return digest.label(curve)
    dtype = short_dtype(curve.dtype)
    return f"{short_subject(curve.subject)} {dtype} {digest.label(curve)}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [list(head), ["---"] * len(head)]
    rows += [[escaped(text.one_line(cell, 130)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _left(left: int, word: str) -> str:
    return f"\n\n… and {text.count(left, f'more {word}')}." if left > 0 else ""
