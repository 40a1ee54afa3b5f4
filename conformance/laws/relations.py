"""Relations between two subjects of one framework: index and one-hot, CE and BCE, two modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...adapters.subject import Subject
from ...reference.formats import round_to_format
from ...reference.vocabulary import Case, Outcome
from ..bench import Bench, Failed
from ..judge import RANK, Judgement
from ..law import EXACT, NOT_JUDGED, WRONG_KIND, Law, Verdict, by_row, in_words
from .symmetry import compare


def check_one_hot(bench: Bench, case: Case) -> list[Verdict]:
    """A one-hot distribution at class t against the index t."""
    other = bench.sibling(bench.subject.index_sibling)
    if other is None:
        return []
    label = np.argmax(np.asarray(case.target), axis=1).astype(np.int64)
    classes = case.inputs.shape[1]
    hot = (np.arange(classes) == label[:, None]).astype(np.float64)
    soft, hard = replace(case, target=hot), replace(case, target=label)
    rows = np.ones(case.rows, dtype=bool)
    return compare(bench, soft, other, hard, rows, "for a one-hot target, and for the index")


def check_two_class(bench: Bench, case: Case) -> list[Verdict]:
    """CE of the logits (0, z) for class t against BCE of z for the label t."""
    other = bench.sibling(bench.subject.binary_sibling)
    if other is None:
        return []
    with np.errstate(invalid="ignore"):
        z = round_to_format(case.inputs[:, 1:] - case.inputs[:, :1], bench.fmt)
    rows = np.isfinite(z[:, 0])
    pair = np.concatenate([np.zeros_like(z), z], axis=1)
    ce = replace(case, inputs=pair)
    label = case.target if case.target.ndim == 1 else np.asarray(case.target)[:, 1]
    binary = Case(
        "binary_cross_entropy_with_logits",
        case.dtype,
        z,
        np.asarray(label, dtype=np.float64)[:, None],
    )
    columns = (slice(1, 2), slice(0, 1))
    note = "of CE for (0, z), and of BCE for z"
    return compare(bench, ce, other, binary, rows, note, columns=columns)


def _kinds(numbers: np.ndarray) -> np.ndarray:
    """0 finite, 1 NaN, 2 +inf, 3 -inf."""
    return np.select([np.isnan(numbers), numbers == np.inf, numbers == -np.inf], [1, 2, 3], 0)


def _policy(outcome: Outcome) -> str:
    return "returned" if outcome.returned else outcome.status


def check_modes(bench: Bench, case: Case) -> list[Verdict]:
    """The op in its mode and eagerly: raised or returned, and the kinds of the numbers."""
    eager = bench.sibling(None, "eager")
    if eager is None:
        return []
    ours, theirs = bench.outcome(case), eager.outcome(case)
    for outcome in (ours, theirs):
        if outcome.status in ("unsupported", "crashed", "timed out"):
            raise Failed(outcome)
    if _policy(ours) != _policy(theirs):
        return [_policies_differ(case, ours, theirs, bench.subject.mode, eager.subject)]
    if not ours.returned:
        return []
    verdicts = []
    for output in ("loss", "gradient"):
        a, b = getattr(ours, output), getattr(theirs, output)
        grade = np.where(_kinds(a) == _kinds(b), EXACT, WRONG_KIND)
        nothing = np.full(a.shape, np.nan)
        found = Judgement(grade, nothing, b, nothing, nothing)
        verdict = by_row(
            output, case, found, a, f"the {output} in mode {bench.subject.mode}, and eager"
        )
        verdicts.append(replace(verdict, against=((eager.subject, case),)))
    return verdicts


def _policies_differ(
    case: Case, ours: Outcome, theirs: Outcome, mode: str, eager: Subject
) -> Verdict:
    """One raised, one did not: rows with an invalid label stand for the call, or the first row."""
    grade = np.full(case.rows, NOT_JUDGED)
    suspect = np.zeros(case.rows, dtype=bool)
    if case.target.ndim == 1:
        suspect = (case.target < 0) | (case.target >= case.inputs.shape[1])
    grade[suspect if suspect.any() else slice(0, 1)] = RANK["policy"]
    told = f"{_told(ours)} in mode {mode}", f"{_told(theirs)} eager"
    return replace(in_words("loss", case, grade, told), against=((eager, case),))


def _told(outcome: Outcome) -> str:
    """What happened, in one line."""
    if outcome.returned and outcome.loss is not None:
        first = outcome.loss.reshape(-1)[:1].tolist()
        return f"returned {first[0]!r}" if first else "returned no rows"
    lines = outcome.message.strip().splitlines() or [""]
    return f"{outcome.status} {lines[0][:120]}"


def _distribution_of_logits(subject: Subject) -> bool:
    return subject.operation == "cross_entropy" and subject.target == "distribution"


ONE_HOT = Law(
    name="one-hot-equals-index",
    statement="CE(z, one-hot(t)) = CE(z, t), gradients too",
    source="definition; keras, torch and optax document the two targets as equivalent",
    fits=lambda s: _distribution_of_logits(s) and s.index_sibling is not None,
    check=check_one_hot,
    partner=lambda s: (s.index_sibling or "", s.mode),
)

TWO_CLASS = Law(
    name="two-class-equals-binary",
    statement="CE((0, z), t) = BCE(z, t), d CE / d z_1 = d BCE / d z",
    source="softmax(0, z)_1 = sigmoid(z)",
    fits=lambda s: (
        s.operation == "cross_entropy" and s.binary_sibling is not None and not s.compiled
    ),
    check=check_two_class,
    partner=lambda s: (s.binary_sibling or "", s.mode),
    classes=(2,),
)

MODES = Law(
    name="modes-agree",
    statement="an op raises in every mode where it does eagerly, and returns numbers of that kind",
    source="tensorflow#126005, pytorch#193757; bits may differ and are judged by the other laws",
    # Another dtype of the loss has another range, and so infinities of its own.
    fits=lambda s: s.mode != "eager" and s.semantics.output == "input",
    check=check_modes,
    partner=lambda s: (s.op, "eager"),
    invalid=True,
)
