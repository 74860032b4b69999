"""Memory set aside for copies of rows: a copy is taken between two turns, where nothing may wait for new pages.

A part of it is free again when the last array that sees it is gone: nothing has to be given back, and no two copies can
share a byte. A copy that does not fit gets memory of its own, which is slower but just as right.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from worker.streams.reserving import RowValues, reserved

READY_BYTES = 1 << 20  # touched at once, so that adding a stream never waits for more


class _Loan:
    """Owns a part of the memory for as long as an array sees it.

    numpy keeps the object alive that an array was made from, through all views of it. A plain slice would not do: views
    of it skip it and keep the whole memory alive only.
    """

    __slots__ = ("__array_interface__", "__weakref__", "_rows")

    def __init__(self, rows: RowValues) -> None:
        octets = rows.view(np.uint8)
        self._rows = rows
        self.__array_interface__ = octets.__array_interface__


class CopyArena:
    """At most ``capacity`` rows; only the rows that ``ready`` was called for take memory."""

    def __init__(self, capacity: int, dtype: np.dtype[Any]) -> None:
        self._memory: RowValues = reserved(capacity, dtype)
        self._ready = 0
        self._loans: list[tuple[int, int, weakref.ref[_Loan]]] = []  # (start, stop, whose), in order

    def ready(self, rows: int) -> None:
        """Have memory for so many rows: touched now, a little more than asked for."""
        if rows <= self._ready:
            return
        ahead = rows + READY_BYTES // self._memory.dtype.itemsize
        start, self._ready = self._ready, min(ahead, len(self._memory))
        self._memory[start : self._ready].view(np.uint8)[:] = 0

    def take(self, rows: int) -> RowValues:
        """(rows,) of any content, which nobody else sees."""
        self._loans = [loan for loan in self._loans if loan[2]() is not None]
        start = 0
        for begin, end, _ in self._loans:
            if start + rows <= begin:
                break
            start = end
        stop = start + rows
        if not rows or stop > self._ready:
            return np.empty(rows, self._memory.dtype)
        loan = _Loan(self._memory[start:stop])
        self._loans = sorted([*self._loans, (start, stop, weakref.ref(loan))], key=lambda known: known[0])
        return np.asarray(loan).view(self._memory.dtype)
