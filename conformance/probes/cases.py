"""The smallest calls that tell conventions apart: one or two rows, few classes, short numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.vocabulary import Case, Floats, Options
from ..bench import Bench

CLASSES = 3
PLAIN = Options()


def small(bench: Bench, rows: int = 1, options: Options = PLAIN) -> Case:
    """A valid call: the classes of a row have different losses, and so have the rows.

    What is compiled for one shape, or asked in batches as usual, is padded by the bench where
    each row has a loss of its own. A reduction is of rows, so there they are repeated here.
    """
    subject = bench.subject
    if subject.target == "binary":
        inputs = np.array([[1.0], [-2.0]] if subject.from_logits else [[0.25], [0.375]])
        case = _case(bench, inputs, np.array([[1.0], [0.0]]), options)
    else:
        classes = subject.shape[1] if subject.shape else CLASSES
        first = _logits(classes) if subject.from_logits else shares(classes)
        # Turned by one class and not reversed: the second row must not cost what the first does.
        inputs = np.array([first, np.roll(first, 1)])
        target = np.array([0, classes - 1])
        if subject.target == "distribution":
            target = np.array([shares(classes)[::-1], shares(classes)])
            if subject.operation.startswith("focal"):  # of one class, or none is defined
                target = np.eye(classes)[[0, classes - 1]]
        case = _case(bench, inputs, target, options)
    repeated = bench.rows if subject.shape is None else subject.shape[0]
    if repeated and options.reduction != "none":
        return case.take(np.resize(np.arange(rows), repeated))
    return case.take(np.arange(rows))


def _case(bench: Bench, inputs: Floats, target: np.ndarray, options: Options) -> Case:
    return Case(bench.subject.operation, bench.dtype, inputs, target, options)


def _logits(classes: int) -> Floats:
    """1, 0, 2, 3, ... and a last one twice as large.

    All are different, and the first is not their mean, where smoothing would change nothing.
    """
    z = np.arange(float(classes))
    z[:2] = z[:2][::-1]
    z[-1] *= 2.0
    return z


def shares(classes: int) -> Floats:
    """1/2, 1/4, ... and the rest as 3/4 and 1/4 of it: different, exact, and their sum is 1."""
    halves = 0.5 ** np.arange(1, classes - 1)
    rest = 1.0 - halves.sum()
    return np.concatenate([halves, [0.75 * rest, 0.25 * rest]])


def class_weights(case: Case) -> tuple[float, ...]:
    """4, 1, 2, 1, 1, ...: that of the first row is neither 1 nor that of the second."""
    weights = np.ones(case.inputs.shape[1])
    weights[[0, -1]] = 4.0, 2.0
    return tuple(map(float, weights))


def with_label(case: Case, label: int) -> Case:
    """The call with another label in the first row."""
    target = np.array(case.target)
    target[0] = label
    return replace(case, target=target)


def labels(case: Case) -> np.ndarray:
    """The class of each row: its label, or where its target is largest."""
    return case.target if case.target.ndim == 1 else np.argmax(case.target, axis=1)


def in_words(case: Case, subject: Subject) -> str:
    """The call in one line: `x = [[1, 0, 2]], y = [0], label_smoothing = 0.25`."""
    rows = _period(case)
    x = "x" if subject.from_logits else "p"
    y = "q" if subject.target == "distribution" else "y"
    parts = [f"{x} = {_listed(case.inputs[:rows])}", f"{y} = {_listed(case.target[:rows])}"]
    if rows < case.rows:
        parts.append(f"repeated to {case.rows} rows")
    options = case.options
    passed = {name: np.asarray(getattr(options, name)) for name in options.passed()}
    parts += [f"{name} = {_listed(value)}" for name, value in passed.items()]
    if options.reduction not in ("none", "default"):
        parts.append(f"reduction = {options.reduction}")
    return ", ".join(parts)


def _period(case: Case) -> int:
    """After how many rows the rows begin anew."""
    for rows in (1, 2):
        again = np.resize(np.arange(rows), case.rows)
        if all(np.array_equal(a[again], a, equal_nan=True) for a in (case.inputs, case.target)):
            return rows
    return case.rows


def _listed(values: np.ndarray) -> str:
    if values.ndim:
        return "[" + ", ".join(_listed(value) for value in values) + "]"
    number = values.item()
    return repr(int(number)) if number == np.rint(number) and abs(number) < 1e9 else repr(number)
