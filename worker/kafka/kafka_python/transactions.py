"""The TransactionalSink contract on kafka-python.

Rule of this file: the client may report a transaction as committed that has lost messages or was aborted, keeps offsets
of aborted transactions for the next one, and waits without a limit. So a commit counts only when every message was
acknowledged before it, under one and the same producer epoch, within a deadline, and with no request left unanswered;
after anything else the producer is never used again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from kafka import errors
from kafka.structs import ConsumerGroupMetadata

from worker.errors import (
    CommitRefusedError,
    KafkaUnavailableError,
    MessageRefusedError,
    TopicRefusedError,
    WorkerError,
)
from worker.kafka.contracts import NO_NOTES, ClientFacts, Notes
from worker.kafka.kafka_python.errors import translate_in_transaction
from worker.kafka.kafka_python.network import Network
from worker.kafka.kafka_python.offsets import with_notes
from worker.kafka.kafka_python.sink import KafkaPythonSink, end_producer
from worker.kafka.options import KAFKA_PYTHON_TRANSACTIONS
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Partition

log = logging.getLogger("worker.kafka")

OLDEST_BROKERS = (2, 5)  # older ones don't recognise an outdated generation when offsets come this way
LOOK_S = 0.1  # between two looks at broken connections, during a slow step
DISTURBED_S = 2.0  # for a step of which a request was lost
OPEN_S = 4.0  # then another client tries; the cluster still finishes what it has begun to end
ADD_PARTITIONS, ADD_OFFSETS, END, COMMIT_OFFSETS = 24, 25, 26, 28  # request types, as the protocol numbers them


class _Noting(Network):
    """Notes requests of a transaction that were sent and not answered.

    The client sends them again on a new connection. If the first copy arrives after all, once the transaction has
    ended, it would end or change the next one: Kafka tells them apart only by the epoch.
    """

    def __init__(self, unanswered: list[str], **options: Any) -> None:
        super().__init__(**options)
        self._unanswered = unanswered

    def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        future = super().send(node_id, request, **options)
        if request.API_KEY in (ADD_PARTITIONS, ADD_OFFSETS, END, COMMIT_OFFSETS):
            future.add_errback(lambda error: self._unanswered.append(f"{type(request).__name__}: {error}"))
        return future


class KafkaPythonTransactions:
    """Writes in transactions, under ``settings.transactional_id``.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        assert settings.transactional_id is not None, "a transactional sink needs an id"
        self._settings, self._name = settings, settings.transactional_id
        self._monotonic = monotonic
        self._unanswered: list[str] = []
        self._begun = False
        self._failure: Exception | None = None
        self._closed = False
        options = {**KAFKA_PYTHON_TRANSACTIONS, "transactional_id": self._name}
        self._sink = KafkaPythonSink(settings, monotonic, options, partial(_Noting, self._unanswered))
        self._client: Any = self._sink.client
        self._manager: Any = self._client._transaction_manager
        try:
            with self._failing_for_good("opening"):
                if self._client.config["api_version"] < OLDEST_BROKERS:
                    raise WorkerError("delivery: exactly_once needs Kafka 2.5 or newer: use delivery: at_least_once")
                # Not the client's own call, which waits for max_block_ms: a client that has asked a node that is gone
                # may not look for another, whereas a new client finds the coordinator at once.
                self._answered(self._manager.initialize_transactions, monotonic() + OPEN_S)
        except BaseException:
            end_producer(self._client, 0.0)
            raise
        self._epoch = self._manager.producer_id_and_epoch

    def send(self, topic: str, messages: Messages) -> None:
        """See TransactionalSink."""
        with self._failing_for_good(str(self._settings.destination(topic))):
            self._begin()
            self._sink.send(topic, messages)

    def commit(
        self, offsets: Mapping[Partition, int], member: object, timeout_s: float, notes: Notes = NO_NOTES
    ) -> None:
        """See TransactionalSink."""
        assert isinstance(member, ConsumerGroupMetadata), member
        deadline = self._monotonic() + timeout_s
        with self._failing_for_good("commit"):
            if not offsets and not self._begun:
                return
            if member.generation_id < 1:
                # Without a generation the coordinator accepts offsets from anybody.
                raise CommitRefusedError(f"this process is no longer a member of group '{member.group_id}'")
            self._begin()
            self._sink.flush(max(deadline - self._monotonic(), 0.0))
            if offsets:
                named = with_notes(offsets, notes)
                self._answered(partial(self._manager.send_offsets_to_transaction, named, member), deadline)
            self._answered(self._manager.begin_commit, deadline)
            self._check_committed()
        self._begun = False
        if self._unanswered:
            # This transaction is committed; the next one needs an epoch that nothing of this one can reach.
            self._failure = KafkaUnavailableError(
                f"transactional id '{self._name}': unanswered in the last transaction: {self._unanswered[0]}"
            )

    def facts(self) -> ClientFacts:
        """See Writer."""
        return self._sink.facts()

    def close(self, timeout_s: float) -> None:
        """See TransactionalSink."""
        if self._closed:
            return
        self._closed = True
        deadline = self._monotonic() + timeout_s
        if self._failure is not None:
            timeout_s = 0.0  # the messages it still holds are not wanted, and it may be stuck
        elif self._begun:
            with suppress(errors.KafkaError, KafkaUnavailableError):
                self._answered(self._manager.begin_abort, deadline)
        end_producer(self._client, min(timeout_s, max(deadline - self._monotonic(), 0.0)))

    def _begin(self) -> None:
        if not self._begun:
            self._client.begin_transaction()
            self._begun = True

    def _answered(self, begin: Callable[[], Any], deadline: float) -> None:
        """Begin a step of the transaction and wait for its answer. The client's public calls wait without a limit."""
        result = begin()
        self._client._sender.wakeup()
        disturbed = False
        while not result.wait(timeout_ms=min(max(deadline - self._monotonic(), 0.0), LOOK_S) * 1000):
            if self._unanswered and not disturbed:
                # A connection that broke is made again at once, or else its node is away: then don't wait for it.
                disturbed, deadline = True, min(deadline, self._monotonic() + DISTURBED_S)
            if self._monotonic() >= deadline:
                why = f"; {self._unanswered[0]}" if disturbed else ""
                raise KafkaUnavailableError(f"transactional id '{self._name}': no answer in time{why}")

    def _check_committed(self) -> None:
        """The client reports a commit, but it reports the same when a new epoch has replaced the transaction."""
        if self._manager.producer_id_and_epoch != self._epoch or self._manager.has_error():
            raise KafkaUnavailableError(f"transactional id '{self._name}': the epoch changed during the commit")

    @contextmanager
    def _failing_for_good(self, what: str) -> Iterator[None]:
        """From the first error on every call raises it again."""
        assert not self._closed, "closed"
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except (errors.KafkaError, KafkaUnavailableError, CommitRefusedError, WorkerError) as error:
            self._failure = self._meaning(error, what)
            if self._failure is error:
                raise
            raise self._failure from error
        except BaseException:
            self._failure = KafkaUnavailableError(f"transactional id '{self._name}': interrupted in {what}")
            raise

    def _meaning(self, error: Exception, what: str) -> Exception:
        """Our error, by the cause that the client gives, or else by the state that it reports."""
        if isinstance(error, (MessageRefusedError, TopicRefusedError)):
            return error
        cause = error if isinstance(error, errors.KafkaError) else error.__cause__
        if cause is None:
            return error
        last = self._manager.last_error
        if type(cause) in (errors.KafkaError, errors.TransactionAbortedError, errors.IllegalStateError) and last:
            cause = last
        said = f"transactional id '{self._name}': {what}: {type(cause).__name__}: {cause}"
        return translate_in_transaction(cause, said)
