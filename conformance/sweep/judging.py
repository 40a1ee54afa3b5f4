"""Grades of very many answers, in float64, and by the exact tier where that does not decide.

The grades are those of `judge.judge`. An answer that is the correctly rounded number is exact, and
one on the other side of the exact number is faithful; what is neither is held against the bounds.
Whatever lies too near a boundary to be decided in float64 is judged again with 106 bits or more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.curves import Rounded
from ...reference.exact import Exact
from ...reference.formats import Format
from ...reference.vocabulary import Floats
from ..judge import RANK, finite_grades, judge

Places = NDArray[np.intp]

FAITHFUL, BOUNDED = RANK["faithful"], RANK["bounded"]
UNSPECIFIED = RANK["unspecified"]


@dataclass(frozen=True)
class Asked:
    """What the judge may ask about some of the answers, by their places.

    Attributes:
        exact: the exact numbers, and where there are none.
        demand, declared: the two bounds, absolute.
    """

    exact: Callable[[Places], tuple[Exact, NDArray[np.bool_]]]
    demand: Callable[[Places], Floats]
    declared: Callable[[Places], Floats]


def judged(
    value: Floats, known: Rounded, asked: Asked, fmt: Format, *, negated: bool
) -> tuple[NDArray[np.uint8], Floats]:
    """The grade of each answer, and its error in ulps (NaN where there is none).

    Args:
        value: the answers, of the shape of `known`; may be changed.
        known: the exact numbers, or with `negated` their negatives.
        asked: for what these do not decide.
        fmt: of the answers.
        negated: whether the answers should be the negatives of the known numbers.
    """
    if negated:
        np.negative(value, out=value)
    with np.errstate(all="ignore"):
        same = value == known.right
        ulps = np.abs(value - known.value)
        ulps *= known.scale
        if known.special:
            same |= np.isnan(value) & np.isnan(known.right)
            ulps[same & ~np.isfinite(known.value)] = np.nan
    grade, ulps, flat = np.zeros(value.size, np.uint8), ulps.reshape(-1), value.reshape(-1)
    if known.undefined is not None and known.undefined.any():
        outside = known.undefined.reshape(-1)
        same |= known.undefined
        grade[outside], ulps[outside] = UNSPECIFIED, np.nan
    off = np.flatnonzero(~same)
    slow = known.unsure
    if off.size:
        grade[off], hard = _inexact(flat[off], ulps[off], off, known, asked, fmt)
        if hard.any():
            slow = np.union1d(slow, off[hard])
        ulps[off[~np.isfinite(flat[off])]] = np.nan
    if slow.size:
        signed = -flat[slow] if negated else flat[slow]
        grade[slow], ulps[slow] = _settled(signed, slow, asked, fmt)
    return grade.reshape(value.shape), ulps.reshape(value.shape)


def _inexact(
    value: Floats, ulps: Floats, places: Places, known: Rounded, asked: Asked, fmt: Format
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grades of answers that are not the correctly rounded ones, and where they are not decided."""
    grade = np.full(value.shape, FAITHFUL, np.uint8)
    other, right = known.other.reshape(-1)[places], known.right.reshape(-1)[places]
    hard = ~np.isfinite(right) | known.coarse(places)
    # Where the side of the exact number is not known, a neighbour may be faithful.
    hard |= np.isnan(other) & (ulps < 2.0)
    rest = np.flatnonzero((value != other) & ~hard)
    if not rest.size:
        return grade, hard
    scale, margin = (a.reshape(-1)[places[rest]] for a in (known.scale, known.margin))
    with np.errstate(all="ignore"):
        # The error is known to so much of an ulp.
        margin = margin * scale
        demand = asked.demand(places[rest]) * scale
        inside = (ulps[rest] + margin <= demand) & np.isfinite(demand)
    grade[rest[inside]] = BOUNDED
    rest = rest[~inside]
    demand, scale, margin = (a[~inside] for a in (demand, scale, margin))
    if rest.size:
        error = ulps[rest]
        with np.errstate(all="ignore"):
            declared = asked.declared(places[rest]) * scale
            grade[rest] = finite_grades(
                value[rest], right[rest], error, demand, declared, 1.0 / scale, fmt
            )
            for bound in (demand, declared):
                hard[rest] |= np.abs(error - bound) <= margin
    return grade, hard


def _settled(
    value: Floats, places: Places, asked: Asked, fmt: Format
) -> tuple[NDArray[np.uint8], Floats]:
    exact, undefined = asked.exact(places)
    demand, declared = asked.demand(places), asked.declared(places)
    found = judge(value, exact, demand, declared, undefined, fmt)
    return found.grade.astype(np.uint8), found.ulps
