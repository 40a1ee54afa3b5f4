"""Mistakes in JAX's differentiation: custom rules, `stop_gradient`, `jnp.where`."""

from __future__ import annotations

from typing import Any

from ...adapters.functions import FunctionsRuntime
from .libraries import Loss, loaded, wrong_in


def load() -> FunctionsRuntime:
    """What the worker serves."""
    return loaded("jax")


def _row_losses(jax: Any, z: Any, labels: Any) -> Any:
    """-log softmax(z) at the labels."""
    logs = jax.nn.log_softmax(z, axis=1)
    return -jax.numpy.take_along_axis(logs, labels[:, None], axis=1)[:, 0]


def _hot(jax: Any, z: Any, labels: Any) -> Any:
    return jax.nn.one_hot(labels, z.shape[1], dtype=z.dtype)


@wrong_in("jax", "a custom_vjp that returns what its forward saved")
def cotangent_dropped(jax: Any, mistaken: bool) -> Loss:
    """The rule of a custom_vjp forgets the incoming gradient."""

    @jax.custom_vjp
    def loss(z: Any, labels: Any) -> Any:
        return _row_losses(jax, z, labels)

    def forward(z: Any, labels: Any) -> Any:
        return loss(z, labels), jax.nn.softmax(z, axis=1) - _hot(jax, z, labels)

    def backward(slopes: Any, cotangent: Any) -> Any:
        return slopes if mistaken else slopes * cotangent[:, None], None

    loss.defvjp(forward, backward)
    return loss


@wrong_in("jax", "a custom_vjp written for one-hot targets, used with smoothing", smoothing="eps/K")
def smoothing_forgotten_in_the_backward(jax: Any, mistaken: bool) -> Loss:
    """The backward of a custom_vjp subtracts the label, and not the smoothed target."""

    def smoothed(z: Any, labels: Any, eps: Any) -> Any:
        return _hot(jax, z, labels) * (1 - eps) + eps / z.shape[1]

    @jax.custom_vjp
    def loss(z: Any, labels: Any, eps: Any) -> Any:
        q, logs = smoothed(z, labels, eps), jax.nn.log_softmax(z, axis=1)
        return -jax.numpy.where(q == 0, 0, q * logs).sum(axis=1)

    def forward(z: Any, labels: Any, eps: Any) -> Any:
        target = _hot(jax, z, labels) if mistaken else smoothed(z, labels, eps)
        return loss(z, labels, eps), (jax.nn.softmax(z, axis=1) - target, eps)

    def backward(saved: Any, cotangent: Any) -> Any:
        slopes, eps = saved
        return slopes * cotangent[:, None], None, jax.numpy.zeros_like(eps)

    loss.defvjp(forward, backward)

    def call(z: Any, labels: Any, label_smoothing: float = 0.0) -> Any:
        return loss(z, labels, jax.numpy.asarray(label_smoothing, z.dtype))

    return call


@wrong_in("jax", "log-sum-exp stabilised by hand: the maximum may be stopped, and nothing else")
def gradient_stopped_at_the_sum(jax: Any, mistaken: bool) -> Loss:
    """stop_gradient around the whole of log sum exp, and not around its maximum alone."""

    def loss(z: Any, labels: Any) -> Any:
        m = jax.lax.stop_gradient(z.max(axis=1, keepdims=True))
        sums = jax.numpy.log(jax.numpy.exp(z - m).sum(axis=1))
        sums = jax.lax.stop_gradient(sums) if mistaken else sums
        own = jax.numpy.take_along_axis(z - m, labels[:, None], axis=1)[:, 0]
        return sums - own

    return loss


@wrong_in("jax", "a custom_jvp whose tangent uses the exponentials before they are divided")
def tangent_not_normalised(jax: Any, mistaken: bool) -> Loss:
    """The rule of log sum exp weighs tangents by exp(z - m), without the division by their sum."""

    def parts(z: Any) -> Any:
        m = z.max(axis=1, keepdims=True)
        e = jax.numpy.exp(z - m)
        return m[:, 0], e, e.sum(axis=1)

    @jax.custom_jvp
    def logsumexp(z: Any) -> Any:
        m, _, s = parts(z)
        return m + jax.numpy.log(s)

    @logsumexp.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        m, e, s = parts(primals[0])
        p = e if mistaken else e / s[:, None]
        return m + jax.numpy.log(s), (p * tangents[0]).sum(axis=1)

    def loss(z: Any, labels: Any) -> Any:
        own = jax.numpy.take_along_axis(z, labels[:, None], axis=1)[:, 0]
        return logsumexp(z) - own

    return loss


@wrong_in(
    "jax",
    "jnp.where in front of an overflow: JAX's FAQ, gradients contain NaN where using where",
    operation="binary_cross_entropy_with_logits",
)
def where_differentiates_the_dead_branch(jax: Any, mistaken: bool) -> Loss:
    """softplus by the sign of z: the branch not taken overflows, and 0 times infinity is NaN."""
    jnp = jax.numpy

    def softplus(z: Any) -> Any:
        down, up = (-z, z) if mistaken else (-abs(z), -abs(z))
        return jnp.where(z > 0, z + jnp.log1p(jnp.exp(down)), jnp.log1p(jnp.exp(up)))

    def loss(z: Any, y: Any) -> Any:
        return (1 - y) * softplus(z) + y * softplus(-z)

    return loss
