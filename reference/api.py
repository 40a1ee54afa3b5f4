"""The reference for users: correctly rounded losses and gradients of NumPy arrays.

Inputs are taken as the exact numbers that they are. Every result is computed exactly enough to be
rounded once, to the format `dtype`: an unreduced value is the correctly rounded one, certified; a
sum or mean of rows is rounded from a sum with relative error below 2**-90 that does not depend on
the order of the rows. Undefined results are NaN, and `kind` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import rows, tempered, tiers
from .binary_rows import binary_losses
from .exact import Exact, multiplied, round_exact, scale
from .formats import FORMATS, decode
from .softmax_rows import cross_entropy_losses, usable_logits
from .truth import Truth, demand_labels, join
from .vocabulary import Case, Floats, Options, Semantics

Array = NDArray[Any]

_MEANS = ("weights", "valid", "rows")
_REDUCTIONS = ("none", "sum", "mean")


@dataclass(frozen=True, eq=False)
class _Call:
    """A call flattened to rows: the truths, the case they are of, and the shapes to go back to."""

    truth: Truth
    case: Case
    semantics: Semantics
    shape: tuple[int, ...]
    axis: int

    def loss(self, dtype: str) -> Array:
        loss, _ = rows.reduce_truth(self.truth, self.case, self.semantics)
        reduced = self.case.options.reduction != "none"
        return rounded(loss if reduced else loss.reshape(*self.shape), dtype)

    def gradient(self, cotangent: Optional[ArrayLike], dtype: str) -> Array:
        _, gradient = rows.reduce_truth(self.truth, self.case, self.semantics)
        if cotangent is not None:
            factor = np.asarray(cotangent, dtype=np.float64)
            if self.case.options.reduction == "none":
                factor = np.broadcast_to(factor, self.shape).reshape(-1, 1)
            gradient = scale(gradient, factor)
        values = round_exact(gradient, FORMATS[dtype])
        classes = self.case.inputs.shape[1]
        if self.axis is _NO_AXIS:
            return _cast(values.reshape(self.shape), dtype)
        return _cast(np.moveaxis(values.reshape(*self.shape, classes), -1, self.axis), dtype)


_NO_AXIS = 1 << 30


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    temperature: float = 1.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
    logits_dtype: Optional[str] = None,
) -> Array:
    """-sum_j a_j log softmax(z / temperature)_j + z_loss (log sum_j exp(z_j / temperature))**2.

    Args:
        logits: any shape with the classes along `axis`; float64, float32, float16 or bfloat16.
        target: class indices, of the shape of the logits without `axis`; or distributions, of the
            shape of the logits (not necessarily normalised).
        weight: (K,) one non-negative factor per class: a_j = w_j q_j.
        ignore_index: rows with this label are 0, whatever they hold.
        label_smoothing: the share eps of the target that is spread over the classes.
        smoothing: "eps/K" spreads it over all classes, "eps/(K-1)" over the others; the smoothing
            term of a class carries its weight, as in torch.
        temperature: divides the logits. Exact, but slow unless it is a power of two.
        z_loss: factor of the squared logsumexp of a row, without class weight. Slow unless 0.
        reduction: "none", "sum" or "mean".
        mean: what the mean divides by: "weights", the sum of w[y] over the rows that are not
            ignored; "valid", their number; "rows", the number of rows. For distributions there is
            no w[y], and "weights" means the number of rows, as in torch.
        axis: of the classes.
        dtype: format of the result.
        logits_dtype: "bfloat16" where the logits are given as uint16 bits.

    Returns:
        A scalar, or for "none" an array of the shape of the logits without `axis`.

    Raises:
        ValueError: names the argument, the position and the value that is wrong.
    """
    options = _options(weight, None, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean)
    plain = reduction == "none" and temperature == 1.0 and z_loss == 0.0 and not options.passed()
    if plain and _format(dtype) != "float64" and np.ndim(target) == np.ndim(logits) - 1:
        return _fast_cross_entropy(logits, target, semantics, axis, dtype, logits_dtype)
    if plain:
        flat, shape = _flat("logits", logits, axis, logits_dtype)
        losses = cross_entropy_losses(flat, _target(target, flat, shape, axis), semantics, options)
        return rounded(losses.reshape(*shape), _format(dtype))
    call = _cross_entropy(
        logits, target, options, semantics, temperature, z_loss, axis, logits_dtype
    )
    return call.loss(_format(dtype))


def _fast_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    semantics: Semantics,
    axis: int,
    dtype: str,
    logits_dtype: Optional[str],
) -> Array:
    """Unreduced losses of class indices in a format narrower than float64, by both tiers."""
    flat, shape = _flat("logits", logits, axis, logits_dtype)
    labels = _target(target, flat, shape, axis)
    demand_labels(labels, flat.shape[1], np.zeros(labels.shape, dtype=np.bool_))

    def exactly(places: NDArray[np.intp]) -> Exact:
        return rows.cross_entropy_truth(flat[places], labels[places], semantics, Options()).loss

    values = tiers.cross_entropy_loss(flat, labels, FORMATS[dtype], exactly)
    return _cast(values.reshape(shape), dtype)


def cross_entropy_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    temperature: float = 1.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
    logits_dtype: Optional[str] = None,
) -> Array:
    """The gradient of `cross_entropy`, whose arguments it takes, with respect to the logits.

    `cotangent` is a factor of the reduced loss, or for "none" of each row (1 where None).
    """
    options = _options(weight, None, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean)
    call = _cross_entropy(
        logits, target, options, semantics, temperature, z_loss, axis, logits_dtype
    )
    return call.gradient(cotangent, _format(dtype))


def _cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    options: Options,
    semantics: Semantics,
    temperature: float,
    z_loss: float,
    axis: int,
    logits_dtype: Optional[str],
) -> _Call:
    flat, shape = _flat("logits", logits, axis, logits_dtype)
    labels = _target(target, flat, shape, axis)
    case = Case("cross_entropy", "float64", flat, labels, options)
    if temperature == 1.0 and z_loss == 0.0:
        truth = rows.truth(case, semantics)
    else:
        _positive("temperature", temperature)
        truth = tempered.truth(case, semantics, Fraction(temperature), Fraction(z_loss))
    return _Call(truth, case, semantics, shape, axis)


def cross_entropy_probabilities(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    renormalise: str = "no",
    weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """-sum_j a_j log p_j from probabilities, under a guard; the rest is as in `cross_entropy`.

    `guard` is None, "clip" into [RN(eps), RN(1 - eps)], the two numbers rounded in `guard_dtype`
    with eps = `guard_eps`, or "clamp log" at -100. `renormalise` divides by sum p "before" the
    guard or "after" it.
    """
    options = _options(weight, None, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean, guard, guard_eps, renormalise)
    call = _probabilities(probabilities, target, options, semantics, guard_dtype, axis)
    return call.loss(_format(dtype))


def cross_entropy_probabilities_grad(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    renormalise: str = "no",
    weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `cross_entropy_probabilities` with respect to the probabilities."""
    options = _options(weight, None, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean, guard, guard_eps, renormalise)
    call = _probabilities(probabilities, target, options, semantics, guard_dtype, axis)
    return call.gradient(cotangent, _format(dtype))


