"""A stored finding asked again: still shown, gone, or another grade, from the run file alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import Environment, availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.cli import app
from lossaudit.conformance import replay as replays
from lossaudit.conformance.cell import recorded_case
from lossaudit.conformance.engine import (
    CONVENTIONS,
    Auditor,
    Settings,
    audit,
    audited_in,
    contradiction,
)
from lossaudit.conformance.laws.registry import law
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.replay import GONE, OTHER, STILL, Now, ReplayError
from lossaudit.conformance.run import CaseRecord, Convention, Finding, read_run, write_run

OP, BINARY = "cross_entropy.index", "binary_cross_entropy_with_logits"


@pytest.fixture
def again(torch_subjects):
    """(finding, stand-in) -> what comes when it is asked again of the stand-in."""

    def ask(finding, make, key=OP):
        every = [replace(s, dtypes=("float32",)) for s in torch_subjects.values()]
        subject = next(s for s in every if s.name == torch_subjects[key].name)
        functions = {s.name: make(s) for s in every}
        auditor = Auditor(InProcess(functions), every, Settings(), lambda _: None)
        bench = auditor.bench(subject, "float32")
        case = recorded_case(finding.case, subject)
        with np.errstate(all="ignore"):
            return replays.judged(bench, law(finding.law), case, finding, {"torch": "9"})

    return ask


def test_a_finding_is_still_shown_by_what_showed_it_and_gone_of_what_is_right(
    audited, mutants, again
):
    finding = next(
        f for f in audited(OP, "value", **{"cross_entropy.index": mutants["twice"]}).findings
        if f.kind == "violates"
    )  # fmt: skip
    now = again(finding, mutants["twice"])
    assert now.verdict(finding) == STILL
    assert (list(now.value), list(now.right), now.ulps) == (
        finding.value,
        finding.right,
        finding.ulps,
    )
    now = again(finding, mutants["right"])
    assert now.verdict(finding) == GONE
    assert now.grade == "exact"
    assert list(now.value) == finding.right


def silent(subject):
    """It returns nothing any more: it raises."""
    del subject

    def call(_):
        raise IndexError("out of range\nand more")

    return call


def test_a_finding_that_became_another_is_said_to_be_another(audited, mutants, again):
    findings = audited(OP, "value", **{"cross_entropy.index": mutants["twice"]}).findings
    finding = next(f for f in findings if f.kind == "violates")
    now = again(finding, silent)
    assert now.verdict(finding) == OTHER
    assert (now.grade, now.told, now.value) == (
        "policy",
        "the call raised: IndexError: out of range",
        (),
    )


def test_a_call_that_raised_is_judged_by_all_that_it_returns_now(audited, mutants, again):
    found = audited(OP, "gradient-identity", **{"cross_entropy.index": silent}).findings
    assert {f.kind for f in found} == {"policy"}
    assert not any(f.right for f in found)
    assert {again(f, silent).verdict(f) for f in found} == {STILL}
    # The batch without rows among them, whose record says nothing of its width.
    assert {again(f, mutants["right"]).verdict(f) for f in found} == {GONE}
    ordinary = next(f for f in found if f.region == "ordinary")
    assert again(ordinary, mutants["scaled_gradient"]).verdict(ordinary) == OTHER


def test_every_finding_of_a_cell_is_shown_again_as_it_was(audited, mutants, again):
    """Relations between two calls among them."""
    seen = set()
    for name, wrong, key in (
        ("value", "scaled_loss", OP),
        ("shift-invariance", "unshifted", OP),
        ("gradient-sums-to-zero", "lost_target_gradient", OP),
        ("mirror", "naive_tail", BINARY),
        ("cotangents", "deaf", OP),
    ):
        for finding in audited(key, name, **{key: mutants[wrong]}).findings:
            now = again(finding, mutants[wrong], key)
            assert now.verdict(finding) == STILL, (finding, now)
            assert list(now.value) == finding.value
            seen.add(finding.law)
    assert len(seen) == 5


def convention(measured, *, agrees):
    return Convention(
        subject="torch:x[eager,cpu]",
        field="mean",
        declared="rows",
        measured=measured,
        agrees=agrees,
        evidence="numbers",
    )


@pytest.mark.parametrize(
    ("measured", "agrees", "verdict"),
    [
        ("valid", False, STILL),
        ("weights", False, OTHER),
        ("rows", True, GONE),
        ("", None, OTHER),
    ],
)
def test_a_contradicted_declaration_is_measured_again(measured, agrees, verdict):
    finding = contradiction(convention("valid", agrees=False))
    now = replays._convention(finding, [convention(measured, agrees=agrees)], {})
    assert now.verdict(finding) == verdict
    with pytest.raises(ReplayError, match="mean is not measured of torch"):
        replays._convention(finding, [], {})


def test_a_row_that_a_law_says_nothing_of_is_not_gone():
    finding = contradiction(convention("valid", agrees=False))
    finding = msgspec.structs.replace(finding, law="value")
    assert Now({}, replays.NOT_JUDGED_NOW).verdict(finding) == OTHER


def nothing_but_nan(subject):
    del subject
    return lambda case: (np.full(case.rows, np.nan), np.full_like(case.inputs, np.nan))


def test_an_inequality_says_nothing_of_nan_which_is_not_gone(audited, mutants, again):
    found = audited(OP, "lead-and-log-classes", **{OP: mutants["twice"]}).findings
    assert found
    for finding in found:
        now = again(finding, nothing_but_nan)
        assert (now.grade, now.verdict(finding)) == (replays.NOT_JUDGED_NOW, OTHER)


def test_a_law_that_does_not_apply_any_more_is_not_asked(torch_subjects):
    """It does not fit, or what it compares with is not there, or not in that format."""
    finding = msgspec.structs.replace(
        contradiction(convention("valid", agrees=False)),
        dtype="float16",
        law="one-hot-equals-index",
    )
    hard = torch_subjects[OP]
    soft = next(s for s in torch_subjects.values() if s.index_sibling == OP and s.mode == "eager")
    compared = law("one-hot-equals-index")
    replays.check_applies(compared, soft, [soft, hard], finding)
    with pytest.raises(ReplayError, match="does not apply to torch:x"):
        replays.check_applies(compared, hard, [soft, hard], finding)
    for every in ([soft], [soft, replace(hard, dtypes=("float32",))]):
        with pytest.raises(ReplayError, match=r"cross_entropy.index in mode eager.* in float16"):
            replays.check_applies(compared, soft, every, finding)


def test_the_environment_of_a_finding_is_the_one_that_its_subject_names():
    finding = contradiction(convention("valid", agrees=False))
    named = msgspec.structs.replace(finding, subject="torch@old:x[eager,cpu]")
    here, old, new = Environment("", "/a"), Environment("old", "/b"), Environment("new", "/c")
    assert replays.environment_of(finding, [here]) == here
    assert replays.environment_of(named, [new, old]) == old
    assert replays.environment_of(named, [here]) == Environment("old", "/a")
    with pytest.raises(ReplayError, match="--env old=PYTHON"):
        replays.environment_of(named, [new])
    with pytest.raises(ReplayError, match="--python PYTHON"):
        replays.environment_of(finding, [old, new])


# --- the command, on the real torch ---------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_run(tmp_path_factory):
    """A run file of one cell of the real torch, with a contradicted declaration beside it."""
    if reason := availability(FRAMEWORKS["torch"]):
        pytest.skip(reason)
    every = audited_in(FRAMEWORKS["torch"], Environment(), "quick", "cpu")
    subject = next(s for s in every if s.op == BINARY and s.mode == "eager")
    settings = Settings("quick", 0, ("value",))
    recorder = Recorder(settings)
    with WorkerPool() as pool:
        audit([replace(subject, dtypes=("float32",))], settings, recorder, pool, every)
    measured = convention("sum", agrees=False)
    recorder(contradiction(msgspec.structs.replace(measured, subject=subject.name)))
    path = tmp_path_factory.mktemp("replay") / "run.json"
    write_run(recorder.run(complete=True), path)
    return path


def lossaudit(*arguments):
    """The command in this process, with what a user sees of an error."""
    from lossaudit.cli import _explained

    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, Exception):
        said, code = _explained(done.exception)
        return code, said
    return done.exit_code, done.stdout


@pytest.mark.frameworks
def test_a_finding_of_torch_is_asked_again_from_its_file(torch_run):
    finding = next(f for f in read_run(torch_run).findings if f.kind == "precision")
    code, said = lossaudit("replay", torch_run, finding.id[:6])
    assert code == 1, said
    assert said.count(f"loss      {finding.value[0]} (0x") == 2
    assert said.splitlines()[-1] == "still shown: the call shows 'precision', as it did."
    assert f"of torch {FRAMEWORKS['torch'].packages and _version('torch')}" in said


def _version(package):
    import importlib.metadata

    return importlib.metadata.version(package)


@pytest.mark.frameworks
def test_a_finding_that_torch_does_not_show_is_gone(torch_run, tmp_path):
    """The same file with an input that loses nothing."""
    run = read_run(torch_run)
    finding = next(f for f in run.findings if f.kind == "precision")
    easy = msgspec.structs.replace(finding.case, inputs=[["1.0"]])
    run.findings[:] = [msgspec.structs.replace(finding, case=easy)]
    write_run(run, tmp_path / "easy.json")
    code, said = lossaudit("replay", tmp_path / "easy.json", finding.id)
    assert code == 0, said
    assert said.splitlines()[-1].startswith("gone: the call shows '")


@pytest.mark.frameworks
def test_a_convention_of_torch_is_measured_again(torch_run):
    (finding,) = (f for f in read_run(torch_run).findings if f.law == CONVENTIONS.name)
    code, said = lossaudit("replay", torch_run, finding.id)
    assert code == 0, said
    assert "what measures mean" in said


def changed(path: Path, out: Path, **fields) -> str:
    """The run with one finding that has other fields; its id."""
    run = read_run(path)
    finding: Finding = next(f for f in run.findings if f.law == "value")
    run.findings[:] = [msgspec.structs.replace(finding, **fields)]
    write_run(run, out)
    return finding.id


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"law": "one-hot-equals-index"}, 2, "'one-hot-equals-index' does not apply to torch:"),
        ({"law": "gravity"}, 2, "'gravity' is no law of this lossaudit"),
        ({"subject": "mxnet:ce[eager,cpu]"}, 2, "'mxnet', which is no framework here"),
        ({"subject": "torch:ce[eager,cpu]"}, 2, "torch:ce[eager,cpu] is no subject"),
        ({"subject": f"torch@old:{BINARY}[eager,cpu]"}, 0, ""),
        ({"dtype": "float8"}, 2, "is not audited in float8"),
        (
            {"case": CaseRecord(operation="", dtype="float32", inputs=[["one"]], target=[["1.0"]])},
            2,
            "is damaged: could not convert string to float: 'one'",
        ),
        ({"subject": f"torch:{BINARY}[eager,abacus]"}, 3, "torch cannot be used: is not audited"),
    ],
)
def test_a_finding_of_elsewhere_is_one_clear_line(torch_run, tmp_path, fields, code, said):
    path = tmp_path / "run.json"
    identity = changed(torch_run, path, **fields)
    arguments = ("replay", path, identity)
    if code == 0:  # of a named environment: refused without its interpreter, and asked with it
        assert lossaudit(*arguments)[0] == 1
        found = lossaudit(*arguments, "--env", "new=/no/such/python")
        assert found == (3, "environment new: /no/such/python does not exist.")
        return
    found = lossaudit(*arguments)
    assert found[0] == code, found
    assert said in found[1]
    assert "\n" not in found[1].strip()


@pytest.mark.frameworks
def test_a_truncated_file_an_unknown_id_and_no_interpreter(torch_run, tmp_path):
    broken = tmp_path / "run.json"
    broken.write_bytes(torch_run.read_bytes()[:2000])
    code, said = lossaudit("replay", broken, "a")
    assert (code, "truncated or edited?" in said) == (2, True)
    code, said = lossaudit("replay", torch_run, "zz")
    assert (code, said) == (2, f"{torch_run} has no finding whose id begins with 'zz'.")
    code, said = lossaudit("replay", torch_run, "")
    assert code == 2
    assert "findings whose id begins with ''" in said
    code, said = lossaudit("replay", torch_run, "a", "--python", "/no/such/python")
    assert (code, said) == (3, "/no/such/python does not exist.")


@pytest.mark.frameworks
def test_a_framework_that_is_not_installed_is_exit_code_3(torch_run, monkeypatch):
    monkeypatch.setattr(
        "lossaudit.conformance.replay.availability", lambda *_: "torch not installed"
    )
    identity = next(f.id for f in read_run(torch_run).findings if f.law == "value")
    code, said = lossaudit("replay", torch_run, identity)
    assert (code, said) == (3, "torch cannot be used: torch not installed")
