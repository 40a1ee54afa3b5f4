"""The reported defects as a page of Markdown, and what was found beyond them."""

from __future__ import annotations

from collections.abc import Iterable

from ..conformance.defects import Content, Defect, Defects, Found
from . import text
from .digest import case_text
from .markdown import escaped

INTRODUCTION = """\
# Reported defects, and how lossaudit finds them

Defects of the audited ops that issues, pull requests or the reading of sources know, each with the
smallest call that shows it. A test asks the installed frameworks every call of this page and fails
where one answers otherwise than is said here.

This page is `lossaudit defects`, made of `conformance/defects.toml` by `make defects`."""

BEYOND = """\
## Beyond this list

Deviations that the laws found by themselves, and that no report above is about. Each has its
smallest inputs, subjects, versions and source in `conformance/known_findings.toml`, under the names
here."""


def defects_markdown(defects: Defects) -> str:
    """The page: a table of the reported defects, and those that are beyond it."""
    rows = [
        "| id | what | where | how lossaudit finds it | smallest input | link |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_row, defects.defects),
    ]
    beyond = []
    for entry in defects.beyond:
        listed = ", ".join(f"`{pattern}`" for pattern in entry.known)
        beyond.append(f"- **{escaped(entry.title)}.** {escaped(entry.what)} ({listed})")
    return "\n\n".join([INTRODUCTION, "\n".join(rows), BEYOND, "\n".join(beyond)]) + "\n"


def _row(defect: Defect) -> str:
    cells = [defect.id, defect.title, defect.where]
    shown = [escaped(cell) for cell in cells]
    shown += ["; ".join(map(escaped, how(defect))), "; ".join(map(escaped, inputs(defect)))]
    return "| " + " | ".join([*shown, _link(defect)]) + " |"


def how(defect: Defect) -> list[str]:
    """What finds a defect, or that it is gone, or why it is not found: a phrase for each."""
    found = [f"law {f.law}: {f.kind} in the {f.output}" for f in defect.found]
    measured = [f"convention {m.field} = {m.value} ({_homes(m.on)})" for m in defect.measured]
    gone = [f"gone since {defect.gone}"] if defect.gone else []
    content = [f"law {c.law} finds nothing ({_homes(c.on)})" for c in defect.content]
    told = [*found, *measured, *gone, *content]
    why_not = [f"not found: {defect.why_not}" if not told else defect.why_not]
    return [phrase for phrase in dict.fromkeys([*told, *why_not]) if phrase]


def inputs(defect: Defect) -> list[str]:
    """The smallest calls, each once."""
    calls = [_call(entry) for entry in (*defect.found, *defect.content)]
    return list(dict.fromkeys([*calls, *(m.input for m in defect.measured)]))


def _call(entry: Found | Content) -> str:
    case = entry.case
    rows = " and ".join(case_text(case, row) for row in range(len(case.inputs)))
    times = f", {entry.copies:,} times" if entry.copies > 1 else ""
    return f"{'' if case.dtype == 'float32' else case.dtype + ' '}{rows}{times}"


def _homes(subjects: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(name.partition(":")[0] for name in subjects))


def _link(defect: Defect) -> str:
    """The thread under its name, `pytorch#195529`, or the source where there is no thread."""
    if url := text.web_link(defect.link):
        project, number = url.split("/")[4], url.rpartition("/")[2]
        return f"[{escaped(f'{project}#{number}')}]({url})"
    source = text.web_link(defect.source)
    return escaped(defect.link) + (f" ([source]({source}))" if source else "")
