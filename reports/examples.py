"""Worked examples with their verdicts: in the terminal, as Markdown, and for the page of a report.

The figures and verdicts are the reference's; beside each stands what frameworks compute for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from ..conformance.examples.adjudicate import PRODUCED, RIGHT, WRONG
from ..conformance.examples.entries import KINDS
from ..conformance.examples.operations import OPERATIONS
from ..conformance.run import Absence, ExampleAnswer, ExampleFigure, Incident
from . import text
from .conventions import WIDTH, print_wrapped
from .markdown import escaped


@dataclass(frozen=True)
class Cell:
    """What one framework computes for a figure.

    Attributes:
        home: the framework.
        answers: of the dtypes in which it was asked.
    """

    home: str
    answers: tuple[ExampleAnswer, ...]

    @property
    def agrees(self) -> bool:
        return bool(self.answers) and all(answer.agrees for answer in self.answers)

    @property
    def steps(self) -> str:
        """How many steps it is off in each dtype: "0 / 1", or "" where it was not asked."""
        return " / ".join(_steps(answer.ulps) for answer in self.answers)

    @property
    def words(self) -> str:
        """What was asked, in which dtype, and what came."""
        parts = (f"{answer.dtype} {vector(answer.value) or answer.said}" for answer in self.answers)
        subject = self.answers[0].subject if self.answers else "not asked"
        return text.one_line(f"{subject}: {', '.join(parts)}" if self.answers else subject, 300)


def _steps(ulps: float | None) -> str:
    if ulps is None:
        return "?"
    return f"{ulps:.0f}" if ulps < 1e4 else f"{ulps:.0e}"


@dataclass(frozen=True)
class Row:
    """One figure and what the frameworks say of it."""

    record: ExampleFigure
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The figure and its case; a name that says its case itself says it once."""
        record = self.record
        told = "_at_" in record.figure or "_row_" in record.figure
        case = f", {record.case}" if record.case and not told else ""
        return text.one_line(f"{record.figure}{case}", 120)

    @property
    def printed(self) -> str:
        return ("about " if self.record.about else "") + vector(self.record.printed)

    @property
    def shown(self) -> str:
        return vector(self.record.shown)

    @property
    def confirming(self) -> tuple[str, ...]:
        """Frameworks whose op computes the right figure, in every dtype that was asked."""
        return tuple(cell.home for cell in self.cells if cell.agrees)

    @property
    def contradicting(self) -> tuple[str, ...]:
        return tuple(cell.home for cell in self.cells if cell.answers and not cell.agrees)

    @property
    def explained(self) -> str:
        """Of a wrong figure: the mistakes and what was done, or that nothing explains it."""
        record = self.record
        if not record.why:
            return f"unexplained: none of {record.tried:,} candidates gives it"
        return text.one_line(f"{' and '.join(record.mistakes)}: {record.why}", 400)


@dataclass(frozen=True)
class Worked:
    """One example with all its figures."""

    head: ExampleFigure
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        unit = f", in {self.head.unit}" if self.head.unit != "nats" else ""
        name = self.head.operation.replace("_", " ")
        return text.one_line(f"{self.head.example} {name}{unit}", 120)


@dataclass(frozen=True)
class Table:
    """All examples, and the frameworks that were asked."""

    examples: tuple[Worked, ...]
    homes: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        return [row for example in self.examples for row in example.rows]

    def of(self, verdict: str) -> list[Row]:
        return [row for row in self.rows if row.record.verdict == verdict]

    @property
    def wrong(self) -> list[Row]:
        return self.of(WRONG)

    @property
    def contradicted(self) -> list[Row]:
        """Figures of which a framework computes another value than the reference."""
        return [row for row in self.rows if row.contradicting]

    @property
    def verdict(self) -> str:
        """The whole table in words."""
        wrong, right = self.wrong, len(self.of(RIGHT))
        explained = sum(bool(row.record.why) for row in wrong)
        printed = text.count(len(wrong) + right, "printed figure")
        said = (
            f"{text.count(len(self.examples), 'example')}, {printed}: {right} right, {len(wrong)} "
            f"wrong ({explained} explained by a mistake); {len(self.of(PRODUCED))} more that "
            "nobody printed."
        )
        if not self.homes:
            return f"{said} No framework was asked."
        asked = sum(len(cell.answers) for row in self.rows for cell in row.cells)
        off = self.contradicted
        end = (
            f"{text.count(len(off), 'figure')} computed otherwise by some"
            if off
            else "all confirm the reference at the digits shown"
        )
        return f"{said} {text.count(asked, 'answer')} of {', '.join(self.homes)}: {end}."


