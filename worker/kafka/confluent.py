"""The Source contract on confluent-kafka: offsets and ownership decided by the loop.

Rule of this file: librdkafka calls back on the polling thread and waits for the callback, so ``react`` is called right
there: a revoked partition has no new owner before it returns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.kafka.confluent_admin import find_topic_id
from worker.kafka.confluent_errors import FENCED, client_options, translate, translated
from worker.kafka.confluent_ownership import Ownership
from worker.kafka.contracts import React
from worker.kafka.settings import ClientSettings, instance_id_taken
from worker.records import Lost, Partition, RecordBatch, Revoked

log = logging.getLogger("worker.kafka")

HEARTBEAT_INTERVAL_MS = 1000
CONNECT_TIMEOUT_S = 30.0


class ConfluentSource:
    """A member of a consumer group.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    rebuilds = 0  # librdkafka reconnects by itself

    def __init__(self, settings: ClientSettings, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        own: dict[str, Any] = {
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            # Tells the position at the end of the log, beyond markers and gaps, which no record does.
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            # Members learn of a rebalance by their heartbeats: 1 s in place of 3 s for each of its two rounds.
            "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
            "error_cb": self._on_error,
        }
        if settings.instance_id is not None:
            own["group.instance.id"] = settings.instance_id
        self._settings = settings
        self._ownership: Ownership | None = None
        self._fatal: KafkaError | None = None
        self._closed = False
        with translated(f"kafka at {settings.bootstrap_servers}"):
            self._consumer: Any = Consumer(client_options(settings, "consumer", own), logger=log)
            self._consumer.list_topics(timeout=connect_timeout_s)

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """See Source."""
        assert self._ownership is None, "subscribe once"
        owned = self._ownership = Ownership(self._consumer, react)
        self._consumer.subscribe(
            list(topics), on_assign=owned.on_assign, on_revoke=owned.on_revoke, on_lost=owned.on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """See Source."""
        owned = self._ownership
        assert owned is not None, "subscribe first"
        assert not self._closed, "closed"
        deadline = time.monotonic() + timeout_s
        if self._fatal is not None:
            raise self._explained(self._fatal)
        owned.realign()
        try:
            while True:
                batches = _batches(self._fetch(max_records, max(deadline - time.monotonic(), 0.0)), owned.positions)
                if batches or time.monotonic() >= deadline:
                    return batches
        except BaseException as error:
            if self._fatal is not None:
                raise self._explained(self._fatal) from error
            # Messages that the client had handed out are gone with the exception: read them again.
            owned.doubtful = True
            raise

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """See Source. A rebalance under way is KafkaUnavailableError: poll, then commit again."""
        named = [TopicPartition(place.topic, place.number, offset) for place, offset in offsets.items()]
        if not named:
            return
        # A synchronous commit has no time-out: while the cluster is silent it never returns, and from another thread
        # it holds up every other call. So it is sent off, and what then is committed tells, within the time.
        with translated("commit"):
            self._consumer.commit(offsets=named, asynchronous=True)
        if self.committed(offsets, timeout_s) == dict(offsets):
            return
        # The coordinator answers and has not taken it: ask again for the reason.
        with translated("commit"):
            try:
                answers = self._consumer.commit(offsets=named, asynchronous=False)
            except KafkaException as error:
                self._fatal = error.args[0] if error.args[0].code() in FENCED else None
                raise
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
        """See Source. Waits for open transactions that commit offsets of these partitions."""
        names = [TopicPartition(place.topic, place.number) for place in partitions]
        found: dict[Partition, int | None] = {}
        with translated("committed offsets"):
            for answer in self._consumer.committed(names, timeout=timeout_s):
                if answer.error is not None:
                    raise KafkaException(answer.error)
                found[Partition(answer.topic, answer.partition)] = answer.offset if answer.offset >= 0 else None
        return found

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source."""
        deadline = time.monotonic() + timeout_s
        found = {}
        for place in partitions:
            with translated(f"ends of {place}", place):
                left_s = max(deadline - time.monotonic(), 0.001)
                name = TopicPartition(place.topic, place.number)
                found[place] = self._consumer.get_watermark_offsets(name, timeout=left_s, cached=False)
        return found

    def topic_id(self, topic: str) -> str:
        """See Source. Raises WorkerError when the topic does not exist."""
        return find_topic_id(self._settings, topic)

    def close(self, timeout_s: float) -> None:
        """See Source."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._ownership is not None:
                self._ownership.hand_back(Revoked if self._fatal is None else Lost)
        finally:
            # It waits for the cluster's answer without a limit.
            closing = threading.Thread(target=self._consumer.close, daemon=True)
            closing.start()
            closing.join(timeout_s)

    def _fetch(self, max_records: int, timeout_s: float) -> list[Any]:
        with translated("poll"):
            # consume(n, timeout) waits until it has n messages; poll waits for one.
            first = self._consumer.poll(timeout_s)
            messages = [] if first is None else [first]
            if messages and max_records > 1:
                messages += self._consumer.consume(max_records - 1, 0)
        return messages

    def _explained(self, error: KafkaError) -> Exception:
        if error.code() in FENCED:
            return instance_id_taken(self._settings)
        return translate(error, "poll") or KafkaException(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
        log.log(logging.ERROR if error.fatal() else logging.INFO, "kafka: %s: %s", error.name(), error.str())


def _batches(messages: Sequence[Any], positions: dict[Partition, int]) -> list[RecordBatch]:
    """Sort messages into columns and move the positions; an end-of-partition event tells what no record does."""
    groups: dict[tuple[str, int], list[Any]] = {}
    ends: dict[Partition, int] = {}
    for message in messages:
        error = message.error()
        if error is None:
            groups.setdefault((message.topic(), message.partition()), []).append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[Partition(message.topic(), message.partition())] = message.offset()
        else:
            _raise(error, message, positions)
    batches = []
    for name, group in groups.items():
        place = Partition(*name)
        if place in positions:  # else revoked while its last messages were on their way
            next_offset = max(group[-1].offset() + 1, ends.pop(place, 0))
            batches.append(_columns(place, next_offset, group))
    batches += [RecordBatch(place, end) for place, end in ends.items() if end > positions.get(place, end)]
    positions.update({batch.partition: batch.next_offset for batch in batches})
    return batches


def _raise(error: KafkaError, message: Any, positions: Mapping[Partition, int]) -> None:
    place = None if message.topic() is None else Partition(message.topic(), message.partition())
    if place is None or place in positions:
        raise translate(error, "poll", place) or KafkaException(error)


def _columns(place: Partition, next_offset: int, messages: Sequence[Any]) -> RecordBatch:
    return RecordBatch(
        place,
        next_offset,
        [message.offset() for message in messages],
        [stamp if kind else -1 for kind, stamp in [message.timestamp() for message in messages]],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.headers() or None for message in messages],
    )
