"""The least value of numbers among the users' options, where the client accepts less but then never works.

Rule of this file: pure functions, no client is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.kafka.settings import SESSION_S, Client

LEAST_MESSAGE_BYTES = 1_000  # of librdkafka; kafka-python has no limit
LEAST_DELIVERY_MS = 1_000  # a request, its answer, and once more
LEAST_ANSWER_MS = 100  # a request and its answer
_LEAST: Mapping[Client, Mapping[str, int]] = {
    "kafka-python": {
        "max_request_size": LEAST_MESSAGE_BYTES,
        "receive_message_max_bytes": LEAST_MESSAGE_BYTES,
        "fetch_max_bytes": 1,
        "max_partition_fetch_bytes": 1,
        "delivery_timeout_ms": LEAST_DELIVERY_MS,
        "request_timeout_ms": LEAST_ANSWER_MS,
        "max_block_ms": LEAST_ANSWER_MS,
        "bootstrap_timeout_ms": LEAST_ANSWER_MS,
        "transaction_timeout_ms": LEAST_DELIVERY_MS,
        "max_poll_interval_ms": LEAST_DELIVERY_MS,
        "heartbeat_interval_ms": 1,
        "metadata_max_age_ms": 1,
    },
    "confluent": {
        "delivery.timeout.ms": LEAST_DELIVERY_MS,
        "message.timeout.ms": LEAST_DELIVERY_MS,
        "request.timeout.ms": LEAST_ANSWER_MS,
        "socket.timeout.ms": LEAST_ANSWER_MS,
        "fetch.max.bytes": 1,
    },
}
_FOR_EVER = ("delivery.timeout.ms", "message.timeout.ms")  # which 0 means
_BELOW_ZERO = (
    "receive_buffer_bytes",
    "send_buffer_bytes",
    "connections_max_idle_ms",
)  # the default of the system, or never
_SESSION, _HEARTBEAT = "session.timeout.ms", "heartbeat.interval.ms"


def below_least(client: Client, name: str, value: Any) -> str | None:
    """Why this number is too small, in a few words; None when it is not, or is not a number."""
    number = _number(value)
    if number is None or (number == 0 and name in _FOR_EVER):
        return None
    least = _LEAST[client].get(name)
    if least is None and client == "kafka-python" and name not in _BELOW_ZERO:
        least = 0
    return None if least is None or number >= least else f"should be at least {least}, not {value!r}"


def session_too_short(options: Mapping[str, Any], heartbeat_ms: int) -> str | None:
    """Why confluent's sessions would end between two heartbeats. ``heartbeat_ms``: when ``options`` say nothing."""
    session, heartbeat = (
        _number(options.get(_SESSION, SESSION_S * 1000)),
        _number(options.get(_HEARTBEAT, heartbeat_ms)),
    )
    if session is None or heartbeat is None or heartbeat < session:
        return None
    return f"{_HEARTBEAT} ({heartbeat:g}) must be below {_SESSION} ({session:g}): raise the second or lower the first"


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None  # the client says what is wrong with it
