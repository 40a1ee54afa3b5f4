"""The snippets of the porting view, run with the frameworks: they give what the old op gives.

Every pair of ops of every framework, of which those that differ in no line are run once. The
right numbers are the reference's under the old op's declared conventions, and as far as both ops'
derived bounds together may a ported loss lie from them.
"""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.environments import availability
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.run import Run
from lossaudit.reference.bounds import demanded, error_bound, half_ulp
from lossaudit.reference.exact import to_float
from lossaudit.reference.formats import FORMATS, round_to_format
from lossaudit.reference.rows import reduce_truth, truth
from lossaudit.reference.vocabulary import Case, Floats, Options, Semantics
from lossaudit.reports.porting import BY_HAND, differences, groups_of
from lossaudit.reports.porting_code import EXAMPLE, NoSnippet, Op, Port

FLOAT = FORMATS["float32"]
SUBJECTS = {subject.name: subject for subject in subjects(depth="quick")}

# In one process for each framework: runs every script, the call that it ends with, and others.
RUNNER = """
import ast, contextlib, io, pickle, sys
import numpy as np

def number(x):
    return np.asarray(x.detach() if hasattr(x, "detach") else x, dtype=np.float64)

jobs, found = pickle.load(open(sys.argv[1], "rb")), []
for head, array, code, calls in jobs:
    names = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    assert printed.getvalue().strip(), code
    made = {}
    exec(head, made)
    make = lambda a: eval(array.replace("{a}", "a"), {**made, "a": a})
    last = ast.unparse(ast.parse(code).body[-1].value.args[0])
    results = [number(eval(last, names))]
    for arrays, given, derived in calls:
        given = {k: make(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
        x, y = map(make, arrays)
        if derived:
            made.update(loss=lambda x: names["ported"](x, y, **given), x=x)
            exec(sys.argv[3], made)
            results.append(number(made["gradient"]))
        else:
            results.append(number(names["ported"](x, y, **given)))
    found.append(results)
pickle.dump(found, open(sys.argv[2], "wb"))
"""


BY_TORCH = "import torch; x.requires_grad_(); (gradient,) = torch.autograd.grad(loss(x).sum(), x)"
BY_JAX = "import jax; gradient = jax.grad(lambda x: loss(x).sum())(x)"
BY_TENSORFLOW = """
import tensorflow as tf
with tf.GradientTape() as tape:
    tape.watch(x)
    total = tf.reduce_sum(loss(x))
gradient = tape.gradient(total, x)
"""
GRADIENTS = {
    "torch": BY_TORCH,
    "keras-torch": BY_TORCH,
    "jax": BY_JAX,
    "keras-jax": BY_JAX,
    "tensorflow": BY_TENSORFLOW,
    "keras": BY_TENSORFLOW,
}
"""How a loss is differentiated; Keras on NumPy has nothing to do it with."""


@dataclass(frozen=True)
class Asked:
    """One call of a snippet, and what is right.

    Attributes:
        arrays, given: what the function is given.
        right: of the loss that comes back; reach: how far it may lie from that.
        derived: whether they are those of the gradient of the sum of the losses.
    """

    arrays: tuple[np.ndarray, ...]
    given: dict[str, Any]
    right: Floats
    reach: Floats
    derived: bool = False


def numbers(subject: Subject, rows: int, classes: int) -> tuple[Floats, np.ndarray]:
    """Inputs and a target, none of them round, and no two rows alike."""
    waves = np.sin(1.0 + np.arange(rows * classes)).reshape(rows, classes)
    inputs = 3.0 * waves
    if not subject.from_logits:
        inputs = 0.05 + 0.9 * waves**2
        if classes > 1:
            inputs /= inputs.sum(axis=1, keepdims=True)
        if subject.operation == "kl_divergence":
            inputs = np.log(inputs)
        elif classes == 1:
            inputs[:2, 0] = 0.0, 1.0  # where a guard acts
    if subject.operation.endswith("probabilities") and classes > 1:
        inputs[0, 0], inputs[1] = 0.0, inputs[1] / 2  # and where it matters that they sum to 1
    target: np.ndarray = (np.arange(rows) * 2 + 1) % classes
    if subject.target == "binary":
        target = np.cos(np.arange(rows * classes)).reshape(rows, classes) ** 2
        target[:2, 0] = 1.0, 0.0
    elif subject.target == "distribution":
        target = 0.1 + np.cos(np.arange(rows * classes)).reshape(rows, classes) ** 2
        target /= target.sum(axis=1, keepdims=True)
    exact = round_to_format(inputs, FLOAT)
    return exact, target if subject.target == "index" else round_to_format(target, FLOAT)


