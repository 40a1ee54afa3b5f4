"""The engine: audits subjects under laws and says what it sees as events.

`audit` has two fronts: the command line calls it for everything, the pytest suite for one cell at
a time. Both see the same findings.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import numpy as np

from ..adapters.client import UnusableFramework, WorkerPool
from ..adapters.environments import Environment, availability
from ..adapters.registry import FRAMEWORKS, audited, plain_call, script
from ..adapters.subject import Framework, Subject, compiles_shapes
from ..adapters.worker import leave_with_parent
from ..reference.vocabulary import Case, Outcome, Semantics
from .bench import KEPT_LARGE, Bench, Memory, Session
from .cell import PROFILES, Cell, Profile
from .events import (
    CellFinished,
    CellStarted,
    Event,
    PlanMade,
    StepFinished,
    SubjectFinished,
    WorkerReady,
)
from .examples.everything import ask_shipped
from .interruptions import interruptions_later, leave_interruptions_to_the_parent
from .journal import Journal
from .known import Entry, Known, marked
from .law import Law, cells, finder
from .laws.registry import LAWS
from .misuse.everything import measure_all
from .probe import Measured, probe
from .profiles import profiled, profiles
from .records import is_recordable, to_record
from .regions import ROWS
from .run import (
    UNSUPPORTED,
    Absence,
    CaseRecord,
    Convention,
    Finding,
    Incident,
    KnownRecord,
    LawRecord,
    Profiled,
    SubjectRecord,
    Tally,
    Worst,
)
from .worst import Kept

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Settings:
    """What an audit is asked for."""

    depth: str = "quick"
    seed: int = 0
    laws: tuple[str, ...] = ()
    known: Known = field(default_factory=Known)
    memory: int | None = None
    """Bytes that a worker may hold, or None for half of the machine's memory."""
    device: str = "cpu"
    worst: tuple[Worst, ...] = ()
    """Rows of another run, examined before all others."""
    beside: bool = False
    """Whether what no law judges is measured too: error profiles, misuse, worked examples, and what
    others answer to the inputs of known findings."""

    @property
    def profile(self) -> Profile:
        return PROFILES[self.depth]

    def chosen_laws(self) -> tuple[Law, ...]:
        return tuple(law for law in LAWS if not self.laws or law.name in self.laws)


TRUTHS = 6144
"""Truths kept for all subjects of a process, some 10 kB each, and as many bounds: what the subjects
of an operation are asked in four dtypes, under the conventions that there are."""

_TRUTHS, _TRIED = Memory(TRUTHS), Memory(TRUTHS)
"""What depends on the bits of a case alone, whoever is asked."""

LOST_LIMIT = 3
"""Calls that a subject may lose to crashes and time-outs before the rest of it is left alone: each
costs a new worker or the whole time limit, and says no more than the one before."""

LEFT_ALONE = f"{LOST_LIMIT} calls were lost; the rest of this subject was not audited"
"""What is said of it."""

NOT_ASKED = "not asked any more: too many calls were lost"
"""The message of the outcome of each of the others."""


class Patience:
    """A session that stops asking a subject that keeps dying or hanging.

    Args:
        said: what an earlier start of the same audit has said: it is not said, or tried, again.
    """

    def __init__(self, session: Session, emit: Emit, said: Iterable[Incident] = ()) -> None:
        self._session, self._emit = session, emit
        self._lost: Counter[str] = Counter()
        self._unsupported: set[str] = set()
        for incident in said:
            if incident.message == LEFT_ALONE:
                self._lost[incident.subject] = LOST_LIMIT
            elif incident.message.startswith(UNSUPPORTED):
                self._unsupported.add(incident.subject)

    def ask(self, subject: Subject, case: Case) -> Outcome:
        if self._lost[subject.name] >= LOST_LIMIT:
            return Outcome("unsupported", message=NOT_ASKED)
        outcome = self._session.ask(subject, case)
        if outcome.status == "unsupported" and subject.name not in self._unsupported:
            self._unsupported.add(subject.name)
            message = f"{UNSUPPORTED}: {outcome.message}"
            self._emit(Incident(subject=subject.name, law="", dtype=case.dtype, message=message))
        if outcome.status in ("crashed", "timed out"):
            self._lost[subject.name] += 1
            if self._lost[subject.name] == LOST_LIMIT:
                lost = Incident(subject=subject.name, law="", dtype="", message=LEFT_ALONE)
                self._emit(lost)
        return outcome

    def versions(self, framework: str) -> dict[str, str]:
        return self._session.versions(framework)


