from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from lossaudit.adapters.declare import LIBRARIES, declare
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess, InThisProcess
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.reference.vocabulary import INPUTS_CHANGED, Case, Floats, Options

CASE = Case("cross_entropy", "float32", np.zeros((2, 3)), np.array([0, 1]))


def zeros(case: Case) -> tuple[Floats, Floats]:
    return np.zeros(case.rows), np.zeros(case.inputs.shape)


def test_a_function_answers_for_every_subject(faulty: ModuleType):
    with InProcess(zeros) as pool:
        outcome = pool.ask(faulty.subject("echo"), CASE)
    assert outcome.returned
    assert outcome.loss_dtype == "float32"
    assert outcome.loss is not None
    assert outcome.loss.tolist() == [0.0, 0.0]


def test_functions_are_chosen_by_op_or_name(faulty: ModuleType):
    def raising(case: Case) -> tuple[Floats, Floats]:
        raise IndexError(f"label {case.target[0]}")

    subject = faulty.subject("echo")
    for key in ("echo", subject.name):
        outcome = InProcess({key: raising}).ask(subject, CASE)
        assert (outcome.status, outcome.message) == ("raised", "IndexError: label 0")


def test_a_function_gets_arrays_of_its_own_and_is_told_on_when_it_changes_them(faulty: ModuleType):
    def changing(case: Case) -> tuple[Floats, Floats]:
        case.target[0] = 2
        return zeros(case)

    outcome = InProcess(changing).ask(faulty.subject("echo"), CASE)
    assert outcome.returned
    assert outcome.warnings == (INPUTS_CHANGED,)
    assert CASE.target.tolist() == [0, 1]


def test_wrong_shapes_are_told(faulty: ModuleType):
    summed = Case("cross_entropy", "float32", CASE.inputs, CASE.target, Options(reduction="sum"))
    assert InProcess(zeros).ask(faulty.subject("echo"), summed).status == "wrong shape"


def linear_in_numpy(z, y):
    return z[:, 0] * y, np.broadcast_to(y[:, None], z.shape)


def linear(z, y):
    return z[:, 0] * y


@pytest.mark.parametrize(
    ("library", "dtype"),
    [
        pytest.param(name, dtype, marks=[] if name == "numpy" else [pytest.mark.frameworks])
        for name, dtypes in LIBRARIES.items()
        for dtype in dtypes
    ],
)
def test_a_binary_target_of_one_dimension_holds_numbers_and_no_labels(library: str, dtype: str):
    """The probe asks for it, to see whether it is broadcast."""
    if library != "numpy" and (reason := availability(FRAMEWORKS[library])):
        pytest.skip(reason)
    function = linear_in_numpy if library == "numpy" else linear
    operation = "binary_cross_entropy_with_logits"
    declared = declare(function, operation=operation, framework=library, dtypes=[dtype])
    target = np.array([0.5, 1.0, 0.0])
    case = Case(operation, dtype, np.array([[2.0], [-4.0], [8.0]]), target)
    outcome = InThisProcess(declared).ask(declared.subject, case)
    assert outcome.returned, outcome.message
    assert outcome.loss is not None
    assert outcome.gradient is not None
    assert outcome.loss.tolist() == [1.0, -4.0, 0.0]
    assert outcome.gradient.tolist() == target[:, None].tolist()
