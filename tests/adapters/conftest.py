from __future__ import annotations

from collections.abc import Callable
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
def faulty(loaded: Callable[[str, Path], ModuleType]) -> ModuleType:
    """The module `faulty_adapter`, which no import finds: tests/ is not a package."""
    path = Path(__file__).with_name("faulty_adapter.py")
    return loaded("faulty_adapter", path)


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
