"""A synthetic Run that holds every sort of thing a report has to show."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lossaudit.adapters import registry
from lossaudit.conformance import comparison as compared
from lossaudit.conformance import run as model
from lossaudit.conformance.engine import Settings, record
from lossaudit.conformance.probe import declared, fields_of
from lossaudit.conformance.recorder import Recorder

if TYPE_CHECKING:  # the browser's driver is loaded by the fixture, where there is a browser
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

SIZES = {"phone": (390, 844), "wide": (1440, 900)}
"""Of a browser's window."""

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


def peers(found: list[model.Finding]) -> list[model.Peers]:
    """What three subjects answer to the first input: one rightly, two not, one of them raises."""
    if not found:
        return []
    right = {"right_loss": ["0.5"], "right_gradient": [["-0.25", "0.25"]]}
    good = model.Peer(
        subjects=[subjects()[0].name],
        loss=["0.5"],
        gradient=[["-0.25", "0.25"]],
        loss_ulps=0.25,
        gradient_ulps=0.0,
        **right,
    )
    wrong = model.Peer(
        subjects=[found[0].subject],
        loss=["inf"],
        gradient=[["-0.25", "0.2500000298023224"]],
        gradient_ulps=1.0,
        **right,
    )
    raised = model.Peer(
        subjects=[subjects()[-1].name], status="raised", message="ValueError: no", **right
    )
    return [model.Peers(case=found[0].case, answers=[wrong, raised, good])]


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
        "peers": peers(found),
    }
    return model.Run(**{**fields, **changes})


@pytest.fixture
def make_run() -> Callable[..., model.Run]:
    """Factory of a Run; every field can be replaced."""
    return build_run


def build_side(**changes: Any) -> compared.Side:
    fields: dict[str, Any] = {
        "versions": {"jax": "0.4.30", "jaxlib": "0.4.30", "optax": "0.2.3", "numpy": "1.26.4"},
        "python": "3.11.9",
        "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
        "lossaudit": "0.1.0",
        "started": "2026-11-21T16:02:11+00:00",
        "seconds": 214.6,
        "depth": "standard",
        "seed": 20261121,
        "complete": True,
        "subjects": 42,
        "findings": {"precision": 12, "violates": 3},
    }
    return compared.Side(**{**fields, **changes})


def build_change(**changes: Any) -> compared.Change:
    fields: dict[str, Any] = {
        "kind": "worse",
        "subject": "jax:optax.softmax_cross_entropy_with_integer_labels[jit,cpu]",
        "dtype": "float32",
        "region": "saturated-right",
        "output": "loss",
        "rows": 118,
        "of": 640,
        "largest": 8388608.0,
        "nearer": 0,
        "farther": 118,
        "grades": {"faithful -> precision": 100, "exact -> precision": 18},
        "case": model.CaseRecord(
            operation=CE, dtype="float32", inputs=[["0.0", "20.0"]], target=[1]
        ),
        "row": 0,
        "old": [repr(float.fromhex("0x1.1b4866p-29"))],
        "new": ["0.0"],
        "right": ["2.0611536203143543e-09"],
        "old_grade": "faithful",
        "new_grade": "precision",
        "old_ulps": 0.32,
        "new_ulps": 9282657.0,
        "move": 8388608.0,
        "message": "",
        "snippet": JAX_SNIPPET,
    }
    return compared.Change(**{**fields, **changes})


JAX_SNIPPET = """\
import jax
import optax

print(jax.__version__, optax.__version__)
x = jax.numpy.array([[0.0, 20.0]])
t = jax.numpy.array([1])
print(optax.softmax_cross_entropy_with_integer_labels(x, t))  # right: 2.0611536e-09
"""


