"""Each region contains what its purpose says, in every format, and shows what no other does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.bench import Bench, Memory
from lossaudit.conformance.cell import PROFILES, Cell
from lossaudit.conformance.laws.registry import LAWS, law
from lossaudit.conformance.regions import (
    BOUNDARIES,
    FAR,
    REGIONS,
    ROUNDED_LABELS,
    VALUES,
    Plan,
    make_case,
    region,
    said_of,
)
from lossaudit.conformance.run import FINDING_GRADES
from lossaudit.conformance.selftest import trial as module
from lossaudit.conformance.selftest.mutants import MUTANTS
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.vocabulary import Case, Options

EVERY_FORMAT = pytest.mark.parametrize("dtype", FORMATS)
CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"


def drawn(name, dtype, operation=CE, target="index", classes=3, **changes) -> Case:
    """A case of a region, with the rows and classes that it names."""
    found = region(name, operation)
    classes = found.classes[0] if found.classes else classes
    rows = 64 if found.rows is None else found.rows
    given = {"options": (), "reduction": "none", "seed": 0, **changes}
    return make_case(Plan(found, operation, target, dtype, rows, classes, **given))


@EVERY_FORMAT
def test_a_vocabulary_has_rows_of_equal_logits_and_ordinary_ones(dtype):
    case = drawn("vocabulary", dtype, classes=128256)
    assert case.inputs.shape == (2, 128256)
    assert len(set(case.inputs[0])) == 1
    assert np.exp(case.inputs[0]).sum() == 128256 > FORMATS["float16"].max
    assert len(set(case.inputs[1])) > 100
    hot = drawn("vocabulary", dtype, target="distribution", classes=128256).target
    assert (np.sort(hot, axis=1)[:, -2:] == [0.0, 1.0]).all()


@EVERY_FORMAT
@pytest.mark.parametrize("target", ["index", "distribution"])
def test_rounded_labels_are_those_that_narrow_formats_round(dtype, target):
    case = drawn("rounded-labels", dtype, target=target)
    labels = case.target if target == "index" else case.target.argmax(axis=1)
    assert list(labels) == list(ROUNDED_LABELS)
    assert max(labels) == case.inputs.shape[1] - 1
    for narrow, label in (("bfloat16", 257), ("float16", 2049)):
        assert label in labels
        assert round_to_format(float(label), FORMATS[narrow]) != label


def test_rounded_labels_and_vocabularies_are_drawn_where_they_say_something():
    assert region("rounded-labels", CE).dtypes == ("bfloat16", "float16")
    assert "float16" in region("vocabulary", CE).dtypes
    assert not PROFILES["quick"].vocabulary
    assert PROFILES["standard"].vocabulary == (128256,)
    assert PROFILES["deep"].vocabulary == (50257, 128256)


def test_far_labels_are_all_drawn_but_the_one_that_is_ignored():
    labels = set()
    for seed in range(len(FAR)):
        case = drawn("far-label", "float32", seed=seed)
        (far,) = (int(t) for t in case.target if not 0 <= t < 3)
        labels.add(far)
        ignoring = drawn("far-label", "float32", seed=seed, ignored=-100)
        assert -100 not in ignoring.target
    assert labels == set(FAR) == {2**31, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -100}
    assert region("far-label", CE).seeds == len(FAR)


def test_invalid_labels_are_often_the_next_ones():
    found = []
    for seed in range(60):
        target = drawn("invalid-label", "float32", seed=seed).target
        found += [int(t) for t in target if not 0 <= t < 3]
    assert len(found) == 60
    assert found.count(-1) > 8
    assert found.count(3) > 8
    assert -100 not in found


@EVERY_FORMAT
def test_every_row_is_ignored(dtype):
    passed = drawn("all-ignored", dtype, options=("ignore_index",))
    assert set(passed.target) == {passed.options.ignore_index}
    unasked = drawn("all-ignored", dtype, ignored=-100)
    assert set(unasked.target) == {-100}
    assert unasked.options == Options()


@EVERY_FORMAT
def test_shapes_of_their_own(dtype):
    assert drawn("one-row", dtype).inputs.shape == (1, 3)
    assert drawn("one-row", dtype, BCE, "binary").inputs.shape == (1, 1)
    assert drawn("two-classes", dtype).inputs.shape == (64, 2)
    p = drawn("two-classes", dtype, "cross_entropy_probabilities").inputs
    assert p.shape == (64, 2)
    assert ((p > 0) & (p < 1)).all()


@EVERY_FORMAT
def test_rows_of_nothing_but_minus_infinity_lie_between_others(dtype):
    z = drawn("minus-inf-everywhere", dtype).inputs
    assert np.isneginf(z[::2]).all()
    assert np.isfinite(z[1::2]).all()


@EVERY_FORMAT
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_soft_targets_are_of_every_kind(dtype, classes):
    q = drawn("soft-targets", dtype, target="distribution", classes=classes).target
    assert (q.sum(axis=1) == 1).all()
    assert ((q[0::4] == 1).sum(axis=1) == 1).all()
    # As even as units of the format allow: what is left over is less than a unit a class.
    unit = 2.0 ** -(min(FORMATS[dtype].precision, 16) - 1)
    assert (q[1::4].max(axis=1) - q[1::4].min(axis=1) < classes * unit).all()
    if classes > 2:
        assert ((q[2::4] == 0).any(axis=1) & (q[2::4].max(axis=1) < 1)).all()
    assert ((q[3::4] > 0).all(axis=1) & (q[3::4].max(axis=1) > 0.85)).all()


@EVERY_FORMAT
@pytest.mark.parametrize("operation", [CE, "cross_entropy_probabilities"])
def test_targets_of_other_sums_and_signs_are_exact(dtype, operation):
    other = drawn("unnormalised-targets", dtype, operation, "distribution").target
    assert set(other.sum(axis=1)) == {0.5, 2.0}
    negative = drawn("negative-targets", dtype, operation, "distribution").target
    assert (negative.sum(axis=1) == 1).all()
    assert (negative.min(axis=1) < 0).all()
    assert (negative.max(axis=1) > 1).all()
    for q in (other, negative):
        np.testing.assert_array_equal(round_to_format(q, FORMATS[dtype]), q)


@EVERY_FORMAT
def test_binary_targets_lie_outside_of_zero_and_one(dtype):
    y = drawn("negative-targets", dtype, BCE, "binary").target
    assert ((y < 0) | (y > 1)).all()
    assert (y < 0).any()
    assert (y > 1).any()
    np.testing.assert_array_equal(round_to_format(y, FORMATS[dtype]), y)


@EVERY_FORMAT
def test_weights_are_nothing_next_to_nothing_and_next_to_everything(dtype):
    fmt = FORMATS[dtype]
    ends = {0.0, 2 * fmt.least_normal, 2.0 ** (fmt.emax - 4)}
    weight = drawn("extreme-weights", dtype, options=("weight",), classes=10).options.weight
    assert set(weight or ()) == ends
    seeds = range(region("extreme-weights", BCE).seeds)
    cases = [
        drawn("extreme-weights", dtype, BCE, "binary", options=("pos_weight",), seed=seed)
        for seed in seeds
    ]
    assert {case.options.pos_weight for case in cases} == ends


@EVERY_FORMAT
@pytest.mark.parametrize("operation", [CE, "cross_entropy_probabilities"])
def test_smoothing_is_all_or_next_to_nothing(dtype, operation):
    found = region("smoothing-boundaries", operation)
    eps = [
        drawn(found.name, dtype, operation, options=("label_smoothing",), seed=seed)
        for seed in range(found.seeds)
    ]
    assert tuple(case.options.label_smoothing for case in eps) == BOUNDARIES == (1.0, 2.0**-10)


@EVERY_FORMAT
def test_probabilities_are_exactly_next_to_zero_and_one(dtype):
    fmt = FORMATS[dtype]
    p = drawn("next-to-zero-and-one", dtype, "binary_cross_entropy", "binary").inputs
    assert {1 - fmt.unit_roundoff, fmt.least_subnormal} <= set(p.reshape(-1))
    rows = drawn("next-to-zero-and-one", dtype, "cross_entropy_probabilities").inputs
    assert ((rows == 1 - fmt.unit_roundoff).any(axis=1) == (np.arange(64) % 2 == 0)).all()
    assert ((rows == fmt.least_subnormal).any(axis=1) == (np.arange(64) % 2 == 1)).all()


# --- who is asked -----------------------------------------------------------------------------


def cell(subject: Subject, name: str = "value", depth: str = "quick", dtype: str = "") -> Cell:
    """A cell that is asked what it would draw, and nothing else."""
    held = InProcess({}), subject.semantics, lambda *_: None, Memory()
    bench = Bench(subject, dtype or subject.dtypes[0], *held)
    return Cell(bench, law(name), PROFILES[depth], 0, lambda _: None)


def names(found: Cell) -> set[str]:
    return {r.name for r in found.regions()}


@pytest.fixture(scope="module")
def by_name() -> dict[str, Subject]:
    return {s.name: s for s in subjects()}


def test_a_subject_is_asked_what_it_promises_to_compute(by_name):
    index = by_name["torch:cross_entropy.index[eager,cpu]"]
    soft = by_name["torch:cross_entropy.probabilities[eager,cpu]"]
    refusing = by_name["torch:binary_cross_entropy[eager,cpu]"]
    assert "all-ignored" in names(cell(index)) - names(cell(soft))
    assert "negative-targets" in names(cell(soft)) - names(cell(index)) - names(cell(refusing))
    assert "unnormalised-targets" in names(cell(soft))
    half = replace(soft.interface, target_domain="raises (outside [0, 1]); computes (sum 1/2)")
    found = names(cell(replace(soft, interface=half)))
    assert ("unnormalised-targets" in found, "negative-targets" in found) == (True, False)
    plain = replace(
        index, options=frozenset(), semantics=replace(index.semantics, ignore_index=None)
    )
    assert not {"all-ignored", "extreme-weights", "smoothing-boundaries"} & names(cell(plain))


def test_what_costs_a_shape_is_left_to_few(by_name):
    index = by_name["torch:cross_entropy.index[eager,cpu]"]
    assert "vocabulary" not in names(cell(index))
    assert "vocabulary" in names(cell(index, depth="standard", dtype="float16"))
    assert "vocabulary" not in names(cell(index, depth="standard", dtype="float64"))
    vmap = by_name["torch:cross_entropy.index[vmap,cpu]"]
    assert "vocabulary" not in names(cell(vmap, depth="standard", dtype="float32"))
    assert "two-classes" in names(cell(index))
    assert "two-classes" not in names(cell(index, depth="deep"))
    for name in ("shift-invariance", "finite-where-finite"):
        assert not {r.name for r in REGIONS if r.laws} & names(cell(index, name))
    compiled = by_name["torch:cross_entropy.index[compile,cpu]"]
    own = {"one-row", "two-classes", "all-ignored", "extreme-weights", "smoothing-boundaries"}
    assert not own & names(cell(compiled))


def test_each_option_is_drawn_alone_in_saturated_rows_of_the_corpus(by_name):
    index = by_name["torch:cross_entropy.index[eager,cpu]"]
    plans = [p for p in cell(index)._corpus() if p.region.name == "saturated-wrong"]
    assert {p.options for p in plans} == {(), *((name,) for name in index.options)}
    assert {p.region.name for p in cell(index)._corpus() if p.options == ("weight",)} == {
        "ordinary",
        "saturated-right",
        "saturated-wrong",
        "extreme-weights",
    }


def test_laws_that_are_named_exist():
    known = {law.name for law in LAWS}
    assert set(VALUES) <= known
    assert all(set(r.laws) <= known for r in REGIONS)


def test_policies_are_read_as_they_are_written():
    both = "raises (outside [0, 1]); computes (sum 1/2)"
    assert said_of(both, "outside [0, 1]") == "raises"
    assert said_of(both, "sum 1/2") == "computes"
    assert said_of("computes", "sum 1/2") == "computes"
    assert said_of("", "sum 1/2") == ""


# --- what each of them alone finds ------------------------------------------------------------

LOOKING = (*VALUES, "modes-agree")

ALONE = {
    "labels-cast-to-half": "rounded-labels",
    "labels-cut-to32-bits": "far-label",
    "lost-row-takes-the-next-along": "minus-inf-everywhere",
    "one-row-squeezed": "one-row",
    "two-classes-taken-for-binary": "two-classes",
    "mean-of-nothing": "all-ignored",
    "even-targets-sharpened": "soft-targets",
    "targets-normalised": "unnormalised-targets",
    "negative-targets-dropped": "negative-targets",
    "weight-of-zero-not-passed": "extreme-weights",
    "full-smoothing-left-out": "smoothing-boundaries",
    "halved-before-the-logarithm": "next-to-zero-and-one",
}


@pytest.mark.parametrize(("name", "expected"), ALONE.items())
def test_a_mistake_that_one_region_alone_finds(name, expected):
    mutant = next(m for m in MUTANTS if m.name == name)
    dtypes = ("bfloat16", "float16") if expected == "rounded-labels" else ("float32",)
    # Laws that relate two calls make shapes of their own, and see some of these mistakes in them.
    found = [f for f in module._confirmed(mutant, dtypes, "quick") if f.law in LOOKING]
    assert {f.region for f in found} == {expected}, [(f.law, f.region, f.message) for f in found]
    assert all(f.kind in FINDING_GRADES for f in found)


def test_a_sum_past_the_largest_number_of_float16_is_found_in_a_vocabulary_alone(audited, mutants):
    wrong = {"cross_entropy.index": mutants["sum_past_65504"]}
    judged, dtypes = "cross_entropy.index", ("float16",)
    assert not audited(judged, "value", dtypes=dtypes, **wrong).findings
    (found,) = audited(judged, "value", dtypes=dtypes, depth="standard", **wrong).findings
    assert (found.region, found.kind, found.value) == ("vocabulary", "wrong kind", ["inf"])
    # Small, and readable: one number repeated, the first round number past 65504.
    assert found.case.inputs == [["0.0*70000"]]
    assert "[0.0] * 70000" in found.snippet
    assert len(found.snippet) < 1000
    assert not audited(judged, "value", dtypes=dtypes, depth="standard").findings
