"""The vocabulary of worked examples: what can be computed, of which fields, by the reference.

Each figure is correctly rounded by `reference.api` for the float64 numbers nearest to what is
printed, or made of such figures with a few roundings. What that leaves open (`figures.NOISE`) is
less than 1e-12, where examples print at most seven digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...reference import api
from ...reference.exact import round_exact
from ...reference.formats import FORMATS
from ...reference.rows import truth
from ...reference.vocabulary import Case, Floats, Options, Semantics
from ..misuse import forms
from .entries import Example, ExamplesError, Field
from .quantities import (
    GRADIENT,
    LOSS,
    Ask,
    Computed,
    Quantity,
    binary_logit,
    entry_of_gradient,
    first,
    logits_of,
    mean,
    of_binary,
    of_distribution,
    of_divergence,
    one,
    row_of_gradient,
    scalars,
    together,
    whole,
)

Mistaken = Iterator[tuple[str, Example]]
"""(a mistake in the input, in words; the example with it)."""


def no_more(example: Example) -> Mistaken:
    """For operations whose inputs are mistaken in the usual ways alone."""
    del example
    yield from ()


@dataclass(frozen=True)
class Operation:
    """One thing that an example can compute.

    Attributes:
        says: in a sentence.
        fields: what it takes.
        figures: what it gives, each in words.
        compute: the reference's figures.
        mistaken: inputs that may have been taken for its own, beside those of `mistakes.inputs`.
    """

    says: str
    fields: Mapping[str, Field]
    figures: Mapping[str, str]
    compute: Callable[[Example], Computed]
    mistaken: Callable[[Example], Mistaken] = no_more


def _fault(example: Example, words: str) -> ExamplesError:
    return ExamplesError(f"example {example.id}, {example.operation}: {words}")


def _nll(p: Floats) -> Floats:
    """-log p of probabilities."""
    return np.asarray(api.binary_cross_entropy(p, np.ones_like(p), reduction="none"))


def _cross_entropies(q: Floats, target: np.ndarray) -> Floats:
    """-sum_j t_j log q_j of rows."""
    return np.asarray(api.cross_entropy_probabilities(q, target, reduction="none"))


def _divergences(q: Floats, target: Floats) -> Floats:
    """sum_j t_j log(t_j / q_j) of rows."""
    case = Case("kl_divergence_probabilities", "float64", q, target)
    return round_exact(truth(case, Semantics()).loss, FORMATS["float64"])


# --- distributions --------------------------------------------------------------------------------


def _distributions(example: Example) -> Computed:
    p, models = example.numbers("p"), np.atleast_2d(example.numbers("q"))
    if models.shape[1] != len(p):
        raise _fault(example, "'p' and 'q' must be of one length")
    several = len(models) > 1
    cases = tuple(f"model {i}" for i in range(1, len(models) + 1)) if several else ("",)
    each, alone = np.diag(p), p[None]

    def repeated(q: Floats) -> Floats:
        return np.tile(q, (len(p), 1))

    def terms(function: Callable[[Floats, Floats], Floats], qs: Floats) -> tuple[Floats, ...]:
        return tuple(function(repeated(q), each) for q in qs)

    def entropic(values: tuple[Floats, ...], asks: tuple[tuple[Ask, ...], ...]) -> Quantity:
        return Quantity(values, cases, information=True, asks=asks)

    own = np.tile(p, (len(models), 1))
    return Computed(
        {
            "entropy": Quantity(
                scalars(_cross_entropies(alone, alone)),
                information=True,
                asks=together([of_distribution(alone, alone)]),
            ),
            "cross_entropy": entropic(
                scalars(_cross_entropies(models, own)),
                together(of_distribution(q[None], alone) for q in models),
            ),
            "kl": entropic(
                scalars(_divergences(models, own)),
                together(of_divergence(q[None], alone) for q in models),
            ),
            "terms_entropy": Quantity(
                terms(_cross_entropies, alone),
                information=True,
                asks=together([of_distribution(repeated(p), each, whole)]),
            ),
            "terms_cross_entropy": entropic(
                terms(_cross_entropies, models),
                together(of_distribution(repeated(q), each, whole) for q in models),
            ),
            "terms_kl": entropic(
                terms(_divergences, models),
                together(of_divergence(repeated(q), each, whole) for q in models),
            ),
        }
    )


# --- one probability ------------------------------------------------------------------------------


def _of_probability(example: Example) -> Computed:
    if ("p" in example) is ("pairs" in example):
        raise _fault(example, "it takes either 'p' or 'pairs'")
    if "pairs" in example:
        pairs = example.numbers("pairs")
        cases = tuple(f"from {a:g} to {b:g}" for a, b in pairs)
        fall = _nll(pairs[:, 0]) - _nll(pairs[:, 1])

        def read(loss: Floats, gradient: Floats) -> Floats:
            del gradient
            return loss[0] - loss[1]

        asks = together(of_binary(pair, np.ones(2), read) for pair in pairs)
        return Computed(
            {"reduction_of_loss": Quantity(scalars(fall), cases, information=True, asks=asks)}
        )
    p = np.atleast_1d(example.numbers("p"))
    cases = tuple(f"p = {each:g}" for each in p) if p.size > 1 else ("",)
    slope = np.asarray(api.binary_cross_entropy_grad(p, np.ones_like(p), reduction="none"))
    ones = np.ones(1)
    by_p = tuple(
        Ask(
            "binary_cross_entropy", x.reshape(1, 1), np.ones((1, 1)), entry_of_gradient(0), GRADIENT
        )
        for x in p
    )
    return Computed(
        {
            "loss": Quantity(
                scalars(_nll(p)),
                cases,
                information=True,
                asks=together(of_binary(x, ones) for x in p),
            ),
            "gradient": Quantity(scalars(slope), cases, asks=(by_p,)),
        }
    )


def _of_row(example: Example) -> Computed:
    p, target = example.numbers("p")[None], np.array([int(example["target"])])
    if target[0] >= p.shape[1]:
        raise _fault(example, f"there is no class {target[0]} among {p.shape[1]}")
    loss = _cross_entropies(p, target)
    asks = together([of_distribution(p, target)])
    return Computed({"loss": Quantity(scalars(loss), information=True, asks=asks)})


def _by_logit(example: Example) -> Computed:
    p, y = example.numbers("p"), example.numbers("y")
    error = p - y
    asks = ()
    if 0 < p < 1:
        z, label = binary_logit(p).reshape(1, 1), y.reshape(1, 1)
        read = entry_of_gradient(0)
        asks = ((Ask("binary_cross_entropy_with_logits", z, label, read, GRADIENT),),)
    return Computed(
        {
            "cross_entropy": Quantity(one(error), asks=asks),
            "squared_error": Quantity(one(error * p * (1 - p))),
        }
    )


# --- binary labels --------------------------------------------------------------------------------


def _binary(example: Example) -> Computed:
    if ("p" in example) is ("gradient_wrt_logit" in example):
        raise _fault(example, "it takes either 'p' or 'gradient_wrt_logit'")
    y, words, more = example.numbers("y"), [], {}
    if "p" in example:
        p = np.atleast_2d(example.numbers("p"))
    else:
        p = example.numbers("gradient_wrt_logit") + y[None]
        if p.size > 1:
            raise _fault(example, "a gradient is of one prediction")
        more["probability"] = Quantity(one(p.item()))
    if p.shape[1] != len(y):
        raise _fault(example, "'p' and 'y' must be of one length")
    if not ((p >= 0) & (p <= 1)).all():
        raise _fault(example, f"the gradient says a probability of {p.item():g}")
    cases = tuple(f"predictor {i}" for i in range(1, len(p) + 1)) if len(p) > 1 else ("",)
    losses = [np.asarray(api.binary_cross_entropy(row, y)) for row in p]
    sums = [np.asarray(api.binary_cross_entropy(row, y, reduction="sum")) for row in p]
    asks = together(of_binary(row, y, mean) for row in p)
    undivided = ((f"the number of samples, {len(y)}", scalars(sums)),) if len(y) > 1 else ()
    found = {
        "loss": Quantity(scalars(losses), cases, information=True, undivided=undivided, asks=asks),
        **more,
    }
    if "clip" in example:
        eps = float(example["clip"])
        clipped = [
            np.asarray(api.binary_cross_entropy(row, y, guard="clip", guard_eps=eps)) for row in p
        ]
        found["loss_clipped"] = Quantity(scalars(clipped), cases, information=True)
        words.append(_clipping(eps, np.array(losses), np.array(clipped)))
    if more:
        loss = float(losses[0])
        words.append(f"The gradient says p = {p.item():g}, whose loss is {loss:.6g}.")
    return Computed(found, tuple(words))


def _clipping(eps: float, plain: Floats, clipped: Floats) -> str:
    gap = float(np.abs(plain - clipped).max())
    if gap:
        return f"Clipping at {eps:g} moves the loss by at most {gap:.1e}."
    return f"Clipping at {eps:g} changes no bit of the loss in float64: nothing lies outside."


def _binary_with_logits(example: Example) -> Computed:
    z, y = example.numbers("logits"), example.numbers("y")
    if z.shape != y.shape:
        raise _fault(example, "'logits' and 'y' must be of one length")
    cases = tuple(f"z = {a:g}, y = {b:g}" for a, b in zip(z, y, strict=True))
    cases = cases if z.size > 1 else ("",)
    losses = np.asarray(api.binary_cross_entropy_with_logits(z, y, reduction="none"))
    slopes = np.asarray(api.binary_cross_entropy_with_logits_grad(z, y, reduction="none"))

    def asks(read: str, plus: Floats) -> tuple[tuple[Ask, ...], ...]:
        def gradient(label: float) -> Callable[[Floats, Floats], Floats]:
            return lambda _, g: g[0, 0] + label

        op = "binary_cross_entropy_with_logits"
        return (
            tuple(
                Ask(op, np.full((1, 1), a), np.full((1, 1), b), f, read)
                for a, b, f in zip(
                    z, y, [first if read == LOSS else gradient(c) for c in plus], strict=True
                )
            ),
        )

    return Computed(
        {
            "probability": Quantity(
                scalars(np.asarray(api.sigmoid(z))), cases, asks=asks(GRADIENT, y)
            ),
            "loss": Quantity(scalars(losses), cases, information=True, asks=asks(LOSS, y)),
            "gradient": Quantity(scalars(slopes), cases, asks=asks(GRADIENT, 0 * y)),
        }
    )


# --- classes --------------------------------------------------------------------------------------


def _classes(example: Example) -> Computed:
    z = np.atleast_2d(example.numbers("logits")) / float(example.fields.get("temperature", 1))
    heat = float(example.fields.get("temperature", 1))
    target = np.atleast_1d(np.array(example["target"], np.int64))
    n, k = z.shape
    if len(target) != n:
        raise _fault(example, f"{n} rows of 'logits' and {len(target)} of 'target'")
    if target.max() >= k:
        raise _fault(example, f"there is no class {target.max()} among {k}")
    averaged = example.fields.get("reduction", "none") == "mean"
    cases = tuple(f"row {i}" for i in range(n)) if n > 1 else ("",)
    label, by = np.eye(k)[target], n if averaged else 1
    p = np.asarray(api.softmax(z))
    losses = np.asarray(api.cross_entropy(z, target, reduction="none"))
    slopes = np.asarray(api.cross_entropy_grad(z, target, reduction="none")) / heat / by
    if given := example.fields.get("_probabilities"):  # a mistake: taken for the softmax of a row
        for row, printed in given.items():
            p[row] = printed
            losses[row] = _nll(p[row, target[row]])
            slopes[row] = (p[row] - label[row]) / heat / by
    divisors = [(f"the number of rows, {n}", n)] if averaged and n > 1 else []
    divisors += [(f"the temperature, {heat:g}", heat)] if heat != 1 else []
    undivided = tuple((words, tuple(slopes * each)) for words, each in divisors)

    def rows(read: str, function: Callable[[int], Callable]) -> tuple[Ask, ...]:
        return tuple(
            Ask("cross_entropy", z[i : i + 1], target[i : i + 1], function(i), read)
            for i in range(n)
        )

    def softmax(row: int) -> Callable[[Floats, Floats], Floats]:
        return lambda _, gradient: gradient[0] + label[row]

    entropies = _cross_entropies(p, p)
    found = {
        "probabilities": Quantity(
            tuple(p),
            cases,
            asks=(
                tuple(Ask("softmax", np.tile(z[i], (k, 1)), np.arange(k), whole) for i in range(n)),
                rows(GRADIENT, softmax),
            ),
        ),
        "entropy": Quantity(
            scalars(entropies),
            cases,
            information=True,
            asks=(
                tuple(
                    Ask("cross_entropy", r[None], q[None], first) for r, q in zip(z, p, strict=True)
                ),
            ),
        ),
    }
    if averaged:
        loss = one(losses.mean() if given else float(np.asarray(api.cross_entropy(z, target))))
        reduced = Options(reduction="mean")
        found["loss"] = Quantity(
            loss,
            information=True,
            undivided=((f"the number of rows, {n}", one(losses.sum())),),
            asks=(
                (Ask("cross_entropy", z, target, whole, options=reduced),),
                (Ask("cross_entropy", z, target, mean),),
            ),
        )
        by_row = (
            tuple(
                Ask("cross_entropy", z, target, row_of_gradient(i, heat), GRADIENT, reduced)
                for i in range(n)
            ),
            rows(GRADIENT, lambda _: row_of_gradient(0, heat * n)),
        )
    else:
        found["loss"] = Quantity(
            scalars(losses), cases, information=True, asks=(rows(LOSS, lambda _: first),)
        )
        by_row = (rows(GRADIENT, lambda _: row_of_gradient(0, heat)),)
    found["gradient"] = Quantity(tuple(slopes), cases, undivided=undivided, asks=by_row)
    words = _naive(z)
    if "clip" in example:
        eps = float(example["clip"])
        clipped = np.asarray(
            api.cross_entropy_probabilities(
                p, target, guard="clip", guard_eps=eps, reduction="none"
            )
        )
        found["loss_clipped"] = Quantity(scalars(clipped), cases, information=True)
        gap = float(np.abs(clipped - losses).max())
        words.append(
            f"From probabilities clipped at {eps:g} the loss is within {gap:.1e} of that from "
            "logits, in float64."
        )
    return Computed(found, tuple(words))


def _naive(z: Floats) -> list[str]:
    """What exp(z) / sum exp(z) as it is written gives, where that is no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        naive = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if np.isfinite(naive).all():
        return []
    return [f"exp(z) / sum exp(z) as it is written gives {naive.min():g} in float64."]


