"""The partitions that this member owns, and how far each has come. Positions only move forward, by what was read.

In tasks that generate a record may have been read and not answered yet: the table of streams knows which (``streams``).
What is committed is then a ``Place``, and a checkpoint begins at the first record that is not finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from worker.member.commit_notes import Place, with_work
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.streams.partition_streams import PartitionStreams

# What a checkpoint has seen: the position it has read to, and the offsets below that are unfinished.
Seen: TypeAlias = tuple[int, tuple[int, ...]]

NOTHING_SAVED: Seen = (-1, ())
NOTHING_UNFINISHED: Mapping[int, int] = MappingProxyType({})
NO_STREAMS: Mapping[Partition, PartitionStreams] = MappingProxyType({})


@dataclass(slots=True)
class _Progress:
    topic_id: str
    note: str  # for its commits: of its topic
    position: int  # next offset to read
    live_from: int  # records below were answered before the restart
    owed: Mapping[int, int]  # but these, of which so many outputs were sent by then
    committed: Place
    offered: Place  # to be committed next
    saved: Seen = NOTHING_SAVED  # by the last checkpoint


class Positions:
    """Positions, commits and checkpoints per owned partition. ``streams``: only of tasks that generate."""

    def __init__(self, streams: Mapping[Partition, PartitionStreams] = NO_STREAMS, *, generates: bool = False) -> None:
        self._owned: dict[Partition, _Progress] = {}
        self._streams = streams
        self._generates = generates

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._owned

    def __len__(self) -> int:
        return len(self._owned)

    def open(
        self,
        partition: Partition,
        topic_id: str,
        start: int,
        live_from: int,
        note: str = "",
        owed: Mapping[int, int] = NOTHING_UNFINISHED,
    ) -> None:
        """Own a partition from now on, read from ``start``, answered up to ``live_from`` but for the records ``owed``.

        ``owed``: offset → how many outputs of it were sent, in the order of offsets. Its commits have ``note``. In
        tasks that generate its streams are open already.
        """
        assert partition not in self._owned, partition
        place = Place(next(iter(owed), live_from), live_from, tuple(owed.items()))
        self._owned[partition] = _Progress(topic_id, note, start, live_from, owed, place, place)
        self.saved(partition)

    def close(self, partition: Partition) -> None:
        """Own it no longer."""
        self._owned.pop(partition, None)

    def to_answer(self, batch: RecordBatch) -> list[RecordBatch]:
        """The batch's records: those answered before the restart as a replay, and those that are new or owed."""
        progress = self._owned[batch.partition]
        if batch.offsets and batch.offsets[0] < progress.position:
            raise AssertionError(f"{batch.partition}: offset {batch.offsets[0]} was read before {progress.position}")
        parts = batch.answered_below(progress.live_from)
        if not progress.owed or not parts or not parts[0].replay:
            return parts
        return [*parts[0].but(progress.owed), *parts[1:]]

    def advance(self, partition: Partition, next_offset: int) -> None:
        """All records below ``next_offset`` have been read."""
        progress = self._owned[partition]
        assert next_offset >= progress.position, (partition, next_offset, progress.position)
        progress.position = next_offset

    def uncommitted(self) -> dict[Partition, int]:
        """Offsets to commit, of partitions that have come further than what is committed.

        During a replay there are none, unless records that are owed get on.
        """
        found = {}
        for partition, progress in self._owned.items():
            if not self._generates and progress.position <= progress.committed.read_to:
                continue
            progress.offered = self._place(partition, progress)
            if progress.offered != progress.committed:
                found[partition] = progress.offered.offset
        return found

    def _place(self, partition: Partition, progress: _Progress) -> Place:
        position, live_from = progress.position, progress.live_from
        read_to = max(position, live_from)
        if not self._generates:
            return Place(read_to, read_to)
        # Records below live_from that are not owed may be unfinished, too: their answers are nobody's concern.
        working = self._streams[partition].unfinished
        unfinished = [
            (offset, max(sent, working[offset].sent) if offset in working else sent)
            for offset, sent in progress.owed.items()
            if offset >= position or offset in working
        ]
        unfinished += [(offset, each.sent) for offset, each in working.items() if offset >= live_from]
        return Place(unfinished[0][0] if unfinished else read_to, read_to, tuple(unfinished))

    def notes(self, partitions: Iterable[Partition]) -> dict[Partition, str]:
        """The notes to commit with the offsets that ``uncommitted`` has given."""
        owned = self._owned
        return {partition: with_work(owned[partition].note, owned[partition].offered) for partition in partitions}

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Place]:
        """What ``uncommitted`` gave for these is committed; returns it."""
        places = {}
        for partition in partitions:
            progress = self._owned[partition]
            place = progress.committed = progress.offered
            if progress.owed:
                progress.owed = {offset: sent for offset, sent in place.unfinished if offset < progress.live_from}
            places[partition] = place
        return places

    def moved(self) -> list[Partition]:
        """Partitions that are further than their last checkpoint, committed or not."""
        return [partition for partition, progress in self._owned.items() if progress.saved != self._seen(partition)]

    def unsaved(self) -> list[Partition]:
        """Partitions whose progress is committed and newer than their last checkpoint."""
        return [
            partition
            for partition, progress in self._owned.items()
            if progress.saved != self._seen(partition) and self._place(partition, progress) == progress.committed
        ]

    def snapshot_at(self, partition: Partition) -> tuple[int, int]:
        """(next_offset, read_to) of a checkpoint that is taken now."""
        read_to, unfinished = self._seen(partition)
        return min(unfinished, default=read_to), read_to

    def _seen(self, partition: Partition) -> Seen:
        position = self._owned[partition].position
        if not self._generates:
            return position, ()
        streams = self._streams[partition]
        # The states of a checkpoint have seen records that are read once more; a gap in the log moves positions alone.
        return max(position, streams.read_to), tuple(streams.unfinished)

    def saved(self, partition: Partition) -> None:
        """A checkpoint is being written, or was loaded."""
        self._owned[partition].saved = self._seen(partition)

    def not_saved(self, partition: Partition) -> None:
        """A checkpoint of this partition could not be written: save its position again, even if it has not moved."""
        if partition in self._owned:
            self._owned[partition].saved = NOTHING_SAVED

    def replaying(self) -> dict[Partition, int]:
        """Partitions that have not caught up with their last commit, and how many offsets are left."""
        return {
            p: progress.live_from - progress.position
            for p, progress in self._owned.items()
            if progress.position < progress.live_from
        }

    def of(self, partition: Partition) -> int:
        """The next offset to read."""
        return self._owned[partition].position

    def all(self) -> dict[Partition, int]:
        """The next offset to read, of every owned partition."""
        return {partition: progress.position for partition, progress in self._owned.items()}

    def commits(self) -> dict[Partition, Place]:
        """What was committed last, of every owned partition."""
        return {partition: progress.committed for partition, progress in self._owned.items()}

    def topic_id(self, partition: Partition) -> str:
        """The id of the partition's topic when it was assigned."""
        return self._owned[partition].topic_id
