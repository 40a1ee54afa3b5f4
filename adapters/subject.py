"""A subject: one implementation of an operation in one mode, with what it declares of itself.

Subjects are data, so that every room can list and filter them without importing a framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Callable, Dict, FrozenSet, Optional, Tuple  # noqa: UP035

from ..reference.vocabulary import LOGITS, Arithmetic, Case, Semantics, inputs_of
from .idioms import Idioms, OpCall

COMPILED = ("compile", "function", "xla", "jit")
"""Modes that compile: torch.compile, tf.function, the same with jit_compile=True, jax.jit."""

PLAIN = ("eager", "session")
"""Modes that call an op as it is, without compiling, mapping or casting."""

COMPILES_SHAPES = ("jax", "keras-jax")
"""Frameworks, and libraries of functions of users, of which every new shape costs most of a second
in eager mode too: each primitive of an op is compiled for it."""

SECOND = "second"
"""The mode in which an op is differentiated twice: a Hessian times a vector."""

DEVICES = ("cpu", "cuda", "mps")
"""What `--device` may name."""


@dataclass(frozen=True)
class Interface:
    """How a subject takes a call, apart from what it computes; "" says 'not declared'.

    Attributes:
        default_reduction: what a call without `reduction` does: "none", "mean" or "sum", or "mean
            of elements", which divides by the number of all entries of the inputs.
        class_axis: "second" or "last" axis of inputs of three dimensions; binary ops have none.
        last_axis: what a binary op does with inputs (N, d): "kept" gives N d losses, "mean" N.
        broadcasting: a target of another shape, (N, 1) for (N,) or (N, K), (N,) for the (N, 1) of
            a binary op: "raises", "broadcasts", or "reshapes" where the result is that of the
            right shape.
        target_domain: targets outside [0, 1], and distributions that do not sum to 1: "raises",
            or "computes" the same formula; where they differ,
            such as "raises (outside [0, 1]); computes (sum 1/2)".
        smoothing_domain: `label_smoothing` outside [0, 1]: "raises", "computes" the same formula or
            "unused" where it changes nothing; where they differ, such as
            "unused (-1/8); computes (3/2)".
        ignore_domain: which `ignore_index` a call may name: "any", or what each does, such as
            "ignores (-1, K + 2); raises (1)"; on an op without ignored labels that takes the
            argument all the same, "unused" where it changes nothing.
        unasked_mean: whether a row whose label is ignored unasked is "left out" of the mean, as
            one that a call says to ignore, or "counted" with a loss of 0.
        pos_weight: what it multiplies: "positive term" or "both terms".
        weighted_smoothing: what class weights do to smoothed labels: "each term" has the weight of
            its own class, "label" gives all of the row that of its label.
        mutates: "no", or "yes" where the inputs are changed in place.
    """

    default_reduction: str = ""
    class_axis: str = ""
    last_axis: str = ""
    broadcasting: str = ""
    target_domain: str = ""
    smoothing_domain: str = ""
    ignore_domain: str = ""
    unasked_mean: str = ""
    pos_weight: str = ""
    weighted_smoothing: str = ""
    mutates: str = ""


@dataclass(frozen=True)
class Subject:
    """One implementation in one mode on one device.

    Attributes:
        framework: the name that `--backend` selects, such as "torch".
        op: the op within the framework, such as "cross_entropy.index".
        operation: the Operation of the reference that it implements.
        target: "index", "distribution" or "binary".
        mode: "eager", one of COMPILED, or another way to call the op, such as "vmap".
        dtypes: the formats in which it is audited.
        options: names of the options that it takes, beside `reduction`.
        reductions: the values of `reduction` that it takes; "none" is always among them.
        semantics: the conventions that it declares, as far as numbers depend on them.
        arithmetic: how it computes, per dtype; a dtype without an entry has no conformity bound.
        shape: the one (N, K) shape that a compiled mode is called with, or None for any.
        index_sibling: op of the same framework that takes an index where this takes a distribution.
        binary_sibling: op of the same framework that is its binary cross-entropy with logits.
        divergence_sibling: op of the same framework that is the KL divergence of log-probabilities.
        device: "cpu", or another one that `Framework.on` made of it; for a function of a user
            whatever its library calls the device.
        environment: name of the environment it runs in, "" where a run has one alone. It is part
            of the name, so that findings, tallies and conventions of two environments are two;
            the same op in two versions bears two names, `jax@old:...` and `jax@new:...`.
        interface: the other conventions that it declares.
        tensors: for a function of a user, the library whose arrays it takes, else "".
        source: for a function of a user, the file that it is defined in, else "".
        imported: for a function of a user, how a script gets hold of it: the folder to look in (""
            where Python looks anyway), the module, and its name there; three times "" where no
            script can.
        takes_reduction: for a function of a user, whether it is told the reduction.
        undeclared: fields of `semantics` about which it declares nothing: they are measured and
            judged under what was measured, and no measurement contradicts them.
        gradients: False where the loss alone comes back, since nothing here can differentiate it.
        misuse: where it calls an op as that is not meant, what is wrong with it: it is audited so
            that the law which looks for that is seen to find it, and no other law applies.
        layouts: how its inputs may lie in memory, beside an array of their own (`Case.layout`).
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
    divergence_sibling: Optional[str] = None
    device: str = "cpu"
    environment: str = ""
    interface: Interface = Interface()
    tensors: str = ""
    source: str = ""
    imported: Tuple[str, str, str] = ("", "", "")  # noqa: UP006
    takes_reduction: bool = False
    undeclared: FrozenSet[str] = frozenset()  # noqa: UP006
    gradients: bool = True
    misuse: str = ""
    layouts: Tuple[str, ...] = ()  # noqa: UP006

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
        """Whether a new shape or option costs seconds."""
        return self.mode in COMPILED


