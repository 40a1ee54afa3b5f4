"""Wrong implementations: each changes one step of a right one, and says which mistake that is.

`seen` tells where the mistake was made, or what makes it likely. A mutant that no law finds is a
hole in the suite; a test and `lossaudit selftest` fail then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...reference.formats import FORMATS, round_to_format
from ...reference.vocabulary import Case, Floats
from .controls import ClassB, Online
from .kernels import (
    NOTHING_PASSED,
    BinaryCrossEntropy,
    BinaryLikelihood,
    Bools,
    CrossEntropy,
    Focal,
    Kernel,
    Likelihood,
    times,
)

HALF = FORMATS["float16"]
BRAIN = FORMATS["bfloat16"]
SINGLE = FORMATS["float32"]


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation.

    Attributes:
        name: of the mistake.
        operation, target: of the right twin.
        says: the mistake in a sentence.
        seen: where it was made.
        make: the implementation.
        twin: the right one, of which it differs in the mistake alone.
        mode: "jit" for one that goes wrong where it is compiled alone, "second" for one whose
            second derivatives are wrong.
    """

    name: str
    operation: str
    target: str
    says: str
    seen: str
    make: Callable[[], Kernel]
    twin: Callable[[], Kernel]
    mode: str = "eager"


MUTANTS: list[Mutant] = []

KINDS: dict[type[Kernel], tuple[str, str]] = {
    CrossEntropy: ("cross_entropy", "index"),
    ClassB: ("cross_entropy", "index"),
    Online: ("cross_entropy", "index"),
    BinaryCrossEntropy: ("binary_cross_entropy_with_logits", "binary"),
    Likelihood: ("cross_entropy_probabilities", "index"),
    BinaryLikelihood: ("binary_cross_entropy", "binary"),
    Focal: ("focal", "index"),
}


def wrong(
    seen: str, *, target: str = "", mode: str = "eager"
) -> Callable[[type[Kernel]], type[Kernel]]:
    """Registers a class as a mutant of the kernel that it extends; its docstring is the mistake."""

    def register(kind: type[Kernel]) -> type[Kernel]:
        twin = next(base for base in KINDS if base is kind.__mro__[1])
        operation, usual = KINDS[twin]
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")
        says = " ".join((kind.__doc__ or "").split())
        MUTANTS.append(Mutant(words, operation, target or usual, says, seen, kind, twin, mode))
        return kind

    return register


# --- softmax and its logarithm ----------------------------------------------------------------


@wrong("pytorch/pytorch issues on overflow before log_softmax; most first drafts")
class NoMaximumSubtracted(ClassB):
    """log sum exp(z) - z_t without the maximum taken off: exp overflows."""

    def largest(self, z: Floats) -> Floats:
        return np.zeros((len(z), 1))


@wrong("code that calls log(softmax(z)), for which log_softmax was made")
class LogOfSoftmax(CrossEntropy):
    """log of a softmax that was rounded to float32: where it underflows the loss is infinite."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        _, p, complement = super().softmax(z)
        return -np.log(round_to_format(p, SINGLE)), p, complement


@wrong("Keras clips probabilities at 1e-7; here the loss is declared to be unguarded")
class ProbabilityClipped(CrossEntropy):
    """p is clipped at 1e-7 before the logarithm: no loss exceeds 16.118."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        _, p, complement = super().softmax(z)
        return -np.log(np.clip(p, 1e-7, 1 - 1e-7)), p, complement


@wrong("hand-written losses with log(p + eps)")
class EpsilonInTheLogarithm(CrossEntropy):
    """log(p + 1e-12): no loss exceeds 27.631."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        _, p, complement = super().softmax(z)
        return -np.log(p + 1e-12), p, complement


@wrong("a model that ends in a softmax, and a loss that takes logits")
class DoubleSoftmax(CrossEntropy):
    """The softmax is taken twice."""

    def logits(self, case: Case) -> Floats:
        return super().softmax(case.inputs)[1]


@wrong("axis=0 where the batch comes first")
class WrongAxis(CrossEntropy):
    """log_softmax over the batch in place of the classes."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        if not z.size:
            return super().softmax(z)
        surprise, p, complement = super().softmax(z.T)
        return surprise.T, p.T, complement.T


@wrong("kernels that accumulate in the format of the logits")
class SummedInHalf(CrossEntropy):
    """The sum of exponentials is kept in float16: its steps are 2^-10, and it ends at 65504."""

    def total(self, e: Floats) -> Floats:
        whole = np.zeros((len(e), 1))
        for j in range(e.shape[1]):
            whole = round_to_format(whole + e[:, j : j + 1], HALF)
        return whole


