"""Keras on each of its backends, where they agree and where they differ."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lossaudit.adapters
from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.keras_losses import OPS
from lossaudit.adapters.registry import FRAMEWORKS, members
from lossaudit.adapters.subject import Subject
from lossaudit.reference.vocabulary import Case, Options, Outcome

pytestmark = pytest.mark.frameworks

BACKENDS = members(["keras"])


def ask(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    try:
        return pool.ask(subject, case)
    except UnusableFramework as error:
        pytest.skip(str(error))


def named(backend: str, op: str, mode: str = "eager") -> Subject:
    (found,) = (s for s in FRAMEWORKS[backend].subjects if (s.op, s.mode) == (op, mode))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_holds_the_backend_that_it_is_named_for(pool: WorkerPool, backend: str):
    try:
        facts = pool.facts(backend)
    except UnusableFramework as error:
        pytest.skip(str(error))
    expected = {"keras": "tensorflow"}.get(backend, backend.removeprefix("keras-"))
    assert facts["backend"] == expected


PLACED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from lossaudit.adapters import keras_losses
from lossaudit.adapters.keras_jax import KerasJaxRuntime
from lossaudit.adapters.runtime import Call, Unsupported
from lossaudit.reference.vocabulary import Options

class Looking(KerasJaxRuntime):
    def _raw(self, array):
        print(*(device.id for device in array.devices()))
        return super()._raw(array)

runtime = Looking()
op, ones = "CategoricalCrossentropy.logits", np.full((2, 3), 0x3F800000, np.uint32)
call = Call(op, "eager", "float32", ones, ones, Options(), device="cuda")
try:
    runtime.call(call)
except Unsupported as error:
    print(error)
keras_losses.DEVICES["cuda"] = "cpu:1"
runtime._devices = ("cpu", "cuda")
runtime.call(call)
"""


