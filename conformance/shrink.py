"""Make a failing row small: the row-level search that is seeded with what was found.

Hypothesis cannot be started from a given row, and asks one example at a time where a subject
answers 64 rows for the price of one. So candidates are tried a batch at a time: every one that
still fails in the same way is kept if it is simpler, until none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..reference.formats import FORMATS, round_to_format
from ..reference.vocabulary import (
    BY_ROW,
    LOG_PROBABILITIES,
    LOGITS,
    Case,
    Floats,
    Options,
    inputs_of,
)
from .regions import MANY, batch_rows

STILL_FAILS = Callable[[Case], np.ndarray]
"""(case of many rows) -> which rows show the same output in the same grade."""

SMALLEST_CLASSES = 3
"""Rows of more classes are cut to this: readable, and a shape that every subject was given."""

MANY_CLASSES = 16
"""Past this many classes a number at a time is too slow: blocks of them are set to zero."""

ROUND_SIZES = (20, 100, 500, 2000, 10000, 30000, 70000, 100000)
"""What a long row is cut to: few and round numbers of classes, since each is a shape of its own.
The first above 65504 is 70000."""

ROUNDS = 16
"""Each round halves at least one number's digits or removes it; 16 rounds end for every format."""


def shrink(row: Case, still_fails: STILL_FAILS, *, keep_classes: bool) -> Case:
    """The simplest row found that still fails.

    Args:
        row: a case of one row.
        still_fails: the predicate, batched.
        keep_classes: True where the subject is compiled for one shape.
    """
    row = _without_options(row, still_fails)
    if not keep_classes:
        row = _fewer_classes(row, still_fails)
        if row.inputs.shape[1] > MANY_CLASSES:
            row = _equal_numbers(row, still_fails)
    if row.inputs.shape[1] > MANY:
        return row  # every further candidate would cost what a batch of others does
    for _ in range(ROUNDS):
        better = _best(row, list(_simpler_rows(row)), still_fails)
        if better is None:
            return row
        row = better
    return row


def size(row: Case) -> tuple[float, ...]:
    """What 'simple' means: few classes, few digits, small numbers, few signs."""
    everything = row.inputs.reshape(-1)
    if row.target.ndim > 1:
        everything = np.concatenate([everything, np.asarray(row.target).reshape(-1)])
    digits = sum(map(_digits, everything.tolist()))
    finite = everything[np.isfinite(everything)]
    label = float(row.target.reshape(-1)[0]) if row.target.ndim == 1 else 0.0
    signs = float(np.signbit(finite).sum())
    with np.errstate(over="ignore"):
        total = float(np.abs(finite).sum())
    return (row.inputs.shape[1], digits, total, signs, label)


@lru_cache(maxsize=4096)  # candidates differ from their row in a number or two
def _digits(x: float) -> int:
    """Characters of the number; a zero counts nothing, an infinity or NaN one."""
    if x == 0:
        return 0
    if not np.isfinite(x):
        return 1
    return len(repr(abs(float(x))).removesuffix(".0"))


def stack(rows: list[Case]) -> Case:
    """One case of rows that share everything else."""
    first = rows[0]
    arrays = {name: [getattr(row, name) for row in rows] for name in BY_ROW}
    there = {name: each for name, each in arrays.items() if each[0] is not None}
    return replace(first, **{name: np.concatenate(each) for name, each in there.items()})


def _failing(candidates: list[Case], still_fails: STILL_FAILS) -> list[Case]:
    """Those that fail, asked in batches of one shape: a new shape is slow in some frameworks."""
    kept: list[Case] = []
    step = batch_rows(candidates[0].inputs.shape[1]) if candidates else 1
    for start in range(0, len(candidates), step):
        part = candidates[start : start + step]
        case = stack(part)
        full = case.take(np.resize(np.arange(len(part)), step))
        fails = still_fails(full)[: len(part)]
        kept += [c for c, failed in zip(part, fails, strict=True) if failed]
    return kept


