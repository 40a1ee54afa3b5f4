"""The wheel: what lies in it, and that it works where there is no checkout."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

import lossaudit

ROOMS = ("reference", "adapters", "conformance", "reports")


def shipped(root: Path) -> dict[str, bytes]:
    """What a wheel should hold: the modules of the root, and every file of every room."""
    files = [*root.glob("*.py"), root / "py.typed"]
    files += [file for room in ROOMS for file in (root / room).rglob("*") if file.is_file()]
    return {f"lossaudit/{f.relative_to(root).as_posix()}": f.read_bytes() for f in files}


def test_it_holds_the_files_of_the_tree_and_no_others(
    wheel: Path, export: Callable[[str], Path]
) -> None:
    tree = shipped(export("the tree"))
    with zipfile.ZipFile(wheel) as archive:
        held = {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.partition("/")[0].endswith(".dist-info")
        }
    assert sorted(held) == sorted(tree)
    assert [name for name in tree if held[name] != tree[name]] == []


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"lossaudit-{lossaudit.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{folder}/METADATA"))
        entry_points = archive.read(f"{folder}/entry_points.txt").decode()
        licence = archive.read(f"{folder}/licenses/LICENSE").decode()
    assert metadata["Name"] == "lossaudit"
    assert metadata["Version"] == lossaudit.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"all", "jax", "onnx", "tensorflow", "test", "torch"} <= extras
    needed = sorted(
        line.split(">")[0]
        for line in metadata.get_all("Requires-Dist") or []
        if "extra ==" not in line
    )
    assert needed == [
        *("altair", "hypothesis", "jinja2", "msgspec", "numpy", "packaging", "pytest", "rich"),
        *("typer", "vl-convert-python"),
    ]
    assert "lossaudit = lossaudit.cli:main" in entry_points
    assert "lossaudit = lossaudit.conformance.plugin" in entry_points
    assert "lossaudit_html = lossaudit.reports.pytest_html" in entry_points
    assert "Apache License" in licence


def test_the_command_runs_from_the_wheel(
    from_wheel: Any, run_command: Callable[..., Any], tmp_path: Path
) -> None:
    command = from_wheel.folder / "bin" / "lossaudit"
    for arguments in ([command], [from_wheel.python, "-I", "-m", "lossaudit"]):
        done = run_command([*arguments, "--version"], cwd=tmp_path)
        assert lossaudit.__version__ in done.stdout


def test_it_works_without_any_framework(
    wheel: Path,
    environment: Callable[..., Any],
    run_command: Callable[..., Any],
    tmp_path: Path,
) -> None:
    bare = environment(frameworks=False)
    bare.install(wheel)
    assert (
        "no framework"
        in run_command(
            [
                bare.python,
                "-I",
                "-c",
                "try: import torch\nexcept ImportError: print('no framework')",
            ],
            cwd=tmp_path,
        ).stdout
    )
    listed = run_command([bare.folder / "bin" / "lossaudit", "list"], cwd=tmp_path).stdout
    assert "cross_entropy" in listed
    assert "torch (absent: " in listed
    assert "Traceback" not in listed


def test_its_suite_has_the_ids_of_the_checkout(
    from_wheel: Any, checkout: Any, tmp_path: Path
) -> None:
    options = ("--collect-only", "-q")
    in_checkout = ids(checkout.environment.pytest(checkout.root, "conformance", *options))
    by_name = ids(
        checkout.environment.pytest(checkout.root, "--pyargs", "lossaudit.conformance", *options)
    )
    installed = ids(from_wheel.pytest(tmp_path, "--pyargs", "lossaudit.conformance", *options))
    assert in_checkout
    assert all(node_id.startswith("conformance/suite/test_") for node_id in in_checkout)
    assert by_name == in_checkout
    assert installed == in_checkout


def ids(output: str) -> list[str]:
    return [line for line in output.splitlines() if "::" in line]


@pytest.mark.slow  # downloads NumPy, Hypothesis and the rest: needs the network, a minute
def test_it_installs_with_its_dependencies_from_an_index(
    wheel: Path, run_command: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    run_command([sys.executable, "-m", "venv", tmp_path / "bare"], cwd=tmp_path)
    python = tmp_path / "bare" / "bin" / "python"
    constraints = repository / "constraints" / "pinned.txt"
    run_command([python, "-m", "pip", "install", "-qq", "-c", constraints, wheel], cwd=tmp_path)
    assert (
        "No broken requirements" in run_command([python, "-m", "pip", "check"], cwd=tmp_path).stdout
    )
    command = tmp_path / "bare" / "bin" / "lossaudit"
    assert lossaudit.__version__ in run_command([command, "--version"], cwd=tmp_path).stdout
    assert "torch" in run_command([command, "list"], cwd=tmp_path).stdout
