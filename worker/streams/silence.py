"""The streams of one partition in the order in which they fell silent: the one whose last event is the longest ago
first.

They are listed a few thousand at a time, so that looking for idle ones costs next to nothing between two lists.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from worker.records.arrays import NO_TIME_MS, IntArray
from worker.streams.roster import Roster

LISTED_STREAMS = 4096  # at once, beside those that are idle already


class Silence:
    """Names with the clock of their last event when they were listed; an event since then makes an entry outdated.

    Clocks only rise: a stream that is not listed, or has had an event since, has a later clock than all listed.
    """

    def __init__(self) -> None:
        self.since = NO_TIME_MS  # no last event has a clock before this one, in ms
        self._listed: list[tuple[int, str]] = []
        self._at = 0  # entries before this index are dealt with

    def before(self, clock: int) -> list[tuple[int, str]] | None:
        """The entries with a last event before this clock; None when there may be others that are not listed."""
        end = bisect_left(self._listed, (clock,), self._at)
        return None if end == len(self._listed) else self._listed[self._at : end]

    def renew(self, clock: int, clocks: IntArray, roster: Roster) -> list[tuple[int, str]]:
        """Those before this clock as they are now. ``clocks`` (streams,) by slot; NO_TIME_MS = never silent."""
        timed = np.flatnonzero(clocks != NO_TIME_MS)
        count = int(np.count_nonzero(clocks[timed] < clock)) + LISTED_STREAMS
        if count < len(timed):
            # Include all that are as old as the last of them, or a stream left out could be older than an entry.
            timed = timed[clocks[timed] <= np.partition(clocks[timed], count - 1)[count - 1]]
        self._listed, self._at = sorted(zip(clocks[timed].tolist(), roster.named(timed), strict=True)), 0
        return self._listed[: bisect_left(self._listed, (clock,))]

    def done(self, clock: int) -> None:
        """The entries before this clock are dealt with: no stream has been silent since then any more."""
        self._at = bisect_left(self._listed, (clock,), self._at)
        self.since = self._listed[self._at][0] if self._at < len(self._listed) else clock
