"""The findings of a run by class and cause: what is wrong, where, and its smallest input."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..conformance.engine import CONVENTIONS
from ..conformance.run import Finding, Run, unpacked
from . import text
from .digest import Digest, came, case_text
from .markdown import escaped

CLASSES = {
    "non-finite": "NaN or infinity where there is a number, or a number where there is none",
    "gradient": "a finite gradient outside the declared bound, or 0 where the right one is not",
    "convention": "means something else by the call than it declares: a formula, a denominator",
    "policy": "raises for what it declares to take, or takes what it declares to refuse",
    "mode": "does another thing compiled, mapped or differentiated otherwise than called plainly",
    "precision": "a finite number with fewer right digits than the same precision allows",
}
"""In the order of reports."""

MODES = ("modes-agree",)
"""Laws that compare the modes of one op."""

MEANINGS = (
    "smoothing-convention",
    "single-softmax",
    "ignored-rows",
    "ignored-label-has-no-name",
    "reductions-match-rows",
    "dtype-as-declared",
)
"""Laws about what a call means; a finite deviation from them is none of digits."""

DOMAINS = ("label_policy", "target_domain", "smoothing_domain", "ignore_domain", "broadcasting")
"""Conventions about what is refused."""

SMALL = 3
"""Rows and classes beyond which an input is not small."""

_NUMBER = re.compile(r"-?\b(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf)\b")
_NUMBERS = re.compile(r"\[?#(?:, #)*(?:, \.\.\.)?\]?")


def class_of(finding: Finding) -> str:
    """The class of a finding, of its law, output and kind; the first of these that fits.

    - mode: found by a law that compares the modes of an op, whatever they differ in.
    - policy: the call did not return, or the probe found a domain that is not as declared.
    - convention: the probe found another convention, or a law about meanings fails on numbers.
    - non-finite: of the wrong kind, and one of what came and what is right is NaN or infinite.
    - gradient: of a gradient, and outside the declared bound or of the wrong kind (0 and not 0).
    - precision: all else, a number with too few right digits.
    """
    if finding.law in MODES:
        return "mode"
    if finding.law == CONVENTIONS.name:
        return "policy" if finding.output in DOMAINS else "convention"
    if finding.kind in ("policy", "crashed", "timed out"):
        return "policy"
    if finding.kind == "wrong kind" and not _finite(finding):
        return "non-finite"
    if finding.law in MEANINGS:
        return "convention"
    if finding.output == "gradient" and finding.kind in ("violates", "wrong kind"):
        return "gradient"
    return "precision"


def _finite(finding: Finding) -> bool:
    """Whether neither what came nor what is right holds NaN or infinity."""
    texts = {value.partition("*")[0] for value in (*finding.value, *finding.right)}
    return not {"nan", "inf", "-inf"} & texts


@dataclass(frozen=True)
class Cause:
    """Findings of one class that a known entry has, or one law in one way of one framework."""

    category: str
    name: str
    new: bool
    findings: tuple[Finding, ...]

    @cached_property
    def smallest(self) -> Finding:
        """The finding with the smallest input."""
        return min(self.findings, key=_size)

    @property
    def small(self) -> bool:
        """Whether that has at most three rows of at most three numbers."""
        rows, numbers, *_ = _size(self.smallest)
        return rows <= SMALL and numbers <= SMALL

    @property
    def laws(self) -> list[str]:
        return sorted({f.law for f in self.findings})

    @property
    def regions(self) -> list[str]:
        return sorted({f.region for f in self.findings})

    @property
    def dtypes(self) -> list[str]:
        return sorted({f.dtype for f in self.findings})

    @property
    def subjects(self) -> list[str]:
        """`torch: cross_entropy.index, nll_loss`, a text for each framework."""
        ops: dict[str, dict[str, None]] = defaultdict(dict)
        for name in sorted({f.subject for f in self.findings}):
            framework, _, rest = name.partition(":")
            ops[framework][rest.partition("[")[0]] = None
        return [f"{framework}: {_some(list(found))}" for framework, found in ops.items()]

    @property
    def cause(self) -> str:
        return next((f.cause for f in self.findings if f.cause), "")

    @property
    def link(self) -> str:
        return next((f.link for f in self.findings if f.link), "")

    @property
    def shown(self) -> str:
        """The smallest input and what came of it."""
        case, row = self.smallest.case, self.smallest.row
        rows = range(len(case.inputs)) if 1 < len(case.inputs) <= SMALL else [row]
        call = " and ".join(case_text(case, one) for one in rows)
        more = f" (row {row} of {len(case.inputs)})" if len(case.inputs) > SMALL else ""
        return f"{self.smallest.dtype} {call}{more} -> {came(self.smallest)}"


def _size(finding: Finding) -> tuple[int, int, bool, int, str]:
    """Rows, numbers of a row, and length; of equals one in float32, then by its id.

    Larger than any is a call that the record does not hold.
    """
    case = finding.case
    rows = len(case.inputs) if case.operation else 2**31
    widest = max((len(unpacked(row)) for row in case.inputs), default=0)
    return rows, widest, case.dtype != "float32", len(case_text(case, finding.row)), finding.id


def causes(run: Run) -> list[Cause]:
    """The findings of a run by class and cause, the classes in order, the most findings first."""
    parts: dict[tuple[str, str, bool], list[Finding]] = defaultdict(list)
    for finding in run.findings:
        new = finding.status == "new" or not finding.known
        parts[class_of(finding), _way(finding) if new else finding.known, new].append(finding)
    order = list(CLASSES)
    found = [Cause(*key, tuple(findings)) for key, findings in parts.items()]
    return sorted(
        found, key=lambda c: (order.index(c.category), not c.new, -len(c.findings), c.name)
    )


def _way(finding: Finding) -> str:
    """The framework, law and message of a finding that nobody knows, without its numbers."""
    framework = finding.subject.partition(":")[0]
    message = text.clip(finding.message, 2000)
    message = _NUMBERS.sub("#", _NUMBER.sub("#", message))
    return text.one_line(f"{framework}, {finding.law}, {finding.kind}: {message}", 120)


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(text.one_line(name, 80) for name in names[:limit]) + more


def _sizes(found: list[Cause]) -> str:
    """How many of the smallest inputs are small, and of which causes they are not."""
    large = [text.one_line(cause.name, 80) for cause in found if not cause.small]
    of = f"{len(found) - len(large):,} of {text.count(len(found), 'cause')}"
    rest = f"; larger: {_some(large, 40)}" if large else ""
    return f"The smallest input has at most {SMALL} rows of {SMALL} numbers for {of}{rest}."


def print_findings(run: Run, console: Console) -> None:
    """How many of each class, then each cause with its smallest input."""
    found = causes(run)
    if not run.complete:
        console.print(Text("PARTIAL RUN: it ended before all was looked at", style="bold reverse"))
    console.print(Text(Digest(run).verdict()))
    console.print(Text(_sizes(found), style="dim"))
    for kind, meaning in CLASSES.items():
        here = [cause for cause in found if cause.category == kind]
        if not here:
            continue
        console.print()
        console.print(Text.assemble((f"{kind} ({_counted(here)})", "bold"), f": {meaning}"))
        for cause in here:
            _print_cause(cause, console)


def _print_cause(cause: Cause, console: Console) -> None:
    state = "new" if cause.new else "known"
    counted = text.count(len(cause.findings), "finding")
    head = Text.assemble((text.one_line(cause.name, 160), "bold"), f" ({state}, {counted})")
    console.print(Padding(head, (0, 0, 0, 2), expand=False))
    for line in (
        cause.shown,
        f"{'; '.join(cause.subjects)} in {', '.join(cause.dtypes)}",
        f"laws {_some(cause.laws)}; regions {_some(cause.regions)}",
        cause.cause,
    ):
        if line:
            shown = Text(text.one_line(line, 600), style="" if line is cause.shown else "dim")
            console.print(Padding(shown, (0, 0, 0, 5), expand=False))


def _counted(found: list[Cause]) -> str:
    new = sum(len(cause.findings) for cause in found if cause.new)
    every = sum(len(cause.findings) for cause in found)
    known = f", {new:,} new" if new else ""
    return f"{text.count(every, 'finding')} of {text.count(len(found), 'cause')}{known}"


def findings_markdown(run: Run) -> str:
    """The same as a page of Markdown."""
    found = causes(run)
    numbers = Counter(cause.category for cause in found)
    rows: Counter[str] = Counter()
    for cause in found:
        rows[cause.category] += len(cause.findings)
    partial = "" if run.complete else " **PARTIAL: the run ended before all was looked at.**"
    head = f"{escaped(Digest(run).verdict())} Depth {escaped(run.depth)}, seed {run.seed}.{partial}"
    summary = ["| class | what it is | causes | findings |", "| --- | --- | --- | --- |"]
    summary += [
        f"| {k} | {escaped(m)} | {numbers[k]:,} | {rows[k]:,} |" for k, m in CLASSES.items()
    ]
    parts = ["# Findings, classed", head, "\n".join(summary), escaped(_sizes(found))]
    for kind in CLASSES:
        here = [cause for cause in found if cause.category == kind]
        if here:
            parts += [f"## {kind.capitalize()}", "\n".join([*_HEAD, *map(_row, here)])]
    return "\n\n".join(parts) + "\n"


_HEAD = (
    "| cause | findings | subjects and formats | laws | regions | smallest input |",
    "| --- | --- | --- | --- | --- | --- |",
)


def _row(cause: Cause) -> str:
    link = text.web_link(cause.link)
    why = f": {escaped(cause.cause)}" if cause.cause else " (new)" if cause.new else ""
    cells = [
        escaped(cause.name) + why + (f" ([link]({link}))" if link else ""),
        f"{len(cause.findings):,}",
        escaped(f"{'; '.join(cause.subjects)} in {', '.join(cause.dtypes)}"),
        escaped(_some(cause.laws)),
        escaped(_some(cause.regions)),
        escaped(cause.shown),
    ]
    return f"| {' | '.join(cells)} |"
