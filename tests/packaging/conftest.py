"""Clean exports of the checkout, bare environments, and a look at what a process imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

FRAMEWORKS = ("jax", "jaxlib", "keras", "onnx", "onnxruntime", "optax", "tensorflow", "torch")

# Loaded with `-p` in the process under test and in its xdist workers: writes down which names the
# modules of each file have.
NAMES_PLUGIN = """
import json, os, pathlib, sys

def pytest_sessionfinish(session):
    names = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__":
            names.setdefault(os.path.realpath(file), []).append(name)
    worker = getattr(session.config, "workerinput", {}).get("workerid", "main")
    folder = pathlib.Path(os.environ["NAMES_FOLDER"])
    (folder / (worker + ".json")).write_text(json.dumps(names))
"""


def run(
    command: Iterable[object], cwd: Path, check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is in the message if it fails."""
    words = [str(word) for word in command]
    # A pytest within a pytest must not inherit the outer one's options or its place in xdist.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**clean, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    if check and done.returncode:
        pytest.fail(f"exit code {done.returncode} of {words} in {cwd}:\n{done.stdout[-8000:]}")
    return done


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a test's own.

    What lossaudit depends on comes from the environment that runs the tests, by links, so that no
    network is needed; lossaudit itself does not.
    """

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *what: object) -> None:
        """Pip install, with the network ruled out."""
        pip = [sys.executable, "-m", "pip", "--python", self.python]
        run(
            [*pip, "install", "--no-index", "--no-deps", "--no-build-isolation", *what],
            cwd=self.folder,
            env={"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""},
        )

    def pytest(self, cwd: Path, *arguments: str, check: bool = True) -> str:
        """What pytest printed, run in `cwd` without `cwd` on sys.path."""
        start = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
        command = [self.python, "-I", "-c", start, "-p", "no:cacheprovider", *arguments]
        return run(command, cwd, check=check).stdout

    def names(self, cwd: Path, *arguments: str) -> list[dict[str, list[str]]]:
        """The names under which each file was imported, for each process of a pytest run."""
        folder = self.folder / "names"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "lossaudit_test_names.py").write_text(NAMES_PLUGIN)
        start = (
            f"import sys; sys.path.append({str(folder)!r}); "
            "import pytest; pytest.main(sys.argv[1:])"
        )
        plugins = ["-p", "lossaudit_test_names", "-p", "no:cacheprovider"]
        run(
            [self.python, "-I", "-c", start, *plugins, *arguments],
            cwd,
            env={"NAMES_FOLDER": str(folder)},
        )
        return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="session")
def export(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Factory of clean copies: what git tracks, or would, and no build folder or cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        stdout=subprocess.PIPE,
        check=True,
    )
    files = [name for name in os.fsdecode(listed.stdout).split("\0") if name]

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("export") / name
        for file in files:
            if (repository / file).is_file():  # listed still, if removed but not committed
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(repository / file, folder / file)
        return folder

    return make


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Factory of virtual environments without lossaudit."""

    def make(*, frameworks: bool) -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        run([sys.executable, "-m", "venv", "--without-pip", folder], cwd=folder)
        links = folder / "dependencies"
        links.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            name = entry.name.lower()
            of_lossaudit = "lossaudit" in name
            of_framework = name.partition("-")[0].partition(".")[0] in FRAMEWORKS
            if of_lossaudit or entry.suffix == ".pth" or (of_framework and not frameworks):
                continue
            (links / entry.name).symlink_to(entry)
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        (Path(site) / "dependencies.pth").write_text(f"{links}\n")
        return Environment(folder)

    return make


@pytest.fixture(scope="session")
def wheel(export: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a clean export without network."""
    out = tmp_path_factory.mktemp("wheel")
    source = export("source of the wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out], cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, environment: Callable[..., Environment]) -> Environment:
    """An environment with lossaudit from its wheel, and with the frameworks that are here."""
    made = environment(frameworks=True)
    made.install(wheel)
    return made


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout in a folder whose name has a space, installed editable."""

    root: Path
    environment: Environment


@pytest.fixture(scope="session")
def checkout(export: Callable[[str], Path], environment: Callable[..., Environment]) -> Checkout:
    root = export("a check out")
    made = environment(frameworks=True)
    made.install("--editable", root)
    return Checkout(root, made)


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end, failing with its output if it fails."""
    return run


@pytest.fixture(scope="session")
def suite_ids() -> Callable[[Checkout], list[str]]:
    """The node ids of the suite, as a checkout collects them."""

    def collect(where: Checkout) -> list[str]:
        listed = where.environment.pytest(where.root, "conformance", "--collect-only", "-q")
        return [line for line in listed.splitlines() if "::" in line]

    return collect
