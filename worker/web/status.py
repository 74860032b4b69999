"""Whether the worker lives and whether it is ready, in its own words: the loop writes, the probes read.

No locks: each write replaces one reference, so a reader always sees a whole value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Longer than the longest batch and a commit that waits for a dead broker; a restart would mend neither.
LIVE_LIMIT_S = 300.0


class WorkerStatus:
    """Alive while the loop turns, ready when nothing is missing. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Counts as a turn: loading the model has LIVE_LIMIT_S too."""
        self._clock = clock
        self._turned_at = clock()
        self._missing: dict[str, str] = {"model": "not loaded", "kafka": "not connected"}
        self._until: dict[str, float] = {}  # until when each missing item counts

    def turned(self, now: float) -> None:
        """The loop makes progress at ``now``, of the same clock: a turn's beginning, or a part of a turn."""
        self._turned_at = max(self._turned_at, now)

    def set(self, name: str, reason: str | None, for_s: float = math.inf) -> None:
        """Set what ``name`` (model, kafka, states, …) still lacks; None: nothing. It counts for so many seconds."""
        others = {key: value for key, value in self._missing.items() if key != name}
        self._missing = others if reason is None else {**others, name: reason}
        self._until = {**self._until, name: self._clock() + for_s}

    def reason(self, name: str) -> str | None:
        """What ``name`` lacks; None: nothing."""
        return self._missing.get(name)

    def still_s(self) -> float:
        """How long ago the loop last made progress."""
        return self._clock() - self._turned_at

    def stuck(self) -> str | None:
        """Why a restart is needed, or None while all is well."""
        still_s = self.still_s()
        return None if still_s <= LIVE_LIMIT_S else f"loop: no turn for {still_s:.0f} s (limit {LIVE_LIMIT_S:.0f} s)"

    def missing(self) -> list[str]:
        """One line for each thing that keeps the worker from being ready, sorted."""
        now_s, until = self._clock(), self._until
        lasting = [(name, reason) for name, reason in self._missing.items() if now_s < until.get(name, math.inf)]
        return sorted(f"{name}: {' '.join(reason.split())}" for name, reason in lasting)
