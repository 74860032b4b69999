"""How long a checkpoint stops the loop: the copy between two turns, and the effect of its writer on later turns.

    python benchmarks/checkpoint.py                                   100,000 and 1,000,000 streams, 1 and 8 partitions
    python benchmarks/checkpoint.py --streams 100000 --partitions 8

Each case is measured in a separate process, so that the first copy really is a first one: 96 floats per stream, keys of
8 to 20 characters, one sequence id each; with several partitions their rows are interleaved. Between two copies one row
in twenty changes and, in every other round, each partition gets a new stream. "Turns" take 1 ms, are pure Python and
numpy, and run once alone and once beside the thread that writes the files. If others use the machine as well, CPU times
say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worker.records.states import StateLayout, StateSpec

FLOATS = 96
REPEATS = 24
ROOM_ROWS = 10_000  # for new streams
TURN_S = 0.001
ALONE_S = 2.0  # turns measured without a writer
LONG_TURN_S = 0.006  # a turn that waited for the interpreter
DEADLINE_S = 600
TOPIC = "readings"
SPECS = [StateSpec("lstm", name, (FLOATS // 2,)) for name in ("h", "c")]
LAYOUT = StateLayout.of(SPECS, np.zeros(FLOATS, np.float32))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, help="default: 100,000 and 1,000,000")
    options.add_argument("--partitions", type=int, help="default: 1 and 8")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    options.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.case:
        print(json.dumps(measure(given.streams, given.partitions)))
        return
    cases = [
        run(streams, partitions)
        for streams in ([given.streams] if given.streams else [100_000, 1_000_000])
        for partitions in ([given.partitions] if given.partitions else [1, 8])
    ]
    report(cases)
    if given.json:
        given.json.write_text(json.dumps(cases, indent=2) + "\n")


def run(streams: int, partitions: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", "--streams", str(streams), "--partitions", str(partitions)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
    if answer.returncode:
        raise SystemExit(f"{streams} streams in {partitions} partitions failed:\n{answer.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def report(cases: list[dict[str, Any]]) -> None:
    width = max(len(name) for name in cases[0])
    for name in cases[0]:
        cells = "".join(f"{case[name]:>14,}" for case in cases)
        print(f"{name:<{width}}{cells}")


def measure(streams: int, partitions: int) -> dict[str, Any]:
    """The figures of one case, in the order of the report."""
    table, places = filled(streams, partitions)
    held, used = copied(table, places)
    alone = turns(lambda started: time.perf_counter() - started < ALONE_S)
    with tempfile.TemporaryDirectory() as folder:
        written, beside = saved(table, places, Path(folder))
        loaded = restored(places, Path(folder), streams + ROOM_ROWS)
    per_100k = 1e5 / streams
    return {
        "streams": streams,
        "partitions": partitions,
        "copy, per 100,000 streams: first, ms": ms(held[0] * per_100k),
        "  p50, streams known, ms": ms(statistics.median(held[1::2]) * per_100k),
        "  p50, with new streams, ms": ms(statistics.median(held[2::2]) * per_100k),
        "  max, ms": ms(max(held[1:]) * per_100k),
        "  CPU: first, ms": ms(used[0] * per_100k),
        "  CPU: p50, streams known, ms": ms(statistics.median(used[1::2]) * per_100k),
        "  CPU: p50, with new streams, ms": ms(statistics.median(used[2::2]) * per_100k),
        "  CPU: max, ms": ms(max(used[1:]) * per_100k),
        "turns alone: longest, ms": ms(max(alone)),
        "turns beside the writer: p50, ms": ms(statistics.median(beside)),
        "  p99, ms": ms(float(np.quantile(beside, 0.99))),
        "  longest, ms": ms(max(beside)),
        f"  above {LONG_TURN_S * 1e3:.0f} ms, of 1,000": round(1e3 * float(np.mean(np.array(beside) > LONG_TURN_S)), 1),
        **written,
        **loaded,
    }


def ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


def filled(streams: int, partitions: int) -> tuple[Any, list[Any]]:
    from worker.records.ownership import Partition
    from worker.streams.table import StreamTable

    table = StreamTable(LAYOUT, streams + ROOM_ROWS)
    places = [Partition(TOPIC, number) for number in range(partitions)]
    for place in places:
        table.open(place)
    draw = random.Random(1)
    for number in range(streams):
        row = table.row(places[number % partitions], key(draw, number))
        table.sequences[row] = f"run-{draw.getrandbits(40):x}"
    table.states[:streams] = np.random.default_rng(1).standard_normal((streams, FLOATS), np.float32)
    return table, places


def key(draw: random.Random, number: int) -> str:
    return f"{number:08d}" + "sensor-north-2"[: draw.randrange(13)]


def copied(table: Any, places: list[Any]) -> tuple[list[float], list[float]]:
    """Seconds that all partitions take, per round, and the thread's own share; odd rounds have no new streams."""
    draw, held, used = np.random.default_rng(2), [], []
    for number in range(1 + REPEATS):
        if number % 2 == 0 and number:
            for place in places:
                table.row(place, f"new-{number}")
        table.states[draw.integers(0, len(table), len(table) // 20)] = number
        seconds = own_seconds = 0.0
        for place in places:
            started, own = time.perf_counter(), time.thread_time()
            state = table.snapshot(place, number)
            own_seconds += time.thread_time() - own
            seconds += time.perf_counter() - started
            del state  # like the worker, which never holds more copies than it has reserved memory for
        used.append(own_seconds)
        held.append(seconds)
    return held, used


def turns(going_on: Callable[[float], bool]) -> list[float]:
    """Seconds of each turn of a busy loop."""
    vectors, found, started = np.ones((64, FLOATS), np.float32), [], time.perf_counter()
    while going_on(started):
        begin = time.perf_counter()
        while time.perf_counter() - begin < TURN_S:
            sum(number * 3 for number in range(200))
            vectors = np.tanh(vectors)
        found.append(time.perf_counter() - begin)
    return found


def saved(table: Any, places: list[Any], folder: Path) -> tuple[dict[str, Any], list[float]]:
    from worker.checkpoints.folder import CheckpointStore
    from worker.checkpoints.header import CheckpointIdentity
    from worker.checkpoints.writer import CheckpointWriter

    writer = CheckpointWriter(CheckpointStore(folder, "bench"))
    for place in places:
        writer.submit(table.snapshot(place, 1), CheckpointIdentity("", "", "bench", ""))
    results: list[Any] = []

    def going_on(started: float) -> bool:
        results.extend(writer.poll_results())
        assert time.perf_counter() - started < DEADLINE_S, "not written in time"
        return len(results) < len(places)

    beside = turns(going_on)
    assert writer.close(DEADLINE_S)
    assert all(result.ok for result in results), results
    seconds = sum(result.duration_s for result in results)
    size = sum(result.size_bytes for result in results)
    return {"files: written beside turns, s": round(seconds, 2), "  MB": round(size / 1e6)}, beside


def restored(places: list[Any], folder: Path, capacity: int) -> dict[str, Any]:
    from worker.checkpoints.folder import CheckpointStore
    from worker.checkpoints.hdf5 import read_checkpoint
    from worker.checkpoints.header import CheckpointIdentity
    from worker.streams.table import StreamTable

    table, store = StreamTable(LAYOUT, capacity), CheckpointStore(folder, "bench")
    read_s = load_s = 0.0
    for place in places:
        started = time.perf_counter()
        state = read_checkpoint(store.path_for(place, 1), CheckpointIdentity("", "", "bench", ""), SPECS)
        read = time.perf_counter()
        table.open(place, state)
        read_s, load_s = read_s + read - started, load_s + time.perf_counter() - read
    return {"  read, s": round(read_s, 2), "  put into the table, s": round(load_s, 2)}


if __name__ == "__main__":
    main()
