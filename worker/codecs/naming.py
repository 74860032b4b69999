"""What names a record's stream: its key, a field of the key, a header, or a field of the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.codecs.fields import InputFields
from worker.codecs.key_formats import FORMATS, NUL, TEXT
from worker.codecs.parsing import parse_json
from worker.codecs.paths import MISSING, Path
from worker.codecs.unusable import HALVED, UnusableError, is_halved
from worker.records.record_batch import Headers, RecordBatch
from worker.records.reserved_words import HEADER, KEY, KEY_FIELD

KEY_BYTES_LIMIT = 1_024
NAME_BITS_LIMIT = KEY_BYTES_LIMIT * 4  # of an integer: a longer one has more digits than a name may have
ROLE = "(input.stream)"


class Naming:
    """For one ``input.stream``. The content of a field of the value is passed in as ``named``."""

    def __init__(self, fields: InputFields) -> None:
        stream = fields.stream
        self._format, self._plain = FORMATS[fields.stream_format], fields.stream_format == TEXT
        self._by_key = stream == KEY
        self._header = stream.removeprefix(HEADER) if stream.startswith(HEADER) else None
        self._key_field = Path.in_key(stream.removeprefix(KEY_FIELD)) if stream.startswith(KEY_FIELD) else None
        in_value = not self._by_key and self._header is None and self._key_field is None
        self.field = Path.of(stream) if in_value else None

    def of_all(self, batch: RecordBatch, named: Sequence[Any] | None) -> list[str]:
        """(records,) Raises UnusableError or ValueError when one of them needs a closer look."""
        if self._by_key and self._plain:
            streams = [str(key, "utf-8") for key in batch.keys]  # type: ignore[arg-type]  # None: a TypeError is a bug
        elif named is not None:
            if float in set(map(type, named)):  # only where the field is a feature, too
                raise UnusableError("bad_field", "")
            streams = list(map(str, named))
        else:
            streams = [self.of(batch, record, None) for record in range(len(batch))]
        # Characters are quick to count, and none has more than four bytes; names that may be too long are measured one
        # by one.
        nul = NUL in "".join(streams)
        if nul and self._by_key:  # no text
            raise UnusableError("bad_key", "")
        if nul or max(map(len, streams)) > KEY_BYTES_LIMIT // 4:
            streams = list(map(_storable, streams))
        return streams

    def of(self, batch: RecordBatch, record: int, named: Any) -> str:
        """Of one record. Raises UnusableError."""
        if self.field is not None:
            return _storable(_name(named, f"field '{self.field}'"))
        if self._header is not None:
            return _storable(self._format(*_of_header(batch.headers[record], self._header)))
        if self._key_field is not None:
            return _storable(_of_key_field(batch.keys[record], self._key_field))
        return self._of_key(batch.keys[record], "names the stream")

    def of_command(self, batch: RecordBatch, record: int, value: Any) -> str:
        """Of a command or tombstone. ``value``: what the value says, None where it has none. Raises UnusableError."""
        if self.field is None:
            return self.of(batch, record, None)
        named = self.field.find(value)
        if named is not MISSING:
            return self.of(batch, record, named)
        return self._of_key(batch.keys[record], f"names the stream of a record without field '{self.field}'")

    def _of_key(self, key: bytes | None, does: str) -> str:
        if key is None:
            raise UnusableError("no_key", f"the record has no key, and the key {does} {ROLE}")
        return _storable(self._format(key, "the key"))

    @property
    def needs_keys(self) -> bool:
        """Whether a record without a key can't be used."""
        return self._by_key or self._key_field is not None


def _of_header(headers: Headers | None, header: str) -> tuple[bytes, str]:
    """Its value, and what it is for messages. The last one counts, as for all Kafka headers."""
    values = [value for name, value in headers or () if name == header]
    if not values:
        raise UnusableError("header_missing", f"the record has no header '{header}', which names the stream {ROLE}")
    if values[-1] is None:
        raise UnusableError("header_missing", f"header '{header}', which names the stream {ROLE}, has no value")
    return values[-1], f"header '{header}'"


def _of_key_field(key: bytes | None, path: Path) -> str:
    if key is None:
        raise UnusableError("no_key", f"the record has no key, and field '{path}' of the key names the stream {ROLE}")
    found = path.find(parse_json(key, "the key"))
    if found is MISSING:
        raise UnusableError("field_missing", f"field '{path}' of the key {ROLE} is missing")
    return _name(found, f"field '{path}' of the key")


def _name(found: Any, what: str) -> str:
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise UnusableError("bad_field", f"{what} {ROLE} is not a string or an integer")
    if is_halved(found):
        raise UnusableError("bad_field", f"{what} {ROLE} {HALVED}")
    if isinstance(found, int) and found.bit_length() > NAME_BITS_LIMIT:
        raise _too_long()
    return str(found)


def _storable(stream: str) -> str:
    if len(stream) > KEY_BYTES_LIMIT // 4 and len(stream.encode()) > KEY_BYTES_LIMIT:
        raise _too_long()
    if stream.endswith(NUL):
        # HDF5's fixed-length strings end at trailing NULs: two names would become one.
        raise UnusableError("bad_key", "the stream's name ends with a NUL character")
    return stream


def _too_long() -> UnusableError:
    return UnusableError("too_large", f"the stream's name is longer than {KEY_BYTES_LIMIT} bytes")
