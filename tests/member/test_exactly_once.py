"""Exactly once on the broker in memory: a turn and its outputs are one transaction, or the turn has never been."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.one_member import AWAY, COMMIT_S, DEAD, P0, P1, Cluster, Member
from worker.errors import CommitRefusedError, DeliveryFailedError, KafkaUnavailableError, WorkerError
from worker.kafka.memory.sinks import MemoryTransactions
from worker.kafka.memory.source import MemorySource
from worker.member.delivery import ExactlyOnce
from worker.member.limits import LoopLimits
from worker.records.messages import Messages

REFUSED = CommitRefusedError("the group has moved on")
TOO_LARGE = DeliveryFailedError("too large")
ROWS = [(0, b"a", 1), (0, b"a", 2), (1, b"b", 10), (0, b"a", 4), (1, b"b", 20)]
SUMS = [(0, 0, 1, 1.0), (0, 1, 2, 3.0), (0, 2, 3, 7.0), (1, 0, 1, 10.0), (1, 1, 2, 30.0)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, ROWS)


def sums(cluster: Cluster) -> list[tuple[int, int, int, float]]:
    """(partition, offset, step, sum) of each output."""
    return sorted(row[:4] for row in cluster.sums())


def test_a_turn_is_committed_with_its_outputs(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True)
    member.turn()
    assert sums(cluster) == SUMS
    assert (cluster.committed(P0), cluster.committed(P1)) == (3, 2)


def test_positions_without_outputs_are_committed_when_a_commit_is_due(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True)
    member.turn()
    cluster.broker.add_gap(P0, 7)
    member.turn()
    assert cluster.committed(P0) == 3
    member.turn(after_s=COMMIT_S)
    assert cluster.committed(P0) == 10


def test_a_dead_letter_is_part_of_the_transaction(cluster: Cluster) -> None:
    cluster.write([(0, b"a", b"{")])
    cluster.broker.fail("commit_transaction", AWAY)
    member = Member(cluster, exactly_once=True)
    member.turn()
    assert (sums(cluster), cluster.dead()) == ([], [])
    member.drain()
    assert (sums(cluster), cluster.dead()) == (SUMS, [("not_json", 0, 3)])


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("send", AWAY), ("send", TOO_LARGE),
        ("commit_transaction", AWAY), ("commit_transaction", REFUSED), ("commit_transaction", TOO_LARGE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("then", [None, "open", "committed", "log_range", "topic"])
def test_after_a_failure_the_states_are_those_of_the_last_commit(
    cluster: Cluster, operation: str, error: Exception, times: int, then: str | None
) -> None:
    """Also when going back fails at first."""
    member = Member(cluster, exactly_once=True)
    member.turn(records=2)
    cluster.broker.fail(operation, error, times)
    if then is not None:
        cluster.broker.fail(then, AWAY, 2)
    member.drain()
    assert sums(cluster) == SUMS
    assert member.value("rollbacks_total") == times
    assert member.value("commits_total", result="failed") == times
    assert {place: states[key][-1] for place, key in ((P0, "a"), (P1, "b")) for states in [member.states(place)]} == {
        P0: [7.0], P1: [30.0]
    }  # fmt: skip


def test_a_commit_whose_answer_is_lost_is_found_to_be_one(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True)
    member.source.unanswered = 1
    member.turn()
    assert sums(cluster) == SUMS
    member.drain()
    assert sums(cluster) == SUMS
    cluster.write([(0, b"a", 8)])
    member.drain()
    assert sums(cluster)[3] == (0, 3, 4, 15.0)


@pytest.mark.parametrize("then", ["open", "committed", "log_range"])
def test_partitions_lost_while_going_back_fails_are_not_loaded_again(cluster: Cluster, then: str) -> None:
    """The member learns of it although it can't go back yet: only then may it be able to."""
    member = Member(cluster, exactly_once=True)
    member.turn(records=1)
    cluster.broker.fail("commit_transaction", AWAY)
    member.turn()
    cluster.broker.fail(then, AWAY, 2)
    member.turn()
    cluster.broker.rebalance(member.source, lost=[P0], revoked=[P0])
    assert member.turn() is None
    assert member.value("rebalances_total", type="lost") == 1
    member.drain()
    assert member.owned() == {P1}
    assert [row for row in sums(cluster) if row[0] == 1] == SUMS[3:]
    other = Member(cluster, exactly_once=True)
    cluster.broker.rebalance(other.source, assigned=[P0])
    for each in (member, other, member, other):
        each.turn(after_s=COMMIT_S)
    assert sums(cluster) == SUMS


