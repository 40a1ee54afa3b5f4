"""The frozen vectors: this installation reproduces them, and a wrong bit is reported."""

from __future__ import annotations

import inspect
import json
from collections import Counter

import pytest

from lossaudit import reference
from lossaudit.reference import verification


def test_every_frozen_value_is_reproduced() -> None:
    found = verification.verify()
    assert found.different == ()
    assert found.compared > 3000


def test_every_public_function_has_vectors() -> None:
    """All that map numbers to numbers; the others have their own exact tests."""
    others = {"error_bound", "is_faithful", "kind", "round_exact", "ulp_error", "verify"}
    public = {name for name in dir(reference) if inspect.isfunction(getattr(reference, name))}
    covered = Counter(json.loads(line)["f"] for line in verification._vectors.VECTORS)
    assert set(covered) == public - others
    assert min(covered.values()) >= 24


def test_a_wrong_bit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    line = verification._vectors.VECTORS[0]
    number = line.split('"out":[["')[1].split('"')[0]
    last = number.split("p")[0][-1]
    other = number.replace(f"{last}p", f"{'0' if last != '0' else '1'}p")
    wrong = line.replace(f'"out":[["{number}', f'"out":[["{other}')
    monkeypatch.setattr(verification._vectors, "VECTORS", (wrong,))
    found = verification.verify()
    assert len(found.different) == 1
    assert "float64" in found.different[0]
