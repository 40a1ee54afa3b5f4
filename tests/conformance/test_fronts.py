"""The command line and the pytest suite are fronts of one engine, and a run can be repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossaudit.conformance.run import read_run

ROOT = Path(__file__).parents[2]
LAWS = ("value", "mirror")

pytestmark = pytest.mark.frameworks


def run_of(command, path):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT
    )
    assert path.exists(), done.stdout + done.stderr
    return read_run(path), done


@pytest.fixture(scope="module")
def by_command_line(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run.json"
    chosen = [word for law in LAWS for word in ("--law", law)]
    command = [sys.executable, "-m", "lossaudit", "run", "-b", "torch", "--depth", "quick"]
    return run_of([*command, *chosen, "--out", str(path)], path)[0]


def seen(run):
    """All that two runs of one thing must share."""
    tallies = {(t.subject, t.law, t.dtype, t.region, t.output): t for t in run.tallies}
    return {f.id: f for f in run.findings}, {
        key: (tally.grades, tally.worst_ulps) for key, tally in tallies.items() if tally.law in LAWS
    }


def test_pytest_sees_what_the_command_line_sees(by_command_line, tmp_path):
    path = tmp_path / "run.json"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    selected = " or ".join(f"{law}-" for law in LAWS)
    by_pytest, done = run_of(
        [
            *command,
            "--pyargs",
            "lossaudit.conformance",
            "--lossaudit-backend",
            "torch",
            "--lossaudit-run-file",
            str(path),
            "-k",
            selected,
        ],
        path,
    )
    assert seen(by_pytest) == seen(by_command_line)
    assert done.returncode == 0, "every deviation of torch is known: " + done.stdout


def test_same_seed_same_verdicts_same_cases(by_command_line, tmp_path):
    path = tmp_path / "again.json"
    chosen = [word for law in LAWS for word in ("--law", law)]
    command = [sys.executable, "-m", "lossaudit", "run", "-b", "torch", "--depth", "quick"]
    again, _ = run_of([*command, *chosen, "--out", str(path)], path)
    assert seen(again) == seen(by_command_line)
    assert again.conventions == by_command_line.conventions


def test_the_documented_example_finds_its_own_mistake():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "my_kernel.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ},
    )
    said = done.stdout.splitlines()
    assert said[0].startswith(
        "value: wrong kind at (['0.0', '0.0', '-inf'], ['0.0', '1.0', '0.0'])"
    )
    assert {line.partition(":")[0] for line in said} == {"value", "finite-where-finite"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert done.stdout.strip() in readme, "the README shows another output"
