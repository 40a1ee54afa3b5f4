"""One cell of an audit: one law on one subject in one dtype.

The fixed corpus comes first, then Hypothesis searches beyond it; what failed is shrunk, and the
cell says its tallies and findings as events.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import hypothesis
import numpy as np
from hypothesis import strategies as st

from ..adapters.registry import script
from ..adapters.subject import Subject, compiles_shapes
from ..reference.vocabulary import Case, Outcome
from .answers import Asked
from .bench import Bench, Failed
from .events import Event
from .implied import Classes
from .judge import FIRST_FINDING, RANK
from .known import Entry, marked
from .law import NOT_JUDGED, Law, Verdict, first, only
from .records import from_record, numbers, to_record
from .regions import (
    WIDE_FORMATS,
    Plan,
    Region,
    batch_rows,
    in_few_shapes,
    make_case,
    regions_for,
    unsuited,
)
from .regions import region as region_named
from .run import GRADES, CaseRecord, Finding, Incident, KnownRecord, Tally, Worst
from .shrink import shrink
from .worst import Worsts

STRETCH = 6
"""A search may scale logits by 2^-6 to 2^6, which takes scale 8 from 1/8 to past 500."""


ASKING = "value"
"""The law that says of a region that it was asked even where it has no rows: a batch without any.
One of them is enough, since all others ask the same."""

SATURATED = ("saturated-right", "saturated-wrong")

DRAWN_BYTES = 11
"""A search draws a byte each for region, class count, options and stretch, seven for a seed."""


@dataclass(frozen=True)
class Profile:
    """How far a depth goes.

    Attributes:
        name: "quick", "standard" or "deep".
        corpus: cases per region, class count and set of options.
        classes: class counts of the regions that name none.
        examples: cases that Hypothesis draws beyond the corpus, per cell.
        vocabulary: class counts of the regions with as many as a vocabulary has.
        beside: whether what no law judges is measured too, see `Settings`.
        shapes: of a subject of which every shape is compiled, op by op: "all", "few" (those that
            say most of it, see `in_few_shapes`) or "one" (of a batch that any region may have).
    """

    name: str
    corpus: int
    classes: tuple[int, ...]
    examples: int
    vocabulary: tuple[int, ...] = ()
    beside: bool = True
    shapes: str = "few"


# GPT-2 has 50257 tokens, Llama 3 128256.
PROFILES = {
    "quick": Profile("quick", 1, (3,), 2, beside=False, shapes="one"),
    "standard": Profile("standard", 1, (3, 10), 6, (128256,)),
    "deep": Profile("deep", 8, (2, 3, 10), 200, (50257, 128256), shapes="all"),
}


@dataclass(frozen=True)
class Suspect:
    """The first row that showed a grade in a region, with its verdict."""

    region: str
    verdict: Verdict
    row: int


def climb(
    plans: st.SearchStrategy[Plan], examples: int, seed: int, examine: Callable[[Plan], float]
) -> None:
    """Let Hypothesis draw plans and climb on what `examine` says of each, a number of ulps."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.target),
        suppress_health_check=[
            hypothesis.HealthCheck.too_slow,
            hypothesis.HealthCheck.data_too_large,
            hypothesis.HealthCheck.large_base_example,
        ],
    )
    @hypothesis.given(plans)
    def search(plan: Plan) -> None:
        worst = examine(plan)
        if worst > 0:
            # In bits: errors range over forty binades.
            hypothesis.target(float(np.log2(1 + min(worst, 2.0**64))), label=plan.region.name)

    search()


