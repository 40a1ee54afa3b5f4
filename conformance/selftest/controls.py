"""Right implementations written in other ways: about these nothing may be said that is not so.

Those of class C, and those rounded rightly, get no finding at all; of class A and B `precision`
alone, since their class can do no better near a loss of 0. Everything else is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...reference.exact import round_exact
from ...reference.formats import FORMATS
from ...reference.rows import reduce_truth, target_truth, truth
from ...reference.vocabulary import Case, Floats
from ..run import Finding
from .kernels import BinaryCrossEntropy, CrossEntropy
from .subjects import SEMANTICS, Semantics

Implementation = Callable[[Case], tuple[Floats, ...]]


@dataclass(frozen=True)
class Control:
    """A right implementation.

    Attributes:
        name: of how it computes.
        operation, target: what it implements.
        form: the form that it declares, see `Arithmetic`.
        gradient: the form of its gradient.
        make: the implementation.
        lossy: whether findings of kind `precision` are its due.
    """

    name: str
    operation: str
    target: str
    form: str
    gradient: str
    make: Callable[[], Implementation]
    lossy: bool = False

    def false_alarm(self, finding: Finding) -> bool:
        """Whether a finding about it is not its due."""
        return not (self.lossy and finding.kind == "precision")


def correctly_rounded(operation: str, target: str) -> Callable[[], Implementation]:
    """The reference itself, rounded to the format: a mistake of a law would show on it."""
    semantics = SEMANTICS.get((operation, target), Semantics())

    def call(case: Case) -> tuple[Floats, ...]:
        Checks().demand_valid(case)
        rows = truth(case, semantics)
        found = [*reduce_truth(rows, case, semantics)]
        if case.by_target:
            found.append(target_truth(case, semantics).gradient)
        return tuple(round_exact(x, FORMATS[case.dtype]) for x in found)

    return lambda: call


class Checks(CrossEntropy):
    """What is demanded of a call before anything is computed."""


class ClassA(CrossEntropy):
    """log sum exp(z) - z_t: the maximum is added back before the logit is subtracted."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        m = self.largest(z)
        e = np.exp(np.where(z == m, 0.0, z - m))
        s = self.total(e)
        surprise = np.where(np.isneginf(z), np.inf, (m + np.log(s)) - z)
        return surprise, e / s, 1.0 - e / s


class ClassB(CrossEntropy):
    """(m - z_t) + log s."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        m = self.largest(z)
        d = np.where(z == m, 0.0, m - z)
        e = np.exp(-d)
        s = self.total(e)
        return d + np.log(s), e / s, 1.0 - e / s


class Online(CrossEntropy):
    """One pass over the classes: the sum so far is scaled whenever the maximum grows."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        m = np.full((len(z), 1), -np.inf)
        s = np.zeros((len(z), 1))
        for j in range(z.shape[1]):
            new = np.maximum(m, z[:, j : j + 1])
            old = np.where(np.isneginf(m), 0.0, self.rescaled(s, m, new))
            s = old + np.where(np.isneginf(new), 0.0, np.exp(z[:, j : j + 1] - new))
            m = new
        d = np.where(z == m, 0.0, m - z)
        return d + np.log(s), np.exp(-d) / s, 1.0 - np.exp(-d) / s

    def rescaled(self, s: Floats, old: Floats, new: Floats) -> Floats:
        """The sum of exponentials below the old maximum, as one below the new."""
        return s * np.exp(old - new)


class Chunked(CrossEntropy):
    """Two halves of the classes, each with its maximum and sum, then combined, as shards are."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        half = max(z.shape[1] // 2, 1)
        parts = [z[:, :half], z[:, half:]]
        tops = [part.max(axis=1, keepdims=True, initial=-np.inf) for part in parts]
        m = np.maximum(*tops)
        s = np.zeros((len(z), 1))
        for part, top in zip(parts, tops, strict=True):
            own = np.exp(np.where(part == top, 0.0, part - top)).sum(axis=1, keepdims=True)
            s = s + np.where(np.isneginf(top), 0.0, own * np.exp(np.where(top == m, 0.0, top - m)))
        d = np.where(z == m, 0.0, m - z)
        return d + np.log(s), np.exp(-d) / s, 1.0 - np.exp(-d) / s


class ByPairs(CrossEntropy):
    """The sum of exponentials by pairs, as a tree reduces it; the rest as class C."""

    def total(self, e: Floats) -> Floats:
        while e.shape[1] > 1:
            if e.shape[1] % 2:
                e = np.concatenate([e, np.zeros((len(e), 1))], axis=1)
            e = e[:, 0::2] + e[:, 1::2]
        return e if e.shape[1] else np.zeros((len(e), 1))


class Standard(BinaryCrossEntropy):
    """max(z, 0) - z y + log1p(e^-|z|), and sigmoid(z) - y."""

    def rows(self, case: Case, ignored: np.ndarray) -> tuple[Floats, Floats, Floats]:
        loss, gradient, by_target = super().rows(case, ignored)
        z, y = case.inputs, self.target(case)
        if self.emphasis(case) != 1.0:
            return loss, gradient, by_target
        standard = np.maximum(z, 0.0) - z * y + np.log1p(np.exp(-np.abs(z)))
        gradient = np.where(np.isfinite(z), self.sigmoid(z) - y, gradient)
        return np.where(np.isfinite(z), standard, loss[:, None])[:, 0], gradient, by_target


class Logistic(BinaryCrossEntropy):
    """Softplus as logaddexp(0, z)."""

    def softplus(self, z: Floats) -> Floats:
        return np.logaddexp(0.0, z)


CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"
CONTROLS: tuple[Control, ...] = (
    *(
        Control(
            f"rounded-rightly-{target}", CE, target, "C", "relative", correctly_rounded(CE, target)
        )
        for target in ("index", "distribution")
    ),
    Control(
        "rounded-rightly-binary",
        BCE,
        "binary",
        "split",
        "relative",
        correctly_rounded(BCE, "binary"),
    ),
    *(
        Control(f"{name}-{target}", CE, target, form, gradient, kind, lossy)
        for target in ("index", "distribution")
        for name, form, gradient, kind, lossy in (
            ("class-a", "A", "division", ClassA, True),
            ("class-b", "B", "division", ClassB, True),
            ("class-c", "C", "relative", CrossEntropy, False),
            ("online", "B", "division", Online, True),
            ("chunked", "B", "division", Chunked, True),
            ("by-pairs", "C", "relative", ByPairs, False),
        )
    ),
    Control("split", BCE, "binary", "split", "relative", BinaryCrossEntropy),
    Control("standard", BCE, "binary", "std", "sigmoid", Standard, lossy=True),
    Control("logaddexp", BCE, "binary", "split", "relative", Logistic),
)
"""The controls of a trial."""
