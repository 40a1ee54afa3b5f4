"""Stand-ins for a framework: a right implementation, and wrong ones that each break one law."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lossaudit.adapters.in_process import Function, InProcess
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.engine import CONVENTIONS, Settings, audit
from lossaudit.conformance.events import Event
from lossaudit.conformance.run import Convention, Finding, Incident
from lossaudit.reference.exact import round_exact, to_float
from lossaudit.reference.formats import FORMATS, next_up, round_to_format
from lossaudit.reference.rows import reduce_truth, target_truth, truth
from lossaudit.reference.vocabulary import Case, Floats


def right(subject: Subject) -> Function:
    """A correctly rounded implementation of a subject, by its own Semantics."""

    def call(case: Case) -> tuple[Floats, ...]:
        fmt = FORMATS[case.dtype]
        labels = np.asarray(case.target)
        if case.target.ndim == 1 and subject.semantics.label_policy == "raises":
            ignored = (labels == case.options.ignore_index) | (
                labels == subject.semantics.ignore_index
            )
            if ((labels < 0) | (labels >= case.inputs.shape[1]))[~ignored].any():
                raise IndexError("label out of range")
        rows = truth(case, subject.semantics)
        loss, gradient = reduce_truth(rows, case, subject.semantics)
        found = round_exact(loss, fmt), round_exact(gradient, fmt)
        if not case.by_target:
            return found
        return *found, round_exact(target_truth(case, subject.semantics).gradient, fmt)

    return call


def deaf(subject: Subject) -> Function:
    """A gradient computed in the forward pass and scaled by the first cotangent alone."""

    def call(case: Case) -> tuple[Floats, ...]:
        if case.cotangent is not None:
            first = np.full_like(case.cotangent, case.cotangent[0])
            case = replace(case, cotangent=first)
        return right(subject)(case)

    return call


def gauss_newton_without_its_mean(subject: Subject) -> Function:
    """H v taken as p v: the diagonal of softmax alone, and p without 1 - p."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        if case.direction is None:
            return loss, gradient
        with np.errstate(all="ignore"):
            e = np.exp(case.inputs - case.inputs.max(axis=1, keepdims=True, initial=0.0))
            p = e / e.sum(axis=1, keepdims=True) if e.shape[1] > 1 else e / (1 + e)
        return loss, round_to_format(p * case.direction, FORMATS[case.dtype])

    return call


def detached_target(subject: Subject) -> Function:
    """The target taken for a constant in a part of the loss."""

    def call(case: Case) -> tuple[Floats, ...]:
        found = right(subject)(case)
        return (*found[:2], np.maximum(found[2], 0.0) / 2) if case.by_target else found

    return call


def nan_times_zero(subject: Subject) -> Function:
    """-inf times a target of zero: the sum over all classes of q log p, without the limit."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        if case.target.ndim > 1 and case.options.reduction == "none":
            struck = (np.isneginf(case.inputs) & (np.asarray(case.target) == 0)).any(axis=1)
            loss = np.where(struck, np.nan, loss)
        return loss, gradient

    return call


def scaled_loss(subject: Subject) -> Function:
    """One part in 64 too much: past any bound in float32, and in bfloat16 by a few ulps."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        return round_to_format(loss * (1 + 2.0**-6), FORMATS[case.dtype]), gradient

    return call


def scaled_gradient(subject: Subject) -> Function:
    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        return loss, round_to_format(gradient * (1 + 2.0**-6), FORMATS[case.dtype])

    return call


def lost_target_gradient(subject: Subject) -> Function:
    """softmax(z) without - y in the first class of every row."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        gradient = gradient.copy()
        if gradient.size:
            gradient[:, 0] = np.abs(gradient[:, 0])
        return loss, gradient

    return call


def unshifted(subject: Subject) -> Function:
    """log(sum(exp(z))) - z_t in the format, without subtracting the maximum."""

    def call(case: Case) -> tuple[Floats, ...]:
        fmt = FORMATS[case.dtype]
        loss, gradient, *_ = right(subject)(case)
        if case.target.ndim > 1 or not case.rows:
            return loss, gradient
        with np.errstate(all="ignore"):
            e = round_to_format(np.exp(case.inputs), fmt)
            lse = round_to_format(np.log(round_to_format(e.sum(axis=1), fmt)), fmt)
            picked = np.take_along_axis(case.inputs, np.asarray(case.target)[:, None], 1)[:, 0]
            naive = round_to_format(lse - picked, fmt)
        return (naive if case.options.reduction == "none" else loss), gradient

    return call


def sum_past_65504(subject: Subject) -> Function:
    """The sum of exponentials kept in float16, as torch keeps it on a CPU."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        if case.options.reduction != "none" or not case.rows:
            return loss, gradient
        with np.errstate(all="ignore"):
            whole = np.exp(case.inputs - case.inputs.max(axis=1, keepdims=True)).sum(axis=1)
        return np.where(whole > FORMATS["float16"].max, np.inf, loss), gradient

    return call


