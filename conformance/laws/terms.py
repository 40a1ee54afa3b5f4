"""Sums of outputs of several calls, exact, with what they may be off by: what relations compare.

Relations are judged by the conformity of their terms: by the looser of the demand and the declared
bound of each. That a form cancels is told once, by the law of the value, and not again by each law
that compares two of its values; so is a NaN or an infinity where the truth is finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.exact import Exact, add, scale, subtract, to_float
from ...reference.vocabulary import Case, Floats
from ..bench import Bench
from ..judge import relate, ulp_of
from ..law import Verdict, from_relation, only

OUTPUTS = ("loss", "gradient")


@dataclass(frozen=True)
class Term:
    """What a bench returns for a case, times a factor.

    Attributes:
        factor: one, or one for each row.
        rows: which row of the case belongs to each row of the relation, or None for the same.
    """

    bench: Bench
    case: Case
    factor: float | Floats = 1.0
    rows: np.ndarray | None = None


@dataclass(frozen=True)
class Side:
    """One side of a relation: a sum of terms, and exact numbers that are added to it."""

    terms: tuple[Term, ...]
    plus: Exact | None = None


def side(*terms: Term, plus: Exact | None = None) -> Side:
    return Side(terms, plus)


def equal(
    bench: Bench,
    case: Case,
    left: Side,
    right: Side,
    note: str,
    *,
    outputs: Sequence[str] = OUTPUTS,
    rows: np.ndarray | None = None,
) -> list[Verdict]:
    """left = right, for each output; of the rows that are given, or of all.

    Raises:
        Failed: if one of the calls did not return.
    """
    verdicts = []
    for output in outputs:
        ours, theirs = (_summed(each, output) for each in (left, right))
        gap = np.abs(_difference(ours, theirs))
        told = _told(case, ours, theirs, gap, f"the {output} {note}", output, bench, rows)
        verdicts.append(replace(told, against=_others(left, right, case)))
    return verdicts


def at_most(
    bench: Bench,
    case: Case,
    left: Side,
    right: Side,
    note: str,
    *,
    rows: np.ndarray | None = None,
) -> list[Verdict]:
    """left <= right, for the loss; of the rows that are given, or of all.

    Raises:
        Failed: if one of the calls did not return.
    """
    ours, theirs = _summed(left, "loss"), _summed(right, "loss")
    excess = np.maximum(_difference(ours, theirs), 0.0)
    told = _told(case, ours, theirs, excess, note, "loss", bench, rows)
    return [replace(told, against=_others(left, right, case))]


def conformity(bench: Bench, case: Case, output: str) -> Floats:
    """The looser of the demand and the declared bound of each element."""
    demand, declared = bench.demand(case), bench.declared(case)
    return np.maximum(getattr(demand, output), getattr(declared, output))


@dataclass(frozen=True)
class _Sum:
    """The sum of a side: exact where it is judged, with its bound."""

    value: Exact
    bound: Floats
    judged: np.ndarray


def _summed(side: Side, output: str) -> _Sum:
    found: _Sum | None = None
    if side.plus is not None:
        finite = np.isfinite(side.plus.hi)
        found = _Sum(side.plus, np.zeros(finite.shape), finite)
    for term in side.terms:
        value = _value(term, output)
        if found is None:
            found = value
        else:
            judged = found.judged & value.judged
            found = _Sum(add(found.value, value.value), found.bound + value.bound, judged)
    if found is None:
        raise ValueError("a side of a relation has at least one term")
    return found


def _value(term: Term, output: str) -> _Sum:
    rows = slice(None) if term.rows is None else term.rows
    returned = term.bench.outputs(term.case)[OUTPUTS.index(output)][rows]
    truth = term.bench.truth(term.case)
    exact, undefined = getattr(truth, output).hi[rows], truth.undefined[rows]
    factor = np.asarray(term.factor, dtype=np.float64)
    if returned.ndim > 1:
        undefined = undefined[:, None]
        factor = factor[:, None] if factor.ndim else factor
    judged = np.isfinite(returned) & np.isfinite(exact) & ~undefined
    usable = np.where(judged, returned, 0.0)
    value = scale(Exact.from_float(usable), np.broadcast_to(factor, usable.shape))
    bound = np.abs(factor) * conformity(term.bench, term.case, output)[rows]
    return _Sum(value, bound, judged)


def _difference(ours: _Sum, theirs: _Sum) -> Floats:
    """Taken exactly and rounded once: a difference of floats could be lost."""
    judged = ours.judged & theirs.judged
    return np.where(judged, to_float(subtract(ours.value, theirs.value)), 0.0)


def _told(
    case: Case,
    ours: _Sum,
    theirs: _Sum,
    gap: Floats,
    note: str,
    output: str,
    bench: Bench,
    rows: np.ndarray | None,
) -> Verdict:
    bound = ours.bound + theirs.bound
    grade = relate(gap, np.zeros_like(gap), bound, bound)
    left, right = to_float(ours.value), to_float(theirs.value)
    unit = ulp_of(np.maximum(np.abs(left), np.abs(right)), bench.fmt)
    verdict = from_relation(output, case, grade, gap, unit, left, right, bound, bound, note)
    judged = ours.judged & theirs.judged
    judged = np.asarray(judged.reshape(len(judged), -1).all(axis=1))
    return only(verdict, judged if rows is None else judged & rows)


def _others(left: Side, right: Side, case: Case) -> tuple[tuple[Subject, Case], ...]:
    """The calls beside that of the case itself."""
    terms = (*left.terms, *right.terms)
    return tuple((t.bench.subject, t.case) for t in terms if t.case is not case)
