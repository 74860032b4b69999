"""Throughput of the worker beside the null pipeline of the same client: read, parse, write, no model, no state.

    python bench/throughput.py                          both clients, three rounds, on an embedded broker
    python bench/throughput.py --events 400000 --rounds 5 --client confluent --cpu 0

Both contenders read the same prefilled topic and run in turns, each in a process of its own, so that what else the
machine does falls on both. The figure to quote is the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

FEATURES = ("ax", "ay", "az")
PARTITIONS = 4
SECONDS_LIMIT = 600


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--streams", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--client", choices=("kafka-python", "confluent"), help="default: both")
    options.add_argument("--cpu", help="pin the contenders to these cores (taskset), e.g. 0; default: all")
    options.add_argument("--json", type=Path, help="write the figures here, too")
    options.add_argument("--contender", help=argparse.SUPPRESS)
    options.add_argument("--bootstrap-servers", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.contender:
        print(json.dumps(CONTENDERS[given.contender](given.bootstrap_servers, given.client, given.events)))
        return
    from worker.kafka.embedded import EmbeddedKafka

    with EmbeddedKafka(heap_mb=1024) as kafka:
        prefill(kafka.bootstrap_servers, given.events, given.streams)
        report(given, kafka.bootstrap_servers)


def report(given: argparse.Namespace, servers: str) -> None:
    figures: dict[str, Any] = {"events": given.events, "streams": given.streams, "cores": given.cpu or os.cpu_count()}
    print(f"{given.events:,} events, {given.streams:,} streams, LSTM 32 → LSTM 16 → Dense; cores: {figures['cores']}\n")
    print(f"{'client':<14}{'null, events/s':>18}{'worker, events/s':>20}{'worker / null':>16}{'spread':>16}")
    for client in [given.client] if given.client else ["kafka-python", "confluent"]:
        pairs = [tuple(run(name, client, given, servers) for name in ("null", "worker")) for _ in range(given.rounds)]
        ratios = [worker / null for null, worker in pairs]
        figures[client] = {"null": [n for n, _ in pairs], "worker": [w for _, w in pairs], "ratio": ratios}
        null, worker, ratio = (statistics.median(column) for column in (*zip(*pairs, strict=True), ratios))
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        print(f"{client:<14}{null:>18,.0f}{worker:>20,.0f}{ratio:>16.2f}{spread:>16}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def run(contender: str, client: str, given: argparse.Namespace, servers: str) -> float:
    """Events per second of one contender, in a process of its own."""
    command = [sys.executable, __file__, "--contender", contender, "--client", client]
    command += ["--bootstrap-servers", servers, "--events", str(given.events)]
    if given.cpu:
        command = ["taskset", "-c", given.cpu, *command]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_LIMIT, check=False)
    if answer.returncode:
        raise SystemExit(f"{contender} with {client} failed:\n{answer.stderr[-4000:]}")
    return float(json.loads(answer.stdout.splitlines()[-1]))


def prefill(servers: str, events: int, streams: int) -> None:
    from worker.kafka.clients import ClientSettings, ensure_topics, open_sink

    settings = ClientSettings(servers, client="confluent")
    ensure_topics(settings, {"readings": PARTITIONS, "probabilities": PARTITIONS, "readings.dead": 1})
    sink = open_sink(settings)
    for start in range(0, events, 10_000):
        numbers = range(start, min(events, start + 10_000))
        keys = [b"device-%06d" % (number * 7919 % streams) for number in numbers]
        values = [
            orjson.dumps({"ax": number % 17 / 17, "ay": number % 23 / 23, "az": number % 31 / 31}) for number in numbers
        ]
        sink.send("readings", keys, values)
    sink.flush(120)
    sink.close(10)


def null_kafka_python(servers: str, events: int) -> float:
    from kafka import KafkaConsumer, KafkaProducer

    consumer = KafkaConsumer(
        "readings", bootstrap_servers=servers, group_id=f"null-{time.time_ns()}", enable_auto_commit=False,
        auto_offset_reset="earliest", max_poll_records=4096,
    )  # fmt: skip
    # What the worker asks of its producer, too: otherwise the null pipeline would be slower for want of batches.
    producer = KafkaProducer(
        bootstrap_servers=servers, linger_ms=5, batch_size=128 * 1024, acks="all", enable_idempotence=True
    )
    seen, started, commit_at = 0, 0.0, 0.0
    while seen < events:
        for partition, records in consumer.poll(500, max_records=4096).items():
            started = started or time.perf_counter()
            for record in records:
                producer.send("probabilities", key=record.key, value=answer(record.key, partition.partition, record))
            seen += len(records)
        if time.perf_counter() > commit_at:
            producer.flush()
            consumer.commit()
            commit_at = time.perf_counter() + 1
    producer.flush()
    return events / (time.perf_counter() - started)


def answer(key: bytes, partition: int, record: Any) -> bytes:
    orjson.loads(record.value)
    return output(key.decode(), partition, record.offset, record.timestamp)


def null_confluent(servers: str, events: int) -> float:
    from confluent_kafka import Consumer, Producer

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": f"null-{time.time_ns()}", "enable.auto.commit": False,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe(["readings"])
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "queue.buffering.max.messages": 1_000_000,
         "linger.ms": 5}
    )  # fmt: skip
    seen, started, commit_at = 0, 0.0, 0.0
    while seen < events:
        first = consumer.poll(0.5)
        if first is None:
            continue
        started = started or time.perf_counter()
        for message in [first, *consumer.consume(4095, 0)]:
            key = message.key()
            orjson.loads(message.value())
            value = output(key.decode(), message.partition(), message.offset(), message.timestamp()[1])
            producer.produce("probabilities", value, key)
            seen += 1
        producer.poll(0)
        if time.perf_counter() > commit_at:
            producer.flush()
            consumer.commit(asynchronous=False)
            commit_at = time.perf_counter() + 1
    producer.flush()
    return events / (time.perf_counter() - started)


def output(stream: str, partition: int, offset: int, timestamp: int) -> bytes:
    """A record of the size of the worker's."""
    return orjson.dumps(
        {
            "stream": stream, "sequence": None, "step": 12, "probabilities": [0.48123455], "final": False,
            "reset": None, "time": timestamp, "origin": "live", "model": "4f1c9a2b7d10",
            "source": {"topic": "readings", "partition": partition, "offset": offset},
        }
    )  # fmt: skip


