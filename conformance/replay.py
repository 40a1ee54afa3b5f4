"""One stored finding asked again: does the framework that is installed still show it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..adapters.client import UnusableFramework, WorkerPool
from ..adapters.environments import Environment, availability, missing_device
from ..adapters.registry import DEPTHS, FRAMEWORKS
from ..adapters.subject import Framework, Subject
from ..reference.vocabulary import Case
from .bench import Bench, Failed
from .cell import recorded_case
from .engine import CONVENTIONS, Auditor, Settings, audited_in
from .events import Event
from .law import NOT_JUDGED, Law, Verdict, finder
from .laws.registry import LAWS
from .records import numbers
from .run import FINDING_GRADES, GRADES, Convention, Finding, Run

STILL, GONE, OTHER = "still shown", "gone", "another grade"

NOT_JUDGED_NOW = "not judged"
"""The grade of a row of which its law says nothing any more."""


class ReplayError(Exception):
    """A finding that cannot be asked again; the text says why and what helps."""


@dataclass(frozen=True)
class Now:
    """What came of a finding's call when it was asked again.

    Attributes:
        versions: of the framework that was asked.
        grade: of the row, one of GRADES or NOT_JUDGED_NOW; of a convention "exact" where it is
            measured as declared, "policy" where not, NOT_JUDGED_NOW where it was not measured.
        value, right: what came and what is right there, a text per element as in a Finding; empty
            where the call did not return.
        ulps: the error, None where there is none in ulps.
        told: what else is to be said: the message of a call that did not return, the evidence of
            a convention.
    """

    versions: dict[str, str]
    grade: str
    value: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    ulps: float | None = None
    told: str = ""

    def verdict(self, finding: Finding) -> str:
        """STILL, GONE or OTHER. Gone takes a grade that passes: none says nothing."""
        if self.grade not in FINDING_GRADES:
            return OTHER if self.grade == NOT_JUDGED_NOW else GONE
        same = self.grade == finding.kind
        if finding.law == CONVENTIONS.name:
            same = same and list(self.value) == finding.value
        return STILL if same else OTHER


def environment_of(finding: Finding, environments: list[Environment]) -> Environment:
    """The one of some environments that a finding is asked in: that of its name, or the only one.

    Raises:
        ReplayError: if it is of a named environment, and that is not among them.
    """
    name = finding.subject.partition(":")[0].partition("@")[2]
    for environment in environments:
        if environment.name in ("", name):
            return Environment(name, environment.python)
    wanted = f"--env {name}=PYTHON" if name else "--python PYTHON"
    whose = f"of the environment {name!r}" if name else "of no named environment"
    raise ReplayError(f"finding {finding.id} is {whose}: name its interpreter with {wanted}.")


def replay(run: Run, finding: Finding, environment: Environment, device: str = "") -> Now:
    """Ask the case of a finding again, under its law and the conventions as they measure now.

    Args:
        run: the run that holds it.
        finding: which one.
        environment: where its framework is; it bears the name of the finding's environment.
        device: where it is asked, "" for the device of the finding.

    Raises:
        ReplayError: if the run file says nothing that can be asked.
        UnusableFramework: if the framework is not installed there or does not load.
    """
    framework, asked_on = _framework(finding), device or _device(finding)
    missing = availability(framework, environment)
    if not missing and asked_on != "cpu":
        missing = missing_device(framework, asked_on, environment)
    if missing:
        raise UnusableFramework(framework.name, missing)
    if run.depth not in DEPTHS:
        raise ReplayError(f"the run has the depth {run.depth!r}, which does not exist.")
    # What a quick audit looks at was more once, and is part of what a standard one does.
    looked_at = "standard" if run.depth == "quick" else run.depth
    every = audited_in(framework, environment, looked_at, asked_on)
    subject = _subject(finding, every)
    law, case = _law(finding), _case(finding, subject)
    if law is not None:
        check_applies(law, subject, every, finding)
    with WorkerPool(environment.python, device=asked_on) as pool:
        events: list[Event] = []
        settings = Settings(run.depth, run.seed, device=asked_on)
        auditor = Auditor(pool, every, settings, events.append)
        versions = pool.versions(framework.name)
        with np.errstate(all="ignore"):
            if law is None or case is None:
                auditor.probe(subject)
                return _convention(finding, events, versions)
            return judged(auditor.bench(subject, finding.dtype), law, case, finding, versions)


def _framework(finding: Finding) -> Framework:
    name = finding.subject.partition(":")[0].partition("@")[0]
    if name not in FRAMEWORKS:
        raise ReplayError(
            f"finding {finding.id} is of {name!r}, which is no framework here; a file that "
            "declares it is named with --adapter FILE."
        )
    return FRAMEWORKS[name]


def _op_and_mode(name: str) -> str:
    """`log_softmax.index[jit` of `jax@old:log_softmax.index[jit,cpu]`."""
    return name.partition(":")[2].rpartition(",")[0]


def _device(finding: Finding) -> str:
    return finding.subject.rpartition(",")[2].rstrip("]")


def _subject(finding: Finding, every: tuple[Subject, ...]) -> Subject:
    found = next((s for s in every if _op_and_mode(s.name) == _op_and_mode(finding.subject)), None)
    if found is None:
        raise ReplayError(f"{finding.subject} is no subject of this lossaudit there.")
    if finding.dtype not in found.dtypes and finding.law != CONVENTIONS.name:
        raise ReplayError(f"{finding.subject} is not audited in {finding.dtype}.")
    return found


def _law(finding: Finding) -> Law | None:
    """The law of a finding; None for that which the probe is."""
    if finding.law == CONVENTIONS.name:
        return None
    found = next((law for law in LAWS if law.name == finding.law), None)
    if found is None:
        raise ReplayError(f"{finding.law!r} is no law of this lossaudit.")
    return found


def check_applies(law: Law, subject: Subject, every: Sequence[Subject], finding: Finding) -> None:
    """Refuse a law that an audit of the subject among these others does not ask.

    Raises:
        ReplayError: if so: it would say nothing, which is not that the finding is gone.
    """
    if not law.applies(subject):
        raise ReplayError(
            f"finding {finding.id} cannot be asked again: the law {law.name!r} does not apply to "
            f"{finding.subject} in this lossaudit."
        )
    if finding.dtype not in law.dtypes(subject, finder(every)(subject)):
        op, mode = law.partner(subject) or ("", "")
        raise ReplayError(
            f"finding {finding.id} cannot be asked again: the law {law.name!r} compares "
            f"{finding.subject} with {op} in mode {mode}, which is not audited there in "
            f"{finding.dtype}."
        )


def _case(finding: Finding, subject: Subject) -> Case | None:
    if finding.law == CONVENTIONS.name:
        return None
    try:
        return recorded_case(finding.case, subject)
    except (ValueError, TypeError) as error:
        raise ReplayError(f"the case of finding {finding.id} is damaged: {error}.") from error


def judged(bench: Bench, law: Law, case: Case, finding: Finding, versions: dict[str, str]) -> Now:
    """What a law says now of the row of a finding.

    Raises:
        ReplayError: if the subject is not asked such a case here.
    """
    try:
        verdicts = law.verdicts(bench, case)
    except Failed as failed:
        return _failed(failed, finding, versions)
    except ValueError as error:
        raise ReplayError(f"the case of finding {finding.id} is no call: {error}.") from error
    # A call that did not return was a finding about all that the law judges.
    mine = verdicts if not finding.right else [v for v in verdicts if v.output == finding.output]
    ranks = [(int(v.grade[_row(v, finding)]), v) for v in mine if v.grade.size]
    if not ranks:
        # A batch without rows is asked only whether it returns, and it did.
        returned = bool(mine) and case.rows == 0
        return Now(versions, "exact" if returned else NOT_JUDGED_NOW)
    rank, verdict = max(ranks, key=lambda pair: pair[0])
    row = _row(verdict, finding)
    value, right = numbers(verdict.value[row]), numbers(verdict.right[row])
    if verdict.told is not None:
        value, right = [verdict.told[0]], [verdict.told[1]]
    ulps = float(verdict.ulps[row])
    return Now(
        versions,
        NOT_JUDGED_NOW if rank == NOT_JUDGED else GRADES[rank],
        tuple(value),
        tuple(right),
        ulps if np.isfinite(ulps) else None,
        verdict.note,
    )


def _row(verdict: Verdict, finding: Finding) -> int:
    return 0 if verdict.whole else min(finding.row, verdict.grade.size - 1)


def _failed(failed: Failed, finding: Finding, versions: dict[str, str]) -> Now:
    outcome = failed.outcome
    if outcome.status == "unsupported":
        raise ReplayError(f"finding {finding.id} cannot be asked again: {outcome.message}.")
    grade = outcome.status if outcome.status in ("crashed", "timed out") else "policy"
    first = (outcome.message.strip().splitlines() or [""])[0]
    return Now(versions, grade, told=f"the call {outcome.status}: {first}")


def _convention(finding: Finding, events: list[Event], versions: dict[str, str]) -> Now:
    """What the probe measured of the field that a finding is about."""
    fields = [e for e in events if isinstance(e, Convention) and e.field == finding.output]
    if not fields:
        raise ReplayError(f"{finding.output} is not measured of {finding.subject} here.")
    field = fields[0]
    measured = {True: "exact", False: "policy", None: NOT_JUDGED_NOW}[field.agrees]
    value = (field.measured,) if field.measured else ()
    return Now(versions, measured, value, (field.declared,), None, field.evidence)
