"""The command line as a user meets it: exit codes, one clear line, files that are always whole."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, LEFT_TO_DEEP, subjects
from lossaudit.cli import (
    INTERNAL,
    INTERRUPTED,
    NEW_FINDINGS,
    NOTHING_NEW,
    UNUSABLE,
    app,
    exit_code,
    main,
)
from lossaudit.conformance.engine import Settings
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.run import (
    Absence,
    ExampleAnswer,
    Incident,
    KnownRecord,
    read_run,
    write_run,
)


def lossaudit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossaudit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--backend", "mxnet"), "'mxnet' is not known; there are: torch"),
        (("run", "--law", "gravity"), "'gravity' is not known; there are: value"),
        (("run", "--depth", "bottomless"), "there are: quick, standard, deep"),
        (("run", "--fail-on", "mondays"), "there are: any, violates"),
        (("run", "--worst-of", "/no/such/run.json"), "cannot read /no/such/run.json"),
        (("run", "--seed", "dice"), "--seed: 'dice' is no whole number and not 'random'"),
        (("run", "--device", "abacus"), "'abacus' is not known; there are: cpu, cuda, mps"),
        (("run", "--known", "/no/such/file.toml"), "cannot read /no/such/file.toml"),
        (("run", "--out", "/proc/no/run.json"), "cannot write to /proc/no"),
        (("run", "--html", "/"), "/ is a folder"),
        (("report", "/no/such/run.json"), "cannot read /no/such/run.json"),
        (("explain", "/no/such/run.json", "abc"), "cannot read /no/such/run.json"),
        (("list", "--backend", "mxnet"), "'mxnet' is not known"),
        (("conventions", "--backend", "mxnet"), "'mxnet' is not known; there are: torch"),
        (("theory", "--backend", "mxnet"), "'mxnet' is not known; there are: torch"),
        (("misuse", "--backend", "mxnet"), "'mxnet' is not known; there are: torch"),
        (("conventions", "--json", "/proc/no/file.json"), "cannot write to /proc/no"),
        (("examples", "--backend", "mxnet"), "'mxnet' is not known; there are: torch"),
        (("examples", "--id", "Z9"), "--id: 'Z9' is not known; there are: A1, A2"),
        (("examples", "--file", "/no/such.toml"), "cannot read /no/such.toml: No such file"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(arguments, said):
    done = lossaudit(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("claim = { loss = 0.4, probabilities = 0.5 }", "'probabilities' must hold 2 numbers"),
        ("claim = { loss = 0.4, probabilities = [0.5] }", "'probabilities' must hold 2 numbers"),
        ("claim = { loss = [0.4], probabilities = [0.3, 0.7] }", "must hold one number"),
        ('operation = ["a"]', "'operation' must be a text"),
        (f"claim = {{ loss = 1e{'9' * 20} }}", "a number in it is too long"),
        (f"claim = {{ loss = {'9' * 5000} }}", "a number in it is too long"),
    ],
)
def test_an_example_that_cannot_be_read_is_one_clear_line_and_exit_code_2(
    monkeypatch, tmp_path, capsys, wrong, said
):
    right = {
        "id": '"M1"',
        "operation": '"cross_entropy"',
        "logits": "[1.0, 2.0]",
        "target": "1",
        "claim": "{}",
    }
    name, _, value = wrong.partition(" = ")
    lines = [f"{field} = {text}" for field, text in {**right, name: value}.items()]
    path = tmp_path / "mine.toml"
    path.write_text('[sources]\nM = "Mine"\n[[example]]\n' + "\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["lossaudit", "examples", "--file", str(path), "-b", "jax"])
    with pytest.raises(SystemExit) as stopped:
        main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2, line
    assert said in line


def test_two_adapters_of_one_name_are_wrong_use_and_one_given_twice_is_one(tmp_path):
    one, other = tmp_path / "kernel.py", tmp_path / "other" / "kernel.py"
    other.parent.mkdir()
    for path in (one, other):
        path.write_text("x = 1")
    done = lossaudit("list", "--backend", "torch", "--adapter", str(one), "--adapter", str(other))
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"lossaudit: --adapter: 'kernel' is a framework already; rename {other}.\n"
    )
    again = str(other.parent / ".." / "kernel.py")
    done = lossaudit("list", "--backend", "torch", "--adapter", str(one), "--adapter", again)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nkernel (absent") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "old"), "'old' is not NAME=PYTHON"),
        (("--env", "a:b=/bin/python"), "is not NAME=PYTHON"),
        (("--env", f"a={sys.executable}", "--env", "a=/b"), "the name 'a' is given twice"),
        (("--python", sys.executable, "--env", "a=/b"), "--python and --env exclude each other"),
        (("--memory", "0"), "--memory: 0 is no number of GiB above 0"),
        (("--memory", "nan"), "--memory: nan is no number"),
    ],
)
def test_environments_that_cannot_be_meant_are_wrong_use(arguments, said):
    done = lossaudit("run", "--depth", "quick", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--python", "/no/such/python"), "/no/such/python does not exist"),
        (("--env", "old=/no/such/python"), "environment old: /no/such/python does not exist"),
        (("--env", "old=/"), "environment old: / is a folder"),
        (("--env", "old=/bin/echo"), "environment old: /bin/echo is no Python"),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_clear_line_and_exit_code_3(arguments, said):
    done = lossaudit("run", "--depth", "quick", *arguments)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize("content", ["", "{", '{"format": 1, "tallies": 3}', "[]"])
def test_a_broken_run_file_is_one_clear_line_and_exit_code_2(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    done = lossaudit("report", str(path), "--html", str(tmp_path / "report.html"))
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.frameworks
def test_a_device_that_is_not_there_is_one_clear_line_and_exit_code_3():
    device = "cuda" if sys.platform == "darwin" else "mps"
    done = lossaudit("run", "--backend", "torch", "--device", device, "--depth", "quick")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(f"lossaudit: --device {device}: torch: no such device here, only")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.frameworks
@pytest.mark.parametrize("backend", ["jax", "keras-torch"])
def test_a_gpu_that_a_framework_does_not_find_is_refused_in_the_same_words(backend, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    done = lossaudit("run", "--backend", backend, "--device", "cuda")
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"lossaudit: --device cuda: {backend}: no such device here, only cpu.\n"


def test_a_framework_that_is_audited_on_the_cpu_alone_says_so():
    done = lossaudit("run", "--backend", "keras-numpy", "--device", "cuda")
    assert done.returncode == 3
    assert done.stderr == "lossaudit: --device cuda: keras-numpy: is not audited there.\n"


def test_version():
    done = lossaudit("--version")
    assert (done.returncode, done.stdout) == (0, "lossaudit 0.1.0\n")


def test_list_names_everything_and_imports_no_framework():
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "lossaudit",
            "list",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "tensorflow", "keras", "jax", "optax", "onnx", "onnxruntime"}
    for framework in FRAMEWORKS.values():
        for subject in framework.subjects:
            assert subject.name in done.stdout
    count = sum(len(framework.subjects) for framework in FRAMEWORKS.values())
    assert f"{count} subjects with their modes" in done.stdout
    marked = [line for line in done.stdout.splitlines() if "(misuse: double softmax)" in line]
    assert [line.split()[0] for line in marked] == ["torch:cross_entropy.of_softmax[eager,cpu]"]
    for word in ("cross_entropy_probabilities", "shift-invariance", "two-class-equals-binary"):
        assert word in done.stdout


def test_stored_run_is_reported_again(tmp_path):
    run = Recorder(Settings()).run(complete=True)
    write_run(run, tmp_path / "run.json")
    page = tmp_path / "page.html"
    done = lossaudit("report", str(tmp_path / "run.json"), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "page.html" in done.stdout


def test_an_unknown_finding_is_said(tmp_path):
    write_run(Recorder(Settings()).run(complete=True), tmp_path / "run.json")
    done = lossaudit("explain", str(tmp_path / "run.json"), "beef")
    assert done.returncode == 2
    assert "no finding whose id begins with 'beef'" in done.stderr


def recorded(*events):
    recorder = Recorder(Settings())
    for event in events:
        recorder(event)
    return recorder.run(complete=True)


def test_exit_codes_of_a_finished_run(audited_torch_finding):
    absent = Absence(framework="jax", reason="not installed", hint="pip install jax")
    assert exit_code(recorded(), []) == NOTHING_NEW
    assert exit_code(recorded(absent), []) == NOTHING_NEW
    assert exit_code(recorded(absent), ["jax"]) == UNUSABLE
    broken = Incident(subject="s", law="value", dtype="float32", message="internal: Traceback")
    assert exit_code(recorded(broken), []) == INTERNAL
    precision, violates = audited_torch_finding
    assert exit_code(recorded(precision), []) == NEW_FINDINGS
    assert exit_code(recorded(precision), [], "violates") == NOTHING_NEW
    assert exit_code(recorded(precision, violates), [], "violates") == NEW_FINDINGS
    gone = recorded()
    gone.known.append(KnownRecord(entry="x", state="gone", detail=""))
    assert exit_code(gone, []) == NEW_FINDINGS


@pytest.fixture
def audited_torch_finding():
    """Two findings, one of kind precision."""
    import msgspec

    from lossaudit.conformance.engine import contradiction
    from lossaudit.conformance.run import Convention

    convention = Convention(
        subject="s", field="mean", declared="rows", measured="valid", agrees=False, evidence="e"
    )
    violates = contradiction(convention)
    return msgspec.structs.replace(violates, kind="precision", id="other"), violates


@pytest.mark.frameworks
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_interruption_leaves_a_valid_partial_run(tmp_path, sign, left_behind):
    run_file, page = tmp_path / "run.json", tmp_path / "report.html"
    # A quick audit may end before it says for the first time how far it is.
    command = [sys.executable, "-m", "lossaudit", "run", "--backend", "torch"]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--out", str(run_file), "--html", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    # Past the imports and into the first cells: the progress of a pipe is a line now and then.
    while not re.match("[1-9][0-9,]*/", line := process.stderr.readline()):
        assert line, "it ended before it was interrupted"
    os.killpg(process.pid, sign) if sign == signal.SIGINT else process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "PARTIAL" in out
    run = read_run(run_file)
    assert not run.complete
    assert run.tallies
    assert "PARTIAL" in page.read_text(encoding="utf-8")
    assert not left_behind(process.pid)


@pytest.mark.frameworks
def test_absent_framework_asked_for_by_name_is_exit_code_3(tmp_path):
    """An interpreter that lacks jax: it is said to be absent, with what installs it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m, importlib.util as u\n"
        "version, find = m.version, u.find_spec\n"
        "def gone(name):\n"
        "    if name in ('jax', 'jaxlib', 'optax'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "def none(name, *more):\n"
        "    return None if name in ('jax', 'jaxlib', 'optax') else find(name, *more)\n"
        "m.version, u.find_spec = gone, none\n"
    )
    run_file = tmp_path / "run.json"
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = lossaudit("run", "-b", "jax", "--out", str(run_file), PYTHONPATH=path)
    assert done.returncode == 3, done.stderr
    assert "pip install" in done.stdout
    assert json.loads(run_file.read_text())["absent"][0]["framework"] == "jax"


