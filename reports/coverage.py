"""Where an audit looked: regions by operations, so that what was not tested can be seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..adapters.registry import MODULES, subjects
from ..adapters.subject import Subject
from ..conformance.cell import PROFILES
from ..conformance.engine import CONVENTIONS
from ..conformance.laws.registry import LAWS
from ..conformance.regions import REGIONS, Region, regions_for, unsuited
from ..conformance.run import Run, Tally
from ..reference.vocabulary import OPERATIONS, inputs_of
from . import text
from .digest import Digest, row_count
from .markdown import table as markdown_table

NAME_WIDTH, CELL_WIDTH = 21, 15
"""Columns of the terminal: the longest name of a region, and `120/120 999,999` with a gap."""


@dataclass(frozen=True)
class Covered:
    """One region of one operation.

    Attributes:
        asked: subjects that were asked there, of `subjects` that the operation has.
        rows: as every report counts them.
        unfit: why no subject of the operation can be asked there, "" if one can.
    """

    asked: int = 0
    subjects: int = 0
    rows: int = 0
    unfit: str = ""

    @property
    def fits(self) -> bool:
        return not self.unfit

    @property
    def hole(self) -> bool:
        """Whether it could have been tested and was not, by any subject."""
        return self.fits and not self.asked

    def __str__(self) -> str:
        return f"{self.asked}/{self.subjects} {self.rows:,}" if self.fits else "-"


@dataclass(frozen=True)
class Coverage:
    """Regions by operations.

    Attributes:
        operations: those that have subjects, in the order of the vocabulary.
        rows: region -> a Covered for each operation.
    """

    operations: tuple[str, ...]
    rows: dict[str, tuple[Covered, ...]]

    @property
    def holes(self) -> list[tuple[str, str]]:
        """(region, operation) that no subject was asked."""
        return [
            (region, operation)
            for region, cells in self.rows.items()
            for operation, cell in zip(self.operations, cells, strict=True)
            if cell.hole
        ]

    @property
    def unfit(self) -> list[str]:
        """Why regions do not fit operations, a line for each reason."""
        reasons: dict[str, list[str]] = defaultdict(list)
        for region, cells in self.rows.items():
            for unfit in dict.fromkeys(cell.unfit for cell in cells if cell.unfit):
                reasons[unfit].append(region)
        return [f"{reason}: {', '.join(regions)}" for reason, regions in reasons.items()]


def coverage(run: Run) -> Coverage:
    """Count the rows of a run by region and operation; what the probe asks has no region."""
    digest = Digest(run)
    of = {name: subject.operation for name, subject in digest.subjects.items()}
    present = set(of.values())
    known = [name for name in OPERATIONS if name in present]
    operations = (*known, *sorted(present - set(known)))
    found: dict[tuple[str, str], list[Tally]] = defaultdict(list)
    for tally in run.tallies:
        if tally.law != CONVENTIONS.name:
            found[tally.region, of[tally.subject]].append(tally)
    # In their own order; of another version's run also those that are unknown here.
    regions = [r.name for r in REGIONS if any(r.name in _drawn(o) for o in operations)]
    names = dict.fromkeys([*regions, *(region for region, _ in found)])
    numbers = {o: sum(mine == o for mine in of.values()) for o in operations}
    return Coverage(
        operations,
        {
            name: tuple(
                _covered(found[name, o], numbers[o], why_not(name, o, run.depth))
                for o in operations
            )
            for name in names
        },
    )


def _drawn(operation: str) -> set[str]:
    """The names of the regions of an operation, of one that is known."""
    return {r.name for r in regions_for(operation)} if operation in OPERATIONS else set()


def _covered(tallies: list[Tally], subjects: int, unfit: str) -> Covered:
    if not tallies and unfit:
        return Covered(unfit=unfit)
    asked = len({tally.subject for tally in tallies})
    return Covered(asked, subjects, row_count(tallies))


def why_not(name: str, operation: str, depth: str) -> str:
    """Why a region is not drawn for an operation at a depth; "" if it is for one of our subjects.

    The subjects are those of every framework, whichever a run was asked for: what only another one
    takes was not tested. Of a function of a user it is known only what it was asked.
    """
    if operation not in OPERATIONS:
        return "an operation that is unknown here"
    region = next((r for r in regions_for(operation) if r.name == name), None)
    if region is None:
        return _why_not_drawn(name, operation)
    if reason := _left_out(region, depth):
        return reason
    known = depth if depth in PROFILES else "deep"
    ours = [s for s in subjects(None, known) if s.framework in MODULES]
    mine = [s for s in ours if s.operation == operation]
    reasons = dict.fromkeys(_why_not_asked(region, subject) for subject in mine)
    return "" if "" in reasons else "; ".join(reasons) or "no subject of it is known here"


def _why_not_drawn(name: str, operation: str) -> str:
    kinds = list(dict.fromkeys(r.inputs for r in REGIONS if r.name == name))
    taken = inputs_of(operation)
    if taken in kinds:
        return "for several classes, where a binary operation has one number a row"
    return f"for {' and '.join(kinds) or 'an unknown input'}, where the operation takes {taken}"


def _left_out(region: Region, depth: str) -> str:
    """Why a depth does not draw a region of any subject."""
    profile = PROFILES.get(depth)
    if profile is None:
        return ""
    if region.vocabulary and not profile.vocabulary:
        return f"not drawn at the depth {depth}"
    if region.name == "two-classes" and set(region.classes) & set(profile.classes):
        return f"drawn in every region at the depth {depth}"
    return ""


def _why_not_asked(region: Region, subject: Subject) -> str:
    """Of a subject: the region's own conditions, and whether a law looks at invalid labels."""
    if reason := unsuited(region, subject):
        return reason
    if region.valid or any(law.invalid and law.applies(subject) for law in LAWS):
        return ""
    return "for labels out of range, of which no law says anything"


