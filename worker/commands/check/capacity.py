"""What a model costs on this machine: bytes per stream, memory, time per step."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.engine.jobs import UNFINISHED_RECORDS_LIMIT
from worker.model.failing import computable
from worker.model.streaming import StreamingModel

# Measured on CPython 3.11 with a million streams and keys of 14 characters (benchmarks/memory.py): 63 of key, 152 of
# columns and dictionary.
OVERHEAD_BYTES = 215
COPIED_SHARE = 4  # checkpoints copy a partition at a time: no more than this part of all, with four partitions or more
BATCHES_ROWS = (1, 256, 4096)
MEASURE_BUDGET_S = 0.3  # per batch size
MEASURE_CALLS_LIMIT = 100
UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a number of this size


@dataclass(frozen=True, slots=True)
class StepTime:
    """Median time of one step of ``batch`` streams, and what that makes per second: the model alone."""

    batch: int
    seconds: float
    events_per_second: float


def step_times(model: StreamingModel, clock: Callable[[], float]) -> list[StepTime]:
    """Measure after a first call that builds the graph. About a second in all, longer only if three calls are."""
    return [step_time(model, rows, clock) for rows in BATCHES_ROWS]


def step_time(model: StreamingModel, rows: int, clock: Callable[[], float]) -> StepTime:
    """Of streams that are all answered; with ``model.every`` so many of them as are on average, but one at least."""
    x = np.resize(model.samples(1, 16)[0], (rows, model.features)).astype(model.dtype)
    packed = np.tile(model.initial_row, (rows, 1))
    if model.window is not None:
        seen = model.first_answer - 1 + np.arange(rows) % model.window.every
        packed[:, -1] = model.window.after(np.zeros(rows), seen)
    sound = computable(rows, lambda some: model.step_packed(x[some], packed[some]))
    x, packed = x[sound], packed[sound]
    calls: list[float] = []
    begin = clock()
    while not calls or (clock() - begin < MEASURE_BUDGET_S and len(calls) < MEASURE_CALLS_LIMIT):
        before = clock()
        model.step_packed(x, packed)
        calls.append(clock() - before)
    seconds = statistics.median(calls)
    return StepTime(rows, seconds, rows / max(seconds, 1e-9))


def texts_at_once(streams: int) -> int:
    """Texts of a partition with so many streams that are being written, at most."""
    return min(streams, UNFINISHED_RECORDS_LIMIT)


def streams_that_fit(free_bytes: int, stream_bytes: int, text_bytes: int) -> int:
    """Streams for which the memory is enough, of which as many as may are writing a text."""
    all_writing = free_bytes // (stream_bytes + text_bytes)
    beyond = (free_bytes - UNFINISHED_RECORDS_LIMIT * text_bytes) // stream_bytes
    return max(beyond, texts_at_once(all_writing))


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """What a worker may still take: of the machine, and of the container's limit; None where neither can be known.

    This process has loaded the model as a worker does, so its own memory is already not free any more.
    """
    available = _kilobytes(root / "proc/meminfo", "MemAvailable")
    limits = list(_limits_bytes(root))
    if limits:
        left = max(0, min(limits) - (_kilobytes(root / "proc/self/status", "VmRSS") or 0))
        return left if available is None else min(left, available)
    return available


def _kilobytes(file: Path, field: str) -> int | None:
    """A line such as "MemAvailable: 1024 kB" of a file in /proc, in bytes."""
    try:
        for line in file.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _limits_bytes(root: Path) -> Iterator[int]:
    """Limits of the control groups, version 2 or 1, that this process is in, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = root / ("sys/fs/cgroup/memory" if controllers else "sys/fs/cgroup")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = Path(path.lstrip("/"))
        # In a container the path may be the host's, which is not visible here: then the container's own root counts.
        for folder in (group, *group.parents):
            try:
                limit = int((mount / folder / name).read_text())  # "max" is no number
            except (OSError, ValueError):
                continue
            if limit < UNLIMITED_BYTES:
                yield limit