@pytest.mark.frameworks
def test_a_seed_drawn_at_random_is_said_and_recorded_and_repeats_the_run(tmp_path):
    def audited(seed, name):
        where = ("--backend", "torch", "--law", "mirror", "--depth", "quick", "--jobs", "1")
        done = lossaudit("run", *where, "--seed", seed, "--out", str(tmp_path / name))
        assert done.returncode in (NOTHING_NEW, NEW_FINDINGS), done.stderr
        return done, read_run(tmp_path / name)

    done, drawn = audited("random", "drawn.json")
    assert f"seed {drawn.seed}, drawn at random: --seed {drawn.seed} repeats it" in done.stderr
    assert 0 <= drawn.seed < 2**32
    done, again = audited(str(drawn.seed), "again.json")
    assert "drawn at random" not in done.stderr
    assert drawn.tallies
    assert (again.seed, again.tallies, again.findings) == (
        drawn.seed,
        drawn.tallies,
        drawn.findings,
    )


def test_two_seeds_drawn_at_random_are_two():
    from lossaudit.cli import _seed

    assert len({_seed("random") for _ in range(8)}) == 8
    assert _seed("-3") == -3


@pytest.mark.parametrize("verb", ["run", "conventions"])
@pytest.mark.parametrize(
    ("asked", "code"), [(("-b", "keras"), UNUSABLE), (("-b", "torch"), NOTHING_NEW)]
)
def test_an_absent_member_of_a_family_is_said_by_every_verb(monkeypatch, verb, asked, code):
    def audit_all(frameworks, settings, emit, *_):
        del settings
        if "keras-torch" in frameworks:
            emit(Absence(framework="keras-torch", reason="torch not installed", hint="pip"))

    for module in ("resumable", "engine"):
        monkeypatch.setattr(f"lossaudit.conformance.{module}.audit_all", audit_all)
    done = CliRunner().invoke(app, [verb, *asked])
    assert done.exit_code == code, done.output
    assert ("keras-torch" in done.stdout) == (code == UNUSABLE)
    assert ("torch not installed" in done.stdout) == (code == UNUSABLE)