def naive_tail(subject: Subject) -> Function:
    """BCE as max(z, 0) - z y + log(1 + e^-|z|) with the sum rounded: nothing left of a tail."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        if case.options != type(case.options)():
            return loss, gradient
        fmt = FORMATS[case.dtype]
        z, y = case.inputs[:, 0], np.asarray(case.target)[:, 0]
        with np.errstate(all="ignore"):
            one_plus = round_to_format(1 + np.exp(-np.abs(z)), fmt)
            tail = np.where(z < 0, np.log(one_plus), np.log1p(np.exp(-np.abs(z))))
            naive = round_to_format(np.maximum(z, 0) - z * y + tail, fmt)
        return np.where(np.isfinite(z), naive, loss), gradient

    return call


def twice(subject: Subject) -> Function:
    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        return round_to_format(2 * loss, FORMATS[case.dtype]), gradient

    return call


def other_smoothing(subject: Subject) -> Function:
    """eps/(K-1) where eps/K is declared."""
    other = replace(subject, semantics=replace(subject.semantics, smoothing="eps/(K-1)"))
    return right(other)


def double_softmax(subject: Subject) -> Function:
    def call(case: Case) -> tuple[Floats, ...]:
        z = case.inputs
        with np.errstate(all="ignore"):
            e = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf))
            p = round_to_format(e / e.sum(axis=1, keepdims=True), FORMATS[case.dtype])
        return right(subject)(replace(case, inputs=p))

    return call


def silent(subject: Subject) -> Function:
    """Invalid labels give 0 instead of an exception, as a compiled mode might."""

    def call(case: Case) -> tuple[Floats, ...]:
        labels = np.asarray(case.target)
        bad = (labels < 0) | (labels >= case.inputs.shape[1])
        loss, gradient, *_ = right(subject)(replace(case, target=np.where(bad, 0, labels)))
        return np.where(bad, 0.0, loss), np.where(bad[:, None], 0.0, gradient)

    return call


def masked_by_a_product(subject: Subject) -> Function:
    """An ignored row times 0: what was NaN stays NaN."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, gradient, *_ = right(subject)(case)
        lost = np.asarray(np.isnan(case.inputs).any(axis=1))
        if case.options.reduction != "none":
            return np.where(lost.any(), np.nan, loss), gradient
        return np.where(lost, np.nan, loss), np.where(lost[:, None], np.nan, gradient)

    return call


def shifting_in_place(subject: Subject) -> Function:
    """Right numbers, but the maximum is subtracted from the caller's own logits."""

    def call(case: Case) -> tuple[Floats, ...]:
        outputs = right(subject)(replace(case, inputs=case.inputs.copy()))
        with np.errstate(invalid="ignore"):
            np.subtract(case.inputs, case.inputs.max(axis=1, keepdims=True), out=case.inputs)
        return outputs

    return call


def changed(change: Callable[[Case, Floats], Floats]) -> Replace:
    """A right implementation whose loss is changed, and rounded to the format again."""

    def make(subject: Subject) -> Function:
        def call(case: Case) -> tuple[Floats, ...]:
            loss, *more = right(subject)(case)
            with np.errstate(all="ignore"):
                return round_to_format(change(case, loss), FORMATS[case.dtype]), *more

        return call

    return make


def _doubled_sum(case: Case, loss: Floats) -> Floats:
    """Each row counted twice in the sum."""
    return 2 * loss if case.options.reduction == "sum" else loss


def _doubled_mean(case: Case, loss: Floats) -> Floats:
    """The mean divided by half of the rows."""
    return 2 * loss if case.options.reduction == "mean" else loss


def _above_its_lead(_: Case, loss: Floats) -> Floats:
    """A constant too much."""
    return loss + 100.0


def _last_row_twice(case: Case, loss: Floats) -> Floats:
    """The last row of a batch counted twice, where it is not the first too."""
    if case.rows < 2 or not loss.ndim:
        return loss
    return loss * (1.0 + (np.arange(case.rows) == case.rows - 1))


def _below_zero(_: Case, loss: Floats) -> Floats:
    """A constant taken off, which no gradient shows."""
    return loss - 1.0


