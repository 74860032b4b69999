"""The values that cross the seams: records in, events, predictions, messages out.

Rule of this file: data only. Batches are columns (one list or array per field, all of one length), because an
object per event costs more than the model does once steps are batched over streams.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
CodeArray: TypeAlias = NDArray[np.uint8]
NO_TIME_MS = -1  # of an event or a record without a time


class Partition(NamedTuple):
    """One partition of one topic: the unit of ownership, of order and of checkpoints."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Reset(IntEnum):
    """Why a stream's state returned to zero. The numbers are stored in checkpoints: never reuse one."""

    NONE = 0
    NEW = 1
    ID = 2
    START = 3
    END = 4
    LENGTH = 5
    GAP = 6
    IDLE = 7
    EVICTED = 8
    COMMAND = 9
    TOMBSTONE = 10
    INVALID_STATE = 11


class Origin(IntEnum):
    """Where a stream's state came from."""

    LIVE = 0
    RESTORED = 1
    REBUILT = 2
    IMPORTED = 3


class NotUtf8(str):
    """The name of a header that is not UTF-8, its other bytes spelt with backslashes. The record is a dead letter."""


class Kind(IntEnum):
    """What an event does to its stream."""

    STEP = 0  # one step of the model, one output
    TOMBSTONE = 1  # forget the stream
    RESET = 2  # command: state to zero
    SET_STATE = 3  # command: state to the given values


@dataclass(slots=True)
class RecordBatch:
    """Raw records of one partition in offset order, as columns.

    ``next_offset`` is the position after the batch. It may lie beyond the last record (transaction markers, compacted
    or aborted records), and a batch without records still moves the position: the end of a replay is known by
    position, never by the arrival of a record.
    """

    partition: Partition
    next_offset: int
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)  # ms since the epoch; -1 when the record has none
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers | None] = field(default_factory=list)  # None or empty when there are none

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, offset: int) -> tuple[RecordBatch, RecordBatch]:
        """The records below ``offset`` and the others; the position of the first half is at most ``offset``."""
        at = bisect_left(self.offsets, offset)
        return self._part(slice(None, at), min(offset, self.next_offset)), self._part(slice(at, None), self.next_offset)

    def part(self, start: int, stop: int) -> RecordBatch:
        """The records from index ``start`` to before ``stop``; its position is that of the first record after it."""
        return self._part(slice(start, stop), self.offsets[stop] if stop < len(self.offsets) else self.next_offset)

    @classmethod
    def joined(cls, batches: Sequence[RecordBatch]) -> RecordBatch:
        """The records of all, one after the other, as if they were of the first one's partition."""
        whole = cls(batches[0].partition, 0)
        for batch in batches:
            whole.offsets += batch.offsets
            whole.timestamps += batch.timestamps
            whole.keys += batch.keys
            whole.values += batch.values
            whole.headers += batch.headers
        return whole

    def _part(self, part: slice, next_offset: int) -> RecordBatch:
        return RecordBatch(
            self.partition,
            next_offset,
            self.offsets[part],
            self.timestamps[part],
            self.keys[part],
            self.values[part],
            self.headers[part],
        )


class Refusal(NamedTuple):
    """A record that can't be used: it changes no state and goes to the dead letters."""

    record: int  # index into its RecordBatch
    error: str  # a short fixed code
    reason: str  # one sentence
    items: str = ""  # of a chunk, which are refused where it is not the whole record: 0-2,7


@dataclass(slots=True)
class Events:
    """What one RecordBatch says, decoded: one row per step or command, in record order.

    ``vectors`` is (events, features); rows of commands are zero. Columns that no configuration asks for are None.
    """

    batch: RecordBatch
    records: IntArray  # (events,) index of the record in the batch
    items: IntArray  # (events,) index of the vector in the record's chunk, -1 when the record is not a chunk
    kinds: CodeArray  # (events,) Kind
    streams: list[str]
    vectors: FloatArray
    times: IntArray  # (events,) event time, ms since the epoch; -1 = it has none
    ids: list[Any] | None = None
    starts: BoolArray | None = None
    ends: BoolArray | None = None
    payloads: dict[int, FloatArray] = field(default_factory=dict)  # event index → packed state of a SET_STATE command
    replay: bool = False  # these records were answered before a restart: they move states and emit nothing
    refusals: list[Refusal] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.streams)

    def cut(self, batches: Sequence[tuple[RecordBatch, bool]]) -> list[Events]:
        """Of (batch, replay) that were decoded as one, each with an event for every record: the events of each."""
        parts, start = [], 0
        for batch, replay in batches:
            part = slice(start, start + len(batch))
            start = part.stop
            parts.append(
                Events(
                    batch,
                    self.records[: len(batch)],
                    self.items[part],
                    self.kinds[part],
                    self.streams[part],
                    self.vectors[part],
                    self.times[part],
                    None if self.ids is None else self.ids[part],
                    None if self.starts is None else self.starts[part],
                    None if self.ends is None else self.ends[part],
                    replay=replay,
                )
            )
        return parts


@dataclass(slots=True)
class Predictions:
    """What the engine made of one Events: the same rows; ``emit`` marks those that have an output."""

    emit: BoolArray  # (events,)
    probabilities: FloatArray  # (events, units)
    steps: IntArray  # (events,)
    resets: CodeArray  # (events,) Reset
    finals: BoolArray  # (events,)
    origins: CodeArray  # (events,) Origin
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state tensor of one layer: ``shape`` without the batch axis."""

    layer: str
    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(slots=True)
class PartitionState:
    """Every stream of one partition at one position: what a checkpoint holds.

    State and position are one value: ``states`` have seen exactly the records below ``next_offset``.
    """

    partition: Partition
    next_offset: int
    clock: int  # greatest event time seen in the partition, ms since the epoch; -1 = none yet
    keys: Sequence[str]  # a list, or an array of objects
    steps: IntArray  # (streams,) events since zero
    times: IntArray  # (streams,) greatest event time of the stream so far, ms; -1 = none yet
    clocks: IntArray  # (streams,) the partition's clock at the stream's last event, ms
    pending: CodeArray  # (streams,) Reset that takes effect before the next event, 0 = none
    sequences: Sequence[Any]  # (streams,) last value of sequence.id: any JSON scalar; an empty dict = not known
    states: dict[tuple[str, str], FloatArray]  # (layer, name) → (streams, *shape)
    touched: IntArray  # (streams,) order of the streams' last events: the smallest is the longest idle
    emitted: FloatArray | None = None  # (streams, units) last output sent, NaN = none; only for emit: change
    forgotten: dict[str, int] = field(default_factory=dict)  # stream → Reset, oldest first


class Assigned(NamedTuple):
    """These partitions are ours from now on; the answer says the offset to start each from."""

    partitions: tuple[Partition, ...]


class Revoked(NamedTuple):
    """These partitions go to another member once the answer is given: commit now."""

    partitions: tuple[Partition, ...]


class Lost(NamedTuple):
    """These partitions belong to another member already: drop them, commit nothing."""

    partitions: tuple[Partition, ...]


Change: TypeAlias = Assigned | Revoked | Lost
StartOffsets: TypeAlias = Mapping[Partition, int]
