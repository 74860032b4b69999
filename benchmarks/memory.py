"""Memory per stream, without Kafka: the worker's own pipeline, RSS as the system counts it.

    python -m benchmarks.memory                                  a million streams; some minutes
    python -m benchmarks.memory --streams 100000 --json FILE

Each case is a separate process, with room for a million streams whatever ``--streams`` says. "Idle" is the process once
model, pipeline and partitions exist and nothing has been read. "plain": every stream has an event; "checkpoint": in
addition, one checkpoint of all streams is written at each size; "replaced": streams are forgotten, half of them by
tombstones and half because they are idle, and as many others arrive, round after round. "Rows used" are the rows that
were ever in use. Target: at most 1.3 × the raw states + 200 B for each stream above the idle process. The lower table
shows which structures take the bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pipeline import CAPACITY, PipelineProcess
from benchmarks.processes import answer_of

CASES = ("plain", "checkpoint", "replaced")
SHARES = (0.1, 0.5, 1.0)  # of --streams
ROUNDS = 3
DAY_MS, HOUR_MS = 86_400_000, 3_600_000  # streams are idle after a day
NOON_MS = 1_750_000_000_000
STATES_FACTOR, STREAM_BYTES = 1.3, 200  # target
VALUE = b'{"f0":0.125,"f1":0.25,"f2":0.5}'


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=CAPACITY)
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    options.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.case:
        print(json.dumps(measure(given.case, given.streams)))
        return
    found = {
        case: answer_of("-m", "benchmarks.memory", "--case", case, "--streams", str(given.streams)) for case in CASES
    }
    print("                 streams   rows used  RSS, MB  above idle  B/stream  beyond state  asked")
    for case, figures in found.items():
        for row in figures["rows"]:
            show(case, row, figures["raw"])
    print(f"\n{'bytes per stream':<44}" + "".join(f"{case:>12}" for case in found))
    for name in found["plain"]["parts"]:
        print(f"{name:<44}" + "".join(f"{figures['parts'][name]:>12.1f}" for figures in found.values()))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def show(case: str, row: dict[str, Any], raw: int) -> None:
    left = f"{case:<12}{row['streams']:>10,}{row['rows']:>12,}{row['rss'] / 1e6:>9.0f}{row['growth'] / 1e6:>12.0f}"
    if case == "replaced" or not row["streams"]:
        print(f"{left}   {row['what']}")
        return
    each, asked = row["growth"] / row["streams"], STATES_FACTOR * raw + STREAM_BYTES
    print(f"{left}{each:>10.0f}{each - raw:>14.0f}{asked:>7.0f}  {'held' if each <= asked else 'MISSED'}")


def measure(case: str, streams: int) -> dict[str, Any]:
    """The figures of one case."""
    with tempfile.TemporaryDirectory() as folder:
        process = PipelineProcess(Path(folder))
        if case == "replaced":
            replace(process, streams)
        else:
            known = 0
            for share in SHARES:
                process.events(range(known, known := round(share * streams)), VALUE, NOON_MS)
                if case == "checkpoint":
                    process.checkpoint(Path(folder) / "state")
                process.see("")
        return {"raw": process.raw, "rows": process.rows, "parts": parts(process.table)}


def replace(process: PipelineProcess, streams: int) -> None:
    """Half of the streams get a tombstone, the other half become idle, and as many new ones replace them."""
    half, first, now_ms = streams // 2, 0, NOON_MS
    process.events(range(streams), VALUE, now_ms)
    process.see("all came")
    for _ in range(ROUNDS):
        process.events(range(first, first + half), None, now_ms)
        process.see("half have had a tombstone")
        now_ms += DAY_MS + HOUR_MS
        process.events(range(first + streams, first + streams + half), VALUE, now_ms)
        process.see("as many others came, and the rest was idle")
        process.events(range(first + streams + half, first + 2 * streams), VALUE, now_ms)
        process.see("as many others came")
        first += streams


def parts(table: Any) -> dict[str, float]:
    """Bytes of each structure, divided by the streams that the table has now."""
    rosters = [streams.roster for streams in table.partitions.values()]
    rows = [streams.rows for streams in table.partitions.values()]
    record = table._values.dtype.itemsize
    found = {
        "states, raw": len(table) * table.initial.nbytes,
        "other numbers of the row": table.free.dealt * record - len(table) * table.initial.nbytes,
        "copy of the row, for checkpoints": table._arena._ready * record,
        "sequence ids (references)": table.free.dealt * table.sequences.itemsize,
        "names: str": sum(sys.getsizeof(name) for known in rows for name in known),
        "names: dict → row": sum(map(sys.getsizeof, rows)),
        "row numbers: int": sum(sys.getsizeof(row) for known in rows for row in known.values()),
        "rosters: rows": sum(sys.getsizeof(each._rows) for each in rosters),
        "rosters: names (references)": sum(each._names.nbytes for each in rosters),
        "forgotten: dict": sum(sys.getsizeof(streams.forgotten) for streams in table.partitions.values()),
        "forgotten: names": sum(sys.getsizeof(n) for streams in table.partitions.values() for n in streams.forgotten),
        "free rows": sum(map(sys.getsizeof, table.free._kept.values())),
    }
    found["sum"] = sum(found.values())
    return {name: size / max(len(table), 1) for name, size in found.items()}


if __name__ == "__main__":
    main()
