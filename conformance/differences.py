"""The search for inputs on which two environments differ, beyond what both were audited with.

Hypothesis draws the same calls for both and climbs on their distance, for the loss and for the
gradient apart; what it finds is shrunk to the smallest row on which they still differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from ..adapters.client import WorkerPool
from ..adapters.environments import Environment, availability
from ..adapters.registry import FRAMEWORKS, script
from ..adapters.subject import SECOND, Subject
from ..reference.exact import Exact, round_exact
from ..reference.vocabulary import Case, Floats, Semantics
from .answers import ASKING, came, exact_values
from .bench import Bench, Memory, Session
from .cell import PROFILES, Cell, climb, recorded_case
from .compare_calls import LOST, kind_of_grades
from .comparison import KINDS, Change, Difference, LawChange
from .engine import LOST_LIMIT, TRUTHS, Emit, Settings, Task, audited_in, run_tasks, turn
from .events import CellFinished, CellStarted, PlanMade
from .judge import RANK, distance, ulp, ulp_of
from .law import Law, Others, finder
from .laws.pullbacks import HESSIAN
from .laws.registry import LAWS
from .laws.value import GRADIENT, VALUE
from .records import numbers, to_record
from .regions import Plan, batch_rows, make_case
from .replay import ReplayError, check_applies, judged
from .run import FINDING_GRADES, Finding
from .shrink import shrink

UNSPECIFIED = RANK["unspecified"]

NAME = "search for differences"
"""What progress calls it."""

CASES = 12
"""The least that is drawn for a subject and a format. An audit that draws fewer has its corpus
beside them; of an upgrade that was compared before, and a drift of one ulp is not in every case."""

OUTPUTS = {"loss": VALUE, "gradient": GRADIENT}

SIGN_OF_ZERO = np.finfo(np.float64).tiny
"""The distance of 0 and -0 while it is searched: less than any other, and told as 0."""

Measured = Mapping[tuple[str, str], Semantics]
"""(subject, dtype) -> the conventions that the audit measured, which truths follow."""


@dataclass(frozen=True)
class Search:
    """What the processes of a search are told.

    Attributes:
        environments: the old and the new one, neither with a name.
        settings: those of the audits.
        measured: of the new environment.
        findings: of one run alone, to be asked again of both; and whether the new run has it.
        changes: of the corpus, each to be shown by a script that shows it.
    """

    environments: tuple[Environment, Environment]
    settings: Settings
    measured: Measured
    findings: tuple[tuple[Finding, bool], ...] = ()
    changes: tuple[Change, ...] = ()


def search_all(frameworks: Sequence[str], search: Search, emit: Emit, jobs: int) -> None:
    """Search every subject that both environments have and were measured in; say what is found.

    Raises:
        KeyboardInterrupt: after the processes were ended.
    """
    tasks, total = [], 0
    for name in frameworks:
        framework = FRAMEWORKS[name]
        if any(availability(framework, environment) for environment in search.environments):
            continue
        subjects = _subjects(name, search)
        total += sum(len(_dtypes(s, search)) for s in subjects)
        for compiled in (True, False):
            chosen = [s for s in subjects if s.compiled is compiled]
            when = turn(name, compiled=compiled)
            for mine in (chosen[::2], chosen[1::2]) if when == 0 else (chosen,):
                work = Work(name, tuple(s.name for s in mine), search)
                if mine:
                    tasks.append(Task(f"{name} {NAME}", work, emit, tuple(mine), when))
    emit(PlanMade(total))
    run_tasks(tasks, jobs)


def _subjects(framework: str, search: Search) -> tuple[Subject, ...]:
    """The subjects of a framework as the new environment has them."""
    settings = search.settings
    return audited_in(
        FRAMEWORKS[framework], search.environments[1], settings.depth, settings.device
    )


def _dtypes(subject: Subject, search: Search) -> list[str]:
    return [dtype for dtype in subject.dtypes if (subject.name, dtype) in search.measured]


@dataclass(frozen=True)
class Work:
    """What one process does: some of the subjects of a framework, by their names."""

    framework: str
    names: tuple[str, ...]
    search: Search

    def __call__(self, emit: Emit) -> None:
        every = _subjects(self.framework, self.search)
        chosen = [s for s in every if s.name in self.names]
        old, new = (self._pool(environment) for environment in self.search.environments)
        with old, new:
            searcher = Searcher(self.search, every, (old, new), emit)
            for subject in chosen:
                for dtype in _dtypes(subject, self.search):
                    with np.errstate(all="ignore"):
                        searcher.subject(subject, dtype)

    def _pool(self, environment: Environment) -> WorkerPool:
        settings = self.search.settings
        return WorkerPool(environment.python, memory_bytes=settings.memory, device=settings.device)


class Searcher:
    """Searches subjects over two live sessions."""

    def __init__(
        self,
        search: Search,
        subjects: Sequence[Subject],
        sessions: tuple[Session, Session],
        emit: Emit,
    ) -> None:
        self._search, self._sessions, self._emit = search, sessions, emit
        self._subjects, self._find = tuple(subjects), finder(subjects)
        self._truths = Memory(TRUTHS)

    def subject(self, subject: Subject, dtype: str) -> None:
        """Search the loss and the gradient of one subject, and ask its findings again."""
        self._emit(CellStarted(subject.name, NAME, dtype))
        rows = 0
        benches = self._bench(subject, dtype, 0), self._bench(subject, dtype, 1)
        for output, law in _laws(subject).items():
            if law.applies(subject) and output in law.judged(subject):
                found = Pair(benches, law, output, self._search.settings).searched()
                rows += found.rows
                self._emit(found)
        self._ask_again(subject, dtype, benches)
        for change in self._search.changes:
            if (change.subject, change.dtype) == (subject.name, dtype):
                self._emit(shown(change, *benches))
        self._emit(CellFinished(subject.name, NAME, dtype, rows, ""))

    def _bench(self, subject: Subject, dtype: str, side: int) -> Bench:
        semantics = self._search.measured[subject.name, dtype]
        find: Others = self._find(subject)
        return Bench(subject, dtype, self._sessions[side], semantics, find, self._truths)

    def _ask_again(self, subject: Subject, dtype: str, benches: tuple[Bench, Bench]) -> None:
        """Ask both the findings that one run has alone: the other's search may have missed them."""
        for finding, is_new in self._search.findings:
            if (finding.subject, finding.dtype) != (subject.name, dtype):
                continue
            law = next((law for law in LAWS if law.name == finding.law), None)
            if law is None:
                continue
            old, new = (self._grade(bench, law, finding) for bench in benches)
            shown, missing = (new, old) if is_new else (old, new)
            if shown == finding.kind and missing not in FINDING_GRADES and missing:
                self._emit(
                    LawChange(
                        finding=finding.id,
                        law=law.name,
                        subject=subject.name,
                        dtype=dtype,
                        region=finding.region,
                        output=finding.output,
                        state="appeared" if is_new else "gone",
                        old=old,
                        new=new,
                    )
                )

    def _grade(self, bench: Bench, law: Law, finding: Finding) -> str:
        """The grade of a finding's input now, "" where it cannot be asked."""
        try:
            check_applies(law, bench.subject, self._subjects, finding)
            case = recorded_case(finding.case, bench.subject)
            return judged(bench, law, case, finding, {}).grade
        except (ReplayError, ValueError):
            return ""


