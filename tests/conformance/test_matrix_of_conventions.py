"""`lossaudit conventions`: what it prints and writes, of stand-ins and of the real frameworks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import subjects
from lossaudit.conformance.engine import CONVENTIONS, Settings, audit
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.run import write_json
from lossaudit.reports.conventions import TITLES, as_data, print_conventions
from lossaudit.reports.html import write_html
from lossaudit.reports.terminal import print_summary

EAGER = {s.name: s for s in subjects(depth="quick")}
TORCH = EAGER["torch:binary_cross_entropy[eager,cpu]"]
KERAS = EAGER["keras:BinaryCrossentropy.probabilities[eager,cpu]"]


@pytest.fixture(scope="module")
def run(behaving):
    """Two stand-ins for BCE on probabilities, of which one clips at another eps than declared."""
    does = replace(KERAS, semantics=replace(KERAS.semantics, guard_eps=1e-6))
    settings = Settings("quick", 0, (CONVENTIONS.name,))
    recorder = Recorder(settings)
    session = InProcess({TORCH.name: behaving(TORCH), KERAS.name: behaving(does)})
    audit([TORCH, KERAS], settings, recorder, session)
    return recorder.run(complete=True)


def printed(run, **options):
    out = io.StringIO()
    print_conventions(run, Console(file=out, width=100), **options)
    return out.getvalue().splitlines()


def test_each_field_lists_its_values_with_their_ops(run):
    lines = printed(run)
    at = lines.index("last_axis ≠ last axis of binary losses")
    assert lines[at + 1 : at + 4] == [
        "  binary_cross_entropy, binary ≠",
        "    kept: torch binary_cross_entropy",
        "    mean: keras BinaryCrossentropy.probabilities",
    ]
    assert "mutates inputs changed in place" in lines, "what does not differ has no mark"
    assert max(map(len, lines)) <= 100


def test_what_is_not_as_declared_is_marked_with_the_input_that_shows_it(run):
    lines = printed(run)
    at = lines.index(
        "    clip at 1e-06 ✗ declared clip at 1e-07: keras BinaryCrossentropy.probabilities"
    )
    # 1 - 1e-6 is 1 - 17/2^24 in float32.
    shown = "on p = [[0], [1]], y = [[1], [0]]: 13.816 at p = 0 (y = 1), 13.802 at p = 1 (y = 0)"
    assert lines[at + 1].strip() == shown
    assert "1 not as declared" in " ".join(lines)


def test_differences_are_printed_alone_each_with_its_input(run):
    lines = printed(run, differences=True)
    heads = [line for line in lines if not line.startswith(" ")]
    assert all("≠" in line for line in heads[:-1])
    assert not [line for line in heads if line.startswith(("mutates", "output", "mean"))]
    at = lines.index("    raises: torch binary_cross_entropy")
    assert lines[at + 1].strip() == "on p = [[0.25]], y = [[2]]: outside [0, 1]: raises"


def test_the_file_holds_what_was_measured(run, tmp_path):
    path = tmp_path / "conventions.json"
    write_json(as_data(run), path)
    data = json.loads(path.read_text(encoding="utf-8"))
    guard = {c["subject"]: c for c in data["conventions"] if c["field"] == "guard"}
    assert guard[TORCH.name]["measured"] == "log >= -100"
    assert guard[KERAS.name]["agrees"] is False
    assert guard[KERAS.name]["input"] == "p = [[0], [1]], y = [[1], [0]]"
    assert {"guard", "last_axis", "broadcasting"} <= set(data["differing"])
    # A few hundred bytes each, also for all ops of all frameworks.
    assert path.stat().st_size < 600 * len(data["conventions"]) + 12_000


def test_every_field_has_a_title():
    from lossaudit.conformance.probe import FIELDS

    assert set(TITLES) == {field.name for field in FIELDS}


def test_a_contradiction_reaches_the_summary_and_the_report(run, tmp_path):
    out = io.StringIO()
    print_summary(run, Console(file=out, width=200))
    said = out.getvalue()
    assert "Conventions not as declared (1)" in said
    assert "guard: declared clip at 1e-07, measured clip at 1e-06" in said
    assert "on p = [[0], [1]], y = [[1], [0]]" in said
    write_html(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "clip at 1e-06" in page
    assert "p = [[0], [1]], y = [[1], [0]]" in page


@pytest.mark.frameworks
def test_the_command_measures_a_real_framework(tmp_path):
    path = tmp_path / "torch.json"
    command = [sys.executable, "-m", "lossaudit", "conventions", "-b", "torch", "--json", str(path)]
    done = subprocess.run(
        [*command, "--differences"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    data = json.loads(path.read_text(encoding="utf-8"))
    seen = {(c["subject"], c["field"]): c["measured"] for c in data["conventions"]}
    index = "torch:cross_entropy.index[eager,cpu]"
    assert seen[index, "mean"] == "weights"
    assert seen[index, "class_axis"] == "second"
    assert seen[index, "ignore_index"] == "-100"
    binary = "torch:binary_cross_entropy[{},cpu]"
    assert seen[binary.format("eager"), "target_domain"] == "raises"
    # https://github.com/pytorch/pytorch/issues/193757, a known finding
    if (binary.format("compile"), "target_domain") in seen:
        assert seen[binary.format("compile"), "target_domain"] in ("computes", "")
