"""The terminal: what became of every row between two versions, in a few screens.

Everything is readable without colour and at 80 columns. Text of a comparison is never Rich markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..conformance.comparison import KINDS, Change, Comparison, Difference, Presence
from . import text
from .comparison_digest import (
    DTYPES,
    SAME,
    SIGNS,
    ComparisonDigest,
    OpLine,
    call_text,
    distinct,
    grades_text,
    move_text,
    short_outcome,
)
from .console import print_heading, print_indented, print_more

STYLES = {
    "crashed": "bold red",
    "gone": "bold",
    "policy": "magenta",
    "convention": "red",
    "worse": "dark_orange",
    "better": "blue",
}


def print_comparison(
    comparison: Comparison, console: Console, files: Mapping[str, Path] | None = None
) -> None:
    """What two runs say of each other, worst first.

    Args:
        comparison: of the runs.
        console: where it is written.
        files: what was written, by what it is ("report", "comparison file").
    """
    digest = ComparisonDigest(comparison)
    console.print()
    if not comparison.complete:
        console.print(Text("PARTIAL COMPARISON: not all was compared", style="bold reverse"))
    console.print(Text(digest.verdict(), style="bold"))
    console.print(Text(_about(comparison), style="dim"))
    _print_kinds(digest, console)
    _print_conventions(digest, console)
    for state in ("gone", "new"):
        heading = f"{state.capitalize()} ({digest.number_of(state):,})"
        _print_presence(digest.presence[state], heading, console)
    _print_worst(digest, console)
    _print_ops(digest, console)
    _print_searches(digest, console)
    _print_laws(digest, console)
    _print_notes(comparison, console)
    _print_files(files or {}, console)


def _about(comparison: Comparison) -> str:
    sides = [comparison.old, comparison.new]
    said = [
        f"corpus {comparison.corpus}",
        *(text.one_line(f"depth {d}", 30) for d in dict.fromkeys(side.depth for side in sides)),
        *(text.one_line(p, 60) for p in dict.fromkeys(side.platform for side in sides)),
    ]
    said += [text.duration(comparison.seconds)] if comparison.seconds else []
    return ", ".join(said)


def _print_kinds(digest: ComparisonDigest, console: Console) -> None:
    """Rows of each kind, in words; a comparison in which nothing moved needs no table."""
    found = {kind: counts for kind, counts in digest.kinds.items() if any(counts)}
    if not found:
        return
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for kind, (rows, _) in found.items():
        table.add_row(
            Text(f"{SIGNS[kind]} {kind}", style=STYLES.get(kind, "")),
            text.count(rows, "row"),
            Text(KINDS[kind], style="dim"),
        )
    table.add_row(
        f"{SIGNS[SAME]} same",
        text.count(digest.comparison.same, "row"),
        Text("the same bits", style="dim"),
    )
    console.print(table)


def _print_conventions(digest: ComparisonDigest, console: Console, limit: int = 8) -> None:
    found = digest.conventions
    if not found:
        return
    number = len(digest.comparison.conventions)
    print_heading(console, f"Conventions measured otherwise ({number:,})")
    for name, entry in found[:limit]:
        print_indented(console, text.one_line(name, 160))
        said = f"{entry.field}: {entry.old} -> {entry.new}"
        print_indented(console, text.one_line(said, 240), 5)
        if entry.input:
            shown = f"on {entry.input}: {entry.evidence}"
            print_indented(console, text.one_line(shown, 300), 5, "dim")
    print_more(console, len(found) - limit)


def _print_presence(
    found: Sequence[tuple[str, Presence]], heading: str, console: Console, limit: int = 10
) -> None:
    if not found:
        return
    print_heading(console, heading)
    for name, entry in found[:limit]:
        what = f"{name}, {entry.part}" if entry.part else name
        reason = f": {entry.reason}" if entry.reason else ""
        print_indented(console, text.one_line(f"{what}{reason}", 300))
    print_more(console, len(found) - limit)


def _print_worst(digest: ComparisonDigest, console: Console) -> None:
    if not digest.changes:
        return
    worst = digest.worst()
    number = len(digest.changes)
    print_heading(console, f"Worst changes, distinct in cause ({len(worst)} of {number:,})")
    for change, alike in worst:
        _print_change(digest, change, alike, console)


def _print_change(digest: ComparisonDigest, change: Change, alike: int, console: Console) -> None:
    subject = f" {text.one_line(change.subject, 120)} {text.one_line(change.dtype, 12)}"
    style = STYLES.get(change.kind, "")
    print_indented(console, Text.assemble((f"{SIGNS[change.kind]} {change.kind}", style), subject))
    print_indented(console, call_text(change), 5)
    print_indented(console, short_outcome(change), 5)
    if change.message and change.old and change.new:
        print_indented(console, text.one_line(change.message, 240), 5)
    numbers = "; ".join(part for part in (grades_text(change), move_text(change)) if part)
    if numbers:
        print_indented(console, numbers, 5)
    output = text.one_line(change.output, 20)
    where = f"{change.rows:,} of {change.of:,} rows of {text.one_line(change.region, 40)}, {output}"
    more = f"; {alike:,} more like it" if alike else ""
    print_indented(console, f"{where}{more}; id {digest.id(change)}", 5, "dim")


def _print_ops(digest: ComparisonDigest, console: Console) -> None:
    """A line for each op that is not the same in every bit; the others in one sentence."""
    changed = [line for line in digest.ops if not line.unchanged]
    unchanged = [line for line in digest.ops if line.unchanged]
    if changed:
        print_heading(console, "By op, in rows")
        console.print(_op_table(changed))
    if changed and unchanged:
        rows = text.count(sum(line.rows for line in unchanged), "row")
        ops = text.count(len(unchanged), "more op")
        console.print(Text(f"{ops}: the same bits in all of {rows}.", style="dim"))


def _op_table(lines: Sequence[OpLine]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("op", overflow="fold", min_width=18)
    table.add_column("dtypes", overflow="fold", max_width=8)
    for name in ("rows", "same", "moved", "better", "worse"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("farthest", justify="right", overflow="fold", max_width=8)
    for line in lines:
        dtypes = " ".join(DTYPES.get(dtype, text.one_line(dtype, 8)) for dtype in line.dtypes)
        table.add_row(
            Text(text.one_line(f"{line.framework} {line.op}", 80)),
            Text(dtypes, style="dim"),
            f"{line.rows:,}",
            f"{line.same:,}",
            f"{line.moved:,}",
            f"{line.better:,}",
            Text(f"{line.worse:,}", style="bold" if line.worse else ""),
            _short_ulps(line.largest),
        )
    return table


def _short_ulps(ulps: float | None) -> str:
    return "-" if ulps is None else text.ulps_text(ulps).replace(" ulps", "").replace(" ulp", "")


def _print_searches(digest: ComparisonDigest, console: Console, limit: int = 5) -> None:
    if not digest.searches:
        return
    print_heading(console, "Search for differences beyond the corpus")
    for line in digest.searches:
        print_indented(console, str(line))
        for entry in distinct(line.found, limit):
            _print_difference(entry, console)
        print_more(console, len(line.found) - limit)
        for entry in line.failed[:limit]:
            said = f"{entry.subject} {entry.dtype}: {entry.message}"
            print_indented(console, text.one_line(said, 300), 5, "dim")
        print_more(console, len(line.failed) - limit)


def _print_difference(entry: Difference, console: Console) -> None:
    subject = text.one_line(f" {entry.subject} {entry.dtype}: ", 160)
    rows = f"{text.count(entry.differing, 'row')} of {entry.rows:,} differ"
    style = STYLES.get(entry.kind, "")
    head = Text.assemble((f"{SIGNS[entry.kind]} {entry.kind}", style), f" {subject.strip()} {rows}")
    print_indented(console, head, 5)
    call = call_text(entry)
    print_indented(console, f"{call}: {short_outcome(entry)}", 8)
    apart = [] if entry.distance is None else [f"{text.ulps_text(entry.distance)} apart"]
    apart += [] if entry.largest is None else [f"at most {text.ulps_text(entry.largest)}"]
    if apart:
        print_indented(console, ", ".join(apart), 8, "dim")


def _print_laws(digest: ComparisonDigest, console: Console, limit: int = 10) -> None:
    if not digest.laws:
        return
    print_heading(console, f"Findings of only one version ({len(digest.laws):,})")
    for law in digest.laws[:limit]:
        where = f"{law.subject} {law.dtype} {law.region}, {law.output}"
        said = (
            f"{law.state}: law {law.law}, {where}: {law.old} -> {law.new} (finding {law.finding})"
        )
        print_indented(console, text.one_line(said, 300))
    print_more(console, len(digest.laws) - limit)


def _print_notes(comparison: Comparison, console: Console, limit: int = 8) -> None:
    if not comparison.notes:
        return
    print_heading(console, f"Notes ({len(comparison.notes):,})")
    for note in comparison.notes[:limit]:
        print_indented(console, text.one_line(note, 300))
    print_more(console, len(comparison.notes) - limit)


def _print_files(files: Mapping[str, Path], console: Console) -> None:
    if files:
        console.print()
    for word, path in files.items():  # soft wrap: a broken path cannot be clicked or copied
        console.print(Text(f"{word}: {text.one_line(str(path), 4000)}"), soft_wrap=True)
