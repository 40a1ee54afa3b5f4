"""The plot of squared error beside cross-entropy: closed forms as lines, real ops as points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from ..conformance.trajectories import squared
from ..conformance.trajectories.squared import Gradients
from .plots import COLOURS, DASHES
from .profiles import SHAPES

PANELS = {
    "by logit": "by the logit",
    "by probability": "by the probability",
    "by layer": "by the first layer's weights (2-norm)",
}
LOSSES = {"entropy": "cross-entropy", "squared": "squared error"}

SHOWN = 4
"""Every so many logits a point, each framework at another one, since their marks coincide."""


def spec(found: dict[str, Gradients], dtype: str) -> dict[str, Any]:
    """The sizes of gradients of samples with the label 1; `found` by framework, in one format."""
    names = list(found)
    rows = [*_closed(dtype), *(row for name in names for row in _measured(found, name, dtype))]
    base = alt.Chart(alt.Data(values=rows), width=270, height=300).encode(
        x=alt.X("z:Q", title="logit of the right class"),
        y=alt.Y(
            "value:Q",
            title="size of the gradient (log scale)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format=".0e"),
        ),
        color=alt.Color(
            "loss:N",
            scale=alt.Scale(domain=list(LOSSES.values()), range=list(COLOURS[:2])),
            legend=alt.Legend(title=None, orient="bottom"),
        ),
    )
    lines = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash(
            "loss:N",
            scale=alt.Scale(domain=list(LOSSES.values()), range=[list(DASHES[0]), list(DASHES[1])]),
            legend=None,
        )
    )
    points = base.mark_point(size=40, filled=True).encode(
        shape=alt.Shape(
            "framework:N",
            scale=alt.Scale(domain=names, range=list(SHAPES[: len(names)])),
            legend=alt.Legend(title=None, orient="bottom"),
        )
    )
    layers = (
        lines.transform_filter("datum.framework == ''"),
        points.transform_filter("datum.framework != ''"),
    )
    chart = alt.layer(*layers).facet(
        column=alt.Column("panel:N", title=None, sort=list(PANELS.values()))
    )
    return chart.resolve_scale(y="independent").to_dict()


def _closed(dtype: str) -> Iterator[dict[str, Any]]:
    near = squared.allowed(squared.ANY, dtype)
    yield from _rows({name: one.value for name, one in near.items()}, "", dtype, slice(None))


def _measured(found: dict[str, Gradients], name: str, dtype: str) -> Iterator[dict[str, Any]]:
    first = list(found).index(name)
    yield from _rows(found[name], name, dtype, slice(first, None, SHOWN))


def _rows(
    gradients: Gradients, framework: str, dtype: str, part: slice
) -> Iterator[dict[str, Any]]:
    for panel, title in PANELS.items():
        for loss, word in LOSSES.items():
            for at, value in squared.sizes(gradients, loss, panel, dtype)[part]:
                yield {
                    "panel": title,
                    "loss": word,
                    "z": at,
                    "value": value,
                    "framework": framework,
                }
