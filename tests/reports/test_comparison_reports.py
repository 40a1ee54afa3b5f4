"""The reports of a comparison: terminal, Markdown, HTML as text, and its file."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from rich.console import Console

from lossaudit.conformance.comparison import (
    KINDS,
    REGRESSIONS,
    Change,
    Comparison,
    read_comparison,
)
from lossaudit.conformance.run import CaseRecord, RunFileError, write_json
from lossaudit.reports import comparison_digest as digests
from lossaudit.reports import comparison_markdown as markdown
from lossaudit.reports import comparison_views as views
from lossaudit.reports.comparison_digest import ComparisonDigest
from lossaudit.reports.comparison_html import render_comparison, write_comparison_html
from lossaudit.reports.comparison_terminal import print_comparison

Make = Callable[..., Comparison]

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "\"' onmouseover=document.title='owned' x='",
    "{{ 7 * 7 }} {% raw %} [red]x[/red] [/]",
    "a | b\n# head `c` ``` <b>x</b> [l](javascript:x) </details>",
    "safe\u202egnp.exe\u2066 \u200bhidden\u0000null \x1b[31mred\x07 \ud800 \u2028",
    "W" * 200_000,
    "1.0*9999999999",
    "😀" * 5_000,
    "",
)
FIXED = {"kind", "kinds", "state", "grades", "old_grade", "new_grade"}
"""Fields whose texts are one of a few, or keys that are: the file would not be read with others."""


def poisoned(node: Any, text: str, key: str = "") -> Any:
    """The same tree with every free text replaced."""
    if isinstance(node, dict):
        return {name: poisoned(value, text, name) for name, value in node.items()}
    if isinstance(node, list):
        return [poisoned(entry, text, key) for entry in node]
    return text if isinstance(node, str) and key not in FIXED else node


def hostile(comparison: Comparison, text: str) -> Comparison:
    raw = poisoned(msgspec.to_builtins(comparison), text)
    for side in ("old", "new"):
        raw[side]["versions"] = {text: f"{side}{text}"}
    return msgspec.convert(raw, Comparison)


def printed(comparison: Comparison, width: int = 80, **files: Path) -> str:
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=width, color_system=None), files)
    return stream.getvalue()


class Page(HTMLParser):
    """Tags, ids, links and handlers of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]


# ---- the verdict


def test_a_regression_is_told_first_with_versions_and_counts(make_comparison: Make):
    said = ComparisonDigest(make_comparison()).verdict()
    assert said.startswith(
        "Regressed with jax 0.4.30 -> 0.10.2, jaxlib 0.4.30 -> 0.10.2, optax 0.2.3 -> 0.2.8 and "
        "1 more package: 118 rows crash, 118 rows no longer return, "
    )
    assert "1 convention measured otherwise, 1 subject, dtype or option gone" in said
    assert said.endswith("; beside that 236 moved to no worse a grade, 118 are better, "
                         "118 moved where the mathematics gives no value.")  # fmt: skip


def test_moves_within_the_bounds_are_no_regression(
    make_quiet: Make, make_change: Callable[..., Change]
):
    quiet = make_quiet()
    rows = [msgspec.structs.replace(quiet.compared[0], rows=6_404, kinds={"moved": 4})]
    moved = make_quiet(compared=rows, changes=[make_change(kind="moved", rows=4)])
    assert ComparisonDigest(moved).verdict() == (
        "torch 2.13.0 -> 2.15.0: 4 of 6,404 rows moved, none to a worse grade; nothing regressed."
    )
    kinds = {"moved": 3, "better": 1}
    better = make_quiet(compared=[msgspec.structs.replace(rows[0], kinds=kinds)])
    assert ComparisonDigest(better).verdict() == (
        "torch 2.13.0 -> 2.15.0: of 6,404 rows 3 moved to no worse a grade, 1 are better; "
        "nothing regressed."
    )


def test_what_only_a_search_found_is_a_move(make_quiet: Make):
    quiet = make_quiet()
    found = [msgspec.structs.replace(quiet.searched[0], differing=2, kind="moved")]
    said = ComparisonDigest(make_quiet(searched=found)).verdict()
    assert "none of 6,400 rows of the corpus moved, but 1 search beyond it found other" in said