def _printed_probabilities(example: Example) -> Mistaken:
    """Probabilities that another example of the source prints of the same logits."""
    rows = np.atleast_2d(example.numbers("logits")).tolist()
    for printed in example.printed:
        given = {i: printed.probabilities for i, row in enumerate(rows) if row == [*printed.logits]}
        words = f"the probabilities that {printed.example} prints"
        yield words, example.given(_probabilities=given)


# --- label smoothing ------------------------------------------------------------------------------


def _smoothing(example: Example) -> Computed:
    if ("target" in example) is ("classes" in example):
        raise _fault(example, "it takes either 'target' or 'classes'")
    eps, convention = float(example["eps"]), example.fields.get("convention", "eps/K")
    if not 0 <= eps <= 1:
        raise _fault(example, f"eps = {eps:g} is not in [0, 1]")
    if "classes" in example:
        return _smoothed_labels(eps, [int(k) for k in example["classes"]], convention)
    label = example.numbers("target")
    k = len(label)
    if k < 2 or sorted(label) != [0.0] * (k - 1) + [1.0]:
        raise _fault(example, "'target' must hold one 1, and 0 for each other class")
    others = k if convention == "eps/K" else k - 1
    rest = 1.0 if convention == "eps/K" else 1.0 - label
    smoothed = label * (1 - eps) + eps * rest / others
    undivided = ((f"the number of classes, {others}", (label * (1 - eps) + eps * rest,)),)
    ask = _smoothing_asked(eps, k, convention, int(label.argmax()), lambda q: q)
    return Computed({"smoothed": Quantity((smoothed,), undivided=undivided, asks=ask)})


