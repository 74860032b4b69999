"""The Source contract in memory, for tests. The broker is in ``memory_broker``, sinks are in ``memory_sinks``.

Rule of this file: nothing happens by itself. No thread, no clock, no chance: what the broker was told to do is seen at
the next call, so a run can be repeated step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from worker.errors import OffsetOutOfRangeError
from worker.kafka.contracts import NO_NOTES, Committed, Notes, React, TopicFacts
from worker.kafka.memory.broker import MemoryBroker
from worker.kafka.topic_ids import TopicIds
from worker.records.ownership import Assigned, Lost, Partition, Revoked, StartOffsets
from worker.records.record_batch import RecordBatch


class MemorySource:
    """A member of a group on a MemoryBroker: the Source contract without a network."""

    rebuilds = 0

    def __init__(self, broker: MemoryBroker, group_id: str) -> None:
        self.group_id = group_id
        self.topics: tuple[str, ...] = ()
        self.lost: list[Partition] = []
        self.crashed = False
        self._broker = broker
        self._react: React | None = None
        self._ids = TopicIds(self._id_now)
        self._positions: dict[Partition, int] = {}
        self._closed = False
        self._turn = 0

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """See Source."""
        assert self._react is None, "subscribe once"
        self.topics, self._react = tuple(topics), self._ids.following(react)
        self._broker.join(self)

    @property
    def joined(self) -> bool:
        """See Source."""
        return self._turn > 0 and self in self._broker.group(self.group_id).members

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """See Source; never waits."""
        assert self._react is not None, "subscribe first"
        assert not self._closed, "closed"
        assert not self.crashed, "crashed"
        assert max_records >= 0
        assert timeout_s >= 0
        self._broker.meet_failure("poll")
        self._follow_group(self._react)
        partitions = sorted(self._positions)
        self._turn += 1
        batches: list[RecordBatch] = []
        for partition in (partitions[(index + self._turn) % len(partitions)] for index in range(len(partitions))):
            room = max_records - sum(map(len, batches))
            if room and (batch := self._read(partition, room)) is not None:
                batches.append(batch)
        self._positions.update({batch.partition: batch.next_offset for batch in batches})
        return batches

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Source; committing a partition that another member owns is a programmer's mistake."""
        assert timeout_s >= 0
        self._broker.meet_failure("commit")
        self._broker.commit(self, offsets, notes)

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, Committed | None]:
        """See Source."""
        assert timeout_s >= 0
        self._broker.meet_failure("committed")
        group = self._broker.group(self.group_id)
        return {partition: group.committed.get(partition) for partition in partitions}

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source."""
        assert timeout_s >= 0
        self._broker.meet_failure("log_range")
        return {partition: self._broker.log_range(partition) for partition in partitions}

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """See Source."""
        assert timeout_s >= 0
        self._broker.meet_failure("offsets_at")
        return {partition: self._broker.offset_at(partition, time_ms) for partition in partitions}

    def still_here(self) -> None:
        """See Source. This group knows no time."""

    def seek(self, starts: StartOffsets) -> None:
        """See Source."""
        self._positions.update({each: offset for each, offset in starts.items() if each in self._positions})

    def member(self) -> object:
        """See Source."""
        return self

    def topic(self, name: str, timeout_s: float) -> TopicFacts:
        """See Source."""
        assert timeout_s >= 0
        self._broker.meet_failure("topic")
        found = self._broker.topic(name)
        self._ids.asked(name, found.id)
        return found

    def close(self, timeout_s: float) -> None:
        """See Source."""
        assert timeout_s >= 0
        if self._closed or self.crashed:
            return
        if self._react is not None:
            targets = self._broker.group(self.group_id).targets  # an expelled member has nothing left to give back
            self._broker.rebalance(self, revoked=[each for each in self._positions if targets.get(each) is self])
            self._give_up(self._react)
            self._broker.leave(self)
        self._closed = True

    def _id_now(self, name: str) -> str:
        return self._broker.topic(name).id

    def _follow_group(self, react: React) -> None:
        self._give_up(react)
        if anew := self._ids.made_anew(self._ids.doubtful(), self._id_now):
            for partition in anew:
                del self._positions[partition]
            react(Lost(anew))
        group = self._broker.group(self.group_id)
        if self not in group.members:
            self._broker.join(self)
        # Also those whose Assigned was not answered last time, because react raised.
        gained = tuple(
            partition
            for partition, target in sorted(group.targets.items(), key=lambda item: item[0])
            if target is self and group.owners.get(partition, self) is self and partition not in self._positions
        )
        if gained:
            group.owners.update((partition, self) for partition in gained)
            starts: StartOffsets = react(Assigned(gained))
            self._positions.update({partition: starts[partition] for partition in gained})

    def _give_up(self, react: React) -> None:
        group = self._broker.group(self.group_id)
        if self.lost:
            lost = tuple(sorted(self.lost))
            for partition in lost:
                self._positions.pop(partition, None)
            # Cleared before react: it describes the past, and react may already raise.
            self.lost.clear()
            react(Lost(lost))
        revoked = tuple(p for p in sorted(self._positions) if group.targets.get(p) is not self)
        if revoked:
            react(Revoked(revoked))
        # Not only ``revoked``: also what was assigned and never answered, because react raised.
        for partition in [p for p, owner in group.owners.items() if owner is self and group.targets.get(p) is not self]:
            self._positions.pop(partition, None)
            del group.owners[partition]

    def _read(self, partition: Partition, room: int) -> RecordBatch | None:
        start, end = self._broker.log_range(partition)
        position = self._positions[partition]
        if not start <= position <= end:
            raise OffsetOutOfRangeError(partition, f"offset {position} is not in the log, which has {start} to {end}")
        if position == end:
            return None
        taken, next_offset = self._broker.read(partition, position, room)
        batch = RecordBatch(partition, next_offset)
        batch.offsets = [record.offset for record in taken]
        batch.timestamps = [record.timestamp for record in taken]
        batch.keys = [record.key for record in taken]
        batch.values = [record.value for record in taken]
        batch.headers = [record.headers or None for record in taken]
        return batch
