"""Questions about offsets to confluent-kafka's consumer, each answered for all partitions or raised for one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.kafka.confluent.admin import close_consumer
from worker.kafka.confluent.errors import client_options, translated
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

Answer = TypeVar("Answer")

log = logging.getLogger("worker.kafka")

ISOLATION = {"isolation.level": "read_committed"}  # also decides what counts as the end of a log
LEAST_WAIT_S = 0.001
REFRESH_WAIT_S = 0.1  # a new leader is not there at once
CLOSE_TIMEOUT_S = 2.0  # of a client that is in no group
TRY_S = 3.0  # a node that is gone is waited for this long: then the leaders are looked up again
OUTDATED = (
    KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN,
    KafkaError._UNKNOWN_PARTITION, KafkaError._DESTROY_BROKER, KafkaError._UNKNOWN_BROKER,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
)  # fmt: skip


def log_ranges(
    consumer: Any, settings: ClientSettings, partitions: Iterable[Partition], timeout_s: float
) -> dict[Partition, tuple[int, int]]:
    """See Source.log_range."""
    deadline = time.monotonic() + timeout_s
    found = {}
    for partition in partitions:
        with translated(f"ends of {partition}", partition):
            name = TopicPartition(partition.topic, partition.number)
            ask = partial(_ends, name)
            found[partition] = _of_the_leaders(consumer, settings, [partition.topic], deadline, ask)
    return found


def _ends(name: TopicPartition, consumer: Any, timeout_s: float) -> tuple[int, int]:
    found: tuple[int, int] = consumer.get_watermark_offsets(name, timeout=timeout_s, cached=False)
    return found


def offsets_by_time(
    consumer: Any, settings: ClientSettings, partitions: Iterable[Partition], time_ms: int, timeout_s: float
) -> dict[Partition, int]:
    """See Source.offsets_at."""
    deadline = time.monotonic() + timeout_s
    names = [TopicPartition(partition.topic, partition.number, time_ms) for partition in partitions]
    if not names:
        return {}
    with translated("offsets by time"):
        found = _of_the_leaders(
            consumer, settings, sorted({name.topic for name in names}), deadline,
            lambda asked, left_s: _by_partition(asked.offsets_for_times(names, timeout=left_s)),
        )  # fmt: skip
    later = [partition for partition, offset in found.items() if offset < 0]  # no record is as late as that
    ends = log_ranges(consumer, settings, later, _left_s(deadline))
    return found | {partition: end for partition, (_, end) in ends.items()}


def _of_the_leaders(
    consumer: Any,
    settings: ClientSettings,
    topics: Iterable[str],
    deadline: float,
    ask: Callable[[Any, float], Answer],
) -> Answer:
    """The answer; asked again by a client with fresh metadata when what this one knows of leaders is outdated.

    It does not refresh them itself: after the death of a node it calls each partition that the node led unknown, at
    once and for minutes. And to have it do so may end the process: a consumer that is asked for metadata in the middle
    of a callback has forgotten by the next one that it is in a call (CallState_get in confluent_kafka.c 2.16).
    """
    try:
        return ask(consumer, min(TRY_S, _left_s(deadline)))
    except KafkaException as error:
        if not _may_be_outdated(error, deadline):
            raise
    fresh = Consumer(client_options(settings, "consumer", {"group.id": settings.group_id, **ISOLATION}), logger=log)
    try:
        while True:
            for topic in topics:
                fresh.list_topics(topic, _left_s(deadline))
            try:
                return ask(fresh, min(TRY_S, _left_s(deadline)))
            except KafkaException as error:
                if not _may_be_outdated(error, deadline):
                    raise
            time.sleep(min(REFRESH_WAIT_S, _left_s(deadline)))
    finally:
        close_consumer(fresh, CLOSE_TIMEOUT_S)


def _may_be_outdated(error: KafkaException, deadline: float) -> bool:
    return error.args[0].code() in OUTDATED and time.monotonic() < deadline


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), LEAST_WAIT_S)


def _by_partition(answers: Iterable[Any]) -> dict[Partition, int]:
    found = {}
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
        found[Partition(answer.topic, answer.partition)] = answer.offset
    return found
