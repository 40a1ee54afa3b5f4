"""Error profiles: how far a subject is from the truth along an axis, beside the derived bounds.

What one subject answered is a `Profile` of its own; `merged` makes one for all subjects of an
operation, in which every distinct answer at a position stands once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from ..adapters.subject import COMPILES_SHAPES, PLAIN, SECOND, Subject
from ..reference.bounds import bounds, demanded, unbounded
from ..reference.exact import Exact
from ..reference.formats import FORMATS
from ..reference.rows import truth
from ..reference.vocabulary import (
    LOGITS,
    OPERATIONS,
    Arithmetic,
    Case,
    Floats,
    Outcome,
    inputs_of,
)
from .answers import LETTERS, NO_GRADE, came, written
from .bench import Bench
from .grids import Axis, Grid, grids
from .judge import Judgement, judge, ulp
from .records import number
from .run import (
    Profile,
    ProfileMissing,
    ProfileOutput,
    ProfileSeries,
    packed,
    unpacked,
)

LOSS, TARGET, OTHER = "loss", "gradient", "gradient, other"
"""The outputs of a profile, in their order."""

RUN_OF_EQUAL = 3
"""Longer runs of equal indices and letters are written once."""

FEW_SHAPES = (2, 10, 1000, 50257)
"""The numbers of classes that those are asked, in float32 alone."""

NOT_ANSWERED = ""
"""The answer at a position where no answer came."""


@dataclass(frozen=True)
class Line:
    """A form whose bounds are drawn: those of the loss, of the gradient, or of both.

    Attributes:
        form, gradient: see `Arithmetic`.
        loss, slope: what the line is called among those of the loss and of the gradient, or "".
    """

    form: str
    gradient: str
    loss: str
    slope: str


LINES: dict[str, tuple[Line, ...]] = {
    "cross_entropy": (
        Line("A", "exp logp", "A", "exp logp of A"),
        Line("B", "exp logp", "B", "exp logp of B"),
        Line("B", "division", "", "division"),
        Line("C", "relative", "C", "relative"),
    ),
    "binary_cross_entropy_with_logits": (
        Line("std", "sigmoid", "std", "sigmoid"),
        Line("torch", "separate terms", "torch", "separate terms"),
        Line("split", "relative", "split", "relative"),
    ),
    "binary_cross_entropy": (
        Line("log p", "difference", "log p", "difference"),
        Line("log p exact", "quotient", "log p exact", "quotient"),
    ),
    "cross_entropy_probabilities": (Line("log p", "quotient", "log p", "quotient"),),
}
"""operation -> the forms whose bounds are drawn; of others that which each subject declares."""

DECLARED = "declared"
"""What the bounds of another operation are called."""


def profiled(subject: Subject) -> bool:
    """Whether a subject has profiles: not what is a misuse, nor a second derivative."""
    return not subject.misuse and subject.mode != SECOND


def profiles(bench: Bench) -> Iterator[Profile]:
    """What the subject of a bench does along every axis of its operation, in its format."""
    subject = bench.subject
    if not profiled(subject):
        return
    for grid in grids(subject.operation, subject.target, bench.dtype):
        if reason := _not_asked(bench, grid):
            yield from (_profile(bench, axis, (), [reason]) for axis in grid.axes)
        else:
            yield from _along(bench, grid)


def _not_asked(bench: Bench, grid: Grid) -> str:
    """Why a subject is asked nothing of a grid, "" if it is."""
    subject = bench.subject
    if subject.shape is not None and grid.shapes != {subject.shape}:
        return f"not asked: it is compiled for the shape {subject.shape} alone"
    if not _of_many_shapes(grid):
        return ""
    # A gradient by forward differentiation takes K calls, and most other modes trace every shape.
    if subject.mode not in PLAIN:
        return "not asked of so many classes: the same op is, called plainly"
    if _compiles_shapes(subject) and bench.dtype != "float32":
        return "asked in float32 alone: every shape is compiled"
    return ""


def _of_many_shapes(grid: Grid) -> bool:
    return len(grid.shapes) > 1


def _compiles_shapes(subject: Subject) -> bool:
    return subject.framework in COMPILES_SHAPES or subject.tensors in COMPILES_SHAPES


def _left_out(subject: Subject, case: Case, grid: Grid) -> bool:
    """Whether one case of a grid is not worth its cost."""
    few = _of_many_shapes(grid) and _compiles_shapes(subject)
    return few and case.inputs.shape[1] not in FEW_SHAPES


def _along(bench: Bench, grid: Grid) -> Iterator[Profile]:
    """Ask all cases of a grid, and say what came along each of its axes."""
    reasons: list[str] = []
    found: list[dict[str, _Measured] | None] = []
    differentiates = bench.subject.gradients
    for case in grid.cases:
        if _left_out(bench.subject, case, grid):
            found.append(None)
            reasons.append(f"not asked of other than {FEW_SHAPES} classes: every shape is compiled")
            continue
        outcome = bench.again(case)  # not remembered: a row of a vocabulary is large
        gradient = outcome.gradient
        if not outcome.returned or outcome.loss is None or (gradient is None and differentiates):
            found.append(None)
            reasons.append(_why(case, grid, outcome))
        else:
            found.append(_measured(bench, case, outcome.loss, gradient))
    first = next((each for each in found if each is not None), None)
    for axis in grid.axes:
        outputs = [] if first is None else [_output(n, axis, found, bench) for n in first]
        yield _profile(bench, axis, tuple(outputs), list(dict.fromkeys(reasons)))


def _why(case: Case, grid: Grid, outcome: Outcome) -> str:
    where = f" ({case.inputs.shape[1]} classes)" if _of_many_shapes(grid) else ""
    return f"{came(outcome)}{where}"


def _profile(
    bench: Bench, axis: Axis, outputs: tuple[ProfileOutput, ...], reasons: list[str]
) -> Profile:
    x = [number(value).removesuffix(".0") for value in axis.x]
    return Profile(
        operation=bench.subject.operation,
        dtype=bench.dtype,
        axis=axis.name,
        input=axis.input,
        x=x,
        shown=[] if list(axis.shown) == x else list(axis.shown),
        outputs=list(outputs),
        missing=[ProfileMissing(subjects=[bench.subject.name], reason=r) for r in reasons],
    )


# --- one case -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """One output of a case, an entry for each row."""

    value: Floats
    found: Judgement
    bounds: dict[str, Floats]


def _measured(
    bench: Bench, case: Case, loss: Floats, gradient: Floats | None
) -> dict[str, _Measured]:
    """The loss, and the entries of the gradient that are looked at."""
    entries = _entries(case) if gradient is not None else {}
    at = {name: (np.arange(case.rows), entry) for name, entry in entries.items()}
    values = {
        LOSS: loss,
        **{name: gradient[place] for name, place in at.items() if gradient is not None},
    }
    exact, undefined = _exact(bench, case)
    demand, declared = (_bounds(bench, case, a) for a in _judging(bench))
    lines = list(_lines(bench, case.operation))
    measured = {}
    for name, value in values.items():
        right, unit = exact[name], ulp(exact[name], bench.fmt)
        found = judge(value, right, demand[name], declared[name], undefined, bench.fmt)
        named = ((_name(line, bench, slope=name != LOSS), form) for line, form in lines)
        limits = {n: _bounds(bench, case, form)[name] / unit for n, form in named if n}
        measured[name] = _Measured(value, found, limits)
    return measured


def _exact(bench: Bench, case: Case) -> tuple[dict[str, Exact], np.ndarray]:
    """What is right of each output, and where nothing is; kept in common, but not the whole row."""

    def make() -> tuple[dict[str, Exact], np.ndarray]:
        found = truth(case, bench.semantics)
        rows = np.arange(case.rows)
        entries = {n: found.gradient.take((rows, at)) for n, at in _entries(case).items()}
        return {LOSS: found.loss, **entries}, found.undefined

    return bench.truths.get(("profile", case.digest, bench.semantics), make)


def _bounds(bench: Bench, case: Case, arithmetic: Arithmetic | None) -> dict[str, Floats]:
    """The bounds of each output; kept in common, since many subjects share an arithmetic."""

    def make() -> dict[str, Floats]:
        found = unbounded(case)
        if arithmetic is not None:
            found = bounds(case, bench.semantics, arithmetic)
        rows = np.arange(case.rows)
        entries = {name: found.gradient[rows, at] for name, at in _entries(case).items()}
        return {LOSS: found.loss, **entries}

    known = None if arithmetic is None else replace(arithmetic, origin="")
    return bench.tried.get(("profile", case.digest, bench.semantics, known), make)


def _judging(bench: Bench) -> tuple[Arithmetic | None, Arithmetic | None]:
    """The arithmetics of the demand and of the declared bound."""
    own = bench.arithmetic
    return (None, None) if own is None else (demanded(own), own)


def _entries(case: Case) -> dict[str, np.ndarray]:
    """Which entry of the gradient of each row is looked at; the target is the first class."""
    first = np.zeros(case.rows, dtype=int)
    if case.inputs.shape[1] == 1 or inputs_of(case.operation) != LOGITS:
        return {TARGET: first}
    return {TARGET: first, OTHER: 1 + np.argmax(case.inputs[:, 1:], axis=1)}


def _lines(bench: Bench, operation: str) -> Iterator[tuple[Line, Arithmetic]]:
    """The lines that are drawn of an operation, with the constants of the subject."""
    own = bench.arithmetic
    if own is not None:
        declared = Line(own.form, own.gradient, DECLARED, DECLARED)
        for line in LINES.get(operation, (declared,)):
            yield line, replace(own, form=line.form, gradient=line.gradient)


def _name(line: Line, bench: Bench, *, slope: bool) -> str:
    """The form, and the format of intermediate results where that is another than of the inputs."""
    name, arithmetic = line.slope if slope else line.loss, bench.arithmetic
    if not name or arithmetic is None or arithmetic.working == bench.dtype:
        return name
    return f"{name} in {arithmetic.working}"


def _output(
    name: str, axis: Axis, found: list[dict[str, _Measured] | None], bench: Bench
) -> ProfileOutput:
    """One output along an axis, of one subject."""
    right, answers, grades = [], [], []
    bounds: dict[str, list[str]] = {}
    texts = [None if each is None else _texts(each[name], bench) for each in found]
    for case, row in axis.rows:
        here, text = found[case], texts[case]
        if here is None or text is None:
            right.append("")
            answers.append(NOT_ANSWERED)
            grades.append(NO_GRADE)
            continue
        measured = here[name]
        right.append(number(measured.found.right[row]))
        answers.append(text[row])
        grades.append(LETTERS[measured.found.grade[row]])
    for line in next(each[name].bounds for each in found if each is not None):
        bounds[line] = [
            "" if (here := found[case]) is None else _short(here[name].bounds[line][row])
            for case, row in axis.rows
        ]
    series = ProfileSeries(
        subjects=[bench.subject.name],
        answers=_packed(["0"] * len(answers)),
        grades=_packed(grades),
    )
    return ProfileOutput(
        output=name,
        right=right,
        bounds=bounds,
        answers=[[answer] for answer in answers],
        series=[series],
    )


def _texts(measured: _Measured, bench: Bench) -> list[str]:
    """Every answer as `ProfileOutput` has it."""
    right, value = measured.found.right, measured.value
    steps = unpacked(written(value, right, bench.fmt).split())
    errors = measured.found.ulps
    return [f"{s} {_short(e)}" if np.isfinite(e) else s for s, e in zip(steps, errors, strict=True)]


def _short(value: float) -> str:
    return f"{float(value):.3g}"


def _packed(texts: list[str]) -> str:
    return " ".join(packed(texts, RUN_OF_EQUAL))


# --- all subjects ---------------------------------------------------------------------------------


def merged(parts: Iterable[Profile]) -> list[Profile]:
    """One profile for each operation, format and axis, of the profiles of single subjects.

    Subjects and answers are listed in the order of the parts.
    """
    together: dict[tuple[object, ...], _Together] = {}
    for part in parts:
        key = (part.operation, part.dtype, part.axis, part.input, *part.x)
        together.setdefault(key, _Together(part)).add(part)
    made = (each.made() for each in together.values())
    operations, formats = list(OPERATIONS), list(FORMATS)
    return sorted(made, key=lambda p: (operations.index(p.operation), formats.index(p.dtype)))


class _Together:
    """Collects the profiles of one axis."""

    def __init__(self, first: Profile) -> None:
        self._first = first
        self._outputs: list[_Outputs] = []
        self._missing: dict[str, list[str]] = {}

    def add(self, part: Profile) -> None:
        for missing in part.missing:
            self._missing.setdefault(missing.reason, []).extend(missing.subjects)
        for output in part.outputs:
            fitting = (each for each in self._outputs if each.takes(output))
            home = next(fitting, None)
            if home is None:
                home = _Outputs(output)
                self._outputs.append(home)
            home.add(output)

    def made(self) -> Profile:
        order = (LOSS, TARGET, OTHER)
        outputs = sorted(self._outputs, key=lambda each: order.index(each.output))
        return msgspec.structs.replace(
            self._first,
            outputs=[each.made() for each in outputs],
            missing=[
                ProfileMissing(subjects=subjects, reason=reason)
                for reason, subjects in self._missing.items()
            ],
        )


class _Outputs:
    """Collects one output of one axis, under conventions that make the same values right."""

    def __init__(self, first: ProfileOutput) -> None:
        self.output = first.output
        self._right = list(first.right)
        self._bounds: dict[str, list[str]] = {}
        self._answers: list[dict[str, int]] = [{} for _ in first.right]
        self._series: dict[tuple[str, str], list[str]] = {}

    def takes(self, output: ProfileOutput) -> bool:
        """Whether the right values are the same, wherever both know one."""
        return output.output == self.output and all(
            ours == theirs or not ours or not theirs
            for ours, theirs in zip(self._right, output.right, strict=True)
        )

    def add(self, output: ProfileOutput) -> None:
        self._right = [a or b for a, b in zip(self._right, output.right, strict=True)]
        for line, bound in output.bounds.items():
            before = self._bounds.get(line, [""] * len(bound))
            self._bounds[line] = [_larger(a, b) for a, b in zip(before, bound, strict=True)]
        for series in output.series:
            places = [
                str(known.setdefault(answers[int(i)], len(known)))
                for known, answers, i in zip(
                    self._answers, output.answers, unpacked(series.answers.split()), strict=True
                )
            ]
            key = (_packed(places), series.grades)
            self._series.setdefault(key, []).extend(series.subjects)

    def made(self) -> ProfileOutput:
        return ProfileOutput(
            output=self.output,
            right=self._right,
            bounds=self._bounds,
            answers=[list(known) for known in self._answers],
            series=[
                ProfileSeries(subjects=subjects, answers=answers, grades=grades)
                for (answers, grades), subjects in self._series.items()
            ],
        )


def _larger(a: str, b: str) -> str:
    return max(a, b, key=lambda text: float(text or "-inf"))
