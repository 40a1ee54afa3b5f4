"""lossaudit: says, with proof, what every framework's cross-entropy really computes.

The rooms of the house, each of which imports only the ones before it:

- `reference`: the mathematics and the vocabulary (NumPy and the standard library only);
- `adapters`: one file a framework, and the worker that runs in the subject's own interpreter;
- `conformance`: laws, regions, strategies and the judge; the pytest plugin and its suite;
- `reports`: a run in; HTML, JSON and the terminal out;
- `cli`: the verbs.

This module is also loaded by workers in foreign interpreters (Python 3.9, NumPy alone), so it
imports nothing by itself: rooms load when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters.declare import DeclarationError as DeclarationError
    from .adapters.declare import subject as subject
    from .conformance.check import check as check
    from .conformance.diagnose import DiagnosisError as DiagnosisError
    from .conformance.diagnose import diagnose as diagnose

__version__ = "0.1.0"

_ROOMS = ("adapters", "cli", "conformance", "reference", "reports")

# What a user calls by the package's own name, and where it lies.
_NAMES = {
    "DeclarationError": "adapters.declare",
    "DiagnosisError": "conformance.diagnose",
    "check": "conformance.check",
    "diagnose": "conformance.diagnose",
    "subject": "adapters.declare",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_NAMES})
