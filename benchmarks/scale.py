"""Scale out: 1, 2 and 4 workers of one group on 8 partitions of one machine.

    python -m benchmarks.scale
    python -m benchmarks.scale --events 40000 --rounds 1 --json FILE

Events are written in one transaction while the workers wait, all of them ready with their partitions; the end of the
transaction makes all events visible at once. Speed comes from the broker's timestamps of the outputs of all workers. If
workers have to share cores, the processor time per event, of all workers together, says what additional workers cost.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from worker.commands.bench.contenders import WARM_UP, Task, worker
from worker.commands.bench.job import Job
from worker.commands.bench.judge import check_answers, events_per_s
from worker.commands.bench.measure import Figures, await_outputs
from worker.commands.bench.models import DEFAULT_MODEL, Expected, expected, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.rounds import measure, middle
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, machine_facts
from worker.commands.bench.topics import Topics
from worker.errors import WorkerError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.settings import ClientSettings

PARTITIONS = 8
SIZES = (1, 2, 4)  # workers
TRANSACTION_MS = 600_000
FLUSH_S = 300.0


@dataclass(frozen=True, slots=True)
class Group:
    """Workers, watched as one."""

    members: tuple[Running, ...]

    def check(self) -> None:
        for member in self.members:
            member.check()

    def failure(self, what: str) -> WorkerError:
        return WorkerError("\n".join(str(member.failure(what)) for member in self.members))

    def cpu_s(self) -> float:
        return sum(member.cpu_s() for member in self.members)


@dataclass(frozen=True, slots=True)
class Scale:
    """What all runs share."""

    topics: Topics
    job: Job
    model: Path
    right: Expected

    def run(self, size: int) -> Figures:
        """One group of this size at the whole job. Raises WorkerError."""
        topics, job = self.topics, self.job
        source, target = topics.create("events"), topics.create("answers")
        servers = topics.settings.bootstrap_servers
        tasks = [
            Task(servers, source, target, job.names, job.streams, self.model, new_folder(), free_port())
            for _ in range(size)
        ]
        contender = worker("confluent")
        with ExitStack() as stack:
            group = Group(tuple(stack.enter_context(Running(contender, task)) for task in tasks))
            for member, task in zip(group.members, tasks, strict=True):
                member.await_ready(task.port, PARTITIONS // size)
            fill_at_once(servers, source, job)
            cpu_us = await_outputs(topics, group, target, job.events)
        written = topics.read(target)
        topics.drop(source)
        topics.drop(target)
        check_answers(f"{size} workers", written, job, self.right)
        figures = Figures(events_per_s(written, WARM_UP), cpu_us)
        print(f"  {size} workers{figures.events_per_s:>12,.0f} events/s{figures.cpu_us:>9.1f} µs", flush=True)
        return figures


def fill_at_once(servers: str, topic: str, job: Job) -> None:
    """A job's events: a reader of committed records sees either none or all of them."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 5, "partitioner": "murmur2_random", "transactional.id": topic,
         "transaction.timeout.ms": TRANSACTION_MS, "queue.buffering.max.messages": job.events + 1,
         "queue.buffering.max.kbytes": 2_000_000}
    )  # fmt: skip
    producer.init_transactions(FLUSH_S)
    producer.begin_transaction()
    for keys, values in job.messages():
        for key, value in zip(keys, values, strict=True):
            producer.produce(topic, value, key)
        producer.poll(0)
    producer.commit_transaction(FLUSH_S)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=400_000)
    options.add_argument("--streams", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    job = Job(given.events, given.streams)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER]))
        topics = Topics(ClientSettings(kafka.bootstrap_servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        save_model(DEFAULT_MODEL, job.features, folder / "model.keras")
        scale = Scale(topics, job, folder / "model.keras", expected(folder / "model.keras", job))
        found = measure({str(size): partial(scale.run, size) for size in SIZES}, given.rounds)
    base = str(SIZES[0])
    print(f"\n{job.events:,} events, {job.streams:,} streams, {PARTITIONS} partitions; cores: {os.cpu_count()}\n")
    print(f"{'workers':<8}{'events/s':>30}{'/ one worker':>22}{'CPU µs/event':>22}")
    for size in map(str, SIZES):
        cpu_us = middle([figures.cpu_us for figures in found.found[size]], 1)
        print(f"{size:<8}{middle(found.speeds(size), 0):>30}{middle(found.ratios(size, base)):>22}{cpu_us:>22}")
    if given.json:
        figures = {size: found.as_json(size, base) for size in map(str, SIZES)}
        given.json.write_text(
            json.dumps({"machine": machine_facts(), "job": asdict(job), "workers": figures}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
