"""Trainings beside the reference: the data, the arithmetic, and the bounds that are derived."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from lossaudit.adapters.environments import Environment, availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.trajectories import everything, judge
from lossaudit.conformance.trajectories.everything import (
    DTYPES,
    NotTrained,
    Task,
    by_op,
    compare,
    prepared,
    recorded,
    subject_of,
    train,
    train_all,
)
from lossaudit.conformance.trajectories.points import RATE, Points, in_every_format, points
from lossaudit.conformance.trajectories.recipes import RECIPES, RIGHT, named
from lossaudit.conformance.trajectories.records import Training
from lossaudit.conformance.trajectories.recursion import Path, by_the_reference, descend
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats

CONVEX = [recipe for recipe in RECIPES if recipe.smoothing is not None]


def some(steps: int) -> Points:
    """The first steps of the first epoch, as an epoch of their own."""
    whole = points(1)
    return replace(
        whole,
        x=whole.x[whole.order[0, :steps]],
        y=whole.y[whole.order[0, :steps]],
        order=np.arange(steps)[None],
    )


def paths(data: Points, recipe: str) -> dict[str, Path]:
    return {dtype: by_the_reference(data, named(recipe), dtype) for dtype in DTYPES}


@pytest.fixture(scope="module")
def right() -> dict[str, Path]:
    """The loss as it is meant, in every format."""
    return paths(some(60), RIGHT)


def test_the_data_are_the_same_bits_for_ever():
    """A change here is a change of every trajectory that was published."""
    data = points(3)
    digest = hashlib.blake2b(digest_size=8)
    for array, kind in ((data.x, "<f8"), (data.y, "<i8"), (data.order, "<i8"), (data.start, "<f8")):
        digest.update(np.ascontiguousarray(array, kind).tobytes())
    assert digest.hexdigest() == "35a2c6347e0f7810"


def test_samples_are_numbers_of_every_format_and_each_epoch_takes_each_once():
    data = points(3)
    for values in (data.x, data.start):
        assert np.array_equal(in_every_format(values), values)
    assert np.array_equal(np.sort(data.order, axis=1), np.tile(np.arange(180), (3, 1)))
    assert not np.array_equal(data.order[0], data.order[1])
    assert np.array_equal(data.order[:2], points(2).order)
    assert np.bincount(data.y).tolist() == [60, 60, 60]


def test_steps_on_convex_losses_do_not_expand():
    """The premise of the bound of the distance: RATE L is at most 2."""
    assert judge.sharpness(points(1)) <= 2.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_operation_is_rounded_as_the_formats_own_arithmetic_does(dtype: str):
    """Against NumPy's float32, and ml_dtypes' bfloat16: both round each operation to nearest."""
    kind = np.float32 if dtype == "float32" else ml_dtypes.bfloat16
    data, seen = some(40), []

    def asked(z: Floats, y: np.ndarray) -> tuple[float, Floats]:
        slope = round_to_format(np.sin(z) - np.eye(3)[y], FORMATS[dtype])
        seen.append((z[0], slope[0]))
        return 0.0, slope

    path = descend(data, FORMATS[dtype], asked)
    w, x = data.start.astype(kind), data.x.astype(kind)
    for step, i in enumerate(data.steps):
        z = (w[:, 0] * x[i, 0] + w[:, 1] * x[i, 1]) + w[:, 2]
        assert np.array_equal(z.astype(np.float64), seen[step][0])
        change = kind(RATE) * (seen[step][1].astype(kind)[:, None] * x[i])
        w = w - change
        assert np.array_equal(w.astype(np.float64), path.parameters[step + 1])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_each_recipe_follows_the_slope_of_its_own_loss(recipe):
    """A central difference: the third derivatives are below 8, and a loss has a few roundings."""
    z, h = np.array([[0.5, -1.25, 0.75]]), 2.0**-13
    for y in range(3):
        label = np.array([y])
        slope = recipe.slopes(z, label, "float64")[0]
        for j in range(3):
            move = h * np.eye(3)[j]
            rise = recipe.losses(z + move, label) - recipe.losses(z - move, label)
            room = 8.0 * h**2 / 6.0 + 8.0 * 2.0**-53 / h
            assert abs(rise[0] / (2.0 * h) - slope[j]) <= room


def test_recipes_that_are_no_mistake_and_the_one_that_learns_nothing():
    data = some(30)
    meant, harmless = paths(data, RIGHT), paths(data, "log-softmax-first")
    smoothed = paths(data, "smoothed")
    still = by_the_reference(data, named("wrong-axis"), "float32")
    assert not still.loss.any()
    assert np.array_equal(still.parameters, np.tile(data.start, (31, 1, 1)))
    for dtype in DTYPES:
        near = judge.apart(harmless[dtype].parameters, meant[dtype].parameters, dtype)
        far = judge.apart(smoothed[dtype].parameters, meant[dtype].parameters, dtype)
        assert near.distance[-1] < far.distance[-1] / 8


# --- the bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_correctly_rounded_step_lies_within_the_bound(right, dtype: str):
    found = judge.judge(some(60), named(RIGHT), right[dtype].parameters, None, dtype)
    assert (found.residual > 0).all()
    assert found.share <= 1.0
    # The bound is a few roundings of what a step moves about, in the format and twice in float64:
    # three each of logits and slope, whose constants the rate of 0.1 makes small, and one of W.
    path = right[dtype].parameters
    u = FORMATS[dtype].unit_roundoff + 2 * FORMATS["float64"].unit_roundoff
    assert (found.room < 4 * u * moved_about(some(60), path)).all()
    # So that it tells of most steps whether they were taken at all, in bfloat16 too.
    steps = np.linalg.norm(np.diff(path, axis=0), axis=(1, 2))
    assert (found.room < steps).sum() > len(steps) / 2


def moved_about(data: Points, parameters: Floats) -> Floats:
    """For each step, the size of the numbers that its roundings fall on."""
    x, before = data.x[data.steps], parameters[:-1]
    terms = np.einsum("skf,sf->sk", np.abs(before), np.abs(x))
    by_logits = RATE * np.linalg.norm(x, axis=1) * np.linalg.norm(terms, axis=1)
    moved = np.linalg.norm(np.diff(parameters, axis=0), axis=(1, 2))
    return np.linalg.norm(parameters[1:], axis=(1, 2)) + moved + by_logits


@pytest.mark.parametrize("recipe", CONVEX, ids=lambda recipe: recipe.name)
def test_no_two_trainings_are_further_apart_than_their_residuals_allow(recipe):
    """Of formats, and of one whose gradients are wrong by a sixteenth."""
    data = some(30)

    def wrong(z: Floats, y: np.ndarray) -> tuple[float, Floats]:
        slopes = recipe.slopes(z, y, "float32") * (1 + 2.0**-4)
        return 0.0, round_to_format(slopes, FORMATS["float32"])

    every = [(dtype, path.parameters) for dtype, path in paths(data, recipe.name).items()]
    every.append(("float32", descend(data, FORMATS["float32"], wrong).parameters))
    drifts = [judge.judge(data, recipe, p, None, dtype).drift for dtype, p in every]
    for (_, a), mine in zip(every, drifts, strict=True):
        for (_, b), others in zip(every, drifts, strict=True):
            distance = np.linalg.norm((a - b).reshape(len(a), -1), axis=1)[1:]
            assert (distance <= mine + others).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_on_a_slope_that_is_wrong_lies_outside(dtype: str):
    """One step of sixty, whose gradient by the logits is 64 units of roundoff off."""
    data, off = some(60), 64 * FORMATS[dtype].unit_roundoff
    steps = iter(range(60))

    def asked(z: Floats, y: np.ndarray) -> tuple[float, Floats]:
        slope = named(RIGHT).slopes(z, y, dtype)
        if next(steps) == 5:
            slope = round_to_format(slope * (1 - off) - off, FORMATS[dtype])
        return 0.0, slope

    path = descend(data, FORMATS[dtype], asked)
    found = judge.judge(data, named(RIGHT), path.parameters, None, dtype)
    assert (np.flatnonzero(found.residual > found.room) == 5).all()
    assert found.share > 1.0


def test_a_loss_of_which_no_bound_is_derived_is_refused(right):
    with pytest.raises(ValueError, match="double-softmax"):
        judge.judge(some(60), named("double-softmax"), right["float32"].parameters, None, "float32")


# --- an op and a program --------------------------------------------------------------------------


def by_the_truth(case: Case) -> tuple[Floats, Floats]:
    found, fmt = truth(case, subject_of("torch").semantics), FORMATS[case.dtype]
    return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_op_trains_as_the_reference_does_bit_for_bit(right, dtype: str):
    data, head = some(60), Training(way="reference", dtype=dtype, recipe=RIGHT)
    trained = by_op(data, InProcess(by_the_truth), subject_of("torch"), dtype)
    own = recorded(data, right[dtype], head, 1.0)
    compare([own, trained])
    assert trained.parameters == own.parameters
    assert (trained.distance, trained.relative, trained.ulps) == ([0.0], [0.0], [0.0])
    assert own.from_float64 == ([0.0] if dtype == "float64" else [])
    assert trained.share is not None
    assert trained.within
    assert trained.true == own.true
    assert trained.accuracy == own.accuracy == [1.0]


def test_a_wrong_op_is_seen_by_its_steps():
    def wrong(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = by_the_truth(case)
        return loss, round_to_format(gradient * (1 + 2.0**-12), FORMATS["float32"])

    trained = by_op(some(60), InProcess(wrong), subject_of("torch"), "float32")
    assert trained.share is not None
    assert trained.share > 1
    assert not trained.within


def test_numbers_that_are_none_do_not_end_a_training():
    def lost(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = by_the_truth(case)
        return loss * np.nan, gradient * np.nan

    trained = by_op(some(10), InProcess(lost), subject_of("torch"), "float32")
    assert trained.reported == trained.true == [None]
    assert trained.drift == []
    assert trained.share is None
    assert trained.failed == "the norm of the parameters is not finite from step 1 of 10 on"
    compare([trained, trained])
    assert trained.distance == []


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e200])
@pytest.mark.parametrize("recipe", [RIGHT, "sigmoids"])
def test_parameters_that_are_not_finite_are_a_training_that_failed(value: float, recipe: str):
    """Whatever the recipe; and so are those whose squares overflow, of which nothing is said."""
    data = some(10)
    path = by_the_reference(data, named(recipe), "float64")
    path.parameters[4:, 0, 0] = value
    head = Training(way="alone", dtype="float64", recipe=recipe, framework="torch")
    trained = recorded(data, path, head, 1.0)
    assert "from step 4 of 10 on" in trained.failed
    assert len(trained.true) == 1


class SometimesUnbounded(judge.Judged):
    """Two steps, of which only the second has a bound."""

    def __init__(self, residual: float) -> None:
        super().__init__(np.array([1.0, residual]), np.array([np.inf, 1.0]))


def test_a_step_without_a_bound_takes_no_share_of_it(right, monkeypatch):
    head = Training(way="op", dtype="float32", recipe=RIGHT)
    for residual, share in ((0.5, None), (2.0, 2.0)):
        found = SometimesUnbounded(residual)
        monkeypatch.setattr(judge, "judge", lambda *_, found=found: found)
        head.share = None
        trained = recorded(some(2), Path(right["float32"].parameters[:3], np.zeros(2)), head, 1.0)
        assert trained.share == share  # a step outside of its bound is outside, whatever the others


def test_an_op_that_raises_is_said(monkeypatch):
    def raising(_: Case) -> tuple[Floats, Floats]:
        raise RuntimeError("no such kernel")

    with pytest.raises(NotTrained, match=r"torch:cross_entropy.*raised.*no such kernel"):
        by_op(some(10), InProcess(raising), subject_of("torch"), "float32")

    monkeypatch.setattr(everything.train_alone, "__file__", "/no/such/program.py")
    task = Task("alone", "float32", (RIGHT, "smoothed"), 1, "torch", sys.executable)
    failed = train(task)
    assert [one.recipe for one in failed] == [RIGHT, "smoothed"]
    assert all("torch alone" in one.failed and "program.py" in one.failed for one in failed)


def test_what_is_asked_for_is_what_is_trained(monkeypatch):
    monkeypatch.setattr(everything, "availability", lambda *_: "")
    here = Environment()
    result, wanted = prepared((), (), (), 2, here)
    ways = [task.way for task in wanted]
    assert (ways.count("op"), ways.count("alone")) == (9, 9)
    assert ways.count("reference") == 3 * len(RECIPES)
    assert result.epochs == 2
    _, few = prepared(("jax",), ("bfloat16",), ("smoothed",), 1, here)
    assert [(t.way, t.dtype) for t in few] == [
        ("reference", "bfloat16"),
        ("reference", "float64"),
        ("alone", "bfloat16"),
    ]
    monkeypatch.setattr(everything, "availability", lambda f, _: "gone" if f.name == "jax" else "")
    result, wanted = prepared((), (), (), 1, here)
    assert result.absent == {"jax": "gone"}
    assert "jax" not in {task.framework for task in wanted}
    with pytest.raises(everything.UnusableFramework, match="jax cannot be used: gone"):
        prepared(("jax",), (), (), 1, here)


def test_what_was_trained_before_an_interruption_is_kept_and_compared():
    result, _ = prepared((), (), (), 1, Environment())
    wanted = [Task("reference", "float32", (name,), 1) for name in (RIGHT, "sigmoids")]

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(wanted, 1, result, ended)
    assert [training.recipe for training in result.trainings] == [RIGHT]
    assert result.trainings[0].distance == [0.0]


ONE, OTHER = (Task("reference", "float32", (name,), 1) for name in (RIGHT, "sigmoids"))


def test_processes_that_are_killed_leave_what_was_trained():
    result, _ = prepared((), (), (), 1, Environment())
    long = replace(OTHER, dtype="float64", epochs=1000)
    said: list[str] = []

    def ended(_: Task, trainings: list[Training]) -> None:
        said.append(trainings[0].failed)
        for child in multiprocessing.active_children():
            child.kill()

    train_all([ONE, long], 2, result, ended)
    kept, failed = result.trainings
    assert (kept.failed, kept.distance) == ("", [0.0])
    assert (failed.recipe, failed.dtype, failed.true) == ("sigmoids", "float64", [])
    assert said == ["", failed.failed]
    assert failed.failed.startswith("a process of the trainings ended")


def test_processes_that_cannot_begin_are_said_of_every_training(monkeypatch):
    monkeypatch.setattr(everything, "_obey", os.fspath)  # a process id is no path
    result, _ = prepared((), (), (), 1, Environment())
    train_all([ONE, OTHER], 2, result, lambda *_: None)
    assert [one.recipe for one in result.trainings] == [RIGHT, "sigmoids"]
    assert all(one.failed for one in result.trainings)


def test_a_pool_that_ended_meanwhile_takes_no_task(monkeypatch):
    def ended(*_: object) -> None:
        raise BrokenProcessPool

    with ProcessPoolExecutor(1) as pool:
        monkeypatch.setattr(pool, "submit", ended)
        future = everything._submitted(pool, ONE)
    (failed,) = everything._what_came(ONE, future.result)
    assert failed.failed.startswith("a process of the trainings ended")


PROGRAMS = {
    "leaves-nothing": ("", "left no result"),
    "cuts-it-short": ("open(sys.argv[4], 'wb').write(b'PK\\3\\4')", "no result that can be read"),
    "forgets-one": (
        "import numpy; numpy.savez(sys.argv[4], version='1')",
        "right/parameters is not in its result",
    ),
    "raises": ("raise ValueError('seven is too much')", "ValueError: seven is too much"),
    "hangs": ("import time; time.sleep(60)", "no end after 1 s"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_goes_wrong_is_a_training_that_failed(monkeypatch, tmp_path, name: str):
    source, said = PROGRAMS[name]
    (tmp_path / "program.py").write_text(f"import sys\n{source}\n")
    monkeypatch.setattr(everything.train_alone, "__file__", str(tmp_path / "program.py"))
    if name == "hangs":
        monkeypatch.setattr(everything, "START_SECONDS", 0.5)
        monkeypatch.setattr(everything, "EPOCH_SECONDS", 0.5)
    (failed,) = train(Task("alone", "float32", (RIGHT,), 1, "torch", sys.executable))
    assert failed.failed.startswith("torch alone: ")
    assert said in failed.failed


def test_an_interpreter_that_is_not_there_is_a_training_that_failed():
    (failed,) = train(Task("alone", "float32", (RIGHT,), 1, "torch", "/no/such/python"))
    assert failed.failed.startswith("torch alone: /no/such/python cannot be run: ")


INTERRUPTED = """
import sys
from lossaudit.adapters.environments import Environment
from lossaudit.conformance.trajectories.everything import Task, prepared, train_all

