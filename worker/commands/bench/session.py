"""``worker bench`` from start to end: a broker, throughput in turns, latency in turns, tables.

Rule of this file: the one place of ``worker bench`` where its parts are put together.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from worker import __version__
from worker.commands.bench.contenders import null_pipeline, worker
from worker.commands.bench.job import Job, Keys
from worker.commands.bench.latency import PERCENTILES, Load, Way, answered, percentiles
from worker.commands.bench.measure import Bench
from worker.commands.bench.models import DEFAULT_MODEL, Expected, expected, save_model
from worker.commands.bench.rounds import measure, middle
from worker.commands.bench.topics import Topics
from worker.errors import ConfigError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import Client, ClientSettings

PARTITIONS = 4
DEFAULT_FEATURES = 3
HEAP_MB = 1024
FULL_COMPILER = "-XX:TieredStopAtLevel=4"  # the embedded broker starts faster without it; clusters have it
DELIVERIES = ("at_least_once", "exactly_once")

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. None: a broker of our own, every client, both deliveries, a model of ours, all cores."""

    bootstrap_servers: str | None = None
    client: Client | None = None
    delivery: str | None = None
    model: Path | None = None
    events: int = 200_000
    streams: int = 1_000
    keys: Keys = "uniform"
    rounds: int = 3
    cores: str | None = None
    rate: int = 1_000
    seconds: float = 10.0
    json_file: Path | None = None

    @property
    def clients(self) -> Sequence[Client]:
        """Whom to measure."""
        every: tuple[Client, ...] = ("kafka-python", "confluent")
        found = [client for client in every if self.client in (None, client) and is_installed(client)]
        if not found:
            raise ConfigError(f"--client {self.client} is not installed: pip install 'rnn-stream-worker[confluent]'")
        return found

    @property
    def deliveries(self) -> Sequence[str]:
        """In which ways."""
        return [self.delivery] if self.delivery else DELIVERIES


def is_installed(client: Client) -> bool:
    """Whether this client can be imported."""
    return importlib.util.find_spec({"kafka-python": "kafka", "confluent": "confluent_kafka"}[client]) is not None


def run(options: Options, say: Say) -> None:
    """Measure and tell. Raises WorkerError for an answer that is missing or wrong, ConfigError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rnn-stream-worker-bench-")))
        aside = stack.enter_context(ExitStack())
        aside.enter_context(standing_aside(options.cores))
        servers = options.bootstrap_servers or stack.enter_context(_broker()).bootstrap_servers
        model = options.model or folder / "model.keras"
        width = _width(options.model) if options.model else DEFAULT_FEATURES
        if options.model is None:
            save_model(DEFAULT_MODEL, width, model)
        job = Job(options.events, options.streams, options.keys, width)
        session = Session(options, job, model, expected(model, job) if options.model is None else None, say)
        say(session.about())
        for client in options.clients:
            topics = Topics(ClientSettings(servers, client), PARTITIONS)
            stack.callback(topics.close)
            session.throughput(topics)
        aside.close()  # a waiting worker shares its cores, and all the other cores could be too many
        for client in options.clients:
            topics = Topics(ClientSettings(servers, client), PARTITIONS)
            stack.callback(topics.close)
            session.latency(topics)
    if options.json_file:
        options.json_file.write_text(json.dumps(session.figures(), indent=2) + "\n")


@dataclass(slots=True)
class Session:
    """What is measured, and what was found."""

    options: Options
    job: Job
    model: Path
    expected: Expected | None
    say: Say
    found: list[dict[str, Any]] = field(default_factory=list)

    def about(self) -> str:
        """The first lines: what is measured, and on what."""
        job, machine = self.job, machine_facts()
        cores = f"held to core {self.options.cores}" if self.options.cores else "on all cores"
        beside = "the broker on the others" if others(self.options.cores) else "the broker on the same"
        return (
            f"{job.events:,} events of {job.streams:,} streams ({job.keys}), {self.options.model or DEFAULT_MODEL}, "
            f"{PARTITIONS} partitions; contenders {cores} of {machine['cores']} ({machine['processor']}), {beside}"
        )

    def throughput(self, topics: Topics) -> None:
        """Of one client: the null pipeline and the worker, in turns."""
        client = topics.settings.client
        source = topics.create("events")
        topics.fill(source, self.job)
        bench = Bench(topics, self.job, source, self.model, self.expected, self.options.cores)
        base = null_pipeline(client)
        contenders = [base, *(worker(client, delivery) for delivery in self.options.deliveries)]
        self.say(f"\n{'throughput':<40}{'events/s':>30}{'/ null':>24}{'CPU µs/event':>15}")
        result = measure({each.name: partial(bench.run, each) for each in contenders}, self.options.rounds)
        for contender in contenders:
            name = contender.name
            speeds, ratios = middle(result.speeds(name), 0), middle(result.ratios(name, base.name))
            self.say(f"{name:<40}{speeds:>30}{ratios:>24}{result.cpu_us(name):>15.1f}")
            self.found.append({"what": "throughput", "client": client, "name": name, **result.as_json(name, base.name)})

    def latency(self, topics: Topics) -> None:
        """Of one client: one hop, and the worker in between."""
        client, options = topics.settings.client, self.options
        servers = topics.settings.bootstrap_servers
        load = Load(
            servers, PARTITIONS, options.rate, options.seconds, min(options.streams, options.rate), self.job.features
        )
        hop = topics.create("hop")
        self.say(
            f"\n{f'latency in ms at {options.rate:,} events/s':<40}" + "".join(f"{f'p{p:g}':>25}" for p in PERCENTILES)
        )
        with ExitStack() as stack:
            ways = [Way(f"one hop, {client}", client, hop, hop)]
            for delivery in options.deliveries:
                for contender in (null_pipeline(client, delivery), worker(client, delivery)):
                    ready = answered(contender, topics, load, self.job.names, self.model, options.cores)
                    ways.append(stack.enter_context(ready))
            begun: dict[str, int] = {}
            found: dict[str, list[Mapping[float, float]]] = {way.name: [] for way in ways}
            for _ in range(options.rounds):
                for way in ways:
                    found[way.name].append(percentiles(load.measure(way, begun)))
        for name, each in found.items():
            self.say(f"{name:<40}" + "".join(f"{middle([one[p] for one in each], 1):>25}" for p in PERCENTILES))
            self.found.append({"what": "latency, ms", "client": client, "name": name, "rounds": each})

    def figures(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        options = {name: value for name, value in asdict(self.options).items() if name != "json_file"}
        return {
            "version": __version__, "machine": machine_facts(), "found": self.found,
            "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        }  # fmt: skip


def machine_facts() -> dict[str, Any]:
    """The machine that was measured."""
    found = None
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    processor = found[1].strip() if found else platform.processor() or platform.machine()
    return {"cores": os.cpu_count(), "processor": processor, "python": platform.python_version()}


@contextmanager
def standing_aside(cores: str | None) -> Iterator[None]:
    """Leave the contenders' cores to them: this process, and what it starts meanwhile, stays on the others."""
    rest = others(cores)
    if not rest:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, rest)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def others(cores: str | None) -> set[int]:
    """The cores that are not among these (as taskset takes them); none where there are no others, or no taskset."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        return set()
    named: set[int] = set()
    for span in cores.split(","):
        first, _, last = span.partition("-")
        named |= set(range(int(first), int(last or first) + 1))
    return set(range(os.cpu_count() or 1)) - named


def _broker() -> AbstractContextManager[EmbeddedKafka]:
    return EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER])


def _width(model: Path) -> int:
    from worker.model.streaming import StreamingModel

    return StreamingModel.load(model).features