def test_what_a_search_found_to_be_worse_is_a_regression(make_quiet: Make):
    quiet = make_quiet()
    moved = msgspec.structs.replace(quiet.searched[0], differing=9, kind="moved", largest=1e9)
    worse = msgspec.structs.replace(quiet.searched[0], differing=2, kind="worse", largest=2.0)
    comparison = make_quiet(searched=[moved, worse])
    digest = ComparisonDigest(comparison)
    assert digest.verdict() == (
        "Regressed with torch 2.13.0 -> 2.15.0: 1 search beyond the corpus found a regression."
    )
    assert [entry.kind for entry in digest.searches[0].found] == ["worse", "moved"]
    assert "WO worse jax:optax.softmax_cross_entropy[eager,cpu] float32: 2 rows" in printed(
        comparison
    )
    assert "WO worse jax:optax" in markdown.comparison_markdown(comparison).replace("\\", "")
    assert render_comparison(comparison).count('class="sign g-worse"') == 1


def test_nothing_moved_says_how_much_stands_behind_it(make_quiet: Make):
    shown = " ".join(printed(make_quiet()).split())
    assert "Nothing moved: 6,400 rows of 1 subject have the same bits in torch 2.13.0 and" in shown
    assert (
        "loss: no difference found by 1 search (one a subject and dtype): 1,200 cases, 76,800 "
        "rows, 3 regions, 32 s"
    ) in shown
    assert "Worst changes" not in shown


def test_other_words_for_a_refusal_are_said_and_no_move(make_quiet: Make):
    quiet = make_quiet()
    rows = [msgspec.structs.replace(quiet.compared[0], rows=6_402, kinds={"reworded": 2})]
    said = ComparisonDigest(make_quiet(compared=rows)).verdict()
    assert said.endswith("have the same bits in torch 2.13.0 and 2.15.0; 2 refuse in other words.")


def test_two_runs_of_the_same_versions_are_named_once(make_quiet: Make):
    quiet = make_quiet()
    said = ComparisonDigest(make_quiet(new=quiet.old)).verdict()
    assert said.endswith("have the same bits in two runs of torch 2.13.0.")


def test_nothing_compared_and_a_partial_comparison_are_never_called_clean(make_quiet: Make):
    assert ComparisonDigest(make_quiet(compared=[])).verdict().startswith("Nothing was compared")
    partial = make_quiet(complete=False)
    assert ComparisonDigest(partial).verdict().endswith("so far: this comparison is partial.")
    assert "PARTIAL" in printed(partial)
    assert "**PARTIAL" in markdown.comparison_markdown(partial)
    assert "PARTIAL comparison" in render_comparison(partial)
    assert "No row was compared." in render_comparison(make_quiet(compared=[]))


# ---- order and identity


def test_changes_are_in_the_order_of_their_kinds(make_comparison: Make):
    order = [change.kind for change in ComparisonDigest(make_comparison()).changes]
    assert list(dict.fromkeys(order)) == list(KINDS)


def test_every_kind_has_a_sign_of_its_own():
    assert set(digests.SIGNS) == {*KINDS, digests.SAME}
    assert len(set(digests.SIGNS.values())) == len(KINDS) + 1


def test_the_worst_are_of_every_kind_of_regression_before_a_second_of_any(
    make_comparison: Make, make_change: Callable[..., Change]
):
    digest = ComparisonDigest(make_comparison())
    kinds = [change.kind for change, _ in digest.worst(5)]
    assert kinds == list(REGRESSIONS)
    assert len(digest.worst(10)) == 9  # two changes of ten are of one kind and family
    assert sum(alike for _, alike in digest.worst(10)) == 1
    policies = [
        make_change(kind="policy", output="call", message="raises", subject=f"jax:op{n}[eager,cpu]")
        for n in range(20)
    ]
    worst = ComparisonDigest(make_comparison(changes=[*policies, make_change()])).worst(2)
    assert [(change.kind, alike) for change, alike in worst] == [("policy", 19), ("worse", 0)]


def test_modes_of_one_op_that_changed_alike_are_one_entry(make_comparison: Make):
    every = make_comparison()
    subjects = [f"jax:optax.softmax_cross_entropy[{mode},cpu]" for mode in ("eager", "jit", "vmap")]
    replace = msgspec.structs.replace
    many = make_comparison(
        conventions=[replace(every.conventions[0], subject=subject) for subject in subjects],
        presence=[replace(every.presence[0], subject=subject) for subject in subjects],
    )
    name = "jax:optax.softmax_cross_entropy[eager, jit, vmap]"
    shown = printed(many)
    assert shown.count(name) == 2
    assert "Conventions measured otherwise (3)" in shown
    assert "3 conventions measured otherwise, 3 subjects, dtypes or options gone" in " ".join(
        shown.split()
    )
    assert markdown.comparison_markdown(many).count("\\[eager, jit, vmap\\]") == 2
    assert render_comparison(many).count("entropy[eager, jit, vmap]") == 2


