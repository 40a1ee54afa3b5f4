"""Text and numbers of a Run made fit to be shown: nothing hidden, executed or huge."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that draw nothing, reorder their neighbours or drive a terminal."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def visible(text: str) -> str:
    """The text with control, bidi and other invisible characters written as ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters; what is cut is said."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit:,} more characters]"


def one_line(text: str, limit: int = 200) -> str:
    """Visible text in one line: for attributes, table cells and the terminal."""
    text = text[: limit + 1]  # what lies beyond is dropped anyway: do not walk through it
    text = visible(text).replace("\n", " ⏎ ").replace("\t", " ").strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def anchor(prefix: str, name: str) -> str:
    """An id for the page: readable where the name allows it, else its hash."""
    if not _SAFE_ID.fullmatch(name):
        name = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{prefix}-{name}"


def web_link(text: str) -> str:
    """The text where it is an address of the web, else ""; `javascript:` must not become a link."""
    safe = re.fullmatch(r"https?://[!-~]{1,500}", text)
    return text if safe and not re.search(r"[\"'<>`\\]", text) else ""


def as_float(text: str) -> float | None:
    """The number that the text stands for, or None where it is no number."""
    try:
        return float(text)
    except ValueError:
        return None


def hex_float(text: str) -> str:
    """Shortest hexadecimal form, exact: "0.1" gives 0x1.999999999999ap-4, "3.0" gives 0x1.8p+1."""
    number = as_float(text)
    if number is None or not math.isfinite(number):
        return ""
    head, _, exponent = number.hex().partition("p")
    whole, dot, digits = head.partition(".")
    digits = digits.rstrip("0")
    return f"{whole}{dot if digits else ''}{digits}p{exponent}"


def short_number(text: str) -> str:
    """Six significant digits, for places that must be short; the card has all of them."""
    number = as_float(text)
    return one_line(text, 60) if number is None else f"{number:.6g}"


def ulps_text(ulps: float | None) -> str:
    if ulps is None or math.isnan(ulps):
        return "not measurable in ulps"
    if math.isinf(ulps):
        return "infinitely many ulps"
    if ulps and (ulps >= 1e6 or ulps < 0.01):
        return f"{ulps:.2g} ulps"
    return f"{ulps:,.0f} ulps" if ulps >= 1000 else f"{ulps:.3g} {'ulp' if ulps == 1 else 'ulps'}"


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(started: str) -> str:
    """`2026-11-21 16:02 UTC`; a time that is none is shown as it came."""
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return one_line(started, 60)
    zone = "" if when.tzinfo is None else f" {when.tzname()}"
    return f"{when:%Y-%m-%d %H:%M}{zone}"


def count(number: int, word: str, many: str = "") -> str:
    """`1 row`, `2,000 rows`, `3 entries`."""
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def vector(texts: Sequence[str], limit: int = 6) -> str:
    """`[-inf, 0, 0]`, with the middle left out of long ones; what differs looks different."""
    shown = list(texts) if len(texts) <= limit else [*texts[: limit - 2], texts[-1]]
    short = list(map(short_number, shown))
    for digits in (9, 12, 17):
        if len(set(short)) == len(set(shown)):
            break
        values = map(as_float, shown)
        short = [s if v is None else f"{v:.{digits}g}" for s, v in zip(short, values, strict=True)]
    if len(texts) <= limit:
        return f"[{', '.join(short)}]"
    return f"[{', '.join(short[:-1])}, …, {short[-1]}] ({len(texts):,} numbers)"
