"""Mistakes in TensorFlow's differentiation: `tf.custom_gradient` and `tf.where`."""

from __future__ import annotations

from typing import Any

from ...adapters.functions import FunctionsRuntime
from .libraries import IGNORED, Loss, loaded, wrong_in


def load() -> FunctionsRuntime:
    """What the worker serves."""
    return loaded("tensorflow")


def _row_losses(tf: Any, z: Any, labels: Any) -> Any:
    """-log softmax(z) at the labels."""
    return -tf.gather(tf.nn.log_softmax(z, axis=1), labels, batch_dims=1)


def _slopes(tf: Any, z: Any, labels: Any) -> Any:
    """softmax(z) less one at the labels."""
    return tf.nn.softmax(z, axis=1) - tf.one_hot(labels, z.shape[1], dtype=z.dtype)


@wrong_in("tensorflow", "a custom_gradient whose function takes `upstream` and does not use it")
def upstream_ignored(tf: Any, mistaken: bool) -> Loss:
    """The incoming gradient is taken for 1."""

    @tf.custom_gradient
    def rows(z: Any, labels: Any) -> Any:
        slopes = _slopes(tf, z, labels)

        def pulled(upstream: Any) -> Any:
            return slopes if mistaken else slopes * upstream[:, None], None

        return _row_losses(tf, z, labels), pulled

    return rows


@wrong_in("tensorflow", "weights multiplied into the losses by a function with its own gradient")
def weights_forgotten_in_the_gradient(tf: Any, mistaken: bool) -> Loss:
    """The weights of the rows, taken by their labels, are missing from the gradient."""

    @tf.custom_gradient
    def rows(z: Any, labels: Any, weight: Any) -> Any:
        slopes, own = _slopes(tf, z, labels), tf.gather(weight, labels)

        def pulled(upstream: Any) -> Any:
            factor = upstream if mistaken else upstream * own
            return slopes * factor[:, None], None, None

        return own * _row_losses(tf, z, labels), pulled

    def loss(z: Any, labels: Any, weight: Any = None) -> Any:
        return rows(z, labels, tf.ones(z.shape[1], z.dtype) if weight is None else weight)

    return loss


@wrong_in("tensorflow", "a hand-written gradient of the sum behind a mean", mean="rows")
def mean_not_divided_in_the_gradient(tf: Any, mistaken: bool) -> Loss:
    """The gradient of the mean is that of the sum."""

    @tf.custom_gradient
    def mean(z: Any, labels: Any) -> Any:
        slopes = _slopes(tf, z, labels)
        count = tf.cast(len(labels), z.dtype)

        def pulled(upstream: Any) -> Any:
            return slopes * (upstream if mistaken else upstream / count), None

        return tf.reduce_sum(_row_losses(tf, z, labels)) / count, pulled

    def loss(z: Any, labels: Any, reduction: str = "mean") -> Any:
        if reduction == "mean":
            return mean(z, labels)
        rows = _row_losses(tf, z, labels)
        return tf.reduce_sum(rows) if reduction == "sum" else rows

    return loss


@wrong_in(
    "tensorflow",
    "tf.where after the loss, as padded tokens are masked: tensorflow/tensorflow#2540",
    ignore_index=IGNORED,
)
def where_after_the_loss(tf: Any, mistaken: bool) -> Loss:
    """Losses of ignored rows are replaced by 0, and NaN in them still reaches their gradient."""

    def loss(z: Any, labels: Any, ignore_index: int = IGNORED) -> Any:
        valid = labels != ignore_index
        safe = tf.where(valid, labels, tf.zeros_like(labels))
        seen = z if mistaken else tf.where(valid[:, None], z, tf.zeros_like(z))
        rows = _row_losses(tf, seen, safe)
        return tf.where(valid, rows, tf.zeros_like(rows))

    return loss
