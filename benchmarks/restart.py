"""How long a restart takes, from process start to the first new output, part by part.

    python -m benchmarks.restart                                  100,000 streams, both clients, an embedded broker
    python -m benchmarks.restart --streams 10000 --client confluent --rounds 5

A first `worker run` sees every stream once and is stopped in order: the checkpoints of 4 partitions hold all streams.
Then new records are written, and the worker is started again: the clock runs from the start of its process until the
first new output has been read from Kafka. The parts are taken from the lines of its log. Importing TensorFlow and Keras
is timed in a separate process, in the same round; if others use the machine as well, CPU times say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.processes import cpu_seconds, imports
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.records.messages import Messages

FEATURES = ("ax", "ay", "az")
PARTITIONS = 4
NEW_RECORDS = 1_000
DEADLINE_S = 600.0
LOOK_S = 0.05
PARTS = {  # the part ends with the last line of the log that matches
    "first line of the log (imports)": "metrics and probes on",
    "model proven": "bytes a stream",
    "group joined": "assigned: ",
    "states loaded": "from checkpoint at ",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--client", choices=("kafka-python", "confluent"), help="default: both")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    from worker.kafka.embedded.broker import EmbeddedKafka

    figures: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(heap_mb=1024) as kafka:
        save_model(DEFAULT_MODEL, len(FEATURES), Path(folder) / "model.keras")
        for client in [given.client] if given.client else ["kafka-python", "confluent"]:
            case = Case(Path(folder), kafka.bootstrap_servers, client)
            case.fill(given.streams)
            figures[client] = [{**imports(), **case.restart()} for _ in range(given.rounds)]
    print(f"{given.streams:,} streams in {PARTITIONS} partitions, seconds, median of {given.rounds} rounds (all)\n")
    for client, rounds in figures.items():
        print(client)
        for name in rounds[0]:
            values = [each[name] for each in rounds]
            print(f"  {name:<44}{statistics.median(values):>8.2f}   {', '.join(f'{value:.2f}' for value in values)}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


class Case:
    """One client: its topics, its configuration, its folder of checkpoints."""

    def __init__(self, folder: Path, servers: str, client: str) -> None:
        from worker.kafka.opening import ensure_topics, open_sink, open_source
        from worker.kafka.settings import ClientSettings
        from worker.records.ownership import Assigned

        self.input, self.output = f"readings-{client}", f"probabilities-{client}"
        self.folder, self.written = folder / client, 0
        settings = ClientSettings(servers, "confluent", group_id=f"bench-reader-{client}")
        ensure_topics(settings, {self.input: PARTITIONS, self.output: PARTITIONS, f"{client}.dead": 1})
        self.sink, self.source = open_sink(settings), open_source(settings)
        self.source.subscribe(
            [self.output],
            lambda change: dict.fromkeys(change.partitions, 0) if isinstance(change, Assigned) else {},
        )
        self.read = 0
        self.folder.mkdir()
        (self.folder / "worker.yaml").write_text(
            json.dumps(
                {
                    "kafka": {"bootstrap_servers": servers, "client": client, "group_id": f"bench-{client}"},
                    "input": {"topic": self.input, "features": list(FEATURES)},
                    "output": {"topic": self.output},
                    "dead_letters": {"topic": f"{client}.dead"},
                    "model": {"path": str(folder / "model.keras")},
                    "state": {"directory": str(self.folder / "state")},
                    "http": {"host": "127.0.0.1", "port": 0},
                }
            )
        )

    def fill(self, streams: int) -> None:
        """See every stream once, and stop in order."""
        self.write(streams)
        with self.worker("fill") as process:
            self.wait(lambda: self.count() >= self.written, process)
            self.end(process)

    def restart(self) -> dict[str, float]:
        """Seconds of each part."""
        self.write(NEW_RECORDS)
        before = self.count()
        with self.worker("restart") as process:
            started = time.time()
            self.wait(lambda: self.count() > before, process)
            first, cpu_s = time.time() - started, cpu_seconds(process.pid)
            self.wait(lambda: self.count() >= self.written, process)
            self.end(process)
        moments, log, last = {}, (self.folder / "restart.log").read_text(), 0.0
        for name, text in PARTS.items():
            lines = [line for line in log.splitlines() if text in line]
            assert lines, f"no line with '{text}' in the log:\n{log}"
            moment = datetime.fromisoformat(re.split(" ", lines[-1])[0]).timestamp() - started
            moments[name], last = moment - last, moment
        return {
            **moments,
            "first new output read": first - last,
            "process start to first new output": first,
            "  CPU ": cpu_s,
        }

    def write(self, records: int) -> None:
        """Records of as many streams; the bytes differ from stream to stream."""
        for start in range(0, records, 10_000):
            numbers = range(start, min(records, start + 10_000))
            values = [orjson.dumps(dict.fromkeys(FEATURES, number % 17 / 17)) for number in numbers]
            self.sink.send(self.input, Messages([b"device-%06d" % number for number in numbers], values))
        self.sink.flush(DEADLINE_S)
        self.written += records

    def count(self) -> int:
        """Number of outputs so far."""
        self.read += sum(map(len, self.source.poll(10_000, LOOK_S)))
        return self.read

    @contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "worker", "run", "-c", str(self.folder / "worker.yaml")]
        with (self.folder / f"{name}.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                yield process
            except BaseException:
                print((self.folder / f"{name}.log").read_text()[-4000:], file=sys.stderr)
                raise
            finally:
                if process.poll() is None:
                    process.kill()

    def wait(self, done: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert process.poll() is None, "the worker has ended"
            assert time.monotonic() < deadline, "not in time"

    def end(self, process: subprocess.Popen[Any]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, "it did not end in order"


if __name__ == "__main__":
    main()
