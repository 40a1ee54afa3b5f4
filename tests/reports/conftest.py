"""A synthetic Run that holds every sort of thing a report has to show."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossaudit.conformance import run as model

LAWS = {
    "value": ("loss(z, t) = logsumexp(z) - z_t", "definition"),
    "gradient": ("d loss / d z_j = softmax(z)_j - [j = t]", "derivative of the definition"),
    "gradient-zero-sum": ("sum_j d loss / d z_j = 0", "shift invariance, differentiated"),
    "shift-invariance": ("loss(z + c, t) = loss(z, t)", "softmax(z + c) = softmax(z)"),
    "one-hot": ("CE(z, onehot(t)) = CE(z, t)", "definition"),
    "mirror": ("BCE(z, y) = BCE(-z, 1 - y)", "sigmoid(-z) = 1 - sigmoid(z)"),
    "smoothing": ("loss under label_smoothing is as declared", "conventions, part B"),
    "finite": ("the loss is finite where the truth is", "definition"),
}
BINARY_ONLY = {"mirror"}
REGIONS = (
    "ordinary",
    "ties",
    "saturated-right",
    "saturated-wrong",
    "huge",
    "subnormal",
    "minus-inf-non-target",
    "nan",
)
TORCH_SNIPPET = """\
import torch
import torch.nn.functional as F

x = torch.tensor([[float("-inf"), 0.0, 0.0]], requires_grad=True)
q = torch.tensor([[0.0, 1.0, 0.0]])
loss = F.cross_entropy(x, q, reduction="none")
loss.sum().backward()
print(loss, x.grad)  # right: 0.6931471805599453
"""
BCE_SNIPPET = """\
import torch
import torch.nn.functional as F

