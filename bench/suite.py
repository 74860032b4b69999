"""The benchmark suite: contenders in turns on one machine, each at the same job, every answer checked first.

    python bench/suite.py                                   everything; about an hour
    python bench/suite.py --only clients streams --rounds 3
    python bench/suite.py --peers .peers                    peers that bench/peers/setup.sh has put there
    python bench/suite.py --compare HEAD~5                  the worker of now beside the worker of then

Contenders are held to core 0 and everything else to the other cores, unless a group says otherwise. Figures go to
bench/results/GROUP.json; bench/report.py makes tables and pictures of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.others import peers, prepare
from worker.bench.contenders import Contender, null_pipeline, worker
from worker.bench.job import Job
from worker.bench.measure import Bench, Figures
from worker.bench.models import DEFAULT_MODEL, MODELS, Expected, expected, save_model
from worker.bench.rounds import measure, middle
from worker.bench.session import FULL_COMPILER, HEAP_MB, PARTITIONS, machine_facts
from worker.bench.topics import Topics
from worker.kafka.clients import ClientSettings
from worker.kafka.embedded import EmbeddedKafka

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CONTENDERS_CORE = "0"
JOB = Job(events=300_000, streams=1_000)
FLAT = 2_000_000  # events: of a million streams each has two


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender at one job."""

    name: str
    contender: Contender
    job: Job = JOB
    model: str = DEFAULT_MODEL
    cores: str | None = CONTENDERS_CORE


class Arena:
    """The broker, and what cells share: filled topics, models, and what they must answer."""

    def __init__(self, servers: str, folder: Path, peers: Path | None = None) -> None:
        self.folder, self.peers = folder, peers
        self.topics = Topics(ClientSettings(servers, "confluent"), PARTITIONS)
        self._filled: dict[Job, str] = {}
        self._models: dict[str, Path] = {}
        self._expected: dict[tuple[str, Job], Expected] = {}

    def run(self, cell: Cell) -> Figures:
        source, model = self._source(cell.job), self._model(cell)
        if (cell.model, cell.job) not in self._expected:
            self._expected[cell.model, cell.job] = expected(model, cell.job)
        right = self._expected[cell.model, cell.job]
        figures = Bench(self.topics, cell.job, source, model, right, cell.cores).run(cell.contender)
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


def clients() -> list[Cell]:
    """Each client: null pipeline, worker, both deliveries."""
    cells = []
    for client in ("kafka-python", "confluent"):
        every = (null_pipeline(client), worker(client), worker(client, "exactly_once"))
        cells += [Cell(contender.name, contender) for contender in every]
    return cells


def cores() -> list[Cell]:
    """On all cores, which the broker shares."""
    return [Cell(each.name, each, cores=None) for each in (null_pipeline("confluent"), worker("confluent"))]


def streams() -> list[Cell]:
    """A thousand streams to a million."""
    sizes = (1_000, 100_000, 1_000_000)
    return [Cell(f"{size:,} streams", worker("confluent"), Job(FLAT, size)) for size in sizes]


def keys() -> list[Cell]:
    """How events fall on streams."""
    return [Cell(f"{kind} keys", worker("confluent"), replace(JOB, keys=kind)) for kind in ("uniform", "zipf", "hot")]


def models() -> list[Cell]:
    """Small and large."""
    return [Cell(name, worker("confluent"), model=name) for name in MODELS]


def against_peers(folder: Path) -> list[Cell]:
    """The worker first: ratios are peer / worker."""
    cells = [Cell(each.name, each) for each in (worker("confluent"), worker("confluent", "exactly_once"))]
    found = peers(folder, PARTITIONS)
    return cells + [Cell(peer.contender.name, peer.contender, replace(JOB, events=peer.events)) for peer in found]


GROUPS = {"clients": clients, "cores": cores, "streams": streams, "keys": keys, "models": models}


def then(revision: str, folder: Path) -> Contender:
    """The worker of another commit, in this environment."""
    tree = folder / "then"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), revision], check=True)
    now = worker("confluent")
    return Contender(
        f"worker of {revision}", lambda task: ["env", f"PYTHONPATH={tree}", *now.command(task)], now.predicts
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--peers", type=Path, metavar="FOLDER", help="with the environments of bench/peers/setup.sh")
    options.add_argument("--compare", metavar="REVISION")
    given = options.parse_args()
    others = sorted(os.sched_getaffinity(0) - {int(CONTENDERS_CORE)})
    if others:
        os.sched_setaffinity(0, others)  # the broker and we; contenders have a core of their own
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER]))
        arena = Arena(kafka.bootstrap_servers, folder, given.peers)
        stack.callback(arena.topics.close)
        if given.compare:
            pair = [worker("confluent"), then(given.compare, folder)]
            stack.callback(subprocess.run, ["git", "-C", str(ROOT), "worktree", "prune"], check=False)
            show("compare", [Cell(each.name, each) for each in pair], arena, given.rounds)
            return
        if given.peers:
            show("peers", against_peers(given.peers.resolve()), arena, given.rounds)
            return
        for name in given.only:
            show(name, GROUPS[name](), arena, given.rounds)


def show(group: str, cells: list[Cell], arena: Arena, rounds: int) -> None:
    print(f"{group}:", flush=True)
    found = measure({cell.name: partial(arena.run, cell) for cell in cells}, rounds)
    base = cells[0].name
    figures: dict[str, Any] = {"machine": machine_facts(), "rounds": rounds, "cells": {}}
    for cell in cells:
        figures["cells"][cell.name] = found.as_json(cell.name, base)
        print(f"{cell.name:<46}{middle(found.speeds(cell.name), 0):>32}{middle(found.ratios(cell.name, base)):>24}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{group}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
