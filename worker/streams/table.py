"""The table of streams: (partition, stream) → one row of packed arrays.

A row belongs to exactly one stream; a forgotten stream gives it back. Why a stream was forgotten is remembered, for a
bounded number of streams, so that its next event can say so.

Rule of this file: which streams are forgotten and what is remembered follows only from the records of one partition in
their order. No output may depend on where turns end, which partitions a worker owns or when it was started.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import numpy as np

from worker.records.arrays import IntArray
from worker.records.events import Origin, Reset
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateLayout
from worker.streams.doubles import Doubles
from worker.streams.partition_streams import FORGOTTEN_STREAMS_LIMIT, PartitionStreams
from worker.streams.roster import Roster
from worker.streams.rows import NO_ROW, PackedRows

DOUBLES_LOOKED_FOR = 10_000  # of a restored partition: streams whose name may exist in another partition, too
EVICTION_CANDIDATES = 4096  # streams sorted at once by their last event when a partition is full


class StreamTable(PackedRows):
    """Which stream owns which row, for at most ``limit`` streams of each partition; columns as in PackedRows."""

    def __init__(
        self,
        layout: StateLayout,
        limit: int,
        emitted_units: int = 0,
        idle_ms: int | None = None,
        forgotten_limit: int = FORGOTTEN_STREAMS_LIMIT,
        generates: bool = False,
    ) -> None:
        super().__init__(layout.initial, limit, emitted_units, generates)
        self.layout = layout
        self.idle_ms = idle_ms
        self.forgotten_limit = forgotten_limit
        self.partitions: dict[Partition, PartitionStreams] = {}
        self.evicted = 0  # streams forgotten because their partition was full, since the start
        self.idle = 0  # streams forgotten because they were idle, since the start
        self.ended = np.zeros(len(Reset), np.int64)  # sequences that were open when they were forgotten, by Reset
        self.doubles = Doubles()
        self._events = 0

    def room(self, partition: Partition) -> int:
        """Streams that may be added to it before one must go."""
        return self.limit - len(self.partitions[partition].rows)

    def row(
        self,
        partition: Partition,
        stream: str,
        used: Collection[int] = (),
        leaving: int = 0,
    ) -> int:
        """The row of a stream, a new one if needed. A new row is at zero with its reason pending.

        When the partition is full its longest idle stream gives up its row. ``used`` rows are those of streams that
        have had an event in this turn; those ``leaving`` are forgotten already but not released yet. NO_ROW when no
        other row is free: the caller finishes what it has begun and asks again.
        """
        streams = self.partitions[partition]
        row = streams.rows.get(stream)
        if row is not None:
            return row
        if self.room(partition) + leaving <= 0 and not self._evict(partition, used):
            return NO_ROW
        if not len(self.free):
            return NO_ROW
        (row,) = self.free.take(partition, 1)
        self.clear(row, streams.forgotten.pop(stream, Reset.NEW))
        streams.rows[stream] = row
        self.doubles.look(self.partitions, partition, (stream,))
        self.slots[row] = streams.roster.add(row, stream)
        self._will_copy(len(streams.roster))
        return row

    def add(self, partition: Partition, names: list[str]) -> None:
        """Rows for new streams, each named once, as ``row`` gives them. There must be room for all."""
        assert len(names) <= self.room(partition), (len(names), self.room(partition))
        streams = self.partitions[partition]
        rows, forgotten = np.array(self.free.take(partition, len(names)), np.int64), streams.forgotten
        if forgotten:
            reasons = np.array([forgotten.pop(name, Reset.NEW) for name in names], np.uint8)
        else:
            reasons = np.full(len(names), Reset.NEW, np.uint8)
        self.clear(rows, reasons)
        streams.rows.update(zip(names, rows.tolist(), strict=True))
        self.doubles.look(self.partitions, partition, names)
        self.slots[rows] = streams.roster.extend(rows, names)
        assert len(streams.rows) == len(streams.roster), "a stream was known, or named twice"
        self._will_copy(len(streams.roster))

    def touch(self, rows: IntArray) -> None:
        """Note that these rows were used now, in this order."""
        self.touched[rows] = np.arange(self._events, self._events + len(rows))
        self._events += len(rows)

    def forget(self, partition: Partition, stream: str, reason: Reset) -> None:
        """Give the stream's row back. A reason that was already pending outlives the stream."""
        row = self.partitions[partition].rows[stream]
        pending = int(self.pending[row])
        self.ended[reason] += pending == Reset.NONE and bool(self.steps[row])
        self.remember(partition, stream, pending or reason)
        self.release(partition, stream)

    def remember(self, partition: Partition, stream: str, reason: int) -> None:
        """Remember why this stream, which leaves now, is at zero when it comes back."""
        self.partitions[partition].remember(stream, reason, self.forgotten_limit)

    def release(self, partition: Partition, stream: str) -> None:
        """Give back the row of a stream that is forgotten already."""
        streams = self.partitions[partition]
        row = streams.rows.pop(stream)
        slot = int(self.slots[row])
        moved = streams.roster.remove(slot)
        if moved != NO_ROW:
            self.slots[moved] = slot
        self._give_back(partition, [row])

    def drop(self, partition: Partition) -> None:
        """Forget a partition whole, without a trace."""
        streams = self.partitions.pop(partition, None)
        if streams is not None:
            self._give_back(partition, streams.roster.rows().tolist())
            self.free.disown(partition)

    def open(self, partition: Partition, state: PartitionState | None = None) -> int:
        """Begin a partition, without streams or with its restored ones; returns how many of those did not fit."""
        assert partition not in self.partitions, partition
        self.partitions[partition] = PartitionStreams()
        self._have_rows(len(self.partitions))
        return 0 if state is None else self._load(state)

    def snapshot(self, partition: Partition, next_offset: int) -> PartitionState:
        """A copy of a partition's streams, which have seen all records below ``next_offset``.

        Later changes of the table never show in it. Keys and sequences are copied only as references, because the loop
        waits here.
        """
        streams = self.partitions[partition]
        rows = streams.roster.rows()
        copy = self._copied(rows)
        packed = copy["states"]
        return PartitionState(
            partition=partition,
            next_offset=next_offset,
            clock=streams.clock,
            keys=cast(Sequence[str], streams.roster.names()),
            steps=copy["steps"],
            times=copy["times"],
            clocks=copy["clocks"],
            pending=copy["pending"],
            sequences=cast(Sequence[Any], self.sequences[rows]),
            states={
                name: packed[:, where].reshape(len(rows), *shape) for name, (where, shape) in self.layout.slices.items()
            },
            touched=copy["touched"],
            emitted=None if self.emitted is None else copy["emitted"],
            forgotten=dict(streams.forgotten),
            read_to=streams.read_to,
            unfinished=[each._replace(sent=0) for each in streams.unfinished.values()],
            drawn=copy["drawn"] if self.generates else None,
            records=copy["records"] if self.generates else None,
            items=cast(Sequence[Any], self.items[rows]) if self.generates else None,
        )

    def _load(self, state: PartitionState) -> int:
        """Put a partition's streams back; when not all fit the longest idle are forgotten; returns how many."""
        streams = self.partitions[state.partition]
        streams.clock, streams.forgotten = state.clock, dict(state.forgotten)
        streams.read_to = state.read_to
        streams.unfinished = {each.offset: each for each in state.unfinished}
        order = np.argsort(state.touched, kind="stable")
        too_many = max(0, len(order) - self.limit)  # it was saved under a higher limit
        left_out, order = order[:too_many], order[too_many:]
        for index in left_out.tolist():
            self.remember(state.partition, state.keys[index], int(state.pending[index]) or Reset.EVICTED)
        names = np.fromiter(state.keys, np.object_, len(state.keys))[order]
        rows = np.array(self.free.take(state.partition, len(order)), np.int64)
        streams.rows = dict(zip(names.tolist(), rows.tolist(), strict=True))
        self.doubles.look(self.partitions, state.partition, names[:DOUBLES_LOOKED_FOR].tolist())
        streams.roster = Roster(rows, names)
        self.slots[rows] = np.arange(len(rows))
        self._will_copy(len(rows))
        for column in ("steps", "times", "clocks", "pending"):
            getattr(self, column)[rows] = getattr(state, column)[order]
        for name, (where, _) in self.layout.slices.items():
            self.states[rows, where] = state.states[name][order].reshape(len(order), where.stop - where.start)
        self.sequences[rows] = np.fromiter(state.sequences, np.object_, len(state.sequences))[order]
        self.origins[rows] = Origin.RESTORED
        if self.generates:
            for column in ("drawn", "records"):
                found = getattr(state, column)
                getattr(self, column)[rows] = 0 if found is None else found[order]
            items = state.items if state.items is not None else [None] * len(state.keys)
            self.items[rows] = np.fromiter(items, np.object_, len(state.keys))[order]
        if self.emitted is not None:
            # The last output of a model with another number of outputs means nothing for this one.
            emitted, units = state.emitted, self.emitted.shape[1]
            self.emitted[rows] = emitted[order] if emitted is not None and emitted.shape[1] == units else np.nan
        self.touch(rows)
        return len(left_out)

    def longest_idle(self, partition: Partition, used: Collection[int] = ()) -> str | None:
        """The stream that must go when the partition is full; None when there are none but those ``used``."""
        streams = self.partitions[partition]
        for again in (False, True):
            while streams.longest_idle:
                touched, stream = streams.longest_idle[0]
                row = streams.rows.get(stream, NO_ROW)
                if row != NO_ROW and self.touched[row] == touched and row not in used:
                    return stream
                streams.longest_idle.popleft()  # it has had events since it was listed: not the longest idle any more
            if not again:
                streams.longest_idle = streams.roster.oldest(self.touched[streams.roster.rows()], EVICTION_CANDIDATES)
        return None

    def _evict(self, partition: Partition, used: Collection[int]) -> bool:
        """Forget the longest idle stream of the partition; False when none but those ``used`` are left."""
        stream = self.longest_idle(partition, used)
        if stream is not None:
            self.forget(partition, stream, Reset.EVICTED)
            self.evicted += 1
        return stream is not None