class Cell:
    """Audits one law on one subject in one dtype."""

    def __init__(
        self,
        bench: Bench,
        law: Law,
        profile: Profile,
        seed: int,
        emit: Callable[[Event], None],
        known: tuple[Entry, ...] = (),
        first: tuple[Worst, ...] = (),
    ) -> None:
        self._bench, self._law, self._profile = bench, law, profile
        self._seed, self._emit, self._known, self._first = seed, emit, known, first
        self._tallies: dict[tuple[str, str], Counter[str]] = {}
        self._worst: dict[tuple[str, str], float] = {}
        self._worsts, self._classes_held = Worsts(law.name), Classes(bench, law.name)
        self._asked = Asked(bench, law)
        self._suspects: dict[tuple[str, str, str], Suspect] = {}
        self._failures: dict[tuple[str, str], tuple[Case, Outcome]] = {}

    @property
    def subject(self) -> Subject:
        return self._bench.subject

    @property
    def _sparing(self) -> bool:
        """Whether the subject is asked fewer shapes than another one would be."""
        return self._profile.shapes != "all" and compiles_shapes(self.subject)

    @property
    def _each_option(self) -> bool:
        """Whether options are drawn one at a time too: each is compiled, where shapes are."""
        wide = self._profile.shapes == "few" and self._bench.dtype in WIDE_FORMATS
        return wide or not self._sparing

    def run(self) -> tuple[int, str]:
        """Look at the corpus, search, shrink; return the number of rows and the worst grade.

        The worst rows of another run come first.
        """
        for worst in self._first:
            self._examine_again(worst)
        for plan in self._corpus():
            case = self._bench.drawn(plan)
            verdicts = self._verdicts_on(plan, case)
            self._note(plan.region.name, verdicts)
            for verdict in verdicts:
                self._classes_held.see(verdict)
            self._asked.see(plan, case, verdicts)
        self._search()
        for entry in self._known:
            self._replay(entry)
        self._say_tallies()
        for worst in self._worsts.said(self.subject.name, self._bench.dtype):
            self._emit(worst)
        if (implied := self._classes_held.said()) is not None:
            self._emit(implied)
        if self._asked.calls:
            self._emit(self._asked.said())
        self._say_findings()
        rows = sum(sum(counts.values()) for counts in self._tallies.values())
        grades = {g for counts in self._tallies.values() for g in counts}
        return rows, max(grades, key=GRADES.index, default="")

    # --- what is drawn ------------------------------------------------------------------------

    def regions(self) -> list[Region]:
        wanted = self._law.regions
        found = [r for r in regions_for(self.subject.operation) if not wanted or r.name in wanted]
        found = [r for r in found if not unsuited(r, self.subject) and self._is_drawn(r)]
        if not self._law.invalid:
            found = [r for r in found if r.valid]
        if self._law.classes:
            found = [r for r in found if not r.classes or r.name == "empty"]
        return found

    def _is_drawn(self, region: Region) -> bool:
        """Whether the law and the depth look at a region that suits the subject."""
        if region.laws and self._law.name not in region.laws:
            return False
        if self._sparing and not self._has_shape(region):
            return False
        if region.dtypes and self._bench.dtype not in region.dtypes:
            return False
        if region.vocabulary and not self._profile.vocabulary:
            return False
        named = self._bench.semantics.ignore_index, "ignore_index" in self.subject.options
        if region.ignored and named == (None, False):
            return False
        # What the depth has anyway is not drawn again.
        return region.name != "two-classes" or not set(region.classes) & set(self._profile.classes)

    def _has_shape(self, region: Region) -> bool:
        """Whether a region has one of the few shapes in which a subject is asked."""
        one = self._profile.shapes == "one"
        if self._law.own_shapes and (one or self._bench.dtype != "float32"):
            return False
        if one and (not region.any_shape or (self._law.classes and self._bench.dtype != "float32")):
            return False
        return in_few_shapes(region, self.subject, self._bench.dtype)

    def _classes(self, region: Region) -> tuple[int, ...]:
        if self.subject.target == "binary":
            return (2,)
        if region.vocabulary:
            return self._profile.vocabulary
        if self.subject.shape is not None:
            return (self.subject.shape[1],)
        usual = self._profile.classes[:1] if self._sparing else self._profile.classes
        return self._law.classes or region.classes or usual

    def _variants(self, region: Region) -> list[tuple[tuple[str, ...], str]]:
        """(options, reduction) that a region is drawn with."""
        options = tuple(sorted(self.subject.options))
        if self._law.options == "smoothing":
            return [(("label_smoothing",), "none")]
        if region.options:
            return [((name,), "none") for name in options if name in region.options]
        if region.ignored:
            named = ("ignore_index",) if "ignore_index" in options else ()
            return [(named, reduction) for reduction in self.subject.reductions]
        variants: list[tuple[tuple[str, ...], str]] = [((), "none")]
        if self._law.options in ("all", "unreduced") and region.name == "ordinary":
            if self._each_option:
                variants += [((name,), "none") for name in options]
            if len(options) > 1 or (options and not self._each_option):
                variants.append((options, "none"))
            reductions = self.subject.reductions if self._law.options == "all" else ()
            for reduction in reductions:
                if reduction != "none":
                    variants += (
                        [((), reduction), (options, reduction)] if options else [((), reduction)]
                    )
        return variants

    def _plan(
        self, region: Region, classes: int, variant: tuple[tuple[str, ...], str], seed: int
    ) -> Plan:
        rows = self.subject.shape[0] if self.subject.shape else batch_rows(classes)
        if region.rows:
            rows = region.rows
        return Plan(
            region=region,
            operation=self.subject.operation,
            target=self.subject.target,
            dtype=self._bench.dtype,
            rows=rows,
            classes=classes,
            options=variant[0],
            reduction=variant[1],
            seed=seed,
            ignored=self._bench.semantics.ignore_index,
        )

    def _corpus(self) -> Iterator[Plan]:
        for region in self.regions():
            for classes in self._classes(region):
                for variant in self._variants(region):
                    for seed in range(max(self._profile.corpus, region.seeds)):
                        yield self._plan(region, classes, variant, seed)
                for name in self._alone(region):
                    yield self._plan(region, classes, ((name,), "none"), 0)

    def _alone(self, region: Region) -> tuple[str, ...]:
        """The options that are drawn one at a time where rows are saturated, in the corpus alone.

        There it is seen what an option does to a term that is lost.
        """
        if self._law.options != "all" or region.name not in SATURATED or self.subject.compiled:
            return ()
        if not self._each_option:
            return ()
        return tuple(sorted(self.subject.options))

    def _search(self) -> None:
        """Let Hypothesis draw plans beyond the corpus, climbing on the largest error."""
        plans = self.plans()
        examples = int(self._profile.examples * self._law.effort)
        if plans is None or not examples:
            return

        climb(plans, examples, self.own_seed(), self.examine)

    def plans(self) -> st.SearchStrategy[Plan] | None:
        """What Hypothesis draws beyond the corpus; None where the law looks at no region."""
        regions = [r for r in self.regions() if r.name != "empty" and not r.vocabulary]
        if not regions:
            return None

        def drawn(content: bytes) -> Plan:
            region = regions[content[0] % len(regions)]
            counts, variants = self._classes(region), self._variants(region)
            classes = counts[content[1] % len(counts)]
            variant = variants[content[2] % len(variants)]
            # The corpus has the seeds from 0 on.
            seed = 2**16 + int.from_bytes(content[4:], "big")
            plan = self._plan(region, classes, variant, seed)
            return replace(plan, stretch=content[3] % (2 * STRETCH + 1) - STRETCH)

        # Bytes of an odd length, and not integers: Hypothesis mixes the integer constants of the
        # modules that it finds loaded into its draws, and a run must not depend on those.
        return st.binary(min_size=DRAWN_BYTES, max_size=DRAWN_BYTES).map(drawn)

    def own_seed(self) -> int:
        """One seed for all laws and subjects of an operation in a dtype.

        They are then asked the same cases while `target` finds nothing to climb on, so that a
        truth is computed once for all of them.
        """
        key = f"{self._seed}|{self.subject.operation}|{self.subject.target}|{self._bench.dtype}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")

    # --- what is seen -------------------------------------------------------------------------

    def examine(self, plan: Plan) -> float:
        """Check the law on the case of a plan; return the largest finite error in ulps."""
        return self._note(plan.region.name, self._verdicts_on(plan, self._bench.drawn(plan)))

    def _verdicts_on(self, plan: Plan, case: Case) -> list[Verdict]:
        """What the law says of the case of a plan; nothing where the call did not return."""
        try:
            return self._law.verdicts(self._bench, case)
        except Failed as failed:
            self._note_failure(plan.region.name, failed.asked(self.subject) or case, failed.outcome)
            return []

    def _examine_again(self, worst: Worst) -> None:
        """Check the law on a row that was the worst of another run, in a batch of its copies.

        So it has the shape of other calls and every place in a batch; the worst copy counts.
        """
        try:
            row = from_record(worst.case)
        except ValueError as error:
            message = f"the worst row of {worst.region} that was kept is damaged: {error}"
            where = (self.subject.name, self._law.name, self._bench.dtype)
            said = dict(zip(("subject", "law", "dtype"), where, strict=True))
            self._emit(Incident(message=message, **said))
            return
        if not self._takes(row, worst.region):
            return
        rows = self.subject.shape[0] if self.subject.shape else batch_rows(row.inputs.shape[1])
        case = row.take(np.zeros(rows, dtype=int))
        try:
            verdicts = self._law.verdicts(self._bench, case)
        except Failed as failed:
            self._note_failure(worst.region, row, failed.outcome)
            return
        worst_alone = []
        for verdict in verdicts:
            worst_first = np.lexsort((np.nan_to_num(-verdict.ulps), -verdict.grade))
            worst_alone.append(only(verdict, np.arange(rows) == worst_first[0]))
        self._note(worst.region, worst_alone)

    def _takes(self, case: Case, region: str) -> bool:
        """Whether the subject is asked such a case here: an option may belong to a deeper audit."""
        shape = self.subject.shape
        asked = {
            *case.options.passed(),
            *(["sample_weight"] if case.sample_weight is not None else []),
        }
        return (
            region in {r.name for r in self.regions()}
            and (case.operation, case.dtype) == (self.subject.operation, self._bench.dtype)
            and case.target_kind == self.subject.target
            and (shape is None or shape[1] == case.inputs.shape[1])
            and asked <= self.subject.options
        )

    def _note(self, region: str, verdicts: list[Verdict]) -> float:
        """Take in what the law said of a case; return the largest finite error in ulps."""
        self._count(region, verdicts)
        return max((self._see(region, verdict) for verdict in verdicts), default=0.0)

    def _count(self, region: str, verdicts: list[Verdict]) -> None:
        """Each row once, however many statements of the law are about it: the worst counts."""
        of_rows: dict[tuple[str, int], list[np.ndarray]] = {}
        for verdict in verdicts:
            of_rows.setdefault((verdict.output, verdict.grade.size), []).append(verdict.grade)
        for (output, _), grades in of_rows.items():
            counts = self._tallies.setdefault((region, output), Counter())
            ranks, rows = np.unique(np.max(grades, axis=0), return_counts=True)
            for rank, number in zip(ranks, rows, strict=True):
                if rank != NOT_JUDGED:
                    counts[GRADES[rank]] += int(number)

    def _see(self, region: str, verdict: Verdict) -> float:
        self._worsts.see(region, verdict)
        judged = verdict.grade != NOT_JUDGED
        key = (region, verdict.output)
        for rank in np.unique(verdict.grade[judged]):
            if rank >= FIRST_FINDING:
                row = int(np.flatnonzero(verdict.grade == rank)[0])
                self._suspects.setdefault((*key, GRADES[rank]), Suspect(region, verdict, row))
        errors = verdict.ulps[judged]
        errors = errors[np.isfinite(errors)]
        worst = float(errors.max(initial=0.0))
        if errors.size:
            self._worst[key] = max(worst, self._worst.get(key, 0.0))
        return worst

    def _note_failure(self, region: str, case: Case, outcome: Outcome) -> None:
        """The call did not return: every row of every output gets the grade of that."""
        if outcome.status == "unsupported":
            return
        grade = outcome.status if outcome.status in ("crashed", "timed out") else "policy"
        for output in self._law.judged(self.subject):
            counts = self._tallies.setdefault((region, output), Counter())
            counts[grade] += max(case.rows, 1)
        self._failures.setdefault((region, grade), (case, outcome))

    # --- what is said -------------------------------------------------------------------------

    def _say_tallies(self) -> None:
        for (region, output), counts in sorted(self._tallies.items()):
            if not counts and self._law.name != ASKING:
                continue
            self._emit(
                Tally(
                    subject=self.subject.name,
                    law=self._law.name,
                    dtype=self._bench.dtype,
                    region=region,
                    output=output,
                    grades={g: counts[g] for g in GRADES if counts[g]},
                    worst_ulps=self._worst.get((region, output)),
                )
            )

    def _say_findings(self) -> None:
        for (region, output, grade), suspect in sorted(self._suspects.items()):
            verdict, row = self._smallest(suspect, grade)
            # A row counts under the worst that is said of it.
            rows = max(self._tallies[region, output][grade], 1)
            self._emit(self._finding(region, output, grade, verdict, row, rows))
        for (region, grade), (case, outcome) in sorted(self._failures.items()):
            self._say_failure(region, grade, case, outcome)

    def _smallest(self, suspect: Suspect, grade: str) -> tuple[Verdict, int]:
        """The verdict on the smallest input that shows the grade; the found one if none smaller."""
        verdict, rank = suspect.verdict, RANK[grade]
        if verdict.whole:
            return self._fewest_rows(verdict, rank)
        if self._law.rows_together:
            return self._fewer_rows(suspect, rank)
        row = verdict.case.take(np.array([suspect.row]))

        def still_fails(case: Case) -> np.ndarray:
            found = self._verdict(case, verdict)
            return np.zeros(case.rows, dtype=bool) if found is None else found.grade == rank

        small = shrink(row, still_fails, keep_classes=self._fixed_classes)
        # Alone, as the script will call it: a vectorised op may treat a row of a batch otherwise.
        # A compiled subject is called at its own shape all the same (`Bench.outcome`).
        for alone in (small, row):
            again = self._verdict(self._asked_alone(alone), verdict)
            if again is not None and again.grade[0] == rank:
                return first(again), 0
        # What no row shows alone, fewer of them may: a mean over rows of which some are ignored.
        return self._fewer_rows(suspect, rank)

    def _asked_alone(self, row: Case) -> Case:
        """A row as it is asked alone: among copies of itself, where another shape is compiled.

        Whether a row alone has another value than among others is a law of its own.
        """
        together = self._law.rows_together or self._law.by_place
        together = together or row.options.reduction != "none"
        if row.rows != 1 or together or not self._sparing:
            return row
        return row.take(np.zeros(batch_rows(row.inputs.shape[1]), dtype=int))

    @property
    def _fixed_classes(self) -> bool:
        return self.subject.shape is not None or bool(self._law.classes)

    def _fewest_rows(self, verdict: Verdict, rank: int) -> tuple[Verdict, int]:
        """Halve a batch whose reduced loss fails while it goes on failing."""
        best = verdict
        while best.case.rows > 1:
            half = best.case.take(np.arange(best.case.rows // 2))
            found = self._verdict(half, verdict)
            if found is None or found.grade[0] != rank:
                break
            best = found
        return best, 0

    def _fewer_rows(self, suspect: Suspect, rank: int) -> tuple[Verdict, int]:
        """Leave out rows, half of what is left at a time and then one, while some row fails."""
        best, row = suspect.verdict, suspect.row
        step = best.case.rows // 2
        while step:
            for start in range(0, best.case.rows, step):
                kept = np.delete(np.arange(best.case.rows), np.s_[start : start + step])
                found = self._verdict(best.case.take(kept), best) if kept.size else None
                if found is not None and (found.grade == rank).any():
                    best, row = found, int(np.flatnonzero(found.grade == rank)[0])
                    break
            else:
                step //= 2
            step = min(step, best.case.rows // 2)
        return best, row

    def _verdict(self, case: Case, like: Verdict) -> Verdict | None:
        """What the law says of another case in the same statement, of which it may make several."""
        try:
            verdicts = self._law.verdicts(self._bench, case)
        except (Failed, ValueError):
            # A candidate may be no valid input (a label without a class, a sum of zero).
            return None
        key = (like.output, like.whole, like.note)
        return next((v for v in verdicts if (v.output, v.whole, v.note) == key), None)

    def _finding(
        self, region: str, output: str, kind: str, verdict: Verdict, row: int, rows: int
    ) -> Finding:
        at = 0 if verdict.whole else row
        value, right = numbers(verdict.value[at]), numbers(verdict.right[at])
        if verdict.told is not None:
            value, right = [verdict.told[0]], [verdict.told[1]]
        finding = Finding(
            id=self._finding_id(region, output, kind),
            law=self._law.name,
            subject=self.subject.name,
            dtype=self._bench.dtype,
            region=region,
            output=output,
            kind=kind,
            status="new",
            rows=rows,
            case=to_record(verdict.case),
            row=row,
            value=value,
            right=right,
            ulps=_known_number(verdict.ulps[at]),
            demand_ulps=_known_number(verdict.demand[at]),
            declared_ulps=_known_number(verdict.declared[at]),
            message=_message(verdict, output, value, right),
            snippet=self._snippet(verdict),
        )
        return self._marked(finding)

    def _marked(self, finding: Finding) -> Finding:
        return marked(finding, self._known)

    def _finding_id(self, region: str, output: str, kind: str) -> str:
        parts = (self._law.name, self.subject.name, self._bench.dtype, output, region, kind)
        return hashlib.blake2b("|".join(parts).encode(), digest_size=5).hexdigest()

    def _snippet(self, verdict: Verdict) -> str:
        """The call alone, and the other calls of a relation after it."""
        text = script(self.subject, verdict.case)
        for subject, case in verdict.against:
            text += f"\n# and a call that it is compared with:\n{script(subject, case)}"
        return text

    def _say_failure(self, region: str, grade: str, case: Case, outcome: Outcome) -> None:
        """A call that did not return is one finding of each output's first name."""
        case = self._failing_row(case, outcome.status)
        first = (outcome.message.strip().splitlines() or [outcome.status])[0]
        output = self._law.outputs[0]
        finding = Finding(
            id=self._finding_id(region, output, grade),
            law=self._law.name,
            subject=self.subject.name,
            dtype=self._bench.dtype,
            region=region,
            output=output,
            kind=grade,
            status="new",
            rows=self._tallies[region, output][grade],
            case=to_record(case),
            row=0,
            value=[],
            right=[],
            ulps=None,
            demand_ulps=None,
            declared_ulps=None,
            message=f"the call {outcome.status}: {first}",
            snippet=script(self.subject, case),
        )
        self._emit(self._marked(finding))
        if grade in ("crashed", "timed out"):
            self._emit(
                Incident(
                    subject=self.subject.name,
                    law=self._law.name,
                    dtype=self._bench.dtype,
                    message=outcome.message or outcome.status,
                )
            )

    def _failing_row(self, case: Case, status: str) -> Case:
        """The first row that alone raises too, full of zeros if it may be; the case if none does.

        After a crash or hang nothing is asked again.
        """
        if status != "raised" or case.rows <= 1:
            return case
        rows = (case.take(np.array([i])) for i in range(case.rows))
        alone = next((row for row in rows if self._bench.outcome(row).status == status), None)
        if alone is None:
            return case
        plain = replace(alone, inputs=np.zeros_like(alone.inputs))
        usable = self.subject.from_logits and self._bench.outcome(plain).status == status
        return plain if usable else alone

    # --- known findings -----------------------------------------------------------------------

    def _replay(self, entry: Entry) -> None:
        """Show the entry's input to the subject; only this says whether the deviation is gone."""
        if entry.kind in ("crashed", "timed out"):
            return
        where = f"{self._law.name} {self.subject.name} {self._bench.dtype}"
        for record in entry.replays(self.subject, self._law.name, self._bench.dtype):
            case = self._asked_alone(recorded_case(record, self.subject))
            if self._bench.outcome(case).status == "unsupported":
                continue  # not looked at
            seen = self._shows(case, entry)
            missing = f"{where}: the input no longer shows {entry.kind!r}; remove it from the entry"
            self._emit(
                KnownRecord(
                    entry=entry.id,
                    state="seen" if seen else "gone",
                    detail=where if seen else missing,
                    subject=self.subject.name,
                )
            )

    def _shows(self, case: Case, entry: Entry) -> bool:
        try:
            verdicts = self._law.verdicts(self._bench, case)
        except Failed as failed:
            status = failed.outcome.status
            grade = status if status in ("crashed", "timed out") else "policy"
            return grade == entry.kind
        rank = RANK[entry.kind]
        return any(v.output in entry.outputs and bool((v.grade == rank).any()) for v in verdicts)


def recorded_case(record: CaseRecord, subject: Subject) -> Case:
    """The case of a record as the subject is asked it: without rows, a record has no width.

    Raises:
        ValueError: if a number cannot be read or the shapes do not fit.
    """
    case = from_record(record)
    if case.rows:
        return case
    empty = region_named("empty", subject.operation)
    width = empty.classes[0]
    drawn = Plan(empty, subject.operation, subject.target, record.dtype, 0, width, (), "none", 0)
    return replace(make_case(drawn), options=case.options)


def _known_number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _message(verdict: Verdict, output: str, value: list[str], right: list[str]) -> str:
    if verdict.note:
        return f"{verdict.note}: {_listed(value)} and {_listed(right)}"
    return f"{output} {_listed(value)}, right is {_listed(right)}"


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else "[" + ", ".join(texts[:8]) + "]"
