"""Bytes → an object, whatever is in it, or the reason why not. Slower than ``readers``: for values that these don't
take.

JSON is read as leniently as is harmless: a byte order mark, NaN, numbers without limit and texts with half a surrogate
pair are told from other damage, because a bad field that nobody reads should not cost the event. The reader of a field
checks it. The same holds for MessagePack's texts, into which older writers put any bytes. JSON is UTF-8 as a whole or
not JSON at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from worker.codecs.paths import PATH_NAMES_LIMIT
from worker.codecs.unusable import UnusableError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REGISTRY_BYTES = 5  # a zero byte and a schema's number, before the value itself
SCHEMA_LIMIT = 1_000_000  # registries count up from 1 or from 100,001: larger ones are bytes of something else
DIGITS_LIMIT = 4000  # Python turns no text longer than this into an integer
HUGE: int = 10**DIGITS_LIMIT  # stands for any longer integer: nothing takes it
KNOWN_STARTS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

BLANK = re.compile(r"[ \t\n\r]*")

_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Decoder()
_msgpack_parts = msgspec.msgpack.Decoder(dict[Any, msgspec.Raw])


def parse(data: bytes, wire_format: str, what: str = "the value") -> Any:
    """``wire_format`` is json or msgpack, ``what`` names the bytes in reasons. Raises UnusableError."""
    return parse_json(data, what) if wire_format == "json" else parse_msgpack(data, what)


def parse_command(data: bytes, wire_format: str, what: str) -> Any:
    """The value of a command, an object. ``wire_format`` is json or msgpack. Raises UnusableError."""
    if wire_format == "json":
        return parse_json(data, what)
    try:
        found = parse_msgpack(data, what)
    except UnusableError as error:
        found, reason = None, error
    else:
        reason = UnusableError("not_msgpack", f"{what} is not an object in MessagePack")
    if not isinstance(found, dict):
        # JSON is accepted, too: no JSON object is also valid MessagePack.
        try:
            found = parse_json(data, what)
        except UnusableError:
            raise UnusableError(reason.error, f"{reason.reason}, and not JSON either") from None
    return found


def parse_json(data: bytes, what: str = "the value") -> Any:
    """Any JSON value. Raises UnusableError."""
    data = data.removeprefix(BYTE_ORDER_MARK)
    try:
        return _json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        strict = error
    if _is_utf16(data):
        raise UnusableError("not_utf8", f"{what} is not UTF-8: it looks like UTF-16 (without a mark)")
    if data[:1] == b"\x00" and len(data) > REGISTRY_BYTES:
        _refuse_framed(data, what)
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


def parse_json_members(data: bytes) -> dict[str, tuple[Any, bytes]]:
    """The members of an object, each also with its original text. Raises ValueError or RecursionError."""
    text, decoder = data.decode("utf-8-sig"), json.JSONDecoder(parse_int=_integer)
    if not isinstance(decoder.decode(text), dict):
        raise ValueError("it is not an object")
    members, at = {}, _after_blank(text, text.index("{") + 1)
    while text[at] != "}":  # it has been read as a whole: nothing can be missing
        name, at = decoder.raw_decode(text, at)
        start = _after_blank(text, text.index(":", at) + 1)
        member, end = decoder.raw_decode(text, start)
        members[name] = member, text[start:end].encode()
        at = _after_blank(text, end)
        if text[at] == ",":
            at = _after_blank(text, at + 1)
    return members


def parse_msgpack(data: bytes, what: str = "the value") -> Any:
    """Any MessagePack value. Raises UnusableError."""
    try:
        try:
            return _msgpack.decode(data)
        except UnicodeDecodeError:
            return _msgpack_with_other_texts(data, PATH_NAMES_LIMIT)
    except RecursionError:
        reason = "that can be read: it is nested too deeply"
        raise UnusableError("not_msgpack", f"{what} is not MessagePack {reason}") from None
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        like = "; it begins like JSON (input.format)" if data[:1] in (b"{", b"[") else ""
        raise UnusableError("not_msgpack", f"{what} is not MessagePack: {error}{like}{_known_start(data)}") from None


def is_utf8(values: Sequence[bytes]) -> bool:
    """Whether all of them are. ASCII is recognised at once, and most values are nothing else."""
    if all(map(bytes.isascii, values)):
        return True
    try:
        for value in values:
            value.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_note(data: bytes) -> bool:
    """Whether it is a text that does not begin like an object: then it holds no field, however broken it is."""
    try:
        text = data.removeprefix(BYTE_ORDER_MARK).decode().lstrip()
    except UnicodeDecodeError:
        return False
    return not text or (text[0].isprintable() and text[0] != "{")


def _after_blank(text: str, at: int) -> int:
    found = BLANK.match(text, at)
    return found.end() if found else at


def _is_utf16(data: bytes) -> bool:
    """JSON begins with two characters of ASCII: as UTF-16 without a byte order mark, every other byte is zero."""
    zeros = [byte == 0 for byte in data[:4]]
    if zeros not in ([True, False] * 2, [False, True] * 2):
        return False
    try:
        return data.decode("utf-16-be" if zeros[0] else "utf-16-le").lstrip()[:1].isprintable()
    except UnicodeDecodeError:
        return False


def _refuse_framed(data: bytes, what: str) -> None:
    """Raises UnusableError for a value that a schema registry's client has written, as its first bytes show."""
    schema = int.from_bytes(data[1:REGISTRY_BYTES], "big")
    if 0 < schema < SCHEMA_LIMIT:
        begins = "begins" if data[REGISTRY_BYTES:].lstrip()[:1] in (b"{", b"[") else "may begin"
        framed = f"it {begins} with a schema registry's five bytes (schema {schema}), which can't be read yet"
        raise UnusableError("not_json", f"{what} is not JSON: {framed}")


def _msgpack_with_other_texts(data: bytes, depth: int) -> Any:
    """An object in which texts that are not UTF-8 are bytes, like those that MessagePack knows beside texts.

    ``depth``: of objects in objects; nobody names a field that is deeper.
    """
    members: dict[Any, Any] = _msgpack_parts.decode(data)
    for name, member in members.items():
        raw = bytes(member)
        try:
            members[name] = _msgpack.decode(raw)
        except UnicodeDecodeError:
            is_object = raw[0] & 0xF0 == 0x80 or raw[0] in (0xDE, 0xDF)
            members[name] = _msgpack_with_other_texts(raw, depth - 1) if is_object and depth else raw
    return members


def _integer(digits: str) -> int:
    if len(digits) <= DIGITS_LIMIT:
        return int(digits)
    return -HUGE if digits.startswith("-") else HUGE


def _known_start(data: bytes) -> str:
    found = next((name for start, name in KNOWN_STARTS.items() if data.startswith(start)), None)
    return f"; it begins like {found}" if found else ""
