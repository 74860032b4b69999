"""What takes long and ends: the loop turns meanwhile, the probe says so, and the group hears of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import COMMIT_S, IN, Cluster, Member
from worker.records.ownership import Partition
from worker.web.status import LIVE_LIMIT_S

UNREADABLE: list[tuple[Any, Any]] = [(b"a", b"{"), (None, b"{}"), (b"a", b"\xff"), (b"\xff", 1), (b"a", b"{" * 2000)]


@pytest.mark.parametrize("exactly_once", [False, True])
def test_an_endless_run_of_unreadable_records_is_a_turn_after_another(tmp_path: Path, exactly_once: bool) -> None:
    cluster = Cluster(tmp_path, [(0, *UNREADABLE[number % len(UNREADABLE)]) for number in range(3000)])
    member = Member(cluster, exactly_once=exactly_once, turn_events=100, turn_bytes_in=20_000)
    threads = threading.active_count()
    turns = 0
    while member.turn(records=500, after_s=COMMIT_S):
        turns += 1
        assert member.status.stuck() is None
        assert threading.active_count() <= threads
    assert turns >= 30
    assert [offset for _, _, offset in cluster.dead()] == list(range(3000))
    assert (cluster.outputs(), cluster.committed()) == ([], 3000)
    member.close()


def test_a_takeover_of_a_hundred_partitions_that_take_ten_seconds_each(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(number, b"a", 1) for number in range(100)], partitions=100)
    first = Member(cluster)
    first.drain()
    first.close()
    stuck: list[str | None] = []

    def after_a_partition() -> None:
        stuck.append(second.status.stuck())
        cluster.now_s += 10.0

    second = Member(cluster)
    cluster.restored = after_a_partition
    second.turn()
    assert cluster.now_s > LIVE_LIMIT_S
    assert stuck == [None] * 100
    assert second.status.stuck() is None
    assert second.owned() == {Partition(IN, number) for number in range(100)}