def table(figures: Sequence[ExampleFigure], answers: Iterable[ExampleAnswer]) -> Table:
    """The figures by example, each with the answers to it."""
    of_figure: dict[tuple[str, str, str], dict[str, list[ExampleAnswer]]] = {}
    homes: dict[str, None] = {}
    for answer in answers:
        home = text.one_line(answer.subject.partition(":")[0], 60)
        homes[home] = None
        key = (answer.example, answer.figure, answer.case)
        of_figure.setdefault(key, {}).setdefault(home, []).append(answer)
    by_example: dict[str, list[Row]] = {}
    for record in figures:
        mine = of_figure.get((record.example, record.figure, record.case), {})
        cells = tuple(Cell(home, tuple(mine.get(home, ()))) for home in homes)
        by_example.setdefault(record.example, []).append(Row(record, cells))
    worked = (
        Worked(rows[0].record, tuple(rows) if rows[0].record.figure else ())
        for rows in by_example.values()
    )
    return Table(tuple(worked), tuple(homes))


def vector(texts: Sequence[str]) -> str:
    """One number, or `[a, b]`."""
    shown = [text.one_line(number, 40) for number in texts]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]" if shown else ""


# --- the terminal ---------------------------------------------------------------------------------


def print_examples(
    found: Table,
    console: Console,
    absent: Sequence[Absence] = (),
    incidents: Sequence[Incident] = (),
) -> None:
    """Every example with its figures, wrong ones with what is right and why, and a summary."""
    width = min(console.width, WIDTH)
    for example in found.examples:
        print_wrapped(console, example.title, width, 0, "bold")
        print_wrapped(console, example.head.input, width, 2, "dim")
        for row in example.rows:
            _print_row(row, console, width)
        for answer in example.head.answers:
            print_wrapped(console, answer, width, 2, "")
    for absence in absent:
        said = f"NOT ASKED {absence.framework}: {absence.reason}; {absence.hint}"
        print_wrapped(console, said, width, 0, "")
    for incident in incidents:
        print_wrapped(console, f"{incident.subject}: {incident.message}", width, 0, "bold red")
    console.print()
    print_wrapped(console, found.verdict, width, 0, "bold")
    for row in found.wrong if any(row.record.verdict == RIGHT for row in found.rows) else ():
        said = f"{row.record.example} {row.name}: printed {row.printed}, right {row.shown}"
        print_wrapped(console, said, width, 0, "bold red")
        print_wrapped(console, f"{row.explained}{_right_by(row)}", width, 2, "")


def _print_row(row: Row, console: Console, width: int) -> None:
    by = _by(row)
    match row.record.verdict:
        case "wrong":
            said, style = f"WRONG     {row.name} {row.printed}, right {row.shown}", "bold red"
        case "right":
            exactly = f" ({row.shown})" if row.record.about else ""
            said, style = f"right     {row.name} {row.printed}{exactly}{by}", ""
        case _:
            said, style = f"produced  {row.name} {row.shown}{by}", ""
    print_wrapped(console, said, width, 2, style)
    if row.record.verdict == WRONG:
        print_wrapped(console, f"{row.explained}{_right_by(row)}", width, 12, "")
    for cell in row.cells:
        if cell.answers and not cell.agrees:
            print_wrapped(console, f"computed otherwise: {cell.words}", width, 12, "bold red")


def _by(row: Row) -> str:
    return f"; confirmed by {', '.join(row.confirming)}" if row.confirming else ""


def _right_by(row: Row) -> str:
    by = ", ".join(row.confirming)
    return f"; the right figure is confirmed by {by}" if by else ""


# --- Markdown -------------------------------------------------------------------------------------

