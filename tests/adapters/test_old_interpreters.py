"""Workers run in the interpreters of others: Python 3.9 and NumPy 1.23 are the oldest."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lossaudit.adapters
from lossaudit.adapters.client import WorkerPool
from lossaudit.reference.vocabulary import Case

ROOT = Path(lossaudit.adapters.__file__).parent.parent
FILES = sorted([ROOT / "__init__.py", *ROOT.glob("adapters/*.py"), *ROOT.glob("reference/*.py")])
COMPILE = "import sys\nfor name in sys.argv[1:]: compile(open(name, 'rb').read(), name, 'exec')"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def interpreters() -> list[str]:
    """This one, and one of each version that the environment names, or PATH or pyenv has."""
    return list(dict.fromkeys([sys.executable, *filter(None, map(interpreter, VERSIONS))]))


def interpreter(version: str) -> str | None:
    named = os.environ.get(f"LOSSAUDIT_PYTHON_{version.replace('.', '_')}")
    in_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    found = [named, *map(str, in_pyenv), shutil.which(f"python{version}")]
    return next(filter(None, found), None)


def has_numpy(python: str) -> bool:
    libraries = Path(python).parent.parent.glob("lib/python3*/site-packages/numpy")
    return python == sys.executable or any(libraries)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_files_of_a_worker_keep_to_the_syntax_of_python_3_9(path: Path):
    ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


@pytest.mark.parametrize("python", interpreters())
def test_every_interpreter_found_compiles_them(python: str):
    subprocess.run([python, "-I", "-c", COMPILE, *map(str, FILES)], check=True, timeout=60)


@pytest.mark.parametrize("python", [python for python in interpreters() if has_numpy(python)])
def test_every_interpreter_with_numpy_runs_a_worker(python: str, faulty: ModuleType):
    """Name one in LOSSAUDIT_PYTHON_3_9 and so on where those on the path lack NumPy."""
    case = Case("cross_entropy", "bfloat16", np.array([[1.5, np.nan]]), np.array([0]))
    with WorkerPool(python=python, frameworks={"faulty": faulty.framework()}) as pool:
        outcome = pool.ask(faulty.subject("echo"), case)
        assert outcome.returned
        np.testing.assert_array_equal(outcome.gradient, case.inputs)
        assert pool.ask(faulty.subject("kill"), case).status == "crashed"
