"""The trial of the laws: mutants are found, right implementations are not accused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossaudit import cli
from lossaudit.adapters.installed import missing
from lossaudit.conformance.selftest import controls
from lossaudit.conformance.selftest import trial as module
from lossaudit.conformance.selftest.catalogue import CANNOT_EXIST, CATALOGUE
from lossaudit.conformance.selftest.controls import CONTROLS
from lossaudit.conformance.selftest.kernels import CrossEntropy
from lossaudit.conformance.selftest.libraries import IN_LIBRARIES, MODULES
from lossaudit.conformance.selftest.mutants import MUTANTS, Mutant
from lossaudit.conformance.selftest.trial import Heard, NotTried, made_of, names, trial

# One that a value shows, a gradient, an option, a policy in a compiled mode, a mask.
SOME = (
    "log-of-softmax",
    "modulator-detached",
    "smoothed-over-the-others",
    "silent-where-compiled",
    "nan-of-ignored-rows",
)


def test_some_mutants_are_found_by_the_laws_that_are_about_them():
    found = {killed.mutant: killed for killed in trial(jobs=1, chosen=SOME).killed}
    assert set(found) == set(SOME)
    assert "value" in found["log-of-softmax"].laws
    assert set(found["modulator-detached"].laws) == {"gradient-identity"}
    assert "smoothing-convention" in found["smoothed-over-the-others"].laws
    assert "modes-agree" in found["silent-where-compiled"].laws
    assert set(found["nan-of-ignored-rows"].laws) == {"ignored-rows"}
    for killed in found.values():
        assert killed.smallest is not None
        assert len(killed.smallest.case.inputs) <= 1, killed.mutant


def test_a_lossy_class_has_its_due_and_no_more():
    heard = {h.control: h for h in trial(jobs=1, chosen=["class-b-index", "split"]).heard}
    assert heard["class-b-index"].due > 0
    assert heard["split"].due == 0
    assert not heard["class-b-index"].alarms
    assert not heard["split"].alarms


class Right(CrossEntropy):
    """Nothing is wrong with it."""


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch) -> Mutant:
    mutant = Mutant("harmless", "cross_entropy", "index", "no mistake", "nowhere", Right, Right)
    monkeypatch.setattr(module, "MUTANTS", [mutant])
    return mutant


def test_a_survivor_is_told_and_fails(harmless: Mutant, tmp_path: Path):
    path = tmp_path / "kills.json"
    options = ["selftest", "--only", harmless.name, "--jobs", "1", "--json", str(path)]
    done = CliRunner().invoke(cli.app, options)
    assert done.exit_code == 1, done.output
    assert "SURVIVED: no law finds it" in done.output
    assert "0 of 1 wrong implementation found" in done.output
    assert "No mutant here is found by" not in done.output, "that is said of all mutants alone"
    assert json.loads(path.read_text())["mutants"][0]["smallest"] is None


def test_a_false_alarm_is_told_and_fails(monkeypatch: pytest.MonkeyPatch):
    """A control that is declared better than it is: class A held to the bounds of class C."""
    boast = next(c for c in CONTROLS if c.name == "class-a-index")
    monkeypatch.setattr(module, "CONTROLS", [type(boast)("boast", *boast_of(boast), lossy=False)])
    done = CliRunner().invoke(cli.app, ["selftest", "--only", "boast", "--jobs", "1"])
    assert done.exit_code == 1, done.output
    assert "FALSE ALARM about boast, seed 0: value" in done.output


def boast_of(control):
    return control.operation, control.target, "C", "relative", control.make


def test_a_class_that_loses_digits_is_no_reason_to_kill():
    """A mutant of a lossy twin is judged beside that twin, and not beside a better one."""
    (killed,) = trial(jobs=1, chosen=["online-forgets-to-rescale"]).killed
    assert killed.smallest is not None
    assert killed.smallest.kind != "precision"
    (killed,) = trial(jobs=1, chosen=["maximum-of-the-first-block"]).killed
    assert killed.smallest is not None
    (row,) = killed.smallest.case.inputs
    assert float(row[2]) > max(float(row[0]), float(row[1]))


def test_controls_alone_over_some_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    some = [c for c in CONTROLS if c.name in ("logaddexp", "split")]
    monkeypatch.setattr(module, "CONTROLS", some)
    monkeypatch.setattr(controls, "CONTROLS", some)
    path = tmp_path / "controls.json"
    command = ["selftest", "--controls", "--seeds", "2", "--jobs", "1", "--json", str(path)]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == cli.NOTHING_NEW, done.output
    assert "0 false alarms about 2 right implementations under 2 seeds." in done.output
    written = json.loads(path.read_text())
    assert not written["mutants"]
    assert {(h["control"], h["seed"]) for h in written["controls"]} == {
        (c.name, seed) for c in some for seed in range(2)
    }


def test_an_unknown_name_is_wrong_use():
    done = CliRunner().invoke(cli.app, ["selftest", "--only", "no-such-mutant"])
    assert isinstance(done.exception, cli.WrongUse)
    assert "no-such-mutant" in str(done.exception)


# --- mutants in libraries -------------------------------------------------------------------------

# One of each library, and the law that is about its mistake. The others are tried by the slow test.
IN_EACH = {
    "torch.gradient-written-into-the-logits": "inputs-unchanged",
    "jax.gradient-stopped-at-the-sum": "gradient-sums-to-zero",
    "tensorflow.where-after-the-loss": "ignored-rows",
}


def demand_installed(library: str) -> None:
    if missing((library,)):
        pytest.skip(f"{library} is not installed")


@pytest.mark.parametrize("name", IN_EACH)
def test_mutants_in_libraries_are_found(name: str):
    demand_installed(name.partition(".")[0])
    (killed,) = trial(jobs=1, chosen=[name]).killed
    assert IN_EACH[name] in killed.laws
    assert killed.smallest is not None
    assert len(killed.smallest.case.inputs) == 1


def test_second_derivatives_in_torch_are_looked_at():
    demand_installed("torch")
    (killed,) = trial(jobs=1, chosen=["torch.logsumexp-kept-for-the-backward"]).killed
    assert set(killed.laws) == {"hessian-products"}


def test_each_library_has_mutants_and_each_has_its_own_name():
    for library in MODULES:
        here = [m for m in IN_LIBRARIES if m.library == library]
        assert len(here) >= 3, library
        for mutant in here:
            assert mutant.name.startswith(f"{library}.")
            assert mutant.says.endswith("."), mutant.name
            assert len(mutant.seen) > 10, mutant.name
    assert len(IN_LIBRARIES) >= 12


@pytest.fixture
def without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    def availability(framework):
        (package,) = framework.packages
        assert package == "jax"
        return "jax not installed; install with: pip install jax"

    monkeypatch.setattr(module, "availability", availability)


@pytest.mark.usefixtures("without_jax")
def test_a_library_that_is_absent_is_never_counted_as_killed(tmp_path: Path):
    path = tmp_path / "kills.json"
    chosen = ["--only", "jax.cotangent-dropped", "--only", "silent-where-compiled"]
    done = CliRunner().invoke(cli.app, ["selftest", *chosen, "--jobs", "1", "--json", str(path)])
    assert done.exit_code == cli.UNUSABLE, done.output
    assert "jax.cotangent-dropped: not tried: jax not installed" in done.output
    assert "1 of 1 wrong implementation found" in done.output
    assert "1 more not tried" in done.output
    written = json.loads(path.read_text())
    assert [m["mutant"] for m in written["mutants"]] == ["silent-where-compiled"]
    assert [m["mutant"] for m in written["untried"]] == ["jax.cotangent-dropped"]


def test_an_absent_library_that_nobody_asked_for_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    left = NotTried("jax.cotangent-dropped", "It forgets.", "jax", "jax not installed")

    def nothing(*_):
        _[-1](left)

    monkeypatch.setattr(module, "trial", nothing)
    done = CliRunner().invoke(cli.app, ["selftest"])
    assert done.exit_code == cli.NOTHING_NEW, done.output
    assert "not tried: jax not installed" in done.output
    assert made_of([left]).untried == (left,)
    assert not made_of([left]).killed


# --- the catalogue --------------------------------------------------------------------------------

IDS = """
M01 M02 M03 M04 M05 M06 M08 M09 M10 M12 M13 M14 M16 M17 M19 M21 M23 M24 M26 M27 M29 M30 M32 M33 M34
M35 M38 M40 M42 M43 M45 M46 M47 M49 M50 M52 M54 M56 M58 M59 M60 M61 M63
"""


def test_every_mistake_of_the_catalogue_has_a_mutant_or_a_reason():
    assert [mistake.id for mistake in CATALOGUE] == IDS.split()
    for mistake in CATALOGUE:
        assert bool(mistake.mutants) != bool(mistake.cannot_exist), mistake.id
        assert set(mistake.mutants) <= set(names()), mistake.id
    assert [mistake.id for mistake in CANNOT_EXIST] == ["M42", "M43", "M58"]


def test_every_mutant_says_its_mistake_and_where_it_was_seen():
    assert len(set(names())) == len(names())
    for mutant in MUTANTS:
        assert mutant.says.endswith("."), mutant.name
        assert len(mutant.seen) > 10, mutant.name


@pytest.mark.slow
def test_every_mutant_is_found_and_no_control_accused():
    """Slow: all mutants and controls, minutes on two cores."""
    found = trial(jobs=1)
    assert not found.survivors, [k.mutant for k in found.survivors]
    assert not found.alarms, [(h.control, h.alarms[0].message) for h in found.alarms]
    assert len(found.killed) >= 100
    assert not found.untried, [left.reason for left in found.untried]
    assert len(found.heard) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_no_control_is_accused_under_other_seeds(seed: int):
    """Slow: each in one format, in turn."""
    for control in CONTROLS:
        (heard,) = module._hear(control.name, "quick", seed, (module.DTYPES[seed],))
        assert isinstance(heard, Heard)
        assert not heard.alarms, (control.name, heard.alarms[0].message)
