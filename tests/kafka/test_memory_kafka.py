"""The faults that the broker in memory makes on demand: lists in, lists out, the failure inside the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from worker.errors import CommitRefusedError, DeliveryFailedError, KafkaUnavailableError
from worker.kafka.memory.broker import MemoryBroker
from worker.kafka.memory.sinks import MemorySink
from worker.kafka.memory.source import MemorySource
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Change, Lost, Partition, Revoked

P0, P1, P2 = (Partition("in", number) for number in range(3))


class Member:
    """A source whose changes and records are written down in the order in which they came."""

    def __init__(self, broker: MemoryBroker, starts: Mapping[Partition, int] | None = None) -> None:
        self.source = MemorySource(broker, "group")
        self.seen: list[Change | tuple[int, bytes | None]] = []
        self.starts = starts or {}
        self.source.subscribe(["in"], self.react)

    def react(self, change: Change) -> dict[Partition, int]:
        self.seen.append(change)
        return {place: self.starts.get(place, 0) for place in change.partitions}

    def poll(self, max_records: int = 100) -> list[Change | tuple[int, bytes | None]]:
        """What came in this poll."""
        self.seen = []
        for batch in self.source.poll(max_records, 0.0):
            self.seen += [(batch.partition.number, value) for value in batch.values]
        return self.seen


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker({"in": 3, "out": 1})


def test_members_share_the_partitions_in_turn(broker: MemoryBroker) -> None:
    first = Member(broker)
    assert first.poll() == [Assigned((P0, P1, P2))]
    second = Member(broker)
    assert second.poll() == []  # the first has not answered yet
    assert first.poll() == [Revoked((P1,))]
    assert second.poll() == [Assigned((P1,))]
    second.source.close(0.0)
    assert second.seen[1:] == [Revoked((P1,))]
    assert first.poll() == [Assigned((P1,))]


def test_a_crashed_member_is_told_nothing_and_the_others_get_its_partitions(broker: MemoryBroker) -> None:
    first, second = Member(broker), Member(broker)
    assert (first.poll(), second.poll()) == ([Assigned((P0, P2))], [Assigned((P1,))])
    broker.crash(first.source)
    assert second.poll() == [Assigned((P0, P2))]
    assert first.seen == [Assigned((P0, P2))]
    with pytest.raises(AssertionError, match="crashed"):
        first.poll()


def test_an_expelled_member_may_not_commit_and_learns_of_its_loss_at_the_next_poll(broker: MemoryBroker) -> None:
    zombie, other = Member(broker), Member(broker)
    zombie.poll()
    other.poll()
    broker.expel(zombie.source)
    assert other.poll() == [Assigned((P0, P2))]
    with pytest.raises(CommitRefusedError):
        zombie.source.commit({P0: 1}, 0.0)
    assert broker.committed("group", P0) is None
    assert zombie.poll() == [Lost((P0, P2))]
    assert other.poll() == [Revoked((P1,))]
    assert zombie.poll() == [Assigned((P1,))]


def test_a_member_that_was_expelled_is_given_nothing_before_it_has_joined_again(broker: MemoryBroker) -> None:
    expelled, other = Member(broker), Member(broker)
    assert (expelled.poll(), other.poll()) == ([Assigned((P0, P2))], [Assigned((P1,))])
    broker.expel(expelled.source)
    broker.rebalance(expelled.source, assigned=[P0])
    broker.crash(expelled.source)
    assert other.poll() == [Assigned((P0, P2))]


def test_partitions_move_as_the_test_says(broker: MemoryBroker) -> None:
    member = Member(broker)
    member.poll()
    broker.rebalance(member.source, revoked=[P0], lost=[P2])
    assert member.poll() == [Lost((P2,)), Revoked((P0,)), Assigned((P2,))]
    assert member.poll() == []
    broker.rebalance(member.source, assigned=[P0])
    assert member.poll() == [Assigned((P0,))]


def test_a_partition_that_comes_back_starts_where_the_answer_says(broker: MemoryBroker) -> None:
    for value in (b"a", b"b", b"c"):
        broker.append("in", b"k", value, partition=0)
    member = Member(broker, {P0: 1})
    assert member.poll() == [Assigned((P0, P1, P2)), (0, b"b"), (0, b"c")]
    broker.rebalance(member.source, lost=[P0])
    member.starts = {P0: 2}
    assert member.poll() == [Lost((P0,)), Assigned((P0,)), (0, b"c")]


def test_every_partition_gets_its_turn_when_polls_are_small(broker: MemoryBroker) -> None:
    for number in range(3):
        for value in (b"1", b"2"):
            broker.append("in", b"k", value, partition=number)
    member = Member(broker)
    assert member.poll(1)[0] == Assigned((P0, P1, P2))
    assert [member.poll(1) for _ in range(5)] == [[(2, b"1")], [(0, b"1")], [(1, b"2")], [(2, b"2")], [(0, b"2")]]


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("poll", lambda source: source.poll(1, 0.0)),
        ("commit", lambda source: source.commit({P0: 0}, 0.0)),
        ("committed", lambda source: source.committed([P0], 0.0)),
        ("log_range", lambda source: source.log_range([P0], 0.0)),
        ("topic", lambda source: source.topic("in", 1)),
    ],
)
def test_a_failure_meets_the_named_operation_and_then_is_gone(
    broker: MemoryBroker, operation: str, call: Callable[[MemorySource], object]
) -> None:
    member = Member(broker)
    member.poll()
    broker.fail(operation, KafkaUnavailableError("away"), times=2)
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError, match="away"):
            call(member.source)
    call(member.source)


def test_a_failed_poll_takes_nothing(broker: MemoryBroker) -> None:
    broker.append("in", b"k", b"a", partition=0)
    member = Member(broker)
    broker.fail("poll", KafkaUnavailableError("away"))
    with pytest.raises(KafkaUnavailableError):
        member.poll()
    assert member.poll() == [Assigned((P0, P1, P2)), (0, b"a")]


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_crash_leaves_a_prefix_of_what_was_not_flushed(broker: MemoryBroker, survivors: int) -> None:
    sink = MemorySink(broker)
    sink.send("out", Messages([b"k"], [b"flushed"]))
    sink.flush(0.0)
    sink.send("out", Messages([b"k", b"k", b"k"], [b"1", b"2", b"3"]))
    sink.crash(survivors)
    assert [record.value for record in broker.records("out")] == [b"flushed", b"1", b"2", b"3"][: 1 + survivors]


def test_an_acknowledgement_can_be_late_and_the_message_written_all_the_same(broker: MemoryBroker) -> None:
    sink = MemorySink(broker)
    sink.send("out", Messages([b"k", b"k"], [b"1", b"2"]))
    broker.fail("flush", DeliveryFailedError("2 messages are not acknowledged"))
    with pytest.raises(DeliveryFailedError):
        sink.flush(0.0)
    sink.land(1)
    assert [record.value for record in broker.records("out")] == [b"1"]
    sink.flush(0.0)
    assert [record.value for record in broker.records("out")] == [b"1", b"2"]


def test_a_sink_that_was_refused_stays_so(broker: MemoryBroker) -> None:
    sink = MemorySink(broker)
    sink.send("out", Messages([b"k"], [b"1"]))
    sink.refuse("the disk of the broker is full")
    calls: list[Callable[[], object]] = [
        lambda: sink.flush(0.0),
        lambda: sink.send("out", Messages([b"k"], [b"2"])),
    ]
    for call in calls:
        with pytest.raises(DeliveryFailedError, match="disk"):
            call()
    sink.close(0.0)
    assert broker.records("out") == []


def test_a_recreated_topic_is_another_one(broker: MemoryBroker) -> None:
    broker.append("in", b"k", b"a", partition=0)
    before = broker.topic("in").id
    broker.create_topic("in", 1)
    assert broker.topic("in").id != before
    assert broker.records("in") == []
    assert broker.log_range(P0) == (0, 0)


def test_committing_what_another_owns_is_a_mistake(broker: MemoryBroker) -> None:
    first, second = Member(broker), Member(broker)
    first.poll()
    second.poll()
    with pytest.raises(AssertionError, match="in/1"):
        first.source.commit({P1: 0}, 0.0)
