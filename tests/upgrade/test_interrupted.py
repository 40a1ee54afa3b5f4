"""An upgrade that was interrupted: nothing is lost, and the next start asks only what is left."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance import asked
from lossaudit.conformance.compare import compare
from lossaudit.conformance.events import CellStarted, Event, SubjectFinished
from lossaudit.conformance.run import Run, RunFileError
from lossaudit.conformance.upgrade import Question, Upgrade

SUBJECTS = {"tiny:cross_entropy[eager,cpu]", "tiny:binary_cross_entropy[eager,cpu]"}
JOURNALS = ("old.journal", "new.journal")
CELLS = 6
"""On both sides together: value and label-policy of one subject, value of the other."""


@pytest.fixture(scope="session")
def question(workshop, version) -> Question:
    changed = version(("a label is not in [0", "labels must be in [0"))
    return workshop.question(version(), changed, ("value", "label-policy"))


@pytest.fixture(scope="session")
def whole(question, tmp_path_factory) -> tuple[Run, Run]:
    """The runs of an upgrade that nobody interrupted."""
    work = Upgrade(question, tmp_path_factory.mktemp("whole"), lambda _: None)
    runs = work.audit()
    work.close(done=True)
    return runs


@pytest.fixture(scope="session")
def journals(question, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("journals")
    resumed(question, folder)
    return folder


class Watch:
    """Hears the progress, and presses Ctrl-C at a moment."""

    def __init__(self, moment: Callable[[Event], bool] = lambda _: False) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self._moment = moment

    def __call__(self, event: Event) -> None:
        if isinstance(event, CellStarted):
            self.asked.append((event.subject, event.law, event.dtype))
        if self._moment(event):
            raise KeyboardInterrupt

    @property
    def subjects(self) -> set[str]:
        return {subject for subject, _, _ in self.asked}


def after_subjects(count: int) -> Callable[[Event], bool]:
    left = count

    def moment(event: Event) -> bool:
        nonlocal left
        left -= isinstance(event, SubjectFinished)
        return left == 0

    return moment


def interrupted(question: Question, folder: Path, moment: Callable[[Event], bool]) -> Watch:
    """Begin an upgrade, and interrupt it."""
    watch = Watch(moment)
    work = Upgrade(question, folder, watch)
    with pytest.raises(KeyboardInterrupt):
        work.audit()
    for run in work.runs(complete=False):
        assert not run.complete
    work.close(done=False)
    return watch


def resumed(question: Question, folder: Path) -> tuple[Upgrade, Watch, tuple[Run, Run]]:
    watch = Watch()
    work = Upgrade(question, folder, watch)
    runs = work.audit()
    work.close(done=False)
    return work, watch, runs


def check_same(found: tuple[Run, Run], whole: tuple[Run, Run]) -> None:
    """All records are the same but for times, and for what workers say of themselves at the end."""
    for ours, theirs in zip(found, whole, strict=True):
        plain = {"started": "", "seconds": 0.0, "environment": theirs.environment}
        a, b = (msgspec.structs.replace(run, **plain) for run in (ours, theirs))
        for field in a.__struct_fields__:
            assert getattr(a, field) == getattr(b, field), field
        assert ours.complete
    assert compare(*found).rows == compare(*whole).rows


@pytest.mark.parametrize("subjects", [1, 2, 3])
def test_a_start_after_ctrl_c_asks_only_what_was_not_finished(question, whole, tmp_path, subjects):
    first = interrupted(question, tmp_path, after_subjects(subjects))
    assert all((tmp_path / name).stat().st_size for name in JOURNALS)
    work, second, runs = resumed(question, tmp_path)
    assert work.finished_before == subjects
    # The cells of both sides: none is asked twice, and none is left out.
    assert len(first.asked) + len(second.asked) == CELLS
    check_same(runs, whole)


def test_in_the_middle_of_a_subject_all_of_it_is_asked_again(question, whole, tmp_path):
    cells = 0

    def moment(event: Event) -> bool:
        nonlocal cells
        cells += isinstance(event, CellStarted)
        return cells == 2

    interrupted(question, tmp_path, moment)
    work, second, runs = resumed(question, tmp_path)
    assert work.finished_before == 0
    assert len(second.asked) == CELLS
    check_same(runs, whole)


def test_after_all_was_audited_nothing_is_asked_again(question, whole, left):
    """Ctrl-C during the search: the next start has both runs at once."""
    work, watch, runs = resumed(question, left)
    assert work.finished_before == 2 * len(SUBJECTS)
    assert watch.asked == []
    check_same(runs, whole)


def test_what_is_done_leaves_no_journal(question, left):
    work = Upgrade(question, left, lambda _: None)
    work.close(done=True)
    assert list(left.iterdir()) == []


def test_a_search_that_is_interrupted_keeps_what_it_found(question, whole, tmp_path):
    found = compare(*whole)
    searched = 0

    def moment(event: Event) -> bool:
        nonlocal searched
        searched += isinstance(event, CellStarted)
        return searched == 2

    work = Upgrade(question, tmp_path, Watch(moment))
    with pytest.raises(KeyboardInterrupt):
        work.search(whole[0], whole[1], found)
    work.close(done=False)
    assert [d.output for d in found.searched] == ["gradient", "loss"], "of the first subject"


# --- a journal that is not as it was left ---------------------------------------------------------


@pytest.fixture
def left(journals, tmp_path) -> Path:
    """The journals of an upgrade of which everything was audited."""
    folder = tmp_path / "left"
    shutil.copytree(journals, folder)
    return folder


@pytest.mark.parametrize("part", [0.4, 0.9])
def test_a_journal_that_was_cut_is_read_up_to_there(question, whole, left, part):
    """In the middle of a line, as a full disk or a cut of the power leaves it."""
    journal = left / "new.journal"
    content = journal.read_bytes()
    cut = int(part * len(content))
    assert content[cut - 1 : cut + 1].count(b"\n") == 0
    journal.write_bytes(content[:cut])
    work, watch, runs = resumed(question, left)
    assert len(SUBJECTS) <= work.finished_before < 2 * len(SUBJECTS)
    assert watch.subjects <= SUBJECTS
    assert len(watch.subjects) == 2 * len(SUBJECTS) - work.finished_before
    check_same(runs, whole)


def test_a_cut_in_the_last_line_costs_what_is_in_it(question, whole, left):
    """That is what a worker said of itself: every subject was finished before."""
    journal = left / "new.journal"
    journal.write_bytes(journal.read_bytes()[:-1])
    work, watch, runs = resumed(question, left)
    assert (work.finished_before, watch.asked) == (2 * len(SUBJECTS), [])
    check_same(runs, whole)


def test_a_journal_with_a_broken_line_is_read_up_to_there(question, whole, left):
    journal = left / "old.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = b'{"kind":"Tally","event":\n'
    journal.write_bytes(b"".join(lines))
    work, watch, runs = resumed(question, left)
    assert work.finished_before == len(SUBJECTS), "the new side alone"
    assert watch.subjects == SUBJECTS
    check_same(runs, whole)


@pytest.mark.parametrize("content", [b"", b"\n", b"not a journal\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_journal_that_is_none_is_begun_anew(question, left, content):
    for name in JOURNALS:
        (left / name).write_bytes(content)
    assert opened(question, left) == 0
    assert opened(question, left) == 0, "nor is what was written over it one of something"


def test_a_journal_of_another_lossaudit_is_begun_anew(question, left, monkeypatch):
    monkeypatch.setattr(asked, "__version__", "0.0.1")
    assert opened(question, left) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda q: replace(q, settings=replace(q.settings, seed=1)),
        lambda q: replace(q, settings=replace(q.settings, depth="standard")),
        lambda q: replace(q, settings=replace(q.settings, laws=("value",))),
        lambda q: replace(q, packages=({"numpy": "1"}, {"numpy": "1"})),
        lambda q: replace(q, environments=q.environments[::-1]),
    ],
)
def test_a_journal_of_another_question_is_begun_anew(question, left, change):
    assert opened(change(question), left) == 0


def test_only_the_side_that_changed_is_begun_anew(question, left):
    """The new version was installed anew: what the old one answered still holds."""
    other = replace(question, packages=(question.packages[0], {"tinyloss": "3"}))
    assert opened(other, left) == len(SUBJECTS)


def test_another_declaration_of_the_subjects_begins_anew(question, left):
    """What an adapter says is what is asked: of an edited one, nothing that was answered holds."""
    (name,) = question.frameworks
    file = Path(FRAMEWORKS[name].module)
    text = file.read_text()
    try:
        file.write_text(text + "\n# edited\n")
        assert opened(question, left) == 0
    finally:
        file.write_text(text)


def opened(question: Question, folder: Path) -> int:
    work = Upgrade(question, folder, lambda _: None)
    work.close(done=False)
    return work.finished_before


# --- a process that is interrupted or killed ------------------------------------------------------

PROGRAM = """
    import pickle, signal, sys
    from pathlib import Path
    from lossaudit.adapters.modules import from_path
    from lossaudit.adapters.registry import FRAMEWORKS
    from lossaudit.conformance.events import SubjectFinished
    from lossaudit.conformance.upgrade import Upgrade

    if __name__ == "__main__":
        question = pickle.loads(Path(sys.argv[1]).read_bytes())
        adapter, folder = Path(sys.argv[2]), Path(sys.argv[3])
        FRAMEWORKS.add(from_path(adapter, [e.python for e in question.environments]))
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def progress(event):
            if isinstance(event, SubjectFinished):
                print("finished", event.subject, flush=True)

        work = Upgrade(question, folder, progress)
        try:
            work.audit()
        except KeyboardInterrupt:
            work.close(done=False)
            sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "code", "jobs"), [(signal.SIGINT, 130, 2), (signal.SIGKILL, -signal.SIGKILL, 1)]
)
def test_a_process_that_is_ended_leaves_what_it_finished(
    question, whole, workshop, tmp_path, number, code, jobs
):
    program, asked = tmp_path / "program.py", tmp_path / "question"
    program.write_text(textwrap.dedent(PROGRAM))
    asked.write_bytes(pickle.dumps(replace(question, jobs=jobs)))
    adapter, folder = workshop.folder / "tiny.py", tmp_path / "upgrade"
    with subprocess.Popen(
        [sys.executable, program, asked, adapter, folder],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("finished tiny:")
        os.kill(process.pid, number)
        assert process.wait(30) == code
    work, watch, runs = resumed(question, folder)
    assert 1 <= work.finished_before <= 2 * len(SUBJECTS)
    assert len(watch.asked) < CELLS
    check_same(runs, whole)


def test_two_at_once_on_one_folder_do_not_write_over_each_other(question, tmp_path):
    first = Upgrade(question, tmp_path, lambda _: None)
    with pytest.raises(RunFileError, match=r"another `lossaudit upgrade` is at work .* --out"):
        Upgrade(question, tmp_path, lambda _: None)
    first.close(done=False)
    Upgrade(question, tmp_path, lambda _: None).close(done=True)
