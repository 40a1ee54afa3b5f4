"""A tiny framework in two versions, each installed in an environment of its own.

No network and no pip: an environment is a venv whose site-packages has a file of paths, to the
folder of that version and to the NumPy of the tests. Workers start with `python -I`, which
reads it.
"""

from __future__ import annotations

import hashlib
import shutil
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lossaudit.adapters.environments import Environment, examine
from lossaudit.adapters.modules import from_path
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.compare import compare
from lossaudit.conformance.comparison import Comparison
from lossaudit.conformance.engine import Settings
from lossaudit.conformance.run import Run
from lossaudit.conformance.upgrade import Question, Upgrade

TINYLOSS = '''
"""Cross-entropies that compute in float64 and round once."""

import numpy as np

DTYPES = ["float32"]


def cross_entropy(z, y, label_smoothing=0.0):
    classes = z.shape[1]
    if ((y < 0) | (y >= classes)).any():
        raise IndexError(f"a label is not in [0, {classes})")
    hot = (np.arange(classes) == y[:, None]).astype(float)
    q = hot * (1 - label_smoothing) + label_smoothing / classes
    loss, gradient = _rows(z.astype(float), q)
    return loss.astype(z.dtype), gradient.astype(z.dtype)


def _rows(z, q):
    with np.errstate(all="ignore"):
        d = z - z.max(axis=1, keepdims=True, initial=-np.inf)
        first = np.arange(z.shape[1]) == d.argmax(axis=1)[:, None]
        e = np.exp(d)
        rest = np.where(first, 0.0, e).sum(axis=1, keepdims=True)
        terms = np.where(q == 0, 0.0, q * (np.log1p(rest) - d))
        return terms.sum(axis=1), e / (1 + rest) - q


def binary_cross_entropy(z, y):
    z, dtype = z.astype(float), z.dtype
    with np.errstate(all="ignore"):
        positive = np.where(y == 0, 0.0, y * np.logaddexp(0, -z))
        negative = np.where(y == 1, 0.0, (1 - y) * np.logaddexp(0, z))
        gradient = 1 / (1 + np.exp(-z)) - y
    return (positive + negative).astype(dtype), gradient.astype(dtype)
'''

ADAPTER = """
import lossaudit
import tinyloss


@lossaudit.subject(
    operation="cross_entropy",
    framework="numpy",
    dtypes=tinyloss.DTYPES,
    label_policy="raises",
)
def cross_entropy(z, y, *, label_smoothing=0.0):
    # As users pass options: those that they want.
    options = {"label_smoothing": label_smoothing} if label_smoothing else {}
    return tinyloss.cross_entropy(z, y, **options)


if hasattr(tinyloss, "binary_cross_entropy"):

    @lossaudit.subject(
        operation="binary_cross_entropy_with_logits", framework="numpy", dtypes=["float32"]
    )
    def binary_cross_entropy(z, y):
        return tinyloss.binary_cross_entropy(z, y)
"""

DIRECT = """
import lossaudit
import tinyloss

cross_entropy = lossaudit.subject(operation="cross_entropy", framework="numpy", dtypes=["float32"])(
    tinyloss.cross_entropy  # its signature says the options
)
"""

ROWS = ("value", "label-policy")
"""The laws whose calls are compared row by row, of those that fit the subjects above."""

Edit = tuple[str, str]
"""A text of TINYLOSS, and what stands there in another version."""


def version(*edits: Edit) -> str:
    """The framework with some texts replaced."""
    text = TINYLOSS
    for before, after in edits:
        assert text.count(before) == 1, f"{before!r} is not once in the framework"
        text = text.replace(before, after)
    return text


def make_environment(folder: Path, text: str) -> Environment:
    """An interpreter that has this version of the framework, and NumPy."""
    home = folder / _short(text)
    if not home.exists():
        venv.create(home, with_pip=False, symlinks=True)
        (home / "framework").mkdir()
        (home / "framework" / "tinyloss.py").write_text(text)
        (site,) = home.glob("lib/python*/site-packages")
        there = Path(np.__file__).parents[1]
        (site / "paths.pth").write_text(f"{home / 'framework'}\n{there}\n")
    found = Environment("", str(home / "bin" / "python"))
    examine(found)
    return found


@dataclass(frozen=True)
class Workshop:
    """Makes environments and upgrades; an old version is audited once, and its journal kept."""

    folder: Path
    adapter_text: str = ADAPTER

    def adapter(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(text)
        return path

    def question(
        self, old: str, new: str, laws: tuple[str, ...], adapter: Path | None = None
    ) -> Question:
        adapter = adapter or self.adapter("tiny", self.adapter_text)
        one, other = (make_environment(self.folder, text) for text in (old, new))
        FRAMEWORKS.add(from_path(adapter, (one.python, other.python)))
        settings = Settings("quick", seed=0, laws=laws)
        return Question((adapter.stem,), (one, other), ({}, {}), settings, jobs=1)

    def upgrade(
        self, folder: Path, old: str, new: str, laws: tuple[str, ...] = ROWS, adapter=None
    ) -> tuple[Upgrade, Run, Run]:
        """Audited, and still open for a search."""
        question = self.question(old, new, laws, adapter)
        key = (old, laws, question.frameworks)
        kept = self.folder / f"{_short(repr(key))}.journal"
        folder.mkdir(parents=True)
        if kept.exists():
            shutil.copy(kept, folder / "old.journal")
        work = Upgrade(question, folder, nobody)
        runs = work.audit()
        shutil.copy(folder / "old.journal", kept)
        return work, *runs


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def nobody(_: object) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    before = dict(FRAMEWORKS._added)
    yield Workshop(tmp_path_factory.mktemp("workshop"))
    FRAMEWORKS._added.clear()
    FRAMEWORKS._added.update(before)


@pytest.fixture(scope="session", name="version")
def _version() -> Callable[..., str]:
    return version


@pytest.fixture(scope="session")
def direct(workshop: Workshop) -> Path:
    """An adapter that declares the options which the framework has."""
    return workshop.adapter("direct", DIRECT)


@pytest.fixture
def upgraded(workshop: Workshop, tmp_path: Path) -> Callable[..., Comparison]:
    """Audit an upgrade of the framework and compare; with `search`, search it too."""

    def made(
        *edits: Edit, old: str = TINYLOSS, search: bool = False, adapter: Path | None = None
    ) -> Comparison:
        folder = tmp_path / "upgrade"
        work, before, after = workshop.upgrade(folder, old, version(*edits), adapter=adapter)
        assert not before.absent + after.absent
        comparison = compare(before, after)
        if search:
            work.search(before, after, comparison)
        work.close(done=True)
        return comparison

    return made
