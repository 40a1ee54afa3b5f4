"""Plots of a sweep: the largest error and the shares of the grades, binade by binade."""

from __future__ import annotations

import itertools
import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from ..conformance.run import FINDING_GRADES, GRADES
from ..conformance.sweep import patterns
from ..conformance.sweep.record import Binade, Curve, Sweep
from ..reference.formats import FORMATS
from . import text
from .digest import SIGNS
from .plots import COLOURS, DASHES, GREY
from .profiles import SHAPES
from .sweep_digest import SweepDigest, short_subject
from .trajectories import PIXELS

DRAWN = 6
"""Curves of a plot at most, each with a colour and a dash of its own: about a page."""

WIDTH, HEIGHT, STRIP = 700, 260, 64
"""Of the plot of errors, and the height of the shares of one curve."""

LEAST = 0.01
"""Ulps at the bottom of the axis: what is less is drawn there. Half an ulp is nobody's fault."""

HALF_ULP = 0.5

TICKS = 14
"""Labels of the axis of binades at most, beside those of its ends and of zero."""

ROOM = 0.012, 0.25
"""The share of the width and of the height that a rectangle needs to hold two letters."""

OF_GRADES = {
    "exact": COLOURS[2],
    "faithful": COLOURS[5],
    "bounded": COLOURS[0],
    "no bound": GREY,
    "unspecified": "#c4c9ce",
    "precision": COLOURS[1],
    "violates": COLOURS[3],
    "wrong kind": COLOURS[4],
    "policy": COLOURS[7],
    "timed out": COLOURS[6],
    "crashed": "#000000",
}
"""Beside each is the sign of the grade or, above a strip, a shape."""

