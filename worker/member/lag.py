"""What is asked of the clients now and then: the ends of the logs, and what they say of themselves. Time is an
argument.
"""

from __future__ import annotations

from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import Source, Writer
from worker.member.lateness import STALE_LOOKS
from worker.member.limits import LoopLimits
from worker.member.positions import Positions
from worker.member.reporter import Reporter
from worker.member.timing import Due


class Lag:
    """Asks the cluster once in ``lag_interval_s``."""

    def __init__(
        self, source: Source, writer: Writer, positions: Positions, reporter: Reporter, limits: LoopLimits
    ) -> None:
        self._source, self._writer = source, writer
        self._positions, self._reporter, self._limits = positions, reporter, limits
        self.due = Due(limits.lag_interval_s)
        reporter.lateness.stale_s = STALE_LOOKS * limits.lag_interval_s

    def look(self, now: float) -> None:
        """Between two turns: ask, if it is time. While nobody answers, the lag stays as it was."""
        self._reporter.client.look(now, self._writer)
        if not self.due.at(now):
            return
        self.due.put_off(now)
        self._reporter.client.rebuilt(self._source.rebuilds)
        if not self._positions:
            return
        try:
            ranges = self._source.log_range(self._positions.all(), self._limits.kafka_call_s)
        except KafkaUnavailableError as error:
            self._reporter.client.failed(error)
            self._reporter.reach.unanswered(error)
            return
        self._reporter.reach.answered()
        self._reporter.lag.looked(now, {partition: end for partition, (_, end) in ranges.items()}, self._positions)
