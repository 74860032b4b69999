"""The TransactionalSink contract on confluent-kafka: messages and offsets in one transaction per turn of the loop.

Rule of this file: after the first error nothing is tried again with the same producer. The fate of its last transaction
is not known here; the cluster settles it when the next producer of the same id asks.

After a lost connection the next transaction has a new producer, too. A request that was on its way is sent again, and
the first copy may still arrive in the middle of a later transaction of the same epoch, and end it. And librdkafka may
wait for ever for a coordinator that the cluster's metadata have not named for a moment
(https://github.com/confluentinc/librdkafka/issues/5511).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from confluent_kafka import KafkaError, KafkaException

from worker.bounded_calls import BoundedCalls, Pending
from worker.errors import KafkaUnavailableError
from worker.kafka.confluent.commits import with_notes
from worker.kafka.confluent.errors import failed_transaction, undelivered_in_transaction
from worker.kafka.confluent.outbox import Outbox
from worker.kafka.contracts import NO_NOTES, ClientFacts, Notes
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Partition

log = logging.getLogger("worker.kafka")

CONNECT_TIMEOUT_S = 10.0  # then there is another attempt: a frozen coordinator may have a successor
TRANSACTION_TIMEOUT_MS = 10_000  # a successor under another id waits for our open transaction as long as this
RETRY_BACKOFF_MS = 1  # a transaction begun right after another is refused until that one's markers are written
RETRY_BACKOFF_MAX_MS = 100
METADATA_REFRESH_MS = 100  # else it would be looked up at every repeated request
LEAST_WAIT_S = 0.001
MISSING_TOPIC_SHARE = 0.5  # of a commit's time, after which a topic that the cluster does not know is missing
GRACE_S = 2.0  # for the client to keep its own time-out
LOOK_S = 0.5  # between two looks at broken connections, during a slow commit
DISTURBED_S = 2.0  # for a commit after a lost connection


class ConfluentTransactions:
    """Writes messages and offsets in transactions, as ``settings.transactional_id``. After any error open a new one.

    Raises KafkaUnavailableError when the cluster does not answer in ``connect_timeout_s``, CommitRefusedError when
    another process takes the id at the same time, WorkerError when the cluster refuses us.
    """

    def __init__(self, settings: ClientSettings, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        assert settings.transactional_id is not None, "a transactional sink needs an id"
        self._settings = settings
        self._closed = False
        self._begun = False
        self._calls = BoundedCalls("transactions", max_hanging=1)
        try:
            self._outbox = self._opened(connect_timeout_s)
        except BaseException:
            self._calls.close()
            raise

    def send(self, topic: str, messages: Messages) -> None:
        """See TransactionalSink."""
        assert not self._closed, "closed"
        self._begin()
        self._outbox.put(topic, messages)

    def commit(
        self, offsets: Mapping[Partition, int], member: object, timeout_s: float, notes: Notes = NO_NOTES
    ) -> None:
        """See TransactionalSink."""
        assert not self._closed, "closed"
        deadline = time.monotonic() + timeout_s
        self._begin()
        producer = self._outbox.producer
        named = with_notes(offsets, notes)

        def finish() -> None:
            if named:
                producer.send_offsets_to_transaction(named, member, _left(deadline))
            producer.commit_transaction(_left(deadline))

        with _or_dead(self._outbox, "transaction"):
            self._await(self._calls.begin(finish), deadline + GRACE_S)
        # A message may have failed without the transaction noticing.
        self._outbox.serve(0)
        self._begun = False

    def facts(self) -> ClientFacts:
        """See Writer."""
        return self._outbox.facts()

    def close(self, timeout_s: float) -> None:
        """See TransactionalSink."""
        if self._closed:
            return
        self._closed = True
        if self._outbox.failure is not None:
            # Even an abort is not certain. The next sink of this id aborts, or the cluster when the time is over.
            self._outbox.discard()
        elif self._begun:
            producer, within_s = self._outbox.producer, max(timeout_s, LEAST_WAIT_S)
            try:
                self._calls.run(lambda: producer.abort_transaction(within_s), within_s + GRACE_S)
            except (KafkaException, TimeoutError):
                # The next sink of this id aborts it, or the cluster when the transaction's time is over.
                self._outbox.discard()
        self._calls.close()

    def _await(self, commit: Pending[None], deadline: float) -> None:
        """Wait for the answer. After a lost connection it often never comes, though the cluster is there."""
        begun_s = time.monotonic()
        while True:
            if lost := self._outbox.disturbed:
                deadline = min(deadline, begun_s + DISTURBED_S)
            try:
                return commit.answer(min(_left(deadline), LOOK_S))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    why = "; a connection was lost" if lost else ""
                    raise TimeoutError(f"no answer within {deadline - begun_s:.1f} s{why}") from None
            # A commit whose message has failed is answered only when its time is over: raise the failure now.
            self._outbox.serve(0)

    def _begin(self) -> None:
        self._outbox.check()
        if self._begun:
            return
        self._outbox.serve(0)  # learn what broke
        if self._outbox.disturbed:
            self._replace()
        with _or_dead(self._outbox, "transaction"):
            self._outbox.producer.begin_transaction()
        self._begun = True
        self._outbox.written.clear()

    def _replace(self) -> None:
        """A new producer with a new epoch. Everything that the old one sent is committed, so nothing is in doubt."""
        log.info("transactional id '%s': a new producer after a lost connection", self._settings.transactional_id)
        old = self._outbox
        try:
            self._outbox = self._opened(self._settings.patience_s)
        except Exception as error:
            old.failure = error
            raise
        old.free()

    def _opened(self, timeout_s: float) -> Outbox:
        deadline = time.monotonic() + timeout_s
        own = {
            "transactional.id": self._settings.transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 0,
            "retry.backoff.ms": RETRY_BACKOFF_MS,
            "socket.nagle.disable": True,  # or a small request waits until the broker has confirmed the one before
            "retry.backoff.max.ms": RETRY_BACKOFF_MAX_MS,
            "topic.metadata.refresh.fast.interval.ms": METADATA_REFRESH_MS,
            # By default 30 s, longer than any commit waits: nobody would learn that a topic is missing.
            "topic.metadata.propagation.max.ms": int(self._settings.patience_s * 1000 * MISSING_TOPIC_SHARE),
        }
        outbox = Outbox(self._settings, own, timeout_s, undelivered_in_transaction)
        with _or_dead(outbox, f"opening transactional id '{self._settings.transactional_id}'"):
            left_s = _left(deadline)
            self._calls.run(lambda: outbox.producer.init_transactions(left_s), left_s + GRACE_S)
        outbox.serve(0)
        outbox.disturbed = False  # a connection that broke before it was open held no request of a transaction
        return outbox


@contextmanager
def _or_dead(outbox: Outbox, what: str) -> Iterator[None]:
    """Raise the client's error as ours, or the error of a message that failed before; either is kept for all calls."""
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() == KafkaError._STATE:
            with suppress(Exception):
                outbox.serve(0)  # the error of a failed message says more, and may not have been reported yet
        if outbox.failure is None:
            outbox.failure = failed_transaction(error.args[0], what, list(outbox.written.values()))
        raise outbox.failure from error
    except TimeoutError as error:
        outbox.failure = KafkaUnavailableError(f"{what}: the client has not come back: {error}")
        raise outbox.failure from error


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), LEAST_WAIT_S)
