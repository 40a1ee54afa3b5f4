"""Mistakes in PyTorch's autograd: functions with a backward of their own, and `torch.where`."""

from __future__ import annotations

from typing import Any

from ...adapters.functions import FunctionsRuntime
from .libraries import IGNORED, Loss, loaded, wrong_in


def load() -> FunctionsRuntime:
    """What the worker serves."""
    return loaded("torch")


def _applied(torch: Any, forward: Any, backward: Any) -> Any:
    """`apply` of an autograd.Function."""
    steps = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Loss", (torch.autograd.Function,), steps).apply


def _row_losses(torch: Any, z: Any, labels: Any) -> Any:
    """-log softmax(z) at the labels; one outside of the classes raises."""
    return -torch.log_softmax(z, 1).gather(1, labels[:, None])[:, 0]


def _slopes(torch: Any, z: Any, labels: Any) -> Any:
    """softmax(z) less one at the labels."""
    hot = torch.nn.functional.one_hot(labels, z.shape[1])
    return torch.softmax(z, 1) - hot.to(z.dtype)


@wrong_in("torch", "Liger-Kernel and others that make the gradient in the forward pass")
def cotangent_not_multiplied(torch: Any, mistaken: bool) -> Loss:
    """The backward returns the gradient that the forward saved, whatever comes in."""

    def forward(ctx: Any, z: Any, labels: Any) -> Any:
        ctx.save_for_backward(_slopes(torch, z, labels))
        return _row_losses(torch, z, labels)

    def backward(ctx: Any, cotangent: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return slopes if mistaken else slopes * cotangent[:, None], None

    apply = _applied(torch, forward, backward)

    def loss(z: Any, labels: Any) -> Any:
        return apply(z, labels)

    return loss


def _masked(torch: Any, slopes_kept: Any) -> Loss:
    """Row losses with ignored rows; `slopes_kept` is what the forward saves of the slopes."""

    def forward(ctx: Any, z: Any, labels: Any, ignore_index: int) -> Any:
        valid = labels != ignore_index
        safe = torch.where(valid, labels, 0)
        ctx.save_for_backward(slopes_kept(_slopes(torch, z, safe), valid[:, None]))
        return torch.where(valid, _row_losses(torch, z, safe), 0.0)

    def backward(ctx: Any, cotangent: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return slopes * cotangent[:, None], None, None

    apply = _applied(torch, forward, backward)

    def loss(z: Any, labels: Any, ignore_index: int = IGNORED) -> Any:
        return apply(z, labels, ignore_index)

    return loss


@wrong_in("torch", "a backward kernel without the mask of the forward one", ignore_index=IGNORED)
def gradient_saved_before_the_mask(torch: Any, mistaken: bool) -> Loss:
    """The gradient is saved before ignored rows are masked: theirs is that of label 0."""

    def kept(slopes: Any, valid: Any) -> Any:
        return slopes if mistaken else torch.where(valid, slopes, 0.0)

    return _masked(torch, kept)


@wrong_in("torch", "masks that multiply: NaN times 0", ignore_index=IGNORED)
def mask_multiplies_the_gradient(torch: Any, mistaken: bool) -> Loss:
    """The saved gradient is multiplied by the mask: NaN in an ignored row stays."""

    def kept(slopes: Any, valid: Any) -> Any:
        return slopes * valid if mistaken else torch.where(valid, slopes, 0.0)

    return _masked(torch, kept)


@wrong_in(
    "torch",
    "a forward that divides by the rows that count, a backward by the batch",
    ignore_index=IGNORED,
    mean="valid",
    all_ignored="nan",
)
def mean_backward_over_all_rows(torch: Any, mistaken: bool) -> Loss:
    """The backward of the mean divides by all rows, ignored ones too."""

    def forward(ctx: Any, z: Any, labels: Any, ignore_index: int) -> Any:
        valid = labels != ignore_index
        safe = torch.where(valid, labels, 0)
        slopes = torch.where(valid[:, None], _slopes(torch, z, safe), 0.0)
        count = valid.sum()
        ctx.save_for_backward(slopes / (len(labels) if mistaken else count))
        return torch.where(valid, _row_losses(torch, z, safe), 0.0).sum() / count

    def backward(ctx: Any, cotangent: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return slopes * cotangent, None, None

    mean = _applied(torch, forward, backward)
    rows = _masked(torch, lambda slopes, valid: torch.where(valid, slopes, 0.0))

    def loss(z: Any, labels: Any, ignore_index: int = IGNORED, reduction: str = "mean") -> Any:
        if reduction == "mean":
            return mean(z, labels, ignore_index)
        each = rows(z, labels, ignore_index)
        return each.sum() if reduction == "sum" else each

    return loss


@wrong_in("torch", "kernels that keep log sum exp for their backward", mode="second")
def logsumexp_kept_for_the_backward(torch: Any, mistaken: bool) -> Loss:
    """The backward takes log sum exp from the forward: differentiated again, it is a constant."""

    def forward(ctx: Any, z: Any, labels: Any) -> Any:
        ctx.save_for_backward(z, labels, torch.logsumexp(z, 1, keepdim=True))
        return _row_losses(torch, z, labels)

    def backward(ctx: Any, cotangent: Any) -> Any:
        z, labels, kept = ctx.saved_tensors
        whole = kept if mistaken else torch.logsumexp(z, 1, keepdim=True)
        hot = torch.nn.functional.one_hot(labels, z.shape[1])
        return (torch.exp(z - whole) - hot.to(z.dtype)) * cotangent[:, None], None

    apply = _applied(torch, forward, backward)

    def loss(z: Any, labels: Any) -> Any:
        return apply(z, labels)

    return loss


@wrong_in("torch", "Liger writes the gradient into the logits, and says so; here nothing is said")
def gradient_written_into_the_logits(torch: Any, mistaken: bool) -> Loss:
    """The forward keeps its gradient in the buffer of the caller's logits."""

    def forward(ctx: Any, z: Any, labels: Any) -> Any:
        losses, slopes = _row_losses(torch, z, labels), _slopes(torch, z, labels)
        ctx.save_for_backward(z.copy_(slopes) if mistaken else slopes)
        return losses

    def backward(ctx: Any, cotangent: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return slopes * cotangent[:, None], None

    apply = _applied(torch, forward, backward)

    def loss(z: Any, labels: Any) -> Any:
        return apply(z, labels)

    return loss


@wrong_in(
    "torch",
    "torch.where(condition, f(x), g(x)): pytorch/pytorch#4132",
    operation="binary_cross_entropy_with_logits",
)
def where_differentiates_the_dead_branch(torch: Any, mistaken: bool) -> Loss:
    """softplus by the sign of z: the branch not taken overflows, and 0 times infinity is NaN."""

    def softplus(z: Any) -> Any:
        down, up = (-z, z) if mistaken else (-z.abs(), -z.abs())
        return torch.where(z > 0, z + torch.log1p(down.exp()), torch.log1p(up.exp()))

    def loss(z: Any, y: Any) -> Any:
        return (1 - y) * softplus(z) + y * softplus(-z)

    return loss


@wrong_in(
    "torch",
    "F.cross_entropy, whose default ignores the label -100, behind a function that names none",
    ignore_index=None,
)
def minus_hundred_ignored_unasked(torch: Any, mistaken: bool) -> Loss:
    """The label -100 is ignored, where none is declared to be."""
    rows = _masked(torch, lambda slopes, valid: torch.where(valid, slopes, 0.0))

    def loss(z: Any, labels: Any, ignore_index: int | None = None) -> Any:
        if ignore_index is not None:
            return rows(z, labels, ignore_index)
        if mistaken:
            return torch.nn.functional.cross_entropy(z, labels, reduction="none")
        return _row_losses(torch, z, labels)

    return loss
