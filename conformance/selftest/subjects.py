"""What implementations in this process declare of themselves, so that the laws can be asked."""

from __future__ import annotations

from ...adapters.subject import Interface, Subject
from ...adapters.torch_bits import LAYOUTS
from ...reference.vocabulary import Arithmetic, Semantics

DTYPES = ("float64", "float32", "bfloat16", "float16")

# NumPy's vectorised float64 exp and log are within 4 ulps (numpy/numpy#19478), log1p is the C
# library's, taken at 4; c is twice that. A sigmoid is an exp, a sum and a quotient.
C = 8.0

FORMS = {
    "cross_entropy": "C",
    "focal": "C",
    "kl_divergence": "log p",
    "binary_cross_entropy_with_logits": "split",
    "cross_entropy_probabilities": "log p",
    "binary_cross_entropy": "log p",
}

OPTIONS = {
    ("cross_entropy", "index"): {"weight", "ignore_index", "label_smoothing"},
    ("cross_entropy", "distribution"): {"weight", "label_smoothing"},
    ("binary_cross_entropy_with_logits", "binary"): {"pos_weight", "label_smoothing"},
    ("focal", "index"): {"gamma", "alpha"},
}

SEMANTICS = {
    ("cross_entropy", "index"): Semantics(smoothing="eps/K", mean="weights", ignore_index=-100),
    ("cross_entropy", "distribution"): Semantics(smoothing="eps/K"),
    ("binary_cross_entropy_with_logits", "binary"): Semantics(smoothing="toward 1/2"),
    ("cross_entropy_probabilities", "index"): Semantics(ignore_index=-100, mean="valid"),
}


# Those of a likelihood refuse what is no probability; the others compute with any target.
COMPUTES = Interface(target_domain="computes", mutates="no")
INTERFACES = {
    "binary_cross_entropy": Interface(target_domain="raises", mutates="no"),
    "cross_entropy": COMPUTES,
    "binary_cross_entropy_with_logits": COMPUTES,
}


def subject_of(name: str, operation: str, target: str, dtypes: tuple[str, ...] = DTYPES) -> Subject:
    """An implementation in float64 that rounds once, with every option of its operation."""
    arithmetic = Arithmetic(
        form=FORMS[operation],
        gradient="relative",
        working="float64",
        stored="float64",
        height="sequential",
        c_exp=C,
        c_log=C,
        c_log1p=C,
        c_sigmoid=C + 2.0,
        flush=False,
        origin="NumPy in float64, rounded once",
    )
    return Subject(
        framework="selftest",
        op=name,
        operation=operation,
        target=target,
        mode="eager",
        dtypes=dtypes,
        options=frozenset(OPTIONS.get((operation, target), ())),
        reductions=("none", "sum", "mean"),
        semantics=SEMANTICS.get((operation, target), Semantics()),
        arithmetic=dict.fromkeys(dtypes, arithmetic),
        interface=INTERFACES.get(operation, Interface(mutates="no")),
        layouts=LAYOUTS,
    )
