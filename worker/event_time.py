"""Event time: when each event happens, the clock of its partition, and where idle streams are looked for.

Pure functions of the records of one partition in their order. A partition's clock is the greatest event time in it.
"""

from __future__ import annotations

import numpy as np

from worker.records import NO_TIME_MS, Events, IntArray, Kind

SWEEPS_PER_IDLE = 4  # idle streams are looked for once per this part of the idle time


def timed(events: Events, clock: int) -> tuple[IntArray, IntArray]:
    """(event times, the partition's clock at each event), (events,) each; ``clock`` is the one before them.

    A step without a time happens at the clock; a command without one says nothing about its stream's time.
    """
    if not len(events):
        return events.times, events.times
    clocks: IntArray = np.maximum(np.maximum.accumulate(events.times), clock)
    without = (events.times == NO_TIME_MS) & (events.kinds == Kind.STEP)
    return np.where(without, clocks, events.times), clocks


def sweep_points(clocks: IntArray, before: int, idle_ms: int | None) -> list[int]:
    """The events before which idle streams are forgotten; ``clocks`` (events,), and the partition's ``before`` them.

    These are the first events of each quarter of the idle time, counted from the epoch: any cut of the log finds them.
    """
    if idle_ms is None or not len(clocks):
        return []
    quarter = max(1, idle_ms // SWEEPS_PER_IDLE)
    if clocks[-1] // quarter == before // quarter:
        return []
    quarters = np.concatenate([[before], clocks]) // quarter
    points: list[int] = np.flatnonzero(quarters[1:] > quarters[:-1]).tolist()
    return points
