"""The Sink and TransactionalSink contracts in memory, for tests; the broker behind them is in ``memory_broker``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from worker.errors import CommitRefusedError, DeliveryFailedError, MessageRefusedError
from worker.kafka.contracts import NO_NOTES, ClientFacts, Notes
from worker.kafka.memory.broker import Member, MemoryBroker
from worker.records.messages import Messages
from worker.records.ownership import Partition
from worker.records.record_batch import Headers

LARGEST_BYTES = 1_000_000


class MemorySink:
    """The Sink contract on a MemoryBroker: messages reach their logs at ``flush``, or some of them at ``crash``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.pending: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self._broker = broker
        self._failed: DeliveryFailedError | None = None
        self._closed = False

    def send(self, topic: str, messages: Messages) -> None:
        """See Sink."""
        assert not self._closed, "closed"
        self._broker.meet_failure("send")
        self._check()
        for key, value, header in _each(messages):
            refused = _refusal(self._broker, topic, key, value, header)
            if refused is not None:
                self._failed = self._failed or refused
            else:
                self.pending.append((topic, key, value, header))

    def flush(self, timeout_s: float) -> None:
        """See Sink."""
        assert timeout_s >= 0
        self._broker.meet_failure("flush")
        self.land(len(self.pending))
        self._check()

    def facts(self) -> ClientFacts:
        """See Writer."""
        return _facts(self.pending)

    def acknowledged(self, timeout_s: float) -> bool:
        """See Sink."""
        assert timeout_s >= 0
        return not self.pending and self._failed is None

    def land(self, count: int) -> None:
        """Let the first ``count`` messages reach their logs without an acknowledgement, as a slow cluster does."""
        for topic, key, value, header in self.pending[:count]:
            self._broker.append(topic, key, value, header or None)
        del self.pending[:count]

    def refuse(self, reason: str) -> None:
        """From now on the sink has failed for good: what is pending is gone."""
        self.pending.clear()
        self._failed = DeliveryFailedError(reason)

    def crash(self, survivors: int = 0) -> None:
        """The process is gone: only the first ``survivors`` unflushed messages have reached the logs."""
        self.land(survivors)
        self.pending.clear()
        self._closed = True

    def close(self, timeout_s: float) -> None:
        """See Sink."""
        assert timeout_s >= 0
        if not self._closed:
            self.land(len(self.pending))
        self._closed = True

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed


class MemoryTransactions:
    """The TransactionalSink contract on a MemoryBroker: a transaction reaches the logs at ``commit``, whole."""

    def __init__(self, broker: MemoryBroker, transactional_id: str) -> None:
        broker.meet_failure("open")
        self._broker, self._id = broker, transactional_id
        self._pending: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self._failed: Exception | None = None
        self._closed = False
        broker.admit(transactional_id, self)

    def send(self, topic: str, messages: Messages) -> None:
        """See TransactionalSink."""
        with self._whole():
            self._broker.meet_failure("send")
            for key, value, header in _each(messages):
                refused = _refusal(self._broker, topic, key, value, header)
                if refused is not None:
                    raise refused
                self._pending.append((topic, key, value, header))

    def commit(
        self, offsets: Mapping[Partition, int], member: object, timeout_s: float, notes: Notes = NO_NOTES
    ) -> None:
        """See TransactionalSink; leaves a marker's gap in each log it has written to."""
        assert timeout_s >= 0
        with self._whole():
            self._broker.meet_failure("commit_transaction")
            if not self._broker.may_write(self._id, self):
                raise CommitRefusedError(f"another sink writes as '{self._id}'")
            self._broker.commit(cast("Member", member), offsets, notes)
            written = {
                self._broker.append(topic, key, value, header or None)[0] for topic, key, value, header in self._pending
            }
            for partition in written:
                self._broker.add_gap(partition)
            self._pending.clear()

    def facts(self) -> ClientFacts:
        """See Writer."""
        return _facts(self._pending)

    def close(self, timeout_s: float) -> None:
        """See TransactionalSink."""
        assert timeout_s >= 0
        self._closed = True

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """After any error it refuses everything."""
        assert not self._closed, "closed"
        if self._failed is not None:
            raise self._failed
        try:
            yield
        except Exception as error:
            self._failed = error
            raise


def _facts(pending: Sequence[tuple[str, bytes | None, bytes | None, Headers]]) -> ClientFacts:
    return ClientFacts(
        messages=len(pending), bytes=sum(len(key or b"") + len(value or b"") for _, key, value, _ in pending)
    )


def _each(messages: Messages) -> Iterator[tuple[bytes | None, bytes | None, Headers]]:
    return zip(messages.keys, messages.values, messages.headers or [()] * len(messages), strict=True)


def _refusal(
    broker: MemoryBroker, topic: str, key: bytes | None, value: bytes | None, headers: Headers
) -> MessageRefusedError | None:
    largest = broker.largest_bytes.get(topic, LARGEST_BYTES)
    if len(key or b"") + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers) > largest:
        return MessageRefusedError(f"a message for '{topic}' is larger than {largest} bytes", True, topic)
    if key is None and topic in broker.compacted:
        return MessageRefusedError(f"'{topic}' is compacted: it takes no message without a key", False, topic)
    return None
