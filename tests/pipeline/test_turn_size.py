"""How large turns are: bounded in events, smaller after a rollback, and never tried for ever without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import AWAY, COMMIT_S, P0, P1, Cluster, Member
from tests.sums import sums_pipeline
from worker.errors import CommitRefusedError, KafkaUnavailableError, MessageRefusedError, WorkerError
from worker.member.limits import LoopLimits
from worker.member.setbacks import NUMBER_BYTES, OUTPUT_BYTES, Setbacks
from worker.pipeline.backlog import TurnLimit

TOO_LONG = KafkaUnavailableError("the transaction took too long")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def chunks(*events: int, partition: int = 0) -> list[tuple[Any, ...]]:
    return [(partition, b"a", json.dumps({"x": [[1]] * count}).encode()) for count in events]


def member(cluster: Cluster, **more: Any) -> Member:
    return Member(cluster, pipeline=sums_pipeline(features="x"), **more)


def told(one: Member) -> list[str]:
    """What the probe says of deliveries."""
    return [line for line in one.status.missing() if line.startswith("delivery")]


def steps(cluster: Cluster) -> list[int]:
    return [output["step"] for output in cluster.outputs()]


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_backlog_of_chunks_is_answered_in_turns_of_so_many_events(cluster: Cluster, exactly_once: bool) -> None:
    cluster.write(chunks(4, 4, 4, 9, 1))
    one = member(cluster, exactly_once=exactly_once, turn_events=8)
    answered = [one.turn(after_s=COMMIT_S) for _ in range(5)]
    assert answered == [2, 1, 1, 1, 0]
    assert steps(cluster) == list(range(1, 23))
    assert one.source.commits == ([] if exactly_once else [({P0: 2}, 8), ({P0: 3}, 12), ({P0: 4}, 21), ({P0: 5}, 22)])
    assert cluster.committed() == 5


def test_a_turn_is_polled_for_even_while_records_wait(cluster: Cluster) -> None:
    """Or the group would take the member for gone; it never waits, and takes no more than there is room for."""
    cluster.write(chunks(*[4] * 20))
    one = member(cluster, turn_events=4)
    for _ in range(5):
        one.turn(records=6)
    assert [records for records, _ in one.source.polls] == [6, 1, 1, 1, 1]
    assert [wait_s for _, wait_s in one.source.polls][1:] == [0.0] * 4
    assert steps(cluster) == []
    one.drain()
    assert steps(cluster) == list(range(1, 81))


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize("how", ["revoked", "lost", "expelled"])
def test_what_waits_of_a_partition_that_goes_is_the_next_owners(cluster: Cluster, exactly_once: bool, how: str) -> None:
    cluster.write([*chunks(3, 3, 3), *chunks(3, 3, 3, partition=1)])
    one = member(cluster, exactly_once=exactly_once, turn_events=3)
    one.turn(after_s=COMMIT_S)
    assert one.worker.intake.records() == 5
    other = member(cluster, exactly_once=exactly_once, turn_events=3)
    if how == "expelled":
        cluster.broker.expel(one.source)
    else:
        cluster.broker.rebalance(one.source, **{how: [P0]})
        cluster.broker.rebalance(other.source, assigned=[P0])
    for _ in range(20):
        for each in (one, other):
            each.turn(after_s=COMMIT_S)
    found = [(o["source"]["partition"], o["source"]["offset"], o["source"]["item"]) for o in cluster.outputs()]
    assert sorted(found) == [(place, offset, item) for place in (0, 1) for offset in range(3) for item in range(3)]
    assert [cluster.committed(place) for place in (P0, P1)] == [3, 3]


def test_after_a_rollback_turns_are_halved_down_to_one_record_and_then_grow_again(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 64)
    one = member(cluster, exactly_once=True, turn_events=16)
    cluster.broker.fail("commit_transaction", TOO_LONG, 6)
    answered = [one.turn() for _ in range(15)]
    assert answered == [16, 8, 4, 2, 1, 1, 1, 2, 4, 8, 16, 16, 16, 1, 0]
    assert steps(cluster) == list(range(1, 65))
    assert one.value("rollbacks_total") == 6


def test_bringing_states_back_is_not_slowed_down_by_a_rollback(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 40)
    first = member(cluster, exactly_once=True)
    first.turn()
    first.crash()
    cluster.write([(0, b"a", 1)] * 4)
    one = member(cluster, exactly_once=True)
    cluster.broker.fail("commit_transaction", TOO_LONG, 3)
    answered = [one.turn() for _ in range(6)]
    assert answered == [44, 40 + 2, 40 + 1, 40 + 1, 2, 1]
    assert steps(cluster) == list(range(1, 45))


def test_a_worker_that_only_rolls_back_says_so_and_then_ends_with_the_cause(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    one = member(cluster, exactly_once=True, no_progress_s=600.0)

    cluster.broker.fail("commit_transaction", TOO_LONG, 7)
    cluster.commits_take_s = 100.0
    one.turn()
    assert told(one) == []
    one.turn()
    assert told(one) == [
        "delivery: 2 transactions in a row were rolled back, after 200 s of work; the worker ends at 600 s; "
        "the last one: the transaction took too long"
    ]
    for _ in range(4):
        one.turn()
    with pytest.raises(
        WorkerError, match=r"nothing was committed in 7 transactions that took 700 s together.*took too long"
    ):
        one.turn()


def test_without_transactions_turns_are_told_of(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    one = member(cluster)
    cluster.broker.fail("flush", MessageRefusedError("no", too_large=True), 9)
    one.turn(after_s=COMMIT_S)
    one.turn(after_s=COMMIT_S)
    (said,) = told(one)
    assert said.startswith("delivery: 2 turns in a row were tried again, after")
    assert "transaction" not in said


def test_a_commit_ends_what_was_told(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    one = member(cluster, exactly_once=True)
    cluster.broker.fail("commit_transaction", TOO_LONG, 2)
    one.turn()
    one.turn()
    assert told(one) != []
    one.turn()
    assert told(one) == []


def test_lag_is_counted_from_what_was_answered_and_from_what_was_committed(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 8)
    one = member(cluster, turn_events=3, lag_interval_s=0.0, commit_interval_s=1000.0)
    one.turn()
    at = {"topic": "in", "partition": 0}
    assert one.value("partition_lag_records", **at) == 5
    assert one.value("partition_uncommitted_records", **at) == 8
    one.worker.commit(cluster.now_s)
    one.turn()
    assert one.value("partition_lag_records", **at) == 2
    assert one.value("partition_uncommitted_records", **at) == 5


def test_lag_of_a_worker_that_only_rolls_back_is_not_0(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 8)
    one = member(cluster, exactly_once=True, lag_interval_s=0.0)
    cluster.broker.fail("commit_transaction", AWAY, 3)
    one.turn()
    assert one.value("partition_uncommitted_records", topic="in", partition=0) == 8


def test_large_outputs_make_small_turns() -> None:
    limits = LoopLimits(turn_events=4096, turn_bytes_out=1_000_000, turn_bytes_in=5)
    one = Setbacks(limits, units=2, transactional=True)
    first = int(1_000_000 / (OUTPUT_BYTES + 2 * NUMBER_BYTES))
    assert one.limit() == TurnLimit(first, first, 5)
    one.sent(10_000)
    assert one.limit() == TurnLimit(100, 100, 5)
    for _ in range(100):
        one.sent(10)
    assert one.limit().events == 4096
    one.sent(5_000_000)
    assert one.limit().events == 1
    one.sent(0)
    assert one.limit().events == 1
    for _ in range(200):
        one.sent(0)
    assert one.limit().events == 4096


def test_refused_commits_end_the_worker_as_before() -> None:
    one = Setbacks(LoopLimits(commit_refused_s=60.0), units=1, transactional=False)
    one.failed(0.0, CommitRefusedError("no"))
    one.failed(1000.0, AWAY)
    one.committed({})
    one.failed(1000.0, CommitRefusedError("no"))
    with pytest.raises(WorkerError, match="commits have been refused for 60 s"):
        one.failed(1061.0, CommitRefusedError("no"))
