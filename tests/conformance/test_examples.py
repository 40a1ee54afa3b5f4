"""Worked examples: how they are read, rounded, adjudicated, explained, and asked of frameworks."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, subjects
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.engine import Settings
from lossaudit.conformance.events import WorkerReady
from lossaudit.conformance.examples import everything, frameworks, mistakes
from lossaudit.conformance.examples.adjudicate import RIGHT, WRONG, adjudicated
from lossaudit.conformance.examples.ask import CHEAP, answers, questions
from lossaudit.conformance.examples.entries import FILE, Example, ExamplesError, load
from lossaudit.conformance.examples.figures import NOISE, cut_to, figures, rounds_to, significant
from lossaudit.conformance.examples.operations import OPERATIONS
from lossaudit.conformance.recorder import Recorder
from lossaudit.conformance.run import ExampleAnswer, ExampleFigure, Incident
from lossaudit.reference.exact import round_exact
from lossaudit.reference.formats import FORMATS, next_up
from lossaudit.reference.rows import truth
from lossaudit.reference.vocabulary import Case, Floats, Outcome

HEAD = '[sources]\nX = "A page"\n\n'


@pytest.fixture
def read(tmp_path: Path):
    """The examples of a text; `[[example]]` is written before it where it is one alone."""

    def read_text(body: str) -> tuple[Example, ...]:
        path = tmp_path / "mine.toml"
        path.write_text(HEAD + body, encoding="utf-8")
        return load(path)

    return read_text


@pytest.fixture
def verdict(read):
    """The one figure of an example: operation, its fields as TOML, the claim as TOML."""

    def of(operation: str, fields: str, claim: str, *, more: str = "") -> ExampleFigure:
        body = f'[[example]]\nid = "X1"\noperation = "{operation}"\n{fields}\nclaim = {claim}\n'
        (figure,) = adjudicated(read(body + more))[:1]
        return figure

    return of


# --- the digits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed", "right"),
    [
        (0.34234958, "0.3423", True),
        (0.34234958, "0.3424", False),
        (0.1, "0.1000", True),
        (0.10001, "0.10", True),
        (0.10006, "0.1000", False),
        (20.0, "19", False),
        (19.5, "19", True),
        (19.5, "20", True),
        (-0.009801, "-0.01", True),
        (0.125, "0.12", True),
        (0.125, "0.13", True),
        (-1e-17, "0.0000", True),
        (math.nan, "0.0", False),
        (math.inf, "1", False),
    ],
)
def test_a_value_rounds_at_the_digits_that_are_printed(value: float, printed: str, right: bool):
    assert rounds_to(value, Decimal(printed)) is right


@pytest.mark.parametrize(
    ("value", "printed", "right"),
    [
        (9801.0, "10000", True),
        (458.2, "500", True),
        (449.0, "500", False),
        (5001.0, "10000", False),
    ],
)
def test_rough_figures_are_right_at_one_significant_digit(value: float, printed: str, right: bool):
    assert rounds_to(value, Decimal(printed), about=True) is right


def test_digits_are_cut_toward_zero():
    assert cut_to(2.30258, Decimal("2.302"))
    assert cut_to(-2.30258, Decimal("-2.302"))
    assert not cut_to(2.30258, Decimal("2.303"))
    assert not cut_to(math.nan, Decimal("2.3"))


def test_produced_figures_keep_their_zeros():
    values = (0.9, 0.5, 2.126928, 0.0001001, 0.0, -20.0, 9801.0, 123456.0, math.inf)
    shown = ["0.9000", "0.5000", "2.127", "0.0001001", "0", "-20.00", "9801", "123500", "inf"]
    assert list(map(significant, values)) == shown


def test_trailing_zeros_of_a_file_count(verdict):
    rough = verdict("cross_entropy_probabilities", "p = [0.7, 0.3]\ntarget = 0", "{ loss = 0.36 }")
    assert (rough.verdict, rough.printed, rough.shown) == (RIGHT, ["0.36"], ["0.36"])
    fine = verdict("cross_entropy_probabilities", "p = [0.7, 0.3]\ntarget = 0", "{ loss = 0.3600 }")
    assert (fine.verdict, fine.printed, fine.shown) == (WRONG, ["0.3600"], ["0.3567"])


# --- what a file may say --------------------------------------------------------------------------

GOOD = '[[example]]\nid = "X1"\noperation = "cross_entropy"\nlogits = [1.0, 2.0]\ntarget = 1\n'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[[example]]\n", "example number 1: 'id' is missing"),
        ('[[example]]\nid = "X1"\n', "example X1: 'operation' is missing"),
        (GOOD, "example X1: 'claim' is missing"),
        (GOOD.replace("X1", "Z1") + "claim = {}", "letters of [sources] (X) and a number"),
        (GOOD.replace("X1", "1") + "claim = {}", "letters of [sources] (X) and a number"),
        (GOOD.replace("cross_", "gross_") + "claim = {}", "operation 'gross_entropy' is not known"),
        (GOOD.replace("target = 1\n", "") + "claim = {}", "cross_entropy: 'target' is missing"),
        (GOOD + "claim = {}\nlogit = 3", "'logit' is not known; it takes logits, target"),
        (GOOD.replace("target = 1", "target = -1") + "claim = {}", "'target' must be a class"),
        (GOOD.replace("target = 1", "target = 2") + "claim = {}", "there is no class 2 among 2"),
        (GOOD.replace("2.0]", "nan]") + "claim = {}", "'logits' must be a list of numbers"),
        (GOOD.replace("2.0]", "true]") + "claim = {}", "'logits' must be a list of numbers"),
        (GOOD + 'claim = {}\nunit = "bans"', "the unit is nats or bits, not 'bans'"),
        (GOOD + "claim = 3", "'claim' must be a table"),
        (GOOD + 'claim = { loss = "0.3" }', "the claim of 'loss' must hold numbers"),
        (GOOD + "claim = { cost = 0.3 }", "there is no figure 'cost' here; there are: probab"),
        (GOOD + "claim = { loss = [0.3, 0.4] }", "the claim of 'loss' must hold one number"),
        (GOOD + "claim = { probabilities = 0.3 }", "must hold 2 numbers for each case"),
        (GOOD + "claim = { loss_ratio = 0.3 }", "'loss_ratio' is a ratio of two cases"),
        (GOOD + "claim = { loss = 1e400 }", "the claim of 'loss' must hold numbers"),
        (GOOD.replace("2.0]", f"{10**400}]") + "claim = {}", "'logits' must be a list of numbers"),
        (
            GOOD.replace("target = 1", "target = 1_000_000") + "claim = {}",
            "'target' must be a class",
        ),
        (GOOD + "claim = { loss_row_1 = 0.3 }", "'loss_row_1': loss has 1 cases"),
        (GOOD + 'claim = {}\nabout = ["loss"]', "'about' names 'loss', which is not in the claim"),
        (GOOD + 'claim = {}\nproduce = ["cost"]', "there is no figure 'cost' here"),
        (GOOD + "claim = {}\n" + GOOD + "claim = {}", "there is another of this id"),
        ("", "there is no [[example]] in it"),
        ("[[examples]]\n", "'examples' is neither [sources] nor [[example]]"),
        ("[[example]\n", "cannot read"),
        (GOOD + "claim = { loss = 0.5, probabilities = 0.5 }", "must hold 2 numbers for each case"),
        (GOOD + "claim = { loss = 0.5, probabilities = [0.5] }", "must hold 2 numbers for each"),
        (GOOD + "claim = { probabilities = [0.3, 0.7], loss = [0.3] }", "must hold one number"),
        (GOOD + "claim = { probabilities = [[0.3, 0.7]], loss = 0.3 }", "must hold 2 numbers"),
        (GOOD.replace('"cross_entropy"', '["a"]') + "claim = {}", "'operation' must be a text"),
        (GOOD.replace("2.0]", f"1e{'9' * 20}]") + "claim = {}", "a number in it is too long"),
        (GOOD.replace("2.0]", f"{'9' * 5000}]") + "claim = {}", "a number in it is too long"),
        (GOOD.replace("2.0]", f"0x{'9' * 5000}]") + "claim = {}", "not [1.0, 2.388E+6020]"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(read, body: str, message: str):
    with pytest.raises(ExamplesError, match=re.escape(message)):
        adjudicated(read(body))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ExamplesError, match=r"cannot read .*none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_what_has_no_finite_value_is_said_as_it_is(verdict):
    loss = verdict("cross_entropy_probabilities", "p = [0, 1]\ntarget = 0", "{ loss = 34.54 }")
    assert (loss.verdict, loss.shown, loss.mistakes) == (WRONG, ["inf"], ["unexplained"])
    ratio = verdict("double_softmax", "logits = [1.0]\ntarget = 0", "{ gradient_norm_ratio = 1 }")
    assert (ratio.verdict, ratio.shown) == (WRONG, ["nan"])
    huge = verdict("cross_entropy", "logits = [1e299, 0]\ntarget = 1", "{ loss = 1.0 }")
    assert (huge.verdict, huge.right) == (WRONG, ["1e+299"])


@pytest.mark.parametrize(
    ("operation", "fields", "message"),
    [
        ("cross_entropy_distributions", "p = [0.5, 0.5]\nq = [1.0]", "must be of one length"),
        ("negative_log_likelihood_of_probability", "", "either 'p' or 'pairs'"),
        ("binary_cross_entropy", "y = [1]", "either 'p' or 'gradient_wrt_logit'"),
        ("binary_cross_entropy", "y = [1]\ngradient_wrt_logit = 0.5", "a probability of 1.5"),
        ("label_smoothing", "eps = 0.1", "either 'target' or 'classes'"),
        ("label_smoothing", "eps = 0.1\ntarget = [0.5, 0.5]", "must hold one 1, and 0 for each"),
        ("label_smoothing", "eps = 0.1\ntarget = [1]", "must hold one 1, and 0 for each"),
        ("double_softmax", "logits = [0.0, 1.0]\ntarget = 2", "there is no class 2 among 2"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_said(verdict, operation, fields, message):
    with pytest.raises(ExamplesError, match=f"example X1, {operation}: .*{re.escape(message)}"):
        verdict(operation, fields, "{}")


# --- each mistake, on an example of our own -------------------------------------------------------

SAMPLES = {
    "other unit": (
        "cross_entropy_distributions",
        'p = [0.6, 0.4]\nq = [0.3, 0.7]\nunit = "bits"',
        "{ cross_entropy = 0.8651 }",
        "in nats",
    ),
    "other quantity": (
        "cross_entropy_distributions",
        "p = [0.6, 0.4]\nq = [0.3, 0.7]",
        "{ cross_entropy = 0.1920 }",
        "kl (KL(p || q))",
    ),
    "other convention": (
        "label_smoothing",
        "eps = 0.2\ntarget = [0, 1, 0, 0, 0]",
        "{ smoothed = [0.05, 0.80, 0.05, 0.05, 0.05] }",
        "eps/(K-1) in place of eps/K",
    ),
    "truncated": (
        "negative_log_likelihood_of_probability",
        "p = 0.3",
        "{ loss = 1.2039 }",
        "digits cut off, not rounded",
    ),
    "missing division": (
        "cross_entropy",
        'logits = [[1.0, 0.0], [0.0, 3.0]]\ntarget = [0, 0]\nreduction = "mean"',
        "{ loss = 3.3618 }",
        "not divided by the number of rows, 2",
    ),
    "other input": (
        "cross_entropy",
        "logits = [1.0, 0.0, 2.5]\ntarget = 0",
        "{ loss = 0.2664 }",
        "class 2 as the target",
    ),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_each_mistake_is_found_by_the_search(verdict, kind: str):
    operation, fields, claim, why = SAMPLES[kind]
    figure = verdict(operation, fields, claim)
    assert (figure.verdict, figure.mistakes, figure.why) == (WRONG, [kind], why)
    assert figure.tried > 1


@pytest.mark.parametrize("kind", SAMPLES)
def test_one_digit_beside_it_nothing_explains(verdict, kind: str):
    operation, fields, claim, _ = SAMPLES[kind]
    numbers = re.findall(r"\d\.\d+", claim)
    beside = claim.replace(numbers[0], str(Decimal(numbers[0]) + Decimal("0.0143")))
    figure = verdict(operation, fields, beside)
    assert (figure.verdict, figure.mistakes, figure.why) == (WRONG, ["unexplained"], "")


@pytest.mark.parametrize(
    ("operation", "fields", "claim", "why"),
    [
        (
            "cross_entropy_distributions",
            "p = [0.6, 0.4]\nq = [0.3, 0.7]",
            "{ kl = 0.1838 }",
            "p and q exchanged",
        ),
        ("negative_log_likelihood_of_probability", "p = 0.3", "{ loss = 0.3567 }", "1 - p in"),
        (
            "binary_cross_entropy_with_logits",
            "logits = [2.0]\ny = [1]",
            "{ loss = 2.127 }",
            "1 - y",
        ),
        (
            "cross_entropy",
            "logits = [1.0, 0.0]\ntarget = 0\ntemperature = 4",
            "{ loss = 0.0181 }",
            "logits times the temperature",
        ),
        (
            "label_smoothing_demo",
            "confidence = 0.5\nclasses = 3\neps = 0.0",
            "{ loss = 0.7944 }",
            "the confidence c itself as the logit of the right class",
        ),
    ],
)
def test_inputs_that_were_taken_for_others_are_named(verdict, operation, fields, claim, why):
    figure = verdict(operation, fields, claim)
    assert figure.mistakes == ["other input"]
    assert why in figure.why


def test_a_figure_can_be_made_of_what_the_page_printed_before(verdict):
    more = (
        '[[example]]\nid = "X2"\noperation = "cross_entropy"\nlogits = [1.0, 0.0]\n'
        "target = 0\nclaim = { probabilities = [0.9, 0.1] }\n"
    )
    fields = "logits = [[1.0, 0.0], [0.0, 0.0]]\ntarget = [0, 1]"
    claim = "{ gradient_row_0 = [-0.1, 0.1] }"
    figure = verdict("cross_entropy", fields, claim, more=more)
    assert (figure.mistakes, figure.why) == (["other input"], "the probabilities that X2 prints")
    alone = verdict("cross_entropy", fields, claim)
    assert alone.mistakes == ["unexplained"]


def test_two_mistakes_are_said_where_none_alone_fits(verdict):
    figure = verdict(
        "cross_entropy_distributions",
        "p = [0.7, 0.3]\nq = [0.5, 0.5]",
        "{ cross_entropy = 0.8813 }",
    )
    assert figure.mistakes == ["other quantity", "other unit"]
    assert figure.why == "entropy (H(p)), in bits"


def test_a_vector_is_explained_by_what_gives_all_of_it(verdict):
    fields = "eps = 0.2\ntarget = [0, 1, 0, 0, 0]"
    figure = verdict("label_smoothing", fields, "{ smoothed = [0.05, 0.80, 0.05, 0.05, 0.06] }")
    assert figure.mistakes == ["unexplained"]


def test_the_kinds_of_mistakes_are_those_that_are_shown():
    assert set(SAMPLES) == {
        mistakes.OTHER_UNIT,
        mistakes.OTHER_QUANTITY,
        mistakes.OTHER_CONVENTION,
        mistakes.TRUNCATED,
        mistakes.MISSING_DIVISION,
        mistakes.OTHER_INPUT,
    }


# --- the shipped examples, computed again by decimals ---------------------------------------------

DIGITS = 60


def ln(x: Decimal) -> Decimal:
    return x.ln()


def softmax(z: list[Decimal]) -> list[Decimal]:
    powers = [each.exp() for each in z]
    return [each / sum(powers) for each in powers]


def by_decimals(e: Example) -> dict[str, list[Any]]:
    """Every figure of an example of the file by decimals alone: a list of its cases."""
    number = {k: v for k, v in e.fields.items() if not isinstance(v, str)}
    d: dict[str, Any] = {k: _decimal(v) for k, v in number.items()}
    per = 1 / ln(Decimal(2)) if e.unit == "bits" else Decimal(1)
    match e.operation:
        case "cross_entropy_distributions":
            p = d["p"]
            models = d["q"] if isinstance(d["q"][0], list) else [d["q"]]
            own = [-x * ln(x) * per for x in p]
            cross = [[-x * ln(y) * per for x, y in zip(p, q, strict=True)] for q in models]
            kl = [[c - o for c, o in zip(row, own, strict=True)] for row in cross]
            return {
                "entropy": [sum(own)],
                "terms_entropy": [own],
                "cross_entropy": [sum(row) for row in cross],
                "terms_cross_entropy": cross,
                "kl": [sum(row) for row in kl],
                "terms_kl": kl,
            }
        case "negative_log_likelihood_of_probability" if "pairs" in d:
            return {"reduction_of_loss": [ln(b) - ln(a) for a, b in d["pairs"]]}
        case "negative_log_likelihood_of_probability":
            p = d["p"]
            return {
                "loss": [-ln(x) for x in p],
                "gradient_at_0_7": [-1 / x for x in p if x == Decimal("0.7")],
            }
        case "cross_entropy_probabilities":
            return {"loss": [-ln(d["p"][int(d["target"])])]}
        case "gradient_wrt_logit":
            p, y = d["p"], d["y"]
            return {
                "cross_entropy": [p - y],
                "squared_error_magnitude": [abs((p - y) * p * (1 - p))],
            }
        case "label_smoothing" if "classes" in d:
            k = d["classes"]
            return {
                "label": [1 - d["eps"] for _ in k],
                "others": [d["eps"] / (n - 1) for n in k],
                "eps_of_the_other_convention": [d["eps"] * n / (n - 1) for n in k],
            }
        case "label_smoothing":
            y = d["target"]
            return {"smoothed": [[t * (1 - d["eps"]) + d["eps"] / len(y) for t in y]]}
        case "binary_cross_entropy":
            y = d["y"]
            if "p" not in d:
                return {"loss": [-ln(1 + d["gradient_wrt_logit"])]}
            means = [
                -sum(ln(q if t else 1 - q) for q, t in zip(p, y, strict=True)) / len(y)
                for p in d["p"]
            ]
            return {"loss": means, "loss_clipped": means}
        case "cross_entropy":
            rows = d["logits"] if isinstance(d["logits"][0], list) else [d["logits"]]
            labels = d["target"] if isinstance(d["target"], list) else [d["target"]]
            p = [softmax(row) for row in rows]
            losses = [-ln(row[int(t)]) for row, t in zip(p, labels, strict=True)]
            by = len(rows) if "reduction" in e else 1
            slopes = [
                [(x - (j == t)) / by for j, x in enumerate(row)]
                for row, t in zip(p, labels, strict=True)
            ]
            return {
                "probabilities": p,
                "loss": [sum(losses) / by] if by > 1 else losses,
                "loss_clipped": losses,
                "entropy": [-sum(x * ln(x) for x in row) for row in p],
                "gradient": slopes,
                "gradient_row_0": slopes[:1],
            }
        case "binary_cross_entropy_with_logits":
            p = [1 / (1 + (-z).exp()) for z in d["logits"]]
            both = list(zip(p, d["y"], strict=True))
            return {
                "probability": p,
                "loss": [-ln(x if t else 1 - x) for x, t in both],
                "gradient": [x - t for x, t in both],
            }
        case "label_smoothing_demo":
            c, k, eps = d["confidence"], d["classes"], d["smoothed_eps"]
            rest = (1 - c) / (k - 1)
            return {
                "probabilities": [[c, rest, rest, rest]],
                "loss": [-ln(c)],
                "gradient": [[c - 1, rest, rest, rest]],
                "others_gradient_smoothed": [rest - eps / k],
                "confidence_without_pull": [1 - eps * (k - 1) / k],
            }
        case "squared_error_against_bce":
            p = d["p"] if isinstance(d["p"], list) else [d["p"]]
            squared, bce = [(1 - x) ** 2 for x in p], [-ln(x) for x in p]
            slopes, steep = [-2 * (1 - x) for x in p], [-1 / x for x in p]
            return {
                "squared_error": squared,
                "squared_error_gradient": slopes,
                "squared_error_gradient_magnitude": [abs(x) for x in slopes],
                "squared_error_ratio": [max(squared) / min(squared)],
                "bce": bce,
                "bce_gradient": steep,
                "bce_gradient_magnitude": [abs(x) for x in steep],
                "bce_ratio": [max(bce) / min(bce)],
            }
        case "double_softmax":
            p = softmax(d["logits"])
            s = softmax(p)
            right = [x - (j == 0) for j, x in enumerate(p)]
            wrong = [x - (j == 0) for j, x in enumerate(s)]
            inner = sum(x * g for x, g in zip(p, wrong, strict=True))
            back = [x * (g - inner) for x, g in zip(p, wrong, strict=True)]
            norms = [sum((g * g for g in each), Decimal(0)).sqrt() for each in (right, back)]
            return {
                "loss_of_logits": [-ln(p[0])],
                "loss_of_probabilities": [-ln(s[0])],
                "gradient_norm_of_logits": [norms[0]],
                "gradient_norm_of_probabilities": [norms[1]],
                "gradient_norm_ratio": [norms[1] / norms[0]],
            }
    raise AssertionError(e.operation)


def _decimal(value: Any) -> Any:
    return [_decimal(v) for v in value] if isinstance(value, list) else Decimal(value)


SHIPPED = {e.id: e for e in load()}


@pytest.mark.parametrize(
    "name", [name for name, e in SHIPPED.items() if OPERATIONS[e.operation].figures]
)
def test_every_figure_is_that_of_decimals(name: str):
    example = SHIPPED[name]
    with localcontext(prec=DIGITS):
        right = by_decimals(example)
    seen: Counter[str] = Counter()
    for figure in figures(example):
        exact = right[figure.name][seen[figure.name]]
        seen[figure.name] += 1
        values = exact if isinstance(exact, list) else [exact]
        for got, due in zip(np.atleast_1d(figure.value), values, strict=True):
            assert abs(Decimal(float(got)) - due) <= Decimal(NOISE) * max(1, abs(due))
            if figure.printed:
                # What is decided by float64 is decided the same by 60 digits.
                assert figure.about or rounds_to(float(got), figure.printed[0]) == rounds_to(
                    float(due), figure.printed[0]
                )
    assert all(seen[n] == len(right[n]) for n in seen)


def test_the_verdicts_on_the_shipped_examples():
    """Found by computing the figures by hand; the search knows nothing of this list."""
    found = {
        (f.example, f.figure, f.case): (f.mistakes, f.shown)
        for f in everything.verdicts()
        if f.verdict == WRONG
    }
    unexplained = ["unexplained"]
    assert found == {
        ("A6", "smoothed", ""): (["other convention"], ["0.9333", "0.03333", "0.03333"]),
        ("A7", "cross_entropy", ""): (["other quantity", "other unit"], ["0.6931"]),
        ("A11", "probabilities", ""): (
            ["other input"],
            ["0.8500", "0.05000", "0.05000", "0.05000"],
        ),
        ("A11", "loss", ""): (["other input"], ["0.1625"]),
        ("A11", "gradient", ""): (["other input"], ["-0.1500", "0.05000", "0.05000", "0.05000"]),
        ("B1", "loss", "p = 0.1"): (["truncated"], ["2.303"]),
        ("D6", "bce_gradient_magnitude", ""): (["missing division"], ["20.00"]),
        ("E4", "probabilities", ""): (
            unexplained,
            ["0.5844", "0.2626", "0.1068", "0.03554", "0.01070"],
        ),
        ("E4", "loss", ""): (unexplained, ["0.5372"]),
        ("E5", "loss", ""): (unexplained, ["0.8233"]),
        ("E5", "gradient_row_0", "row 0"): (
            ["other input", "missing division"],
            ["-0.1385", "0.08753", "0.03559", "0.01185", "0.003568"],
        ),
    }
    counted = Counter(f.verdict for f in everything.verdicts())
    assert (counted[RIGHT], counted[WRONG]) == (51, 11)


def test_every_shipped_example_has_a_verdict():
    assert len(SHIPPED) == 33
    assert {f.example for f in everything.verdicts()} == set(SHIPPED)
    assert FILE.read_text(encoding="utf-8").count("[[example]]") == len(SHIPPED)


def test_questions_of_the_notes_are_answered():
    said = {f.example: " ".join(f.answers) for f in everything.verdicts()}
    assert "gradient of every wrong class is 0.025: positive" in said["A11"]
    assert "above 0.925" in said["A11"]
    assert "p = 0.496355, whose loss is 0.700464" in said["D9"]
    assert "changes no bit" in said["A9"]
    assert "gives nan in float64" in said["A10"]
    assert said["E4"].endswith("contradict each other: the loss of 0.6439 is 0.4402, not 0.4404.")
    assert not said["D3"]
    (why,) = {f.why for f in everything.verdicts() if f.example == "A11" and f.verdict == WRONG}
    assert "the binary logit log(c/(1 - c)) as the logit of the right class" in why


# --- frameworks -----------------------------------------------------------------------------------


def by_the_reference(subject: Subject):
    def call(case: Case) -> tuple[Floats, Floats]:
        found = truth(case, subject.semantics)
        fmt = FORMATS[case.dtype]
        return round_exact(found.loss, fmt), round_exact(found.gradient, fmt)

    return call


def without_means(framework: str) -> list[Subject]:
    """Ops that the reference answers for row by row."""
    return [s for s in subjects([framework], "quick") if s.operation != "softmax"]


@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_an_op_that_is_right_confirms_every_figure(framework: str):
    every = [s for s in without_means(framework) if "mean" not in s.reductions]
    session = InProcess({s.name: by_the_reference(s) for s in every})
    found = list(answers(session, every, list(SHIPPED.values())))
    assert len(found) > 100
    assert all(a.agrees and a.ulps == 0 and not a.said for a in found), [
        a for a in found if not (a.agrees and a.ulps == 0)
    ]


def test_an_op_that_is_wrong_is_told_by_digits_and_ulps():
    (op,) = [
        s
        for s in subjects(["jax"], "quick")
        if (s.op, s.mode) == ("sigmoid_binary_cross_entropy", "eager")
    ]

    def off(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = by_the_reference(op)(case)
        return loss * 1.25, gradient

    (example,) = [e for e in SHIPPED.values() if e.id == "D2"]
    found = {a.figure: a for a in answers(InProcess(off), [op], [example]) if a.dtype == "float64"}
    assert not found["loss"].agrees
    assert found["loss"].ulps is not None
    assert found["loss"].ulps > 2**49
    assert found["probability"].agrees
    assert found["gradient"].agrees


def moved(subject: Subject, steps: int):
    """The right loss, some numbers of the format further."""

    def call(case: Case) -> tuple[Floats, Floats]:
        loss, gradient = by_the_reference(subject)(case)
        for _ in range(steps):
            loss = next_up(loss, FORMATS[case.dtype])
        return loss, gradient

    return call


def eager(framework: str, op: str) -> Subject:
    (found,) = [s for s in subjects([framework], "quick") if (s.op, s.mode) == (op, "eager")]
    return found


@pytest.mark.parametrize(("steps", "agrees"), [(0, True), (4, True), (5, False)])
def test_more_digits_than_a_format_holds_ask_for_those_that_it_holds(read, steps, agrees):
    """Six in float32: half of the sixth is 4.2 ulps at least, where an ulp is the largest."""
    (example,) = read(
        '[[example]]\nid = "X1"\noperation = "cross_entropy"\nlogits = [1.0, 2.0]\ntarget = 0\n'
        "claim = { loss = 1.31326168752 }\n"
    )
    (record,) = adjudicated([example])
    assert record.verdict == RIGHT
    op = eager("jax", "softmax_cross_entropy_with_integer_labels")
    found = {a.dtype: a for a in answers(InProcess(moved(op, steps)), [op], [example])}
    assert found["float32"].ulps == steps
    assert found["float32"].agrees is agrees
    assert found["float64"].agrees  # its digits are more than those that are printed


def test_an_op_is_not_blamed_for_inputs_that_its_format_does_not_hold(read):
    (example,) = read(
        '[[example]]\nid = "X1"\noperation = "cross_entropy"\nlogits = [1000.1, 1000.2]\n'
        "target = 0\nclaim = { loss = 0.7443967 }\n"
    )
    (record,) = adjudicated([example])
    assert record.verdict == RIGHT
    op = eager("jax", "softmax_cross_entropy_with_integer_labels")
    found = {a.dtype: a for a in answers(InProcess(by_the_reference(op)), [op], [example])}
    assert found["float32"].value == ["0.7444158792495728"]
    assert found["float32"].agrees
    assert found["float64"].agrees


def test_an_op_that_is_right_does_not_confirm_what_it_is_not_asked_for(read, monkeypatch):
    (example,) = read(GOOD + 'claim = {}\nproduce = ["loss"]\n')
    (figure,) = figures(example)
    (ask, *_) = figure.ways
    other = replace(figure, ways=(replace(ask, target=1 - ask.target),))
    monkeypatch.setattr("lossaudit.conformance.examples.ask.figures", lambda _: [other])
    op = eager("jax", "softmax_cross_entropy_with_integer_labels")
    found = list(answers(InProcess(by_the_reference(op)), [op], [example]))
    assert [a.ulps for a in found] == [0, 0]
    assert not any(a.agrees for a in found)


def test_a_guard_of_an_op_is_another_figure(read):
    (example,) = read(
        '[[example]]\nid = "X1"\noperation = "binary_cross_entropy"\np = [0.0]\ny = [1]\n'
        'claim = {}\nproduce = ["loss"]\n'
    )
    every = [s for s in subjects(["keras"], "quick") if s.operation == "binary_cross_entropy"]
    session = InProcess({s.name: by_the_reference(s) for s in every})
    for answer in answers(session, every, [example]):
        assert answer.ulps == 0
        assert float(answer.value[0]) < 40
        assert not answer.agrees


def test_what_raises_is_said_and_a_lost_worker_is_an_incident():
    (op,) = [
        s
        for s in subjects(["jax"], "quick")
        if (s.op, s.mode) == ("sigmoid_binary_cross_entropy", "eager")
    ]
    (example,) = [e for e in SHIPPED.values() if e.id == "D2"]

    class Session:
        def __init__(self, status: str) -> None:
            self.status = status

        def ask(self, subject: Subject, case: Case) -> Outcome:
            del subject, case
            return Outcome(self.status, message="ValueError: no")

        def versions(self, framework: str) -> dict[str, str]:
            del framework
            return {}

    heard: list[ExampleAnswer | Incident] = []
    everything.ask_examples(Session("raised"), [op], [example], heard.append)
    assert {a.said for a in heard if isinstance(a, ExampleAnswer)} == {"raised: ValueError: no"}
    assert all(isinstance(a, ExampleAnswer) and not a.agrees and not a.value for a in heard)
    heard.clear()
    everything.ask_examples(Session("crashed"), [op], [example], heard.append)
    (incident,) = heard
    assert isinstance(incident, Incident)
    assert "not asked any further" in incident.message


def test_what_is_dear_to_compile_is_left_to_the_command():
    jax = subjects(["jax"], "quick")
    every = list(questions(jax, list(SHIPPED.values())))
    few = list(questions(jax, list(SHIPPED.values()), CHEAP))
    assert {q.dtype for q in every} == {"float64", "float32"}
    assert {q.dtype for q in few} == {"float32"}
    assert {q.ask.inputs.shape[1] for q in few} <= {1, 2, 3, 10, 1000}
    assert {q.subject.operation for q in every} == {
        "cross_entropy",
        "binary_cross_entropy_with_logits",
        "kl_divergence",
    }


def test_what_several_frameworks_say_is_put_in_their_order():
    heard = frameworks.Heard()
    answer = ExampleAnswer(
        example="A1", figure="kl", case="", subject="", dtype="float32", value=[], agrees=True
    )
    for home in ("keras", "torch"):
        heard(WorkerReady(home, {home: "1"}))
        heard(msgspec.structs.replace(answer, subject=f"{home}:op[eager,cpu]"))
    heard(Incident(subject="jax", law="", dtype="", message="internal: no"))
    found = heard.sorted(["torch", "jax", "keras"])
    assert [a.subject for a in found.answers] == ["torch:op[eager,cpu]", "keras:op[eager,cpu]"]
    assert list(found.versions) == ["torch", "keras"]
    assert found.faults() == heard.incidents


def test_a_framework_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(frameworks, "availability", lambda *_: "torch is not installed")
    heard = frameworks.Heard()
    frameworks.ask_frameworks(["torch"], list(SHIPPED.values()), heard, 1)
    (absence,) = heard.absent
    assert (absence.framework, absence.reason) == ("torch", "torch is not installed")


def test_a_run_keeps_the_answers_and_with_them_the_verdicts():
    recorder = Recorder(Settings())
    assert recorder.run(complete=True).examples == []
    answer = ExampleAnswer(
        example="A7", figure="cross_entropy", case="", subject="torch:op[eager,cpu]",
        dtype="float32", value=["0.69"], agrees=True, ulps=1.0,
    )  # fmt: skip
    recorder(answer)
    recorder(answer)
    run = recorder.run(complete=False)
    assert run.example_answers == [answer]
    assert run.examples == list(everything.verdicts())


@pytest.mark.frameworks
@pytest.mark.parametrize("framework", ["torch", pytest.param("keras", marks=pytest.mark.slow)])
def test_a_real_framework_confirms_the_right_figure_in_the_place_of_each_wrong_one(framework: str):
    if reason := availability(FRAMEWORKS[framework]):
        pytest.skip(reason)
    wrong = {(f.example, f.figure, f.case) for f in everything.verdicts() if f.verdict == WRONG}
    with WorkerPool() as pool:
        found = list(answers(pool, subjects([framework], "quick"), list(SHIPPED.values())))
    assert all(answer.agrees for answer in found), [a for a in found if not a.agrees]
    assert wrong <= {(a.example, a.figure, a.case) for a in found if a.dtype == "float64"}
    assert wrong <= {(a.example, a.figure, a.case) for a in found if a.dtype == "float32"}