class Auditor:
    """Audits the subjects of some frameworks over one session."""

    def __init__(
        self,
        session: Session,
        subjects: Sequence[Subject],
        settings: Settings,
        emit: Emit,
        said: Iterable[Incident] = (),
    ) -> None:
        self._session = Patience(session, emit, said)
        self._settings, self._emit = settings, emit
        self._subjects, self._find = tuple(subjects), finder(subjects)
        self._large = Memory(KEPT_LARGE)
        self._kept = Kept(settings.worst)
        self._semantics: dict[str, Semantics] = {}
        self._benches: dict[tuple[str, str], Bench] = {}

    def cells(self, subject: Subject) -> Iterator[tuple[Law, str]]:
        """The laws and dtypes in which a subject is looked at."""
        for _, law, dtype in cells(self._settings.chosen_laws(), [subject], self._subjects):
            yield law, dtype

    def record(self, subject: Subject, versions: dict[str, str]) -> SubjectRecord:
        """What a run says of a subject before anything is known."""
        fitting = [law.name for law in LAWS if law.dtypes(subject, self._find(subject))]
        return record(subject, versions, fitting)

    def probe(self, subject: Subject) -> Semantics:
        """Measure the conventions of a subject, once, and say them; return the measured ones."""
        if subject.name not in self._semantics:
            bench = self._bench(subject, subject.semantics)
            if self._spares(subject):
                bench = replace(bench, rows=ROWS)
            self._semantics[subject.name], measured = probe(bench)
            for convention in (found.convention for found in measured):
                self._emit(convention)
                if convention.agrees is not None:
                    self._emit(_tally(convention, bench.dtype))
            self._say_contradictions(subject, bench.dtype, measured)
        return self._semantics[subject.name]

    def _spares(self, subject: Subject) -> bool:
        """Whether the probe asks rows in a usual batch, and in no other shape than it must.

        Its smallest calls would each be compiled. Where they are all that is asked, they are.
        """
        alone = self._settings.laws == (CONVENTIONS.name,)
        return compiles_shapes(subject) and self._settings.profile.shapes != "all" and not alone

    def _say_contradictions(self, subject: Subject, dtype: str, measured: list[Measured]) -> None:
        """A finding for each declaration that was contradicted, and what became of the known ones.

        The probe is the replay of an entry: it asks the same in every run.
        """
        known: tuple[Entry, ...] = ()
        if self._settings.known.entries:
            versions = self._session.versions(subject.framework)
            known = self._settings.known.about(subject, CONVENTIONS.name, dtype, versions)
        findings = []
        for found in measured:
            if found.convention.agrees is False:
                findings.append(marked(contradiction(found.convention, subject, found.case), known))
                self._emit(findings[-1])
        agreeing = {m.convention.field for m in measured if m.convention.agrees}
        where = f"{CONVENTIONS.name} {subject.name} {dtype}"
        gone = f"{where}: measured as declared; remove it from the entry"
        for entry in known:
            seen = any(finding.known == entry.id for finding in findings)
            if seen or agreeing & set(entry.outputs):
                state, detail = ("seen", where) if seen else ("gone", gone)
                name = subject.name
                self._emit(KnownRecord(entry=entry.id, state=state, detail=detail, subject=name))

    def cell(self, subject: Subject, law: Law, dtype: str, versions: dict[str, str]) -> None:
        """Audit one cell; a fault of lossaudit's own is an incident and not the end."""
        self._emit(CellStarted(subject.name, law.name, dtype))
        rows, worst = 0, ""
        try:
            bench = self.bench(subject, dtype)
            entries = self._settings.known.about(subject, law.name, dtype, versions)
            settings = self._settings
            first = self._kept.of(subject, law.name, dtype)
            cell = Cell(bench, law, settings.profile, settings.seed, self._emit, entries, first)
            # Cases lie at the ends of every format: our own overflows and NaN are expected there.
            with np.errstate(all="ignore"):
                rows, worst = cell.run()
        except UnusableFramework:
            raise
        except Exception:  # noqa: BLE001 - the other cells must be audited all the same
            text = traceback.format_exc(limit=-6)
            self._emit(
                Incident(
                    subject=subject.name, law=law.name, dtype=dtype, message=f"internal: {text}"
                )
            )
        self._emit(CellFinished(subject.name, law.name, dtype, rows, worst))

    def profiles(self, subject: Subject) -> None:
        """Say the error profiles of a subject, where they are asked for."""
        if not self._settings.beside or not profiled(subject):
            return
        for dtype in subject.dtypes:
            try:
                with np.errstate(all="ignore"):
                    for profile in profiles(self.bench(subject, dtype)):
                        self._emit(Profiled(subject=subject.name, profile=profile))
            except UnusableFramework:
                raise
            except Exception:  # noqa: BLE001 - as for a cell
                text = f"internal: {traceback.format_exc(limit=-6)}"
                name = subject.name
                self._emit(Incident(subject=name, law="profiles", dtype=dtype, message=text))

    def bench(self, subject: Subject, dtype: str) -> Bench:
        """The bench of a subject under its measured conventions; kept, for what it remembers."""
        key = (subject.name, dtype)
        if key not in self._benches:
            measured = self.probe(subject)
            # What a subject leaves open it is held to as if it had declared it.
            held_to = {name: getattr(measured, name) for name in subject.undeclared}
            held = replace(subject, semantics=replace(subject.semantics, **held_to))
            self._benches[key] = replace(self._bench(held, measured), dtype=dtype)
        return self._benches[key]

    def _bench(self, subject: Subject, semantics: Semantics) -> Bench:
        # float32 is what every subject has and what its conventions are declared for.
        dtype = "float32" if "float32" in subject.dtypes else subject.dtypes[0]
        find, memory = self._find(subject), (_TRUTHS, _TRIED, self._large)
        return Bench(subject, dtype, self._session, semantics, find, *memory)


