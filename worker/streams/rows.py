"""The packed rows of a table, one for each stream, and which of them are free.

There are rows for as many streams as every open partition may have; the operating system commits their memory only
where they are touched. All numbers of a row lie side by side, so that a checkpoint copies them at once, as fast as
memory allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.records.arrays import NO_TIME_MS, CodeArray, FloatArray, IntArray
from worker.records.events import Origin
from worker.records.ownership import Partition
from worker.records.states import UNKNOWN_ID
from worker.streams.copies import CopyArena
from worker.streams.free_rows import FreeRows
from worker.streams.reserving import RowValues, reserved

NO_ROW = -1  # in place of a row of the table, where there is none
COPIED_AT_ONCE_BYTES = 32 << 20  # for checkpoints; a partition that has more is copied whole, but alone


def _row_dtype(initial: FloatArray, emitted_units: int, generates: bool) -> np.dtype[Any]:
    """The numbers of one stream, side by side."""
    numbers = [(name, np.int64) for name in ("steps", "times", "clocks", "touched", "slot")]
    codes = [(name, np.uint8) for name in ("pending", "origins")]
    arrays = [("emitted", np.float64, (emitted_units,)), ("states", initial.dtype, initial.shape)]
    counts = [("drawn", np.int64), ("records", np.int64)] if generates else []
    return np.dtype([*numbers, *counts, *codes, *arrays], align=True)


class PackedRows:
    """Columns of ``capacity`` rows, each an array that is indexed by row; ``limit`` for each of the partitions.

    ``initial`` is the packed state of a stream at zero, (width,). ``emitted_units`` > 0 adds the last output.
    ``generates`` adds what tasks that generate keep beside: ``drawn``, ``records`` and ``items``.
    """

    def __init__(self, initial: FloatArray, limit: int, emitted_units: int = 0, generates: bool = False) -> None:
        assert limit >= 1, limit
        self.initial = initial
        self.limit = limit
        self.capacity = 0
        self.generates = generates
        self._dtype = _row_dtype(initial, emitted_units, generates)
        self._arena = CopyArena(limit, self._dtype)
        self.copied_at_once = max(1, COPIED_AT_ONCE_BYTES // self._dtype.itemsize)  # rows
        self.free = FreeRows()
        self._values = np.empty(0, self._dtype)
        self.sequences = np.empty(0, np.object_)
        self.items = np.empty(0, np.object_)  # items kept of each stream's sequence so far, None = none
        self._have_rows(1)

    def _have_rows(self, partitions: int) -> None:
        """Make room for so many partitions and more, so that growing makes few copies."""
        if self.limit * partitions <= self.capacity:
            return
        self.capacity = self.limit * max(partitions, 2 * (self.capacity // self.limit))
        used, values, sequences = self.free.dealt, self._values, self.sequences
        self._values = reserved(self.capacity, self._dtype)
        self._values[:used] = values[:used]
        self.sequences = np.empty(self.capacity, np.object_)
        self.sequences[:used] = sequences[:used]
        if self.generates:
            items, self.items = self.items, np.empty(self.capacity, np.object_)
            self.items[:used] = items[:used]
            self.drawn: IntArray = self._values["drawn"]
            self.records: IntArray = self._values["records"]
        self.free.capacity = self.capacity
        # The same memory as plain bytes: numpy copies such rows as they are, structured ones field by field.
        self._octets = self._values.view(np.dtype((np.void, self._dtype.itemsize)))
        self.states: FloatArray = self._values["states"]  # (capacity, width)
        self.steps: IntArray = self._values["steps"]
        self.times: IntArray = self._values["times"]
        self.clocks: IntArray = self._values["clocks"]
        self.touched: IntArray = self._values["touched"]
        self.pending: CodeArray = self._values["pending"]
        self.origins: CodeArray = self._values["origins"]
        self.emitted: FloatArray | None = self._values["emitted"] if self._dtype["emitted"].itemsize else None
        self.slots: IntArray = self._values["slot"]  # the slot of a row in its partition's roster

    def __len__(self) -> int:
        return self.capacity - len(self.free)

    def read(self, rows: IntArray) -> RowValues:
        """(n,) a copy of what these rows hold; its fields are named as the columns."""
        return self._octets.take(rows, mode="clip").view(self._values.dtype)  # no row is out of range

    def write(self, rows: IntArray, values: RowValues) -> None:
        """Write back rows that were read and changed. No row twice."""
        self._octets[rows] = values.view(self._octets.dtype)

    def _will_copy(self, rows: int) -> None:
        """Partitions of at most so many rows will be copied: get the memory now, or the first copy waits for it."""
        self._arena.ready(max(rows, min(len(self), self.copied_at_once)))

    def _give_back(self, owner: Partition, rows: list[int]) -> None:
        self.sequences[rows] = None
        if self.generates:
            self.items[rows] = None
        self.free.give_back(owner, rows)

    def clear(self, row: int | IntArray, reason: int | CodeArray) -> None:
        """Reset one row, or several with a reason each, as for streams that begin."""
        self.states[row] = self.initial
        self.steps[row] = 0
        self.times[row] = NO_TIME_MS
        self.clocks[row] = NO_TIME_MS
        self.pending[row] = reason
        self.origins[row] = Origin.LIVE
        self.sequences[row] = UNKNOWN_ID
        if self.emitted is not None:
            self.emitted[row] = np.nan
        if self.generates:
            self.drawn[row] = self.records[row] = 0
            self.items[row] = None

    def _copied(self, rows: IntArray) -> RowValues:
        """(rows,) a copy of their numbers, in memory of its own."""
        copy = self._arena.take(len(rows))
        # With the default mode numpy would copy twice. No row is out of range.
        self._octets.take(rows, out=copy.view(self._octets.dtype), mode="clip")
        return copy
