"""Streams of one name in several partitions of a topic: each has a state of its own, from a part of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.records.ownership import Partition
from worker.streams.partition_streams import PartitionStreams

DOUBLES_REMEMBERED = 100_000  # names; beyond it the oldest may be counted again


class Doubles:
    """Counts each such stream once, however often it begins, is restored or is in a third partition."""

    def __init__(self) -> None:
        self.count = 0  # streams found, since the start
        self.last: tuple[str, Partition, Partition] | None = None  # the last one found, and where
        self._found: dict[tuple[str, str], None] = {}  # (topic, stream), oldest first

    def look(
        self, partitions: Mapping[Partition, PartitionStreams], partition: Partition, names: Sequence[str]
    ) -> None:
        """Look for these streams, which begin in this partition, in the others of its topic."""
        for other, streams in partitions.items():
            if other == partition or other.topic != partition.topic:
                continue
            for name in sorted(streams.rows.keys() & names):
                if (partition.topic, name) not in self._found:
                    self._remember(partition.topic, name)
                    self.last = (name, other, partition)

    def _remember(self, topic: str, name: str) -> None:
        self.count += 1
        self._found[topic, name] = None
        if len(self._found) > DOUBLES_REMEMBERED:
            del self._found[next(iter(self._found))]