CONVENTIONS = LawRecord(
    name="conventions",
    statement="the conventions measured from the numbers are the declared ones",
    source="the declaration in lossaudit.adapters; the probe in lossaudit.conformance.probe",
)


def _tally(convention: Convention, dtype: str) -> Tally:
    return Tally(
        subject=convention.subject,
        law=CONVENTIONS.name,
        dtype=dtype,
        region="ordinary",
        output=convention.field,
        grades={"exact" if convention.agrees else "policy": 1},
    )


def contradiction(
    convention: Convention, subject: Subject | None = None, case: Case | None = None
) -> Finding:
    """A declaration that the probe contradicts, as a finding with the call that shows it.

    Only calls of two dimensions have a record; the message has the others in words.
    """
    key = f"conventions|{convention.subject}|{convention.field}"
    record, text = CaseRecord(operation="", dtype="float32", inputs=[], target=[]), ""
    if subject is not None and case is not None and is_recordable(case):
        record = to_record(case)
        text = script(subject, case)
    shown = f" on {convention.input}" if convention.input else ""
    return Finding(
        id=hashlib.blake2b(key.encode(), digest_size=5).hexdigest(),
        law=CONVENTIONS.name,
        subject=convention.subject,
        dtype=record.dtype,
        region="ordinary",
        output=convention.field,
        kind="policy",
        status="new",
        rows=1,
        case=record,
        row=0,
        value=[convention.measured],
        right=[convention.declared],
        ulps=None,
        demand_ulps=None,
        declared_ulps=None,
        message=f"{convention.field} is declared {convention.declared!r} and measured "
        f"{convention.measured!r}{shown}: {convention.evidence}",
        snippet=text,
    )


