"""Everything that is measured of the misuses, for one framework."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...adapters.client import UnusableFramework
from ...adapters.subject import Subject
from ..bench import Session
from ..run import Incident, MisuseCurve, MisuseTraining
from . import measure
from .ask import Asked, Lost
from .training import trainings

Record = MisuseCurve | MisuseTraining
Measurement = Callable[[Asked], Iterable[Record]]

MEASUREMENTS: tuple[Measurement, ...] = (
    measure.double_softmax,
    measure.double_sigmoid,
    measure.probabilities_for_logs,
    measure.logits_for_probabilities,
    measure.wrong_axis,
    measure.smoothing,
    measure.binary_smoothing,
    trainings,
)


def measure_all(
    session: Session, subjects: Sequence[Subject], emit: Callable[[Record | Incident], None]
) -> None:
    """Say every curve and training of a framework; what fails is an incident, and not the end.

    Raises:
        UnusableFramework: if there is no framework to ask.
    """
    asked = Asked(session, subjects)
    for measurement in MEASUREMENTS:
        try:
            with np.errstate(all="ignore"):
                for record in measurement(asked):
                    emit(record)
        except UnusableFramework:
            raise
        except Lost as lost:
            message = f"the misuses were not measured any further: {lost}"
            emit(_incident(subjects, message))
            return
        except Exception:  # noqa: BLE001 - the audit goes on without a figure of the misuse page
            text = traceback.format_exc(limit=-6)
            emit(_incident(subjects, f"internal: {text}"))


def _incident(subjects: Sequence[Subject], message: str) -> Incident:
    home = subjects[0].home if subjects else ""
    return Incident(subject=home, law="misuse", dtype="", message=message)
