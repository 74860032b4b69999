"""How a log is cut into turns, dealt to workers and interrupted shows nowhere: not in outputs, not in states.

Both sides are data: what one worker says that reads a partition record by record, and what workers say that read both
in turns of any size, crash, go back to any earlier state, replay, and hand partitions over.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.one_member import command
from tests.sums import batch, sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.pipeline.pipeline import Outcome, Pipeline
from worker.records.arrays import NO_TIME_MS
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.records.states import PartitionState

LOGS = examples(300)
PARTITIONS = (Partition("in", 0), Partition("in", 1))
SCAN_ROWS_SMALL = (2, 1)  # so that short logs are scanned, too
IDENTITY = ("topic", "partition", "offset", "item")
NOW_MS = 1_700_000_000_000
SHIFTED_FROM_MS = 10_000  # no log goes back to zero

SET_STATE = (b'{"states": {"sum": {"h": [%d]}}}', command(b"set-state"))
numbers = st.sampled_from([0.25, 0.5, 1, 2, 666])
flags = st.fixed_dictionaries(
    {"s": st.sampled_from(["A", "A", "B"])}, optional={"first": st.booleans(), "last": st.booleans()}
)
steps = st.tuples(st.one_of(numbers, st.lists(numbers.map(lambda x: [x]), min_size=1, max_size=4)), flags)
values = st.one_of(
    steps,
    steps,
    steps,
    st.sampled_from([(None, None), (b"", command(b"reset")), (b"{", None)]),
    st.integers(0, 3).map(lambda h: (SET_STATE[0] % h, SET_STATE[1])),
)
later_ms = st.sampled_from([0, 0, 1, 5, 20, 40, 150, -10, -40])
records = st.tuples(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), values, later_ms)
IDLE_MS = 60
near_idle_ms = st.sampled_from([0, 1, 1, 5, 14, 20, 40, 59, 60, 61, -10, -40])
streams_near_idle = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c"]),
        st.one_of(steps, st.sampled_from([(None, None), (b"", command(b"reset")), (SET_STATE[0] % 1, SET_STATE[1])])),
        near_idle_ms,
    ),
    max_size=12,
)
logs = st.tuples(st.lists(records, max_size=30), st.lists(records, max_size=12))
rules = st.builds(
    BoundaryRules,
    length=st.sampled_from([None, 3]),
    gap_ms=st.sampled_from([None, 30]),
    idle_ms=st.sampled_from([None, 8, 60]),
    late=st.sampled_from(["accept", "drop", "dead_letter"]),
)
emissions = st.sampled_from(
    [EmitRule("every_event"), EmitRule("sequence_end"), EmitRule("change", 1.0), EmitRule("change", 0.3)]
)


@pytest.fixture(autouse=True, scope="module")
def few_are_listed() -> Iterator[None]:
    """Of those that fall idle next, so that short logs come to the end of a list, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.streams.silence.LISTED_STREAMS", 1)
        yield


@dataclass(frozen=True)
class Setup:
    rules: BoundaryRules
    emit: EmitRule
    max_streams: int
    forgotten_limit: int
    timed: bool  # by a field, and commands have no time then

    def pipeline(self) -> Pipeline:
        fields: dict[str, Any] = {"features": "x", "id": "s", "start": "first", "end": "last"} | (
            {"time": "t"} if self.timed else {}
        )
        pipeline = sums_pipeline(self.rules, self.emit, self.max_streams, **fields)
        pipeline.engine.table.forgotten_limit = self.forgotten_limit
        pipeline.engine.scan_rows = SCAN_ROWS_SMALL
        return pipeline

    def rows(self, log: list[Any], first_ms: int = 1000) -> list[tuple[Any, ...]]:
        """(key, value, timestamp, headers) of each record; a record without a timestamp has -1."""
        rows, time_ms = [], first_ms
        for key, (what, more), later in log:
            time_ms = max(0, time_ms + later)
            if what is None or isinstance(what, bytes):
                value, headers = what, more
            else:
                value = json.dumps({"x": what, **more, **({"t": NOW_MS + time_ms} if self.timed else {})}).encode()
                headers = None
            rows.append(
                (key, value, NOW_MS + time_ms if self.timed else time_ms - (later == 40) * (time_ms + 1), headers)
            )
        return rows


setups = st.builds(Setup, rules, emissions, st.integers(1, 4), st.sampled_from([1, 3, 100]), st.booleans())


def said(outcome: Outcome) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(identity, what) of each output and dead letter."""
    for value in outcome.outputs.values:
        output = json.loads(value or b"")
        del output["origin"]  # the one thing that a restart may change
        yield tuple(output["source"].get(name) for name in IDENTITY), output
    for refusal in outcome.refusals:
        offset = outcome.batch.offsets[refusal.record]
        yield (*outcome.batch.partition, offset, refusal.error), tuple(refusal[1:])


def whole(state: PartitionState) -> dict[str, Any]:
    """All that a partition's streams are, in an order of their own."""
    ranks = sorted(range(len(state.keys)), key=lambda row: int(state.touched[row]))
    columns: list[np.ndarray] = [state.steps, state.times, state.clocks, state.pending, *state.states.values()]
    columns += [] if state.emitted is None else [state.emitted]
    streams = [
        (state.keys[row], str(state.sequences[row]), *(repr(column[row].tolist()) for column in columns))
        for row in ranks
    ]
    return {"clock": state.clock, "streams": streams, "forgotten": list(state.forgotten.items())}


