"""What each op does under each misuse: in the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from rich.console import Console
from rich.text import Text

from ..conformance.misuse.matrix import Cell
from ..conformance.run import Absence
from . import markdown, text
from .console import print_heading, print_indented


@dataclass(frozen=True)
class Line:
    """Ops of one framework that do the same under a misuse."""

    home: str
    ops: tuple[str, ...]
    did: str
    loss: str
    said: str


def print_matrix(cells: Sequence[Cell], absent: Sequence[Absence], console: Console) -> None:
    """A part for each misuse, in it a paragraph for all ops of a framework that do the same."""
    for misuse, some in _by_misuse(cells).items():
        print_heading(console, f"{misuse} ({_counts(some)})")
        for line in lines(some):
            print_indented(
                console,
                Text.assemble(
                    (line.did, _STYLES.get(line.did, "")), f"  {line.home}: {', '.join(line.ops)}"
                ),
            )
            for more in filter(None, (line.loss, line.said)):
                print_indented(console, text.one_line(more, 300), 6, "dim")
    console.print()
    for absence in absent:
        note = f"not asked: {absence.framework}: {absence.reason}; {absence.hint}"
        console.print(Text(text.one_line(note, 300), style="dim"))


STATES = ("SILENT", "warns", "raises", "harmless", "no bound", "LOST")

_STYLES = {
    "SILENT": "bold red",
    "LOST": "bold red",
    "warns": "yellow",
    "raises": "green",
    "harmless": "green",
}


def matrix_markdown(cells: Sequence[Cell], absent: Sequence[Absence]) -> str:
    """A count for each misuse, then a table for each."""
    parts = _by_misuse(cells)
    seen = [name for name in STATES if _of(cells, name)]
    counted = [(name, *(f"{_of(some, each)}" for each in seen)) for name, some in parts.items()]
    blocks = [markdown.table(("misuse", *seen), counted)]
    for name, some in parts.items():
        rows = [(e.did, e.home, ", ".join(e.ops), e.loss, e.said) for e in lines(some)]
        blocks += [f"### {markdown.escaped(name)}", markdown.table(_HEAD, rows, 600)]
    blocks += [f"Not asked: {absence.framework}, {absence.reason}." for absence in absent]
    return "\n\n".join(blocks) + "\n"


_HEAD = ("", "framework", "ops", "mean loss", "what it says")


def lines(cells: Iterable[Cell]) -> list[Line]:
    """Cells of one misuse, those that do the same together."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for cell in cells:
        key = (cell.subject.home, state(cell), _loss(cell), text.one_line(cell.said, 120))
        found.setdefault(key, []).append(cell.subject.op)
    return [
        Line(home, tuple(ops), did, loss, said) for (home, did, loss, said), ops in found.items()
    ]


def state(cell: Cell) -> str:
    """In a word; what is silent and harmless is no matter."""
    if cell.behaviour == "silent":
        return "no bound" if cell.harmless is None else "harmless" if cell.harmless else "SILENT"
    return "LOST" if cell.behaviour == "lost" else cell.behaviour


def _loss(cell: Cell) -> str:
    if cell.behaviour in ("raises", "lost") or cell.harmless:
        return ""
    off = f"{cell.off:.3g}" if isfinite(cell.off) else "no number"
    return f"{cell.came:.4f}, meant {cell.right:.4f}; a row is off by up to {off}"


def _by_misuse(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.misuse, []).append(cell)
    return found


def _of(cells: Iterable[Cell], name: str) -> int:
    return sum(state(cell) == name for cell in cells)


def _counts(cells: Sequence[Cell]) -> str:
    parts = ((name, _of(cells, name)) for name in STATES)
    return ", ".join(f"{number} {name}" for name, number in parts if number)
