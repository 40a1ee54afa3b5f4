"""What frameworks are measured to compute where their losses are misused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.misuse import everything, forms, measure, training
from lossaudit.conformance.misuse.ask import ROWS, Asked
from lossaudit.conformance.misuse.catalogue import MISUSES
from lossaudit.conformance.misuse.everything import measure_all
from lossaudit.conformance.run import Incident, MisuseCurve, MisuseTraining
from lossaudit.reference.bounds import bounds
from lossaudit.reference.exact import round_exact, to_float
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats, Outcome

HALF_STEP = 2.0**-24  # of float32, relative: what rounding the inputs changes
UNIT = 2.0**-53  # the same of float64


def right(subject: Subject) -> Callable[[Case], tuple[Floats, Floats]]:
    """A correctly rounded implementation of a subject, by its own Semantics."""

    def call(case: Case) -> tuple[Floats, Floats]:
        found = truth(case, subject.semantics)
        fmt = FORMATS[case.dtype]
        return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)

    return call


@dataclass
class Heard:
    """Everything that was said, and every call with its outcome."""

    curves: list[MisuseCurve] = field(default_factory=list)
    trainings: list[MisuseTraining] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    calls: list[tuple[Subject, Case, Outcome]] = field(default_factory=list)

    def emit(self, event: object) -> None:
        if isinstance(event, MisuseCurve):
            self.curves.append(event)
        elif isinstance(event, MisuseTraining):
            self.trainings.append(event)
        elif isinstance(event, Incident):
            self.incidents.append(event)

    def of(self, misuse: str, quantity: str, series: str = "") -> list[MisuseCurve]:
        return [
            curve
            for curve in self.curves
            if (curve.misuse, curve.quantity) == (misuse, quantity) and series in curve.series
        ]


class Listening:
    """A session that keeps what passes."""

    def __init__(self, session, heard: Heard) -> None:
        self._session, self._heard = session, heard

    def ask(self, subject: Subject, case: Case) -> Outcome:
        outcome = self._session.ask(subject, case)
        self._heard.calls.append((subject, case, outcome))
        return outcome

    def versions(self, framework: str) -> dict[str, str]:
        return self._session.versions(framework)


def heard_of(framework: str, session) -> Heard:
    heard = Heard()
    measure_all(Listening(session, heard), subjects([framework], "quick"), heard.emit)
    return heard


@pytest.fixture(scope="module")
def by_the_reference() -> Heard:
    """The ops of Keras, answered by the reference: every measurement but that of logarithms."""
    every = {s.name: right(s) for s in subjects(["keras"], "quick")}
    return heard_of("keras", InProcess(every))


def eager(op: str) -> Subject:
    """An op of torch, called as it is."""
    every = subjects(["torch"], "quick")
    return next(s for s in every if (s.op, s.mode) == (op, "eager"))


def numbers(texts: list[str]) -> Floats:
    return np.array([float(text) for text in texts])


def test_every_misuse_is_measured_by_some_framework(by_the_reference: Heard):
    logs = eager("kl_div")
    more = list(measure.probabilities_for_logs(Asked(InProcess(right(logs)), [logs])))
    measured = {curve.misuse for curve in (*by_the_reference.curves, *more)}
    assert measured == {misuse.id for misuse in MISUSES}
    assert not by_the_reference.incidents
    assert {t.misuse for t in by_the_reference.trainings} <= measured


def test_measured_values_are_the_closed_form(by_the_reference: Heard):
    for curve in by_the_reference.curves:
        if not curve.closed or curve.quantity == measure.RATIO:
            continue
        if curve.misuse == "logits-for-probabilities":
            continue  # of which the reference itself says nothing
        measured, closed, x = map(numbers, (curve.measured, curve.closed, curve.x))
        # Inputs and targets are rounded to float32, and the loss again; a loss moves with a logit
        # x and with a share of the target by no more than itself.
        room = 2 * HALF_STEP * (1 + np.abs(closed) + np.abs(x))
        gap = np.abs(measured - closed)
        assert np.all(gap <= room), (curve.misuse, curve.quantity, curve.series, gap.max())


def test_measured_ratios_are_the_closed_form(by_the_reference: Heard):
    ratios = [c for c in by_the_reference.curves if c.quantity == measure.RATIO]
    assert {c.misuse for c in ratios} == {"double-softmax", "double-sigmoid"}
    for curve in ratios:
        measured, closed, x = map(numbers, (curve.measured, curve.closed, curve.x))
        # J has a norm of at most 1/2, and g entries rounded by half a step of at most 1; the rest
        # of the confidence is rounded too, which moves softmax(p) by half of it. Both are divided
        # by the right gradient, whose norm is at least 1 - c (and c for the label 0).
        least = np.minimum(1 - x, x) if curve.misuse == "double-sigmoid" else 1 - x
        assert np.all(np.abs(measured - closed) <= 2 * HALF_STEP / least), curve.series


def test_what_is_right_is_the_loss_without_the_mistake(by_the_reference: Heard):
    (loss,) = by_the_reference.of("double-softmax", measure.LOSS)
    # An ulp of the logarithm, and half a one of the reference.
    np.testing.assert_allclose(numbers(loss.right), -np.log(numbers(loss.x)), rtol=3 * UNIT)
    for curve in by_the_reference.of("smoothing", measure.LOSS, "eps/K"):
        once = forms.share_of(measure.EPS, measure.SMOOTHING_CLASSES, "eps/K")
        due = forms.smoothed_loss(numbers(curve.x), once, measure.SMOOTHING_CLASSES)
        # What is added up is at most 2 |t| + log K + |t|; see the test of the form for the count.
        largest = 3 * np.abs(numbers(curve.x)) + np.log(measure.SMOOTHING_CLASSES)
        assert np.all(np.abs(numbers(curve.right) - due) <= 8 * UNIT * largest)


def test_training_with_the_mistake_stays_above_its_floor_and_behind(by_the_reference: Heard):
    runs = {(t.misuse, t.series): t for t in by_the_reference.trainings}
    assert len(runs) == len(training.MISTAKES)
    floors = {
        "double-softmax": float(forms.softmax_floor(training.CLASSES)),
        "wrong-axis": forms.batch_floor([training.SAMPLES // training.CLASSES] * training.CLASSES),
        "double-sigmoid": float(forms.sigmoid_loss(1, 1) + forms.sigmoid_loss(0, 0)) / 2,
    }
    plain = {"double-softmax": runs["double-softmax", "without"]}
    plain["wrong-axis"] = plain["double-softmax"]
    plain["double-sigmoid"] = runs["double-sigmoid", "without"]
    for misuse, floor in floors.items():
        wrong, due = runs[misuse, "with"], plain[misuse]
        assert len(wrong.reported) == len(due.reported) == training.STEPS
        assert min(numbers(wrong.reported)) > floor
        assert float(wrong.true[-1]) > float(due.true[-1])
        # Without a mistake the framework reports the true cross-entropy, up to float32.
        np.testing.assert_allclose(numbers(due.reported), numbers(due.true), rtol=4 * HALF_STEP)


def test_the_first_gradient_of_a_training_is_as_derived(by_the_reference: Heard):
    runs = {(t.misuse, t.series): t for t in by_the_reference.trainings}
    plain, wrong = runs["double-softmax", "without"], runs["double-softmax", "with"]
    ratio = float(wrong.gradient[0]) / float(plain.gradient[0])
    # Every entry of a gradient is rounded to float32 and below 1, which X^T / N carries to the
    # slope; both slopes are wrong by that share, and p, which multiplies one, by half a step.
    x, entries = training.data(training.CLASSES).x, training.SAMPLES * training.CLASSES
    moved = HALF_STEP * np.linalg.norm(x, 2) * np.sqrt(entries) / training.SAMPLES
    room = 2 * moved / float(plain.gradient[0]) + HALF_STEP
    assert ratio == pytest.approx(1 / training.CLASSES, rel=room)


def test_calls_have_one_shape_for_each_number_of_classes(by_the_reference: Heard):
    assert {case.rows for _, case, _ in by_the_reference.calls} == {ROWS}


def test_a_subject_that_raises_says_so_and_leaves_the_rest():
    op = eager("binary_cross_entropy")

    def refuses(case: Case) -> tuple[Floats, Floats]:
        if case.inputs.min() < 0:
            raise RuntimeError("all elements of input should be between 0 and 1")
        return right(op)(case)

    heard = Heard()
    measure_all(InProcess(refuses), [op], heard.emit)
    loss, gradient = heard.curves
    assert loss.said == gradient.said
    assert loss.said.startswith("raised: RuntimeError: all elements")
    assert not loss.closed
    assert set(loss.measured) == {"nan"}


def test_a_lost_worker_ends_the_measurements_with_an_incident():
    class Dying:
        calls = 0

        def ask(self, subject: Subject, case: Case) -> Outcome:
            del subject, case
            self.calls += 1
            return Outcome("crashed", message="SIGSEGV")

        def versions(self, framework: str) -> dict[str, str]:
            del framework
            return {}

    session, heard = Dying(), Heard()
    measure_all(session, subjects(["torch"], "quick"), heard.emit)
    assert session.calls == 1
    assert not heard.curves
    (incident,) = heard.incidents
    assert "SIGSEGV" in incident.message
    assert not incident.message.startswith("internal:")


def test_a_fault_of_our_own_is_an_incident_and_the_others_are_measured(monkeypatch):
    def faulty(asked: Asked) -> list[MisuseCurve]:
        raise ZeroDivisionError(str(asked.subjects[0].name))

    monkeypatch.setattr(everything, "MEASUREMENTS", (faulty, measure.double_sigmoid))
    op = eager("binary_cross_entropy_with_logits")
    heard = Heard()
    measure_all(InProcess(right(op)), [op], heard.emit)
    assert heard.of("double-sigmoid", measure.LOSS)
    (incident,) = heard.incidents
    assert incident.message.startswith("internal:")
    assert "ZeroDivisionError" in incident.message


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "framework", ["torch", "tensorflow", "keras", pytest.param("jax", marks=pytest.mark.slow)]
)
def test_real_frameworks_agree_with_the_reference(framework: str):
    if reason := availability(FRAMEWORKS[framework]):
        pytest.skip(reason)
    with WorkerPool() as pool:
        heard = heard_of(framework, pool)
    assert not heard.incidents
    assert heard.of("double-softmax", measure.FLOOR)
    assert len(heard.trainings) == len(training.MISTAKES)
    judged = 0
    for subject, case, outcome in heard.calls:
        if not outcome.returned or subject.misuse or case.inputs.shape[1] > 100:
            continue
        assert outcome.loss is not None
        assert outcome.gradient is not None
        exact = truth(case, subject.semantics)
        if exact.undefined.any():
            continue  # logits in the place of probabilities
        held = bounds(case, subject.semantics, subject.arithmetic[case.dtype])
        assert np.all(np.abs(outcome.loss - to_float(exact.loss)) <= held.loss), subject.name
        gap = np.abs(outcome.gradient - to_float(exact.gradient))
        assert np.all(gap <= held.gradient), subject.name
        judged += 1
    assert judged >= 200


@pytest.mark.frameworks
def test_logits_in_the_place_of_probabilities_are_read_as_the_reference_says():
    if reason := availability(FRAMEWORKS["keras"]):
        pytest.skip(reason)
    heard = Heard()
    with WorkerPool() as pool:
        asked = Asked(pool, subjects(["keras"], "quick"))
        for curve in measure.logits_for_probabilities(asked):
            heard.emit(curve)
    losses = heard.of("logits-for-probabilities", measure.LOSS)
    assert len(losses) == 3
    for curve in losses:
        measured, closed = numbers(curve.measured), numbers(curve.closed)
        assert np.array_equal(np.isnan(measured), np.isnan(closed))
        # log p near 1 from a p that is rounded to float32: half a step of 1, twice.
        seen = ~np.isnan(closed)
        assert np.all(np.abs(measured - closed)[seen] <= 4 * HALF_STEP * (1 + closed[seen]))
    for curve in heard.of("logits-for-probabilities", measure.GRADIENT):
        outside = np.abs(numbers(curve.x)) >= 1
        assert not numbers(curve.measured)[outside].any()
