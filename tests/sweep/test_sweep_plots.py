"""The plots of a sweep."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossaudit.conformance.run import FINDING_GRADES, GRADES
from lossaudit.conformance.sweep.patterns import binade_name, binades
from lossaudit.conformance.sweep.record import Binade, Curve, Sweep
from lossaudit.reports import sweep_plots
from lossaudit.reports.sweep_plots import DRAWN, LEAST, OF_GRADES, smaller, spec, write_plot

Make = Callable[..., Sweep]
MakeCurve = Callable[..., Curve]
MakeBinade = Callable[..., Binade]

SMALL = 150_000
"""Bytes of a picture that a page of documentation can carry."""


def panels(drawn: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    first, *others = drawn["vconcat"]
    return first, others


def values(drawn: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    data = layer["data"]
    return drawn["datasets"][data["name"]] if "name" in data else data["values"]


def layers(panel: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in panel["layer"] if layer["mark"]["type"] == kind]


def test_the_error_of_every_binade_is_in_its_place(make_sweep: Make):
    drawn = spec(make_sweep())
    (line,) = layers(panels(drawn)[0], "line")
    found = {row["x"]: row["y"] for row in values(drawn, line)}
    # Exponents of float16 begin at -14 with the field 1; negative inputs lie left of zero.
    assert found == {-1 - 18: 2047.0, -1 - 17: 0.7, 0: LEAST, 17: 0.5, 31: None}
    (rule,) = layers(panels(drawn)[0], "rule")
    assert [row["y"] for row in values(drawn, rule)] == [0.5]


def test_the_shares_of_a_binade_are_stacked_to_all_of_it(make_sweep: Make):
    drawn = spec(make_sweep())
    (strip,) = panels(drawn)[1]
    (bars,) = layers(strip, "rect")
    tops: dict[tuple[float, float], float] = defaultdict(float)
    for row in values(drawn, bars):
        assert row["y"] == tops[row["x"], row["x2"]]
        tops[row["x"], row["x2"]] = row["y2"]
    # A share is a quotient, and they are added one by one: two roundings for each grade.
    assert all(abs(top - 1.0) <= 2 * len(GRADES) * 2.0**-53 for top in tops.values())


def test_every_finding_has_a_mark_however_rare_it_is(
    make_sweep: Make, make_curve: MakeCurve, make_binade: MakeBinade
):
    rare = make_curve([make_binade("2^3", {"exact": 2**23 - 1, "violates": 1})])
    drawn = spec(make_sweep([rare]))
    (marks,) = layers(panels(drawn)[1][0], "point")
    assert [(row["x"], row["grade"]) for row in values(drawn, marks)] == [(18, "violates")]
    assert marks["encoding"]["shape"]["field"] == "grade"


def test_neighbours_with_the_same_shares_are_one_rectangle(
    make_sweep: Make, make_curve: MakeCurve, make_binade: MakeBinade
):
    names = [binade_name(field, "float16") for field in range(binades("float16"))]
    curve = make_curve([make_binade(name, {"exact": 8}) for name in names if name != "2^3"])
    drawn = spec(make_sweep([curve]))
    (bars,) = layers(panels(drawn)[1][0], "rect")
    # Not over the gap, of which nothing is known.
    assert [(row["x"], row["x2"]) for row in values(drawn, bars)] == [(-0.5, 17.5), (18.5, 31.5)]


def test_curves_have_a_colour_and_a_dash_each_and_the_worst_are_drawn(
    make_sweep: Make, make_curve: MakeCurve, make_binade: MakeBinade
):
    clean = make_curve([make_binade("2^0", {"exact": 1})], around="clean")
    curves = [clean, *(make_curve(around=f"r{i}") for i in range(DRAWN + 2))]
    drawn = spec(make_sweep(curves))
    (line,) = layers(panels(drawn)[0], "line")
    names = {row["curve"] for row in values(drawn, line)}
    assert len(names) == len(panels(drawn)[1]) == DRAWN
    assert not any("clean" in name for name in names)
    for channel in ("color", "strokeDash"):
        scale = line["encoding"][channel]["scale"]
        assert set(scale["domain"]) == names
        assert len({json.dumps(each) for each in scale["range"]}) == DRAWN
    assert f"The {DRAWN} worst of {len(curves)} curves." in drawn["title"]["subtitle"]


def test_formats_are_not_drawn_on_one_axis(make_sweep: Make, make_curve: MakeCurve):
    curves = [make_curve(), make_curve(dtype="bfloat16", output="gradient")]
    assert len(panels(spec(make_sweep(curves)))[1]) == 1
    assert len(panels(spec(make_sweep(curves), "bfloat16"))[1]) == 1


def test_every_grade_has_a_colour_and_every_finding_a_shape():
    assert set(OF_GRADES) == set(GRADES)
    shapes = dict(zip(GRADES, sweep_plots.SHAPES_OF, strict=True))
    assert len({shapes[grade] for grade in FINDING_GRADES}) == len(FINDING_GRADES)


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_a_picture_is_small(make_sweep: Make, make_curve: MakeCurve, tmp_path: Path, name: str):
    path = tmp_path / "new" / name
    write_plot(make_sweep([make_curve(), make_curve(output="gradient")]), path)
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG" if name.endswith("png") else b"<svg")
    assert 5_000 < len(picture) < SMALL


def test_what_cannot_be_drawn_is_said(make_sweep: Make, tmp_path: Path):
    with pytest.raises(ValueError, match=r"neither \.png nor \.svg"):
        write_plot(make_sweep(), tmp_path / "plot.pdf")
    with pytest.raises(ValueError, match="no curve of the sweep has all of 'jax'"):
        write_plot(make_sweep(), tmp_path / "plot.png", "jax")
    assert not list(tmp_path.iterdir())


@given(raw=st.binary(max_size=2000), cut=st.integers(0, 2000), level=st.integers(0, 9))
def test_a_smaller_picture_holds_the_same(raw: bytes, cut: int, level: int):
    packed = zlib.compress(raw, level)
    parts = [(b"IHDR", b"head"), (b"IDAT", packed[:cut]), (b"IDAT", packed[cut:]), (b"IEND", b"")]
    found = _parts(smaller(_png(parts)))
    assert [name for name, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    assert zlib.decompress(found[1][1]) == raw
    assert found[0][1] == b"head"


def _png(parts: list[tuple[bytes, bytes]]) -> bytes:
    written = b"\x89PNG\r\n\x1a\n"
    for name, content in parts:
        checksum = zlib.crc32(name + content)
        written += len(content).to_bytes(4, "big") + name + content + checksum.to_bytes(4, "big")
    return written


def _parts(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        name, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert int.from_bytes(png[at + 8 + size : at + 12 + size], "big") == zlib.crc32(
            name + content
        )
        found.append((name, content))
        at += 12 + size
    return found
