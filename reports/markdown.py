"""Markdown: a summary that fits a CI step summary, and one finding for an upstream report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..conformance.run import Finding, Run
from . import peers, text
from .digest import Digest, call_text, failure, outcome_text
from .views import smallest_input

PLACEHOLDER = "<<snippet>>"
"""Stands for the snippet where the page holds it already."""

PEERS = "<<peers>>"
"""Stands for the table of what other subjects answer, which several findings share."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def summary_markdown(run: Run) -> str:
    """The run in one screen of Markdown."""
    digest = Digest(run)
    parts = [f"## lossaudit: {escaped(digest.verdict())}", _facts(run), _framework_table(digest)]
    if digest.findings:
        parts += ["### Worst findings", _finding_table(digest)]
    if digest.disagreements:
        parts += ["### Conventions that are not as declared", _disagreements(digest)]
    if digest.tightenings:
        proposals = [f"- {escaped(str(proposal))}" for proposal in digest.tightenings[:20]]
        parts += ["### Declarations that could be tighter", "\n".join(proposals)]
    gone = [f"- {escaped(record.entry)}: {escaped(record.detail)}" for record in run.gone()]
    if gone:
        parts += ["### Known findings that are gone (remove their entries)", "\n".join(gone)]
    return "\n\n".join(parts) + "\n"


