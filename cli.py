"""The verbs of lossaudit: parse, call, print. Nothing here computes.

Exit codes: 0 nothing new; 1 new findings, or a known one that is gone, or a replayed one that is
still there, or a training that failed or has a step outside of its bound; 2 wrong use or
unreadable input; 3 a framework, an environment or a device asked for by name cannot be used; 10 an
upgrade moved values within bounds only; 11 an upgrade regressed; 70 internal error; 130
interrupted, with a valid partial run.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .adapters.environments import Environment
    from .conformance.comparison import Comparison
    from .conformance.engine import Settings
    from .conformance.plainly import Ask
    from .conformance.resumable import Audit
    from .conformance.resumable import Question as RunQuestion
    from .conformance.run import Absence, Finding, Run
    from .conformance.sweep.chunk import Done
    from .conformance.sweep.compare import SweepComparison
    from .conformance.sweep.engine import Engine
    from .conformance.sweep.plan import Job
    from .conformance.sweep.record import Sweep
    from .conformance.upgrade import Question

NOTHING_NEW, NEW_FINDINGS, WRONG_USE, UNUSABLE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 70, 130
MOVED, REGRESSED = 10, 11

FAIL_ON = ("moved", "regressed", "never")
"""What `--fail-on` of a comparison may be given."""

RANDOM = "random"
"""What `--seed` is given for a seed that nobody chose."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does this cross-entropy compute what it says? Audits PyTorch, TensorFlow, JAX, "
    "ONNX Runtime, and Keras on each of its backends.",
)


class WrongUse(Exception):
    """Something was asked for that cannot be; the text is the one line that the user sees."""


class UnusableDevice(Exception):
    """A device that was asked for is not there; the text is one line."""


def _show_version(value: bool) -> None:
    if value:
        from . import __version__

        typer.echo(f"lossaudit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    del version


@app.command()
def run(
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            "-b",
            help="Framework to audit, or all; may be repeated. If none, all but, below the depth "
            "deep, Keras on backends other than TensorFlow.",
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python file that declares subjects with @lossaudit.subject; may be repeated. "
            "Audited instead of the frameworks, or beside those that --backend names."
        ),
    ] = None,
    law: Annotated[
        list[str] | None, typer.Option("--law", help="Law to check; may be repeated. All if none.")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter that has the frameworks, in place of lossaudit's own."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PYTHON",
            help="An environment to audit: its name and its interpreter; may be repeated.",
        ),
    ] = None,
    depth: Annotated[str, typer.Option(help="quick, standard or deep.")] = "standard",
    seed: Annotated[
        str,
        typer.Option(
            metavar="N|random",
            help="Seed of the search; random draws one and says it, and --seed N repeats that run.",
        ),
    ] = "0",
    worst_of: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Examine the worst inputs of this stored run before all others."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the run to this JSON file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the HTML report to this file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a CI step to this file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all findings to this CSV file.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; must be there.")] = "cpu",
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", help="Memory a worker may hold. Half of the machine's if none."
        ),
    ] = None,
    known: Annotated[
        Path | None, typer.Option(help="Known findings, in place of those of lossaudit.")
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="any, or violates: leaves findings of kind precision out.")
    ] = "any",
) -> None:
    """Audit the installed frameworks: which cross-entropies are wrong, where, and by how much.

    What an interrupted or killed start has audited is kept beside the first file that is written:
    the same command goes on from there.
    """
    from rich.console import Console

    from .conformance.resumable import Question, journal_beside
    from .conformance.run import read_run
    from .reports.terminal import print_summary

    _demand_one_of("--fail-on", fail_on, ("any", "violates"))
    settings = _settings(depth, _seed(seed), law, known, memory, device)
    if worst_of is not None:
        settings = replace(settings, worst=tuple(read_run(worst_of).worst))
    settings = replace(settings, beside=not law and settings.profile.beside)
    environments = _environments(python, env or [])
    frameworks = _frameworks(backend, adapter, environments)
    asked_for = _asked_for(backend, adapter)
    left: list[str] = []
    if not (backend or adapter):
        frameworks, left = _usual(frameworks, depth, environments)
    frameworks = _on_device(frameworks, device, environments, asked_for)
    for path in (out, html, markdown, csv):
        _demand_writable(path)
    question = Question(tuple(frameworks), tuple(environments), settings, jobs or _cores())
    journal = journal_beside((out, html, markdown, csv))
    if seed == RANDOM:
        question = _seeded(question, journal)
    if left:
        _say(f"left to --depth deep: {', '.join(left)}; --backend NAME, or all, audits them now")
    # `kill` and CI's time-outs send SIGTERM: it ends a run as Ctrl-C does, with what was seen.
    signal.signal(signal.SIGTERM, _interrupt)
    result = _audited(question, journal, out, lambda run: _write_reports(run, html, markdown, csv))
    print_summary(result, Console(), html, out)
    if not result.complete:
        if journal is not None:
            _say(f"interrupted: the same command goes on from {journal}")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(exit_code(result, asked_for, fail_on))


def _seeded(question: RunQuestion, journal: Path | None) -> RunQuestion:
    """The question under its seed, which was drawn, or under that of an interrupted start of it."""
    from .conformance.resumable import with_the_seed_of

    same = with_the_seed_of(journal, question)
    seed = (same or question).settings.seed
    which = "that of the interrupted start" if same else "drawn at random"
    _say(f"seed {seed}, {which}: --seed {seed} repeats it")
    return same or question


def _audited(
    question: RunQuestion, journal: Path | None, out: Path | None, write: Callable[[Run], None]
) -> Run:
    """The run, as far as it came, which is written.

    What is on disk for another start is removed only when all was written.
    """
    from .conformance.resumable import Audit
    from .conformance.run import write_run
    from .reports.terminal import TerminalProgress

    complete, done = False, False
    with TerminalProgress() as progress:
        work = Audit(question, journal, progress)
        try:
            try:
                _say_what_was_kept(work)
                work.audit()
                complete = True
            except KeyboardInterrupt:
                pass
            result = work.run(complete=complete)
            if out is not None:
                write_run(result, out)
            write(result)
            done = complete
        finally:
            work.close(done=done)
    return result


