"""No module of lossaudit is imported under two names, however and from wherever it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# A cell that needs no framework is not known beforehand, so the selection that really runs is by
# position: the first test of the suite.
COLLECT = ("--collect-only", "-q")


def second_names(names: dict[str, list[str]], root: Path) -> dict[str, list[str]]:
    """The files below `root` that have another name than the one right name."""
    wrong: dict[str, list[str]] = {}
    for file, given in names.items():
        if not Path(file).is_relative_to(root) or Path(file).is_relative_to(root / "tests"):
            continue
        parts = list(Path(file).relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if given != [".".join(["lossaudit", *parts])]:
            wrong[file] = given
    return wrong


def look(names: list[dict[str, list[str]]], root: Path, least: int) -> None:
    """Fail for a second name; and if fewer than `least` modules were there, nothing was tested."""
    assert names
    for process in names:
        assert not second_names(process, root.resolve())
    seen = {file for process in names for file in process if Path(file).is_relative_to(root)}
    assert len(seen) >= least, seen


def test_two_names_are_seen(tmp_path: Path) -> None:
    file = str(tmp_path / "conformance" / "judge.py")
    assert not second_names({file: ["lossaudit.conformance.judge"]}, tmp_path)
    assert second_names({file: ["conformance.judge", "lossaudit.conformance.judge"]}, tmp_path)
    assert second_names({file: ["conformance.judge"]}, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("conformance", *COLLECT),
        ("conformance", "--import-mode=prepend", *COLLECT),
        ("conformance", "-n", "2", *COLLECT),
        ("--pyargs", "lossaudit.conformance", *COLLECT),
        (".", *COLLECT),
    ],
    ids=" ".join,
)
def test_in_a_checkout_with_a_space_in_its_name(checkout: Any, arguments: tuple[str, ...]) -> None:
    look(checkout.environment.names(checkout.root, *arguments), checkout.root, least=5)


@pytest.mark.parametrize("cwd", ["conformance", "conformance/suite", "tests"])
def test_from_a_folder_of_the_checkout(checkout: Any, cwd: str) -> None:
    look(checkout.environment.names(checkout.root / cwd, *COLLECT), checkout.root, least=4)


def test_in_a_run_of_tests(checkout: Any) -> None:
    arguments = ("tests/packaging/test_rooms.py", "-q", "-k", "rule or name", "-n", "2")
    names = checkout.environment.names(checkout.root, *arguments)
    assert len(names) == 3  # two workers and their controller
    look(names, checkout.root, least=3)


def test_in_the_wheel(from_wheel: Any, tmp_path: Path) -> None:
    names = from_wheel.names(tmp_path, "--pyargs", "lossaudit.conformance", *COLLECT)
    (installed,) = from_wheel.folder.glob("lib/python*/site-packages/lossaudit")
    look(names, installed, least=5)


@pytest.mark.frameworks
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_in_a_run_of_the_suite(
    checkout: Any, tmp_path: Path, workers: tuple[str, ...], suite_ids: Callable[[Any], list[str]]
) -> None:
    one = next(node for node in suite_ids(checkout) if "torch:" in node and "float32" in node)
    run_file = tmp_path / "run.json"
    arguments = (one, "-q", "--lossaudit-backend", "torch", f"--lossaudit-run-file={run_file}")
    names = checkout.environment.names(checkout.root, *arguments, *workers)
    look(names, checkout.root, least=10)
    assert run_file.is_file()
