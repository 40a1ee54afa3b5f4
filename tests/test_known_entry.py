"""A new finding becomes a known one by the entry that is printed for it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from lossaudit import cli
from lossaudit.conformance.known import KnownFindingsError, entry_text, load
from lossaudit.conformance.run import CaseRecord, Finding, Run, read_run

WRONG = '''
import lossaudit
import numpy as np

@lossaudit.subject(operation="cross_entropy", framework="numpy", dtypes=["float32"])
def clamped(z, y):
    """Right, but no loss exceeds 50."""
    m = z.max(axis=1, keepdims=True, initial=-np.inf)
    e = np.exp(z - m)
    s = e.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = (np.log(s) + m)[:, 0] - z[rows, y]
    gradient = e / s
    gradient[rows, y] -= 1
    return np.minimum(loss, np.float32(50)), gradient
'''


def audited(module: Path, *options: str) -> tuple[int, Run]:
    out = module.with_name("run.json")
    command = ["run", "--adapter", str(module), "--depth", "quick", "--jobs", "1", "--law", "value"]
    # A process of its own: an adapter becomes a framework of the process that audits it.
    words = [sys.executable, "-m", "lossaudit", *command, "--out", str(out), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, read_run(out)


def printed_entry(module: Path, finding: Finding) -> str:
    run = str(module.with_name("run.json"))
    done = CliRunner().invoke(cli.app, ["explain", run, finding.id])
    assert done.exit_code == 0, done.output
    return done.output[done.output.index("[[finding]]") :]


def test_the_printed_entries_make_findings_known(tmp_path: Path):
    module = tmp_path / "losses.py"
    module.write_text(WRONG)
    code, run = audited(module)
    new = run.new_findings()
    assert code == cli.NEW_FINDINGS
    assert {f.kind for f in new} >= {"violates"}
    entries = "".join(printed_entry(module, finding) for finding in new)
    file = tmp_path / "known.toml"
    file.write_text(entries)
    with pytest.raises(KnownFindingsError, match="cause, link and versions are required"):
        load(file)
    filled = entries.replace("TODO: the cause in a sentence", "it clamps")
    file.write_text(filled.replace('link = ""', 'link = "https://example.org/1"'))
    code, again = audited(module, "--known", str(file))
    assert code == cli.NOTHING_NEW
    assert [f.id for f in again.findings] == [f.id for f in new]
    assert {f.cause for f in again.findings} == {"it clamps"}
    assert {record.state for record in again.known} == {"seen"}
    explained = CliRunner().invoke(
        cli.app, ["explain", str(tmp_path / "run.json"), again.findings[0].id]
    )
    assert "[[finding]]" not in explained.output, "it is among them already"


@pytest.mark.parametrize(
    ("version", "allowed", "refused"),
    [
        ("2.13.0", ["2.13.4"], ["2.14.0", "2.12.9"]),
        ("2.13.0+cpu", ["2.13.0+cu130"], ["2.14.0"]),
        ("2.15.0.dev20261101", ["2.15.0.dev20261101", "2.15.0"], ["2.14.0"]),
    ],
)
def test_the_range_is_that_of_the_run(
    version: str, allowed: list[str], refused: list[str], a_finding: Finding
):
    (entry,) = tomllib.loads(entry_text(a_finding, {"torch": version}))["finding"]
    wanted = SpecifierSet(entry["versions"]["torch"])
    assert all(wanted.contains(v, prereleases=True) for v in allowed)
    assert not any(wanted.contains(v, prereleases=True) for v in refused)


def test_any_text_and_every_number_survive(a_finding: Finding):
    from msgspec.structs import replace

    odd = replace(
        a_finding, region='quote " and \\ and \x7f and \n', subject="jax@old:f[eager,cpu]"
    )
    (entry,) = tomllib.loads(entry_text(odd, {"odd name": "1.0"}))["finding"]
    assert entry["regions"] == [odd.region]
    assert entry["cases"][0]["on"] == ["value jax:f[eager,cpu]"], (
        "an environment has no place in it"
    )
    assert CaseRecord(**entry["cases"][0]["case"]) == odd.case


@pytest.fixture
def a_finding() -> Finding:
    case = CaseRecord(
        operation="cross_entropy",
        dtype="float32",
        inputs=[["0.1", "-inf"]],
        target=[0],
        weight=["1.0", "2.5"],
        where=[True, False],
        by_target=True,
    )
    return Finding(
        id="0123456789",
        law="value",
        subject="torch:f[eager,cpu]",
        dtype="float32",
        region="ordinary",
        output="loss",
        kind="violates",
        status="new",
        rows=1,
        case=case,
        row=0,
        value=["1.0"],
        right=["2.0"],
        ulps=None,
        demand_ulps=None,
        declared_ulps=None,
        message="",
        snippet="",
    )
