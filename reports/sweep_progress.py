"""How far a sweep is: a bar with the time left on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .bar import Bar

if TYPE_CHECKING:
    from ..conformance.sweep.chunk import Done

SECONDS = 60.0
"""Between two lines where there is no terminal."""


class SweepProgress(Bar):
    """Told of each chunk that was done.

    Args:
        total: chunks of the sweep, or of the shard.
        before: those that an earlier start has done.
        console: where it is shown; standard error where None.
    """

    def __init__(self, total: int, before: int = 0, console: Console | None = None) -> None:
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        super().__init__("chunks", total, *times, done=before, console=console)
        self._total, self._done, self._before = total, before, before
        self._begun = self._said = time.monotonic()

    def __call__(self, done: Done) -> None:
        del done
        self._done += 1
        self.advance()
        now = time.monotonic()
        if not self.console.is_terminal and now - self._said >= SECONDS:
            self._said = now
            rate = (self._done - self._before) / (now - self._begun)
            left = (self._total - self._done) / rate / 60
            self.console.print(f"{self._done} of {self._total} chunks, about {left:.0f} min left")
