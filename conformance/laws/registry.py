"""Every law, in the order in which reports show them."""

from __future__ import annotations

from ..law import Law
from .arrangement import ALONE, MASKED_CLASS, PERMUTATION, ROW_ORDER
from .contract import DTYPE, IGNORED_ID, LABELS, LAYOUT, REPEATED
from .conventions import SINGLE_SOFTMAX, SMOOTHING
from .ignored import IGNORED
from .inequalities import CONVEX, ENTROPY, GAP, MONOTONE, NOT_NEGATIVE, TEMPERATURE
from .inputs import UNCHANGED
from .linear import DIVERGENCE, LINEAR_SMOOTHING, MIXTURE, REDUCTIONS, SOFT_TARGETS
from .pullbacks import COTANGENT, HESSIAN, TARGET_GRADIENT
from .relations import MODES, ONE_HOT, TWO_CLASS
from .symmetry import FINITE, MIRROR, SHIFT, ZERO_SUM
from .value import GRADIENT, VALUE

LAWS: tuple[Law, ...] = (
    VALUE,
    GRADIENT,
    COTANGENT,
    TARGET_GRADIENT,
    HESSIAN,
    REDUCTIONS,
    FINITE,
    NOT_NEGATIVE,
    ZERO_SUM,
    SHIFT,
    PERMUTATION,
    MASKED_CLASS,
    ONE_HOT,
    MIRROR,
    TWO_CLASS,
    SOFT_TARGETS,
    ENTROPY,
    DIVERGENCE,
    GAP,
    MONOTONE,
    CONVEX,
    TEMPERATURE,
    SMOOTHING,
    LINEAR_SMOOTHING,
    MIXTURE,
    SINGLE_SOFTMAX,
    MODES,
    LABELS,
    IGNORED,
    IGNORED_ID,
    ROW_ORDER,
    ALONE,
    LAYOUT,
    REPEATED,
    DTYPE,
    UNCHANGED,
)


def law(name: str) -> Law:
    """The law of that name; KeyError with the names that exist."""
    for candidate in LAWS:
        if candidate.name == name:
            return candidate
    raise KeyError(f"no law is called {name!r}; there are: {', '.join(x.name for x in LAWS)}")
