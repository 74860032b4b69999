"""Records polled but not yet taken by a turn: handed out in turns that are bounded in events and in bytes.

Rule of this file: lists in, lists out. A record is never cut, and records of a partition never overtake each other. How
many events a record holds is known only once it is decoded, so a turn's worth of bytes is decoded first and then cut;
what is left over stays decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from worker.records.events import Events
from worker.records.ownership import Partition
from worker.records.parts import part_of
from worker.records.record_batch import RecordBatch


@dataclass(frozen=True, slots=True)
class TurnLimit:
    """What a turn holds at most. One record is always taken, however large it is.

    ``live_events``: of records that are answered; replayed records send nothing, and may be more.
    """

    events: int
    live_events: int
    bytes: int  # keys, values and headers of its records


@dataclass(slots=True)
class Taken:
    """A turn's work. ``passed``: batches without records that came before it, which only move a position."""

    events: list[Events] = field(default_factory=list)
    passed: list[RecordBatch] = field(default_factory=list)

    def records(self) -> int:
        """How many records the turn answers."""
        return sum(len(events.batch) for events in self.events)


class Backlog:
    """First in, first out, over all partitions."""

    def __init__(self) -> None:
        self._raw: list[RecordBatch] = []
        self._decoded: list[Events] = []  # older than what is raw

    def __bool__(self) -> bool:
        return bool(self._raw or self._decoded)

    def records(self) -> int:
        """How many records wait."""
        return sum(map(len, self._batches()))

    def add(self, batches: Iterable[RecordBatch]) -> None:
        """Add at the end. Batches of one partition must come in offset order."""
        for batch in batches:
            before = None if len(batch) else self._last_of(batch.partition)
            if before is None:
                self._raw.append(batch)
            else:
                before.next_offset = batch.next_offset

    def drop(self, partitions: Iterable[Partition]) -> None:
        """These partitions are no longer ours, or are read anew: their waiting records are dropped."""
        gone = set(partitions)
        self._raw = [batch for batch in self._raw if batch.partition not in gone]
        self._decoded = [events for events in self._decoded if events.batch.partition not in gone]

    def clear(self) -> None:
        """Drop everything: it is read anew."""
        self._raw, self._decoded = [], []

    def give_back(self, left_over: Sequence[Events]) -> None:
        """The last of what was taken last could not be read yet: it is handed out again, before what waits."""
        if left_over:
            self._decoded = [*left_over, *self._decoded]

    def take(
        self,
        decode: Callable[[Sequence[RecordBatch]], list[Events]],
        limit: TurnLimit,
        closed: Collection[Partition] = (),
    ) -> Taken:
        """The next turn's work. Records of partitions that are ``closed`` wait."""
        if not closed:
            return self._take(decode, limit)
        raw = [batch for batch in self._raw if batch.partition in closed]
        waiting = [events for events in self._decoded if events.batch.partition in closed]
        self._raw = [batch for batch in self._raw if batch.partition not in closed]
        self._decoded = [events for events in self._decoded if events.batch.partition not in closed]
        taken = self._take(decode, limit)
        self._raw, self._decoded = [*raw, *self._raw], [*waiting, *self._decoded]
        return taken

    def _take(self, decode: Callable[[Sequence[RecordBatch]], list[Events]], limit: TurnLimit) -> Taken:
        passed: list[RecordBatch] = []
        if not self._decoded:
            batches, self._raw = cut_bytes(self._raw, limit.bytes)
            full = [batch for batch in batches if batch.offsets]
            if len(full) < len(batches):
                passed = [batch for batch in batches if not batch.offsets]
            self._decoded = decode(full)
        events, self._decoded = cut_events(self._decoded, limit)
        return Taken(events, passed)

    def _batches(self) -> Iterable[RecordBatch]:
        return chain((events.batch for events in self._decoded), self._raw)

    def _last_of(self, partition: Partition) -> RecordBatch | None:
        found = None
        for batch in self._batches():
            if batch.partition == partition:
                found = batch
        return found


def cut_bytes(batches: Sequence[RecordBatch], limit: int) -> tuple[list[RecordBatch], list[RecordBatch]]:
    """The first records of at most ``limit`` bytes, one at least; and the others."""
    if sum(batch.size_bytes() for batch in batches) <= limit:
        return list(batches), []
    left = limit
    for index, batch in enumerate(batches):
        size = batch.size_bytes()
        if size <= left:
            left -= size
            continue
        sizes = np.cumsum([batch.part(record, record + 1).size_bytes() for record in range(len(batch))])
        fits = int(np.searchsorted(sizes, left, side="right")) or int(not any(map(len, batches[:index])))
        before, after = batch.part(0, fits), batch.part(fits, len(batch))
        taken, left_over = list(batches[:index]), list(batches[index + 1 :])
        if fits:
            taken.append(before)
        if len(after):
            left_over.insert(0, after)
        return taken, left_over
    return list(batches), []


def cut_events(decoded: Sequence[Events], limit: TurnLimit) -> tuple[list[Events], list[Events]]:
    """The first records of at most ``limit`` events, one record at least; and the others.

    A record without events counts as one event: it has a dead letter.
    """
    left, live_left = limit.events, limit.live_events
    if sum(len(events.streams) + len(events.refusals) for events in decoded) <= min(left, live_left):
        return list(decoded), []
    for index, events in enumerate(decoded):
        room = left if events.batch.replay else min(left, live_left)
        count = len(events) + len(events.refusals)
        if count > room:
            fits = int(np.searchsorted(np.cumsum(counts(events)), room, side="right")) or int(index == 0)
            before, after = part_of(events, 0, fits), part_of(events, fits, len(events.batch))
            taken, left_over = list(decoded[:index]), list(decoded[index + 1 :])
            if fits:
                taken.append(before)
            if len(after.batch):
                left_over.insert(0, after)
            return taken, left_over
        left -= count
        live_left -= 0 if events.batch.replay else count
    return list(decoded), []


def counts(events: Events) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(records,) events of each record of the batch, at least one."""
    return np.maximum(np.bincount(events.records, minlength=len(events.batch)), 1)
