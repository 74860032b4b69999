"""The null pipeline of a client: read, parse, write a record of the worker's size, commit. No model, no state.

    python -m worker.commands.bench.null SERVERS CLIENT DELIVERY INPUT OUTPUT [OPTION=VALUE ...]

It shows what any Python worker on this client costs at least. Offsets are committed once a second, or with exactly_once
in a transaction with the outputs of each poll. Producers have the worker's own settings, consumers the client's own but
for OPTIONs; it runs until SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

POLL_RECORDS = 4096  # as the worker's batch.max_events
POLL_WAIT_S = 0.1
COMMIT_INTERVAL_S = 1.0
# kafka-python may take the answer to an older request for that about its topic, and asks again after 5 minutes.
METADATA_MAX_AGE_MS = 2000
ANSWER_S = 30.0
LINGER_MS = {"at_least_once": 5, "exactly_once": 0}
GROUP = "null"
STEP = "step"  # in the values that worker.commands.bench.load sends
READY = "ready"


def kafka_python(
    servers: str, delivery: str, source: str, target: str, options: Mapping[str, Any], stop: threading.Event
) -> None:
    """With kafka-python."""
    from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

    group, exactly_once = f"{GROUP}-{target}", delivery == "exactly_once"
    consumer = KafkaConsumer(
        source, bootstrap_servers=servers, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        isolation_level="read_committed", **{"metadata_max_age_ms": METADATA_MAX_AGE_MS, **options},
    )  # fmt: skip
    own = {"transactional_id": group, "retry_backoff_ms": 5} if exactly_once else {}
    producer = KafkaProducer(
        bootstrap_servers=servers, linger_ms=LINGER_MS[delivery], batch_size=128 * 1024, acks="all",
        enable_idempotence=True, **own,
    )  # fmt: skip
    if exactly_once:
        producer.init_transactions()
    ready, commit_at = False, time.monotonic() + COMMIT_INTERVAL_S
    while not stop.is_set():
        found = consumer.poll(POLL_WAIT_S * 1e3, max_records=POLL_RECORDS)
        if not ready and consumer.assignment():
            ready = True
            say_ready()
        if found and exactly_once:
            producer.begin_transaction()
        for name, records in found.items():
            for record in records:
                fields = orjson.loads(record.value)
                value = answer(record.key.decode(), fields, name.partition, record.offset, record.timestamp)
                producer.send(target, key=record.key, value=value)
        if found and exactly_once:
            ends = {name: OffsetAndMetadata(records[-1].offset + 1, "", -1) for name, records in found.items()}
            producer.send_offsets_to_transaction(ends, consumer.group_metadata())
            producer.commit_transaction()
        elif not exactly_once and time.monotonic() > commit_at:
            producer.flush()
            consumer.commit()
            commit_at = time.monotonic() + COMMIT_INTERVAL_S


def confluent(
    servers: str, delivery: str, source: str, target: str, options: Mapping[str, Any], stop: threading.Event
) -> None:
    """With confluent-kafka."""
    from confluent_kafka import Consumer, KafkaException, Producer

    group, exactly_once = f"{GROUP}-{target}", delivery == "exactly_once"
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False,
         "auto.offset.reset": "earliest", "isolation.level": "read_committed", **options}
    )  # fmt: skip
    consumer.subscribe([source], on_assign=lambda *_: say_ready())
    own = {"transactional.id": group, "retry.backoff.ms": 1, "retry.backoff.max.ms": 100} if exactly_once else {}
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": LINGER_MS[delivery],
         "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random", "socket.nagle.disable": True,
         **own}
    )  # fmt: skip
    if exactly_once:
        producer.init_transactions(ANSWER_S)
    commit_at = time.monotonic() + COMMIT_INTERVAL_S
    while not stop.is_set():
        first = consumer.poll(POLL_WAIT_S)
        messages = [first, *consumer.consume(POLL_RECORDS - 1, 0)] if first is not None else []
        if messages and exactly_once:
            producer.begin_transaction()
        for message in messages:
            key = message.key()
            fields = orjson.loads(message.value())
            value = answer(key.decode(), fields, message.partition(), message.offset(), message.timestamp()[1])
            producer.produce(target, value, key)
        producer.poll(0)
        if messages and exactly_once:
            producer.send_offsets_to_transaction(positions(messages), consumer.consumer_group_metadata(), ANSWER_S)
            producer.commit_transaction(ANSWER_S)
        elif not exactly_once and time.monotonic() > commit_at:
            producer.flush()
            with suppress(KafkaException):  # nothing was read yet
                consumer.commit(asynchronous=False)
            commit_at = time.monotonic() + COMMIT_INTERVAL_S


def say_ready() -> None:
    """Partitions are there."""
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


def positions(messages: list[Any]) -> list[Any]:
    """Behind the last message of each partition."""
    from confluent_kafka import TopicPartition

    ends = {(message.topic(), message.partition()): message.offset() + 1 for message in messages}
    return [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]


def answer(stream: str, fields: dict[str, Any], partition: int, offset: int, timestamp: int) -> bytes:
    """A record of the size of the worker's; its step is the one that the load counts, if it counts."""
    return orjson.dumps(
        {
            "stream": stream, "sequence": None, "step": fields.get(STEP, 12), "probabilities": [0.48123455],
            "final": False,
            "reset": None, "time": timestamp, "origin": "live", "model": "4f1c9a2b7d10",
            "source": {"topic": "readings", "partition": partition, "offset": offset},
        }
    )  # fmt: skip


def main(servers: str, client: str, delivery: str, source: str, target: str, *options: str) -> None:
    """Run until told to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    named = dict(option.split("=") for option in options)
    (confluent if client == "confluent" else kafka_python)(servers, delivery, source, target, named, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
