"""Event time: when each event happens, the clock of its partition, and where idle streams are looked for.

Pure functions of the records of one partition in their order. A partition's clock is the greatest event time in it.
"""

from __future__ import annotations

import numpy as np

from worker.records import NO_TIME_MS, CodeArray, IntArray, Kind

SWEEPS_PER_IDLE = 4  # idle streams are looked for once per this part of the idle time


def with_times(times: IntArray, kinds: CodeArray, clocks: IntArray) -> IntArray:
    """(events,) the times of events, of which some may have none: a step without one happens at the partition's clock.

    A command without a time says nothing about its stream's time.
    """
    without = times == NO_TIME_MS
    if not np.count_nonzero(without):
        return times
    return np.where(without & (kinds == Kind.STEP), clocks, times)


def sweep_points(clocks: IntArray, before: int, idle_ms: int) -> list[int]:
    """The events before which idle streams are forgotten; ``clocks`` (events,), and the partition's ``before`` them.

    These are the first events of each quarter of the idle time, counted from the epoch: any cut of the log finds them.
    """
    quarter = max(1, idle_ms // SWEEPS_PER_IDLE)
    if int(clocks[-1]) // quarter == before // quarter:
        return []
    quarters = np.concatenate([[before], clocks]) // quarter
    points: list[int] = np.flatnonzero(quarters[1:] > quarters[:-1]).tolist()
    return points
