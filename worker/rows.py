"""The packed rows of a table, one for each stream, and which of them are free.

Rows are allocated once for ``max_streams``; the operating system commits their memory only where they are touched.
All numbers of a row lie side by side, so that a checkpoint copies them at once, as fast as memory allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.boundaries import UNKNOWN_ID
from worker.free_rows import FreeRows
from worker.records import CodeArray, FloatArray, IntArray, Origin, Partition
from worker.spare import Records, SpareRows

NO_TIME_MS = -1
COPIED_AT_ONCE_BYTES = 32 << 20  # for checkpoints; a partition that has more is copied whole, but alone


def _record(initial: FloatArray, emitted_units: int) -> np.dtype[Any]:
    """The numbers of one stream, side by side."""
    numbers = [(name, np.int64) for name in ("steps", "times", "clocks", "touched", "place")]
    codes = [(name, np.uint8) for name in ("pending", "origins")]
    arrays = [("emitted", np.float64, (emitted_units,)), ("states", initial.dtype, initial.shape)]
    return np.dtype([*numbers, *codes, *arrays], align=True)


class PackedRows:
    """Columns of ``capacity`` rows, each an array that is indexed by row.

    ``initial`` is the packed state of a stream at zero, (width,). ``emitted_units`` > 0 adds the last emitted output.
    """

    def __init__(self, initial: FloatArray, capacity: int, emitted_units: int = 0) -> None:
        assert capacity >= 1, capacity
        self.initial = initial
        self.capacity = capacity
        self._records = np.zeros(capacity, _record(initial, emitted_units))
        # The same memory as plain bytes: numpy copies such rows as they are, structured ones field by field.
        self._octets = self._records.view(np.dtype((np.void, self._records.dtype.itemsize)))
        self._spare = SpareRows(capacity, self._records.dtype)
        self.states: FloatArray = self._records["states"]  # (capacity, width)
        self.steps: IntArray = self._records["steps"]
        self.times: IntArray = self._records["times"]
        self.clocks: IntArray = self._records["clocks"]
        self.touched: IntArray = self._records["touched"]
        self.pending: CodeArray = self._records["pending"]
        self.origins: CodeArray = self._records["origins"]
        self.emitted: FloatArray | None = self._records["emitted"] if emitted_units else None
        self.sequences = np.empty(capacity, np.object_)
        self._places: IntArray = self._records["place"]  # where in its partition's members a row stands
        self.copied_at_once = max(1, COPIED_AT_ONCE_BYTES // self._records.dtype.itemsize)  # rows
        self.free = FreeRows(capacity)

    def __len__(self) -> int:
        return self.capacity - len(self.free)

    def read(self, rows: IntArray) -> Records:
        """(n,) a copy of what these rows hold; its fields are named as the columns."""
        return self._octets.take(rows, mode="clip").view(self._records.dtype)  # no row is out of range

    def write(self, rows: IntArray, records: Records) -> None:
        """Put records that were read back, changed. No row twice."""
        self._octets[rows] = records.view(self._octets.dtype)

    @property
    def room(self) -> int:
        """Rows that can be taken."""
        return len(self.free)

    def _will_copy(self, rows: int) -> None:
        """Partitions of at most so many rows will be copied: have the memory now, or the first copy waits for it."""
        self._spare.ready(max(rows, min(len(self), self.copied_at_once)))

    def _give_back(self, owner: Partition, rows: list[int]) -> None:
        self.sequences[rows] = None
        self.free.give_back(owner, rows)

    def _clear(self, row: int | IntArray, reason: int | CodeArray) -> None:
        """One row, or some with a reason each."""
        self.states[row] = self.initial
        self.steps[row] = 0
        self.times[row] = NO_TIME_MS
        self.clocks[row] = NO_TIME_MS
        self.pending[row] = reason
        self.origins[row] = Origin.LIVE
        self.sequences[row] = UNKNOWN_ID
        if self.emitted is not None:
            self.emitted[row] = np.nan

    def _copied(self, rows: IntArray) -> Records:
        """(rows,) their numbers, in memory that nobody else sees."""
        copy = self._spare.take(len(rows))
        # With the default mode numpy would copy twice. No row is out of range.
        self._octets.take(rows, out=copy.view(self._octets.dtype), mode="clip")
        return copy
