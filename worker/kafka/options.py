"""Client options as data: what users may set, and what the worker sets itself. For connections see connection_options.

Rule of this file: pure functions, no client is imported, so the configuration check can use it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from worker.kafka.settings import Client, Section

_KAFKA_PYTHON_SHARED = {"bootstrap_servers", "client_id", "kafka_client", "selector"}
_CONFLUENT_SHARED = {
    "bootstrap.servers", "metadata.broker.list", "client.id", "error_cb", "log_cb", "logger", "log.queue", "stats_cb",
    "throttle_cb", "enabled_events", "default.topic.config", "default_topic_conf", "topic.blacklist", "opaque",
    "plugin.library.paths", "interceptors", "background_event_cb", "socket_cb", "connect_cb", "closesocket_cb",
    "open_cb", "resolve_cb", "test.mock.num.brokers", "test.mock.broker.rtt", "ut_handle_ProduceResponse",
}  # fmt: skip
# librdkafka takes an option of topics behind a further "topic.", too. These are whole names.
_OF_TOPICS = "topic."
_NOT_OF_TOPICS = ("topic.metadata.", "topic.blacklist")

# Each of these decides about offsets, ownership, acknowledgement or bytes, which the contracts promise.
_CONTROLLED: Mapping[tuple[str, str], set[str]] = {
    ("kafka-python", "consumer"): _KAFKA_PYTHON_SHARED
    | {
        "group_id", "group_instance_id", "key_deserializer", "value_deserializer", "auto_offset_reset",
        "enable_auto_commit", "auto_commit_interval_ms", "default_offset_commit_callback", "isolation_level",
        "partition_assignment_strategy", "max_poll_records", "consumer_timeout_ms", "metrics_enabled",
        "metric_group_prefix", "allow_auto_create_topics",
    },
    ("kafka-python", "producer"): _KAFKA_PYTHON_SHARED
    | {"key_serializer", "value_serializer", "enable_idempotence", "acks", "retries", "transactional_id", "partitioner",
       "max_in_flight_requests_per_connection", "allow_auto_create_topics"},
    ("confluent", "consumer"): _CONFLUENT_SHARED
    | {
        "group.id", "group.instance.id", "group.protocol", "group.protocol.type", "group.remote.assignor",
        "enable.auto.commit", "enable.auto.offset.store", "auto.commit.interval.ms", "auto.offset.reset",
        "isolation.level", "partition.assignment.strategy", "enable.partition.eof", "on_commit", "offset_commit_cb",
        "rebalance_cb", "consume_cb", "allow.auto.create.topics", "auto.commit.enable", "offset.store.method",
        "offset.store.path", "offset.store.sync.interval.ms", "consume.callback.max.messages",
        "share.acknowledgement.mode", "max.poll.records",
    },
    ("confluent", "producer"): _CONFLUENT_SHARED
    | {
        "enable.idempotence", "enable.gapless.guarantee", "acks", "request.required.acks", "retries",
        "message.send.max.retries", "transactional.id", "partitioner", "partitioner_cb", "on_delivery", "dr_cb",
        "dr_msg_cb", "delivery.report.only.error", "max.in.flight", "max.in.flight.requests.per.connection",
        "allow.auto.create.topics", "queuing.strategy", "msg_order_cmp", "produce.offset.report",
    },
}  # fmt: skip

# What kafka-python's producer gets for `delivery: exactly_once`, and users may set in `kafka.producer`.
KAFKA_PYTHON_TRANSACTIONS: Mapping[str, int] = {
    "transaction_timeout_ms": 10_000,  # the next owner of a partition waits this long for a dead owner's transaction
    "request_timeout_ms": 8_000,
    "delivery_timeout_ms": 30_000,
    "max_block_ms": 10_000,  # for sending without metadata, and for opening: it is tried again
    "retry_backoff_ms": 5,  # how long the next transaction waits while the markers of the last one are written
}

# Only librdkafka's log says that the connection to the transaction coordinator broke.
_HIDES_LOST_CONNECTIONS = ("log.connection.close", "log_level")


CODEC_PACKAGES: Mapping[str, str] = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}
_MISSING_CODEC = re.compile(r"Libraries for (\w+) compression codec not found")


def missing_codec(said: str) -> str | None:
    """What to do about a codec that kafka-python lacks, when its error says so."""
    found = _MISSING_CODEC.search(said)
    return None if found is None else about_missing_codec(found[1])


def about_missing_codec(codec: str) -> str:
    """Which package is missing, and the other way out."""
    package = CODEC_PACKAGES.get(codec, codec)
    return (
        f"kafka-python needs the package {package} for {codec}: pip install {package}, or set kafka.client: confluent, "
        "which brings its own"
    )


def refused_options(client: Client, section: Section, options: Mapping[str, Any]) -> list[str]:
    """Names in ``options`` that the worker must control, in their order."""
    controlled = _CONTROLLED[client, section]
    return [name for name in options if name in controlled or (client == "confluent" and _is_of_topics(name))]


def why_refused(name: str) -> str:
    """What to do about one of ``refused_options``."""
    if name in ("default.topic.config", "default_topic_conf"):
        return "topic options are given like all others; write them here by their own names and remove it"
    if _is_of_topics(name):
        return f"topic options are given like all others; write {name.removeprefix(_OF_TOPICS)}"
    return "the worker sets this itself; remove it"


def _is_of_topics(name: str) -> bool:
    return name.startswith(_OF_TOPICS) and not name.startswith(_NOT_OF_TOPICS)


def contradicting_options(client: Client, delivery: str, options: Mapping[str, Any]) -> list[str]:
    """Why these ``kafka.producer`` options can't go with ``delivery``, a sentence each, with the way out."""
    if delivery != "exactly_once":
        return []
    if client == "confluent":
        return [
            f"kafka.producer: {name} would hide lost connections, after which a transaction needs a new producer: "
            "remove it"
            for name in _HIDES_LOST_CONNECTIONS
            if name in options
        ]
    limits = {**KAFKA_PYTHON_TRANSACTIONS, **options}
    transaction, request, delivered = (
        limits[name] for name in ("transaction_timeout_ms", "request_timeout_ms", "delivery_timeout_ms")
    )
    said = []
    if request >= transaction:
        said.append(
            f"kafka.producer: request_timeout_ms ({request}) must be below transaction_timeout_ms ({transaction}), or "
            "a request without an answer outlives its transaction: lower the first or raise the second"
        )
    if delivered <= transaction:
        said.append(
            f"kafka.producer: delivery_timeout_ms ({delivered}) must be above transaction_timeout_ms ({transaction}), "
            "or kafka-python gives up outputs while their transaction can still be committed: raise the first or lower "
            "the second"
        )
    return said


def spell_topic_id(digits: bytes) -> str:
    """A topic id, 16 bytes, in the spelling of Kafka's own tools: 22 characters of URL-safe base64.

    Empty for the id of zeros, which means none: brokers before 2.8 have no ids.
    """
    assert len(digits) == 16
    if not any(digits):
        return ""
    return base64.urlsafe_b64encode(digits).rstrip(b"=").decode("ascii")