def _say_what_was_kept(work: Audit) -> None:
    from .reports.text import count

    if work.journal is None:
        return
    if work.finished_before:
        before = count(work.finished_before, "subject")
        _say(f"going on from {work.journal.path}, which has {before}; without it all is asked")
    elif work.journal.earlier.differs:
        what = ", ".join(work.journal.earlier.differs)
        _say(f"{work.journal.path} was of another audit ({what}) and is begun anew")


def exit_code(result: Run, asked_for: list[str], fail_on: str = "any") -> int:
    """What a finished run means to a script."""
    if result.faults():
        return INTERNAL
    if any(absence.framework.partition("@")[0] in asked_for for absence in result.absent):
        return UNUSABLE
    new = [f for f in result.new_findings() if fail_on == "any" or f.kind != "precision"]
    return NEW_FINDINGS if new or result.gone() else NOTHING_NEW


@app.command()
def upgrade(
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="REQUIREMENTS", help='The old versions: "torch==2.13.0".'),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="REQUIREMENTS", help='The new ones: "torch==2.15.0".'),
    ] = None,
    from_python: Annotated[
        Path | None, typer.Option(help="An interpreter that has the old versions.")
    ] = None,
    to_python: Annotated[
        Path | None, typer.Option(help="An interpreter that has the new versions.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", "-b", help="Framework to audit; may be repeated. All that both have."
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Python file that declares subjects; may be repeated."),
    ] = None,
    law: Annotated[
        list[str] | None, typer.Option("--law", help="Law to check; may be repeated. All if none.")
    ] = None,
    depth: Annotated[str, typer.Option(help="quick, standard or deep.")] = "standard",
    seed: Annotated[int, typer.Option(help="Seed of the searches.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; must be there.")] = "cpu",
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", help="Memory a worker may hold. Half of the machine's if none."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where runs, comparison and report are written.")
    ] = Path("upgrade"),
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a pull request to this file.")
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="moved (codes 10 and 11), regressed (11 alone), or never.")
    ] = "moved",
) -> None:
    """Audit an upgrade: what becomes of every loss and gradient, row by row.

    Exit code 0 if nothing moved, 10 if values moved within their bounds, 11 if something
    regressed. Environments are made with venv and pip and kept for the next time; what an
    interrupted start has audited is kept too.
    """
    from .conformance.upgrade import Question

    _demand_one_of("--fail-on", fail_on, FAIL_ON)
    environments = _two_environments((from_, from_python), (to, to_python))
    settings = _settings(depth, seed, law, None, memory, device)
    frameworks, left_out = _in_both(backend, adapter, environments, device)
    _demand_writable(out / "comparison.json")
    _demand_writable(markdown)
    signal.signal(signal.SIGTERM, _interrupt)
    packages = (_packages(environments[0]), _packages(environments[1]))
    question = Question(tuple(frameworks), environments, packages, settings, jobs or _cores())
    old, new, comparison = _audited_upgrade(question, out)
    if comparison is not None:
        comparison.notes += left_out
        _say_comparison(comparison, out / "comparison.json", out / "comparison.html", markdown)
    if comparison is None or not comparison.complete:
        typer.echo(f"interrupted: the same command goes on from what is in {out}", err=True)
        raise typer.Exit(INTERRUPTED)
    if old.faults() or new.faults():
        raise typer.Exit(INTERNAL)
    raise typer.Exit(upgrade_code(comparison.verdict, fail_on))


def _audited_upgrade(question: Question, folder: Path) -> tuple[Run, Run, Comparison | None]:
    """Both runs, which are written, and their comparison, as far as they came.

    What is on disk for another start is removed only when all was said and written.
    """
    from .conformance.run import write_run
    from .conformance.upgrade import Upgrade
    from .reports.terminal import TerminalProgress

    comparison, began = None, time.monotonic()
    with TerminalProgress() as progress:
        work = Upgrade(question, folder, progress)
        if work.finished_before:
            _say(f"going on: {work.finished_before} subjects were audited before")
        try:
            old, new = work.audit()
            comparison = work.compare(old, new)
            comparison.complete = False
            work.search(old, new, comparison)
            comparison.complete = True
            comparison.seconds = round(time.monotonic() - began, 1)
        except KeyboardInterrupt:
            old, new = work.runs(complete=comparison is not None)
        done = False
        try:
            write_run(old, folder / "old.json.gz")
            write_run(new, folder / "new.json.gz")
            done = comparison is not None and comparison.complete
        finally:
            work.close(done=done)
    return old, new, comparison


@app.command()
def compare(
    old: Annotated[
        Path, typer.Argument(help="Written by `lossaudit run --out`, or `sweep --out`.")
    ],
    new: Annotated[Path, typer.Argument(help="A later one.")],
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Python file that declares subjects, for their scripts."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the comparison to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write its report to this file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a pull request to this file.")
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="moved (codes 10 and 11), regressed (11 alone), or never.")
    ] = "moved",
) -> None:
    """Compare two stored runs row by row, or two sweeps; neither framework is needed.

    Exit code 0 if nothing moved, 10 if values moved within their bounds, 11 if something
    regressed, 2 if they cannot be compared.
    """
    from .conformance.compare import compare as compared
    from .conformance.run import REMEDY, read_json, run_of
    from .conformance.sweep.compare import both_sweeps
    from .conformance.sweep.compare import compare as compared_sweeps

    _demand_one_of("--fail-on", fail_on, FAIL_ON)
    for path in (json, html, markdown):
        _demand_writable(path)
    _frameworks(None, adapter)
    heads = [read_json(path, REMEDY) for path in (old, new)]
    names = (str(old), str(new))
    if sweeps := both_sweeps(heads, (old, new)):
        if html is not None:
            raise WrongUse("a comparison of sweeps has no page; --markdown and --json have all.")
        of_sweeps = compared_sweeps(sweeps[0], sweeps[1], names)
        _say_sweep_comparison(of_sweeps, json, markdown)
        raise typer.Exit(upgrade_code(of_sweeps.verdict, fail_on))
    comparison = compared(run_of(heads[0], old), run_of(heads[1], new), names)
    _say_comparison(comparison, json, html, markdown)
    raise typer.Exit(upgrade_code(comparison.verdict, fail_on))


