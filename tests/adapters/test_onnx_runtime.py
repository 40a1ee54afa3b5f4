"""The loss operators of ONNX against the reference, under the declared bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.adapters.client import UnusableFramework, WorkerPool
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.law import finder
from lossaudit.conformance.laws.registry import LAWS
from lossaudit.conformance.run import Convention, Finding, Incident, Tally
from lossaudit.reference.bounds import error_bound
from lossaudit.reference.exact import Exact, subtract, to_float
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import Case, Options, Outcome

SUBJECTS = FRAMEWORKS["onnxruntime"].subjects
WEIGHT = (0.5, 1.0, 2.0, 1.5)
OPTIONS = [
    Options(),
    Options(weight=WEIGHT),
    Options(ignore_index=2),
    Options(axis=1),
    Options(weight=WEIGHT, ignore_index=-3, axis=1),
]


def case_of(dtype: str, options: Options) -> Case:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, 8)
    if options.ignore_index is not None:
        target[0] = options.ignore_index
    return Case("cross_entropy", dtype, rng.integers(-12, 13, (8, 4)) / 4, target, options)


def asked(pool: WorkerPool, subject: Subject, case: Case) -> Outcome:
    try:
        return pool.ask(subject, case)
    except UnusableFramework as error:
        pytest.skip(str(error))


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_every_attribute_follows_the_reference(
    pool: WorkerPool, subject: Subject, dtype: str
) -> None:
    for options in OPTIONS:
        for reduction in subject.reductions:
            case = case_of(dtype, replace(options, reduction=reduction))
            outcome = asked(pool, subject, case)
            assert (outcome.status, outcome.message) == ("returned", "")
            assert outcome.loss is not None
            exact, _ = reduce_truth(truth(case, subject.semantics), case, subject.semantics)
            error = np.abs(to_float(subtract(exact, Exact.from_float(outcome.loss))))
            limit = error_bound(case, subject.semantics, subject.arithmetic[dtype]).loss
            assert (error <= limit).all(), (options, reduction)


@pytest.mark.frameworks
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_there_is_no_gradient(pool: WorkerPool, subject: Subject) -> None:
    assert not subject.gradients
    assert asked(pool, subject, case_of("float32", Options())).gradient is None


@pytest.mark.frameworks
@pytest.mark.parametrize(("label", "status"), [(-4, "returned"), (-5, "raised"), (4, "raised")])
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_labels_count_from_the_end_and_others_raise(
    pool: WorkerPool, subject: Subject, label: int, status: str
) -> None:
    case = case_of("float32", Options())
    target = np.array(case.target)
    target[0] = label
    outcome = asked(pool, subject, replace(case, target=target))
    assert outcome.status == status
    if outcome.returned:
        first = replace(case, target=np.where(np.arange(8) == 0, 0, target))
        np.testing.assert_array_equal(outcome.loss, asked(pool, subject, first).loss)
    else:
        assert "Out of range value in index tensor" in outcome.message


@pytest.mark.frameworks
def test_what_cannot_be_asked_is_unsupported(pool: WorkerPool) -> None:
    by_op = {s.op: s for s in SUBJECTS}
    outcome = asked(pool, by_op["SoftmaxCrossEntropyLoss"], case_of("float32", Options(axis=0)))
    assert outcome.status == "unsupported"
    far = replace(case_of("float32", Options()), target=np.full(8, 2**40))
    outcome = asked(pool, by_op["SoftmaxCrossEntropyLoss.int32"], far)
    assert (outcome.status, "int32" in outcome.message) == ("unsupported", True)


@pytest.mark.frameworks
def test_an_audit_judges_the_losses_alone(pool: WorkerPool) -> None:
    subject = replace(SUBJECTS[0], dtypes=("float32",))
    asked(pool, subject, case_of("float32", Options()))
    events = []
    audit([subject], Settings("quick", 0, ()), events.append, pool, [subject])
    assert not [e for e in events if isinstance(e, Incident)]
    assert all(e.agrees for e in events if isinstance(e, Convention))
    laws = [law for law in LAWS if law.dtypes(subject, finder([subject])(subject))]
    tallies = [e for e in events if isinstance(e, Tally) and e.law != "conventions"]
    assert {t.law for t in tallies} == {law.name for law in laws}
    assert "value" in {t.law for t in tallies}
    assert not {t.output for t in tallies} & {"gradient", "target_gradient"}
    assert {f.output for f in events if isinstance(f, Finding)} == {"loss"}


def test_laws_of_gradients_do_not_apply_where_there_are_none() -> None:
    (subject,) = SUBJECTS[:1]
    without = {law.name for law in LAWS if law.applies(subject)}
    gradients = {law.name for law in LAWS if law.outputs == ("gradient",)}
    assert {"gradient-identity", "gradient-sums-to-zero"} <= gradients
    assert not without & gradients
    everything = {law.name for law in LAWS if law.applies(replace(subject, gradients=True))}
    assert without < everything
