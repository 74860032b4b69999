"""The null pipeline of a client: read, parse, write a record of the worker's size, commit once a second. No model.

    python -m worker.bench.null SERVERS CLIENT INPUT OUTPUT

What any Python worker on this client costs at least. Its producer has the worker's own settings; it runs until SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress

import orjson

POLL_RECORDS = 4096  # as the worker's batch.max_events
POLL_WAIT_S = 0.1
COMMIT_INTERVAL_S = 1.0
LINGER_MS = 5
GROUP = "null"


def kafka_python(servers: str, source: str, target: str, stop: threading.Event) -> None:
    """With kafka-python."""
    from kafka import KafkaConsumer, KafkaProducer

    consumer = KafkaConsumer(
        source, bootstrap_servers=servers, group_id=f"{GROUP}-{target}", enable_auto_commit=False,
        auto_offset_reset="earliest",
    )  # fmt: skip
    producer = KafkaProducer(
        bootstrap_servers=servers, linger_ms=LINGER_MS, batch_size=128 * 1024, acks="all", enable_idempotence=True
    )
    commit_at = time.monotonic() + COMMIT_INTERVAL_S
    while not stop.is_set():
        found = consumer.poll(POLL_WAIT_S * 1e3, max_records=POLL_RECORDS)
        for place, records in found.items():
            for record in records:
                orjson.loads(record.value)
                value = answer(record.key.decode(), place.partition, record.offset, record.timestamp)
                producer.send(target, key=record.key, value=value)
        if time.monotonic() > commit_at:
            producer.flush()
            consumer.commit()
            commit_at = time.monotonic() + COMMIT_INTERVAL_S


def confluent(servers: str, source: str, target: str, stop: threading.Event) -> None:
    """With confluent-kafka."""
    from confluent_kafka import Consumer, KafkaException, Producer

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": f"{GROUP}-{target}", "enable.auto.commit": False,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe([source])
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": LINGER_MS,
         "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random"}
    )  # fmt: skip
    commit_at = time.monotonic() + COMMIT_INTERVAL_S
    while not stop.is_set():
        first = consumer.poll(POLL_WAIT_S)
        for message in [first, *consumer.consume(POLL_RECORDS - 1, 0)] if first is not None else []:
            key = message.key()
            orjson.loads(message.value())
            value = answer(key.decode(), message.partition(), message.offset(), message.timestamp()[1])
            producer.produce(target, value, key)
        producer.poll(0)
        if time.monotonic() > commit_at:
            producer.flush()
            with suppress(KafkaException):  # nothing was read yet
                consumer.commit(asynchronous=False)
            commit_at = time.monotonic() + COMMIT_INTERVAL_S


def answer(stream: str, partition: int, offset: int, timestamp: int) -> bytes:
    """A record of the size of the worker's."""
    return orjson.dumps(
        {
            "stream": stream, "sequence": None, "step": 12, "probabilities": [0.48123455], "final": False,
            "reset": None, "time": timestamp, "origin": "live", "model": "4f1c9a2b7d10",
            "source": {"topic": "readings", "partition": partition, "offset": offset},
        }
    )  # fmt: skip


def main(servers: str, client: str, source: str, target: str) -> None:
    """Run until told to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    (confluent if client == "confluent" else kafka_python)(servers, source, target, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
