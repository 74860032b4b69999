"""A topic that needs more copies than there are brokers, as while brokers are starting: waited for, then told."""

from __future__ import annotations

import pytest

from worker.errors import KafkaUnavailableError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.opening import ensure_topics, partition_count
from worker.kafka.settings import ClientSettings

WAITED_S = 5.0


@pytest.mark.broker
def test_a_topic_with_more_copies_than_brokers() -> None:
    with EmbeddedKafka(heap_mb=256, properties={"default.replication.factor": 2}) as broker:
        for client in ("kafka-python", "confluent"):
            settings = ClientSettings(broker.bootstrap_servers, client)
            with pytest.raises(KafkaUnavailableError, match=r"topic 'in' can't be created: fewer brokers are up"):
                ensure_topics(settings, {"in": 1}, WAITED_S)
            assert partition_count(settings, "in") is None
