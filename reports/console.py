"""What the summaries in the terminal share: headings, indented text, and what is left out.

Text of a run is never Rich markup.
"""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text


def print_indented(console: Console, content: Text | str, indent: int = 2, style: str = "") -> None:
    """Wrapped lines keep the indentation, so that a long name does not look like a new entry."""
    shown = content if isinstance(content, Text) else Text(content, style=style)
    console.print(Padding(shown, (0, 0, 0, indent), expand=False))


def print_heading(console: Console, content: str) -> None:
    """A line in bold after an empty one."""
    console.print()
    console.print(Text(content, style="bold"))


def print_more(console: Console, number: int) -> None:
    """How many entries the report has beyond those shown, if any."""
    if number > 0:
        console.print(Text(f"  … and {number:,} more in the report", style="dim"))
