"""The terminal: progress while an audit runs, the summary at its end, one finding in full.

Everything is readable without colour and at 80 columns. Text of a run is never Rich markup.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..conformance.events import CellFinished, CellStarted, Event, PlanMade, WorkerReady
from ..conformance.known import entry_text
from ..conformance.run import Absence, Finding, Incident, KnownRecord, Run
from . import peers, text
from .console import print_heading, print_indented, print_more
from .digest import Digest, FrameworkLine, call_text, came, failure, outcome_text, sign
from .views import smallest_input, worst_counts

QUIET_SECONDS = 10.0
"""Without a terminal: a line at least this long after the last."""

STYLES = {
    "crashed": "bold red",
    "timed out": "bold",
    "policy": "magenta",
    "wrong kind": "red",
    "violates": "dark_orange",
    "precision": "yellow",
}
_UNDECIDED = ("no bound", "unspecified")


class TerminalProgress:
    """Consumes the events of an audit and shows how far it is.

    On a terminal one live block; elsewhere (a file, CI) a plain line every few seconds.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.total = 0
        self.done = 0
        self.rows = 0
        self.findings: Counter[str] = Counter()
        self._current = ""
        self._started = time.monotonic()
        self._spoke = self._started
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._started = self._spoke = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._block,
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self.total:
            self._print(self._line(), force=True)

    def __call__(self, event: Event) -> None:
        match event:
            case PlanMade(cells=cells):
                self.total += cells
                self._print(f"{text.count(self.total, 'cell')} to look at", force=True)
            case CellStarted():
                self._current = f"{event.law}  {event.subject} {event.dtype}"
            case CellFinished():
                self.done += 1
                self.rows += event.rows
                self._print(self._line())
            case Finding():
                self.findings[event.status] += 1
            case WorkerReady():
                self._note("ready", f"{event.worker} ({_facts(event.facts)})")
            case Absence():
                hint = "" if event.hint in event.reason else f"  [{event.hint}]"
                self._note("absent", f"{event.framework}: {event.reason}{hint}")
            case Incident():
                where = f"{event.subject} {event.law} {event.dtype}"
                self._note("incident", f"{where}: {event.message}")
            case KnownRecord(state="gone"):
                self._note("gone", f"{event.entry}: {event.detail}")
            case _:
                pass  # tallies, conventions and subjects are for the summary

    def _note(self, word: str, content: str) -> None:
        self._print(f"{word}: {text.one_line(content, 300)}", force=True)

    def _print(self, content: str, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._live is not None and not force:
            return
        if not force and now - self._spoke < QUIET_SECONDS:
            return
        self._spoke = now
        self.console.print(Text(content), soft_wrap=True)

    def _line(self) -> str:
        elapsed = text.duration(time.monotonic() - self._started)
        return (
            f"{self.done:,}/{self.total:,} cells  {text.count(self.rows, 'row')}  {elapsed}  "
            f"{self._found()}"
        )

    def _found(self) -> str:
        new, known = self.findings["new"], self.findings["known"]
        return f"findings: {new:,} new, {known:,} known"

    def _block(self) -> Table:
        """Bar and numbers, and under them the cell that is being looked at."""
        elapsed = text.duration(time.monotonic() - self._started)
        grid = Table.grid(padding=(0, 1), expand=False)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(self.total, 1), completed=self.done, width=20),
            Text(f"{self.done:,}/{self.total:,}"),
            Text(elapsed),
            Text(self._found()),
        )
        grid.add_row(head)
        width = max(self.console.width - 2, 20)
        grid.add_row(Text(text.one_line(self._current, width), style="dim", no_wrap=True))
        return grid


def print_summary(
    run: Run, console: Console, report_path: Path | None = None, run_path: Path | None = None
) -> None:
    """What an audit found, in about a screen: numbers, what is wrong, and where the rest is."""
    digest = Digest(run)
    console.print()
    if not run.complete:
        console.print(Text("PARTIAL RUN: it ended before all was looked at", style="bold reverse"))
    console.print(Text(digest.verdict(), style="bold"))
    console.print(Text(_run_facts(run), style="dim"))
    console.print(_framework_table(digest))
    _print_legend(digest, console)
    _print_absent(run, console)
    _print_conventions(digest, console)
    _print_tightenings(digest, console)
    _print_worst(digest, console)
    _print_known(run, console)
    _print_incidents(run, console)
    _print_paths(console, report_path, run_path)


def _run_facts(run: Run) -> str:
    return (
        f"depth {text.one_line(run.depth, 20)}, seed {run.seed}, {text.duration(run.seconds)}, "
        f"{text.one_line(run.environment.platform, 60)}"
    )