def _smoothed_labels(eps: float, classes: list[int], convention: str) -> Computed:
    """The two numbers of a smoothed label for several K, and the eps of the other convention."""
    shares = [forms.share_of(eps, k, convention) for k in classes]
    pairs = [forms.smoothed(share, k) for share, k in zip(shares, classes, strict=True)]
    other = [eps * k / (k - 1) if convention == "eps/(K-1)" else eps * (k - 1) / k for k in classes]
    cases = tuple(f"K = {k}" for k in classes)

    def asks(place: int) -> tuple[tuple[Ask, ...], ...]:
        each = (_smoothing_asked(eps, k, convention, 0, lambda q: q[place]) for k in classes)
        return together([list(ways) for ways in each])

    return Computed(
        {
            "label": Quantity(scalars(float(q) for q, _ in pairs), cases, asks=asks(0)),
            "others": Quantity(scalars(float(q) for _, q in pairs), cases, asks=asks(1)),
            "eps_of_the_other_convention": Quantity(scalars(other), cases),
        }
    )


def _smoothing_asked(
    eps: float, k: int, convention: str, label: int, read: Callable[[Floats], Floats]
) -> tuple[tuple[Ask, ...], ...]:
    """An op that smooths by eps/K, asked for its target: at equal logits 1/K less its gradient."""
    asked = eps if convention == "eps/K" else forms.converted(eps, k)
    if asked > 1:
        return ()
    options = Options(label_smoothing=asked)
    target = np.eye(k)[[label]]
    zeros = np.zeros((1, k))
    return (
        (
            Ask(
                "cross_entropy",
                zeros,
                target,
                lambda _, gradient: read(1 / k - gradient[0]),
                GRADIENT,
                options,
            ),
        ),
    )


