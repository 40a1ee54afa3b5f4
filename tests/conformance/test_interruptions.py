"""Ctrl-C while processes begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lossaudit.conformance.interruptions import interruptions_later


@pytest.mark.parametrize("others", [0, 1])
def test_an_interruption_that_comes_early_is_heard_afterwards(others):
    """Another thread does not block it."""
    seen, done = [], threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(others)]

    def begun() -> None:
        with interruptions_later():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            seen.append("went on")

    for thread in threads:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            begun()
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert seen == ["went on"]


def test_sigterm_waits_too_where_it_is_heard_as_ctrl_c():
    """As the command line hears it, once it is at work."""
    seen = []

    def begun() -> None:
        with interruptions_later():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            seen.append("went on")

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            begun()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["went on"]


def test_it_waits_where_the_first_process_begins_inside():
    """The resource tracker begins with it, and unblocks what it has blocked itself."""
    program = """
import multiprocessing, os, signal
from lossaudit.conformance.interruptions import interruptions_later

if __name__ == "__main__":
    try:
        with interruptions_later():
            os.kill(os.getpid(), signal.SIGINT)
            process = multiprocessing.get_context("spawn").Process(target=print)
            process.start()
            print("started", flush=True)
    except KeyboardInterrupt:
        process.join()
        print("heard", process.exitcode)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["started", "heard", "0"], done.stderr


def test_what_begins_inside_does_not_hear_it():
    with interruptions_later():
        process = subprocess.Popen(
            [sys.executable, "-c", "import os; print(os.getpid(), flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    with process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGINT)
        process.communicate(b"\n", timeout=30)
    assert process.returncode == 0