def cases(op: Op, subject: Subject) -> Iterator[Case]:
    """What an op takes: nothing, each option alone, and all at once, in every reduction."""
    classes = 1 if subject.target == "binary" else 5
    inputs, target = numbers(subject, 6, classes)
    chosen: dict[str, Any] = {
        "weight": tuple(1.0 + i / 4 for i in range(classes)),
        "pos_weight": 1.5,
        "label_smoothing": 0.1,
        "ignore_index": 3,
    }
    taken = {name: value for name, value in chosen.items() if name in op.options}
    sets = [{}, *({name: value} for name, value in taken.items()), taken]
    for reduction in op.reductions or ("none",):
        if op.operation == "kl_divergence" and reduction == "mean":
            continue  # of elements: see `elements`
        for i, options in enumerate(sets):
            if i and options in sets[:i]:
                continue
            case = Case(
                subject.operation,
                "float32",
                inputs,
                target,
                Options(**options, reduction=reduction),
            )
            yield case
            if "sample_weight" in op.options:
                yield replace(case, sample_weight=np.array([1.0, 0.5, 2.0, 0.25, 3.0, 1.5]))
        if "ignore_index" in taken:
            options = Options(ignore_index=3, reduction=reduction)
            every = Case(subject.operation, "float32", inputs, np.full(6, 3), options)
            yield every
            if op.unasked:
                some = target.copy()
                some[2] = int(op.unasked)
                yield replace(every, target=some, options=Options(reduction=reduction))


RIGHT: dict[Any, Floats] = {}
REACH: dict[Any, Floats] = {}
"""What was computed before: most ops are of a few conventions and arithmetics."""


def right_and_reach(case: Case, op: Op, new: Op) -> tuple[Floats, Floats]:
    """What the old op gives, and how far the two may be from that by their own arithmetic."""
    old = SUBJECTS[op.subjects[0]]
    meant = old.semantics
    key = (case.case_id(), meant)
    if key not in RIGHT:
        RIGHT[key] = to_float(reduce_truth(truth(case, meant), case, meant)[0])
    reach = np.zeros(np.shape(RIGHT[key]))
    for subject in (old, SUBJECTS[new.subjects[0]]):
        reach = reach + widest(case, meant, subject)
    return RIGHT[key], reach


def widest(case: Case, meant: Semantics, subject: Subject, output: str = "loss") -> Floats:
    """The declared bound or that of what does not cancel, whichever is larger."""
    arithmetic = subject.arithmetic["float32"]
    key = (case.case_id(), meant, replace(arithmetic, origin=""), output)
    if key not in REACH:
        forms = (arithmetic, demanded(arithmetic))
        both = [getattr(error_bound(case, meant, form), output) for form in forms]
        REACH[key] = np.maximum(*(np.where(np.isfinite(bound), bound, 0.0) for bound in both))
    return REACH[key]


def given(case: Case, op: Op) -> dict[str, Any]:
    """The arguments of the function, apart from the arrays."""
    options, found = case.options, {}
    if options.weight is not None:
        found["weight"] = np.array(options.weight, np.float32)
    for name in ("pos_weight", "ignore_index"):
        if getattr(options, name) is not None:
            found[name] = getattr(options, name)
    if options.label_smoothing:
        found["label_smoothing"] = options.label_smoothing
    if case.sample_weight is not None:
        kept = op.target == "binary" and op.says("last_axis") != "mean"
        shape = (case.rows, 1) if kept else (case.rows,)
        found["sample_weight"] = case.sample_weight.reshape(shape).astype(np.float32)
    if op.reduces:
        found["reduction"] = options.reduction
    return found


def arrays_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    target = case.target
    return case.inputs.astype(np.float32), (
        target if target.dtype.kind == "i" else target.astype(np.float32)
    )


def asked(old: Op, new: Op) -> Iterator[Asked]:
    subject = SUBJECTS[old.subjects[0]]
    for case in cases(old, subject):
        yield Asked(arrays_of(case), given(case, old), *right_and_reach(case, old, new))
    plain = Options(reduction="none")
    axes = {old.says("class_axis"), new.says("class_axis")}
    if axes <= {"second", "last"} and old.target != "binary":
        yield in_three_dimensions(old, new, plain)
    if old.target == "binary" and {old.says("last_axis"), new.says("last_axis")} <= {
        "kept",
        "mean",
    }:
        yield in_columns(old, new, plain)
    if old.says("default_reduction") == "mean of elements":
        yield of_elements(old, new)


