"""What is between two trainings, and how much may be: derived here.

**The exact step.** With x of F + 1 entries (the last is 1), f(W) = -sum_j q_j log softmax(W x)_j
has the gradient (p - q) x^T and the Hessian (diag p - p p^T) kron x x^T. The absolute values of
row j of diag p - p p^T sum to 2 p_j (1 - p_j), which is at most 1/2, so that by Gershgorin no
eigenvalue of the Hessian is larger than L = |x|^2 / 2, and none is below 0. The exact step

    S(W) = W - RATE (p - q) x^T

has the derivative 1 - RATE H along the way between any two W, whose eigenvalues lie in
[1 - RATE L, 1]. Where RATE L is at most 2 (`sharpness`), S brings no two points further apart:
|S(V) - S(W)| <= |V - W| in the 2-norm.

**The distance.** Let V_n and W_n be two trainings on the same samples that do not take exact steps,
with the residuals r_n = |V_{n+1} - S(V_n)|, s_n likewise. Then |V_{n+1} - W_{n+1}| <= r_n + |V_n -
W_n| + s_n, so that from the same start

    |V_n - W_n| <= sum_{m<n} (r_m + s_m).

That holds whatever the formats and however the steps were computed; `drift` is that sum for one
training. A float64 reference whose drift is d lies within d of the training in exact numbers.

**One step.** How large may a residual be? Let u be the unit roundoff of the format, g(z) = p - q.
Whatever the order of the sum and whether products are fused, z^ = fl(W x) has three roundings on
the way of each term: |z^ - z| <= dz = gamma_3 |W| |x|, gamma_n = n u / (1 - n u) (Higham, Accuracy
and Stability, 2nd ed., 3.1). The op returns g^ within its declared bound B at z^
(`reference/bounds.py`). The terms of B are multiples of probabilities, which move by a factor of at
most exp(2 max dz) between z and z^, and grow at most linearly with gaps of logits, which move by at
most 2 max dz and stand beside constants of at least 1; half an ulp of g in it at most doubles
besides, where g passes a power of two: B(z^) <= 2 exp(4 max dz) B(z). By the above g moves by at
most |dz| / 2. So in the 2-norm

    |g^ - g(z)| <= e = 2 exp(4 max dz) |B(z)| + |dz| / 2.

The product by x, the rounding of the rate and the product by it are three more roundings, and the
difference is one:

    |V_{n+1} - S(V_n)| <= RATE |x| (e + gamma_3 (|g| + e)) + u |V_{n+1}|,

beside what may be lost by underflow, at most the least normal number at each operation. A framework
that keeps more digits on the way stays within it.

**What is computed here** is float64 itself, with a g that is correctly rounded at z^: the same
bound with u = 2^-53 and half an ulp in place of 2 exp(4 max dz) B says how far the computed
residual may be from the residual. It is added to `residual` and to `room`, so that both are bounds
all the same.

For smoothed labels and for a log_softmax before the loss the distance holds too. The bound of one
step is said of the loss as it is meant alone: the ops that make up the others declare nothing of
what they make up. For independent sigmoids and a softmax over the batch, which are convex too,
nothing is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...adapters.subject import Subject
from ...reference import api
from ...reference.bounds import bounds, unbounded
from ...reference.formats import FORMATS, Format, ulp_exponent
from ...reference.vocabulary import Case, Floats, Options
from .points import RATE, Points
from .recipes import Recipe

PARTS = 4096
"""Rows to a call of the reference."""

OPERATIONS = 8
"""That may underflow on the way of one parameter: those of z, g's, and of the step."""


def sharpness(data: Points) -> float:
    """RATE L of the longest sample: steps on convex losses do not expand where it is at most 2."""
    return RATE * float((data.x**2).sum(axis=1).max()) / 2.0


@dataclass(frozen=True)
class Judged:
    """Of each step of a training on a loss of which a bound is derived.

    Attributes:
        residual: how far the step ended from the exact one, at most.
        room: how far it may, by the declared arithmetic of the op; infinite where it declares none.
    """

    residual: Floats
    room: Floats

    @property
    def drift(self) -> Floats:
        """After each step, how far the training can be from that in exact numbers."""
        # Of positive terms: each of the n additions rounds by at most 2^-53 of what there is.
        return np.cumsum(self.residual) * (1.0 + len(self.residual) * 2.0**-52)

    @property
    def share(self) -> float:
        """The largest share of its room that a step took, of the steps that have one."""
        bounded = np.isfinite(self.room)
        return float((self.residual[bounded] / self.room[bounded]).max(initial=0.0))


