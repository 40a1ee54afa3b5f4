"""Every plain op under every misuse that fits it: it raises, warns or is silent, and how wrong.

One call each, of as many rows as classes, where an array of labels silently broadcasts against one
of distributions if it ever does. What is right is the loss that the user meant, by the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...adapters.subject import Subject, plain
from ...reference import api
from ...reference.bounds import bounds
from ...reference.formats import FORMATS
from ...reference.vocabulary import Case, Floats, Options
from ..bench import Session
from ..stream import Stream
from .ask import DTYPE, SAID, rounded

SEED = 5
SIZE = 8
EPS = 0.125
CE, CE_OF_P = "cross_entropy", "cross_entropy_probabilities"
BCE, BCE_OF_P = "binary_cross_entropy_with_logits", "binary_cross_entropy"

Behaviour = Literal["raises", "warns", "silent", "lost"]
"""Lost: the op crashed or hung, or was not asked any more after it did."""


@dataclass(frozen=True)
class Call:
    """What a user passes, and what was meant.

    Attributes:
        right: the loss of each sample that was meant.
        samples: makes those of what the op returns.
        moved: by how much rounding the inputs alone moves a loss.
    """

    inputs: Floats
    target: np.ndarray
    right: Floats
    options: Options = field(default_factory=Options)
    samples: Callable[[Floats], Floats] = lambda loss: loss
    moved: float = 0.0


@dataclass(frozen=True)
class Mistake:
    """A misuse, and how it calls an op that it fits."""

    name: str
    fits: Callable[[Subject], bool]
    call: Callable[[Subject], Call]


@dataclass(frozen=True)
class Cell:
    """What one op did under one misuse.

    Attributes:
        said: what it raised or warned.
        came, right: mean losses, NaN where it raised or was lost.
        off: the largest error of a sample.
        harmless: whether all of them lie within the op's bound of what was meant; None where it
            has no bound to tell by.
    """

    misuse: str
    subject: Subject
    behaviour: Behaviour
    said: str
    came: float
    right: float
    off: float
    harmless: bool | None


def cells(session: Session, subjects: Sequence[Subject]) -> Iterator[Cell]:
    """Every misuse of every plain op of one framework that it fits."""
    for mistake in MISTAKES:
        for subject in plain(subjects):
            if DTYPE in subject.dtypes and mistake.fits(subject):
                yield _cell(session, subject, mistake)


def _cell(session: Session, subject: Subject, mistake: Mistake) -> Cell:
    call = mistake.call(subject)
    case = Case(subject.operation, DTYPE, call.inputs, call.target, call.options)
    outcome = session.ask(subject, case)
    right = float(call.right.mean())
    if not outcome.returned or outcome.loss is None:
        said = f"{outcome.status}: {' '.join(outcome.message.split())[:SAID]}"
        did: Behaviour = "raises" if outcome.status == "raised" else "lost"
        return Cell(mistake.name, subject, did, said, np.nan, right, np.nan, harmless=False)
    said = "; ".join(outcome.warnings)[:SAID]
    loss = call.samples(outcome.loss)
    off = np.abs(loss - call.right)
    room = _room(subject, case, call)
    return Cell(
        mistake.name,
        subject,
        "warns" if said else "silent",
        said,
        float(loss.mean()),
        right,
        float(off.max()) if np.isfinite(off).all() else np.inf,
        harmless=None if room is None else bool(np.all(off <= room)),
    )


def _room(subject: Subject, case: Case, call: Call) -> Floats | None:
    """How far the losses of a harmless call may be from what is right; None without a bound."""
    if case.options.reduction != "none":
        return np.zeros(len(call.right))  # a sum is no mean, by any rounding
    arithmetic = subject.arithmetic.get(DTYPE)
    if arithmetic is None:
        return None
    if case.target_kind != subject.target:
        case = replace(case, target=_target(subject))  # an op that takes both takes them alike
    with np.errstate(all="ignore"):
        found = bounds(case, subject.semantics, arithmetic).loss
    room = call.samples(found) + call.moved
    return room if np.isfinite(room).all() else None


# --- what a user passes ---------------------------------------------------------------------------


Z = rounded(2.0 * Stream("misuse matrix", SEED).normal(SIZE, SIZE))
Y = Stream("misuse matrix labels", SEED).integers(0, SIZE, SIZE)
HOT = np.eye(SIZE)[Y]
MANY = Stream("misuse matrix many", SEED).integers(0, 2, SIZE, SIZE).astype(np.float64)
ON = np.tile([[1.0], [0.0]], (SIZE // 2, 1))
"""Binary labels, for the first column of Z."""


def _ce() -> Floats:
    return np.asarray(api.cross_entropy(Z, Y, reduction="none"))


def _bce(target: Floats, z: Floats) -> Floats:
    """Of each entry."""
    found = api.binary_cross_entropy_with_logits(z, target, reduction="none")
    return np.asarray(found).reshape(z.shape)


def _target(subject: Subject) -> np.ndarray:
    return Y if subject.target == "index" else HOT


def _given(inputs: Callable[[Floats], object], moved: float = 0.0) -> Callable[[Subject], Call]:
    return lambda subject: Call(
        rounded(np.asarray(inputs(Z))), _target(subject), _ce(), moved=moved
    )


def _binary(inputs: Callable[[Floats], object]) -> Callable[[Subject], Call]:
    def call(_: Subject) -> Call:
        z = Z[:, :1]
        return Call(rounded(np.asarray(inputs(z))), ON, _bce(ON, z)[:, 0])

    return call


def _softmax_for_sigmoids(_: Subject) -> Call:
    return Call(Z, MANY, _bce(MANY, Z).sum(axis=1))


def _sigmoids_for_softmax(_: Subject) -> Call:
    """The losses of a sample are those of all its classes together."""
    each = Z.reshape(-1, 1), HOT.reshape(-1, 1)
    return Call(*each, _ce(), samples=lambda loss: loss.reshape(SIZE, SIZE).sum(axis=1))


def _swapped(subject: Subject) -> Call:
    if subject.operation == BCE_OF_P:
        p = rounded(np.asarray(api.sigmoid(Z[:, :1])))
        return Call(ON, p, _bce(ON, Z[:, :1])[:, 0])
    return Call(HOT, rounded(np.asarray(api.softmax(Z))), _ce())


def _swapped_logits(subject: Subject) -> Call:
    """The prediction in the place of the target, and the target in that of the logits."""
    if subject.operation == BCE:
        return Call(ON, Z[:, :1], _bce(ON, Z[:, :1])[:, 0])
    return Call(HOT, Z, _ce())


def _summed(subject: Subject) -> Call:
    binary = subject.operation in (BCE, BCE_OF_P)
    call = _binary(_inputs(subject))(subject) if binary else _given(_inputs(subject))(subject)
    mean = np.array([call.right.mean()])
    return replace(call, right=mean, options=Options(reduction="sum"))


def _inputs(subject: Subject) -> Callable[[Floats], object]:
    """What the op is meant to be given, of logits."""
    meant: dict[str, Callable[[Floats], object]] = {CE_OF_P: api.softmax, BCE_OF_P: api.sigmoid}
    return meant.get(subject.operation, lambda z: z)


def _twice(subject: Subject) -> Call:
    q = (1 - EPS) * HOT + EPS / SIZE
    inputs = rounded(np.asarray(_inputs(subject)(Z)))
    right = np.asarray(api.cross_entropy(Z, q, reduction="none"))
    return Call(inputs, q, right, Options(label_smoothing=EPS))


def _of(*operations: str, target: str = "") -> Callable[[Subject], bool]:
    return lambda s: s.operation in operations and target in ("", s.target)


def _may_sum(subject: Subject) -> bool:
    return "sum" in subject.reductions and subject.operation in (CE, CE_OF_P, BCE, BCE_OF_P)


def _may_smooth(subject: Subject) -> bool:
    soft = _of(CE, CE_OF_P, target="distribution")(subject)
    return soft and "label_smoothing" in subject.options


# A log-probability is rounded by half an ulp of itself; all of a row move its loss by at most two.
LOGS_MOVED = 2 * FORMATS[DTYPE].unit_roundoff * float(np.abs(api.log_softmax(Z)).max())

MISTAKES = (
    Mistake("softmax before an op for logits", _of(CE), _given(api.softmax)),
    Mistake("sigmoid before an op for logits", _of(BCE), _binary(api.sigmoid)),
    Mistake("log_softmax before an op for logits", _of(CE), _given(api.log_softmax, LOGS_MOVED)),
    Mistake("logits into an op for probabilities", _of(CE_OF_P), _given(lambda z: z)),
    Mistake("logit into an op for a probability", _of(BCE_OF_P), _binary(lambda z: z)),
    Mistake(
        "softmax for independent labels", _of(CE, target="distribution"), _softmax_for_sigmoids
    ),
    Mistake("sigmoids for one class of many", _of(BCE), _sigmoids_for_softmax),
    Mistake("classes along the other axis", _of(CE), _given(lambda z: z.T)),
    Mistake(
        "one-hot target for an index",
        _of(CE, CE_OF_P, target="index"),
        lambda s: Call(rounded(np.asarray(_inputs(s)(Z))), HOT, _ce()),
    ),
    Mistake(
        "index for a one-hot target",
        _of(CE, CE_OF_P, target="distribution"),
        lambda s: Call(rounded(np.asarray(_inputs(s)(Z))), Y, _ce()),
    ),
    Mistake("target and probabilities swapped", _of(BCE_OF_P), _swapped),
    Mistake("target and probabilities swapped", _of(CE_OF_P, target="distribution"), _swapped),
    Mistake("target and logits swapped", _of(BCE), _swapped_logits),
    Mistake("target and logits swapped", _of(CE, target="distribution"), _swapped_logits),
    Mistake("sum for mean", _may_sum, _summed),
    Mistake("smoothing of a smoothed target", _may_smooth, _twice),
)
