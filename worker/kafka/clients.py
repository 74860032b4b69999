"""Opens the Source and the Sink of the chosen client, and asks the cluster about topics.

Rule of this file: a client library is imported only when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from worker.errors import WorkerError
from worker.kafka.options import refused_options
from worker.kafka.settings import ClientSettings

if TYPE_CHECKING:
    from worker.kafka.contracts import Sink, Source, TransactionalSink

__all__ = [
    "ClientSettings", "ensure_topics", "is_there_to_write", "open_sink", "open_source", "open_transactional_sink",
    "partition_count", "refused_options",
]  # fmt: skip

TOPIC_TIMEOUT_S = 30.0


def open_source(settings: ClientSettings) -> Source:
    """Connect a source. Raises KafkaUnavailableError (try again later), WorkerError (refused, or not installed)."""
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent import ConfluentSource

        return ConfluentSource(settings)
    from worker.kafka.kafka_python import KafkaPythonSource

    return KafkaPythonSource(settings)


def open_sink(settings: ClientSettings) -> Sink:
    """Connect a sink. Raises KafkaUnavailableError (try again later), WorkerError (refused, or not installed)."""
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent_sink import ConfluentSink

        return ConfluentSink(settings)
    from worker.kafka.kafka_python_sink import KafkaPythonSink

    return KafkaPythonSink(settings)


def open_transactional_sink(settings: ClientSettings) -> TransactionalSink:
    """Connect a sink that writes in transactions, under ``settings.transactional_id``. Raises as ``open_sink``."""
    assert settings.transactional_id is not None, "a transactional sink needs an id"
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent_transactions import ConfluentTransactions

        return ConfluentTransactions(settings)
    from worker.kafka.kafka_python_transactions import KafkaPythonTransactions

    return KafkaPythonTransactions(settings)


def ensure_topics(settings: ClientSettings, topics: Mapping[str, int], timeout_s: float = TOPIC_TIMEOUT_S) -> None:
    """Create the topics (name → partitions) that are missing, and wait until they can be used.

    A topic that exists is left as it is. Raises KafkaUnavailableError, WorkerError.
    """
    from worker.kafka.kafka_python_admin import create_missing_topics

    create_missing_topics(settings, topics, timeout_s)


def partition_count(settings: ClientSettings, topic: str, timeout_s: float = TOPIC_TIMEOUT_S) -> int | None:
    """Number of partitions of a topic, None if it does not exist. Raises KafkaUnavailableError, WorkerError."""
    from worker.kafka.kafka_python_admin import count_partitions

    return count_partitions(settings, topic, timeout_s)


def is_there_to_write(settings: ClientSettings, topic: str, timeout_s: float) -> bool:
    """Whether a topic exists, or the broker creates it now that somebody wants to write to it.

    Raises KafkaUnavailableError, WorkerError.
    """
    from worker.kafka.kafka_python_admin import comes_when_asked_for

    return partition_count(settings, topic, timeout_s) is not None or comes_when_asked_for(settings, topic, timeout_s)


def _require_confluent() -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError as error:
        raise WorkerError(
            "kafka.client 'confluent' is not installed: pip install 'rnn-stream-worker[confluent]'"
        ) from error
