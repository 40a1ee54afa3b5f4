"""PyTorch's cross-entropies as users call them, each beside the text of that call in a script.

Every function takes (torch, z, y, axis, **keywords): the inputs in the shape that `axis` says, the
target, and the keywords that the op itself takes. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .runtime import Unsupported

COLUMNS = 4
"""Labels of a row of a multi-label batch: N rows are given as (N/4, 4) where 4 divides N."""


# ---------------------------------------------------------------------- logits of K classes


def cross_entropy(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    return torch.nn.functional.cross_entropy(z, y, **keywords)


def cross_entropy_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"F.cross_entropy({z}, {y}{keywords})"


def cross_entropy_class(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    return torch.nn.CrossEntropyLoss(**keywords)(z, y)


def cross_entropy_class_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"torch.nn.CrossEntropyLoss({keywords[2:]})({z}, {y})"


def nll_loss(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    functional = torch.nn.functional
    return functional.nll_loss(functional.log_softmax(z, dim=1), y, **keywords)


def nll_loss_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"F.nll_loss(F.log_softmax({z}, dim=1), {y}{keywords})"


def cross_entropy_of_softmax(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    """What a model whose last layer is a softmax does with the loss for logits."""
    return cross_entropy(torch, torch.nn.functional.softmax(z, dim=1), y, axis, **keywords)


def cross_entropy_of_softmax_text(z: str, y: str, axis: int, keywords: str) -> str:
    return cross_entropy_text(f"F.softmax({z}, dim=1)", y, axis, keywords)


def _picked(array: Any, y: Any, axis: int) -> Any:
    """The entry of each row's class."""
    return array.gather(axis, y.unsqueeze(axis)).squeeze(axis)


def _picked_text(array: str, y: str, axis: int) -> str:
    return f"{array}.gather({axis}, {y}.unsqueeze({axis})).squeeze({axis})"


def log_softmax(torch: Any, z: Any, y: Any, axis: int) -> Any:
    return -_picked(torch.nn.functional.log_softmax(z, dim=axis), y, axis)


def log_softmax_text(z: str, y: str, axis: int, keywords: str) -> str:
    del keywords
    return "-" + _picked_text(f"F.log_softmax({z}, dim={axis})", y, axis)


def logsumexp(torch: Any, z: Any, y: Any, axis: int) -> Any:
    return torch.logsumexp(z, dim=axis) - _picked(z, y, axis)


def logsumexp_text(z: str, y: str, axis: int, keywords: str) -> str:
    del keywords
    return f"torch.logsumexp({z}, dim={axis}) - {_picked_text(z, y, axis)}"


def log_of_softmax(torch: Any, z: Any, y: Any, axis: int) -> Any:
    return -torch.log(_picked(torch.nn.functional.softmax(z, dim=axis), y, axis))


def log_of_softmax_text(z: str, y: str, axis: int, keywords: str) -> str:
    del keywords
    return f"-torch.log({_picked_text(f'F.softmax({z}, dim={axis})', y, axis)})"


def softmax_value(torch: Any, z: Any, y: Any, axis: int) -> Any:
    return _picked(torch.nn.functional.softmax(z, dim=axis), y, axis)


def softmax_value_text(z: str, y: str, axis: int, keywords: str) -> str:
    del keywords
    return _picked_text(f"F.softmax({z}, dim={axis})", y, axis)


def logsumexp_value(torch: Any, z: Any, y: Any, axis: int) -> Any:
    del y
    return torch.logsumexp(z, dim=axis)


def logsumexp_value_text(z: str, y: str, axis: int, keywords: str) -> str:
    del y, keywords
    return f"torch.logsumexp({z}, dim={axis})"


# ---------------------------------------------------------------------- divergences


def kl_div(torch: Any, x: Any, q: Any, axis: int, **keywords: Any) -> Any:
    """Its own "mean" divides by the number of elements: that of the rows is "batchmean"."""
    del axis
    if keywords.get("reduction") == "mean":
        keywords["reduction"] = "batchmean"
    loss = torch.nn.functional.kl_div(x, q, **keywords)
    return loss.sum(dim=-1) if loss.ndim else loss


def kl_div_text(x: str, q: str, axis: int, keywords: str) -> str:
    del axis
    call = f"F.kl_div({x}, {q}{keywords.replace(repr('mean'), repr('batchmean'))})"
    return f"{call}.sum(dim=-1)" if repr("none") in keywords else call


def kl_div_log_target(torch: Any, x: Any, q: Any, axis: int, **keywords: Any) -> Any:
    """People have a distribution, and pass its logarithm."""
    return kl_div(torch, x, torch.log(q), axis, log_target=True, **keywords)


def kl_div_log_target_text(x: str, q: str, axis: int, keywords: str) -> str:
    return kl_div_text(x, f"torch.log({q})", axis, f"{keywords}, log_target=True")


# ---------------------------------------------------------------------- fused with a linear layer


