"""The file of a finished sweep, and how it follows from what the chunks have seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import msgspec
import numpy as np
from msgspec.structs import replace

from ...reference.exact import round_exact, ulp_error
from ...reference.formats import FORMATS, decode
from ...reference.rows import truth
from ..run import FINDING_GRADES, GRADES, RunFileError, read_json, write_json
from . import patterns
from .block import Question
from .chunk import Done
from .engine import SweepError
from .plan import Asking, Job
from .tally import ANSWERS, EDGES, Bin, Point, Seen, Stretch, closed, merged, worst_first

FORMAT = 1
"""Version of the file. Raised when a field changes its meaning; older files are refused."""

REMEDY = "Make it anew with `lossaudit sweep ... --out FILE`."


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """An input, what came for it, what is right, and the error in ulps by the exact tier.

    Attributes:
        input: the number that varies.
        value, right: text that reads back; of a gradient with several entries the worst one.
        ulps: None where one of them is not finite.
        around: the other inputs of the row, for lines without names.
    """

    input: str
    value: str
    right: str
    ulps: float | None
    around: list[str] = []


class Binade(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of one sign with one exponent.

    Attributes:
        name: '-2^3' for inputs in (-16, -8]; 'subnormal' has zero, 'special' infinity and NaN.
        inputs: how many were asked.
        grades: how many have each grade; grades without inputs are left out.
        errors: how many err by up to each of `Sweep.edges` ulps, and beyond; some answers have no
            error (NaN, an infinity, a lost call).
        worst: the largest error, in ulps; None where there is none (NaN).
        digest: of all answers: another one is sure to be of other answers.
    """

    name: str
    inputs: int
    grades: dict[str, int]
    errors: list[int]
    worst: float | None
    digest: str


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Neighbours that have one grade and one kind of answer, and none beside them that have it.

    Attributes:
        right: what is right for the first and for the last, where the grade is a finding and the
            output is one number that mathematics gives.
        around: the other inputs of the row, for lines without names; of findings alone.
    """

    grade: str
    answer: str
    first: str
    last: str
    inputs: int
    right: list[str] = []
    around: list[str] = []


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs there are of a grade and a kind of answer, and the longest of them."""

    grade: str
    answer: str
    number: int
    longest: list[Run]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a subject for one target, over all inputs.

    Attributes:
        subject: its name; `Sweep.subjects` has more of it.
        dtype: the format of the inputs.
        around: name of the line: the region that the other logits are of; "" where there is none.
        target: '0', '0.5', or the label: 'varying' or 'another'.
        output: 'loss' or 'gradient'; of a function its value and its derivative.
        inputs: how many were asked.
        grades: how many have each grade.
        worst: the input with the largest error; None where no answer has one.
        binades: in the order of the inputs.
        runs: by grade and answer; only of one line are neighbours known.
        digest: of all answers.
    """

    subject: str
    dtype: str
    around: str
    target: str
    output: str
    inputs: int
    grades: dict[str, int]
    worst: Worst | None
    binades: list[Binade]
    runs: list[Runs]
    digest: str


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """A subject as it was swept."""

    name: str
    framework: str
    op: str
    operation: str
    mode: str
    dtype: str
    arithmetic: str
    versions: dict[str, str]
    facts: dict[str, str]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep took, over all processes.

    Attributes:
        values: elements that were judged.
        framework, reference, judging: seconds of a processor.
        chunks: seconds from beginning to end of each chunk, added up.
        wall: seconds that the sweep took by the clock, over all its starts; 0 where unknown.
        jobs: processes side by side; 0 where unknown.
    """

    values: int
    framework: float
    reference: float
    judging: float
    chunks: float
    wall: float = 0.0
    jobs: int = 0


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """A finished sweep.

    Attributes:
        sweep: the format of the file.
        lossaudit: the version that made it.
        job: what was asked.
        edges: upper ends of the classes of errors, in ulps; one more class is beyond.
    """

    sweep: int = FORMAT
    lossaudit: str
    job: Job
    subjects: list[Swept]
    curves: list[Curve]
    edges: list[float]
    cost: Cost


def finished(job: Job, chunks: Iterable[Done], wall: float = 0.0, jobs: int = 0) -> Sweep:
    """The record of a sweep from all of its chunks.

    Args:
        job: of the chunks.
        chunks: in any order.
        wall: seconds by the clock.
        jobs: processes side by side.

    Raises:
        SweepError: chunks are missing.
    """
    joined = _Whole(job)
    for done in chunks:
        joined.add(done)
    found = joined.record()
    return replace(found, cost=replace(found.cost, wall=wall, jobs=jobs))


