"""Trains a small model with one framework alone, as its users write it.

python -I <folder>/adapters/train_alone.py FRAMEWORK DTYPE TASK.npz RESULT.npz

TASK.npz holds what `lossaudit train` draws: x (N, F), y (N,), order (epochs, N), start (K, F + 1),
rate, eps, and the names of the recipes. RESULT.npz gets the version and, for each recipe, the
parameters before the first step and after each, the loss of each step as the framework returns it,
and the seconds. Loss, gradient and update are the framework's own: nothing of lossaudit is loaded.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, Tuple  # noqa: UP035

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Task = Dict[str, Array]  # noqa: UP006
Path = Tuple[Array, Array]  # noqa: UP006
"""Parameters (steps + 1, K, F + 1) and losses (steps,)."""


def train_torch(task: Task, dtype: str) -> Callable[[str], Path]:
    """A linear layer and an optimizer."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    kind, eps = getattr(torch, dtype), float(task["eps"])
    x = torch.tensor(task["x"], dtype=kind)
    y = torch.tensor(task["y"])
    classes, features = task["start"].shape[0], task["start"].shape[1] - 1
    label = F.one_hot(y, classes).to(kind)
    losses: Dict[str, Callable[[Any, Any], Any]] = {  # noqa: UP006
        "right": lambda z, i: F.cross_entropy(z, y[i]),
        "log-softmax-first": lambda z, i: F.cross_entropy(F.log_softmax(z, dim=1), y[i]),
        "double-softmax": lambda z, i: F.cross_entropy(F.softmax(z, dim=1), y[i]),
        "smoothed": lambda z, i: F.cross_entropy(z, y[i], label_smoothing=eps),
        "smoothed-twice": lambda z, i: F.cross_entropy(
            z, label[i] * (1 - eps) + eps / classes, label_smoothing=eps
        ),
        "swapped": lambda z, i: F.cross_entropy(label[i], F.softmax(z, dim=1)),
        "sigmoids": lambda z, i: F.binary_cross_entropy_with_logits(z, label[i]),
        "wrong-axis": lambda z, i: F.nll_loss(F.log_softmax(z, dim=0), y[i]),
    }

    def train(recipe: str) -> Path:
        model = torch.nn.Linear(features, classes, dtype=kind)
        with torch.no_grad():
            model.weight.copy_(torch.tensor(task["start"][:, :-1]))
            model.bias.copy_(torch.tensor(task["start"][:, -1]))
        optimizer = torch.optim.SGD(model.parameters(), lr=float(task["rate"]))
        weights, biases = [model.weight.detach().clone()], [model.bias.detach().clone()]
        seen = []
        for place in task["order"].ravel().tolist():
            one = slice(place, place + 1)
            optimizer.zero_grad()
            loss = losses[recipe](model(x[one]), one)
            loss.backward()
            optimizer.step()
            seen.append(loss.detach())
            weights.append(model.weight.detach().clone())
            biases.append(model.bias.detach().clone())
        return _path(
            torch.stack(weights).double().numpy(),
            torch.stack(biases).double().numpy(),
            torch.stack(seen).double().numpy(),
        )

    return train


def train_tensorflow(task: Task, dtype: str) -> Callable[[str], Path]:
    """Variables, a tape, and a graph for each epoch."""
    import tensorflow as tf

    kind, eps, rate = getattr(tf, dtype), float(task["eps"]), float(task["rate"])
    x, y = tf.cast(task["x"], kind), tf.constant(task["y"])
    classes = task["start"].shape[0]
    label = tf.one_hot(y, classes, dtype=kind)
    smooth = label * (1 - eps) + eps / classes
    sparse, dense = (
        tf.nn.sparse_softmax_cross_entropy_with_logits,
        tf.nn.softmax_cross_entropy_with_logits,
    )
    losses: Dict[str, Callable[[Any, Any], Any]] = {  # noqa: UP006
        "right": lambda z, i: sparse(tf.gather(y, i), z),
        "log-softmax-first": lambda z, i: sparse(tf.gather(y, i), tf.nn.log_softmax(z)),
        "double-softmax": lambda z, i: sparse(tf.gather(y, i), tf.nn.softmax(z)),
        "smoothed": lambda z, i: dense(tf.gather(smooth, i), z),
        "smoothed-twice": lambda z, i: dense(tf.gather(smooth, i) * (1 - eps) + eps / classes, z),
        "swapped": lambda z, i: dense(tf.nn.softmax(z), tf.gather(label, i)),
        "sigmoids": lambda z, i: tf.nn.sigmoid_cross_entropy_with_logits(tf.gather(label, i), z),
        "wrong-axis": lambda z, i: (
            -tf.gather(tf.nn.log_softmax(z, axis=0), tf.gather(y, i), axis=1, batch_dims=1)
        ),
    }

    def train(recipe: str) -> Path:
        w = tf.Variable(tf.cast(task["start"][:, :-1].T, kind))
        b = tf.Variable(tf.cast(task["start"][:, -1], kind))

        def step(place: Any) -> Any:
            one = tf.reshape(place, [1])
            with tf.GradientTape() as tape:
                z = tf.gather(x, one) @ w + b
                loss = tf.reduce_mean(losses[recipe](z, one))
            slopes: Any = tape.gradient(loss, [w, b])
            by_w, by_b = slopes
            w.assign_sub(rate * by_w)
            b.assign_sub(rate * by_b)
            return tf.transpose(w), tf.identity(b), loss

        kinds = (kind, kind, kind)
        epoch = tf.function(lambda places: tf.map_fn(step, places, kinds, parallel_iterations=1))
        parts = [[task["start"][None, :, :-1], task["start"][None, :, -1], np.zeros(0)]]
        for places in task["order"]:
            seen = epoch(tf.constant(places))
            parts.append([tf.cast(array, tf.float64).numpy() for array in seen])
        return _path(*(np.concatenate(arrays) for arrays in zip(*parts)))

    return train


