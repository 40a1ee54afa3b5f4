"""The probe: measures a subject's conventions from its numbers alone.

It comes before the laws: a declaration that the probe contradicts is a finding of its own, and
values are then judged under what was measured. Each field is measured with the smallest call that
shows it; a formula is named only where the numbers lie within its derived bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..adapters.subject import PLAIN, Subject
from ..reference.vocabulary import Case, Semantics
from .bench import Bench, Failed
from .probes import calls, factors, formulas, guards, labels
from .probes.cases import in_words
from .probes.choice import Found, Undecided
from .run import Convention

NOT_MEASURED = ""


@dataclass(frozen=True)
class Measured:
    """A field as it was measured, with the call that shows it."""

    convention: Convention
    case: Case | None


@dataclass(frozen=True)
class _Field:
    """A convention: its name, what measures it, and the subjects that have it.

    Attributes:
        name: of the field of Semantics or of Interface that declares it.
        measure: (bench) -> what was found.
        has: whether a subject has it.
        any_shape: True where the call has a shape of its own, in which nothing is compiled.
        any_rows: True where only its classes are its own: its rows may be as many as usual.
        any_operation: True where it is not about cross-entropies alone.
    """

    name: str
    measure: Callable[[Bench], Found]
    has: Callable[[Subject], bool]
    any_shape: bool = False
    any_rows: bool = False
    any_operation: bool = False

    def fits(self, subject: Subject) -> bool:
        known = self.any_operation or subject.operation in CROSS_ENTROPIES
        # The conventions of a misuse are those of the op, which is a subject of its own.
        return known and not subject.misuse and self.has(subject) and not self._is_risky(subject)

    def _is_risky(self, subject: Subject) -> bool:
        """A label outside [0, K) may make a kernel read where it must not, and end the process.

        That may be the process of a user's own tests: what was not promised is not tried.
        """
        return self.name in ("label_policy", "ignore_index") and self.name in subject.undeclared


CROSS_ENTROPIES = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)


def _takes(*options: str) -> Callable[[Subject], bool]:
    return lambda s: set(options) <= s.options


def _is(*targets: str) -> Callable[[Subject], bool]:
    return lambda s: s.target in targets


def _from_probabilities(subject: Subject) -> bool:
    return not subject.from_logits


def _takes_ignored_labels(subject: Subject) -> bool:
    """By its options, or because it says what it does with the argument all the same."""
    return "ignore_index" in subject.options or (
        not subject.compiled and subject.interface.ignore_domain != ""
    )


# In this order: the guard before what is measured under it, and labels outside [0, K) last, since
# they may cost the worker its life.
FIELDS = (
    _Field("smoothing", formulas.smoothing, _takes("label_smoothing")),
    _Field(
        "weighted_smoothing",
        formulas.weighted_smoothing,
        lambda s: s.target == "index" and {"weight", "label_smoothing"} <= s.options,
    ),
    _Field("smoothing_domain", formulas.smoothing_domain, _takes("label_smoothing")),
    _Field("pos_weight", formulas.pos_weight, _takes("pos_weight")),
    _Field("mean", formulas.mean, lambda s: "mean" in s.reductions),
    _Field(
        "default_reduction",
        calls.default_reduction,
        lambda _: True,
        any_shape=True,
        any_rows=True,
        any_operation=True,
    ),
    _Field("plus_inf", formulas.plus_inf, lambda s: s.operation == "cross_entropy"),
    _Field(
        "soft_gradient",
        formulas.soft_gradient,
        lambda s: s.target == "distribution" and s.from_logits and s.gradients,
    ),
    _Field("target_domain", formulas.target_domain, _is("distribution", "binary")),
    _Field("guard", guards.guard, _from_probabilities),
    _Field(
        "guard_gradient",
        guards.guard_gradient,
        lambda s: _from_probabilities(s) and s.gradients,
    ),
    _Field(
        "renormalise",
        guards.renormalise,
        lambda s: s.operation == "cross_entropy_probabilities",
    ),
    _Field("focal", factors.focal, lambda s: "focal" in s.operation, any_operation=True),
    _Field("class_axis", calls.class_axis, _is("index", "distribution"), any_shape=True),
    _Field("last_axis", calls.last_axis, _is("binary"), any_shape=True),
    _Field("broadcasting", calls.broadcasting, lambda _: True, any_shape=True),
    _Field("output", formulas.output, lambda _: True, any_operation=True),
    _Field("mutates", calls.mutates, lambda _: True, any_operation=True),
    _Field(
        "all_ignored",
        formulas.all_ignored,
        lambda s: "ignore_index" in s.options and "mean" in s.reductions,
    ),
    _Field("ignore_domain", labels.ignore_domain, _takes_ignored_labels),
    _Field("ignore_index", labels.ignore_index, _is("index")),
    _Field(
        "unasked_mean",
        formulas.unasked_mean,
        lambda s: (
            s.target == "index"
            and s.semantics.ignore_index is not None
            and {"ignore_index"} <= s.options
            and "mean" in s.reductions
        ),
    ),
    _Field("label_policy", labels.label_policy, _is("index")),
)


def fields_of(subject: Subject) -> tuple[str, ...]:
    """The names of the conventions that mean something for a subject."""
    return tuple(field.name for field in FIELDS if field.fits(subject))


def probe(bench: Bench) -> tuple[Semantics, list[Measured]]:
    """Measure every field that this subject has; return the Semantics to judge it under."""
    found = []
    for field in FIELDS:
        if not field.fits(bench.subject):
            continue
        attempt = _attempt(field, bench)
        found.append(attempt.measured)
        if attempt.lost:
            break  # a subject that dies or hangs would do so again for every field
        left_open = field.name in bench.subject.undeclared
        if (left_open or attempt.measured.convention.agrees is False) and attempt.meant:
            bench = replace(bench, semantics=replace(bench.semantics, **attempt.meant))
    return bench.semantics, found


@dataclass(frozen=True)
class _Attempt:
    """What came of measuring one field, and whether the worker was lost over it."""

    measured: Measured
    meant: dict[str, object]
    lost: bool = False


def _attempt(field: _Field, bench: Bench) -> _Attempt:
    if field.any_shape and (reason := _declared_only(bench)):
        return _Attempt(_nothing(field, bench, f"declared only: {reason}"), {})
    try:
        alone = field.any_shape and not field.any_rows
        found = field.measure(replace(bench, rows=0) if alone else bench)
    except Undecided as undecided:
        return _Attempt(_nothing(field, bench, str(undecided)), {})
    except Failed as failed:
        outcome = failed.outcome
        first = (outcome.message.strip().splitlines() or [""])[0]
        reason = f"the call {outcome.status}: {first[:200]}"
        lost = outcome.status in ("crashed", "timed out")
        return _Attempt(_nothing(field, bench, reason), {}, lost)
    says = declared(bench.subject, field.name, bench.semantics)
    convention = Convention(
        subject=bench.subject.name,
        field=field.name,
        declared=says,
        measured=found.value,
        agrees=None if says == "" else found.value == says,
        evidence=found.evidence,
        input=in_words(found.case, bench.subject),
    )
    return _Attempt(Measured(convention, found.case), dict(found.meant))


def _declared_only(bench: Bench) -> str:
    """Why a subject is asked in no shape but that of its values; "" if it is."""
    subject = bench.subject
    if subject.shape is not None:
        return f"it is compiled for the one shape {subject.shape}"
    if bench.rows and subject.mode not in PLAIN:
        return "every shape is compiled, and the same op is asked, called plainly"
    return ""


def _nothing(field: _Field, bench: Bench, reason: str) -> Measured:
    convention = Convention(
        subject=bench.subject.name,
        field=field.name,
        declared=declared(bench.subject, field.name, bench.semantics),
        measured=NOT_MEASURED,
        agrees=None,
        evidence=reason,
    )
    return Measured(convention, None)


def declared(subject: Subject, field: str, semantics: Semantics) -> str:
    """What a subject declares of a field, in the words in which it is measured; "" for nothing."""
    if field in subject.undeclared:
        return ""
    if field == "guard":
        return guards.guard_text(semantics)
    if field == "guard_gradient":
        return guards.gradient_text(semantics)
    if field == "focal":
        return factors.focal_text(semantics)
    if field == "output":
        return "dtype of the inputs" if semantics.output == "input" else semantics.output
    if hasattr(semantics, field):
        return str(getattr(semantics, field))
    return str(getattr(subject.interface, field))
