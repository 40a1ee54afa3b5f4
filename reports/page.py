"""What every HTML page is made of: one file that opens offline, all styles and scripts inside.

Libraries and long parts of a page travel packed (gzip, base64) and are unpacked by the browser when
they are needed, so that the file is small and opens fast. The Content-Security-Policy lets nothing
be loaded and only those scripts run that are named by their hash: it holds even where an escape
were forgotten.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from markupsafe import Markup

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"


@dataclass(frozen=True)
class Library:
    """A script of others, which a page runs when it is first needed."""

    name: str
    text: str

    @cached_property
    def packed(self) -> Markup:
        return packed(self.text)


@cache
def data_tables() -> Library:
    """DataTables: sorts, searches and pages the table of all findings."""
    path = _HERE / "libraries" / "dataTables.min.js"
    return Library("tables", path.read_text(encoding="utf-8"))


@cache
def vega() -> Library:
    """Vega, Vega-Lite and vega-embed, bundled by vl-convert: they draw the plots.

    They set `window.vegaEmbed`, which is called with `ast: true`: expressions are interpreted,
    since the policy does not let them be compiled.
    """
    import vl_convert

    return Library("vega", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def inlined(
    styles: Sequence[str], scripts: Sequence[str], libraries: Sequence[Library] = ()
) -> dict[str, object]:
    """Styles, scripts, libraries and the policy that allows nothing else, for `page.html`."""
    style, script = "\n".join(map(_asset, styles)), "\n".join(map(_asset, scripts))
    return {
        "style": Markup(style),  # noqa: S704 - files of our own, not text of the run
        "script": Markup(script),  # noqa: S704
        "libraries": libraries,
        "policy": _policy(style, [script, *(library.text for library in libraries)]),
    }


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Content-Security-Policy: the texts by their hash, and nothing else."""
    allowed = " ".join(f"'{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src {allowed}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def packed(content: str) -> Markup:
    """Text as the page's script unpacks it. The same content gives the same text."""
    # Level 6: 9 takes three times as long and saves a hundredth.
    small = gzip.compress(content.encode("utf-8"), compresslevel=6, mtime=0)
    return Markup(base64.b64encode(small).decode())  # noqa: S704 - letters, digits, + / =


def packed_json(content: Mapping | Sequence) -> Markup:
    """Data as the page's script unpacks it."""
    return packed(json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def write_page(page: str, path: Path) -> None:
    """Write a page atomically: a reader sees the old file or the whole new one."""
    if path.exists() and not path.is_file():
        path.write_bytes(page.encode("utf-8"))  # a device or a pipe, which must not be replaced
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        # Not mkstemp, whose private mode would keep others from reading.
        part.write_bytes(page.encode("utf-8"))
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
