"""A bar on a terminal, and nothing elsewhere: what is said of progress there is its user's."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn


class Bar:
    """How many of some things are done, shown while it is entered.

    Args:
        what: they are called.
        total: of them.
        done: before it begins.
        columns: shown behind the counts.
        console: where it is shown; standard error where None.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *columns: ProgressColumn,
        done: int = 0,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(stderr=True)
        counted = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*counted, *columns, console=self.console, transient=True)
        self._task = self._bar.add_task(what, total=total, completed=done)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self._bar.advance(self._task, count)
