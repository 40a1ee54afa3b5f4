"""The terminal: what a sweep saw, in a few screens.

Everything is readable without colour and at 80 columns. Text of a sweep is never Rich markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..conformance.sweep.record import Curve, Sweep
from . import text
from .comparison_views import share
from .console import print_heading, print_indented
from .digest import MEANINGS, SIGNS
from .sweep_digest import (
    SweepDigest,
    found_grades,
    grades_text,
    number,
    short_dtype,
    short_subject,
    told_of,
    ulps_of,
    worst_text,
)
from .terminal import STYLES

DETAILED = 12
"""So many curves of one subject and dtype are told in all details: six targets of both outputs."""

LISTED = 40
"""Lines of a table; the others are counted."""

RUNS = 3
"""Runs of each grade that are told."""


def print_sweep(
    sweep: Sweep,
    console: Console,
    *,
    only: str = "",
    files: Mapping[str, Path] | None = None,
) -> None:
    """What a sweep saw, worst first.

    Args:
        sweep: a finished one.
        console: where it is written.
        only: words; only curves are shown that have all of them among subject, dtype, what is
            around, target and output. Where these are of one subject, they are told in full.
        files: what was written, by what it is ("sweep", "summary", "plot").
    """
    digest = SweepDigest(sweep, only)
    console.print()
    if not digest.curves:
        said = f"No curve of the sweep has all of {text.one_line(only, 100)!r}."
        console.print(Text(said if only else "The sweep has no curves.", style="bold"))
        return
    console.print(Text(digest.title, style="bold"))
    console.print(Text(digest.verdict()))
    console.print(Text(f"{digest.asked()}. {digest.versions()}.", style="dim"))
    console.print(Text(digest.cost(), style="dim"))
    if len(digest.lines) > 1:
        _print_lines(digest, console)
    else:
        _print_curves(digest, console, in_full=bool(only))
    _print_files(files or {}, console)


def _print_lines(digest: SweepDigest, console: Console) -> None:
    """A line for each subject and dtype, with the worst of its curves."""
    lines = digest.lines
    print_heading(console, "By subject and format, the worst first")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("subject", overflow="fold", ratio=1)
    table.add_column("format", no_wrap=True)
    table.add_column("findings", justify="right", overflow="fold", max_width=15)
    table.add_column("ulps", justify="right", overflow="fold", max_width=9)
    table.add_column("of the worst curve", overflow="fold")
    for line in lines[:LISTED]:
        worst = line.worst
        grade = (found_grades(worst.grades) or [""])[0]
        findings = sum(line.grades[each] for each in found_grades(line.grades))
        where = f"at {number(worst.worst.input, worst.dtype)}" if worst.worst else ""
        said = ": ".join(filter(None, (digest.label(worst), where)))
        table.add_row(
            Text(short_subject(line.subject)),
            short_dtype(line.dtype),
            Text(f"{SIGNS[grade]} {findings:,}" if grade else "-", style=STYLES.get(grade, "")),
            _short(ulps_of(worst)),
            Text(said),
        )
    console.print(table)
    _print_left(len(lines) - LISTED, "subject", console)
    found = {grade for line in lines for grade in found_grades(line.grades)[:1]}
    meant = [f"{SIGNS[grade]} {grade}" for grade in SIGNS if grade in found]
    if meant:
        console.print(Text(f"Findings under the worst grade: {', '.join(meant)}.", style="dim"))


def _print_curves(digest: SweepDigest, console: Console, *, in_full: bool) -> None:
    """The curves of one subject in one format, and what was found in each."""
    curves = digest.curves
    few = len(curves) <= DETAILED
    inputs = {curve.inputs for curve in curves}
    each = f" ({min(inputs):,} inputs each)" if len(inputs) == 1 else ""
    print_heading(console, f"By target and output{each}, the worst first")
    table = _curve_table if few else _short_table
    console.print(table(digest, curves[:LISTED], inputs=len(inputs) > 1))
    _print_left(len(curves) - LISTED, "curve", console)
    found = [curve for curve in curves if found_grades(curve.grades)]
    # Of many curves one is told: the worst.
    for curve in found if in_full or few else found[:1]:
        _print_findings(digest, curve, console)


def _curve_table(digest: SweepDigest, curves: Sequence[Curve], *, inputs: bool) -> Table:
    """All grades, and the largest error with its numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("curve", overflow="fold", max_width=24)
    if inputs:
        table.add_column("inputs", justify="right", no_wrap=True)
    table.add_column("grades", overflow="fold", ratio=4)
    table.add_column("largest error", overflow="fold", ratio=5)
    for curve in curves:
        cells = [Text(digest.label(curve)), *([f"{curve.inputs:,}"] if inputs else [])]
        table.add_row(*cells, _grades(curve), Text(worst_text(curve)))
    return table


def _short_table(digest: SweepDigest, curves: Sequence[Curve], *, inputs: bool) -> Table:
    """Of very many curves: a line for each."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("curve", overflow="fold")
    for name in ("inputs", "exact", "findings", "ulps", "at"):
        if inputs or name != "inputs":
            table.add_column(name, justify="right", no_wrap=True)
    for curve in curves:
        found = found_grades(curve.grades)
        bad = sum(curve.grades[grade] for grade in found)
        said = f"{SIGNS[found[0]]} {bad:,}" if found else "-"
        table.add_row(
            Text(digest.label(curve)),
            *([f"{curve.inputs:,}"] if inputs else []),
            share(curve.grades.get("exact", 0), curve.inputs),
            Text(said, style=STYLES.get(found[0], "") if found else ""),
            _short(ulps_of(curve)),
            "-" if curve.worst is None else number(curve.worst.input, curve.dtype),
        )
    return table


def _grades(curve: Curve) -> Text:
    """Findings in their colour; no line breaks before a per cent sign."""
    parts = [
        Text(grades_text({grade: n}, curve.inputs).replace(" %", "%"), STYLES.get(grade, ""))
        for grade, n in curve.grades.items()
    ]
    return Text(", ").join(parts)


def _print_findings(digest: SweepDigest, curve: Curve, console: Console) -> None:
    print_heading(console, digest.label(curve))
    for told, said, left in told_of(digest, curve, RUNS):
        runs = f"{text.count(told.inputs, 'input')} in {text.count(told.number, 'run')}"
        head = f"{SIGNS[told.grade]} {told.grade}"
        print_indented(console, Text.assemble((head, STYLES.get(told.grade, "")), f": {runs}"))
        print_indented(console, MEANINGS[told.grade], 5, "dim")
        for line in said:
            print_indented(console, line, 5)
        if left:
            shorter = text.count(left, "run") if said else text.count(left, "run that is not kept")
            print_indented(console, f"… and {shorter} no longer than these", 5, "dim")


def _print_left(number_left: int, word: str, console: Console) -> None:
    if number_left > 0:
        console.print(Text(f"… and {text.count(number_left, f'more {word}')}", style="dim"))


def _short(ulps: float | None) -> str:
    return "-" if ulps is None else text.ulps_text(ulps).replace(" ulps", "").replace(" ulp", "")


def _print_files(files: Mapping[str, Path], console: Console) -> None:
    if files:
        console.print()
    for word, path in files.items():  # soft wrap: a broken path cannot be clicked or copied
        console.print(Text(f"{word}: {text.one_line(str(path), 4000)}"), soft_wrap=True)
