"""A cross-entropy of your own under the laws of lossaudit: python docs/examples/my_kernel.py

The kernel below is the textbook one, in float32, with a gradient written by hand. It multiplies
every log-probability by its target, as several frameworks do; the audit says where that goes wrong.
"""

import numpy as np

from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.subject import Subject
from lossaudit.conformance.engine import Settings, audit
from lossaudit.conformance.run import Finding
from lossaudit.reference.vocabulary import Arithmetic, Case, Semantics


def my_cross_entropy(case: Case) -> tuple[np.ndarray, np.ndarray]:
    z, q = case.inputs.astype(np.float32), case.target.astype(np.float32)
    with np.errstate(all="ignore"):
        shifted = z - z.max(axis=1, keepdims=True, initial=-np.inf)
        exps = np.exp(shifted)
        sums = exps.sum(axis=1, keepdims=True)
        loss = -(q * (shifted - np.log(sums))).sum(axis=1)
        gradient = exps / sums * q.sum(axis=1, keepdims=True) - q
    return loss, gradient


SUBJECT = Subject(
    framework="mine",
    op="cross_entropy",
    operation="cross_entropy",
    target="distribution",
    mode="eager",
    dtypes=("float32",),
    options=frozenset(),
    reductions=("none",),
    semantics=Semantics(),
    # NumPy promises at most 4 ulps for its vectorised exp and log: 8 units of roundoff.
    arithmetic={
        "float32": Arithmetic(
            form="B",
            gradient="division",
            working="float32",
            stored="float32",
            height="pairwise",
            c_exp=8,
            c_log=8,
            c_log1p=8,
            c_sigmoid=8,
            flush=False,
            origin="numpy/numpy#19478",
        )
    },
)

if __name__ == "__main__":
    events: list[object] = []
    audit([SUBJECT], Settings("quick"), events.append, InProcess(my_cross_entropy))
    for finding in events:
        if isinstance(finding, Finding) and finding.kind != "precision":
            row = finding.case.inputs[finding.row], finding.case.target[finding.row]
            print(f"{finding.law}: {finding.kind} at {row}: {finding.message}")
