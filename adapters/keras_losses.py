"""Keras 3 on TensorFlow: the classes of `keras.losses`, from logits and from probabilities.

Each class is made with `dtype=` the format of its inputs, because a Keras loss otherwise casts
what it is given to float32. That also casts integer labels: from 257 on, bfloat16 cannot hold each.

Conventions were read in keras/src/losses/losses.py, losses/loss.py and backend/tensorflow/nn.py
and confirmed by running 3.15.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..reference.vocabulary import LOGITS, Arithmetic, Case, Options, Semantics, inputs_of
from .snippets import input_name, target_name
from .subject import Framework, Interface, Subject
from .tensorflow_nn import (
    BINARY,
    CLASSES,
    COMPILED_DTYPES,
    DTYPES,
    EIGEN,
    ENVIRONMENT,
    FLUSH,
    NARROW,
    NARROW_XLA,
    XLA,
    TensorFlowRuntime,
    constants,
    sigmoid_arithmetic,
    softmax_arithmetic,
    taped,
)

EPSILON = 1e-7  # keras.config.epsilon()
REDUCTIONS = {"none": None, "sum": "sum", "mean": "sum_over_batch_size"}

# ---------------------------------------------------------------------- declarations

SPARSE = Semantics(mean="valid", all_ignored="zero", label_policy="raises")
SPARSE_PROBABILITIES = replace(SPARSE, guard="clip", guard_eps=EPSILON, renormalise="after")
CATEGORICAL = Semantics(smoothing="eps/K", soft_gradient="p - q")
CATEGORICAL_PROBABILITIES = Semantics(
    smoothing="eps/K", guard="clip", guard_eps=EPSILON, renormalise="before"
)
BINARY_LOGITS = Semantics(smoothing="toward 1/2")
BINARY_PROBABILITIES = replace(BINARY_LOGITS, guard="clip", guard_eps=EPSILON)

# losses/losses.py: reduction="sum_over_batch_size" where none is passed, `ignore_class` compared
# with each label, binary losses that are means over the last axis; losses/loss.py,
# squeeze_or_expand_to_same_rank: a trailing 1 of the target is dropped or added;
# backend/tensorflow/nn.py: categorical targets must have the shape of the output.
SPARSE_CALL = Interface(
    default_reduction="mean",
    class_axis="last",
    broadcasting="reshapes",
    ignore_domain="any",
    mutates="no",
)
CATEGORICAL_CALL = Interface(
    default_reduction="mean",
    class_axis="last",
    broadcasting="raises",
    target_domain="computes",
    mutates="no",
)
BINARY_CALL = Interface(
    default_reduction="mean",
    last_axis="mean",
    broadcasting="reshapes",
    target_domain="computes",
    mutates="no",
)
CALLS = {"index": SPARSE_CALL, "distribution": CATEGORICAL_CALL, "binary": BINARY_CALL}


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


@dataclass(frozen=True)
class _Op:
    """The declaration of one class and `from_logits`, apart from the mode."""

    loss: str
    operation: str
    target: str
    options: frozenset[str]
    semantics: Semantics
    arithmetic: Callable[[str, bool], Arithmetic]
    index_sibling: str | None = None
    binary_sibling: str | None = None

    @property
    def from_logits(self) -> bool:
        return inputs_of(self.operation) == LOGITS


SMOOTHING = frozenset({"label_smoothing"})
OPS: dict[str, _Op] = {
    "SparseCategoricalCrossentropy.logits": _Op(
        "SparseCategoricalCrossentropy",
        "cross_entropy",
        "index",
        frozenset({"ignore_index"}),
        SPARSE,
        softmax_arithmetic,
        binary_sibling="BinaryCrossentropy.logits",
    ),
    "SparseCategoricalCrossentropy.probabilities": _Op(
        "SparseCategoricalCrossentropy",
        "cross_entropy_probabilities",
        "index",
        frozenset({"ignore_index"}),
        SPARSE_PROBABILITIES,
        _probability_arithmetic,
    ),
    "CategoricalCrossentropy.logits": _Op(
        "CategoricalCrossentropy",
        "cross_entropy",
        "distribution",
        SMOOTHING,
        CATEGORICAL,
        softmax_arithmetic,
        index_sibling="SparseCategoricalCrossentropy.logits",
        binary_sibling="BinaryCrossentropy.logits",
    ),
    "CategoricalCrossentropy.probabilities": _Op(
        "CategoricalCrossentropy",
        "cross_entropy_probabilities",
        "distribution",
        SMOOTHING,
        CATEGORICAL_PROBABILITIES,
        _probability_arithmetic,
        index_sibling="SparseCategoricalCrossentropy.probabilities",
    ),
    "BinaryCrossentropy.logits": _Op(
        "BinaryCrossentropy",
        "binary_cross_entropy_with_logits",
        "binary",
        SMOOTHING,
        BINARY_LOGITS,
        sigmoid_arithmetic,
    ),
    "BinaryCrossentropy.probabilities": _Op(
        "BinaryCrossentropy",
        "binary_cross_entropy",
        "binary",
        SMOOTHING,
        BINARY_PROBABILITIES,
        _binary_arithmetic,
    ),
}


def _subject(name: str, op: _Op, mode: str) -> Subject:
    xla = mode == "xla"
    dtypes = COMPILED_DTYPES if xla else DTYPES
    shape = BINARY if op.target == "binary" else CLASSES
    policy = "nan" if xla and op.target == "index" else op.semantics.label_policy
    return Subject(
        framework="keras",
        op=name,
        operation=op.operation,
        target=op.target,
        mode=mode,
        dtypes=dtypes,
        options=op.options,
        reductions=tuple(REDUCTIONS),
        semantics=replace(op.semantics, label_policy=policy),
        arithmetic={dtype: op.arithmetic(dtype, xla) for dtype in dtypes},
        shape=shape if xla else None,
        index_sibling=op.index_sibling,
        binary_sibling=op.binary_sibling,
        interface=CALLS[op.target],
    )


def _worker(subject: Subject, dtype: str) -> tuple[str, dict[str, str]]:
    del subject, dtype
    return "tensorflow", ENVIRONMENT


def _keywords(op: str, options: Options, dtype: str) -> dict[str, Any]:
    """What the class is made with."""
    keywords: dict[str, Any] = {
        "from_logits": OPS[op].from_logits,
        "dtype": dtype,
    }
    if options.reduction != "default":
        keywords["reduction"] = REDUCTIONS[options.reduction]
    if options.label_smoothing:
        keywords["label_smoothing"] = options.label_smoothing
    if options.ignore_index is not None:
        keywords["ignore_class"] = options.ignore_index
    return keywords


def _snippet(subject: Subject, case: Case) -> str:
    x, y = input_name(subject), target_name(case)
    keywords = _keywords(subject.op, case.options, case.dtype)
    inside = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
    lines = [
        "import os",
        "",
        'os.environ["KERAS_BACKEND"] = "tensorflow"',
        "import keras",
        "import tensorflow as tf",
        "",
        *constants(case, x, y),
        f"loss_of = keras.losses.{OPS[subject.op].loss}({inside})",
        "",
        "",
        *taped(subject.mode, f"loss_of({y}, {x})", x, y),
    ]
    return "\n".join(lines) + "\n"


FRAMEWORK = Framework(
    name="keras",
    module="keras_losses",
    packages=("keras", "tensorflow"),
    install="pip install keras tensorflow",
    subjects=tuple(
        _subject(name, op, mode) for mode in ("eager", "xla") for name, op in OPS.items()
    ),
    worker=_worker,
    snippet=_snippet,
)

# ---------------------------------------------------------------------- in the worker


class KerasRuntime(TensorFlowRuntime):
    """keras on tensorflow, imported."""

    def __init__(self) -> None:
        super().__init__()
        import keras

        if keras.config.backend() != "tensorflow":
            raise ImportError(f"keras runs on {keras.config.backend()}, not on tensorflow")
        self._keras = keras

    def versions(self) -> dict[str, str]:
        return {"keras": self._keras.__version__, **super().versions()}

    def facts(self) -> dict[str, str]:
        return {
            "backend": self._keras.config.backend(),
            "epsilon": repr(self._keras.config.epsilon()),
            **super().facts(),
        }

    def make_loss(self, op: str, options: Options, dtype: str) -> Callable[[Any, Any], Any]:
        made = getattr(self._keras.losses, OPS[op].loss)(**_keywords(op, options, dtype))
        return lambda inputs, target: made(target, inputs)


def load() -> KerasRuntime:
    """Imports keras and tensorflow."""
    return KerasRuntime()
