"""The table of streams: (partition, stream) → one row of packed arrays.

A row belongs to exactly one stream; a forgotten stream gives it back. Why a stream was forgotten is remembered, for a
bounded number of streams, so that its next event can say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias, cast

import numpy as np

from worker.boundaries import UNKNOWN_ID
from worker.members import NO_ROW, Members
from worker.records import FloatArray, IntArray, Origin, Partition, PartitionState, Reset
from worker.rows import NO_TIME_MS, PackedRows

# Streams per partition of which the reason for forgetting is kept. A dictionary that loses its oldest while it gains
# others is built anew each time its places are used up, three times as large as it is full: more than 2**18 / 3 streams
# would take it 7.7 MB in place of 3.8, minutes after it seemed to have its size.
FORGOTTEN_STREAMS_LIMIT = 80_000
# The oldest go together: a dictionary passes over all that were taken from its beginning each time it looks for it.
FORGOTTEN_STREAMS_DROPPED = FORGOTTEN_STREAMS_LIMIT // 16
EVICTION_CANDIDATES = 4096  # streams sorted at once by their last event when the table is full

Slices: TypeAlias = Mapping[tuple[str, str], tuple[slice, tuple[int, ...]]]  # (layer, name) → place in the row, shape


class TableFullError(Exception):
    """No row can be given without taking one that is still in use in this turn."""


@dataclass(slots=True)
class PartitionStreams:
    """The streams of one partition: their rows, and the partition's clock."""

    rows: dict[str, int] = field(default_factory=dict)
    members: Members = field(default_factory=lambda: Members(np.empty(0, np.int64), np.empty(0, np.object_)))
    forgotten: dict[str, int] = field(default_factory=dict)  # stream → Reset, oldest first
    clock: int = NO_TIME_MS
    swept_at: int = NO_TIME_MS


