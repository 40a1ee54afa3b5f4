"""What a call leaves behind: the inputs and the target are the caller's."""

from __future__ import annotations

import numpy as np

from ...reference.vocabulary import INPUTS_CHANGED, Case
from ..bench import Bench, Failed
from ..judge import RANK
from ..law import EXACT, Law, Verdict, always, in_words


def check_inputs(bench: Bench, case: Case) -> list[Verdict]:
    """The bits of inputs and target after the call; whether it returned or raised is all one.

    Which rows were changed is not told, so all of a call are graded alike; shrinking finds the row.
    """
    outcome = bench.outcome(case)
    if outcome.status in ("unsupported", "crashed", "timed out"):
        raise Failed(outcome)
    changed = INPUTS_CHANGED in outcome.warnings
    grade = np.full(case.rows, RANK["policy"] if changed else EXACT)
    return [in_words("inputs", case, grade, ("changed in place", "left as they were"))]


UNCHANGED = Law(
    name="inputs-unchanged",
    statement="a call leaves its inputs and its target as they were, bit for bit",
    source="the contract of a function without an underscore or an `out=`; what comes after it, "
    "the gradient of another term included, reads the same numbers",
    fits=always,
    check=check_inputs,
    outputs=("inputs",),
)
