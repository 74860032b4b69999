"""A load of streams that come and go, as fast as their answers arrive, in a separate process.

    python -m benchmarks.churn SERVERS SOURCE TARGET PARTITIONS

Every stream has EVENTS_PER_STREAM events and then ends. At most LAG_EVENTS are unanswered, so that the topics need not
keep much. Runs until it is stopped.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from worker.commands.bench.job import key_of
from worker.records.arrays import IntArray

ALIVE = 50_000  # streams at a time
EVENTS_PER_STREAM = 20
LAG_EVENTS = 200_000
CHUNK = 5_000
VALUES = [b'{"f0":%.3f,"f1":%.3f,"f2":%.3f}' % (n % 17 / 17, n % 23 / 23, n % 31 / 31) for n in range(CHUNK)]
ANSWER_S = 30.0
FULL_WAIT_S = 0.02


def streams_of(events: IntArray) -> IntArray:
    """(events,) the stream of each: in every round of ALIVE events the oldest streams end and new ones begin."""
    rounds, places = np.divmod(events, ALIVE)
    return rounds * (ALIVE // EVENTS_PER_STREAM) + places


def main(servers: str, source: str, target: str, partitions: str) -> None:
    """Send, and wait while too many answers are missing. Raises KafkaException when an event is lost."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 5, "partitioner": "murmur2_random", "enable.idempotence": True,
         "delivery.report.only.error": True, "on_delivery": _lost}
    )  # fmt: skip
    reader = Consumer({"bootstrap.servers": servers, "group.id": "churn", "enable.auto.commit": False})
    places = [TopicPartition(target, number) for number in range(int(partitions))]
    sent = 0
    while True:
        if sent - _answered(reader, places) > LAG_EVENTS:
            time.sleep(FULL_WAIT_S)
            continue
        for stream, value in zip(streams_of(np.arange(sent, sent + CHUNK)).tolist(), VALUES, strict=True):
            _send(producer, source, key_of(stream), value)
        producer.poll(0)
        sent += CHUNK


def _answered(reader: Consumer, places: list[TopicPartition]) -> int:
    return sum(reader.get_watermark_offsets(place, timeout=ANSWER_S)[1] for place in places)


def _send(producer: Producer, topic: str, key: bytes, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value, key)
            return
        except BufferError:
            producer.poll(FULL_WAIT_S)


def _lost(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
