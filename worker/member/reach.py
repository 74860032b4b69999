"""Whether the cluster answers a member that has joined its group: what /readyz says of it. Time is an argument."""

from __future__ import annotations

from worker.errors import KafkaUnavailableError
from worker.web.status import WorkerStatus

AWAY_S = 15.0  # without an answer to a turn: a broker that restarts is back sooner


class Reach:
    """Clients may poll a cluster that is gone without an error: what is asked apart from that tells it."""

    def __init__(self, status: WorkerStatus) -> None:
        self._status = status
        self._away_since: float | None = None
        self.reason: str | None = None  # why it counts as gone

    def away(self, now: float, error: Exception) -> None:
        """A turn could not be made."""
        if self._away_since is None:
            self._away_since = now
        if isinstance(error, KafkaUnavailableError) and now - self._away_since >= AWAY_S:
            self.unanswered(error)

    def turned(self) -> None:
        """A turn was made; that is not to say that the cluster is there."""
        self._away_since = None

    def unanswered(self, error: Exception) -> None:
        """A question had no answer: /readyz says so until one has."""
        self.reason = f"does not answer: {error}"
        self._status.set("kafka", self.reason)

    def answered(self) -> None:
        """A question had an answer."""
        if self.reason is not None:
            self.reason = None
            self._status.set("kafka", None)
