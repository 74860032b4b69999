"""Client options and errors of kafka-python, translated both ways.

Every exception of the client becomes one of ``worker.errors``; what is not known here is a bug and passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import errors

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
from worker.kafka.kafka_python.network import Network, RefusedError
from worker.kafka.kafka_python.ownership import OwnershipChangedError
from worker.kafka.options import missing_codec
from worker.kafka.refusals import NOTE_TOO_LONG
from worker.kafka.settings import ClientSettings, Section

Opened = TypeVar("Opened")

AUTOMATIC = "auto"
NO_COMPRESSION = "none"  # as Kafka's documentation has it

_REFUSED_COMMIT = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.FencedInstanceIdError,
)
LOG_MOVED = (errors.OffsetOutOfRangeError, errors.LogTruncationError, errors.NoOffsetForPartitionError)
# What it raises for values that it does not like: see kafka_python_options, where each is named.
_REFUSED_OPTIONS = (ValueError, TypeError, AssertionError, RuntimeError, LookupError, AttributeError)
_NOT_ALLOWED = (errors.AuthorizationError,)
_REFUSED = (RefusedError, errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError)
DAMAGED = (errors.CorruptRecordError, errors.UnsupportedCodecError)
_FENCED = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_REFUSED_MESSAGE = (
    *_TOO_LARGE,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
)
_NEVER_ACCEPTED = (
    errors.InvalidTopicError,
    errors.UnsupportedCompressionTypeError,
    errors.UnsupportedForMessageFormatError,
)


def client_options(settings: ClientSettings, section: Section | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a client: ours, and the users' (see connection_options). None = an admin client."""
    return {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": settings.client_id,
        **own,
        **_as_objects(connection_options.client_options(settings, section)),
    }


