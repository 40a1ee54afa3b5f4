"""A subject: one implementation of an operation in one mode, with what it declares of itself.

Subjects are data, so that every room can list and filter them without importing a framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Optional, Tuple  # noqa: UP035

from ..reference.vocabulary import LOGITS, Arithmetic, Case, Semantics, inputs_of


@dataclass(frozen=True)
class Subject:
    """One implementation in one mode on one device.

    Attributes:
        framework: the name that `--backend` selects: "torch", "tensorflow", "keras", "jax".
        op: the op within the framework, such as "cross_entropy.index".
        operation: the Operation of the reference that it implements.
        target: "index", "distribution" or "binary".
        mode: "eager", "compile" (torch.compile), "xla" (tf.function(jit_compile=True)) or "jit".
        dtypes: the formats in which it is audited.
        options: names of the options that it takes, beside `reduction`.
        reductions: the values of `reduction` that it takes; "none" is always among them.
        semantics: the conventions that it declares.
        arithmetic: how it computes, per dtype; a dtype without an entry has no conformity bound.
        shape: the one (N, K) shape that a compiled mode is called with, or None for any.
        index_sibling: op of the same framework that takes an index where this takes a distribution.
        binary_sibling: op of the same framework that is its binary cross-entropy with logits.
        device: "cpu".
        environment: name of the environment it runs in, "" where a run has one alone. It is part
            of the name, so that findings, tallies and conventions of two environments are two;
            the same op in two versions bears two names, `jax@old:...` and `jax@new:...`.
    """

    framework: str
    op: str
    operation: str
    target: str
    mode: str
    dtypes: Tuple[str, ...]  # noqa: UP006
    options: FrozenSet[str]  # noqa: UP006
    reductions: Tuple[str, ...]  # noqa: UP006
    semantics: Semantics
    arithmetic: Dict[str, Arithmetic]  # noqa: UP006
    shape: Optional[Tuple[int, int]] = None  # noqa: UP006
    index_sibling: Optional[str] = None
    binary_sibling: Optional[str] = None
    device: str = "cpu"
    environment: str = ""

    @property
    def name(self) -> str:
        """Name without a version: `jax@old:log_softmax.index[jit,cpu]`, or without the `@old`."""
        return f"{self.home}:{self._local}"

    @property
    def name_anywhere(self) -> str:
        """The name without its environment, such as `torch:cross_entropy.index[eager,cpu]`."""
        return f"{self.framework}:{self._local}"

    @property
    def home(self) -> str:
        """The framework, with the environment where there are several: "jax@old"."""
        return f"{self.framework}@{self.environment}" if self.environment else self.framework

    @property
    def _local(self) -> str:
        return f"{self.op}[{self.mode},{self.device}]"

    @property
    def from_logits(self) -> bool:
        return inputs_of(self.operation) == LOGITS

    @property
    def compiled(self) -> bool:
        return self.mode != "eager"


@dataclass(frozen=True)
class Framework:
    """One framework: what it offers, how its worker starts, how a user reproduces a call.

    Attributes:
        name: such as "torch".
        module: the file of `adapters/` that the worker loads, without ".py".
        packages: distributions whose versions are recorded, the framework's own first.
        install: the command that installs it.
        subjects: what it offers.
        worker: (subject, dtype) -> (name, environment) of the worker process that serves it;
            two subjects of the same worker name share a process.
        snippet: (subject, case) -> a script that reproduces the call with the framework alone
            and prints the loss and the gradient.
    """

    name: str
    module: str
    packages: Tuple[str, ...]  # noqa: UP006
    install: str
    subjects: Tuple[Subject, ...]  # noqa: UP006
    worker: Callable[[Subject, str], Tuple[str, Dict[str, str]]]  # noqa: UP006
    snippet: Callable[[Subject, Case], str]
