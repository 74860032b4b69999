"""confluent-kafka interrupted in the middle of a fetch, of a rebalance, of a transaction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.conftest import eventually
from tests.kafka.test_kafka_contract import ANSWER_S, CLOSE_S, ClusterKit, Member, close_all, numbered, until
from tests.reached import opened_transactions
from tests.running import WAIT_S
from worker.errors import CommitRefusedError, KafkaUnavailableError
from worker.kafka.confluent.outbox import _Lines
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Lost, Partition, Revoked

COUNT = 20  # records, and then a transaction's marker
CLOSING_WRITER = """
import sys
from worker.kafka.opening import open_transactional_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

servers, name, topic = sys.argv[1:]
sink = open_transactional_sink(ClientSettings(servers, "confluent", transactional_id=name))
sink.send(topic, Messages([b"key"] * 3, [b"first"] * 3))
sink.commit({}, None, 30)
print("open", flush=True)
sys.stdin.read(1)
sink.send(topic, Messages([b"key"] * 3, [b"second"] * 3))
sink.close(1)
sink.close(1)
"""


class Interrupted:
    """The client, with something that happens in the middle of one fetch, after all that the log has was handed out."""

    def __init__(self, consumer: Any, happens: Callable[[], None]) -> None:
        self._consumer, self._happens, self._left = consumer, happens, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        messages: list[Any] = self._consumer.consume(count, timeout_s)
        if self._left:
            self._left -= 1

            def is_at_the_end() -> bool:
                messages.extend(self._consumer.consume(count, 0))
                return any(message.error() is not None for message in messages)

            eventually(is_at_the_end)
            self._happens()
        return messages


@pytest.fixture
def kit(bootstrap_servers: str) -> ClusterKit:
    return ClusterKit(bootstrap_servers, "confluent")


def fill(kit: ClusterKit, partitions: int = 1) -> str:
    topic = kit.topic(partitions)
    for number in range(partitions):
        kit.append_transaction(Partition(topic, number), numbered(COUNT), commit=True)
    return topic


def joined(kit: ClusterKit, topic: str) -> tuple[Member, Any]:
    member = Member(kit.source(f"group-{topic}"), f"group-{topic}", topic).join()
    return member, member.source


def test_what_was_fetched_before_a_partition_went_and_came_back_moves_nothing(kit: ClusterKit) -> None:
    topic = fill(kit)
    place, name = Partition(topic, 0), TopicPartition(topic, 0)
    member, source = joined(kit, topic)
    client = source._consumer

    def goes_and_comes_back() -> None:
        source._ownership.on_revoke(client, [name])
        source._ownership.on_assign(client, [name])

    source._consumer = Interrupted(client, goes_and_comes_back)
    until(lambda: member.positions.get(place) == COUNT + 1, member)
    kit.append(place, [b"next"])
    until(lambda: member.positions[place] == COUNT + 2, member)
    assert member.kinds() == [Assigned, Revoked, Assigned]
    assert member.values() == [*numbered(COUNT), b"next"]
    close_all([member])


def test_an_error_in_the_middle_of_a_fetch_loses_nothing(kit: ClusterKit) -> None:
    topic = fill(kit)
    member, source = joined(kit, topic)

    def breaks() -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    source._consumer = Interrupted(source._consumer, breaks)
    with pytest.raises(KafkaUnavailableError):
        until(lambda: member.records, member)
    until(lambda: member.positions[Partition(topic, 0)] == COUNT + 1, member)
    assert member.values() == numbered(COUNT)
    close_all([member])


def test_who_reads_again_after_an_error_still_answers_the_group_itself(kit: ClusterKit) -> None:
    """The group has asked for partitions, but the loop does not know yet: they stay its own until it has committed."""
    topic = fill(kit, 4)
    old, source = joined(kit, topic)
    until(lambda: len(old.records) == 4 * COUNT, old)
    until(lambda: set(old.positions.values()) == {COUNT + 1}, old)
    source.seek(dict.fromkeys(old.owned, 5))
    old.positions.update(dict.fromkeys(old.owned, 5))
    old.records.clear()
    source._ownership.doubt()
    new, _ = joined(kit, topic)
    for _ in range(20):  # the old member does not listen while the group makes up its mind
        new.step()
    assert not new.owned
    until(lambda: len(new.owned) == 2 and len(old.owned) == 2, old, new)
    until(
        lambda: all(member.positions[place] == COUNT + 1 for member in (old, new) for place in member.owned), old, new
    )
    assert [kind for kind in old.kinds() if kind is not Assigned] == [Revoked]
    assert {place: new.begun[place] for place in new.owned} == {place: [old.positions[place]] for place in new.owned}
    for number in range(4):
        assert old.values(number) + new.values(number) == numbered(COUNT - 5, 5)
    close_all([old, new])


def test_a_member_that_was_put_out_has_no_name_to_commit_in(kit: ClusterKit) -> None:
    """A transaction's offsets in no name are taken from anybody: Kafka refuses only members that it knows of."""
    topic = fill(kit)
    member, source = joined(kit, topic)
    until(lambda: member.owned, member)
    assert source.member() is not None
    kit.expel(member)

    def has_no_name() -> bool:
        try:
            source.member()
        except CommitRefusedError:
            return True
        return False

    eventually(has_no_name)
    assert member.kinds() == [Assigned]
    until(lambda: member.kinds() == [Assigned, Lost, Assigned], member)
    assert source.member() is not None
    close_all([member])


