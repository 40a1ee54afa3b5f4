"""A cross-entropy in NumPy with a gradient by hand: python docs/examples/handwritten_numpy.py

It takes a distribution of targets and returns the loss and its gradient. `times_zero` multiplies
every log-probability by its target, as the formula says: a masked class has the logit -inf and the
target 0, their product is NaN, and so is the loss.
"""

from typing import Any

import numpy as np

import lossaudit


def soft_cross_entropy(logits, q):
    with np.errstate(all="ignore"):
        d = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
        e = np.exp(d)
        total = e.sum(axis=1, keepdims=True)
        terms = np.where(q == 0, logits.dtype.type(0), q * (np.log(total) - d))
        return terms.sum(axis=1), e / total * q.sum(axis=1, keepdims=True) - q


def times_zero(logits, q):
    _, gradient = soft_cross_entropy(logits, q)
    with np.errstate(all="ignore"):
        d = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
        log_p = d - np.log(np.exp(d).sum(axis=1, keepdims=True))
        return -(q * log_p).sum(axis=1), gradient


DECLARED: dict[str, Any] = {
    "operation": "cross_entropy",
    "framework": "numpy",
    "target": "distribution",
    "soft_gradient": "sum(q) p - q",
}

if __name__ == "__main__":
    print(lossaudit.check(soft_cross_entropy, **DECLARED))
    try:
        lossaudit.check(times_zero, **DECLARED, dtypes=["float32"])
    except AssertionError as error:
        print(error)
