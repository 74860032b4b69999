"""A new model's states from so much of the log: how far back that is, and what a worker makes of it."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import MODEL, OTHER_MODEL, WALL_S, Cluster, Member
from worker.errors import WorkerError
from worker.kafka.contracts import Committed
from worker.member.recovery_policy import RecoveryPolicy
from worker.member.warming import Warm, warm_from
from worker.records.ownership import Partition

P0, P1 = Partition("in", 0), Partition("in", 1)
NOW_MS = int(WALL_S * 1000)
WARM = RecoveryPolicy(on_model_change="warm", warm=Warm(ms=10_000))
THREE = RecoveryPolicy(on_model_change="warm", warm=Warm(offsets=3))


class Logs:
    """Partitions by the ages of their records in seconds, oldest first; offsets begin at 0."""

    def __init__(self, **ages_s: Sequence[float]) -> None:
        self.times_ms = {
            Partition("in", int(name[1:])): [round(NOW_MS - 1000 * age_s) for age_s in ages]
            for name, ages in ages_s.items()
        }
        self.questions = 0

    def offsets_at(self, partitions: Collection[Partition], time_ms: int) -> dict[Partition, int]:
        self.questions += 1
        return {each: bisect.bisect_left(self.times_ms[each], time_ms) for each in partitions}


def asked(warm: Warm, logs: Logs, resumed: dict[Partition, int], begin: int = 0) -> dict[Partition, int]:
    return warm_from(warm, dict.fromkeys(logs.times_ms, begin), resumed, logs.offsets_at, NOW_MS)


def test_a_number_is_counted_from_the_committed_offset_and_asks_nothing() -> None:
    logs = Logs(p0=[1] * 100, p1=[1] * 100)
    assert asked(Warm(offsets=30), logs, {P0: 100, P1: 20}, begin=5) == {P0: 70, P1: 5}
    assert logs.questions == 0


@pytest.mark.parametrize("stood_still_s", [0, 3, 3_600, 86_400 * 5])
def test_time_is_counted_from_the_last_record_before_the_committed_offset(stood_still_s: float) -> None:
    """However long the group stood still; at most a fourth of that is replayed, too."""
    ages = [stood_still_s + back_s for back_s in range(1_000_000, -1, -1)]
    if stood_still_s:
        ages += [stood_still_s * share for share in (0.9, 0.1)]  # what has arrived since
    logs = Logs(p0=ages)
    (first,) = asked(Warm(ms=10_000), logs, {P0: 1_000_001}).values()
    assert ages[first] >= stood_still_s + 10
    assert ages[first] <= 1.25 * stood_still_s + 10 + 1 + 1
    assert logs.questions <= 100


def test_partitions_of_different_ages_are_each_asked_in_their_own_time() -> None:
    quick, slow = [float(age) for age in range(50, -1, -1)], [10_000.0 + age for age in range(50_000, -1, -1000)]
    found = asked(Warm(ms=10_000), Logs(p0=quick, p1=slow), {P0: len(quick), P1: len(slow)})
    assert quick[found[P0]] == 11
    assert 10_000 + 10 <= slow[found[P1]] <= 12_500 + 1_000


@pytest.mark.parametrize(
    ("ages", "resumed", "first"),
    [
        ([], 0, 0),  # an empty log
        ([5, 4, 3], 0, 0),  # nothing before it
        ([5, 4, 3], 3, 0),  # all of it is younger
        ([NOW_MS / 1000 + 1] * 3, 3, 0),  # records without times
    ],
)
def test_where_there_is_less_all_of_it_is_taken(ages: list[float], resumed: int, first: int) -> None:
    assert asked(Warm(ms=10_000), Logs(p0=ages), {P0: resumed}) == {P0: first}


def test_without_a_committed_offset_nothing_is_asked() -> None:
    assert asked(Warm(ms=10_000), Logs(p0=[1, 1]), {}) == {}


def of_old_model(cluster: Cluster, **more: Any) -> None:
    """Six records a second apart, answered by a model that saved its states."""
    cluster.write([(0, b"a", number, NOW_MS - 24_000 + 4_000 * number) for number in range(1, 7)])
    first = Member(cluster, model=MODEL, **more)
    first.drain()
    first.checkpoint()
    first.crash()


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize(("policy", "first"), [(WARM, 3), (THREE, 3)])
def test_a_new_model_begins_with_states_of_its_own_from_the_end_of_the_log(
    tmp_path: Path, policy: RecoveryPolicy, first: int, exactly_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(tmp_path, partitions=1)
    of_old_model(cluster, exactly_once=exactly_once)
    answered = len(cluster.outputs())
    caplog.set_level(logging.INFO)
    new = Member(cluster, model=OTHER_MODEL, policy=policy, exactly_once=exactly_once)
    new.drain()
    assert len(cluster.outputs()) == answered
    assert new.value("replayed_records_total") == 6 - first
    assert f"states are warmed from offset {first} on (state.warm)" in caplog.text
    cluster.write([(0, b"a", 10, NOW_MS)])
    new.drain()
    warmed = sum(range(first + 1, 7)) + 10.0
    assert cluster.sums()[answered:] == [(0, 6, 6 - first + 1, warmed, "rebuilt")]
    new.crash()
    cluster.write([(0, b"a", 1, NOW_MS + 1_000_000_000)])
    # Decided once: a crash before the first checkpoint begins at the same offset again, whatever the time is.
    again = Member(cluster, model=OTHER_MODEL, policy=policy, exactly_once=exactly_once)
    again.drain()
    assert cluster.sums()[answered + 1 :] == [(0, 7, 6 - first + 2, warmed + 1, "rebuilt")]


def test_a_crash_in_the_middle_of_warming_changes_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=1)
    of_old_model(cluster)
    new = Member(cluster, model=OTHER_MODEL, policy=THREE)
    new.turn(records=1)
    new.checkpoint()
    new.crash()
    assert cluster.checkpoints() == [3, 4, 6]
    cluster.write([(0, b"a", 10, NOW_MS)])
    again = Member(cluster, model=OTHER_MODEL, policy=THREE)
    again.drain()
    assert again.value("replayed_records_total") == 2
    assert cluster.sums()[-1] == (0, 6, 4, 4.0 + 5 + 6 + 10, "restored")


def test_the_old_model_comes_back_to_its_own_states(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, partitions=1)
    of_old_model(cluster)
    new = Member(cluster, model=OTHER_MODEL, policy=THREE)
    cluster.write([(0, b"a", 10, NOW_MS)])
    new.drain()
    new.crash()
    cluster.write([(0, b"a", 1, NOW_MS)])
    old = Member(cluster, model=MODEL, policy=THREE)
    old.drain()
    assert cluster.sums()[-1] == (0, 7, 8, 21.0 + 10 + 1, "restored")


@pytest.mark.parametrize(
    ("policy", "offset"),
    [
        (RecoveryPolicy(warm=Warm(offsets=3)), 3),
        (RecoveryPolicy("reset", on_model_change="warm", warm=Warm(offsets=3)), 6),
    ],
)
def test_without_a_checkpoint_recover_decides_and_warm_says_how_far_back(
    tmp_path: Path, policy: RecoveryPolicy, offset: int
) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", number) for number in range(6)], partitions=1)
    cluster.broker.group("group").committed[P0] = Committed(6)
    member = Member(cluster, policy=policy)
    member.drain()
    assert cluster.checkpoints() == [offset]
    assert cluster.outputs() == []


def test_without_a_checkpoint_fail_stays_fail(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", number) for number in range(6)], partitions=1)
    cluster.broker.group("group").committed[P0] = Committed(6)
    member = Member(cluster, policy=RecoveryPolicy("fail", on_model_change="warm", warm=Warm(offsets=3)))
    with pytest.raises(WorkerError, match="no usable checkpoint for committed offset 6"):
        member.drain()


def test_a_new_group_without_offsets_is_live_from_the_start(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", 1), (0, b"a", 2)], partitions=1)
    Member(cluster, policy=RecoveryPolicy(warm=Warm(ms=10_000))).drain()
    assert cluster.sums() == [(0, 0, 1, 1.0, "live"), (0, 1, 2, 3.0, "live")]
