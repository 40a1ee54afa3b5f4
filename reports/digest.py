"""What every report needs to know of a Run: counts, order, groups, and the verdict in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from ..conformance.run import (
    FINDING_GRADES,
    GRADES,
    UNSUPPORTED,
    CaseRecord,
    Convention,
    Finding,
    Implied,
    Incident,
    LawRecord,
    Peers,
    Run,
    SubjectRecord,
    Tally,
    unpacked,
    worst_grade,
)
from . import text

SIGNS = {
    "exact": "EX",
    "faithful": "FA",
    "bounded": "BO",
    "no bound": "NB",
    "unspecified": "UN",
    "precision": "PR",
    "violates": "VI",
    "wrong kind": "WK",
    "policy": "PO",
    "timed out": "TO",
    "crashed": "CR",
}
"""Two letters beside every colour, so that no grade is told by colour alone."""

MEANINGS = {
    "exact": "equals the correctly rounded value",
    "faithful": "one of the two neighbours of the exact value",
    "bounded": "inside the demand, which is the same for every subject",
    "no bound": "compared, but no bound is derived here: neither passed nor failed",
    "unspecified": "the right answer is not defined here: recorded, neither passed nor failed",
    "precision": "outside the demand, though inside the bound of the formula it uses",
    "violates": "outside the bound of the arithmetic that the subject declares",
    "wrong kind": "NaN, infinity, zero or a number where the truth is of another kind",
    "policy": "does with invalid input, or as a convention, something else than declared",
    "timed out": "did not answer in time",
    "crashed": "the worker process died",
}


def grade_rank(kind: str) -> int:
    """Higher is worse. A kind from elsewhere ranks as the mildest finding."""
    return GRADES.index(kind) if kind in GRADES else GRADES.index("precision")


def sign(grade: str) -> str:
    return SIGNS.get(grade, text.one_line(grade, 3)[:2].upper())


FAILURES = {
    "raised": "raises",
    "crashed": "crashes:",
    "timed out": "does not answer:",
    "wrong shape": "returns another shape:",
}
"""What the status of a call that returned nothing to judge is called in a sentence."""


def order(finding: Finding) -> tuple[float, ...]:
    """Sort key: new before known, then the worst kind, most ulps, and the smallest input."""
    ulps = finding.ulps if finding.ulps is not None and finding.ulps == finding.ulps else 0.0
    size = sum(len(row) for row in finding.case.inputs)
    return (finding.status != "new", -grade_rank(finding.kind), -ulps, size)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (*order(finding), finding.id))


@dataclass(frozen=True)
class Cell:
    """One subject under one law, over all dtypes, regions and outputs."""

    subject: SubjectRecord
    law: str
    state: str
    tallies: tuple[Tally, ...] = ()
    findings: tuple[Finding, ...] = ()

    @cached_property
    def grades(self) -> dict[str, int]:
        return sum_grades(self.tallies)

    @property
    def worst(self) -> str:
        return worst_grade(self.grades)

    @cached_property
    def rows(self) -> int:
        return row_count(self.tallies)


@dataclass(frozen=True)
class Group:
    """Findings that have one op, one kind and one cause: most likely one thing to mend."""

    framework: str
    op: str
    kind: str
    cause: str
    link: str
    findings: tuple[Finding, ...]

    @property
    def new(self) -> int:
        return sum(finding.status == "new" for finding in self.findings)

    @property
    def known(self) -> int:
        return len(self.findings) - self.new


@dataclass(frozen=True)
class Tightening:
    """A declared form that a tighter one could replace, and the rows whose errors say so."""

    subject: str
    output: str
    declared: str
    tighter: str
    rows: int

    def __str__(self) -> str:
        """The proposal in a sentence."""
        form, subject = text.one_line(self.tighter, 40), text.one_line(self.subject, 120)
        return (
            f"{subject}: errors of the {text.one_line(self.output, 20)} stay inside class {form} "
            f"over {text.count(self.rows, 'row')}: declare {form} in place of "
            f"{text.one_line(self.declared, 40)}"
        )


@dataclass(frozen=True)
class FrameworkLine:
    """One framework in numbers."""

    name: str
    version: str
    subjects: int
    rows: int
    cells: int
    worst: Counter[str]
    new: int
    known: int

    @property
    def label(self) -> str:
        """Versions; with the name before them where that names an environment (`jax@old`)."""
        if self.version and "@" in self.name:
            return f"{self.name}: {self.version}"
        return self.version or self.name


@dataclass
class Digest:
    """A Run with the look-ups and sums that reports share."""

    run: Run
    subjects: dict[str, SubjectRecord] = field(init=False)
    laws: dict[str, LawRecord] = field(init=False)

    def __post_init__(self) -> None:
        self.subjects = {subject.name: subject for subject in self.run.subjects}
        for name in _names_outside(self.run):  # a broken-off run may hold rows of an unlisted one
            self.subjects.setdefault(name, _unlisted(name))
        self.laws = {law.name: law for law in self.run.laws}
        for tally in self.run.tallies:
            self.laws.setdefault(tally.law, LawRecord(name=tally.law, statement="", source=""))
        for finding in self.run.findings:
            self.laws.setdefault(finding.law, LawRecord(name=finding.law, statement="", source=""))

    @cached_property
    def findings(self) -> list[Finding]:
        return ranked(self.run.findings)

    @cached_property
    def frameworks(self) -> list[str]:
        return list(dict.fromkeys(subject.framework for subject in self.subjects.values()))

    @cached_property
    def kinds(self) -> dict[str, Counter[str]]:
        """Per kind, worst first, how many findings are new and how many known."""
        table: dict[str, Counter[str]] = {kind: Counter() for kind in reversed(FINDING_GRADES)}
        for finding in self.run.findings:
            table.setdefault(finding.kind, Counter())[finding.status] += 1
        return table

    @cached_property
    def grades(self) -> dict[str, int]:
        return sum_grades(self.run.tallies)

    @cached_property
    def rows(self) -> int:
        return row_count(self.run.tallies)

    @cached_property
    def unsupported(self) -> int:
        """Subjects of which a call could not be made, so that nothing was judged of it."""
        return len({i.subject for i in self.run.incidents if _of_support(i)})

    @cached_property
    def incidents(self) -> list[Incident]:
        """What went wrong beside calls that are not supported."""
        return [i for i in self.run.incidents if not _of_support(i)]

    @cached_property
    def known_states(self) -> Counter[str]:
        return Counter(record.state for record in self.run.known)

    @cached_property
    def disagreements(self) -> list[Convention]:
        return [entry for entry in self.run.conventions if entry.agrees is False]

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """Every (subject, law), those without a row too: what is not there must be seen."""
        tallies: dict[tuple[str, str], list[Tally]] = defaultdict(list)
        findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for tally in self.run.tallies:
            tallies[tally.subject, tally.law].append(tally)
        for finding in self.findings:
            findings[finding.subject, finding.law].append(finding)
        return {
            (name, law): self._cell(name, law, tallies[name, law], findings[name, law])
            for name in self.subjects
            for law in self.laws
        }

    def _cell(
        self, name: str, law: str, tallies: Sequence[Tally], findings: Sequence[Finding]
    ) -> Cell:
        subject = self.subjects[name]
        return Cell(
            subject, law, self._state(subject, law, tallies), tuple(tallies), tuple(findings)
        )

    def _state(self, subject: SubjectRecord, law: str, tallies: Sequence[Tally]) -> str:
        if any(tally.rows for tally in tallies):
            return "graded"
        if tallies:
            return "no rows"
        if law not in subject.laws and (self.run.complete or self._laws_are_named):
            return "not applicable"
        return "no rows" if self.run.complete else "not reached"

    @cached_property
    def _laws_are_named(self) -> bool:
        """Whether the run says which laws fit; else a partial run cannot tell what is missing."""
        return any(subject.laws for subject in self.subjects.values())

    def framework_of(self, finding: Finding) -> str:
        return self.subjects[finding.subject].framework

    def lines(self) -> list[FrameworkLine]:
        return [self._line(name) for name in self.frameworks]

    def _line(self, framework: str) -> FrameworkLine:
        cells = [c for c in self.cells.values() if c.subject.framework == framework]
        graded = [cell for cell in cells if cell.state == "graded"]
        subjects = [s for s in self.subjects.values() if s.framework == framework]
        status = Counter(f.status for f in self.run.findings if self.framework_of(f) == framework)
        return FrameworkLine(
            framework,
            versions(subjects),
            len(subjects),
            sum(cell.rows for cell in cells),
            len(graded),
            Counter(cell.worst for cell in graded),
            status["new"],
            status["known"],
        )

    @cached_property
    def groups(self) -> list[Group]:
        """Findings of one framework op, kind and cause together, the worst group first."""
        parts: dict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            subject = self.subjects[finding.subject]
            parts[subject.framework, subject.op, finding.kind, finding.cause].append(finding)
        return [
            Group(*key, link=next((f.link for f in found if f.link), ""), findings=tuple(found))
            for key, found in parts.items()  # in the order of their worst finding
        ]

    def worst_findings(self, limit: int = 5) -> list[Finding]:
        """The worst findings, distinct in cause as far as there are that many.

        Three passes, each less strict on what counts as another cause: another op and another
        sort of trouble; another op or kind; another law.
        """
        chosen: list[Finding] = []
        for keys in (_strict_keys, _loose_keys, _law_keys):
            seen = {key for finding in chosen for key in keys(self, finding)}
            for finding in self.findings:
                mine = keys(self, finding)
                if len(chosen) < limit and finding not in chosen and not seen & mine:
                    chosen.append(finding)
                    seen |= mine
        return ranked(chosen)

    def verdict(self) -> str:
        """The outcome in one sentence; a partial run is never called clean."""
        new, known = self._status("new"), self._status("known")
        looked = f"{text.count(len(self.subjects), 'subject')} and {text.count(self.rows, 'row')}"
        if not self.rows:
            sentence = "Nothing was audited"
        elif new:
            hit = len({f.subject for f in self.run.findings if f.status == "new"})
            sentence = (
                f"{text.count(new, 'new finding')} in {hit:,} of "
                f"{text.count(len(self.subjects), 'subject')}"
            )
            sentence += f", beside {known:,} known" if known else ""
        elif known:
            sentence = f"Nothing new in {looked}; {text.count(known, 'known finding')} still there"
        else:
            sentence = f"No deviation found in {looked}"
        gone = self.known_states["gone"]
        sentence += f"; {text.count(gone, 'known entry', 'known entries')} gone" if gone else ""
        return sentence + ("." if self.run.complete else " so far: this run is partial.")

    @cached_property
    def implied(self) -> dict[tuple[str, str], list[Implied]]:
        """By subject and dtype, which classes hold the errors of its outputs."""
        found: dict[tuple[str, str], list[Implied]] = defaultdict(list)
        for entry in self.run.implied:
            found[entry.subject, entry.dtype].append(entry)
        return found

    @cached_property
    def peers(self) -> dict[str, Peers]:
        """What all comparable subjects answered, by the plain case."""
        return {str(peers.case): peers for peers in self.run.peers}

    @cached_property
    def tightenings(self) -> list[Tightening]:
        """Declarations that could be tighter, where that holds in every dtype of a subject.

        In one dtype alone the rounding to a narrow output may hide what the form loses.
        """
        parts: dict[tuple[str, str], list[Implied]] = defaultdict(list)
        for entry in self.run.implied:
            parts[entry.subject, entry.output].append(entry)
        found = []
        for (subject, output), entries in parts.items():
            everywhere = set.intersection(*(set(e.holds) for e in entries))
            best = next((form for form in entries[0].holds if form in everywhere), "")
            if best and all(best != entry.declared for entry in entries):
                rows = sum(entry.rows for entry in entries)
                found.append(Tightening(subject, output, entries[0].declared, best, rows))
        return found

    def _status(self, status: str) -> int:
        return sum(finding.status == status for finding in self.run.findings)


def _of_support(incident: Incident) -> bool:
    return incident.message.startswith(UNSUPPORTED)


def sum_grades(tallies: Iterable[Tally]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally.grades)
    return {grade: total[grade] for grade in GRADES if total[grade]}


def row_count(tallies: Iterable[Tally]) -> int:
    """Rows looked at. Loss and gradient of one row are tallied apart, and count once."""
    rows: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for tally in tallies:
        key = (tally.subject, tally.law, tally.dtype, tally.region)
        rows[key] = max(rows[key], tally.rows)
    return sum(rows.values())


def versions(subjects: Iterable[SubjectRecord]) -> str:
    """`torch 2.13.0`; several versions of one package side by side."""
    found: dict[str, list[str]] = {}
    for subject in subjects:
        for package, version in subject.versions.items():
            known = found.setdefault(package, [])
            if version not in known:
                known.append(version)
    return ", ".join(f"{package} {' and '.join(several)}" for package, several in found.items())


def call_text(finding: Finding) -> str:
    """The smallest input in one short line: `x = [-inf, 0, 0], target 1`."""
    return case_text(finding.case, finding.row)


def case_text(case: CaseRecord, row: int = 0) -> str:
    """One row of a case in one short line, with the options of the call."""
    passed = [f"{key} = {value}" for key, value in case_options(case, row)]
    if not case.inputs and not case.operation:
        return "no single input"  # a convention is measured from several calls
    if not case.inputs:
        return ", ".join(["an empty batch", *passed])
    row = min(max(row, 0), len(case.inputs) - 1)
    inputs = case.inputs[row]
    probabilities = case.operation.endswith(("probabilities", "binary_cross_entropy"))
    name = "p" if probabilities else "log p" if case.operation == "kl_divergence" else "x"
    parts = [f"{name} = {_plain(inputs)}"]
    if row < len(case.target):
        target = case.target[row]
        parts.append(f"target {_plain(target) if isinstance(target, list) else target}")
    return ", ".join([*parts, *passed])


def options(finding: Finding) -> list[tuple[str, str]]:
    """The options that the call passes, in words."""
    return case_options(finding.case, finding.row)


def case_options(case: CaseRecord, row: int = 0) -> list[tuple[str, str]]:
    """The options that a call passes, in words; of what has a number for each row, that of one."""
    found = []
    if case.weight is not None:
        found.append(("weight", text.vector(case.weight)))
    if case.pos_weight is not None:
        found.append(("pos_weight", text.one_line(case.pos_weight, 40)))
    if case.ignore_index is not None:
        found.append(("ignore_index", str(case.ignore_index)))
    if text.as_float(case.label_smoothing) != 0.0:
        found.append(("label_smoothing", text.one_line(case.label_smoothing, 40)))
    if case.where is not None:
        found.append(("where", str(case.where)))
    if case.axis != -1:
        found.append(("axis", str(case.axis)))
    factors = (("gamma", case.gamma), ("alpha", case.alpha))
    found += [(name, text.one_line(value, 40)) for name, value in factors if value is not None]
    if case.reduction != "none":
        found.append(("reduction", text.one_line(case.reduction, 20)))
    for name in ("sample_weight", "cotangent", "direction"):
        if values := getattr(case, name):
            here = values[min(max(row, 0), len(values) - 1)]
            found.append((name, _plain([here] if isinstance(here, str) else here)))
    return found


def _plain(numbers: Sequence[str]) -> str:
    return text.short_number(numbers[0]) if len(numbers) == 1 else text.vector(numbers)


def whole(finding: Finding) -> Finding:
    """The finding with the long runs of its row and of what came written out, if they are runs."""
    case, row = finding.case, min(finding.row, len(finding.case.inputs) - 1)
    texts = [*finding.value, *finding.right, *(case.inputs[row] if case.inputs else ())]
    if not any("*" in text for text in texts):
        return finding
    try:
        target = [unpacked(t) if isinstance(t, list) else t for t in case.target]
        inputs = [unpacked(each) if i == row else each for i, each in enumerate(case.inputs)]
        value, right = unpacked(finding.value), unpacked(finding.right)
    except ValueError:
        return finding  # a text of another kind is shown as it is
    return msgspec.structs.replace(
        finding,
        case=msgspec.structs.replace(case, inputs=inputs, target=target),
        value=value,
        right=right,
    )


def worst_element(finding: Finding) -> int:
    """Index of the element that says most: the first that differs in kind, else by most."""
    return farthest(finding.value, finding.right)


def farthest(values: Sequence[str], others: Sequence[str]) -> int:
    """Index of the first pair that differs in kind, else by most."""
    best, most = 0, -1.0
    for index, (value, other) in enumerate(zip(values, others, strict=False)):
        error = _difference(text.as_float(value), text.as_float(other))
        if error > most:
            best, most = index, error
    return best


def _difference(value: float | None, right: float | None) -> float:
    if value is None or right is None:
        return float("inf")
    if value == right or (value != value and right != right):
        return 0.0
    error = abs(value - right)
    return float("inf") if error != error else error


def outcome_text(finding: Finding) -> tuple[str, str]:
    """What came and what is right, in short, at the element that says most."""
    finding = whole(finding)
    index = worst_element(finding)
    value = text.short_number(finding.value[index]) if index < len(finding.value) else "no value"
    right = text.short_number(finding.right[index]) if index < len(finding.right) else "not given"
    if value == right:  # the same to six digits: show all of them
        value, right = (text.one_line(t[index], 40) for t in (finding.value, finding.right))
    return value, right


def failure(finding: Finding) -> str:
    """What a call did in place of returning numbers, in one line, or ''."""
    if finding.value or finding.right:
        return ""
    for status, word in FAILURES.items():
        before = f"the call {status}: "
        if finding.message.startswith(before):
            return text.one_line(f"{word} {finding.message[len(before) :]}", 200)
    return ""


def came(finding: Finding) -> str:
    """What came of the smallest input: `loss 1, right 2`, or `raises ValueError: ...`."""
    if said := failure(finding):
        return said
    value, right = outcome_text(finding)
    return f"{text.one_line(finding.output, 12)} {value}, right {right}"


def _strict_keys(digest: Digest, finding: Finding) -> set[tuple[str, ...]]:
    subject = digest.subjects[finding.subject]
    return {
        ("op", subject.framework, _family(subject)),
        ("trouble", subject.framework, finding.kind, finding.region),
        ("cause", finding.cause or finding.id),
    }


def _family(subject: SubjectRecord) -> str:
    """`cross_entropy` of `cross_entropy.index`: forms of one op share most of their causes."""
    return max(subject.op.split("."), key=len)


def _loose_keys(digest: Digest, finding: Finding) -> set[tuple[str, ...]]:
    subject = digest.subjects[finding.subject]
    return {
        ("kind", subject.framework, _family(subject), finding.kind),
        ("cause", finding.cause or finding.id),
    }


def _law_keys(digest: Digest, finding: Finding) -> set[tuple[str, ...]]:
    subject = digest.subjects[finding.subject]
    return {("law", subject.framework, subject.op, finding.law)}


def _names_outside(run: Run) -> list[str]:
    parts = (run.tallies, run.findings, run.conventions)
    names = [entry.subject for part in parts for entry in part]
    names += [name for peers in run.peers for peer in peers.answers for name in peer.subjects]
    return list(dict.fromkeys(names))


def _unlisted(name: str) -> SubjectRecord:
    framework, _, rest = name.partition(":")
    op, _, mode = rest.partition("[")
    return SubjectRecord(
        name=name,
        framework=framework,
        op=op or name,
        operation="",
        mode=mode.split(",")[0].rstrip("]"),
        device="",
        dtypes=[],
        versions={},
        arithmetic={},
    )


def implied_text(entry: Implied) -> str:
    """`loss: C over 512 rows`: the tightest class that holds, if the declared one does at all."""
    form = entry.holds[0] if entry.holds else "beyond the declared"
    return text.one_line(f"{entry.output}: {form} over {text.count(entry.rows, 'row')}", 120)
