"""What is seen of a row of inputs, and how neighbouring rows are joined into one.

Everything here can be joined exactly: counts add up, of two worst inputs the worse one stays (of
equally bad ones that with the smaller key), hashes of answers are sums, and of runs the first and
the last stay open until it is known what lies beside them. So the result does not depend on how the
inputs were cut into chunks, nor on who looked at which.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...reference.vocabulary import Floats
from ..run import GRADES
from ..stream import mixed
from .patterns import Magnitudes

ANSWERS = ("0", "a number", "infinite", "nan", "nothing")
"""What an answer may be; "nothing" where the call raised or was lost."""

LONGEST = 24
"""Runs that are kept of each state beside those at the ends: the longest."""

EDGES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1024.0, 2.0**20)
"""Upper ends of the classes of errors in ulps; the last class is beyond."""

CLASSES = len(EDGES) + 1
STATES = len(GRADES) * len(ANSWERS)


class Point(msgspec.Struct, frozen=True, array_like=True):
    """The worst input of some: its error in ulps, its line and key, and the bits that came."""

    ulps: float
    line: int
    key: int
    bits: int


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Neighbouring inputs of one state: from a key to a key, and how many were asked there."""

    state: int
    line: int
    first: int
    last: int
    count: int


class Runs(msgspec.Struct, array_like=True):
    """The runs of a row of inputs: those at the ends, which may go on, and those between.

    Attributes:
        line: the context of the inputs, by its number.
        begin, end: the places of its ends: the stratum of positive inputs, -1 - it of negative.
        first, last: at the ends; `last` is None where there is one run in all.
        number: of the others, for each state.
        longest: of those, for each state the LONGEST longest, longest first.
    """

    line: int
    begin: int
    end: int
    first: Stretch
    last: Stretch | None
    number: dict[int, int]
    longest: dict[int, list[Stretch]]


class Bin(msgspec.Struct, array_like=True):
    """One binade of one sign.

    Attributes:
        grades: how many inputs have each of GRADES.
        errors: how many have an error up to each of EDGES, and beyond; those that have none (a NaN,
            an infinity that should be none, a lost call) are not among them.
        worst: the worst input.
        digest: a sum of hashes of input and answer, modulo 2^64.
    """

    grades: list[int]
    errors: list[int]
    worst: Point | None
    digest: int


class Seen(msgspec.Struct):
    """What was seen of one output on some inputs: for each sign and binade, and the runs.

    Attributes:
        bins: by the exponent field, of negative inputs by -1 - field; so in the order of inputs.
        runs: rows of neighbouring inputs, in their order, with gaps between them.
        number, longest: of the runs of lines that are complete, as in `Runs`.
    """

    bins: dict[int, Bin] = {}
    runs: list[Runs] = []
    number: dict[int, int] = {}
    longest: dict[int, list[Stretch]] = {}


class Row(msgspec.Struct):
    """Answers of one output to inputs in the order of their magnitudes, all of one sign.

    Attributes:
        line: the context of the inputs, by its number.
        stratum: the place of the first, of which each has one.
        which: their magnitudes.
        negative: their sign.
        grade, ulps: as judged.
        bits: what came; of a row with several entries, the one with that grade.
        stamp: a number that all bits that came have a part in.
        answer: the index into ANSWERS.
        field: the exponent field of each magnitude.
        off: the places of those that are not exact.
    """

    line: int
    stratum: int
    which: Magnitudes
    negative: bool
    grade: NDArray[np.uint8]
    ulps: Floats
    bits: NDArray[np.unsignedinteger]
    stamp: NDArray[np.unsignedinteger]
    answer: NDArray[np.uint8]
    field: NDArray[np.int64]
    off: NDArray[np.intp]


def kinds(value: Floats) -> NDArray[np.uint8]:
    """What each answer is: an index into ANSWERS."""
    found = (value != 0.0).astype(np.uint8)
    finite = np.isfinite(value)
    if not finite.all():
        found[np.isinf(value)] = ANSWERS.index("infinite")
        found[np.isnan(value)] = ANSWERS.index("nan")
    return found


