from __future__ import annotations

from types import ModuleType

import numpy as np

from lossaudit.adapters.in_process import InProcess
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