def finding_markdown(
    finding: Finding, digest: Digest, snippet: str | None = None, answers: str | None = None
) -> str:
    """One finding, ready to be pasted into an issue of the framework.

    Args:
        finding: what to write about.
        digest: the run that it belongs to.
        snippet: what to put in the snippet's place (the snippet itself where None).
        answers: the same of the table of what other subjects answer.
    """
    subject, law = digest.subjects[finding.subject], digest.laws[finding.law]
    if answers is None:
        found = peers.table(digest, finding)
        answers = "" if found is None else peer_table(found)
    code = finding.snippet.rstrip("\n") if snippet is None else snippet
    where = f"`{_code(subject.name)}`, {_code(finding.dtype)}, {_code(finding.output)}"
    statement = f": `{_code(law.statement)}`" if law.statement else ""
    facts = [
        f"where: {where}",
        f"versions: {escaped(_versions(digest, finding))}",
        f"law: {escaped(law.name)}{statement}",
        f"smallest input found: `{_code(call_text(finding))}`",
        _came(finding),
        f"error: {text.ulps_text(finding.ulps)}{_bounds(finding)}",
    ]
    found_by = f"Found by lossaudit {escaped(digest.run.lossaudit)}"
    platform = escaped(digest.run.environment.platform)
    parts = [
        f"### {escaped(finding.kind)}: {escaped(subject.op)} ({escaped(finding.dtype)})",
        escaped(text.clip(finding.message, 600)),
        "\n".join(f"- {fact}" for fact in facts),
        _element_table(finding),
        answers,
        f"Cause: {escaped(finding.cause)} {text.web_link(finding.link)}" if finding.cause else "",
        _fenced(code, "python") if finding.snippet else "",
        f"{found_by}, finding `{_code(finding.id)}`, on {platform}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _versions(digest: Digest, finding: Finding) -> str:
    found = digest.subjects[finding.subject].versions
    return ", ".join(f"{package} {version}" for package, version in found.items()) or "unknown"


def _came(finding: Finding) -> str:
    if said := failure(finding):
        return f"came: `{_code(said)}`"
    value, right = outcome_text(finding)
    return f"value: `{_code(value)}`, right: `{_code(right)}`{_hex_note(finding)}"


def _hex_note(finding: Finding) -> str:
    if len(finding.right) != 1:
        return ""
    exact = text.hex_float(finding.right[0])
    return f" (`{exact}`)" if exact else ""


def _bounds(finding: Finding) -> str:
    parts = []
    if finding.demand_ulps is not None:
        parts.append(f"demand {text.ulps_text(finding.demand_ulps)}")
    if finding.declared_ulps is not None:
        parts.append(f"declared arithmetic {text.ulps_text(finding.declared_ulps)}")
    return f" ({', '.join(parts)})" if parts else ""


def _element_table(finding: Finding) -> str:
    """The gradient class by class; a loss is one number and has its line above."""
    row = smallest_input(finding)
    if not row.gradient:
        return ""
    lines = [(str(e.index), e.input, e.target, e.value or "", e.right or "") for e in row.elements]
    shown = table(("class", row.name, "target", "value", "right"), lines)
    return f"{shown}\n\n({row.hidden:,} classes left out)" if row.hidden else shown


def peer_table(found: peers.Table) -> str:
    """What other subjects answer to the same input."""
    head = ("who", "loss", "gradient", "error of loss, gradient")
    lines = [
        (
            "correctly rounded, for this call",
            ", ".join(found.loss) or "no value",
            ", ".join(found.gradient),
            "",
        )
    ]
    for answer in found.answers:
        who = "; ".join(f"{framework} {ops}" for framework, ops in answer.who)
        came = answer.status or ", ".join(answer.loss)
        error = ", ".join(filter(None, (answer.loss_ulps, answer.gradient_ulps)))
        more = f", and {answer.cut} more" if answer.cut else ""
        lines.append((who, came, ", ".join(answer.gradient) + more, error))
    title = (
        f"The same input asked of {text.count(found.subjects, 'eager subject')} of this operation:"
    )
    return f"{title}\n\n{table(head, lines)}"


def _facts(run: Run) -> str:
    state = "complete" if run.complete else "**PARTIAL: interrupted before its end**"
    return (
        f"{state}, depth {escaped(run.depth)}, seed {run.seed}, {text.duration(run.seconds)}, "
        f"started {escaped(run.started)}, {escaped(run.environment.platform)}, "
        f"lossaudit {escaped(run.lossaudit)}"
    )


def _framework_table(digest: Digest) -> str:
    lines = [
        (
            line.label,
            f"{line.subjects:,}",
            f"{line.rows:,}",
            f"{line.new:,}",
            f"{line.known:,}",
        )
        for line in digest.lines()
    ]
    lines += [
        (f"{absence.framework}: NOT AUDITED, {absence.reason}; {absence.hint}", "", "", "", "")
        for absence in digest.run.absent
    ]
    return table(("framework", "subjects", "rows", "new", "known"), lines)


def _finding_table(digest: Digest, limit: int = 10) -> str:
    lines = []
    for finding in digest.worst_findings(limit):
        value, right = (said, "") if (said := failure(finding)) else outcome_text(finding)
        lines.append(
            (
                f"{finding.kind} ({finding.status})",
                f"{finding.subject} {finding.dtype}",
                f"{finding.law}, {finding.output}",
                call_text(finding),
                value,
                right,
                finding.id,
            )
        )
    shown = table(("kind", "subject", "law", "smallest input", "value", "right", "id"), lines)
    more = len(digest.findings) - len(lines)
    return f"{shown}\n\n{more:,} more in the report." if more else shown


def _disagreements(digest: Digest, limit: int = 20) -> str:
    lines = [
        (entry.subject, entry.field, entry.declared, entry.measured, entry.input)
        for entry in digest.disagreements[:limit]
    ]
    return table(("subject", "field", "declared", "measured", "smallest input"), lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]], longest: int = 160) -> str:
    """A table of lines of cells, in which nothing is markup."""
    rows = [[escaped(text.one_line(cell, longest)) for cell in head], ["---"] * len(head)]
    rows += [[escaped(text.one_line(cell, longest)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(content: str) -> str:
    """One line of prose in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", text.one_line(content, 1000))


def _code(content: str) -> str:
    """Text between backticks, which cannot hold one."""
    return text.one_line(content, 300).replace("`", "'")


def _fenced(code: str, language: str) -> str:
    """A code block whose fence is longer than any in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