@pytest.mark.parametrize(
    ("asked", "audited"),
    [
        ((), False),
        (("--depth", "quick"), False),
        (("--depth", "deep"), True),
        (("-b", "all"), True),
        (("-b", "keras", "--depth", "quick"), True),
    ],
)
def test_keras_on_other_backends_is_left_to_the_depth_deep_unless_it_is_named(
    monkeypatch, asked, audited
):
    heard = []
    listen = "lossaudit.conformance.resumable.audit_all"
    monkeypatch.setattr(listen, lambda f, *_: heard.extend(f))
    monkeypatch.setattr("lossaudit.adapters.environments.availability", lambda *_: "")
    done = CliRunner().invoke(app, ["run", *asked])
    assert done.exit_code == NOTHING_NEW, done.output
    assert "keras" in heard
    assert [name in heard for name in LEFT_TO_DEEP] == [audited] * len(LEFT_TO_DEEP)
    said = f"left to --depth deep: {', '.join(LEFT_TO_DEEP)}; --backend NAME, or all, audits them"
    assert (said in done.stderr) is not audited


def test_what_only_all_names_may_be_absent(monkeypatch):
    def audit_all(frameworks, settings, emit, *_):
        del frameworks, settings
        emit(Absence(framework="jax", reason="jax not installed", hint="pip"))

    monkeypatch.setattr("lossaudit.conformance.resumable.audit_all", audit_all)
    codes = {
        asked: CliRunner().invoke(app, ["run", *(f"-b{name}" for name in asked)]).exit_code
        for asked in (("all",), ("all", "torch"), ("all", "jax"))
    }
    assert codes == {("all",): NOTHING_NEW, ("all", "torch"): NOTHING_NEW, ("all", "jax"): UNUSABLE}


