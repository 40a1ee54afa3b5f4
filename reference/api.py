"""The reference for users: correctly rounded losses and gradients of NumPy arrays.

Inputs are taken as the exact numbers that they are. Every result, a sum or mean of rows included,
is the exact number rounded once to the format `dtype`: each is certified, and what double-double
cannot certify is decided by decimals. Undefined results are NaN, and `kind` says why.

Rows are worked on in parts of some megabytes: beside the arguments, which are read where they lie,
only the result grows with the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Optional

import numpy as np
from numpy.typing import ArrayLike

from . import derivatives, rows, tempered, tiers
from .arguments import (
    Array,
    Part,
    Rows,
    cast,
    chunks,
    classes_of,
    demand_labels,
    elements_of,
    format_of,
    per_row,
    result_type,
    same,
    spread,
    target_of,
    within,
)
from .binary_rows import Factors, binary_losses
from .calls import REDUCTIONS, Call, Compute, weight_of_rows
from .exact import Exact, round_exact
from .formats import FORMATS
from .softmax_rows import cross_entropy_losses, usable_logits
from .truth import Factor, Truth, ignored_rows
from .vocabulary import Case, Floats, Options, Semantics

_MEANS = ("weights", "valid", "rows", "sample_weights")
_BINARY_MEANS = ("rows", "sample_weights")
_ONE = Fraction(1)


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
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
        sample_weight: one non-negative factor per row, of its whole loss; broadcast to the shape
            of the logits without `axis`.
        ignore_index: rows with this label are 0, whatever they hold.
        label_smoothing: the share eps of the target that is spread over the classes.
        smoothing: "eps/K" spreads it over all classes, "eps/(K-1)" over the others; the smoothing
            term of a class carries its weight, as in torch.
        temperature: divides the logits. Exact, but slow unless it is a power of two.
        z_loss: factor of the squared logsumexp of a row, without class weight. Slow unless 0.
        reduction: "none", "sum" or "mean".
        mean: what the mean divides by: "weights", the sum of w[y] over the rows that are not
            ignored; "valid", their number; "rows", the number of rows; "sample_weights", the sum
            of the sample weights of the rows that are not ignored (without them, their number).
            For distributions there is no w[y], and "weights" means the number of rows, as in
            torch. Keras' "sum_over_batch_size" is "valid" or "rows", its
            "mean_with_sample_weight" is "sample_weights". A mean that divides by 0 is NaN.
        axis: of the classes.
        dtype: format of the result.
        logits_dtype: "bfloat16" where the logits are given as uint16 bits.

    Returns:
        A scalar, or for "none" an array of the shape of the logits without `axis`. Each number is
        correctly rounded; so are sums and means, which hence do not depend on the order of rows.

    Raises:
        ValueError: names the argument, the position and the value that is wrong.
    """
    dtype = format_of(dtype)
    options = _options(weight, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean)
    call, labels = _cross_entropy(
        logits, target, options, semantics, temperature, z_loss, axis, logits_dtype, sample_weight
    )
    plain = temperature == 1.0 and z_loss == 0.0 and sample_weight is None and not options.passed()
    if plain and labels.axis is None:
        call = replace(call, losses=_short_losses(call.inputs, labels, semantics))
        call = replace(call, narrow=_narrow_losses(call.inputs, labels, semantics))
    return call.loss(dtype)


def _short_losses(logits: Rows, labels: Rows, semantics: Semantics) -> Callable[[slice], Exact]:
    """The losses of class indices without their gradients."""
    return lambda part: cross_entropy_losses(
        logits.read(part), labels.raw(part), semantics, Options()
    )


def _narrow_losses(
    logits: Rows, labels: Rows, semantics: Semantics
) -> Callable[[slice, str], Floats]:
    """The losses of class indices in a format narrower than float64, by both tiers."""

    def narrow(part: slice, dtype: str) -> Floats:
        z, t = logits.read(part), labels.raw(part)

        def exactly(places: Array) -> Exact:
            return cross_entropy_losses(z[places], t[places], semantics, Options())

        return tiers.cross_entropy_loss(z, t, FORMATS[dtype], exactly)

    return narrow