@wrong("vocabularies padded to a multiple of 8 for tensor cores")
class PaddingCounted(CrossEntropy):
    """Padding columns of logit 0 stay in the sum of exponentials."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        classes = z.shape[1]
        padded = np.concatenate([z, np.zeros((len(z), -classes % 8))], axis=1)
        surprise, p, complement = super().softmax(padded)
        return surprise[:, :classes], p[:, :classes], complement[:, :classes]


@wrong("online softmax: exp(-inf - -inf) where the first block is masked")
class OnlineStartsAtMinusInfinity(CrossEntropy):
    """The running maximum starts at the first logit: -inf minus -inf is NaN."""

    def softmax(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        surprise, p, complement = super().softmax(z)
        spoil = np.where(np.isneginf(z[:, :1]), np.nan, 0.0)
        return surprise + spoil, p + spoil, complement + spoil


@wrong("online softmax written from memory: s = s + exp(z - m) after m has grown")
class OnlineForgetsToRescale(Online):
    """The sum so far is not scaled by exp(old - new maximum)."""

    def rescaled(self, s: Floats, old: Floats, new: Floats) -> Floats:
        del old, new
        return s


@wrong("a maximum reduced over the first block of a tiled kernel alone")
class MaximumOfTheFirstBlock(ClassB):
    """The maximum of the first two classes is taken for that of all: exp overflows past them."""

    def largest(self, z: Floats) -> Floats:
        return z[:, :2].max(axis=1, keepdims=True, initial=-np.inf)


@wrong("a tile loop without its remainder")
class LastTileDropped(CrossEntropy):
    """Classes past the last whole tile of two are left out of the sum."""

    def total(self, e: Floats) -> Floats:
        return super().total(e[:, : e.shape[1] // 2 * 2])


@wrong("a mask that fills with finfo.min in place of -inf")
class LeastNumberForMasked(CrossEntropy):
    """-inf becomes the least finite number: the loss of a masked class is large, not infinite."""

    def logits(self, case: Case) -> Floats:
        least = -FORMATS[case.dtype].max
        return np.where(np.isneginf(case.inputs), least, case.inputs)


@wrong("exp2 with a rounded log2(e)")
class ExponentialByTwo(CrossEntropy):
    """exp(x) = 2^(1.4427 x), with five digits of log2(e)."""

    def exp(self, x: Floats) -> Floats:
        return np.exp2(1.4427 * x)


@wrong("fast-math approximations of exp")
class FastExponential(CrossEntropy):
    """exp with a relative error of 1e-3."""

    def exp(self, x: Floats) -> Floats:
        return np.exp(x) * (1.0 + 1e-3 * np.sin(np.where(np.isfinite(x), x, 0.0)))


@wrong("logits cast to float16 on the way into a kernel")
class LogitsCastToHalf(CrossEntropy):
    """The logits are rounded to float16 first."""

    def logits(self, case: Case) -> Floats:
        return round_to_format(case.inputs, HALF)


@wrong("jnp.nan_to_num in front of a loss")
class NanHidden(CrossEntropy):
    """NaN becomes 0: a broken model has a finite loss."""

    def logits(self, case: Case) -> Floats:
        return np.where(np.isnan(case.inputs), 0.0, case.inputs)


@wrong("losses clamped for stability")
class LossClamped(CrossEntropy):
    """No loss exceeds 50."""

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        return np.minimum(super().losses(a, surprise), 50.0)


@wrong(
    "PyTorch 2.13, TensorFlow 2.21 and optax 0.2.8: -inf at a class of no weight",
    target="distribution",
)
class MinusInfinityTimesZero(CrossEntropy):
    """-inf times a target of 0 is NaN."""

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        return (a * surprise).sum(axis=1)


@wrong("padded vocabularies whose mask comes after the maximum")
class MaximumOverThePadding(ClassB):
    """The maximum counts padding of 1e4, which the sum leaves out: what is left underflows."""

    def largest(self, z: Floats) -> Floats:
        top = super().largest(z)
        return np.maximum(top, 1e4) if z.shape[1] % 8 else top


# --- targets, smoothing, weights --------------------------------------------------------------


@wrong("Megatron-LM and Sockeye have eps/(K-1); eps/K is declared here")
class SmoothedOverTheOthers(CrossEntropy):
    """eps/(K-1) on the other classes."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q * (1.0 - eps) + (1.0 - q) * eps / max(q.shape[1] - 1, 1)


@wrong("smoothing added to a one-hot target")
class SmoothingAdded(CrossEntropy):
    """eps/K is added, but not taken from the label."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q + eps / q.shape[1]


@wrong("vocabulary-parallel losses that take K for the size of a shard")
class SmoothedOverAShard(CrossEntropy):
    """eps divided by half of the classes."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q * (1.0 - eps) + eps / max(q.shape[1] // 2, 1)