def _framework_table(digest: Digest) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("framework", overflow="fold", max_width=24)
    for name in ("subjects", "cells", "rows", "new", "known"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cells by worst", overflow="fold", min_width=16)
    for line in digest.lines():
        table.add_row(
            Text(text.one_line(line.label, 60)),
            f"{line.subjects:,}",
            f"{line.cells:,}",
            f"{line.rows:,}",
            Text(f"{line.new:,}", style="bold" if line.new else ""),
            f"{line.known:,}",
            _grade_counts(line),
        )
    return table


def _grade_counts(line: FrameworkLine) -> Text:
    """Findings by sign, all that passed as one number: the eye looks for what is wrong."""
    counts = worst_counts(line.worst)
    parts = [Text(f"{sign(g)} {n:,}", style=STYLES[g]) for g, n in counts if g in STYLES]
    undecided = sum(n for grade, n in counts if grade in _UNDECIDED)
    passed = sum(n for grade, n in counts if grade not in STYLES and grade not in _UNDECIDED)
    parts += [Text(f"?? {undecided:,}")] if undecided else []
    parts += [Text(f"ok {passed:,}")] if passed else []
    return Text("  ").join(parts) if parts else Text("no row")


def _print_legend(digest: Digest, console: Console) -> None:
    """The signs that the table uses, in words."""
    seen = {grade for line in digest.lines() for grade in line.worst}
    words = [f"{sign(grade)} {grade}" for grade in STYLES if grade in seen]
    words += ["?? no bound or unspecified"] if seen & set(_UNDECIDED) else []
    words += ["ok inside the bounds"]
    said = f"A cell is a subject under a law, by its worst row: {', '.join(words)}."
    console.print(Text(said, style="dim"))


def _print_absent(run: Run, console: Console) -> None:
    for absence in run.absent:
        console.print()
        console.print(
            Text.assemble(
                ("NOT AUDITED ", "bold"),
                text.one_line(f"{absence.framework}: {absence.reason}", 300),
            )
        )
        if absence.hint and absence.hint not in absence.reason:
            console.print(Text(f"  {text.one_line(absence.hint, 300)}"), soft_wrap=True)


def _print_conventions(digest: Digest, console: Console, limit: int = 8) -> None:
    wrong = digest.disagreements
    if not wrong:
        return
    print_heading(console, f"Conventions not as declared ({len(wrong):,})")
    for entry in wrong[:limit]:
        said = f"{entry.field}: declared {entry.declared}, measured {entry.measured}"
        print_indented(console, text.one_line(entry.subject, 90))
        print_indented(console, text.one_line(said, 200), 4)
        if entry.input:
            shown = f"on {entry.input}: {entry.evidence}"
            print_indented(console, text.one_line(shown, 300), 4, "dim")
    print_more(console, len(wrong) - limit)


def _print_tightenings(digest: Digest, console: Console, limit: int = 5) -> None:
    if not digest.tightenings:
        return
    print_heading(console, f"Declarations that could be tighter ({len(digest.tightenings):,})")
    for proposal in digest.tightenings[:limit]:
        print_indented(console, str(proposal))
    print_more(console, len(digest.tightenings) - limit)


def _print_worst(digest: Digest, console: Console, limit: int = 10) -> None:
    if not digest.findings:
        return
    worst = digest.worst_findings(limit)
    print_heading(
        console, f"Worst findings, distinct in cause ({len(worst)} of {len(digest.findings):,})"
    )
    for finding in worst:
        kind = text.one_line(finding.kind, 12)
        subject = f" {text.one_line(finding.subject, 90)} {text.one_line(finding.dtype, 12)}"
        style = STYLES.get(finding.kind, "")
        head = Text.assemble((f"{sign(finding.kind)} {kind}", style), subject)
        print_indented(console, head)
        print_indented(console, f"{call_text(finding)} -> {came(finding)}", 5)
        about = f"{finding.status}, law {text.one_line(finding.law, 40)}"
        print_indented(console, f"{about}, id {text.one_line(finding.id, 40)}", 5, "dim")


def _print_known(run: Run, console: Console) -> None:
    gone = run.gone()
    if gone:
        print_heading(console, f"Known findings that are gone ({len(gone)}): remove their entries")
        for record in gone:
            print_indented(console, text.one_line(f"{record.entry}: {record.detail}", 200))
    missed = sum(record.state == "not looked at" for record in run.known)
    if missed:
        entries = text.count(missed, "known finding")
        console.print(Text(f"{entries} not looked at in this run", style="dim"))


def _print_incidents(run: Run, console: Console, limit: int = 5) -> None:
    if not run.incidents:
        return
    print_heading(console, f"Incidents ({len(run.incidents)})")
    for incident in run.incidents[:limit]:
        where = f"{incident.subject} {incident.law} {incident.dtype}".strip()
        print_indented(console, text.one_line(f"{where}: {incident.message}", 240))
    print_more(console, len(run.incidents) - limit)


def _print_paths(console: Console, report_path: Path | None, run_path: Path | None) -> None:
    console.print()
    for word, path in (("report", report_path), ("run file", run_path)):
        if path is not None:  # soft wrap: a path that is broken cannot be clicked or copied
            console.print(Text(f"{word}: {text.one_line(str(path), 4000)}"), soft_wrap=True)


def explain(finding: Finding, run: Run) -> str:
    """One finding in full, as plain text: for a failing test and for the terminal."""
    digest = (
        Digest(run) if finding.subject in {s.name for s in run.subjects} else _alone(finding, run)
    )
    law, subject = digest.laws.get(finding.law), digest.subjects[finding.subject]
    facts = [
        ("law", finding.law + (f": {law.statement}" if law and law.statement else "")),
        ("subject", f"{finding.subject} {finding.dtype}"),
        ("misuse", subject.misuse),
        ("versions", ", ".join(f"{k} {v}" for k, v in subject.versions.items())),
        ("region", f"{finding.region}, {finding.output}, {text.count(finding.rows, 'row')}"),
        ("smallest", call_text(finding)),
        *_numbers(finding),
        ("error", text.ulps_text(finding.ulps) + _allowed(finding)),
        ("known as", finding.known),
        ("cause", finding.cause),
        ("link", finding.link),
    ]
    lines = [f"{finding.kind} ({finding.status}), finding {text.one_line(finding.id, 40)}"]
    lines += [text.clip(text.visible(finding.message), 2000)] if finding.message else []
    lines += [f"  {name:<9} {text.one_line(fact, 500)}" for name, fact in facts if fact]
    lines += _others(digest, finding)
    snippet = text.visible(finding.snippet).rstrip("\n")
    if snippet:
        lines += ["", "Reproduce with the framework alone:", ""]
        lines += [f"    {line}".rstrip() for line in snippet.split("\n")]
    if finding.status == "new":
        lines += ["", "To put it among the known findings (--known FILE), with cause and link:", ""]
        lines += [text.visible(entry_text(finding, subject.versions)).rstrip("\n")]
    return "\n".join(lines)


def _others(digest: Digest, finding: Finding) -> list[str]:
    """What every comparable subject answers to the same input, as on the card."""
    found = peers.table(digest, finding)
    if found is None:
        return []
    asked = text.count(found.subjects, "eager subject")
    truth = f"loss {_exactly(found.loss)}, gradient {_exactly(found.gradient)}"
    under = f", under the conventions of {found.under}" if found.under else ""
    lines = [
        *("", f"The same input asked of {asked} of this operation:", ""),
        f"    correctly rounded{under}: {truth if found.loss else 'no value'}",
    ]
    for answer in found.answers:
        who = "; ".join(f"{framework} {ops}" for framework, ops in answer.who)
        errors = ", ".join(filter(None, (answer.loss_ulps, answer.gradient_ulps)))
        came = f"loss {_exactly(answer.loss)}, gradient {_exactly(answer.gradient)} ({errors})"
        lines.append(f"    {text.one_line(who, 300)}: {answer.status or came}")
    return lines


def _exactly(numbers: Sequence[str]) -> str:
    """Numbers, and in hexadecimal those whose decimal form is long."""
    shown = []
    for number in numbers:
        exact = text.hex_float(number) if len(number) > len("-0.0625") else ""
        shown.append(
            f"{text.one_line(number, 40)} = {exact}" if exact else text.one_line(number, 40)
        )
    return " ".join(shown) if len(shown) == 1 else f"[{', '.join(shown)}]"


def _alone(finding: Finding, run: Run) -> Digest:
    """A digest for a finding whose subject the run does not list (one cell under pytest)."""
    return Digest(_with(run, finding))


def _with(run: Run, finding: Finding) -> Run:
    fields = {name: getattr(run, name) for name in run.__struct_fields__}
    return Run(**{**fields, "findings": [*run.findings, finding]})


def _numbers(finding: Finding) -> list[tuple[str, str]]:
    row = smallest_input(finding)
    if row.gradient:
        return [
            (
                f"class {e.index}",
                f"{_both(e.value)}, right {_both(e.right)}{'   <--' if e.differs else ''}",
            )
            for e in row.elements
        ]
    value, right = (t[0] if len(t) == 1 else None for t in (finding.value, finding.right))
    if said := failure(finding):
        return [("came", said)]
    if value is None and right is None:
        short = outcome_text(finding)
        return [("value", short[0]), ("right", short[1])]
    return [("value", _both(value)), ("right", _both(right))]


def _both(number: str | None) -> str:
    if number is None:
        return "none"
    exact = text.hex_float(number)
    return f"{text.one_line(number, 60)} ({exact})" if exact else text.one_line(number, 60)


def _allowed(finding: Finding) -> str:
    parts = []
    if finding.demand_ulps is not None:
        parts.append(f"demand {text.ulps_text(finding.demand_ulps)}")
    if finding.declared_ulps is not None:
        parts.append(f"declared {text.ulps_text(finding.declared_ulps)}")
    return f" ({', '.join(parts)})" if parts else ""


def _facts(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
