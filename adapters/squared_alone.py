"""Gradients of squared error and of cross-entropy, by one framework alone.

python -I <folder>/adapters/squared_alone.py FRAMEWORK DTYPE TASK.npz RESULT.npz

TASK.npz holds logits z (n,) with labels y (n,), probabilities p (n,), and a small network of
sigmoids: x (2, 1), w1 (n, H, 2), b1, w2, b2, w3, b3 (n,), with a copy of the first layer for each
row, so that each has a gradient of its own. RESULT.npz gets the gradients of both losses by z, by p
and by w1. Nothing of lossaudit is loaded.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, NamedTuple  # noqa: UP035

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Task = Dict[str, Array]  # noqa: UP006
Function = Callable[[Any], Any]


class Library(NamedTuple):
    """What of a framework is asked.

    Attributes:
        tensor: an array in the format.
        gradient: (function of a tensor, tensor) -> the gradient of the sum of what it gives.
        squared: (p, y) -> squared errors.
        entropy: (z, y) -> cross-entropies, of logits.
        surprise: (p, y) -> cross-entropies, of probabilities.
    """

    tensor: Callable[[Array], Any]
    sigmoid: Function
    gradient: Callable[[Function, Any], Array]
    squared: Callable[[Any, Any], Any]
    entropy: Callable[[Any, Any], Any]
    surprise: Callable[[Any, Any], Any]


def of_torch(dtype: str) -> Library:
    import torch
    import torch.nn.functional as F  # noqa: N812

    def gradient(function: Function, at: Any) -> Array:
        leaf = at.clone().requires_grad_()
        function(leaf).sum().backward()
        return leaf.grad.double().numpy()

    return Library(
        tensor=lambda array: torch.tensor(array, dtype=getattr(torch, dtype)),
        sigmoid=torch.sigmoid,
        gradient=gradient,
        squared=lambda p, y: F.mse_loss(p, y, reduction="none"),
        entropy=lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none"),
        surprise=lambda p, y: F.binary_cross_entropy(p, y, reduction="none"),
    )


def of_tensorflow(dtype: str) -> Library:
    import tensorflow as tf

    def gradient(function: Function, at: Any) -> Array:
        with tf.GradientTape() as tape:
            tape.watch(at)
            losses = function(at)
        return tf.cast(tape.gradient(losses, at), tf.float64).numpy()

    return Library(
        tensor=lambda array: tf.cast(array, getattr(tf, dtype)),
        sigmoid=tf.sigmoid,
        gradient=gradient,
        squared=tf.math.squared_difference,
        entropy=lambda z, y: tf.nn.sigmoid_cross_entropy_with_logits(y, z),
        surprise=lambda p, y: -(y * tf.math.log(p) + (1 - y) * tf.math.log(1 - p)),
    )


def of_jax(dtype: str) -> Library:
    import jax
    import jax.numpy as jnp
    import optax

    def gradient(function: Function, at: Any) -> Array:
        return np.asarray(jax.grad(lambda leaf: function(leaf).sum())(at)).astype(np.float64)

    return Library(
        tensor=lambda array: jnp.asarray(array, getattr(jnp, dtype)),
        sigmoid=jax.nn.sigmoid,
        gradient=gradient,
        squared=optax.squared_error,
        entropy=optax.sigmoid_binary_cross_entropy,
        surprise=lambda p, y: -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)),
    )


FRAMEWORKS = {"torch": of_torch, "tensorflow": of_tensorflow, "jax": of_jax}


def gradients(library: Library, task: Task) -> Task:
    """Everything that is asked."""
    t = {name: library.tensor(array) for name, array in task.items()}
    y, sigmoid = t["y"], library.sigmoid

    def logits(w1: Any) -> Any:
        first = sigmoid((w1 @ t["x"])[:, :, 0] + t["b1"])
        second = sigmoid(first @ t["w2"] + t["b2"])
        return (second @ t["w3"])[:, 0] + t["b3"]

    asked: Dict[str, tuple[Function, Any]] = {  # noqa: UP006
        "squared by logit": (lambda z: library.squared(sigmoid(z), y), t["z"]),
        "entropy by logit": (lambda z: library.entropy(z, y), t["z"]),
        "squared by probability": (lambda p: library.squared(p, y), t["p"]),
        "entropy by probability": (lambda p: library.surprise(p, y), t["p"]),
        "squared by layer": (lambda w: library.squared(sigmoid(logits(w)), y), t["w1"]),
        "entropy by layer": (lambda w: library.entropy(logits(w), y), t["w1"]),
    }
    return {name: library.gradient(function, at) for name, (function, at) in asked.items()}


def main(framework: str, dtype: str, task_file: str, result_file: str) -> None:
    with np.load(task_file) as file:
        task = {name: file[name] for name in file.files}
    found: Dict[str, Any] = dict(gradients(FRAMEWORKS[framework](dtype), task))  # noqa: UP006
    np.savez(result_file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