@wrong("padded vocabularies")
class SmoothedOverThePadding(CrossEntropy):
    """K counts a padding column."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q * (1.0 - eps) + eps / (q.shape[1] + 1)


@wrong("smoothing applied by the data loader and by the loss")
class SmoothedTwice(CrossEntropy):
    """The smoothed target is smoothed again."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return super().smoothed(super().smoothed(q, eps), eps)


@wrong("an argument that is accepted and not used")
class SmoothingIgnored(CrossEntropy):
    """label_smoothing changes nothing."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        del eps
        return q


@wrong("a smoothing term computed apart from the weighted one")
class WeightsDroppedFromSmoothing(CrossEntropy):
    """The class weight multiplies the label's term alone."""

    def weighted(self, q: Floats, weight: Floats, case: Case) -> Floats:
        if not case.options.label_smoothing:
            return q * weight
        spread = case.options.label_smoothing / q.shape[1]
        return (q - spread) * weight + spread


@wrong("weights gathered by the prediction")
class WeightOfTheWrongClass(CrossEntropy):
    """The weights are rolled by one class."""

    def weighted(self, q: Floats, weight: Floats, case: Case) -> Floats:
        return super().weighted(q, np.roll(weight, 1), case)


@wrong("weights passed to a kernel that applies them, and again outside")
class WeightTwice(CrossEntropy):
    """Class weights are squared."""

    def weighted(self, q: Floats, weight: Floats, case: Case) -> Floats:
        return super().weighted(q, weight * weight, case)


@wrong("MLX: mx.mean of weighted losses; the sum of weights is declared here")
class WeightedMeanOverRows(CrossEntropy):
    """The weighted mean divides by the number of rows that count."""

    def divisor(self, case: Case, ignored: Bools) -> float:
        del case
        return float(np.count_nonzero(~ignored))


@wrong("means over a padded batch")
class MeanCountsIgnoredRows(CrossEntropy):
    """The mean divides by all rows, ignored ones too."""

    def divisor(self, case: Case, ignored: Bools) -> float:
        weight = np.ones(case.inputs.shape[1])
        if case.options.weight is not None:
            weight = np.array(case.options.weight)
        return super().divisor(case, ignored) + float(ignored.sum()) * float(weight[0])


@wrong("torch before 1.11, Keras and Liger give 0; NaN is declared here")
class MeanOfNothingIsZero(CrossEntropy):
    """The mean over no row is 0."""

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        loss, gradient = super().reduced(case, ignored, loss, gradient)
        return np.where(np.isnan(loss) & ignored.all(), 0.0, loss), gradient


@wrong("gradient accumulation: every chunk has its own mean")
class SumOfChunkMeans(CrossEntropy):
    """Two chunks, each with its mean, added."""

    def divisor(self, case: Case, ignored: Bools) -> float:
        return super().divisor(case, ignored) / 2.0


@wrong("reduction names mixed up")
class SumIsMean(CrossEntropy):
    """reduction="sum" divides by the rows."""

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        loss, gradient = super().reduced(case, ignored, loss, gradient)
        return (loss / max(case.rows, 1) if case.options.reduction == "sum" else loss), gradient


@wrong("Apex: padding_idx=0")
class ClassZeroIgnored(CrossEntropy):
    """Label 0 is ignored unasked."""

    def ignored(self, case: Case) -> Bools:
        named = super().ignored(case)
        unasked = case.options.ignore_index is None
        return np.asarray(named | ((case.target == 0) & unasked))


@wrong("kernels that compare with the default whatever was passed")
class IgnoreIndexFixed(CrossEntropy):
    """-100 is ignored, whatever `ignore_index` says; the label named is clamped."""

    def demand_valid(self, case: Case) -> None:
        """Nothing is refused."""

    def ignored(self, case: Case) -> Bools:
        return np.asarray(case.target == NOTHING_PASSED)

    def target(self, case: Case, ignored: Bools) -> Floats:
        del ignored
        labels = np.clip(case.target, 0, case.inputs.shape[1] - 1)
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)


@wrong("a mask that multiplies: NaN times 0")
class NanOfIgnoredRows(CrossEntropy):
    """An ignored row is multiplied by 0, and NaN in it stays."""

    def without(self, ignored: Bools, loss: Floats, gradient: Floats) -> tuple[Floats, Floats]:
        kept = np.where(ignored, 0.0, 1.0)
        return loss * kept, gradient * kept[:, None]


