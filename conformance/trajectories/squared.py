"""Squared error through a sigmoid beside cross-entropy: closed forms, derived, and their bounds.

Notation: z a logit, p = sigmoid(z), y the label, 0 or 1; p' = p (1 - p).

**One sample.** Cross-entropy -y log p - (1 - y) log(1 - p) and squared error (p - y)^2 have

    by the probability:  (p - y) / p'      and  2 (p - y),
    by the logit:        p - y             and  2 (p - y) p',

the second line being the first times dp/dz = p'. Cross-entropy divides by p' what the sigmoid
multiplies by it; squared error keeps it. So the ratio of the second to the first by the logit is
2 p', at most 1/2 (at p = 1/2), and 2 e^-|z| or less for all z: a sample that is confidently wrong
has a gradient near 1 by cross-entropy and one that vanishes by squared error. For y = 1 the size
2 p (1 - p)^2 is largest at p = 1/3, where it is 8/27: no logit has more.

**A network.** Let z = f(v) with v any parameters, of any layer. Both gradients by v are that by z
times the same df/dv. So in every layer, of every depth, that of squared error is 2 p' times that of
cross-entropy, entry by entry. What the sigmoids of the layers take away, at most a factor of 1/4
each, is in df/dv, and the same for both losses.

**Bounds.** `Near` is a value with a bound of the error of a computed one (running error analysis:
Higham, Accuracy and Stability, 2nd ed., 3.3). One operation in a format with the unit roundoff u
rounds by u times what it gives, and carries what its operands bring: a sum the sum of their
errors, a product of a and b (|a| + e_a)(|b| + e_b) - |a b|. A sum of n products in any order, fused
or not, has at most n roundings on the way of each term, gamma_n = n u / (1 - n u). The sigmoid has
a slope of at most 1/4, and an error of c units of roundoff of its value, c as the framework's
binary cross-entropy declares it. The gradient of cross-entropy by z has the bound that is declared
of it, at z; near z it is at most 2 exp(4 e_z) times that, as `judge` derives. Values are float64
here, and their own errors are counted by u + 2^-53 in place of u.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ...adapters import squared_alone
from ...reference.bounds import bounds
from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Case, Floats
from ..stream import Stream
from .alone import START_SECONDS, run_alone, subject_of

TRAINED = tuple(squared_alone.FRAMEWORKS)
ANY = TRAINED[0]
"""Whose declarations are read where closed forms alone are wanted, which are the same for all."""

DTYPES = ("float64", "float32")
LOGITS = np.arange(-24, 25) / 2.0
HIDDEN, SPREAD = 4, 1.0
SEED = 1

Gradients = dict[str, Floats]
"""By "squared" or "entropy", and "by logit", "by probability" or "by layer"."""


def task(dtype: str) -> dict[str, Floats]:
    """The numbers that are asked, rounded to the format; see `adapters/squared_alone.py`."""
    stream = Stream("squared", SEED)
    z, y = np.tile(LOGITS, 2), np.repeat([1.0, 0.0], len(LOGITS))
    network = {
        "x": np.array([[1.0], [-0.5]]),
        "w1": np.tile(SPREAD * stream.normal(HIDDEN, 2), (len(z), 1, 1)),
        "b1": SPREAD * stream.normal(HIDDEN),
        "w2": SPREAD * stream.normal(HIDDEN, HIDDEN),
        "b2": SPREAD * stream.normal(HIDDEN),
        "w3": SPREAD * stream.normal(HIDDEN, 1),
        "b3": z,  # the logits of the network are those of the first part, shifted by one number
    }
    p = 1.0 / (1.0 + np.exp(-z))
    numbers = {"z": z, "y": y, "p": p, **network}
    return {name: round_to_format(array, FORMATS[dtype]) for name, array in numbers.items()}


def asked(framework: str, dtype: str, python: str) -> Gradients:
    """What a framework answers.

    Raises:
        NotTrained: its program gave nothing.
    """
    program = squared_alone.__file__
    return run_alone(python, program, framework, dtype, task(dtype), START_SECONDS)


# --- closed forms ---------------------------------------------------------------------------------


def by_logit(z: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The gradients of squared error and of cross-entropy by the logit."""
    p, other = _sigmoid(z), _sigmoid(-z)
    miss = np.where(y == 1.0, -other, p)
    return 2.0 * miss * p * other, miss