def _demo(example: Example) -> Computed:
    """The right class has a probability, the others share the rest; its label is smoothed."""
    c, k, eps = float(example["confidence"]), int(example["classes"]), float(example["eps"])
    if k < 2:
        raise _fault(example, "it takes 2 classes or more")
    p = np.full(k, (1 - c) / (k - 1))
    p[0] = c
    if (given := example.fields.get("_logit")) is not None:  # a mistake: this in a softmax
        p = np.asarray(api.softmax(np.eye(k)[0] * given))
    q = np.eye(k)[0] * (1 - eps) + eps / k
    loss = _cross_entropies(p[None], q[None])
    z, target = logits_of(p[None]), np.zeros(1, np.int64)

    def asks(
        read: Callable, reads: str = GRADIENT, smoothing: float = eps
    ) -> tuple[tuple[Ask, ...], ...]:
        if not (p > 0).all():
            return ()
        options = Options(label_smoothing=smoothing)
        return ((Ask("cross_entropy", z, target, read, reads, options),),)

    found = {
        "probabilities": Quantity((p,), asks=asks(lambda _, g: g[0] + q)),
        "loss": Quantity(scalars(loss), information=True, asks=asks(first, LOSS)),
        "gradient": Quantity((p - q,), asks=asks(row_of_gradient(0))),
    }
    words = []
    if "smoothed_eps" in example:
        more = float(example["smoothed_eps"])
        pull = p[1] - more / k
        least = 1 - more * (k - 1) / k
        found["others_gradient_smoothed"] = Quantity(
            one(pull), asks=asks(entry_of_gradient(0, 1), smoothing=more)
        )
        found["confidence_without_pull"] = Quantity(one(least))
        sign = "negative" if pull < 0 else "positive" if pull > 0 else "zero"
        words.append(
            f"With eps = {more:g} the gradient of every wrong class is {pull:.4g}: {sign}. It is "
            f"negative only where the right class has a probability above {least:.4g}."
        )
    return Computed(found, tuple(words))


