"""The pytest plugin that writes `--lossaudit-html`: the report is a room above the suite.

Like `conformance.plugin`, which has the options, it loads in every pytest run and needs pytest and
the standard library alone until there is a Run to show.
"""

from __future__ import annotations

from typing import Any

import pytest

from ..conformance.plugin import OPTIONS, RUN


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.stash[OPTIONS].html if OPTIONS in config.stash else None
    if path is None or RUN not in config.stash:
        return
    from .html import write_html  # noqa: PLC0415 - not in every pytest run of every user

    write_html(config.stash[RUN], path)
    terminalreporter.line(f"lossaudit report: {path}")
