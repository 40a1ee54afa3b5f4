"""Does `lossaudit.diagnose` name each mistake, and nothing else? `benchmarks/diagnosis.py`.

Trains small models with the losses of torch, optax, TensorFlow and Keras, rightly and with each
mistake, and diagnoses the log of every training and a batch of it. The logs are written to
docs/diagnosis/logs.json, which the tests replay without a framework, and the table to the end of
docs/diagnose.md. `--replay` makes the table of the logs that are there; `--honest 200` draws
honest trainings at random and counts what is said of them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import lossaudit
from lossaudit.conformance.diagnosis.found import Diagnosed

DOCS = Path(__file__).resolve().parent.parent / "docs"
LOGS, PAGE = DOCS / "diagnosis" / "logs.json", DOCS / "diagnose.md"
MARK = "<!-- written by benchmarks/diagnosis.py -->"
"""Where the table begins in the page."""

KEPT = 120
"""Losses of a log that are kept, evenly spaced; the first and the last are."""

Numbers = np.ndarray
Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Data:
    """Points around K centres, or coordinates each with a label of its own.

    Attributes:
        classes: K, 1 for binary labels.
        seed, rows, spread: of the centres, in standard deviations of the points.
        noise: share of the labels that are drawn anew.
        shares: of the classes, even where empty.
        ignored: share of the labels that are -100.
        labels: "index", "binary", "several" (a binary label for each class), "soft" (mixed pairs).
    """

    classes: int = 10
    seed: int = 0
    rows: int = 64
    spread: float = 3.0
    noise: float = 0.0
    shares: tuple[float, ...] = ()
    ignored: float = 0.0
    labels: str = "index"

    def make(self) -> tuple[Numbers, Numbers]:
        rng = np.random.default_rng(self.seed)
        k = max(self.classes, 2)
        y = np.arange(self.rows) % k
        if self.shares:
            y = rng.choice(k, self.rows, p=self.shares)
        x = rng.normal(scale=self.spread, size=(k, 8))[y] + rng.normal(size=(self.rows, 8))
        y = np.where(rng.random(self.rows) < self.noise, rng.integers(0, k, self.rows), y)
        y = np.where(rng.random(self.rows) < self.ignored, -100, y)
        x = x.astype(np.float32) / 3
        if self.labels == "binary":
            return x, y[:, None].astype(np.float32)
        if self.labels == "several":
            return x, (x[:, :k] + 0.3 * rng.normal(size=(self.rows, k)) > 0).astype(np.float32)
        if self.labels == "soft":
            share = rng.random((self.rows, 1))
            q = share * np.eye(k)[y] + (1.0 - share) * np.eye(k)[np.roll(y, 1)]
            return x, q.astype(np.float32)
        return x, y


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name, framework: of it.
        mistakes: the ids that a diagnosis may name; () where nothing is wrong.
        loss: the name of the loss in the framework, below.
        data: what is learned.
        hidden: units of the hidden layer, 0 for a softmax regression.
        steps, rate, rows, optimiser, decay, scale: of the training; rows 0 for all at once.
        wide: in float64.
        shows: what the user has at hand of the model: "logits" or "probabilities".
        at: the step at which the batch is taken, from the end where negative.
        log, batch: what is said to `diagnose` beside the numbers.
    """

    name: str
    framework: str
    mistakes: tuple[str, ...]
    loss: str
    data: Data = field(default_factory=Data)
    hidden: int = 0
    steps: int = 240
    rate: float = 0.5
    rows: int = 0
    optimiser: str = "sgd"
    decay: float = 0.0
    scale: float = 0.3
    wide: bool = False
    shows: str = "logits"
    at: int = 5
    log: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)


WEIGHT = (0.5, 1.0, 3.0)
ADAM = {"optimiser": "adam", "rate": 0.05}
BINARY = Data(1, labels="binary")
OVER = {"hidden": 32, "steps": 1200, **ADAM}
"""Enough to learn every sample."""

