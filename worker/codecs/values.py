"""One value's bytes → vectors, and what it says of stream, time and boundaries; in three wire formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Protocol

import msgspec
import numpy as np

from worker.codecs.explain import explain
from worker.codecs.fields import InputFields, Reader, readers
from worker.codecs.unusable import UnusableError
from worker.records import FloatArray

CHUNK_VECTORS_LIMIT = 10_000
TIME_MS_LIMIT = 2**53  # as far as JSON numbers are exact
ID_LIMIT = 2**63  # as far as MessagePack's integers go both ways


@dataclass(slots=True)
class Parsed:
    """What usable values say, as columns; None where nothing was asked for. ``vectors``: one entry per value."""

    vectors: Sequence[Any] | FloatArray
    streams: list[str] | None = None
    times: list[int] | None = None
    ids: list[Any] | None = None
    starts: list[bool] | None = None
    ends: list[bool] | None = None


class ValueFormat(Protocol):
    """One wire format."""

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        """All values at once, ``vectors`` an array (values, width); None when one of them is not plain."""

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        """One value, and whether it is a chunk: then ``vectors[0]`` is a list of vectors. Raises UnusableError."""

    def stream_of(self, value: bytes) -> str | None:
        """The stream that a command's value names, None when it names none."""


class Structured:
    """JSON or MessagePack objects."""

    def __init__(self, fields: InputFields, form: str) -> None:
        module = msgspec.json if form == "json" else msgspec.msgpack
        self._fields = fields
        self._form = form
        self._any = module.Decoder()
        self._readers = [(reader, module.Decoder(reader.type).decode) for reader in readers(fields)]

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        reader, decode = self._readers[0]
        try:
            objects = list(map(decode, values))
            vectors = np.array(list(map(reader.features, objects)), np.float64)
            if vectors.shape != (len(values), self._fields.width):
                return None
            return _columns(reader, objects, vectors)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, UnusableError):
            return None

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        for reader, decode in self._readers:
            try:
                found = decode(value)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            vector = reader.features(found)
            if isinstance(vector, float):
                vector = (vector,)
            chunk = len(vector) > 0 and isinstance(vector[0], list)
            if len(vector) == 0 or any(len(each) != self._fields.width for each in (vector if chunk else [vector])):
                break
            if chunk and len(vector) > CHUNK_VECTORS_LIMIT:
                raise UnusableError("too_large", f"{len(vector)} vectors in one record, above {CHUNK_VECTORS_LIMIT}")
            return _columns(reader, [found], [vector]), chunk
        raise UnusableError(*explain(self._fields, value, self._any.decode, self._form))

    def stream_of(self, value: bytes) -> str | None:
        try:
            found = self._any.decode(value)
            for part in self._fields.stream.split("."):
                found = found[part]
        except (msgspec.MsgspecError, ValueError, RecursionError, LookupError, TypeError):
            return None
        return str(found) if isinstance(found, str | int) else None


class Float32:
    """A raw vector: little-endian float32, 4 bytes a number."""

    def __init__(self, fields: InputFields) -> None:
        self._width = fields.width

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        size = 4 * self._width
        if any(len(value) != size for value in values):
            return None
        return Parsed(np.frombuffer(b"".join(values), "<f4").reshape(len(values), self._width))

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        if len(value) != 4 * self._width:
            wanted = f"{4 * self._width} bytes ({self._width} float32)"
            raise UnusableError("wrong_length", f"the value has {len(value)} bytes; the model takes {wanted}")
        return Parsed([np.frombuffer(value, "<f4").tolist()]), False

    def stream_of(self, value: bytes) -> str | None:
        return None


def _columns(reader: Reader, objects: list[Any], vectors: Sequence[Any] | FloatArray) -> Parsed:
    return Parsed(
        vectors=vectors,
        streams=None if reader.stream is None else _names(list(map(reader.stream, objects))),
        times=None if reader.time is None else [_milliseconds(value) for value in map(reader.time, objects)],
        ids=None if reader.id is None else _ids(list(map(reader.id, objects))),
        starts=None if reader.start is None else [_flag(value) for value in map(reader.start, objects)],
        ends=None if reader.end is None else [_flag(value) for value in map(reader.end, objects)],
    )


def _names(found: list[Any]) -> list[str]:
    if float in set(map(type, found)):  # only where the field is a feature too
        raise UnusableError("bad_field", "the field that names the stream (input.stream) is not a string or an integer")
    return list(map(str, found))


def _ids(found: list[Any]) -> list[Any]:
    # What no output could say, or what equals not even itself, can't tell one sequence from another.
    for value in found:
        if isinstance(value, float) and not isfinite(value):
            raise UnusableError("bad_field", f"a number that is not finite ({value}) is no sequence.id")
        if isinstance(value, int) and not -ID_LIMIT <= value < ID_LIMIT:
            raise UnusableError("bad_field", f"{str(value)[:40]}… (sequence.id) is more than an integer of 64 bits")
    return found


def _flag(value: Any) -> bool:
    if value is None or value is False or value is True:
        return bool(value)
    if value in (0, 1):
        return bool(value)
    raise UnusableError("bad_field", f"a sequence boundary is {repr(value)[:40]}, not true or false")


def _milliseconds(value: Any) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise UnusableError("bad_time", f"'{value[:40]}' (input.time) is not an ISO 8601 time") from None
        # A time without a zone is UTC: the machine's own zone must not decide about gaps.
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    if not 0 <= value <= TIME_MS_LIMIT:
        raise UnusableError("bad_time", f"{str(value)[:40]} (input.time) is not a time in milliseconds since the epoch")
    milliseconds: int = round(value)
    return milliseconds