@wrong("a backward kernel without the mask of the forward one")
class IgnoredRowsHaveGradient(CrossEntropy):
    """The gradient of an ignored row is that of label 0."""

    def without(self, ignored: Bools, loss: Floats, gradient: Floats) -> tuple[Floats, Floats]:
        return np.where(ignored, 0.0, loss), gradient


@wrong("one-hot targets: a label outside the classes has no 1 in its row")
class OutsideLabelHasNoTarget(CrossEntropy):
    """A label outside [0, K) has a loss of 0."""

    def demand_valid(self, case: Case) -> None:
        """Nothing is refused."""


@wrong("gathers that clamp their indices, as XLA's do")
class OutsideLabelClamped(CrossEntropy):
    """A label outside [0, K) becomes 0 or K - 1."""

    def demand_valid(self, case: Case) -> None:
        """Nothing is refused."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        labels = np.clip(np.where(ignored, 0, case.target), 0, case.inputs.shape[1] - 1)
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)


@wrong("indexing from the end, as NumPy does")
class NegativeLabelWraps(CrossEntropy):
    """Label -1 is class K - 1."""

    def demand_valid(self, case: Case) -> None:
        """Nothing is refused."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        labels = np.where(ignored, 0, case.target) % case.inputs.shape[1]
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)


@wrong("compiled modes that cannot raise: XLA, torch.compile", mode="jit")
class SilentWhereCompiled(CrossEntropy):
    """Compiled, a label outside [0, K) has a loss of 0."""

    def demand_valid(self, case: Case) -> None:
        """Nothing is refused."""


@wrong("labels kept in int8")
class LabelsInBytes(CrossEntropy):
    """Labels wrap from 127 to -128, which is counted from the end."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        labels = np.where(ignored, 0, case.target).astype(np.int8) % case.inputs.shape[1]
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)


@wrong("labels cast to the format of the logits, as Keras did")
class LabelsInBfloat16(CrossEntropy):
    """Labels are rounded to bfloat16, which holds integers up to 256."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        labels = round_to_format(np.where(ignored, 0, case.target).astype(np.float64), BRAIN)
        return (np.arange(case.inputs.shape[1]) == labels[:, None]).astype(np.float64)


@wrong("a shard that does not own the label contributes nothing, and the sum over shards is lost")
class LabelOfTheOtherShard(CrossEntropy):
    """Labels of the second half have no target."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        hot = super().target(case, ignored)
        owned = np.arange(hot.shape[1]) < max(hot.shape[1] // 2 + 1, 1)
        return hot * owned


@wrong("probabilities cast to an integer type", target="distribution")
class DistributionTruncated(CrossEntropy):
    """A distribution is read as the index of its first entry of 1, or 0."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        del ignored
        whole = np.asarray(case.target) == 1.0
        first = np.where(whole.any(axis=1), whole.argmax(axis=1), 0) if whole.size else 0
        return (np.arange(case.inputs.shape[1]) == np.reshape(first, (-1, 1))).astype(np.float64)


@wrong("implementations that normalise what they are given", target="distribution")
class DistributionNormalised(CrossEntropy):
    """sum q is taken for 1 in the gradient: p - q."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        if case.options.weight is not None or case.options.label_smoothing:
            return super().slopes(case, a, p, complement)
        return (1.0 - a) * p - a * complement


@wrong("log sum exp(z) - sum_j q_j z_j, which is right where q sums to 1", target="distribution")
class LogSumExpNotScaled(CrossEntropy):
    """log sum exp is taken once, and not as often as the target sums to."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        loss, gradient, surprise = super().rows(case, ignored)
        a = self.coefficients(case, ignored)
        whole = (surprise + case.inputs).max(axis=1, initial=-np.inf)
        return loss + times(1.0 - a.sum(axis=1), whole), gradient, surprise


@wrong("KL divergence called cross-entropy", target="distribution")
class DivergenceInstead(CrossEntropy):
    """The entropy of the target is taken off."""

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        return super().losses(a, surprise) + times(a, np.log(a)).sum(axis=1)


