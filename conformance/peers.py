"""What every comparable subject answers to the smallest input of a finding.

After an audit the case of each finding is asked of all eager subjects of its operation, target and
format, so that a reader sees who else is right, who errs alike, and what the truth is. Each is held
to its own conventions, as measured in the audit: where those differ, so does what is right.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec.structs import replace

from ..adapters.client import UnusableFramework
from ..adapters.environments import Environment
from ..adapters.subject import PLAIN, Subject, compiles_shapes
from ..reference.exact import Exact, round_exact, ulp_error
from ..reference.formats import FORMATS, Format
from ..reference.rows import reduce_truth, truth
from ..reference.vocabulary import Case, Floats, Outcome, Semantics
from .bench import Memory, asked_among
from .engine import Emit, Part, Patience, Settings, Task, kept, plan, turn, workers_of
from .events import CellStarted, StepFinished
from .journal import Journal
from .records import from_record, number
from .regions import ROWS
from .run import CaseRecord, Finding, Incident, Peer, Peers, Run

MOST = 64
"""Numbers of the inputs of a case that is asked: a table of more would not be read."""


def cases(findings: Iterable[Finding]) -> list[CaseRecord]:
    """The distinct plain cases of findings, of those that are calls and can be read at a glance."""
    asked = (f.case for f in findings if f.case.operation and f.case.inputs and _is_short(f.case))
    return list({str(record.plain()): record.plain() for record in asked}.values())


def _is_short(record: CaseRecord) -> bool:
    texts = [text for row in record.inputs for text in row]
    return len(texts) <= MOST and not any("*" in text for text in texts)


@dataclass(frozen=True)
class Question:
    """What the subjects of a part are asked.

    Attributes:
        records: the cases.
        semantics: (subject, dtype) -> the conventions that the audit measured.
    """

    records: tuple[CaseRecord, ...]
    semantics: Mapping[tuple[str, str], Semantics]

    def of(self, subject: Subject) -> Iterator[tuple[CaseRecord, Case]]:
        """The cases that a subject can be asked."""
        for record in self.records:
            if record.operation == subject.operation and record.dtype in subject.dtypes:
                case = from_record(record)
                if _takes(subject, case):
                    yield record, case


def _takes(subject: Subject, case: Case) -> bool:
    passed = {*case.options.passed()}
    passed |= set() if case.sample_weight is None else {"sample_weight"}
    reductions = (*subject.reductions, "default")
    return (
        case.target_kind == subject.target
        and passed <= subject.options
        and case.options.reduction in reductions
    )


def peer_tasks(
    run: Run,
    frameworks: Sequence[str],
    settings: Settings,
    emit: Emit,
    environments: Sequence[Environment] = (Environment(),),
    journal: Journal | None = None,
) -> list[Task]:
    """What asks the cases of a run's findings of every comparable subject, and says `Peers`."""
    records = tuple(cases(run.findings if settings.beside else run.new_findings()))
    if not records:
        return []
    question = Question(records, {(a.subject, a.dtype): a.semantics for a in run.answers})
    finished = journal.earlier.finished if journal else frozenset[str]()
    audited = {s.name for s in run.subjects if _step(s.name) not in finished}
    tasks = []
    for environment in environments:
        for part in plan(frameworks, settings.depth, [environment], settings.device)[0]:
            asked = [s for s in part.subjects if s.name in audited and _is_asked(s)]
            if asked:
                work = partial(_ask_part, part, tuple(asked), question, settings)
                when = turn(asked[0].framework, compiled=False)
                name = f"peers of {part.name}"
                heard = kept(emit, journal, name)
                tasks.append(Task(name, work, heard, part.context, when, part.home))
    return tasks


def _step(subject: str) -> str:
    return f"peers {subject}"


def _is_asked(subject: Subject) -> bool:
    # A compiled mode would compile anew for every shape, and the others return numbers of another
    # meaning (a Hessian product).
    return subject.mode in PLAIN and not subject.misuse


