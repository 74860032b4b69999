"""The Sink contract on confluent-kafka: an idempotent producer that reports only failures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.confluent.errors import undelivered
from worker.kafka.confluent.outbox import Outbox
from worker.kafka.contracts import ClientFacts
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

CONNECT_TIMEOUT_S = 30.0
LATENCY: Mapping[str, Any] = {
    # A turn hands over all its messages at once, and under load the queue fills by itself: 5 ms gained nothing.
    "linger.ms": 0,
    "socket.nagle.disable": True,  # or a small request waits until the broker has confirmed the one before
}


class ConfluentSink:
    """Writes messages. Once a message has failed the sink refuses everything: open a new one.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._closed = False
        self._outbox = Outbox(settings, LATENCY, connect_timeout_s, undelivered)

    def send(self, topic: str, messages: Messages) -> None:
        """See Sink."""
        assert not self._closed, "closed"
        self._outbox.put(topic, messages)

    def flush(self, timeout_s: float) -> None:
        """See Sink."""
        if left := self._outbox.flush(timeout_s):
            raise KafkaUnavailableError(f"{left} messages are not acknowledged after {timeout_s:.1f} s")

    def acknowledged(self, timeout_s: float) -> bool:
        """See Sink."""
        with suppress(Exception):  # the outbox keeps it, and raises it again
            return not self._outbox.flush(timeout_s)
        return False

    def facts(self) -> ClientFacts:
        """See Writer."""
        return self._outbox.facts()

    def close(self, timeout_s: float) -> None:
        """See Sink."""
        if self._closed:
            return
        self._closed = True
        with suppress(WorkerError):  # a caller that wants to know flushes first
            if not self._outbox.flush(timeout_s):
                return
        self._outbox.discard()
