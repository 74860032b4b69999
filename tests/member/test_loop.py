"""The commit law: outputs acknowledged, then positions committed, then checkpoints. Lists in, lists out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.one_member import AWAY, CHECKPOINT_S, COMMIT_S, P0, P1, WRITER_TIMEOUT_S, Cluster, Member, Row
from worker.errors import CommitRefusedError, DeliveryFailedError, NotAcknowledgedError, WorkerError
from worker.member.loop import run

REFUSED = CommitRefusedError("the group has moved on")
THREE = [(0, b"a", 1), (0, b"a", 2), (0, b"b", 4)]
SUMS = [(0, 0, 1, 1.0, "live"), (0, 1, 2, 3.0, "live"), (0, 2, 1, 4.0, "live")]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, THREE)


def test_positions_are_committed_once_their_outputs_are_acknowledged(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    assert (cluster.sums(), cluster.committed()) == ([], None)  # sent, not acknowledged, so not committed
    assert len(member.sink.pending) == 3
    member.turn(after_s=COMMIT_S)
    assert (cluster.sums(), cluster.committed()) == (SUMS, 3)
    assert member.source.commits == [({P0: 3}, 3)]


def test_a_refused_record_is_committed_once_its_dead_letter_is_acknowledged(cluster: Cluster) -> None:
    cluster.write([(0, b"a", b"{"), (0, None, 1), (0, b"a", 666)])
    member = Member(cluster)
    member.drain()
    assert cluster.dead() == [("not_json", 0, 3), ("no_key", 0, 4), ("invalid_state", 0, 5)]
    assert cluster.sums() == SUMS
    assert member.source.commits == [({P0: 6}, 3)]


def test_nothing_read_nothing_committed(cluster: Cluster) -> None:
    member = Member(cluster)
    member.drain()
    for _ in range(3):
        assert member.turn(after_s=CHECKPOINT_S) == 0
    assert len(member.source.commits) == 1
    assert cluster.checkpoints() == [3]


def test_a_checkpoint_is_published_only_at_a_committed_position(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    for error in (REFUSED, AWAY):
        cluster.broker.fail("commit", error, times=2)  # the commit that is due, and that of the checkpoint
        member.turn(after_s=CHECKPOINT_S)
        assert (cluster.checkpoints(), cluster.committed()) == ([], None)
    member.turn(after_s=CHECKPOINT_S)
    assert (cluster.checkpoints(), cluster.committed()) == ([3], 3)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("operation", "error"),
    [(operation, AWAY) for operation in ("poll", "commit", "committed", "log_range", "topic")] + [("commit", REFUSED)],
)
@pytest.mark.parametrize("turns_before", [0, 1, 2])
def test_after_a_failure_it_goes_on_with_nothing_lost_and_nothing_double(
    cluster: Cluster, operation: str, error: Exception, times: int, turns_before: int
) -> None:
    member = Member(cluster)
    for _ in range(turns_before):
        member.turn(records=1, after_s=COMMIT_S)
    cluster.broker.fail(operation, error, times)
    member.drain()
    cluster.write(THREE)
    member.drain()
    later = [(0, 3, 3, 4.0, "live"), (0, 4, 4, 6.0, "live"), (0, 5, 2, 8.0, "live")]
    assert cluster.sums() == SUMS + later
    assert cluster.committed() == 6


def test_a_commit_whose_answer_is_lost_is_made_again(cluster: Cluster) -> None:
    member = Member(cluster)
    member.source.unanswered = 2
    member.drain()
    assert [offsets for offsets, _ in member.source.commits] == [{P0: 3}] * 3
    assert cluster.sums() == SUMS


def test_an_output_that_is_not_delivered_ends_the_worker(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    member.sink.refuse("message too large")
    with pytest.raises(DeliveryFailedError):
        member.turn(after_s=CHECKPOINT_S)
    assert (cluster.sums(), cluster.committed(), cluster.checkpoints()) == ([], None, [])
    with pytest.raises(DeliveryFailedError):  # nor does an orderly end pretend that all is well
        member.close()
    assert (cluster.committed(), cluster.checkpoints()) == (None, [])
    member.crash()
    Member(cluster).drain()
    assert cluster.sums() == SUMS


def test_while_outputs_are_not_acknowledged_nothing_is_read_but_the_group_is_answered(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    cluster.write(THREE)
    cluster.broker.fail("flush", AWAY, times=4)
    before = len(member.source.polls)
    member.turn(records=1, after_s=COMMIT_S)  # its commit is the first that gets no answer
    assert [member.turn() for _ in range(3)] == [None] * 3
    assert [records for records, _ in member.source.polls[before:]] == [1, 0, 0, 0]
    assert cluster.committed() is None
    member.drain()
    assert [offset for _, offset, *_ in cluster.sums()] == [0, 1, 2, 3, 4, 5]
    assert cluster.committed() == 6


def test_outputs_that_are_not_acknowledged_for_long_are_written_again_by_a_new_producer(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    member = Member(cluster)
    limit_s, first = member.worker.limits.flush_s, member.sink
    member.turn()
    cluster.broker.fail("flush", AWAY, times=3)
    member.turn(after_s=COMMIT_S)
    assert [member.turn(after_s=limit_s / 2) for _ in range(2)] == [None] * 2
    assert "nobody answers, and none was acknowledged for 120 s" in caplog.text
    member.drain()
    assert member.sink is not first
    assert set(cluster.sums()) == set(SUMS)
    assert (cluster.committed(), member.value("rollbacks_total")) == (3, 1)


@pytest.mark.parametrize("operation", ["send", "flush"])
def test_outputs_that_the_client_has_given_up_are_written_again(cluster: Cluster, operation: str) -> None:
    """A cluster that is away for longer than the client keeps messages ends no worker."""
    member = Member(cluster)
    cluster.broker.fail(operation, NotAcknowledgedError("expired after 120 s"))
    member.drain()
    assert set(cluster.sums()) == set(SUMS)
    assert (cluster.committed(), member.value("rollbacks_total")) == (3, 1)


@pytest.mark.parametrize(("operation", "error"), [("send", DeliveryFailedError("gone")), ("send", AWAY)])
@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_after_a_crash_only_unacknowledged_outputs_repeat(
    cluster: Cluster, operation: str, error: Exception, survivors: int
) -> None:
    member = Member(cluster)
    member.drain()
    cluster.write(THREE)
    member.turn()  # sent, not flushed
    cluster.write(THREE)
    cluster.broker.fail(operation, error)
    with pytest.raises(type(error)):
        member.turn()
    member.crash(survivors)
    Member(cluster).drain()
    offsets = [offset for _, offset, *_ in cluster.sums()]
    assert offsets == [0, 1, 2, *range(3, 3 + survivors), 3, 4, 5, 6, 7, 8]
    assert cluster.sums()[-1] == (0, 8, 3, 12.0, "rebuilt")


def test_commits_refused_for_long_end_the_worker(cluster: Cluster) -> None:
    member = Member(cluster, commit_refused_s=60.0)
    cluster.broker.fail("commit", REFUSED, times=100)
    for _ in range(6):
        member.turn(after_s=10.0)
    with pytest.raises(WorkerError, match="commits have been refused for 60 s"):
        member.turn(after_s=10.0)


def test_commits_refused_before_and_after_a_rebalance_do_not_add_up(cluster: Cluster) -> None:
    member = Member(cluster, commit_refused_s=60.0)
    member.turn()
    cluster.broker.fail("commit", REFUSED)
    member.turn(after_s=COMMIT_S)
    cluster.broker.rebalance(member.source, lost=[P0, P1])
    member.turn()
    cluster.now_s += 100.0
    cluster.broker.fail("commit", REFUSED)
    member.turn(after_s=COMMIT_S)
    member.drain()
    assert cluster.committed() == 3


def arriving(cluster: Cluster, member: Member, *arrivals: tuple[float, list[Row]]) -> None:
    """At these seconds from now these records are there."""

    def writing(rows: list[Row]) -> Callable[[], object]:
        return lambda: cluster.write(rows)

    member.source.arrivals = [(cluster.now_s + at_s, writing(rows)) for at_s, rows in arrivals]


def test_a_turn_waits_for_a_fuller_batch_as_long_as_it_may(cluster: Cluster) -> None:
    member = Member(cluster, batch_wait_s=0.5)
    cluster.now_s = 100.0
    arriving(cluster, member, (0.2, [(1, b"c", 1)]), (0.4, [(0, b"a", 4)]), (0.7, [(0, b"a", 8)]))
    assert member.turn() == 5
    assert cluster.now_s == 100.5
    assert member.turn(after_s=0.2) == 1
    member.drain()
    assert sorted(cluster.sums()) == [*SUMS, (0, 3, 3, 7.0, "live"), (0, 4, 4, 15.0, "live"), (1, 0, 1, 1.0, "live")]


def test_a_full_turn_does_not_wait(cluster: Cluster) -> None:
    member = Member(cluster, batch_wait_s=0.5)
    assert member.turn(records=3) == 3
    assert (cluster.now_s, len(member.source.polls)) == (0.0, 1)
    arriving(cluster, member, (0.05, THREE[:1]), (0.25, THREE[:2]))
    assert member.turn(records=3) == 3  # full at its second record in time: no longer wait than that
    assert cluster.now_s == 0.25
    assert [records for records, _ in member.source.polls[1:]] == [3, 2]


def test_an_idle_turn_and_one_without_the_option_ask_once(cluster: Cluster) -> None:
    member = Member(cluster, batch_wait_s=0.5, poll_wait_s=0.1)
    member.turn(records=3)
    member.turn(records=3)
    assert member.source.polls == [(3, 0.1)] * 2
    other = Member(cluster)
    other.turn()
    assert len(other.source.polls) == 1


def _lost_and_away(cluster: Cluster, member: Member) -> None:
    cluster.broker.rebalance(member.source, lost=[P0])
    cluster.broker.fail("committed", AWAY)


ARRIVALS: dict[str, Callable[[Cluster, Member], object]] = {
    "the cluster is away": lambda cluster, member: cluster.broker.fail("poll", AWAY),
    "lost, and back at once": lambda cluster, member: cluster.broker.rebalance(member.source, lost=[P0]),
    "lost, and the cluster is away": _lost_and_away,
    "revoked": lambda cluster, member: cluster.broker.rebalance(member.source, revoked=[P0]),
}


@pytest.mark.parametrize("what", ARRIVALS)
def test_what_happens_while_a_batch_fills(cluster: Cluster, what: str) -> None:
    """Records that were read of a partition that has gone meanwhile are read again, by whoever owns it."""
    member = Member(cluster, batch_wait_s=0.5)
    cluster.write([(1, b"c", 1)])
    member.source.arrivals = [(0.2, lambda: ARRIVALS[what](cluster, member))]
    member.turn()
    cluster.broker.rebalance(member.source, assigned=[P0])
    member.drain()
    assert sorted(cluster.sums()) == [*SUMS, (1, 0, 1, 1.0, "live")]


def test_run_turns_until_told_to_stop_and_leaves_in_order(cluster: Cluster) -> None:
    member = Member(cluster, joined=False)
    waits: list[float] = []
    cluster.broker.fail("poll", AWAY, times=2)
    turns = iter([False] * 4)
    run(member.worker, cluster.clock, lambda: next(turns, True), waits.append)
    assert waits == [member.worker.limits.unavailable_wait_s] * 2
    assert (cluster.sums(), cluster.committed(), cluster.checkpoints()) == (SUMS, 3, [3])
    assert cluster.broker.group(member.source.group_id).members == []
    assert member.status.missing() == ["model: not loaded", "worker: stopping"]


def test_run_leaves_at_once_on_an_error(cluster: Cluster) -> None:
    member = Member(cluster, joined=False)
    cluster.broker.fail("send", DeliveryFailedError("gone"))
    with pytest.raises(DeliveryFailedError):
        run(member.worker, cluster.clock, lambda: False, lambda wait_s: None)
    assert (cluster.sums(), cluster.committed(), cluster.checkpoints()) == ([], None, [])


def test_an_orderly_end_without_the_cluster_loses_nothing(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    cluster.broker.fail("commit", AWAY, times=2)
    member.close()
    assert (cluster.committed(), cluster.checkpoints()) == (None, [])
    Member(cluster).drain()
    assert cluster.sums() == SUMS + SUMS  # acknowledged, not committed: they repeat


def test_an_orderly_end_takes_no_longer_than_it_may(cluster: Cluster) -> None:
    """A silent cluster is asked to commit once, not once more for each partition that is given back."""
    member = Member(cluster, stop_s=25.0)
    member.turn()
    member.source.silent = True
    before_s = cluster.now_s
    member.close()
    assert 0 < cluster.now_s - before_s <= 25.0
    assert (cluster.committed(P0), cluster.checkpoints(P0)) == (None, [])


def test_no_other_copy_is_taken_while_the_last_one_is_being_written(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow store costs age, not memory. What leaves is saved in any case."""
    going_on = threading.Event()
    sync = os.fsync

    def wait(handle: int) -> None:
        assert going_on.wait(WRITER_TIMEOUT_S)
        sync(handle)

    monkeypatch.setattr(os, "fsync", wait)
    member = Member(cluster, patient=False)
    member.turn(after_s=CHECKPOINT_S)
    first = cluster.committed(P0)
    cluster.write([(0, b"a", 7)])
    member.turn(after_s=CHECKPOINT_S)
    assert P0 in member.worker.positions.unsaved()
    member.turn()
    assert (member.value("checkpoint_delay_seconds") or 0) > 0
    going_on.set()
    eventually(lambda: not member.writer.unfinished())
    assert cluster.checkpoints(P0) == [first]
    member.turn(after_s=CHECKPOINT_S)
    member.close()
    assert cluster.checkpoints(P0) == [first, (first or 0) + 1]
