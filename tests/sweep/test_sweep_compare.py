"""Two sweeps compared: the law of it, what is refused, and how it is told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from lossaudit.cli import MOVED, NOTHING_NEW, REGRESSED, WRONG_USE, WrongUse, app
from lossaudit.conformance.compare import IncomparableRuns
from lossaudit.conformance.comparison import KINDS
from lossaudit.conformance.run import FINDING_GRADES, GRADES, RunFileError, write_json
from lossaudit.conformance.sweep.block import _stamps
from lossaudit.conformance.sweep.compare import (
    SweepComparison,
    both_sweeps,
    compare,
    kind_of,
)
from lossaudit.conformance.sweep.plan import Around
from lossaudit.conformance.sweep.record import Binade, Curve, Sweep, write_sweep
from lossaudit.reports.sweep_comparison import (
    LISTED,
    print_sweep_comparison,
    sweep_comparison_markdown,
)

Make = Callable[..., Sweep]
MakeCurve = Callable[..., Curve]
MakeBinade = Callable[..., Binade]


def printed(comparison: SweepComparison, width: int = 80) -> str:
    stream = io.StringIO()
    print_sweep_comparison(comparison, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def joined(page: str) -> str:
    return " ".join(page.split())


# ---- the law

COUNTS = st.dictionaries(st.sampled_from(GRADES), st.integers(1, 50), min_size=1)
ULPS = st.none() | st.floats(0.0, 1e6)


def binade(grades: dict[str, int], ulps: float | None, digest: int, name: str = "2^0") -> Binade:
    return Binade(
        name=name,
        inputs=sum(grades.values()),
        grades=grades,
        errors=[],
        worst=ulps,
        digest=f"{digest:016x}",
    )


@given(old=st.tuples(COUNTS, ULPS), new=st.tuples(COUNTS, ULPS))
def test_what_is_better_one_way_is_worse_the_other_way(old, new):
    before, after = binade(old[0], old[1], 1), binade(new[0], new[1], 2)
    kind, back = kind_of(before, after), kind_of(after, before)
    assert kind in KINDS
    bad = ("crashed", "policy", "worse")
    if kind == "better":
        assert back in bad
    if kind in bad:
        assert back in (*bad, "better")
    if kind in ("moved", "unspecified"):
        assert back == kind


@given(moves=st.lists(st.tuples(st.sampled_from(GRADES), st.sampled_from(GRADES)), min_size=1))
def test_inputs_that_all_become_no_better_are_worse_together(moves: list[tuple[str, str]]):
    """Against the grades of single inputs, which a sweep does not keep."""
    pairs = [sorted(move, key=GRADES.index) for move in moves]
    old, new = ({g: [pair[i] for pair in pairs].count(g) for g in GRADES} for i in (0, 1))
    kind = kind_of(binade(old, None, 1), binade(new, None, 2))
    worse = [now for was, now in pairs if now in FINDING_GRADES and was != now]
    assert (kind in ("worse", "policy", "crashed")) == bool(worse)
    back = kind_of(binade(new, None, 2), binade(old, None, 1))
    assert (back == "better") == bool(worse)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({"exact": 9}, {"bounded": 9}, "moved"),
        ({"exact": 9}, {"exact": 8, "no bound": 1}, "moved"),
        ({"exact": 9}, {"exact": 8, "precision": 1}, "worse"),
        ({"precision": 9}, {"exact": 8, "violates": 1}, "worse"),
        ({"violates": 9}, {"precision": 9}, "better"),
        ({"wrong kind": 9}, {"policy": 9}, "policy"),
        ({"policy": 9}, {"timed out": 9}, "crashed"),
        ({"crashed": 9}, {"wrong kind": 9}, "better"),
        ({"unspecified": 9}, {"unspecified": 9}, "unspecified"),
        ({"exact": 8, "unspecified": 1}, {"exact": 8, "unspecified": 1}, "moved"),
    ],
)
def test_the_class_of_what_is_no_finding_is_one(old, new, kind: str):
    assert kind_of(binade(old, 1.0, 1), binade(new, 1.0, 2)) == kind


@pytest.mark.parametrize(
    ("grade", "kind"), [("violates", "worse"), ("precision", "moved"), ("wrong kind", "moved")]
)
def test_an_error_that_grows_is_worse_outside_of_a_declared_bound(grade: str, kind: str):
    old, new = binade({grade: 3}, 10.0, 1), binade({grade: 3}, 11.0, 2)
    assert kind_of(old, new) == kind


# ---- whole sweeps


@given(counts=st.lists(COUNTS, min_size=1, max_size=5), digests=st.data())
def test_a_sweep_is_identical_with_itself(make_sweep, make_curve, counts, digests):
    numbers = st.integers(0, 2**64 - 1)
    binades = [
        binade(found, None, digests.draw(numbers), f"2^{i}") for i, found in enumerate(counts)
    ]
    sweep = make_sweep([make_curve(binades), make_curve(binades, output="gradient")])
    found = compare(sweep, sweep)
    assert found.verdict == "nothing moved"
    assert [curve.kind for curve in found.curves] == ["", ""]
    assert not found.presence
    assert not found.notes


def worse(make_curve: MakeCurve, **changes: Any) -> Curve:
    """The usual curve with six more inputs that are findings in one binade."""
    curve = make_curve(**changes)
    first = curve.binades[0]
    other = binade({"exact": 44, "precision": 20}, 3000.0, 77, first.name)
    return make_curve([other, *curve.binades[1:]], **changes)


def test_a_regression_is_told_with_its_binade(make_sweep: Make, make_curve: MakeCurve):
    old = make_sweep([make_curve(), make_curve(output="gradient")])
    new = make_sweep([worse(make_curve), make_curve(output="gradient")], versions={"torch": "2.14"})
    found = compare(old, new)
    assert found.verdict == "regressed"
    assert [(c.output, c.kind) for c in found.curves] == [("loss", "worse"), ("gradient", "")]
    page = joined(printed(found))
    assert (
        "Regressed with torch 2.13.0 -> 2.14: of 2 curves 1 worse; 258 answers of the other 1 are "
        "identical bit for bit." in page
    )
    assert "WO worse torch:binary_cross_entropy_with_logits[eager] f16 0 loss" in page
    assert (
        "worse in -2^3 (64 inputs): exact 50 -> 44, precision 14 -> 20, 2,047 ulps -> 3,000 ulps"
        in page
    )
    assert "largest error 2,047 ulps (0 at -7.625, right 0.000488)" in page
    assert "2^2" not in page.replace("-2^3", "")


def test_what_is_worse_is_better_with_the_sides_swapped(make_sweep: Make, make_curve: MakeCurve):
    old, new = make_sweep([make_curve()]), make_sweep([worse(make_curve)])
    forth, back = compare(old, new), compare(new, old)
    assert (forth.verdict, back.verdict) == ("regressed", "moved")
    assert back.curves[0].kind == "better"
    assert back.curves[0].old == forth.curves[0].new
    page = joined(printed(back))
    assert (
        "Moved, and nothing regressed, with torch 2.13.0 on both sides: of 1 curve 1 better."
        in page
    )


def test_environments_are_not_compared(make_sweep: Make, make_curve: MakeCurve):
    here = make_curve(subject="torch:op[eager,cpu]")
    there = make_curve(subject="torch@old:op[eager,cpu]")
    found = compare(make_sweep([there]), make_sweep([here]))
    assert found.verdict == "nothing moved"
    assert found.curves[0].subject == "torch:op[eager,cpu]"


def test_what_one_side_has_is_gone_or_new(make_sweep: Make, make_curve: MakeCurve):
    both, other = make_curve(), make_curve(subject="jax:op[jit,cpu]")
    old = make_sweep([both, make_curve(output="gradient"), other])
    new = make_sweep([both, make_curve(dtype="bfloat16")])
    found = compare(old, new)
    assert {(p.subject, p.part, p.state) for p in found.presence} == {
        ("jax:op[jit,cpu]", "float16", "gone"),
        (both.subject, "float16 0 gradient", "gone"),
        (both.subject, "bfloat16", "new"),
    }
    assert found.verdict == "regressed"
    assert compare(new, new).verdict == "nothing moved"
    page = joined(printed(found))
    assert "Gone (2) jax:op[jit,cpu] float16" in page
    assert "New (1)" in page


@pytest.mark.parametrize(
    ("asking", "words"),
    [
        ({"stride": 2}, "the stride"),
        ({"seed": 2}, "the seed"),
        ({"span": (0, 9)}, "the range"),
        ({"targets": [[0.5]]}, "the targets"),
        ({"around": Around(kind="pairs", classes=2), "seed": 1}, "around the input and the seed"),
    ],
)
def test_what_was_asked_otherwise_is_refused(make_sweep: Make, asking, words: str):
    with pytest.raises(IncomparableRuns, match=f"they differ in .*{words}. Make both"):
        compare(make_sweep(), make_sweep(asking=asking))


def test_sweeps_of_other_subjects_are_refused(make_sweep: Make, make_curve: MakeCurve):
    other = make_sweep([make_curve(subject="jax:op[jit,cpu]")])
    with pytest.raises(IncomparableRuns, match=r"no subject in common.*torch:.*; and jax:op"):
        compare(make_sweep(), other)


def test_other_inputs_are_refused(make_sweep: Make, make_curve: MakeCurve, make_binade: MakeBinade):
    other = make_sweep([make_curve([make_binade("2^0", {"exact": 1})])])
    with pytest.raises(IncomparableRuns, match="for other inputs"):
        compare(make_sweep(), other)


def test_a_subject_that_is_asked_twice_is_refused(make_sweep: Make, make_curve: MakeCurve):
    twice = make_sweep([make_curve(), make_curve()])
    with pytest.raises(IncomparableRuns, match="twice"):
        compare(twice, twice)


def test_other_judges_and_facts_are_noted(make_sweep: Make, make_curve: MakeCurve):
    curve = make_curve()
    again = msgspec.structs.replace(curve, grades={"exact": curve.inputs})
    old, new = make_sweep([curve]), make_sweep([again], lossaudit="2.0")
    new.subjects[0].facts["threads"] = "2"
    page = joined(printed(compare(old, new)))
    assert "made by lossaudit 1.0 and 2.0" in page
    assert "threads: absent -> 2" in page
    assert "the same bits were judged otherwise" in page


def test_what_became_of_findings_is_told_before_what_moved(make_sweep: Make, make_curve: MakeCurve):
    grades = [{"exact": 9}, {"exact": 9}, {"exact": 9}, {"exact": 8, "violates": 1}]
    old = [binade(found, 2.0, i, f"2^{i}") for i, found in enumerate(grades)]
    new = [binade({"exact": 9}, 0.5, 9 + i, f"2^{i}") for i in range(len(grades))]
    found = compare(make_sweep([make_curve(old)]), make_sweep([make_curve(new)]))
    assert found.curves[0].kind == "moved"
    page = joined(printed(found))
    assert page.index("better in 2^3 (9 inputs): exact 8 -> 9, violates 1 -> 0") < page.index(
        "moved in 2^0 (9 inputs): the same grades, 2 ulps -> 0.5 ulps"
    )
    assert "1 more binade: 1 moved" in page


@given(row=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=9), data=st.data())
def test_entries_of_a_gradient_that_change_places_are_another_answer(row: list[int], data):
    other = data.draw(st.permutations(row))
    stamps = _stamps(np.array([row, other], np.uint32))
    assert (stamps[0] == stamps[1]) == (row == other)


# ---- Markdown


def test_the_summary_for_a_pull_request_is_short(make_sweep: Make, make_curve: MakeCurve):
    around = [f"region|{i}" for i in range(40)]
    old = make_sweep([make_curve(around=name) for name in around])
    new = make_sweep([worse(make_curve, around=name) for name in around])
    page = sweep_comparison_markdown(compare(old, new))
    assert page.startswith("## Regressed with torch 2.13.0 on both sides: of 40 curves 40 worse")
    rows = [line for line in page.splitlines() if line.startswith("| WO worse")]
    assert len(rows) == LISTED
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
    assert "precision 14 → 20" in page.replace("\\", "")
    assert f"… and {40 - LISTED} more in the comparison." in page
    assert max(map(len, printed(compare(old, new)).splitlines())) <= 80


# ---- the command line


@pytest.fixture
def files(make_sweep: Make, make_curve: MakeCurve, tmp_path: Path) -> dict[str, Path]:
    made = {
        "old": make_sweep([make_curve()]),
        "new": make_sweep([worse(make_curve)]),
        "other": make_sweep([make_curve()], asking={"seed": 3}),
    }
    paths = {name: tmp_path / f"{name}.json.gz" for name in made}
    for name, sweep in made.items():
        write_sweep(sweep, paths[name])
    return paths


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (("old", "old"), NOTHING_NEW, "Nothing moved: 258 answers of 1 curve are identical"),
        (("old", "new"), REGRESSED, "Regressed"),
        (("new", "old"), MOVED, "nothing regressed"),
    ],
)
def test_compare_takes_sweeps(files: dict[str, Path], names, code: int, said: str, tmp_path: Path):
    written, summary = tmp_path / "c.json", tmp_path / "c.md"
    arguments = ["compare", *(str(files[name]) for name in names)]
    result = CliRunner().invoke(
        app, [*arguments, "--json", str(written), "--markdown", str(summary)]
    )
    assert result.exit_code == code
    assert said in result.output
    assert said in summary.read_text(encoding="utf-8").replace("\\", "")
    found = msgspec.convert(json.loads(written.read_text(encoding="utf-8")), SweepComparison)
    assert found.sweep_comparison == 1
    never = CliRunner().invoke(app, [*arguments, "--fail-on", "never"])
    assert never.exit_code == NOTHING_NEW


def test_compare_refuses_what_it_cannot_compare_in_words(files: dict[str, Path], tmp_path: Path):
    run = tmp_path / "run.json"
    write_json({"format": 1, "tallies": []}, run)

    def refused(*arguments: object) -> Exception:
        result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        assert isinstance(result.exception, Exception)
        return result.exception

    assert "is a sweep and" in str(refused(files["old"], run))
    assert "is a sweep and" in str(refused(run, files["old"]))
    assert "the seed" in str(refused(files["old"], files["other"]))
    page = refused(files["old"], files["new"], "--html", tmp_path / "page.html")
    assert isinstance(page, WrongUse)
    from lossaudit.cli import _explained

    assert _explained(page)[1] == WRONG_USE


def test_two_runs_are_no_sweeps_and_a_damaged_sweep_is_named(make_sweep: Make):
    paths = [Path("a.json"), Path("b.json")]
    assert both_sweeps([{"format": 1}, {"format": 1}], paths) == []
    damaged = [{"sweep": 1, "curves": 5}, msgspec.to_builtins(make_sweep())]
    with pytest.raises(RunFileError, match=r"a\.json is damaged"):
        both_sweeps(damaged, paths)
