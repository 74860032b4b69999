"""A member that the group has not let in yet says for how long it waits, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.one_member import P0, P1, Cluster, Member
from worker.member.membership import TOLD_AFTER_S


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, [(0, b"a", 1)])


def kafka(member: Member) -> list[str]:
    """What the probe says of Kafka."""
    return [line for line in member.status.missing() if line.startswith("kafka")]


def waiting(cluster: Cluster, **more: Any) -> Member:
    """A member of a group whose partitions another one has; that died, or not."""
    first = Member(cluster)
    first.turn()
    member = Member(cluster, **more)
    member.source.outside = True
    member.status.set("kafka", "has not joined the group yet")
    return member


def test_the_probe_and_the_log_say_how_long_it_has_waited_and_may_wait(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    member = waiting(cluster, session_s=30.0)
    member.turn()
    assert kafka(member) == ["kafka: has not joined the group yet"]
    member.turn(after_s=12.0)
    (told,) = kafka(member)
    assert told.startswith("kafka: has waited 12 s to join the group, which waits for a member that does not")
    assert "its session of 30 s" in told
    for _ in range(5):
        member.turn(after_s=1.0)
    assert "has waited 18 s" in kafka(member)[0]
    assert caplog.text.count("to join the group") == 1


def test_once_it_is_let_in_it_is_ready_with_partitions_or_without(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for partitions in ([], [P0, P1]):
        member = waiting(cluster)
        member.turn(after_s=20.0)
        assert kafka(member) != []
        member.source.outside = False
        if partitions:
            cluster.broker.rebalance(member.source, assigned=partitions)
        member.turn()
        assert kafka(member) == []
    assert caplog.text.count("joined the group after 20 s") == 2


def test_who_is_let_in_at_once_says_nothing(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    member = Member(cluster)
    member.turn(after_s=TOLD_AFTER_S - 1)
    member.turn(after_s=1000.0)
    assert kafka(member) == []
    assert "let into the group" not in caplog.text


def test_who_was_put_out_later_waits_from_then_on(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    member.turn(after_s=1000.0)
    cluster.broker.rebalance(member.source, lost=[P0, P1], revoked=[P0, P1])
    member.source.outside = True
    member.turn()
    assert kafka(member) == []
    member.turn(after_s=8.0)
    assert "has waited 8 s" in kafka(member)[0]
