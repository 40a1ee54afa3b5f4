"""What the targets alone show, and the predictions beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .found import Diagnosis, diagnosis
from .given import Batch
from .readings import is_distribution


def of_labels(batch: Batch) -> Iterator[Diagnosis]:
    """Targets that are none, and predictions that are shared out over the batch."""
    if batch.binary:
        yield from _outside_0_1(batch)
    elif batch.index:
        yield from _outside(batch)
    else:
        yield from _sums(batch)
    if not batch.binary:
        yield from _columns(batch)


def _outside(batch: Batch) -> Iterator[Diagnosis]:
    wrong = batch.target[batch.outside]
    if not wrong.size:
        return
    k, count = batch.classes, wrong.size
    values = sorted(set(wrong.tolist()))
    shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
    kept = batch.target[~batch.ignored]
    because = f"{count} of {batch.rows} labels are outside [0, {k}): {shown}"
    if kept.min() == 1 and kept.max() == k:
        because += f"; all lie in [1, {k}], as labels do that are counted from 1"
    least, most = float(wrong.min()), float(wrong.max())
    yield diagnosis("labels-out-of-range", because, count=count, least=least, most=most)


def _sums(batch: Batch) -> Iterator[Diagnosis]:
    """Rows that do not sum to 1, as far as K numbers of the format can be made to."""
    if multi_label(batch):
        return
    sums = batch.target.sum(axis=1)
    # Each entry is rounded, by half a unit of at most 1, and so is each of the K - 1 sums.
    off = np.abs(sums - 1.0) > 2.0 * batch.classes * batch.unit
    if not off.any():
        return
    zero = int((sums == 0.0).sum())
    worst = int(np.abs(sums - 1.0).argmax())
    because = (
        f"{int(off.sum())} of {batch.rows} target rows do not sum to 1: row {worst} sums to "
        f"{sums[worst]:.6g}"
    ) + (f", {zero} rows are 0 throughout" if zero else "")
    yield diagnosis(
        "labels-not-normalised", because, rows=int(off.sum()), zero=zero, sum=sums[worst]
    )


def multi_label(batch: Batch) -> bool:
    """Whether a row may be right for several classes at once: 0 and 1 alone, some row with more."""
    whole = bool(np.isin(batch.target, (0.0, 1.0)).all())
    return whole and bool((batch.target.sum(axis=1) > 1.0).any())


def _outside_0_1(batch: Batch) -> Iterator[Diagnosis]:
    wrong = batch.target[(batch.target < 0.0) | (batch.target > 1.0)]
    if not wrong.size:
        return
    because = (
        f"{wrong.size} of {batch.target.size} labels are outside [0, 1], from "
        f"{batch.target.min():g} to {batch.target.max():g}"
    )
    yield diagnosis(
        "labels-outside-0-1",
        because,
        count=wrong.size,
        least=float(batch.target.min()),
        most=float(batch.target.max()),
    )


def _columns(batch: Batch) -> Iterator[Diagnosis]:
    """Columns that sum to 1 where rows do not."""
    x = batch.x
    if batch.asked.given == "logits" or batch.rows < 2 or is_distribution(x, batch.dtype):
        return
    if not is_distribution(x.T, batch.dtype):
        return
    row = int(np.abs(x.sum(axis=1) - 1.0).argmax())
    because = (
        f"each of the {batch.classes} columns of the predictions sums to 1, and the rows do not: "
        f"row {row} sums to {x[row].sum():.6g}"
    )
    yield diagnosis("wrong-axis", because, columns=batch.classes, row_sum=float(x[row].sum()))
