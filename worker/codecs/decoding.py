"""Records → events: a whole batch as columns when every record is plain, record by record when one is not.

Both ways give the same events. A record that can't be used becomes a Refusal and leaves its neighbours alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.codecs.commands import RESET, SET_STATE, command_of, parse_command
from worker.codecs.copying import TRACES_ALONE, Copied, Repeated
from worker.codecs.fields import InputFields
from worker.codecs.naming import KEY_BYTES_LIMIT, Naming
from worker.codecs.parsing import is_note
from worker.codecs.prompts import PromptFields, Prompts
from worker.codecs.times import EventTimes
from worker.codecs.unusable import UnusableError
from worker.codecs.values import Parsed, ValueFormat, open_values
from worker.codecs.vectors import not_whole, taken, unknown_id
from worker.records.arrays import NO_ITEM, NO_TIME_MS, FloatArray, IntArray
from worker.records.events import Events, Kind, Refusal
from worker.records.prompts import Prompt
from worker.records.record_batch import RecordBatch
from worker.records.reserved_words import TIMESTAMP
from worker.records.states import StateLayout

VALUE_BYTES_LIMIT = 1_048_576
READ_AS_ONE_RECORDS = 512  # of several batches, at most: more gain nothing, and one bad record costs the gain of all


def open_decoder(
    wire_format: str,
    fields: InputFields,
    layout: StateLayout,
    asked: PromptFields | None = None,
    repeated: Repeated = TRACES_ALONE,
) -> Decoder:
    """The decoder of a wire format: ``json``, ``msgpack`` or ``float32``. ``asked``: for tasks that generate."""
    if asked is None:
        return Decoder(open_values(fields, wire_format), fields, layout, repeated)
    return Decoder(Prompts(fields, asked, wire_format, layout.initial.dtype), fields, layout, repeated, prompts=True)


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
    prompts: list[Prompt | None] = field(default_factory=list)
    copied: list[Copied | None] = field(default_factory=list)
    payloads: dict[int, FloatArray] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


class Decoder:
    """Decodes batches for one configuration and one model.

    With ``prompts`` each record is one event without numbers of its own, and has a prompt.
    """

    def __init__(
        self,
        values: ValueFormat,
        fields: InputFields,
        layout: StateLayout,
        repeated: Repeated = TRACES_ALONE,
        prompts: bool = False,
    ) -> None:
        self._values = values
        self._fields = fields
        self._layout = layout
        self._names = Naming(fields)
        self._times = None if fields.time == TIMESTAMP else EventTimes(fields.time_unit)
        self._dtype = layout.initial.dtype
        self._repeated = repeated
        self._prompts = prompts
        self._width = 0 if prompts else fields.width

    def decode(self, batch: RecordBatch) -> Events:
        """The events of a batch, in record order; refusals apart."""
        return self._plain(batch) or self._mixed(batch)

    def decode_all(self, batches: Sequence[RecordBatch]) -> list[Events]:
        """As ``decode`` for each. Small batches are read as one: starting costs more than reading."""
        if len(batches) > 1 and sum(map(len, batches)) <= READ_AS_ONE_RECORDS:
            events = self._plain(RecordBatch.joined(batches))
            if events is not None:
                return events.cut(batches)
        return [self.decode(batch) for batch in batches]

    def _plain(self, batch: RecordBatch) -> Events | None:
        """All records at once; None when a single one needs a closer look."""
        values, keys = batch.values, batch.keys if self._names.needs_keys else ()
        if None in keys or None in values or not values:
            return None
        try:
            if any(batch.headers) and any(command_of(headers) is not None for headers in batch.headers):
                return None
            longest_key = max(map(len, keys), default=0)  # type: ignore[arg-type]
            if max(map(len, values)) > VALUE_BYTES_LIMIT or longest_key > KEY_BYTES_LIMIT:  # type: ignore[arg-type]
                return None
            parsed = self._values.parse_all(values)  # type: ignore[arg-type]
            if parsed is None:
                return None
            streams = self._names.of_all(batch, parsed.streams)
            copied = self._repeated.of_all(batch, values)  # type: ignore[arg-type]
        except (UnusableError, ValueError):
            return None
        numbers = np.asarray(parsed.vectors)
        with np.errstate(over="ignore"):
            vectors = numbers.astype(self._dtype)
        times = self._all_times(batch, parsed)
        if times is None or not np.isfinite(vectors).all() or not self._are_taken(numbers):
            return None
        count = len(values)
        return Events(
            batch=batch,
            records=np.arange(count),
            items=np.full(count, NO_ITEM, np.int64),
            kinds=np.zeros(count, np.uint8),
            streams=streams,
            vectors=vectors,
            times=times,
            ids=parsed.ids,
            starts=None if parsed.starts is None else np.array(parsed.starts, np.bool_),
            ends=None if parsed.ends is None else np.array(parsed.ends, np.bool_),
            copied=copied,
        )

    def _are_taken(self, numbers: FloatArray) -> bool:
        return unknown_id(self._fields, numbers) is None and not_whole(self._fields, numbers) is None

    def _all_times(self, batch: RecordBatch, parsed: Parsed) -> IntArray | None:
        if self._times is None or parsed.times is None:
            return np.array(batch.timestamps, np.int64)
        return self._times.of_all(parsed.times, batch.timestamps)

    def _mixed(self, batch: RecordBatch) -> Events:
        columns = _Columns()
        for record in range(len(batch)):
            try:
                self._one(batch, record, columns)
            except UnusableError as error:
                columns.refusals.append(Refusal(record, error.error, error.reason))
        count = len(columns.records)
        vectors = np.array(columns.vectors, np.float64).reshape(count, self._width).astype(self._dtype)
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
            prompts=columns.prompts if self._prompts else None,
            copied=columns.copied if self._repeated.fields else None,
            refusals=columns.refusals,
        )

    def _one(self, batch: RecordBatch, record: int, columns: _Columns) -> None:
        value = batch.values[record]
        if value is not None and len(value) > VALUE_BYTES_LIMIT:
            raise UnusableError("too_large", f"the value has {len(value)} bytes, above {VALUE_BYTES_LIMIT}")
        command = command_of(batch.headers[record])
        if command is None and value is not None:
            parsed, chunk = self._values.parse(value)
            named = None if parsed.streams is None else parsed.streams[0]
            stream, before = self._names.of(batch, record, named), len(columns.records)
            copied = self._repeated.of(batch.headers[record], value)
            self._add_steps(batch, record, columns, stream, parsed, chunk)
            columns.copied.extend([copied] * (len(columns.records) - before))
        else:
            self._add_command(batch, record, columns, command)

    def _add_command(self, batch: RecordBatch, record: int, columns: _Columns, command: bytes | None) -> None:
        value = batch.values[record]
        said: Any = None
        if command == SET_STATE:
            said = self._values.parse_command(value or b"", "the value of set-state")
        elif value and self._names.field is not None:
            said = self._said_by_the_value(value, command)
        kind, payload = (Kind.TOMBSTONE, None) if command is None else parse_command(command, said, self._layout)
        columns.streams.append(self._names.of_command(batch, record, said))
        if payload is not None:
            columns.payloads[len(columns.records)] = payload.astype(self._dtype)
        columns.records.append(record)
        columns.items.append(NO_ITEM)
        columns.kinds.append(kind)
        columns.vectors.append((0.0,) * self._width)
        columns.times.append(
            batch.timestamps[record] if self._times is None else NO_TIME_MS
        )  # at its partition's clock
        columns.ids.append(None)
        columns.starts.append(False)
        columns.ends.append(False)
        columns.prompts.append(None)
        columns.copied.append(None)

    def _said_by_the_value(self, value: bytes, command: bytes | None) -> Any:
        """What may name the stream. A reset needs no value: plain text is fine, but a torn object is not."""
        try:
            return self._values.parse_command(value, "the value")
        except UnusableError:
            if command == RESET and is_note(value):
                return None
            raise

    def _add_steps(
        self, batch: RecordBatch, record: int, columns: _Columns, stream: str, parsed: Parsed, chunk: bool
    ) -> None:
        vectors = parsed.vectors[0] if chunk else [parsed.vectors[0]]
        if parsed.prompts is None:
            taken(self._fields, vectors, self._dtype, chunk)
        time = batch.timestamps[record]
        if self._times is not None and parsed.times is not None:
            time = self._times.of(parsed.times[0], time)
        count = len(vectors)
        columns.records.extend([record] * count)
        columns.items.extend(range(count) if chunk else [NO_ITEM])
        columns.kinds.extend([Kind.STEP] * count)
        columns.streams.extend([stream] * count)
        columns.vectors.extend(vectors)
        columns.times.extend([time] * count)
        columns.ids.extend([None if parsed.ids is None else parsed.ids[0]] * count)
        # A chunk begins with its first vector and ends with its last.
        columns.starts.extend([bool(parsed.starts and parsed.starts[0]), *[False] * (count - 1)])
        columns.ends.extend([*[False] * (count - 1), bool(parsed.ends and parsed.ends[0])])
        columns.prompts.extend(parsed.prompts or [])