@wrong("losses that take the argmax of a soft target", target="distribution")
class ArgmaxOfTheTarget(CrossEntropy):
    """A soft target becomes its largest class."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        q = super().target(case, ignored)
        if not q.size:
            return q
        hot = np.arange(q.shape[1]) == q.argmax(axis=1)[:, None]
        return hot * q.sum(axis=1, keepdims=True)


# --- gradients --------------------------------------------------------------------------------


@wrong("a hand-written backward without the mean")
class GradientOfTheSum(CrossEntropy):
    """The gradient of a mean is not divided."""

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        return super().reduced(case, ignored, loss, gradient)[0], gradient


@wrong("a backward that divides by the batch, a forward by the rows that count")
class GradientDividedByAllRows(CrossEntropy):
    """The gradient of a mean is divided by all rows."""

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        whole = super().reduced(case, ignored, loss, gradient)[0]
        divided = case.options.reduction == "mean" and case.rows
        return whole, gradient / case.rows if divided else gradient


@wrong("a gradient made in the forward pass, and returned as it is")
class CotangentIgnored(CrossEntropy):
    """The incoming gradient is taken for 1."""

    def pulled(self, cotangent: Floats, gradient: Floats) -> Floats:
        del cotangent
        return gradient


@wrong("fused linear kernels that scale by the first incoming number")
class FirstCotangentForAll(CrossEntropy):
    """The incoming gradient of the first row scales every row."""

    def pulled(self, cotangent: Floats, gradient: Floats) -> Floats:
        return gradient * cotangent[:1, None]


@wrong("probabilities kept in bfloat16 for the backward pass")
class ProbabilitiesSavedInBfloat16(CrossEntropy):
    """The gradient is made of probabilities that were rounded to bfloat16."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        p = round_to_format(p, BRAIN)
        return super().slopes(case, a, p, round_to_format(complement, BRAIN))


@wrong("Cut Cross-Entropy filters small entries, and declares it; nothing is declared here")
class SmallGradientsDropped(CrossEntropy):
    """Entries of the gradient below 2^-12 are 0."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        found = super().slopes(case, a, p, complement)
        return np.where(np.abs(found) < 2.0**-12, 0.0, found)


@wrong("a custom VJP for one-hot targets, used with smoothing")
class GradientWithoutSmoothing(CrossEntropy):
    """The gradient is that of the label alone."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        if not case.options.label_smoothing or case.options.weight is not None:
            return super().slopes(case, a, p, complement)
        hot = self.target(case, self.ignored(case))
        return super().slopes(case, hot, p, complement)


@wrong("a custom VJP that forgets the class weights")
class GradientWithoutWeights(CrossEntropy):
    """The gradient has no class weights."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        if case.options.weight is None or case.options.label_smoothing:
            return super().slopes(case, a, p, complement)
        return super().slopes(case, self.target(case, self.ignored(case)), p, complement)


@wrong("softmax without - y in one class, an index error of a kernel")
class LabelMissedInTheGradient(CrossEntropy):
    """Label 0 is not subtracted."""

    def slopes(self, case: Case, a: Floats, p: Floats, complement: Floats) -> Floats:
        found = super().slopes(case, a, p, complement)
        found[:, :1] = np.where(a[:, :1] > 0, p[:, :1], found[:, :1])
        return found


@wrong("Liger writes the gradient into the logits, and says so; nothing is declared here")
class LogitsShiftedInPlace(CrossEntropy):
    """The maximum is subtracted from the caller's own logits."""

    def logits(self, case: Case) -> Floats:
        z = case.inputs.copy()
        if z.size:
            np.subtract(case.inputs, self.largest(z), out=case.inputs)
        return z


@wrong("a Gauss-Newton product that keeps the diagonal alone", mode="second")
class HessianWithoutItsMean(CrossEntropy):
    """H v is taken as p v, without the mean of v under p."""

    def curvature(self, a: Floats, p: Floats, complement: Floats, v: Floats) -> Floats:
        del complement
        return a.sum(axis=1, keepdims=True) * p * v


# --- binary -----------------------------------------------------------------------------------


@wrong("log(1 + exp(-|z|)) without log1p, in float32")
class TailWithoutLog1p(BinaryCrossEntropy):
    """1 + exp(-|z|) is rounded to float32 before its logarithm: a small loss is 0."""

    def softplus(self, z: Floats) -> Floats:
        one = round_to_format(1.0 + np.exp(-np.abs(z)), SINGLE)
        return np.maximum(z, 0.0) + np.log(one)


@wrong("the textbook's formula")
class LogOfASigmoid(BinaryCrossEntropy):
    """-log(sigmoid(z)) in float32: infinite below -104."""

    def softplus(self, z: Floats) -> Floats:
        return -np.log(round_to_format(self.sigmoid(-z), SINGLE))


@wrong("the other half of the textbook's formula")
class LogOfOneMinusASigmoid(BinaryCrossEntropy):
    """-log(1 - sigmoid(z)) with a sigmoid rounded to float32: infinite from 17 on."""

    def softplus(self, z: Floats) -> Floats:
        return -np.log(1.0 - round_to_format(self.sigmoid(z), SINGLE))


