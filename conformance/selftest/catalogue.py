"""A catalogue of mistakes in cross-entropies by its own ids, and their mutants here.

Each id has mutants, or the reason why there can be none in this trial.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """One entry: the mistake, and the names of its mutants or why there is none."""

    id: str
    says: str
    mutants: tuple[str, ...] = ()
    cannot_exist: str = ""


def _m(name: str, says: str, *mutants: str, cannot_exist: str = "") -> Mistake:
    return Mistake(name, says, mutants, cannot_exist)


CATALOGUE: tuple[Mistake, ...] = (
    _m("M01", "no maximum subtracted before exp", "no-maximum-subtracted"),
    _m("M02", "log(softmax(x))", "log-of-softmax"),
    _m("M03", "p clipped before the logarithm", "probability-clipped"),
    _m("M04", "log(p + eps)", "epsilon-in-the-logarithm"),
    _m("M05", "softmax twice", "double-softmax", "probabilities-softmaxed"),
    _m("M06", "log_softmax over the wrong axis", "wrong-axis"),
    _m("M08", "log sum exp accumulated in float16", "summed-in-half"),
    _m("M09", "the maximum taken over padding columns too", "maximum-over-the-padding"),
    _m("M10", "padding columns in the sum", "padding-counted"),
    _m("M12", "online softmax from -inf", "online-starts-at-minus-infinity"),
    _m("M13", "-inf times a label of zero", "minus-infinity-times-zero"),
    _m("M14", "-inf replaced by the least finite number", "least-number-for-masked"),
    _m("M16", "smoothing eps/(K-1) where eps/K is declared", "smoothed-over-the-others"),
    _m("M17", "smoothing not taken from the label", "smoothing-added"),
    _m("M19", "binary smoothing of eps in place of eps/2", "binary-smoothing-not-halved"),
    _m("M21", "smoothing over the classes of one shard", "smoothed-over-a-shard"),
    _m("M23", "the weighted mean over the rows", "weighted-mean-over-rows"),
    _m("M24", "no weights in the smoothing term", "weights-dropped-from-smoothing"),
    _m("M26", "the mean over ignored rows too", "mean-counts-ignored-rows"),
    _m("M27", "the mean of nothing is 0 where NaN is declared", "mean-of-nothing-is-zero"),
    _m("M29", "-100 ignored unasked", "torch.minus-hundred-ignored-unasked"),
    _m("M30", "label 0 ignored unasked", "class-zero-ignored"),
    _m("M32", "a label outside the classes has no target", "outside-label-has-no-target"),
    _m("M33", "a label outside the classes is clamped", "outside-label-clamped"),
    _m("M34", "a distribution truncated to an index", "distribution-truncated"),
    _m("M35", "log sum exp not scaled by the sum of the target", "log-sum-exp-not-scaled"),
    _m("M38", "the gradient of a mean is not divided", "gradient-of-the-sum"),
    _m("M40", "ignored rows have a gradient", "ignored-rows-have-gradient"),
    _m(
        "M42",
        "the factor of a temperature or softcap lost in the gradient",
        cannot_exist="no operation here has a temperature or a softcap",
    ),
    _m(
        "M43",
        "the gradient of z-loss without its factor 2",
        cannot_exist="no operation here has a z-loss",
    ),
    _m("M45", "x (1 - y) - logsigmoid(x) cancels", "difference-of-logistic-logarithms"),
    _m("M46", "-log(sigmoid(x))", "log-of-a-sigmoid"),
    _m("M47", "log(1 - sigmoid(x))", "log-of-one-minus-a-sigmoid"),
    _m("M49", "the logarithm clamped at -100, undeclared", "log-clamped"),
    _m("M50", "pos_weight on both terms", "pos-weight-on-both-terms"),
    _m("M52", "the mean over the sum of pos_weight", "mean-over-pos-weights"),
    _m("M54", "a target outside [0, 1] accepted", "any-target-accepted"),
    _m("M56", "the sum of the means of chunks", "sum-of-chunk-means"),
    _m(
        "M58",
        "32-bit offsets of rows",
        cannot_exist="takes more than 2^31 logits in one batch, 8 GiB in float32",
    ),
    _m("M59", "focal: modulated by the wrong side", "modulated-by-the-wrong-side"),
    _m("M60", "focal: 0^(gamma - 1) in the gradient", "power-of-zero"),
    _m("M61", "KL divergence in place of cross-entropy", "divergence-instead"),
    _m("M63", "arguments in the other order", "arguments-swapped"),
)
"""Every id of the catalogue, in its order."""

CANNOT_EXIST = tuple(mistake for mistake in CATALOGUE if mistake.cannot_exist)
