"""What a sweep asks, as data that another process or machine can be given, cut into chunks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ... import __version__
from ...adapters.blocks import Target
from ...adapters.modules import from_path
from ...adapters.registry import FRAMEWORKS
from ...adapters.subject import COMPILED, Subject
from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import FUNCTIONS, OPERATIONS
from .. import asked
from .block import HALF, Question
from .lines import ELEMENTWISE, Alone, Lines, Pairs, regional
from .patterns import WIDTHS, Span, infinity, magnitudes, span, whole

EVERY = "elementwise"
"""What is asked for in place of an operation for all element-wise subjects."""

ANY = "every"
"""What is asked for in place of a mode for all that can be swept."""

FORMAT = "lossaudit-sweep-1"
"""What the files of a sweep begin with; raised when a field changes its meaning."""

CHUNKS = 512
"""Chunks that a long line is cut into: so much of it is lost where a machine dies."""

LINES = 128
"""Lines of a chunk where there are many short ones: 2^23 of the 2^32 pairs of a 16-bit format."""

MODES = ("eager", *COMPILED)
"""Those that a sweep can be asked for: the others map or differentiate an op in another way, row by
row or with a float32 result."""


@cache
def code() -> str:
    """A digest of lossaudit's own files."""
    return asked.code()


class CannotSweep(Exception):
    """A sweep that cannot be asked for; the text says why, and what can."""


