"""Messages that a topic does not take: the errors of both clients, which name the topic, its key and what to do.

Rule of this file: pure functions, no client is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import (
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    NotAcknowledgedError,
    TopicRefusedError,
)


@dataclass(frozen=True, slots=True)
class Destination:
    """A topic that is written, None where it is not known, and the key of the configuration that names it."""

    topic: str | None
    key: str | None = None

    def __str__(self) -> str:
        return f"topic '{self.topic}'" + (f" ({self.key})" if self.key else "")

    def said(self, text: str) -> str:
        """The words of messages for it."""
        return text if self.topic is None else f"{self}: {text}"


def missing(to: Destination) -> TopicRefusedError:
    """Nobody has created it, or somebody has deleted it."""
    return TopicRefusedError(f"{to} does not exist: create it, or name another one")


def deleted(to: Destination) -> TopicRefusedError:
    """Somebody has deleted it, and may have created it again since."""
    return TopicRefusedError(f"{to} was deleted while messages were written to it: create it, or name another one")


def denied(to: Sequence[Destination], said: str) -> TopicRefusedError:
    """This user has no right to write to one of these; ``said`` by the client."""
    return TopicRefusedError(
        f"{' or '.join(map(str, to))} may not be written: {said}; give this user the rights Write and Describe on it, "
        "or check kafka.security"
    )


def refused(to: Destination, said: str, too_large: bool) -> MessageRefusedError:
    """It refuses this message; ``too_large``: for its size."""
    return MessageRefusedError(to.said(f"a message was refused: {said}"), too_large, to.topic)


def undelivered(to: Destination, said: str) -> DeliveryFailedError:
    """Any other failure of a message."""
    return DeliveryFailedError(to.said(f"a message was not delivered: {said}"), to.topic)


def not_acknowledged(to: Destination, said: str) -> NotAcknowledgedError:
    """The client has given it up after its own time."""
    return NotAcknowledgedError(to.said(f"a message was not acknowledged: {said}"), to.topic)


def too_few_brokers(topic: str) -> KafkaUnavailableError:
    """It can't be created now. A broker that has just started, or is frozen, does not count."""
    return KafkaUnavailableError(
        f"topic '{topic}' can't be created: fewer brokers are up than it needs copies (default.replication.factor)"
    )