@wrong("z (1 - y) - logsigmoid(z), PyTorch's form, which declares it")
class DifferenceOfLogisticLogarithms(BinaryCrossEntropy):
    """z (1 - y) + softplus(-z) in float32: the difference cancels where the label is right."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        _, gradient, by_target = super().rows(case, ignored)
        z = case.inputs
        yes, no = self.coefficients(case, self.target(case))
        terms = times(no, z), times(yes + no, self.softplus(-z))
        first, second = (round_to_format(term, SINGLE) for term in terms)
        return (first + second)[:, 0], gradient, by_target


@wrong("smoothing of eps taken from the one label, and none from the other")
class BinarySmoothingNotHalved(BinaryCrossEntropy):
    """y (1 - eps) + eps, in place of eps/2."""

    def smoothed(self, y: Floats, eps: float) -> Floats:
        return y * (1.0 - eps) + eps


@wrong("softplus with a threshold of 20, as torch.nn.functional.softplus has it")
class SoftplusIsLinear(BinaryCrossEntropy):
    """softplus(z) = z past 20, and 0 below -20."""

    def softplus(self, z: Floats) -> Floats:
        return np.where(np.abs(z) > 20, np.maximum(z, 0.0), super().softplus(z))


@wrong("logits clipped for stability")
class LogitsClipped(BinaryCrossEntropy):
    """Logits are clipped to [-15, 15]."""

    def logits(self, case: Case) -> Floats:
        return np.clip(case.inputs, -15.0, 15.0)


@wrong("pos_weight taken for a weight of the row")
class PosWeightOnBothTerms(BinaryCrossEntropy):
    """pos_weight multiplies the negative term too."""

    def coefficients(self, case: Case, y: Floats) -> tuple[Floats, Floats]:
        yes, no = super().coefficients(case, y)
        return yes, no * self.emphasis(case)


@wrong("a backward that was not told of pos_weight")
class GradientWithoutPosWeight(BinaryCrossEntropy):
    """The gradient is sigmoid(z) - y, whatever pos_weight is."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        loss, _, by_target = super().rows(case, ignored)
        y = self.target(case)
        return loss, self.slopes(case.inputs, y, 1.0 - y), by_target


@wrong("weighted means elsewhere")
class MeanOverPosWeights(BinaryCrossEntropy):
    """The mean divides by the sum of the weights."""

    def divisor(self, case: Case, ignored: Bools) -> float:
        del ignored
        return float((1 + (self.emphasis(case) - 1) * np.asarray(case.target)).sum())


@wrong("targets cast to bool")
class SoftLabelsCut(BinaryCrossEntropy):
    """A label above 1/2 is 1, any other 0."""

    def labels(self, case: Case) -> Floats:
        return (np.asarray(case.target) > 0.5).astype(np.float64)


@wrong("sigmoid(z) - y with a sigmoid in float32")
class GradientByDifference(BinaryCrossEntropy):
    """sigmoid(z) - y with a sigmoid rounded to float32: it cancels where the label is right."""

    def slopes(self, z: Floats, yes: Floats, no: Floats) -> Floats:
        return (yes + no) * round_to_format(self.sigmoid(z), SINGLE) - yes


@wrong("labels of -1 and 1 in place of 0 and 1")
class SignFlipped(BinaryCrossEntropy):
    """The classes are swapped."""

    def logits(self, case: Case) -> Floats:
        return -case.inputs


@wrong("MLX and torch clamp the logarithm at -100, and declare it; nothing is declared here")
class LogClamped(BinaryLikelihood):
    """No logarithm is below -100."""

    def surprises(self, p: Floats) -> tuple[Floats, Floats]:
        yes, no = super().surprises(p)
        return np.minimum(yes, 100.0), np.minimum(no, 100.0)


@wrong("losses that take any number for a label")
class AnyTargetAccepted(BinaryLikelihood):
    """A target of 2 has a loss."""

    def demand_valid(self, case: Case) -> None:
        Kernel.demand_valid(self, case)


@wrong("1 - p rounded before its logarithm")
class OneMinusPRounded(BinaryLikelihood):
    """log(1 - p) in float32: a small p loses its digits."""

    def surprises(self, p: Floats) -> tuple[Floats, Floats]:
        return -np.log(p), -np.log(round_to_format(1.0 - p, SINGLE))


@wrong("a floor in the denominator of the gradient alone, as PyTorch has it and declares it")
class GradientFloored(BinaryLikelihood):
    """(p - y) / max(p (1 - p), 1e-3)."""

    def slopes(self, p: Floats, y: Floats) -> Floats:
        return (p - y) / np.maximum(p * (1.0 - p), 1e-3)


# --- from probabilities, and focal --------------------------------------------------------------


@wrong("Keras divides by the sum, and says so; nothing is declared here")
class ProbabilitiesNormalised(Likelihood):
    """p is divided by its sum, which is not 1 in the format."""

    def probabilities(self, case: Case) -> Floats:
        p = case.inputs
        return p / p.sum(axis=1, keepdims=True)


