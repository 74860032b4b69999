"""How late each partition is: the age of the oldest record that is not answered. Pure; times are arguments.

``now`` is monotonic seconds, ``wall`` seconds since the epoch. The loop notes what it sees, once per batch; a scrape
asks at any time, from another thread, so that the answer is true while the loop stands still. Every value that a scrape
reads is replaced as a whole.

The oldest record not answered is the first one read and not committed, whose timestamp is known. Of records in the log
that were never read only this is known: they are no older than the last one read, and no older than the last look at
the log's end that found no more than has been read since. Before the first of either, they count from the assignment:
records that a replay reads once more are answered, however old, and say nothing of those that come after them. Without
a look for ``stale_s`` there may be such records.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from worker.member.commit_notes import Place
from worker.records.events import Events
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

STALE_LOOKS = 3  # so many intervals without a look: nothing is known of the log's end
MARKS_LIMIT = 1024  # of a partition: more are thinned out
GAP_INTERVAL_S = 0.1  # between two looks at event times


class Mark(NamedTuple):
    """Where a poll's records of a partition begin."""

    offset: int
    written_s: float  # its timestamp, since the epoch
    arrived: float  # monotonic seconds


@dataclass(slots=True)
class _Known:
    """Of one partition. ``read_to``: the next offset that a poll will bring; ``top``: the greatest that it ever was."""

    committed: int
    read_to: int
    end: int  # of the log, when it was looked at
    looked: float
    top: int
    since: float  # when it became ours
    caught_up: float = -math.inf  # the last look that found no more than has been read since
    behind: bool = False  # records were unread at the look
    last_s: float = -math.inf  # timestamp of the last record read that was not committed then
    gap_s: float = 0.0  # from events to their records' timestamps
    oldest_s: float | None = None  # timestamp of the first record read and not committed
    marks: list[Mark] = field(default_factory=list)