def by_probability(p: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The same by the probability."""
    return 2.0 * (p - y), np.where(y == 1.0, -1.0 / p, 1.0 / (1.0 - p))


def ratio(z: Floats) -> Floats:
    """2 p (1 - p): the gradient of squared error over that of cross-entropy, by any parameter."""
    return 2.0 * _sigmoid(z) * _sigmoid(-z)


def _sigmoid(z: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-z))


# --- how far an op may be from them ---------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """Values, and how far from them computed ones are at most."""

    value: Floats
    error: Floats


@dataclass(frozen=True)
class Rounding:
    """The operations of a format: u is its unit roundoff, c the error of its sigmoid in u."""

    u: float
    c: float

    def plus(self, a: Near, b: Near) -> Near:
        value = a.value + b.value
        carried = a.error + b.error
        return Near(value, carried + self.u * (np.abs(value) + carried))

    def times(self, *factors: Near) -> Near:
        """A product, each factor after the first with a rounding."""
        value = np.prod(np.broadcast_arrays(*(f.value for f in factors)), axis=0)
        largest = np.prod(
            np.broadcast_arrays(*(np.abs(f.value) + f.error for f in factors)), axis=0
        )
        grown = largest * (1.0 + self.u) ** (len(factors) - 1)
        # What is left of two large numbers: the difference itself is rounded, at both ends.
        return Near(value, grown - np.abs(value) + 4.0 * 2.0**-53 * grown)

    def dot(self, a: Near, b: Near) -> Near:
        """a @ b."""
        n = a.value.shape[-1]
        gamma = n * self.u / (1.0 - n * self.u)
        sizes, exact = np.abs(a.value) @ np.abs(b.value), a.value @ b.value
        largest = (np.abs(a.value) + a.error) @ (np.abs(b.value) + b.error)
        return Near(exact, largest * (1.0 + gamma) - sizes + 4.0 * n * 2.0**-53 * largest)

    def sigmoid(self, a: Near) -> Near:
        value, carried = _sigmoid(a.value), a.error / 4.0
        # Of this one: exp within an ulp, an addition and a division.
        own = 4.0 * 2.0**-53 * value
        return Near(value, carried + self.c * self.u * (value + carried) + own)

    def slope(self, h: Near, *factors: Near) -> Near:
        """The factors times h (1 - h), as the derivative of a sigmoid that gave h."""
        rest = self.plus(exactly(1.0), Near(-h.value, h.error))
        return self.times(h, rest, *factors)


def exactly(value: object) -> Near:
    array = np.asarray(value, np.float64)
    return Near(array, np.zeros_like(array))


def allowed(framework: str, dtype: str) -> dict[str, Near]:
    """Each gradient by its closed form, and how far the framework's may be from it."""
    t = task(dtype)
    z, y, p = t["z"], t["y"], t["p"]
    subject = subject_of(framework, operation="binary_cross_entropy_with_logits", target="binary")
    arithmetic = subject.arithmetic[dtype]
    rounding = Rounding(FORMATS[dtype].unit_roundoff + 2.0**-53, arithmetic.c_sigmoid)

    def of_squared(at: Near) -> Near:
        chance = rounding.sigmoid(at)
        miss = rounding.plus(chance, exactly(-y))
        return rounding.slope(chance, exactly(2.0), miss)

    def of_entropy(at: Near) -> Near:
        case = Case(subject.operation, dtype, at.value[:, None], y[:, None])
        own = bounds(case, subject.semantics, arithmetic).gradient[:, 0]
        error = at.error / 4.0 + 2.0 * np.exp(4.0 * at.error) * own
        return Near(by_logit(at.value, y)[1], error + 4.0 * 2.0**-53)

    double, steep = by_probability(p, y)
    # A quotient of differences and products of exact numbers: six roundings cover every way.
    gamma = 6.0 * rounding.u / (1.0 - 6.0 * rounding.u)
    logits, back = _network(t, rounding)
    found = {
        "squared by logit": of_squared(exactly(z)),
        "entropy by logit": of_entropy(exactly(z)),
        "squared by probability": Near(double, gamma * np.abs(double)),
        "entropy by probability": Near(steep, gamma * np.abs(steep)),
    }
    for loss, of_loss in (("squared", of_squared), ("entropy", of_entropy)):
        found[f"{loss} by layer"] = back(of_loss(logits))
    return found


def _network(t: dict[str, Floats], rounding: Rounding) -> tuple[Near, Callable[[Near], Near]]:
    """The logits of the network, and what leads a gradient by them back to the first layer."""
    x, w1 = exactly(t["x"]), exactly(t["w1"])
    summed = rounding.dot(w1, x)
    summed = Near(summed.value[:, :, 0], summed.error[:, :, 0])
    first = rounding.sigmoid(rounding.plus(summed, exactly(t["b1"])))
    second = rounding.dot(first, exactly(t["w2"]))
    second = rounding.sigmoid(rounding.plus(second, exactly(t["b2"])))
    last = rounding.dot(second, exactly(t["w3"]))
    last = Near(last.value[:, 0], last.error[:, 0])
    logits = rounding.plus(last, exactly(t["b3"]))

    def back(slope: Near) -> Near:
        at = Near(slope.value[:, None], slope.error[:, None])
        by_second = rounding.slope(second, rounding.times(at, exactly(t["w3"][:, 0])))
        by_first = rounding.slope(first, rounding.dot(by_second, exactly(t["w2"].T)))
        column = Near(by_first.value[:, :, None], by_first.error[:, :, None])
        return rounding.times(column, exactly(t["x"][:, 0]))

    return logits, back


def logits_of_network(dtype: str) -> Floats:
    """The logit of each row of the network."""
    return _network(task(dtype), Rounding(0.0, 0.0))[0].value


def sizes(found: Gradients, loss: str, by: str, dtype: str) -> list[tuple[float, float]]:
    """(logit, 2-norm of the gradient) of each sample with the label 1."""
    t = task(dtype)
    z = logits_of_network(dtype) if by == "by layer" else t["z"]
    gradient = found[f"{loss} {by}"]
    norms, ones = np.linalg.norm(gradient.reshape(len(gradient), -1), axis=1), t["y"] == 1.0
    return list(zip(z[ones].tolist(), norms[ones].tolist(), strict=True))


def outside(found: Gradients, may: dict[str, Near]) -> Iterable[str]:
    """Where a gradient is further from its closed form than it may be."""
    for name, near in may.items():
        off = np.abs(found[name] - near.value) > near.error
        if off.any() or np.isnan(found[name]).any():
            place = tuple(int(i) for i in np.argwhere(off | np.isnan(found[name]))[0])
            yield f"{name} {place}: {found[name][place]!r}, not {near.value[place]!r}"
