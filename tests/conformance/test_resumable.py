"""An audit that was interrupted or killed: the next start asks what is left, and says the same."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lossaudit import cli
from lossaudit.adapters.environments import Environment
from lossaudit.adapters.installation import installed
from lossaudit.adapters.modules import from_path
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.subject import Subject
from lossaudit.conformance import asked, resumable
from lossaudit.conformance.engine import (
    CONVENTIONS,
    LEFT_ALONE,
    NOT_ASKED,
    Emit,
    Patience,
    Settings,
)
from lossaudit.conformance.events import CellStarted, Event, StepFinished, SubjectFinished
from lossaudit.conformance.known import FILE, Known, load
from lossaudit.conformance.resumable import Audit, Question, journal_beside, with_the_seed_of
from lossaudit.conformance.run import UNSUPPORTED, Incident, Run, RunFileError, read_run
from lossaudit.reference.vocabulary import Case, Outcome

ADAPTER = """
import time
from pathlib import Path

import lossaudit
import numpy as np

HOLD = Path(__file__).with_name("hold")


def declared(operation):
    return lossaudit.subject(operation=operation, framework="numpy", dtypes=["float32"])


@declared("binary_cross_entropy_with_logits")
def right(z, y):
    z, dtype = z.astype(float), z.dtype
    with np.errstate(all="ignore"):
        positive = np.where(y == 0, 0.0, y * np.logaddexp(0, -z))
        negative = np.where(y == 1, 0.0, (1 - y) * np.logaddexp(0, z))
        gradient = 1 / (1 + np.exp(-z)) - y
    return (positive + negative).astype(dtype), gradient.astype(dtype)


@declared("binary_cross_entropy_with_logits")
def half(z, y):
    while HOLD.exists():
        time.sleep(0.01)
    loss, gradient = right(z, y)
    return loss / 2, gradient
"""

SUBJECTS = 2
"""Of each adapter."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Two adapters, so that two processes are at work."""
    before = dict(FRAMEWORKS._added)
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(ADAPTER)
        FRAMEWORKS.add(from_path(folder / f"{name}.py", [sys.executable]))
    yield folder
    FRAMEWORKS._added.clear()
    FRAMEWORKS._added.update(before)


