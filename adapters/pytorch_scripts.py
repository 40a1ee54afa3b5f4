"""The scripts that reproduce a call of PyTorch's, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ..reference.vocabulary import Case
from .snippets import arguments, cut, input_name, nested, target_name, vector
from .subject import SECOND, Subject
from .torch_bits import layout_text

Text = Callable[[str, str, int, str], str]
"""(z, y, axis, ", reduction='none'") -> the call of an op as an expression."""


def script(subject: Subject, case: Case, text: Text) -> str:
    """The script of a case; `text` writes the call of the op."""
    x, y = input_name(subject), target_name(case)
    call = text(x, y, case.options.axis, arguments(_options(case)))
    lines = [
        "import torch",
        "import torch.nn.functional as F",
        "",
        *([] if subject.device == "cpu" else [f"torch.set_default_device({subject.device!r})"]),
        *_arrays(subject, case, x, y),
        *_WAYS.get(subject.mode, _by_autograd)(subject, case, call),
        "print(loss.tolist())",
        f"print(gradient{_BACK[case.options.axis]}.tolist())",
    ]
    if case.by_target:
        lines.append(f"print(target_gradient{_BACK[case.options.axis]}.tolist())")
    return "\n".join(lines) + "\n"


# How a script gives the op its axis, and prints a gradient as rows again.
_SHAPED = {-1: "", 1: ".T[None].contiguous()"}
_BACK = {-1: "", 1: "[0].T"}


def _arrays(subject: Subject, case: Case, x: str, y: str) -> list[str]:
    axis = case.options.axis
    taped = subject.mode not in ("vmap", "forward")
    lines = [_tensor_text(x, case.inputs, case.dtype, axis, taped, case.layout)]
    if case.target_kind == "index":
        layered = "[None]" if axis == 1 else ""
        lines.append(f"{y} = torch.tensor({nested(case.target)}){cut(case.target)}{layered}")
    else:
        taped = taped and case.by_target
        lines.append(_tensor_text(y, case.target, case.dtype, axis, taped))
    if case.sample_weight is not None:
        # Of the shape of the target.
        weights = case.sample_weight.reshape(case.target.shape)
        lines.append(_tensor_text("w", weights, case.dtype, -1, taped=False))
    return lines


def _tensor_text(
    name: str, values: NDArray[Any], dtype: str, axis: int, taped: bool, layout: str = ""
) -> str:
    if axis == -1 and len(values) and not layout:
        grad = ", requires_grad=True" if taped else ""
        return f"{name} = torch.tensor({nested(values)}, dtype=torch.{dtype}{grad})"
    grad = ".requires_grad_()" if taped else ""
    made = f"torch.tensor({nested(values)}, dtype=torch.{dtype}){cut(values)}"
    if layout:
        made += layout_text(layout, *values.shape)
    return f"{name} = {made}{_SHAPED[axis]}{grad}"


def _cotangent_text(case: Case) -> str:
    assert case.cotangent is not None
    return f"torch.tensor({vector(case.cotangent.tolist())}, dtype=torch.{case.dtype})"


def _by_autograd(subject: Subject, case: Case, call: str) -> list[str]:
    x, y = input_name(subject), target_name(case)
    pulled = "loss.sum(), "
    given = ""
    if case.cotangent is not None:
        pulled, given = "loss, ", f", {_cotangent_text(case)}.to(loss.dtype).reshape(loss.shape)"
    wanted, names = (f"[{x}, {y}]", "gradient, target_gradient")
    if not case.by_target:
        wanted, names = x, "(gradient,)"
    arrays = f"{x}, {y}" if case.sample_weight is None else f"{x}, {y}, w"
    lines = {
        "eager": [f"loss = {call}"],
        SECOND: [f"loss = {call}"],
        "autocast": [
            'with torch.autocast("cpu", dtype=torch.bfloat16):',
            f"    loss = {call}",
        ],
        "compile": [
            "",
            "",
            "@torch.compile",
            f"def loss_of({arrays}):",
            f"    return {call}",
            "",
            "",
            f"loss = loss_of({arrays})",
        ],
    }[subject.mode]
    if case.direction is None:
        return [*lines, f"{names} = torch.autograd.grad({pulled}{wanted}{given})"]
    along = f"torch.tensor({nested(case.direction)}, dtype=torch.{case.dtype})"
    along += cut(case.direction)
    return [
        *lines,
        f"{names} = torch.autograd.grad({pulled}{wanted}{given}, create_graph=True)",
        f"{names} = torch.autograd.grad(gradient, {x}, {along})  # the Hessian times a vector",
    ]


def _by_vmap(subject: Subject, case: Case, call: str) -> list[str]:
    x, y = input_name(subject), target_name(case)
    wanted = f"{x}, {y}" if case.by_target else x
    arrays = f"{x}, {y}, c" if case.sample_weight is None else f"{x}, {y}, c, w"
    c = f"torch.ones(len({x}), dtype={x}.dtype)"
    names = "loss, gradient, target_gradient" if case.by_target else "loss, gradient"
    return [
        f"c = {c if case.cotangent is None else _cotangent_text(case)}",
        "",
        "",
        f"def loss_and_gradient({arrays}):",
        f"    loss, pull = torch.func.vjp(lambda {wanted}: {call}.reshape(()), {wanted})",
        "    return loss, *pull(c)",
        "",
        "",
        f"{names} = torch.func.vmap(loss_and_gradient)({arrays})",
    ]


def _by_jvp(subject: Subject, case: Case, call: str) -> list[str]:
    x, y = input_name(subject), target_name(case)
    scale = "1" if case.cotangent is None else _cotangent_text(case)
    pairs = [(x, "gradient"), (y, "target_gradient")][: 1 + case.by_target]
    lines: list[str] = []
    for array, name in pairs:
        lines += [
            f"{name} = torch.empty_like({array})",
            f"for k in range({array}.shape[1]):",
            f"    tangent = torch.zeros_like({array})",
            f"    tangent[:, k] = {scale}",
            f"    loss, column = torch.func.jvp(lambda {array}: {call}, ({array},), (tangent,))",
            f"    {name}[:, k] = column.reshape(-1)",
        ]
    return lines


_WAYS = {"vmap": _by_vmap, "forward": _by_jvp}


def _options(case: Case) -> dict[str, str]:
    options, dtype = case.options, f"dtype=torch.{case.dtype}"
    pieces: dict[str, str] = {}
    if options.weight is not None:
        pieces["weight"] = f"torch.tensor({vector(options.weight)}, {dtype})"
    if case.sample_weight is not None:
        pieces["weight"] = "w"
    if options.pos_weight is not None:
        pieces["pos_weight"] = f"torch.tensor({vector([options.pos_weight])}, {dtype})"
    if options.ignore_index is not None:
        pieces["ignore_index"] = repr(options.ignore_index)
    if options.label_smoothing:
        pieces["label_smoothing"] = repr(options.label_smoothing)
    if options.reduction != "default":
        pieces["reduction"] = repr(options.reduction)
    return pieces
