from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossaudit.adapters.subject import Framework


@pytest.fixture(scope="session")
def faulty() -> ModuleType:
    """The module `faulty_adapter`, which no import finds: tests/ is not a package."""
    path = Path(__file__).with_name("faulty_adapter.py")
    spec = importlib.util.spec_from_file_location("faulty_adapter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def faulty_pool(faulty: ModuleType) -> Iterator[WorkerPool]:
    with WorkerPool(
        call_seconds=2.0, start_seconds=30.0, frameworks={"faulty": faulty.framework()}
    ) as pool:
        yield pool


@pytest.fixture(scope="session")
def pool() -> Iterator[WorkerPool]:
    """One pool for all tests that ask real frameworks: importing them takes seconds."""
    with WorkerPool() as made:
        yield made


@pytest.fixture(params=list(FRAMEWORKS))
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework that is installed."""
    found = FRAMEWORKS[request.param]
    reason = availability(found)
    if reason:
        pytest.skip(reason)
    return found
