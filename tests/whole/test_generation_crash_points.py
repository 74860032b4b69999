"""A crash before or after every call of a worker whose texts take many turns: see ``test_crash_points``.

The texts are unfinished at nearly every call. Who restarts must complete them as they would have been.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import CHECKPOINT_S, COMMIT_S, P0, P1, Cluster, Member
from tests.toy_texts_pipeline import SPECS, ask, said, texts_pipeline
from tests.whole.test_crash_points import CrashError, Fuse, crash_points, lit
from worker.engine.boundaries import BoundaryRules

ROWS = [
    (0, b"a", ask(45)), (1, b"x", ask(30, "fed")), (0, b"b", ask(6)), (0, b"a", ask(9, "")), (0, b"c", b"{"),
    (0, b"b", ask(0, "bad")), (1, b"x", ask(5, "", last=True)), (0, b"b", ask(25, "")), (1, b"y", ask(11)),
    (0, b"a", ask(4, "g", last=True)), (1, b"x", ask(3, "a")),
]  # fmt: skip
# (records of the poll, seconds before it): commits, checkpoints and turns without either.
TURNS = [(3, 0.0), (4, COMMIT_S), (2, CHECKPOINT_S), (1, 0.0), (3, CHECKPOINT_S), (9, COMMIT_S), (9, CHECKPOINT_S)]
FEW_STEPS = 6  # of one turn: so that texts take many


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", FEW_STEPS)


def writer(cluster: Cluster, mode: str, exactly_once: bool) -> Member:
    pipeline = texts_pipeline(mode, BoundaryRules(), end="last")
    return Member(cluster, pipeline, exactly_once=exactly_once, specs=SPECS)


def states(member: Member, partition: Any) -> dict[str, tuple[Any, ...]]:
    """All that is known of each stream."""
    found = member.worker.pipeline.engine.table.snapshot(partition, 0)
    assert found.drawn is not None
    assert found.records is not None
    assert found.items is not None
    assert found.emitted is not None
    assert not found.unfinished
    columns = (found.steps, found.times, found.pending, found.drawn, found.records, found.states["hash", "h"])
    return {
        key: (*(column[row].tolist() for column in columns), found.items[row], str(found.emitted[row].tolist()))
        for row, key in enumerate(found.keys)
    }


def live(cluster: Cluster, mode: str, exactly_once: bool, fuse: Fuse) -> None:
    """A life that reads, writes, commits, saves and ends in order, in the middle of texts, unless it crashes."""
    member: Member | None = None
    with lit(fuse):
        try:
            member = writer(cluster, mode, exactly_once)
            for records, after_s in TURNS:
                member.turn(records, after_s)
                if fuse.blown:
                    raise CrashError
            member.close()
        except CrashError:
            assert fuse.blown
    if member is not None and fuse.blown:
        member.crash()


def outcome(folder: Path, mode: str, exactly_once: bool, fuse: Fuse) -> tuple[Any, ...]:
    """What is there in the end, after a second life, which ends in order, and a third that restores: its states."""
    cluster = Cluster(folder, ROWS)
    live(cluster, mode, exactly_once, fuse)
    for _ in range(2):
        member = writer(cluster, mode, exactly_once)
        member.drain()
        known = {place: states(member, place) for place in (P0, P1)}
        member.close()
    for place in (P0, P1):
        committed = cluster.committed(place) or 0
        assert cluster.checkpoints(place)[-1] == committed == cluster.broker.log_range(place)[1]
    return known, sorted(said(cluster)), sorted(cluster.dead())


def rehearsal(mode: str, exactly_once: bool) -> tuple[Fuse, tuple[Any, ...]]:
    with tempfile.TemporaryDirectory() as name:
        fuse = Fuse()
        return fuse, outcome(Path(name), mode, exactly_once, fuse)


CASES = [
    *itertools.product(("every_event", "every_item"), (False, True), (False, True)),
    ("sequence_end", True, True),
]


@pytest.mark.parametrize(("mode", "exactly_once", "after"), CASES)
def test_a_crash_anywhere_in_the_middle_of_texts_makes_no_difference(
    mode: str, exactly_once: bool, after: bool
) -> None:
    undisturbed, (known, texts, dead) = rehearsal(mode, exactly_once)
    assert len(dead) == 1
    assert len(texts) == {"every_event": len(ROWS) - 1, "every_item": 138, "sequence_end": 2}[mode]
    for at in crash_points(undisturbed.calls):
        call = undisturbed.calls[at]
        with tempfile.TemporaryDirectory() as name:
            fuse = Fuse(at, after)
            found = outcome(Path(name), mode, exactly_once, fuse)
        assert fuse.blown, call
        where = f"{'after' if after else 'before'} call {at}, {call}"
        assert found[0] == known, where
        if exactly_once:
            assert (found[1], found[2]) == (texts, dead), where
        else:
            assert (sorted(set(found[1])), sorted(set(found[2]))) == (texts, dead), where


def test_texts_are_unfinished_at_most_calls(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ROWS)
    member = writer(cluster, "every_event", exactly_once=True)
    unfinished = []
    for records, after_s in TURNS:
        member.turn(records, after_s)
        unfinished.append(sum(len(each.unfinished) for each in member.worker.pipeline.engine.table.partitions.values()))
    member.close()
    assert min(unfinished[1:]) >= 2
