"""A subject that cannot differentiate is judged by its loss, and by nothing that it lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.engine import CONVENTIONS, Settings, audit
from lossaudit.conformance.events import Event
from lossaudit.conformance.laws.registry import LAWS
from lossaudit.conformance.run import Finding, Incident, Tally
from lossaudit.reference.vocabulary import Case, Outcome

JUDGED = ("cross_entropy.index", "binary_cross_entropy_with_logits")


class LossAlone(InProcess):
    """Forgets the gradient of what it is asked for."""

    def ask(self, subject: Subject, case: Case) -> Outcome:
        return replace(super().ask(subject, case), gradient=None)


def audited(subject: Subject, function, *, gradients: bool) -> list[Event]:
    events: list[Event] = []
    subject = replace(subject, dtypes=("float32",), gradients=gradients)
    audit([subject], Settings("quick"), events.append, LossAlone(function(subject)))
    faults = [e for e in events if isinstance(e, Incident) and e.message.startswith("internal")]
    assert not faults, faults[0].message
    return events


def findings(events: list[Event]) -> list[Finding]:
    """Those of the laws: how a call is taken is none of a stand-in's business."""
    return [e for e in events if isinstance(e, Finding) and e.law != CONVENTIONS.name]


@pytest.mark.parametrize("judged", JUDGED)
def test_a_right_loss_is_never_accused(torch_subjects, mutants, judged):
    events = audited(torch_subjects[judged], mutants["right"], gradients=False)
    assert not findings(events)
    tallies = [e for e in events if isinstance(e, Tally) and e.law in {law.name for law in LAWS}]
    assert {t.output for t in tallies if t.law != "inputs-unchanged"} == {"loss"}


def test_a_wrong_loss_is_found(torch_subjects, mutants):
    events = audited(torch_subjects["cross_entropy.index"], mutants["scaled_loss"], gradients=False)
    by_law = {f.law: f.output for f in findings(events)}
    assert "value" in by_law
    assert set(by_law.values()) == {"loss"}


def test_laws_about_gradients_alone_do_not_apply(torch_subjects):
    subject = torch_subjects["cross_entropy.index"]
    alone = replace(subject, gradients=False)
    lost = {law.name for law in LAWS if law.applies(subject) and not law.applies(alone)}
    assert {"gradient-identity", "gradient-sums-to-zero"} <= lost
    assert all(set(law.outputs) == {"gradient"} for law in LAWS if law.name in lost)


def test_a_gradient_that_is_declared_and_missing_is_a_finding(torch_subjects, mutants):
    events = audited(torch_subjects["cross_entropy.index"], mutants["right"], gradients=True)
    assert {f.kind for f in findings(events)} == {"policy"}
