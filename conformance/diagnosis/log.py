"""A log alone: losses of steps against what cannot be otherwise.

A training moves through all values, so that a single loss says nothing, and most logs say nothing.
What is said rests on values that a mistake makes exact:

- a loss below 0, which no cross-entropy has;
- a largest loss that comes again and again to the last digit, and is -log of a guard, or batch
  means that are whole numbers of it over the size of the batch;
- a plateau at a floor that a mistake has and the right loss has not: no loss is below it, and a
  tenth of the log lies within a distance e above it. A plateau that has nothing to do with it lies
  anywhere from 0 to the start of an ignorant model, log K: the chance is e / log K for each floor;
- losses that are such a floor and whole numbers of a batch's n-th above it, since a sample that is
  wrong with certainty costs exactly one more (see `misuse.forms`): with r the largest remainder of
  the later half, in n-ths, the chance is r for each number that occurs;
- a first loss that is log N or N log K where log K is due: the chance that an ignorant start lies
  so near, on a scale of ratios, is twice the relative distance.

What has a chance above CHANCE is not said. A chance is stated with what it is of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...reference.formats import FORMATS
from ...reference.vocabulary import Floats
from ..misuse import forms
from .found import Diagnosis, diagnosis
from .given import FEWEST, Log
from .readings import FLOOR, GUARDS, ROUND

CHANCE = 1e-3
"""What is said of a log is said by chance in at most one of a thousand that plateau or start there;
a statement carries its own figure."""

SUPPORT = 10
"""A plateau is a tenth of the log, and at least FEWEST losses."""

AGAIN = 3
"""Times that a largest loss must come for a cap: two equal ones are had by stopping."""

LATTICE = 2.0**-20
"""The chance that means are whole numbers of a cap: many sizes of batch and caps are tried on."""

MOST_ON_LATTICE = 64
"""The size of a batch up to which sums of two caps are looked for: there are as many as half its
square, and they soon lie everywhere."""

ROUNDINGS_OF_LOSS = 10
"""A logarithm of at most 4 ulps, which are 8 units, and two more roundings around it."""

ROUNDINGS_OF_MEAN = 38
"""Of a batch of at most 2^20 rows, by pairs in blocks of 16 (see `reference.bounds`): 36, and two
of the quotient."""

LARGEST_LOGIT = 2.0**14
"""Up to logits of that size a loss below 0 may be the cancellation of lse - z_y."""


@dataclass(frozen=True)
class Floor:
    """A least loss that a mistake has.

    Attributes:
        misuse: its id.
        value: the floor.
        ceiling: what no loss of that mistake exceeds.
        says: what it is, with its closed form.
        group: floors of one group share their chance.
    """

    misuse: str
    value: float
    ceiling: float
    says: str
    group: str


def of_log(log: Log) -> tuple[list[Diagnosis], list[str]]:
    """What a log shows, and what was looked at."""
    found = [*_negative(log)]
    if not found:
        found = [*_caps(log), *_lattices(log)]
    if not found:
        found = [*_plateaus(log), *_jumps(log), *_starts(log), *_below(log)]
    once: dict[str, Diagnosis] = {}
    for each in found:
        once.setdefault(each.misuse, each)
    return list(once.values()), _looked(log)


def _looked(log: Log) -> list[str]:
    finite = log.values[np.isfinite(log.values)]
    looked = [
        f"{len(log.values)} losses from {finite[0]:.6g} to {finite[-1]:.6g}, in {log.dtype}"
        + (f", written to {log.half_unit * 2:g}" if log.half_unit else "")
    ]
    looked.append("losses below 0; a largest one that is -log of a guard")
    if log.classes is None:
        looked.append("no floors and starts: say classes= (or give the labels of the data)")
    else:
        floors = ", ".join(dict.fromkeys(f.misuse for f in _floors(log)))
        looked.append(f"plateaus at the floors of: {floors}")
    if log.asked.batch is None:
        looked.append("no log N, no N log K, no whole numbers over N: say batch=")
    if log.asked.weight is not None:
        looked.append("no floors of smoothing: class weights move them")
    return looked


def _room(log: Log, values: Floats) -> Floats:
    """How far losses may be from what they are by rounding."""
    unit = FORMATS[log.dtype].unit_roundoff
    mean = 0 if log.asked.batch == 1 else ROUNDINGS_OF_MEAN
    relative = math.expm1((ROUNDINGS_OF_LOSS + mean) * math.log1p(unit))
    return np.asarray(relative * np.abs(values) + log.half_unit)


def _finite(log: Log) -> Floats:
    return log.values[np.isfinite(log.values)]


# --------------------------------------------------------------------------------- below 0, and cap


def _negative(log: Log) -> Iterator[Diagnosis]:
    values = _finite(log)
    unit = FORMATS[log.dtype].unit_roundoff
    below = values[values < -unit * LARGEST_LOGIT - log.half_unit]
    if len(below) < AGAIN:
        return
    least, count = float(values.min()), len(below)
    because = f"{count} of {len(values)} losses are below 0, the least {least:.6g}, and no "
    because += "cross-entropy is"
    if least >= -1.0 - float(_room(log, np.ones(1))[0]) and values.max() <= 0.0:
        because += "; none is below -1: minus the mean probability of the target lies in [-1, 0]"
        yield diagnosis("probabilities-for-logs", because, least=least, count=count)
        return
    because += " (nor is minus a probability below -1)" if least < -1.0 else ""
    more = "or with binary labels outside [0, 1], as -1 and 1"
    yield diagnosis("logits-for-log-probabilities", because, more, least=least, count=count)


def caps(dtype: str) -> dict[float, str]:
    """The largest losses behind guards, and what each is."""
    found = {}
    for eps in GUARDS:
        for cap, side in zip(forms.guard_caps(eps, dtype), ("p", "1 - p"), strict=False):
            found.setdefault(cap, f"-log of a {side} that is kept from 0 by {eps:g} in {dtype}")
    found[-FLOOR] = "minus torch's floor of each logarithm"
    return found


def _cap_tables(log: Log) -> dict[float, str]:
    """Those of float32 too, in which most frameworks compute what is then written in another."""
    return {**caps("float32"), **caps(log.dtype)}


def _caps(log: Log) -> Iterator[Diagnosis]:
    """The largest loss is a cap, and comes again to its last digit."""
    values = _finite(log)
    top = float(values.max())
    for cap, says in _cap_tables(log).items():
        room = float(_room(log, np.array([cap]))[0])
        there = int((np.abs(values - cap) <= room).sum())
        if there >= AGAIN and top <= cap + room:
            because = (
                f"no loss exceeds {cap:.6g}, which {there} of {len(values)} are to {room:.2g}: "
            )
            because += f"that is {says}"
            yield diagnosis("probability-guard", because, cap=cap, times=there, largest=top)
            return


def _lattices(log: Log) -> Iterator[Diagnosis]:
    """Batch means that are whole numbers of caps over N, where all else costs nothing."""
    n = log.asked.batch
    if n is None or not 2 <= n <= MOST_ON_LATTICE:
        return
    values = np.unique(_finite(log))
    values = values[values > 0.0]
    for says, both in _cap_pairs(log.dtype).items():
        first, last = both[0], both[-1]
        up = np.arange(n + 1)
        sums = (up[:, None] * first + (up * last if last != first else up[:1])[None, :]) / n
        levels = np.unique(sums[(sums > 0.0) & (sums <= max(both))])
        nearest = levels[np.abs(levels[:, None] - values).argmin(axis=0)]
        # What is not wrong costs -log of the upper limit, which is at most a unit below 1.
        room = _room(log, nearest) + 2.0 * FORMATS[log.dtype].unit_roundoff
        on = np.abs(values - nearest) <= room
        # The share of all numbers that lies so near a level, for each number that does.
        each = np.minimum(2.0 * room[on] * len(levels) / max(both), 1.0)
        chance = float(np.prod(each)) * math.comb(len(values), int(on.sum()))
        if (
            len(np.unique(nearest[on])) >= AGAIN
            and 2 * on.sum() >= len(values)
            and chance <= LATTICE
        ):
            costs = " or ".join(f"{cap:.6g}" for cap in dict.fromkeys(both))
            because = (
                f"{int(on.sum())} of {len(values)} different losses are sums of {costs} over {n}: "
                f"{says}, the cost of some samples of {n} while the others cost nothing"
            )
            yield diagnosis("probability-guard", because, cap=first, chance=chance)
            return


def _cap_pairs(dtype: str) -> dict[str, tuple[float, ...]]:
    """The caps of each guard, of both labels, and what it is."""
    found: dict[str, tuple[float, ...]] = {}
    for each in dict.fromkeys(("float32", dtype)):
        for eps in GUARDS:
            found[f"-log of what is kept from 0 by {eps:g} in {each}"] = forms.guard_caps(eps, each)
    return {**found, "minus torch's floor of each logarithm": (-FLOOR,)}


# ----------------------------------------------------------------------------------------- plateaus


def _floors(log: Log) -> list[Floor]:
    """The floors of the mistakes, as far as the log's data are known."""
    k = log.classes
    if k is None:
        return []
    found = [
        Floor(
            "double-softmax",
            float(forms.softmax_floor(k)),
            float(forms.softmax_ceiling(k)),
            f"log(1 + {k - 1}/e), the least loss of K = {k} with a softmax too many",
            "double-softmax",
        )
    ]
    if k == 2:
        share = log.counts[1] / sum(log.counts) if len(log.counts) == 2 else 0.5
        least, most = forms.sigmoid_range(share)
        says = f"the least mean with a sigmoid too many, of {share:.4g} labels 1"
        found.append(Floor("double-sigmoid", least, most, says, "double-sigmoid"))
    n = log.asked.batch
    if n is not None and n > k:
        counts = [each for each in log.counts if each] if sum(log.counts) == n else []
        least = forms.batch_floor(counts) if counts else math.log(n / k)
        says = f"sum n_k log n_k / N, the least loss with a softmax over a batch of {n}"
        found.append(Floor("wrong-axis", least, math.inf, says, "wrong-axis"))
    return found if log.asked.weight is not None else [*found, *_smoothing_floors(log, k)]