class Tally:
    """Adds up rows of one output, in place."""

    def __init__(self, fields: int, ends: tuple[int, int]) -> None:
        """A tally of nothing yet.

        Args:
            fields: values of the exponent field.
            ends: see `merged`.
        """
        self._fields, self._ends = fields, ends
        self._grades = np.zeros((2 * fields, len(GRADES)), np.int64)
        self._errors = np.zeros((2 * fields, CLASSES), np.int64)
        self._digests = np.zeros(2 * fields, np.uint64)
        self._ulps = np.full(2 * fields, -1.0)
        self._worst: dict[int, Point] = {}
        self._rows = Seen()

    def add(self, row: Row) -> None:
        """Take in one row."""
        low, high = int(row.field[0]), int(row.field[-1])
        starts = _starts(row.field, low, high)
        # Negative inputs have the bins before those of positive ones, the nearest to zero last.
        first = self._fields - 1 - high if row.negative else self._fields + low
        bins = slice(first, first + high - low + 1)
        order = slice(None, None, -1) if row.negative else slice(None)
        grades, errors = _counted(row, low, high)
        self._grades[bins] += grades[order]
        self._errors[bins] += errors[order]
        places = row.field[starts] - low
        present = first + (high - low - places if row.negative else places)
        self._digests[present] += np.add.reduceat(_hashes(row), starts)
        self._see_worst(row, starts, present)
        rows = Seen({}, [_runs(row, self._least())])
        self._rows = merged(self._rows, rows, self._ends)

    def _see_worst(self, row: Row, starts: NDArray[np.intp], present: NDArray[np.int64]) -> None:
        ulps = np.fmax.reduceat(row.ulps, starts)
        stops = [*starts[1:].tolist(), row.field.size]
        for i in np.flatnonzero(ulps >= self._ulps[present]).tolist():
            name = int(present[i])
            found = _worst_at(row, int(starts[i]), stops[i], float(ulps[i]))
            if name not in self._worst or worst_first(found) < worst_first(self._worst[name]):
                self._worst[name] = found
                self._ulps[name] = found.ulps

    def _least(self) -> NDArray[np.intp]:
        """For each state the length below which a run is none of the longest of these rows."""
        least = np.zeros(STATES, np.intp)
        for rows in (self._rows, *self._rows.runs):
            for state, found in rows.longest.items():
                if len(found) == LONGEST:
                    least[state] = max(least[state], found[-1].count)
        return least

    def seen(self) -> Seen:
        """What has been added up."""
        bins = {}
        for i in np.flatnonzero(self._grades.sum(axis=1)).tolist():
            counts = self._grades[i].tolist(), self._errors[i].tolist()
            bins[i - self._fields] = Bin(*counts, self._worst.get(i), int(self._digests[i]))
        return Seen(bins, self._rows.runs, self._rows.number, self._rows.longest)


def worst_first(point: Point) -> tuple[float, int, int]:
    """Smaller for a worse input, and of equally bad ones for the first."""
    return -point.ulps, point.line, point.key


def _starts(field: NDArray[np.int64], low: int, high: int) -> NDArray[np.intp]:
    if low == high:
        return np.zeros(1, np.intp)
    return np.concatenate([[0], np.flatnonzero(field[1:] != field[:-1]) + 1])


