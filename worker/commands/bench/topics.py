"""Topics of a benchmark: filled beforehand, written by a contender at the broker's own times, read back afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from worker.commands.bench.job import Job
from worker.errors import WorkerError
from worker.kafka.kafka_python.errors import client_options, open_client
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.arrays import IntArray
from worker.records.messages import Messages

FLUSH_TIMEOUT_S = 300.0
CLOSE_TIMEOUT_S = 30.0
FETCH_BYTES = 8 << 20  # of a partition at once, when results are read
READ_TIMEOUT_S = 60.0  # without a record


@dataclass(slots=True)
class Written:
    """All committed records of a topic."""

    times_ms: IntArray  # (records,) when the broker took them, in order
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)


class Topics:
    """Creates, fills, reads and deletes topics; what it has created it deletes at the end."""

    def __init__(self, settings: ClientSettings, partitions: int) -> None:
        self.settings, self.partitions = settings, partitions
        self._created: list[str] = []
        self._numbers = 0
        self._consumer: Any = None

    def create(self, name: str) -> str:
        """A topic with the broker's times; its name begins with ``name`` and is unique."""
        self._numbers += 1
        topic = f"bench-{time.time_ns():x}-{self._numbers}-{name}"
        wanted = {topic: {"num_partitions": self.partitions, "configs": {"message.timestamp.type": "LogAppendTime"}}}
        with self._admin() as admin:
            admin.create_topics(wanted, wait_for_metadata=True)
        self._created.append(topic)
        return topic

    def fill(self, topic: str, job: Job) -> None:
        """Write a job's events."""
        sink = open_sink(self.settings)
        try:
            for keys, values in job.messages():
                sink.send(topic, Messages(keys, values))
            sink.flush(FLUSH_TIMEOUT_S)
        finally:
            sink.close(CLOSE_TIMEOUT_S)

    def records(self, topic: str) -> int:
        """How far the topic's logs go: records, and the markers of transactions."""
        return sum(self._reader().end_offsets(self._named(topic)).values())

    def read(self, topic: str) -> Written:
        """All committed records of a topic. Raises WorkerError when they don't arrive."""
        times: list[int] = []
        written = Written(np.empty(0, np.int64))
        consumer = self._reader()
        named = self._named(topic)
        ends = consumer.end_offsets(named)
        consumer.assign(named)
        consumer.seek_to_beginning(*named)
        deadline = time.monotonic() + READ_TIMEOUT_S
        while any(consumer.position(each) < end for each, end in ends.items()):
            found = consumer.poll(timeout_ms=1000, max_records=20_000)
            if found:
                deadline = time.monotonic() + READ_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise WorkerError(f"topic '{topic}' can't be read to its end")
            for records in found.values():
                times += [record.timestamp for record in records]
                written.keys += [record.key for record in records]
                written.values += [record.value for record in records]
        written.times_ms = np.sort(np.array(times, np.int64))
        return written

    def drop(self, topic: str) -> None:
        """Delete a topic that is no longer wanted."""
        self._forget_reader()  # it would ask for the deleted topic for ever
        with self._admin() as admin:
            admin.delete_topics([topic])
        self._created.remove(topic)

    def close(self) -> None:
        """Delete what was created, and free everything."""
        self._forget_reader()
        if self._created:
            with self._admin() as admin:
                admin.delete_topics(self._created)
            self._created = []

    def _forget_reader(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _named(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.partitions)]

    def _admin(self) -> Any:
        return open_client(KafkaAdminClient, client_options(self.settings, None, {}))

    def _reader(self) -> Any:
        if self._consumer is None:
            own = {
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "max_partition_fetch_bytes": FETCH_BYTES,
            }
            self._consumer = open_client(KafkaConsumer, client_options(self.settings, None, own))
        return self._consumer
