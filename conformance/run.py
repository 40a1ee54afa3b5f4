"""What one audit saw, as data that is written to `run.json` and read by every report.

Numbers that come from a subject or from the reference are stored as text (`repr` of the float64
that holds them, so they read back exactly, and "nan", "inf" and "-inf" need no special JSON).
"""

from __future__ import annotations

import gzip
import itertools
import os
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from ..reference.vocabulary import Semantics

FORMAT = 1
"""Version of the run file. Raised when a field changes its meaning; older files are refused."""

GRADES = (
    "exact",
    "faithful",
    "bounded",
    "no bound",
    "unspecified",
    "precision",
    "violates",
    "wrong kind",
    "policy",
    "timed out",
    "crashed",
)
"""Best to worst. The grades from "precision" on are findings."""

FINDING_GRADES = GRADES[GRADES.index("precision") :]


LONG_RUN = 16
"""Longer runs of equal numbers are written once: rows of a vocabulary are mostly such."""

LONGEST = 2**22
"""More numbers than any row has: a file that asks for more is broken."""


def packed(texts: Iterable[str], longest: int = LONG_RUN) -> list[str]:
    """Texts of numbers, runs of more than `longest` equal ones as "0.0*70000"."""
    found: list[str] = []
    for text, run in itertools.groupby(texts):
        count = len(list(run))
        found += [text] * count if count <= longest else [f"{text}*{count}"]
    return found


def unpacked(texts: Iterable[str]) -> list[str]:
    """What `packed` was given.

    Raises:
        ValueError: if a run has no length, or the whole more numbers than any row.
    """
    found: list[str] = []
    for text in texts:
        value, star, count = text.partition("*")
        length = int(count) if star else 1
        if not 0 < length <= LONGEST:
            raise ValueError(f"{text!r} is no run of 1 to {LONGEST} numbers")
        if len(found) + length > LONGEST:
            raise ValueError(f"a list with more than {LONGEST} numbers, from {text!r} on")
        found += [value] * length
    return found


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The exact numbers of one call, as text.

    In a list of numbers "0.0*70000" stands for 70000 of them.
    """

    operation: str
    dtype: str
    inputs: list[list[str]]
    target: list[int | list[str]]
    weight: list[str] | None = None
    pos_weight: str | None = None
    ignore_index: int | None = None
    label_smoothing: str = "0.0"
    where: list[bool] | None = None
    axis: int = -1
    gamma: str | None = None
    alpha: str | None = None
    reduction: str = "none"
    sample_weight: list[str] | None = None
    cotangent: list[str] | None = None
    by_target: bool = False
    direction: list[list[str]] | None = None
    layout: str = ""

    def plain(self) -> CaseRecord:
        """The call without what only some modes take: for the loss and its gradient."""
        return msgspec.structs.replace(self, direction=None, layout="", by_target=False)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One reproducible deviation, with the smallest input found.

    `id` is the hash of (law, subject without its version, dtype, output, region, kind).
    `row` is the row of `case` that shows it; `value` and `right` are what the subject returned
    there and what is right, one text per element (one for the loss, K for a gradient), long runs
    of equal ones as in `CaseRecord`.
    """

    id: str
    law: str
    subject: str
    dtype: str
    region: str
    output: str
    kind: str
    status: Literal["new", "known"]
    rows: int
    case: CaseRecord
    row: int
    value: list[str]
    right: list[str]
    ulps: float | None
    demand_ulps: float | None
    declared_ulps: float | None
    message: str
    snippet: str
    known: str = ""
    cause: str = ""
    link: str = ""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of one cell got which grade, and the worst of them in ulps."""

    subject: str
    law: str
    dtype: str
    region: str
    output: str
    grades: dict[str, int]
    worst_ulps: float | None = None

    @property
    def rows(self) -> int:
        return sum(self.grades.values())

    @property
    def worst(self) -> str:
        return worst_grade(self.grades)


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The row with the largest finite error of one output of a cell in one region.

    Only errors that a faithful rounding does not have are kept, of rows that are not wide.
    `case` is that row alone, as the law asked it.
    """

    subject: str
    dtype: str
    law: str
    output: str
    region: str
    ulps: float
    grade: str
    case: CaseRecord


