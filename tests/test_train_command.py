"""`lossaudit train` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.cli import app
from lossaudit.conformance.trajectories import everything
from lossaudit.conformance.trajectories.everything import Task, recorded
from lossaudit.conformance.trajectories.points import Points
from lossaudit.conformance.trajectories.recipes import named
from lossaudit.conformance.trajectories.records import Training
from lossaudit.conformance.trajectories.recursion import by_the_reference


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backend", "keras"), "'keras' is not known; there are: torch, tensorflow, jax"),
        (("--dtype", "float16"), "'float16' is not known; there are: float64, float32, bfloat16"),
        (("--recipe", "salt"), "'salt' is not known; there are: right, log-softmax-first"),
        (("--out", "/proc/no/file.json"), "cannot write to /proc/no"),
        (("--plots", "/proc/no/folder"), "cannot write to /proc/no/folder"),
        (("--python", "/no/such/python"), "/no/such/python does not exist"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments, said):
    result = CliRunner().invoke(app, ["train", *arguments])
    assert said in str(result.exception)


def test_wrong_use_is_exit_code_2_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "lossaudit", "train", "--dtype", "float16"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_training_of_nan_is_exit_code_1_and_is_written(monkeypatch, tmp_path):
    def alone(data: Points, task: Task) -> list[Training]:
        path = by_the_reference(data, named("right"), task.dtype)
        path.parameters[5:] = float("nan")
        head = Training(way="alone", dtype=task.dtype, recipe="right", framework="torch")
        return [recorded(data, path, head, 1.0)]

    monkeypatch.setattr(everything, "availability", lambda *_: "")
    monkeypatch.setattr(everything, "_alone", alone)
    monkeypatch.setattr(everything, "by_op", _killed)
    monkeypatch.setattr(everything, "WorkerPool", NoWorker)
    out, plots = tmp_path / "t.json", tmp_path / "plots"
    command = ["train", "-b", "torch", "--dtype", "float64", "--recipe", "right", "--epochs", "1"]
    command += ["--jobs", "1", "--out", str(out), "--plots", str(plots)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    assert "2 trainings failed." in done.output
    written = {one["way"]: one for one in json.loads(out.read_text())["trainings"]}
    assert "not finite from step 5 of 180 on" in written["alone"]["failed"]
    assert written["op"]["failed"] == "MemoryError: no more of it"
    assert written["reference"]["share"] <= 1
    assert (plots / "moved.png").exists()


def _killed(*_: object) -> Training:
    raise MemoryError("no more of it")


class NoWorker(WorkerPool):
    def versions(self, framework: str) -> dict[str, str]:
        return dict.fromkeys(FRAMEWORKS[framework].packages, "1")


@pytest.mark.frameworks
def test_a_training_is_written_and_drawn(tmp_path):
    out, tables, plots = tmp_path / "t.json", tmp_path / "t.md", tmp_path / "plots"
    command = ["train", "-b", "torch", "--dtype", "float32", "--recipe", "right", "--epochs", "1"]
    command += ["--jobs", "1", "--out", str(out), "--markdown", str(tables), "--plots", str(plots)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert written["complete"]
    ways = {(one["way"], one["dtype"]) for one in written["trainings"]}
    assert ways == {(w, "float32") for w in ("op", "alone", "reference")} | {
        ("reference", "float64")
    }
    assert "lies within its derived bound" in tables.read_text()
    assert sorted(path.name for path in plots.iterdir()) == [
        "distance.png",
        "loss.png",
        "moved.png",
    ]


@pytest.mark.frameworks
def test_an_interruption_leaves_what_was_trained(tmp_path, left_behind):
    out = tmp_path / "t.json"
    command = [sys.executable, "-m", "lossaudit", "train", "-b", "torch", "--dtype", "float32"]
    process = subprocess.Popen(
        [*command, "--recipe", "right", "--recipe", "smoothed", "--jobs", "2", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert process.stderr is not None
    assert process.stderr.readline()  # the first that ended; two of the others take far longer
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted: not everything was trained." in said
    written = json.loads(out.read_text())
    assert not written["complete"]
    assert written["trainings"]
    assert not left_behind(process.pid)
