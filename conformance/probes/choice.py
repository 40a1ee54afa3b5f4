"""Which of some known formulas numbers follow: the one whose derived bounds hold them, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...reference.bounds import ROUNDINGS_OF_SMOOTHING, bounds, demanded, half_ulp, reduced
from ...reference.exact import to_float
from ...reference.rows import reduce_truth
from ...reference.vocabulary import Case, Floats, Options, Semantics
from ..bench import Bench

NO_FORMULA = "no known formula"


class Undecided(Exception):
    """Nothing can be measured; the text says why."""


@dataclass(frozen=True)
class Found:
    """What was measured of one field.

    Attributes:
        value: as the field is declared, or what it is instead.
        evidence: the numbers that say so.
        case: the call that shows it.
        meant: the fields of Semantics under which values are to be judged, with their values; none
            where the reference does not know what was measured.
    """

    value: str
    evidence: str
    case: Case
    meant: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A known formula: where it puts the numbers, and how far they may lie from there."""

    name: str
    exact: Floats
    reach: Floats
    meant: Mapping[str, object] = field(default_factory=dict)

    def fits(self, numbers: Floats) -> bool:
        """Whether all numbers lie in reach; where the formula has none, they are of its kind."""
        if numbers.shape != self.exact.shape:
            return False
        finite = np.isfinite(self.exact)
        if np.isinf(self.reach[finite]).any():
            raise Undecided("no bound is derived for this arithmetic, so no formula can be told")
        with np.errstate(invalid="ignore"):
            near = np.abs(numbers - self.exact) <= self.reach
        same = (numbers == self.exact) | (np.isnan(numbers) & np.isnan(self.exact))
        return bool(np.where(finite, near, same).all())


def told(numbers: Floats, candidates: Sequence[Candidate], evidence: str, case: Case) -> Found:
    """The one formula within whose bounds the numbers lie.

    Raises:
        Undecided: if they lie within the bounds of several.
    """
    fitting = [candidate for candidate in candidates if candidate.fits(numbers)]
    if not fitting:
        return Found(NO_FORMULA, evidence, case)
    if len(fitting) > 1:
        raise Undecided(f"{evidence}: the bounds do not tell apart {_either(fitting)}")
    return Found(fitting[0].name, evidence, case, fitting[0].meant)


def told_or_declared(
    numbers: Floats, candidates: Sequence[Candidate], declared: str, evidence: str, case: Case
) -> Found:
    """The same for formulas that some subjects give nobody the means to tell apart.

    Among several that hold the numbers the declared one stands, which they do not contradict; where
    it is not among them, the first, and the evidence names the others.
    """
    fitting = [candidate for candidate in candidates if candidate.fits(numbers)]
    if not fitting:
        return Found(NO_FORMULA, evidence, case)
    chosen = next((c for c in fitting if c.name == declared), fitting[0])
    others = [c for c in fitting if not np.array_equal(c.exact, chosen.exact, equal_nan=True)]
    if others:
        evidence += f"; in this format the same as {_either(others)}"
    return Found(chosen.name, evidence, case, chosen.meant)


def _either(candidates: Sequence[Candidate]) -> str:
    return " or ".join(candidate.name for candidate in candidates)


def losses(bench: Bench, name: str, case: Case, **changes: object) -> Candidate:
    """The losses of a case, or the reduced one, under changed Semantics."""
    meant = replace(bench.semantics, **changes)
    exact, _ = reduce_truth(bench.truth(case, meant), case, meant)
    return Candidate(name, to_float(exact), loosest(bench, case, meant).loss, changes)


def gradients(bench: Bench, name: str, case: Case, **changes: object) -> Candidate:
    """The gradients of a case under changed Semantics."""
    meant = replace(bench.semantics, **changes)
    exact = to_float(bench.truth(case, meant).gradient)
    return Candidate(name, exact, loosest(bench, case, meant).gradient, changes)