def test_nothing_of_a_crash_is_seen(cluster: Cluster) -> None:
    first = Member(cluster, exactly_once=True)
    first.turn(records=3)
    before = sums(cluster)
    cluster.broker.fail("commit_transaction", AWAY)
    first.turn()
    first.crash()
    assert sums(cluster) == before
    Member(cluster, exactly_once=True).drain()
    assert sums(cluster) == SUMS


def test_a_paused_member_that_wakes_up_does_no_harm(cluster: Cluster) -> None:
    """It was replaced while it slept, in the middle of a turn: its transaction is refused, and it lets go."""
    sleeper = Member(cluster, exactly_once=True)
    sleeper.turn(records=1)
    cluster.broker.expel(sleeper.source)
    other = Member(cluster, exactly_once=True)
    other.drain()
    assert sums(cluster) == SUMS
    files = cluster.checkpoints(P0)
    cluster.write([(0, b"a", 8), (1, b"b", 40)])
    for _ in range(6):
        sleeper.turn(after_s=COMMIT_S)
        other.turn(after_s=COMMIT_S)
    assert sorted([*sleeper.owned(), *other.owned()]) == [P0, P1]
    assert sums(cluster) == sorted([*SUMS, (0, 3, 4, 15.0), (1, 2, 3, 70.0)])
    assert set(files) <= set(cluster.checkpoints(P0))


def test_an_output_that_can_never_be_written_ends_the_worker(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True, commit_refused_s=60.0)
    cluster.broker.fail("commit_transaction", TOO_LARGE, 1000)
    for _ in range(7):
        member.turn(after_s=10.0)
    with pytest.raises(WorkerError, match="commits have been refused for 60 s"):
        member.turn(after_s=10.0)
    assert cluster.broker.records(DEAD) == []


def test_a_cluster_that_is_away_for_long_ends_nothing(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True, commit_refused_s=60.0)
    cluster.broker.fail("commit_transaction", AWAY, 20)
    for _ in range(40):
        member.turn(after_s=10.0)
    assert sums(cluster) == SUMS


def test_no_checkpoint_of_a_turn_in_doubt(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True)
    member.turn(records=2)
    cluster.broker.fail("commit_transaction", AWAY)
    member.turn()
    member.checkpoint()
    member.close()
    assert sum(cluster.committed(place) or 0 for place in (P0, P1)) == 2
    assert all(at <= (cluster.committed(place) or 0) for place in (P0, P1) for at in cluster.checkpoints(place))


def test_an_orderly_end_in_doubt_commits_nothing(cluster: Cluster) -> None:
    member = Member(cluster, exactly_once=True)
    cluster.broker.fail("commit_transaction", REFUSED)
    member.turn()
    member.close()
    assert (sums(cluster), cluster.committed(P0)) == ([], None)
    Member(cluster, exactly_once=True).drain()
    assert sums(cluster) == SUMS


def test_a_new_producer_is_opened_aside_while_the_loop_goes_on_polling(cluster: Cluster) -> None:
    may_open = threading.Event()
    opened: list[MemoryTransactions] = []

    def open_sink() -> MemoryTransactions:
        if opened:
            may_open.wait()
        opened.append(MemoryTransactions(cluster.broker, "id"))
        return opened[-1]

    def is_renewed() -> bool:
        with suppress(KafkaUnavailableError):
            delivery.renew()
            return True
        return False

    delivery = ExactlyOnce(MemorySource(cluster.broker, "group"), open_sink, LoopLimits(kafka_call_s=0.01))
    assert [is_renewed() for _ in range(3)] == [False] * 3
    may_open.set()
    eventually(is_renewed)
    assert len(opened) == 2  # asked for once, however often it was waited for
    delivery.send("out", Messages([b"k"], [b"v"]))
    delivery.close(0.0)
