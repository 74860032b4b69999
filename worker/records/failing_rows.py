"""Rows of one call that the model can't compute, because it raises an error at their numbers: what the room model tells
the engine.

Rule of this file: data only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worker.records.arrays import BoolArray


class FailingRowsError(ValueError):
    """At these rows alone the model raises an error; it computes the others, and other rows after them.

    ``reasons``: of each of these rows what is wrong, as the model says it, short and in one line.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        row, reason = next(iter(reasons.items()))
        super().__init__(f"row {row}: the model can't compute it ({reason})")
        self.reasons = reasons

    def others(self, rows: int) -> BoolArray:
        """(rows,) which of so many the model can compute."""
        computed = np.ones(rows, np.bool_)
        computed[list(self.reasons)] = False
        return computed
