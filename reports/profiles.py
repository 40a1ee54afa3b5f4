"""The error profiles of a run: their plot, and what the page's script draws it from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from ..conformance.answers import LETTERS
from ..conformance.grids import CLASSES
from ..conformance.run import GRADES, Profile, ProfileOutput, Run
from . import text
from .plots import COLOURS, DASHES, GREY

SHAPES = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-right",
    "triangle-left",
    "cross",
    "M-1,-0.4L0,-1L1,-0.4L0.6,1L-0.6,1Z",
)
"""Of the frameworks in the same order, so that nothing is told by colour alone."""

SEVERAL, SEVERAL_SHAPE = "several", "circle"

SALTIRE = "M-1,-1L1,1M1,-1L-1,1"
"""The shape of what is no number or infinite; 0 is a triangle on its tip."""

TOLD = {
    "subjects": "subjects",
    "input": "input",
    "value": "value",
    "right": "right value",
    "ulps": "error in ulps",
    "grade": "grade",
    "bounds": "bounds in ulps",
}
"""What hovering over a point says: field -> title."""


@dataclass(frozen=True)
class _Scale:
    """How an axis is drawn: the kind of its scale, its title, and where its ticks are."""

    kind: Literal["linear", "log", "symlog"]
    title: str
    ticks: tuple[float, ...] = ()


_DECADES = tuple(10.0**k for k in range(16))

SCALES = {
    "gap": _Scale("linear", "gap: logit of the target less the best other"),
    "|z|": _Scale(
        "symlog",
        "what is added to all logits, m (symmetric log scale)",
        (*(-d for d in _DECADES), 0.0, *_DECADES),
    ),
    "p of the target": _Scale("linear", "log odds of the target, ln(p / (1 - p))"),
    "K": _Scale("log", "number of classes K (log scale)", CLASSES),
}
"""By the name of an axis up to its first comma."""


def scale_of(axis: str) -> str:
    """The key of SCALES of an axis: "K" of "K, equal logits"."""
    return axis.partition(",")[0]


def specs(run: Run) -> dict[str, dict[str, Any]]:
    """A plot for each kind of axis that the run has; the page's script gives the rows."""
    kinds = {scale_of(profile.axis) for profile in run.profiles}
    domain = frameworks(run)
    return {
        _plot_name(kind): _chart(scale, domain).to_dict()
        for kind, scale in SCALES.items()
        if kind in kinds
    }


def _plot_name(kind: str) -> str:
    return f"profile-{list(SCALES).index(kind)}"


def frameworks(run: Run) -> list[str]:
    """The frameworks of the run, each once, in its order."""
    return list(dict.fromkeys(text.one_line(record.framework, 40) for record in run.subjects))


def _chart(scale: _Scale, domain: Sequence[str]) -> alt.TopLevelMixin:
    """Bounds as lines, answers as points; data named "points" that has both (see profiles.js)."""
    every = [*domain, SEVERAL]
    count = len(domain)
    colours = [*(COLOURS[i % len(COLOURS)] for i in range(count)), GREY]
    shapes = [*(SHAPES[i % len(SHAPES)] for i in range(count)), SEVERAL_SHAPE]
    x = alt.X("x:Q", title=scale.title, scale=alt.Scale(type=scale.kind, nice=False, padding=8))
    if scale.ticks:
        x = x.axis(values=list(scale.ticks), format="~s", labelOverlap=True)
    y = alt.Y("y:Q", title="error in ulps", scale=alt.Scale(type="symlog", constant=0.5))
    y = y.axis(values=_ticks(), format="~g", labelOverlap=True)
    base = alt.Chart(alt.NamedData(name="points")).encode(x=x, y=y)
    lines = (
        base.mark_line(color=GREY, strokeWidth=1.6, invalid="break-paths-show-path-domains")
        .encode(
            strokeDash=alt.StrokeDash(
                "bound:N", scale=alt.Scale(range=[list(d) for d in DASHES]), sort=None
            ).legend(
                title="Derived bound of the form",
                orient="top",
                symbolSize=500,
                symbolStrokeColor=GREY,
            ),
            detail="bound:N",
        )
        .transform_filter("datum.kind == 'bound'")
    )
    legend = alt.Legend(title="Framework of the subjects", orient="bottom", columns=3)
    points = base.encode(
        color=alt.Color("framework:N", scale=alt.Scale(domain=every, range=colours), legend=legend),
        opacity=alt.Opacity("opacity:Q", scale=None, legend=None),
        tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in TOLD.items()],
    )
    shape = alt.Shape("framework:N", scale=alt.Scale(domain=every, range=shapes), legend=legend)
    marks = {
        "number": points.mark_point(size=34, filled=True).encode(shape=shape),
        "zero": points.mark_point(size=100, shape="triangle-down", strokeWidth=1.4),
        "lost": points.mark_point(size=100, shape="triangle-down", filled=True),
        "not finite": points.mark_point(size=80, shape=SALTIRE, strokeWidth=2.2),
    }
    layers = [mark.transform_filter(f"datum.kind == '{kind}'") for kind, mark in marks.items()]
    return alt.layer(lines, *layers).properties(height=420)


