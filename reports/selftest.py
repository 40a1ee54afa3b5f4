"""The kill matrix: which law finds which wrong implementation, and on which input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits

import msgspec
from rich.console import Console
from rich.text import Text

from ..conformance.laws.registry import LAWS
from ..conformance.run import Finding, RunFileError
from ..conformance.selftest.catalogue import CANNOT_EXIST, Mistake
from ..conformance.selftest.trial import Heard, Killed, NotTried, Trial
from . import text
from .digest import call_text, outcome_text

FOUND, SILENT = "●", "·"


def print_trial(trial: Trial, console: Console, *, whole: bool = True) -> None:
    """A line for each mutant: its marks by law, and the smallest input that shows it.

    `whole` says that no mutant was left out: else nothing follows from a law that finds none.
    """
    laws = _laws(trial.killed)
    for number, law in enumerate(laws, start=1):
        kills = sum(law in k.laws for k in trial.killed)
        alone = sum(list(k.laws) == [law] for k in trial.killed)
        only = f", {alone} of them alone" if alone else ""
        console.print(Text(f"{_column(number)} {law}: finds {text.count(kills, 'mutant')}{only}"))
    silent = [law.name for law in LAWS if law.name not in laws]
    if silent and whole:
        console.print(Text(f"No mutant here is found by {', '.join(silent)}.", style="dim"))
    head = "".join(_column(number) for number in range(1, len(laws) + 1))
    width = max((len(k.mutant) for k in trial.killed), default=0)
    if trial.killed:
        console.print(Text(f"\n{'':{width}} {head}", style="dim"), soft_wrap=True)
    for killed in trial.killed:
        marks = "".join(FOUND if law in killed.laws else SILENT for law in laws)
        style = "" if killed.smallest else "bold red"
        shown = _shown(killed.smallest) if killed.smallest else "SURVIVED: no law finds it"
        line = f"{killed.mutant:{width}} {marks} {shown}"
        console.print(Text(line, style=style), soft_wrap=True)
    for left in trial.untried:
        line = f"{left.mutant}: not tried: {left.reason}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    for heard in trial.alarms:
        for finding in heard.alarms:
            words = f"FALSE ALARM about {heard.control}, seed {heard.seed}: {finding.law} "
            words += f"{finding.dtype} {finding.kind}, {_shown(finding)}"
            console.print(Text(words, style="bold red"), soft_wrap=True)
    console.print(Text("\n" + summary(trial)))
    if whole:
        console.print(Text("Of the catalogue of mistakes there are no mutants of:", style="dim"))
        for mistake in CANNOT_EXIST:
            line = f"  {mistake.id}, {mistake.says}: {mistake.cannot_exist}"
            console.print(Text(line, style="dim"), soft_wrap=True)


def summary(trial: Trial) -> str:
    """The verdict in words."""
    killed = len(trial.killed) - len(trial.survivors)
    seeds = len({heard.seed for heard in trial.heard})
    controls = len({heard.control for heard in trial.heard})
    alarms = sum(len(heard.alarms) for heard in trial.heard)
    untried = f", {len(trial.untried)} more not tried" if trial.untried else ""
    heard = (
        f"{text.count(alarms, 'false alarm')} about "
        f"{text.count(controls, 'right implementation')} under {text.count(seeds, 'seed')}."
    )
    if not trial.killed and not trial.untried:
        return heard
    return (
        f"{killed} of {text.count(len(trial.killed), 'wrong implementation')} found, each on a "
        f"case on which its right twin passes{untried}; {heard}"
    )


def _laws(killed: Sequence[Killed]) -> list[str]:
    """The laws that found any, those that found most first."""
    counts: dict[str, int] = {}
    for each in killed:
        for law in each.laws:
            counts[law] = counts.get(law, 0) + 1
    return sorted(counts, key=lambda law: (-counts[law], law))


def _column(number: int) -> str:
    """One character for the column of a law."""
    return (digits[1:] + ascii_letters)[number - 1]


def _shown(finding: Finding) -> str:
    value, right = outcome_text(finding)
    return text.one_line(f"{finding.dtype} {call_text(finding)} -> {value}, right {right}", 160)


# --- the file of a trial, and what the HTML report shows of it ------------------------------------


@dataclass(frozen=True)
class TrialFile:
    """What `--json` writes."""

    verdict: str
    mutants: tuple[Killed, ...]
    untried: tuple[NotTried, ...]
    controls: tuple[Heard, ...]
    cannot_exist: tuple[Mistake, ...]


@dataclass(frozen=True)
class ControlRow:
    """A right implementation under all seeds."""

    name: str
    seeds: int
    alarms: int
    due: int


@dataclass(frozen=True)
class Kills:
    """A trial as the page shows it: the laws that found any mutant, and the controls by name."""

    verdict: str
    trial: Trial
    laws: tuple[str, ...]
    controls: tuple[ControlRow, ...]
    alarms: tuple[Finding, ...]
    cannot_exist: tuple[Mistake, ...]


def as_data(trial: Trial) -> TrialFile:
    """The trial as a file holds it."""
    return TrialFile(summary(trial), trial.killed, trial.untried, trial.heard, CANNOT_EXIST)


def read_trial(path: Path) -> Kills:
    """Read what `lossaudit selftest --json` wrote.

    Raises:
        RunFileError: if the file cannot be read, or is none.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=TrialFile)
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFileError(
            f"{path} was not written by `lossaudit selftest --json FILE` of this version ({error})."
        ) from error
    return kills(Trial(found.mutants, found.controls, found.untried), found.cannot_exist)


def kills(trial: Trial, cannot_exist: tuple[Mistake, ...] = CANNOT_EXIST) -> Kills:
    """What the page shows of a trial."""
    names = dict.fromkeys(heard.control for heard in trial.heard)
    rows = (_row(name, [h for h in trial.heard if h.control == name]) for name in names)
    alarms = tuple(finding for heard in trial.alarms for finding in heard.alarms)
    laws = tuple(_laws(trial.killed))
    return Kills(summary(trial), trial, laws, tuple(rows), alarms, cannot_exist)


def _row(name: str, heard: Sequence[Heard]) -> ControlRow:
    seeds = len({h.seed for h in heard})
    return ControlRow(name, seeds, sum(len(h.alarms) for h in heard), sum(h.due for h in heard))
