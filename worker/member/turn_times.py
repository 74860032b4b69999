"""Where a turn's time goes: one observation per turn and part. Time comes from the clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.web.histogram import Histogram
    from worker.web.metrics import Metrics


class TurnTimes:
    """``began``, then ``decoded``, ``stepped`` and ``encoded``, in this order. ``clock`` gives monotonic seconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self.began_s = self._last_s = 0.0

    def began(self) -> None:
        """There is something to do."""
        self.began_s = self._last_s = self._clock()

    def decoded(self) -> None:
        """The records of the turn are events."""
        self._lap(self._metrics.decode_duration)

    def stepped(self) -> None:
        """All states are where they will be."""
        self._lap(self._metrics.step_duration)

    def encoded(self) -> None:
        """The outputs are messages."""
        self._lap(self._metrics.encode_duration)
        self._metrics.turn_duration.observe(self._last_s - self.began_s)

    def _lap(self, histogram: Histogram) -> None:
        now = self._clock()
        histogram.observe(now - self._last_s)
        self._last_s = now