def gradient_asked(port: Port) -> Iterator[Asked]:
    """The gradient, where the differences do not say that it is another one."""
    old, new = port.old, port.new
    by_hand = {d.field for d in differences(port, composed=True) if d.how == BY_HAND}
    if by_hand & {"soft_gradient", "guard_gradient"} or old.operation == "kl_divergence":
        return
    inputs, target = numbers(SUBJECTS[old.subjects[0]], 6, 1 if old.target == "binary" else 5)
    if old.says("soft_gradient") == "sum(q) p - q":
        target = round_to_format(1.5 * target, FLOAT)  # of p - q they would show the difference
    case = Case(old.operation, "float32", inputs, target, Options())
    meant = SUBJECTS[old.subjects[0]].semantics
    right = to_float(truth(case, meant).gradient)
    if not np.isfinite(right).all():
        return  # probabilities of 0 without a guard
    reach = np.zeros_like(right)
    for subject in (SUBJECTS[op.subjects[0]] for op in (old, new)):
        reach = reach + widest(case, meant, subject, "gradient")
    yield Asked(arrays_of(case), given(case, old), right, reach, derived=True)


def in_three_dimensions(old: Op, new: Op, options: Options) -> Asked:
    """2 x 3 places, with the classes where the old op has them, smoothed and weighed if it does."""
    inputs, target = numbers(SUBJECTS[old.subjects[0]], 6, 5)
    if old.smooths:
        options = replace(options, label_smoothing=0.1)
    if "weight" in old.options:
        options = replace(options, weight=(1.0, 1.25, 1.5, 1.75, 2.0))
    case = Case(old.operation, "float32", inputs, target, options)
    right, reach = right_and_reach(case, old, new)

    def shaped(values: np.ndarray) -> np.ndarray:
        if values.ndim == 1:
            return values.reshape(2, 3)
        found = values.reshape(2, 3, 5)
        return np.moveaxis(found, -1, 1) if old.says("class_axis") == "second" else found

    shape = (2, 3)
    arrays = tuple(shaped(values) for values in arrays_of(case))
    return Asked(arrays, given(case, old), right.reshape(shape), reach.reshape(shape))


def in_columns(old: Op, new: Op, options: Options) -> Asked:
    """Three rows of two columns: six losses, or the mean of each row."""
    inputs, target = numbers(SUBJECTS[old.subjects[0]], 6, 1)
    case = Case(old.operation, "float32", inputs, target, options)
    right, reach = right_and_reach(case, old, new)
    right, reach = right.reshape(3, 2), reach.reshape(3, 2)
    if old.says("last_axis") == "mean":
        right, reach = right.mean(axis=1), reach.mean(axis=1)
        # The sum of two and its half round once more.
        reach = reach + 2 * half_ulp(right + reach, FLOAT)
    x, y = arrays_of(case)
    return Asked((x.reshape(3, 2), y.reshape(3, 2)), given(case, old), right, reach)


def of_elements(old: Op, new: Op) -> Asked:
    """The mean of the rows by the number of classes, which rounds once more."""
    inputs, target = numbers(SUBJECTS[old.subjects[0]], 6, 5)
    case = Case(old.operation, "float32", inputs, target, Options(reduction="mean"))
    right, reach = (values / 5 for values in right_and_reach(case, old, new))
    arrays = arrays_of(case)
    return Asked(arrays, {}, right, reach + half_ulp(np.abs(right) + reach, FLOAT))


def example(old: Op, new: Op) -> Asked:
    """The call with which each snippet ends."""
    names = {
        "kl_divergence": "log_p",
        "cross_entropy": "z",
        "binary_cross_entropy_with_logits": "z",
    }
    x, y = (
        np.array(ast.literal_eval(text))
        for text in EXAMPLE[names.get(old.operation, "p"), old.target]
    )
    options: dict[str, Any] = {"reduction": old.says("default_reduction") or "none"}
    if "weight" in old.options:
        options["weight"] = (4.0, 1.0, 2.0)
    if "pos_weight" in old.options:
        options["pos_weight"] = 4.0
    if old.smooths:
        options["label_smoothing"] = 0.25
    if old.ignores:
        options["ignore_index"], y = 1, np.array([0, 1])
    elements = options["reduction"] == "mean of elements"
    if elements:
        options["reduction"] = "mean"
    x = round_to_format(np.asarray(x, float), FLOAT)
    case = Case(old.operation, "float32", x, y, Options(**options))
    right, reach = right_and_reach(case, old, new)
    if elements:
        right, reach = right / 3, reach / 3 + half_ulp(np.abs(right) + reach, FLOAT)
    return Asked((), {}, right, reach)


