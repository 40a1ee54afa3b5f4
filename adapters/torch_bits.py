"""Raw bits to tensors of torch and back, for its own ops and for functions of a user."""

from __future__ import annotations

from typing import Any

import numpy as np

from .protocol import RawArray
from .runtime import NUMPY_TYPES

LAYOUTS = ("transposed", "strided", "offset")
"""How a tensor of two dimensions may lie in memory beside an array of its own."""


def to_tensor(torch: Any, bits: Any, dtype: str, device: str) -> Any:
    """A tensor of these bits; "int64" for class indices."""
    if dtype == "int64":
        tensor = torch.from_numpy(bits)
    elif dtype == "bfloat16":  # NumPy has no such type: the bits go through int16
        tensor = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(bits.view(NUMPY_TYPES[dtype]))
    return tensor.to(device)


def laid_out(tensor: Any, layout: str) -> Any:
    """The same elements as a view of another array, see `Case.layout`."""
    if layout == "transposed":
        return tensor.T.contiguous().T
    if layout == "strided":
        return tensor.repeat_interleave(2, dim=1)[:, ::2]
    if layout == "offset":
        # Turned by one place and written twice, it begins again at the second element.
        count = tensor.numel()
        return tensor.flatten().roll(1).repeat(2)[1 : count + 1].view(tensor.shape)
    return tensor


def layout_text(layout: str, rows: int, columns: int) -> str:
    """`laid_out` as it is written behind a tensor in a script."""
    return {
        "": "",
        "transposed": ".T.contiguous().T",
        "strided": ".repeat_interleave(2, dim=1)[:, ::2]",
        "offset": f".flatten().roll(1).repeat(2)[1:{rows * columns + 1}].view({rows}, {columns})",
    }[layout]


def to_bits(torch: Any, tensor: Any) -> RawArray:
    """The bits of a tensor, and the name of its dtype."""
    name = str(tensor.dtype).replace("torch.", "")
    tensor = tensor.detach().cpu().contiguous()
    if name == "bfloat16":
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return RawArray(name, array.view(f"u{array.itemsize}"))
