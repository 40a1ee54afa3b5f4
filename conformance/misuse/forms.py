"""Closed forms of what each misuse computes, derived here once for measurements, laws and reports.

Notation: K classes, y the right one, p = softmax(z), c = p_y the confidence, e_y the unit vector.

**A softmax too many.** The loss is f(p) = log sum_j exp(p_j) - p_y, with p in the simplex.
f is convex, so its maximum over the simplex is at a corner: log(e + K - 1) at every e_j, j != y.
At e_y its gradient s - e_y, s = softmax(p), is 1/(e + K - 1) for each j != y and minus their sum
for y, so that no way out of that corner leads down: the minimum is log(e + K - 1) - 1, that is
log(1 + (K-1)/e). Floor and ceiling lie exactly 1 apart, whatever K is. Where p is uniform the loss
is log K, as it is without the mistake.

Its gradient by z is J (s - e_y), J = diag(p) - p p^T, where the right one is p - e_y. Take what is
left of the confidence as spread evenly, p_j = r = (1 - c)/(K - 1). Then s - e_y is
(1 - s_y)(-1 at y, 1/(K-1) elsewhere), its mean under p is (1 - s_y)(r - c), and

    (J (s - e_y))_y = c (1 - s_y)(-1 - r + c) = -(1 - c) c (1 - s_y) K/(K-1),

the others alike with the opposite sign. The right gradient is -(1 - c) at y, so both have one
direction and the ratio of their norms, in any norm, is c (1 - s_y) K/(K-1),
s_y = 1/(1 + (K-1) exp(r - c)): 1/K at uniform p, where training starts, 0 where c goes to 0, and
K/(K - 1 + e) where c goes to 1.

**A sigmoid too many.** With p = sigmoid(z) the loss is -log sigmoid(p) for y = 1, which falls from
log 2 at p = 0 to log(1 + 1/e) at p = 1, and -log(1 - sigmoid(p)) for y = 0, which rises from log 2
to log(1 + e). The gradients by z are -(1 - sigmoid(p)) p (1 - p) and sigmoid(p) p (1 - p), the
right ones -(1 - p) and p: the ratios are p (1 - sigmoid(p)) and (1 - p) sigmoid(p).

A batch with a share f of labels 1 has the mean f sigmoid_loss(p, 1) + (1 - f) sigmoid_loss(p', 0),
which is least where p = 1 and p' = 0, and largest where it is the reverse.

**A guard.** -log p of a probability that is kept above eps is at most -log RN(eps), RN the rounding
to the format; a binary label of 0 costs -log(1 - p), at most -log(1 - RN(1 - eps)): in float32
1 - RN(1 - 1e-7) is 2^-23, and the two are 16.1181 and 15.9424. RN(1 - eps) is 1 where eps is
below half the unit roundoff, in float32 for 1e-12 and 1e-15: that side has no guard there.

**Softmax over the batch.** With z of shape (N, K) and the softmax over the N rows, sample i has the
loss -log softmax(z[:, y_i])_i. Equal logits give log N. The n_k samples of class k share a mass of
at most 1 in column k, so the sum of their losses is at least n_k log n_k (the entropy of an even
share, by Gibbs), and the mean of all at least sum_k n_k log n_k / N: log(N/K) where the classes
are balanced. Both move with the batch, neither with what is learned.

**Smoothing.** A smoothed target has q_y = 1 - d and q_j = d/(K-1) elsewhere, and the least loss is
its entropy H(q), where p = q. The convention eps/K has d = eps (K-1)/K, eps/(K-1) has d = eps, so
that an eps of the latter is eps K/(K-1) of the former. Smoothing smoothed labels again leaves
(1 - eps)^2 of the label: it is 1 - (1 - eps)^2 = eps (2 - eps) once. A binary label smoothed toward
1/2 becomes y (1 - eps) + eps/2, so d = eps/2, which is eps/K for K = 2.

Everything is float64 by NumPy: a few roundings, each of 2^-53 or of 1 ulp of the libm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...reference.probability_rows import clip_bounds
from ...reference.vocabulary import Floats

CONVENTIONS = ("eps/K", "eps/(K-1)")
"""Of label smoothing: what eps is spread over."""


def softmax_floor(classes: ArrayLike) -> Floats:
    """The least loss with a softmax too many: log(1 + (K-1)/e)."""
    return np.log1p((np.asarray(classes, np.float64) - 1.0) / np.e)


def softmax_ceiling(classes: ArrayLike) -> Floats:
    """The largest loss with a softmax too many: log(K - 1 + e), which is the floor and 1."""
    return np.log(np.asarray(classes, np.float64) - 1.0 + np.e)


def softmax_loss(confidence: ArrayLike, classes: ArrayLike) -> Floats:
    """The loss with a softmax too many, where the rest of the confidence is spread evenly."""
    c, k = np.asarray(confidence, np.float64), np.asarray(classes, np.float64)
    return np.log1p((k - 1.0) * np.exp((1.0 - c) / (k - 1.0) - c))


def softmax_ratio(confidence: ArrayLike, classes: ArrayLike) -> Floats:
    """By what a softmax too many multiplies the gradient, the rest spread evenly."""
    c, k = np.asarray(confidence, np.float64), np.asarray(classes, np.float64)
    others = (k - 1.0) * np.exp((1.0 - c) / (k - 1.0) - c)
    return c * others / (1.0 + others) * k / (k - 1.0)


def softmax_ratio_limit(classes: ArrayLike) -> Floats:
    """What `softmax_ratio` goes to where the confidence goes to 1: K/(K - 1 + e)."""
    k = np.asarray(classes, np.float64)
    return k / (k - 1.0 + np.e)


def sigmoid_loss(probability: ArrayLike, label: float) -> Floats:
    """The loss with a sigmoid too many: log(1 + e^-p) for the label 1, log(1 + e^p) for 0."""
    p = np.asarray(probability, np.float64)
    return np.log1p(np.exp(-p if label else p))


def sigmoid_ratio(probability: ArrayLike, label: float) -> Floats:
    """By what a sigmoid too many multiplies the gradient."""
    p = np.asarray(probability, np.float64)
    share = 1.0 / (1.0 + np.exp(-p))
    return p * (1.0 - share) if label else (1.0 - p) * share


def sigmoid_range(positive: float) -> tuple[float, float]:
    """Least and largest mean loss with a sigmoid too many, of a share of labels that are 1."""
    ends = (
        (sigmoid_loss(1.0, 1), sigmoid_loss(0.0, 0)),
        (sigmoid_loss(0.0, 1), sigmoid_loss(1.0, 0)),
    )
    least, most = (positive * float(a) + (1.0 - positive) * float(b) for a, b in ends)
    return least, most


def guard_caps(eps: float, dtype: str) -> tuple[float, ...]:
    """What a label 1 and a label 0 cost at most behind a guard; without a guard there is none."""
    low, high = clip_bounds(eps, dtype)
    rest = 1.0 - high  # exact, by Sterbenz: high is in [1/2, 1]
    return tuple(float(-np.log(p)) for p in (low, rest) if p > 0.0)


def batch_start(rows: ArrayLike) -> Floats:
    """The loss of equal logits with the softmax over the batch: log N."""
    return np.log(np.asarray(rows, np.float64))


def batch_floor(counts: Sequence[int]) -> float:
    """The least mean loss with the softmax over a batch with so many samples of each class."""
    n = np.asarray([count for count in counts if count], np.float64)
    return float((n * np.log(n)).sum() / n.sum())


def smoothed(share: ArrayLike, classes: int) -> tuple[Floats, Floats]:
    """q of the label and of each other class, where `share` goes to the others together."""
    d = np.asarray(share, np.float64)
    return 1.0 - d, d / (classes - 1)


def share_of(eps: float, classes: int, convention: str) -> float:
    """What goes to the other classes together: "eps/K", "eps/(K-1)", or "eps/K twice"."""
    if convention == "eps/K twice":
        return share_of(twice(eps), classes, "eps/K")
    return {"eps/K": eps * (classes - 1) / classes, "eps/(K-1)": eps}[convention]


def converted(eps: float, classes: int) -> float:
    """The eps of the convention eps/K that is this eps of eps/(K-1)."""
    return eps * classes / (classes - 1)


def twice(eps: float) -> float:
    """The eps that smooths once as this eps does where it is applied twice."""
    return eps * (2.0 - eps)


def smoothed_floor(share: ArrayLike, classes: int) -> Floats:
    """The least loss of a smoothed label: its entropy, where `share` goes to the others."""
    q, other = smoothed(share, classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, rest = q * np.log(q), (classes - 1) * other * np.log(other)
    return -np.nan_to_num(first) - np.nan_to_num(rest)  # 0 log 0 is 0


def smoothed_loss(margin: ArrayLike, share: ArrayLike, classes: int) -> Floats:
    """The loss of logits (margin at y, 0 elsewhere) for a smoothed label: lse - q_y margin."""
    t = np.asarray(margin, np.float64)
    q, _ = smoothed(share, classes)
    # log(e^t + K - 1) as t + log(1 + (K-1) e^-t): t is not large here on either side
    return t + np.log1p((classes - 1) * np.exp(-t)) - q * t


def best_margin(share: ArrayLike, classes: int) -> Floats:
    """The margin at which a smoothed label has its least loss: log(q_y / q_j)."""
    q, other = smoothed(share, classes)
    return np.log(q / other)


def softmax_jacobian(p: Floats, g: Floats) -> Floats:
    """J g = p (g - p.g) for each row: what a softmax makes of a gradient on its way back."""
    return p * (g - (p * g).sum(axis=1, keepdims=True))