SHAPES_OF = [SHAPES[(place - len(GRADES)) % len(SHAPES)] for place in range(len(GRADES))]
"""Of each grade; those that are findings come last, and have one each."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_plot(sweep: Sweep, path: Path, only: str = "") -> None:
    """Draw the worst curves of a sweep.

    Args:
        sweep: a finished one.
        path: of a PNG or an SVG, as its name ends.
        only: as of `sweep_terminal.print_sweep`.

    Raises:
        ValueError: there is no curve to draw, or the file is to be of another format; in words.
    """
    import vl_convert  # noqa: PLC0415 - 80 MB, loaded where a plot is drawn

    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"{path} ends in neither .png nor .svg, which a plot can be.")
    drawn = spec(sweep, only)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(drawn), encoding="utf-8")
    else:
        path.write_bytes(smaller(vl_convert.vegalite_to_png(drawn, scale=PIXELS)))


def smaller(png: bytes) -> bytes:
    """The same picture, packed as well as zlib can: a third of what comes from the drawing."""
    parts, packed, at = [], b"", len(_PNG)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        name, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12  # with the size before it and the checksum behind it
        if name == b"IDAT":
            packed += content
            continue
        if name == b"IEND":
            parts.append((b"IDAT", zlib.compress(zlib.decompress(packed), 9)))
        parts.append((name, content))
    return _PNG + b"".join(
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )  # fmt: skip


_PNG = b"\x89PNG\r\n\x1a\n"


def spec(sweep: Sweep, only: str = "") -> dict[str, Any]:
    """The Vega-Lite spec of both plots: of the worst curves of the format of the worst one.

    Raises:
        ValueError: there is no curve to draw.
    """
    digest = SweepDigest(sweep, only)
    if not digest.curves:
        raise ValueError(f"no curve of the sweep has all of {only!r}: there is nothing to draw.")
    curves = [c for c in digest.curves if c.dtype == digest.curves[0].dtype][:DRAWN]
    some = len({curve.subject for curve in curves}) > 1
    names = [_name(digest, c) if some else digest.label(c) for c in curves]
    axis = _Axis(curves)
    left = len(digest.curves) - len(curves)
    about = [f"{digest.asked()}. {digest.versions()}."]
    about += [f"The {len(curves)} worst of {len(digest.curves)} curves."] if left else []
    chart = alt.vconcat(
        _errors(curves, names, axis),
        *(_shares(curve, name, axis) for curve, name in zip(curves, names, strict=True)),
        spacing=14,
        title=alt.TitleParams(text.one_line(digest.title, 110), subtitle=about, anchor="start"),
    )
    return chart.resolve_scale(
        color="independent", shape="independent", strokeDash="independent"
    ).to_dict()


def _name(digest: SweepDigest, curve: Curve) -> str:
    return f"{short_subject(curve.subject)} {digest.label(curve)}"


class _Axis:
    """Places of binades: the exponent field of positive inputs, -1 - it of negative ones.

    Attributes:
        first, last: of the places that any of the curves has.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        self._dtype = curves[0].dtype
        count = patterns.binades(self._dtype)
        names = [patterns.binade_name(field, self._dtype) for field in range(count)]
        self._places = {name: field for field, name in enumerate(names)}
        self._places |= {f"-{name}": -1 - field for field, name in enumerate(names)}
        found = {self.place(b) for curve in curves for b in curve.binades}
        self.first, self.last = min(found, default=0), max(found, default=0)

    def place(self, binade: Binade) -> int:
        return self._places[binade.name]

    def x(self, *, labelled: bool = True) -> alt.X:
        ticks = self._ticks()
        labels = {str(place): label for place, label in ticks.items()}
        axis = alt.Axis(
            values=list(ticks),
            labelExpr=f"{json.dumps(labels)}[datum.value]",
            labelOverlap=True,
            grid=True,
            labels=labelled,
            ticks=labelled,
        )
        domain = [self.first - 0.5, self.last + 0.5]
        return alt.X(
            "x:Q",
            scale=alt.Scale(domain=domain, nice=False, zero=False),
            axis=axis,
            title="binade of the input" if labelled else None,
        )

    def _ticks(self) -> dict[int, str]:
        """Zero, infinity, and powers of two in even steps."""
        special = patterns.binades(self._dtype) - 1
        inside = [p for p in range(self.first, self.last + 1) if self._exponent(p) is not None]
        step = 1
        while sum(self._on(p, step) for p in inside) > TICKS:
            step *= 2
        ticks = {p: self._label(p) for p in inside if self._on(p, step)}
        ends = {0: "0", special: "∞", -1 - special: "−∞"}
        return ticks | {p: name for p, name in ends.items() if self.first <= p <= self.last}

    def _on(self, place: int, step: int) -> bool:
        exponent = self._exponent(place)
        return exponent is not None and exponent % step == 0

    def _exponent(self, place: int) -> int | None:
        field = place if place >= 0 else -1 - place
        inside = 0 < field < patterns.binades(self._dtype) - 1
        return field - 1 + FORMATS[self._dtype].emin if inside else None

    def _label(self, place: int) -> str:
        power = f"2{str(self._exponent(place)).translate(_SUPERSCRIPT)}"
        return power if place >= 0 else f"−{power}"


def _errors(
    curves: Sequence[Curve], names: Sequence[str], axis: _Axis
) -> alt.LayerChart | alt.FacetChart:
    """The largest error in each binade, a line for each curve."""
    rows = [
        {"x": axis.place(b), "y": None if b.worst is None else max(b.worst, LEAST), "curve": name}
        for curve, name in zip(curves, names, strict=True)
        for b in curve.binades
    ]
    largest = max((b.worst for c in curves for b in c.binades if b.worst is not None), default=1.0)
    decades = range(
        round(math.log10(LEAST)), max(math.ceil(math.log10(2.0 * largest + 1.0)), 1) + 1
    )
    y = alt.Y(
        "y:Q",
        title="largest error in ulps (log scale)",
        scale=alt.Scale(type="log", domain=[LEAST, 10.0 ** decades[-1]], clamp=True),
        axis=alt.Axis(values=[10.0**n for n in decades], format="~g"),
    )
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=340, symbolSize=600)
    domain = list(names)
    colour = alt.Scale(domain=domain, range=list(COLOURS[: len(domain)]))
    dash = alt.Scale(domain=domain, range=[list(d) for d in DASHES[: len(domain)]])
    lines = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, interpolate="step", invalid="break-paths-show-path-domains")
        .encode(
            x=axis.x(),
            y=y,
            color=alt.Color("curve:N", scale=colour, legend=legend),
            strokeDash=alt.StrokeDash("curve:N", scale=dash, legend=legend),
        )
    )
    half = alt.Data(values=[{"y": HALF_ULP, "x": axis.first - 0.5, "said": "half an ulp"}])
    rule = alt.Chart(half).mark_rule(color=GREY, strokeWidth=1.2).encode(y="y:Q")
    word = (
        alt.Chart(half)
        .mark_text(align="left", dx=4, dy=8, color=GREY)
        .encode(x="x:Q", y="y:Q", text="said:N")
    )
    return alt.layer(rule, word, lines, width=WIDTH, height=HEIGHT)


