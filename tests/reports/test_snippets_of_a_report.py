"""The scripts in a real report, run: they print the very bits that their cards show.

One framework after the other is audited quickly with nothing known, under a law of the loss, one of
the gradient, one about calls that raise and one that compares two calls; its report is written, and
the scripts of all its cards are run. Scripts do not know their law, and test_snippets.py runs one
of every subject.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lossaudit.adapters.environments import Environment, availability
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.run import Finding, Run, read_run, unpacked

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]

RUNNER = """
import contextlib, io, json, sys
for line in sys.stdin:
    name, script = json.loads(line)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(script, name, "exec"), {"__name__": "__main__"})
        error = ""
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    print(json.dumps([name, printed.getvalue(), error]), flush=True)
"""
"""Runs scripts as they come, since to import a framework takes seconds."""

LAWS = ("value", "gradient-identity", "label-policy", "mirror")
"""What is asked: losses, gradients, calls that raise, and a law that compares two calls."""

DIRECT = {"value": "loss", "gradient-identity": "gradient"}
"""Laws whose numbers are those of one call, and what is judged of it; others compare several."""


def snippets(page: str) -> dict[str, str]:
    """Id of each finding -> its script, as the cards of the page have it."""
    packs = re.findall(r'<script type="text/plain" class="cards">([^<]*)</script>', page)
    cards = "".join(gzip.decompress(base64.b64decode(pack)).decode() for pack in packs)
    parts = re.split(r'<details class="card item" id="finding-', cards)[1:]
    found = {}
    for part in parts:
        (script,) = re.findall(
            r'<pre class="snippet"[^>]*><code>(.*?)</code></pre>', part, re.DOTALL
        )
        found[part.partition('"')[0]] = html.unescape(script)
    return found


def run_all(scripts: dict[str, str], environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What each script printed, and what it raised."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input="".join(json.dumps([name, script]) + "\n" for name, script in scripts.items()),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=1200,
    )
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(said) == len(scripts), done.stderr[-3000:]
    return {name: (printed, error) for name, printed, error in said}


def numbers(line: str) -> Any:
    return eval(line, {"nan": math.nan, "inf": math.inf})  # noqa: S307


def same(printed: str, finding: Finding) -> bool:
    """Whether a script printed what its card shows, bit by bit."""
    lines = [numbers(line) for line in printed.splitlines() if line]
    found = lines[0] if finding.output == "loss" else lines[1]
    if finding.case.reduction == "none" or finding.output != "loss":
        found = found[finding.row]
    values = found if isinstance(found, list) else [found]
    shown = [float(text) for text in unpacked(finding.value)]
    return [float.hex(value) for value in values] == [float.hex(value) for value in shown]


def audited(framework: str, folder: Path) -> tuple[Run, str]:
    """A quick audit with nothing known, and its page."""
    (folder / "none.toml").write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "lossaudit", "run", "-b", framework, "--depth", "quick"]
    command += [argument for law in LAWS for argument in ("--law", law)]
    wanted = ["--out", "run.json", "--html", "report.html", "--known", "none.toml"]
    done = subprocess.run(
        [*command, *wanted], cwd=folder, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return read_run(folder / "run.json"), (folder / "report.html").read_text(encoding="utf-8")


# Keras on TensorFlow is not audited without the other backends; test_snippets.py runs its scripts.
@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if name != "keras"])
def test_every_script_of_a_real_report_prints_what_its_card_shows(name: str, tmp_path: Path):
    framework = FRAMEWORKS[name]
    if reason := availability(framework, Environment()):
        pytest.skip(reason)
    run, page = audited(name, tmp_path)
    scripts = snippets(page)
    findings = {finding.id: finding for finding in run.findings if finding.snippet}
    assert set(scripts) == {finding.id for finding in run.findings}
    assert findings
    dtypes: dict[str, dict[str, str]] = {}
    for identity, finding in findings.items():
        subject = next(s for s in framework.subjects if s.name == finding.subject)
        _, environment = framework.worker(subject, finding.dtype)
        dtypes.setdefault(json.dumps(environment), {})[identity] = scripts[identity]
    said = {
        identity: result
        for environment, mine in dtypes.items()
        for identity, result in run_all(mine, json.loads(environment)).items()
    }
    wrong = []
    for identity, (printed, error) in said.items():
        finding = findings[identity]
        direct = DIRECT.get(finding.law) == finding.output and finding.value
        if error and not _raised(finding, error):
            wrong.append(f"{identity} {finding.law} {finding.subject}: raised {error}")
        elif direct and not error and not same(printed, finding):
            wrong.append(f"{identity} {finding.subject}: {printed} is not {finding.value}")
    assert not wrong, "\n".join(wrong[:20])


def _raised(finding: Finding, error: str) -> bool:
    """Whether the finding is about a call that raises, and the script raised the same kind."""
    return error.partition(":")[0] in f"{finding.message} {finding.value} {finding.right}"