def _best(row: Case, candidates: list[Case], still_fails: STILL_FAILS) -> Case | None:
    # A subtraction may overflow; a finite row must not become an infinite one: another bug.
    infinite, whole = int(np.isinf(row.inputs).sum()), size(row)
    simpler = [
        c
        for c in candidates
        if size(c) < whole and _in_domain(c) and np.isinf(c.inputs).sum() <= infinite
    ]
    failing = _failing(simpler, still_fails)
    return min(failing, key=size, default=None)


def _in_domain(row: Case) -> bool:
    """A probability must stay one; logits may be anything."""
    if inputs_of(row.operation) == LOGITS:
        return True
    if inputs_of(row.operation) == LOG_PROBABILITIES:
        return bool((row.inputs <= 0).all())
    return bool(((row.inputs >= 0) & (row.inputs <= 1)).all())


def _without_options(row: Case, still_fails: STILL_FAILS) -> Case:
    """The row without options, or with fewer of them, where that fails too."""
    plain = replace(row, options=Options(reduction=row.options.reduction))
    plain = replace(plain, sample_weight=None, cotangent=None)
    simpler = [plain, replace(row, sample_weight=None), replace(row, cotangent=None)] + [
        replace(row, options=replace(row.options, **{name: getattr(Options(), name)}))
        for name in row.options.passed()
    ]
    for candidate in simpler:
        if not _same_options(candidate, row) and _failing([candidate], still_fails):
            return candidate
    return row


def _same_options(a: Case, b: Case) -> bool:
    absent = [(c.sample_weight is None, c.cotangent is None) for c in (a, b)]
    return a.options == b.options and absent[0] == absent[1]


def _fewer_classes(row: Case, still_fails: STILL_FAILS) -> Case:
    classes = row.inputs.shape[1]
    if classes <= SMALLEST_CLASSES:
        return row
    candidates = [_keep(row, np.array(kept)) for kept in _subsets(row)]
    failing = _failing(candidates, still_fails)
    return min(failing, key=size, default=row)


def _subsets(row: Case) -> Iterator[list[int]]:
    """Class sets of the wanted size that hold the label and the largest logits."""
    z = np.nan_to_num(row.inputs[0], nan=np.inf)
    label = _label(row)
    others = [int(j) for j in np.argsort(-z, kind="stable") if j != label]
    picks = others[:8] + others[-8:]
    seen = set()
    for i in picks:
        for j in picks:
            kept = tuple(sorted({label, i, j}))
            if len(kept) == SMALLEST_CLASSES and kept not in seen:
                seen.add(kept)
                yield list(kept)


def _equal_numbers(row: Case, still_fails: STILL_FAILS) -> Case:
    """The row with one number repeated, or few of them in order, and as few classes as will do.

    A sum over many classes fails for how many they are; which is what such a row shows, and what a
    record and a script write in a line.
    """
    first = _label_first(row)
    z = first.inputs[0]
    quarters = np.rint(z[1:] * 4) / 4
    rows = (
        np.zeros_like(z),
        np.where(np.arange(z.size) == 0, z[0], 0.0),
        np.concatenate([z[:1], -np.sort(-quarters)]),
    )
    for candidate in (_with_inputs(first, each) for each in rows):
        if _in_domain(candidate) and _failing([candidate], still_fails):
            return _shortest(candidate, still_fails)
    return _shortest(first, still_fails) if _failing([first], still_fails) else row


def _label_first(row: Case) -> Case:
    """The row with the class of its label in the first place."""
    classes, label = row.inputs.shape[1], _label(row)
    return _keep(row, np.array([label, *(j for j in range(classes) if j != label)]))


