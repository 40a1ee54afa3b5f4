"""The verdict on each printed figure, by the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec
import numpy as np

from ..run import ExampleFigure
from .entries import Example, shown
from .figures import Figure, computed, figures, rounded, unit
from .mistakes import UNEXPLAINED, explain

RIGHT, WRONG, PRODUCED = "right", "wrong", "no figure printed"


def adjudicated(examples: Iterable[Example]) -> list[ExampleFigure]:
    """Every figure of some examples with its verdict.

    Raises:
        ExamplesError: if one of them cannot be computed, or claims what it does not give.
    """
    return [record for example in examples for record in adjudicate(example)]


def adjudicate(example: Example) -> list[ExampleFigure]:
    """The figures of one example; one without a name where it has none."""
    found = figures(example)  # which says what does not fit; the claims have their shapes after it
    answers = [*computed(example).answers, *contradictions(example)]
    if not found:
        return [_record(example, None, answers)]
    return [_record(example, figure, answers) for figure in found]


def contradictions(example: Example) -> Iterator[str]:
    """Whether the loss that is printed can be that of the probabilities that are printed."""
    claim, target = example.claim, example.fields.get("target")
    if not {"probabilities", "loss"} <= claim.keys() or not isinstance(target, int):
        return
    p, loss = Decimal(claim["probabilities"][target]), Decimal(claim["loss"])
    if p <= unit(p) / 2:
        return
    least, most = -(p + unit(p) / 2).ln(), -(p - unit(p) / 2).ln()
    if most < loss - unit(loss) / 2 or least > loss + unit(loss) / 2:
        yield (
            f"The printed figures contradict each other: the loss of {p} is "
            f"{rounded(float(-p.ln()), loss)}, not {loss}."
        )


def _record(example: Example, figure: Figure | None, answers: list[str]) -> ExampleFigure:
    record = ExampleFigure(
        example=example.id,
        source=example.source,
        operation=example.operation,
        input=inputs_in_words(example),
        unit=example.unit,
        note=example.note,
        answers=answers,
        verdict=PRODUCED,
    )
    if figure is None:
        return record
    record = msgspec.structs.replace(
        record,
        figure=figure.name,
        case=figure.case,
        printed=[str(digits) for digits in figure.printed],
        about=figure.about,
        right=[repr(float(v)) for v in np.atleast_1d(figure.value)],
        shown=list(figure.shown()),
    )
    if not figure.printed:
        return record
    if figure.right():
        return msgspec.structs.replace(record, verdict=RIGHT)
    explained = explain(example, figure)
    simplest = explained.mistakes
    return msgspec.structs.replace(
        record,
        verdict=WRONG,
        mistakes=list(simplest[0].kinds) if simplest else [UNEXPLAINED],
        why="; or ".join(", ".join(mistake.words) for mistake in simplest),
        tried=explained.tried,
    )


def inputs_in_words(example: Example) -> str:
    """The fields of an example as its file has them."""
    return ", ".join(f"{name} = {shown(value)}" for name, value in example.fields.items())
