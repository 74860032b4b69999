"""Who is measured: a name, and the command that reads one topic and writes another until it is told to end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HOST = "127.0.0.1"
WARM_UP = 0.1  # of the outputs
MEMORY_SHARE = 1.25  # rows beyond the number of streams


@dataclass(frozen=True, slots=True)
class Task:
    """One run: what to read, where to write, and a folder of its own, made when it is started."""

    servers: str
    source: str
    target: str
    features: tuple[str, ...]  # fields of a value
    streams: int
    model: Path
    folder: Path
    port: int = 0  # for probes and metrics; 0 = any


@dataclass(frozen=True, slots=True)
class Contender:
    """``command`` makes what is run for a task. ``predicts``: its answers are compared with Keras'.

    ``warm_up``: share of the outputs, the first ones, that don't count: until everything is built and compiled.
    """

    name: str
    command: Callable[[Task], list[str]]
    predicts: bool = True
    warm_up: float = WARM_UP


def null_pipeline(client: str, delivery: str = "at_least_once", **consumer: str) -> Contender:
    """See ``worker.commands.bench.null``. ``consumer``: options for its consumer, named by it."""
    options = [f"{name}={value}" for name, value in consumer.items()]

    def command(task: Task) -> list[str]:
        return [
            sys.executable,
            "-m",
            "worker.commands.bench.null",
            task.servers,
            client,
            delivery,
            task.source,
            task.target,
            *options,
        ]

    return Contender(", ".join(["null", client, delivery, *options]), command, predicts=False)


def worker(client: str, delivery: str = "at_least_once", **changes: Any) -> Contender:
    """``worker run``, configured as users would; ``changes`` are further sections of the configuration."""

    def command(task: Task) -> list[str]:
        file = task.folder / "worker.yaml"
        file.write_text(yaml.safe_dump({**configuration(task, client, delivery), **changes}))
        return [sys.executable, "-m", "worker", "run", "-c", str(file)]

    return Contender(f"worker, {client}, {delivery}", command)


def configuration(task: Task, client: str, delivery: str) -> dict[str, Any]:
    """The worker's configuration for a task."""
    return {
        "kafka": {"bootstrap_servers": task.servers, "client": client, "group_id": f"group-{task.target}"},
        "input": {"topic": task.source, "features": list(task.features)},
        "output": {"topic": task.target},
        "dead_letters": {"topic": None},
        "model": {"path": str(task.model)},
        "state": {"directory": str(task.folder / "state"), "max_streams": round(task.streams * MEMORY_SHARE) + 1},
        "delivery": delivery,
        "http": {"host": HOST, "port": task.port},
    }