def test_the_search_shows_one_difference_of_each_op_first(make_comparison: Make):
    entry = make_comparison().searched[1]
    names = ("jax:a[eager,cpu]", "jax:a[jit,cpu]", "jax:b[eager,cpu]")
    found = [msgspec.structs.replace(entry, subject=name) for name in names]
    assert [e.subject for e in digests.distinct(found, 2)] == [names[0], names[2]]
    assert len(digests.distinct(found, 9)) == 3


def test_an_id_is_of_what_and_where_and_not_of_the_numbers(
    make_change: Callable[..., Change], make_comparison: Make
):
    first = make_change()
    assert digests.identity(first) == digests.identity(make_change(rows=3, new=["1.0"]))
    others = ({"kind": "moved"}, {"region": "ties"}, {"output": "gradient"}, {"dtype": "float64"})
    names = {digests.identity(make_change(**other)) for other in others}
    assert len(names | {digests.identity(first)}) == 5
    twice = ComparisonDigest(make_comparison(changes=[first, make_change(message="other")]))
    assert len({twice.id(change) for change in twice.changes}) == 2


# ---- terminal


def test_the_terminal_says_everything_in_80_columns(make_comparison: Make, tmp_path: Path):
    path = tmp_path / ("long " * 30) / "report.html"
    shown = printed(make_comparison(), report=path)
    lines = [line for line in shown.splitlines() if not line.startswith("report: ")]
    assert max(map(len, lines)) <= 80
    assert f"report: {path}" in shown
    flat = " ".join(shown.split())
    for piece in (
        *(f"{digests.SIGNS[kind]} {kind}" for kind in KINDS),
        "smoothing: eps/K -> eps/(K-1)",
        "on x = [0, 1, 2], target 0, label_smoothing = 0.1",
        "float16: TypeError: float16 is not supported",
        "New (1) jax:optax.sigmoid_focal_loss[jit,cpu]",
        "x = [0, 20], target 1 loss 2.06115369e-09 -> 0, right 2.06115362e-09",
        "faithful, 0.32 ulps -> precision, 9.3e+06 ulps; moved 8.4e+06 ulps, 118 rows farther",
        "118 of 640 rows of saturated-right, loss; id",
        "1 more op: the same bits in all of 6,400 rows.",
        "gradient: 1 of 2 searches (one a subject and dtype) found a difference",
        "x = [0, 1.5], target 0: gradient of class 0 -0.817574441 -> -0.817574501",
        "the new one timed out",
        "appeared: law shift-invariance",
        "the old run has the depth standard and the new run quick",
    ):
        assert piece in flat


def test_numbers_have_the_digits_that_tell_them_apart():
    outcome = digests.Outcome("loss", "0.6931471824645996", "0.693147120475769", "0.6931471805599")
    assert digests.short_numbers(outcome) == ("0.693147182", "0.69314712", "0.693147181")
    plain = digests.Outcome("loss", "1.0", "nan", "0.5")
    assert digests.short_numbers(plain) == ("1", "nan", "0.5")


def test_the_element_that_moved_farthest_is_shown(make_change: Callable[..., Change]):
    wide = make_change(
        output="gradient", old=["0.5*60"], new=["0.5*40", "0.75", "0.5*19"], right=["0.5*60"]
    )
    assert digests.short_outcome(wide) == "gradient of class 40 0.5 -> 0.75, right 0.5"
    foreign = make_change(old=["x*y"], new=["0.5"], right=[])
    assert digests.short_outcome(foreign) == "loss x*y -> 0.5"


# ---- Markdown


def tables(page: str) -> list[list[str]]:
    return [found.splitlines() for found in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)]


def test_markdown_says_what_matters_and_keeps_its_tables(make_comparison: Make):
    page = markdown.comparison_markdown(make_comparison())
    for piece in (
        "## Regressed with jax 0.4.30",
        "| WO worse | 118 |",
        "smoothing: eps/K → eps/\\(K\\-1\\)",
        "gone: jax:optax.poly",
        "| 2.06115369e\\-09 | 0 | 2.06115362e\\-09 | 0.32 → 9.28e\\+06 |",
        "- Search: loss: no difference found",
        "appeared: shift\\-invariance",
    ):
        assert piece in page
    assert len(tables(page)) == 2
    for table in tables(page):
        assert len({re.sub(r"\\\|", "", row).count("|") for row in table}) == 1


