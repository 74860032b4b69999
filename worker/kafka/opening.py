"""Opens the Source and the Sink of the chosen client, and asks the cluster about topics.

Rule of this file: a client library is imported only when it is opened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.option_checks import wrong_options
from worker.kafka.settings import ClientSettings

if TYPE_CHECKING:
    from worker.kafka.contracts import Questions, Sink, Source, TransactionalSink


TOPIC_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.1


def refused_clients(settings: ClientSettings) -> list[str]:
    """What the client refuses in its options, a line for each problem, without a broker. Raises WorkerError when it is
    not installed.
    """
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent import options as confluent_options

        return wrong_options(settings, confluent_options.refused_value, confluent_options.refused_client)
    from worker.kafka.kafka_python import options as kafka_python_options

    return wrong_options(settings, kafka_python_options.refused_value, kafka_python_options.refused_client)


def missing_codecs(settings: ClientSettings) -> list[str]:
    """A line for each compression that topics may have and the client can't read."""
    if settings.client == "confluent":
        return []
    from worker.kafka.kafka_python import options as kafka_python_options

    return kafka_python_options.missing_codecs()


def open_source(settings: ClientSettings) -> Source:
    """Connect a source. Raises KafkaUnavailableError (try again later), WorkerError (refused, or not installed)."""
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent.source import ConfluentSource

        return ConfluentSource(settings)
    from worker.kafka.kafka_python.source import KafkaPythonSource

    return KafkaPythonSource(settings)


def open_sink(settings: ClientSettings) -> Sink:
    """Connect a sink. Raises KafkaUnavailableError (try again later), WorkerError (refused, or not installed)."""
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent.sink import ConfluentSink

        return ConfluentSink(settings)
    from worker.kafka.kafka_python.sink import KafkaPythonSink

    return KafkaPythonSink(settings)


def open_transactional_sink(settings: ClientSettings) -> TransactionalSink:
    """Connect a sink that writes in transactions, under ``settings.transactional_id``. Raises as ``open_sink``."""
    assert settings.transactional_id is not None, "a transactional sink needs an id"
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent.transactions import ConfluentTransactions

        return ConfluentTransactions(settings)
    from worker.kafka.kafka_python.transactions import KafkaPythonTransactions

    return KafkaPythonTransactions(settings)


def open_questions(settings: ClientSettings, timeout_s: float) -> AbstractContextManager[Questions]:
    """Connect to ask the cluster, with the client that will read and write. ``timeout_s``: for connecting, and for each
    question. Entering it raises KafkaUnavailableError (KafkaRefusedError when no broker accepts us), WorkerError.
    """
    if settings.client == "confluent":
        _require_confluent()
        from worker.kafka.confluent import admin as confluent_admin

        return confluent_admin.questions(settings, timeout_s)
    from worker.kafka.kafka_python import admin as kafka_python_admin

    return kafka_python_admin.questions(settings, timeout_s)


def ensure_topics(settings: ClientSettings, topics: Mapping[str, int], timeout_s: float = TOPIC_TIMEOUT_S) -> None:
    """Create the topics (name → partitions) that are missing, and wait until they can be used.

    A topic that exists is left as it is. Raises KafkaUnavailableError, WorkerError.
    """
    deadline = time.monotonic() + timeout_s
    with open_questions(settings, timeout_s) as cluster:
        missing = {name: count for name, count in topics.items() if cluster.partitions(name) is None}
        while True:
            try:
                cluster.create(missing)
                break
            except KafkaUnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_INTERVAL_S)
        for name, count in missing.items():
            while (cluster.partitions(name) or 0) < count:
                if time.monotonic() > deadline:
                    raise KafkaUnavailableError(f"topic '{name}' is not ready after {timeout_s:g} s")
                time.sleep(POLL_INTERVAL_S)


def partition_count(settings: ClientSettings, topic: str, timeout_s: float = TOPIC_TIMEOUT_S) -> int | None:
    """Number of partitions of a topic, None if it does not exist. Raises KafkaUnavailableError, WorkerError."""
    with open_questions(settings, timeout_s) as cluster:
        return cluster.partitions(topic)


def _require_confluent() -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError as error:
        raise WorkerError(
            "kafka.client 'confluent' is not installed: pip install 'rnn-stream-worker[confluent]'"
        ) from error
