"""Records as Kafka holds them.

Rule of this file: data only. Batches are columns (one list per field, all of one length), because an object per event
costs more than the model does once steps are batched over streams.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from worker.records.ownership import Partition

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


class NotUtf8(str):
    """The name of a header that is not UTF-8, its other bytes spelt with backslashes. The record is a dead letter."""


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
