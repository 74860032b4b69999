"""From the start of a process to a worker that is ready, with its partitions and without checkpoints.

    python -m benchmarks.start
    python -m benchmarks.start --rounds 2 --client confluent --json FILE

Importing TensorFlow and Keras, and `worker --help`, are timed in the same round, in separate processes; if others use
the machine as well, CPU times say more than the clock. Targets: ready in 10 s, help in 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import cpu_seconds, imports, run
from worker.commands.bench.contenders import Task, worker
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.rounds import middle
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, machine_facts
from worker.commands.bench.topics import Topics
from worker.errors import WorkerError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.settings import ClientSettings
from worker.web.probing import has_partitions

PARTITIONS = 4
FEATURES = ("f0", "f1", "f2")
CLIENTS = ("kafka-python", "confluent")
LOOK_S = 0.05
DEADLINE_S = 300.0
ASKED_S = {"worker --help": 0.3, **{f"worker run, {client}": 10.0 for client in CLIENTS}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--client", choices=CLIENTS, help="default: both")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER]))
        topics = Topics(ClientSettings(kafka.bootstrap_servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        save_model(DEFAULT_MODEL, len(FEATURES), folder / "model.keras")
        clients = [given.client] if given.client else CLIENTS
        rounds = [measure(topics, clients, folder / "model.keras") for _ in range(given.rounds)]
    print(f"seconds, median of {given.rounds} (least–most); cores: {os.cpu_count()}\n")
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        asked = f"   asked: {ASKED_S[name]:g}" if name in ASKED_S else ""
        print(f"{name:<34}{middle(values):>24}{asked}")
    if given.json:
        given.json.write_text(json.dumps({"machine": machine_facts(), "rounds": rounds}, indent=2) + "\n")


def measure(topics: Topics, clients: Sequence[str], model: Path) -> dict[str, float]:
    """Seconds of one round."""
    help_s, help_cpu_s = run("-m", "worker", "--help")
    found = {"worker --help": help_s, "  its CPU": help_cpu_s, **imports()}
    for client in clients:
        seconds, cpu_s = until_ready(topics, client, model)
        found |= {
            f"worker run, {client}": seconds,
            f"  its CPU, {client}": cpu_s,
            f"  of it imports, {client}": found["import tensorflow, keras"] / seconds,
        }
    return found


def until_ready(topics: Topics, client: str, model: Path) -> tuple[float, float]:
    """Seconds by the clock and of processor time. Raises WorkerError."""
    source, target, port = topics.create("events"), topics.create("answers"), free_port()
    servers = topics.settings.bootstrap_servers
    task = Task(servers, source, target, FEATURES, 1_000, model, new_folder(), port)
    with Running(worker(client), task) as running:
        started = time.time() - age_s(running.pid)
        while not has_partitions(port, PARTITIONS):
            running.check()
            if time.time() - started > DEADLINE_S:
                raise WorkerError(f"{client}: not ready in {DEADLINE_S:.0f} s")
            time.sleep(LOOK_S)
        return time.time() - started, cpu_seconds(running.pid)


def age_s(pid: int) -> float:
    """How long a process has existed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return up_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
