"""The broker in memory, for tests: logs, consumer groups, and every fault on demand.

Rule of this file: nothing happens by itself. No thread, no clock, no chance: rebalances, crashes and failures happen
when the test says so and are seen at the next call, so a run can be repeated step by step.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from worker.errors import CommitRefusedError
from worker.kafka.contracts import NO_NOTES, Committed, Notes, TopicFacts
from worker.records.ownership import Partition
from worker.records.record_batch import Headers

OPERATIONS = frozenset(
    {"poll", "commit", "committed", "log_range", "offsets_at", "topic", "send", "flush", "open", "commit_transaction"}
)


class StoredRecord(NamedTuple):
    """One record as it lies in a log; ``timestamp`` in ms since the epoch, -1 for none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Member(Protocol):
    """What the broker knows of a source."""

    group_id: str
    topics: tuple[str, ...]
    lost: list[Partition]
    crashed: bool


@dataclass(slots=True)
class _Log:
    start: int = 0
    end: int = 0
    records: list[StoredRecord] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """The members of a group, who shall own what, who does, and the committed positions."""

    members: list[Member] = field(default_factory=list)
    targets: dict[Partition, Member | None] = field(default_factory=dict)  # who shall own
    owners: dict[Partition, Member] = field(default_factory=dict)  # who does
    committed: dict[Partition, Committed] = field(default_factory=dict)


