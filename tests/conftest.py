"""What all tests share: where the repository is, how Hypothesis searches, which skips are right."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

ROOT = Path(__file__).resolve().parent.parent
ALLOWED_SKIPS = ROOT / "tests" / "allowed_skips.toml"

# The tests ask whether a change broke something, so each run tries the same examples; the audits
# are what searches anew. A deadline would measure the machine.
settings.register_profile("lossaudit-tests", deadline=None, derandomize=True)
settings.load_profile("lossaudit-tests")


def pytest_configure() -> None:
    """Let tests interrupt what they start, also where a shell started them in the background.

    Such a shell has SIGINT ignored, and whoever is started inherits that.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout, which is the package `lossaudit` as well."""
    return ROOT


@pytest.fixture(scope="session")
def loaded() -> Callable[[str, Path], ModuleType]:
    """Load a file as a module of a name of its own; what lies in no package no import finds."""

    def load(name: str, path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def left_behind() -> Callable[[int], list[str]]:
    """Processes of a session that still live, after a while in which they may end.

    What Python keeps beside its processes sees the end of their pipe, and then ends by itself.
    """

    def look(session: int) -> list[str]:
        deadline = time.monotonic() + 30
        while (left := _living(session)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    return look


def _living(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


# --- in CI a skip needs a reason that was agreed on -----------------------------------------------


def _is_allowed(node_id: str, message: str) -> bool:
    entries = tomllib.loads(ALLOWED_SKIPS.read_text(encoding="utf-8")).get("skip", [])
    return any(
        fnmatch.fnmatchcase(node_id, entry["test"])
        and fnmatch.fnmatchcase(message, entry["message"])
        and bool(entry["reason"])
        for entry in entries
    )


def _judged(report: Report) -> Report:
    """The report, as a failure where it is a skip that CI does not allow."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return report
    where = report.longrepr
    message = str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")
    if not _is_allowed(report.nodeid, message):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} was skipped: {message}\n"
            f"In CI a skip fails, unless {ALLOWED_SKIPS.relative_to(ROOT)} gives its reason."
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _judged((yield))
