"""Asks the ops of a framework for the figures of the examples.

Every figure that an op computes is asked of the first plain op that has it, in each of `DTYPES`
that it has. Calls of one shape go together: JAX compiles its primitives for every new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from ...adapters.subject import COMPILES_SHAPES, Subject, plain
from ...reference.exact import round_exact
from ...reference.formats import FORMATS, Format, round_to_format, ulp_exponent
from ...reference.rows import reduce_truth, truth
from ...reference.vocabulary import Case, Floats, Outcome, Semantics
from ..bench import Session
from ..misuse.ask import Lost, said_of
from ..run import ExampleAnswer
from .entries import Example
from .figures import Figure, figures
from .quantities import GRADIENT, Ask

DTYPES = ("float64", "float32")

FAMILIAR = (1, 2, 3, 10, 1000)
"""Numbers of classes that the corpus of a standard audit has with `ROWS` rows: what is compiled for
them here is not compiled there again."""

ROWS = 64
"""Rows of a call without reduction: the shape of the corpus and of the misuses."""


@dataclass(frozen=True)
class Extent:
    """In which formats is asked, and of how many classes, any if empty."""

    dtypes: tuple[str, ...] = DTYPES
    classes: tuple[int, ...] = ()

    def has(self, ask: Ask) -> bool:
        plain = ask.options.reduction == "none" and ask.inputs.shape[1] in self.classes
        return plain or not self.classes


WHOLE = Extent()
CHEAP = Extent(("float32",), FAMILIAR)
"""For an audit, where every new shape costs a second."""


@dataclass(frozen=True)
class Question:
    """One figure, as it is asked of one subject in one dtype."""

    example: Example
    figure: Figure
    subject: Subject
    dtype: str
    ask: Ask


@dataclass(frozen=True)
class Came:
    """What came of one call, beside the correctly rounded values for its inputs."""

    loss: Floats
    gradient: Floats
    right_loss: Floats
    right_gradient: Floats
    said: str

    def take(self, rows: slice) -> Came:
        return Came(
            self.loss[rows],
            self.gradient[rows],
            self.right_loss[rows],
            self.right_gradient[rows],
            self.said,
        )


def answers(
    session: Session,
    subjects: Sequence[Subject],
    examples: Sequence[Example],
    extent: Extent = WHOLE,
) -> Iterator[ExampleAnswer]:
    """What the subjects of one framework compute for the figures.

    Raises:
        Lost: if a worker was.
    """
    asked = list(questions(subjects, examples, extent))
    batches: dict[tuple[object, ...], list[Question]] = {}
    for question in asked:
        batches.setdefault(_batch(question), []).append(question)
    found: dict[int, ExampleAnswer] = {}
    for batch in batches.values():
        for question, came in zip(batch, _ask(session, batch), strict=True):
            found[id(question)] = _answer(question, came)
    yield from (found[id(question)] for question in asked)


def questions(
    subjects: Sequence[Subject], examples: Sequence[Example], extent: Extent = WHOLE
) -> Iterator[Question]:
    """Each figure with the subjects that it is asked of: one of a framework in each dtype."""
    asked = [s for s in plain(subjects) if not _dear(s)]
    for example in examples:
        for figure in figures(example):
            for dtype in extent.dtypes:
                for ask in filter(extent.has, figure.ways):
                    subject = _first(asked, ask, dtype)
                    if subject is not None:
                        yield Question(example, figure, subject, dtype, ask)
                        break


def _dear(subject: Subject) -> bool:
    """Softmax where each shape costs a second: the gradient of the loss holds it as well."""
    return subject.operation == "softmax" and subject.framework in COMPILES_SHAPES


def _first(subjects: Sequence[Subject], ask: Ask, dtype: str) -> Subject | None:
    """The first subject that can be asked; one for class indices before one for distributions."""
    index = ask.target.ndim == 1
    kinds = ("index", "distribution") if index else ("distribution", "binary")
    for kind in kinds:
        for subject in subjects:
            if (subject.operation, subject.target) == (ask.operation, kind) and _fits(
                subject, ask, dtype
            ):
                return subject
    return None


def _fits(subject: Subject, ask: Ask, dtype: str) -> bool:
    options = ask.options
    if dtype not in subject.dtypes or (ask.reads == GRADIENT and not subject.gradients):
        return False
    if options.label_smoothing and subject.semantics.smoothing != "eps/K":
        return False
    return (
        set(options.passed()) <= subject.options
        and options.reduction in (*subject.reductions, "none")
        and subject.shape in (None, ask.inputs.shape)
    )


# --- calls ----------------------------------------------------------------------------------------


def _batch(question: Question) -> tuple[object, ...]:
    """What questions of one call share; a reduced loss is of its own rows alone."""
    ask = question.ask
    alone = id(question) if ask.options.reduction != "none" else 0
    return (question.subject.name, question.dtype, ask.inputs.shape[1], ask.options, alone)


def _ask(session: Session, batch: Sequence[Question]) -> Iterator[Came | Outcome]:
    """What came for each question of a batch: numbers, or an outcome without any."""
    subject, case = batch[0].subject, _case(batch)
    if case.options.reduction != "none":
        yield _came(session, subject, case)
        return
    parts = [_part(session, subject, case, start) for start in range(0, case.rows, ROWS)]
    failed = next((part for part in parts if isinstance(part, Outcome)), None)
    start = 0
    for question in batch:
        rows = slice(start, start + len(question.ask.inputs))
        start = rows.stop
        yield failed if failed is not None else _joined(parts).take(rows)


def _case(batch: Sequence[Question]) -> Case:
    """The one call of a batch, its numbers as the format holds them."""
    subject, dtype, ask = batch[0].subject, batch[0].dtype, batch[0].ask
    fmt = FORMATS[dtype]
    inputs = round_to_format(np.concatenate([q.ask.inputs for q in batch]), fmt)
    target = np.concatenate([_target(q) for q in batch])
    target = target if target.dtype.kind in "iu" else round_to_format(target, fmt)
    # An option is a number of the framework's interface, not of the format.
    return Case(subject.operation, dtype, inputs, target, ask.options)


def _target(question: Question) -> np.ndarray:
    """Class indices as the subject takes them: themselves, or a one in each row."""
    target = question.ask.target
    if target.ndim == 1 and question.subject.target != "index":
        return np.eye(question.ask.inputs.shape[1])[target]
    return target


def _part(session: Session, subject: Subject, case: Case, start: int) -> Came | Outcome:
    """Some rows of a case, the call filled up with the same ones again."""
    rows = np.arange(start, min(start + ROWS, case.rows))
    came = _came(session, subject, case.take(np.resize(rows, ROWS)))
    return came if isinstance(came, Outcome) else came.take(slice(0, len(rows)))


def _joined(parts: Sequence[Came | Outcome]) -> Came:
    came = [part for part in parts if isinstance(part, Came)]
    arrays = ("loss", "gradient", "right_loss", "right_gradient")
    said = "; ".join(dict.fromkeys(part.said for part in came if part.said))
    return Came(
        **{name: np.concatenate([getattr(c, name) for c in came]) for name in arrays}, said=said
    )


def _came(session: Session, subject: Subject, case: Case) -> Came | Outcome:
    outcome = session.ask(subject, case)
    if outcome.status in ("crashed", "timed out"):
        raise Lost(f"{subject.name} {outcome.status}: {outcome.message}")
    if not outcome.returned or outcome.loss is None:
        return outcome
    gradient = np.full(case.inputs.shape, np.nan) if outcome.gradient is None else outcome.gradient
    return Came(outcome.loss, gradient, *_right(case, subject.semantics), said_of(outcome))


def _right(case: Case, semantics: Semantics) -> tuple[Floats, Floats]:
    """The correctly rounded loss and gradient of a case."""
    exact, fmt = truth(case, semantics), FORMATS[case.dtype]
    loss, slope = exact.loss, exact.gradient
    if case.options.reduction != "none":
        loss, slope = reduce_truth(exact, case, semantics)
    return round_exact(loss, fmt), round_exact(slope, fmt)


# --- answers --------------------------------------------------------------------------------------


def _answer(question: Question, came: Came | Outcome) -> ExampleAnswer:
    record = ExampleAnswer(
        example=question.example.id,
        figure=question.figure.name,
        case=question.figure.case,
        subject=question.subject.name,
        dtype=question.dtype,
        value=[],
        agrees=False,
    )
    if isinstance(came, Outcome):
        return msgspec.structs.replace(record, said=said_of(came))
    value = _value(question, came.loss, came.gradient)
    given, right = came.loss, came.right_loss
    if question.ask.reads == GRADIENT:
        given, right = came.gradient, came.right_gradient
    return msgspec.structs.replace(
        record,
        value=[repr(float(v)) for v in np.atleast_1d(value)],
        agrees=question.figure.confirmed_by(value) or _is_right(question, given),
        ulps=steps(given, right, question.dtype),
        said=came.said,
    )


def _value(question: Question, loss: Floats, gradient: Floats) -> Floats:
    """The figure, as it is read in a loss and a gradient."""
    value = np.asarray(question.ask.read(loss, gradient)) * question.figure.scale
    return np.abs(value) if question.figure.selector.form == "_magnitude" else value


def _is_right(question: Question, given: Floats) -> bool:
    """Whether an op returned what is right for its inputs, at all digits that the format holds.

    Its inputs are those of the example as the format holds them; a guard of the op is its own, and
    not of the figure. What is asked must be the figure, which float64 tells.
    """
    subject, dtype = question.subject, question.dtype
    semantics = replace(subject.semantics, guard="none", guard_gradient="exact", renormalise="no")
    case = _case([question])
    exact = _case([replace(question, dtype="float64")])
    if not question.figure.confirmed_by(_value(question, *_right(exact, semantics))):
        return False
    loss, gradient = _right(case, semantics)
    right = gradient if question.ask.reads == GRADIENT else loss
    return steps(given, right, dtype) <= steps_of_digits(FORMATS[dtype])


def steps_of_digits(fmt: Format) -> float:
    """Half of the last decimal digit that every number of a format holds, in steps at the least.

    Those are floor((p - 1) log10 2) significant digits (C11, 5.2.4.2.2, FLT_DIG), 6 of float32 and
    15 of float64; a step is largest beside a digit just below a power of ten.
    """
    digits = math.floor((fmt.precision - 1) * math.log10(2.0))
    return 2.0 ** (fmt.precision - 1) / 10.0**digits / 2.0


def steps(given: Floats, right: Floats, dtype: str) -> float:
    """The largest distance from the correctly rounded values, in steps at the largest of them.

    A step is the unit in the last place there: a number that is 0 by rounding has no scale of its
    own beside the others of its call.
    """
    largest = np.abs(right).max()
    gap = float(np.abs(given - right).max())
    return gap / float(np.ldexp(1.0, int(ulp_exponent(largest, FORMATS[dtype]))))