class MemoryBroker:
    """Topics with their logs, groups with their committed offsets, and the faults that the next calls meet."""

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self._logs: dict[Partition, _Log] = {}
        self._topic_ids: dict[str, str] = {}
        self._groups: dict[str, Group] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._writers: dict[str, object] = {}  # transactional id → who may write in its name
        self._keyless = 0
        self.largest_bytes: dict[str, int] = {}  # topic → what its messages may hold; 1 MB where it is not there
        self.compacted: set[str] = set()  # topics that take no message without a key
        for topic, partitions in (topics or {}).items():
            self.create_topic(topic, partitions)

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic; an existing one is deleted first and gets a new id, as a recreated topic does."""
        self._logs = {partition: log for partition, log in self._logs.items() if partition.topic != topic}
        self._logs.update({Partition(topic, number): _Log() for number in range(partitions)})
        self._topic_ids[topic] = f"{topic}-{len(self._topic_ids)}-{self._topic_ids.get(topic, '')}".rstrip("-")

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        timestamp: int = -1,
        partition: int | None = None,
    ) -> tuple[Partition, int]:
        """Write one record and return where it lies; without ``partition`` the key decides."""
        chosen = Partition(topic, self._choose(topic, key) if partition is None else partition)
        log = self._logs[chosen]
        log.records.append(StoredRecord(log.end, timestamp, key, value, headers))
        log.end += 1
        return chosen, log.end - 1

    def records(self, topic: str, partition: int | None = None) -> list[StoredRecord]:
        """What lies in a topic, partition by partition, or in one partition."""
        return [
            record
            for each, log in sorted(self._logs.items())
            if each.topic == topic and partition in (None, each.number)
            for record in log.records
        ]

    def read(self, partition: Partition, position: int, count: int) -> tuple[list[StoredRecord], int]:
        """At most ``count`` records from ``position`` on, and the position after them (the log's end, if all)."""
        log = self._logs[partition]
        first = bisect_left(log.records, position, key=lambda record: record.offset)
        taken = log.records[first : first + count]
        return taken, taken[-1].offset + 1 if first + count < len(log.records) else log.end

    def log_range(self, partition: Partition) -> tuple[int, int]:
        """(start, end) of one log."""
        log = self._logs[partition]
        return log.start, log.end

    def offset_at(self, partition: Partition, time_ms: int) -> int:
        """The first offset that is as late as this, the log's end if none is."""
        log = self._logs[partition]
        return next((record.offset for record in log.records if record.timestamp >= time_ms), log.end)

    def admit(self, transactional_id: str, writer: object) -> None:
        """From now on only this one writes in the name of the id."""
        self._writers[transactional_id] = writer

    def may_write(self, transactional_id: str, writer: object) -> bool:
        """Whether nobody else has been admitted since."""
        return self._writers[transactional_id] is writer

    def add_gap(self, partition: Partition, count: int = 1) -> None:
        """Take ``count`` offsets without records, as transaction markers and aborted records do."""
        self._logs[partition].end += count

    def compact(self, partition: Partition, offsets: Collection[int]) -> None:
        """Take the records at these offsets out of the log, as compaction does."""
        log = self._logs[partition]
        log.records = [record for record in log.records if record.offset not in offsets]

    def truncate(self, partition: Partition, start: int) -> None:
        """Move the start of the log, as retention does."""
        log = self._logs[partition]
        log.start = start
        log.end = max(log.end, start)
        del log.records[: bisect_left(log.records, start, key=lambda record: record.offset)]

    def commit(self, source: Member, offsets: Mapping[Partition, int], notes: Notes = NO_NOTES) -> None:
        """Commit positions for a member; committing partitions that another member owns is a programmer's mistake.

        Raises CommitRefusedError when the group has moved on without it.
        """
        group = self.group(source.group_id)
        if source.crashed or source.lost or source not in group.members:
            raise CommitRefusedError(f"this process is no longer a member of group '{source.group_id}'")
        foreign = [str(partition) for partition in offsets if group.owners.get(partition) is not source]
        assert not foreign, f"commit for partitions of other members: {foreign}"
        group.committed.update({each: Committed(at, notes.get(each, "")) for each, at in offsets.items()})

    def committed(self, group_id: str, partition: Partition) -> int | None:
        """The committed position of a group, None where there is none."""
        found = self.group(group_id).committed.get(partition)
        return None if found is None else found.offset

    def set_committed(self, group_id: str, partition: Partition, offset: int | None) -> None:
        """What an operator can do: set or delete a group's committed position."""
        self.group(group_id).committed.pop(partition, None)
        if offset is not None:
            self.group(group_id).committed[partition] = Committed(offset)

    def fail(self, operation: str, error: Exception, times: int = 1) -> None:
        """The next ``times`` calls of ``operation`` (one of OPERATIONS) raise ``error`` and do nothing else."""
        assert operation in OPERATIONS, operation
        self._failures.setdefault(operation, []).extend([error] * times)

    def meet_failure(self, operation: str) -> None:
        """Raise what ``fail`` has put in the way of this operation, once."""
        if self._failures.get(operation):
            raise self._failures[operation].pop(0)

    def rebalance(
        self,
        source: Member,
        assigned: Iterable[Partition] = (),
        revoked: Iterable[Partition] = (),
        lost: Iterable[Partition] = (),
    ) -> None:
        """Say who shall own what; each member learns its part at its next poll.

        ``assigned`` go to ``source``, if it is a member, as soon as their owner has answered Revoked; ``revoked`` stay
        without an owner until a member joins or leaves or they are assigned; ``lost`` are taken without asking.
        """
        group = self.group(source.group_id)
        if source in group.members:
            group.targets.update((partition, source) for partition in assigned)
        group.targets.update((partition, None) for partition in revoked)
        for partition in lost:
            if group.owners.get(partition) is source:
                del group.owners[partition]
                source.lost.append(partition)

    def expel(self, source: Member) -> None:
        """The member's session has ended: the others get its partitions now, it learns that at its next poll."""
        group = self.group(source.group_id)
        self.rebalance(source, lost=[partition for partition, owner in group.owners.items() if owner is source])
        self.leave(source)

    def crash(self, source: Member) -> None:
        """The process of this member is gone: as ``expel``, and the object must not be used again."""
        self.expel(source)
        source.crashed = True

    def group(self, group_id: str) -> Group:
        """The group of that id, created at its first use."""
        return self._groups.setdefault(group_id, Group())

    def join(self, source: Member) -> None:
        """Make ``source`` a member and deal the partitions anew, in turn."""
        self.group(source.group_id).members.append(source)
        self._deal(self.group(source.group_id))

    def leave(self, source: Member) -> None:
        """Take ``source`` out of its group and deal the partitions anew."""
        group = self.group(source.group_id)
        if source in group.members:
            group.members.remove(source)
            group.owners = {partition: owner for partition, owner in group.owners.items() if owner is not source}
            self._deal(group)

    def topic(self, name: str) -> TopicFacts:
        """Id and partitions of a topic; another id once the topic was created again."""
        return TopicFacts(self._topic_ids[name], self._count(name))

    def _deal(self, group: Group) -> None:
        group.targets = {}
        takers: dict[str, int] = {}
        for partition in sorted(self._logs):
            members = [member for member in group.members if partition.topic in member.topics]
            turn = takers.get(partition.topic, 0)
            takers[partition.topic] = turn + 1
            group.targets[partition] = members[turn % len(members)] if members else None

    def _count(self, topic: str) -> int:
        return sum(partition.topic == topic for partition in self._logs)

    def _choose(self, topic: str, key: bytes | None) -> int:
        count = self._count(topic)
        assert count, f"topic '{topic}' does not exist"
        self._keyless += key is None
        return (self._keyless if key is None else zlib.crc32(key)) % count
