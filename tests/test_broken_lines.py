"""The fast tests are red when one line of the reference, of a judge or of a law is broken.

Each break is made in a copy of the package: a few named tests, which pass on the copy as it is,
must fail on it then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOMS = ("reference", "adapters", "conformance", "reports", "tests")
ROOT_FILES = ("__init__.py", "__main__.py", "cli.py", "pyproject.toml")

TESTS_FAILED = 1  # of pytest's exit codes; a copy that cannot be imported would give another


@dataclass(frozen=True)
class Break:
    """A line of a file, what it becomes, and the tests that must see it."""

    file: str
    line: str
    broken: str
    tests: str
    """A file of tests, and after it what `-k` chooses of it."""


BREAKS = (
    Break(
        "reference/softmax_rows.py",
        "    others = total(where(at_top, constant(0.0), growth), axis=1)\n",
        "    others = total(growth, axis=1)\n",
        "tests/reference/test_rows.py test_cross_entropy_of_an_index",
    ),
    Break(
        "reference/bounds.py",
        "    return np.maximum(np.ldexp(1.0, binade - fmt.precision), LEAST)\n",
        "    return np.maximum(np.ldexp(1.0, binade - fmt.precision - 8), LEAST)\n",
        "tests/reference/test_bounds.py test_binary_forms or test_forms_of_cross_entropy",
    ),
    Break(
        "conformance/judge.py",
        '    grade = np.where(ulps <= demand, RANK["bounded"], outside)\n',
        '    grade = np.where(ulps <= demand + declared, RANK["bounded"], outside)\n',
        "tests/conformance/test_judge.py",
    ),
    Break(
        "conformance/laws/symmetry.py",
        "    return replace(case, inputs=grid), replace(case, inputs=moved), fits\n",
        "    return replace(case, inputs=grid), replace(case, inputs=grid), fits\n",
        "tests/conformance/test_laws.py speaks and shift",
    ),
    Break(
        "conformance/laws/ignored.py",
        "        inputs=np.where(rows[:, None], np.nan, case.inputs),\n",
        "        inputs=case.inputs,\n",
        "tests/conformance/test_laws.py speaks and ignored",
    ),
    Break(
        "conformance/laws/registry.py",
        "    MIRROR,\n",
        "",
        "tests/conformance/test_laws.py speaks and mirror",
    ),
)


@pytest.fixture(scope="module")
def copied(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Factory of copies of the package with its tests, each called `lossaudit`."""

    def copy() -> Path:
        root = tmp_path_factory.mktemp("copy") / "lossaudit"
        root.mkdir()
        for name in ROOT_FILES:
            shutil.copyfile(repository / name, root / name)
        for room in ROOMS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repository / room, root / room, ignore=ignored)
        return root

    return copy


def tried(root: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """A run of some tests of a copy, which imports that copy."""
    file, _, chosen = tests.partition(" ")
    seen = ["-c", "import lossaudit; print(lossaudit.__file__)"]
    assert python(root, *seen).stdout.strip() == str(root / "__init__.py")
    words = ["-m", "pytest", str(root / file), "--rootdir", str(root), "-q", "-x"]
    words += ["-c", str(root / "pyproject.toml"), "-p", "no:cacheprovider", "-m", "not slow"]
    return python(root, *words, *(["-k", chosen] if chosen else []))


def python(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # A pytest within a pytest must not inherit the outer one's options or its place in xdist.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment = {**clean, "PYTHONPATH": str(root.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=root.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("broken", BREAKS, ids=lambda b: b.file)
def test_a_broken_line_is_seen(copied: Callable[[], Path], broken: Break):
    root = copied()
    file = root / broken.file
    source = file.read_text(encoding="utf-8")
    assert source.count(broken.line) == 1, (
        f"{broken.file} has the line {broken.line!r} {source.count(broken.line)} times; it was "
        "changed: name another one here, whose loss the tests must see"
    )
    whole = tried(root, broken.tests)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    file.write_text(source.replace(broken.line, broken.broken), encoding="utf-8")
    after = tried(root, broken.tests)
    assert after.returncode == TESTS_FAILED, after.stdout + after.stderr
