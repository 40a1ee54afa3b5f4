"""A batch: which readings of its predictions and targets give the losses that came.

Nothing is said while a right reading is within its own bounds, or has none. Then come the readings
with one mistake, and those with two, a misuse and a wrong reduction, only where none with one fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...reference.bounds import half_ulp
from ...reference.formats import FORMATS
from ...reference.vocabulary import Floats
from .found import Diagnosis, diagnosis
from .given import Batch, DiagnosisError
from .labels import of_labels
from .readings import Losses, Reading, as_probabilities, crowded, right, wrong


@dataclass(frozen=True)
class Divisor:
    """What the losses of the rows are added up and divided by.

    Attributes:
        what: in words.
        value: the number.
        roundings: that are spent on it.
    """

    what: str
    value: float
    roundings: int = 0


@dataclass(frozen=True)
class Fit:
    """A reading beside the losses that came.

    Attributes:
        reading: what was read.
        divisor: by which its losses were reduced; None for those of rows.
        came, value, error: (R,) the losses, those of the reading, and its bounds.
    """

    batch: Batch
    reading: Reading
    divisor: Divisor | None
    came: Floats
    value: Floats
    error: Floats

    @property
    def distance(self) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.where(self.came == self.value, 0.0, np.abs(self.came - self.value))

    @property
    def decided(self) -> np.ndarray:
        """Where there is a bound."""
        return np.isfinite(self.error) & ~np.isnan(self.value)

    @property
    def within(self) -> bool:
        """Whether nothing speaks against the reading."""
        return bool((self.distance <= self.error)[self.decided].all())

    @property
    def shown(self) -> bool:
        """Whether it is within its bounds, and has some."""
        return self.within and bool(self.decided.any())

    def worst(self) -> int:
        """The place where the reading is farthest out, in units of its bound."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.where(self.decided, self.distance / self.error, -1.0)
        return int(np.nan_to_num(out, nan=-1.0, posinf=math.inf).argmax())


def of_batch(batches: list[Batch]) -> tuple[list[Diagnosis], list[str]]:
    """What a batch shows, and what was looked at."""
    first = batches[0]
    # A batch that may be one of several classes is judged by its labels as such.
    found = list(of_labels(first))
    looked = [_described(first)]
    batches = [_in_range(batch) for batch in batches]
    batches = [batch for batch in batches if batch.losses is not None]
    if not batches:
        looked.append("the labels and the predictions; no losses to compare")
        return found, looked
    for batch in batches:
        _demand_numbers(batch)
    usable = [batch for batch in batches if not batch.outside.any()]
    plain: list[Fit] = []
    if all(batch.ignored.all() for batch in usable) and usable:
        looked.append("every row is ignored")
        return found, looked
    meant = [(batch, list(right(batch))) for batch in usable]
    for fit in (fit for batch, readings in meant for fit in _fits(batch, readings, _meant(batch))):
        plain.append(fit)
        if fit.within:
            break
    if plain and plain[-1].within:
        last = plain[-1]
        looked.append(f"the losses are those of {last.reading.says}{_reduced(last)}")
        looked += _ambiguous(last.batch)
        if last.batch.binary and not first.binary:
            # Each class has a label of its own: rows need not sum to 1.
            found = [each for each in found if each.misuse != "labels-not-normalised"]
        return found, looked
    if len(usable) < len(batches) and not usable:
        looked.append("a reduced loss with labels that are no class: no other reading was tried")
        return found, looked
    return [*found, *_misuses(meant, plain, looked)], looked


def _misuses(
    meant: list[tuple[Batch, list[Reading]]], plain: list[Fit], looked: list[str]
) -> list[Diagnosis]:
    """The readings with one mistake that fit, else those with two."""
    mistaken = [(batch, list(wrong(batch))) for batch, _ in meant]
    honest = plain[0] if plain else None
    reduced = [f for b, each in meant for f in _fits(b, each, _others(b))]
    single = [f for b, each in mistaken for f in _fits(b, each, _meant(b))]
    chosen = [f for f in (*single, *reduced) if f.shown and _apart(f, plain)]
    tried = len(reduced) + len(single)
    if not chosen:
        double = [f for b, each in mistaken for f in _fits(b, each, _others(b))]
        chosen = [f for f in double if f.shown and _apart(f, plain)]
        tried += len(double)
    looked.append(f"{len(plain)} right readings of the predictions, {tried} with a mistake")
    if crossed := [b for b, _ in meant if b.crossed]:
        chosen = chosen or [
            f for b in crossed for f in _broadcast(b) if f.shown and _apart(f, plain)
        ]
    if not chosen:
        looked.append("no reading that is known gives these losses")
    return [d for name, fits in _by_misuse(chosen) for d in _told(name, fits[0], honest)]


