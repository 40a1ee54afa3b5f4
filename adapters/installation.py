"""Environments made for a set of requirements: a virtual environment, filled by pip, and kept.

    <cache>/environments/<label>-<digest>/
        venv/         the environment; its interpreter is venv/bin/python
        made.json     what was installed: written last, so an environment without it is half made
        install.log   all that venv and pip printed
        lock          held while the environment is made, so that two starts do not make it at once

pip runs under the user's own configuration; nothing is added to it but what keeps pip inside the
environment. lossaudit itself is not installed there: workers load it by its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from .environments import Environment, Interpreter, UnusableEnvironment, interpreter
from .pip_errors import PROGRESS, Failure, explain, explain_venv
from .requirements import Requirements, parse

FORMAT = 1
"""Of folders and stamps; another one makes every environment anew."""

LONGEST_LABEL = 60
GRACE_SECONDS = 10.0
"""For pip to remove its temporary files when it is ended. They can be gigabytes."""

PIP = ["-I", "-u", "-m", "pip", "--disable-pip-version-check", "--no-input"]
INSTALL = [*PIP, "install", "--progress-bar", "off"]

# What would make pip install elsewhere or more, or let it see what is outside the environment.
# Everything else of the user's configuration holds.
WITHHELD = (
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
    "PIP_DRY_RUN",
    "PIP_EDITABLE",
    "PIP_GROUP",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_REQUIREMENT",
    "PIP_ROOT",
    "PIP_TARGET",
)
# Against `user = true` in a pip.conf, which no environment allows; a variable has precedence.
GIVEN = {"PIP_USER": "0"}

Say = Callable[[str], object]


class FailedInstallation(UnusableEnvironment):
    """An environment that could not be made; the text says why, what to do, where the log is."""


@dataclass(frozen=True)
class _Place:
    """Where the environment of a set of requirements is kept."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / "made.json"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"


def environment_for(text: str, name: str, say: Say, python: str = sys.executable) -> Environment:
    """An environment with what some requirements ask for, and NumPy; made where there is none yet.

    Args:
        text: the requirements, such as "jax==0.4.30 jaxlib==0.4.30 optax==0.2.3".
        name: that of the environment.
        say: is told what happens, line by line; making one takes minutes where much is downloaded.
        python: the interpreter that the environment is made from.

    Raises:
        WrongRequirements: the requirements are none.
        UnusableEnvironment: no environment can be made from the interpreter.
        FailedInstallation: pip could not install them.
    """
    requirements = parse(text)
    maker = Environment(name, str(Path(shutil.which(python) or python).absolute()))
    about = interpreter(maker)
    try:
        place = _place(requirements, about)
        environment = Environment(name, str(place.python))
        record, _ = _kept(place, environment)
        if record is None:
            with _locked(place, say) as lock:
                # Another process may have made it meanwhile.
                record, left = _kept(place, environment)
                if record is None:
                    if left:
                        say(left)
                    _Making(maker, about, environment, place, requirements, say, lock).make()
                    return environment
        say(
            f"using the environment for {requirements} of {record.made}: "
            f"{_versions(requirements, record.installed)} (in {place.folder})"
        )
    except BrokenPipeError:  # of the one who is told
        raise
    except OSError as error:
        where = error.filename or cache()
        raise FailedInstallation(
            f"{_of(name)}the folder where environments are kept cannot be used: {where}: "
            f"{error.strerror or error}. Set LOSSAUDIT_CACHE to another."
        ) from error
    return environment


def installed(environment: Environment) -> dict[str, str]:
    """The version of every distribution in an environment, by normalised name.

    Raises:
        UnusableEnvironment: nobody answers there.
    """
    return interpreter(environment).installed


