"""The demonstration's own Kafka clients: one that writes readings, one that reads probabilities.

Rule of this file: raw bytes in and out; no consumer group, so nothing stays behind on the cluster.
"""

from __future__ import annotations

import threading
import time
from typing import Any

LINGER_MS = 5
FLUSH_TIMEOUT_S = 30.0
READ_RECORDS = 5_000
REST_TIMEOUT_S = 30.0


class Writer:
    """Sends readings; the first one that the cluster refuses ends the play."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        from kafka import KafkaProducer

        self._producer: Any = KafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=LINGER_MS)
        self._topic = topic
        self._refused: list[BaseException] = []
        self._lock = threading.Lock()

    def send(self, key: bytes, value: bytes, time_ms: int) -> None:
        """Hand one record to the client. Raises the error of an earlier one that was refused."""
        if self._refused:
            raise self._refused[0]
        self._producer.send(self._topic, key=key, value=value, timestamp_ms=time_ms).add_errback(self._refuse)

    def _refuse(self, error: BaseException) -> None:
        with self._lock:
            self._refused.append(error)

    def close(self) -> None:
        """Send what is left, as far as time allows."""
        self._producer.close(timeout=FLUSH_TIMEOUT_S)


class Reader:
    """Reads every partition of the output topic from its start."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        from kafka import KafkaConsumer, TopicPartition

        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=READ_RECORDS,
        )
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer.assign(self._partitions)

    def poll(self, timeout_s: float) -> list[bytes]:
        """The values of what has arrived, per key in order; empty after ``timeout_s`` without any."""
        batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000)).values()
        return [record.value for batch in batches for record in batch]

    def rest(self) -> list[bytes]:
        """Everything that is in the topic now and has not been read, as far as time allows."""
        ends = time.monotonic() + REST_TIMEOUT_S
        wanted = self._consumer.end_offsets(self._partitions)
        values: list[bytes] = []
        while any(self._consumer.position(each) < end for each, end in wanted.items()) and time.monotonic() < ends:
            values += self.poll(0.2)
        return values

    def close(self) -> None:
        """Free the client."""
        self._consumer.close()
