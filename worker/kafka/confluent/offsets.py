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
    with _Leaders(consumer, settings, deadline) as leaders:
        for partition in partitions:
            with translated(f"ends of {partition}", partition):
                name = TopicPartition(partition.topic, partition.number)
                found[partition] = leaders.answer([partition.topic], partial(_ends, name))
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
    with translated("offsets by time"), _Leaders(consumer, settings, deadline) as leaders:
        found = leaders.answer(
            sorted({name.topic for name in names}),
            lambda asked, left_s: _by_partition(asked.offsets_for_times(names, timeout=left_s)),
        )
    later = [partition for partition, offset in found.items() if offset < 0]  # no record is as late as that
    ends = log_ranges(consumer, settings, later, _left_s(deadline))
    return found | {partition: end for partition, (_, end) in ends.items()}


class _Leaders:
    """Asks the leaders of partitions: by this client, and, once what it knows of leaders is outdated, by a fresh one.

    It does not refresh them itself: after the death of a node it calls each partition that the node led unknown, at
    once and for minutes. And to have it do so may end the process: a consumer that is asked for metadata in the middle
    of a callback has forgotten by the next one that it is in a call (CallState_get in confluent_kafka.c 2.16).
    """

    def __init__(self, consumer: Any, settings: ClientSettings, deadline: float) -> None:
        self._client, self._settings, self._deadline = consumer, settings, deadline
        self._fresh: Any = None

    def __enter__(self) -> _Leaders:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fresh is not None:
            close_consumer(self._fresh, CLOSE_TIMEOUT_S)

    def answer(self, topics: Iterable[str], ask: Callable[[Any, float], Answer]) -> Answer:
        """Asked until the deadline with ever fresher metadata of these topics. Raises KafkaException."""
        while True:
            try:
                return ask(self._client, min(TRY_S, _left_s(self._deadline)))
            except KafkaException as error:
                if error.args[0].code() not in OUTDATED or time.monotonic() >= self._deadline:
                    raise
            self._refresh(topics)

    def _refresh(self, topics: Iterable[str]) -> None:
        if self._fresh is None:
            own = {"group.id": self._settings.group_id, **ISOLATION}  # it joins no group
            self._client = self._fresh = Consumer(client_options(self._settings, "consumer", own), logger=log)
        else:
            time.sleep(min(REFRESH_WAIT_S, _left_s(self._deadline)))
        for topic in topics:
            self._fresh.list_topics(topic, _left_s(self._deadline))


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), LEAST_WAIT_S)


def _by_partition(answers: Iterable[Any]) -> dict[Partition, int]:
    found = {}
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
        found[Partition(answer.topic, answer.partition)] = answer.offset
    return found
