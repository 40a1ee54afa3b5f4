"""The Makefile: when it installs, when it does not, and in which folders it works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Stands in for Python: `-m venv` makes a .venv of stand-ins, and pip only writes down its calls.
PYTHON = r"""#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
case "$*" in
    "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> "$CALLS" ;;
    "-m pip"*) echo "pip ${*:3}" >> "$CALLS"; [[ -z ${PIP_FAILS:-} ]] ;;
esac
"""


@dataclass
class Folder:
    """A checkout of Makefile, pyproject.toml and constraints alone."""

    root: Path
    tools: Path
    run_command: Callable[..., Any]

    def make(
        self, *arguments: str, cwd: Path | None = None, check: bool = True, **env: str
    ) -> tuple[str, list[str]]:
        """What make printed, and the calls that it made."""
        calls = self.tools / "calls"
        calls.write_text("")
        done = self.run_command(
            ["make", f"PYTHON={self.tools / 'python3'}", *arguments],
            cwd=cwd or self.root,
            check=check,
            env={"CALLS": str(calls), "MAKEFLAGS": "", "MAKELEVEL": "0", **env},
        )
        return done.stdout, calls.read_text().splitlines()


@pytest.fixture(params=["plain", "with two spaces"])
def folder(
    request: pytest.FixtureRequest,
    repository: Path,
    tmp_path: Path,
    run_command: Callable[..., Any],
) -> Folder:
    root = tmp_path / request.param
    (root / "constraints").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints/pinned.txt"):
        shutil.copyfile(repository / name, root / name)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    return Folder(root, tools, run_command)


def pips(calls: list[str]) -> int:
    return sum(call.startswith("pip") for call in calls)


def test_the_second_time_nothing_is_installed(folder: Folder) -> None:
    output, calls = folder.make("setup-test")
    assert calls[0] == "venv"
    assert "constraints/pinned.txt setuptools" in calls[1]
    assert calls[2].endswith("-c constraints/pinned.txt --no-build-isolation -e .[all,test]")
    assert "installing lossaudit[all,test]" in output
    assert folder.make("setup-test")[1] == []
    assert folder.make("setup-audit")[1] == []  # which asks for less


def test_the_audit_installs_no_tools_for_tests(folder: Folder) -> None:
    _, calls = folder.make("setup-audit")
    assert calls[-1].endswith("-e .[all]")
    assert folder.make("setup-audit")[1] == []
    _, calls = folder.make("setup-test")
    assert "venv" not in calls  # the same one
    assert pips(calls) == 2


def test_a_touched_file_is_no_reason_to_install(folder: Folder) -> None:
    folder.make("setup-test")
    for name in ("pyproject.toml", "constraints/pinned.txt", "Makefile"):
        os.utime(folder.root / name)
    assert folder.make("setup-test")[1] == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints/pinned.txt"])
def test_a_changed_file_is_one(folder: Folder, name: str) -> None:
    folder.make("setup-audit")
    folder.make("setup-test")
    with (folder.root / name).open("a") as file:
        file.write("# changed\n")
    assert pips(folder.make("setup-audit")[1]) == 2
    assert pips(folder.make("setup-test")[1]) == 2


def test_an_installation_that_failed_is_done_again(folder: Folder) -> None:
    output, calls = folder.make("setup-test", check=False, PIP_FAILS="yes")
    assert "Error" in output
    assert pips(calls) == 1
    assert not list((folder.root / ".venv").glob("*.stamp"))
    _, calls = folder.make("setup-test")
    assert pips(calls) == 2
    folder.make("clean")
    assert folder.make("setup-test")[1][0] == "venv"


def test_a_failed_change_leaves_no_stamp_of_the_state_before(folder: Folder) -> None:
    folder.make("setup-test")
    original = (folder.root / "pyproject.toml").read_text()
    (folder.root / "pyproject.toml").write_text(original + "# changed\n")
    folder.make("setup-test", check=False, PIP_FAILS="yes")
    (folder.root / "pyproject.toml").write_text(original)
    assert pips(folder.make("setup-test")[1]) == 2


def test_a_moved_checkout_gets_a_new_environment(folder: Folder) -> None:
    folder.make("setup-test")
    moved = folder.root.with_name("moved elsewhere")
    folder.root.rename(moved)
    folder.root = moved
    _, calls = folder.make("setup-test")
    assert calls[0] == "venv"
    assert folder.make("setup-test")[1] == []


def test_it_works_from_another_folder(folder: Folder, tmp_path: Path) -> None:
    _, calls = folder.make("-C", str(folder.root), "setup-test", cwd=tmp_path)
    assert pips(calls) == 2
    assert folder.make("setup-test")[1] == []
    link = folder.root / "build" / "typing" / "lossaudit"
    assert link.resolve() == folder.root.resolve()


def test_too_old_a_python_is_told(folder: Folder) -> None:
    (folder.tools / "python3").write_text(
        '#!/bin/bash\n[[ $1 != -c ]] || { echo "lossaudit needs Python 3.11"; exit 1; }\n'
    )
    output, calls = folder.make("setup-test", check=False)
    assert "lossaudit needs Python 3.11" in output
    assert calls == []


def test_help_names_every_target(repository: Path, run_command: Callable[..., Any]) -> None:
    text = (repository / "Makefile").read_text()
    (phony,) = [line for line in text.splitlines() if line.startswith(".PHONY:")]
    listed = run_command(["make", "help"], cwd=repository, env={"MAKEFLAGS": ""}).stdout
    for target in phony.split()[1:]:
        assert f"make {target} " in listed


def test_a_commit_is_checked_as_make_test_does(repository: Path) -> None:
    hooks = (repository / ".pre-commit-config.yaml").read_text()
    entries = [
        line.split(": ")[1] for line in hooks.splitlines() if line.strip().startswith("entry")
    ]
    assert entries == ["make lint", "make test"]


@pytest.mark.slow  # lints the whole tree once more
def test_without_network_the_checkout_lints(
    repository: Path, run_command: Callable[..., Any]
) -> None:
    if not (repository / ".venv" / "test.stamp").is_file():
        pytest.skip("this checkout was not set up by make")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    offline = {**nowhere, "PIP_NO_INDEX": "1", "npm_config_registry": "http://127.0.0.1:9"}
    done = run_command(["make", "lint"], cwd=repository, env={"MAKEFLAGS": "", **offline})
    assert "installing" not in done.stdout