def record(subject: Subject, versions: dict[str, str], laws: Iterable[str]) -> SubjectRecord:
    probed = [] if subject.misuse else [CONVENTIONS.name]
    call = plain_call(subject)
    return SubjectRecord(
        name=subject.name,
        framework=subject.home,
        op=subject.op,
        operation=subject.operation,
        target=subject.target,
        mode=subject.mode,
        device=subject.device,
        dtypes=list(subject.dtypes),
        laws=[*probed, *laws],
        misuse=subject.misuse,
        versions=versions,
        arithmetic={dtype: _described(subject, dtype) for dtype in subject.dtypes},
        options=sorted(subject.options),
        reductions=list(subject.reductions),
        call=call.text,
        keywords=call.passing(),
    )


def _described(subject: Subject, dtype: str) -> str:
    found = subject.arithmetic.get(dtype)
    if found is None:
        return "none declared: no bound"
    loose = " (loose)" if found.height == "sequential" else ""
    return (
        f"form {found.form}, gradient {found.gradient}, working {found.working}, "
        f"height {found.height}{loose}; {found.origin}"
    )


def audit(
    subjects: Sequence[Subject],
    settings: Settings,
    emit: Emit,
    session: Session,
    context: Sequence[Subject] = (),
    said: Iterable[Incident] = (),
) -> None:
    """Audit subjects one after the other; siblings are looked up among them and `context`."""
    auditor = Auditor(session, [*context, *subjects], settings, emit, said)
    for subject in subjects:
        _audit_subject(auditor, subject, emit, session)


def _audit_subject(auditor: Auditor, subject: Subject, emit: Emit, session: Session) -> None:
    versions = session.versions(subject.framework)
    emit(auditor.record(subject, versions))
    try:
        auditor.probe(subject)
    except UnusableFramework:
        raise
    except Exception:  # noqa: BLE001 - the other subjects must be audited all the same
        text = f"internal: {traceback.format_exc(limit=-6)}"
        emit(Incident(subject=subject.name, law=CONVENTIONS.name, dtype="", message=text))
        emit(SubjectFinished(subject.name))
        return
    for law, dtype in auditor.cells(subject):
        auditor.cell(subject, law, dtype, versions)
    auditor.profiles(subject)
    emit(SubjectFinished(subject.name))


# --- everything, in as many processes as there are cores ------------------------------------------


@dataclass(frozen=True)
class Part:
    """Subjects of one environment that one process audits."""

    name: str
    subjects: tuple[Subject, ...]
    context: tuple[Subject, ...]
    """All subjects of the framework: siblings are looked up among them."""
    environment: Environment
    beside: bool = True
    """Whether what no law judges is left to be measured, where that is asked for."""
    said: tuple[Incident, ...] = ()
    """Incidents of an earlier start, which finished other subjects of this part."""

    @property
    def home(self) -> str:
        """The framework in its environment."""
        return self.environment.home(self.subjects[0].framework)


def turn(framework: str, *, compiled: bool) -> int:
    """When a part is started: what takes longest first, so that no process waits for another.

    JAX compiles each primitive, Inductor runs a compiler; eager modes have more to be asked.
    """
    slow = (framework, compiled) in (("jax", False), ("torch", True))
    return 0 if slow else 1 + compiled


def turn_of(part: Part) -> int:
    """When a part is started."""
    first = part.subjects[0]
    return turn(first.framework, compiled=first.compiled)


def audited_in(
    framework: Framework, environment: Environment, depth: str, device: str
) -> tuple[Subject, ...]:
    """The subjects of a framework as they are audited in an environment, under its name."""
    here = framework.placed(framework, environment.python)
    return tuple(replace(s, environment=environment.name) for s in audited(here, depth, device))


def plan(
    frameworks: Iterable[str],
    depth: str,
    environments: Sequence[Environment] = (Environment(),),
    device: str = "cpu",
) -> tuple[list[Part], list[Absence]]:
    """Parts to audit, and the frameworks that are not installed."""
    parts, absent = [], []
    for name in frameworks:
        for environment in environments:
            home = environment.home(name)
            framework = FRAMEWORKS[name]
            reason = availability(framework, environment)
            if reason:
                hint = framework.install
                absent.append(Absence(framework=home, reason=reason, hint=hint))
                continue
            every = audited_in(framework, environment, depth, device)
            for compiled in (True, False):
                some = tuple(s for s in every if s.compiled is compiled)
                if some:
                    mode = "compiled" if compiled else "eager"
                    parts.append(Part(f"{home} {mode}", some, every, environment))
    return parts, absent


