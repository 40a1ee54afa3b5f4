"""All frameworks that lossaudit knows, and their subjects. Imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from .subject import Framework, Subject

MODULES: dict[str, str] = {
    "torch": "pytorch",
    "tensorflow": "tensorflow_nn",
    "keras": "keras_losses",
    "jax": "jax_optax",
}

DEPTHS = ("quick", "standard", "deep")


class _Frameworks(Mapping[str, Framework]):
    """Frameworks by name; the module that declares one is imported when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Framework] = {}

    def __getitem__(self, name: str) -> Framework:
        if name not in self._loaded:
            module = importlib.import_module(f".{MODULES[name]}", __package__)
            self._loaded[name] = module.FRAMEWORK
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


FRAMEWORKS: Mapping[str, Framework] = _Frameworks()


def subjects(
    frameworks: Iterable[str] | None = None, depth: str = "standard"
) -> tuple[Subject, ...]:
    """The subjects of some frameworks, or of all.

    Args:
        frameworks: names of FRAMEWORKS; an unknown one raises KeyError.
        depth: "quick" has no compiled modes; "standard" has them without options and unreduced,
            because each set of options is a compilation of its own; "deep" has everything.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(DEPTHS)}, not {depth!r}")
    names = FRAMEWORKS if frameworks is None else frameworks
    every = (subject for name in names for subject in FRAMEWORKS[name].subjects)
    if depth == "quick":
        return tuple(subject for subject in every if not subject.compiled)
    if depth == "standard":
        return tuple(_plain(subject) if subject.compiled else subject for subject in every)
    return tuple(every)


def _plain(subject: Subject) -> Subject:
    return replace(subject, options=frozenset(), reductions=("none",))
