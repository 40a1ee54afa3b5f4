"""Trainings in words, tables and plots: `lossaudit train`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
from rich.console import Console
from rich.progress import TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from ..conformance.trajectories.everything import ALONE, DTYPES, REFERENCE, Task
from ..conformance.trajectories.recipes import RECIPES, RIGHT, named
from ..conformance.trajectories.records import Training, Trajectories
from . import text
from .bar import Bar
from .console import print_heading, print_indented
from .plots import COLOURS, DASHES, GREY
from .profiles import SHAPES

SHOWN = "float32"
"""The format of the plot of losses, where it was trained in it: what people train in."""

PIXELS = 1.4
"""Of a picture, to each of the plot's."""


@dataclass(frozen=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class TrainingProgress(Bar):
    """How many trainings are done: a bar on a terminal, elsewhere a line for each that ends."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        super().__init__("training", total, TimeElapsedColumn(), console=console)

    def __call__(self, task: Task, came: Sequence[Training]) -> None:
        self.advance(len(task.recipes))
        failed = next((training.failed for training in came if training.failed), "")
        if failed or not self.console.is_terminal:
            seconds = sum(training.seconds for training in came)
            said = f"failed: {text.one_line(failed, 200)}" if failed else f"{seconds:.1f} s"
            recipes = ", ".join(task.recipes)
            line = f"{who_of(task.way, task.framework)} {task.dtype} {recipes}: {said}"
            self.console.print(Text(line), soft_wrap=True)


def who_of(way: str, framework: str) -> str:
    """Who trained: "reference", "torch op" or "torch alone"."""
    return way if way == REFERENCE else f"{framework} {way}"


def _who(training: Training) -> str:
    return text.one_line(who_of(training.way, training.framework), 40)


# --- tables ---------------------------------------------------------------------------------------


def tables(result: Trajectories) -> list[Table]:
    """What the terminal and the Markdown show."""
    found = [_meant(result), _mistakes(result)]
    return [table for table in found if table.rows]


def _meant(result: Trajectories) -> Table:
    head = (
        "format",
        "trained by",
        "cross-entropy",
        "accuracy",
        "distance",
        "ulps",
        "to float64",
        "of the bound",
        "moved",
        "seconds",
    )
    mine = [t for t in _ordered(result.trainings) if t.recipe == RIGHT and not t.failed]
    rows = (
        (
            t.dtype,
            _who(t),
            _number(_last(t.true), "%.7f"),
            _percent(_last(t.accuracy)),
            _number(_last(t.relative), "%.1e"),
            _number(_last(t.ulps), "%.1f"),
            _number(_last(t.from_float64), "%.1e"),
            _percent(t.share),
            _percent(_last(t.moved)),
            f"{t.seconds:.1f}",
        )
        for t in mine
    )
    return Table("The loss as it is meant, after the last epoch", head, tuple(rows))


def _mistakes(result: Trajectories) -> Table:
    head = (
        "recipe",
        "format",
        "loss of epoch 1",
        "of the last",
        "cross-entropy",
        "accuracy",
        "moved",
        "farthest framework",
        "distance",
        "ulps",
    )
    rows = []
    for recipe in RECIPES:
        for dtype in DTYPES:
            mine = [
                t
                for t in result.trainings
                if (t.recipe, t.dtype) == (recipe.name, dtype) and t.reported
            ]
            own = next((t for t in mine if t.way == REFERENCE), None)
            if own is None:
                continue
            alone = [t for t in mine if t.way == ALONE and _last(t.relative) is not None]
            farthest = max(alone, key=lambda t: _last(t.relative) or 0.0, default=None)
            rows.append(
                (
                    recipe.title,
                    dtype,
                    _number(own.reported[0], "%.4f"),
                    _number(_last(own.reported), "%.4f"),
                    _number(_last(own.true), "%.6f"),
                    _percent(_last(own.accuracy)),
                    _percent(_last(own.moved)),
                    farthest.framework if farthest else "",
                    _number(_last(farthest.relative), "%.1e") if farthest else "",
                    _number(_last(farthest.ulps), "%.1f") if farthest else "",
                )
            )
    title = "Every recipe by the reference, and the framework farthest from it"
    return Table(title, head, tuple(rows))


def _ordered(trainings: Iterable[Training]) -> list[Training]:
    """By format, the reference first, then by framework."""

    def key(t: Training) -> tuple[int, bool, str, str]:
        return DTYPES.index(t.dtype), t.way != REFERENCE, t.way, t.framework

    return sorted(trainings, key=key)


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _number(value: float | None, form: str) -> str:
    return "" if value is None else "0" if value == 0 else form % value


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


WORDS = (
    "distance: of the parameters from the reference's of the same recipe and format, over their",
    "2-norm. ulps: the largest difference, in ulps of the largest parameter. to float64: as",
    "distance, from the reference in float64. of the bound: the largest share that a step took of",
    "what the declared arithmetic of the op allows it. moved: share of the steps of the last epoch",
    "that changed a parameter.",
)


def verdict(result: Trajectories) -> str:
    """What the trainings show, in a sentence or two."""
    judged = [t for t in result.trainings if t.share is not None]
    outside = result.outside()
    if outside:
        names = ", ".join(f"{_who(t)} {t.dtype}" for t in outside)
        said = f"A step lies outside of its derived bound: {names}."
    elif judged:
        said = f"Every step of {text.count(len(judged), 'training')} lies within its derived bound."
    else:
        said = "No training has steps of which a bound is derived."
    if result.failed():
        said += f" {text.count(len(result.failed()), 'training')} failed."
    return said if result.complete else f"{said} Interrupted: not everything was trained."


NARROW = 110
"""Columns of a terminal below which a table leaves out those of `SPARED`."""

SPARED = ("to float64", "accuracy", "moved", "loss of epoch 1")


def _shown(table: Table, width: int) -> RichTable:
    """Numbers stand whole; heads, and names of recipes, go over several lines where they must."""
    kept = [i for i, name in enumerate(table.head) if width >= NARROW or name not in SPARED]
    shown = RichTable(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for place in kept:
        name = table.head[place]
        cells = [row[place] for row in table.rows]
        whole = cells if place else " ".join(cells).split()
        least = max(map(len, (*whole, *name.split())))
        shown.add_column(name, justify="left" if place < 2 else "right", min_width=least)
    for row in table.rows:
        shown.add_row(*(Text(row[place]) for place in kept))
    return shown


def print_trajectories(result: Trajectories, console: Console) -> None:
    """Both tables, what failed, who is absent, and the verdict."""
    console.print(Text(f"{result.setting}."))
    for table in tables(result):
        print_heading(console, table.title)
        console.print(_shown(table, console.width))
    console.print()
    print_indented(console, " ".join(WORDS), style="dim")
    for training in result.failed():
        why = text.one_line(training.failed, 300)
        console.print(Text(f"failed: {_who(training)} {training.dtype} {training.recipe}: {why}"))
    for framework, reason in result.absent.items():
        console.print(Text(f"absent: {framework}: {text.one_line(reason, 200)}"))
    console.print()
    console.print(Text(f"{verdict(result)} {result.seconds:.0f} s.", style="bold"))


def trajectories_markdown(result: Trajectories) -> str:
    """The tables of the terminal as Markdown."""
    lines = [f"{result.setting}. {verdict(result)}", ""]
    for table in tables(result):
        lines += [f"**{table.title}**", "", "| " + " | ".join(table.head) + " |"]
        lines.append("|" + "---|" * 2 + "--:|" * (len(table.head) - 2))
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        lines.append("")
    lines.append(" ".join(WORDS))
    return "\n".join(lines) + "\n"


# --- plots ----------------------------------------------------------------------------------------


def specs(result: Trajectories) -> dict[str, dict[str, Any]]:
    """Name of each plot -> its Vega-Lite spec; those without points are left out."""
    found = {
        "loss": _loss(result),
        "distance": _distance(result),
        "moved": _moved(result),
    }
    return {name: chart.to_dict() for name, chart in found.items() if chart is not None}


def write_plots(result: Trajectories, folder: Path) -> list[Path]:
    """Each plot as a PNG."""
    import vl_convert  # noqa: PLC0415 - 80 MB, loaded where a plot is drawn

    written = []
    for name, spec in specs(result).items():
        written.append(folder / f"{name}.png")
        written[-1].write_bytes(vl_convert.vegalite_to_png(spec, scale=PIXELS))
    return written


def _epochs(values: Sequence[float | None], **words: str) -> list[dict[str, Any]]:
    """A row for each epoch with a value that a logarithm has."""
    return [
        {"epoch": place + 1, "value": value, **words} for place, value in enumerate(values) if value
    ]


REPORTED, TRUE = "mean loss of the epoch, as reported", "cross-entropy of the parameters after it"


def _loss(result: Trajectories) -> alt.TopLevelMixin | None:
    """Every recipe in one format, of the first framework alone, else of the reference."""
    shown = _of_one(result)
    rows = []
    for t in shown:
        title = named(t.recipe).title
        rows += _epochs(t.reported, recipe=title, quantity=REPORTED)
        rows += _epochs(t.true, recipe=title, quantity=TRUE)
    if not rows:
        return None
    titles = [recipe.title for recipe in RECIPES]
    legend = alt.Legend(title=None, orient="bottom", columns=4, symbolSize=400, labelLimit=260)
    chart = (
        alt.Chart(alt.Data(values=rows), width=380, height=300)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title="loss (log scale)", scale=alt.Scale(type="log")),
            color=alt.Color(
                "recipe:N", scale=alt.Scale(domain=titles, range=list(COLOURS)), legend=legend
            ),
            strokeDash=alt.StrokeDash(
                "recipe:N",
                scale=alt.Scale(domain=titles, range=[list(d) for d in DASHES]),
                legend=legend,
            ),
        )
    )
    first = shown[0]
    title = f"{_who(first)}, {first.dtype}"
    facets = chart.facet(column=alt.Column("quantity:N", title=title, sort=[REPORTED, TRUE]))
    return facets.resolve_scale(y="independent")


def _of_one(result: Trajectories) -> list[Training]:
    """The trainings of every recipe in one format by one framework."""
    mine = [t for t in result.trainings if t.reported and (t.way in (ALONE, REFERENCE))]
    dtypes = [t.dtype for t in mine]
    dtype = SHOWN if SHOWN in dtypes else next(iter(dtypes), "")
    mine = [t for t in mine if t.dtype == dtype]
    for framework in dict.fromkeys([*(t.framework for t in mine if t.framework), ""]):
        chosen = [t for t in mine if t.framework == framework]
        if chosen:
            return sorted(chosen, key=lambda t: [r.name for r in RECIPES].index(t.recipe))
    return []


BOUND = "derived bound"
MARKED = 10
"""Of so many epochs one has the mark of its framework."""


def _distance(result: Trajectories) -> alt.TopLevelMixin | None:
    """The loss as it is meant: from the reference of the same format, with the derived bound."""
    rows, bounds = [], []
    right = [t for t in _ordered(result.trainings) if t.recipe == RIGHT and not t.failed]
    for dtype in DTYPES:
        mine = [t for t in right if t.dtype == dtype and t.way != REFERENCE and t.distance]
        own = next((t for t in right if (t.way, t.dtype) == (REFERENCE, dtype)), None)
        for t in mine:
            rows += _epochs(t.distance, framework=t.framework, way=t.way, dtype=dtype)
        if own and mine:
            room = [
                a + max(filter(None, others)) if a and any(others) else None
                for a, *others in zip(own.drift, *(t.drift for t in mine), strict=True)
            ]
            bounds += _epochs(room, way=BOUND, dtype=dtype)
    if not rows:
        return None
    names = sorted({row["framework"] for row in rows})
    base = alt.Chart(alt.Data(values=[*rows, *bounds]), width=260, height=300).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y(
            "value:Q",
            title="distance of the parameters, 2-norm (log scale)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format=".0e"),
        ),
    )
    dash = alt.StrokeDash(
        "way:N",
        sort=None,
        scale=alt.Scale(domain=["alone", "op", BOUND], range=[[1, 0], [6, 3], [2, 3]]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="stroke", symbolSize=400),
    )
    colour = alt.Color(
        "framework:N",
        scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)])),
        legend=alt.Legend(title=None, orient="bottom"),
    )
    shape = alt.Shape(
        "framework:N",
        scale=alt.Scale(domain=names, range=list(SHAPES[: len(names)])),
        legend=alt.Legend(title=None, orient="bottom"),
    )
    drawn = base.mark_line(strokeWidth=1.6).encode(color=colour, strokeDash=dash)
    drawn = drawn.transform_filter(f"datum.way != '{BOUND}'")
    marks = base.mark_point(filled=True, size=44).encode(color=colour, shape=shape)
    every = f"datum.way != '{BOUND}' && datum.epoch % {MARKED} == 0"
    limit = base.mark_line(strokeWidth=1.6, color=GREY).encode(strokeDash=dash)
    limit = limit.transform_filter(f"datum.way == '{BOUND}'")
    facets = alt.layer(drawn, marks.transform_filter(every), limit).facet(
        column=alt.Column("dtype:N", title=None, sort=list(DTYPES))
    )
    return facets.resolve_scale(y="independent")


def _moved(result: Trajectories) -> alt.TopLevelMixin | None:
    """The share of steps that move anything, by format, of the loss as it is meant."""
    rows = []
    for t in _ordered(result.trainings):
        if t.recipe == RIGHT and t.way != "op" and t.moved:
            rows += [
                {"epoch": place + 1, "value": share, "by": _who(t), "dtype": t.dtype}
                for place, share in enumerate(t.moved)
            ]
    if not rows:
        return None
    names = list(dict.fromkeys(row["by"] for row in rows))
    legend = alt.Legend(title=None, orient="bottom", symbolSize=400)
    ranges = {"color": list(COLOURS), "dash": [list(d) for d in DASHES]}
    chart = (
        alt.Chart(alt.Data(values=rows), width=260, height=200)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(
                "value:Q",
                title="steps that move a parameter",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color(
                "by:N",
                scale=alt.Scale(domain=names, range=ranges["color"][: len(names)]),
                legend=legend,
            ),
            strokeDash=alt.StrokeDash(
                "by:N",
                scale=alt.Scale(domain=names, range=ranges["dash"][: len(names)]),
                legend=legend,
            ),
        )
    )
    return chart.facet(column=alt.Column("dtype:N", title=None, sort=list(DTYPES)))
