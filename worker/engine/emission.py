"""Which predictions are sent: all, the last of each sequence, or those that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from worker.records.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class EmitRule:
    """``delta`` is the movement of an output that counts as a change; only for mode ``change``."""

    mode: Literal["every_event", "sequence_end", "change"] = "every_event"
    delta: float = 0.05

    def choose(
        self,
        outputs: FloatArray,
        zeroed: BoolArray,
        finals: BoolArray,
        emitted: FloatArray | None,
        rows: IntArray,
    ) -> BoolArray:
        """(events,) which to send. Mode ``change`` notes the predictions it chooses in ``emitted``, (streams, units).

        The first event after a return to zero and the last event of a sequence always count as a change.
        """
        if self.mode == "every_event":
            return np.ones(len(rows), np.bool_)
        if self.mode == "sequence_end":
            return finals
        assert emitted is not None, "mode 'change' needs the last emitted outputs"
        last = emitted[rows]
        unknown = np.isnan(last).any(axis=1)
        moved = (np.abs(outputs - last) >= self.delta).any(axis=1)
        if outputs.shape[1] > 1:
            moved |= outputs.argmax(axis=1) != np.where(np.isnan(last), 0, last).argmax(axis=1)
        changed = unknown | moved | zeroed | finals
        emitted[rows[changed]] = outputs[changed]
        return changed
