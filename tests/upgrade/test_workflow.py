"""The workflow that audits dependency bumps: its commands exist, and it finds what is pinned."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from lossaudit.cli import FAIL_ON, app


@pytest.fixture(scope="module")
def workflow(repository) -> dict[Any, Any]:
    text = (repository / "docs" / "upgrade-workflow.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def steps(workflow: dict[Any, Any], job: str) -> list[dict[str, Any]]:
    return workflow["jobs"][job]["steps"]


def commands(workflow: dict[Any, Any]) -> Iterator[list[str]]:
    """The words of every call of lossaudit."""
    for job in workflow["jobs"]:
        for step in steps(workflow, job):
            for line in step.get("run", "").splitlines():
                called = re.match(r"\s*lossaudit (.*?)(\|\||$)", line)
                if called:
                    yield shlex.split(called[1])


def test_it_starts_on_pull_requests_that_change_pins_and_may_only_read(workflow):
    paths = workflow[True]["pull_request"]["paths"]  # YAML 1.1 takes `on` for true
    assert "**/requirements*.txt" in paths
    assert "**/uv.lock" in paths
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow["jobs"]) == {"upgrade", "baseline"}


def test_every_step_does_one_thing_and_every_action_has_a_version(workflow):
    for job in workflow["jobs"]:
        for step in steps(workflow, job):
            assert ("run" in step) is not ("uses" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"])


def test_its_commands_exist_with_their_options(workflow):
    verbs: Any = typer.main.get_command(app)
    found = list(commands(workflow))
    assert [words[0] for words in found] == ["upgrade", "run", "compare"]
    for verb, *words in found:
        command = verbs.commands[verb]
        offered = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        used = {word for word in words if word.startswith("-")}
        assert used <= offered
        # As the command line reads them; nothing of it is run.
        with command.make_context(verb, list(words)) as context:
            assert context.params.get("fail_on", "any") in (*FAIL_ON, "any")


def test_what_is_written_is_what_is_read(workflow):
    """The summary, the artifact and the folder that is cached are those of the commands."""
    upgrade, run, compare = commands(workflow)
    text = " ".join(step.get("run", "") for step in steps(workflow, "upgrade"))
    assert f'cat {upgrade[upgrade.index("--markdown") + 1]} >> "$GITHUB_STEP_SUMMARY"' in text
    (artifact,) = [s["with"] for s in steps(workflow, "upgrade") if "artifact" in s.get("uses", "")]
    assert artifact["path"] == upgrade[upgrade.index("--out") + 1] + "/"
    assert run[run.index("--out") + 1] in compare
    assert "LOSSAUDIT_CACHE" in workflow["env"]
    cached = [
        s["with"]["path"] for s in steps(workflow, "upgrade") if "cache/" in s.get("uses", "")
    ]
    assert cached == ["${{ env.LOSSAUDIT_CACHE }}"] * 2


def test_no_text_of_a_pull_request_is_pasted_into_a_shell(workflow):
    """Titles, branches and versions come as variables: an expression would be run."""
    for job in workflow["jobs"]:
        for step in steps(workflow, job):
            assert "${{" not in step.get("run", "")


# --- the step that finds the versions -------------------------------------------------------------

LOCKED = """
[[package]]
name = "torch"
version = "{torch}"

[[package]]
name = "torchvision"
version = "0.99.0"
"""


class Repository:
    """A repository with a base commit and a pull request on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.git("init", "-q")

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *who, *words], cwd=self._folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self._folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "change", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path) -> Repository:
    folder = tmp_path / "repository"
    folder.mkdir()
    return Repository(folder)


@pytest.fixture
def found(workflow, tmp_path):
    """Run the step as GitHub does, and read its outputs."""
    (step,) = [s for s in steps(workflow, "upgrade") if s.get("id") == "versions"]

    def run(base: str) -> dict[str, str]:
        output = tmp_path / "output"
        output.write_text("")
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=tmp_path / "repository",
            env={**os.environ, "BASE": base, "GITHUB_OUTPUT": str(output)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    return run


def test_a_bump_in_requirements_is_found(repo, found):
    base = repo.commit(requirements_txt="numpy==2.0\ntorch==2.13.0  # the CPU\n")
    repo.commit(requirements_txt="numpy==2.1\ntorch == 2.15.0 --hash=sha256:00\n")
    assert found(base) == {"old": "torch==2.13.0", "new": "torch==2.15.0"}


def test_packages_that_belong_together_are_named_together(repo, found):
    pins = "jax[cpu]=={}\njaxlib=={}\noptax==0.2.8\ntorch==2.13.0\n"
    base = repo.commit(constraints__pinned_txt=pins.format("0.9.0", "0.9.0"))
    repo.commit(constraints__pinned_txt=pins.format("0.10.2", "0.10.2"))
    assert found(base) == {
        "old": "jax==0.9.0 jaxlib==0.9.0 optax==0.2.8",
        "new": "jax==0.10.2 jaxlib==0.10.2 optax==0.2.8",
    }


def test_a_bump_in_a_lock_is_found(repo, found):
    base = repo.commit(uv_lock=LOCKED.format(torch="2.13.0"))
    repo.commit(uv_lock=LOCKED.format(torch="2.15.0+cpu"))
    assert found(base) == {"old": "torch==2.13.0", "new": "torch==2.15.0+cpu"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("torch==2.13.0\n", "torch==2.13.0\nrich==14\n"),
        ("torchvision==0.1\n", "torchvision==0.2\n"),
        ("rich==13\n", "rich==13\ntorch==2.13.0\n"),
        ("torch>=2.13.0\n", "torch>=2.15.0\n"),
    ],
)
def test_where_no_pinned_framework_changes_there_is_nothing_to_audit(repo, found, before, after):
    base = repo.commit(requirements_txt=before)
    repo.commit(requirements_txt=after)
    assert found(base) == {"old": "", "new": ""}


def test_what_the_base_branch_did_meanwhile_is_not_of_the_pull_request(repo, found):
    start = repo.commit(requirements_txt="torch==2.13.0\n")
    meanwhile = repo.commit(requirements_txt="torch==2.14.0\n")
    repo.git("checkout", "-q", start)
    repo.commit(requirements_txt="torch==2.15.0\n")
    assert found(meanwhile) == {"old": "torch==2.13.0", "new": "torch==2.15.0"}
