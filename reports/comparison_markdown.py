"""A Comparison as Markdown for a pull request: short enough to be read, whatever it holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..conformance.comparison import KINDS, Comparison
from . import text
from .comparison_digest import (
    DTYPES,
    SIGNS,
    ComparisonDigest,
    call_text,
    distinct,
    outcome,
    short_numbers,
)
from .markdown import escaped

LINES = 60
"""Lines of the whole: about two screens, which is what a reviewer reads."""

SIZE = 8_000
"""Bytes of the whole."""

OUTPUTS = 4
"""Searches that are told: a loss and its gradients are three."""

_LISTED, _OPS = (10, 5, 2, 0), (40, 20, 10, 0)
"""Entries of each list, and of the table of ops: the most that fits is taken."""


def comparison_markdown(comparison: Comparison) -> str:
    """At most LINES lines and SIZE bytes: verdict, counts, the worst, the search, and the ops."""
    digest = ComparisonDigest(comparison)
    page = ""
    for listed, ops in itertools.product(_LISTED, _OPS):
        page = _page(digest, listed, ops)
        if page.count("\n") <= LINES and len(page.encode("utf-8", "replace")) <= SIZE:
            break
    return page  # without any list it always fits: each text in it has its limit


def _page(digest: ComparisonDigest, listed: int, ops: int) -> str:
    parts = [
        _head(digest),
        _kinds(digest),
        _conventions(digest, min(listed, 5)),
        _presence(digest, min(listed, 5)),
        _worst(digest, listed),
        _searches(digest, min(listed, 3)),
        _laws(digest, min(listed, 5)),
        _notes(digest, min(listed, 3)),
        _ops(digest, ops),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(digest: ComparisonDigest) -> str:
    comparison = digest.comparison
    partial = "" if comparison.complete else "**PARTIAL: not all was compared.** "
    platform = escaped(text.one_line(comparison.new.platform, 60))
    asked = f"depth {escaped(text.one_line(comparison.new.depth, 20))}, corpus {comparison.corpus}"
    head, said = (escaped(part) for part in digest.verdict_parts("→"))
    return f"## {head}\n\n{said}\n\n{partial}lossaudit, {asked}, {platform}."


def _kinds(digest: ComparisonDigest) -> str:
    lines = [
        (f"{SIGNS[kind]} {kind}", f"{rows:,}", KINDS[kind])
        for kind, (rows, changes) in digest.kinds.items()
        if rows or changes
    ]
    if not lines:
        return ""
    same = ("== same", f"{digest.comparison.same:,}", "the same bits")
    return _table(("kind", "rows", "what it is"), [*lines, same], 90)


def _conventions(digest: ComparisonDigest, limit: int) -> str:
    said = [
        f"{_short(name)}: {c.field}: {c.old} → {c.new} on {c.input or 'no single input'}"
        for name, c in digest.conventions
    ]
    return _listed(
        f"Conventions measured otherwise ({len(digest.comparison.conventions):,})", said, limit
    )


def _presence(digest: ComparisonDigest, limit: int) -> str:
    gone, new = digest.presence["gone"], digest.presence["new"]
    said = [
        f"{p.state}: {_short(name)} {p.part}{': ' if p.reason else ''}{p.reason}"
        for name, p in (*gone, *new)
    ]
    title = f"Gone ({digest.number_of('gone'):,}) and new ({digest.number_of('new'):,})"
    return _listed(title, said, limit)


def _worst(digest: ComparisonDigest, limit: int) -> str:
    if not digest.changes:
        return ""
    lines = []
    for change, alike in digest.worst(limit):
        numbers = outcome(change)
        old, new, right = short_numbers(numbers) if numbers else (change.message, "", "")
        ulps = " → ".join(
            "?" if u is None else f"{u:.3g}" for u in (change.old_ulps, change.new_ulps)
        )
        lines.append(
            (
                f"{SIGNS[change.kind]} {change.kind}" + (f" (+{alike:,})" if alike else ""),
                f"{_short(change.subject)} {DTYPES.get(change.dtype, change.dtype)}",
                f"{change.region}, {numbers.where if numbers else change.output}",
                call_text(change),
                old,
                new,
                right,
                "" if ulps == "? → ?" else ulps,
            )
        )
    left = len(digest.changes) - len(lines)
    more = f"\n\n{left:,} more in the report." if left else ""
    head = ("kind (and alike)", "subject", "where", "input", "old", "new", "right", "ulps")
    return f"### Worst changes\n\n{_table(head, lines, 60) if lines else ''}{more}".rstrip()


def _searches(digest: ComparisonDigest, limit: int) -> str:
    lines = []
    for line in digest.searches[:OUTPUTS]:
        lines.append(f"- Search: {escaped(text.one_line(str(line), 200))}")
        for entry in distinct(line.found, limit):
            numbers = outcome(entry)
            what = " → ".join(short_numbers(numbers)[:2]) if numbers else entry.message
            call = call_text(entry)
            sign = f"{SIGNS[entry.kind]} {entry.kind}"
            said = f"{sign} {_short(entry.subject)} {entry.dtype}: {call}: {what}"
            lines.append(f"  - {escaped(text.one_line(said, 200))}")
    return "\n".join(lines)


def _laws(digest: ComparisonDigest, limit: int) -> str:
    appeared = sum(law.state == "appeared" for law in digest.laws)
    gone = len(digest.laws) - appeared
    said = [
        f"{x.state}: {x.law}, {_short(x.subject)} {x.dtype} {x.region}: {x.old} → {x.new}"
        for x in digest.laws
    ]
    title = f"Findings of only one version: {appeared:,} appeared, {gone:,} gone"
    return _listed(title, said, limit)


def _notes(digest: ComparisonDigest, limit: int) -> str:
    found = digest.comparison.notes
    return _listed(f"Notes ({len(found):,})", found, limit)


def _ops(digest: ComparisonDigest, limit: int) -> str:
    """The ops with other bits, folded away; a line for those that are the same."""
    changed = [line for line in digest.ops if not line.unchanged]
    if not (changed and limit):
        return ""
    lines = [
        (
            f"{line.framework} {line.op}",
            f"{line.rows:,}",
            f"{line.same:,}",
            f"{line.moved:,}",
            f"{line.better:,}",
            f"{line.worse:,}",
            "" if line.largest is None else f"{line.largest:.3g}",
        )
        for line in changed[:limit]
    ]
    head = ("op", "rows", "same", "moved", "better", "worse", "largest move (ulps)")
    left, same = len(changed) - len(lines), len(digest.ops) - len(changed)
    tail = [f"{left:,} more with other bits"] if left else []
    tail += [f"{same:,} with the same bits in every row"] if same else []
    end = f"\n\n{'; '.join(tail)}." if tail else ""
    title = f"<summary>Rows of the {text.count(len(changed), 'op')} with other bits</summary>"
    return f"<details>{title}\n\n{_table(head, lines, 60)}{end}\n\n</details>"


def _listed(title: str, said: Sequence[str], limit: int) -> str:
    """A heading and as many entries as may be listed; how many are not is said."""
    if not said:
        return ""
    lines = [f"- {escaped(text.one_line(entry, 200))}" for entry in said[:limit]]
    left = len(said) - len(lines)
    lines += [f"- … and {left:,} more in the report"] if left else []
    return "\n".join([f"### {escaped(title)}", "", *lines])


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], limit: int) -> str:
    rows = [list(head), ["---"] * len(head)]
    rows += [[escaped(text.one_line(cell, limit)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _short(subject: str) -> str:
    """A subject without the device where that is the common one."""
    return text.one_line(subject, 90).replace(",cpu]", "]")


def _cut(page: str) -> str:
    return page.encode("utf-8", "replace")[: SIZE - 100].decode("utf-8", "ignore") + "\n"