@wrong("arguments in the other order")
class ArgumentsSwapped(Likelihood):
    """-sum p log q for -sum q log p, with q kept from 0."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        _, gradient, by_target = super().rows(case, ignored)
        labels = np.where(ignored, 0, case.target)
        q = (np.arange(case.inputs.shape[1]) == labels[:, None]) + 1e-7
        return times(case.inputs, -np.log(q)).sum(axis=1), gradient, by_target


@wrong("a softmax in a probability loss")
class ProbabilitiesSoftmaxed(Likelihood):
    """The probabilities are put through a softmax."""

    def probabilities(self, case: Case) -> Floats:
        e = np.exp(case.inputs)
        return e / e.sum(axis=1, keepdims=True)


@wrong("focal loss written with p for 1 - p")
class ModulatedByTheWrongSide(Focal):
    """p_t^gamma in place of (1 - p_t)^gamma."""

    def modulator(self, share: Floats, rest: Floats, gamma: float) -> Floats:
        del rest
        return share**gamma


@wrong("a modulating factor that is detached from the graph")
class ModulatorDetached(Focal):
    """The factor (1 - p_t)^gamma is taken for a constant by the gradient."""

    def focal_slopes(
        self, picked: tuple[Floats, Floats, Floats], p: Floats, hot: Bools, gamma: float
    ) -> Floats:
        _, _, rest = picked
        slope = np.where(hot, -rest[:, None], p)
        return rest[:, None] ** gamma * slope


@wrong("gamma (1 - p_t)^(gamma - 1) at p_t = 1 and gamma < 1")
class PowerOfZero(Focal):
    """0^(gamma - 1) times 0 is NaN where the target has everything."""

    def focal_slopes(
        self, picked: tuple[Floats, Floats, Floats], p: Floats, hot: Bools, gamma: float
    ) -> Floats:
        own, share, rest = picked
        pull = gamma * share * own * rest ** (gamma - 1.0) + rest**gamma
        return np.where(hot, -(pull * rest)[:, None], p * pull[:, None])


@wrong("a default of 2 where another was passed")
class GammaFixed(Focal):
    """gamma is 2, whatever is passed."""

    def factors(self, case: Case) -> tuple[float, float]:
        return 2.0, super().factors(case)[1]


@wrong("an argument that is accepted and not used")
class AlphaIgnored(Focal):
    """alpha changes nothing."""

    def factors(self, case: Case) -> tuple[float, float]:
        return super().factors(case)[0], 1.0


# --- how the numbers lie, and how they come back ------------------------------------------------


@wrong("a kernel that walks through the rows and keeps its running sum", target="distribution")
class SumNotReset(CrossEntropy):
    """The sum of exponentials of a row begins with a part of that of the row before it."""

    def total(self, e: Floats) -> Floats:
        own = super().total(e)
        return own + np.concatenate([np.zeros((1, 1)), own])[: len(own)] / 1024


@wrong("pytorch#111484 and #190139: kernels that take logits for contiguous")
class StridesIgnored(CrossEntropy):
    """Logits are read one after the other in memory, whatever the strides are."""

    def logits(self, case: Case) -> Floats:
        if case.layout != "strided":
            return case.inputs
        read = np.repeat(case.inputs, 2, axis=1).reshape(-1)[: case.inputs.size]
        return read.reshape(case.inputs.shape)


@wrong("a loss that is kept in the format of a buffer")
class HalfReturned(CrossEntropy):
    """The loss comes back in float16, whatever the logits were."""

    def __call__(self, case: Case) -> tuple[Floats, ...]:
        loss, *more = super().__call__(case)
        narrow: Any = loss.astype(np.float16)
        return narrow, *more


# --- what one region alone shows --------------------------------------------------------------


@wrong("Keras 3.15: Loss.__call__ casts y_true, labels too, to the dtype of the loss")
class LabelsCastToHalf(CrossEntropy):
    """A label passes through float16, where 2051 is 2052 and 2049 is 2048."""

    def rows(self, case: Case, ignored: Bools) -> tuple[Floats, Floats, Floats]:
        most = case.inputs.shape[1] - 1
        through = round_to_format(np.asarray(case.target, dtype=np.float64), HALF).astype(np.int64)
        return super().rows(replace(case, target=np.minimum(through, most)), ignored)


@wrong("labels copied into an int32 tensor, without a look at what does not fit", mode="jit")
class LabelsCutTo32Bits(CrossEntropy):
    """The lower 32 bits of a label are looked at: 2^32 is 0, and raises nothing."""

    def compute(self, case: Case) -> tuple[Floats, ...]:
        cut = np.asarray(case.target).astype(np.uint64) & np.uint64(0xFFFFFFFF)
        cut = cut.astype(np.uint32).view(np.int32).astype(np.int64)
        return super().compute(replace(case, target=cut))


@wrong("a running maximum of a tile that is not reset between rows")
class LostRowTakesTheNextAlong(CrossEntropy):
    """After a row of nothing but -inf the next one is NaN."""

    def lost(self, z: Floats) -> Bools:
        nothing = np.asarray(np.isneginf(z).all(axis=1))
        return super().lost(z) | np.concatenate([[False], nothing[:-1]])[: len(z)]


@wrong("squeeze() of a batch, which takes the batch axis where it is 1")
class OneRowSqueezed(CrossEntropy):
    """In a batch of one row the class weights of the loss are those of its mean, 1/K."""

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        found = super().losses(a, surprise)
        return found / surprise.shape[1] if len(surprise) == 1 else found


@wrong("code that hands two classes to the binary loss as the logit of the second")
class TwoClassesTakenForBinary(CrossEntropy):
    """Of two classes the logit of the first is taken for 0."""

    def logits(self, case: Case) -> Floats:
        z = case.inputs
        return np.where(np.arange(2) == 0, 0.0, z) if z.shape[1] == 2 else z


@wrong("sum / count of the rows that count, with max(count, 1) in one place of two")
class MeanOfNothing(CrossEntropy):
    """Where every row is ignored the mean is 0, and its sum NaN."""

    def reduced(
        self, case: Case, ignored: Bools, loss: Floats, gradient: Floats
    ) -> tuple[Floats, Floats]:
        found, slopes = super().reduced(case, ignored, loss, gradient)
        nothing = case.options.reduction == "sum" and bool(ignored.all()) and len(ignored) > 0
        return (np.asarray(np.nan) if nothing else found), slopes


@wrong("an argmax in front of a kernel that takes indices, with a threshold", target="distribution")
class EvenTargetsSharpened(CrossEntropy):
    """A target whose shares are all alike is taken for one of its first class."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        q = super().target(case, ignored)
        if q.shape[1] < 2:
            return q
        even = np.asarray(q.max(axis=1) - q.min(axis=1) < 2.0**-4)
        return np.where(even[:, None], np.arange(q.shape[1]) == 0, q)