@app.command()
def sweep(
    operation: Annotated[
        str,
        typer.Argument(
            help="An operation such as binary_cross_entropy_with_logits, cross_entropy, sigmoid, "
            "log_sigmoid or softplus; the name of an op of the framework; or elementwise: all "
            "element-wise subjects."
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="Framework to sweep; may be repeated. All if none."),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            help="float16, bfloat16 or float32; may be repeated. Both 16-bit formats if none."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(help="eager, or a compiled one such as jit; every: all, with elementwise."),
    ] = "eager",
    targets: Annotated[
        str,
        typer.Option(
            metavar="Y,Y",
            help="Binary targets in [0, 1]; of a cross-entropy 0 for the label of the logit that "
            "varies, 1 for another.",
        ),
    ] = "0,1",
    range_: Annotated[
        str,
        typer.Option("--range", metavar="LO:HI", help="Inputs from LO to HI, both included."),
    ] = "",
    stride: Annotated[
        int, typer.Option(help="One input of each stratum of so many neighbours.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Which one of each stratum.")] = 0,
    pairs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Of a cross-entropy of two classes: all pairs of logits (1), or those with one of "
            "each stratum of N of the other logit.",
        ),
    ] = None,
    classes: Annotated[
        int, typer.Option(help="Of a cross-entropy of which one logit varies.", min=2)
    ] = 8,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python file that declares subjects with @lossaudit.subject; may be repeated."
        ),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter that has the frameworks, in place of lossaudit's own."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the sweep, or the shard, to this file.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write tables to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the errors to this file: .png or .svg.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="tcp://HOST:PORT|local", help="Let the workers of a Dask scheduler do it."
        ),
    ] = "",
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Do the I-th of N parts alone, for `lossaudit merge`; needs --out."
        ),
    ] = "1/1",
    fail_on: Annotated[
        str,
        typer.Option(help="Exit with 1 where an input is graded precision or worse, or violates."),
    ] = "never",
) -> None:
    """Ask an op for every number of a format, and judge each loss and each gradient.

    What an interrupted or killed start has done is kept beside the file that is written: the same
    command goes on from there. Exit code 0 if the sweep was finished, whatever it found.
    """
    from .conformance.sweep.plan import Inputs, Job, planned
    from .conformance.sweep.record import finished, write_sweep

    _demand_one_of("--fail-on", fail_on, ("never", "violates", "precision"))
    part = _shard(shard, out)
    for path in (out, markdown, plot):
        _demand_writable(path)
    (environment,) = _environments(python, [])
    asked = planned(
        _that_have(operation, backend, adapter, environment),
        operation,
        dtype or ["bfloat16", "float16"],
        Inputs(_numbers("--targets", targets), range_, stride, seed, pairs, classes),
        mode=mode,
        python=environment.python,
    )
    adapters = [str(path.resolve()) for path in adapter or ()]
    own = "" if python is None else environment.python
    job = Job(askings=asked, adapters=adapters, python=own)
    chunks, seconds = _swept(job, part, out, jobs or _cores(), scheduler)
    if part != (1, 1):
        raise typer.Exit(NOTHING_NEW)
    elsewhere = scheduler not in ("", "local")  # on as many processes as come
    result = finished(job, chunks, seconds, 0 if elsewhere else jobs or _cores())
    if out is not None:
        write_sweep(result, out)
    _say_sweep(result, markdown, plot)
    if out is not None:
        _chunks_beside(out).unlink(missing_ok=True)
    raise typer.Exit(sweep_code(result, fail_on))


def _that_have(
    operation: str,
    backend: list[str] | None,
    adapter: list[Path] | None,
    environment: Environment,
) -> list[str]:
    """The frameworks to sweep; of those that nobody named the ones that can be."""
    from .adapters.client import UnusableFramework
    from .adapters.environments import availability
    from .adapters.registry import FRAMEWORKS
    from .conformance.sweep.plan import has

    found = []
    for name in _frameworks(backend, adapter, [environment]):
        reason = availability(FRAMEWORKS[name], environment)
        if reason and (backend or adapter):
            raise UnusableFramework(name, f"{reason}; install with: {FRAMEWORKS[name].install}")
        if not reason and (backend or adapter or has(name, operation, environment.python)):
            found.append(name)
    if not found:
        raise WrongUse(f"no framework that is installed has {operation!r} to sweep.")
    return found


def _shard(text: str, out: Path | None) -> tuple[int, int]:
    """I/N as two numbers."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 0 < int(number) <= int(parts)):
        raise WrongUse(f"--shard: {text!r} is not I/N with I from 1 to N, such as 1/64.")
    if int(parts) > 1 and out is None:
        raise WrongUse("--shard: name the file of the shard with --out.")
    return int(number), int(parts)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers between commas, each once."""
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise WrongUse(f"{option}: {text!r} is not numbers with commas between them.") from None
    return found


def _swept(
    job: Job, part: tuple[int, int], out: Path | None, jobs: int, scheduler: str
) -> tuple[list[Done], float]:
    """The chunks of a sweep or of a shard, and the seconds that they took if all are of this start.

    Of a shard the file that keeps them is what was asked for, else it is removed.
    """
    from .conformance.journal import locked, unlock
    from .conformance.sweep.engine import Journal, in_processes, mine, read_journal, sweep
    from .reports.sweep_progress import SweepProgress

    shard = part != (1, 1)
    with tempfile.TemporaryDirectory(prefix="lossaudit-sweep-") as folder:
        path = Path(folder, "chunks") if out is None else out
        if out is not None and not shard:
            path = _chunks_beside(out)
        signal.signal(signal.SIGTERM, _interrupt)
        lock = locked(path.with_name(f"{path.name}.lock"), f"another sweep writes {path} just now")
        try:
            journal = Journal.opened(path, job)
            before, wanted = len(journal.done), mine(job, part)
            if before:
                _say(f"going on from {path}, which has {before} of {len(wanted)} chunks")
            engine = _dask(scheduler, jobs) if scheduler else in_processes(min(jobs, len(wanted)))
            begun = time.monotonic()
            with SweepProgress(len(wanted), before) as progress:
                try:
                    sweep(journal, engine, part, progress)
                except KeyboardInterrupt:
                    if out is not None:
                        _say(f"interrupted: the same command goes on from {path}")
                    raise
            seconds = 0.0 if before else time.monotonic() - begun
            return read_journal(path)[1], seconds
        finally:
            unlock(lock)


def _chunks_beside(out: Path) -> Path:
    """Where the chunks of a sweep are kept until it is written."""
    return out.with_name(f"{out.name}.chunks")


