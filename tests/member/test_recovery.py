"""Where a partition resumes: every case of committed offset C1, checkpoint C0 and log. Lists in, lists out.

Each case is a history (what ran before) and what the next member makes of three records: (offset, step, sum, origin).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import COMMIT_S, DEAD, GROUP, IN, MODEL, OTHER_MODEL, OUT, P0, P1, WALL_S, Cluster, Member, Row
from worker.checkpoints.folder import CheckpointStore
from worker.errors import WorkerError
from worker.member.recovery_policy import RecoveryPolicy
from worker.records.ownership import Partition

REBUILD, RESET, FAIL = (RecoveryPolicy(recover) for recover in ("rebuild", "reset", "fail"))
ONE_STREAM = [(0, b"a", 1)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Offsets 0 to 5 are read and committed, with checkpoints at 2, 4 and 6."""
    cluster = Cluster(tmp_path)
    member = Member(cluster)
    for _ in range(3):
        cluster.write(ONE_STREAM * 2)
        member.drain()
        member.checkpoint()
    member.crash()
    assert (cluster.committed(), cluster.checkpoints()) == (6, [2, 4, 6])
    cluster.broker.create_topic(OUT, 1)
    return cluster


def files(cluster: Cluster, *offsets: int) -> None:
    """Of the checkpoints only these are left."""
    for entry in CheckpointStore(cluster.folder, GROUP).candidates(P0, None):
        if entry.next_offset not in offsets:
            entry.path.unlink()


def commit(cluster: Cluster, offset: int | None) -> None:
    cluster.broker.set_committed(GROUP, P0, offset)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
def test_files_that_cannot_be_read_for_a_moment_are_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, code: int, recover: Any
) -> None:
    """Not one of the states is lost, whatever policy says of files that are damaged."""
    real, failures = os.open, [4]

    def open_at_last(path: Any, *args: Any, **named: Any) -> int:
        if str(path).endswith(".h5") and failures[0]:
            failures[0] -= 1
            raise OSError(code, os.strerror(code))
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", open_at_last)
    cluster.write(ONE_STREAM)
    member = Member(cluster, policy=RecoveryPolicy(recover))
    for left in (3, 2, 1):
        member.turn()
        assert (failures, cluster.sums(), member.owned()) == ([left], [], set())
        assert [
            line
            for line in member.status.missing()
            if line.startswith("states: can't read") and os.strerror(code) in line
        ]
    member.drain()
    assert (failures, cluster.sums()) == ([0], then(6, 7, "restored", 1))
    assert [line.split(":")[0] for line in member.status.missing()] == ["model"]


def test_a_file_that_stays_unreadable_is_deleted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.open, CheckpointStore(cluster.folder, GROUP).path_for(P0, 6)

    def refuse(at: Any, *args: Any, **named: Any) -> int:
        if at == path and path.exists():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(at, *args, **named)

    monkeypatch.setattr(os, "open", refuse)
    member = Member(cluster, policy=FAIL)
    member.turn()
    assert f"can't read {path}: PermissionError: " in member.status.missing()[-1]
    path.unlink()
    cluster.write(ONE_STREAM)
    member.drain()
    assert cluster.sums() == then(6, 7, "restored", 1)


def damage(cluster: Cluster, offset: int) -> None:
    path = CheckpointStore(cluster.folder, GROUP).path_for(P0, offset)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_all(cluster: Cluster) -> None:
    for offset in (2, 4, 6):
        damage(cluster, offset)


def recreate(cluster: Cluster, records: int = 5) -> None:
    """What was committed stays, as a commit does that comes just after the topic was deleted."""
    cluster.broker.create_topic(IN, 2)
    cluster.write(ONE_STREAM * records)


def answered_three(cluster: Cluster) -> None:
    """The topic made anew has had a worker, which left no checkpoint."""
    recreate(cluster, 3)
    member = Member(cluster)
    member.drain()
    member.crash()
    assert cluster.committed() == 3
    cluster.broker.create_topic(OUT, 1)


Case = tuple[list[Callable[[Cluster], object]], RecoveryPolicy, int, list[Row]]


def then(first: int, step: int, origin: str, count: int = 3) -> list[Row]:
    """The outputs that follow: from this offset on, one step each."""
    return [(0, first + index, step + index, float(step + index), origin) for index in range(count)]


