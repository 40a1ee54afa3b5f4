"""The mathematics: exact numbers, the true values of every operation, and the vocabulary.

Nothing here needs more than NumPy and the standard library, and nothing trusts the platform's libm.
The public functions load when they are first asked for: the workers that run inside a framework's
interpreter need the vocabulary alone, and there subnormal numbers may be flushed to zero.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "api": (
        "binary_cross_entropy",
        "binary_cross_entropy_grad",
        "binary_cross_entropy_grad_target",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits_grad",
        "binary_cross_entropy_with_logits_grad_target",
        "binary_cross_entropy_with_logits_hvp",
        "cross_entropy",
        "cross_entropy_grad",
        "cross_entropy_grad_target",
        "cross_entropy_hvp",
        "cross_entropy_probabilities",
        "cross_entropy_probabilities_grad",
        "cross_entropy_probabilities_grad_target",
        "kind",
        "log_sigmoid",
        "log_softmax",
        "logsumexp",
        "sigmoid",
        "softmax",
        "softplus",
    ),
    "bounds": ("Bounds", "error_bound"),
    "distributions": ("cross_entropy_distributions", "entropy", "kl_divergence", "perplexity"),
    "exact": ("Exact", "is_faithful", "round_exact", "ulp_error"),
    "gaussians": ("gaussian_cross_entropy", "gaussian_kl_divergence"),
    "verification": ("Verification", "verify"),
    "focal_loss": ("binary_focal", "focal", "focal_grad"),
    "formats": ("FORMATS", "Format"),
    "vocabulary": ("Arithmetic", "Case", "Options", "Semantics"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