HONEST = (
    Run("softmax regression, K = 2", "torch", (), "ce", Data(2)),
    Run("softmax regression, K = 3, batches of 16", "torch", (), "ce", Data(3, 1), rows=16),
    Run("zero weights, K = 10", "torch", (), "ce", Data(10, 2), scale=0.0),
    Run("large weights at the start", "torch", (), "ce", Data(10, 3), scale=5.0),
    Run("hidden layer, Adam", "torch", (), "ce", Data(10, 4), hidden=32, **ADAM),
    Run("hidden layer, momentum, batches of 8", "torch", (), "ce", Data(10, 5), hidden=32,
        rows=8, optimiser="momentum", rate=0.05),
    Run("learned by heart, to a loss near 0", "torch", (), "ce", Data(3, 6), **OVER),
    Run("a rate that diverges", "torch", (), "ce", Data(10, 7, noise=0.3), rate=60.0, rows=16),
    Run("a rate that diverges, hidden layer", "torch", (), "ce", Data(3, 8, noise=0.3),
        hidden=16, rate=20.0, rows=8),
    Run("30% of the labels are noise", "torch", (), "ce", Data(10, 9, 256, noise=0.3), rows=32),
    Run("all labels are noise", "torch", (), "ce", Data(3, 10, 256, noise=1.0)),
    Run("noise, K = 2, a plateau", "torch", (), "ce", Data(2, 11, 256, noise=0.5)),
    Run("95 of 100 of one class", "torch", (), "ce", Data(2, 12, 256, shares=(0.95, 0.05))),
    Run("class weights", "torch", (), "weighted", Data(3, 13), log={"weight": WEIGHT},
        batch={"weight": WEIGHT}),
    Run("ignored labels", "torch", (), "ce", Data(10, 14, ignored=0.3)),
    Run("class weights and ignored labels", "torch", (), "weighted", Data(3, 15, ignored=0.3),
        log={"weight": WEIGHT}, batch={"weight": WEIGHT}),
    Run("smoothed by 0.1", "torch", (), "smoothed", Data(10, 16), log={"label_smoothing": 0.1},
        batch={"label_smoothing": 0.1}, **OVER),
    Run("smoothed by 0.1, and not said so", "torch", (), "smoothed", Data(3, 17), **OVER),
    Run("smoothed by 0.1 in the targets", "torch", (), "of smoothed targets", Data(10, 18),
        **OVER),
    Run("soft targets of mixed pairs", "torch", (), "ce", Data(10, 19, labels="soft"), hidden=16),
    Run("decay of the weights", "torch", (), "ce", Data(3, 20), decay=0.1, hidden=16, **ADAM),
    Run("float64", "torch", (), "ce", Data(10, 21), wide=True),
    Run("a sum, and meant", "torch", (), "sum", Data(10, 22), rate=0.01,
        log={"reduction": "sum"}, batch={"reduction": "sum"}),
    Run("binary labels", "torch", (), "bce", BINARY),
    Run("binary labels, 90 of 100 are 0, noise", "torch", (), "bce",
        Data(1, 23, 256, noise=0.2, shares=(0.9, 0.1), labels="binary"), rows=32),
    Run("binary labels, of probabilities", "torch", (), "bce of sigmoid", BINARY,
        shows="probabilities", **OVER),
    Run("several labels a row", "torch", (), "bce", Data(5, 24, labels="several")),
    Run("softmax regression, K = 10", "jax", (), "ce", Data(10, 30)),
    Run("hidden layer, Adam, batches of 16", "jax", (), "ce", Data(3, 31), hidden=16, rows=16,
        **ADAM),
    Run("learned by heart", "jax", (), "ce", Data(10, 32), **OVER),
    Run("smoothed by 0.2", "jax", (), "smoothed", Data(3, 33), log={"label_smoothing": 0.2},
        batch={"label_smoothing": 0.2}, **OVER),
    Run("noise, batches of 8", "jax", (), "ce", Data(2, 34, 256, noise=0.4), rows=8),
    Run("binary labels", "jax", (), "bce", Data(1, 35, labels="binary"), rows=16),
    Run("sparse, from logits", "keras", (), "sparse logits", Data(10, 40)),
    Run("sparse, from probabilities", "keras", (), "sparse", Data(10, 41), shows="probabilities",
        hidden=16, **ADAM),
    Run("one-hot, from probabilities, learned by heart", "keras", (), "categorical", Data(3, 42),
        shows="probabilities", hidden=16, steps=600, **ADAM),
    Run("one-hot, smoothed by 0.1", "keras", (), "categorical smoothed", Data(3, 43), hidden=16,
        steps=600, log={"label_smoothing": 0.1}, batch={"label_smoothing": 0.1}, **ADAM),
    Run("binary, from probabilities", "keras", (), "binary", Data(1, 44, labels="binary"),
        shows="probabilities"),
    Run("tf.nn, batches of 16", "tensorflow", (), "ce", Data(10, 45), rows=16),
)  # fmt: skip


def mistaken(mistake: str, name: str, framework: str, loss: str, *rest: Any, **more: Any) -> Run:
    return Run(name, framework, tuple(mistake.split()), loss, *rest, **more)