def _ask_part(
    part: Part, subjects: Sequence[Subject], question: Question, settings: Settings, emit: Emit
) -> None:
    """Ask the subjects of one part; a fault of lossaudit's own is an incident and not the end."""
    with workers_of(part, settings) as pool:
        # What a call does here was said by the audit; here it is a line of a table.
        session, truths = Patience(pool, lambda _: None), Memory()
        for subject in subjects:
            emit(CellStarted(subject.name, "inputs of findings", ""))
            try:
                for record, case in question.of(subject):
                    held_to = question.semantics.get((subject.name, case.dtype))
                    key = (case.digest, held_to or subject.semantics)
                    right = truths.get(key, partial(right_of, case, key[1]))
                    # Where every shape is compiled, a row has the value that it has in a batch.
                    rows = ROWS if compiles_shapes(subject) else 0
                    outcome = asked_among(session, subject, case, rows)
                    emit(answered(record, subject, outcome, right))
            except UnusableFramework as error:
                emit(_incident(subject, f"internal: could not be asked again: {error.reason}"))
                return
            except Exception:  # noqa: BLE001 - the other subjects must be asked all the same
                emit(_incident(subject, f"internal: {traceback.format_exc(limit=-6)}"))
            emit(StepFinished(_step(subject.name)))


def _incident(subject: Subject, message: str) -> Incident:
    return Incident(subject=subject.name, law="", dtype="", message=message)


Right = tuple[Exact, Exact]
"""The exact loss, reduced as the case is, and the exact gradient."""


def right_of(case: Case, semantics: Semantics) -> Right | None:
    """None where the mathematics or the conventions give no value."""
    try:
        with np.errstate(all="ignore"):
            rows = truth(case, semantics)
            return None if rows.undefined.any() else reduce_truth(rows, case, semantics)
    except ValueError:
        return None  # an invalid call: what it does is a matter of policy


def answered(record: CaseRecord, subject: Subject, outcome: Outcome, right: Right | None) -> Peers:
    """What one subject answered, beside what is right under its conventions."""
    fmt = FORMATS[record.dtype]
    peer = Peer(subjects=[subject.name])
    if right is not None:
        loss, gradient = (_rounded(exact, fmt) for exact in right)
        peer = replace(peer, right_loss=_texts(loss), right_gradient=_rows(gradient))
    if not outcome.returned or outcome.loss is None:
        said = (outcome.message.strip().splitlines() or [""])[0][:200]
        return Peers(case=record, answers=[replace(peer, status=outcome.status, message=said)])
    peer = replace(peer, loss=_texts(outcome.loss))
    if right is not None:
        returned = FORMATS[outcome.loss_dtype or record.dtype]
        peer = replace(peer, loss_ulps=_worst(outcome.loss, right[0], returned))
    if outcome.gradient is not None:
        peer = replace(peer, gradient=_rows(outcome.gradient))
        if right is not None:
            peer = replace(peer, gradient_ulps=_worst(outcome.gradient, right[1], fmt))
    return Peers(case=record, answers=[peer])


def _rounded(exact: Exact, fmt: Format) -> Floats:
    finite = np.isfinite(exact.hi)
    with np.errstate(all="ignore"):
        return np.where(finite, round_exact(exact, fmt), exact.hi)


def _worst(value: Floats, exact: Exact, fmt: Format) -> float | None:
    """The largest error in ulps, None where an element is of another kind than what is right."""
    if np.shape(value) != exact.hi.shape:
        return None
    finite = np.isfinite(exact.hi)
    same = np.where(np.isnan(exact.hi), np.isnan(value), value == exact.hi)
    with np.errstate(all="ignore"):
        ulps = np.where(finite, ulp_error(value, exact, fmt), np.where(same, 0.0, np.inf))
    worst = float(np.max(ulps, initial=0.0))
    return worst if np.isfinite(worst) else None


def _texts(values: Floats) -> list[str]:
    return [number(value) for value in np.asarray(values, dtype=np.float64).reshape(-1)]


def _rows(values: Floats) -> list[list[str]]:
    return [_texts(row) for row in np.atleast_2d(values)]


def merged(found: Iterable[Peers]) -> list[Peers]:
    """One record a case; subjects that answered alike under the same truth share an answer."""
    by_case: dict[str, tuple[CaseRecord, dict[str, Peer]]] = {}
    for peers in found:
        _, answers = by_case.setdefault(str(peers.case), (peers.case, {}))
        for peer in peers.answers:
            key = str(replace(peer, subjects=[]))
            before = answers[key].subjects if key in answers else []
            answers[key] = replace(peer, subjects=[*before, *peer.subjects])
    return [
        Peers(case=record, answers=list(answers.values())) for record, answers in by_case.values()
    ]