def ports(run: Run, framework: str) -> dict[str, Port]:
    """A pair for every code that is composed in a framework, by that code."""
    texts = {record.framework: record.texts for record in run.idioms}
    found: dict[str, Port] = {}
    for ops in groups_of(run).values():
        for new in ops:
            if new.framework != framework or "eager" not in new.modes:
                continue
            for old in ops:
                port = Port(old, new, texts.get(framework, {}))
                try:
                    found.setdefault(port.code() + kinds(old), port)
                except NoSnippet:
                    continue
    return found


def kinds(op: Op) -> str:
    """What the right numbers depend on beside the code."""
    meant = SUBJECTS[op.subjects[0]].semantics
    return f"# {op.operation} {meant} {sorted(op.options)} {op.says('last_axis')}"


def planted(run: Run) -> Iterator[tuple[Op, Op]]:
    """Ops with conventions that no framework has, and what they are ported to."""
    groups = groups_of(run)

    def op(kind: str, name: str) -> Op:
        return next(o for o in groups[kind] if f"{o.framework}:{o.op}" == name)

    index, soft = "cross_entropy, index", "cross_entropy, distribution"
    binary, shares = "binary_cross_entropy_with_logits, binary", "binary_cross_entropy, binary"
    own = {
        kind: op(kind, f"torch:{name}")
        for kind, name in (
            (index, "cross_entropy.index"),
            (soft, "cross_entropy.probabilities"),
            (shares, "binary_cross_entropy"),
        )
    }
    others = {
        index: ("torch:cross_entropy.index", "jax:softmax_cross_entropy_with_integer_labels"),
        soft: ("torch:cross_entropy.probabilities", "jax:softmax_cross_entropy"),
        binary: ("torch:binary_cross_entropy_with_logits", "jax:sigmoid_binary_cross_entropy"),
        shares: ("torch:binary_cross_entropy",),
    }
    changed: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        (index, {"smoothing": "eps/(K-1)"}, {"smoothing": "eps/(K-1)"}),
        (index, {"mean": "valid", "all_ignored": "zero"}, {"mean": "valid", "all_ignored": "zero"}),
        (index, {"mean": "rows"}, {"mean": "rows"}),
        (soft, {"smoothing": "eps/(K-1)"}, {"smoothing": "eps/(K-1)"}),
        (shares, {"guard": "none"}, {"guard": "none"}),
        (shares, {"guard": "log >= -5"}, {"guard_floor": -5.0}),
        (shares, {"guard": "clip at 0.001"}, {"guard": "clip", "guard_eps": 1e-3}),
    ]
    for kind, says, meant in changed:
        old = own[kind]
        subject = SUBJECTS[old.subjects[0]]
        name = f"planted {kind}: {says}"
        SUBJECTS[name] = replace(subject, semantics=replace(subject.semantics, **meant))
        told = {f: msgspec.structs.replace(old.conventions[f], measured=v) for f, v in says.items()}
        conventions = {**old.conventions, **told}
        # Another guard's gradient is not what is asked for here.
        conventions.pop("guard_gradient", None)
        made = replace(old, subjects=(name,), conventions=conventions)
        for other in others[kind]:
            yield made, op(kind, other)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_conventions_that_no_framework_has_are_ported_too(
    declared_run: Run, name: str, tmp_path: Path
):
    framework = FRAMEWORKS[name]
    if reason := availability(framework):
        pytest.skip(reason)
    texts = {record.framework: record.texts for record in declared_run.idioms}
    ports = [Port(a, b, texts[name]) for a, b in planted(declared_run) if b.framework == name]
    assert len(ports) >= 4
    run_all({port.code() + kinds(port.old): port for port in ports}, name, tmp_path)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_factors_of_a_whole_row_come_last(declared_run: Run, name: str, tmp_path: Path):
    """Class weights of the label on smoothed rows, and a pos_weight of both terms."""
    framework = FRAMEWORKS[name]
    if (reason := availability(framework)) or framework.idioms is None:
        pytest.skip(reason)
    jobs, wanted = [], []
    for old, new, case, factor in whole_factors(declared_run, name):
        plain = replace(case, options=replace(case.options, weight=None, pos_weight=None))
        right, reach = right_and_reach(plain, old, new)
        right, reach = right * factor, reach * factor
        reach = reach + half_ulp(right + reach, FLOAT)
        call = Asked(arrays_of(case), given(case, old), right, reach)
        code = Port(old, new, asdict(framework.idioms)).code()
        asked_of = [(call.arrays, call.given, call.derived)]
        jobs.append((framework.idioms.head, framework.idioms.array, code, asked_of))
        wanted.append((call, code))
    assert len(jobs) == 2
    for (call, code), (_, result) in zip(wanted, done(jobs, name, tmp_path), strict=True):
        compare(result, call, code)


