"""Which events a window holds, and at which of them it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from worker.records.arrays import BoolArray, FloatArray, IntArray

STEPS_LIMIT = 65_536
EVERY_LIMIT = 1_000_000  # with the steps, a count that float32 holds exactly

Fill: TypeAlias = Literal["wait", "zeros"]


@dataclass(frozen=True, slots=True)
class Window:
    """The last ``steps`` events of a sequence, answered at each event whose number is a multiple of ``every``.

    ``fill``: as long as there are fewer events: wait (no answer yet), or zeros before them. Raises ValueError.
    """

    steps: int
    fill: Fill = "wait"
    every: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= STEPS_LIMIT:
            raise ValueError(f"window: wanted 1 to {STEPS_LIMIT:,} events, given {self.steps}")
        if not 1 <= self.every <= EVERY_LIMIT:
            raise ValueError(f"every: wanted 1 to {EVERY_LIMIT:,} events, given {self.every}")
        if self.fill not in ("wait", "zeros"):
            raise ValueError(f"window_fill: wanted wait or zeros, given {self.fill!r}")

    @property
    def first_answer(self) -> int:
        """The number of the event of a sequence, from 1, that is answered first."""
        return self._full if self.fill == "wait" else self.every

    @property
    def waits(self) -> bool:
        return self.first_answer > 1

    @property
    def words(self) -> str:
        """As the configuration spells it, without what is not changed."""
        fill = "" if self.fill == "wait" else f" window_fill={self.fill}"
        return f"window={self.steps}{fill}" + (f" every={self.every}" if self.every > 1 else "")

    @property
    def _full(self) -> int:
        """The first multiple of ``every`` at which the window is full."""
        return -(-self.steps // self.every) * self.every

    def after(self, before: FloatArray, events: FloatArray | IntArray | int = 1) -> FloatArray:
        """The count of events so far, after so many more: it grows until the window is full, then its phase is kept.

        Of a count that was never one, such as a user may set, the next whole number is taken; NaN stays.
        """
        most = self._full + self.every - 1
        counted = np.clip(np.rint(before), 0, most) + events
        with np.errstate(invalid="ignore"):
            return np.where(counted > most, self._full + (counted - self._full) % self.every, counted)

    def due(self, events: FloatArray) -> BoolArray:
        """Whether the event with this count is answered."""
        with np.errstate(invalid="ignore"):
            due: BoolArray = (events >= self.first_answer) & (events % self.every == 0)
        return due
