"""Programs that ask one framework alone, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...adapters.registry import FRAMEWORKS
from ...adapters.subject import Subject

START_SECONDS = 300.0
"""Of a program, to import its framework; as the worker pool allows."""


class NotTrained(Exception):
    """A training, or whatever else was asked of a framework, came to nothing; the text says why."""


def subject_of(
    framework: str,
    mode: str = "eager",
    operation: str = "cross_entropy",
    target: str = "index",
) -> Subject:
    """The op that a framework's users call: if nothing else is said, that of class indices."""
    return next(
        s
        for s in FRAMEWORKS[framework].subjects
        if (s.operation, s.target, s.mode) == (operation, target, mode) and not s.misuse
    )


def run_alone(
    python: str, program: str, framework: str, dtype: str, task: Mapping[str, Any], seconds: float
) -> dict[str, np.ndarray]:
    """What a program of `adapters/` gives for the arrays of a task, in at most so many seconds.

    Raises:
        NotTrained: it gave nothing.
    """
    _, environment = FRAMEWORKS[framework].worker(subject_of(framework), dtype)
    with tempfile.TemporaryDirectory(prefix="lossaudit-alone-") as folder:
        given, came = Path(folder) / "task.npz", Path(folder) / "result.npz"
        np.savez(given, **task)
        try:
            done = subprocess.run(
                [python, "-I", program, framework, dtype, str(given), str(came)],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise NotTrained(f"{framework} alone: no end after {seconds:.0f} s") from late
        except OSError as error:
            why = error.strerror or error
            raise NotTrained(f"{framework} alone: {python} cannot be run: {why}") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise NotTrained(f"{framework} alone: {last}")
        return _read(came, framework)


def _read(path: Path, framework: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise NotTrained(f"{framework} alone: it ended and left no result") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = f"{type(error).__name__}: {error}"
        raise NotTrained(f"{framework} alone: it left no result that can be read: {why}") from error
