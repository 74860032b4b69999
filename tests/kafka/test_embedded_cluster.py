"""Three embedded nodes are a cluster that stands the death of one, and clients of it that know nobody is to blame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from tests.conftest import eventually
from tests.kafka.test_kafka_contract import CLOSE_S, ClusterKit
from worker.errors import KafkaUnavailableError
from worker.kafka.embedded.cluster import NODES, EmbeddedCluster
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

pytestmark = pytest.mark.broker
TOPIC, PARTITIONS = "readings", 4
ANSWER_S = 30.0
WAIT_S = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as found:
        found.create_topic(TOPIC, PARTITIONS)
        yield found


def described(cluster: EmbeddedCluster) -> list[dict[str, Any]]:
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers.split(",")) as admin:
        (topic,) = admin.describe_topics([TOPIC])
    return list(topic["partitions"])


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_after_the_death_of_a_leader_its_partitions_are_asked_of_the_next_one(
    cluster: EmbeddedCluster, client: Any
) -> None:
    """librdkafka by itself calls them unknown from then on: a member that is assigned one of them would never start."""
    eventually(lambda: all(len(each["isr_nodes"]) == NODES for each in described(cluster)), WAIT_S)
    servers = cluster.bootstrap_servers
    kit = ClusterKit(servers, client)
    places = [Partition(TOPIC, number) for number in range(PARTITIONS)]
    source = open_source(ClientSettings(servers, client, group_id=f"group-{client}"))
    before = source.log_range(places, ANSWER_S)
    victim = next(each["leader_id"] for each in described(cluster) if each["leader_id"] > 0)
    cluster.nodes[victim].kill()
    try:
        deadline = time.monotonic() + WAIT_S
        after = None
        while after != before:
            assert time.monotonic() < deadline
            with suppress(KafkaUnavailableError):
                after = source.log_range(places, ANSWER_S)
        for place in places:
            kit.append(place, [b"1"])
        assert {end for _, end in source.log_range(places, ANSWER_S).values()} == {before[places[0]][1] + 1}
    finally:
        source.close(CLOSE_S)
        cluster.nodes[victim].restart()
