"""What docs/sweep-clusters.md gives to batch systems: it asks for every shard, as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from lossaudit.conformance.sweep.lines import regional

PAGE = "docs/sweep-clusters.md"


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def asked_for(tmp_path):
    """The arguments with which a script calls lossaudit."""
    stand_in = tmp_path / "bin" / "lossaudit"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)

    def ask(script: str, **environment: str) -> list[str]:
        path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
        found = subprocess.run(
            ["bash", "-eu", "-c", script],
            env={"PATH": path, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return found.stdout.split()

    return ask


def block(page: str, language: str, named: str) -> str:
    """The code that is called by a name in its first lines."""
    (found,) = [
        code
        for code in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        if re.search(rf"^# {re.escape(named)}", code, re.MULTILINE)
    ]
    return found


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_array_of_slurm_asks_for_every_shard_once(page, asked_for) -> None:
    script = block(page, "sh", "sweep.sbatch")
    (tasks,) = re.findall(r"^#SBATCH --array=1-(\d+)$", script, re.MULTILINE)
    found = asked_for(script, SLURM_ARRAY_TASK_ID="3", SLURM_CPUS_PER_TASK="4")
    assert option(found, "--shard") == f"3/{tasks}"
    assert option(found, "--out") == "shard-3.jsonl"
    assert option(found, "--jobs") == "4"


@pytest.mark.parametrize("index", [0, 63])
def test_the_job_of_kubernetes_asks_for_every_shard_once(page, asked_for, index) -> None:
    job = yaml.safe_load(block(page, "yaml", "sweep-job.yaml"))["spec"]
    assert job["completionMode"] == "Indexed"
    (container,) = job["template"]["spec"]["containers"]
    found = asked_for(container["args"][0], JOB_COMPLETION_INDEX=str(index))
    assert option(found, "--shard") == f"{index + 1}/{job['completions']}"
    assert option(found, "--out") == f"shard-{index + 1}.jsonl"
    assert option(found, "--jobs") == container["resources"]["limits"]["cpu"]


def test_the_cluster_of_kubernetes_begins_what_dask_has(page) -> None:
    spec = yaml.safe_load(block(page, "yaml", "sweepers.yaml"))["spec"]
    for part in ("worker", "scheduler"):
        (container,) = spec[part]["spec"]["containers"]
        command, verb, *options = container["args"]
        assert (command, verb) == ("dask", part)
        said = subprocess.run(
            [sys.executable, "-m", "dask", verb, "--help"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        assert all(word in said for word in options if word.startswith("--"))


def test_the_table_of_costs_follows_its_formula(page) -> None:
    rows = re.findall(
        r"^\| (.*) \| (.*2\^\d\d) \| (\d) \| ([\d,]+) \| ([\d.]+) \|$", page, re.MULTILINE
    )
    assert len(rows) == 5
    lines = regional("cross_entropy", "float32", 8).count
    for name, inputs, targets, values, hours in rows:
        factor, _, power = inputs.rpartition("2^")
        assert factor in ("", f"{lines} × ")
        asked = (lines if factor else 1) * 2 ** int(power)
        assert int(values.replace(",", "")) == asked * int(targets) * 2, name
        exact = asked * int(targets) * 2 * 10 / 3.6e12
        places = len(hours.partition(".")[2])
        assert hours == f"{exact:.{places}f}", name
