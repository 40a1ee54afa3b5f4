"""Every law on every subject that it fits, in every dtype: one test a cell."""

from __future__ import annotations

import pytest

from ...adapters.environments import availability
from ...adapters.registry import EVERYTHING, FRAMEWORKS, audited, members, usual
from ...adapters.subject import Subject
from ..engine import CONVENTIONS
from ..events import CellFinished, Event
from ..law import Law, cells
from ..laws.registry import LAWS
from ..message import told
from ..plugin import OPTIONS, Options
from ..run import Incident
from .session import new_or_gone, session


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Subjects, and cells in the order of subjects, so that neighbours share a worker."""
    subjects = _subjects(metafunc.config.stash[OPTIONS])
    if "law" not in metafunc.fixturenames:
        metafunc.parametrize("subject", [pytest.param(s, id=s.name) for s in subjects])
        return
    found = [
        pytest.param(subject, law, dtype, id=f"{law.name}-{subject.name}-{dtype}")
        for subject, law, dtype in cells(LAWS, subjects, subjects)
    ]
    metafunc.parametrize(("subject", "law", "dtype"), found)


def _subjects(options: Options) -> tuple[Subject, ...]:
    """Those of the installed frameworks; a framework asked for by name must be installed."""
    asked = options.backends or ()
    named = [name for name in asked if name != EVERYTHING]
    lacking = [f"{name}: {availability(FRAMEWORKS[name])}" for name in named
               if availability(FRAMEWORKS[name])]  # fmt: skip
    if lacking:
        raise pytest.UsageError(f"--lossaudit-backend: {'; '.join(lacking)}")
    names = members(asked or usual(options.depth))
    there = [name for name in names if not availability(FRAMEWORKS[name])]
    return tuple(s for name in there for s in audited(FRAMEWORKS[name], options.depth))


def test_conventions(subject: Subject, request: pytest.FixtureRequest) -> None:
    """What the probe measures is what the subject declares."""
    _demand_nothing_new(session(request.config).probe(subject), CONVENTIONS.statement)


def test_law(subject: Subject, law: Law, dtype: str, request: pytest.FixtureRequest) -> None:
    """No deviation that is not known, and no known one that is gone."""
    events = session(request.config).audit(subject, law, dtype)
    faults = [e for e in events if isinstance(e, Incident) and e.message.startswith("internal:")]
    assert not faults, faults[0].message
    _demand_nothing_new(events, law.statement)
    if not any(isinstance(e, CellFinished) and e.rows for e in events):
        # Not supported here, or the worker was lost too often: that is never a pass.
        said = [e.message for e in events if isinstance(e, Incident)]
        pytest.skip(said[0] if said else "no row could be looked at; the run file says why")


def _demand_nothing_new(events: list[Event], statement: str) -> None:
    bad = new_or_gone(events)
    if bad:
        pytest.fail("\n\n".join(told(item, statement) for item in bad), pytrace=False)
