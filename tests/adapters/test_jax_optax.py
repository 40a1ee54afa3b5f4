"""Options and modes of JAX, each against the reference under the declared bounds."""

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
from lossaudit.adapters.jax_optax import INTEGER, LOG_TARGETS, JaxRuntime
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.runtime import Call, Unsupported
from lossaudit.adapters.subject import Subject
from lossaudit.reference.bounds import error_bound
from lossaudit.reference.exact import Exact, subtract, to_float
from lossaudit.reference.related_rows import RELATED
from lossaudit.reference.rows import reduce_truth, target_truth, truth
from lossaudit.reference.vocabulary import Case, Floats, Options, Outcome

ROWS, CLASSES = 8, 4
WHERE = (True, False, True, True)


def case_of(subject: Subject, options: Options, *, pulled: bool = True) -> Case:
    """Quarters, and a class that no target names, for the mask to leave out."""
    rng = np.random.default_rng(0)
    binary = subject.target == "binary"
    rows, classes = subject.shape or (ROWS, 1 if binary else CLASSES)
    inputs = rng.integers(-12, 13, (rows, classes)) / 4
    target = rng.integers(0, 5, (rows, classes)) / 4
    if subject.target == "index":
        target = 2 * rng.integers(0, 2, rows)
    elif subject.op == LOG_TARGETS:
        target += 0.25  # of zero there is no logarithm to pass
    elif not binary:
        target[:, 1] = 0.0
    elif "focal" in subject.operation:
        target = np.rint(target)
    cotangent = rng.integers(-4, 5, rows) / 2 if pulled else None
    by_target = subject.target != "index" and subject.operation not in RELATED
    return Case(
        subject.operation,
        "float32",
        inputs,
        target,
        options,
        cotangent=cotangent,
        by_target=by_target,
    )


