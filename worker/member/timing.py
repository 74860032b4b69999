"""The loop's time: the clocks that it reads, and periodic work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """``now`` gives monotonic seconds, ``wall`` seconds since the epoch."""

    now: Callable[[], float]
    wall: Callable[[], float]


class Due:
    """Something to be done ``interval_s`` after it was done last, or put off. Time is an argument."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._at_s = 0.0

    def put_off(self, now: float) -> None:
        """It is done, or begun: not again for an interval."""
        self._at_s = now + self._interval_s

    def at(self, now: float) -> bool:
        """Whether it is due."""
        return now >= self._at_s
