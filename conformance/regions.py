"""Regions: the named parts of the input space, and the rows that are drawn in each.

A region is a function of a `Stream` and a format; limits come from the format (where exp
underflows, where 1 + x rounds to 1), never from a list of known failures. The corpus feeds it a
stream of fixed seeds; Hypothesis feeds it seeds that it draws itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..adapters.subject import Subject
from ..reference.formats import FORMATS, Format, next_down, next_up, round_to_format
from ..reference.vocabulary import Case, Floats, Options, inputs_of
from .stream import Stream

CORPUS = 2
"""Version of the corpus. Raised whenever a region or the generator changes what it draws."""

ROWS = 64
"""Rows of a batch: one shape serves a whole region, since a new shape costs JAX up to a second."""

WIDE_ROWS = 4
"""Rows of a batch of more than ROWS classes: about as many numbers as a square batch of ROWS."""

MANY = 2**12
"""From so many classes on a row is a batch of its own: that of a vocabulary takes seconds."""

LN2 = 0.6931471805599453

VALUES = ("value", "gradient-identity")
"""The laws that compare with the reference: what a region adds to the ordinary one is seen by them,
and a relation would ask for more calls, in JAX of more shapes, to say the same."""

Draw = Callable[[Stream, Format, int, int], "tuple[Floats, np.ndarray]"]
"""(stream, format, rows, classes) -> inputs (rows, classes) and a preferred class of each row."""

Spread = Callable[[Stream, Format, np.ndarray, int, np.ndarray], Floats]
"""(stream, format, preferred classes, classes, (rows, classes) allowed) -> distributions."""

Soft = Callable[[Stream, Floats], Floats]
"""(stream, (rows, 1) labels of 0 and 1) -> binary targets."""

Number = Callable[[Stream, Format, int, int], object]
"""(stream, format, classes, seed) -> the value of an option."""


def anywhere(_: Subject) -> bool:
    return True


@dataclass(frozen=True)
class Region:
    """A named part of the input space of some operations.

    Attributes:
        name: as reports show it.
        purpose: what it is for.
        inputs: "logits" or "probabilities".
        draw: see `Draw`; for binary operations it is called with two classes (0, z).
        classes: the class counts that it is drawn with; () for those of the depth.
        binary: whether it makes sense for a single logit or probability.
        valid: False where one label of the batch lies outside [0, K).
        rows: of a batch, or None for as many as its classes leave room for.
        dtypes: the formats that it is for, () for all.
        laws: names of the laws that look at it, () for all.
        fits: which subjects it is for, of those of its operations.
        seeds: how many seeds show all of it; the corpus draws at least so many.
        options: what it is drawn with, one option at a time; () for what the laws ask.
        targets: how distributions are drawn, or None for `distributions`.
        soft: how binary targets are drawn, or None for hard ones and some sixteenths.
        ignored: whether every row has the ignored label.
        vocabulary: whether its class counts are those of a vocabulary, which the depth names.
    """

    name: str
    purpose: str
    inputs: str
    draw: Draw
    classes: tuple[int, ...] = ()
    binary: bool = True
    valid: bool = True
    rows: int | None = None
    dtypes: tuple[str, ...] = ()
    laws: tuple[str, ...] = ()
    fits: Callable[[Subject], bool] = anywhere
    seeds: int = 1
    options: Mapping[str, Number] = field(default_factory=dict, hash=False)
    targets: Spread | None = None
    soft: Soft | None = None
    ignored: bool = False
    vocabulary: bool = False

    @property
    def any_shape(self) -> bool:
        """Whether it is drawn in the shape of any other region, without options of its own."""
        return not (self.own_shape or self.options or self.ignored)

    @property
    def own_shape(self) -> bool:
        """Whether its rows or classes are as many as it says itself."""
        return bool(self.classes or self.vocabulary) or self.rows is not None


def _thresholds(fmt: Format) -> np.ndarray:
    """Gaps at which something happens: 1 + e^-g = 1, e^-g subnormal, e^-g = 0, and half of each."""
    ends = np.array([fmt.precision, -fmt.emin, -fmt.emin + fmt.precision]) * LN2
    return np.concatenate([ends / 2, ends])


def _gaps(stream: Stream, fmt: Format, rows: int) -> Floats:
    """Half near a threshold, half over the whole range up to a tenth past the last one."""
    near = stream.choice(_thresholds(fmt), rows) * (0.9 + 0.2 * stream.uniform(rows))
    wide = _thresholds(fmt)[-1] * 1.1 * stream.uniform(rows)
    return np.where(stream.uniform(rows) < 0.5, near, wide)


def _ordinary(stream: Stream, _: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    scale = np.ldexp(1.0, stream.integers(-3, 4, rows))[:, None]
    return stream.normal(rows, k) * scale, stream.integers(0, k, rows)


def _mild(stream: Stream, _: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Scales of 1/8 to 1, where no form loses much: what is found is what the region is about."""
    scale = np.ldexp(1.0, stream.integers(-3, 1, rows))[:, None]
    return stream.normal(rows, k) * scale, stream.integers(0, k, rows)