def cross_entropy_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
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

    `cotangent` is a factor of the reduced loss, or for "none" of each row (1 where None). Each
    entry is correctly rounded, with the cotangent and the divisor of the mean in it.
    """
    options = _options(weight, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean)
    call, labels = _cross_entropy(
        logits, target, options, semantics, temperature, z_loss, axis, logits_dtype, sample_weight
    )
    plain = temperature == 1.0 and z_loss == 0.0 and sample_weight is None and not options.passed()
    if plain and labels.axis is None:
        call = replace(call, narrow_gradient=_narrow_gradient(call, labels))
    return call.gradient(cotangent, format_of(dtype))


def _narrow_gradient(call: Call, labels: Rows) -> Callable[[slice, str, Fraction], Floats]:
    """Gradients for class indices in a format narrower than float64, by both tiers."""

    def narrow(part: slice, dtype: str, by: Fraction) -> Floats:
        def exactly(places: Array) -> Exact:
            return call.times(places + part.start, by).gradient

        z, t = call.inputs.read(part), labels.raw(part)
        return tiers.cross_entropy_gradient(z, t, float(by), FORMATS[dtype], exactly)

    return narrow


def cross_entropy_grad_target(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
    logits_dtype: Optional[str] = None,
) -> Array:
    """The gradient of `cross_entropy` with respect to the distributions that are its target.

    It is -w_j (1 - label_smoothing) log p_j for each row, with smoothing "eps/K"; the loss is
    linear in the target, so that the gradient does not depend on it. The arguments are those of
    `cross_entropy_grad`; class indices have no such gradient.
    """
    options = _options(weight, None, label_smoothing, reduction)
    semantics = _semantics("eps/K", mean)
    call, labels = _cross_entropy(
        logits, target, options, semantics, 1.0, 0.0, axis, logits_dtype, sample_weight
    )
    _demand_distributions(labels)

    def compute(part: Part, factor: Optional[Factor]) -> Truth:
        z = call.inputs.read(part)
        return derivatives.cross_entropy_by_target(z, semantics, options, factor)

    return replace(call, compute=compute).gradient(cotangent, format_of(dtype))


def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    vector: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
    logits_dtype: Optional[str] = None,
) -> Array:
    """The Hessian of `cross_entropy` in the logits times a vector of the shape of the logits.

    For each row A p_j (v_j - sum_i p_i v_i), A the sum of the coefficients a_j; the Hessian of
    the sum or mean (for "none", of the sum) consists of these blocks. See `derivatives` for the
    form that does not cancel. The other arguments are those of `cross_entropy`.
    """
    options = _options(weight, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean)
    call, labels = _cross_entropy(
        logits, target, options, semantics, 1.0, 0.0, axis, logits_dtype, sample_weight
    )
    direction = same("vector", vector, call.inputs, "finite")

    def compute(part: Part, factor: Optional[Factor]) -> Truth:
        inputs = call.inputs.read(part), _labels(labels, part), direction.read(part)
        return derivatives.cross_entropy_hessian_product(*inputs, semantics, options, factor)

    return replace(call, compute=compute).gradient(None, format_of(dtype))


def _cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    options: Options,
    semantics: Semantics,
    temperature: float,
    z_loss: float,
    axis: int,
    logits_dtype: Optional[str],
    sample_weight: Optional[ArrayLike],
) -> tuple[Call, Rows]:
    inputs = classes_of("logits", logits, axis, logits_dtype)
    heated = temperature != 1.0 or z_loss != 0.0
    if heated:
        _positive("temperature", temperature)

    def compute(part: Part, factor: Optional[Factor]) -> Truth:
        z, labels = inputs.read(part), _labels(targets, part)
        if not heated:
            return rows.cross_entropy_truth(z, labels, semantics, options, factor)
        case = Case("cross_entropy", "float64", z, labels, options)
        return tempered.truth(case, semantics, Fraction(temperature), Fraction(z_loss), factor)

    targets = _targets(target, inputs, options)
    return _of_classes(inputs, targets, options, semantics, sample_weight, compute), targets


def _targets(target: ArrayLike, inputs: Rows, options: Options) -> Rows:
    found = target_of(target, inputs)
    if found.axis is None:
        demand_labels(found, inputs.classes, options.ignore_index)
    return found


def _demand_distributions(target: Rows) -> None:
    if target.axis is None:
        raise ValueError("target holds class indices; a gradient is there for distributions")


def _labels(target: Rows, part: Part) -> Array:
    return target.raw(part).astype(np.int64) if target.axis is None else target.read(part)


def _of_classes(
    inputs: Rows,
    target: Rows,
    options: Options,
    semantics: Semantics,
    sample_weight: Optional[ArrayLike],
    compute: Compute,
) -> Call:
    sample = per_row("sample_weight", sample_weight, inputs, signed=False)

    def divisor() -> Fraction:
        if semantics.mean == "rows":
            return Fraction(inputs.count)
        if semantics.mean == "weights" and target.axis is None and options.weight is not None:
            return _weight_of_labels(target, options)
        weights = sample if semantics.mean == "sample_weights" else None
        return weight_of_rows(weights, inputs, lambda part: ~_ignored(target, part, options))

    return Call(inputs, compute, divisor, options.reduction, sample)


def _ignored(target: Rows, part: slice, options: Options) -> Array:
    if target.axis is None:
        return ignored_rows(target.raw(part), options.ignore_index)
    return np.zeros(part.stop - part.start, dtype=np.bool_)


def _weight_of_labels(target: Rows, options: Options) -> Fraction:
    """sum of w[y] over the rows that are not ignored."""
    weight = options.weight or ()
    found = np.zeros(len(weight), dtype=np.int64)
    for part in chunks(target.count, 1):
        labels = target.raw(part)[~_ignored(target, part, options)].astype(np.int64)
        found += np.bincount(labels, minlength=len(weight))
    return sum((int(n) * Fraction(w) for n, w in zip(found, weight)), Fraction(0))


def cross_entropy_probabilities(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    renormalise: str = "no",
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
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
    options = _options(weight, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean, guard, guard_eps, renormalise)
    call = _probabilities(
        probabilities, target, options, semantics, guard_dtype, axis, sample_weight
    )
    return call.loss(format_of(dtype))


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
    sample_weight: Optional[ArrayLike] = None,
    ignore_index: Optional[int] = None,
    label_smoothing: float = 0.0,
    smoothing: str = "eps/K",
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `cross_entropy_probabilities` with respect to the probabilities."""
    options = _options(weight, ignore_index, label_smoothing, reduction)
    semantics = _semantics(smoothing, mean, guard, guard_eps, renormalise)
    call = _probabilities(
        probabilities, target, options, semantics, guard_dtype, axis, sample_weight
    )
    return call.gradient(cotangent, format_of(dtype))


