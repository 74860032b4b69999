"""Sequences in, (step, reset, sum, final) out: one line per event, as a person would work it out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sums import batch, sums_pipeline
from worker.boundaries import BoundaryRules
from worker.records import Partition

P = Partition("readings", 0)


def run(rules: BoundaryRules, fields: dict[str, Any], rows: list[tuple[Any, ...]], turn: int) -> list[tuple[Any, ...]]:
    pipeline = sums_pipeline(rules, **fields)
    pipeline.open(P)
    seen = []
    for start in range(0, len(rows), turn):
        for outcome in pipeline.turn([(batch(P, rows[start : start + turn], start), False)]):
            for value in outcome.outputs.values:
                out = json.loads(value or b"")
                seen.append((out["step"], out["reset"], out["probabilities"][0], out["final"]))
    return seen


def event(x: float, time: int = 0, key: str = "a", **more: Any) -> tuple[Any, ...]:
    return (key.encode(), json.dumps({"x": x, **more}).encode(), time)


RESET = (b"a", b"", 0, [("worker-command", b"reset")])
TOMBSTONE = (b"a", None, 0)
SET_STATE = (b"a", b'{"states": {"sum": {"h": [100]}}}', 0, [("worker-command", b"set-state")])

CASES: dict[str, tuple[BoundaryRules, dict[str, Any], list[Any], list[Any]]] = {
    "none": (BoundaryRules(), {}, [event(1), event(1)], [(1, "new", 1, False), (2, None, 2, False)]),
    "id": (
        BoundaryRules(by_id=True),
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
        BoundaryRules(by_id=True, gap_ms=10),
        {"id": "s", "start": "first", "end": "last"},
        [event(1, 0, s=1, last=True), event(1, 100, s=2, first=True), event(1, 101, s=3, first=True)],
        [(1, "new", 1, True), (1, "end", 1, False), (1, "id", 1, False)],
    ),
    "length and id": (
        BoundaryRules(by_id=True, length=2),
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
        BoundaryRules(by_id=True, gap_ms=10),
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
    pipeline.open(P)
    rows = [
        (b"a", b'{"x": [[1], [2], [3]], "last": true}'),
        (b"a", b'{"x": [[1], [1]], "first": true}'),
        (b"a", b'{"x": [7], "first": true}'),
        (b"a", b'{"x": 5}'),
    ]
    outputs = [json.loads(value or b"") for value in pipeline.turn([(batch(P, rows), False)])[0].outputs.values]
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
