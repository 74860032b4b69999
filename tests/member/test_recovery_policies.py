"""What policy makes of a partition at its start: files and offsets in; the start, the log lines and the files out.

Each line of the log is one sentence: where, what was found, what happens now.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.said import said
from tests.sums import SPECS
from worker.checkpoints.folder import CheckpointStore, FileEntry
from worker.checkpoints.header import CheckpointIdentity
from worker.errors import StoreUnavailableError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.member.commit_notes import note_of
from worker.member.recovery import Recovery
from worker.member.recovery_policy import LogFacts, RecoveryPolicy, Start
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

P0, P1, P2, P3 = (Partition("in", number) for number in range(4))
OURS, THEIRS = "a" * 64, "b" * 64
GROUP, OTHER_GROUP = "group", "other"
NOW_ID, OLD_ID = "id-now", "id-old"
TWO, FOUR = TopicFacts(NOW_ID, 2), TopicFacts(NOW_ID, 4)
INPUT, OTHER_INPUT = json.dumps({"input.stream": "key"}), json.dumps({"input.stream": "device"})
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = CheckpointIdentity(OURS, NOW_ID, GROUP, "0", 2, INPUT)
REBUILD, RESET, FAIL = (RecoveryPolicy(recover) for recover in ("rebuild", "reset", "fail"))
ALL = (REBUILD, RESET, FAIL)
BOUNDED = RecoveryPolicy("rebuild", rebuild_from_ms=1000)


@dataclass(frozen=True)
class File:
    """A checkpoint with one stream, of which ``steps`` says that it is this file's."""

    at: int
    identity: CheckpointIdentity = IDENTITY
    partition: Partition = P0
    damaged: bool = False


def of(at: int, partition: Partition = P0, **identity: Any) -> File:
    return File(at, replace(IDENTITY, **identity), partition)


def damaged(at: int) -> File:
    return File(at, damaged=True)


def facts(
    partition: Partition,
    topic: TopicFacts,
    committed: int | None,
    log_range: tuple[int, int],
    rebuild_from: int | None = None,
    note: str = "",
) -> LogFacts:
    return LogFacts(partition, topic, committed, *log_range, rebuild_from or 0, note)


def state_of(file: File) -> PartitionState:
    ones = np.full(1, file.at, np.int64)
    return PartitionState(
        file.partition, file.at, 0, ["a"], ones, ones, ones, np.zeros(1, np.uint8), [None],
        {("sum", "h"): np.full((1, 1), file.at, np.float32)}, ones,
    )  # fmt: skip


def store_of(folder: Path, files: Sequence[File]) -> CheckpointStore:
    for file in files:
        store = CheckpointStore(folder, file.identity.group_id)
        path = store.publish(state_of(file), file.identity, created=CREATED, replace=True).path
        if file.damaged:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    return CheckpointStore(folder, GROUP)


def recovery_of(store: Any, policy: RecoveryPolicy, **identity: Any) -> Recovery:
    return Recovery(store, replace(IDENTITY, topic_id="", partitions=0, **identity), SPECS, policy, lambda: CREATED)


def saved(store: CheckpointStore, partition: Partition = P0) -> list[tuple[int, int, int, str]]:
    """(position, streams, partitions, first letter of the model) of each sound file of ours, oldest first."""
    found = []
    for path in reversed(store.candidates(partition, None)):
        header = store.header(path)
        wanted = replace(header.identity, model_sha256="", input="")
        streams = len(store.read(path, wanted, SPECS).keys)
        found.append((header.next_offset, streams, header.identity.partitions, header.identity.model_sha256[0]))
    return found


def shown(start: Start) -> tuple[int, int, int | None]:
    """(offset, live from, position of the file whose states these are; None = all streams at zero)."""
    steps = [] if start.state is None else start.state.steps.tolist()
    return start.offset, start.live_from, steps[0] if steps else None


def lines(caplog: pytest.LogCaptureFixture, folder: Path) -> list[str]:
    found = [line.replace(str(folder), "F") for line in said(caplog)]
    caplog.clear()
    assert all("\n" not in line for line in found)
    return found


def name(at: int, number: int = 0) -> str:
    return f"F/group/in/{number}/{at:020d}.h5"


Log = tuple[int | None, int, int]  # committed, begin and end of the log
Case = tuple[list[File], tuple[RecoveryPolicy, ...], Log, tuple[int, int, int | None], list[str]]

DAMAGED = r"checkpoint skipped: {}: .*"
LOST = "in/0: committed offset 12 lies beyond the log's end 10: the cluster has lost records; continuing at its end"
VOIDED = "checkpoint deleted: {}: it has seen records that the cluster has lost: the log of in/0 ends at 10"
BEYOND = "checkpoint deleted: {}: it is beyond the committed offset {}, and its states no longer match what follows"
GONE = (
    r"in/0: the group has no committed offset any more \(it has expired, or was deleted\); continuing at its "
    "checkpoint at {}: if the worker had stopped in order, nothing is repeated; if not, outputs after the checkpoint "
    "are sent twice"
)
DELETED = "in/0: offsets 3 to 5 were deleted from the log before they were read; continuing at 5"
RECREATED = (
    "in/0: committed offset 12 belongs to a deleted topic of the same name, the new one ends at 10; reading all of it"
)
OF_DELETED = r"checkpoint skipped: {}: its topic has since been deleted \(id id-old, now id-now\)"
AT_ZERO = "in/0: no usable checkpoint; all streams start at zero at {}"
PARTLY = (
    r"in/0: no usable checkpoint; states are rebuilt from offset {} on \({}\), and those of streams that began before "
    "it may differ from what they were"
)
OLDER = "checkpoint skipped: {} is older than the log, which begins at {}"