def _probabilities(
    probabilities: ArrayLike,
    target: ArrayLike,
    options: Options,
    semantics: Semantics,
    guard_dtype: str,
    axis: int,
) -> _Call:
    flat, shape = _flat("probabilities", probabilities, axis, None)
    labels = _target(target, flat, shape, axis)
    case = Case("cross_entropy_probabilities", _format(guard_dtype), flat, labels, options)
    return _Call(rows.truth(case, semantics), case, semantics, shape, axis)


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    dtype: str = "float64",
) -> Array:
    """-(p y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))) w, element by element.

    Args:
        logits: any shape.
        target: the same shape; usually in [0, 1], but any number has a value.
        weight: w, broadcast to the logits; the mean still divides by the number of elements.
        pos_weight: p, broadcast to the logits.
        label_smoothing: y becomes y (1 - eps) + eps/2.
        reduction: "none", "sum" or "mean" over all elements.
        dtype: format of the result.
    """
    options = _options(None, None, None, label_smoothing, reduction)
    plain = reduction == "none" and weight is None and pos_weight is None and not label_smoothing
    if plain and np.shape(logits) == np.shape(target):
        return _fast_binary(logits, target, _format(dtype))
    call = _binary(
        "binary_cross_entropy_with_logits", logits, target, options, _binary_semantics(),
        weight, pos_weight, "float64",
    )  # fmt: skip
    return call.loss(_format(dtype))


def _fast_binary(logits: ArrayLike, target: ArrayLike, dtype: str) -> Array:
    """Unreduced binary losses without options: float64, or a narrower format by both tiers."""
    values, labels = _floats("logits", logits), _floats("target", target)
    _no_nan("target", labels)
    z, y = values.reshape(-1), labels.reshape(-1)
    if dtype == "float64":
        return rounded(binary_losses(z, y, _binary_semantics()).reshape(*values.shape), dtype)

    def exactly(places: NDArray[np.intp]) -> Exact:
        return binary_losses(z[places], y[places], _binary_semantics())

    found = tiers.binary_loss(z, y, FORMATS[dtype], exactly)
    return _cast(found.reshape(values.shape), dtype)


