"""How the bytes of a key or a header become a stream's name: text, or what a serializer made of a number or a UUID."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable

from worker.codecs.unusable import UnusableError

TEXT = "utf8"
INTEGERS = {"int32": struct.Struct(">i"), "int64": struct.Struct(">q")}  # as Kafka's own serializers write them
UUID_BYTES = 16
_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NUL = "\x00"

# Bytes, and what they are for messages ("the key") → the name. Raises UnusableError.
KeyFormat = Callable[[bytes, str], str]


def text(raw: bytes, what: str) -> str:
    """UTF-8 without NUL: keys that are no text often pass for it, but not all of them."""
    try:
        name = str(raw, "utf-8")
    except UnicodeDecodeError as error:
        reason = f"{what} is not UTF-8: byte {error.start} is {raw[error.start]:#04x} {_instead(raw)}"
        raise UnusableError("not_utf8", reason) from None
    if NUL in name:
        raise UnusableError("bad_key", f"{what} is not text: byte {raw.index(0)} is 0x00 {_instead(raw)}")
    return name


def _instead(raw: bytes) -> str:
    """The formats that take these bytes."""
    fitting = [name for name, integer in INTEGERS.items() if integer.size == len(raw)]
    fitting += ["uuid"] if len(raw) == UUID_BYTES else []
    return f"(input.stream_format: {' or '.join([*fitting, 'hex'])})"


def _integer(kind: str) -> KeyFormat:
    integer = INTEGERS[kind]

    def name(raw: bytes, what: str) -> str:
        if len(raw) != integer.size:
            raise UnusableError(
                "bad_key", f"{what} has {len(raw)} bytes, not {integer.size} (input.stream_format: {kind})"
            )
        return str(integer.unpack(raw)[0])

    return name


def _uuid(raw: bytes, what: str) -> str:
    """Sixteen bytes, or the text of one, which Kafka's own serializer writes; both in lower case with hyphens."""
    if len(raw) == UUID_BYTES:
        digits = raw.hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if _UUID.fullmatch(raw):
        return raw.decode().lower()
    reason = f"{what} is no UUID, neither its {UUID_BYTES} bytes nor its text (input.stream_format: uuid)"
    raise UnusableError("bad_key", reason)


FORMATS: dict[str, KeyFormat] = {
    TEXT: text,
    "hex": lambda raw, what: raw.hex(),
    "base64": lambda raw, what: base64.b64encode(raw).decode(),
    "int32": _integer("int32"),
    "int64": _integer("int64"),
    "uuid": _uuid,
}
