"""A listed server that accepts connections and never answers holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import NewTopic, eventually
from tests.foreign_server import foreign_server
from tests.proxy import FIND_COORDINATOR, HEARTBEAT, proxied_broker
from tests.subscribed import subscribed
from worker.errors import KafkaUnavailableError
from worker.kafka.opening import open_questions, open_sink, open_source, open_transactional_sink
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

STARTS = 5
# Longer than any of these may take on a busy machine, and far below what a silent server took of each: all of it.
LONG_S = 60.0


@pytest.fixture
def silent() -> Iterator[str]:
    with foreign_server() as server:
        yield server


def joined(settings: ClientSettings, topic: str) -> bool:
    """Whether everything that a start opens can be opened, and the group takes the member in."""
    with open_questions(settings, LONG_S) as cluster:
        assert cluster.partitions(topic) == 1
    open_sink(settings).close(LONG_S)
    source, owned = subscribed(settings, topic)
    eventually(lambda: source.poll(10, 0.1) or owned)
    source.close(LONG_S)
    return bool(owned)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("first", [True, False])
def test_a_start_asks_the_next_server(
    bootstrap_servers: str, topic: NewTopic, silent: str, client: Any, first: bool
) -> None:
    servers = f"{silent},{bootstrap_servers}" if first else f"{bootstrap_servers},{silent}"
    name = topic()
    for number in range(STARTS):
        settings = ClientSettings(servers, client, group_id=f"group-{name}-{number}", transactional_id=f"id-{name}")
        assert joined(settings, name)
        open_transactional_sink(settings).close(LONG_S)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_alone_it_is_told_in_the_time_that_there_is(silent: str, client: Any) -> None:
    with (
        pytest.raises(KafkaUnavailableError, match=silent),
        open_questions(ClientSettings(silent, client), 1.0),
    ):
        pass


@pytest.mark.broker
def test_a_coordinator_that_is_frozen_is_given_up_before_the_client_would() -> None:
    """It keeps its connections: kafka-python waits for each answer as long as for any, 30 s, or whatever is set."""
    own = {"request_timeout_ms": int(1000 * 10 * LONG_S), "connections_max_idle_ms": int(1000 * 20 * LONG_S)}
    with proxied_broker() as (broker, proxy):
        broker.create_topic("readings", 1)
        settings = ClientSettings(proxy.bootstrap_servers, "kafka-python", group_id="group", consumer=own)
        source = open_source(settings)
        source.subscribe(["readings"], lambda change: dict.fromkeys(change.partitions, 0))
        eventually(lambda: source.poll(10, 0.1) or HEARTBEAT in proxy.answers)
        proxy.hold_answers(HEARTBEAT)
        asked = proxy.requests.count(FIND_COORDINATOR)
        eventually(lambda: source.poll(10, 0.1) or proxy.requests.count(FIND_COORDINATOR) > asked)
        assert source.rebuilds == 0, "it was the watchdog that put an end to it"
        proxy.release()
        assert source.committed([Partition("readings", 0)], LONG_S) == {Partition("readings", 0): None}
        source.close(LONG_S)
