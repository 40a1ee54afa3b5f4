"""Plain modules and entry points: declared by a decorator, described by a worker, audited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lossaudit
from lossaudit.adapters import modules
from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.declare import declarations, declare, from_fields, to_fields
from lossaudit.adapters.environments import availability
from lossaudit.adapters.functions import FunctionsRuntime
from lossaudit.adapters.registry import FRAMEWORKS, Frameworks
from lossaudit.conformance.run import read_run

MODULE = """
import numpy as np
import lossaudit
from beside import shift

@lossaudit.subject(operation="cross_entropy", framework="numpy", dtypes=["float32"])
@lossaudit.subject(
    operation="cross_entropy", framework="numpy", dtypes=["float64"], name="in_float64"
)
def cross_entropy(z, y):
    with np.errstate(all="ignore"):
        d = shift(z)
        e = np.exp(d)
        s = e.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        gradient = e / s
        gradient[rows, y] -= 1
        return np.log(s[:, 0]) - d[rows, y], gradient

@lossaudit.subject(
    operation="cross_entropy", framework="numpy", dtypes=["float32"], plus_inf="limit"
)
def not_as_declared(z, y):
    return cross_entropy(z, y)

def load():
    raise RuntimeError("a function of the user's own, which is not the adapter's")
"""
BESIDE = """
def shift(z):
    return z - z.max(axis=1, keepdims=True, initial=-float("inf"))
"""

UNKNOWN = """
import lossaudit
@lossaudit.subject(operation="hinge", framework="numpy")
def f(z, y): ...
"""
TWICE = """
import lossaudit
mark = lossaudit.subject(operation="cross_entropy", framework="numpy", name="a")
@mark
def f(z, y): ...
@mark
def g(z, y): ...
"""


@pytest.fixture
def module(tmp_path):
    (tmp_path / "beside.py").write_text(BESIDE)
    path = tmp_path / "my_module.py"
    path.write_text(MODULE)
    return path


def test_a_module_is_described_by_a_worker_and_not_imported_here(module):
    framework = modules.from_path(module)
    assert availability(framework) == ""
    assert [s.name for s in framework.subjects] == [
        "my_module:cross_entropy[eager,cpu]",
        "my_module:in_float64[eager,cpu]",
        "my_module:not_as_declared[eager,cpu]",
    ]
    assert framework.subjects[2].semantics.plus_inf == "limit"
    assert "plus_inf" not in framework.subjects[2].undeclared
    assert framework.subjects[0].source == str(module)
    assert "my_module" not in sys.modules


def test_a_subject_survives_json(module):
    for found in modules.from_path(module).subjects:
        assert from_fields(json.loads(json.dumps(to_fields(found)))) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "it declares no subject; put @lossaudit.subject"),
        ("def load(): raise RuntimeError('of the user')", "it declares no subject; put"),
        ("def load() -> dict: return {}", "it declares no subject; put"),
        ("import os; os._exit(7)", "ended with exit status 7"),
        (
            UNKNOWN,
            "operation: 'hinge' is not known; there are: cross_entropy",
        ),
        (
            TWICE,
            "two subjects are called 'a'",
        ),
    ],
)
def test_a_module_that_cannot_be_audited_says_why(tmp_path, text, reason):
    path = tmp_path / "broken.py"
    path.write_text(text)
    framework = modules.from_path(path)
    assert framework.subjects == ()
    assert reason in availability(framework)
    assert "Traceback" not in availability(framework)


def test_the_decorator_leaves_the_function_what_it_is():
    def cross_entropy(z, y):
        return z, y

    marked = lossaudit.subject(operation="cross_entropy", framework="torch")(cross_entropy)
    assert marked is cross_entropy

    module: Any = ModuleType("declared")
    module.one = module.again = marked

    (found,) = declarations(module)
    assert found.function is cross_entropy
    assert found.subject.dtypes == ("float64", "float32", "bfloat16", "float16")


def lossaudit_command(*arguments, path=""):
    python_path = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "lossaudit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": python_path},
    )


def test_the_command_line_audits_a_module(module, tmp_path):
    """In a process of its own and in this one, with `not_as_declared` found to be that."""
    run_file = tmp_path / "run.json"
    arguments = ("run", "--adapter", module, "--depth", "quick", "--fail-on", "violates")
    done = lossaudit_command(*arguments, "--jobs", 2, "--out", run_file)
    assert done.returncode == 1, done.stdout + done.stderr
    run = read_run(run_file)
    assert {s.framework for s in run.subjects} == {"my_module"}
    assert "numpy" in run.subjects[0].versions
    wrong = [f for f in run.findings if f.kind != "precision"]
    assert [(f.subject, f.output, f.value, f.right) for f in wrong] == [
        ("my_module:not_as_declared[eager,cpu]", "plus_inf", ["nan"], ["limit"])
    ]
    scripts = {f.snippet for f in run.findings if f.kind == "precision"}
    assert all("from my_module import" in script for script in scripts)
    assert not run.incidents


def test_the_command_line_lists_what_a_module_declares(module):
    done = lossaudit_command("list", "--backend", "torch", "--adapter", module)
    assert done.returncode == 0, done.stderr
    assert "my_module:cross_entropy[eager,cpu]" in done.stdout
    assert "torch:nll_loss[eager,cpu]" in done.stdout


@pytest.mark.parametrize(
    ("file", "text", "code", "said"),
    [
        ("absent.py", None, 2, "absent.py is no Python file"),
        ("torch.py", "", 2, "'torch' is a framework already; rename"),
        ("broken.py", "import no_such_package", 3, "No module named 'no_such_package'"),
    ],
)
def test_a_module_that_cannot_be_used_has_its_exit_code(tmp_path, file, text, code, said):
    path = tmp_path / file
    if text is not None:
        path.write_text(text)
    done = lossaudit_command("run", "--adapter", path, "--depth", "quick")
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- environments and devices ---------------------------------------------------------------------

WHERE = """
import os
import numpy as np
import lossaudit