class Implied(msgspec.Struct, frozen=True, kw_only=True):
    """Which classes of arithmetic hold all finite errors that the corpus saw of one output.

    `holds` are names of forms (see `reference.vocabulary.Arithmetic`) whose derived bounds held,
    the tightest first, of those that were tried: the declared one and those tighter than it.
    """

    subject: str
    dtype: str
    output: str
    declared: str
    holds: list[str]
    rows: int


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of the corpus, and what came of it: what another run is compared with.

    Attributes:
        case: the id of the case, which is that of its rows and their shape.
        law: which law asked it.
        region, rows, classes, options, reduction, seed: the plan that it is drawn from.
        status, message, warnings: as in an Outcome.
        loss_dtype: in which the loss came back, "" for that of the inputs.
        loss, gradient, target_gradient: the numbers, each as its distance from the correctly
            rounded value in steps of the format ("0*62 1 -1"), or as itself ("=nan", "=1.5") where
            it is far away; of a wide batch a digest of each row ("#5d41402a").
        digests: output -> a hash of the bits of its numbers.
        grades: output -> the grade of each row ("e*60 f*4"), or of the whole, by its letter: e
            exact, f faithful, b bounded, n no bound, u unspecified, p precision, v violates, w
            wrong kind, o policy, t timed out, c crashed, - for none.
    """

    case: str
    law: str
    region: str
    rows: int
    classes: int
    seed: int
    options: list[str] = []
    reduction: str = "none"
    status: str = "returned"
    message: str = ""
    warnings: list[str] = []
    loss_dtype: str = ""
    loss: str = ""
    gradient: str = ""
    target_gradient: str = ""
    digests: dict[str, str] = {}
    grades: dict[str, str] = {}


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What one subject answered to the corpus in one dtype, and the conventions measured there."""

    subject: str
    dtype: str
    semantics: Semantics
    calls: list[Call]


class Peer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer to the input of a finding, and every subject that gave it.

    Attributes:
        subjects: their names.
        status, message: as in an Outcome; the message in one line.
        loss: one number for each row, or one where it is reduced.
        gradient: of each row.
        right_loss, right_gradient: correctly rounded under the conventions of these subjects;
            empty where there is no right value.
        loss_ulps, gradient_ulps: the largest error; None where it cannot be told in ulps.
    """

    subjects: list[str]
    status: str = "returned"
    message: str = ""
    loss: list[str] = []
    gradient: list[list[str]] = []
    right_loss: list[str] = []
    right_gradient: list[list[str]] = []
    loss_ulps: float | None = None
    gradient_ulps: float | None = None


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """What the eager subjects of an operation answered to one case of a finding."""

    case: CaseRecord
    answers: list[Peer]


class Convention(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a subject's Semantics: declared, and measured from numbers alone.

    `agrees` is None where nothing could be measured (`measured` is then empty, and `evidence` says
    why) or nothing is declared. `input` is the smallest call that shows it, in words.
    """

    subject: str
    field: str
    declared: str
    measured: str
    agrees: bool | None
    evidence: str
    input: str = ""


class MisuseCurve(msgspec.Struct, frozen=True, kw_only=True):
    """What one subject computes where it is misused, along one quantity.

    Attributes:
        misuse: id of an entry of `misuse.catalogue`.
        subject: who was asked, in `dtype`.
        quantity: what the y of the curve is, such as "loss" or "gradient ratio".
        series: which of several curves of that quantity, such as "K = 10".
        at: what the x of the curve is.
        x: the points.
        measured: what came at each; "nan" where the call did not return.
        right: the value without the mistake, by the reference, at each.
        closed: what the mistake computes, by closed form or by the reference, at each; empty
            where neither says.
        said: "" where the framework stays silent, else what it raised or warned.
    """

    misuse: str
    subject: str
    dtype: str
    quantity: str
    series: str
    at: str
    x: list[str]
    measured: list[str]
    right: list[str]
    closed: list[str] = []
    said: str = ""


