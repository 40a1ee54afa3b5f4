"""The real frameworks, on inputs whose losses and gradients are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import Framework, Subject
from lossaudit.reference.formats import FORMATS, next_down, next_up, round_to_format
from lossaudit.reference.vocabulary import Case, Floats, Options, Outcome

pytestmark = pytest.mark.frameworks

CROSS_ENTROPIES = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)

CALLS = [
    pytest.param(
        subject,
        dtype,
        id=f"{subject.name}-{dtype}",
        marks=[pytest.mark.slow] * (subject.mode == "compile"),
    )
    for subject in subjects()
    if subject.operation in CROSS_ENTROPIES and not subject.misuse
    for dtype in subject.dtypes
]


WRONG_AT_ZERO = "weighted_cross_entropy_with_logits"
"""Of TensorFlow: its gradient at z = 0 is wrong, which the audit finds."""


def asked(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    try:
        return pool.ask(subject, case)
    except UnusableFramework as error:
        pytest.skip(str(error))


def uniform(subject: Subject, dtype: str) -> Case:
    """Equal logits or probabilities: four classes, or the number that the subject takes."""
    rows, classes = subject.shape or ((3, 1) if subject.target == "binary" else (3, 4))
    share = 0.5 if classes == 1 else float(round_to_format(1 / classes, FORMATS[dtype]))
    inputs = np.full((rows, classes), 0.0 if subject.from_logits else share)
    if subject.target == "index":
        target = np.arange(rows) % classes
    elif subject.target == "binary":
        target = (np.arange(rows) % 2).astype(np.float64)[:, None]
    else:
        target = np.eye(classes)[np.arange(rows) % classes]
    return Case(subject.operation, dtype, inputs, target)


def neighbours(value: float, dtype: str) -> tuple[float, float]:
    """The two values of a format next to the one that a real number rounds to."""
    rounded = round_to_format(value, FORMATS[dtype])
    return float(next_down(rounded, FORMATS[dtype])), float(next_up(rounded, FORMATS[dtype]))


def within_an_ulp(values: Floats, truth: Floats, dtype: str) -> bool:
    pairs = (neighbours(float(t), dtype) for t in truth.ravel())
    return all(low <= v <= high for v, (low, high) in zip(values.ravel(), pairs, strict=True))


def one_hot(case: Case) -> Floats:
    if case.target.ndim == 2:
        return case.target.astype(np.float64)
    return np.eye(case.inputs.shape[1])[case.target.astype(np.int64)]


@pytest.mark.parametrize(("subject", "dtype"), CALLS)
def test_equal_classes_cost_log_k(pool: WorkerPool, subject: Subject, dtype: str):
    """CE of equal logits is log K with the gradient 1/K - y, BCE at 0 is log 2 with 1/2 - y.

    From probabilities the gradients are 1 - y K and (1 - 2 y) 2.
    """
    case = uniform(subject, dtype)
    outcome = asked(pool, subject, case)
    assert (outcome.status, outcome.message) == ("returned", "")
    assert outcome.loss_dtype == (
        dtype if subject.semantics.output == "input" else subject.semantics.output
    )
    assert outcome.loss is not None
    classes = max(case.inputs.shape[1], 2)
    assert within_an_ulp(outcome.loss, np.full(case.rows, math.log(classes)), dtype)
    assert (outcome.gradient is not None) == subject.gradients
    if outcome.gradient is None or subject.op == WRONG_AT_ZERO:
        return
    if subject.target == "binary":
        truth = 0.5 - one_hot(case) if subject.from_logits else 2 * (1 - 2 * one_hot(case))
    elif subject.from_logits:
        truth = 1 / classes - one_hot(case)
    else:
        truth = 1.0 - classes * one_hot(case)
    assert within_an_ulp(outcome.gradient, truth, dtype)


LABELLED = [
    s
    for s in subjects(depth="quick")
    if s.target == "index" and s.from_logits and s.operation != "logsumexp"
]


@pytest.mark.parametrize("subject", LABELLED, ids=lambda s: s.name)
def test_a_label_out_of_range_follows_the_declared_policy(pool: WorkerPool, subject: Subject):
    case = Case(subject.operation, "float32", np.zeros((1, 3)), np.array([3]))
    outcome = asked(pool, subject, case)
    if "raises" in subject.semantics.label_policy:
        assert outcome.status == "raised"
    elif subject.semantics.label_policy == "zero":
        assert outcome.loss is not None
        assert outcome.loss.tolist() == [0.0]
    else:  # "wraps" wraps negative labels only
        assert outcome.returned
        assert outcome.loss is not None
        assert np.isnan(outcome.loss).all()


IGNORING = [
    s for s in subjects(depth="quick") if "ignore_index" in s.options and "mean" in s.reductions
]


@pytest.mark.parametrize("subject", IGNORING, ids=lambda s: s.name)
def test_ignored_rows_follow_the_declaration(pool: WorkerPool, subject: Subject):
    inputs = np.full((2, 2), 0.5)
    options = Options(ignore_index=1, reduction="mean")
    mixed = Case(subject.operation, "float32", inputs, np.array([0, 1]), options)
    outcome = asked(pool, subject, mixed)
    assert outcome.loss is not None
    assert within_an_ulp(outcome.loss, np.array(math.log(2)), "float32")
    nothing = Case(subject.operation, "float32", inputs, np.array([1, 1]), options)
    outcome = asked(pool, subject, nothing)
    assert outcome.loss is not None
    assert math.isnan(outcome.loss) == (subject.semantics.all_ignored == "nan")


def clips_its_sigmoid(subject: Subject) -> bool:
    """Keras on NumPy does, and that of 64 costs no more than one of 17."""
    return subject.framework == "keras-numpy" and subject.target == "binary"


SMOOTHED = [
    s
    for s in subjects(depth="quick")
    if "label_smoothing" in s.options and s.from_logits and not clips_its_sigmoid(s)
]


@pytest.mark.parametrize("subject", SMOOTHED, ids=lambda s: s.name)
def test_label_smoothing_follows_the_declared_formula(pool: WorkerPool, subject: Subject):
    """z = [0, -64], y = 0, eps = 1/4: the loss is 64 times the smoothed share of class 1.

    That is 64 eps/2 = 8 under eps/K, and under 'toward 1/2' for z = 64, y = 1.
    """
    options = Options(label_smoothing=0.25)
    if subject.target == "binary":
        case = Case(subject.operation, "float32", np.array([[64.0]]), np.array([[1.0]]), options)
    else:
        target = np.array([0]) if subject.target == "index" else np.array([[1.0, 0.0]])
        case = Case(subject.operation, "float32", np.array([[0.0, -64.0]]), target, options)
    outcome = asked(pool, subject, case)
    assert outcome.loss is not None
    assert outcome.loss.tolist() == [8.0]


def test_weights_of_torch_divide_by_their_sum(pool: WorkerPool):
    (subject,) = (
        s
        for s in subjects(["torch"], "quick")
        if (s.op, s.mode) == ("cross_entropy.index", "eager")
    )
    inputs = np.array([[0.0, 0.0], [0.0, -64.0]])
    options = Options(weight=(1.0, 3.0), reduction="mean")
    case = Case(subject.operation, "float64", inputs, np.array([0, 1]), options)
    outcome = asked(pool, subject, case)
    assert outcome.loss is not None
    assert within_an_ulp(outcome.loss, np.array((math.log(2) + 3 * 64) / 4), "float64")


def test_the_positive_weight_of_torch(pool: WorkerPool):
    (subject,) = (
        s
        for s in subjects(["torch"], "quick")
        if (s.op, s.mode) == ("binary_cross_entropy_with_logits", "eager")
    )
    case = Case(
        subject.operation,
        "float64",
        np.zeros((2, 1)),
        np.array([[1.0], [0.0]]),
        Options(pos_weight=3.0),
    )
    outcome = asked(pool, subject, case)
    assert outcome.loss is not None
    assert within_an_ulp(outcome.loss, np.array([3 * math.log(2), math.log(2)]), "float64")


def test_versions_and_facts(pool: WorkerPool, framework: Framework):
    try:
        versions = pool.versions(framework.name)
    except UnusableFramework as error:
        pytest.skip(str(error))
    assert set(versions) == set(framework.packages)
    facts = pool.facts(framework.name)
    assert all(facts.keys())
    assert facts["subnormals"] in ("kept", "flushed", "flushed in part")
    assert facts["devices"].split(", ")[0].lower() == "cpu"
    flags = {
        "torch": ("ATEN_CPU_CAPABILITY", "allow_tf32", "threads"),
        "tensorflow": ("TF_ENABLE_ONEDNN_OPTS", "oneDNN", "XLA_FLAGS", "threads"),
        "keras": ("TF_ENABLE_ONEDNN_OPTS", "oneDNN", "XLA_FLAGS", "epsilon"),
        "jax": ("XLA_FLAGS", "x64", "matmul precision"),
        "onnxruntime": ("providers", "graph optimisation", "threads"),
    }
    assert set(flags.get(framework.name, ("backend", "epsilon"))) <= set(facts)


def test_jax_runs_float64_in_a_process_of_its_own(pool: WorkerPool):
    subject = FRAMEWORKS["jax"].subjects[0]
    for dtype in ("float64", "float32"):
        asked(pool, subject, uniform(subject, dtype))
    environment = pool.environment()
    assert {"jax", "jax-x64"} <= set(environment)
    x64 = environment["jax-x64"]["frameworks"]["jax_optax"]["facts"]["x64"]
    assert (x64, pool.facts("jax")["x64"]) == ("True", "False")


def test_keras_shares_the_process_of_tensorflow(pool: WorkerPool):
    for name in ("tensorflow", "keras"):
        subject = FRAMEWORKS[name].subjects[0]
        asked(pool, subject, uniform(subject, "float32"))
    assert "keras_losses" in pool.environment()["tensorflow"]["frameworks"]
