"""The trial: every law about every mutant, its right twin, and the controls.

Killed means that a law finds the mutant wrong, and has nothing to say about the right twin on the
very case that showed it.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...adapters.client import UnusableFramework, WorkerPool
from ...adapters.declare import from_fields
from ...adapters.environments import availability
from ...adapters.in_process import InProcess
from ...adapters.subject import SECOND, Subject
from ...reference.vocabulary import Case, Floats, Outcome
from ..bench import Failed, Session
from ..cell import FIRST_FINDING
from ..engine import CONVENTIONS, Auditor, Settings, audit
from ..events import Event
from ..laws.registry import law as law_of
from ..records import from_record
from ..run import Convention, Finding, Incident, Tally
from . import in_jax, in_tensorflow, in_torch  # noqa: F401 - they register their mutants
from .controls import CONTROLS, ClassB, Online
from .kernels import RIGHT
from .libraries import IN_LIBRARIES, MODULES, InLibrary, framework
from .mutants import MUTANTS, Mutant
from .subjects import DTYPES, subject_of

FIRST_DTYPE = ("float32",)
"""A mutant that lives elsewhere is looked for in the other formats then."""

TWINS = (
    ("cross_entropy", "index"),
    ("cross_entropy", "distribution"),
    ("binary_cross_entropy_with_logits", "binary"),
    ("cross_entropy_probabilities", "index"),
    ("binary_cross_entropy", "binary"),
    ("focal", "index"),
    ("kl_divergence", "distribution"),
)
DIVERGENCE_TWIN = "right.kl_divergence.distribution"
INDEX_TWIN, BINARY_TWIN = "right.cross_entropy.index", "right.binary_cross_entropy_with_logits"
JIT_SHAPE = (64, 3)
LOSSY_FORMS = {ClassB: ("B", "division"), Online: ("B", "division")}
"""What right implementations declare that are not of class C."""

Implementation = Callable[[Case], tuple[Floats, ...]]


class TrialFault(Exception):
    """The trial itself went wrong: a mistake of lossaudit's own."""


@dataclass(frozen=True)
class Killed:
    """What became of a mutant.

    Attributes:
        mutant: its name.
        says, seen: the mistake, and where it was made.
        laws: how many findings each law had that the right twin had none of.
        smallest: the smallest input among them, or None for a survivor.
    """

    mutant: str
    says: str
    seen: str
    laws: dict[str, int]
    smallest: Finding | None


@dataclass(frozen=True)
class NotTried:
    """A mutant in a library that cannot be used here, and why."""

    mutant: str
    says: str
    library: str
    reason: str


@dataclass(frozen=True)
class Heard:
    """What was said of a control: its false alarms, and how many findings were its due."""

    control: str
    seed: int
    due: int
    alarms: tuple[Finding, ...]


@dataclass(frozen=True)
class Trial:
    """The whole of it."""

    killed: tuple[Killed, ...]
    heard: tuple[Heard, ...]
    untried: tuple[NotTried, ...] = ()

    @property
    def survivors(self) -> tuple[Killed, ...]:
        return tuple(k for k in self.killed if k.smallest is None)

    @property
    def alarms(self) -> tuple[Heard, ...]:
        return tuple(h for h in self.heard if h.alarms)


Step = Killed | Heard | NotTried


def names() -> tuple[str, ...]:
    """What may be chosen."""
    return tuple(each.name for each in (*MUTANTS, *IN_LIBRARIES, *CONTROLS))


def trial(
    depth: str = "quick",
    seeds: int = 1,
    jobs: int = 2,
    chosen: Sequence[str] = (),
    said: Callable[[Step], None] = lambda _: None,
) -> Trial:
    """Try the laws on every mutant and control.

    Args:
        depth: of the search, see `lossaudit run --depth`.
        seeds: of the controls; all four formats under the first, one of them in turn under others.
        jobs: processes.
        chosen: names of mutants and controls; all where there is none.
        said: is told of each as it ends.

    Raises:
        TrialFault: if a law or the engine raised, or had nothing to judge.
        ValueError: for a name that is none.
    """
    wanted_names = set(chosen)
    if unknown := wanted_names - set(names()):
        raise ValueError(f"no mutant or control is called {', '.join(sorted(unknown))}")
    libraries = {
        library: [
            m.name
            for m in IN_LIBRARIES
            if m.library == library and (not chosen or m.name in wanted_names)
        ]
        for library in MODULES
    }
    wanted = [
        # The slowest first: what takes longest then runs beside all others.
        *(partial(_kill_in, library, some, depth) for library, some in libraries.items() if some),
        *(partial(_kill, m, depth) for m in MUTANTS if not chosen or m.name in wanted_names),
        *(
            partial(
                _hear, c.name, depth, seed, DTYPES if seed == 0 else (DTYPES[seed % len(DTYPES)],)
            )
            for seed in range(seeds)
            for c in CONTROLS
            if not chosen or c.name in wanted_names
        ),
    ]
    steps = []
    for some in _in_processes(wanted, jobs):
        for step in some:
            steps.append(step)
            said(step)
    return made_of(steps)


