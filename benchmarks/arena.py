"""Where contenders run: the broker, and what cells share: filled topics, models, and the expected answers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.others import prepare
from worker.commands.bench.contenders import Contender
from worker.commands.bench.job import Job
from worker.commands.bench.measure import Bench, Figures
from worker.commands.bench.models import DEFAULT_MODEL, Expected, expected, save_model
from worker.commands.bench.session import PARTITIONS
from worker.commands.bench.topics import Topics
from worker.kafka.settings import ClientSettings

CONTENDERS_CORE = "0"
JOB = Job(events=600_000, streams=1_000)
SLOW_JOB = Job(events=200_000, streams=1_000)


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender at one job; None is the model's step by itself, without Kafka."""

    name: str
    contender: Contender | None
    job: Job = JOB
    model: str = DEFAULT_MODEL
    cores: str | None = CONTENDERS_CORE


class Arena:
    """Runs cells. ``peers``: the folder with the environments of ``benchmarks/peers/setup.sh``."""

    def __init__(self, servers: str, folder: Path, peers: Path | None = None) -> None:
        self.folder, self.peers = folder, peers
        self.topics = Topics(ClientSettings(servers, "confluent"), PARTITIONS)
        self._filled: dict[Job, str] = {}
        self._models: dict[str, Path] = {}
        self._expected: dict[tuple[str, Job], Expected] = {}

    def run(self, cell: Cell) -> Figures:
        """Measure once. Raises WorkerError when an answer is missing or wrong."""
        model = self._model(cell)
        if cell.contender is None:
            figures = step_alone(model, cell.job, cell.cores)
        else:
            if (cell.model, cell.job) not in self._expected:
                self._expected[cell.model, cell.job] = expected(model, cell.job)
            right = self._expected[cell.model, cell.job]
            bench = Bench(self.topics, cell.job, self._source(cell.job), model, right, cell.cores)
            figures = bench.run(cell.contender)
        print(f"  {cell.name:<44}{figures.events_per_s:>12,.0f} events/s{figures.cpu_us:>9.1f} µs", flush=True)
        return figures

    def _source(self, job: Job) -> str:
        if job not in self._filled:
            self._filled[job] = self.topics.create("events")
            self.topics.fill(self._filled[job], job)
        return self._filled[job]

    def _model(self, cell: Cell) -> Path:
        if cell.model not in self._models:
            path = self.folder / f"model-{len(self._models)}.keras"
            save_model(cell.model, cell.job.features, path)
            if self.peers is not None:
                prepare(path, self.peers)
            self._models[cell.model] = path
        return self._models[cell.model]


def step_alone(model: Path, job: Job, cores: str | None) -> Figures:
    """See ``benchmarks.step_alone``, in a process of its own."""
    pinned = [] if cores is None else ["taskset", "-c", cores]
    command = [*pinned, sys.executable, "-m", "benchmarks.step_alone", str(model), str(job.features)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Figures(**json.loads(done.stdout))
