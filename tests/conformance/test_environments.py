"""One audit of two environments: every record says which of the two it is about."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from lossaudit.adapters.environments import Environment
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.cli import UNUSABLE, exit_code
from lossaudit.conformance.engine import Settings, audit_all, plan
from lossaudit.conformance.known import load
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.run import Absence, read_run, write_run
from lossaudit.reports.digest import Digest
from lossaudit.reports.html import write_html

ECHO = "echo[eager,cpu]"
KNOWN = """
[[finding]]
id = "echo-is-no-loss"
kind = "violates"
outputs = ["loss"]
regions = ["ordinary"]
versions = { faulty = "<2" }
cause = "it returns its first logit"
link = "tests/adapters/faulty_adapter.py"

[[finding.cases]]
on = ["value faulty:echo[eager,cpu]"]
[finding.cases.case]
operation = "cross_entropy"
dtype = "float32"
inputs = [["2.0", "0.0"]]
target = [0]
"""


@pytest.fixture
def environments(tmp_path):
    """Two interpreters that differ in the version of the faulty framework that they have."""

    def made(name, version):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\nFAULTY_VERSION={version} exec "{sys.executable}" "$@"\n')
        path.chmod(0o755)
        return Environment(name, str(path))

    return made("new", "2.0"), made("old", "1.0")


@pytest.fixture
def run(faulty, environments, tmp_path, monkeypatch):
    """An audit of the op `echo` in both, under the law of the value."""
    framework = faulty.framework()
    arithmetic = FRAMEWORKS["torch"].subjects[0].arithmetic
    echo = replace(faulty.subject("echo"), dtypes=("float32",), arithmetic=arithmetic)
    registry = {"faulty": replace(framework, subjects=(echo,))}
    for module in ("adapters.registry", "conformance.engine"):
        monkeypatch.setattr(f"lossaudit.{module}.FRAMEWORKS", registry)
    known = tmp_path / "known.toml"
    known.write_text(KNOWN)
    settings = Settings("quick", 0, ("value",), load(known))
    recorder = Recorder(settings)
    audit_all(["faulty"], settings, recorder, 1, environments)
    return recorder.run(complete=True)


def test_records_of_two_environments_stay_apart(run, tmp_path):
    names = {f"faulty@new:{ECHO}", f"faulty@old:{ECHO}"}
    assert not run.incidents
    assert {s.name: s.versions["faulty"] for s in run.subjects} == {
        f"faulty@new:{ECHO}": "2.0",
        f"faulty@old:{ECHO}": "1.0",
    }
    for records in (run.tallies, run.findings, run.conventions):
        by_name = {name: [r for r in records if r.subject == name] for name in names}
        assert sum(map(len, by_name.values())) == len(records)
        new, old = by_name.values()
        assert len(new) == len(old) > 0
    assert len({f.id for f in run.findings}) == len(run.findings)
    for name, version in (("new", "2.0"), ("old", "1.0")):
        facts = run.environment.workers[f"faulty False@{name}"]
        assert [v for k, v in facts.items() if k.endswith("versions faulty")] == [version]
    write_run(run, tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == run


def test_known_findings_apply_to_the_versions_that_they_name(run):
    status = {
        f.subject: f.status
        for f in run.findings
        if (f.law, f.region, f.output, f.kind) == ("value", "ordinary", "loss", "violates")
    }
    assert status == {f"faulty@new:{ECHO}": "new", f"faulty@old:{ECHO}": "known"}
    (record,) = run.known
    assert (record.state, record.detail) == ("seen", "replayed on 1 subjects, laws and dtypes")


def test_reports_name_the_environments_and_their_versions(run, tmp_path):
    lines = {line.name: line.label for line in Digest(run).lines()}
    assert lines == {
        "faulty@new": "faulty@new: faulty 2.0",
        "faulty@old": "faulty@old: faulty 1.0",
    }
    write_html(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'data-framework="faulty@new"' in page
    assert 'data-framework="faulty@old"' in page
    assert "faulty@old: faulty 1.0" in page


def test_a_framework_that_one_environment_lacks_is_absent_there(monkeypatch):
    def availability(framework, environment):
        return f"{framework.name} not installed" if environment.name == "bare" else ""

    monkeypatch.setattr("lossaudit.conformance.engine.availability", availability)
    parts, absent = plan(["jax"], "quick", [Environment("full"), Environment("bare")])
    assert [part.name for part in parts] == ["jax@full eager"]
    assert [(a.framework, a.reason) for a in absent] == [("jax@bare", "jax not installed")]
    recorder = Recorder(Settings())
    recorder(Absence(framework="jax@bare", reason="jax not installed", hint=""))
    assert exit_code(recorder.run(complete=True), ["jax"]) == UNUSABLE


def test_subjects_and_siblings_are_those_of_one_environment(monkeypatch):
    monkeypatch.setattr("lossaudit.conformance.engine.availability", lambda *_: "")
    parts, _ = plan(["torch"], "standard", [Environment("a"), Environment("b")])
    assert {p.name for p in parts} == {
        f"torch@{name} {mode}" for name in "ab" for mode in ("eager", "compiled")
    }
    for part in parts:
        assert {s.environment for s in (*part.subjects, *part.context)} == {part.environment.name}
