"""Raw bits to tensors of torch and back, for its own ops and for functions of a user."""

from __future__ import annotations

from typing import Any

import numpy as np

from .protocol import RawArray
from .runtime import NUMPY_TYPES


def to_tensor(torch: Any, bits: Any, dtype: str, device: str) -> Any:
    """A tensor of these bits; "int64" for class indices."""
    if dtype == "int64":
        tensor = torch.from_numpy(bits)
    elif dtype == "bfloat16":  # NumPy has no such type: the bits go through int16
        tensor = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(bits.view(NUMPY_TYPES[dtype]))
    return tensor.to(device)


def to_bits(torch: Any, tensor: Any) -> RawArray:
    """The bits of a tensor, and the name of its dtype."""
    name = str(tensor.dtype).replace("torch.", "")
    tensor = tensor.detach().cpu().contiguous()
    if name == "bfloat16":
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return RawArray(name, array.view(f"u{array.itemsize}"))
