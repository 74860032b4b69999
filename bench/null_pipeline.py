"""What transactions alone take: reads, writes as much, commits both in one Kafka transaction. No model, no state.

    python bench/null_pipeline.py SERVERS INPUT OUTPUT

The least that any exactly-once pipeline on confluent-kafka costs, with the worker's own settings for latency. It says
"ready" on standard output and ends with its standard input. For bench/latency.py.
"""

from __future__ import annotations

import sys
import threading

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

RECORDS = 4096
WAIT_S = 0.1
ANSWER_S = 30.0


def main(servers: str, inputs: str, outputs: str) -> None:
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    consumer, producer = opened(servers, inputs)
    steps: dict[bytes, int] = {}
    while not stop.is_set():
        first = consumer.poll(WAIT_S)
        if first is None or first.error() is not None:
            continue
        batch = [first, *(message for message in consumer.consume(RECORDS, 0) if message.error() is None)]
        producer.begin_transaction()
        for message in batch:
            steps[message.key()] = steps.get(message.key(), 0) + 1
            answer = {"stream": message.key().decode(), "step": steps[message.key()], "probabilities": [0.5]}
            producer.produce(outputs, orjson.dumps(answer), message.key())
        ends = {(message.topic(), message.partition()): message.offset() + 1 for message in batch}
        names = [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]
        producer.send_offsets_to_transaction(names, consumer.consumer_group_metadata(), ANSWER_S)
        producer.commit_transaction(ANSWER_S)
    consumer.close()


def opened(servers: str, inputs: str) -> tuple[Consumer, Producer]:
    """A member that has its partitions, and a producer that may write."""
    options = {"bootstrap.servers": servers, "group.id": "null", "enable.auto.commit": False}
    consumer = Consumer({**options, "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    assigned = threading.Event()
    consumer.subscribe([inputs], on_assign=lambda *_: assigned.set())
    while not assigned.is_set():
        consumer.poll(WAIT_S)
    own = {"transactional.id": "null", "linger.ms": 0, "retry.backoff.ms": 1, "retry.backoff.max.ms": 100}
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", **own})
    producer.init_transactions(ANSWER_S)
    print("ready", flush=True)
    return consumer, producer


if __name__ == "__main__":
    main(*sys.argv[1:])
