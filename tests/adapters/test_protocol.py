from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lossaudit.adapters.protocol import (
    BITS,
    HEAD_KEPT_BYTES,
    HEADER,
    MAGIC,
    VERSION,
    Frame,
    FrameReader,
    ProtocolError,
    RawArray,
    _read_head,
    pack,
    unpack_body,
    unpack_header,
    write_all,
)


@st.composite
def arrays(draw: st.DrawFn) -> RawArray:
    """Any bits at all: NaN payloads, subnormals, infinities, empty arrays and scalars."""
    dtype = draw(st.sampled_from(sorted(BITS)))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    return RawArray(dtype, draw(npst.arrays(np.dtype(BITS[dtype]), shape)))


scalars = st.none() | st.booleans() | st.integers() | st.text()
frames = st.builds(
    Frame,
    st.text(),
    st.dictionaries(st.text(), scalars | st.lists(scalars), max_size=4),
    st.dictionaries(st.text(), arrays(), max_size=4),
)


def unpacked(data: bytes) -> Frame:
    text, body = unpack_header(data[: HEADER.size])
    assert body == len(data) - HEADER.size
    return unpack_body(data[HEADER.size :], text)


def same(left: Frame, right: Frame) -> bool:
    return (
        (left.kind, left.fields, list(left.arrays))
        == (right.kind, right.fields, list(right.arrays))
        and all(left.arrays[name].dtype == right.arrays[name].dtype for name in left.arrays)
        and all(
            left.arrays[name].bits.shape == right.arrays[name].bits.shape
            and left.arrays[name].bits.tobytes() == right.arrays[name].bits.tobytes()
            for name in left.arrays
        )
    )


@given(frames)
def test_a_frame_comes_back_bit_for_bit(frame: Frame):
    assert same(unpacked(pack(frame)), frame)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("float64", [0x7FF8000000000001, 0xFFF0000000000123, 1, 0x8000000000000000]),
        ("float32", [0x7FC00001, 0xFF800001, 1, 0x80000000]),
        ("bfloat16", [0x7FC1, 0xFF81, 1, 0x8000]),
        ("float16", [0x7E01, 0xFC01, 1, 0x8000]),
    ],
)
def test_nan_payloads_subnormals_and_signed_zeros_survive(dtype: str, bits: list[int]):
    array = np.array(bits, BITS[dtype])
    back = unpacked(pack(Frame("call", {}, {"inputs": RawArray(dtype, array)})))
    assert back.arrays["inputs"].bits.tolist() == bits


def test_an_array_of_another_memory_order_arrives_in_its_own_order():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1].T
    back = unpacked(pack(Frame("call", {}, {"a": RawArray("int64", array)})))
    assert back.arrays["a"].bits.tolist() == array.tolist()


def read_from(data: bytes, limit: int = 1 << 20) -> list[Frame]:
    """Every frame of a stream that ends after `data`."""
    reading, writing = os.pipe()
    feeder = threading.Thread(target=feed, args=(writing, data))
    feeder.start()
    reader = FrameReader(reading, limit)
    found: list[Frame] = []
    try:
        while (frame := reader.read()) is not None:
            found.append(frame)
    finally:
        os.close(reading)
        feeder.join(5)
    return found


def feed(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # a reader that refuses does not read on
        write_all(descriptor, data)
    os.close(descriptor)


@given(st.lists(frames, max_size=4))
def test_frames_on_one_stream_stay_apart(sent: list[Frame]):
    received = read_from(b"".join(map(pack, sent)))
    assert len(received) == len(sent)
    assert all(map(same, received, sent))


def test_a_large_frame_arrives_in_pieces():
    array = RawArray("float64", np.arange(100_000, dtype=np.uint64))
    (frame,) = read_from(pack(Frame("call", {}, {"a": array})))
    assert frame.arrays["a"].bits.tobytes() == array.bits.tobytes()


def test_equal_heads_are_read_once_and_nobody_can_change_them():
    sent = [Frame("call", {"op": "f"}, {"a": RawArray("int64", np.array(n))}) for n in (1, 2)]
    first, second = read_from(b"".join(map(pack, sent)))
    assert first.fields is second.fields
    with pytest.raises(TypeError):
        cast("Any", first.fields)["op"] = "g"
    assert [int(frame.arrays["a"].bits) for frame in (first, second)] == [1, 2]


def test_a_long_head_is_not_kept():
    (frame,) = read_from(pack(Frame("outcome", {"message": "x" * HEAD_KEPT_BYTES})))
    kept = _read_head.cache_info().currsize
    (again,) = read_from(pack(frame))
    assert again.fields == frame.fields
    assert _read_head.cache_info().currsize == kept


EXAMPLE = pack(Frame("call", {"op": "f"}, {"a": RawArray("float32", np.arange(3, dtype="<u4"))}))


@pytest.mark.parametrize("length", range(1, len(EXAMPLE)))
def test_a_stream_that_ends_inside_a_frame_is_refused(length: int):
    with pytest.raises(ProtocolError, match="ended"):
        read_from(EXAMPLE[:length])


def test_another_version_is_refused():
    data = HEADER.pack(MAGIC, VERSION + 1, 2, 2) + b"{}"
    with pytest.raises(ProtocolError, match=f"protocol version {VERSION + 1}"):
        read_from(data)


def test_what_is_no_frame_is_refused():
    with pytest.raises(ProtocolError, match="not a frame"):
        read_from(b"Epoch 1/10: loss 0.6931\n")


def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(ProtocolError, match="over the limit"):
        read_from(HEADER.pack(MAGIC, VERSION, 2, 1 << 60), limit=1 << 20)


def body(listed: object, tail: bytes = b"", **changed: object) -> tuple[bytes, int]:
    head = {"kind": "call", "fields": {}, "arrays": listed, **changed}
    text = json.dumps(head).encode()
    return text + tail, len(text)


@pytest.mark.parametrize(
    ("listed", "tail", "message"),
    [
        ([["a", "float32", [2]]], b"1234", "ends inside an array"),
        ([["a", "float32", [1 << 62, 1 << 62]]], b"", "ends inside an array"),
        ([["a", "float32", [1]]], b"12345", "left behind"),
        ([["a", "complex64", [1]]], b"12345678", "complex64"),
        ([["a", "float32", [-1]]], b"", "shape"),
        ([["a", "float32", [True]]], b"1234", "shape"),
        ([["a", "float32", 1]], b"1234", "shape"),
        ([["a", "float32"]], b"", "described by"),
        ([["a", ["float32"], [1]]], b"1234", "dtype"),
        ([[1, "float32", [1]]], b"1234", "dtype"),
        ([["a", "float32", [1] * 40]], b"1234", "array of shape"),
        ("a", b"", "lacks"),
    ],
)
def test_a_wrong_description_is_refused(listed: object, tail: bytes, message: str):
    with pytest.raises(ProtocolError, match=message):
        unpack_body(*body(listed, tail))


@pytest.mark.parametrize("text", [b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"kind": 1}'])
def test_a_head_that_is_not_an_object_is_refused(text: bytes):
    with pytest.raises(ProtocolError):
        unpack_body(text, len(text))


def test_json_longer_than_its_frame_is_refused():
    with pytest.raises(ProtocolError, match="cannot hold"):
        unpack_header(HEADER.pack(MAGIC, VERSION, 3, 2))


@given(frames, st.data())
def test_a_damaged_frame_is_read_or_refused_and_nothing_else(frame: Frame, data: st.DataObject):
    damaged = bytearray(pack(frame))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        read_from(bytes(damaged))
