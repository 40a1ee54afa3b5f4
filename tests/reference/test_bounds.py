"""The a-priori bounds hold for plain implementations, come near their errors, and say when void.

Implementations of every class in NumPy: in float32 and float64, in the 16-bit formats with float32
arithmetic, and in the 16-bit formats themselves, rounding after each operation.
"""

from __future__ import annotations

import doctest
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from lossaudit.reference import bounds as bounds_module
from lossaudit.reference import error_bound, rows, tempered
from lossaudit.reference.exact import Exact, divided, scale, subtract, to_float, total
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.truth import Truth
from lossaudit.reference.vocabulary import OPERATIONS, Arithmetic, Case, Options, Semantics

# Errors of exp, log and log1p in units of u: NumPy's float32 exp and log are within 2.52 and 3.83
# ulps (numpy/numpy#13134), its float64 ones within 4 (numpy/numpy#19478); log1p is the C library's,
# taken at 4. In a 16-bit format they are float64 values rounded once.
CONSTANTS = {
    "float32": (5.04, 7.66, 8.0),
    "float64": (8.0, 8.0, 8.0),
    "bfloat16": (1.0, 1.0, 1.0),
    "float16": (1.0, 1.0, 1.0),
}
REAL = {"float32": np.float32, "float64": np.float64}
FORMS = [
    ("float32", "float32"),
    ("float64", "float64"),
    ("bfloat16", "float32"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
]
ROWS = {2: 60, 10: 40, 1000: 6}
WIDEST = 10
"""Classes up to which everything is tried; above, what costs little."""
REGIONS = ("ordinary", "saturated", "offset", "huge")
SEMANTICS = Semantics(smoothing="eps/K")
SLOW_TEMPERATURE = 0.7
"""Not a number of any format but float64; its truth is a matter of decimals."""
NEAR = 0.3
"""A bound that no error comes nearer to than this would hide errors."""


class Machine:
    """Arithmetic in one format: NumPy's own, or float64 rounded after each operation."""

    def __init__(self, dtype: str, working: str) -> None:
        self.dtype, self.working = dtype, working
        self.native = working not in REAL

    def take(self, x) -> np.ndarray:
        return self.fl(np.asarray(x, dtype=np.float64)) if self.native else REAL[self.working](x)

    def fl(self, x) -> np.ndarray:
        return round_to_format(x, FORMATS[self.working]) if self.native else x

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Over the last axis: one by one, or as NumPy does it, in pairs."""
        if not self.native:
            return x.sum(axis=-1, dtype=REAL[self.working])
        whole = x[..., 0]
        for j in range(1, x.shape[-1]):
            whole = self.fl(whole + x[..., j])
        return whole

    def out(self, x: np.ndarray) -> np.ndarray:
        return round_to_format(np.asarray(x, dtype=np.float64), FORMATS[self.dtype])

    def arithmetic(self, form: str, gradient: str) -> Arithmetic:
        c_exp, c_log, c_log1p = CONSTANTS[self.working]
        return Arithmetic(
            form=form,
            gradient=gradient,
            working=self.working,
            stored=self.working,
            height="sequential" if self.native else "pairwise",
            c_exp=c_exp,
            c_log=c_log,
            c_log1p=c_log1p,
            c_sigmoid=c_exp + 4,
            flush=False,
            origin="NumPy",
        )


# --- implementations --------------------------------------------------------------------------


def class_coefficients(case: Case, m: Machine) -> np.ndarray:
    """a_j = w_j ((1 - eps) q_j + eps / K)."""
    classes, options = case.inputs.shape[1], case.options
    q = case.target
    if q.ndim == 1:
        q = np.equal(np.arange(classes), q[:, None])
    a = m.take(q)
    if options.label_smoothing:
        eps, one = m.take(options.label_smoothing), m.take(1.0)
        a = m.fl(m.fl(m.fl(one - eps) * a) + m.fl(eps / m.take(float(classes))))
    return a if options.weight is None else m.fl(a * m.take(options.weight))


def softmax_rows(case: Case, m: Machine, form: str, gradient: str, temperature: float):
    """Loss and gradient of each row, before the rounding to the output."""
    z, a = m.take(case.inputs), class_coefficients(case, m)
    t = m.take(temperature)
    x = m.fl(z / t) if temperature != 1.0 else z
    largest = x.max(axis=1, keepdims=True)
    shifted = m.fl(x - largest)
    e = m.fl(np.exp(shifted))
    top = np.equal(np.arange(z.shape[1]), x.argmax(axis=1)[:, None])
    tail = m.sum(np.where(top, m.take(0.0), e))[:, None]
    whole = m.fl(m.take(1.0) + tail) if form == "C" else m.sum(e)[:, None]
    if form == "A":
        surprise = m.fl(m.fl(largest + m.fl(np.log(whole))) - x)
    else:
        log = m.fl(np.log1p(tail)) if form == "C" else m.fl(np.log(whole))
        surprise = m.fl(log - shifted)
    share = m.fl(np.exp(-surprise)) if gradient == "exp logp" else m.fl(e / whole)
    if form == "log softmax":
        surprise = m.fl(-np.log(share))
    if case.target.ndim == 1 and not case.options.label_smoothing:
        place = np.arange(case.rows), case.target
        loss = m.fl(a[place] * surprise[place])
    else:
        loss = m.sum(m.fl(np.where(a != 0, a * surprise, m.take(0.0))))
    if form == "log softmax":  # by automatic differentiation
        a = np.where(a != 0, m.fl(m.fl(a / share) * share), a)
    if gradient == "relative":
        rest = m.fl(m.take(1.0) - share)
        rest = np.where(top, m.fl(tail / whole), rest)
        slope = m.fl(m.fl(all_others(a, m) * share) - m.fl(a * rest))
    else:
        slope = m.fl(m.fl(m.sum(a)[:, None] * share) - a)
    return loss, m.fl(slope / t) if temperature != 1.0 else slope


def all_others(a: np.ndarray, m: Machine) -> np.ndarray:
    """The sum of all coefficients of a row but one, without a difference."""
    if (np.count_nonzero(a, axis=1) <= 1).all():
        return m.sum(a)[:, None] - a  # exact
    places = np.arange(a.shape[1])
    return np.stack([m.sum(np.where(places == j, m.take(0.0), a)) for j in places], axis=1)


def binary_logits(case: Case, m: Machine, form: str, gradient: str, _: float):
    z, y, other, w = m.take(case.inputs), *binary_coefficients(case, m)
    zero, one = m.take(0.0), m.take(1.0)
    small = m.fl(np.exp(-np.abs(z)))
    log = m.fl(np.log1p(small))
    wy = m.fl(w * y)
    if form == "std":
        loss = m.fl(m.fl(np.maximum(z, zero) - m.fl(z * y)) + log)
    elif form == "torch":
        down = m.fl(np.maximum(-z, zero) + log)
        factor = m.fl(one + m.fl(m.fl(w - one) * y))
        loss = m.fl(m.fl(other * z) + m.fl(factor * down))
    else:
        up, down = m.fl(np.maximum(z, zero) + log), m.fl(np.maximum(-z, zero) + log)
        loss = m.fl(m.fl(other * up) + m.fl(wy * down))
    large, little = m.fl(one / m.fl(one + small)), m.fl(small / m.fl(one + small))
    right, wrong = np.where(z > 0, large, little), np.where(z > 0, little, large)
    if gradient == "sigmoid":
        factor = m.fl(other + wy) if form == "torch" else one
        slope = m.fl(m.fl(factor * right) - wy)
    else:
        slope = m.fl(m.fl(other * right) - m.fl(wy * wrong))
    return loss[:, 0], slope


def binary_coefficients(case: Case, m: Machine):
    """y and 1 - y, smoothed toward 1/2, and the pos_weight."""
    y, options, one = m.take(case.target), case.options, m.take(1.0)
    other = m.fl(one - y)
    if options.label_smoothing:
        eps = m.take(options.label_smoothing)
        kept, added = m.fl(one - eps), m.fl(eps / m.take(2.0))
        y, other = m.fl(m.fl(y * kept) + added), m.fl(m.fl(other * kept) + added)
    return y, other, m.take(1.0 if options.pos_weight is None else options.pos_weight)


def binary_probabilities(case: Case, m: Machine, _: str, gradient: str, __: float):
    p, y, other, w = m.take(case.inputs), *binary_coefficients(case, m)
    y, one = m.fl(w * y), m.take(1.0)
    q = m.fl(one - p)
    logs = m.fl(np.log(p)), m.fl(np.log1p(-p))
    loss = m.fl(m.fl(y * -logs[0]) + m.fl(other * -logs[1]))
    if gradient == "difference":
        slope = m.fl(m.fl(other / q) - m.fl(y / p))
    else:
        plain = case.options == Options(reduction=case.options.reduction)
        above = m.fl(p - y) if plain else m.fl(m.fl(other * p) - m.fl(y * q))
        slope = m.fl(above / m.fl(p * q))
    return loss[:, 0], slope


def reduce_rows(loss, slope, case: Case, semantics: Semantics, m: Machine, sample):
    """The sum or mean of rows, and its gradient by a cotangent 1/divisor."""
    if sample is not None:
        s = m.take(sample)
        loss, slope = m.fl(loss * s), m.fl(slope * s[:, None])
    whole = m.sum(loss)
    if case.options.reduction == "sum":
        return whole, slope
    if semantics.mean == "sample_weights":
        divisor = m.sum(m.take(sample))
    elif semantics.mean == "weights" and case.options.weight and case.target.ndim == 1:
        divisor = m.sum(m.take(case.options.weight)[case.target])
    else:
        divisor = m.take(float(case.rows))
    return m.fl(whole / divisor), m.fl(slope * m.fl(m.take(1.0) / divisor))


# --- cases ------------------------------------------------------------------------------------


def logits_in(region: str, dtype: str, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits as in training, with a leading target, with an offset, or huge; and targets."""
    rng = np.random.default_rng([REGIONS.index(region), list(FORMATS).index(dtype), classes])
    z = rng.standard_normal((count, classes))
    target = rng.integers(0, classes, count)
    if region == "ordinary":
        z = z * rng.choice([0.01, 1.0, 10.0], (count, 1))
    elif region == "saturated":
        z[np.arange(count), target] = z.max(axis=1) + rng.uniform(0, 30, count)
    elif region == "offset":
        z = 5 * z + 1e4 * rng.choice([-1.0, 1.0], (count, 1))
    else:
        z = rng.uniform(-1, 1, z.shape) * FORMATS[dtype].max / 16
    return round_to_format(z, FORMATS[dtype]), target


def distributions(dtype: str, count: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(classes)
    return round_to_format(rng.dirichlet(np.ones(classes), count), FORMATS[dtype])


def class_weights(dtype: str, count: int) -> tuple[float, ...]:
    rng = np.random.default_rng(7)
    return tuple(round_to_format(rng.uniform(0.25, 4.0, count), FORMATS[dtype]).tolist())


@dataclass(frozen=True)
class Question:
    """A case, what is around it, and its exact answer."""

    case: Case
    semantics: Semantics
    truth: Truth
    loss: Exact
    gradient: Exact
    temperature: float = 1.0
    sample: np.ndarray | None = None


def ask(
    case: Case,
    semantics: Semantics = SEMANTICS,
    temperature: float = 1.0,
    sample: np.ndarray | None = None,
) -> Question:
    if temperature == 1.0:
        found = rows.truth(case, semantics)
    else:
        found = tempered.truth(case, semantics, Fraction(temperature), Fraction(0))
    return Question(
        case, semantics, found, *reduced(found, case, semantics, sample), temperature, sample
    )


def reduced(found: Truth, case: Case, semantics: Semantics, sample):
    """The exact sum or mean; a mean by sample weights is one of weighted rows."""
    if sample is None:
        return rows.reduce_truth(found, case, semantics)
    loss, gradient = scale(found.loss, sample), scale(found.gradient, sample[:, None])
    whole = total(loss)
    if case.options.reduction == "sum":
        return whole, gradient
    divisor = total(Exact.from_float(sample))
    return divided(whole, divisor), divided(gradient, divisor)


@cache
def class_questions(dtype: str, classes: int) -> list[tuple[str, Question]]:
    found = []
    for region in REGIONS:
        z, target = logits_in(region, dtype, ROWS[classes], classes)
        case = Case("cross_entropy", dtype, z, target)
        asked = [ask(case)]
        if classes <= WIDEST or region != "huge":  # in bfloat16 there are exact ties: slow
            asked += [ask(case, temperature=4.0), *with_options(case)]
        if classes <= WIDEST or region == "ordinary":
            few = case.take(np.arange(min(case.rows, 8 if classes <= WIDEST else 1)))
            asked.append(ask(few, temperature=SLOW_TEMPERATURE))
        if region != "huge":  # there a sum may overflow, of which no bound speaks
            asked += sums_and_means(case)
        found += [(region, question) for question in asked]
    return found


def with_options(case: Case) -> Iterator[Question]:
    """Soft, smoothed and weighted."""
    soft = replace(case, target=distributions(case.dtype, *case.inputs.shape))
    weight = class_weights(case.dtype, case.inputs.shape[1])
    yield ask(replace(soft, options=Options(weight=weight, label_smoothing=0.1)))
    if case.inputs.shape[1] <= WIDEST:
        yield ask(soft)
        yield ask(replace(case, options=Options(label_smoothing=0.1)))
        yield ask(replace(case, options=Options(weight=weight)))


def sums_and_means(case: Case) -> Iterator[Question]:
    """Of weighted rows, with every divisor."""
    weight = class_weights(case.dtype, case.inputs.shape[1])
    sample = np.array(class_weights(case.dtype, case.rows))
    kinds: list[tuple[str, str, np.ndarray | None]] = [("mean", "weights", None)]
    if case.inputs.shape[1] <= WIDEST:
        kinds += [("sum", "rows", None), ("mean", "rows", None), ("mean", "valid", None)]
        kinds += [("mean", "sample_weights", sample), ("sum", "rows", sample)]
    for reduction, mean, given in kinds:
        options = Options(weight=weight, reduction=reduction)
        semantics = replace(SEMANTICS, mean=mean)
        yield ask(replace(case, options=options), semantics, sample=given)


# --- ratios -----------------------------------------------------------------------------------

Rows = Callable[[Case, Machine, str, str, float], tuple[np.ndarray, np.ndarray]]


def ratios(question: Question, m: Machine, function: Rows, form: str, gradient: str):
    """Errors over bounds of loss and gradient, where both are finite."""
    case = question.case
    with np.errstate(all="ignore"):
        found = function(case, m, form, gradient, question.temperature)
        if case.options.reduction != "none":
            found = reduce_rows(*found, case, question.semantics, m, question.sample)
    bound = error_bound(
        replace(case, sample_weight=question.sample),
        question.semantics,
        m.arithmetic(form, gradient),
        temperature=question.temperature,
    )
    pairs = (question.loss, bound.loss), (question.gradient, bound.gradient)
    return [
        ratio(m.out(value), exact, limit)
        for value, (exact, limit) in zip(found, pairs, strict=True)
    ]


def ratio(value: np.ndarray, exact: Exact, limit: np.ndarray) -> np.ndarray:
    """|error| / bound where there is one; an infinite error where a value is not finite."""
    finite = np.isfinite(value)
    error = np.abs(to_float(subtract(exact, Exact.from_float(np.where(finite, value, 0.0)))))
    error = np.where(finite, error, np.inf)
    judged = np.isfinite(limit) & np.isfinite(exact.hi)
    return (error / np.where(judged, limit, 1.0))[judged]


CLASSES = [("A", "division"), ("A", "exp logp"), ("B", "division"), ("B", "exp logp"),
           ("C", "relative")]  # fmt: skip


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("formats", FORMS, ids="-".join)
def test_forms_of_cross_entropy(formats: tuple[str, str], classes: int) -> None:
    m = Machine(*formats)
    worst = Worst()
    for region, question in class_questions(formats[0], classes):
        for form, gradient in CLASSES:
            soft = question.case.target.ndim == 2 or question.case.options.label_smoothing > 0
            if classes > WIDEST and (gradient == "exp logp" or (gradient == "relative" and soft)):
                continue  # every sum costs a thousand roundings, and those without one term more
            worst.note(question, m, softmax_rows, form, gradient, region)
        # e_t is a part of s, and their errors cancel in part: this bound holds, but is not near.
        Worst().note(question, m, softmax_rows, "log softmax", "division", region)
    # Where the sum of a narrow format is lost, next to nothing has a bound.
    if formats[1] != "bfloat16" or classes <= WIDEST:
        worst.demand_near()


class Worst:
    """The largest error over bound of each form and output."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], float] = {}

    def note(
        self, question: Question, m: Machine, function: Rows, form: str, gradient: str, region: str
    ) -> None:
        pair = ratios(question, m, function, form, gradient)
        for name, found in zip((form, f"gradient {gradient}"), pair, strict=True):
            most = float(found.max(initial=0.0))
            asked = question.case.options, question.temperature, question.semantics
            assert most <= 1, (region, name, most, *asked)
            key = question.case.operation, name
            self.found[key] = max(most, self.found.get(key, 0.0))

    def demand_near(self) -> None:
        assert min(self.found.values()) > NEAR, self.found


BINARY = [("std", "sigmoid"), ("torch", "sigmoid"), ("split", "relative")]
PROBABILITIES = [("log p", "quotient"), ("log p", "difference"), ("log p exact", "relative")]
BINARY_SEMANTICS = Semantics(smoothing="toward 1/2")


def binary_questions(operation: str, dtype: str) -> Iterator[tuple[str, Question]]:
    fmt = FORMATS[dtype]
    rng = np.random.default_rng(3)
    for region in REGIONS:
        z, _ = logits_in(region, dtype, 80, 1)
        if operation == "binary_cross_entropy":
            # Away from 0 and 1 by 2^-12, and near them as far as the format goes.
            z = rng.uniform(2.0**-12, 1.0, z.shape) * np.ldexp(1.0, -rng.integers(0, 8, z.shape))
            z = np.minimum(round_to_format(z, fmt), 1.0 - fmt.unit_roundoff)
        hard = (rng.random(z.shape) < 0.5).astype(np.float64)
        case = Case(operation, dtype, z, hard)
        soft = replace(case, target=round_to_format(rng.random(z.shape), fmt))
        for asked in (case, soft):
            yield region, ask(asked, BINARY_SEMANTICS)
            for options in (Options(label_smoothing=0.1), Options(pos_weight=2.5)):
                yield region, ask(replace(asked, options=options), BINARY_SEMANTICS)
        if region in ("ordinary", "saturated"):  # elsewhere a sum may overflow in float16
            sample = np.array(class_weights(dtype, case.rows))
            for reduction, mean, given in (
                ("sum", "rows", None),
                ("mean", "rows", None),
                ("mean", "sample_weights", sample),
            ):
                options = Options(reduction=reduction)
                semantics = replace(BINARY_SEMANTICS, mean=mean)
                yield region, ask(replace(soft, options=options), semantics, sample=given)


def test_binary_forms() -> None:
    worst = Worst()
    for dtype, working in FORMS:
        m = Machine(dtype, working)
        for region, question in binary_questions("binary_cross_entropy_with_logits", dtype):
            for form, gradient in BINARY:
                if form == "std" and question.case.options.pos_weight is not None:
                    continue  # not a formula of that form
                worst.note(question, m, binary_logits, form, gradient, region)
        for region, question in binary_questions("binary_cross_entropy", dtype):
            for form, gradient in PROBABILITIES:
                worst.note(question, m, binary_probabilities, form, gradient, region)
    worst.demand_near()


@pytest.mark.parametrize("formats", FORMS, ids="-".join)
@pytest.mark.parametrize("operation", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_the_complement_of_a_smoothed_label_has_the_error_of_the_label(
    operation: str, formats: tuple[str, str]
) -> None:
    """1 - y, where y (1 - eps) + eps/2 was rounded to 1 or next to it: nothing of it is right."""
    m = Machine(*formats)
    from_logits = operation.endswith("logits")
    rng = np.random.default_rng(4)
    x = rng.uniform(-8, 8, (60, 1)) if from_logits else rng.uniform(2.0**-6, 1 - 2.0**-7, (60, 1))
    x = round_to_format(x, FORMATS[formats[0]])
    eps = 4 * FORMATS[formats[1]].unit_roundoff / 3
    case = Case(operation, formats[0], x, np.ones_like(x), Options(label_smoothing=eps))
    function, form, gradient = binary_probabilities, "log p", "difference"
    if from_logits:
        function, form, gradient = binary_logits, "torch", "sigmoid"

    def formed(case: Case, m: Machine, *rest):
        """The loss with 1 - y formed of the smoothed y."""
        one = m.take(1.0)
        kept, added = m.fl(one - m.take(eps)), m.fl(m.take(eps) / m.take(2.0))
        y = m.fl(m.fl(m.take(case.target) * kept) + added)
        return function(replace(case, target=np.float64(y), options=Options()), m, *rest)

    question = ask(case, BINARY_SEMANTICS)
    for found in ratios(question, m, formed, form, gradient):
        assert found.size
        assert found.max() <= 1.0


def test_the_weight_of_binary_rows_is_in_their_bound() -> None:
    z, _ = logits_in("ordinary", "float32", 80, 1)
    plain = Case("binary_cross_entropy_with_logits", "float32", z, np.ones_like(z))
    m = Machine("float32", "float32")
    weighted = replace(plain, options=Options(weight=(3.0,)))
    loss, slope = (m.take(3.0) * x for x in binary_logits(plain, m, "split", "relative", 1.0))
    question = ask(weighted, BINARY_SEMANTICS)
    bound = error_bound(weighted, BINARY_SEMANTICS, m.arithmetic("split", "relative"))
    assert ratio(m.out(loss), question.loss, bound.loss).max() <= 1
    assert ratio(m.out(slope), question.gradient, bound.gradient).max() <= 1


@pytest.mark.parametrize("form", "AB")
def test_a_lost_sum_has_no_bound(form: str) -> None:
    """1000 equal terms in bfloat16, one by one: the sum may be off by more than itself."""
    case = Case("cross_entropy", "bfloat16", np.zeros((2, 1000)), np.array([0, 1]))
    native, wide = (Machine("bfloat16", w).arithmetic(form, "division") for w in
                    ("bfloat16", "float32"))  # fmt: skip
    assert error_bound(case, SEMANTICS, native).void.all()
    assert not error_bound(case, SEMANTICS, wide).void.any()
    mean = replace(case, options=Options(reduction="mean"))
    assert error_bound(mean, SEMANTICS, native).void
    assert not error_bound(mean, SEMANTICS, wide).void


@pytest.mark.parametrize("region", ["saturated", "offset"])
def test_class_a_does_not_pass_for_class_c(region: str) -> None:
    m = Machine("float32", "float32")
    z, target = logits_in(region, "float32", 60, 10)
    question = ask(Case("cross_entropy", "float32", z, target))
    loss, _ = softmax_rows(question.case, m, "A", "division", 1.0)
    bound = error_bound(question.case, SEMANTICS, m.arithmetic("C", "relative")).loss
    assert ratio(m.out(loss), question.loss, bound).max() > 1


def test_what_is_asked_for_wrongly() -> None:
    case = Case("binary_cross_entropy", "float32", np.full((1, 1), 0.5), np.ones((1, 1)))
    plain = Machine("float32", "float32").arithmetic("log p", "quotient")
    with pytest.raises(ValueError, match="no temperature"):
        error_bound(case, SEMANTICS, plain, temperature=2.0)
    with pytest.raises(ValueError, match="reduction 'median'"):
        error_bound(replace(case, options=Options(reduction="median")), SEMANTICS, plain)


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(bounds_module).failed == 0


ONE_OF = {
    "cross_entropy": ("A or B", ("A", "B"), ("division", "exp logp")),
    "binary_cross_entropy_with_logits": (
        "std, torch or split",
        ("std", "torch", "split"),
        ("sigmoid", "exp logp"),
    ),
    "binary_cross_entropy": ("log p", ("log p",), ("difference", "quotient")),
}


@pytest.mark.parametrize("operation", list(ONE_OF))
def test_a_form_that_is_left_open_has_the_largest_bound_of_those_it_may_be(operation: str) -> None:
    logits = np.array([[-100.0, 0.25], [3.0, 2.0], [0.5, 40.0], [1e4, 9.9e3]])
    case = Case(operation, "float32", logits, np.array([0, 1, 0, 1]))
    if operation.startswith("binary"):
        values = logits[:, :1] if operation.endswith("logits") else logits[:, :1] / 2**14
        case = Case(operation, "float32", np.abs(values), np.array([[0.0], [1.0], [1.0], [0.5]]))
    form, forms, gradients = ONE_OF[operation]
    machine = ("float32", "float32", "sequential", 8.0, 8.0, 10.0, 14.0, True, "")
    left_open = error_bound(case, SEMANTICS, Arithmetic(form, "any", *machine))
    each = [
        error_bound(case, SEMANTICS, Arithmetic(one, gradient, *machine))
        for one in forms
        for gradient in gradients
    ]
    np.testing.assert_array_equal(left_open.loss, np.max([b.loss for b in each], axis=0))
    np.testing.assert_array_equal(left_open.gradient, np.max([b.gradient for b in each], axis=0))
    assert np.isfinite(left_open.loss).all()
    # No one form is the widest everywhere, which is why there is such a thing.
    if len(forms) > 1:
        assert all((b.loss < left_open.loss).any() for b in each)
    assert bounds_module.demanded(Arithmetic(form, "any", *machine)) == bounds_module.demanded(
        Arithmetic(forms[0], gradients[0], *machine)
    )


PLAIN = Machine("float32", "float32").arithmetic("C", "division")


@pytest.mark.parametrize("pos_weight", [None, 0.01, 2.5])
@pytest.mark.parametrize("operation", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_targets_outside_of_zero_and_one_have_bounds_of_their_terms(
    operation: str, pos_weight: float | None
) -> None:
    """There the two terms cancel, and their roundings do not."""
    rng, m = np.random.default_rng(7), Machine("float32", "float32")
    x = rng.uniform(2.0**-6, 1.0 - 2.0**-6, (400, 1)).astype(np.float32).astype(np.float64)
    y = rng.integers(-8, 9, x.shape).astype(np.float64)
    x[:2], y[:2] = np.float32(0.3), -1.0
    from_logits = operation.endswith("logits")
    x = x * 20 - 10 if from_logits else x
    function, forms = (
        (binary_logits, BINARY) if from_logits else (binary_probabilities, PROBABILITIES)
    )
    case = Case(operation, "float32", x.astype(np.float32).astype(np.float64), y)
    question = ask(replace(case, options=Options(pos_weight=pos_weight)), BINARY_SEMANTICS)
    for form, gradient in forms:
        if form == "std" and pos_weight is not None:
            continue  # not a formula of that form
        for found in ratios(question, m, function, form, gradient):
            assert 0.0 <= found.min() <= found.max() <= 1.0, (form, gradient)


def signed(q: np.ndarray) -> Iterator[np.ndarray]:
    """Targets that sum to 1/2 and 2, and some with negative shares: exact in every format."""
    yield from (q / 2, q * 2)
    rng = np.random.default_rng(11)
    yield rng.integers(-6, 7, q.shape) / 4
    # Their sum is 0: what is left of A p_j - a_j is a_j alone, and A a rounding.
    balanced = np.zeros(q.shape)
    balanced[:, :2] = (1.5, -1.5)
    yield balanced


@pytest.mark.parametrize("soft_gradient", ["sum(q) p - q", "p - q"])
@pytest.mark.parametrize("formats", FORMS, ids="-".join)
def test_targets_that_are_no_distributions_have_bounds_of_their_terms(
    formats: tuple[str, str], soft_gradient: str
) -> None:
    m, semantics = Machine(*formats), replace(SEMANTICS, soft_gradient=soft_gradient)
    rows_of = softmax_rows if soft_gradient == "sum(q) p - q" else shares_less_targets
    for region in ("ordinary", "saturated"):
        z, _ = logits_in(region, formats[0], 40, 3)
        for q in signed(distributions(formats[0], 40, 3)):
            case = Case("cross_entropy", formats[0], z, q)
            for weight in (None, (0.5, 3.0, 1.0)):
                asked = replace(case, options=Options(weight=weight))
                question = ask(asked, semantics)
                for form, gradient in CLASSES:
                    if soft_gradient == "p - q" and gradient == "relative":
                        continue  # the implementation here has no such form
                    loss, slope = ratios(question, m, rows_of, form, gradient)
                    assert max(loss.max(), slope.max()) <= 1.0, (region, form, gradient)
                    # Where nothing is void: a bound that is infinite everywhere would pass too.
                    assert formats[1] in ("bfloat16", "float16") or loss.size == 40


def shares_less_targets(case: Case, m: Machine, form: str, gradient: str, temperature: float):
    """The gradient p - q, whatever q sums to."""
    loss, _ = softmax_rows(case, m, form, gradient, temperature)
    # An entry that is not the label's is the share itself.
    hot = [replace(case, target=np.full(case.rows, label), options=Options()) for label in (0, 1)]
    slopes = [softmax_rows(each, m, form, gradient, temperature)[1] for each in hot]
    share = np.where(np.arange(case.inputs.shape[1]) == 0, slopes[1], slopes[0])
    return loss, m.fl(share - class_coefficients(case, m))


@pytest.mark.parametrize("formats", FORMS, ids="-".join)
def test_signed_targets_of_probabilities_have_bounds_of_their_terms(
    formats: tuple[str, str],
) -> None:
    m, u = Machine(*formats), np.random.default_rng(5)
    p = round_to_format(u.uniform(2.0**-6, 1.0, (40, 3)), FORMATS[formats[0]])
    for q in signed(distributions(formats[0], 40, 3)):
        question = ask(Case("cross_entropy_probabilities", formats[0], p, q))
        loss, slope = ratios(question, m, likelihood_rows, "log p", "quotient")
        assert loss.size
        assert max(loss.max(), slope.max()) <= 1.0


def likelihood_rows(case: Case, m: Machine, form: str, gradient: str, temperature: float):
    del form, gradient, temperature
    p, q = m.take(case.inputs), m.take(case.target)
    return m.sum(m.fl(q * -m.fl(np.log(p)))), m.fl(-q / p)


@pytest.mark.parametrize("operation", ["cross_entropy", "cross_entropy_probabilities"])
def test_a_smoothed_negative_target_has_no_bound(operation: str) -> None:
    """(1 - eps) q + eps/K may cancel within a coefficient, of which no bound speaks."""
    x, q = np.full((2, 2), 0.5), np.array([[1.5, -0.5], [0.5, 0.5]])
    form = PLAIN if operation == "cross_entropy" else replace(PLAIN, form="log p")
    case = Case(operation, "float32", x, q, Options(label_smoothing=0.25))
    found = error_bound(case, SEMANTICS, form)
    assert np.isinf(found.loss).tolist() == [True, False]
    assert np.isinf(found.gradient).all(axis=1).tolist() == [True, False]
    assert np.isfinite(found.gradient[1]).all()


@pytest.mark.parametrize("form", ["log softmax", "log softmax / sum"])
def test_a_share_that_underflows_leaves_its_gradient_without_a_bound(form: str) -> None:
    case = Case("cross_entropy", "float32", np.array([[0.0, 200.0]]), np.array([0]))
    found = error_bound(case, SEMANTICS, replace(PLAIN, form=form, gradient="softmax product"))
    assert found.void.all()
    assert np.isinf(found.gradient).all()


def test_a_divergence_without_a_guard_is_not_clipped_at_one() -> None:
    p, q = np.array([[3.0, 2.0**10]]), np.array([[0.5, 0.5]])
    case = Case("kl_divergence_probabilities", "float32", p, q)
    found = error_bound(case, Semantics(), PLAIN)
    terms = q * np.abs(np.log(q)) + q * np.log(p)
    # On both sides a logarithm within an ulp, a product and two sums of positive numbers: ten
    # halves of an ulp, of which each is 2^-53 at most.
    np.testing.assert_allclose(found.sizes.losses, terms.sum(axis=1), rtol=10 * 2**-53)
    np.testing.assert_array_equal(found.sizes.slopes, q / p)
    floored = error_bound(case, Semantics(guard="floor", guard_eps=1e-7), PLAIN)
    np.testing.assert_array_equal(floored.sizes.slopes, q)


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_a_gradient_that_is_left_open_has_a_bound_in_every_operation(operation: str) -> None:
    columns = 1 if operation.startswith("binary") else 2
    x = np.full((1, columns), 0.25)
    x = np.log(x) if operation == "kl_divergence" else x
    case = Case(operation, "float32", x, np.eye(columns)[:1])
    if operation == "softmax":
        case = replace(case, target=np.array([0]))
    form = "log p" if "probabilities" in operation else "std, torch or split"
    form = form if operation.startswith("binary_cross") or "prob" in operation else "B"
    found = error_bound(case, Semantics(), replace(PLAIN, form=form, gradient="any"))
    assert np.isfinite(found.gradient).all()
    assert (found.gradient > 0).all()


def test_an_exponent_that_is_lost_has_no_bound_but_one_far_below_has() -> None:
    """exp(z - softplus(z)) in float32, where softplus(z) errs by more than 16."""
    z = np.array([[2.0**40], [-(2.0**40)]])
    case = Case("binary_cross_entropy_with_logits", "float32", z, np.zeros((2, 1)))
    arithmetic = replace(PLAIN, form="split", gradient="exp logp")
    found = error_bound(case, SEMANTICS, arithmetic).gradient[:, 0]
    assert found[0] == np.inf
    assert found[1] < 1e-40