def print_coverage(run: Run, console: Console) -> None:
    """As many tables as the operations need at this width, then the holes and the reasons."""
    found = coverage(run)
    if not run.complete:
        console.print(Text("PARTIAL RUN: it ended before all was looked at", style="bold reverse"))
    console.print(Text(_explained(found)))
    each = max((console.width - NAME_WIDTH) // CELL_WIDTH, 1)
    for start in range(0, len(found.operations), each):
        console.print()
        console.print(_table(found, start, start + each))
    for line in _footnotes(found):
        console.print(Text(line, style="dim"))


def _table(found: Coverage, start: int, end: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("region", no_wrap=True, min_width=NAME_WIDTH - 1)
    for operation in found.operations[start:end]:
        # By words: a name is wider than its numbers.
        name = text.one_line(operation.replace("_", " "), 60) or "unknown"
        table.add_column(Text(name), justify="right", max_width=CELL_WIDTH - 1)
    for region, cells in found.rows.items():
        shown = (Text(str(c), style="bold red" if c.hole else "") for c in cells[start:end])
        table.add_row(Text(text.one_line(region, NAME_WIDTH - 1)), *shown)
    return table


def coverage_markdown(run: Run) -> str:
    """The same as one table of Markdown."""
    found = coverage(run)
    lines = [[region, *map(str, cells)] for region, cells in found.rows.items()]
    parts = ["## Coverage", _explained(found), markdown_table(["region", *found.operations], lines)]
    if footnotes := _footnotes(found):
        parts.append("\n".join(f"- {line}" for line in footnotes))
    return "\n\n".join(parts) + "\n"


def _explained(found: Coverage) -> str:
    if not found.operations:
        return "No subject was audited."
    holes = text.count(len(found.holes), "place fits", "places fit")
    verb = "is" if len(found.holes) == 1 else "are"
    return (
        "Subjects asked in a region, of those of the operation, and their rows over all laws and "
        f"dtypes. {holes} and {verb} not tested; '-' where a region does not fit."
    )


def _footnotes(found: Coverage) -> list[str]:
    holes = [f"{region} of {operation}" for region, operation in found.holes]
    lines = [f"not tested: {text.one_line(hole, 120)}" for hole in holes]
    return [*lines, *(f"'-' {text.one_line(line, 600)}" for line in found.unfit)]
