"""The misuse page: what a mistake in the use of a loss computes, and what one's own logs show.

Every number comes from the run (a framework or the reference) or from the closed forms. Frameworks
whose curves cannot be told apart in a plot share a mark and are named together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from ..conformance.misuse import forms
from ..conformance.misuse.catalogue import MISUSES, Misuse
from ..conformance.run import MisuseCurve, MisuseTraining, Run
from . import text
from .plots import COLOURS, DASHES, GREY

SAME = 1 / 400
"""Share of the height of a plot that no eye tells apart: less than a pixel of its 260."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
SIZES = (50, 90, 130, 170, 220, 270)
"""Of hollow marks: what lies on each other is seen as rings."""

RIGHT, CLOSED = "without the mistake", "closed form"
SAME_PLACE = 8 * 2.0**-24
"""Relative: confidences are rounded to float32, or are those of logits that are. Logits of at most
log 1000 < 7 move theirs by 7 half steps, and it is rounded by one more."""

ROWS = 7
"""Of the table beside a plot, at most."""

LABELS = {
    "confidence": "probability of the right class",
    "margin": "logit of the right class above the others",
    "classes": "classes K",
    "batch": "batch size N",
}


@dataclass(frozen=True)
class Line:
    """One line or one set of marks of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]

    def rows(self) -> list[dict[str, object]]:
        """Points that can be drawn, with digits enough for the eye."""
        return [
            {"x": float(f"{a:.5g}"), "y": float(f"{b:.5g}"), "s": self.label}
            for a, b in zip(self.x, self.y, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        ]


@dataclass(frozen=True)
class Plot:
    """One plot and what it shows in words."""

    name: str
    caption: str
    lines: tuple[Line, ...]
    marks: tuple[Line, ...]
    x: str
    y: str
    log_x: bool = False

    def spec(self) -> dict[str, Any]:
        """The Vega-Lite spec; Altair takes its time, so it is made where it is drawn."""
        return chart(self.lines, self.marks, self.x, self.y, log_x=self.log_x)


@dataclass(frozen=True)
class Table:
    """Numbers beside the plots, as text."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One misuse as the page shows it; code only for frameworks of the run."""

    misuse: Misuse
    logs: tuple[str, ...]
    written: tuple[tuple[str, str], ...]
    mended: tuple[tuple[str, str], ...]
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    agreement: str
    said: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Subjects whose curves a plot cannot tell apart, and the curves of the first of them."""

    names: tuple[str, ...]
    curves: tuple[MisuseCurve, ...]
    all: bool

    @property
    def label(self) -> str:
        """For a legend; the names are in the caption."""
        if len(self.names) == 1:
            return self.names[0]
        if self.all:
            return f"all {len(self.names)} subjects"
        return f"{self.names[0]} and {len(self.names) - 1} more"


def sections(run: Run) -> list[Section]:
    """The misuses that this run measured, in the order of the catalogue."""
    return [_section(run, misuse) for misuse in MISUSES if _curves(run, misuse.id)]


def specs(shown: Sequence[Section]) -> dict[str, dict[str, Any]]:
    """Name of each plot of the page -> its spec."""
    return {plot.name: plot.spec() for each in shown for plot in each.plots}


def _curves(run: Run, misuse: str) -> list[MisuseCurve]:
    return [curve for curve in run.misuse if curve.misuse == misuse]


def _section(run: Run, misuse: Misuse) -> Section:
    curves = _curves(run, misuse.id)
    asked = {curve.subject.partition(":")[0].partition("@")[0] for curve in curves}
    plots, tables = [], []
    for quantity in dict.fromkeys(curve.quantity for curve in curves):
        mine = [curve for curve in curves if curve.quantity == quantity]
        if quantity in ("ceiling", "start"):
            continue  # in one plot with the floor
        if quantity == "floor":
            mine = [c for c in curves if c.quantity in ("floor", "ceiling", "start")]
        drawn = _plot(misuse, quantity, mine)
        if drawn.marks:  # every call may have raised: what was said stands below
            plots.append(drawn)
        if quantity != "gradient ratio":
            tables.append(_table(quantity, mine))
    trainings = [t for t in run.misuse_training if t.misuse == misuse.id]
    if trainings:
        without = [t for t in run.misuse_training if t.series == "without"]
        plots += _training_plots(misuse, trainings, without)
        tables.append(_training_table(trainings, without))
    return Section(
        misuse=misuse,
        written=_code(misuse.written, asked),
        logs=(*misuse.logs, *(line for _, line in _code(misuse.logs_of, asked))),
        mended=_code(misuse.mended, asked),
        plots=tuple(plots),
        tables=tuple(tables),
        agreement=_agreement(curves),
        said=tuple(_said(curves)),
    )


def _code(code: Iterable[tuple[str, str]], asked: set[str]) -> tuple[tuple[str, str], ...]:
    """What is written in the frameworks that were asked; Keras on another backend is Keras."""
    names = asked | {name.partition("-")[0] for name in asked} | {"any"}
    return tuple(line for line in code if line[0] in names)


# --- what was measured, in words ------------------------------------------------------------------


def _floats(texts: Iterable[str]) -> list[float]:
    return [float(number) for number in texts]


def _label(curve: MisuseCurve, among: Sequence[MisuseCurve]) -> str:
    """The framework; with the op where several of it draw the same curve."""
    home, _, local = curve.subject.partition(":")
    op = local.rpartition("[")[0]
    alike = [
        c for c in among if c.subject.partition(":")[0] == home and c.quantity == curve.quantity
    ]
    several = len({c.subject for c in alike}) > 1
    return text.one_line(f"{home} {op}" if several else home, 90)


def groups(curves: Sequence[MisuseCurve]) -> list[Group]:
    """The subjects of one plot, those together whose every curve in it looks the same."""
    by_subject: dict[str, list[MisuseCurve]] = {}
    for curve in curves:
        by_subject.setdefault(curve.subject, []).append(curve)
    every = [value for c in curves for value in _floats(c.measured) if math.isfinite(value)]
    room = _height(every) * SAME
    found: list[list[list[MisuseCurve]]] = []
    for mine in by_subject.values():
        for group in found:
            if _coincide(group[0], mine, room):
                group.append(mine)
                break
        else:
            found.append([mine])
    return [
        Group(
            tuple(dict.fromkeys(_label(mine[0], curves) for mine in group)),
            tuple(group[0]),
            len(found) == 1,
        )
        for group in found
    ]


def _height(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _coincide(some: Sequence[MisuseCurve], others: Sequence[MisuseCurve], room: float) -> bool:
    kinds = [[(c.quantity, c.series) for c in curves] for curves in (some, others)]
    return kinds[0] == kinds[1] and all(
        _together(one, other) and _alike(_floats(one.measured), _floats(other.measured), room)
        for one, other in zip(some, others, strict=True)
    )


def _together(one: MisuseCurve, other: MisuseCurve) -> bool:
    pairs = zip(_floats(one.x), _floats(other.x), strict=False)
    return len(one.x) == len(other.x) and all(
        math.isclose(a, b, rel_tol=SAME_PLACE) for a, b in pairs
    )


def _alike(one: Sequence[float], other: Sequence[float], room: float) -> bool:
    return all(
        a == b or abs(a - b) <= room or (math.isnan(a) and math.isnan(b))
        for a, b in zip(one, other, strict=True)
    )


def _agreement(curves: Sequence[MisuseCurve]) -> str:
    """How far what was measured lies from the closed form, and how many subjects it is of."""
    gaps, odd = [], 0
    for curve in (c for c in curves if c.closed):
        pairs = list(zip(_floats(curve.measured), _floats(curve.closed), strict=False))
        finite = [abs(a - b) for a, b in pairs if math.isfinite(a - b)]
        odd += sum(math.isnan(a) is not math.isnan(b) for a, b in pairs)
        gaps += [(max(finite), curve)] if finite else []
    names = {curve.subject for curve in curves}
    asked = text.count(len(names), "subject")
    if not gaps:
        return f"{asked} asked in {curves[0].dtype}; none answered where a closed form is known."
    largest, where = max(gaps, key=lambda pair: pair[0])
    who = text.one_line(where.subject, 120)
    return (
        f"{asked} asked in {curves[0].dtype}. Measured curves and closed forms lie at most "
        f"{largest:.1e} apart ({who}, {text.one_line(where.quantity, 30)})"
        + (f"; at {text.count(odd, 'point')} one of the two is NaN." if odd else ".")
    )


def _said(curves: Sequence[MisuseCurve]) -> list[str]:
    """What frameworks raised or warned, and that the others were silent."""
    loud: dict[str, list[str]] = {}
    for curve in curves:
        name = text.one_line(curve.subject, 120)
        if curve.said and name not in loud.setdefault(curve.said, []):
            loud[curve.said].append(name)
    lines = [f"{', '.join(names)} {text.one_line(said, 300)}" for said, names in loud.items()]
    speaking = {name for names in loud.values() for name in names}
    silent = len({text.one_line(c.subject, 120) for c in curves} - speaking)
    if silent:
        lines.append(f"{text.count(silent, 'subject')} raised nothing and warned of nothing.")
    return lines


def _number(value: float) -> str:
    if not math.isfinite(value):
        return repr(value)
    return f"{value:.4f}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def _places(count: int) -> list[int]:
    shown = min(count, ROWS)
    return sorted({round(place * (count - 1) / max(shown - 1, 1)) for place in range(shown)})


def _table(quantity: str, curves: Sequence[MisuseCurve]) -> Table:
    """A few points of each curve: without the mistake, by closed form, and as measured."""
    head = [text.one_line(LABELS.get(curves[0].at, curves[0].at), 60)]
    x = _floats(curves[0].x)
    places = _places(len(x))
    rows = [[f"{x[place]:g}"] for place in places]
    for kind in dict.fromkeys((c.quantity, c.series) for c in curves):
        mine = [c for c in curves if (c.quantity, c.series) == kind]
        named = " ".join(filter(None, kind)) if len({(c.quantity) for c in curves}) > 1 else kind[1]
        columns = [(RIGHT, mine[0].right), (CLOSED, mine[0].closed)]
        for group in groups(curves):
            shown = [c for c in group.curves if (c.quantity, c.series) == kind]
            columns += [(", ".join(group.names), c.measured) for c in shown]
        for label, numbers in columns:
            if len(numbers) != len(x):
                continue
            head.append(text.one_line(f"{named}: {label}" if named else label, 200))
            for row, place in zip(rows, places, strict=True):
                row.append(_number(float(numbers[place])))
    caption = f"Numbers of the plot of the {quantity}"
    return Table(caption, tuple(head), tuple(map(tuple, rows)))


# --- plots ----------------------------------------------------------------------------------------


def chart(
    lines: Sequence[Line], marks: Sequence[Line], x: str, y: str, *, log_x: bool = False
) -> dict[str, Any]:
    """Lines told apart by colour and dash, hollow marks on them by colour, shape and size."""
    scale = alt.Scale(type="log") if log_x else alt.Scale(zero=False)
    across = alt.X("x:Q", title=x, scale=scale)
    up = alt.Y("y:Q", title=y)
    layers = []
    if lines:
        names = list(dict.fromkeys(line.label for line in lines))
        grey = [GREY if name == RIGHT else None for name in names]
        rest = iter(COLOURS * 3)
        colours = [colour or next(rest) for colour in grey]
        dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
        legend = alt.Legend(title=None, orient="bottom", columns=1, labelLimit=560)
        layers.append(
            alt.Chart(alt.Data(values=[row for line in lines for row in line.rows()]))
            .mark_line(strokeWidth=2)
            .encode(
                across,
                up,
                alt.Color("s:N", legend=legend).scale(domain=names, range=colours),
                alt.StrokeDash("s:N", legend=legend).scale(domain=names, range=dashes),
                alt.Detail("s:N"),
            )
        )
    if marks:
        layers.append(_marks(marks, across, up))
    layered = alt.layer(*layers).resolve_scale(
        color="independent", strokeDash="independent", shape="independent"
    )
    return layered.properties(height=260).to_dict(validate=False)


def _marks(marks: Sequence[Line], across: alt.X, up: alt.Y) -> Any:
    names = list(dict.fromkeys(line.label for line in marks))
    legend = alt.Legend(title="measured", orient="bottom", columns=1, labelLimit=560)
    colours = [COLOURS[(place + 1) % len(COLOURS)] for place in range(len(names))]
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(names))]
    hover = [
        alt.Tooltip("s:N", title="measured"),
        alt.Tooltip("x:Q", title="at"),
        alt.Tooltip("y:Q", title="value"),
    ]
    layers = []
    for place, name in enumerate(names):
        rows = [row for line in marks if line.label == name for row in line.rows()]
        mark = {"filled": False, "strokeWidth": 1.4, "size": SIZES[place % len(SIZES)]}
        layers.append(
            alt.Chart(alt.Data(values=rows))
            .mark_point(**mark)
            .encode(
                across,
                up,
                alt.Color("s:N", legend=legend).scale(domain=names, range=colours),
                alt.Shape("s:N", legend=legend).scale(domain=names, range=shapes),
                hover,
            )
        )
    return alt.layer(*layers)


def _plot(misuse: Misuse, quantity: str, curves: Sequence[MisuseCurve]) -> Plot:
    lines, marks = _closed_lines(curves), []
    for group in groups(curves):
        for curve in group.curves:
            mark = Line(group.label, _floats(curve.x), _floats(curve.measured))
            if mark.rows():  # of a call that raised there are none
                marks.append(mark)
    at = curves[0].at
    return Plot(
        name=f"misuse-{misuse.id}-{quantity.replace(' ', '-')}",
        caption=_caption(quantity, curves),
        lines=tuple(lines),
        marks=tuple(marks),
        x=LABELS.get(at, text.one_line(at, 60)),
        y=text.one_line(quantity if quantity != "floor" else "loss", 40),
        log_x=at in ("classes", "batch"),
    )


def _closed_lines(curves: Sequence[MisuseCurve]) -> list[Line]:
    """What is right, and the closed form of each series; between few points where it is known."""
    found, at = [], curves[0].at
    right = curves[0]
    if at not in ("classes", "batch"):
        found.append(Line(RIGHT, _floats(right.x), _floats(right.right)))
    for kind in dict.fromkeys((c.quantity, c.series) for c in curves):
        curve = next(c for c in curves if (c.quantity, c.series) == kind)
        if not curve.closed or curve.misuse == "logits-for-probabilities":
            continue
        label = (
            " ".join(filter(None, (kind[0], kind[1]))) if at in ("classes", "batch") else kind[1]
        )
        x, y = _floats(curve.x), _floats(curve.closed)
        if curve.misuse == "double-softmax" and at == "classes":
            step = (max(x) / min(x)) ** (1 / 39)
            x = [min(x) * step**place for place in range(40)]
            dense = {"floor": forms.softmax_floor, "ceiling": forms.softmax_ceiling}
            y = [float(dense.get(kind[0], math.log)(k)) for k in x]
        found.append(Line(text.one_line(f"{label or kind[0]} ({CLOSED})", 80), x, y))
    return found


def _caption(quantity: str, curves: Sequence[MisuseCurve]) -> str:
    """What the plot shows, and who coincides in it."""
    what = {
        "floor": "The least loss, the largest and the one of equal logits",
        "loss": "The loss with the mistake, beside the right one",
        "gradient ratio": "The norm of the gradient with the mistake over that of the right one",
        "gradient": "The size of the gradient with the mistake, beside the right one",
    }.get(quantity, text.one_line(quantity, 60))
    if {c.quantity for c in curves} == {"floor", "start"}:
        what = "The loss of equal logits, and the least one"
    at = LABELS.get(curves[0].at, text.one_line(curves[0].at, 60))
    words = "".join(
        f" {len(group.names)} subjects coincide and share a mark: {_by_op(group.names)}."
        for group in groups(curves)
        if len(group.names) > 1
    )
    lost = sum(not math.isfinite(float(v)) for c in curves for v in c.measured)
    gone = f" {text.count(lost, 'point')} without a finite value not drawn." if lost else ""
    return f"{what}, by {at}.{words}{gone}"


def _by_op(names: Sequence[str]) -> str:
    """Frameworks, or "op (frameworks)" where the names bear an op."""
    homes: dict[str, list[str]] = {}
    for name in names:
        home, _, op = name.partition(" ")
        homes.setdefault(op, []).append(home)
    parts = (f"{op} ({', '.join(mine)})" if op else ", ".join(mine) for op, mine in homes.items())
    return "; ".join(parts)


# --- trainings ------------------------------------------------------------------------------------


def _home(training: MisuseTraining) -> str:
    return text.one_line(training.subject.partition(":")[0], 60)


def _plain(training: MisuseTraining, without: Sequence[MisuseTraining]) -> MisuseTraining | None:
    """The training of the same subject without a mistake."""
    return next((t for t in without if t.subject == training.subject), None)


def _wrong(trainings: Sequence[MisuseTraining]) -> list[MisuseTraining]:
    return [t for t in trainings if t.series == "with"]


def _training_plots(
    misuse: Misuse, trainings: Sequence[MisuseTraining], without: Sequence[MisuseTraining]
) -> list[Plot]:
    wrong = _wrong(trainings)
    if not wrong:
        return []
    sets = _trainings_alike(wrong)
    losses, accuracies = [], []
    for label, first in sets:
        head = f"{label}: " if len(sets) > 1 else ""
        steps = range(len(first.reported))
        losses.append(Line(f"{head}loss reported with the mistake", steps, _floats(first.reported)))
        losses.append(Line(f"{head}true cross-entropy with it", steps, _floats(first.true)))
        accuracies.append(Line(f"{head}with the mistake", steps, _floats(first.accuracy)))
    plain = _plain(wrong[0], without)
    if plain is not None:
        steps = range(len(plain.reported))
        losses.append(Line(RIGHT, steps, _floats(plain.reported)))
        accuracies.append(Line(RIGHT, steps, _floats(plain.accuracy)))
    names = ", ".join(label for label, _ in sets)
    who = f"The curves of {names} coincide" if len(sets) == 1 else f"Curves apart: {names}"
    words = (
        "A softmax regression by gradient descent, the loss and its gradient of each step by the "
        f"framework. {who}."
    )
    if wrong[0].setting:
        words = f"{words[:-1]}; {text.one_line(wrong[0].setting, 120)}."
    if len(wrong) == 1:
        words = words.replace(f"The curves of {names} coincide", f"Measured with {names}")
    return [
        Plot(
            f"misuse-{misuse.id}-training",
            f"{words} Loss before each step; the true cross-entropy is by the reference.",
            tuple(losses),
            (),
            "step",
            "mean loss",
        ),
        Plot(
            f"misuse-{misuse.id}-accuracy",
            "The same trainings: share of the samples whose largest logit is that of their class.",
            tuple(accuracies),
            (),
            "step",
            "accuracy",
        ),
    ]


def _trainings_alike(wrong: Sequence[MisuseTraining]) -> list[tuple[str, MisuseTraining]]:
    """Trainings that a plot cannot tell apart, named together."""
    found: list[list[MisuseTraining]] = []
    for training in wrong:
        mine = _floats(training.reported)
        room = _height(mine) * SAME
        for group in found:
            other = _floats(group[0].reported)
            if len(other) == len(mine) and _alike(mine, other, room):
                group.append(training)
                break
        else:
            found.append([training])
    return [(", ".join(dict.fromkeys(map(_home, group))), group[0]) for group in found]


def _training_table(
    trainings: Sequence[MisuseTraining], without: Sequence[MisuseTraining]
) -> Table:
    head = (
        "framework",
        "steps",
        "first loss",
        "last loss",
        "true cross-entropy at the end",
        "accuracy at the end",
        f"{RIGHT}: last loss",
        f"{RIGHT}: accuracy",
    )
    rows = []
    for training in _wrong(trainings):
        row = [
            _home(training),
            str(len(training.reported)),
            _number(float(training.reported[0])),
            _number(float(training.reported[-1])),
            _number(float(training.true[-1])),
            f"{float(training.accuracy[-1]):.1%}",
        ]
        plain = _plain(training, without)
        if plain is None:
            row += ["", ""]
        else:
            row += [_number(float(plain.reported[-1])), f"{float(plain.accuracy[-1]):.1%}"]
        rows.append(tuple(row))
    return Table("Trainings with the mistake", head, tuple(rows))
