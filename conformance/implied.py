"""The class that a subject's errors imply: the tightest form whose derived bounds hold them all.

A declaration says how a subject computes, and its bound follows. A looser one than the truth costs
the laws their sharpness; so the errors of the corpus are held against the bounds of tighter forms
too: forms that keep digits where the declared one loses them all. Elsewhere they may be wider by a
few roundings, since they take more steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..reference.exact import ulp_error
from ..reference.rows import Truth
from ..reference.vocabulary import Arithmetic, Case, Floats
from .bench import Bench
from .judge import ulp
from .law import Verdict
from .run import Implied

TIGHTER_LOSS: dict[str, dict[str, tuple[str, ...]]] = {
    "cross_entropy": {
        "B": ("C",),
        "A": ("C", "B"),
        "A or B": ("C", "B"),
        "log softmax": ("C", "B"),
        "log softmax / sum": ("C", "B"),
    },
    "binary_cross_entropy_with_logits": {
        "std": ("split",),
        "torch": ("split",),
        "std, torch or split": ("split",),
        "log sigmoid": ("split",),
        "clamped": ("split",),
    },
}
"""operation -> form -> the forms that keep what this one loses, the tightest first.

"A" adds m back before z_t is subtracted and rounds at the size of the logits; "B" rounds log s at
the size of log s, and "C" at that of a loss near 0. Of the binary ones "split" alone adds terms of
one sign; "std" and "torch" cancel for different labels, so neither is tighter than the other.
"""

TIGHTEST_GRADIENT = "relative"
"""The form of a gradient that does not cancel; of those that do none is tighter everywhere."""

TIGHT_GRADIENTS = (TIGHTEST_GRADIENT, "two terms")
"""Those with nothing tighter: the binary "two terms" is the one that does not cancel by name."""

OUTPUTS = {"value": "loss", "gradient-identity": "gradient"}
"""The laws that hold an output of a subject against the exact value, and that output."""


class Classes:
    """Holds the errors of one cell against the bounds of the declared form and of tighter ones."""

    def __init__(self, bench: Bench, law: str) -> None:
        self._bench, self._output = bench, OUTPUTS.get(law, "")
        self._forms = _forms(bench, self._output)
        self._held = dict.fromkeys(self._forms, True)
        self._rows = 0

    def see(self, verdict: Verdict) -> None:
        """Take in what a law said of a case: each row that has a finite error."""
        case = verdict.case
        plain = case.options.reduction == "none" and case.rows > 0
        if not self._forms or verdict.output != self._output or not plain:
            return
        truth = self._bench.truth(case)
        exact = truth.loss if self._output == "loss" else truth.gradient
        value = verdict.value.reshape(exact.hi.shape)
        finite = np.isfinite(value) & np.isfinite(exact.hi) & _defined(truth, value)
        errors, unit = ulp_error(value, exact, self._bench.fmt), ulp(exact, self._bench.fmt)
        # A neighbour of the exact value is right under any bound.
        beyond = finite & (errors >= 1)
        self._rows += int(finite.reshape(case.rows, -1).any(axis=1).sum())
        if beyond.any():
            self._hold(case, beyond, errors * unit)

    def _hold(self, case: Case, beyond: np.ndarray, errors: Floats) -> None:
        for form in self._forms:
            if self._held[form]:
                bounds = self._bench.bounds_of(case, self._forms[form])
                bound = bounds.loss if self._output == "loss" else bounds.gradient
                self._held[form] = bool((errors <= bound)[beyond].all())

    def said(self) -> Implied | None:
        """What the errors imply, or None where there was none or there are no forms."""
        if not self._rows:
            return None
        return Implied(
            subject=self._bench.subject.name,
            dtype=self._bench.dtype,
            output=self._output,
            declared=list(self._forms)[-1],
            holds=[form for form in self._forms if self._held[form]],
            rows=self._rows,
        )


def _forms(bench: Bench, output: str) -> dict[str, Arithmetic]:
    """The forms to try, the tightest first and the declared one last, each with its arithmetic."""
    declared, operation = bench.arithmetic, bench.subject.operation
    if declared is None or not output or operation not in TIGHTER_LOSS:
        return {}
    if output == "loss":
        names = (*TIGHTER_LOSS[operation].get(declared.form, ()), declared.form)
        # With the tightest gradient the bounds of one case serve both outputs.
        return {
            name: declared if name == declared.form else _as_tight(declared, name) for name in names
        }
    if declared.gradient in TIGHT_GRADIENTS:
        return {declared.gradient: declared}
    tight = _as_tight(declared, TIGHTER_LOSS[operation].get(declared.form, (declared.form,))[0])
    return {TIGHTEST_GRADIENT: tight, declared.gradient: declared}


def _as_tight(declared: Arithmetic, form: str) -> Arithmetic:
    """Another form of the loss, with the form of the gradient that does not cancel."""
    return replace(declared, form=form, gradient=TIGHTEST_GRADIENT)


def _defined(truth: Truth, value: Floats) -> np.ndarray:
    undefined = truth.undefined if value.ndim == 1 else truth.undefined[:, None]
    return ~np.broadcast_to(undefined, value.shape)