place = os.environ.get("KERNELS")
if place is None:
    raise ImportError("the kernels were not built here")

@lossaudit.subject(operation="cross_entropy", framework="numpy", dtypes=[place])
def cross_entropy(z, y):
    with np.errstate(all="ignore"):
        d = z - z.max(axis=1, keepdims=True, initial=-np.inf)
        e, rows = np.exp(d), np.arange(len(y))
        s = e.sum(axis=1, keepdims=True)
        gradient = e / s
        gradient[rows, y] -= 1
        return np.log(s[:, 0]) - d[rows, y], gradient
"""


def interpreter(folder, built=""):
    """An interpreter of its own, whose kernels were built for a dtype, or not at all."""
    path = folder / f"python-{built}"
    variable = f"KERNELS={built} " if built else ""
    path.write_text(f'#!/bin/sh\n{variable}exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


QUICK = ("--depth", "quick", "--law", "finite-where-finite", "--fail-on", "violates", "--jobs", "1")


def test_a_module_is_described_where_it_is_audited(tmp_path):
    module, run_file = tmp_path / "kernels.py", tmp_path / "run.json"
    module.write_text(WHERE)
    python = interpreter(tmp_path, "float32")
    arguments = ("run", "--adapter", module, *QUICK, "--out", run_file)
    done = lossaudit_command(*arguments, "--python", python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [s.dtypes for s in read_run(run_file).subjects] == [["float32"]]
    done = lossaudit_command(*arguments)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the kernels were not built here" in done.stdout


def test_a_module_is_described_in_each_environment_and_absent_where_it_does_not_load(tmp_path):
    module, run_file = tmp_path / "kernels.py", tmp_path / "run.json"
    module.write_text(WHERE)
    chosen = {
        "none": interpreter(tmp_path),
        "wide": interpreter(tmp_path, "float64"),
        "narrow": interpreter(tmp_path, "float16"),
    }
    environments = [f"--env={name}={path}" for name, path in chosen.items()]
    done = lossaudit_command(
        "run", "--adapter", module, *QUICK, "--out", run_file, *environments, "--jobs", 2
    )
    assert done.returncode == 3, done.stdout + done.stderr
    run = read_run(run_file)
    assert {s.name: s.dtypes for s in run.subjects} == {
        "kernels@wide:cross_entropy[eager,cpu]": ["float64"],
        "kernels@narrow:cross_entropy[eager,cpu]": ["float16"],
    }
    assert {t.dtype for t in run.tallies if t.law != "conventions"} == {"float64", "float16"}
    assert not run.incidents
    ((absent, reason),) = [(a.framework, a.reason) for a in run.absent]
    assert (absent, reason) == ("kernels@none", "ImportError: the kernels were not built here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHERE.replace('os.environ.get("KERNELS")', '"float32"'), "is not audited there."),
        ("import no_such_package", f"install it for {sys.executable}."),
    ],
)
def test_a_device_for_a_module_that_cannot_use_it_is_one_line(tmp_path, text, said):
    module = tmp_path / "kernels.py"
    module.write_text(text)
    done = lossaudit_command("run", "--adapter", module, "--device", "cuda", "--depth", "quick")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("lossaudit: --device cuda: kernels: ")
    assert done.stderr.endswith(said + "\n")
    assert len(done.stderr.splitlines()) == 1


def test_functions_are_moved_to_a_device_by_their_library():
    def made(library):
        return declare(lambda z, y: z[y], operation="cross_entropy", framework=library).subject

    for library in ("torch", "jax", "tensorflow"):
        there = modules.on(made(library), "cuda")
        assert there is not None
        assert there.name.endswith("[eager,cuda]")
        on_mac = modules.on(made(library), "mps")
        assert on_mac is not None
        assert on_mac.dtypes == ("float32", "bfloat16", "float16"), "MPS has no float64"
        assert modules.on(made(library), "cpu") == made(library)
    assert modules.on(made("numpy"), "cuda") is None


# --- entry points ---------------------------------------------------------------------------------

ENTRY_POINTS = """[lossaudit.adapters]
their_kernels = their_package.kernels
their_broken = their_package.broken
torch = their_package.kernels
"""


@pytest.fixture
def site(tmp_path):
    """A folder into which a package of a third party is installed."""
    package, info = tmp_path / "their_package", tmp_path / "their_package-1.2.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text(BESIDE)
    (package / "kernels.py").write_text(MODULE.replace("from beside", "from .beside"))
    (package / "broken.py").write_text("raise OSError('libtheirs.so: cannot open')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def test_entry_points_are_frameworks(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    found = Frameworks()
    assert [name for name in found if name not in FRAMEWORKS] == [
        "their_broken",
        "their_kernels",
        "their-package.torch",
    ]
    assert found["torch"].module == "pytorch", "a name of lossaudit's own stays its own"
    kernels = found["their_kernels"]
    assert kernels.packages == ("their-package",)
    assert availability(kernels) == ""
    assert kernels.subjects[0].name == "their_kernels:cross_entropy[eager,cpu]"
    assert found["their_kernels"] is kernels, "described once"
    assert "OSError: libtheirs.so: cannot open" in availability(found["their_broken"])
    assert not [name for name in sys.modules if name.startswith("their_package")]


def test_entry_points_are_listed_and_audited(site, tmp_path):
    listed = lossaudit_command("list", path=site)
    assert listed.returncode == 0, listed.stderr
    assert "their_kernels:cross_entropy[eager,cpu]" in listed.stdout
    assert "their_broken (absent: OSError: libtheirs.so: cannot open)" in listed.stdout
    run_file = tmp_path / "run.json"
    done = lossaudit_command(
        *("run", "-b", "their_kernels", "--law", "value", "--depth", "quick"),
        *("--fail-on", "violates", "--jobs", 2, "--out", run_file),
        path=site,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    run = read_run(run_file)
    assert {s.framework for s in run.subjects} == {"their_kernels"}
    assert {t.law for t in run.tallies} == {"value", "conventions"}
    broken = lossaudit_command("run", "-b", "their_broken", "--depth", "quick", path=site)
    assert broken.returncode == 3, broken.stdout + broken.stderr
    assert "libtheirs.so" in broken.stdout
    assert "Traceback" not in broken.stdout + broken.stderr


# --- the libraries --------------------------------------------------------------------------------

IN_TORCH = """
import torch
import lossaudit

