"""From the call that produces an event to when a reader of committed records has its answer, at a steady rate."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from worker.commands.bench.contenders import Contender, Task
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.reader import Reader
from worker.commands.bench.topics import Topics
from worker.errors import WorkerError
from worker.kafka.embedded.local_ports import free_port

PERCENTILES = (50.0, 99.0, 99.9)
WARM_UP_S = 3.0  # produced and read like the rest, and not counted
LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Way:
    """Events go to ``source``, their answers come from ``target``; the same topic for one hop without any worker.

    ``check`` raises when the process that answers has ended.
    """

    name: str
    client: str
    source: str
    target: str
    check: Callable[[], object] = bool


@dataclass(frozen=True, slots=True)
class Load:
    """``rate`` in events per second, for ``seconds`` after the warm-up."""

    servers: str
    partitions: int
    rate: int
    seconds: float
    streams: int
    features: int

    @property
    def steps(self) -> int:
        """Events of each stream: all get as many, so that (stream, step) names an event."""
        return max(1, round((WARM_UP_S + self.seconds) * self.rate / self.streams))

    def measure(self, way: Way, begun: dict[str, int]) -> Sequence[float]:
        """Milliseconds of each event. ``begun``: steps already made by the streams of a source; updated."""
        count, before = self.steps * self.streams, begun.get(way.source, 0)
        reader = Reader(way.client, self.servers, way.target, self.partitions, count)
        reader.start()
        reader.await_ready()
        handed_over = self._send(way, count, before)
        reader.join()
        begun[way.source] = before + self.steps
        way.check()
        if len(reader.answers) != count:
            raise WorkerError(f"{way.name}: {len(reader.answers):,} answers to {count:,} events")
        times = np.full(count, np.nan)
        for value, at_s in reader.answers:
            times[event_of(value, before, self.streams)] = at_s
        if np.isnan(times).any():
            raise WorkerError(f"{way.name}: {np.isnan(times).sum():,} events have no answer")
        latencies_ms: list[float] = (1e3 * (times - handed_over))[round(WARM_UP_S * self.rate) :].tolist()
        return latencies_ms

    def _send(self, way: Way, count: int, before: int) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "times.npy"
            numbers = (self.rate, count, self.streams, self.features, before)
            command = [sys.executable, "-m", "worker.commands.bench.load", self.servers, way.client, way.source]
            done = subprocess.run(  # noqa: S603
                [*command, *map(str, numbers), str(file)],
                capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=False,
            )  # fmt: skip
            if done.returncode:
                raise WorkerError(f"the load failed: {done.stderr[-2000:]}")
            times: NDArray[np.float64] = np.load(file)
            return times


@contextmanager
def answered(
    contender: Contender, topics: Topics, load: Load, features: tuple[str, ...], model: Path, cores: str | None
) -> Iterator[Way]:
    """The contender at work with topics of its own, ready."""
    source, target = topics.create("latency"), topics.create("answers")
    task = Task(load.servers, source, target, features, load.streams, model, new_folder(), free_port())
    with Running(contender, task, cores) as running:
        running.await_ready(task.port if contender.predicts else None, topics.partitions)
        yield Way(contender.name, topics.settings.client, source, target, running.check)


def event_of(value: bytes, begun: int, streams: int) -> int:
    """The number of an event in its round, from its answer or (for one hop) from itself."""
    found = orjson.loads(value)
    return (int(found["step"]) - 1 - begun) * streams + int(found["stream"].removeprefix("device-"))


def percentiles(latencies_ms: Sequence[float]) -> Mapping[float, float]:
    """Of PERCENTILES, in ms."""
    return dict(zip(PERCENTILES, np.percentile(latencies_ms, PERCENTILES).tolist(), strict=True))
