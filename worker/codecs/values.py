"""One value's bytes → vectors, stream, time and boundaries; in three wire formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import msgspec
import numpy as np

from worker.codecs.explain import explain
from worker.codecs.fields import InputFields, Paths
from worker.codecs.parsing import is_utf8, parse, parse_command
from worker.codecs.readers import Reader, fast_readers, flat, flat_reader, shapes
from worker.codecs.unusable import UnusableError, shown
from worker.records.arrays import FloatArray
from worker.records.prompts import Prompt

CHUNK_VECTORS_LIMIT = 10_000
ID_LIMIT = 2**63  # the range of MessagePack's integers
ID_BYTES_LIMIT = 1_024  # of a sequence.id in its JSON form, without quotes: as many as a stream's name may have
JSON_BYTES_PER_CHARACTER = 6  # at most: \u0001

UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, UnusableError)


@dataclass(slots=True)
class Parsed:
    """The content of usable values, as columns; None where nothing was asked for. ``vectors``: one entry per value."""

    vectors: Sequence[Any] | FloatArray
    streams: list[Any] | None = None
    times: list[Any] | None = None
    ids: list[Any] | None = None
    starts: list[bool] | None = None
    ends: list[bool] | None = None
    prompts: list[Prompt] | None = None


class ValueFormat(Protocol):
    """One wire format."""

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        """All values at once, ``vectors`` an array (values, width); None when one of them is not plain."""

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        """One value, and whether it is a chunk: then ``vectors[0]`` is a list of vectors. Raises UnusableError."""

    def parse_command(self, value: bytes, what: str) -> Any:
        """The value of a command, an object. ``what`` names it in reasons. Raises UnusableError."""


def open_values(fields: InputFields, wire_format: str) -> ValueFormat:
    """The reader of a wire format: ``json``, ``msgpack`` or ``float32``."""
    return Float32(fields) if wire_format == "float32" else Structured(fields, wire_format)


class Structured:
    """JSON or MessagePack objects."""

    def __init__(self, fields: InputFields, wire_format: str) -> None:
        module = msgspec.json if wire_format == "json" else msgspec.msgpack
        self._fields, self._wire_format = fields, wire_format
        self._paths = Paths.of(fields).every()
        one, *others = ([(reader, module.Decoder(reader.type).decode) for reader in fast_readers(fields, shape)]
                        for shape in shapes(fields))  # fmt: skip
        self._fast = [*one, *(each for other in others for each in other)]
        self._flat = [flat_reader(fields, shape) for shape in shapes(fields)]
        # For a batch: the readers of the likeliest shape; where names have dots in several ways, or the parser can't
        # know them, also objects that are built and searched. The one that fitted last comes first.
        self._plain: list[tuple[Reader, Callable[[bytes], Any]]] = list(one)
        if len(one) != 1 or any(len(path.names) > 1 for path in self._paths):
            self._plain.append((self._flat[0], self._found))

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        if self._wire_format == "json" and not is_utf8(values):
            return None  # a reader does not check the parts that it skips
        for number, (reader, decode) in enumerate(self._plain):
            try:
                objects = list(map(decode, values))
                vectors = np.array(list(map(reader.features, objects)), np.float64)
                if vectors.shape != (len(values), self._fields.width):
                    continue
                columns = _columns(reader, objects, vectors)
            except UNREADABLE:
                continue
            if number:
                self._plain.insert(0, self._plain.pop(number))
            return columns
        return None

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        for reader, decode in self._fast if self._wire_format == "msgpack" or is_utf8((value,)) else ():
            try:
                found = decode(value)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            parsed = self._usable(reader, found)
            if parsed is not None:
                return parsed
        whole = parse(value, self._wire_format)
        for reader in self._flat if isinstance(whole, dict) else ():
            try:
                found = msgspec.convert(flat(self._paths, whole), reader.type)
            except (msgspec.MsgspecError, ValueError, OverflowError):
                continue
            parsed = self._usable(reader, found)
            if parsed is not None:
                return parsed
        raise UnusableError(*explain(self._fields, whole))

    def parse_command(self, value: bytes, what: str) -> Any:
        return parse_command(value, self._wire_format, what)

    def _found(self, value: bytes) -> Any:
        whole = parse(value, self._wire_format)
        if not isinstance(whole, dict):
            raise UnusableError("not_an_object", "")
        return msgspec.convert(flat(self._paths, whole), self._flat[0].type)

    def _usable(self, reader: Reader, found: Any) -> tuple[Parsed, bool] | None:
        """One value and whether it is a chunk; None where its vectors have another length than the model's."""
        vector = reader.features(found)
        if isinstance(vector, int | float):
            vector = (vector,)
        chunk = len(vector) > 0 and isinstance(vector[0], list)
        if len(vector) == 0 or any(len(each) != self._fields.width for each in (vector if chunk else [vector])):
            return None
        if chunk and len(vector) > CHUNK_VECTORS_LIMIT:
            raise UnusableError("too_large", f"{len(vector)} vectors in one record, above {CHUNK_VECTORS_LIMIT}")
        return _columns(reader, [found], [vector]), chunk


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

    def parse_command(self, value: bytes, what: str) -> Any:
        return parse_command(value, "json", what)


def _columns(reader: Reader, objects: list[Any], vectors: Sequence[Any] | FloatArray) -> Parsed:
    return Parsed(
        vectors=vectors,
        streams=None if reader.stream is None else list(map(reader.stream, objects)),
        times=None if reader.time is None else list(map(reader.time, objects)),
        ids=None if reader.id is None else usable_ids(list(map(reader.id, objects))),
        starts=None if reader.start is None else [as_flag(value) for value in map(reader.start, objects)],
        ends=None if reader.end is None else [as_flag(value) for value in map(reader.end, objects)],
    )


def usable_ids(found: list[Any]) -> list[Any]:
    """The values of sequence.id, as they are. Raises UnusableError."""
    # A value that no output can hold, or that does not equal itself, can't tell one sequence from another.
    kinds = set(map(type, found))
    if float in kinds or int in kinds:
        for value in found:
            if isinstance(value, float) and not isfinite(value):
                raise UnusableError("bad_field", f"a number that is not finite ({value}) can't be a sequence.id")
            if isinstance(value, int) and not -ID_LIMIT <= value < ID_LIMIT:
                raise UnusableError("bad_field", f"{shown(value)} (sequence.id) does not fit in an integer of 64 bits")
    if str in kinds:
        texts = found if len(kinds) == 1 else [value for value in found if isinstance(value, str)]
        if max(map(len, texts)) > ID_BYTES_LIMIT // JSON_BYTES_PER_CHARACTER:
            longest = max(map(_json_bytes, texts))
            if longest > ID_BYTES_LIMIT:
                raise UnusableError("too_large", f"sequence.id has {longest} bytes in JSON, above {ID_BYTES_LIMIT}")
    return found


def _json_bytes(text: str) -> int:
    return len(msgspec.json.encode(text)) - len('""')


def as_flag(value: Any) -> bool:
    """What marks a boundary, or null for none. Raises UnusableError."""
    if value is None or value is False or value is True:
        return bool(value)
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise UnusableError("bad_field", f"a sequence boundary is {shown(value)}, not true or false")
