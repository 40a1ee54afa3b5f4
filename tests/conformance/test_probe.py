"""Every convention is measured from numbers: right ones are confirmed, others named as they are."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import Interface
from lossaudit.cli import NEW_FINDINGS, NOTHING_NEW, exit_code
from lossaudit.conformance.engine import CONVENTIONS, Settings, audit
from lossaudit.conformance.known import Entry, Known, Shown
from lossaudit.conformance.probe import FIELDS, fields_of
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record
from lossaudit.conformance.run import CaseRecord
from lossaudit.reference.vocabulary import Semantics

EAGER = {s.name: s for s in subjects(depth="quick")}
INDEX = "torch:cross_entropy.index[eager,cpu]"
SOFT = "torch:cross_entropy.probabilities[eager,cpu]"
LOGITS = "torch:binary_cross_entropy_with_logits[eager,cpu]"
BINARY = "keras:BinaryCrossentropy.probabilities[eager,cpu]"
SMOOTHED = "keras:BinaryCrossentropy.logits[eager,cpu]"
CLASSES = "keras:CategoricalCrossentropy.probabilities[eager,cpu]"
DIVERGENCE = "torch:kl_div[eager,cpu]"
FOCAL = "keras:CategoricalFocalCrossentropy.logits[eager,cpu]"
FOCAL_SHARES = "keras:CategoricalFocalCrossentropy.probabilities[eager,cpu]"
FOCAL_BINARY = "keras:BinaryFocalCrossentropy.logits[eager,cpu]"
FOCAL_SHARE = "keras:BinaryFocalCrossentropy.probabilities[eager,cpu]"
OPTAX = "jax:softmax_cross_entropy[eager,cpu]"


def run_of(subject, function):
    """A run that holds nothing but the conventions of one stand-in."""
    settings = Settings("quick", 0, (CONVENTIONS.name,))
    recorder = Recorder(settings)
    audit([subject], settings, recorder, InProcess(function))
    run = recorder.run(complete=True)
    assert not run.incidents, run.incidents[0].message
    return run


def measured(subject, function):
    return {entry.field: entry for entry in run_of(subject, function).conventions}


def changed(subject, **changes):
    """The subject with other conventions, in Semantics or in Interface."""
    numbers = {f.name for f in fields(Semantics)}
    meant = {name: value for name, value in changes.items() if name in numbers}
    taken = {name: value for name, value in changes.items() if name not in numbers}
    return replace(
        subject,
        semantics=replace(subject.semantics, **meant),
        interface=replace(subject.interface, **taken),
    )


@pytest.mark.parametrize("name", [s.name for f in FRAMEWORKS.values() for s in f.subjects])
def test_what_a_subject_declares_is_measured_on_one_that_does_it(behaving, name):
    """Of every subject, every declared field has an input that shows it, and is confirmed."""
    subject = next(s for f in FRAMEWORKS.values() for s in f.subjects if s.name == name)
    found = measured(subject, behaving(subject))
    assert tuple(sorted(found)) == tuple(sorted(fields_of(subject)))
    for field, entry in found.items():
        if entry.declared == "":  # compositions and modes leave open what is their op's
            assert entry.agrees is None
            continue
        if field == "output" and subject.semantics.output != "input":
            continue  # a stand-in answers in the dtype that it is asked in
        shape = next(f.any_shape for f in FIELDS if f.name == field)
        if subject.compiled and shape:
            assert (entry.agrees, entry.measured) == (None, "")
            assert "compiled for the one shape" in entry.evidence
        else:
            assert (entry.measured, entry.agrees) == (entry.declared, True), entry
            assert entry.input
            assert len(entry.input) < 140


def test_every_field_of_the_interface_is_measured():
    names = {field.name for field in FIELDS}
    assert {f.name for f in fields(Interface)} <= names
    # The guard's numbers are measured as a part of it, those of a focal loss as one field.
    unmeasured = {"guard_eps", "guard_floor", "gamma", "alpha"}
    assert {f.name for f in fields(Semantics)} - names == unmeasured


OTHERS = [
    (INDEX, "smoothing", "eps/(K-1)", {}),
    (INDEX, "smoothing", "none", {}),
    (SOFT, "smoothing", "eps/(K-1)", {}),
    (SMOOTHED, "smoothing", "none", {}),
    (INDEX, "weighted_smoothing", "label", {}),
    (INDEX, "smoothing_domain", "computes", {}),
    (INDEX, "smoothing_domain", "raises", {}),
    (SOFT, "smoothing_domain", "unused", {}),
    (SMOOTHED, "smoothing_domain", "raises (-1/8); computes (3/2)", {}),
    (LOGITS, "pos_weight", "both terms", {}),
    (LOGITS, "pos_weight", "none", {}),
    (INDEX, "mean", "valid", {}),
    (INDEX, "mean", "rows", {}),
    (INDEX, "default_reduction", "none", {}),
    (INDEX, "default_reduction", "sum", {}),
    (OPTAX, "default_reduction", "another number", {"default_reduction": "mean"}),
    (DIVERGENCE, "default_reduction", "mean", {}),
    (DIVERGENCE, "default_reduction", "none", {}),
    (INDEX, "plus_inf", "limit", {}),
    (SOFT, "soft_gradient", "p - q", {}),
    (SOFT, "target_domain", "raises", {}),
    (
        SOFT,
        "target_domain",
        "raises (outside [0, 1]); computes (sum 1/2)",
        {},
    ),
    (LOGITS, "target_domain", "raises", {}),
    (BINARY, "guard", "none", {"guard_eps": 0.0, "guard_gradient": "exact"}),
    (BINARY, "guard", "clip at 1e-06", {"guard": "clip", "guard_eps": 1e-6}),
    (BINARY, "guard", "clip at 1e-12", {"guard": "clip", "guard_eps": 1e-12}),
    (BINARY, "guard", "log >= -100", {"guard": "clamp log", "guard_floor": -100.0}),
    (CLASSES, "guard", "clip at 1e-05", {"guard": "clip", "guard_eps": 1e-5}),
    (CLASSES, "guard", "none", {"guard_eps": 0.0}),
    (CLASSES, "renormalise", "no", {}),
    (CLASSES, "renormalise", "after", {}),
    (FOCAL, "focal", "gamma 1.5, alpha 0.25", {"gamma": 1.5}),
    (FOCAL, "focal", "gamma 2.0, no alpha", {"alpha": None}),
    (FOCAL, "focal", "gamma 0.0, alpha 0.75", {"gamma": 0.0, "alpha": 0.75}),
    (FOCAL_SHARES, "focal", "gamma 2.5, alpha 0.125", {"gamma": 2.5, "alpha": 0.125}),
    (FOCAL_BINARY, "focal", "gamma 2.0, alpha 0.25", {"alpha": 0.25}),
    (FOCAL_BINARY, "focal", "gamma 0.5, no alpha", {"gamma": 0.5}),
    (FOCAL_SHARE, "focal", "gamma 5.0, alpha 0.6", {"gamma": 5.0, "alpha": 0.6}),
    (INDEX, "class_axis", "last", {}),
    (SOFT, "class_axis", "last", {}),
    (CLASSES, "class_axis", "second", {}),
    (LOGITS, "last_axis", "mean", {}),
    (BINARY, "last_axis", "kept", {}),
    (INDEX, "broadcasting", "reshapes", {}),
    (INDEX, "broadcasting", "broadcasts", {}),
    (SOFT, "broadcasting", "broadcasts", {}),
    (LOGITS, "broadcasting", "reshapes", {}),
    (LOGITS, "broadcasting", "broadcasts", {}),
    (INDEX, "mutates", "yes", {}),
    (INDEX, "all_ignored", "zero", {}),
    (INDEX, "ignore_domain", "ignores (-1, 1); raises (K + 2)", {}),
    (SOFT, "ignore_domain", "raises", {}),
    (INDEX, "ignore_index", "None", {"ignore_index": None}),
    (INDEX, "ignore_index", "0", {"ignore_index": 0}),
    (INDEX, "ignore_index", "255", {"ignore_index": 255}),
    (INDEX, "label_policy", "nan", {}),
    (INDEX, "label_policy", "zero", {}),
    (INDEX, "label_policy", "wraps", {}),
    (INDEX, "label_policy", "clamps", {}),
    (INDEX, "label_policy", "wraps (-1); nan (K, -10^6, 10^6)", {}),
    (INDEX, "label_policy", "clamps (-1, -10^6); another number (K, 10^6)", {}),
]


@pytest.mark.parametrize(("name", "field", "value", "changes"), OTHERS)
def test_another_convention_is_named_and_contradicts_the_declaration(
    behaving, name, field, value, changes
):
    declares = EAGER[name]
    does = changed(declares, **(changes or {field: value}))
    run = run_of(declares, behaving(does))
    entry = next(c for c in run.conventions if c.field == field)
    assert (entry.measured, entry.agrees) == (value, False), entry
    finding = next(f for f in run.findings if f.output == field)
    assert (finding.law, finding.kind, finding.status) == (CONVENTIONS.name, "policy", "new")
    assert entry.declared in finding.message
    assert value in finding.message
    assert entry.input in finding.message
    assert exit_code(run, []) == NEW_FINDINGS


def test_values_are_judged_under_the_guard_that_was_measured(behaving):
    """A clip at 1e-6 is one finding; the values that follow from it are none."""
    declares = EAGER[BINARY]
    does = changed(declares, guard_eps=1e-6)
    events = []
    audit([declares], Settings("quick", 0, ("value",)), events.append, InProcess(behaving(does)))
    found = {e.output: e.law for e in events if hasattr(e, "kind") and hasattr(e, "law")}
    assert found == {"guard": CONVENTIONS.name}


def scaled(function, factor, when):
    """The losses of a stand-in times a factor, in some calls."""

    def call(case):
        loss, *gradients = function(case)
        return (loss * factor if when(case) else loss, *gradients)

    return call


def steeper(function):
    def call(case):
        loss, gradient, *_ = function(case)
        return loss, 1.5 * gradient

    return call


UNKNOWN = [
    (INDEX, "smoothing", lambda c: bool(c.options.label_smoothing)),
    (INDEX, "weighted_smoothing", lambda c: bool(c.options.label_smoothing)),
    (LOGITS, "pos_weight", lambda c: bool(c.options.pos_weight)),
    (INDEX, "mean", lambda c: c.options.reduction == "mean"),
    (BINARY, "mean", lambda c: c.options.reduction == "mean"),
    (CLASSES, "renormalise", lambda c: float(c.inputs[0].sum()) == 0.5),
    (BINARY, "guard", lambda c: 1e-8 < c.inputs[0, 0] < 1e-3),
    (FOCAL, "focal", lambda c: not c.options.passed()),
    (FOCAL_BINARY, "focal", lambda c: c.target[0, 0] == 1),
    (INDEX, "class_axis", lambda c: c.inputs.ndim == 3),
    (LOGITS, "last_axis", lambda c: c.inputs.shape == (1, 2)),
]


@pytest.mark.parametrize(("name", "field", "when"), UNKNOWN)
def test_numbers_of_no_known_formula_are_said_to_be_of_none(behaving, name, field, when):
    """One part in a thousand too much: a thousand times past the bounds, and nearest to one."""
    subject = EAGER[name]
    entry = measured(subject, scaled(behaving(subject), 1.001, when))[field]
    assert (entry.measured, entry.agrees) == ("no known formula", False), entry


@pytest.mark.parametrize(("name", "field"), [(SOFT, "soft_gradient"), (BINARY, "guard_gradient")])
def test_gradients_of_no_known_formula_are_said_to_be_of_none(behaving, name, field):
    clamped = {"guard": "clamp log", "guard_floor": -100.0, "guard_eps": 0.0}
    subject = changed(EAGER[name], guard_gradient="clamped denominator", **clamped)
    entry = measured(subject, steeper(behaving(subject)))[field]
    assert (entry.measured, entry.agrees) == ("no known formula", False), entry


@pytest.mark.parametrize(
    ("does", "value"),
    [
        ({"guard_gradient": "clamped denominator", "guard": "clamp log"}, "clamped denominator"),
        ({"guard": "clamp log"}, "0 outside"),
        ({"guard": "none", "guard_gradient": "exact"}, "exact"),
    ],
)
def test_the_gradient_of_a_guard_is_told(behaving, does, value):
    """Declared otherwise each time, under the guard that is really there."""
    there = changed(EAGER[BINARY], guard_eps=0.0, guard_floor=-100.0, **does)
    entry = measured(there, behaving(there))["guard_gradient"]
    assert (entry.declared, entry.measured, entry.agrees) == (value, value, True)
    other = "exact" if value == "clamped denominator" else "clamped denominator"
    wrong = changed(there, guard_gradient=other)
    assert measured(wrong, behaving(there))["guard_gradient"].measured == value


def test_the_gradient_of_the_loss_without_its_guard_is_exact(behaving):
    """The loss is clipped, and its gradient goes on as if it were not."""
    subject = EAGER[BINARY]
    unguarded = behaving(changed(subject, guard="none", guard_eps=0.0))

    def call(case):
        return behaving(subject)(case)[0], unguarded(case)[1]

    entry = measured(subject, call)["guard_gradient"]
    assert (entry.declared, entry.measured, entry.agrees) == ("0 outside", "exact", False)


def test_an_epsilon_inside_the_logarithm_is_no_clip():
    """-log(p + eps) agrees with a clip at p = 0 and nowhere else."""

    def call(case):
        p, y = case.inputs[:, 0], case.target[:, 0]
        with np.errstate(all="ignore"):
            loss = -(y * np.log(p + 1e-7) + (1 - y) * np.log(1 - p + 1e-7))
        loss = loss.astype(np.float32).astype(np.float64)
        return (loss if case.options.reduction == "none" else loss.mean()), np.zeros_like(
            p[:, None]
        )

    found = measured(EAGER[BINARY], call)["guard"]
    assert found.measured == "no known formula"


@pytest.mark.parametrize(
    "does",
    [
        lambda p, _, w: w * (1 - p) ** 2 * -np.log(p),  # the weight of 1 for 0 too
        lambda p, *_: p**2 * -np.log(p),  # the power of the wrong probability
        lambda p, y, w: np.where(y == 1, w, 1 - w) * -np.log(p) - (1 - p) ** 2,
    ],
)
def test_what_is_no_focal_loss_is_said_to_be_none(does):
    def call(case):
        y = case.target[:, 0]
        p = np.where(y == 1, case.inputs[:, 0], 1 - case.inputs[:, 0])
        return does(p, y, 0.25).astype(np.float32).astype(np.float64), np.zeros_like(case.inputs)

    found = measured(EAGER[FOCAL_SHARE], call)["focal"]
    assert (found.measured, found.agrees) == ("no known formula", False), found


def test_factors_that_a_format_cannot_tell_apart_are_as_declared(behaving):
    """In bfloat16 a gamma of 2.001 makes no difference."""
    subject = replace(EAGER[FOCAL_SHARE], dtypes=("bfloat16",))
    found = measured(changed(subject, gamma=2.001), behaving(subject))["focal"]
    assert (found.measured, found.agrees) == ("gamma 2.001, no alpha", True)
    assert found.evidence.endswith("in this format the same as gamma 2.0, no alpha")


def test_a_dtype_of_the_output_is_measured(behaving):
    subject = EAGER[INDEX]

    class Wide(InProcess):
        def ask(self, subject, case):
            return replace(super().ask(subject, case), loss_dtype="float32")

    events = []
    settings = Settings("quick", 0, (CONVENTIONS.name,))
    audit([subject], settings, events.append, Wide(behaving(subject)))
    (found,) = (e for e in events if getattr(e, "field", "") == "output")
    assert (found.measured, found.agrees) == ("float32", False)
    assert "bfloat16 -> float32" in found.evidence


def test_without_a_declared_arithmetic_no_formula_is_told(behaving):
    subject = replace(EAGER[INDEX], arithmetic={})
    found = measured(subject, behaving(subject))
    assert (found["smoothing"].measured, found["smoothing"].agrees) == ("", None)
    assert "no arithmetic is declared" in found["smoothing"].evidence
    assert found["label_policy"].agrees


def test_what_is_not_declared_is_measured_and_contradicts_nothing(behaving):
    subject = EAGER[INDEX]
    run = run_of(replace(subject, interface=Interface()), behaving(subject))
    entry = next(c for c in run.conventions if c.field == "class_axis")
    assert (entry.declared, entry.measured, entry.agrees) == ("", "second", None)
    assert not run.findings
    assert exit_code(run, []) == NOTHING_NEW


def test_a_contradiction_comes_with_the_call_and_a_script(behaving):
    subject = EAGER[INDEX]
    run = run_of(subject, behaving(changed(subject, mean="rows")))
    (finding,) = (f for f in run.findings if f.output == "mean")
    case = from_record(finding.case)
    assert case.options.reduction == "mean"
    assert case.rows == 2
    assert "F.cross_entropy" in finding.snippet
    (axis,) = (
        f
        for f in run_of(subject, behaving(changed(subject, class_axis="last"))).findings
        if f.output == "class_axis"
    )
    assert not axis.case.inputs, "a record has no third dimension"
    assert "[[[1, 0], [2, 4]]]" in axis.message


def entry_of(field):
    case = CaseRecord(operation="cross_entropy", dtype="float32", inputs=[["0.0"]], target=[0])
    return Entry(
        id="it",
        kind="policy",
        outputs=[field],
        regions=["ordinary"],
        versions={"torch": ">=0"},
        cause="because",
        link="https://example.org",
        cases=[Shown(on=[f"{CONVENTIONS.name} {INDEX}"], case=case)],
    )


class Versioned(InProcess):
    def versions(self, framework):
        return {framework: "2.13"}


@pytest.mark.parametrize(
    ("does", "status", "state"),
    [({"mean": "valid"}, ["known"], "seen"), ({}, [], "gone")],
)
def test_a_known_contradiction_is_not_new_and_its_end_is_said(behaving, does, status, state):
    subject = EAGER[INDEX]
    settings = Settings("quick", 0, (CONVENTIONS.name,), Known((entry_of("mean"),)))
    recorder = Recorder(settings)
    audit([subject], settings, recorder, Versioned(behaving(changed(subject, **does))))
    run = recorder.run(complete=True)
    assert [f.status for f in run.findings] == status
    assert [r.state for r in run.known] == [state]
    assert exit_code(run, []) == (NEW_FINDINGS if state == "gone" else NOTHING_NEW)
