"""Whether we have joined the group, and the warning while we have not. Time is an argument, in monotonic seconds."""

from __future__ import annotations

from worker.kafka.contracts import Source
from worker.member.positions import Positions
from worker.member.reporter import Reporter

TOLD_AFTER_S = 5.0  # a group that waits for nobody is joined sooner


class Membership:
    """``session_s``: after how long without a sign of life the group removes a member, by our configuration."""

    def __init__(self, source: Source, reporter: Reporter, session_s: float) -> None:
        self._source, self._reporter, self._session_s = source, reporter, session_s
        self._waiting_since: float | None = None

    def left(self, now: float) -> None:
        """We are outside the group, and want to join."""
        self._waiting_since = now

    def look(self, now: float, positions: Positions) -> None:
        """Between two turns: a member without partitions is ready, too, and nothing else reports that."""
        if positions or self._source.joined:
            if self._waiting_since is not None:
                self._reporter.let_in(now - self._waiting_since, told=now - self._waiting_since > TOLD_AFTER_S)
                self._reporter.owned(positions)
            self._waiting_since = None
        elif self._waiting_since is None:
            self.left(now)
        elif now - self._waiting_since > TOLD_AFTER_S:
            self._reporter.outside(now, now - self._waiting_since, self._session_s)
