"""How outputs and positions become final: acknowledged and then committed, or both at once in a transaction.

These are steps 1 and 2 of the commit law. They rely only on ``kafka.contracts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from worker.bounded_calls import BoundedCalls, Pending
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    NotAcknowledgedError,
)
from worker.kafka.contracts import NO_NOTES, ClientFacts, Notes, Sink, Source, TransactionalSink, Writer
from worker.member.limits import LoopLimits
from worker.records.messages import Messages
from worker.records.ownership import Partition

Opened = TypeVar("Opened")

UNDONE_AFTER = (MessageRefusedError, NotAcknowledgedError)  # without transactions, too
RENEWED_CLOSE_S = 1.0  # for a sink that is given up: the messages it still holds are not wanted


class Delivery(Writer, Protocol):
    """``retried_after``: errors of a commit that do not end the worker.

    ``transactional``: each turn is committed with its outputs. After an error states have seen records whose outputs
    nobody may ever get: the loop then calls ``renew`` and goes back to what is committed. Otherwise it commits again,
    except after one of UNDONE_AFTER, which is also followed by ``renew``.
    """

    transactional: bool
    acknowledged_at: float | None  # when the outputs of the last commit were, where that is before the commit
    retried_after: tuple[type[Exception], ...]

    @property
    def behind(self) -> bool:
        """Whether outputs of the last commit are not acknowledged yet: no record should be read until they are."""

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """Everything sent is durable, and these positions are committed, when this returns."""

    def acknowledged(self, timeout_s: float) -> bool:
        """Whether all that was sent is acknowledged, within ``timeout_s``; for measurements."""

    def renew(self) -> None:
        """Resume writing after an error. Raises KafkaUnavailableError.

        Nothing that was sent and not committed appears after this; without transactions a part of it may have appeared.
        """

    def close(self, timeout_s: float) -> None:
        """Free everything. Safe to call twice."""


class Renewal(Generic[Opened]):
    """Opens another sink, in place of one that has failed."""

    def __init__(self, open_sink: Callable[[], Opened], limits: LoopLimits) -> None:
        self._open_sink, self._limits = open_sink, limits
        self._calls = BoundedCalls("renewal", max_hanging=1)
        self._opening: Pending[Opened] | None = None

    def sink(self) -> Opened:
        """Raises KafkaUnavailableError: it is being opened elsewhere while the loop polls, ask again."""
        if self._opening is None:
            self._opening = self._calls.begin(self._open_sink)
        try:
            sink = self._opening.answer(self._limits.kafka_call_s)
        except TimeoutError as error:
            raise KafkaUnavailableError(f"a new producer: {error}") from error
        except BaseException:
            self._opening = None
            raise
        self._opening = None
        return sink

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        self._calls.close()


class AtLeastOnce:
    """Outputs first, then the positions: after a crash in between outputs come twice, the same both times."""

    transactional = False
    acknowledged_at: float | None = None
    retried_after: tuple[type[Exception], ...] = (CommitRefusedError, KafkaUnavailableError, *UNDONE_AFTER)

    def __init__(
        self, source: Source, open_sink: Callable[[], Sink], limits: LoopLimits, clock: Callable[[], float]
    ) -> None:
        self._source, self._limits, self._clock = source, limits, clock
        self._renewal = Renewal(open_sink, limits)
        self._use(open_sink())

    def _use(self, sink: Sink) -> None:
        self._sink = sink
        self.send = sink.send
        self._late_since_s: float | None = None  # outputs have not been acknowledged in time since

    @property
    def behind(self) -> bool:
        """See Delivery."""
        return self._late_since_s is not None

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Delivery. Raises DeliveryFailedError, CommitRefusedError, KafkaUnavailableError (commit again)."""
        begun_s = self._clock()
        try:
            self._sink.flush(timeout_s)
        except KafkaUnavailableError as error:
            if self._late_since_s is None:
                self._late_since_s = begun_s
            elif self._clock() - self._late_since_s >= self._limits.flush_s:
                late = f"{error}, and none was acknowledged for {self._limits.flush_s:g} s"
                raise NotAcknowledgedError(late) from error
            raise
        self._late_since_s, self.acknowledged_at = None, self._clock()
        self._source.commit(offsets, max(0.0, begun_s + timeout_s - self._clock()), notes)

    def acknowledged(self, timeout_s: float) -> bool:
        """See Delivery."""
        return self._sink.acknowledged(timeout_s)

    def facts(self) -> ClientFacts:
        """See Writer."""
        return self._sink.facts()

    def renew(self) -> None:
        """See Delivery."""
        self._sink.close(RENEWED_CLOSE_S)
        self._use(self._renewal.sink())

    def close(self, timeout_s: float) -> None:
        """See Delivery."""
        self._sink.close(timeout_s)
        self._renewal.close()


class ExactlyOnce:
    """Outputs and positions in one transaction. ``open_sink`` opens one that takes the right to write from the last."""

    transactional = True
    acknowledged_at: float | None = None
    behind = False
    retried_after: tuple[type[Exception], ...] = (CommitRefusedError, DeliveryFailedError, KafkaUnavailableError)

    def __init__(self, source: Source, open_sink: Callable[[], TransactionalSink], limits: LoopLimits) -> None:
        self._source = source
        self._renewal = Renewal(open_sink, limits)
        self._sink: TransactionalSink | None = open_sink()

    def send(self, topic: str, messages: Messages) -> None:
        """See Delivery."""
        self._current().send(topic, messages)

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Delivery."""
        self._current().commit(offsets, self._source.member(), timeout_s, notes)

    def acknowledged(self, timeout_s: float) -> bool:
        """See Delivery: only a commit says so."""
        return False

    def facts(self) -> ClientFacts:
        """See Writer."""
        return ClientFacts() if self._sink is None else self._sink.facts()

    def renew(self) -> None:
        """See Delivery."""
        self._give_up(RENEWED_CLOSE_S)
        self._sink = self._renewal.sink()

    def close(self, timeout_s: float) -> None:
        """See Delivery."""
        self._give_up(timeout_s)
        self._renewal.close()

    def _give_up(self, timeout_s: float) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close(timeout_s)

    def _current(self) -> TransactionalSink:
        assert self._sink is not None, "renew first"
        return self._sink
