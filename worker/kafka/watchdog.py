"""Tells a consumer that has nothing to read from one that is stuck.

Rule of this file: no I/O, clock or logging; time is an argument.

A kafka-python consumer on a starved host can poll for ever without fetching, rejoining or raising. It is then replaced.
"""

from __future__ import annotations

LOOK_INTERVAL_S = 10.0
BAD_LOOKS_UNTIL_REBUILD = 3


class StallWatch:
    """Counts looks at a silent consumer; enough bad ones in a row mean that it is stuck.

    More than one look is needed, each after further polls: right after a pause of the whole process, everything is
    old and behind without being stuck.
    """

    def __init__(self, now_s: float) -> None:
        self._quiet_since_s = now_s
        self._bad_looks = 0

    def progressed(self, now_s: float) -> None:
        """A record came, a position moved or the ownership changed."""
        self._quiet_since_s = now_s
        self._bad_looks = 0

    def is_due(self, now_s: float) -> bool:
        """Whether the consumer has been silent long enough to look at it (again)."""
        return now_s - self._quiet_since_s >= LOOK_INTERVAL_S

    def looked(self, now_s: float, bad: bool) -> bool:
        """Note the result of a look; True when the consumer must be replaced."""
        self._quiet_since_s = now_s
        self._bad_looks = self._bad_looks + 1 if bad else 0
        return self._bad_looks >= BAD_LOOKS_UNTIL_REBUILD
