"""The accounting of reported defects, as data: how lossaudit finds each, or why it does not.

`defects.toml` names defects that issues, papers and the reading of sources know of these
frameworks. Each has a smallest call, and says what lossaudit makes of it: a law that finds it, a
convention that the probe measures, that it is gone, or why it cannot be found here. No law, region
or judge reads the file; a test asks the installed frameworks every call in it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from .laws.registry import LAWS
from .run import FINDING_GRADES, CaseRecord

FILE = Path(__file__).with_name("defects.toml")


class DefectsError(Exception):
    """The file of defects cannot be read; the text says where and why."""


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A law, and a smallest case of which it says `kind` of an output on each of some subjects.

    `copies` is how often the rows of the case stand in the call.
    """

    on: list[str]
    law: str
    output: str
    kind: str
    case: CaseRecord
    copies: int = 1


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A law that finds nothing in the case: what was wrong was mended, or nothing ever was."""

    on: list[str]
    law: str
    case: CaseRecord
    copies: int = 1


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A convention of some subjects, as the probe measures it; `input` says of which call."""

    on: list[str]
    field: str
    value: str
    input: str


class Defect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One reported defect.

    Attributes:
        id: as it is cited elsewhere.
        title: what goes wrong, in a few words.
        where: the op as its users call it.
        link: the thread, or "no issue known".
        source: the line of source, where there is no thread.
        versions: of the packages that were asked.
        found, measured, content: what shows it, or that it is gone.
        gone: where it is gone, since when.
        why_not: why it is not found, or what of it is not.
        known: patterns (fnmatch) of the known findings that it is the cause of.
    """

    id: str
    title: str
    where: str
    link: str
    source: str = ""
    versions: dict[str, str]
    found: list[Found] = []
    measured: list[Measured] = []
    content: list[Content] = []
    gone: str = ""
    why_not: str = ""
    known: list[str] = []


class Beyond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Known findings that no report is known of: found by the laws alone."""

    title: str
    what: str
    known: list[str]


@dataclass(frozen=True)
class Defects:
    """The whole file."""

    defects: tuple[Defect, ...] = ()
    beyond: tuple[Beyond, ...] = ()

    def unaccounted(self, known: list[str]) -> list[str]:
        """The ids of known findings that no entry is said to be the cause of."""
        patterns = [p for entry in (*self.defects, *self.beyond) for p in entry.known]
        return [name for name in known if not any(fnmatchcase(name, p) for p in patterns)]

    def idle(self, known: list[str]) -> list[str]:
        """The patterns that no known finding has."""
        patterns = [p for entry in (*self.defects, *self.beyond) for p in entry.known]
        return [p for p in patterns if not any(fnmatchcase(name, p) for name in known)]


def load(path: Path = FILE) -> Defects:
    """Read the file of defects.

    Raises:
        DefectsError: if it cannot be read, is not TOML, or an entry is incomplete.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefectsError(f"cannot read {path}: {error}") from error
    try:
        defects = tuple(msgspec.convert(data.get("defect", []), list[Defect]))
        beyond = tuple(msgspec.convert(data.get("beyond", []), list[Beyond]))
    except msgspec.ValidationError as error:
        raise DefectsError(f"{path}: {error}") from error
    for defect in defects:
        if fault := _fault(defect):
            raise DefectsError(f"{path}, defect {defect.id}: {fault}")
    return Defects(defects, beyond)


def _fault(defect: Defect) -> str:
    """An entry must say one thing of its defect, in words that exist."""
    laws = {law.name for law in LAWS}
    if defect.gone and not defect.content:
        return "gone, and no law that is content"
    if defect.content and not (defect.gone or defect.why_not):
        return "a law is content, and neither 'gone' nor 'why_not' says why"
    if not (defect.found or defect.measured or defect.gone or defect.why_not):
        return "no law, no convention, not gone, and no word why not"
    for entry in (*defect.found, *defect.content):
        if entry.law not in laws:
            return f"{entry.law!r} is no law"
    for entry in defect.found:
        if entry.kind not in FINDING_GRADES:
            return f"kind {entry.kind!r} is none of {FINDING_GRADES}"
    try:
        for wanted in defect.versions.values():
            SpecifierSet(wanted)
    except InvalidSpecifier as error:
        return str(error)
    return ""
