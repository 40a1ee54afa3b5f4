"""Each law speaks about the implementation that breaks it, and is silent about a right one."""

from __future__ import annotations

import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.laws.registry import LAWS, law
from lossaudit.conformance.run import Finding, SubjectRecord

JUDGED = (
    "cross_entropy.index",
    "cross_entropy.probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "cross_entropy.index/compile",
    "cross_entropy.index/second",
    "cross_entropy.probabilities/second",
    "binary_cross_entropy_with_logits/second",
)

# law, the subject judged, the subject replaced, its mutant
BROKEN = [
    ("value", "cross_entropy.index", "cross_entropy.index", "scaled_loss"),
    ("value", "binary_cross_entropy", "binary_cross_entropy", "scaled_loss"),
    ("gradient-identity", "cross_entropy.index", "cross_entropy.index", "scaled_gradient"),
    (
        "gradient-identity",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits",
        "scaled_gradient",
    ),
    ("cotangents", "cross_entropy.index", "cross_entropy.index", "deaf"),
    ("cotangents", "binary_cross_entropy", "binary_cross_entropy", "deaf"),
    (
        "target-gradient",
        "cross_entropy.probabilities",
        "cross_entropy.probabilities",
        "detached_target",
    ),
    ("target-gradient", "binary_cross_entropy", "binary_cross_entropy", "detached_target"),
    (
        "hessian-products",
        "cross_entropy.index/second",
        "cross_entropy.index/second",
        "gauss_newton_without_its_mean",
    ),
    (
        "hessian-products",
        "binary_cross_entropy_with_logits/second",
        "binary_cross_entropy_with_logits/second",
        "gauss_newton_without_its_mean",
    ),
    ("finite-where-finite", "cross_entropy.index", "cross_entropy.index", "unshifted"),
    ("gradient-sums-to-zero", "cross_entropy.index", "cross_entropy.index", "lost_target_gradient"),
    ("shift-invariance", "cross_entropy.index", "cross_entropy.index", "unshifted"),
    ("one-hot-equals-index", "cross_entropy.probabilities", "cross_entropy.index", "twice"),
    (
        "mirror",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits",
        "naive_tail",
    ),
    (
        "two-class-equals-binary",
        "cross_entropy.index",
        "binary_cross_entropy_with_logits",
        "twice",
    ),
    ("smoothing-convention", "cross_entropy.index", "cross_entropy.index", "other_smoothing"),
    ("single-softmax", "cross_entropy.index", "cross_entropy.index", "double_softmax"),
    ("modes-agree", "cross_entropy.index/compile", "cross_entropy.index/compile", "silent"),
    ("ignored-rows", "cross_entropy.index", "cross_entropy.index", "masked_by_a_product"),
    ("inputs-unchanged", "cross_entropy.index", "cross_entropy.index", "shifting_in_place"),
    *(
        (name, op, op, mutant)
        for name, op, mutant in (
            ("reductions-match-rows", "cross_entropy.index", "doubled_sum"),
            ("not-negative", "binary_cross_entropy", "below_zero"),
            ("permutation-equivariance", "cross_entropy.index", "of_its_class"),
            ("masked-class", "cross_entropy.index", "counting_masked"),
            ("linear-in-the-target", "cross_entropy.probabilities", "hardened"),
            ("entropy-is-a-floor", "cross_entropy.probabilities", "halved"),
            ("entropy-and-divergence", "cross_entropy.probabilities", "twice"),
            ("lead-and-log-classes", "cross_entropy.index", "double_softmax"),
            ("monotone-in-the-target", "cross_entropy.index", "stepped"),
            ("convex", "cross_entropy.index", "stepped"),
            ("temperature", "cross_entropy.index", "squared"),
            ("linear-in-smoothing", "cross_entropy.index", "eps_squared"),
            ("smoothing-is-a-mixture", "cross_entropy.index", "other_smoothing"),
            ("ignored-label-has-no-name", "cross_entropy.index", "knowing_two_names"),
            ("row-order", "cross_entropy.index", "first_row_twice"),
            ("row-order", "cross_entropy.index/compile", "first_row_twice"),
            ("row-alone", "binary_cross_entropy_with_logits", "first_row_twice"),
            ("label-policy", "cross_entropy.index", "silent"),
            ("label-policy", "cross_entropy.index/compile", "silent"),
            ("memory-layout", "cross_entropy.index", "blind_to_strides"),
            ("same-call-same-bits", "cross_entropy.index", "drifting"),
            ("dtype-as-declared", "cross_entropy.index", "widened"),
        )
    ),
]


