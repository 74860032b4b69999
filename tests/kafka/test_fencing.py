"""A member that the group says is fenced: it ends when another process has its instance id, and only then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.conftest import NewTopic, eventually
from tests.kafka.test_kafka_contract import CLOSE_S, ClusterKit, Member, until
from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.confluent.health import holder_of_instance_id as ask_by_confluent
from worker.kafka.confluent.source import ConfluentSource
from worker.kafka.fencing import STILL_THERE, Fencing
from worker.kafka.kafka_python.admin import holder_of_instance_id as ask_by_kafka_python
from worker.kafka.kafka_python.source import KafkaPythonSource
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Assigned, Lost, Partition

SETTINGS = ClientSettings("nowhere:1", group_id="group", instance_id="one")
LATER_S = STILL_THERE * SETTINGS.session_s + 1


def fencing(holder: str | None) -> Fencing:
    found = Fencing(SETTINGS, lambda settings, timeout_s: holder)
    for name in ("one-a", "", None, "one-b", "one-b"):
        found.note(name)
    return found


@pytest.mark.parametrize("holder", [None, "one-a", "one-b"])
@pytest.mark.parametrize("name", ["one-b", "one-d", "", None])
def test_nobody_else_has_it(holder: str | None, name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fencing(holder).settle(0.0, name)
    assert "no other process has it" in caplog.text


def test_another_process_has_it() -> None:
    with pytest.raises(WorkerError, match=r"kafka\.instance_id 'one' is in use by another process of group 'group'"):
        fencing("one-c").settle(0.0, "one-b")


def test_another_process_still_has_it_when_a_session_is_over() -> None:
    found = fencing("one-c")
    for now_s in (0.0, LATER_S / 2):
        with pytest.raises(KafkaUnavailableError, match="whether 'one-c' is another process"):
            found.settle(now_s, "")
    with pytest.raises(WorkerError, match="in use by another process"):
        found.settle(LATER_S, "")


def test_what_goes_away_with_its_session_was_our_own() -> None:
    holders: list[str | None] = ["one-c", "one-d", "one-d", None]
    found = Fencing(SETTINGS, lambda settings, timeout_s: holders.pop(0))
    for now_s in (0.0, LATER_S, LATER_S + 1):
        with pytest.raises(KafkaUnavailableError):
            found.settle(now_s, "")
    found.settle(2 * LATER_S, "")


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_how_long_the_loop_waits_is_a_part_of_the_session(client: Any) -> None:
    option = {"kafka-python": "session_timeout_ms", "confluent": "session.timeout.ms"}[client]

    def patience_s(session_ms: Any) -> float:
        return ClientSettings("nowhere:1", client, consumer={option: session_ms}).patience_s

    assert ClientSettings("nowhere:1", client).patience_s == 45 / 4
    assert [patience_s(of) for of in (6_000, "12000", 40_000, 600_000, "?")] == [2.0, 3.0, 10.0, 20.0, 45 / 4]


def fence(source: Any) -> None:
    """As the client says it, though nobody else is there."""
    if isinstance(source, ConfluentSource):
        source._fatal.append(KafkaError(KafkaError._FATAL, "Static consumer fenced", fatal=True))
    else:
        assert isinstance(source, KafkaPythonSource)
        source._connected().fenced = True


def answered(ask: Callable[[ClientSettings, float], str | None], settings: ClientSettings) -> str | None:
    """A broker that has just started may not know its coordinators yet."""
    found: list[str | None] = []

    def has_answered() -> bool:
        with suppress(KafkaUnavailableError):
            found.append(ask(settings, 30))
        return bool(found)

    eventually(has_answered)
    return found[0]


@pytest.mark.broker
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_member_that_was_fenced_by_nobody_comes_back(bootstrap_servers: str, client: Any, topic: NewTopic) -> None:
    name = topic(1, "readings")
    settings = ClientSettings(bootstrap_servers, client, group_id=name, instance_id="worker-0")
    ask = {"kafka-python": ask_by_kafka_python, "confluent": ask_by_confluent}[client]
    assert answered(ask, settings) is None
    member = Member(open_source(settings), name, name, {0: 0}).join()
    until(lambda: member.owned, member)
    assert str(answered(ask, settings)).startswith("worker-0")
    ClusterKit(bootstrap_servers, client).append(Partition(name, 0), [b"1", b"2"])
    until(lambda: len(member.records) == 2, member)
    fence(member.source)
    until(lambda: member.kinds() == [Assigned, Lost, Assigned], member)
    ClusterKit(bootstrap_servers, client).append(Partition(name, 0), [b"3"])
    until(lambda: member.values() == [b"1", b"2", b"1", b"2", b"3"], member)
    assert member.source.rebuilds == 1
    member.source.commit({Partition(name, 0): 3}, 30)
    member.source.close(CLOSE_S)


class Told:
    """A message that is an error, as the client hands it out when its callback is not the first to tell."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._FATAL, "Static consumer fenced", fatal=True)

    def topic(self) -> None:
        return None


class ToldOnce(ConfluentSource):
    told = False

    def _fetch(self, *wanted: Any) -> list[Any]:
        if self.told or not self.joined:
            return super()._fetch(*wanted)
        self.told = True
        return [Told()]


@pytest.mark.broker
def test_it_may_be_told_by_a_message(bootstrap_servers: str, topic: NewTopic) -> None:
    name = topic(1, "readings")
    source = ToldOnce(ClientSettings(bootstrap_servers, "confluent", group_id=name, instance_id="worker-0"))
    member = Member(source, name, name).join()
    away = 0
    while member.kinds() != [Assigned, Lost, Assigned]:
        try:
            until(lambda: member.kinds() == [Assigned, Lost, Assigned], member)
        except KafkaUnavailableError:
            away += 1
    assert away == 1
    source.close(CLOSE_S)
