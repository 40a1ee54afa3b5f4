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

from lossaudit.adapters import modules
from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.declare import declare
from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.snippets import cut, nested, vector
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


FAST_OR_NOT = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "jax" else []) for name in FRAMEWORKS
]
"""Eager JAX compiles every primitive of every script."""


@pytest.mark.frameworks
@pytest.mark.parametrize("framework", FAST_OR_NOT, indirect=True)
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


def without_rows(framework: Framework, folder: Path) -> dict[str, tuple[Subject, Case, list[Any]]]:
    """What scripts of an empty batch print, an op for each kind of target."""
    kinds = {(s.target, s.from_logits): s for s in framework.subjects if s.mode == "eager"}
    chosen = {s.name: s for s in kinds.values()}
    cases = {}
    for name, subject in chosen.items():
        case = example(subject, "float32").take(np.array([], dtype=np.int64))
        cases[name] = replace(case, options=Options())
    scripts = {name: framework.snippet(chosen[name], cases[name]) for name in chosen}
    found = printed(framework, scripts, folder)
    return {name: (chosen[name], cases[name], found[name]) for name in chosen}


@pytest.mark.frameworks
def test_scripts_without_rows_keep_the_shapes(
    pool: WorkerPool, framework: Framework, tmp_path: Path
):
    usable(pool, framework)
    if framework.name == "onnxruntime":  # it raises for them, and so must the script
        (subject,) = (s for s in framework.subjects if s.op == "SoftmaxCrossEntropyLoss")
        case = example(subject, "float32").take(np.array([], dtype=np.int64))
        script = framework.snippet(subject, replace(case, options=Options()))
        with pytest.raises(AssertionError, match="Reshape"):
            printed(framework, {"empty": script}, tmp_path)
        return
    for subject, case, found in without_rows(framework, tmp_path).values():
        outcome = pool.ask(subject, case)
        assert outcome.returned, (subject.name, outcome.message)
        assert all(not np.size(array) for array in found), subject.name


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


# --- functions of a user --------------------------------------------------------------------------

IN_TORCH = """
import torch
import torch.nn.functional as F
CE, BCE = F.cross_entropy, F.binary_cross_entropy_with_logits
soft = lambda z, q: -(q * F.log_softmax(z, -1)).sum(-1)
"""
IN_JAX = """
import jax
import jax.numpy as jnp
import optax
REDUCED = {"none": lambda x: x, "sum": jnp.sum, "mean": jnp.mean}
def CE(z, y, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    q = optax.smooth_labels(jax.nn.one_hot(y, z.shape[1], dtype=z.dtype), label_smoothing)
    loss = -jnp.where(q == 0, 0, q * jax.nn.log_softmax(z) * (1 if weight is None else weight))
    return REDUCED[reduction](jnp.where(y == ignore_index, 0, loss.sum(-1)))
def BCE(z, y, pos_weight=None, reduction="mean"):
    scale = 1 if pos_weight is None else pos_weight
    loss = -scale * y * jax.nn.log_sigmoid(z) - (1 - y) * jax.nn.log_sigmoid(-z)
    return REDUCED[reduction](loss)
soft = lambda z, q: -(jnp.where(q == 0, 0, q * jax.nn.log_softmax(z))).sum(-1)
"""
IN_TENSORFLOW = """
import tensorflow as tf
REDUCED = {"none": tf.identity, "sum": tf.reduce_sum, "mean": tf.reduce_mean}
def CE(z, y, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    classes = z.shape[1]
    q = tf.one_hot(y, classes, dtype=z.dtype) * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        q = q * weight
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=q, logits=z)
    return REDUCED[reduction](tf.where(y == ignore_index, tf.zeros_like(loss), loss))
def BCE(z, y, pos_weight=None, reduction="mean"):
    scale = tf.ones((), z.dtype) if pos_weight is None else pos_weight
    return REDUCED[reduction](tf.nn.weighted_cross_entropy_with_logits(y, z, scale))
soft = lambda z, q: tf.nn.softmax_cross_entropy_with_logits(labels=q, logits=z)
"""
IN_NUMPY = """
import numpy as np
REDUCED = {"none": lambda x: x, "sum": np.sum, "mean": np.mean}
def soft(z, q):
    with np.errstate(all="ignore"):
        d = z - z.max(axis=1, keepdims=True)
        s = np.exp(d).sum(axis=1, keepdims=True)
        loss = np.where(q == 0, 0, q * (np.log(s) - d)).sum(axis=1, dtype=z.dtype)
        return loss, np.exp(d) / s - q
def CE(z, y, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    q = np.eye(z.shape[1], dtype=z.dtype)[y] * z.dtype.type(1 - label_smoothing)
    loss, gradient = soft(z, q if weight is None else q * weight)
    return REDUCED[reduction](np.where(y == ignore_index, z.dtype.type(0), loss)), gradient
def BCE(z, y, pos_weight=None, reduction="mean"):
    p = 1 / (1 + np.exp(-z))
    return REDUCED[reduction](-y * np.log(p) - (1 - y) * np.log1p(-p)), p - y
"""
# Everything that a script has to see through: another name, a name that it uses itself, none at
# all, a wrapper that is not what was declared, and one that only another module knows.
DECLARATIONS = """
import functools
import lossaudit

mark = functools.partial(lossaudit.subject, framework=FRAMEWORK, dtypes=["float32", "float16"])

@mark(operation="cross_entropy", name="another name")
def cross_entropy(
    z, y, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"
):
    given = {} if weight is None else {"weight": weight}
    return CE(
        z, y, **given, ignore_index=ignore_index, label_smoothing=label_smoothing,
        reduction=reduction,
    )

@mark(operation="binary_cross_entropy_with_logits")
def logits(z, y, *, pos_weight=None, reduction="mean"):
    return BCE(z, y, pos_weight=pos_weight, reduction=reduction)

nameless = mark(operation="cross_entropy", target="distribution", name="nameless")(
    lambda z, q: soft(z, q)
)

def wrapped(function):
    @functools.wraps(function)
    def zeros(z, q):
        raise AssertionError("this is not what was declared")
    return zeros

@wrapped
@mark(operation="cross_entropy", target="distribution")
def inner(z, q):
    return soft(z, q)
"""
PACKAGES = {
    "numpy": IN_NUMPY,
    "torch": IN_TORCH,
    "jax": IN_JAX,
    "tensorflow": IN_TENSORFLOW,
}
IN_LIBRARIES = [
    pytest.param(name, marks=[] if name == "numpy" else [pytest.mark.frameworks])
    for name in PACKAGES
]
REEXPORTED = """
import lossaudit
from . import losses

mark = lossaudit.subject(
    operation="cross_entropy", framework=losses.FRAMEWORK, dtypes=["float32"], name="reexported"
)
kernel = mark(losses.cross_entropy)
"""


