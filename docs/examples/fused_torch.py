"""A fused cross-entropy for torch, as Triton kernels write it: python docs/examples/fused_torch.py

One pass over blocks of the classes keeps a running maximum and a rescaled sum (online softmax), and
the gradient is computed in the forward pass and only scaled in the backward, so that the logits
need not be kept. `Forgets` leaves that scaling out: nothing changes while every cotangent is 1,
and a loss that is scaled, masked or weighted trains on a wrong gradient.
"""

from typing import Any

import torch

import lossaudit

BLOCK = 2  # classes at a time; a kernel takes thousands, and three would then be one block


class Fused(torch.autograd.Function):
    """The losses of the rows, with their gradient made on the way."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor, eps: float, ignored: int):
        rows, classes = logits.shape
        z = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        top = z.new_full((rows,), -torch.inf)
        total, spread = z.new_zeros(rows), z.new_zeros(rows)
        for start in range(0, classes, BLOCK):
            block = z[:, start : start + BLOCK]
            new = torch.maximum(top, block.amax(1))
            # Where all was -inf so far nothing was summed yet, and -inf - -inf would be NaN.
            empty = new == -torch.inf
            kept = torch.where(empty, 0.0, (top - new).exp())
            terms = torch.where(empty[:, None], 0.0, (block - new[:, None]).exp())
            total = total * kept + terms.sum(1)
            spread = spread + block.sum(1)
            top = new
        valid = target != ignored
        label = torch.where(valid, target, 0)[:, None]
        log_total = total.log()
        loss = (1 - eps) * ((top - z.gather(1, label)[:, 0]) + log_total)
        if eps:
            loss = loss + eps * ((top - spread / classes) + log_total)
        loss = torch.where(valid, loss, 0.0)
        gradient = (z - top[:, None]).exp() / total[:, None] - eps / classes
        gradient.scatter_add_(1, label, torch.full_like(gradient[:, :1], eps - 1))
        ctx.save_for_backward(torch.where(valid[:, None], gradient, 0.0).to(logits.dtype))
        return loss.to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * cotangents[0][:, None], None, None, None


class Forgets(Fused):
    """The backward pass of a kernel that was only ever tried with `loss.sum().backward()`."""

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor):
        del cotangents
        return ctx.saved_tensors[0], None, None, None


def fused_cross_entropy(
    logits, target, *, label_smoothing=0.0, ignore_index=-100, reduction="mean", kernel=Fused
):
    loss = kernel.apply(logits, target, label_smoothing, ignore_index)
    if reduction == "none":
        return loss
    return loss.sum() / (target != ignore_index).sum() if reduction == "mean" else loss.sum()


def forgets_its_cotangent(logits, target):
    return fused_cross_entropy(logits, target, reduction="none", kernel=Forgets)


if __name__ == "__main__":
    print(
        lossaudit.check(
            fused_cross_entropy,
            operation="cross_entropy",
            framework="torch",
            smoothing="eps/K",
            mean="valid",
        )
    )
    try:
        lossaudit.check(
            forgets_its_cotangent,
            operation="cross_entropy",
            framework="torch",
            dtypes=["float32"],
        )
    except AssertionError as error:
        print(error)