def made_of(steps: Iterable[Step]) -> Trial:
    """The trial of what was said until now."""
    steps = tuple(steps)
    return Trial(
        tuple(s for s in steps if isinstance(s, Killed)),
        tuple(s for s in steps if isinstance(s, Heard)),
        tuple(s for s in steps if isinstance(s, NotTried)),
    )


def _in_processes(wanted: Sequence[Callable[[], list[Step]]], jobs: int) -> Iterator[list[Step]]:
    """What the calls return, in their order."""
    if jobs <= 1:
        yield from (call() for call in wanted)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            begun = [pool.submit(call) for call in wanted]
            yield from (future.result() for future in begun)
        finally:  # what has not begun is not waited for, after Ctrl-C or a fault
            pool.shutdown(cancel_futures=True)


# --- mutants --------------------------------------------------------------------------------------


def _twins(dtypes: tuple[str, ...]) -> tuple[list[Subject], dict[str, Implementation]]:
    """The right implementations, as subjects and as functions by their names."""
    found = [_twin(operation, target, dtypes) for operation, target in TWINS]
    return found, {s.op: RIGHT[s.operation]() for s in found}


def _twin(operation: str, target: str, dtypes: tuple[str, ...]) -> Subject:
    name = BINARY_TWIN if target == "binary" else f"right.{operation}.{target}"
    if operation == "binary_cross_entropy":
        name = "right.binary_cross_entropy"
    return _related(subject_of(name, operation, target, dtypes))


def _related(subject: Subject) -> Subject:
    """With the siblings that laws about two ops ask for."""
    if subject.operation != "cross_entropy":
        return subject
    related = replace(subject, binary_sibling=BINARY_TWIN)
    if subject.target == "distribution":
        related = replace(related, index_sibling=INDEX_TWIN, divergence_sibling=DIVERGENCE_TWIN)
    return related


def _kill(mutant: Mutant, depth: str) -> list[Step]:
    return [_verdict(mutant, lambda dtypes: _confirmed(mutant, dtypes, depth))]


def _verdict(
    mutant: Mutant | InLibrary, confirmed: Callable[[tuple[str, ...]], list[Finding]]
) -> Killed:
    """What the findings say that only the mutant gives cause for."""
    others = tuple(dtype for dtype in DTYPES if dtype not in FIRST_DTYPE)
    findings = confirmed(FIRST_DTYPE) or confirmed(others)
    laws = dict(Counter(finding.law for finding in findings))
    smallest = min(findings, key=_size, default=None)
    return Killed(mutant.name, mutant.says, mutant.seen, laws, smallest)


def _size(finding: Finding) -> tuple[bool, int, int, int]:
    """Few rows and classes, few digits; a measured convention only where there is nothing else."""
    case = finding.case
    classes = len(case.inputs[0]) if case.inputs else 0
    digits = sum(len(x) for row in case.inputs for x in row)
    return finding.law == CONVENTIONS.name, len(case.inputs), classes, digits


def _confirmed(mutant: Mutant, dtypes: tuple[str, ...], depth: str) -> list[Finding]:
    """The findings about a mutant that its twin gives no cause for on the very same case."""
    twins, functions = _twins(dtypes)
    subject = _related(subject_of(mutant.name, mutant.operation, mutant.target, dtypes))
    form = LOSSY_FORMS.get(mutant.twin)
    if form is not None:
        subject = _declared(subject, *form)
    if mutant.mode == SECOND:
        subject = replace(subject, mode=SECOND, reductions=("none",))
    elif mutant.mode != "eager":
        # Compiled for one shape, beside a right one that is not.
        eager = subject
        subject = replace(subject, mode=mutant.mode, shape=JIT_SHAPE, reductions=("none",))
        twins, functions = [*twins, eager], {**functions, eager.name: mutant.twin()}
    functions[subject.name] = mutant.make()
    found = _findings(subject, twins, InProcess(functions), Settings(depth))
    right = InProcess({**functions, subject.name: mutant.twin()})
    return _of_the_mistake(found, subject, twins, right, Settings(depth))


