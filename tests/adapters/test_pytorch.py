"""What PyTorch's subjects take beyond plain batches, in every mode that needs no compiler."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.pytorch import FRAMEWORK, OPS
from lossaudit.adapters.registry import subjects
from lossaudit.adapters.subject import Subject
from lossaudit.reference.bounds import bounds, target_bounds
from lossaudit.reference.exact import to_float
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats, Options, Outcome

pytestmark = pytest.mark.frameworks

ROWS = 8
SUBJECTS = [s for s in subjects(["torch"], "quick") if "float32" in s.dtypes and not s.misuse]
LOWERED = [s for s in subjects(["torch"], "quick") if s.mode == "autocast"]
WITH_AXIS = [s for s in SUBJECTS if "axis" in s.options]
SOFT = [s for s in SUBJECTS if (s.operation, s.target) == ("cross_entropy", "distribution")]
WEIGHTED = [s for s in SUBJECTS if "sample_weight" in s.options]


@pytest.fixture(scope="module", autouse=True)
def _torch(pool: WorkerPool) -> None:
    try:
        pool.versions("torch")
    except UnusableFramework as error:
        pytest.skip(str(error))


def named(subject: Subject) -> str:
    return subject.name


def numbers(rows: int, columns: int, dtype: str = "float32") -> Floats:
    wave = np.sin(np.arange(rows * columns) * 1.7).reshape(rows, columns)
    return round_to_format(wave * 0.49 + 0.5, FORMATS[dtype])


def batch(subject: Subject, dtype: str = "float32") -> Case:
    """Inputs between 0 and 1, which are logits and probabilities alike, and targets of any kind."""
    classes = 1 if subject.target == "binary" else 3
    target = np.arange(ROWS) % 3
    if subject.target != "index":
        target = numbers(ROWS, classes + 1, dtype)[:, :classes]
    return Case(subject.operation, dtype, numbers(ROWS, classes, dtype), target)


def asked(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    outcome = pool.ask(subject, case)
    assert (outcome.status, outcome.message) == ("returned", "")
    return outcome


def within(value: Floats | None, exact: Floats, bound: Floats) -> bool:
    assert value is not None
    return bool((np.abs(value - exact) <= bound).all()) and bool(np.isfinite(bound).all())


def holds(subject: Subject, case: Case, outcome: Outcome) -> bool:
    """Loss and gradient lie inside the declared bounds around the exact values."""
    exact = truth(case, subject.semantics)
    declared = bounds(case, subject.semantics, subject.arithmetic[case.dtype])
    return within(outcome.loss, to_float(exact.loss), declared.loss) and within(
        outcome.gradient, to_float(exact.gradient), declared.gradient
    )


@pytest.mark.parametrize("subject", SUBJECTS, ids=named)
def test_a_cotangent_pulls_the_gradient_back(pool: WorkerPool, subject: Subject):
    case = replace(batch(subject), cotangent=numbers(ROWS, 1)[:, 0] * 2)
    outcome = asked(pool, subject, case)
    assert holds(subject, case, outcome)
    plain = asked(pool, subject, batch(subject))
    assert (outcome.gradient != plain.gradient).any()
    np.testing.assert_array_equal(outcome.loss, plain.loss)


@pytest.mark.parametrize("subject", WITH_AXIS, ids=named)
def test_the_axis_of_the_classes(pool: WorkerPool, subject: Subject):
    dtype = subject.dtypes[0]
    options = Options(axis=1)
    case = replace(batch(subject, dtype), options=options, cotangent=numbers(ROWS, 1, dtype)[:, 0])
    assert holds(subject, case, asked(pool, subject, case))


@pytest.mark.parametrize("subject", WEIGHTED, ids=named)
def test_sample_weights_multiply_the_losses(pool: WorkerPool, subject: Subject):
    case = replace(batch(subject), sample_weight=numbers(ROWS, 3)[:, 2] * 4)
    outcome = asked(pool, subject, case)
    assert holds(subject, case, outcome)
    assert (outcome.loss != asked(pool, subject, batch(subject)).loss).all()


@pytest.mark.parametrize("subject", SOFT, ids=named)
def test_the_gradient_of_a_distribution(pool: WorkerPool, subject: Subject):
    """d loss / d q_j = -log p_j, whatever the mode takes it by."""
    case = replace(batch(subject), by_target=True)
    outcome = asked(pool, subject, case)
    right = -np.log(np.exp(case.inputs) / np.exp(case.inputs).sum(axis=1, keepdims=True))
    bound = target_bounds(case, subject.semantics, subject.arithmetic["float32"])
    assert within(outcome.target_gradient, right, bound)


def test_a_divergence_is_reduced_over_rows_or_elements(pool: WorkerPool):
    """log-probabilities and targets of 1/2 and 1/4: each row has q (log q - x) = q log 2 thrice."""
    (subject,) = (s for s in SUBJECTS if s.op == "kl_div")
    q = np.array([[0.5, 0.25, 0.25]] * 4)
    case = Case(subject.operation, "float64", np.log(q) - np.log(2), q)
    exact = to_float(truth(case, subject.semantics).loss)[0]
    declared = bounds(case, subject.semantics, subject.arithmetic["float64"]).loss[0]
    for reduction, factor in (("none", 1.0), ("sum", 4.0), ("mean", 1.0), ("default", 1 / 3)):
        outcome = asked(pool, subject, replace(case, options=Options(reduction=reduction)))
        assert outcome.loss is not None
        # Twelve terms above 0 in any order and a quotient: as many halves of an ulp at most.
        allowed = factor * (declared + 12 * 2**-53 * exact)
        np.testing.assert_allclose(outcome.loss, factor * exact, rtol=0, atol=allowed)
        assert outcome.gradient is not None
        divisor = {"mean": 4, "default": 12}.get(reduction, 1)
        # 1/12 is rounded, and the product by it: the others are powers of two.
        allowed = 2**-52 if divisor == 12 else 0
        np.testing.assert_allclose(outcome.gradient, -q / divisor, rtol=allowed)


def test_a_target_of_zero_has_no_logarithm_to_pass(pool: WorkerPool):
    """e^-inf (-inf - x) is 0 times -inf."""
    (subject,) = (s for s in SUBJECTS if s.op == "kl_div.log_target")
    case = Case(subject.operation, "float32", np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]]))
    outcome = asked(pool, subject, case)
    np.testing.assert_array_equal(outcome.loss, [np.nan])
    np.testing.assert_array_equal(outcome.gradient, [[-1.0, 0.0]])


def test_a_divergence_of_a_masked_class_is_nan(pool: WorkerPool):
    """0 * -inf, where the term is absent: xlogy is taken for the target alone."""
    (subject,) = (s for s in SUBJECTS if s.op == "kl_div")
    case = Case(subject.operation, "float32", np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]]))
    outcome = asked(pool, subject, case)
    np.testing.assert_array_equal(outcome.loss, [np.nan])
    np.testing.assert_array_equal(outcome.gradient, [[-1.0, 0.0]])


@pytest.mark.parametrize(("mode", "axis"), [("forward", 1), ("vmap", -1)])
def test_modes_take_the_shapes_that_the_probe_asks_for(pool: WorkerPool, mode: str, axis: int):
    """As eagerly with classes in the second dimension; a mapped row has them in its last."""
    (subject,) = (s for s in SUBJECTS if (s.op, s.mode) == ("cross_entropy.index", mode))
    z = np.array([[[1.0, 0.0], [2.0, 4.0]]])
    case = Case(subject.operation, "float32", z, np.array([[0, 1]]))
    outcome = pool.ask(subject, case)
    assert "the loss has the shape (1, 2)" in outcome.message
    rows = z[0].T if axis == 1 else z[0]
    plain = asked(
        pool, replace(subject, mode="eager"), replace(case, inputs=rows, target=case.target[0])
    )
    assert plain.gradient is not None
    assert plain.loss is not None
    assert outcome.gradient is not None
    gradient = plain.gradient.T if axis == 1 else plain.gradient
    np.testing.assert_array_equal(outcome.loss, plain.loss[None])
    # Sums of two numbers below 1, in another order.
    np.testing.assert_allclose(outcome.gradient, gradient[None], rtol=0, atol=2.0**-23)


@pytest.mark.parametrize("subject", LOWERED, ids=named)
def test_autocast_returns_float32(pool: WorkerPool, subject: Subject):
    assert asked(pool, subject, batch(subject, "bfloat16")).loss_dtype == "float32"


def test_every_fused_loss_is_audited_under_autocast():
    assert {s.op for s in LOWERED} == {name for name, op in OPS.items() if "autocast" in op.modes}


def test_an_identity_makes_no_infinite_logits(pool: WorkerPool):
    """0 * inf is NaN: that the fused op then returns NaN says nothing about it."""
    (subject,) = (s for s in SUBJECTS if s.op == "linear_cross_entropy")
    case = replace(batch(subject), inputs=np.full((ROWS, 3), -np.inf))
    outcome = pool.ask(subject, case)
    assert outcome.status == "unsupported"
    assert "identity" in outcome.message


def test_a_device_that_is_not_there_is_no_fault_of_the_op(pool: WorkerPool):
    device = "cuda" if sys.platform == "darwin" else "mps"
    subject = subjects(["torch"], "quick", device)[0]
    outcome = pool.ask(subject, batch(subject))
    assert (outcome.status, outcome.message) == (
        "unsupported",
        f"torch has no device {device!r} here",
    )


VARIANTS = {
    "axis 1": (WITH_AXIS, {"options": Options(axis=1)}),
    "weights": (WEIGHTED, {"sample_weight": numbers(ROWS, 1, "bfloat16")[:, 0]}),
    "cotangent": (
        [s for s in SUBJECTS if s.op.startswith(("cross", "binary", "linear"))],
        {"cotangent": numbers(ROWS, 1, "bfloat16")[:, 0]},
    ),
    "by target": (SOFT, {"by_target": True}),
}


def test_scripts_of_unusual_calls_print_what_the_worker_returned(pool: WorkerPool, tmp_path: Path):
    cases = {
        f"{name} {subject.name}": (subject, replace(batch(subject), **changes))
        for name, (chosen, changes) in VARIANTS.items()
        for subject in chosen
    }
    lines = ["import runpy", "nan = float('nan')"]
    for i, (name, (subject, case)) in enumerate(cases.items()):
        path = tmp_path / f"{i}.py"
        path.write_text(FRAMEWORK.snippet(subject, case), encoding="utf-8")
        lines += [f"print('#', {name!r})", f"runpy.run_path({str(path)!r})"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for block in done.stdout.split("# ")[1:]:
        name, *printed = block.splitlines()
        outcome = asked(pool, *cases[name])
        arrays = [outcome.loss, outcome.gradient]
        if cases[name][1].by_target:
            arrays.append(outcome.target_gradient)
        for text, array in zip(printed, arrays, strict=True):
            assert array is not None
            np.testing.assert_array_equal(np.reshape(eval(text), array.shape), array, name)  # noqa: S307
