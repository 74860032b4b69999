"""Event time: when each event happens.

A partition's clock is the greatest event time in it.
"""

from __future__ import annotations

import numpy as np

from worker.records.arrays import NO_TIME_MS, CodeArray, IntArray
from worker.records.events import Kind


def with_times(times: IntArray, kinds: CodeArray, clocks: IntArray) -> IntArray:
    """(events,) event times; where a step has none, it happens at the partition's clock.

    A command without a time does not affect its stream's time.
    """
    without = times == NO_TIME_MS
    if not np.count_nonzero(without):
        return times
    return np.where(without & (kinds == Kind.STEP), clocks, times)