MISTAKEN = (
    mistaken("double-softmax", "hidden layer, K = 10", "torch", "ce of softmax", Data(10, 50),
             **OVER),
    mistaken("double-softmax", "K = 3, noise, batches of 16", "torch", "ce of softmax",
             Data(3, 51, noise=0.2), rows=16, rate=8.0, steps=1200),
    mistaken("double-softmax", "K = 2", "torch", "ce of softmax", Data(2, 52), **OVER),
    mistaken("double-softmax", "K = 10, plain descent", "torch", "ce of softmax", Data(10, 53)),
    mistaken("double-softmax", "hidden layer, K = 3", "jax", "ce of softmax", Data(3, 54), **OVER),
    mistaken("double-softmax", "from_logits=True of a softmax", "keras", "sparse logits of softmax",
             Data(10, 55), shows="probabilities", hidden=16, steps=600, **ADAM),
    mistaken("double-sigmoid", "hidden layer", "torch", "bce of sigmoid as logits", BINARY, **OVER),
    mistaken("double-sigmoid", "noise", "torch", "bce of sigmoid as logits",
             Data(1, 56, noise=0.3, labels="binary"), rows=16),
    mistaken("double-sigmoid", "hidden layer, jax", "jax", "bce of sigmoid",
             Data(1, 57, labels="binary"), **OVER),
    mistaken("double-sigmoid", "from_logits=True of a sigmoid", "keras", "binary logits of sigmoid",
             Data(1, 58, labels="binary"), shows="probabilities", at=100, hidden=16, steps=600,
             **ADAM),
    mistaken("probability-guard", "one-hot, diverging, single samples", "keras", "categorical",
             Data(3, 60, noise=0.4), rows=1, rate=200.0, at=-1, shows="logits"),
    mistaken("probability-guard", "binary, diverging, batches of 8", "keras", "binary",
             Data(1, 61, noise=0.4, labels="binary"), rows=8, rate=2000.0, at=-1),
    mistaken("probability-guard", "binary, diverging, batches of 8", "torch", "bce of sigmoid",
             Data(1, 62, noise=0.4, labels="binary"), rows=8, rate=2000.0, at=-1),
    mistaken("smoothing", "eps/(K-1), K = 10", "torch", "eps/(K-1)", Data(10, 63),
             log={"label_smoothing": 0.1}, batch={"label_smoothing": 0.1}, **OVER),
    mistaken("smoothing", "eps/(K-1), K = 3, not said", "torch", "eps/(K-1)", Data(3, 64), **OVER),
    mistaken("smoothing", "eps/(K-1), K = 10", "jax", "eps/(K-1)", Data(10, 65), **OVER),
    mistaken("smoothing", "twice, K = 10", "torch", "smoothed twice", Data(10, 66),
             log={"label_smoothing": 0.1}, batch={"label_smoothing": 0.1}, **OVER),
    mistaken("smoothing", "twice, K = 3", "keras", "categorical smoothed twice", Data(3, 67),
             hidden=16, steps=600, log={"label_smoothing": 0.1}, batch={"label_smoothing": 0.1},
             **ADAM),
    mistaken("smoothing", "forgotten, K = 3", "torch", "ce", Data(3, 68),
             log={"label_smoothing": 0.1}, batch={"label_smoothing": 0.1}, **OVER),
    mistaken("wrong-reduction", "sum, zero weights", "torch", "sum", Data(10, 69), rows=16,
             rate=0.02, scale=0.0),
    mistaken("wrong-reduction", "sum, hidden layer", "torch", "sum", Data(3, 70), hidden=16,
             rate=0.01),
    mistaken("wrong-reduction", "sum, zero weights", "jax", "sum", Data(3, 71), rate=0.01,
             scale=0.0),
    mistaken("wrong-reduction", "weights, mean over rows", "torch", "weighted over rows",
             Data(3, 72), log={"weight": WEIGHT}, batch={"weight": WEIGHT}),
    mistaken("wrong-reduction", "ignored rows are counted", "jax", "ignored over rows",
             Data(10, 73, ignored=0.3), scale=0.0),
    mistaken("wrong-axis", "softmax over the batch, zero weights", "torch", "over the batch",
             Data(3, 74), scale=0.0),
    mistaken("wrong-axis", "softmax over the batch, hidden layer", "torch", "over the batch",
             Data(3, 75), **OVER),
    mistaken("wrong-axis", "softmax over the batch of 16", "jax", "over the batch", Data(10, 76),
             rows=16, scale=0.0),
    mistaken("logits-for-probabilities", "sparse", "keras", "sparse of logits", Data(10, 77)),
    mistaken("logits-for-probabilities", "one-hot", "keras", "categorical of logits", Data(3, 78)),
    mistaken("logits-for-probabilities probability-guard", "binary", "keras", "binary of logits",
             Data(1, 79, labels="binary"), rows=8),
    mistaken("probabilities-for-logs", "nll_loss of a softmax", "torch", "nll of softmax",
             Data(10, 80)),
    mistaken("probabilities-for-logs", "kl_div of a softmax", "torch", "kl of softmax",
             Data(3, 81), shows="probabilities"),
    mistaken("probabilities-for-logs", "kl_divergence of a softmax", "jax", "kl of softmax",
             Data(3, 82)),
    mistaken("logits-for-log-probabilities", "nll_loss of logits", "torch", "nll of logits",
             Data(10, 83)),
    mistaken("logits-for-log-probabilities", "kl_divergence of logits", "jax", "kl of logits",
             Data(3, 84)),
    mistaken("labels-mixed", "class indices in softmax_cross_entropy", "jax", "index for one-hot",
             Data(3, 85), rate=0.05),
    mistaken("labels-mixed", "class indices times log_softmax", "torch", "index for one-hot",
             Data(10, 86), rate=0.05),
    mistaken("labels-out-of-range", "counted from 1", "jax", "counted from 1", Data(3, 87)),
    mistaken("labels-out-of-range", "-1 for what is not labelled", "jax", "minus one",
             Data(10, 88, ignored=0.2)),
    mistaken("labels-not-normalised", "sums from 1 to 2", "torch", "sums above 1",
             Data(3, 89, labels="soft")),
    mistaken("labels-not-normalised", "sums from 1 to 2", "jax", "sums above 1",
             Data(10, 90, labels="soft")),
    mistaken("labels-outside-0-1 logits-for-log-probabilities", "labels -1 and 1", "torch",
             "bce of signs", BINARY, rate=0.1),
    mistaken("labels-outside-0-1 logits-for-log-probabilities", "labels -1 and 1", "jax",
             "bce of signs", Data(1, 91, labels="binary"), rate=0.1),
    mistaken("labels-broadcast", "(N, 1) against (N,)", "jax", "bce broadcast",
             Data(1, 92, labels="binary")),
    mistaken("labels-broadcast", "(N, 1) against (N,)", "torch", "bce broadcast",
             Data(1, 93, labels="binary")),
)  # fmt: skip