@dataclass(frozen=True)
class Side:
    """An environment to audit, and where what is seen of it goes.

    Attributes:
        journal: keeps it on disk; what is finished there already is not asked.
    """

    environment: Environment
    emit: Emit
    journal: Journal | None = None


def audit_all(
    frameworks: Sequence[str],
    settings: Settings,
    emit: Emit,
    jobs: int = 2,
    environments: Sequence[Environment] = (Environment(),),
    journal: Journal | None = None,
    then: Then | None = None,
) -> None:
    """Audit frameworks in `jobs` processes with workers of their own; say events as they come.

    What follows, if anything, finds the workers as they were left.

    Raises:
        KeyboardInterrupt: after the processes were ended; what was said until then stands.
    """
    sides = [Side(environment, emit, journal) for environment in environments]
    audit_sides(frameworks, settings, sides, jobs, then)


def audit_sides(
    frameworks: Sequence[str],
    settings: Settings,
    sides: Sequence[Side],
    jobs: int,
    then: Then | None = None,
) -> None:
    """As `audit_all`, the events of each environment apart, all of them side by side."""
    laws, tasks = settings.chosen_laws(), []
    for side in sides:
        parts, absent = plan(frameworks, settings.depth, [side.environment], settings.device)
        for absence in absent:
            side.emit(absence)
        left = [_unfinished(part, side.journal) for part in parts]
        asked = [sum(1 for _ in cells(laws, part.subjects, part.context)) for part in left]
        side.emit(PlanMade(sum(asked)))
        for part, size in zip(left, asked, strict=True):
            if part.subjects:
                tasks.append(_task(part, size, settings, side, keep=then is not None))
    run_tasks(tasks, jobs, then)


def _task(part: Part, size: int, settings: Settings, side: Side, *, keep: bool) -> Task:
    work = partial(audit_part, part, settings, keep=keep)
    emit = kept(side.emit, side.journal, part.name)
    return Task(part.name, work, emit, part.context, turn_of(part), part.home if keep else "", size)


def kept(emit: Emit, journal: Journal | None, part: str) -> Emit:
    """As `emit`, of one part, and on disk before."""
    if journal is None:
        return emit
    keep = journal.of(part)

    def both(event: Event) -> None:
        keep(event)
        emit(event)

    return both


def _unfinished(part: Part, journal: Journal | None) -> Part:
    if journal is None:
        return part
    earlier = journal.earlier
    return replace(
        part,
        subjects=tuple(s for s in part.subjects if s.name not in earlier.finished),
        beside=_beside(part) not in earlier.finished,
        said=earlier.incidents(part.name),
    )


_KEPT: dict[str, WorkerPool] = {}
"""Workers that this process has, by the framework and the environment: those of the part that it
is at, those that the next part may find, and those that have compiled what they were asked."""


@contextlib.contextmanager
def workers_of(part: Part, settings: Settings, *, keep: bool = False) -> Iterator[WorkerPool]:
    """A pool of workers for a part; the one that an earlier task of this process has kept.

    On demand it is kept for the part that comes next, and longer where shapes are compiled: to
    import a framework again costs seconds, to compile again half a minute. All of them at once
    would take the memory of all frameworks.
    """
    _end_kept(but=part.home)
    if part.home not in _KEPT:
        _KEPT[part.home] = WorkerPool(
            part.environment.python, memory_bytes=settings.memory, device=settings.device
        )
    pool, lasting = _KEPT[part.home], False
    try:
        yield pool
        lasting = keep and not pool.refused
    finally:
        if not lasting:
            _KEPT.pop(part.home).close()


def _end_kept(but: str | None = None) -> None:
    """End the workers that nobody comes back to, when a part of a home begins; else all."""
    for home in [home for home in _KEPT if but is None or not (home == but or _compiles(home))]:
        _KEPT.pop(home).close()


def _compiles(home: str) -> bool:
    framework = FRAMEWORKS[home.partition("@")[0]]
    return any(compiles_shapes(subject) for subject in framework.subjects)


def _beside(part: Part) -> str:
    """The name of the step in which a part is asked what no law judges."""
    return f"beside {part.name}"


