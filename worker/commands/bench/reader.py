"""Reads a topic from its end on and notes when each committed record came, on a thread; both clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

PATIENCE_S = 60.0  # without a record
POLL_S = 0.2

Poll: TypeAlias = Callable[[], Iterable[bytes]]


class Reader(threading.Thread):
    """``answers``: (value, seconds of the monotonic clock when it was there)."""

    def __init__(self, client: str, servers: str, topic: str, partitions: int, count: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[bytes, float]] = []
        self._ready = threading.Event()
        self._open: Callable[[], tuple[Poll, Callable[[], object]]] = lambda: OPENERS[client](
            servers, topic, partitions
        )
        self._count = count

    def await_ready(self) -> None:
        """Until it stands at the end of the topic."""
        self._ready.wait(PATIENCE_S)

    def run(self) -> None:
        """See Thread."""
        poll, close = self._open()
        self._ready.set()
        quiet_since = time.monotonic()
        while len(self.answers) < self._count and time.monotonic() - quiet_since < PATIENCE_S:
            for value in poll():
                self.answers.append((value, time.perf_counter()))
                quiet_since = time.monotonic()
        close()


def _confluent(servers: str, topic: str, partitions: int) -> tuple[Poll, Callable[[], object]]:
    from confluent_kafka import Consumer, TopicPartition

    own = {"group.id": "latency", "isolation.level": "read_committed", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": servers, **own})
    named = [TopicPartition(topic, number) for number in range(partitions)]
    for each in named:
        each.offset = consumer.get_watermark_offsets(each)[1]
    consumer.assign(named)
    consumer.poll(POLL_S)

    def poll() -> Iterable[Any]:
        message = consumer.poll(POLL_S)
        return [message.value()] if message is not None and message.error() is None else []

    return poll, consumer.close


def _kafka_python(servers: str, topic: str, partitions: int) -> tuple[Poll, Callable[[], object]]:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, isolation_level="read_committed")
    named = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(named)
    consumer.seek_to_end(*named)
    for each in named:
        consumer.position(each)

    def poll() -> Iterable[Any]:
        return [record.value for records in consumer.poll(POLL_S * 1e3).values() for record in records]

    return poll, consumer.close


OPENERS = {"confluent": _confluent, "kafka-python": _kafka_python}
