"""Takes the pictures of a report that the README and the docs show: `make screenshots`.

python docs/take_screenshots.py audit/report.html docs/screenshots
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = (1280, 960), (390, 844)


@dataclass(frozen=True)
class Picture:
    """One page of the report, as a reader would open it."""

    name: str
    address: str
    theme: str = "light"
    size: tuple[int, int] = WIDE


PICTURES = (
    Picture("summary", "#summary"),
    Picture("matrix", "#page=matrix&operation=cross_entropy", "dark"),
    Picture("table", "#table"),
    Picture("profiles", "#profiles"),
    Picture("conventions", "#conventions", "dark"),
    Picture("porting", "#porting"),
    Picture("misuse", "#misuse"),
    Picture("coverage", "#coverage"),
    Picture("phone", "#summary", "dark", PHONE),
)


def take(report: Path, folder: Path) -> None:
    """Every picture, and a card: that of the first of the worst findings that is a number."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for picture in PICTURES:
            page = browser.new_page(
                viewport={"width": picture.size[0], "height": picture.size[1]},
                color_scheme="dark" if picture.theme == "dark" else "light",
            )
            if _opened(page, report, picture.address):
                page.screenshot(path=folder / f"{picture.name}.png")
            page.close()
        page = browser.new_page(viewport={"width": WIDE[0], "height": WIDE[1]})
        page.goto(report.resolve().as_uri())
        card = page.locator("ol.worst a:has(.g-wrong-kind)").first
        if card.count():
            _opened(page, report, card.get_attribute("href") or "")
            page.screenshot(path=folder / "card.png")
        browser.close()


def take_first_screen(report: Path, picture: Path) -> None:
    """The first screen of any report, at the width of a laptop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1500}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.locator("html[data-ready]").wait_for(state="attached")
        page.screenshot(path=picture)
        browser.close()


def _opened(page: Page, report: Path, address: str) -> bool:
    """Open a page of the report and let what it unpacks and draws settle; False if it has none."""
    page.goto(f"{report.resolve().as_uri()}{address}")
    page.locator("html[data-ready]").wait_for(state="attached")
    name = address.removeprefix("#").removeprefix("page=").partition("&")[0]
    if not page.locator(f"#{name}").count() and not name.startswith("finding-"):
        print(f"this report has no page {name}")
        return False
    page.locator(f"#{name}").wait_for(state="visible")
    plots = page.locator("figure.plot:visible")
    for figure in plots.all()[:2]:
        figure.locator("svg").first.wait_for(state="visible")
    page.wait_for_timeout(500)
    return True


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    take(Path(sys.argv[1]), Path(sys.argv[2]))