INTRODUCTION = """\
# Worked examples

Figures that tutorials on cross-entropy print, adjudicated by the reference and asked of the
frameworks. A figure is *right* if the exact value rounds to it at the digits printed (one that is
printed as rough: at one significant digit). A *wrong* one stands beside the right one and the
mistake that gives exactly what is printed, where the search finds one: it tries every other input,
figure, unit and convention that the example itself suggests, a division left out, and digits cut
off, at most two of them together. Nothing is known to it beforehand.

A framework confirms a figure if its own rounds to the right one at the digits shown. Of a format
that holds fewer (float32: 6) those are asked, for the inputs as it holds them.

Ulps are of what the op returned, from the correctly rounded value for the inputs as the format
holds them: float64 / float32. A vector has those of its largest number.

This page is `lossaudit examples --markdown`, made by `make examples`."""

VOCABULARY = """\
## Examples of your own

`lossaudit examples --file mine.toml` adjudicates a file like `worked_examples.toml` in
`conformance/examples`; nothing else is needed. What is wrong with an entry is said by its name.

```toml
[sources]
M = "My lecture notes"

[[example]]
id = "M1"
operation = "cross_entropy"
logits = [2.0, 1.0, 0.1]
target = 0
claim = { loss = 0.42, probabilities = [0.66, 0.24, 0.10] }
```

Digits count, trailing zeros too. `unit = "bits"`, `about = ["loss"]` for rough figures, `produce =
["gradient"]` for figures that are not printed, and `note` go with every operation. `NAME_magnitude`
is the absolute value of a figure, `NAME_ratio` that of its two cases, `NAME_row_1` the second row,
`NAME_at_0_7` the case p = 0.7."""


def examples_markdown(found: Table, versions: Mapping[str, Mapping[str, str]]) -> str:
    """The page: the verdict, what is wrong, every example, and the vocabulary of new ones."""
    asked = dict.fromkeys(f"{p} {v}" for each in versions.values() for p, v in each.items())
    parts = [INTRODUCTION, escaped(found.verdict)]
    if asked:
        parts.append(f"Asked of {escaped(', '.join(asked))}.")
    if found.wrong:
        parts += ["## Wrong figures", _wrong_table(found)]
    parts.append("## All examples")
    for example in found.examples:
        parts += _example_markdown(example, found.homes)
    parts += [VOCABULARY, _vocabulary()]
    return "\n\n".join(parts) + "\n"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wrong_table(found: Table) -> str:
    rows = (
        [
            escaped(row.record.example),
            escaped(row.name),
            escaped(row.printed),
            escaped(row.shown),
            escaped(row.explained),
            escaped(", ".join(row.confirming)) or "not asked",
        ]
        for row in found.wrong
    )
    head = ("example", "figure", "printed", "right", "mistake", "the right one is computed by")
    return _grid(head, rows)


def _example_markdown(example: Worked, homes: Sequence[str]) -> Iterable[str]:
    head = example.head
    yield f"### {escaped(example.title)}"
    yield f"{escaped(head.source)}. {escaped(head.input)}" + (
        f". *{escaped(head.note)}*" if head.note else ""
    )
    asked = [home for home in homes if any(_cell(row, home).answers for row in example.rows)]
    if example.rows:
        rows = (
            [
                escaped(row.name),
                escaped(row.printed),
                escaped(row.shown),
                _verdict(row),
                *(_mark(_cell(row, home)) for home in asked),
            ]
            for row in example.rows
        )
        yield _grid(("figure", "printed", "right", "verdict", *map(escaped, asked)), rows)
    yield from map(escaped, head.answers)


def _verdict(row: Row) -> str:
    if row.record.verdict == WRONG:
        return f"**wrong**: {escaped(row.explained)}"
    return escaped(row.record.verdict)


def _cell(row: Row, home: str) -> Cell:
    return next(cell for cell in row.cells if cell.home == home)


def _mark(cell: Cell) -> str:
    return cell.steps if cell.agrees or not cell.answers else f"**other**: {escaped(cell.words)}"


def _vocabulary() -> str:
    lines = []
    for name, operation in OPERATIONS.items():
        lines.append(f"- `{name}`: {escaped(operation.says)}")
        for field, what in operation.fields.items():
            optional = "" if what.needed else " (optional)"
            lines.append(f"  - takes `{field}`{optional}: {escaped(KINDS[what.kind][0])}")
        for figure, words in operation.figures.items():
            lines.append(f"  - gives `{figure}`: {escaped(words)}")
    return "\n".join(lines)