class _Whole:
    """Joins chunks as they come."""

    def __init__(self, job: Job) -> None:
        job.demand_here()
        self._job, self._chunks = job, job.chunks()
        self._questions = [asking.question(job.interpreter) for asking in job.askings]
        self._seen: dict[tuple[int, str, int, str], Seen] = {}
        self._first: dict[tuple[int, str, int, str], tuple[int, int]] = {}
        self._done: dict[int, Done] = {}

    def add(self, done: Done) -> None:
        if done.number in self._done:
            return
        asking = self._chunks[done.number].asking
        ends = self._job.askings[asking].ends()
        for i, told in enumerate(done.told):
            key = (asking, told.name, told.target, told.output)
            place = (done.number, i)
            self._first[key] = min(self._first.get(key, place), place)
            self._seen[key] = merged(self._seen.get(key, Seen()), told.seen, ends)
        self._done[done.number] = replace(done, told=[])

    def record(self) -> Sweep:
        missing = [n for n in range(len(self._chunks)) if n not in self._done]
        if missing:
            raise SweepError(
                f"{len(missing)} of {len(self._chunks)} chunks are missing; the first: {missing[0]}"
            )
        curves = [
            _curve(self._questions[key[0]], self._job.askings[key[0]], *key[1:], self._seen[key])
            for key in sorted(self._seen, key=self._first.__getitem__)
        ]
        if not sum(curve.inputs for curve in curves):
            raise SweepError(
                "nothing was asked: of the range the stride takes no number; ask for a smaller one"
            )
        cost = [(d.framework, d.reference, d.judging, d.seconds) for d in self._done.values()]
        return Sweep(
            lossaudit=self._job.lossaudit,
            job=self._job,
            subjects=[self._subject(i) for i in range(len(self._job.askings))],
            curves=curves,
            edges=list(EDGES),
            cost=Cost(
                values=sum(curve.inputs for curve in curves),
                **{
                    name: sum(values)
                    for name, values in zip(
                        ("framework", "reference", "judging", "chunks"),
                        zip(*cost, strict=True),
                        strict=True,
                    )
                },
            ),
        )

    def _subject(self, i: int) -> Swept:
        asking = self._job.askings[i]
        done = [d for n, d in sorted(self._done.items()) if self._chunks[n].asking == i]
        subject = self._questions[i].subject
        arithmetic = subject.arithmetic.get(asking.dtype)
        return Swept(
            name=subject.name,
            framework=subject.home,
            op=subject.op,
            operation=subject.operation,
            mode=subject.mode,
            dtype=asking.dtype,
            arithmetic="none declared: no bound" if arithmetic is None else arithmetic.origin,
            versions=done[0].versions,
            facts=_facts([d.facts for d in done]),
        )


def _facts(found: list[dict[str, str]]) -> dict[str, str]:
    """What holds of all machines that took part; where they differ, all that holds of some."""
    names = dict.fromkeys(name for facts in found for name in facts)
    return {name: " or ".join(sorted({facts.get(name, "") for facts in found})) for name in names}


def _curve(
    question: Question, asking: Asking, name: str, target: int, output: str, so_far: Seen
) -> Curve:
    seen = closed(so_far)
    bins = [seen.bins[field] for field in sorted(seen.bins)]
    grades = [sum(b.grades[i] for b in bins) for i in range(len(GRADES))]
    worst = [b.worst for b in bins if b.worst is not None]
    point = min(worst, key=worst_first, default=None)
    return Curve(
        subject=asking.subject,
        dtype=asking.dtype,
        around=name,
        target=_target_text(asking, target),
        output=output,
        inputs=sum(grades),
        grades=_graded(grades),
        worst=None if point is None else _worst(question, asking, target, output, point),
        binades=[_binade(field, seen.bins[field], asking.dtype) for field in sorted(seen.bins)],
        runs=list(_runs(seen, _Told(question, target, output))),
        digest=f"{sum(b.digest for b in bins) % 2**64:016x}",
    )


def _graded(counts: Iterable[int]) -> dict[str, int]:
    return {name: int(n) for name, n in zip(GRADES, counts, strict=True) if n}


def _target_text(asking: Asking, target: int) -> str:
    wanted = asking.targets[target]
    if isinstance(wanted, list) and len(wanted) == 1:
        short = f"{wanted[0]:g}"
        return short if float(short) == wanted[0] else repr(wanted[0])
    label = wanted if isinstance(wanted, int) else wanted.index(1.0)
    return "varying" if label == 0 else "another"


def _binade(field: int, found: Bin, dtype: str) -> Binade:
    name = patterns.binade_name(field if field >= 0 else -1 - field, dtype)
    ulps = None if found.worst is None else found.worst.ulps
    return Binade(
        name=name if field >= 0 else f"-{name}",
        inputs=sum(found.grades),
        grades=_graded(found.grades),
        errors=found.errors,
        worst=ulps,
        digest=f"{found.digest:016x}",
    )