@wrong("a mixup or a mask whose targets are normalised a second time", target="distribution")
class TargetsNormalised(CrossEntropy):
    """A target is divided by its sum, though sums other than 1 are promised."""

    def target(self, case: Case, ignored: Bools) -> Floats:
        q = super().target(case, ignored)
        whole = q.sum(axis=1, keepdims=True)
        return q / np.where(whole == 0, 1.0, whole)


@wrong("q log q written with a mask q > 0", target="distribution")
class NegativeTargetsDropped(CrossEntropy):
    """A negative share of a target counts for nothing in the loss."""

    def losses(self, a: Floats, surprise: Floats) -> Floats:
        return super().losses(np.maximum(a, 0.0), surprise)


@wrong("weight = weight or 1: a number that is false")
class WeightOfZeroNotPassed(CrossEntropy):
    """A class weight of 0 is taken for none, which is 1."""

    def weighted(self, q: Floats, weight: Floats, case: Case) -> Floats:
        return super().weighted(q, np.where(weight == 0, 1.0, weight), case)


@wrong("if 0.0 < label_smoothing < 1.0")
class FullSmoothingLeftOut(CrossEntropy):
    """Smoothing of 1 is taken for none."""

    def smoothed(self, q: Floats, eps: float) -> Floats:
        return q if eps == 1.0 else super().smoothed(q, eps)


@wrong("frexp-like scaling in front of a logarithm, in the format itself")
class HalvedBeforeTheLogarithm(BinaryLikelihood):
    """log p is log(p / 2) + log 2 in float32, where half of the least subnormal is 0."""

    def surprises(self, p: Floats) -> tuple[Floats, Floats]:
        own, rest = super().surprises(p)
        return np.where(
            round_to_format(p / 2, SINGLE) == 0, np.where(p == 0, own, np.inf), own
        ), rest


CANNOT_EXIST: dict[str, str] = {
    "temperature or softcap lost in the gradient": "no operation has a temperature or a softcap",
    "z-loss gradient without its factor 2": "no operation has a z-loss",
    "32-bit row offsets": "takes more than 2^31 logits in one batch, 8 GiB in float32",
    "binary smoothing of eps in place of eps/2": "no kernel here has binary smoothing; Keras has",
    "maximum over padded columns": "where leaves classes out of no mutant's kernel here",
}
"""Mistakes of which there is no mutant, and why."""