def _dask(address: str, jobs: int) -> Engine:
    from .conformance.sweep.scheduler import on_dask

    return on_dask(address, jobs)


def _say_sweep(result: Sweep, markdown: Path | None, plot: Path | None) -> None:
    """Write what was asked for, and print the summary."""
    from rich.console import Console

    from .reports.sweep_markdown import sweep_markdown
    from .reports.sweep_plots import write_plot
    from .reports.sweep_terminal import print_sweep

    if markdown is not None:
        markdown.write_text(sweep_markdown(result), encoding="utf-8")
    if plot is not None:
        write_plot(result, plot)
    print_sweep(result, Console())


def sweep_code(result: Sweep, fail_on: str) -> int:
    """What a finished sweep means to a script."""
    from .conformance.run import GRADES

    if fail_on == "never":
        return NOTHING_NEW
    bad = set(GRADES[GRADES.index(fail_on) :])
    return NEW_FINDINGS if any(bad & set(curve.grades) for curve in result.curves) else NOTHING_NEW


@app.command()
def merge(
    shards: Annotated[
        list[Path], typer.Argument(help="Files written by `lossaudit sweep --shard I/N --out`.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the finished sweep to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write tables to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the errors to this file: .png or .svg.")
    ] = None,
) -> None:
    """Join the shards of a sweep that several machines have done."""
    from .conformance.sweep.merge import merged_files
    from .conformance.sweep.record import write_sweep

    for path in (out, markdown, plot):
        _demand_writable(path)
    result = merged_files(shards)
    if out is not None:
        write_sweep(result, out)
    _say_sweep(result, markdown, plot)


def upgrade_code(verdict: str, fail_on: str) -> int:
    """What a comparison means to a script."""
    if verdict == "regressed":
        return NOTHING_NEW if fail_on == "never" else REGRESSED
    if verdict == "moved":
        return MOVED if fail_on == "moved" else NOTHING_NEW
    return NOTHING_NEW


def _say_comparison(
    comparison: Comparison, json: Path | None, html: Path | None, markdown: Path | None
) -> None:
    """Write what was asked for, and print the summary."""
    from rich.console import Console

    from .conformance.run import write_json
    from .reports.comparison_html import write_comparison_html
    from .reports.comparison_markdown import comparison_markdown
    from .reports.comparison_terminal import print_comparison

    if json is not None:
        write_json(comparison, json)
    if html is not None:
        write_comparison_html(comparison, html)
    if markdown is not None:
        markdown.write_text(comparison_markdown(comparison), encoding="utf-8")
    files = {"report": html, "comparison": json, "summary": markdown}
    print_comparison(comparison, Console(), {name: p for name, p in files.items() if p is not None})


def _say_sweep_comparison(
    comparison: SweepComparison, json: Path | None, markdown: Path | None
) -> None:
    """Write what was asked for, and print the summary."""
    from rich.console import Console

    from .conformance.run import write_json
    from .reports.sweep_comparison import print_sweep_comparison, sweep_comparison_markdown

    if json is not None:
        write_json(comparison, json)
    if markdown is not None:
        markdown.write_text(sweep_comparison_markdown(comparison), encoding="utf-8")
    files = {"comparison": json, "summary": markdown}
    written = {name: path for name, path in files.items() if path is not None}
    print_sweep_comparison(comparison, Console(), written)


def _two_environments(
    old: tuple[str | None, Path | None], new: tuple[str | None, Path | None]
) -> tuple[Environment, Environment]:
    """The environments of both sides, made where they are named by requirements."""
    from .adapters.environments import Environment, examine
    from .adapters.installation import environment_for

    found = []
    for (requirements, python), option in ((old, "--from"), (new, "--to")):
        if (requirements is None) is (python is None):
            raise WrongUse(f"name one of {option} REQUIREMENTS and {option}-python PATH.")
    for requirements, python in (old, new):
        if requirements is not None:
            found.append(environment_for(requirements, "", _say))
        else:
            found.append(Environment("", str(Path(python or "").absolute())))
            examine(found[-1])
    return found[0], found[1]


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _packages(environment: Environment) -> dict[str, str]:
    from .adapters.installation import installed

    return installed(environment)


def _in_both(
    names: list[str] | None,
    adapters: list[Path] | None,
    environments: tuple[Environment, Environment],
    device: str,
) -> tuple[list[str], list[str]]:
    """The frameworks that both environments have, and what is said of those that one has."""
    from .adapters.environments import UnusableEnvironment, availability
    from .adapters.registry import FAMILIES, FRAMEWORKS

    chosen = _frameworks(names, adapters, environments)
    # A family stands for those of its members that are there.
    named = {*(names or ()), *(path.stem for path in adapters or ())} - FAMILIES.keys()
    asked_for = [name for name in chosen if name in named]
    missing = {
        name: {
            side: reason
            for side, environment in zip(SIDES, environments, strict=True)
            if (reason := availability(FRAMEWORKS[name], environment))
        }
        for name in chosen
    }
    both = [name for name in chosen if not missing[name]]
    for name in asked_for:
        for side, reason in missing[name].items():
            raise UnusableEnvironment(f"{name} of the {side} environment: {reason}.")
    if not both:
        has = ", ".join(name for name in chosen if len(missing[name]) == 1) or "none"
        raise UnusableEnvironment(
            f"no framework that lossaudit knows is in both environments; in one of them: {has}."
        )
    notes = [
        f"{name} is not in the {side} environment, and so not compared"
        for name in chosen
        if len(missing[name]) == 1
        for side in missing[name]
    ]
    usable = _on_device(both, device, list(environments), asked_for)
    broken = _unloadable(usable, environments, device)
    if any(name in asked_for for name in broken) or len(broken) == len(usable):
        raise UnusableEnvironment("; ".join(broken.values()))
    return [name for name in usable if name not in broken], notes + list(broken.values())


SIDES = ("old", "new")


def _unloadable(
    frameworks: list[str], environments: tuple[Environment, Environment], device: str
) -> dict[str, str]:
    """The frameworks that do not load on a side, and why; an audit of minutes would end with it."""
    from .adapters.client import UnusableFramework, WorkerPool

    broken = {}
    for side, environment in zip(SIDES, environments, strict=True):
        with WorkerPool(environment.python, device=device) as pool:
            for name in frameworks:
                try:
                    pool.versions(name)
                except UnusableFramework as error:
                    why = f"{name} of the {side} environment does not load: {error.reason}"
                    broken.setdefault(name, why)
    return broken


