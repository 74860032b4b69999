"""A steady load: events at a rate, as a process of its own, so that no other Python code delays them.

    python -m worker.commands.bench.load SERVERS CLIENT TOPIC RATE EVENTS STREAMS FEATURES STEPS_BEFORE FILE

Events are spread evenly over time, and over streams by turns; each names its stream and its step, as outputs do. When
each was handed to the producer is written to FILE (numpy, seconds of the machine's monotonic clock).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import orjson

from worker.commands.bench.job import Job, key_of

FLUSH_TIMEOUT_S = 60.0
IN_FLIGHT = 5  # as other clients have it; confluent's own million makes a request for each event, and requests queue up


def main(servers: str, client: str, topic: str, *numbers: str) -> None:
    """Send, and write down when."""
    send, flush = PRODUCERS[client](servers, topic)
    rate, events, streams, features, before = map(int, numbers[:-1])
    job = Job(events, streams, features=features)
    names, rows = job.names, job.vectors(np.arange(job.events)).tolist()
    keys = [key_of(stream) for stream in range(streams)]
    at_s = np.zeros(job.events)
    interval_s, begun_s = 1 / rate, time.perf_counter()
    for number, row in enumerate(rows):
        key, step = keys[number % streams], before + number // streams + 1
        value = orjson.dumps({**dict(zip(names, row, strict=True)), "stream": key.decode(), "step": step})
        early_s = begun_s + number * interval_s - time.perf_counter()
        if early_s > 0:
            time.sleep(early_s)
        at_s[number] = time.perf_counter()
        send(key, value)
    flush()
    np.save(numbers[-1], at_s)


def _confluent(servers: str, topic: str) -> tuple[Callable[[bytes, bytes], object], Callable[[], object]]:
    from confluent_kafka import Producer

    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 0, "partitioner": "murmur2_random",
         "max.in.flight.requests.per.connection": IN_FLIGHT}
    )  # fmt: skip
    producer.list_topics(topic, FLUSH_TIMEOUT_S)

    def send(key: bytes, value: bytes) -> None:
        producer.produce(topic, value, key)
        producer.poll(0)

    return send, lambda: producer.flush(FLUSH_TIMEOUT_S)


def _kafka_python(servers: str, topic: str) -> tuple[Callable[[bytes, bytes], object], Callable[[], object]]:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=0)
    producer.partitions_for(topic)

    def send(key: bytes, value: bytes) -> None:
        producer.send(topic, key=key, value=value)

    return send, lambda: producer.flush(FLUSH_TIMEOUT_S)


PRODUCERS = {"confluent": _confluent, "kafka-python": _kafka_python}

if __name__ == "__main__":
    main(*sys.argv[1:])