def binary_cross_entropy_with_logits_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy_with_logits` with respect to the logits."""
    options = _options(None, None, None, label_smoothing, reduction)
    call = _binary(
        "binary_cross_entropy_with_logits", logits, target, options, _binary_semantics(),
        weight, pos_weight, "float64",
    )  # fmt: skip
    return call.gradient(cotangent, _format(dtype))


def binary_cross_entropy(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    dtype: str = "float64",
) -> Array:
    """-(y log p + (1 - y) log(1 - p)) w, element by element, under a guard.

    Args:
        probabilities: any shape, in [0, 1].
        target: the same shape.
        guard: None, "clip" or "clamp log"; see `cross_entropy_probabilities`.
        guard_eps: the eps of "clip".
        guard_dtype: format in which the numbers of the guard are rounded.
        weight: w, broadcast to the probabilities.
        label_smoothing: y becomes y (1 - eps) + eps/2.
        reduction: "none", "sum" or "mean" over all elements.
        dtype: format of the result.
    """
    options = _options(None, None, None, label_smoothing, reduction)
    semantics = _binary_semantics(guard, guard_eps)
    call = _binary(
        "binary_cross_entropy", probabilities, target, options, semantics, weight, None,
        _format(guard_dtype),
    )  # fmt: skip
    return call.loss(_format(dtype))


def binary_cross_entropy_grad(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy` with respect to the probabilities."""
    options = _options(None, None, None, label_smoothing, reduction)
    semantics = _binary_semantics(guard, guard_eps)
    call = _binary(
        "binary_cross_entropy", probabilities, target, options, semantics, weight, None,
        _format(guard_dtype),
    )  # fmt: skip
    return call.gradient(cotangent, _format(dtype))


def _binary(
    operation: str,
    inputs: ArrayLike,
    target: ArrayLike,
    options: Options,
    semantics: Semantics,
    weight: Optional[ArrayLike],
    pos_weight: Optional[ArrayLike],
    guard_dtype: str,
) -> _Call:
    values, labels = _floats("logits", inputs), _floats("target", target)
    if values.shape != labels.shape:
        raise ValueError(f"target has shape {labels.shape}, but the inputs have {values.shape}")
    _no_nan("target", labels)
    case = Case(operation, guard_dtype, values.reshape(-1, 1), labels.reshape(-1, 1), options)
    truth = _with_pos_weight(case, semantics, pos_weight, values.shape)
    if weight is not None:
        factor = np.broadcast_to(_floats("weight", weight), values.shape).reshape(-1)
        _not_negative("weight", factor)
        loss = multiplied(truth.loss, Exact.from_float(factor))
        gradient = multiplied(truth.gradient, Exact.from_float(factor.reshape(-1, 1)))
        truth = Truth(loss, gradient, truth.undefined, truth.reason)
    return _Call(truth, case, semantics, values.shape, _NO_AXIS)


def _with_pos_weight(
    case: Case, semantics: Semantics, pos_weight: Optional[ArrayLike], shape: tuple[int, ...]
) -> Truth:
    """The truths, computed once for every different pos_weight."""
    if pos_weight is None:
        return rows.truth(case, semantics)
    factors = np.broadcast_to(_floats("pos_weight", pos_weight), shape).reshape(-1)
    _not_negative("pos_weight", factors)
    parts, places = [], []
    for factor in np.unique(factors):
        chosen = np.flatnonzero(factors == factor)
        options = Options(
            pos_weight=float(factor),
            label_smoothing=case.options.label_smoothing,
            reduction=case.options.reduction,
        )
        part = Case(case.operation, case.dtype, case.inputs[chosen], case.target[chosen], options)
        parts.append(rows.truth(part, semantics))
        places.append(chosen)
    if not parts:
        return rows.truth(case, semantics)
    return join(parts).take(np.argsort(np.concatenate(places), kind="stable"))


def log_softmax(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """log softmax(z) along an axis; one +inf logit is taken as the limit."""
    return _along(logits, axis, dtype, rows.log_softmax)


def softmax(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """exp(z_j) / sum_i exp(z_i) along an axis; one +inf logit is taken as the limit."""
    return _along(logits, axis, dtype, rows.softmax)


def logsumexp(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """log sum_j exp(z_j) along an axis."""
    flat, shape = _flat("logits", logits, axis, None)
    return rounded(rows.logsumexp(flat).reshape(*shape), _format(dtype))


def sigmoid(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """1 / (1 + exp(-z))."""
    return rounded(rows.sigmoid(_floats("z", z)), _format(dtype))


def log_sigmoid(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """log(1 / (1 + exp(-z)))."""
    return rounded(rows.log_sigmoid(_floats("z", z)), _format(dtype))


def softplus(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """log(1 + exp(z))."""
    return rounded(rows.softplus(_floats("z", z)), _format(dtype))


def kind(logits: ArrayLike, *, axis: int = -1) -> Array:
    """Why a row has no softmax: "NaN among the logits", the reason why it is undefined, or ""."""
    flat, shape = _flat("logits", logits, axis, None)
    _, nan, reason = usable_logits(flat, Semantics(plus_inf="limit"))
    return np.where(nan, "NaN among the logits", reason).reshape(shape)


def rounded(exact: Exact, dtype: str) -> Array:
    """Exact numbers as an array of the format: bfloat16 of ml_dtypes where that is installed."""
    return _cast(round_exact(exact, FORMATS[dtype]), dtype)


def _cast(values: Floats, dtype: str) -> Array:
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        return np.asarray(values).astype(np.float32)
    return np.asarray(values).astype(ml_dtypes.bfloat16)


def _along(logits: ArrayLike, axis: int, dtype: str, function: Any) -> Array:
    flat, shape = _flat("logits", logits, axis, None)
    values = round_exact(function(flat), FORMATS[_format(dtype)])
    return _cast(np.moveaxis(values.reshape(*shape, flat.shape[1]), -1, axis), dtype)


def _flat(
    name: str, values: ArrayLike, axis: int, bits: Optional[str]
) -> tuple[Floats, tuple[int, ...]]:
    """(N, K) rows, and the shape without the axis of the classes."""
    array = _floats(name, values, bits)
    if array.ndim == 0:
        raise ValueError(f"{name} must have an axis of classes, but is a scalar")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis {axis} is not one of the {array.ndim} axes of {name}")
    moved = np.moveaxis(array, axis, -1)
    classes = moved.shape[-1]
    if classes == 0:
        raise ValueError(f"{name} has no classes along axis {axis}")
    return np.ascontiguousarray(moved.reshape(-1, classes)), moved.shape[:-1]


def _target(target: ArrayLike, flat: Floats, shape: tuple[int, ...], axis: int) -> Array:
    array = np.asarray(target)
    if array.dtype.kind in "iu" and array.shape == shape:
        return array.reshape(-1).astype(np.int64)
    if array.dtype.kind in "iub":
        raise ValueError(f"target has shape {array.shape}, class indices need {shape}")
    given = _floats("target", array)
    moved = np.moveaxis(given, axis, -1) if given.ndim > 0 else given
    if moved.shape != (*shape, flat.shape[1]):
        raise ValueError(f"target has shape {array.shape}, which is not that of the inputs")
    _no_nan("target", given)
    return moved.reshape(flat.shape)


def _floats(name: str, values: ArrayLike, bits: Optional[str] = None) -> Floats:
    array = np.asarray(values)
    if bits is not None and array.dtype.kind == "u":
        return decode(array, bits)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as numbers: dtype {array.dtype}") from error


def _options(
    weight: Optional[ArrayLike],
    pos_weight: Optional[float],
    ignore_index: Optional[int],
    label_smoothing: float,
    reduction: str,
) -> Options:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction {reduction!r} is not one of {', '.join(_REDUCTIONS)}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing {label_smoothing!r} is not in [0, 1]")
    factors = None if weight is None else tuple(_floats("weight", weight).tolist())
    return Options(factors, pos_weight, ignore_index, label_smoothing, reduction)


def _semantics(
    smoothing: str,
    mean: str,
    guard: Optional[str] = None,
    guard_eps: float = 0.0,
    renormalise: str = "no",
) -> Semantics:
    if mean not in _MEANS:
        raise ValueError(f"mean {mean!r} is not one of {', '.join(_MEANS)}")
    if renormalise not in ("no", "before", "after"):
        raise ValueError(f"renormalise {renormalise!r} is not one of no, before, after")
    return Semantics(
        smoothing=smoothing,
        mean=mean,
        plus_inf="limit",
        guard=_guard(guard),
        guard_eps=guard_eps,
        guard_floor=-100.0,
        renormalise=renormalise,
    )


def _binary_semantics(guard: Optional[str] = None, guard_eps: float = 0.0) -> Semantics:
    return Semantics(
        smoothing="toward 1/2",
        plus_inf="limit",
        guard=_guard(guard),
        guard_eps=guard_eps,
        guard_floor=-100.0,
    )


def _guard(guard: Optional[str]) -> str:
    if guard not in (None, "clip", "clamp log"):
        raise ValueError(f"guard {guard!r} is not one of None, 'clip', 'clamp log'")
    return guard or "none"


def _format(dtype: str) -> str:
    if dtype not in FORMATS:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(FORMATS)}")
    return dtype


def _positive(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} {value!r} must be positive and finite")


def _not_negative(name: str, values: Floats) -> None:
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(f"{name}[{at}] = {float(values[at])!r} must be finite and not negative")


def _no_nan(name: str, values: Floats) -> None:
    if np.isnan(values).any():
        position = [int(i) for i in np.argwhere(np.isnan(values))[0]]
        raise ValueError(f"{name}{position} is NaN")
