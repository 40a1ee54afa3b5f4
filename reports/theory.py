"""What came of the identities of information theory: in the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.text import Text

from ..conformance.run import Absence
from ..conformance.theory.asking import Claim
from ..conformance.theory.identities import IDENTITIES, Identity
from ..conformance.theory.measure import Answer
from . import markdown, text
from .console import print_heading, print_indented

NO_OP = "no such op"

SHARE = (
    "A figure is the largest part of what rounding may do, by the derived bounds of the op and of "
    "the arithmetic around it, that any entry took: below 1 the statement holds."
)


def print_theory(
    answers: Sequence[Answer], absent: Sequence[Absence], console: Console, *, details: bool
) -> None:
    """Each statement with what became of it in each framework; what fails, or all, below."""
    homes = _homes(answers)
    for identity in _asked(answers):
        print_heading(console, f"{identity.name}: {identity.statement}")
        cells = [(home, _cell(_of(answers, identity, home))) for home in homes]
        said = ", ".join(f"{home} {cell}" for home, cell in cells if cell != NO_OP)
        print_indented(console, said)
    console.print()
    console.print(Text(SHARE, style="dim"))
    for absence in absent:
        note = f"not asked: {absence.framework}: {absence.reason}; {absence.hint}"
        console.print(Text(text.one_line(note, 300), style="dim"))
    console.print(Text(counted(answers), style="bold"))
    failed = [answer for answer in answers if not answer.holds]
    if failed:
        print_heading(console, f"Does not hold ({len(failed)})")
        _print_each(failed, console)
    if details:
        print_heading(console, "Every op")
        _print_each(answers, console)


def _print_each(answers: Iterable[Answer], console: Console) -> None:
    for answer in answers:
        head = f"{answer.identity.name}  {answer.subject.name}  {answer.dtype}"
        print_indented(console, text.one_line(head, 200), 2)
        for line in _lines(answer):
            print_indented(console, text.one_line(line, 300), 6, "dim")


def counted(answers: Sequence[Answer]) -> str:
    """How many hold, do not, and say nothing."""
    telling = [answer for answer in answers if answer.claims or answer.broken]
    held = sum(answer.holds for answer in telling)
    ops = len({answer.subject.name for answer in telling})
    more = len(answers) - len(telling)
    silent = f"; {more:,} more say nothing: not asked, or of too wide a bound" if more else ""
    return f"{held:,} of {len(telling):,} answers hold, of {text.count(ops, 'op')}{silent}."


def _lines(answer: Answer) -> list[str]:
    if not answer.claims:
        return [answer.reason if answer.broken else f"says nothing: {answer.reason}"]
    return [f"{claim.of}: {_said(claim)}" for claim in answer.claims]


def _said(claim: Claim) -> str:
    """The entry that takes most of its room, where it does not hold; else how much of it."""
    if claim.holds:
        return f"{claim.share:.2g} of its bound"
    value, right, room = claim.entry
    return f"{value!r} is not {claim.sense} {right!r}, bound {room:.2g}"


def theory_markdown(answers: Sequence[Answer], absent: Sequence[Absence]) -> str:
    """The same table, and one of the smoothing of each op."""
    homes = _homes(answers)
    head = ("statement", *homes)
    rows = [
        (
            f"{identity.name}: {identity.statement} ({identity.source})",
            *(_cell(_of(answers, identity, home)) for home in homes),
        )
        for identity in _asked(answers)
    ]
    parts = [
        counted(answers),
        markdown.table(head, rows, 200),
        SHARE,
        *(f"Not asked: {absence.framework}, {absence.reason}." for absence in absent),
        "## Label smoothing, as measured (eps = 1/8, eight classes)",
        markdown.table(
            ("op", "formats", "convention", "least loss", "gradient there", "eps' of the other"),
            _smoothing(answers),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _smoothing(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    """One row for each op whose formats all say the same."""
    found: dict[tuple[str, ...], list[str]] = {}
    for answer in answers:
        if "smoothing" not in answer.identity.name or not answer.claims:
            continue
        of = {claim.of: claim for claim in answer.claims}
        least = next((name for name in of if name.startswith("least loss")), "")
        convention, _, entropy = least.removeprefix("least loss ").partition(", H = ")
        other = next((name for name in of if name.startswith("eps'")), "")
        slope = "0 within its bound" if "gradient there" in of else "none"
        key = (answer.subject.name, convention.removeprefix("of "), entropy, slope, other)
        found.setdefault(key, []).append(answer.dtype)
    return [(key[0], ", ".join(dtypes), *key[1:]) for key, dtypes in found.items()]


def _homes(answers: Iterable[Answer]) -> list[str]:
    return list(dict.fromkeys(answer.subject.home for answer in answers))


def _asked(answers: Sequence[Answer]) -> list[Identity]:
    asked = {answer.identity.name for answer in answers}
    return [identity for identity in IDENTITIES if identity.name in asked]


def _of(answers: Iterable[Answer], identity: Identity, home: str) -> list[Answer]:
    of: Callable[[Answer], bool] = lambda a: a.identity is identity and a.subject.home == home  # noqa: E731
    return [answer for answer in answers if of(answer)]


def _cell(found: Sequence[Answer]) -> str:
    """How many ops were asked, and how near the nearest to its bound came."""
    asked = [answer for answer in found if answer.claims or answer.broken]
    if not asked:
        return "says nothing" if found else NO_OP
    ops = len({answer.subject.op for answer in asked})
    failed = len({answer.subject.op for answer in asked if not answer.holds})
    if failed:
        return f"FAILS in {failed} of {text.count(ops, 'op')}"
    worst = max((answer.worst.share for answer in asked if answer.worst), default=0.0)
    return f"{worst:.2f} ({text.count(ops, 'op')})"