# Files; policies; (C1, begin, end); (read from, live from, whose states); log lines, as patterns.
CASES: dict[str, Case] = {
    "C0 = C1": ([of(4), of(6)], ALL, (6, 0, 10), (6, 6, 6), []),
    "C0 < C1": ([of(4)], ALL, (6, 0, 10), (4, 6, 4), []),
    "C0 > C1": ([of(4), of(8)], ALL, (6, 0, 10), (4, 6, 4), []),
    "C0 > C1, no older one, rebuild": ([of(8)], (REBUILD,), (6, 0, 10), (0, 6, None), []),
    "C0 > C1, no older one, reset": (
        [of(8), of(9)], (RESET,), (6, 0, 10), (6, 6, None),
        [AT_ZERO.format(6), BEYOND.format(name(8), 6), BEYOND.format(name(9), 6)],
    ),
    "C0 > C1, no older one, the log in part": (
        [of(8)], (REBUILD,), (6, 5, 10), (5, 6, None),
        [PARTLY.format(5, "the log begins there"), BEYOND.format(name(8), 6)],
    ),
    "no file, rebuild": ([], (REBUILD,), (6, 0, 10), (0, 6, None), []),
    "no file, reset": ([], (RESET,), (6, 0, 10), (6, 6, None), [AT_ZERO.format(6)]),
    "nothing at all": ([], ALL, (None, 0, 10), (0, 0, None), []),
    "nothing at all, log begins later": ([], ALL, (None, 5, 10), (5, 5, None), []),
    "empty partition": ([], ALL, (None, 0, 0), (0, 0, None), []),
    "empty partition, committed": ([], ALL, (0, 0, 0), (0, 0, None), []),
    "offsets deleted": ([of(4), of(6)], ALL, (None, 0, 10), (6, 6, 6), [GONE.format(6)]),
    "offset set back to 0": ([of(4), of(6)], ALL, (0, 0, 10), (0, 0, None), []),
    "offset set back": ([of(4), of(6)], ALL, (5, 0, 10), (4, 5, 4), []),
    "offset set forward": ([of(4), of(6)], ALL, (9, 0, 10), (6, 9, 6), []),
    "newest damaged": ([of(4), damaged(6)], ALL, (6, 0, 10), (4, 6, 4), [DAMAGED.format(name(6))]),
    "all damaged, rebuild": ([damaged(6)], (REBUILD,), (6, 0, 10), (0, 6, None), [DAMAGED.format(name(6))]),
    "all damaged, reset": (
        [damaged(6)], (RESET,), (6, 0, 10), (6, 6, None), [DAMAGED.format(name(6)), AT_ZERO.format(6)],
    ),
    "log begins at C0": ([of(4)], ALL, (6, 4, 10), (4, 6, 4), []),
    "log begins above C0, rebuild": (
        [of(4)], (REBUILD,), (6, 5, 10), (5, 6, None),
        [OLDER.format(name(4), 5), PARTLY.format(5, "the log begins there")],
    ),
    "log begins above C0, reset": (
        [of(4)], (RESET,), (6, 5, 10), (6, 6, None), [OLDER.format(name(4), 5), AT_ZERO.format(6)],
    ),
    "log begins above C1": (
        [of(3)], (REBUILD, RESET), (3, 5, 10), (5, 5, None), [DELETED, OLDER.format(name(3), 5)],
    ),
    "log begins at C1": ([of(6)], ALL, (6, 6, 10), (6, 6, 6), []),
    "log ends below C1": ([of(6)], ALL, (12, 0, 10), (6, 10, 6), [LOST]),
    "log ends below C0": ([of(6), of(12)], ALL, (12, 0, 10), (6, 10, 6), [LOST, VOIDED.format(name(12))]),
    "log ends below C0 of another group": ([of(6), of(12, group_id=OTHER_GROUP)], ALL, (6, 0, 10), (6, 6, 6), []),
    "topic recreated": (
        [of(4, topic_id=OLD_ID), of(12, topic_id=OLD_ID)], ALL, (12, 0, 10), (0, 0, None),
        [RECREATED, OF_DELETED.format(name(4))],
    ),
    "topic recreated, offset gone": (
        [of(4, topic_id=OLD_ID)], ALL, (None, 0, 10), (0, 0, None), [OF_DELETED.format(name(4))],
    ),
    "topic recreated, files of both": (
        [of(4), of(6, topic_id=OLD_ID)], ALL, (6, 0, 10), (4, 6, 4), [OF_DELETED.format(name(6))],
    ),
    "files of another group, rebuild": ([of(4, group_id=OTHER_GROUP)], (REBUILD,), (6, 0, 10), (0, 6, None), []),
    "files of another group, reset": (
        [of(4, group_id=OTHER_GROUP)], (RESET,), (6, 0, 10), (6, 6, None), [AT_ZERO.format(6)],
    ),
    "files of another group, nothing committed": (
        [of(4, group_id=OTHER_GROUP)], ALL, (None, 0, 10), (0, 0, None), [],
    ),
    "files of another group at the same offsets": (
        [of(4), of(6, group_id=OTHER_GROUP), of(4, group_id=OTHER_GROUP, model_sha256=THEIRS)], ALL, (6, 0, 10),
        (4, 6, 4), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("case", "policy"), [(case, policy) for case in CASES for policy in CASES[case][1]])
def test_starts(tmp_path: Path, case: str, policy: RecoveryPolicy, caplog: pytest.LogCaptureFixture) -> None:
    files, _, (committed, begin, end), wanted, said = CASES[case]
    caplog.set_level(logging.INFO)
    store = store_of(tmp_path, files)
    start = recovery_of(store, policy).start(facts(P0, TWO, committed, (begin, end)))
    assert shown(start) == wanted
    found = lines(caplog, tmp_path)
    assert len(found) == len(said), found
    assert [line for line, pattern in zip(found, said, strict=True) if not re.fullmatch(pattern, line)] == []
    # Whoever starts again before anything was read and committed comes to the same.
    assert shown(recovery_of(store, policy).start(facts(P0, TWO, committed, (begin, end)))) == wanted


NOW, OLD = note_of(TWO), note_of(TopicFacts(OLD_ID, 2))
NOTED = (
    r"in/0: committed offset {} belongs to a deleted topic of the same name \(id id-old, now id-now\); "
    "reading all of the new one"
)

# Files; the note beside C1; (C1, begin, end); (read from, live from, whose states) for rebuild; log lines, as patterns.
NOTES: dict[str, tuple[list[File], str, Log, tuple[int, int, int | None], list[str]]] = {
    "of a deleted topic, within this log": (
        [of(6, topic_id=OLD_ID)], OLD, (6, 0, 9), (0, 0, None), [NOTED.format(6), OF_DELETED.format(name(6))],
    ),
    "of a deleted topic, no file": ([], OLD, (6, 0, 9), (0, 0, None), [NOTED.format(6)]),
    "of a deleted topic, below this log": ([], OLD, (3, 5, 9), (5, 5, None), [NOTED.format(3)]),
    "of a deleted topic, beyond this log": (
        [of(12, topic_id=OLD_ID)], OLD, (12, 0, 10), (0, 0, None), [NOTED.format(12)],
    ),
    "of this topic": ([of(4)], NOW, (6, 0, 10), (4, 6, 4), []),
    "of this topic, whose checkpoint is not there": (
        [of(4, topic_id=OLD_ID)], NOW, (6, 0, 10), (0, 6, None), [OF_DELETED.format(name(4))],
    ),
    "of this topic, whose checkpoint is damaged": (
        [damaged(4), of(5, topic_id=OLD_ID)], NOW, (6, 0, 10), (0, 6, None),
        [OF_DELETED.format(name(5)), DAMAGED.format(name(4))],
    ),
    "of this topic, beyond its log": (
        [of(4, topic_id=OLD_ID)], NOW, (12, 0, 10), (0, 10, None), [LOST, OF_DELETED.format(name(4))],
    ),
    "copied from another cluster": (
        [], note_of(TopicFacts(OLD_ID, 2, "elsewhere")), (6, 0, 10), (0, 6, None), [],
    ),
    "of another tool": ([of(4)], "id-old", (6, 0, 10), (4, 6, 4), []),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTES)
def test_an_offset_counts_for_the_topic_that_it_was_committed_for(tmp_path: Path, case: str, caplog: Any) -> None:
    """Under exactly once, too: what this topic has answered is not answered again, what it has not is."""
    files, note, (committed, begin, end), wanted, said = NOTES[case]
    recovery = recovery_of(store_of(tmp_path, files), replace(REBUILD, exactly_once=True))
    for _ in range(2):  # whoever starts again before anything was committed comes to the same
        assert shown(recovery.start(facts(P0, TWO, committed, (begin, end), note=note))) == wanted
        found = lines(caplog, tmp_path)
        assert len(found) == len(said), found
        assert [line for line, pattern in zip(found, said, strict=True) if not re.fullmatch(pattern, line)] == []


def test_where_brokers_tell_no_ids_an_offset_has_no_note(tmp_path: Path) -> None:
    untold = TopicFacts("", 2, "cluster")
    assert note_of(untold) == ""
    assert shown(recovery_of(store_of(tmp_path, []), REBUILD).start(facts(P0, untold, 6, (0, 9), note=OLD))) == (
        0,
        6,
        None,
    )


REFUSALS: dict[str, tuple[list[File], Log]] = {
    "no file": ([], (6, 0, 10)),
    "all damaged": ([damaged(4), damaged(6)], (6, 0, 10)),
    "C0 > C1, no older one": ([of(8)], (6, 0, 10)),
    "log begins above C0": ([of(4)], (6, 5, 10)),
    "log begins above C1": ([of(3)], (3, 5, 10)),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_fail_never_begins_without_the_states(tmp_path: Path, case: str) -> None:
    files, (committed, begin, end) = REFUSALS[case]
    with pytest.raises(WorkerError) as refused:
        recovery_of(store_of(tmp_path, files), FAIL).start(facts(P0, TWO, committed, (begin, end)))
    assert str(refused.value) == (
        f"in/0: no usable checkpoint for committed offset {max(begin, committed or 0)}; set state.recover to rebuild "
        "(replay the log) or reset (start at zero)"
    )


# What is in the files after the start: a decision is there, so that it is not made again; what the log says is not.
DECISIONS: dict[str, tuple[list[File], RecoveryPolicy, Log, list[tuple[int, int, int, str]]]] = {
    "checkpoint": ([of(4)], FAIL, (6, 0, 10), [(4, 1, 2, "a")]),
    "first start, rebuild": ([], REBUILD, (None, 0, 10), []),
    "first start, reset": ([], RESET, (None, 0, 10), [(0, 0, 2, "a")]),
    "first start, fail": ([], FAIL, (None, 0, 10), [(0, 0, 2, "a")]),
    "reset": ([], RESET, (6, 0, 10), [(6, 0, 2, "a")]),
    "rebuilt from the log's start": ([], REBUILD, (6, 0, 10), []),
    "rebuilt from a bounded past": ([], BOUNDED, (6, 0, 10), [(3, 0, 2, "a")]),
    "other model, reset": (
        [of(4, model_sha256=THEIRS), of(6, model_sha256=THEIRS)], RecoveryPolicy("fail", "reset"), (6, 0, 10),
        [(4, 1, 2, "b"), (6, 0, 2, "a")],
    ),
    "other model, keep": (
        [of(4, model_sha256=THEIRS)], RecoveryPolicy("fail", "keep"), (6, 0, 10), [(4, 1, 2, "a")],
    ),
    "other input, reset": ([of(6, input=OTHER_INPUT)], RecoveryPolicy("fail", "reset"), (6, 0, 10), [(6, 0, 2, "a")]),
}  # fmt: skip


@pytest.mark.parametrize("case", DECISIONS)
def test_what_policy_decides_is_saved_before_anything_is_read(tmp_path: Path, case: str) -> None:
    files, policy, (committed, begin, end), wanted = DECISIONS[case]
    store = store_of(tmp_path, files)
    start = recovery_of(store, policy).start(facts(P0, TWO, committed, (begin, end), rebuild_from=3))
    assert saved(store) == wanted
    # The next start takes it from there, whatever was committed since and whatever policies say by then.
    if wanted and wanted[-1][0] == start.offset:
        later = recovery_of(store, FAIL).start(facts(P0, TWO, end, (begin, end)))
        assert (later.offset, later.live_from, later.source) == (start.offset, end, f"checkpoint at {start.offset}")


class FullStore(CheckpointStore):
    def publish(self, *values: Any, **named: Any) -> FileEntry:
        raise OSError(28, "No space left on device")


class AwayStore(CheckpointStore):
    def candidates(self, *values: Any) -> list[FileEntry]:
        raise StoreUnavailableError("the store does not answer")


def test_a_decision_that_cannot_be_saved_does_not_stop_the_stream(tmp_path: Path, caplog: Any) -> None:
    start = recovery_of(FullStore(tmp_path, GROUP), RESET).start(facts(P0, TWO, 6, (0, 10)))
    assert shown(start) == (6, 6, None)
    assert lines(caplog, tmp_path) == [
        "in/0: no usable checkpoint; all streams start at zero at 6",
        "in/0: the start at 6 can't be saved ([Errno 28] No space left on device); after a crash before the next "
        "checkpoint it is decided again",
    ]


@pytest.mark.parametrize("policy", ALL)
def test_a_store_that_does_not_answer_is_not_one_without_checkpoints(tmp_path: Path, policy: RecoveryPolicy) -> None:
    with pytest.raises(StoreUnavailableError, match="the store does not answer"):
        recovery_of(AwayStore(tmp_path, GROUP), policy).start(facts(P0, TWO, 6, (0, 10)))


@pytest.mark.parametrize(
    ("since", "log", "offset"),
    [
        (4, (6, 0, 10), 4),
        (0, (6, 0, 10), 0),  # the log is younger than that
        (9, (6, 0, 10), 6),  # nothing that is so late was answered: never beyond C1
        (10, (10, 0, 10), 10),
        (2, (6, 3, 10), 3),  # deleted meanwhile
    ],
)
def test_a_rebuild_from_a_bounded_past(tmp_path: Path, since: int, log: Any, offset: int, caplog: Any) -> None:
    committed, begin, end = log
    recovery = recovery_of(CheckpointStore(tmp_path, GROUP), BOUNDED)
    start = recovery.start(facts(P0, TWO, committed, (begin, end), since))
    assert shown(start) == (offset, committed, None)
    why = "state.rebuild_from" if offset > begin else "the log begins there"
    assert lines(caplog, tmp_path) == ([PARTLY.format(offset, why).replace("\\", "")] if offset > 0 else [])
    # The past moves on with the clock; what it was is saved, so that a crash does not begin later again.
    again = recovery_of(CheckpointStore(tmp_path, GROUP), BOUNDED).start(facts(P0, TWO, committed, (begin, end), end))
    assert (again.offset, again.live_from) == (offset, committed)


def test_when_the_bounded_past_is_asked_for(tmp_path: Path) -> None:
    asked = {
        policy: recovery_of(CheckpointStore(tmp_path, GROUP), policy).rebuild_since_ms(5000)
        for policy in (
            REBUILD,
            RESET,
            BOUNDED,
            replace(BOUNDED, recover="reset"),
            replace(BOUNDED, rebuild_from_ms=9000),
        )
    }
    assert list(asked.values()) == [None, None, 4000, None, 0]


CHANGES = {
    "model": (of(6, model_sha256=THEIRS), r"it is of another model \(bbbbbbbbbbbb, now aaaaaaaaaaaa\)"),
    "input": (
        of(6, input=OTHER_INPUT),
        r'its states were fed with another input \(input.stream was "device", is "key"\)',
    ),
}


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
@pytest.mark.parametrize("on_change", ["fail", "reset", "keep"])
def test_another_model_or_input(
    tmp_path: Path, changed: str, recover: Any, on_change: Literal["fail", "reset", "keep"], caplog: Any
) -> None:
    file, why = CHANGES[changed]
    store = store_of(tmp_path, [file])
    recovery = recovery_of(store, RecoveryPolicy(recover, on_change))
    if on_change == "fail":
        with pytest.raises(WorkerError) as refused:
            recovery.start(facts(P0, TWO, 6, (0, 10)))
        said = [str(refused.value).replace(str(tmp_path), "F")]
        what_now = (
            r"; set state.on_model_change to reset \(start at zero\), keep \(same shapes\) or warm "
            r"\(replay state.warm of the log\), or state.directory .*"
        )
        pattern = f"{name(6)}: {why}{what_now}"
    else:
        assert shown(recovery.start(facts(P0, TWO, 6, (0, 10)))) == (6, 6, 6 if on_change == "keep" else None)
        said = lines(caplog, tmp_path)
        kept = why.replace("it is", "states").replace("its states were fed", "states fed")
        pattern = {
            "keep": rf"{name(6)}: {kept} are kept \(state.on_model_change: keep\)",
            "reset": f"{name(6)}: {why}; all streams of in/0 start at zero",
        }[on_change]
    assert len(said) == 1
    assert re.fullmatch(pattern, said[0]), said


WINDOW = [StateSpec("window", "inputs", (8, 1), "float32")]


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
def test_states_of_other_shapes_can_not_be_kept(tmp_path: Path, changed: str, recover: Any, caplog: Any) -> None:
    file, why = CHANGES[changed]
    ours = replace(IDENTITY, topic_id="", partitions=0)
    policy = RecoveryPolicy(recover, "keep")
    recovery = Recovery(store_of(tmp_path, [file]), ours, WINDOW, policy, lambda: CREATED)
    with pytest.raises(WorkerError) as refused:
        recovery.start(facts(P0, TWO, 6, (0, 10)))
    said = str(refused.value).replace(str(tmp_path), "F")
    pattern = (
        f"{name(6)}: {why}, and its states have other shapes, which state.on_model_change: keep can't take; set it "
    )
    assert re.fullmatch(pattern + r"to reset \(start at zero\) or warm .*", said), said
    # What it names helps, and an older one of ours is taken.
    reset = Recovery(CheckpointStore(tmp_path, GROUP), ours, WINDOW, replace(policy, on_model_change="reset"))
    assert shown(reset.start(facts(P0, TWO, 6, (0, 10)))) == (6, 6, None)
    assert shown(Recovery(CheckpointStore(tmp_path, GROUP), ours, WINDOW, policy).start(facts(P0, TWO, 6, (0, 10))))


def test_a_damaged_file_of_another_model_says_nothing_of_shapes(tmp_path: Path, caplog: Any) -> None:
    theirs = replace(damaged(6), identity=replace(IDENTITY, model_sha256=THEIRS))
    recovery = recovery_of(store_of(tmp_path, [theirs]), RecoveryPolicy("rebuild", "keep"))
    assert shown(recovery.start(facts(P0, TWO, 6, (0, 10)))) == (0, 6, None)
    assert lines(caplog, tmp_path)[0].startswith(f"checkpoint skipped: {name(6)}: ".replace("\\", ""))


@pytest.mark.parametrize("on_change", ["fail", "reset", "keep"])
def test_the_same_input_in_other_words_is_no_other_one(tmp_path: Path, on_change: Any, caplog: Any) -> None:
    spelt, ours = json.dumps({"input.stream": "value:device"}), json.dumps({"input.stream": "device"})
    store = store_of(tmp_path, [of(6, input=spelt)])
    recovery = recovery_of(store, RecoveryPolicy("fail", on_change), input=ours)
    assert shown(recovery.start(facts(P0, TWO, 6, (0, 10)))) == (6, 6, 6)
    assert lines(caplog, tmp_path) == []


@pytest.mark.parametrize("on_change", ["fail", "reset"])
def test_an_older_file_of_this_model_is_as_right_as_any(tmp_path: Path, on_change: Any, caplog: Any) -> None:
    store = store_of(tmp_path, [of(4), of(6, model_sha256=THEIRS), of(7, input=OTHER_INPUT)])
    start = recovery_of(store, RecoveryPolicy("fail", on_change)).start(facts(P0, TWO, 8, (0, 10)))
    assert shown(start) == (4, 8, 4)
    (line,) = lines(caplog, tmp_path)
    assert line.startswith(f"checkpoint skipped: {name(7)}: its states were fed with another input (")
    assert line.endswith("); taking the one at 4")


def test_what_is_not_known_of_old_files_is_not_judged(tmp_path: Path, caplog: Any) -> None:
    store = store_of(tmp_path, [of(6, input="", partitions=0, topic_id="")])
    assert shown(recovery_of(store, FAIL).start(facts(P0, FOUR, 6, (0, 10)))) == (6, 6, 6)
    assert lines(caplog, tmp_path) == []


def test_lost_records_stay_lost_when_the_log_has_grown_again(tmp_path: Path, caplog: Any) -> None:
    store = store_of(tmp_path, [of(6), of(12), of(14)])
    recovery_of(store, FAIL).start(facts(P0, TWO, 14, (0, 10)))
    assert lines(caplog, tmp_path)[1:] == [VOIDED.format(name(12)), VOIDED.format(name(14))]
    start = recovery_of(store, FAIL).start(facts(P0, TWO, 15, (0, 20)))
    assert shown(start) == (6, 15, 6)
    assert lines(caplog, tmp_path) == []
    store_of(tmp_path, [of(14)])
    assert shown(recovery_of(store, FAIL).start(facts(P0, TWO, 15, (0, 20)))) == (14, 15, 14)


def test_two_groups_share_a_folder_and_nothing_in_it(tmp_path: Path, caplog: Any) -> None:
    """One ahead with another model, other rules and another number of partitions; neither hears of the other."""
    other: dict[str, Any] = {"group_id": OTHER_GROUP, "model_sha256": THEIRS, "partitions": 8, "rules": "{}"}
    store_of(tmp_path, [of(4), *(of(at, **other) for at in (4, 6, 8))])
    theirs = CheckpointStore(tmp_path, OTHER_GROUP)
    theirs.prune(P0, 1, newest=8, now_s=CREATED.timestamp())
    start = recovery_of(CheckpointStore(tmp_path, GROUP), FAIL).start(facts(P0, TWO, 6, (0, 7)))
    assert (shown(start), lines(caplog, tmp_path)) == ((4, 6, 4), [])
    assert [entry.next_offset for entry in theirs.candidates(P0, None)] == [8]
    wanted = replace(IDENTITY, group_id=OTHER_GROUP, model_sha256=THEIRS)
    assert theirs.read(theirs.candidates(P0, None)[0], wanted, SPECS).steps.tolist() == [8]


LENGTH_7, LENGTH_3 = json.dumps({"sequence.length": 7}), json.dumps({"sequence.length": 3})
OTHER_RULES = (
    "{}: it was written under other rules (sequence.length was 7, is 3): the new rules apply from each checkpoint on"
)


def test_other_rules_are_told_once_and_apply_from_the_checkpoint_on(tmp_path: Path, caplog: Any) -> None:
    store = store_of(tmp_path, [of(4, rules=LENGTH_7), of(6, P1, rules=LENGTH_7)])
    recovery = recovery_of(store, FAIL, rules=LENGTH_3)
    assert shown(recovery.start(facts(P0, TWO, 6, (0, 10)))) == (4, 6, 4)
    assert shown(recovery.start(facts(P1, TWO, 6, (0, 10)))) == (6, 6, 6)
    assert lines(caplog, tmp_path) == [OTHER_RULES.format(name(4))]
    same = recovery_of(store, FAIL, rules=LENGTH_7)
    assert shown(same.start(facts(P0, TWO, 6, (0, 10)))) == (4, 6, 4)
    assert lines(caplog, tmp_path) == []


def test_a_checkpoint_of_other_rules_does_not_come_back(tmp_path: Path, caplog: Any) -> None:
    """Somebody sets offsets back, to have records answered anew by other rules: what is beyond is not of these."""
    files = [of(4, rules=LENGTH_7), of(6, rules=LENGTH_7), of(8, rules=LENGTH_3), of(9, partitions=2, topic_id=OLD_ID)]
    for committed, rules, left in ((0, LENGTH_3, [9]), (0, LENGTH_7, [9, 6, 4]), (5, LENGTH_3, [9, 4])):
        folder = tmp_path / f"{committed} {rules[-2]}"
        recovery_of(store_of(folder, files), REBUILD, rules=rules).start(facts(P0, TWO, committed, (0, 10)))
        assert [entry.next_offset for entry in CheckpointStore(folder, GROUP).candidates(P0, None)] == left
    assert len(lines(caplog, tmp_path)) == 3 + 1 + 3


def test_a_decision_takes_the_place_of_what_stands_there(tmp_path: Path) -> None:
    """Also of a file that says the same of itself, and could not be used."""
    store = store_of(tmp_path, [of(6)])
    blind = recovery_of(store, RESET)
    blind._store = BlindStore(tmp_path, GROUP)
    assert shown(blind.start(facts(P0, TWO, 6, (0, 10)))) == (6, 6, None)
    assert saved(store) == [(6, 0, 2, "a")]


class BlindStore(CheckpointStore):
    def candidates(self, *values: Any) -> list[FileEntry]:
        return []


@pytest.mark.parametrize("policy", ALL)
def test_exactly_once_without_a_committed_offset(tmp_path: Path, policy: RecoveryPolicy, caplog: Any) -> None:
    """Kafka has forgotten the offset of a group that was idle for long: nobody knows how far outputs went."""
    store = store_of(tmp_path, [of(4), of(6)])
    recovery = recovery_of(store, replace(policy, exactly_once=True))
    if policy.recover == "fail":
        with pytest.raises(WorkerError) as refused:
            recovery.start(facts(P0, TWO, None, (0, 10)))
        assert str(refused.value) == (
            "in/0: the group has no committed offset any more (it has expired, or was deleted), so nobody knows which "
            "outputs after its checkpoint at 6 were sent; once the group has no members, set the offset "
            "(kafka-consumer-groups.sh --reset-offsets --to-offset N --execute), or set state.recover to rebuild, "
            "which continues at the checkpoint and may repeat outputs"
        )
        assert shown(recovery.start(facts(P0, TWO, 8, (0, 10)))) == (6, 8, 6)  # the first remedy
        recovery = recovery_of(store, replace(REBUILD, exactly_once=True))  # the second
    assert shown(recovery.start(facts(P0, TWO, None, (0, 10)))) == (6, 6, 6)
    (line,) = lines(caplog, tmp_path)
    assert re.fullmatch(GONE.format(6), line)


@pytest.mark.parametrize("policy", ALL)
def test_a_group_that_has_committed_nothing_yet_has_lost_nothing(
    tmp_path: Path, policy: RecoveryPolicy, caplog: Any
) -> None:
    store = CheckpointStore(tmp_path, GROUP)
    for _ in range(2):
        recovery = recovery_of(store, replace(policy, exactly_once=True))
        assert shown(recovery.start(facts(P0, TWO, None, (0, 10)))) == (0, 0, None)
    assert lines(caplog, tmp_path) == []


def test_topics_without_ids_are_told_apart_by_name(tmp_path: Path) -> None:
    recovery = recovery_of(CheckpointStore(tmp_path, GROUP), FAIL)
    for topic, partitions in (("small", 4), ("large", 8), ("small", 4)):
        recovery.start(facts(Partition(topic, 0), TopicFacts("", partitions), None, (0, 10)))
    assert (recovery.identity("small", "").partitions, recovery.identity("large", "").partitions) == (4, 8)


def test_another_level_of_processor_is_told_once(tmp_path: Path, caplog: Any) -> None:
    store = store_of(tmp_path, [of(4, cpu="avx2"), of(6, P1, cpu="avx2")])
    recovery = recovery_of(store, FAIL, cpu="avx512_core")
    assert [shown(recovery.start(facts(place, TWO, 6, (0, 10))))[0] for place in (P0, P1)] == [4, 6]
    assert lines(caplog, tmp_path) == [
        f"{name(4)}: it was written under another processor level (avx2, now avx512_core): the same events may give "
        "other last digits; model.cpu_level pins one level for all workers"
    ]


@pytest.mark.parametrize("changed", [{"model_sha256": THEIRS}, {"input": OTHER_INPUT}])
def test_where_no_event_was_seen_there_are_states_of_no_model(tmp_path: Path, changed: Any, caplog: Any) -> None:
    store = CheckpointStore(tmp_path, GROUP)
    recovery_of(store, FAIL, **changed).start(facts(P0, TWO, None, (0, 0)))
    assert shown(recovery_of(store, FAIL).start(facts(P0, TWO, None, (0, 3)))) == (0, 0, None)
    assert (saved(store), lines(caplog, tmp_path)) == ([(0, 0, 2, "a")], [])
    elsewhere = store_of(tmp_path / "elsewhere", [of(3, **changed)])
    recovery_of(elsewhere, FAIL, **changed).start(facts(P0, TWO, 0, (0, 3)))
    with pytest.raises(WorkerError, match=r"00003.h5: it.* another"):
        recovery_of(elsewhere, FAIL).start(facts(P0, TWO, 3, (0, 3)))


GROWN = "in: the topic has 4 partitions and had 2 when its checkpoints were written"
ACCEPTED = (
    f"{GROWN}; streams that moved to another partition start at zero there, all others keep their states "
    "(state.on_partitions_change: reset)"
)
REFUSED = (
    f"{GROWN}, so events of a stream may now arrive in another partition than the one that holds its state, and no "
    "replay brings its history there; set state.on_partitions_change to reset (streams that moved start at zero, all "
    "others keep their states) until every worker has started once with it, or read a new topic and set "
    "state.directory to another folder"
)


def grown(recover: Any, policy: Literal["fail", "reset"]) -> RecoveryPolicy:
    return RecoveryPolicy(recover, on_partitions_change=policy)


@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
@pytest.mark.parametrize("asked", [P0, P3], ids=["old partition", "new partition"])
def test_partitions_added_are_refused(tmp_path: Path, recover: str, asked: Partition) -> None:
    store = store_of(tmp_path, [of(4), of(6, P1)])
    for _ in range(2):  # a restart says it again
        with pytest.raises(WorkerError) as refused:
            recovery_of(store, grown(recover, "fail")).start(facts(asked, FOUR, 6 if asked == P0 else None, (0, 10)))
        assert str(refused.value) == REFUSED
    assert (saved(store), saved(store, P3)) == ([(4, 1, 2, "a")], [])


@pytest.mark.parametrize("recover", ["rebuild", "reset", "fail"])
def test_partitions_added_are_accepted_once(tmp_path: Path, recover: str, caplog: Any) -> None:
    store = store_of(tmp_path, [of(4), of(6, P1)])
    recovery = recovery_of(store, grown(recover, "reset"))
    committed = {P0: 6, P1: 6, P2: None, P3: None}
    starts = [shown(recovery.start(facts(place, FOUR, at, (0, 10)))) for place, at in committed.items()]
    assert starts == [(4, 6, 4), (6, 6, 6), (0, 0, None), (0, 0, None)]
    assert lines(caplog, tmp_path) == [ACCEPTED]
    # All of them say so now, at the same positions: whoever forgets to set the policy back loses its guard for the
    # next time only, and whoever sets it back is not stopped by what was accepted.
    assert [saved(store, place) for place in committed][:2] == [[(4, 1, 4, "a")], [(6, 1, 4, "a")]]
    guarded = recovery_of(store, grown(recover, "fail"))
    assert [shown(guarded.start(facts(place, FOUR, at, (0, 10))))[:2] for place, at in committed.items()] == [
        (4, 6), (6, 6), (0, 0), (0, 0),
    ]  # fmt: skip
    assert lines(caplog, tmp_path) == []
    with pytest.raises(WorkerError, match="in: the topic has 8 partitions and had 4 when"):
        recovery_of(store, grown(recover, "fail")).start(facts(P1, TopicFacts(NOW_ID, 8), 6, (0, 10)))


@pytest.mark.parametrize("policy", ["fail", "reset"])
def test_partitions_added_while_the_worker_runs(tmp_path: Path, policy: Any, caplog: Any) -> None:
    """Nothing is saved yet: what tells is what this member has open."""
    recovery = recovery_of(CheckpointStore(tmp_path, GROUP), grown("rebuild", policy))
    recovery.start(facts(P0, TWO, 6, (0, 10)))
    assert recovery.identity("in", NOW_ID).partitions == 2
    if policy == "fail":
        with pytest.raises(WorkerError) as refused:
            recovery.start(facts(P2, FOUR, None, (0, 0)))
        assert str(refused.value) == REFUSED
        assert recovery.identity("in", NOW_ID).partitions == 2
    else:
        assert shown(recovery.start(facts(P2, FOUR, None, (0, 0)))) == (0, 0, None)
        assert lines(caplog, tmp_path) == [ACCEPTED]
        assert recovery.identity("in", NOW_ID).partitions == 4


def test_partitions_of_another_topic_of_that_name_are_no_change(tmp_path: Path, caplog: Any) -> None:
    store = store_of(tmp_path, [of(4, topic_id=OLD_ID), of(6, P1, topic_id=OLD_ID)])
    recovery = recovery_of(store, grown("rebuild", "fail"))
    assert shown(recovery.start(facts(P3, FOUR, None, (0, 10)))) == (0, 0, None)
    assert shown(recovery.start(facts(P0, FOUR, None, (0, 10)))) == (0, 0, None)
    assert lines(caplog, tmp_path) == [OF_DELETED.format(name(4)).replace("\\", "")]


def test_old_news_of_fewer_partitions_is_no_change(tmp_path: Path, caplog: Any) -> None:
    """A broker that lags behind may say so; Kafka never takes partitions away."""
    recovery = recovery_of(store_of(tmp_path, [of(6, partitions=4)]), grown("fail", "fail"))
    assert shown(recovery.start(facts(P0, TWO, 6, (0, 10)))) == (6, 6, 6)
    assert (recovery.identity("in", NOW_ID).partitions, lines(caplog, tmp_path)) == (4, [])


def test_a_damaged_file_tells_nothing_of_partitions(tmp_path: Path) -> None:
    store = store_of(tmp_path, [of(4), damaged(6)])
    with pytest.raises(WorkerError, match="has 4 partitions and had 2"):
        recovery_of(store, grown("rebuild", "fail")).start(facts(P0, FOUR, 6, (0, 10)))