# --- models, the same in every framework: parameters and optimisers are NumPy's ------------------

EPS = 0.1


def smooth(q: Any, classes: int, over: int) -> Any:
    """eps over all K classes, or over the K - 1 others."""
    if over == classes:
        return (1.0 - EPS) * q + EPS / classes
    return (1.0 - EPS) * q + EPS / (classes - 1) * (1.0 - q)


def parameters(run: Run, width: int, out: int) -> list[Numbers]:
    rng = np.random.default_rng(1000 + run.data.seed)
    sizes = [width, run.hidden, out] if run.hidden else [width, out]
    dtype = np.float64 if run.wide else np.float32
    found = []
    for a, b in pairwise(sizes):
        found += [(run.scale * rng.normal(size=(a, b))).astype(dtype), np.zeros(b, dtype)]
    return found


class Optimiser:
    """Plain descent, momentum of 0.9, or Adam, in NumPy: the same for every framework."""

    def __init__(self, run: Run) -> None:
        self.run, self.steps = run, 0
        self.first: list[Numbers] = []
        self.second: list[Numbers] = []

    def step(self, values: list[Numbers], slopes: list[Numbers]) -> list[Numbers]:
        run = self.run
        slopes = [g + run.decay * p for p, g in zip(values, slopes, strict=True)]
        self.steps += 1
        fresh = {"sgd": 1.0, "momentum": 1.0, "adam": 0.1}[run.optimiser]
        keep = 0.0 if run.optimiser == "sgd" else 0.9
        before = self.first or [0.0 * g for g in slopes]
        self.first = [keep * m + fresh * g for m, g in zip(before, slopes, strict=True)]
        moves = self.first
        if run.optimiser == "adam":
            before = self.second or [0.0 * g for g in slopes]
            self.second = [0.999 * v + 0.001 * g * g for v, g in zip(before, slopes, strict=True)]
            down, up = 1.0 - 0.9**self.steps, 1.0 - 0.999**self.steps
            both = zip(self.first, self.second, strict=True)
            moves = [(m / down) / (np.sqrt(v / up) + 1e-8) for m, v in both]
        return [(p - run.rate * g).astype(p.dtype) for p, g in zip(values, moves, strict=True)]


