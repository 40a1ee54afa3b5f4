"""Two sweeps compared: the terminal, and Markdown for a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..conformance.comparison import KINDS
from ..conformance.run import GRADES
from ..conformance.sweep.compare import BinadeChange, CurveComparison, SweepComparison
from ..conformance.sweep.record import Worst
from . import text
from .comparison_digest import SIGNS
from .comparison_terminal import STYLES
from .console import print_heading, print_indented, print_more
from .markdown import escaped
from .sweep_digest import number, short_dtype, short_subject

LISTED = 10
"""Curves, and entries of each other list, that are told."""

BINADES = 3
"""Binades of each curve that are told: the worst."""


def print_sweep_comparison(
    comparison: SweepComparison, console: Console, files: Mapping[str, Path] | None = None
) -> None:
    """What two sweeps say of each other, the worst first.

    Args:
        comparison: of them.
        console: where it is written.
        files: what was written, by what it is ("comparison", "summary").
    """
    console.print()
    console.print(Text(verdict(comparison), style="bold"))
    moved = [curve for curve in comparison.curves if curve.kind]
    if moved:
        print_heading(console, f"Curves that moved ({len(moved):,})")
    for curve in moved[:LISTED]:
        head = f"{SIGNS[curve.kind]} {curve.kind}"
        style = STYLES.get(curve.kind, "")
        print_indented(console, Text.assemble((head, style), f" {_name(curve)}"))
        for line in told(curve):
            print_indented(console, line, 5)
    print_more(console, len(moved) - LISTED)
    for title, entries in _lists(comparison):
        print_heading(console, title)
        for entry in entries[:LISTED]:
            print_indented(console, entry)
        print_more(console, len(entries) - LISTED)
    if files:
        console.print()
    for word, path in (files or {}).items():
        console.print(Text(f"{word}: {text.one_line(str(path), 4000)}"), soft_wrap=True)


def sweep_comparison_markdown(comparison: SweepComparison) -> str:
    """The verdict, a table of the curves that moved, the worst first, and the lists."""
    moved = [curve for curve in comparison.curves if curve.kind]
    pieces = [f"## {escaped(verdict(comparison, '→'))}"]
    if moved:
        rows = [["kind", "curve", "grades and largest error", "binades"], ["---"] * 4]
        for curve in moved[:LISTED]:
            first, *others = told(curve, "→")
            shown = [f"{SIGNS[curve.kind]} {curve.kind}", _name(curve), first, "; ".join(others)]
            rows.append([escaped(text.one_line(cell, 300)) for cell in shown])
        pieces.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        if len(moved) > LISTED:
            pieces.append(f"… and {len(moved) - LISTED:,} more in the comparison.")
    for title, entries in _lists(comparison):
        lines = [f"- {escaped(entry)}" for entry in entries[:LISTED]]
        left = len(entries) - LISTED
        lines += [f"- … and {left:,} more in the comparison"] if left > 0 else []
        pieces.append("\n".join([f"### {escaped(title)}", "", *lines]))
    return "\n\n".join(pieces) + "\n"


def verdict(comparison: SweepComparison, arrow: str = "->") -> str:
    """The outcome in a sentence or two."""
    curves = comparison.curves
    kinds = Counter(curve.kind for curve in curves)
    same = [curve for curve in curves if not curve.kind]
    answers = text.count(sum(curve.inputs for curve in same), "answer")
    gone = sum(p.state == "gone" for p in comparison.presence)
    if comparison.verdict == "nothing moved":
        said = f"Nothing moved: {answers} of {text.count(len(same), 'curve')}"
        return f"{said} are identical bit for bit with {_versions(comparison, arrow)}."
    parts = [f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind]]
    parts += [f"{text.count(gone, 'subject or curve', 'subjects or curves')} gone"] if gone else []
    regressed = comparison.verdict == "regressed"
    head = "Regressed" if regressed else "Moved, and nothing regressed,"
    of = f"of {text.count(len(curves), 'curve')} {', '.join(parts)}"
    end = f"; {answers} of the other {len(same):,} are identical bit for bit" if same else ""
    return f"{head} with {_versions(comparison, arrow)}: {of}{end}."


def _versions(comparison: SweepComparison, arrow: str) -> str:
    old, new = comparison.old.versions, comparison.new.versions
    names = list(dict.fromkeys([*old, *new]))
    moved = [name for name in names if old.get(name) != new.get(name)]
    if not moved:
        both = ", ".join(f"{name} {old[name]}" for name in names)
        return text.one_line(f"{both or 'nothing that has a version'} on both sides", 200)
    absent = "absent"
    shown = (f"{n} {old.get(n, absent)} {arrow} {new.get(n, absent)}" for n in moved)
    return text.one_line(", ".join(shown), 200)


def told(curve: CurveComparison, arrow: str = "->") -> list[str]:
    """What became of a curve: first of the whole, then of its worst binades."""
    worst = f"largest error {_worst(curve.old_worst, curve.dtype)}"
    if curve.old_worst != curve.new_worst:
        worst = f"{worst} {arrow} {_worst(curve.new_worst, curve.dtype)}"
    first = "; ".join(filter(None, (_grades(curve.old, curve.new, arrow), worst)))
    # What became of findings before what moved within a class.
    binades = sorted(curve.binades, key=lambda change: change.kind in ("unspecified", "moved"))
    said = [_binade(change, arrow) for change in binades[:BINADES]]
    left = len(binades) - BINADES
    if left > 0:
        kinds = Counter(change.kind for change in binades[BINADES:])
        more = ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind])
        said.append(f"{text.count(left, 'more binade')}: {more}")
    return [first, *said]


def _binade(change: BinadeChange, arrow: str) -> str:
    ulps = text.ulps_text(change.old_ulps)
    if change.old_ulps != change.new_ulps:
        ulps = f"{ulps} {arrow} {text.ulps_text(change.new_ulps)}"
    grades = _grades(change.old, change.new, arrow) or "the same grades"
    of = text.count(change.inputs, "input")
    return text.one_line(f"{change.kind} in {change.name} ({of}): {grades}, {ulps}", 300)


def _grades(old: dict[str, int], new: dict[str, int], arrow: str) -> str:
    """`exact 50 -> 44, precision 14 -> 20`: those that changed, the worst last."""
    both = ((grade, old.get(grade, 0), new.get(grade, 0)) for grade in GRADES)
    return ", ".join(f"{grade} {a:,} {arrow} {b:,}" for grade, a, b in both if a != b)


def _worst(worst: Worst | None, dtype: str) -> str:
    if worst is None:
        return "none"
    value, right = (number(each, dtype) for each in (worst.value, worst.right))
    where = f"at {number(worst.input, dtype)}"
    return f"{text.ulps_text(worst.ulps)} ({value} {where}, right {right})"


def _name(curve: CurveComparison) -> str:
    around = f"{curve.around}, " if curve.around else ""
    label = text.one_line(f"{around}{curve.target} {curve.output}", 80)
    return f"{short_subject(curve.subject)} {short_dtype(curve.dtype)} {label}"


def _lists(comparison: SweepComparison) -> Iterator[tuple[str, list[str]]]:
    """What is gone, what is new, and notes; titles with their entries."""
    for state in ("gone", "new"):
        found = [p for p in comparison.presence if p.state == state]
        if found:
            said = [text.one_line(f"{p.subject} {p.part}", 200) for p in found]
            yield f"{state.capitalize()} ({len(found):,})", said
    if comparison.notes:
        yield (
            f"Notes ({len(comparison.notes):,})",
            [text.one_line(n, 300) for n in comparison.notes],
        )