def _of_the_mistake(
    found: list[Finding], subject: Subject, twins: list[Subject], right: Session, settings: Settings
) -> list[Finding]:
    """Those findings for which the right twin, in place of the mutant, gives no cause."""
    heard: list[Event] = []
    auditor = Auditor(right, [*twins, subject], settings, heard.append)
    auditor.probe(subject)
    contradicted = {e.field for e in heard if isinstance(e, Convention) and e.agrees is False}
    return [
        f
        for f in found
        if (
            f.output not in contradicted
            if f.law == CONVENTIONS.name
            else _passes(auditor, subject, f)
        )
    ]


def _declared(subject: Subject, form: str, gradient: str) -> Subject:
    """With another form of the loss and of the gradient."""
    arithmetic = {
        dtype: replace(a, form=form, gradient=gradient) for dtype, a in subject.arithmetic.items()
    }
    return replace(subject, arithmetic=arithmetic)


def _findings(
    subject: Subject, context: list[Subject], session: Session, settings: Settings
) -> list[Finding]:
    events: list[Event] = []
    audit([subject], settings, events.append, session, context)
    faults = [e for e in events if isinstance(e, Incident) and e.message.startswith("internal:")]
    if faults:
        raise TrialFault(f"{subject.op}, law {faults[0].law}: {faults[0].message}")
    if not any(isinstance(e, Tally) for e in events):
        raise TrialFault(f"{subject.op}: nothing was judged")
    return [e for e in events if isinstance(e, Finding)]


def _passes(auditor: Auditor, subject: Subject, finding: Finding) -> bool:
    """Whether the law of a finding has nothing to say of a right implementation in its place.

    Where the finding is graver, `precision` is nothing: a right one of a lossy form has that due.
    """
    first = FIRST_FINDING + (finding.kind != "precision")
    try:
        case = from_record(finding.case)
        verdicts = law_of(finding.law).verdicts(auditor.bench(subject, finding.dtype), case)
    except Failed:
        return finding.kind == "policy"
    return not any(bool((np.asarray(v.grade) >= first).any()) for v in verdicts)


# --- mutants in libraries -------------------------------------------------------------------------


class InItsPlace:
    """A session that asks the twin where it is asked for the mutant."""

    def __init__(self, session: Session, mutant: Subject, twin: Subject) -> None:
        self._session, self._mutant, self._twin = session, mutant, twin

    def ask(self, subject: Subject, case: Case) -> Outcome:
        return self._session.ask(self._twin if subject == self._mutant else subject, case)

    def versions(self, framework: str) -> dict[str, str]:
        return self._session.versions(framework)


def _kill_in(library: str, chosen: list[str], depth: str) -> list[Step]:
    """Try the mutants of a library, all of them in one worker."""
    mutants = [mutant for mutant in IN_LIBRARIES if mutant.name in chosen]
    home = framework(library)
    reason = availability(home)
    if not reason:
        try:
            with WorkerPool(frameworks={home.name: home}) as pool:
                every = [
                    replace(from_fields(f), framework=home.name) for f in pool.declared(home.name)
                ]
                subjects = {subject.op: subject for subject in every}
                return [_kill_one(mutant, subjects, pool, depth) for mutant in mutants]
        except UnusableFramework as error:
            reason = error.reason
    return [NotTried(m.name, m.says, library, reason) for m in mutants]


def _kill_one(
    mutant: InLibrary, subjects: dict[str, Subject], pool: WorkerPool, depth: str
) -> Killed:
    def confirmed(dtypes: tuple[str, ...]) -> list[Finding]:
        subject, twin = (
            replace(
                subjects[name],
                mode=mutant.mode,
                dtypes=dtypes,
                reductions=subjects[name].reductions if mutant.mode == "eager" else ("none",),
            )
            for name in (mutant.name, mutant.twin)
        )
        found = _findings(subject, [], pool, Settings(depth))
        right = InItsPlace(pool, subject, twin)
        return _of_the_mistake(found, subject, [], right, Settings(depth))

    return _verdict(mutant, confirmed)


# --- controls -------------------------------------------------------------------------------------


def _hear(name: str, depth: str, seed: int, dtypes: tuple[str, ...]) -> list[Step]:
    control = next(c for c in CONTROLS if c.name == name)
    subject = subject_of(control.name, control.operation, control.target, dtypes)
    subject = _related(_declared(subject, control.form, control.gradient))
    twins, functions = _twins(dtypes)
    functions[subject.name] = control.make()
    found = _findings(subject, twins, InProcess(functions), Settings(depth, seed))
    alarms = tuple(f for f in found if control.false_alarm(f))
    return [Heard(control.name, seed, len(found) - len(alarms), alarms)]
