"""The streams of one partition, side by side as numpy takes them: their rows in the table and their names.

Names are not copied for a snapshot: it sees them in place, and they are copied only when a stream leaves.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.records.arrays import IntArray
from worker.streams.rows import NO_ROW

FIRST_NAMES = 64  # slots for names at first; doubled when they are full

Names: TypeAlias = NDArray[np.object_]


class Roster:
    """Each stream has a slot; streams that come later have later ones, and where one leaves the last moves in."""

    def __init__(self, rows: IntArray, names: Names) -> None:
        assert len(rows) == len(names), (len(rows), len(names))
        self._rows = array("q", rows.tobytes())
        self._names = names
        self._shared = False  # then slots below our length may not change: a snapshot sees them

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Roster({dict(zip(self._rows, self._names.tolist(), strict=False))})"

    def rows(self) -> IntArray:
        """(streams,) by slot."""
        return np.array(self._rows, np.int64)

    def names(self) -> Names:
        """(streams,) str, by slot; it never changes."""
        self._shared = True
        names = self._names[: len(self._rows)]
        names.flags.writeable = False
        return names

    def named(self, slots: IntArray) -> list[str]:
        """Names at these slots."""
        found: list[str] = self._names[slots].tolist()
        return found

    def oldest(self, touched: IntArray, limit: int) -> deque[tuple[int, str]]:
        """At most so many streams, those with the smallest ``touched``, (streams,) by slot, first."""
        count = min(limit, len(touched))
        slots = np.argpartition(touched, count - 1)[:count] if count else np.empty(0, np.int64)
        slots = slots[np.argsort(touched[slots])]
        return deque(zip(touched[slots].tolist(), self.named(slots), strict=True))

    def add(self, row: int, name: str) -> int:
        """The slot that the stream gets: above all slots that a snapshot sees."""
        slot = self._slot_for(1)
        self._names[slot] = name
        self._rows.append(row)
        return slot

    def extend(self, rows: IntArray, names: list[str]) -> IntArray:
        """(streams,) the slots that they get, see ``add``."""
        slot = self._slot_for(len(rows))
        self._names[slot : slot + len(rows)] = names
        self._rows.frombytes(rows.tobytes())
        return np.arange(slot, slot + len(rows))

    def _slot_for(self, count: int) -> int:
        """The first of ``count`` slots at the end."""
        slot = len(self._rows)
        if slot + count > len(self._names):
            wider = np.empty(max(FIRST_NAMES, 2 * slot, slot + count), np.object_)
            wider[:slot] = self._names[:slot]
            self._names, self._shared = wider, False
        return slot

    def remove(self, slot: int) -> int:
        """The row at this slot from now on, or NO_ROW if it was the last slot."""
        if self._shared:
            self._names, self._shared = self._names.copy(), False
        moved, end = self._rows.pop(), len(self._rows)
        self._names[slot] = self._names[end]
        self._names[end] = None
        if slot == end:
            return NO_ROW
        self._rows[slot] = moved
        return moved
