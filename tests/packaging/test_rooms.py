"""The house: a room imports only rooms below it, and only the packages that it may need."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# From the ground up. The modules of the root (cli.py, __main__.py) are the roof; the root's
# __init__.py is no room and imports none.
ROOMS = ("reference", "adapters", "conformance", "reports", "cli")

FRAMEWORKS = {"jax", "jaxlib", "keras", "onnx", "onnxruntime", "optax", "tensorflow", "torch"}

# Own packages that cost a start most, and that no help and no list needs.
HEAVY = {"altair", "hypothesis", "jinja2", "packaging", "pytest", "vl_convert"}

# What each room may import beside the standard library: at the top of a module, and in functions.
AT_TOP = {
    "root": set[str](),
    "reference": {"numpy"},
    "adapters": {"numpy"},
    "conformance": {"hypothesis", "msgspec", "numpy", "packaging", "pytest"},
    "reports": {"altair", "jinja2", "markupsafe", "msgspec", "pytest", "rich"},
    "cli": {"msgspec", "rich", "typer"},
}
IN_FUNCTIONS = {
    "reference": {"ml_dtypes"},
    # packaging: where requirements are read, which no worker does.
    "adapters": {"ml_dtypes", "packaging"} | FRAMEWORKS,
    "conformance": {"distributed"},  # an extra
    "reports": {"vl_convert"},
}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    module: str
    line: int
    in_function: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def modules_of(repository: Path) -> list[Path]:
    found = [
        *repository.glob("*.py"),
        *(file for room in ROOMS for file in (repository / room).rglob("*.py")),
    ]
    return sorted(file.relative_to(repository) for file in found)


def room_of(module: Path) -> str:
    """The room that a module, by its path from the root, lies in."""
    if len(module.parts) > 1:
        return module.parts[0]
    return "root" if module.name == "__init__.py" else "cli"


def imports_of(source: str, module: Path) -> Iterator[Import]:
    """All imports in a module, dynamic ones with a literal name too."""
    package = ("lossaudit", *module.parts[:-1])

    def absolute(name: str, level: int) -> str:
        return ".".join([*package[: len(package) - level + 1], *filter(None, [name])])

    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, in_function)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    base = absolute(base, child.level)
                if base == "lossaudit":  # `from .. import reference`: the name is the room
                    for alias in child.names:
                        yield Import(f"lossaudit.{alias.name}", child.lineno, in_function)
                else:
                    yield Import(base, child.lineno, in_function)
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith("import_module"):
                name = child.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    dots = len(name.value) - len(name.value.lstrip("."))
                    full = absolute(name.value[dots:], dots) if dots else name.value
                    yield Import(full, child.lineno, in_function)
            inner = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, inner)

    yield from walk(ast.parse(source), in_function=False)


def offences(source: str, module: Path) -> list[str]:
    """What a module imports against the rules, one line each."""
    room = room_of(module)
    below = set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set[str]()
    found = []
    for imported in imports_of(source, module):
        where = f"{module}:{imported.line}: {room} must not import {imported.module}"
        if imported.package == "lossaudit":
            target = imported.module.removeprefix("lossaudit").lstrip(".").partition(".")[0]
            if target in ROOMS and target not in below:
                found.append(where)
        elif imported.package not in sys.stdlib_module_names:
            allowed = AT_TOP[room]
            if imported.in_function:
                allowed = allowed | IN_FUNCTIONS.get(room, set())
            if imported.package not in allowed:
                found.append(where + (" in a function" if imported.in_function else " at its top"))
    return found


def test_a_room_imports_only_what_lies_below(repository: Path) -> None:
    found = [
        line
        for module in modules_of(repository)
        for line in offences((repository / module).read_text(encoding="utf-8"), module)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("reference/a.py", "from ..adapters import subject"),
        ("reference/a.py", "from .. import adapters"),
        (
            "reference/a.py",
            "import importlib\nimportlib.import_module('..conformance', __package__)",
        ),
        ("reference/a.py", "import mpmath"),
        ("reference/a.py", "import ml_dtypes"),
        ("adapters/a.py", "import torch"),
        ("adapters/a.py", "def f():\n    import hypothesis"),
        ("conformance/laws/a.py", "from ...reports import html"),
        ("conformance/laws/a.py", "def f():\n    import torch"),
        ("reports/a.py", "from lossaudit.cli import main"),
        ("reports/a.py", "def f():\n    import jax.numpy as jnp"),
        ("__init__.py", "from . import reference\nimport numpy"),
    ],
)
def test_the_rule_sees_an_offence(module: str, source: str) -> None:
    assert offences(source, Path(module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "reference/a.py",
            "import numpy as np\nfrom .formats import F\nfrom .. import __version__",
        ),
        ("reference/a.py", "def f():\n    import ml_dtypes"),
        ("adapters/a.py", "from ..reference.vocabulary import Case\ndef f():\n    import torch"),
        ("adapters/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("conformance/laws/a.py", "from ..judge import judge\nfrom ...adapters import registry"),
        ("cli.py", "import typer\nfrom .reports import html"),
    ],
)
def test_the_rule_lets_the_rest_pass(module: str, source: str) -> None:
    assert not offences(source, Path(module))


def test_every_folder_says_what_it_is(repository: Path) -> None:
    folders = {module.parent for module in modules_of(repository)}
    for folder in sorted(folders):
        package = repository / folder / "__init__.py"
        assert package.is_file(), f"{folder} has no __init__.py"
        assert ast.get_docstring(ast.parse(package.read_text())), f"{folder}: no docstring"


def test_no_module_bears_the_name_of_a_package_that_it_imports(repository: Path) -> None:
    for module in modules_of(repository):
        names = {module.stem, *module.parts[:-1]}
        for imported in imports_of((repository / module).read_text(), module):
            assert imported.package == "lossaudit" or imported.package not in names, (
                f"{module} imports {imported.module}"
            )


def test_no_module_of_a_worker_hides_another(repository: Path) -> None:
    # A worker that is started by path has its folder on sys.path, were it not for `python -I`.
    hidden = sys.stdlib_module_names | FRAMEWORKS | {"numpy", "ml_dtypes"}
    for module in modules_of(repository):
        if room_of(module) in ("reference", "adapters"):
            assert module.stem not in hidden, module


def foreign_modules(repository: Path) -> list[Path]:
    """The files that are loaded in the interpreter of an audited framework."""
    found = [m for m in modules_of(repository) if room_of(m) in ("root", "reference", "adapters")]
    return [repository / module for module in found]


def test_what_workers_load_is_python_3_9(repository: Path) -> None:
    files = foreign_modules(repository)
    for file in files:
        ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=(3, 9))
    assert len(files) > 2


def old_interpreters() -> list[Path]:
    """Interpreters of 3.9 and 3.10 on PATH or under pyenv."""
    named = [shutil.which(f"python3.{minor}") for minor in (9, 10)]
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates = [Path(found) for found in named if found]
    candidates += sorted(pyenv.glob("3.9.*/bin/python")) + sorted(pyenv.glob("3.10.*/bin/python"))
    return [path for path in candidates if _is_old(path)]


def _is_old(python: Path) -> bool:
    check = "import sys; sys.exit(sys.version_info[:2] not in ((3, 9), (3, 10)))"
    return (
        subprocess.run([python, "-I", "-c", check], capture_output=True, check=False).returncode
        == 0
    )


def test_old_interpreters_compile_what_workers_load(repository: Path) -> None:
    # Where none is installed, the test above and ruff's per-file target versions stand alone.
    compile_all = (
        "import sys\nfor f in sys.argv[1:]: compile(open(f, encoding='utf-8').read(), f, 'exec')"
    )
    for python in old_interpreters():
        files = [str(file) for file in foreign_modules(repository)]
        done = subprocess.run(
            [python, "-I", "-c", compile_all, *files], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{python}: {done.stderr}"


def test_the_root_imports_nothing_by_itself() -> None:
    code = (
        "import sys; before = set(sys.modules); import lossaudit; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
        "; assert lossaudit.reference.__name__ == 'lossaudit.reference'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "numpy" not in done.stdout


def test_listing_the_subjects_loads_no_framework() -> None:
    code = (
        "import sys; from lossaudit.adapters import registry; registry.subjects(); "
        f"print(sorted(set(sys.modules) & {FRAMEWORKS!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def loaded_by(*calls: tuple[str, ...]) -> set[str]:
    """The modules that are loaded after calls of the command line in one process of their own."""
    code = (
        "import sys; from lossaudit.cli import app\n"
        f"for call in {calls!r}:\n"
        "    try: app(call)\n"
        "    except SystemExit as end: assert not end.code, call\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return set(done.stderr.split())


def test_help_loads_no_room_and_nothing_heavy() -> None:
    from lossaudit.cli import app

    commands = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert {"run", "upgrade"} <= set(commands)
    loaded = loaded_by(("--help",), ("--version",), *((name, "--help") for name in commands))
    assert {name for name in loaded if name.startswith("lossaudit")} == {
        "lossaudit",
        "lossaudit.cli",
    }
    assert loaded & {"numpy", "msgspec", *HEAVY, *FRAMEWORKS} == set()


def test_list_loads_neither_the_engine_nor_reports_nor_a_framework() -> None:
    loaded = loaded_by(("list",))
    assert loaded & (HEAVY | FRAMEWORKS) == set()
    rooms = ("lossaudit.conformance.engine", "lossaudit.conformance.recorder", "lossaudit.reports")
    assert {name for name in loaded if name.startswith(rooms)} == set()


def test_versions_agree(repository: Path) -> None:
    import lossaudit

    assert re.fullmatch(r"\d+\.\d+\.\d+", lossaudit.__version__)
    assert f"## [{lossaudit.__version__}]" in (repository / "CHANGELOG.md").read_text()
