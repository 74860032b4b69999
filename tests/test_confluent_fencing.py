"""A confluent-kafka member whose instance id was taken ends with that reason, however the client tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from worker.errors import WorkerError
from worker.kafka.clients import ClientSettings
from worker.kafka.confluent import ConfluentSource
from worker.records import Change, Lost, Partition


class Told:
    """A message that is an error, as the client hands it out when its callback is not the first to tell."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._FATAL, "Static consumer fenced", fatal=True)

    def topic(self) -> None:
        return None


class FencedByMessage(ConfluentSource):
    def _fetch(self, *_: Any) -> list[Any]:
        return [Told()]


def test_fenced_by_a_message(bootstrap_servers: str, topic: Callable[..., str]) -> None:
    name = topic(1, "readings")
    source = FencedByMessage(ClientSettings(bootstrap_servers, "confluent", group_id=name, instance_id="worker-0"))
    changes: list[Change] = []
    source.subscribe([name], lambda change: changes.append(change) or {})
    assert source._ownership is not None
    source._ownership.positions[Partition(name, 0)] = 0
    for _ in range(2):
        with pytest.raises(WorkerError, match="instance_id 'worker-0' is in use"):
            source.poll(10, 0.1)
    source.close(30)
    assert changes == [Lost((Partition(name, 0),))]