def shown(change: Change, old: Bench, new: Bench) -> Change:
    """The change with a script that shows it: one that asks a batch of copies of its row.

    What a vectorised op makes of a row depends on its place in a batch, and on being alone; which
    is asked too, where no copy shows it.
    """
    if len(change.case.inputs) != 1 or not change.old or change.case.reduction != "none":
        return change
    case = recorded_case(change.case, new.subject)
    size = new.subject.shape[0] if new.subject.shape else batch_rows(case.inputs.shape[1])
    copies = case.take(np.zeros(size, dtype=int))
    told = [change.old, change.new]
    if _answered(copies, told, change.output, (old, new)):
        text = script(new.subject, copies)
        head = (
            f"# {size} copies of one row: what a vectorised op makes of it may depend on its place."
        )
        return msgspec.structs.replace(change, snippet=f"{head}\n{text}")
    if _answered(case, told, change.output, (old, new)):
        return change
    said = "seen among other rows alone: neither by itself nor among its copies the row moves so"
    return msgspec.structs.replace(change, message=change.message or said)


def _answered(case: Case, told: list[list[str]], output: str, benches: tuple[Bench, Bench]) -> bool:
    """Whether some row of a case has these numbers on the two sides."""
    values = [getattr(bench.outcome(case), output) for bench in benches]
    if any(value is None for value in values):
        return False
    return any([_of_row(side, row) for side in values] == told for row in range(case.rows))


