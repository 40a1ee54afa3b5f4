"""The HTML report as text: what it holds, and that nothing in a run can act in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from lossaudit.conformance.run import FINDING_GRADES, GRADES, CaseRecord, Finding, Run
from lossaudit.reports import html as reports_html
from lossaudit.reports import markdown, terminal, views
from lossaudit.reports.digest import MEANINGS, SIGNS, Digest, failure
from lossaudit.reports.html import write_html
from lossaudit.reports.selftest import Kills

PACKED = re.compile(
    r'<script type="text/plain" (class="cards"|id="[^"]*")>([A-Za-z0-9+/=]*)</script>'
)


def unpacked(text: str) -> str:
    """The page with what travels packed written out: cards as they are put in, data as text."""

    def written(found: re.Match[str]) -> str:
        if "library" in found[1]:
            return ""
        content = gzip.decompress(base64.b64decode(found[2])).decode()
        return content if "cards" in found[1] else f"<pre>{html.escape(content)}</pre>"

    return PACKED.sub(written, text)


def render_html(run: Run, kills: Kills | None = None) -> str:
    """The page as a reader meets it once every group is open."""
    return unpacked(reports_html.render_html(run, kills))


HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"' onmouseover=document.title='owned' x='",
    "{{ 7 * 7 }} {% raw %} <<snippet>>",
    "</template></details></table></style><style>body{display:none}</style>",
    "safe\u202egnp.exe\u2066 \u200bhidden\u0000null \x1b[31mred\x07 \ud800 \u2028",
    "line one\nline two\r\n\tline three",
    "\u0300" * 300,
    "W" * 200_000,
    "javascript:document.title='owned'",
    "",
)


class Page(HTMLParser):
    """Tags, ids and links of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append((tag, name))


FIXED = {"status", "state", "grades"}
"""Fields whose texts are one of a few; the run file would not be read with others."""


def poisoned(node: Any, text: str, key: str = "") -> Any:
    """The same tree with every free text replaced."""
    if isinstance(node, dict):
        return {name: poisoned(value, text, name) for name, value in node.items()}
    if isinstance(node, list):
        return [poisoned(entry, text, key) for entry in node]
    return text if isinstance(node, str) and key not in FIXED else node


def hostile_run(make_run: Callable[..., Run], text: str) -> Run:
    """A run in which every text that is not one of a fixed set is hostile."""
    raw = poisoned(msgspec.to_builtins(make_run()), text)
    raw["environment"]["packages"] = {text: text}
    raw["environment"]["workers"] = {text: {text: text}}
    for number, finding in enumerate(raw["findings"]):
        finding["id"] = f"{number}{text}"
    return msgspec.convert(raw, Run)


def test_every_grade_has_its_own_sign_and_a_meaning():
    assert set(SIGNS) == set(MEANINGS) == set(GRADES)
    assert len(set(SIGNS.values())) == len(GRADES)


def test_the_page_is_written_whole_and_loads_nothing(make_run: Callable[..., Run], tmp_path: Path):
    path = tmp_path / "deep" / "report.html"
    write_html(make_run(), path)
    page = Page(path.read_text(encoding="utf-8"))
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert set(outside) == {"https://github.com/pytorch/pytorch/issues/195529"}
    assert not {"iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert not page.handlers


def test_ids_are_unique_and_links_within_the_page_arrive(make_run: Callable[..., Run]):
    page = Page(render_html(make_run()))
    assert len(page.ids) == len(set(page.ids))
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids)


