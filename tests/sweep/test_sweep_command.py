"""The verbs `sweep` and `merge`, on an op of a user in NumPy."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossaudit import cli
from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.sweep.record import read_sweep

OPS = '''
import numpy as np
import lossaudit


@lossaudit.subject(
    operation="binary_cross_entropy_with_logits", framework="numpy", dtypes=["float16", "float32"]
)
def stable(logits, target):
    growth = np.exp(-np.abs(logits))
    loss = np.where(logits < 0, target, 1 - target) * np.abs(logits) + np.log1p(growth)
    share = np.where(logits < 0, growth, 1) / (1 + growth)
    return loss[:, 0], share - target


@lossaudit.subject(
    operation="binary_cross_entropy_with_logits", framework="numpy", dtypes=["float16", "float32"]
)
def naive(logits, target):
    """log(1 + exp(z)) - z y: exp overflows."""
    with np.errstate(all="ignore"):
        growth = np.exp(logits)
        loss = np.log(1 + growth) - logits * target
        return loss[:, 0], growth / (1 + growth) - target
'''


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ops") / "sweepable.py"
    path.write_text(OPS, encoding="utf-8")
    return path


def invoked(*arguments: object) -> tuple[int, str]:
    """The exit code of a command line and what it says."""
    FRAMEWORKS._added.clear()  # each command is a process of its own elsewhere
    result = CliRunner().invoke(cli.app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        message, code = cli._explained(result.exception)
        return code, message
    return result.exit_code, result.output


def call(*arguments: object) -> tuple[int, str]:
    return invoked("sweep", *arguments)


def test_every_float16_logit_is_judged(ops: Path, tmp_path: Path):
    out, table, plot = (tmp_path / name for name in ("s.json", "s.md", "s.svg"))
    code, text = call(
        "elementwise", "--adapter", ops, "--dtype", "float16", "--jobs", 1,
        "--out", out, "--markdown", table, "--plot", plot,
    )  # fmt: skip
    assert code == 0, text
    found = read_sweep(out)
    assert {curve.inputs for curve in found.curves} == {2**16}
    worst = {
        (curve.subject.partition("[")[0], curve.target, curve.output): set(curve.grades)
        for curve in found.curves
    }
    assert "violates" not in worst["sweepable:stable", "0", "loss"]
    assert "wrong kind" in worst["sweepable:naive", "0", "loss"]
    infinite = [
        run
        for curve in found.curves
        if "naive" in curve.subject and (curve.target, curve.output) == ("0", "loss")
        for runs in curve.runs
        if (runs.grade, runs.answer) == ("wrong kind", "infinite")
        for run in runs.longest
    ]
    # exp of the next float16 below is finite: log(65504) = 11.0898... Of the last numbers a bound
    # reaches past 65504, so that infinity is within it.
    (run,) = infinite
    assert run.first == "11.09375"
    assert 65000.0 < float(run.last) < 65504.0
    assert "sweepable:naive" in text
    assert "naive" in table.read_text(encoding="utf-8")
    assert plot.read_text(encoding="utf-8").startswith("<svg")
    assert not list(tmp_path.glob("*.chunks*"))


def test_an_op_that_dies_or_raises_is_graded_and_given_up(tmp_path: Path):
    path = tmp_path / "mortal.py"
    path.write_text(
        OPS.replace("growth = np.exp(logits)", "assert logits.max() < 4, 'too large'").replace(
            "growth = np.exp(-np.abs(logits))", "logits.max() < 4 or __import__('os')._exit(3)"
        ),
        encoding="utf-8",
    )
    out = tmp_path / "s.json"
    common = ("--adapter", path, "--dtype", "float16", "--jobs", 1, "--out", out)
    for op, grade in (("stable", "crashed"), ("naive", "policy")):
        code, text = call(op, *common, "--range", "5:6")
        assert code == 0, text
        found = read_sweep(out).curves
        assert {curve.output: curve.grades for curve in found} == {
            output: {grade: 257} for output in ("loss", "gradient")
        }
        assert {runs.answer for curve in found for runs in curve.runs} == {"nothing"}
    # A range of float32 has many blocks: the third that is lost ends it.
    code, text = call("stable", *common[:2], "--dtype", "float32", "--jobs", 1, "--range", "5:")
    assert code == 2
    assert "was lost 3 times: the worker ended with exit status 3" in text


def test_fail_on_decides_the_exit_code(ops: Path):
    common = ("--adapter", ops, "--dtype", "float16", "--range", "11:20", "--jobs", 1)
    assert call("naive", *common, "--fail-on", "violates")[0] == 1
    assert call("stable", *common, "--fail-on", "violates")[0] == 0
    assert call("naive", *common)[0] == 0


def test_shards_are_merged(ops: Path, tmp_path: Path):
    common = ("stable", "--adapter", ops, "--dtype", "float32", "--stride", 8192, "--jobs", 1)
    shards = [tmp_path / f"shard-{i}.jsonl" for i in (1, 2)]
    for i, path in enumerate(shards, start=1):
        code, text = call(*common, "--shard", f"{i}/2", "--out", path)
        assert code == 0, text
    merged, alone = tmp_path / "merged.json", tmp_path / "alone.json"
    # Who merges has to know the adapter; the job says where it is.
    code, text = invoked("merge", *shards, "--out", merged)
    assert code == 0, text
    assert call(*common, "--out", alone)[0] == 0
    assert read_sweep(merged).curves == read_sweep(alone).curves


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["softmax"], "no framework that is installed has 'softmax'"),
        (["stable", "--dtype", "float64"], "'float64' cannot be swept"),
        (["stable", "--dtype", "bfloat16"], "is not audited in bfloat16"),
        (["stable", "--targets", "2"], "a target of 2.0"),
        (["stable", "--targets", "a"], "'a' is not numbers"),
        (["stable", "--range", "3:2"], "the range '3:2' is empty"),
        (["stable", "--range", "3"], "has no colon"),
        (["stable", "--mode", "jit"], "has no stable in mode 'jit'"),
        (["stable", "--shard", "3/2"], "--shard: '3/2' is not I/N"),
        (["stable", "--shard", "1/2"], "name the file of the shard"),
        (["stable", "--fail-on", "x"], "--fail-on: 'x' is not known"),
        (["cross_entropy"], "has no cross_entropy that can be swept"),
    ],
)
def test_what_cannot_be_asked_is_one_line(ops: Path, arguments: list[str], said: str):
    wanted = ["--dtype", "float16"] if "--dtype" not in arguments else []
    mine = [] if arguments == ["softmax"] else ["--adapter", ops]
    code, text = call(*arguments, *wanted, *mine)
    assert code == 2
    assert said in text
    assert "\n" not in text.strip()


def test_a_file_of_another_sweep_is_not_gone_on_with(ops: Path, tmp_path: Path):
    out = tmp_path / "shard.jsonl"
    common = ("stable", "--adapter", ops, "--dtype", "float16", "--jobs", 1, "--out", out)
    assert call(*common, "--shard", "1/2")[0] == 0
    code, text = call(*common, "--shard", "1/2", "--targets", "0.5")
    assert code == 2
    assert "is of another sweep" in text
    out.write_text("{", encoding="utf-8")
    code, text = call(*common, "--shard", "1/2")
    assert code == 2
    assert "no file of a sweep" in text
