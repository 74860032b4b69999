"""What is asked of the clients now and then: the ends of the logs, and what they say of themselves. Time is an
argument.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import Source, Writer
from worker.member.lateness import STALE_LOOKS
from worker.member.limits import LoopLimits
from worker.member.positions import Positions
from worker.member.reporter import Reporter
from worker.member.timing import Due
from worker.records.ownership import Partition

WITHOUT_PARTITIONS_S = 5.0  # wait for an answer; a member that is to join a group must be polled


class Lag:
    """Asks the cluster once in ``lag_interval_s``."""

    def __init__(
        self,
        source: Source,
        writer: Writer,
        positions: Positions,
        reporter: Reporter,
        limits: LoopLimits,
        inputs: Sequence[str],
    ) -> None:
        self._source, self._writer, self._inputs = source, writer, inputs
        self._positions, self._reporter, self._limits = positions, reporter, limits
        self.due = Due(limits.lag_interval_s)
        reporter.lateness.stale_s = STALE_LOOKS * limits.lag_interval_s

    def look(self, now: float) -> None:
        """Between two turns: ask, if it is time. While nobody answers, the lag stays as it was.

        A member without partitions asks of some, too: nothing else tells it whether the cluster is there.
        """
        self._reporter.client.look(now, self._writer)
        if not self.due.at(now):
            return
        self.due.put_off(now)
        self._reporter.client.rebuilt(self._source.rebuilds)
        try:
            if self._positions:
                ranges = self._source.log_range(self._positions.all(), self._limits.kafka_call_s)
            else:
                ranges = self._source.log_range([Partition(topic, 0) for topic in self._inputs], WITHOUT_PARTITIONS_S)
        except KafkaUnavailableError as error:
            self._reporter.client.failed(error)
            self._reporter.reach.unanswered(error)
            return
        self._reporter.reach.answered()
        self._reporter.lag.looked(now, {partition: end for partition, (_, end) in ranges.items()}, self._positions)
