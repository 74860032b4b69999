"""Full speed with streams that come and go: does anything grow?

    python -m benchmarks.soak --minutes 10
    python -m benchmarks.soak --minutes 2 --json FILE

A worker (confluent, at_least_once, a checkpoint every 30 s) processes the load of benchmarks/churn.py, whose streams
live for some seconds; it forgets them because they are idle or because its table is full. A straight line is fitted to
the RSS of the second half. "Flat" means that the line rises by less than 1 % and its own error. For up to 80,000
streams of each partition the worker remembers why they were forgotten; it grows for some minutes, until that limit is
reached. Exit status 1 if not flat.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.churn import ALIVE
from benchmarks.processes import memory_bytes, open_files, scrape, threads
from worker.commands.bench.contenders import Contender, Task, worker
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, machine_facts
from worker.commands.bench.topics import Topics
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.settings import ClientSettings

PARTITIONS = 4
FEATURES = ("f0", "f1", "f2")
LOOK_S = 10.0
LOOKS = 30  # at least
MAX_STREAMS = round(1.4 * ALIVE)
STATE = {"idle": "10s", "max_streams": MAX_STREAMS, "checkpoint_interval": "30s"}
RETENTION = {  # of every topic: far more than the load's lag, and small enough for any disk
    "log.retention.bytes": 128 << 20,
    "log.segment.bytes": 32 << 20,
    "log.retention.check.interval.ms": 5_000,
    "log.segment.delete.delay.ms": 1_000,
}
GROWTH_SHARE = 0.01  # of RSS, over the second half
ERRORS = 2  # standard errors of the line that are noise


@dataclass(frozen=True, slots=True)
class Look:
    """A sample of the worker at one moment."""

    at_s: float
    events_per_s: float
    rss_bytes: int
    rows: int
    forgotten: int
    files: int
    file_bytes: int
    open_files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through values over time: units per second, and the standard error of that."""

    slope: float
    error: float

    @classmethod
    def through(cls, times_s: Sequence[float], values: Sequence[float]) -> Line:
        """Least squares; needs at least three points."""
        assert len(times_s) == len(values) >= 3, len(times_s)
        x, y = np.array(times_s, np.float64), np.array(values, np.float64)
        x = x - x.mean()
        slope = float(x @ y / (x @ x))
        rest = y - y.mean() - slope * x
        return cls(slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x))))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the second half: how far the line rises, and how far it may."""

    line: Line
    growth_bytes: float
    allowed_bytes: float

    @property
    def flat(self) -> bool:
        return self.growth_bytes < self.allowed_bytes

    @classmethod
    def of(cls, looks: Sequence[Look]) -> Verdict:
        half = looks[len(looks) // 2 :]
        line = Line.through([look.at_s for look in half], [look.rss_bytes for look in half])
        span_s = half[-1].at_s - half[0].at_s
        mean = sum(look.rss_bytes for look in half) / len(half)
        return cls(line, line.slope * span_s, GROWTH_SHARE * mean + ERRORS * line.error * span_s)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    looks = []
    print("     s  events/s  RSS, MB     rows  forgotten  files     MB  open  threads")
    for look in soak(given.minutes * 60):
        looks.append(look)
        print(
            f"{look.at_s:>6.0f}{look.events_per_s:>10,.0f}{look.rss_bytes / 1e6:>9.1f}{look.rows:>9,}"
            f"{look.forgotten:>11,}{look.files:>7}{look.file_bytes / 1e6:>7.0f}{look.open_files:>6}{look.threads:>9}",
            flush=True,
        )
    verdict = Verdict.of(looks)
    hourly = [per_s * 3600 / 1e6 for per_s in (verdict.line.slope, verdict.line.error)]
    print(f"\nRSS of the second half: {hourly[0]:+.1f} ± {hourly[1]:.1f} MB per hour (standard error); it grew by")
    print(f"{verdict.growth_bytes / 1e6:+.1f} MB, allowed {verdict.allowed_bytes / 1e6:.1f}: ", end="")
    print("flat" if verdict.flat else "NOT FLAT")
    if given.json:
        found = {"machine": machine_facts(), "looks": [asdict(look) for look in looks], **asdict(verdict)}
        given.json.write_text(json.dumps({**found, "flat": verdict.flat}, indent=2) + "\n")
    return 0 if verdict.flat else 1


def soak(seconds: float) -> Iterator[Look]:
    """A worker under load, and samples of it until the time is over."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER], properties=RETENTION))
        topics = Topics(ClientSettings(kafka.bootstrap_servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        save_model(DEFAULT_MODEL, len(FEATURES), folder / "model.keras")
        source, target = topics.create("events"), topics.create("answers")
        place, port = new_folder(), free_port()
        task = Task(kafka.bootstrap_servers, source, target, FEATURES, ALIVE, folder / "model.keras", place, port)
        contender = worker("confluent", state={**STATE, "directory": str(place / "state")})
        running = stack.enter_context(Running(contender, task))
        running.await_ready(port, PARTITIONS)
        arguments = [kafka.bootstrap_servers, source, target, str(PARTITIONS)]
        load = Contender("load", lambda task: [sys.executable, "-m", "benchmarks.churn", *arguments])
        loading = stack.enter_context(Running(load, Task("", "", "", (), 0, Path(), new_folder())))
        started, events = time.monotonic(), 0.0
        due = before = started
        while due < started + seconds:
            due += min(LOOK_S, seconds / LOOKS)
            time.sleep(max(0.0, due - time.monotonic()))
            running.check()
            loading.check()
            now, said = time.monotonic(), scrape(port)
            seen = said["rnnw_events_processed_total"]
            yield look(running.pid, said, place / "state", now - started, (seen - events) / (now - before))
            before, events = now, seen


def look(pid: int, said: dict[str, float], folder: Path, at_s: float, events_per_s: float) -> Look:
    sizes = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it may just have been deleted
            sizes += [file.stat().st_size] if file.is_file() else []
    return Look(
        at_s, events_per_s, memory_bytes(pid), round(said.get("rnnw_streams_active", 0)),
        round(said["rnnw_streams_evicted_total"]), len(sizes), sum(sizes), open_files(pid), threads(pid),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