if __name__ == "__main__":
    result, _ = prepared((), (), (), 1, Environment())
    wanted = [Task("reference", "float64", ("right",), epochs) for epochs in (1, 1000)]
    try:
        train_all(wanted, 4, result, lambda *_: print("one", flush=True))
    except KeyboardInterrupt:
        sys.exit(len(result.trainings))
"""


def test_an_interruption_is_quiet_where_processes_wait_for_work(tmp_path):
    """One works, one has worked, two have nothing to do or are not even there yet."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 1


@pytest.mark.slow  # tests/test_train_command.py trains torch each time
@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "dtype"),
    [
        ("torch", "float32"),
        ("tensorflow", "bfloat16"),
        ("jax", "float32"),
    ],
)
def test_real_frameworks_train_within_the_derived_bounds(framework: str, dtype: str):
    if reason := availability(FRAMEWORKS[framework]):
        pytest.skip(reason)
    recipes = tuple(recipe.name for recipe in RECIPES)
    own = (RIGHT, "log-softmax-first")
    every = train(Task("reference", dtype, own, 1))
    every += train(Task("op", dtype, (RIGHT,), 1, framework, sys.executable))
    every += train(Task("alone", dtype, recipes, 1, framework, sys.executable))
    assert [one.failed for one in every if one.failed] == []
    judged = [one for one in every if one.recipe == RIGHT]
    assert len(judged) == 3
    for one in judged:
        assert one.share is not None
        assert one.within
        assert one.accuracy == [1.0]
    ends = {(one.way, one.recipe): (np.array(one.parameters[0]), one.drift) for one in every}
    for way, recipe in (("op", RIGHT), ("alone", RIGHT), ("alone", "log-softmax-first")):
        (a, drift), (b, others) = ends["reference", recipe], ends[way, recipe]
        assert np.linalg.norm(a - b) <= (drift[0] or 0.0) + (others[0] or 0.0)
    still = next(one for one in every if one.recipe == "wrong-axis")
    assert still.reported == [0.0]
    assert still.moved == [0.0]
