"""Trainings in words, tables and plots."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from lossaudit.conformance.trajectories.everything import Task
from lossaudit.conformance.trajectories.recipes import RECIPES
from lossaudit.conformance.trajectories.records import Training, Trajectories
from lossaudit.reports.trajectories import (
    TrainingProgress,
    print_trajectories,
    specs,
    tables,
    trajectories_markdown,
    verdict,
    write_plots,
)


def training(way: str, recipe: str, dtype: str, framework: str = "", **more: object) -> Training:
    lists = {
        "reported": [0.5, 0.25],
        "true": [0.4, 0.2],
        "accuracy": [0.9, 1.0],
        "moved": [1.0, 0.75],
        "drift": [1e-4, 2e-4],
        "distance": [0.0 if way == "reference" else 1e-6] * 2,
        "relative": [0.0 if way == "reference" else 5e-7] * 2,
        "ulps": [0.0 if way == "reference" else 1.5] * 2,
    }
    return Training(way=way, recipe=recipe, dtype=dtype, framework=framework, **{**lists, **more})


@pytest.fixture
def result() -> Trajectories:
    every = []
    for dtype in ("float64", "float32"):
        for recipe in ("right", "double-softmax"):
            every.append(training("reference", recipe, dtype))
            every.append(training("alone", recipe, dtype, "torch", share=0.25))
            every.append(training("alone", recipe, dtype, "jax", relative=[0.0, 7e-7]))
        every.append(training("op", "right", dtype, "torch", share=0.5))
    return Trajectories(
        lossaudit="1", setting="three clusters", epochs=2, sharpness=0.5, trainings=every
    )


def printed(result: Trajectories, width: int = 160) -> str:
    stream = io.StringIO()
    print_trajectories(result, Console(file=stream, width=width))
    return stream.getvalue()


def test_tables_name_every_way_and_the_framework_that_is_farthest(result: Trajectories):
    meant, every = tables(result)
    assert [row[:2] for row in meant.rows][:4] == [
        ("float64", "reference"),
        ("float64", "jax alone"),
        ("float64", "torch alone"),
        ("float64", "torch op"),
    ]
    assert {row[7] for row in every.rows} == {"jax"}
    assert {row[8] for row in every.rows} == {"7.0e-07"}
    shown = printed(result)
    assert "three clusters." in shown
    assert "Every step of 6 trainings lies within its derived bound." in shown
    written = trajectories_markdown(result)
    assert "| float32 | torch op | 0.2000000 | 100.0% | 5.0e-07 | 1.5 |" in written


def test_a_narrow_terminal_cuts_no_number():
    every = [
        training(way, recipe.name, "bfloat16", name, true=[1.1, 0.0123456], ulps=[1.0, 147.3])
        for recipe in RECIPES
        for way, name in (("reference", ""), ("alone", "tensorflow"), ("op", "tensorflow"))
    ]
    shown = printed(
        Trajectories(lossaudit="1", setting="", epochs=2, sharpness=0.5, trainings=every), 80
    )
    assert "…" not in shown
    assert shown.count("147.3") == 3 + len(RECIPES)
    assert max(map(len, shown.splitlines())) <= 80


def test_what_went_wrong_is_said(result: Trajectories):
    result.trainings[1].share = 1.5
    result.trainings[2] = Training(
        way="alone", recipe="right", dtype="float64", framework="jax", failed="[red]no[/red] jax"
    )
    result.complete, result.absent = False, {"tensorflow": "not installed"}
    shown = printed(result)
    assert "A step lies outside of its derived bound: torch alone float64." in shown
    assert "1 training failed." in shown
    assert "Interrupted: not everything was trained." in shown
    assert "failed: jax alone float64 right: [red]no[/red] jax" in shown
    assert "absent: tensorflow: not installed" in shown


def test_a_training_of_nan_is_said_and_does_not_end_the_plots(result: Trajectories):
    lost = training("alone", "right", "float32", "torch", failed="the parameters are not finite")
    lost.distance = lost.relative = lost.ulps = [None, None]
    lost.drift = []
    result.trainings = [t for t in result.trainings if t.dtype == "float64"]
    result.trainings += [training("reference", "right", "float32"), lost]
    assert "failed: torch alone float32 right: the parameters are not finite" in printed(result)
    rows = specs(result)["distance"]["data"]["values"]
    assert {row["dtype"] for row in rows} == {"float64"}


def test_a_result_without_trainings_has_words_and_no_plot():
    empty = Trajectories(lossaudit="1", setting="nothing", epochs=1, sharpness=0.5)
    assert specs(empty) == {}
    assert tables(empty) == []
    assert verdict(empty) == "No training has steps of which a bound is derived."
    assert "nothing." in printed(empty)


def test_plots_hold_what_was_measured(result: Trajectories, tmp_path):
    found = specs(result)
    assert list(found) == ["loss", "distance", "moved"]
    rows = found["loss"]["data"]["values"]
    assert {row["recipe"] for row in rows} == {"as it is meant", "a softmax too many"}
    assert {row["value"] for row in rows} == {0.5, 0.25, 0.4, 0.2}
    text = msgspec.json.encode(found["distance"]).decode()
    assert "derived bound" in text
    assert "0.0004" in text  # the drift of the reference and of the farthest training
    for path in write_plots(result, tmp_path):
        assert path.read_bytes()[1:4] == b"PNG"


def test_progress_says_each_task_where_there_is_no_terminal():
    stream = io.StringIO()
    task = Task("alone", "float32", ("right", "smoothed"), 1, "torch", "python")
    failed = Training(way="alone", dtype="float32", recipe="right", failed="it\nbroke")
    with TrainingProgress(4, Console(file=stream, width=80)) as progress:
        progress(task, [training("alone", "right", "float32", "torch", seconds=1.25)])
        progress(task, [failed])
    assert stream.getvalue().splitlines() == [
        "torch alone float32 right, smoothed: 1.2 s",
        "torch alone float32 right, smoothed: failed: it ⏎ broke",
    ]