def judge(
    data: Points, recipe: Recipe, parameters: Floats, subject: Subject | None, dtype: str
) -> Judged:
    """Each step of a training beside the exact one from the same parameters.

    `subject` is the op that gave the gradients; without one they are held to half an ulp.
    """
    if recipe.smoothing is None:
        raise ValueError(f"of {recipe.name} no bound is derived")
    before, after = parameters[:-1], parameters[1:]
    x, y = data.x[data.steps], data.y[data.steps]
    z = np.einsum("skf,sf->sk", before, x)
    g = _in_parts(z, lambda part: _gradient(z[part], y[part], recipe.smoothing or 0.0))
    exact = before - RATE * g[:, :, None] * x[:, None, :]
    double = FORMATS["float64"]
    own = _room(before, after, x, g, lambda _: _norm(_half_ulps(g, double)), double)
    fmt = FORMATS[dtype]
    declared = _half_ulps(g, fmt)
    if subject is not None:
        declared = _in_parts(
            z, lambda part: _declared(z[part], y[part], recipe.smoothing or 0.0, subject, dtype)
        )
    op = _norm(declared)
    room = _room(before, after, x, g, lambda dz: 2.0 * np.exp(4.0 * dz.max(axis=1)) * op, fmt)
    return Judged(_norm(after - exact) + own, room + 2.0 * own)


def _gradient(z: Floats, y: np.ndarray, eps: float) -> Floats:
    return np.asarray(api.cross_entropy_grad(z, y, reduction="none", label_smoothing=eps))


def _declared(z: Floats, y: np.ndarray, eps: float, subject: Subject, dtype: str) -> Floats:
    """The bound of the op's gradient; z need not be numbers of the format for that."""
    target = y if subject.target == "index" else np.eye(z.shape[1])[y]
    case = Case(subject.operation, dtype, z, target, Options(label_smoothing=eps))
    arithmetic = subject.arithmetic.get(dtype)
    if arithmetic is None:
        return unbounded(case).gradient
    return bounds(case, subject.semantics, arithmetic).gradient


def _half_ulps(g: Floats, fmt: Format) -> Floats:
    return np.ldexp(0.5, ulp_exponent(g, fmt).astype(np.int32))


def _in_parts(z: Floats, function: Callable[[slice], Floats]) -> Floats:
    parts = [function(slice(start, start + PARTS)) for start in range(0, len(z), PARTS)]
    return np.concatenate(parts) if parts else np.zeros_like(z)


def _room(
    before: Floats,
    after: Floats,
    x: Floats,
    g: Floats,
    op: Callable[[Floats], Floats],
    fmt: Format,
) -> Floats:
    """The bound of one step that the module derives, for every step; `op` is of dz."""
    u = fmt.unit_roundoff
    gamma = 3.0 * u / (1.0 - 3.0 * u)
    lost = OPERATIONS * fmt.least_normal
    dz = gamma * np.einsum("skf,sf->sk", np.abs(before), np.abs(x)) + lost
    e = op(dz) + _norm(dz) / 2.0
    slope = RATE * _norm(x) * (e + gamma * (_norm(g) + e))
    return slope + u * _norm(after) + lost


def _norm(values: Floats) -> Floats:
    """The 2-norm of each step's numbers."""
    return np.linalg.norm(values.reshape(len(values), -1), axis=1)


@dataclass(frozen=True)
class Apart:
    """How far one training is from another after each epoch.

    Attributes:
        distance: the 2-norm of the difference.
        relative: the same over the norm of the other's parameters.
        ulps: the largest difference of a parameter, in ulps of the other's largest parameter.
    """

    distance: Floats
    relative: Floats
    ulps: Floats


def apart(parameters: Floats, other: Floats, dtype: str) -> Apart:
    """Of two arrays of parameters, an entry for each epoch."""
    difference = np.abs(parameters - other).reshape(len(other), -1)
    sizes = np.abs(other).reshape(len(other), -1)
    largest = sizes.max(axis=1)
    step = np.ldexp(1.0, ulp_exponent(largest, FORMATS[dtype]).astype(np.int32))
    distance = np.linalg.norm(difference, axis=1)
    return Apart(
        distance=distance,
        relative=distance / np.linalg.norm(sizes, axis=1),
        ulps=difference.max(axis=1) / step,
    )
