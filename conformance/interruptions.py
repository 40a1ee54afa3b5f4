"""Ctrl-C while processes begin: it waits, and never reaches them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def interruptions_later() -> Iterator[None]:
    """What begins here inherits SIGINT as blocked; one that comes meanwhile is heard at the end.

    Were it ignored, which is inherited too, it would be lost.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # It begins with the first process, and unblocks SIGINT then.
    resource_tracker.ensure_running()
    with _noted():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _noted() -> Iterator[None]:
    """The handler of SIGINT is called at the end, whichever thread took the signal.

    Handlers are the main thread's, and no other may set them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[FrameType | None] = []
    before = signal.signal(signal.SIGINT, lambda _, frame: heard.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard and callable(before):
        before(signal.SIGINT, heard[0])


def leave_interruptions_to_the_parent() -> None:
    """Called in a process that began so: nothing that it starts hears SIGINT either."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