def forward(library: Any, x: Any, values: list[Any]) -> Any:
    h = x
    for place in range(0, len(values), 2):
        h = h @ values[place] + values[place + 1]
        if place + 2 < len(values):
            h = library.tanh(h)
    return h


def onehot(y: Numbers, classes: int) -> Numbers:
    return np.eye(classes, dtype=np.float32)[y]


# --- the losses ----------------------------------------------------------------------------------


def as_given(run: Run, y: Numbers) -> Numbers:
    """The targets that the op is given, and `diagnose`, where they are not those of the data."""
    k = run.data.classes
    if run.loss in ("of smoothed targets", "smoothed twice"):
        return smooth(onehot(y, k), k, k).astype(np.float32)
    if run.loss == "counted from 1":
        return y + 1
    if run.loss == "minus one":
        return np.where(y == -100, -1, y)
    if run.loss == "sums above 1":
        return (y * (1.0 + np.arange(len(y)) % 5 / 4.0)[:, None]).astype(np.float32)
    if run.loss == "bce of signs":
        return 2.0 * y - 1.0
    if run.loss == "bce broadcast":
        return y[:, 0]
    return y


class Torch:
    """torch.nn.functional."""

    def __init__(self) -> None:
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)
        self.library, self.f = torch, torch.nn.functional

    def losses(self, k: int) -> dict[str, Loss]:
        f, torch = self.f, self.library
        weight = torch.tensor(WEIGHT)

        def hot(y: Any) -> Any:
            return f.one_hot(y, k).to(torch.float32)

        def over_batch(z: Any, y: Any) -> Any:
            return f.nll_loss(f.log_softmax(z, dim=0), y)

        def broadcast(z: Any, y: Any) -> Any:
            return (f.softplus(z) - z * y).mean()

        return {
            "ce": f.cross_entropy,
            "weighted": lambda z, y: f.cross_entropy(z, y, weight=weight),
            "weighted over rows": lambda z, y: f.cross_entropy(
                z, y, weight=weight, reduction="none"
            ).mean(),
            "smoothed": lambda z, y: f.cross_entropy(z, y, label_smoothing=EPS),
            "of smoothed targets": f.cross_entropy,
            "smoothed twice": lambda z, q: f.cross_entropy(z, q, label_smoothing=EPS),
            "eps/(K-1)": lambda z, y: f.cross_entropy(z, smooth(hot(y), k, k - 1)),
            "sum": lambda z, y: f.cross_entropy(z, y, reduction="sum"),
            "ce of softmax": lambda z, y: f.cross_entropy(f.softmax(z, dim=1), y),
            "over the batch": over_batch,
            "nll of softmax": lambda z, y: f.nll_loss(f.softmax(z, dim=1), y),
            "nll of logits": f.nll_loss,
            "kl of softmax": lambda z, y: f.kl_div(
                f.softmax(z, dim=1), hot(y), reduction="batchmean"
            ),
            "index for one-hot": lambda z, y: (
                -(y[:, None] * f.log_softmax(z, dim=1)).sum(dim=1).mean()
            ),
            "sums above 1": f.cross_entropy,
            "bce": f.binary_cross_entropy_with_logits,
            "bce of signs": f.binary_cross_entropy_with_logits,
            "bce of sigmoid": lambda z, y: f.binary_cross_entropy(torch.sigmoid(z), y),
            "bce of sigmoid as logits": lambda z, y: f.binary_cross_entropy_with_logits(
                torch.sigmoid(z), y
            ),
            "bce broadcast": broadcast,
        }

    def ask(
        self, loss: Loss, values: list[Numbers], x: Numbers, y: Numbers
    ) -> tuple[Numbers, list[Numbers], Numbers]:
        """The loss, the gradients, and the logits."""
        torch = self.library
        held = [torch.tensor(v, requires_grad=True) for v in values]
        z = forward(torch, torch.tensor(x.astype(values[0].dtype)), held)
        aim = torch.tensor(y)
        came = loss(z, aim if aim.dtype == torch.int64 else aim.to(z.dtype))
        came.backward()
        return came.detach().numpy(), [v.grad.numpy() for v in held], z.detach().numpy()

    def share(self, z: Numbers, binary: bool) -> Numbers:
        given = self.library.tensor(z)
        return (self.library.sigmoid(given) if binary else self.f.softmax(given, dim=1)).numpy()