def _shares(curve: Curve, name: str, axis: _Axis) -> alt.LayerChart | alt.FacetChart:
    """The grades in each binade, stacked; above them a mark for each grade that is a finding."""
    rows = list(_rectangles(curve, axis))
    grades = [g for g in GRADES if curve.grades.get(g)]
    labels = {grade: f"{SIGNS[grade]} {grade}" for grade in grades}
    colour = alt.Color(
        "grade:N",
        scale=alt.Scale(domain=grades, range=[OF_GRADES[g] for g in grades]),
        legend=alt.Legend(title=None, labelExpr=f"{json.dumps(labels)}[datum.value]"),
    )
    y = alt.Y(
        "y:Q",
        title=None,
        scale=alt.Scale(domain=[0.0, 1.25], nice=False),
        axis=alt.Axis(values=[0, 0.5, 1], format="%"),
    )
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(x=axis.x(labelled=False), x2="x2:Q", y=y, y2="y2:Q", color=colour)
    )
    signs = (
        alt.Chart(alt.Data(values=list(_signs(rows, axis))))
        .mark_text(fontSize=9, color="white", fontWeight="bold")
        .encode(x="x:Q", y="y:Q", text="sign:N")
    )
    found = [g for g in grades if g in FINDING_GRADES]
    marks = [
        {"x": axis.place(b), "y": 1.08 + 0.08 * (FINDING_GRADES.index(grade) % 2), "grade": grade}
        for b in curve.binades
        for grade in b.grades
        if grade in found
    ]
    shape = alt.Shape(
        "grade:N", scale=alt.Scale(domain=list(OF_GRADES), range=SHAPES_OF), legend=None
    )
    above = (
        alt.Chart(alt.Data(values=marks))
        .mark_point(size=22, filled=True, opacity=1.0)
        .encode(x="x:Q", y="y:Q", color=colour, shape=shape)
    )
    layers = [bars, signs, *([above] if marks else [])]
    title = alt.TitleParams(text.one_line(name, 110), anchor="start", fontSize=11)
    return alt.layer(*layers, width=WIDTH, height=STRIP, title=title)


def _rectangles(curve: Curve, axis: _Axis) -> Iterator[dict[str, Any]]:
    """Neighbouring binades with the same shares are one, which keeps pictures small."""
    shares = [
        (axis.place(b), tuple((g, b.grades.get(g, 0) / b.inputs) for g in GRADES))
        for b in curve.binades
        if b.inputs
    ]
    # Neighbours have one difference of place and number.
    groups = itertools.groupby(
        enumerate(shares), key=lambda pair: (pair[1][0] - pair[0], pair[1][1])
    )
    for (_, stack), members in groups:
        places = [place for _, (place, _) in members]
        low = 0.0
        for grade, share in stack:
            if share:
                yield {
                    "x": places[0] - 0.5,
                    "x2": places[-1] + 0.5,
                    "y": low,
                    "y2": low + share,
                    "grade": grade,
                }
                low += share


def _signs(rows: Sequence[dict[str, Any]], axis: _Axis) -> Iterator[dict[str, Any]]:
    """The sign of each grade, in its largest rectangle that has room for it."""
    least = ROOM[0] * (axis.last - axis.first + 1)

    def area(row: dict[str, Any]) -> float:
        wide, high = row["x2"] - row["x"], row["y2"] - row["y"]
        return wide * high if wide >= least and high >= ROOM[1] else 0.0

    for grade in {row["grade"]: None for row in rows}:
        best = max((row for row in rows if row["grade"] == grade), key=area)
        if area(best):
            yield {
                "x": (best["x"] + best["x2"]) / 2,
                "y": (best["y"] + best["y2"]) / 2,
                "sign": SIGNS[grade],
            }
