"""A set of requirements, as pip takes them: read from one line, and told apart from other sets.

Only the process of lossaudit reads this; a worker, in whose interpreter `packaging` may be missing,
does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .environments import UnusableEnvironment

HINT = (
    'Right ones are torch==2.15.0, "torch >= 2", jax[cpu], ./dist/package.whl, ./folder and '
    '"package @ https://host/package.whl"; one with spaces or a marker stands in quotes, such as '
    "'numpy<2; python_version < \"3.12\"'."
)
NO_OPTIONS = (
    "is an option of pip; only requirements can stand here. An index, a proxy or constraints are "
    "taken from pip's own configuration: pip.conf (`pip config list` shows it) and variables such "
    "as PIP_INDEX_URL and PIP_CONSTRAINT."
)

# A requirement of PEP 508 may hold spaces; these are the words that cannot begin one or end one.
CONTINUES = re.compile(r"(?:[<>=!]=?|~=|[@;,(\[])")
UNFINISHED = re.compile(r"[<>=@;,(\[]$")

NAMED_URL = re.compile(r"[A-Za-z0-9._-]+\s*(?:\[[^\]]*\]\s*)?@\s*(?P<url>\S+)")
EXTRAS = re.compile(r"(?P<path>.+?)(?P<extras>\[[^\[\]]*\])")
PASSWORD = re.compile(r"://[^/@\s]+@")
ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What building or running a package leaves beside its sources. pip and setuptools write `build` and
# `dist` at the top, where a package may have modules of that name further down.
LEFTOVERS = re.compile(r"__pycache__|.*\.egg-info|\..*")
LEFTOVERS_AT_TOP = ("build", "dist")


class WrongRequirements(UnusableEnvironment):
    """Requirements that pip could not be given; the text says which and how right ones look."""


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        text: what pip is given; a path is absolute.
        identity: what tells it from others: for a file or a folder also what is in it now.
        label: a short text that can stand in the name of a folder.
        name: the normalised name of the distribution where that is known and pip must install it.
    """

    text: str
    identity: str
    label: str
    name: str = ""


@dataclass(frozen=True)
class Requirements:
    """A set of requirements, in one order whatever the order in which they were written."""

    each: tuple[Requirement, ...]

    @property
    def texts(self) -> list[str]:
        """What pip is given."""
        return [requirement.text for requirement in self.each]

    @property
    def identity(self) -> str:
        """Equal for two sets that ask for the same."""
        return json.dumps([requirement.identity for requirement in self.each])

    @property
    def label(self) -> str:
        """A readable text of letters, digits, dots, plus and minus."""
        return "-".join(requirement.label for requirement in self.each)

    def __str__(self) -> str:
        """The set as a person may read it: without the passwords of addresses."""
        quoted = (f"'{text}'" if " " in text else text for text in self.texts)
        return PASSWORD.sub("://****@", " ".join(quoted))


def parse(text: str) -> Requirements:
    """The requirements on one line, such as "jax==0.4.30 jaxlib==0.4.30 optax==0.2.3".

    Raises:
        WrongRequirements: there is none, one is malformed, or one is an option of pip.
    """
    try:
        words = [word for word in shlex.split(text) if word.strip()]
    except ValueError as error:
        raise WrongRequirements(f"requirements {text!r}: {error}. {HINT}") from None
    if not words:
        raise WrongRequirements(f"no requirement was given. {HINT}")
    found = {each.text: each for each in map(_requirement, _joined(words))}
    return Requirements(tuple(found[text] for text in sorted(found)))


def _joined(words: list[str]) -> list[str]:
    """Words that are parts of one requirement, as in `torch >= 2`, put together."""
    joined = [words[0]]
    for word in words[1:]:
        if CONTINUES.match(word) or UNFINISHED.search(joined[-1]):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _requirement(word: str) -> Requirement:
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement as Parsed
    from packaging.utils import canonicalize_name

    if word.startswith("-"):
        raise WrongRequirements(f"{word!r} {NO_OPTIONS}")
    if not NAMED_URL.match(word):
        if "://" in word:
            return _at_url(word)
        if _is_path(word.partition(";")[0]):
            return _local(word)
    try:
        parsed = Parsed(word)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise WrongRequirements(f"{word!r} is no requirement: {reason}. {HINT}") from None
    name = parsed.name = canonicalize_name(parsed.name)
    text, digest = str(parsed), _digest_at(parsed.url or "")
    label = _label(f"{name}{parsed.specifier}")
    # Whether a marker holds is for the environment's own pip to say.
    return Requirement(text, text + digest, label, "" if parsed.marker else name)


def _is_path(word: str) -> bool:
    return (
        os.sep in word or word.startswith((".", "~")) or word.partition("[")[0].endswith(ARCHIVES)
    )


def _local(word: str) -> Requirement:
    """A file or a folder, with extras or without."""
    path, extras = _expanded(word), ""
    with_extras = EXTRAS.fullmatch(word)
    if with_extras and not path.exists():
        path, extras = _expanded(with_extras["path"]), with_extras["extras"]
    if not path.exists():
        raise WrongRequirements(f"{word!r}: there is no file or folder {path.absolute()}. {HINT}")
    if path.is_dir() and not any((path / n).exists() for n in ("pyproject.toml", "setup.py")):
        raise WrongRequirements(
            f"{word!r}: the folder {path.absolute()} is no Python project: it has neither "
            f"pyproject.toml nor setup.py. {HINT}"
        )
    text = str(path.resolve()) + extras
    return Requirement(text, text + digest(path), _label(path.resolve().name))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home of nobody
        return Path(path)


def _at_url(word: str) -> Requirement:
    """A bare address. What is at a remote one is taken to stay the same."""
    path = urlsplit(word).path.rstrip("/")
    return Requirement(word, word + _digest_at(word), _label(Path(path).name))


def _digest_at(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return ""
    path = Path(url2pathname(parts.path))
    if not path.exists():
        raise WrongRequirements(f"{url!r}: there is no file or folder {path}. {HINT}")
    return digest(path)


def _label(text: str) -> str:
    for ending in ARCHIVES:
        text = text.removesuffix(ending)
    return re.sub(r"[^A-Za-z0-9.+_]+", "-", text).strip("-.") or "package"


def digest(path: Path) -> str:
    """A digest of a file, or of a folder's files and their names, without leftovers of builds."""
    whole = hashlib.blake2b(digest_size=16)
    try:
        for name, file in _files(path):
            whole.update(json.dumps([name, _digest_of_file(file)]).encode())
    except OSError as error:
        reason = error.strerror or error
        raise WrongRequirements(f"{error.filename or path} cannot be read: {reason}.") from error
    return whole.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """A file, or the files of a folder by their names in it, in one order on every machine."""
    if not path.is_dir():
        yield "", path
        return
    for folder, folders, files in os.walk(path, onerror=_raise):
        at_top = Path(folder) == path
        folders[:] = sorted(name for name in folders if not _is_leftover(name, at_top))
        for name in sorted(files):
            file = Path(folder, name)
            if file.is_file() and not LEFTOVERS.fullmatch(name):
                yield file.relative_to(path).as_posix(), file


def _is_leftover(folder: str, at_top: bool) -> bool:
    return bool(LEFTOVERS.fullmatch(folder)) or (at_top and folder in LEFTOVERS_AT_TOP)


def _raise(error: OSError) -> None:
    raise error


def _digest_of_file(path: Path) -> str:
    whole = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            whole.update(block)
    return whole.hexdigest()