def _ties(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    base = round_to_format(stream.normal(rows)[:, None] * np.ones(k), fmt)
    near = np.where(stream.uniform(rows, k) < 0.5, base, next_up(base, fmt))
    tied = stream.uniform(rows)[:, None] < 0.5
    return np.where(tied, base, near), stream.integers(0, k, rows)


def _with_gap(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Rows whose class `top` leads the next one by a gap around the thresholds."""
    z = -np.abs(stream.normal(rows, k))
    top = stream.integers(0, k, rows)
    z[np.arange(rows), top] = 0.0
    if k > 1:
        rest = np.where(np.arange(k) == top[:, None], -np.inf, z).max(axis=1)
        z = np.where(np.arange(k) == top[:, None], 0.0, z - rest[:, None])
        z = np.where(np.arange(k) == top[:, None], 0.0, z - _gaps(stream, fmt, rows)[:, None])
    return z + np.rint(stream.normal(rows))[:, None], top


def _saturated_right(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    return _with_gap(stream, fmt, rows, k)


def _saturated_wrong(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    z, top = _with_gap(stream, fmt, rows, k)
    return z, (top + 1 + stream.integers(0, max(k - 1, 1), rows)) % k


def _large_offset(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    z, target = _ordinary(stream, fmt, rows, k)
    # Up to where half of the significand is left for the differences, and then all the way up.
    low = np.ldexp(1.0, stream.integers(3, fmt.precision, rows))
    high = np.ldexp(1.0, stream.integers(fmt.emax - 4, fmt.emax, rows))
    offset = np.where(stream.uniform(rows) < 0.75, low, high)
    sign = np.where(stream.uniform(rows) < 0.5, -1.0, 1.0)
    return z + (offset * sign)[:, None], target


def _huge(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    scale = np.ldexp(1.0, stream.integers(fmt.emax // 2, fmt.emax, rows))[:, None]
    return (2 * stream.uniform(rows, k) - 1) * scale, stream.integers(0, k, rows)


def _subnormal(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    steps = np.rint(stream.normal(rows, k) * 2.0 ** min(fmt.precision - 3, 40))
    return steps * fmt.least_subnormal, stream.integers(0, k, rows)


def _special(value: float, at_target: bool) -> Draw:
    def draw(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
        z, target = _ordinary(stream, fmt, rows, k)
        here = np.arange(k) == target[:, None]
        if at_target:
            return np.where(here, value, z), target
        # At least one other class, and each further one with an even chance.
        chosen = stream.uniform(rows, k) < 0.5
        first = (target + 1) % k
        chosen = chosen | (np.arange(k) == first[:, None])
        return np.where(chosen & ~here, value, z), target

    return draw


def _plus_inf(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    z, target = _ordinary(stream, fmt, rows, k)
    where = stream.integers(0, k, rows)
    return np.where(np.arange(k) == where[:, None], np.inf, z), target


def _nan(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Every other row has one NaN; the rows between must not be touched by it."""
    z, target = _ordinary(stream, fmt, rows, k)
    where = stream.integers(0, k, rows)
    struck = (np.arange(k) == where[:, None]) & (np.arange(rows) % 2 == 0)[:, None]
    return np.where(struck, np.nan, z), target


def _probabilities(stream: Stream, _: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    x = stream.uniform(rows, k) + 2.0**-10
    return x / x.sum(axis=1, keepdims=True), stream.integers(0, k, rows)


def _confident(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """One class takes all but 2^-j, j up to past the precision; the others share the rest."""
    top = stream.integers(0, k, rows)
    rest = np.ldexp(0.5 + 0.5 * stream.uniform(rows), -stream.integers(1, fmt.precision + 2, rows))
    share = stream.uniform(rows, k) + 2.0**-4
    share = np.where(np.arange(k) == top[:, None], 0.0, share)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 2.0**-4) * rest[:, None]
    p = np.where(np.arange(k) == top[:, None], (1.0 - rest)[:, None], share)
    return p, np.where(stream.uniform(rows) < 0.5, top, (top + 1) % k)


def _zeros(stream: Stream, _: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Exact zeros and an exact one."""
    top = stream.integers(0, k, rows)
    p = (np.arange(k) == top[:, None]).astype(np.float64)
    return p, np.where(stream.uniform(rows) < 0.5, top, (top + 1) % k)


def _tiny(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """One class near the least normal number, below and above it."""
    p, target = _probabilities(stream, fmt, rows, k)
    small = np.ldexp(0.5 + 0.5 * stream.uniform(rows), fmt.emin + stream.integers(-4, 5, rows))
    return np.where(np.arange(k) == target[:, None], small[:, None], p), target


def _log_probabilities(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    p, target = _probabilities(stream, fmt, rows, k)
    return np.log(p), target


def _confident_logs(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    p, target = _confident(stream, fmt, rows, k)
    with np.errstate(divide="ignore"):
        return np.log(p), target


def _masked_logs(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """-inf where the target has no weight, as a masked softmax gives it."""
    z, target = _special(-np.inf, at_target=False)(stream, fmt, rows, k)
    return np.where(np.isneginf(z), z, -np.abs(z)), target


def _vocabulary(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Every other row of equal logits, whose exponentials sum to K; the rows between ordinary."""
    z, target = _mild(stream, fmt, rows, k)
    equal = (np.arange(rows) % 2 == 0)[:, None]
    return np.where(equal, 0.0, z), target


ROUNDED_LABELS = (0, *range(255, 260), *range(2047, 2052))
"""Labels around 2^8 and 2^11, from where on bfloat16 and float16 hold every other integer."""


def _rounded_labels(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    z, _ = _mild(stream, fmt, rows, k)
    return z, np.resize(np.array(ROUNDED_LABELS), rows)


def _minus_inf_rows(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """Every other row holds nothing but -inf; the rows between must not be touched by it."""
    z, target = _mild(stream, fmt, rows, k)
    struck = (np.arange(rows) % 2 == 0)[:, None]
    return np.where(struck, -np.inf, z), target


def _ends(stream: Stream, fmt: Format, rows: int, k: int) -> tuple[Floats, np.ndarray]:
    """In turn 1 - ulp and its complement, and the least subnormal, for each of two classes."""
    p, _ = _probabilities(stream, fmt, rows, k)
    row = np.arange(rows)
    top = (row // 2) % k
    here = np.arange(k) == top[:, None]
    most = float(next_down(np.asarray(1.0), fmt))
    certain = np.where(here, most, (1.0 - most) / max(k - 1, 1))
    rest = np.where(here, 0.0, p)
    vanishing = np.where(here, fmt.least_subnormal, rest / rest.sum(axis=1, keepdims=True))
    ends = np.where((row % 2 == 0)[:, None], certain, vanishing)
    return ends, np.where(stream.uniform(rows) < 0.5, top, (top + 1) % k)


# --- targets --------------------------------------------------------------------------------------


def _one_hot(
    stream: Stream, fmt: Format, label: np.ndarray, classes: int, allowed: np.ndarray
) -> Floats:
    del stream, fmt, allowed
    return (np.arange(classes) == label[:, None]).astype(np.float64)


def _soft_targets(
    stream: Stream, fmt: Format, label: np.ndarray, classes: int, allowed: np.ndarray
) -> Floats:
    """In turn one-hot, as even as the format allows, zero in half of the classes, and peaked.

    What cannot be shared out evenly in units of the format goes to the label.
    """
    del allowed
    units = 2 ** (min(fmt.precision, 16) - 1)
    hot = np.arange(classes) == label[:, None]
    kind = np.arange(label.shape[0]) % 4
    # Half of the other classes, at least one of them without weight.
    order = np.argsort(np.where(hot, 2.0, stream.uniform(label.shape[0], classes)), axis=1)
    place = np.argsort(order, axis=1)
    half = (place < (classes - 1) // 2) & ~hot
    even, zeros = ((kind == which)[:, None] for which in (1, 2))
    taking = (even & ~hot) | (zeros & half)
    count = taking.sum(axis=1, keepdims=True)
    parts = np.where(taking, units // (count + 1), 0)
    peaked = np.where(hot, 0, (units // 8) // max(classes - 1, 1))
    parts = np.where((kind == 3)[:, None], peaked, parts)
    shares = np.where(hot, units - parts.sum(axis=1, keepdims=True), parts)
    return shares.astype(np.float64) / units


def _unnormalised(
    stream: Stream, fmt: Format, label: np.ndarray, classes: int, allowed: np.ndarray
) -> Floats:
    """Distributions times 1/2 and 2 in turn: their sums are exact in every format."""
    whole = distributions(stream, fmt, label, classes, allowed)
    return whole * np.where(np.arange(label.shape[0]) % 2 == 0, 0.5, 2.0)[:, None]


def _negative(
    stream: Stream, fmt: Format, label: np.ndarray, classes: int, allowed: np.ndarray
) -> Floats:
    """1 + c at the label and -c at another class, c = 1/4, 1/2 and 1: the sum is still 1."""
    del fmt, allowed
    rows = label.shape[0]
    c = stream.choice(np.array([0.25, 0.5, 1.0]), rows)[:, None]
    other = (label + 1 + stream.integers(0, max(classes - 1, 1), rows)) % classes
    hot, less = (np.arange(classes) == at[:, None] for at in (label, other))
    return np.where(hot, 1.0 + c, 0.0) - np.where(less & ~hot, c, 0.0)


def _outside(stream: Stream, hard: Floats) -> Floats:
    """-1/4 to -1 for labels of 0, 1 1/4 to 2 for labels of 1."""
    return hard + (2 * hard - 1) * stream.integers(1, 5, *hard.shape) / 4


# --- options --------------------------------------------------------------------------------------


def _extreme(fmt: Format) -> Floats:
    """None at all, next to the least normal number, and next to the largest."""
    return np.array([0.0, 2.0 ** (fmt.emin + 1), 2.0 ** (fmt.emax - 4)])


def _extreme_weights(stream: Stream, fmt: Format, classes: int, _: int) -> object:
    """Each of them in turn over the classes, from a drawn one on."""
    first = int(stream.integers(0, 3, 1)[0])
    return tuple(float(w) for w in np.resize(np.roll(_extreme(fmt), first), classes))


def _extreme_pos_weight(_: Stream, fmt: Format, __: int, seed: int) -> object:
    return float(_extreme(fmt)[seed % 3])


BOUNDARIES = (1.0, 2.0**-10)
"""Smoothing that leaves nothing of the label, and less of it than bfloat16 can take off 1. No
smoothing at all is a call without the option."""


def _boundary(_: Stream, __: Format, ___: int, seed: int) -> object:
    return BOUNDARIES[seed % len(BOUNDARIES)]


# --- subjects -------------------------------------------------------------------------------------


def said_of(policies: str, place: str) -> str:
    """What "this (here); that (there, elsewhere)" says of a place; "" where nothing is said."""
    for part in policies.split("; "):
        what, _, places = part.partition(" (")
        # Only the last bracket ends the list of places: "outside [0, 1]" has a comma of its own.
        if not places or place in places.removesuffix(")"):
            return what
    return ""


def _computes(subject: Subject, place: str) -> bool:
    """Whether it declares so; related losses have no value for such targets."""
    if subject.target == "index" or "cross_entropy" not in subject.operation:
        return False
    return said_of(subject.interface.target_domain, place) == "computes"


def _takes_unnormalised(subject: Subject) -> bool:
    return subject.target == "distribution" and _computes(subject, "sum 1/2")


def _takes_negative(subject: Subject) -> bool:
    return _computes(subject, "outside [0, 1]")


def _of_soft_targets(subject: Subject) -> bool:
    return subject.target == "distribution" and "cross_entropy" in subject.operation


def _ignores(subject: Subject) -> bool:
    named = "ignore_index" in subject.options or subject.semantics.ignore_index is not None
    return subject.target == "index" and named


def _plain_cross_entropy(subject: Subject) -> bool:
    """The op itself: forward mode takes a call for each class, and others run the same kernels."""
    return subject.operation == "cross_entropy" and subject.mode == "eager"


FAR = (2**31, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -100)
"""Labels past any table: past 31 and 32 bits, the ends of both, and the one that torch ignores."""

REGIONS: tuple[Region, ...] = (
    Region("ordinary", "logits as they occur in training, scales 1/8 to 8", "logits", _ordinary),
    Region("ties", "equal logits, and logits one ulp apart", "logits", _ties),
    Region(
        "saturated-right",
        "the target leads by a gap up to and past the underflow of exp",
        "logits",
        _saturated_right,
    ),
    Region(
        "saturated-wrong",
        "another class leads the target by such a gap",
        "logits",
        _saturated_wrong,
        binary=True,
    ),
    Region(
        "large-offset",
        "a common offset that costs forms without a shift their digits",
        "logits",
        _large_offset,
        binary=False,
    ),
    Region("huge", "both signs, up to the largest finite number", "logits", _huge),
    Region("subnormal", "logits below the least normal number", "logits", _subnormal),
    Region(
        "minus-inf-non-target",
        "masked classes: -inf where the target has no weight",
        "logits",
        _special(-np.inf, at_target=False),
    ),
    Region(
        "minus-inf-target",
        "-inf at the target itself",
        "logits",
        _special(-np.inf, at_target=True),
    ),
    Region("plus-inf", "one logit is +inf", "logits", _plus_inf),
    Region("nan", "NaN in every other row", "logits", _nan),
    Region("one-class", "a single class", "logits", _ordinary, classes=(1,), binary=False),
    Region("wide", "a thousand classes", "logits", _ordinary, classes=(1000,), binary=False),
    Region("empty", "no rows at all", "logits", _ordinary, classes=(3,), rows=0),
    Region(
        "invalid-label",
        "one label of the batch is negative or too large, and often -1 or K",
        "logits",
        _ordinary,
        binary=False,
        valid=False,
    ),
    Region(
        "far-label",
        "one label of the batch is past 31 or 32 bits, at an end of them, or -100",
        "logits",
        _ordinary,
        binary=False,
        valid=False,
        seeds=len(FAR),
    ),
    Region(
        "minus-inf-everywhere",
        "every other row holds nothing but -inf, and has no value",
        "logits",
        _minus_inf_rows,
        binary=False,
        laws=VALUES,
    ),
    Region("one-row", "a batch of a single row", "logits", _mild, rows=1, laws=VALUES),
    Region(
        "two-classes",
        "two classes, which code treats as the binary case",
        "logits",
        _mild,
        classes=(2,),
        binary=False,
        laws=VALUES,
    ),
    Region(
        "rounded-labels",
        "labels that bfloat16 and float16 round to a neighbour",
        "logits",
        _rounded_labels,
        classes=(2052,),
        binary=False,
        rows=len(ROUNDED_LABELS),
        dtypes=("bfloat16", "float16"),
        laws=VALUES,
        fits=_plain_cross_entropy,
        targets=_one_hot,
    ),
    Region(
        "vocabulary",
        "as many classes as a vocabulary has: sums of exponentials pass 65504",
        "logits",
        _vocabulary,
        binary=False,
        rows=2,
        # A sum that float64 could lose takes 2^53 classes.
        dtypes=("float32", "bfloat16", "float16"),
        laws=VALUES,
        fits=_plain_cross_entropy,
        targets=_one_hot,
        vocabulary=True,
    ),
    Region(
        "all-ignored",
        "every row has the ignored label",
        "logits",
        _mild,
        binary=False,
        laws=VALUES,
        fits=_ignores,
        ignored=True,
    ),
    Region(
        "soft-targets",
        "one-hot, even, with zeros, and peaked distributions in turn",
        "logits",
        _mild,
        binary=False,
        laws=VALUES,
        fits=_of_soft_targets,
        targets=_soft_targets,
    ),
    Region(
        "unnormalised-targets",
        "targets that sum to 1/2 and 2, for ops that compute with them",
        "logits",
        _mild,
        binary=False,
        laws=VALUES,
        fits=_takes_unnormalised,
        targets=_unnormalised,
    ),
    Region(
        "negative-targets",
        "targets outside [0, 1], for ops that compute with them",
        "logits",
        _mild,
        laws=VALUES,
        fits=_takes_negative,
        targets=_negative,
        soft=_outside,
    ),
    Region(
        "extreme-weights",
        "weights of 0, next to the least normal number and next to the largest",
        "logits",
        _mild,
        laws=VALUES,
        seeds=3,
        options={"weight": _extreme_weights, "pos_weight": _extreme_pos_weight},
    ),
    Region(
        "smoothing-boundaries",
        "smoothing of 1 and of 2^-10",
        "logits",
        _mild,
        laws=VALUES,
        seeds=len(BOUNDARIES),
        options={"label_smoothing": _boundary},
    ),
    Region("ordinary", "probabilities away from 0 and 1", "probabilities", _probabilities),
    Region("confident", "one class takes nearly all", "probabilities", _confident),
    Region("zero-and-one", "probabilities of exactly 0 and 1", "probabilities", _zeros),
    Region("subnormal", "a probability near the least normal number", "probabilities", _tiny),
    Region(
        "next-to-zero-and-one",
        "probabilities of exactly 1 - ulp and of the least subnormal",
        "probabilities",
        _ends,
        laws=VALUES,
    ),
    Region(
        "two-classes",
        "two classes, which code treats as the binary case",
        "probabilities",
        _probabilities,
        classes=(2,),
        binary=False,
        laws=VALUES,
    ),
    Region(
        "unnormalised-targets",
        "targets that sum to 1/2 and 2, for ops that compute with them",
        "probabilities",
        _probabilities,
        binary=False,
        laws=VALUES,
        fits=_takes_unnormalised,
        targets=_unnormalised,
    ),
    Region(
        "negative-targets",
        "targets outside [0, 1], for ops that compute with them",
        "probabilities",
        _probabilities,
        laws=VALUES,
        fits=_takes_negative,
        targets=_negative,
        soft=_outside,
    ),
    Region(
        "smoothing-boundaries",
        "smoothing of 1 and of 2^-10",
        "probabilities",
        _probabilities,
        laws=VALUES,
        seeds=len(BOUNDARIES),
        options={"label_smoothing": _boundary},
    ),
    Region("empty", "no rows at all", "probabilities", _probabilities, classes=(3,), rows=0),
    Region("ordinary", "logs of probabilities", "log-probabilities", _log_probabilities),
    Region("confident", "one class takes nearly all", "log-probabilities", _confident_logs),
    Region("minus-inf-non-target", "masked classes", "log-probabilities", _masked_logs),
    Region(
        "empty", "no rows at all", "log-probabilities", _log_probabilities, classes=(3,), rows=0
    ),
)


def batch_rows(classes: int) -> int:
    """Rows of a batch with so many classes."""
    if classes > MANY:
        return 1
    return WIDE_ROWS if classes > ROWS else ROWS


def regions_for(operation: str) -> tuple[Region, ...]:
    """The regions in which an operation is probed."""
    inputs = inputs_of(operation)
    binary = operation.startswith("binary")
    return tuple(r for r in REGIONS if r.inputs == inputs and (r.binary or not binary))


def unsuited(region: Region, subject: Subject) -> str:
    """Why a subject of the operation is asked nothing in a region, whatever the depth; "" if it is.

    These are the region's own conditions: a law may have others.
    """
    if region.options and not subject.options & set(region.options):
        return f"for an option that is not taken ({', '.join(region.options)})"
    if not region.valid and subject.target != "index":
        return "for labels, where the targets are distributions"
    if not region.fits(subject):
        return "for targets or ops other than those of the subjects"
    if region.dtypes and not set(region.dtypes) & set(subject.dtypes):
        return f"for {', '.join(region.dtypes)}, in which it is not computed"
    # A compiled subject has one shape: neither no rows nor another number of classes.
    if subject.shape is not None and not region.any_shape:
        return "of a shape other than the one that is compiled"
    return ""


WIDE_FORMATS = ("float64", "float32")
OF_SUMS = ("wide", "two-classes", "rounded-labels", "vocabulary")
"""The regions of a shape of their own that say something of narrow formats which others do not: of
sums and labels that are too large for them, and of a shape that a law about two classes has too."""


def in_few_shapes(region: Region, subject: Subject, dtype: str) -> bool:
    """Whether a region is drawn where each shape is compiled and not all of them are asked for.

    Numbers of rows and classes are tried on the op itself; other modes run the same primitives.
    """
    if region.own_shape and subject.mode != "eager":
        return False
    return dtype in WIDE_FORMATS or region.any_shape or region.name in OF_SUMS


def region(name: str, operation: str) -> Region:
    return next(r for r in regions_for(operation) if r.name == name)


@dataclass(frozen=True)
class Plan:
    """What is drawn: enough to make the same case again."""

    region: Region
    operation: str
    target: str
    dtype: str
    rows: int
    classes: int
    options: tuple[str, ...]
    reduction: str
    seed: int
    stretch: int = 0
    """Inputs are multiplied by 2^stretch: what a targeted search can climb on."""
    ignored: int | None = None
    """The label that the subject ignores unasked: no invalid one, and that of ignored rows."""


def make_case(plan: Plan) -> Case:
    """Draw the case of a plan: a pure function of it."""
    fmt = FORMATS[plan.dtype]
    # The seed alone does not name the stream: two regions must not share their numbers. The number
    # before is the same for ever: a region that did not change keeps its rows in a new corpus.
    stream = Stream(1, plan.region.name, plan.operation, plan.seed)
    rows = plan.rows if plan.region.rows is None else plan.region.rows
    if plan.target == "binary":
        return _binary_case(plan, stream, fmt, rows)
    inputs, label = plan.region.draw(stream, fmt, rows, plan.classes)
    inputs = round_to_format(_stretched(inputs, plan, fmt), fmt)
    target: np.ndarray = label.astype(np.int64)
    if not plan.region.valid and rows:
        invalid = _far_label if plan.region.name == "far-label" else _near_label
        target[stream.integers(0, rows, 1)] = invalid(plan, stream)
    if plan.target == "distribution":
        allowed = inputs != -np.inf
        spread = plan.region.targets or distributions
        target = spread(stream, fmt, label, plan.classes, allowed)
        if plan.operation.startswith("focal"):
            target = (np.arange(plan.classes) == label[:, None]).astype(np.float64)
    options, target = _options(plan, stream, target)
    if plan.region.ignored:
        label_of_all = plan.ignored if options.ignore_index is None else options.ignore_index
        target = np.full_like(target, label_of_all)
    case = Case(plan.operation, plan.dtype, inputs, target, options)
    return _with_arrays(case, plan, stream)


def _near_label(plan: Plan, stream: Stream) -> int:
    """-1 and K half of the time, else up to 49 further outside; never the common default -100."""
    further = int(stream.integers(0, 50, 1)[0]) * bool(stream.uniform(1)[0] < 0.5)
    below = bool(stream.uniform(1)[0] < 0.5)
    return -1 - further if below else plan.classes + further


def _far_label(plan: Plan, stream: Stream) -> int:
    """Each in turn, but for the one that is ignored."""
    del stream
    far = [label for label in FAR if label != plan.ignored]
    return far[plan.seed % len(far)]


def _with_arrays(case: Case, plan: Plan, stream: Stream) -> Case:
    """The options that are arrays of one number a row, or that change the target with the mask."""
    if "sample_weight" in plan.options:
        # Quarters between 0 and 2: exact in every format, and some rows count for nothing.
        case = replace(case, sample_weight=stream.integers(0, 9, case.rows) / 4)
    if "where" in plan.options and plan.classes > 1:
        left_out = int(stream.integers(0, plan.classes, 1)[0])
        where = tuple(j != left_out for j in range(plan.classes))
        target = _moved(np.array(case.target), left_out, plan.classes)
        case = replace(case, target=target, options=replace(case.options, where=where))
    if "axis" in plan.options:
        case = replace(case, options=replace(case.options, axis=1))
    return case


def _moved(target: np.ndarray, left_out: int, classes: int) -> np.ndarray:
    """Targets without the class that is left out: its weight goes to its neighbour."""
    if target.ndim == 1:
        return np.where(target == left_out, (left_out + 1) % classes, target)
    neighbour = (left_out + 1) % classes
    target[:, neighbour] += target[:, left_out]
    target[:, left_out] = 0.0
    return target


def _stretched(inputs: Floats, plan: Plan, fmt: Format) -> Floats:
    """Logits times a power of two, finite ones kept finite; a probability stays what it is."""
    if plan.region.inputs != "logits":
        return inputs
    with np.errstate(over="ignore"):
        scaled = inputs * 2.0**plan.stretch
    return np.where(np.isfinite(inputs), np.clip(scaled, -fmt.max, fmt.max), inputs)


def _binary_case(plan: Plan, stream: Stream, fmt: Format, rows: int) -> Case:
    """Two classes (0, z): the logit is z_1 - z_0, the label whether class 1 was preferred.

    Two infinite logits in one row, of which the difference says nothing, become one.
    """
    pair, label = plan.region.draw(stream, fmt, rows, 2)
    if plan.region.inputs == "probabilities":
        inputs = pair[:, 1:]
    else:
        with np.errstate(invalid="ignore"):
            inputs = pair[:, 1:] - pair[:, :1]
        # The difference of two huge finite logits must not become an infinite one.
        finite = np.isfinite(pair).all(axis=1, keepdims=True)
        inputs = np.where(finite, np.clip(inputs, -fmt.max, fmt.max), inputs)
        inputs = _stretched(inputs, plan, fmt)
    inputs = round_to_format(inputs, fmt)
    hard = label.astype(np.float64)[:, None]
    soft = np.rint(stream.uniform(rows, 1) * 16) / 16
    infinite = ~np.isfinite(inputs)
    only_hard = infinite | plan.operation.startswith("binary_focal")
    target = np.where((stream.uniform(rows, 1) < 0.75) | only_hard, hard, soft)
    if plan.region.soft is not None:
        target = plan.region.soft(stream, hard)
    options, _ = _options(plan, stream, target)
    case = Case(plan.operation, plan.dtype, inputs, target, options)
    return _with_arrays(case, plan, stream)


def distributions(
    stream: Stream, fmt: Format, label: np.ndarray, classes: int, allowed: np.ndarray
) -> Floats:
    """Target distributions that sum to 1 exactly: multiples of 2^-b shared out over the classes.

    A third one-hot at the label, a third spread over the classes that are allowed (those whose
    logit is not -inf), a third peaked at the label with two thirds of the weight.
    """
    rows = label.shape[0]
    bits = min(fmt.precision, 16) - 1
    units = 2**bits
    hot = np.arange(classes) == label[:, None]
    some = allowed & (stream.uniform(rows, classes) < 0.8) & ~hot
    count = some.sum(axis=1, keepdims=True)
    kept = stream.choice(np.array([units, units // 4, (2 * units) // 3]), rows)[:, None]
    each = np.where(some, (units - kept) // np.maximum(count, 1), 0)
    shares = np.where(hot, units - each.sum(axis=1, keepdims=True), each)
    return shares.astype(np.float64) / units


def _options(plan: Plan, stream: Stream, target: np.ndarray) -> tuple[Options, np.ndarray]:
    weight = None
    ignore_index = None
    if "weight" in plan.options:
        # Halves between 1/2 and 4: exact in every format.
        weight = tuple(float(w) for w in stream.integers(1, 9, plan.classes) / 2)
    if "ignore_index" in plan.options:
        ignore_index = -1 - int(stream.integers(0, 4, 1)[0])
        target = np.where(stream.uniform(target.shape[0]) < 0.25, ignore_index, target)
    eps = 0.0
    if "label_smoothing" in plan.options:
        eps = float(stream.integers(1, 8, 1)[0]) / 16
    pos_weight = None
    if "pos_weight" in plan.options:
        pos_weight = float(stream.integers(1, 9, 1)[0]) / 2
    options = Options(
        weight=weight,
        pos_weight=pos_weight,
        ignore_index=ignore_index,
        label_smoothing=eps,
        gamma=float(stream.integers(0, 9, 1)[0]) / 2 if "gamma" in plan.options else None,
        alpha=float(stream.integers(1, 8, 1)[0]) / 8 if "alpha" in plan.options else None,
        reduction=plan.reduction,
    )
    fmt = FORMATS[plan.dtype]
    own = {
        name: draw(stream, fmt, plan.classes, plan.seed)
        for name, draw in plan.region.options.items()
        if name in plan.options
    }
    return replace(options, **own), target