def combined(
    bench: Bench,
    name: str,
    case: Case,
    coefficients: Floats,
    made_of: Floats | None = None,
) -> Candidate:
    """One loss a row, sum_j c_j (loss of class j): coefficients (N, K), for binary ops (N, 2).

    A distribution that is none has no bound of its own. Each loss has its own, times |c_j|; the
    products and sums round at most K + 4 times on a path, of terms up to |c_j| (loss + |inputs|),
    since forms like max(z, 0) - z y multiply the input and not the loss.

    Where the subject makes the coefficients itself, `made_of` holds the magnitudes of the terms of
    each, of which four roundings more are the most on a path (`ROUNDINGS_OF_SMOOTHING`).
    """
    classes = coefficients.shape[1]
    rows = np.repeat(np.arange(case.rows), classes)
    hot: np.ndarray = np.tile(np.eye(classes), (case.rows, 1))
    target = hot[:, :1] if case.target_kind == "binary" else hot
    one = replace(case, inputs=case.inputs[rows], target=target, options=Options())
    each = losses(bench, name, one)
    shape = coefficients.shape
    exact, reach = each.exact.reshape(shape), each.reach.reshape(shape)
    sizes = np.abs(coefficients) if made_of is None else made_of
    used = sizes != 0
    scale = np.where(used, sizes, 0.0)
    exact = np.where(used, exact, 0.0)
    more = 0 if made_of is None else ROUNDINGS_OF_SMOOTHING
    steps = (classes + 4 + more) * bench.fmt.unit_roundoff
    largest = np.abs(case.inputs).max(axis=1, keepdims=True)
    error = (scale * (np.where(used, reach, 0.0) + steps * (exact + largest))).sum(axis=1)
    total = (np.where(used, coefficients, 0.0) * exact).sum(axis=1)
    return Candidate(name, total, error + half_ulp(np.abs(total) + error, bench.fmt))


def times(candidate: Candidate, factor: float, name: str, bench: Bench) -> Candidate:
    """The candidate's numbers times a power of two, which rounds nothing but a last time."""
    exact, reach = factor * candidate.exact, factor * candidate.reach
    return Candidate(name, exact, reach + half_ulp(np.abs(exact) + reach, bench.fmt))


def over(candidate: Candidate, divisor: int, name: str, bench: Bench) -> Candidate:
    """The candidate's numbers divided by a count, which the last rounding ends."""
    exact, reach = candidate.exact / divisor, candidate.reach / divisor
    return Candidate(name, exact, reach + half_ulp(np.abs(exact) + reach, bench.fmt))


@dataclass(frozen=True)
class Reach:
    """How far a loss and a gradient may lie from the exact ones."""

    loss: Floats
    gradient: Floats


def loosest(bench: Bench, case: Case, semantics: Semantics) -> Reach:
    """The declared bound or the demand, whichever is larger; the finite one where one is void."""
    arithmetic = bench.arithmetic
    if arithmetic is None:
        raise Undecided("no arithmetic is declared, so no bound tells formulas apart")
    declared, demand = (
        reduced(bounds(case, semantics, form), case, semantics, arithmetic)
        for form in (arithmetic, demanded(arithmetic))
    )
    return Reach(_larger(declared.loss, demand.loss), _larger(declared.gradient, demand.gradient))


def _larger(a: Floats, b: Floats) -> Floats:
    return np.where(np.isinf(a), b, np.where(np.isinf(b), a, np.maximum(a, b)))


def grouped(policies: Sequence[tuple[str, str]]) -> str:
    """[(where, what)] as "what", or "this (here); that (there, elsewhere)" where they differ."""
    if len({what for _, what in policies}) == 1:
        return policies[0][1]
    places: dict[str, list[str]] = {}
    for where, what in policies:
        places.setdefault(what, []).append(where)
    return "; ".join(f"{what} ({', '.join(wheres)})" for what, wheres in places.items())


def short(number: float) -> str:
    """A number of the evidence, of which six digits are enough."""
    return f"{float(number):.6g}"
