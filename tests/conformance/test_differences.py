"""The search for inputs on which two environments differ, on stand-ins for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.adapters.environments import Environment
from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES
from lossaudit.conformance.compare import compare
from lossaudit.conformance.comparison import Difference, LawChange
from lossaudit.conformance.differences import Search, Searcher, shown
from lossaudit.conformance.engine import LOST_LIMIT, Settings, audit
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.records import from_record
from lossaudit.conformance.run import Finding
from lossaudit.reference.formats import FORMATS, next_up
from lossaudit.reference.vocabulary import Outcome

OP = "cross_entropy.index"
NOWHERE = (Environment(), Environment())


@pytest.fixture(scope="module")
def searched(torch_subjects, mutants):
    """Search a subject between a right stand-in and a changed one; (differences, law changes)."""

    def search(
        mutant="right", wrap=None, op=OP, findings=(), depth="standard", old="right", back=False
    ):
        subject = replace(torch_subjects[op], dtypes=("float32",))
        old = InProcess({subject.name: mutants[old](subject)})
        new = InProcess({subject.name: mutants[mutant](subject)})
        if wrap is not None:
            ask = new.ask
            new.ask = lambda subject, case: wrap(case, ask(subject, case))
        if back:
            old, new = new, old
        measured = {(subject.name, "float32"): subject.semantics}
        asked = Search(NOWHERE, Settings(depth), measured, tuple(findings))
        events = []
        with np.errstate(all="ignore"):
            Searcher(asked, [subject], (old, new), events.append).subject(subject, "float32")
        differences = [e for e in events if isinstance(e, Difference)]
        return differences, [e for e in events if isinstance(e, LawChange)]

    return search


def test_nothing_is_found_between_two_of_the_same_and_the_effort_is_said(searched):
    found, _ = searched()
    assert [d.output for d in found] == ["loss", "gradient"]
    for difference in found:
        assert (difference.kind, difference.differing, difference.case) == ("", 0, None)
        assert difference.cases >= PROFILES["standard"].examples
        assert difference.rows > 100
        assert len(difference.regions) > 3


def drift(threshold):
    """An ulp more where the largest logit is above a threshold."""

    def wrap(case, outcome):
        if outcome.loss is None or outcome.loss.ndim == 0 or not case.rows:
            return outcome
        with np.errstate(invalid="ignore"):
            above = case.inputs.max(axis=1) > threshold
        up = next_up(outcome.loss, FORMATS[case.dtype])
        return replace(outcome, loss=np.where(above, up, outcome.loss))

    return wrap


def test_a_drift_is_found_and_shrunk_to_where_it_begins(searched):
    loss, gradient = searched(wrap=drift(10.0))[0]
    assert loss.kind in ("moved", "worse")
    assert loss.differing > 0
    assert loss.case is not None
    case = from_record(loss.case)
    assert case.rows == 1
    assert case.inputs.max() > 10
    # Nothing but the largest logit is left of the row.
    assert np.count_nonzero(case.inputs) <= 2
    assert case.options.passed() == ()
    assert loss.old != loss.new
    assert loss.distance is not None
    assert loss.snippet
    assert gradient.kind == ""


def test_loss_and_gradient_are_searched_apart(searched):
    loss, gradient = searched("scaled_gradient")[0]
    assert loss.kind == ""
    assert (gradient.kind, gradient.output) == ("worse", "gradient")
    assert gradient.largest is not None
    assert gradient.largest > 1000
    assert gradient.message == ""


def test_what_no_longer_returns_is_another_policy(searched):
    def wrap(case, outcome):
        if case.inputs.max(initial=0.0) > 8:
            return Outcome("raised", message="ValueError: too large")
        return outcome

    loss, _ = searched(wrap=wrap)[0]
    assert loss.kind == "policy"
    assert loss.message == "returned before, raised ValueError: too large now"
    assert loss.case is not None
    case = from_record(loss.case)
    assert case.rows == 1
    assert case.inputs.max() > 8


def test_what_is_no_longer_refused_and_right_is_better(searched):
    def wrap(case, outcome):
        if case.rows and 8 < case.inputs.max() < 100:
            return Outcome("raised", message="ValueError: too large")
        return outcome

    loss, _ = searched(wrap=wrap, back=True)[0]
    assert loss.kind == "better"
    assert loss.message == "raised ValueError: too large before, returned now"


def test_a_subject_that_hangs_is_left_alone_after_some_calls(searched):
    lost = []

    def wrap(case, _):
        lost.append(case)
        return Outcome("timed out", message="no answer in 60 s")

    loss, _ = searched(wrap=wrap)[0]
    assert loss.kind == "crashed"
    # Each costs the whole time limit; so many halves a batch has until it is a row.
    assert len(lost) <= LOST_LIMIT + 7


def test_another_sign_of_zero_is_a_difference_of_no_ulps(searched):
    def wrap(_, outcome):
        loss = outcome.loss
        return outcome if loss is None else replace(outcome, loss=np.where(loss == 0, -0.0, loss))

    loss, _ = searched(wrap=wrap)[0]
    assert (loss.kind, loss.distance, loss.largest) == ("moved", 0.0, 0.0)
    assert loss.differing > 0
    assert (loss.old, loss.new) == (["0.0"], ["-0.0"])


def test_nan_for_a_number_is_worse_and_has_no_distance(searched):
    loss, _ = searched("unshifted")[0]
    assert loss.kind == "worse"
    assert loss.case is not None


def in_batches(case, outcome):
    """An ulp more in the last row of a batch, as where a vector is not full."""
    if outcome.loss is None or outcome.loss.ndim == 0 or case.rows < 2:
        return outcome
    loss = outcome.loss.copy()
    loss[-1:] = next_up(loss[-1:], FORMATS[case.dtype])
    return replace(outcome, loss=loss)


def test_what_only_a_batch_shows_is_shown_with_the_batch(searched):
    loss, _ = searched(wrap=in_batches)[0]
    assert loss.case is not None
    rows = len(loss.case.inputs)
    assert rows > 1
    assert loss.row == rows - 1
    assert len(loss.old) == len(loss.new) == len(loss.right) == 1
    assert loss.old != loss.new
    assert loss.distance
    assert loss.largest is not None
    assert loss.largest >= loss.distance


def test_what_was_imprecise_and_is_of_a_wrong_kind_is_worse(searched):
    """Both are findings, and one of them is the worse one."""

    def nowhere(_, outcome):
        loss = outcome.loss
        if loss is None or loss.ndim == 0:
            return outcome
        return replace(outcome, loss=np.where(np.isfinite(loss) & (loss > 1), np.nan, loss))

    loss, _ = searched("scaled_loss", nowhere, old="scaled_loss")[0]
    assert loss.kind == "worse"


def test_what_is_right_now_is_better(searched):
    _, gradient = searched(old="scaled_gradient")[0]
    assert gradient.kind == "better"


@pytest.fixture(scope="module")
def drifting_finding(torch_subjects, mutants):
    """A finding of a law that relates calls, which only the new side has."""
    subject = replace(torch_subjects[OP], dtypes=("float32",))
    events = []
    session = InProcess({subject.name: mutants["unshifted"](subject)})
    audit([subject], Settings("quick", 0, ("shift-invariance",)), events.append, session)
    law = [e for e in events if isinstance(e, Finding) and e.law == "shift-invariance"]
    assert law
    return law[0]


def test_a_law_that_only_the_new_one_breaks_has_appeared(searched, drifting_finding):
    _, laws = searched("unshifted", findings=[(drifting_finding, True)])
    assert [(x.state, x.law, x.new) for x in laws] == [
        ("appeared", drifting_finding.law, drifting_finding.kind)
    ]
    assert laws[0].old not in ("", drifting_finding.kind)


def test_a_finding_that_both_show_is_no_change(searched, drifting_finding):
    assert searched("right", findings=[(drifting_finding, True)])[1] == []


def test_a_finding_that_the_new_one_no_longer_shows_is_gone(searched, drifting_finding):
    """The old side is right here, so that it must not be said to have shown it."""
    assert searched("right", findings=[(drifting_finding, False)])[1] == []


def by_place(case, outcome):
    """A vectorised op: every other row of a batch takes another path, a row alone does not."""
    if outcome.loss is None or outcome.loss.ndim == 0 or case.rows < 2:
        return outcome
    odd = (np.arange(case.rows) % 2 == 1) & (outcome.loss > 0)
    loss = np.where(odd, next_up(outcome.loss, FORMATS[case.dtype]), outcome.loss)
    return replace(outcome, loss=loss)


def moving(case, outcome):
    if outcome.loss is None or outcome.loss.ndim == 0:
        return outcome
    return replace(outcome, loss=next_up(outcome.loss, FORMATS[case.dtype]))


def never_again(case, outcome):
    """What moved once does not move among its copies."""
    same = case.rows < 2 or (case.inputs == case.inputs[0]).all()
    return outcome if same else moving(case, outcome)


@pytest.mark.parametrize(
    ("wrap", "is_shown"), [(moving, True), (by_place, True), (never_again, False)]
)
def test_the_script_of_a_change_shows_it(torch_subjects, mutants, wrap, is_shown):
    subject = replace(torch_subjects[OP], dtypes=("float32",), options=frozenset())
    old = InProcess({subject.name: mutants["right"](subject)})
    new = InProcess({subject.name: mutants["right"](subject)})
    ask = new.ask
    new.ask = lambda subject, case: wrap(case, ask(subject, case))
    runs = []
    for session in (old, new):
        settings = Settings("quick", 0, ("value",))
        recorder = Recorder(settings)
        audit([subject], settings, recorder, session)
        runs.append(recorder.run(complete=True))
    semantics = runs[0].answers[0].semantics
    benches = [
        Bench(subject, "float32", session, semantics, lambda *_: None, Memory())
        for session in (old, new)
    ]
    changes = (c for c in compare(*runs).changes if (c.region, c.output) == ("ordinary", "loss"))
    change = next(changes)
    found = shown(change, *benches)
    assert (found.case, found.old, found.new) == (change.case, change.old, change.new)
    assert ("* 64" in found.snippet) is is_shown
    assert found.snippet.startswith("# 64 copies") is is_shown
    assert (found.message == "") is is_shown
