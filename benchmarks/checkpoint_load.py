"""The cost of checkpoints for a worker under full load, and how long a million streams take to write and to read.

    python -m benchmarks.checkpoint_load                                 100,000 and 1,000,000 streams
    python -m benchmarks.checkpoint_load --streams 20000 --events 400000 --interval 1s

One worker (confluent, at_least_once) reads a filled topic and writes a checkpoint every few seconds. All of them are
kept: a file says when it was begun, and its last change says when it got its name. Speed comes from the broker's
timestamps of the outputs, once every stream is known: during each checkpoint, compared with the free time around it. A
gap is the time between two outputs. Targets: 0.8 of the speed; a million streams of 96 floats written in 5 s and read
in 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.checkpoint import filled, restored
from benchmarks.processes import answer_of
from benchmarks.spans import Span, compare
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.hdf5 import read_header
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.writer import CheckpointWriter
from worker.commands.bench.contenders import WARM_UP, Task, worker
from worker.commands.bench.job import Job
from worker.commands.bench.judge import check_answers
from worker.commands.bench.measure import await_outputs
from worker.commands.bench.models import DEFAULT_MODEL, expected, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.rounds import middle
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, machine_facts, standing_aside
from worker.commands.bench.topics import Topics
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import ClientSettings

PARTITIONS = 4
COPY_S = 0.05  # the first copy is taken before its file is begun
STORE_STREAMS, STORE_PARTITIONS = 1_000_000, 4
WRITE_TIMEOUT_S = 600.0


def under_load(topics: Topics, folder: Path, job: Job, interval: str, cores: str | None) -> dict[str, Any]:
    """One worker at one job. Raises WorkerError."""
    source, target, place = topics.create("events"), topics.create("answers"), new_folder()
    topics.fill(source, job)
    model = folder / "model.keras"
    task = Task(topics.settings.bootstrap_servers, source, target, job.names, job.streams, model, place)
    state = {"directory": str(place / "state"), "max_streams": round(1.25 * job.streams) + 1}
    contender = worker("confluent", state={**state, "checkpoint_interval": interval, "keep": 1_000})
    with Running(contender, task, cores) as running:
        cpu_us = await_outputs(topics, running, target, job.events)
        checkpoints = [written_in(file) for file in (place / "state").rglob("*.h5")]
    written = topics.read(target)
    topics.drop(source)
    topics.drop(target)
    check_answers(contender.name, written, job, expected(model, job))
    first = max(job.streams, round(WARM_UP * job.events))
    return {"streams": job.streams, "cpu_us": cpu_us, **compare(written.times_ms / 1e3, checkpoints, first)}


def written_in(file: Path) -> Span:
    """From the copy until the file got its name."""
    begun = datetime.fromisoformat(read_header(file).created).timestamp()
    return Span(begun - COPY_S, file.stat().st_ctime)


def store(streams: int) -> dict[str, float]:
    """Seconds, in this process: the writer's thread alone, then reading."""
    table, places = filled(streams, STORE_PARTITIONS)
    with TemporaryDirectory() as folder:
        writer = CheckpointWriter(CheckpointStore(folder, "bench"))
        states = [table.snapshot(place, 1) for place in places]
        started = time.perf_counter()
        for state in states:
            writer.submit(state, CheckpointIdentity("", "", "bench", ""))
        assert writer.close(WRITE_TIMEOUT_S)
        seconds, results = time.perf_counter() - started, writer.poll_results()
        assert all(result.ok for result in results), results
        size = sum(result.size_bytes for result in results)
        return {"written, s": seconds, "MB": size / 1e6, **restored(places, Path(folder), table.capacity)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, nargs="+", default=[100_000, 1_000_000])
    options.add_argument("--events", type=int, default=4_000_000)
    options.add_argument("--interval", default="5s", help="between two checkpoints")
    options.add_argument("--cores", help="pin the worker to these cores and all else to the others; default: all")
    options.add_argument("--store-streams", type=int, default=STORE_STREAMS, help="written and read without a worker")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    options.add_argument("--store", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.store:
        print(json.dumps(store(given.store_streams)))
        return
    alone = answer_of("-m", "benchmarks.checkpoint_load", "--store", "--store-streams", str(given.store_streams))
    print(f"{given.store_streams:,} streams × 96 floats in {STORE_PARTITIONS} partitions, nothing else running")
    print("  " + ", ".join(f"{name.strip()}: {value:.2f}" for name, value in alone.items()) + "\n", flush=True)
    with ExitStack() as stack:
        stack.enter_context(standing_aside(given.cores))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER]))
        topics = Topics(ClientSettings(kafka.bootstrap_servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        save_model(DEFAULT_MODEL, 3, folder / "model.keras")
        found = []
        for streams in given.streams:
            found.append(under_load(topics, folder, Job(given.events, streams), given.interval, given.cores))
            show(found[-1])
    if given.json:
        facts = {"machine": machine_facts(), "cores": given.cores or os.cpu_count()}
        given.json.write_text(json.dumps({**facts, "store": alone, "load": found}, indent=2) + "\n")


def show(found: dict[str, Any]) -> None:
    print(f"{found['streams']:,} streams, {found['checkpoints']} checkpoints, CPU {found['cpu_us']:.1f} µs an event")
    print(f"  seconds of each{middle(found['seconds of each']):>36}")
    print(f"  events/s during, otherwise{found['events/s during']:>15,.0f}{found['events/s otherwise']:>10,.0f}")
    print(f"  during / free time around it{middle(found['ratio']):>23}")
    gaps = [found[f"longest gap {when}, ms"] for when in ("during", "otherwise")]
    print(f"  longest gap, ms: during, otherwise{gaps[0]:>7,.0f}{gaps[1]:>10,.0f}", flush=True)


if __name__ == "__main__":
    main()