# What had happened; the policy; records replayed; what comes out when three more records are written.
CASES: dict[str, Case] = {
    "C0 = C1": ([], FAIL, 0, then(6, 7, "restored")),
    "C0 < C1": ([lambda c: files(c, 2)], FAIL, 4, then(6, 7, "restored")),
    "C0 > C1, older one used": ([lambda c: commit(c, 5)], FAIL, 1, then(5, 6, "restored", 4)),
    "C0 > C1, no older one": ([lambda c: commit(c, 1)], REBUILD, 1, then(1, 2, "rebuilt", 8)),
    "offset set back to the start": ([lambda c: commit(c, 0)], FAIL, 0, then(0, 1, "live", 9)),
    "no file, rebuild": ([files], REBUILD, 6, then(6, 7, "rebuilt")),
    "no file, reset": ([files], RESET, 0, then(6, 1, "live")),
    "nothing at all": ([files, lambda c: commit(c, None)], FAIL, 0, then(0, 1, "live", 9)),
    "no committed offset, checkpoint there": ([lambda c: commit(c, None)], FAIL, 0, then(6, 7, "restored")),
    "newest damaged": ([lambda c: damage(c, 6)], FAIL, 2, then(6, 7, "restored")),
    "all damaged": ([damage_all], REBUILD, 6, then(6, 7, "rebuilt")),
    "log begins above C0 of some": ([lambda c: c.broker.truncate(P0, 5)], FAIL, 0, then(6, 7, "restored")),
    "log begins at C0": ([lambda c: files(c, 4), lambda c: c.broker.truncate(P0, 4)], FAIL, 2, then(6, 7, "restored")),
    "log begins above C0": (
        [lambda c: files(c, 4), lambda c: c.broker.truncate(P0, 5)],
        REBUILD,
        1,
        then(6, 2, "rebuilt"),
    ),
    "log begins above C0, reset": (
        [lambda c: files(c, 4), lambda c: c.broker.truncate(P0, 5)],
        RESET,
        0,
        then(6, 1, "live"),
    ),
    "log begins at C1": ([lambda c: c.broker.truncate(P0, 6)], FAIL, 0, then(6, 7, "restored")),
    "log begins above C1": (
        [lambda c: commit(c, 4), lambda c: c.broker.truncate(P0, 5)],
        REBUILD,
        0,
        then(5, 1, "live", 4),
    ),
    "log ends below C1": ([lambda c: commit(c, 9)], FAIL, 0, then(6, 7, "restored")),
    "log ends below C0": ([lambda c: c.broker.truncate(P0, 6)], FAIL, 0, then(6, 7, "restored")),
    "another topic of that name": ([recreate], REBUILD, 0, then(0, 1, "live", 8)),
    "another topic of that name, as long": ([lambda c: recreate(c, 9)], FAIL, 0, then(0, 1, "live", 12)),
    "another topic of that name, no file": ([files, lambda c: recreate(c, 9)], FAIL, 0, then(0, 1, "live", 12)),
    "another topic of that name, its own offset": ([answered_three], REBUILD, 3, then(3, 4, "rebuilt")),
}


@pytest.mark.parametrize("name", CASES)
def test_recovery(cluster: Cluster, name: str) -> None:
    history, policy, replayed, wanted = CASES[name]
    for happens in history:
        happens(cluster)
    member = Member(cluster, policy=policy)
    member.drain()
    cluster.write(ONE_STREAM * 3)
    member.drain()
    assert cluster.sums() == wanted
    assert member.value("replayed_records_total") == replayed
    assert cluster.committed() == cluster.broker.log_range(P0)[1]


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize("records", [4, 9])
def test_a_topic_made_anew_under_a_running_worker(tmp_path: Path, records: int, exactly_once: bool) -> None:
    """All of the new log is answered, by states that have seen nothing else; a crash then changes nothing."""
    cluster = Cluster(tmp_path)
    member = Member(cluster, policy=FAIL, exactly_once=exactly_once)
    cluster.write(ONE_STREAM * 6)
    member.drain()
    member.checkpoint()
    recreate(cluster, records)
    cluster.broker.create_topic(OUT, 1)
    member.drain()
    assert cluster.sums() == then(0, 1, "live", records)
    assert cluster.committed() == records
    member.crash()
    after = Member(cluster, policy=REBUILD, exactly_once=exactly_once)
    cluster.write(ONE_STREAM)
    after.drain()
    assert cluster.sums()[-1] == (0, records, records + 1, float(records + 1), "rebuilt")


def test_a_log_that_is_shorter_than_a_checkpoint(cluster: Cluster) -> None:
    """After the cluster lost records: offset and checkpoint at 6, the log ends at 5 and is of the same topic."""
    log = cluster.broker._logs[P0]
    del log.records[5:]
    log.end = 5
    member = Member(cluster, policy=FAIL)
    member.drain()
    cluster.write(ONE_STREAM * 3)
    member.drain()
    assert cluster.sums() == then(5, 6, "restored")


