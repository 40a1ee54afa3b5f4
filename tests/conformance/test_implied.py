"""The class that errors imply: that of controls of a known class, whatever they declare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.implied import TIGHTER_LOSS
from lossaudit.conformance.run import Implied, Incident, Tally
from lossaudit.conformance.selftest.controls import CONTROLS
from lossaudit.conformance.selftest.subjects import subject_of
from lossaudit.reference.bounds import bounds
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.vocabulary import Case, Semantics

BY_NAME = {control.name: control for control in CONTROLS}


def declaring(name, form, gradient, dtypes=("float64",)):
    control = BY_NAME[name]
    subject = subject_of(name, control.operation, control.target, dtypes)
    tables = {d: replace(a, form=form, gradient=gradient) for d, a in subject.arithmetic.items()}
    return replace(subject, arithmetic=tables, options=frozenset())


def implied(name, form, gradient="division", dtypes=("float64",), function=None):
    """What the errors of a control imply that declares a form; by output, of its first dtype."""
    subject, events = declaring(name, form, gradient, dtypes), []
    settings = Settings("quick", 0, ("value", "gradient-identity"))
    function = function or BY_NAME[name].make()
    audit([subject], settings, events.append, InProcess({subject.name: function}))
    faults = [e for e in events if isinstance(e, Incident)]
    assert not faults, faults[0].message
    return {e.output: e for e in events if isinstance(e, Implied) and e.dtype == dtypes[0]}, events


# In float64 nothing is rounded away between the working format and the result.
@pytest.mark.parametrize(
    ("name", "form", "holds"),
    [
        ("class-c-index", "C", ["C"]),
        ("class-c-index", "B", ["C", "B"]),
        ("class-c-index", "A", ["C", "B", "A"]),
        ("class-b-index", "B", ["B"]),
        ("class-b-index", "A", ["B", "A"]),
        ("class-a-index", "A", ["A"]),
        ("class-a-distribution", "A", ["A"]),
        ("class-c-distribution", "A or B", ["C", "B", "A or B"]),
        ("by-pairs-index", "A", ["C", "B", "A"]),
        ("online-index", "A", ["B", "A"]),
        ("split", "torch", ["split", "torch"]),
        ("standard", "std", ["std"]),
        ("rounded-rightly-index", "log softmax", ["C", "B", "log softmax"]),
    ],
)
def test_the_errors_of_a_control_imply_its_class(name, form, holds):
    found, _ = implied(name, form, BY_NAME[name].gradient)
    assert found["loss"].declared == form
    assert found["loss"].holds == holds
    assert found["loss"].rows > 100


@pytest.mark.parametrize(
    ("name", "gradient", "holds"),
    [
        ("class-c-index", "division", ["relative", "division"]),
        ("class-c-index", "relative", ["relative"]),
        # It takes (1 - y) p and y (1 - p) apart, which "sigmoid" does not allow for.
        ("split", "sigmoid", ["relative"]),
        ("standard", "sigmoid", ["sigmoid"]),
    ],
)
def test_and_those_of_its_gradient_that_of_the_gradient(name, gradient, holds):
    found, _ = implied(name, BY_NAME[name].form, gradient)
    assert (found["gradient"].declared, found["gradient"].holds) == (gradient, holds)


def test_where_not_even_the_declared_class_holds_nothing_does():
    found, _ = implied("class-a-index", "C", "division")
    assert found["loss"].holds == []
    assert found["loss"].declared == "C"


def test_one_row_beyond_a_bound_is_enough_and_a_neighbour_is_no_error():
    """The rounded truth is in every class; the same with one row a class C bound off, in none."""
    right = BY_NAME["rounded-rightly-index"].make()
    arithmetic = declaring("class-c-index", "C", "relative", ("float32",)).arithmetic["float32"]

    def once_wrong(case: Case):
        loss, *rest = right(case)
        bound = bounds(case, Semantics(), arithmetic).loss
        finite = np.flatnonzero(np.isfinite(loss) & np.isfinite(bound) & (loss > 2.0**-10))
        if case.options.reduction == "none" and finite.size and case.rows > 1:
            row = finite[0]
            unit = np.spacing(np.float32(loss[row]))
            loss[row] = round_to_format(loss[row] + bound[row] + 2 * unit, FORMATS["float32"])
        return (loss, *rest)

    found, _ = implied("rounded-rightly-index", "C", "relative", ("float32",))
    assert found["loss"].holds == ["C"]
    found, _ = implied("rounded-rightly-index", "C", "relative", ("float32",), once_wrong)
    assert found["loss"].holds == []


def test_rows_are_those_of_the_corpus_and_not_of_the_search():
    found, events = implied("class-c-index", "C", "relative")
    value = [e for e in events if isinstance(e, Tally) and e.law == "value"]
    assert 0 < found["loss"].rows < sum(t.rows for t in value)


@pytest.mark.parametrize(
    ("operation", "form", "tighter"),
    [(o, form, t) for o, table in TIGHTER_LOSS.items() for form, all_ in table.items()
     for t in all_],
)  # fmt: skip
def test_what_is_called_tighter_keeps_digits_and_costs_but_roundings(operation, form, tighter):
    """Over logits of all sizes, some with an offset, and labels between 0 and 1."""
    random = np.random.default_rng(7)
    classes = 1 if operation.startswith("binary") else 3
    scale = np.ldexp(1.0, random.integers(-8, 7, (4000, 1)))
    offset = random.choice([0.0, 1024.0], (4000, 1)) if classes == 3 else 0.0
    z = round_to_format(random.normal(size=(4000, classes)) * scale + offset, FORMATS["float32"])
    soft, labels = random.integers(0, 5, (4000, 1)) / 4, random.integers(0, 3, 4000)
    case = Case(operation, "float32", z, soft if classes == 1 else labels)
    made = subject_of("x", operation, "binary" if classes == 1 else "index").arithmetic["float32"]
    base = replace(made, working="float32", stored="float32")
    wide, tight = (bounds(case, Semantics(), replace(base, form=f)).loss for f in (form, tighter))
    # Digits of float32 are lost by the dozen; steps beyond those of the wider form are three.
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.nanmax(wide / tight) > 2.0**6
        assert np.nanmax(tight / wide) < 3
