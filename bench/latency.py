"""Latency of the worker: from the call that produces an event to when a reader of committed records has its output.

    python bench/latency.py                            both clients, both deliveries, three rounds, embedded broker
    python bench/latency.py --rate 1000 --seconds 20 --rounds 5 --client confluent

The workers run as users run them (`worker run`), each with topics of its own, and are measured by turns, so that what
else the machine does falls on all. "one hop" is what Kafka alone takes: the same events, read from the input topic;
"null" is what transactions take without model and state (null_pipeline.py).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

FEATURES = ("ax", "ay", "az")
PARTITIONS = 4
FULL_COMPILER = "-XX:TieredStopAtLevel=4"  # the embedded broker starts faster without; clusters have it
CLIENTS = ("kafka-python", "confluent")
DELIVERIES = ("at_least_once", "exactly_once")
PERCENTILES = (50, 95, 99)
WARM_UP_S = 3.0  # produced and read like the rest, and not counted
START_TIMEOUT_S = 300.0
REST_TIMEOUT_S = 60.0  # for the outputs that are still on their way when the last event was sent


@dataclass(frozen=True)
class Contender:
    """What is measured: events go to ``inputs``, their answers come from ``outputs``."""

    name: str
    inputs: str
    outputs: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=int, default=1_000, help="events per second")
    options.add_argument("--seconds", type=float, default=15.0, help="per measurement, after the warm-up")
    options.add_argument("--streams", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--client", choices=CLIENTS, help="default: both")
    options.add_argument("--delivery", choices=DELIVERIES, help="default: both")
    options.add_argument("--json", type=Path, help="write the figures here, too")
    given = options.parse_args()
    from worker.kafka.embedded import EmbeddedKafka

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=1024, jvm_flags=[FULL_COMPILER]))
        save_model(folder / "model.keras")
        kafka.create_topic("readings", PARTITIONS)
        chosen = [given.client] if given.client else CLIENTS
        ways = [given.delivery] if given.delivery else DELIVERIES
        opened = [stack.enter_context(worker(folder, kafka, client, way)) for client in chosen for way in ways]
        alone = [Contender("one hop", "readings", "readings")]
        if "exactly_once" in ways:
            alone.append(stack.enter_context(null_pipeline(kafka)))
        report(given, kafka.bootstrap_servers, [*alone, *opened])


def report(given: argparse.Namespace, servers: str, contenders: Sequence[Contender]) -> None:
    found: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    print(f"{given.rate:,} events/s, {given.streams:,} streams, LSTM 32 → LSTM 16 → Dense; cores: {os.cpu_count()}\n")
    print(f"{'':<30}" + "".join(f"{f'p{percent}, ms':>10}" for percent in PERCENTILES))
    for number in range(given.rounds):
        for contender in contenders:
            latencies = measure(contender, servers, given, steps_before=number * steps_per_round(given))
            found[contender.name].append([percentile(latencies, percent) for percent in PERCENTILES])
            print_row(f"{contender.name} ({number + 1})", found[contender.name][-1])
    print("\nmedian of the rounds")
    for name, rounds in found.items():
        print_row(name, [statistics.median(column) for column in zip(*rounds, strict=True)])
    if given.json:
        figures = {"rate": given.rate, "streams": given.streams, "cores": os.cpu_count(), "percentiles": PERCENTILES}
        given.json.write_text(json.dumps({**figures, "rounds, ms": found}, indent=2) + "\n")


def print_row(name: str, latencies_ms: Sequence[float]) -> None:
    print(f"{name:<30}" + "".join(f"{latency:>10.1f}" for latency in latencies_ms), flush=True)


def percentile(latencies_ms: Sequence[float], percent: int) -> float:
    return statistics.quantiles(latencies_ms, n=100, method="inclusive")[percent - 1]


def steps_per_round(given: argparse.Namespace) -> int:
    """Events of each stream in a round: all streams get as many, so that (stream, step) names an event."""
    return max(1, round((WARM_UP_S + given.seconds) * given.rate / given.streams))


def measure(contender: Contender, servers: str, given: argparse.Namespace, steps_before: int) -> list[float]:
    """Milliseconds for each event of one round."""
    count = steps_per_round(given) * given.streams
    reader = Reader(servers, contender.outputs, count)
    reader.start()
    reader.ready.wait()
    produced = produce(contender.inputs, servers, given, count)
    reader.join(REST_TIMEOUT_S)
    if len(reader.answers) < count:
        raise SystemExit(f"{contender.name}: {len(reader.answers)} answers for {count} events")
    times = {event_of(value, steps_before): at_s for value, at_s in reader.answers}
    first = round(WARM_UP_S * given.rate)
    streams = given.streams
    return [1e3 * (times[n % streams, n // streams] - produced[n]) for n in range(first, count)]


def event_of(value: bytes, steps_before: int) -> tuple[int, int]:
    """(stream, how many events of it came before in this round), from an output or, for one hop, from the event."""
    answer = orjson.loads(value)
    if "n" in answer:
        return answer["s"], answer["n"]
    return int(answer["stream"].removeprefix("device-")), answer["step"] - 1 - steps_before


def produce(topic: str, servers: str, given: argparse.Namespace, count: int) -> list[float]:
    """Send ``count`` events at the rate; when each was handed over."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "partitioner": "murmur2_random"})
    producer.list_topics(topic, REST_TIMEOUT_S)
    at_s: list[float] = []
    begun_s = time.perf_counter()
    for number in range(count):
        stream, step = number % given.streams, number // given.streams
        value = {"ax": number % 17 / 17, "ay": number % 23 / 23, "az": number % 31 / 31, "s": stream, "n": step}
        early_s = begun_s + number / given.rate - time.perf_counter()
        if early_s > 0:
            time.sleep(early_s)
        at_s.append(time.perf_counter())
        producer.produce(topic, orjson.dumps(value), b"device-%06d" % stream)
        producer.poll(0)
    producer.flush(REST_TIMEOUT_S)
    return at_s