REFUSALS: dict[str, tuple[list[Callable[[Cluster], object]], str]] = {
    "no file": ([files], "no usable checkpoint for committed offset 6"),
    "all damaged": ([damage_all], "no usable checkpoint for committed offset 6"),
    "log begins above C0": ([lambda c: files(c, 4), lambda c: c.broker.truncate(P0, 5)], "no usable checkpoint"),
    "log begins at C1, no file": ([lambda c: files(c), lambda c: c.broker.truncate(P0, 6)], "no usable checkpoint"),
    "log begins above C1": ([lambda c: commit(c, 4), lambda c: c.broker.truncate(P0, 5)], "no usable checkpoint"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_recover_fail_never_begins_without_the_states(cluster: Cluster, name: str) -> None:
    history, message = REFUSALS[name]
    for happens in history:
        happens(cluster)
    member = Member(cluster, policy=FAIL)
    with pytest.raises(WorkerError, match=f"in/0: {message}.*set state.recover to rebuild .* or reset"):
        member.drain()
    assert cluster.sums() == []


def test_records_deleted_before_they_were_read_are_reported(cluster: Cluster, caplog: Any) -> None:
    commit(cluster, 3)
    cluster.broker.truncate(P0, 5)
    Member(cluster).drain()
    assert "in/0: offsets 3 to 5 were deleted from the log before they were read" in caplog.text


@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
def test_another_model(cluster: Cluster, recover: Any) -> None:
    failing = Member(cluster, policy=RecoveryPolicy(recover, "fail"), model=OTHER_MODEL)
    with pytest.raises(WorkerError, match=r"of another model.*set state.on_model_change to reset"):
        failing.drain()
    failing.crash()
    reset = Member(cluster, policy=RecoveryPolicy(recover, "reset"), model=OTHER_MODEL)
    cluster.write(ONE_STREAM)
    reset.drain()
    reset.crash()  # before its first checkpoint in turn: what was built since is not reset again
    cluster.write(ONE_STREAM)
    again = Member(cluster, policy=RecoveryPolicy(recover, "reset"), model=OTHER_MODEL)
    again.drain()
    again.close()
    cluster.write(ONE_STREAM)
    # All streams begin at zero, whatever ``recover`` says of missing checkpoints; and what is saved is of this model.
    last = Member(cluster, policy=RecoveryPolicy(recover, "fail"), model=OTHER_MODEL)
    last.drain()
    assert cluster.sums() == [
        *then(6, 1, "live", 1),
        *then(7, 2, "rebuilt", 1),
        *then(8, 3, "restored", 1),
    ]


@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
def test_states_of_another_model_are_kept_and_are_of_this_one_then(cluster: Cluster, recover: Any) -> None:
    kept = Member(cluster, policy=RecoveryPolicy(recover, "keep"), model=OTHER_MODEL)
    kept.drain()
    kept.crash()
    cluster.write(ONE_STREAM)
    again = Member(cluster, policy=RecoveryPolicy(recover, "fail"), model=OTHER_MODEL)
    again.drain()
    assert cluster.sums() == then(6, 7, "restored", 1)


def test_a_model_that_comes_back_goes_on_with_its_own_states(cluster: Cluster) -> None:
    other = Member(cluster, policy=RecoveryPolicy("fail", "reset"), model=OTHER_MODEL)
    cluster.write(ONE_STREAM * 2)
    other.drain()
    other.close()
    assert cluster.checkpoints() == [4, 6, 8]
    cluster.write(ONE_STREAM)
    back = Member(cluster, policy=FAIL, model=MODEL)
    back.drain()
    assert cluster.sums() == [*then(6, 1, "live", 2), *then(8, 9, "restored", 1)]
    assert back.value("replayed_records_total") == 4


@pytest.mark.parametrize("checkpoint", [0, 2, 4])
@pytest.mark.parametrize("at", range(4, 9))
@pytest.mark.parametrize("after", [0, 2])
def test_the_end_of_a_replay_is_a_position_not_a_record(tmp_path: Path, checkpoint: int, at: int, after: int) -> None:
    """The log: four records, four offsets without one, ``after`` more records. C1 lies before, in or behind the gap."""
    cluster = Cluster(tmp_path, ONE_STREAM * checkpoint)
    first = Member(cluster)
    first.turn()
    first.checkpoint()
    first.crash()
    cluster.write(ONE_STREAM * (4 - checkpoint))
    cluster.broker.add_gap(P0, 4)
    cluster.write(ONE_STREAM * after)
    commit(cluster, at)
    cluster.broker.create_topic(OUT, 1)
    member = Member(cluster)
    member.drain()
    assert cluster.sums() == then(8, 5, "restored" if checkpoint else "rebuilt", after)
    assert member.value("replayed_records_total") == 4 - checkpoint
    assert (member.worker.positions.replaying(), member.status.missing()) == ({}, ["model: not loaded"])


def test_a_replay_of_nothing_but_a_gap_ends(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.broker.add_gap(P0, 5)
    commit(cluster, 5)
    member = Member(cluster)
    member.drain()
    assert (member.worker.positions.replaying(), cluster.sums()) == ({}, [])


def test_an_empty_partition(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(1, b"a", 1)])
    member = Member(cluster, policy=FAIL)
    member.drain()
    member.close()
    assert (cluster.committed(P0), cluster.checkpoints(P0), cluster.committed(P1)) == (None, [0], 1)
    cluster.write(ONE_STREAM)
    Member(cluster, policy=FAIL).drain()
    assert cluster.sums() == [(1, 0, 1, 1.0, "live"), (0, 0, 1, 1.0, "live")]


def test_a_replay_says_nothing_also_of_what_it_refuses(tmp_path: Path) -> None:
    rows = [(0, b"a", 1), (0, b"a", b"{"), (0, b"a", 666), (0, b"a", 2), (0, b"new", 3)]
    cluster = Cluster(tmp_path, rows)
    first = Member(cluster)
    first.turn(records=1)
    first.checkpoint()
    first.drain()
    first.crash()
    for topic in (OUT, DEAD):
        cluster.broker.create_topic(topic, 1)
    member = Member(cluster)
    assert (member.turn(records=2), member.sink.pending) == (2, [])
    assert member.value("records_refused_total", error="not_json") == 0
    member.checkpoint()  # in the middle of the replay: as right as any
    member.crash()
    assert cluster.checkpoints() == [1, 3]
    last = Member(cluster)
    last.drain()
    assert (cluster.outputs(), cluster.dead()) == ([], [])
    cluster.write([(0, b"a", 1), (0, b"new", 1)])
    last.drain()
    assert cluster.sums() == [(0, 5, 2, 3.0, "rebuilt"), (0, 6, 2, 4.0, "rebuilt")]
    assert cluster.dead() == []


def test_a_rebuild_from_a_bounded_past(tmp_path: Path) -> None:
    """Six records of one stream, a second apart; the last two are at most 1500 ms old."""
    now_ms = int(WALL_S * 1000)
    cluster = Cluster(tmp_path, [(0, b"a", 1, now_ms - 1000 * age) for age in range(5, -1, -1)])
    commit(cluster, 6)
    policy = RecoveryPolicy("rebuild", rebuild_from_ms=1500)
    member = Member(cluster, policy=policy)
    member.drain()
    assert (member.value("replayed_records_total"), cluster.checkpoints()) == (2, [4])
    cluster.write([(0, b"a", 1, now_ms)])
    member.drain()
    assert cluster.sums() == then(6, 3, "rebuilt", 1)
    member.crash()
    cluster.write([(0, b"a", 1, now_ms)])
    # Nothing was saved since: the states are the same as before the crash.
    again = Member(cluster, policy=policy)
    again.drain()
    assert cluster.sums()[1:] == then(7, 4, "rebuilt", 1)


@pytest.mark.parametrize("recover", ["reset", "fail"])
def test_a_crash_before_the_first_checkpoint_loses_no_states(tmp_path: Path, recover: Any) -> None:
    cluster = Cluster(tmp_path, ONE_STREAM * 3)
    first = Member(cluster, policy=RecoveryPolicy(recover))
    first.drain()
    first.crash()
    cluster.write(ONE_STREAM)
    Member(cluster, policy=RecoveryPolicy(recover)).drain()
    assert cluster.sums() == [*then(0, 1, "live"), *then(3, 4, "rebuilt", 1)]


def test_partitions_added(cluster: Cluster) -> None:
    cluster.broker._logs.update({Partition(IN, number): type(cluster.broker._logs[P0])() for number in (2, 3)})
    refused = Member(cluster, policy=FAIL)
    with pytest.raises(WorkerError, match=r"in: the topic has 4 partitions and had 2 .* state.on_partitions_change to"):
        refused.drain()
    refused.crash()
    cluster.write([(0, b"a", 1), (3, b"b", 1)])
    accepting = Member(cluster, policy=RecoveryPolicy("fail", on_partitions_change="reset"))
    accepting.drain()
    accepting.crash()
    cluster.write([(0, b"a", 1), (3, b"b", 1)])
    guarded = Member(cluster, policy=FAIL)
    guarded.drain()
    assert sorted(cluster.sums()) == [
        (0, 6, 7, 7.0, "restored"), (0, 7, 8, 8.0, "restored"), (3, 0, 1, 1.0, "live"), (3, 1, 2, 2.0, "rebuilt"),
    ]  # fmt: skip


def test_a_checkpoint_that_is_there_is_left_as_it_is(cluster: Cluster) -> None:
    path = CheckpointStore(cluster.folder, GROUP).path_for(P0, 6)
    before = path.stat().st_mtime_ns, path.read_bytes()
    files(cluster, 4, 6)
    damage(cluster, 4)
    member = Member(cluster, model=MODEL)
    member.drain()
    member.checkpoint()
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def in_parts(cluster: Cluster, streams: int) -> Member:
    """Two streams in each of four partitions, and at most ``streams`` copied at once."""
    cluster.write([(number, key, 1) for number in range(4) for key in (b"a", b"b")])
    member = Member(cluster)
    member.worker.pipeline.engine.table.copied_at_once = streams
    member.turn()
    return member


def test_a_checkpoint_takes_partitions_in_parts_after_the_commits_to_come(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=4)
    member = in_parts(cluster, 5)

    def positions() -> list[list[int]]:
        return [cluster.checkpoints(Partition(IN, number)) for number in range(4)]

    member.checkpoint()
    assert positions() == [[2], [2], [], []]
    cluster.write([(number, b"a", 1) for number in range(4)])
    member.turn()
    assert positions() == [[2], [2], [], []]  # not committed yet
    member.turn(after_s=COMMIT_S)
    assert positions() == [[2], [2], [3], [3]]
    member.turn(after_s=COMMIT_S)
    assert positions() == [[2], [2], [3], [3]]  # that was all
    member.checkpoint()
    member.checkpoint()
    assert positions() == [[2, 3], [2, 3], [3], [3]]


def test_a_partition_larger_than_a_part_goes_alone(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=4)
    member = in_parts(cluster, 1)
    for saved in (1, 2, 3, 4):
        member.checkpoint()
        assert [bool(cluster.checkpoints(Partition(IN, number))) for number in range(4)] == [
            number < saved for number in range(4)
        ]


def test_whoever_leaves_saves_all_parts(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=4)
    in_parts(cluster, 1).close()
    assert [cluster.checkpoints(Partition(IN, number)) for number in range(4)] == [[2]] * 4


def test_a_partition_that_went_is_no_longer_due(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=4)
    first = in_parts(cluster, 1)
    first.checkpoint()
    second = Member(cluster)
    for member in (first, second, first, second, first):
        member.turn(after_s=COMMIT_S)
    first.checkpoint()
    assert len(first.worker.positions) == len(second.worker.positions) == 2
    assert first.worker.positions.unsaved() == second.worker.positions.unsaved() == []


def test_checkpoints_of_another_history_do_not_come_back(cluster: Cluster) -> None:
    """Offsets are set back, states begin at zero there; a crash later finds what was decided, not what stood above."""
    files(cluster, 6)
    commit(cluster, 3)
    first = Member(cluster, policy=RESET)
    first.turn()
    first.turn(after_s=COMMIT_S)
    first.crash()
    assert (cluster.checkpoints(), cluster.committed()) == ([3], 6)
    cluster.write(ONE_STREAM)
    Member(cluster, policy=RESET).drain()
    assert cluster.sums() == [*then(3, 1, "live"), *then(6, 4, "rebuilt", 1)]


@pytest.mark.parametrize("stopped", ["in order", "by a crash"])
def test_offsets_that_expired_under_exactly_once(tmp_path: Path, stopped: str) -> None:
    """A group that was idle for long. Whoever had stopped in order repeats nothing."""
    cluster = Cluster(tmp_path, ONE_STREAM * 2, partitions=1)
    first = Member(cluster, exactly_once=True)
    first.drain()
    first.checkpoint()
    cluster.write(ONE_STREAM)
    first.drain()
    first.close() if stopped == "in order" else first.crash()
    commit(cluster, None)
    cluster.write(ONE_STREAM)
    Member(cluster, exactly_once=True).drain()
    again = [] if stopped == "in order" else then(2, 3, "restored", 1)
    assert cluster.sums() == [*then(0, 1, "live"), *again, *then(3, 4, "restored", 1)]
