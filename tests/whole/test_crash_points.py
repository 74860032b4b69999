"""A crash before or after every call of the worker to the outside, one after the other.

That is every step of the commit law, and the places between them: an undisturbed run counts the calls, then the same
run is made again for each of them (of many writes into one file: for three) and ends there. Who restarts must bring
about what would have been.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import CHECKPOINT_S, COMMIT_S, P0, P1, Cluster, Member, Source, Transactions
from worker.checkpoints.folder import CheckpointStore
from worker.kafka.memory.sinks import MemorySink

ROWS = [
    (0, b"a", 1), (1, b"b", 10), (0, b"a", 2), (0, b"c", b"{"), (0, b"a", 4), (1, b"b", 20), (0, b"c", 100),
    (1, b"b", 40), (0, b"a", 8), (0, b"c", 200), (1, b"d", 5), (0, b"a", 16), (1, b"b", 80), (1, b"d", 6),
]  # fmt: skip
CALLS: list[tuple[Any, str]] = [
    *[(Source, name) for name in ("poll", "commit", "committed", "log_range", "topic", "seek", "close")],
    *[(MemorySink, name) for name in ("send", "flush", "close")],
    *[(Transactions, name) for name in ("__init__", "send", "commit", "close")],
    *[(CheckpointStore, name) for name in ("candidates", "publish", "prune")],
    *[(os, name) for name in ("fsync", "replace", "unlink", "pwrite")],
]
WRITE = "os.pwrite"
# (records of the poll, seconds before it): commits, checkpoints and turns without either.
TURNS = [(2, 0.0), (3, COMMIT_S), (2, CHECKPOINT_S), (1, 0.0), (3, CHECKPOINT_S), (9, COMMIT_S), (9, CHECKPOINT_S)]


class CrashError(OSError):
    """The process is gone. (What checkpoint files raise is kept by their writer: the turn's end looks for it.)"""


@dataclass
class Fuse:
    """Counts calls, and ends the process before or after one of them; from then on nothing gets through."""

    at: int = -1
    after: bool = False
    calls: list[str] = field(default_factory=list)
    blown: bool = False

    def guard(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            if self.blown:
                raise CrashError(name)
            number = len(self.calls)
            self.calls.append(name)
            if number == self.at and not self.after:
                self.blow(name)
            answer = call(*arguments, **named)
            if number == self.at:
                self.blow(name)
            return answer

        return guarded

    def blow(self, name: str) -> None:
        self.blown = True
        raise CrashError(name)


@contextmanager
def lit(fuse: Fuse) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, fuse.guard(f"{owner.__name__}.{name}", getattr(owner, name)))
        yield


def live(cluster: Cluster, exactly_once: bool, fuse: Fuse) -> None:
    """A life that reads, commits, saves and ends in order, unless it crashes."""
    member: Member | None = None
    with lit(fuse):
        try:
            member = Member(cluster, exactly_once=exactly_once)
            for records, after_s in TURNS:
                member.turn(records, after_s)
                if fuse.blown:
                    raise CrashError
            member.close()
        except CrashError:
            assert fuse.blown
    if member is not None and fuse.blown:
        member.crash()


def outcome(folder: Path, exactly_once: bool, fuse: Fuse) -> tuple[Any, ...]:
    """What is there in the end, after a second life, which ends in order, and a third that restores: its states."""
    cluster = Cluster(folder, ROWS)
    live(cluster, exactly_once, fuse)
    for _ in range(2):
        member = Member(cluster, exactly_once=exactly_once)
        member.drain()
        states = {place: member.states(place) for place in (P0, P1)}
        member.close()
    for place in (P0, P1):
        committed = cluster.committed(place) or 0
        assert cluster.checkpoints(place)[-1] == committed == cluster.broker.log_range(place)[1]
    sums = [row[:4] for row in cluster.sums()]
    return states, sorted(sums), sorted(cluster.dead())


def rehearsal(exactly_once: bool) -> tuple[Fuse, tuple[Any, ...]]:
    with tempfile.TemporaryDirectory() as name:
        fuse = Fuse()
        return fuse, outcome(Path(name), exactly_once, fuse)


def crash_points(calls: list[str]) -> list[int]:
    """All of them, but of writes into one file in a row the first, the middle and the last.

    A death at each write of a file is in test_checkpoints_disk.py: here it is about what else there is by then.
    """
    points: list[int] = []
    for name, run in groupby(range(len(calls)), calls.__getitem__):
        row = list(run)
        points += sorted({row[0], row[len(row) // 2], row[-1]}) if name == WRITE else row
    return points


def test_hardly_any_call_is_left_out() -> None:
    calls = ["a", WRITE, WRITE, WRITE, WRITE, "b", "b", WRITE, "c"]
    assert crash_points(calls) == [0, 1, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_anywhere_makes_no_difference(exactly_once: bool, after: bool) -> None:
    undisturbed, (states, sums, dead) = rehearsal(exactly_once)
    assert len(sums) == len(ROWS) - 1
    assert len(dead) == 1
    for at in crash_points(undisturbed.calls):
        call = undisturbed.calls[at]
        with tempfile.TemporaryDirectory() as name:
            fuse = Fuse(at, after)
            found = outcome(Path(name), exactly_once, fuse)
        assert fuse.blown, call
        where = f"{'after' if after else 'before'} call {at}, {call}"
        assert found[0] == states, where
        if exactly_once:
            assert (found[1], found[2]) == (sums, dead), where
        else:
            assert (sorted(set(found[1])), sorted(set(found[2]))) == (sums, dead), where


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
def test_every_step_of_the_commit_law_is_among_the_calls(exactly_once: bool) -> None:
    calls = rehearsal(exactly_once)[0].calls
    steps = (
        ["Transactions.send", "Transactions.commit"]
        if exactly_once
        else ["MemorySink.send", "MemorySink.flush", "Source.commit"]
    )
    steps += ["CheckpointStore.publish", "os.pwrite", "os.fsync", "os.replace", "os.fsync", "CheckpointStore.prune"]
    rest = iter(calls)
    assert all(step in rest for step in steps), (steps, calls)
