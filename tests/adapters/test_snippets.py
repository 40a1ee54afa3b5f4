"""The scripts in findings, run: they print the very numbers that the worker returned."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.snippets import nested
from lossaudit.adapters.subject import Framework, Subject
from lossaudit.reference.bounds import error_bound
from lossaudit.reference.exact import to_float
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Options

# One process runs all scripts of a framework, because importing it takes seconds.
RUNNER = """
import runpy, sys
for path in sys.argv[1:]:
    print("#", path)
    runpy.run_path(path, run_name="__main__")
"""


def example(subject: Subject, dtype: str) -> Case:
    """Numbers that are not round in any base, one infinity, and every option there is."""
    rows, classes = subject.shape or ((3, 1) if subject.target == "binary" else (3, 4))
    numbers = round_to_format(np.sin(np.arange(rows * classes)) ** 2 * 0.9, FORMATS[dtype])
    inputs = numbers.reshape(rows, classes)
    if subject.shape:
        inputs[2:] = inputs[1]
    if subject.from_logits:
        # A fused linear layer makes its logits of the inputs, and 0 * inf is NaN.
        inputs[0, 0] = -64.0 if subject.op.lower().startswith("linear") else -np.inf
    target: NDArray[Any] = np.arange(rows) % classes
    if subject.target != "index":
        target = round_to_format(np.cos(np.nan_to_num(inputs)) ** 2 * 0.5, FORMATS[dtype])
        target[0, 0] = 0.0
    return Case(subject.operation, dtype, inputs, target, every_option(subject, classes))


def every_option(subject: Subject, classes: int) -> Options:
    chosen: dict[str, Any] = {
        "weight": tuple(1.0 + i / 4 for i in range(classes)),
        "pos_weight": 1.5,
        "ignore_index": 1,
        "label_smoothing": 0.1,
        "where": tuple(i != 1 for i in range(classes)),
        "axis": 1,
        "gamma": 1.5,
        "alpha": 0.75,
    }
    taken = {name: value for name, value in chosen.items() if name in subject.options}
    return Options(**taken, reduction=subject.reductions[-1])


def printed(framework: Framework, scripts: dict[str, str], folder: Path) -> dict[str, list[Any]]:
    """What each script prints: the loss, and the gradient if there is one."""
    paths = {folder / f"{i}.py": name for i, name in enumerate(scripts)}
    for path, name in paths.items():
        path.write_text(scripts[name], encoding="utf-8")
    _, environment = framework.worker(framework.subjects[0], "float32")
    command = [sys.executable, "-c", RUNNER, *map(str, paths)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[Any]] = {}
    current: list[Any] = []
    for line in done.stdout.splitlines():
        if line.startswith("# "):
            current = found.setdefault(paths[Path(line[2:])], [])
        else:
            current.append(eval(line, {"nan": float("nan"), "inf": float("inf")}))  # noqa: S307
    return found


def compared(
    pool: WorkerPool, framework: Framework, chosen: list[tuple[Subject, str]], folder: Path
) -> None:
    cases = {f"{s.name} {dtype}": (s, example(s, dtype)) for s, dtype in chosen}
    scripts = {name: framework.snippet(*pair) for name, pair in cases.items()}
    for name, (loss, *gradients) in printed(framework, scripts, folder).items():
        subject, case = cases[name]
        outcome = pool.ask(subject, case)
        assert outcome.loss is not None, outcome
        np.testing.assert_array_equal(np.reshape(loss, outcome.loss.shape), outcome.loss, name)
        given = [g for g in (outcome.gradient, outcome.target_gradient) if g is not None]
        assert len(gradients) == len(given)
        for gradient, expected in zip(gradients, given, strict=True):
            np.testing.assert_array_equal(gradient, expected, name)


def usable(pool: WorkerPool, framework: Framework) -> None:
    try:
        pool.versions(framework.name)
    except UnusableFramework as error:
        pytest.skip(str(error))


@pytest.mark.frameworks
def test_scripts_print_what_the_worker_returned(
    pool: WorkerPool, framework: Framework, tmp_path: Path
):
    usable(pool, framework)
    dtypes = ("float32", "bfloat16", "float16")
    chosen = [
        (subject, taken[i % len(taken)])
        for i, subject in enumerate(subjects([framework.name], "deep"))
        if not subject.compiled
        for taken in [[dtype for dtype in dtypes if dtype in subject.dtypes]]
    ]
    compared(pool, framework, chosen, tmp_path)


PULLED = {
    "jax": "softmax_cross_entropy",
    "tensorflow": "softmax_cross_entropy_with_logits",
    "keras": "CategoricalCrossentropy.logits",
    "keras-jax": "CategoricalCrossentropy.logits",
    "keras-torch": "CategoricalCrossentropy.logits",
}


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "op"), PULLED.items())
def test_scripts_weigh_rows_and_pull_back_as_the_worker_does(
    pool: WorkerPool, name: str, op: str, tmp_path: Path
):
    framework = FRAMEWORKS[name]
    usable(pool, framework)
    (subject,) = (s for s in framework.subjects if (s.op, s.mode) == (op, "eager"))
    case = example(subject, "float32")
    weight = np.array([1.0, 0.5, 2.0]) if "sample_weight" in subject.options else None
    case = replace(
        case,
        options=replace(case.options, reduction="none"),
        sample_weight=weight,
        cotangent=np.array([1.0, -2.0, 0.25]),
        by_target=True,
    )
    outcome = pool.ask(subject, case)
    found = printed(framework, {name: framework.snippet(subject, case)}, tmp_path)[name]
    assert outcome.returned, outcome.message
    for printed_array, array in zip(
        found, (outcome.loss, outcome.gradient, outcome.target_gradient), strict=True
    ):
        np.testing.assert_array_equal(printed_array, array)


TWICE = [s for s in subjects() if s.mode == "second"]


@pytest.mark.frameworks
@pytest.mark.parametrize("pulled", [False, True])
@pytest.mark.parametrize("subject", TWICE, ids=lambda s: s.name)
def test_scripts_take_second_derivatives_as_the_worker_does(
    pool: WorkerPool, subject: Subject, pulled: bool, tmp_path: Path
):
    framework = FRAMEWORKS[subject.framework]
    usable(pool, framework)
    case = example(subject, "float32")
    case = replace(
        case,
        inputs=np.maximum(case.inputs, -8.0),  # no infinity
        options=Options(),
        direction=np.resize([1.0, -2.0, 0.5, 3.0], case.inputs.shape),
        cotangent=np.array([1.0, -2.0, 0.25]) if pulled else None,
    )
    outcome = pool.ask(subject, case)
    assert outcome.returned, outcome.message
    assert outcome.gradient is not None
    found = printed(framework, {"twice": framework.snippet(subject, case)}, tmp_path)["twice"]
    loss, product = found
    np.testing.assert_array_equal(np.reshape(loss, case.rows), outcome.loss)
    np.testing.assert_array_equal(product, outcome.gradient)
    exact = truth(case, subject.semantics).gradient
    limit = error_bound(case, subject.semantics, subject.arithmetic["float32"]).gradient
    assert (np.abs(outcome.gradient - to_float(exact)) <= limit).all()


@pytest.mark.frameworks
@pytest.mark.slow  # float64 of jax needs a process of its own, and compiling takes its time
def test_scripts_in_float64_and_compiled_print_the_same(
    pool: WorkerPool, framework: Framework, tmp_path: Path
):
    usable(pool, framework)
    every = subjects([framework.name], "deep")
    for name, chosen in {
        "float64": [(s, "float64") for s in every if "float64" in s.dtypes and not s.compiled],
        "compiled": [(s, "float32") for s in every if s.compiled],
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        compared(pool, framework, chosen, folder)


@pytest.mark.parametrize("subject", subjects(depth="deep"), ids=lambda s: s.name)
def test_scripts_are_short_python_of_the_framework_alone(subject: Subject):
    script = FRAMEWORKS[subject.framework].snippet(subject, example(subject, "float32"))
    ast.parse(script)
    assert "lossaudit" not in script
    assert len(script.splitlines()) <= 30
    plain = example(subject, "float32")
    bare = Case(plain.operation, plain.dtype, plain.inputs, plain.target)
    script = FRAMEWORKS[subject.framework].snippet(subject, bare)
    if subject.op == "weighted_cross_entropy_with_logits":  # TensorFlow's demands a weight
        script = script.replace(", pos_weight=1.0", "")
    for option in ("weight=", "ignore", "smooth"):
        assert option not in script


def test_numbers_in_scripts_read_back_exactly():
    values = np.array([[0.1, -0.0], [5e-324, -np.inf], [1.7976931348623157e308, np.nan]])
    back = np.array(eval(nested(values), {"float": float}))  # noqa: S307
    np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(np.signbit(back[:2]), np.signbit(values[:2]))


def test_runs_of_equal_rows_are_written_once():
    assert nested(np.array([[1.0, 2.0], *[[3.0, 4.0]] * 5])) == "[[1.0, 2.0]] + [[3.0, 4.0]] * 5"
    assert nested(np.array([7, 0, 0, 0, 0, 1])) == "[7] + [0] * 4 + [1]"
    assert nested(np.zeros((0, 3))) == "[]"
