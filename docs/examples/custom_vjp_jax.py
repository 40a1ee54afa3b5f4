"""A cross-entropy with a custom VJP for JAX: python docs/examples/custom_vjp_jax.py

The forward pass keeps the probabilities, and the backward pass is softmax(z) - q by hand.
`off_by_one` smooths with eps/(K-1), the formula of another code base, where eps/K is promised.
"""

import jax
import jax.numpy as jnp

import lossaudit


def smoothed(logits, target, eps, among):
    """Of eps, each of `among` classes gets its share: all K of them, or the K - 1 others."""
    classes = logits.shape[-1]
    hot = jax.nn.one_hot(target, classes, dtype=logits.dtype)
    spread = eps / max(among, 1)
    return hot * (1 - eps) + (spread if among == classes else spread * (1 - hot))


@jax.custom_vjp
def rows(logits, q):
    return forward(logits, q)[0]


def forward(logits, q):
    log_p = jax.nn.log_softmax(logits)
    # A class without weight contributes nothing, also where its logit is -inf.
    loss = -jnp.where(q == 0, 0, q * log_p).sum(-1)
    return loss, (jnp.exp(log_p), q)


def backward(kept, cotangent):
    p, q = kept
    return (p * q.sum(-1, keepdims=True) - q) * cotangent[:, None], None


rows.defvjp(forward, backward)


def cross_entropy(logits, target, *, label_smoothing=0.0):
    return rows(logits, smoothed(logits, target, label_smoothing, logits.shape[-1]))


def off_by_one(logits, target, *, label_smoothing=0.0):
    return rows(logits, smoothed(logits, target, label_smoothing, logits.shape[-1] - 1))


DECLARED = {
    "operation": "cross_entropy",
    "framework": "jax",
    "dtypes": ["float32"],
    "smoothing": "eps/K",
}

if __name__ == "__main__":
    print(lossaudit.check(cross_entropy, **DECLARED))
    try:
        lossaudit.check(off_by_one, **DECLARED)
    except AssertionError as error:
        print(error)
