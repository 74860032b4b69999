"""How long answers take, by samples: from the arrival of a record in the worker to its acknowledged output.

A sample is a record of the turn that has just been sent. It is taken where the moment of its acknowledgement is known
without asking for each message: in a turn that is committed, or while nothing else waits to be read. One that the
cluster keeps waiting stays open until a commit, so slow answers are not left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from worker.member.delivery import Delivery
from worker.member.lateness import Lateness
from worker.pipeline.pipeline import Outcome
from worker.records.ownership import Partition

if TYPE_CHECKING:
    from worker.web.histogram import Histogram

SAMPLE_INTERVAL_S = 0.5  # between two samples that the loop waits for
SAMPLE_WAIT_S = 0.05  # for the acknowledgement of one, while nothing waits to be read


class AnswerTimes:
    """One open sample at a time. ``clock`` gives monotonic seconds."""

    def __init__(self, histogram: Histogram, lateness: Lateness, clock: Callable[[], float]) -> None:
        self._histogram, self._lateness, self._clock = histogram, lateness, clock
        self._open: tuple[Partition, float] | None = None  # whose record, and when it arrived
        self._next_at = -math.inf

    def sent(self, now: float, outcomes: Iterable[Outcome], delivery: Delivery, commits: bool, idle: bool) -> None:
        """The outputs of a turn were handed over; it is committed now, or nothing waits to be read (``idle``), or
        neither.
        """
        if self._open is not None or not (commits or (idle and now >= self._next_at)):
            return
        self._next_at = now + SAMPLE_INTERVAL_S
        answered = (each for each in outcomes if len(each.outputs) and not each.batch.replay)
        if (outcome := next(answered, None)) is not None:
            offset = outcome.batch.offsets[int(outcome.outputs.records[0])]
            arrived = self._lateness.arrived(outcome.batch.partition, offset)
            self._open = None if arrived is None else (outcome.batch.partition, arrived)
        if not commits and self._open is not None and delivery.acknowledged(SAMPLE_WAIT_S):
            self.acknowledged(self._clock())

    def acknowledged(self, at: float) -> None:
        """All outputs handed over are."""
        if self._open is not None:
            self._histogram.observe(max(0.0, at - self._open[1]))
        self._open = None

    def keep(self, partitions: Collection[Partition]) -> None:
        """Records of other partitions are answered by others."""
        if self._open is not None and self._open[0] not in partitions:
            self._open = None
