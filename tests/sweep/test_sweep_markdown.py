"""A sweep as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lossaudit.conformance.run import GRADES
from lossaudit.conformance.sweep.record import Binade, Curve, Sweep
from lossaudit.reports.sweep_markdown import LINES, OF_MANY, TOLD, sweep_markdown

Make = Callable[..., Sweep]
MakeCurve = Callable[..., Curve]
MakeBinade = Callable[..., Binade]


def plain(page: str) -> str:
    return re.sub(r"\\(.)", r"\1", page)


def tables(page: str) -> list[list[list[str]]]:
    """The cells of each table, without its head."""
    found = re.findall(r"^\|.*(?:\n\|.*)*", page, re.MULTILINE)
    split = re.compile(r"(?<!\\)\|")
    return [
        [[cell.strip() for cell in split.split(line)[1:-1]] for line in table.splitlines()[2:]]
        for table in found
    ]


def test_a_sweep_of_one_subject_has_its_curves_findings_and_binades(make_sweep: Make):
    page = plain(sweep_markdown(make_sweep()))
    assert page.startswith("## Sweep of torch:binary_cross_entropy_with_logits[eager,cpu]")
    assert "15 of 258 answers are findings, in 1 of 1 curve: wrong kind 1, precision 14." in page
    assert (
        "- PR precision, 14 inputs in 5 runs: 0 from -6.238 down to -15.53, where "
        "0.001951 … 1.788e-07 is right (9 inputs); 0 at -6; … 3 more" in page
    )
    assert "- WK wrong kind, 1 input in 1 run: NaN at inf, where 0 is right" in page
    assert "| 0 loss | -2^3 | 64 | exact 78 %, precision 14 | 2,047 ulps |" in page
    assert "|  | special | 2 | exact 50 %, wrong kind 1 | - |" in page


def test_the_binades_of_a_page_hold_all_inputs_of_their_curve(
    make_sweep: Make, make_curve: MakeCurve, make_binade: MakeBinade
):
    many = [
        make_binade(f"2^{i}", {"exact": 100 + i, GRADES[i % len(GRADES)]: i}, float(i))
        for i in range(1, 200)
    ]
    curves = [make_curve(many, target=str(i), output=o) for i in range(2) for o in ("a", "b")]
    page = sweep_markdown(make_sweep(curves))
    assert len(curves) == TOLD
    assert page.count("\n") <= LINES
    rows = tables(page)[-1]
    assert len(rows) >= 3 * TOLD
    assert "- also policy " in plain(page)
    starts = [i for i, row in enumerate(rows) if row[0]]
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        inputs = sum(int(row[2].replace(",", "")) for row in rows[start:stop])
        assert inputs == curves[0].inputs


def test_a_page_stays_short_whatever_it_holds(make_sweep: Make, make_curve: MakeCurve):
    curves = [make_curve(around=f"region-{i}") for i in range(80)]
    assert sweep_markdown(make_sweep(curves)).count("\n") <= LINES
    subjects = [make_curve(subject=f"jax:op{i}[jit,cpu]") for i in range(80)]
    page = sweep_markdown(make_sweep(subjects))
    assert page.count("\n") <= LINES
    assert "… and 60 more subjects." in plain(page)
    assert page.count("\\- PR") + page.count("- PR") == OF_MANY


def test_words_choose_curves(make_sweep: Make, make_curve: MakeCurve):
    sweep = make_sweep([make_curve(), make_curve(output="gradient")])
    assert "| 0 loss" not in sweep_markdown(sweep, "gradient")
    assert "Nothing was asked." in sweep_markdown(sweep, "nothing")


@pytest.mark.parametrize("text", ["a | b\n# head", "<script>", "`x`", "\u202egnp", "W" * 100_000])
def test_text_of_a_sweep_is_never_markup(make_sweep: Make, make_curve: MakeCurve, text: str):
    hostile = make_curve(subject=text, around=text, target=text)
    page = sweep_markdown(make_sweep([hostile, make_curve()], versions={text: text}))
    assert page.count("\n") <= LINES
    assert len(page) < 20_000
    assert "<script>" not in page.replace("\\<", "")
    assert "\n# head" not in page
    assert "\u202e" not in page
    assert {len(row) for table in tables(page) for row in table} == {5}