def _worst(question: Question, asking: Asking, target: int, output: str, point: Point) -> Worst:
    """The worst input, its error computed again by the exact tier."""
    x = float(patterns.key_text(point.key, asking.dtype))
    row, at = question.lines.place(point.line)
    inputs = np.array(row)
    inputs[at] = x
    found = truth(question.case(inputs[None], target), question.subject.semantics)
    exact = found.loss if output == "loss" else found.gradient.reshape(-1)
    dtype = asking.dtype
    value = decode(np.array([point.bits]), dtype)
    ulps = ulp_error(np.broadcast_to(value, exact.shape), exact, FORMATS[dtype])
    # Of the entries of a gradient, the one whose error was seen.
    entry = int(np.nanargmin(np.abs(ulps - point.ulps))) if np.isfinite(point.ulps) else 0
    others = [] if len(row) == 1 or question.lines.name(point.line) else inputs.tolist()
    finite = bool(np.isfinite(ulps[entry]))
    return Worst(
        input=repr(x),
        value=repr(float(value[0])),
        right=repr(float(round_exact(exact, FORMATS[dtype])[entry])),
        ulps=float(ulps[entry]) if finite else None,
        around=[repr(other) for other in others],
    )


@dataclass(frozen=True)
class _Told:
    """How runs of one output for one target are told."""

    question: Question
    target: int
    output: str

    def runs(self, found: list[Stretch]) -> list[Run]:
        """All of one grade and one kind of answer."""
        if not found or GRADES[found[0].state // len(ANSWERS)] not in FINDING_GRADES:
            return [self._run(stretch) for stretch in found]
        rights = [[]] * len(found)
        if self.output == "loss" or self.question.lines.classes == 1:
            rights = self._rights(found)
        return [
            msgspec.structs.replace(self._run(stretch), right=right, around=self._around(stretch))
            for stretch, right in zip(found, rights, strict=True)
        ]

    def _run(self, found: Stretch) -> Run:
        grade, answer = divmod(found.state, len(ANSWERS))
        dtype = self.question.dtype
        return Run(
            grade=GRADES[grade],
            answer=ANSWERS[answer],
            first=patterns.key_text(found.first, dtype),
            last=patterns.key_text(found.last, dtype),
            inputs=found.count,
        )

    def _rights(self, found: list[Stretch]) -> list[list[str]]:
        """What is right at both ends of each; none where there is none at one of them."""
        question, rows = self.question, []
        for stretch in found:
            for key in (stretch.first, stretch.last):
                row, at = question.lines.place(stretch.line)
                rows.append(np.array(row))
                rows[-1][at] = float(patterns.key_text(key, question.dtype))
        exact = truth(question.case(np.array(rows), self.target), question.subject.semantics)
        output = exact.loss if self.output == "loss" else exact.gradient.reshape(-1)
        right = round_exact(output, FORMATS[question.dtype]).reshape(-1, 2).tolist()
        undefined = exact.undefined.reshape(-1, 2).tolist()
        return [
            [] if any(none) else [repr(value) for value in ends]
            for ends, none in zip(right, undefined, strict=True)
        ]

    def _around(self, found: Stretch) -> list[str]:
        lines = self.question.lines
        row, at = lines.place(found.line)
        if lines.name(found.line):
            return []
        return [repr(other) for k, other in enumerate(row.tolist()) if k != at]


def _runs(seen: Seen, told: _Told) -> Iterator[Runs]:
    for state in sorted(seen.number):
        grade, answer = divmod(state, len(ANSWERS))
        yield Runs(
            grade=GRADES[grade],
            answer=ANSWERS[answer],
            number=seen.number[state],
            longest=told.runs(seen.longest.get(state, [])),
        )


def write_sweep(sweep: Sweep, path: Path) -> None:
    """Write atomically; small where the path ends in ".gz"."""
    write_json(sweep, path)


def read_sweep(path: Path) -> Sweep:
    """Read and check the file of a finished sweep.

    Raises:
        RunFileError: the file is missing, truncated, of another format, or no sweep.
    """
    return sweep_of(read_json(path, REMEDY), path)


def is_sweep(head: object) -> TypeGuard[dict[str, object]]:
    """Whether what a file holds is a finished sweep."""
    return isinstance(head, dict) and "sweep" in head and "curves" in head


def sweep_of(head: object, path: Path) -> Sweep:
    """The sweep in what a file holds; see `read_sweep`."""
    if not is_sweep(head):
        raise RunFileError(f"{path} is JSON, but no finished sweep of lossaudit. {REMEDY}")
    if head["sweep"] != FORMAT:
        raise RunFileError(
            f"{path} has sweep format {head['sweep']!r}, this lossaudit reads {FORMAT}. {REMEDY}"
        )
    try:
        return msgspec.convert(head, Sweep)
    except msgspec.ValidationError as error:
        raise RunFileError(f"{path} is damaged: {error}") from error