def cache() -> Path:
    """The folder for what can be made again."""
    named = os.environ.get("LOSSAUDIT_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # a relative one is to be ignored, says the XDG specification
        return base / "lossaudit"
    try:
        return Path.home() / ".cache" / "lossaudit"
    except RuntimeError:
        reason = "there is no home folder to keep environments in; set LOSSAUDIT_CACHE to one"
        raise FailedInstallation(f"{reason}.") from None


def _place(requirements: Requirements, about: Interpreter) -> _Place:
    asked = [FORMAT, requirements.identity, about.version, about.executable, about.platform]
    digest = hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()
    label = requirements.label[:LONGEST_LABEL].rstrip("-.")
    return _Place(cache() / "environments" / f"{label}-{digest}")


@dataclass(frozen=True)
class _Record:
    """What made.json says of an environment."""

    made: str
    installed: dict[str, str]


def _kept(place: _Place, environment: Environment) -> tuple[Optional[_Record], str]:
    """The record of an environment that is as it was made; else what there is in its place."""
    if not place.stamp.exists():
        left = "an installation that did not finish is begun anew"
        return None, left if place.venv.exists() else ""
    try:
        stamp = json.loads(place.stamp.read_text(encoding="utf-8"))
        record = _Record(str(stamp["made"]), dict(stamp["installed"]))
    except (KeyError, TypeError, ValueError):
        return None, f"{place.stamp} is damaged: the environment is made anew"
    with contextlib.suppress(UnusableEnvironment):
        if installed(environment) == record.installed:
            return record, ""
    return None, "the environment was changed after it was made: it is made anew"


def _versions(requirements: Requirements, found: dict[str, str]) -> str:
    names = dict.fromkeys([*(each.name for each in requirements.each), "numpy"])
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


@contextlib.contextmanager
def _locked(place: _Place, say: Say) -> Iterator[int]:
    """Hold the lock of an environment; its file descriptor."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes the same environment (in {place.folder})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@dataclass(frozen=True)
class _Making:
    """One environment being made, under its lock."""

    maker: Environment
    about: Interpreter
    environment: Environment
    place: _Place
    requirements: Requirements
    say: Say
    lock: int

    def make(self) -> None:
        begun = time.monotonic()
        version = self.about.version
        self.say(
            f"making an environment for {self.requirements} "
            f"with Python {version} (in {self.place.folder})"
        )
        self.place.stamp.unlink(missing_ok=True)
        self.place.log.unlink(missing_ok=True)
        _remove(self.place.venv)
        venv = [self.maker.python, "-I", "-m", "venv", str(self.place.venv)]
        code, lines = self._run(venv)
        if code:
            self._fail(f"make one with {self.maker.python}", explain_venv(lines, version))
        found = self._filled()
        seconds = time.monotonic() - begun
        self._write_stamp(found, seconds)
        self.say(f"made in {seconds:.0f} s: {_versions(self.requirements, found)}")

    def _filled(self) -> dict[str, str]:
        """Install what is asked for, and NumPy; the versions of everything."""
        wanted = self.requirements.texts
        self._install(wanted)
        found = installed(self.environment)
        if "numpy" not in found:
            # All of them again: so pip looks for a NumPy that goes with them, and moves none.
            self.say("adding NumPy, which a worker needs")
            self._install([*wanted, "numpy"])
            found = installed(self.environment)
        names = [*(each.name for each in self.requirements.each), "numpy"]
        absent = [name for name in names if name and name not in found]
        if absent:
            reason = f"pip reported success, but the environment has no {' and no '.join(absent)}"
            advice = (
                "A target, prefix or root in pip's configuration may put it elsewhere "
                "(pip config list)."
            )
            self._fail(f"install {self.requirements}", Failure(reason, advice))
        return found

    def _install(self, texts: list[str]) -> None:
        pip = [str(self.place.python), *INSTALL, *texts]
        code, lines = self._run(pip)
        if code:
            self._fail(f"install {self.requirements}", explain(lines))

    def _fail(self, what: str, failure: Failure) -> None:
        _remove(self.place.venv)
        raise FailedInstallation(
            f"{_of(self.environment.name)}cannot {what}: {failure.reason}\n"
            f"{failure.advice}\nAll that was printed: {self.place.log}"
        )

    def _run(self, command: list[str]) -> tuple[int, list[str]]:
        """Run a command to its end, or end it; its exit status and what it printed."""
        lines = []
        with self.place.log.open("a", encoding="utf-8") as log, _started(command, self.lock) as run:
            assert run.stdout is not None
            for line in run.stdout:
                log.write(line)
                log.flush()
                lines.append(line.rstrip("\n"))
                if PROGRESS.match(line) and ".metadata " not in line:
                    self.say(line.strip())
            return run.wait(), lines

    def _write_stamp(self, found: dict[str, str], seconds: float) -> None:
        stamp: dict[str, Any] = {
            "format": FORMAT,
            "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(seconds, 1),
            "requirements": str(self.requirements),
            "python": [self.about.version, self.about.executable, self.about.platform],
            "installed": found,
        }
        part = self.place.stamp.with_suffix(".part")
        part.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
        part.replace(self.place.stamp)


@contextlib.contextmanager
def _started(command: list[str], lock: int) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, where a terminal's Ctrl-C does not reach it."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=_variables(),
        start_new_session=True,
        # Should this process be killed, the lock is held until pip is gone as well.
        pass_fds=(lock,),
    ) as process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started, after a time in which it may clear up."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE_SECONDS)
    except (subprocess.TimeoutExpired, ProcessLookupError):
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return {**kept, **GIVEN}


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _of(name: str) -> str:
    return f"environment {name}: " if name else ""