class Lateness:
    """Of the partitions that this member owns. ``stale_s``: how long a look at the ends of the logs counts."""

    def __init__(self, stale_s: float = math.inf) -> None:
        self.stale_s = stale_s
        self._owned: dict[Partition, _Known] = {}
        self._idle = -math.inf  # when a poll waited in vain
        self._gaps_at = -math.inf

    def assigned(self, partition: Partition, committed: int, start: int, end: int, now: float) -> None:
        """A partition is ours, or set back to what is committed: records read before are known still."""
        known = self._owned.get(partition)
        if known is None:
            self._owned[partition] = _Known(committed, start, end, now, start, now, behind=end > committed)
            return
        known.read_to = start
        self._look(known, end, now)
        self._commit(known, committed)

    def keep(self, partitions: Collection[Partition]) -> None:
        """Only these are ours."""
        self._owned = {partition: known for partition, known in self._owned.items() if partition in partitions}

    def polled(self, batches: Sequence[RecordBatch], now: float, wall: float) -> None:
        """A poll has brought these, ``now``."""
        for batch in batches:
            known = self._owned.get(batch.partition)
            if known is None:
                continue
            known.read_to = batch.next_offset
            known.top = max(known.top, known.read_to)
            if batch.offsets and batch.offsets[-1] >= known.committed:
                # No record is newer than its arrival, whatever its producer's clock says; -1 is none at all.
                known.last_s = _written_s(batch.timestamps[-1], wall)
                self._mark(known, batch, now, wall)

    def waited(self, now: float) -> None:
        """A poll has waited, and brought nothing."""
        self._idle = now

    def decoded(self, decoded: Iterable[Events], now: float, wall: float) -> None:
        """These events are read; looked at now and then, because it costs something for each event."""
        if now < self._gaps_at:
            return
        for events in decoded:
            if events.batch.replay:
                continue
            self._gaps_at = now + GAP_INTERVAL_S
            known = self._owned.get(events.batch.partition)
            if known is not None and (gap_s := _gap_s(events, wall)) is not None:
                known.gap_s = gap_s

    def committed(self, places: Mapping[Partition, Place]) -> None:
        """These are committed."""
        for partition, place in places.items():
            if (known := self._owned.get(partition)) is not None:
                self._commit(known, place.offset)

    def looked(self, ends: Mapping[Partition, int], now: float) -> None:
        """These are the ends of the logs, ``now``."""
        for partition, end in ends.items():
            if (known := self._owned.get(partition)) is not None:
                self._look(known, end, now)

    def arrived(self, partition: Partition, offset: int) -> float | None:
        """When this record came, monotonic; None for one that is not known any more."""
        known = self._owned.get(partition)
        marks = () if known is None else known.marks
        return next((mark.arrived for mark in reversed(marks) if mark.offset <= offset), None)

    def delay_s(self, partition: Partition, now: float, wall: float) -> float:
        """Age of the oldest record that is not answered; 0 when there is none, or it is from the future."""
        known = self._owned.get(partition)
        return 0.0 if known is None else max(0.0, self._age_s(known, now, wall))

    def event_delay_s(self, partition: Partition, now: float, wall: float) -> float:
        """The same by event time: of a record as far before its timestamp as the events read last."""
        known = self._owned.get(partition)
        age_s = -math.inf if known is None else self._age_s(known, now, wall)
        return 0.0 if known is None or age_s == -math.inf else max(0.0, age_s + known.gap_s)

    def _age_s(self, known: _Known, now: float, wall: float) -> float:
        """Minus infinity when all is answered."""
        oldest_s, end, seen = known.oldest_s, known.end, max(known.read_to, known.committed)
        age_s = -math.inf if oldest_s is None else wall - oldest_s
        # What was behind at the look may be so still, though it has passed the end of then: until a poll waits.
        behind = known.behind and self._idle <= known.looked
        if end > seen or behind or now - known.looked > self.stale_s:
            caught_up = known.looked if end <= seen else known.caught_up
            unread_s = min(wall - known.last_s, now - caught_up)
            age_s = max(age_s, unread_s if unread_s < math.inf else now - known.since)
        return age_s

    def _mark(self, known: _Known, batch: RecordBatch, now: float, wall: float) -> None:
        first = bisect_left(batch.offsets, known.committed) if batch.offsets[0] < known.committed else 0
        if first == len(batch.offsets):
            return  # a replay of what is committed
        offset, marks = batch.offsets[first], known.marks
        while marks and marks[-1].offset >= offset:  # read again after a rollback
            marks.pop()
        marks.append(Mark(offset, _written_s(batch.timestamps[first], wall), now))
        if len(marks) > MARKS_LIMIT:
            del marks[1::2]  # what is between two counts as old as the first
        self._prune(known)

    def _commit(self, known: _Known, offset: int) -> None:
        known.committed = offset
        self._prune(known)

    def _prune(self, known: _Known) -> None:
        marks, committed = known.marks, known.committed
        passed = len(marks) if committed >= known.top else 0
        while passed + 1 < len(marks) and marks[passed + 1].offset <= committed:
            passed += 1
        if passed:
            del marks[:passed]
        known.oldest_s = marks[0].written_s if marks else None

    def _look(self, known: _Known, end: int, now: float) -> None:
        seen = max(known.read_to, known.committed)
        if known.end <= seen:
            known.caught_up = known.looked
        known.behind = end > seen
        known.end, known.looked = end, now


def _written_s(timestamp_ms: int, wall: float) -> float:
    return wall if timestamp_ms < 0 else min(timestamp_ms / 1000, wall)


def _gap_s(events: Events, wall: float) -> float | None:
    """The median of how much older events are than their records; None without event times."""
    told = events.times >= 0
    if not told.any():
        return None
    written_ms = np.asarray(events.batch.timestamps, np.int64)[events.records[told]]
    written_ms = np.where(written_ms < 0, np.int64(1000 * wall), written_ms)
    return float(np.median(written_ms - events.times[told])) / 1000