NARROW = 2.0**-4
"""A reading is evidence where its bounds leave, all losses together, at most a sixteenth of the way
to the right reading: wider ones take in whatever came, such as the mean of saturated sigmoids."""


def _apart(fit: Fit, plain: list[Fit]) -> bool:
    """Whether the bounds of a reading are too narrow for the right one, which it then is not."""
    right_ones = [each.value for each in plain if each.batch is fit.batch]
    right_one = right_ones[0] if right_ones else np.zeros_like(fit.value)
    with np.errstate(invalid="ignore", divide="ignore"):
        way = np.abs(right_one - fit.value)
        left = np.where(fit.decided & ~np.isnan(way), np.minimum(fit.error / way, 1.0), 1.0)
    # 0 / 0 is where both are the same.
    return float(np.prod(np.nan_to_num(left, nan=1.0))) <= NARROW


def _by_misuse(fits: Iterable[Fit]) -> list[tuple[str, list[Fit]]]:
    found: dict[str, list[Fit]] = {}
    for fit in fits:
        found.setdefault(fit.reading.misuse or "wrong-reduction", []).append(fit)
    return list(found.items())


def _told(name: str, fit: Fit, honest: Fit | None) -> Iterator[Diagnosis]:
    """A diagnosis in words, and one of the reduction where that is wrong beside it."""
    count, where = int(fit.decided.sum()), fit.worst()
    worst, bound = float(fit.distance[where]), float(fit.error[where])
    these = "the loss is" if count == 1 else f"{count} of {len(fit.came)} losses are"
    because = (
        f"{these} {fit.reading.says}{_reduced(fit)}, to {worst:.2g} where rounding in "
        f"{fit.batch.dtype} may make {bound:.2g}"
    )
    figures = {"came": fit.came[where], "value": fit.value[where], "bound": bound}
    if honest is not None:
        at = honest.worst()
        place = "" if len(honest.came) == 1 else f" of row {at}"
        because += (
            f"; {honest.reading.says}{_reduced(honest)} would be {honest.value[at]:.6g}{place}, "
            f"where {honest.came[at]:.6g} came"
        )
        figures["right"] = honest.value[at]
    yield diagnosis(name, because, **figures)
    alone = name in ("wrong-reduction", "labels-broadcast")
    if not alone and fit.divisor is not None and fit.divisor != _meant(fit.batch)[0]:
        because = f"with that reading the losses of the rows are {_how(fit.divisor)}"
        yield diagnosis("wrong-reduction", because, divisor=fit.divisor.value)


def _reduced(fit: Fit) -> str:
    return "" if fit.divisor is None else f", {_how(fit.divisor)}"


def _how(divisor: Divisor) -> str:
    if divisor.value == 1.0:
        return "added up"
    return f"added up and divided by {divisor.what}, {divisor.value:g}"


def _described(batch: Batch) -> str:
    kinds = "binary predictions" if batch.binary else f"rows of {batch.classes} classes"
    how = "as probabilities" if not batch.binary and as_probabilities(batch) else "as logits"
    how = "" if batch.binary else f", read {how}"
    return f"{batch.rows} {kinds}{how}, in {batch.dtype}"


def _ambiguous(batch: Batch) -> list[str]:
    inside = bool(((batch.x >= 0.0) & (batch.x <= 1.0)).all())
    if not batch.binary or batch.asked.given is not None or not inside or crowded(batch):
        return []
    more = 'say given="probabilities" if they are such, and a sigmoid too many can be told'
    return [f"all predictions lie in [0, 1]: {more}"]


# ------------------------------------------------------------------------------------- the losses


def _in_range(batch: Batch) -> Batch:
    """Without the rows whose label is no class, where every row has a loss of its own."""
    outside = batch.outside
    if batch.losses is None or not outside.any() or len(batch.losses) != batch.rows:
        return batch
    keep = ~outside
    if not keep.any():
        return replace(batch, losses=None)
    return replace(batch, x=batch.x[keep], target=batch.target[keep], losses=batch.losses[keep])


