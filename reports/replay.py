"""A finding asked again, in words: the call, what the run said, what came now, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..conformance.replay import GONE, STILL, Now
from ..conformance.run import Finding, Run
from . import text
from .digest import Digest, call_text, failure

ELEMENTS = 12
"""Numbers of one output that are printed; a wide gradient is in the run file."""


def replayed(finding: Finding, now: Now, run: Run) -> str:
    """Everything that a replay has to say, as plain text."""
    subject = next((s for s in Digest(run).subjects.values() if s.name == finding.subject), None)
    then = subject.versions if subject else {}
    lines = [
        f"finding {text.one_line(finding.id, 40)}: {_where(finding)}",
        f"  call      {call_text(finding) if finding.case.operation else _asked(finding)}",
        "",
        f"the run said, of {_versions(then)}:",
        *_outcome(finding.value, finding.right, finding.output),
        *_said(failure(finding)),
        f"  grade     {text.one_line(finding.kind, 20)}, {text.ulps_text(finding.ulps)}",
        "",
        f"now, of {_versions(now.versions)}:",
        *_outcome(now.value, now.right, finding.output),
        *_said(text.one_line(now.told, 200)),
        f"  grade     {now.grade}, {text.ulps_text(now.ulps)}",
        "",
        sentence(finding, now),
    ]
    return "\n".join(lines)


def sentence(finding: Finding, now: Now) -> str:
    """The verdict in one sentence."""
    verdict = now.verdict(finding)
    if verdict == GONE:
        return f"gone: the call shows {now.grade!r}, which is no finding."
    if verdict == STILL:
        return f"still shown: the call shows {now.grade!r}, as it did."
    if now.grade == finding.kind:
        return f"another grade: {now.grade!r} again, with another value."
    return f"another grade: {now.grade!r} where it was {finding.kind!r}."


def _where(finding: Finding) -> str:
    parts = (finding.law + ",", finding.subject, finding.dtype)
    return " ".join(text.one_line(part, 120) for part in parts)


def _asked(finding: Finding) -> str:
    """The probe's own calls have shapes that no record holds."""
    return f"what measures {text.one_line(finding.output, 40)}"


def _versions(versions: Mapping[str, str]) -> str:
    found = ", ".join(f"{package} {version}" for package, version in versions.items())
    return text.one_line(found, 200) or "an unknown version"


def _said(words: str) -> list[str]:
    return [f"  it says   {words}"] if words else []


def _outcome(value: Sequence[str], right: Sequence[str], output: str) -> list[str]:
    """What came beside what is right, in decimal and exactly in hexadecimal."""
    lines = []
    for index in range(min(max(len(value), len(right)), ELEMENTS)):
        came, wanted = (t[index] if index < len(t) else None for t in (value, right))
        name = output if max(len(value), len(right)) == 1 else f"{output} [{index}]"
        lines.append(f"  {text.one_line(name, 24):9} {_both(came)}, right {_both(wanted)}")
    hidden = max(len(value), len(right)) - ELEMENTS
    return [*lines, f"  and {hidden:,} more"] if hidden > 0 else lines


def _both(number: str | None) -> str:
    if number is None:
        return "none"
    exact = text.hex_float(number)
    return f"{text.one_line(number, 60)} ({exact})" if exact else text.one_line(number, 60)
