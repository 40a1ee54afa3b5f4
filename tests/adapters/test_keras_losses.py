"""Keras on each of its backends, where they agree and where they differ."""

from __future__ import annotations

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework, WorkerPool
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


@pytest.mark.parametrize("backend", ["keras", "keras-torch", "keras-numpy"])
def test_only_tensorflow_recovers_the_logits_of_an_activation(pool: WorkerPool, backend: str):
    subject = named(backend, "CategoricalCrossentropy.softmax")
    case = Case(subject.operation, "float32", np.array([[100.0, 0.0]]), np.array([[0.0, 1.0]]))
    outcome = ask(pool, subject, case)
    assert outcome.loss is not None
    # The clip at 1e-7 costs -log(1e-7) = 16.118...
    expected = 100.0 if backend == "keras" else float(-np.log(np.float32(1e-7)))
    assert outcome.loss.tolist() == [expected]


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
