"""Where a partition resumes when records were read before they were answered: the note and the checkpoints decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.sums import SPECS
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.header import CheckpointIdentity
from worker.kafka.contracts import TopicFacts
from worker.member.commit_notes import Place, note_of, with_work
from worker.member.recovery import Recovery
from worker.member.recovery_policy import LogFacts, RecoveryPolicy
from worker.member.warming import Warm
from worker.records.ownership import Partition
from worker.records.states import PartitionState, Unfinished

P = Partition("in", 0)
TOPIC = TopicFacts("id-now", 1, "cluster")
IDENTITY = CheckpointIdentity("a" * 64, TOPIC.id, "group", "0", 1)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place(20, 50, ((20, 3), (31, 0)))
NOTE = with_work(note_of(TOPIC), PLACE)
OWED = dict(PLACE.unfinished)


@dataclass(frozen=True)
class File:
    """A checkpoint that has read to ``read_to`` and not finished the records at ``unfinished``."""

    read_to: int
    unfinished: Sequence[int] = ()
    identity: CheckpointIdentity = field(default=IDENTITY)

    @property
    def state(self) -> PartitionState:
        ones = np.ones(1, np.int64)
        return PartitionState(
            P, min([*self.unfinished, self.read_to]), 0, ["a"], ones, ones, ones, np.zeros(1, np.uint8), [None],
            {("sum", "h"): np.ones((1, 1), np.float32)}, ones,
            read_to=self.read_to, unfinished=[Unfinished(offset, "a", 0, True) for offset in self.unfinished],
            drawn=ones, records=ones, items=[None],
        )  # fmt: skip


def started(
    folder: Path,
    files: Sequence[File],
    committed: int | None = 20,
    note: str = NOTE,
    log_range: tuple[int, int] = (0, 100),
    policy: RecoveryPolicy | None = None,
) -> tuple[tuple[int, int, dict[int, int]], int | None, list[int]]:
    """(offset, live from, owed), up to where its states have read, and the checkpoints that are left."""
    store = CheckpointStore(folder, "group")
    for file in files:
        store.publish(file.state, file.identity, created=CREATED)
    recovery = Recovery(store, replace(IDENTITY, topic_id=""), SPECS, policy or RecoveryPolicy())
    warm_from = 0 if recovery.warm is None else (committed or 0) - (recovery.warm.offsets or 0)
    start = recovery.start(LogFacts(P, TOPIC, committed, *log_range, note=note, warm_from=warm_from))
    left = [entry.next_offset for entry in store.candidates(P, None)]
    read_to = None if start.state is None else start.state.read_to
    return (start.offset, start.live_from, dict(start.owed)), read_to, left


@pytest.mark.parametrize(
    ("files", "offset", "read_to"),
    [
        ([File(50, [20, 31])], 20, 50),
        ([File(40, [20, 31])], 20, 40),
        ([File(30, [20])], 20, 30),
        ([File(20)], 20, 20),
        ([File(20, [3, 19])], 3, 20),
        ([File(50, [7, 20, 31])], 7, 50),
        ([File(10), File(50, [20])], 10, 10),  # it has seen 31, which is not answered
        ([File(10), File(51, [20, 31])], 10, 10),  # it has read further than the group
        ([File(10), File(30, [21])], 10, 10),
        ([File(10), File(30)], 10, 10),
        ([], 0, None),
    ],
)
def test_a_checkpoint_is_taken_whose_states_have_seen_only_what_is_answered(
    tmp_path: Path, files: list[File], offset: int, read_to: int | None
) -> None:
    assert started(tmp_path, files)[:2] == ((offset, 50, OWED), read_to)


OTHER = replace(IDENTITY, model_sha256="b" * 64)


@pytest.mark.parametrize(
    ("policy", "files", "offset"),
    [
        (RecoveryPolicy("reset"), [], 20),
        (RecoveryPolicy(on_model_change="reset"), [File(50, [20, 31], OTHER)], 20),
        (RecoveryPolicy(on_model_change="keep"), [File(40, [20, 31], OTHER)], 20),
        (RecoveryPolicy("rebuild", rebuild_from_ms=1000), [], 0),
        (RecoveryPolicy(on_model_change="warm", warm=Warm(offsets=5)), [File(50, [20, 31], OTHER)], 15),
        (RecoveryPolicy(warm=Warm(offsets=5)), [], 15),
    ],
)
def test_what_policy_decides_it_is_owed_all_the_same(
    tmp_path: Path, policy: RecoveryPolicy, files: list[File], offset: int
) -> None:
    (found, _, left) = started(tmp_path, files, policy=policy)
    assert found == (offset, 50, OWED)
    assert offset in left


@pytest.mark.parametrize(
    "note", [note_of(TOPIC), "", with_work(note_of(TopicFacts("id-now", 1, "other")), PLACE), NOTE[:-1]]
)
def test_an_offset_without_such_a_note_says_that_all_below_is_answered_and_nothing_above(
    tmp_path: Path, note: str
) -> None:
    """As where an operator has set it."""
    assert started(tmp_path, [File(10), File(50, [20, 31])], note=note)[:2] == ((10, 20, {}), 10)
    assert started(tmp_path, [], committed=35, note=note)[:2] == ((10, 35, {}), 10)


def test_without_a_committed_offset_what_the_checkpoint_has_not_finished_is_owed(tmp_path: Path) -> None:
    found = started(tmp_path, [File(10), File(50, [20, 31])], committed=None, note="")
    assert found[:2] == ((20, 50, {20: 0, 31: 0}), 50)


@pytest.mark.parametrize(
    ("log_range", "wanted"),
    [
        ((0, 40), (10, 40, OWED)),
        ((0, 25), (10, 25, {20: 3})),
        ((25, 100), (25, 50, {31: 0})),
        ((60, 100), (60, 60, {})),
    ],
)
def test_what_the_log_has_no_more_is_not_owed(
    tmp_path: Path, log_range: tuple[int, int], wanted: tuple[int, int, dict[int, int]]
) -> None:
    files = [File(10), File(50, [20, 31])]
    assert started(tmp_path, files, log_range=log_range, policy=RecoveryPolicy("rebuild"))[0] == wanted


def test_a_checkpoint_that_has_seen_lost_records_is_deleted(tmp_path: Path) -> None:
    assert started(tmp_path, [File(10), File(50, [20, 31])], log_range=(0, 40))[2] == [10]


def test_one_that_has_read_too_far_is_deleted_where_states_now_develop_another_way(tmp_path: Path) -> None:
    files = [File(60, [15])]
    assert started(tmp_path / "1", files)[2] == [15]
    assert started(tmp_path / "2", files, policy=RecoveryPolicy("reset"))[2] == [20]