@pytest.mark.parametrize("judged", JUDGED)
def test_right_implementation_is_never_accused(audited, judged):
    found = audited(judged, dtypes=("float64", "float32", "bfloat16", "float16")).findings
    assert not found, [(f.law, f.dtype, f.region, f.kind, f.message) for f in found]


@pytest.mark.parametrize(("name", "judged", "replaced", "mutant"), BROKEN)
def test_law_speaks_about_its_mutant(audited, mutants, name, judged, replaced, mutant):
    wrong = {replaced.replace("/", "__"): mutants[mutant]}
    found = audited(judged, name, **wrong).findings
    assert found, f"{name} is silent about {mutant}"
    assert {f.law for f in found} == {name}
    assert not audited(judged, name).findings, f"{name} accuses the right twin of {mutant}"


OF_SOFTMAX = "cross_entropy.of_softmax"


def test_a_misuse_is_seen_by_the_law_that_looks_for_it_and_by_no_other(
    audited, mutants, torch_subjects
):
    subject = torch_subjects[OF_SOFTMAX]
    assert subject.misuse == law("single-softmax").misuse
    assert [other.name for other in LAWS if other.applies(subject)] == ["single-softmax"]
    both = ("float32", "bfloat16")
    found = audited(OF_SOFTMAX, dtypes=both, **{OF_SOFTMAX: mutants["double_softmax"]})
    assert {(f.law, f.kind) for f in found.findings} == {("single-softmax", "violates")}
    assert {f.dtype for f in found.findings} == set(both)
    assert not audited(OF_SOFTMAX).findings, "the mark alone accuses nobody"
    (record,) = (event for event in found.events if isinstance(event, SubjectRecord))
    assert (record.misuse, record.laws) == ("double softmax", ["single-softmax"])


def test_the_same_mistake_is_found_where_nothing_marks_it(audited, mutants):
    wrong = {"cross_entropy.index": mutants["double_softmax"]}
    laws = {f.law for f in audited("cross_entropy.index", **wrong).findings}
    assert {"single-softmax", "value"} <= laws


@pytest.mark.frameworks
def test_the_misuse_of_torch_is_found_in_every_run(torch_subjects):
    subject, events = torch_subjects[OF_SOFTMAX], []
    if reason := availability(FRAMEWORKS["torch"]):
        pytest.skip(reason)
    for seed in range(2):
        events.clear()
        with WorkerPool() as pool:
            audit([subject], Settings("quick", seed), events.append, pool)
        found = [e for e in events if isinstance(e, Finding)]
        assert {(f.law, f.kind) for f in found} == {("single-softmax", "violates")}
        assert {f.dtype for f in found} == set(subject.dtypes)
        assert "F.cross_entropy(F.softmax(z, dim=1), y" in found[0].snippet


def test_every_law_has_a_mutant():
    assert {name for name, *_ in BROKEN} == {law.name for law in LAWS}


def test_minus_infinity_times_zero_is_found_by_the_value_law(audited, mutants):
    wrong = {"cross_entropy.probabilities": mutants["nan_times_zero"]}
    found = audited("cross_entropy.probabilities", **wrong).findings
    assert {f.law for f in found} == {
        "value",
        "finite-where-finite",
        "one-hot-equals-index",
        "masked-class",
    }
    value = next(f for f in found if f.law == "value")
    assert (value.region, value.kind, value.value) == (
        "minus-inf-non-target",
        "wrong kind",
        ["nan"],
    )
    # The smallest input: three classes, one of them masked, all that is not needed zero.
    row = [float(x) for x in value.case.inputs[value.row]]
    assert min(row) == float("-inf")
    assert sorted(row)[1:] in ([0.0, 0.0], [float("-inf"), 0.0])


def test_a_law_is_found_by_its_name():
    assert law("value").name == "value"
    with pytest.raises(KeyError, match="there are: value"):
        law("no-such-law")


def test_same_seed_same_findings_and_case_ids(audited, mutants):
    wrong = {"cross_entropy.index": mutants["scaled_loss"]}
    first, second = (audited("cross_entropy.index", "value", seed=7, **wrong) for _ in range(2))
    assert first.events == second.events
    other = audited("cross_entropy.index", "value", seed=8, **wrong)
    assert {f.id for f in first.findings} == {f.id for f in other.findings}
