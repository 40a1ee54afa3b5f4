"""The corpus: the same numbers on every platform and for ever, and each region what it says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lossaudit.conformance.regions import (
    CORPUS,
    REGIONS,
    ROWS,
    Plan,
    batch_rows,
    make_case,
    regions_for,
)
from lossaudit.conformance.stream import Stream
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.vocabulary import OPERATIONS

# blake2b of the ids of all cases below. If a change to a region is meant, raise CORPUS and put the
# new digest here: stored runs of another corpus are not comparable.
DIGESTS = {1: "36f219ae87551d8f7b416e22bda4aab6", 2: "acd728254f63381d6c38e65775c2c543"}
"""Of the cross-entropies. Of the first corpus, what is still as it was: its invalid labels are
others now."""

DIGESTS_OF_RELATED = {1: "d2702a3b80c53e5a7aa4bdc055e51fc7", 2: "62cffa1c8b214412dad808a502a8437e"}
"""Of the operations beside them; adding one is no other corpus, and has its digest put here."""

CROSS_ENTROPIES = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)


def plans(operations=tuple(OPERATIONS)):
    for operation in operations:
        targets = ("binary",) if operation.startswith("binary") else ("index", "distribution")
        for region in regions_for(operation):
            for target in targets:
                if target == "distribution" and not (region.valid and not region.ignored):
                    continue
                if target == "index" and region.targets is not None and region.name in SOFT:
                    continue
                for dtype in FORMATS:
                    yield plan_of(region, operation, target, dtype)


SOFT = ("soft-targets", "unnormalised-targets", "negative-targets")


def plan_of(region, operation, target, dtype, seed=0):
    """A plan of a region, with each option of it that the target has a place for."""
    classes = region.classes[0] if region.classes else 3
    if region.vocabulary:
        classes = 1000
    classes = 2 if target == "binary" else classes
    rows = batch_rows(classes) if region.rows is None else region.rows
    other = "weight" if target == "binary" else "pos_weight"
    options = tuple(name for name in region.options if name != other)
    options += ("ignore_index",) if region.ignored else ()
    return Plan(region, operation, target, dtype, rows, classes, options, "none", seed)


def name(plan):
    return f"{plan.operation}-{plan.region.name}-{plan.target}-{plan.dtype}"


@pytest.mark.parametrize("plan", list(plans()), ids=name)
def test_case_holds_numbers_of_its_format(plan):
    case = make_case(plan)
    fmt = FORMATS[plan.dtype]
    np.testing.assert_array_equal(round_to_format(case.inputs, fmt), case.inputs)
    assert case.rows == plan.rows
    if case.target.ndim == 2 and plan.target == "distribution":
        np.testing.assert_array_equal(round_to_format(case.target, fmt), case.target)
        if plan.region.name != "unnormalised-targets":
            np.testing.assert_array_equal(case.target.sum(axis=1), 1.0)
        masked = np.isneginf(case.inputs) & ~np.isneginf(case.inputs).all(axis=1, keepdims=True)
        at_target = plan.region.name == "minus-inf-target"
        assert at_target or not (masked & (case.target > 0)).any()
    if plan.region.inputs == "probabilities":
        assert ((case.inputs >= 0) & (case.inputs <= 1)).all()
    if plan.target == "index" and case.rows:
        outside = (case.target < 0) | (case.target >= plan.classes)
        expected = plan.rows if plan.region.ignored else 0 if plan.region.valid else 1
        assert outside.sum() == expected


@pytest.mark.parametrize("corpus", [1, CORPUS])
def test_corpus_means_the_same_numbers_as_when_it_was_versioned(corpus):
    """Those of the first corpus too, in the regions that are as they were."""
    related = tuple(name for name in OPERATIONS if name not in CROSS_ENTROPIES)
    assert digest_of(CROSS_ENTROPIES, corpus) == DIGESTS[corpus]
    assert digest_of(related, corpus) == DIGESTS_OF_RELATED[corpus]


def digest_of(operations, corpus):
    chosen = (plan for plan in plans(operations) if corpus > 1 or is_of_the_first(plan.region))
    ids = "".join(make_case(plan).case_id() for plan in chosen)
    return hashlib.blake2b(ids.encode(), digest_size=16).hexdigest()


def is_of_the_first(region):
    return region.name in FIRST and not (region.inputs == "probabilities" and region.laws)


FIRST = (
    "ordinary", "ties", "saturated-right", "saturated-wrong", "large-offset", "huge", "subnormal",
    "minus-inf-non-target", "minus-inf-target", "plus-inf", "nan", "one-class", "wide", "empty",
    "confident", "zero-and-one",
)  # fmt: skip
"""The regions of the first corpus that have not changed since."""


def test_stream_follows_splitmix64():
    """The first outputs of SplitMix64 from state 0 (Vigna's reference program)."""
    stream = Stream()
    stream._state = np.uint64(0)  # the published sequence starts there
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(x) for x in stream.bits(3)] == expected


def test_streams_of_different_seeds_differ_and_of_one_seed_agree():
    assert (Stream(1).bits(8) == Stream(1).bits(8)).all()
    assert (Stream(1).bits(8) != Stream(2).bits(8)).all()
    assert 0 <= Stream(3).uniform(1000).min() < Stream(3).uniform(1000).max() < 1


def test_saturated_rows_reach_every_threshold_of_the_format():
    """Gaps in float32 pass where e^-g is half an ulp of 1, subnormal, and zero."""
    region = next(r for r in REGIONS if r.name == "saturated-right")
    gaps = []
    for seed in range(4):
        plan = Plan(region, "cross_entropy", "index", "float32", ROWS, 3, (), "none", seed)
        z = np.sort(make_case(plan).inputs, axis=1)
        gaps += list(z[:, -1] - z[:, -2])
    low, high = np.array([16.6, 87.3, 103.9]), np.array([17.5, 88.5, 115])
    for a, b in zip(low, high, strict=True):
        assert any(a <= g <= b for g in gaps), (a, b)


def test_every_region_says_what_it_is_for():
    assert all(len(region.purpose) > 8 for region in REGIONS)
    names = [(region.name, region.inputs) for region in REGIONS]
    assert len(names) == len(set(names))