class Reader(threading.Thread):
    """Notes when each committed record of a topic came, from its end on; looks into them afterwards."""

    def __init__(self, servers: str, topic: str, count: int) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.answers: list[tuple[bytes, float]] = []
        self._servers, self._topic, self._count = servers, topic, count

    def run(self) -> None:
        from confluent_kafka import Consumer, TopicPartition

        options = {"bootstrap.servers": self._servers, "group.id": "latency", "isolation.level": "read_committed"}
        consumer = Consumer({**options, "enable.auto.commit": False})
        places = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place)[1]
        consumer.assign(places)
        consumer.poll(0.5)
        self.ready.set()
        while len(self.answers) < self._count:
            message = consumer.poll(REST_TIMEOUT_S)
            if message is None:
                break
            if message.error() is None:
                self.answers.append((message.value(), time.perf_counter()))
        consumer.close()


@contextmanager
def null_pipeline(kafka: Any) -> Iterator[Contender]:
    """bench/null_pipeline.py, ready."""
    contender = Contender("null, exactly_once", "readings-null", "probabilities-null")
    for topic in (contender.inputs, contender.outputs):
        kafka.create_topic(topic, PARTITIONS)
    file = Path(__file__).with_name("null_pipeline.py")
    command = [sys.executable, str(file), kafka.bootstrap_servers, contender.inputs, contender.outputs]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the null pipeline is not ready")
        yield contender
        process.stdin.close()


@contextmanager
def worker(folder: Path, kafka: Any, client: str, delivery: str) -> Iterator[Contender]:
    """A `worker run` that is ready."""
    from worker.kafka.local_ports import free_port

    name = f"{client}-{delivery}"
    contender = Contender(f"{client}, {delivery}", f"readings-{name}", f"probabilities-{name}")
    for topic in (contender.inputs, contender.outputs):
        kafka.create_topic(topic, PARTITIONS)
    port = free_port()
    configuration: dict[str, Any] = {
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "client": client, "group_id": name},
        "input": {"topic": contender.inputs, "features": list(FEATURES)},
        "output": {"topic": contender.outputs},
        "model": {"path": str(folder / "model.keras")},
        "state": {"directory": str(folder / name)},
        "delivery": delivery,
        "http": {"host": "127.0.0.1", "port": port},
    }
    file, log = folder / f"{name}.yaml", folder / f"{name}.log"
    file.write_text(yaml.safe_dump(configuration))
    command = [sys.executable, "-m", "worker", "run", "-c", str(file)]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        try:
            await_ready(process, port, log)
            yield contender
        finally:
            process.terminate()


def await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the worker is not ready:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def save_model(path: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    layers = [keras.layers.LSTM(32, return_sequences=True), keras.layers.LSTM(16), keras.layers.Dense(1, "sigmoid")]
    keras.Sequential([keras.Input((7, len(FEATURES))), *layers]).save(path)


if __name__ == "__main__":
    main()