def _logit_of_confidence(example: Example) -> Mistaken:
    """A number made of the confidence as the logit of the right class, the others 0."""
    c = float(example["confidence"])
    if not 0 < c < 1:
        return
    made = {
        "the confidence c itself": c,
        "log c": np.log(c),
        "the odds c/(1 - c)": c / (1 - c),
        "the binary logit log(c/(1 - c))": float(binary_logit(np.asarray(c))),
    }
    for words, logit in made.items():
        yield (
            f"{words} as the logit of the right class, 0 for the others",
            example.given(_logit=logit),
        )


# --- squared error, double softmax, training ------------------------------------------------------


def _squared(example: Example) -> Computed:
    p, y = np.atleast_1d(example.numbers("p")), float(example["y"])
    labels = np.full(p.shape, y)
    cases = tuple(f"p = {each:g}" for each in p) if p.size > 1 else ("",)
    bce = np.asarray(api.binary_cross_entropy(p, labels, reduction="none"))
    slope = np.asarray(api.binary_cross_entropy_grad(p, labels, reduction="none"))
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = (
            ("1 - p", scalars((p - y) / p)),
            ("p", scalars((p - y) / (1 - p))),
            ("p (1 - p)", scalars(p - y)),
        )
    by_p = tuple(
        Ask(
            "binary_cross_entropy",
            np.full((1, 1), x),
            np.full((1, 1), y),
            entry_of_gradient(0),
            GRADIENT,
        )
        for x in p
    )
    return Computed(
        {
            "squared_error": Quantity(scalars((p - y) ** 2), cases),
            "squared_error_gradient": Quantity(scalars(2 * (p - y)), cases),
            "bce": Quantity(
                scalars(bce),
                cases,
                information=True,
                asks=together(of_binary(x, np.full(1, y)) for x in p),
            ),
            "bce_gradient": Quantity(scalars(slope), cases, undivided=left_out, asks=(by_p,)),
        }
    )


