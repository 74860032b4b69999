"""Records polled but not yet taken by a turn: handed out in turns that are bounded in events and in bytes.

Rule of this file: lists in, lists out. A record is never cut, and records of a partition never overtake each other. How
many events a record holds is known only once it is decoded, so a turn's worth of bytes is decoded first and then cut;
what is left over stays decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import numpy as np

from worker.records.events import Events
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

# Columns of Events with a value for every event, or None; the others describe the batch or its records.
COLUMNS = {each.name for each in fields(Events)} - {"batch", "records", "payloads", "refusals"}


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

    def batches(self) -> list[RecordBatch]:
        """All batches that move positions in this turn, in order."""
        return [*self.passed, *(events.batch for events in self.events)]

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

    def take(self, decode: Callable[[Sequence[RecordBatch]], list[Events]], limit: TurnLimit) -> Taken:
        """The next turn's work."""
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
    if size_bytes(batches) <= limit:
        return list(batches), []
    left = limit
    for index, batch in enumerate(batches):
        size = size_bytes([batch])
        if size <= left:
            left -= size
            continue
        sizes = np.cumsum([size_bytes([batch.part(record, record + 1)]) for record in range(len(batch))])
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


def part_of(events: Events, start: int, stop: int) -> Events:
    """The events of the records from index ``start`` to before ``stop``."""
    first, end = np.searchsorted(events.records, (start, stop)).tolist()
    columns: dict[str, Any] = {name: getattr(events, name) for name in COLUMNS}
    columns = {name: None if column is None else column[first:end] for name, column in columns.items()}
    return replace(
        events,
        batch=events.batch.part(start, stop),
        records=events.records[first:end] - start,
        payloads={index - first: state for index, state in events.payloads.items() if first <= index < end},
        refusals=[each._replace(record=each.record - start) for each in events.refusals if start <= each.record < stop],
        **columns,
    )


def counts(events: Events) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(records,) events of each record of the batch, at least one."""
    return np.maximum(np.bincount(events.records, minlength=len(events.batch)), 1)


def size_bytes(batches: Sequence[RecordBatch]) -> int:
    """Bytes of all keys, values and headers."""
    contents = [content for batch in batches for content in (batch.values, batch.keys)]
    total = sum(map(len, filter(None, chain.from_iterable(contents))))
    if any(chain.from_iterable([batch.headers for batch in batches])):
        headers = chain.from_iterable(filter(None, (some for batch in batches for some in batch.headers)))
        total += sum(len(name) + len(text or b"") for name, text in headers)
    return total
