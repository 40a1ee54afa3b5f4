"""Asks real subjects for what each misuse computes: losses, gradients, floors and ratios.

The framework computes the loss and its gradient by whatever it was given. Where the mistake is a
function before the loss, the gradient goes back through that function's Jacobian, by the reference;
a subject that composes both itself (`Subject.misuse`) is asked as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import Subject
from ...reference import api
from ...reference.exact import to_float
from ...reference.rows import truth
from ...reference.vocabulary import Case, Floats, Options
from ..run import MisuseCurve
from . import forms
from .ask import DTYPE, Asked, Line, joined, labels, rounded

CLASSES = (2, 3, 10, 100, 1000)

RATIO_CLASSES = (2, 10, 1000)
LOSS_CLASSES = 10
CONFIDENCES = np.array([0.001, 0.01, *np.arange(1, 20) / 20.0, 0.99, 0.999])
IMPOSSIBLE = -1000.0
"""A logit whose exponential is 0 in float32."""

BATCHES = (2, 10, 60, 100)
IN_BATCH = 2
"""Classes of the samples of a batch, which every batch above can have in equal shares."""

SURE = 100.0
"""A logit that leaves nothing to the others: e^-100 is less than the roundoff of float32."""

MARGINS = np.arange(-16, 17) / 2.0
SMOOTHING_MARGINS = np.arange(-4, 21) / 2.0
SMOOTHING_CLASSES = 10
EPS = 0.1

LOSS, FLOOR, CEILING, START = "loss", "floor", "ceiling", "start"
RATIO, GRADIENT = "gradient ratio", "gradient"
CONFIDENCE, MARGIN, NUMBER, BATCH = "confidence", "margin", "classes", "batch"


# --- a softmax too many ---------------------------------------------------------------------------


def softmax_rows(classes: int) -> Floats:
    """Certain and right, certain and wrong, uniform, and each confidence with the rest shared."""
    rest = (1.0 - CONFIDENCES[:, None]) / (classes - 1)
    shared = np.hstack([CONFIDENCES[:, None], np.repeat(rest, classes - 1, axis=1)])
    ends = np.eye(classes)[:2]
    return np.vstack([ends, np.full((1, classes), 1.0 / classes), shared])


def double_softmax(asked: Asked) -> Iterator[MisuseCurve]:
    """Probabilities, as a softmax gives them, into a loss that takes logits."""
    name = "double-softmax"
    plain = asked.first("cross_entropy", "index", "distribution")
    if plain is not None:
        yield from _of_softmax(name, plain, [_probabilities(asked, plain, k) for k in CLASSES])
    itself = asked.composed("double softmax")
    if itself is not None:
        yield from _of_softmax(name, itself, [_logits(asked, itself, k) for k in CLASSES])


@dataclass(frozen=True)
class _Answers:
    """What came for the rows of `softmax_rows`, whose probabilities are p."""

    p: Floats
    loss: Floats
    by_logits: Floats
    said: str

    @property
    def classes(self) -> int:
        return self.p.shape[1]


def _probabilities(asked: Asked, subject: Subject, classes: int) -> _Answers:
    """The op on probabilities; its gradient goes back through the softmax that made them."""
    p = rounded(softmax_rows(classes))
    y = labels(subject, np.zeros(len(p), np.int64), classes)
    answer = asked.ask(subject, p, y)
    return _Answers(p, answer.loss, forms.softmax_jacobian(p, answer.gradient), answer.said)


def _logits(asked: Asked, subject: Subject, classes: int) -> _Answers:
    """A subject with the softmax in it, on the logits of the same probabilities."""
    p = softmax_rows(classes)
    with np.errstate(divide="ignore"):
        z = rounded(np.where(p > 0, np.log(p), IMPOSSIBLE))
    answer = asked.ask(subject, z, np.zeros(len(z), np.int64))
    return _Answers(np.asarray(api.softmax(z)), answer.loss, answer.gradient, answer.said)


def _of_softmax(name: str, subject: Subject, answers: list[_Answers]) -> Iterator[MisuseCurve]:
    k = np.array([a.classes for a in answers], np.float64)
    said = joined(a.said for a in answers)
    ends = (
        (FLOOR, 0, np.zeros(len(k)), forms.softmax_floor(k)),
        (CEILING, 1, np.full(len(k), np.inf), forms.softmax_ceiling(k)),
        (START, 2, np.log(k), np.log(k)),
    )
    for quantity, row, right, closed in ends:
        measured = [a.loss[row] for a in answers]
        yield Line(name, subject, quantity, "", NUMBER).curve(k, measured, right, closed, said)
    for a in (a for a in answers if a.classes == LOSS_CLASSES):
        c = a.p[3:, 0]
        closed = forms.softmax_loss(c, a.classes)
        line = Line(name, subject, LOSS, f"K = {a.classes}", CONFIDENCE)
        yield line.curve(c, a.loss[3:], _surprise(c), closed, said)
    for a in (a for a in answers if a.classes in RATIO_CLASSES and subject.gradients):
        c, line = a.p[3:, 0], Line(name, subject, RATIO, f"K = {a.classes}", CONFIDENCE)
        closed = forms.softmax_ratio(c, a.classes)
        yield line.curve(c, _ratio(a.by_logits[3:], a.p[3:]), np.ones(len(c)), closed, said)


def _ratio(gradient: Floats, p: Floats) -> Floats:
    """The norm of a gradient by logits over that of the right one, p - e_0."""
    right = p.copy()
    right[:, 0] -= 1.0
    return np.linalg.norm(gradient, axis=1) / np.linalg.norm(right, axis=1)


def _surprise(p: Floats) -> Floats:
    """-log p, correctly rounded."""
    rows = np.stack([p, 1.0 - p], axis=1)
    first = np.zeros(len(p), np.int64)
    return np.asarray(api.cross_entropy_probabilities(rows, first, reduction="none"))


# --- a sigmoid too many ---------------------------------------------------------------------------


def double_sigmoid(asked: Asked) -> Iterator[MisuseCurve]:
    """A probability, as a sigmoid gives it, into a binary loss that takes a logit."""
    subject = asked.first("binary_cross_entropy_with_logits", "binary")
    if subject is None:
        return
    p = rounded(np.array([0.0, *CONFIDENCES, 1.0]))
    inner = slice(1, -1)  # at 0 and 1 one of the right gradients is 0
    both, y = np.tile(p, 2)[:, None], np.repeat([1.0, 0.0], len(p))[:, None]
    answer = asked.ask(subject, both, y)
    for label, part in ((1.0, slice(0, len(p))), (0.0, slice(len(p), None))):
        mine, series = answer.take(part), f"y = {label:.0f}"
        right = np.asarray(api.binary_cross_entropy(p, np.full(len(p), label), reduction="none"))
        line = Line("double-sigmoid", subject, LOSS, series, CONFIDENCE)
        yield line.curve(p, mine.loss, right, forms.sigmoid_loss(p, label), mine.said)
        if not subject.gradients:
            continue
        by_logit = np.abs(mine.gradient[:, 0] * p * (1.0 - p))[inner]
        due = ((1.0 - p) if label else p)[inner]
        line = Line("double-sigmoid", subject, RATIO, series, CONFIDENCE)
        closed = forms.sigmoid_ratio(p[inner], label)
        yield line.curve(p[inner], by_logit / due, np.ones(len(due)), closed, mine.said)


# --- what belongs to another op -------------------------------------------------------------------


def probabilities_for_logs(asked: Asked) -> Iterator[MisuseCurve]:
    """Probabilities into a loss that takes log-probabilities: it is -p_y, and never positive."""
    name, subject = "probabilities-for-logs", asked.first("kl_divergence", "distribution")
    if subject is None:
        return
    p = rounded(softmax_rows(LOSS_CLASSES))[3:]
    answer = asked.ask(subject, p, np.eye(LOSS_CLASSES)[np.zeros(len(p), np.int64)])
    c, series = p[:, 0], f"K = {LOSS_CLASSES}"
    line = Line(name, subject, LOSS, series, CONFIDENCE)
    yield line.curve(c, answer.loss, _surprise(c), -c, answer.said)
    if subject.gradients:
        line = Line(name, subject, RATIO, series, CONFIDENCE)
        back = forms.softmax_jacobian(p, answer.gradient)
        yield line.curve(c, _ratio(back, p), np.ones(len(c)), c, answer.said)


def logits_for_probabilities(asked: Asked) -> Iterator[MisuseCurve]:
    """Logits (m, 0) of two classes, or the logit m, into a loss that takes probabilities."""
    name, m = "logits-for-probabilities", MARGINS
    subjects = [
        asked.first("cross_entropy_probabilities", "index"),
        asked.first("cross_entropy_probabilities", "distribution"),
        asked.first("binary_cross_entropy", "binary"),
    ]
    right = np.asarray(api.softplus(-m))
    pull = 1.0 - np.asarray(api.sigmoid(m))
    for subject in (s for s in subjects if s is not None):
        binary = subject.target == "binary"
        z = m[:, None] if binary else np.stack([m, np.zeros(len(m))], axis=1)
        y = np.ones((len(m), 1)) if binary else labels(subject, np.zeros(len(m), np.int64), 2)
        answer, series = asked.ask(subject, z, y), subject.op
        line = Line(name, subject, LOSS, series, MARGIN)
        closed = () if answer.said.startswith("raised") else as_read(subject, z, y)
        yield line.curve(m, answer.loss, right, closed, answer.said)
        if subject.gradients:
            line = Line(name, subject, GRADIENT, series, MARGIN)
            yield line.curve(m, np.abs(answer.gradient[:, 0]), pull, (), answer.said)


def as_read(subject: Subject, z: Floats, y: np.ndarray) -> Floats:
    """The loss of the probabilities that such an op reads in logits, by the reference.

    It divides by their sum first where it does so (here exactly: one logit is 0), and its guard
    takes what is below 0 for 0 and what is above 1 for 1.
    """
    p = z
    if subject.semantics.renormalise == "before":
        with np.errstate(divide="ignore", invalid="ignore"):
            p = z / z.sum(axis=1, keepdims=True)
    case = Case(subject.operation, DTYPE, np.clip(p, 0.0, 1.0), y)
    return to_float(truth(case, subject.semantics).loss)


# --- the wrong axis -------------------------------------------------------------------------------


def batch_rows(rows: int) -> tuple[Floats, np.ndarray]:
    """What the softmax over a batch sees of each sample: column z[:, y_i], and the place i.

    First of equal logits, then of the best ones there are, of samples of `IN_BATCH` classes.
    """
    y = np.arange(rows) % IN_BATCH
    best = SURE * (y[None, :] == y[:, None])
    return np.vstack([np.zeros((rows, rows)), best]), np.tile(np.arange(rows), 2)


def wrong_axis(asked: Asked) -> Iterator[MisuseCurve]:
    """The softmax over the batch: a cross-entropy of columns in place of rows."""
    subject = asked.first("cross_entropy", "index", "distribution")
    if subject is None:
        return
    found, said = [], []
    for rows in BATCHES:
        z, place = batch_rows(rows)
        answer = asked.ask(subject, z, labels(subject, place, rows))
        found.append((answer.loss[:rows].mean(), answer.loss[rows:].mean()))
        said.append(answer.said)
    n, (start, floor) = np.array(BATCHES, np.float64), np.array(found).T
    spoken, series = joined(said), f"K = {IN_BATCH}"
    first = Line("wrong-axis", subject, START, series, BATCH)
    yield first.curve(n, start, np.full(len(n), np.log(IN_BATCH)), forms.batch_start(n), spoken)
    least = [forms.batch_floor([rows // IN_BATCH] * IN_BATCH) for rows in BATCHES]
    last = Line("wrong-axis", subject, FLOOR, series, BATCH)
    yield last.curve(n, floor, np.zeros(len(n)), least, spoken)


# --- smoothing ------------------------------------------------------------------------------------

CONVENTIONS = ("eps/K", "eps/(K-1)", "eps/K twice")


def smoothed_rows(share: float, rows: int, classes: int) -> Floats:
    """The smoothed label 0, in every row."""
    q, other = forms.smoothed(share, classes)
    row = np.full(classes, float(other))
    row[0] = float(q)
    return rounded(np.tile(row, (rows, 1)))


def smoothing(asked: Asked) -> Iterator[MisuseCurve]:
    """The other convention, and twice the same, beside what was meant: eps/K once.

    An op that smooths is asked to; one that does not is given the smoothed target. Where the
    convention is another than the op's own, the target is given too.
    """
    subject = asked.first("cross_entropy", "distribution")
    if subject is None:
        return
    t, classes = SMOOTHING_MARGINS, SMOOTHING_CLASSES
    z = np.hstack([t[:, None], np.zeros((len(t), classes - 1))])
    option = "label_smoothing" in subject.options and subject.semantics.smoothing == "eps/K"
    once = forms.share_of(EPS, classes, "eps/K")
    label = np.zeros(len(t), np.int64)
    right = np.asarray(api.cross_entropy(z, label, label_smoothing=EPS, reduction="none"))
    for convention in CONVENTIONS:
        share, options = forms.share_of(EPS, classes, convention), Options()
        given = share
        if option and convention != "eps/(K-1)":
            given, options = (0.0 if convention == "eps/K" else once), Options(label_smoothing=EPS)
        answer = asked.ask(subject, z, smoothed_rows(given, len(t), classes), options)
        line = Line("smoothing", subject, LOSS, convention, MARGIN)
        closed = forms.smoothed_loss(t, share, classes)
        yield line.curve(t, answer.loss, right, closed, answer.said)


def binary_smoothing(asked: Asked) -> Iterator[MisuseCurve]:
    """Toward 1/2, which leaves 1 - eps/2 of the label, and what is taken for it: 1 - eps."""
    subject = asked.first("binary_cross_entropy_with_logits", "binary")
    if subject is None:
        return
    t = SMOOTHING_MARGINS
    option = "label_smoothing" in subject.options and subject.semantics.smoothing == "toward 1/2"
    right = np.asarray(
        api.binary_cross_entropy_with_logits(
            t, np.ones(len(t)), label_smoothing=EPS, reduction="none"
        )
    )
    for series, share in (("toward 1/2", EPS / 2), ("1 - eps", EPS)):
        told = option and series == "toward 1/2"
        y = rounded(np.full((len(t), 1), 1.0 if told else 1.0 - share))
        options = Options(label_smoothing=EPS) if told else Options()
        answer = asked.ask(subject, t[:, None], y, options)
        line = Line("binary-smoothing", subject, LOSS, series, MARGIN)
        yield line.curve(t, answer.loss, right, forms.smoothed_loss(t, share, 2), answer.said)
