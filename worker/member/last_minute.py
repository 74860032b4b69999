"""Sums over the last minute, second by second: what is older falls out by itself.

Another thread may read while the loop adds: each addition replaces one reference, so a reader always sees whole values.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.records.arrays import FloatArray
from worker.records.feature_sums import FeatureSums

MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some sampled events; ``norms`` (layers,) added up over ``streams``."""

    features: FeatureSums
    saturated: int  # events with an output at the end of its range
    norms: FloatArray
    streams: int

    def joined(self, other: Sums) -> Sums:
        """Of both together."""
        return Sums(
            self.features.joined(other.features),
            self.saturated + other.saturated,
            self.norms + other.norms,
            self.streams + other.streams,
        )


class LastMinute:
    """One Sums for each second. Time is an argument: seconds of any clock that never goes back."""

    def __init__(self) -> None:
        self._seconds: list[tuple[int, Sums] | None] = [None] * MINUTE_S

    def add(self, now: float, sums: Sums) -> None:
        """These were sampled now."""
        second = int(now)
        at = second % MINUTE_S
        there = self._seconds[at]
        self._seconds[at] = (second, there[1].joined(sums) if there is not None and there[0] == second else sums)

    def whole(self, now: float) -> Sums | None:
        """All of the last minute; None where nothing was sampled in it."""
        whole: Sums | None = None
        for entry in tuple(self._seconds):
            if entry is not None and entry[0] > now - MINUTE_S:
                whole = entry[1] if whole is None else whole.joined(entry[1])
        return whole