class MisuseTraining(msgspec.Struct, frozen=True, kw_only=True):
    """One training run of a softmax regression on the losses and gradients of one subject.

    Attributes:
        misuse: id of an entry of `misuse.catalogue`; a run without a mistake is of the same.
        series: "without" or "with" the mistake.
        setting: the data and the steps, in words.
        reported: the mean loss that the framework says, before each step.
        true: the mean cross-entropy of the same parameters, by the reference.
        gradient: the 2-norm of the gradient by the weights, as the framework gives it.
        accuracy: share of the samples whose largest logit is that of their class.
    """

    misuse: str
    subject: str
    dtype: str
    series: str
    reported: list[str]
    true: list[str]
    gradient: list[str]
    accuracy: list[str]
    setting: str = ""


class ExampleFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a worked example, with its verdict by the reference.

    Attributes:
        example: its id, such as "A1"; `source` is where it is printed.
        operation: of `examples.operations`; `input` is what it is given, in words.
        unit: "nats" or "bits".
        figure: name of the figure; "" where an example has none. `case` says of which input.
        printed: as it is printed, one text for each number; empty where nothing is.
        about: whether what is printed is rough, and right at one significant digit.
        right: what is right.
        shown: the same at the digits that are printed; where these are wrong, rough or none, at
            four significant ones at least.
        verdict: "right", "wrong" or "no figure printed".
        mistakes: of a wrong one: the kinds of mistakes that explain it exactly, or "unexplained".
        why: the same in words.
        tried: how many candidates were tried on it.
        note: what the source says of the example.
        answers: what follows from its figures, in words.
    """

    example: str
    source: str
    operation: str
    input: str
    unit: str
    verdict: str
    figure: str = ""
    case: str = ""
    printed: list[str] = []
    about: bool = False
    right: list[str] = []
    shown: list[str] = []
    mistakes: list[str] = []
    why: str = ""
    tried: int = 0
    note: str = ""
    answers: list[str] = []


class ExampleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one subject computes for a figure of a worked example.

    Attributes:
        example, figure, case: as in `ExampleFigure`.
        value: what came, in the unit of the example; empty where nothing did.
        agrees: whether it is the right figure at the digits that are shown.
        ulps: how far what the op returned is from the correctly rounded value for the inputs as
            `dtype` holds them, in steps of that format; None where nothing came.
        said: "" where the framework stays silent, else what it raised or warned.
    """

    example: str
    figure: str
    case: str
    subject: str
    dtype: str
    value: list[str]
    agrees: bool
    ulps: float | None = None
    said: str = ""


class ProfileSeries(msgspec.Struct, frozen=True, kw_only=True):
    """What some subjects answered along an axis, all of them the same.

    Attributes:
        answers: for each position which of its answers it was, runs as in `CaseRecord` ("0*60 2").
        grades: its grade at each position, by its letter in `Call`, runs likewise.
    """

    subjects: list[str]
    answers: str
    grades: str


class ProfileOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output along an axis: what is right, derived bounds, and all that was answered.

    Attributes:
        output: "loss", or an entry of the gradient: "gradient" at the class of the target,
            "gradient, other" at that of the best other logit.
        right: the correctly rounded value at each position.
        bounds: (form and working format) -> at each position the error bound in ulps, the largest
            of those that it has with the constants that subjects declare.
        answers: at each position all that came, each as its distance from the right value in steps
            of the format or as itself, as in `Call`, and after a space its error in ulps where it
            has one: "1 0.688", "=nan"; "" where no answer came.
    """

    output: str
    right: list[str]
    bounds: dict[str, list[str]]
    answers: list[list[str]]
    series: list[ProfileSeries]


class ProfileMissing(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects that did not answer along an axis, or not everywhere, and why."""

    subjects: list[str]
    reason: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of the subjects of an operation, in one format, along one axis.

    Attributes:
        axis: "gap", "|z|", "p of the target", "K, equal logits" and others.
        input: the call in words, "{}" for what moves.
        x: where the positions lie on the axis.
        shown: what moves at each position, where that is another text than that of x.
        outputs: an output may be there twice, where conventions make two values right.
    """

    operation: str
    dtype: str
    axis: str
    input: str
    x: list[str]
    shown: list[str]
    outputs: list[ProfileOutput]
    missing: list[ProfileMissing]


class Profiled(msgspec.Struct, frozen=True, kw_only=True):
    """What one subject alone answered along one axis; a run holds that of all in a `Profile`."""

    subject: str
    profile: Profile


class SubjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One subject as it was audited.

    `framework` bears the environment where the run has several: "jax@old", "jax@new".
    """

    name: str
    framework: str
    op: str
    operation: str
    mode: str
    device: str
    dtypes: list[str]
    versions: dict[str, str]
    arithmetic: dict[str, str]
    target: str = ""
    """"index", "distribution" or "binary": what its conventions can be compared with."""
    laws: list[str] = []
    """Names of the laws that fit it; where a law is not named, the cell is 'not applicable'."""
    misuse: str = ""
    """What is wrong with how it calls its op, where that is what it is audited for."""
    options: list[str] = []
    reductions: list[str] = []
    """What it takes: names of options, and values of `reduction`."""
    call: str = ""
    """Its op called without a reduction, as `adapters.idioms.OpCall` writes it; "" for none."""
    keywords: dict[str, str] = {}
    """The options that this call can be passed, each with the text that passes it."""


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """A framework (of an environment: "jax@old") that could not be audited, and what mends it."""

    framework: str
    reason: str
    hint: str


class IdiomsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How code is written with a framework: the texts of `adapters.idioms.Idioms`."""

    framework: str
    texts: dict[str, str]


class LawRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    statement: str
    source: str


UNSUPPORTED = "a call is not supported here and was not judged"
"""How the message of an incident begins that is about a call which a subject cannot make."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that died, hung or had to be restarted, or a part of the audit that failed."""

    subject: str
    law: str
    dtype: str
    message: str


class KnownRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entry of the known findings: "seen", "gone" or "not looked at".

    `subject` is that whose replay says so; a run has one record of an entry for all subjects.
    """

    entry: str
    state: Literal["seen", "gone", "not looked at"]
    detail: str
    subject: str = ""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    python: str
    platform: str
    machine: str
    processors: int
    packages: dict[str, str]
    workers: dict[str, dict[str, str]]
    """Per worker process: what it said of itself when it started (threads, flags, build)."""


class Run(msgspec.Struct, kw_only=True):
    """Everything one audit saw."""

    format: int = FORMAT
    lossaudit: str
    started: str
    seconds: float
    depth: str
    seed: int
    corpus: int
    complete: bool
    environment: Environment
    subjects: list[SubjectRecord]
    absent: list[Absence]
    laws: list[LawRecord]
    tallies: list[Tally]
    findings: list[Finding]
    conventions: list[Convention]
    incidents: list[Incident]
    known: list[KnownRecord]
    worst: list[Worst] = []
    """The worst inputs that were found; a run of another seed can start from them."""
    implied: list[Implied] = []
    """The class of arithmetic that the errors imply, beside the declared one."""
    answers: list[Answers] = []
    """What every subject answered to the corpus: what a later run is compared with, row by row."""
    peers: list[Peers] = []
    """What all comparable subjects answered to the inputs of the findings."""
    idioms: list[IdiomsRecord] = []
    """How ported losses are written with each framework of the run."""
    misuse: list[MisuseCurve] = []
    """What each framework computes where its losses are misused."""
    misuse_training: list[MisuseTraining] = []
    """How training goes with such a mistake, and without."""
    profiles: list[Profile] = []
    """Errors along axes; none where the audit was quick or asked for some laws alone."""
    examples: list[ExampleFigure] = []
    """The worked examples with their verdicts."""
    example_answers: list[ExampleAnswer] = []
    """What each framework computes for their figures."""

    def new_findings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == "new"]

    def faults(self) -> list[Incident]:
        """Parts of the audit that failed by a fault of lossaudit's own."""
        return [incident for incident in self.incidents if incident.message.startswith("internal:")]

    def gone(self) -> list[KnownRecord]:
        return [record for record in self.known if record.state == "gone"]