def audit_part(part: Part, settings: Settings, emit: Emit, *, keep: bool = False) -> None:
    """Audit one part with the workers that this process has for it, see `workers_of`."""
    finished, known = 0, dict[str, WorkerReady]()

    def counted(event: Event) -> None:
        nonlocal finished
        finished += isinstance(event, CellFinished)
        if isinstance(event, SubjectFinished):
            say_workers()  # the next start may need fewer of them
        emit(event)

    def say_workers() -> None:
        for ready in workers_ready(pool, part.environment):
            if known.get(ready.worker) != ready:
                known[ready.worker] = ready
                emit(ready)

    with workers_of(part, settings, keep=keep) as pool:
        try:
            if settings.beside and part.beside and not part.subjects[0].compiled:
                measure_all(pool, part.context, counted)
                ask_shipped(pool, part.context, counted)
                counted(StepFinished(_beside(part)))
            audit(part.subjects, settings, counted, pool, part.context, part.said)
        except UnusableFramework as error:
            if finished:
                # It worked before: what it left undone must not look like an absent framework.
                message = f"internal: {part.name} could not go on: {error.reason}"
                emit(Incident(subject=part.name, law="", dtype="", message=message))
            else:
                hint = FRAMEWORKS[error.framework].install
                home = part.environment.home(error.framework)
                emit(Absence(framework=home, reason=error.reason, hint=hint))
        say_workers()


def workers_ready(pool: WorkerPool, environment: Environment | None = None) -> list[WorkerReady]:
    """What each live worker said of itself, as one level of texts."""
    home = (environment or Environment()).home
    return [WorkerReady(home(name), _flat(facts)) for name, facts in pool.environment().items()]


