"""`lossaudit.check`: right functions pass, each wrong one raises, and wrong use is told as such."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

import lossaudit
from lossaudit.adapters.declare import arithmetic_of
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.check import SHOWN, Checked

NUMPY = {"operation": "cross_entropy", "framework": "numpy", "dtypes": ["float32"]}


def named(value):
    """The part of an id: a function's name and not its address, which differs between processes."""
    return getattr(value, "__name__", str(value)[:30])


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=1, keepdims=True)


def log_softmax(z):
    d = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    return d - np.log(np.exp(d).sum(axis=1, keepdims=True))


def reduced(loss, gradient, valid, reduction):
    """Of losses and gradients that are 0 in ignored rows; the mean is over the others."""
    if reduction == "none":
        return loss, gradient
    over = valid.sum() if reduction == "mean" else 1
    return loss.sum() / loss.dtype.type(over), gradient / loss.dtype.type(over)


def right(z, y, *, label_smoothing=0.0, ignore_index=-100, reduction="mean"):
    """Cross-entropy with eps/K and a mean over the rows that are not ignored, in NumPy."""
    with np.errstate(all="ignore"):
        valid = y != ignore_index
        rows, classes = np.arange(len(y)), z.shape[1]
        q = np.full(z.shape, label_smoothing / classes, z.dtype)
        q[rows, np.where(valid, y, 0)] += z.dtype.type(1 - label_smoothing)
        terms = np.where(q == 0, z.dtype.type(0), -q * log_softmax(z))
        loss = np.where(valid, terms.sum(axis=1), z.dtype.type(0))
        gradient = np.where(valid[:, None], softmax(z) - q, z.dtype.type(0))
        return reduced(loss, gradient, valid, reduction)


def plain(z, y):
    """Cross-entropy without options: the losses of the rows and their gradients."""
    with np.errstate(all="ignore"):
        rows = np.arange(len(y))
        gradient = softmax(z)
        gradient[rows, y] -= 1
        return -log_softmax(z)[rows, y], gradient


def test_a_right_function_passes_and_says_what_was_seen():
    result = lossaudit.check(
        right,
        operation="cross_entropy",
        framework="numpy",
        smoothing="eps/K",
        mean="valid",
        all_ignored="nan",
        ignore_index=-100,
    )
    assert isinstance(result, Checked)
    assert result.subject.options == {"label_smoothing", "ignore_index"}
    assert result.subject.dtypes == ("float64", "float32", "float16")
    conventions = {c.field: (c.measured, c.agrees) for c in result.conventions}
    assert (
        conventions.items()
        >= {
            "smoothing": ("eps/K", True),
            "mean": ("valid", True),
            "ignore_index": ("-100", True),
            "all_ignored": ("nan", True),
            "default_reduction": ("mean", None),
            "plus_inf": ("nan", None),
            "output": ("dtype of the inputs", None),
        }.items()
    )
    assert "label_policy" not in conventions, "nobody promised anything of labels outside [0, K)"
    assert sum(result.grades.values()) == result.rows > 5000
    assert not set(result.grades) & {"violates", "wrong kind", "policy"}
    said = str(result)
    assert said.startswith("right holds: cross_entropy, target index, numpy ")
    assert "smoothing: eps/K (as declared)" in said
    assert "plus_inf: nan (measured, not declared)" in said
    assert "reductions: none, sum, mean" in said
    assert "findings of kind precision (strict=True raises them)" in said
    field = "rows"
    with pytest.raises(FrozenInstanceError):
        setattr(result, field, 0)


@pytest.mark.filterwarnings("error")
def test_a_function_that_warns_is_right_where_warnings_are_errors():
    def warns(z, y):
        warnings.warn("slow path", stacklevel=1)
        return plain(z, y)

    assert lossaudit.check(warns, **NUMPY).rows > 0


def test_the_same_check_twice_says_the_same():
    assert lossaudit.check(plain, **NUMPY) == lossaudit.check(plain, **NUMPY)


