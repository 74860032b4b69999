"""Which streams of the table are idle at an event, and that they are forgotten before it. No I/O, clock or logging.

A stream is idle at an event of its partition that comes more than ``idle_ms`` after its own last one, both by the
partition's clock. It is forgotten before that event, and nothing else decides when: outputs do not depend on the time
of day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from worker.records.arrays import IntArray
from worker.records.events import Reset
from worker.records.ownership import Partition
from worker.streams.rows import NO_ROW
from worker.streams.table import StreamTable


def any_idle(table: StreamTable, partition: Partition, clock: int) -> bool:
    """Whether a stream of the partition may be idle at this clock, in ms: False is sure."""
    return table.idle_ms is not None and table.partitions[partition].silence.since < clock - table.idle_ms


def forget_idle(table: StreamTable, partition: Partition, clock: int, used: Mapping[int, int] | None = None) -> bool:
    """Forget the streams that are idle at an event at this clock, in the order of their last events.

    ``used``: row → clock of the last event, of streams with events that are not processed yet. False, and nothing done,
    when one of these is idle, too: the caller processes them first and asks again.
    """
    if not any_idle(table, partition, clock):
        return True
    rows, idle = table.partitions[partition].rows, _idle(table, partition, clock, used or {})
    if used and any(rows[name] in used for _, _, name in idle):
        return False
    _forget(table, partition, clock, ((touched, name) for _, touched, name in idle))
    return True


def forget_idle_before(table: StreamTable, partition: Partition, clocks: IntArray, names: Collection[str]) -> bool:
    """As ``forget_idle`` before each of these events, (events,) ``clocks`` of streams of these ``names``, at once.

    False, and nothing done, where the result might differ: where a forgotten stream has an event, too, where new ones
    may need its row, or where the reason for one of them may be forgotten before it comes back.
    """
    assert table.idle_ms is not None
    streams, clock, seen = table.partitions[partition], int(clocks[-1]), set(names)
    if clock - int(clocks[0]) > table.idle_ms or len(seen.difference(streams.rows)) > table.room(partition):
        return False
    idle = _idle(table, partition, clock, {})
    if not seen.isdisjoint([name for _, _, name in idle]):
        return False
    if len(streams.forgotten) + len(idle) > table.forgotten_limit and not seen.isdisjoint(streams.forgotten):
        return False
    at = np.searchsorted(clocks, np.array([last for last, _, _ in idle], np.int64) + table.idle_ms, side="right")
    _forget(table, partition, clock, ((event, *each[1:]) for event, each in zip(at.tolist(), idle, strict=True)))
    return True


def _idle(table: StreamTable, partition: Partition, clock: int, used: Mapping[int, int]) -> list[tuple[int, int, str]]:
    """(clock of the last event, its number in the order of all, name) of the streams that are idle at this clock."""
    assert table.idle_ms is not None
    streams, since = table.partitions[partition], clock - table.idle_ms
    entries = streams.silence.before(since)
    if entries is None:
        clocks = table.clocks[streams.roster.rows()]
        clocks[table.slots[list(used)]] = list(used.values())
        entries = streams.silence.renew(since, clocks, streams.roster)
    rows = ((last, name, streams.rows.get(name, NO_ROW)) for last, name in entries)
    return [
        (last, int(table.touched[row]), name)
        for last, name, row in rows
        if row != NO_ROW and used.get(row, int(table.clocks[row])) == last
    ]


def _forget(table: StreamTable, partition: Partition, clock: int, idle: Iterable[tuple[Any, ...]]) -> None:
    """``idle``: all that are at this clock, each with its name last; in their order."""
    assert table.idle_ms is not None
    table.partitions[partition].silence.done(clock - table.idle_ms)
    for *_, name in sorted(idle):
        table.forget(partition, name, Reset.IDLE)
        table.idle += 1
