"""What /readyz says of a cluster that was there and is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_member import AWAY, COMMIT_S, P0, P1, Cluster, Member
from worker.member.reach import AWAY_S

LOOK_S = 10.0
SAYS = "kafka: does not answer: nobody answers"


@pytest.fixture
def member(tmp_path: Path) -> Member:
    cluster = Cluster(tmp_path, [(0, b"a", 1)] * 5)
    member = Member(cluster, lag_interval_s=LOOK_S)
    member.status.set("model", None)
    member.drain()
    assert member.status.missing() == []
    return member


def test_a_client_that_polls_a_cluster_that_is_gone_is_not_ready_from_the_next_look_on(member: Member) -> None:
    member.cluster.broker.fail("log_range", AWAY, times=2)
    for _ in range(2):
        member.turn(after_s=LOOK_S)
        assert member.status.missing() == [SAYS]
    assert member.value("client_errors_total", kind="unavailable") == 2
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == []


def test_turns_that_can_not_be_made_are_told_after_a_while(member: Member) -> None:
    member.cluster.broker.fail("poll", AWAY, times=int(AWAY_S / COMMIT_S) + 1)
    for _ in range(int(AWAY_S / COMMIT_S)):
        member.turn(after_s=COMMIT_S)
        assert member.status.missing() == []  # a broker that restarts
    member.turn(after_s=COMMIT_S)
    assert member.status.missing() == [SAYS]
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == []


def test_a_member_that_the_group_of_a_cluster_that_is_gone_has_removed_says_so_until_it_answers(member: Member) -> None:
    broker = member.cluster.broker
    broker.fail("log_range", AWAY, times=4)
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == [SAYS]
    broker.rebalance(member.source, lost=[P0, P1], revoked=[P0, P1])
    member.source.outside = True
    for _ in range(3):
        member.turn(after_s=LOOK_S)
        assert member.status.missing() == [SAYS], "not that it waits for another member of the group"
    member.turn(after_s=LOOK_S)
    assert "has waited" in member.status.missing()[0]
    member.source.outside = False
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == []
    broker.fail("log_range", AWAY)
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == [SAYS], "a member without partitions, too"


def test_who_is_given_partitions_has_an_answer(member: Member) -> None:
    broker = member.cluster.broker
    broker.rebalance(member.source, revoked=[P1])
    broker.fail("log_range", AWAY)
    member.turn(after_s=LOOK_S)
    assert member.status.missing() == [SAYS]
    broker.rebalance(member.source, assigned=[P1])
    member.turn()
    assert member.status.missing() == []
