"""One suite for the contracts of Source and Sink, run on memory, kafka-python and confluent-kafka."""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.reached import reached
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    OffsetOutOfRangeError,
    WorkerError,
)
from worker.kafka.contracts import Committed, Sink, Source
from worker.kafka.memory.broker import MemoryBroker
from worker.kafka.memory.sinks import MemorySink
from worker.kafka.memory.source import MemorySource
from worker.kafka.message_sizes import TopicRules
from worker.kafka.opening import ensure_topics, open_questions, open_sink, open_source, partition_count
from worker.kafka.settings import Client, ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Change, Lost, Partition, Revoked
from worker.records.record_batch import Headers

DEADLINE_S = 120.0
STEP_S = 0.2
ANSWER_S = 30.0
CLOSE_S = 20.0
NUMBERS = itertools.count(1)


class MemoryKit:
    """What the suite needs of a cluster, in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def topic(self, partitions: int = 1) -> str:
        name = f"topic-{next(NUMBERS)}"
        self.broker.create_topic(name, partitions)
        return name

    def source(self, group_id: str) -> Source:
        return MemorySource(self.broker, group_id)

    def sink(self) -> Sink:
        return MemorySink(self.broker)

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        for value in values:
            self.broker.append(partition.topic, b"key", value, partition=partition.number)

    def append_transaction(self, partition: Partition, values: Sequence[bytes], commit: bool) -> None:
        if commit:
            self.append(partition, values)
            self.broker.add_gap(partition, 1)
        else:
            self.broker.add_gap(partition, len(values) + 1)

    def make_anew(self, topic: str, partitions: int = 1) -> None:
        self.broker.create_topic(topic, partitions)

    def truncate(self, partition: Partition, start: int) -> None:
        self.broker.truncate(partition, start)

    def expel(self, member: Member) -> None:
        assert isinstance(member.source, MemorySource)
        self.broker.expel(member.source)


class ClusterKit:
    """The same on a real broker, written to and read from by one of the two clients."""

    def __init__(self, bootstrap_servers: str, client: Any) -> None:
        self.settings = ClientSettings(bootstrap_servers, client)

    def topic(self, partitions: int = 1) -> str:
        name = f"contract-{uuid.uuid4().hex[:12]}"
        reached(lambda: ensure_topics(self.settings, {name: partitions}))
        return name

    def source(self, group_id: str) -> Source:
        settings = self.settings
        return open_source(ClientSettings(settings.bootstrap_servers, settings.client, group_id))

    def sink(self) -> Sink:
        return open_sink(self.settings)

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers})
        for value in values:
            producer.produce(partition.topic, value, b"key", partition.number)
        assert producer.flush(ANSWER_S) == 0

    def append_transaction(self, partition: Partition, values: Sequence[bytes], commit: bool) -> None:
        from confluent_kafka import Producer

        options = {"bootstrap.servers": self.settings.bootstrap_servers, "transactional.id": uuid.uuid4().hex}
        producer = Producer(options)
        producer.init_transactions(ANSWER_S)
        producer.begin_transaction()
        for value in values:
            producer.produce(partition.topic, value, b"key", partition.number)
        assert producer.flush(ANSWER_S) == 0
        if commit:
            producer.commit_transaction(ANSWER_S)
        else:
            producer.abort_transaction(ANSWER_S)

    def make_anew(self, topic: str, partitions: int = 1) -> None:
        """Delete it and create it again, at once."""
        from kafka.errors import TopicAlreadyExistsError

        deadline = time.monotonic() + DEADLINE_S
        with self._admin() as admin:
            admin.delete_topics([topic])
            while True:
                try:
                    admin.create_topics({topic: {"num_partitions": partitions}}, wait_for_metadata=False)
                    break
                except TopicAlreadyExistsError:
                    assert time.monotonic() < deadline, topic

    def truncate(self, partition: Partition, start: int) -> None:
        from kafka import TopicPartition

        with self._admin() as admin:
            admin.delete_records({TopicPartition(partition.topic, partition.number): start})

    def expel(self, member: Member) -> None:
        from kafka.admin import MemberToRemove

        with self._admin() as admin:
            described = admin.describe_groups([member.group_id])[member.group_id]
            ids = [each["member_id"] for each in described["members"]]
            admin.remove_group_members(member.group_id, [MemberToRemove(member_id=each) for each in ids])

    def _admin(self) -> Any:
        from kafka import KafkaAdminClient

        return KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)


Kit = MemoryKit | ClusterKit


@dataclass
class Member:
    """A loop in small: starts at ``starts`` or the committed offsets, commits what it has read when it must go."""

    source: Source
    group_id: str
    topic: str
    starts: Mapping[int, int] = field(default_factory=dict)
    poll_s: float = STEP_S
    events: list[Change] = field(default_factory=list)
    owned: set[Partition] = field(default_factory=set)
    positions: dict[Partition, int] = field(default_factory=dict)
    begun: dict[Partition, list[int]] = field(default_factory=dict)
    records: list[tuple[int, int, bytes | None, bytes | None, Headers | None, int]] = field(default_factory=list)

    def join(self) -> Member:
        self.source.subscribe([self.topic], self.react)
        return self

    def react(self, change: Change) -> dict[Partition, int]:
        self.events.append(change)
        if isinstance(change, Assigned):
            committed = self.source.committed(change.partitions, ANSWER_S)
            begins = {place: 0 if found is None else found.offset for place, found in committed.items()}
            starts = {place: self.starts.get(place.number, begins[place]) for place in change.partitions}
            self.owned.update(change.partitions)
            self.positions.update(starts)
            for place, start in starts.items():
                self.begun.setdefault(place, []).append(start)
            return starts
        if isinstance(change, Revoked):
            self.source.commit({place: self.positions[place] for place in change.partitions}, ANSWER_S)
        self.owned.difference_update(change.partitions)
        return {}

    def step(self, max_records: int = 100, timeout_s: float | None = None) -> int:
        batches = self.source.poll(max_records, self.poll_s if timeout_s is None else timeout_s)
        assert sum(map(len, batches)) <= max_records
        for batch in batches:
            assert batch.partition in self.owned
            assert all(offset >= self.positions[batch.partition] for offset in batch.offsets)
            assert batch.offsets == sorted(set(batch.offsets))
            assert batch.next_offset > max(batch.offsets, default=-1)
            assert batch.next_offset > self.positions[batch.partition]
            self.positions[batch.partition] = batch.next_offset
            columns = (batch.offsets, batch.keys, batch.values, batch.headers, batch.timestamps)
            self.records += [(batch.partition.number, *row) for row in zip(*columns, strict=True)]
        return sum(map(len, batches))

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [record[3] for record in self.records if record[0] == partition]

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


@dataclass
class Asking(Member):
    """Asks for the topic before it answers, as the loop does."""

    def react(self, change: Change) -> dict[Partition, int]:
        self.source.topic(self.topic, ANSWER_S)
        return super().react(change)


def until(condition: Callable[[], object], *members: Member) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, [(each.events, each.positions) for each in members]
        for member in members:
            member.step()


def close_all(members: Sequence[Member]) -> None:
    """At once: a member that leaves may have to wait until the others have answered a rebalance."""
    if members and isinstance(members[0].source, MemorySource):
        for member in members:
            member.source.close(CLOSE_S)
        return
    threads = [threading.Thread(target=member.source.close, args=(CLOSE_S,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)


each_way = pytest.fixture(
    params=[
        "memory",
        pytest.param("kafka-python", marks=pytest.mark.broker),
        pytest.param("confluent", marks=pytest.mark.broker),
    ]
)


def kit_of(request: pytest.FixtureRequest, memory: Callable[[], Any], cluster: Callable[[str, Any], Any]) -> Any:
    """The kit of the way that ``each_way`` has chosen."""
    if request.param == "memory":
        return memory()
    return cluster(request.getfixturevalue("bootstrap_servers"), request.param)


@each_way
def kit(request: pytest.FixtureRequest) -> Kit:
    return cast("Kit", kit_of(request, MemoryKit, ClusterKit))


@pytest.fixture
def enter(kit: Kit) -> Iterator[Callable[..., Member]]:
    """``enter(topic, group_id=..., starts=...)``: a member that has joined; closed at the end."""
    members: list[Member] = []

    def join(
        topic: str, group_id: str | None = None, starts: Mapping[int, int] | None = None, kind: type[Member] = Member
    ) -> Member:
        group_id = group_id or f"group-{topic}"
        members.append(kind(kit.source(group_id), group_id, topic, starts or {}).join())
        return members[-1]

    yield join
    close_all(members)


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def test_records_come_in_order_and_whole(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    for number in range(2):
        kit.append(Partition(topic, number), numbered(250, 1000 * number))
    member = enter(topic)
    until(lambda: len(member.records) >= 500, member)
    assert member.values(0) == numbered(250)
    assert member.values(1) == numbered(250, 1000)
    assert member.positions == {Partition(topic, 0): 250, Partition(topic, 1): 250}
    assert member.kinds() == [Assigned]


def test_reading_starts_where_the_answer_says(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    for number in range(2):
        kit.append(Partition(topic, number), numbered(10))
    member = enter(topic, starts={0: 7, 1: 9})
    until(lambda: len(member.records) >= 4, member)
    assert member.values(0) == [b"7", b"8", b"9"]
    assert member.values(1) == [b"9"]


def test_nothing_is_delivered_before_assigned_is_answered(kit: Kit) -> None:
    topic = kit.topic()
    kit.append(Partition(topic, 0), numbered(5))
    source = kit.source(f"group-{topic}")
    asked: list[Change] = []

    def react(change: Change) -> dict[Partition, int]:
        asked.append(change)
        if len(asked) < 3:
            raise KafkaUnavailableError("no committed offset can be had now")
        return {Partition(topic, 0): 2}

    source.subscribe([topic], react)
    seen: list[tuple[int, bytes | None]] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(seen) < 3:
        assert time.monotonic() < deadline, asked
        try:
            batches = source.poll(100, STEP_S)
        except KafkaUnavailableError:
            batches = []
        seen += [(len(asked), value) for batch in batches for value in batch.values]
    assert asked == [Assigned((Partition(topic, 0),))] * 3
    assert seen == [(3, b"2"), (3, b"3"), (3, b"4")]
    source.close(CLOSE_S)


@pytest.mark.broker
def test_metadata_that_come_too_late_for_the_first_assignment_are_made_up_for(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python takes the answer to an older request for one that names its topics, and asks no more for long."""
    from kafka.cluster import ClusterMetadata
    from kafka.protocol.metadata import MetadataRequest

    kit = ClusterKit(bootstrap_servers, "kafka-python")
    topic = kit.topic()
    kit.append(Partition(topic, 0), numbered(3))
    member = Member(kit.source(f"group-{topic}"), f"group-{topic}", topic)
    ask, asking = ClusterMetadata.metadata_request, []

    def ask_for_none(cluster: ClusterMetadata) -> Any:
        asking.append(cluster)
        request = ask(cluster)
        request.topics = MetadataRequest.NO_TOPICS
        return request

    with monkeypatch.context() as older:
        older.setattr(ClusterMetadata, "metadata_request", ask_for_none)
        member.join()
        until(lambda: member.source.joined and not asking[-1].need_update, member)
    # Polls that end long before the group answers: the client then forgets a join that only metadata asked for.
    member.poll_s = 0.001
    until(lambda: member.values() == numbered(3), member)
    assert len(member.events) == 1
    close_all([member])


