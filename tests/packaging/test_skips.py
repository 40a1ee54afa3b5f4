"""In CI a skip is a failure, unless tests/allowed_skips.toml gives its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.skip("no abacus here")

@pytest.mark.skipif(True, reason="no slide rule here")
def test_is_marked():
    pass

@pytest.mark.xfail(reason="known", raises=AssertionError)
def test_fails_as_expected():
    assert False
"""

LIST = """
[[skip]]
test = "tests/test_skipping.py::test_skips"
message = "no abacus *"
reason = "an abacus is no package"

[[skip]]
test = "tests/*::test_is_marked"
message = "no slide rule here"
reason = "nor is a slide rule"
"""


@pytest.fixture(scope="module")
def place(export: Callable[[str], Path], environment: Callable[..., Any]) -> Any:
    root = export("skipping")
    (root / "tests" / "test_skipping.py").write_text(TESTS)
    made = environment(frameworks=False)
    made.install("--editable", root)

    def tests(ci: str, allowed: str, file: str = "tests/test_skipping.py") -> str:
        (root / "tests" / "allowed_skips.toml").write_text(allowed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CI", ci)
            return made.pytest(root, "-q", "-rA", file, check=False)

    return root, tests


def test_outside_ci_skips_are_skips(place: Any) -> None:
    _, tests = place
    assert "1 passed, 2 skipped, 1 xfailed" in tests("", "")


def test_in_ci_they_fail(place: Any) -> None:
    _, tests = place
    output = tests("true", "")
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in output
    assert "was skipped: no abacus here" in output
    assert "was skipped: no slide rule here" in output


def test_a_listed_one_is_a_skip(place: Any) -> None:
    _, tests = place
    assert "1 passed, 2 skipped, 1 xfailed" in tests("true", LIST)


def test_a_skip_for_another_reason_than_the_listed_one_fails(place: Any) -> None:
    _, tests = place
    other = LIST.replace("no abacus *", "no lathe *")
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in tests("true", other)


def test_a_module_that_skips_fails_too(place: Any) -> None:
    root, tests = place
    (root / "tests" / "test_module.py").write_text(
        "import pytest\npytest.importorskip('no_such_module', reason='no such module')\n"
    )
    assert "1 skipped" in tests("", "", "tests/test_module.py")
    output = tests("true", "", "tests/test_module.py")
    assert "1 error" in output
    assert "tests/test_module.py was skipped: no such module" in output