@pytest.mark.parametrize("verb", ["theory", "misuse"])
@pytest.mark.parametrize(
    ("asked", "absent", "code"), [((), False, NOTHING_NEW), (("-b", "torch"), True, UNUSABLE)]
)
def test_who_was_not_asked_is_said(monkeypatch, verb, asked, absent, code):
    def ask_each(_, ask, begin, emit):
        begin("onnxruntime")
        with InProcess(lambda case: (np.zeros(case.rows), np.zeros_like(case.inputs))) as session:
            for answer in itertools.islice(ask(session, subjects(["onnxruntime"], "quick")), 1):
                emit(replace(answer, claims=(), broken=False) if verb == "theory" else answer)
        if absent:
            emit(Absence(framework="torch", reason="not installed", hint="pip"))

    monkeypatch.setattr("lossaudit.conformance.plainly.ask_each", ask_each)
    done = CliRunner().invoke(app, [verb, *asked])
    assert done.exit_code == code, done.output
    assert "asking onnxruntime" in done.stderr
    assert ("not asked: torch: not installed; pip" in done.stdout) == absent


@pytest.mark.parametrize("verb", ["theory", "misuse"])
def test_an_interrupted_question_says_what_it_heard(monkeypatch, verb):
    def ask_each(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossaudit.conformance.plainly.ask_each", ask_each)
    done = CliRunner().invoke(app, [verb, "--markdown"])
    assert done.exit_code == INTERRUPTED
    assert "interrupted; this is what was heard until then" in done.stderr


def test_a_statement_that_does_not_hold_is_a_finding(monkeypatch):
    def ask_each(_, ask, begin, emit):
        begin("torch")
        with InProcess(lambda case: (np.zeros(case.rows), np.zeros_like(case.inputs))) as session:
            for answer in itertools.islice(ask(session, subjects(["torch"], "quick")), 4):
                emit(answer)
        emit(Absence(framework="jax", reason="not installed", hint="pip"))

    monkeypatch.setattr("lossaudit.conformance.plainly.ask_each", ask_each)
    done = CliRunner().invoke(app, ["theory", "-b", "torch", "-b", "jax"])
    assert done.exit_code == NEW_FINDINGS, done.output
    assert "FAILS in" in done.stdout


def test_the_reference_is_verified_on_this_machine():
    done = lossaudit("reference", "--verify")
    assert done.returncode == 0, done.stderr
    assert "values agree, bit for bit" in done.stdout
    assert lossaudit("reference").returncode == 2


EXAMPLE = """
[sources]
M = "Mine"

[[example]]
id = "M1"
operation = "cross_entropy_probabilities"
p = [0.7, 0.3]
target = 0
claim = { loss = 0.36 }
"""


@pytest.mark.parametrize(
    ("heard", "asked", "code"),
    [
        ([("0.3567", True)], ["-b", "jax"], NOTHING_NEW),
        ([("0.3567", True), ("0.75", False)], ["-b", "jax"], NEW_FINDINGS),
        ([Absence(framework="jax", reason="gone", hint="pip")], ["-b", "jax"], UNUSABLE),
        ([Absence(framework="jax", reason="gone", hint="pip")], [], NOTHING_NEW),
        ([Incident(subject="jax", law="", dtype="", message="lost")], [], NEW_FINDINGS),
        ([Incident(subject="jax", law="", dtype="", message="internal: x")], [], INTERNAL),
        ([KeyboardInterrupt()], [], 130),
    ],
)
def test_the_exit_code_of_examples_says_what_the_frameworks_said(
    monkeypatch, tmp_path, heard, asked, code
):
    def ask(frameworks, examples, emit, jobs):
        del frameworks, jobs
        for dtype, each in zip(("float64", "float32"), heard, strict=False):
            if isinstance(each, BaseException):
                raise each
            if isinstance(each, tuple):
                value, agrees = each
                each = ExampleAnswer(  # noqa: PLW2901
                    example=examples[0].id, figure="loss", case="", subject="jax:op[eager,cpu]",
                    dtype=dtype, value=[value], agrees=agrees, ulps=0.0,
                )  # fmt: skip
            emit(each)

    monkeypatch.setattr("lossaudit.conformance.examples.frameworks.ask_frameworks", ask)
    path = tmp_path / "mine.toml"
    path.write_text(EXAMPLE)
    done = CliRunner().invoke(app, ["examples", "--file", str(path), *asked])
    assert done.exit_code == code, done.output
    assert "right     loss 0.36" in done.output
    marked = CliRunner().invoke(app, ["examples", "--file", str(path), "--markdown", *asked])
    assert marked.exit_code == code
    assert "### M1 cross entropy probabilities" in marked.output
