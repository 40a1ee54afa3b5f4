"""What subjects answer to the fixed corpus, written so that another run can be compared with it.

A number is written as its distance from the correctly rounded value, in steps of its format: most
are 0 or a few, so that a whole audit fits into a file, and a change is seen in a diff of two. The
calls are not written: their plans are, from which they are drawn again, and their ids, which say
that it was the same call.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..reference.exact import Exact, round_exact
from ..reference.formats import Format, decode, encode, round_to_format
from ..reference.rows import Truth, reduce_truth, target_truth, truth
from ..reference.vocabulary import Case, Floats, Outcome, Semantics
from .bench import Bench, Failed
from .law import NOT_JUDGED, Law, Verdict
from .laws.contract import LABELS
from .laws.pullbacks import HESSIAN, TARGET_GRADIENT, directions
from .laws.value import GRADIENT, VALUE
from .regions import Plan, make_case, region
from .run import GRADES, Answers, Call, packed, unpacked

OUTPUTS = ("loss", "gradient", "target_gradient")

FARTHEST = 2**20
"""Steps past which a number is written as itself: seven digits are no shorter than the number."""

WIDE = 2**14
"""Entries of a batch from which on a digest of each row is kept: that of a vocabulary has more."""

LETTERS = "efbnupvwotc"
"""A letter for each of GRADES, in their order: see `run.Call`."""

NO_GRADE = "-"
"""The letter of a row of which no law says anything."""


@dataclass(frozen=True)
class Asking:
    """A law whose calls are kept.

    Attributes:
        call: what it makes of a drawn case.
        outputs: what it is about.
        graded_by: the laws that grade these.
    """

    call: Callable[[Case], Case]
    outputs: tuple[str, ...]
    graded_by: tuple[Law, ...]


def _as_drawn(case: Case) -> Case:
    return case


def _by_target(case: Case) -> Case:
    return replace(case, by_target=True)


def _along_directions(case: Case) -> Case:
    return replace(case, direction=directions(*case.inputs.shape))


ASKING: Mapping[str, Asking] = {
    VALUE.name: Asking(_as_drawn, ("loss", "gradient"), (VALUE, GRADIENT)),
    LABELS.name: Asking(_as_drawn, ("loss", "gradient"), (LABELS,)),
    TARGET_GRADIENT.name: Asking(_by_target, ("target_gradient",), (TARGET_GRADIENT,)),
    HESSIAN.name: Asking(_along_directions, ("gradient",), (HESSIAN,)),
}
"""The laws whose corpus is kept: losses, gradients, derivatives, and what a wrong label does."""


class Asked:
    """Collects the calls of the corpus of one cell."""

    def __init__(self, bench: Bench, law: Law) -> None:
        self._bench, self._law = bench, law
        self.calls: list[Call] = []

    def see(self, plan: Plan, drawn: Case, verdicts: Sequence[Verdict]) -> None:
        """Keep what came of the case of a plan, of which the law has said its verdicts."""
        asking = ASKING.get(self._law.name)
        if asking is None or self._bench.subject.misuse:
            return
        case = asking.call(drawn)
        outcome = self._bench.outcome(case)
        # Of a wrong label a law says whether it is right to raise.
        graded = outcome.returned or (self._law is LABELS and outcome.status == "raised")
        letters = dict[str, str]()
        for law in asking.graded_by if graded else ():
            said = verdicts if law is self._law else _verdicts(self._bench, drawn, law)
            letters |= _letters(law, said)
        self.calls.append(_written(self._bench, plan, case, outcome, self._law, letters))

    def said(self) -> Answers:
        bench = self._bench
        return Answers(
            subject=bench.subject.name,
            dtype=bench.dtype,
            semantics=bench.semantics,
            calls=self.calls,
        )


def _verdicts(bench: Bench, drawn: Case, law: Law) -> Sequence[Verdict]:
    if not law.applies(bench.subject):
        return ()
    try:
        return law.verdicts(bench, drawn)
    except Failed:  # it returned, but not this output
        return ()


def _letters(law: Law, verdicts: Sequence[Verdict]) -> Iterator[tuple[str, str]]:
    """The grades of each output, as `Call` has them."""
    for verdict in verdicts:
        output = "target_gradient" if law is TARGET_GRADIENT else verdict.output
        letters = (LETTERS[g] if g != NOT_JUDGED else NO_GRADE for g in verdict.grade)
        yield output, " ".join(packed(letters, 1))


def _written(
    bench: Bench, plan: Plan, case: Case, outcome: Outcome, law: Law, letters: dict[str, str]
) -> Call:
    values = {name: getattr(outcome, name) for name in ASKING[law.name].outputs}
    found = {k: v for k, v in values.items() if outcome.returned and v is not None}
    right = exact_values(case, bench.semantics, law.name, bench) if found else {}
    numbers = {
        name: written(values, _rounded(right.get(name), bench.fmt), bench.fmt)
        for name, values in found.items()
    }
    return Call(
        case=case.case_id(),
        law=law.name,
        region=plan.region.name,
        rows=plan.rows if plan.region.rows is None else plan.region.rows,
        classes=plan.classes,
        seed=plan.seed,
        options=list(plan.options),
        # What is the default is not written; it is known by being the same text.
        reduction=sys.intern(plan.reduction),
        status=sys.intern(outcome.status),
        message=outcome.message,
        warnings=list(outcome.warnings),
        loss_dtype="" if outcome.loss_dtype == case.dtype else outcome.loss_dtype,
        digests={name: digest(values) for name, values in found.items()},
        grades=letters,
        **numbers,
    )


def drawn(call: Call, answers: Answers, operation: str, target: str) -> Case:
    """The call as it was asked, drawn again from its plan.

    Raises:
        ValueError: it is not the same call: the corpus that it came from is another, or the file
            was edited.
    """
    try:
        case = ASKING[call.law].call(make_case(_plan(call, answers, operation, target)))
    except (LookupError, StopIteration) as error:
        raise ValueError(
            f"the call {call.case} of {answers.subject} names what this lossaudit does not know"
        ) from error
    if call.case != case.case_id():
        raise ValueError(f"the call {call.case} of {answers.subject} is drawn otherwise today")
    return case


def _plan(call: Call, answers: Answers, operation: str, target: str) -> Plan:
    return Plan(
        region=region(call.region, operation),
        operation=operation,
        target=target,
        dtype=answers.dtype,
        rows=call.rows,
        classes=call.classes,
        options=tuple(call.options),
        reduction=call.reduction,
        seed=call.seed,
        ignored=answers.semantics.ignore_index,
    )


def _rounded(exact: Exact | None, fmt: Format) -> Floats | None:
    return None if exact is None else round_exact(exact, fmt)


def exact_values(
    case: Case, semantics: Semantics, law: str, bench: Bench | None = None
) -> dict[str, Exact]:
    """What is right of the outputs of a call, exactly; nothing where a label is no class.

    Args:
        case: as it was asked.
        semantics: as they were measured.
        law: the law that asked it.
        bench: remembers truths, where there is one.
    """
    if law == LABELS.name:
        return {}
    plain = replace(case, by_target=False)
    found: Truth = bench.truth(plain) if bench is not None else truth(plain, semantics)
    loss, gradient = reduce_truth(found, plain, semantics)
    right = {"loss": loss, "gradient": gradient}
    if case.by_target:
        again = bench.target_truth(case) if bench is not None else target_truth(case, semantics)
        right["target_gradient"] = again.gradient
    return right


def came(answer: Call | Outcome) -> str:
    """What came of a call as a whole, in words."""
    return f"{answer.status} {first_line(answer.message)}".strip()


def first_line(text: str) -> str:
    """What a message says first, not too long for a line of a report."""
    return (text.strip().splitlines() or [""])[0][:300]


def grades(call: Call, output: str) -> list[str]:
    """The grade of each row of an output, "" where it has none; one for a reduced loss.

    Raises:
        ValueError: a letter is none of LETTERS.
    """
    named = dict(zip(LETTERS, GRADES, strict=True)) | {NO_GRADE: ""}
    letters = unpacked(call.grades.get(output, "").split())
    if unknown := set(letters) - set(named):
        raise ValueError(f"{min(unknown)!r} is no grade")
    return [named[letter] for letter in letters]


# --- numbers as text ------------------------------------------------------------------------------


def digest(values: Floats) -> str:
    """A hash of the bits of numbers and of their shape, one bit pattern for every NaN."""
    h = hashlib.blake2b(str(values.shape).encode(), digest_size=6)
    h.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return h.hexdigest()


def written(values: Floats, right: Floats | None, fmt: Format) -> str:
    """Numbers as their distances from the right ones; see `Call`."""
    if values.size >= WIDE and values.ndim > 1:
        return " ".join(f"#{digest(row)}" for row in values)
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    near, steps = np.zeros(flat.size, dtype=bool), np.zeros(flat.size, dtype=np.int64)
    if right is not None and right.shape == values.shape:
        near, steps = _steps(flat, right.reshape(-1), fmt)
    texts = (str(s) if n else f"={float(v)!r}" for n, s, v in zip(near, steps, flat, strict=True))
    return " ".join(packed(texts, 1))


def read(text: str, right: Floats | None, shape: tuple[int, ...], fmt: Format) -> Floats | None:
    """The numbers that `written` wrote, or None where it kept digests alone.

    Raises:
        ValueError: the text is no such text, or not of that many numbers.
    """
    if text.startswith("#"):
        return None
    texts = unpacked(text.split())
    if len(texts) != int(np.prod(shape)):
        raise ValueError(f"{len(texts)} numbers where the call has {int(np.prod(shape))}")
    base = np.full(len(texts), np.nan) if right is None else right.reshape(-1)
    ordered = np.zeros(len(texts), dtype=np.int64)
    finite = np.isfinite(base)
    ordered[finite] = _ordered(base[finite], fmt)
    found = np.empty(len(texts))
    for i, each in enumerate(texts):
        if each.startswith("="):
            found[i] = float(each[1:])
        elif not finite[i]:
            raise ValueError(f"{each!r} is a distance from what is no number")
        else:
            ordered[i] += int(each)
    steps = np.array([not each.startswith("=") for each in texts], dtype=bool)
    found[steps] = _from_ordered(ordered[steps], fmt)
    return found.reshape(shape)


def _steps(values: Floats, right: Floats, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Which numbers are near what is right, and how many steps of the format away."""
    usable = np.isfinite(values) & np.isfinite(right) & ~((values == 0) & np.signbit(values))
    # What comes in a wider format than the inputs have is between the steps.
    usable &= round_to_format(values, fmt) == values
    ours = _ordered(np.where(usable, values, 0.0), fmt)
    theirs = _ordered(np.where(usable, right, 0.0), fmt)
    # Halves of them cannot overflow when they are subtracted.
    usable &= np.abs(ours // 2 - theirs // 2) < FARTHEST // 2
    return usable, np.where(usable, ours - theirs, 0)


def _ordered(values: Floats, fmt: Format) -> np.ndarray:
    """Values of a format as integers in the same order, neighbours one apart; 0 and -0 are 0."""
    bits = encode(values, fmt.name).astype(np.uint64)
    top = np.uint64(1) << np.uint64(_width(fmt) - 1)
    magnitude = (bits & (top - np.uint64(1))).astype(np.int64)
    return np.where((bits & top) != 0, -magnitude, magnitude)


def _from_ordered(ordered: np.ndarray, fmt: Format) -> Floats:
    top = 1 << (_width(fmt) - 1)
    bits = np.abs(ordered).astype(np.uint64) | np.where(ordered < 0, np.uint64(top), np.uint64(0))
    dtype = {16: "<u2", 32: "<u4", 64: "<u8"}[_width(fmt)]
    return decode(bits.astype(dtype), fmt.name)


def _width(fmt: Format) -> int:
    return {"float64": 64, "float32": 32}.get(fmt.name, 16)
