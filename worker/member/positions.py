"""The partitions that this member owns, and how far each has come. Positions only move forward, by what was read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

NOTHING_SAVED = -1


@dataclass(slots=True)
class _Progress:
    topic_id: str
    note: str  # for its commits
    position: int  # next offset to read
    live_from: int  # records below were answered before the restart
    committed: int
    saved: int  # position of the last checkpoint


class Positions:
    """Positions, commits and checkpoints per owned partition."""

    def __init__(self) -> None:
        self._owned: dict[Partition, _Progress] = {}

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._owned

    def __len__(self) -> int:
        return len(self._owned)

    def open(self, partition: Partition, topic_id: str, start: int, live_from: int, note: str = "") -> None:
        """Own a partition from now on, read from ``start``, answered up to ``live_from``; its commits have ``note``."""
        assert partition not in self._owned, partition
        self._owned[partition] = _Progress(topic_id, note, start, live_from, committed=live_from, saved=start)

    def close(self, partition: Partition) -> None:
        """Own it no longer."""
        self._owned.pop(partition, None)

    def to_answer(self, batch: RecordBatch) -> list[RecordBatch]:
        """The batch's records: those answered before the restart as a replay, and those that are new."""
        progress = self._owned[batch.partition]
        if batch.offsets and batch.offsets[0] < progress.position:
            raise AssertionError(f"{batch.partition}: offset {batch.offsets[0]} was read before {progress.position}")
        return batch.answered_below(progress.live_from)

    def advance(self, partition: Partition, next_offset: int) -> None:
        """All records below ``next_offset`` have been processed."""
        progress = self._owned[partition]
        assert next_offset >= progress.position, (partition, next_offset, progress.position)
        progress.position = next_offset

    def uncommitted(self) -> dict[Partition, int]:
        """Positions beyond what is committed. During a replay there are none."""
        return {p: progress.position for p, progress in self._owned.items() if progress.position > progress.committed}

    def notes(self, partitions: Iterable[Partition]) -> dict[Partition, str]:
        """The notes to commit with their positions."""
        return {partition: self._owned[partition].note for partition in partitions}

    def committed(self, offsets: dict[Partition, int]) -> None:
        """These offsets are committed."""
        for partition, offset in offsets.items():
            self._owned[partition].committed = offset

    def unsaved(self) -> list[Partition]:
        """Partitions whose position is committed and newer than their last checkpoint."""
        return [p for p, progress in self._owned.items() if progress.saved < progress.position <= progress.committed]

    def saved(self, partition: Partition, position: int) -> None:
        """A checkpoint of this position is being written."""
        self._owned[partition].saved = position

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

    def commits(self) -> dict[Partition, int]:
        """The offset committed last, of every owned partition."""
        return {partition: progress.committed for partition, progress in self._owned.items()}

    def topic_id(self, partition: Partition) -> str:
        """The id of the partition's topic when it was assigned."""
        return self._owned[partition].topic_id