def changes_of_every_kind() -> list[compared.Change]:
    """Worst last, so that a report has something to put in order."""
    smooth, sigmoid = "jax:optax.softmax_cross_entropy[eager,cpu]", "jax:nn.sigmoid_bce[jit,cpu]"
    wide = model.CaseRecord(
        operation=CE,
        dtype="float32",
        inputs=[[repr(float(i % 7) - 3) for i in range(40)]],
        target=[17],
        label_smoothing="0.1",
    )
    batch = model.CaseRecord(
        operation=BCE, dtype="float32", inputs=[["1.0"], ["2.0"]], target=[["2.0"], ["0.0"]]
    )
    none: dict[str, Any] = {
        "old": [],
        "new": [],
        "right": [],
        "old_grade": "",
        "new_grade": "",
        "old_ulps": None,
        "new_ulps": None,
        "move": None,
        "largest": None,
        "farther": 0,
        "grades": {},
        "output": "call",
    }
    number: dict[str, Any] = {
        "old": ["0.6931471824645996"],
        "new": ["0.693147120475769"],
        "right": ["0.6931471805599453"],
        "move": 1.0,
        "largest": 2.0,
        "farther": 3,
        "nearer": 61,
    }
    return [
        build_change(
            kind="reworded",
            **none,
            subject=sigmoid,
            case=batch,
            message="raised ValueError: bad label before, raised ValueError: label 2 now",
        ),
        build_change(
            kind="better",
            subject=sigmoid,
            **{**number, "grades": {"precision -> exact": 64}},
            old_grade="precision",
            new_grade="exact",
            old_ulps=7.5,
            new_ulps=0.1,
        ),
        build_change(
            kind="moved",
            subject=smooth,
            region="ordinary",
            **{**number, "grades": {"exact -> faithful": 40, "faithful -> exact": 24}},
            old_grade="exact",
            new_grade="faithful",
            old_ulps=0.2,
            new_ulps=0.8,
        ),
        build_change(
            kind="moved",
            subject=smooth,
            region="ties",
            output="gradient",
            case=wide,
            old=[repr(i / 1024) for i in range(40)],
            new=[repr(i / 1024 + (2**-24 if i == 33 else 0)) for i in range(40)],
            right=[repr(i / 1024) for i in range(40)],
            move=2.0,
            largest=3.0,
            grades={"bounded -> bounded": 118},
        ),
        build_change(
            kind="unspecified",
            subject=smooth,
            region="plus-inf",
            old=["nan"],
            new=["inf"],
            right=["nan"],
            old_grade="unspecified",
            new_grade="unspecified",
            old_ulps=None,
            new_ulps=None,
            move=None,
            largest=None,
            farther=0,
        ),
        build_change(),
        build_change(
            kind="convention",
            subject=smooth,
            region="smoothed",
            case=wide,
            old=["0.5"],
            new=["0.75"],
            right=["0.75"],
            message="label smoothing spreads eps over the K - 1 other classes",
        ),
        build_change(
            kind="policy",
            **none,
            subject=sigmoid,
            case=batch,
            message="returned before, raised ValueError: labels must be in [0, 1] now",
        ),
        build_change(
            kind="gone", **none, subject=sigmoid, dtype="float16", message="raised TypeError now"
        ),
        build_change(
            kind="crashed",
            **none,
            subject="jax:optax.poly_loss_cross_entropy[jit,cpu]",
            region="huge",
            message="returned before, crashed killed by SIGSEGV now",
        ),
    ]


def build_difference(**changes: Any) -> compared.Difference:
    fields: dict[str, Any] = {
        "subject": "jax:optax.softmax_cross_entropy[eager,cpu]",
        "dtype": "float32",
        "output": "loss",
        "cases": 1_200,
        "rows": 76_800,
        "regions": ["ordinary", "ties", "huge"],
        "seconds": 31.5,
        "differing": 0,
        "kind": "",
        "largest": None,
        "case": None,
        "old": [],
        "new": [],
        "right": [],
        "distance": None,
        "message": "",
        "snippet": "",
    }
    return compared.Difference(**{**fields, **changes})