class Jax:
    """optax, in float32."""

    def __init__(self) -> None:
        import jax  # noqa: PLC0415
        import optax  # noqa: PLC0415

        self.jax, self.library, self.optax = jax, jax.numpy, optax
        self.made: dict[Any, Any] = {}

    def losses(self, k: int) -> dict[str, Loss]:
        jax, jnp, optax = self.jax, self.library, self.optax
        integer = optax.softmax_cross_entropy_with_integer_labels
        plain, binary = optax.softmax_cross_entropy, optax.sigmoid_binary_cross_entropy

        def hot(y: Any) -> Any:
            return jax.nn.one_hot(y, k)

        def over_batch(z: Any, y: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(z, axis=0), y[:, None], axis=1).mean()

        return {
            "ce": lambda z, y: integer(z, y).mean(),
            "smoothed": lambda z, y: plain(z, optax.smooth_labels(hot(y), 2 * EPS)).mean(),
            "eps/(K-1)": lambda z, y: plain(z, smooth(hot(y), k, k - 1)).mean(),
            "sum": lambda z, y: integer(z, y).sum(),
            "ignored over rows": lambda z, y: jnp.where(
                y == -100, 0.0, integer(z, jnp.maximum(y, 0))
            ).mean(),
            "ce of softmax": lambda z, y: integer(jax.nn.softmax(z), y).mean(),
            "over the batch": over_batch,
            "kl of softmax": lambda z, y: optax.kl_divergence(jax.nn.softmax(z), hot(y)).mean(),
            "kl of logits": lambda z, y: optax.kl_divergence(z, hot(y)).mean(),
            "index for one-hot": lambda z, y: plain(z, y[:, None]).mean(),
            "counted from 1": lambda z, y: plain(z, hot(y)).mean(),
            "minus one": lambda z, y: integer(z, y).mean(),
            "sums above 1": lambda z, q: plain(z, q).mean(),
            "bce": lambda z, y: binary(z, y).mean(),
            "bce of signs": lambda z, y: binary(z, y).mean(),
            "bce of sigmoid": lambda z, y: binary(jax.nn.sigmoid(z), y).mean(),
            "bce broadcast": lambda z, y: binary(z, y).mean(),
        }

    def ask(
        self, loss: Loss, values: list[Numbers], x: Numbers, y: Numbers
    ) -> tuple[Numbers, list[Numbers], Numbers]:
        def whole(held: Any, points: Any, aim: Any) -> tuple[Any, Any]:
            z = forward(self.library, points, held)
            return loss(z, aim), z

        if loss not in self.made:
            self.made[loss] = self.jax.jit(self.jax.value_and_grad(whole, has_aux=True))
        (came, z), slopes = self.made[loss](values, x, y)
        return np.asarray(came), [np.asarray(g) for g in slopes], np.asarray(z)

    def share(self, z: Numbers, binary: bool) -> Numbers:
        nn = self.jax.nn
        return np.asarray(nn.sigmoid(z) if binary else nn.softmax(z))


class TensorFlow:
    """tf.nn, and Keras on TensorFlow."""

    def __init__(self) -> None:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras  # noqa: PLC0415
        import tensorflow as tf  # noqa: PLC0415

        self.tf, self.keras = tf, keras
        self.library = tf.math

    def losses(self, k: int) -> dict[str, Loss]:
        tf, made = self.tf, self.keras.losses

        def hot(y: Any) -> Any:
            return tf.one_hot(y, k)

        sparse, of_logits = (
            made.SparseCategoricalCrossentropy(),
            made.SparseCategoricalCrossentropy(from_logits=True),
        )
        categorical = made.CategoricalCrossentropy()
        smoothed = made.CategoricalCrossentropy(from_logits=True, label_smoothing=EPS)
        binary, binary_logits = (
            made.BinaryCrossentropy(),
            made.BinaryCrossentropy(from_logits=True),
        )
        integer = tf.nn.sparse_softmax_cross_entropy_with_logits
        return {
            "ce": lambda z, y: tf.reduce_mean(integer(y, z)),
            "sparse logits": lambda z, y: of_logits(y, z),
            "sparse logits of softmax": lambda z, y: of_logits(y, tf.identity(tf.nn.softmax(z))),
            "sparse": lambda z, y: sparse(y, tf.identity(tf.nn.softmax(z))),
            "sparse of logits": lambda z, y: sparse(y, tf.identity(z)),
            "categorical": lambda z, y: categorical(hot(y), tf.nn.softmax(z)),
            "categorical of logits": lambda z, y: categorical(hot(y), z),
            "categorical smoothed": lambda z, y: smoothed(hot(y), z),
            "categorical smoothed twice": lambda z, y: smoothed(smooth(hot(y), k, k), z),
            "binary": lambda z, y: binary(y, tf.sigmoid(z)),
            "binary of logits": lambda z, y: binary(y, z),
            "binary logits of sigmoid": lambda z, y: binary_logits(y, tf.identity(tf.sigmoid(z))),
        }

    def ask(
        self, loss: Loss, values: list[Numbers], x: Numbers, y: Numbers
    ) -> tuple[Numbers, list[Numbers], Numbers]:
        tf = self.tf
        held = [tf.Variable(v) for v in values]
        with tf.GradientTape() as tape:
            z = forward(self.library, tf.constant(x), held)
            came = loss(z, tf.constant(y))
        slopes = tape.gradient(came, held)
        zero = [np.zeros_like(v) for v in values]
        found = [n if g is None else g.numpy() for g, n in zip(slopes, zero, strict=True)]
        return came.numpy(), found, z.numpy()

    def share(self, z: Numbers, binary: bool) -> Numbers:
        return (self.tf.sigmoid(z) if binary else self.tf.nn.softmax(z)).numpy()