def _as_objects(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values that a file can't spell as the client wants them: a version is a tuple, and no compression is None."""
    spelt = dict(options)
    if (version := options.get("api_version")) is not None:
        spelt["api_version"] = broker_version(version)
    if options.get("compression_type") == NO_COMPRESSION:
        spelt["compression_type"] = None
    return spelt


def broker_version(given: Any) -> tuple[int, ...] | None:
    """``"2.7"`` and ``[2, 7]`` as a tuple; None for ``"auto"``. Raises ConfigError."""
    parts = given.split(".") if isinstance(given, str) else given
    if given == AUTOMATIC:
        return None
    if not isinstance(parts, (list, tuple)) or not parts or not all(str(number).isdecimal() for number in parts):
        raise ConfigError(f'should be text such as "2.7", not {given!r}')
    return tuple(int(number) for number in parts)


def open_client(
    kind: Callable[..., Opened], options: Mapping[str, Any], network: Callable[..., Any] = Network
) -> Opened:
    """Build a consumer, producer or admin client. ``network`` makes what it sends its requests with.

    When the bootstrap fails the constructor raises and leaves its I/O thread running, out of reach; so the network
    client is made by a factory that remembers it.
    """
    made: list[Any] = []
    ciphers = options.get("ssl_ciphers")  # an admin client has no such option, and the others do nothing with it

    def remember(**config: Any) -> Any:
        made.append(network(**{**config, "ssl_ciphers": ciphers}))
        return made[-1]

    given = {name: value for name, value in options.items() if name != "ssl_ciphers"}
    try:
        with translated(f"kafka at {','.join(options['bootstrap_servers'])}"):
            return kind(**given, kafka_client=remember)
    except BaseException as error:
        for client in made:
            with suppress(Exception):
                client.close()
        if isinstance(error, _REFUSED_OPTIONS):
            raise ConfigError(
                f"kafka-python refuses its options: {error}; check kafka.consumer and kafka.producer"
            ) from error
        raise


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise the client's exceptions as ours; ``what`` names the attempt in a few words."""
    try:
        yield
    except errors.KafkaError as error:
        if isinstance(error.__cause__, OwnershipChangedError):
            raise error.__cause__ from None
        raise translate(error, what) from error


def translate(error: errors.KafkaError, what: str) -> Exception:
    """Our error for an error of the client; the error itself when it is a bug."""
    if isinstance(error, RefusedError):
        return KafkaRefusedError(f"{what}: {error.args[0]}")
    name = type(error).__name__
    said = f"{what}: {name}: {str(error).removeprefix(f'{name}: ')}"
    if isinstance(error, _REFUSED):
        return KafkaRefusedError(f"{said}; check kafka.security")
    if isinstance(error, _REFUSED_COMMIT):
        return CommitRefusedError(said)
    if isinstance(error, LOG_MOVED):
        return OffsetOutOfRangeError(_partition_of(error), said)
    if isinstance(error, _NOT_ALLOWED):
        return WorkerError(f"{said}; check kafka.security and the rights of this user")
    if isinstance(error, errors.OffsetMetadataTooLargeError):
        return WorkerError(f"{said}; {NOTE_TOO_LONG}")
    if (missing := missing_codec(said)) is not None:
        return WorkerError(f"{what}: {missing}")
    if isinstance(error, DAMAGED):
        return WorkerError(f"{said}; a record can't be read, so nothing after it can be read either")
    if isinstance(error, errors.KafkaConfigurationError):
        return ConfigError(f"{said}; check kafka.consumer and kafka.producer")
    # A rebalance under way ends by itself: the commit is right again once poll has joined.
    if error.retriable or isinstance(error, (errors.RebalanceInProgressError, errors.BrokerNotAvailableError)):
        return KafkaUnavailableError(said)
    if isinstance(error, errors.BrokerResponseError):
        return WorkerError(f"{said}; the cluster refuses this: check kafka.consumer and kafka.producer")
    known: Exception = error
    return known


def translate_in_transaction(error: BaseException, said: str) -> Exception:
    """Our error for whatever ended a transaction.

    Errors that can't be told apart become KafkaUnavailableError: the client gives most of its transactional errors as
    text, and a new producer that continues from what is committed is right after any of them.
    """
    if isinstance(error, (*_FENCED, *_REFUSED_COMMIT)):
        return CommitRefusedError(said)
    if isinstance(error, _REFUSED_MESSAGE):
        return delivery_failed(error, Destination(None))
    if isinstance(error, _NEVER_ACCEPTED):
        return DeliveryFailedError(said)
    if isinstance(error, errors.TransactionalIdAuthorizationFailedError):
        return WorkerError(
            f"{said}; delivery: exactly_once needs the right to write under this transactional id: "
            "check kafka.security and the rights of this user"
        )
    if isinstance(error, (*_NOT_ALLOWED, *_REFUSED, errors.KafkaConfigurationError)):
        return translate(error, said)
    if isinstance(error, errors.UnsupportedVersionError):
        return WorkerError(f"{said}; these brokers have no transactions: use delivery: at_least_once")
    # These two the client passes on as text only.
    if errors.OffsetMetadataTooLargeError.__name__ in said:
        return WorkerError(f"{said}; {NOTE_TOO_LONG}")
    if errors.InvalidTransactionTimeoutError.__name__ in said:
        return ConfigError(
            f"{said}; lower kafka.producer.transaction_timeout_ms, or raise the brokers' transaction.max.timeout.ms"
        )
    return KafkaUnavailableError(said)


def denied_topic(error: BaseException | None) -> str | None:
    """The topic that may not be written. Because of it a transaction fails with all its messages for other topics."""
    named = error.args[0] if isinstance(error, errors.TopicAuthorizationFailedError) and error.args else None
    if isinstance(named, (set, frozenset, list, tuple)):
        named = min(named, default=None)
    return named if isinstance(named, str) else None


def delivery_failed(error: BaseException, to: Destination) -> WorkerError:
    """The error of a message that was refused for good; its cause is the client's."""
    name = type(error).__name__
    told = [str(each) for each in error.args if each is not None]  # the broker's errors often say nothing
    said = f"{name}: {', '.join(told)}" if told else name
    failed: WorkerError
    if isinstance(error, _REFUSED_MESSAGE):
        failed = destinations.refused(to, said, isinstance(error, _TOO_LARGE))
    elif isinstance(error, errors.TopicAuthorizationFailedError):
        failed = destinations.denied([to], name)
    elif isinstance(error, errors.UnknownTopicOrPartitionError):
        failed = destinations.missing(to)
    elif isinstance(error, errors.KafkaTimeoutError):
        failed = destinations.not_acknowledged(to, said)
    else:
        failed = destinations.undelivered(to, said)
    failed.__cause__ = error
    return failed


def _partition_of(error: errors.KafkaError) -> object:
    names = error.args[0] if error.args else None
    if isinstance(names, Mapping) and names:
        name = next(iter(names))
        return f"{name.topic}/{name.partition}"
    return str(names)
