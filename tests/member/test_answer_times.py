"""How long answers take: each sample is from the arrival of a record to the acknowledgement of its output."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.one_member import AWAY, COMMIT_S, P0, Cluster, Member
from tests.sums import sums_pipeline
from worker.engine.emission import EmitRule
from worker.member.answer_times import SAMPLE_INTERVAL_S

EITHER = pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def samples(member: Member) -> tuple[float, float]:
    """(how many, seconds of all)."""
    count, total = (member.value(f"answer_duration_seconds_{each}") for each in ("count", "sum"))
    assert count is not None
    assert total is not None
    return count, round(total, 3)


@EITHER
def test_a_turn_that_is_committed_is_a_sample(cluster: Cluster, exactly_once: bool) -> None:
    member = Member(cluster, exactly_once=exactly_once)
    for number in range(3):
        cluster.write([(0, b"a", 1), (1, b"b", 1)])
        member.turn(after_s=COMMIT_S)
        assert samples(member) == (number + 1, 0)


def test_time_that_a_record_waits_for_its_turn_counts(cluster: Cluster) -> None:
    member = Member(cluster, turn_events=2)
    cluster.write([(0, b"a", 1)] * 4)
    member.turn()  # takes two: others wait, so nobody waits for an acknowledgement
    assert samples(member) == (0, 0)
    member.turn(after_s=COMMIT_S)
    assert samples(member) == (1, COMMIT_S)


def test_an_acknowledgement_that_is_late_is_a_long_sample(cluster: Cluster) -> None:
    member = Member(cluster)
    cluster.write([(0, b"a", 1)])
    cluster.broker.fail("flush", AWAY, times=3)
    for _ in range(4):
        member.turn(after_s=COMMIT_S)
    assert samples(member) == (1, 3 * COMMIT_S)


@EITHER
def test_a_transaction_that_takes_its_time_is_a_long_sample(cluster: Cluster, exactly_once: bool) -> None:
    member = Member(cluster, exactly_once=exactly_once)
    cluster.commits_take_s = 0.25
    cluster.write([(0, b"a", 1)])
    member.turn(after_s=COMMIT_S)
    assert samples(member) == (1, 0.25 if exactly_once else 0)  # a commit of offsets comes after the acknowledgement


def test_an_idle_member_waits_for_an_acknowledgement_now_and_then(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member(cluster, commit_interval_s=100.0)
    asked = []

    def acknowledged(timeout_s: float) -> bool:
        asked.append(cluster.now_s)
        cluster.now_s += 0.003
        return True

    monkeypatch.setattr(member.sink, "acknowledged", acknowledged)
    for _ in range(20):
        cluster.write([(0, b"a", 1)])
        member.turn(after_s=SAMPLE_INTERVAL_S / 4)
    count, total = samples(member)
    assert count == len(asked) > 1
    assert total == round(0.003 * count, 3)
    assert min(later - earlier for earlier, later in pairwise(asked)) >= SAMPLE_INTERVAL_S


def test_replays_refusals_and_events_without_output_are_left_out(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 3)
    first = Member(cluster)
    first.drain()
    first.crash()
    member = Member(cluster, sums_pipeline(emit=EmitRule("sequence_end")))
    cluster.write([(0, b"a", 1), (0, b"a", b"{")])
    member.drain()
    assert member.value("replayed_records_total") == 3
    assert member.value("records_refused_total", error="not_json") == 1
    assert samples(member) == (0, 0)


def test_a_sample_of_a_partition_that_goes_is_nobodys(cluster: Cluster) -> None:
    member = Member(cluster)
    cluster.write([(0, b"a", 1)])
    cluster.broker.fail("flush", AWAY, times=1)
    member.turn(after_s=COMMIT_S)
    cluster.broker.rebalance(member.source, revoked=[P0], lost=[P0])
    member.turn(after_s=COMMIT_S)
    assert samples(member) == (0, 0)
    cluster.write([(1, b"b", 1)])
    for _ in range(2):
        member.turn(after_s=COMMIT_S)
    assert samples(member) == (1, COMMIT_S)  # of the other partition: the first would have taken longer
