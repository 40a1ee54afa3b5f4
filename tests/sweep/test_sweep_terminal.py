"""A sweep in the terminal, and what its reports share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.run import FINDING_GRADES, GRADES
from lossaudit.conformance.sweep import engine, patterns, plan, record
from lossaudit.conformance.sweep.plan import Around
from lossaudit.conformance.sweep.record import Binade, Curve, Run, Sweep
from lossaudit.reference.formats import FORMATS, decode, round_to_format
from lossaudit.reports.sweep_digest import Part, SweepDigest, number, parts, span_text
from lossaudit.reports.sweep_terminal import DETAILED, LISTED, print_sweep

Make = Callable[..., Sweep]
MakeCurve = Callable[..., Curve]


def printed(sweep: Sweep, only: str = "", width: int = 80, file: Path | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    print_sweep(sweep, console, only=only, files={"sweep": file} if file else None)
    return stream.getvalue()


def joined(page: str) -> str:
    """Without the breaks of lines."""
    return " ".join(page.split())


# ---- one subject


def test_a_sweep_says_what_was_asked_and_how_much_of_it_is_a_finding(make_sweep: Make):
    page = joined(printed(make_sweep()))
    assert "Sweep of torch:binary_cross_entropy_with_logits[eager,cpu] in float16" in page
    assert "15 of 258 answers are findings, in 1 of 1 curve: wrong kind 1, precision 14." in page
    assert "At most 2,047 ulps." in page
    assert "Every number of float16; targets 0, 1. torch 2.13.0, lossaudit 1.0." in page


def test_a_sweep_without_findings_says_so(make_sweep: Make, make_curve: MakeCurve, make_binade):
    clean = make_curve([make_binade("2^0", {"exact": 3, "unspecified": 2})], worst=None)
    page = joined(printed(make_sweep([clean])))
    assert "None of 5 answers is a finding; 2 are neither passed nor failed. No error." in page
    assert "0 loss exact 60%, unspecified 40% no error to measure" in page


def test_a_curve_has_its_grades_and_its_worst_input(make_sweep: Make):
    page = joined(printed(make_sweep(), width=160))
    assert "258 inputs each" in page
    assert "0 loss exact 93%, faithful 2%, precision 14, wrong kind 1" in page
    assert "2,047 ulps at -7.625: 0, right 0.000488" in page


def test_runs_are_told_in_words_the_longest_first_and_the_others_are_counted(make_sweep: Make):
    page = joined(printed(make_sweep()))
    run = "0 from -6.238 down to -15.53, where 0.001951 … 1.788e-07 is right (9 inputs)"
    assert "PR precision: 14 inputs in 5 runs outside the demand" in page
    assert page.index(run) < page.index("0 at -6 …")
    assert "… and 3 runs no longer than these" in page
    assert "NaN at inf, where 0 is right" in page


def test_every_line_fits_and_nothing_is_markup(make_sweep: Make, make_curve: MakeCurve):
    hostile = make_curve(around="[red]x[/red] \x1b[31m" + "w" * 300)
    for curves in ([hostile], [make_curve(), hostile, make_curve(subject="a:" + "b" * 90)]):
        page = printed(make_sweep(curves))
        assert max(map(len, page.splitlines())) <= 80
        assert "\x1b" not in page
    assert "[red]x[/red] ⟨U+001B⟩[31m" in joined(printed(make_sweep([hostile]), width=200))


@pytest.mark.parametrize("words", ["GRADIENT", "float16 1 gradient"])
def test_words_choose_curves(make_sweep: Make, make_curve: MakeCurve, words: str):
    curves = [make_curve(), make_curve(output="gradient", target="1")]
    page = printed(make_sweep(curves), words)
    assert "1 gradient" in page
    assert "0 loss" not in page


def test_words_that_no_curve_has_are_named(make_sweep: Make):
    assert "No curve of the sweep has all of 'nothing'" in printed(make_sweep(), "nothing")


def test_files_are_named_in_one_line(make_sweep: Make):
    path = Path("/" + "long/" * 40 + "sweep.json")
    assert f"sweep: {path}" in printed(make_sweep(), file=path)


def test_a_function_has_a_value_and_a_derivative(make_sweep: Make, make_curve: MakeCurve):
    curves = [make_curve(), make_curve(output="gradient")]
    page = printed(make_sweep(curves, asking={"operation": "sigmoid", "targets": [[0.0]]}))
    assert "value" in page
    assert "derivative" in page
    assert "target" not in page.replace("By target and output", "")


@pytest.mark.parametrize(
    ("asking", "said"),
    [
        ({"stride": 64, "seed": 3}, "One of every 64 numbers of float16 (seed 3)"),
        ({"span": patterns.span("-20:0.5", "float16")}, "Every number of float16 from -20 to 0.5"),
        ({"targets": [0, 1], "around": Around(kind="pairs", classes=2, stride=256)},
         "beside one of every 256 numbers as the other of two logits"),
        ({"targets": [0, 1], "around": Around(kind="regions", classes=8)},
         "one of 8 logits varies, the others stay: a line for each region"),
    ],
)  # fmt: skip
def test_what_was_asked_is_said(make_sweep: Make, asking, said: str):
    if isinstance(asking.get("span"), patterns.Span):
        asking = {"span": (asking["span"].low, asking["span"].high)}
    assert said in joined(printed(make_sweep(asking=asking)))


# ---- many


def test_of_many_curves_each_has_a_line_and_the_worst_is_told(
    make_sweep: Make, make_curve: MakeCurve
):
    curves = [make_curve(around=f"region-{i}") for i in range(LISTED + 5)]
    page = printed(make_sweep(curves))
    assert len(curves) > DETAILED
    assert page.count("WK 15 ") == LISTED
    assert "… and 5 more curves" in page
    assert page.count("wrong kind:") == 1


def test_of_many_subjects_the_worst_comes_first(
    make_sweep: Make, make_curve: MakeCurve, make_binade
):
    precise = make_curve([make_binade("2^0", {"exact": 5, "precision": 9})], subject="jax:b[jit]")
    clean = make_curve([make_binade("2^0", {"exact": 9})], subject="jax:a[eager]")
    page = printed(make_sweep([clean, precise, make_curve(), make_curve(output="gradient")]))
    table = page.partition("By subject and format")[2]
    rows = [line for line in table.splitlines() if line.startswith(("torch:", "jax:"))]
    assert [row.partition(":")[0] for row in rows] == ["torch", "jax", "jax"]
    assert "WK 30" in rows[0]
    assert "PR 9" in rows[1]
    assert rows[2].split()[2] == "-"


# ---- words


@pytest.mark.parametrize(
    ("ends", "inputs", "stride", "said"),
    [
        (("1.0", "1.0"), 1, 1, "at 1"),
        (("-0.0", "-0.0"), 1, 1, "at -0"),
        (("-4.0", "-2.0"), 3, 1, "from -2 down to -4"),
        (("-4.0", "2.0"), 3, 1, "from -4 to 2"),
        (("nan", "nan"), 1023, 1, "at NaN"),
        (("nan", "nan"), 16, 64, "at NaN"),
        (("nan", "nan"), 65536, 1, "everywhere"),
        (("nan", "nan"), 1024, 64, "everywhere"),
        (("nan", "-65504.0"), 1025, 1, "from -65500 down to NaN"),
        (("nan", "3.0"), 5000, 1, "from -NaN to 3"),
        (("65504.0", "nan"), 1025, 1, "from 65500 to NaN"),
    ],
)
def test_where_a_run_is(ends: tuple[str, str], inputs: int, stride: int, said: str):
    run = Run(grade="exact", answer="0", first=ends[0], last=ends[1], inputs=inputs)
    assert span_text(run, "float16", stride)[0] == said


@pytest.mark.parametrize(
    ("grade", "answer", "said"),
    [
        ("policy", "nothing", "an error raised at 2"),
        ("crashed", "nothing", "a dead process at 2"),
        ("wrong kind", "infinite", "infinity at 2"),
        ("violates", "a number", "a number at 2 beside -3"),
    ],
)
def test_what_came_is_said(
    make_sweep: Make, make_curve: MakeCurve, grade: str, answer: str, said: str
):
    around = ["-3.0"] if answer == "a number" else []
    run = Run(grade=grade, answer=answer, first="2.0", last="2.0", inputs=1, around=around)
    assert SweepDigest(make_sweep()).run_text(make_curve(), run) == said


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@given(key=st.integers(0, 2**15 - 1))
def test_a_number_reads_back(dtype: str, key: int):
    value = float(decode(np.array([key], np.uint16), dtype)[0])
    shown = number(repr(value), dtype)
    back = float(round_to_format(float(shown), FORMATS[dtype]))
    assert back == value or (np.isnan(back) and np.isnan(value))


# ---- binades together

COUNTS = st.dictionaries(st.sampled_from(GRADES), st.integers(1, 99), min_size=1)


@given(
    found=st.lists(
        st.tuples(COUNTS, st.none() | st.floats(0, 1e9, allow_nan=False)), min_size=1, max_size=12
    ),
    limit=st.integers(1, 12),
)
def test_parts_hold_every_binade_once_and_their_sums(found, limit: int):
    binades = [
        Binade(
            name=f"2^{i}",
            inputs=sum(grades.values()),
            grades=grades,
            errors=[],
            worst=worst,
            digest="0",
        )
        for i, (grades, worst) in enumerate(found)
    ]
    cut = parts(binades, limit)
    assert [b for part in cut for b in part.binades] == binades
    assert len(cut) <= min(limit, len(binades))
    assert sum(part.inputs for part in cut) == sum(b.inputs for b in binades)
    for part in cut:
        assert sum(part.grades.values()) == part.inputs
        assert part.worst == max(
            (b.worst for b in part.binades if b.worst is not None), default=None
        )


def test_a_binade_with_another_worst_grade_stands_alone_the_longest(make_binade):
    binades = [make_binade(f"2^{i}", {"exact": 10 + i}) for i in range(6)]
    binades.insert(3, make_binade("2^9", {"exact": 9, "violates": 1}))
    assert [part.name for part in parts(binades, 3)] == ["2^0 … 2^2", "2^9", "2^3 … 2^5"]


def test_a_part_of_one_binade_has_its_name(make_binade):
    assert Part((make_binade("-2^3", {"exact": 1}),)).name == "-2^3"


# ---- a real one


@pytest.mark.frameworks
def test_a_real_sweep_is_told_with_what_is_right(tmp_path: Path):
    if reason := availability(FRAMEWORKS["torch"]):
        pytest.skip(reason)
    subject = plan.subject_of("torch", "binary_cross_entropy_with_logits", "eager")
    job = plan.Job(askings=[plan.asking(subject, "bfloat16", plan.Inputs(span="-104:-8"))])
    journal = engine.Journal.opened(tmp_path / "j.jsonl", job)
    engine.sweep(journal, engine.in_processes(1))
    sweep = record.finished(job, engine.read_journal(journal.path)[1])

    digest = SweepDigest(sweep)
    loss = next(c for c in digest.curves if (c.target, c.output) == ("0", "loss"))
    for told in digest.findings(loss):
        assert told.inputs == loss.grades[told.grade]
        for run in told.listed:
            ends = [float(end) for end in (run.first, run.last)]
            right = round_to_format(np.log1p(np.exp(ends)), FORMATS["bfloat16"])
            assert [float(r) for r in run.right] == right.tolist()
    assert digest.findings(loss), "torch loses this tail; see docs"
    assert set(loss.grades) & set(FINDING_GRADES)
    page = joined(printed(sweep))
    assert f"of {sum(c.inputs for c in sweep.curves):,} answers are findings" in page
    assert "is right" in page
