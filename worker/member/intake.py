"""From polls to turns: records are read here and wait until a turn takes them."""

from __future__ import annotations

from collections.abc import Callable

from worker.errors import UnavailableError
from worker.kafka.contracts import Source
from worker.member.limits import LoopLimits
from worker.pipeline.backlog import Backlog


class Intake(Backlog):
    """The backlog of a source. ``clock`` gives monotonic seconds."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        super().__init__()
        self._source, self._clock = source, clock

    def poll(self, limits: LoopLimits) -> None:
        """Read the records available now; with ``batch_wait_s`` also wait that long for more, if there are too few.

        Polls even while enough records wait: without a poll the group would consider us gone. It then takes one record,
        because taking none may cost a client its read-ahead. Raises as Source.poll.
        """
        wait_s = 0.0 if self else limits.poll_wait_s
        self.add(self._source.poll(max(1, limits.poll_records - self.records()), wait_s))
        if limits.batch_wait_s > 0:
            self._fill(limits.poll_records, self._clock() + limits.batch_wait_s)

    def _fill(self, enough: int, deadline: float) -> None:
        """Keep polling until there are ``enough`` records, but at most until ``deadline``, monotonic seconds."""
        while self and (missing := enough - self.records()) > 0 and (left_s := deadline - self._clock()) > 0:
            try:
                self.add(self._source.poll(missing, left_s))
            except UnavailableError:
                break  # records already read are used although the next poll failed
