"""Modules of other people as frameworks: found by their path, or by an entry point.

A third party's package names its module in its metadata,

    [project.entry-points."lossaudit.adapters"]
    my_kernels = "my_package.kernels"

and the module declares its subjects with `lossaudit.subject`. It may import what it likes: it is
loaded in a worker, which says what it declares, and never in this process.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..reference.vocabulary import Case, Semantics
from .declare import from_fields
from .snippets import arguments, nested, vector
from .subject import Framework, Subject

GROUP = "lossaudit.adapters"

UNKNOWN = Subject(
    framework="",
    op="",
    operation="cross_entropy",
    target="index",
    mode="eager",
    dtypes=("float32",),
    options=frozenset(),
    reductions=("none",),
    semantics=Semantics(),
    arithmetic={},
)
"""Stands for the subjects of a module that has not said yet which they are."""


def worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    """A process for each module, with one computing thread unless the user says otherwise."""
    del dtype
    return subject.framework, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def framework_of(
    name: str,
    module: str,
    subjects: tuple[Subject, ...],
    packages: tuple[str, ...] = (),
    unusable: str = "",
) -> Framework:
    """A module of a user as a framework."""
    install = f"pip install {packages[0]}" if packages else ""
    return Framework(name, module, packages, install, subjects, worker, snippet, unusable)


def from_path(path: Path) -> Framework:
    """The framework that the file of a module is, called by the name of the file."""
    return described(path.stem, str(path.resolve()))


def entry_points(taken: tuple[str, ...]) -> dict[str, importlib.metadata.EntryPoint]:
    """The modules that installed packages name, by the names under which they are known.

    One whose name is taken is known by `package.name`.
    """
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in _of_group():
        package = entry.dist.metadata["Name"] if entry.dist is not None else "?"
        free = entry.name not in taken and entry.name not in found
        found[entry.name if free else f"{package}.{entry.name}"] = entry
    return found


def _of_group() -> Iterator[importlib.metadata.EntryPoint]:
    return iter(sorted(importlib.metadata.entry_points(group=GROUP)))


def from_entry_point(name: str, entry: importlib.metadata.EntryPoint) -> Framework:
    """The framework that the module of an entry point is."""
    package, folder = "", ""
    if entry.dist is not None:
        package, folder = entry.dist.metadata["Name"], str(entry.dist.locate_file(""))
    module = entry.value.partition(":")[0].strip()
    return described(name, f"{folder}::{module}", (package,) if package else ())


def described(name: str, module: str, packages: tuple[str, ...] = ()) -> Framework:
    """The framework of a module, as a worker that has loaded it says.

    One that does not load is a framework without subjects that says why.
    """
    from .client import UnusableFramework, WorkerPool

    asked = framework_of(name, module, (_named(UNKNOWN, name),), packages)
    try:
        with WorkerPool(frameworks={name: asked}) as pool:
            subjects = tuple(_named(from_fields(f), name) for f in pool.declared(name))
    except UnusableFramework as error:
        return framework_of(name, module, (), packages, error.reason)
    return framework_of(name, module, subjects, packages)


def _named(subject: Subject, framework: str) -> Subject:
    return replace(subject, framework=framework)


# ---------------------------------------------------------------------- scripts

IMPORTS = {
    "torch": ["import torch"],
    "jax": ["import jax", "import jax.numpy as jnp"],
    "tensorflow": ["import tensorflow as tf"],
    "numpy": ["import numpy as np"],
}
ARRAYS = {
    "torch": "torch.tensor({0}, dtype=torch.{1})",
    "jax": "jnp.array({0}, jnp.{1})",
    "tensorflow": "tf.constant({0}, tf.{1})",
    "numpy": "np.array({0}, np.{1})",
}
CALLS = {
    "torch": [
        "{x}.requires_grad_()",
        "loss = {call}",
        "(gradient,) = torch.autograd.grad(loss, {x}, {cotangent})",
        "print(loss.tolist())",
        "print(gradient.tolist())",
    ],
    "jax": [
        "loss, pull_back = jax.vjp(lambda {x}: {call}, {x})",
        "(gradient,) = pull_back({cotangent})",
        "print(loss.tolist())",
        "print(gradient.tolist())",
    ],
    "tensorflow": [
        "with tf.GradientTape() as tape:",
        "    tape.watch({x})",
        "    loss = {call}",
        "gradient = tape.gradient(loss, {x}, {cotangent})",
        "print(loss.numpy().tolist())",
        "print(gradient.numpy().tolist())",
    ],
    "numpy": [
        "loss, gradient = {call}",
        "print(loss.tolist())",
        "print(gradient.tolist())",
    ],
}


def snippet(subject: Subject, case: Case) -> str:
    """A script that reproduces a call with the function and its library alone."""
    x = "logits" if subject.from_logits else "probabilities"
    array = ARRAYS[subject.tensors]
    ones = {"torch": "torch", "jax": "jnp", "tensorflow": "tf"}.get(subject.tensors)
    cotangent = f"{ones}.ones_like(loss)"
    if case.cotangent is not None:
        cotangent = array.format(nested(case.cotangent), case.dtype)
    pieces = {
        "x": x,
        "call": f"{subject.op}({x}, target{arguments(_options(subject, case))})",
        "cotangent": cotangent,
    }
    calls = [line.format(**pieces) for line in CALLS[subject.tensors]]
    wide = subject.tensors == "jax" and case.dtype == "float64"
    lines = [
        *IMPORTS[subject.tensors],
        *_import_of(subject),
        "",
        *(['jax.config.update("jax_enable_x64", True)'] if wide else []),
        f"{x} = " + array.format(nested(case.inputs), case.dtype),
        f"target = {_target(array, case)}",
        *calls,
    ]
    return "\n".join(lines) + "\n"


def _target(array: str, case: Case) -> str:
    if case.target_kind != "index":
        return array.format(nested(case.target), case.dtype)
    if array == ARRAYS["jax"]:  # which has int64 only where it is asked for
        return f"jnp.array({nested(case.target)})"
    return array.format(nested(case.target), "int64")


def _import_of(subject: Subject) -> list[str]:
    if not subject.source:
        return [f"# {subject.op}: the function that was checked"]
    module = Path(subject.source).stem
    return [f"from {module} import {subject.op}  # {subject.source}"]


def _options(subject: Subject, case: Case) -> dict[str, str]:
    options, array = case.options, ARRAYS[subject.tensors]
    pieces: dict[str, Optional[str]] = dict.fromkeys(options.passed())
    for name in pieces:
        pieces[name] = repr(getattr(options, name))
    if options.weight is not None:
        pieces["weight"] = array.format(vector(options.weight), case.dtype)
    if options.pos_weight is not None:
        pieces["pos_weight"] = array.format(vector([options.pos_weight]), case.dtype)
    if subject.takes_reduction and options.reduction != "default":
        pieces["reduction"] = repr(options.reduction)
    return {name: text for name, text in pieces.items() if text is not None}
