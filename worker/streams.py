"""The table of streams: (partition, stream) → one row of packed arrays.

Rows are allocated once for ``max_streams``; the operating system commits their memory only where they are touched.
A row belongs to exactly one stream; a forgotten stream gives it back. Why a stream was forgotten is remembered, for a
bounded number of streams, so that its next event can say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from worker.boundaries import UNKNOWN_ID
from worker.records import FloatArray, IntArray, Origin, Partition, PartitionState, Reset

FORGOTTEN_STREAMS_LIMIT = 100_000  # streams per partition of which the reason for forgetting is kept
EVICTION_CANDIDATES = 4096  # streams sorted at once by their last event when the table is full
NO_TIME_MS = -1
NOT_KNOWN: dict[str, Any] = {}  # a sequence id that is not known, as PartitionState has it: no JSON scalar

Slices: TypeAlias = Mapping[tuple[str, str], tuple[slice, tuple[int, ...]]]  # (layer, name) → place in the row, shape


class TableFullError(Exception):
    """No row can be given without taking one that is still in use in this turn."""


@dataclass(slots=True)
class PartitionStreams:
    """The streams of one partition: their rows, and the partition's clock."""

    rows: dict[str, int] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)  # stream → Reset, oldest first
    clock: int = NO_TIME_MS
    swept_at: int = NO_TIME_MS


