"""Bytes → an object, whatever is in it, or why not. Slower than ``readers``: for what they don't take.

JSON is read as leniently as does no harm: a byte order mark, NaN, numbers without limit and texts with half a surrogate
pair are told from other damage, because a field that nobody reads should not cost the event. Who reads one checks it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from worker.codecs.unusable import UnusableError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REGISTRY_BYTES = 5  # a zero byte and a schema's number, before the value itself
DIGITS_LIMIT = 4000  # Python turns no longer text into an integer
HUGE: int = 10**DIGITS_LIMIT  # stands for any longer integer: nothing takes it
KNOWN_STARTS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Decoder()


def parse(data: bytes, form: str, what: str = "the value") -> Any:
    """``form`` is json or msgpack, ``what`` names the bytes in reasons. Raises UnusableError."""
    return parse_json(data, what) if form == "json" else parse_msgpack(data, what)


def parse_json(data: bytes, what: str = "the value") -> Any:
    """Any JSON value. Raises UnusableError."""
    data = data.removeprefix(BYTE_ORDER_MARK)
    try:
        return _json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        strict = error
    if data[:1] == b"\x00" and len(data) > REGISTRY_BYTES:
        schema = int.from_bytes(data[1:REGISTRY_BYTES], "big")
        framed = f"it begins with a schema registry's five bytes (schema {schema}), which can't be read yet"
        raise UnusableError("not_json", f"{what} is not JSON: {framed}")
    try:
        found = json.loads(data.decode(), parse_int=_integer)
    except UnicodeDecodeError as error:
        at = f"byte {error.start} is {data[error.start]:#04x}"
        raise UnusableError("not_utf8", f"{what} is not UTF-8: {at}{_known_start(data)}") from None
    except RecursionError:
        raise UnusableError("not_json", f"{what} is not JSON that can be read: it is nested too deeply") from None
    except ValueError:
        why = f"{strict}{_known_start(data)}" if data.strip() else "it is empty"
        raise UnusableError("not_json", f"{what} is not JSON: {why}") from None
    return found


def parse_msgpack(data: bytes, what: str = "the value") -> Any:
    """Any MessagePack value. Raises UnusableError."""
    try:
        return _msgpack.decode(data)
    except RecursionError:
        reason = "that can be read: it is nested too deeply"
        raise UnusableError("not_msgpack", f"{what} is not MessagePack {reason}") from None
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        like = "; it begins like JSON (input.format)" if data[:1] in (b"{", b"[") else ""
        raise UnusableError("not_msgpack", f"{what} is not MessagePack: {error}{like}{_known_start(data)}") from None


def is_note(data: bytes) -> bool:
    """Whether it is a text that begins like no object: then no field is in it, whatever else is wrong with it."""
    try:
        text = data.removeprefix(BYTE_ORDER_MARK).decode().lstrip()
    except UnicodeDecodeError:
        return False
    return not text or (text[0].isprintable() and text[0] != "{")


def _integer(digits: str) -> int:
    if len(digits) <= DIGITS_LIMIT:
        return int(digits)
    return -HUGE if digits.startswith("-") else HUGE


def _known_start(data: bytes) -> str:
    found = next((name for start, name in KNOWN_STARTS.items() if data.startswith(start)), None)
    return f"; it begins like {found}" if found else ""
