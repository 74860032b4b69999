"""Records as Kafka holds them.

Rule of this file: data only. Batches are columns (one list per field, all of one length), because an object per event
costs more than the model does once steps are batched over streams.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
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
    position, never by the arrival of a record. ``replay``: these records were answered before a restart: they move
    states and emit nothing. ``sent``: offset → how many outputs of it were sent before a restart, of records whose
    answer was begun then and is completed now.
    """

    partition: Partition
    next_offset: int
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)  # ms since the epoch, or NO_TIME_MS
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers | None] = field(default_factory=list)  # None or empty when there are none
    replay: bool = False
    sent: Mapping[int, int] = field(default_factory=dict)
    bytes_counted: int | None = field(default=None, compare=False, repr=False)

    def size_bytes(self) -> int:
        """Bytes of all keys, values and headers; counted once, when the records are complete."""
        if self.bytes_counted is None:
            total = sum(map(len, filter(None, chain(self.values, self.keys))))
            if any(self.headers):
                headers = chain.from_iterable(filter(None, self.headers))
                total += sum(len(name) + len(text or b"") for name, text in headers)
            self.bytes_counted = total
        return self.bytes_counted

    def __len__(self) -> int:
        return len(self.offsets)

    def answered_below(self, offset: int) -> list[RecordBatch]:
        """The records below ``offset`` as a replay, and the others as they are; empty parts are left out.

        The position of the first half is at most ``offset``.
        """
        if not self.offsets:
            return []
        if self.offsets[0] >= offset:
            return [self]
        if self.offsets[-1] < offset:
            return [replace(self, replay=True)]
        at = bisect_left(self.offsets, offset)
        before = self._chosen(slice(None, at), min(offset, self.next_offset))
        before.replay = True
        return [before, self._chosen(slice(at, None), self.next_offset)]

    def but(self, sent: Mapping[int, int]) -> list[RecordBatch]:
        """Of a replay: alternately the records that stay one, and those in ``sent``, whose answers were begun."""
        open_ = [offset in sent for offset in self.offsets]
        cuts = [0, *(at for at in range(1, len(open_)) if open_[at] != open_[at - 1]), len(open_)]
        parts = [self.part(start, stop) for start, stop in pairwise(cuts)]
        return [
            replace(part, replay=False, sent=sent) if open_[start] else part
            for part, start in zip(parts, cuts, strict=False)
        ]

    def part(self, start: int, stop: int) -> RecordBatch:
        """The records from index ``start`` to before ``stop``; its position is that of the first record after it."""
        return self._chosen(slice(start, stop), self.offsets[stop] if stop < len(self.offsets) else self.next_offset)

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

    def _chosen(self, records: slice, next_offset: int) -> RecordBatch:
        return RecordBatch(
            self.partition,
            next_offset,
            self.offsets[records],
            self.timestamps[records],
            self.keys[records],
            self.values[records],
            self.headers[records],
            self.replay,
            self.sent,
        )