def _of_its_class(case: Case, loss: Floats) -> Floats:
    """A factor for the first class, as a weight that was not asked for."""
    return np.where(case.target == 0, loss * 1.25, loss)


def _counting_masked(case: Case, loss: Floats) -> Floats:
    """A masked class counted as if it had a logit."""
    return loss + 0.25 * np.isneginf(case.inputs).sum(axis=1)


def _hardened(case: Case, loss: Floats) -> Floats:
    """Most of the loss of a soft target lost."""
    return np.where((np.asarray(case.target) == 1).any(axis=1), loss, loss / 8)


def _halved(_: Case, loss: Floats) -> Floats:
    """Half of the loss: of a uniform target less than its entropy."""
    return loss / 2


def _stepped(case: Case, loss: Floats) -> Floats:
    """A step up at every second quarter of the target's logit, as of a table that is too coarse."""
    if case.options.reduction != "none":
        return loss
    picked = np.take_along_axis(case.inputs, np.asarray(case.target)[:, None], 1)[:, 0]
    return loss + (np.floor(4 * picked) % 2 == 0)


def _of_its_rivals(case: Case, loss: Floats) -> Floats:
    """A loss that falls where another logit rises."""
    rivals = np.where(np.arange(case.inputs.shape[1]) == case.target[:, None], 0.0, case.inputs)
    return loss - 2 * rivals.sum(axis=1)


def _squared(_: Case, loss: Floats) -> Floats:
    """A loss that grows faster than its logits."""
    return loss + loss * loss


def _first_row_twice(case: Case, loss: Floats) -> Floats:
    """The first row of every batch counted twice."""
    return loss * (1.0 + (np.arange(case.rows) == 0)) if loss.ndim else loss


def _blind_to_strides(case: Case, loss: Floats) -> Floats:
    """The elements read one after the other, whatever the strides."""
    return np.roll(loss, 1) + 1.0 if case.layout == "strided" else loss


def eps_squared(subject: Subject) -> Function:
    """The smoothing applied to what was smoothed."""

    def call(case: Case) -> tuple[Floats, ...]:
        eps = case.options.label_smoothing**2
        return right(subject)(replace(case, options=replace(case.options, label_smoothing=eps)))

    return call


def knowing_two_names(subject: Subject) -> Function:
    """-1 and -100 are ignored; another label that is named as ignored has a loss."""

    def call(case: Case) -> tuple[Floats, ...]:
        loss, *more = right(subject)(case)
        named = case.options.ignore_index
        if named in (None, -1, -100):
            return loss, *more
        return np.where(case.target == named, 1.0, loss), *more

    return call


def refusing_another_name(subject: Subject) -> Function:
    """-1 and -100 may be ignored, and nothing else."""

    def call(case: Case) -> tuple[Floats, ...]:
        if case.options.ignore_index not in (None, -1, -100):
            raise ValueError(f"ignore_index {case.options.ignore_index} is not known here")
        return right(subject)(case)

    return call


def drifting(subject: Subject) -> Function:
    """Every second call is off in the last place."""
    calls = itertools.count()

    def call(case: Case) -> tuple[Floats, ...]:
        loss, *more = right(subject)(case)
        return next_up(loss, FORMATS[case.dtype]) if next(calls) % 2 else loss, *more

    return call


def widened(subject: Subject) -> Function:
    """The loss comes back in float16, whatever the inputs were."""

    def call(case: Case) -> tuple[Any, ...]:
        loss, *more = right(subject)(case)
        return loss.astype(np.float16), *more

    return call


@pytest.fixture(scope="session")
def faulty(loaded: Callable[[str, Path], ModuleType]) -> ModuleType:
    """The framework whose ops go wrong in every way, which runs in real workers."""
    path = Path(__file__).parents[1] / "adapters" / "faulty_adapter.py"
    return loaded("faulty_for_the_engine", path)


@dataclass(frozen=True)
class Audited:
    """What an audit of stand-ins said."""

    events: list[Event]

    @property
    def findings(self) -> list[Finding]:
        faults = [e for e in self.events if isinstance(e, Incident)]
        assert not faults, faults[0].message
        return [e for e in self.events if isinstance(e, Finding) and e.law != CONVENTIONS.name]

    @property
    def contradictions(self) -> dict[str, str]:
        """Fields that the probe measured otherwise than declared."""
        conventions = [e for e in self.events if isinstance(e, Convention)]
        return {c.field: c.measured for c in conventions if c.agrees is False}


