"""Records → events: a whole batch as columns when every record is plain, record by record when one is not.

Both ways give the same events. A record that can't be used becomes a Refusal and leaves its neighbours alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.codecs.commands import StateLayout, command_of, parse_command
from worker.codecs.fields import KEY, TIMESTAMP, InputFields
from worker.codecs.unusable import UnusableError
from worker.codecs.values import Float32, Parsed, Structured, ValueFormat
from worker.id_numbers import unknown_ids
from worker.records import Events, FloatArray, Kind, RecordBatch, Refusal

VALUE_BYTES_LIMIT = 1_048_576
KEY_BYTES_LIMIT = 1_024
NO_ITEM = -1
NO_TIME = -1  # of commands where a field tells the time: they happen at their partition's clock
READ_AS_ONE_RECORDS = 512  # of several batches, at most: beyond it nothing is gained, and one bad record costs it all


def open_decoder(form: str, fields: InputFields, layout: StateLayout) -> Decoder:
    """The decoder of a wire format: ``json``, ``msgpack`` or ``float32``."""
    values: ValueFormat = Float32(fields) if form == "float32" else Structured(fields, form)
    return Decoder(values, fields, layout)


@dataclass(slots=True)
class _Columns:
    records: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    vectors: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    payloads: dict[int, FloatArray] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


class Decoder:
    """Decodes batches for one configuration and one model."""

    def __init__(self, values: ValueFormat, fields: InputFields, layout: StateLayout) -> None:
        self._values = values
        self._fields = fields
        self._layout = layout
        self._by_key = fields.stream == KEY
        self._by_timestamp = fields.time == TIMESTAMP
        self._dtype = layout.initial.dtype

    def decode(self, batch: RecordBatch, replay: bool = False) -> Events:
        """The events of a batch, in record order; refusals apart."""
        events = self._plain(batch) or self._mixed(batch)
        events.replay = replay
        return events

    def decode_all(self, batches: Sequence[tuple[RecordBatch, bool]]) -> list[Events]:
        """As ``decode`` for each (batch, replay). Small batches are read as one: to begin costs more than to read."""
        if len(batches) > 1 and sum(len(batch) for batch, _ in batches) <= READ_AS_ONE_RECORDS:
            events = self._plain(RecordBatch.joined([batch for batch, _ in batches]))
            if events is not None:
                return events.cut(batches)
        return [self.decode(batch, replay) for batch, replay in batches]

    def _plain(self, batch: RecordBatch) -> Events | None:
        """All records at once; None when a single one needs a closer look."""
        keys, values = batch.keys, batch.values
        if None in keys or None in values or any(batch.headers) or not values:
            return None
        try:
            if max(map(len, values)) > VALUE_BYTES_LIMIT or max(map(len, keys)) > KEY_BYTES_LIMIT:  # type: ignore[arg-type]
                return None
            parsed = self._values.parse_all(values)  # type: ignore[arg-type]
            streams = [str(key, "utf-8") for key in keys] if self._by_key else None  # type: ignore[arg-type]
        except UnicodeDecodeError:
            return None
        if parsed is None:
            return None
        with np.errstate(over="ignore"):
            vectors = np.asarray(parsed.vectors).astype(self._dtype)
        names = streams if streams is not None else parsed.streams or []
        if (
            not np.isfinite(vectors).all()
            or self._unknown_id(vectors) is not None
            or any(map(_unstorable, names))
            or not _short(names)
        ):
            return None
        count = len(values)
        return Events(
            batch=batch,
            records=np.arange(count),
            items=np.full(count, NO_ITEM, np.int64),
            kinds=np.zeros(count, np.uint8),
            streams=names,
            vectors=vectors,
            times=np.array(batch.timestamps if parsed.times is None else parsed.times, np.int64),
            ids=parsed.ids,
            starts=None if parsed.starts is None else np.array(parsed.starts, np.bool_),
            ends=None if parsed.ends is None else np.array(parsed.ends, np.bool_),
        )

    def _unknown_id(self, vectors: FloatArray) -> str | None:
        """What is wrong with the first id, of vectors (n, features), that the model does not know."""
        for columns, below in self._fields.ids:
            ids = vectors[:, columns]
            wrong = ids[unknown_ids(ids, below)]
            if len(wrong):
                return f"{wrong[0]:g} is not an id that the model knows: they are whole numbers from 0 to {below - 1}"
        return None

    def _mixed(self, batch: RecordBatch) -> Events:
        columns = _Columns()
        for record in range(len(batch)):
            try:
                self._one(batch, record, columns)
            except UnusableError as error:
                columns.refusals.append(Refusal(record, error.error, error.reason))
        count = len(columns.records)
        vectors = np.array(columns.vectors, np.float64).reshape(count, self._fields.width).astype(self._dtype)
        return Events(
            batch=batch,
            records=np.array(columns.records, np.int64),
            items=np.array(columns.items, np.int64),
            kinds=np.array(columns.kinds, np.uint8),
            streams=columns.streams,
            vectors=vectors,
            times=np.array(columns.times, np.int64),
            ids=None if self._fields.id is None else columns.ids,
            starts=None if self._fields.start is None else np.array(columns.starts, np.bool_),
            ends=None if self._fields.end is None else np.array(columns.ends, np.bool_),
            payloads=columns.payloads,
            refusals=columns.refusals,
        )

    def _one(self, batch: RecordBatch, record: int, columns: _Columns) -> None:
        value, key = batch.values[record], batch.keys[record]
        if value is not None and len(value) > VALUE_BYTES_LIMIT:
            raise UnusableError("too_large", f"the value has {len(value)} bytes, above {VALUE_BYTES_LIMIT}")
        command = command_of(batch.headers[record])
        if command is not None:
            kind, payload = parse_command(command, value, self._layout)
            if payload is not None:
                columns.payloads[len(columns.records)] = payload.astype(self._dtype)
            self._add_command(batch, record, columns, kind, value)
        elif value is None:
            self._add_command(batch, record, columns, Kind.TOMBSTONE, value)
        else:
            parsed, chunk = self._values.parse(value)
            stream = parsed.streams[0] if parsed.streams is not None else _stream_of_key(key)
            self._add_steps(batch, record, columns, _storable(stream), parsed, chunk)

    def _add_command(self, batch: RecordBatch, record: int, columns: _Columns, kind: Kind, value: bytes | None) -> None:
        named = None if self._by_key or value is None else self._values.stream_of(value)
        try:
            stream = _storable(named if named is not None else _stream_of_key(batch.keys[record]))
        except UnusableError:
            columns.payloads.pop(len(columns.records), None)
            raise
        columns.records.append(record)
        columns.items.append(NO_ITEM)
        columns.kinds.append(kind)
        columns.streams.append(stream)
        columns.vectors.append((0.0,) * self._fields.width)
        columns.times.append(batch.timestamps[record] if self._by_timestamp else NO_TIME)
        columns.ids.append(None)
        columns.starts.append(False)
        columns.ends.append(False)

    def _add_steps(
        self, batch: RecordBatch, record: int, columns: _Columns, stream: str, parsed: Parsed, chunk: bool
    ) -> None:
        vectors = parsed.vectors[0] if chunk else [parsed.vectors[0]]
        with np.errstate(over="ignore"):
            numbers = np.array(vectors, np.float64).astype(self._dtype)
        if not np.isfinite(numbers).all():
            raise UnusableError("not_finite", "a number is NaN, infinite or too large for the model's numbers")
        unknown = self._unknown_id(numbers)
        if unknown is not None:
            raise UnusableError("unknown_id", unknown)
        count = len(vectors)
        columns.records.extend([record] * count)
        columns.items.extend(range(count) if chunk else [NO_ITEM])
        columns.kinds.extend([Kind.STEP] * count)
        columns.streams.extend([stream] * count)
        columns.vectors.extend(vectors)
        columns.times.extend([batch.timestamps[record] if parsed.times is None else parsed.times[0]] * count)
        columns.ids.extend([None if parsed.ids is None else parsed.ids[0]] * count)
        # A chunk begins with its first vector and ends with its last.
        columns.starts.extend([bool(parsed.starts and parsed.starts[0]), *[False] * (count - 1)])
        columns.ends.extend([*[False] * (count - 1), bool(parsed.ends and parsed.ends[0])])


def _stream_of_key(key: bytes | None) -> str:
    if key is None:
        raise UnusableError("no_key", "the record has no key, and the key names the stream (input.stream)")
    try:
        return str(key, "utf-8")
    except UnicodeDecodeError as error:
        raise UnusableError(
            "not_utf8", f"the key is not UTF-8: byte {error.start} is {key[error.start]:#04x}"
        ) from None


def _storable(stream: str) -> str:
    if len(stream.encode(errors="surrogatepass")) > KEY_BYTES_LIMIT:
        raise UnusableError("too_large", f"the stream's name is longer than {KEY_BYTES_LIMIT} bytes")
    if _unstorable(stream):
        raise UnusableError("bad_key", "the stream's name ends with a NUL character")
    return stream


def _short(streams: list[str]) -> bool:
    # Characters are quick to count, and none has more than four bytes; longer names are measured one by one.
    return max(map(len, streams)) <= KEY_BYTES_LIMIT // 4


def _unstorable(stream: str) -> bool:
    # HDF5's fixed-length strings end at trailing NULs: two names would become one.
    return stream.endswith("\x00")
