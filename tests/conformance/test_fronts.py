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


@pytest.mark.slow
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


def shown(page, example):
    """The lines that a page shows of the output of an example."""
    text = (ROOT / page).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"$ python docs/examples/{example}.py\n")
    assert found, f"{page} does not show {example}"
    return [
        line for line in rest.partition("```")[0].splitlines() if line.strip() not in ("", "...")
    ]


@pytest.mark.parametrize("example", ["handwritten_numpy", "fused_torch", "custom_vjp_jax"])
def test_an_example_passes_and_its_wrong_variant_is_told_as_the_page_shows(example):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / f"{example}.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    passed, _, failed = done.stdout.partition(" is wrong, ")
    assert " holds: cross_entropy" in passed
    assert "Reproduce it with:" in failed
    # In the order of the page, without what depends on the installed version.
    lines = iter(done.stdout.splitlines())
    for line in shown("docs/your-own-op.md", example):
        if " holds: " not in line:
            assert line in lines, f"it no longer says {line!r}:\n{done.stdout}"
    if example == "handwritten_numpy":
        lines = iter(done.stdout.splitlines())
        assert all(line in lines for line in shown("README.md", example)), done.stdout
