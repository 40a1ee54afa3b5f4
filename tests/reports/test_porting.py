"""The porting view without frameworks: what can be chosen, what is said, what the page carries."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from lossaudit.conformance.run import Run, SubjectRecord, read_run, write_run
from lossaudit.reports import porting, porting_terminal
from lossaudit.reports.html import render_html
from lossaudit.reports.porting import BY_HAND, SNIPPET, UnknownOp, chosen, groups_of, ported
from lossaudit.reports.porting_code import filled, guard_of

TORCH = "torch:cross_entropy.index"
KERAS = "keras:SparseCategoricalCrossentropy.logits"


def pair(run: Run, old: str, new: str) -> porting.Ported:
    return ported(*chosen(run, old, new), run)


def changed(run: Run, name: str, **values: str) -> Run:
    """The same run, with other values measured of an op in all its modes."""
    entries = [
        msgspec.structs.replace(entry, measured=values[entry.field])
        if entry.subject.partition("[")[0] == name and entry.field in values
        else entry
        for entry in run.conventions
    ]
    return msgspec.structs.replace(run, conventions=entries)


def test_a_difference_says_both_values_and_what_is_done(declared_run: Run):
    found = {d.field: d for d in pair(declared_run, TORCH, KERAS).differences}
    assert (found["mean"].old, found["mean"].new) == ("weights", "valid")
    assert found["mean"].how == SNIPPET
    assert "sum of the weights" in found["mean"].words
    assert found["mean"].shown == (
        (
            "on the smallest call for mean: a loss that follows 'weights', and now "
            "a loss that follows 'valid'"
        ),
    )
    assert (found["smoothing"].old, found["smoothing"].new) == ("eps/K", "no such option")
    assert (found["weight"].how, found["weight"].new) == (SNIPPET, "no such option")
    assert "mutates" not in found, "what is the same is no difference"


def test_what_code_cannot_copy_is_said_and_left(declared_run: Run):
    found = {d.field: d for d in pair(declared_run, "jax:softmax.index", TORCH).differences}
    assert found["label_policy"].how == BY_HAND
    assert "cannot raise" in found["label_policy"].words
    bce = pair(declared_run, "torch:binary_cross_entropy", "keras:BinaryCrossentropy.probabilities")
    found = {d.field: d for d in bce.differences}
    assert found["guard"].how == SNIPPET
    assert found["guard_gradient"].how == BY_HAND
    assert "clamped denominator" in found["guard_gradient"].words


def test_ops_that_agree_get_a_plain_call(declared_run: Run):
    same = pair(declared_run, TORCH, "torch:CrossEntropyLoss")
    assert not same.differences
    assert "each = " not in same.code, "nothing is smoothed by hand"
    assert "label_smoothing=label_smoothing" in same.code


def test_no_code_stands_on_what_was_not_measured(declared_run: Run):
    name = TORCH
    for field, said in (
        ("mean", "divides its mean"),
        ("weighted_smoothing", "weighs smoothed labels"),
        ("smoothing", "smooths labels"),
    ):
        found = pair(changed(declared_run, name, **{field: ""}), name, KERAS)
        assert found.code == ""
        assert said in found.reason
        assert all(d.how == "" for d in found.differences)
    unknown = changed(declared_run, name, smoothing="no known formula")
    assert "smooths labels" in pair(unknown, name, KERAS).reason
    guarded = "keras:BinaryCrossentropy.probabilities"
    unknown = changed(declared_run, guarded, guard="no known formula")
    assert "guards" in pair(unknown, guarded, "torch:binary_cross_entropy").reason


def test_a_label_that_is_ignored_unasked_is_a_default_only_where_its_mean_is_known(
    declared_run: Run,
):
    assert "ignore_index=-100" in pair(declared_run, TORCH, KERAS).code
    backend = "keras-torch:SparseCategoricalCrossentropy.logits"  # counts such rows in the mean
    found = pair(declared_run, backend, TORCH)
    assert "ignore_index=None" in found.code
    assert {d.field: d.how for d in found.differences}["unasked_mean"] == BY_HAND


def test_what_has_no_idioms_is_ported_from_but_not_to(declared_run: Run):
    onnx = "onnxruntime:SoftmaxCrossEntropyLoss"
    assert pair(declared_run, onnx, TORCH).code
    assert "no call of onnxruntime" in pair(declared_run, TORCH, onnx).reason


def test_arrangements_and_misuses_are_not_offered(declared_run: Run):
    names = {
        s.partition("[")[0] for ops in groups_of(declared_run).values() for op in ops
        for s in op.subjects
    }  # fmt: skip
    assert TORCH in names
    assert "torch:cross_entropy.of_softmax" not in names
    assert "torch:binary_cross_entropy_with_logits.multilabel" not in names
    assert "keras:SparseCategoricalCrossentropy.masked" not in names


def test_modes_that_agree_are_one_choice_and_others_are_not(declared_run: Run):
    ops = groups_of(declared_run)["cross_entropy, index"]
    mine = [op for op in ops if (op.framework, op.op) == ("torch", "cross_entropy.index")]
    assert "eager" in mine[0].modes
    assert len(mine[0].modes) > 1
    assert ("autocast",) in [op.modes for op in mine], "its loss has another dtype"
    assert porting.label(mine[0], ops).startswith("torch cross_entropy.index (eager, ")


def test_names_that_nothing_can_be_made_of_are_told(declared_run: Run):
    with pytest.raises(UnknownOp, match=r"there are: torch:CrossEntropyLoss"):
        chosen(declared_run, "torch:nothing", KERAS)
    with pytest.raises(UnknownOp, match="nothing to compare"):
        chosen(declared_run, TORCH, "torch:binary_cross_entropy")


def test_a_run_of_before_shows_the_differences_alone(declared_run: Run):
    subjects = [
        SubjectRecord(**{
            name: getattr(record, name)
            for name in SubjectRecord.__struct_fields__
            if name not in ("options", "reductions", "call", "keywords")
        })
        for record in declared_run.subjects
    ]  # fmt: skip
    old = msgspec.structs.replace(declared_run, subjects=subjects, idioms=[])
    found = pair(old, TORCH, KERAS)
    assert found.code == ""
    assert "no call" in found.reason
    assert {"mean", "smoothing"} <= {d.field for d in found.differences}
    assert "Porting" in render_html(old)


def test_every_snippet_is_python_and_every_pair_has_one_or_a_reason(declared_run: Run):
    data = porting.page_data(declared_run)
    for found in data["snippets"]:
        if not isinstance(found, str):
            ast.parse("\n".join(data["lines"][number] for number in found))
    for group in data["groups"]:
        assert len(group["ops"]) == len(set(group["ops"])) == len(group["pairs"])
        for i, row in enumerate(group["pairs"]):
            for j, entry in enumerate(row):
                assert (entry == 0) == (i == j)
                if entry:
                    numbers, snippet, said = entry
                    assert data["snippets"][snippet]
                    assert data["counts"][said]
                    assert all(data["differences"][number] for number in numbers)


def test_all_pairs_take_little_of_the_page(declared_run: Run):
    text = json.dumps(porting.page_data(declared_run), separators=(",", ":"))
    assert len(text) < 400_000


def test_templates_are_filled_once():
    pieces = {"{a}": "{b}", "{b}": "{a}", "{c}": ""}
    assert filled("f({a}, {b}, {'x': 1})", pieces) == "f({b}, {a}, {'x': 1})"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("clip at 1e-07", ("clip", "1e-07")),
        ("log >= -100", ("clamp", "-100.0")),
        ("none", ("none", "")),
        ("no known formula", ("no known formula", "")),
    ],
)
def test_guards_are_read_as_they_are_measured(said: str, meant: tuple[str, str]):
    assert guard_of(said) == meant


def test_a_new_run_file_keeps_what_a_snippet_is_made_of(declared_run: Run, tmp_path: Path):
    path = tmp_path / "run.json"
    write_run(declared_run, path)
    again = read_run(path)
    assert pair(again, TORCH, KERAS) == pair(declared_run, TORCH, KERAS)


def test_the_terminal_prints_the_code_as_it_stands(declared_run: Run):
    found = pair(declared_run, TORCH, KERAS)
    out = io.StringIO()
    porting_terminal.print_port(found, Console(file=out, width=80))
    printed = out.getvalue()
    assert printed.startswith(
        "torch cross_entropy.index -> keras SparseCategoricalCrossentropy.logits\n"
    )
    assert found.code in printed
    assert "\n- mean: weights -> valid\n" in printed
    assert "\n! smoothing_domain: " in printed


def test_hostile_text_is_shown_and_does_nothing(declared_run: Run):
    bad = "</script><img src=x onerror=alert(1)>\u202e"
    run = changed(declared_run, TORCH, ignore_domain=bad)
    found = pair(run, TORCH, KERAS)
    assert found.code
    assert bad not in found.code
    page = render_html(run)
    assert "<img" not in page
    op = replace(found.old, op=bad)
    assert "\u202e" not in porting.label(op, [op])


def test_the_conventions_page_lists_differences_with_their_inputs(declared_run: Run):
    page = render_html(declared_run)
    assert '<h3 id="conv-1">cross_entropy, index</h3>' in page
    listed = page.partition('class="differences"')[2].partition("</details>")[0]
    assert "<b>valid</b>" in listed
    assert "on the smallest call for mean: " in listed
    assert ' apart"' in page


def test_an_empty_run_has_nothing_to_port(make_run: Callable[..., Run]):
    run = msgspec.structs.replace(make_run(), conventions=[])
    assert groups_of(run) == {}
    assert "holds no two ops" in render_html(run)