class Around(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is around the input that varies: see `lines`."""

    kind: Literal["alone", "regions", "pairs"]
    classes: int = 1
    stride: int = 1
    seed: int = 0


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """One subject in one dtype.

    Attributes:
        subject: its name.
        targets: as `adapters.blocks.Target`.
        around: the lines.
        span: the least and the greatest key (`patterns`).
        stride, seed: of the input that varies.
    """

    framework: str
    subject: str
    operation: str
    dtype: str
    targets: list[int | list[float]]
    around: Around
    span: tuple[int, int]
    stride: int
    seed: int

    def lines(self) -> Lines:
        around = self.around
        if around.kind == "alone":
            return Alone(self.operation)
        if around.kind == "pairs":
            return Pairs(self.dtype, around.stride, around.seed)
        return regional(self.operation, self.dtype, around.classes)

    def question(self, python: str = sys.executable) -> Question:
        """What is asked, with the subject as it is in an interpreter.

        Raises:
            CannotSweep: there is no such subject.
        """
        every = swept(self.framework, python)
        subject = next((s for s in every if s.name == self.subject), None)
        if subject is None:
            raise CannotSweep(f"this lossaudit has no subject {self.subject!r}")
        targets: tuple[Target, ...] = tuple(
            t if isinstance(t, int) else tuple(t) for t in self.targets
        )
        return Question(
            subject, self.dtype, self.lines(), targets, Span(*self.span), self.stride, self.seed
        )

    def strata(self) -> tuple[int, int]:
        """The first stratum, and the one behind the last."""
        return Span(*self.span).strata(self.stride)

    def ends(self) -> tuple[int, int]:
        """The places at which a line begins and ends (`tally.merged`)."""
        begin, end = (
            key // self.stride if key >= 0 else -1 - (-1 - key) // self.stride for key in self.span
        )
        return begin, end


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Some lines of one asking, and some strata of each; what is done or lost together."""

    asking: int
    first_line: int
    last_line: int
    first: int
    last: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep: what every machine that takes part must agree on.

    Attributes:
        lossaudit: the version that made it.
        code: a digest of its files: all who take part must have the same.
        adapters: paths of files that declare subjects.
        python: the interpreter that has the frameworks; "" for lossaudit's own.
        chunk: strata of a chunk, or 0 for the usual number. The result does not depend on it.
    """

    format: str = FORMAT
    lossaudit: str = __version__
    code: str = msgspec.field(default_factory=code)
    adapters: list[str] = []
    python: str = ""
    askings: list[Asking]
    chunk: int = 0

    def demand_here(self) -> None:
        """Know the frameworks of the job in this process.

        Raises:
            CannotSweep: this lossaudit is not the one that made the job.
        """
        if self.code != code():
            raise CannotSweep(
                f"this sweep was begun by lossaudit {self.lossaudit} with other code than the "
                f"{__version__} that is here: all who take part must have the same"
            )
        for path in map(Path, self.adapters):
            if path.stem not in FRAMEWORKS:
                FRAMEWORKS.add(from_path(path, [self.interpreter]))

    @property
    def interpreter(self) -> str:
        return self.python or sys.executable

    def chunks(self) -> list[Chunk]:
        """All of them, in their order; those of the last job are kept, for there are thousands."""
        if not _CHUNKS or _CHUNKS[0][0] != self:
            every = [chunk for i in range(len(self.askings)) for chunk in self._chunks(i)]
            _CHUNKS[:] = [(self, every)]
        return _CHUNKS[0][1]

    def _chunks(self, i: int) -> Iterable[Chunk]:
        asking = self.askings[i]
        first, last = asking.strata()
        size = self.chunk or _usual(last - first)
        count = asking.lines().count
        step = LINES if asking.around.kind == "pairs" else 1
        for line in range(0, count, step):
            for start in range(first, last, size):
                stop = min(start + size, last)
                yield Chunk(i, line, min(line + step, count), start, stop)


_CHUNKS: list[tuple[Job, list[Chunk]]] = []
"""The last job that was cut into chunks, and these."""


def _usual(strata: int) -> int:
    """Whole blocks, about CHUNKS of which make a line."""
    return max(HALF, -(-strata // (CHUNKS * HALF)) * HALF)


def swept(framework: str, python: str = sys.executable) -> tuple[Subject, ...]:
    """The subjects of a framework that a sweep can ask, functions among them."""
    found = FRAMEWORKS[framework]
    found = found.placed(found, python)
    return tuple(
        s
        for s in (*found.subjects, *found.functions)
        if s.mode in MODES and not s.misuse and s.operation in (*ELEMENTWISE, "cross_entropy")
    )


def subjects_of(
    framework: str, operation: str, mode: str, python: str = sys.executable
) -> list[Subject]:
    """All element-wise subjects in a mode for EVERY; else the op of that name, or the operation's.

    Of several ops of an operation the first is taken: the framework's own, since those that users
    compose are declared behind it.

    Raises:
        CannotSweep: there is none; the text lists those that there are.
    """
    if operation == EVERY:
        every = swept(framework, python)
        return [s for s in every if mode in (s.mode, ANY) and s.operation in ELEMENTWISE]
    return [subject_of(framework, operation, mode, python)]


def subject_of(framework: str, operation: str, mode: str, python: str = sys.executable) -> Subject:
    """See `subjects_of`."""
    every = swept(framework, python)
    if operation not in OPERATIONS and operation not in FUNCTIONS:
        named = [s for s in every if s.op == operation]
        if not named:
            known = ", ".join([*ELEMENTWISE, "cross_entropy"])
            raise CannotSweep(
                f"{operation!r} is no operation that can be swept, and no op of {framework}. "
                f"Operations: {known}. Ops of {framework}: {', '.join(_ops(every))}."
            )
        chosen = named
    else:
        chosen = [s for s in every if s.operation == operation]
    if not chosen:
        known = ", ".join(dict.fromkeys(s.operation for s in every)) or "none"
        raise CannotSweep(f"{framework} has no {operation} that can be swept, but: {known}.")
    found = next((s for s in chosen if s.mode == mode), None)
    if found is None:
        modes = ", ".join(dict.fromkeys(s.mode for s in chosen))
        raise CannotSweep(
            f"{framework} has no {operation} in mode {mode!r} that can be swept, but in: {modes}."
        )
    return found


def planned(
    frameworks: Iterable[str],
    operation: str,
    dtypes: Sequence[str],
    inputs: Inputs,
    *,
    mode: str = "eager",
    python: str = sys.executable,
) -> list[Asking]:
    """What is asked of frameworks: for EVERY what each subject has of the formats.

    Args:
        frameworks: their names.
        operation: see `subjects_of`.
        dtypes: formats narrower than float64.
        inputs: what they are asked with.
        mode: one of MODES, or ANY of them for EVERY.
        python: the interpreter that has the frameworks.

    Raises:
        CannotSweep: see `subjects_of` and `asking`.
    """
    found: list[Asking] = []
    for framework in frameworks:
        for subject in subjects_of(framework, operation, mode, python):
            wanted = [d for d in dtypes if d in subject.dtypes or operation != EVERY]
            found += [asking(subject, dtype, inputs) for dtype in wanted]
    if not found:
        what = f"mode {mode!r} in {' or '.join(dtypes)}"
        raise CannotSweep(f"no element-wise subject of {', '.join(frameworks)} has {what}")
    return found


def has(framework: str, operation: str, python: str = sys.executable) -> bool:
    """Whether a framework has an operation, or an op of that name, that can be swept."""
    every = swept(framework, python)
    return any(operation in (EVERY, s.operation, s.op) for s in every)


def _ops(subjects: Sequence[Subject]) -> list[str]:
    return list(dict.fromkeys(s.op for s in subjects))


@dataclass(frozen=True)
class Inputs:
    """What subjects are asked with.

    Attributes:
        targets: binary targets in [0, 1], or labels: 0 of the logit that varies, 1 of the next one.
        span: the inputs, as `patterns.span` reads them; "" for all.
        stride: one input of so many.
        seed: for which one that is.
        pairs: for a cross-entropy of two classes, one of so many patterns of the other logit; None
            for a line in each region.
        classes: of those.
    """

    targets: tuple[float, ...] = (0.0, 1.0)
    span: str = ""
    stride: int = 1
    seed: int = 0
    pairs: int | None = None
    classes: int = 8


def asking(subject: Subject, dtype: str, inputs: Inputs) -> Asking:
    """What is asked of a subject in one of its formats.

    Raises:
        CannotSweep: the subject has no such format, or there is no such target or span.
    """
    if dtype not in WIDTHS:
        raise CannotSweep(f"{dtype!r} cannot be swept; formats that can: {', '.join(WIDTHS)}")
    if dtype not in subject.dtypes:
        raise CannotSweep(
            f"{subject.name} is not audited in {dtype}, but in {', '.join(subject.dtypes)}"
        )
    wanted = (0.0,) if subject.operation in FUNCTIONS else inputs.targets
    # Targets are numbers of the format too: two may be one there.
    rounded = round_to_format(np.array(wanted), FORMATS[dtype]).tolist()
    wanted = tuple(dict.fromkeys(rounded)) if subject.target == "binary" else wanted
    if inputs.stride > infinity(dtype):
        raise CannotSweep(f"a stride of {inputs.stride} takes no number of {dtype} but zero")
    around = Around(kind="alone")
    if subject.operation == "cross_entropy":
        around = Around(kind="regions", classes=inputs.classes)
        if inputs.pairs is not None:
            around = Around(kind="pairs", classes=2, stride=inputs.pairs, seed=inputs.seed)
            if magnitudes(dtype) > HALF:
                raise CannotSweep(f"{dtype} has too many pairs: only 16-bit formats are swept so")
    try:
        keys = span(inputs.span, dtype) if inputs.span else whole(dtype)
    except ValueError as error:
        raise CannotSweep(str(error)) from error
    return Asking(
        framework=subject.framework,
        subject=subject.name,
        operation=subject.operation,
        dtype=dtype,
        targets=[_target(subject, t, around.classes) for t in wanted],
        around=around,
        span=(keys.low, keys.high),
        stride=inputs.stride,
        seed=inputs.seed,
    )


def _target(subject: Subject, wanted: float, classes: int) -> int | list[float]:
    if subject.target == "binary":
        if "focal" in subject.operation and wanted not in (0.0, 1.0):
            raise CannotSweep(f"a target of {wanted!r}: of a focal loss it is 0 or 1")
        if not 0.0 <= wanted <= 1.0:
            raise CannotSweep(f"a target of {wanted!r}: binary targets lie in [0, 1]")
        return [wanted]
    if wanted not in (0.0, 1.0):
        raise CannotSweep(
            f"a target of {wanted!r}: of a cross-entropy it is 0, the label of the logit that "
            "varies, or 1, that of another one"
        )
    label = int(wanted)
    return label if subject.target == "index" else [float(k == label) for k in range(classes)]
