"""The benchmark suite: contenders in turns on one machine, each at the same job, every answer checked first.

    python -m benchmarks.suite                                   everything but peers; about an hour
    python -m benchmarks.suite --only clients streams --rounds 3
    python -m benchmarks.suite --peers .peers                    peers that benchmarks/peers/setup.sh has set up there
    python -m benchmarks.suite --compare HEAD~5                  this worker compared with the worker of that commit

For throughput, contenders are pinned to core 0 and everything else to the other cores, unless a group says otherwise.
Figures go to benchmarks/results/GROUP.json; benchmarks/report.py turns them into tables and pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arena import CONTENDERS_CORE, JOB, SLOW_JOB, Arena, Cell
from benchmarks.others import peers
from worker.commands.bench.contenders import Contender, null_pipeline, worker
from worker.commands.bench.job import Job
from worker.commands.bench.models import DEFAULT_MODEL, MODELS, save_model
from worker.commands.bench.rounds import measure, middle
from worker.commands.bench.session import (
    FULL_COMPILER,
    HEAP_MB,
    PARTITIONS,
    Options,
    Session,
    machine_facts,
    standing_aside,
)
from worker.commands.bench.topics import Topics
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import ClientSettings

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FLAT = 2_000_000  # events: of a million streams each has two
RATES = (100, 1_000, 10_000)  # events per second
QUICK_FETCHES = {"fetch.queue.backoff.ms": "10"}  # as set for the worker's consumer
LATENCY = "latency"
LATENCY_SECONDS = 8.0


def clients() -> list[Cell]:
    """Each client: null pipeline, worker, both deliveries."""
    cells = []
    for client, job in (("kafka-python", SLOW_JOB), ("confluent", JOB)):
        every = [null_pipeline(client), worker(client), worker(client, "exactly_once")]
        if client == "confluent":
            every.append(null_pipeline(client, **QUICK_FETCHES))
        cells += [Cell(contender.name, contender, job) for contender in every]
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
    """Small and large models, and what their steps cost alone."""
    ways = (("worker", worker("confluent")), ("step alone", None))
    return [Cell(f"{name}, {way}", contender, model=name) for name in MODELS for way, contender in ways]


def against_peers(folder: Path) -> list[Cell]:
    """The worker first: ratios are peer / worker."""
    cells = [Cell(each.name, each) for each in (worker("confluent"), worker("confluent", "exactly_once"))]
    found = peers(folder, PARTITIONS)
    return cells + [Cell(peer.contender.name, peer.contender, replace(JOB, events=peer.events)) for peer in found]


GROUPS = {"clients": clients, "cores": cores, "streams": streams, "keys": keys, "models": models}


@contextmanager
def then(revision: str, folder: Path) -> Iterator[Contender]:
    """The worker of another commit, in this environment."""
    tree = folder / "then"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
    now = worker("confluent")
    try:
        # Without the first, `python -m` would look in the current folder first, and find the current worker.
        there = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={tree}"]
        yield Contender(f"worker of {revision}", lambda task: [*there, *now.command(task)])
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*GROUPS, LATENCY]
    options.add_argument("--only", nargs="+", choices=every, default=every)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="with the environments of benchmarks/peers/setup.sh"
    )
    options.add_argument("--compare", metavar="REVISION")
    given = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rnn-stream-worker-bench-")))
        stack.enter_context(standing_aside(CONTENDERS_CORE))
        servers = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER])).bootstrap_servers
        arena = Arena(servers, folder, given.peers)
        stack.callback(arena.topics.close)
        if given.compare:
            pair = [stack.enter_context(then(given.compare, folder)), worker("confluent")]
            show("compare", [Cell(each.name, each) for each in pair], arena, given.rounds)
        elif given.peers:
            show("peers", against_peers(given.peers.resolve()), arena, given.rounds)
        else:
            for name in given.only:
                if name in GROUPS:
                    show(name, GROUPS[name](), arena, given.rounds)
    if LATENCY in given.only and not (given.compare or given.peers):
        latencies(given.rounds)


def show(group: str, cells: list[Cell], arena: Arena, rounds: int) -> None:
    """Measure a group; ratios are to its first cell."""
    print(f"{group}:", flush=True)
    found = measure({cell.name: partial(arena.run, cell) for cell in cells}, rounds)
    base = cells[0].name
    figures: dict[str, Any] = {"machine": machine_facts(), "rounds": rounds, "cells": {}}
    for cell in cells:
        figures["cells"][cell.name] = found.as_json(cell.name, base)
        print(f"{cell.name:<46}{middle(found.speeds(cell.name), 0):>32}{middle(found.ratios(cell.name, base)):>24}")
    write(group, figures)


def latencies(rounds: int) -> None:
    """Of both clients and deliveries, at each rate."""
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rnn-stream-worker-bench-")))
        servers = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER])).bootstrap_servers
        model = folder / "model.keras"
        save_model(DEFAULT_MODEL, JOB.features, model)
        for rate in RATES:
            options = Options(rate=rate, seconds=LATENCY_SECONDS, rounds=rounds)
            session = Session(options, JOB, model, None, print)
            for client in options.clients:
                topics = Topics(ClientSettings(servers, client), PARTITIONS)
                session.latency(topics)
                topics.close()
            found.append(session.figures())
            write(LATENCY, found)


def write(group: str, figures: Any) -> None:
    """Written for ``benchmarks/report.py``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{group}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
