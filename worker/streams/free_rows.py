"""Which rows of a table are free, dealt out so that the rows of one owner lie side by side.

A checkpoint copies the rows of one partition. If rows were dealt out one by one in the order of requests, the rows of a
partition would lie scattered, and memory would be read several times slower.
"""

from __future__ import annotations

from collections.abc import Hashable

BLOCK_ROWS = 256  # rows that an owner gets at once


class FreeRows:
    """Of ``capacity`` rows. An owner gets back the rows that it gave back; when all others are used, anybody's."""

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity  # may grow
        self.dealt = 0  # rows from here on have never been anybody's
        self._used = 0
        self._kept: dict[Hashable, list[int]] = {}  # owner → its free rows, the next one last
        self._nobodys: list[int] = []

    def __len__(self) -> int:
        return self.capacity - self._used

    def take(self, owner: Hashable, count: int) -> list[int]:
        """So many rows; there must be as many."""
        assert count <= len(self), (count, len(self))
        self._used += count
        kept = self._kept.setdefault(owner, [])
        rows = _last(kept, count)
        rows += _last(self._nobodys, count - len(rows))
        if missing := min(count - len(rows), self.capacity - self.dealt):
            begin = self.dealt
            self.dealt = min(self.capacity, begin + missing + -missing % BLOCK_ROWS)
            rows += range(begin, begin + missing)
            kept[:0] = range(self.dealt - 1, begin + missing - 1, -1)
        for others in self._kept.values():
            rows += _last(others, count - len(rows))
        return rows

    def give_back(self, owner: Hashable, rows: list[int]) -> None:
        """The owner does not use them any more."""
        self._used -= len(rows)
        self._kept.setdefault(owner, []).extend(rows)

    def disown(self, owner: Hashable) -> None:
        """The owner is gone; its free rows go to the next owner that asks, and stay side by side."""
        self._nobodys += self._kept.pop(owner, [])
        self._nobodys.sort(reverse=True)


def _last(rows: list[int], count: int) -> list[int]:
    """Take up to so many from the end."""
    begin = max(0, len(rows) - count)
    taken = rows[begin:][::-1]
    del rows[begin:]
    return taken
