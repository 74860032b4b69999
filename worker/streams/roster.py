"""The streams of one partition, side by side as numpy takes them: their rows in the table and their names.

Names are not copied for a snapshot: it sees them where they are, and only a stream that leaves makes them be copied.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.records.arrays import IntArray

NO_ROW = -1
FIRST_NAMES = 64  # places for names at first; doubled when they are full

Names: TypeAlias = NDArray[np.object_]


class Members:
    """Each stream has a place; streams that come later have later ones, and where one leaves the last moves in."""

    def __init__(self, rows: IntArray, names: Names) -> None:
        assert len(rows) == len(names), (len(rows), len(names))
        self._rows = array("q", rows.tobytes())
        self._names = names
        self._shared = False  # then what is below our length may not change: somebody sees it

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Members({dict(zip(self._rows, self._names.tolist(), strict=False))})"

    def rows(self) -> IntArray:
        """(streams,) by place."""
        return np.array(self._rows, np.int64)

    def names(self) -> Names:
        """(streams,) str, by place; it never changes."""
        self._shared = True
        names = self._names[: len(self._rows)]
        names.flags.writeable = False
        return names

    def named(self, places: IntArray) -> list[str]:
        """Names at these places."""
        found: list[str] = self._names[places].tolist()
        return found

    def oldest(self, touched: IntArray, limit: int) -> Iterator[tuple[int, str]]:
        """At most so many of them, those of the smallest ``touched``, (streams,) by place, first."""
        count = min(limit, len(touched))
        places = np.argpartition(touched, count - 1)[:count] if count else np.empty(0, np.int64)
        places = places[np.argsort(touched[places])]
        return iter(list(zip(touched[places].tolist(), self.named(places), strict=True)))

    def add(self, row: int, name: str) -> int:
        """The place that the stream has got: above all that anybody sees."""
        place = self._place_for(1)
        self._names[place] = name
        self._rows.append(row)
        return place

    def extend(self, rows: IntArray, names: list[str]) -> IntArray:
        """(streams,) the places that they have got, see ``add``."""
        place = self._place_for(len(rows))
        self._names[place : place + len(rows)] = names
        self._rows.frombytes(rows.tobytes())
        return np.arange(place, place + len(rows))

    def _place_for(self, count: int) -> int:
        """The first of ``count`` places at the end."""
        place = len(self._rows)
        if place + count > len(self._names):
            wider = np.empty(max(FIRST_NAMES, 2 * place, place + count), np.object_)
            wider[:place] = self._names[:place]
            self._names, self._shared = wider, False
        return place

    def remove(self, place: int) -> int:
        """The row that stands at this place from now on, or NO_ROW if it was the last place."""
        if self._shared:
            self._names, self._shared = self._names.copy(), False
        moved, end = self._rows.pop(), len(self._rows)
        self._names[place] = self._names[end]
        self._names[end] = None
        if place == end:
            return NO_ROW
        self._rows[place] = moved
        return moved
