"""Keys that are not text: what names a stream, and what is said of keys that another format takes."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.test_field_names import decode, why
from worker.codecs.fields import InputFields
from worker.codecs.key_formats import FORMATS
from worker.codecs.unusable import UnusableError

SOME = uuid.UUID("12345678-1234-5678-9234-567812345678")
NO_UUID = "is no UUID, neither its 16 bytes nor its text (input.stream_format: uuid)"
int32, int64 = struct.Struct(">i").pack, struct.Struct(">q").pack


def named(kind: str, *keys: bytes | None) -> tuple[list[str], list[Any]]:
    events = decode("json", InputFields(1, ("x",), stream_format=kind), *[{"x": 1}] * len(keys), keys=[*keys])
    return events.streams, why(events)


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("utf8", "Gerät 1".encode(), "Gerät 1"),
        ("hex", b"\x00\xff", "00ff"),
        ("hex", b"", ""),
        ("base64", b"\x00\xff", "AP8="),
        ("int32", int32(-7), "-7"),
        ("int64", int64(65536), "65536"),
        ("int64", int64(-(2**63)), str(-(2**63))),
        ("uuid", SOME.bytes, str(SOME)),
        ("uuid", str(SOME).upper().encode(), str(SOME)),
    ],
)
def test_bytes_become_a_name(kind: str, key: bytes, name: str) -> None:
    assert named(kind, key, key) == ([name, name], [])


@pytest.mark.parametrize(
    ("kind", "key", "error", "reason"),
    [
        ("utf8", int64(128), "not_utf8", "the key is not UTF-8: byte 7 is 0x80 (input.stream_format: int64 or hex)"),
        ("utf8", int64(42), "bad_key", "the key is not text: byte 0 is 0x00 (input.stream_format: int64 or hex)"),
        ("utf8", int32(1), "bad_key", "the key is not text: byte 0 is 0x00 (input.stream_format: int32 or hex)"),
        ("utf8", SOME.bytes, "not_utf8", "the key is not UTF-8: byte 8 is 0x92 (input.stream_format: uuid or hex)"),
        ("int64", b"device 1!", "bad_key", "the key has 9 bytes, not 8 (input.stream_format: int64)"),
        ("int32", b"", "bad_key", "the key has 0 bytes, not 4 (input.stream_format: int32)"),
        ("uuid", b"device", "bad_key", f"the key {NO_UUID}"),
        ("uuid", b"\xff" * 36, "bad_key", f"the key {NO_UUID}"),
        ("hex", b"k" * 513, "too_large", "the stream's name is longer than 1024 bytes"),
        ("base64", b"k" * 769, "too_large", "the stream's name is longer than 1024 bytes"),
    ],
)
def test_what_is_none_is_said_and_harms_no_neighbour(kind: str, key: bytes, error: str, reason: str) -> None:
    good = {"int32": int32(7), "int64": int64(7), "uuid": SOME.bytes}.get(kind, b"d")
    streams, refusals = named(kind, good, key, good)
    assert (len(streams), refusals) == (2, [(error, reason)])


@pytest.mark.parametrize("kind", FORMATS)
@given(one=st.binary(max_size=40), other=st.binary(max_size=40))
def test_two_keys_have_two_names(kind: str, one: bytes, other: bytes) -> None:
    """But for the spellings of a UUID."""
    try:
        names = [FORMATS[kind](key, "the key") for key in (one, other)]
    except UnusableError:
        return
    assert (names[0] == names[1]) == (one == other) or kind == "uuid"


def test_headers_and_keys_of_commands_are_read_alike() -> None:
    fields = InputFields(1, ("x",), stream="header:device", stream_format="int64")
    events = decode("json", fields, {"x": 1}, None, headers=[[("device", int64(42))]] * 2)
    assert (events.streams, why(events)) == (["42", "42"], [])
    fields = InputFields(1, ("x",), stream="id", stream_format="int64")
    events = decode("json", fields, {"x": 1, "id": 42}, None, keys=[b"k", int64(42)])
    assert (events.streams, why(events)) == (["42", "42"], [])
