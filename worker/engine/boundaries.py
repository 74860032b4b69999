"""When a stream's state returns to zero, and why.

Pure functions of columns: one row per event, each event of another stream. A reset is decided *before* an event
(``resets_before``), from what the stream left behind and what the event says; what an event leaves behind for the
stream's next one is decided *after* it (``pending_after``). Nothing here knows the time of day: event time only, and it
is measured from the greatest that a stream has had, so that a late record makes no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.records.arrays import NO_TIME_MS, BoolArray, CodeArray, IntArray
from worker.records.events import Reset
from worker.records.states import UNKNOWN_ID


@dataclass(frozen=True, slots=True)
class BoundaryRules:
    """Which boundaries are configured; None or False = not."""

    length: int | None = None  # events per sequence
    gap_ms: int | None = None
    idle_ms: int | None = None
    late: Literal["accept", "drop", "dead_letter"] = "accept"  # events older than the greatest event time


@dataclass(slots=True)
class Before:
    """The streams as their last events left them, one row per event about to be processed."""

    pending: CodeArray
    ids: NDArray[np.object_] | None  # None where events have none
    times: IntArray  # greatest event time so far, ms; NO_TIME_MS = not known


@dataclass(slots=True)
class Incoming:
    """What the events say."""

    times: IntArray
    clocks: IntArray  # the partition's clock at this event: the greatest event time so far
    ids: NDArray[np.object_] | None = None
    starts: BoolArray | None = None
    ends: BoolArray | None = None


def resets_before(rules: BoundaryRules, before: Before, incoming: Incoming) -> CodeArray:
    """The Reset of each event, (events,) uint8; NONE where the state continues.

    Of several reasons the earliest in time is named: what the stream's past left pending, then that it was forgotten
    for being idle, then what this event says. A stream that is idle by its partition's clock is forgotten before its
    event comes here; by its own event times it may still be idle here.
    """
    resets = before.pending.copy()

    def mark(where: BoolArray, reason: Reset) -> None:
        if where.any():
            resets[where & (resets == Reset.NONE)] = reason

    if rules.idle_ms is not None:
        mark(silent(before.times, incoming.times, rules.idle_ms), Reset.IDLE)
    if incoming.ids is not None:
        assert before.ids is not None
        mark(_differ(before.ids, incoming.ids), Reset.ID)
    if incoming.starts is not None:
        mark(incoming.starts, Reset.START)
    if rules.gap_ms is not None:
        mark(silent(before.times, incoming.times, rules.gap_ms), Reset.GAP)
    return resets


def are_late(before: IntArray, now: IntArray) -> BoolArray:
    """(events,) whether each is older than the greatest event time ``before`` it in its stream."""
    late: BoolArray = now < before  # nothing is older than NO_TIME_MS
    return late


def pending_after(rules: BoundaryRules, steps: IntArray, incoming: Incoming) -> CodeArray:
    """The Reset that each event leaves pending for the stream's next one: END or LENGTH, (events,) uint8.

    Where it is not NONE the event is the last of its sequence.
    """
    pending = np.zeros(len(steps), np.uint8)
    if rules.length is not None:
        pending[steps >= rules.length] = Reset.LENGTH
    if incoming.ends is not None:
        pending[incoming.ends] = Reset.END
    return pending


def ended_before(resets: CodeArray, pending: CodeArray, steps: IntArray) -> IntArray:
    """Sequences, by Reset, that these resets end only now: where none was ``pending``, and events were seen."""
    ended: IntArray = np.bincount(resets[(pending == Reset.NONE) & (steps > 0)], minlength=len(Reset))
    ended[Reset.NONE] = 0
    return ended


def ended_after(pending: CodeArray) -> IntArray:
    """Sequences, by Reset, whose last events leave this pending."""
    ended: IntArray = np.bincount(pending[pending != Reset.NONE], minlength=len(Reset))
    return ended


def silent(before: IntArray, now: IntArray, limit_ms: int) -> BoolArray:
    """(events,) whether each comes more than ``limit_ms`` after ``before``; False after a time that is not known."""
    found: BoolArray = (now - before > limit_ms) & (before != NO_TIME_MS)
    return found


def _differ(last: NDArray[np.object_], now: NDArray[np.object_]) -> BoolArray:
    pairs = zip(last.tolist(), now.tolist(), strict=True)
    return np.fromiter((a is not UNKNOWN_ID and not _same(a, b) for a, b in pairs), np.bool_, len(now))


def _same(a: Any, b: Any) -> bool:
    # 1, 1.0 and true are equal in Python but are different ids in JSON, except 1 and 1.0.
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
