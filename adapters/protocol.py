"""Frames between the audit and its workers: a fixed header, JSON, then the raw bits of arrays.

A frame is
    magic (4 bytes) | version (2) | padding (2) | bytes of JSON (4) | bytes of the whole body (8)
followed by the body: the JSON object and, directly behind it, each array that the object lists
under "arrays" as [name, dtype, shape], in that order, little-endian and without gaps.

Values never cross as decimal text and nothing is unpickled: what arrives are the bits that were
sent, NaN payloads and bfloat16 included. A frame that is malformed, too large or of another
version is refused with `ProtocolError`.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

MAGIC = b"LSAU"
VERSION = 1
HEADER = struct.Struct("<4sHxxIQ")
LIMIT = 1 << 30
CHUNK = 1 << 16

# Heads of JSON repeat: thousands of calls differ in the numbers of their arrays alone. So they are
# written and read once. One is a few hundred bytes; longer ones (a traceback) hardly come twice.
HEADS_KEPT = 256
HEAD_KEPT_BYTES = 4096

# The unsigned integer that carries the bits of each format; int64 carries class indices.
BITS: dict[str, str] = {
    "float64": "<u8",
    "float32": "<u4",
    "bfloat16": "<u2",
    "float16": "<u2",
    "int64": "<i8",
}

# dtype objects are made once: building one from its name costs as much as a small array copy.
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(bits) for name, bits in BITS.items()}

Shape = tuple[int, ...]
Description = tuple[str, str, Shape]  # name, dtype and shape of an array


class ProtocolError(Exception):
    """A frame that cannot be read: malformed, cut short, too large, or of another version."""


class TruncatedFrame(ProtocolError):
    """The stream ended inside a frame: whoever wrote it died over it."""


@dataclass(frozen=True)
class RawArray:
    """The bits of an array of `dtype`, held in an integer array of the same width."""

    dtype: str
    bits: NDArray[np.generic]


@dataclass(frozen=True)
class Frame:
    """One message: its kind, fields that JSON can hold, and arrays."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: dict[str, RawArray] = field(default_factory=dict)


def pack(frame: Frame) -> bytes:
    """The bytes of a frame."""
    listed = [(name, a.dtype, a.bits.shape) for name, a in frame.arrays.items()]
    return joined(head(frame.kind, frame.fields, listed), frame.arrays.values())


def head(kind: str, fields: Mapping[str, Any], listed: Iterable[Description]) -> bytes:
    """The JSON of a frame with arrays as listed."""
    return json.dumps({"kind": kind, "fields": dict(fields), "arrays": list(listed)}).encode()


def joined(text: bytes, arrays: Iterable[RawArray]) -> bytes:
    """The bytes of a frame with the head `text`, which lists these arrays."""
    parts = [np.ascontiguousarray(a.bits, _DTYPES[a.dtype]).tobytes() for a in arrays]
    body = len(text) + sum(map(len, parts))
    return b"".join([HEADER.pack(MAGIC, VERSION, len(text), body), text, *parts])


def unpack_header(header: bytes, limit: int = LIMIT) -> tuple[int, int]:
    """Bytes of JSON and of the body that follow a header."""
    magic, version, text, body = HEADER.unpack(header)
    if magic != MAGIC:
        raise ProtocolError(f"not a frame of this protocol: it starts with {magic!r}")
    if version != VERSION:
        raise ProtocolError(f"protocol version {version}, where {VERSION} is spoken here")
    if body > limit:
        raise ProtocolError(f"a frame of {body} bytes is over the limit of {limit}")
    if text > body:
        raise ProtocolError(f"a frame of {body} bytes cannot hold {text} bytes of JSON")
    return text, body


def unpack_body(body: bytes, text: int, start: int = 0) -> Frame:
    """The frame in a body that begins at `start` and whose first `text` bytes are JSON."""
    offset = start + text
    read = _read_head if text <= HEAD_KEPT_BYTES else _read_head.__wrapped__
    kind, fields, listed = read(body[start:offset])
    arrays: dict[str, RawArray] = {}
    for name, dtype, shape in listed:
        array, offset = _take(body, offset, dtype, shape)
        arrays[name] = RawArray(dtype, array)
    if offset != len(body):
        raise ProtocolError(f"{len(body) - offset} bytes are left behind the last array")
    return Frame(kind, fields, arrays)