def of_user(library: str, folder: Path, place: str) -> Framework:
    """The functions of DECLARATIONS in a file that no import finds, or in a package."""
    if library != "numpy" and (reason := availability(FRAMEWORKS[library])):
        pytest.skip(reason)
    text = PACKAGES[library] + f"FRAMEWORK = {library!r}\n" + DECLARATIONS
    if place == "file":
        path = folder / "my-losses.py"
        path.write_text(text, encoding="utf-8")
        return modules.from_path(path)
    package = folder / "my_package" / "kernels"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("", encoding="utf-8")
    (package / "__init__.py").write_text(REEXPORTED, encoding="utf-8")
    (package / "losses.py").write_text(text, encoding="utf-8")
    return modules.described("kernels", f"{folder}::my_package.kernels")


@pytest.mark.parametrize(
    ("library", "place"),
    [*(pytest.param(*p.values, "file", marks=p.marks) for p in IN_LIBRARIES), ("numpy", "package")],
)
def test_scripts_of_a_users_functions_print_what_the_worker_returned(
    library: str, place: str, tmp_path: Path
):
    framework = of_user(library, tmp_path, place)
    assert not framework.unusable
    names = {
        "file": ["another name", "logits", "nameless", "inner"],
        "package": ["another name", "reexported"],
    }
    assert {s.op for s in framework.subjects} == set(names[place])
    with WorkerPool(frameworks={framework.name: framework}) as users:
        for dtype in {d for s in framework.subjects for d in s.dtypes}:
            folder = tmp_path / dtype
            folder.mkdir()
            chosen = [(s, dtype) for s in framework.subjects if dtype in s.dtypes]
            compared(users, framework, chosen, folder)


@pytest.mark.parametrize("library", IN_LIBRARIES)
def test_scripts_of_a_users_functions_pull_back_as_the_worker_does(library: str, tmp_path: Path):
    framework = of_user(library, tmp_path, "file")
    by_op = {s.op: s for s in framework.subjects}
    cotangent, nothing = np.array([1.0, -2.0, 0.25]), np.zeros((0, 4))
    of_rows = Options(reduction="none")
    cases = {}
    for op in ("another name", "logits", "nameless"):
        case = example(by_op[op], "float32")
        by_target = by_op[op].target != "index" and library != "numpy"
        pulled = replace(case, options=of_rows, cotangent=cotangent, by_target=by_target)
        cases[f"{op} pulled"] = (by_op[op], pulled)
    if library != "numpy":
        reduced = replace(example(by_op["logits"], "float32"), by_target=True)
        cases["both reduced"] = (by_op["logits"], reduced)
    empty = Case("cross_entropy", "float32", nothing, nothing, of_rows)
    cases["empty"] = (by_op["nameless"], empty)
    scripts = {name: framework.snippet(*pair) for name, pair in cases.items()}
    found = printed(framework, scripts, tmp_path)
    with WorkerPool(frameworks={framework.name: framework}) as users:
        for name, (subject, case) in cases.items():
            outcome = users.ask(subject, case)
            assert outcome.returned, (name, outcome.message)
            arrays = [outcome.loss, outcome.gradient, outcome.target_gradient]
            assert (outcome.target_gradient is not None) == case.by_target
            for shown, array in zip(found[name], arrays[: 2 + case.by_target], strict=True):
                assert array is not None
                np.testing.assert_array_equal(np.reshape(shown, array.shape), array, name)