@pytest.mark.broker
def test_members_that_poll_for_moments_only_come_to_terms(bootstrap_servers: str) -> None:
    """All answers to their joins come between two polls."""
    kit = ClusterKit(bootstrap_servers, "kafka-python")
    topic = kit.topic(2)
    members = [Member(kit.source(f"group-{topic}"), f"group-{topic}", topic).join() for _ in range(2)]
    for member in members:
        member.poll_s = 0.001
    until(lambda: all(len(member.owned) == 1 for member in members), *members)
    close_all(members)


def test_the_answer_to_a_join_that_comes_between_two_polls_is_taken_in() -> None:
    """kafka-python joins again when it finds the answer there already, and the other members with it, by turns."""
    from kafka.future import Future

    from worker.kafka.kafka_python.ownership import Ownership

    answer = Future().success(b"partitions")
    coordinator = SimpleNamespace(
        rejoining=True, need_rejoin=lambda: True, reset_generation=lambda: None, _join_task=answer
    )
    Ownership(SimpleNamespace(_coordinator=coordinator)).resume_join()
    assert not coordinator._join_task.is_done
    heard: list[bytes] = []
    coordinator._join_task.add_callback(heard.append)
    assert heard == [b"partitions"]


def test_poll_does_not_wait_for_more_than_there_is(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic()
    member = enter(topic)
    until(lambda: member.owned, member)
    kit.append(Partition(topic, 0), numbered(3))
    until(lambda: member.records, member)
    kit.append(Partition(topic, 0), numbered(3, 3))
    # If it waited for all 1000, this test would last until its end: 10 minutes.
    while len(member.records) < 6:
        member.step(1000, 600.0)
    assert member.values() == numbered(6)


def test_no_more_records_than_asked_for_and_none_left_out(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    for number in range(2):
        kit.append(Partition(topic, number), numbered(20))
    member = enter(topic)
    deadline = time.monotonic() + DEADLINE_S
    while len(member.records) < 40 and time.monotonic() < deadline:
        member.step(3)
    assert member.values(0) == numbered(20)
    assert member.values(1) == numbered(20)


def test_what_was_committed_is_what_the_group_goes_on_from(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    first, second = Partition(topic, 0), Partition(topic, 1)
    kit.append(first, numbered(10))
    member = enter(topic)
    until(lambda: len(member.owned) == 2, member)
    assert member.source.committed([first, second], ANSWER_S) == {first: None, second: None}
    member.source.commit({first: 4}, ANSWER_S)
    assert member.source.committed([first, second], ANSWER_S) == {first: Committed(4), second: None}
    member.source.commit({first: 4, second: 0}, ANSWER_S, {first: "of this topic"})
    assert member.source.committed([first, second], ANSWER_S) == {
        first: Committed(4, "of this topic"),
        second: Committed(0),
    }
    member.source.commit({first: 3}, ANSWER_S)
    assert member.source.committed([first], ANSWER_S) == {first: Committed(3)}


def test_revoked_partitions_are_handed_over_at_the_committed_position(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(4)
    for number in range(4):
        kit.append(Partition(topic, number), numbered(60))
    old = enter(topic)
    until(lambda: len(old.records) >= 30, old)
    new = enter(topic)
    until(lambda: len(new.owned) == 2 and len(old.owned) == 2, old, new)
    until(lambda: len(old.records) + len(new.records) >= 240, old, new)
    given = [event for event in old.events if isinstance(event, Revoked)]
    assert [len(event.partitions) for event in given] == [2]
    assert Lost not in old.kinds() + new.kinds()
    assert {place.number: start for place, [start] in new.begun.items()} == {
        place.number: old.positions[place] for place in given[0].partitions
    }
    for number in range(4):
        assert old.values(number) + new.values(number) == numbered(60)


def test_a_member_without_partitions_has_joined_too(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(1)
    first = enter(topic)
    assert not first.source.joined
    until(lambda: len(first.owned) == 1, first)
    second = enter(topic)
    until(lambda: first.source.joined and second.source.joined, first, second)
    until(lambda: len(first.owned) + len(second.owned) == 1, first, second)


def test_a_member_that_leaves_hands_over_too(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    for number in range(2):
        kit.append(Partition(topic, number), numbered(30))
    old = enter(topic)
    until(lambda: len(old.records) >= 60, old)
    old.source.close(CLOSE_S)
    assert old.kinds() == [Assigned, Revoked]
    for number in range(2):
        kit.append(Partition(topic, number), numbered(5, 30))
    new = enter(topic)
    until(lambda: len(new.records) >= 10, new)
    assert [new.values(number) for number in range(2)] == [numbered(5, 30)] * 2


def test_lost_is_not_revoked(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    member = enter(topic)
    until(lambda: len(member.owned) == 2, member)
    kit.expel(member)
    with pytest.raises(CommitRefusedError):
        member.source.commit({Partition(topic, 0): 0}, ANSWER_S)
    until(lambda: len(member.begun.get(Partition(topic, 0), [])) == 2, member)
    assert member.kinds() == [Assigned, Lost, Assigned]
    assert set(member.events[1].partitions) == {Partition(topic, 0), Partition(topic, 1)}
    kit.append(Partition(topic, 0), numbered(3))
    until(lambda: len(member.records) >= 3, member)
    assert member.values() == numbered(3)


def test_log_range_tells_start_and_end(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(2)
    full, empty = Partition(topic, 0), Partition(topic, 1)
    kit.append(full, numbered(10))
    member = enter(topic)
    assert member.source.log_range([full, empty], ANSWER_S) == {full: (0, 10), empty: (0, 0)}
    kit.truncate(full, 4)
    assert member.source.log_range([full], ANSWER_S) == {full: (4, 10)}


@pytest.mark.parametrize(
    ("transactions", "wanted"),
    [
        ([(3, True)], [b"0", b"1", b"2"]),
        ([(3, False)], []),
        ([(2, True), (2, False), (1, True), (4, False)], [b"0", b"1", b"0"]),
    ],
    ids=["marker at the end", "nothing but a gap", "mixed"],
)
def test_gaps_move_the_position(
    kit: Kit, enter: Callable[..., Member], transactions: list[tuple[int, bool]], wanted: list[bytes]
) -> None:
    topic = kit.topic()
    place = Partition(topic, 0)
    for count, commit in transactions:
        kit.append_transaction(place, numbered(count), commit)
    end = sum(count + 1 for count, _ in transactions)
    member = enter(topic)
    until(lambda: member.positions.get(place) == end, member)
    assert member.values() == wanted
    assert member.source.log_range([place], ANSWER_S) == {place: (0, end)}


def test_bytes_nulls_and_headers_come_through(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic()
    keys = [b"a", None, b"c", b"\xff\x00", b"e"]
    values = [b"1", b"2", None, b"\x00\xfe", b""]
    headers: list[Headers] = [(), (), (), [("worker-command", b"reset"), ("x", b""), ("x", b"2")], ()]
    sink = kit.sink()
    sink.send(topic, Messages(keys, values, headers))
    sink.send(topic, Messages([b"f"], [b"6"]))
    sink.flush(ANSWER_S)
    sink.close(CLOSE_S)
    member = enter(topic)
    until(lambda: len(member.records) >= 6, member)
    assert [record[2:4] for record in member.records] == list(zip([*keys, b"f"], [*values, b"6"], strict=True))
    assert [list(record[4] or ()) for record in member.records] == [list(some) for some in headers] + [[]]
    assert all(isinstance(record[5], int) for record in member.records)


def test_flush_makes_durable_and_keeps_the_order_of_each_key(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic(3)
    sink = kit.sink()
    keys = [b"key-%d" % (number % 7) for number in range(700)]
    for first in range(0, 700, 100):
        sink.send(topic, Messages(keys[first : first + 100], numbered(100, first)))
    sink.flush(ANSWER_S)
    member = enter(topic)
    places = [Partition(topic, number) for number in range(3)]
    assert sum(end for _, end in member.source.log_range(places, ANSWER_S).values()) == 700
    until(lambda: len(member.records) >= 700, member)
    for key in set(keys):
        found = [record[3] for record in member.records if record[2] == key]
        assert found == [value for value, its in zip(numbered(700), keys, strict=True) if its == key]
    sink.close(CLOSE_S)


def test_a_sink_says_when_all_is_acknowledged_and_what_is_not(kit: Kit) -> None:
    topic = kit.topic()
    sink = kit.sink()
    assert sink.acknowledged(0.0)
    sink.send(topic, Messages([b"key"] * 100, numbered(100)))
    if isinstance(kit, MemoryKit):  # where nothing happens by itself
        assert not sink.acknowledged(0.0)
        assert (sink.facts().messages, sink.facts().bytes) == (100, sum(map(len, numbered(100))) + 300)
        sink.flush(ANSWER_S)
    assert sink.acknowledged(ANSWER_S)
    assert (sink.facts().messages, sink.facts().bytes) == (0, 0)
    sink.close(CLOSE_S)


def test_a_failure_seen_by_a_measurement_is_raised_all_the_same(kit: Kit) -> None:
    topic = kit.topic()
    sink = kit.sink()
    with suppress(MessageRefusedError):  # some clients look at the size before they take a message
        sink.send(topic, Messages([b"small", b"large"], [b"1", b"x" * 1_100_000]))
    assert not sink.acknowledged(ANSWER_S)
    assert sink.facts().messages >= 0
    with pytest.raises(DeliveryFailedError):
        sink.flush(ANSWER_S)
    sink.close(CLOSE_S)


def test_clients_measure_the_way_to_the_brokers(kit: Kit) -> None:
    if isinstance(kit, MemoryKit):
        return  # there is no way
    topic = kit.topic()
    sink = kit.sink()
    deadline = time.monotonic() + DEADLINE_S
    while not sink.facts().latency_s and time.monotonic() < deadline:
        sink.send(topic, Messages([b"key"], [b"1"]))
        sink.flush(ANSWER_S)
        time.sleep(STEP_S)
    ((broker, latency_s),) = sink.facts().latency_s.items()
    assert broker.isdigit()
    assert 0 < latency_s < ANSWER_S
    sink.close(CLOSE_S)


def has_read(member: Member, records: int) -> bool:
    return len(member.records) >= records


def test_a_poll_for_no_records_reads_none_and_skips_none(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic()
    member = enter(topic)
    until(lambda: member.owned, member)
    for number in range(3):
        kit.append(Partition(topic, 0), numbered(2))
        assert [member.step(0) for _ in range(5)] == [0] * 5
        until(partial(has_read, member, 2 * number + 2), member)
    assert member.values() == numbered(2) * 3


def test_a_refused_message_fails_the_sink_for_good(kit: Kit) -> None:
    topic = kit.topic()
    sink = kit.sink()

    def send_too_much() -> None:
        sink.send(topic, Messages([b"small", b"large"], [b"1", b"x" * 1_100_000]))
        sink.flush(ANSWER_S)

    with pytest.raises(MessageRefusedError):
        send_too_much()
    with pytest.raises(DeliveryFailedError):
        sink.send(topic, Messages([b"next"], [b"1"]))
    with pytest.raises(DeliveryFailedError):
        sink.flush(ANSWER_S)
    sink.close(CLOSE_S)


def test_closing_twice_is_safe(kit: Kit) -> None:
    source, sink = kit.source("closing"), kit.sink()
    for each in (source, source, sink, sink):
        each.close(CLOSE_S)


def test_a_position_below_the_log_is_an_error(kit: Kit, enter: Callable[..., Member]) -> None:
    topic = kit.topic()
    place = Partition(topic, 0)
    kit.append(place, numbered(10))
    kit.truncate(place, 6)
    member = enter(topic, starts={0: 2})
    with pytest.raises(OffsetOutOfRangeError) as caught:
        until(lambda: member.records, member)
    assert str(caught.value.partition) == str(place)
    assert member.records == []


def test_a_topic_has_an_id_of_its_own(kit: Kit) -> None:
    topics = [kit.topic(), kit.topic()]
    source = kit.source("ids")
    ids = [source.topic(topic, ANSWER_S).id for topic in (*topics, *topics)]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    source.close(CLOSE_S)


@pytest.mark.broker
@pytest.mark.parametrize("records", [4, 9])
def test_a_topic_made_anew_is_another_log(kit: Kit, enter: Callable[..., Member], records: int) -> None:
    """Shorter than the position in the old one, or longer: it is read from where the answer to Assigned says."""
    topic = kit.topic(2)
    first, second = Partition(topic, 0), Partition(topic, 1)
    kit.append(first, numbered(6))
    kit.append(second, numbered(2))
    member = enter(topic, starts={0: 0, 1: 0}, kind=Asking)
    until(lambda: len(member.records) == 8, member)
    seen = len(member.events)
    kit.make_anew(topic, 2)
    fresh = [b"new %d" % number for number in range(records)]
    kit.append(first, fresh)
    until(lambda: member.values(0)[-1] == fresh[-1] and member.begun[second] == [0, 0], member)
    assert member.values(0) == [*numbered(6), *fresh]
    assert [record[1] for record in member.records if record[0] == 0] == [*range(6), *range(records)]
    assert member.values(1) == numbered(2)
    kit.append(second, [b"later"])
    until(lambda: member.values(1) == [*numbered(2), b"later"], member)
    changes = member.events[seen:]
    assert isinstance(changes[0], Lost | Revoked)
    assert isinstance(changes[-1], Assigned)
    assert sum(len(change.partitions) for change in changes if isinstance(change, Assigned)) == 2


def test_a_truncation_that_was_found_before_a_seek_is_no_error(bootstrap_servers: str) -> None:
    """kafka-python tells it at its next poll, and says of which position only that it was beyond."""
    from kafka import TopicPartition
    from kafka.errors import LogTruncationError, OffsetOutOfRangeError
    from kafka.structs import OffsetAndMetadata

    kit = ClusterKit(bootstrap_servers, "kafka-python")
    topic = kit.topic()
    name, place = TopicPartition(topic, 0), Partition(topic, 0)
    kit.append(place, numbered(6))
    member = Member(kit.source(f"group-{topic}"), f"group-{topic}", topic, {0: 4}).join()
    try:
        until(lambda: len(member.records) == 2, member)
        connection = cast("Any", member.source)._connection
        found = {at: LogTruncationError({name: OffsetAndMetadata(at, "", 0)}) for at in (5, 6)}
        assert {at: connection.is_behind(error) for at, error in found.items()} == {5: False, 6: True}
        assert not connection.is_behind(LogTruncationError({name: None}))
        assert not connection.is_behind(OffsetOutOfRangeError({name: 6}))
    finally:
        member.source.close(CLOSE_S)


def over_a_topic_made_anew(kit: ClusterKit, options: dict[str, Any]) -> Member:
    """A member that has read six records of a topic, and the six that came after it was made anew."""
    topic = kit.topic()
    kit.append(Partition(topic, 0), numbered(6))
    settings = replace(kit.settings, group_id=f"group-{topic}", consumer=options)
    member = Asking(open_source(settings), settings.group_id, topic, {0: 0}).join()
    try:
        until(lambda: len(member.records) == 6, member)
        kit.make_anew(topic)
        kit.append(Partition(topic, 0), numbered(6))
        until(lambda: len(member.records) == 12, member)
    finally:
        member.source.close(CLOSE_S)
    return member


@pytest.mark.broker
def test_kafka_python_reads_old_brokers_by_the_names_of_topics(bootstrap_servers: str) -> None:
    """Those before Kafka 3.1. A topic made anew is seen within seconds."""
    kit = ClusterKit(bootstrap_servers, "kafka-python")
    member = over_a_topic_made_anew(kit, {"api_version": (3, 0)})
    assert member.values() == numbered(6) * 2


@pytest.mark.broker
@pytest.mark.parametrize("blind", ["its log says nothing", "the user asks for another part of it"])
def test_where_confluent_does_not_say_the_ids_of_topics_they_are_asked_for(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """Of another release of the client nobody knows the words; it takes a few seconds then."""
    options: dict[str, Any] = {}
    if "user" in blind:
        options = {"debug": "conf"}
    else:
        monkeypatch.setattr("worker.kafka.confluent.topic_ids._CHANGED", re.compile("not these words"))
    kit = ClusterKit(bootstrap_servers, "confluent")
    member = over_a_topic_made_anew(kit, options)
    assert member.begun[Partition(member.topic, 0)] == [0, 0]
    assert member.values() == numbered(6) * 2


def test_both_clients_agree_on_partitions_and_topic_ids(bootstrap_servers: str) -> None:
    kits = [ClusterKit(bootstrap_servers, client) for client in ("kafka-python", "confluent")]
    topic = kits[0].topic(5)
    keys = [b"device-%d" % number for number in range(200)] + [b"", b"\x80\xff", "Zürich".encode()]
    for kit in kits:
        sink = kit.sink()
        sink.send(topic, Messages(keys, [b"1"] * len(keys)))
        sink.flush(ANSWER_S)
        sink.close(CLOSE_S)
    member = Member(kits[1].source(f"group-{topic}"), f"group-{topic}", topic).join()
    until(lambda: len(member.records) >= 2 * len(keys), member)
    places = {key: {record[0] for record in member.records if record[2] == key} for key in keys}
    assert {key: len(numbers) for key, numbers in places.items()} == dict.fromkeys(keys, 1)
    other = kits[0].source("ids")
    assert other.topic(topic, ANSWER_S) == member.source.topic(topic, ANSWER_S)
    other.close(CLOSE_S)
    member.source.close(CLOSE_S)


@pytest.mark.broker
def test_topics_are_created_once_and_counted(bootstrap_servers: str) -> None:
    settings = ClientSettings(bootstrap_servers)
    name = f"counted-{uuid.uuid4().hex[:12]}"
    assert partition_count(settings, name) is None
    ensure_topics(settings, {name: 3})
    ensure_topics(settings, {name: 5})
    assert partition_count(settings, name) == 3


@pytest.mark.broker
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_missing_topic_has_no_id(bootstrap_servers: str, client: Any) -> None:
    source = open_source(ClientSettings(bootstrap_servers, client))
    with pytest.raises(WorkerError, match="topic 'missing' does not exist"):
        source.topic("missing", ANSWER_S)
    source.close(CLOSE_S)


def test_an_unreachable_cluster_is_unavailable_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    settings = ClientSettings(
        "127.0.0.1:9",
        consumer={"bootstrap_timeout_ms": 300},
        producer={"bootstrap_timeout_ms": 300},
    )
    for opened in (open_source, open_sink):
        with pytest.raises(KafkaUnavailableError):
            opened(settings)
    deadline = time.monotonic() + DEADLINE_S
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) - before == set()


def test_an_unreachable_cluster_is_unavailable_to_confluent() -> None:
    from worker.kafka.confluent.sink import ConfluentSink
    from worker.kafka.confluent.source import ConfluentSource

    settings = ClientSettings("127.0.0.1:9", "confluent")
    for opened in (ConfluentSource, ConfluentSink):
        with pytest.raises(KafkaUnavailableError):
            opened(settings, connect_timeout_s=0.3)


@pytest.mark.broker
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_stuck_client_is_replaced(bootstrap_servers: str, client: Any) -> None:
    from worker.kafka.confluent.source import ConfluentSource
    from worker.kafka.kafka_python.source import KafkaPythonSource

    kit = ClusterKit(bootstrap_servers, client)
    topic = kit.topic()
    place = Partition(topic, 0)
    seconds = itertools.count(step=6)  # each look at the clock is 6 s after the one before
    settings = ClientSettings(bootstrap_servers, client, group_id=topic)
    kind: Any = ConfluentSource if client == "confluent" else KafkaPythonSource
    source = kind(settings, monotonic=lambda: float(next(seconds)))
    member = Member(source, topic, topic).join()
    until(lambda: member.owned, member)
    for _ in range(10):
        member.step()
    assert source.rebuilds == 0
    consumer = source._consumer if client == "confluent" else source._connection.consumer
    assigned = consumer.assignment()
    if client == "confluent":
        consumer.pause(assigned)
    else:
        consumer.pause(*assigned)
    kit.append(place, numbered(3))
    until(lambda: len(member.records) >= 3, member)
    assert member.values() == numbered(3)
    assert member.kinds() == [Assigned, Lost, Assigned]
    assert source.rebuilds == 1
    source.close(CLOSE_S)


@pytest.mark.broker
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_second_process_with_the_same_instance_id_ends_the_first(bootstrap_servers: str, client: Any) -> None:
    topic = ClusterKit(bootstrap_servers, client).topic()
    settings = ClientSettings(bootstrap_servers, client, group_id=topic, instance_id="worker-0")
    first = Member(open_source(settings), topic, topic).join()
    until(lambda: first.owned, first)
    second = Member(open_source(settings), topic, topic).join()
    until(lambda: second.owned, second)
    with pytest.raises(CommitRefusedError):
        first.source.commit({Partition(topic, 0): 0}, ANSWER_S)
    second.source.commit({Partition(topic, 0): 0}, ANSWER_S)
    with pytest.raises(WorkerError, match="instance_id 'worker-0' is in use"):
        until(lambda: False, first)
    first.source.close(CLOSE_S)
    assert first.kinds() == [Assigned, Lost]
    second.source.close(CLOSE_S)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_topic_says_what_it_takes(bootstrap_servers: str, client: Client) -> None:
    from kafka.admin import KafkaAdminClient

    topics = {
        f"rules-{client}": (
            {"max.message.bytes": "50000", "cleanup.policy": "compact"},
            TopicRules(50_000, compacted=True),
        ),
        f"no-rules-{client}": ({}, TopicRules(1_048_588, compacted=False)),
    }
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        wanted = {name: {"num_partitions": 1, "configs": configuration} for name, (configuration, _) in topics.items()}
        admin.create_topics(wanted, wait_for_metadata=True)
    with open_questions(ClientSettings(bootstrap_servers, client=client), ANSWER_S) as cluster:
        for name, (_, rules) in topics.items():
            assert cluster.rules(name) == rules
        assert cluster.rules("not-there") == TopicRules()


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_what_the_broker_refuses_is_told_as_the_messages_own_fault(bootstrap_servers: str, client: Client) -> None:
    from kafka.admin import KafkaAdminClient

    name = f"refuses-{client}"
    rules = {"max.message.bytes": "50000", "cleanup.policy": "compact"}
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        admin.create_topics({name: {"num_partitions": 1, "configs": rules}}, wait_for_metadata=True)
    for key, value, too_large in ((b"k", b"v" * 60_000, True), (None, b"v", False)):
        sink = open_sink(ClientSettings(bootstrap_servers, client=client))

        def send(key: bytes | None = key, value: bytes = value, sink: Sink = sink) -> None:
            sink.send(name, Messages([key], [value]))
            sink.flush(ANSWER_S)

        with pytest.raises(MessageRefusedError) as refused:
            send()
        assert refused.value.too_large == too_large
        sink.close(CLOSE_S)
