"""Ctrl-C and SIGTERM while processes begin: they wait, and never reach them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

ENDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions_later() -> Iterator[None]:
    """What begins here inherits them as blocked; one that comes meanwhile is heard at the end.

    Were they ignored, which is inherited too, it would be lost; were they heard at once, a process
    that has begun might be known to nobody.
    """
    # It begins with the first process, and unblocks them then.
    resource_tracker.ensure_running()
    with _noted():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _noted() -> Iterator[None]:
    """The handlers are called at the end, whichever thread took the signal.

    Handlers are the main thread's, and no other may set them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        heard.append(number)

    # None is a handler that Python did not install, and cannot install again.
    before = {number: signal.getsignal(number) for number in ENDS}
    ours = [number for number, handler in before.items() if handler is not None]
    try:
        for number in ours:
            signal.signal(number, note)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
    if heard:
        signal.raise_signal(heard[0])


def leave_interruptions_to_the_parent() -> None:
    """Called in a process that began so: it ends by SIGTERM, and what it starts hears no SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
