"""What pip says when it fails, in a few lines: which package, why, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

LONGEST = 300
"""Of a line of pip's that is passed on. Lists of all versions of a package are longer than that."""

FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded")
CONFLICT = re.compile(r"ERROR: (Cannot install .+ because these package versions have conflict.+)")
NO_MATCH = re.compile(
    r"Could not find a version that satisfies the requirement (.+) \(from versions: (.*)\)"
)
OTHER_PYTHON = re.compile(
    r"Ignored the following versions that require a different python version: (.+)"
)
NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|MaxRetryError|"
    r"ProtocolError|ProxyError|SSLError|ConnectionResetError|RemoteDisconnected|IncompleteRead|"
    r"Could not fetch URL"
)
HOST = re.compile(r"host='([^']+)'|Looking in indexes: (\S+?),?(?:\s|$)")
BUILD = re.compile(
    r"subprocess-exited-with-error|metadata-generation-failed|Failed building wheel for|"
    r"Failed to build|Could not build wheels for|legacy-install-failure"
)
FAILED_WHEEL = re.compile(r"Failed building wheel for (\S+)")
HANDLED = re.compile(r"(?:Collecting|Processing) (\S+)")
PROGRESS = re.compile(
    r"\s*(?:Collecting|Processing|Downloading|Using cached|Building wheel|Installing collected)"
)
END_OF_OUTPUT = "[end of output]"
NO_PIP = re.compile(r"ensurepip|No module named '?(?:venv|pip)\b")


@dataclass(frozen=True)
class Failure:
    """Why something could not be installed, and what to do."""

    reason: str
    advice: str


def explain(lines: list[str]) -> Failure:
    """The cause, from all lines that pip printed."""
    for find in CAUSES:
        failure = find(lines)
        if failure:
            return failure
    errors = [line for line in lines if re.match(r"\s*(?:ERROR|error):", line)]
    said = errors or [line for line in lines if line.strip()][-1:] or ["nothing was printed"]
    # pip repeats itself, and closes with the most general of what it says.
    return Failure("\n".join(map(_short, said[:3])), "Mend that, and start again.")


def explain_venv(lines: list[str], version: str) -> Failure:
    """The same of `python -m venv`."""
    if _full_disk(lines):
        return explain(lines)
    if any(NO_PIP.search(line) for line in lines):
        package = "python" + ".".join(version.split(".")[:2]) + "-venv"
        return Failure(
            "this Python comes without venv or ensurepip",
            f"Install them (on Debian and Ubuntu: apt install {package}), or name another Python.",
        )
    return explain(lines)


def _full_disk(lines: list[str]) -> Optional[Failure]:
    line = _last(FULL_DISK, lines)
    if not line:
        return None
    return Failure(
        _short(line),
        "Make room where environments are kept (or set LOSSAUDIT_CACHE to another folder), in the "
        "temporary folder (TMPDIR) and in pip's cache (pip cache purge).",
    )


def _conflict(lines: list[str]) -> Optional[Failure]:
    line = _last(CONFLICT, lines)
    if not line:
        return None
    block = []
    for following in lines[lines.index(line) + 1 :]:
        if following.startswith("    "):
            block.append(_short(following, "    "))
        elif block:
            break
    what = re.sub(r"^ERROR: Cannot install ", "", line.strip()).partition(" because ")[0]
    return Failure(
        "\n".join([f"{what} do not go together:", *block]),
        "Ask for versions that do; of a package that is not named, pip chooses one that fits.",
    )


def _other_python(lines: list[str]) -> Optional[Failure]:
    """A version was asked for that exists, and that another Python needs."""
    wanted, _ = _unmatched(lines)
    ignored = [line for line in lines if OTHER_PYTHON.search(line)]
    for line in ignored:
        for version in OTHER_PYTHON.findall(line)[0].split("; "):
            number, _, demand = version.partition(" Requires-Python ")
            if demand and wanted.partition(" ")[0].endswith(f"=={number}"):
                return Failure(
                    f"{wanted} is not for this Python: it requires Python {demand}",
                    "Name a Python that it is for, or ask for another version.",
                )
    return None


def _no_match(lines: list[str]) -> Optional[Failure]:
    wanted, found = _unmatched(lines)
    if not found:
        return None
    # pip lists them in their order, the newest last.
    newest = ", ".join(found[-5:])
    of_more = f"the newest of {len(found)} are {newest}" if found[5:] else f"there is {newest}"
    return Failure(
        f"no version satisfies {wanted}; {of_more}",
        "Ask for one of them. What is offered depends on the Python, on the machine and on the "
        "index that pip asks (pip config list).",
    )


def _nothing_found(lines: list[str]) -> Optional[Failure]:
    wanted, _ = _unmatched(lines)
    if not wanted:
        return None
    return Failure(
        f"nothing was found for {wanted}",
        "Check how it is spelt, whether it has anything for this Python and this machine, and "
        "which index pip asks (pip config list).",
    )


def _unmatched(lines: list[str]) -> tuple[str, list[str]]:
    """The requirement that no version satisfied, and the versions that there are."""
    line = _last(NO_MATCH, lines)
    if not line:
        return "", []
    wanted, versions = NO_MATCH.findall(line)[0]
    return wanted, [] if versions.strip() == "none" else versions.split(", ")


def _network(lines: list[str]) -> Optional[Failure]:
    # A try that failed and was made good is followed by what pip did next.
    begun = [i for i, each in enumerate(lines) if PROGRESS.match(each)]
    line = _last(NETWORK, lines[begun[-1] + 1 if begun else 0 :])
    if not line:
        return None
    hosts = [host or index for each in lines for host, index in HOST.findall(each)]
    # urllib3 prints its objects before the reason, and wraps reasons in one another.
    reason = re.split(r"(?:object at 0x[0-9a-f]+>|port=\d+\))[:,]\s*", line)[-1]
    reason = re.sub(r"['\")]+:? .*$|['\")]+$", "", reason)
    where = f" ({hosts[-1]})" if hosts else ""
    return Failure(
        f"the package index was not reached{where}: {_short(reason)}",
        "Check the network, and the index and proxy in pip's configuration (pip config list). "
        "What was downloaded before is kept in pip's cache.",
    )


def _build(lines: list[str]) -> Optional[Failure]:
    line = _last(BUILD, lines)
    if not line:
        return None
    first = next(i for i, each in enumerate(lines) if BUILD.search(each))
    named = [name for each in lines for name in FAILED_WHEEL.findall(each)]
    handled = [name for each in lines[:first] for name in HANDLED.findall(each)]
    package = (named or handled[-1:] or ["a package"])[0]
    ends = [i for i, each in enumerate(lines) if each.strip() == END_OF_OUTPUT]
    said = [each for each in lines[: ends[0]] if each.strip()][-1:] if ends else [line]
    return Failure(
        f"{package} could not be built: {_short(said[0])}",
        "It has no wheel for this Python and this machine. Ask for a version that has one, name "
        "another Python, or install what the build lacks.",
    )


def _last(pattern: re.Pattern[str], lines: list[str]) -> str:
    return next((line for line in reversed(lines) if pattern.search(line)), "")


def _short(line: str, indent: str = "") -> str:
    line = re.sub(r"^(?:ERROR|error|WARNING): ", "", line.strip())
    return indent + (line if len(line) <= LONGEST else line[: LONGEST - 4] + " ...")


CAUSES = (_full_disk, _conflict, _other_python, _no_match, _network, _nothing_found, _build)
"""The most certain first."""
