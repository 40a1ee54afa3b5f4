"""What every report of a Sweep needs to know of it: order, sums, and findings in words."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..conformance.run import FINDING_GRADES, GRADES
from ..conformance.sweep import patterns
from ..conformance.sweep.plan import Asking
from ..conformance.sweep.record import Binade, Curve, Run, Sweep
from ..reference.formats import FORMATS, round_to_format
from ..reference.vocabulary import FUNCTIONS
from . import text
from .comparison_digest import DTYPES
from .comparison_views import share

NAMED_SUBJECTS = 3
"""Subjects that a headline names; of more it says how many there are."""

_ANSWERS = {
    "0": "0",
    "a number": "a number",
    "infinite": "infinity",
    "nan": "NaN",
}

_NOTHING = {
    "policy": "an error raised",
    "wrong kind": "another shape",
    "timed out": "no answer in time",
    "crashed": "a dead process",
}
"""What came where no number did, by its grade."""


@dataclass(frozen=True)
class Told:
    """The inputs of a curve with one grade that is a finding.

    Attributes:
        inputs: how many they are.
        number: of their runs.
        listed: the longest of these, longest first.
    """

    grade: str
    inputs: int
    number: int
    listed: tuple[Run, ...]


@dataclass(frozen=True)
class Part:
    """Neighbouring binades of a curve taken together, in the order of the inputs."""

    binades: tuple[Binade, ...]

    @property
    def name(self) -> str:
        first, last = self.binades[0].name, self.binades[-1].name
        return first if first == last else f"{first} … {last}"

    @property
    def inputs(self) -> int:
        return sum(b.inputs for b in self.binades)

    @cached_property
    def grades(self) -> dict[str, int]:
        return added(b.grades for b in self.binades)

    @cached_property
    def worst(self) -> float | None:
        return max((b.worst for b in self.binades if b.worst is not None), default=None)


@dataclass(frozen=True)
class Line:
    """The curves of one subject in one dtype."""

    subject: str
    dtype: str
    curves: tuple[Curve, ...]

    @cached_property
    def grades(self) -> dict[str, int]:
        return added(c.grades for c in self.curves)

    @property
    def worst(self) -> Curve:
        """The worst of its curves."""
        return self.curves[0]

    @property
    def inputs(self) -> int:
        return sum(c.inputs for c in self.curves)


class SweepDigest:
    """A Sweep with the look-ups and sums that its reports share.

    Attributes:
        curves: the worst first; those alone of which every word of `only` is in the label.
    """

    def __init__(self, sweep: Sweep, only: str = "") -> None:
        self.sweep = sweep
        self._functions = {a.subject for a in sweep.job.askings if a.operation in FUNCTIONS}
        words = only.casefold().split()
        found = [c for c in sweep.curves if all(w in self.name(c).casefold() for w in words)]
        self.curves = sorted(found, key=lambda c: (_badness(c), self.name(c)))

    def label(self, curve: Curve) -> str:
        """`saturated-right, varying loss`: what tells curves of one subject and dtype apart."""
        if curve.subject in self._functions:
            return {"loss": "value", "gradient": "derivative"}.get(curve.output, curve.output)
        around = f"{curve.around}, " if curve.around else ""
        return text.one_line(f"{around}{curve.target} {curve.output}", 80)

    def name(self, curve: Curve) -> str:
        """The same with subject and dtype."""
        return f"{text.one_line(curve.subject, 200)} {curve.dtype} {self.label(curve)}"

    @cached_property
    def lines(self) -> list[Line]:
        """By subject and dtype, that with the worst curve first."""
        parts: dict[tuple[str, str], list[Curve]] = defaultdict(list)
        for curve in self.curves:
            parts[curve.subject, curve.dtype].append(curve)
        return [Line(*key, tuple(found)) for key, found in parts.items()]

    @cached_property
    def grades(self) -> dict[str, int]:
        return added(c.grades for c in self.curves)

    @property
    def title(self) -> str:
        """`Sweep of torch:sigmoid[eager,cpu] in float16`."""
        names = list(dict.fromkeys(line.subject for line in self.lines))
        dtypes = " and ".join(dict.fromkeys(line.dtype for line in self.lines))
        if not names:
            return "Sweep without curves"
        few = len(names) <= NAMED_SUBJECTS
        what = ", ".join(names) if few else text.count(len(names), "subject")
        return f"Sweep of {text.one_line(what, 300)} in {dtypes}"

    def verdict(self) -> str:
        """How many answers are findings, of which grades, and the largest error."""
        total = sum(self.grades.values())
        answers = text.count(total, "answer")
        if not total:
            return "Nothing was asked."
        bad = {grade: self.grades[grade] for grade in found_grades(self.grades)}
        if bad:
            counts = ", ".join(f"{grade} {number:,}" for grade, number in bad.items())
            curves = sum(bool(found_grades(c.grades)) for c in self.curves)
            some = f"in {curves:,} of {text.count(len(self.curves), 'curve')}"
            said = f"{sum(bad.values()):,} of {answers} are findings, {some}: {counts}"
        else:
            open_ = sum(self.grades.get(grade, 0) for grade in ("no bound", "unspecified"))
            rest = f"; {open_:,} are neither passed nor failed" if open_ else ""
            said = f"None of {answers} is a finding{rest}"
        worst = self.largest
        return f"{said}. {f'At most {text.ulps_text(ulps_of(worst))}' if worst else 'No error'}."

    @cached_property
    def largest(self) -> Curve | None:
        """The curve with the largest error; None where none has one."""
        return max(
            (c for c in self.curves if ulps_of(c) is not None), key=lambda c: ulps_of(c) or 0.0,
            default=None,
        )  # fmt: skip

    def asked(self) -> str:
        """Which inputs, which targets and what was around them."""
        names = {(line.subject, line.dtype) for line in self.lines}
        askings = [a for a in self.sweep.job.askings if (a.subject, a.dtype) in names]
        parts = (
            dict.fromkeys(map(inputs_text, askings)),
            dict.fromkeys(filter(None, map(targets_text, askings))),
            dict.fromkeys(filter(None, map(around_text, askings))),
        )
        said = "; ".join(" and ".join(part) for part in parts if part)
        return said[:1].upper() + said[1:]

    def versions(self) -> str:
        """Of the packages that were asked."""
        names = {line.subject for line in self.lines}
        found = {
            n: v for s in self.sweep.subjects if s.name in names for n, v in s.versions.items()
        }
        said = [f"{name} {version}" for name, version in found.items()]
        return text.one_line(", ".join([*said, f"lossaudit {self.sweep.lossaudit}"]), 200)

    def cost(self) -> str:
        """Seconds of a processor, and by what."""
        cost = self.sweep.cost
        wall = f", {text.duration(cost.wall)} by the clock" if cost.wall else ""
        parts = (cost.framework, cost.reference, cost.judging)
        names = ("in the framework", "on what is right", "on judging")
        spent = ", ".join(f"{s:.1f} s {name}" for s, name in zip(parts, names, strict=True))
        return f"{cost.values:,} answers took {spent}{wall}"

    def findings(self, curve: Curve) -> list[Told]:
        """The grades of a curve that are findings, worst first."""
        found = []
        for grade in found_grades(curve.grades):
            runs = [r for r in curve.runs if r.grade == grade]
            listed = sorted((r for each in runs for r in each.longest), key=lambda r: -r.inputs)
            number = sum(each.number for each in runs)
            found.append(Told(grade, curve.grades[grade], number, tuple(listed)))
        return found

    def stride(self, curve: Curve) -> int:
        """One of so many neighbours was asked, at most."""
        names = curve.subject, curve.dtype
        found = [a.stride for a in self.sweep.job.askings if (a.subject, a.dtype) == names]
        return max(found, default=1)

    def run_text(self, curve: Curve, run: Run) -> str:
        """`0 from -16.0 down to -103.9, where 1.1e-07 down to 1e-45 is right (9 inputs)`."""
        where, backward = span_text(run, curve.dtype, self.stride(curve))
        lost = _NOTHING.get(run.grade, "no answer")
        what = _ANSWERS.get(run.answer, lost)
        shown = [number(each, curve.dtype) for each in run.right]
        if backward:
            shown.reverse()
        right = ""
        if shown:
            ends = dict.fromkeys(shown)
            right = f", where {' … '.join(ends)} is right"
        around = ""
        if run.around:
            others = ", ".join(number(each, curve.dtype) for each in run.around)
            around = f" beside {text.one_line(others, 80)}"
        inputs = "" if run.inputs == 1 else f" ({text.count(run.inputs, 'input')})"
        return f"{what} {where}{around}{right}{inputs}"


def added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of counts by grade, best grade first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {grade: total[grade] for grade in GRADES if total[grade]}


def found_grades(grades: dict[str, int]) -> list[str]:
    """Those that are findings and occur, worst first."""
    return [grade for grade in reversed(FINDING_GRADES) if grades.get(grade)]


def ulps_of(curve: Curve) -> float | None:
    """The largest error of a curve."""
    return None if curve.worst is None else curve.worst.ulps


def _badness(curve: Curve) -> tuple[int, float, float]:
    """Smaller for a worse curve: by the grade, then by the share of it, then by the error."""
    found = found_grades(curve.grades)
    rank = -GRADES.index(found[0]) if found else 0
    bad = sum(curve.grades[grade] for grade in found) / curve.inputs if curve.inputs else 0.0
    return rank, -bad, -(ulps_of(curve) or 0.0)


def grades_text(grades: dict[str, int], total: int) -> str:
    """`exact 77 %, faithful 16 %, precision 2,950`: findings are counted, others are shares."""
    return ", ".join(
        f"{grade} {n:,}" if grade in FINDING_GRADES else f"{grade} {share(n, total)}"
        for grade, n in grades.items()
    )


def worst_text(curve: Curve) -> str:
    """`2,047 ulps at -7.625: 0, right 0.000488`, or that there is none."""
    worst = curve.worst
    if worst is None:
        return "no error to measure"
    value, right = (number(each, curve.dtype) for each in (worst.value, worst.right))
    said = f"{text.ulps_text(worst.ulps)} at {number(worst.input, curve.dtype)}: {value}"
    return said if value == right else f"{said}, right {right}"


def span_text(run: Run, dtype: str, stride: int) -> tuple[str, bool]:
    """Where a run is, from small magnitudes to great ones, and whether that is from last to first.

    NaN stand at both ends of a format, those with a sign at the lower one.
    """
    first, last = run.first, run.last
    if first == last == "nan":
        nans = patterns.magnitudes(dtype) - patterns.infinity(dtype) - 1
        # Strata at the ends may reach past them. A longer run has all that lies between.
        one_side = run.inputs <= -(-nans // stride) + 1
        return ("at NaN" if one_side else "everywhere"), False
    if run.inputs == 1:
        return f"at {number(last, dtype)}", False
    if last.startswith("-"):
        end = "NaN" if first == "nan" else number(first, dtype)
        return f"from {number(last, dtype)} down to {end}", True
    low = "-NaN" if first == "nan" else number(first, dtype)
    return f"from {low} to {'NaN' if last == 'nan' else number(last, dtype)}", False


@lru_cache(maxsize=4096)
def number(shown: str, dtype: str) -> str:
    """The shortest text that names the same number of the format; of NaN, 'NaN'."""
    value = text.as_float(shown)
    if value is None:
        return text.one_line(shown, 40)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value) or dtype not in FORMATS:
        return f"{value:g}"
    for digits in range(4, 18):
        short = float(f"{value:.{digits}g}")
        if float(round_to_format(short, FORMATS[dtype])) == value:
            return f"{short:.{max(digits, 6)}g}"
    return shown


def inputs_text(asking: Asking) -> str:
    """Which inputs were asked."""
    count = patterns.magnitudes(asking.dtype)
    low, high = asking.span
    which = "every number" if asking.stride == 1 else f"one of every {asking.stride:,} numbers"
    seed = "" if asking.stride == 1 else f" (seed {asking.seed})"
    if (low, high) == (-count, count - 1):
        return f"{which} of {asking.dtype}{seed}"
    ends = (number(patterns.key_text(key, asking.dtype), asking.dtype) for key in (low, high))
    return f"{which} of {asking.dtype} from {' to '.join(ends)}{seed}"


def targets_text(asking: Asking) -> str:
    """Which targets, where these are numbers."""
    shown = [f"{t[0]:g}" for t in asking.targets if isinstance(t, list) and len(t) == 1]
    if not shown or asking.operation in FUNCTIONS:
        return ""
    return f"targets {', '.join(shown)}" if len(shown) > 1 else f"target {shown[0]}"


def around_text(asking: Asking) -> str:
    """What was around the input that varied."""
    around = asking.around
    if around.kind == "pairs":
        few = "every number" if around.stride == 1 else f"one of every {around.stride:,} numbers"
        return f"beside {few} as the other of two logits"
    if around.kind == "regions":
        return f"one of {around.classes} logits varies, the others stay: a line for each region"
    return ""


def parts(binades: Sequence[Binade], limit: int) -> list[Part]:
    """At most so many parts of neighbouring binades: those that are most alike are joined first.

    Those that are quite alike are in any case.
    """
    found = [Part((b,)) for b in binades]
    apart = [_apart(a, b) for a, b in itertools.pairwise(found)]
    while apart:
        at = min(range(len(apart)), key=apart.__getitem__)
        if apart[at] and len(found) <= limit:
            break
        found[at : at + 2] = [Part(found[at].binades + found[at + 1].binades)]
        del apart[at]
        for i in (at - 1, at):
            if 0 <= i < len(apart):
                apart[i] = _apart(found[i], found[i + 1])
    return found


def _apart(left: Part, right: Part) -> float:
    """How much is lost where two parts become one: a finding above all, then shares and errors."""
    a, b = (_shares(part) for part in (left, right))
    moved = sum(abs(a.get(grade, 0.0) - b.get(grade, 0.0)) for grade in {*a, *b})
    sides = [found_grades(part.grades)[:1] for part in (left, right)]
    ulps = [math.log2(max(part.worst or 0.0, 0.5)) for part in (left, right)]
    # Another worst grade outweighs all shares (2 at most) and the binades of any error (127).
    return 1000.0 * (sides[0] != sides[1]) + moved + abs(ulps[0] - ulps[1])


def _shares(part: Part) -> dict[str, float]:
    total = part.inputs
    return {grade: n / total for grade, n in part.grades.items()} if total else {}


def short_subject(subject: str) -> str:
    """A subject without the device where that is the common one."""
    return text.one_line(subject, 120).replace(",cpu]", "]")


def short_dtype(dtype: str) -> str:
    return DTYPES.get(dtype, text.one_line(dtype, 12))


def told_of(digest: SweepDigest, curve: Curve, limit: int) -> Iterator[tuple[Told, list[str], int]]:
    """Each grade that is a finding, its longest runs in words, and how many more there are."""
    for told in digest.findings(curve):
        said = [digest.run_text(curve, run) for run in told.listed[:limit]]
        yield told, said, told.number - len(said)