def _laws(subject: Subject) -> dict[str, Law]:
    return {"gradient": HESSIAN} if subject.mode == SECOND else OUTPUTS


class Pair:
    """One output of one subject in one dtype, in two environments."""

    def __init__(
        self, benches: tuple[Bench, Bench], law: Law, output: str, settings: Settings
    ) -> None:
        self._old, self._new = benches
        self._output, self._settings = output, settings
        asking = ASKING[law.name if law is HESSIAN else VALUE.name]
        self._call, self._law = asking.call, law
        self._cases = self._rows = self._differing = self._lost = 0
        self._regions: dict[str, None] = {}
        self._largest: float | None = None
        self._farthest: dict[str, tuple[Case, int, tuple[bool, float]]] = {}
        self._message = ""

    def searched(self) -> Difference:
        """Search, and shrink the row on which they differ most in the worst way."""
        began = time.monotonic()
        profile = PROFILES[self._settings.depth]
        cell = Cell(self._new, self._law, profile, self._settings.seed, _nobody)
        plans = cell.plans()
        if plans is not None:
            climb(plans, max(CASES, profile.examples), cell.own_seed(), self._examine)
        small = self._smallest()
        return self._said(small, round(time.monotonic() - began, 2))

    def _examine(self, plan: Plan) -> float:
        """Ask both a case; the largest distance of its rows in ulps."""
        if self._lost >= LOST_LIMIT:
            return 0.0
        case = self._call(make_case(plan))
        self._cases += 1
        self._rows += case.rows
        self._regions[plan.region.name] = None
        gap = self._gaps(case)
        self._lost += any(b.outcome(case).status in LOST for b in (self._old, self._new))
        if gap is None or not (gap > 0).any():
            return 0.0
        self._differing += int((gap > 0).sum())
        worst = float(gap[np.isfinite(gap)].max(initial=0.0))
        if worst:
            self._largest = max(_told(worst), self._largest or 0.0)
        if failure := self._failure(case):
            # Which row it is that is refused is not known yet.
            self._farthest.setdefault(failure, (case, 0, (False, np.inf)))
            return worst
        for kind, rows in self._kinds(case, gap).items():
            row = int(np.argmax(np.where(rows, gap, -1.0)))
            # Rows of a reduced loss cannot be told apart: any other is simpler.
            place = (case.options.reduction == "none", float(gap[row]))
            if kind not in self._farthest or place > self._farthest[kind][2]:
                self._farthest[kind] = (case, row, place)
        return worst

    def _failure(self, case: Case) -> str:
        """What it is that one side alone returns; "" where both do, or neither."""
        old, new = (bench.outcome(case).status for bench in (self._old, self._new))
        if old == new or "unsupported" in (old, new):
            return ""
        if new in LOST:
            return "crashed"
        # The calls that are searched are valid: none of them is refused rightly.
        rightly = new == "returned" and (self._grades(self._new, case)[0] < UNSPECIFIED).all()
        return "better" if old in LOST or rightly else "policy"

    def _kinds(self, case: Case, gap: Floats) -> dict[str, np.ndarray]:
        """The rows that differ, by what became of them."""
        (was, before), (now, after) = (self._grades(b, case) for b in (self._old, self._new))
        closer = np.nan_to_num(np.sign(after - before)).astype(int)
        every = zip(was, now, closer, strict=True)
        named = np.array([kind_of_grades(int(w), int(n), int(c)) for w, n, c in every])
        return {
            kind: (gap > 0) & (named == kind) for kind in KINDS if (named[gap > 0] == kind).any()
        }

    def _grades(self, bench: Bench, case: Case) -> tuple[np.ndarray, Floats]:
        """The rank of the grade of each row, and its largest error."""
        verdicts = self._law.verdicts(bench, case)
        return next((v.grade, v.ulps) for v in verdicts if v.output == self._output)

    def _gaps(self, case: Case) -> Floats | None:
        """The distance of each row in ulps of the exact value, infinite where kinds differ.

        0 where the bits are the same, None where neither returns; one number where it is reduced.
        """
        old, new = self._old.outcome(case), self._new.outcome(case)
        before, now = (getattr(o, self._output) for o in (old, new))
        if before is None or now is None or not (old.returned and new.returned):
            if self._failure(case):
                self._message = f"{came(old)} before, {came(new)} now"
                return np.full(max(case.rows, 1), np.inf)
            return None
        gap = distance(before, now)
        with np.errstate(all="ignore"):
            zero = (np.signbit(before) != np.signbit(now)) & ~np.isnan(before) & (gap == 0)
            gap = np.where(np.isnan(gap), np.inf, gap / self._unit(case, now))
            gap = np.where(zero, SIGN_OF_ZERO, gap)
        return gap.reshape(case.rows, -1).max(axis=1) if gap.ndim else gap.reshape(1)

    def _unit(self, case: Case, now: Floats) -> Floats:
        exact = self._exact(case)
        if exact is None:
            return ulp_of(now, self._new.fmt)
        finite = np.isfinite(exact.hi)
        return np.where(finite, ulp(exact, self._new.fmt), ulp_of(now, self._new.fmt))

    def _exact(self, case: Case) -> Exact | None:
        right = exact_values(case, self._new.semantics, VALUE.name, self._new)
        return right.get(self._output)

    @property
    def _kind(self) -> str:
        """The worst that was found."""
        return next((kind for kind in KINDS if kind in self._farthest), "")

    def _smallest(self) -> tuple[Case, int] | None:
        """The simplest row that still shows the worst that was found, of a batch if it has to be.

        A vectorized op may answer a row otherwise when it stands alone.
        """
        if not self._kind:
            return None
        case, row, _ = self._farthest[self._kind]
        if self._failure(case):
            return self._smallest_part(case, self._kind), 0
        if case.options.reduction != "none":
            return case, row
        shows = partial(self._shown, self._kind)
        rows = (case.take(np.array([r])) for r in (row, *range(case.rows)))
        alone = next((candidate for candidate in rows if shows(candidate).any()), None)
        if alone is None:
            return case, row
        small = shrink(alone, shows, keep_classes=self._new.subject.shape is not None)
        return (small if shows(small).any() else alone), 0

    def _shown(self, kind: str, candidates: Case) -> np.ndarray:
        """Which rows show it."""
        gap = self._gaps(candidates)
        nothing = np.zeros(candidates.rows, dtype=bool)
        if gap is None or gap.size != candidates.rows or self._failure(candidates):
            return nothing
        return self._kinds(candidates, gap).get(kind, nothing)

    def _smallest_part(self, case: Case, kind: str) -> Case:
        """The half, quarter, ... of a batch that still fails so: each that dies costs a worker."""
        while case.rows > 1:
            every = np.arange(case.rows)
            halves = (case.take(half) for half in np.array_split(every, 2))
            smaller = next((half for half in halves if self._failure(half) == kind), None)
            if smaller is None:
                return case
            case = smaller
        return case

    def _said(self, small: tuple[Case, int] | None, seconds: float) -> Difference:
        subject, old, new, right = self._new.subject, [], [], []
        case, row = small or (None, 0)
        nearest, largest = None, self._largest
        if case is not None:
            gap = self._gaps(case)
            if gap is not None and np.isfinite(gap[row]):
                nearest = _told(float(gap[row]))
                largest = max(nearest, largest or 0.0)
            old, new = (self._texts(bench, case, row) for bench in (self._old, self._new))
            exact = self._exact(case)
            right = [] if exact is None else _of_row(round_exact(exact, self._new.fmt), row)
        return Difference(
            subject=subject.name,
            dtype=self._new.dtype,
            output=self._output,
            cases=self._cases,
            rows=self._rows,
            regions=sorted(self._regions),
            seconds=seconds,
            differing=self._differing,
            kind=self._kind,
            largest=largest,
            case=None if case is None else to_record(case),
            row=row,
            old=old,
            new=new,
            right=right,
            distance=nearest,
            message=self._message,
            snippet="" if case is None else script(subject, case),
        )

    def _texts(self, bench: Bench, case: Case, row: int) -> list[str]:
        values = getattr(bench.outcome(case), self._output)
        return [] if values is None else _of_row(values, row)


def _told(gap: float) -> float:
    return 0.0 if gap == SIGN_OF_ZERO else gap


def _of_row(values: Floats, row: int) -> list[str]:
    return numbers(values[row] if values.ndim else values)


def _nobody(_: object) -> None:
    """Nothing of the cell is heard: it only draws."""