def test_precision_raises_where_it_is_asked_to():
    result = lossaudit.check(plain, **NUMPY)
    assert {f.kind for f in result.precision} == {"precision"}
    with pytest.raises(AssertionError, match="precision in"):
        lossaudit.check(plain, strict=True, **NUMPY)


def test_the_form_that_does_not_cancel_is_held_to_its_own_bound():
    """Class B loses the tail of a saturated row: class C does not, and declaring it says so."""
    b = lossaudit.check(plain, arithmetic="B", **NUMPY)
    assert any(f.region == "saturated-right" and f.output == "loss" for f in b.precision)
    with pytest.raises(AssertionError, match=r"(violates|wrong kind) in .* of loss"):
        lossaudit.check(plain, arithmetic="C", **NUMPY)


# --- wrong ones -----------------------------------------------------------------------------------


def double_softmax(z, y):
    return plain(softmax(z), y)


def no_shift(z, y):
    with np.errstate(all="ignore"):
        rows = np.arange(len(y))
        lse = np.log(np.exp(z).sum(axis=1))
        return lse - z[rows, y], plain(z, y)[1]


def spread_over_the_others(z, y, *, label_smoothing=0.0):
    """eps/(K-1) to each other class."""
    with np.errstate(all="ignore"):
        rows, classes = np.arange(len(y)), z.shape[1]
        spread = label_smoothing / max(classes - 1, 1)
        q = np.full(z.shape, spread, z.dtype)
        q[rows, y] = 1 - label_smoothing if classes > 1 else 1
        return np.where(q == 0, z.dtype.type(0), -q * log_softmax(z)).sum(axis=1), softmax(z) - q


def mean_of_all_rows(z, y, *, ignore_index=-100, reduction="mean"):
    if reduction != "mean":
        return right(z, y, ignore_index=ignore_index, reduction=reduction)
    loss, gradient = right(z, y, ignore_index=ignore_index, reduction="sum")
    return loss / z.dtype.type(len(y)), gradient / z.dtype.type(len(y))


def sign_of_the_gradient(z, y):
    loss, gradient = plain(z, y)
    return loss, -gradient


def nan_for_minus_inf(z, y):
    """Every log-probability times its target, of which -inf times 0 is NaN."""
    with np.errstate(all="ignore"):
        q = np.eye(z.shape[1], dtype=z.dtype)[y]
        return -(q * log_softmax(z)).sum(axis=1), softmax(z) - q


def gradient_of_the_mean(z, y):
    loss, gradient = plain(z, y)
    return loss, gradient / z.dtype.type(max(len(y), 1))


WRONG = [
    (double_softmax, {}, "single-softmax: softmax is applied once"),
    (no_shift, {}, "wrong kind in"),
    (spread_over_the_others, {"smoothing": "eps/K"}, "'eps/K' and measured 'eps/(K-1)'"),
    (mean_of_all_rows, {"mean": "valid"}, "mean is declared 'valid' and measured 'rows'"),
    (sign_of_the_gradient, {}, "gradient-identity: "),
    (nan_for_minus_inf, {}, "value: nan"),
    (gradient_of_the_mean, {}, "gradient-identity: "),
]


@pytest.mark.parametrize(("function", "declared", "said"), WRONG, ids=named)
def test_a_wrong_function_raises(function, declared, said):
    with pytest.raises(AssertionError, match=re.escape(said)):
        lossaudit.check(function, **NUMPY, **declared)


def test_a_convention_that_is_not_declared_is_measured_and_judged_under():
    result = lossaudit.check(spread_over_the_others, **NUMPY)
    assert ("smoothing", "eps/(K-1)") in {(c.field, c.measured) for c in result.conventions}
    result = lossaudit.check(mean_of_all_rows, **NUMPY)
    assert ("mean", "rows") in {(c.field, c.measured) for c in result.conventions}