x = torch.tensor([[-16.0]], requires_grad=True)
y = torch.tensor([[0.0]])
print(F.binary_cross_entropy_with_logits(x, y, reduction="none"))  # right: 1.1253516e-07
"""

CE, BCE = "cross_entropy", "binary_cross_entropy_with_logits"
OPS = (
    ("torch", "cross_entropy.index", CE, ("eager", "compile")),
    ("torch", "cross_entropy.distribution", CE, ("eager", "compile")),
    ("torch", "binary_cross_entropy_with_logits", BCE, ("eager", "compile")),
    ("torch", "binary_cross_entropy", "binary_cross_entropy", ("eager",)),
    ("tensorflow", "sparse_softmax_cross_entropy_with_logits", CE, ("eager", "xla")),
    ("tensorflow", "softmax_cross_entropy_with_logits", CE, ("eager", "xla")),
    ("tensorflow", "sigmoid_cross_entropy_with_logits", BCE, ("eager", "xla")),
    ("jax", "optax.softmax_cross_entropy", CE, ("eager", "jit")),
    ("jax", "optax.softmax_cross_entropy_with_integer_labels", CE, ("eager", "jit")),
    ("jax", "optax.sigmoid_binary_cross_entropy", BCE, ("eager", "jit")),
)
VERSIONS = {
    "torch": {"torch": "2.13.0"},
    "tensorflow": {"tensorflow": "2.21.0"},
    "jax": {"jax": "0.10.2", "optax": "0.2.8"},
}


def name_of(framework: str, op: str, mode: str) -> str:
    return f"{framework}:{op}[{mode},cpu]"


@pytest.fixture
def make_finding() -> Callable[..., model.Finding]:
    """Factory of one finding; every field can be replaced."""
    return build_finding


def build_finding(**changes: Any) -> model.Finding:
    fields: dict[str, Any] = {
        "id": "a1b2c3d4e5f60718",
        "law": "value",
        "subject": "torch:cross_entropy.distribution[eager,cpu]",
        "dtype": "float32",
        "region": "minus-inf-non-target",
        "output": "loss",
        "kind": "wrong kind",
        "status": "new",
        "rows": 118,
        "case": model.CaseRecord(
            operation=CE,
            dtype="float32",
            inputs=[["-inf", "0.0", "0.0"]],
            target=[["0.0", "1.0", "0.0"]],
        ),
        "row": 0,
        "value": ["nan"],
        "right": ["0.6931471805599453"],
        "ulps": None,
        "demand_ulps": 4.5,
        "declared_ulps": 12.0,
        "message": "the loss is NaN where the truth is the finite 0.693147",
        "snippet": TORCH_SNIPPET,
    }
    return model.Finding(**{**fields, **changes})


def findings() -> list[model.Finding]:
    bce = model.CaseRecord(operation=BCE, dtype="float32", inputs=[["-16.0"]], target=[["0.0"]])
    wide = model.CaseRecord(
        operation=CE,
        dtype="bfloat16",
        inputs=[[repr(float(i % 7) - 3) for i in range(40)]],
        target=[17],
        label_smoothing="0.1",
        weight=["1.0"] * 40,
    )
    index = model.CaseRecord(
        operation=CE, dtype="float32", inputs=[["0.0", "20.0"], ["1.0", "2.0"]], target=[1, 0]
    )
    tail = "the loss underflows to 0: (1 - y) z - logsigmoid(z) cancels for negative z"
    return [
        build_finding(),
        build_finding(id="a1b2c3d4e5f60719", law="finite"),
        build_finding(
            id="a1b2c3d4e5f6071a", law="one-hot", subject=name_of("torch", OPS[1][1], "compile")
        ),
        build_finding(
            id="bce0000000000001",
            subject=name_of("torch", OPS[2][1], "eager"),
            region="saturated-right",
            kind="precision",
            status="known",
            case=bce,
            value=["0.0"],
            right=["1.1253516205509499e-07"],
            ulps=9.0e15,
            demand_ulps=3.0,
            declared_ulps=1.2e16,
            message="0 where the truth is 1.12535e-07",
            snippet=BCE_SNIPPET,
            known="PT-05",
            cause=tail,
            link="https://github.com/pytorch/pytorch/issues/195529",
        ),
        build_finding(
            id="bce0000000000002",
            law="mirror",
            subject=name_of("torch", OPS[2][1], "eager"),
            region="saturated-right",
            kind="precision",
            status="known",
            case=bce,
            value=["0.0"],
            right=["1.1253516205509499e-07"],
            ulps=9.0e15,
            cause=tail,
            snippet=BCE_SNIPPET,
        ),
        build_finding(
            id="cafe000000000001",
            subject=name_of("tensorflow", OPS[5][1], "eager"),
            snippet="import tensorflow as tf\nprint(tf.__version__)\n",
        ),
        build_finding(id="cafe000000000002", subject=name_of("jax", OPS[7][1], "jit")),
        build_finding(
            id="grad000000000001",
            law="gradient",
            output="gradient",
            subject=name_of("torch", OPS[0][1], "compile"),
            region="saturated-wrong",
            kind="violates",
            case=wide,
            dtype="bfloat16",
            value=[repr(i / 1024) for i in range(40)],
            right=[repr(i / 1024 + (1e-5 if i == 17 else 0)) for i in range(40)],
            ulps=23.5,
            demand_ulps=4.0,
            declared_ulps=9.0,
            message="23.5 ulps where the declared arithmetic allows 9",
        ),
        build_finding(
            id="poli000000000001",
            law="smoothing",
            subject=name_of("jax", OPS[9][1], "eager"),
            region="ordinary",
            kind="policy",
            case=index,
            row=1,
            ulps=None,
            demand_ulps=None,
            declared_ulps=None,
            value=["1.31"],
            right=["1.27"],
            message="measured smoothing is toward 1/2, declared is none",
        ),
        build_finding(
            id="dead000000000001",
            subject=name_of("tensorflow", OPS[4][1], "xla"),
            region="huge",
            kind="crashed",
            case=index,
            value=[],
            right=["3.3e38"],
            message="the worker died with SIGSEGV",
        ),
        build_finding(
            id="dead000000000002",
            subject=name_of("jax", OPS[8][1], "jit"),
            region="nan",
            kind="timed out",
            case=index,
            value=[],
            right=["nan"],
            message="no answer in 30 s",
        ),
    ]


def subjects() -> list[model.SubjectRecord]:
    return [
        model.SubjectRecord(
            name=name_of(framework, op, mode),
            framework=framework,
            op=op,
            operation=operation,
            mode=mode,
            device="cpu",
            dtypes=list(dtypes_of(mode)),
            versions=VERSIONS[framework],
            arithmetic={"float32": "form C, working float32, height pairwise, origin: source"},
            laws=[law for law in LAWS if law not in BINARY_ONLY or operation == BCE],
        )
        for framework, op, operation, modes in OPS
        for mode in modes
    ]


def dtypes_of(mode: str) -> tuple[str, ...]:
    eager = ("float64", "float32", "bfloat16", "float16")
    return eager if mode == "eager" else ("float32", "bfloat16")


def tallies(found: list[model.Finding]) -> list[model.Tally]:
    """Rows of every grade by a fixed pattern, and the rows of each finding."""
    made: list[model.Tally] = []
    for number, subject in enumerate(subjects()):
        for place, law in enumerate(subject.laws):
            if (number, law) == (3, "shift-invariance"):
                continue  # planned, and without a row
            made += _cell_tallies(subject, law, number + place, found)
    return made


def _cell_tallies(
    subject: model.SubjectRecord, law: str, step: int, found: list[model.Finding]
) -> list[model.Tally]:
    made = []
    for dtype in subject.dtypes:
        for offset, region in enumerate(REGIONS):
            if (step + offset) % 11 == 0:
                continue
            for output in ("loss", "gradient"):
                grades = {"exact": 150 + step, "faithful": 40, "bounded": (step + offset) % 5}
                if region == "nan":
                    grades = {"unspecified": 30, "no bound": step % 3}
                for finding in found:
                    key = (
                        finding.subject,
                        finding.law,
                        finding.dtype,
                        finding.region,
                        finding.output,
                    )
                    if key == (subject.name, law, dtype, region, output):
                        grades[finding.kind] = grades.get(finding.kind, 0) + finding.rows
                made.append(
                    model.Tally(
                        subject=subject.name,
                        law=law,
                        dtype=dtype,
                        region=region,
                        output=output,
                        grades=grades,
                        worst_ulps=1.5,
                    )
                )
    return made


def conventions() -> list[model.Convention]:
    made = []
    for subject in subjects():
        smoothing = {"torch": "eps/K"}.get(subject.framework, "none")
        mean = {"torch": "weights"}.get(subject.framework, "rows")
        wrong = subject.op == "optax.sigmoid_binary_cross_entropy"
        rows = [
            ("smoothing", smoothing, "toward 1/2" if wrong else smoothing, not wrong, "x = [0, 1]"),
            ("mean", mean, mean, True, "two rows, weights 1 and 3: 0.75"),
            ("plus_inf", "nan", "not measured", None, "the op takes no infinities in this mode"),
        ]
        made += [
            model.Convention(
                subject=subject.name,
                field=field,
                declared=declared,
                measured=measured,
                agrees=agrees,
                evidence=evidence,
            )
            for field, declared, measured, agrees, evidence in rows
        ]
    return made


def implied() -> list[model.Implied]:
    """torch's cross_entropy could be tighter in every dtype, optax's in float32 alone."""
    torch, optax = name_of("torch", OPS[0][1], "eager"), name_of("jax", OPS[7][1], "jit")
    found = [(torch, d, "B", ["C", "B"]) for d in ("float64", "float32", "bfloat16", "float16")]
    found += [(optax, "float32", "A", ["B", "A"]), (optax, "bfloat16", "A", ["A"])]
    found += [(name_of("torch", OPS[2][1], "eager"), "float32", "torch", [])]
    return [
        model.Implied(
            subject=subject, dtype=dtype, output="loss", declared=declared, holds=holds, rows=500
        )
        for subject, dtype, declared, holds in found
    ]


def build_run(**changes: Any) -> model.Run:
    found = changes.pop("findings", None)
    found = findings() if found is None else found
    environment = model.Environment(
        python="3.12.7",
        platform="Linux-6.1.0-x86_64-with-glibc2.36",
        machine="x86_64",
        processors=2,
        packages={"numpy": "2.4.1", "hypothesis": "6.160.0"},
        workers={
            "torch": {"torch": "2.13.0", "threads": "1", "flags": "AVX2"},
            "jax-x64": {"jax": "0.10.2", "x64": "true"},
        },
    )
    fields: dict[str, Any] = {
        "lossaudit": "0.1.0",
        "started": "2026-11-21T16:02:11+00:00",
        "seconds": 214.6,
        "depth": "standard",
        "seed": 20261121,
        "corpus": 1,
        "complete": True,
        "environment": environment,
        "subjects": subjects(),
        "absent": [
            model.Absence(
                framework="keras",
                reason="No module named 'keras'",
                hint="pip install keras==3.15.1",
            )
        ],
        "laws": [
            model.LawRecord(name=name, statement=statement, source=source)
            for name, (statement, source) in LAWS.items()
        ],
        "tallies": tallies(found),
        "findings": found,
        "conventions": conventions(),
        "incidents": [
            model.Incident(
                subject=name_of("tensorflow", OPS[4][1], "xla"),
                law="value",
                dtype="float32",
                message="worker died with SIGSEGV and was started again",
            )
        ],
        "known": [
            model.KnownRecord(entry="PT-05", state="seen", detail="replayed: still 0"),
            model.KnownRecord(entry="JX-09", state="gone", detail="replayed: now right"),
            model.KnownRecord(entry="KR-02", state="not looked at", detail="keras is absent"),
        ],
        "implied": implied(),
    }
    return model.Run(**{**fields, **changes})


@pytest.fixture
def make_run() -> Callable[..., model.Run]:
    """Factory of a Run; every field can be replaced."""
    return build_run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium without network; the browser tests are skipped where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs the Chromium of the distribution (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=Path(path),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()
