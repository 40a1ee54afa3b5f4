"""TensorFlow's own: axes, several labels an example, gradients in the target, graphs."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.runtime import Call, Unsupported
from lossaudit.adapters.subject import Subject
from lossaudit.adapters.tensorflow_nn import TensorFlowRuntime, labelled
from lossaudit.reference.bounds import bounds
from lossaudit.reference.vocabulary import Case, Options, Outcome

pytestmark = pytest.mark.frameworks

INPUTS = np.array([[0.0, 1.0, -2.0], [3.0, 0.5, 0.25]])
ONE_HOT = np.eye(3)[[2, 0]]


def named(op: str, mode: str = "eager") -> Subject:
    (found,) = (s for s in FRAMEWORKS["tensorflow"].subjects if (s.op, s.mode) == (op, mode))
    return found


def ask(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    try:
        return pool.ask(subject, case)
    except UnusableFramework as error:
        pytest.skip(str(error))


def test_classes_along_another_axis_cost_the_same(pool: WorkerPool):
    subject = named("softmax_cross_entropy_with_logits")
    case = Case(subject.operation, "float32", INPUTS, ONE_HOT)
    plain = ask(pool, subject, case)
    moved = ask(pool, subject, replace(case, options=Options(axis=1)))
    assert plain.loss is not None
    assert moved.loss is not None
    assert moved.loss.tolist() == plain.loss.tolist()
    np.testing.assert_array_equal(moved.gradient, plain.gradient)


@pytest.mark.parametrize(("rows", "shape"), [(64, (16, 4)), (6, (3, 2)), (1, (1, 1)), (0, (0, 4))])
def test_rows_lie_side_by_side_as_labels(rows: int, shape: tuple[int, int]):
    assert labelled(rows) == shape


def test_labels_are_reduced_with_their_examples(pool: WorkerPool):
    subject = named("sigmoid_cross_entropy_with_logits.multilabel")
    case = Case(subject.operation, "float32", np.zeros((8, 1)), np.ones((8, 1)))
    declared = bounds(case, subject.semantics, subject.arithmetic["float32"]).loss[0]
    for reduction, factor in (("none", 1.0), ("default", 1.0), ("sum", 8.0), ("mean", 1.0)):
        outcome = ask(pool, subject, replace(case, options=Options(reduction=reduction)))
        assert outcome.loss is not None
        rows = reduction in ("none", "default")
        assert outcome.loss.shape == ((8,) if rows else ())
        # Seven sums, in any order, round the whole by half an ulp each; by 8 is divided exactly.
        added = 0.0 if rows else 7 * 2**-24 * factor * math.log(2)
        allowed = factor * declared + added
        np.testing.assert_allclose(outcome.loss, factor * math.log(2), rtol=0, atol=allowed)


def test_the_target_has_the_gradient_of_a_linear_function(pool: WorkerPool):
    """At equal logits d loss / d q_j = log 3, and c_i times that under a cotangent."""
    subject = named("softmax_cross_entropy_with_logits")
    case = Case(subject.operation, "float64", np.zeros((2, 3)), ONE_HOT, by_target=True)
    outcome = ask(pool, subject, replace(case, cotangent=np.array([1.0, -2.0])))
    assert outcome.target_gradient is not None
    expected = np.outer([1.0, -2.0], np.full(3, math.log(3)))
    # exp(0) and its sum are exact, and so are products by 1 and -2: one logarithm is left, which
    # has 2 ulps here (EIGEN in tensorflow_nn.py) and 1 in math.log.
    np.testing.assert_allclose(outcome.target_gradient, expected, rtol=3 * 2**-52)


FORWARD = [s for s in FRAMEWORKS["tensorflow"].subjects if s.mode == "forward"]
ODD = {
    "index": ((1, 2, 2), np.array([[0, 1]])),
    "distribution": ((1, 2, 2), np.full((1, 2, 2), 0.5)),
    "binary": ((1, 2), np.array([[0.25, 1.0]])),
}


@pytest.mark.parametrize("subject", FORWARD, ids=lambda s: s.op)
def test_forward_differentiation_agrees_with_backward(pool: WorkerPool, subject: Subject):
    """Under cotangents, in the target, and in the shapes that the probe asks for."""
    classes = 1 if subject.target == "binary" else 3
    target = np.array([2, 0]) if subject.target == "index" else ONE_HOT[:, :classes]
    soft = subject.target != "index"
    plain = Case(
        subject.operation,
        "float32",
        INPUTS[:, :classes],
        target,
        cotangent=np.array([1.0, -2.0]),
        by_target=soft,
    )
    shape, odd = ODD[subject.target]
    inputs = np.arange(float(np.prod(shape))).reshape(shape)
    for case in (plain, Case(subject.operation, "float32", inputs, odd)):
        forward = ask(pool, subject, case)
        backward = ask(pool, replace(subject, mode="eager"), case)
        assert (forward.status, forward.message) == (backward.status, backward.message)
        np.testing.assert_array_equal(forward.loss, backward.loss)
        # Products by 0 and 1 are exact: the numbers are those of the backward pass, to an ulp or
        # two of those in [1, 8) where rows lie elsewhere in the registers.
        assert forward.gradient is not None
        assert backward.gradient is not None
        np.testing.assert_allclose(forward.gradient, backward.gradient, rtol=0, atol=2.0**-20)
        assert (forward.target_gradient is not None) == case.by_target
        if forward.target_gradient is not None:
            assert backward.target_gradient is not None
            np.testing.assert_allclose(
                forward.target_gradient, backward.target_gradient, rtol=0, atol=2.0**-20
            )


def test_a_zero_tangent_times_an_infinity_spoils_a_forward_derivative(pool: WorkerPool):
    """The labels have a tangent of zeros, which is multiplied by -log softmax all the same."""
    subject = named("softmax_cross_entropy_with_logits", "forward")
    inputs = np.array([[0.0, 0.0, -np.inf]])
    case = Case(subject.operation, "float32", inputs, np.array([[0.0, 1.0, 0.0]]))
    forward = ask(pool, subject, case)
    backward = ask(pool, replace(subject, mode="eager"), case)
    np.testing.assert_array_equal(forward.gradient, [[np.nan] * 3])
    np.testing.assert_array_equal(backward.gradient, [[0.5, -0.5, 0.0]])


def test_an_op_without_a_forward_derivative_is_left_out():
    tf = pytest.importorskip("tensorflow")
    runtime = TensorFlowRuntime()
    zeros = tf.zeros((2, 3))
    with pytest.raises(Unsupported, match="no forward derivative"):
        runtime._push(
            lambda z, _: tf.cast(tf.argmax(z, axis=1), tf.float32), [zeros, zeros], 0, zeros
        )
    with pytest.raises(Unsupported, match="one loss a row"):
        runtime._by_element(lambda z, _: z, [zeros, zeros], 0, tf.zeros(2))


def test_an_index_has_no_gradient(pool: WorkerPool):
    subject = named("sparse_softmax_cross_entropy_with_logits")
    case = Case(subject.operation, "float32", INPUTS, np.array([2, 0]), by_target=True)
    outcome = ask(pool, subject, case)
    assert (outcome.status, outcome.message) == (
        "unsupported",
        "TensorFlow gives sparse_softmax_cross_entropy_with_logits no gradient for its target",
    )


def test_the_gradient_of_the_weighted_loss_is_wrong_at_zero(pool: WorkerPool):
    """|z| and max(-z, 0) are differentiated at their kink: 1 - y in place of 1/2 - y."""
    subject = named("weighted_cross_entropy_with_logits")
    case = Case(subject.operation, "float32", np.zeros((2, 1)), np.array([[0.0], [1.0]]))
    outcome = ask(pool, subject, case)
    assert outcome.gradient is not None
    assert outcome.gradient.ravel().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("op", "value", "gradient"),
    [
        ("softmax.value", 0.25, [3 / 16, -1 / 16]),
        ("reduce_logsumexp.value", math.log(4), [0.25] * 2),
    ],
)
def test_the_values_of_softmax_and_logsumexp(
    pool: WorkerPool, op: str, value: float, gradient: list[float]
):
    case = Case(named(op).operation, "float32", np.zeros((2, 4)), np.zeros(2, dtype=np.int64))
    outcome = ask(pool, named(op), case)
    assert outcome.loss is not None
    assert outcome.gradient is not None
    declared = bounds(case, named(op).semantics, named(op).arithmetic["float32"])
    assert (np.abs(outcome.loss - value) <= declared.loss).all()
    assert (np.abs(outcome.gradient[:, :2] - gradient) <= declared.gradient[:, :2]).all()


def test_softmax_gives_0_beside_nan(pool: WorkerPool):
    subject = named("softmax.value")
    case = Case(subject.operation, "float32", np.array([[0.0, 0.0, np.nan]]), np.array([0]))
    outcome = ask(pool, subject, case)
    np.testing.assert_array_equal(outcome.loss, [0.0])
    np.testing.assert_array_equal(outcome.gradient, [[np.nan] * 3])


@pytest.mark.slow  # compiles
def test_a_wrong_label_under_xla_spoils_the_gradient_of_another_row(pool: WorkerPool):
    """Label 3 of row 0 is class 0 of row 1 where the gradient is scattered."""
    subject = named("log_softmax.index", "xla")
    target = np.zeros(64, dtype=np.int64)
    case = Case(subject.operation, "float32", np.zeros((64, 3)), target)
    wrong = replace(case, target=np.concatenate([[3], target[1:]]))
    right, spoiled = ask(pool, subject, case), ask(pool, subject, wrong)
    assert right.gradient is not None
    assert spoiled.gradient is not None
    np.testing.assert_array_equal(spoiled.gradient[1], 2 * right.gradient[1])
    np.testing.assert_array_equal(spoiled.gradient[2:], right.gradient[2:])


@pytest.mark.parametrize(
    ("gradients", "error"), [((None, 1.0), TypeError), ((1.0, None), Unsupported)]
)
def test_only_the_target_may_be_without_a_gradient(gradients: tuple[Any, ...], error: Any):
    class Runtime(TensorFlowRuntime):
        def __init__(self) -> None:
            """Without TensorFlow."""

        def _constant(self, bits: Any, dtype: str) -> Any:
            del dtype
            return bits

        def _program(self, call: Call) -> Any:
            del call
            return lambda *_: (np.zeros(2), *gradients)

    call = Call("op", "eager", "float32", INPUTS, ONE_HOT, Options(), by_target=True)
    with pytest.raises(error, match="no gradient for its"):
        Runtime()._call(call)


def test_what_was_computed_elsewhere_is_not_judged():
    """TensorFlow moves an op that has no kernel for a device, and says nothing."""

    class Runtime(TensorFlowRuntime):
        def __init__(self) -> None:
            """Without TensorFlow."""
            self._devices = ["cpu", "cuda"]
            self._tf = SimpleNamespace(device=nullcontext)

        def _constant(self, bits: Any, dtype: str) -> Any:
            del dtype
            return bits

        def _program(self, call: Call) -> Any:
            del call
            place = "/job:localhost/replica:0/task:0/device:CPU:0"
            return lambda *_: (SimpleNamespace(shape=(2,), device=place), INPUTS)

    call = Call("op", "eager", "float32", INPUTS, ONE_HOT, Options(), device="cuda")
    with pytest.raises(Unsupported, match=r"TensorFlow computed op on .*CPU:0"):
        Runtime().call(call)
    with pytest.raises(Unsupported, match="tensorflow has no device 'mps' here"):
        Runtime().call(replace(call, device="mps"))
