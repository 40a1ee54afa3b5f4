"""What changes from one op to another, in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from . import text
from .conventions import WIDTH, print_wrapped
from .porting import BY_HAND, Ported, counted


def print_port(port: Ported, console: Console) -> None:
    """The differences, and below them the code, which can be copied as it stands."""
    width = min(console.width, WIDTH)
    pair = f"{port.old.name} -> {port.new.name}"
    console.print(Text(text.one_line(pair, 300), style="bold"), soft_wrap=True)
    console.print(Text(counted(port.differences), style="dim"))
    for each in port.differences:
        mark = "! " if each.how == BY_HAND else "- "
        turn = f"{each.field}: {each.old} -> {each.new}"
        print_wrapped(console, mark + turn, width, 0, "bold" if each.how == BY_HAND else "")
        for line in filter(None, (each.words, *each.shown)):
            print_wrapped(console, line, width, 6, "dim")
    if any(each.how == BY_HAND for each in port.differences):
        console.print(Text("! is not seen to by the code below.", style="dim"))
    console.print()
    code = f"# {pair}\n{port.code}" if port.code else port.reason
    for line in code.splitlines():
        console.print(Text(text.visible(line)), soft_wrap=True)
