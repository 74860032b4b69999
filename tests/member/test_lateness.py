"""How late a partition is, at any moment: time moves only where a test says so, and a scrape may come anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import AWAY, COMMIT_S, P0, P1, WALL_S, Cluster, Member
from tests.sums import sums_pipeline
from tests.toy_texts_pipeline import SPECS, ask, texts_pipeline
from worker.member.commit_notes import Place
from worker.member.lateness import MARKS_LIMIT, Lateness
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

LOOK_S = 10.0  # between two looks at the logs' ends
STALE_S = 3 * LOOK_S
EITHER = pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    cluster = Cluster(tmp_path)
    cluster.day_passes = True
    return cluster


def wall_ms(cluster: Cluster, ago_s: float = 0.0) -> int:
    return round(1000 * (WALL_S + cluster.now_s - ago_s))


def write(cluster: Cluster, number: int, *ago_s: float) -> None:
    """One record each, written so long ago."""
    cluster.write([(number, b"a", 1, wall_ms(cluster, each)) for each in ago_s])


def delays(member: Member, name: str = "partition_delay_seconds") -> list[float | None]:
    """As a scrape would find them now, to the millisecond."""
    found = [member.value(name, topic="in", partition=number) for number in (0, 1)]
    return [None if each is None else round(each, 3) for each in found]


def steady(cluster: Cluster, **more: Any) -> Member:
    """A member that has read and committed all there is."""
    member = Member(cluster, lag_interval_s=LOOK_S, **more)
    member.drain()
    member.turn(after_s=LOOK_S)
    return member


@EITHER
def test_a_member_that_keeps_up_is_not_late(cluster: Cluster, exactly_once: bool) -> None:
    write(cluster, 0, 86_400.0, 3_600.0)
    member = steady(cluster, exactly_once=exactly_once)
    for _ in range(20):
        assert delays(member) == [0, 0]
        write(cluster, 0, 0.0)
        member.turn(after_s=COMMIT_S)
    assert delays(member) == [0, 0]


def test_what_is_read_and_not_committed_grows_older_whatever_comes_after_it(cluster: Cluster) -> None:
    member = steady(cluster)
    cluster.broker.fail("commit", AWAY, times=3)
    write(cluster, 0, 5.0)
    found = []
    for _ in range(4):
        member.turn(after_s=COMMIT_S)
        found.append(delays(member)[0])
        write(cluster, 0, 0.0)
    assert found == [6, 7, 8, 0]


def test_two_partitions_are_late_each_in_its_own_way(cluster: Cluster) -> None:
    member = steady(cluster)
    write(cluster, 0, 60.0)
    write(cluster, 1, 7.0, 3.0)
    member.turn()  # no commit is due
    assert delays(member) == [60, 7]
    cluster.now_s += 2.5
    assert delays(member) == [62.5, 9.5]
    member.turn(after_s=COMMIT_S)
    assert delays(member) == [0, 0]


def test_records_that_wait_to_be_read_are_no_older_than_the_last_one_read(cluster: Cluster) -> None:
    write(cluster, 0, 100.0, 90.0, 80.0, 70.0)
    member = Member(cluster, lag_interval_s=LOOK_S)
    member.turn(records=1, after_s=COMMIT_S)
    assert delays(member)[0] == 101  # the second is at least as young as the first, which is answered
    member.turn(records=2, after_s=COMMIT_S)
    assert delays(member)[0] == 82
    member.turn(records=1, after_s=COMMIT_S)
    assert delays(member)[0] == 2  # it was behind at the look, and may be so still: by what came after the look
    member.turn()  # waits in vain
    assert delays(member)[0] == 0


def test_before_the_first_record_it_is_late_since_it_has_its_partition(cluster: Cluster) -> None:
    late = Lateness()
    late.assigned(P0, 0, 0, 3, 50.0)
    assert late.delay_s(P0, 54.0, 1000.0) == 4
    late.polled([batch(0, 100)], 54.0, 1000.0)
    late.committed({P0: Place(1, 1)})
    assert late.delay_s(P0, 54.0, 1000.0) == 900


def test_a_loop_that_stands_still_is_late_from_its_last_look_on(cluster: Cluster) -> None:
    write(cluster, 0, 86_400.0)
    member = steady(cluster)
    cluster.now_s += STALE_S - 1.0
    assert delays(member) == [0, 0]  # as far as anybody knows
    cluster.now_s += 2.0
    assert delays(member) == pytest.approx([STALE_S + 1, STALE_S + 1], abs=0.2)
    member.turn(after_s=COMMIT_S)  # looks again
    assert delays(member) == [0, 0]


def test_a_loop_that_stands_still_with_records_in_its_hands_is_as_late_as_they_are(cluster: Cluster) -> None:
    member = steady(cluster)
    write(cluster, 0, 2.0)
    member.worker.intake.poll(member.worker.limits)
    cluster.now_s += 500.0
    assert delays(member)[0] == 502


def test_while_the_cluster_is_away_it_is_late_from_the_last_look_on(cluster: Cluster) -> None:
    member = steady(cluster)
    cluster.broker.fail("poll", AWAY, times=100)
    for _ in range(40):
        member.turn(after_s=COMMIT_S)
    assert delays(member) == pytest.approx([40, 40], abs=0.2)
    cluster.broker.fail("log_range", AWAY)
    for _ in range(61):
        member.turn(after_s=COMMIT_S)  # it is back
    member.turn(after_s=LOOK_S)
    assert delays(member) == [0, 0]


def test_a_replay_of_what_is_answered_is_not_late(cluster: Cluster) -> None:
    write(cluster, 0, 500.0, 400.0, 300.0, 200.0)
    first = steady(cluster)
    first.crash()
    member = Member(cluster, lag_interval_s=LOOK_S)
    for _ in range(4):
        member.turn(records=1, after_s=COMMIT_S)
        assert delays(member)[0] == 0
    assert member.value("replayed_records_total") == 4


def test_during_a_replay_the_oldest_is_the_first_that_is_not_committed(cluster: Cluster) -> None:
    write(cluster, 0, 500.0, 400.0)
    first = steady(cluster)
    first.crash()
    before_s = cluster.now_s
    write(cluster, 0, 30.0, 20.0)
    member = Member(cluster, lag_interval_s=LOOK_S)
    member.turn(records=1)
    # What is replayed says nothing of it, but that it was there when the partition came.
    assert 0 <= (delays(member)[0] or 0) <= 1
    member.turn(records=3)
    assert delays(member)[0] == pytest.approx(30 + cluster.now_s - before_s)
    member.turn(after_s=COMMIT_S)
    assert delays(member)[0] == 0


@pytest.mark.parametrize("unread", [True, False])
def test_a_replay_of_old_records_is_as_late_as_what_comes_after_them(cluster: Cluster, unread: bool) -> None:
    """Ten days of a log are answered and the checkpoint is gone."""
    days_s = [86_400.0 * day for day in range(10, 0, -1)]
    cluster.write([(0, b"a", aged(cluster, each), wall_ms(cluster, each)) for each in days_s])
    pipeline = sums_pipeline(time="t")
    first = steady(cluster, pipeline=pipeline)
    first.crash()
    shutil.rmtree(cluster.folder)
    if unread:
        cluster.write([(0, b"a", aged(cluster, 2.0), wall_ms(cluster, 1.0))])
    came_s = cluster.now_s
    member = Member(cluster, pipeline=sums_pipeline(time="t"), lag_interval_s=LOOK_S)
    for _ in days_s:
        member.turn(records=1, after_s=0.5)
        for name in ("partition_delay_seconds", "partition_event_delay_seconds"):
            late_s = delays(member, name)[0]
            assert late_s is not None
            assert late_s == pytest.approx(cluster.now_s - came_s if unread else 0, abs=1)
    assert member.value("replayed_records_total") == len(days_s)
    member.turn(records=1)
    assert delays(member)[0] == pytest.approx(1 + cluster.now_s - came_s if unread else 0)
    event_s = 2 + cluster.now_s - came_s
    assert delays(member, "partition_event_delay_seconds")[0] == pytest.approx(event_s if unread else 0)
    member.turn(after_s=COMMIT_S)
    member.turn(after_s=LOOK_S)
    assert delays(member)[0] == 0
    member.close()


def aged(cluster: Cluster, ago_s: float) -> bytes:
    return json.dumps({"x": 1, "t": wall_ms(cluster, ago_s)}).encode()


@EITHER
def test_a_rollback_makes_nothing_younger(cluster: Cluster, exactly_once: bool) -> None:
    member = steady(cluster, exactly_once=exactly_once)
    write(cluster, 0, 50.0, 40.0, 30.0)
    cluster.broker.fail("commit_transaction" if exactly_once else "commit", AWAY, times=2)
    member.turn(after_s=COMMIT_S)
    assert delays(member)[0] == 51
    member.turn(after_s=COMMIT_S)
    assert delays(member)[0] == pytest.approx(52, abs=0.2)
    member.drain()
    member.turn()  # waits in vain
    assert delays(member)[0] == 0


def test_a_partition_that_is_gone_tells_nothing_and_begins_anew(cluster: Cluster) -> None:
    member = steady(cluster)
    cluster.broker.rebalance(member.source, revoked=[P1])
    member.turn(after_s=COMMIT_S)
    assert delays(member)[1] is None
    write(cluster, 1, 70.0)
    cluster.broker.rebalance(member.source, assigned=[P1])
    member.turn()
    assert delays(member)[1] == pytest.approx(70, abs=1)
    member.drain()
    assert delays(member)[1] == 0


def test_clocks_ahead_and_records_without_a_time_count_from_their_arrival(cluster: Cluster) -> None:
    member = steady(cluster)
    write(cluster, 0, -3_600.0)
    cluster.write([(1, b"a", 1, -1)])
    member.turn()
    assert delays(member) == [0, 0]
    cluster.now_s += 5.0
    assert delays(member) == [5, 5]


def test_by_event_time_it_is_older_by_what_events_are_older_than_their_records(cluster: Cluster) -> None:
    member = steady(cluster, pipeline=sums_pipeline(time="t"))
    assert delays(member, "partition_event_delay_seconds") == [0, 0]

    def value(ago_s: float) -> bytes:
        return json.dumps({"x": 1, "t": wall_ms(cluster, ago_s)}).encode()

    cluster.write([(0, b"a", value(900.0), wall_ms(cluster, 10.0)), (1, b"a", value(4.0), wall_ms(cluster, 8.0))])
    member.turn()
    assert delays(member) == [10, 8]
    assert delays(member, "partition_event_delay_seconds") == [900, 4]
    member.drain()
    assert delays(member, "partition_event_delay_seconds") == [0, 0]


def test_in_tasks_that_generate_the_first_text_that_is_not_complete_counts(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", 8)
    member = steady(cluster, pipeline=texts_pipeline("every_event"), specs=SPECS)
    cluster.write([(0, b"a", ask(150), wall_ms(cluster, 40.0)), (0, b"b", ask(5), wall_ms(cluster, 20.0))])
    member.turn()
    member.turn(after_s=COMMIT_S)
    member.turn(after_s=COMMIT_S)
    assert member.worker.pipeline.busy
    assert delays(member)[0] == 40 + 2 * COMMIT_S
    member.drain()
    assert delays(member)[0] == 0


def batch(first: int, *written_s: float, partition: Partition = P0) -> RecordBatch:
    offsets = list(range(first, first + len(written_s)))
    return RecordBatch(partition, first + len(written_s), offsets, [round(1000 * each) for each in written_s])


def test_a_commit_in_the_middle_of_a_poll_leaves_its_first_record_on_the_safe_side() -> None:
    late = Lateness()
    late.assigned(P0, 0, 0, 0, 0.0)
    late.polled([batch(0, 100, 200, 300)], 1.0, 1000.0)
    late.polled([batch(3, 400)], 2.0, 1000.0)
    late.committed({P0: Place(2, 2)})
    assert late.delay_s(P0, 3.0, 1000.0) == 900
    late.committed({P0: Place(3, 3)})
    assert late.delay_s(P0, 3.0, 1000.0) == 600
    late.committed({P0: Place(4, 4)})
    assert late.delay_s(P0, 3.0, 1000.0) == 0


def test_marks_are_bounded_and_the_oldest_stays() -> None:
    late = Lateness()
    late.assigned(P0, 0, 0, 0, 0.0)
    count = 10 * MARKS_LIMIT
    for number in range(count):
        late.polled([batch(number, number)], float(number), float(count))
    assert late.delay_s(P0, float(count), float(count)) == count
    late.committed({P0: Place(count - 1, count - 1)})
    assert late.delay_s(P0, float(count), float(count)) <= count / MARKS_LIMIT * 2
    late.committed({P0: Place(count, count)})
    assert late.delay_s(P0, float(count), float(count)) == 0


def test_a_record_is_known_by_the_poll_that_brought_it() -> None:
    late = Lateness()
    assert late.arrived(P0, 0) is None
    late.assigned(P0, 5, 0, 9, 0.0)
    late.polled([batch(0, *range(8))], 3.0, 1000.0)  # a replay up to 5
    late.polled([batch(8, 8)], 4.0, 1000.0)
    assert [late.arrived(P0, offset) for offset in (4, 5, 7, 8)] == [None, 3.0, 3.0, 4.0]
    late.keep({P1})
    assert late.arrived(P0, 8) is None