MADE: dict[str, Any] = {}


def made(framework: str) -> Any:
    """A framework, imported once."""
    kinds = {"torch": Torch, "jax": Jax, "keras": TensorFlow, "tensorflow": TensorFlow}
    kind = kinds[framework]
    if kind.__name__ not in MADE:
        MADE[kind.__name__] = kind()
    return MADE[kind.__name__]


# --- trainings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """What a training leaves, as JSON holds it."""

    name: str
    framework: str
    mistakes: list[str]
    dtype: str
    losses: list[float]
    log: dict[str, Any]
    predictions: list[Any]
    targets: list[Any]
    loss: float
    batch: dict[str, Any]


def train(run: Run) -> Trained:
    """One training: its log, and the batch that was asked for."""
    on = made(run.framework)
    k = run.data.classes
    x, raw = run.data.make()
    y = as_given(run, raw)
    loss = on.losses(k)[run.loss]
    values, optimiser = parameters(run, x.shape[1], k), Optimiser(run)
    rng = np.random.default_rng(run.data.seed)
    rows, log, taken = run.rows or len(x), [], None
    few = len(x) if k == 1 else 16
    for step in range(run.steps):
        part = rng.permutation(len(x))[:rows] if run.rows else np.arange(len(x))
        if step == run.at % run.steps:
            here = np.arange(len(x))[:few]
            came, _, z = on.ask(loss, values, x[here], y[here])
            taken = (z, y[here], came)
        came, slopes, _ = on.ask(loss, values, x[part], y[part])
        if not np.isfinite(came):
            break
        log.append(came)
        values = optimiser.step(values, slopes)
    if taken is None:
        raise SystemExit(f"{run.name}: no batch, since the loss was not finite after {len(log)}")
    z, target, came = taken
    binary = k == 1 or run.data.labels == "several"
    shown = z if run.shows == "logits" else on.share(z, binary)
    places = np.unique(np.linspace(0, len(log) - 1, KEPT).astype(int))
    said = dict(run.log) if run.data.labels == "several" else {
        "classes": max(k, 2), "batch": rows, **run.log
    }  # fmt: skip
    if run.data.labels == "binary" or (run.loss == "over the batch" and rows == len(x)):
        said["targets"] = raw.reshape(-1).astype(int).tolist()
    return Trained(
        run.name, run.framework, list(run.mistakes), str(z.dtype),
        shortest(np.array(log)[places]), said, shortest(shown), shortest(target),
        shortest(came), dict(run.batch),
    )  # fmt: skip


def shortest(values: Numbers) -> Any:
    """The numbers with as few digits as tell them from others of their format."""
    values = np.asarray(values)
    if values.dtype != np.float32:
        return values.tolist()
    return np.array([float(str(v)) for v in values.reshape(-1)]).reshape(values.shape).tolist()


def diagnosed(trained: Trained) -> tuple[Diagnosed, Diagnosed]:
    """By the log, and by the batch."""
    dtype = np.dtype(trained.dtype)
    losses = np.asarray(trained.losses, dtype)
    said = dict(trained.log)
    by_log = lossaudit.diagnose(None, said.pop("targets", None), losses, **said)
    target = np.asarray(trained.targets)
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    predictions = np.asarray(trained.predictions, dtype)
    came = np.asarray(trained.loss, dtype)
    return by_log, lossaudit.diagnose(predictions, target, came, **trained.batch)


