"""A group under trial: its topics, its configuration, its workers, and a producer that sends as it is told."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Producer

from tests.forked import WorkerProcess
from tests.running import WAIT_S, get
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port

STREAMS = 100
SENDINGS_PER_S = 5
LENGTH = 40  # events of a sequence
BAD = b"no json"
EVENTS = [json.dumps({"ax": 0.1 * each, "ay": -0.2 * each, "az": 0.3 * each}).encode() for each in (0, 1, 2, 3)]
HOT = b"device-000"
SILENT = logging.Logger("silent")
SILENT.addHandler(logging.NullHandler())


@dataclass
class Load:
    """What the producer sends in a second."""

    events: int = 50
    bad: int = 0
    hot: int = 0  # events of one stream, in addition


@dataclass
class Group:
    """``name`` is that of the group, of its topics and its folder; its workers are in a scrape job of that name."""

    name: str
    folder: Path
    broker: EmbeddedKafka
    partitions: int = 4
    client: str = "kafka-python"
    model: str = "model.keras"
    environment: Mapping[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    workers: list[WorkerProcess] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def topic(self) -> str:
        return f"{self.name}-readings"

    def prepare(self) -> None:
        """Topics, and ports for two workers: those of the second are targets only once it has been started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for topic in (self.topic, f"{self.name}-probabilities", f"{self.name}-shadow", f"{self.name}-dead"):
            self.broker.create_topic(topic, self.partitions)
        while len(self.ports) < 2:
            self.ports.append(free_port())

    def settings(self, index: int) -> dict[str, Any]:
        """The configuration of a worker."""
        settings: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.broker.bootstrap_servers, "client": self.client,
                "group_id": self.name, "instance_id": f"{self.name}-{index}",
            },
            "input": {"topic": self.topic, "features": ["ax", "ay", "az"]},
            "output": {"topic": f"{self.name}-probabilities"},
            "dead_letters": {"topic": f"{self.name}-dead"},
            "model": {"path": str(self.folder.parent / self.model), "labels": ["a", "b", "c"]},
            "sequence": {"length": LENGTH},
            "state": {"directory": str(self.folder / "state")},
            "http": {"host": "127.0.0.1", "port": self.ports[index]},
        }  # fmt: skip
        for section, keys in self.more.items():
            settings[section] = settings.get(section, {}) | keys
        return settings

    def start(self, index: int = 0) -> None:
        """Start a worker, with a log of its own."""
        file = self.folder / f"worker-{index}.yaml"
        file.write_text(yaml.safe_dump(self.settings(index)))
        self.logs[index:] = [self.folder / f"worker-{index}-{time.strftime('%H%M%S')}.log"]
        environment = {"TF_NUM_INTRAOP_THREADS": "1", **self.environment}
        self.workers[index:] = [WorkerProcess(file, self.logs[index], environment)]

    def ready(self, index: int = 0) -> str:
        """What /readyz says."""
        return " | ".join(get(self.ports[index], "/readyz")[1].split("\n")).strip(" |") or "no answer"

    def feed(self) -> None:
        """Start the producer; it lives until ``close``, whatever becomes of the broker."""
        threading.Thread(target=self._feed, daemon=True).start()

    def throttle(self, share: float, until: threading.Event) -> None:
        """Let the first worker have this share of a processor's time, until told otherwise."""

        def stop_and_continue() -> None:
            while not until.wait(0):
                self.workers[0].send_signal(signal.SIGSTOP)
                until.wait(1 - share)
                self.workers[0].send_signal(signal.SIGCONT)
                until.wait(share)

        threading.Thread(target=stop_and_continue, daemon=True).start()

    def last_line(self, index: int = 0) -> str:
        """The last line of its log."""
        return self.logs[index].read_text().strip().rpartition("\n")[2]

    def end(self, index: int = 0) -> None:
        """Stop a worker in order."""
        self.workers[index].send_signal(signal.SIGCONT)
        self.workers[index].send_signal(signal.SIGTERM)
        self.workers[index].wait(WAIT_S)

    def close(self) -> None:
        self._stop.set()
        for process in self.workers:
            process.kill()
            process.wait(WAIT_S)

    def _feed(self) -> None:
        keys = [b"device-%03d" % number for number in range(STREAMS)]
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, "logger": SILENT})
        sent, due = 0, time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / SENDINGS_PER_S
            events, bad, hot = (count // SENDINGS_PER_S for count in (self.load.events, self.load.bad, self.load.hot))
            records = [EVENTS[each % len(EVENTS)] for each in range(events)] + [BAD] * bad
            sent += len(records)
            pairs = [(keys[(sent + each) % STREAMS], value) for each, value in enumerate(records)]
            pairs += [(HOT, EVENTS[each % len(EVENTS)]) for each in range(hot)]
            for key, value in pairs:
                with suppress(BufferError):  # a broker that is away for long: what does not fit is never sent
                    producer.produce(self.topic, value, key)
            producer.poll(0)
