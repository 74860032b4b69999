"""What /readyz says of a cluster that was there and is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_member import AWAY, COMMIT_S, Cluster, Member
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
