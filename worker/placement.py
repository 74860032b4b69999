"""Which row each event of a turn has: that of its stream, a new one where the stream is not known. Pure."""

from __future__ import annotations

from itertools import compress

import numpy as np

from worker.records import Kind, Partition
from worker.streams import StreamTable, TableFullError
from worker.turns import NO_ROW, Turn

BEGIN_STREAMS = (Kind.STEP, Kind.SET_STATE)  # of a stream that is not known a tombstone or reset changes nothing


def place(table: StreamTable, turn: Turn, start: int) -> int:
    """Give the events from ``start`` their rows; where the table is full, stop before the first without one."""
    stop = len(turn)
    found: list[int | None] = _known(table, turn) if start == 0 else [None]
    if start == 0 and None in found and _add_new(table, turn, found):
        found = _known(table, turn)
    if None in found:
        rows = _one_by_one(table, turn, start)
        stop = start + len(rows)
        turn.rows[start:stop] = rows
    else:
        turn.rows[:] = np.array(found, np.int64)
    taken = turn.rows[start:stop]
    table.touch(taken[taken != NO_ROW])
    return stop


def _known(table: StreamTable, turn: Turn) -> list[int | None]:
    """(events,) rows of the streams that there are."""
    partitions = table.partitions
    return [row for each in turn.batches for row in map(partitions[each.batch.partition].rows.get, each.streams)]


def _add_new(table: StreamTable, turn: Turn, found: list[int | None]) -> bool:
    """All new streams at once, if there is room for them and each begins with its first event."""
    new = np.array([row is None for row in found])
    if np.count_nonzero(new) > table.room or not np.isin(turn.kinds[new], BEGIN_STREAMS).all():
        return False
    names: dict[Partition, dict[str, None]] = {}  # each once, also where a partition has several batches
    begin = 0
    for each in turn.batches:
        part = new[begin : begin + len(each)].tolist()
        begin += len(each)
        names.setdefault(each.batch.partition, {}).update(dict.fromkeys(compress(each.streams, part)))
    for partition, fresh in names.items():
        if fresh:
            table.add(partition, list(fresh))
    return True


def _one_by_one(table: StreamTable, turn: Turn, start: int) -> list[int]:
    """Event by event, until one would need the row of another."""
    used: set[int] = set()
    rows: list[int] = []
    kinds = turn.kinds.tolist()
    for index in range(start, len(turn)):
        partition, name = turn.names[index]
        row = table.partitions[partition].rows.get(name, NO_ROW)
        if row == NO_ROW and kinds[index] in BEGIN_STREAMS:
            try:
                row = table.row(partition, name, int(turn.clocks[index]), used.__contains__)
            except TableFullError:
                assert rows, "a row is in use before any was given"
                break
        used.add(row)
        rows.append(row)
    return rows
