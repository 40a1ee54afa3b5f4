"""The misuses that are measured: what a user writes, what that computes, what their logs show.

Every figure comes from `forms`; nothing is said here that is not derived there or measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import forms


@dataclass(frozen=True)
class Misuse:
    """One mistake in the use of a loss.

    Attributes:
        id: as in `MisuseCurve.misuse`.
        title: a few words.
        mistake: what is done, in a sentence.
        written: (framework, code) as a user writes it.
        computes: the formula of what comes of it.
        logs: what one sees in one's own logs, with figures.
        mended: (framework, code) that is meant.
        logs_of: (framework, what one sees there alone).
    """

    id: str
    title: str
    mistake: str
    written: tuple[tuple[str, str], ...]
    computes: str
    logs: tuple[str, ...]
    mended: tuple[tuple[str, str], ...]
    logs_of: tuple[tuple[str, str], ...] = ()


FIGURES = (2, 3, 10, 100, 1000)
"""Class counts of which figures are given."""

BATCHES = (32, 128, 512)
EPS = 0.1


def _softmax_ranges() -> str:
    parts = (
        f"K = {k}: {float(forms.softmax_floor(k)):.4f} to {float(forms.softmax_ceiling(k)):.4f}"
        for k in FIGURES
    )
    return "; ".join(parts)


def _starts() -> str:
    return ", ".join(f"{float(forms.batch_start(n)):.4f} at N = {n}" for n in BATCHES)


def _batch_floors() -> str:
    parts = (f"{forms.batch_floor([n // 2] * 2):.4f} at N = {n}" for n in BATCHES)
    return ", ".join(parts)


def _smoothed_floors() -> str:
    parts = []
    for k in FIGURES:
        floors = (
            float(forms.smoothed_floor(forms.share_of(EPS, k, convention), k))
            for convention in ("eps/K", "eps/(K-1)", "eps/K twice")
        )
        parts.append(f"K = {k}: " + ", ".join(f"{floor:.4f}" for floor in floors))
    return "; ".join(parts)


def _margins() -> str:
    conventions = ("eps/K", "eps/(K-1)", "eps/K twice")
    shares = (forms.share_of(EPS, 10, convention) for convention in conventions)
    return ", ".join(f"{float(forms.best_margin(share, 10)):.2f}" for share in shares)


def _guarded() -> str:
    """What a probability of 0 costs behind the guard of Keras."""
    return f"{-math.log(1e-7):.4f}"


def _binary_floor(share: float) -> str:
    return f"{float(forms.smoothed_floor(share, 2)):.4f}"


def _sigmoid(probability: float, label: float) -> str:
    return f"{float(forms.sigmoid_loss(probability, label)):.4f}"


def _balanced(positive: float, negative: float) -> str:
    """The mean loss of as many labels 1 and 0, with these probabilities of a 1."""
    both = forms.sigmoid_loss(positive, 1), forms.sigmoid_loss(negative, 0)
    return f"{float(sum(both)) / 2:.4f}"


MISUSES = (
    Misuse(
        "double-softmax",
        "A softmax too many",
        "The model ends in a softmax, and the loss takes logits: it applies a second one.",
        (
            ("torch", "F.cross_entropy(F.softmax(z, dim=1), y)"),
            (
                "tensorflow",
                "tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.nn.softmax(z))",
            ),
            ("keras", "SparseCategoricalCrossentropy(from_logits=True)(y, p)  # p sums to 1"),
            ("jax", "optax.softmax_cross_entropy_with_integer_labels(jax.nn.softmax(z), y)"),
        ),
        "log sum_j exp(p_j) - p_y with p = softmax(z): never below log(1 + (K-1)/e), never more "
        "than 1 above that. The gradient is c (1 - s_y) K/(K-1) times the right one, where c = p_y "
        "is the confidence, the rest is spread evenly, and s = softmax(p).",
        (
            (
                "Equal logits start at log K, as they should, and the loss stays within one unit: "
                f"{_softmax_ranges()}."
            ),
            (
                "The first gradient is 1/K of the right one, and that of a sample that "
                "is confidently "
                "wrong vanishes. At the floor every sample is right with certainty."
            ),
        ),
        (
            ("torch", "F.cross_entropy(z, y)"),
            ("tensorflow", "tf.nn.sparse_softmax_cross_entropy_with_logits(y, z)"),
            ("keras", "SparseCategoricalCrossentropy(from_logits=False)(y, p)"),
            ("jax", "optax.softmax_cross_entropy_with_integer_labels(z, y)"),
        ),
    ),
    Misuse(
        "double-sigmoid",
        "A sigmoid too many",
        "The model ends in a sigmoid, and the binary loss takes a logit: it applies a second one.",
        (
            ("torch", "F.binary_cross_entropy_with_logits(torch.sigmoid(z), y)"),
            ("tensorflow", "tf.nn.sigmoid_cross_entropy_with_logits(y, tf.sigmoid(z))"),
            ("keras", "BinaryCrossentropy(from_logits=True)(y, p)  # p in [0, 1]"),
            ("jax", "optax.sigmoid_binary_cross_entropy(jax.nn.sigmoid(z), y)"),
        ),
        "log(1 + exp(-p)) for y = 1 and log(1 + exp(p)) for y = 0, with p = sigmoid(z). The "
        "gradient is p (1 - sigmoid(p)) times the right one for y = 1, (1 - p) sigmoid(p) for "
        "y = 0.",
        (
            (
                f"Single losses stay within {_sigmoid(1, 1)} and {_sigmoid(0, 1)} for y = 1, "
                f"within {_sigmoid(0, 0)} and {_sigmoid(1, 0)} for y = 0. Balanced labels and "
                f"equal logits start at {_balanced(0.5, 0.5)} and not at 0.6931, and cannot come "
                f"below {_balanced(1.0, 0.0)}."
            ),
            (
                "Every gradient is at most half of the right one, and vanishes where the model is "
                "confidently wrong."
            ),
        ),
        (
            ("torch", "F.binary_cross_entropy_with_logits(z, y)"),
            ("tensorflow", "tf.nn.sigmoid_cross_entropy_with_logits(y, z)"),
            ("keras", "BinaryCrossentropy(from_logits=False)(y, p)"),
            ("jax", "optax.sigmoid_binary_cross_entropy(z, y)"),
        ),
    ),
    Misuse(
        "probabilities-for-logs",
        "Probabilities where logarithms are due",
        "The loss takes log-probabilities, and is given the probabilities themselves.",
        (
            ("torch", "F.kl_div(F.softmax(z, dim=1), q, reduction='batchmean')"),
            ("jax", "optax.kl_divergence(jax.nn.softmax(z), q)"),
        ),
        "-p_y for a target of one class: a loss from 0 down to -1, whose gradient by the logits is "
        "c = p_y times the right one. F.nll_loss is -x_y of what it is given too, by its "
        "definition; the op that was asked is the KL divergence.",
        (
            "The loss is negative from the first step, starts near -1/K, and ends near -1.",
            (
                "Minus the loss is the mean confidence, and looks like an accuracy. A "
                "sample that is "
                "confidently wrong has almost no gradient."
            ),
        ),
        (
            ("torch", "F.kl_div(F.log_softmax(z, dim=1), q, reduction='batchmean')"),
            ("jax", "optax.kl_divergence(jax.nn.log_softmax(z), q)"),
        ),
    ),
    Misuse(
        "logits-for-probabilities",
        "Logits where probabilities are due",
        "The loss takes probabilities, and is given logits. Keras takes probabilities unless it "
        "is told otherwise.",
        (
            ("torch", "F.binary_cross_entropy(z, y)"),
            ("keras", "SparseCategoricalCrossentropy()(y, z)"),
            ("keras", "CategoricalCrossentropy()(q, z)"),
            ("keras", "BinaryCrossentropy()(y, z)"),
        ),
        "What the op reads in the logits: clipped into [eps, 1 - eps], and for several classes "
        "divided by their sum before or after. It is shown for the logits (m, 0) of two classes "
        "with the first one right, and for the binary logit m with y = 1.",
        (),
        (
            ("torch", "F.binary_cross_entropy_with_logits(z, y)"),
            ("keras", "SparseCategoricalCrossentropy(from_logits=True)(y, z)"),
            ("keras", "BinaryCrossentropy(from_logits=True)(y, z)"),
        ),
        (
            ("torch", "F.binary_cross_entropy raises for what is not within [0, 1]."),
            (
                "keras",
                (
                    f"Outside (0, 1) the loss takes few values: nearly 0, log K, {_guarded()} "
                    "(-log of the guard 1e-7). Where it is divided by the sum, (m, 0) becomes "
                    "(1, 0) for m < 0 too, so that what is wrong costs nothing, and a sum of 0 "
                    "gives NaN."
                ),
            ),
            (
                "keras",
                (
                    "Where the guard acts the gradient is exactly 0: the loss does not move "
                    "however long training goes on."
                ),
            ),
        ),
    ),
    Misuse(
        "wrong-axis",
        "Softmax over the batch",
        "The softmax goes over the samples of the batch and not over the classes.",
        (
            ("torch", "F.nll_loss(F.log_softmax(z, dim=0), y)"),
            ("tensorflow", "-tf.gather(tf.nn.log_softmax(z, axis=0), y, batch_dims=1)"),
            (
                "jax",
                "-jnp.take_along_axis(jax.nn.log_softmax(z, axis=0), y[:, None], axis=1)",
            ),
        ),
        "-log softmax(z[:, y_i])_i: each column is shared out among the samples. Equal logits give "
        "log N, and the mean cannot fall below sum_k n_k log n_k / N with n_k samples of class k: "
        "log(N/K) where they are balanced.",
        (
            f"The first loss is log N, whatever K is: {_starts()}. It moves with the batch size.",
            (
                "It ends at log(N/K) or above: for two balanced classes "
                f"{_batch_floors()}. A batch of "
                "one sample has the loss 0, and a smaller last batch a lower floor than the others."
            ),
        ),
        (
            ("torch", "F.cross_entropy(z, y)"),
            ("tensorflow", "tf.nn.sparse_softmax_cross_entropy_with_logits(y, z)"),
            ("jax", "optax.softmax_cross_entropy_with_integer_labels(z, y)"),
        ),
    ),
    Misuse(
        "smoothing",
        "Smoothing by another convention, or twice",
        "eps is spread over the other K - 1 classes where the op spreads it over all K, or targets "
        "that are smoothed already go to an op that smooths them again.",
        (
            ("any", "q = (1 - eps) * onehot + eps / (K - 1) * (1 - onehot)"),
            ("torch", "F.cross_entropy(z, smoothed, label_smoothing=eps)"),
            (
                "keras",
                "CategoricalCrossentropy(from_logits=True, label_smoothing=eps)(smoothed, z)",
            ),
            (
                "jax",
                "optax.softmax_cross_entropy(z, optax.smooth_labels(smoothed, eps))",
            ),
        ),
        "A cross-entropy with q_y = 1 - d and q_j = d/(K-1), where d is eps (K-1)/K for eps/K, eps "
        "for eps/(K-1), and eps (2 - eps) (K-1)/K for eps/K applied twice. The least loss is the "
        "entropy of q.",
        (
            (
                f"Least losses with eps = {EPS}, once by eps/K, by eps/(K-1), and twice by eps/K: "
                f"{_smoothed_floors()}."
            ),
            (
                "The margin log(q_y/q_j) at which the loss is least shows it too: with "
                "K = 10 it is "
                f"{_margins()}. A model pushed beyond it sees its loss rise."
            ),
        ),
        (
            ("any", "eps of eps/(K-1) is eps * K / (K - 1) of eps/K"),
            ("torch", "F.cross_entropy(z, y, label_smoothing=eps)"),
        ),
    ),
    Misuse(
        "binary-smoothing",
        "Binary smoothing toward 1/2",
        "Keras smooths a binary label toward 1/2: eps leaves 1 - eps/2 of a 1. Elsewhere it is "
        "taken to leave 1 - eps.",
        (
            ("torch", "F.binary_cross_entropy_with_logits(z, y * (1 - eps) + (1 - y) * eps)"),
            ("jax", "optax.sigmoid_binary_cross_entropy(z, y * (1 - eps) + (1 - y) * eps)"),
        ),
        "The binary cross-entropy with a label of 1 - d, where d is eps/2 for y (1 - eps) + eps/2, "
        "and eps for what is written above. The least loss is the entropy of that label.",
        (
            (
                f"Least losses with eps = {EPS}: {_binary_floor(EPS / 2)} toward 1/2, "
                f"{_binary_floor(EPS)} with 1 - eps."
            ),
            (
                "The logit at which the loss is least is "
                f"{float(forms.best_margin(EPS / 2, 2)):.2f} "
                f"toward 1/2 and {float(forms.best_margin(EPS, 2)):.2f} with 1 - eps."
            ),
        ),
        (
            ("keras", "BinaryCrossentropy(from_logits=True, label_smoothing=eps)(y, z)"),
            ("torch", "F.binary_cross_entropy_with_logits(z, y * (1 - eps) + eps / 2)"),
            ("jax", "optax.sigmoid_binary_cross_entropy(z, y * (1 - eps) + eps / 2)"),
        ),
    ),
)