class StreamTable:
    """Packed columns for at most ``capacity`` streams.

    ``initial`` is the packed state of a stream at zero, (width,). ``emitted_units`` > 0 adds the last emitted output.
    """

    def __init__(self, initial: FloatArray, capacity: int, emitted_units: int = 0, idle_ms: int | None = None) -> None:
        assert capacity >= 1, capacity
        self.initial = initial
        self.capacity = capacity
        self.idle_ms = idle_ms
        self.states = np.zeros((capacity, len(initial)), initial.dtype)
        self.steps = np.zeros(capacity, np.int64)
        self.times = np.zeros(capacity, np.int64)
        self.clocks = np.zeros(capacity, np.int64)
        self.touched = np.zeros(capacity, np.int64)
        self.pending = np.zeros(capacity, np.uint8)
        self.origins = np.zeros(capacity, np.uint8)
        self.sequences = np.empty(capacity, np.object_)
        self.emitted = np.zeros((capacity, emitted_units), np.float64) if emitted_units else None
        self.partitions: dict[Partition, PartitionStreams] = {}
        self.evicted = 0  # streams forgotten because the table was full, since the start
        self.idle = 0  # streams forgotten because they were idle, since the start
        self._events = 0
        self._free: list[int] = []
        self._unused = 0
        self._candidates: Iterator[tuple[int, Partition, str]] = iter(())

    def __len__(self) -> int:
        return self._unused - len(self._free)

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
        return row

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
            del streams.forgotten[next(iter(streams.forgotten))]
        self.sequences[row] = None
        self._free.append(row)

    def sweep(self, partition: Partition) -> int:
        """Forget the streams that are idle by the partition's clock; how many.

        Looks at most once per quarter of the idle time. When it looks makes no difference to any output: a stream that
        is idle by the clock returns to zero at its next event, swept or not.
        """
        streams = self.partitions[partition]
        if self.idle_ms is None or streams.clock - streams.swept_at < self.idle_ms // 4:
            return 0
        streams.swept_at = streams.clock
        rows = np.fromiter(streams.rows.values(), np.int64, len(streams.rows))
        idle = np.flatnonzero(streams.clock - self.clocks[rows] > self.idle_ms)
        if len(idle):
            names = list(streams.rows)
            for index in idle.tolist():
                self.forget(partition, names[index], Reset.IDLE)
            self.idle += len(idle)
        return len(idle)

    def drop(self, partition: Partition) -> None:
        """Forget a partition whole, without a trace."""
        streams = self.partitions.pop(partition, None)
        if streams is not None:
            rows = list(streams.rows.values())
            self.sequences[rows] = None
            self._free.extend(rows)
            self._candidates = iter(())

    def open(self, partition: Partition) -> None:
        """Begin a partition without streams."""
        assert partition not in self.partitions, partition
        self.partitions[partition] = PartitionStreams()

    def snapshot(self, partition: Partition, next_offset: int, slices: Slices) -> PartitionState:
        """A copy of a partition's streams at a position; ``slices`` says where each layer's state is packed."""
        streams = self.partitions[partition]
        rows = np.fromiter(streams.rows.values(), np.int64, len(streams.rows))
        packed = self.states[rows]
        return PartitionState(
            partition=partition,
            next_offset=next_offset,
            clock=streams.clock,
            keys=list(streams.rows),
            steps=self.steps[rows],
            times=self.times[rows],
            clocks=self.clocks[rows],
            pending=self.pending[rows],
            sequences=[NOT_KNOWN if value is UNKNOWN_ID else value for value in self.sequences[rows].tolist()],
            states={name: packed[:, part].reshape(-1, *shape) for name, (part, shape) in slices.items()},
            touched=self.touched[rows],
            emitted=None if self.emitted is None else self.emitted[rows],
            forgotten=dict(streams.forgotten),
        )

    def load(self, state: PartitionState, slices: Slices) -> int:
        """Put a partition's streams back; when not all fit the longest idle are forgotten: how many."""
        self.open(state.partition)
        streams = self.partitions[state.partition]
        streams.clock, streams.forgotten = state.clock, dict(state.forgotten)
        order = np.argsort(state.touched, kind="stable")
        room = self.capacity - len(self)
        left_out, order = order[: max(0, len(order) - room)], order[max(0, len(order) - room) :]
        for index in left_out.tolist():
            streams.forgotten[state.keys[index]] = int(state.pending[index]) or Reset.EVICTED
        rows = np.fromiter((self._take() for _ in range(len(order))), np.int64, len(order))
        streams.rows = {state.keys[index]: row for index, row in zip(order.tolist(), rows.tolist(), strict=True)}
        for column in ("steps", "times", "clocks", "pending"):
            getattr(self, column)[rows] = getattr(state, column)[order]
        for name, (part, _) in slices.items():
            self.states[rows, part] = state.states[name][order].reshape(len(order), part.stop - part.start)
        for row, index in zip(rows.tolist(), order.tolist(), strict=True):
            value = state.sequences[index]
            self.sequences[row] = UNKNOWN_ID if value == NOT_KNOWN else value
        self.origins[rows] = Origin.RESTORED
        if self.emitted is not None:
            self.emitted[rows] = np.nan if state.emitted is None else state.emitted[order]
        self.touch(rows)
        return len(left_out)

    def _clear(self, row: int, reason: int) -> None:
        self.states[row] = self.initial
        self.steps[row] = 0
        self.times[row] = NO_TIME_MS
        self.clocks[row] = NO_TIME_MS
        self.pending[row] = reason
        self.origins[row] = Origin.LIVE
        self.sequences[row] = UNKNOWN_ID
        if self.emitted is not None:
            self.emitted[row] = np.nan

    def _allocate(self, asking: Partition, clock: int, in_use: Callable[[int], bool]) -> int:
        if not self._free and self._unused == self.capacity:
            self._evict(asking, clock, in_use)
        return self._take()

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        self._unused += 1
        return self._unused - 1

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
            rows = np.fromiter(streams.rows.values(), np.int64, len(streams.rows))
            touched = self.touched[rows]
            count = min(EVICTION_CANDIDATES, len(rows))
            oldest = np.argpartition(touched, count - 1)[:count].tolist() if count else []
            names = list(streams.rows)
            listed.extend((int(touched[index]), partition, names[index]) for index in oldest)
        return iter(sorted(listed)[:EVICTION_CANDIDATES])
