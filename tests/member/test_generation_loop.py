"""Texts that take many turns, on Kafka in memory: whatever happens in their middle, nothing is missing, and with
exactly_once nothing comes twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.one_member import CHECKPOINT_S, COMMIT_S, GROUP, OUT, P0, P1, Cluster, Member
from tests.toy_texts_pipeline import SPECS, ask, said, texts_pipeline
from worker.member.recovery_policy import RecoveryPolicy

ROWS = [
    (0, b"a", ask(150)), (1, b"x", ask(90)), (0, b"b", ask(10)), (0, b"a", ask(20, "")), (0, b"c", b"{"),
    (0, b"c", ask(0, "bad")), (1, b"x", ask(5, "fee")), (0, b"c", ask(40, "")), (1, b"y", ask(200, temperature=0)),
    (0, b"a", ask(7)), (0, b"b", ask(30, "ed")),
]  # fmt: skip
EITHER = pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
MODES = pytest.mark.parametrize("mode", ["every_event", "every_item"])
FEW_STEPS = 8  # of one turn: so that texts take many


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", FEW_STEPS)


def member(cluster: Cluster, mode: str = "every_event", **more: Any) -> Member:
    return Member(cluster, texts_pipeline(mode), specs=SPECS, **more)


def undisturbed(folder: Path, mode: str) -> tuple[list[Any], list[Any]]:
    cluster = Cluster(folder / "undisturbed", ROWS)
    one = member(cluster, mode)
    one.drain()
    one.close()
    return sorted(said(cluster)), sorted(cluster.dead())


def check(cluster: Cluster, wanted: tuple[list[Any], list[Any]], exactly_once: bool) -> None:
    found = sorted(said(cluster)), sorted(cluster.dead())
    if not exactly_once:
        found = sorted(set(found[0])), sorted(set(found[1]))
    assert found == wanted


@MODES
def test_one_stream_does_not_hold_up_another(tmp_path: Path, mode: str) -> None:
    cluster = Cluster(tmp_path, ROWS)
    one = member(cluster, mode)
    for _ in range(3):
        one.turn(after_s=COMMIT_S)
    assert (0, 1) in {(partition, offset) for partition, offset, item, _ in said(cluster) if item in (-1, 9)}
    assert one.worker.pipeline.busy
    assert cluster.committed() == 0  # the first is not answered
    assert one.worker.positions.of(P0) == 8
    one.drain()
    assert (cluster.committed(P0), cluster.committed(P1)) == (8, 3)
    one.close()


@EITHER
@MODES
@pytest.mark.parametrize("turns", [1, 5])
@pytest.mark.parametrize("how", ["crash", "close"])
def test_whoever_is_next_completes_what_was_begun(
    tmp_path: Path, mode: str, exactly_once: bool, turns: int, how: str
) -> None:
    cluster = Cluster(tmp_path / "it", ROWS)
    for number in range(3):
        one = member(cluster, mode, exactly_once=exactly_once)
        for turn in range(turns):
            one.turn(records=3, after_s=CHECKPOINT_S if turn % 2 == number % 2 else COMMIT_S / 3)
        getattr(one, how)()
    last = member(cluster, mode, exactly_once=exactly_once)
    last.drain()
    last.close()
    check(cluster, undisturbed(tmp_path, mode), exactly_once)
    assert (cluster.checkpoints(P0)[-1], cluster.checkpoints(P1)[-1]) == (8, 3)


@EITHER
@MODES
def test_a_stop_leaves_a_checkpoint_and_waits_for_no_text(
    tmp_path: Path, mode: str, exactly_once: bool, caplog: Any
) -> None:
    caplog.set_level("INFO")
    cluster = Cluster(tmp_path, ROWS)
    one = member(cluster, mode, exactly_once=exactly_once)
    one.turn()
    one.close()
    assert one.worker.pipeline.busy or not one.owned()
    assert cluster.checkpoints(P0) == [0]
    two = member(cluster, mode, exactly_once=exactly_once)
    two.turn()
    two.turn()
    assert (
        "in/0: from checkpoint at 0, 6 answers to complete, 3 streams, replaying 8 offsets up to 8" in caplog.messages
    )
    assert two.value("replayed_records_total") == 2  # one is refused, one only fed
    two.close()


@EITHER
@MODES
@pytest.mark.parametrize("lost", [False, True], ids=["revoked", "lost"])
def test_a_partition_that_moves_in_the_middle_of_a_text(
    tmp_path: Path, mode: str, exactly_once: bool, lost: bool
) -> None:
    cluster = Cluster(tmp_path / "it", ROWS)
    one = member(cluster, mode, exactly_once=exactly_once)
    for _ in range(3):
        one.turn(after_s=COMMIT_S)
    two = member(cluster, mode, exactly_once=exactly_once)
    if lost:
        cluster.broker.expel(one.source)
    for _ in range(6):
        one.turn()
        two.turn(after_s=COMMIT_S)
    assert len(one.owned()) == len(two.owned()) == 1
    assert len(one.worker.pipeline.engine.table.partitions) == 1
    one.close()
    two.drain()
    two.close()
    check(cluster, undisturbed(tmp_path, mode), exactly_once)


@EITHER
@MODES
def test_a_commit_that_fails_in_the_middle_of_a_text(tmp_path: Path, mode: str, exactly_once: bool) -> None:
    """Without transactions it is committed again; with them, states go back and the text is begun again."""
    cluster = Cluster(tmp_path / "it", ROWS)
    one = member(cluster, mode, exactly_once=exactly_once)
    for turn in range(12):
        one.source.unanswered = turn % 3 == 1
        one.turn(records=4, after_s=COMMIT_S)
    one.drain()
    one.close()
    assert (one.value("rollbacks_total") or 0) >= exactly_once
    assert one.value("records_consumed_total", topic="in") == len(ROWS)
    wanted = undisturbed(tmp_path, mode)
    assert one.value("outputs_produced_total", topic="out") == len(wanted[0])
    check(cluster, wanted, exactly_once)


def sayings(cluster: Cluster, offset: int) -> int:
    return sum(1 for partition, at, _, _ in said(cluster) if (partition, at) == (0, offset))


@EITHER
def test_an_operator_sets_the_offset_back_or_forward(tmp_path: Path, exactly_once: bool) -> None:
    """What is below it is answered, what is not is unanswered, whatever was before."""
    for offset, repeated in ((1, True), (7, False)):
        cluster = Cluster(tmp_path / str(offset), ROWS)
        one = member(cluster, exactly_once=exactly_once)
        for _ in range(3):
            one.turn(after_s=CHECKPOINT_S)
        one.close()
        assert (cluster.committed(), sayings(cluster, 1), sayings(cluster, 7)) == (0, 1, 0)
        cluster.broker.set_committed(GROUP, P0, offset)
        two = member(cluster, exactly_once=exactly_once)
        two.drain()
        two.close()
        found = [sayings(cluster, each) for each in (0, 1, 2, 7)]
        assert found == ([0, 2, 1, 1] if repeated else [0, 1, 0, 1])


@MODES
def test_without_its_offset_a_group_continues_at_its_checkpoint(tmp_path: Path, mode: str) -> None:
    cluster = Cluster(tmp_path / "it", ROWS)
    one = member(cluster, mode, exactly_once=True)
    for _ in range(4):
        one.turn(after_s=CHECKPOINT_S)
    one.close()
    before = said(cluster)
    for partition in (P0, P1):
        cluster.broker.set_committed(GROUP, partition, None)
    two = member(cluster, mode, exactly_once=True)
    two.drain()
    two.close()
    wanted = undisturbed(tmp_path, mode)
    assert sorted(set(said(cluster))) == wanted[0]
    repeated = {(partition, offset) for partition, offset, _, _ in said(cluster)[len(before) :]}
    assert (0, 1) not in repeated  # it was complete in the checkpoint
    assert (0, 0) in repeated


@EITHER
@MODES
@pytest.mark.parametrize("recover", ["rebuild", "reset"])
def test_without_a_checkpoint(tmp_path: Path, mode: str, exactly_once: bool, recover: Any) -> None:
    cluster = Cluster(tmp_path / "it", ROWS)
    one = member(cluster, mode, exactly_once=exactly_once)
    for _ in range(4):
        one.turn(after_s=COMMIT_S)
    one.crash()
    assert (cluster.committed(P0), cluster.committed(P1)) == (0, 0)  # so to reset them rebuilds them
    two = member(cluster, mode, exactly_once=exactly_once, folder=tmp_path / "empty", policy=RecoveryPolicy(recover))
    two.drain()
    two.close()
    check(cluster, undisturbed(tmp_path, mode), exactly_once)


def test_what_is_done_is_counted(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ROWS)
    one = member(cluster, "every_item")
    one.turn()
    assert [one.value("unfinished_records", topic="in", partition=each) for each in (0, 1)] == [6, 3]
    one.drain()
    assert [one.value("unfinished_records", topic="in", partition=each) for each in (0, 1)] == [0, 0]
    assert one.value("items_drawn_total") == one.value("outputs_produced_total", topic="out") == 552
    assert one.value("items_fed_total") == 13
    assert one.value("records_consumed_total", topic="in") == len(ROWS)
    assert one.value("sources_dropped_total") == 0
    one.close()


@EITHER
@MODES
@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_record_whose_outputs_nobody_takes_has_one_dead_letter(
    tmp_path: Path, mode: str, exactly_once: bool, at: int
) -> None:
    cluster = Cluster(tmp_path)
    cluster.broker.largest_bytes[OUT] = 700
    keys = [b"L" * 800 if offset == at else b"%d" % (offset % 2) for offset in range(6)]
    cluster.write((0, key, ask(30)) for key in keys)
    one = member(cluster, mode, exactly_once=exactly_once)
    one.drain()
    one.close()
    others = [offset for offset in range(6) if offset != at]
    items = range(30) if mode == "every_item" else [-1]
    wanted = [(0, offset, item) for offset in others for item in items]
    found = [each[:3] for each in said(cluster)]
    assert sorted(found if exactly_once else set(found)) == wanted
    assert set(cluster.dead()) == {("output_too_large", 0, at)}
    assert len(cluster.dead()) == 1 or not exactly_once
    assert cluster.committed() == 6


@MODES
def test_a_text_that_no_producer_takes_is_a_dead_letter(tmp_path: Path, mode: str) -> None:
    cluster = Cluster(tmp_path)
    cluster.write([(0, b"a", ask(30)), (0, b"b", ask(900)), (0, b"a", ask(3))])
    pipeline = texts_pipeline(mode)
    pipeline.output_bytes = 2_000
    one = Member(cluster, pipeline, specs=SPECS)
    one.drain()
    one.close()
    whole = mode == "every_event"
    assert cluster.dead() == [("output_too_large", 0, 1)] * whole
    assert len({offset for _, offset, _, _ in said(cluster)}) == 3 - whole


def test_a_partition_that_waits_for_a_text_holds_up_no_other_and_takes_no_more_room(tmp_path: Path) -> None:
    """A tombstone waits for its stream's text, and all behind it in the partition with it."""
    cluster = Cluster(tmp_path)
    cluster.write([(0, b"a", ask(500)), (0, b"a", None), *((0, b"b", ask(1)) for _ in range(60))])
    cluster.write((1, b"x", ask(2)) for _ in range(5))
    one = member(cluster)
    for _ in range(20):
        one.turn(records=16, after_s=COMMIT_S)
    assert cluster.committed(P1) == 5
    assert (one.worker.positions.of(P0), one.worker.intake.records()) == (1, 16)
    assert one.source.polls[-1][0] == 0
    assert cluster.committed(P0) == 0
    one.drain()
    assert (cluster.committed(P0), cluster.committed(P1)) == (62, 5)
    assert [offset for partition, offset, _, _ in said(cluster) if partition == 0] == [0, *range(2, 62)]
    one.close()


@EITHER
def test_a_text_whose_record_the_log_has_no_more_keeps_nobody_waiting(tmp_path: Path, exactly_once: bool) -> None:
    cluster = Cluster(tmp_path)
    cluster.write([(0, b"a", ask(500)), (0, b"b", ask(3))])
    one = member(cluster, exactly_once=exactly_once)
    for _ in range(3):
        one.turn(after_s=CHECKPOINT_S)
    one.crash()
    assert (cluster.committed(), cluster.checkpoints()) == (0, [0])
    cluster.broker.compact(P0, [0, 1])
    two = member(cluster, exactly_once=exactly_once)
    two.drain()
    assert cluster.committed() == 2
    cluster.write([(0, b"a", ask(4)), (0, b"b", ask(4, ""))])
    two.drain()
    two.close()
    assert [offset for _, offset, _, _ in said(cluster)] == [1, 2, 3]
