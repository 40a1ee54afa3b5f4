"""All findings of a run as CSV, a line each, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io

from ..conformance.run import Finding, Run
from . import text
from .digest import Digest, call_text, failure, outcome_text

FIELDS = (
    *("id", "status", "kind", "law", "framework", "op", "operation", "mode", "device", "dtype"),
    *("region", "output", "rows", "ulps", "demand_ulps", "declared_ulps", "input", "value"),
    *("right", "message", "known", "cause", "link", "versions"),
)
"""The head of the file. A number that a finding has not is an empty cell."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute (OWASP, CSV injection)."""


def findings_csv(run: Run) -> str:
    """Every finding, the worst first; RFC 4180 with a head and lines that end in CR LF."""
    digest, written = Digest(run), io.StringIO()
    writer = csv.writer(written)
    writer.writerow(FIELDS)
    writer.writerows(_line(digest, finding) for finding in digest.findings)
    return written.getvalue()


def _line(digest: Digest, finding: Finding) -> list[str]:
    subject = digest.subjects[finding.subject]
    value, right = (said, "") if (said := failure(finding)) else outcome_text(finding)
    versions = ", ".join(f"{name} {version}" for name, version in subject.versions.items())
    numbers = (finding.ulps, finding.demand_ulps, finding.declared_ulps)
    return [
        *map(_cell, (finding.id, finding.status, finding.kind, finding.law, subject.framework)),
        *map(_cell, (subject.op, subject.operation, subject.mode, subject.device, finding.dtype)),
        *(_cell(finding.region), _cell(finding.output), str(finding.rows)),
        *("" if number is None else repr(number) for number in numbers),
        *map(_cell, (call_text(finding), value, right, finding.message)),
        *map(_cell, (finding.known, finding.cause, finding.link, versions)),
    ]


def _cell(content: str) -> str:
    """One line of text that no spreadsheet takes for a formula; a number stays a number."""
    shown = text.one_line(content, 2000)
    if shown.startswith(_FORMULA) and text.as_float(shown) is None:
        return f"'{shown}"
    return shown
