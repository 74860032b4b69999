"""Questions about offsets to kafka-python's consumer, each answered for all partitions or raised for one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.kafka.contracts import Committed, Notes
from worker.kafka.kafka_python.errors import translated
from worker.records.ownership import Partition


def named(partition: Partition) -> TopicPartition:
    """A partition in the client's words."""
    return TopicPartition(partition.topic, partition.number)


def with_notes(offsets: Mapping[Partition, int], notes: Notes) -> dict[TopicPartition, OffsetAndMetadata]:
    """Positions as the client commits them."""
    return {
        named(partition): OffsetAndMetadata(offset, notes.get(partition, ""), -1)
        for partition, offset in offsets.items()
    }


def committed_offsets(
    consumer: Any, partitions: Iterable[Partition], timeout_s: float
) -> dict[Partition, Committed | None]:
    """See Source.committed."""
    deadline = time.monotonic() + timeout_s
    found: dict[Partition, Committed | None] = {}
    for partition in partitions:
        with translated(f"committed offset of {partition}"):
            told = consumer.committed(named(partition), metadata=True, timeout_ms=_left_ms(deadline))
        found[partition] = None if told is None else Committed(told.offset, told.metadata or "")
    return found


def log_ranges(consumer: Any, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
    """See Source.log_range."""
    names = {partition: named(partition) for partition in partitions}
    deadline = time.monotonic() + timeout_s
    with translated("ends of the log"):
        starts = consumer.beginning_offsets(list(names.values()), timeout_ms=timeout_s * 1000)
        ends = consumer.end_offsets(list(names.values()), timeout_ms=_left_ms(deadline))
    return {partition: (starts[name], ends[name]) for partition, name in names.items()}


def offsets_by_time(
    consumer: Any, partitions: Iterable[Partition], time_ms: int, timeout_s: float
) -> dict[Partition, int]:
    """See Source.offsets_at."""
    names = {partition: named(partition) for partition in partitions}
    deadline = time.monotonic() + timeout_s
    with translated("offsets by time"):
        asked = {name: max(time_ms, 0) for name in names.values()}
        found = consumer.offsets_for_times(asked, timeout_ms=timeout_s * 1000)
        late = [name for name in names.values() if found[name] is None]
        ends = consumer.end_offsets(late, timeout_ms=_left_ms(deadline)) if late else {}
    return {partition: ends[name] if name in ends else found[name].offset for partition, name in names.items()}


def _left_ms(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0) * 1000
