"""What is said of a failed installation, from what pip printed (by pip 23.2, shortened)."""

from __future__ import annotations

import pytest

from lossaudit.adapters.pip_errors import LONGEST, Failure, explain, explain_venv

START = "Looking in indexes: https://pypi.org/simple, https://mirror.example/simple\n"

CONFLICT = (
    START
    + """\
Collecting jax==0.4.30
  Downloading jax-0.4.30-py3-none-any.whl (2.0 MB)
INFO: pip is looking at multiple versions of jax. This could take a while.
ERROR: Cannot install jax==0.4.30 and jaxlib==0.10.2 \
because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested jaxlib==0.10.2
    jax 0.4.30 depends on jaxlib<=0.4.30 and >=0.4.27

To fix this you could try to:
1. loosen the range of package versions you've specified
2. remove package versions to allow pip attempt to solve the dependency conflict

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/
"""
)
NO_VERSION = (
    START
    + """\
ERROR: Could not find a version that satisfies the requirement torch==99 \
(from versions: 2.9.0, 2.9.1, 2.10.0, 2.11.0, 2.12.0, 2.13.0, 2.13.0+cpu)
ERROR: No matching distribution found for torch==99
"""
)
NOTHING = (
    START
    + """\
ERROR: Could not find a version that satisfies the requirement nonexistent-package \
(from versions: none)
ERROR: No matching distribution found for nonexistent-package
"""
)
OTHER_PYTHON = (
    START
    + """\
ERROR: Ignored the following versions that require a different python version: \
0.9.1 Requires-Python >=3.11; 0.10.2 Requires-Python >=3.12
ERROR: Could not find a version that satisfies the requirement jax==0.10.2 \
(from versions: 0.4.30)
ERROR: No matching distribution found for jax==0.10.2
"""
)
RETRY = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after "
    "connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection "
    "object at 0x7f4137c88550>: Failed to establish a new connection: [Errno -2] Name or service "
    "not known')': /simple/nonexistent-package/\n"
)
BUILD = (
    START
    + """\
Collecting first
Processing ./folder/bad
  Preparing metadata (pyproject.toml): finished with status 'error'
  error: subprocess-exited-with-error
  \N{MULTIPLICATION SIGN} Preparing metadata (pyproject.toml) did not run successfully.
  \u2502 exit code: 1
  \u2570\u2500> [13 lines of output]
      Traceback (most recent call last):
        File "/folder/bad/backend.py", line 1, in build_wheel
      RuntimeError: no compiler here
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed
"""
)
WHEEL = (
    START
    + """\
Collecting good
Collecting worse==2
Building wheels for collected packages: bad
  Building wheel for bad (setup.py): finished with status 'error'
  error: subprocess-exited-with-error
      gcc: fatal error: no input files
      [end of output]
  ERROR: Failed building wheel for bad
ERROR: Could not build wheels for bad, which is required to install pyproject.toml-based projects
"""
)
FULL = (
    START
    + """\
Installing collected packages: torch
ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device
"""
)


def explained(text: str) -> Failure:
    return explain(text.splitlines())


def test_a_conflict_is_shown_with_its_cause():
    assert explained(CONFLICT).reason.splitlines() == [
        "jax==0.4.30 and jaxlib==0.10.2 do not go together:",
        "    The user requested jaxlib==0.10.2",
        "    jax 0.4.30 depends on jaxlib<=0.4.30 and >=0.4.27",
    ]


@pytest.mark.parametrize(
    ("text", "reason", "advice"),
    [
        (
            NO_VERSION,
            (
                "no version satisfies torch==99; the newest of 7 are "
                "2.10.0, 2.11.0, 2.12.0, 2.13.0, 2.13.0+cpu"
            ),
            "one of them",
        ),
        (NOTHING, "nothing was found for nonexistent-package", "spelt"),
        (
            OTHER_PYTHON,
            "jax==0.10.2 is not for this Python: it requires Python >=3.12",
            "Name a Python",
        ),
        (
            START + RETRY + NOTHING.removeprefix(START),
            (
                "the package index was not reached (https://pypi.org/simple): "
                "Failed to establish a new connection: [Errno -2] Name or service not known"
            ),
            "proxy",
        ),
        (
            OTHER_PYTHON.replace("requirement jax==0.10.2", "requirement jax==0.8"),
            "no version satisfies jax==0.8; there is 0.4.30",
            "depends on the Python",
        ),
        (BUILD, "./folder/bad could not be built: RuntimeError: no compiler here", "no wheel"),
        (WHEEL, "bad could not be built: gcc: fatal error: no input files", "no wheel"),
        (
            FULL,
            "Could not install packages due to an OSError: [Errno 28] No space left on device",
            "LOSSAUDIT_CACHE",
        ),
        ("ERROR: tiny.whl is not a supported wheel on this platform.\n", "tiny.whl is not", "Mend"),
        ("Segmentation fault\n\n", "Segmentation fault", "Mend"),
        ("", "nothing was printed", "Mend"),
    ],
)
def test_the_cause_is_found_and_what_to_do(text: str, reason: str, advice: str):
    failure = explained(text)
    assert failure.reason.startswith(reason)
    assert advice in failure.advice
    assert "ERROR" not in failure.reason


def test_a_try_that_was_made_good_is_not_the_cause():
    text = START + RETRY + "Collecting first\n" + BUILD.removeprefix(START)
    assert "could not be built" in explained(text).reason
    assert "do not go together" in explained(RETRY + CONFLICT).reason


@pytest.mark.parametrize(
    "line",
    [
        (
            "connection broken by 'NewConnectionError(\"(host='files.example', port=80): "
            "Refused\")': /simple/tiny/"
        ),
        (
            "HTTPSConnectionPool(host='files.example', port=443): Max retries exceeded with url: / "
            "(Caused by ProxyError('<urllib3.Connection object at 0x7f41>: Refused'))"
        ),
        "ReadTimeoutError: HTTPSConnectionPool(host='files.example', port=443): Refused",
    ],
)
def test_the_host_and_the_innermost_reason_are_named(line: str):
    reason = "the package index was not reached (files.example): Refused"
    assert explained(START + line).reason == reason


def test_long_lines_are_cut():
    assert len(explained("ERROR: " + "x" * 10000).reason) == LONGEST


@pytest.mark.parametrize(
    "text",
    [
        "The virtual environment was not created successfully because ensurepip is not\navailable.",
        "/usr/bin/python3: No module named venv",
        "subprocess.CalledProcessError: Command '[...'-m', 'ensurepip', ...]' returned 1.",
    ],
)
def test_a_python_without_venv_says_what_to_install(text: str):
    failure = explain_venv(text.splitlines(), "3.12.1")
    assert failure.reason == "this Python comes without venv or ensurepip"
    assert "python3.12-venv" in failure.advice


def test_a_full_disk_is_no_missing_package():
    lines = ["Error: [Errno 28] No space left on device", "... ensurepip ..."]
    assert "No space left" in explain_venv(lines, "3.12.1").reason
