"""How to reach the cluster and as whom: what every client is opened with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.errors import WorkerError
from worker.kafka.options import Client


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach the cluster and as whom: the section ``kafka`` of the configuration.

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


def instance_id_taken(settings: ClientSettings) -> WorkerError:
    """Another process has joined with our instance id: coming back would only fence that one in turn."""
    return WorkerError(
        f"kafka.instance_id '{settings.instance_id}' is in use by another process of group '{settings.group_id}'; "
        "give every process its own"
    )
