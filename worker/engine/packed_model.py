"""What the engine needs from a model: any that keeps this protocol can be handed in."""

from __future__ import annotations

from typing import Protocol

from worker.records.arrays import BoolArray, FloatArray


class PackedModel(Protocol):
    """What the engine needs from a model."""

    units: int
    waits: bool  # at some events there is no answer yet: outputs have a column more, the last, 1 where there is one

    @property
    def rows_computed(self) -> int:
        """Of all steps so far, those that fill blocks up too."""

    def step_packed(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """x (n, features), packed states (n, width) → outputs (n, units), next packed states (n, width), read-only."""

    def scan_packed(
        self, xs: FloatArray, packed: FloatArray, resets: BoolArray, active: BoolArray, initial: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """xs (time, n, features), packed (n, width) → outputs (time, n, units), packed after the last step.

        Gives the same bits as ``step_packed`` called step by step. ``resets`` (time, n): before these steps the state
        returns to ``initial``. ``active`` (time, n): elsewhere it stays as it is. A row that is not finite on the way
        is NaN at the end.
        """
