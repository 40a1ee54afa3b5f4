"""Known findings: deviations that have a cause, a version range and a link, as data.

An entry never touches a law, a strategy or a judge: the engine finds what it finds, and this
module says afterwards which of it was known. The input of an entry is replayed in every run that
looks at its subject; where it no longer shows the deviation, the entry is 'gone' and the run fails
until the entry is removed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..adapters.subject import Subject
from .run import FINDING_GRADES, CaseRecord, Finding

FILE = Path(__file__).with_name("known_findings.toml")


class KnownFindingsError(Exception):
    """The file of known findings cannot be read; the text says where and why."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One known deviation.

    `subjects` are patterns over names without the bracket ("torch:cross_entropy.*"), `modes` and
    `dtypes`, `regions`, `outputs` are lists; `versions` maps a package to a range such as
    ">=2.13,<2.16". `inputs` are the smallest inputs, at least one for each dtype.
    """

    id: str
    laws: list[str]
    subjects: list[str]
    modes: list[str]
    versions: dict[str, str]
    dtypes: list[str]
    regions: list[str]
    outputs: list[str]
    kind: str
    cause: str
    link: str
    inputs: list[CaseRecord]

    def about(self, subject: Subject, law: str, dtype: str, versions: dict[str, str]) -> bool:
        """Whether the entry speaks of this law on this subject in this dtype and version."""
        name = f"{subject.framework}:{subject.op}"
        return (
            law in self.laws
            and dtype in self.dtypes
            and subject.mode in self.modes
            and any(fnmatchcase(name, pattern) for pattern in self.subjects)
            and self.in_range(versions)
        )

    def in_range(self, versions: dict[str, str]) -> bool:
        """Whether every package that the entry names is installed in its range."""
        return all(
            package in versions
            and SpecifierSet(wanted).contains(versions[package], prereleases=True)
            for package, wanted in self.versions.items()
        )

    def covers(self, finding: Finding) -> bool:
        """Whether the region, output and kind are those of the entry."""
        return (
            finding.kind == self.kind
            and finding.output in self.outputs
            and finding.region in self.regions
        )

    def input_for(self, dtype: str) -> CaseRecord | None:
        return next((case for case in self.inputs if case.dtype == dtype), None)


@dataclass(frozen=True)
class Known:
    """The entries in force."""

    entries: tuple[Entry, ...] = ()

    def about(
        self, subject: Subject, law: str, dtype: str, versions: dict[str, str]
    ) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.about(subject, law, dtype, versions))


def load(path: Path = FILE) -> Known:
    """Read the known findings.

    Raises:
        KnownFindingsError: if the file cannot be read, is not TOML, or an entry is incomplete.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KnownFindingsError(f"cannot read {path}: {error}") from error
    entries = []
    for number, item in enumerate(data.get("finding", []), start=1):
        try:
            entry = msgspec.convert(item, Entry)
        except msgspec.ValidationError as error:
            name = item.get("id", f"number {number}") if isinstance(item, dict) else number
            raise KnownFindingsError(f"{path}, entry {name}: {error}") from error
        _check(entry, path)
        entries.append(entry)
    return Known(tuple(entries))


def _check(entry: Entry, path: Path) -> None:
    """An entry must be able to match something, and to be replayed wherever it matches."""
    where = f"{path}, entry {entry.id}"
    if entry.kind not in FINDING_GRADES:
        raise KnownFindingsError(f"{where}: kind {entry.kind!r} is none of {FINDING_GRADES}")
    missing = [dtype for dtype in entry.dtypes if entry.input_for(dtype) is None]
    if missing:
        raise KnownFindingsError(f"{where}: no input to replay in {', '.join(missing)}")
    if not entry.cause.strip() or not entry.link.strip() or not entry.versions:
        raise KnownFindingsError(f"{where}: cause, link and versions are required")
    try:
        for wanted in entry.versions.values():
            SpecifierSet(wanted)
    except InvalidSpecifier as error:
        raise KnownFindingsError(f"{where}: {error}") from error