def linear_cross_entropy(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    function = _linear(torch, "linear_cross_entropy", torch.nn.functional, z)
    return function(z, _identity(torch, z), y, **keywords)


def linear_cross_entropy_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"F.linear_cross_entropy({z}, {_identity_text(z)}, {y}{keywords})"


def linear_cross_entropy_chunked(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    options = _linear(torch, "LinearCrossEntropyOptions", torch.nn, z)()
    return linear_cross_entropy(torch, z, y, axis, options=options, **keywords)


def linear_cross_entropy_chunked_text(z: str, y: str, axis: int, keywords: str) -> str:
    options = ", options=torch.nn.LinearCrossEntropyOptions()"
    return linear_cross_entropy_text(z, y, axis, keywords + options)


def linear_cross_entropy_class(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    make = _linear(torch, "LinearCrossEntropyLoss", torch.nn, z)
    classes = z.shape[-1]
    layer = make(classes, classes, dtype=z.dtype, device=z.device, **keywords)
    with torch.no_grad():
        layer.linear.weight.copy_(_identity(torch, z))
    return layer(z, y)


def linear_cross_entropy_class_text(z: str, y: str, axis: int, keywords: str) -> str:
    """An expression: `register_parametrization` and `copy_` would take statements."""
    del axis
    classes = f"*{z}.shape[-1:] * 2"
    layer = f"torch.nn.LinearCrossEntropyLoss({classes}, dtype={z}.dtype{keywords})"
    return (
        f"torch.func.functional_call({layer}, {{'linear.weight': {_identity_text(z)}}}, ({z}, {y}))"
    )


MOST_CLASSES = 2**13
"""The weight of a linear layer has so many rows and columns: 256 MiB in float32."""


def _linear(torch: Any, name: str, module: Any, z: Any) -> Any:
    """A name of the fused op; the reason where this torch has none or the logits cannot be made.

    The weight of the layer is the identity, so that the logits are the inputs: each is one product
    by 1 and a sum of zeros, exact unless a logit is infinite or NaN, since 0 * inf is NaN.
    """
    if not hasattr(module, name):
        raise Unsupported(f"torch {torch.__version__} has no {name}")
    if z.shape[-1] > MOST_CLASSES:
        raise Unsupported(f"{name} is given logits through an identity, which is too large here")
    if not bool(torch.isfinite(z).all()):
        raise Unsupported(f"{name} is given logits through an identity, and 0 * inf is NaN")
    return getattr(module, name)


def _identity(torch: Any, z: Any) -> Any:
    return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)


def _identity_text(z: str) -> str:
    return f"torch.eye({z}.shape[-1], dtype={z}.dtype)"


# ---------------------------------------------------------------------- binary


def binary_with_logits(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    return torch.nn.functional.binary_cross_entropy_with_logits(z, y, **keywords)


def binary_with_logits_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"F.binary_cross_entropy_with_logits({z}, {y}{keywords})"


def binary(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    del axis
    return torch.nn.functional.binary_cross_entropy(z, y, **keywords)


def binary_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    return f"F.binary_cross_entropy({z}, {y}{keywords})"


def binary_of_sigmoid(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    return binary(torch, torch.sigmoid(z), y, axis, **keywords)


def binary_of_sigmoid_text(z: str, y: str, axis: int, keywords: str) -> str:
    return binary_text(f"torch.sigmoid({z})", y, axis, keywords)


def logsigmoid(torch: Any, z: Any, y: Any, axis: int) -> Any:
    del axis
    function = torch.nn.functional.logsigmoid
    return -(y * function(z) + (1 - y) * function(-z))


def logsigmoid_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis, keywords
    return f"-({y} * F.logsigmoid({z}) + (1 - {y}) * F.logsigmoid(-{z}))"


def function(
    call: Callable[[Any, Any], Any], text: str
) -> tuple[Callable[..., Any], Callable[[str, str, int, str], str]]:
    """A function of one logit as an op is called, and how a script writes it."""

    def loss(torch: Any, z: Any, y: Any, axis: int) -> Any:
        del y, axis
        return call(torch, z)

    def written(z: str, y: str, axis: int, keywords: str) -> str:
        del y, axis, keywords
        return text.format(z=z)

    return loss, written


SIGMOID = function(lambda torch, z: torch.sigmoid(z), "torch.sigmoid({z})")
LOG_SIGMOID = function(lambda torch, z: torch.nn.functional.logsigmoid(z), "F.logsigmoid({z})")
SOFTPLUS = function(lambda torch, z: torch.nn.functional.softplus(z), "F.softplus({z})")


def _wide(array: Any) -> Any:
    """(N, 1) as (N/4, 4), a batch with four labels a row; as it is where 4 does not divide N."""
    return array.reshape(-1, COLUMNS) if len(array) % COLUMNS == 0 else array


def _wide_text(name: str) -> str:
    return f"{name}.reshape(-1, {COLUMNS} if len({name}) % {COLUMNS} == 0 else 1)"


def multilabel_with_logits(torch: Any, z: Any, y: Any, axis: int, **keywords: Any) -> Any:
    if "weight" in keywords:
        keywords = {**keywords, "weight": _wide(keywords["weight"])}
    loss = binary_with_logits(torch, _wide(z), _wide(y), axis, **keywords)
    return loss.reshape(z.shape) if loss.ndim else loss


def multilabel_with_logits_text(z: str, y: str, axis: int, keywords: str) -> str:
    keywords = keywords.replace("weight=w", f"weight={_wide_text('w')}")
    return binary_with_logits_text(_wide_text(z), _wide_text(y), axis, keywords)


def soft_margin(torch: Any, z: Any, y: Any, axis: int, reduction: str = "mean") -> Any:
    """Unreduced, the op gives the mean over the labels of a row: one label then."""
    del axis
    if reduction != "none":
        z, y = _wide(z), _wide(y)
    return torch.nn.functional.multilabel_soft_margin_loss(z, y, reduction=reduction)


def soft_margin_text(z: str, y: str, axis: int, keywords: str) -> str:
    del axis
    if "'none'" not in keywords:
        z, y = _wide_text(z), _wide_text(y)
    return f"F.multilabel_soft_margin_loss({z}, {y}{keywords})"
