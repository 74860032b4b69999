"""One suite for TransactionalSink, and for what a Source owes to it, on memory, kafka-python and confluent-kafka."""

# ruff: noqa: F811 (a fixture that is imported has the name of the arguments that ask for it)

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import pytest

from tests.conftest import eventually
from tests.kafka.test_kafka_contract import (
    ANSWER_S,
    CLOSE_S,
    STEP_S,
    ClusterKit,
    Member,
    MemoryKit,
    close_all,
    each_way,
    enter,  # noqa: F401 (a fixture)
    kit_of,
    numbered,
    until,
)
from tests.reached import opened_transactions
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    WorkerError,
)
from worker.kafka.contracts import Committed, TransactionalSink
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.memory.sinks import MemoryTransactions
from worker.kafka.opening import open_transactional_sink
from worker.kafka.settings import Client, ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Lost, Partition, Revoked
from worker.records.record_batch import Headers

CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
SHORT_ANSWER_S = 3.0
QUIET_POLLS = 5
LARGE = b"x" * 1_100_000
DYING_WRITER = """
import sys
from worker.kafka.opening import open_transactional_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

servers, client, name, topic = sys.argv[1:]
sink = open_transactional_sink(ClientSettings(servers, client, transactional_id=name))
sink.send(topic, Messages([b"key"] * 3, [b"unborn"] * 3))
print("sent", flush=True)
sys.stdin.read()
"""


class MemoryTransactionsKit(MemoryKit):
    """What the suite needs of a cluster, in memory."""

    def transactions(self, name: str) -> TransactionalSink:
        return MemoryTransactions(self.broker, name)

    def append_at(self, place: Partition, times_ms: Sequence[int]) -> None:
        for time_ms in times_ms:
            self.broker.append(place.topic, b"key", b"%d" % time_ms, timestamp=time_ms, partition=place.number)

    def await_landing(self, place: Partition, count: int) -> None:
        """Until so many records are in the log, be they committed or not."""

    def leave_open(self, name: str, topic: str, group_id: str, offsets: dict[Partition, int]) -> bool:
        """A transaction with a message and offsets that nobody ends; whether others have to wait for its end."""
        self.transactions(name).send(topic, Messages([b"key"], [b"left"]))
        return False


class ClusterTransactionsKit(ClusterKit):
    """The same on a real broker, by one of the two clients."""

    def transactions(self, name: str) -> TransactionalSink:
        return opened_transactions(replace(self.settings, transactional_id=name))

    def append_at(self, place: Partition, times_ms: Sequence[int]) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers})
        failures: list[object] = []
        for time_ms in times_ms:
            value = b"%d" % time_ms
            producer.produce(
                place.topic, value, b"key", place.number, lambda error, _: failures.append(error), timestamp=time_ms
            )
        assert producer.flush(ANSWER_S) == 0
        assert set(failures) == {None}

    def await_landing(self, place: Partition, count: int) -> None:
        from confluent_kafka import Consumer, TopicPartition

        options = {"bootstrap.servers": self.settings.bootstrap_servers, "group.id": uuid.uuid4().hex}
        consumer = Consumer({**options, "isolation.level": "read_uncommitted"})
        name = TopicPartition(place.topic, place.number)
        eventually(lambda: consumer.get_watermark_offsets(name, timeout=ANSWER_S, cached=False)[1] >= count)
        consumer.close()

    def leave_open(self, name: str, topic: str, group_id: str, offsets: dict[Partition, int]) -> bool:
        from confluent_kafka import Consumer, Producer, TopicPartition

        options = {"bootstrap.servers": self.settings.bootstrap_servers}
        self.left_open = Producer({**options, "transactional.id": name})
        self.left_open.init_transactions(ANSWER_S)
        self.left_open.begin_transaction()
        self.left_open.produce(topic, b"left", b"key")
        assert self.left_open.flush(ANSWER_S) == 0
        anyone = Consumer({**options, "group.id": group_id})
        named = [TopicPartition(place.topic, place.number, offset) for place, offset in offsets.items()]
        self.left_open.send_offsets_to_transaction(named, anyone.consumer_group_metadata(), ANSWER_S)
        anyone.close()
        return True


Kit = MemoryTransactionsKit | ClusterTransactionsKit
Enter = Callable[..., Member]
Open = Callable[..., TransactionalSink]


@each_way
def kit(request: pytest.FixtureRequest) -> Kit:
    return cast("Kit", kit_of(request, MemoryTransactionsKit, ClusterTransactionsKit))