class Owner:
    """One partition, read by whichever worker has it."""

    def __init__(self, partition: Partition, rows: list[tuple[Any, ...]], workers: list[Pipeline]) -> None:
        self.partition, self.rows, self.workers = partition, rows, workers
        self.worker, self.position, self.live_from = 0, 0, 0
        self.saved: list[tuple[int, PartitionState | None]] = [(0, None)]
        workers[0].engine.table.open(partition)

    def take(self, count: int, two: bool) -> list[RecordBatch]:
        """The next records as batches, replayed where they were answered before; cut in ``two`` now and then."""
        end = min(len(self.rows), self.position + count)
        cuts = sorted({self.position, end, *({min(max(self.live_from, self.position), end)})})
        if two:
            cuts = sorted({*cuts, (self.position + end) // 2})
        self.position = end
        return [
            batch(self.partition, self.rows[begin:stop], begin, replay=begin < self.live_from)
            for begin, stop in pairwise(cuts)
        ]

    def save(self) -> None:
        table = self.workers[self.worker].engine.table
        self.saved.append((self.position, table.snapshot(self.partition, self.position)))

    def move(self, worker: int, saved: int, committed: int) -> None:
        """It resumes there, from an earlier state; ``committed``: how much of what was said since is not said again."""
        self.workers[self.worker].engine.table.drop(self.partition)
        self.worker = worker
        known = [each for each in self.saved if each[0] <= self.position]
        position, state = known[saved % len(known)]
        self.live_from = max(min(self.live_from, self.position), position + committed % (self.position - position + 1))
        self.position = position
        self.workers[worker].engine.table.open(self.partition, state)


def reference(setup: Setup, partition: Partition, rows: list[tuple[Any, ...]]) -> tuple[dict[Any, Any], dict[str, Any]]:
    pipeline = setup.pipeline()
    pipeline.engine.table.open(partition)
    found: dict[Any, Any] = {}
    for offset, row in enumerate(rows):
        for outcome in pipeline.turn([batch(partition, [row], offset)]):
            found.update(said(outcome))
    return found, whole(pipeline.engine.table.snapshot(partition, len(rows)))


@settings(max_examples=LOGS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs, setups, st.integers(0, 1 << 30))
def test_no_cut_no_crash_and_no_deal_shows(log: tuple[list[Any], list[Any]], setup: Setup, seed: int) -> None:
    draw = random.Random(seed)
    workers = [setup.pipeline(), setup.pipeline()]
    owners = [Owner(place, setup.rows(part), workers) for place, part in zip(PARTITIONS, log, strict=True)]
    wanted = [reference(setup, owner.partition, owner.rows) for owner in owners]
    answers = wanted[0][0] | wanted[1][0]
    heard: dict[Any, Any] = {}
    steps_left = 60
    while any(owner.position < len(owner.rows) for owner in owners):
        steps_left -= 1
        for owner in owners if steps_left > 0 else ():
            chance = draw.random()
            if chance < 0.15:
                owner.save()
            elif chance < 0.3:
                owner.move(draw.randrange(2), draw.randrange(100), draw.randrange(100))
        for number, pipeline in enumerate(workers):
            sizes = [draw.choice((0, 1, 2, 5, 30)) if steps_left > 0 else 30 for _ in owners]
            work = [
                part
                for owner, size in zip(owners, sizes, strict=True)
                if owner.worker == number
                for part in owner.take(size, draw.random() < 0.3)
            ]
            for outcome in pipeline.turn(work):
                assert not outcome.batch.replay or not (len(outcome.outputs) or outcome.refusals)
                for identity, what in said(outcome):
                    assert what == answers[identity]
                    heard[identity] = what
    assert heard == answers
    for owner, (_, state) in zip(owners, wanted, strict=True):
        assert whole(workers[owner.worker].engine.table.snapshot(owner.partition, len(owner.rows))) == state


def counts(pipeline: Pipeline) -> dict[str, Any]:
    engine = pipeline.engine
    found = {"late": engine.late, "without": engine.without_stream, "resets": engine.resets.tolist()}
    return found | {"evicted": engine.table.evicted, "idle": engine.table.idle}


def told(setup: Setup, log: list[Any], shift_ms: int, turn: int) -> tuple[dict[Any, Any], dict[str, Any], list[Any]]:
    """What is said of a log that begins at so much later a time, the counts, the streams left; times as without."""
    pipeline, partition = setup.pipeline(), PARTITIONS[0]
    found: dict[Any, Any] = {}
    pipeline.engine.table.open(partition)
    rows = setup.rows(log, SHIFTED_FROM_MS + shift_ms)
    for at in range(0, len(rows), turn):
        for outcome in pipeline.turn([batch(partition, rows[at : at + turn], at)]):
            found.update(said(outcome))
    for what in found.values():
        if isinstance(what, dict) and what["time"] != NO_TIME_MS:
            what["time"] -= shift_ms
    state = pipeline.engine.table.snapshot(partition, len(rows))
    return found, counts(pipeline), [sorted(state.keys), list(state.forgotten.items())]


@settings(max_examples=LOGS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams_near_idle, setups, st.integers(1, IDLE_MS), st.sampled_from([1, 3, 50]))
def test_when_a_log_was_written_shows_in_times_only(log: list[Any], setup: Setup, shift_ms: int, turn: int) -> None:
    """Not where it lies against the hours, the days or the idle times since the epoch."""
    setup = replace(setup, rules=replace(setup.rules, idle_ms=setup.rules.idle_ms and IDLE_MS))
    assert told(setup, log, shift_ms, turn) == told(setup, log, 0, turn)
