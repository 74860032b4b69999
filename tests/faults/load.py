"""The load: a log made from the seed, sent at a steady rate by a thread, whatever happens to the broker meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

from confluent_kafka import Producer

from tests.faults.silences import Silences
from tests.faults.topics import QUIET, everything
from tests.sequences import Log

TICK_S = 0.02
STUCK_S = 25.0  # without an acknowledgement, the broker being there: librdkafka can forget its only broker
PURGE_S = 5.0
UNDER_WAY_S = 5.0  # so long may requests be written that were under way when their producer was given up


class Load(threading.Thread):
    """Sends ``log``; which events are acknowledged is known, not where they are: a repeated request does not tell.

    ``heard``: by partition, when events of it were acknowledged. ``hold`` says whether the broker is away by purpose:
    then silence is no reason for a new producer.
    """

    def __init__(self, servers: str, topic: str, partitions: int, log: Log, events_per_s: float) -> None:
        super().__init__(daemon=True)
        self.sent = 0  # events handed to the producer, in the log's order
        self.hold = threading.Event()
        self.error: BaseException | None = None
        self.partitions = partitions
        self.heard = [Silences() for _ in range(partitions)]
        self._servers, self._topic = servers, topic
        self._log, self._rate = log, events_per_s
        self._unacknowledged: set[int] = set()
        self._heard = time.monotonic()
        self._stopping = threading.Event()
        self._producer = self._open()

    @property
    def used_up(self) -> bool:
        """Whether the log has come to its end."""
        return self.sent >= len(self._log.keys)

    def acknowledged(self, events: int) -> bool:
        """Whether the first so many events are in Kafka."""
        if self.error is not None:
            raise RuntimeError("the load has ended") from self.error
        return min(self._unacknowledged.copy(), default=self.sent) >= min(events, self.sent)

    def finish(self, timeout_s: float) -> None:
        """Send no more, and wait until all that was sent is acknowledged."""
        self._stopping.set()
        self.join(timeout_s)
        if self.is_alive() or self.error is not None or self._unacknowledged:
            raise RuntimeError(f"{len(self._unacknowledged)} events of the load are not in Kafka") from self.error

    def abandon(self) -> None:
        """Send no more, whatever becomes of the rest."""
        self._stopping.set()
        self._unacknowledged.clear()
        self._producer.purge()

    def run(self) -> None:
        try:
            begun, first = time.monotonic(), self.sent
            while not self._stopping.wait(TICK_S) and not self.used_up:
                due = min(first + int((time.monotonic() - begun) * self._rate), len(self._log.keys))
                for index in range(self.sent, due):
                    self._send(index)
                    self.sent = index + 1
                self._look()
            while self._unacknowledged:
                self._producer.poll(TICK_S)
                self._look()
        except BaseException as error:  # noqa: BLE001 (the harness asks for it)
            self.error = error

    def _open(self) -> Any:
        settings = {
            "bootstrap.servers": self._servers, "enable.idempotence": True, "partitioner": "murmur2_random",
            "linger.ms": 5, "message.timeout.ms": 600_000, "reconnect.backoff.max.ms": 500,
            # A frozen leader's successor is to get the load, not the leader once it wakes.
            "request.timeout.ms": int(UNDER_WAY_S * 1000),
        }  # fmt: skip
        return Producer(settings, logger=QUIET)

    def _send(self, index: int) -> None:
        self._unacknowledged.add(index)
        self._producer.produce(
            self._topic, self._log.values[index], self._log.keys[index],
            on_delivery=lambda error, message: self._delivered(index, error, message),
        )  # fmt: skip

    def _delivered(self, index: int, error: Any, message: Any) -> None:
        if error is None:
            self._unacknowledged.discard(index)
            self._heard = time.monotonic()
            self.heard[message.partition()].heard(self._heard)

    def _look(self) -> None:
        self._producer.poll(0)
        if self.hold.is_set() or not self._unacknowledged:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > STUCK_S:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """A new producer; what the old one had not got through, and only that, is sent again in the same order."""
        self._producer.purge()
        self._producer.flush(PURGE_S)
        self._stopping.wait(UNDER_WAY_S)
        written = {row.value for row in everything(self._servers, self._topic, self.partitions)}
        again = sorted(index for index in self._unacknowledged if self._log.values[index] not in written)
        self._unacknowledged.clear()
        self._producer, self._heard = self._open(), time.monotonic()
        for index in again:
            self._send(index)
