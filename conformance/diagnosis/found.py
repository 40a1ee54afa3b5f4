"""What a diagnosis says: the words of each misuse, and the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

ADVICE: dict[str, tuple[str, str]] = {
    "double-softmax": (
        "a softmax too many",
        "Give the loss the logits, or use the loss that takes probabilities.",
    ),
    "double-sigmoid": (
        "a sigmoid too many",
        "Give the binary loss the logit, or use the one that takes a probability.",
    ),
    "probabilities-for-logs": (
        "probabilities where log-probabilities are due",
        "Give the loss log_softmax(z), or use the cross-entropy that takes the logits.",
    ),
    "logits-for-log-probabilities": (
        "logits where log-probabilities are due",
        "Put log_softmax before the loss, or use the cross-entropy that takes the logits.",
    ),
    "logits-for-probabilities": (
        "logits where probabilities are due",
        (
            "Use the loss that takes logits (Keras: from_logits=True), or put the softmax or "
            "sigmoid into the model."
        ),
    ),
    "wrong-axis": (
        "a softmax over the samples of the batch",
        "Let the softmax go over the classes: the last axis, in torch dim=1.",
    ),
    "probability-guard": (
        "a guard that keeps probabilities away from 0",
        (
            "Where the guard acts the gradient is 0 and the loss too small. Use the loss that "
            "takes logits, which needs no guard."
        ),
    ),
    "smoothing": (
        "label smoothing other than the one that was meant",
        (
            "Smooth once, in the op or in the targets, and by one convention: eps of "
            "eps/(K-1) is eps K/(K-1) of eps/K."
        ),
    ),
    "binary-smoothing": (
        "binary label smoothing other than toward 1/2",
        "y (1 - eps) + eps/2 is what Keras does; 1 - eps for a 1 is an eps of twice that.",
    ),
    "wrong-reduction": (
        "another reduction than the one that was meant",
        (
            "Ask for the reduction by name, and divide by what counts: the rows that are not "
            "ignored, or the sum of their weights. The step of the optimiser scales with it."
        ),
    ),
    "labels-out-of-range": (
        "labels that are no class",
        "Class indices go from 0 to K - 1; name what shall be ignored by ignore_index.",
    ),
    "labels-mixed": (
        "class indices taken for distributions",
        "Give one-hot rows to an op that takes distributions, or use its sparse form.",
    ),
    "labels-not-normalised": (
        "soft labels that are no distributions",
        (
            "Divide each row by its sum, unless rows shall weigh more or less than 1. A row "
            "of zeros is what one_hot makes of a label outside [0, K): it costs nothing and "
            "is counted."
        ),
    ),
    "labels-outside-0-1": (
        "binary labels outside [0, 1]",
        "Binary cross-entropy takes labels from 0 to 1; turn y in {-1, 1} into (y + 1) / 2.",
    ),
    "labels-broadcast": (
        "predictions (N, 1) against labels (N,)",
        "Give both the same shape: broadcasting takes each prediction with each label.",
    ),
    "swapped": (
        "prediction and target in each other's place",
        "Keras takes (y_true, y_pred), torch (input, target).",
    ),
}
"""What each id of a misuse is called, and what to do. Those that `misuse.catalogue` has are its."""


@dataclass(frozen=True)
class Diagnosis:
    """One thing that the numbers are consistent with.

    Attributes:
        misuse: its id, that of `conformance.misuse.catalogue` where it is there.
        statement: "consistent with ...".
        because: what in the numbers says so, with figures.
        figures: these figures by name.
        advice: what to do.
    """

    misuse: str
    statement: str
    because: str
    figures: tuple[tuple[str, float], ...]
    advice: str

    def __str__(self) -> str:
        return f"{self.statement}, because {self.because}. {self.advice}"


@dataclass(frozen=True)
class Diagnosed(Sequence[Diagnosis]):
    """What was found, and what was looked at; empty where nothing shows.

    Attributes:
        found: the diagnoses.
        looked: what was looked at, and what could not be.
    """

    found: tuple[Diagnosis, ...]
    looked: tuple[str, ...]

    @overload
    def __getitem__(self, index: int) -> Diagnosis: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Diagnosis, ...]: ...
    def __getitem__(self, index: int | slice) -> Diagnosis | tuple[Diagnosis, ...]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Diagnosis]:
        return iter(self.found)

    @property
    def misuses(self) -> tuple[str, ...]:
        """The ids of what was found."""
        return tuple(each.misuse for each in self.found)

    def __str__(self) -> str:
        lines = [f"[{each.misuse}] {each}" for each in self.found] or ["nothing shows"]
        return "\n".join([*lines, *(f"  looked at: {text}" for text in self.looked)])


def diagnosis(misuse: str, because: str, more: str = "", **figures: float) -> Diagnosis:
    """A diagnosis in the words of its misuse."""
    name, advice = ADVICE[misuse]
    statement = f"consistent with {name}{f' ({more})' if more else ''}"
    return Diagnosis(
        misuse, statement, because, tuple((k, float(v)) for k, v in figures.items()), advice
    )
