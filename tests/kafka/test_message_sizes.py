"""How large a message may be, by client, options and topic."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import MessageRefusedError
from worker.kafka.message_sizes import (
    FRAMING_BYTES,
    LEAST_FRAMING_BYTES,
    TopicRules,
    message_bytes_limit,
    with_batches_that_fit,
)
from worker.kafka.opening import open_sink
from worker.kafka.settings import Client, ClientSettings
from worker.records.messages import Messages

BOTH = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


@pytest.mark.parametrize(
    ("client", "options", "topic", "largest"),
    [
        ("kafka-python", {}, None, 1_048_576),
        ("kafka-python", {"max_request_size": 5000}, 9000, 5000),
        ("kafka-python", {"max_request_size": 5_000_000}, 1_048_588, 1_048_588),
        ("kafka-python", {"max_request_size": 5_000_000, "compression_type": "gzip"}, 1_048_588, 5_000_000),
        ("confluent", {}, 1_048_588, 1_000_000),
        ("confluent", {"message.max.bytes": "2000"}, None, 2000),
        ("confluent", {}, 10_000, 10_000),
        ("confluent", {"compression.codec": "none"}, 10_000, 10_000),
        ("confluent", {"message.max.bytes": "nonsense"}, None, 1_000_000),
    ],
)
def test_the_smaller_of_what_the_client_and_the_topic_take(
    client: Client, options: dict[str, Any], topic: int | None, largest: int
) -> None:
    assert message_bytes_limit(client, options, TopicRules(topic)) == largest - FRAMING_BYTES


@BOTH
def test_batches_are_as_small_as_the_smallest_topic_wants_them(client: Client) -> None:
    name = {"kafka-python": "batch_size", "confluent": "batch.size"}[client]
    settings = ClientSettings("host:1", client=client)
    assert with_batches_that_fit(settings, TopicRules(), TopicRules(1_048_588)) == settings
    smaller = with_batches_that_fit(settings, TopicRules(50_000), TopicRules(20_000))
    assert smaller.producer == {name: 20_000 - FRAMING_BYTES}
    given = ClientSettings("host:1", client=client, producer={name: 5_000})
    assert with_batches_that_fit(given, TopicRules(20_000)) == given


def test_what_a_topic_says() -> None:
    assert TopicRules.of({}) == TopicRules(None, compacted=False)
    told = {"max.message.bytes": "1000", "cleanup.policy": "compact,delete", "retention.ms": None}
    assert TopicRules.of(told) == TopicRules(1000, compacted=True)
    assert not TopicRules.of({"cleanup.policy": "delete"}).compacted


@BOTH
def test_a_batch_is_never_larger_than_its_topic_takes(client: Client) -> None:
    for limit in (1, 100, 800, 2_000):
        (batch,) = with_batches_that_fit(ClientSettings("host:1", client=client), TopicRules(limit)).producer.values()
        assert 1 <= batch <= limit


@BOTH
def test_a_small_topic_takes_what_fits_for_sure_and_refuses_what_can_not_fit(
    bootstrap_servers: str, client: Client
) -> None:
    from kafka.admin import KafkaAdminClient

    name, rules = f"small-{client}", TopicRules(800)
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        configs = {"max.message.bytes": "800"}
        admin.create_topics({name: {"num_partitions": 1, "configs": configs}}, wait_for_metadata=True)
    settings = with_batches_that_fit(ClientSettings(bootstrap_servers, client=client), rules)
    fits, most = (message_bytes_limit(client, {}, rules, each) for each in (FRAMING_BYTES, LEAST_FRAMING_BYTES))
    assert 700 == fits < most < 800
    sink = open_sink(settings)
    sink.send(name, Messages([b"key"] * 5, [b"v" * (fits - 3)] * 5))
    sink.flush(60.0)

    def send_too_much() -> None:
        sink.send(name, Messages([b"key"], [b"v" * (most + 1 - 3)]))
        sink.flush(60.0)

    with pytest.raises(MessageRefusedError) as refused:
        send_too_much()
    assert refused.value.too_large
    sink.close(5.0)
