"""What came of trainings, as `lossaudit train --out` writes it. No run holds it."""

from __future__ import annotations

import msgspec


class Training(msgspec.Struct, kw_only=True):
    """One training; each list has an entry for each epoch.

    Attributes:
        way: "reference"; "op", where a framework gave the loss and its gradient and all else is
            correctly rounded; or "alone", where a program of the framework did everything.
        framework: "" for the reference.
        version: of the framework.
        op: the subject whose declared arithmetic each step is held to, "" where none is.
        recipe: a name of `recipes.RECIPES`.
        reported: the mean of the losses of the steps, as they were returned.
        true: the mean cross-entropy of all samples at the end of the epoch, by the reference.
        accuracy: share of the samples whose largest logit is then that of their class.
        moved: share of the steps that changed a parameter.
        parameters: the weights and biases, row by row; in a file after the last epoch alone.
        drift: at most the distance to the training in exact numbers; empty where no bound is
            derived.
        share: the largest share of its bound that a step took; None where a step has no bound and
            no other is outside of its own.
        distance: to the reference of the same recipe in the same format, in the 2-norm; this and
            what follows is empty where there is no such reference.
        relative: the same over the norm of the reference's parameters.
        ulps: the largest difference of a parameter, in ulps of the reference's largest parameter.
        from_float64: as `relative`, to the reference in float64.
        seconds: of the training; without the start of a process.
        failed: why there is none, or why nothing can be said of its steps.
    """

    way: str
    dtype: str
    recipe: str
    framework: str = ""
    version: str = ""
    op: str = ""
    reported: list[float | None] = []
    true: list[float | None] = []
    accuracy: list[float] = []
    moved: list[float] = []
    parameters: list[list[float | None]] = []
    drift: list[float | None] = []
    share: float | None = None
    distance: list[float | None] = []
    relative: list[float | None] = []
    ulps: list[float | None] = []
    from_float64: list[float | None] = []
    seconds: float = 0.0
    failed: str = ""

    @property
    def within(self) -> bool:
        """No step is outside of its bound."""
        return self.share is None or self.share <= 1.0


class Trajectories(msgspec.Struct, kw_only=True):
    """Everything that one `lossaudit train` trained.

    Attributes:
        setting: the data and the steps, in words.
        sharpness: the rate times the largest curvature; up to 2, steps on convex losses do not
            expand.
        absent: framework -> why it was left out.
    """

    lossaudit: str
    setting: str
    epochs: int
    sharpness: float
    trainings: list[Training] = []
    absent: dict[str, str] = {}
    seconds: float = 0.0
    complete: bool = True

    def outside(self) -> list[Training]:
        """Trainings with a step outside of its bound."""
        return [training for training in self.trainings if not training.within]

    def failed(self) -> list[Training]:
        return [training for training in self.trainings if training.failed]