@functools.lru_cache(maxsize=HEADS_KEPT)
def _read_head(text: bytes) -> tuple[str, Mapping[str, Any], tuple[Description, ...]]:
    """The kind, the fields and the arrays of a head; a text that was read before is not again."""
    kind, fields, listed = _parse(text)
    return kind, MappingProxyType(fields), tuple(map(_described, listed))


def _parse(text: bytes) -> tuple[str, dict[str, Any], list[Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the head of the frame is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ProtocolError("the head of the frame is not a JSON object")
    kind, fields, listed = found.get("kind"), found.get("fields"), found.get("arrays")
    if not (isinstance(kind, str) and isinstance(fields, dict) and isinstance(listed, list)):
        raise ProtocolError("the head of the frame lacks its kind, fields or arrays")
    return kind, cast("dict[str, Any]", fields), cast("list[Any]", listed)


def _described(entry: Any) -> Description:
    if not (isinstance(entry, list) and len(cast("list[Any]", entry)) == 3):
        raise ProtocolError(f"an array is described by name, dtype and shape, not by {entry!r}")
    name, dtype, shape = cast("list[Any]", entry)
    if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in BITS:
        raise ProtocolError(f"array {name!r} has the dtype {dtype!r}; known are {', '.join(BITS)}")
    if not isinstance(shape, list) or not all(_is_length(n) for n in cast("list[Any]", shape)):
        raise ProtocolError(f"array {name!r} has the shape {shape!r}")
    return name, dtype, tuple(cast("list[int]", shape))


def _is_length(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _take(
    body: bytes, offset: int, dtype: str, shape: tuple[int, ...]
) -> tuple[NDArray[np.generic], int]:
    kind = _DTYPES[dtype]
    count = 1
    for length in shape:  # Python integers: a huge shape must not wrap around
        count *= length
    end = offset + count * kind.itemsize
    if end > len(body) or len(shape) > 32:
        raise ProtocolError(f"the frame ends inside an array of shape {shape}")
    return np.frombuffer(body, kind, count, offset).reshape(shape), end


class FrameReader:
    """Reads frames from a file descriptor.

    Args:
        descriptor: where to read.
        limit: the largest body that is accepted, in bytes.
        wait: called before each read; may raise to give up (a deadline).
    """

    def __init__(
        self,
        descriptor: int,
        limit: int = LIMIT,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._wait = wait
        self._buffer = b""

    def read(self) -> Frame | None:
        """The next frame, or None where the other side closed between two frames."""
        if not self._fill(HEADER.size):
            if self._buffer:
                raise TruncatedFrame(
                    f"the stream ended after {len(self._buffer)} bytes of a header"
                )
            return None
        text, body = unpack_header(self._buffer[: HEADER.size], self._limit)
        end = HEADER.size + body
        if not self._fill(end):
            raise TruncatedFrame(f"the stream ended {end - len(self._buffer)} bytes inside a frame")
        content, self._buffer = self._buffer[:end], self._buffer[end:]
        return unpack_body(content, text, HEADER.size)

    def _fill(self, size: int) -> bool:
        """Read until the buffer holds `size` bytes; False where the stream ends before."""
        pieces, held = [self._buffer], len(self._buffer)
        while held < size:
            if self._wait is not None:
                self._wait()
            piece = os.read(self._descriptor, CHUNK)
            if not piece:
                break
            pieces.append(piece)
            held += len(piece)
        self._buffer = b"".join(filter(None, pieces))  # which copies nothing where there is one
        return held >= size


def write_all(descriptor: int, data: bytes, wait: Callable[[], None] | None = None) -> None:
    """Writes all of `data`; `wait` is called where the other side is not ready, and may raise."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            if wait is not None:
                wait()


if sys.byteorder != "little":  # pragma: no cover - views of native arrays would need a swap
    raise ImportError("lossaudit speaks little-endian arrays and runs on such machines only")
