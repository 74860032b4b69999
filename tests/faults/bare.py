"""A bare transactional client beside the workers, without their code: when it works again, the cluster does.

It does what each turn of a worker does: some messages and the offset of a group in one transaction; after an error
comes a new producer. Its coordinators are the workers' own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from kafka import KafkaProducer, errors
from kafka import TopicPartition as PythonPartition
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from tests.faults.silences import Silences
from tests.faults.topics import QUIET
from worker.bounded_calls import BoundedCalls
from worker.kafka.embedded.configuration import PROPERTIES
from worker.kafka.settings import transactional_id

if TYPE_CHECKING:
    from tests.faults.leg import Leg

EVERY_S = 0.1
TRANSACTION_TIMEOUT_MS = 10_000
PATIENCE_S = {"confluent": 60.0, "kafka-python": 5.0}  # for a transaction: the second itself may wait for ever
MAX_HANGING = 100
BACK_TIMEOUT_S = 60.0
END_S = 1.0  # it may hang in a call of its client; it is a daemon


class Bare(threading.Thread):
    """Commits a transaction every now and then, by the client that the workers use."""

    def __init__(self, client: str, servers: str, topic: str, partitions: int, name: str, group: str) -> None:
        super().__init__(daemon=True)
        self.silences = Silences()
        self._client = client
        self._servers, self._topic, self._partitions = servers, topic, partitions
        self._name, self._group = name, group
        self._calls = BoundedCalls("bare", MAX_HANGING)
        self._stopping = threading.Event()

    def end(self) -> None:
        self._stopping.set()
        self.join(END_S)

    def back_after(self, begun_s: float, pump_until: Callable[[Callable[[], bool], float], object]) -> float:
        """As ``Silences.back_after``, once it is back."""
        pump_until(lambda: not self.silences.silent, BACK_TIMEOUT_S)
        return self.silences.back_after(begun_s, time.monotonic())

    def run(self) -> None:
        producer: Any = None
        number = 0
        while not self._stopping.wait(EVERY_S):
            number += 1
            turn = partial(self._turn, producer, number)
            try:
                producer = self._calls.run(turn, PATIENCE_S[self._client])
                self.silences.heard(time.monotonic())
            except (KafkaException, errors.KafkaError, TimeoutError):
                if isinstance(producer, KafkaProducer):
                    threading.Thread(target=partial(producer.close, timeout=0), daemon=True).start()
                producer = None

    def _turn(self, producer: Any, number: int) -> Any:
        producer = producer or (self._by_confluent() if self._client == "confluent" else self._by_kafka_python())
        producer.begin_transaction()
        if isinstance(producer, KafkaProducer):
            for partition in range(self._partitions):
                producer.send(self._topic, b"bare", partition=partition)
            member = ConsumerGroupMetadata(self._group, -1, "", None, None)
            read = OffsetAndMetadata(number, "", -1)
            producer.send_offsets_to_transaction({PythonPartition(self._topic, 0): read}, member)
        else:
            for partition in range(self._partitions):
                producer.produce(self._topic, b"bare", partition=partition)
            producer.send_offsets_to_transaction([TopicPartition(self._topic, 0, number)], self._member)
        producer.commit_transaction()
        return producer

    def _by_confluent(self) -> Any:
        settings = {
            "bootstrap.servers": self._servers, "transactional.id": self._name,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS, "linger.ms": 0,
        }  # fmt: skip
        producer = Producer(settings, logger=QUIET)
        producer.init_transactions()
        reading = {"bootstrap.servers": self._servers, "group.id": self._group}
        self._member = Consumer(reading, logger=QUIET).consumer_group_metadata()
        return producer

    def _by_kafka_python(self) -> Any:
        producer = KafkaProducer(
            bootstrap_servers=self._servers.split(","), transactional_id=self._name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS, request_timeout_ms=8_000, retry_backoff_ms=5,
        )  # fmt: skip
        producer.init_transactions()
        return producer


def bare_beside(leg: Leg) -> Bare:
    """For a leg of static workers: a topic of its own, and the coordinators of the first of them."""
    topic = f"bare-{leg.topics[0]}"
    leg.stage.kafka.create_topic(topic, leg.load.partitions)
    counts = {"__transaction_state": PROPERTIES["transaction.state.log.num.partitions"],
              "__consumer_offsets": PROPERTIES["offsets.topic.num.partitions"]}  # fmt: skip
    return Bare(
        leg.plan.combination.client, leg.servers, topic, leg.load.partitions,
        _at_the_same_place(f"id-{topic}", transactional_id(leg.group, "member-0"), counts["__transaction_state"]),
        _at_the_same_place(f"group-{topic}", leg.group, counts["__consumer_offsets"]),
    )  # fmt: skip


def _at_the_same_place(prefix: str, like: str, partitions: Any) -> str:
    """A name that Kafka puts into the same partition of a coordinators' topic as another name."""
    number = 0
    while java_hash(f"{prefix}-{number}") % partitions != java_hash(like) % partitions:
        number += 1
    return f"{prefix}-{number}"


def java_hash(text: str) -> int:
    """As Java hashes a text, without its sign: Kafka takes it for the partition of a coordinators' topic."""
    found = 0
    for character in text:
        found = (31 * found + ord(character)) & 0xFFFFFFFF
    return abs(found - (1 << 32) if found >= 1 << 31 else found)
