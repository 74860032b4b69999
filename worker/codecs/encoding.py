"""Predictions → bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from msgspec import UNSET, UnsetType

from worker.records.arrays import NO_ITEM, FloatArray, Index, IntArray
from worker.records.carried_headers import TRACES, CarriedHeaders
from worker.records.events import Events, Origin, Predictions, Reset
from worker.records.messages import Messages
from worker.records.record_batch import RecordBatch

RESET_NAMES: list[str | None] = [None if reset is Reset.NONE else reset.name.lower() for reset in Reset]
ORIGIN_NAMES = [origin.name.lower() for origin in Origin]


Value = TypeVar("Value")


class Source(msgspec.Struct, gc=False):
    """The input record of an output; with ``item`` the identity by which consumers drop repeats."""

    topic: str
    partition: int
    offset: int
    item: int | UnsetType = UNSET


class Output(msgspec.Struct, gc=False):
    """One output record, fields in the order in which they are written."""

    stream: str
    sequence: Any
    step: int
    probabilities: Any
    label: str | UnsetType
    final: bool
    reset: str | None
    time: int
    origin: str
    model: str
    fields: Any
    source: Source


class Encoder:
    """Encodes predictions as ``json`` or ``msgpack``. ``labels`` names the units, ``model`` is the short SHA-256."""

    def __init__(
        self,
        wire_format: str,
        model: str,
        labels: Sequence[str] | None,
        stream_is_key: bool,
        carried: CarriedHeaders = TRACES,
    ) -> None:
        self._json = wire_format == "json"
        self._encode = (msgspec.json.Encoder() if self._json else msgspec.msgpack.Encoder()).encode
        self._model = model
        self._labels = list(labels) if labels else None
        self._stream_is_key = stream_is_key
        self._carried = carried

    def encode(self, events: Events, predictions: Predictions) -> Messages:
        """The outputs of a batch, in event order."""
        where = predictions.events
        batch, records = events.batch, events.records[where]
        topic, partition = batch.partition
        streams = chosen(events.streams, where)
        columns = zip(
            streams,
            [None] * len(streams) if events.ids is None else chosen(events.ids, where),
            predictions.steps.tolist(),
            self._numbers(predictions.outputs),
            self._names(predictions.outputs),
            predictions.finals.tolist(),
            [RESET_NAMES[reset] for reset in predictions.resets.tolist()],
            events.times[where].tolist(),
            [ORIGIN_NAMES[origin] for origin in predictions.origins.tolist()],
            [batch.offsets[record] for record in records.tolist()],
            events.items[where].tolist(),
            [UNSET] * len(streams) if events.copied is None else chosen(events.copied, where),
            strict=True,
        )
        encode, model = self._encode, self._model
        values: list[bytes | None] = [
            encode(
                Output(
                    stream, sequence, step, numbers, label, final, reset, time, origin, model, fields,
                    Source(topic, partition, offset) if item == NO_ITEM else Source(topic, partition, offset, item),
                )
            )
            for stream, sequence, step, numbers, label, final, reset, time, origin, offset, item, fields in columns
        ]  # fmt: skip
        keys = keys_of(batch, records, streams, self._stream_is_key)
        return Messages(keys, values, self._carried.of_all(batch, records), records)

    def _numbers(self, outputs: FloatArray) -> Sequence[Any]:
        if not self._json:
            return list(outputs.tolist())
        if not len(outputs):
            return []
        # One call for the whole matrix, and float32 in as few digits as tell them apart.
        text = orjson.dumps(np.ascontiguousarray(outputs), option=orjson.OPT_SERIALIZE_NUMPY)
        return [msgspec.Raw(b"[%b]" % row) for row in text[2:-2].split(b"],[")]

    def _names(self, outputs: FloatArray) -> Sequence[str | UnsetType]:
        if self._labels is None:
            return [UNSET] * len(outputs)
        return [self._labels[unit] for unit in outputs.argmax(axis=1).tolist()]


def keys_of(batch: RecordBatch, records: IntArray, streams: Sequence[str], stream_is_key: bool) -> list[bytes | None]:
    """The keys of outputs: those of their ``records`` (outputs,), or the names of their streams."""
    if stream_is_key:
        return [batch.keys[record] for record in records.tolist()]
    return [stream.encode() for stream in streams]


def chosen(values: list[Value], where: Index) -> list[Value]:
    """Rows of a column that is a list."""
    return values[where] if isinstance(where, slice) else [values[index] for index in where.tolist()]
