"""Which predictions are sent: all, the last of each sequence, or those that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from worker.records.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class EmitRule:
    """``delta`` is the movement of an output that counts as a change; only for mode ``change``.

    Mode ``every_item`` is for tasks that generate.
    """

    mode: Literal["every_event", "sequence_end", "every_item", "change"] = "every_event"
    delta: float = 0.05

    def choose(
        self,
        outputs: FloatArray,
        zeroed: BoolArray,
        finals: BoolArray,
        emitted: FloatArray | None,
        rows: IntArray,
        answered: BoolArray,
    ) -> BoolArray:
        """(events,) which to send. Mode ``change`` notes the predictions it chooses in ``emitted``, (streams, units).

        The first answer after a return to zero and the last event of a sequence always count as a change. Only what is
        ``answered``, (events,), is sent.
        """
        if self.mode == "every_event":
            return answered
        if self.mode == "sequence_end":
            return finals & answered
        assert emitted is not None, "mode 'change' needs the last emitted outputs"
        outputs = outputs[:, : emitted.shape[1]]  # without the column that says so
        emitted[rows[zeroed]] = np.nan  # the first answer may come later
        last = emitted[rows]
        unknown = np.isnan(last).any(axis=1)
        moved = (np.abs(outputs - last) >= self.delta).any(axis=1)
        if outputs.shape[1] > 1:
            moved |= outputs.argmax(axis=1) != np.where(np.isnan(last), 0, last).argmax(axis=1)
        changed = (unknown | moved | finals) & answered
        emitted[rows[changed]] = outputs[changed]
        return changed
