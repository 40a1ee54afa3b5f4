"""The statements, each with its source and the derivation of what rounding may do to it.

Notation: q the target distribution, p = softmax(z) or the probabilities given, K classes, N rows,
H entropy, KL divergence, CE(z, q) = -sum_j q_j log p_j. Distributions are of 64ths, so that every
format holds them and they sum to 1 exactly. Where logits are the logarithms of a distribution P,
rounded to the format, log p_j is wrong by at most 2 d, d the largest rounding of a logit: each
logit moves by at most d, and their logsumexp too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import Subject
from ...reference import api
from ...reference.distributions import cross_entropy_distributions, entropy, kl_divergence
from ...reference.vocabulary import Floats, Options
from ..misuse.forms import CONVENTIONS, converted, share_of, smoothed, smoothed_floor
from ..stream import Stream
from .asking import LIBM, UNIT, Asking, Claim, NotAsked

SEED = 11
ROWS, CLASSES = 64, 8
"""Eight classes, so that an even share is a 64th part too."""

PARTS = 64
EPS = 0.125
WARM, HOT = 2.0, 2.0**8
"""A temperature that people use, and one at which the first order leaves out a few hundredths."""

LOG_CLASSES = math.log(CLASSES)

CE, CE_OF_P = "cross_entropy", "cross_entropy_probabilities"
KL, KL_OF_P = "kl_divergence", "kl_divergence_probabilities"
BCE = "binary_cross_entropy_with_logits"


@dataclass(frozen=True)
class Identity:
    """A statement and how it is asked of a subject.

    Attributes:
        name: one word or two.
        statement: the formula.
        source: where it comes from.
        fits: whether it can be asked of a subject.
        claims: asks it.
    """

    name: str
    statement: str
    source: str
    fits: Callable[[Subject], bool]
    claims: Callable[[Asking], Iterator[Claim]]


# --- inputs ---------------------------------------------------------------------------------------


def logits(asking: Asking, *seed: object) -> Floats:
    return asking.rounded(2.0 * Stream("theory", SEED, *seed).normal(ROWS, CLASSES))


def labels(*seed: object) -> np.ndarray:
    return Stream("theory", SEED, "labels", *seed).integers(0, CLASSES, ROWS)


def distributions(name: str) -> Floats:
    """Rows of 64ths, none of them 0: one part for each class, the rest thrown at random."""
    thrown = Stream("theory", SEED, name).integers(0, CLASSES, ROWS, PARTS - CLASSES)
    counts = np.ones((ROWS, CLASSES))
    for row, classes in zip(counts, thrown, strict=True):
        np.add.at(row, classes, 1.0)
    return counts / PARTS


EVEN = np.full((ROWS, CLASSES), 1.0 / CLASSES)


def as_inputs(asking: Asking, p: Floats) -> tuple[Floats, float]:
    """A distribution as the subject takes it, and by how much its log p are wrong for that."""
    if not asking.subject.from_logits and asking.subject.operation != KL:
        return p, 0.0
    exact = np.log(p)
    z = asking.rounded(exact)
    return z, 2.0 * float(np.max(np.abs(z - exact) + LIBM * np.abs(exact)))


def noise(roundings: float, *sides: Floats | float) -> Floats:
    """What so many roundings of float64 do to terms of these sizes."""
    return np.asarray(roundings * UNIT * sum(np.abs(side) for side in sides))


# --- statements -----------------------------------------------------------------------------------


def decomposition(asking: Asking) -> Iterator[Claim]:
    """KL's own op beside the cross-entropy of the same framework, for the same numbers.

    Of log-probabilities x the op takes sum_j q_j (log q_j - x_j) as they are, normalised or not,
    where the cross-entropy takes them for logits: their difference is H(q) + logsumexp(x).
    """
    q = distributions("target")
    if asking.subject.operation == KL:
        x = logits(asking, "decomposition")
        one = asking.beside(CE, "distribution").ask(x, q)
        right = entropy(q) + api.logsumexp(x)
    else:
        x = distributions("model")
        one = asking.beside(CE_OF_P, "distribution").ask(x, q)
        right = entropy(q)
    two = asking.ask(x, q)
    # The difference, two results of the reference and their sum.
    room = one.room + two.room + noise(4, one.loss, two.loss)
    yield Claim("CE - KL against H(Q)", one.loss - two.loss, right, room)


def gibbs(asking: Asking) -> Iterator[Claim]:
    """The divergence of log-probabilities that are rounded is that of softmax(x), plus lse(x)."""
    q, other = distributions("target"), distributions("model")
    differing = kl_divergence(q, other)
    for of, p in (("P and Q differ", other), ("P = Q", q)):
        x, moved = as_inputs(asking, p)
        found = asking.ask(x, q)
        shift = api.logsumexp(x) if asking.subject.operation == KL else np.zeros(ROWS)
        room = found.room + noise(3, found.loss, shift)
        value = found.loss + shift
        zero = np.zeros(ROWS)
        yield Claim(f"at least 0 where {of}", value, zero, room, ">=", differing)
        if p is q:
            # KL(Q || softmax(log Q + e)) <= (max e - min e)^2 / 8 (Hoeffding's lemma), e by d.
            yield Claim(f"0 where {of}", value, zero, room + moved**2 / 8, "=", differing)


def entropy_bounds(asking: Asking) -> Iterator[Claim]:
    """0 <= H(Q) <= log K, with equality on the right for an even Q; for the room see `gibbs`."""
    for of, q in (("some Q", distributions("target")), ("an even Q", EVEN)):
        z, moved = as_inputs(asking, q)
        found = asking.ask(z, q)
        h = entropy(q)
        room = found.room + moved**2 / 8 + noise(2, h)
        yield Claim(f"CE(Q, Q) against H(Q), {of}", found.loss, h, room)
        top = np.full(ROWS, LOG_CLASSES)
        yield Claim(f"CE(Q, Q) against log K, {of}", found.loss, top, room + noise(2, top), "<=")
        if q is EVEN:
            yield Claim("CE of an even Q against log K", found.loss, top, room + noise(2, top))


def bits(asking: Asking) -> Iterator[Claim]:
    q, p = distributions("target"), distributions("model")
    x, moved = as_inputs(asking, p)
    found = asking.ask(x, q)
    right = cross_entropy_distributions(q, p, base=2)
    value = found.loss / math.log(2)
    # log 2 and the quotient, and the reference's result.
    room = (found.room + moved) / math.log(2) + noise(4, value)
    yield Claim("CE / log 2 against bits", value, right, room)


def _reduced(asking: Asking, z: Floats, y: np.ndarray, reduction: str) -> tuple[float, float]:
    """A sum or mean by the op where it has one, else by NumPy of its rows; and its room."""
    target = asking.labels(y, CLASSES)
    if reduction in asking.subject.reductions:
        found = asking.ask(z, target, Options(reduction=reduction))
        return float(found.loss[0]), float(found.room[0])
    rows = asking.ask(z, target)
    by = 1.0 if reduction == "sum" else 1.0 / len(z)
    room = float(by * (rows.room.sum() + noise(len(z), rows.loss).sum()))
    return float(by * rows.loss.sum()), room


def _shares(z: Floats, y: np.ndarray) -> Floats:
    """The probability of each label, correctly rounded."""
    return np.asarray(api.softmax(z))[np.arange(len(z)), y]


def perplexity(asking: Asking) -> Iterator[Claim]:
    """exp of an error e of the mean is a factor e^e; N roots and logarithms beside it."""
    z, y = logits(asking, "perplexity"), labels("perplexity")
    for of, given in (("random logits", z), ("equal logits", np.zeros_like(z))):
        mean, room = _reduced(asking, given, y, "mean")
        value = float(np.exp(mean))
        logs = np.log(_shares(given, y))  # of rounded shares: each wrong by a rounding and an ulp
        right = math.exp(-math.fsum(logs) / len(logs))
        wrong = (UNIT + LIBM * np.abs(logs)).mean() + noise(2, abs(mean))
        room = np.array(right * (np.expm1(room + wrong) + 2 * LIBM))
        yield Claim(f"exp(mean loss), {of}", np.array(value), np.array(right), room)
        if not given.any():
            yield Claim(
                "that of equal logits against K", np.array(value), np.array(float(CLASSES)), room
            )


def likelihood(asking: Asking) -> Iterator[Claim]:
    """-log of the product of the probabilities: each wrong by a rounding, each product by one."""
    z, y = logits(asking, "likelihood"), labels("likelihood")
    total, room = _reduced(asking, z, y, "sum")
    right = -math.log(math.prod(_shares(z, y)))
    room += 2 * len(z) * UNIT + LIBM * right
    yield Claim("sum of losses", np.array(total), np.array(right), np.array(room))


def distillation(asking: Asking) -> Iterator[Claim]:
    """T^2 times the gradient of CE(z / T, softmax(t / T)), which is T times the op's.

    With d_j = x_j - mean(x) and r the range of x, softmax(x / T)_j = (1 + d_j / T) / K up to
    (r / T)^2 e^(r / T) / (2 K): the second derivative of softmax along x is
    p_j ((x_j - m)^2 - v), m and v mean and variance of x under p, and p_j <= e^(r / T) / K.
    The soft target is rounded to the format, which moves q - p by its rounding and by p times
    what its sum misses of 1. Bounds of narrow formats grow with T, and tell nothing at a large one.
    """
    if not asking.subject.gradients:
        raise NotAsked("it has no gradient")
    warm, hot = (_softened(asking, temperature) for temperature in (WARM, HOT))
    for temperature, (value, right, room) in ((WARM, warm), (HOT, hot)):
        yield Claim(f"T (p - q), T = {temperature:g}", value, right, room)
    z, t = _logits_at(asking, HOT), logits(asking, "teacher")
    value, _, room = hot
    even = (_centred(z) - _centred(t)) / CLASSES
    yield Claim("(z - t) / K, centred, as T grows", value, even, room + _beyond(z) + _beyond(t))


def _logits_at(asking: Asking, temperature: float) -> Floats:
    """The student's logits z, so that z / T is a number of the format."""
    return temperature * asking.rounded(logits(asking, "student") / temperature)


