"""Each law speaks about the implementation that breaks it, and is silent about a right one."""

from __future__ import annotations

import pytest

from lossaudit.conformance.laws.registry import LAWS, law

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


def test_every_law_has_a_mutant():
    assert {name for name, *_ in BROKEN} == {law.name for law in LAWS}


def test_minus_infinity_times_zero_is_found_by_the_value_law(audited, mutants):
    wrong = {"cross_entropy.probabilities": mutants["nan_times_zero"]}
    found = audited("cross_entropy.probabilities", **wrong).findings
    assert {f.law for f in found} == {"value", "finite-where-finite", "one-hot-equals-index"}
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
