"""The error profiles in the report: their plot, their data, and their page in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from playwright.sync_api import expect

from lossaudit.conformance.run import (
    Profile,
    ProfileMissing,
    ProfileOutput,
    ProfileSeries,
    Run,
)
from lossaudit.reports import profiles
from lossaudit.reports.html import write_html

if TYPE_CHECKING:  # the browser's driver is loaded by the fixture, where there is a browser
    from playwright.sync_api import Page

Opener = Callable[..., "Page"]

TORCH, JAX = "torch:cross_entropy.index[eager,cpu]", "jax:optax.softmax_cross_entropy[jit,cpu]"
HOSTILE = "torch:</script><img src=x onerror=alert(1)>\u202e[eager,cpu]"


def profile(axis: str = "gap", dtype: str = "float32", operation: str = "cross_entropy") -> Profile:
    """Three positions: both right, one 0 where 2^-24 is right, and one NaN beside one 0 for 0."""
    loss = ProfileOutput(
        output="loss",
        right=["1.0", "5.960464477539063e-08", "0.0"],
        bounds={"A": ["2.5", "1.2e+07", "inf"], "C": ["1.5", "3", "3"]},
        answers=[["0 0.25"], ["1 0.9", "=0.0 8.39e+06"], ["=nan", "0 0.1"]],
        series=[
            ProfileSeries(subjects=[TORCH, HOSTILE], answers="0 1*2", grades="e w e"),
            ProfileSeries(subjects=[JAX], answers="0*3", grades="e b w"),
        ],
    )
    slope = msgspec.structs.replace(loss, output="gradient", bounds={})
    return Profile(
        operation=operation,
        dtype=dtype,
        axis=axis,
        input="z = ({}, 0, -1), target 0",
        x=["1", "20", "110"],
        shown=[],
        outputs=[loss, slope],
        missing=[ProfileMissing(subjects=[JAX], reason="raised <b>no</b>")],
    )


def with_profiles(run: Run) -> Run:
    run.profiles = [
        profile(dtype="float64"),
        profile(),
        profile("K, equal logits"),
        profile("gap, label 1", operation="binary_cross_entropy_with_logits"),
        profile(dtype="float16"),
        profile(dtype="bfloat16"),
    ]
    return run


@pytest.fixture
def address(make_run: Callable[..., Run], tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    write_html(with_profiles(make_run()), path)
    return path.as_uri()


def test_a_plot_for_each_kind_of_axis_that_the_run_has(make_run: Callable[..., Run]):
    assert not profiles.specs(make_run())
    found = profiles.specs(with_profiles(make_run()))
    assert {"profile-0", "profile-3"} <= set(found)
    assert "profile-1" not in found, "no |z| in this run"
    encoding = found["profile-3"]["layer"][0]["encoding"]
    assert encoding["x"]["scale"]["type"] == "log"
    assert encoding["y"]["scale"]["type"] == "symlog", "which shows 0 ulps too"


def test_every_plot_is_valid_and_is_drawn(make_run: Callable[..., Run]):
    vl_convert = pytest.importorskip("vl_convert")
    rows = [
        {"kind": "bound", "bound": "A", "x": 1, "y": 2.5},
        {"kind": "bound", "bound": "A", "x": 9, "y": None},
        *(
            {"kind": kind, "framework": "torch", "x": 3, "y": 0, "opacity": 1, "input": "z = 3"}
            for kind in ("number", "zero", "lost", "not finite")
        ),
    ]
    for spec in profiles.specs(with_profiles(make_run())).values():
        picture = vl_convert.vegalite_to_svg({**spec, "data": {"values": rows}})
        assert "error in ulps" in picture
        assert "torch" in picture
        assert vl_convert.vegalite_to_png({**spec, "data": {"values": rows}})[1:4] == b"PNG"


def test_nothing_is_told_by_colour_alone():
    assert len(set(profiles.SHAPES)) == len(profiles.COLOURS) == len(set(profiles.COLOURS))
    assert not {"triangle-down", profiles.SALTIRE} & set(profiles.SHAPES), "kept for what is odd"


def test_the_format_that_most_use_is_offered_first(make_run: Callable[..., Run]):
    offered = {name: values for name, _, values in profiles.choices(with_profiles(make_run()))}
    assert offered["dtype"][0] == "float32"
    assert offered["operation"][0] == "cross_entropy"
    assert offered["output"] == ["loss", "gradient"]


def test_a_report_without_profiles_has_no_page_of_them(
    make_run: Callable[..., Run], tmp_path: Path
):
    write_html(make_run(), tmp_path / "plain.html")
    assert 'id="profiles"' not in (tmp_path / "plain.html").read_text(encoding="utf-8")


# --- in a browser ---------------------------------------------------------------------------------


def shown(page: Page, what: str) -> None:
    page.locator(f"#profiles[data-shown='{what}']").wait_for()


@pytest.mark.browser
def test_the_page_draws_what_is_chosen_and_keeps_it_in_the_address(open_page: Opener, address: str):
    page = open_page(f"{address}#profiles")
    shown(page, "cross_entropy|float32|gap|loss")
    page.wait_for_selector("#profile-plot svg")
    page.select_option("[data-state=profile-dtype]", "float64")
    shown(page, "cross_entropy|float64|gap|loss")
    page.select_option("[data-state=profile-operation]", "binary_cross_entropy_with_logits")
    shown(page, "binary_cross_entropy_with_logits|float32|gap, label 1|loss")
    page.locator("[data-state=profile-output]").press("ArrowDown")  # what a script sets is not kept
    shown(page, "binary_cross_entropy_with_logits|float32|gap, label 1|gradient")
    expect(page).to_have_url(re.compile("profile-output=gradient"))
    again = open_page(page.url)
    shown(again, "binary_cross_entropy_with_logits|float32|gap, label 1|gradient")


@pytest.mark.browser
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_table_says_the_worst_of_each_subject(open_page: Opener, address: str, dtype: str):
    page = open_page(f"{address}#page=profiles&profile-dtype={dtype}")
    shown(page, f"cross_entropy|{dtype}|gap|loss")
    first, second = page.locator("#profile-worst tbody tr").all()
    cells = [td.inner_text() for td in first.locator("td").all()]
    assert cells[1:3] == ["0.9", "z = (20, 0, -1), target 0"]
    above = {"float64": 0, "float32": 2**-47, "bfloat16": 2**-31, "float16": 2**-24}[dtype]
    assert float(cells[3]) == pytest.approx(2**-24 + above, rel=1e-5), "one step above"
    assert cells[5:] == ["wrong kind", "0", "1"]
    cells = [td.inner_text() for td in second.locator("td").all()]
    assert cells[1] == "8.39e+6"
    assert cells[3:] == ["0", "5.96046e-8", "wrong kind", "1", "0"]
    assert "raised <b>no</b>" in page.locator("#profile-missing").inner_text()


@pytest.mark.browser
def test_a_point_says_its_input(open_page: Opener, address: str):
    page = open_page(f"{address}#profiles")
    page.wait_for_selector("#profile-plot svg")
    page.locator("#profile-plot svg path[aria-roledescription=point]").last.hover(force=True)
    told = page.locator("#vg-tooltip-element")
    told.wait_for(state="visible")
    for part in ("z = (", "right value", "error in ulps", "bounds in ulps", "A "):
        expect(told).to_contain_text(part)


@pytest.mark.browser
def test_what_is_emphasised_stands_out(open_page: Opener, address: str):
    page = open_page(f"{address}#profiles")
    page.wait_for_selector("#profile-plot svg")
    faint = page.locator("#profile-plot [aria-roledescription=point][opacity='0.08']")
    assert faint.count() == 0
    page.select_option("[data-state=profile-shown]", "jax")
    faint.first.wait_for(state="attached")
