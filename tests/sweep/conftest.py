"""Sweeps made by hand, small enough to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lossaudit.conformance.run import GRADES
from lossaudit.conformance.sweep.patterns import magnitudes
from lossaudit.conformance.sweep.plan import Around, Asking, Job
from lossaudit.conformance.sweep.record import (
    Binade,
    Cost,
    Curve,
    Run,
    Runs,
    Sweep,
    Swept,
    Worst,
)

BCE = "torch:binary_cross_entropy_with_logits[eager,cpu]"
EDGES = [0.5, 1.0]


@pytest.fixture(scope="session")
def make_binade() -> Callable[..., Binade]:
    return build_binade


@pytest.fixture(scope="session")
def make_curve() -> Callable[..., Curve]:
    return build_curve


@pytest.fixture(scope="session")
def make_sweep() -> Callable[..., Sweep]:
    return build_sweep


def build_binade(
    name: str, grades: dict[str, int], worst: float | None = 0.5, digest: int = 1
) -> Binade:
    inputs = sum(grades.values())
    return Binade(
        name=name,
        inputs=inputs,
        grades=grades,
        errors=[inputs, 0, 0],
        worst=worst,
        digest=f"{digest:016x}",
    )


BINADES = (
    build_binade("-2^3", {"exact": 50, "precision": 14}, 2047.0),
    build_binade("-2^2", {"exact": 60, "faithful": 4}, 0.7),
    build_binade("subnormal", {"exact": 64}, 0.0),
    build_binade("2^2", {"exact": 64}),
    build_binade("special", {"exact": 1, "wrong kind": 1}, None),
)
RUNS = (
    Runs(
        grade="precision",
        answer="0",
        number=5,
        longest=[
            Run(
                grade="precision",
                answer="0",
                first="-15.53125",
                last="-6.23828125",
                inputs=9,
                right=["1.7881393432617188e-07", "0.0019512176513671875"],
            ),
            Run(grade="precision", answer="0", first="-6.0", last="-6.0", inputs=1),
        ],
    ),
    Runs(
        grade="wrong kind",
        answer="nan",
        number=1,
        longest=[
            Run(grade="wrong kind", answer="nan", first="inf", last="inf", inputs=1, right=["0.0"])
        ],
    ),
)


def build_curve(binades: Sequence[Binade] = BINADES, **changes: Any) -> Curve:
    total: Counter[str] = Counter()
    for each in binades:
        total.update(each.grades)
    fields: dict[str, Any] = {
        "subject": BCE,
        "dtype": "float16",
        "around": "",
        "target": "0",
        "output": "loss",
        "inputs": sum(total.values()),
        "grades": {grade: total[grade] for grade in GRADES if total[grade]},
        "worst": Worst(input="-7.625", value="0.0", right="0.00048804283142089844", ulps=2046.72),
        "binades": list(binades),
        "runs": list(RUNS) if binades is BINADES else [],
        "digest": f"{sum(int(b.digest, 16) for b in binades) % 2**64:016x}",
    }
    return Curve(**{**fields, **changes})


def build_sweep(curves: Sequence[Curve] | None = None, **changes: Any) -> Sweep:
    """A sweep with an asking for each subject and dtype; `asking` replaces fields of all."""
    curves = [build_curve()] if curves is None else list(curves)
    named = list(dict.fromkeys((curve.subject, curve.dtype) for curve in curves))
    asking, versions = changes.pop("asking", {}), changes.pop("versions", {"torch": "2.13.0"})
    fields: dict[str, Any] = {
        "lossaudit": "1.0",
        "job": Job(lossaudit="1.0", askings=[_asking(*name, **asking) for name in named]),
        "subjects": [_swept(*name, versions) for name in named],
        "curves": curves,
        "edges": EDGES,
        "cost": Cost(values=258, framework=1.5, reference=0.5, judging=0.25, chunks=2.5),
    }
    return Sweep(**{**fields, **changes})


def _asking(subject: str, dtype: str, **changes: Any) -> Asking:
    fields: dict[str, Any] = {
        "framework": subject.partition(":")[0],
        "subject": subject,
        "operation": "binary_cross_entropy_with_logits",
        "dtype": dtype,
        "targets": [[0.0], [1.0]],
        "around": Around(kind="alone"),
        "span": (-magnitudes(dtype), magnitudes(dtype) - 1),
        "stride": 1,
        "seed": 0,
    }
    return Asking(**{**fields, **changes})


def _swept(subject: str, dtype: str, versions: dict[str, str]) -> Swept:
    return Swept(
        name=subject,
        framework=subject.partition(":")[0],
        op=subject.partition(":")[2].partition("[")[0],
        operation="binary_cross_entropy_with_logits",
        mode="eager",
        dtype=dtype,
        arithmetic="declared",
        versions=versions,
        facts={},
    )