def asked(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    try:
        return pool.ask(subject, case)
    except UnusableFramework as error:
        pytest.skip(str(error))


def distance(value: Floats | None, exact: Exact) -> Floats:
    assert value is not None
    return np.abs(to_float(subtract(exact, Exact.from_float(value))))


def demand_right(subject: Subject, case: Case, outcome: Outcome) -> None:
    assert (outcome.status, outcome.message) == ("returned", "")
    loss, gradient = reduce_truth(truth(case, subject.semantics), case, subject.semantics)
    bound = error_bound(case, subject.semantics, subject.arithmetic["float32"])
    assert np.isfinite(bound.loss).all()
    assert (distance(outcome.loss, loss) <= bound.loss).all()
    assert (distance(outcome.gradient, gradient) <= bound.gradient).all()
    assert (outcome.target_gradient is not None) == case.by_target


def every_option(subject: Subject) -> Options:
    taken = {"where": WHERE, "axis": 1, "label_smoothing": 0.25, "gamma": 1.5, "alpha": 0.75}
    return Options(**{name: taken[name] for name in subject.options})


EAGER = [s for s in subjects(["jax"], "deep") if not s.compiled]


@pytest.mark.frameworks
@pytest.mark.parametrize("subject", EAGER, ids=lambda s: s.name)
def test_all_options_at_once_follow_the_reference(pool: WorkerPool, subject: Subject) -> None:
    case = case_of(subject, every_option(subject))
    demand_right(subject, case, asked(pool, subject, case))


@pytest.mark.frameworks
@pytest.mark.parametrize("subject", [s for s in EAGER if "axis" in s.options], ids=lambda s: s.name)
def test_the_second_axis_may_be_that_of_the_classes(pool: WorkerPool, subject: Subject) -> None:
    case = case_of(subject, Options(axis=1))
    demand_right(subject, case, asked(pool, subject, case))


@pytest.mark.frameworks
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_many_labels_are_reduced_over_rows_and_labels(pool: WorkerPool, reduction: str) -> None:
    (subject,) = (s for s in EAGER if s.op.endswith(".multilabel"))
    case = case_of(subject, Options(reduction=reduction), pulled=False)
    demand_right(subject, case, asked(pool, subject, case))


@pytest.mark.frameworks
@pytest.mark.parametrize("mode", ["eager", "vmap", "forward"])
def test_the_gradient_in_the_target(pool: WorkerPool, mode: str) -> None:
    """Every mode has it, and forward differentiation that of many classes at once."""
    wanted = ("safe_softmax_cross_entropy", mode)
    (subject,) = (s for s in EAGER if (s.op, s.mode) == wanted)
    case = case_of(subject, Options())
    outcome = asked(pool, subject, case)
    exact = target_truth(case, subject.semantics).gradient
    # -log p, whose bound is that of the loss for each class alone, and a product.
    limit = np.stack([one_class(subject, case, j) for j in range(CLASSES)], axis=1)
    factor = np.abs(np.asarray(case.cotangent))[:, None]
    size = np.abs(to_float(exact))
    assert (distance(outcome.target_gradient, exact) <= factor * limit + 2.0**-23 * size).all()


ODD = {
    "index": [((1, 2, 2), np.array([[0, 1]]))],
    "distribution": [((1, 2, 2), np.full((1, 2, 2), 0.5)), ((2, 2), np.ones((2, 1)))],
    "binary": [((1, 2), np.array([[0.25, 1.0]])), ((2, 1), np.array([0.25, 1.0]))],
}


@pytest.mark.frameworks
@pytest.mark.parametrize("subject", [s for s in EAGER if s.mode == "forward"], ids=lambda s: s.name)
def test_forward_differentiation_takes_any_shape(pool: WorkerPool, subject: Subject) -> None:
    """As eagerly; the gradients are sums of a few numbers below 2, whose ulp is 2^-23 at most."""
    for shape, target in ODD[subject.target]:
        inputs = np.arange(float(np.prod(shape))).reshape(shape) / 2
        case = Case(subject.operation, "float32", inputs, target)
        forward = asked(pool, subject, case)
        backward = asked(pool, replace(subject, mode="eager"), case)
        assert (forward.status, forward.message) == (backward.status, backward.message)
        assert forward.loss is not None
        np.testing.assert_array_equal(forward.loss, backward.loss)
        assert forward.gradient is not None
        assert forward.gradient.shape == shape
        assert backward.gradient is not None
        np.testing.assert_allclose(forward.gradient, backward.gradient, rtol=0, atol=8 * 2.0**-23)


PLACED = """
import sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from lossaudit.adapters.jax_optax import OPS, JaxRuntime
from lossaudit.adapters.runtime import Call
from lossaudit.reference.vocabulary import Options

class Looking(JaxRuntime):
    def _raw(self, array):
        print(*(device.id for device in array.devices()))
        return super()._raw(array)

runtime = Looking()
second = jax.devices("cpu")[1]
runtime._devices["cuda"] = second
ones = np.full((8, 4), 0x3F800000, np.uint32)
options = Options(where=(True, False, True, True))
for mode in ("eager", "jit", "vmap", "forward"):
    for op, y in (("softmax_cross_entropy", ones), ("log_softmax.index", np.zeros(8, np.int64))):
        if mode in ("eager", "jit") or op in ("softmax_cross_entropy",):
            runtime.call(Call(op, mode, "float32", ones, y, options, device="cuda"))
"""


@pytest.mark.frameworks
def test_arrays_lie_on_the_device_that_was_asked_for(tmp_path: Path) -> None:
    """The second of two CPUs stands in for a GPU."""
    pytest.importorskip("optax")
    (tmp_path / "lossaudit").symlink_to(Path(lossaudit.adapters.__file__).parent.parent)
    flag = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", PLACED, str(tmp_path)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Loss and gradient of six calls.
    assert done.stdout.split() == ["1"] * 12


@pytest.mark.frameworks
def test_a_device_that_jax_does_not_find_is_no_fault_of_the_op() -> None:
    pytest.importorskip("optax")
    runtime = JaxRuntime()
    runtime._devices.pop("cuda", None)
    assert list(runtime._devices) == runtime.facts()["devices"].split(", ") == ["cpu"]
    zeros = np.zeros((2, 3), np.uint32)
    call = Call(INTEGER, "eager", "float32", zeros, np.zeros(2, np.int64), Options(), device="cuda")
    with pytest.raises(Unsupported, match="jax has no device 'cuda' here"):
        runtime.call(call)


def one_class(subject: Subject, case: Case, j: int) -> Floats:
    hot = np.tile(np.arange(CLASSES) == j, (case.rows, 1)).astype(np.float64)
    alone = replace(case, target=hot, cotangent=None)
    return error_bound(alone, subject.semantics, subject.arithmetic["float32"]).loss


@pytest.mark.frameworks
def test_what_an_old_version_lacks_is_unsupported() -> None:
    pytest.importorskip("optax")
    runtime = JaxRuntime()

    def old(logits: Floats, labels: Floats) -> Floats:
        return logits * labels

    with pytest.raises(Unsupported, match=r"old of jax .* has no argument 'axis'"):
        runtime._taking(old, Options(axis=1), {"axis": 1})
    with pytest.raises(Unsupported, match="no argument 'where'"):
        runtime._taking(old, Options(where=WHERE), {})
    with pytest.raises(Unsupported, match="has no no_such_loss"):
        runtime._op("no_such_loss", Options())


def test_modes_beside_compilation_take_any_shape() -> None:
    modes = {s.mode: s.shape for s in FRAMEWORKS["jax"].subjects}
    free = {mode for mode, shape in modes.items() if shape is None}
    assert free == {"eager", "vmap", "forward", "second"}