ASKING_IN_A_CALLBACK = """
import sys
import time
from confluent_kafka import KafkaError, KafkaException
from worker.kafka.confluent import offsets
from worker.kafka.confluent.source import ConfluentSource
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Assigned

servers, topic = sys.argv[1:]
source = ConfluentSource(ClientSettings(servers, "confluent", "asking-" + topic, consumer={"debug": "all"}))
ask, too_late = offsets._ends, [KafkaException(KafkaError(KafkaError._TIMED_OUT))]

def ends(*arguments):
    if too_late:
        raise too_late.pop()
    return ask(*arguments)

def react(change):
    if not isinstance(change, Assigned):
        return {}
    offsets._ends = ends
    return {place: start for place, (start, end) in source.log_range(change.partitions, 30).items()}

source.subscribe([topic], react)
values, deadline = [], time.monotonic() + 60
while len(values) < 20 and time.monotonic() < deadline:
    values += [value for batch in source.poll(100, 1.0) for value in batch.values]
print(len(values))
source.close(10)
"""


def test_leaders_may_be_asked_for_again_in_the_middle_of_an_assignment(kit: ClusterKit) -> None:
    """The client's metadata, asked for in one of its callbacks, end the process at the callback after it."""
    topic = fill(kit)
    asked = [sys.executable, "-c", ASKING_IN_A_CALLBACK, kit.settings.bootstrap_servers, topic]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, ended.stdout) == (0, f"{COUNT}\n"), ended.stderr[-2000:]


LOST = "127.0.0.1:9092/1: Disconnected: connection reset by peer (after 7536ms in state UP)"
AWAY = "127.0.0.1:9092/2: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"


@pytest.mark.parametrize(
    "says",
    [
        lambda outbox, said: outbox._on_error(KafkaError(KafkaError._TRANSPORT, said)),
        lambda outbox, said: _Lines(outbox).log(6, "%s %s: %s", "FAIL", "[thrd:main]", said),
    ],
)
def test_after_a_lost_connection_the_next_transaction_has_a_new_producer(
    kit: ClusterKit, says: Callable[[Any, str], None]
) -> None:
    """A request that was sent twice may arrive late, and would end the next transaction of the same producer."""
    topic = kit.topic()
    member, source = joined(kit, topic)
    until(lambda: member.owned, member)
    sink: Any = opened_transactions(replace(kit.settings, transactional_id=f"writer-of-{topic}"))
    producers = []
    for number, (said, within) in enumerate(
        [(None, False), (LOST, False), (None, False), (AWAY, False), (AWAY, True), (LOST, True), (None, False)]
    ):
        if said and not within:
            says(sink._outbox, said)
        sink.send(topic, Messages([b"key"], [b"%d" % number]))
        if said and within:
            says(sink._outbox, said)
        sink.commit({Partition(topic, 0): number}, source.member(), ANSWER_S)
        producers.append(sink._outbox.producer)
    same = [later is earlier for earlier, later in pairwise(producers)]
    assert same == [False, True, True, True, True, False]
    until(lambda: len(member.records) == 7, member)
    assert member.values() == numbered(7)
    sink.close(CLOSE_S)
    close_all([member])


def test_without_a_cluster_no_new_producer_opens_and_the_sink_has_failed(
    kit: ClusterKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClientSettings, "patience_s", 0.0)
    topic = kit.topic()
    sink: Any = opened_transactions(replace(kit.settings, transactional_id=f"writer-of-{topic}"))
    sink._outbox._on_error(KafkaError(KafkaError._TRANSPORT, LOST))
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError):
            sink.send(topic, Messages([b"key"], [b"never"]))
    sink.close(CLOSE_S)


def test_a_sink_without_a_cluster_closes_in_its_time_and_its_process_ends(
    kit: ClusterKit, embedded_kafka: EmbeddedKafka
) -> None:
    topic = kit.topic()
    with subprocess.Popen(
        [sys.executable, "-c", CLOSING_WRITER, embedded_kafka.bootstrap_servers, f"writer-of-{topic}", topic],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        embedded_kafka.pause()
        try:
            writer.stdin.write(b"x")
            writer.stdin.flush()
            assert writer.wait(WAIT_S) == 0
        finally:
            embedded_kafka.resume()
            writer.kill()
    place = Partition(topic, 0)
    source = kit.source(f"group-{topic}")
    eventually(lambda: source.log_range([place], ANSWER_S)[place][1] >= 4)  # three records and a marker
    source.close(CLOSE_S)