def _ticks() -> list[float]:
    """0, the halves near it, and powers of ten up to past all of float64."""
    return [0, 0.5, *(10.0**k for k in range(19))]


# --- what the page's script reads -----------------------------------------------------------------


def page_data(run: Run) -> dict[str, Any]:
    """All profiles, subjects as places in a list; what comes from a run is one line of text."""
    homes = {record.name: record.framework for record in run.subjects}
    names = list(dict.fromkeys(name for p in run.profiles for name in _subjects(p)))
    places = {name: place for place, name in enumerate(names)}
    return {
        "subjects": [
            [text.one_line(n, 160), text.one_line(homes.get(n, n.partition(":")[0]), 40)]
            for n in names
        ],
        "several": SEVERAL,
        "grades": dict(zip(LETTERS, GRADES, strict=True)),
        "profiles": [_profile(profile, places) for profile in run.profiles if profile.outputs],
    }


def gaps(run: Run) -> list[str]:
    """Where there is no profile, and why, one line each."""
    if not run.profiles:
        return []
    reasons: dict[tuple[str, str], list[str]] = {}
    for profile in (p for p in run.profiles if not p.outputs):
        for missing in profile.missing:
            where = f"{profile.operation} {profile.dtype}"
            asked = reasons.setdefault((where, missing.reason), [])
            asked += [] if profile.axis in asked else [profile.axis]
    lines = [f"{where} along {', '.join(axes)}: {why}" for (where, why), axes in reasons.items()]
    without = {s.operation for s in run.subjects} - {p.operation for p in run.profiles}
    lines += [
        f"{operation}: no axis is derived for it" for operation in sorted(without) if operation
    ]
    return [text.one_line(line, 300) for line in lines]


def _subjects(profile: Profile) -> Iterable[str]:
    for output in profile.outputs:
        for series in output.series:
            yield from series.subjects
    for missing in profile.missing:
        yield from missing.subjects


def _profile(profile: Profile, places: dict[str, int]) -> dict[str, Any]:
    return {
        "operation": text.one_line(profile.operation),
        "dtype": text.one_line(profile.dtype),
        "axis": text.one_line(profile.axis),
        "plot": _plot_name(scale_of(profile.axis)),
        "input": text.one_line(profile.input),
        "x": profile.x,
        "shown": [text.one_line(shown) for shown in profile.shown],
        "outputs": [_output(output, places) for output in profile.outputs],
        "missing": [
            {"subjects": [places[n] for n in m.subjects], "reason": text.one_line(m.reason, 300)}
            for m in profile.missing
        ],
    }


def _output(output: ProfileOutput, places: dict[str, int]) -> dict[str, Any]:
    return {
        "output": text.one_line(output.output),
        "right": output.right,
        "bounds": output.bounds,
        "answers": output.answers,
        "series": [
            {"subjects": [places[n] for n in s.subjects], "answers": s.answers, "grades": s.grades}
            for s in output.series
        ],
    }


def choices(run: Run) -> list[tuple[str, str, list[str]]]:
    """(name, label, values) of what the reader chooses, in the order of the run."""
    return [
        ("operation", "Operation", _each(p.operation for p in run.profiles)),
        ("dtype", "Format", sorted(_each(p.dtype for p in run.profiles), key=_usual)),
        ("axis", "Against", _each(p.axis for p in run.profiles)),
        ("output", "Error of", _each(o.output for p in run.profiles for o in p.outputs)),
        ("shown", "Emphasise", frameworks(run)),
    ]


def _usual(dtype: str) -> bool:
    """False, which is first, of the format that most call a loss in."""
    return dtype != "float32"


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
