from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lossaudit.adapters
from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS, members, subjects
from lossaudit.adapters.subject import COMPILED, Subject
from lossaudit.reference.formats import FORMATS
from lossaudit.reference.vocabulary import OPERATIONS, TARGETS, Options

ALL = subjects(depth="deep")
ON_GPUS = ("torch", "tensorflow", "keras", "keras-jax", "keras-torch", "jax")
LISTING = """
import sys
sys.path.insert(0, sys.argv[1])
from lossaudit.adapters.registry import subjects
subjects()
print(*sys.modules)
"""


def by_name(subject: Subject) -> str:
    return subject.name


def test_listing_imports_no_framework(tmp_path: Path):
    (tmp_path / "lossaudit").symlink_to(Path(lossaudit.adapters.__file__).parent.parent)
    command = [sys.executable, "-c", LISTING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "lossaudit.adapters.pytorch" in loaded
    assert not loaded & {"torch", "tensorflow", "keras", "jax", "optax", "onnx", "onnxruntime"}


def test_names_are_unique():
    assert len({subject.name for subject in ALL}) == len(ALL)


@pytest.mark.parametrize("subject", ALL, ids=by_name)
def test_declarations_hold_together(subject: Subject):
    assert subject.operation in OPERATIONS
    assert subject.target in TARGETS
    assert set(subject.dtypes) <= set(FORMATS)
    assert set(subject.arithmetic) == set(subject.dtypes)
    assert all(arithmetic.origin for arithmetic in subject.arithmetic.values())
    assert "none" in subject.reductions
    assert subject.options <= {*Options.__dataclass_fields__, "sample_weight"} - {"reduction"}
    assert (subject.shape is None) == (not subject.compiled)
    assert (subject.semantics.smoothing == "none") == ("label_smoothing" not in subject.options)


@pytest.mark.parametrize("subject", ALL, ids=by_name)
def test_siblings_exist(subject: Subject):
    siblings = {s.op: s for s in FRAMEWORKS[subject.framework].subjects if s.mode == subject.mode}
    if subject.index_sibling:
        assert siblings[subject.index_sibling].target == "index"
        assert siblings[subject.index_sibling].operation == subject.operation
    if subject.binary_sibling:
        assert siblings[subject.binary_sibling].operation == "binary_cross_entropy_with_logits"


def test_depths_nest():
    quick, standard = subjects(depth="quick"), subjects(depth="standard")
    assert not any(s.compiled for s in quick)
    assert {s.mode for s in ALL} - {s.mode for s in quick} == set(COMPILED)
    assert {s.name for s in quick} < {s.name for s in standard} == {s.name for s in ALL}
    assert all(not s.options and s.reductions == ("none",) for s in standard if s.compiled)
    with pytest.raises(ValueError, match="quick, standard, deep"):
        subjects(depth="shallow")


def test_subjects_of_another_device_are_those_that_make_sense_there():
    everywhere = subjects(depth="deep", device="cuda")
    assert {s.device for s in everywhere} == {"cuda"}
    assert {s.framework for s in everywhere} == set(ON_GPUS)
    assert {s.framework for s in subjects(depth="deep", device="mps")} == {"torch"}
    assert "autocast" not in {s.mode for s in everywhere}
    # The constants of the declarations are those of the CPU's functions.
    assert not any(s.arithmetic for s in everywhere)
    assert not any("float64" in s.dtypes for s in subjects(["torch"], device="mps"))
    assert all("[eager,cuda]" in s.name for s in everywhere if s.mode == "eager")


@pytest.mark.parametrize("name", ON_GPUS)
def test_a_worker_sees_the_device_of_its_subjects(name: str):
    """TensorFlow and JAX compute on whatever they see: one for the CPU sees nothing else."""
    found = FRAMEWORKS[name]
    here = found.subjects[0]
    there = found.on(here, "cuda")
    assert there is not None
    (cpu, seen_by_cpu), (gpu, seen_by_gpu) = (found.worker(s, "float32") for s in (here, there))
    assert (cpu == gpu) == (name == "torch")
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}.items()
    assert not hidden & seen_by_gpu.items()
    assert bool(hidden & seen_by_cpu.items()) == (name not in ("torch", "keras-torch"))


@pytest.mark.parametrize("name", ["tensorflow", "keras"])
def test_an_invalid_label_does_not_raise_in_tensorflow_on_a_gpu(name: str):
    labelled = [s for s in subjects([name], device="cuda") if s.target == "index"]
    assert labelled
    for subject in labelled:
        assert subject.semantics.label_policy != "raises" or subject.undeclared == {"label_policy"}


def test_frameworks_can_be_chosen():
    assert {s.framework for s in subjects(["jax"])} == {"jax"}
    with pytest.raises(KeyError):
        subjects(["theano"])


def test_keras_means_all_of_its_backends():
    assert members(["keras"]) == ["keras", "keras-jax", "keras-torch", "keras-numpy"]
    assert members(["keras-torch", "keras", "torch"])[0] == "keras-torch"
    assert members(FRAMEWORKS) == list(FRAMEWORKS)
    for name in members(["keras"]):
        workers = {FRAMEWORKS[name].worker(s, "float32")[0] for s in FRAMEWORKS[name].subjects}
        assert len(workers) == 1
    backends = {
        FRAMEWORKS[name].worker(FRAMEWORKS[name].subjects[0], "float32")[1]["KERAS_BACKEND"]
        for name in members(["keras"])
    }
    assert backends == {"tensorflow", "jax", "torch", "numpy"}


def test_what_is_not_installed_is_told_with_the_command_that_installs_it(faulty):
    missing = faulty.framework()
    object.__setattr__(missing, "packages", ("numpy", "no-such-distribution"))
    assert availability(missing) == (
        "no-such-distribution not installed; install with: pip install numpy"
    )
    assert availability(faulty.framework()) == ""
