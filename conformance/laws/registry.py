"""Every law, in the order in which reports show them."""

from __future__ import annotations

from ..law import Law
from .conventions import SINGLE_SOFTMAX, SMOOTHING
from .ignored import IGNORED
from .inputs import UNCHANGED
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
    FINITE,
    ZERO_SUM,
    SHIFT,
    ONE_HOT,
    MIRROR,
    TWO_CLASS,
    SMOOTHING,
    SINGLE_SOFTMAX,
    MODES,
    IGNORED,
    UNCHANGED,
)


def law(name: str) -> Law:
    """The law of that name; KeyError with the names that exist."""
    for candidate in LAWS:
        if candidate.name == name:
            return candidate
    raise KeyError(f"no law is called {name!r}; there are: {', '.join(x.name for x in LAWS)}")
