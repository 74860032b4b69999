"""From polls to turns: records are read here and wait until a turn takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from worker.errors import UnavailableError
from worker.kafka.contracts import Source
from worker.member.limits import LoopLimits
from worker.pipeline.backlog import Backlog
from worker.records.record_batch import RecordBatch

Came: TypeAlias = Callable[[Sequence[RecordBatch], bool], object]


class Intake(Backlog):
    """The backlog of a source. ``clock`` gives monotonic seconds; ``came`` is told what each poll has brought, and
    whether it would have waited.
    """

    def __init__(self, source: Source, clock: Callable[[], float], came: Came) -> None:
        super().__init__()
        self._source, self._clock, self._came = source, clock, came

    def poll(self, limits: LoopLimits, busy: bool = False) -> None:
        """Read the records available now; with ``batch_wait_s`` also wait that long for more, if there are too few.

        Polls even while enough records wait: without a poll the group would consider us gone. It then takes one record,
        because taking none may cost a client its read-ahead; but none while the worker is ``busy`` with earlier
        records, as those that wait may wait for long. Busy, it waits for nothing. Raises as Source.poll.
        """
        wait_s = 0.0 if self or busy else limits.poll_wait_s
        self._read(max(0 if busy else 1, limits.poll_records - self.records()), wait_s)
        if limits.batch_wait_s > 0 and not busy:
            self._fill(limits.poll_records, self._clock() + limits.batch_wait_s)

    def _read(self, most: int, wait_s: float) -> None:
        batches = self._source.poll(most, wait_s)
        self._came(batches, wait_s > 0)
        self.add(batches)

    def _fill(self, enough: int, deadline: float) -> None:
        """Keep polling until there are ``enough`` records, but at most until ``deadline``, monotonic seconds."""
        while self and (missing := enough - self.records()) > 0 and (left_s := deadline - self._clock()) > 0:
            try:
                self._read(missing, left_s)
            except UnavailableError:
                break  # records already read are used although the next poll failed
