"""All trainings that were asked for, each in a process of its own as far as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

import numpy as np

from ... import __version__
from ...adapters import train_alone
from ...adapters.client import UnusableFramework, WorkerPool
from ...adapters.environments import Environment, availability
from ...adapters.registry import FRAMEWORKS
from ...adapters.subject import Subject
from ...adapters.worker import leave_with_parent
from ...reference import api
from ...reference.formats import FORMATS
from ...reference.vocabulary import Case, Floats
from ..bench import Session
from ..interruptions import interruptions_later, leave_interruptions_to_the_parent
from . import judge
from .alone import START_SECONDS, NotTrained, run_alone, subject_of
from .points import CENTRES, RATE, SAMPLES, SEED, SIGMA, Points, points
from .recipes import EPS, RECIPES, RIGHT, Labels, named
from .records import Training, Trajectories
from .recursion import Path, by_the_reference, descend

TRAINED = tuple(train_alone.FRAMEWORKS)
DTYPES = ("float64", "float32", "bfloat16")

MODES = {"torch": "eager", "tensorflow": "function", "jax": "jit"}
"""How the programs of `train_alone` call their ops."""

REFERENCE, OP, ALONE = "reference", "op", "alone"

EXACT, LOSS_DIGITS, DIGITS = 17, 9, 4
"""Significant digits that are kept: of float64 itself, of losses, and of distances and shares."""

EPOCH_SECONDS = 5.0
"""Of a program, for each epoch and recipe: the slowest that docs/trajectories.md measured, torch in
bfloat16, took a third of one. That leaves machines that are fifteen times as slow or as busy."""


@dataclass(frozen=True)
class Task:
    """Trainings that one process does, one after another."""

    way: str
    dtype: str
    recipes: tuple[str, ...]
    epochs: int
    framework: str = ""
    python: str = ""


def prepared(
    frameworks: Sequence[str],
    dtypes: Sequence[str],
    recipes: Sequence[str],
    epochs: int,
    environment: Environment,
) -> tuple[Trajectories, list[Task]]:
    """An empty result, and what is to be trained for it; nothing named means everything.

    Raises:
        UnusableFramework: one that is named is not there, or none is.
    """
    absent = {name: availability(FRAMEWORKS[name], environment) for name in frameworks or TRAINED}
    absent = {name: reason for name, reason in absent.items() if reason}
    there = [name for name in dict.fromkeys(frameworks or TRAINED) if name not in absent]
    for name, reason in absent.items():
        if frameworks or not there:
            raise UnusableFramework(name, reason)
    data = points(epochs)
    result = Trajectories(
        lossaudit=__version__,
        setting=setting(data),
        epochs=epochs,
        sharpness=judge.sharpness(data),
        absent=absent,
    )
    chosen = [r.name for r in RECIPES if not recipes or r.name in recipes]
    formats = [dtype for dtype in DTYPES if not dtypes or dtype in dtypes]
    return result, tasks(there, formats, chosen, epochs, environment.python)


def setting(data: Points) -> str:
    """The data and the steps, in words."""
    return (
        f"{SAMPLES} points in each of {len(CENTRES)} clusters around "
        f"{', '.join(f'({a:g}, {b:g})' for a, b in CENTRES)} (sigma {SIGMA:g}, seed {SEED}), one "
        f"sample to a step, rate {RATE:g}, {data.epochs} epochs of {len(data.y)} steps"
    )


def tasks(
    frameworks: Sequence[str],
    dtypes: Sequence[str],
    recipes: Sequence[str],
    epochs: int,
    python: str,
) -> list[Task]:
    """The long ones first. Without float64 there is a reference in it all the same."""
    asked = [(framework, dtype) for framework in reversed(frameworks) for dtype in dtypes]
    ops = [Task(OP, d, (RIGHT,), epochs, f, python) for f, d in asked if RIGHT in recipes]
    formats = dict.fromkeys((*dtypes, "float64"))
    own = [Task(REFERENCE, dtype, (recipe,), epochs) for recipe in recipes for dtype in formats]
    alone = [Task(ALONE, d, tuple(recipes), epochs, f, python) for f, d in asked]
    return [*ops, *own, *alone]


def train_all(
    wanted: Sequence[Task],
    jobs: int,
    result: Trajectories,
    ended: Callable[[Task, list[Training]], None],
) -> None:
    """Train what is wanted into `result`, and say each task as it ends.

    What was trained is in `result`, and compared, after an interruption too.
    """
    began = time.monotonic()
    places = {task: place for place, task in enumerate(wanted)}
    came: dict[int, list[Training]] = {}
    try:
        for task, trainings in _trained(wanted, jobs):
            came[places[task]] = trainings
            ended(task, trainings)
    finally:
        result.trainings = [training for place in sorted(came) for training in came[place]]
        compare(result.trainings)
        result.seconds = round(time.monotonic() - began, 1)


def _trained(wanted: Sequence[Task], jobs: int) -> Iterator[tuple[Task, list[Training]]]:
    """What each task trained, as they end; of one that came to nothing, why."""
    if jobs <= 1:
        yield from ((task, _what_came(task, lambda task=task: train(task))) for task in wanted)
        return
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    begin = partial(_obey, os.getpid())
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin) as pool:
        try:
            with interruptions_later():
                begun = {_submitted(pool, task): task for task in wanted}
            for future in as_completed(begun):
                yield begun[future], _what_came(begun[future], future.result)
        except BaseException:  # Ctrl-C above all: nobody waits for what is left
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


def _what_came(task: Task, result: Callable[[], list[Training]]) -> list[Training]:
    """The trainings of a task; whatever went wrong ends them alone, and what came is kept."""
    try:
        return result()
    except BrokenProcessPool:
        return failed(task, "a process of the trainings ended: it crashed, or it was killed")
    except Exception as error:  # noqa: BLE001 - said, with its kind, and exit code 1
        return failed(task, f"{type(error).__name__}: {error}")


def failed(task: Task, why: str) -> list[Training]:
    """The records of trainings that there are not."""
    return [
        Training(way=task.way, dtype=task.dtype, recipe=r, framework=task.framework, failed=why)
        for r in task.recipes
    ]


def _submitted(pool: ProcessPoolExecutor, task: Task) -> Future[list[Training]]:
    """What the pool will give; a process of it may have ended by now."""
    try:
        return pool.submit(_work, task)
    except BrokenProcessPool as error:
        future: Future[list[Training]] = Future()
        future.set_exception(error)
        return future


_at_work = False
"""In a process of the pool: a task is being trained."""


def _obey(parent: int) -> None:
    """Ctrl-C is for the parent, which ends this process by SIGTERM, or by its own end."""
    signal.signal(signal.SIGTERM, _interrupted)
    leave_interruptions_to_the_parent()
    leave_with_parent(parent, True)  # noqa: FBT003 - the executor starts processes from its caller


def _interrupted(*_: object) -> None:
    """A task closes what it has started; a process that waits for one has nothing to close."""
    if not _at_work:
        os._exit(1)
    raise KeyboardInterrupt


def _work(task: Task) -> list[Training]:
    global _at_work  # noqa: PLW0603 - a signal handler is told in no other way
    try:
        try:
            _at_work = True
            return train(task)
        finally:
            _at_work = False
    except KeyboardInterrupt:  # the pool would go on with the next
        os._exit(1)


def train(task: Task) -> list[Training]:
    """Do one task, in this process. What cannot be trained is said in its records."""
    data = points(task.epochs)
    try:
        if task.way == REFERENCE:
            return [_of_the_reference(data, task, recipe) for recipe in task.recipes]
        if task.way == OP:
            with WorkerPool(task.python) as pool:
                version = pool.versions(task.framework)[FRAMEWORKS[task.framework].packages[0]]
                return [by_op(data, pool, subject_of(task.framework), task.dtype, version)]
        return _alone(data, task)
    except (NotTrained, UnusableFramework) as error:
        return failed(task, str(error))


# --- the three ways -------------------------------------------------------------------------------


def _of_the_reference(data: Points, task: Task, recipe: str) -> Training:
    began = time.monotonic()
    path = by_the_reference(data, named(recipe), task.dtype)
    seconds = time.monotonic() - began
    return recorded(data, path, Training(way=REFERENCE, dtype=task.dtype, recipe=recipe), seconds)


def by_op(
    data: Points, session: Session, subject: Subject, dtype: str, version: str = ""
) -> Training:
    """The op gives loss and gradient of each step; everything else is correctly rounded.

    Raises:
        NotTrained: if it did not return.
    """

    def asked(z: Floats, y: Labels) -> tuple[float, Floats]:
        outcome = session.ask(subject, Case(subject.operation, dtype, z, y))
        if not outcome.returned or outcome.loss is None or outcome.gradient is None:
            raise NotTrained(f"{subject.name} {outcome.status}: {outcome.message}")
        return float(outcome.loss[0]), outcome.gradient

    began = time.monotonic()
    path = descend(data, FORMATS[dtype], asked)
    head = Training(
        way=OP,
        dtype=dtype,
        recipe=RIGHT,
        framework=subject.framework,
        version=version,
        op=subject.name,
    )
    return recorded(data, path, head, time.monotonic() - began, subject)


def _alone(data: Points, task: Task) -> list[Training]:
    """All recipes by a program of the framework alone."""
    arrays = {
        "x": data.x[:, :-1],
        "y": data.y,
        "order": data.order,
        "start": data.start,
        "rate": RATE,
        "eps": EPS,
        "recipes": np.array(task.recipes),
    }
    seconds = START_SECONDS + EPOCH_SECONDS * data.epochs * len(task.recipes)
    program = train_alone.__file__
    found = run_alone(task.python, program, task.framework, task.dtype, arrays, seconds)
    try:
        return [_of_a_program(data, task, recipe, found) for recipe in task.recipes]
    except KeyError as error:
        why = f"{error.args[0]} is not in its result"
        raise NotTrained(f"{task.framework} alone: {why}") from error


def _of_a_program(data: Points, task: Task, recipe: str, found: dict[str, np.ndarray]) -> Training:
    path = Path(found[f"{recipe}/parameters"], found[f"{recipe}/losses"])
    subject = subject_of(task.framework, MODES[task.framework]) if recipe == RIGHT else None
    head = Training(
        way=ALONE,
        dtype=task.dtype,
        recipe=recipe,
        framework=task.framework,
        version=str(found["version"]),
        op=subject.name if subject else "",
    )
    return recorded(data, path, head, float(found[f"{recipe}/seconds"]), subject)


# --- what is said of one --------------------------------------------------------------------------


def recorded(
    data: Points, path: Path, head: Training, seconds: float, subject: Subject | None = None
) -> Training:
    """The record of a training: its head, and what is measured of its path."""
    n = len(data.y)
    ends = path.parameters[n::n]
    with np.errstate(over="ignore", invalid="ignore"):  # of what `lost` says
        z = np.einsum("ekf,nf->enk", ends, data.x)
    head.reported = numbers(path.loss.reshape(-1, n).mean(axis=1), LOSS_DIGITS)
    head.true = numbers((float(api.cross_entropy(one, data.y)) for one in z), LOSS_DIGITS)
    right = (one.argmax(axis=1) == data.y for one in z)
    head.accuracy = [round(float(one.mean()), DIGITS) for one in right]
    moved = (path.parameters[1:] != path.parameters[:-1]).any(axis=(1, 2))
    head.moved = [round(float(share), DIGITS) for share in moved.reshape(-1, n).mean(axis=1)]
    head.parameters = [numbers(one.ravel(), EXACT) for one in ends]
    head.seconds = round(seconds, 3)
    recipe = named(head.recipe)
    head.failed = lost(path)
    if recipe.smoothing is not None and not head.failed:
        found = judge.judge(data, recipe, path.parameters, subject, head.dtype)
        head.drift = numbers(found.drift[n - 1 :: n])
        # Of a program the loss as it is meant is an op alone; so it is in the other two ways.
        # Where a step has no bound nothing can be said of all; but one outside of its own is.
        if head.recipe == RIGHT and (np.isfinite(found.room).all() or not found.share <= 1.0):
            head.share = found.share
    return head


def lost(path: Path) -> str:
    """Why nothing can be said of the steps of a path, "" if something can."""
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.linalg.norm(path.parameters.reshape(len(path.parameters), -1), axis=1)
    steps = np.flatnonzero(~np.isfinite(sizes))
    if not steps.size:
        return ""
    return f"the norm of the parameters is not finite from step {steps[0]} of {len(sizes) - 1} on"


def numbers(values: Iterable[float], digits: int = DIGITS) -> list[float | None]:
    """None for what is no number or infinite, which JSON lacks."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]


def compare(trainings: Sequence[Training]) -> None:
    """Write into each training how far it is from the references that there are.

    Of the parameters, only those after the last epoch are kept then.
    """
    references = {(t.recipe, t.dtype): t for t in trainings if t.way == REFERENCE}
    for training in trainings:
        mine = _parameters(training)
        same = references.get((training.recipe, training.dtype))
        double = references.get((training.recipe, "float64"))
        if mine.size and same is not None:
            found = judge.apart(mine, _parameters(same), training.dtype)
            training.distance = numbers(found.distance)
            training.relative = numbers(found.relative)
            training.ulps = numbers(found.ulps)
        if mine.size and double is not None:
            found = judge.apart(mine, _parameters(double), training.dtype)
            training.from_float64 = numbers(found.relative)
    for training in trainings:
        training.parameters = training.parameters[-1:]


def _parameters(training: Training) -> Floats:
    rows = [[np.nan if v is None else v for v in row] for row in training.parameters]
    return np.array(rows, np.float64)
