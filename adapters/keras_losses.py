"""Keras 3: the losses of `keras.losses`, the same code on each of its backends.

This file declares what is common to them, and Keras on TensorFlow, which is the framework "keras".
The other backends are frameworks of their own, "keras-jax", "keras-torch" and "keras-numpy", since
each needs a process, and packages, of its own; `--backend keras` means all of them.

Each class is made with `dtype=` the format of its inputs, because a Keras loss otherwise casts
what it is given to float32. That also casts integer labels: from 257 on, bfloat16 cannot hold each.
The functions cast nothing. float64 is audited on TensorFlow only: elsewhere Keras takes float32 for
the common type of float64 and anything (BIT64_TO_BIT32_DTYPE in
keras/src/backend/common/dtypes.py), so that a loss in float64 is right to float32 at most.

Conventions were read in keras/src/losses/losses.py, losses/loss.py and backend/*/nn.py and
confirmed by running 3.15.1.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..reference.vocabulary import LOGITS, Arithmetic, Case, Options, Semantics, inputs_of
from . import idioms
from .protocol import RawArray
from .runtime import NUMPY_TYPES, Call, Result, Unsupported, flags, raw, subnormals
from .snippets import input_name, target_name
from .subject import Framework, Interface, Subject, cuda_too, worker_name
from .tensorflow_nn import (
    BINARY,
    CLASSES,
    COMPILED_DTYPES,
    DTYPES,
    EIGEN,
    ENVIRONMENTS,
    FLUSH,
    NARROW,
    NARROW_XLA,
    XLA,
    TensorFlowRuntime,
    constants,
    labelled,
    on_tensorflow,
    sigmoid_arithmetic,
    softmax_arithmetic,
    taped,
)

DEVICES = {"cpu": "cpu:0", "cuda": "gpu:0"}
"""What keras.device calls them, on every backend."""

EPSILON = 1e-7  # keras.config.epsilon()
REDUCTIONS = {"none": None, "sum": "sum", "mean": "sum_over_batch_size"}

# ---------------------------------------------------------------------- what all backends share


@dataclass(frozen=True)
class _Op:
    """One class, or function, with `from_logits` or with what its inputs are the output of.

    Attributes:
        loss: its name in keras.losses.
        operation, target: as in Subject.
        options: as in Subject.
        activation: the function of keras.ops whose output it is given, or "".
        like: the op whose declaration holds for it too, or "" for its own.
        arranged: "multilabel" where the rows of a batch lie side by side as labels of an example,
            "masked" where the ignored rows are named by a mask of the inputs, or "".
        index_sibling, binary_sibling: as in Subject.
        takes_logits: whether it has the argument `from_logits`.
    """

    loss: str
    operation: str
    target: str
    options: frozenset[str]
    activation: str = ""
    like: str = ""
    arranged: str = ""
    index_sibling: str | None = None
    binary_sibling: str | None = None
    takes_logits: bool = True

    @property
    def from_logits(self) -> bool:
        """Whether the loss is told so; the output of an activation is not."""
        return inputs_of(self.operation) == LOGITS and not self.activation

    @property
    def is_class(self) -> bool:
        return self.loss[0].isupper()

    @property
    def is_variant(self) -> bool:
        """Of a class that is audited in full: here fewer options and formats will do."""
        return bool(self.activation or self.arranged) or not self.is_class

    @property
    def reductions(self) -> tuple[str, ...]:
        if self.arranged == "multilabel":
            return ("none", "mean")  # "sum" adds the means of examples, which is another number
        return ("none",) if self.activation or not self.is_class else tuple(REDUCTIONS)


@dataclass(frozen=True)
class _Loss:
    """A loss of keras.losses, which is there as a class and as a function.

    Attributes:
        name, function: its two names.
        target: as in Subject.
        operations: what it is from logits and from probabilities; of one alone it is not told.
        options: of both; the class takes sample weights beside them.
        activation: the function of keras.ops that makes its probabilities.
    """

    name: str
    function: str
    target: str
    operations: Mapping[str, str]
    options: frozenset[str]
    activation: str = ""

    @property
    def takes_logits(self) -> bool:
        return len(self.operations) > 1

    def op(self, name: str, form: str) -> str:
        """The op that one of its names is in one form."""
        return f"{name}.{form}" if self.takes_logits else name


SPARSE, CATEGORICAL, BINARY_CE = (
    "SparseCategoricalCrossentropy",
    "CategoricalCrossentropy",
    "BinaryCrossentropy",
)
BINARY_FOCAL, CATEGORICAL_FOCAL = "BinaryFocalCrossentropy", "CategoricalFocalCrossentropy"
BINARY_LOGITS = f"{BINARY_CE}.logits"
FACTORS = frozenset({"alpha", "gamma"})
CROSS_ENTROPIES = (
    _Loss(
        SPARSE,
        "sparse_categorical_crossentropy",
        "index",
        {"logits": "cross_entropy", "probabilities": "cross_entropy_probabilities"},
        frozenset({"ignore_index"}),
        "softmax",
    ),
    _Loss(
        CATEGORICAL,
        "categorical_crossentropy",
        "distribution",
        {"logits": "cross_entropy", "probabilities": "cross_entropy_probabilities"},
        frozenset({"label_smoothing"}),
        "softmax",
    ),
    _Loss(
        BINARY_CE,
        "binary_crossentropy",
        "binary",
        {"logits": "binary_cross_entropy_with_logits", "probabilities": "binary_cross_entropy"},
        frozenset({"label_smoothing"}),
        "sigmoid",
    ),
)
# What is no cross-entropy, audited in eager mode alone.
RELATED = (
    _Loss(
        "KLDivergence",
        "kl_divergence",
        "distribution",
        {"probabilities": "kl_divergence_probabilities"},
        frozenset(),
    ),
    _Loss(
        BINARY_FOCAL,
        "binary_focal_crossentropy",
        "binary",
        {"logits": "binary_focal", "probabilities": "binary_focal_probabilities"},
        FACTORS,
        "sigmoid",
    ),
    _Loss(
        CATEGORICAL_FOCAL,
        "categorical_focal_crossentropy",
        "distribution",
        {"logits": "focal", "probabilities": "focal_probabilities"},
        FACTORS,
        "softmax",
    ),
)


def _classes(losses: tuple[_Loss, ...]) -> Iterator[tuple[str, _Op]]:
    for loss in losses:
        for form, operation in loss.operations.items():
            of_classes = operation == "cross_entropy"
            yield (
                loss.op(loss.name, form),
                _Op(
                    loss.name,
                    operation,
                    loss.target,
                    loss.options | {"sample_weight"},
                    index_sibling=f"{SPARSE}.{form}" if loss.name == CATEGORICAL else None,
                    binary_sibling=BINARY_LOGITS if of_classes else None,
                    takes_logits=loss.takes_logits,
                ),
            )


def _functions() -> Iterator[tuple[str, _Op]]:
    """The same as the classes, without sample weights."""
    sparse, categorical, _ = CROSS_ENTROPIES
    for loss in (*CROSS_ENTROPIES, *RELATED):
        for form, operation in loss.operations.items():
            sibling = sparse.op(sparse.function, form) if loss is categorical else None
            yield (
                loss.op(loss.function, form),
                _Op(
                    loss.function,
                    operation,
                    loss.target,
                    loss.options,
                    like=loss.op(loss.name, form),
                    index_sibling=sibling,
                    takes_logits=loss.takes_logits,
                ),
            )


def _activated() -> Iterator[tuple[str, _Op]]:
    """A focal loss of logits is that of their softmax or sigmoid; a cross-entropy is not always."""
    for loss in (*CROSS_ENTROPIES, *RELATED):
        if loss.activation:
            yield (
                f"{loss.name}.{loss.activation}",
                _Op(
                    loss.name,
                    loss.operations["logits"],
                    loss.target,
                    frozenset(),
                    activation=loss.activation,
                    like="" if loss in CROSS_ENTROPIES else f"{loss.name}.logits",
                ),
            )


def _arranged() -> Iterator[tuple[str, _Op]]:
    multilabel = replace(
        CLASS_OPS[BINARY_LOGITS],
        options=frozenset({"label_smoothing"}),
        like=BINARY_LOGITS,
        arranged="multilabel",
    )
    yield f"{BINARY_CE}.multilabel", multilabel
    masked = replace(CLASS_OPS[f"{SPARSE}.logits"], like=f"{SPARSE}.logits", arranged="masked")
    yield f"{SPARSE}.masked", replace(masked, binary_sibling=None)


CLASS_OPS = dict(_classes(CROSS_ENTROPIES))
OPS = {
    **CLASS_OPS,
    **dict(_activated()),
    **dict(_functions()),
    **dict(_arranged()),
    **dict(_classes(RELATED)),
}


# losses/losses.py: reduction="sum_over_batch_size" where none is passed, `ignore_class` compared
# with each label, binary losses that are means over the last axis; losses/loss.py,
# squeeze_or_expand_to_same_rank: a trailing 1 of the target is dropped or added;
# backend/*/nn.py: categorical targets must have the shape of the output.
SPARSE_CALL = Interface(
    default_reduction="mean",
    class_axis="last",
    broadcasting="reshapes",
    ignore_domain="any",
    mutates="no",
)
# keras/src/losses/losses.py: y (1 - eps) + eps / K, and eps / 2 for binary labels, if eps is not 0.
CATEGORICAL_CALL = Interface(
    default_reduction="mean",
    class_axis="last",
    broadcasting="raises",
    target_domain="computes",
    smoothing_domain="computes",
    mutates="no",
)
BINARY_CALL = Interface(
    default_reduction="mean",
    last_axis="mean",
    broadcasting="reshapes",
    target_domain="computes",
    smoothing_domain="computes",
    mutates="no",
)
CALLS = {"index": SPARSE_CALL, "distribution": CATEGORICAL_CALL, "binary": BINARY_CALL}


@dataclass(frozen=True)
class Declaration:
    """What an op declares on one backend.

    Attributes:
        semantics: its conventions.
        arithmetic: (dtype, whether it is compiled) -> how it computes.
        target_domain: as in Interface, where it is not that of the other backends.
    """

    semantics: Semantics
    arithmetic: Callable[[str, bool], Arithmetic]
    target_domain: str = ""


class Snippet(Protocol):
    """(mode, case, x, y, expression of the loss) -> the lines that make and differentiate it."""

    def __call__(self, mode: str, case: Case, x: str, y: str, expression: str) -> list[str]: ...


@dataclass(frozen=True)
class Backend:
    """One backend of Keras.

    Attributes:
        name: the value of KERAS_BACKEND.
        framework: the name that lossaudit gives it.
        module: the file of `adapters/` with its runtime.
        packages: the distributions that it needs beside Keras, and whose versions matter.
        imports: the lines that a script starts with.
        worker: the name of its worker.
        environments: what that is told, by the device of the subjects that it serves.
        dtypes: in which it is audited.
        declared: by op; `_Op.like` says which others it holds for.
        snippet: how a script differentiates.
        compiled: its compiled mode, or "".
        compiled_ops: the ops that are audited in that mode.
        compiled_policy: the label policy of that mode, where it differs.
        gradients: whether it can differentiate.
        few_dtypes: of `dtypes`, those of an op that is like another.
        on: as in Framework, for the devices of `environments`.
    """

    name: str
    framework: str
    module: str
    packages: tuple[str, ...]
    imports: tuple[str, ...]
    worker: str
    environments: Mapping[str, Mapping[str, str]]
    dtypes: tuple[str, ...]
    declared: Mapping[str, Declaration]
    snippet: Snippet
    compiled: str = ""
    compiled_ops: tuple[str, ...] = ()
    compiled_policy: str = ""
    gradients: bool = True
    few_dtypes: tuple[str, ...] = ("float32",)
    on: Callable[[Subject, str], Subject | None] = cuda_too


def framework(backend: Backend) -> Framework:
    """Keras on one backend as a framework."""

    def worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
        del dtype
        environment = backend.environments[subject.device]
        return worker_name(backend.worker, subject.device), dict(environment)

    def on(subject: Subject, device: str) -> Subject | None:
        return backend.on(subject, device) if device in backend.environments else None

    def snippet(subject: Subject, case: Case) -> str:
        return _snippet(backend, subject, case)

    return Framework(
        name=backend.framework,
        module=backend.module,
        packages=("keras", *backend.packages),
        install=" ".join(("pip install keras", *backend.packages)),
        subjects=tuple(_subjects(backend)),
        worker=worker,
        snippet=snippet,
        on=on,
        idioms=idioms.keras(backend.name),
        call=_call,
    )


def _subjects(backend: Backend) -> Iterator[Subject]:
    for name in OPS:
        yield _subject(backend, name, "eager")
    for name in backend.compiled_ops:
        yield _subject(backend, name, backend.compiled)


def _subject(backend: Backend, name: str, mode: str) -> Subject:
    op, declared, compiled = OPS[name], _declared(backend, name), mode != "eager"
    dtypes = COMPILED_DTYPES if compiled else backend.dtypes
    if op.is_variant:
        few = backend.few_dtypes if op.like else COMPILED_DTYPES
        dtypes = tuple(dtype for dtype in dtypes if dtype in few)
    semantics = declared.semantics
    if "label_smoothing" not in op.options:
        semantics = replace(semantics, smoothing="none")
    if compiled and backend.compiled_policy and op.target == "index":
        semantics = replace(semantics, label_policy=backend.compiled_policy)
    return Subject(
        framework=backend.framework,
        op=name,
        operation=op.operation,
        target=op.target,
        mode=mode,
        dtypes=dtypes,
        options=op.options,
        reductions=op.reductions,
        semantics=semantics,
        arithmetic={dtype: declared.arithmetic(dtype, compiled) for dtype in dtypes},
        shape=(BINARY if op.target == "binary" else CLASSES) if compiled else None,
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        gradients=backend.gradients,
        interface=_interface(backend, name),
    )


def _declared(backend: Backend, name: str) -> Declaration:
    return backend.declared[OPS[name].like or name]


def _interface(backend: Backend, name: str) -> Interface:
    """How a call is taken: as by its class, and by a function without reduction and reshaping."""
    op, domain = OPS[name], _declared(backend, name).target_domain
    taken = CALLS[op.target]
    if op.arranged == "multilabel":  # the shapes are those of the arrangement
        taken = replace(taken, last_axis="", broadcasting="")
    if op.operation.startswith("kl"):  # a product of whatever shapes, which nothing compares
        taken = replace(taken, broadcasting="broadcasts")
    if domain:
        # A label of 1 is smoothed to 17/16 by an eps of -1/8, and to 1/4 by one of 3/2.
        smoothing = "raises (-1/8); computes (3/2)" if domain == "raises" else domain
        taken = replace(taken, target_domain=domain, smoothing_domain=smoothing)
    if op.activation:  # audited without the reductions that would tell
        return replace(taken, default_reduction="")
    if op.is_class:
        return taken
    raises = op.target == "binary"
    broadcasting = "raises" if raises else taken.broadcasting
    return replace(taken, default_reduction="none", broadcasting=broadcasting)


def _keywords(op: _Op, options: Options, dtype: str) -> dict[str, Any]:
    """What the class is made with, or the function called with."""
    keywords: dict[str, Any] = {"from_logits": op.from_logits} if op.takes_logits else {}
    if op.is_class:
        keywords["dtype"] = dtype
        if options.reduction != "default":
            keywords["reduction"] = REDUCTIONS[options.reduction]
    if options.label_smoothing:
        keywords["label_smoothing"] = options.label_smoothing
    if options.ignore_index is not None and op.arranged != "masked":
        keywords["ignore_class"] = options.ignore_index
    if options.gamma is not None:
        keywords["gamma"] = options.gamma
    if options.alpha is not None:
        keywords["alpha"] = options.alpha
        if op.target == "binary":
            keywords["apply_class_balancing"] = True
    return keywords


def _snippet(backend: Backend, subject: Subject, case: Case) -> str:
    op, x, y = OPS[subject.op], input_name(subject), target_name(case)
    lines = [
        "import os",
        "",
        f'os.environ["KERAS_BACKEND"] = "{backend.name}"',
        *backend.imports,
        "",
        *_made(op, case),
        *backend.snippet(subject.mode, case, x, y, _expression(op, case, x, y)),
    ]
    return "\n".join(lines) + "\n"


def _made(op: _Op, case: Case) -> list[str]:
    """The lines that make what `_expression` calls."""
    if not op.is_class:
        return []
    lines = [f"loss_of = keras.losses.{op.loss}({_arguments(op, case)})"]
    if op.arranged != "masked" or case.options.ignore_index is None:
        return lines
    return [
        *lines,
        "",
        "",
        "def masked(y, z, *w):",
        f"    keras.src.backend.set_keras_mask(z, y != {case.options.ignore_index})",
        f"    return loss_of(keras.ops.where(y != {case.options.ignore_index}, y, 0), z, *w)",
        "",
        "",
    ]


def _arguments(op: _Op, case: Case) -> str:
    keywords = _keywords(op, case.options, case.dtype)
    return ", ".join(f"{name}={value!r}" for name, value in keywords.items())


def _expression(op: _Op, case: Case, x: str, y: str) -> str:
    """The loss of x and y in a script."""
    if op.arranged == "multilabel":
        shape = _labelled(case.rows, case.options)
        reshaped = ", ".join(f"keras.ops.reshape({name}, {shape})" for name in (y, x))
        loss = f"loss_of({reshaped})"
        return f"keras.ops.reshape({loss}, [-1])" if len(shape) > 2 else loss
    output = f"keras.ops.{op.activation}({x})" if op.activation else x
    weight = "" if case.sample_weight is None else ", w"
    if not op.is_class:
        arguments = ", ".join(filter(None, (y, output, _arguments(op, case))))
        return f"keras.losses.{op.loss}({arguments})"
    masked = op.arranged == "masked" and case.options.ignore_index is not None
    return f"{'masked' if masked else 'loss_of'}({y}, {output}{weight})"


def _call(subject: Subject) -> idioms.OpCall:
    op = OPS[subject.op]
    if op.arranged:
        return idioms.OpCall()
    fixed = [f"from_logits={op.from_logits}"] if op.takes_logits else []
    inputs = f"keras.ops.{op.activation}({{x}})" if op.activation else "{x}"
    taken = ("label_smoothing",) if "label_smoothing" in op.options else ()
    passed = tuple((name, f"{name}={name}") for name in taken)
    if not op.is_class:
        arguments = ", ".join(("{y}", inputs, *fixed))
        return idioms.OpCall(f"keras.losses.{op.loss}({arguments}{{options}})", passed)
    # A class that is not told the dtype casts to float32.
    made = ", ".join((*fixed, "reduction=None", "dtype={x}.dtype"))
    return idioms.OpCall(f"keras.losses.{op.loss}({made}{{options}})({{y}}, {inputs})", passed)


def _labelled(rows: int, options: Options) -> tuple[int, ...]:
    """The shape in which a batch of single labels is one of several labels an example.

    The class gives the mean of the labels of an example; a last axis keeps their losses apart.
    """
    shape = labelled(rows)
    return (*shape, 1) if options.reduction == "none" else shape


# ---------------------------------------------------------------------- Keras on TensorFlow

TF_SPARSE = Semantics(mean="valid", all_ignored="zero", label_policy="raises")
TF_CATEGORICAL = Semantics(smoothing="eps/K", soft_gradient="p - q")
TF_BINARY = Semantics(smoothing="toward 1/2")


def clipped(semantics: Semantics, renormalise: str = "no") -> Semantics:
    """The conventions of the same op for probabilities."""
    return replace(semantics, guard="clip", guard_eps=EPSILON, renormalise=renormalise)


def _binary_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """-(y log c + (1 - y) log(1 - c)), c the clipped p; each term is differentiated by itself."""
    return replace(_probability_arithmetic(dtype, xla), gradient="difference")


def _probability_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """-sum q log p, by automatic differentiation of the formula."""
    wide = dtype in ("float64", "float32")
    c = (6.0 if xla else 4.0) if wide else 1.01
    narrow = NARROW_XLA if xla else NARROW
    origin = (XLA if xla else EIGEN) + FLUSH
    return Arithmetic(
        form="log p",
        gradient="quotient",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=c,
        c_log=c,
        c_log1p=10.0 if wide else 1.01,
        c_sigmoid=14.0,
        flush=True,
        origin=origin if wide else origin + narrow,
    )


def _tensorflow_snippet(mode: str, case: Case, x: str, y: str, expression: str) -> list[str]:
    return [*constants(case, x, y), "", "", *taped(mode, expression, case, x, y)]


# softmax and sigmoid leave their input on their output (`_keras_logits`), and the losses take it.
_FROM_LOGITS = {
    "SparseCategoricalCrossentropy.logits": Declaration(TF_SPARSE, softmax_arithmetic),
    "CategoricalCrossentropy.logits": Declaration(TF_CATEGORICAL, softmax_arithmetic),
    "BinaryCrossentropy.logits": Declaration(TF_BINARY, sigmoid_arithmetic),
    "SparseCategoricalCrossentropy.softmax": Declaration(TF_SPARSE, softmax_arithmetic),
    "CategoricalCrossentropy.softmax": Declaration(TF_CATEGORICAL, softmax_arithmetic),
    "BinaryCrossentropy.sigmoid": Declaration(TF_BINARY, sigmoid_arithmetic),
}
_FROM_PROBABILITIES = {
    "SparseCategoricalCrossentropy.probabilities": Declaration(
        clipped(TF_SPARSE, "after"), _probability_arithmetic
    ),
    "CategoricalCrossentropy.probabilities": Declaration(
        clipped(replace(TF_CATEGORICAL, soft_gradient="sum(q) p - q"), "before"),
        _probability_arithmetic,
    ),
    "BinaryCrossentropy.probabilities": Declaration(clipped(TF_BINARY), _binary_arithmetic),
}
FLOORED = Semantics(guard="floor", guard_eps=EPSILON)
BINARY_FOCAL_CLIPPED = Semantics(guard="clip log", guard_eps=EPSILON)
CATEGORICAL_FOCAL_CLIPPED = clipped(Semantics(alpha=0.25), "before")


def _binary_focal_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """(1 - p_t)^g times the cross-entropy, p_t = y p + (1 - y) (1 - p), p = sigmoid(z)."""
    # max(z, 0) - z y + log1p(exp(-|z|)) is form "C" of the classes 0 and z for a label of 0 or 1.
    return replace(sigmoid_arithmetic(dtype, xla), form="C")


def _categorical_focal_arithmetic(dtype: str, xla: bool) -> Arithmetic:
    """(1 - c)^g (-log c), c the clipped softmax, divided by its sum once more."""
    base = softmax_arithmetic(dtype, xla)
    return replace(base, form="log softmax / sum", gradient="softmax product")


# The cross-entropy of a binary focal loss takes the logits, its factor their sigmoid.
_RELATED = {
    "KLDivergence": Declaration(FLOORED, _probability_arithmetic),
    f"{BINARY_FOCAL}.logits": Declaration(Semantics(), _binary_focal_arithmetic),
    f"{BINARY_FOCAL}.probabilities": Declaration(BINARY_FOCAL_CLIPPED, _probability_arithmetic),
    f"{CATEGORICAL_FOCAL}.logits": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _categorical_focal_arithmetic
    ),
    f"{CATEGORICAL_FOCAL}.probabilities": Declaration(
        CATEGORICAL_FOCAL_CLIPPED, _probability_arithmetic
    ),
}

FRAMEWORK = framework(
    Backend(
        name="tensorflow",
        framework="keras",
        module="keras_losses",
        packages=("tensorflow",),
        imports=("import keras", "import tensorflow as tf"),
        worker="tensorflow",
        environments=ENVIRONMENTS,
        dtypes=DTYPES,
        declared={**_FROM_LOGITS, **_FROM_PROBABILITIES, **_RELATED},
        snippet=_tensorflow_snippet,
        compiled="xla",
        compiled_ops=tuple(CLASS_OPS),
        compiled_policy="nan",
        few_dtypes=COMPILED_DTYPES,
        on=on_tensorflow,
    )
)

# ---------------------------------------------------------------------- in the worker


def loss_function(keras: Any, op: _Op, options: Options, dtype: str) -> Callable[..., Any]:
    """(inputs, target, and the sample weights where there are any) -> loss."""
    loss, keywords = getattr(keras.losses, op.loss), _keywords(op, options, dtype)
    activated = getattr(keras.ops, op.activation) if op.activation else lambda inputs: inputs
    if not op.is_class:
        return lambda inputs, target: loss(target, activated(inputs), **keywords)
    made = loss(**keywords)
    if op.arranged == "multilabel":
        return _multilabel(keras, made, options)
    if op.arranged == "masked" and options.ignore_index is not None:
        return _masked(keras, made, options.ignore_index)
    return lambda inputs, target, *weights: made(target, activated(inputs), *weights)


def _multilabel(keras: Any, made: Any, options: Options) -> Callable[..., Any]:
    """Several labels an example, as `_labelled` arranges them."""

    def loss_of(inputs: Any, target: Any) -> Any:
        shape = _labelled(inputs.shape[0], options)
        loss = made(keras.ops.reshape(target, shape), keras.ops.reshape(inputs, shape))
        return keras.ops.reshape(loss, [-1]) if len(shape) > 2 else loss

    return loss_of


def _masked(keras: Any, made: Any, ignored: int) -> Callable[..., Any]:
    """The rows of one label masked, as by a layer that the inputs came through."""

    def loss_of(inputs: Any, target: Any, *weights: Any) -> Any:
        mask = keras.ops.not_equal(target, ignored)
        keras.src.backend.set_keras_mask(inputs, mask)
        return made(keras.ops.where(mask, target, 0), inputs, *weights)

    return loss_of


def imported_keras(backend: str) -> Any:
    """keras, if it runs on the backend that is meant."""
    import keras

    if keras.config.backend() != backend:
        raise ImportError(f"keras runs on {keras.config.backend()}, not on {backend}")
    return keras


class KerasRuntime(TensorFlowRuntime):
    """keras on tensorflow, imported."""

    def __init__(self) -> None:
        super().__init__()
        self._keras = imported_keras("tensorflow")

    def versions(self) -> dict[str, str]:
        return {"keras": self._keras.__version__, **super().versions()}

    def facts(self) -> dict[str, str]:
        return {
            "backend": self._keras.config.backend(),
            "epsilon": repr(self._keras.config.epsilon()),
            **super().facts(),
        }

    def make_loss(self, op: str, options: Options, dtype: str) -> Callable[..., Any]:
        return loss_function(self._keras, OPS[op], options, dtype)


class BackendRuntime(ABC):
    """keras on another backend, imported; a subclass says how that differentiates."""

    backend = ""
    packages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._keras = imported_keras(self.backend)
        import ml_dtypes

        self._types = {**NUMPY_TYPES, "bfloat16": ml_dtypes.bfloat16}
        self._programs: dict[Any, Any] = {}
        self._devices = self.devices()

    def versions(self) -> dict[str, str]:
        found = {name: importlib.metadata.version(name) for name in self.packages}
        return {"keras": self._keras.__version__, **found}

    def facts(self) -> dict[str, str]:
        config, ops = self._keras.config, self._keras.ops

        def halved(values: Any) -> Any:
            return ops.convert_to_numpy(ops.multiply(ops.convert_to_tensor(values), 0.5))

        return {
            "backend": config.backend(),
            "epsilon": repr(config.epsilon()),
            "devices": ", ".join(self._devices),
            "subnormals": subnormals(halved),
            **flags("XLA_FLAGS", "OMP_NUM_THREADS"),
        }

    def devices(self) -> tuple[str, ...]:
        """The devices that a subject may be on."""
        return ("cpu",)

    def call(self, call: Call) -> Result:
        """Calls the op, and differentiates it where the backend can."""
        if call.device not in self._devices:
            raise Unsupported(f"keras on {self.backend} has no device {call.device!r} here")
        with self._keras.device(DEVICES[call.device]):
            return self._call(call)

    def _call(self, call: Call) -> Result:
        inputs = self._tensor(call.inputs, call.dtype)
        target = self._tensor(call.target, "int64" if call.index else call.dtype)
        weights = []
        if call.sample_weight is not None:
            weights = [self._tensor(call.sample_weight, call.dtype)]
        cotangent = None
        if call.cotangent is not None:
            cotangent = self._tensor(call.cotangent, call.dtype)
        loss, gradients = self._program(call)(inputs, target, cotangent, *weights)
        return Result(self._raw(loss), *map(self._raw, gradients))

    def _program(self, call: Call) -> Any:
        key = call.key
        if key not in self._programs:
            loss_of = loss_function(self._keras, OPS[call.op], call.options, call.dtype)
            self._programs[key] = self.differentiated(loss_of, call)
        return self._programs[key]

    @abstractmethod
    def differentiated(self, loss_of: Callable[..., Any], call: Call) -> Callable[..., Any]:
        """(inputs, target, cotangent, and the sample weights) -> loss and its gradients."""

    def _tensor(self, bits: Any, dtype: str) -> Any:
        convert = self._keras.ops.convert_to_tensor
        if dtype == "int64":  # 32 bits where the backend has no more
            return convert(bits)
        return convert(bits.view(self._types[dtype]), dtype=dtype)

    def _raw(self, tensor: Any) -> RawArray:
        name = self._keras.backend.standardize_dtype(tensor.dtype)
        return raw(np.asarray(self._keras.ops.convert_to_numpy(tensor)), name)


def load() -> KerasRuntime:
    """Imports keras and tensorflow."""
    return KerasRuntime()
