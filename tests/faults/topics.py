"""Reading topics and offsets for the check, with a client of its own: no code of the worker, no consumer group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

QUESTION_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 120.0
SILENT_S = 15.0  # a reader that hears nothing for so long is made anew: librdkafka can forget its only broker
ASK_AGAIN_S = 0.1
NOT_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
)  # fmt: skip
QUIET = logging.getLogger("tests.faults.kafka")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Row(NamedTuple):
    """A record as it lies in the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def consumer(servers: str, group: str = "fault-harness") -> Any:
    settings = {
        "bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", "fetch.wait.max.ms": 100, "reconnect.backoff.max.ms": 500,
        "enable.partition.eof": True,
        "socket.timeout.ms": 5_000, "topic.metadata.refresh.interval.ms": 1_000,  # not to wait for a frozen node
    }  # fmt: skip
    return Consumer(settings, logger=QUIET)


class TopicReader:
    """Every committed record of a topic, each once, in the order of its partition."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._servers, self._topic = servers, topic
        self._next = dict.fromkeys(range(partitions), 0)
        self._reached = dict.fromkeys(range(partitions), 0)  # ends seen: markers of transactions lie below them, too
        self._consumer: Any = None
        self.reopen()

    def reopen(self) -> None:
        """A new client that resumes where the last one stopped."""
        self.close()
        self._heard = time.monotonic()
        self._consumer = consumer(self._servers)
        self._consumer.assign([TopicPartition(self._topic, number, at) for number, at in self._next.items()])

    def poll(self, timeout_s: float) -> list[Row]:
        """What there is now, waiting at most so long for the first."""
        if time.monotonic() - self._heard > SILENT_S:
            self.reopen()
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        rows = []
        for message in [first, *self._consumer.consume(10_000, 0)]:
            if message.error() is None:
                rows.append(Row(message.partition(), message.offset(), message.key(), message.value()))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                self._reached[message.partition()] = message.offset()
        for row in rows:
            assert row.offset >= self._next[row.partition], "read twice"
            self._next[row.partition] = row.offset + 1
        if rows:
            self._heard = time.monotonic()
        return rows

    def drain(self) -> list[Row]:
        """All that is left up to the end of the log as it is now. Raises TimeoutError."""
        last = ends(self._servers, self._topic, len(self._next))
        rows: list[Row] = []
        deadline = time.monotonic() + READ_TIMEOUT_S
        while any(max(self._next[number], self._reached[number]) < end for number, end in last.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._topic} was not read to its end in {READ_TIMEOUT_S:.0f} s")
            rows += self.poll(0.1)
        return rows

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


def ends(servers: str, topic: str, partitions: int) -> dict[int, int]:
    """The end of each partition's log."""
    asking = consumer(servers)
    try:
        return {
            number: _answered(
                lambda place: asking.get_watermark_offsets(place, timeout=QUESTION_TIMEOUT_S)[1],
                TopicPartition(topic, number),
            )
            for number in range(partitions)
        }
    finally:
        asking.close()


def committed(servers: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """The group's committed offsets; -1001 where there is none."""
    asking = consumer(servers, group)

    def ask(names: list[TopicPartition]) -> dict[int, int]:
        answers = asking.committed(names, timeout=QUESTION_TIMEOUT_S)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {answer.partition: answer.offset for answer in answers}

    try:
        return _answered(ask, [TopicPartition(topic, number) for number in range(partitions)])
    finally:
        asking.close()


def _answered(ask: Callable[[Asked], Answer], asked: Asked) -> Answer:
    """Ask again while the broker says that it can't tell yet: of a topic that is new, or after it has come back."""
    deadline = time.monotonic() + READ_TIMEOUT_S
    while True:
        try:
            return ask(asked)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
        time.sleep(ASK_AGAIN_S)


def everything(servers: str, topic: str, partitions: int) -> list[Row]:
    """A topic from its start to its end as it is now."""
    reader = TopicReader(servers, topic, partitions)
    try:
        return reader.drain()
    finally:
        reader.close()
