"""The HTML comparison in a real browser: offline, usable, accessible."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from playwright.sync_api import expect

from lossaudit.conformance.comparison import Change, Comparison
from lossaudit.reports.comparison_digest import ComparisonDigest
from lossaudit.reports.comparison_html import write_comparison_html

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Opener = Callable[..., "Page"]
Make = Callable[..., Comparison]

pytestmark = pytest.mark.browser

SIZES = ("phone", "wide")  # of open_page, in conftest.py
OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"


@pytest.fixture
def report(make_comparison: Make, tmp_path: Path) -> str:
    path = tmp_path / "comparison with space.html"
    write_comparison_html(make_comparison(), path)
    return path.as_uri()


@pytest.fixture
def change_id(make_comparison: Make) -> str:
    """Of the change that got worse."""
    digest = ComparisonDigest(make_comparison())
    return "change-" + next(digest.id(c) for c in digest.changes if c.kind == "worse")


def shown(page: Page) -> int:
    return page.locator("#changes .item:not([hidden])").count()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(open_page: Opener, report: str, size: str, theme: str):
    page = open_page(report, size, color_scheme=theme)
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#verdict").inner_text().startswith("Regressed with jax")


@pytest.mark.parametrize("size", SIZES)
def test_a_page_on_which_nothing_moved_says_so_at_once(
    open_page: Opener, make_quiet: Make, tmp_path: Path, size: str
):
    path = tmp_path / "quiet.html"
    write_comparison_html(make_quiet(), path)
    page = open_page(path.as_uri(), size)
    assert page.locator("#verdict").inner_text() == "Nothing moved"
    assert page.locator(".counted").is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_filter_narrows_changes_and_rows_and_stays_in_the_address(open_page: Opener, report: str):
    page = open_page(report)
    everything = shown(page)
    assert everything == 10
    page.select_option("select[name=kind]", "moved")
    assert shown(page) == 2
    page.select_option("select[name=output]", "gradient")
    assert shown(page) == 1
    expect(page).to_have_url(re.compile("#kind=moved&output=gradient$"))
    again = open_page(page.url)
    assert shown(again) == 1
    again.select_option("select[name=op]", "nn.sigmoid_bce")
    expect(again.locator("#nothing")).to_be_visible()
    assert again.locator("#matrix tbody tr[data-subject]:visible").count() == 1
    again.get_by_role("button", name="Show all", exact=True).click()
    again.wait_for_url(re.compile("(#|html)$"))
    assert shown(again) == everything


def test_text_search_finds_a_change(open_page: Opener, report: str, change_id: str):
    page = open_page(report)
    page.fill("input[name=q]", "SIGSEGV")
    assert shown(page) == 1
    page.fill("input[name=q]", change_id)
    assert shown(page) == 1
    page.fill("input[name=q]", "no such text")
    expect(page.locator("#nothing")).to_be_visible()


def test_a_cell_of_the_matrix_shows_its_changes_and_back_returns(open_page: Opener, report: str):
    page = open_page(report)
    row = page.locator('#matrix tr[data-subject="jax:optax.softmax_cross_entropy[eager,cpu]"]')
    row.get_by_role("link", name=re.compile("moved 236")).click()
    assert shown(page) == 4
    expect(page.locator("#changes .item:not([hidden]) .snippet").first).to_be_visible()
    assert page.evaluate("document.activeElement.tagName") != "BODY"
    page.go_back()
    expect(page.locator("#changes .item:not([hidden])")).to_have_count(10)


def test_a_deep_link_opens_its_change(open_page: Opener, report: str, change_id: str):
    page = open_page(f"{report}#{change_id}")
    card = page.locator(f"#{change_id}")
    expect(card.locator(".snippet")).to_be_visible()
    expect(card).to_be_focused()
    box = card.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900


def test_a_link_to_a_filtered_change_shows_it(open_page: Opener, report: str, change_id: str):
    page = open_page(f"{report}#kind=moved")
    page.evaluate(f"location.hash = '{change_id}'")
    page.locator(f"#{change_id} .snippet").wait_for(state="visible")


def test_the_copy_buttons_give_the_scripts(
    open_page: Opener,
    report: str,
    change_id: str,
    make_comparison: Make,
    copied: Callable[[Locator], str],
):
    comparison = make_comparison()
    page = open_page(f"{report}#{change_id}", permissions=["clipboard-read", "clipboard-write"])
    script = next(c.snippet for c in comparison.changes if c.kind == "worse")
    button = page.locator(f"#{change_id}").get_by_role("button", name="Copy script")
    assert copied(button) == script
    page.evaluate("navigator.clipboard.writeText('')")
    found = page.locator("#search .found > li").first
    found.locator("summary").click()
    assert copied(found.get_by_role("button", name="Copy script")) == script


def test_the_theme_switch_is_remembered(open_page: Opener, report: str):
    page = open_page(report, color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    button = page.get_by_role("button", name=re.compile("Theme"))
    button.click()
    button.click()
    assert page.evaluate(colour) != light
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_page_is_whole_without_scripts(open_page: Opener, report: str):
    page = open_page(report, java_script_enabled=False)
    assert not page.locator("#filters").is_visible()
    assert page.get_by_role("button").count() == 0
    assert page.locator(".card .snippet").first.is_visible()
    assert page.locator("#matrix a.sign").count() > 5


def test_a_printed_page_has_all_sections_and_no_controls(open_page: Opener, report: str):
    page = open_page(report)
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert not page.locator("#theme").is_visible()
    assert page.locator("#matrix table").is_visible()


def test_hostile_text_does_nothing_in_a_browser(
    open_page: Opener,
    make_comparison: Make,
    make_change: Callable[..., Change],
    tmp_path: Path,
):
    bad = (
        "</script></template><script>document.title='owned'</script>"
        "<img src=x onerror=\"document.title='owned'\">\u202e" + "W" * 5_000
    )
    every = make_comparison()
    replace = msgspec.structs.replace
    comparison = make_comparison(
        changes=[make_change(message=bad, snippet=bad, region=bad, subject=bad, old=[bad])],
        conventions=[replace(every.conventions[0], subject=bad, field=bad, old=bad, evidence=bad)],
        presence=[replace(entry, subject=bad, reason=bad) for entry in every.presence],
        searched=[replace(every.searched[1], subject=bad, snippet=bad, output=bad)],
        laws=[replace(law, law=bad, finding=bad) for law in every.laws],
        notes=[bad],
        old=replace(every.old, versions={bad: bad}, platform=bad, findings={bad: 3}),
    )
    path = tmp_path / "hostile.html"
    write_comparison_html(comparison, path)
    for size in SIZES:
        page = open_page(path.as_uri(), size)
        page.evaluate(OPEN_ALL)
        assert page.title().startswith("lossaudit")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("img").count() == 0


@pytest.mark.parametrize(("size", "theme"), [("wide", "light"), ("phone", "dark")])
def test_axe_finds_nothing_serious(open_page: Opener, report: str, size: str, theme: str):
    from axe_playwright_python.sync_playwright import Axe

    # axe is injected as a script, which the page's own policy would rightly refuse
    page = open_page(report, size, color_scheme=theme, bypass_csp=True)
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response["violations"]
    serious = [
        (entry["id"], [node["html"][:200] for node in entry["nodes"][:3]])
        for entry in found
        if entry["impact"] in ("serious", "critical")
    ]
    assert not serious


def test_a_page_of_five_thousand_changes_opens(open_page: Opener, make_many: Make, tmp_path: Path):
    path = tmp_path / "many.html"
    write_comparison_html(make_many(), path)
    page = open_page(path.as_uri())
    assert shown(page) == 5_000
    page.select_option("select[name=kind]", "worse")
    assert shown(page) == 500
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert timing < 10_000  # a second alone; a loaded CI machine may be several times slower