REMEDY = "Make it anew with `lossaudit run --out FILE`."
"""What to do about a file that cannot be read."""

GZIP = b"\x1f\x8b"
"""How a compressed file begins."""


class RunFileError(Exception):
    """A run file that cannot be read; the text says which, where and what to do."""


def anywhere(name: str) -> str:
    """The name of a subject without its environment: "jax:op[jit,cpu]" of "jax@old:op[jit,cpu]"."""
    home, _, local = name.partition(":")
    return f"{home.partition('@')[0]}:{local}"


def worst_grade(grades: dict[str, int]) -> str:
    """The worst grade with at least one row; "" where there is no row."""
    return max((g for g, n in grades.items() if n), key=GRADES.index, default="")


def write_run(run: Run, path: Path) -> None:
    """Write atomically: a reader, or a crash, sees the old file or the whole new one."""
    write_json(run, path)


def write_json(content: object, path: Path) -> None:
    """Anything that msgspec encodes, written as `write_run` does; small where it ends in ".gz"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(content), indent=1)
    if path.suffix == ".gz":
        text = gzip.compress(text, mtime=0)  # the same content gives the same file
    if path.exists() and not path.is_file():
        path.write_bytes(text)  # a device or a pipe, which must not be replaced by a file
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        # mkstemp makes a file for its owner alone; a run is to be read by whom the umask lets.
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_run(path: Path) -> Run:
    """Read and check a run file.

    Raises:
        RunFileError: if the file is missing, truncated, of another format, or not a run file.
    """
    return run_of(read_json(path, REMEDY), path)


def run_of(head: object, path: Path) -> Run:
    """The run in what a file holds; see `read_run`."""
    if not isinstance(head, dict) or "format" not in head or "tallies" not in head:
        raise RunFileError(f"{path} is JSON, but not a lossaudit run file.")
    if head["format"] != FORMAT:
        raise RunFileError(
            f"{path} has run format {head['format']!r}, this lossaudit reads {FORMAT}. {REMEDY}"
        )
    try:
        run = msgspec.convert(head, Run)
    except msgspec.ValidationError as error:
        raise RunFileError(f"{path} is damaged: {error}") from error
    if fault := _fault(run):
        raise RunFileError(f"{path} is damaged: {fault}")
    return run


def read_json(path: Path, remedy: str) -> object:
    """What a file that `write_json` wrote holds, not yet checked.

    Raises:
        RunFileError: if the file cannot be read or is no JSON; `remedy` says what to do then.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(gzip.decompress(raw) if raw[:2] == GZIP else raw)
    except (msgspec.DecodeError, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        fault = f"{path} is not valid JSON ({error}): truncated or edited?"
        raise RunFileError(f"{fault} {remedy}") from error


def _fault(run: Run) -> str:
    """What the types do not say: grades and subjects that exist, and rows that cases have."""
    for tally in run.tallies:
        if unknown := set(tally.grades) - set(GRADES):
            return f"grade {min(unknown)!r} of {tally.subject} does not exist"
    for finding in run.findings:
        if finding.kind not in FINDING_GRADES:
            return f"kind {finding.kind!r} of finding {finding.id} does not exist"
        rows = len(finding.case.inputs)
        if rows != len(finding.case.target) or not 0 <= finding.row < max(rows, 1):
            return f"finding {finding.id} has no row {finding.row} of inputs and target"
    for worst in run.worst:
        if worst.grade not in GRADES:
            return f"grade {worst.grade!r} of a worst input of {worst.subject} does not exist"
        if (len(worst.case.inputs), len(worst.case.target)) != (1, 1):
            return f"a worst input of {worst.subject} is not one row"
    dtypes = {record.name: record.dtypes for record in run.subjects}
    for answers in run.answers:
        if answers.dtype not in dtypes.get(answers.subject, ()):
            return f"it has answers of {answers.subject} in {answers.dtype}, and no record of that"
    return ""
