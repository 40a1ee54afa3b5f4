"""The words of lossaudit as data: operations, semantics, arithmetic, cases and outcomes.

These dataclasses cross every room and are loaded in foreign interpreters too, hence Python 3.9
syntax and nothing beyond NumPy and the standard library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Dict, Optional, Tuple  # noqa: UP035 - evaluated by workers on Python 3.9

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OPERATIONS: Dict[str, str] = {  # noqa: UP006
    "cross_entropy": "-sum_j q_j log softmax(z)_j, from logits z and an index or a distribution q",
    "cross_entropy_probabilities": "-sum_j q_j log p_j, from probabilities p",
    "binary_cross_entropy_with_logits": "-(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z)))",
    "binary_cross_entropy": "-(y log p + (1 - y) log(1 - p)), from a probability p",
    "softmax": "softmax(z)_t, from logits z",
    "logsumexp": "log sum_j exp(z_j), from logits z; the target plays no part",
    "kl_divergence": "sum_j q_j (log q_j - x_j), from log-probabilities x",
    "kl_divergence_probabilities": "sum_j q_j log(q_j / p_j), from probabilities p",
    "focal": "w (1 - p_t)^gamma (-log p_t), p = softmax(z)",
    "focal_probabilities": "w (1 - p_t)^gamma (-log p_t), from probabilities p",
    "binary_focal": "w (1 - p_t)^gamma (-log p_t), p_1 = sigmoid(z)",
    "binary_focal_probabilities": "w (1 - p_t)^gamma (-log p_t), from a probability p_1",
}

FUNCTIONS: Dict[str, str] = {  # noqa: UP006
    "sigmoid": "1 / (1 + exp(-z))",
    "log_sigmoid": "-log(1 + exp(-z))",
    "softplus": "log(1 + exp(z))",
}
"""Functions of one logit that cross-entropies are made of. They have no target (that of a case is 0
and plays no part), and what is called the loss is their value. Sweeps alone look at them."""

TARGETS = ("index", "distribution", "binary")

LOGITS, PROBABILITIES, LOG_PROBABILITIES = "logits", "probabilities", "log-probabilities"


def inputs_of(operation: str) -> str:
    """What an operation takes: LOGITS, PROBABILITIES or LOG_PROBABILITIES."""
    if operation == "kl_divergence":
        return LOG_PROBABILITIES
    if operation.endswith("probabilities") or operation == "binary_cross_entropy":
        return PROBABILITIES
    return LOGITS


@dataclass(frozen=True)
class Semantics:
    """The conventions by which one implementation legitimately differs from another.

    Attributes:
        smoothing: formula of `label_smoothing`: "eps/K" spreads eps over all K classes,
            "eps/(K-1)" over the K - 1 others, "toward 1/2" is y (1 - eps) + eps/2 (binary),
            "none" where the op has no such option.
        mean: denominator of the mean: "weights" (sum of w[y] over the rows not ignored),
            "valid" (count of the rows not ignored), "rows" (count of all rows).
        ignore_index: the label that is ignored when the caller says nothing, or None.
        all_ignored: the mean when every row is ignored: "nan" or "zero".
        label_policy: what an index outside [0, K) does: "raises", "nan", "zero", "wraps" or
            "clamps"; where -1, K and far ones differ, such as "wraps (-1); nan (K, -10^6, 10^6)".
        plus_inf: a row with one +inf logit: "limit" of the mathematics, "nan", or "unspecified"
            where the op gives the one or the other. The value of "logsumexp" has its limit under
            "nan" too, which then speaks of the gradient.
        soft_gradient: gradient for a distribution q: "sum(q) p - q" (the derivative of the loss)
            or "p - q" (which assumes sum(q) = 1).
        guard: how probabilities are kept away from 0 and 1: "none", "clip" (p into [eps, 1 - eps],
            both rounded to the dtype, gradient 0 outside), "clamp log" (each log at least
            `guard_floor`), for divergences "floor" (p and q into [eps, 1]), for focal losses also
            "clip log" (p into [eps, 1 - eps] within the logarithm alone).
        guard_eps: the eps of "clip" and "floor" as written in the source, before rounding to the
            dtype.
        guard_floor: the floor of "clamp log".
        guard_gradient: "exact" derivative of the guarded loss (0 where a guard acts), or "clamped
            denominator" for (p - y) / max(p (1 - p), 1e-12), the 1e-12 of float32 in every dtype.
        renormalise: "no", "before" the guard or "after" the guard (p / sum p).
        gamma, alpha: of focal loss where the caller passes none. alpha is a factor, and for a
            binary label of 0 the factor is 1 - alpha; None for no factor.
        output: "input" where the result has the dtype of the logits, else the dtype's name.
    """

    smoothing: str = "none"
    mean: str = "rows"
    ignore_index: Optional[int] = None
    all_ignored: str = "nan"
    label_policy: str = "raises"
    plus_inf: str = "nan"
    soft_gradient: str = "sum(q) p - q"
    guard: str = "none"
    guard_eps: float = 0.0
    guard_floor: float = 0.0
    guard_gradient: str = "exact"
    renormalise: str = "no"
    gamma: float = 2.0
    alpha: Optional[float] = None
    output: str = "input"


@dataclass(frozen=True)
class Arithmetic:
    """How a subject computes in one dtype: what its a-priori error bound is derived from.

    Attributes:
        form: of the loss: "A" lse - z_t, "B" (m - z_t) + log s, "C" (m - z_t) + log1p S,
            "log softmax" -log(e^(z_t - m) / s), "log softmax / sum" -log(p_t / sum p) for CE;
            "std" max(z,0) - z y + log1p(e^-|z|), "torch" (1-y) z - logsigmoid(z),
            "split" lam |z| + log1p(e^-|z|), "log sigmoid" the logs of p = sigmoid(z) and 1 - p,
            "clamped" the same with each log at least -100, for BCE with logits; "log p" from
            probabilities; "log target" e^l (l - x), l = log q, for a divergence; "A or B" and
            "std, torch or split" where it is one of these.
        gradient: "division" (e^-d / s), "exp logp" (exp of the rounded log-probability),
            "sigmoid" (sigmoid(z) - y), "quotient" ((p - y) / (p (1 - p))), "difference"
            ((1 - y) / (1 - p) - y / p), "softmax product" ((g - sum g p) p, g = -q / p),
            "sigmoid product" ("difference" times p (1 - p)), "chain" ("quotient" times p (1 - p)),
            "separate terms" (the derivatives of the terms of "torch", which cancel), "two terms"
            ((1 - y) sigmoid(z) and y sigmoid(-z)), "target" (-q of a divergence);
            "any" where it is one of those of its operation.
        working: the format in which intermediate results are rounded.
        stored: the format in which log-probabilities are kept between forward and backward.
        height: of the summation tree over classes: "sequential" (K - 1, any order; loose) or
            "pairwise" (ceil(log2 K) + 16, at most K - 1).
        c_exp, c_log, c_log1p, c_sigmoid: largest error of each function, in units of the unit
            roundoff of `working` (twice the largest error in ulps).
        flush: True where subnormal results become zero.
        origin: where each constant comes from.
    """

    form: str
    gradient: str
    working: str
    stored: str
    height: str
    c_exp: float
    c_log: float
    c_log1p: float
    c_sigmoid: float
    flush: bool
    origin: str


@dataclass(frozen=True)
class Options:
    """The options of one call; the defaults mean 'not passed'.

    Attributes:
        weight: one per class.
        pos_weight: of the positive term of binary cross-entropy.
        ignore_index: the label of the rows that do not count.
        label_smoothing: eps.
        where: one per class, False for a class that is left out of softmax and of the loss.
        axis: of the classes in the array that the op is given: -1, or 1 for an array of shape
            (1, K, N), which an adapter makes of the inputs of the case.
        gamma, alpha: of focal loss.
        reduction: "none", "sum" or "mean"; "default" for a call that does not pass it.
    """

    weight: Optional[Tuple[float, ...]] = None  # noqa: UP006
    pos_weight: Optional[float] = None
    ignore_index: Optional[int] = None
    label_smoothing: float = 0.0
    where: Optional[Tuple[bool, ...]] = None  # noqa: UP006
    axis: int = -1
    gamma: Optional[float] = None
    alpha: Optional[float] = None
    reduction: str = "none"

    def passed(self) -> Tuple[str, ...]:  # noqa: UP006
        """Names of the options that this call passes, `reduction` left out."""
        default = Options()
        names = tuple(field.name for field in fields(Options) if field.name != "reduction")
        return tuple(name for name in names if getattr(self, name) != getattr(default, name))


BY_ROW = ("inputs", "target", "sample_weight", "cotangent", "direction")
"""The arrays of a case, an entry or a row for every row; the first two are always there."""


@dataclass(frozen=True)
class Case:
    """One call: the exact numbers that a subject is given. Its arrays are not written into.

    Attributes:
        operation: a key of OPERATIONS.
        dtype: "float64", "float32", "bfloat16" or "float16", the format of `inputs`.
        inputs: (N, K) logits or probabilities, float64 holding values of `dtype` exactly;
            K = 1 for the binary operations.
        target: (N,) int64 class indices, or (N, K) float64 holding values of `dtype`.
            Only the probe asks for other shapes, of inputs too; its type says what a target is.
        options: the options of the call.
        sample_weight: (N,) values of `dtype`, a factor of the loss of each row, or None.
        cotangent: (N,) values of `dtype`, with which the gradient is pulled back: the gradient is
            then that of sum_i cotangent_i loss_i. None for ones, and for a reduced loss.
        by_target: whether the gradient with respect to the target is asked for too.
        direction: (N, K) values of `dtype`, or None. With it the gradient that is asked for is that
            of sum_ij direction_ij d loss_i / d inputs_ij: of each row its Hessian times a vector.
        layout: how the inputs lie in memory: "" in an array of their own, "transposed" with the
            rows beside each other, "strided" every second element of a larger array, "offset" one
            element behind its beginning.
    """

    operation: str
    dtype: str
    inputs: Floats
    target: NDArray[Any]
    options: Options = Options()
    sample_weight: Optional[Floats] = None
    cotangent: Optional[Floats] = None
    by_target: bool = False
    direction: Optional[Floats] = None
    layout: str = ""

    @property
    def rows(self) -> int:
        return int(self.inputs.shape[0])

    @property
    def target_kind(self) -> str:
        if self.target.dtype.kind in "iu":
            return "index"
        return "binary" if self.operation.startswith("binary") else "distribution"

    def take(self, rows: NDArray[Any]) -> Case:
        """The same call on some of the rows (indices or a mask)."""
        arrays = {name: getattr(self, name) for name in BY_ROW}
        return replace(self, **{k: None if a is None else a[rows] for k, a in arrays.items()})

    def row_ids(self) -> Tuple[str, ...]:  # noqa: UP006
        """One id per row: hash of operation, options, dtype and the bits of the row."""
        head = _hash_head(self)
        arrays = (getattr(self, name) for name in BY_ROW)
        parts = [_canonical(array) for array in arrays if array is not None]
        return tuple(
            hashlib.blake2b(
                head + b"".join(part[i].tobytes() for part in parts), digest_size=8
            ).hexdigest()
            for i in range(self.rows)
        )

    def case_id(self) -> str:
        """Hash of the row ids and the shape: the same in every run for the same bits."""
        return self._case_id

    @cached_property
    def _case_id(self) -> str:
        text = "|".join((*self.row_ids(), str(self.inputs.shape)))
        return hashlib.blake2b(text.encode() + _hash_head(self), digest_size=8).hexdigest()

    @cached_property
    def digest(self) -> bytes:
        """A key for the bits of the call in this process, much cheaper than its row ids."""
        shapes = (self.inputs.shape, self.target.shape)
        head = (self.operation, self.dtype, self.options, shapes, self.by_target, self.layout)
        h = hashlib.blake2b(repr(head).encode(), digest_size=16)
        h.update(self.inputs.tobytes())
        h.update(self.target.tobytes())
        for more in (getattr(self, name) for name in BY_ROW[2:]):
            h.update(b"none" if more is None else more.tobytes())
        return h.digest()


def _canonical(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Little-endian contiguous copy with one bit pattern for every NaN."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.nan, array).astype("<f8")
    else:
        array = array.astype("<i8")
    return np.ascontiguousarray(array)


def _hash_head(case: Case) -> bytes:
    options = {name: getattr(case.options, name) for name in (*case.options.passed(), "reduction")}
    asked = [
        name
        for name in (*BY_ROW[2:], "by_target", "layout")
        # An array is asked for however its elements compare.
        if isinstance(getattr(case, name), np.ndarray) or getattr(case, name)
    ]
    head = [case.operation, case.dtype, options, *([asked] if asked else [])]
    return json.dumps(head, sort_keys=True).encode()


INPUTS_CHANGED = "the op changed its inputs in place"


@dataclass(frozen=True)
class Outcome:
    """What a subject did with a case.

    Attributes:
        status: "returned", "raised", "crashed", "timed out", "wrong shape" or "unsupported".
        loss: float64 array holding the returned values: (N,) for reduction "none", else (). Where
            the status is "wrong shape", loss and gradients have the shapes that came, if known.
        gradient: (N, K) gradient of the sum of the loss, weighted by the cotangent of the case,
            with respect to the inputs.
        target_gradient: the same with respect to the target, where the case asks for it and the
            op has one.
        loss_dtype: name of the dtype in which the loss came back.
        message: the exception, or what the worker left on stderr when it died.
        warnings: texts of the warnings raised by the call; INPUTS_CHANGED is one of them where
            the inputs or the target were not, afterwards, what they had been.
    """

    status: str
    loss: Optional[Floats] = None
    gradient: Optional[Floats] = None
    target_gradient: Optional[Floats] = None
    loss_dtype: str = ""
    message: str = ""
    warnings: Tuple[str, ...] = ()  # noqa: UP006

    @property
    def returned(self) -> bool:
        return self.status == "returned"
