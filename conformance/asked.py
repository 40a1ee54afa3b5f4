"""What an audit is asked for, as texts: what a journal was begun with, to be gone on with."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..adapters.registry import FRAMEWORKS
from .engine import Settings
from .regions import CORPUS

ROOT = Path(__file__).parents[1]
ROOMS = ("reference", "adapters", "conformance")
"""What decides what is asked, and how it is judged."""

PREFIXES = (
    *("CUDA_", "DNNL_", "JAX_", "KERAS_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_"),
    *("OPENBLAS_", "ORT_", "PYTORCH_", "TF_", "TORCH", "XLA_"),
)
"""Of variables of the environment that frameworks and their libraries read."""


def asked(frameworks: Sequence[str], settings: Settings) -> dict[str, str]:
    """The settings of an audit, the code that asks, and the machine."""
    return {
        "lossaudit": __version__,
        "code of lossaudit": code(),
        "corpus": str(CORPUS),
        "depth": settings.depth,
        "seed": str(settings.seed),
        "laws": ", ".join(settings.laws),
        "device": settings.device,
        "memory": str(settings.memory),
        "known findings": _digest(repr(settings.known.entries)),
        "worst inputs": _digest(repr(settings.worst)),
        "what no law judges": str(settings.beside),
        "adapters": ", ".join(_declared(frameworks)),
        "machine": machine(),
        "variables": _digest(repr(_variables())),
    }


def code() -> str:
    """A digest of lossaudit's own files."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(p for room in ROOMS for p in (ROOT / room).rglob("*")):
        if path.suffix in (".py", ".toml"):
            found.update(f"{path.relative_to(ROOT)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def machine() -> str:
    """What libraries choose their code by: the processor, and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line for line in lines if line.startswith("model name")), platform.processor())
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return f"{platform.platform()}, {model.partition(':')[2].strip() or model}, {cores} cores"


def _declared(frameworks: Sequence[str]) -> list[str]:
    """The files of users that declare frameworks, by what is in them: it is what is asked."""
    files = [(name, Path(FRAMEWORKS[name].module)) for name in frameworks]
    return [
        f"{name} {hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()}"
        for name, file in files
        if file.is_absolute() and file.is_file()
    ]


def _variables() -> list[tuple[str, str]]:
    return sorted(item for item in os.environ.items() if item[0].startswith(PREFIXES))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
