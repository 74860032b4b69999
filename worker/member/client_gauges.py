"""What the Kafka clients report of themselves, as metrics. Time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaRefusedError,
    KafkaUnavailableError,
    MessageRefusedError,
)
from worker.kafka.contracts import Writer
from worker.member.timing import Due

if TYPE_CHECKING:
    from worker.web.metrics import Metrics

LOOK_INTERVAL_S = 1.0
# The first class that fits says what an error is.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (MessageRefusedError, "message_refused"),
    (DeliveryFailedError, "delivery_failed"),
    (CommitRefusedError, "commit_refused"),
    (KafkaRefusedError, "refused"),
    (KafkaUnavailableError, "unavailable"),
)


class ClientGauges:
    """``failed`` counts, ``look`` asks the producer once in LOOK_INTERVAL_S."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._due = Due(LOOK_INTERVAL_S)
        self._brokers: set[str] = set()
        self._rebuilds = 0

    def failed(self, error: Exception) -> None:
        """A call of a client has failed; errors of other things are not counted."""
        kind = next((name for wanted, name in KINDS if isinstance(error, wanted)), None)
        if kind is not None:
            self._metrics.client_errors.labels(kind).inc()

    def rebuilt(self, rebuilds: int) -> None:
        """How often the client was replaced, since the start."""
        self._metrics.client_rebuilds.inc(rebuilds - self._rebuilds)
        self._rebuilds = rebuilds

    def look(self, now: float, writer: Writer) -> None:
        """Ask, if it is time. Brokers that are not told of any more have no latency."""
        if not self._due.at(now):
            return
        self._due.put_off(now)
        facts, metrics = writer.facts(), self._metrics
        metrics.queue_messages.set(facts.messages)
        metrics.queue_bytes.set(facts.bytes)
        for gone in self._brokers - facts.latency_s.keys():
            metrics.broker_latency.remove(gone)
        self._brokers = set(facts.latency_s)
        for broker, latency_s in facts.latency_s.items():
            metrics.broker_latency.labels(broker).set(latency_s)
