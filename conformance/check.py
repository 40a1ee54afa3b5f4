"""`lossaudit.check`: a function of your own under every law, in the test suite that it lives in.

def test_my_cross_entropy():
    lossaudit.check(my_cross_entropy, operation="cross_entropy", framework="torch")
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..adapters.declare import REDUCTIONS, DeclarationError, Declared, declare
from ..adapters.in_process import InThisProcess
from ..adapters.subject import Subject
from ..reference.vocabulary import Arithmetic, Case
from .cell import PROFILES
from .engine import CONVENTIONS, Auditor, Settings
from .events import CellFinished, Event
from .laws.registry import LAWS
from .message import told
from .regions import Plan, make_case, region
from .run import GRADES, Convention, Finding, Incident, Tally

SHOWN = 3
"""Findings that a failure tells in full, each with a script of its own; the others are counted."""

EXPLAINING = [CONVENTIONS.name, *(law.name for law in LAWS if law.misuse)]
ORDER = [*EXPLAINING, *(law.name for law in LAWS if not law.misuse)]
"""Of the findings: first the cause of others, a contradicted declaration or a misuse."""

STATEMENTS = {law.name: law.statement for law in (*LAWS, CONVENTIONS)}


@dataclass(frozen=True)
class Checked:
    """What a check saw that found nothing wrong.

    Attributes:
        subject: what was checked.
        versions: of the library whose tensors it takes.
        depth: how far it was searched.
        cells: laws times dtypes.
        rows: rows judged, each under every law that fits.
        grades: rows by grade, see `run.GRADES`.
        conventions: every field that was measured, and what was declared of it.
        precision: findings of kind `precision`: errors inside the bound of the declared arithmetic
            that a form which does not cancel would not make.
    """

    subject: Subject
    versions: dict[str, str]
    depth: str
    cells: int
    rows: int
    grades: dict[str, int]
    conventions: tuple[Convention, ...]
    precision: tuple[Finding, ...]

    def __str__(self) -> str:
        subject = self.subject
        version = ", ".join(f"{name} {text}" for name, text in self.versions.items())
        options = ", ".join(sorted(subject.options)) or "none"
        dtypes = ", ".join(subject.dtypes)
        grades = ", ".join(f"{self.grades[g]:,} {g}" for g in GRADES if self.grades.get(g))
        lines = [
            f"{subject.op} holds: {subject.operation}, target {subject.target}, {version}",
            f"  {self.cells} laws and dtypes ({dtypes}), {self.rows:,} rows, depth {self.depth}",
            f"  grades: {grades}",
            f"  options: {options}; reductions: {', '.join(subject.reductions)}",
            *(f"  {_convention(c)}" for c in self.conventions),
        ]
        if self.precision:
            worst = max(self.precision, key=lambda f: f.ulps or 0.0)
            lines.append(
                f"  {len(self.precision)} findings of kind precision (strict=True raises them), "
                f"the worst of {worst.ulps or 0.0:.3g} ulps: {worst.law} {worst.dtype}, "
                f"{worst.region}: {worst.message}"
            )
        return "\n".join(lines)


def check(
    function: Callable[..., Any],
    *,
    operation: str,
    framework: str,
    dtypes: Iterable[str] | None = None,
    target: str | None = None,
    arithmetic: Arithmetic | str | None = None,
    reductions: Iterable[str] = REDUCTIONS,
    device: str = "cpu",
    name: str | None = None,
    depth: str = "quick",
    seed: int = 0,
    strict: bool = False,
    **conventions: Any,
) -> Checked:
    """Hold a function to every law that fits it, in this process.

    Args:
        function: `function(inputs, target, **options)`, which takes tensors of `framework` and
            returns the loss; with framework="numpy" it returns (loss, gradient).
        operation: "cross_entropy", "binary_cross_entropy_with_logits", or either from
            probabilities: "cross_entropy_probabilities", "binary_cross_entropy".
        framework: whose tensors it takes: "torch", "jax", "tensorflow" or "numpy".
        dtypes: the formats to check; all that the framework has where None.
        target: "index", "distribution" or "binary"; an index, where there is a choice.
        arithmetic: its form ("A", "B" or "C" for cross-entropy) or a whole Arithmetic, from which
            its bound follows; the loosest of the textbook's where None.
        reductions: the values of `reduction` that it takes, where it takes any.
        device: where its tensors shall lie, in the words of the framework.
        name: what the messages call it; its own name where None.
        depth: "quick" (seconds), "standard" or "deep".
        seed: of the search; the same seed gives the same verdicts.
        strict: also raise findings of kind `precision`.
        conventions: what it promises, such as smoothing="eps/K" or mean="valid"; see
            `lossaudit.adapters.declare.CONVENTIONS`. What is left open is measured, and its values
            are judged under what was measured.

    Returns:
        What was looked at, with the findings of kind `precision`.

    Raises:
        AssertionError: where a law is broken; the text has the smallest input first.
        DeclarationError: where the declaration cannot be, or a plain call raises or returns
            something else than the losses of the rows.
    """
    if depth not in PROFILES:
        raise DeclarationError(f"depth: {depth!r} is not known; there are: {', '.join(PROFILES)}")
    declared = declare(
        function,
        operation=operation,
        framework=framework,
        dtypes=dtypes,
        target=target,
        arithmetic=arithmetic,
        reductions=reductions,
        device=device,
        name=name,
        **conventions,
    )
    session = _session(declared)
    # Overflow is what is looked for, and must not end a test suite that makes warnings errors.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _try_plainly(declared.subject, session)
        return _judged(declared.subject, session, Settings(depth, seed), strict=strict)


def _session(declared: Declared) -> InThisProcess:
    try:
        return InThisProcess(declared)
    except ImportError as error:
        library = declared.subject.tensors
        raise DeclarationError(f"framework: {library!r} cannot be imported: {error}") from error


def _try_plainly(subject: Subject, session: InThisProcess) -> None:
    """One call in each dtype, so that a slip is told as what it is and not as a broken law."""
    for dtype in subject.dtypes:
        case = _plain(subject, dtype)
        try:
            session.result(subject, case)
        except Exception as error:
            raise DeclarationError(
                f"{subject.op} raised on a plain call in {dtype}, inputs {case.inputs.tolist()}, "
                f"target {case.target.tolist()}: {type(error).__name__}: {error}"
            ) from error
        outcome = session.ask(subject, case)
        if not outcome.returned:
            raise DeclarationError(f"{subject.op}, in {dtype}: {outcome.message}")


def _plain(subject: Subject, dtype: str) -> Case:
    classes = 2 if subject.target == "binary" else 3
    ordinary = region("ordinary", subject.operation)
    plan = Plan(ordinary, subject.operation, subject.target, dtype, 4, classes, (), "none", 0)
    return make_case(plan)


def _judged(subject: Subject, session: InThisProcess, settings: Settings, strict: bool) -> Checked:
    events: list[Event] = []
    versions = session.versions(subject.framework)
    auditor = Auditor(session, [subject], settings, events.append)
    auditor.probe(subject)
    for law, dtype in auditor.cells(subject):
        auditor.cell(subject, law, dtype, versions)
    if faults := [e for e in events if isinstance(e, Incident) and "internal:" in e.message]:
        raise RuntimeError(f"a fault of lossaudit's own; please report it: {faults[0].message}")
    findings = [e for e in events if isinstance(e, Finding)]
    wrong = [f for f in findings if strict or f.kind != "precision"]
    if wrong:
        raise AssertionError(_failure(subject, wrong))
    grades: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Tally) and event.law != CONVENTIONS.name:
            grades.update(event.grades)
    finished = [e for e in events if isinstance(e, CellFinished)]
    return Checked(
        subject=subject,
        versions=versions,
        depth=settings.depth,
        cells=len(finished),
        rows=sum(e.rows for e in finished),
        grades=dict(grades),
        conventions=tuple(e for e in events if isinstance(e, Convention)),
        precision=tuple(f for f in findings if f.kind == "precision"),
    )


def _failure(subject: Subject, wrong: list[Finding]) -> str:
    """The findings in the words of the pytest suite, of each law the smallest input first."""
    ordered = sorted(wrong, key=_order)
    kinds: dict[tuple[str, str, str], Finding] = {}
    for finding in ordered:
        kinds.setdefault((finding.law, finding.output, finding.kind), finding)
    shown = list(kinds.values())[:SHOWN]
    count = f"{len(wrong)} finding{'s' if len(wrong) > 1 else ''}"
    text = "\n\n".join(told(finding, STATEMENTS[finding.law]) for finding in shown)
    said = [f"{subject.op} is wrong, {count}:\n", text]
    if rest := [f for f in ordered if f not in shown]:
        counts = Counter((f.law, f.dtype, f.kind) for f in rest)
        listed = ", ".join(
            f"{law} {dtype} {kind}" + (f" ({n})" if n > 1 else "")
            for (law, dtype, kind), n in counts.items()
        )
        said.append(f"\nAnd {len(rest)} more: {listed}")
    return "\n".join(said)


def _order(finding: Finding) -> tuple[int, int, int]:
    """The laws as they are listed, of each few numbers first, then short ones."""
    numbers = [text for row in finding.case.inputs for text in row]
    return (ORDER.index(finding.law), len(numbers), sum(map(len, numbers)))


def _convention(found: Convention) -> str:
    if not found.measured:
        return f"{found.field}: not measured ({found.evidence})"
    declared = "as declared" if found.agrees else "measured, not declared"
    return f"{found.field}: {found.measured} ({declared})"
