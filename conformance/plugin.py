"""The pytest plugin: options, the collection of the suite, and what happens when a session ends.

It loads in every pytest run of every user who has lossaudit installed, so at import it needs
pytest and the standard library alone, and without its options it does nothing but collect
`conformance/suite` under the right names.

**Names.** The repository root is the package `lossaudit`, and pytest derives the name of a module
from its folders: in a checkout it would import `conformance.suite.test_laws`, or
`<checkout>.conformance…`, beside `lossaudit.conformance.suite.test_laws`. So the folders of the
suite are collected as plain directories, and its modules are imported by their one real name.
Their node ids begin with `conformance/suite/` wherever lossaudit is installed, so an id means the
same in a checkout and in a wheel.

**The end of a session.** If the suite's session module (`lossaudit.conformance.suite.session`) was
imported, one of these of its functions is called, each of which may return lines for the summary:

- `finish(config, complete=…)` where the tests ran in this process;
- `write_part(config, folder, complete=…)` in a worker of pytest-xdist: it leaves what this worker
  saw in `folder`, under a name of its own (`config.workerinput["workerid"]`);
- `merge_parts(config, folder, complete=…)` in the controller of pytest-xdist, when at least one
  worker used the suite: it makes one run of the parts. The controller never imports the tests.

`complete` is False where the session was cut short.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

DEPTHS = ("quick", "standard", "deep")

_ROOT = Path(__file__).resolve().parent.parent
_CONFORMANCE = _ROOT / "conformance"
_SUITE = _CONFORMANCE / "suite"
_PACKAGE = __name__.partition(".")[0]
_SUITE_PACKAGE = f"{_PACKAGE}.conformance.suite"
_SESSION_MODULE = f"{_SUITE_PACKAGE}.session"
_XDIST_KEY = "lossaudit_parts"


@dataclass(frozen=True)
class Options:
    """What was asked for on pytest's command line.

    Attributes:
        backends: the frameworks to audit, or None for all that are installed.
        depth: how far to search: "quick", "standard" or "deep".
        seed: where Hypothesis starts, or None for lossaudit's default.
        run_file: where to write the run as JSON, or None.
        html: where to write the report, or None.
    """

    backends: tuple[str, ...] | None = None
    depth: str = "quick"
    seed: int | None = None
    run_file: Path | None = None
    html: Path | None = None


OPTIONS = pytest.StashKey[Options]()
RUN = pytest.StashKey[Any]()
"""The Run of a session that used the suite, once it has ended: for the report, a room above."""
_PARTS = pytest.StashKey[Path]()
_USED_BY_WORKER = pytest.StashKey[bool]()
_CLOSING_LINES = pytest.StashKey["list[str]"]()


# --- options --------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(
        "lossaudit", "lossaudit: audits of cross-entropy (pytest --pyargs lossaudit.conformance)"
    )
    group.addoption(
        "--lossaudit-backend",
        action="append",
        metavar="NAME",
        help="audit this framework (torch, tensorflow, keras on each of its backends, jax, "
        "onnxruntime) or all; may be given several times. Default: all that are installed but, "
        "below the depth deep, Keras on backends other than TensorFlow.",
    )
    group.addoption(
        "--lossaudit-depth",
        choices=DEPTHS,
        default="quick",
        help="how far to search. Default: quick.",
    )
    group.addoption(
        "--lossaudit-seed",
        type=int,
        metavar="N",
        help="seed of the search; the same seed and versions give the same verdicts.",
    )
    group.addoption(
        "--lossaudit-run-file", type=Path, metavar="PATH", help="write the run to this JSON file."
    )
    group.addoption(
        "--lossaudit-html", type=Path, metavar="PATH", help="write the HTML report to this file."
    )


def pytest_configure(config: pytest.Config) -> None:
    backends = config.getoption("--lossaudit-backend")
    if backends:
        _refuse_unknown_backends(backends)
    here = config.invocation_params.dir
    run_file, html = (
        None if path is None else here / path
        for path in (
            config.getoption("--lossaudit-run-file"),
            config.getoption("--lossaudit-html"),
        )
    )
    for option, path in (("--lossaudit-run-file", run_file), ("--lossaudit-html", html)):
        if path is not None and path.is_dir():
            raise pytest.UsageError(f"{option}: {path} is a directory, not a file")
    config.stash[OPTIONS] = Options(
        backends=tuple(dict.fromkeys(backends)) if backends else None,
        depth=str(config.getoption("--lossaudit-depth")),
        seed=config.getoption("--lossaudit-seed"),
        run_file=run_file,
        html=html,
    )


def _refuse_unknown_backends(names: list[str]) -> None:
    """Raise pytest.UsageError for the first name that no adapter bears."""
    from ..adapters.registry import EVERYTHING, FRAMEWORKS

    known = [*sorted(FRAMEWORKS), EVERYTHING]
    for name in names:
        if name not in known:
            raise pytest.UsageError(
                f"--lossaudit-backend: unknown backend {name!r}; known are {', '.join(known)}"
            )


@pytest.fixture(scope="session")
def lossaudit_options(pytestconfig: pytest.Config) -> Options:
    """What was asked of lossaudit on the command line."""
    return pytestconfig.stash[OPTIONS]


# --- collection -----------------------------------------------------------------------------------


class SuiteModule(pytest.Module):
    """A module of the suite, imported under its real name."""

    def _getobj(self) -> Any:
        name = f"{_SUITE_PACKAGE}.{self.path.stem}"
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reason = "".join(traceback.format_exception(error, limit=-3))
            raise self.CollectError(f"{name} cannot be imported:\n{reason}") from error


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if path.resolve() in (_ROOT, _CONFORMANCE, _SUITE):
        return pytest.Dir.from_parent(parent, path=path)
    if path.name == "suite" and (path.parent / "plugin.py").is_file() and _is_lossaudit(path):
        raise pytest.UsageError(
            f"{path} is not the lossaudit that is installed, which lies in {_ROOT}; "
            "install the checkout (pip install -e .), or use --pyargs lossaudit.conformance"
        )
    return None


def _is_lossaudit(suite: Path) -> bool:
    root = suite.parent.parent
    return all((root / room).is_dir() for room in ("adapters", "reference", "reports"))


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    home = module_path.resolve()
    if home.parent != _SUITE:
        return None
    node_id = home.relative_to(_ROOT).as_posix()
    return SuiteModule.from_parent(parent, path=module_path, nodeid=node_id)


# --- the end of a session -------------------------------------------------------------------------


def _session_module() -> Any:
    return sys.modules.get(_SESSION_MODULE)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the controller of pytest-xdist: tell a worker where to leave its part."""
    stash = node.config.stash
    if _PARTS not in stash:
        stash[_PARTS] = Path(tempfile.mkdtemp(prefix="lossaudit-parts-"))
    node.workerinput[_XDIST_KEY] = str(stash[_PARTS])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """In the controller of pytest-xdist: note whether the worker that ended used the suite."""
    del error  # what a worker wrote before it died counts too
    if getattr(node, "workeroutput", {}).get(_XDIST_KEY):
        node.config.stash[_USED_BY_WORKER] = True


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    # Passed or failed, and not cut short: else the run says that it is partial.
    complete = int(exitstatus) in (0, 1) and not (session.shouldstop or session.shouldfail)
    if config.option.collectonly:
        return
    lines: Iterable[str] | None = None
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist
        if module := _session_module():
            folder = Path(config.workerinput[_XDIST_KEY])  # pyright: ignore[reportAttributeAccessIssue]
            module.write_part(config, folder, complete=complete)
            config.workeroutput[_XDIST_KEY] = True  # pyright: ignore[reportAttributeAccessIssue]
    elif _PARTS in config.stash:  # the controller of pytest-xdist
        if config.stash.get(_USED_BY_WORKER, False):
            module = importlib.import_module(_SESSION_MODULE)
            lines = module.merge_parts(config, config.stash[_PARTS], complete=complete)
    elif module := _session_module():
        lines = module.finish(config, complete=complete)
    config.stash[_CLOSING_LINES] = list(lines or ())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash.get(_CLOSING_LINES, [])
    if lines:
        terminalreporter.section("lossaudit")
        for line in lines:
            terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _PARTS in config.stash:
        shutil.rmtree(config.stash[_PARTS], ignore_errors=True)