def train_jax(task: Task, dtype: str) -> Callable[[str], Path]:
    """A compiled scan over the samples of an epoch."""
    import jax
    import jax.numpy as jnp
    import optax

    kind, eps, rate = getattr(jnp, dtype), float(task["eps"]), float(task["rate"])
    x, y = jnp.asarray(task["x"], kind), jnp.asarray(task["y"])
    classes = task["start"].shape[0]
    label = jax.nn.one_hot(y, classes, dtype=kind)
    sparse, dense = (
        optax.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy,
    )
    losses: Dict[str, Callable[[Any, Any], Any]] = {  # noqa: UP006
        "right": lambda z, i: sparse(z, y[i]),
        "log-softmax-first": lambda z, i: sparse(jax.nn.log_softmax(z), y[i]),
        "double-softmax": lambda z, i: sparse(jax.nn.softmax(z), y[i]),
        "smoothed": lambda z, i: dense(z, optax.smooth_labels(label[i], eps)),
        "smoothed-twice": lambda z, i: dense(
            z, optax.smooth_labels(optax.smooth_labels(label[i], eps), eps)
        ),
        "swapped": lambda z, i: dense(label[i], jax.nn.softmax(z)),
        "sigmoids": lambda z, i: optax.sigmoid_binary_cross_entropy(z, label[i]),
        "wrong-axis": lambda z, i: (
            -jnp.take_along_axis(jax.nn.log_softmax(z, axis=0), y[i][:, None], axis=1)
        ),
    }

    def train(recipe: str) -> Path:
        optimizer = optax.sgd(rate)

        def loss_of(parameters: Any, one: Any) -> Any:
            w, b = parameters
            return jnp.mean(losses[recipe](x[one] @ w + b, one))

        def step(carried: Any, place: Any) -> Any:
            parameters, state = carried
            loss, slopes = jax.value_and_grad(loss_of)(parameters, place[None])
            changes, state = optimizer.update(slopes, state)
            updated: Any = optax.apply_updates(parameters, changes)
            return (updated, state), (updated[0].T, updated[1], loss)

        epoch = jax.jit(lambda carried, places: jax.lax.scan(step, carried, places))
        start = task["start"]
        parameters = (jnp.asarray(start[:, :-1].T, kind), jnp.asarray(start[:, -1], kind))
        carried = (parameters, optimizer.init(parameters))
        parts = [[start[None, :, :-1], start[None, :, -1], np.zeros(0)]]
        for places in task["order"]:
            carried, seen = epoch(carried, jnp.asarray(places))
            parts.append([np.asarray(array).astype(np.float64) for array in seen])
        return _path(*(np.concatenate(arrays) for arrays in zip(*parts)))

    return train


def _path(weights: Array, biases: Array, losses: Array) -> Path:
    return np.concatenate([weights, biases[:, :, None]], axis=2), losses


FRAMEWORKS = {"torch": train_torch, "tensorflow": train_tensorflow, "jax": train_jax}


def main(framework: str, dtype: str, task_file: str, result_file: str) -> None:
    with np.load(task_file) as file:
        task = {name: file[name] for name in file.files}
    train = FRAMEWORKS[framework](task, dtype)
    found: Dict[str, Any] = {  # noqa: UP006
        "version": np.array(sys.modules[framework].__version__)
    }
    for recipe in task["recipes"].tolist():
        began = time.monotonic()
        parameters, losses = train(recipe)
        found[recipe + "/seconds"] = np.array(time.monotonic() - began)
        found[recipe + "/parameters"], found[recipe + "/losses"] = parameters, losses
    np.savez(result_file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
