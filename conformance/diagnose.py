"""`lossaudit.diagnose`: what the numbers of a training log or of a batch are consistent with.

>>> log = diagnose(losses=[0.9, 0.5, 0.3, 0.2, 0.1], classes=2)
>>> len(log)
0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .diagnosis import given as reading
from .diagnosis.batch import of_batch
from .diagnosis.found import Diagnosed, Diagnosis
from .diagnosis.given import DiagnosisError
from .diagnosis.log import of_log

__all__ = ["Diagnosed", "Diagnosis", "DiagnosisError", "diagnose"]


def diagnose(
    logits_or_probs: Any = None,
    targets: Any = None,
    losses: Any = None,
    *,
    classes: int | None = None,
    batch: int | None = None,
    label_smoothing: float | None = None,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    given: str | None = None,
    dtype: str | None = None,
) -> Diagnosed:
    """Say from numbers alone what a loss was used for that it is not meant for.

    Either a batch: predictions, their targets, and what the op returned for them. Or a log: the
    losses of a training, with the labels of its data as targets where these are at hand.

    Args:
        logits_or_probs: (N, K) what the model gave for a batch, or (N,) for binary labels; any
            more axes before the classes. None for a log.
        targets: (N,) class indices, (N, K) distributions, or binary labels of the shape of the
            predictions; with a log the labels of all data, which tell K and how many of each.
        losses: what the op returned: one number, or one for each row; of a log one a step.
        classes: K, for a log.
        batch: how many rows a loss of the log is the mean of.
        label_smoothing: what the op was asked for (eps/K; of binary labels toward 1/2). None where
            that is not known: any smoothing by eps/K of a usual eps is then right.
        weight: (K,) class weights that it was given.
        ignore_index: the label that it ignores; -100, as in torch, where it is not said.
        reduction: what is meant: "mean", over the weights or the rows that are not ignored;
            "mean over rows", all of them, as Keras and optax do; "sum".
        given: "logits" or "probabilities", what the predictions are; where it is not said, rows
            that sum to 1 are probabilities.
        dtype: the format in which the loss was computed, where it is not that of the numbers.

    Returns:
        The diagnoses, none where nothing shows; printed, each stands with its figures.

    Raises:
        DiagnosisError: a ValueError that says which argument cannot be read, and what would do.
    """
    said = reading.asked(
        classes, batch, label_smoothing, weight, ignore_index, reduction, given, dtype
    )
    if logits_or_probs is None:
        if losses is None:
            raise DiagnosisError(
                "nothing to look at: give losses, a training log, or logits_or_probs with targets "
                "and losses, a batch"
            )
        found, looked = of_log(reading.log(losses, targets, said))
    else:
        if targets is None:
            raise DiagnosisError("logits_or_probs without targets: give the targets of the batch")
        batches = reading.batches(logits_or_probs, targets, losses, said)
        # Infinite logits are read as what they are: masks, or what went wrong.
        with np.errstate(all="ignore"):
            found, looked = of_batch(batches)
    return Diagnosed(tuple(found), tuple(looked))