def _flat(facts: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} as {"a b": "1"}; what differs from run to run by nature is left out."""
    found: dict[str, str] = {}
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, "" if key in ("frameworks", "facts") else f"{name} ")
        elif key not in ("pid", "executable"):
            found[name] = str(value)
    return found


@dataclass(frozen=True)
class Task:
    """What one process does, and who hears what it says.

    Attributes:
        name: for incidents.
        work: called with the `Emit` of the process; can be pickled.
        emit: hears it here.
        context: subjects whose frameworks the process must know.
        turn: those of a lower one are started before the others.
        home: the framework and environment that it asks, where their workers may be kept.
        size: how many cells it has; of those of one turn the largest is started first.
    """

    name: str
    work: Callable[[Emit], None]
    emit: Emit
    context: tuple[Subject, ...] = ()
    turn: int = 0
    home: str = ""
    size: int = 0


Then = Callable[[], Sequence[Task]]
"""Tasks that follow from what all others have said."""


def run_tasks(tasks: Sequence[Task], jobs: int, then: Then | None = None) -> None:
    """Run tasks in as many processes; what takes longest first, beside all others.

    Args:
        tasks: run first.
        jobs: how many processes; for one, this one.
        then: says what the same processes run when those are done.

    Raises:
        KeyboardInterrupt: after the processes were ended.
    """
    if jobs <= 1:
        _run_here(tasks, then)
    else:
        _Processes(tasks, jobs, then).run()


def _run_here(tasks: Sequence[Task], then: Then | None) -> None:
    try:
        for task in _in_turn(tasks):
            task.work(task.emit)
        for task in _in_turn(then() if then else ()):
            task.work(task.emit)
    finally:
        _end_kept()


def _in_turn(tasks: Sequence[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: (task.turn, -task.size))


@dataclass
class _Helper:
    """A process that does tasks; which one it is at, and for which homes it may have workers."""

    process: BaseProcess
    task: Task | None = None
    homes: set[str] = field(default_factory=set)
    waited: bool = False
    leaving: bool = False


class _Processes:
    """Runs tasks in processes and passes their events on, each over a pipe of its own.

    A process does one task after the other: what it has computed, and kept, serves the next one.
    One that is killed in the middle of an event ends its own pipe and nobody else's.
    """

    def __init__(self, tasks: Sequence[Task], jobs: int, then: Then | None = None) -> None:
        self._tasks, self._jobs, self._then = _in_turn(tasks), jobs, then
        self._context = multiprocessing.get_context("spawn")
        self._helpers: dict[Connection, _Helper] = {}

    def run(self) -> None:
        try:
            while self._goes_on():
                for pipe in wait(list(self._helpers), timeout=1.0):
                    self._pass_on(cast("Connection", pipe))
        finally:
            for helper in self._helpers.values():
                helper.process.terminate()
            for helper in self._helpers.values():
                helper.process.join(10)

    def _goes_on(self) -> bool:
        """Whether something is left to wait for; hands on what there is to do."""
        if not self._tasks and self._then and not self._at_work():
            self._tasks, self._then = _in_turn(self._then()), None
        # Those first that have workers for what is left.
        for pipe, _ in sorted(self._helpers.items(), key=lambda each: not self._has(each[1])):
            self._hand_on(pipe)
        while self._tasks and len(self._helpers) < self._jobs:
            self._hand_on(self._start())
        return bool(self._helpers or self._tasks)

    def _at_work(self) -> bool:
        return any(helper.task for helper in self._helpers.values())

    def _has(self, helper: _Helper) -> bool:
        return any(task.home in helper.homes for task in self._tasks)

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        main = threading.current_thread() is threading.main_thread()
        process = self._context.Process(target=_work, args=(theirs, os.getpid(), main), daemon=True)
        # Ctrl-C is for the parent, which ends its parts.
        with interruptions_later():
            process.start()
            self._helpers[ours] = _Helper(process)
        theirs.close()
        return ours

    def _hand_on(self, pipe: Connection) -> None:
        """Give a process that waits the next task, or tell it that there will be none."""
        helper = self._helpers[pipe]
        if helper.task is not None or helper.leaving:
            return
        if task := self._next(helper.homes):
            self._hand_to(pipe, task)
        elif not self._then:
            helper.leaving = True
            with contextlib.suppress(OSError):  # it has died: the end of its pipe says so
                pipe.send(None)

    def _next(self, homes: set[str]) -> Task | None:
        """What a process does next: what it has workers for, or else what no other one has."""
        if not self._tasks:
            return None
        others = {home for helper in self._helpers.values() for home in helper.homes} - homes
        # The first of the least: they stand in their turn.
        chosen = min(self._tasks, key=lambda t: 0 if t.home in homes else 1 + (t.home in others))
        self._tasks.remove(chosen)
        return chosen

    def _hand_to(self, pipe: Connection, task: Task) -> None:
        helper = self._helpers[pipe]
        try:
            pipe.send((task.work, _added(task.context)))
        except OSError:
            if not helper.waited:  # the end of its pipe says of what it has died
                helper.task = task
                return
            # It has died while there was nothing to do: another one does it.
            helper.leaving = True
            self._tasks.insert(0, task)
            return
        helper.task = task
        helper.homes |= {task.home} - {""}

    def _pass_on(self, pipe: Connection) -> None:
        """Hand on one event; at the end of the pipe, see how the process ended."""
        helper = self._helpers[pipe]
        task, process = helper.task, helper.process
        try:
            event = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            process.join(10)
            pipe.close()
            del self._helpers[pipe]
            if task is not None:
                message = (
                    f"internal: the process auditing {task.name} ended with {process.exitcode}"
                )
                task.emit(Incident(subject=task.name, law="", dtype="", message=message))
            return
        if event is None:
            helper.task, helper.waited = None, True
        elif task is not None:
            task.emit(event)


def _added(context: tuple[Subject, ...]) -> tuple[Framework, ...]:
    """The framework of a part, where another process does not know it by itself."""
    names = dict.fromkeys(s.framework for s in context if s.tensors)
    return tuple(FRAMEWORKS[name] for name in names)


def _work(pipe: Connection, parent: int, started_by_main_thread: bool) -> None:
    """Do what is handed over, one task after the other, in a process that ends with its parent.

    Its workers end with it.
    """
    leave_interruptions_to_the_parent()
    leave_with_parent(parent, started_by_main_thread)
    try:
        while (task := pipe.recv()) is not None:
            work, added = task
            for framework in added:
                FRAMEWORKS.add(framework)
            work(pipe.send)
            pipe.send(None)
    finally:
        _end_kept()