def test_the_rows_of_each_op_are_folded_away_where_they_fit(
    make_comparison: Make, make_change: Callable[..., Change]
):
    page = markdown.comparison_markdown(make_comparison(changes=[make_change()]))
    folded = page.partition("<details><summary>Rows of the 1 op with other bits</summary>\n\n|")[2]
    assert "\\_integer\\_labels | 6,518 | 6,400 | 0 | 0 | 118 | 8.39e\\+06 |" in folded
    assert "1 with the same bits in every row." in folded
    assert folded.endswith("</details>\n")


def test_markdown_is_short_whatever_the_comparison_holds(make_comparison: Make, make_many: Make):
    many = make_many()
    every = make_comparison()
    much = make_comparison(
        conventions=every.conventions * 300,
        presence=every.presence * 300,
        searched=every.searched * 300,
        laws=every.laws * 300,
        notes=every.notes * 300,
    )
    for comparison in (every, many, much, *(hostile(much, text) for text in HOSTILE)):
        page = markdown.comparison_markdown(comparison)
        assert page.count("\n") <= markdown.LINES
        assert len(page.encode("utf-8", "replace")) <= markdown.SIZE
    assert "4,990 more in the report" in markdown.comparison_markdown(many)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_text_is_no_markup_in_markdown_and_terminal(make_comparison: Make, text: str):
    bad = hostile(make_comparison(), text)
    page, shown = markdown.comparison_markdown(bad), printed(bad)
    own = {"<details>", "</details>", "<summary>", "</summary>"}
    assert set(re.findall(r"(?<!\\)<[^>]*(?<!\\)>", page)) <= own
    assert not re.search(r"(?<!\\)`|^# head", page, re.MULTILINE)
    for table in tables(page):
        assert len({re.sub(r"\\\|", "", row).count("|") for row in table}) == 1
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\x07\u2028\ud800]", page + shown)
    assert "[red]x" in shown or "[red]" not in text
    assert len(shown) < 60_000


# ---- HTML


