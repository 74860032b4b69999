"""How to reach the cluster and as which user: the settings of every client."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from worker.errors import WorkerError
from worker.kafka.destinations import Destination

Client: TypeAlias = Literal["kafka-python", "confluent"]
Section: TypeAlias = Literal["consumer", "producer"]

SECTIONS: tuple[Section, ...] = ("consumer", "producer")

LONGEST_ID_BYTES = 32_767  # the protocol's limit of a text
SHORT_CHARACTERS = 100

SESSION_S = 45.0  # both clients' own
SESSION_OPTIONS = {"kafka-python": "session_timeout_ms", "confluent": "session.timeout.ms"}
PATIENCE_SHARE = 0.25  # of the session
PATIENCE_S = (2.0, 20.0)  # at least, at most


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach the cluster and as which user: the section ``kafka`` of the configuration.

    ``consumer`` and ``producer`` go to the client as they are; names that ``refused_options`` gives must not be there.
    """

    bootstrap_servers: str
    client: Client = "kafka-python"
    group_id: str = "rnn-stream-worker"
    instance_id: str | None = None
    client_id: str = "rnn-stream-worker"
    security: Mapping[str, Any] = field(default_factory=dict)
    consumer: Mapping[str, Any] = field(default_factory=dict)
    producer: Mapping[str, Any] = field(default_factory=dict)
    transactional_id: str | None = None  # for a TransactionalSink: one process at a time has it
    written: Mapping[str, str] = field(default_factory=dict)  # topics, and the keys of the configuration that name them

    def destination(self, topic: str | None) -> Destination:
        """A topic that is written, as errors name it."""
        return Destination(topic, self.written.get(topic or ""))

    @property
    def session_s(self) -> float:
        """After how long without a sign of life the group removes a member."""
        try:
            return float(self.consumer.get(SESSION_OPTIONS[self.client], SESSION_S * 1000)) / 1000
        except (TypeError, ValueError):
            return SESSION_S  # the client says what is wrong with it

    @property
    def patience_s(self) -> float:
        """How long the loop may wait for the cluster without polling: a part of the session.

        A session that has ended is settled with the group only while the consumer is polled. A librdkafka member that
        is not polled keeps sending without a name, and the group then takes it for another member and removes it for
        good.
        """
        least, most = PATIENCE_S
        return min(max(self.session_s * PATIENCE_SHARE, least), most)


def transactional_id(group_id: str, member: str) -> str:
    """The name under which one member of a group writes: unique for each pair of group and member.

    It begins with the group's name, so that an ACL for a prefix can cover it.
    """
    name = f"{group_id}/{member}"
    if name.count("/") > 1:
        name += f"/{len(group_id)}"  # a/b and c is not a and b/c
    if len(name.encode()) > LONGEST_ID_BYTES:
        name = f"{group_id[:SHORT_CHARACTERS]}/{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def instance_id_taken(settings: ClientSettings) -> WorkerError:
    """Another process has joined with our instance id: coming back would only fence that process in turn."""
    return WorkerError(
        f"kafka.instance_id '{settings.instance_id}' is in use by another process of group '{settings.group_id}'; "
        "give every process its own"
    )