def _softened(asking: Asking, temperature: float) -> tuple[Floats, Floats, Floats]:
    """T times the op's gradient at z / T, T (p - q), and the room between them."""
    x = _logits_at(asking, temperature) / temperature
    exact = np.asarray(api.softmax(logits(asking, "teacher") / temperature))
    q, p = asking.rounded(exact), np.asarray(api.softmax(x))
    found = asking.ask(x, q)
    missed = np.abs(q - exact)
    moved = missed + p * missed.sum(axis=1, keepdims=True)
    room = temperature * (found.gradient_room + moved + noise(3, p, exact))
    return temperature * found.gradient, temperature * (p - exact), room


def _centred(x: Floats) -> Floats:
    return x - x.mean(axis=1, keepdims=True)


def _beyond(x: Floats) -> Floats:
    """T times what the first order leaves out, and a dozen roundings of the order itself."""
    r = np.ptp(x, axis=1, keepdims=True)
    second = r**2 * np.exp(r / HOT) / (2 * CLASSES * HOT)
    return second + noise(12, np.abs(x).max(axis=1, keepdims=True))


SENTENCES, TOKENS, PADDING = 4, ROWS // 4 + 1, 0


def next_token(asking: Asking) -> Iterator[Claim]:
    """Each position is asked for the token after it; padding is ignored, and does not count."""
    z = logits(asking, "tokens").reshape(SENTENCES, TOKENS - 1, CLASSES)
    tokens = Stream("theory", SEED, "tokens").integers(1, CLASSES, SENTENCES, TOKENS)
    lengths = Stream("theory", SEED, "lengths").integers(TOKENS // 2, TOKENS, SENTENCES)
    tokens[np.arange(TOKENS) >= lengths[:, None]] = PADDING
    flat, after = z.reshape(ROWS, CLASSES), tokens[:, 1:].reshape(ROWS)
    kept = after != PADDING
    right = float(api.cross_entropy(flat[kept], after[kept]))
    subject, asked = asking.subject, Options(reduction="mean", ignore_index=PADDING)
    if "ignore_index" in subject.options and "mean" in subject.reductions:
        found = asking.ask(flat, after, asked)
        # A mean over all rows is a convention; what it divides by is known.
        by = ROWS / kept.sum() if subject.semantics.mean == "rows" else 1.0
        how = "its mean times N / tokens" if by != 1.0 else "its mean, padding ignored"
        value, room = by * found.loss[0], by * found.room[0] + noise(4, right)
    else:
        rows = asking.ask(flat, asking.labels(after, CLASSES))
        value = rows.loss[kept].mean()
        room = rows.room[kept].mean() + noise(ROWS, right)
        how = "the mean of the losses of tokens"
    yield Claim(how, np.array(value), np.array(right), np.array(room))


def info_nce(asking: Asking) -> Iterator[Claim]:
    """Rows are similarities of one item to all, the label its own place."""
    batches = ROWS // CLASSES
    stream = Stream("theory", SEED, "pairs")
    a, b = stream.normal(batches, CLASSES, 4), stream.normal(batches, CLASSES, 4)
    z = asking.rounded(np.einsum("nid,njd->nij", a, b)).reshape(ROWS, CLASSES)
    y = np.tile(np.arange(CLASSES), batches)
    for of, given in (("similarities", z), ("equal similarities", np.ones_like(z))):
        found = asking.ask(given, asking.labels(y, CLASSES))
        right = -np.asarray(api.log_softmax(given))[np.arange(ROWS), y]
        yield Claim(f"loss of {of}", found.loss, right, found.room + noise(1, right))
        gain = LOG_CLASSES - found.loss
        room = found.room + noise(4, gain, right)
        top = np.full(ROWS, LOG_CLASSES)
        yield Claim(f"log N - loss of {of}, against log N", gain, top, room, "<=")
        if given is not z:
            yield Claim(f"log N - loss of {of}", gain, np.zeros(ROWS), room, "=", top)


def multi_label(asking: Asking) -> Iterator[Claim]:
    """As many independent labels as there are columns, eight samples of them."""
    z = logits(asking, "labels")[:, :1]
    y = Stream("theory", SEED, "on").integers(0, 2, ROWS, 1).astype(np.float64)
    found = asking.ask(z, y)
    samples = (ROWS // CLASSES, CLASSES)
    shares = np.asarray(api.sigmoid(np.where(y == 1.0, z, -z))).reshape(samples)
    right = -np.log(shares.prod(axis=1))
    value, rooms = found.loss.reshape(samples).sum(axis=1), found.room.reshape(samples).sum(axis=1)
    room = rooms + noise(CLASSES, value) + 2 * CLASSES * UNIT + LIBM * right
    yield Claim("sum over labels", value, right, room)


def smoothing(asking: Asking) -> Iterator[Claim]:
    """Which convention it is: the one whose value lies within the room where the other does not."""
    z, y = logits(asking, "smoothing"), labels("smoothing")
    target, options = asking.labels(y, CLASSES), Options(label_smoothing=EPS)
    found = asking.ask(z, target, options)
    each = {
        name: api.cross_entropy(z, y, label_smoothing=EPS, smoothing=name, reduction="none")
        for name in CONVENTIONS
    }
    claims = [
        Claim(f"loss of {n}", found.loss, v, found.room + noise(1, v)) for n, v in each.items()
    ]
    near = sorted(claims, key=lambda claim: claim.share)
    if all(claim.holds for claim in near):
        raise NotAsked("its bound tells no convention from another here")
    yield near[0]
    if not near[0].holds:
        return
    convention = near[0].of.removeprefix("loss of ")
    yield from _at_the_best(asking, convention, y, target)
    other = next(name for name in CONVENTIONS if name != convention)
    same = _of_other(convention)
    moved = asking.ask(z, target, Options(label_smoothing=float(asking.rounded(np.array(same)))))
    # eps' is rounded to the format; the loss moves with it by L_y less a mean of others' losses,
    # which is at most the range of z.
    rounding = abs(float(asking.rounded(np.array(same))) - same) * np.ptp(z, axis=1)
    room = moved.room + rounding + noise(8, each[other])
    yield Claim(f"eps' = {same:.6g} gives {other}", moved.loss, each[other], room)


def _of_other(convention: str) -> float:
    """The eps of a convention that is EPS of the other."""
    return converted(EPS, CLASSES) if convention == "eps/K" else share_of(EPS, CLASSES, "eps/K")


def _at_the_best(
    asking: Asking, convention: str, y: np.ndarray, target: np.ndarray
) -> Iterator[Claim]:
    """The least loss is the entropy of the smoothed target, where the gradient is 0."""
    share = share_of(EPS, CLASSES, convention)
    own, others = (float(part) for part in smoothed(share, CLASSES))
    q = np.where(np.arange(CLASSES) == y[:, None], own, others)
    z = asking.rounded(np.log(q))
    d = np.max(np.abs(z - np.log(q)) + LIBM * np.abs(np.log(q)))
    found = asking.ask(z, target, Options(label_smoothing=EPS))
    least = float(smoothed_floor(share, CLASSES))
    # KL(q || softmax(log q + e)) <= (2 d)^2 / 8; some ten roundings in the entropy.
    room = found.room + d**2 / 2 + noise(10, least + 1.0)
    yield Claim(
        f"least loss of {convention}, H = {least:.6g}", found.loss, np.full(ROWS, least), room
    )
    if found.gradient.size:
        # softmax(log q + e)_j - q_j <= q_j (e^(2 d) - 1).
        room = found.gradient_room + q * np.expm1(2 * d) + noise(4, q)
        yield Claim("gradient there", found.gradient, np.zeros_like(q), room, "=", q)


def binary_smoothing(asking: Asking) -> Iterator[Claim]:
    """y (1 - eps) + eps/2: the loss at a smoothed label, and where that is best."""
    x, on = logits(asking, "binary smoothing")[:, :1], np.tile([[1.0], [0.0]], (ROWS // 2, 1))
    first = asking.ask(x, on, Options(label_smoothing=EPS))
    due = api.binary_cross_entropy_with_logits(x, on * (1 - EPS) + EPS / 2, reduction="none")
    due = np.asarray(due).reshape(-1)
    yield Claim("loss of y (1 - eps) + eps / 2", first.loss, due, first.room + noise(1, due))
    best = math.log((1 - EPS / 2) / (EPS / 2))
    y = np.tile([[1.0], [0.0]], (ROWS // 2, 1))
    z = asking.rounded(np.where(y == 1.0, best, -best))
    found = asking.ask(z, y, Options(label_smoothing=EPS))
    shares = np.array([1 - EPS / 2, EPS / 2])
    least = float(-(shares * np.log(shares)).sum())
    d = abs(abs(float(z[0, 0])) - best) + LIBM * best
    # The loss is convex in z with a second derivative of at most 1/4.
    room = found.room + d**2 / 8 + noise(6, least)
    yield Claim(f"least loss toward 1/2, H = {least:.6g}", found.loss, np.full(ROWS, least), room)
    if found.gradient.size:
        room = found.gradient_room + d / 4 + noise(2, 1.0)
        yield Claim("gradient there", found.gradient, np.zeros_like(z), room, "=", EPS / 2)


# --- all of them ----------------------------------------------------------------------------------


def _of(*pairs: tuple[str, str]) -> Callable[[Subject], bool]:
    return lambda subject: (subject.operation, subject.target) in pairs


INDEX = _of((CE, "index"))
LABELS = _of((CE, "index"), (CE, "distribution"))
SOFT = _of((CE, "distribution"))
SOFT_OR_P = _of((CE, "distribution"), (CE_OF_P, "distribution"))

IDENTITIES = (
    Identity(
        "decomposition",
        "H(Q, P) = H(Q) + KL(Q || P)",
        "Cover and Thomas, Elements of Information Theory, 2nd ed., section 2.3",
        _of((KL, "distribution"), (KL_OF_P, "distribution")),
        decomposition,
    ),
    Identity(
        "Gibbs",
        "KL(Q || P) >= 0, and 0 where P = Q",
        "Cover and Thomas, theorem 2.6.3",
        _of((KL, "distribution"), (KL_OF_P, "distribution")),
        gibbs,
    ),
    Identity(
        "entropy",
        "H(Q, Q) = H(Q) <= log K, with equality for an even Q",
        "Cover and Thomas, theorem 2.6.4",
        SOFT_OR_P,
        entropy_bounds,
    ),
    Identity("bits", "H(Q, P) in bits = nats / log 2", "definition", SOFT_OR_P, bits),
    Identity(
        "perplexity",
        "exp(mean loss) = (prod_i 1 / p_i)^(1/N), and K where all logits are equal",
        "Jelinek et al., J. Acoust. Soc. Am. 62 (1977) S63",
        LABELS,
        perplexity,
    ),
    Identity(
        "likelihood",
        "sum of losses = -log prod_i p_i",
        "Goodfellow, Bengio, Courville, Deep Learning (2016), section 5.5",
        LABELS,
        likelihood,
    ),
    Identity(
        "distillation",
        "T^2 d CE(z / T, softmax(t / T)) / d z = T (p - q) -> (z - t) / K, centred",
        "Hinton, Vinyals, Dean, arXiv:1503.02531, section 2.1",
        SOFT,
        distillation,
    ),
    Identity(
        "next token",
        "-(1 / tokens) sum_t log p(x_(t+1) | x_1 ... x_t), padding ignored",
        "Bengio et al., JMLR 3 (2003), section 2",
        INDEX,
        next_token,
    ),
    Identity(
        "InfoNCE",
        "-log e^(s_ii) / sum_j e^(s_ij), log N - loss <= log N",
        "van den Oord, Li, Vinyals, arXiv:1807.03748, section 2.3",
        LABELS,
        info_nce,
    ),
    Identity(
        "multi-label",
        "sum_k BCE(z_k, y_k) = -log prod_k P(y_k)",
        "Bishop, Pattern Recognition and Machine Learning (2006), section 5.2",
        _of((BCE, "binary")),
        multi_label,
    ),
    Identity(
        "smoothing",
        "its convention, the eps' of the other; least loss = H(smoothed target)",
        "Szegedy et al., arXiv:1512.00567, section 7; Müller et al., arXiv:1906.02629",
        lambda s: LABELS(s) and "label_smoothing" in s.options,
        smoothing,
    ),
    Identity(
        "binary smoothing",
        "y (1 - eps) + eps / 2, least loss H(eps / 2)",
        "keras.losses.BinaryCrossentropy, label_smoothing",
        lambda s: _of((BCE, "binary"))(s) and "label_smoothing" in s.options,
        binary_smoothing,
    ),
)