@pytest.fixture
def name() -> str:
    """A transactional id that no other test has."""
    return f"writer-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def open_as(kit: Kit) -> Iterator[Open]:
    """``open_as(name)``: a transactional sink, closed at the end."""
    sinks: list[TransactionalSink] = []

    def opened(name: str) -> TransactionalSink:
        sinks.append(kit.transactions(name))
        return sinks[-1]

    yield opened
    for sink in sinks:
        sink.close(CLOSE_S)


def owner_of(enter: Enter, topic: str) -> Member:
    """A member that owns the topic's one partition."""
    member = enter(topic)
    until(lambda: member.owned, member)
    return member


def write_after(open_as: Open, name: str, topic: str, reader: Member) -> None:
    """What a successor of the same id commits comes after all that its predecessors left: so ends the wait for it."""
    sink = open_as(name)
    sink.send(topic, Messages([b"key"], [b"after"]))
    sink.commit({}, reader.source.member(), ANSWER_S)
    until(lambda: reader.values()[-1:] == [b"after"], reader)


def test_messages_and_offsets_appear_together(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    inputs, outputs = kit.topic(), kit.topic()
    read, written = Partition(inputs, 0), Partition(outputs, 0)
    kit.append(read, numbered(5))
    member, reader = owner_of(enter, inputs), owner_of(enter, outputs)
    sink = open_as(name)
    for first in (0, 2):
        before = member.source.log_range([written], ANSWER_S)[written][1]
        sink.send(outputs, Messages([b"key"], [b"%d" % first]))
        sink.send(outputs, Messages([b"key"], [b"%d" % (first + 1)]))
        kit.await_landing(written, before + 2)
        assert member.source.log_range([written], ANSWER_S)[written][1] == before
        for _ in range(QUIET_POLLS):
            reader.step()
        assert reader.values() == numbered(first)
        assert member.source.committed([read], ANSWER_S) == {read: Committed(first) if first else None}
        sink.commit({read: first + 2}, member.source.member(), ANSWER_S)
        assert member.source.committed([read], ANSWER_S) == {read: Committed(first + 2)}
        until(partial(has_read, reader, numbered(first + 2)), reader)


def has_read(reader: Member, values: list[bytes]) -> bool:
    return reader.values() == values


def test_offsets_alone_are_a_transaction_too(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic()
    place = Partition(topic, 0)
    kit.append(place, numbered(5))
    member = owner_of(enter, topic)
    sink = open_as(name)
    for offset, note in ((3, ""), (5, "of this topic"), (1, "")):
        sink.commit({place: offset}, member.source.member(), ANSWER_S, {place: note})
        assert member.source.committed([place], ANSWER_S) == {place: Committed(offset, note)}


def test_messages_alone_are_a_transaction_too(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic()
    reader = owner_of(enter, topic)
    sink = open_as(name)
    sink.send(topic, Messages([b"key"] * 3, numbered(3)))
    sink.commit({}, reader.source.member(), ANSWER_S)
    until(lambda: reader.values() == numbered(3), reader)


def test_nothing_of_a_closed_sink_appears(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic()
    reader = owner_of(enter, topic)
    sink = open_as(name)
    sink.send(topic, Messages([b"key"] * 3, [b"unborn"] * 3))
    kit.await_landing(Partition(topic, 0), 3)
    sink.close(CLOSE_S)
    sink.close(CLOSE_S)
    write_after(open_as, name, topic, reader)
    assert reader.values() == [b"after"]


def test_closing_an_unused_sink_twice_is_safe(open_as: Open, name: str) -> None:
    sink = open_as(name)
    for _ in range(2):
        sink.close(CLOSE_S)


def test_a_second_sink_of_the_same_id_fences_the_first(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    inputs, outputs = kit.topic(), kit.topic()
    read, written = Partition(inputs, 0), Partition(outputs, 0)
    kit.append(read, numbered(5))
    member, reader = owner_of(enter, inputs), owner_of(enter, outputs)
    first = open_as(name)
    first.commit({read: 1}, member.source.member(), ANSWER_S)
    first.send(outputs, Messages([b"key"], [b"unborn"]))
    kit.await_landing(written, 1)
    second = open_as(name)
    # Readers wait no longer for what the first has left open: another one's message is readable at once.
    kit.append(written, [b"between"])
    until(lambda: reader.values() == [b"between"], reader)
    with pytest.raises(CommitRefusedError):
        first.commit({read: 4}, member.source.member(), ANSWER_S)
    with pytest.raises(CommitRefusedError):
        first.send(outputs, Messages([b"key"], [b"unborn"]))
    assert member.source.committed([read], ANSWER_S) == {read: Committed(1)}
    second.send(outputs, Messages([b"key"], [b"after"]))
    second.commit({read: 2}, member.source.member(), ANSWER_S)
    until(lambda: len(reader.values()) > 1, reader)
    assert reader.values() == [b"between", b"after"]
    assert member.source.committed([read], ANSWER_S) == {read: Committed(2)}
    first.close(CLOSE_S)
    second.commit({read: 3}, member.source.member(), ANSWER_S)
    assert member.source.committed([read], ANSWER_S) == {read: Committed(3)}


def test_what_a_dropped_sink_left_open_ends_with_the_next_open(
    kit: Kit, enter: Enter, open_as: Open, name: str
) -> None:
    inputs, outputs = kit.topic(), kit.topic()
    read = Partition(inputs, 0)
    kit.append(read, numbered(5))
    member, reader = owner_of(enter, inputs), owner_of(enter, outputs)
    open_as(name).commit({read: 1}, member.source.member(), ANSWER_S)
    if kit.leave_open(name, outputs, member.group_id, {read: 4}):
        with pytest.raises(KafkaUnavailableError):
            member.source.committed([read], SHORT_ANSWER_S)
    write_after(open_as, name, outputs, reader)
    assert member.source.committed([read], ANSWER_S) == {read: Committed(1)}
    assert reader.values() == [b"after"]


def test_a_commit_in_the_name_of_an_expelled_member_is_refused(
    kit: Kit, enter: Enter, open_as: Open, name: str
) -> None:
    inputs, outputs = kit.topic(), kit.topic()
    read = Partition(inputs, 0)
    kit.append(read, numbered(5))
    member, reader = owner_of(enter, inputs), owner_of(enter, outputs)
    sink = open_as(name)
    sink.send(outputs, Messages([b"key"], [b"unborn"]))
    old = member.source.member()
    kit.expel(member)
    with pytest.raises(CommitRefusedError):
        sink.commit({read: 4}, old, ANSWER_S)
    with pytest.raises(CommitRefusedError):
        sink.send(outputs, Messages([b"key"], [b"unborn"]))
    sink.close(CLOSE_S)
    until(lambda: member.kinds() == [Assigned, Lost, Assigned], member)
    write_after(open_as, name, outputs, reader)
    assert reader.values() == [b"after"]
    assert member.source.committed([read], ANSWER_S) == {read: None}
    open_as(name).commit({read: 3}, member.source.member(), ANSWER_S)
    assert member.source.committed([read], ANSWER_S) == {read: Committed(3)}


def test_a_commit_in_the_name_of_an_older_generation_is_refused(
    kit: Kit, enter: Enter, open_as: Open, name: str
) -> None:
    topic = kit.topic(2)
    old = enter(topic)
    until(lambda: len(old.owned) == 2, old)
    stale = old.source.member()
    new = enter(topic)
    until(lambda: len(new.owned) == 1 and len(old.owned) == 1, old, new)
    (place,) = old.owned
    if isinstance(kit, ClusterTransactionsKit):  # in memory a member has no generations
        with pytest.raises(CommitRefusedError):
            open_as(name).commit({place: 0}, stale, ANSWER_S)
    open_as(name).commit({place: 0}, old.source.member(), ANSWER_S)
    assert old.source.committed([place], ANSWER_S) == {place: Committed(0)}


def test_nothing_of_a_batch_with_a_message_too_large_appears(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    inputs, outputs = kit.topic(), kit.topic()
    read = Partition(inputs, 0)
    kit.append(read, numbered(5))
    member, reader = owner_of(enter, inputs), owner_of(enter, outputs)
    sink = open_as(name)

    def send_too_much() -> None:
        sink.send(outputs, Messages([b"small", b"large"], [b"1", LARGE]))
        sink.commit({read: 2}, member.source.member(), ANSWER_S)

    with pytest.raises(MessageRefusedError):
        send_too_much()
    with pytest.raises(DeliveryFailedError):
        sink.send(outputs, Messages([b"key"], [b"next"]))
    with pytest.raises(DeliveryFailedError):
        sink.commit({read: 2}, member.source.member(), ANSWER_S)
    sink.close(CLOSE_S)
    write_after(open_as, name, outputs, reader)
    assert reader.values() == [b"after"]
    assert member.source.committed([read], ANSWER_S) == {read: None}


def test_messages_of_a_key_keep_their_order_over_transactions(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic(3)
    sink, reader = open_as(name), enter(topic)
    until(lambda: len(reader.owned) == 3, reader)
    keys = [b"key-%d" % (number % 7) for number in range(400)]
    for first in range(0, 400, 100):
        for start in (first, first + 50):
            sink.send(topic, Messages(keys[start : start + 50], numbered(50, start)))
        sink.commit({}, reader.source.member(), ANSWER_S)
    until(lambda: len(reader.records) >= 400, reader)
    for key in set(keys):
        found = [record[3] for record in reader.records if record[2] == key]
        assert found == [value for value, its in zip(numbered(400), keys, strict=True) if its == key]


def test_bytes_nulls_and_headers_come_through(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic()
    keys = [b"a", None, b"c", b"\xff\x00"]
    values = [b"1", b"2", None, b""]
    headers: list[Headers] = [(), [("error", b"json"), ("x", b""), ("x", b"2")], (), ()]
    sink, reader = open_as(name), owner_of(enter, topic)
    sink.send(topic, Messages(keys, values, headers))
    sink.commit({}, reader.source.member(), ANSWER_S)
    until(lambda: len(reader.records) >= 4, reader)
    assert [record[2:4] for record in reader.records] == list(zip(keys, values, strict=True))
    assert [list(record[4] or ()) for record in reader.records] == [list(some) for some in headers]


def test_a_successor_of_a_killed_process_sees_nothing_of_it(kit: Kit, enter: Enter, open_as: Open, name: str) -> None:
    topic = kit.topic()
    reader = owner_of(enter, topic)
    if isinstance(kit, MemoryTransactionsKit):
        kit.transactions(name).send(topic, Messages([b"key"] * 3, [b"unborn"] * 3))
    else:
        arguments = [kit.settings.bootstrap_servers, kit.settings.client, name, topic]
        with subprocess.Popen(
            [sys.executable, "-c", DYING_WRITER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            try:
                assert writer.stdout.readline() == b"sent\n"
                kit.await_landing(Partition(topic, 0), 3)
            finally:
                writer.kill()
    write_after(open_as, name, topic, reader)
    assert reader.values() == [b"after"]


@pytest.mark.broker
def test_a_transactional_id_that_is_not_allowed_ends_the_worker() -> None:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType

    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": True,
    }
    with EmbeddedKafka(properties=rights) as kafka:
        forbidden = ResourcePattern(ResourceType.TRANSACTIONAL_ID, "forbidden")
        other = ACL("User:other", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, forbidden)
        with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
            admin.create_acls([other])
        for client in CLIENTS:
            settings = ClientSettings(kafka.bootstrap_servers, client, transactional_id="allowed")
            opened_transactions(settings).close(CLOSE_S)
            with pytest.raises(WorkerError, match=r"kafka\.security") as caught:
                open_transactional_sink(replace(settings, transactional_id="forbidden"))
            assert "forbidden" in str(caught.value)


# --- what a source owes to transactions: to go back to what was committed


def sought(member: Member, offset: int) -> None:
    """Go there with all that the member owns, and expect from it only what comes from then on."""
    member.source.seek(dict.fromkeys(member.owned, offset))
    member.positions.update(dict.fromkeys(member.owned, offset))
    member.records.clear()


@pytest.mark.parametrize("start", [0, 3, 19, 20])
def test_after_seek_records_come_from_there_on(kit: Kit, enter: Enter, start: int) -> None:
    topic = kit.topic()
    place = Partition(topic, 0)
    kit.append_transaction(place, numbered(20), commit=True)
    member = enter(topic)
    until(lambda: member.positions.get(place) == 21, member)
    sought(member, start)
    until(lambda: member.positions[place] == 21, member)
    assert member.values() == numbered(20 - start, start)


@pytest.mark.parametrize("start", [0, 7, 10, 250, 300])
def test_what_was_fetched_before_a_seek_is_not_delivered(kit: Kit, enter: Enter, start: int) -> None:
    """300 records and the end of the log wait in the client when the loop goes elsewhere: back and forward."""
    topic = kit.topic(2)
    for number in range(2):
        kit.append_transaction(Partition(topic, number), numbered(300), commit=True)
    member = enter(topic)
    until(lambda: len(member.records) >= 10 and len(member.positions) == 2, _Slow(member))
    sought(member, start)
    member.step(10)
    sought(member, start)
    until(lambda: all(position == 301 for position in member.positions.values()), member)
    assert [member.values(number) for number in range(2)] == [numbered(300 - start, start)] * 2


class _Slow(Member):
    """Takes a few records at a time, so that most stay in the client."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def step(self, max_records: int = 100, timeout_s: float | None = None) -> int:
        return self._member.step(3, timeout_s)


def test_many_seeks_lose_and_repeat_nothing(kit: Kit, enter: Enter) -> None:
    topic = kit.topic(2)
    for number in range(2):
        for count, commit in ((40, True), (5, False), (40, True), (3, False)):
            kit.append_transaction(Partition(topic, number), numbered(count), commit)
    member = enter(topic)
    until(lambda: all(member.positions.get(Partition(topic, number)) == 92 for number in range(2)), member)
    whole = [(record[1], record[3]) for record in member.records if record[0] == 0]
    for turn in range(30):
        start = turn * 37 % 93
        sought(member, start)
        for _ in range(turn % 4):
            member.step(1 + turn % 7, STEP_S * (turn % 2))
        if turn % 5 == 0:
            until(lambda: all(position >= 92 for position in member.positions.values()), member)
            for number in range(2):
                found = [(record[1], record[3]) for record in member.records if record[0] == number]
                assert found == [each for each in whole if each[0] >= start], (turn, start)


def test_seek_passes_over_what_is_not_owned(kit: Kit, enter: Enter) -> None:
    topic = kit.topic(2)
    for number in range(2):
        kit.append(Partition(topic, number), numbered(4))
    first, second = enter(topic), enter(topic)
    until(lambda: len(first.owned) == 1 and len(second.owned) == 1, first, second)
    until(lambda: len(first.records) + len(second.records) >= 8, first, second)
    until(lambda: set(first.positions) >= first.owned and set(second.positions) >= second.owned, first, second)
    mine, other = next(iter(first.owned)), next(iter(second.owned))
    first.source.seek({mine: 1, other: 1, Partition("elsewhere", 0): 1})
    first.records.clear()
    first.positions[mine] = 1
    until(lambda: first.positions[mine] == 4, first, second)
    assert first.values(mine.number) == numbered(3, 1)
    assert first.values(other.number) == []


def test_after_a_seek_a_rebalance_works(kit: Kit, enter: Enter) -> None:
    topic = kit.topic(4)
    for number in range(4):
        kit.append(Partition(topic, number), numbered(30))
    old = enter(topic)
    until(lambda: len(old.records) >= 120, old)
    sought(old, 10)
    new = enter(topic)
    for _ in range(15):  # long enough for the group to ask the old member, which does not listen yet
        new.step()
    sought(old, 20)
    until(lambda: len(new.owned) == 2 and len(old.owned) == 2, old, new)
    until(lambda: all(old.positions[place] == 30 for place in old.owned), old, new)
    until(lambda: all(new.positions[place] == 30 for place in new.owned), old, new)
    for place in old.owned:
        assert old.values(place.number) == numbered(10, 20)
    [given] = [event for event in old.events if isinstance(event, Revoked)]
    assert set(given.partitions) == new.owned
    for place in new.owned:
        assert new.begun[place] == [old.positions[place]]
        assert old.values(place.number) + new.values(place.number) == numbered(10, 20)
    close_all([new])
    until(lambda: len(old.owned) == 4, old)


def test_offsets_by_time(kit: Kit, enter: Enter) -> None:
    topic = kit.topic(2)
    full, empty = Partition(topic, 0), Partition(topic, 1)
    now_ms = int(time.time() * 1000)
    first_ms, late_ms = now_ms - 1_800_000, now_ms + 1_800_000  # Kafka takes nothing from much later than now
    kit.append_at(full, [first_ms + later for later in (0, 10, 10, 10, 30)])
    source = enter(topic).source
    asked = {-1000: 0, 0: 0, 1: 1, 10: 1, 11: 4, 30: 4, 31: 5, 20_000: 5}
    found = {later: source.offsets_at([full, empty], first_ms + later, ANSWER_S) for later in asked}
    assert found == {later: {full: offset, empty: 0} for later, offset in asked.items()}
    assert source.offsets_at([], first_ms, ANSWER_S) == {}
    kit.truncate(full, 3)
    assert source.offsets_at([full], first_ms, ANSWER_S) == {full: 3}
    kit.append_transaction(full, numbered(2), commit=False)
    eventually(lambda: source.log_range([full], ANSWER_S)[full][1] == 8)  # the marker is there
    kit.append_at(full, [late_ms])
    assert source.offsets_at([full], late_ms, ANSWER_S) == {full: 8}
    assert 5 <= source.offsets_at([full], first_ms + 31, ANSWER_S)[full] <= 8  # what was aborted may count or not
    assert source.offsets_at([full], late_ms + 1, ANSWER_S) == {full: 9}