@app.command()
def conventions(
    run_file: Annotated[
        Path | None,
        typer.Argument(help="A file written by `lossaudit run --out`; measured anew if none."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="Framework to measure; may be repeated. All if none."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="OP", help="Port from it: torch:cross_entropy.index."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="OP", help="Port to it: what changes, and code that agrees."),
    ] = None,
    differences: Annotated[
        bool,
        typer.Option("--differences", help="Only what differs, with the smallest input for each."),
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write what was measured to this file.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
) -> None:
    """Measure what legitimately differs: smoothing, means, ignored labels, guards, shapes, ..."""
    from .adapters.registry import FRAMEWORKS
    from .conformance.run import read_run

    if (from_ is None) != (to is None):
        raise WrongUse("--from and --to belong together: name both ops, or neither.")
    _demand_writable(json)
    named = [] if from_ is None or to is None else [from_, to]
    if run_file is not None:
        if backend:
            raise WrongUse("--backend is for measuring; what is in a file was measured already.")
        _say_conventions(read_run(run_file), json, named, differences=differences)
        return
    homes = [name.partition(":")[0] for name in named]
    for option, home in zip(("--from", "--to"), homes, strict=False):
        _demand_one_of(option, home, tuple(FRAMEWORKS))
    frameworks = _frameworks(backend) if backend or not homes else list(dict.fromkeys(homes))
    result = _measured(frameworks, jobs)
    _say_conventions(result, json, named, differences=differences)
    if not result.complete:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(exit_code(result, _asked_for(backend, None) or homes))


def _say_conventions(
    result: Run, json: Path | None, named: list[str], *, differences: bool
) -> None:
    """What was measured, or of two named ops what changes from one to the other."""
    from rich.console import Console

    from .conformance.run import write_json
    from .reports.conventions import as_data, print_conventions
    from .reports.porting import UnknownOp, chosen, ported
    from .reports.porting_terminal import print_port

    if json is not None:
        write_json(as_data(result), json)
    if not named:
        print_conventions(result, Console(), differences=differences)
        return
    try:
        old, new = chosen(result, *named)
    except UnknownOp as unknown:
        raise WrongUse(str(unknown)) from unknown
    print_port(ported(old, new, result), Console())


def _measured(frameworks: list[str], jobs: int) -> Run:
    """The conventions of some frameworks; incomplete if it was interrupted."""
    from .conformance.engine import CONVENTIONS, Settings, audit_all
    from .conformance.known import FILE, load
    from .conformance.recorder import Recorder

    # That law is the probe itself: no other is looked at.
    settings = Settings("standard", 0, (CONVENTIONS.name,), load(FILE))
    recorder = Recorder(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    interrupted = False
    typer.echo(f"measuring {', '.join(frameworks)} ...", err=True)
    try:
        audit_all(frameworks, settings, recorder, jobs or _cores())
    except KeyboardInterrupt:
        interrupted = True
    return recorder.run(complete=not interrupted)


@app.command()
def report(
    run_file: Annotated[
        Path, typer.Argument(help="A file written by `lossaudit run --out` or `compare --json`.")
    ],
    html: Annotated[Path, typer.Option(help="Where to write the report.")] = Path("report.html"),
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a CI step to this file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all findings to this CSV file.")] = None,
    selftest: Annotated[
        Path | None,
        typer.Option(help="A file written by `lossaudit selftest --json`: shows its kill matrix."),
    ] = None,
) -> None:
    """Write the reports of a stored run or comparison, and print its summary."""
    from rich.console import Console

    from .conformance.comparison import Comparison, read_either
    from .reports.selftest import read_trial
    from .reports.terminal import print_summary

    for path in (html, markdown, csv):
        _demand_writable(path)
    result = read_either(run_file)
    if isinstance(result, Comparison):
        if csv is not None or selftest is not None:
            raise WrongUse(f"{run_file} is a comparison: --csv and --selftest are of a run.")
        _say_comparison(result, None, html, markdown)
        return
    kills = None if selftest is None else read_trial(selftest)
    _write_reports(result, html, markdown, csv, kills)
    print_summary(result, Console(), html, run_file)


@app.command()
def explain(
    run_file: Annotated[Path, typer.Argument(help="A file written by `lossaudit run --out`.")],
    finding: Annotated[str, typer.Argument(help="The id of a finding, or its beginning.")],
) -> None:
    """Print one finding of a stored run: the law, the smallest input, both values, a script."""
    from .conformance.run import read_run
    from .reports.terminal import explain as explained

    result = read_run(run_file)
    typer.echo(explained(_finding(result, finding, run_file), result))


@app.command()
def coverage(
    run_file: Annotated[Path, typer.Argument(help="A file written by `lossaudit run --out`.")],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="One table of Markdown in place of those.")
    ] = False,
) -> None:
    """Show where a stored run looked: regions by operations, with what was not tested."""
    from rich.console import Console

    from .conformance.run import read_run
    from .reports.coverage import coverage_markdown, print_coverage

    result = read_run(run_file)
    if markdown:
        typer.echo(coverage_markdown(result), nl=False)
    else:
        print_coverage(result, Console())


@app.command()
def findings(
    run_file: Annotated[Path, typer.Argument(help="A file written by `lossaudit run --out`.")],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A page of Markdown in place of that.")
    ] = False,
) -> None:
    """Show the findings of a stored run by class and cause, each with its smallest input."""
    from rich.console import Console

    from .conformance.run import read_run
    from .reports.findings import findings_markdown, print_findings

    result = read_run(run_file)
    if markdown:
        typer.echo(findings_markdown(result), nl=False)
    else:
        print_findings(result, Console())


@app.command()
def defects() -> None:
    """Print the reported defects as Markdown: how each is found, and what was found beyond them."""
    from .conformance.defects import load
    from .reports.defects import defects_markdown

    typer.echo(defects_markdown(load()), nl=False)