def _counted(row: Row, low: int, high: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each exponent field how often each grade occurs, and each class of errors."""
    fields, grades = high - low + 1, row.grade[row.off].astype(np.intp)
    erring = ~np.isnan(row.ulps[row.off])
    classes = np.searchsorted(EDGES, row.ulps[row.off[erring]])
    if fields == 1:
        every = np.array([row.grade.size])
        found = [
            np.bincount(x, minlength=n) for x, n in ((grades, len(GRADES)), (classes, CLASSES))
        ]
    else:
        field = row.field - low
        every, of_off = np.bincount(field, minlength=fields), field[row.off]
        found = [
            np.bincount(of * n + x, minlength=fields * n)
            for of, x, n in ((of_off, grades, len(GRADES)), (of_off[erring], classes, CLASSES))
        ]
    counts, errors = found[0].reshape(fields, -1), found[1].reshape(fields, -1)
    # The others are exact, and err by half an ulp at most. What has no error is in no class.
    others = every - counts.sum(axis=1)
    counts[:, 0] += others
    errors[:, 0] += others
    return counts, errors


def _worst_at(row: Row, start: int, stop: int, ulps: float) -> Point:
    """Where the largest error of a binade is; the first such in the order of the keys."""
    places = np.flatnonzero(row.ulps[start:stop] == ulps)
    at = start + int(places[-1] if row.negative else places[0])
    which = int(row.which[at])
    return Point(ulps, row.line, -1 - which if row.negative else which, int(row.bits[at]))


def _hashes(row: Row) -> NDArray[np.uint64]:
    """Numbers of which the sum changes with any input's answer, wherever it is cut into rows."""
    found = row.which.astype(np.uint64)
    found <<= np.uint64(32)
    found ^= row.stamp
    seed = mixed(np.array([2 * row.line + row.negative]), "answer")[0]
    for odd, shift in _ODD:
        found ^= seed
        found *= odd
        found ^= found >> shift
    return found


_ODD = (
    (np.uint64(0xBF58476D1CE4E5B9), np.uint64(29)),
    (np.uint64(0x94D049BB133111EB), np.uint64(32)),
)
"""Two rounds of SplitMix64's finalizer: products are linear, and without the shifts changes of two
answers in opposite directions would cancel."""


def _runs(row: Row, least: NDArray[np.intp]) -> Runs:
    """The runs of a row; those between its ends that are shorter than `least` are counted alone."""
    state = row.grade * np.uint8(len(ANSWERS))
    state += row.answer
    # The runs lie between these places, in the order of the magnitudes.
    edges = np.flatnonzero(state[1:] != state[:-1]) + 1
    begin, end = row.stratum, row.stratum + state.size - 1
    place = (row.line, -1 - end, -1 - begin) if row.negative else (row.line, begin, end)

    def stretch(start: int, stop: int) -> Stretch:
        low, high = int(row.which[start]), int(row.which[stop - 1])
        keys = (-1 - high, -1 - low) if row.negative else (low, high)
        return Stretch(int(state[start]), row.line, *keys, stop - start)

    if not edges.size:
        return Runs(*place, stretch(0, state.size), None, {}, {})
    first, last = stretch(0, int(edges[0])), stretch(int(edges[-1]), state.size)
    states, lengths = state[edges[:-1]], edges[1:] - edges[:-1]
    number = np.bincount(states, minlength=STATES)
    longest: dict[int, list[Stretch]] = {}
    long_enough = np.flatnonzero(lengths >= least[states])
    if row.negative:  # the order of the keys
        first, last = last, first
        long_enough = long_enough[::-1]
    for one in np.unique(states[long_enough]).tolist():
        mine = long_enough[states[long_enough] == one]
        # Of equally long ones the first in the order of the keys.
        mine = mine[np.argsort(-lengths[mine], kind="stable")[:LONGEST]]
        longest[one] = [stretch(int(edges[i]), int(edges[i + 1])) for i in mine.tolist()]
    counts = {one: int(number[one]) for one in np.flatnonzero(number).tolist()}
    return Runs(*place, first, last, counts, longest)


def _shorter(one: Stretch) -> tuple[int, int, int]:
    """Smaller for a longer run, and of equally long ones for the first."""
    return -one.count, one.line, one.first


def _cut(found: list[Stretch]) -> list[Stretch]:
    return sorted(found, key=_shorter)[:LONGEST]


def joined(left: Runs, right: Runs) -> Runs:
    """The runs of two rows of which the right one begins where the left one ends."""
    number, longest = _both(left, right)
    before, after = left.last or left.first, right.first
    inner: list[Stretch] = []
    first, last = left.first, right.last
    if before.state == after.state:
        middle = Stretch(
            before.state, before.line, before.first, after.last, before.count + after.count
        )
        if left.last is None:
            first = middle
        elif right.last is None:
            last = middle
        else:
            inner.append(middle)
    else:
        if left.last is not None:
            inner.append(before)
        if right.last is not None:
            inner.append(after)
        else:
            last = after
    _ended(inner, number, longest)
    return Runs(left.line, left.begin, right.end, first, last, number, longest)


def _both(left: Runs | Seen, right: Runs | Seen) -> tuple[dict[int, int], dict[int, list[Stretch]]]:
    """The runs between the ends of two rows, or those of complete lines in two places."""
    number = dict(left.number)
    longest = {state: list(found) for state, found in left.longest.items()}
    for state, count in right.number.items():
        number[state] = number.get(state, 0) + count
    for state, found in right.longest.items():
        longest[state] = _cut([*longest.get(state, []), *found])
    return number, longest


def _ended(found: list[Stretch], number: dict[int, int], longest: dict[int, list[Stretch]]) -> None:
    """Count runs of which both ends are known."""
    for one in found:
        number[one.state] = number.get(one.state, 0) + 1
        longest[one.state] = _cut([*longest.get(one.state, []), one])


def merged(left: Seen, right: Seen, ends: tuple[int, int]) -> Seen:
    """What was seen in two places: rows that lie beside each other are joined.

    Args:
        left: what was seen in one place.
        right: what was seen of the same output in another.
        ends: the places where a line begins and ends. A row from the one to the other is complete,
            and its runs are all that is kept of it.
    """
    bins = dict(left.bins)
    for name, found in right.bins.items():
        bins[name] = _added(bins[name], found) if name in bins else found
    number, longest = _both(left, right)
    rows: list[Runs] = []
    for row in sorted([*left.runs, *right.runs], key=lambda r: (r.line, r.begin)):
        if rows and (rows[-1].line, rows[-1].end + 1) == (row.line, row.begin):
            rows[-1] = joined(rows[-1], row)
        else:
            rows.append(row)
    whole = Seen(bins, [r for r in rows if (r.begin, r.end) != ends], number, longest)
    for row in rows:
        if (row.begin, row.end) == ends:
            _close(whole, row)
    return whole


def closed(found: Seen) -> Seen:
    """The same with every row taken as complete."""
    whole = Seen(found.bins, [], *_both(found, Seen()))
    for row in found.runs:
        _close(whole, row)
    return whole


def _close(into: Seen, row: Runs) -> None:
    into.number, into.longest = _both(into, Seen({}, [], row.number, row.longest))
    ends = [row.first, *([row.last] if row.last is not None else [])]
    _ended(ends, into.number, into.longest)


def _added(left: Bin, right: Bin) -> Bin:
    worst = [point for point in (left.worst, right.worst) if point is not None]
    return Bin(
        [a + b for a, b in zip(left.grades, right.grades, strict=True)],
        [a + b for a, b in zip(left.errors, right.errors, strict=True)],
        min(worst, key=worst_first, default=None),
        (left.digest + right.digest) % 2**64,
    )
