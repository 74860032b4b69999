"""Sequences in, (step, reset, sum, final) out: one line per event, as a person would work it out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sums import batch, sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.records.ownership import Partition

P = Partition("readings", 0)


def run(rules: BoundaryRules, fields: dict[str, Any], rows: list[tuple[Any, ...]], turn: int) -> list[tuple[Any, ...]]:
    pipeline = sums_pipeline(rules, **fields)
    pipeline.engine.table.open(P)
    seen = []
    for start in range(0, len(rows), turn):
        for outcome in pipeline.turn([batch(P, rows[start : start + turn], start)]):
            for value in outcome.outputs.values:
                out = json.loads(value or b"")
                seen.append((out["step"], out["reset"], out["probabilities"][0], out["final"]))
    return seen


def event(x: float, time: int = 0, key: str = "a", **more: Any) -> tuple[Any, ...]:
    return (key.encode(), json.dumps({"x": x, **more}).encode(), time)


DAY_MS = 24 * 3_600_000
WALL_MS = 1_795_000_000_000  # the records' own timestamps in a backfill: two days after their event times
BACKFILL_MS = WALL_MS - 2 * DAY_MS


def timed(later_ms: int, key: str = "a") -> tuple[Any, ...]:
    return event(1, WALL_MS, key, t=BACKFILL_MS + later_ms)


RESET = (b"a", b"", 0, [("worker-command", b"reset")])
TOMBSTONE = (b"a", None, 0)
SET_STATE = (b"a", b'{"states": {"sum": {"h": [100]}}}', 0, [("worker-command", b"set-state")])

CASES: dict[str, tuple[BoundaryRules, dict[str, Any], list[Any], list[Any]]] = {
    "none": (BoundaryRules(), {}, [event(1), event(1)], [(1, "new", 1, False), (2, None, 2, False)]),
    "id": (
        BoundaryRules(),
        {"id": "s"},
        [event(1, s="A"), event(1, s="A"), event(1, s="B"), event(1, s=None), event(1, s=None), event(1, s=1),
         event(1, s=1.0), event(1, s=True)],
        [(1, "new", 1, False), (2, None, 2, False), (1, "id", 1, False), (1, "id", 1, False), (2, None, 2, False),
         (1, "id", 1, False), (2, None, 2, False), (1, "id", 1, False)],
    ),
    "start": (
        BoundaryRules(),
        {"start": "first"},
        [event(1, first=True), event(1), event(1, first=False), event(1, first=True)],
        [(1, "new", 1, False), (2, None, 2, False), (3, None, 3, False), (1, "start", 1, False)],
    ),
    "end": (
        BoundaryRules(),
        {"end": "last"},
        [event(1), event(1, last=True), event(1), event(1, last=False)],
        [(1, "new", 1, False), (2, None, 2, True), (1, "end", 1, False), (2, None, 2, False)],
    ),
    "length": (
        BoundaryRules(length=2),
        {},
        [event(1), event(1), event(1), event(1), event(1)],
        [(1, "new", 1, False), (2, None, 2, True), (1, "length", 1, False), (2, None, 2, True),
         (1, "length", 1, False)],
    ),
    "gap": (
        BoundaryRules(gap_ms=10),
        {},
        [event(1, 0), event(1, 10), event(1, 20), event(1, 31)],
        [(1, "new", 1, False), (2, None, 2, False), (3, None, 3, False), (1, "gap", 1, False)],
    ),
    "a late record makes no gap": (
        BoundaryRules(gap_ms=30),
        {},
        [event(1, time) for time in (0, 10, 20, 40, 50, 60, 70, 30, 80, 90)],
        [(1, "new", 1, False), *[(step, None, step, False) for step in range(2, 11)]],
    ),
    "nor does a late record end one": (
        BoundaryRules(gap_ms=30),
        {},
        [event(1, 100), event(1, 60), event(1, 131)],
        [(1, "new", 1, False), (2, None, 2, False), (1, "gap", 1, False)],
    ),
    "the greatest event time outlives a boundary": (
        BoundaryRules(gap_ms=30),
        {"start": "first"},
        [event(1, 100), event(1, 60, first=True), event(1, 110)],
        [(1, "new", 1, False), (1, "start", 1, False), (2, None, 2, False)],
    ),
    "late records are dropped": (
        BoundaryRules(gap_ms=30, late="drop"),
        {"end": "last"},
        [event(1, 100), event(5, 99), event(5, 99, last=True), event(1, 100), event(1, 130)],
        [(1, "new", 1, False), (2, None, 2, False), (3, None, 3, False)],
    ),
    "a tombstone forgets the greatest event time, too": (
        BoundaryRules(late="drop"),
        {},
        [event(1, 100), event(5, 99), TOMBSTONE, event(1, 50)],
        [(1, "new", 1, False), (1, "tombstone", 1, False)],
    ),
    "records without a time make no gap": (
        BoundaryRules(gap_ms=30),
        {},
        [event(1, -1), event(1, -1), event(1, 1000), event(1, -1), event(1, 1001)],
        [(1, "new", 1, False), *[(step, None, step, False) for step in range(2, 6)]],
    ),
    "nor is a stream idle for one": (
        BoundaryRules(idle_ms=30),
        {},
        [event(1, -1), event(1, -1), event(1, 1000), event(1, 1001)],
        [(1, "new", 1, False), *[(step, None, step, False) for step in range(2, 5)]],
    ),
    "commands have no time where a field tells it: they move no clock": (
        BoundaryRules(idle_ms=DAY_MS),
        {"time": "t"},
        [timed(0), timed(1, "b"), timed(2, "z"), timed(3), (b"z", None, WALL_MS), (b"z", b"", WALL_MS, *RESET[3:]),
         (b"q", None, WALL_MS), timed(4000), timed(4001, "b")],
        [(1, "new", 1, False), (1, "new", 1, False), (1, "new", 1, False), (2, None, 2, False), (3, None, 3, False),
         (2, None, 2, False)],
    ),
    "a state that was set without a time stays, whenever the next event is": (
        BoundaryRules(gap_ms=30),
        {"time": "t"},
        [timed(0), (b"a", SET_STATE[1], WALL_MS, *SET_STATE[3:]), timed(5 * DAY_MS), timed(5 * DAY_MS + 31)],
        [(1, "new", 1, False), (1, None, 101, False), (1, "gap", 1, False)],
    ),
    "idle by the stream's own time": (
        BoundaryRules(idle_ms=10),
        {},
        [event(1, 0), event(1, 10), event(1, 21)],
        [(1, "new", 1, False), (2, None, 2, False), (1, "idle", 1, False)],
    ),
    "idle by the partition's clock, late data of another device kept": (
        BoundaryRules(idle_ms=10),
        {},
        [event(1, 0), event(1, 100, key="b"), event(1, 20, key="c"), event(1, 21, key="c"), event(1, 5)],
        [(1, "new", 1, False), (1, "new", 1, False), (1, "new", 1, False), (2, None, 2, False), (1, "idle", 1, False)],
    ),
    "end comes before what the next event says": (
        BoundaryRules(gap_ms=10),
        {"id": "s", "start": "first", "end": "last"},
        [event(1, 0, s=1, last=True), event(1, 100, s=2, first=True), event(1, 101, s=3, first=True)],
        [(1, "new", 1, True), (1, "end", 1, False), (1, "id", 1, False)],
    ),
    "length and id": (
        BoundaryRules(length=2),
        {"id": "s"},
        [event(1, s=1), event(1, s=2), event(1, s=2), event(1, s=2)],
        [(1, "new", 1, False), (1, "id", 1, False), (2, None, 2, True), (1, "length", 1, False)],
    ),
    "reset command": (
        BoundaryRules(), {}, [event(1), RESET, event(1)], [(1, "new", 1, False), (1, "command", 1, False)],
    ),
    "reset command for a stream that is not known": (
        BoundaryRules(), {}, [RESET, event(1)], [(1, "new", 1, False)],
    ),
    "tombstone": (
        BoundaryRules(),
        {},
        [event(1), TOMBSTONE, event(1), TOMBSTONE],
        [(1, "new", 1, False), (1, "tombstone", 1, False)],
    ),
    "commands to a stream that has nothing left to lose": (
        BoundaryRules(),
        {"end": "last"},
        [event(1), TOMBSTONE, RESET, event(1, last=True), RESET, TOMBSTONE, event(1)],
        [(1, "new", 1, False), (1, "tombstone", 1, True), (1, "end", 1, False)],
    ),
    "commands to a stream that is idle, freed already or not": (
        BoundaryRules(idle_ms=10),
        {},
        [event(1), event(1, 50, "b"), TOMBSTONE, RESET, event(1, 51)],
        [(1, "new", 1, False), (1, "new", 1, False), (1, "idle", 1, False)],
    ),
    "set-state": (
        BoundaryRules(gap_ms=10),
        {"id": "s"},
        [event(1, 0, s=1), SET_STATE, event(1, 1, s=2), event(1, 2, s=2)],
        [(1, "new", 1, False), (1, None, 101, False), (2, None, 102, False)],
    ),
    "set-state for a stream that is not known": (
        BoundaryRules(), {}, [SET_STATE, event(1)], [(1, None, 101, False)],
    ),
    "a result that is not finite": (
        BoundaryRules(),
        {},
        [event(1), event(666), event(1), event(1)],
        [(1, "new", 1, False), (1, "invalid_state", 1, False), (2, None, 2, False)],
    ),
    "a refused record changes nothing": (
        BoundaryRules(gap_ms=10),
        {},
        [event(1, 0), (b"a", b"{", 500), (b"a", b'{"x": "1"}', 500), event(1, 9)],
        [(1, "new", 1, False), (2, None, 2, False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("turn", [1, 2, 100], ids=lambda turn: f"turn of {turn}")
@pytest.mark.parametrize("name", CASES)
def test_boundary(name: str, turn: int) -> None:
    rules, fields, rows, wanted = CASES[name]
    assert run(rules, fields, rows, turn) == wanted


def test_a_chunk_is_stepped_through_and_its_boundaries_are_at_its_ends() -> None:
    pipeline = sums_pipeline(BoundaryRules(), features="x", start="first", end="last")
    pipeline.engine.table.open(P)
    rows = [
        (b"a", b'{"x": [[1], [2], [3]], "last": true}'),
        (b"a", b'{"x": [[1], [1]], "first": true}'),
        (b"a", b'{"x": [7], "first": true}'),
        (b"a", b'{"x": 5}'),
    ]
    outputs = [json.loads(value or b"") for value in pipeline.turn([batch(P, rows)])[0].outputs.values]
    assert [(o["step"], o["reset"], o["probabilities"][0], o["final"], o["source"].get("item")) for o in outputs] == [
        (1, "new", 1, False, 0),
        (2, None, 3, False, 1),
        (3, None, 6, True, 2),
        (1, "end", 1, False, 0),
        (2, None, 2, False, 1),
        (1, "start", 7, False, None),
        (2, None, 12, False, None),
    ]
    assert [o["source"]["offset"] for o in outputs] == [0, 0, 0, 1, 1, 2, 3]


def test_late_records_are_dead_letters_one_each() -> None:
    pipeline = sums_pipeline(BoundaryRules(late="dead_letter"), features="x")
    pipeline.engine.table.open(P)
    rows = [event(1, 100), event(5, 99), (b"a", b'{"x": [[1], [2]]}', 98), event(1, 101)]
    (outcome,) = pipeline.turn([batch(P, rows)])
    assert [json.loads(value or b"")["probabilities"][0] for value in outcome.outputs.values] == [1, 2]
    assert [(refusal.record, refusal.error) for refusal in outcome.refusals] == [(1, "late"), (2, "late")]
    assert pipeline.engine.late == 3


HOUR_MS = 3_600_000


@pytest.mark.parametrize("later_ms", [0, -HOUR_MS, 1, 5 * HOUR_MS], ids=lambda ms: f"later by {ms} ms")
@pytest.mark.parametrize("late", ["accept", "drop", "dead_letter"])
def test_nothing_of_an_idle_stream_counts(late: Any, later_ms: int) -> None:
    rules = BoundaryRules(idle_ms=24 * HOUR_MS, gap_ms=HOUR_MS, late=late)
    first = 1_793_536_200_000 + later_ms  # 1 November 2026, 12:30: no whole quarter of a day
    hours = [("a", 0), ("c", 23 + 40 / 60), ("b", 24.5), ("a", -0.5), ("a", 0.75)]
    rows = [event(1, first + round(hour * HOUR_MS), key) for key, hour in hours]
    for turn in (1, 5):
        assert [(step, reset) for step, reset, *_ in run(rules, {}, rows, turn)] == [
            (1, "new"), (1, "new"), (1, "new"), (1, "idle"), (1, "gap"),
        ]  # fmt: skip
