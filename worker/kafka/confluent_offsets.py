"""Questions about offsets to confluent-kafka's consumer, each answered for all partitions or raised for one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from worker.kafka.confluent_errors import translated
from worker.records import Partition

LEAST_WAIT_S = 0.001


def committed_offsets(consumer: Any, places: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
    """See Source.committed."""
    names = [TopicPartition(place.topic, place.number) for place in places]
    with translated("committed offsets"):
        found = _by_partition(consumer.committed(names, timeout=timeout_s))
    return {place: offset if offset >= 0 else None for place, offset in found.items()}


def log_ranges(consumer: Any, places: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
    """See Source.log_range."""
    deadline = time.monotonic() + timeout_s
    found = {}
    for place in places:
        with translated(f"ends of {place}", place):
            left_s = max(deadline - time.monotonic(), LEAST_WAIT_S)
            name = TopicPartition(place.topic, place.number)
            found[place] = consumer.get_watermark_offsets(name, timeout=left_s, cached=False)
    return found


def offsets_by_time(consumer: Any, places: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
    """See Source.offsets_at."""
    deadline = time.monotonic() + timeout_s
    names = [TopicPartition(place.topic, place.number, time_ms) for place in places]
    if not names:
        return {}
    with translated("offsets by time"):
        found = _by_partition(consumer.offsets_for_times(names, timeout=timeout_s))
    later = [place for place, offset in found.items() if offset < 0]  # no record is as late as that
    ends = log_ranges(consumer, later, max(deadline - time.monotonic(), LEAST_WAIT_S))
    return found | {place: end for place, (_, end) in ends.items()}


def _by_partition(answers: Iterable[Any]) -> dict[Partition, int]:
    found = {}
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
        found[Partition(answer.topic, answer.partition)] = answer.offset
    return found