def whole_factors(run: Run, name: str) -> Iterator[tuple[Op, Op, Case, Floats]]:
    """(old, new, a call, the factor of each row)"""
    fields = {
        "cross_entropy, index": ("cross_entropy.index", "weighted_smoothing", "label"),
        "binary_cross_entropy_with_logits, binary": (
            "binary_cross_entropy_with_logits",
            "pos_weight",
            "both terms",
        ),
    }
    for kind, (op, field, value) in fields.items():
        ops = groups_of(run)[kind]
        old = next(o for o in ops if (o.framework, o.op) == ("torch", op))
        told = msgspec.structs.replace(old.conventions[field], measured=value)
        old = replace(old, conventions={**old.conventions, field: told})
        new = next(o for o in ops if o.framework == name and o.call)
        classes = 1 if old.target == "binary" else 5
        inputs, target = numbers(SUBJECTS[old.subjects[0]], 6, classes)
        if old.target == "binary":
            case = Case(old.operation, "float32", inputs, target, Options(pos_weight=1.5))
            yield old, new, case, np.full(6, 1.5)
        else:
            weight = np.array([1.0, 1.25, 1.5, 1.75, 2.0])
            options = Options(weight=tuple(weight), label_smoothing=0.1)
            case = Case(old.operation, "float32", inputs, target, options)
            yield old, new, case, weight[target]


# JAX compiles, and Keras on the other backends has the texts of Keras on TensorFlow.
FAST = ("torch", "tensorflow", "keras", "onnxruntime")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FRAMEWORKS],
)
def test_each_snippet_gives_what_the_old_op_gives(declared_run: Run, name: str, tmp_path: Path):
    framework = FRAMEWORKS[name]
    if reason := availability(framework):
        pytest.skip(reason)
    found = ports(declared_run, name)
    if framework.idioms is None:
        assert not found
        return
    assert len(found) > 10
    run_all(found, name, tmp_path)


def run_all(found: dict[str, Port], name: str, folder: Path) -> None:
    """Run each code on all that the old op takes, and compare."""
    idioms = FRAMEWORKS[name].idioms
    assert idioms is not None
    wanted, jobs = [], []
    for code, port in found.items():
        calls = list(asked(port.old, port.new))
        if name in GRADIENTS:
            calls += gradient_asked(port)
        wanted.append((port, code, [example(port.old, port.new), *calls]))
        given = [(c.arrays, c.given, c.derived) for c in calls]
        jobs.append((idioms.head, idioms.array, code, given))
    for (port, code, calls), results in zip(wanted, done(jobs, name, folder), strict=True):
        for call, result in zip(calls, results, strict=True):
            compare(result, call, f"{port.old.name} -> {port.new.name}\n{call.given}\n{code}")


def compare(result: Floats, call: Asked, about: str) -> None:
    right = call.right
    if (
        not call.derived
        and call.arrays
        and right.size == call.arrays[0].size
        and result.ndim == 2 > right.ndim
    ):
        right = right.reshape(result.shape)  # a column of binary losses
    reach = call.reach.reshape(right.shape)
    if not call.arrays:
        result, right, reach = result.reshape(-1), right.reshape(-1), reach.reshape(-1)
    assert result.shape == right.shape, f"{about}\n{result} instead of {right}"
    with np.errstate(invalid="ignore"):
        near = np.abs(result - right) <= reach
    same = (result == right) | (np.isnan(result) & np.isnan(right))
    ok = np.where(np.isfinite(right), near, same).all()
    assert ok, f"{about}\n{result} instead of {right}, at most {reach} away"


def done(jobs: list[Any], name: str, folder: Path) -> list[list[Floats]]:
    """What the scripts give, in a process with the framework alone."""
    given, taken = folder / "jobs", folder / "found"
    given.write_bytes(pickle.dumps(jobs))
    _, environment = FRAMEWORKS[name].worker(FRAMEWORKS[name].subjects[0], "float32")
    ended = subprocess.run(
        [sys.executable, "-c", RUNNER, str(given), str(taken), GRADIENTS.get(name, "")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: list[list[Floats]] = pickle.loads(taken.read_bytes())  # noqa: S301 - our own
    return found
