"""Checks an installation against frozen values that Arb made: no Arb is needed to run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from . import _vectors
from .formats import FORMATS

_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Verification:
    """The values compared, and what differed: call, format, the value here and the frozen one."""

    compared: int
    different: tuple[str, ...]


def verify() -> Verification:
    """Computes every frozen vector again; every bit must be the same."""
    compared, different = 0, []
    for line in _vectors.VECTORS:
        vector = json.loads(line)
        for dtype, frozen in zip(FORMATS, vector["out"]):
            got = _call(vector, dtype).reshape(-1)
            want = np.array([float.fromhex(value) for value in frozen])
            compared += want.size
            wrong = got != want
            if wrong.any():
                here, there = float(got[wrong][0]).hex(), float(want[wrong][0]).hex()
                different.append(f"{line} {dtype}: {here} here, {there} frozen")
    return Verification(compared, tuple(different))


def _call(vector: dict[str, Any], dtype: str) -> Any:
    given = [vector[key] for key in ("x", "target") if key in vector] + vector.get("more", [])
    function, options = getattr(import_module(_PACKAGE), vector["f"]), vector.get("options", {})
    found = function(*map(_numbers, given), **options, dtype=dtype)
    return np.asarray(found).astype(np.float64)


def _numbers(values: Any) -> Any:
    """Hexadecimal floats, nested in lists, as arrays; integers stay what they are."""
    flat = np.array(values)
    if flat.dtype.kind in "iu":
        return flat
    numbers = [float.fromhex(value) for value in flat.reshape(-1).tolist()]
    return np.array(numbers).reshape(flat.shape)