def _rows_of(changes: list[compared.Change]) -> list[compared.Compared]:
    """Rows for the subjects of some changes, and one subject in which nothing moved."""
    kinds: dict[tuple[str, str], dict[str, int]] = {}
    for change in changes:
        mine = kinds.setdefault((change.subject, change.dtype), {})
        mine[change.kind] = mine.get(change.kind, 0) + change.rows
    kinds["jax:nn.log_softmax[eager,cpu]", "float32"] = {}
    return [
        compared.Compared(
            subject=subject,
            dtype=dtype,
            calls=100,
            rows=6_400 + sum(found.values()),
            same=6_400,
            kinds=found,
        )
        for (subject, dtype), found in kinds.items()
    ]


def build_comparison(**changes: Any) -> compared.Comparison:
    """A comparison that holds every sort of thing; `changes=[]` and others take some away."""
    found = changes.get("changes", changes_of_every_kind())
    versions = {"jax": "0.10.2", "jaxlib": "0.10.2", "optax": "0.2.8", "numpy": "2.4.1"}
    fields: dict[str, Any] = {
        "lossaudit": "0.1.0",
        "corpus": 1,
        "old": build_side(),
        "new": build_side(versions=versions, findings={"precision": 14}),
        "compared": _rows_of(found),
        "changes": found,
        "conventions": [
            compared.ConventionChange(
                subject="jax:optax.softmax_cross_entropy[eager,cpu]",
                field="smoothing",
                old="eps/K",
                new="eps/(K-1)",
                input="x = [0, 1, 2], target 0, label_smoothing = 0.1",
                evidence="loss 2.3076, eps/K gives 2.3076 and eps/(K-1) 2.3326",
            )
        ],
        "presence": [
            compared.Presence(
                subject="jax:optax.poly_loss_cross_entropy[eager,cpu]",
                part="float16",
                state="gone",
                reason="TypeError: float16 is not supported",
            ),
            compared.Presence(
                subject="jax:optax.sigmoid_focal_loss[jit,cpu]", part="", state="new", reason=""
            ),
        ],
        "notes": ["the old run has the depth standard and the new run quick"],
        "searched": [
            build_difference(),
            build_difference(
                output="gradient",
                differing=3,
                kind="moved",
                largest=4.0,
                case=model.CaseRecord(
                    operation=CE, dtype="float32", inputs=[["0.0", "1.5"]], target=[0]
                ),
                old=["-0.8175744414329529", "0.8175744414329529"],
                new=["-0.8175745010375977", "0.8175744414329529"],
                right=["-0.8175744761936437", "0.8175744761936437"],
                distance=1.0,
                snippet=JAX_SNIPPET,
            ),
            build_difference(output="gradient", dtype="float16", message="the new one timed out"),
        ],
        "laws": [
            compared.LawChange(
                finding=f"a1b2c3d4e5f6071{place}",
                law="shift-invariance",
                subject="jax:nn.sigmoid_bce[jit,cpu]",
                dtype="float32",
                region="huge",
                output="loss",
                state=state,
                old="faithful",
                new="violates",
            )
            for place, state in enumerate(("gone", "appeared"))
        ],
        "seconds": 12.5,
    }
    return compared.Comparison(**{**fields, **changes})


def nothing_moved(**changes: Any) -> compared.Comparison:
    """Two runs of one framework with the same bits."""
    fields: dict[str, Any] = {
        "old": build_side(versions={"torch": "2.13.0"}),
        "new": build_side(versions={"torch": "2.15.0"}),
        "changes": [],
        "conventions": [],
        "presence": [],
        "notes": [],
        "searched": [build_difference(), build_difference(output="gradient")],
        "laws": [],
    }
    return build_comparison(**{**fields, **changes})