def test_the_failure_tells_the_smallest_input_first_with_a_script_that_shows_it():
    with pytest.raises(AssertionError) as caught:
        lossaudit.check(nan_for_minus_inf, **NUMPY)
    said = str(caught.value)
    assert said.startswith("nan_for_minus_inf is wrong, ")
    assert said.count("Reproduce it with:") <= SHOWN
    assert "smallest input: inputs [0.0, 0.0, -inf], target 1" in said
    script = said.partition("Reproduce it with:\n\n")[2].partition("\n\nfinite-where")[0]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[nan]"


# --- wrong use ------------------------------------------------------------------------------------


def raises(_inputs, _target):
    raise RuntimeError("no such kernel")


def scalar(z, y):
    return plain(z, y)[0].sum(), plain(z, y)[1]


def loss_alone(z, y):
    return plain(z, y)[0]


def needs_more(z, y, temperature):
    return plain(z / temperature, y)


def whole_numbers(z, y):
    return plain(z, y)[0].astype(int), plain(z, y)[1]


@pytest.mark.parametrize(
    ("function", "keywords", "said"),
    [
        (plain, {"operation": "hinge"}, "operation: 'hinge' is not known; there are: cross_"),
        (plain, {"framework": "mxnet"}, "framework: 'mxnet' is not known; there are: torch"),
        (plain, {"dtypes": ["float8"]}, "dtype of numpy: 'float8' is not known"),
        (plain, {"dtypes": ["bfloat16"]}, "dtype of numpy: 'bfloat16' is not known"),
        (plain, {"dtypes": []}, "dtypes: at least one is needed"),
        (plain, {"depth": "abyss"}, "depth: 'abyss' is not known; there are: quick"),
        (plain, {"target": "binary"}, "target of cross_entropy: 'binary' is not known"),
        (plain, {"smoothness": 1}, "keyword: 'smoothness' is not known; there are: smoothing"),
        (right, {"smoothing": "eps"}, "smoothing: 'eps' is not known; there are: eps/K"),
        (plain, {"smoothing": "eps/K"}, "'eps/K' is declared, but plain takes no label_smoothing"),
        (plain, {"mean": "rows"}, "plain takes no reduction='mean'"),
        (plain, {"guard": "clip"}, "only probabilities are guarded"),
        (plain, {"soft_gradient": "p - q"}, "its target is no distribution"),
        (plain, {"arithmetic": "Z"}, "arithmetic of cross_entropy: 'Z' is not known"),
        (right, {"reductions": ["mean"]}, "'none' must be among them"),
        (needs_more, {}, "needs_more needs 'temperature'"),
        (lambda z: z, {}, "must take the inputs and the target"),
        (3, {}, "a function is needed, not 3"),
        (raises, {}, "raised on a plain call in float32, inputs .* no such kernel"),
        (scalar, {}, r"the loss has the shape \(\), where \(4,\) is right"),
        (loss_alone, {}, r"is to return \(loss, gradient\)"),
        (whole_numbers, {}, "the loss has the dtype int64"),
    ],
)
def test_wrong_use_is_one_clear_line(function, keywords, said):
    with pytest.raises(lossaudit.DeclarationError, match=said) as caught:
        lossaudit.check(function, **{**NUMPY, **keywords})
    assert len(str(caught.value).splitlines()) == 1


def test_only_options_that_the_signature_names_are_exercised():
    seen = set()

    def spying(z, y, *, label_smoothing=0.0, **more):
        seen.update(more, {"label_smoothing"} if label_smoothing else ())
        return right(z, y, label_smoothing=label_smoothing, reduction="none")

    result = lossaudit.check(spying, **NUMPY)
    assert seen == {"label_smoothing"}
    assert result.subject.reductions == ("none",)


