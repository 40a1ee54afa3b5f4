"""A generator of numbers over integers, the same on every platform and in every release.

The fixed corpus must mean the same inputs for ever, so it uses neither a library's random stream
nor libm: SplitMix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA
2014), in counter form, and operations that IEEE 754 rounds correctly.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ..reference.vocabulary import Floats

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

# sqrt(3), to give a sum of four uniforms (variance 4/12) unit variance.
_SQRT_3 = 1.7320508075688772


def _mix(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def mixed(counters: np.ndarray, *seed: object) -> np.ndarray:
    """Uniform uint64, one for each integer: that of a stream of the seed at this place."""
    digest = hashlib.blake2b(repr(seed).encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        steps = (counters.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        return _mix(np.uint64(int.from_bytes(digest, "little")) + steps)


class Stream:
    """Numbers that depend on the seed and on how many were drawn before."""

    def __init__(self, *seed: object) -> None:
        digest = hashlib.blake2b(repr(seed).encode(), digest_size=8).digest()
        self._state = np.uint64(int.from_bytes(digest, "little"))

    def bits(self, *shape: int) -> np.ndarray:
        """Uniform uint64."""
        count = int(np.prod(shape))
        with np.errstate(over="ignore"):
            steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
            z = self._state + steps
            self._state = self._state + np.uint64(count) * _GOLDEN
        return _mix(z).reshape(shape)

    def uniform(self, *shape: int) -> Floats:
        """Uniform on [0, 1), multiples of 2^-53."""
        return (self.bits(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, *shape: int) -> Floats:
        """Sum of four uniforms with mean 0 and variance 1: close to normal, within +-3.47."""
        return (self.uniform(4, *shape).sum(axis=0) - 2.0) * _SQRT_3

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Uniform on low..high-1 (the bias of the modulo is below 2^-40 for ranges below 2^24)."""
        return low + (self.bits(*shape) % np.uint64(high - low)).astype(np.int64)

    def choice(self, values: np.ndarray, *shape: int) -> np.ndarray:
        return np.asarray(values)[self.integers(0, len(values), *shape)]