@lossaudit.subject(operation="cross_entropy", framework="torch", dtypes=["bfloat16"])
def cross_entropy(logits, target, *, reduction="mean"):
    return torch.nn.functional.cross_entropy(logits, target, reduction=reduction)
"""


@pytest.mark.frameworks
def test_a_module_of_torch_is_audited_and_torch_is_not_imported_here(tmp_path):
    path, run_file = tmp_path / "in_torch.py", tmp_path / "run.json"
    path.write_text(IN_TORCH)
    arguments = ("run", "--adapter", path, "--depth", "quick", "--fail-on", "violates")
    done = lossaudit_command(*arguments, "--law", "gradient-identity", "--out", run_file)
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(run_file)
    assert run.subjects[0].dtypes == ["bfloat16"]
    assert set(run.subjects[0].versions) == {"torch"}
    facts = run.environment.workers["in_torch"]
    for fact in ("threads", "capability", "allow_tf32", "subnormals", "ATEN_CPU_CAPABILITY"):
        assert [key for key in facts if key.endswith(fact)], facts


@pytest.mark.frameworks
@pytest.mark.parametrize("library", ["torch", "jax", "tensorflow"])
def test_a_worker_says_of_a_library_what_the_worker_of_the_framework_says(pool, tmp_path, library):
    if reason := availability(FRAMEWORKS[library]):
        pytest.skip(reason)
    path = tmp_path / "in_library.py"
    path.write_text(
        "import lossaudit\n"
        f"@lossaudit.subject(operation='cross_entropy', framework='{library}')\n"
        "def cross_entropy(z, y): ..."
    )
    framework = modules.from_path(path)
    with WorkerPool(frameworks={framework.name: framework}) as users:
        facts = users.facts(framework.name)
        versions = users.versions(framework.name)
    own = pool.facts(library)
    assert set(own) <= set(facts)
    assert facts[f"{library} devices"]
    assert facts["devices"].split(", ")[0] == "cpu"
    assert facts["subnormals"] == own["subnormals"]
    assert versions.items() <= pool.versions(library).items()


def test_facts_of_several_libraries_stay_apart():
    class Stub:
        def __init__(self, fact, *devices):
            self._fact, self._devices = fact, devices

        def facts(self):
            return {"threads": self._fact, "devices": "its own words"}

        def devices(self):
            return list(self._devices)

    runtime: Any = FunctionsRuntime([])
    runtime._libraries = {
        "torch": Stub("1", "cpu", "mps", "cuda"), "jax": Stub("2", "cpu", "cuda")
    }  # fmt: skip
    facts = runtime.facts()
    assert (facts["torch threads"], facts["jax threads"]) == ("1", "2")
    assert facts["jax devices"] == "its own words"
    assert facts["devices"] == "cpu, cuda", "where the functions of both can be called"


def test_scripts_run_and_show_what_was_found(module):
    """The script of a finding needs the module and NumPy alone."""
    import numpy as np

    from lossaudit.reference.vocabulary import Case, Options

    found = modules.from_path(module).subjects[0]
    case = Case("cross_entropy", "float32", np.array([[0.0, -np.inf]]), np.array([0]))
    script = modules.snippet(found, replace(case, options=Options()))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(module.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0.0]\n[[0.0, 0.0]]\n"
    assert Path(found.source) == module