@dataclass(frozen=True)
class Judged:
    """A training, and the misuses that were named by its log and by its batch."""

    trained: Trained
    by_log: tuple[str, ...]
    by_batch: tuple[str, ...]


def judged(trained: Trained) -> Judged:
    by_log, by_batch = diagnosed(trained)
    return Judged(trained, by_log.misuses, by_batch.misuses)


def table(all_judged: list[Judged]) -> str:
    """What was made and what was said, in Markdown."""
    lines = [
        "| framework | training | mistake | by its log | by a batch |",
        "|---|---|---|---|---|",
    ]
    for each in all_judged:
        by_log, by_batch = (", ".join(named) or "–" for named in (each.by_log, each.by_batch))
        of = each.trained
        what = ", ".join(of.mistakes) or "none"
        lines.append(f"| {of.framework} | {of.name} | {what} | {by_log} | {by_batch} |")
    return "\n".join([*lines, "", *counts(all_judged)])


def counts(all_judged: list[Judged]) -> Iterator[str]:
    """Hits and false alarms."""
    honest = [each for each in all_judged if not each.trained.mistakes]
    rest = [each for each in all_judged if each.trained.mistakes]
    for what in ("log", "batch"):
        alarms = sum(bool(getattr(each, f"by_{what}")) for each in honest)
        named = [set(getattr(each, f"by_{what}")) for each in rest]
        due = [set(each.trained.mistakes) for each in rest]
        hits = sum(bool(n & d) for n, d in zip(named, due, strict=True))
        wrong = sum(bool(n - d) for n, d in zip(named, due, strict=True))
        yield (
            f"By the {what}: {hits} of {len(rest)} mistakes named, {wrong} with another name "
            f"beside or in place of it, {alarms} false alarms in {len(honest)} honest trainings.  "
        )


def drawn(seed: int) -> Run:
    """An honest training of torch with everything drawn at random."""
    rng = np.random.default_rng(seed)
    pick = lambda *each: each[rng.integers(len(each))]  # noqa: E731
    k = pick(2, 3, 5, 10)
    data = Data(k, 10_000 + seed, pick(32, 64, 200), pick(0.5, 2.0, 4.0), pick(0.0, 0.1, 0.5))
    loss = pick("ce", "ce", "smoothed")
    told = {"label_smoothing": EPS} if loss == "smoothed" and rng.random() < 0.5 else {}
    optimiser = pick("sgd", "momentum", "adam")
    rate = pick(0.01, 0.05) if optimiser == "adam" else pick(0.05, 0.5, 2.0, 30.0)
    return Run(
        f"drawn {seed}", "torch", (), loss, data, hidden=pick(0, 16), steps=pick(100, 400, 1500),
        rate=rate, rows=pick(0, 8, 16), optimiser=optimiser, decay=pick(0.0, 0.0, 0.01, 0.1),
        scale=pick(0.0, 0.3, 1.0), log=told, batch=told,
    )  # fmt: skip


def drawn_alarms(many: int) -> str:
    """False alarms in honest trainings that were drawn at random."""
    alarms = []
    for seed in range(many):
        trained = train(drawn(seed))
        for place, found in zip(("log", "batch"), diagnosed(trained), strict=True):
            alarms += [f"{trained.name}, {place}: {each}" for each in found]
    return "\n".join([*alarms, f"{len(alarms)} false alarms in {many} honest trainings"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replay", action="store_true", help="of the logs that are there")
    parser.add_argument("--honest", type=int, default=0, help="so many more, drawn at random")
    parser.add_argument("--only", default="", help="trainings whose name or mistake holds this")
    arguments = parser.parse_args()
    if arguments.honest:
        print(drawn_alarms(arguments.honest))
        return
    if arguments.replay:
        found = [Trained(**each) for each in json.loads(LOGS.read_text(encoding="utf-8"))]
    else:
        found = []
        for run in (*HONEST, *MISTAKEN):
            if arguments.only in f"{run.framework} {run.name} {run.mistakes}":
                began = time.monotonic()
                found.append(train(run))
                print(f"{run.framework}: {run.name}, {time.monotonic() - began:.1f} s", flush=True)
    text = table([judged(each) for each in found])
    print(text)
    if not arguments.replay and not arguments.only:
        LOGS.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(vars(each), separators=(",", ":")) for each in found)
        LOGS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    if not arguments.only:
        before, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
        PAGE.write_text(f"{before}{MARK}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