def only_cpu(subject: Subject, device: str) -> Optional[Subject]:
    """For frameworks that are audited on the CPU alone."""
    return subject if device == "cpu" else None


def the_same(framework: Framework, python: str) -> Framework:
    """For frameworks that declare the same wherever they run."""
    del python
    return framework


def no_call(subject: Subject) -> OpCall:
    """For frameworks in whose ops nothing is ported."""
    del subject
    return OpCall()


def worker_name(name: str, device: str) -> str:
    """A worker for another device than the CPU is another process."""
    return name if device == "cpu" else f"{name}-{device}"


def cuda_too(subject: Subject, device: str) -> Optional[Subject]:
    """For frameworks that compute on GPUs of NVIDIA as well.

    The constants of the arithmetic are those of the CPU's functions, so that elsewhere no bound is
    declared.
    """
    if device == "cuda":
        return replace(subject, device=device, arithmetic={})
    return only_cpu(subject, device)


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
            two subjects of the same worker name share a process. Where a framework computes on
            whatever it sees, one of another device has a process that sees that too.
        snippet: (subject, case) -> a script that reproduces the call with the framework alone
            and prints the loss and the gradient.
        unusable: why it cannot be audited, where that was found out before it was to be: a module
            of a user that does not load.
        on: (subject, device) -> the subject as it is audited there, or None. A framework with a
            device beside "cpu" lists those that are there in the fact "devices" of its worker.
        placed: (framework, path of an interpreter) -> the framework as it is there: what a module
            of a user declares may depend on what it finds.
        idioms: how code of one's own is written with it, or None.
        call: subject -> its op called without a reduction, for those that a user calls as they are.
        functions: subjects of FUNCTIONS, which sweeps alone ask.
    """

    name: str
    module: str
    packages: Tuple[str, ...]  # noqa: UP006
    install: str
    subjects: Tuple[Subject, ...]  # noqa: UP006
    worker: Callable[[Subject, str], Tuple[str, Dict[str, str]]]  # noqa: UP006
    snippet: Callable[[Subject, Case], str]
    unusable: str = ""
    on: Callable[[Subject, str], Optional[Subject]] = only_cpu
    placed: Callable[[Framework, str], Framework] = the_same
    idioms: Optional[Idioms] = None
    call: Callable[[Subject], OpCall] = no_call
    functions: Tuple[Subject, ...] = ()  # noqa: UP006


def compiles_shapes(subject: Subject) -> bool:
    """Whether every shape is compiled anew, op by op: not where one program of one shape is."""
    return subject.framework in COMPILES_SHAPES and not subject.compiled


def plain(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """Ops that are called as they are meant, without compiling, mapping or casting.

    Of a function of a user nobody has said what it is meant for.
    """
    return (s for s in subjects if s.mode in PLAIN and not (s.misuse or s.tensors))
