"""Client options and errors of confluent-kafka, translated both ways.

Every exception of the client becomes one of ``worker.errors``; what is not known here is a bug and passes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from worker.errors import (
    CommitRefusedError,
    ConfigError,
    DeliveryFailedError,
    KafkaRefusedError,
    KafkaUnavailableError,
    OffsetOutOfRangeError,
    WorkerError,
)
from worker.kafka import connection_options, destinations
from worker.kafka.destinations import Destination
from worker.kafka.refusals import NOTE_TOO_LONG
from worker.kafka.settings import ClientSettings, Section
from worker.records.ownership import Partition

FETCH_SESSION_TOPIC_ID = 106  # a number of the protocol that librdkafka has no name for
# A consumer has one fatal error only: its instance id was taken.
FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED, KafkaError._FATAL}
_REFUSED_COMMIT = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,
}
_LOG_MOVED = {
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._NO_OFFSET,
    KafkaError._LOG_TRUNCATION,
}
_NOT_ALLOWED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
# Our connection is refused: somebody must fix it, and the worker keeps asking, slowly.
REFUSED = {
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
}
# Another producer has our transactional id. Also said when the cluster ended a transaction that took too long.
_FENCED_PRODUCER = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE}
_REFUSED_MESSAGE = {
    *_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
}
_PRODUCED_TO = re.compile(r"ProduceRequest for (\S+) \[\d+\]")
_MISSING = {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}
_DELETED = {KafkaError._DESTROY, KafkaError._UNKNOWN_PARTITION}  # errors of messages whose partition is gone
_NEVER_ACCEPTED = {KafkaError.TOPIC_EXCEPTION, *_MISSING}
_NOT_ACKNOWLEDGED = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}
_TRY_AGAIN = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._WAIT_COORD,
    KafkaError._WAIT_CACHE,
    KafkaError._IN_PROGRESS,
    KafkaError._MAX_POLL_EXCEEDED,  # said once; the next poll says what was lost
    KafkaError._UNKNOWN_BROKER,
    KafkaError._DESTROY_BROKER,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    # Errors of brokers while leaders, replicas and controllers change; librdkafka calls none of them retriable.
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.FETCH_SESSION_ID_NOT_FOUND,
    KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError.INVALID_FETCH_SESSION_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LISTENER_NOT_FOUND,
    KafkaError.NOT_CONTROLLER,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.STALE_BROKER_EPOCH,
    KafkaError.STALE_CTRL_EPOCH,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_ID,
    FETCH_SESSION_TOPIC_ID,
}


class FencedError(CommitRefusedError):
    """Another process has our instance id. ``error`` is the client's own."""

    def __init__(self, said: str, error: KafkaError) -> None:
        super().__init__(said)
        self.error = error


def client_options(settings: ClientSettings, section: Section | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a client: ours, and the users' (see connection_options). None = an admin client."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": settings.client_id,
        **own,
        **connection_options.client_options(settings, section),
    }


@contextmanager
def translated(what: str, partition: Partition | None = None) -> Iterator[None]:
    """Raise the client's exceptions as ours; ``what`` names the attempt in a few words."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], what, partition) or error from error


def translate(error: KafkaError, what: str, partition: Partition | None = None) -> Exception | None:
    """Our error for an error of the client, None when it is a bug. ``partition``: the one it concerns."""
    code = error.code()
    said = f"{what}: {error.name()}: {error.str()}"
    if code in FENCED:
        return FencedError(said, error)
    if code in _REFUSED_COMMIT:
        return CommitRefusedError(said)
    if code in _LOG_MOVED:
        return OffsetOutOfRangeError(partition, said)
    if code in _NOT_ALLOWED:
        return WorkerError(f"{said}; check kafka.security and the rights of this user")
    if code in REFUSED:
        return KafkaRefusedError(f"{said}; check kafka.security")
    if code == KafkaError.OFFSET_METADATA_TOO_LARGE:
        return WorkerError(f"{said}; {NOTE_TOO_LONG}")
    if code == KafkaError._INVALID_ARG:
        return ConfigError(f"{said}; check kafka.consumer and kafka.producer")
    if code in (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION):
        return WorkerError(f"{said}; a record can't be read, so nothing after it can be read either")
    # A rebalance under way ends by itself: the commit is right again once poll has joined.
    if code in _TRY_AGAIN or error.retriable():
        return KafkaUnavailableError(said)
    return None


def translate_in_transaction(error: KafkaError, what: str) -> Exception:
    """Our error for an error of a transactional producer: one that a new producer may mend is KafkaUnavailableError."""
    code = error.code()
    said = f"{what}: {error.name()}: {error.str()}"
    if code in _FENCED_PRODUCER:
        return CommitRefusedError(said)
    if code in _REFUSED_MESSAGE:
        return undelivered(error, Destination(None))
    if code in _NEVER_ACCEPTED:
        return DeliveryFailedError(said)
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return ConfigError(f"{said}; lower transaction.timeout.ms in kafka.producer to what the cluster allows")
    # A call in the wrong state (_STATE): the transaction has failed in the background. A new producer starts over.
    if code in (KafkaError._FATAL, KafkaError._STATE):
        return KafkaUnavailableError(said)
    return translate(error, what) or KafkaUnavailableError(said)


def undelivered(error: KafkaError, to: Destination) -> WorkerError:
    """The error of a message that was refused for good."""
    said = f"{error.name()}: {error.str()}"
    if (refused := _refused(error, to)) is not None:
        return refused
    make = destinations.not_acknowledged if error.code() in _NOT_ACKNOWLEDGED else destinations.undelivered
    return make(to, str(translate(error, error.name()) or said))


def undelivered_in_transaction(error: KafkaError, to: Destination) -> Exception:
    """The same of a message in a transaction, which may fail for the transaction, too."""
    return _refused(error, to) or translate_in_transaction(error, to.said("a message was not delivered"))


def failed_transaction(error: KafkaError, what: str, written: Sequence[Destination]) -> Exception:
    """Our error for that of a whole transaction, which wrote to these topics: at best its text says which one failed.

    Of a right that is missing the coordinator says only that it is for one of them.
    """
    about = _PRODUCED_TO.search(error.str())
    for to in written:
        if about is not None and to.topic == about[1] and (found := _refused(error, to)) is not None:
            return found
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED and written:
        return destinations.denied(written, f"{error.name()}: {error.str()}")
    return translate_in_transaction(error, what)


def _refused(error: KafkaError, to: Destination) -> WorkerError | None:
    """The error of a message that its topic does not take, None for any other error."""
    code, said = error.code(), f"{error.name()}: {error.str()}"
    if code in _REFUSED_MESSAGE:
        return destinations.refused(to, said, code in _TOO_LARGE)
    if to.topic is not None and code in _MISSING:
        return destinations.missing(to)
    if to.topic is not None and code in _DELETED:
        return destinations.deleted(to)
    if to.topic is not None and code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return destinations.denied([to], said)
    return None