Replace = Callable[[Subject], Function]


@pytest.fixture(scope="session")
def torch_subjects() -> dict[str, Subject]:
    """Declarations of the torch subjects by `op` or `op/mode`; torch itself is not asked."""
    found = {}
    for subject in FRAMEWORKS["torch"].subjects:
        key = subject.op if subject.mode == "eager" else f"{subject.op}/{subject.mode}"
        found[key] = subject
    return found


@pytest.fixture(scope="session")
def audited(torch_subjects: dict[str, Subject]) -> Callable[..., Audited]:
    """Audit stand-ins for torch: right ones, but for those replaced by name."""

    def run(
        judged: str,
        law: str = "",
        *,
        dtypes: tuple[str, ...] = ("float32",),
        seed: int = 0,
        depth: str = "quick",
        **replaced: Replace,
    ) -> Audited:
        wrong = {torch_subjects[k.replace("__", "/")].name: v for k, v in replaced.items()}
        functions = {s.name: wrong.get(s.name, right)(s) for s in torch_subjects.values()}
        context = [replace(s, dtypes=dtypes) for s in torch_subjects.values()]
        subject = replace(torch_subjects[judged], dtypes=dtypes)
        events: list[Event] = []
        settings = Settings(depth, seed, (law,) if law else ())
        audit([subject], settings, events.append, InProcess(functions), context)
        return Audited(events)

    return run


@pytest.fixture(scope="session")
def mutants() -> dict[str, Replace]:
    changes = (
        _doubled_mean,
        _above_its_lead,
        _last_row_twice,
        _doubled_sum,
        _below_zero,
        _of_its_class,
        _counting_masked,
        _hardened,
        _halved,
        _stepped,
        _of_its_rivals,
        _squared,
        _first_row_twice,
        _blind_to_strides,
    )
    return {change.__name__[1:]: changed(change) for change in changes} | {
        function.__name__: function
        for function in (
            eps_squared,
            knowing_two_names,
            refusing_another_name,
            drifting,
            widened,
            nan_times_zero,
            scaled_loss,
            scaled_gradient,
            lost_target_gradient,
            unshifted,
            naive_tail,
            sum_past_65504,
            twice,
            other_smoothing,
            double_softmax,
            silent,
            deaf,
            detached_target,
            gauss_newton_without_its_mean,
            shifting_in_place,
            masked_by_a_product,
            right,
        )
    }


@pytest.fixture(scope="session")
def floats() -> Callable[..., Floats]:
    """The float64 nearest to an Exact, for assertions."""
    return to_float


# --- a stand-in for every convention --------------------------------------------------------------


def behaving(subject: Subject) -> Function:
    """A correctly rounded implementation that follows each convention of a subject."""

    def call(case: Case) -> tuple[Floats, ...]:
        reduction = case.options.reduction
        if reduction == "default":
            reduction = subject.interface.default_reduction
        given, divisor = case.inputs, 1
        if reduction == "mean of elements":
            reduction, divisor = "mean", given.shape[1]
        asked = replace(case, options=replace(case.options, reduction=reduction))
        found = tuple(part / divisor for part in _shaped(subject, asked))
        if subject.interface.mutates == "yes":
            given += 1.0
        return found

    return call


def _shaped(subject: Subject, case: Case) -> tuple[Floats, ...]:
    """The axes and shapes that only the probe asks for."""
    taken, shape = subject.interface, case.inputs.shape
    if case.inputs.ndim == 3:
        turned = taken.class_axis == "second"
        inputs, target = case.inputs[0], case.target[0]
        if turned:
            inputs, target = inputs.T, target.T
        loss, gradient, *_ = _rows(subject, replace(case, inputs=inputs, target=target))
        return loss[None], (gradient.T if turned else gradient)[None]
    if subject.target == "binary" and shape[1] > 1:
        column = (case.inputs.reshape(-1, 1), case.target.reshape(-1, 1))
        loss, gradient, *_ = _rows(subject, replace(case, inputs=column[0], target=column[1]))
        loss = loss.reshape(shape)
        kept = taken.last_axis == "kept"
        return (loss if kept else loss.mean(axis=1)), gradient.reshape(shape)
    right_shape = shape[:1] if subject.target == "index" else shape
    if case.target.shape == right_shape:
        return _rows(subject, case)
    if taken.broadcasting == "raises":
        raise ValueError(f"target {case.target.shape} does not fit {shape}")
    if taken.broadcasting == "reshapes":
        return _rows(subject, replace(case, target=case.target.reshape(right_shape)))
    if subject.target == "distribution":
        return _rows(subject, replace(case, target=case.target * np.ones(shape)))
    # Every row with every target.
    labels = case.target.reshape(-1)
    every = [np.full(right_shape, label, case.target.dtype) for label in labels]
    columns = [_rows(subject, replace(case, target=target))[0] for target in every]
    return np.stack(columns, axis=1), np.zeros(shape)


