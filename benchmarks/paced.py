"""One worker on one core at a steady rate, each stream once a second: what a pod can take, to check the capacity model.

    python -m benchmarks.paced                               20,000 streams at 1 Hz, a minute
    python -m benchmarks.paced --rate 5000 --seconds 30 --json FILE

The load keeps its pace, however fast the worker is. A worker with time to spare makes small turns, so processor time
per event is far higher than at full speed; a wait (--max-wait) makes turns larger. The lag is the mean time from a
record's arrival in the worker to its acknowledged output. Checkpoints are written as in production, every 30 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import memory_bytes, scrape
from worker.commands.bench.contenders import Contender, Task, worker
from worker.commands.bench.job import Job
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, PARTITIONS, machine_facts, standing_aside
from worker.commands.bench.topics import Topics
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.settings import ClientSettings

LOOK_S = 5.0
SETTLED_S = 10.0  # until every stream is known and the first turns are over
BEGIN_TIMEOUT_S = 120.0
PROCESSED, TURNS = "rnnw_events_processed_total", "rnnw_batch_events_count"
LAG_S, LAGS = "rnnw_answer_duration_seconds_sum", "rnnw_answer_duration_seconds_count"


@dataclass(frozen=True, slots=True)
class Sight:
    """A worker at one moment: its metrics, and what it has used since its start."""

    at_s: float
    said: Mapping[str, float]
    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """What happened between two samples."""

    events_per_s: float
    core: float  # share of one core
    cpu_us: float  # per event
    events_per_turn: float
    lag_ms: float
    rss_bytes: int

    @classmethod
    def between(cls, one: Sight, other: Sight) -> Look:
        events, turns, lag_s, lags = (other.said[name] - one.said[name] for name in (PROCESSED, TURNS, LAG_S, LAGS))
        seconds, spent_s = other.at_s - one.at_s, other.cpu_s - one.cpu_s
        return cls(
            events / seconds, spent_s / seconds, 1e6 * spent_s / max(events, 1), events / max(turns, 1),
            1e3 * lag_s / max(lags, 1), other.rss_bytes,
        )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=int, default=20_000, help="events per second, and streams")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--cores", default="0", help="pin the worker to these")
    options.add_argument("--max-wait", default="0ms", help="batch.max_wait of the worker")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    print("  events/s  of a core  CPU µs/event  events/turn  lag, ms  RSS, MB")
    looks = []
    for look in paced(given.rate, given.seconds, given.cores, given.max_wait):
        looks.append(look)
        print(
            f"{look.events_per_s:>10,.0f}{look.core:>11.2f}{look.cpu_us:>14.1f}"
            f"{look.events_per_turn:>13,.0f}{look.lag_ms:>9.1f}{look.rss_bytes / 1e6:>9.0f}",
            flush=True,
        )
    if given.json:
        found = {
            "machine": machine_facts(),
            "rate": given.rate,
            "max_wait": given.max_wait,
            "looks": [asdict(look) for look in looks],
        }
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def paced(rate: int, seconds: float, cores: str, max_wait: str) -> Iterator[Look]:
    """A worker under a load that lasts as long as the measurement, and samples of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        stack.enter_context(standing_aside(cores))
        servers = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER])).bootstrap_servers
        topics = Topics(ClientSettings(servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        job = Job(round(rate * (seconds + SETTLED_S + 4 * LOOK_S)), rate)
        save_model(DEFAULT_MODEL, job.features, folder / "model.keras")
        source, target = topics.create("events"), topics.create("answers")
        task = Task(servers, source, target, job.names, rate, folder / "model.keras", new_folder(), free_port())
        running = stack.enter_context(Running(worker("confluent", batch={"max_wait": max_wait}), task, cores))
        running.await_ready(task.port, PARTITIONS)
        numbers = [str(each) for each in (rate, job.events, rate, job.features, 0)]
        sent = [sys.executable, "-m", "worker.commands.bench.load", servers, "confluent", source, *numbers]
        load = Contender("load", lambda task: [*sent, str(folder / "times.npy")])
        loading = stack.enter_context(Running(load, Task("", "", "", (), 0, Path(), new_folder())))
        yield from looks_at(running, loading, task.port, seconds)


def looks_at(running: Running, loading: Running, port: int, seconds: float) -> Iterator[Look]:
    """A sample every LOOK_S, once the worker has settled. Raises WorkerError when worker or load ends."""
    deadline = time.monotonic() + BEGIN_TIMEOUT_S
    while not scrape(port)[PROCESSED]:
        loading.check()
        assert time.monotonic() < deadline, "no event has come"
        time.sleep(LOOK_S / 10)
    time.sleep(SETTLED_S)
    before = sight(running, port)
    end_s = before.at_s + seconds
    while before.at_s < end_s:
        time.sleep(LOOK_S)
        running.check()
        loading.check()
        now = sight(running, port)
        yield Look.between(before, now)
        before = now


def sight(running: Running, port: int) -> Sight:
    """As it is now."""
    return Sight(time.monotonic(), scrape(port), running.cpu_s(), memory_bytes(running.pid))


if __name__ == "__main__":
    main()
