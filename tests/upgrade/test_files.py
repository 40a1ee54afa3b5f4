"""Run files that cannot be compared, or not wholly: one line that says which, and what to do."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lossaudit import cli
from lossaudit.cli import MOVED, NOTHING_NEW, REGRESSED, WRONG_USE
from lossaudit.conformance.run import Run, anywhere, read_run, write_run

MAKE_IT_ANEW = "Make it anew with `lossaudit run --out FILE`."

Edited = Callable[[Callable[[Any], None]], Path]


@pytest.fixture(scope="session")
def runs(workshop, version, tmp_path_factory) -> tuple[Run, Run]:
    """Two versions; in the new one a loss between 1.5 and 2 is an ulp too large."""
    rounded = "    return loss.astype(z.dtype), gradient.astype(z.dtype)"
    nudged = (
        "    loss = loss.astype(z.dtype)\n"
        "    larger = np.nextafter(loss, z.dtype.type(np.inf))\n"
        "    loss = np.where((loss > 1.5) & (loss < 2), larger, loss)\n"
        "    return loss, gradient.astype(z.dtype)"
    )
    folder = tmp_path_factory.mktemp("runs") / "upgrade"
    work, old, new = workshop.upgrade(folder, version(), version((rounded, nudged)))
    work.close(done=True)
    return old, new


@pytest.fixture
def old(runs, tmp_path) -> Path:
    path = tmp_path / "old.json"
    write_run(runs[0], path)
    return path


@pytest.fixture
def new(runs, tmp_path) -> Path:
    path = tmp_path / "new.json.gz"
    write_run(runs[1], path)
    return path


@pytest.fixture
def edited(old, tmp_path) -> Edited:
    """The old run with something changed by hand."""

    def edit(change: Callable[[Any], None]) -> Path:
        content = json.loads(old.read_text())
        change(content)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(content))
        return path

    return edit


@pytest.fixture
def compared(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: its exit code, and what it printed."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr("sys.argv", ["lossaudit", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        code = stopped.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    return command


def check_refused(result: tuple[int, str, str], *pieces: str) -> None:
    """Wrong use, in one line that has these pieces."""
    code, out, err = result
    assert code == WRONG_USE, err
    assert out == ""
    assert err.startswith("lossaudit: ")
    assert len(err.splitlines()) == 1
    for piece in pieces:
        assert piece in err


def test_files_that_are_whole_are_compared(compared, old, new, tmp_path):
    written = tmp_path / "comparison.json"
    code, out, _ = compared(old, new, "--json", written)
    assert code == MOVED
    assert "moved" in out
    content = json.loads(written.read_text())
    assert {change["kind"] for change in content["changes"]} == {"moved"}
    assert compared(old, new, "--fail-on", "regressed")[0] == NOTHING_NEW
    assert compared(old, old)[0] == NOTHING_NEW


# --- what is no run -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(compared, old, new, part):
    text = old.read_bytes()
    old.write_bytes(text[: int(part * len(text))])
    check_refused(compared(old, new), f"{old} is not valid JSON", MAKE_IT_ANEW)


@pytest.mark.parametrize("cut", [10, 5000])
def test_a_compressed_file_that_was_cut(compared, old, new, cut):
    new.write_bytes(new.read_bytes()[:-cut])
    check_refused(compared(old, new), f"{new} is not valid JSON", MAKE_IT_ANEW)


def test_a_compressed_file_with_another_byte(compared, old, new):
    content = bytearray(new.read_bytes())
    content[len(content) // 2] ^= 1
    new.write_bytes(content)
    check_refused(compared(old, new), f"{new} is not valid JSON", MAKE_IT_ANEW)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "not a lossaudit run file"),
        (b'{"name": "pytest", "tests": []}', "not a lossaudit run file"),
        (b"\x89PNG\r\n\x1a\n", "is not valid JSON"),
        (gzip.compress(b"text", mtime=0), "is not valid JSON"),
    ],
)
def test_a_foreign_file(compared, new, tmp_path, content, said):
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    check_refused(compared(path, new), str(path), said)
    check_refused(compared(new, path), str(path), said)


def test_a_file_that_is_not_there(compared, new, tmp_path):
    path = tmp_path / "absent.json"
    check_refused(compared(path, new), f"cannot read {path}", "No such file")


def test_a_comparison_is_no_run(compared, old, new, tmp_path):
    path = tmp_path / "comparison.json"
    compared(old, new, "--json", path)
    check_refused(compared(path, new), str(path), "not a lossaudit run file")


# --- runs that cannot be compared -----------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 99, "1", None])
def test_another_format(compared, edited, new, number):
    path = edited(lambda run: run.update(format=number))
    check_refused(compared(path, new), f"{path} has run format {number!r}", MAKE_IT_ANEW)


def test_a_run_from_before_answers_were_kept(compared, edited, new):
    path = edited(lambda run: run.pop("answers"))
    check_refused(compared(path, new), f"{path} holds no answers to compare", "lossaudit run --out")


def test_another_corpus(compared, edited, new):
    path = edited(lambda run: run.update(corpus=run["corpus"] - 1))
    check_refused(compared(path, new), f"{path} was asked corpus", "lossaudit run --out")
    check_refused(compared(new, path), f"{path} was asked corpus")


def test_no_subject_in_common(compared, edited, new):
    def rename(run):
        for record in run["subjects"]:
            record["name"] = record["name"].replace("tiny:", "large:")
        for answers in run["answers"]:
            answers["subject"] = answers["subject"].replace("tiny:", "large:")

    path = edited(rename)
    check_refused(compared(path, new), "no subject is in both", str(path), "tiny:", "large:")


# --- what was edited ------------------------------------------------------------------------------


def moved_call(run: Any, runs: tuple[Run, Run]) -> dict[str, Any]:
    """A call of which the two versions give other numbers."""
    theirs = {
        (anywhere(answers.subject), answers.dtype, call.law, call.case): call.digests
        for answers in runs[1].answers
        for call in answers.calls
    }
    return next(
        call
        for answers in run["answers"]
        for call in answers["calls"]
        if call.get("digests")
        and call["digests"]
        != theirs[anywhere(answers["subject"]), answers["dtype"], call["law"], call["case"]]
    )


def test_an_edited_number_is_refused_where_it_would_be_read(compared, runs, edited, new):
    def edit(run):
        call = moved_call(run, runs)
        call["loss"] = (
            "=3.0" + call["loss"][call["loss"].index(" ") :]
            if " " in call["loss"]
            else ("=3.0*" + str(call["rows"]))
        )

    path = edited(edit)
    code, _, err = compared(path, new)
    assert code == WRONG_USE
    assert str(path) in err
    assert len(err.splitlines()) == 1


def test_an_edited_number_is_not_believed_where_the_digests_agree(compared, edited, new, tmp_path):
    """What was edited is not read there: the digests say that nothing moved."""

    def edit(run):
        for answers in run["answers"]:
            for call in answers["calls"]:
                if call.get("loss", "").startswith("0*"):
                    call["loss"] = call["loss"].replace("0*", "1*", 1)

    path, whole, other = edited(edit), tmp_path / "whole.json", tmp_path / "other.json"
    compared(tmp_path / "old.json", new, "--json", whole)
    code, _, err = compared(path, new, "--json", other)
    if code != WRONG_USE:
        assert json.loads(other.read_text())["changes"] == json.loads(whole.read_text())["changes"]
    else:
        assert "edited" in err


@pytest.mark.parametrize("output", ["loss", "gradient"])
def test_an_edited_digest_is_refused(compared, edited, new, output):
    def edit(run):
        call = next(c for a in run["answers"] for c in a["calls"] if c.get("digests"))
        call["digests"][output] = "0" * 12

    check_refused(compared(edited(edit), new), "reads back as other numbers", "make it anew")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss", "three"),
        ("loss", "0*2"),
        ("loss", "0*-1"),
        ("gradient", "=x"),
        ("region", "nowhere"),
    ],
)
def test_a_text_that_says_nothing_is_refused(compared, runs, edited, new, field, value):
    path = edited(lambda run: moved_call(run, runs).update({field: value}))
    check_refused(compared(path, new), str(path))


def test_a_plan_that_draws_other_rows_is_refused(compared, runs, edited, new):
    path = edited(lambda run: moved_call(run, runs).update(seed=123456))
    check_refused(compared(path, new), str(path), "is drawn otherwise today")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run["answers"][0].update(dtype=3), "is damaged"),
        (lambda run: run["answers"][0]["calls"][0].pop("case"), "is damaged"),
        (lambda run: run.update(answers=[1]), "is damaged"),
        (lambda run: run["tallies"][0].update(grades={"splendid": 1}), "does not exist"),
        (lambda run: run["answers"][0].update(dtype="float80"), "is damaged"),
        (lambda run: run["subjects"].pop(0), "is damaged"),
        (lambda run: moved_grades(run, "z"), "is no grade"),
    ],
)
def test_a_field_that_no_run_has_is_refused(compared, edited, new, change, said):
    path = edited(change)
    check_refused(compared(path, new), str(path), said)


def moved_grades(run: Any, letter: str) -> None:
    for answers in run["answers"]:
        for call in answers["calls"]:
            for output in call.get("grades", {}):
                call["grades"][output] = letter


# --- what is compared in part ---------------------------------------------------------------------


def notes(path: Path) -> str:
    """What the comparison says of what it left out."""
    return "; ".join(json.loads(path.read_text())["notes"])


def test_depths_are_aligned_with_a_note(compared, edited, new, tmp_path):
    written = tmp_path / "comparison.json"
    path = edited(lambda run: run.update(depth="deep"))
    code, _, _ = compared(path, new, "--json", written)
    assert code == MOVED
    assert f"{path} has the depth deep and {new} quick" in notes(written)


def test_a_run_of_one_law_is_aligned_with_a_note(compared, edited, new, tmp_path):
    def one_law(run):
        run["laws"] = [law for law in run["laws"] if law["name"] != "label-policy"]
        for answers in run["answers"]:
            answers["calls"] = [c for c in answers["calls"] if c["law"] != "label-policy"]

    written = tmp_path / "comparison.json"
    code, _, _ = compared(edited(one_law), new, "--json", written)
    assert code == MOVED
    assert "the law label-policy is in one run alone" in notes(written)


def test_a_run_whose_laws_keep_no_calls_is_refused(compared, edited, new):
    def another_law(run):
        run["answers"] = []
        run["laws"] = [law for law in run["laws"] if law["name"] == "conventions"]

    check_refused(compared(edited(another_law), new), "holds no answers", "--law")


def test_an_incomplete_run_is_compared_as_far_as_it_goes(compared, edited, new, tmp_path):
    def interrupt(run):
        run["complete"] = False
        run["subjects"] = run["subjects"][1:]
        kept = {record["name"] for record in run["subjects"]}
        run["answers"] = [a for a in run["answers"] if a["subject"] in kept]
        run["conventions"] = [c for c in run["conventions"] if c["subject"] in kept]

    path, written = edited(interrupt), tmp_path / "comparison.json"
    code, _, _ = compared(path, new, "--json", written)
    assert code in (NOTHING_NEW, MOVED)
    assert f"{path} is not complete: what it lacks is not compared" in notes(written)
    comparison = json.loads(written.read_text())
    assert comparison["complete"] is False
    assert comparison["presence"] == [], "what was not reached is not called new or gone"
    code, _, _ = compared(new, path, "--json", written)
    assert code != REGRESSED
    assert json.loads(written.read_text())["presence"] == []


def test_a_call_that_one_run_lacks_is_said(compared, edited, new, tmp_path):
    """It was cut out by hand, or lossaudit failed there: what is not compared is not the same."""
    written = tmp_path / "comparison.json"
    path = edited(lambda run: run["answers"][0]["calls"].pop(0))
    code, _, _ = compared(path, new, "--json", written)
    assert code == MOVED
    assert "1 calls are in one run alone, and not compared" in notes(written)


def test_a_run_reads_back_as_it_was_written(runs, tmp_path):
    for name in ("run.json", "run.json.gz"):
        path = tmp_path / name
        write_run(runs[1], path)
        assert msgspec.json.encode(read_run(path)) == msgspec.json.encode(runs[1])
        text = path.read_bytes()
        write_run(runs[1], path)
        assert path.read_bytes() == text, "the same content gives the same file"


def test_a_plain_run_can_be_read_in_a_diff(old):
    """A call is some short lines: numbers of a row that did not move are not written."""
    longest = max(len(line) for line in old.read_text().splitlines() if '"loss"' in line)
    assert longest < 2000
    assert re.search(r'"loss": "0\*6[0-9]"', old.read_text())