class StreamTable(PackedRows):
    """Whose the rows are, for at most ``capacity`` streams; the columns are those of PackedRows."""

    def __init__(self, initial: FloatArray, capacity: int, emitted_units: int = 0, idle_ms: int | None = None) -> None:
        super().__init__(initial, capacity, emitted_units)
        self.idle_ms = idle_ms
        self.partitions: dict[Partition, PartitionStreams] = {}
        self.evicted = 0  # streams forgotten because the table was full, since the start
        self.idle = 0  # streams forgotten because they were idle, since the start
        self._events = 0
        self._candidates: Iterator[tuple[int, Partition, str]] = iter(())

    def row(self, partition: Partition, stream: str, clock: int, in_use: Callable[[int], bool]) -> int:
        """The row of a stream, a new one if needed. A new row is at zero with its reason pending.

        ``clock`` is the partition's at this event, in ms; the partition itself may be at the end of the turn already.

        When the table is full the longest idle stream gives up its row. Raises TableFullError when that row is
        ``in_use``: the caller finishes what it has begun and asks again.
        """
        streams = self.partitions[partition]
        row = streams.rows.get(stream)
        if row is not None:
            return row
        row = self._allocate(partition, clock, in_use)
        self._clear(row, streams.forgotten.pop(stream, Reset.NEW))
        streams.rows[stream] = row
        self._places[row] = streams.members.add(row, stream)
        self._will_copy(len(streams.members))
        return row

    def add(self, partition: Partition, names: list[str]) -> None:
        """Rows for streams that are not known, each named once, as ``row`` gives them. There must be room for all."""
        assert len(names) <= self.room, (len(names), self.room)
        streams = self.partitions[partition]
        rows, forgotten = np.array(self.free.take(partition, len(names)), np.int64), streams.forgotten
        if forgotten:
            reasons = np.array([forgotten.pop(name, Reset.NEW) for name in names], np.uint8)
        else:
            reasons = np.full(len(names), Reset.NEW, np.uint8)
        self._clear(rows, reasons)
        streams.rows.update(zip(names, rows.tolist(), strict=True))
        self._places[rows] = streams.members.extend(rows, names)
        assert len(streams.rows) == len(streams.members), "a stream was known, or named twice"
        self._will_copy(len(streams.members))

    def touch(self, rows: IntArray) -> None:
        """Note that these rows were used now, in this order."""
        self.touched[rows] = np.arange(self._events, self._events + len(rows))
        self._events += len(rows)

    def forget(self, partition: Partition, stream: str, reason: Reset) -> None:
        """Give the stream's row back. A reason that was already pending outlives the stream."""
        streams = self.partitions[partition]
        row = streams.rows.pop(stream)
        streams.forgotten[stream] = int(self.pending[row]) or reason
        if len(streams.forgotten) > FORGOTTEN_STREAMS_LIMIT:
            for oldest in list(islice(streams.forgotten, FORGOTTEN_STREAMS_DROPPED)):
                del streams.forgotten[oldest]
        place = int(self._places[row])
        moved = streams.members.remove(place)
        if moved != NO_ROW:
            self._places[moved] = place
        self._give_back(partition, [row])

    def sweep(self, partition: Partition) -> int:
        """Forget the streams that are idle by the partition's clock; how many.

        Looks at most once per quarter of the idle time. When it looks makes no difference to any output: a stream that
        is idle by the clock returns to zero at its next event, swept or not.
        """
        streams = self.partitions[partition]
        if self.idle_ms is None or streams.clock - streams.swept_at < self.idle_ms // 4:
            return 0
        streams.swept_at = streams.clock
        idle = np.flatnonzero(streams.clock - self.clocks[streams.members.rows()] > self.idle_ms)
        for name in streams.members.named(idle):
            self.forget(partition, name, Reset.IDLE)
        self.idle += len(idle)
        return len(idle)

    def drop(self, partition: Partition) -> None:
        """Forget a partition whole, without a trace."""
        streams = self.partitions.pop(partition, None)
        if streams is not None:
            self._give_back(partition, streams.members.rows().tolist())
            self.free.disown(partition)
            self._candidates = iter(())

    def open(self, partition: Partition) -> None:
        """Begin a partition without streams."""
        assert partition not in self.partitions, partition
        self.partitions[partition] = PartitionStreams()

    def snapshot(self, partition: Partition, next_offset: int, slices: Slices) -> PartitionState:
        """A copy of a partition's streams at a position; ``slices`` says where each layer's state is packed.

        What the table does afterwards never shows in it. Keys and sequences are copied as references, and left
        to whoever reads them: here the loop waits.
        """
        streams = self.partitions[partition]
        rows = streams.members.rows()
        copy = self._copied(rows)
        packed = copy["states"]
        return PartitionState(
            partition=partition,
            next_offset=next_offset,
            clock=streams.clock,
            keys=cast(Sequence[str], streams.members.names()),
            steps=copy["steps"],
            times=copy["times"],
            clocks=copy["clocks"],
            pending=copy["pending"],
            sequences=cast(Sequence[Any], self.sequences[rows]),
            states={name: packed[:, part].reshape(len(rows), *shape) for name, (part, shape) in slices.items()},
            touched=copy["touched"],
            emitted=None if self.emitted is None else copy["emitted"],
            forgotten=dict(streams.forgotten),
        )

    def load(self, state: PartitionState, slices: Slices) -> int:
        """Put a partition's streams back; when not all fit the longest idle are forgotten: how many."""
        self.open(state.partition)
        streams = self.partitions[state.partition]
        streams.clock, streams.forgotten = state.clock, dict(state.forgotten)
        order = np.argsort(state.touched, kind="stable")
        left_out, order = order[: max(0, len(order) - self.room)], order[max(0, len(order) - self.room) :]
        for index in left_out.tolist():
            streams.forgotten[state.keys[index]] = int(state.pending[index]) or Reset.EVICTED
        names = np.fromiter(state.keys, np.object_, len(state.keys))[order]
        rows = np.array(self.free.take(state.partition, len(order)), np.int64)
        streams.rows = dict(zip(names.tolist(), rows.tolist(), strict=True))
        streams.members = Members(rows, names)
        self._places[rows] = np.arange(len(rows))
        self._will_copy(len(rows))
        for column in ("steps", "times", "clocks", "pending"):
            getattr(self, column)[rows] = getattr(state, column)[order]
        for name, (part, _) in slices.items():
            self.states[rows, part] = state.states[name][order].reshape(len(order), part.stop - part.start)
        known = [UNKNOWN_ID if value == UNKNOWN_ID else value for value in state.sequences]
        self.sequences[rows] = np.fromiter(known, np.object_, len(known))[order]
        self.origins[rows] = Origin.RESTORED
        if self.emitted is not None:
            self.emitted[rows] = np.nan if state.emitted is None else state.emitted[order]
        self.touch(rows)
        return len(left_out)

    def _allocate(self, asking: Partition, clock: int, in_use: Callable[[int], bool]) -> int:
        if not self.room:
            self._evict(asking, clock, in_use)
        (row,) = self.free.take(asking, 1)
        return row

    def _evict(self, asking: Partition, clock: int, in_use: Callable[[int], bool]) -> None:
        while True:
            for touched, partition, stream in self._candidates:
                row = self.partitions[partition].rows.get(stream, -1)
                if row < 0 or self.touched[row] != touched:
                    continue  # it has had events since it was listed: not the longest idle any more
                if in_use(row):
                    self._candidates = iter(())
                    raise TableFullError
                # Named as a sweep would have, had it come first: its time must not show in any output.
                now = clock if partition == asking else self.partitions[partition].clock
                idle = self.idle_ms is not None and now - self.clocks[row] > self.idle_ms
                self.forget(partition, stream, Reset.IDLE if idle else Reset.EVICTED)
                self.evicted += not idle
                self.idle += idle
                return
            self._candidates = self._longest_idle()

    def _longest_idle(self) -> Iterator[tuple[int, Partition, str]]:
        """The streams with the oldest last events, oldest first: exact, and cheap per stream evicted."""
        listed: list[tuple[int, Partition, str]] = []
        for partition, streams in self.partitions.items():
            touched = self.touched[streams.members.rows()]
            count = min(EVICTION_CANDIDATES, len(touched))
            oldest = np.argpartition(touched, count - 1)[:count] if count else np.empty(0, np.int64)
            names = streams.members.named(oldest)
            listed.extend((when, partition, name) for when, name in zip(touched[oldest].tolist(), names, strict=True))
        return iter(sorted(listed)[:EVICTION_CANDIDATES])