@app.command()
def examples(
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="Framework to ask; may be repeated. All if none."),
    ] = None,
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Only this example; may be repeated."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="Examples of your own, in place of those of lossaudit."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A page of Markdown in place of that.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
) -> None:
    """Adjudicate figures that tutorials print, and ask the frameworks for them.

    Exit code 0 if every framework confirms the reference at the digits shown, 1 if one computes
    another figure or dies, 2 for a file that cannot be used, 3 if a framework asked for is not
    there, 130 after Ctrl-C, with what was heard until then.
    """
    from rich.console import Console

    from .conformance.examples.adjudicate import adjudicated
    from .conformance.examples.entries import FILE, load
    from .conformance.examples.frameworks import Heard, ask_frameworks
    from .reports.examples import examples_markdown, print_examples, table

    every = load(file or FILE)
    for name in id_ or ():
        _demand_one_of("--id", name, tuple(example.id for example in every))
    chosen = [example for example in every if not id_ or example.id in id_]
    frameworks, verdicts = _frameworks(backend), adjudicated(chosen)
    heard, interrupted = Heard(), False
    signal.signal(signal.SIGTERM, _interrupt)
    typer.echo(f"asking {', '.join(frameworks)} ...", err=True)
    try:
        ask_frameworks(frameworks, chosen, heard, jobs or _cores())
    except KeyboardInterrupt:
        typer.echo("lossaudit: interrupted; this is what was heard until then", err=True)
        interrupted = True
    heard = heard.sorted(frameworks)
    found = table(verdicts, heard.answers)
    if markdown:
        typer.echo(examples_markdown(found, heard.versions), nl=False)
    else:
        print_examples(found, Console(), heard.absent, heard.incidents)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if heard.faults():
        raise typer.Exit(INTERNAL)
    if _asked_for(backend, None) and heard.absent:
        raise typer.Exit(UNUSABLE)
    raise typer.Exit(NEW_FINDINGS if found.contradicted or heard.incidents else NOTHING_NEW)


@app.command()
def theory(
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="Framework to ask; may be repeated. All if none."),
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Every op and format.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Ask real ops what a textbook says: entropy, divergence, perplexity, smoothing, InfoNCE.

    Exit code 1 if a statement does not hold of an op, or a call that it needs did not return.
    """
    from rich.console import Console

    from .conformance.theory.measure import answers
    from .reports.theory import print_theory, theory_markdown

    heard, absent, code = _asked_plainly(backend, answers, lambda answer: not answer.holds)
    if markdown:
        typer.echo(theory_markdown(heard, absent), nl=False)
    else:
        print_theory(heard, absent, Console(), details=details)
    raise typer.Exit(code)


@app.command()
def misuse(
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="Framework to ask; may be repeated. All if none."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Call ops as they are not meant: which raise, warn or stay silent, and how wrong they are.

    Exit code 1 if a call was lost: the op crashed, hung, or was not asked any more.
    """
    from rich.console import Console

    from .conformance.misuse.matrix import cells
    from .reports.misuse_matrix import matrix_markdown, print_matrix

    heard, absent, code = _asked_plainly(backend, cells, lambda cell: cell.behaviour == "lost")
    if markdown:
        typer.echo(matrix_markdown(heard, absent), nl=False)
    else:
        print_matrix(heard, absent, Console())
    raise typer.Exit(code)


def _asked_plainly(
    backend: list[str] | None, ask: Ask, failed: Callable[[Any], bool]
) -> tuple[list[Any], list[Absence], int]:
    """What frameworks said, those that are not there, and the exit code."""
    from .conformance.plainly import ask_each
    from .conformance.run import Absence

    heard: list[Any] = []
    absent: list[Absence] = []

    def hear(answer: Any) -> None:
        (absent if isinstance(answer, Absence) else heard).append(answer)

    def begin(home: str) -> None:
        typer.echo(f"asking {home} ...", err=True)

    frameworks = _frameworks(backend)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        ask_each(frameworks, ask, begin, hear)
    except KeyboardInterrupt:
        typer.echo("lossaudit: interrupted; this is what was heard until then", err=True)
        return heard, absent, INTERRUPTED
    if any(map(failed, heard)):
        return heard, absent, NEW_FINDINGS
    lost = absent if _asked_for(backend, None) or not heard else ()
    return heard, absent, UNUSABLE if lost else NOTHING_NEW


@app.command()
def replay(
    run_file: Annotated[Path, typer.Argument(help="A file written by `lossaudit run --out`.")],
    finding: Annotated[str, typer.Argument(help="The id of a finding, or its beginning.")],
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Python file that declares the finding's subject; may be repeated."),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter that has the framework, in place of lossaudit's own."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PYTHON",
            help="The interpreter of the environment that the finding names; may be repeated.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps. The finding's own if none.")] = "",
) -> None:
    """Ask one finding's call again, from its run file alone: is it still shown?

    Exit code 0 if it is gone, 1 if it is still shown or has another grade.
    """
    from .adapters.subject import DEVICES
    from .conformance.replay import GONE, environment_of
    from .conformance.replay import replay as replay_
    from .conformance.run import read_run
    from .reports.replay import replayed

    if device:
        _demand_one_of("--device", device, DEVICES)
    environments = _environments(python, env or [])
    _frameworks(None, adapter, environments)
    result = read_run(run_file)
    found = _finding(result, finding, run_file)
    now = replay_(result, found, environment_of(found, environments), device)
    typer.echo(replayed(found, now, result))
    raise typer.Exit(NOTHING_NEW if now.verdict(found) == GONE else NEW_FINDINGS)


@app.command()
def reference(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the frozen values of ball arithmetic.")
    ] = False,
) -> None:
    """Check that the reference computes on this machine what was proved elsewhere."""
    from .reference import verification

    if not verify:
        raise WrongUse("reference: nothing to do; did you mean `lossaudit reference --verify`?")
    result = verification.verify()
    if result.different:
        typer.echo(f"{len(result.different)} of {result.compared:,} values differ:", err=True)
        for line in result.different[:20]:
            typer.echo(f"  {line}", err=True)
        raise typer.Exit(NEW_FINDINGS)
    typer.echo(f"{result.compared:,} values agree, bit for bit, with those that Arb gave.")


