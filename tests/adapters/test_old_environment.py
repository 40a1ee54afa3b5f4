"""A worker in an environment of its own, years older, in which lossaudit is not installed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.registry import subjects
from lossaudit.conformance.compare import compare
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.known import load
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.run import Convention, Finding, Incident, Tally, read_run

OLD = ("jax==0.4.30", "jaxlib==0.4.30", "optax==0.2.3", "numpy==1.26.4", "scipy==1.13.1")

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]  # it installs packages from the registry


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *OLD], check=True, timeout=900)
    return str(python)


def test_old_jax_is_audited_by_the_same_laws(old_python):
    wanted = "jax:softmax_cross_entropy[jit,cpu]"
    every = subjects(["jax"], "standard")
    subject = replace(next(s for s in every if s.name == wanted), dtypes=("float32",))
    events = []
    with WorkerPool(python=old_python) as pool:
        assert pool.versions("jax")["jax"] == "0.4.30"
        assert pool.versions("jax")["optax"] == "0.2.3"
        laws = ("value", "finite-where-finite", "shift-invariance")
        audit([subject], Settings("quick", 0, laws), events.append, pool, every)
    assert not [e for e in events if isinstance(e, Incident)]
    assert {e.law for e in events if isinstance(e, Tally)} >= set(laws)
    assert all(e.agrees is not False for e in events if isinstance(e, Convention))
    masked = [e for e in events if isinstance(e, Finding) and e.region == "minus-inf-non-target"]
    assert [f.value for f in masked if f.law == "value"] == [["nan"]]


def test_old_and_installed_jax_are_audited_in_one_run(old_python, tmp_path):
    """By the command line, as somebody who moves a team to another version would."""
    run_file, page = tmp_path / "run.json", tmp_path / "report.html"
    command = [sys.executable, "-m", "lossaudit", "run", "--backend", "jax", "--depth", "quick"]
    environments = ["--env", f"new={sys.executable}", "--env", f"old={old_python}"]
    laws = ["--law", "finite-where-finite"]
    files = ["--out", str(run_file), "--html", str(page)]
    done = subprocess.run(
        [*command, *environments, *laws, *files, "--jobs", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 1, done.stderr  # what the old one does is not among what is known
    run = read_run(run_file)
    assert run.complete
    # A mode may be without a call that the probe makes; nothing may have gone wrong.
    assert not [i for i in run.incidents if "is not supported here" not in i.message]
    assert not run.absent
    seen = {s.framework: s.versions for s in run.subjects}
    assert seen["jax@new"]["jax"] == version("jax")
    assert (seen["jax@old"]["jax"], seen["jax@old"]["optax"]) == ("0.4.30", "0.2.3")
    names = {s.name.partition(":")[2] for s in run.subjects}
    assert len(run.subjects) == 2 * len(names)
    for records in (run.tallies, run.conventions):
        assert {r.subject.partition(":")[0] for r in records} == {"jax@new", "jax@old"}
    assert {w for w in run.environment.workers if w.startswith("jax@")} == {"jax@new", "jax@old"}
    # Each entry of the known findings applies to the versions that it names, wherever they are.
    entries = {entry.id: entry for entry in load().entries}
    assert {f.status for f in run.findings if f.subject.startswith("jax@old")} >= {"new"}
    for finding in run.findings:
        if finding.status == "known":
            versions = seen[finding.subject.partition(":")[0]]
            assert entries[finding.known].in_range(versions)
    for text in (done.stdout, page.read_text(encoding="utf-8")):
        assert "jax@old: jax 0.4.30" in text


def test_an_upgrade_is_shown_by_a_script_that_runs_in_both(old_python, tmp_path):
    """optax 0.2.8 takes the label's logit from a logsumexp: large offsets cost all digits."""
    wanted = "jax:softmax_cross_entropy_with_integer_labels[eager,cpu]"
    subject = next(s for s in subjects(["jax"], "quick") if s.name == wanted)
    subject = replace(subject, dtypes=("float32",), options=frozenset(), reductions=("none",))
    runs = []
    for python in (old_python, sys.executable):
        settings = Settings("quick", 0, ("value",))
        recorder = Recorder(settings)
        with WorkerPool(python=python) as pool:
            audit([subject], settings, recorder, pool)
        runs.append(recorder.run(complete=True))
    comparison = compare(*runs)
    assert comparison.verdict == "regressed"
    worse = next(c for c in comparison.changes if (c.kind, c.region) == ("worse", "large-offset"))
    assert (worse.output, worse.nearer) == ("loss", 0)
    script = tmp_path / "script.py"
    script.write_text(worse.snippet, encoding="utf-8")
    for python, shown in ((old_python, worse.old), (sys.executable, worse.new)):
        done = subprocess.run([python, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = [float(x) for x in re.findall(r"-?\d\.[\de+-]+", done.stdout.splitlines()[0])]
        assert float(shown[0]) in printed, done.stdout
