"""Interpreters of others: what is said of one in which no worker can run."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from lossaudit.adapters.environments import (
    NAME,
    Environment,
    UnusableEnvironment,
    availability,
    examine,
    interpreter,
)
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.runtime import subnormals


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("echo hello", "is no Python that can run a worker: hello"),
        ("exit 3", "is no Python that can run a worker: it is silent"),
        ("echo SyntaxError: future >&2; exit 1", "can run a worker: SyntaxError: future"),
        ("""echo '{"python": [3, 8, 1], "missing": []}'""", "is Python 3.8.1; a worker needs 3.9"),
        ("""echo '{"python": [3, 12, 1], "missing": ["numpy"]}'""", "has no NumPy"),
        ("""echo '[1]'""", "is no Python"),
    ],
)
def test_an_interpreter_that_cannot_run_a_worker_is_refused(tmp_path: Path, says: str, reason: str):
    python = script(tmp_path, says)
    with pytest.raises(UnusableEnvironment) as caught:
        examine(Environment("old", python))
    assert str(caught.value).startswith(f"environment old: {python} ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_without_an_interpreter_is_refused(tmp_path: Path):
    plain = tmp_path / "notes.txt"
    plain.write_text("no program")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF and no more")
    broken.chmod(0o755)
    for path, reason in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path, "is a folder"),
        (plain, "is not executable"),
        (broken, "cannot be started"),
    ):
        with pytest.raises(UnusableEnvironment, match=reason):
            examine(Environment("", str(path)))


def test_an_interpreter_with_numpy_is_accepted_whatever_it_prints_first(tmp_path: Path):
    examine(Environment())
    examine(Environment("new", script(tmp_path, f'echo welcome; exec "{sys.executable}" "$@"')))


def test_packages_are_looked_for_in_the_environment(tmp_path: Path):
    python = script(tmp_path, """echo '{"python": [3, 11, 0], "missing": ["jax", "optax"]}'""")
    reason = availability(FRAMEWORKS["jax"], Environment("old", python))
    assert reason == "jax and optax not installed; install with: pip install jax optax"


def test_an_interpreter_says_what_it_is_and_has():
    found = interpreter(Environment())
    assert found.version == platform.python_version()
    assert Path(found.executable) == Path(sys.executable).resolve()
    assert found.installed["numpy"] == version("numpy")
    assert found.installed["pytest"] == version("pytest")


def test_subjects_bear_the_name_of_their_environment():
    subject = FRAMEWORKS["jax"].subjects[0]
    placed = replace(subject, environment="0.4.30")
    op = f"{subject.op}[{subject.mode},cpu]"
    assert (subject.name, subject.home) == (f"jax:{op}", "jax")
    assert (placed.name, placed.home) == (f"jax@0.4.30:{op}", "jax@0.4.30")
    assert placed.name_anywhere == subject.name == subject.name_anywhere
    assert Environment("0.4.30").home("jax") == placed.home


def test_names_can_stand_in_a_name_of_a_subject():
    assert all(NAME.fullmatch(name) for name in ("old", "torch-2.13", "2.13.0", "a_b"))
    assert not any(NAME.fullmatch(name) for name in ("", "a b", "a:b", "a@b", "-x", "a/b", "a\n"))


def test_what_becomes_of_subnormals_is_measured():
    def every_other(x: np.ndarray) -> np.ndarray:
        return x * np.where(np.arange(x.size) % 2, np.float32(0.5), np.float32(0))

    assert subnormals(lambda x: x * np.float32(0.5)) == "kept"
    assert subnormals(np.zeros_like) == "flushed"
    assert subnormals(every_other) == "flushed in part"
