"""How large a message may be: by the producer's options, and by its topic's configuration.

Rule of this file: pure functions, no client is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker.kafka.settings import Client, ClientSettings

FRAMING_BYTES = 100  # of a batch with one message, at most, without the framing of its headers
LEAST_FRAMING_BYTES = 68  # of the same: the batch's 61, and a byte for each number of the message
LARGEST_BYTES: Mapping[Client, int] = {"kafka-python": 1_048_576, "confluent": 1_000_000}  # the clients' own defaults
BATCH_BYTES: Mapping[Client, int] = {"kafka-python": 128 * 1024, "confluent": 1_000_000}
_LARGEST: Mapping[Client, tuple[str, ...]] = {
    "kafka-python": ("max_request_size",),
    "confluent": ("message.max.bytes",),
}
_BATCH: Mapping[Client, str] = {"kafka-python": "batch_size", "confluent": "batch.size"}
_COMPRESSION = ("compression_type", "compression.type", "compression.codec")
NO_COMPRESSION = (None, "none", "")


@dataclass(frozen=True, slots=True)
class TopicRules:
    """What a topic requires of its messages; None where we may not ask."""

    largest_bytes: int | None = None  # of a batch, as it is written
    compacted: bool = False  # then no message without a key is taken

    @classmethod
    def of(cls, configuration: Mapping[str, str | None]) -> TopicRules:
        """``configuration`` of a topic, as the cluster tells it; empty where it may not be asked."""
        largest = configuration.get("max.message.bytes")
        return cls(int(largest) if largest else None, "compact" in (configuration.get("cleanup.policy") or ""))


NO_RULES = TopicRules()


def message_bytes_limit(
    client: Client, options: Mapping[str, Any], rules: TopicRules = NO_RULES, framing_bytes: int = FRAMING_BYTES
) -> int:
    """How large key, value and framed headers of one message may be together.

    ``options``: ``kafka.producer``. With FRAMING_BYTES every message up to this size is accepted; with
    LEAST_FRAMING_BYTES no larger message is. A compressed message may be larger for its topic; by how much only the
    broker knows.
    """
    own = next((options[name] for name in _LARGEST[client] if name in options), LARGEST_BYTES[client])
    limits = [_number(own, LARGEST_BYTES[client])]
    if rules.largest_bytes is not None and not compresses(options):
        limits.append(rules.largest_bytes)
    return max(1, min(limits) - framing_bytes)


def compresses(options: Mapping[str, Any]) -> bool:
    """Whether messages are compressed on their way."""
    return any(options.get(name) not in NO_COMPRESSION for name in _COMPRESSION)


def with_batches_that_fit(settings: ClientSettings, *topics: TopicRules) -> ClientSettings:
    """With smaller batches where a topic takes less than a batch of the client: such a batch is refused as a whole."""
    client, name = settings.client, _BATCH[settings.client]
    limits = [rules.largest_bytes for rules in topics if rules.largest_bytes is not None]
    given = _number(settings.producer.get(name), BATCH_BYTES[client])
    if not limits or min(limits) >= given:
        return settings
    fits = max(1, min(limits) - FRAMING_BYTES)
    return replace(settings, producer={**settings.producer, name: min(given, fits)})


def _number(value: Any, otherwise: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise  # the client will say what is wrong with it