@pytest.fixture(scope="module", autouse=True)
def packages() -> Iterator[None]:
    """What is installed is asked once: it is the same in all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable, "installed", cache(installed))
        yield


@pytest.fixture(scope="module")
def question(folder) -> Question:
    assert folder.is_dir()
    settings = Settings("quick", laws=("value",), known=load(FILE))
    return Question(("one", "two"), (Environment(),), settings, jobs=1)


@pytest.fixture(scope="module")
def uninterrupted(question, tmp_path_factory) -> tuple[Run, Counter[str], bytes]:
    """The run of an audit that nobody interrupted, what it asked, and its journal."""
    journal, watch = tmp_path_factory.mktemp("whole") / "run.json.journal", Watch()
    run = finished(Audit(question, journal, watch), done=False)
    assert run.peers
    return run, watch.asked, journal.read_bytes()


@pytest.fixture(scope="module")
def whole(uninterrupted) -> Run:
    return uninterrupted[0]


@pytest.fixture
def journal(uninterrupted, tmp_path) -> Path:
    """The journal of an audit that was interrupted after all was asked."""
    path = tmp_path / "run.json.journal"
    path.write_bytes(uninterrupted[2])
    return path


class Watch:
    """Hears the progress, and presses Ctrl-C at a moment."""

    def __init__(self, moment: Callable[[Event], bool] = lambda _: False) -> None:
        self.asked: Counter[str] = Counter()
        self._moment = moment

    def __call__(self, event: Event) -> None:
        if isinstance(event, CellStarted):
            self.asked[f"{event.subject} {event.law} {event.dtype}"] += 1
        if self._moment(event):
            raise KeyboardInterrupt


def finished(audit: Audit, *, done: bool = True) -> Run:
    audit.audit()
    run = audit.run(complete=True)
    audit.close(done=done)
    return run


def nth(kind: type[Event], number: int, text: str = "") -> Callable[[Event], bool]:
    left = number

    def moment(event: Event) -> bool:
        nonlocal left
        left -= isinstance(event, kind) and text in str(event)
        return left == 0

    return moment


def check_same(found: Run, whole: Run) -> None:
    """Every record is the same, in the same order; only when and how long is not."""
    for field in whole.__struct_fields__:
        if field not in ("started", "seconds"):
            assert getattr(found, field) == getattr(whole, field), field


# --- an interrupted start -------------------------------------------------------------------------


MOMENTS = (
    (nth(SubjectFinished, 1), 1),
    (nth(CellStarted, 1), 1),  # in the middle of a subject
    (nth(SubjectFinished, 2), 3),
    (nth(SubjectFinished, 1), 4),
    (nth(StepFinished, 2, "peers"), 4),
    (nth(CellStarted, 1, "inputs of findings"), 4),
)
"""When starts of one audit are interrupted, and how many subjects are finished then."""


def test_each_start_asks_what_is_left_and_together_they_say_the_same(
    question, uninterrupted, tmp_path
):
    journal, asked, before = tmp_path / "run.json.journal", Counter[str](), 0
    for moment, after in MOMENTS:
        watch = Watch(moment)
        audit = Audit(question, journal, watch)
        assert audit.finished_before == before
        with pytest.raises(KeyboardInterrupt):
            audit.audit()
        assert not audit.run(complete=False).complete
        audit.close(done=False)
        asked, before = asked + watch.asked, after
    last = Watch()
    check_same(finished(Audit(question, journal, last)), uninterrupted[0])
    asked += last.asked
    assert asked.keys() == uninterrupted[1].keys()
    assert (asked - uninterrupted[1]).total() == 2, "what was interrupted in its middle"
    assert list(tmp_path.iterdir()) == [], "nothing is left of an audit that is done"


def test_what_is_measured_beside_is_kept_and_not_measured_twice(question, tmp_path, monkeypatch):
    """Of a part that was interrupted later; what it says need not be about a subject."""
    measured = []

    def measure(_: object, subjects: tuple[Subject, ...], emit: Emit) -> None:
        home = subjects[0].home
        measured.append(home)
        emit(Incident(subject=home, law="misuse", dtype="", message="heard"))

    for name in ("measure_all", "ask_shipped"):
        monkeypatch.setattr(f"lossaudit.conformance.engine.{name}", measure)
    settings = Settings("quick", laws=(CONVENTIONS.name,), beside=True)
    one, journal = replace(question, frameworks=("one",), settings=settings), tmp_path / "journal"
    watch = Watch(nth(StepFinished, 1))
    audit = Audit(one, journal, watch)
    with pytest.raises(KeyboardInterrupt):
        audit.audit()
    audit.close(done=False)
    assert measured == ["one", "one"]
    run = finished(Audit(one, journal, Watch()))
    assert measured == ["one", "one"]
    assert [incident.message for incident in run.incidents] == ["heard", "heard"]


def test_a_start_counts_the_seconds_of_the_ones_before(question, journal):
    lines = journal.read_bytes().splitlines()
    late = [re.sub(rb'"seconds":[0-9.]+', b'"seconds":5000.0', line, count=1) for line in lines]
    journal.write_bytes(b"\n".join(late) + b"\n")
    assert 5000 <= finished(Audit(question, journal, Watch())).seconds < 6000


# --- a journal that is not as it was left ---------------------------------------------------------


@pytest.mark.parametrize("part", [0.6, 0.95])
def test_a_journal_that_was_cut_is_read_up_to_there(question, whole, journal, part):
    content = journal.read_bytes()
    journal.write_bytes(content[: int(part * len(content))])
    audit = Audit(question, journal, Watch())
    assert audit.journal is not None
    assert audit.journal.earlier.heard
    check_same(finished(audit), whole)


def test_a_whole_journal_leaves_nothing_to_ask(question, whole, journal):
    watch = Watch()
    check_same(finished(Audit(question, journal, watch)), whole)
    assert not watch.asked


@pytest.mark.parametrize("content", [b"", b"\n", b"no journal\n", b"[1]\n", b'{"seed":\n', b"\xff"])
def test_a_journal_that_is_none_is_begun_anew(question, journal, content):
    journal.write_bytes(content)
    assert opened(question, journal) == (0, ())
    assert opened(question, journal) == (0, ())


def opened(question: Question, journal: Path) -> tuple[int, tuple[str, ...]]:
    audit = Audit(question, journal, Watch())
    audit.close(done=False)
    assert audit.journal is not None
    return audit.finished_before, audit.journal.earlier.differs


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, "seed"),
        ({"depth": "standard"}, "depth"),
        ({"laws": ("value", "finite")}, "laws"),
        ({"memory": 1 << 33}, "memory"),
        ({"device": "cuda"}, "device"),
        ({"beside": True}, "what no law judges"),
        ({"known": Known()}, "known findings"),
    ],
)
def test_a_journal_of_other_settings_is_begun_anew(question, journal, change, what):
    other = replace(question, settings=replace(question.settings, **change))
    assert opened(other, journal) == (0, (what,))


def test_a_journal_of_other_inputs_is_begun_anew(question, whole, journal):
    other = replace(question.settings, worst=tuple(whole.worst[:1]))
    assert opened(replace(question, settings=other), journal) == (0, ("worst inputs",))


def test_another_number_of_processes_is_the_same_audit(question, journal):
    assert opened(replace(question, jobs=2), journal) == (2 * SUBJECTS, ())


def test_a_journal_of_other_frameworks_or_environments_is_begun_anew(question, journal):
    one = opened(replace(question, frameworks=("one",)), journal)
    assert one == (0, ("adapters", "frameworks"))
    named = replace(question, frameworks=("one",), environments=(Environment("here"),))
    assert opened(named, journal) == (0, ("environments",))


def test_a_journal_of_other_packages_is_begun_anew(question, journal, monkeypatch):
    monkeypatch.setattr(resumable, "installed", lambda _: {"numpy": "1.0"})
    assert opened(question, journal) == (0, ("installed packages",))


def test_a_journal_of_other_code_is_begun_anew(question, journal, monkeypatch, tmp_path):
    before = asked.code()
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "rows.py").write_text("1")
    monkeypatch.setattr(asked, "ROOT", tmp_path)
    first = asked.code()
    (tmp_path / "reference" / "rows.py").write_text("2")
    assert len({before, first, asked.code()}) == 3
    assert opened(question, journal) == (0, ("code of lossaudit",))


def test_a_journal_under_other_variables_is_begun_anew(question, journal, monkeypatch):
    monkeypatch.setenv("NOBODY_READS_IT", "1")
    assert opened(question, journal) == (2 * SUBJECTS, ())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert opened(question, journal) == (0, ("variables",))


def test_a_journal_of_an_edited_adapter_is_begun_anew(question, journal, folder):
    try:
        (folder / "two.py").write_text(ADAPTER + "\n# edited\n")
        assert opened(question, journal) == (0, ("adapters",))
    finally:
        (folder / "two.py").write_text(ADAPTER)


def test_two_at_once_do_not_write_over_each_other(question, tmp_path):
    journal = tmp_path / "run.json.journal"
    first = Audit(question, journal, Watch())
    with pytest.raises(RunFileError, match=r"another `lossaudit run` writes to .* --out"):
        Audit(question, journal, Watch())
    first.close(done=False)
    Audit(question, journal, Watch()).close(done=True)


def test_a_file_system_without_locks_is_no_reason_not_to_audit(question, tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    assert opened(question, tmp_path / "run.json.journal") == (0, ())


def test_a_seed_that_nobody_chose_is_that_of_the_interrupted_start(question, journal):
    drawn = replace(question, settings=replace(question.settings, seed=12345))
    assert with_the_seed_of(journal, drawn) == question
    deeper = replace(drawn, settings=replace(drawn.settings, depth="deep"))
    assert with_the_seed_of(journal, deeper) is None
    assert with_the_seed_of(journal.with_name("none"), drawn) is None
    assert with_the_seed_of(None, drawn) is None


def test_the_journal_lies_beside_the_first_file_that_is_written(tmp_path):
    out, page = tmp_path / "run.json.gz", tmp_path / "page.html"
    assert journal_beside((out, page)) == tmp_path / "run.json.gz.journal"
    assert journal_beside((None, page)) == tmp_path / "page.html.journal"
    assert journal_beside((Path(os.devnull), None)) is None
    assert journal_beside((None, None)) is None


# --- what a session knew --------------------------------------------------------------------------


class Unsupporting:
    """A session in which no call is supported."""

    def ask(self, subject: Subject, case: Case) -> Outcome:
        del subject, case
        return Outcome("unsupported", message="not here")

    def versions(self, framework: str) -> dict[str, str]:
        del framework
        return {}


def test_what_was_said_of_a_subject_is_not_said_again():
    subject = FRAMEWORKS["torch"].subjects[0]
    case = Case(subject.operation, "float32", np.zeros((1, 2)), np.zeros(1, int))
    heard: list[Event] = []
    Patience(Unsupporting(), heard.append).ask(subject, case)
    (said,) = heard
    assert isinstance(said, Incident)
    assert said.message.startswith(UNSUPPORTED)
    Patience(Unsupporting(), heard.append, [said]).ask(subject, case)
    assert len(heard) == 1
    left = Incident(subject=subject.name, law="", dtype="", message=LEFT_ALONE)
    outcome = Patience(Unsupporting(), heard.append, [left]).ask(subject, case)
    assert (outcome.message, len(heard)) == (NOT_ASKED, 1)


# --- processes that are ended ---------------------------------------------------------------------


PATIENCE = 120.0
"""Seconds for a command that takes one or two where nothing else is at work."""


class Started:
    """A command line in a session of its own, and every process that it and its workers are."""

    def __init__(self, *arguments: str, mark: str, errors: Path) -> None:
        self._mark = f"{mark}={os.getpid()}".encode()
        self._errors = errors
        # A file and not a pipe: what was said is read while the process goes on.
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lossaudit", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
                env={**os.environ, mark: str(os.getpid()), "COLUMNS": "200"},
            )

    def end(self, number: int, journal: Path, finished: int, said: str = "") -> tuple[int, str]:
        """Send a signal to the one process once its journal has so many finished subjects.

        What an earlier start has finished stands in the journal before this one has begun: `said`
        is what it says when it has.
        """
        deadline = time.monotonic() + PATIENCE
        while said not in self.said() or _finished_in(journal) < finished:
            assert self.process.poll() is None, "it ended before it was interrupted"
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.01)
        self.process.send_signal(number)
        return self.result()

    def result(self) -> tuple[int, str]:
        code = self.process.wait(timeout=PATIENCE)
        return code, self.said()

    def said(self) -> str:
        """What it has written to its error output so far."""
        return self._errors.read_text(encoding="utf-8")

    def living(self) -> list[str]:
        """Workers are in sessions of their own; what they inherit tells whose they are."""
        return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if self._is(path)]

    def _is(self, environment: Path) -> bool:
        try:
            return self._mark in environment.read_bytes().split(b"\0")
        except OSError:
            return False

    def left(self) -> list[str]:
        """Those that still live after a while in which they may end."""
        deadline = time.monotonic() + 30
        while (left := self.living()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def _finished_in(journal: Path) -> int:
    return journal.read_bytes().count(b'"SubjectFinished"') if journal.exists() else 0


@pytest.fixture
def start(tmp_path_factory) -> Iterator[Callable[..., Started]]:
    all_of_them, folder = [], tmp_path_factory.mktemp("said")

    def started(*arguments: str) -> Started:
        name = f"LOSSAUDIT_TEST_{len(all_of_them)}"
        all_of_them.append(Started(*arguments, mark=name, errors=folder / name))
        return all_of_them[-1]

    yield started
    for each in all_of_them:
        for pid in each.living():
            with contextlib.suppress(ProcessLookupError):  # it has ended by now
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture(scope="module")
def toy(folder) -> tuple[str, ...]:
    adapters = [f"--adapter={folder / name}.py" for name in ("one", "two")]
    return ("run", *adapters, "--depth", "quick", "--law", "value", "--jobs", "2")


@pytest.fixture
def hold(folder) -> Iterator[Path]:
    """While this file exists, the second subject of each adapter does not answer."""
    path = folder / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_a_command_that_is_ended_goes_on_when_it_is_started_again(
    toy, whole, start, hold, tmp_path
):
    """Killed first, then interrupted, then left alone."""
    out, journal = tmp_path / "run.json", tmp_path / "run.json.journal"
    command = (*toy, "--out", str(out))
    first = start(*command)
    code, said = first.end(signal.SIGKILL, journal, 2)
    assert code == -signal.SIGKILL, said
    assert "Traceback" not in said
    assert not first.left(), "no process outlives it"
    assert not out.exists()
    second = start(*command)
    code, said = second.end(signal.SIGINT, journal, 2, said="going on from")
    assert code == 130, said
    assert f"going on from {journal}, which has 2 subjects" in said
    assert f"the same command goes on from {journal}" in said
    assert not second.left()
    assert not read_run(out).complete
    hold.unlink()
    code, said = start(*command).result()
    assert code == 1, said
    assert f"going on from {journal}, which has 2 subjects" in said
    check_same(read_run(out), whole)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_an_end_before_anything_was_asked_is_said(number, monkeypatch, capsys):
    """Typer alone would exit without a word."""

    def ended(*_: object) -> None:
        signal.signal(signal.SIGTERM, cli._interrupt)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(cli, "_frameworks", ended)
    monkeypatch.setattr(sys, "argv", ["lossaudit", "run"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="130"):
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "lossaudit: interrupted\n"


def test_an_audit_that_cannot_begin_lets_its_file_go(question, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "run.json.journal"
    with monkeypatch.context() as patch:
        patch.setattr(resumable, "Journal", full)
        with pytest.raises(OSError, match="No space"):
            Audit(question, file, Watch())
    assert not list(tmp_path.iterdir())
    Audit(question, file, Watch()).close(done=True)


def test_a_seed_that_was_drawn_stays_the_same(question, journal, capsys):
    """Under another one, the same command would be another audit."""
    drawn = replace(question, settings=replace(question.settings, seed=12345))
    assert cli._seeded(drawn, journal) == question
    assert "seed 0, that of the interrupted start: --seed 0" in capsys.readouterr().err
    assert cli._seeded(drawn, None) == drawn
    assert "seed 12345, drawn at random: --seed 12345" in capsys.readouterr().err


def test_a_journal_of_another_audit_is_said(question, journal, capsys):
    other = Audit(replace(question, settings=replace(question.settings, seed=7)), journal, Watch())
    other.close(done=False)
    cli._say_what_was_kept(other)
    said = capsys.readouterr().err
    assert "run.json.journal was of another audit (seed) and is begun anew" in said


@pytest.mark.frameworks
@pytest.mark.slow
def test_a_killed_audit_of_a_real_framework_ends_as_if_nothing_had_been(start, tmp_path):
    whole, out = tmp_path / "whole.json", tmp_path / "run.json"
    audit = ("run", "--backend", "onnxruntime", "--depth", "quick", "--out")
    assert start(*audit, str(whole)).result()[0] in (0, 1)
    first = start(*audit, str(out))
    first.end(signal.SIGKILL, tmp_path / "run.json.journal", 1)
    assert not first.left()
    _, said = start(*audit, str(out)).result()
    assert "which has" in said
    check_same(read_run(out), read_run(whole))