def _double_softmax(example: Example) -> Computed:
    """Logits and their softmax, both given to an op that takes logits."""
    z, target = example.numbers("logits")[None], np.array([int(example["target"])])
    if target[0] >= z.shape[1]:
        raise _fault(example, f"there is no class {target[0]} among {z.shape[1]}")
    p = np.asarray(api.softmax(z))
    loss = [float(np.asarray(api.cross_entropy(x, target))) for x in (z, p)]
    right, by_p = (np.asarray(api.cross_entropy_grad(x, target)) for x in (z, p))

    def through(gradient: Floats) -> float:
        """Its norm by the logits, back through the softmax that made the probabilities."""
        return float(np.linalg.norm(forms.softmax_jacobian(p, gradient)))

    norms = float(np.linalg.norm(right)), through(by_p)
    share = float(np.divide(norms[1], norms[0]))

    def asks(x: Floats, read: Callable, reads: str = GRADIENT) -> tuple[tuple[Ask, ...], ...]:
        return ((Ask("cross_entropy", x, np.resize(target, len(x)), read, reads),),)

    def ratio(_: Floats, gradient: Floats) -> Floats:
        return np.asarray(through(gradient[1:]) / float(np.linalg.norm(gradient[0])))

    return Computed(
        {
            "loss_of_logits": Quantity(one(loss[0]), information=True, asks=asks(z, first, LOSS)),
            "loss_of_probabilities": Quantity(
                one(loss[1]), information=True, asks=asks(p, first, LOSS)
            ),
            "gradient_norm_of_logits": Quantity(
                one(norms[0]), asks=asks(z, lambda _, g: np.asarray(np.linalg.norm(g[0])))
            ),
            "gradient_norm_of_probabilities": Quantity(
                one(norms[1]), asks=asks(p, lambda _, g: np.asarray(through(g)))
            ),
            "gradient_norm_ratio": Quantity(one(share), asks=asks(np.vstack([z, p]), ratio)),
        },
        (f"By the logits B's gradient has {share:.4g} times the norm of A's.",),
    )


def _trained(example: Example) -> Computed:
    """A training has a path and no single figure."""
    del example
    return Computed(
        {},
        ("It is trained in every framework and in the reference: see the training trajectories.",),
    )