def null(servers: str, client: str, events: int) -> float:
    return (null_confluent if client == "confluent" else null_kafka_python)(servers, events)


def worker(servers: str, client: str, events: int) -> float:
    """The worker itself, in this process; the clock starts with the first record, as for the null pipeline."""
    import keras

    from worker.config import Config
    from worker.service import build_worker

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.utils.set_random_seed(1)
        keras.Sequential(
            [
                keras.Input((7, len(FEATURES))),
                keras.layers.LSTM(32, return_sequences=True),
                keras.layers.LSTM(16),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        ).save(path)
        config = Config.model_validate(
            {
                "kafka": {"bootstrap_servers": servers, "client": client, "group_id": f"worker-{time.time_ns()}"},
                "input": {"topic": "readings", "features": list(FEATURES)},
                "output": {"topic": "probabilities"},
                "model": {"path": str(path)},
                "state": {"directory": str(Path(folder) / "state")},
            }
        )
        member = build_worker(config)
        member.start(time.monotonic())
        seen, started = 0, 0.0
        while seen < events:
            seen += member.turn(time.monotonic())
            if seen and not started:
                # The first turn is left out of the count: it also builds what is built once.
                started, counted = time.perf_counter(), events - seen
        member.sink.flush(120)
        speed = counted / (time.perf_counter() - started)
        member.close(time.monotonic())
    return speed


CONTENDERS = {"null": null, "worker": worker}

if __name__ == "__main__":
    main()