def _demand_numbers(batch: Batch) -> None:
    losses = np.asarray(batch.losses)
    wrong = np.flatnonzero(np.isnan(losses))
    if wrong.size and not batch.outside.any():
        at = "" if losses.size == 1 else f"[{int(wrong[0])}]"
        raise DiagnosisError(
            f"losses{at} is NaN, with labels that are all in range; look for infinite or NaN "
            "logits, and for a sum of probabilities that is 0"
        )


def _meant(batch: Batch) -> list[Divisor | None]:
    """The reduction that was meant."""
    if batch.losses is not None and len(batch.losses) == batch.rows:
        return [None]
    if batch.asked.reduction == "sum":
        return [_SUM]
    names = _divisors(batch)
    if batch.asked.reduction == "mean over rows":
        return [names["rows"]]
    return [names["weights"] if "weights" in names else names["valid"]]


_SUM = Divisor("nothing", 1.0)


def _divisors(batch: Batch) -> dict[str, Divisor]:
    groups = 1 if batch.losses is None else len(batch.losses)
    rows = batch.rows // groups
    found = {"rows": Divisor("the number of rows", rows), "sum": _SUM}
    found["valid"] = found["rows"]
    if batch.binary:
        if batch.labels > 1 and groups == 1:
            found["rows"] = found["valid"] = Divisor("the number of elements", rows)
            found["each"] = Divisor("the number of rows, over their labels", rows / batch.labels)
        return found
    valid = int((~batch.ignored).sum())
    if valid != rows:
        found["valid"] = Divisor("the number of rows that are not ignored", valid)
    if batch.asked.weight is not None and batch.index:
        weight = np.asarray(batch.asked.weight)[batch.target[~batch.ignored]]
        found["weights"] = Divisor("the sum of their weights", math.fsum(weight), rows)
    found["elements"] = Divisor("the number of rows times classes", rows * batch.classes)
    return found


def _others(batch: Batch) -> list[Divisor | None]:
    """Every other reduction that gives another number."""
    meant = _meant(batch)[0]
    if meant is None:
        return []
    found: dict[float, Divisor | None] = {meant.value: None}
    for divisor in _divisors(batch).values():
        found.setdefault(divisor.value, divisor)
    return [divisor for divisor in found.values() if divisor is not None]


def _fits(
    batch: Batch, readings: Iterable[Reading], divisors: list[Divisor | None]
) -> Iterator[Fit]:
    if not divisors:
        return
    came = np.asarray(batch.losses)
    for reading in readings:
        losses = reading.losses()
        for divisor in divisors:
            if divisor is None:
                yield Fit(batch, reading, None, came, losses.value, losses.error)
            elif divisor.value != 0.0:
                value, error = _added(losses, len(came), divisor, batch.dtype)
                yield Fit(batch, reading, divisor, came, value, error)


def _added(losses: Losses, groups: int, divisor: Divisor, dtype: str) -> tuple[Floats, Floats]:
    """Sums of groups of rows over a divisor, and their bounds.

    Of n rows there are n - 1 additions in any order, two roundings of a quotient by a reciprocal,
    those of the divisor, and one where the sum is rounded to the format once more.
    """
    value, error = losses.value.reshape(groups, -1), losses.error.reshape(groups, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        roundings = value.shape[1] + 2 + divisor.roundings
        grown = math.expm1(roundings * math.log1p(FORMATS[dtype].unit_roundoff))
        total = error.sum(axis=1)
        total = total + grown * (np.abs(value).sum(axis=1) + total)
        mean = value.sum(axis=1) / divisor.value
        total = total / divisor.value
        return mean, total + half_ulp(np.abs(mean) + total, FORMATS[dtype])


def _broadcast(batch: Batch) -> Iterator[Fit]:
    """Each prediction with each label: what (N, 1) against (N,) becomes."""
    if batch.losses is None or len(batch.losses) != 1:
        return
    n = batch.rows
    every = replace(
        batch, x=np.repeat(batch.x, n, axis=0), target=np.tile(batch.target, (n, 1)), crossed=False
    )
    for fit in _fits(every, right(every), [Divisor("the square of the number of rows", n * n)]):
        says = f"{fit.reading.says}, of each prediction with each label"
        yield replace(fit, reading=replace(fit.reading, misuse="labels-broadcast", says=says))