def test_the_page_is_whole_and_loads_nothing(make_comparison: Make, tmp_path: Path):
    path = tmp_path / "deep" / "comparison.html"
    comparison = make_comparison()
    write_comparison_html(comparison, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["comparison.html"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not page.handlers
    assert len(page.ids) == len(set(page.ids))
    inner = {link[1:] for link in page.links if link.startswith("#") and "=" not in link}
    assert inner <= set(page.ids)
    digest = ComparisonDigest(comparison)
    assert {f"change-{digest.id(change)}" for change in digest.changes} <= set(page.ids)
    for piece in (
        "0x310da433",  # the bits of the old value in float32
        "0x00000000",
        "2.0611536203143543e-09",
        "faithful → precision",
        "0 rows nearer to the right value, 118 farther",
        "eps/(K-1)",
        "print(jax.__version__, optax.__version__)",
        "returned before, crashed killed by SIGSEGV now",
        "<b>No difference found</b> by 1 search",
        "1 of 2 searches</b> found a difference",
        "118 of 6,518 rows changed: worse 118",
        "jax 0.10.2, jaxlib 0.10.2, optax 0.2.8, numpy 2.4.1",
        '<title id="bar-1-t">same 6,400, crashed 118</title>',
    ):
        assert piece in text


def test_links_to_a_filter_name_filters_and_values_that_exist(make_comparison: Make):
    comparison = make_comparison()
    offered = {name: set(values) for name, _, values in views.choices(ComparisonDigest(comparison))}
    filters = [
        dict(parse_qsl(link[1:]))
        for link in Page(render_comparison(comparison)).links
        if link.startswith("#") and "=" in link
    ]
    assert len(filters) > 10
    for state in filters:
        for name, value in state.items():
            # A filter with one value is left out, and lets everything through.
            assert name not in offered or value in offered[name]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_text_stays_text_in_the_page(make_comparison: Make, text: str):
    shown = render_comparison(hostile(make_comparison(), text))
    page = Page(shown)
    assert page.tags.count("script") == 2
    assert page.tags.count("style") == 1
    assert not page.handlers
    assert not {"img", "b0dy", "iframe"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\x07\u2028\ud800]", shown)
    assert len(shown.encode()) < 3_000_000


def test_a_page_of_five_thousand_changes_stays_small(make_many: Make):
    many = make_many()
    start = time.perf_counter()
    shown = render_comparison(many)
    assert time.perf_counter() - start < 10
    assert len(shown.encode()) < 3_000_000
    assert shown.count('<details class="card item"') <= views.CARDS
    digest = ComparisonDigest(many)
    ids = set(Page(shown).ids)
    assert len(digest.changes) == 5_000
    assert {f"change-{digest.id(change)}" for change in digest.changes} <= ids


def test_a_script_too_long_for_the_page_is_not_cut(
    make_comparison: Make, make_change: Callable[..., Change]
):
    shown = render_comparison(make_comparison(changes=[make_change(snippet="x = 1\n" * 9_000)]))
    assert "Too long for this page" in shown
    assert "x = 1" not in shown


def test_a_wide_row_shows_its_ends_its_target_and_what_moved(make_change: Callable[..., Change]):
    case = CaseRecord(operation="cross_entropy", dtype="float32", inputs=[["0.0*90"]], target=[50])
    numbers = {"old": ["0.5*90"], "new": ["0.5*70", "0.25", "0.5*19"], "right": ["0.5*90"]}
    row = views.row(make_change(case=case, output="gradient", **numbers))
    shown = {element.index: element for element in row.elements}
    assert {0, 1, 2, 50, 70, 89} <= set(shown)
    assert len(shown) + row.hidden == 90
    assert (shown[70].old, shown[70].new, shown[70].differs) == ("0.5", "0.25", True)
    assert shown[50].target == "target"
    assert not shown[50].differs


@pytest.mark.parametrize(
    ("number", "dtype", "shown"),
    [
        ("0.5", "float32", "0x3f000000"),
        ("-0.0", "float32", "0x80000000"),
        ("inf", "float16", "0x7c00"),
        ("1.0", "bfloat16", "0x3f80"),
        ("1.00390625", "bfloat16", ""),
        ("0.1", "float32", ""),
        ("0.1", "float64", "0x3fb999999999999a"),
        ("70000.0", "float16", ""),
        ("nan", "float32", ""),
        ("no number", "float32", ""),
        ("1.0", "float8", ""),
    ],
)
def test_the_bits_of_what_a_format_holds(number: str, dtype: str, shown: str):
    assert views.bits(number, dtype) == shown


@pytest.mark.parametrize(
    ("part", "rows", "shown"),
    [(0, 5, "0 %"), (1, 1000, "<1 %"), (999, 1000, ">99 %"), (5, 5, "100 %"), (0, 0, "0 %")],
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: int, rows: int, shown: str):
    assert views.share(part, rows) == shown


# ---- the file


def test_a_comparison_reads_back_as_it_was_written(make_comparison: Make, tmp_path: Path):
    path = tmp_path / "comparison.json"
    write_json(make_comparison(), path)
    assert read_comparison(path) == make_comparison()


def edited(comparison: Comparison, change: Callable[[dict[str, Any]], object]) -> bytes:
    raw = msgspec.to_builtins(comparison)
    change(raw)
    return json.dumps(raw).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(format=99), "has comparison format 99, this lossaudit reads 1"),
        (lambda raw: raw.pop("compared"), "is JSON, but not a lossaudit comparison file"),
        (lambda raw: raw.pop("changes"), "is damaged: Object missing required field `changes`"),
        (lambda raw: raw["changes"][0].update(kind="odd"), "is damaged: Invalid enum value 'odd'"),
        (lambda raw: raw["changes"][0].update(old_grade="odd"), "grade 'odd' of a change of"),
        (lambda raw: raw["changes"][0].update(row=7), "has no row 7 of inputs and target"),
        (lambda raw: raw["compared"][0].update(kinds={"odd": 1}), "kind 'odd' of "),
        (lambda raw: raw["searched"][0].update(kind="odd"), "kind 'odd' of a search of "),
        (lambda raw: raw["compared"][0].update(same=3), "are not the sum of those"),
    ],
)
def test_a_file_that_is_no_comparison_is_refused_in_words(
    make_comparison: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
):
    path = tmp_path / "comparison.json"
    path.write_bytes(edited(make_comparison(), change))
    with pytest.raises(RunFileError, match=re.escape(said)):
        read_comparison(path)


def test_a_missing_a_cut_and_a_foreign_file_are_refused_in_words(
    make_comparison: Make, make_run: Callable[..., Any], tmp_path: Path
):
    path = tmp_path / "comparison.json"
    with pytest.raises(RunFileError, match=r"cannot read .*comparison\.json: No such file"):
        read_comparison(path)
    write_json(make_comparison(), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunFileError, match=r"not valid JSON .* `lossaudit compare`"):
        read_comparison(path)
    write_json(make_run(), path)
    with pytest.raises(RunFileError, match="a run file, which is one side of a comparison"):
        read_comparison(path)