def test_the_other_operations_have_their_own_targets():
    def bce(z, y):
        with np.errstate(all="ignore"):
            tail = np.log1p(np.exp(-np.abs(z)))
            loss = np.where(y == 1, 0, (1 - y) * (np.maximum(z, 0) + tail)) + np.where(
                y == 0, 0, y * (np.maximum(-z, 0) + tail)
            )
            small = np.exp(-np.abs(z))
            up = np.where(z >= 0, 1 / (1 + small), small / (1 + small))
            return loss, (1 - y) * up - y * np.where(z >= 0, small / (1 + small), 1 / (1 + small))

    keywords = {**NUMPY, "operation": "binary_cross_entropy_with_logits"}
    result = lossaudit.check(bce, **keywords)
    assert result.subject.target == "binary"
    assert result.cells >= 5  # value, gradient, finite, mirror, single softmax, and what fits all

    def nll(p, y):
        with np.errstate(all="ignore"):
            picked = p[np.arange(len(y)), y][:, None]
            here = np.arange(p.shape[1]) == y[:, None]
            return -np.log(picked)[:, 0], np.where(here, -1 / picked, p.dtype.type(0))

    result = lossaudit.check(nll, **{**NUMPY, "operation": "cross_entropy_probabilities"})
    assert result.subject.target == "index"

    def clipped(p, y):
        return nll(np.clip(p, p.dtype.type(1e-3), 1 - p.dtype.type(1e-3)), y)

    with pytest.raises(AssertionError, match=r"wrong kind|violates"):
        lossaudit.check(clipped, **{**NUMPY, "operation": "cross_entropy_probabilities"})


def test_a_whole_arithmetic_is_taken_as_it_is():
    own = replace(arithmetic_of("cross_entropy", "float32", "B"), c_exp=2.0, c_log=2.0)
    result = lossaudit.check(plain, **NUMPY, arithmetic=own)
    assert result.subject.arithmetic == {"float32": own}


# --- frameworks -----------------------------------------------------------------------------------

ALL = ("float64", "float32", "bfloat16", "float16")


def torch_right(logits, target, *, label_smoothing=0.0, ignore_index=-100, reduction="mean"):
    """Log-sum-exp, eps/K and a mean over the rows that are not ignored, differentiated by torch."""
    import torch

    valid = target != ignore_index
    label = torch.where(valid, target, 0)
    # The backward of log_softmax would hand on NaN of an ignored row.
    log_p = torch.where(valid[:, None], logits, 0.0).log_softmax(-1)
    loss = -log_p.gather(1, label[:, None])[:, 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(-1)
    loss = torch.where(valid, loss, 0.0)
    if reduction == "none":
        return loss
    return loss.sum() / valid.sum() if reduction == "mean" else loss.sum()


@pytest.fixture
def torch() -> Iterator[Any]:
    found = pytest.importorskip("torch")
    threads = found.get_num_threads()
    found.set_num_threads(1)
    yield found
    found.set_num_threads(threads)


@pytest.mark.frameworks
def test_right_in_torch_in_all_four_dtypes(torch):
    result = lossaudit.check(
        torch_right, operation="cross_entropy", framework="torch", smoothing="eps/K", mean="valid"
    )
    assert result.subject.dtypes == ALL
    assert result.versions["torch"] == torch.__version__


def torch_double(z, y):
    return torch_right(z.softmax(-1), y, reduction="none")


def torch_no_shift(z, y):
    return z.exp().sum(-1).log() - z.gather(1, y[:, None])[:, 0]


def torch_spread(z, y, *, label_smoothing=0.0):
    log_p = z.log_softmax(-1)
    picked = -log_p.gather(1, y[:, None])[:, 0]
    if not label_smoothing:
        return picked
    others = max(z.shape[1] - 1, 1)
    return (1 - label_smoothing) * picked + label_smoothing / others * (-log_p.sum(-1) - picked)


def torch_mean(z, y, *, ignore_index=-100, reduction="mean"):
    loss = torch_right(z, y, ignore_index=ignore_index, reduction="none")
    return {"none": loss, "sum": loss.sum(), "mean": loss.mean()}[reduction]


def torch_sign(z, y):
    loss = torch_right(z, y, reduction="none")
    return 2 * loss.detach() - loss


def torch_nan(z, y):
    import torch

    hot = torch.nn.functional.one_hot(y, z.shape[1]).to(z.dtype)
    return -(hot * z.log_softmax(-1)).sum(-1)


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("function", "declared", "said"),
    [
        (torch_double, {}, "single-softmax: "),
        (torch_no_shift, {}, "wrong kind in"),
        (torch_spread, {"smoothing": "eps/K"}, "torch_spread is wrong"),
        (torch_mean, {"mean": "valid"}, "measured 'rows'"),
        (torch_sign, {}, "gradient-identity: "),
        (torch_nan, {}, "value: nan"),
    ],
)
@pytest.mark.usefixtures("torch")
def test_wrong_in_torch(function, declared, said, dtype):
    with pytest.raises(AssertionError, match=re.escape(said)):
        lossaudit.check(
            function, operation="cross_entropy", framework="torch", dtypes=[dtype], **declared
        )


