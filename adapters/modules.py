"""Modules of other people as frameworks: found by their path, or by an entry point.

A third party's package names its module in its metadata,

    [project.entry-points."lossaudit.adapters"]
    my_kernels = "my_package.kernels"

and the module declares its subjects with `lossaudit.subject`. It may import what it likes: it is
loaded in a worker, which says what it declares, and never in this process.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from numpy.typing import NDArray

from ..reference.vocabulary import Case, Semantics
from .declare import from_fields
from .functions import TENSORFLOW_DEVICES, doubled
from .snippets import arguments, nested, vector
from .subject import Framework, Subject
from .torch_bits import layout_text

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
    return Framework(
        name, module, packages, install, subjects, worker, snippet, unusable, on, placed
    )


def on(subject: Subject, device: str) -> Optional[Subject]:
    """A function with its tensors on a device; on the CPU they are where it was declared.

    Its arithmetic is what its author declares, or the loosest: the functions of an accelerator are
    not less accurate than that (CUDA's exp, log and log1p have at most 2 ulps).
    """
    if device == "cpu":
        return subject
    dtypes = tuple(dtype for dtype in subject.dtypes if (device, dtype) != ("mps", "float64"))
    if subject.tensors == "numpy" or not dtypes:
        return None
    return replace(subject, device=device, dtypes=dtypes)


def placed(framework: Framework, python: str) -> Framework:
    """The framework of a module as a worker in another interpreter describes it."""
    return described(framework.name, framework.module, framework.packages, python)


def from_path(path: Path, pythons: Sequence[str] = (sys.executable,)) -> Framework:
    """The framework that the file of a module is, called by the name of the file.

    It is described in the interpreters that it is for, by the first in which it can be used.
    """
    every = (described(path.stem, str(path.resolve()), (), python) for python in pythons)
    usable = (framework for framework in every if not framework.unusable)
    return next(usable, None) or described(path.stem, str(path.resolve()), (), pythons[0])


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


@functools.cache
def described(
    name: str, module: str, packages: tuple[str, ...] = (), python: str = sys.executable
) -> Framework:
    """The framework of a module, as a worker that has loaded it says; it is asked once.

    One that does not load is a framework without subjects that says why.
    """
    from .client import UnusableFramework, WorkerPool

    asked = framework_of(name, module, (_named(UNKNOWN, name),), packages)
    try:
        with WorkerPool(python, frameworks={name: asked}) as pool:
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
MAKERS = {"torch": "torch", "jax": "jnp", "tensorflow": "tf", "numpy": "np"}
ARRAYS = {
    "torch": "torch.tensor({0}, dtype=torch.{1})",
    "jax": "jnp.array({0}, jnp.{1})",
    "tensorflow": "tf.constant({0}, tf.{1})",
    "numpy": "np.array({0}, np.{1})",
}
COTANGENTS = {
    "torch": "{0}.to(loss).reshape(loss.shape)",
    "jax": "{0}.astype(loss.dtype).reshape(loss.shape)",
    "tensorflow": "tf.reshape(tf.cast({0}, loss.dtype), loss.shape)",
}
CALLS = {
    "torch": [
        "loss = {call}",
        "{gradients} = torch.autograd.grad(loss, {at}, {cotangent})",
    ],
    "jax": [
        "loss, pull_back = jax.vjp(lambda {wanted}: {call}, {wanted})",
        "{gradients} = pull_back({cotangent})",
    ],
    "tensorflow": [
        "with tf.GradientTape() as tape:",
        "    tape.watch({at})",
        "    loss = {call}",
        "{unpacked} = tape.gradient(loss, {at}, {cotangent})",
    ],
    "numpy": ["loss, gradient = {call}"],
}
PLACES = {
    "tensorflow": "tf.device({0!r}).__enter__()",
    "torch": "torch.set_default_device({0!r})",
    "jax": 'jax.config.update("jax_default_device", jax.devices({0!r})[0])',
}
NAMES = ("logits", "probabilities", "target", "sys", "torch", "jax", "jnp", "tf", "np")
"""What a script calls other things than the function."""


def snippet(subject: Subject, case: Case) -> str:
    """A script that reproduces a call with the function and its library alone."""
    x = "logits" if subject.from_logits else "probabilities"
    function, imports = _import_of(subject)
    wanted = [x, "target"] if case.by_target else [x]
    given = [
        f"{x} = {_array(subject, case.inputs, case.dtype)}{_layout(case)}",
        f"target = {_target(subject, case)}",
    ]
    if subject.tensors == "torch":
        given += [f"{name}.requires_grad_()" for name in wanted]
    pieces = {
        "call": f"{function}({x}, target{arguments(_options(subject, case))})",
        "cotangent": _cotangent(subject, case),
        "wanted": ", ".join(wanted),
        "at": "[" + ", ".join(wanted) + "]" if case.by_target else x,
        "gradients": "gradient, target_gradient" if case.by_target else "(gradient,)",
        "unpacked": "gradient, target_gradient" if case.by_target else "gradient",
    }
    lines = [
        *(["import sys", ""] if subject.imported[0] else []),
        *IMPORTS[subject.tensors],
        *imports,
        "",
        *_settings(subject, case),
        *given,
        *(line.format(**pieces) for line in CALLS[subject.tensors]),
        f"print({_listed(subject, 'loss', 1)})",
        *(
            f"print({_listed(subject, name, doubled(subject, case.options))})"
            for name in ("gradient", "target_gradient")[: len(wanted)]
        ),
    ]
    return "\n".join(lines) + "\n"


def _settings(subject: Subject, case: Case) -> list[str]:
    lines = []
    if subject.device != "cpu" and subject.tensors in PLACES:
        known = TENSORFLOW_DEVICES if subject.tensors == "tensorflow" else {}
        lines.append(PLACES[subject.tensors].format(known.get(subject.device, subject.device)))
    if subject.tensors == "jax" and case.dtype == "float64":
        lines.append('jax.config.update("jax_enable_x64", True)')
    return lines


def _array(subject: Subject, values: NDArray[Any], dtype: str) -> str:
    if values.size == 0:  # lists do not tell its shape
        keyword = "dtype=" if subject.tensors == "torch" else ""
        maker = MAKERS[subject.tensors]
        return f"{maker}.zeros({values.shape}, {keyword}{maker}.{dtype})"
    return ARRAYS[subject.tensors].format(nested(values), dtype)


def _layout(case: Case) -> str:
    return layout_text(case.layout, *case.inputs.shape) if case.layout else ""


def _target(subject: Subject, case: Case) -> str:
    if case.target_kind != "index":
        return _array(subject, case.target, case.dtype)
    if subject.tensors == "jax":  # which has int64 only where it is asked for
        return _array(subject, case.target, "int64" if case.dtype == "float64" else "int32")
    return _array(subject, case.target, "int64")


def _cotangent(subject: Subject, case: Case) -> str:
    """What the loss is pulled back with; a function of NumPy arrays has no use for it."""
    if case.cotangent is not None and subject.tensors in COTANGENTS:
        rows = _array(subject, case.cotangent, case.dtype)
        return COTANGENTS[subject.tensors].format(rows)
    factor = "" if doubled(subject, case.options) == 1 else "2 * "
    return f"{factor}{MAKERS[subject.tensors]}.ones_like(loss)"


def _listed(subject: Subject, name: str, factor: int) -> str:
    """A result as lists, without the factor of its cotangent.

    NumPy divides, as in the worker: others may flush what becomes subnormal.
    """
    if subject.tensors == "tensorflow":
        name = f"{name}.numpy()"
    if factor != 1 and subject.tensors != "numpy":
        name = f"jax.device_get({name})" if subject.tensors == "jax" else name
        return f"({name} / {factor}).tolist()"
    return f"{name}.tolist()"


def _import_of(subject: Subject) -> tuple[str, list[str]]:
    """What a script calls the function, and the lines that get hold of it."""
    folder, module, name = subject.imported
    if not name:
        called = subject.op if subject.op.isidentifier() else "function"
        return called, [f"# {called}: the function that was checked; no import finds it"]
    first, *attributes = name.split(".")
    called = "function" if first in NAMES else first
    lines = ["", f"sys.path.insert(0, {folder!r})"] if folder else []
    if all(part.isidentifier() for part in module.split(".")):
        lines.append(f"from {module} import {first}{f' as {called}' if called != first else ''}")
    else:
        lines += ["import importlib", f"{called} = importlib.import_module({module!r}).{first}"]
    return ".".join([called, *attributes]), lines


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