def _shortest(row: Case, still_fails: STILL_FAILS) -> Case:
    """The row on its first classes, of the fewest of ROUND_SIZES that fail if all above do."""
    sizes = [size for size in ROUND_SIZES if size < row.inputs.shape[1]]
    best = row
    while sizes:
        middle = len(sizes) // 2
        shorter = _keep(row, np.arange(sizes[middle]))
        if _failing([shorter], still_fails):
            best, sizes = shorter, sizes[:middle]
        else:
            sizes = sizes[middle + 1 :]
    return best


def _label(row: Case) -> int:
    """The class that a row is about; the first one for a label that is none."""
    label = int(row.target[0]) if row.target.ndim == 1 else int(np.argmax(row.target[0]))
    return label if 0 <= label < row.inputs.shape[1] else 0


def _keep(row: Case, kept: np.ndarray) -> Case:
    """The row on some of its classes."""
    options = row.options
    if options.weight is not None:
        options = replace(options, weight=tuple(options.weight[j] for j in kept))
    if options.where is not None:
        options = replace(options, where=tuple(options.where[j] for j in kept))
    if row.direction is not None:
        row = replace(row, direction=row.direction[:, kept])
    if row.target.ndim == 1:
        place = np.flatnonzero(kept == row.target[0])
        label = place.astype(np.int64) if place.size else row.target
        return replace(row, inputs=row.inputs[:, kept], target=label, options=options)
    target = np.asarray(row.target)[:, kept]
    lost = np.asarray(row.target).sum() - target.sum()
    # What the dropped classes weighed goes to the heaviest one, so that the sum stays.
    target = target.copy()
    target[0, np.argmax(target[0])] += lost
    return replace(row, inputs=row.inputs[:, kept], target=target, options=options)


def _simpler_numbers(x: float) -> list[float]:
    """Numbers that are simpler than x and may still do."""
    if not np.isfinite(x) or x == 0:
        return []
    rounded = [np.rint(x * 2.0**k) / 2.0**k for k in (0, 1, 2, 4, 8, 16)]
    tens = [10.0 ** int(k) for k in np.arange(-2, 3)]
    decimal = [np.rint(x / t) * t for t in tens if abs(x) > t]
    power = float(np.copysign(2.0 ** np.rint(np.log2(abs(x))), x))
    return [0.0, float(np.sign(x)), -x, *map(float, rounded), *decimal, power]


def _simpler_rows(row: Case) -> Iterator[Case]:
    fmt = FORMATS[row.dtype]
    z = row.inputs[0]
    places = range(z.size) if z.size <= MANY_CLASSES else (int(np.argmax(z)), _label(row))
    found = [z - z[j] for j in places if np.isfinite(z[j])] or [z]
    found += [np.rint(z), np.rint(z * 4) / 4, np.rint(z * 64) / 64]
    if z.size > MANY_CLASSES:
        found += _flattened_blocks(z)
    else:
        for j, x in enumerate(z.tolist()):
            for simpler in _simpler_numbers(x):
                found.append(z.copy())
                found[-1][j] = simpler
    for changed in round_to_format(np.stack(found), fmt):
        yield _with_inputs(row, changed)
    if row.target.ndim > 1 and z.size <= MANY_CLASSES:
        yield from _simpler_targets(row)


def _flattened_blocks(z: Floats) -> Iterator[Floats]:
    """Blocks of a wide row set to zero, halves first: too many classes to try one by one."""
    for parts in (2, 4, 8, 16, 32):
        for block in np.array_split(np.arange(z.size), parts):
            changed = z.copy()
            changed[block] = 0.0
            yield changed


def _with_inputs(row: Case, z: Floats) -> Case:
    return replace(row, inputs=z[None, :])


def _simpler_targets(row: Case) -> Iterator[Case]:
    target = np.asarray(row.target, dtype=np.float64)[0]
    for j in range(target.size):
        hot = (np.arange(target.size) == j).astype(np.float64)
        yield replace(row, target=hot[None, :])
    if target.size == 1:
        for value in (0.0, 1.0, 0.5):
            yield replace(row, target=np.array([[value]]))
