"""All frameworks that lossaudit knows, and their subjects. Imports no framework.

Those of MODULES are its own. Installed packages may name further ones (`modules.py`), and the
command line adds the modules that it is given by their paths.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import EntryPoint

from ..reference.vocabulary import Case
from . import modules
from .idioms import OpCall
from .subject import PLAIN, Framework, Subject, compiles_shapes

MODULES: dict[str, str] = {
    "torch": "pytorch",
    "tensorflow": "tensorflow_nn",
    "keras": "keras_losses",
    "keras-jax": "keras_jax",
    "keras-torch": "keras_torch",
    "keras-numpy": "keras_numpy",
    "jax": "jax_optax",
    "onnxruntime": "onnx_runtime",
}

# What a name means when frameworks are chosen: Keras is a framework on each of its backends.
FAMILIES: dict[str, tuple[str, ...]] = {
    "keras": ("keras", "keras-jax", "keras-torch", "keras-numpy"),
}

EVERYTHING = "all"
"""What names all frameworks where they are chosen."""

LEFT_TO_DEEP = ("keras-jax", "keras-torch", "keras-numpy")
"""What an audit of less than the deepest depth leaves out, unless it is named: the code of Keras
again, over kernels that are audited under the name of their own framework."""

DEPTHS = ("quick", "standard", "deep")


class Frameworks(Mapping[str, Framework]):
    """Frameworks by name; what declares one is loaded when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Framework] = {}
        self._added: dict[str, Framework] = {}

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return modules.entry_points(tuple(MODULES))

    def __getitem__(self, name: str) -> Framework:
        if name in self._added:
            return self._added[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Framework:
        if name in MODULES:
            module = importlib.import_module(f".{MODULES[name]}", __package__)
            found: Framework = module.FRAMEWORK
            return found
        return modules.from_entry_point(name, self._entry_points[name])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*MODULES, *self._entry_points, *self._added)))

    def __contains__(self, name: object) -> bool:
        return name in MODULES or name in self._added or name in self._entry_points

    def __len__(self) -> int:
        return len(list(iter(self)))

    def add(self, framework: Framework) -> None:
        """Know one framework more, in this process."""
        self._added[framework.name] = framework


FRAMEWORKS = Frameworks()


def members(names: Iterable[str]) -> list[str]:
    """Names of frameworks, each that means several replaced by these."""
    every = (member for name in names for member in _meant(name))
    return list(dict.fromkeys(every))


def _meant(name: str) -> Iterable[str]:
    return FRAMEWORKS if name == EVERYTHING else FAMILIES.get(name, (name,))


def usual(depth: str) -> list[str]:
    """The frameworks that are audited at a depth where none is named."""
    return [name for name in FRAMEWORKS if depth == "deep" or name not in LEFT_TO_DEEP]


def script(subject: Subject, case: Case) -> str:
    """The script that reproduces a call; "" for a subject of a framework that nobody declared.

    A function of a user has its own way, whatever the file is called that it stands in.
    """
    if subject.tensors:
        return modules.snippet(subject, case)
    if subject.framework not in FRAMEWORKS:
        return ""
    return FRAMEWORKS[subject.framework].snippet(subject, case)


def plain_call(subject: Subject) -> OpCall:
    """The op of a subject called without a reduction, where its mode leaves that call as it is."""
    plain = subject.mode == "eager" or subject.compiled
    if subject.tensors or subject.framework not in FRAMEWORKS or not plain:
        return OpCall()
    return FRAMEWORKS[subject.framework].call(subject)


def subjects(
    frameworks: Iterable[str] | None = None, depth: str = "standard", device: str = "cpu"
) -> tuple[Subject, ...]:
    """The subjects of some frameworks, or of all.

    Args:
        frameworks: names of FRAMEWORKS; an unknown one raises KeyError.
        depth: "quick" has no compiled modes; "standard" has them without options and unreduced,
            because each set of options is a compilation of its own; "deep" has everything.
        device: one of DEVICES; a subject that is not audited there is left out.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(DEPTHS)}, not {depth!r}")
    names = FRAMEWORKS if frameworks is None else frameworks
    return tuple(s for name in names for s in offered(FRAMEWORKS[name], depth, device))


def offered(framework: Framework, depth: str, device: str = "cpu") -> tuple[Subject, ...]:
    """The subjects of one framework; see `subjects`."""
    every = on_device(framework, device)
    if depth == "quick":
        return tuple(subject for subject in every if not subject.compiled)
    if depth == "standard":
        return tuple(_plain(subject) if subject.compiled else subject for subject in every)
    return every


BRIEF_DTYPES = ("float32", "bfloat16")
"""A wide format and a narrow one, in which a quick audit looks at an op; where every shape is
compiled for each format, the first alone."""


def audited(framework: Framework, depth: str, device: str = "cpu") -> tuple[Subject, ...]:
    """The subjects of one framework as an audit of a depth looks at them; see `offered`.

    A quick one looks at ops called as they are, in two formats; what a user declares, in all.
    """
    every = offered(framework, depth, device)
    if depth != "quick":
        return every
    return tuple(_brief(s) for s in every if s.tensors or s.mode in PLAIN)


def _brief(subject: Subject) -> Subject:
    wanted = BRIEF_DTYPES[:1] if compiles_shapes(subject) else BRIEF_DTYPES
    few = tuple(dtype for dtype in subject.dtypes if dtype in wanted)
    return subject if subject.tensors or not few else replace(subject, dtypes=few)


def on_device(framework: Framework, device: str) -> tuple[Subject, ...]:
    """The subjects of a framework as they are audited on a device."""
    moved = (framework.on(subject, device) for subject in framework.subjects)
    return tuple(subject for subject in moved if subject is not None)


def _plain(subject: Subject) -> Subject:
    return replace(subject, options=frozenset(), reductions=("none",))