FORGETFUL = """
import torch
import lossaudit

class Forgets(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, y):
        ctx.save_for_backward(torch.softmax(z, -1) - torch.eye(z.shape[1], dtype=z.dtype)[y])
        return torch.nn.functional.cross_entropy(z, y, reduction="sum")

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.saved_tensors[0], None

@lossaudit.subject(operation="cross_entropy", framework="torch", dtypes=["float32"])
def forgets(z, y, *, reduction="sum"):
    return Forgets.apply(z, y)
"""


@pytest.mark.frameworks
def test_scripts_show_a_backward_pass_that_forgets_its_cotangent(tmp_path: Path):
    path = tmp_path / "forgetful.py"
    path.write_text(FORGETFUL, encoding="utf-8")
    framework = modules.from_path(path)
    (subject,) = framework.subjects
    inputs, options = np.zeros((1, 2)), Options(reduction="sum")
    case = Case("cross_entropy", "float32", inputs, np.array([0]), options)
    with WorkerPool(frameworks={framework.name: framework}) as users:
        outcome = users.ask(subject, case)
    assert outcome.gradient is not None
    assert outcome.gradient.tolist() == [[-0.25, 0.25]], "half of what it has to be"
    script = framework.snippet(subject, case)
    assert printed(framework, {"": script}, tmp_path)[""][1] == outcome.gradient.tolist()


def test_a_function_that_no_import_finds_is_said_to_be_one():
    found = declare(lambda z, y: (z[y], z), operation="cross_entropy", framework="numpy")
    case = example(found.subject, "float32")
    script = modules.snippet(found.subject, case)
    ast.parse(script)
    assert "\n# function: the function that was checked; no import finds it\n" in script


def test_numbers_in_scripts_read_back_exactly():
    values = np.array([[0.1, -0.0], [5e-324, -np.inf], [1.7976931348623157e308, np.nan]])
    back = np.array(eval(nested(values), {"float": float}))  # noqa: S307
    np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(np.signbit(back[:2]), np.signbit(values[:2]))


def test_runs_of_equal_rows_are_written_once():
    assert nested(np.array([[1.0, 2.0], *[[3.0, 4.0]] * 5])) == "[[1.0, 2.0]] + [[3.0, 4.0]] * 5"
    assert nested(np.array([7, 0, 0, 0, 0, 1])) == "[7] + [0] * 4 + [1]"
    assert (nested(np.zeros((0, 3))), cut(np.zeros((0, 3)))) == ("[[0.0, 0.0, 0.0]]", "[:0]")
    assert (nested(np.array([5])), cut(np.array([5]))) == ("[5]", "")


def test_long_runs_of_equal_numbers_are_written_once():
    row = np.zeros((1, 70000))
    assert nested(row) == "[[0.0] * 70000]"
    row[0, 0] = -np.inf
    text = nested(np.concatenate([row, row + 1.0]))
    assert text == ("[[float('-inf')] + [0.0] * 69999,\n     [float('-inf')] + [1.0] * 69999]")
    back = np.array(eval(text, {"float": float}))  # noqa: S307
    np.testing.assert_array_equal(back, [row[0], row[0] + 1.0])
    assert nested(np.zeros((5, 20))) == "[[0.0] * 20] * 5"
    assert vector([0.5] * 100 + [1.0]) == "[0.5] * 100 + [1.0]"
    assert (vector([]), vector([1.0, 1.0])) == ("[]", "[1.0, 1.0]")


@pytest.mark.frameworks
def test_a_script_of_a_vocabulary_prints_what_the_worker_returned(tmp_path: Path):
    framework = FRAMEWORKS["torch"]
    (subject,) = (s for s in framework.subjects if s.name == "torch:cross_entropy.index[eager,cpu]")
    case = Case("cross_entropy", "float32", np.zeros((1, 70000)), np.array([3]))
    with WorkerPool() as pool:
        usable(pool, framework)
        outcome = pool.ask(subject, case)
    script = framework.snippet(subject, case)
    assert "[[0.0] * 70000]" in script
    assert outcome.loss is not None
    ((loss, gradient),) = printed(framework, {subject.name: script}, tmp_path).values()
    np.testing.assert_array_equal(loss, outcome.loss)
    np.testing.assert_array_equal(gradient, outcome.gradient)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["jax", "keras-jax"])
def test_a_label_beyond_32_bits_is_cut_in_the_script_as_in_the_worker(
    pool: WorkerPool, name: str, tmp_path: Path
):
    framework = FRAMEWORKS[name]
    usable(pool, framework)
    subject = next(
        s
        for s in framework.subjects
        if (s.operation, s.target, s.mode) == ("cross_entropy", "index", "eager")
    )
    case = Case("cross_entropy", "float32", np.array([[1.0, 0.0, 0.0]]), np.array([2**32]))
    outcome = pool.ask(subject, case)
    assert outcome.loss is not None, outcome
    (script,) = printed(framework, {"far": framework.snippet(subject, case)}, tmp_path).values()
    np.testing.assert_array_equal(script[0], outcome.loss)