def test_the_policy_allows_the_two_inlined_texts_by_hash_alone(make_run: Callable[..., Run]):
    text = render_html(make_run())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    policy = policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (inlined,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inlined.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_every_finding_has_a_card_with_its_numbers_and_its_snippet(make_run: Callable[..., Run]):
    run = make_run()
    text = render_html(run)
    for finding in run.findings:
        assert f'id="finding-{finding.id}"' in text
    assert "0.6931471805599453" in text
    assert "0x1.62e42fefa39efp-1" in text
    assert "loss(z, t) = logsumexp(z) - z_t" in text
    assert "float(&#34;-inf&#34;)" in text


def test_what_was_not_audited_is_said_and_never_passed(make_run: Callable[..., Run]):
    text = render_html(make_run())
    assert "Not audited:" in text
    assert "pip install keras==3.15.1" in text
    assert "1</b> known, not looked at" in text


def test_a_partial_run_is_marked_and_never_called_clean(make_run: Callable[..., Run]):
    text = render_html(make_run(complete=False, findings=[]))
    assert "PARTIAL run" in text
    assert "so far: this run is partial." in text
    assert "Complete run" not in text
    assert "not reached" in text


def test_a_run_that_saw_nothing_says_so(make_run: Callable[..., Run]):
    run = make_run(
        findings=[], tallies=[], subjects=[], conventions=[], incidents=[], known=[], laws=[]
    )
    text = render_html(run)
    assert "Nothing was audited." in text
    assert "No deviation" not in text


def test_not_applicable_no_rows_and_passed_look_different(make_run: Callable[..., Run]):
    run = make_run()
    cells = Digest(run).cells
    states = {cell.state for cell in cells.values()}
    assert states == {"graded", "not applicable", "no rows"}
    text = render_html(run)
    for name in ("sign na", "sign norows", "sign g-bounded"):
        assert name in text


def test_a_partial_run_that_names_no_laws_calls_nothing_inapplicable(
    make_run: Callable[..., Run],
):
    run = make_run(complete=False)
    run.subjects = [msgspec.structs.replace(subject, laws=[]) for subject in run.subjects]
    assert {cell.state for cell in Digest(run).cells.values()} == {"graded", "not reached"}


def test_a_convention_that_is_not_as_declared_has_a_card_without_input_or_snippet(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    case = CaseRecord(operation="", dtype="float32", inputs=[], target=[])
    finding = make_finding(
        case=case, value=["eps/K"], right=["none"], snippet="", kind="policy", output="smoothing"
    )
    run = make_run(findings=[finding])
    text = render_html(run)
    assert "Smallest input found" not in text
    assert "Copy snippet" not in text
    assert "no single input" in text
    assert "eps/K" in terminal.explain(finding, run)
    assert "```" not in markdown.finding_markdown(finding, Digest(run))


def test_a_call_that_raises_on_an_empty_batch_says_so_everywhere(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    case = CaseRecord(
        operation="cross_entropy", dtype="float32", inputs=[], target=[], reduction="mean"
    )
    message = "the call raised: ValueError: zero-size array"
    finding = make_finding(case=case, value=[], right=[], message=message, kind="policy", ulps=None)
    run = make_run(findings=[finding])
    shown = io.StringIO()
    terminal.print_summary(run, Console(file=shown, width=200))
    page = re.sub(r"<[^>]*>", "", render_html(run))
    said = "an empty batch, reduction = mean", "raises ValueError: zero-size array"
    for text in (
        shown.getvalue(),
        terminal.explain(finding, run),
        markdown.finding_markdown(finding, Digest(run)),
        markdown.summary_markdown(run).replace("\\", ""),
        html.unescape(page),
    ):
        assert all(words in text for words in said), text
        assert "no single input" not in text
        assert "no value" not in text
    assert " -> ".join(said) in shown.getvalue()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("the call crashed: killed by SIGSEGV", "crashes: killed by SIGSEGV"),
        ("the call timed out: no answer", "does not answer: no answer"),
        ("the call wrong shape: the loss has (2,)", "returns another shape: the loss has (2,)"),
        ("loss 1, right is 2", ""),
    ],
)
def test_a_call_that_did_not_return_is_told_in_words(
    make_finding: Callable[..., Finding], message: str, said: str
):
    assert failure(make_finding(value=[], right=[], message=message)) == said
    assert failure(make_finding(value=["1.0"], right=["2.0"], message=message)) == ""


def test_every_group_travels_packed(make_run: Callable[..., Run]):
    run = make_run()
    text = reports_html.render_html(run)
    assert 'class="card item"' not in text
    assert text.count('class="cards"') == len(Digest(run).groups) < len(run.findings)
    assert unpacked(text).count('class="card item"') == len(run.findings)


def test_a_library_stands_in_the_page_and_in_the_policy_where_it_is_needed(
    make_run: Callable[..., Run],
):
    text = reports_html.render_html(make_run())
    (found,) = re.findall(r'id="library-tables">([^<]+)<', text)
    script = gzip.decompress(base64.b64decode(found))
    assert script.startswith(b"/*! DataTables")
    assert base64.b64encode(hashlib.sha256(script).digest()).decode() in text.replace("&#43;", "+")
    sums = Path(views.__file__).parent / "libraries" / "README.md"
    assert hashlib.sha256(script).hexdigest() in sums.read_text(encoding="utf-8")


def test_the_worst_five_differ_in_cause(make_run: Callable[..., Run]):
    digest = Digest(make_run())
    worst = digest.worst_findings()
    assert len(worst) == 5
    assert len({(digest.subjects[f.subject].op, f.kind) for f in worst}) == 5
    ranks = [FINDING_GRADES.index(finding.kind) for finding in worst]
    assert ranks == sorted(ranks, reverse=True)


def test_modes_that_agree_share_a_row_of_the_conventions(make_run: Callable[..., Run]):
    tables = {table.operation: table for table in views.convention_tables(Digest(make_run()))}
    rows = {row.op: row for row in tables["binary_cross_entropy_with_logits"].rows}
    assert rows["optax.sigmoid_binary_cross_entropy"].modes == ("eager", "jit")
    assert "smoothing" in tables["binary_cross_entropy_with_logits"].usual
    assert "plus_inf" not in tables["binary_cross_entropy_with_logits"].usual


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_text_stays_text(make_run: Callable[..., Run], text: str):
    page_text = render_html(hostile_run(make_run, text))
    page = Page(page_text)
    assert page.tags.count("script") == 2
    assert page.tags.count("style") == 1
    assert "img" not in page.tags
    assert not page.handlers
    assert all(re.match(r"(#|data:|https://)", link) for link in page.links)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\x07\u2028\ud800]", page_text)
    assert "49 {%" not in page_text


def test_a_run_of_many_findings_stays_small_and_fast(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    names = [subject.name for subject in make_run().subjects]
    found = [
        make_finding(id=f"{number:016x}", subject=names[number % len(names)], cause=str(number % 7))
        for number in range(2_000)
    ]
    run = make_run(findings=found)
    start = time.perf_counter()
    text = reports_html.render_html(run)
    assert time.perf_counter() - start < 10
    assert len(text.encode()) < 6_000_000
    page = Page(unpacked(text))
    assert {f"finding-{finding.id}" for finding in found} <= set(page.ids)


def test_the_implied_class_stands_beside_the_declared_one(make_run: Callable[..., Run]):
    page = render_html(make_run())
    assert (
        "<li>torch:cross_entropy.index[eager,cpu]: errors of the loss stay inside class C" in page
    )
    assert "<td>loss: C over 500 rows</td>" in page
    assert "<td>loss: B over 500 rows</td>" in page
    assert "<td>loss: beyond the declared over 500 rows</td>" in page
    assert "could be tighter" not in render_html(make_run(implied=[]))