@pytest.mark.frameworks
@pytest.mark.parametrize("wrong", ["forgotten", "of the first row"])
def test_a_backward_that_mistreats_its_cotangent_is_caught(torch, wrong):
    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z, y):
            hot = torch.nn.functional.one_hot(y, z.shape[1]).to(z.dtype)
            ctx.save_for_backward(z.softmax(-1) - hot)
            return -z.log_softmax(-1).gather(1, y[:, None])[:, 0]

        @staticmethod
        def backward(ctx, *cotangents):
            (gradient,) = ctx.saved_tensors
            scale = 1 if wrong == "forgotten" else cotangents[0][:1, None]
            return gradient * scale, None

    def fused(z, y):
        return Fused.apply(z, y)

    with pytest.raises(AssertionError, match="cotangents: ") as caught:
        lossaudit.check(fused, operation="cross_entropy", framework="torch", dtypes=["float32"])
    assert "torch.autograd.grad(loss, logits, torch.tensor([" in str(caught.value)


@pytest.mark.frameworks
def test_right_in_jax():
    jax = pytest.importorskip("jax")

    def cross_entropy(z, y):
        log_p = jax.nn.log_softmax(z)
        return -jax.numpy.take_along_axis(log_p, y[:, None], axis=-1)[:, 0]

    keywords: dict[str, Any] = {"operation": "cross_entropy", "framework": "jax"}
    before = bool(jax.config.jax_enable_x64)
    result = lossaudit.check(cross_entropy, **keywords, dtypes=["float64", "bfloat16"])
    assert bool(jax.config.jax_enable_x64) == before
    assert {c.field: c.measured for c in result.conventions}["output"] == "dtype of the inputs"


@pytest.mark.frameworks
def test_right_in_tensorflow():
    tf = pytest.importorskip("tensorflow")

    def cross_entropy(z, q):
        return tf.nn.softmax_cross_entropy_with_logits(labels=q, logits=z)

    def masked(z, q):
        log_p = tf.nn.log_softmax(z)
        return -tf.reduce_sum(tf.where(q == 0, tf.zeros_like(z), q * log_p), axis=-1)

    keywords: dict[str, Any] = {
        "operation": "cross_entropy",
        "framework": "tensorflow",
        "target": "distribution",
    }
    lossaudit.check(masked, **keywords, dtypes=["float64", "bfloat16"])
    with pytest.raises(AssertionError, match="wrong kind"):
        lossaudit.check(cross_entropy, **keywords, dtypes=["float32"])


@pytest.mark.frameworks
def test_nothing_is_left_in_the_registry_of_frameworks():
    before = list(FRAMEWORKS)
    lossaudit.check(plain, **NUMPY)
    assert list(FRAMEWORKS) == before
