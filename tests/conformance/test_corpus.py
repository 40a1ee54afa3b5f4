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

# blake2b of the ids of all cases of CORPUS below. If a change to the regions is meant, raise
# CORPUS and put the new digest here: stored runs of another corpus are not comparable.
DIGESTS = {1: "b22fc80bcf9665be843ce1a650400415"}
"""Of the cross-entropies, with which the corpus began."""

DIGESTS_OF_RELATED = {1: "6ce5ae5e406d2c4d3dea7def0ad363f5"}
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
                if target == "distribution" and not region.valid:
                    continue
                for dtype in FORMATS:
                    classes = region.classes[0] if region.classes else 3
                    if target == "binary":
                        classes = 2
                    rows = batch_rows(classes)
                    yield Plan(region, operation, target, dtype, rows, classes, (), "none", 0)


def name(plan):
    return f"{plan.operation}-{plan.region.name}-{plan.target}-{plan.dtype}"


@pytest.mark.parametrize("plan", list(plans()), ids=name)
def test_case_holds_numbers_of_its_format(plan):
    case = make_case(plan)
    fmt = FORMATS[plan.dtype]
    np.testing.assert_array_equal(round_to_format(case.inputs, fmt), case.inputs)
    assert case.rows == (0 if plan.region.name == "empty" else plan.rows)
    if case.target.ndim == 2 and plan.target == "distribution":
        np.testing.assert_array_equal(round_to_format(case.target, fmt), case.target)
        np.testing.assert_array_equal(case.target.sum(axis=1), 1.0)
        assert not (np.isneginf(case.inputs) & (case.target > 0)).any() or (
            plan.region.name == "minus-inf-target"
        )
    if plan.region.inputs == "probabilities":
        assert ((case.inputs >= 0) & (case.inputs <= 1)).all()
    if plan.target == "index" and case.rows:
        outside = (case.target < 0) | (case.target >= plan.classes)
        assert outside.sum() == (0 if plan.region.valid else 1)


def test_corpus_means_the_same_numbers_as_when_it_was_versioned():
    assert digest_of(CROSS_ENTROPIES) == DIGESTS[CORPUS]
    related = tuple(name for name in OPERATIONS if name not in CROSS_ENTROPIES)
    assert digest_of(related) == DIGESTS_OF_RELATED[CORPUS]


def digest_of(operations):
    ids = "".join(make_case(plan).case_id() for plan in plans(operations))
    return hashlib.blake2b(ids.encode(), digest_size=16).hexdigest()


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