def test_arrays_lie_on_the_device_that_was_asked_for(tmp_path: Path):
    """The second of two CPUs stands in for a GPU."""
    if reason := availability(FRAMEWORKS["keras-jax"]):
        pytest.skip(reason)
    (tmp_path / "lossaudit").symlink_to(Path(lossaudit.adapters.__file__).parent.parent)
    flag = "--xla_force_host_platform_device_count=2"
    told = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", PLACED, str(tmp_path)],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused = "keras on jax has no device 'cuda' here"
    assert done.stdout.splitlines() == [refused, "1", "1"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_sample_weights_are_factors_of_rows(pool: WorkerPool, backend: str):
    subject = named(backend, "SparseCategoricalCrossentropy.logits")
    inputs, target, options = np.zeros((3, 2)), np.array([0, 1, 1]), Options(reduction="sum")
    plain = Case(subject.operation, "float32", inputs, target, options)
    weight = np.array([2.0, 0.0, 1.0])
    weighted = Case(subject.operation, "float32", inputs, target, options, sample_weight=weight)
    a, b = ask(pool, subject, plain), ask(pool, subject, weighted)
    assert a.loss is not None
    assert b.loss is not None
    assert a.loss == b.loss
    if subject.gradients:
        assert b.gradient is not None
        assert b.gradient.tolist() == [[-1.0, 1.0], [0.0, -0.0], [0.5, -0.5]]


@pytest.mark.parametrize("loss", ["CategoricalCrossentropy", "SparseCategoricalCrossentropy"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_only_tensorflow_recovers_the_logits_of_an_activation(
    pool: WorkerPool, backend: str, loss: str
):
    subject = named(backend, f"{loss}.softmax")
    target = np.array([1]) if subject.target == "index" else np.array([[0.0, 1.0]])
    case = Case(subject.operation, "float32", np.array([[100.0, 0.0]]), target)
    outcome = ask(pool, subject, case)
    assert outcome.loss is not None
    # The clip at 1e-7 costs -log(1e-7) = 16.118...
    expected = 100.0 if backend == "keras" else float(-np.log(np.float32(1e-7)))
    assert outcome.loss.tolist() == [expected]


def test_every_backend_has_every_loss():
    """As a class and as a function, from logits and probabilities: one table for all of them."""
    ops = [{s.op for s in FRAMEWORKS[name].subjects if s.mode == "eager"} for name in BACKENDS]
    assert ops == [set(OPS)] * len(BACKENDS)
    for name, op in OPS.items():
        assert op.is_class or OPS[op.like].is_class, name


def example(subject: Subject) -> Case:
    """Four rows, of hard targets: a focal loss is of no others."""
    binary, index = subject.target == "binary", subject.target == "index"
    shares = np.array([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5]] * 2)
    inputs = shares[:, :1] if binary else shares
    if subject.from_logits:
        inputs = 8 * inputs - 2
    labels = np.array([0, 1, 1, 0])
    soft = labels[:, None].astype(float) if binary else np.eye(3)[labels]
    return Case(subject.operation, "float32", inputs, labels if index else soft)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_gives_what_its_class_gives(pool: WorkerPool, backend: str):
    names = [name for name, op in OPS.items() if not op.is_class]
    assert len(names) == 11
    for name in names:
        function, of_class = named(backend, name), named(backend, OPS[name].like)
        case = example(function)
        a, b = ask(pool, function, case), ask(pool, of_class, case)
        assert a.returned, (name, a.message)
        assert b.returned, (name, b.message)
        np.testing.assert_array_equal(a.loss, b.loss, name)
        if function.gradients:
            np.testing.assert_array_equal(a.gradient, b.gradient, name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_of_several_labels_are_those_of_each_and_their_mean(pool: WorkerPool, backend: str):
    subject = named(backend, "BinaryCrossentropy.multilabel")
    case = example(subject)
    case = case.take(np.resize(np.arange(4), 8))  # two examples of four labels
    mean = replace(case, options=Options(reduction="mean"))
    single = named(backend, "BinaryCrossentropy.logits")
    each, one, alone = (
        ask(pool, s, c) for s, c in ((subject, case), (subject, mean), (single, case))
    )
    assert each.loss is not None
    assert one.loss is not None
    np.testing.assert_array_equal(each.loss, alone.loss)
    assert one.loss.shape == ()
    # Eight losses below 4 are added and divided: nine roundings of numbers below 32.
    assert abs(one.loss - each.loss.mean()) <= 9 * 32 * 2.0**-24
    if subject.gradients:
        assert each.gradient is not None
        assert one.gradient is not None
        assert each.gradient.shape == one.gradient.shape == case.inputs.shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_is_a_factor_where_an_ignored_class_is_left_out(pool: WorkerPool, backend: str):
    """0 times an infinite loss is NaN."""
    masked = named(backend, "SparseCategoricalCrossentropy.masked")
    ignoring = named(backend, "SparseCategoricalCrossentropy.logits")
    options = Options(ignore_index=-1)
    inputs = np.array([[-np.inf, 0.0], [0.0, 0.0], [0.0, 0.0]])
    case = Case("cross_entropy", "float32", inputs, np.array([-1, 1, 0]), options)
    log_2 = float(np.log(np.float32(2)))
    for subject, expected in ((masked, np.nan), (ignoring, 0.0)):
        outcome = ask(pool, subject, case)
        np.testing.assert_array_equal(outcome.loss, [expected, log_2, log_2], subject.name)
    finite = replace(case, inputs=np.zeros((3, 2)), options=replace(options, reduction="mean"))
    for subject in (masked, ignoring):
        loss = ask(pool, subject, finite).loss
        assert loss is not None
        assert loss == pytest.approx(log_2, rel=2.0**-21)  # 3/2, two products, a sum and 1/3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", ["KLDivergence", "CategoricalFocalCrossentropy.logits"])
def test_sample_weights_are_factors_of_related_losses(pool: WorkerPool, backend: str, op: str):
    subject = named(backend, op)
    case, weight = example(subject), np.array([2.0, 0.0, 1.0, 0.5])
    plain, weighted = (
        ask(pool, subject, case),
        ask(pool, subject, replace(case, sample_weight=weight)),
    )
    assert plain.loss is not None
    np.testing.assert_array_equal(weighted.loss, weight * plain.loss)
    if subject.gradients:
        assert plain.gradient is not None
        np.testing.assert_array_equal(weighted.gradient, weight[:, None] * plain.gradient)


@pytest.mark.parametrize("backend", ["keras-torch"])
def test_the_target_has_a_gradient(pool: WorkerPool, backend: str):
    subject = named(backend, "CategoricalCrossentropy.logits")
    target, cotangent = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 4.0])
    case = Case(
        subject.operation,
        "float32",
        np.zeros((2, 2)),
        target,
        cotangent=cotangent,
        by_target=True,
    )
    outcome = ask(pool, subject, case)
    assert outcome.gradient is not None
    assert outcome.gradient.tolist() == [[0.5, -0.5], [-2.0, 2.0]]
    assert outcome.target_gradient is not None
    log_2 = float(np.log(np.float32(2)))
    assert outcome.target_gradient.tolist() == [[log_2, log_2], [4 * log_2, 4 * log_2]]


def test_numpy_gives_the_loss_alone(pool: WorkerPool):
    subject = named("keras-numpy", "BinaryCrossentropy.logits")
    case = Case(subject.operation, "float32", np.zeros((1, 1)), np.ones((1, 1)))
    outcome = ask(pool, subject, case)
    assert outcome.returned
    assert outcome.gradient is None
