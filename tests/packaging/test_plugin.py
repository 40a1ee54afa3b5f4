"""The pytest plugin: light in a stranger's run, its options, and its calls at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Stands in for the suite: two tests, and a session module that writes down how it was called.
SUITE = {
    "__init__.py": '"""A suite of two tests."""\n',
    "session.py": '''
"""Notes its calls."""
import pathlib

def finish(config, *, complete):
    return ["finish"]

def write_part(config, folder, *, complete):
    (folder / config.workerinput["workerid"]).write_text("a part")

def merge_parts(config, folder, *, complete):
    return ["merged " + " ".join(sorted(part.name for part in folder.iterdir()))]
''',
    "test_two.py": '''
"""Two tests."""
import dataclasses, json, os, sys
import pytest
from . import session

@pytest.mark.parametrize("cell", ["one", "two"])
def test_cell(cell, lossaudit_options):
    if path := os.environ.get("OPTIONS_FILE"):
        with open(path, "w") as file:
            json.dump(dataclasses.asdict(lossaudit_options), file, default=str)

def test_interrupted():
    if os.environ.get("INTERRUPT"):
        raise KeyboardInterrupt
''',
}


@pytest.fixture(scope="module")
def stand_in(export: Callable[[str], Path], environment: Callable[..., Any]) -> Any:
    """An environment where lossaudit has the suite above."""
    root = export("with a stand-in")
    suite = root / "conformance" / "suite"
    for file in suite.iterdir():
        file.unlink()
    for name, text in SUITE.items():
        (suite / name).write_text(text.lstrip())
    made = environment(frameworks=False)
    made.install("--editable", root)
    return made, root


def test_importing_it_loads_pytest_and_nothing_else() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); "
        "import lossaudit.conformance.plugin, lossaudit.reports.pytest_html; "
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['lossaudit']", done.stdout + done.stderr


def test_a_strangers_run_is_left_alone(stand_in: Any, tmp_path: Path) -> None:
    made, _ = stand_in
    package = tmp_path / "conformance" / "suite"
    package.mkdir(parents=True)
    (tmp_path / "conformance" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    assert __name__ == 'conformance.suite.test_own'\n"
        "    assert 'lossaudit.conformance.plugin' in sys.modules\n"
        "    assert not {'numpy', 'hypothesis', 'msgspec'} & set(sys.modules)\n"
    )
    output = made.pytest(tmp_path, "-q", "-W", "error", "-p", "no:hypothesispytest")
    assert "1 passed" in output
    assert "lossaudit" not in output


def test_options_reach_the_suite(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = stand_in
    monkeypatch.setenv("OPTIONS_FILE", str(tmp_path / "options.json"))
    suite = ("--pyargs", "lossaudit.conformance", "-q")

    def options(*arguments: str) -> dict[str, Any]:
        made.pytest(tmp_path, *suite, *arguments)
        return json.loads((tmp_path / "options.json").read_text())

    assert options() == {
        "backends": None,
        "depth": "quick",
        "seed": None,
        "run_file": None,
        "html": None,
    }
    assert options(
        *("--lossaudit-backend", "torch", "--lossaudit-backend", "jax"),
        *("--lossaudit-backend", "torch", "--lossaudit-depth", "deep", "--lossaudit-seed", "7"),
        *("--lossaudit-run-file", "run.json", "--lossaudit-html", "report.html"),
    ) == {
        "backends": ["torch", "jax"],
        "depth": "deep",
        "seed": 7,
        "run_file": str(tmp_path / "run.json"),
        "html": str(tmp_path / "report.html"),
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--lossaudit-backend", "tporch"), "unknown backend 'tporch'; known are "),
        (("--lossaudit-depth", "deeper"), "invalid choice: 'deeper'"),
        (("--lossaudit-seed", "x"), "invalid int value: 'x'"),
        (("--lossaudit-run-file", "."), "is a directory, not a file"),
        (("--lossaudit-html", "."), "is a directory, not a file"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    stand_in: Any, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    made, _ = stand_in
    output = made.pytest(tmp_path, "--pyargs", "lossaudit.conformance", *arguments, check=False)
    assert sum(told in line for line in output.splitlines()) == 1, output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


@pytest.mark.parametrize("where", ["conformance", "conformance/suite", "."])
def test_the_session_is_finished_in_one_process(stand_in: Any, where: str) -> None:
    made, root = stand_in
    output = made.pytest(root / where, "-q", *(["conformance"] if where == "." else ["."]))
    assert "3 passed" in output
    assert "\nfinish\n" in output


def test_the_parts_of_xdist_workers_are_merged(stand_in: Any, tmp_path: Path) -> None:
    made, _ = stand_in
    output = made.pytest(tmp_path, "-q", "-n", "2", "--pyargs", "lossaudit.conformance")
    assert "3 passed" in output
    assert "\nmerged gw0 gw1\n" in output


def test_an_interrupted_session_is_finished_too(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = stand_in
    monkeypatch.setenv("INTERRUPT", "1")
    suite = ("-q", "--pyargs", "lossaudit.conformance")
    assert "\nfinish\n" in made.pytest(tmp_path, *suite, check=False)


def test_nothing_is_finished_where_the_suite_did_not_run(stand_in: Any, tmp_path: Path) -> None:
    made, _ = stand_in
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    for arguments in (["."], [".", "-n", "2"], ["--pyargs", "lossaudit.conformance", "--co"]):
        output = made.pytest(tmp_path, "-q", *arguments)
        assert "finish" not in output
        assert "merged" not in output


def test_a_suite_that_cannot_be_imported_says_why(
    export: Callable[[str], Path], environment: Callable[..., Any]
) -> None:
    root = export("broken")
    (root / "conformance" / "suite" / "test_broken.py").write_text("import no_such_module\n")
    made = environment(frameworks=False)
    made.install("--editable", root)
    output = made.pytest(root, "conformance/suite/test_broken.py", "-q", check=False)
    assert "lossaudit.conformance.suite.test_broken cannot be imported" in output
    assert "No module named 'no_such_module'" in output
    assert "INTERNALERROR" not in output


def test_another_copy_than_the_installed_one_is_refused(
    stand_in: Any, export: Callable[[str], Path]
) -> None:
    made, root = stand_in
    output = made.pytest(export("another"), "conformance", "-q", check=False)
    assert f"is not the lossaudit that is installed, which lies in {root}" in output
    assert "passed" not in output
