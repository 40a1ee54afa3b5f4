"""Known findings: deviations that have a cause, a version range and a link, as data.

An entry never touches a law, a strategy or a judge: the engine finds what it finds, and this
module says afterwards which of it was known. The input of an entry is replayed in every run that
looks at its subject; where it no longer shows the deviation, the entry is 'gone' and the run fails
until the entry is removed.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ..adapters.subject import Subject
from .run import FINDING_GRADES, CaseRecord, Finding

FILE = Path(__file__).with_name("known_findings.toml")
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A name that TOML takes without quotes."""


class KnownFindingsError(Exception):
    """The file of known findings cannot be read; the text says where and why."""


class Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A smallest input, and the laws and subjects on which it shows the deviation.

    `on` holds "LAW SUBJECT", such as "value torch:nll_loss[eager,cpu]"; the dtype is the case's.
    Environments have no place in it: an entry speaks of versions, wherever they are installed.
    """

    on: list[str]
    case: CaseRecord


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One known deviation: one cause, in the versions that `versions` gives as ranges."""

    id: str
    kind: str
    outputs: list[str]
    regions: list[str]
    versions: dict[str, str]
    cause: str
    link: str
    cases: list[Shown]

    def about(self, subject: Subject, law: str, dtype: str, versions: dict[str, str]) -> bool:
        """Whether the entry speaks of this law on this subject in this dtype and version."""
        return bool(self.replays(subject, law, dtype)) and self.in_range(versions)

    def replays(self, subject: Subject, law: str, dtype: str) -> list[CaseRecord]:
        """The inputs that decide whether the deviation is still there."""
        here = f"{law} {subject.name_anywhere}"
        return [s.case for s in self.cases if s.case.dtype == dtype and here in s.on]

    def in_range(self, versions: dict[str, str]) -> bool:
        """Whether every package of the subject that the entry names is in its range.

        An entry may name the packages of several frameworks; a subject has those of one.
        """
        present = [package for package in self.versions if package in versions]
        return bool(present) and all(
            SpecifierSet(self.versions[package]).contains(versions[package], prereleases=True)
            for package in present
        )

    def covers(self, finding: Finding) -> bool:
        """Whether the region, output and kind are those of the entry."""
        return (
            finding.kind == self.kind
            and finding.output in self.outputs
            and finding.region in self.regions
        )


@dataclass(frozen=True)
class Known:
    """The entries in force."""

    entries: tuple[Entry, ...] = ()

    def about(
        self, subject: Subject, law: str, dtype: str, versions: dict[str, str]
    ) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.about(subject, law, dtype, versions))


def marked(finding: Finding, entries: Iterable[Entry]) -> Finding:
    """The finding with the entry that knows it, if one does."""
    for entry in entries:
        if entry.covers(finding):
            return msgspec.structs.replace(
                finding, status="known", known=entry.id, cause=entry.cause, link=entry.link
            )
    return finding


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
    """An entry must be able to match something, and must say why and where it comes from."""
    where = f"{path}, entry {entry.id}"
    if entry.kind not in FINDING_GRADES:
        raise KnownFindingsError(f"{where}: kind {entry.kind!r} is none of {FINDING_GRADES}")
    if not entry.cases or not all(shown.on for shown in entry.cases):
        raise KnownFindingsError(f"{where}: no input to replay, or one that names no subject")
    if not entry.cause.strip() or not entry.link.strip() or not entry.versions:
        raise KnownFindingsError(f"{where}: cause, link and versions are required")
    try:
        for wanted in entry.versions.values():
            SpecifierSet(wanted)
    except InvalidSpecifier as error:
        raise KnownFindingsError(f"{where}: {error}") from error


# --- the entry of a finding -----------------------------------------------------------------------


def entry_text(finding: Finding, versions: dict[str, str]) -> str:
    """The entry that would know a finding, ready to paste; its cause and link are left to a person.

    Without a link it is refused, so that no deviation is put aside unexplained.
    """
    framework, _, local = finding.subject.partition(":")
    subject = f"{framework.partition('@')[0]}:{local}"
    entry: dict[str, Any] = {
        "id": f"{finding.law}-{finding.id}",
        "kind": finding.kind,
        "outputs": [finding.output],
        "regions": [finding.region],
        "versions": {name: _range(version) for name, version in versions.items()},
        "cause": "TODO: the cause in a sentence",
        "link": "",
    }
    case = {"on": [f"{finding.law} {subject}"], "case": msgspec.to_builtins(finding.case)}
    lines = ["[[finding]]", *_lines(entry), "", "[[finding.cases]]", *_lines(case)]
    return "\n".join(lines) + "\n"


def _range(version: str) -> str:
    """The releases that a fix of the last digit belongs to, or the very version where it is odd."""
    try:
        release = Version(version)
    except InvalidVersion:
        return f"==={version}"
    return f"=={release.major}.{release.minor}.*"


def _lines(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in table.items() if value is not None]


def _toml(value: Any) -> str:
    """A value of a record as TOML; its strings are those of JSON, but for DEL."""
    if isinstance(value, dict):
        keys = {name: name if BARE.fullmatch(name) else _toml(name) for name in value}
        items = (f"{keys[name]} = {_toml(v)}" for name, v in value.items() if v is not None)
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
