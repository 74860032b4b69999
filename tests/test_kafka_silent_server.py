"""A listed server that accepts connections and never answers holds nobody up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import eventually
from worker.errors import KafkaUnavailableError
from worker.kafka.clients import ClientSettings, open_questions, open_sink, open_source, open_transactional_sink
from worker.kafka.local_ports import HOST
from worker.records import Assigned, Change, StartOffsets

STARTS = 5
# Longer than any of these may take on a busy machine, and far below what a silent server took of each: all of it.
LONG_S = 60.0


@pytest.fixture
def silent() -> Iterator[str]:
    """``host:port`` of a server that accepts all and says nothing."""
    kept: list[socket.socket] = []
    with socket.create_server((HOST, 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"{HOST}:{server.getsockname()[1]}"
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    accepting.join(LONG_S)
    for each in kept:
        each.close()


def joined(settings: ClientSettings, topic: str) -> bool:
    """Whether everything that a start opens can be opened, and the group takes the member in."""
    with open_questions(settings, LONG_S) as cluster:
        assert cluster.partitions(topic) == 1
    open_sink(settings).close(LONG_S)
    source = open_source(settings)
    owned: list[Any] = []

    def react(change: Change) -> StartOffsets:
        owned.extend(change.partitions)
        return dict.fromkeys(change.partitions, 0) if isinstance(change, Assigned) else {}

    source.subscribe([topic], react)
    eventually(lambda: source.poll(10, 0.1) or owned)
    source.close(LONG_S)
    return bool(owned)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("first", [True, False])
def test_a_start_asks_the_next_server(
    bootstrap_servers: str, topic: Callable[..., str], silent: str, client: Any, first: bool
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
