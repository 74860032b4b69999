"""Questions about offsets to confluent-kafka's consumer, each answered for all partitions or raised for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from worker.kafka.confluent.errors import translated
from worker.records.ownership import Partition

Answer = TypeVar("Answer")

LEAST_WAIT_S = 0.001
REFRESH_WAIT_S = 0.1  # a new leader is not there at once
TRY_S = 3.0  # a node that is gone is waited for as long as one may: then the leaders are asked for again
OUTDATED = (
    KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN,
    KafkaError._UNKNOWN_PARTITION, KafkaError._DESTROY_BROKER, KafkaError._UNKNOWN_BROKER,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
)  # fmt: skip


def log_ranges(consumer: Any, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
    """See Source.log_range."""
    deadline = time.monotonic() + timeout_s
    found = {}
    for partition in partitions:
        with translated(f"ends of {partition}", partition):
            name = TopicPartition(partition.topic, partition.number)
            ask = partial(_ends, consumer, name)
            found[partition] = _of_the_leaders(consumer, [partition.topic], deadline, ask)
    return found


def _ends(consumer: Any, name: TopicPartition, timeout_s: float) -> tuple[int, int]:
    found: tuple[int, int] = consumer.get_watermark_offsets(name, timeout=timeout_s, cached=False)
    return found


def offsets_by_time(
    consumer: Any, partitions: Iterable[Partition], time_ms: int, timeout_s: float
) -> dict[Partition, int]:
    """See Source.offsets_at."""
    deadline = time.monotonic() + timeout_s
    names = [TopicPartition(partition.topic, partition.number, time_ms) for partition in partitions]
    if not names:
        return {}
    with translated("offsets by time"):
        found = _of_the_leaders(
            consumer, sorted({name.topic for name in names}), deadline,
            lambda left_s: _by_partition(consumer.offsets_for_times(names, timeout=left_s)),
        )  # fmt: skip
    later = [partition for partition, offset in found.items() if offset < 0]  # no record is as late as that
    ends = log_ranges(consumer, later, _left_s(deadline))
    return found | {partition: end for partition, (_, end) in ends.items()}


def _of_the_leaders(consumer: Any, topics: Iterable[str], deadline: float, ask: Callable[[float], Answer]) -> Answer:
    """The answer; asked again with fresh metadata when what the client knows of leaders is outdated.

    It does not refresh them itself: after the death of a node it calls each partition that the node led unknown, at
    once and for minutes.
    """
    while True:
        try:
            return ask(min(TRY_S, _left_s(deadline)))
        except KafkaException as error:
            if error.args[0].code() not in OUTDATED or time.monotonic() >= deadline:
                raise
        for topic in topics:
            consumer.list_topics(topic, _left_s(deadline))
        time.sleep(min(REFRESH_WAIT_S, _left_s(deadline)))


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), LEAST_WAIT_S)


def _by_partition(answers: Iterable[Any]) -> dict[Partition, int]:
    found = {}
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
        found[Partition(answer.topic, answer.partition)] = answer.offset
    return found