def many_changes(number: int = 5_000) -> compared.Comparison:
    """As many changes as an upgrade with new kernels brings."""
    every = changes_of_every_kind()
    found = [
        msgspec.structs.replace(
            every[place % len(every)],
            subject=f"jax:optax.loss_number_{place // 10 % 40}[{('eager', 'jit')[place % 2]},cpu]",
            dtype=("float64", "float32", "bfloat16", "float16")[place // 400 % 4],
            region=f"region-{place // 1600}",
        )
        for place in range(number)
    ]
    return build_comparison(changes=found)


@pytest.fixture
def make_comparison() -> Callable[..., compared.Comparison]:
    """Factory of a Comparison; every field can be replaced."""
    return build_comparison


@pytest.fixture
def make_change() -> Callable[..., compared.Change]:
    """Factory of one change; every field can be replaced."""
    return build_change


@pytest.fixture
def make_quiet() -> Callable[..., compared.Comparison]:
    """Factory of a Comparison in which nothing moved."""
    return nothing_moved


@pytest.fixture
def make_many() -> Callable[..., compared.Comparison]:
    """Factory of a Comparison of thousands of changes."""
    return many_changes


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium without network; the browser tests are skipped where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs the Chromium of the distribution (apt-get install chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # the driver's own, for all else that it waits for
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=Path(path),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address offline; console errors and requests beyond the file fail the test."""
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    def opened(address: str, size: str = "wide", **options: Any) -> Page:
        width, height = SIZES[size]
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            offline=True,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: _note(request.url))
        page.goto(address)
        if options.get("java_script_enabled", True):
            # Not wait_for_function, which polls by an eval that the page's policy forbids.
            page.locator("html[data-ready]").wait_for(state="attached")
        return page

    def _note(address: str) -> None:
        if not address.startswith(("file:", "data:")):
            trouble.append(f"request to {address}")

    yield opened
    for context in contexts:
        context.close()
    assert not trouble


@pytest.fixture
def copied() -> Callable[[Locator], str]:
    """Press a copy button, and say what the clipboard then holds."""
    from playwright.sync_api import expect

    def pressed(button: Locator) -> str:
        said = button.page.locator("#said")
        said.evaluate("(said) => { said.textContent = ''; }")
        button.click()
        expect(said).to_have_text("Copied")  # the button itself says so for a moment only
        return button.page.evaluate("navigator.clipboard.readText()")

    return pressed


PICKED = {"default_reduction": "none", "class_axis": "last"}
FUSED = {"default_reduction": "mean", "class_axis": "raises", "unasked_mean": "left out"}
MEASURED = {
    "torch:log_softmax": PICKED,
    "torch:logsumexp": PICKED,
    "torch:log_of_softmax": PICKED,
    "torch:linear_cross_entropy": FUSED,
    "torch:LinearCrossEntropyLoss": FUSED,
    "torch:linear_cross_entropy.chunked": FUSED,
    "torch:multilabel_soft_margin_loss": {"default_reduction": "mean", "last_axis": "mean"},
    "torch:logsigmoid": {"default_reduction": "none", "last_axis": "kept"},
    "torch:binary_cross_entropy.of_sigmoid": {"default_reduction": "mean", "last_axis": "kept"},
    "keras-torch:SparseCategoricalCrossentropy.logits": {"unasked_mean": "counted"},
}
"""What the probe finds of subjects that declare nothing about it (docs/conventions.txt)."""


@pytest.fixture(scope="session")
def declared_run() -> model.Run:
    """Every eager subject of every framework, with what it declares as what was measured."""
    recorder = Recorder(Settings())
    for subject in registry.subjects(depth="quick"):
        recorder(record(subject, {}, []))
        for field in fields_of(subject):
            says = declared(subject, field, subject.semantics)
            says = says or MEASURED.get(f"{subject.home}:{subject.op}", {}).get(field, "")
            recorder(
                model.Convention(
                    subject=subject.name,
                    field=field,
                    declared=says,
                    measured=says,
                    agrees=bool(says) or None,
                    evidence=f"a loss that follows {says!r}",
                    input=f"the smallest call for {field}",
                )
            )
    return recorder.run(complete=True)