@app.command()
def selftest(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Name of a mutant or a control; may be repeated. All if none."),
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="The right implementations alone; see --seeds.")
    ] = False,
    depth: Annotated[str, typer.Option(help="quick, standard or deep.")] = "quick",
    seeds: Annotated[
        int, typer.Option(help="Seeds under which the right implementations are heard.", min=1)
    ] = 1,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the kill matrix to this file.")] = None,
) -> None:
    """Try the laws: every wrong implementation must be found, no right one accused."""
    from rich.console import Console

    from .conformance.cell import PROFILES
    from .conformance.run import write_json
    from .conformance.selftest.controls import CONTROLS
    from .conformance.selftest.trial import Step, made_of, names, trial
    from .reports.selftest import as_data, print_trial

    _demand_one_of("--depth", depth, tuple(PROFILES))
    for name in only or ():
        _demand_one_of("--only", name, names())
    chosen = [*(only or ()), *((c.name for c in CONTROLS) if controls else ())]
    _demand_writable(json)
    signal.signal(signal.SIGTERM, _interrupt)
    steps: list[Step] = []

    def said(step: Step) -> None:
        steps.append(step)
        typer.echo(".", err=True, nl=False)

    interrupted = False
    try:
        trial(depth, seeds, jobs or _cores(), chosen, said)
    except KeyboardInterrupt:
        interrupted = True
    typer.echo("", err=True)
    result = made_of(steps)
    if json is not None:
        write_json(as_data(result), json)
    print_trial(result, Console(), whole=not chosen and not interrupted)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.survivors or result.alarms:
        raise typer.Exit(NEW_FINDINGS)
    raise typer.Exit(UNUSABLE if only and result.untried else NOTHING_NEW)


@app.command()
def train(
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="torch, tensorflow or jax; may be repeated."),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="float64, float32 or bfloat16; may be repeated. All if none."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="right, or a mistake; may be repeated. All if none."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of 180 steps each.", min=1)] = 50,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter that has the frameworks, in place of lossaudit's own."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one per core.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Write all trainings to this JSON file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file.")] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the plots to this folder, as PNG.")
    ] = None,
) -> None:
    """Train the same small model in each framework, and show how far it gets from the reference.

    Exit code 0 if every step lies within its derived bound, 1 if one does not or a training failed.
    """
    from rich.console import Console

    from .conformance.run import write_json
    from .conformance.trajectories.everything import DTYPES, TRAINED, prepared, train_all
    from .conformance.trajectories.recipes import RECIPES
    from .reports.trajectories import (
        TrainingProgress,
        print_trajectories,
        trajectories_markdown,
        write_plots,
    )

    for option, names, allowed in (
        ("--backend", backend, TRAINED),
        ("--dtype", dtype, DTYPES),
        ("--recipe", recipe, tuple(r.name for r in RECIPES)),
    ):
        for name in names or ():
            _demand_one_of(option, name, allowed)
    for path in (out, markdown, plots and plots / "loss.png"):
        _demand_writable(path)
    environment = _environments(python, [])[0]
    result, wanted = prepared(backend or (), dtype or (), recipe or (), epochs, environment)
    signal.signal(signal.SIGTERM, _interrupt)
    with TrainingProgress(sum(len(task.recipes) for task in wanted)) as progress:
        try:
            train_all(wanted, jobs or _cores(), result, progress)
        except KeyboardInterrupt:
            result.complete = False
    if out is not None:
        write_json(result, out)
    if markdown is not None:
        markdown.write_text(trajectories_markdown(result), encoding="utf-8")
    if plots is not None:
        write_plots(result, plots)
    print_trajectories(result, Console())
    if not result.complete:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(NEW_FINDINGS if result.outside() or result.failed() else NOTHING_NEW)


@app.command(name="list")
def list_(
    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Only these frameworks.")
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Also what this Python file declares; may be repeated."),
    ] = None,
) -> None:
    """List operations, subjects and laws. Imports no framework."""
    from .adapters.environments import availability
    from .adapters.registry import FRAMEWORKS
    from .conformance.laws.registry import LAWS
    from .reference.vocabulary import OPERATIONS

    typer.echo("Operations")
    for name, formula in OPERATIONS.items():
        typer.echo(f"  {name:34} {formula}")
    listed = [FRAMEWORKS[name] for name in _frameworks(backend, adapter, beside=True)]
    for framework in listed:
        reason = availability(framework)
        typer.echo(f"\n{framework.name}{f' (absent: {reason})' if reason else ''}")
        for subject in framework.subjects:
            misuse = f"  (misuse: {subject.misuse})" if subject.misuse else ""
            typer.echo(f"  {subject.name:64} {', '.join(subject.dtypes)}{misuse}")
    subjects = [subject for framework in listed for subject in framework.subjects]
    ops, formats = {(s.framework, s.op) for s in subjects}, sum(len(s.dtypes) for s in subjects)
    typer.echo(
        f"\n{len(ops)} ops, {len(subjects)} subjects with their modes, {formats} with formats"
    )
    typer.echo("\nLaws")
    for law in LAWS:
        typer.echo(f"  {law.name:26} {law.statement}")


def _finding(result: Run, beginning: str, run_file: Path) -> Finding:
    """The one finding whose id begins so."""
    found = [f for f in result.findings if f.id.startswith(beginning)]
    if len(found) != 1:
        what = "no finding" if not found else f"{len(found)} findings"
        raise WrongUse(f"{run_file} has {what} whose id begins with {beginning!r}.")
    return found[0]


def _frameworks(
    names: list[str] | None,
    adapters: list[Path] | None = None,
    environments: Sequence[Environment] = (),
    *,
    beside: bool = False,
) -> list[str]:
    """Those named; else the adapters, if any, beside or instead of all that are known."""
    from .adapters.registry import EVERYTHING, FRAMEWORKS, members

    pythons = [environment.python for environment in environments] or [sys.executable]
    paths = {path.resolve(): path for path in adapters or ()}.values()
    added = [_added(path, pythons) for path in paths]
    for name in names or ():
        _demand_one_of("--backend", name, (*FRAMEWORKS, EVERYTHING))
    if names:
        return members([*names, *added])
    return list(FRAMEWORKS) if beside or not added else added


def _asked_for(names: list[str] | None, adapters: list[Path] | None) -> list[str]:
    """The frameworks that must be there: not those that only "all" names."""
    from .adapters.registry import EVERYTHING, members

    named = members(name for name in names or () if name != EVERYTHING)
    return [*named, *(path.stem for path in adapters or ())]


def _usual(
    names: list[str], depth: str, environments: Sequence[Environment]
) -> tuple[list[str], list[str]]:
    """What is audited where nothing is named, and what is there and left out."""
    from .adapters.environments import availability
    from .adapters.registry import FRAMEWORKS, usual

    kept = [name for name in names if name in usual(depth)]
    left = [
        name
        for name in names
        if name not in kept and not all(availability(FRAMEWORKS[name], e) for e in environments)
    ]
    return kept, left


