"""Mistakes that live in a framework's own automatic differentiation, tried in its own process.

A maker gets the framework's module and whether it shall be mistaken: the right twin is the very
same code without that one step. `in_torch.py`, `in_jax.py` and `in_tensorflow.py` hold the makers,
which are called in a worker alone: nothing here imports a framework in lossaudit's process.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ...adapters.declare import Declared, declare
from ...adapters.functions import FunctionsRuntime
from ...adapters.modules import UNKNOWN, framework_of
from ...adapters.subject import Framework

MODULES = {
    "torch": "::lossaudit.conformance.selftest.in_torch",
    "jax": "::lossaudit.conformance.selftest.in_jax",
    "tensorflow": "::lossaudit.conformance.selftest.in_tensorflow",
}
"""The module that a worker loads for each library."""

IGNORED = -100
"""The label that the makers ignore where none is named, as in PyTorch."""

Loss = Callable[..., Any]
Maker = Callable[[Any, bool], Loss]


@dataclass(frozen=True)
class InLibrary:
    """A wrong implementation in a framework.

    Attributes:
        name: of the mistake.
        library: the framework.
        operation: what it implements.
        says: the mistake in a sentence.
        seen: where it was made.
        make: (the framework, mistaken) -> a function as `adapters.declare` describes it.
        mode: "second" for one whose second derivatives are wrong.
        promises: the conventions that it declares.
    """

    name: str
    library: str
    operation: str
    says: str
    seen: str
    make: Maker
    mode: str = "eager"
    promises: dict[str, Any] = field(default_factory=dict)

    @property
    def twin(self) -> str:
        """What the right one is called."""
        return f"right.{self.name}"


IN_LIBRARIES: list[InLibrary] = []


def wrong_in(
    library: str,
    seen: str,
    *,
    operation: str = "cross_entropy",
    mode: str = "eager",
    **promises: Any,
) -> Callable[[Maker], Maker]:
    """Registers a maker; its docstring is the mistake."""

    def register(make: Maker) -> Maker:
        name = f"{library}.{make.__name__.replace('_', '-')}"
        says = " ".join((make.__doc__ or "").split())
        found = InLibrary(name, library, operation, says, seen, make, mode, promises)
        IN_LIBRARIES.append(found)
        return make

    return register


def loaded(library: str) -> FunctionsRuntime:
    """What a worker serves: each mutant of a library and its twin."""
    module = importlib.import_module(library)
    here = [each for each in IN_LIBRARIES if each.library == library]
    return FunctionsRuntime(
        [
            _declared(each, name, each.make(module, name == each.name))
            for each in here
            for name in (each.name, each.twin)
        ]
    )


def _declared(mutant: InLibrary, name: str, function: Loss) -> Declared:
    return declare(
        function,
        operation=mutant.operation,
        framework=mutant.library,
        name=name,
        **mutant.promises,
    )


def framework(library: str) -> Framework:
    """The mutants of a library as a framework of their own."""
    name = f"selftest-{library}"
    unknown = replace(UNKNOWN, framework=name)
    return framework_of(name, MODULES[library], (unknown,), (library,))
