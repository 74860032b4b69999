"""Which row each event of a turn has: its stream's row, or a new one where the stream is not known.

Rows are given as if the events came one at a time. Where that is impossible while other events of the turn are still to
be stepped, placing stops, and the events already placed are processed first. No I/O, clock or logging.
"""

from __future__ import annotations

from itertools import compress

import numpy as np

from worker.engine.turns import Turn
from worker.records.arrays import NO_TIME_MS
from worker.records.events import Kind, Reset
from worker.records.ownership import Partition
from worker.streams.idle import any_idle, forget_idle, forget_idle_before
from worker.streams.rows import NO_ROW
from worker.streams.table import StreamTable

BEGIN_STREAMS = (Kind.STEP, Kind.SET_STATE)  # for a stream that is not known, a tombstone or reset changes nothing


def place_events(table: StreamTable, turn: Turn, start: int) -> int:
    """Give the events from ``start`` their rows; returns up to which event that was possible.

    Streams whose last event is a tombstone are noted in ``turn.leaving``: forgotten, but not released yet.
    """
    stop = len(turn)
    tombstones = turn.commands and bool((turn.kinds[start:stop] == Kind.TOMBSTONE).any())
    if tombstones or not (_forget_idle(table, turn, start, stop) and _together(table, turn, start, stop)):
        rows = _one_by_one(table, turn, start, stop)
        stop = start + len(rows)
        turn.rows[start:stop] = rows
    taken = turn.rows[start:stop]
    table.touch(taken[taken != NO_ROW])
    return stop


def _forget_idle(table: StreamTable, turn: Turn, start: int, stop: int) -> bool:
    """Forget the streams that fall idle at these events; False where this must be checked event by event."""
    seen: set[Partition] = set()
    for partition, names in turn.names(start, stop):
        begin, start = start, start + len(names)
        idle = start > begin and any_idle(table, partition, int(turn.clocks[start - 1]))
        if idle and (partition in seen or not forget_idle_before(table, partition, turn.clocks[begin:start], names)):
            return False
        seen.add(partition)
    return True


def _together(table: StreamTable, turn: Turn, start: int, stop: int) -> bool:
    """All at once, if each is of a known stream, or of a new one for which there is room; returns whether so."""
    found = _known(table, turn, start, stop)
    if None in found:
        if not _add_new(table, turn, start, found):
            return False
        found = _known(table, turn, start, stop)
    turn.rows[start:stop] = np.array(found, np.int64)
    return True


def _known(table: StreamTable, turn: Turn, start: int, stop: int) -> list[int | None]:
    """(events,) rows of the streams that are known."""
    known = table.partitions
    return [row for partition, names in turn.names(start, stop) for row in map(known[partition].rows.get, names)]


def _add_new(table: StreamTable, turn: Turn, start: int, found: list[int | None]) -> bool:
    """All new streams at once, if there is room for them and each begins with its first event."""
    stop = start + len(found)
    new = np.array([row is None for row in found])
    if not np.isin(turn.kinds[start:stop][new], BEGIN_STREAMS).all():
        return False
    fresh: dict[Partition, dict[str, None]] = {}  # each once, also where a partition has several batches
    begin = 0
    for partition, names in turn.names(start, stop):
        fresh.setdefault(partition, {}).update(dict.fromkeys(compress(names, new[begin : begin + len(names)].tolist())))
        begin += len(names)
    if any(len(added) > table.room(partition) for partition, added in fresh.items()):
        return False
    for partition, added in fresh.items():
        if added:
            table.add(partition, list(added))
    return True


def _one_by_one(table: StreamTable, turn: Turn, start: int, stop: int) -> list[int]:
    """Place event by event, until one would need another stream's row, or comes after its stream was forgotten here."""
    used: dict[Partition, dict[int, int]] = {}  # row → clock of the last event, as far as it is certain
    left: dict[Partition, int] = {}  # streams that tombstones have forgotten here
    rows: list[int] = []
    columns = (column[start:stop].tolist() for column in (turn.kinds, turn.clocks, turn.times))
    names = ((partition, name) for partition, streams in turn.names(start, stop) for name in streams)
    for (partition, name), kind, clock, time in zip(names, *columns, strict=True):
        begins, here = kind in BEGIN_STREAMS, used.setdefault(partition, {})
        if any_idle(table, partition, clock) and not forget_idle(table, partition, clock, here):
            break
        if (partition, name) in turn.leaving:
            if begins:
                break
            row = NO_ROW
        else:
            row = table.partitions[partition].rows.get(name, NO_ROW)
        if row == NO_ROW and begins:
            row = table.row(partition, name, here, left.get(partition, 0))
            if row == NO_ROW:
                break
        if row != NO_ROW:
            # An event older than its partition's clock may be late in its stream, and may then not count.
            sure = kind != Kind.STEP or time >= clock or (row not in here and table.times[row] == NO_TIME_MS)
            here[row] = clock if sure else here.get(row, int(table.clocks[row]))
            if kind == Kind.TOMBSTONE:
                turn.leaving[partition, name] = row
                left[partition] = left.get(partition, 0) + 1
                table.remember(partition, name, Reset.TOMBSTONE)  # the reason that counts is known when it is processed
        rows.append(row)
    assert rows, "no row can be given, and none is in use"
    return rows