def _added(path: Path, pythons: Sequence[str]) -> str:
    """Know the framework that a file declares in some interpreters, and return its name."""
    from .adapters.modules import from_path
    from .adapters.registry import FRAMEWORKS

    if not path.is_file() or path.suffix != ".py":
        raise WrongUse(f"--adapter: {path} is no Python file.")
    if path.stem in FRAMEWORKS:
        raise WrongUse(f"--adapter: {path.stem!r} is a framework already; rename {path}.")
    FRAMEWORKS.add(from_path(path, pythons))
    return path.stem


def _environments(python: Path | None, named: list[str]) -> list[Environment]:
    """The environments to audit, each of which can run a worker."""
    from .adapters.environments import NAME, Environment, examine

    if python is not None and named:
        raise WrongUse("--python and --env exclude each other: give --python's path a name too.")
    paths: dict[str, str] = {}
    for item in named:
        name, equals, path = item.partition("=")
        if not (equals and path and NAME.fullmatch(name)):
            raise WrongUse(
                f"--env: {item!r} is not NAME=PYTHON, with a name of letters, digits and . _ -"
            )
        if name in paths:
            raise WrongUse(f"--env: the name {name!r} is given twice.")
        paths[name] = path
    if python is not None:
        paths[""] = str(python)
    # Absolute, and no further resolved: the interpreter of a virtual environment is a link.
    found = [Environment(name, str(Path(path).absolute())) for name, path in paths.items()]
    for environment in found:
        examine(environment)
    return found or [Environment()]


def _on_device(
    names: list[str], device: str, environments: list[Environment], asked_for: list[str]
) -> list[str]:
    """The frameworks that can be audited on a device, in every environment."""
    from .adapters.environments import missing_device
    from .adapters.registry import FRAMEWORKS

    if device == "cpu":
        return names
    missing = {}
    for name in names:
        reasons = (missing_device(FRAMEWORKS[name], device, one) for one in environments)
        missing[name] = next(filter(None, reasons), "")
    usable = [name for name in names if not missing[name]]
    if not usable or any(missing[name] for name in asked_for):
        reasons = (f"{name}: {reason}" for name, reason in missing.items() if reason)
        raise UnusableDevice(f"--device {device}: {'; '.join(reasons)}.")
    return usable


def _seed(asked: str) -> int:
    """The seed that was asked for, or one that the operating system draws."""
    if asked == RANDOM:
        return secrets.randbits(32)
    try:
        return int(asked)
    except ValueError:
        raise WrongUse(f"--seed: {asked!r} is no whole number and not {RANDOM!r}.") from None


def _settings(
    depth: str,
    seed: int,
    laws: list[str] | None,
    known: Path | None,
    gibibytes: float | None,
    device: str,
) -> Settings:
    from .adapters.subject import DEVICES
    from .conformance.cell import PROFILES
    from .conformance.engine import Settings
    from .conformance.known import FILE, load
    from .conformance.laws.registry import LAWS

    _demand_one_of("--depth", depth, tuple(PROFILES))
    _demand_one_of("--device", device, DEVICES)
    for name in laws or ():
        _demand_one_of("--law", name, tuple(law.name for law in LAWS))
    if gibibytes is not None and not 0 < gibibytes < float("inf"):
        raise WrongUse(f"--memory: {gibibytes:g} is no number of GiB above 0.")
    memory = None if gibibytes is None else int(gibibytes * 2**30)
    return Settings(depth, seed, tuple(laws or ()), load(known or FILE), memory, device)


def _demand_one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WrongUse(f"{option}: {value!r} is not known; there are: {', '.join(allowed)}.")


def _demand_writable(path: Path | None) -> None:
    """Say before an audit of minutes that its result could not be kept."""
    if path is None:
        return
    if path.is_dir():
        raise WrongUse(f"{path} is a folder; name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise WrongUse(f"cannot write to {path.parent}: {error.strerror or error}.") from error


def _write_reports(
    result: Run, html: Path | None, markdown: Path | None, csv: Path | None, kills: Any = None
) -> None:
    """Write what was asked for."""
    from .reports.html import render_html
    from .reports.markdown import summary_markdown
    from .reports.page import write_page
    from .reports.spreadsheet import findings_csv

    if html is not None:
        write_page(render_html(result, kills), html)
    if markdown is not None:
        write_page(summary_markdown(result), markdown)
    if csv is not None:
        write_page(findings_csv(result), csv)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> NoReturn:
    """The command `lossaudit`: every error a person can mend is one line and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)
    except SystemExit as stop:
        # Typer makes an exit of a Ctrl-C that no verb has caught, and says nothing.
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            _stop("interrupted", INTERRUPTED)
        raise
    except Exception as error:  # noqa: BLE001 - the last resort, with a file to report
        _stop(*_explained(error))
    sys.exit(NOTHING_NEW)


def _explained(error: Exception) -> tuple[str, int]:
    from .adapters.client import UnusableFramework
    from .adapters.environments import UnusableEnvironment
    from .adapters.requirements import WrongRequirements
    from .conformance.compare import IncomparableRuns
    from .conformance.defects import DefectsError
    from .conformance.examples.entries import ExamplesError
    from .conformance.known import KnownFindingsError
    from .conformance.replay import ReplayError
    from .conformance.run import RunFileError
    from .conformance.sweep.block import Unaskable
    from .conformance.sweep.engine import SweepError
    from .conformance.sweep.plan import CannotSweep

    wrong = (WrongUse, RunFileError, KnownFindingsError, DefectsError, ReplayError)
    if isinstance(error, (*wrong, ExamplesError, IncomparableRuns, WrongRequirements)):
        return str(error), WRONG_USE
    if isinstance(error, (CannotSweep, SweepError, Unaskable)):
        return str(error), WRONG_USE
    if isinstance(error, (UnusableEnvironment, UnusableDevice, UnusableFramework)):
        return str(error), UNUSABLE
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", WRONG_USE
    with tempfile.NamedTemporaryFile(
        "w", prefix="lossaudit-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    text = f"internal error: {type(error).__name__}: {error}; please report {file.name}"
    return text, INTERNAL


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"lossaudit: {message}", err=True)
    sys.exit(code)