def cross_entropy_probabilities_grad_target(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    renormalise: str = "no",
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    mean: str = "weights",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `cross_entropy_probabilities` with respect to the distributions.

    It is -w_j (1 - label_smoothing) log p_j for each row, with smoothing "eps/K" and with the guard
    on p_j or its logarithm; class indices have no such gradient.
    """
    options = _options(weight, None, label_smoothing, reduction)
    semantics = _semantics("eps/K", mean, guard, guard_eps, renormalise)
    call = _probabilities(
        probabilities, target, options, semantics, guard_dtype, axis, sample_weight, by_target=True
    )
    return call.gradient(cotangent, format_of(dtype))


def _probabilities(
    probabilities: ArrayLike,
    target: ArrayLike,
    options: Options,
    semantics: Semantics,
    guard_dtype: str,
    axis: int,
    sample_weight: Optional[ArrayLike],
    *,
    by_target: bool = False,
) -> Call:
    inputs = classes_of("probabilities", probabilities, axis)
    targets, fmt = _targets(target, inputs, options), format_of(guard_dtype)
    if by_target:
        _demand_distributions(targets)

    def compute(part: Part, factor: Optional[Factor]) -> Truth:
        p = inputs.read(part)
        if by_target:
            return rows.cross_entropy_probabilities_by_target(p, semantics, options, fmt, factor)
        labels = _labels(targets, part)
        return rows.cross_entropy_probabilities_truth(p, labels, semantics, options, fmt, factor)

    return _of_classes(inputs, targets, options, semantics, sample_weight, compute)


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """-(p y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))) w, element by element or over classes.

    Args:
        logits: any shape.
        target: the same shape; usually in [0, 1], but any number has a value.
        weight: w, broadcast to the logits; no mean divides by it.
        pos_weight: p, broadcast to the logits.
        sample_weight: one more factor of each row, broadcast to the shape of the rows.
        label_smoothing: y becomes y (1 - eps) + eps/2.
        classes: None: every element is a row. Multi-label: "sum" or "mean" over the classes
            along `axis` makes one row of them.
        reduction: "none", "sum" or "mean" over all rows.
        mean: what the mean divides by: "rows", their number, or "sample_weights", the sum of the
            sample weights (without them, the number of rows).
        axis: of the classes; read only where there are such.
        dtype: format of the result.

    Returns:
        A scalar, or for "none" an array of the shape of the rows.

    Raises:
        ValueError: names the argument, the position and the value that is wrong.
    """
    options = _options(None, None, label_smoothing, reduction)
    call, labels = _binary(
        _Binary("logits", options, _binary_semantics(), pos_weight),
        logits, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    given = weight is None and pos_weight is None and sample_weight is None and classes is None
    if given and not label_smoothing:
        if reduction == "none" or within(labels, 0.0, 1.0):
            call = replace(call, losses=_short_binary(call.inputs, labels))
        call = replace(call, narrow=_narrow_binary(call.inputs, labels))
    return call.loss(format_of(dtype))


def _short_binary(logits: Rows, labels: Rows) -> Callable[[slice], Exact]:
    """Binary losses without options and without their gradients."""
    return lambda part: binary_losses(logits.read(part), labels.read(part), _binary_semantics())


def _narrow_binary(logits: Rows, labels: Rows) -> Callable[[slice, str], Floats]:
    """The same in a format narrower than float64, by both tiers."""

    def narrow(part: slice, dtype: str) -> Floats:
        z, y = logits.read(part), labels.read(part)

        def exactly(places: Array) -> Exact:
            return binary_losses(z[places], y[places], _binary_semantics())

        return tiers.binary_loss(z, y, FORMATS[dtype], exactly)

    return narrow


def binary_cross_entropy_with_logits_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy_with_logits` with respect to the logits.

    `cotangent` is a factor of the reduced loss, or for "none" of each row (1 where None).
    """
    options = _options(None, None, label_smoothing, reduction)
    call, labels = _binary(
        _Binary("logits", options, _binary_semantics(), pos_weight),
        logits, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    given = weight is None and pos_weight is None and sample_weight is None and classes is None
    if given and not label_smoothing:
        call = replace(call, narrow_gradient=_narrow_binary_gradient(call, labels))
    return call.gradient(cotangent, format_of(dtype))


def _narrow_binary_gradient(call: Call, labels: Rows) -> Callable[[slice, str, Fraction], Floats]:
    """Binary gradients without options in a format narrower than float64, by both tiers."""

    def narrow(part: slice, dtype: str, by: Fraction) -> Floats:
        def exactly(places: Array) -> Exact:
            return call.times(places + part.start, by).gradient.reshape(-1)

        z, y = call.inputs.read(part), labels.read(part)
        return tiers.binary_gradient(z, y, float(by), FORMATS[dtype], exactly)

    return narrow


def binary_cross_entropy_with_logits_grad_target(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy_with_logits` with respect to the target.

    It is (1 - label_smoothing) w (softplus(z) - z) p - (1 - label_smoothing) w softplus(z), which
    is -z without options; the arguments are those of the gradient in the logits.
    """
    options = _options(None, None, label_smoothing, reduction)
    call, _ = _binary(
        _Binary("logits", options, _binary_semantics(), pos_weight, by_target=True),
        logits, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    return call.gradient(cotangent, format_of(dtype))


def binary_cross_entropy_with_logits_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    vector: ArrayLike,
    *,
    weight: Optional[ArrayLike] = None,
    pos_weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The Hessian of `binary_cross_entropy_with_logits` in the logits times a vector.

    The Hessian is diagonal: w (p y + 1 - y) sigmoid(z) (1 - sigmoid(z)). `vector` has the shape of
    the logits; the other arguments are those of `binary_cross_entropy_with_logits`.
    """
    options = _options(None, None, label_smoothing, reduction)
    call, _ = _binary(
        _Binary("logits", options, _binary_semantics(), pos_weight, vector=vector),
        logits, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    return call.gradient(None, format_of(dtype))


def binary_cross_entropy(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """-(y log p + (1 - y) log(1 - p)) w, element by element or over classes, under a guard.

    Args:
        probabilities: any shape, in [0, 1].
        target: the same shape.
        guard: None, "clip" or "clamp log"; see `cross_entropy_probabilities`.
        guard_eps: the eps of "clip".
        guard_dtype: format in which the numbers of the guard are rounded.
        weight: w, broadcast to the probabilities.
        sample_weight: as in `binary_cross_entropy_with_logits`; so are the rest.
        label_smoothing: y becomes y (1 - eps) + eps/2.
        classes: None, or "sum" or "mean" over the classes of a row.
        reduction: "none", "sum" or "mean" over all rows.
        mean: "rows" or "sample_weights".
        axis: of the classes.
        dtype: format of the result.
    """
    options = _options(None, None, label_smoothing, reduction)
    semantics = _binary_semantics(guard, guard_eps)
    call, _ = _binary(
        _Binary("probabilities", options, semantics, guard_dtype=format_of(guard_dtype)),
        probabilities, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    return call.loss(format_of(dtype))


def binary_cross_entropy_grad(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy` with respect to the probabilities."""
    options = _options(None, None, label_smoothing, reduction)
    semantics = _binary_semantics(guard, guard_eps)
    call, _ = _binary(
        _Binary("probabilities", options, semantics, guard_dtype=format_of(guard_dtype)),
        probabilities, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    return call.gradient(cotangent, format_of(dtype))


def binary_cross_entropy_grad_target(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    cotangent: Optional[ArrayLike] = None,
    guard: Optional[str] = None,
    guard_eps: float = 1e-7,
    guard_dtype: str = "float64",
    weight: Optional[ArrayLike] = None,
    sample_weight: Optional[ArrayLike] = None,
    label_smoothing: float = 0.0,
    classes: Optional[str] = None,
    reduction: str = "mean",
    mean: str = "rows",
    axis: int = -1,
    dtype: str = "float64",
) -> Array:
    """The gradient of `binary_cross_entropy` with respect to the target.

    It is (1 - label_smoothing) w (log(1 - p) - log p), with the guard on p or on both logarithms.
    """
    options = _options(None, None, label_smoothing, reduction)
    semantics, fmt = _binary_semantics(guard, guard_eps), format_of(guard_dtype)
    call, _ = _binary(
        _Binary("probabilities", options, semantics, guard_dtype=fmt, by_target=True),
        probabilities, target, weight, sample_weight, classes, mean, axis,
    )  # fmt: skip
    return call.gradient(cotangent, format_of(dtype))


@dataclass(frozen=True, eq=False)
class _Binary:
    """Which function of binary rows is asked for.

    Attributes:
        inputs: "logits" or "probabilities".
        options: of the call.
        semantics: of the call.
        pos_weight: as given.
        guard_dtype: format of the numbers of a guard.
        by_target: whether the gradient is that in the target.
        vector: where the gradient is a product with the Hessian: as given.
    """

    inputs: str
    options: Options
    semantics: Semantics
    pos_weight: Optional[ArrayLike] = None
    guard_dtype: str = "float64"
    by_target: bool = False
    vector: Optional[ArrayLike] = None


def _binary(
    what: _Binary,
    inputs: ArrayLike,
    target: ArrayLike,
    weight: Optional[ArrayLike],
    sample_weight: Optional[ArrayLike],
    classes: Optional[str],
    mean: str,
    axis: int,
) -> tuple[Call, Rows]:
    if classes not in (None, "sum", "mean"):
        raise ValueError(f"classes {classes!r} is not one of None, 'sum', 'mean'")
    if mean not in _BINARY_MEANS:
        raise ValueError(f"mean {mean!r} is not one of {', '.join(_BINARY_MEANS)}")
    grouped = classes is not None
    values = classes_of(what.inputs, inputs, axis) if grouped else elements_of(what.inputs, inputs)
    labels = same("target", target, values)
    positive = spread("pos_weight", what.pos_weight, values)
    vector = None if what.vector is None else same("vector", what.vector, values, "finite")
    sample = per_row("sample_weight", sample_weight, values, signed=False)

    def compute(part: Part, factor: Optional[Factor]) -> Truth:
        x, y = values.read(part).reshape(-1, 1), labels.read(part).reshape(-1, 1)
        emphasis = None if positive is None else positive.read(part).reshape(-1)
        conventions = what.semantics, what.options
        factors = Factors(factor, emphasis, what.by_target)
        if vector is not None:
            v = vector.read(part).reshape(-1, 1)
            return derivatives.binary_hessian_product(x, y, v, *conventions, factors)
        if what.inputs == "logits":
            truth = rows.binary_cross_entropy_with_logits_truth(x, y, *conventions, factors)
        else:
            truth = rows.binary_cross_entropy_truth(x, y, *conventions, what.guard_dtype, factors)
        # With the coefficients of that derivative the loss is the derivative.
        return replace(truth, gradient=truth.loss.reshape(-1, 1)) if what.by_target else truth

    def divisor() -> Fraction:
        if mean == "rows":
            return Fraction(values.count)
        return weight_of_rows(sample, values, _every)

    share = Fraction(1, values.classes) if classes == "mean" else _ONE
    call = Call(
        values, compute, divisor, what.options.reduction, sample,
        spread("weight", weight, values), share, grouped,
    )  # fmt: skip
    return call, labels


def _every(part: slice) -> Array:
    return np.ones(part.stop - part.start, dtype=np.bool_)


def log_softmax(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """log softmax(z) along an axis; one +inf logit is taken as the limit."""
    return _along(logits, axis, dtype, rows.log_softmax)


def softmax(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """exp(z_j) / sum_i exp(z_i) along an axis; one +inf logit is taken as the limit."""
    return _along(logits, axis, dtype, rows.softmax)


def logsumexp(logits: ArrayLike, *, axis: int = -1, dtype: str = "float64") -> Array:
    """log sum_j exp(z_j) along an axis."""
    inputs = classes_of("logits", logits, axis)
    return by_parts(inputs, dtype, lambda part: rows.logsumexp(inputs.read(part)))


def sigmoid(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """1 / (1 + exp(-z))."""
    return _each(z, dtype, rows.sigmoid)


def log_sigmoid(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """log(1 / (1 + exp(-z)))."""
    return _each(z, dtype, rows.log_sigmoid)


def softplus(z: ArrayLike, *, dtype: str = "float64") -> Array:
    """log(1 + exp(z))."""
    return _each(z, dtype, rows.softplus)


def kind(logits: ArrayLike, *, axis: int = -1) -> Array:
    """Why a row has no softmax: "NaN among the logits", the reason why it is undefined, or ""."""
    inputs, found = classes_of("logits", logits, axis), [np.zeros(0, dtype="U1")]
    for part in chunks(inputs.count, inputs.classes):
        _, nan, reason = usable_logits(inputs.read(part), Semantics(plus_inf="limit"))
        found.append(np.where(nan, "NaN among the logits", reason))
    return np.concatenate(found).reshape(inputs.shape)


def rounded(exact: Exact, dtype: str) -> Array:
    """Exact numbers as an array of the format: bfloat16 of ml_dtypes where that is installed."""
    return cast(round_exact(exact, FORMATS[dtype]), dtype)


def by_parts(inputs: Rows, dtype: str, function: Callable[[slice], Exact], *inner: int) -> Array:
    """A function of rows, rounded, part by part: (n, *inner) numbers for n rows."""
    result = np.empty((inputs.count, *inner), dtype=result_type(format_of(dtype)))
    for part in chunks(inputs.count, inputs.classes):
        result[part] = rounded(function(part), dtype)
    return result.reshape((*inputs.shape, *inner))[()]


def _along(logits: ArrayLike, axis: int, dtype: str, function: Callable[[Floats], Exact]) -> Array:
    inputs = classes_of("logits", logits, axis)
    values = by_parts(inputs, dtype, lambda part: function(inputs.read(part)), inputs.classes)
    return np.moveaxis(values, -1, axis)


def _each(z: ArrayLike, dtype: str, function: Callable[[Floats], Exact]) -> Array:
    inputs = elements_of("z", z)
    return by_parts(inputs, dtype, lambda part: function(inputs.read(part)))


def _options(
    weight: Optional[ArrayLike],
    ignore_index: Optional[int],
    label_smoothing: float,
    reduction: str,
) -> Options:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction {reduction!r} is not one of {', '.join(REDUCTIONS)}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing {label_smoothing!r} is not in [0, 1]")
    factors = None
    if weight is not None:
        try:
            factors = tuple(np.asarray(weight).astype(np.float64).reshape(-1).tolist())
        except (TypeError, ValueError) as error:
            raise ValueError("weight cannot be read as numbers") from error
    return Options(
        weight=factors,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


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


def _positive(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} {value!r} must be positive and finite")