def _smoothing_floors(log: Log, k: int) -> list[Floor]:
    """Entropies of targets smoothed by eps/(K-1), and twice; those of eps/K once are right."""
    told = log.asked.label_smoothing
    shares = (told,) if told else ROUND if told is None else ()
    plain = [_entropy(eps, k, "eps/K") for eps in shares]
    found = []
    for eps in shares:
        for convention in ("eps/(K-1)", "eps/K twice"):
            value = _entropy(eps, k, convention)
            says = f"the entropy of a label smoothed by {convention} with eps = {eps:g}"
            # One that is also right for another usual eps says nothing.
            if all(abs(value - right) > 1e-12 * right for right in plain):
                found.append(Floor("smoothing", value, math.inf, says, "smoothing"))
    return found


def _entropy(eps: float, classes: int, convention: str) -> float:
    return float(forms.smoothed_floor(forms.share_of(eps, classes, convention), classes))


def _plateaus(log: Log) -> Iterator[Diagnosis]:
    """No loss is below a floor, and a tenth of them is just above it."""
    values = np.sort(_finite(log))
    many = max(FEWEST, len(values) // SUPPORT)
    floors = _floors(log)
    for floor in floors:
        room = float(_room(log, np.array([floor.value]))[0])
        least, most = float(values[0]), float(log.values.max())
        above = max(float(values[many - 1]) - floor.value, room)
        if least < floor.value - room or most > floor.ceiling + room or above <= 0.0:
            continue
        tried = sum(other.group == floor.group for other in floors)
        chance = tried * above / math.log(log.classes or 2)
        if chance <= CHANCE and _came_down(values, floor.value, above):
            because = (
                f"no loss is below {floor.value:.6g}, {floor.says}, and {many} of "
                f"{len(values)} are within {above:.2g} above it; a plateau elsewhere would be so "
                f"with a chance of {chance:.2g}"
            )
            yield diagnosis(floor.misuse, because, floor=floor.value, least=least, chance=chance)


def _came_down(values: Floats, floor: float, above: float) -> bool:
    """Whether the log is more than its plateau, so that it is one: something lies well above."""
    return bool(values[-1] - floor > SUPPORT * above)


def _jumps(log: Log) -> Iterator[Diagnosis]:
    """Whole numbers of samples that are wrong for certain, above the floor of a double softmax."""
    n, k = log.asked.batch, log.classes
    if n is None or k is None or n < 2:
        return
    floor = float(forms.softmax_floor(k))
    values = _finite(log)
    room = float(_room(log, np.array([floor + 1.0]))[0])
    if values.min() < floor - room or values.max() > floor + 1.0 + room:
        return
    later = (values[len(values) // 2 :] - floor) * n
    whole = np.floor(later + n * room)
    rest = float(np.maximum(later - whole, n * room).max())
    levels = len(np.unique(whole))
    chance = min(rest, 1.0) ** levels
    if levels >= AGAIN and chance <= CHANCE:
        because = (
            f"all losses lie between {floor:.6g}, log(1 + {k - 1}/e), and 1 above it, and those of "
            f"the later half are k/{n} above it for {levels} whole k, as far as {rest / n:.2g}: "
            f"what k samples cost that are wrong with certainty, by chance {chance:.2g}"
        )
        yield diagnosis("double-softmax", because, floor=floor, levels=levels, chance=chance)


# ------------------------------------------------------------------------------ starts, and too low


def _starts(log: Log) -> Iterator[Diagnosis]:
    """A first loss of log N, or of N log K, in place of log K."""
    n, k = log.asked.batch, log.classes
    if n is None or k is None or n in (1, k):
        return
    first, due = float(log.values[0]), math.log(k)
    if not math.isfinite(first):
        return
    starts = [("wrong-axis", math.log(n), f"log {n}, whatever K is")]
    if log.asked.reduction != "sum":
        starts.append(("wrong-reduction", n * due, f"{n} log {k}, the sum over a batch"))
    for misuse, start, says in starts:
        room = float(_room(log, np.array([start]))[0])
        chance = 2.0 * max(abs(first - start), room) / start
        lowest = float(_finite(log).min())
        low_enough = math.log(n / k) - room if misuse == "wrong-axis" and n > k else 0.0
        if chance <= CHANCE and lowest >= low_enough:
            because = (
                f"the first loss is {first:.6g}, which is {says} ({start:.6g}); an ignorant model "
                f"starts at log {k}, {due:.6g}, and so near by chance {chance:.2g}"
            )
            yield diagnosis(misuse, because, first=first, start=start, due=due, chance=chance)


def _below(log: Log) -> Iterator[Diagnosis]:
    """A loss below the entropy of the smoothed label, which is its least."""
    eps, k = log.asked.label_smoothing, log.classes
    if not eps or k is None or log.asked.weight is not None or log.asked.reduction != "mean":
        return
    floor = _entropy(eps, k, "eps/K")
    values = _finite(log)
    below = values[values < floor - float(_room(log, np.array([floor]))[0])]
    if len(below) >= AGAIN:
        because = (
            f"{len(below)} of {len(values)} losses are below {floor:.6g}, the entropy of a label "
            f"smoothed by eps/K with eps = {eps:g}, the least {below.min():.6g}: what was asked "
            "for was not applied, or not in full"
        )
        yield diagnosis("smoothing", because, floor=floor, least=float(below.min()))