def _rows(subject: Subject, case: Case) -> tuple[Floats, ...]:
    """Rows of a valid shape: what is refused, what labels outside [0, K) do, and the formulas."""
    domain, ignore = subject.interface.ignore_domain, case.options.ignore_index
    if ignore is not None and domain not in ("", "any"):
        place = {-1: "-1", 1: "1"}.get(ignore, "K + 2")
        what = _said(domain, place)
        if what == "raises":
            raise ValueError(f"ignore_index {ignore} is not taken")
        if what != "ignores":
            case = replace(case, options=replace(case.options, ignore_index=None))
    case = _in_smoothing_domain(subject, case)
    if subject.target != "index":
        _demand_domain(subject, case)
        return _formulas(subject, case)
    target = np.array(case.target)
    classes = case.inputs.shape[1]
    ignored = [case.options.ignore_index, subject.semantics.ignore_index]
    outside = [
        (i, int(label))
        for i, label in enumerate(target)
        if not 0 <= label < classes and label not in ignored
    ]
    numbers = {}
    for i, label in outside:
        place = {-1: "-1", classes: "K"}.get(label, "-10^6" if label < 0 else "10^6")
        what = _said(subject.semantics.label_policy, place)
        if what == "raises":
            raise IndexError(f"label {label} is out of range")
        target[i] = min(max(label, 0), classes - 1) if what == "clamps" else label % classes
        if what not in ("wraps", "clamps"):
            numbers[i] = {"nan": np.nan, "zero": 0.0}.get(what, 7.0)
    loss, *gradients = _formulas(subject, replace(case, target=target))
    for i, number in numbers.items():
        loss[i] = number
    return (loss, *gradients)


def _said(policies: str, place: str) -> str:
    """What "this (here); that (there, elsewhere)" says of a place."""
    for part in policies.split("; "):
        what, _, places = part.partition(" (")
        if not places or place in places.rstrip(")").split(", "):
            return what
    raise KeyError(place)


def _in_smoothing_domain(subject: Subject, case: Case) -> Case:
    eps = case.options.label_smoothing
    if 0 <= eps <= 1 or not subject.interface.smoothing_domain:
        return case
    what = _said(subject.interface.smoothing_domain, "-1/8" if eps < 0 else "3/2")
    if what == "raises":
        raise ValueError(f"label_smoothing {eps} is not taken")
    return (
        case
        if what == "computes"
        else replace(case, options=replace(case.options, label_smoothing=0.0))
    )


def _demand_domain(subject: Subject, case: Case) -> None:
    target = np.asarray(case.target)
    outside = bool(((target < 0) | (target > 1)).any())
    half = subject.target == "distribution" and bool((target.sum(axis=1) == 0.5).any())
    for place, there in (("outside [0, 1]", outside), ("sum 1/2", half)):
        if there and _said(subject.interface.target_domain, place) == "raises":
            raise ValueError(f"the target is {place}")


def _formulas(subject: Subject, case: Case) -> tuple[Floats, ...]:
    meant, options, factor = subject.semantics, case.options, 1.0
    if options.label_smoothing and meant.smoothing == "none":
        options = replace(options, label_smoothing=0.0)
    if options.pos_weight and subject.interface.pos_weight != "positive term":
        factor = options.pos_weight if subject.interface.pos_weight == "both terms" else 1.0
        options = replace(options, pos_weight=None)
    by_label = subject.interface.weighted_smoothing == "label"
    if options.weight and options.label_smoothing and by_label:
        factor = options.weight[int(case.target[0])]
        options = replace(options, weight=None)
    case, fmt = replace(case, options=options), FORMATS[case.dtype]
    mixed = meant.plus_inf == "unspecified"
    meant = replace(meant, plus_inf="limit") if mixed else meant
    found = reduce_truth(truth(case, meant), case, meant)
    loss, gradient = (factor * np.array(round_exact(part, fmt)) for part in found)
    if mixed and case.options.reduction == "none":
        loss = np.where(np.isposinf(case.inputs).any(axis=1) & (loss == 0), np.nan, loss)
    return loss, gradient


@pytest.fixture(scope="session", name="behaving")
def _behaving() -> Replace:
    return behaving
