"""A static member that died between the two rounds of a rebalance comes back: every partition has an owner again."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewTopic, eventually
from worker.errors import KafkaUnavailableError
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.kafka.static_return import REJOINS_LIMIT, StaticReturn
from worker.records.ownership import Assigned, Change, StartOffsets

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
ALL = set(range(PARTITIONS))
WAIT_S = 120.0

DIES = """
import os, sys
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Assigned

def react(change):
    if isinstance(change, Assigned):
        print(len(change.partitions), flush=True)
        return {place: 0 for place in change.partitions}
    os._exit(9)  # told to give partitions back: they are nobody's until somebody asks for the second round

servers, client, topic = sys.argv[1:]
source = open_source(ClientSettings(servers, client, "group-" + topic, instance_id="worker-0"))
source.subscribe([topic], react)
while True:
    source.poll(10, 0.1)
"""


class Owner:
    """A member on a thread of its own: ``owned`` are the partitions it has now."""

    def __init__(self, settings: ClientSettings, topic: str) -> None:
        self.owned: set[int] = set()
        self._ended = threading.Event()
        self._source = open_source(settings)
        self._source.subscribe([topic], self._react)
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(WAIT_S)
        self._source.close(WAIT_S)

    def _react(self, change: Change) -> StartOffsets:
        numbers = {place.number for place in change.partitions}
        self.owned = self.owned | numbers if isinstance(change, Assigned) else self.owned - numbers
        return dict.fromkeys(change.partitions, 0) if isinstance(change, Assigned) else {}

    def _poll(self) -> None:
        while not self._ended.is_set():
            with suppress(KafkaUnavailableError):
                self._source.poll(10, 0.1)


@contextmanager
def owner(servers: str, client: Any, topic: str, number: int) -> Iterator[Owner]:
    settings = ClientSettings(servers, client, f"group-{topic}", instance_id=f"worker-{number}")
    found = Owner(settings, topic)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_what_it_gave_back_finds_an_owner(bootstrap_servers: str, topic: NewTopic, client: str) -> None:
    name = topic(PARTITIONS)
    command = [sys.executable, "-c", DIES, bootstrap_servers, client, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert int(first.stdout.readline()) == PARTITIONS
        with owner(bootstrap_servers, client, name, 1) as second:
            assert first.wait(WAIT_S) == 9
            assert second.owned == set()
            with owner(bootstrap_servers, client, name, 0) as back:
                # Each notes on a thread of its own what it has: one may not have noted yet what it has just given back.
                eventually(
                    lambda: second.owned and back.owned and sorted([*second.owned, *back.owned]) == sorted(ALL), WAIT_S
                )


def test_what_no_rebalance_gives_an_owner_is_told_and_left(
    bootstrap_servers: str, topic: NewTopic, caplog: pytest.LogCaptureFixture
) -> None:
    """A topic that no member reads: a few rebalances, not one after the other for ever."""
    name, unread = topic(1), topic(1)
    with owner(bootstrap_servers, "confluent", name, 0) as member:
        eventually(lambda: member.owned == {0}, WAIT_S)
        group = f"group-{name}"
        look = StaticReturn(ClientSettings(bootstrap_servers, "confluent", group, instance_id="worker-0"), 0.5)
        look.begin([name, unread])
        eventually(lambda: "do all members of this group read the same topics" in caplog.text, WAIT_S)
        look.close()
        eventually(lambda: member.owned == {0}, WAIT_S)
    lines = [record.getMessage() for record in caplog.records if "no member has" in record.getMessage()]
    assert [f"no member has {unread}/0" in line for line in lines] == [True] * (REJOINS_LIMIT + 1)
