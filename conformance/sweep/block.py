"""Many inputs of one line at once: ask the worker, compute the exact values, judge, add up.

The arrays of a block lie in memory that the worker shares. The worker calls the op on slices of
them and the answers are judged in pieces, each of a size that stays in the cache of a core.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...adapters.blocks import Ended, Layout, SharedMemory, Target
from ...adapters.client import WorkerPool
from ...adapters.runtime import NUMPY_TYPES
from ...adapters.subject import Subject
from ...reference.bounds import demanded, one_bound
from ...reference.curves import Curve, Rounded, unknown
from ...reference.exact import Exact
from ...reference.formats import FORMATS, decode, encode
from ...reference.rows import truth
from ...reference.vocabulary import LOGITS, Case, Floats, inputs_of
from ..judge import RANK
from ..stream import mixed
from . import patterns
from .judging import Asked, Places, judged
from .lines import Lines
from .patterns import Magnitudes, Span
from .tally import ANSWERS, Row, Tally, kinds

HALF = 1 << 17
"""Magnitudes of a block, each with both signs: what is done once for a block then costs little."""

SLICE = 1 << 15
"""Rows of one call: 128 KiB of float32 logits, and as much for each array that an op makes of
them, of which some then lie in the 2 MiB that a core has for itself."""

PIECE = 1 << 13
"""Magnitudes that are judged at once: a dozen arrays of float64 of 64 KiB."""

LOST = {
    "raised": "policy",
    "wrong shape": "wrong kind",
    "crashed": "crashed",
    "timed out": "timed out",
}
"""The grade of inputs whose call did not return."""

LOST_LIMIT = 3
"""Blocks of a subject that end with a crash or a time-out before the sweep does too: each costs a
new worker, or the whole time. One of them may be all that it is asked."""

OUTPUTS = ("loss", "gradient")

UNSPECIFIED, NOTHING = RANK["unspecified"], ANSWERS.index("nothing")


class Unaskable(Exception):
    """The subject cannot be asked at all, which says nothing about its numbers."""


@dataclass
class Clock:
    """Seconds of a processor, by what they were spent on; of the framework those of its worker."""

    framework: float = 0.0
    reference: float = 0.0
    judging: float = 0.0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.thread_time() - start)


@dataclass(frozen=True)
class Question:
    """What is asked of one subject in one dtype.

    Attributes:
        targets: of the calls; a label, or the numbers of a distribution, or of a binary label.
        span, stride, seed: which inputs (`patterns`).
    """

    subject: Subject
    dtype: str
    lines: Lines
    targets: tuple[Target, ...]
    span: Span
    stride: int = 1
    seed: int = 0

    @property
    def outputs(self) -> tuple[str, ...]:
        return OUTPUTS if self.subject.gradients else OUTPUTS[:1]

    def number(self, target: int) -> float:
        """The number that a curve takes for a target: a label, or that of a binary one."""
        wanted = self.targets[target]
        if isinstance(wanted, int):
            return float(wanted)
        return wanted[0] if len(wanted) == 1 else float(np.argmax(wanted))

    def case(self, inputs: Floats, target: int) -> Case:
        """Some inputs of a line with one of the targets."""
        wanted = self.targets[target]
        if isinstance(wanted, int):
            labels: NDArray[np.generic] = np.full(len(inputs), wanted, np.int64)
        else:
            labels = np.tile(np.asarray(wanted), (len(inputs), 1))
        return Case(self.subject.operation, self.dtype, inputs, labels)


@dataclass(frozen=True)
class _Piece:
    """Neighbouring magnitudes of a line, with one sign and one target."""

    question: Question
    line: int
    x: Floats
    negative: bool
    target: int

    def inputs(self, places: NDArray[np.intp]) -> Floats:
        row, at = self.question.lines.place(self.line)
        rows = np.tile(row, (places.size, 1))
        rows[:, at] = -self.x[places] if self.negative else self.x[places]
        return rows

    def case(self, places: NDArray[np.intp]) -> Case:
        return self.question.case(self.inputs(places), self.target)

    def asked(self, output: str) -> Asked:
        """What the judge may ask about the elements of one output."""
        classes = 1 if output == "loss" else self.question.lines.classes
        bound = partial(self._bound, output, classes)
        return Asked(
            partial(self._exact, output, classes),
            partial(bound, declared=False),
            partial(bound, declared=True),
        )

    def _exact(self, output: str, classes: int, places: Places) -> tuple[Exact, NDArray[np.bool_]]:
        rows, back = np.unique(places // classes, return_inverse=True)
        found = truth(self.case(rows), self.question.subject.semantics)
        at = (back,) if output == "loss" else (back, places % classes)
        return getattr(found, output).take(at), found.undefined[back]

    def _bound(self, output: str, classes: int, places: Places, *, declared: bool) -> Floats:
        question = self.question
        arithmetic = question.subject.arithmetic.get(question.dtype)
        if arithmetic is None:
            return np.full(places.size, np.inf)
        rows, at = (places, slice(None))
        if classes > 1:
            rows, back = np.unique(places // classes, return_inverse=True)
            at = (back, places % classes)
        used = arithmetic if declared else demanded(arithmetic)
        found = one_bound(self.case(rows), question.subject.semantics, used, output)
        return found.reshape(-1)[at] if classes == 1 else found[at]


@dataclass
class _Graded:
    """What becomes of one output of the rows of a block, in the order of their magnitudes."""

    grade: NDArray[np.uint8]
    ulps: Floats
    bits: NDArray[np.uint32]
    stamp: NDArray[np.uint64]
    answer: NDArray[np.uint8]

    @classmethod
    def empty(cls, rows: int) -> _Graded:
        return cls(
            np.zeros(rows, np.uint8),
            np.zeros(rows),
            np.zeros(rows, np.uint32),
            np.zeros(rows, np.uint64),
            np.zeros(rows, np.uint8),
        )


@dataclass(frozen=True)
class _Block:
    """Neighbouring strata of a line; the rows with a sign come together, in their order.

    Attributes:
        stratum: the first.
        which: the magnitude that is taken of each.
        signs: which of the two are asked: False for +x, True for -x.
    """

    question: Question
    line: int
    stratum: int
    which: Magnitudes
    signs: tuple[bool, ...]

    @property
    def half(self) -> int:
        """Rows of each sign: a power of two, for few shapes; the last one is repeated."""
        return 1 << (self.which.size - 1).bit_length()

    @property
    def layout(self) -> Layout:
        question = self.question
        return Layout(len(self.signs) * self.half, question.lines.classes, len(question.targets))

    def write(self, inputs: NDArray[np.generic]) -> None:
        """Put the bits of all rows in their place."""
        dtype = self.question.dtype
        row, at = self.question.lines.place(self.line)
        if row.size > 1:
            inputs[:] = encode(row, dtype)
        padded = np.resize(self.which, self.half)
        padded[self.which.size :] = self.which[-1]
        for i, negative in enumerate(self.signs):
            part = slice(i * self.half, (i + 1) * self.half)
            inputs[part, at] = patterns.bits(padded, dtype, negative=negative)

    def rows(self, negative: bool, part: slice) -> slice:
        """Where some magnitudes with a sign lie among the rows."""
        start = self.signs.index(negative) * self.half
        return slice(start + part.start, start + part.stop)


Tallies = dict[tuple[int, str], Tally]
"""By the number of the target, and output."""


class Asker:
    """Asks one process's workers, and judges what they answer.

    Attributes:
        clock: what the time was spent on.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.clock = Clock()
        self._pool = pool
        self._lost: Counter[tuple[str, str]] = Counter()
        self._memory: SharedMemory | None = None

    def close(self) -> None:
        """Give back the memory; the pool is the caller's."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def ask(self, question: Question, line: int, strata: tuple[int, int], tallies: Tallies) -> None:
        """Ask for some neighbouring strata of a line, both signs of each, and add up what is seen.

        Args:
            question: what is asked.
            line: the number of the line.
            strata: the first, and the one behind the last.
            tallies: of each target and output.

        Raises:
            Unaskable: the op is not there, or not in this mode.
            UnusableFramework: the framework is not.
        """
        for start in range(strata[0], strata[1], HALF):
            stop = min(start + HALF, strata[1])
            which = patterns.chosen(start, stop, question.stride, question.seed, question.dtype)
            for part, signs in _alike(question, which):
                block = _Block(question, line, start + part.start, which[part], signs)
                self._block(block, tallies)

    def _block(self, block: _Block, tallies: Tallies) -> None:
        ended = self._call(block)
        question = block.question
        keys = [(t, o) for t in range(len(question.targets)) for o in question.outputs]
        graded = {
            (negative, target, output): _Graded.empty(block.which.size)
            for negative in block.signs
            for target, output in keys
        }
        step = max(1, PIECE // question.lines.classes)
        for start in range(0, block.which.size, step):
            part = slice(start, min(start + step, block.which.size))
            self._piece(block, ended, part, graded)
        with self.clock.on("judging"):
            field = patterns.binade(block.which, question.dtype)
            for (negative, target, output), found in graded.items():
                tallies[target, output].add(_row(block, negative, field, found))

    def _call(self, block: _Block) -> list[Ended]:
        question, layout = block.question, block.layout
        if self._memory is None or self._memory.size < layout.size:
            self.close()
            self._memory = SharedMemory(layout.size)
        memory = self._memory
        with self.clock.on("judging"):
            block.write(layout.inputs(memory.map, question.dtype))
        ended = self._pool.ask_block(
            question.subject,
            question.dtype,
            memory,
            layout,
            question.targets,
            min(SLICE, layout.rows),
        )
        self.clock.framework += self._pool.nanoseconds / 1e9
        lost = [end.message for end in ended if end.status in ("crashed", "timed out")]
        if lost:
            asked = question.subject.name, question.dtype
            self._lost[asked] += 1
            if self._lost[asked] == LOST_LIMIT:
                raise Unaskable(f"{asked[0]} was lost {LOST_LIMIT} times: {lost[0]}")
        for end in ended:
            if end.status == "unsupported":
                raise Unaskable(end.message)
            other = {end.loss_dtype, end.gradient_dtype} - {"", question.dtype}
            if other:
                raise Unaskable(
                    f"it answers {question.dtype} in {other.pop()}, which no sweep judges"
                )
        return ended

    def _piece(
        self,
        block: _Block,
        ended: list[Ended],
        part: slice,
        graded: dict[tuple[bool, int, str], _Graded],
    ) -> None:
        question = block.question
        with self.clock.on("reference"):
            x = patterns.numbers(block.which[part], question.dtype)
            semantics = question.subject.semantics
            curve = question.lines.curve(block.line, x, semantics, question.dtype)
        for (negative, target, output), into in graded.items():
            piece = _Piece(question, block.line, x, negative, target)
            if ended[target].status != "returned":
                _lose(piece, ended[target], into, part)
                continue
            with self.clock.on("reference"):
                known, negated = _known(curve, piece, output)
            with self.clock.on("judging"):
                came = self._came(block, ended[target], output, target, part, negative=negative)
                _grade(came, known, piece, output, into, part, negated=negated)

    def _came(
        self,
        block: _Block,
        end: Ended,
        output: str,
        target: int,
        part: slice,
        *,
        negative: bool,
    ) -> tuple[NDArray[np.generic], str]:
        """The bits of one output for some of the rows, and their format."""
        assert self._memory is not None
        rows = block.rows(negative, part)
        if output == "loss":
            array = block.layout.loss(self._memory.map, target, end.loss_dtype)
            return array[rows, None], end.loss_dtype
        array = block.layout.gradient(self._memory.map, target, end.gradient_dtype)
        return array[rows], end.gradient_dtype


def _alike(question: Question, which: Magnitudes) -> list[tuple[slice, tuple[bool, ...]]]:
    """Parts of a block in which an op that looks at its domain refuses all rows or none."""
    span, signs = question.span, (False, True)
    sides = {sign: np.flatnonzero(span.holds(which, negative=sign)) for sign in signs}
    present = tuple(sign for sign in signs if sides[sign].size)
    if not present:  # the number that a stratum gives lies outside of the span
        return []
    same = len(present) == 1 or np.array_equal(sides[False][[0, -1]], sides[True][[0, -1]])
    edges = [patterns.infinity(question.dtype) + 1]
    together = (present,) if same else tuple((sign,) for sign in present)
    if inputs_of(question.subject.operation) != LOGITS:
        edges = [1, patterns.one(question.dtype) + 1, *edges]
        together = tuple((sign,) for sign in present)
    cuts = np.searchsorted(which, edges).tolist()
    found = []
    for some in together:
        first, last = sides[some[0]][[0, -1]].tolist()
        places = sorted({first, last + 1, *(cut for cut in cuts if first < cut <= last)})
        found += [(slice(a, b), some) for a, b in itertools.pairwise(places)]
    return found


def _known(curve: Curve | None, piece: _Piece, output: str) -> tuple[Rounded, bool]:
    """The exact numbers of one output, and whether their negatives are meant."""
    shape = (piece.x.size, 1 if output == "loss" else piece.question.lines.classes)
    if curve is None:
        return unknown(shape), False
    target = piece.question.number(piece.target)
    term = getattr(curve, output)(target, negative=piece.negative)
    return curve.rounded(term), term.negated


def _grade(
    came: tuple[NDArray[np.generic], str],
    known: Rounded,
    piece: _Piece,
    output: str,
    into: _Graded,
    part: slice,
    *,
    negated: bool,
) -> None:
    """Judge some rows; of a row with several entries the worst one counts."""
    bits, dtype = came
    fmt = FORMATS[dtype]
    value = _decoded(bits, dtype).reshape(known.value.shape)
    answer = kinds(value)
    grade, ulps = judged(value, known, piece.asked(output), fmt, negated=negated)
    if bits.shape[1] == 1:
        rows = (slice(None), 0)
        grade, ulps, answer = grade.reshape(-1), ulps.reshape(-1), answer.reshape(-1)
        into.stamp[part] = bits[rows]
    else:
        rows = np.arange(len(bits)), _worst_entry(grade, ulps)
        into.stamp[part] = _stamps(bits)
        grade, ulps, answer = grade[rows], ulps[rows], answer[rows]
    into.grade[part], into.ulps[part] = grade, ulps
    into.bits[part], into.answer[part] = bits[rows], answer


def _stamps(bits: NDArray[np.generic]) -> NDArray[np.uint64]:
    """A number for each row that changes with any entry, and where two entries change places."""
    places = np.arange(bits.shape[1], dtype=np.uint64) << np.uint64(32)
    found = mixed(bits.astype(np.uint64) | places, "entries", bits.shape[1])
    return found.sum(axis=1, dtype=np.uint64)


def _decoded(bits: NDArray[np.generic], dtype: str) -> Floats:
    """As `formats.decode`, without its copies where NumPy has the format."""
    if dtype in NUMPY_TYPES:
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            return bits.view(NUMPY_TYPES[dtype]).astype(np.float64)
    return decode(bits, dtype)


def _worst_entry(grade: NDArray[np.uint8], ulps: Floats) -> NDArray[np.intp]:
    """Of each row the entry with the worst grade, and of equal ones with the largest error."""
    worst = grade == grade.max(axis=1, keepdims=True)
    return np.argmax(np.where(worst, np.nan_to_num(ulps, nan=0.0), -1.0), axis=1)


_NO_BITS = np.uint64(2**64 - 1)
"""What stands for answers that did not come, less their grade: no answer has such bits."""


def _lose(piece: _Piece, end: Ended, into: _Graded, part: slice) -> None:
    """Rows whose call did not return: where mathematics has no value, to raise is no fault."""
    grade = RANK[LOST[end.status]]
    first = piece.case(np.zeros(1, np.intp))
    if end.status == "raised" and truth(first, piece.question.subject.semantics).undefined[0]:
        grade = UNSPECIFIED
    into.grade[part], into.ulps[part], into.answer[part] = grade, np.nan, NOTHING
    into.stamp[part] = _NO_BITS - np.uint64(grade)


def _row(block: _Block, negative: bool, field: NDArray[np.int64], found: _Graded) -> Row:
    return Row(
        block.line,
        block.stratum,
        block.which,
        negative,
        found.grade,
        found.ulps,
        found.bits,
        found.stamp,
        found.answer,
        field,
        np.flatnonzero(found.grade),
    )
