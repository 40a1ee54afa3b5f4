"""The porting view in a real browser: what is chosen is shown, and stays in the address."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from lossaudit.conformance.run import Run
from lossaudit.reports.html import write_html
from lossaudit.reports.porting import chosen, ported

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Opener = Callable[..., "Page"]

pytestmark = pytest.mark.browser

OLD, NEW = "torch binary_cross_entropy", "keras BinaryCrossentropy.probabilities"


@pytest.fixture(scope="module")
def report(declared_run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("porting") / "report.html"
    write_html(declared_run, path)
    return path.as_uri()


def choose(page: Page, old: str, new: str) -> None:
    page.select_option("#porting [data-state=from]", old)
    page.select_option("#porting [data-state=to]", new)
    shows(page, old, new)


def shows(page: Page, old: str, new: str) -> None:
    """Wait until a pair is shown; the policy of the page forbids to wait for an expression."""
    page.locator("#ports-h", has_text=f"{old} → {new}").wait_for()


def address(report: str, old: str, new: str) -> str:
    return f"{report}#{urlencode({'page': 'porting', 'from': old, 'to': new})}"


def first_label(page: Page, op: str) -> str:
    """The choice that bears a name, with its modes if it has them."""
    options = page.locator("#porting [data-state=from] option").all_inner_texts()
    return next(option for option in options if option.split(" (")[0] == op)


def test_a_chosen_pair_is_shown_and_has_an_address(
    open_page: Opener, report: str, declared_run: Run
):
    page = open_page(f"{report}#porting")
    old = first_label(page, OLD)
    choose(page, old, NEW)
    name_of = "{}:{}".format
    found = ported(
        *chosen(declared_run, name_of(*OLD.split()), name_of(*NEW.split())), declared_run
    )
    code = page.locator("#ports-code").text_content()
    assert code == f"# {old} -> {NEW}\n{found.code}"
    assert page.locator("#ports-list li").count() == len(found.differences)
    said = page.locator("#ports-list li", has_text="guard of probabilities").inner_text()
    assert "log >= -100" in said
    assert "clip at 1e-07" in said
    again = open_page(address(report, old, NEW))
    shows(again, old, NEW)
    assert again.locator("#ports-code").text_content() == code
    # A key press is the reader's own, as a choice that the test sets is not.
    again.locator("#porting [data-state=to]").focus()
    again.keyboard.press("ArrowDown")
    other = again.locator("#porting [data-state=to]").input_value()
    assert other != NEW
    shows(again, old, other)
    expect(again).to_have_url(address(report, old, other))


def test_only_ops_of_the_same_operation_can_be_chosen(open_page: Opener, report: str):
    page = open_page(f"{report}#porting")
    page.select_option("#porting [data-state=from]", first_label(page, OLD))
    groups = page.locator("#porting [data-state=to] optgroup:not([disabled])")
    assert groups.evaluate_all("(all) => all.map((g) => g.label)") == [
        "binary_cross_entropy, binary"
    ]
    to = page.locator("#porting [data-state=to]").input_value()
    assert not to.startswith("torch "), "another framework is meant, most likely"


def test_turning_round_swaps_the_two(open_page: Opener, report: str):
    old = first_label(open_page(f"{report}#porting"), OLD)
    page = open_page(address(report, old, NEW))
    shows(page, old, NEW)
    page.get_by_role("button", name="Turn round").click()
    shows(page, NEW, old)
    assert "torch.clamp(p, 1e-07" in (page.locator("#ports-code").text_content() or "")
    page.go_back()
    shows(page, old, NEW)


def test_the_code_can_be_copied(open_page: Opener, report: str, copied: Callable[[Locator], str]):
    page = open_page(f"{report}#porting", permissions=["clipboard-read", "clipboard-write"])
    choose(page, first_label(page, OLD), NEW)
    code = copied(page.locator("#porting").get_by_role("button", name="Copy code"))
    assert code == page.locator("#ports-code").text_content()


def test_where_there_is_no_code_the_reason_stands(open_page: Opener, report: str):
    page = open_page(f"{report}#porting")
    to = "onnxruntime SoftmaxCrossEntropyLoss"
    choose(page, first_label(page, "torch CrossEntropyLoss"), to)
    assert page.locator("#ports-code").is_hidden()
    assert "no call of onnxruntime" in page.locator("#ports-reason").inner_text()
    assert page.locator("#ports-list li").count() > 3


def test_without_scripts_one_pair_is_there(open_page: Opener, report: str):
    page = open_page(report, java_script_enabled=False)
    assert page.locator("#ports-form").is_hidden()
    assert "def ported(" in (page.locator("#ports-code").text_content() or "")
    assert page.locator("#ports-list li").count() > 3


@pytest.mark.parametrize(
    ("size", "theme"), [("wide", "light"), pytest.param("phone", "dark", marks=pytest.mark.slow)]
)
def test_it_fits_and_axe_finds_nothing_serious(
    open_page: Opener, report: str, size: str, theme: str
):
    from axe_playwright_python.sync_playwright import Axe

    # axe is injected as a script, which the page's own policy would rightly refuse
    page = open_page(f"{report}#porting", size, color_scheme=theme, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    assert not [e["id"] for e in found if e["impact"] in ("serious", "critical")]
    page = open_page(f"{report}#conventions", size, color_scheme=theme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('#conventions details').forEach((d) => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    assert not [e["id"] for e in found if e["impact"] in ("serious", "critical")]