OPERATIONS: dict[str, Operation] = {
    "cross_entropy_distributions": Operation(
        "H(p, q), H(p) and KL(p || q) of a distribution p and one or several models q of it",
        {"p": Field("probabilities"), "q": Field("distributions")},
        {
            "entropy": "H(p)",
            "cross_entropy": "H(p, q)",
            "kl": "KL(p || q)",
            "terms_entropy": "-p_j log p_j of each class",
            "terms_cross_entropy": "-p_j log q_j of each class",
            "terms_kl": "p_j log(p_j / q_j) of each class",
        },
        _distributions,
    ),
    "negative_log_likelihood_of_probability": Operation(
        "-log p of the probability of what happened",
        {"p": Field("probability or several", needed=False), "pairs": Field("pairs", needed=False)},
        {
            "loss": "-log p",
            "gradient": "by p: -1/p",
            "reduction_of_loss": "of pairs: the loss of the first less that of the second",
        },
        _of_probability,
    ),
    "cross_entropy_probabilities": Operation(
        "-log p_t of a row of probabilities",
        {"p": Field("probabilities"), "target": Field("index")},
        {"loss": "-log p_t"},
        _of_row,
    ),
    "gradient_wrt_logit": Operation(
        "gradients of binary losses by the logit of which p is the sigmoid",
        {"p": Field("probability"), "y": Field("probability")},
        {"cross_entropy": "p - y", "squared_error": "(p - y) p (1 - p), of (p - y)^2 / 2"},
        _by_logit,
    ),
    "label_smoothing": Operation(
        "the target after label smoothing",
        {
            "eps": Field("probability"),
            "target": Field("probabilities", needed=False),
            "classes": Field("class counts", needed=False),
            "convention": Field("convention", needed=False),
        },
        {
            "smoothed": "of a target: (1 - eps) y + eps/K, or with 'convention' eps/(K-1) for the "
            "other classes and 1 - eps for the right one",
            "label": "of each number of classes: the share of the right class",
            "others": "of each number of classes: that of each other class",
            "eps_of_the_other_convention": "which gives the same target",
        },
        _smoothing,
    ),
    "label_smoothing_demo": Operation(
        "a class with some confidence, the others alike, and the loss of its smoothed label",
        {
            "confidence": Field("probability"),
            "classes": Field("count"),
            "eps": Field("probability"),
            "smoothed_eps": Field("probability", needed=False),
        },
        {
            "probabilities": "the confidence, and the rest in equal shares",
            "loss": "of the label smoothed with eps, by eps/K",
            "gradient": "by the logits",
            "others_gradient_smoothed": "that of a wrong class with smoothed_eps",
            "confidence_without_pull": "where that is 0",
        },
        _demo,
        _logit_of_confidence,
    ),
    "binary_cross_entropy": Operation(
        "the mean of -(y log p + (1 - y) log(1 - p)), of one or several predictors",
        {
            "y": Field("probabilities"),
            "p": Field("distributions", needed=False),
            "gradient_wrt_logit": Field("number", needed=False),
            "clip": Field("positive", needed=False),
        },
        {
            "loss": "the mean",
            "loss_clipped": "with p in [clip, 1 - clip]",
            "probability": "p = y + gradient, where the gradient is given",
        },
        _binary,
    ),
    "binary_cross_entropy_with_logits": Operation(
        "-(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))) of each logit",
        {"logits": Field("row"), "y": Field("probabilities")},
        {"probability": "sigmoid(z)", "loss": "of each logit", "gradient": "by the logit"},
        _binary_with_logits,
    ),
    "cross_entropy": Operation(
        "-log softmax(z / temperature)_t of one or several rows of logits",
        {
            "logits": Field("rows"),
            "target": Field("indices"),
            "temperature": Field("positive", needed=False),
            "reduction": Field("reduction", needed=False),
            "clip": Field("positive", needed=False),
        },
        {
            "probabilities": "softmax(z / temperature)",
            "entropy": "of the softmax",
            "loss": "of each row, or with the reduction 'mean' their mean",
            "gradient": "by the logits, of that loss",
            "loss_clipped": "from probabilities in [clip, 1 - clip]",
        },
        _classes,
        _printed_probabilities,
    ),
    "squared_error_against_bce": Operation(
        "squared error and binary cross-entropy of a probability, with gradients by it",
        {"p": Field("probability or several"), "y": Field("probability")},
        {
            "squared_error": "(p - y)^2",
            "squared_error_gradient": "2 (p - y)",
            "bce": "-(y log p + (1 - y) log(1 - p))",
            "bce_gradient": "(p - y) / (p (1 - p))",
        },
        _squared,
    ),
    "double_softmax": Operation(
        "logits (A), and their softmax (B), given to an op that takes logits",
        {"logits": Field("row"), "target": Field("index")},
        {
            "loss_of_logits": "of version A",
            "loss_of_probabilities": "of version B",
            "gradient_norm_of_logits": "2-norm by the logits, of A",
            "gradient_norm_of_probabilities": "the same of B, through both softmaxes",
            "gradient_norm_ratio": "that of B over that of A",
        },
        _double_softmax,
    ),
    "softmax_regression": Operation(
        "a softmax regression trained by stochastic gradient descent; its figures are a trajectory",
        {
            "centers": Field("rows"),
            "sigma": Field("positive"),
            "samples_per_class": Field("count"),
            "learning_rate": Field("positive"),
            "epochs": Field("count"),
            "batch_size": Field("count"),
            "init": Field("text"),
        },
        {},
        _trained,
    ),
}
