"""Environments: the interpreters that subjects run in, and what is wrong with one that cannot."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .installed import missing
from .subject import Framework

SCRIPT = Path(__file__).with_name("installed.py")
OLDEST = (3, 9)
LOOK_SECONDS = 60.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class UnusableEnvironment(Exception):
    """An interpreter in which no worker can run; the text says which and why."""


@dataclass(frozen=True)
class Environment:
    """An interpreter and its name.

    Attributes:
        name: what the names of its subjects bear, "" where a run has this one alone.
        python: the path of its interpreter; lossaudit need not be installed there.
    """

    name: str = ""
    python: str = sys.executable

    def home(self, framework: str) -> str:
        """A framework of this environment, such as "jax@old"."""
        return f"{framework}@{self.name}" if self.name else framework


def examine(environment: Environment) -> None:
    """Find out whether workers can run in an environment.

    Raises:
        UnusableEnvironment: there is no such interpreter, or it is too old or without NumPy.
    """
    if "numpy" in lacks(environment, ("numpy",)):
        raise _unusable(environment, "has no NumPy, which a worker needs")


def availability(framework: Framework, environment: Environment | None = None) -> str:
    """'' where a framework can be used in an environment, or the reason.

    Its packages are installed there, and it loads, as far as that was tried.
    """
    environment = environment or Environment()
    absent = lacks(environment, framework.packages)
    if absent:
        return f"{' and '.join(absent)} not installed; install with: {framework.install}"
    return framework.placed(framework, environment.python).unusable


def lacks(environment: Environment, packages: tuple[str, ...]) -> list[str]:
    """Those of some packages that an environment lacks.

    Raises:
        UnusableEnvironment: nobody answers there.
    """
    if environment.python == sys.executable:
        return missing(packages)
    return list(_asked(environment, packages))


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter says of itself.

    Attributes:
        executable: where it really is, all links followed.
        installed: the version of every distribution that it has, by normalised name.
    """

    version: str
    executable: str
    platform: str
    installed: dict[str, str]


def interpreter(environment: Environment) -> Interpreter:
    """Ask an environment what it is and has; asked anew each time, since that may change.

    Raises:
        UnusableEnvironment: nobody answers there, or it is too old.
    """
    answer = _answer(environment, ())
    return Interpreter(
        version=".".join(map(str, answer["python"])),
        executable=answer["executable"],
        platform=answer["platform"],
        installed=answer["installed"],
    )


@functools.cache
def _asked(environment: Environment, packages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str, _answer(environment, packages)["missing"]))


def _answer(environment: Environment, packages: tuple[str, ...]) -> dict[str, Any]:
    """What an interpreter answers to installed.py."""
    path = Path(environment.python)
    if not path.exists():
        raise _unusable(environment, "does not exist")
    if path.is_dir():
        raise _unusable(environment, "is a folder; name the interpreter in it")
    if not os.access(path, os.X_OK):
        raise _unusable(environment, "is not executable")
    try:
        done = subprocess.run(
            [environment.python, "-I", str(SCRIPT), *packages],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LOOK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unusable(environment, f"did not answer within {LOOK_SECONDS:g} s") from None
    except OSError as error:
        raise _unusable(environment, f"cannot be started: {error.strerror or error}") from error
    try:
        # The last line: what is in site-packages may print before it.
        answer = json.loads(done.stdout.splitlines()[-1])
        version, _ = tuple(map(int, answer["python"])), list(answer["missing"])
    except (IndexError, KeyError, TypeError, ValueError):
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        reason = f"is no Python that can run a worker: {said[-1][:200] if said else 'it is silent'}"
        raise _unusable(environment, reason) from None
    if version < OLDEST:
        found, oldest = (".".join(map(str, v)) for v in (version, OLDEST))
        raise _unusable(environment, f"is Python {found}; a worker needs {oldest} or later")
    return answer


def _unusable(environment: Environment, reason: str) -> UnusableEnvironment:
    name = f"environment {environment.name}: " if environment.name else ""
    return UnusableEnvironment(f"{name}{environment.python} {reason}.")


def missing_device(framework: Framework, device: str, environment: Environment) -> str:
    """Why a framework cannot be audited on a device, or ''. Starts a worker to see."""
    here = framework.placed(framework, environment.python)
    if here.subjects and not any(here.on(subject, device) for subject in here.subjects):
        return "is not audited there"
    if reason := availability(framework, environment):
        return reason
    from .client import UnusableFramework, WorkerPool

    try:
        asked = {framework.name: here}
        with WorkerPool(environment.python, frameworks=asked, device=device) as pool:
            there = pool.facts(framework.name).get("devices", "cpu").split(", ")
    except UnusableFramework as error:
        return error.reason
    return "" if device in there else f"no such device here, only {', '.join(there)}"
