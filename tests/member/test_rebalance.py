"""Partitions on the move: committed and saved by the one who gives, taken up where that ended by the one who gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_member import AWAY, CHECKPOINT_S, COMMIT_S, GROUP, IN, P0, P1, Cluster, Member, Row
from worker.errors import CommitRefusedError, WorkerError
from worker.member.recovery_policy import RecoveryPolicy
from worker.records.ownership import Partition

FAIL = RecoveryPolicy("fail")  # nothing but a checkpoint will do
BOTH = [(0, b"a", 1), (1, b"b", 1)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, BOTH)


def steps(cluster: Cluster) -> list[tuple[int, int, int, float]]:
    """(partition, offset, step, sum) of each output."""
    return sorted(output[:4] for output in cluster.sums())


def wanted(count: int) -> list[tuple[int, int, int, float]]:
    return [(number, offset, offset + 1, offset + 1.0) for number in (0, 1) for offset in range(count)]


def test_one_two_one_without_a_repeat(cluster: Cluster) -> None:
    first = Member(cluster, policy=FAIL)
    first.drain()
    second = Member(cluster, policy=FAIL)
    cluster.write(BOTH)
    assert second.turn() == 0  # the first has not answered yet
    first.turn()  # gives P1 before it reads
    second.turn()
    assert (first.owned(), second.owned()) == ({P0}, {P1})
    first.drain()
    second.drain()
    cluster.write(BOTH)
    second.turn()  # read and sent, neither flushed nor committed
    second.close()
    assert (cluster.committed(P1), cluster.checkpoints(P1)) == (3, [0, 1, 3])
    first.drain()
    cluster.write(BOTH)
    first.drain()
    assert first.owned() == {P0, P1}
    assert steps(cluster) == wanted(4)


def test_what_is_revoked_is_committed_and_saved_within_react(cluster: Cluster) -> None:
    member = Member(cluster, policy=FAIL)
    member.turn()
    cluster.broker.rebalance(member.source, revoked=[P1])
    assert (cluster.outputs(), cluster.committed(P1), cluster.checkpoints(P1)) == ([], None, [0])
    member.turn()  # no time has passed: neither commit nor checkpoint is due
    assert (len(cluster.outputs()), cluster.committed(P1), cluster.checkpoints(P1)) == (2, 1, [0, 1])
    assert cluster.checkpoints(P0) == [0]  # committed with the other, and in no hurry
    assert set(member.worker.pipeline.engine.table.partitions) == {P0}


@pytest.mark.parametrize("error", [AWAY, CommitRefusedError("too late")])
def test_what_is_revoked_and_can_not_be_committed_is_repeated_by_the_next_owner(
    cluster: Cluster, error: Exception
) -> None:
    first, second = Member(cluster), Member(cluster)
    first.turn()
    second.turn()
    cluster.broker.rebalance(second.source, assigned=[P0])
    cluster.broker.fail("commit", error)
    first.turn()
    assert (cluster.committed(P0), cluster.checkpoints(P0), first.owned()) == (None, [], set())
    second.drain()
    assert steps(cluster) == [(0, 0, 1, 1.0), *wanted(1)]


def test_what_is_lost_is_neither_committed_nor_saved(cluster: Cluster) -> None:
    first, second = Member(cluster), Member(cluster)
    first.turn()
    second.turn()
    assert (first.owned(), second.owned()) == ({P0}, {P1})
    cluster.broker.expel(first.source)
    second.drain()
    cluster.write(BOTH)
    second.drain()
    with pytest.raises(AssertionError, match="not at the end"):
        first.drain()  # joins again and gets a partition, at the position that the other has committed
    assert (cluster.committed(P0), cluster.committed(P1)) == (2, 2)
    assert [offsets for offsets, _ in first.source.commits] == []
    assert set(steps(cluster)) == set(wanted(2))


def test_a_member_that_was_away_too_long_can_do_no_harm(cluster: Cluster) -> None:
    zombie, other = Member(cluster, policy=FAIL), Member(cluster, policy=FAIL)
    zombie.turn()
    other.turn()
    cluster.broker.expel(zombie.source)
    other.drain()
    other.checkpoint()
    zombie.checkpoint()  # as if it had been paused here
    assert (cluster.committed(P0), cluster.checkpoints(P0)) == (1, [0, 1])
    cluster.write(BOTH)
    other.drain()
    zombie.turn(after_s=COMMIT_S)
    other.turn()
    assert cluster.committed(P0) == 2
    assert set(steps(cluster)) == set(wanted(2))  # the zombie's outputs are late, and say the same


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_a_partition_that_comes_back_does_not_find_its_old_states(cluster: Cluster, how: str) -> None:
    first, second = Member(cluster, policy=FAIL), Member(cluster, policy=FAIL)
    for member in (first, second):
        member.turn()
        member.turn(after_s=COMMIT_S)
    cluster.write(BOTH)
    first.turn()  # not committed
    if how == "lost":
        first.checkpoint()
        cluster.write(BOTH)
        first.turn()
        cluster.broker.rebalance(first.source, lost=[P0])
    cluster.broker.rebalance(second.source, assigned=[P0])
    first.turn()
    second.drain()
    cluster.write([(0, b"a", 100)])
    second.drain()
    cluster.broker.rebalance(first.source, assigned=[P0])
    second.turn()
    first.drain()
    cluster.write([(0, b"a", 1)])
    first.drain()
    sums = {offset: total for number, offset, _, total, _ in cluster.sums() if number == 0}
    live = 2 if how == "revoked" else 3
    assert [sums[offset] for offset in sorted(sums)] == [*range(1, live + 1), live + 100.0, live + 101.0]


def test_a_partition_that_is_lost_and_back_at_once_begins_at_the_last_commit(cluster: Cluster) -> None:
    member = Member(cluster)
    member.drain()
    member.checkpoint()
    cluster.write(BOTH)
    member.turn()
    cluster.broker.rebalance(member.source, lost=[P0])
    member.drain()
    assert steps(cluster) == [(0, 0, 1, 1.0), (0, 1, 2, 2.0), (0, 1, 2, 2.0), *wanted(2)[2:]]
    assert [output[4] for output in cluster.sums() if output[0] == 0] == ["live", "live", "restored"]


def test_a_rebalance_during_a_replay(cluster: Cluster) -> None:
    cluster.write(BOTH * 5)
    first = Member(cluster)
    first.drain()
    first.crash()
    second = Member(cluster)
    second.turn(records=2)
    assert sum(second.worker.positions.replaying().values()) == 10
    third = Member(cluster)
    second.turn(records=1)
    third.turn(records=1)
    assert (second.owned(), third.owned()) == ({P0}, {P1})
    assert cluster.checkpoints(P1) != []  # of a replay, too
    for member in (second, third):
        member.drain()
    cluster.write(BOTH)
    for member in (second, third):
        member.drain()
    assert steps(cluster) == wanted(7)


def test_an_assignment_fails_whole_and_is_made_again(cluster: Cluster) -> None:
    for operation in ("committed", "log_range", "topic"):
        cluster.broker.fail(operation, AWAY)
    first, second = Member(cluster), Member(cluster)
    for _ in range(4):
        first.turn()
        second.turn()
    second.close()
    first.drain()
    assert first.owned() == {P0, P1}
    assert steps(cluster) == wanted(1)


def test_an_unusable_state_ends_the_worker_and_leaves_the_partition_to_others(cluster: Cluster) -> None:
    Member(cluster).drain()
    cluster.broker.expel(next(iter(cluster.broker.group(GROUP).members)))
    strict = Member(cluster, policy=FAIL)
    with pytest.raises(WorkerError, match="no usable checkpoint"):
        strict.turn()
    strict.crash()
    Member(cluster).drain()
    assert steps(cluster) == wanted(1)


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "own folders"])
def test_one_three_two_one_under_load(tmp_path: Path, shared: bool, exactly_once: bool) -> None:
    """The new owner of a partition resumes where the previous one stopped, from its own files or shared ones."""
    cluster = Cluster(tmp_path, partitions=3)
    places = [Partition(IN, number) for number in range(3)]
    members: list[Member] = []
    sums = dict.fromkeys(places, 0)
    wanted: list[Row] = []

    def join(number: int) -> None:
        folder = tmp_path if shared else tmp_path / f"of-{number}"
        members.append(Member(cluster, folder=folder, exactly_once=exactly_once))

    def load(rounds: int) -> None:
        for _ in range(rounds):
            for place in places:
                offset = cluster.broker.log_range(place)[1]
                sums[place] += offset + 1
                wanted.append((place.number, offset, offset + 1, float(sums[place])))
                cluster.write([(place.number, b"stream", offset + 1)])
            for member in members:
                member.turn(after_s=CHECKPOINT_S / 4)

    join(0)
    load(5)
    for number in (1, 2):
        join(number)
        load(5)
    assert sorted(len(member.owned()) for member in members) == [1, 1, 1]
    for _ in range(2):
        members.pop(0).close()
        load(5)
    for _ in range(3):
        members[0].turn(after_s=COMMIT_S)
    assert members[0].owned() == set(places)
    assert sorted(row[:4] for row in cluster.sums()) == sorted(wanted)
    assert "restored" in {row[4] for row in cluster.sums()}
