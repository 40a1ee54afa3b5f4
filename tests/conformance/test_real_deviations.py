"""Deviations of the real frameworks that the laws must find by themselves, with nothing known.

They are named here to hold the suite to its power; no law and no region knows them.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.registry import subjects as all_subjects
from lossaudit.conformance.engine import Auditor, Settings
from lossaudit.conformance.laws.registry import law
from lossaudit.conformance.run import Convention, Finding

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def look():
    """Audit one cell of a real framework under an empty file of known findings."""
    with WorkerPool() as pool:

        def cell(name, law_name, dtype="float32"):
            framework = name.partition(":")[0]
            if reason := availability(FRAMEWORKS[framework]):
                pytest.skip(reason)
            subjects = all_subjects([framework], "standard")
            subject = next(s for s in subjects if s.name == name)
            events = []
            auditor = Auditor(pool, subjects, Settings("quick"), events.append)
            auditor.cell(subject, law(law_name), dtype, pool.versions(framework))
            return events

        yield cell


def found(events, **wanted):
    findings = [e for e in events if isinstance(e, Finding)]
    assert all(f.status == "new" for f in findings)
    return [f for f in findings if all(getattr(f, k) == v for k, v in wanted.items())]


def test_torch_soft_target_with_a_masked_class_is_nan(look):
    events = look("torch:cross_entropy.probabilities[eager,cpu]", "value")
    (finding,) = found(events, kind="wrong kind", region="minus-inf-non-target")
    assert finding.value == ["nan"]
    assert sorted(map(float, finding.case.inputs[0]))[1:] == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_torch_bce_with_logits_loses_its_negative_tail(look, dtype):
    events = look("torch:binary_cross_entropy_with_logits[eager,cpu]", "value", dtype)
    (finding,) = found(events, kind="precision", region="saturated-right")
    assert float(finding.case.inputs[0][0]) < 0
    assert finding.case.target == [["0.0"]]
    assert finding.ulps is not None
    assert finding.demand_ulps is not None
    assert finding.declared_ulps is not None
    assert finding.demand_ulps < finding.ulps <= finding.declared_ulps


def test_tensorflow_soft_label_differs_between_eager_and_xla(look):
    events = look("tensorflow:softmax_cross_entropy_with_logits[xla,cpu]", "modes-agree")
    (finding,) = found(events, kind="wrong kind", region="minus-inf-non-target")
    assert finding.right == ["nan"]  # eager
    assert float(finding.value[0]) > 0  # XLA


def test_optax_with_a_masked_class_is_nan(look):
    events = look("jax:softmax_cross_entropy[eager,cpu]", "value")
    (finding,) = found(events, kind="wrong kind", region="minus-inf-non-target")
    assert finding.value == ["nan"]


def test_keras_clip_is_measured(look):
    events = look("keras:BinaryCrossentropy.probabilities[eager,cpu]", "mirror")
    (guard,) = [e for e in events if isinstance(e, Convention) and e.field == "guard"]
    assert guard.agrees
    assert guard.evidence == "16.118 at p = 0 (y = 1), 15.942 at p = 1 (y = 0)"


OTHER_SEEDS = {3: ("torch", "tensorflow", "jax", "onnxruntime"), 4: ("keras",)}
"""Each framework under one of the two seeds: an audit of all takes minutes."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", OTHER_SEEDS)
def test_other_seeds_find_nothing_that_is_not_known(seed):
    """Slow. The known findings were gathered under these seeds too: under another one a deviation
    that few inputs show may still come up that no entry covers.
    """
    asked = [part for name in OTHER_SEEDS[seed] for part in ("--backend", name)]
    done = subprocess.run(
        [sys.executable, "-m", "lossaudit", "run", *asked, "--depth", "quick", "--seed", str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout
